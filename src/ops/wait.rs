//! `wait`: until an instance is in a state or has an address.
//!
//! A change of state shows in the run folder (inotify(7)), in the cgroup's events file, or as the end of a process (pidfd);
//! all three are waited for at once, so a wait for a state costs nothing while nothing happens. An address announces itself
//! to nobody outside its network namespace: only for these the state is looked at in intervals. No store is held open
//! meanwhile, so maintenance is not held up.

use super::status::{self, Found};
use super::{load, state_net, undo};
use crate::base::names::{InstanceName, ProjectName};
use crate::error::{Context, Error, Result};
use crate::model::instance::InstanceType;
use crate::store::layout::Layout;
use crate::store::{Access, Store};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// What is waited for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    /// The agent of a virtual machine answers.
    Agent,
    /// A global address of one of these families (`inet`, `inet6`).
    Address(Vec<&'static str>),
    /// A status, by its name in any case.
    Status(String),
}

/// How long and how often.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// Between two looks at what announces no change.
    pub interval: Duration,
    /// At most; none waits for ever.
    pub timeout: Option<Duration>,
}

/// Waits; whether the condition came true in time.
///
/// # Errors
/// Not found: the instance, before or meanwhile; a condition that cannot come true.
pub fn wait(layout: &Layout, who: (&ProjectName, &InstanceName), condition: &Condition, pace: Pace) -> Result<bool> {
    let end = pace.timeout.map(|t| Instant::now() + t);
    let mut group = None;
    loop {
        // Watched first and looked at then: what changes in between is seen.
        let watch = Watch::new(layout, who, group.as_deref())?;
        let found = look(layout, who, condition)?;
        if found.true_now {
            return Ok(true);
        }
        if found.group != group {
            group = found.group;
            continue;
        }
        let left = end.map(|end| end.saturating_duration_since(Instant::now()));
        if left.is_some_and(|left| left.is_zero()) {
            return Ok(false);
        }
        let tick = (!matches!(condition, Condition::Status(_))).then_some(pace.interval);
        let processes: Vec<_> = found.processes.iter().map(AsFd::as_fd).collect();
        watch.wait(&processes, [left, tick].into_iter().flatten().min())?;
    }
}

struct Look {
    true_now: bool,
    /// Whose end is a change.
    processes: Vec<OwnedFd>,
    /// The cgroup of what runs, wherever it was started.
    group: Option<PathBuf>,
}

fn look(layout: &Layout, who: (&ProjectName, &InstanceName), condition: &Condition) -> Result<Look> {
    let store: Store = undo::open(layout, Access::Read)?;
    let instance = store.instance(who.0, who.1)?.ok_or_else(load::not_found)?;
    let found = status::of(&store, who.0, who.1).unwrap_or_else(|_| Found::error());
    let true_now = match condition {
        Condition::Agent if instance.kind != InstanceType::VirtualMachine => {
            return Err(Error::invalid("The agent condition is only valid for virtual-machines"));
        }
        Condition::Agent => false,
        Condition::Status(name) => found.status.as_str().eq_ignore_ascii_case(name),
        Condition::Address(families) => found.run.as_ref().is_some_and(|run| has_address(run.init_pid, families)),
    };
    let mut processes = Vec::new();
    if let Some(run) = &found.run {
        processes.extend(run.open_monitor()?);
        processes.extend(run.open_init()?);
    }
    Ok(Look { true_now, processes, group: found.run.map(|run| run.cgroup) })
}

fn has_address(pid: i32, families: &[&str]) -> bool {
    let interfaces = state_net::interfaces(pid);
    let mut all = interfaces.values().flat_map(|i| &i.addresses.0);
    all.any(|a| a.scope == "global" && families.contains(&a.family.as_str()))
}

/// Folders and files in which a change of state shows.
pub(super) struct Watch {
    inotify: Inotify,
}

impl Watch {
    /// Begins to watch; `group` is the cgroup that the run record names.
    ///
    /// # Errors
    /// As inotify_add_watch(2).
    pub(super) fn new(layout: &Layout, who: (&ProjectName, &InstanceName), group: Option<&Path>) -> Result<Self> {
        let fail = || "Failed watching the run folder".to_string();
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK).with_context(fail)?;
        let folder = AddWatchFlags::IN_CREATE
            | AddWatchFlags::IN_DELETE
            | AddWatchFlags::IN_MOVED_TO
            | AddWatchFlags::IN_MOVED_FROM
            | AddWatchFlags::IN_DELETE_SELF
            | AddWatchFlags::IN_MOVE_SELF;
        let run = layout.instance_run_dir(who.0, who.1);
        // Where the instance's own folder may appear, and its records; the nearest folder that is there.
        for place in [&layout.run_instances_dir(), &layout.instance_dir(who.0, who.1)] {
            inotify.add_watch(&nearest(place), folder).with_context(fail)?;
        }
        // A frozen instance shows there (cgroup-v2.rst: file modified events of `cgroup.events`).
        let events = group.map(|group| (group.join("cgroup.events"), AddWatchFlags::IN_MODIFY));
        for (path, events) in [Some((run, folder)), events].into_iter().flatten() {
            match inotify.add_watch(&path, events) {
                Ok(_) | Err(nix::errno::Errno::ENOENT | nix::errno::Errno::ENOTDIR) => {}
                Err(e) => return Err(e).with_context(fail),
            }
        }
        Ok(Self { inotify })
    }

    /// Waits for a change, the end of a process, or `most`.
    ///
    /// # Errors
    /// As poll(2).
    pub(super) fn wait(&self, processes: &[BorrowedFd<'_>], most: Option<Duration>) -> Result<()> {
        let mut fds = vec![PollFd::new(self.inotify.as_fd(), PollFlags::POLLIN)];
        fds.extend(processes.iter().map(|p| PollFd::new(*p, PollFlags::POLLIN)));
        let timeout = most.map_or(PollTimeout::NONE, |t| {
            let ms = u128::min(t.as_millis() + 1, i32::MAX as u128);
            PollTimeout::try_from(i32::try_from(ms).unwrap_or(i32::MAX)).unwrap_or(PollTimeout::MAX)
        });
        match poll(&mut fds, timeout) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => Ok(()),
            Err(e) => Err(e).context("Failed waiting"),
        }
    }
}

/// `path`, or the nearest folder above it that is there.
fn nearest(path: &Path) -> PathBuf {
    path.ancestors().find(|p| p.is_dir()).unwrap_or(Path::new("/")).to_path_buf()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_appears_is_a_change() {
        let dir = tempfile::tempdir().expect("tempdir");
        let layout = Layout::under(dir.path());
        let (project, name) = (ProjectName::default(), InstanceName::parse("c1").expect("name"));
        std::fs::create_dir_all(layout.run_instances_dir()).expect("run");
        let watch = Watch::new(&layout, (&project, &name), None).expect("watch");
        let begin = Instant::now();
        watch.wait(&[], Some(Duration::from_millis(20))).expect("nothing");
        assert!(begin.elapsed() >= Duration::from_millis(20));
        std::fs::create_dir(layout.instance_run_dir(&project, &name)).expect("started");
        let begin = Instant::now();
        watch.wait(&[], Some(Duration::from_secs(10))).expect("event");
        assert!(begin.elapsed() < Duration::from_secs(5));
        assert_eq!(nearest(&dir.path().join("a/b")), dir.path());
    }
}
