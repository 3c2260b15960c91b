//! `copy --refresh`: an instance that is a copy is brought up to date with what it is a copy of.
//!
//! Snapshots that it lacks are copied, those that its source has no more go, and a copy of the source's volume takes the place
//! of its own. Volumes that go with the two are treated likewise, by their devices. All of it counts with the journal's commit,
//! or nothing does. Then, as a step of its own like Incus's, it is configured as its source is; who it is stays.

use super::copy::{self, Ends, Request};
use super::crossing::{Crossing, Way, at_rest};
use super::volume::dependent;
use super::volume::renewed::{self, Renewed};
use super::{create, lifecycle, load, pool, quota, snapshot, transfer, update};
use crate::base::names::{InstanceName, SnapshotName};
use crate::error::{Context, Error, Result};
use crate::fault;
use crate::model::instance::Device;
use crate::model::keys::{self, device::device_type};
use crate::ops::record_copy;
use crate::storage::Volume;
use crate::store::lock::{InstanceKey, Proof};
use crate::store::types::Snapshot;
use crate::store::undo::{Volume as Named, VolumeKind};
use crate::store::{Action, Journal, Store, journal};

/// Brings the copy `target` up to date; `exclude_older`: leave out snapshots of the source that are older than its newest.
///
/// # Errors
/// Not found: one of the two, the snapshot; Conflict: the copy runs; no room. All is as it was then. What its configuration cannot
/// be: it stays as it was, and the files are those of the source.
pub fn refresh(store: &Store, request: &Request, target: &InstanceName, exclude_older: bool) -> Result<()> {
    files(store, request, target, exclude_older)?;
    match request.snapshot {
        None => {
            settings(store, request, target).with_context(|| format!("Failed to refresh target instance '{target}'"))
        }
        Some(_) => Ok(()),
    }
}

/// What is said of the source is said of the copy, under what the request says. Its own stay: the root disk, the interfaces, the
/// volumes that go with it, and, in another project, the profiles.
fn settings(store: &Store, request: &Request, target: &InstanceName) -> Result<()> {
    let source = load::load(store, &request.project, &request.name)?;
    update::update(store, &request.target_project, target, &mut |change| {
        let own = change.loaded;
        let mut new = own.instance.clone();
        if let Some(profiles) = &request.profiles {
            new.profiles.clone_from(profiles);
        } else if request.project == request.target_project {
            new.profiles.clone_from(&source.instance.profiles);
        }
        let alike = |d: &Device| !pool::is_root(d) && !dependent::is(d);
        new.devices = source.instance.devices.clone().into_iter().filter(|(_, d)| alike(d)).collect();
        let stays = |name: &String, d: &Device| {
            !alike(d) || device_type(d) == "nic" && source.expanded.devices.contains_key(name)
        };
        let kept = own.instance.devices.iter().filter(|(name, d)| stays(name, d));
        new.devices.extend(kept.map(|(name, d)| (name.clone(), d.clone())));
        let (project, pool) = (&request.target_project, own.pool()?);
        let mut expanded = load::expanded(store, project, &new)?;
        if pool::of_root(&expanded.devices).map_or(true, |(_, of)| of != pool) {
            pool::put_root(&mut new, &own.expanded, &pool);
            expanded = load::expanded(store, project, &new)?;
        }
        create::override_devices(&mut new, &expanded, &request.device_overrides)?;
        let put = &mut change.put;
        put.config.retain(|key, _| keys::is_volatile(key));
        put.config.extend(source.instance.config.clone());
        put.config.extend(request.config.clone());
        put.description.clone_from(&source.instance.description);
        (put.profiles, put.devices, put.ephemeral) = (new.profiles, new.devices, request.ephemeral);
        Ok(())
    })
}

fn files(store: &Store, request: &Request, target: &InstanceName, exclude_older: bool) -> Result<()> {
    let _projects = copy::projects(store, &request.project, &request.target_project)?;
    let pools = |store| -> Result<_> {
        let source = load::load(store, &request.project, &request.name)?;
        let target = load::load(store, &request.target_project, target)?;
        Ok((source.pool()?, target.pool()?, renewed::pairs(store, &source, &target)?))
    };
    let (old_pool, new_pool, along) = pools(store)?;
    let _pools = copy::pools(store, [&old_pool, &new_pool].into_iter().chain(renewed::pools(&along)))?;
    let from = InstanceKey { project: request.project.clone(), name: request.name.clone() };
    let to = InstanceKey { project: request.target_project.clone(), name: target.clone() };
    if from == to {
        return Err(Error::invalid("An instance can't be refreshed from itself"));
    }
    let (from, to) = copy::pair(store, from, to, "refresh")?;
    lifecycle::settle(store, &from)?;
    lifecycle::settle(store, &to)?;
    if load::running(store, &request.target_project, target)?.is_some() {
        return Err(Error::conflict("Cannot refresh a running instance"));
    }
    if pools(store)? != (old_pool.clone(), new_pool.clone(), along.clone()) {
        return Err(Error::conflict("The instance was moved meanwhile"));
    }
    let source = load::load(store, &request.project, &request.name)?;
    let target_is = load::load(store, &request.target_project, target)?;
    let only = request.instance_only || request.snapshot.is_some();
    let changes = match only {
        true => Changes::default(),
        false => changes(store, &source, &target_is, exclude_older)?,
    };
    let stays = |name: &SnapshotName| changes.kept.contains(name) || changes.new.iter().any(|(new, _)| new == name);
    let along = Renewed::lock(store, &along, (!only).then_some(&stays))?;
    let proofs: Vec<&dyn Proof> = [&from as &dyn Proof, &to].into_iter().chain(along.proofs()).collect();
    let ends = Ends { from: &from, to: &to, source: &source, snapshot: request.snapshot.as_ref() };
    journal::run(store, "refresh", &proofs, |journal| {
        let named = |of: &SnapshotName| snapshot::volume_of(&old_pool, &request.project, &request.name, of);
        let drivers = (pool::need(store, &old_pool)?, pool::need(store, &new_pool)?);
        let volumes = (source.volume()?, target_is.volume()?);
        quota::plan_root(store, drivers.1.as_ref(), &target_is.expanded.devices)?;
        let files = copy::files(store, drivers.0.as_ref(), drivers.1.as_ref());
        let mut crossing = Crossing::new(Way {
            from: drivers.0.as_ref(),
            to: drivers.1.as_ref(),
            within: old_pool == new_pool,
            volume: &volumes.0,
            named: &named,
            files: &files,
            is_disk: false,
        });
        let pair = |of: &SnapshotName| Ok((volumes.0.snapshot(of)?, volumes.1.snapshot(of)?));
        crossing.build_upon(journal, &changes.kept.iter().rev().map(pair).collect::<Result<Vec<_>>>()?)?;
        snapshots(store, journal, (ends, &mut crossing), (&target_is, &changes))?;
        along.snapshots(store, journal)?;
        root(store, journal, (ends, &mut crossing), (&target_is, &along))
    })?;
    along.tell(store);
    record_copy::instance(store, (&request.target_project, target), true);
    lifecycle::note(store, &request.target_project, target, "instance-updated");
    Ok(())
}

/// What becomes of the copy's snapshots.
#[derive(Default)]
struct Changes {
    new: Vec<(SnapshotName, Snapshot)>,
    gone: Vec<SnapshotName>,
    /// In both, oldest first.
    kept: Vec<SnapshotName>,
}

/// Snapshots are the same if name and date are.
fn changes(store: &Store, source: &load::Loaded, target: &load::Loaded, exclude_older: bool) -> Result<Changes> {
    let wanted = copy::snapshots(store, source, &target.pool()?, false)?;
    let there = store.snapshots(&target.project, &target.name)?;
    let date = |s: &Result<Snapshot>| s.as_ref().ok().map(|s| s.created_at);
    let newest = there.iter().filter_map(|(_, s)| date(s)).max();
    let same = |name: &SnapshotName, record: &Snapshot| {
        there.iter().any(|(n, s)| n == name && date(s) == Some(record.created_at))
    };
    let gone = there
        .iter()
        .filter(|(name, s)| !wanted.iter().any(|(n, record)| n == name && date(s) == Some(record.created_at)));
    let gone = gone.map(|(name, _)| name.clone()).collect();
    let kept = wanted.iter().filter(|(name, record)| same(name, record)).map(|(name, _)| name.clone()).collect();
    let fresh = |record: &Snapshot| !exclude_older || newest.is_none_or(|newest| record.created_at > newest);
    let new = wanted.into_iter().filter(|(name, record)| !same(name, record) && fresh(record)).collect();
    Ok(Changes { new, gone, kept })
}

fn snapshots(
    store: &Store,
    journal: &mut Journal<'_>,
    (ends, crossing): (Ends<'_>, &mut Crossing<'_>),
    (target, changes): (&load::Loaded, &Changes),
) -> Result<()> {
    let InstanceKey { project, name } = ends.to.key();
    let new_pool = target.pool()?;
    // A name that now means another snapshot cannot wait for the commit: the one it meant is not to be had again anyway.
    let replaced = |snapshot: &SnapshotName| changes.new.iter().any(|(name, _)| name == snapshot);
    for gone in &changes.gone {
        if replaced(gone) {
            snapshot::delete_locked(store, ends.to, &new_pool, gone)?;
            continue;
        }
        journal.then(snapshot::forget(ends.to, gone))?;
        journal.then(Action::RemoveVolume(snapshot::volume_of(&new_pool, project, name, gone)))?;
    }
    let (old, new) = (ends.source.volume()?, Volume::container(project, name)?);
    for (snapshot, record) in &changes.new {
        journal.undo(Action::RemoveVolume(snapshot::volume_of(&new_pool, project, name, snapshot)))?;
        journal.undo(snapshot::forget(ends.to, snapshot))?;
        let (source, copy) = (old.snapshot(snapshot)?, new.snapshot(snapshot)?);
        crossing.copy(journal, (&source, &copy), &mut at_rest)?;
        fault::point("refresh.snapshot")?;
        store.save_snapshot(ends.to, snapshot, record)?;
        fault::point("refresh.record")?;
    }
    Ok(())
}

fn root(
    store: &Store,
    journal: &mut Journal<'_>,
    (ends, crossing): (Ends<'_>, &mut Crossing<'_>),
    (target, along): (&load::Loaded, &Renewed),
) -> Result<()> {
    let InstanceKey { project, name } = ends.to.key();
    let (old_pool, new_pool) = (ends.source.pool()?, target.pool()?);
    let (old, new) = (ends.source.volume()?, target.volume()?);
    let root = Named {
        pool: new_pool.to_string(),
        kind: VolumeKind::Container,
        project: project.to_string(),
        name: name.to_string(),
    };
    journal.undo(Action::AbortRestore(root.clone()))?;
    match ends.snapshot {
        Some(wanted) => {
            crossing.stage(journal, (&snapshot::volume(store, ends.source, wanted)?, &new), &mut at_rest)?
        }
        // What goes along is taken in the same moment.
        None => crossing.stage(journal, (&old, &new), &mut |journal, body| {
            snapshot::frozen(store, ends.from, journal, || body().and_then(|()| along.take()))
        })?,
    }
    along.finish(store, journal, ends.snapshot)?;
    if old_pool != new_pool {
        // What it replaces is not to be had again.
        transfer::sync(pool::need(store, &new_pool)?.as_ref(), &new)?;
    }
    fault::point("refresh.volume")?;
    journal.then(Action::FinishRestore(root))?;
    journal.keep()
}
