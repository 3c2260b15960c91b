//! Storage pools in a ZFS pool, or in a dataset of one: what `pool_place` does for other pools.
//!
//! The pool's folder is the home of it, a dataset that is mounted there. The ZFS pool lies in a file of ours, on a block device, or is
//! one of the user's.

use crate::base::names::PoolName;
use crate::error::{Context, Error, Result};
use crate::fault;
use crate::model::instance::Config;
use crate::model::keys::pool as keys;
use crate::storage::disk::{self, Disk};
use crate::storage::lvm::unmount_all;
use crate::storage::source::{self, Mark};
use crate::storage::zfs::{DRIVER, Root, Settings};
use crate::store::layout::Layout;
use crate::store::{Access, Store};
use std::path::Path;

/// What is a pool's, and what it lies in; None: it is one of the user's.
type On<'a> = (&'a Root, Option<&'a Disk>);

/// The source of a new pool, and the name of its ZFS pool or dataset.
///
/// # Errors
/// It is no block device; the names differ.
pub(super) fn name_root(name: &PoolName, config: &mut Config) -> Result<()> {
    match keys::SOURCE.get(config).map(String::from) {
        Some(source) if !source.starts_with('/') => {
            if keys::ZFS_POOL_NAME.get(config).is_some_and(|given| given != source) {
                return Err(Error::invalid("The source must match zfs.pool_name if specified"));
            }
            keys::ZFS_POOL_NAME.set(config, source);
        }
        Some(source) if !disk::is_block_device(Path::new(&source)) => {
            return Err(Error::invalid("Custom loop file locations are not supported"));
        }
        _ if keys::ZFS_POOL_NAME.get(config).is_none() => keys::ZFS_POOL_NAME.set(config, name.as_str()),
        _ => {}
    }
    keys::check_each(DRIVER, config).map_err(|e| e.hint("set zfs.pool_name to give the ZFS pool another name"))
}

/// Completes the configuration of a pool that lost its record by what its datasets tell.
///
/// # Errors
/// As [`Root::recall`]; what it lies in is not there.
pub(super) fn recall(store: &Store, name: &PoolName, config: &mut Config) -> Result<()> {
    let disk = super::pool_lvm::disk(store.layout(), name, config);
    if let Some(path) = disk.as_ref().map(Disk::path) {
        std::fs::File::open(path).with_context(|| format!("Failed opening \"{}\"", path.display()))?;
        if path.is_dir() {
            return Err(Error::invalid(format!("\"{}\" holds no storage pool", path.display())));
        }
    }
    name_root(name, config)?;
    let Some(root) = Root::of(DRIVER, config) else { return Ok(()) };
    let id = root.recall(disk.as_ref())?;
    if root.is_mounted()? && !super::pool_place::is_mounted(store, name, &id)? {
        return Err(Error::conflict(format!("ZFS pool or dataset \"{}\" is in use", root.name))
            .hint("if not by another state folder: unmount what is mounted of it"));
    }
    keys::ID.set(config, id);
    Ok(())
}

/// See [`super::pool_place::make`].
pub(super) fn make((root, disk): On<'_>, mark: &Mark, data: &Path, config: &mut Config) -> Result<()> {
    root.make(disk, keys::SOURCE_WIPE.bool(config)?, data)?;
    keys::SOURCE_WIPE.remove(config);
    source::adopt(data, mark)
}

/// See [`super::pool_place::ready`]: of a pool that is not mounted.
pub(super) fn ready(store: &Store, name: &PoolName, (root, disk): On<'_>) -> Result<()> {
    if let Some(disk) = disk.filter(|disk| !disk.path().exists()) {
        let message = format!("\"{}\" of storage pool \"{name}\" doesn't exist", disk.path().display());
        return Err(Error::not_found(message));
    }
    if store.access() == Access::Read {
        return Err(Error::conflict(format!("The ZFS pool of storage pool \"{name}\" is not imported"))
            .hint("the first command that changes something on it imports it"));
    }
    let _lock = store.lock_pool_mount(name)?;
    match super::pool_place::is_mounted(store, name, &root.id)? {
        true => Ok(()),
        false => root.activate(disk, &store.layout().pool_data(name)),
    }
}

fn hide(layout: &Layout, name: &PoolName) -> Result<()> {
    let data = layout.pool_data(name);
    unmount_all(&data)?;
    disk::unmount(&data)?;
    fault::point("pool.unmounted")
}

/// Unmounts what is a pool's, and exports it. Repeated: nothing happens.
///
/// # Errors
/// Busy: somebody uses it.
pub(super) fn unmount(store: &Store, name: &PoolName, root: &Root, config: &Config) -> Result<()> {
    let _lock = store.lock_pool_mount(name)?;
    // Before it was made there is nothing to be exported.
    hide(store.layout(), name)?;
    root.deactivate(&Settings::of(config)?)
}

/// See [`super::pool_place::release`]; `config` has what a journal keeps of the pool's.
pub(super) fn release(store: &Store, name: &PoolName, config: &Config) -> Result<()> {
    let Some(root) = Root::of(DRIVER, config) else { return Ok(()) };
    hide(store.layout(), name)?;
    root.release(super::pool_lvm::disk(store.layout(), name, config).as_ref())
}

/// What of the configuration tells what is the pool's.
pub(super) fn traces(config: &Config) -> Config {
    let kept = [&keys::SOURCE, &keys::ID, &keys::ZFS_POOL_NAME];
    kept.iter().filter_map(|key| Some((key.name.to_string(), key.get(config)?.to_string()))).collect()
}

/// See [`super::pool_place::grow`].
pub(super) fn grow(store: &Store, name: &PoolName, (root, image): (&Root, &Disk), size: u64) -> Result<()> {
    disk::grow(image.path(), size, None)?;
    if !super::pool_place::is_mounted(store, name, &root.id)? {
        ready(store, name, (root, Some(image)))?;
    }
    root.grow(image.path())
}
