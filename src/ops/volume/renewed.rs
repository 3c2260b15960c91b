//! Volumes that go with an instance ([`super::dependent`]) when a copy of it is refreshed: those of the copy become what those of
//! the source are, in the same moment as it, and have the snapshots that it has.
//!
//! Called by `copy --refresh` of instances, which holds both. All of it counts with the instance's journal.

use super::copy::stage;
use super::dependent::{self, Lock};
use super::refresh::{self, Changes};
use super::{data, named, named_snapshot, need, note};
use crate::base::names::{PoolName, SnapshotName};
use crate::error::{Error, Result};
use crate::fault;
use crate::model::volume::ContentType;
use crate::ops::crossing::{Crossing, Way, at_rest};
use crate::ops::{load, pool, record_copy};
use crate::storage::{Driver, Volume};
use crate::store::lock::{Key, Proof, VolumeKey};
use crate::store::{Action, Journal, Store};
use std::collections::BTreeMap;

/// The volumes of the source and of the copy, by the devices that both have.
///
/// # Errors
/// Invalid: only one of them has such a device.
pub fn pairs(store: &Store, source: &load::Loaded, target: &load::Loaded) -> Result<Vec<(VolumeKey, VolumeKey)>> {
    let of = |one: &load::Loaded| dependent::of(store, &one.project, &one.expanded.devices);
    let (old, mut new) = (of(source)?, of(target)?);
    let lacks = |device: &str, one: &load::Loaded| {
        Error::invalid(format!("Instance \"{}\" has no dependent volume as device {device:?}", one.name))
            .hint("both must have the same ones to be refreshed")
    };
    let mut all = Vec::new();
    for (device, from) in old {
        let to = new.remove(&device).ok_or_else(|| lacks(&device, target))?;
        all.push((from, to));
    }
    new.keys().next().map_or(Ok(all), |device| Err(lacks(device, source)))
}

/// The pools of these.
pub fn pools(pairs: &[(VolumeKey, VolumeKey)]) -> impl Iterator<Item = &PoolName> {
    pairs.iter().flat_map(|(from, to)| [&from.pool, &to.pool])
}

/// They, held.
pub struct Renewed(Vec<Pair>);

struct Pair {
    from: Lock,
    to: Lock,
    drivers: (Box<dyn Driver>, Box<dyn Driver>),
    content: ContentType,
    changes: Changes,
    /// A copy of the source that goes with the journal: it takes no time, and what runs need not wait until that has been sent.
    taken: Option<SnapshotName>,
}

impl Renewed {
    /// Holds the volumes; `snapshots`: those that the copy is to have, none if they stay as they are.
    ///
    /// # Errors
    /// Not found; busy; Unsupported.
    pub fn lock(
        store: &Store,
        pairs: &[(VolumeKey, VolumeKey)],
        snapshots: Option<&dyn Fn(&SnapshotName) -> bool>,
    ) -> Result<Self> {
        let mut keys: Vec<&VolumeKey> = pairs.iter().flat_map(|(from, to)| [from, to]).collect();
        keys.sort_by_cached_key(|key| key.file_key());
        keys.dedup();
        let mut locks = BTreeMap::new();
        for key in keys {
            locks.insert(key.file_key(), store.lock_volume(key.clone(), "refresh")?);
        }
        let mut all = Vec::new();
        for (from, to) in pairs {
            let ends = locks.remove(&from.file_key()).zip(locks.remove(&to.file_key()));
            let (from, to) = ends.ok_or_else(|| Error::unsupported("Two devices have the same dependent volume"))?;
            let content = need(store, from.key())?.content_type;
            if need(store, to.key())?.content_type != content {
                return Err(Error::invalid(format!("Volume \"{}\" holds something else", to.key().name)));
            }
            let mut changes = Changes::default();
            if let Some(wanted) = snapshots {
                changes = refresh::changes(store, (&from, &to), false)?;
                changes.new.retain(|(name, _)| wanted(name));
            }
            let drivers = (pool::need(store, &from.key().pool)?, pool::need(store, &to.key().pool)?);
            let sent = from.key().pool != to.key().pool && drivers.0.streams().is_some();
            let name = SnapshotName::parse(&format!("copy:{}", uuid::Uuid::new_v4().simple()))?;
            // A long name of the volume leaves no room for it.
            let taken = (sent && data(from.key())?.snapshot(&name).is_ok()).then_some(name);
            all.push(Pair { from, to, drivers, content, changes, taken });
        }
        Ok(Self(all))
    }

    /// What a journal about the instances asks for besides.
    pub fn proofs(&self) -> impl Iterator<Item = &dyn Proof> {
        self.0.iter().flat_map(|one| [&one.from as &dyn Proof, &one.to as &dyn Proof])
    }

    /// Has the copies have the snapshots that they lack, and prepares the rest.
    ///
    /// # Errors
    /// No room.
    pub fn snapshots(&self, store: &Store, journal: &mut Journal<'_>) -> Result<()> {
        self.0.iter().try_for_each(|one| {
            one.crossing(journal, &one.changes.kept, |journal, crossing| {
                refresh::snapshots(store, journal, (&one.from, &one.to), (&one.changes, crossing))
            })?;
            if let Some(name) = &one.taken {
                let named = named_snapshot(one.from.key(), name);
                journal.undo(Action::RemoveVolume(named.clone()))?;
                journal.then(Action::RemoveVolume(named))?;
            }
            journal.undo(Action::AbortRestore(named(one.to.key())))
        })
    }

    /// Takes the data; nothing changes them.
    ///
    /// # Errors
    /// No room.
    pub fn take(&self) -> Result<()> {
        self.0.iter().try_for_each(|one| {
            let (a, b) = (data(one.from.key())?, data(one.to.key())?);
            let (from, to) = (one.drivers.0.as_ref(), one.drivers.1.as_ref());
            match &one.taken {
                Some(name) => from.copy(&a, &a.snapshot(name)?),
                None if one.within() => from.begin_restore(&a, &b),
                None => stage(from, to, (&a, &b), one.content),
            }?;
            fault::point("dependent.staged")
        })
    }

    /// Prepares that the copies get what was taken, or what was in the `snapshot`.
    ///
    /// # Errors
    /// Not found: a volume has no such snapshot; no room.
    pub fn finish(&self, store: &Store, journal: &mut Journal<'_>, snapshot: Option<&SnapshotName>) -> Result<()> {
        self.0.iter().try_for_each(|one| {
            let key = one.from.key();
            if let Some(name) = snapshot {
                let found = store.volume_snapshot(key, name)?;
                found.ok_or_else(|| Error::not_found(format!("Volume \"{}\" has no snapshot \"{name}\"", key.name)))?;
            }
            if let Some(name) = snapshot.or(one.taken.as_ref()) {
                let (a, b) = (data(key)?.snapshot(name)?, data(one.to.key())?);
                let new = one.changes.new.iter().map(|(name, _)| name);
                let common: Vec<SnapshotName> = one.changes.kept.iter().chain(new).cloned().collect();
                one.crossing(journal, &common, |journal, crossing| crossing.stage(journal, (&a, &b), &mut at_rest))?;
            }
            journal.then(Action::FinishRestore(named(one.to.key())))?;
            match one.content.is_image() {
                true => journal.then(Action::RenewSize(named(one.to.key()))),
                false => Ok(()),
            }
        })
    }

    /// Tells of it.
    pub fn tell(&self, store: &Store) {
        for key in self.0.iter().map(|one| one.to.key()) {
            record_copy::volume(store, key);
            note(store, key, "storage-volume-updated");
        }
    }
}

impl Pair {
    fn within(&self) -> bool {
        self.from.key().pool == self.to.key().pool
    }

    /// Hands `body` the way from one to the other, which builds upon the snapshots that both have.
    fn crossing(
        &self,
        journal: &mut Journal<'_>,
        common: &[SnapshotName],
        body: impl FnOnce(&mut Journal<'_>, &mut Crossing<'_>) -> Result<()>,
    ) -> Result<()> {
        let (a, b) = (data(self.from.key())?, data(self.to.key())?);
        let (from, to) = (self.drivers.0.as_ref(), self.drivers.1.as_ref());
        let named = |of: &SnapshotName| named_snapshot(self.from.key(), of);
        let files = |a: &Volume, b: &Volume| stage(from, to, (a, b), self.content);
        let (within, is_disk) = (self.within(), self.content.is_image());
        let mut crossing = Crossing::new(Way { from, to, within, volume: &a, named: &named, files: &files, is_disk });
        let pair = |of: &SnapshotName| Ok((a.snapshot(of)?, b.snapshot(of)?));
        crossing.build_upon(journal, &common.iter().rev().map(pair).collect::<Result<Vec<_>>>()?)?;
        body(journal, &mut crossing)
    }
}
