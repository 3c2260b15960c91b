//! Custom volumes: storage of its own that instances attach, several at once if they like.
//!
//! A volume belongs to a project with the feature `storage.volumes`, or else to the default project. Its record says what
//! it is, its data lie in the pool, owners unshifted; an instance sees them through a mount with its own ID map. Who uses
//! a volume stands in the devices of instances and profiles. Whoever records a device that names one holds the volume with
//! others meanwhile ([`keep`]), whoever deletes or renames it holds it alone and looks for users then.

pub mod along;
pub mod attach;
pub(in crate::ops) mod carried;
pub mod change;
pub mod copy;
pub mod dependent;
pub mod export;
pub mod image;
pub mod import;
pub mod list;
pub mod owners;
mod quiet;
pub mod refresh;
pub mod rename;
pub(in crate::ops) mod renewed;
pub mod root;
pub mod snapshot;
pub mod unpacked;
mod users;

pub use users::{User, all_users, users};

use super::file::Files;
use super::{features, load, pool, restrict};
use crate::base::idmap::IdMap;
use crate::base::names::{PoolName, ProjectName, SnapshotName, VolumeName};
use crate::error::{Context, Error, Result};
use crate::model::attach::{Need, Rootfs, Supply};
use crate::model::instance::{Device, Devices, InstanceType};
use crate::model::keys::device::{
    device_type,
    disk::{self, Source},
};
use crate::model::keys::volume as keys;
use crate::model::project::Feature;
use crate::model::volume::{ContentType, CustomVolume};
use crate::storage::{Driver, Volume};
use crate::store::Store;
use crate::store::events::{self, Event};
use crate::store::lock::{Exclusive, Held, InstanceKey, Key, Shared, VolumeKey};
use crate::store::undo::{Volume as Named, VolumeKind};
use std::collections::BTreeMap;

/// A volume as a user names it: the project in use, the pool, the volume's name.
#[derive(Debug, Clone, Copy)]
pub struct Of<'a> {
    /// The project in use.
    pub project: &'a ProjectName,
    /// The pool.
    pub pool: &'a PoolName,
    /// The volume.
    pub name: &'a VolumeName,
}

/// Incus's words for a volume that is not there.
pub fn not_found() -> Error {
    Error::not_found("Storage volume not found")
}

fn taken() -> Error {
    Error::exists("Volume by that name already exists")
}

/// The project whose volumes the instances of `project` use: its own, or the default project's.
///
/// # Errors
/// Its record is damaged.
pub fn project_of(store: &Store, project: &ProjectName) -> Result<ProjectName> {
    features::owner(store, project, Feature::Volumes)
}

impl Of<'_> {
    /// What is locked: the volume under the project that has it.
    ///
    /// # Errors
    /// As [`project_of`].
    pub fn key(&self, store: &Store) -> Result<VolumeKey> {
        let project = project_of(store, self.project)?;
        Ok(VolumeKey { project, pool: self.pool.clone(), name: self.name.clone() })
    }
}

/// The storage layer's name.
fn data(key: &VolumeKey) -> Result<Volume> {
    Volume::custom(&key.project, &key.name)
}

/// The journal's name.
fn named(key: &VolumeKey) -> Named {
    Named {
        pool: key.pool.to_string(),
        kind: VolumeKind::Custom,
        project: key.project.to_string(),
        name: key.name.to_string(),
    }
}

/// The journal's name of a snapshot.
fn named_snapshot(key: &VolumeKey, snapshot: &SnapshotName) -> Named {
    Named { kind: VolumeKind::CustomSnapshot, name: format!("{}@{snapshot}", key.name), ..named(key) }
}

/// The pool is there.
fn need_pool(store: &Store, name: &PoolName) -> Result<()> {
    store.pool(name)?.map(drop).ok_or_else(|| Error::not_found("Storage pool not found"))
}

fn note(store: &Store, key: &VolumeKey, action: &str) {
    let source = format!("/1.0/storage-pools/{}/volumes/custom/{}", key.pool, key.name);
    let _ = events::append(store, &Event::lifecycle(action, &source, key.project.as_str(), serde_json::Value::Null));
}

/// The volume that a disk device of an instance of `project` names; none if its source is no volume.
///
/// # Errors
/// Not found: no volume or pool can have such a name.
fn of_device(store: &Store, project: &ProjectName, device: &Device) -> Result<Option<VolumeKey>> {
    let Source::Volume { pool, volume, .. } = disk::source(device) else { return Ok(None) };
    if device_type(device) != "disk" {
        return Ok(None);
    }
    let pool = PoolName::parse(pool).map_err(|_| Error::not_found("Storage pool not found"))?;
    let name = VolumeName::parse(volume).map_err(|_| not_found())?;
    Ok(Some(VolumeKey { project: project_of(store, project)?, pool, name }))
}

/// Looks whether the volumes that `devices` name are there, and can be what they are to an instance of this kind, or to a
/// profile.
///
/// # Errors
/// Not found: one of them is not. Invalid: it is none for that.
pub fn check_devices(
    store: &Store,
    project: &ProjectName,
    devices: &Devices,
    kind: Option<InstanceType>,
) -> Result<()> {
    for (name, device) in devices {
        let found = of_device(store, project, device).and_then(|key| match key {
            Some(key) if store.pool(&key.pool)?.is_none() => {
                Err(Error::not_found(format!("Storage pool \"{}\" not found", key.pool)))
            }
            Some(key) => store.volume(&key)?.ok_or_else(not_found).map(Some),
            None => Ok(None),
        });
        found
            .context("Failed loading custom volume")
            .and_then(|record| record.map_or(Ok(()), |record| fits(&record, device, kind).and(placed(&record, device))))
            .with_context(|| format!("Device validation failed for {name:?}"))?;
    }
    Ok(())
}

/// A volume can be what `device` has it be: disks and discs are for virtual machines.
fn fits(record: &CustomVolume, device: &Device, kind: Option<InstanceType>) -> Result<()> {
    if kind.is_none() && dependent::is(device) {
        return Err(Error::invalid("Dependent disks cannot be added to profiles"));
    }
    let what = match record.content_type {
        ContentType::Filesystem => return Ok(()),
        ContentType::Block => "block",
        ContentType::Iso => "ISO",
    };
    if kind == Some(InstanceType::Container) {
        return Err(Error::invalid(format!("Custom {what} volumes cannot be used on containers")));
    }
    if disk::PATH.get(device).is_some() {
        return Err(Error::invalid(format!("Custom {what} volumes cannot have a path defined")));
    }
    let many = kind.is_some() || record.content_type == ContentType::Iso || keys::SHARED.bool(&record.config)?;
    match many {
        true => Ok(()),
        false => Err(Error::invalid("Cannot add un-shared custom storage block volume to profile")),
    }
}

/// Files are somewhere in the instance.
fn placed(record: &CustomVolume, device: &Device) -> Result<()> {
    match disk::PATH.get(device).filter(|path| !path.is_empty()) {
        None if record.content_type == ContentType::Filesystem => {
            Err(Error::invalid("Custom filesystem volumes require a path to be defined"))
        }
        _ => Ok(()),
    }
}

/// A volume that is kept: with others, or alone if it goes with the instance.
#[derive(Debug)]
pub enum Kept {
    /// With others.
    Shared(Held<VolumeKey, Shared>),
    /// Alone.
    Alone(Held<VolumeKey, Exclusive>),
}

impl Kept {
    fn key(&self) -> &VolumeKey {
        match self {
            Self::Shared(held) => held.key(),
            Self::Alone(held) => held.key(),
        }
    }
}

/// Keeps the volumes that `devices` of the instance `me` name until what is returned is dropped: nobody deletes or renames one
/// before it is recorded that it is used. Nothing but allocators is locked meanwhile. What is moved has two names.
///
/// # Errors
/// Not found: one of them was deleted meanwhile. Invalid: one goes with another instance, or is to go with this one and has
/// other users. Busy.
pub fn keep<'a>(
    store: &Store,
    project: &ProjectName,
    devices: impl Iterator<Item = &'a Device>,
    me: &[&InstanceKey],
) -> Result<Vec<Kept>> {
    let mut keys: BTreeMap<String, (VolumeKey, bool)> = BTreeMap::new();
    for device in devices {
        let Some(key) = of_device(store, project, device).context("Failed loading custom volume")? else { continue };
        keys.entry(key.file_key()).or_insert((key, false)).1 |= dependent::is(device);
    }
    let one = |(key, alone): (VolumeKey, bool)| {
        let kept = match alone {
            true => Kept::Alone(store.lock_volume(key, "attach")?),
            false => Kept::Shared(store.lock(key, "")?),
        };
        store.volume(kept.key())?.ok_or_else(not_found).context("Failed loading custom volume")?;
        dependent::check_others(store, kept.key(), me, alone)?;
        Ok(kept)
    };
    keys.into_values().map(one).collect()
}

/// As [`keep`], with others, for a start: whether they are there is seen then.
///
/// # Errors
/// Busy.
pub fn hold<'a>(
    store: &Store,
    project: &ProjectName,
    devices: impl Iterator<Item = &'a Device>,
) -> Result<Vec<Held<VolumeKey, Shared>>> {
    let mut keys = Vec::new();
    for device in devices {
        keys.extend(of_device(store, project, device).context("Failed loading custom volume")?);
    }
    keys.sort_by_cached_key(Key::file_key);
    keys.dedup();
    keys.into_iter().map(|key| store.lock(key, "")).collect()
}

/// Has the need of a disk device for a volume satisfied, or for a path of the host that is there. `map`: the instance's ID map,
/// if it has one; the owners are settled ([`owners::settle`]). The volume is held.
///
/// # Errors
/// Not found: the volume, or its data. Conflict: the owners in it are another instance's.
pub fn supply(store: &Store, project: &ProjectName, need: &Need, map: Option<&IdMap>) -> Result<Supply> {
    supply_owned(store, project, need, &|key, driver| owners::check(store, key, driver, map))
}

/// The same, whoever owns what is in it.
///
/// # Errors
/// Not found: the volume, or its data.
pub fn source(store: &Store, project: &ProjectName, need: &Need) -> Result<Supply> {
    supply_owned(store, project, need, &|_, _| Ok(IdMap::default()))
}

/// Tells the map that the owners have in a volume that cannot be mapped.
type OwnersOf<'a> = &'a dyn Fn(&VolumeKey, &dyn Driver) -> Result<IdMap>;

fn supply_owned(store: &Store, project: &ProjectName, need: &Need, owners: OwnersOf<'_>) -> Result<Supply> {
    if let Need::HostPath { path, .. } = need {
        let beneath = restrict::folder_of(store, project, path)?;
        return Ok(Supply::HostPath { path: path.clone(), beneath });
    }
    let Need::Volume { pool, volume, required } = need else {
        return Err(Error::internal("A volume was asked for something else"));
    };
    match find(store, project, (pool, volume), owners) {
        Err(e) if e.kind() == crate::error::Kind::NotFound && !required => Ok(Supply::Absent),
        other => other,
    }
}

fn find(store: &Store, project: &ProjectName, (pool, volume): (&str, &str), owners: OwnersOf<'_>) -> Result<Supply> {
    let pool = PoolName::parse(pool)?;
    let name = VolumeName::parse(volume).map_err(|_| not_found())?;
    let key = Of { project, pool: &pool, name: &name }.key(store)?;
    let record = store.volume(&key)?.ok_or_else(not_found)?;
    fits(&record, &Device::new(), Some(InstanceType::Container))?;
    let (driver, volume) = (pool::need(store, &pool)?, data(&key)?);
    let maps = pool::maps_ids_of(store, &pool, &volume)?;
    let on_disk = if maps { IdMap::default() } else { owners(&key, driver.as_ref())? };
    let shift = maps && !keys::UNMAPPED.bool(&record.config)?;
    let root = folder_of(driver.as_ref(), &volume)?;
    Ok(Supply::Volume { root, shift, on_disk, initial: keys::initial(&record.config)? })
}

fn folder_of(driver: &dyn Driver, volume: &Volume) -> Result<std::path::PathBuf> {
    match driver.rootfs(volume)? {
        Rootfs::Dir { path } => Ok(path),
        Rootfs::Overlay { .. } => Err(Error::internal("A custom volume has layers")),
    }
}

/// The files of a volume, open; it is neither deleted nor restored meanwhile.
///
/// # Errors
/// Not found; busy; Invalid: it holds no files.
pub fn files(store: &Store, of: Of<'_>) -> Result<Files> {
    let held = store.lock(of.key(store)?, "")?;
    let content = need(store, held.key())?.content_type;
    if content.is_image() {
        return Err(Error::invalid(format!("Volume of content type {:?} has no files", content.as_str())));
    }
    let (driver, volume) = (pool::need(store, &held.key().pool)?, data(held.key())?);
    let root = crate::sys::path::open_root(&folder_of(driver.as_ref(), &volume)?)?;
    Ok(Files::of_volume((root, driver.owners(&volume)?), held))
}

/// A volume's record, under any lock of it.
fn need(store: &Store, key: &VolumeKey) -> Result<CustomVolume> {
    need_pool(store, &key.pool)?;
    store.volume(key)?.ok_or_else(not_found)
}

/// Refuses what nobody may do to a volume that a running instance uses.
fn refuse_running(store: &Store, users: &[User]) -> Result<()> {
    for user in users {
        let Some(name) = &user.instance else { continue };
        if load::running(store, &user.project, name)?.is_some() {
            return Err(Error::conflict("Volume is still in use by running instances"));
        }
    }
    Ok(())
}
