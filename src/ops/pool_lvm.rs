//! Storage pools in a volume group: what `pool_place` does for other pools.
//!
//! The pool's folder is one in the state folder: it holds the mounts of volumes and the copies of records. The volume group lies in a
//! file of ours, on a block device, or is one of the user's that was empty.

use super::pool_place;
use crate::base::names::PoolName;
use crate::error::{Context, Error, Result};
use crate::fault;
use crate::model::instance::Config;
use crate::model::keys::pool as keys;
use crate::model::pool::Pool;
use crate::storage::disk::{self, Disk};
use crate::storage::lvm::{self, DRIVER, Group, Settings};
use crate::store::layout::Layout;
use crate::store::{Access, Store};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// What a pool's volume group lies in; None: it is one of the user's.
pub(super) fn disk(layout: &Layout, name: &PoolName, config: &Config) -> Option<Disk> {
    match keys::SOURCE.get(config) {
        None => Some(Disk::Image(layout.pool_image(name))),
        Some(path) if path.starts_with('/') => Some(Disk::Device(PathBuf::from(path))),
        Some(_) => None,
    }
}

/// The source of a new pool, and the name of its group.
///
/// # Errors
/// It is no block device.
pub(super) fn name_group(name: &PoolName, config: &mut Config) -> Result<()> {
    match keys::SOURCE.get(config).map(String::from) {
        Some(source) if !source.starts_with('/') => {
            if keys::LVM_VG_NAME.get(config).is_some_and(|given| given != source) {
                return Err(Error::invalid("lvm.vg_name differs from the volume group that is the source"));
            }
            keys::LVM_VG_NAME.set(config, source);
        }
        Some(source) if !disk::is_block_device(Path::new(&source)) => {
            return Err(Error::invalid(format!("Source \"{source}\" is neither a block device nor a volume group")));
        }
        _ if keys::LVM_VG_NAME.get(config).is_none() => keys::LVM_VG_NAME.set(config, name.as_str()),
        _ => {}
    }
    keys::check_each(DRIVER, config).map_err(|e| e.hint("set lvm.vg_name to give the volume group another name"))
}

/// May the pool be made? Changes nothing.
///
/// # Errors
/// As [`Group::check`].
pub(super) fn check(group: &Group, disk: Option<&Disk>, config: &Config) -> Result<()> {
    group.check(disk, &Settings::of(config)?)
}

/// See [`super::pool_place::make`].
pub(super) fn make(data: &Path, (group, disk): (&Group, Option<&Disk>), config: &mut Config) -> Result<()> {
    let wipe = keys::SOURCE_WIPE.bool(config)?;
    group.make(disk, &Settings::of(config)?, wipe)?;
    keys::SOURCE_WIPE.remove(config);
    make_folder(data)
}

/// See [`Group::recall`].
///
/// # Errors
/// As that.
pub(super) fn recall(layout: &Layout, name: &PoolName, config: &mut Config) -> Result<()> {
    Group::recall(disk(layout, name, config).as_ref(), &layout.pool_data(name), config)
}

/// See [`super::pool_place::attach`].
pub(super) fn attach(data: &Path, (group, disk): (&Group, Option<&Disk>), config: &Config) -> Result<()> {
    make_folder(data)?;
    if group.is_ready() { Ok(()) } else { group.activate(disk, &Settings::of(config)?) }
}

fn make_folder(data: &Path) -> Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    let made = builder.recursive(true).mode(0o711).create(data);
    made.with_context(|| format!("Failed creating \"{}\"", data.display()))
}

/// See [`super::pool_place::ready`].
pub(super) fn ready(
    store: &Store,
    name: &PoolName,
    (group, disk): (&Group, Option<&Disk>),
    config: &Config,
) -> Result<()> {
    if group.is_ready() {
        return Ok(());
    }
    if let Some(disk) = disk.filter(|disk| !disk.path().exists()) {
        let message = format!("\"{}\" of storage pool \"{name}\" doesn't exist", disk.path().display());
        return Err(Error::not_found(message));
    }
    if store.access() == Access::Read {
        return Err(Error::conflict(format!("The volume group of storage pool \"{name}\" is not active"))
            .hint("the first command that changes something on it activates it"));
    }
    let _lock = store.lock_pool_mount(name)?;
    if group.is_ready() { Ok(()) } else { group.activate(disk, &Settings::of(config)?) }
}

/// Unmounts and deactivates what is a pool's. Repeated: nothing happens.
///
/// # Errors
/// Busy: somebody uses it.
pub(super) fn unmount(store: &Store, name: &PoolName, group: &Group, config: &Config) -> Result<()> {
    let _lock = store.lock_pool_mount(name)?;
    lvm::unmount_all(&store.layout().pool_data(name))?;
    fault::point("pool.unmounted")?;
    if group.is_ready() { group.deactivate(&Settings::of(config)?) } else { Ok(()) }
}

/// See [`super::pool_place::release`]; `config` has what a journal keeps of the pool's.
pub(super) fn release(store: &Store, name: &PoolName, config: &Config) -> Result<()> {
    let Some(group) = Group::of(DRIVER, config) else { return Ok(()) };
    lvm::unmount_all(&store.layout().pool_data(name))?;
    fault::point("pool.unmounted")?;
    group.release(disk(store.layout(), name, config).as_ref(), &Settings::of(config)?)
}

/// What of the configuration tells what is the pool's.
pub(super) fn traces(config: &Config) -> Config {
    let kept = [&keys::SOURCE, &keys::ID, &keys::LVM_VG_NAME, &keys::LVM_THINPOOL_NAME, &keys::LVM_USE_THINPOOL];
    kept.iter().filter_map(|key| Some((key.name.to_string(), key.get(config)?.to_string()))).collect()
}

/// Can the group and its thin pool have the names of `new`? Changes nothing, but takes the pool into use.
///
/// # Errors
/// As [`Group::check_rename`]; the pool is not to be had.
pub(super) fn check_rename(store: &Store, name: &PoolName, old: &Pool, new: &Config) -> Result<()> {
    pool_place::ready(store, name, old)?;
    let (Some(group), Some(to)) = (Group::of(DRIVER, &old.config), Group::of(DRIVER, new)) else { return Ok(()) };
    group.check_rename(&Settings::of(&old.config)?, (&to, &Settings::of(new)?))
}

/// Has the group and its thin pool have the names of `to`, not those of `from` any more. Repeated: nothing happens.
///
/// # Errors
/// As [`Group::rename`].
pub(super) fn rename(store: &Store, name: &PoolName, (from, to): (&Config, &Config)) -> Result<()> {
    let (Some(group), Some(new)) = (Group::of(DRIVER, from), Group::of(DRIVER, to)) else { return Ok(()) };
    let disk = disk(store.layout(), name, from);
    group.rename(disk.as_ref(), &Settings::of(from)?, (&new, &Settings::of(to)?))
}

/// See [`super::pool_place::grow`].
pub(super) fn grow(image: &Path, size: u64, group: &Group, config: &Config) -> Result<()> {
    disk::grow(image, size, None)?;
    group.grow(image, &Settings::of(config)?)
}
