//! `storage volume copy` and `move`: within a pool as its driver does it, else file by file.
//!
//! The record of the copy comes last: with it the volume is there, snapshots and all. Moving to another pool or project is a
//! copy that is whole before the source goes; moving within is renaming.

use super::quiet::{Quiet, takes_its_time};
use super::{Of, change, data, named, named_snapshot, need, need_pool, note, rename, users};
use crate::base::idmap::IdMap;
use crate::base::names::{PoolName, SnapshotName};
use crate::base::time;
use crate::error::{Context, Error, Result};
use crate::fault;
use crate::model::keys::volume as keys;
use crate::model::project::Feature;
use crate::model::volume::{ContentType, CustomVolume};
use crate::ops::crossing::{Crossing, Way, at_rest};
use crate::ops::record_copy;
use crate::ops::{features, pool, quota, restrict};
use crate::storage::{Driver, Ids, Volume, block, copy_tree};
use crate::store::lock::{Exclusive, Held, PoolKey, Shared, VolumeKey};
use crate::store::{Action, Journal, Store, journal};
use crate::sys::path::{self, Links};
use std::collections::BTreeSet;
use std::os::fd::AsFd;
use std::path::Path;

/// What is copied.
#[derive(Debug, Clone, Copy)]
pub struct Source<'a> {
    /// The volume.
    pub of: Of<'a>,
    /// A snapshot of it; none: the volume.
    pub snapshot: Option<&'a SnapshotName>,
    /// Without its snapshots.
    pub volume_only: bool,
}

/// Makes `to` a copy.
///
/// # Errors
/// Not found; Exists: `to`; no room. Nothing is left then.
pub fn copy(store: &Store, source: Source<'_>, to: Of<'_>) -> Result<()> {
    let (old, new) = (source.of.key(store)?, to.key(store)?);
    let _project = restrict::hold(store, &new.project, "copy")?;
    let _pools = both(store, source.of.pool, to.pool)?;
    need_pool(store, to.pool)?;
    if old == new {
        return Err(super::taken());
    }
    // A snapshot does not change.
    let slow = source.snapshot.is_none() && (old.pool != new.pool || takes_its_time(store, &old)?);
    let ((from, held), quiet) = Quiet::with(store, &old, ("copy", slow), || rename::pair(store, &old, &new, "copy"))?;
    let (record, snapshots) = new_record(store, (&old, &new), source.snapshot, source.volume_only)?;
    let ends = Ends { from: &from, to: &held, snapshot: source.snapshot, snapshots: &snapshots };
    journal::run(store, "copy", &[&from, &held], |journal| {
        ends.note(store, journal)?;
        journal.commits_by(&store.layout().volume_record(&new))?;
        fault::point("volume.copy.begin")?;
        ends.cross(store, journal, &record, Some(&quiet))?;
        ends.finish(store, &record)
    })
    .with_context(|| format!("Failed copying storage volume \"{}\"", old.name))?;
    record_copy::volume(store, &new);
    note(store, &new, "storage-volume-created");
    Ok(())
}

/// Both pools, once each and in order.
fn both(store: &Store, a: &PoolName, b: &PoolName) -> Result<Vec<Held<PoolKey, Shared>>> {
    BTreeSet::from([a, b]).into_iter().map(|pool| store.lock_pool_shared(pool)).collect()
}

/// The record of a copy, and the snapshots that it gets. Locks: both volumes.
///
/// # Errors
/// Not found: the source; Exists: the copy; the limits of its project.
pub(super) fn new_record(
    store: &Store,
    (old, new): (&VolumeKey, &VolumeKey),
    snapshot: Option<&SnapshotName>,
    volume_only: bool,
) -> Result<(CustomVolume, Vec<SnapshotName>)> {
    let volume = need(store, old)?;
    change::free(store, new)?;
    let record = match snapshot {
        Some(name) => {
            let then = store.volume_snapshot(old, name)?.ok_or_else(super::snapshot::not_found)?;
            CustomVolume { config: then.config, description: then.description, ..volume }
        }
        None => volume,
    };
    let mut record = CustomVolume { created_at: time::now(), ..record };
    let driver = pool::need(store, &new.pool)?;
    keys::keep_of(driver.name(), &mut record.config);
    if old.pool != new.pool {
        let own_size = keys::SIZE.get(&record.config).is_some();
        let defaults = store.pool(&new.pool)?.map(|pool| pool.config).unwrap_or_default();
        keys::apply_defaults(&defaults, record.content_type, keys::Origin::Elsewhere, &mut record.config)?;
        if record.content_type.is_image() && !own_size {
            // It is as large as it was.
            keys::SIZE.remove(&mut record.config);
        }
        keys::check(&new.name, record.content_type, &record.config).context("Invalid defaults of the storage pool")?;
    }
    restrict::check_volume(store, new, None, &record.config)?;
    let snapshots = match snapshot.is_some() || volume_only {
        true => Vec::new(),
        false => {
            let mut all = store.volume_snapshots(old)?;
            all.sort_by_key(|(_, record)| record.as_ref().ok().map(|record| record.created_at));
            all.into_iter().map(|(name, _)| name).collect()
        }
    };
    Ok((record, snapshots))
}

/// What is copied where; the steps, in this order.
pub(super) struct Ends<'a> {
    pub from: &'a Held<VolumeKey, Exclusive>,
    pub to: &'a Held<VolumeKey, Exclusive>,
    pub snapshot: Option<&'a SnapshotName>,
    pub snapshots: &'a [SnapshotName],
}

impl Ends<'_> {
    /// How to undo what comes; but for the record.
    pub fn note(&self, store: &Store, journal: &mut Journal<'_>) -> Result<()> {
        let new = self.to.key();
        journal.undo(Action::RemoveVolume(named(new)))?;
        journal.undo(Action::RemoveTree { path: store.layout().volume_snapshots_dir(new) })?;
        self.snapshots.iter().try_for_each(|name| journal.undo(Action::RemoveVolume(named_snapshot(new, name))))
    }

    /// The snapshots with their records, and the data, which `quiet` has nobody change; none: it is at rest.
    pub fn cross(
        &self,
        store: &Store,
        journal: &mut Journal<'_>,
        record: &CustomVolume,
        quiet: Option<&Quiet>,
    ) -> Result<()> {
        let (old, new) = (self.from.key(), self.to.key());
        let (from, to) = (pool::need(store, &old.pool)?, pool::need(store, &new.pool)?);
        let (from, to) = (from.as_ref(), to.as_ref());
        quota::plan_volume(to, record)?;
        let (a, b) = (data(old)?, data(new)?);
        let named = |of: &SnapshotName| named_snapshot(old, of);
        let files = |a: &Volume, b: &Volume| stage(from, to, (a, b), record.content_type);
        let mut crossing = Crossing::new(Way {
            from,
            to,
            within: old.pool == new.pool,
            volume: &a,
            named: &named,
            files: &files,
            is_disk: record.content_type.is_image(),
        });
        self.each_snapshot(store, record, &mut |a, b| crossing.copy(journal, (a, b), &mut at_rest))?;
        match (self.snapshot, quiet) {
            (Some(snapshot), _) => crossing.copy(journal, (&a.snapshot(snapshot)?, &b), &mut at_rest),
            (None, None) => crossing.copy(journal, (&a, &b), &mut at_rest),
            (None, Some(quiet)) => {
                crossing.copy(journal, (&a, &b), &mut |journal, body| quiet.copy(store, journal, body))
            }
        }
    }

    fn each_snapshot(
        &self,
        store: &Store,
        record: &CustomVolume,
        copy: &mut dyn FnMut(&Volume, &Volume) -> Result<()>,
    ) -> Result<()> {
        let (old, new) = (self.from.key(), self.to.key());
        let driver = pool::need(store, &new.pool)?;
        quota::plan_volume(driver.as_ref(), record)?;
        let (a, b) = (data(old)?, data(new)?);
        for snapshot in self.snapshots {
            copy(&a.snapshot(snapshot)?, &b.snapshot(snapshot)?)?;
            if let Some(mut found) = store.volume_snapshot(old, snapshot)? {
                keys::keep_of(driver.name(), &mut found.config);
                store.save_volume_snapshot(self.to, snapshot, &found)?;
            }
            fault::point("volume.copy.snapshot")?;
        }
        Ok(())
    }

    /// The snapshots with their records; with [`Ends::volume`] instead of [`Ends::cross`], where several volumes are copied in the
    /// same moment.
    pub fn snapshots(&self, store: &Store, record: &CustomVolume) -> Result<()> {
        self.each_snapshot(store, record, &mut |a, b| self.one(store, (a, b), record.content_type))
    }

    /// The data; nothing changes it.
    pub fn volume(&self, store: &Store, record: &CustomVolume) -> Result<()> {
        let a = data(self.from.key())?;
        let a = self.snapshot.map_or(Ok(a.clone()), |snapshot| a.snapshot(snapshot))?;
        self.one(store, (&a, &data(self.to.key())?), record.content_type)
    }

    fn one(&self, store: &Store, (a, b): (&Volume, &Volume), content: ContentType) -> Result<()> {
        let (old, new) = (self.from.key(), self.to.key());
        let from = pool::need(store, &old.pool)?;
        if old.pool == new.pool {
            return from.copy(a, b);
        }
        let to = pool::need(store, &new.pool)?;
        stage(from.as_ref(), to.as_ref(), (a, b), content)?;
        to.commit_volume(b)
    }

    /// The size and the record.
    pub fn finish(&self, store: &Store, record: &CustomVolume) -> Result<()> {
        let new = self.to.key();
        quota::brought_volume(pool::need(store, &new.pool)?.as_ref(), &data(new)?, record)?;
        fault::point("volume.copy.data")?;
        store.save_volume(self.to, record)?;
        fault::point("volume.copy.record")
    }
}

/// Puts a copy, made file by file and on disk, where the driver puts `b` together.
pub(super) fn stage(
    from: &dyn Driver,
    to: &dyn Driver,
    (a, b): (&Volume, &Volume),
    content: ContentType,
) -> Result<()> {
    let source = super::folder_of(from, a)?;
    if content.is_image() {
        let size = block::size(from, a)?;
        to.plan_disk(size);
        if to.exists(b)? {
            to.make_room(b, size)?;
        }
    }
    let folder = |path: &Path| path::open_dir(path::open_root(path)?.as_fd(), Path::new("."), Links::Refuse);
    let target = to.begin_volume(b)?;
    if content.is_image() {
        block::prepare(to, &target)?;
    }
    let target = folder(&target)?;
    let ids = Ids::change(&from.owners(a)?, &IdMap::default());
    copy_tree(folder(&source)?.as_fd(), target.as_fd(), &ids, &[])?;
    Ok(rustix::fs::syncfs(&target)?)
}

/// Moves a volume to another name, pool or project. Within its project its users follow.
///
/// # Errors
/// As [`copy`] and [`rename::rename`]; Conflict: it is in use and is to leave its project.
pub fn relocate(store: &Store, source: Source<'_>, to: Of<'_>) -> Result<()> {
    let (old, new) = (source.of.key(store)?, to.key(store)?);
    if old.pool == new.pool && old.project == new.project {
        return rename::rename(store, source.of, to.name);
    }
    if old.project == new.project {
        let projects = features::lock_sharing(store, &old.project, Feature::Volumes, "move")?;
        let _pools = both(store, source.of.pool, to.pool)?;
        need_pool(store, to.pool)?;
        return rename::relocate(store, projects, &old, &new);
    }
    if !users(store, &old)?.is_empty() {
        return Err(Error::conflict("The storage volume is still in use")
            .hint("detach it first: only within its project do instances follow it"));
    }
    copy(store, source, to)?;
    change::delete(store, source.of)
}
