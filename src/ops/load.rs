//! An instance as the verbs see it: its records and what they amount to with the profiles.

use super::features;
use crate::base::names::{InstanceName, PoolName, ProfileName, ProjectName};
use crate::error::{Error, Result};
use crate::host::cgroup::Tree;
use crate::model::expand::{Expanded, expand};
use crate::model::instance::{Instance, Volatile};
use crate::model::profile::Profile;
use crate::model::project::Feature;
use crate::storage::Volume;
use crate::store::Store;
use crate::store::layout::Layout;
use crate::store::runfile::{Liveness, Running};
use std::hash::{DefaultHasher, Hash, Hasher};

/// An instance with its effective configuration.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// Its project.
    pub project: ProjectName,
    /// Its name.
    pub name: InstanceName,
    /// What the user said.
    pub instance: Instance,
    /// What the program filled in.
    pub volatile: Volatile,
    /// Configuration and devices with the profiles applied.
    pub expanded: Expanded,
}

/// Loads it.
///
/// # Errors
/// [`crate::error::Kind::NotFound`]: `Instance not found`.
pub fn load(store: &Store, project: &ProjectName, name: &InstanceName) -> Result<Loaded> {
    let instance = store.instance(project, name)?.ok_or_else(not_found)?;
    let volatile = store.volatile_of(project, name, &instance)?;
    let expanded = expanded(store, project, &instance)?;
    Ok(Loaded { project: project.clone(), name: name.clone(), instance, volatile, expanded })
}

/// Incus's words for an instance that is not there.
pub fn not_found() -> Error {
    Error::not_found("Instance not found")
}

/// The effective configuration of `instance` with the profiles as they are now.
///
/// # Errors
/// A profile is missing or damaged.
pub fn expanded(store: &Store, project: &ProjectName, instance: &Instance) -> Result<Expanded> {
    let profiles = profiles(store, project, &instance.profiles)?;
    let named: Vec<(&str, &Profile)> = profiles.iter().map(|(n, p)| (n.as_str(), p)).collect();
    Ok(expand(&named, instance))
}

/// Profiles by name, in order, as the instances of `project` have them.
///
/// # Errors
/// One is missing or damaged.
pub fn profiles(store: &Store, project: &ProjectName, names: &[String]) -> Result<Vec<(String, Profile)>> {
    let owner = features::owner(store, project, Feature::Profiles)?;
    let one = |name: &String| {
        let profile = store.profile(&owner, &ProfileName::parse(name)?)?;
        let profile = profile.ok_or_else(|| Error::not_found(format!("Requested profile \"{name}\" doesn't exist")))?;
        Ok((name.clone(), profile))
    };
    names.iter().map(one).collect()
}

impl Loaded {
    /// Its root volume.
    ///
    /// # Errors
    /// The names are too long together.
    pub fn volume(&self) -> Result<Volume> {
        Volume::container(&self.project, &self.name)
    }

    /// The pool its root is in.
    ///
    /// # Errors
    /// It has no root disk.
    pub fn pool(&self) -> Result<PoolName> {
        super::pool::of_root(&self.expanded.devices).map(|(_, pool)| pool)
    }
}

/// What runs of it, if its monitor lives.
///
/// # Errors
/// The run record is damaged.
pub fn running(store: &Store, project: &ProjectName, name: &InstanceName) -> Result<Option<Running>> {
    Ok(store.running(project, name)?.filter(|r| r.liveness == Liveness::Running))
}

/// What runs of it.
///
/// # Errors
/// [`crate::error::Kind::Conflict`]: `The instance is not running`.
pub fn need_running(store: &Store, project: &ProjectName, name: &InstanceName) -> Result<Running> {
    if !store.instance_exists(project, name)? {
        return Err(not_found());
    }
    running(store, project, name)?.ok_or_else(|| Error::conflict("Instance is not running"))
}

/// Our part of the cgroup tree: named after the state folder, so that two of them never share a group.
///
/// # Errors
/// cgroup2 is not mounted.
pub fn cgroups(layout: &Layout) -> Result<Tree> {
    match tag(layout) {
        None => Tree::open("stapes"),
        Some(tag) => Tree::open(&format!("stapes-{tag}")),
    }
}

/// What tells a state folder from others in names of the kernel's; none for the usual one.
pub fn tag(layout: &Layout) -> Option<String> {
    if layout.state == Layout::system().state {
        return None;
    }
    // The standard library's hasher with fixed keys: stable for one binary and across releases of it so far; were it to
    // change, running instances are still found through their run records.
    let mut hasher = DefaultHasher::new();
    layout.state.hash(&mut hasher);
    Some(format!("{:016x}", hasher.finish()))
}

/// Name of an instance's cgroup.
pub fn group_name(project: &ProjectName, name: &InstanceName) -> String {
    format!("{project}_{name}")
}
