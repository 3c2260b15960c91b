//! Changes to an instance that exists: what `config`, `config device` and `profile` do to one, whether it runs or not.
//!
//! The verbs edit an [`InstancePut`] ([`update`]); here it is compared with what there was, checked in the order of Incus,
//! saved, and done to what runs. A change that a running instance refuses changes nothing at all.

use super::load::{self, Loaded};
use super::network::taken::{self, Owner};
use super::restrict::{self, Wanted};
use super::volume::dependent::{self, Dependents};
use super::{cpus, disk_live, idmap, lifecycle, live, network, nic_live, nics, pool, proxy_live, quota, volume};
use crate::base::names::{InstanceName, PoolName, ProjectName};
use crate::error::{Context, Error, Result};
use crate::fault;
use crate::model::diff::{self, Changes};
use crate::model::expand::{Expanded, split_volatile};
use crate::model::instance::{Config, Devices, Instance, InstanceType, Volatile};
use crate::model::keys::{self, device};
use crate::model::view::InstancePut;
use crate::ops::record_copy;
use crate::store::lock::{Allocator, Exclusive, Held, InstanceKey};
use crate::store::runfile::Running;
use crate::store::{Action, Journal, Store, journal, record};
use std::collections::BTreeSet;

/// Kernel architecture names that Incus knows.
const ARCHITECTURES: [&str; 12] = [
    "aarch64",
    "armv6l",
    "armv7l",
    "armv8l",
    "i686",
    "loongarch64",
    "mips",
    "mips64",
    "ppc64le",
    "riscv64",
    "s390x",
    "x86_64",
];

/// What an edit may look at and change.
#[derive(Debug)]
pub struct Edit<'a> {
    /// The instance as it is.
    pub loaded: &'a Loaded,
    /// What can be written of it, volatile keys in its configuration; to be changed.
    pub put: InstancePut,
}

/// Changes an instance under its lock: `edit` is shown the instance as it is then.
///
/// # Errors
/// Not found, busy; what `edit` says; what is wrong with the result, or what a running instance refuses: nothing is
/// changed then.
pub fn update(
    store: &Store,
    project: &ProjectName,
    name: &InstanceName,
    edit: &mut dyn FnMut(&mut Edit<'_>) -> Result<()>,
) -> Result<()> {
    let _project = restrict::hold(store, project, "update")?;
    let held = store.lock_instance(project, name, "update")?;
    lifecycle::settle(store, &held)?;
    let loaded = load::load(store, project, name)?;
    let mut change = Edit { loaded: &loaded, put: InstancePut::new(&loaded.instance, &loaded.volatile) };
    edit(&mut change)?;
    let put = change.put;
    locked(store, &held, &loaded, put)?;
    record_copy::instance(store, (project, name), false);
    lifecycle::note(store, project, name, "instance-updated");
    Ok(())
}

/// What runs of the instance, which takes the changes.
fn running(
    store: &Store,
    held: &Held<InstanceKey, Exclusive>,
    old: &Loaded,
    (changes, new): (&Changes, &Expanded),
) -> Result<Option<Running>> {
    let running = load::running(store, &old.project, &old.name)?;
    if running.is_some() {
        live::check(store, changes, new)?;
        disk_live::settle(store, held.key(), old, &changes.devices)?;
    }
    Ok(running)
}

/// Saves `put` as the new state of the instance `old`, under its lock.
fn locked(store: &Store, held: &Held<InstanceKey, Exclusive>, old: &Loaded, put: InstancePut) -> Result<()> {
    let (instance, volatile) = records(old, put)?;
    keys::validate_config(&instance.config, instance.kind).context("Invalid config")?;
    device::validate_all(&instance.devices, None, Some(instance.kind)).context("Invalid devices")?;
    network::check_devices(store, &old.project, &instance.devices, Some(instance.kind)).context("Invalid devices")?;
    volume::check_devices(store, &old.project, &instance.devices, Some(instance.kind)).context("Invalid devices")?;
    check_profiles(store, &old.project, &instance.profiles)?;
    let expanded = load::expanded(store, &old.project, &instance)?;
    let changes =
        check(store, Checked { old: &old.expanded, new: &expanded, local: &instance.devices, kind: instance.kind })?;
    let owner = Owner { project: &old.project, name: &old.name, devices: &expanded.devices };
    taken::check(store, owner, &changes.devices.incoming())?;
    let wanted = Wanted { project: &old.project, name: &old.name, kind: instance.kind, expanded: &expanded };
    restrict::check(store, wanted)?;
    let running = running(store, held, old, (&changes, &expanded))?;
    let kept = volume::keep(store, &old.project, changes.devices.incoming().values(), &[held.key()])?;
    let fresh = dependent::check_new(store, &old.project, &old.expanded.devices, &expanded.devices)?;
    let (fresh, _volumes) = Dependents::kept(kept, |key| fresh.contains(key));
    let mut new =
        Loaded { instance, volatile: Volatile { config: volatile, ..old.volatile.clone() }, expanded, ..old.clone() };
    let _ids = refresh_volatile(store, &changes, &mut new)?;
    nics::refresh(store, &changes.devices, &mut new)?;
    fault::point("config.live")?;
    let undone = new.expanded.clone();
    let (project, name) = (&old.project, &old.name);
    let resized = quota::changes(store, &old.expanded.devices, &undone.devices)?;
    let mut undo: Vec<Action> = resized.then(|| quota::renewal(project, name)).into_iter().collect();
    if running.is_some() {
        undo.extend(live::undo(project, name, &changes, &undone));
    }
    let mut act = |journal: Option<&mut Journal<'_>>| {
        if resized {
            quota::resize_or_note(store, (project, name), &undone.devices, &mut new.volatile.config)?;
        }
        let saved = |new: &Loaded, journal| save(store, held, Saved { old, new, changes: &changes }, journal);
        let Some(running) = &running else { return saved(&new, journal) };
        let target = live::Target { store, project, name, running };
        live::apply(target, &changes.actions, &new.expanded)?;
        note_node(store, &changes, &mut new)?;
        let reached = nic_live::touched(&changes.devices, &new.expanded.devices);
        disk_live::apply(target, &new, &disk_live::touched(&changes.devices))?;
        nic_live::apply(target, &mut new, &reached)?;
        proxy_live::apply(target, &new, &proxy_live::touched(&changes.devices, &new.expanded.devices))?;
        saved(&new, journal)
    };
    if undo.is_empty() && fresh.is_empty() {
        return act(None);
    }
    journal::run(store, "update", &fresh.proofs(held), |journal| {
        undo.into_iter().try_for_each(|action| journal.undo(action))?;
        if !fresh.is_empty() {
            // The snapshots of the volumes and the record that says that they are the instance's count together.
            fresh.catch_up(store, held, journal)?;
            journal.undo(restore_volatile(store, old)?)?;
            journal.undo(restore_instance(store, old)?)?;
            journal.keep()?;
        }
        act(Some(journal))
    })
}

/// The NUMA node of a running instance follows from what was just done to it; a stopped one gets it at its start.
fn note_node(store: &Store, changes: &Changes, new: &mut Loaded) -> Result<()> {
    match changes.actions.contains(&keys::Action::Cpu) {
        true => cpus::note_node(store, (&new.project, &new.name), &mut new.volatile.config),
        false => Ok(()),
    }
}

/// The records that `put` makes of `old`: the instance's, and the volatile keys.
fn records(old: &Loaded, put: InstancePut) -> Result<(Instance, Config)> {
    if !put.restore.is_empty() || put.disk_only {
        return Err(Error::unsupported("Restoring snapshots is not supported by this version"));
    }
    // A key that is empty is a key that is not set.
    let config = put.config.into_iter().filter(|(_, v)| !v.is_empty()).collect();
    let (config, volatile) = split_volatile(config);
    check_volatile(&old.volatile.config, &volatile)?;
    // As Incus: what it does not know leaves the architecture as it is.
    let known = ARCHITECTURES.contains(&put.architecture.as_str());
    let architecture = if known { put.architecture } else { old.instance.architecture.clone() };
    let instance = Instance {
        architecture,
        description: put.description,
        ephemeral: put.ephemeral,
        profiles: put.profiles,
        config,
        devices: put.devices,
        ..old.instance.clone()
    };
    Ok((instance, volatile))
}

fn check_volatile(old: &Config, new: &Config) -> Result<()> {
    let protected = [
        &keys::VOLATILE_IDMAP_BASE,
        &keys::VOLATILE_IDMAP_CURRENT,
        &keys::VOLATILE_IDMAP_NEXT,
        &keys::VOLATILE_LAST_STATE_IDMAP,
    ];
    if protected.iter().any(|k| k.get(old).is_some() && k.get(new).is_none()) {
        return Err(Error::invalid("Volatile idmap keys can't be deleted by the user"));
    }
    new.iter()
        .filter(|(k, v)| old.get(*k) != Some(v))
        .try_for_each(|(k, v)| keys::check(k, v, None).context("Invalid config"))
}

/// Each profile is there, and once.
fn check_profiles(store: &Store, project: &ProjectName, names: &[String]) -> Result<()> {
    let mut seen = BTreeSet::new();
    let twice = names.iter().any(|n| !seen.insert(n));
    load::profiles(store, project, names)?;
    if twice { Err(Error::invalid("Duplicate profile found in request")) } else { Ok(()) }
}

/// What [`check`] looks at.
#[derive(Debug, Clone, Copy)]
pub struct Checked<'a> {
    /// What counted so far.
    pub old: &'a Expanded,
    /// What is to count.
    pub new: &'a Expanded,
    /// The instance's own devices, as they are to be.
    pub local: &'a Devices,
    /// Type of the instance.
    pub kind: InstanceType,
}

/// Compares and checks the expanded configurations of an instance before and after a change.
///
/// # Errors
/// What is wrong with the new one, or cannot be done to an instance that exists.
pub fn check(store: &Store, checked: Checked<'_>) -> Result<Changes> {
    let Checked { old, new, local, kind } = checked;
    let changes = diff::diff(old, new, kind);
    keys::validate_expanded(&new.config).context("Invalid expanded config")?;
    changes.check(old, new)?;
    device::validate_all(local, Some(&new.devices), Some(kind)).context("Invalid expanded devices")?;
    check_pools(store, &changes.devices.added)?;
    Ok(changes)
}

/// The pools that devices name are there.
///
/// # Errors
/// [`crate::error::Kind::NotFound`].
pub fn check_pools(store: &Store, devices: &Devices) -> Result<()> {
    for (name, options) in devices.iter().filter(|(_, d)| device::device_type(d) == "disk") {
        let Some(pool) = device::disk::POOL.get(options) else { continue };
        let found = PoolName::parse(pool).and_then(|p| pool::need(store, &p));
        found.with_context(|| format!("Device validation failed for {name:?}"))?;
    }
    Ok(())
}

/// Renews the volatile keys that follow from other keys: the id map and cloud-init's identity. The lock that comes back is
/// to be held until the record is saved.
///
/// # Errors
/// As [`idmap::assign`].
pub fn refresh_volatile(
    store: &Store,
    changes: &Changes,
    new: &mut Loaded,
) -> Result<Option<Held<Allocator, Exclusive>>> {
    let config = &mut new.volatile.config;
    if changes.cloud_init {
        keys::VOLATILE_CLOUD_INIT_INSTANCE_ID.set(config, uuid::Uuid::new_v4().to_string());
    }
    if !changes.idmap {
        return Ok(None);
    }
    idmap::assign(store, (&new.project, &new.name), &new.expanded.config, config).context("Failed to get ID map")
}

/// An instance as it was and as it is to be.
#[derive(Clone, Copy)]
struct Saved<'a> {
    old: &'a Loaded,
    new: &'a Loaded,
    changes: &'a Changes,
}

/// Writes what differs. Two records take a journal, so that an instance never has the configuration of one id map and the
/// ids of another; it is that of what was done to what runs, which goes by the records once they are put back.
fn save(
    store: &Store,
    held: &Held<InstanceKey, Exclusive>,
    saved: Saved<'_>,
    journal: Option<&mut Journal<'_>>,
) -> Result<()> {
    let Saved { old, new, changes } = saved;
    let _networks = network::keep(store, &new.project, changes.devices.incoming().values())?;
    fault::point("config.begin")?;
    match (old.volatile != new.volatile, old.instance != new.instance) {
        (false, false) => Ok(()),
        (true, false) => store.save_volatile(held, &new.volatile),
        (false, true) => store.save_instance(held, &new.instance),
        (true, true) => match journal {
            Some(journal) => save_both(store, held, saved, journal),
            None => journal::run(store, "update", &[held], |journal| save_both(store, held, saved, journal)),
        },
    }
}

fn save_both(
    store: &Store,
    held: &Held<InstanceKey, Exclusive>,
    Saved { old, new, .. }: Saved<'_>,
    journal: &mut Journal<'_>,
) -> Result<()> {
    journal.undo(restore_volatile(store, old)?)?;
    journal.undo(restore_instance(store, old)?)?;
    store.save_volatile(held, &new.volatile)?;
    fault::point("config.volatile")?;
    store.save_instance(held, &new.instance)?;
    fault::point("config.record")
}

/// The action that puts the record of `old` back.
///
/// # Errors
/// Not found; it cannot be written as text.
pub fn restore_instance(store: &Store, old: &Loaded) -> Result<Action> {
    let path = store.instance_path(&old.project, &old.name)?;
    Ok(Action::RestoreFile { path, content: record::render(&old.instance)? })
}

/// The action that puts the volatile record of `old` back.
///
/// # Errors
/// Not found; it cannot be written as text.
pub fn restore_volatile(store: &Store, old: &Loaded) -> Result<Action> {
    let path = store.volatile_path(&old.project, &old.name)?;
    Ok(Action::RestoreFile { path, content: record::render(&old.volatile)? })
}
