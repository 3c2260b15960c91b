//! Records of instances.
//!
//! A persistent instance's records lie under `$STATE`, an ephemeral one's under `$RUN` and are not synced: they end with
//! the boot anyway (design, section 5). Readers look at both places. `instance.toml` makes an instance exist: it goes first at deletion. What the program filled in is part of it until that changes, as it does at the first start: then
//! `volatile.toml` counts.

use super::atomic::Durability;
use super::dir::{self, Dir};
use super::layout::{INSTANCE_FILE, SNAPSHOTS, VOLATILE_FILE, rel};
use super::lock::{Exclusive, Held, InstanceKey};
use super::record;
use super::types::Snapshot;
use super::{Store, trash};
use crate::base::names::{InstanceName, ProjectName, SnapshotName};
use crate::base::parallel;
use crate::error::{Context, Error, Result};
use crate::fault;
use crate::model::instance::{Instance, Volatile};
use std::path::{Path, PathBuf};

pub(super) type InstanceLock = Held<InstanceKey, Exclusive>;

/// Where an instance's records lie.
pub(super) struct Place<'a> {
    pub(super) base: &'a Dir,
    rel: PathBuf,
    pub(super) durable: bool,
}

impl Place<'_> {
    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.rel.join(name)
    }
    fn exists(&self) -> Result<bool> {
        let at = self.file(INSTANCE_FILE);
        self.base.exists(&at).with_context(|| format!("Failed checking \"{}\"", self.base.path(at).display()))
    }
    /// `wanted` where it counts, else nothing.
    pub(super) fn sync(&self, wanted: Durability) -> Durability {
        if self.durable { wanted } else { Durability::Fast }
    }
}

/// What is recorded of an instance; see [`Store::instance_records`].
#[derive(Debug, Clone)]
pub struct Records {
    /// What the user said.
    pub instance: Instance,
    /// What the program filled in; the default unless asked for.
    pub volatile: Volatile,
    /// Number of snapshots; 0 unless asked for.
    pub snapshots: usize,
}

impl Store {
    /// Both places of an instance, the persistent one first.
    pub(super) fn places(&self, p: &ProjectName, n: &InstanceName) -> impl Iterator<Item = Place<'_>> {
        let kept = self.state.as_ref().map(|base| Place { base, rel: rel::instance_dir(p, n), durable: true });
        let ephemeral = self.run.as_ref().map(|base| Place { base, rel: rel::ephemeral_dir(p, n), durable: false });
        kept.into_iter().chain(ephemeral)
    }

    /// The place where the instance is.
    pub(super) fn place(&self, p: &ProjectName, n: &InstanceName) -> Result<Place<'_>> {
        for place in self.places(p, n) {
            if place.exists()? {
                return Ok(place);
            }
        }
        Err(Error::not_found("Instance not found"))
    }

    /// What the user said about an instance; `None` if there is none.
    ///
    /// # Errors
    /// The record is damaged or cannot be read.
    pub fn instance(&self, p: &ProjectName, n: &InstanceName) -> Result<Option<Instance>> {
        for place in self.places(p, n) {
            if let Some(found) = record::read(place.base, place.file(INSTANCE_FILE))? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// Whether the name is taken, without reading the record.
    ///
    /// # Errors
    /// The state folder cannot be read.
    pub fn instance_exists(&self, p: &ProjectName, n: &InstanceName) -> Result<bool> {
        for place in self.places(p, n) {
            if place.exists()? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// All instances of a project by name, each with its record or what is wrong with it.
    ///
    /// # Errors
    /// The folder cannot be listed.
    pub fn instances(&self, p: &ProjectName) -> Result<Vec<(InstanceName, Result<Instance>)>> {
        self.each_instance(p, |folder, name| record::read(folder, format!("{name}/{INSTANCE_FILE}")))
    }

    /// The names alone: no record is read.
    ///
    /// # Errors
    /// The folder cannot be listed.
    pub fn instance_names(&self, p: &ProjectName) -> Result<Vec<InstanceName>> {
        let all = self.each_instance(p, |folder, name| {
            let there = folder.exists(format!("{name}/{INSTANCE_FILE}")).unwrap_or(true);
            Ok(there.then_some(()))
        })?;
        Ok(all.into_iter().map(|(n, _)| n).collect())
    }

    /// Those of a name, whatever its case; `lower`: the name in lower case. One listing: nothing is asked of the others.
    ///
    /// # Errors
    /// The folder cannot be listed.
    pub fn instances_called(&self, p: &ProjectName, lower: &str) -> Result<Vec<(InstanceName, Result<Instance>)>> {
        self.each_instance(p, |folder, name| match name.as_str().to_lowercase() == lower {
            true => record::read(folder, format!("{name}/{INSTANCE_FILE}")),
            false => Ok(None),
        })
    }

    /// What `row` makes of each instance of a project, by name, of as much of its records as is asked for; in one pass. `volatile`:
    /// whether the volatile record of this instance is to be read.
    ///
    /// # Errors
    /// The folder cannot be listed.
    pub fn instance_records<T: Send>(
        &self,
        p: &ProjectName,
        volatile: impl Fn(&Instance) -> bool + Sync,
        snapshots: bool,
        row: impl Fn(&InstanceName, Result<Records>) -> T + Sync,
    ) -> Result<Vec<T>> {
        let records = |folder: &Dir, name: &InstanceName| {
            let Some(instance) = record::read::<Instance>(folder, format!("{name}/{INSTANCE_FILE}"))? else {
                return Ok(None);
            };
            let mut records = Records { instance, volatile: Volatile::default(), snapshots: 0 };
            if volatile(&records.instance) {
                let read = record::read(folder, format!("{name}/{VOLATILE_FILE}"))?;
                records.volatile = read.unwrap_or_else(|| records.instance.volatile_at_creation());
            }
            if snapshots && let Some((_, files)) = dir::list(folder, format!("{name}/{SNAPSHOTS}"))? {
                records.snapshots = files.iter().filter(|f| f.ends_with(".toml")).count();
            }
            Ok(Some(records))
        };
        let all =
            self.each_instance(p, |folder, name| Ok(records(folder, name).transpose().map(|found| row(name, found))))?;
        all.into_iter().map(|(_, row)| row).collect()
    }

    /// Reads of each instance by several threads where there are many.
    fn each_instance<T: Send>(
        &self,
        p: &ProjectName,
        read: impl Fn(&Dir, &InstanceName) -> Result<Option<T>> + Sync,
    ) -> Result<Vec<(InstanceName, Result<T>)>> {
        let mut out = Vec::new();
        let places =
            [self.state.as_ref().map(|d| (d, rel::instances(p))), self.run.as_ref().map(|d| (d, rel::ephemeral(p)))];
        for (base, folder) in places.into_iter().flatten() {
            let Some((folder, names)) = dir::list(base, folder)? else { continue };
            let one = |name: String| {
                // A folder without a record is not an instance (yet, or any more).
                let name = InstanceName::parse(&name).ok()?;
                let found = read(&folder, &name).transpose()?;
                Some((name, found))
            };
            out.extend(parallel::map(names, one).into_iter().flatten());
        }
        out.sort_by(|a, b| a.0.cmp(&b.0));
        // In both places only while a persistent copy is being made of an ephemeral one: the persistent one counts.
        out.dedup_by(|b, a| a.0 == b.0);
        Ok(out)
    }

    /// What the program filled in; the default if nothing yet.
    ///
    /// # Errors
    /// The record is damaged or cannot be read.
    pub fn volatile(&self, p: &ProjectName, n: &InstanceName) -> Result<Volatile> {
        match self.volatile_record(p, n)? {
            Some(found) => Ok(found),
            None => Ok(self.instance(p, n)?.map(|i| i.volatile_at_creation()).unwrap_or_default()),
        }
    }

    /// The same, of an instance whose record has been read: one record less is, where it never started.
    ///
    /// # Errors
    /// As [`Store::volatile`].
    pub fn volatile_of(&self, p: &ProjectName, n: &InstanceName, instance: &Instance) -> Result<Volatile> {
        Ok(self.volatile_record(p, n)?.unwrap_or_else(|| instance.volatile_at_creation()))
    }

    fn volatile_record(&self, p: &ProjectName, n: &InstanceName) -> Result<Option<Volatile>> {
        for place in self.places(p, n) {
            if let Some(found) = record::read(place.base, place.file(VOLATILE_FILE))? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// Where the volatile record of an instance lies, for a journal.
    ///
    /// # Errors
    /// Not found.
    pub fn volatile_path(&self, p: &ProjectName, n: &InstanceName) -> Result<PathBuf> {
        let place = self.place(p, n)?;
        Ok(place.base.path(place.file(VOLATILE_FILE)))
    }

    /// Where the record of an instance lies, for a journal.
    ///
    /// # Errors
    /// Not found.
    pub fn instance_path(&self, p: &ProjectName, n: &InstanceName) -> Result<PathBuf> {
        let place = self.place(p, n)?;
        Ok(place.base.path(place.file(INSTANCE_FILE)))
    }

    /// Writes the record of a new instance: the commit point of its creation. Syncs one file and one folder; for an
    /// ephemeral instance nothing.
    ///
    /// # Errors
    /// Exists, or an I/O error.
    pub fn create_instance(&self, lock: &InstanceLock, instance: &Instance, volatile: &Volatile) -> Result<()> {
        self.publish_instance(lock, instance, volatile, Durability::Durable)
    }

    /// The same, synced as `sync` says: after [`Durability::Whole`] the caller has [`Store::sync_instance`] to call.
    ///
    /// # Errors
    /// As [`Store::create_instance`].
    pub fn publish_instance(
        &self,
        lock: &InstanceLock,
        instance: &Instance,
        volatile: &Volatile,
        sync: Durability,
    ) -> Result<()> {
        let (p, n) = (&lock.key().project, &lock.key().name);
        if self.instance_exists(p, n)? {
            return Err(Error::exists(format!("Instance \"{n}\" already exists")));
        }
        let (base, rel) = match instance.ephemeral {
            true => (self.run_mut()?, rel::ephemeral_dir(p, n)),
            false => (self.state_mut()?, rel::instance_dir(p, n)),
        };
        publish(&Place { base, rel, durable: !instance.ephemeral }, instance, volatile, sync)
    }

    /// Writes the records of snapshots of an instance that is to be created: they are there with it.
    ///
    /// # Errors
    /// An I/O error.
    pub fn begin_snapshots(
        &self,
        lock: &InstanceLock,
        ephemeral: bool,
        all: &[(SnapshotName, Snapshot)],
    ) -> Result<()> {
        let (p, n) = (&lock.key().project, &lock.key().name);
        let (base, rel) = match ephemeral {
            true => (self.run_mut()?, rel::ephemeral_dir(p, n)),
            false => (self.state_mut()?, rel::instance_dir(p, n)),
        };
        let place = Place { base, rel, durable: !ephemeral };
        place.base.make_all(place.file(SNAPSHOTS), 0o700).context("Failed creating the snapshot folder")?;
        all.iter().try_for_each(|(name, snapshot)| {
            let at = place.file(&format!("{SNAPSHOTS}/{name}.toml"));
            record::write(place.base, at, snapshot, place.sync(Durability::Durable))
        })
    }

    /// Has on disk what is in the folder of an instance; of an ephemeral one nothing need be.
    ///
    /// # Errors
    /// Not found, or an I/O error.
    pub fn sync_instance(&self, lock: &InstanceLock) -> Result<()> {
        let place = self.place(&lock.key().project, &lock.key().name)?;
        let fail = || format!("Failed writing \"{}\"", place.base.path(&place.rel).display());
        if place.durable { place.base.dir(&place.rel).and_then(|d| d.sync()).with_context(fail) } else { Ok(()) }
    }

    /// Replaces what the user said. An ephemeral instance that became persistent moves to `$STATE` with all it has.
    ///
    /// # Errors
    /// Not found (it must exist), or an I/O error: then the old record still counts.
    pub fn save_instance(&self, lock: &InstanceLock, instance: &Instance) -> Result<()> {
        let (p, n) = (&lock.key().project, &lock.key().name);
        let place = self.place(p, n)?;
        if place.durable || instance.ephemeral {
            self.state_mut()?;
            let mut whole = instance.clone();
            if whole.volatile.is_none() {
                whole.volatile = self.instance(p, n)?.and_then(|old| old.volatile);
            }
            return record::write(place.base, place.file(INSTANCE_FILE), &whole, place.sync(Durability::Durable));
        }
        let kept = Place { base: self.state_mut()?, rel: rel::instance_dir(p, n), durable: true };
        for (name, snapshot) in self.snapshots(p, n)? {
            kept.base.make_all(kept.file(SNAPSHOTS), 0o700).context("Failed creating the snapshot folder")?;
            record::write(kept.base, kept.file(&format!("{SNAPSHOTS}/{name}.toml")), &snapshot?, Durability::Whole)?;
        }
        publish(&kept, instance, &self.volatile(p, n)?, Durability::Durable)?;
        remove_records(&place)
    }

    /// Replaces the record where it lies, without a lock: for the actions of a journal.
    pub(super) fn replace_instance(&self, p: &ProjectName, n: &InstanceName, instance: &Instance) -> Result<()> {
        let place = self.place(p, n)?;
        record::write(place.base, place.file(INSTANCE_FILE), instance, place.sync(Durability::Durable))
    }

    /// Replaces what the program filled in. After a power cut the old or the new record is there, whole; nothing is
    /// written if nothing changed.
    ///
    /// # Errors
    /// Not found, or an I/O error.
    pub fn save_volatile(&self, lock: &InstanceLock, volatile: &Volatile) -> Result<()> {
        self.state_mut()?;
        let (p, n) = (&lock.key().project, &lock.key().name);
        let place = self.place(p, n)?;
        let at = place.file(VOLATILE_FILE);
        if self.volatile(p, n).is_ok_and(|old| old == *volatile) {
            return Ok(());
        }
        record::write(place.base, at, volatile, place.sync(Durability::Whole))
    }

    /// Removes all records of an instance, `instance.toml` first. Nothing there is fine.
    ///
    /// # Errors
    /// An I/O error.
    pub fn delete_instance(&self, lock: &InstanceLock) -> Result<()> {
        self.forget_instance(&lock.key().project, &lock.key().name)
    }

    pub(super) fn forget_instance(&self, p: &ProjectName, n: &InstanceName) -> Result<()> {
        self.state_mut()?;
        self.places(p, n).try_for_each(|place| remove_records(&place))
    }

    /// Gives the records another name.
    ///
    /// # Errors
    /// Not found; Exists: the new name is taken; or an I/O error.
    pub fn rename_instance(&self, old: &InstanceLock, new: &InstanceLock) -> Result<()> {
        let (from, to) = (old.key(), new.key());
        if self.instance_exists(&to.project, &to.name)? {
            return Err(Error::exists(format!("Instance \"{}\" already exists", to.name)));
        }
        self.move_records(from, to)
    }

    pub(super) fn move_records(&self, from: &InstanceKey, to: &InstanceKey) -> Result<()> {
        self.state_mut()?;
        let place = self.place(&from.project, &from.name)?;
        let target = match place.durable {
            true => rel::instance_dir(&to.project, &to.name),
            false => rel::ephemeral_dir(&to.project, &to.name),
        };
        let fail = || format!("Failed renaming \"{}\"", place.base.path(&place.rel).display());
        let above = target.parent().unwrap_or(Path::new(""));
        let folder = place.base.make_all(above, 0o700).with_context(fail)?;
        let (source, a) = place.base.parent(&place.rel).with_context(fail)?;
        // An empty folder left there by a killed creation goes; anything else makes the rename fail.
        let _ = place.base.rmdir(&target);
        fault::point("store.instance.rename")?;
        dir::rename(&source, a, &folder, target.file_name().unwrap_or_default(), false).with_context(fail)?;
        fault::point("store.instance.renamed")?;
        if place.durable {
            folder.sync().with_context(fail)?;
        }
        Ok(())
    }
}

/// One record for both: what the program filled in gets its own file when it changes for the first time.
fn publish(place: &Place<'_>, instance: &Instance, volatile: &Volatile, sync: Durability) -> Result<()> {
    let fail = || format!("Failed creating \"{}\"", place.base.path(&place.rel).display());
    place.base.make_all(&place.rel, 0o700).with_context(fail)?;
    // One folder sync: the new folder's. Its own entry in the folder above goes to disk with it on ext4, xfs and btrfs, which
    // log a new folder together with its parents' entries; should another file system lose it, the instance is absent as a
    // whole and `doctor` finds its volume.
    let whole = Instance { volatile: Some(volatile.clone()), ..instance.clone() };
    record::write(place.base, place.file(INSTANCE_FILE), &whole, place.sync(sync))?;
    fault::point("store.instance.published")
}

/// First the file that makes it an instance, then the folder.
fn remove_records(place: &Place<'_>) -> Result<()> {
    let fail = || format!("Failed removing \"{}\"", place.base.path(&place.rel).display());
    place.base.unlink(place.file(INSTANCE_FILE)).with_context(fail)?;
    fault::point("store.instance.forgotten")?;
    let folder = match place.base.parent(&place.rel) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        other => other.with_context(fail)?,
    };
    trash::remove_tree(&folder.0, folder.1).with_context(fail)?;
    if place.durable { folder.0.sync().with_context(fail) } else { Ok(()) }
}
