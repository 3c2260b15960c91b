//! `start --foreground`: the calling process keeps the instance itself, for a unit of systemd.
//!
//! It is its own monitor from the start to the end, across the guest's reboots, so that a manager sees one process. In a unit
//! with `Delegate=yes` the container lives in the unit's cgroup: this process moves into a group below, `monitors`, because a
//! group with processes of its own cannot give controllers to others (cgroup-v2.rst, "No Internal Process Constraint").
//! Elsewhere it lives where all instances live. While it waits it holds no store and no lock but the monitor's.

use super::keep::Keep;
use super::lifecycle::{self, Monitored, Next, Told};
use super::start::{self, Starter};
use super::{load, proxies, templates, undo};
use crate::base::names::{InstanceName, ProjectName};
use crate::container::plan::Plan;
use crate::container::start as runtime;
use crate::error::{Context, Error, Result};
use crate::fault;
use crate::host::cgroup::{self, Tree};
use crate::host::notify::Notify;
use crate::store::layout::Layout;
use crate::store::lock::{Exclusive, Held, InstanceKey};
use crate::store::{Access, Store};
use crate::sys::{process, xattr};
use nix::sys::signalfd::SignalFd;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

/// What is wanted.
#[derive(Debug)]
pub struct Request<'a> {
    /// Where its records are.
    pub layout: &'a Layout,
    /// Its project.
    pub project: &'a ProjectName,
    /// Its name.
    pub name: &'a InstanceName,
    /// Signals that ask for its end.
    pub orders: &'a SignalFd,
    /// The service manager.
    pub notify: &'a Notify,
    /// What the console shows goes here, too.
    pub output: OwnedFd,
}

/// A running instance that this process keeps.
struct Up {
    monitored: Monitored,
    keep: Keep,
}

/// Starts it, keeps it, and returns when it has ended and its end is on record. True: nobody wanted that end.
///
/// # Errors
/// As `start`; its end could not be recorded.
pub fn run(request: &Request<'_>) -> Result<bool> {
    let place = Place::take(request.layout)?;
    let mut up = begin(request, &place)?;
    request.notify.ready(&running(&up));
    loop {
        // What the start needed is not needed for a long time. Nothing but the wait comes after this: code that runs here is
        // mapped again, and stays.
        process::release_heap();
        process::release_stack();
        process::release_code();
        let Up { monitored, keep } = up;
        let stopping = &mut || request.notify.stopping("Shutting the instance down");
        let (end, trouble) = keep.until_end(&monitored, request.orders, Told::ByUnit, stopping)?;
        if let Some(e) = trouble {
            let _ = writeln!(std::io::stderr(), "Error: {e}");
        }
        let again = |store: &Store, held: &Held<InstanceKey, Exclusive>, options: &start::Options| {
            request.notify.status("Starting again");
            place.start(store, held, options, &request.output)
        };
        up = match lifecycle::exited(monitored, end, &again)? {
            Next::Stopped { failed } => return Ok(failed),
            Next::Abandoned => return Ok(true),
            Next::Started(up) => up,
        };
        request.notify.status(&running(&up));
    }
}

fn running(up: &Up) -> String {
    format!("Running, process 1 is {}", up.keep.pid())
}

fn begin(request: &Request<'_>, place: &Place) -> Result<Up> {
    let store = undo::open(request.layout, Access::Write)?;
    let _project = store.lock_project_shared(request.project)?;
    let held = store.lock_instance(request.project, request.name, "start")?;
    lifecycle::settle(&store, &held)?;
    if load::running(&store, request.project, request.name)?.is_some() {
        return Err(Error::conflict("The instance is already running").hint("stop it first: stapes stop <instance>"));
    }
    let up = place.start(&store, &held, &start::Options::default(), &request.output)?;
    lifecycle::note(&store, request.project, request.name, "instance-started");
    Ok(up)
}

/// Where the container lives.
struct Place {
    tree: Tree,
}

impl Place {
    /// Moves into a group below our own if that is ours to divide.
    fn take(layout: &Layout) -> Result<Self> {
        let Some(own) = delegated_group()? else { return Ok(Self { tree: load::cgroups(layout)? }) };
        let tree = Tree::at(own)?;
        tree.hold()?;
        tree.monitors().enter(i32::try_from(std::process::id()).unwrap_or(0))?;
        Ok(Self { tree })
    }

    fn start(
        &self,
        store: &Store,
        held: &Held<InstanceKey, Exclusive>,
        options: &start::Options,
        output: &OwnedFd,
    ) -> Result<Up> {
        let run = |plan: &Plan| {
            let monitored = Monitored::take(plan)?;
            let started = runtime::start(plan, None, &|root| templates::write(plan, root))?;
            fault::point("foreground.started")?;
            let copy = output.try_clone().context("Failed copying standard output")?;
            let keep = Keep::new(plan, started, Some(copy))?;
            proxies::start(plan, keep.pid())?;
            monitored.record_start(plan, keep.pid())?;
            fault::point("foreground.recorded")?;
            Ok(Up { monitored, keep })
        };
        // Its unit decides whether it starts with the host, not its last state.
        let starter = Starter { cgroups: &self.tree, returns_with_host: false, run };
        // Until the container is in it.
        let _keeper = self.tree.hold()?;
        start::locked_with(store, held, options, starter)
    }
}

/// Our own cgroup, if a manager handed it over (`Delegate=yes`) and we are alone in it.
fn delegated_group() -> Result<Option<PathBuf>> {
    let text = std::fs::read_to_string("/proc/self/cgroup").context("Failed reading our cgroup")?;
    let Some(path) = own_path(&text) else { return Ok(None) };
    let folder = cgroup::mount_point()?.join(path);
    let Ok(file) = std::fs::File::open(&folder) else { return Ok(None) };
    let marked = |name: &[u8]| matches!(xattr::get(file.as_fd(), name), Ok(Some(value)) if value == b"1");
    let processes = std::fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default();
    let alone = processes.trim() == std::process::id().to_string();
    Ok((alone && (marked(b"trusted.delegate") || marked(b"user.delegate"))).then_some(folder))
}

/// The line of version 2, relative (cgroups(7)). None in the root, and outside of what we see.
fn own_path(text: &str) -> Option<&Path> {
    let path = text.lines().find_map(|l| l.strip_prefix("0::/"))?;
    (!path.is_empty() && !path.split('/').any(|part| part == "..")).then_some(Path::new(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_group_is_found() {
        let hybrid = "5:memory:/x\n1:name=systemd:/y\n0::/system.slice/stapes@c1.service\n";
        assert_eq!(own_path(hybrid), Some(Path::new("system.slice/stapes@c1.service")));
        for none in ["0::/\n", "", "1:cpu:/x\n", "0::/../../x.service\n"] {
            assert_eq!(own_path(none), None, "{none:?}");
        }
    }
}
