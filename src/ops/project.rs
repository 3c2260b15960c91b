//! `project list`, `show` and `info`: projects as users see them, and what they use of their limits.

use super::list::{self, Needs};
use crate::base::names::ProjectName;
use crate::base::size;
use crate::error::{Error, Result};
use crate::model::instance::InstanceType;
use crate::model::keys::{self, device};
use crate::model::project::Project;
use crate::model::view::{ProjectView, url};
use crate::store::Store;
use serde::Serialize;
use std::collections::BTreeMap;

/// Addresses of what is in a project: images, instances, profiles, volumes.
pub(super) fn used_by(store: &Store, name: &ProjectName) -> Result<Vec<String>> {
    let mut all = Vec::new();
    all.extend(store.images_at(name)?.iter().map(|(f, _)| url::image(name, f)));
    all.extend(store.instance_names(name)?.iter().map(|n| url::instance(name, n)));
    all.extend(store.profiles(name)?.iter().map(|(n, _)| url::profile(name, n)));
    for (owner, pool) in store.volume_places()?.into_iter().filter(|(owner, _)| owner == name) {
        all.extend(store.volumes(&owner, &pool)?.iter().map(|(n, _)| url::volume(name, &pool, n)));
    }
    Ok(all)
}

/// Is this the address of the profile that every project has?
pub(super) fn is_first_profile(name: &ProjectName, address: &str) -> bool {
    address == url::profile(name, "default")
}

/// All projects; what is wrong with a damaged one stands in its description.
///
/// # Errors
/// The state folder cannot be read.
pub fn list(store: &Store) -> Result<Vec<ProjectView>> {
    let one = |(name, found): (ProjectName, Result<Project>)| {
        let broken = |e: Error| Project { format: 1, description: format!("ERROR: {e}"), config: BTreeMap::new() };
        Ok(ProjectView::new(&name, &found.unwrap_or_else(broken), used_by(store, &name)?))
    };
    store.projects()?.into_iter().map(one).collect()
}

/// One project.
///
/// # Errors
/// Not found; its record is damaged.
pub fn show(store: &Store, name: &ProjectName) -> Result<ProjectView> {
    let project = store.project(name)?.ok_or_else(|| Error::not_found("Project not found"))?;
    Ok(ProjectView::new(name, &project, used_by(store, name)?))
}

/// A limit and what is used of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Resource {
    /// The limit; -1 for none.
    pub limit: i64,
    /// In use.
    pub usage: i64,
}

/// What a project uses, as Incus's object has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct State {
    /// By name; `disk` and `memory` in bytes.
    pub resources: BTreeMap<String, Resource>,
}

/// What the instances of a project ask for, and the project's limits.
///
/// # Errors
/// Not found; the state folder cannot be read.
pub fn state(store: &Store, name: &ProjectName) -> Result<State> {
    let project = store.project(name)?.ok_or_else(|| Error::not_found("Project not found"))?;
    let mut usage: BTreeMap<&str, i64> = BTreeMap::new();
    let names = ["containers", "cpu", "disk", "instances", "memory", "networks", "processes", "virtual-machines"];
    usage.extend(names.map(|n| (n, 0)));
    let needs = Needs { expanded: true, ..Needs::default() };
    for row in list::list(store, std::slice::from_ref(name), &[], needs)? {
        let mut add = |what: &'static str, n: i64| *usage.entry(what).or_default() += n;
        let machine = row.instance.as_ref().is_some_and(|i| i.kind == InstanceType::VirtualMachine);
        add("instances", 1);
        add(if machine { "virtual-machines" } else { "containers" }, 1);
        let config = &row.expanded.config;
        let number = |key: &keys::Key| key.get(config).and_then(|v| v.parse().ok()).unwrap_or(0);
        let bytes = |text: Option<&str>| text.and_then(|v| i64::try_from(size::parse_bytes(v).ok()?).ok()).unwrap_or(0);
        add("cpu", number(&keys::LIMITS_CPU));
        add("processes", number(&keys::LIMITS_PROCESSES));
        add("memory", bytes(keys::LIMITS_MEMORY.get(config)));
        let root = device::root_disk(&row.expanded.devices).ok();
        add("disk", bytes(root.and_then(|(_, d)| device::disk::SIZE.get(d))));
    }
    let limit = |name: &str| {
        let text = project.config.get(&format!("limits.{name}"))?;
        i64::try_from(size::parse_bytes(text).ok()?).ok()
    };
    let one = |(name, usage): (&str, i64)| (name.to_string(), Resource { limit: limit(name).unwrap_or(-1), usage });
    Ok(State { resources: usage.into_iter().map(one).collect() })
}
