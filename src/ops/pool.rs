//! Storage pools as the other verbs need them: found by name, made on first use.

use super::pool_place;
use crate::base::names::{PoolName, ProfileName, ProjectName};
use crate::error::{Context, Error, Result};
use crate::fault;
use crate::host::subids;
use crate::model::expand::Expanded;
use crate::model::instance::{Config, Device, Devices, Instance};
use crate::model::keys::pool as keys;
use crate::model::pool::Pool;
use crate::storage::{self, Driver, probe};
use crate::store::Store;
use crate::store::lock::{Exclusive, Held, PoolKey};
use crate::sys::child::{Fd, Op};
use crate::sys::clone::{Spawn, spawn};
use crate::sys::{ns, socket};
use std::collections::BTreeMap;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

/// Name of the pool that is made on first use.
pub const DEFAULT: &str = "default";
/// The value of [`keys::DEFAULT_NETWORK`] while the default profile has yet to get its interface: the first instance decides.
pub(super) const PENDING: &str = "pending";

/// The driver of the pool `name`; none if there is no such pool.
///
/// # Errors
/// The record or the pool's folder is damaged; what the pool lies in is gone, or not mounted (see [`pool_place::ready`]).
pub fn open(store: &Store, name: &PoolName) -> Result<Option<Box<dyn Driver>>> {
    let Some(pool) = store.pool(name)? else { return Ok(None) };
    storage::open(&pool.driver, &pool_place::ready(store, name, &pool)?, &pool.config).map(Some)
}

/// The driver of the pool `name`.
///
/// # Errors
/// [`crate::error::Kind::NotFound`].
pub fn need(store: &Store, name: &PoolName) -> Result<Box<dyn Driver>> {
    open(store, name)?.ok_or_else(|| Error::not_found(format!("Storage pool \"{name}\" not found")))
}

/// Whether the file system below the pool can be mounted with an id map.
///
/// # Errors
/// The record is damaged.
pub fn maps_ids(store: &Store, name: &PoolName) -> Result<bool> {
    Ok(store.pool(name)?.is_none_or(|p| keys::IDMAP.get(&p.config) != Some("false")))
}

/// The same of a volume, which may have a file system of its own.
///
/// # Errors
/// The record is damaged; the pool cannot be read.
pub fn maps_ids_of(store: &Store, name: &PoolName, volume: &storage::Volume) -> Result<bool> {
    Ok(maps_ids(store, name)? || need(store, name)?.maps_ids(volume)?)
}

/// The pool that holds the root of an instance with these (expanded) devices, and the device's name.
///
/// # Errors
/// [`crate::error::Kind::Invalid`] if no device is a root disk.
pub fn of_root(devices: &Devices) -> Result<(String, PoolName)> {
    let root = devices.iter().find(|(_, d)| is_root(d));
    let (name, device) = root.ok_or_else(|| {
        Error::invalid("Failed creating instance record: Failed initializing instance: No root device could be found")
            .hint("add one to the profile: stapes profile device add default root disk path=/ pool=default")
    })?;
    let pool = device.get("pool").map(String::as_str).unwrap_or(DEFAULT);
    Ok((name.clone(), PoolName::parse(pool)?))
}

/// A root disk: type disk, path `/`, no source.
pub fn is_root(device: &Device) -> bool {
    let get = |k: &str| device.get(k).map(String::as_str).unwrap_or_default();
    get("type") == "disk" && get("path") == "/" && get("source").is_empty()
}

/// Has the root disk of an instance be on that pool: its device, or what the profiles say, becomes a local one.
pub fn put_root(instance: &mut Instance, expanded: &Expanded, pool: &PoolName) {
    // What it says itself may be newer than `expanded`.
    let own = instance.devices.iter().find(|(_, d)| is_root(d));
    let root = own.or_else(|| expanded.devices.iter().find(|(_, d)| is_root(d)));
    let (name, mut device) = root.map_or_else(
        || {
            let pairs = [("type", "disk"), ("path", "/")];
            ("root".to_string(), pairs.into_iter().map(|(k, v)| (k.to_string(), v.to_string())).collect())
        },
        |(n, d)| (n.clone(), d.clone()),
    );
    device.insert("pool".to_string(), pool.to_string());
    instance.devices.insert(name, device);
}

/// Makes the `default` pool and the default profile's root disk, if there is no pool yet (first use). Whether the default
/// profile gets an interface is left to `first_use`. Needs no lock.
///
/// # Errors
/// The folder cannot be made.
pub fn ensure_default(store: &Store) -> Result<()> {
    let name = PoolName::parse(DEFAULT)?;
    if store.pool(&name)?.is_some() || !store.pools()?.is_empty() {
        return Ok(());
    }
    let project = ProjectName::default();
    let profile = ProfileName::parse("default")?;
    let project_lock = store.lock_project_exclusive(&project, "create")?;
    let lock = store.lock_pool_exclusive(&name, "create")?;
    if store.pool(&name)?.is_some() {
        return Ok(());
    }
    // The pool's record comes last: with it the first use is over.
    if let Some(mut default) = store.profile(&project, &profile)?
        && !default.devices.values().any(is_root)
    {
        let pairs = [("type", "disk"), ("path", "/"), ("pool", DEFAULT)];
        let root: Device = pairs.into_iter().map(|(k, v)| (k.to_string(), v.to_string())).collect::<BTreeMap<_, _>>();
        default.devices.insert("root".to_string(), root);
        store.save_profile(&project_lock, &profile, &default)?;
    }
    fault::point("pool.profile")?;
    let network = Config::from([(keys::DEFAULT_NETWORK.name.to_string(), PENDING.to_string())]);
    make(store, &lock, Pool { format: 1, driver: String::new(), description: String::new(), config: network })
}

/// Makes a pool in the state folder; without a driver it gets the one that suits its file system best.
///
/// # Errors
/// The driver is unknown, or does not work there; the folder cannot be made.
pub fn make(store: &Store, lock: &Held<PoolKey, Exclusive>, pool: Pool) -> Result<()> {
    make_at(store, lock, pool, &store.layout().pool_data(&lock.key().0))
}

/// [`make`] in the folder `data`.
///
/// # Errors
/// As [`make`].
pub fn make_at(store: &Store, lock: &Held<PoolKey, Exclusive>, mut pool: Pool, data: &Path) -> Result<()> {
    let name = &lock.key().0;
    storage::setup(data).with_context(|| format!("Failed creating storage pool \"{name}\""))?;
    let userns = throwaway_userns()?;
    // In a folder of the user's a kill leaves nothing outside of what goes with the pool.
    let at = if keys::ID.get(&pool.config).is_some() { data.join("trash") } else { data.to_path_buf() };
    let features = probe::features(&at, Some(std::os::fd::AsFd::as_fd(&userns)))?;
    match pool.driver.as_str() {
        "" => pool.driver = probe::best_driver(&features).to_string(),
        "overlay" if !features.overlay => {
            let text = format!("The file system of \"{}\" cannot carry overlays", data.display());
            return Err(Error::unsupported(text).hint("use the driver \"dir\""));
        }
        other => drop(storage::open(other, data, &pool.config)?),
    }
    // Of a volume group's it is the file systems in it that count, which can be.
    let maps = features.idmap != Some(false) || pool.driver == storage::lvm::DRIVER;
    keys::IDMAP.set(&mut pool.config, maps.to_string());
    store.save_pool(lock, &pool)
}

/// A user namespace with the host's container ids, for trying id-mapped mounts.
fn throwaway_userns() -> Result<OwnedFd> {
    let (ours, theirs) = socket::pair()?;
    let how = Spawn { namespaces: libc::CLONE_NEWUSER, cgroup: None };
    // Our end is closed there, so that it ends with us even if we are killed.
    let program = [Op::Close(Fd::Num(ours.as_raw_fd())), Op::Await(theirs.as_raw_fd())];
    let child = spawn(&how, &program).context("Failed creating a user namespace")?;
    let range = subids::range()?;
    for file in ["uid_map", "gid_map"] {
        let path = format!("/proc/{}/{file}", child.pid());
        let map = format!("0 {} {}\n", range.base, range.size);
        let written = std::fs::OpenOptions::new()
            .write(true)
            .open(&path)
            .and_then(|mut f| std::io::Write::write_all(&mut f, map.as_bytes()));
        written.with_context(|| format!("Failed writing the {file}"))?;
    }
    let fd = ns::open(child.pid(), "user")?;
    drop(ours);
    Ok(fd)
}
