//! `create`: an instance from an image, or an empty one. It is there with its record, or not at all.

use super::network::{
    self,
    attach::{self, Connection},
    taken::{self, Owner},
};
use super::restrict::{self, Wanted};
use super::spawn::Waiting;
use super::{application, idmap, image, lifecycle, load, nics, pool, quota, snapshot, start};
use crate::base::names::{Fingerprint, InstanceName, NetworkName, PoolName, ProjectName};
use crate::base::{petname, time};
use crate::error::{Context, Error, Result};
use crate::fault;
use crate::model::expand::{Expanded, image_config, keep_initial};
use crate::model::image::Image;
use crate::model::instance::{Config, Device, Devices, Instance, InstanceType, Volatile};
use crate::model::keys::{self, device::disk, volatile_value, volume as volume_keys};
use crate::ops::record_copy;
use crate::storage::Driver;
use crate::store::atomic::Durability;
use crate::store::journal;
use crate::store::lock::{Exclusive, Held, InstanceKey};
use crate::store::undo::{Volume, VolumeKind};
use crate::store::{Action, Store};

/// What is wanted.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// Project.
    pub project: ProjectName,
    /// Name; none chooses one.
    pub name: Option<InstanceName>,
    /// The image, already in the local store; none makes an empty instance.
    pub image: Option<Fingerprint>,
    /// Local configuration.
    pub config: Config,
    /// Local devices.
    pub devices: Devices,
    /// Profiles; none takes the image's, else `default`.
    pub profiles: Option<Vec<String>>,
    /// Deleted when it stops.
    pub ephemeral: bool,
    /// Free text.
    pub description: String,
    /// Options over a device's that the profiles or `devices` have, by device.
    pub device_overrides: Devices,
    /// Pool of the root disk, over what the profiles say.
    pub storage: Option<PoolName>,
    /// Bytes of the root disk, unless a device of its own says so.
    pub root_size: Option<u64>,
    /// `--network`: the network of the first interface.
    pub network: Option<NetworkName>,
}

/// Creates it; its name.
///
/// # Errors
/// The name is taken; the image, a profile or the pool is missing; a key or device is wrong. Nothing is left then.
pub fn create(store: &Store, request: &Request) -> Result<InstanceName> {
    with_lock(store, request, "create", |_, _| Ok(()), |held, ()| Ok(held.key().name.clone()))
}

/// Creates and starts it; its name. An instance that was made and does not start stays.
///
/// # Errors
/// As [`create`] and `start`.
pub fn launch(store: &Store, request: &Request) -> Result<InstanceName> {
    // The monitor comes to itself while the instance is made.
    let begin = |held: &_, new: &mut New| {
        new.sync = Durability::Whole;
        let snapshot = snapshot::due_at_start(store, &request.project, &new.expanded)?;
        Ok((Waiting::new(store, held, &new.expanded.config)?, snapshot))
    };
    with_lock(store, request, "launch", begin, |held, (monitor, snapshot)| {
        let InstanceKey { project, name } = held.key();
        if let Some(pool) = snapshot {
            store.sync_instance(held)?;
            snapshot::at_start(store, held, &pool)?;
        }
        // Until we say that it is there, and no longer, a power cut may take the instance away.
        let (synced, started) = std::thread::scope(|scope| {
            let synced = scope.spawn(|| store.sync_instance(held));
            let started = start::with_monitor(store, held, monitor);
            (synced.join().unwrap_or_else(|_| Err(Error::internal("Recording ended early"))), started)
        });
        started.and(synced)?;
        lifecycle::note(store, project, name, "instance-started");
        Ok(name.clone())
    })
}

fn with_lock<T>(
    store: &Store,
    request: &Request,
    verb: &str,
    begin: impl FnOnce(&Held<InstanceKey, Exclusive>, &mut New) -> Result<T>,
    then: impl FnOnce(&Held<InstanceKey, Exclusive>, T) -> Result<InstanceName>,
) -> Result<InstanceName> {
    let name = match &request.name {
        Some(name) => name.clone(),
        None => free_name(store, &request.project)?,
    };
    pool::ensure_default(store)?;
    let _project = restrict::hold(store, &request.project, verb)?;
    let mut new = prepare(store, request, &name)?;
    let _pool = store.lock_pool_shared(&new.pool)?;
    let shared = request.image.as_ref().map(|f| store.lock_image_shared(f)).transpose()?;
    let held = store.lock_instance(&request.project, &name, verb)?;
    let begun = begin(&held, &mut new)?;
    make(store, &held, new, request.image.as_ref())?;
    // The volume keeps the image alive from here on.
    drop(shared);
    lifecycle::note(store, &request.project, &name, "instance-created");
    then(&held, begun)
}

/// A name that is free now.
///
/// # Errors
/// [`crate::error::Kind::Failed`] if the dice fall badly.
pub fn free_name(store: &Store, project: &ProjectName) -> Result<InstanceName> {
    for _ in 0..50 {
        let name = InstanceName::parse(&petname::random())?;
        if !store.instance_exists(project, &name)? {
            return Ok(name);
        }
    }
    Err(Error::failed("Failed finding a free instance name").hint("give one"))
}

/// The device, and the interface inside, of `--network`.
const FIRST_NIC: &str = "eth0";

/// An instance that is ready to be made.
#[derive(Debug)]
pub struct New {
    instance: Instance,
    volatile: Volatile,
    expanded: Expanded,
    /// Pool of its root.
    pub pool: PoolName,
    sync: Durability,
}

/// The instance a request stands for, and what it amounts to with the profiles.
///
/// # Errors
/// The image or a profile is missing; an override has nothing to act on.
pub fn effective(store: &Store, request: &Request) -> Result<(Instance, Expanded)> {
    if let Some(pool) = &request.storage {
        let found = store.pool(pool)?.map(drop);
        found.ok_or_else(|| {
            Error::not_found(format!("Failed loading storage pool \"{pool}\": Storage pool not found"))
        })?;
    }
    let image = request.image.as_ref().map(|f| image_of(store, f)).transpose()?;
    let mut instance = record(request, image.as_ref())?;
    let expanded = load::expanded(store, &request.project, &instance)?;
    if let Some(wanted) = &request.network {
        let connection = Connection::new(wanted, Some(FIRST_NIC), Some(FIRST_NIC));
        let device = attach::device(store, &request.project, &connection);
        let fail = || format!("Failed loading network \"{wanted}\"");
        instance.devices.insert(connection.device, device.with_context(fail)?);
    }
    put_devices(&mut instance, &expanded, &request.device_overrides, request.storage.as_ref())?;
    keep_initial(&mut instance.devices, &expanded.devices);
    if let Some(bytes) = request.root_size {
        bound_root(&mut instance, &expanded, bytes);
    }
    if instance.devices == request.devices {
        return Ok((instance, expanded));
    }
    let expanded = load::expanded(store, &request.project, &instance)?;
    Ok((instance, expanded))
}

/// Puts the records together and checks everything that can be checked without a lock on the instance.
///
/// # Errors
/// As [`create`].
pub fn prepare(store: &Store, request: &Request, name: &InstanceName) -> Result<New> {
    let (mut instance, mut expanded) = effective(store, request)?;
    keys::validate_config(&instance.config, instance.kind)?;
    keys::validate_expanded(&expanded.config)?;
    for (device, options) in &instance.devices {
        keys::device::validate(device, options, instance.kind)?;
    }
    network::check_devices(store, &request.project, &expanded.devices, Some(instance.kind))?;
    super::volume::check_devices(store, &request.project, &expanded.devices, Some(instance.kind))?;
    super::volume::dependent::check_new(store, &request.project, &Devices::new(), &expanded.devices)?;
    let owner = Owner { project: &request.project, name, devices: &expanded.devices };
    taken::check(store, owner, &expanded.devices)?;
    let wanted = Wanted { project: &request.project, name, kind: instance.kind, expanded: &expanded };
    restrict::check(store, wanted)?;
    let (root, pool) = pool::of_root(&expanded.devices)?;
    keys::device::root_disk(&expanded.devices).context("Failed detecting root disk device")?;
    check_initial(store, request, (&root, &pool))?;
    if store.instance_exists(&request.project, name)? {
        return Err(taken(name));
    }
    if let Some(wanted) = &request.image {
        image::ensure_unpacked(store, &pool, wanted)?;
    }
    let image = request.image.as_ref().map(Fingerprint::as_str);
    let mut volatile = volatile(&expanded.config, image, volatile_value::TEMPLATE_CREATE)?;
    if let Some(image) = request.image.as_ref().filter(|_| application::is_image(&instance.config)) {
        let driver = pool::need(store, &pool)?;
        application::adopt(driver.as_ref(), image, &mut instance, &mut expanded, &mut volatile.config)?;
    }
    nics::choose(store, &request.project, &expanded.devices, &mut volatile.config)?;
    Ok(New { instance, volatile, expanded, pool, sync: Durability::Durable })
}

/// Refuses what was asked for and roots on the pool have not. What profiles say counts where it can: they are for all pools.
fn check_initial(store: &Store, request: &Request, (root, pool): (&str, &PoolName)) -> Result<()> {
    let asked = [&request.devices, &request.device_overrides].into_iter().filter_map(|devices| devices.get(root));
    asked.filter(|device| device.keys().any(|key| keys::device::INITIAL.matches(key))).try_for_each(|device| {
        let driver = pool::need(store, pool)?;
        volume_keys::check_root(driver.name(), device)
    })
}

pub(super) fn taken(name: &InstanceName) -> Error {
    Error::exists(format!("Failed creating instance record: Instance \"{name}\" already exists"))
}

/// The record of an image.
pub(super) fn image_of(store: &Store, fingerprint: &Fingerprint) -> Result<Image> {
    store.image(fingerprint)?.ok_or_else(|| Error::not_found(format!("Image \"{fingerprint}\" not found")))
}

fn record(request: &Request, image: Option<&Image>) -> Result<Instance> {
    let default = || vec!["default".to_string()];
    let profiles = match (&request.profiles, image) {
        (Some(given), _) => given.clone(),
        (None, Some(image)) => image.profiles.clone(),
        (None, None) => default(),
    };
    // What an image says can only be image.*: it sets no key that acts on the host (CVE-2026-40226).
    let mut config = image.map(image_config).unwrap_or_default();
    config.extend(request.config.clone());
    if image.is_some_and(|i| i.kind != InstanceType::Container) {
        return Err(image::no_container());
    }
    Ok(Instance {
        format: 1,
        kind: InstanceType::Container,
        architecture: image.map_or_else(|| std::env::consts::ARCH.to_string(), |i| i.architecture.clone()),
        description: request.description.clone(),
        ephemeral: request.ephemeral,
        stateful: false,
        created_at: time::now(),
        profiles,
        config,
        devices: request.devices.clone(),
        root: Default::default(),
        volatile: None,
    })
}

/// `-d device,key=value`: the device as it is, or as the profiles have it, with these options, becomes a local one.
pub(super) fn override_devices(instance: &mut Instance, expanded: &Expanded, overrides: &Devices) -> Result<()> {
    for (name, options) in overrides {
        let base = instance.devices.get(name).or(expanded.devices.get(name)).cloned();
        if base.is_none() && !options.contains_key("type") {
            return Err(Error::invalid(format!(
                "Cannot override config for device \"{name}\": Device not found in profile devices"
            )));
        }
        let mut device = base.unwrap_or_default();
        device.extend(options.clone());
        instance.devices.insert(name.clone(), device);
    }
    Ok(())
}

/// [`override_devices`] with the root disk on a pool, if one is given: where there is none, one is made, which overrides count for,
/// too. An override of its pool counts most, as with Incus.
pub(super) fn put_devices(
    instance: &mut Instance,
    expanded: &Expanded,
    overrides: &Devices,
    pool: Option<&PoolName>,
) -> Result<()> {
    let Some(wanted) = pool else { return override_devices(instance, expanded, overrides) };
    if ![&instance.devices, &expanded.devices, overrides].iter().any(|all| all.values().any(pool::is_root)) {
        pool::put_root(instance, expanded, wanted);
    }
    override_devices(instance, expanded, overrides)?;
    let chosen = |(name, device): (&String, &Device)| {
        pool::is_root(device) && overrides.get(name).is_some_and(|device| disk::POOL.get(device).is_some())
    };
    if !instance.devices.iter().any(chosen) {
        pool::put_root(instance, expanded, wanted);
    }
    Ok(())
}

/// Gives the root disk a size; its device becomes a local one.
fn bound_root(instance: &mut Instance, expanded: &Expanded, bytes: u64) {
    let own = instance.devices.iter().find(|(_, d)| pool::is_root(d));
    let Some((name, root)) = own.or_else(|| expanded.devices.iter().find(|(_, d)| pool::is_root(d))) else { return };
    if own.is_some() && disk::SIZE.get(root).is_some() {
        return;
    }
    let (name, mut root) = (name.clone(), root.clone());
    disk::SIZE.set(&mut root, format!("{bytes}B"));
    instance.devices.insert(name, root);
}

/// What the program fills in for a new instance; `template`: which templates are due at its first start.
pub(super) fn volatile(expanded: &Config, image: Option<&str>, template: &str) -> Result<Volatile> {
    let mut config = Config::new();
    let uuid = || uuid::Uuid::new_v4().to_string();
    keys::VOLATILE_UUID.set(&mut config, uuid());
    let generation = keys::VOLATILE_UUID.get(&config).unwrap_or_default().to_string();
    keys::VOLATILE_UUID_GENERATION.set(&mut config, generation);
    keys::VOLATILE_CLOUD_INIT_INSTANCE_ID.set(&mut config, uuid());
    keys::VOLATILE_APPLY_TEMPLATE.set(&mut config, template);
    keys::VOLATILE_LAST_STATE_IDMAP.set(&mut config, volatile_value::IDMAP_NONE);
    if let Some(image) = image {
        keys::VOLATILE_BASE_IMAGE.set(&mut config, image);
    }
    let isolated = keys::SECURITY_IDMAP_ISOLATED.bool(expanded)?;
    if !isolated {
        keys::VOLATILE_IDMAP_BASE.set(&mut config, "0");
        let map = idmap::of(expanded, None)?;
        let text = map.map_or_else(|| volatile_value::IDMAP_NONE.to_string(), |m| m.to_json());
        keys::VOLATILE_IDMAP_NEXT.set(&mut config, text);
    }
    Ok(Volatile { format: 1, last_used_at: None, config })
}

/// Makes the volume and the records under the instance's lock, with a journal.
///
/// # Errors
/// As [`create`].
pub fn make(store: &Store, held: &Held<InstanceKey, Exclusive>, new: New, image: Option<&Fingerprint>) -> Result<()> {
    let InstanceKey { project, name } = held.key();
    lifecycle::settle(store, held)?;
    journal::run(store, "create", &[held], |journal| {
        // A name that is taken must not be undone: looked at under the lock, before anything is noted.
        if store.instance_exists(project, name)? {
            return Err(taken(name));
        }
        journal.undo(Action::RemoveVolume(Volume {
            pool: new.pool.to_string(),
            kind: VolumeKind::Container,
            project: project.to_string(),
            name: name.to_string(),
        }))?;
        journal.undo(Action::ForgetInstance { project: project.to_string(), name: name.to_string() })?;
        if !new.instance.ephemeral {
            journal.commits_by(&store.layout().instance_record(project, name))?;
        }
        fault::point("create.begin")?;
        make_parts(store, held, new, image)
    })
}

/// Makes the volume and the records; the caller's journal knows how to undo both.
///
/// # Errors
/// As [`create`].
pub fn make_parts(
    store: &Store,
    held: &Held<InstanceKey, Exclusive>,
    mut new: New,
    image: Option<&Fingerprint>,
) -> Result<()> {
    let driver = pool::need(store, &new.pool)?;
    let InstanceKey { project, name } = held.key();
    let _volumes = super::volume::keep(store, project, new.expanded.devices.values(), &[held.key()])?;
    quota::plan_root(store, driver.as_ref(), &new.expanded.devices)?;
    volume(driver.as_ref(), held, image)?;
    quota::new_root(store, driver.as_ref(), &crate::storage::Volume::container(project, name)?, &new.expanded.devices)?;
    fault::point("create.volume")?;
    let isolated = keys::SECURITY_IDMAP_ISOLATED.bool(&new.expanded.config)?;
    let config = &mut new.volatile.config;
    let _ids = isolated.then(|| idmap::assign(store, (project, name), &new.expanded.config, config)).transpose()?;
    let _networks = network::keep(store, project, new.instance.devices.values())?;
    record_copy::of_new(driver.as_ref(), (project, name), &new.instance, &new.volatile);
    store.publish_instance(held, &new.instance, &new.volatile, new.sync)?;
    fault::point("create.record")
}

fn volume(driver: &dyn Driver, held: &Held<InstanceKey, Exclusive>, image: Option<&Fingerprint>) -> Result<()> {
    let InstanceKey { project, name } = held.key();
    let volume = crate::storage::Volume::container(project, name)?;
    match image {
        Some(image) => driver.create_from_image(&volume, image),
        None => driver.create_empty(&volume),
    }
}
