//! Snapshots of instances: records and volumes, matched by name.

use super::Report;
use super::images::unless_busy;
use super::instances::of_volume;
use super::pools::waits;
use crate::base::names::{PoolName, SnapshotName};
use crate::error::{Error, Result};
use crate::ops::{load, pool};
use crate::storage::{Driver, Volume, VolumeKind};
use crate::store::Store;
use crate::store::lock::{Exclusive, Held, InstanceKey};
use std::time::Duration;

pub(super) fn check(store: &Store, fix: bool, report: &mut Report) -> Result<()> {
    for (pool_name, _) in store.pools()? {
        let Ok(Some(driver)) = pool::open(store, &pool_name) else { continue };
        for volume in driver.list(VolumeKind::ContainerSnapshot)? {
            recorded(store, (&pool_name, driver.as_ref()), &volume, fix, report)?;
        }
    }
    for (project, _) in store.projects()? {
        for name in store.instance_names(&project)? {
            complete(store, InstanceKey { project: project.clone(), name }, report)?;
        }
    }
    Ok(())
}

/// None: somebody works on it.
fn lock(store: &Store, key: InstanceKey) -> Result<Option<Held<InstanceKey, Exclusive>>> {
    unless_busy(store.lock_within(key, "doctor", Duration::ZERO))
}

/// A volume has its record, in the pool where its instance is.
fn recorded(
    store: &Store,
    (pool_name, driver): (&PoolName, &dyn Driver),
    volume: &Volume,
    fix: bool,
    report: &mut Report,
) -> Result<()> {
    let Some((name, snapshot)) = volume.snapshot_of() else { return Ok(()) };
    let (Some((project, name)), Ok(snapshot)) = (of_volume(name), SnapshotName::parse(snapshot)) else { return Ok(()) };
    let key = InstanceKey { project, name };
    let label = format!("snapshot {}/{}/{snapshot}", key.project, key.name);
    let Some(held) = lock(store, key)? else { return Ok(()) };
    let InstanceKey { project, name } = held.key();
    // What cannot be read is told of its instance.
    let Ok(found) = store.snapshot(project, name, &snapshot) else { return Ok(()) };
    let here = load::load(store, project, name).and_then(|l| l.pool()).is_ok_and(|pool| pool == *pool_name);
    if (found.is_some() && here) || !driver.exists(volume)? {
        return Ok(());
    }
    let message = format!("has a volume in pool \"{pool_name}\" and no record");
    if waits(store, pool_name, report, (&label, &message)) {
        return Ok(());
    }
    report.disagreement(&label, message, fix, || match driver.delete(volume)? {
        Some(trash) => driver.empty(&trash),
        None => Ok(()),
    });
    Ok(())
}

/// The records of an instance's snapshots can be read, and have their volumes.
fn complete(store: &Store, key: InstanceKey, report: &mut Report) -> Result<()> {
    let Some(held) = lock(store, key)? else { return Ok(()) };
    let InstanceKey { project, name } = held.key();
    let all = store.snapshots(project, name)?;
    if all.is_empty() {
        return Ok(());
    }
    // An instance that cannot be read is told of elsewhere.
    let Ok(loaded) = load::load(store, project, name) else { return Ok(()) };
    let Ok(driver) = loaded.pool().and_then(|pool| pool::need(store, &pool)) else { return Ok(()) };
    for (snapshot, record) in all {
        let label = format!("snapshot {project}/{name}/{snapshot}");
        let hint = format!("delete it: stapes snapshot delete {name} {snapshot}");
        match record {
            Err(e) => report.broken(&label, &e.hint(hint)),
            Ok(_) if driver.exists(&loaded.volume()?.snapshot(&snapshot)?)? => {}
            Ok(_) => report.broken(&label, &Error::failed("its volume is missing").hint(hint)),
        }
    }
    Ok(())
}
