//! `storage volume snapshot`: copies of a volume as it was, each a volume of the pool beside it and a record.
//!
//! A snapshot is what a power cut would have left: where it takes its time, what runs with the volume is held still meanwhile
//! ([`super::quiet`]), as for a snapshot of an instance. Restoring
//! takes the place of the data at once, and only while nothing that runs uses the volume.

use super::quiet::Quiet;
use super::{Of, data, dependent, named, named_snapshot, need, note, refuse_running, users};
use crate::base::names::SnapshotName;
use crate::base::time;
use crate::error::{Context, Error, Kind, Result};
use crate::fault;
use crate::model::keys;
use crate::model::snapshot_name;
use crate::model::view::VolumeSnapshotPut;
use crate::model::volume::{ContentType, CustomVolume, VolumeSnapshot};
use crate::ops::record_copy;
use crate::ops::snapshot::{Expiry, Request};
use crate::ops::{pool, quota, restrict};
use crate::store::lock::{Exclusive, Held, VolumeKey};
use crate::store::{Action, Journal, Store, journal};
use jiff::Timestamp;

type Lock = Held<VolumeKey, Exclusive>;

/// Incus's words for a snapshot that is not there.
pub fn not_found() -> Error {
    Error::not_found("Storage volume snapshot not found")
}

/// Takes a snapshot; its name.
///
/// # Errors
/// Not found: the volume; Exists: the name is taken; no room. Nothing is left then.
pub fn create(store: &Store, of: Of<'_>, request: &Request, description: &str) -> Result<SnapshotName> {
    restrict::snapshots(store, of.project)?;
    let _pool = store.lock_pool_shared(of.pool)?;
    let (lock, quiet) = Quiet::lock(store, &of.key(store)?, "snapshot")?;
    let volume = need(store, lock.key())?;
    dependent::refuse_direct(store, lock.key(), "Direct snapshots are")?;
    if volume.content_type == ContentType::Iso {
        return Err(Error::invalid("Volume of content type \"iso\" does not support snapshots"));
    }
    let snapshot = chosen(store, &lock, &volume, request)?;
    if request.reuse && store.layout().volume_snapshot_record(lock.key(), &snapshot).exists() {
        delete_locked(store, &lock, &snapshot)?;
    }
    let record = VolumeSnapshot {
        format: 1,
        description: description.to_string(),
        created_at: time::now(),
        expires_at: expires_at(&volume, request)?,
        scheduled_for: request.scheduled,
        config: volume.config.clone(),
    };
    let key = lock.key();
    let (driver, from) = (pool::need(store, &key.pool)?, data(key)?);
    let copy = from.snapshot(&snapshot)?;
    if driver.exists(&copy)? {
        return Err(exists().hint("Run \"stapes doctor\": no snapshot has its data"));
    }
    journal::run(store, "snapshot", &[&lock], |journal| {
        journal.undo(Action::RemoveVolume(named_snapshot(key, &snapshot)))?;
        journal.commits_by(&store.layout().volume_snapshot_record(key, &snapshot))?;
        fault::point("volume.snapshot.begin")?;
        quota::plan_volume(driver.as_ref(), &volume)?;
        quiet.copy(store, journal, || driver.copy(&from, &copy))?;
        fault::point("volume.snapshot.copied")?;
        store.save_volume_snapshot(&lock, &snapshot, &record)?;
        fault::point("volume.snapshot.record")
    })
    .with_context(|| format!("Failed creating volume snapshot \"{snapshot}\""))?;
    record_copy::volume(store, key);
    note(store, key, "storage-volume-snapshot-created");
    Ok(snapshot)
}

fn exists() -> Error {
    Error::exists("Snapshot by that name already exists")
}

fn chosen(store: &Store, lock: &Lock, volume: &CustomVolume, request: &Request) -> Result<SnapshotName> {
    let all = store.volume_snapshots(lock.key())?;
    let taken = all.iter().map(|(name, _)| name.as_str());
    let Some(wanted) = &request.name else {
        return snapshot_name::next(keys::SNAPSHOTS_PATTERN.text(&volume.config), taken, time::now());
    };
    if !request.reuse && taken.clone().any(|name| name == wanted.as_str()) {
        return Err(
            Error::exists(format!("Snapshot {:?} already in use", wanted.as_str())).hint("replace it with --reuse")
        );
    }
    Ok(wanted.clone())
}

fn expires_at(volume: &CustomVolume, request: &Request) -> Result<Option<Timestamp>> {
    match request.expiry {
        Expiry::Never => Ok(None),
        Expiry::At(at) => Ok(Some(at)),
        Expiry::Configured => {
            let by_hand = keys::SNAPSHOTS_EXPIRY_MANUAL.get(&volume.config).filter(|_| request.scheduled.is_none());
            let text = by_hand.or(keys::SNAPSHOTS_EXPIRY.get(&volume.config)).unwrap_or_default();
            time::expiry(time::now(), text)
        }
    }
}

/// Deletes snapshots; goes on after a failure.
///
/// # Errors
/// Not found: the volume or one of them.
pub fn delete(store: &Store, of: Of<'_>, snapshots: &[SnapshotName]) -> Result<()> {
    let _pool = store.lock_pool_shared(of.pool)?;
    let lock = store.lock_volume(of.key(store)?, "snapshot")?;
    need(store, lock.key())?;
    dependent::refuse_direct(store, lock.key(), "Direct snapshot removal is")?;
    let one = |snapshot: &SnapshotName| {
        // One whose record is damaged can go, too.
        if !store.layout().volume_snapshot_record(lock.key(), snapshot).exists() {
            return Err(not_found());
        }
        delete_locked(store, &lock, snapshot)?;
        note(store, lock.key(), "storage-volume-snapshot-deleted");
        Ok(())
    };
    Error::join(snapshots.iter().filter_map(|s| one(s).err()).collect()).map_or(Ok(()), Err)
}

pub(super) fn delete_locked(store: &Store, lock: &Lock, snapshot: &SnapshotName) -> Result<()> {
    let key = lock.key();
    // Whoever is told of a failure still has the snapshot.
    pool::open(store, &key.pool)?;
    let record = Action::RemoveFile { path: store.layout().volume_snapshot_record(key, snapshot) };
    fault::point("volume.snapshot.delete")?;
    let actions = vec![record, Action::RemoveVolume(named_snapshot(key, snapshot))];
    Journal::forward(store, "snapshot", &[lock], actions)?.finish()
}

/// Gives a snapshot another name.
///
/// # Errors
/// Not found; Exists: the new name is taken.
pub fn rename(store: &Store, of: Of<'_>, from: &SnapshotName, to: &SnapshotName) -> Result<()> {
    let _pool = store.lock_pool_shared(of.pool)?;
    let lock = store.lock_volume(of.key(store)?, "snapshot")?;
    let key = lock.key();
    need(store, key)?;
    dependent::refuse_direct(store, key, "Direct snapshot renaming is")?;
    store.volume_snapshot(key, from)?.ok_or_else(not_found)?;
    let driver = pool::need(store, &key.pool)?;
    let (old, new) = (data(key)?.snapshot(from)?, data(key)?.snapshot(to)?);
    if store.layout().volume_snapshot_record(key, to).exists() || driver.exists(&new)? {
        return Err(exists());
    }
    journal::run(store, "snapshot", &[&lock], |journal| {
        let back = named_snapshot(key, from).name;
        let record = |name| store.layout().volume_snapshot_record(key, name);
        journal.undo(Action::RenameVolume { volume: named_snapshot(key, to), to: back })?;
        journal.undo(Action::Move { from: record(to), to: record(from) })?;
        journal.keep()?;
        driver.rename(&old, &new)?;
        fault::point("volume.snapshot.renamed")?;
        store.rename_volume_snapshot(&lock, from, to)?;
        fault::point("volume.snapshot.record")
    })?;
    note(store, key, "storage-volume-snapshot-renamed");
    Ok(())
}

/// Changes what of a snapshot can be written: `edit` is shown it.
///
/// # Errors
/// Not found; what `edit` says.
pub fn update(
    store: &Store,
    of: Of<'_>,
    snapshot: &SnapshotName,
    edit: &mut dyn FnMut(&mut VolumeSnapshotPut) -> Result<()>,
) -> Result<()> {
    let lock = store.lock_volume(of.key(store)?, "snapshot")?;
    let key = lock.key();
    need(store, key)?;
    let mut record = store.volume_snapshot(key, snapshot)?.ok_or_else(not_found)?;
    let mut put = VolumeSnapshotPut { description: record.description.clone(), expires_at: record.expires_at.into() };
    edit(&mut put)?;
    (record.description, record.expires_at) = (put.description, put.expires_at.0);
    fault::point("volume.snapshot.update")?;
    store.save_volume_snapshot(&lock, snapshot, &record)?;
    record_copy::volume(store, key);
    note(store, key, "storage-volume-snapshot-updated");
    Ok(())
}

/// Has a volume be again what it was when a snapshot was taken; its configuration stays.
///
/// # Errors
/// Not found; Conflict: something that runs uses it; no room. All is as it was then.
pub fn restore(store: &Store, of: Of<'_>, snapshot: &SnapshotName) -> Result<()> {
    let _pool = store.lock_pool_shared(of.pool)?;
    let lock = store.lock_volume(of.key(store)?, "restore")?;
    let key = lock.key();
    let record = need(store, key)?;
    store.volume_snapshot(key, snapshot)?.ok_or_else(not_found)?;
    // Whoever starts holds its volumes: nothing begins to use it meanwhile.
    refuse_running(store, &users(store, key)?).map_err(|e| match e.kind() {
        Kind::Conflict => Error::conflict("Cannot restore custom volume used by running instances"),
        _ => e,
    })?;
    let (driver, volume) = (pool::need(store, &key.pool)?, data(key)?);
    let from = volume.snapshot(snapshot)?;
    journal::run(store, "restore", &[&lock], |journal| {
        journal.undo(Action::AbortRestore(named(key)))?;
        fault::point("volume.restore.begin")?;
        quota::plan_volume(driver.as_ref(), &record)?;
        driver.begin_restore(&from, &volume)?;
        fault::point("volume.restore.copied")?;
        journal.then(Action::FinishRestore(named(key)))?;
        if record.content_type.is_image() {
            // It may have grown since.
            journal.then(Action::RenewSize(named(key)))?;
        }
        journal.keep()
    })
    .with_context(|| format!("Failed restoring volume snapshot \"{snapshot}\""))?;
    note(store, key, "storage-volume-restored");
    Ok(())
}
