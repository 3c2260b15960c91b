//! Copies of records inside the pools (`storage`'s kept records): what [`super::recover`] makes the records from when the state
//! folder is lost. Each verb that changes a record renews its copy before it says that it is done; what a kill or a full pool left
//! behind, `admin maintain` renews. A copy that cannot be written stops nothing.

use super::{load, pool};
use crate::base::names::{InstanceName, PoolName, ProjectName, SnapshotName};
use crate::error::Result;
use crate::model::instance::{Instance, Volatile};
use crate::storage::{Driver, Volume};
use crate::store::Store;
use crate::store::lock::VolumeKey;
use crate::store::record::{Record, render};
use crate::store::types::Snapshot;

/// Keeps the record of a new instance. Lock: the instance.
pub fn of_new(driver: &dyn Driver, who: (&ProjectName, &InstanceName), instance: &Instance, volatile: &Volatile) {
    // One that goes with its end is not missed.
    if !instance.ephemeral {
        let _ = Volume::container(who.0, who.1).and_then(|volume| write(driver, &volume, &whole(instance, volatile)));
    }
}

/// The record with what the program filled in, which is in a record of its own as a rule.
fn whole(instance: &Instance, volatile: &Volatile) -> Instance {
    Instance { volatile: Some(volatile.clone()), ..instance.clone() }
}

fn write<T: Record>(driver: &dyn Driver, volume: &Volume, record: &T) -> Result<()> {
    driver.keep_record(volume, &render(record)?)
}

fn renew<T: Record>(driver: &dyn Driver, volume: &Volume, record: &T) -> Result<()> {
    let text = render(record)?;
    match driver.kept_record(volume).ok().flatten().is_some_and(|kept| kept == text) {
        true => Ok(()),
        false => driver.keep_record(volume, &text),
    }
}

/// Renews the copies of an instance's record, and of its snapshots' with `all`. Lock: the instance, or nobody cares.
pub fn instance(store: &Store, who: (&ProjectName, &InstanceName), all: bool) {
    let _ = try_instance(store, who, all);
}

fn try_instance(store: &Store, (project, name): (&ProjectName, &InstanceName), all: bool) -> Result<()> {
    let loaded = load::load(store, project, name)?;
    if loaded.instance.ephemeral {
        return Ok(());
    }
    let Some(driver) = pool::open(store, &loaded.pool()?)? else { return Ok(()) };
    let volume = loaded.volume()?;
    renew(driver.as_ref(), &volume, &whole(&loaded.instance, &loaded.volatile))?;
    if all {
        for (snapshot, record) in store.snapshots(project, name)? {
            let Ok(record) = record else { continue };
            renew(driver.as_ref(), &volume.snapshot(&snapshot)?, &record)?;
        }
    }
    Ok(())
}

/// Keeps the record of a snapshot. Lock: the instance.
pub fn of_snapshot(driver: &dyn Driver, volume: &Volume, snapshot: &SnapshotName, record: &Snapshot) {
    let _ = volume.snapshot(snapshot).and_then(|volume| write(driver, &volume, record));
}

/// Renews the copies of a custom volume's record and of its snapshots'. Lock: the volume, or nobody cares.
pub fn volume(store: &Store, key: &VolumeKey) {
    let _ = try_volume(store, key);
}

fn try_volume(store: &Store, key: &VolumeKey) -> Result<()> {
    let (Some(record), Some(driver)) = (store.volume(key)?, pool::open(store, &key.pool)?) else { return Ok(()) };
    let volume = Volume::custom(&key.project, &key.name)?;
    renew(driver.as_ref(), &volume, &record)?;
    for (snapshot, record) in store.volume_snapshots(key)? {
        let Ok(record) = record else { continue };
        renew(driver.as_ref(), &volume.snapshot(&snapshot)?, &record)?;
    }
    Ok(())
}

/// Renews all copies that are behind their record.
///
/// # Errors
/// The state folder cannot be read.
pub fn all(store: &Store) -> Result<()> {
    let pools: Vec<PoolName> = store.pools()?.into_iter().map(|(name, _)| name).collect();
    for (project, _) in store.projects()? {
        for name in store.instance_names(&project)? {
            instance(store, (&project, &name), true);
        }
        for pool in &pools {
            for (name, _) in store.volumes(&project, pool)? {
                volume(store, &VolumeKey { project: project.clone(), pool: pool.clone(), name });
            }
        }
    }
    Ok(())
}
