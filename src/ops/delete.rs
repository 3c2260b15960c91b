//! `delete`: the instance disappears at once, its files are freed last.

use super::volume::dependent::Dependents;
use super::{confine, image_import, lifecycle, load, network, nics, pool, snapshot, stop};
use crate::base::names::{Fingerprint, InstanceName, PoolName, ProjectName};
use crate::error::{Error, Result};
use crate::fault;
use crate::model::keys;
use crate::store::journal::Journal;
use crate::store::lock::{Exclusive, Held, InstanceKey};
use crate::store::undo::{Volume, VolumeKind};
use crate::store::{Action, Store};

/// Deletes an instance; a running one, and one whose pool is not to be had, only with `force`. What is returned says what of it
/// stays where it is.
///
/// # Errors
/// Not found; running; protected; its pool is not to be had.
pub fn delete(store: &Store, project: &ProjectName, name: &InstanceName, force: bool) -> Result<Option<Error>> {
    let mut held = store.lock_instance(project, name, "delete")?;
    if !store.instance_exists(project, name)? {
        lifecycle::settle(store, &held)?;
        return Err(load::not_found());
    }
    lifecycle::settle(store, &held)?;
    if !store.instance_exists(project, name)? {
        // An ephemeral one whose monitor was killed goes with that.
        return Ok(None);
    }
    check_protection(store, project, name)?;
    if load::running(store, project, name)?.is_some() {
        if !force {
            return Err(Error::conflict("The instance is currently running, stop it first or pass --force"));
        }
        stop::kill_and_wait(store, held)?;
        held = store.lock_instance(project, name, "delete")?;
        if !store.instance_exists(project, name)? {
            // An ephemeral one is gone with its end.
            return Ok(None);
        }
        if load::running(store, project, name)?.is_some() {
            return Err(Error::conflict("The instance was started again meanwhile"));
        }
    }
    let (lost, stays) = match lost(store, &held) {
        Some((pool, e)) if force => (Some(pool), Some(e.context(format!("The files of instance \"{name}\" stay")))),
        Some((_, e)) => return Err(e.hint("if it is gone for good: stapes delete --force <instance>")),
        None => (None, None),
    };
    run(store, &held, lost.as_ref())?;
    lifecycle::note(store, project, name, "instance-deleted");
    Ok(stays)
}

/// The pool of the root disk, if that is on record and not to be had, and why.
fn lost(store: &Store, held: &Held<InstanceKey, Exclusive>) -> Option<(PoolName, Error)> {
    let InstanceKey { project, name } = held.key();
    let pool = load::load(store, project, name).and_then(|l| l.pool()).ok()?;
    pool::open(store, &pool).err().map(|e| (pool, e))
}

/// A record that cannot be read protects nothing: deleting is the way out.
fn check_protection(store: &Store, project: &ProjectName, name: &InstanceName) -> Result<()> {
    let Ok(loaded) = load::load(store, project, name) else { return Ok(()) };
    if keys::SECURITY_PROTECTION_DELETE.bool(&loaded.expanded.config)? {
        return Err(Error::denied("Instance is protected from being deleted"));
    }
    Ok(())
}

/// Deletes a stopped instance under its lock; once begun it is done, by us or by recovery.
///
/// # Errors
/// What could not be removed; `doctor` finds it again.
pub fn locked(store: &Store, held: &Held<InstanceKey, Exclusive>) -> Result<()> {
    run(store, held, None)
}

fn run(store: &Store, held: &Held<InstanceKey, Exclusive>, lost: Option<&PoolName>) -> Result<()> {
    let along = Dependents::of(store, held, "delete")?;
    along.reachable(store).map_err(|e| e.hint("a volume that goes with the instance is there: detach it first"))?;
    let mut actions = actions(store, held, lost)?;
    actions.extend(along.removal(store, held.key())?);
    nics::release(store, (&held.key().project, &held.key().name));
    fault::point("delete.begin")?;
    Journal::forward(store, "delete", &along.proofs(held), actions)?.finish()?;
    fault::point("delete.done")
}

/// What deletes a stopped instance, but for the volumes that go with it; nothing is done to the pool `lost`.
///
/// # Errors
/// Its pool cannot be read.
pub(super) fn actions(
    store: &Store,
    held: &Held<InstanceKey, Exclusive>,
    lost: Option<&PoolName>,
) -> Result<Vec<Action>> {
    let there = |pool: &PoolName| lost != Some(pool);
    let InstanceKey { project, name } = held.key();
    let mut actions = vec![Action::ForgetInstance { project: project.to_string(), name: name.to_string() }];
    for pool in pools_with_volume(store, held)?.into_iter().filter(there) {
        actions.extend(snapshot::all_volumes(store, held, &pool)?.into_iter().map(Action::RemoveVolume));
        actions.push(Action::RemoveVolume(Volume {
            pool: pool.to_string(),
            kind: VolumeKind::Container,
            project: project.to_string(),
            name: name.to_string(),
        }));
    }
    actions.push(Action::RemoveTree { path: store.layout().instance_log_dir(project, name) });
    actions.push(Action::RemoveTree { path: store.layout().instance_run_dir(project, name) });
    actions.extend(confine::forget(store.layout(), project, name));
    let image = base_image(store, held).filter(|(pool, _)| there(pool));
    actions.extend(image.map(|(pool, image)| image_import::volume(&pool, &image)));
    if network::zone_server::is_told(store) {
        actions.push(Action::RenewZones);
    }
    Ok(actions)
}

/// The pool of the root disk; for a record that cannot be read, every pool that has a volume of that name.
fn pools_with_volume(store: &Store, held: &Held<InstanceKey, Exclusive>) -> Result<Vec<PoolName>> {
    let InstanceKey { project, name } = held.key();
    if let Ok(pool) = load::load(store, project, name).and_then(|l| l.pool()) {
        return Ok(vec![pool]);
    }
    let volume = crate::storage::Volume::container(project, name)?;
    let mut found = Vec::new();
    for (pool, _) in store.pools()? {
        if pool::open(store, &pool).ok().flatten().is_some_and(|d| d.exists(&volume).unwrap_or(false)) {
            found.push(pool);
        }
    }
    Ok(found)
}

/// The unpacked image it was made from: that goes with its last user once its record is gone.
fn base_image(store: &Store, held: &Held<InstanceKey, Exclusive>) -> Option<(PoolName, Fingerprint)> {
    let InstanceKey { project, name } = held.key();
    let loaded = load::load(store, project, name).ok()?;
    let image = Fingerprint::parse(keys::VOLATILE_BASE_IMAGE.get(&loaded.volatile.config)?).ok()?;
    Some((loaded.pool().ok()?, image))
}
