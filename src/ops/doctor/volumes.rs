//! Custom volumes and their snapshots: records that cannot be read, records without data, data without a record.

use super::Report;
use super::images::unless_busy;
use super::pools::waits;
use crate::base::names::{PoolName, ProjectName, SnapshotName, VolumeName};
use crate::error::{Error, Result};
use crate::ops::pool;
use crate::storage::{Driver, Volume, VolumeKind, block};
use crate::store::Store;
use crate::store::lock::{Exclusive, Held, VolumeKey};
use std::collections::BTreeSet;
use std::time::Duration;

pub(super) fn check(store: &Store, fix: bool, report: &mut Report) -> Result<()> {
    for (project, pool) in store.volume_places()? {
        for (name, _) in store.volumes(&project, &pool)? {
            recorded(store, VolumeKey { project: project.clone(), pool: pool.clone(), name }, report)?;
        }
    }
    for (name, _) in store.pools()? {
        let Ok(Some(driver)) = pool::open(store, &name) else { continue };
        let mut stray: BTreeSet<Volume> = driver.list(VolumeKind::Custom)?.into_iter().collect();
        stray.extend(driver.list(VolumeKind::CustomSnapshot)?);
        for volume in stray {
            data(store, (&name, driver.as_ref()), &volume, fix, report)?;
        }
    }
    Ok(())
}

fn locked(store: &Store, key: VolumeKey) -> Result<Option<Held<VolumeKey, Exclusive>>> {
    unless_busy(store.lock_within(key, "doctor", Duration::ZERO))
}

fn recorded(store: &Store, key: VolumeKey, report: &mut Report) -> Result<()> {
    let Some(held) = locked(store, key)? else { return Ok(()) };
    let key = held.key();
    let label = format!("volume {}/{}/{}", key.project, key.pool, key.name);
    let is_disk = match store.volume(key) {
        Err(e) => {
            report.broken(&label, &e);
            false
        }
        // It was deleted meanwhile.
        Ok(None) => return Ok(()),
        Ok(Some(volume)) => volume.content_type.is_image(),
    };
    let driver = match pool::need(store, &key.pool) {
        Ok(driver) => driver,
        Err(e) => {
            report.broken(&label, &e);
            return Ok(());
        }
    };
    let volume = Volume::custom(&key.project, &key.name)?;
    if !driver.exists(&volume)? {
        let hint = format!("delete it: stapes storage volume delete {} {}", key.pool, key.name);
        report.broken(&label, &Error::failed("its data are missing").hint(hint));
    } else if is_disk && let Err(e) = block::size(driver.as_ref(), &volume) {
        report.broken(&label, &e);
    }
    for (name, found) in store.volume_snapshots(key)? {
        if let Err(e) = found {
            report.broken(&label, &e);
        }
        if !driver.exists(&volume.snapshot(&name)?)? {
            let hint = format!("delete it: stapes storage volume snapshot delete {} {} {name}", key.pool, key.name);
            let text = format!("the data of its snapshot \"{name}\" are missing");
            report.broken(&label, &Error::failed(text).hint(hint));
        }
    }
    Ok(())
}

/// The volume that data belong to, by their name, and the snapshot.
fn owner(volume: &Volume) -> Option<(ProjectName, VolumeName, Option<SnapshotName>)> {
    let (name, snapshot) = volume.snapshot_of().map_or((volume.name(), None), |(name, s)| (name, Some(s)));
    let (project, name) = name.split_once('_')?;
    let snapshot = snapshot.map(SnapshotName::parse).transpose().ok()?;
    Some((ProjectName::parse(project).ok()?, VolumeName::parse(name).ok()?, snapshot))
}

/// Data without a record.
fn data(
    store: &Store,
    (pool, driver): (&PoolName, &dyn Driver),
    volume: &Volume,
    fix: bool,
    report: &mut Report,
) -> Result<()> {
    let Some((project, name, snapshot)) = owner(volume) else { return Ok(()) };
    let label = format!("volume {project}/{pool}/{name}");
    let Some(held) = locked(store, VolumeKey { project, pool: pool.clone(), name })? else { return Ok(()) };
    let layout = store.layout();
    let record = match &snapshot {
        Some(snapshot) => layout.volume_snapshot_record(held.key(), snapshot),
        None => layout.volume_record(held.key()),
    };
    if record.exists() || !driver.exists(volume)? {
        return Ok(());
    }
    let what = snapshot.map_or_else(|| "it has".to_string(), |s| format!("its snapshot \"{s}\" has"));
    let message = format!("{what} data and no record");
    if waits(store, pool, report, (&label, &message)) {
        return Ok(());
    }
    report.disagreement(&label, message, fix, || match driver.delete(volume)? {
        Some(trash) => driver.empty(&trash),
        None => Ok(()),
    });
    Ok(())
}
