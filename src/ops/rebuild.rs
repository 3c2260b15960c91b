//! `rebuild`: an instance gets the root file system of an image, or an empty one, and keeps all else.
//!
//! The new root is made beside the old one and takes its place with the journal's commit, as in `restore`. An instance that has
//! snapshots cannot be rebuilt: restoring one would bring back a configuration of another image.

use super::update::{restore_instance, restore_volatile};
use super::{application, create, halted, image, image_import, lifecycle, load, pool, quota};
use crate::base::names::{Fingerprint, InstanceName, PoolName, ProjectName};
use crate::error::{Context, Error, Result};
use crate::fault;
use crate::model::expand::image_config;
use crate::model::instance::InstanceType;
use crate::model::keys::{self, volatile_value};
use crate::ops::record_copy;
use crate::store::lock::{Exclusive, Held, InstanceKey};
use crate::store::undo::{Volume as Named, VolumeKind};
use crate::store::{Action, Store, journal};

/// Rebuilds an instance; without an image it becomes empty. What runs is refused, or with `force` killed first and started
/// again at the end.
///
/// # Errors
/// Not found: the instance, the image; Conflict: it runs; it has snapshots; no room. All is as it was then.
pub fn rebuild(
    store: &Store,
    who: (&ProjectName, &InstanceName),
    image: Option<&Fingerprint>,
    force: bool,
) -> Result<()> {
    let (project, name) = who;
    let _project = store.lock_project_shared(project)?;
    let pool = load::load(store, project, name)?.pool()?;
    check(store, who, image)?;
    if let Some(image) = image {
        image::ensure_unpacked(store, &pool, image)?;
    }
    let _pool = store.lock_pool_shared(&pool)?;
    let _image = image.map(|f| store.lock_image_shared(f)).transpose()?;
    let refuse = "Instance must be stopped to be rebuilt";
    let mut halted = halted::halt(store, who, "rebuild", (!force).then_some(refuse))?;
    let done = store.lock_instance(project, name, "rebuild").and_then(|held| {
        lifecycle::settle(store, &held)?;
        if load::running(store, project, name)?.is_some() {
            return Err(Error::conflict("The instance was started again meanwhile"));
        }
        check(store, who, image)?;
        locked(store, &held, &pool, image)?;
        record_copy::instance(store, who, false);
        lifecycle::note(store, project, name, "instance-updated");
        halted::resume(store, &held, &mut halted)
    });
    halted::resumed(store, who, halted, done).context("Failed rebuilding the instance")
}

fn check(store: &Store, (project, name): (&ProjectName, &InstanceName), image: Option<&Fingerprint>) -> Result<()> {
    if !store.snapshots(project, name)?.is_empty() {
        return Err(Error::conflict("Cannot rebuild an instance that has snapshots").hint("delete them first"));
    }
    let Some(fingerprint) = image else { return Ok(()) };
    let found = create::image_of(store, fingerprint)?;
    if found.kind == InstanceType::Container { Ok(()) } else { Err(image::no_container()) }
}

fn locked(
    store: &Store,
    held: &Held<InstanceKey, Exclusive>,
    pool: &PoolName,
    image: Option<&Fingerprint>,
) -> Result<()> {
    let InstanceKey { project, name } = held.key();
    let loaded = load::load(store, project, name)?;
    if loaded.pool()? != *pool {
        return Err(Error::conflict("The instance was moved meanwhile"));
    }
    let new = renewed(store, &loaded, pool, image)?;
    let (driver, volume) = (pool::need(store, pool)?, loaded.volume()?);
    let target = Named {
        pool: pool.to_string(),
        kind: VolumeKind::Container,
        project: project.to_string(),
        name: name.to_string(),
    };
    let old = keys::VOLATILE_BASE_IMAGE.get(&loaded.volatile.config);
    quota::plan_root(store, driver.as_ref(), &loaded.expanded.devices)?;
    journal::run(store, "rebuild", &[held], |journal| {
        journal.undo(Action::AbortRestore(target.clone()))?;
        fault::point("rebuild.begin")?;
        match image {
            Some(image) => driver.begin_rebuild(&volume, image)?,
            None => drop(driver.begin_volume(&volume)?),
        }
        fault::point("rebuild.made")?;
        journal.undo(restore_volatile(store, &loaded)?)?;
        journal.undo(restore_instance(store, &loaded)?)?;
        journal.keep()?;
        store.save_volatile(held, &new.volatile)?;
        store.save_instance(held, &new.instance)?;
        fault::point("rebuild.record")?;
        journal.then(Action::FinishRestore(target))?;
        // What it was made of goes if nobody else is.
        old.map_or(Ok(()), |old| journal.then(image_import::volume(pool, old)))
    })
}

/// The records with what the image says in place of what the old one said.
fn renewed(store: &Store, old: &load::Loaded, pool: &PoolName, image: Option<&Fingerprint>) -> Result<load::Loaded> {
    let mut new = old.clone();
    let (config, volatile) = (&mut new.instance.config, &mut new.volatile.config);
    config.retain(|key, _| !key.starts_with(keys::IMAGE.name));
    for key in [&keys::OCI_ENTRYPOINT, &keys::OCI_CWD, &keys::OCI_UID, &keys::OCI_GID] {
        key.remove(config);
    }
    keys::VOLATILE_CONTAINER_OCI.remove(volatile);
    keys::VOLATILE_BASE_IMAGE.remove(volatile);
    keys::VOLATILE_LAST_STATE_IDMAP.set(volatile, volatile_value::IDMAP_NONE);
    keys::VOLATILE_APPLY_TEMPLATE.set(volatile, volatile_value::TEMPLATE_CREATE);
    keys::VOLATILE_CLOUD_INIT_INSTANCE_ID.set(volatile, uuid::Uuid::new_v4().to_string());
    let Some(image) = image else { return Ok(new) };
    config.extend(image_config(&create::image_of(store, image)?));
    keys::VOLATILE_BASE_IMAGE.set(volatile, image.as_str());
    new.expanded = load::expanded(store, &new.project, &new.instance)?;
    if application::is_image(&new.instance.config) {
        let driver = pool::need(store, pool)?;
        let load::Loaded { instance, volatile, expanded, .. } = &mut new;
        application::adopt(driver.as_ref(), image, instance, expanded, &mut volatile.config)?;
    }
    Ok(new)
}
