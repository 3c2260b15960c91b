//! What can be said about the root volume of an instance: a description and keys of the user's. Called by `storage volume set` and
//! `edit`, and by `import`.

use super::{need_pool, not_found};
use crate::base::names::{InstanceName, PoolName, ProjectName, SnapshotName};
use crate::error::{Error, Result};
use crate::fault;
use crate::model::backup::FoundVolume;
use crate::model::instance::{Instance, RootVolume};
use crate::model::keys::volume as keys;
use crate::model::view::{VolumePut, VolumeSnapshotPut};
use crate::ops::{lifecycle, load, record_copy};
use crate::store::Store;
use crate::store::events::{self, Event};
use crate::store::lock::{Exclusive, Held, InstanceKey};

/// What is said about it, as users see it.
pub(super) fn put_of(instance: &Instance) -> VolumePut {
    VolumePut { config: instance.root.config.clone(), description: instance.root.description.clone() }
}

/// What a backup says about one: the user's keys; those of the driver it was on mean nothing here.
///
/// # Errors
/// Invalid: a value that cannot be.
pub fn found(said: Option<&FoundVolume>) -> Result<RootVolume> {
    let FoundVolume { description, mut config, .. } = said.cloned().unwrap_or_default();
    config.retain(|key, value| keys::USER.matches(key) && !value.is_empty());
    config.values().try_for_each(|value| keys::USER.value.check(value))?;
    Ok(RootVolume { description, config })
}

/// Changes it: `edit` is shown what can be written.
///
/// # Errors
/// Not found: the instance, or it is on another pool; what `edit` says; Invalid: a key that is the instance's or its root disk's.
pub fn update(
    store: &Store,
    (project, name): (&ProjectName, &InstanceName),
    pool: &PoolName,
    edit: &mut dyn FnMut(&mut VolumePut) -> Result<()>,
) -> Result<()> {
    let (held, loaded) = lock(store, (project, name), pool)?;
    let mut put = put_of(&loaded.instance);
    edit(&mut put)?;
    put.config.retain(|_, value| !value.is_empty());
    for (key, value) in &put.config {
        if *key == keys::SIZE.name {
            return Err(Error::invalid("Volume \"size\" property is not valid for volume type")
                .hint(format!("set it on the root disk: stapes config device set {name} root size=<size>")));
        }
        if !keys::USER.matches(key) {
            return Err(Error::invalid(format!("Invalid option for volume {:?} option {key:?}", name.as_str())));
        }
        keys::USER.value.check(value)?;
    }
    let root = RootVolume { description: put.description, config: put.config };
    fault::point("volume.update")?;
    store.save_instance(&held, &Instance { root, ..loaded.instance })?;
    record_copy::instance(store, (project, name), false);
    let source = format!("/1.0/storage-pools/{pool}/volumes/container/{name}");
    let event = Event::lifecycle("storage-volume-updated", &source, project.as_str(), serde_json::Value::Null);
    let _ = events::append(store, &event);
    Ok(())
}

/// The instance, if its root is on that pool.
fn lock(
    store: &Store,
    (project, name): (&ProjectName, &InstanceName),
    pool: &PoolName,
) -> Result<(Held<InstanceKey, Exclusive>, load::Loaded)> {
    need_pool(store, pool)?;
    let held = store.lock_instance(project, name, "update")?;
    lifecycle::settle(store, &held)?;
    if !store.instance_exists(project, name)? {
        return Err(not_found());
    }
    let loaded = load::load(store, project, name)?;
    if loaded.pool()? == *pool { Ok((held, loaded)) } else { Err(not_found()) }
}

/// Changes what is said about it in a snapshot: `edit` is shown what can be written.
///
/// # Errors
/// Not found: the instance, the snapshot, or it is on another pool; what `edit` says.
pub fn update_snapshot(
    store: &Store,
    who: (&ProjectName, &InstanceName),
    (pool, snapshot): (&PoolName, &SnapshotName),
    edit: &mut dyn FnMut(&mut VolumeSnapshotPut) -> Result<()>,
) -> Result<()> {
    let (held, _) = lock(store, who, pool)?;
    let mut record = store.snapshot(who.0, who.1, snapshot)?.ok_or_else(super::snapshot::not_found)?;
    let description = record.instance.root.description.clone();
    let mut put = VolumeSnapshotPut { description, expires_at: record.expires_at.into() };
    edit(&mut put)?;
    (record.instance.root.description, record.expires_at) = (put.description, put.expires_at.0);
    fault::point("volume.snapshot.update")?;
    store.save_snapshot(&held, snapshot, &record)?;
    record_copy::instance(store, who, true);
    Ok(())
}
