//! Volumes that go with an instance ([`super::dependent`]) when it is copied or moved: each is copied as the instance is, in the
//! same moment, and counts with the instance's record.

use super::copy::{Ends, new_record};
use super::dependent::{self, Lock, is};
use super::{change, note};
use crate::base::names::{PoolName, ProjectName, SnapshotName};
use crate::error::{Error, Result};
use crate::model::instance::Devices;
use crate::model::keys::device::disk;
use crate::model::volume::CustomVolume;
use crate::ops::record_copy;
use crate::store::lock::{Key, Proof, VolumeKey};
use crate::store::{Action, Journal, Store};
use std::collections::BTreeMap;

/// Which volumes become which, by the devices of an instance and of its copy.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan(Vec<Planned>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Planned {
    device: String,
    from: VolumeKey,
    to: VolumeKey,
}

/// Has the devices whose volumes go with the instance be on that pool, but for those that `overrides` gives one.
pub fn put_pool(devices: &mut Devices, pool: &PoolName, overrides: &Devices) {
    let chosen = |name: &str| overrides.get(name).is_some_and(|device| disk::POOL.get(device).is_some());
    for (_, device) in devices.iter_mut().filter(|(name, device)| is(device) && !chosen(name)) {
        disk::POOL.set(device, pool.as_str());
    }
}

impl Plan {
    /// Compares the devices of an instance with those of its copy. What is `moving` may keep a volume: nothing is done to that.
    ///
    /// # Errors
    /// Invalid: a copy would have the volume of its source.
    pub fn new(
        store: &Store,
        (old, then): (&ProjectName, &Devices),
        (new, now): (&ProjectName, &Devices),
        moving: bool,
    ) -> Result<Self> {
        let mut targets = dependent::of(store, new, now)?;
        let mut all: Vec<Planned> = Vec::new();
        for (device, from) in dependent::of(store, old, then)? {
            let Some(to) = targets.remove(&device) else { continue };
            match from == to {
                true if moving => {}
                true => {
                    let hint = format!("give the copy a volume of its own: --device {device},source=<new volume>");
                    return Err(Error::invalid(format!(
                        "Device source name should be different during copy for dependent disk: {device}"
                    ))
                    .hint(hint));
                }
                false => all.push(Planned { device, from, to }),
            }
        }
        Ok(Self(all))
    }

    /// The devices that name no volume that is yet to be made.
    pub fn others(&self, devices: &Devices) -> Devices {
        let made = |name: &String| self.0.iter().any(|one| one.device == *name);
        devices.iter().filter(|(name, _)| !made(name)).map(|(name, device)| (name.clone(), device.clone())).collect()
    }

    /// The pools of all volumes.
    pub fn pools(&self) -> impl Iterator<Item = &PoolName> {
        self.0.iter().flat_map(|one| [&one.from.pool, &one.to.pool])
    }
}

#[derive(Debug)]
struct Copied {
    from: Lock,
    to: Lock,
    snapshots: Vec<SnapshotName>,
    record: CustomVolume,
}

/// The volumes, held, and what becomes of them.
#[derive(Debug)]
pub struct Along {
    all: Vec<Copied>,
    snapshot: Option<SnapshotName>,
}

impl Along {
    /// Holds the volumes of both; `snapshot`: they are copied as they were then.
    ///
    /// # Errors
    /// Not found; Exists: a volume has the name of a copy. Busy.
    pub fn lock(
        store: &Store,
        plan: &Plan,
        (snapshot, without_snapshots): (Option<&SnapshotName>, bool),
        verb: &str,
    ) -> Result<Self> {
        let mut keys: Vec<&VolumeKey> = plan.0.iter().flat_map(|one| [&one.from, &one.to]).collect();
        keys.sort_by_cached_key(|key| key.file_key());
        keys.dedup();
        let mut locks = BTreeMap::new();
        for key in keys {
            locks.insert(key.file_key(), store.lock_volume(key.clone(), verb)?);
        }
        let mut all = Vec::new();
        for Planned { from, to, .. } in &plan.0 {
            let ends = locks.remove(&from.file_key()).zip(locks.remove(&to.file_key()));
            let (from, to) = ends.ok_or_else(|| Error::unsupported("Two devices have the same dependent volume"))?;
            let (mut record, snapshots) = new_record(store, (from.key(), to.key()), snapshot, without_snapshots)?;
            dependent::leave_out_schedules(&mut record.config);
            all.push(Copied { from, to, snapshots, record });
        }
        Ok(Self { all, snapshot: snapshot.cloned() })
    }

    fn each(&self, mut body: impl FnMut(Ends<'_>, &CustomVolume) -> Result<()>) -> Result<()> {
        self.all.iter().try_for_each(|one| {
            let snapshot = self.snapshot.as_ref();
            body(Ends { from: &one.from, to: &one.to, snapshot, snapshots: &one.snapshots }, &one.record)
        })
    }

    /// What a journal about the instance asks for besides.
    pub fn proofs(&self) -> impl Iterator<Item = &dyn Proof> {
        self.all.iter().flat_map(|one| [&one.from as &dyn Proof, &one.to as &dyn Proof])
    }

    /// Notes how to undo all that comes.
    ///
    /// # Errors
    /// An I/O error.
    pub fn note(&self, store: &Store, journal: &mut Journal<'_>) -> Result<()> {
        self.each(|ends, _| {
            ends.note(store, journal)?;
            journal.undo(Action::RemoveFile { path: store.layout().volume_record(ends.to.key()) })
        })
    }

    /// Copies the snapshots.
    ///
    /// # Errors
    /// No room.
    pub fn snapshots(&self, store: &Store) -> Result<()> {
        self.each(|ends, record| ends.snapshots(store, record))
    }

    /// Copies the data.
    ///
    /// # Errors
    /// No room.
    pub fn volumes(&self, store: &Store) -> Result<()> {
        self.each(|ends, record| ends.volume(store, record))
    }

    /// Writes the records.
    ///
    /// # Errors
    /// No room.
    pub fn finish(&self, store: &Store) -> Result<()> {
        self.each(|ends, record| {
            ends.finish(store, record)?;
            record_copy::volume(store, ends.to.key());
            Ok(())
        })
    }

    /// What deletes the sources, for a move.
    ///
    /// # Errors
    /// The state folder cannot be read.
    pub fn removal(&self, store: &Store) -> Result<Vec<Action>> {
        let mut actions = Vec::new();
        for one in &self.all {
            actions.extend(change::removal(store, one.from.key())?);
        }
        Ok(actions)
    }

    /// Tells of the new volumes.
    pub fn tell(&self, store: &Store) {
        self.all.iter().for_each(|one| note(store, one.to.key(), "storage-volume-created"));
    }
}
