//! Volumes that go with an instance ([`super::dependent`]) in its backup: each stands there as in a backup of its own, in a folder
//! of the name of the device, and in the index of the instance with its pool.
//!
//! Called by `export` and `import` of instances, which hold the instance. An archive is a stranger's: which volumes there are is
//! said by the devices, and their records are judged as those of a volume's own backup. They count with the instance's record.

use super::dependent::{self, Lock, is};
use super::{Of, change, data, export, import, list, named_snapshot, need, note};
use crate::base::names::{PoolName, ProjectName, SnapshotName};
use crate::error::{Context, Error, Result};
use crate::fault;
use crate::image::export::Exporter;
use crate::image::{Limits, OnProgress};
use crate::model::backup::{CUSTOM, Found, VolumeRecords};
use crate::model::instance::Devices;
use crate::model::keys::device::disk::{self, Source};
use crate::model::view::{PoolView, VolumeSnapshotView, VolumeView};
use crate::ops::backup::optimized;
use crate::ops::backup::unpack::{Form, Part};
use crate::ops::{copy, load, pool, record_copy, restrict};
use crate::storage::Driver;
use crate::store::lock::{Held, Key, PoolKey, Proof, Shared, VolumeKey};
use crate::store::{Action, Journal, Store};
use std::collections::BTreeSet;
use std::io::Write;

/// Holds the pools of an instance that is exported, and of what goes with it.
///
/// # Errors
/// Not found; busy.
pub fn pools(store: &Store, loaded: &load::Loaded, without: bool) -> Result<Vec<Held<PoolKey, Shared>>> {
    let root = loaded.pool()?;
    let volumes =
        if without { Default::default() } else { dependent::of(store, &loaded.project, &loaded.expanded.devices)? };
    copy::pools(store, std::iter::once(&root).chain(volumes.values().map(|key| &key.pool)))
}

/// The volumes of an instance that is exported, held.
#[derive(Default)]
pub struct Exported(Vec<Export>);

struct Export {
    device: String,
    lock: Lock,
    driver: Box<dyn Driver>,
    snapshots: Vec<VolumeSnapshotView>,
}

impl Exported {
    /// Holds them; `only`: without their snapshots.
    ///
    /// # Errors
    /// Not found; busy; Unsupported: a backup has no place for one.
    pub fn lock(store: &Store, loaded: &load::Loaded, only: bool) -> Result<Self> {
        let mut seen = BTreeSet::new();
        let mut found: Vec<_> = dependent::of(store, &loaded.project, &loaded.expanded.devices)?.into_iter().collect();
        found.sort_by_cached_key(|(_, key)| key.file_key());
        let mut all = Vec::new();
        for (device, key) in found {
            if Form::dependent(&device).volume.starts_with(&format!("{}/", Form::instance().snapshots)) {
                return Err(Error::unsupported(format!(
                    "The volume of a device called {device:?} can't be exported with its instance"
                )));
            }
            if !seen.insert(key.file_key()) {
                continue;
            }
            let lock = store.lock_volume(key, "export")?;
            let key = lock.key();
            let of = Of { project: &key.project, pool: &key.pool, name: &key.name };
            let snapshots = if only { Vec::new() } else { list::snapshots(store, of)? };
            all.push(Export { device, driver: pool::need(store, &key.pool)?, snapshots, lock });
        }
        Ok(Self(all))
    }

    /// What a journal about the instance asks for besides.
    pub fn proofs(&self) -> impl Iterator<Item = &dyn Proof> {
        self.0.iter().map(|one| &one.lock as &dyn Proof)
    }

    /// None of them is without the form of streams that its driver has: an index says it of all at once.
    ///
    /// # Errors
    /// NotFound.
    pub fn fits(&self) -> Result<bool> {
        for one in &self.0 {
            if one.driver.streams().is_some() && !optimized::fits(one.driver.as_ref(), &data(one.lock.key())?)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// What the index says of them.
    ///
    /// # Errors
    /// A record is damaged.
    pub fn records(&self, store: &Store) -> Result<Vec<VolumeRecords>> {
        let one = |one: &Export| {
            let key = one.lock.key();
            let pool = store.pool(&key.pool)?.ok_or_else(|| Error::not_found("Storage pool not found"))?;
            let volume = VolumeView::custom(&key.project, &key.name, &need(store, key)?, Vec::new());
            Ok(export::records(Some(PoolView::new(key.pool.as_str(), &pool, Vec::new(), true)), volume, &one.snapshots))
        };
        self.0.iter().map(one).collect()
    }

    /// Notes that the copies called `name` go when the journal ends.
    ///
    /// # Errors
    /// An I/O error.
    pub fn begin(&self, journal: &mut Journal<'_>, name: &SnapshotName) -> Result<()> {
        self.0.iter().try_for_each(|one| {
            let named = named_snapshot(one.lock.key(), name);
            journal.undo(Action::RemoveVolume(named.clone()))?;
            journal.then(Action::RemoveVolume(named))
        })
    }

    /// Copies them, as snapshots called `name`.
    ///
    /// # Errors
    /// No room.
    pub fn copy(&self, name: &SnapshotName) -> Result<()> {
        self.0.iter().try_for_each(|one| {
            let volume = data(one.lock.key())?;
            one.driver.copy(&volume, &volume.snapshot(name)?)?;
            fault::point("dependent.copied")
        })
    }

    /// Writes them, or the copies that have been made of them; `optimized`: as streams where their driver has them.
    ///
    /// # Errors
    /// They cannot be read; the sink fails.
    pub fn write<W: Write>(
        &self,
        store: &Store,
        mut out: Exporter<'static, W>,
        (copy, optimized): (Option<&SnapshotName>, bool),
        on_progress: OnProgress<'_>,
    ) -> Result<Exporter<'static, W>> {
        for Export { device, lock, driver, snapshots } in &self.0 {
            let volume = data(lock.key())?;
            let source = export::Source {
                lock,
                driver: driver.as_ref(),
                form: Form::dependent(device),
                at_rest: &copy.map_or(Ok(volume.clone()), |copy| volume.snapshot(copy))?,
                snapshots,
                is_image: need(store, lock.key())?.content_type.is_image(),
                optimized: optimized && driver.streams().is_some(),
            };
            out = source.write(store, out, on_progress)?;
        }
        Ok(out)
    }
}

/// The volumes that come with an instance, by their devices.
#[derive(Default)]
pub struct Coming(Vec<(String, Found)>);

impl Coming {
    /// Those that the index `found` tells of, for an instance that had these devices.
    ///
    /// # Errors
    /// Invalid: nothing is said of one, or no device is for it.
    pub fn find(found: &Found, devices: &Devices) -> Result<Self> {
        let mut all: Vec<(String, Found)> = Vec::new();
        let records = found.config.as_ref().and_then(|config| config.dependent_volumes.as_ref());
        for one in records.into_iter().flatten() {
            let bad = || Error::invalid("Bad dependent volume definition found in index");
            let (of, pool) = one.volume.as_ref().zip(one.pool.as_ref()).ok_or_else(bad)?;
            let fits = |device: &_| match disk::source(device) {
                Source::Volume { pool: name, volume, .. } => is(device) && name == pool.name && volume == of.name,
                _ => false,
            };
            let mut free = devices.iter().filter(|(name, _)| !all.iter().any(|(taken, _)| taken == *name));
            let Some((device, _)) = free.find(|(_, device)| fits(device)) else {
                return Err(Error::invalid(format!(
                    "Requested volume {:?} on pool {:?} is not attached to the instance",
                    of.name, pool.name
                )));
            };
            // Older ones have the volume's name before the snapshot's.
            let snapshots = one.volume_snapshots.iter().flatten();
            let snapshots = snapshots.map(|s| s.name.rsplit_once('/').map_or(&s.name[..], |(_, n)| n).to_string());
            let own = Found {
                name: of.name.clone(),
                backend: pool.driver.clone(),
                pool: pool.name.clone(),
                snapshots: snapshots.collect(),
                optimized: found.optimized,
                kind: CUSTOM.to_string(),
                config: Some(one.clone()),
            };
            all.push((device.clone(), own));
        }
        Ok(Self(all))
    }

    /// Has those be on the pool `root` whose own is not here, but for what `overrides` say.
    ///
    /// # Errors
    /// The state folder cannot be read.
    pub fn settle(&self, store: &Store, devices: &mut Devices, (root, overrides): (&PoolName, &Devices)) -> Result<()> {
        for (name, _) in &self.0 {
            let chosen = overrides.get(name).is_some_and(|device| disk::POOL.get(device).is_some());
            let Some(device) = devices.get_mut(name).filter(|_| !chosen) else { continue };
            let here = match PoolName::parse(disk::POOL.text(device)) {
                Ok(pool) => store.pool(&pool)?.is_some(),
                Err(_) => false,
            };
            if !here {
                disk::POOL.set(device, root.as_str());
            }
        }
        Ok(())
    }

    /// The devices that name no volume that comes.
    pub fn others(&self, devices: &Devices) -> Devices {
        let comes = |name: &String| self.0.iter().any(|(device, _)| device == name);
        devices.iter().filter(|(name, _)| !comes(name)).map(|(name, device)| (name.clone(), device.clone())).collect()
    }

    /// Where they come to in an instance of `project` with these devices.
    ///
    /// # Errors
    /// Invalid: a device is not for one any more, or two are for the same.
    pub fn keys(&self, store: &Store, project: &ProjectName, devices: &Devices) -> Result<Vec<VolumeKey>> {
        let mut there = dependent::of(store, project, devices)?;
        let mut all: Vec<VolumeKey> = Vec::new();
        for (device, found) in &self.0 {
            let key = there.remove(device).filter(|key| !all.contains(key)).ok_or_else(|| {
                Error::invalid(format!("Requested volume {:?} is not attached to the instance", found.name))
                    .hint(format!("the device {device:?} must be for a dependent volume of its own"))
            })?;
            all.push(key);
        }
        Ok(all)
    }
}

/// The same, held and ready to be made.
#[derive(Default)]
pub struct Imported(Vec<Import>);

struct Import {
    device: String,
    lock: Lock,
    driver: Box<dyn Driver>,
    new: import::New,
}

impl Imported {
    /// Holds them. Lock: the instance.
    ///
    /// # Errors
    /// Exists: a name is taken; Invalid: a record; the limits of the project; busy.
    pub fn lock(store: &Store, coming: &Coming, keys: &[VolumeKey]) -> Result<Self> {
        let mut all = Vec::new();
        let mut both: Vec<_> = coming.0.iter().zip(keys).collect();
        both.sort_by_cached_key(|(_, key)| key.file_key());
        for ((device, found), key) in both {
            let lock = store.lock_volume(key.clone(), "import")?;
            let fail = || format!("Failed importing the volume of the device {device:?}");
            let hint = format!("give it another name: --device {device},source=<new volume>");
            change::free(store, lock.key()).map_err(|e| e.hint(hint)).with_context(fail)?;
            let new = import::prepare(store, lock.key(), found).with_context(fail)?;
            dependent::check_config(&new.record.config).with_context(fail)?;
            restrict::check_volume(store, lock.key(), None, &new.record.config)?;
            let driver = pool::need(store, &lock.key().pool)?;
            all.push(Import { device: device.clone(), lock, driver, new });
        }
        Ok(Self(all))
    }

    /// What a journal about the instance asks for besides.
    pub fn proofs(&self) -> impl Iterator<Item = &dyn Proof> {
        self.0.iter().map(|one| &one.lock as &dyn Proof)
    }

    /// Notes how to undo all that comes.
    ///
    /// # Errors
    /// An I/O error.
    pub fn note(&self, store: &Store, journal: &mut Journal<'_>) -> Result<()> {
        self.0.iter().try_for_each(|one| {
            one.new.note(store, journal, one.lock.key())?;
            journal.undo(Action::RemoveFile { path: store.layout().volume_record(one.lock.key()) })
        })
    }

    /// What takes them from the archive.
    ///
    /// # Errors
    /// Unsupported: one holds no files; a pool cannot be written.
    pub fn parts(&self, limits: &Limits) -> Result<Vec<Box<dyn Part + '_>>> {
        let mut all = Vec::new();
        for Import { device, lock, driver, new } in &self.0 {
            all.push(new.part((driver.as_ref(), Form::dependent(device)), lock.key(), limits)?);
        }
        Ok(all)
    }

    /// Writes their records.
    ///
    /// # Errors
    /// No room.
    pub fn finish(&self, store: &Store) -> Result<()> {
        self.0.iter().try_for_each(|one| {
            one.new.finish(store, &one.lock, one.driver.as_ref())?;
            fault::point("dependent.record")
        })
    }

    /// Tells of them.
    pub fn tell(&self, store: &Store) {
        for one in &self.0 {
            record_copy::volume(store, one.lock.key());
            note(store, one.lock.key(), "storage-volume-created");
        }
    }
}
