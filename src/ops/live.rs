//! Changes to a running instance: which of them this version can do at once, and doing them.
//!
//! Called by `update` and `profile` before anything is saved: a change that the kernel refuses is not recorded either. What
//! the registry of keys says about a key decides; see `model::diff`.

use super::{confine, cpus, disk_limits, disk_live, limits, load, nic_live, pool, proxy_live, settings, start, state};
use crate::base::names::{InstanceName, ProjectName};
use crate::container::resources;
use crate::error::{Context, Error, Result};
use crate::fault;
use crate::host::cgroup::Group;
use crate::host::controllers;
use crate::model::cpus::CpuWish;
use crate::model::diff::Changes;
use crate::model::expand::Expanded;
use crate::model::instance::Device;
use crate::model::keys::{self, Action, device};
use crate::store::runfile::Running;
use crate::store::{Store, undo as journal};
use std::collections::BTreeSet;

/// May this be done to a running instance? `expanded`: what is to count for it.
///
/// # Errors
/// Conflict: Incus refuses it too. Unsupported: a limit or a device that this version cannot change while it runs.
pub fn check(store: &Store, changes: &Changes, expanded: &Expanded) -> Result<()> {
    changes.check_running()?;
    if !changes.actions.is_empty() {
        let unchanged = "The instance is running, so nothing was changed";
        let cgroups = load::cgroups(store.layout())?;
        settings::check(&expanded.config, &cgroups).map_err(|e| e.hint(unchanged))?;
        if changes.actions.contains(&Action::DiskLimits) {
            disk_limits::check(&expanded.devices, &cgroups).map_err(|e| e.hint(unchanged))?;
        }
    }
    let devices = &changes.devices;
    for (verb, list) in [("stop", &devices.removed), ("start", &devices.added)] {
        if let Some((name, _)) = list.iter().find(|(_, d)| is_fixed(d) && !disk_live::is_pluggable(d)) {
            return Err(hotplug(&format!("Failed to {verb} device {name:?}")));
        }
    }
    let changed = devices.updated.iter().find(|(_, (old, new))| is_fixed(new) && differ(old, new));
    changed.map_or(Ok(()), |(name, _)| Err(hotplug(&format!("Failed to update device {name:?}"))))
}

/// A device that is what it was at the start until the end. One that masks another does nothing itself.
fn is_fixed(options: &Device) -> bool {
    !matches!(device::device_type(options), "none" | "nic" | "proxy")
}

fn differ(old: &Device, new: &Device) -> bool {
    let counts = |d: &Device| -> Device {
        let sized = |k: &str| device::disk::SIZE.matches(k) && pool::is_root(d);
        // With what runs it has nothing to do, or is a limit, which changes by itself.
        let apart =
            |k: &str| device::USER.matches(k) || device::disk::DEPENDENT.matches(k) || device::disk::is_limit(k);
        let kept = d.iter().filter(|(k, v)| !apart(k) && !sized(k) && !v.is_empty());
        kept.map(|(k, v)| (k.clone(), v.clone())).collect()
    };
    counts(old) != counts(new)
}

fn hotplug(what: &str) -> Error {
    Error::unsupported(
        "The root disk of a running instance but for its size and limits, and devices that are no disks, network interfaces or proxies, can't be changed by this version yet",
    )
    .context(what)
    .hint("stop it first: stapes stop <instance>")
}

/// A running instance.
#[derive(Debug, Clone, Copy)]
pub struct Target<'a> {
    /// Where it stands.
    pub store: &'a Store,
    /// Its project.
    pub project: &'a ProjectName,
    /// Its name.
    pub name: &'a InstanceName,
    /// What runs of it.
    pub running: &'a Running,
}

/// What is done to something that runs and can be taken back.
const UNDONE: [Action; 10] = [
    Action::Cpu,
    Action::CpuTime,
    Action::Memory,
    Action::Processes,
    Action::HugePages,
    Action::DiskPriority,
    Action::DiskLimits,
    Action::OomPriority,
    Action::AppArmor,
    Action::Nesting,
];

/// What a journal notes before `changes` are done to a running instance: its record is what counts in the end, whoever is
/// refused or killed on the way. `new`: what is to count for it. Nothing if nothing is done to what runs.
pub fn undo(project: &ProjectName, name: &InstanceName, changes: &Changes, new: &Expanded) -> Vec<journal::Action> {
    let (project, name) = (project.to_string(), name.to_string());
    let mut all = Vec::new();
    if changes.actions.iter().any(|a| UNDONE.contains(a)) {
        all.push(journal::Action::RenewLimits { project: project.clone(), name: name.clone() });
    }
    let devices: Vec<String> = proxy_live::touched(&changes.devices, &new.devices).into_iter().collect();
    if !devices.is_empty() {
        all.push(journal::Action::RenewProxies { project: project.clone(), name: name.clone(), devices });
    }
    let devices: Vec<String> = disk_live::touched(&changes.devices).into_iter().collect();
    if !devices.is_empty() {
        all.push(journal::Action::RenewDisks { project: project.clone(), name: name.clone(), devices });
    }
    let devices: Vec<String> = nic_live::touched(&changes.devices, &new.devices).into_iter().collect();
    if !devices.is_empty() {
        all.push(journal::Action::RenewNics { project, name, devices });
    }
    all
}

/// Has what the record of an instance says count for what runs of it, as far as that can be changed live. Takes no lock but
/// an allocator's.
///
/// # Errors
/// The record is damaged; the kernel refused.
pub fn renew(store: &Store, project: &ProjectName, name: &InstanceName) -> Result<()> {
    let Some(running) = load::running(store, project, name)? else { return Ok(()) };
    let loaded = load::load(store, project, name)?;
    let target = Target { store, project, name, running: &running };
    carry_out(target, &UNDONE.into(), &loaded.expanded, true)
}

/// Does to the running instance what has to be done at once for `expanded` to count. One that has ended meanwhile is fine.
///
/// # Errors
/// The kernel refused; part of it may be done.
pub fn apply(target: Target<'_>, actions: &BTreeSet<Action>, expanded: &Expanded) -> Result<()> {
    carry_out(target, actions, expanded, false)
}

/// `known`: it counted before.
fn carry_out(target: Target<'_>, actions: &BTreeSet<Action>, expanded: &Expanded, known: bool) -> Result<()> {
    let group = Group::at(target.running.file.cgroup.clone());
    let written = || {
        let mut settings = limits::settings(actions, &expanded.config, state::host_memory())?;
        if actions.contains(&Action::DiskLimits) {
            settings.extend(disk_limits::settings(target, &group, &expanded.devices, known)?);
        }
        limits(&group, &settings)
    };
    match written().and_then(|()| apply_to(target, &group, actions, expanded)) {
        Err(_) if !group.exists() => Ok(()),
        other => other,
    }
}

fn apply_to(target: Target<'_>, group: &Group, actions: &BTreeSet<Action>, expanded: &Expanded) -> Result<()> {
    fault::point("live.limits")?;
    for action in actions {
        match action {
            Action::OomPriority => oom(target.running, expanded)?,
            Action::KernelModules => start::load_modules(&expanded.config)?,
            Action::Cpu => cpus(target, group, expanded)?,
            // Files of the cgroup: written above, all together.
            Action::CpuTime | Action::Memory | Action::Processes | Action::HugePages => {}
            Action::DiskPriority | Action::DiskLimits => {}
            Action::AppArmor | Action::Nesting => {
                confine::reload(target.store, (target.project, target.name), &expanded.config)?;
            }
            // The rest is read at the next start: the runtime has no guest API or credentials yet.
            Action::GuestApi | Action::Credentials => {}
        }
    }
    Ok(())
}

/// Limits that are files of the instance's cgroup. One that runs since before its controller was on gets it here.
fn limits(group: &Group, settings: &[resources::Setting]) -> Result<()> {
    if settings.is_empty() {
        return Ok(());
    }
    let available = controllers::enable(group.path().parent().unwrap_or(group.path()))?;
    let wanted = settings.iter().filter(|s| !s.optional);
    wanted.map(resources::Setting::controller).try_for_each(|controller| available.require(controller))?;
    resources::write(group, settings)
}

fn cpus(target: Target<'_>, group: &Group, expanded: &Expanded) -> Result<()> {
    let who = (target.project, target.name);
    match CpuWish::of(&expanded.config) {
        None => cpus::lift(target.store, who, group),
        Some(wish) => {
            controllers::enable(group.path().parent().unwrap_or(group.path()))?.require("cpuset")?;
            cpus::assign(target.store, who, group, &wish)
        }
    }
}

/// proc_pid_oom_score_adj(5), of process 1: later children inherit it.
fn oom(running: &Running, expanded: &Expanded) -> Result<()> {
    let score = keys::LIMITS_MEMORY_OOM_PRIORITY.i64(&expanded.config)?.unwrap_or(0);
    let path = format!("/proc/{}/oom_score_adj", running.file.init_pid);
    let fail = || format!("Failed writing \"{path}\"");
    // The open file goes on naming the process that had the pid; who that is, is compared after opening.
    let mut file = std::fs::OpenOptions::new().write(true).open(&path).with_context(fail)?;
    match running.file.open_init()? {
        Some(_) => std::io::Write::write_all(&mut file, score.to_string().as_bytes()).with_context(fail),
        None => Ok(()),
    }
}
