//! `copy`: a second instance like another one, or like a snapshot of it; `copy --refresh` brings one up to date.
//!
//! The copy has an identity of its own: addresses of interfaces, ids and keys that the program fills in are new. What runs is
//! frozen while its files are copied. Like `create` it is there with its record, or not at all.

use super::crossing::{Crossing, Way, at_rest};
use super::network::{
    self,
    taken::{self, Owner},
};
use super::restrict::{self, Hold, Wanted};
use super::transfer::{self, End};
use super::volume::along::{self, Along};
use super::volume::dependent;
use super::{create, delete, idmap, lifecycle, load, nics, pool, quota, snapshot, volume};
use crate::base::names::{InstanceName, PoolName, ProjectName, SnapshotName};
use crate::base::time;
use crate::error::{Error, Result};
use crate::fault;
use crate::model::expand::Expanded;
use crate::model::instance::{Config, Device, Devices, Instance, Volatile};
use crate::model::keys::{self, device::disk, volatile_value};
use crate::ops::record_copy;
use crate::storage::{Driver, Volume};
use crate::store::atomic::Durability;
use crate::store::lock::{Exclusive, Held, InstanceKey, Proof};
use crate::store::types::Snapshot;
use crate::store::undo::{Volume as Named, VolumeKind};
use crate::store::{Action, Journal, Store, journal};
use std::collections::BTreeSet;

/// What is wanted.
#[derive(Debug, Clone)]
pub struct Request {
    /// Project of the source.
    pub project: ProjectName,
    /// The source.
    pub name: InstanceName,
    /// Of it, this snapshot.
    pub snapshot: Option<SnapshotName>,
    /// Project of the copy.
    pub target_project: ProjectName,
    /// Its name; none chooses one.
    pub target: Option<InstanceName>,
    /// Keys over the source's.
    pub config: Config,
    /// Options over its devices'.
    pub device_overrides: Devices,
    /// Profiles in place of its own.
    pub profiles: Option<Vec<String>>,
    /// Deleted when it stops.
    pub ephemeral: bool,
    /// Pool of the copy's root.
    pub storage: Option<PoolName>,
    /// Without the snapshots.
    pub instance_only: bool,
    /// The source goes, and what it is the copy is.
    pub moving: bool,
}

/// A copy that is ready to be made.
pub(super) struct New {
    instance: Instance,
    volatile: Volatile,
    expanded: Expanded,
    pool: PoolName,
    snapshots: Vec<(SnapshotName, Snapshot)>,
    along: along::Plan,
    moving: bool,
}

/// Copies; the copy's name.
///
/// # Errors
/// Not found: the source, a profile, the pool; Exists: the name is taken; no room. Nothing is left then, and what ran runs.
pub fn copy(store: &Store, request: &Request) -> Result<InstanceName> {
    let target = match &request.target {
        Some(name) => name.clone(),
        None => create::free_name(store, &request.target_project)?,
    };
    let _projects = projects(store, &request.project, &request.target_project)?;
    let source = load::load(store, &request.project, &request.name)?;
    let new = prepare(store, request, &target, &source)?;
    let _pools = pools(store, [&source.pool()?, &new.pool].into_iter().chain(new.along.pools()))?;
    let from = InstanceKey { project: request.project.clone(), name: request.name.clone() };
    let to = InstanceKey { project: request.target_project.clone(), name: target.clone() };
    if from == to {
        return Err(create::taken(&target));
    }
    let (from, to) = pair(store, from, to, "copy")?;
    lifecycle::settle(store, &from)?;
    // What was read before the locks were won is read again.
    let again = load::load(store, &request.project, &request.name)?;
    let new = if again.instance == source.instance { new } else { prepare(store, request, &target, &again)? };
    if request.moving && load::running(store, &request.project, &request.name)?.is_some() {
        return Err(Error::conflict("Instance must be stopped to be moved"));
    }
    let mut then = if request.moving { delete::actions(store, &from, None)? } else { Vec::new() };
    let along = Along::lock(store, &new.along, (request.snapshot.as_ref(), request.instance_only), "copy")?;
    if request.moving {
        then.extend(along.removal(store)?);
    }
    let ends = Ends { from: &from, to: &to, source: &again, snapshot: request.snapshot.as_ref() };
    make(store, ends, (new, &along), then)?;
    along.tell(store);
    record_copy::instance(store, (&request.target_project, &target), true);
    lifecycle::note(store, &request.target_project, &target, "instance-created");
    Ok(target)
}

/// Both projects, each once and in order; the target as one that gets an instance.
pub(super) fn projects(store: &Store, source: &ProjectName, target: &ProjectName) -> Result<Vec<Hold>> {
    let mut both = [source, target];
    both.sort();
    let second = (both[0] != both[1]).then_some(both[1]);
    let one = |p: &ProjectName| match p == target {
        true => restrict::hold(store, p, "copy"),
        false => store.lock_project_shared(p).map(Hold::Shared),
    };
    std::iter::once(both[0]).chain(second).map(one).collect()
}

/// The pools, likewise.
pub(super) fn pools<'a>(
    store: &Store,
    pools: impl IntoIterator<Item = &'a PoolName>,
) -> Result<Vec<Held<crate::store::lock::PoolKey, crate::store::lock::Shared>>> {
    let pools: BTreeSet<&PoolName> = pools.into_iter().collect();
    pools.into_iter().map(|p| store.lock_pool_shared(p)).collect()
}

pub(super) type InstanceLock = Held<InstanceKey, Exclusive>;

/// The locks of two instances.
pub(super) fn pair(
    store: &Store,
    from: InstanceKey,
    to: InstanceKey,
    verb: &str,
) -> Result<(InstanceLock, InstanceLock)> {
    let (mut first, mut second) = (None, None);
    for one in store.lock_instances(vec![from.clone(), to], verb)? {
        if *one.key() == from { first = Some(one) } else { second = Some(one) }
    }
    first.zip(second).ok_or_else(|| Error::internal("Two names gave one lock"))
}

/// The records of the copy.
fn prepare(store: &Store, request: &Request, name: &InstanceName, source: &load::Loaded) -> Result<New> {
    let project = &request.target_project;
    let (base, volatile) = match &request.snapshot {
        None => (source.instance.clone(), source.volatile.config.clone()),
        Some(wanted) => {
            let found = store.snapshot(&source.project, &source.name, wanted)?.ok_or_else(snapshot::not_found)?;
            (found.instance, found.volatile)
        }
    };
    let mut instance = base;
    if !request.moving {
        (instance.created_at, instance.ephemeral, instance.stateful) = (time::now(), request.ephemeral, false);
    }
    instance.volatile = None;
    dependent::follow(&mut instance.devices, &source.expanded.devices);
    let then = instance.devices.clone();
    instance.config.extend(request.config.clone());
    instance.config.retain(|_, v| !v.is_empty());
    if let Some(profiles) = &request.profiles {
        instance.profiles.clone_from(profiles);
    }
    let mut expanded = load::expanded(store, project, &instance)?;
    let kept = keep_root(request, source, &mut instance, &expanded)?;
    create::put_devices(&mut instance, &expanded, &request.device_overrides, request.storage.as_ref())?;
    if let Some(pool) = &request.storage {
        along::put_pool(&mut instance.devices, pool, &request.device_overrides);
    }
    expanded = load::expanded(store, project, &instance)?;
    let along = along::Plan::new(store, (&source.project, &then), (project, &expanded.devices), request.moving)?;
    keys::validate_config(&instance.config, instance.kind)?;
    keys::validate_expanded(&expanded.config)?;
    keys::device::validate_all(&instance.devices, Some(&expanded.devices), Some(instance.kind))?;
    network::check_devices(store, project, &expanded.devices, Some(instance.kind))?;
    super::volume::check_devices(store, project, &along.others(&expanded.devices), Some(instance.kind))?;
    if !request.moving {
        taken::check(store, Owner { project, name, devices: &expanded.devices }, &expanded.devices)?;
    }
    if !request.moving || request.project != *project {
        restrict::check(store, Wanted { project, name, kind: instance.kind, expanded: &expanded })?;
    }
    let (_, pool) = pool::of_root(&expanded.devices)?;
    pool::need(store, &pool)?;
    if store.instance_exists(project, name)? {
        return Err(create::taken(name));
    }
    let volatile = match request.moving {
        true => Volatile { config: volatile, ..source.volatile.clone() },
        false => new_volatile(store, project, &expanded, &volatile)?,
    };
    let mut snapshots = match request.instance_only || request.snapshot.is_some() {
        true => Vec::new(),
        false => snapshots(store, source, &pool, request.moving)?,
    };
    if kept {
        snapshots.iter_mut().for_each(|(_, s)| pool::put_root(&mut s.instance, &source.expanded, &pool));
    }
    Ok(New { instance, volatile, expanded, pool, snapshots, along, moving: request.moving })
}

/// In another project, whose profiles have no root disk, the copy has that of the source as its own; what is moved also where
/// theirs is another one.
fn keep_root(request: &Request, source: &load::Loaded, instance: &mut Instance, expanded: &Expanded) -> Result<bool> {
    let root = |devices: &Devices| devices.values().find(|d| pool::is_root(d)).cloned();
    if request.project == request.target_project || root(&instance.devices).is_some() {
        return Ok(false);
    }
    let (old, new) = (root(&source.expanded.devices).unwrap_or_default(), root(&expanded.devices));
    let same = |d: Device| [&disk::POOL, &disk::SIZE, &disk::SIZE_STATE].iter().all(|key| key.get(&d) == key.get(&old));
    let kept = new.is_none_or(|new| request.moving && !same(new));
    if kept {
        pool::put_root(instance, &source.expanded, &source.pool()?);
    }
    Ok(kept)
}

/// What the program fills in: of the source's only what it is made of.
fn new_volatile(store: &Store, project: &ProjectName, expanded: &Expanded, old: &Config) -> Result<Volatile> {
    let image = keys::VOLATILE_BASE_IMAGE.get(old);
    let mut volatile = create::volatile(&expanded.config, image, volatile_value::TEMPLATE_COPY)?;
    if let Some(value) = keys::VOLATILE_CONTAINER_OCI.get(old) {
        keys::VOLATILE_CONTAINER_OCI.set(&mut volatile.config, value);
    }
    nics::choose(store, project, &expanded.devices, &mut volatile.config)?;
    Ok(volatile)
}

/// The records of the source's snapshots for the copy, oldest first. Unless it is moved, their identity is the source's: it is
/// left out.
pub(super) fn snapshots(
    store: &Store,
    source: &load::Loaded,
    pool: &PoolName,
    moving: bool,
) -> Result<Vec<(SnapshotName, Snapshot)>> {
    let moved = source.pool()? != *pool;
    let mut all = Vec::new();
    for (name, record) in store.snapshots(&source.project, &source.name)? {
        let mut record = record?;
        record.volatile.retain(|key, _| {
            moving || key == keys::VOLATILE_BASE_IMAGE.name || key == keys::VOLATILE_CONTAINER_OCI.name
        });
        record.instance.volatile = None;
        if moved {
            let expanded = load::expanded(store, &source.project, &record.instance)?;
            pool::put_root(&mut record.instance, &expanded, pool);
        }
        all.push((name, record));
    }
    all.sort_by_key(|(_, record)| record.created_at);
    Ok(all)
}

/// What is copied where.
#[derive(Clone, Copy)]
pub(super) struct Ends<'a> {
    /// Lock of the source.
    pub from: &'a InstanceLock,
    /// Lock of the copy.
    pub to: &'a InstanceLock,
    /// The source.
    pub source: &'a load::Loaded,
    /// Of it, this snapshot.
    pub snapshot: Option<&'a SnapshotName>,
}

/// Makes the volumes and the records, with a journal.
/// Afterwards comes `then`.
fn make(store: &Store, ends: Ends<'_>, (new, along): (New, &Along), then: Vec<Action>) -> Result<()> {
    let InstanceKey { project, name } = ends.to.key();
    let proofs: Vec<&dyn Proof> = [ends.from as &dyn Proof, ends.to].into_iter().chain(along.proofs()).collect();
    journal::run(store, "copy", &proofs, |journal| {
        if store.instance_exists(project, name)? {
            return Err(create::taken(name));
        }
        let root = Named {
            pool: new.pool.to_string(),
            kind: VolumeKind::Container,
            project: project.to_string(),
            name: name.to_string(),
        };
        journal.undo(Action::RemoveVolume(root))?;
        for (snapshot, _) in &new.snapshots {
            journal.undo(Action::RemoveVolume(snapshot::volume_of(&new.pool, project, name, snapshot)))?;
        }
        journal.undo(Action::ForgetInstance { project: project.to_string(), name: name.to_string() })?;
        if !new.instance.ephemeral {
            journal.commits_by(&store.layout().instance_record(project, name))?;
        }
        then.into_iter().try_for_each(|action| journal.then(action))?;
        along.note(store, journal)?;
        fault::point("copy.begin")?;
        volumes(store, journal, ends, (&new, along))?;
        along.finish(store)?;
        records(store, ends, new)
    })
}

fn volumes(store: &Store, journal: &mut Journal<'_>, ends: Ends<'_>, (new, along): (&New, &Along)) -> Result<()> {
    let InstanceKey { project, name } = ends.to.key();
    let pool = ends.source.pool()?;
    let (from, to) = (pool::need(store, &pool)?, pool::need(store, &new.pool)?);
    quota::plan_root(store, to.as_ref(), &new.expanded.devices)?;
    let (old, target) = (ends.source.volume()?, Volume::container(project, name)?);
    let named = |of: &SnapshotName| snapshot::volume_of(&pool, &ends.source.project, &ends.source.name, of);
    let files = files(store, from.as_ref(), to.as_ref());
    let mut crossing = Crossing::new(Way {
        from: from.as_ref(),
        to: to.as_ref(),
        within: pool == new.pool,
        volume: &old,
        named: &named,
        files: &files,
        is_disk: false,
    });
    for (snapshot, _) in &new.snapshots {
        crossing.copy(journal, (&old.snapshot(snapshot)?, &target.snapshot(snapshot)?), &mut at_rest)?;
        fault::point("copy.snapshot")?;
    }
    along.snapshots(store)?;
    match ends.snapshot {
        Some(snapshot) => {
            crossing.copy(journal, (&old.snapshot(snapshot)?, &target), &mut at_rest)?;
            along.volumes(store)?;
        }
        // What goes along is copied in the same moment.
        None => crossing.copy(journal, (&old, &target), &mut |journal, body| {
            snapshot::frozen(store, ends.from, journal, || body().and_then(|()| along.volumes(store)))
        })?,
    }
    quota::brought_root(store, to.as_ref(), &target, &new.expanded.devices)?;
    fault::point("copy.volume")
}

/// How roots of instances come from one pool to another file by file.
pub(super) fn files<'a>(
    store: &'a Store,
    from: &'a dyn Driver,
    to: &'a dyn Driver,
) -> impl Fn(&Volume, &Volume) -> Result<()> + 'a {
    move |old, new| transfer::stage(store, End { driver: from, volume: old }, End { driver: to, volume: new })
}

fn records(store: &Store, ends: Ends<'_>, mut new: New) -> Result<()> {
    let held = ends.to;
    let InstanceKey { project, name } = held.key();
    // What is moved has two names, and may keep a volume.
    let me = [held.key(), ends.from.key()];
    let me = if new.moving { &me[..] } else { &me[..1] };
    let _volumes = volume::keep(store, project, new.along.others(&new.expanded.devices).values(), me)?;
    let isolated = keys::SECURITY_IDMAP_ISOLATED.bool(&new.expanded.config)?;
    let config = &mut new.volatile.config;
    let _ids = isolated.then(|| idmap::assign(store, (project, name), &new.expanded.config, config)).transpose()?;
    let _networks = network::keep(store, project, new.instance.devices.values())?;
    if !new.snapshots.is_empty() {
        store.begin_snapshots(held, new.instance.ephemeral, &new.snapshots)?;
        fault::point("copy.records")?;
    }
    store.publish_instance(held, &new.instance, &new.volatile, Durability::Durable)?;
    fault::point("copy.record")
}
