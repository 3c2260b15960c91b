//! `move --storage`: a stopped instance with its snapshots goes to another pool. The copies are made first; with the records,
//! which name the new pool, it is there; what the old pool has goes last.

use super::crossing::{Crossing, Way, at_rest};
use super::update::restore_instance;
use super::volume::along::{self, Along};
use super::{copy, create, image_import, lifecycle, load, pool, quota, snapshot, update};
use crate::base::names::{Fingerprint, InstanceName, PoolName, ProjectName, SnapshotName};
use crate::error::{Error, Result};
use crate::fault;
use crate::model::instance::Devices;
use crate::model::keys::{self, device::disk};
use crate::ops::record_copy;
use crate::store::lock::{Exclusive, Held, InstanceKey, Proof};
use crate::store::types::Snapshot;
use crate::store::undo::{Volume as Named, VolumeKind};
use crate::store::{Action, Journal, Store, journal, record};

/// Moves an instance to the pool `to`; there already: nothing happens.
///
/// # Errors
/// Not found: the instance, the pool; Conflict: it runs; no room. All is as it was then.
pub fn relocate(store: &Store, who: (&ProjectName, &InstanceName), to: &PoolName) -> Result<()> {
    let (project, name) = who;
    let _project = store.lock_project_shared(project)?;
    let before = load::load(store, project, name)?;
    let from = before.pool()?;
    pool::need(store, to)?;
    if from == *to {
        return Ok(());
    }
    let plan = |loaded: &load::Loaded| {
        let mut devices = loaded.instance.devices.clone();
        along::put_pool(&mut devices, to, &Devices::new());
        along::Plan::new(store, (project, &loaded.instance.devices), (project, &devices), true)
    };
    let planned = plan(&before)?;
    let _pools = copy::pools(store, [&from, to].into_iter().chain(planned.pools()))?;
    let held = store.lock_instance(project, name, "move")?;
    lifecycle::settle(store, &held)?;
    let loaded = load::load(store, project, name)?;
    if loaded.pool()? != from || plan(&loaded)? != planned {
        return Err(Error::conflict("The instance was moved meanwhile"));
    }
    if load::running(store, project, name)?.is_some() {
        return Err(Error::conflict("Instance must be stopped to be moved"));
    }
    let snapshots = copy::snapshots(store, &loaded, to, true)?;
    let along = Along::lock(store, &planned, (None, false), "move")?;
    let proofs: Vec<&dyn Proof> = std::iter::once(&held as &dyn Proof).chain(along.proofs()).collect();
    journal::run(store, "move", &proofs, |journal| {
        let moved = Moved { held: &held, loaded: &loaded, from: &from, to };
        volumes_along(store, journal, &along)?;
        volumes(store, journal, moved, &snapshots)?;
        records(store, journal, moved, &snapshots)?;
        let image = keys::VOLATILE_BASE_IMAGE.get(&loaded.volatile.config).and_then(|i| Fingerprint::parse(i).ok());
        image.map_or(Ok(()), |image| journal.then(image_import::volume(&from, image.as_str())))
    })?;
    record_copy::instance(store, (project, name), true);
    lifecycle::note(store, project, name, "instance-updated");
    Ok(())
}

/// Does what is asked for beside the pool: keys, profiles, options of devices; with `instance_only` the snapshots go, as with a
/// move by a copy.
///
/// # Errors
/// What `update` says; Not found: the instance. What was moved is moved.
pub fn adjust(store: &Store, who: (&ProjectName, &InstanceName), request: &copy::Request) -> Result<()> {
    let (project, name) = who;
    if request.instance_only && request.storage.is_some() {
        let all: Vec<_> = store.snapshots(project, name)?.into_iter().map(|(snapshot, _)| snapshot).collect();
        snapshot::delete(store, who, &all)?;
    }
    if request.config.is_empty() && request.profiles.is_none() && request.device_overrides.is_empty() {
        return Ok(());
    }
    update::update(store, project, name, &mut |change| {
        let mut new = change.loaded.instance.clone();
        if let Some(profiles) = &request.profiles {
            new.profiles.clone_from(profiles);
        }
        let expanded = load::expanded(store, project, &new)?;
        create::override_devices(&mut new, &expanded, &request.device_overrides)?;
        change.put.config.extend(request.config.clone());
        (change.put.profiles, change.put.devices) = (new.profiles, new.devices);
        Ok(())
    })
}

/// What is moved where.
#[derive(Clone, Copy)]
struct Moved<'a> {
    held: &'a Held<InstanceKey, Exclusive>,
    loaded: &'a load::Loaded,
    from: &'a PoolName,
    to: &'a PoolName,
}

impl Moved<'_> {
    /// The root volume on a pool, for the journal.
    fn root(&self, pool: &PoolName) -> Named {
        Named {
            pool: pool.to_string(),
            kind: VolumeKind::Container,
            project: self.loaded.project.to_string(),
            name: self.loaded.name.to_string(),
        }
    }
}

fn volumes(
    store: &Store,
    journal: &mut Journal<'_>,
    moved: Moved<'_>,
    snapshots: &[(SnapshotName, Snapshot)],
) -> Result<()> {
    let (project, name) = (&moved.loaded.project, &moved.loaded.name);
    let (from, to) = (pool::need(store, moved.from)?, pool::need(store, moved.to)?);
    let root = moved.loaded.volume()?;
    let mut all = vec![(root.clone(), moved.root(moved.from), moved.root(moved.to))];
    for (snapshot, _) in snapshots {
        let named = |pool| snapshot::volume_of(pool, project, name, snapshot);
        all.push((root.snapshot(snapshot)?, named(moved.from), named(moved.to)));
    }
    let mut devices = moved.loaded.expanded.devices.clone();
    devices.values_mut().filter(|d| pool::is_root(d)).for_each(|d| disk::POOL.set(d, moved.to.as_str()));
    quota::plan_root(store, to.as_ref(), &devices)?;
    let named = |of: &SnapshotName| snapshot::volume_of(moved.from, project, name, of);
    let files = copy::files(store, from.as_ref(), to.as_ref());
    let mut crossing = Crossing::new(Way {
        from: from.as_ref(),
        to: to.as_ref(),
        within: false,
        volume: &root,
        named: &named,
        files: &files,
        is_disk: false,
    });
    // What streams build upon comes first, the root last.
    all.rotate_left(1);
    for (volume, old, new) in all {
        journal.undo(Action::RemoveVolume(new))?;
        crossing.copy(journal, (&volume, &volume), &mut at_rest)?;
        journal.then(Action::RemoveVolume(old))?;
        fault::point("move.volume")?;
    }
    quota::brought_root(store, to.as_ref(), &root, &devices)
}

/// The volumes that go with it.
fn volumes_along(store: &Store, journal: &mut Journal<'_>, along: &Along) -> Result<()> {
    along.note(store, journal)?;
    along.snapshots(store)?;
    along.volumes(store)?;
    along.finish(store)?;
    along.removal(store)?.into_iter().try_for_each(|action| journal.then(action))
}

fn records(
    store: &Store,
    journal: &mut Journal<'_>,
    moved: Moved<'_>,
    snapshots: &[(SnapshotName, Snapshot)],
) -> Result<()> {
    let Moved { held, loaded, to, .. } = moved;
    // The copies are on disk; which of them counts is on disk, too, before a record says so.
    journal.keep()?;
    for (name, new) in snapshots {
        let path = store.snapshot_path(&loaded.project, &loaded.name, name)?;
        let old = store.snapshot(&loaded.project, &loaded.name, name)?.ok_or_else(snapshot::not_found)?;
        journal.undo(Action::RestoreFile { path, content: record::render(&old)? })?;
        store.save_snapshot(held, name, new)?;
        fault::point("move.snapshot")?;
    }
    let mut instance = loaded.instance.clone();
    pool::put_root(&mut instance, &loaded.expanded, to);
    along::put_pool(&mut instance.devices, to, &Devices::new());
    journal.undo(restore_instance(store, loaded)?)?;
    store.save_instance(held, &instance)?;
    fault::point("move.record")
}
