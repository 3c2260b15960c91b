//! `storage volume copy --refresh`: a volume that is a copy is brought up to date with what it is a copy of.
//!
//! Snapshots that it lacks are copied, those that its source has no more go, and a copy of the source's data takes the place of
//! its own. What it is called and how it is configured stays. All of it counts with the journal's commit, or nothing does.

use super::copy::{Source, stage};
use super::quiet::{Quiet, takes_its_time};
use super::{Of, data, named, named_snapshot, need, need_pool, note, refuse_running, rename, snapshot, users};
use crate::base::names::SnapshotName;
use crate::error::{Context, Error, Result};
use crate::fault;
use crate::model::volume::{ContentType, VolumeSnapshot};
use crate::ops::crossing::{Crossing, Way, at_rest};
use crate::ops::{pool, record_copy};
use crate::storage::Volume;
use crate::store::lock::{Exclusive, Held, VolumeKey};
use crate::store::{Action, Journal, Store, journal};

/// The locks of the source and of the copy.
type Ends<'a> = (&'a Held<VolumeKey, Exclusive>, &'a Held<VolumeKey, Exclusive>);

/// Brings the copy `to` up to date; where there is none, it is made. `exclude_older`: leave out snapshots of the source that
/// are older than the copy's newest.
///
/// # Errors
/// Not found: the source; Conflict: something that runs uses the copy; no room. All is as it was then.
pub fn refresh(store: &Store, source: Source<'_>, to: Of<'_>, exclude_older: bool) -> Result<()> {
    let (old, new) = (source.of.key(store)?, to.key(store)?);
    if old == new {
        return Err(Error::invalid("A volume can't be refreshed from itself"));
    }
    need_pool(store, to.pool)?;
    if store.volume(&new)?.is_none() {
        return super::copy::copy(store, source, to);
    }
    let mut pools = [source.of.pool, to.pool];
    pools.sort();
    let _first = store.lock_pool_shared(pools[0])?;
    let _second = (pools[0] != pools[1]).then(|| store.lock_pool_shared(pools[1])).transpose()?;
    let slow = source.snapshot.is_none() && (old.pool != new.pool || takes_its_time(store, &old)?);
    let ((from, held), quiet) =
        Quiet::with(store, &old, ("refresh", slow), || rename::pair(store, &old, &new, "refresh"))?;
    let (source_is, copy_is) = (need(store, &old)?.content_type, need(store, &new)?.content_type);
    if source_is != copy_is {
        let (source_is, copy_is) = (source_is.as_str(), copy_is.as_str());
        return Err(Error::invalid(format!(
            "A volume of type {copy_is} can't be refreshed from one of type {source_is}"
        )));
    }
    if source_is == ContentType::Iso {
        return Err(Error::invalid(format!("Volume of content type {:?} cannot be refreshed", source_is.as_str())));
    }
    refuse_running(store, &users(store, &new)?)?;
    let changes = match source.volume_only || source.snapshot.is_some() {
        true => Changes::default(),
        false => changes(store, (&from, &held), exclude_older)?,
    };
    journal::run(store, "refresh", &[&from, &held], |journal| {
        let drivers = (pool::need(store, &old.pool)?, pool::need(store, &new.pool)?);
        let (a, b) = (data(&old)?, data(&new)?);
        let named = |of: &SnapshotName| named_snapshot(&old, of);
        let files = |a: &Volume, b: &Volume| stage(drivers.0.as_ref(), drivers.1.as_ref(), (a, b), copy_is);
        let mut crossing = Crossing::new(Way {
            from: drivers.0.as_ref(),
            to: drivers.1.as_ref(),
            within: old.pool == new.pool,
            volume: &a,
            named: &named,
            files: &files,
            is_disk: copy_is.is_image(),
        });
        let pair = |of: &SnapshotName| Ok((a.snapshot(of)?, b.snapshot(of)?));
        crossing.build_upon(journal, &changes.kept.iter().rev().map(pair).collect::<Result<Vec<_>>>()?)?;
        snapshots(store, journal, (&from, &held), (&changes, &mut crossing))?;
        volume(store, journal, (&from, &held), (source.snapshot, copy_is, &quiet), &mut crossing)
    })
    .with_context(|| format!("Failed refreshing storage volume \"{}\"", new.name))?;
    record_copy::volume(store, &new);
    note(store, &new, "storage-volume-updated");
    Ok(())
}

/// What becomes of the copy's snapshots.
#[derive(Default)]
pub(super) struct Changes {
    pub new: Vec<(SnapshotName, VolumeSnapshot)>,
    gone: Vec<SnapshotName>,
    /// In both, oldest first.
    pub kept: Vec<SnapshotName>,
}

/// Snapshots are the same if name and date are.
///
/// # Errors
/// A record is damaged.
pub(super) fn changes(store: &Store, (from, to): Ends<'_>, exclude_older: bool) -> Result<Changes> {
    let read = |held: &Held<VolumeKey, Exclusive>| -> Result<Vec<(SnapshotName, VolumeSnapshot)>> {
        let all = store.volume_snapshots(held.key())?;
        all.into_iter().map(|(name, found)| found.map(|record| (name, record))).collect()
    };
    let (mut wanted, there) = (read(from)?, read(to)?);
    wanted.sort_by_key(|(_, record)| record.created_at);
    let newest = there.iter().map(|(_, s)| s.created_at).max();
    let has = |all: &[(SnapshotName, VolumeSnapshot)], (name, record): &(SnapshotName, VolumeSnapshot)| {
        all.iter().any(|(n, r)| n == name && r.created_at == record.created_at)
    };
    let gone = there.iter().filter(|one| !has(&wanted, one)).map(|(name, _)| name.clone()).collect();
    let kept = wanted.iter().filter(|one| has(&there, one)).map(|(name, _)| name.clone()).collect();
    let fresh = |record: &VolumeSnapshot| !exclude_older || newest.is_none_or(|newest| record.created_at > newest);
    let new = wanted.iter().filter(|one| !has(&there, one) && fresh(&one.1)).cloned().collect();
    Ok(Changes { new, gone, kept })
}

/// Makes the new ones and removes those that are gone. Locks: both volumes.
///
/// # Errors
/// No room.
pub(super) fn snapshots(
    store: &Store,
    journal: &mut Journal<'_>,
    (from, to): Ends<'_>,
    (changes, crossing): (&Changes, &mut Crossing<'_>),
) -> Result<()> {
    let (old, new) = (from.key(), to.key());
    // A name that now means another snapshot cannot wait for the commit: the one it meant is not to be had again anyway.
    let replaced = |snapshot: &SnapshotName| changes.new.iter().any(|(name, _)| name == snapshot);
    for gone in &changes.gone {
        if replaced(gone) {
            snapshot::delete_locked(store, to, gone)?;
            continue;
        }
        journal.then(Action::RemoveFile { path: store.layout().volume_snapshot_record(new, gone) })?;
        journal.then(Action::RemoveVolume(named_snapshot(new, gone)))?;
    }
    for (name, record) in &changes.new {
        journal.undo(Action::RemoveVolume(named_snapshot(new, name)))?;
        journal.undo(Action::RemoveFile { path: store.layout().volume_snapshot_record(new, name) })?;
        let (a, b) = (data(old)?.snapshot(name)?, data(new)?.snapshot(name)?);
        crossing.copy(journal, (&a, &b), &mut at_rest)?;
        fault::point("volume.refresh.snapshot")?;
        store.save_volume_snapshot(to, name, record)?;
        fault::point("volume.refresh.record")?;
    }
    Ok(())
}

fn volume(
    store: &Store,
    journal: &mut Journal<'_>,
    (from, to): Ends<'_>,
    (wanted, content, quiet): (Option<&SnapshotName>, ContentType, &Quiet),
    crossing: &mut Crossing<'_>,
) -> Result<()> {
    let (old, new) = (from.key(), to.key());
    let source = match wanted {
        Some(name) => {
            store.volume_snapshot(old, name)?.ok_or_else(snapshot::not_found)?;
            data(old)?.snapshot(name)?
        }
        None => data(old)?,
    };
    journal.undo(Action::AbortRestore(named(new)))?;
    let target = data(new)?;
    crossing.stage(journal, (&source, &target), &mut |journal, body| quiet.copy(store, journal, body))?;
    fault::point("volume.refresh.data")?;
    journal.then(Action::FinishRestore(named(new)))?;
    if content.is_image() {
        journal.then(Action::RenewSize(named(new)))?;
    }
    journal.keep()
}
