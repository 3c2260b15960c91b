//! Records of an instance's snapshots, in a folder beside its own.

use super::Store;
use super::atomic::Durability;
use super::dir;
use super::instances::InstanceLock;
use super::layout::SNAPSHOTS;
use super::record;
use super::types::Snapshot;
use crate::base::names::{InstanceName, ProjectName, SnapshotName};
use crate::error::{Context, Error, Result};
use std::ffi::OsStr;
use std::path::PathBuf;

impl Store {
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

    /// Where the record of a snapshot lies or will lie, for a journal.
    ///
    /// # Errors
    /// Not found: no such instance.
    pub fn snapshot_path(&self, p: &ProjectName, n: &InstanceName, s: &SnapshotName) -> Result<PathBuf> {
        let place = self.place(p, n)?;
        Ok(place.base.path(place.file(&format!("{SNAPSHOTS}/{s}.toml"))))
    }

    /// Removes the record of a snapshot, for the actions of a journal; none there, of a snapshot or an instance, is fine.
    pub(super) fn forget_snapshot(&self, p: &ProjectName, n: &InstanceName, s: &SnapshotName) -> Result<()> {
        self.state_mut()?;
        for place in self.places(p, n) {
            let at = place.file(&format!("{SNAPSHOTS}/{s}.toml"));
            let was = if place.durable { place.base.unlink_durable(&at) } else { place.base.unlink(&at) };
            match was {
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
                other => {
                    other.with_context(|| format!("Failed removing \"{}\"", place.base.path(&at).display()))?;
                }
            }
        }
        Ok(())
    }

    /// Gives the record of a snapshot another name, for the actions of a journal: if it has the old one and not the new.
    pub(super) fn move_snapshot(
        &self,
        (p, n): (&ProjectName, &InstanceName),
        from: &SnapshotName,
        to: &SnapshotName,
    ) -> Result<()> {
        let there = |s: &SnapshotName| -> Result<bool> { Ok(self.snapshot_path(p, n, s)?.exists()) };
        if !there(from)? || there(to)? { Ok(()) } else { self.renamed_snapshot((p, n), from, to) }
    }

    /// Gives the record of a snapshot another name.
    ///
    /// # Errors
    /// Exists, or an I/O error.
    pub fn rename_snapshot(&self, lock: &InstanceLock, from: &SnapshotName, to: &SnapshotName) -> Result<()> {
        self.renamed_snapshot((&lock.key().project, &lock.key().name), from, to)
    }

    fn renamed_snapshot(
        &self,
        (p, n): (&ProjectName, &InstanceName),
        from: &SnapshotName,
        to: &SnapshotName,
    ) -> Result<()> {
        self.state_mut()?;
        let place = self.place(p, n)?;
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
