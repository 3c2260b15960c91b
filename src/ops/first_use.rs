//! First use: before the first instance is made, the default profile gets an interface on a bridge of ours.
//!
//! The pool that was made by itself says whether that is yet to be done; one that was chosen (`admin init`) never does. The
//! record of the network comes first, the profile next, the pool last: a killed command is gone on with from anywhere.

use super::network::{self, attach, change};
use super::pool;
use crate::base::names::{NetworkName, PoolName, ProfileName, ProjectName};
use crate::error::{Error, Kind, Result};
use crate::fault;
use crate::host::links::Links;
use crate::model::instance::Config;
use crate::model::keys::{device, pool as keys};
use crate::model::network::NetworkType;
use crate::model::pool::Pool;
use crate::store::Store;
use crate::store::lock::{Exclusive, Held, ProjectKey};

/// What the network is called; a number follows, the first that is free on the host.
const NAME: &str = "stapesbr";
/// The device of the default profile, and the interface inside.
const DEVICE: &str = "eth0";
/// How many names are tried.
const NAMES: u32 = 100;
/// What is wrong with the state folder then, not with the network.
const DISK: [i32; 4] = [libc::ENOSPC, libc::EDQUOT, libc::EIO, libc::EROFS];

/// Makes pool, network and interface if nothing has been used yet. What keeps the host from having a network is returned in
/// words: instances get none then, now and later, until the user makes one. Takes the locks of the default project, the
/// network and the pool, each when nothing after it is held.
///
/// # Errors
/// The state folder cannot be written.
pub fn ensure(store: &Store) -> Result<Option<Error>> {
    pool::ensure_default(store)?;
    if pending(store)?.is_none() {
        return Ok(None);
    }
    let project = ProjectName::default();
    let held = store.lock_project_exclusive(&project, "create")?;
    let Some(mut record) = pending(store)? else { return Ok(None) };
    let refused = connect(store, &held)?.map(|e| e.context("Instances get no network"));
    let lock = store.lock_pool_exclusive(&PoolName::parse(pool::DEFAULT)?, "create")?;
    keys::DEFAULT_NETWORK.remove(&mut record.config);
    store.save_pool(&lock, &record)?;
    Ok(refused)
}

/// Gives the default profile its interface, unless it has one, on a network that is made; why the host cannot have that. Takes
/// the locks of the default project and the network.
///
/// # Errors
/// The state folder cannot be written.
pub fn network(store: &Store) -> Result<Option<Error>> {
    let held = store.lock_project_exclusive(&ProjectName::default(), "create")?;
    Ok(connect(store, &held)?.map(|e| e.context("Instances get no network")))
}

/// The pool, if the network is yet to be made.
fn pending(store: &Store) -> Result<Option<Pool>> {
    let pool = store.pool(&PoolName::parse(pool::DEFAULT)?)?;
    Ok(pool.filter(|p| keys::DEFAULT_NETWORK.get(&p.config) == Some(pool::PENDING)))
}

/// Gives the default profile its interface, unless it has one; why the host cannot have the network for it.
fn connect(store: &Store, held: &Held<ProjectKey, Exclusive>) -> Result<Option<Error>> {
    let profile = ProfileName::parse("default")?;
    let project = &held.key().0;
    let Some(mut default) = store.profile(project, &profile)? else { return Ok(None) };
    let taken = |(name, options): (&String, _)| name == DEVICE || device::device_type(options) == "nic";
    if default.devices.iter().any(taken) {
        return Ok(None);
    }
    let found = match bridge(store, project) {
        Ok(name) => name,
        Err(e) if e.kind() == Kind::Busy || e.errno().is_some_and(|errno| DISK.contains(&errno)) => return Err(e),
        Err(e) => return Ok(Some(e)),
    };
    fault::point("first.network")?;
    let connection = attach::Connection::new(&found, Some(DEVICE), Some(DEVICE));
    let device = attach::device(store, project, &connection)?;
    attach::add(&mut default.devices, &connection, device)?;
    store.save_profile(held, &profile, &default)?;
    fault::point("first.profile")?;
    Ok(None)
}

/// The bridge that an earlier attempt made, or a new one.
fn bridge(store: &Store, project: &ProjectName) -> Result<NetworkName> {
    let ours = |name: &NetworkName| name.as_str().strip_prefix(NAME).is_some_and(|n| n.parse::<u32>().is_ok());
    if let Some((name, _)) = store.networks(project)?.into_iter().find(|(name, found)| ours(name) && found.is_ok()) {
        return Ok(name);
    }
    network::programs()?;
    let mut host = Links::open()?;
    for number in 0..NAMES {
        let name = NetworkName::parse(&format!("{NAME}{number}"))?;
        if host.find(name.as_str())?.is_some() {
            continue;
        }
        let (kind, description) = (NetworkType::Bridge, String::new());
        let request =
            change::Request { project: project.clone(), name: name.clone(), kind, description, config: Config::new() };
        match change::create(store, &request) {
            // Somebody else on this host was faster.
            Err(e) if e.kind() == Kind::Exists => {}
            other => return other.map(|()| name),
        }
    }
    Err(Error::failed(format!("No name of {NAME}0 to {NAME}{} is free", NAMES - 1)))
}
