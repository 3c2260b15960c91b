//! `storage volume import`: a custom volume of an archive that `export` made, here or on an Incus.
//!
//! The archive is hostile, as that of an instance: its index is data like a user's, and its files go through the unpacker of
//! images, each volume beneath a folder of its own. What is not told of in the index is refused. Options that volumes here do
//! not have are left out, as Incus does. The volume is there with its record, which comes last.

use super::{Of, change, data, image, named, named_snapshot, need_pool, note, project_of};
use crate::base::names::{PoolName, ProjectName, SnapshotName, VolumeName};
use crate::base::time;
use crate::error::{Context, Error, Result};
use crate::fault;
use crate::image::stream::{self, Kept};
use crate::image::tarread::TarReader;
use crate::image::{Limits, OnProgress};
use crate::model::backup::{CUSTOM, Found, FoundVolume, INDEX};
use crate::model::keys::volume as keys;
use crate::model::volume::{ContentType, CustomVolume, VolumeSnapshot};
use crate::ops::backup::import::{check_form, index, limits};
use crate::ops::backup::optimized::{Arriving, Holds};
use crate::ops::backup::scratch;
use crate::ops::backup::unpack::{self, Form, Part, Volumes};
use crate::ops::{pool, quota, record_copy, restrict};
use crate::storage::{Driver, block};
use crate::store::lock::{Exclusive, Held, VolumeKey};
use crate::store::{Action, Journal, Store, journal};
use std::io::{BufRead, Read};

/// Where to.
#[derive(Debug, Clone)]
pub struct Request {
    /// The project in use.
    pub project: ProjectName,
    /// The pool.
    pub pool: PoolName,
    /// The volume; none: the name in the index.
    pub name: Option<VolumeName>,
}

/// A volume that is ready to be made.
pub(super) struct New {
    pub(super) record: CustomVolume,
    snapshots: Vec<(SnapshotName, VolumeSnapshot)>,
    /// It comes as streams.
    optimized: bool,
}

/// Imports; the volume's name. `total`: bytes of `source`, if that is known.
///
/// # Errors
/// Invalid: no backup, a damaged one, one with names or options that cannot be; Unsupported: a form that is not read here;
/// Exists: the name is taken; no room. Nothing is left then.
pub fn import(
    store: &Store,
    request: &Request,
    (source, total): (impl Read + Send, Option<u64>),
    on_progress: OnProgress<'_>,
) -> Result<VolumeName> {
    if request.pool.as_str() == pool::DEFAULT {
        pool::ensure_default(store)?;
    }
    let owner = project_of(store, &request.project)?;
    let _project = restrict::hold(store, &owner, "import")?;
    let _pool = store.lock_pool_shared(&request.pool)?;
    need_pool(store, &request.pool)?;
    let limits = limits();
    stream::read((source, total), Kept { folder: &scratch(store)?, first: INDEX }, &limits, on_progress, |bytes| {
        let mut tar = TarReader::new(bytes, &limits);
        let found = index(&mut tar)?;
        let name = match &request.name {
            Some(name) => name.clone(),
            None => VolumeName::parse(&found.name)?,
        };
        let key = Of { project: &request.project, pool: &request.pool, name: &name }.key(store)?;
        let lock = store.lock_volume(key, "import")?;
        change::free(store, lock.key()).map_err(|e| e.hint("give another name"))?;
        let new = prepare(store, lock.key(), &found)?;
        restrict::check_volume(store, lock.key(), None, &new.record.config)?;
        journal::run(store, "import", &[&lock], |journal| make(store, journal, &lock, &new, (tar, &limits)))?;
        record_copy::volume(store, lock.key());
        note(store, lock.key(), "storage-volume-created");
        Ok(name)
    })
}

/// The records that the index stands for, checked as a user's.
///
/// # Errors
/// Invalid; Unsupported: the form of its data.
pub(super) fn prepare(store: &Store, key: &VolumeKey, found: &Found) -> Result<New> {
    if found.kind != CUSTOM {
        return Err(Error::unsupported(format!("Backups of type {:?} are not of a custom volume", found.kind))
            .hint("an instance's is imported with: stapes import"));
    }
    let optimized = check_form(found, pool::need(store, &key.pool)?.as_ref())?;
    let records = found.config.as_ref();
    let volume = records.and_then(|r| r.volume.as_ref());
    let volume = volume.ok_or_else(|| Error::invalid("No volume config in backup"))?;
    let content_type = content(volume)?;
    let mut record = CustomVolume {
        format: 1,
        description: volume.description.clone(),
        content_type,
        created_at: volume.created_at.0.unwrap_or_else(time::now),
        config: volume.config.clone(),
    };
    keys::keep_known(content_type, &mut record.config);
    keys::keep_of(pool::need(store, &key.pool)?.name(), &mut record.config);
    keys::check(&key.name, content_type, &record.config)?;
    // A disk has the size it had.
    let own_size = keys::SIZE.get(&record.config).is_some();
    let defaults = store.pool(&key.pool)?.map(|p| p.config).unwrap_or_default();
    keys::apply_defaults(&defaults, content_type, keys::Origin::Elsewhere, &mut record.config)?;
    keys::check(&key.name, content_type, &record.config).context("Invalid defaults of the storage pool")?;
    if content_type.is_image() && !own_size {
        keys::SIZE.remove(&mut record.config);
    }
    let none = Vec::new();
    let of_snapshots = records.and_then(|r| r.volume_snapshots.as_ref()).unwrap_or(&none);
    Ok(New { record, snapshots: snapshots(key, content_type, (found, of_snapshots))?, optimized })
}

fn content(volume: &FoundVolume) -> Result<ContentType> {
    let found = ContentType::parse(&volume.content_type).filter(|content| *content != ContentType::Iso);
    found.ok_or_else(|| {
        Error::invalid(format!("Volume of content type {:?} cannot be in a backup", volume.content_type))
    })
}

/// The snapshots that the index names, with their records.
fn snapshots(
    key: &VolumeKey,
    content_type: ContentType,
    (found, records): (&Found, &[FoundVolume]),
) -> Result<Vec<(SnapshotName, VolumeSnapshot)>> {
    let mut all: Vec<(SnapshotName, VolumeSnapshot)> = Vec::new();
    for word in &found.snapshots {
        let name = SnapshotName::parse(word)?;
        if all.iter().any(|(other, _)| *other == name) {
            return Err(Error::invalid(format!("Snapshot {word:?} is there twice")));
        }
        let own = |r: &&FoundVolume| r.name == *word || r.name.rsplit_once('/').is_some_and(|(_, n)| n == word);
        let missing = || Error::invalid(format!("Snapshot {word:?} has no record in the index"));
        let given = records.iter().find(own).ok_or_else(missing)?;
        if content(given)? != content_type {
            return Err(Error::invalid(format!("Snapshot {word:?} holds something else than its volume")));
        }
        let mut config = given.config.clone();
        keys::keep_known(content_type, &mut config);
        keys::check(&key.name, content_type, &config).with_context(|| format!("Bad snapshot {word:?}"))?;
        let record = VolumeSnapshot {
            format: 1,
            description: given.description.clone(),
            created_at: given.created_at.0.unwrap_or_else(time::now),
            expires_at: given.expires_at.0,
            scheduled_for: None,
            config,
        };
        all.push((name, record));
    }
    Ok(all)
}

fn make(
    store: &Store,
    journal: &mut Journal<'_>,
    lock: &Held<VolumeKey, Exclusive>,
    new: &New,
    (tar, limits): (TarReader<&mut dyn BufRead>, &Limits),
) -> Result<()> {
    let key = lock.key();
    let driver = pool::need(store, &key.pool)?;
    new.note(store, journal, key)?;
    journal.commits_by(&store.layout().volume_record(key))?;
    fault::point("backup.begin")?;
    if new.record.content_type.is_image() && !new.optimized {
        quota::plan_volume(driver.as_ref(), &new.record)?;
        image::unpack(driver.as_ref(), &data(key)?, &new.names(), (tar, limits))?;
    } else {
        unpack::unpack(vec![new.part((driver.as_ref(), Form::custom()), key, limits)?], (tar, limits))?;
    }
    new.finish(store, lock, driver.as_ref())?;
    fault::point("backup.record")
}

impl New {
    /// Notes how to undo all but the record.
    ///
    /// # Errors
    /// An I/O error.
    pub(super) fn note(&self, store: &Store, journal: &mut Journal<'_>, key: &VolumeKey) -> Result<()> {
        journal.undo(Action::RemoveVolume(named(key)))?;
        journal.undo(Action::RemoveTree { path: store.layout().volume_snapshots_dir(key) })?;
        self.snapshots.iter().try_for_each(|(name, _)| journal.undo(Action::RemoveVolume(named_snapshot(key, name))))
    }

    fn names(&self) -> Vec<SnapshotName> {
        self.snapshots.iter().map(|(name, _)| name.clone()).collect()
    }

    /// What takes the volume from an archive.
    ///
    /// # Errors
    /// Unsupported: it is a disk, and of no driver's form; the pool cannot be written.
    pub(super) fn part<'a>(
        &self,
        (driver, form): (&'a dyn Driver, Form),
        key: &VolumeKey,
        limits: &Limits,
    ) -> Result<Box<dyn Part + 'a>> {
        quota::plan_volume(driver, &self.record)?;
        let (volume, names, is_image) = (data(key)?, self.names(), self.record.content_type.is_image());
        if self.optimized {
            let holds = if is_image { Holds::Disk } else { Holds::Files };
            return Ok(Box::new(Arriving::new(driver, (form, holds), (&volume, &names), limits)?));
        }
        if is_image {
            return Err(Error::unsupported("Disks in the backup of an instance are not supported by this version"));
        }
        Ok(Box::new(Volumes::begin((driver, form), (&volume, &names), limits)?))
    }

    /// Its size and its records; its data are there.
    ///
    /// # Errors
    /// No room; the limits of its project.
    pub(super) fn finish(&self, store: &Store, lock: &Held<VolumeKey, Exclusive>, driver: &dyn Driver) -> Result<()> {
        let mut made = self.record.clone();
        if made.content_type.is_image() {
            settle_size(store, lock.key(), driver, &mut made)?;
        }
        quota::brought_volume(driver, &data(lock.key())?, &made)?;
        fault::point("backup.volumes")?;
        for (snapshot, record) in &self.snapshots {
            store.save_volume_snapshot(lock, snapshot, record)?;
        }
        fault::point("backup.records")?;
        store.save_volume(lock, &made)
    }
}

/// A disk is as large as its record says, and the record says what the disk in the archive takes: the project's limits are about
/// that.
fn settle_size(store: &Store, key: &VolumeKey, driver: &dyn Driver, record: &mut CustomVolume) -> Result<()> {
    let volume = data(key)?;
    let found = block::size(driver, &volume)?;
    let wanted = quota::disk_size(&record.config)?;
    if found > wanted.unwrap_or(keys::DISK_SIZE) {
        keys::SIZE.set(&mut record.config, found.to_string());
        restrict::check_volume(store, key, None, &record.config)?;
    }
    wanted.map_or(Ok(()), |size| block::grow(driver, &volume, size))
}
