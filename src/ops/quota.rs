//! Sizes: of the roots of instances, by the option of their disk, and of custom volumes; a pool's `volume.size` where they say
//! nothing.
//!
//! Called by the verbs that make or change one, under its lock, and by recovery: what stands in the record is what counts. A
//! size that the pool cannot keep is refused where somebody asks for it. It is passed over, and kept in the record, where it comes
//! along with what is imported, copied or moved, which is told then ([`unkept_along`]), and where it is the pool's default, which
//! is told when that is set ([`warning`]).

use super::load::{self, Loaded};
use super::pool;
use super::volume::dependent;
use crate::base::names::{InstanceName, PoolName, ProjectName, VolumeName};
use crate::base::size;
use crate::error::{Context, Error, Kind, Result};
use crate::fault;
use crate::model::instance::{Config, Devices};
use crate::model::keys::{VOLATILE_DEVICE_APPLY_QUOTA, device::disk, pool as pool_keys, volume as volume_keys};
use crate::model::volume::CustomVolume;
use crate::storage::{Driver, Space, Volume, block, zfs};
use crate::store::lock::VolumeKey;
use crate::store::undo::{Volume as Named, VolumeKind};
use crate::store::{Action, Store};

/// A size that is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Wanted {
    bytes: u64,
    /// Nobody asked for it: the pool says so.
    default: bool,
}

/// What an option and the default of the pool come to; 0 is no size.
fn wanted(own: Option<u64>, pool: &Config) -> Result<Option<Wanted>> {
    let (bytes, default) = match own {
        Some(bytes) => (bytes, false),
        None => (pool_keys::VOLUME_SIZE.size(pool)?.unwrap_or(0), true),
    };
    Ok((bytes != 0).then_some(Wanted { bytes, default }))
}

/// The size that the root disk among these (expanded) devices is to have.
fn of_root(store: &Store, devices: &Devices) -> Result<Option<Wanted>> {
    let Some((_, device)) = devices.iter().find(|(_, d)| pool::is_root(d)) else { return Ok(None) };
    let own = disk::SIZE.size(device)?;
    // Whoever says a size needs no default.
    let config = match own {
        Some(_) => None,
        None => store.pool(&pool::of_root(devices)?.1)?.map(|pool| pool.config),
    };
    wanted(own, &config.unwrap_or_default())
}

/// Gives a volume a size, which what it holds must fit in. What is done before an error is for the caller's journal to undo.
fn set(driver: &dyn Driver, volume: &Volume, wanted: Option<Wanted>) -> Result<()> {
    let Some(Wanted { bytes, default }) = wanted else { return driver.set_size(volume, None) };
    if default && !driver.can_bound()? {
        return Ok(());
    }
    let fits = || match driver.space(volume)? {
        Some(space) if space.used > bytes => Err(Error::conflict(format!(
            "Volume \"{}\" holds {}, more than {}",
            volume.name(),
            size::format_iec(space.used),
            size::format_iec(bytes)
        ))
        .hint("remove files in it first")),
        _ => Ok(()),
    };
    // What is counted already need not be tried: something may be writing.
    fits()?;
    driver.set_size(volume, Some(bytes))?;
    fault::point("size.set")?;
    fits()
}

/// Says which size the root volume of an instance with these (expanded) devices is to have, before it is made.
///
/// # Errors
/// A value is wrong.
pub(super) fn plan_root(store: &Store, driver: &dyn Driver, devices: &Devices) -> Result<()> {
    driver.plan(of_root(store, devices)?.map(|wanted| wanted.bytes));
    root_options(driver, devices)
}

/// Says which options the root has that its disk among these (expanded) devices was given when it was made.
fn root_options(driver: &dyn Driver, devices: &Devices) -> Result<()> {
    let options = options_of_root(devices)?;
    plan_options(driver, options)
}

fn options_of_root(devices: &Devices) -> Result<Config> {
    let root = devices.values().find(|device| pool::is_root(device));
    root.map_or_else(|| Ok(Config::new()), volume_keys::of_root)
}

/// Those that volumes of this driver have.
fn plan_options(driver: &dyn Driver, mut options: Config) -> Result<()> {
    volume_keys::keep_of(driver.name(), &mut options);
    if options.is_empty() { Ok(()) } else { driver.plan_options(&options) }
}

/// The same for a custom volume, and with which options.
///
/// # Errors
/// A value is wrong.
pub(super) fn plan_volume(driver: &dyn Driver, record: &CustomVolume) -> Result<()> {
    let mut options = record.config.clone();
    if driver.name() == zfs::DRIVER && volume_keys::ZFS_BLOCK_MODE.get(&options).is_none() {
        // A default of the pool would stand in the record.
        volume_keys::ZFS_BLOCK_MODE.set(&mut options, "false");
    }
    driver.plan_options(&options)?;
    if record.content_type.is_image() {
        driver.plan_disk(disk_size(&record.config)?.unwrap_or(volume_keys::DISK_SIZE));
        return Ok(());
    }
    driver.plan(wanted(volume_keys::SIZE.size(&record.config)?, &Config::new())?.map(|wanted| wanted.bytes));
    Ok(())
}

/// Gives the new root volume of an instance with these (expanded) devices its size. The caller's journal removes the volume
/// after an error.
///
/// # Errors
/// Unsupported: the pool cannot keep it; Conflict: it holds more.
pub(super) fn new_root(store: &Store, driver: &dyn Driver, volume: &Volume, devices: &Devices) -> Result<()> {
    match of_root(store, devices)? {
        None => Ok(()),
        some => {
            root_options(driver, devices)?;
            set(driver, volume, some)
        }
    }
}

/// The same for one that brings its size along: nothing happens if the pool cannot keep any.
///
/// # Errors
/// Conflict: it holds more.
pub(super) fn brought_root(store: &Store, driver: &dyn Driver, volume: &Volume, devices: &Devices) -> Result<()> {
    if driver.can_bound()? { new_root(store, driver, volume, devices) } else { Ok(()) }
}

/// The size that the configuration of a disk asks for, bytes; none: it asks for none.
///
/// # Errors
/// Invalid: no disk has that size.
pub(super) fn disk_size(config: &Config) -> Result<Option<u64>> {
    volume_keys::SIZE.size(config)?.filter(|size| *size > 0).map(block::rounded).transpose()
}

/// Gives a new custom volume of files its size; the same.
///
/// # Errors
/// As [`new_root`].
pub(super) fn new_volume(driver: &dyn Driver, volume: &Volume, record: &CustomVolume) -> Result<()> {
    match wanted(volume_keys::SIZE.size(&record.config)?, &Config::new())? {
        _ if record.content_type.is_image() => Ok(()),
        None => Ok(()),
        some => {
            driver.plan_options(&record.config)?;
            set(driver, volume, some)
        }
    }
}

/// The same for one that brings its size along, or has it of its pool, as [`brought_root`].
///
/// # Errors
/// As that.
pub(super) fn brought_volume(driver: &dyn Driver, volume: &Volume, record: &CustomVolume) -> Result<()> {
    if driver.can_bound()? { new_volume(driver, volume, record) } else { Ok(()) }
}

/// The sizes of the root before and after a change, if they differ.
///
/// # Errors
/// A value is wrong.
pub(super) fn changes(store: &Store, old: &Devices, new: &Devices) -> Result<bool> {
    let root = |devices: &Devices| {
        devices.values().find(|d| pool::is_root(d)).and_then(|d| disk::SIZE.get(d).map(String::from))
    };
    // Without an option nothing is read.
    Ok(root(old) != root(new) && of_root(store, old)? != of_root(store, new)?)
}

/// Gives the root of an instance the size that its (expanded) devices say.
///
/// # Errors
/// Unsupported: the pool cannot keep it; Conflict: it holds more. [`renew`] takes it back.
pub(super) fn resize_root(store: &Store, who: (&ProjectName, &InstanceName), devices: &Devices) -> Result<()> {
    let driver = pool::need(store, &pool::of_root(devices)?.1)?;
    root_options(driver.as_ref(), devices)?;
    set(driver.as_ref(), &Volume::container(who.0, who.1)?, of_root(store, devices)?)
}

/// The same for one that may run: what cannot be done meanwhile is noted for its next start, as by Incus.
///
/// # Errors
/// As [`resize_root`].
pub(super) fn resize_or_note(
    store: &Store,
    who: (&ProjectName, &InstanceName),
    devices: &Devices,
    volatile: &mut Config,
) -> Result<()> {
    let key = VOLATILE_DEVICE_APPLY_QUOTA.of(&pool::of_root(devices)?.0);
    volatile.remove(&key);
    match resize_root(store, who, devices) {
        Err(e) if e.kind() == Kind::Busy && load::running(store, who.0, who.1)?.is_some() => {
            volatile.insert(key, "true".to_string());
            Ok(())
        }
        other => other,
    }
}

/// Gives the root of an instance that is about to start the size that was noted for it. The caller saves the record.
///
/// # Errors
/// As [`resize_root`].
pub(super) fn settle_root(store: &Store, loaded: &mut Loaded) -> Result<()> {
    let Ok((root, _)) = pool::of_root(&loaded.expanded.devices) else { return Ok(()) };
    let key = VOLATILE_DEVICE_APPLY_QUOTA.of(&root);
    if loaded.volatile.config.contains_key(&key) {
        resize_root(store, (&loaded.project, &loaded.name), &loaded.expanded.devices)
            .with_context(|| format!("Failed to apply deferred quota from {key:?}"))?;
        loaded.volatile.config.remove(&key);
    }
    Ok(())
}

/// Gives a custom volume of files the size that its configuration says, and what else of it is done at once.
///
/// # Errors
/// As [`resize_root`].
pub(super) fn resize_volume(store: &Store, key: &VolumeKey, config: &Config) -> Result<()> {
    let driver = pool::need(store, &key.pool)?;
    let volume = Volume::custom(&key.project, &key.name)?;
    driver.plan_options(config)?;
    set(driver.as_ref(), &volume, wanted(volume_keys::SIZE.size(config)?, &Config::new())?)
}

/// The action that has the size of an instance's root be what its record says.
pub(super) fn renewal(project: &ProjectName, name: &InstanceName) -> Action {
    Action::RenewSize(Named {
        // That of its record.
        pool: String::new(),
        kind: VolumeKind::Container,
        project: project.to_string(),
        name: name.to_string(),
    })
}

/// Has the size of a volume be what its record says, as far as it is there and its pool can keep it. Takes no lock.
///
/// # Errors
/// The record is damaged; the kernel refuses.
pub(super) fn renew(store: &Store, named: &Named) -> Result<()> {
    let project = ProjectName::parse(&named.project)?;
    let (pool, volume, wanted, options) = match named.kind {
        VolumeKind::Custom => {
            let (pool, name) = (PoolName::parse(&named.pool)?, VolumeName::parse(&named.name)?);
            let key = VolumeKey { project, pool, name };
            let Some(record) = store.volume(&key)? else { return Ok(()) };
            if record.content_type.is_image() {
                return grow_disk(store, &key, &record.config);
            }
            let size = wanted(volume_keys::SIZE.size(&record.config)?, &Config::new())?;
            (key.pool, Volume::custom(&key.project, &key.name)?, size, record.config)
        }
        _ => {
            let name = InstanceName::parse(&named.name)?;
            if !store.instance_exists(&project, &name)? {
                return Ok(());
            }
            let loaded = load::load(store, &project, &name)?;
            let devices = &loaded.expanded.devices;
            (loaded.pool()?, loaded.volume()?, of_root(store, devices)?, options_of_root(devices)?)
        }
    };
    let Some(driver) = pool::open(store, &pool)? else { return Ok(()) };
    plan_options(driver.as_ref(), options)?;
    match driver.exists(&volume)? && driver.can_bound()? {
        true => match driver.set_size(&volume, wanted.map(|w| w.bytes)) {
            // What has grown cannot always be made smaller again, or not now.
            Err(e) if matches!(e.kind(), Kind::Unsupported | Kind::Busy) => Ok(()),
            other => other,
        },
        false => Ok(()),
    }
}

/// Has a disk be as large as its configuration says.
fn grow_disk(store: &Store, key: &VolumeKey, config: &Config) -> Result<()> {
    let volume = Volume::custom(&key.project, &key.name)?;
    match (disk_size(config)?, pool::open(store, &key.pool)?) {
        (Some(size), Some(driver)) if driver.exists(&volume)? => block::grow(driver.as_ref(), &volume, size),
        _ => Ok(()),
    }
}

/// What a volume takes up, and its size, 0 if it has none. Without one it takes a walk over its files.
///
/// # Errors
/// NotFound; a folder could not be read.
pub(super) fn in_use(driver: &dyn Driver, volume: &Volume) -> Result<Space> {
    match driver.space(volume)? {
        Some(space) => Ok(space),
        None => Ok(Space { used: driver.usage(volume)?.bytes, total: 0 }),
    }
}

/// The instances and custom volumes that have a size on a pool which does not keep it, as when it is mounted otherwise than it
/// was.
///
/// # Errors
/// The state folder cannot be read; the pool is not to be had.
pub(super) fn unkept(store: &Store, name: &PoolName) -> Result<Vec<String>> {
    let mut all = Vec::new();
    for (project, _) in store.projects()? {
        for instance in store.instance_names(&project)? {
            let Ok(loaded) = load::load(store, &project, &instance) else { continue };
            let sized = loaded.expanded.devices.values().any(|d| pool::is_root(d) && disk::SIZE.get(d).is_some());
            if sized && loaded.pool().is_ok_and(|pool| pool == *name) {
                all.push(format!("{project}/{instance}"));
            }
        }
        let volumes = store.volumes(&project, name)?.into_iter();
        let named = volumes.filter(|(_, found)| found.as_ref().is_ok_and(has_size));
        all.extend(named.map(|(volume, _)| format!("{project}/{name}/{volume}")));
    }
    if all.is_empty() || pool::need(store, name)?.can_bound()? { Ok(Vec::new()) } else { Ok(all) }
}

/// What is wrong with the default size of a pool: that it has no effect.
///
/// # Errors
/// The pool is not there.
pub fn warning(store: &Store, name: &PoolName) -> Result<Option<String>> {
    let sized = store.pool(name)?.is_some_and(|pool| pool_keys::VOLUME_SIZE.get(&pool.config).is_some());
    if !sized || pool::need(store, name)?.can_bound()? {
        return Ok(None);
    }
    let key = pool_keys::VOLUME_SIZE.name;
    Ok(Some(format!(
        "{key:?} has no effect: the file system of storage pool \"{name}\" doesn't keep sizes (it isn't mounted with prjquota)"
    )))
}

/// What is wrong with the sizes of an instance that came here, and of the volumes that go with it: that they have no effect.
///
/// # Errors
/// Not found; a pool is not there.
pub fn unkept_along(store: &Store, project: &ProjectName, name: &InstanceName) -> Result<Vec<String>> {
    let loaded = load::load(store, project, name)?;
    let devices = &loaded.expanded.devices;
    let mut all = Vec::new();
    let sized = devices.values().any(|d| pool::is_root(d) && disk::SIZE.get(d).is_some());
    if sized && !pool::need(store, &loaded.pool()?)?.can_bound()? {
        all.push(passed_over(&format!("the root disk of instance \"{name}\""), &loaded.pool()?));
    }
    for key in dependent::of(store, project, devices)?.into_values() {
        all.extend(unkept_volume(store, &key)?);
    }
    Ok(all)
}

/// The same of a custom volume.
///
/// # Errors
/// As [`unkept_along`].
pub fn unkept_volume(store: &Store, key: &VolumeKey) -> Result<Option<String>> {
    let sized = store.volume(key)?.is_some_and(|volume| has_size(&volume));
    if !sized || pool::need(store, &key.pool)?.can_bound()? {
        return Ok(None);
    }
    Ok(Some(passed_over(&format!("volume \"{}\"", key.name), &key.pool)))
}

fn has_size(volume: &CustomVolume) -> bool {
    !volume.content_type.is_image() && volume_keys::SIZE.get(&volume.config).is_some()
}

fn passed_over(what: &str, pool: &PoolName) -> String {
    format!(
        "The size of {what} has no effect: the file system of storage pool \"{pool}\" doesn't keep sizes (it isn't mounted \
         with prjquota)"
    )
}
