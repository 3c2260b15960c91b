//! Volumes that go with an instance: those of its disk devices with `dependent=true`. Its snapshots take them along, restoring one
//! restores them, and with the instance they are deleted. Copying and moving is in [`super::along`].
//!
//! No record says it of a volume, the instance's device does. Who records such a device holds the volume alone and has seen that
//! nobody else uses it ([`super::keep`]); nobody takes snapshots of it by itself then, so that it has those of its instance, under
//! their names.

use super::{Kept, User, data, named, named_snapshot, need, of_device, users};
use crate::base::names::{ProjectName, SnapshotName};
use crate::base::time;
use crate::error::{Context, Error, Result};
use crate::fault;
use crate::model::instance::{Config, Device, Devices};
use crate::model::keys;
use crate::model::keys::device::{
    device_type,
    disk::{self, Source},
};
use crate::model::keys::volume as volume_keys;
use crate::model::volume::VolumeSnapshot;
use crate::ops::freeze::frozen;
use crate::ops::{load, pool, record_copy};
use crate::store::lock::{Exclusive, Held, InstanceKey, Key, Proof, VolumeKey};
use crate::store::{Action, Journal, Store};
use std::collections::BTreeMap;

pub(super) type Lock = Held<VolumeKey, Exclusive>;

/// Has the volume of this device go with the instance.
pub fn is(device: &Device) -> bool {
    device_type(device) == "disk" && disk::DEPENDENT.bool(device).unwrap_or(false)
}

/// The volumes that go with an instance of `project` with these devices, by the names of the devices.
///
/// # Errors
/// No volume or pool can have such a name.
pub fn of(store: &Store, project: &ProjectName, devices: &Devices) -> Result<BTreeMap<String, VolumeKey>> {
    let mut all = BTreeMap::new();
    for (name, device) in devices.iter().filter(|(_, device)| is(device)) {
        all.extend(of_device(store, project, device)?.map(|key| (name.clone(), key)));
    }
    Ok(all)
}

/// Has the devices `then`, of a snapshot, name the volumes that go with the instance `now`: they may have been renamed or moved
/// since, or are those of a copy. What goes with it now had its snapshots made with the instance's, and goes on doing so.
pub fn follow(then: &mut Devices, now: &Devices) {
    for (name, now) in now.iter().filter(|(_, now)| is(now)) {
        let Some(device) = then.get_mut(name) else { continue };
        if matches!(disk::source(device), Source::Volume { .. }) {
            for key in [&disk::SOURCE, &disk::POOL, &disk::DEPENDENT] {
                key.set(device, key.text(now));
            }
        }
    }
}

/// Refuses what is done to the instance instead.
///
/// # Errors
/// Invalid: the volume goes with one.
pub(super) fn refuse_direct(store: &Store, key: &VolumeKey, what: &str) -> Result<()> {
    match users(store, key)?.into_iter().find(|user| user.dependent).and_then(|user| user.instance) {
        None => Ok(()),
        Some(name) => Err(Error::invalid(format!("{what} not allowed for dependent volumes"))
            .hint(format!("the volume has the snapshots of the instance \"{name}\""))),
    }
}

/// What an instance says of the snapshots of what goes with it.
static SCHEDULES: [&keys::Key; 4] =
    [&keys::SNAPSHOTS_EXPIRY, &keys::SNAPSHOTS_EXPIRY_MANUAL, &keys::SNAPSHOTS_PATTERN, &keys::SNAPSHOTS_SCHEDULE];

/// Takes out of the configuration of a volume that goes with an instance what its pool says of snapshots.
pub(super) fn leave_out_schedules(config: &mut Config) {
    SCHEDULES.iter().for_each(|key| drop(key.remove(config)));
}

/// Looks whether a volume with this configuration can go with an instance.
///
/// # Errors
/// Invalid.
pub(super) fn check_config(config: &Config) -> Result<()> {
    if volume_keys::SHARED.bool(config)? {
        return Err(Error::invalid("dependent and security.shared are mutually exclusive"));
    }
    match SCHEDULES.iter().find(|key| key.get(config).is_some()) {
        None => Ok(()),
        Some(key) => Err(Error::invalid(format!("Dependent disk may not have a {:?} config", key.name))),
    }
}

/// Looks whether the volumes that are to go with an instance from now on can do so. `old`: the devices it has so far.
///
/// # Errors
/// Invalid: one has snapshots of its own, or a schedule for them. Not found.
pub fn check_new(store: &Store, project: &ProjectName, old: &Devices, new: &Devices) -> Result<Vec<VolumeKey>> {
    let (old, new) = (of(store, project, old)?, of(store, project, new)?);
    let mut fresh: Vec<VolumeKey> = new.into_values().filter(|key| !old.values().any(|o| o == key)).collect();
    fresh.sort_by_cached_key(Key::file_key);
    fresh.dedup();
    for key in &fresh {
        check_config(&need(store, key).context("Failed loading custom volume")?.config)?;
        if !store.volume_snapshots(key)?.is_empty() {
            return Err(Error::invalid("Cannot attach volume with snapshots as dependent"));
        }
    }
    Ok(fresh)
}

/// Looks whether nobody but `me` has the volume, under a lock of it: `alone`, nobody at all, else nobody with whom it goes.
///
/// # Errors
/// Invalid: somebody has.
pub(super) fn check_others(store: &Store, key: &VolumeKey, me: &[&InstanceKey], alone: bool) -> Result<()> {
    let mine = |user: &User| {
        me.iter().any(|me| user.project == me.project && user.instance.as_ref().is_some_and(|name| *name == me.name))
    };
    match users(store, key)?.iter().any(|user| !mine(user) && (alone || user.dependent)) {
        true => Err(Error::invalid("Cannot add dependent custom storage volume to more than one instance")),
        false => Ok(()),
    }
}

/// The volumes that go with an instance, held.
#[derive(Debug)]
pub struct Dependents(Vec<Lock>);

impl Dependents {
    /// Holds those of an instance under its lock; one whose records cannot be read has none.
    ///
    /// # Errors
    /// Busy.
    pub fn of(store: &Store, held: &Held<InstanceKey, Exclusive>, verb: &str) -> Result<Self> {
        match load::load(store, &held.key().project, &held.key().name) {
            Ok(loaded) => Self::lock(store, &loaded.project, &loaded.expanded.devices, verb),
            Err(_) => Ok(Self(Vec::new())),
        }
    }

    fn lock(store: &Store, project: &ProjectName, devices: &Devices, verb: &str) -> Result<Self> {
        let mut keys: Vec<VolumeKey> = of(store, project, devices)?.into_values().collect();
        keys.sort_by_cached_key(Key::file_key);
        keys.dedup();
        keys.into_iter().map(|key| store.lock_volume(key, verb)).collect::<Result<_>>().map(Self)
    }

    /// Those that are `wanted` among what [`super::keep`] holds, and the rest of that.
    pub fn kept(kept: Vec<Kept>, wanted: impl Fn(&VolumeKey) -> bool) -> (Self, Vec<Kept>) {
        let (mut alone, mut rest) = (Vec::new(), Vec::new());
        for one in kept {
            match one {
                Kept::Alone(lock) if wanted(lock.key()) => alone.push(lock),
                other => rest.push(other),
            }
        }
        (Self(alone), rest)
    }

    /// There are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Looks whether their pools are to be had: what is only ever done forward is not to begin else.
    ///
    /// # Errors
    /// One is not.
    pub fn reachable(&self, store: &Store) -> Result<()> {
        self.0.iter().try_for_each(|lock| pool::open(store, &lock.key().pool).map(drop))
    }

    /// What a journal about the instance asks for.
    pub fn proofs<'a>(&'a self, held: &'a Held<InstanceKey, Exclusive>) -> Vec<&'a dyn Proof> {
        let volumes = self.0.iter().map(|lock| lock as &dyn Proof);
        std::iter::once(held as &dyn Proof).chain(volumes).collect()
    }

    /// Those that have the snapshot.
    fn with<'a>(&'a self, store: &'a Store, snapshot: &'a SnapshotName) -> impl Iterator<Item = &'a Lock> {
        let has = move |lock: &&Lock| store.layout().volume_snapshot_record(lock.key(), snapshot).exists();
        self.0.iter().filter(has)
    }

    /// Notes how to undo [`Dependents::copy`] and [`Dependents::record`].
    ///
    /// # Errors
    /// Exists: one has such a snapshot.
    pub fn begin(&self, store: &Store, journal: &mut Journal<'_>, snapshot: &SnapshotName) -> Result<()> {
        for lock in &self.0 {
            let key = lock.key();
            let path = store.layout().volume_snapshot_record(key, snapshot);
            if path.exists() || pool::need(store, &key.pool)?.exists(&data(key)?.snapshot(snapshot)?)? {
                return Err(Error::exists(format!("Volume \"{}\" has a snapshot \"{snapshot}\"", key.name)));
            }
            journal.undo(Action::RemoveVolume(named_snapshot(key, snapshot)))?;
            journal.undo(Action::RemoveFile { path })?;
        }
        Ok(())
    }

    /// Copies the data of all into the snapshot.
    ///
    /// # Errors
    /// No room.
    pub fn copy(&self, store: &Store, snapshot: &SnapshotName) -> Result<()> {
        for lock in &self.0 {
            let volume = data(lock.key())?;
            pool::need(store, &lock.key().pool)?.copy(&volume, &volume.snapshot(snapshot)?)?;
            fault::point("dependent.copied")?;
        }
        Ok(())
    }

    /// Writes the records of the snapshot, which stays as long as the instance's does.
    ///
    /// # Errors
    /// An I/O error.
    pub fn record(&self, store: &Store, snapshot: &SnapshotName) -> Result<()> {
        for lock in &self.0 {
            let record = VolumeSnapshot {
                format: 1,
                description: String::new(),
                created_at: time::now(),
                expires_at: None,
                scheduled_for: None,
                config: need(store, lock.key())?.config,
            };
            store.save_volume_snapshot(lock, snapshot, &record)?;
            record_copy::volume(store, lock.key());
            fault::point("dependent.record")?;
        }
        Ok(())
    }

    /// What deletes the snapshot.
    pub fn snapshot_removal(&self, store: &Store, snapshot: &SnapshotName) -> Vec<Action> {
        let one = |lock: &Lock| {
            let path = store.layout().volume_snapshot_record(lock.key(), snapshot);
            [Action::RemoveFile { path }, Action::RemoveVolume(named_snapshot(lock.key(), snapshot))]
        };
        self.with(store, snapshot).flat_map(one).collect()
    }

    /// Notes how to undo [`Dependents::rename`].
    ///
    /// # Errors
    /// An I/O error.
    pub fn begin_rename(
        &self,
        store: &Store,
        journal: &mut Journal<'_>,
        (from, to): (&SnapshotName, &SnapshotName),
    ) -> Result<()> {
        for key in self.with(store, from).map(Held::key) {
            let record = |name| store.layout().volume_snapshot_record(key, name);
            let back = named_snapshot(key, from).name;
            journal.undo(Action::RenameVolume { volume: named_snapshot(key, to), to: back })?;
            journal.undo(Action::Move { from: record(to), to: record(from) })?;
        }
        Ok(())
    }

    /// Gives the snapshot another name.
    ///
    /// # Errors
    /// An I/O error.
    pub fn rename(&self, store: &Store, (from, to): (&SnapshotName, &SnapshotName)) -> Result<()> {
        for lock in self.with(store, from) {
            let volume = data(lock.key())?;
            pool::need(store, &lock.key().pool)?.rename(&volume.snapshot(from)?, &volume.snapshot(to)?)?;
            store.rename_volume_snapshot(lock, from, to)?;
            fault::point("dependent.renamed")?;
        }
        Ok(())
    }

    /// Prepares that those that have the snapshot become what they were then; how to do it comes with [`Dependents::restored`].
    ///
    /// # Errors
    /// No room; a volume that goes with the instance `now` has no such snapshot.
    pub fn restore(
        &self,
        store: &Store,
        journal: &mut Journal<'_>,
        (now, snapshot): (&BTreeMap<String, VolumeKey>, &SnapshotName),
    ) -> Result<()> {
        let has = |key: &VolumeKey| self.with(store, snapshot).any(|lock| lock.key() == key);
        if let Some(key) = now.values().find(|key| !has(key)) {
            return Err(Error::not_found(format!("Volume \"{}\" has no snapshot \"{snapshot}\"", key.name)));
        }
        for key in self.with(store, snapshot).map(Held::key) {
            journal.undo(Action::AbortRestore(named(key)))?;
            let volume = data(key)?;
            pool::need(store, &key.pool)?.begin_restore(&volume.snapshot(snapshot)?, &volume)?;
            fault::point("dependent.staged")?;
        }
        Ok(())
    }

    /// What puts in place what [`Dependents::restore`] prepared.
    pub fn restored(&self, store: &Store, snapshot: &SnapshotName) -> Vec<Action> {
        self.with(store, snapshot).map(|lock| Action::FinishRestore(named(lock.key()))).collect()
    }

    /// What deletes the volumes with their snapshots; one that somebody else uses, too, stays.
    ///
    /// # Errors
    /// The state folder cannot be read.
    pub fn removal(&self, store: &Store, me: &InstanceKey) -> Result<Vec<Action>> {
        let mut actions = Vec::new();
        for key in self.0.iter().map(Held::key) {
            if check_others(store, key, &[me], true).is_ok() {
                actions.extend(super::change::removal(store, key)?);
            }
        }
        Ok(actions)
    }

    /// Gives volumes that go with an instance from now on the snapshots that it has already.
    ///
    /// # Errors
    /// No room.
    pub fn catch_up(
        &self,
        store: &Store,
        held: &Held<InstanceKey, Exclusive>,
        journal: &mut Journal<'_>,
    ) -> Result<()> {
        let InstanceKey { project, name } = held.key();
        if self.is_empty() {
            return Ok(());
        }
        let snapshots: Vec<SnapshotName> = store.snapshots(project, name)?.into_iter().map(|(name, _)| name).collect();
        snapshots.iter().try_for_each(|snapshot| self.begin(store, journal, snapshot))?;
        frozen(store, held, journal, || {
            snapshots.iter().try_for_each(|snapshot| {
                self.copy(store, snapshot)?;
                self.record(store, snapshot)
            })
        })
    }
}
