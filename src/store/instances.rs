//! Records of instances and their snapshots.
//!
//! A persistent instance's records lie under `$STATE`, an ephemeral one's under `$RUN` and are not synced: they end with
//! the boot anyway (design, section 5). Readers look at both places. `instance.toml` makes an instance exist: it is
//! published last at creation and goes first at deletion.

use super::atomic::{self, Durability};
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
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

type InstanceLock = Held<InstanceKey, Exclusive>;

/// Where an instance's records lie.
struct Place<'a> {
    base: &'a Dir,
    rel: PathBuf,
    durable: bool,
}

impl Place<'_> {
    fn file(&self, name: &str) -> PathBuf {
        self.rel.join(name)
    }
    fn exists(&self) -> Result<bool> {
        let at = self.file(INSTANCE_FILE);
        self.base.exists(&at).with_context(|| format!("Failed checking \"{}\"", self.base.path(at).display()))
    }
    /// `wanted` where it counts, else nothing.
    fn sync(&self, wanted: Durability) -> Durability {
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
    fn places(&self, p: &ProjectName, n: &InstanceName) -> impl Iterator<Item = Place<'_>> {
        let kept = self.state.as_ref().map(|base| Place { base, rel: rel::instance_dir(p, n), durable: true });
        let ephemeral = self.run.as_ref().map(|base| Place { base, rel: rel::ephemeral_dir(p, n), durable: false });
        kept.into_iter().chain(ephemeral)
    }

    /// The place where the instance is.
    fn place(&self, p: &ProjectName, n: &InstanceName) -> Result<Place<'_>> {
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

    /// All instances of a project by name, with as much of their records as is asked for, in one pass. `volatile`: whether
    /// the volatile record of this instance is to be read.
    ///
    /// # Errors
    /// The folder cannot be listed.
    pub fn instance_records(
        &self,
        p: &ProjectName,
        volatile: impl Fn(&Instance) -> bool + Sync,
        snapshots: bool,
    ) -> Result<Vec<(InstanceName, Result<Records>)>> {
        self.each_instance(p, |folder, name| {
            let Some(instance) = record::read::<Instance>(folder, format!("{name}/{INSTANCE_FILE}"))? else {
                return Ok(None);
            };
            let mut records = Records { instance, volatile: Volatile::default(), snapshots: 0 };
            if volatile(&records.instance) {
                records.volatile = record::read(folder, format!("{name}/{VOLATILE_FILE}"))?.unwrap_or_default();
            }
            if snapshots && let Some((_, files)) = dir::list(folder, format!("{name}/{SNAPSHOTS}"))? {
                records.snapshots = files.iter().filter(|f| f.ends_with(".toml")).count();
            }
            Ok(Some(records))
        })
    }

    /// Reads of each instance by several threads where there are many.
    fn each_instance<T: Send>(
        &self,
        p: &ProjectName,
        read: impl Fn(&Dir, &str) -> Result<Option<T>> + Sync,
    ) -> Result<Vec<(InstanceName, Result<T>)>> {
        let mut out = Vec::new();
        let places =
            [self.state.as_ref().map(|d| (d, rel::instances(p))), self.run.as_ref().map(|d| (d, rel::ephemeral(p)))];
        for (base, folder) in places.into_iter().flatten() {
            let Some((folder, names)) = dir::list(base, folder)? else { continue };
            let one = |name: String| {
                // A folder without a record is not an instance (yet, or any more).
                InstanceName::parse(&name).ok().zip(read(&folder, &name).transpose())
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
        for place in self.places(p, n) {
            if let Some(found) = record::read(place.base, place.file(VOLATILE_FILE))? {
                return Ok(found);
            }
        }
        Ok(Volatile { format: 1, ..Volatile::default() })
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

    /// Writes the records of a new instance: the commit point of its creation. Syncs two files and one folder; for an
    /// ephemeral instance nothing.
    ///
    /// # Errors
    /// Exists, or an I/O error.
    pub fn create_instance(&self, lock: &InstanceLock, instance: &Instance, volatile: &Volatile) -> Result<()> {
        let (p, n) = (&lock.key().project, &lock.key().name);
        if self.instance_exists(p, n)? {
            return Err(Error::exists(format!("Instance \"{n}\" already exists")));
        }
        let (base, rel) = match instance.ephemeral {
            true => (self.run_mut()?, rel::ephemeral_dir(p, n)),
            false => (self.state_mut()?, rel::instance_dir(p, n)),
        };
        self.publish_instance(&Place { base, rel, durable: !instance.ephemeral }, instance, volatile)
    }

    fn publish_instance(&self, place: &Place<'_>, instance: &Instance, volatile: &Volatile) -> Result<()> {
        let fail = || format!("Failed creating \"{}\"", place.base.path(&place.rel).display());
        let folder = place.base.make_all(&place.rel, 0o700).with_context(fail)?;
        let sync = place.sync(Durability::Whole);
        let (v, i) = (OsStr::new(VOLATILE_FILE), OsStr::new(INSTANCE_FILE));
        let (v_text, i_text) = (record::render(volatile)?, record::render(instance)?);
        atomic::stage(&folder, &[(v, v_text.as_bytes()), (i, i_text.as_bytes())], record::MODE, sync)?;
        fault::point("store.instance.staged")?;
        atomic::publish(&folder, v, true)?;
        fault::point("store.instance.volatile")?;
        atomic::publish(&folder, i, true)?;
        fault::point("store.instance.published")?;
        if place.durable {
            // One folder sync: the new folder's. Its own entry in the folder above goes to disk with it on ext4, xfs and
            // btrfs, which log a new folder together with its parents' entries; should another file system lose it, the
            // instance is absent as a whole and `doctor` finds its volume.
            folder.sync().with_context(fail)?;
        }
        Ok(())
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
            return record::write(place.base, place.file(INSTANCE_FILE), instance, place.sync(Durability::Durable));
        }
        let kept = Place { base: self.state_mut()?, rel: rel::instance_dir(p, n), durable: true };
        for (name, snapshot) in self.snapshots(p, n)? {
            kept.base.make_all(kept.file(SNAPSHOTS), 0o700).context("Failed creating the snapshot folder")?;
            record::write(kept.base, kept.file(&format!("{SNAPSHOTS}/{name}.toml")), &snapshot?, Durability::Whole)?;
        }
        self.publish_instance(&kept, instance, &self.volatile(p, n)?)?;
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
        let old = record::read_bytes(place.base, &at)?;
        if old.as_deref() == Some(record::render(volatile)?.as_bytes()) {
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

    /// All snapshots of an instance by name.
    ///
    /// # Errors
    /// The folder cannot be listed.
    pub fn snapshots(&self, p: &ProjectName, n: &InstanceName) -> Result<Vec<(SnapshotName, Result<Snapshot>)>> {
        let mut out = Vec::new();
        for place in self.places(p, n) {
            let Some((folder, names)) = dir::list(place.base, place.file(SNAPSHOTS))? else { continue };
            for file in names {
                let Some(name) = file.strip_suffix(".toml").and_then(|n| SnapshotName::parse(n).ok()) else { continue };
                if let Some(found) = record::read(&folder, &file).transpose() {
                    out.push((name, found));
                }
            }
            if !out.is_empty() {
                break;
            }
        }
        Ok(out)
    }

    /// One snapshot; `None` if there is none.
    ///
    /// # Errors
    /// The record is damaged or cannot be read.
    pub fn snapshot(&self, p: &ProjectName, n: &InstanceName, s: &SnapshotName) -> Result<Option<Snapshot>> {
        for place in self.places(p, n) {
            if let Some(found) = record::read(place.base, place.file(&format!("{SNAPSHOTS}/{s}.toml")))? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// Creates or replaces the record of a snapshot: the commit point of taking one.
    ///
    /// # Errors
    /// Not found: no such instance; or an I/O error.
    pub fn save_snapshot(&self, lock: &InstanceLock, s: &SnapshotName, snapshot: &Snapshot) -> Result<()> {
        self.state_mut()?;
        let place = self.place(&lock.key().project, &lock.key().name)?;
        let fail = || format!("Failed creating the snapshot folder of \"{}\"", lock.key().name);
        place.base.make_all(place.file(SNAPSHOTS), 0o700).with_context(fail)?;
        let at = place.file(&format!("{SNAPSHOTS}/{s}.toml"));
        record::write(place.base, at, snapshot, place.sync(Durability::Durable))
    }

    /// Removes the record of a snapshot. `false`: there was none.
    ///
    /// # Errors
    /// An I/O error.
    pub fn delete_snapshot(&self, lock: &InstanceLock, s: &SnapshotName) -> Result<bool> {
        self.state_mut()?;
        let place = self.place(&lock.key().project, &lock.key().name)?;
        let at = place.file(&format!("{SNAPSHOTS}/{s}.toml"));
        let was = if place.durable { place.base.unlink_durable(&at) } else { place.base.unlink(&at) };
        was.with_context(|| format!("Failed removing \"{}\"", place.base.path(&at).display()))
    }

    /// Gives the record of a snapshot another name.
    ///
    /// # Errors
    /// Exists, or an I/O error.
    pub fn rename_snapshot(&self, lock: &InstanceLock, from: &SnapshotName, to: &SnapshotName) -> Result<()> {
        self.state_mut()?;
        let place = self.place(&lock.key().project, &lock.key().name)?;
        let fail = || format!("Failed renaming snapshot \"{from}\"");
        let folder = place.base.dir(place.file(SNAPSHOTS)).with_context(fail)?;
        let (a, b) = (format!("{from}.toml"), format!("{to}.toml"));
        match dir::rename(&folder, OsStr::new(&a), &folder, OsStr::new(&b), false) {
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {
                return Err(Error::exists(format!("Snapshot \"{to}\" already exists")));
            }
            other => other.with_context(fail)?,
        }
        if place.durable { folder.sync().with_context(fail) } else { Ok(()) }
    }
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
