//! `storage volume copy` and `move`: within a pool as its driver does it, else file by file.
//!
//! The record of the copy comes last: with it the volume is there, snapshots and all. Moving to another pool or project is a
//! copy that is whole before the source goes; moving within is renaming.

use super::quiet::{Quiet, takes_its_time};
use super::{Of, change, data, named, named_snapshot, need, need_pool, note, rename, users};
use crate::base::names::SnapshotName;
use crate::base::time;
use crate::error::{Context, Error, Result};
use crate::fault;
use crate::model::keys::volume as keys;
use crate::model::volume::{ContentType, CustomVolume};
use crate::ops::crossing::{Crossing, Way, at_rest};
use crate::ops::record_copy;
use crate::ops::{pool, quota, restrict};
use crate::storage::{Driver, Ids, Volume, block, copy_tree};
use crate::store::lock::{Exclusive, Held, VolumeKey};
use crate::store::{Action, Journal, Store, journal};
use crate::sys::path::{self, Links};
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
    let mut pools = [source.of.pool, to.pool];
    pools.sort();
    let _first = store.lock_pool_shared(pools[0])?;
    let _second = (pools[0] != pools[1]).then(|| store.lock_pool_shared(pools[1])).transpose()?;
    need_pool(store, to.pool)?;
    if old == new {
        return Err(super::taken());
    }
    // A snapshot does not change.
    let slow = source.snapshot.is_none() && (old.pool != new.pool || takes_its_time(store, &old)?);
    let ((from, held), quiet) = Quiet::with(store, &old, ("copy", slow), || rename::pair(store, &old, &new, "copy"))?;
    let volume = need(store, &old)?;
    change::free(store, &new)?;
    let record = match source.snapshot {
        Some(name) => {
            let then = store.volume_snapshot(&old, name)?.ok_or_else(super::snapshot::not_found)?;
            CustomVolume { config: then.config, description: then.description, ..volume }
        }
        None => volume,
    };
    let mut record = CustomVolume { created_at: time::now(), ..record };
    keys::keep_of(pool::need(store, &new.pool)?.name(), &mut record.config);
    restrict::check_volume(store, &new, None, &record.config)?;
    let snapshots: Vec<SnapshotName> = match source.snapshot.is_some() || source.volume_only {
        true => Vec::new(),
        false => {
            let mut all = store.volume_snapshots(&old)?;
            all.sort_by_key(|(_, record)| record.as_ref().ok().map(|record| record.created_at));
            all.into_iter().map(|(name, _)| name).collect()
        }
    };
    let ends = Ends { from: &from, to: &held, quiet: &quiet, snapshot: source.snapshot, snapshots: &snapshots };
    journal::run(store, "copy", &[&from, &held], |journal| steps(store, journal, &ends, &record))
        .with_context(|| format!("Failed copying storage volume \"{}\"", old.name))?;
    record_copy::volume(store, &new);
    note(store, &new, "storage-volume-created");
    Ok(())
}

struct Ends<'a> {
    from: &'a Held<VolumeKey, Exclusive>,
    to: &'a Held<VolumeKey, Exclusive>,
    quiet: &'a Quiet,
    snapshot: Option<&'a SnapshotName>,
    snapshots: &'a [SnapshotName],
}

fn steps(store: &Store, journal: &mut Journal<'_>, ends: &Ends<'_>, record: &CustomVolume) -> Result<()> {
    let (old, new) = (ends.from.key(), ends.to.key());
    let drivers = (pool::need(store, &old.pool)?, pool::need(store, &new.pool)?);
    let (a, b) = (data(old)?, data(new)?);
    let (from, to) = (drivers.0.as_ref(), drivers.1.as_ref());
    let named_of = |of: &SnapshotName| named_snapshot(old, of);
    let files = |a: &Volume, b: &Volume| stage(from, to, (a, b), record.content_type);
    let mut crossing = Crossing::new(Way {
        from,
        to,
        within: old.pool == new.pool,
        volume: &a,
        named: &named_of,
        files: &files,
        is_disk: record.content_type.is_image(),
    });
    journal.undo(Action::RemoveVolume(named(new)))?;
    journal.undo(Action::RemoveTree { path: store.layout().volume_snapshots_dir(new) })?;
    for snapshot in ends.snapshots {
        journal.undo(Action::RemoveVolume(named_snapshot(new, snapshot)))?;
    }
    journal.commits_by(&store.layout().volume_record(new))?;
    fault::point("volume.copy.begin")?;
    quota::plan_volume(drivers.1.as_ref(), record)?;
    for snapshot in ends.snapshots {
        crossing.copy(journal, (&a.snapshot(snapshot)?, &b.snapshot(snapshot)?), &mut at_rest)?;
        if let Some(mut found) = store.volume_snapshot(old, snapshot)? {
            keys::keep_of(drivers.1.name(), &mut found.config);
            store.save_volume_snapshot(ends.to, snapshot, &found)?;
        }
        fault::point("volume.copy.snapshot")?;
    }
    match ends.snapshot {
        Some(snapshot) => crossing.copy(journal, (&a.snapshot(snapshot)?, &b), &mut at_rest)?,
        None => crossing.copy(journal, (&a, &b), &mut |journal, body| ends.quiet.copy(store, journal, body))?,
    }
    quota::new_volume(drivers.1.as_ref(), &b, record)?;
    fault::point("volume.copy.data")?;
    store.save_volume(ends.to, record)?;
    fault::point("volume.copy.record")
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
    copy_tree(folder(&source)?.as_fd(), target.as_fd(), &Ids::none(), &[])?;
    Ok(rustix::fs::syncfs(&target)?)
}

/// Moves a volume to another name, pool or project. Within its pool and project it is renamed, and its users follow.
///
/// # Errors
/// As [`copy`] and [`rename::rename`]; Conflict: it is in use and is to leave its pool or project.
pub fn relocate(store: &Store, source: Source<'_>, to: Of<'_>) -> Result<()> {
    let (old, new) = (source.of.key(store)?, to.key(store)?);
    if old.pool == new.pool && old.project == new.project {
        return rename::rename(store, source.of, to.name);
    }
    if !users(store, &old)?.is_empty() {
        return Err(Error::conflict("The storage volume is still in use")
            .hint("detach it first: only within its pool and project do instances follow it"));
    }
    copy(store, source, to)?;
    change::delete(store, source.of)
}
