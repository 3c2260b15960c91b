//! The limits and restrictions of projects, held against instances and volumes that are made or changed.
//!
//! A project that limits what its instances are together is held alone by whoever adds to them, so that two do not both take what is
//! left ([`hold`]).

use super::load;
use crate::base::names::{InstanceName, ProfileName, ProjectName};
use crate::base::size;
use crate::error::{Context, Error, Result};
use crate::model::expand::Expanded;
use crate::model::instance::{Config, InstanceType};
use crate::model::keys::{Key, project as keys, volume as volume_keys};
use crate::model::profile::Profile;
use crate::model::project::Project;
use crate::model::restrict::{self, SUMS, Subject};
use crate::store::Store;
use crate::store::lock::{Exclusive, Held, ProjectKey, Shared, VolumeKey};
use std::path::{Path, PathBuf};

/// A project that is held: with others, or alone because it has limits.
#[derive(Debug)]
pub enum Hold {
    /// With others.
    Shared(Held<ProjectKey, Shared>),
    /// Alone.
    Alone(Held<ProjectKey, Exclusive>),
}

/// Holds a project for one who adds an instance to it or changes one.
///
/// # Errors
/// Busy; its record is damaged.
pub fn hold(store: &Store, project: &ProjectName, verb: &str) -> Result<Hold> {
    match store.project(project)?.is_some_and(|p| restrict::is_limited(&p.config)) {
        true => store.lock_project_exclusive(project, verb).map(Hold::Alone),
        false => store.lock_project_shared(project).map(Hold::Shared),
    }
}

/// An instance as it is to be.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// Its project.
    pub project: &'a ProjectName,
    /// Its name.
    pub name: &'a InstanceName,
    /// Its type.
    pub kind: InstanceType,
    /// Configuration and devices with the profiles applied.
    pub expanded: &'a Expanded,
}

impl<'a> Wanted<'a> {
    fn subject(&self) -> Subject<'a> {
        Subject {
            project: self.project.as_str(),
            name: self.name.as_str(),
            kind: self.kind,
            config: &self.expanded.config,
            devices: &self.expanded.devices,
        }
    }
}

/// Holds an instance, new or changed, against what its project forbids and limits. Lock: the project, as [`hold`] gives it.
///
/// # Errors
/// Denied: it is forbidden. Conflict: too many, or too much together. Invalid: it says nothing of what is limited.
pub fn check(store: &Store, wanted: Wanted<'_>) -> Result<()> {
    let Some(project) = store.project(wanted.project)? else { return Ok(()) };
    if !restrict::is_any(&project.config) {
        return Ok(());
    }
    restrict::check(&project.config, wanted.subject())?;
    if !restrict::is_limited(&project.config) {
        return Ok(());
    }
    let mut all = instances(store, wanted.project)?;
    let new = !all.iter().any(|(name, ..)| name == wanted.name);
    all.retain(|(name, ..)| name != wanted.name);
    all.push((wanted.name.clone(), wanted.kind, wanted.expanded.clone()));
    if new {
        check_numbers(&project.config, wanted, &all)?;
    }
    check_sums(store, (wanted.project, &project.config), &all)
}

type One = (InstanceName, InstanceType, Expanded);

/// The instances of a project; one that is damaged counts for nothing.
fn instances(store: &Store, project: &ProjectName) -> Result<Vec<One>> {
    let mut all = Vec::new();
    for (name, record) in store.instances(project)? {
        let Ok(record) = record else { continue };
        if let Ok(expanded) = load::expanded(store, project, &record) {
            all.push((name, record.kind, expanded));
        }
    }
    Ok(all)
}

fn number_of(all: &[One], kind: Option<InstanceType>) -> u64 {
    all.iter().filter(|(_, k, _)| kind.is_none_or(|kind| *k == kind)).count() as u64
}

/// The limits of numbers: key, type, and how Incus calls it.
static NUMBERS: [(&Key, Option<InstanceType>, &str); 3] = [
    (&keys::LIMITS_INSTANCES, None, ""),
    (&keys::LIMITS_CONTAINERS, Some(InstanceType::Container), "container"),
    (&keys::LIMITS_MACHINES, Some(InstanceType::VirtualMachine), "virtual-machine"),
];

fn check_numbers(config: &Config, wanted: Wanted<'_>, all: &[One]) -> Result<()> {
    for (key, kind, called) in NUMBERS {
        let Some(limit) = key.u32(config)? else { continue };
        if kind.is_none_or(|kind| kind == wanted.kind) && number_of(all, kind) > u64::from(limit) {
            let of = if called.is_empty() { String::new() } else { format!(" of type {called:?}") };
            let project = wanted.project.as_str();
            return Err(Error::conflict(format!("Reached maximum number of instances{of} in project {project:?}")));
        }
    }
    Ok(())
}

fn check_sums(store: &Store, (project, config): (&ProjectName, &Config), all: &[One]) -> Result<()> {
    let subjects = || all.iter().map(|(name, kind, expanded)| Wanted { project, name, kind: *kind, expanded });
    for (limit, key) in SUMS {
        let Some(most) = limit.get(config) else { continue };
        let mut sum = 0_u64;
        for one in subjects() {
            sum = sum.saturating_add(restrict::taken(one.subject(), key)?);
        }
        too_much(project, limit.name, most, sum)?;
    }
    let pools = config.iter().filter(|(name, _)| keys::LIMITS_POOL.matches(name));
    let pools = pools.map(|(name, most)| (name.as_str(), most.as_str(), name.strip_prefix(keys::LIMITS_POOL.name)));
    let total = keys::LIMITS_DISK.get(config).map(|most| (keys::LIMITS_DISK.name, most, None));
    for (name, most, pool) in pools.chain(total) {
        let mut sum = volumes(store, project, pool)?;
        for one in subjects() {
            let (size, of) = restrict::root_size(one.subject())?;
            sum = sum.saturating_add(if pool.is_none_or(|p| p == of) { size } else { 0 });
        }
        too_much(project, name, most, sum)?;
    }
    Ok(())
}

fn too_much(project: &ProjectName, limit: &str, most: &str, sum: u64) -> Result<()> {
    match sum > size::parse_bytes(most)? {
        true => Err(Error::conflict(format!(
            "Reached maximum aggregate value {most:?} for {limit:?} in project {:?}",
            project.as_str()
        ))),
        false => Ok(()),
    }
}

/// Sizes of the custom volumes of a project, together.
fn volumes(store: &Store, project: &ProjectName, of: Option<&str>) -> Result<u64> {
    let mut sum = 0_u64;
    for (owner, pool) in store.volume_places()? {
        if owner != *project || of.is_some_and(|name| name != pool.as_str()) {
            continue;
        }
        for (name, record) in store.volumes(&owner, &pool)? {
            let Ok(record) = record else { continue };
            sum = sum.saturating_add(volume_size(project, name.as_str(), &record.config)?);
        }
    }
    Ok(sum)
}

fn volume_size(project: &ProjectName, name: &str, config: &Config) -> Result<u64> {
    let none =
        || Error::invalid(format!("Custom volume {name:?} in project {:?} has no 'size' config set", project.as_str()));
    size::parse_bytes(volume_keys::SIZE.get(config).ok_or_else(none)?)
}

/// Holds a custom volume, new or with another size, against the limits of its project. `old`: its size so far. Lock: the project, as
/// [`hold`] gives it.
///
/// # Errors
/// As [`check`].
pub fn check_volume(store: &Store, key: &VolumeKey, old: Option<&Config>, new: &Config) -> Result<()> {
    let (owner, pool, name) = (&key.project, key.pool.as_str(), key.name.as_str());
    let Some(project) = store.project(owner)? else { return Ok(()) };
    let config = &project.config;
    let pool_limit = keys::LIMITS_POOL.of(pool);
    let limits = [(keys::LIMITS_DISK.name, None), (pool_limit.as_str(), Some(pool))];
    for (limit, of) in limits {
        let Some(most) = config.get(limit) else { continue };
        let before = old.map_or(Ok(0), |old| volume_size(owner, name, old))?;
        let mut sum = volumes(store, owner, of)?.saturating_sub(before);
        sum = sum.saturating_add(volume_size(owner, name, new)?);
        for (name, kind, expanded) in &instances(store, owner)? {
            let one = Wanted { project: owner, name, kind: *kind, expanded };
            let (size, pool) = restrict::root_size(one.subject())?;
            sum = sum.saturating_add(if of.is_none_or(|p| p == pool) { size } else { 0 });
        }
        too_much(owner, limit, most, sum)?;
    }
    Ok(())
}

/// Refuses snapshots where the project forbids them.
///
/// # Errors
/// Denied.
pub fn snapshots(store: &Store, project: &ProjectName) -> Result<()> {
    allowed(store, project, &keys::SNAPSHOTS, "snapshot")
}

/// Refuses backups where the project forbids them.
///
/// # Errors
/// Denied.
pub fn backups(store: &Store, project: &ProjectName) -> Result<()> {
    allowed(store, project, &keys::BACKUPS, "backup")
}

/// The folder that a path of the host must not lead out of when a disk of the project's names it, whatever links there are on the
/// way: some of them may have been made in an instance. None: it may lead anywhere.
///
/// # Errors
/// Denied: it is in none of the folders that the project may name.
pub fn folder_of(store: &Store, project: &ProjectName, path: &Path) -> Result<Option<PathBuf>> {
    let config = store.project(project)?.map(|p| p.config).unwrap_or_default();
    let folders = keys::DISK_PATHS.list(&config);
    if folders.is_empty() || !keys::RESTRICTED.bool(&config)? {
        return Ok(None);
    }
    // The outermost: one within may be a link that was made in an instance.
    let found = folders.into_iter().map(Path::new).filter(|folder| path.starts_with(folder));
    let found = found.min_by_key(|folder| folder.components().count());
    found.map(|folder| Some(folder.to_path_buf())).ok_or_else(|| Error::denied("Disk source path not allowed"))
}

/// Refuses to fetch images for a project from `server`, a host or a host with a port, unless it may. Before anything is asked there.
///
/// # Errors
/// Denied.
pub fn image_server(store: &Store, project: &ProjectName, servers: &[&str]) -> Result<()> {
    let config = store.project(project)?.map(|p| p.config).unwrap_or_default();
    let list = keys::IMAGES_SERVERS.list(&config);
    match keys::RESTRICTED.bool(&config)? && !list.is_empty() && !servers.iter().any(|name| list.contains(name)) {
        true => Err(Error::denied(format!("Image server {:?} isn't allowed in this project", servers[0]))),
        false => Ok(()),
    }
}

fn allowed(store: &Store, project: &ProjectName, key: &Key, what: &str) -> Result<()> {
    let config = store.project(project)?.map(|p| p.config).unwrap_or_default();
    match keys::RESTRICTED.bool(&config)? && key.text(&config) == "block" {
        true => Err(Error::denied(format!("Project {:?} doesn't allow for {what} creation", project.as_str()))),
        false => Ok(()),
    }
}

/// How a project has something compressed: its own key, else the server's of the same name; none: neither says.
///
/// # Errors
/// A record is damaged.
pub fn compression(store: &Store, project: &ProjectName, key: &Key) -> Result<Option<String>> {
    let own = store.project(project)?.and_then(|p| key.get(&p.config).map(str::to_string));
    Ok(own.or(key.get(&store.server()?.config).map(str::to_string)))
}

/// Holds what is in a project against its configuration as it is to be. Lock: the project, alone.
///
/// # Errors
/// As [`check`]; Conflict: there are more already.
pub fn check_project(store: &Store, name: &ProjectName, old: &Config, new: &Project) -> Result<()> {
    let config = &new.config;
    if old == config || !restrict::is_any(config) {
        return Ok(());
    }
    let all = instances(store, name)?;
    for (key, kind, called) in NUMBERS {
        let Some(limit) = key.u32(config)? else { continue };
        let count = number_of(&all, kind);
        if count > u64::from(limit) {
            let of =
                if called.is_empty() { "total instances".to_string() } else { format!("instances of type {called}") };
            return Err(Error::conflict(format!(
                "{:?} is too low: there currently are {count} {of} in project {:?}",
                key.name,
                name.as_str()
            )));
        }
    }
    for (instance, kind, expanded) in &all {
        let one = Wanted { project: name, name: instance, kind: *kind, expanded };
        restrict::check(config, one.subject()).context("Failed checking the instances of the project")?;
    }
    for (profile, found) in store.profiles(name)? {
        // A damaged one gives nobody anything.
        let Ok(found) = found else { continue };
        let one = profile_subject(name, &profile, &found);
        restrict::check_profile(config, one).context("Failed checking the profiles of the project")?;
    }
    check_sums(store, (name, config), &all)
}

/// Holds a profile, new or changed, against what the project that has it forbids. Lock: the project, alone.
///
/// # Errors
/// Denied: it is forbidden.
pub fn check_profile(store: &Store, project: &ProjectName, name: &ProfileName, profile: &Profile) -> Result<()> {
    let Some(limits) = store.project(project)? else { return Ok(()) };
    restrict::check_profile(&limits.config, profile_subject(project, name, profile))
}

fn profile_subject<'a>(project: &'a ProjectName, name: &'a ProfileName, profile: &'a Profile) -> Subject<'a> {
    Subject {
        project: project.as_str(),
        name: name.as_str(),
        kind: InstanceType::Container,
        config: &profile.config,
        devices: &profile.devices,
    }
}
