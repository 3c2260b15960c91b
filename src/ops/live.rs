//! Changes to a running instance: which of them this version can do at once, and doing them.
//!
//! Called by `update` and `profile` before anything is saved: a change that the kernel refuses is not recorded either. What
//! the registry of keys says about a key decides; see `model::diff`.

use super::{confine, load, settings, start};
use crate::base::names::{InstanceName, ProjectName};
use crate::error::{Context, Error, Result};
use crate::model::diff::Changes;
use crate::model::expand::Expanded;
use crate::model::instance::Device;
use crate::model::keys::{self, Action, device};
use crate::store::Store;
use crate::store::runfile::Running;

/// May this be done to a running instance? `expanded`: what is to count for it.
///
/// # Errors
/// Conflict: Incus refuses it too. Unsupported: a limit or a device that this version cannot change while it runs.
pub fn check(store: &Store, changes: &Changes, expanded: &Expanded) -> Result<()> {
    changes.check_running()?;
    if !changes.actions.is_empty() {
        let unchanged = "The instance is running, so nothing was changed";
        settings::check(&expanded.config, &load::cgroups(store.layout())?).map_err(|e| e.hint(unchanged))?;
    }
    let devices = &changes.devices;
    for (verb, list) in [("stop", &devices.removed), ("start", &devices.added)] {
        if let Some((name, _)) = list.iter().find(|(_, d)| acts(d)) {
            return Err(hotplug(&format!("Failed to {verb} device {name:?}")));
        }
    }
    let changed = devices.updated.iter().find(|(_, (old, new))| acts(new) && differ(old, new));
    changed.map_or(Ok(()), |(name, _)| Err(hotplug(&format!("Failed to update device {name:?}"))))
}

/// A device that masks another does nothing itself.
fn acts(options: &Device) -> bool {
    device::device_type(options) != "none"
}

fn differ(old: &Device, new: &Device) -> bool {
    let counts = |d: &Device| -> Device {
        let kept = d.iter().filter(|(k, v)| !device::USER.matches(k) && !v.is_empty());
        kept.map(|(k, v)| (k.clone(), v.clone())).collect()
    };
    counts(old) != counts(new)
}

fn hotplug(what: &str) -> Error {
    Error::unsupported("Devices of a running instance can't be changed by this version yet")
        .context(what)
        .hint("stop it first: stapes stop <instance>")
}

/// Does to the running instance what has to be done at once. With the old configuration it takes it back.
///
/// # Errors
/// The kernel refused.
pub fn apply(
    store: &Store,
    who: (&ProjectName, &InstanceName),
    running: &Running,
    changes: &Changes,
    expanded: &Expanded,
) -> Result<()> {
    for action in &changes.actions {
        match action {
            Action::OomPriority => oom(running, expanded)?,
            Action::KernelModules => start::load_modules(&expanded.config)?,
            Action::AppArmor | Action::Nesting => confine::reload(store, who, &expanded.config)?,
            // Limits were refused by `check`, so that at most their absence is new. The rest is read at the next start: the
            // runtime has no guest API or credentials yet.
            Action::Cpu
            | Action::CpuTime
            | Action::Memory
            | Action::Processes
            | Action::HugePages
            | Action::DiskPriority
            | Action::GuestApi
            | Action::Credentials => {}
        }
    }
    Ok(())
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
