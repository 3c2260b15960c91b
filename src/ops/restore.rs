//! `snapshot restore`: an instance becomes again what it was when a snapshot was taken; `--diskonly` its files alone.
//!
//! What runs is killed first and started again at the end, as Incus does it. A copy of the snapshot is put beside the volume,
//! the records are written, and with the journal's commit the copy takes the volume's place: a kill before that leaves all as
//! it was, one after it is gone on from. A power cut in the moment between may leave files of one and configuration of the
//! other, each whole; nothing was reported then.

use super::network::taken::{self, Owner};
use super::restrict::{self, Wanted};
use super::update::{restore_instance, restore_volatile};
use super::volume::dependent::{self, Dependents};
use super::{halted, lifecycle, load, pool, quota, snapshot, volume};
use crate::base::names::{InstanceName, PoolName, ProjectName, SnapshotName};
use crate::error::{Context, Error, Result};
use crate::fault;
use crate::model::instance::{Config, Devices, Instance, Volatile};
use crate::model::keys;
use crate::ops::record_copy;
use crate::store::lock::{Exclusive, Held, InstanceKey};
use crate::store::types::Snapshot;
use crate::store::undo::{Volume as Named, VolumeKind};
use crate::store::{Action, Store, journal};

/// What is restored.
#[derive(Debug, Clone)]
pub struct Request {
    /// The snapshot.
    pub snapshot: SnapshotName,
    /// The files and nothing else.
    pub disk_only: bool,
}

/// Restores a snapshot.
///
/// # Errors
/// Not found: the instance, the snapshot, a profile it had; no room. All is as it was then, and what ran runs.
pub fn restore(store: &Store, who: (&ProjectName, &InstanceName), request: &Request) -> Result<()> {
    let (project, name) = who;
    let _project = restrict::hold(store, project, "restore")?;
    // What can be said before anything is stopped.
    let before = load::load(store, project, name)?;
    prepare(store, &before, request)?;
    let pool = before.pool()?;
    let _pool = store.lock_pool_shared(&pool)?;
    let mut halted = halted::halt(store, who, "restore", None)?;
    let done = store.lock_instance(project, name, "restore").and_then(|held| {
        lifecycle::settle(store, &held)?;
        if load::running(store, project, name)?.is_some() {
            return Err(Error::conflict("The instance was started again meanwhile"));
        }
        locked(store, &held, &pool, request)?;
        record_copy::instance(store, who, false);
        snapshot::note(store, who, &request.snapshot, "instance-restored");
        halted::resume(store, &held, &mut halted)
    });
    halted::resumed(store, who, halted, done)
        .with_context(|| format!("Failed restoring snapshot \"{}\"", request.snapshot))
}

/// The records of the instance as they will be.
struct New {
    instance: Instance,
    volatile: Volatile,
    devices: Devices,
}

fn prepare(store: &Store, loaded: &load::Loaded, request: &Request) -> Result<New> {
    let record = store.snapshot(&loaded.project, &loaded.name, &request.snapshot)?.ok_or_else(snapshot::not_found)?;
    snapshot::volume(store, loaded, &request.snapshot)?;
    if request.disk_only {
        return Ok(New {
            instance: loaded.instance.clone(),
            volatile: loaded.volatile.clone(),
            devices: Devices::new(),
        });
    }
    let Snapshot { instance: then, volatile, .. } = record;
    let mut instance =
        Instance { created_at: loaded.instance.created_at, volatile: loaded.instance.volatile.clone(), ..then };
    dependent::follow(&mut instance.devices, &loaded.expanded.devices);
    let mut expanded = load::expanded(store, &loaded.project, &instance)?;
    let pool = loaded.pool()?;
    if pool::of_root(&expanded.devices).map_or(true, |(_, then)| then != pool) {
        // It was moved since: its files stay where they are.
        pool::put_root(&mut instance, &expanded, &pool);
        expanded = load::expanded(store, &loaded.project, &instance)?;
    }
    keys::validate_expanded(&expanded.config)?;
    volume::check_devices(store, &loaded.project, &expanded.devices, Some(loaded.instance.kind))?;
    let owner = Owner { project: &loaded.project, name: &loaded.name, devices: &expanded.devices };
    taken::check(store, owner, &expanded.devices)?;
    let kind = instance.kind;
    restrict::check(store, Wanted { project: &loaded.project, name: &loaded.name, kind, expanded: &expanded })?;
    let mut config = volatile_of(&loaded.volatile.config, volatile);
    // Of a copy's snapshots nobody knows an address: it has its own.
    for device in expanded.devices.keys() {
        let address = keys::VOLATILE_DEVICE_HWADDR.of(device);
        if let Some(now) = loaded.volatile.config.get(&address).filter(|_| !config.contains_key(&address)) {
            config.insert(address, now.clone());
        }
    }
    let volatile = Volatile { config, ..loaded.volatile.clone() };
    Ok(New { instance, volatile, devices: expanded.devices })
}

/// The volatile keys: those of then, but for what says who it is and which ids it has, which others rely on.
fn volatile_of(now: &Config, then: Config) -> Config {
    let kept = [
        &keys::VOLATILE_UUID,
        &keys::VOLATILE_IDMAP_BASE,
        &keys::VOLATILE_IDMAP_CURRENT,
        &keys::VOLATILE_IDMAP_NEXT,
        &keys::VOLATILE_LAST_STATE_IDMAP,
        &keys::VOLATILE_LAST_STATE_POWER,
    ];
    let mut config = then;
    for key in kept {
        key.remove(&mut config);
        if let Some(value) = key.get(now) {
            key.set(&mut config, value);
        }
    }
    keys::VOLATILE_UUID_GENERATION.set(&mut config, uuid::Uuid::new_v4().to_string());
    config
}

fn locked(store: &Store, held: &Held<InstanceKey, Exclusive>, pool: &PoolName, request: &Request) -> Result<()> {
    let InstanceKey { project, name } = held.key();
    let loaded = load::load(store, project, name)?;
    if loaded.pool()? != *pool {
        return Err(Error::conflict("The instance was moved meanwhile"));
    }
    let new = prepare(store, &loaded, request)?;
    let (driver, volume) = (pool::need(store, pool)?, loaded.volume()?);
    let from = snapshot::volume(store, &loaded, &request.snapshot)?;
    quota::plan_root(store, driver.as_ref(), &loaded.expanded.devices)?;
    let resized = !request.disk_only && quota::changes(store, &loaded.expanded.devices, &new.devices)?;
    let target = Named {
        pool: pool.to_string(),
        kind: VolumeKind::Container,
        project: project.to_string(),
        name: name.to_string(),
    };
    let dependents = loaded.expanded.devices.values().filter(|device| dependent::is(device));
    let kept = volume::keep(store, project, new.devices.values().chain(dependents), &[held.key()])?;
    let (along, _volumes) = Dependents::kept(kept, |_| true);
    let now = dependent::of(store, project, &loaded.expanded.devices)?;
    journal::run(store, "restore", &along.proofs(held), |journal| {
        journal.undo(Action::AbortRestore(target.clone()))?;
        fault::point("restore.begin")?;
        driver.begin_restore(&from, &volume)?;
        fault::point("restore.copied")?;
        along.restore(store, journal, (&now, &request.snapshot))?;
        journal.undo(restore_volatile(store, &loaded)?)?;
        journal.undo(restore_instance(store, &loaded)?)?;
        journal.keep()?;
        store.save_volatile(held, &new.volatile)?;
        fault::point("restore.volatile")?;
        store.save_instance(held, &new.instance)?;
        fault::point("restore.record")?;
        journal.then(Action::FinishRestore(target))?;
        along.restored(store, &request.snapshot).into_iter().try_for_each(|action| journal.then(action))?;
        match resized {
            true => journal.then(quota::renewal(project, name)),
            false => Ok(()),
        }
    })
}
