//! `snapshot`: copies of an instance as it was, taken while it runs or not. Restoring is in `restore`.
//!
//! A snapshot is a volume beside the instance's and a record. What runs is frozen while its files are copied, so that they
//! are all of one moment; a kill in between leaves the journal, which thaws it. The record comes last: with it the snapshot
//! is there. Both are on disk before anybody is told so.

use super::volume::dependent::Dependents;
use super::{lifecycle, load, pool, restrict};
use crate::base::cron::{self, Trigger};
use crate::base::names::{InstanceName, PoolName, ProjectName, SnapshotName};
use crate::base::time;
use crate::error::{Context, Error, Kind, Result};
use crate::fault;
use crate::model::expand::Expanded;
use crate::model::keys;
use crate::model::snapshot_name;
use crate::ops::record_copy;
use crate::storage::Volume;
use crate::store::events::{self, Event};
use crate::store::lock::{Exclusive, Held, InstanceKey};
use crate::store::types::Snapshot;
use crate::store::undo::{Volume as Named, VolumeKind};
use crate::store::{Action, Journal, Store, journal};
use jiff::Timestamp;

pub(super) use super::freeze::{all_frozen, frozen};

/// When a snapshot is to be deleted.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Expiry {
    /// As the instance's configuration says.
    #[default]
    Configured,
    /// Never.
    Never,
    /// Then.
    At(Timestamp),
}

impl Expiry {
    /// Reads what follows `--expiry`: a life time (`1d 3H`) or a date (RFC 3339, or as tables show it).
    ///
    /// # Errors
    /// Neither.
    pub fn parse(text: &str) -> Result<Self> {
        let wrong = || {
            Error::invalid(format!("Invalid expiration date {text:?}"))
                .hint("give a time span such as 30d, or a date such as 2030-01-31T12:00:00Z")
        };
        let at = match time::expiry(time::now(), text) {
            Ok(at) => at,
            Err(_) => match time::parse_table(text) {
                Ok(at) => Some(at),
                Err(_) => time::parse_rfc3339(text).map_err(|_| wrong())?,
            },
        };
        Ok(at.map_or(Self::Never, Self::At))
    }
}

/// What is wanted.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// Its name; none: by the instance's pattern.
    pub name: Option<SnapshotName>,
    /// When it goes.
    pub expiry: Expiry,
    /// Replace one of that name.
    pub reuse: bool,
    /// Nobody asked for it: a schedule did, for this minute.
    pub scheduled: Option<Timestamp>,
}

/// Takes a snapshot; its name.
///
/// # Errors
/// Not found: the instance; Exists: the name is taken; no room. Nothing is left then, and what ran runs.
pub fn create(store: &Store, who: (&ProjectName, &InstanceName), request: &Request) -> Result<SnapshotName> {
    let (project, name) = who;
    let _project = store.lock_project_shared(project)?;
    restrict::snapshots(store, project)?;
    let pool = load::load(store, project, name)?.pool()?;
    let _pool = store.lock_pool_shared(&pool)?;
    let held = store.lock_instance(project, name, "snapshot")?;
    lifecycle::settle(store, &held)?;
    create_locked(store, &held, &pool, request)
}

/// The pool of an instance of which a snapshot is to be taken when it starts; none: its schedule does not say so, or its project
/// forbids it.
///
/// # Errors
/// The schedule cannot be read.
pub(super) fn due_at_start(store: &Store, project: &ProjectName, expanded: &Expanded) -> Result<Option<PoolName>> {
    let schedule = keys::SNAPSHOTS_SCHEDULE.text(&expanded.config);
    let due = !schedule.is_empty() && cron::parse(schedule)?.contains(&Trigger::Alias("@startup"));
    match due && restrict::snapshots(store, project).is_ok() {
        true => pool::of_root(&expanded.devices).map(|(_, name)| Some(name)),
        false => Ok(None),
    }
}

/// The same of an instance that runs, should it start again; none, too, if that cannot be told.
pub(super) fn due_at_restart(store: &Store, project: &ProjectName, name: &InstanceName) -> Option<PoolName> {
    let loaded = load::load(store, project, name).ok()?;
    due_at_start(store, project, &loaded.expanded).ok().flatten()
}

/// Takes the snapshot of an instance at rest that is about to start. Locks: its pool, which `pool` is, shared; the instance.
///
/// # Errors
/// As [`create`].
pub(super) fn at_start(store: &Store, held: &Held<InstanceKey, Exclusive>, pool: &PoolName) -> Result<()> {
    let request = Request { scheduled: Some(time::now()), ..Request::default() };
    create_locked(store, held, pool, &request).map(drop).context("Failed taking startup snapshot")
}

fn create_locked(
    store: &Store,
    held: &Held<InstanceKey, Exclusive>,
    pool: &PoolName,
    request: &Request,
) -> Result<SnapshotName> {
    let InstanceKey { project, name } = held.key();
    let loaded = load::load(store, project, name)?;
    if loaded.pool()? != *pool {
        return Err(Error::conflict("The instance was moved meanwhile"));
    }
    let snapshot = named(store, &loaded, request)?;
    if request.reuse && store.snapshot(project, name, &snapshot)?.is_some() {
        delete_locked(store, held, pool, &snapshot)?;
    }
    let record = Snapshot {
        format: 1,
        created_at: time::now(),
        expires_at: expires_at(&loaded, request)?,
        scheduled_for: request.scheduled,
        stateful: false,
        volatile: loaded.volatile.config.clone(),
        instance: loaded.instance.clone(),
    };
    take(store, held, (&loaded, pool), &snapshot, &record)?;
    note(store, (project, name), &snapshot, "instance-snapshot-created");
    Ok(snapshot)
}

fn named(store: &Store, loaded: &load::Loaded, request: &Request) -> Result<SnapshotName> {
    let all = store.snapshots(&loaded.project, &loaded.name)?;
    let taken = all.iter().map(|(name, _)| name.as_str());
    let Some(wanted) = &request.name else {
        let pattern = keys::SNAPSHOTS_PATTERN.text(&loaded.expanded.config);
        return snapshot_name::next(pattern, taken, time::now());
    };
    if !request.reuse && taken.clone().any(|name| name == wanted.as_str()) {
        return Err(exists(&loaded.name, wanted).hint("replace it with --reuse"));
    }
    Ok(wanted.clone())
}

fn exists(name: &InstanceName, snapshot: &SnapshotName) -> Error {
    Error::exists(format!(
        "Failed creating instance snapshot record \"{snapshot}\": Snapshot \"{name}/{snapshot}\" already exists"
    ))
}

/// Incus's words for a snapshot that is not there.
pub fn not_found() -> Error {
    Error::not_found("Instance snapshot not found")
}

fn expires_at(loaded: &load::Loaded, request: &Request) -> Result<Option<Timestamp>> {
    let config = &loaded.expanded.config;
    match request.expiry {
        Expiry::Never => Ok(None),
        Expiry::At(at) => Ok(Some(at)),
        Expiry::Configured => {
            let by_hand =
                keys::SNAPSHOTS_EXPIRY_MANUAL.get(config).filter(|v| !v.is_empty() && request.scheduled.is_none());
            time::expiry(time::now(), by_hand.or(keys::SNAPSHOTS_EXPIRY.get(config)).unwrap_or_default())
        }
    }
}

/// Makes the volume and the record.
fn take(
    store: &Store,
    held: &Held<InstanceKey, Exclusive>,
    (loaded, pool): (&load::Loaded, &PoolName),
    snapshot: &SnapshotName,
    record: &Snapshot,
) -> Result<()> {
    let InstanceKey { project, name } = held.key();
    let driver = pool::need(store, pool)?;
    let volume = loaded.volume()?;
    let copy = volume.snapshot(snapshot)?;
    let along = Dependents::of(store, held, "snapshot")?;
    journal::run(store, "snapshot", &along.proofs(held), |journal| {
        let path = store.snapshot_path(project, name, snapshot)?;
        journal.undo(Action::RemoveVolume(volume_of(pool, project, name, snapshot)))?;
        along.begin(store, journal, snapshot)?;
        journal.undo(forget(held, snapshot))?;
        if !loaded.instance.ephemeral {
            journal.commits_by(&path)?;
        }
        fault::point("snapshot.begin")?;
        frozen(store, held, journal, || driver.copy(&volume, &copy).and_then(|()| along.copy(store, snapshot)))?;
        fault::point("snapshot.thawed")?;
        along.record(store, snapshot)?;
        if !loaded.instance.ephemeral {
            record_copy::of_snapshot(driver.as_ref(), &volume, snapshot, record);
        }
        store.save_snapshot(held, snapshot, record)?;
        fault::point("snapshot.record")
    })
    .with_context(|| format!("Failed creating instance snapshot \"{snapshot}\""))
}

/// A snapshot's volume, for a journal.
pub(super) fn volume_of(pool: &PoolName, project: &ProjectName, name: &InstanceName, snapshot: &SnapshotName) -> Named {
    Named {
        pool: pool.to_string(),
        kind: VolumeKind::ContainerSnapshot,
        project: project.to_string(),
        name: format!("{name}@{snapshot}"),
    }
}

/// Deletes snapshots; goes on after a failure.
///
/// # Errors
/// Not found: the instance or one of them.
pub fn delete(store: &Store, who: (&ProjectName, &InstanceName), snapshots: &[SnapshotName]) -> Result<()> {
    let held = store.lock_instance(who.0, who.1, "snapshot")?;
    lifecycle::settle(store, &held)?;
    let pool = load::load(store, who.0, who.1)?.pool()?;
    let one = |snapshot: &SnapshotName| {
        // One whose record is damaged can go, too.
        if matches!(store.snapshot(who.0, who.1, snapshot), Ok(None)) {
            return Err(not_found());
        }
        delete_locked(store, &held, &pool, snapshot)?;
        note(store, who, snapshot, "instance-snapshot-deleted");
        Ok(())
    };
    let errors =
        snapshots.iter().filter_map(|s| one(s).with_context(|| format!("Failed deleting snapshot \"{s}\"")).err());
    Error::join(errors.collect()).map_or(Ok(()), Err)
}

/// Deletes one under the instance's lock; once begun it is done, by us or by recovery. It does not begin where a pool is not to be
/// had: whoever is told of a failure still has the snapshot.
pub(super) fn delete_locked(
    store: &Store,
    held: &Held<InstanceKey, Exclusive>,
    pool: &PoolName,
    snapshot: &SnapshotName,
) -> Result<()> {
    let InstanceKey { project, name } = held.key();
    let along = Dependents::of(store, held, "snapshot")?;
    pool::open(store, pool)?;
    along.reachable(store)?;
    let mut actions = vec![forget(held, snapshot), Action::RemoveVolume(volume_of(pool, project, name, snapshot))];
    actions.extend(along.snapshot_removal(store, snapshot));
    fault::point("snapshot.delete")?;
    Journal::forward(store, "snapshot", &along.proofs(held), actions)?.finish()
}

/// The action that removes a record.
pub(super) fn forget(held: &Held<InstanceKey, Exclusive>, snapshot: &SnapshotName) -> Action {
    let InstanceKey { project, name } = held.key();
    Action::ForgetSnapshot { project: project.to_string(), name: name.to_string(), snapshot: snapshot.to_string() }
}

/// Adds what was done to a snapshot to the event log.
pub(super) fn note(store: &Store, who: (&ProjectName, &InstanceName), snapshot: &SnapshotName, action: &str) {
    let source = format!("/1.0/instances/{}/snapshots/{snapshot}", who.1);
    let event = Event::lifecycle(action, &source, who.0.as_str(), serde_json::Value::Null);
    let _ = events::append(store, &event);
}

/// Gives a snapshot another name.
///
/// # Errors
/// Not found; Exists: the new name is taken.
pub fn rename(store: &Store, who: (&ProjectName, &InstanceName), from: &SnapshotName, to: &SnapshotName) -> Result<()> {
    let (project, name) = who;
    let held = store.lock_instance(project, name, "snapshot")?;
    lifecycle::settle(store, &held)?;
    let loaded = load::load(store, project, name)?;
    store.snapshot(project, name, from)?.ok_or_else(not_found)?;
    let taken = || Error::exists(format!("Name {:?} already in use", to.as_str()));
    if !matches!(store.snapshot(project, name, to), Ok(None)) {
        return Err(taken());
    }
    let pool = loaded.pool()?;
    let (driver, volume) = (pool::need(store, &pool)?, loaded.volume()?);
    let along = Dependents::of(store, &held, "snapshot")?;
    journal::run(store, "snapshot", &along.proofs(&held), |journal| {
        let (old, new) = (volume.snapshot(from)?, volume.snapshot(to)?);
        if driver.exists(&new)? {
            return Err(taken().hint("Run \"stapes doctor\": no snapshot has its volume"));
        }
        let (p, n) = (project.to_string(), name.to_string());
        journal
            .undo(Action::RenameVolume { volume: volume_of(&pool, project, name, to), to: format!("{name}@{from}") })?;
        journal.undo(Action::RenameSnapshot { project: p, name: n, from: to.to_string(), to: from.to_string() })?;
        along.begin_rename(store, journal, (from, to))?;
        journal.keep()?;
        driver.rename(&old, &new)?;
        fault::point("snapshot.renamed")?;
        along.rename(store, (from, to))?;
        store.rename_snapshot(&held, from, to)?;
        fault::point("snapshot.record")
    })?;
    note(store, who, to, "instance-snapshot-renamed");
    Ok(())
}

/// Changes when a snapshot goes.
///
/// # Errors
/// Not found.
pub fn set_expiry(
    store: &Store,
    who: (&ProjectName, &InstanceName),
    snapshot: &SnapshotName,
    expires_at: Option<Timestamp>,
) -> Result<()> {
    let held = store.lock_instance(who.0, who.1, "snapshot")?;
    lifecycle::settle(store, &held)?;
    let mut record = store.snapshot(who.0, who.1, snapshot)?.ok_or_else(not_found)?;
    record.expires_at = expires_at;
    fault::point("snapshot.expiry")?;
    store.save_snapshot(&held, snapshot, &record)?;
    record_copy::instance(store, who, true);
    note(store, who, snapshot, "instance-snapshot-updated");
    Ok(())
}

/// The volumes of all snapshots of an instance on its pool, for a journal that deletes them.
pub(super) fn all_volumes(store: &Store, held: &Held<InstanceKey, Exclusive>, pool: &PoolName) -> Result<Vec<Named>> {
    let InstanceKey { project, name } = held.key();
    let all = store.snapshots(project, name)?;
    Ok(all.iter().map(|(snapshot, _)| volume_of(pool, project, name, snapshot)).collect())
}

/// The volume of a snapshot, which is there.
///
/// # Errors
/// Not found.
pub(super) fn volume(store: &Store, loaded: &load::Loaded, snapshot: &SnapshotName) -> Result<Volume> {
    let volume = loaded.volume()?.snapshot(snapshot)?;
    match pool::need(store, &loaded.pool()?)?.exists(&volume) {
        Ok(true) => Ok(volume),
        Ok(false) => Err(Error::not_found(format!("The volume of snapshot \"{snapshot}\" is missing"))),
        Err(e) if e.kind() == Kind::NotFound => Err(not_found()),
        Err(e) => Err(e),
    }
}
