//! `import`: an instance of an archive that `export` made, here or on an Incus.
//!
//! The archive is hostile: its index is data like a user's, checked as `create` checks that, and its files go through the
//! unpacker of images, each volume beneath a folder of its own. What is not told of in the index is refused. The instance is
//! there with its record, which comes last.

use super::optimized::{self, Arriving, Holds};
use super::unpack::{self, Form, Part, Volumes};
use super::{INDEX_MAX, scratch};
use crate::base::idmap::IdMap;
use crate::base::names::{InstanceName, PoolName, ProfileName, ProjectName, SnapshotName};
use crate::base::{time, yaml};
use crate::error::{Context, Error, Result};
use crate::fault;
use crate::image::stream::{self, Kept};
use crate::image::tarread::{EntryKind, TarReader};
use crate::image::{Limits, OnProgress, metadata};
use crate::model::backup::{CUSTOM, Found, FoundInstance, FoundRecords, INDEX, STREAMED};
use crate::model::expand::{Expanded, split_volatile};
use crate::model::instance::{Config, Devices, Instance, InstanceType, Volatile};
use crate::model::keys::{self, volatile_value};
use crate::ops::record_copy;
use crate::ops::restrict::{self, Wanted};
use crate::ops::volume::carried::{Coming, Imported};
use crate::ops::{copy, create, idmap, lifecycle, load, network, nics, pool, profile, quota, snapshot, volume};
use crate::storage::{Driver, Volume};
use crate::store::atomic::Durability;
use crate::store::lock::{Exclusive, Held, InstanceKey, Proof, VolumeKey};
use crate::store::types::Snapshot;
use crate::store::undo::{Volume as Named, VolumeKind};
use crate::store::{Action, Store, journal};
use std::io::{BufRead, Read};

/// What is wanted.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// Project.
    pub project: ProjectName,
    /// Name; none: the one in the index.
    pub name: Option<InstanceName>,
    /// Pool of the root; none: the one in the index if it is there, else that of the profiles.
    pub storage: Option<PoolName>,
    /// Keys over the backup's.
    pub config: Config,
    /// Options over its devices'.
    pub device_overrides: Devices,
}

/// An instance that is ready to be made.
struct New {
    name: InstanceName,
    instance: Instance,
    volatile: Volatile,
    expanded: Expanded,
    pool: PoolName,
    snapshots: Vec<(SnapshotName, Snapshot)>,
    /// Its volumes come as streams.
    optimized: bool,
    /// What comes with it.
    coming: Coming,
    keys: Vec<VolumeKey>,
    /// Owners on disk that the volume of one of those has to have.
    map: Option<IdMap>,
}

/// Imports; the instance's name. `total`: bytes of `source`, if that is known.
///
/// # Errors
/// Invalid: no backup, a damaged one, one with names or keys that cannot be; Unsupported: a form that is not read here; Exists:
/// the name is taken; no room. Nothing is left then.
pub fn import(
    store: &Store,
    request: &Request,
    (source, total): (impl Read + Send, Option<u64>),
    on_progress: OnProgress<'_>,
) -> Result<InstanceName> {
    pool::ensure_default(store)?;
    let _project = restrict::hold(store, &request.project, "import")?;
    let limits = limits();
    let name = stream::read(
        (source, total),
        Kept { folder: &scratch(store)?, first: INDEX },
        &limits,
        on_progress,
        |bytes| {
            let mut tar = TarReader::new(bytes, &limits);
            let new = prepare(store, request, &index(&mut tar)?)?;
            let _pools = copy::pools(store, std::iter::once(&new.pool).chain(new.keys.iter().map(|key| &key.pool)))?;
            let held = store.lock_instance(&request.project, &new.name, "import")?;
            lifecycle::settle(store, &held)?;
            let name = new.name.clone();
            let along = Imported::lock(store, &new.coming, &new.keys)?;
            make(store, &held, (new, &along), (tar, &limits))?;
            along.tell(store);
            Ok(name)
        },
    )?;
    record_copy::instance(store, (&request.project, &name), true);
    lifecycle::note(store, &request.project, &name, "instance-created");
    Ok(name)
}

/// It is the administrator's own: how well it compresses says nothing. What it holds must fit in the pool.
pub(in crate::ops) fn limits() -> Limits {
    Limits { ratio: u64::MAX, bytes: u64::MAX, ..Limits::default() }
}

/// The first entry.
///
/// # Errors
/// Invalid: it is no index.
pub(in crate::ops) fn index(tar: &mut TarReader<&mut dyn BufRead>) -> Result<Found> {
    let mut entry = tar.next_entry()?;
    // Other tools put the folder first.
    while entry.as_ref().is_some_and(|e| e.kind == EntryKind::Dir && e.path.starts_with(b"backup")) {
        entry = tar.next_entry()?;
    }
    let is_index = |path: &[u8]| path.strip_prefix(b"./").unwrap_or(path) == INDEX.as_bytes();
    if !entry.is_some_and(|e| e.kind == EntryKind::File && is_index(&e.path)) {
        return Err(Error::invalid(format!("Backup is missing at {INDEX:?}")).hint("this is no backup"));
    }
    let text =
        String::from_utf8(tar.small_data(INDEX, INDEX_MAX)?).map_err(|_| Error::invalid("The index is no text"))?;
    yaml::from_str(&text).with_context(|| format!("Failed reading {INDEX:?}"))
}

/// The archive is of files, or of the driver's own making; whether it is the latter.
///
/// # Errors
/// Invalid: it is of another driver's; Unsupported.
pub(in crate::ops) fn check_form(found: &Found, driver: &dyn Driver) -> Result<bool> {
    let optimized = found.optimized == Some(true) && STREAMED.contains(&found.backend.as_str());
    if optimized && found.backend != driver.name() {
        return Err(Error::invalid(format!(
            "Optimized backup storage driver {:?} differs from the target storage pool driver {:?}",
            found.backend,
            driver.name()
        ))
        .hint("export it without --optimized-storage"));
    }
    if optimized {
        optimized::need(driver)?;
    }
    Ok(optimized)
}

/// The records that the index stands for, checked as a user's.
fn prepare(store: &Store, request: &Request, found: &Found) -> Result<New> {
    if !matches!(found.kind.as_str(), "" | "container") {
        let e = Error::unsupported(format!("Backups of type {:?} are not supported by this version", found.kind));
        return Err(match found.kind == CUSTOM {
            true => e.hint("a volume's is imported with: stapes storage volume import"),
            false => e,
        });
    }
    let missing = || Error::invalid("No instance config in backup");
    let records = found.config.as_ref().ok_or_else(missing)?;
    let container = records.container.as_ref().ok_or_else(missing)?;
    let name = match &request.name {
        Some(name) => name.clone(),
        None => InstanceName::parse(&found.name)?,
    };
    let project = &request.project;
    if store.instance_exists(project, &name)? {
        return Err(create::taken(&name).hint("give another name"));
    }
    let (mut instance, old) = record(container)?;
    instance.root = volume::root::found(records.volume.as_ref())?;
    let coming = Coming::find(found, &instance.devices)?;
    instance.config.extend(request.config.clone());
    instance.config.retain(|_, v| !v.is_empty());
    let mut expanded = load::expanded(store, project, &instance)?;
    create::override_devices(&mut instance, &expanded, &request.device_overrides)?;
    let pool = pool_of(store, request, found, &expanded)?;
    let optimized = check_form(found, pool::need(store, &pool)?.as_ref())?;
    let shifts = pool::need(store, &pool)?.caps().shift_on_disk;
    let map = if optimized { optimized::owners(records, shifts)? } else { None };
    if pool::of_root(&expanded.devices).map_or(true, |(_, configured)| configured != pool) {
        pool::put_root(&mut instance, &expanded, &pool);
    }
    coming.settle(store, &mut instance.devices, (&pool, &request.device_overrides))?;
    expanded = load::expanded(store, project, &instance)?;
    let keys = coming.keys(store, project, &expanded.devices)?;
    check(store, project, &instance, (&expanded, &coming))?;
    restrict::check(store, Wanted { project, name: &name, kind: instance.kind, expanded: &expanded })?;
    let volatile = new_volatile(store, project, &expanded, &old)?;
    let snapshots = snapshots(found, records, (&pool, &expanded))?;
    Ok(New { name, instance, volatile, expanded, pool, snapshots, optimized, map, coming, keys })
}

/// The gate that every instance passes, wherever it comes from.
fn check(
    store: &Store,
    project: &ProjectName,
    instance: &Instance,
    (expanded, coming): (&Expanded, &Coming),
) -> Result<()> {
    keys::validate_config(&instance.config, instance.kind)?;
    keys::validate_expanded(&expanded.config)?;
    keys::device::validate_all(&instance.devices, Some(&expanded.devices), Some(instance.kind))?;
    volume::check_devices(store, project, &coming.others(&expanded.devices), Some(instance.kind))?;
    network::check_devices(store, project, &expanded.devices, Some(instance.kind))
}

fn record(found: &FoundInstance) -> Result<(Instance, Config)> {
    if !matches!(found.kind.as_str(), "" | "container") {
        return Err(Error::unsupported(format!("Backups of type {:?} are not supported by this version", found.kind)));
    }
    let architecture = match found.architecture.as_str() {
        "" => std::env::consts::ARCH.to_string(),
        given => metadata::architecture(given)?.to_string(),
    };
    let (config, volatile) = split_volatile(found.config.clone());
    let instance = Instance {
        format: 1,
        kind: InstanceType::Container,
        architecture,
        description: found.description.clone(),
        ephemeral: found.ephemeral,
        stateful: false,
        created_at: found.created_at.0.unwrap_or_else(time::now),
        profiles: found.profiles.clone(),
        config,
        devices: found.devices.clone(),
        root: Default::default(),
        volatile: None,
    };
    Ok((instance, volatile))
}

fn pool_of(store: &Store, request: &Request, found: &Found, expanded: &Expanded) -> Result<PoolName> {
    if let Some(wanted) = &request.storage {
        pool::need(store, wanted)?;
        return Ok(wanted.clone());
    }
    if let Ok(named) = PoolName::parse(&found.pool)
        && pool::open(store, &named)?.is_some()
    {
        return Ok(named);
    }
    // Its own root disk may name the same pool; the default profile says where new instances go.
    let home = profile::owner(store, &request.project)?;
    let default = store.profile(&home, &ProfileName::parse("default")?)?.map(|p| p.devices).unwrap_or_default();
    for devices in [&expanded.devices, &default] {
        if let Ok((_, pool)) = pool::of_root(devices)
            && pool::open(store, &pool)?.is_some()
        {
            return Ok(pool);
        }
    }
    Err(Error::not_found(format!("Storage pool {:?} not found", found.pool)).hint("choose one with --storage"))
}

/// What made it what it is stays; what tied it to the place it comes from is made anew.
fn new_volatile(store: &Store, project: &ProjectName, expanded: &Expanded, old: &Config) -> Result<Volatile> {
    let image = keys::VOLATILE_BASE_IMAGE.get(old);
    let mut volatile = create::volatile(&expanded.config, image, volatile_value::TEMPLATE_COPY)?;
    let config = &mut volatile.config;
    // It is the instance that was: no template is due.
    keys::VOLATILE_APPLY_TEMPLATE.remove(config);
    for key in [
        &keys::VOLATILE_UUID,
        &keys::VOLATILE_UUID_GENERATION,
        &keys::VOLATILE_CONTAINER_OCI,
        &keys::VOLATILE_CLOUD_INIT_INSTANCE_ID,
    ] {
        if let Some(value) = key.get(old) {
            keys::check(key.name, value, None)?;
            key.set(config, value);
        }
    }
    for (device, options) in expanded.devices.iter().filter(|(_, d)| keys::device::device_type(d) == "nic") {
        let key = keys::VOLATILE_DEVICE_HWADDR.of(device);
        if let Some(value) = old.get(&key).filter(|_| keys::device::nic::HWADDR.get(options).is_none()) {
            crate::base::mac::parse(value).with_context(|| format!("Bad value of {key}"))?;
            config.insert(key, value.clone());
        }
    }
    nics::choose(store, project, &expanded.devices, config)?;
    Ok(volatile)
}

/// The snapshots that the index names, with their records.
fn snapshots(
    found: &Found,
    records: &FoundRecords,
    (pool, expanded): (&PoolName, &Expanded),
) -> Result<Vec<(SnapshotName, Snapshot)>> {
    let is = |name: &str, word: &str| name == word || name.rsplit_once('/').is_some_and(|(_, n)| n == word);
    let mut all: Vec<(SnapshotName, Snapshot)> = Vec::new();
    for word in &found.snapshots {
        let name = SnapshotName::parse(word)?;
        if all.iter().any(|(other, _)| *other == name) {
            return Err(Error::invalid(format!("Snapshot {word:?} is there twice")));
        }
        let record_of = records.snapshots.iter().flatten().find(|r| is(&r.name, word));
        let missing = || Error::invalid(format!("Snapshot {word:?} has no record in the index"));
        let given = record_of.ok_or_else(missing)?;
        let (mut instance, volatile) = record(given).with_context(|| format!("Bad snapshot {word:?}"))?;
        instance.root = volume::root::found(records.volume_snapshots.iter().flatten().find(|r| is(&r.name, word)))?;
        keys::validate_config(&instance.config, instance.kind).with_context(|| format!("Bad snapshot {word:?}"))?;
        keys::device::validate_all(&instance.devices, None, Some(instance.kind))
            .with_context(|| format!("Bad snapshot {word:?}"))?;
        pool::put_root(&mut instance, expanded, pool);
        let kept = |key: &str| key == keys::VOLATILE_BASE_IMAGE.name || key == keys::VOLATILE_CONTAINER_OCI.name;
        let volatile = volatile.into_iter().filter(|(key, _)| kept(key)).collect();
        let (created_at, expires_at) = (instance.created_at, given.expires_at.0);
        all.push((
            name,
            Snapshot { format: 1, created_at, expires_at, scheduled_for: None, stateful: false, volatile, instance },
        ));
    }
    Ok(all)
}

fn make(
    store: &Store,
    held: &Held<InstanceKey, Exclusive>,
    (new, along): (New, &Imported),
    (tar, limits): (TarReader<&mut dyn BufRead>, &Limits),
) -> Result<()> {
    let InstanceKey { project, name } = held.key();
    let proofs: Vec<&dyn Proof> = std::iter::once(held as &dyn Proof).chain(along.proofs()).collect();
    journal::run(store, "import", &proofs, |journal| {
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
        along.note(store, journal)?;
        fault::point("backup.begin")?;
        let driver = pool::need(store, &new.pool)?;
        let volume = Volume::container(project, name)?;
        volumes(store, (&new, driver.as_ref(), &volume), along, (tar, limits))?;
        if let Some(map) = &new.map {
            optimized::check_owners(driver.as_ref(), &volume, map)?;
        }
        quota::brought_root(store, driver.as_ref(), &volume, &new.expanded.devices)?;
        fault::point("backup.volumes")?;
        along.finish(store)?;
        records(store, held, new)
    })
}

/// All that the archive has volumes of.
fn volumes(
    store: &Store,
    (new, driver, volume): (&New, &dyn Driver, &Volume),
    along: &Imported,
    (tar, limits): (TarReader<&mut dyn BufRead>, &Limits),
) -> Result<()> {
    let names: Vec<SnapshotName> = new.snapshots.iter().map(|(name, _)| name.clone()).collect();
    quota::plan_root(store, driver, &new.expanded.devices)?;
    let (form, of) = (Form::instance(), (volume, &names[..]));
    let root: Box<dyn Part + '_> = match new.optimized {
        true => Box::new(Arriving::new(driver, (form, Holds::Instance), of, limits)?),
        false => Box::new(Volumes::begin((driver, form), of, limits)?),
    };
    // Their names say more: a device may be called as what the root's begin with.
    let mut parts = along.parts(limits)?;
    parts.push(root);
    unpack::unpack(parts, (tar, limits))
}

fn records(store: &Store, held: &Held<InstanceKey, Exclusive>, mut new: New) -> Result<()> {
    let InstanceKey { project, name } = held.key();
    let isolated = keys::SECURITY_IDMAP_ISOLATED.bool(&new.expanded.config)?;
    let config = &mut new.volatile.config;
    let _ids = isolated.then(|| idmap::assign(store, (project, name), &new.expanded.config, config)).transpose()?;
    let others = new.coming.others(&new.expanded.devices);
    let _volumes = volume::keep(store, project, others.values(), &[held.key()])?;
    let _networks = network::keep(store, project, new.instance.devices.values())?;
    if !new.snapshots.is_empty() {
        store.begin_snapshots(held, new.instance.ephemeral, &new.snapshots)?;
        fault::point("backup.records")?;
    }
    store.publish_instance(held, &new.instance, &new.volatile, Durability::Durable)?;
    fault::point("backup.record")
}
