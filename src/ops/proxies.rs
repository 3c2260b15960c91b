//! Proxies of an instance that are processes: one each, our binary re-executed once process 1 runs, because one side of it is
//! in there. They listen before the start is reported, and end with process 1.

use super::{idmap, logs, spawn};
use crate::base::idmap::IdMap;
use crate::base::names::{InstanceName, ProjectName};
use crate::container::plan::Plan;
use crate::error::{Context, Error, Result};
use crate::fault;
use crate::host::cgroup::Tree;
use crate::host::proc;
use crate::model::proxy::Proxy;
use crate::store::proxies;
use crate::sys::clone::{self, Spawn};
use crate::sys::{memfd, ns, pidfd, selfexe};
use serde::{Deserialize, Serialize};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

/// Argument zero of the role.
pub const ROLE: &str = "stapes-proxy";
/// What the role finds at its descriptors from 3 on: its task, the pipe to report on, its file, process 1, and the network,
/// mount and user namespaces of that.
pub const HANDED: [i32; 7] = [3, 4, 5, 6, 7, 8, 9];

/// Whoever is not of the instance (user_namespaces(7)).
const OVERFLOW: u32 = 65534;

/// What the process is to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Task {
    /// The proxy.
    pub proxy: Proxy,
    /// The instance has a user namespace.
    pub mapped: bool,
    /// Host ids of the instance's root.
    pub root: (u32, u32),
    /// Host ids of the owner of a socket in the instance.
    pub owner: (u32, u32),
}

/// The instance that proxies belong to.
pub(super) struct Home<'a> {
    /// `<project>/<name>`.
    who: String,
    run_dir: &'a Path,
    log_dir: &'a Path,
    /// Its ids on the host; none if it has no user namespace.
    map: Option<IdMap>,
    /// What its proxies run from.
    exe: OwnedFd,
}

impl<'a> Home<'a> {
    /// Of an instance that runs; `init` is its process 1.
    ///
    /// # Errors
    /// It has ended; our own binary cannot be opened.
    pub(super) fn running(
        (project, name): (&ProjectName, &InstanceName),
        init: i32,
        run_dir: &'a Path,
        log_dir: &'a Path,
    ) -> Result<Self> {
        let map = proc::id_map(init)?;
        let exposed = idmap::reaches(map.as_ref(), selfexe::owner()?);
        let exe = spawn::our_binary(exposed).context("Failed opening ourselves")?;
        Ok(Self { who: format!("{project}/{name}"), run_dir, log_dir, map, exe })
    }

    fn host_ids(&self, (uid, gid): (u32, u32)) -> (u32, u32) {
        let Some(map) = &self.map else { return (uid, gid) };
        (map.to_host_uid(uid).unwrap_or(OVERFLOW), map.to_host_gid(gid).unwrap_or(OVERFLOW))
    }
}

/// Starts the proxies of a plan whose process 1 is `init`, and waits until they listen.
///
/// # Errors
/// An address is taken, or whatever else one reports; those that were started end with process 1.
pub fn start(plan: &Plan, init: i32) -> Result<()> {
    if plan.proxies.is_empty() {
        return Ok(());
    }
    let (project, name) = (ProjectName::parse(&plan.project)?, InstanceName::parse(&plan.name)?);
    // One that has ended already, as a short command may, is served no more.
    let home = match Home::running((&project, &name), init, &plan.run_dir, &plan.log_dir) {
        Err(_) if pidfd::open(init).is_err_and(|e| e.errno == libc::ESRCH) => return Ok(()),
        other => other?,
    };
    for proxy in &plan.proxies {
        one(&home, proxy, init, None).with_context(|| format!("Failed to start device \"{}\"", proxy.device))?;
        fault::point("proxy.started")?;
    }
    Ok(())
}

/// Starts one and waits until it listens. It stays in our cgroup – the monitors', or that of whoever keeps the instance
/// himself – or goes where the monitors of `cgroups` are.
///
/// # Errors
/// As [`start`].
pub(super) fn one(home: &Home<'_>, proxy: &Proxy, init: i32, cgroups: Option<&Tree>) -> Result<()> {
    let lock = proxies::begin(home.run_dir, &proxy.device)?;
    let task = Task {
        proxy: proxy.clone(),
        mapped: home.map.is_some(),
        root: home.host_ids((0, 0)),
        owner: home.host_ids((proxy.owner.0, proxy.owner.1)),
    };
    let task = serde_json::to_vec(&task).map_err(|e| Error::internal("Failed writing a task").caused_by(e))?;
    let task = memfd::sealed("stapes-proxy", &task).context("Failed handing over the task")?;
    let (ready, theirs) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    let Some([process, net, mnt, user]) = handles(init)? else { return Ok(()) };
    let log = logs::open(home.log_dir, logs::MONITOR)?;
    let null = std::fs::File::open("/dev/null").context("Failed opening \"/dev/null\"")?;
    let handed = [task.as_fd(), theirs.as_fd(), lock.as_fd(), process.as_fd(), net.as_fd(), mnt.as_fd(), user.as_fd()];
    let words = [ROLE.to_string(), format!("{} {}", home.who, proxy.device)];
    let program = spawn::role([null.as_raw_fd(), log.as_raw_fd()], &handed, home.exe.as_fd(), words)?;
    let fail = "Failed starting the proxy";
    let mut child = match cgroups {
        None => clone::spawn(&Spawn { namespaces: 0, cgroup: None }, &program).context(fail)?,
        Some(cgroups) => spawn::into_tree(cgroups, &program).context(fail)?,
    };
    drop((theirs, lock));
    if let Err(failure) = child.wait_exec().context(fail)? {
        return Err(Error::failed(format!("{fail}: error {}", failure.errno)));
    }
    spawn::await_ready(ready, child, "The proxy ended before it was listening")
}

/// Process 1 and its network, mount and user namespaces; none if it has ended.
fn handles(init: i32) -> Result<Option<[OwnedFd; 4]>> {
    let all = || -> crate::sys::Result<[OwnedFd; 4]> {
        Ok([pidfd::open(init)?, ns::open(init, "net")?, ns::open(init, "mnt")?, ns::open(init, "user")?])
    };
    match all() {
        Err(e) if matches!(e.errno, libc::ESRCH | libc::ENOENT) => Ok(None),
        other => other.map(Some).map_err(Error::from),
    }
}
