//! `admin recover`: makes the records of what lies in the pools and has none, after the state folder was lost, in whole or in part.
//!
//! First the pools: one whose record is lost is found by what it bears ([`adopt`]). Then their volumes: instances from the
//! copies of their records, which are judged like any other stranger's; custom volumes also without one.

use super::network::project_of as network_project;
use super::pool_place::{self as place, Place};
use super::restrict::{self, Wanted};
use super::{features, lifecycle, load, network, pool, pool_lvm, pool_zfs, record_copy, storage, volume};
use crate::base::names::{InstanceName, NetworkName, PoolName, ProfileName, ProjectName, SnapshotName, VolumeName};
use crate::base::time;
use crate::error::{Context, Error, Result};
use crate::fault;
use crate::model::expand::Expanded;
use crate::model::instance::{Config, Instance, Volatile};
use crate::model::keys::{self, device, pool as pool_keys, volume as volume_keys};
use crate::model::pool::Pool;
use crate::model::project::Feature;
use crate::model::volume::{ContentType, CustomVolume, VolumeSnapshot};
use crate::storage::lvm::{DRIVER, Group};
use crate::storage::source::{self, Mark};
use crate::storage::zfs::{self, Root};
use crate::storage::{Driver, ImageFate, VolumeKind, disk};
use crate::store::atomic::Durability;
use crate::store::lock::VolumeKey;
use crate::store::types::Snapshot;
use crate::store::{Action, Store, journal, record};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// A pool to be recovered.
#[derive(Debug, Clone)]
pub struct LostPool {
    /// Its name.
    pub name: PoolName,
    /// Its driver.
    pub driver: String,
    /// Where it lies, with the options it is to have; no source: in the state folder.
    pub config: Config,
}

/// Makes the record of a pool that is there.
///
/// # Errors
/// Exists; not found: there is nothing; Conflict: it is another pool's that has its record. Nothing is changed then.
pub fn adopt(store: &Store, lost: &LostPool) -> Result<()> {
    let name = &lost.name;
    let lock = store.lock_pool_exclusive(name, "create")?;
    if store.pool(name)?.is_some() {
        return Err(Error::exists("The storage pool already exists"));
    }
    let mut config = lost.config.clone();
    pool_keys::check_each(&lost.driver, &config)?;
    let layout = store.layout();
    let (data, record) = (layout.pool_data(name), layout.pool_record(name));
    let fail = || format!("Failed recovering storage pool \"{name}\"");
    match lost.driver.as_str() {
        DRIVER => pool_lvm::recall(layout, name, &mut config).with_context(fail)?,
        zfs::DRIVER => pool_zfs::recall(store, name, &mut config).with_context(fail)?,
        _ => {}
    }
    let chosen = Place::of(layout, name, &lost.driver, &config);
    let id = identity(&chosen, &data, &record).with_context(fail)?;
    // It can grow as before.
    if let Some(file) = chosen.image().and_then(|path| path.metadata().ok())
        && pool_keys::SIZE.get(&config).is_none()
    {
        pool_keys::SIZE.set(&mut config, file.len().to_string());
    }
    // Until all is recovered, nothing without a record is thrown away.
    pool_keys::RECOVERED.set(&mut config, "true");
    if let Some(id) = &id {
        pool_keys::ID.set(&mut config, id);
    }
    journal::run(store, "recover", &[&lock], |journal| {
        journal.commits_by(&record)?;
        fault::point("recover.pool")?;
        let at = place::attach(store, name, &chosen, &config)?;
        if let Some(id) = id {
            source::adopt(&at, &Mark { id, pool: name.to_string(), record: record.clone() })?;
        }
        let (driver, description) = (lost.driver.clone(), String::new());
        pool::make_at(store, &lock, Pool { format: 1, driver, description, config: config.clone() }, &at)?;
        fault::point("recover.pool.recorded")
    })
    .with_context(fail)?;
    storage::note(store, name, "storage-pool-created");
    Ok(())
}

/// What tells the pool from others; none for one in the state folder.
fn identity(chosen: &Place, data: &Path, record: &Path) -> Result<Option<String>> {
    match chosen {
        Place::Own if data.join(VolumeKind::Container.folder()).is_dir() => Ok(None),
        Place::Own => Err(Error::not_found(format!("There is no pool in \"{}\"", data.display()))),
        Place::Folder(path) => {
            let found = source::mark(path)?;
            let found = found.ok_or_else(|| Error::invalid(format!("\"{}\" holds no storage pool", path.display())))?;
            match found.record != record && found.record.exists() {
                true => Err(Error::conflict(format!("Source path is in use by storage pool \"{}\"", found.pool))
                    .hint(format!("that pool's record is {}", found.record.display()))),
                false => Ok(Some(found.id)),
            }
        }
        Place::Group(Group { id, .. }, _) | Place::Zfs(Root { id, .. }, _) => Ok(Some(id.clone())),
        Place::Disk(on) => {
            let none = || Error::invalid(format!("\"{}\" holds no storage pool", on.path().display()));
            disk::identity(on.path())?.ok_or_else(none).map(Some)
        }
    }
}

/// What a volume without a record was.
#[derive(Debug)]
enum What {
    Instance(Box<Instance>),
    Custom(CustomVolume),
}

/// A volume without a record.
#[derive(Debug)]
pub struct Unknown {
    pool: PoolName,
    project: ProjectName,
    name: String,
    what: What,
    snapshots: Vec<SnapshotName>,
}

impl Unknown {
    /// As it is listed.
    pub fn label(&self) -> String {
        let (kind, count) = match self.what {
            What::Instance(_) => ("Container", self.snapshots.len()),
            What::Custom(_) => ("Volume", self.snapshots.len()),
        };
        let (name, pool, project) = (&self.name, self.pool.as_str(), self.project.as_str());
        format!("{kind} {name:?} on pool {pool:?} in project {project:?} (includes {count} snapshots)")
    }
}

/// What a scan found.
#[derive(Debug, Default)]
pub struct Found {
    /// Volumes that can be recovered.
    pub unknown: Vec<Unknown>,
    /// What they need and is not there, as it is listed.
    pub missing: Vec<String>,
    /// Volumes that cannot be recovered, and why.
    pub hopeless: Vec<String>,
}

/// Looks through the pools for volumes that have no record.
///
/// # Errors
/// The state folder cannot be read; a pool cannot be opened.
pub fn scan(store: &Store) -> Result<Found> {
    let mut found = Found::default();
    let mut missing = BTreeSet::new();
    for (pool, _) in store.pools()? {
        let driver = pool::need(store, &pool)?;
        for kind in [VolumeKind::Container, VolumeKind::Custom] {
            for volume in driver.list(kind)? {
                match unknown(store, driver.as_ref(), &pool, &volume) {
                    Ok(Some(one)) => found.unknown.push(one),
                    Ok(None) => {}
                    Err(e) => {
                        found.hopeless.push(format!("{}/{} on pool \"{pool}\": {e}", kind.folder(), volume.name()))
                    }
                }
            }
        }
    }
    for one in &found.unknown {
        missing.extend(needs(store, one, &found.unknown)?);
    }
    found.missing = missing.into_iter().collect();
    Ok(found)
}

/// Project and name of a volume in the pool: no project's name and no instance's has an underscore.
fn names(kind: VolumeKind, name: &str) -> Result<(ProjectName, String)> {
    match (kind, name.split_once('_')) {
        (_, Some((project, rest))) => Ok((ProjectName::parse(project)?, rest.to_string())),
        (VolumeKind::Container, None) => Ok((ProjectName::default(), name.to_string())),
        _ => Err(Error::invalid("It has no project in its name")),
    }
}

fn unknown(
    store: &Store,
    driver: &dyn Driver,
    pool: &PoolName,
    volume: &crate::storage::Volume,
) -> Result<Option<Unknown>> {
    let (project, name) = names(volume.kind(), volume.name())?;
    let kept = driver.kept_record(volume)?;
    let path = PathBuf::from(volume.name());
    let what = match volume.kind() {
        VolumeKind::Container => {
            if store.instance_exists(&project, &InstanceName::parse(&name)?)? {
                return Ok(None);
            }
            let text = kept.ok_or_else(|| Error::not_found("It has no copy of its record"))?;
            What::Instance(Box::new(record::parse(text.as_bytes(), &path)?))
        }
        _ => {
            let key = VolumeKey { project: project.clone(), pool: pool.clone(), name: VolumeName::parse(&name)? };
            if store.layout().volume_record(&key).exists() {
                return Ok(None);
            }
            let bare = CustomVolume {
                format: 1,
                description: String::new(),
                content_type: ContentType::Filesystem,
                created_at: time::now(),
                config: Config::new(),
            };
            What::Custom(kept.map_or(Ok(bare), |text| record::parse(text.as_bytes(), &path))?)
        }
    };
    let mut snapshots = Vec::new();
    let kind =
        if volume.kind() == VolumeKind::Container { VolumeKind::ContainerSnapshot } else { VolumeKind::CustomSnapshot };
    for one in driver.list(kind)? {
        if let Some((_, snapshot)) = one.snapshot_of().filter(|(of, _)| *of == volume.name()) {
            snapshots.push(SnapshotName::parse(snapshot)?);
        }
    }
    Ok(Some(Unknown { pool: pool.clone(), project, name, what, snapshots }))
}

/// What a volume needs and is not there.
fn needs(store: &Store, one: &Unknown, all: &[Unknown]) -> Result<Vec<String>> {
    let project = &one.project;
    if store.project(project)?.is_none() {
        return Ok(vec![format!("Project {:?}", project.as_str())]);
    }
    let What::Instance(instance) = &one.what else { return Ok(Vec::new()) };
    let mut missing = Vec::new();
    let owner = features::owner(store, project, Feature::Profiles)?;
    for profile in &instance.profiles {
        if store.profile(&owner, &ProfileName::parse(profile)?)?.is_none() {
            missing.push(format!("Profile {profile:?} in project {:?}", owner.as_str()));
        }
    }
    let networks = network_project(store, project)?;
    for options in instance.devices.values() {
        let Some(name) = device::nic::NETWORK.get(options).filter(|_| device::device_type(options) == "nic") else {
            continue;
        };
        if NetworkName::parse(name).and_then(|n| store.network(&networks, &n))?.is_none() {
            missing.push(format!("Network {name:?} in project {:?}", networks.as_str()));
        }
    }
    let volumes = features::owner(store, project, Feature::Volumes)?;
    for options in instance.devices.values().filter(|d| device::device_type(d) == "disk") {
        let device::disk::Source::Volume { pool, volume, .. } = device::disk::source(options) else { continue };
        let key =
            VolumeKey { project: volumes.clone(), pool: PoolName::parse(pool)?, name: VolumeName::parse(volume)? };
        let comes = |other: &Unknown| {
            matches!(other.what, What::Custom(_))
                && (&other.project, &other.pool, other.name.as_str()) == (&key.project, &key.pool, volume)
        };
        if store.volume(&key)?.is_none() && !all.iter().any(comes) {
            missing.push(format!("Storage volume {volume:?} on pool {pool:?} in project {:?}", volumes.as_str()));
        }
    }
    Ok(missing)
}

/// Ends the recovery of pools in which nothing is left to be recovered: images that nobody needs go, and what bears no record is
/// waste again.
///
/// # Errors
/// The state folder or a pool cannot be written.
pub fn conclude(store: &Store) -> Result<()> {
    let left = scan(store)?;
    for (name, found) in store.pools()? {
        let waits = |one: &Unknown| one.pool == name;
        let marked = found.is_ok_and(|pool| pool_keys::RECOVERED.get(&pool.config).is_some());
        if !marked || left.unknown.iter().any(waits) || !left.hopeless.is_empty() {
            continue;
        }
        let lock = store.lock_pool_exclusive(&name, "recover")?;
        let driver = pool::need(store, &name)?;
        for image in driver.images()? {
            let _image = store.lock_image(&image, "recover")?;
            if store.image_owners(&image)?.is_empty()
                && let ImageFate::Gone(Some(trash)) = driver.delete_image(&image)?
            {
                driver.empty(&trash)?;
            }
        }
        if let Some(mut pool) = store.pool(&name)? {
            pool_keys::RECOVERED.remove(&mut pool.config);
            store.save_pool(&lock, &pool)?;
        }
    }
    Ok(())
}

/// Makes the records of what was found, custom volumes first. What of single ones fails is returned; the others are there.
pub fn recover(store: &Store, found: &Found) -> Vec<Error> {
    let (custom, instances): (Vec<_>, Vec<_>) =
        found.unknown.iter().partition(|one| matches!(one.what, What::Custom(_)));
    let one = |one: &&Unknown| {
        let done = match &one.what {
            What::Instance(instance) => instance_of(store, one, instance),
            What::Custom(record) => volume_of(store, one, record),
        };
        done.with_context(|| format!("Failed recovering {}", one.label())).err()
    };
    custom.iter().chain(&instances).filter_map(one).collect()
}

fn instance_of(store: &Store, one: &Unknown, record: &Instance) -> Result<()> {
    let (project, name) = (&one.project, InstanceName::parse(&one.name)?);
    let _project = restrict::hold(store, project, "recover")?;
    let _pool = store.lock_pool_shared(&one.pool)?;
    let held = store.lock_instance(project, &name, "recover")?;
    lifecycle::settle(store, &held)?;
    let driver = pool::need(store, &one.pool)?;
    let volatile = record.volatile_at_creation();
    let mut instance = Instance { volatile: None, ephemeral: false, ..record.clone() };
    keys::validate_config(&instance.config, instance.kind)?;
    volatile.config.iter().try_for_each(|(key, value)| keys::check(key, value, None))?;
    let mut expanded = load::expanded(store, project, &instance)?;
    if pool::of_root(&expanded.devices).map_or(true, |(_, configured)| configured != one.pool) {
        pool::put_root(&mut instance, &expanded, &one.pool);
        expanded = load::expanded(store, project, &instance)?;
    }
    keys::validate_expanded(&expanded.config)?;
    device::validate_all(&instance.devices, Some(&expanded.devices), Some(instance.kind))?;
    volume::check_devices(store, project, &expanded.devices, Some(instance.kind))?;
    network::check_devices(store, project, &expanded.devices, Some(instance.kind))?;
    restrict::check(store, Wanted { project, name: &name, kind: instance.kind, expanded: &expanded })?;
    let snapshots = snapshots_of(one, driver.as_ref(), (&instance, &expanded))?;
    journal::run(store, "recover", &[&held], |journal| {
        journal.undo(Action::ForgetInstance { project: project.to_string(), name: name.to_string() })?;
        journal.commits_by(&store.layout().instance_record(project, &name))?;
        fault::point("recover.begin")?;
        let _networks = network::keep(store, project, instance.devices.values())?;
        store.begin_snapshots(&held, false, &snapshots)?;
        fault::point("recover.snapshots")?;
        store.publish_instance(&held, &instance, &at_rest(volatile), Durability::Durable)?;
        fault::point("recover.record")
    })?;
    record_copy::instance(store, (project, &name), true);
    lifecycle::note(store, project, &name, "instance-created");
    Ok(())
}

/// Without what was only true while it ran.
fn at_rest(mut volatile: Volatile) -> Volatile {
    volatile.config.retain(|key, _| {
        let of_run = [&keys::VOLATILE_LAST_STATE_POWER, &keys::VOLATILE_LAST_STATE_READY];
        !of_run.iter().any(|k| k.matches(key)) && !keys::VOLATILE_DEVICE_HOST_NAME.matches(key)
    });
    volatile
}

/// The records of its snapshots; without a copy one is as the instance is now.
fn snapshots_of(
    one: &Unknown,
    driver: &dyn Driver,
    (instance, expanded): (&Instance, &Expanded),
) -> Result<Vec<(SnapshotName, Snapshot)>> {
    let volume = crate::storage::Volume::container(&one.project, &InstanceName::parse(&one.name)?)?;
    let mut all = Vec::new();
    for name in &one.snapshots {
        let kept = driver.kept_record(&volume.snapshot(name)?)?;
        let mut record = match kept {
            Some(text) => record::parse(text.as_bytes(), Path::new(name.as_str()))?,
            None => Snapshot {
                format: 1,
                created_at: instance.created_at,
                expires_at: None,
                scheduled_for: None,
                stateful: false,
                volatile: Config::new(),
                instance: instance.clone(),
            },
        };
        keys::validate_config(&record.instance.config, record.instance.kind)?;
        device::validate_all(&record.instance.devices, None, Some(record.instance.kind))?;
        pool::put_root(&mut record.instance, expanded, &one.pool);
        all.push((name.clone(), record));
    }
    Ok(all)
}

fn volume_of(store: &Store, one: &Unknown, record: &CustomVolume) -> Result<()> {
    let name = VolumeName::parse(&one.name)?;
    let key = VolumeKey { project: one.project.clone(), pool: one.pool.clone(), name };
    let _project = restrict::hold(store, &key.project, "recover")?;
    let _pool = store.lock_pool_shared(&key.pool)?;
    let lock = store.lock_volume(key.clone(), "recover")?;
    if store.layout().volume_record(&key).exists() {
        return Err(Error::exists("Volume by that name already exists"));
    }
    volume_keys::check(&key.name, record.content_type, &record.config)?;
    let driver = pool::need(store, &key.pool)?;
    let volume = crate::storage::Volume::custom(&key.project, &key.name)?;
    journal::run(store, "recover", &[&lock], |journal| {
        journal.undo(Action::RemoveTree { path: store.layout().volume_snapshots_dir(&key) })?;
        journal.commits_by(&store.layout().volume_record(&key))?;
        fault::point("recover.volume.begin")?;
        for snapshot in &one.snapshots {
            let bare = VolumeSnapshot {
                format: 1,
                description: String::new(),
                created_at: record.created_at,
                expires_at: None,
                scheduled_for: None,
                config: record.config.clone(),
            };
            let kept = driver.kept_record(&volume.snapshot(snapshot)?)?;
            let of = Path::new(snapshot.as_str());
            let made = kept.map_or(Ok(bare), |text| record::parse(text.as_bytes(), of))?;
            volume_keys::check(&key.name, record.content_type, &made.config)?;
            store.save_volume_snapshot(&lock, snapshot, &made)?;
        }
        fault::point("recover.volume.snapshots")?;
        store.save_volume(&lock, record)?;
        fault::point("recover.volume.record")
    })?;
    record_copy::volume(store, &key);
    Ok(())
}
