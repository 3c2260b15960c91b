//! `delete`: the instance disappears at once, its files are freed last.

use super::{confine, image_import, lifecycle, load, network, nics, pool, snapshot, stop};
use crate::base::names::{Fingerprint, InstanceName, PoolName, ProjectName};
use crate::error::{Error, Result};
use crate::fault;
use crate::model::keys;
use crate::store::journal::Journal;
use crate::store::lock::{Exclusive, Held, InstanceKey};
use crate::store::undo::{Volume, VolumeKind};
use crate::store::{Action, Store};

/// Deletes an instance; a running one only with `force`.
///
/// # Errors
/// Not found; running; protected.
pub fn delete(store: &Store, project: &ProjectName, name: &InstanceName, force: bool) -> Result<()> {
    let mut held = store.lock_instance(project, name, "delete")?;
    if !store.instance_exists(project, name)? {
        lifecycle::settle(store, &held)?;
        return Err(load::not_found());
    }
    lifecycle::settle(store, &held)?;
    if !store.instance_exists(project, name)? {
        // An ephemeral one whose monitor was killed goes with that.
        return Ok(());
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
            return Ok(());
        }
        if load::running(store, project, name)?.is_some() {
            return Err(Error::conflict("The instance was started again meanwhile"));
        }
    }
    locked(store, &held)?;
    lifecycle::note(store, project, name, "instance-deleted");
    Ok(())
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
    let actions = actions(store, held)?;
    nics::release(store, (&held.key().project, &held.key().name));
    fault::point("delete.begin")?;
    Journal::forward(store, "delete", &[held], actions)?.finish()?;
    fault::point("delete.done")
}

/// What deletes a stopped instance.
///
/// # Errors
/// Its pool cannot be read.
pub(super) fn actions(store: &Store, held: &Held<InstanceKey, Exclusive>) -> Result<Vec<Action>> {
    let InstanceKey { project, name } = held.key();
    let mut actions = vec![Action::ForgetInstance { project: project.to_string(), name: name.to_string() }];
    for pool in pools_with_volume(store, held)? {
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
    actions.extend(base_image(store, held).map(|(pool, image)| image_import::volume(&pool, &image)));
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
