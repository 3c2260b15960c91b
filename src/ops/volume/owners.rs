//! Owners of what a custom volume holds, in a pool whose file system has no ID-mapped mounts: on disk they are those of the
//! instances that use it, which must have one ID map, as in Incus.
//!
//! They are shifted before an instance starts or gets the volume while it runs, when nobody else uses it. Who mounts it looks
//! again, under the volume's lock.

use super::{data, named, not_found, of_device, pool, users};
use crate::base::idmap::IdMap;
use crate::base::names::ProjectName;
use crate::error::{Error, Kind, Result};
use crate::model::instance::Device;
use crate::model::keys::volume as keys;
use crate::model::volume::CustomVolume;
use crate::ops::load;
use crate::storage::Driver;
use crate::store::lock::{Exclusive, Held, InstanceKey, Key, VolumeKey};
use crate::store::{Action, Store, journal};
use std::collections::BTreeMap;

/// Has the volumes that `devices` name owned by the instance `me` with the ID map `map` (none: it has none). Takes the lock of each
/// volume that has to be changed, alone; the caller has that of the instance and of no volume.
///
/// # Errors
/// Conflict: an instance with another map runs with one of them. Unsupported: the pool can neither map nor shift. Busy; no space.
pub fn settle<'a>(
    store: &Store,
    project: &ProjectName,
    devices: impl Iterator<Item = &'a Device>,
    map: Option<&IdMap>,
    me: &InstanceKey,
) -> Result<()> {
    let mut keys: BTreeMap<String, VolumeKey> = BTreeMap::new();
    for device in devices {
        // What cannot be is told when it is mounted.
        let Ok(Some(key)) = of_device(store, project, device) else { continue };
        let there = store.pool(&key.pool)?.is_some() && store.volume(&key)?.is_some();
        if there && !pool::maps_ids_of(store, &key.pool, &data(&key)?)? {
            keys.insert(key.file_key(), key);
        }
    }
    keys.into_values().try_for_each(|key| one(store, key, map, me))
}

fn one(store: &Store, key: VolumeKey, map: Option<&IdMap>, me: &InstanceKey) -> Result<()> {
    let driver = pool::need(store, &key.pool)?;
    let differs = || -> Result<Option<IdMap>> {
        let Some(record) = store.volume(&key)? else { return Ok(None) };
        if record.content_type.is_image() {
            return Ok(None);
        }
        let wanted = wanted(&record, map)?;
        Ok((driver.owners(&data(&key)?)? != wanted).then_some(wanted))
    };
    if differs()?.is_none() {
        return Ok(());
    }
    let lock = store.lock_volume(key.clone(), "attach")?;
    match differs()? {
        Some(wanted) => shift(store, (&lock, driver.as_ref()), &wanted, me),
        None => Ok(()),
    }
}

fn shift(
    store: &Store,
    (lock, driver): (&Held<VolumeKey, Exclusive>, &dyn Driver),
    to: &IdMap,
    me: &InstanceKey,
) -> Result<()> {
    let key = lock.key();
    for user in users(store, key)? {
        let Some(name) = user.instance else { continue };
        let other = user.project != me.project || name != me.name;
        if other && load::running(store, &user.project, &name)?.is_some() {
            return Err(not_identical(name.as_str(), key));
        }
    }
    let shifted = journal::run(store, "attach", &[lock], |journal| {
        journal.undo(Action::AbortRestore(named(key)))?;
        driver.begin_shift(&data(key)?, to)?;
        journal.then(Action::FinishRestore(named(key)))?;
        journal.keep()
    });
    match shifted {
        Err(e) if e.kind() == Kind::Unsupported => Err(Error::unsupported(format!(
            "The file system of storage pool \"{}\" has no ID-mapped mounts, so no unprivileged instance can use its volumes",
            key.pool
        ))
        .hint("use a pool on another file system, or set \"security.unmapped=true\" on the volume")),
        other => other,
    }
}

fn not_identical(instance: &str, key: &VolumeKey) -> Error {
    Error::conflict(format!(
        "Idmaps of container {instance:?} and storage volume {:?} are not identical",
        key.name.as_str()
    ))
    .hint("stop the other instance, or give both the same ID map")
}

/// The map that the owners on disk have for an instance with `map`.
fn wanted(record: &CustomVolume, map: Option<&IdMap>) -> Result<IdMap> {
    let unmapped = keys::UNMAPPED.bool(&record.config)?;
    Ok(map.filter(|_| !unmapped).cloned().unwrap_or_default())
}

/// What the owners of a volume in such a pool are on disk, for an instance with `map`, which is to mount it. The lock of the volume
/// is held by the caller, with others.
///
/// # Errors
/// Conflict: they are another instance's. Not found.
pub(super) fn check(store: &Store, key: &VolumeKey, driver: &dyn Driver, map: Option<&IdMap>) -> Result<IdMap> {
    let wanted = wanted(&store.volume(key)?.ok_or_else(not_found)?, map)?;
    match driver.owners(&data(key)?)? == wanted {
        true => Ok(wanted),
        false => {
            Err(Error::conflict(format!("The owners in storage volume {:?} are another instance's", key.name.as_str()))
                .hint("stop the instances that use it, and try again"))
        }
    }
}
