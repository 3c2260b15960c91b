//! Proxies of an instance that are processes: one each, our binary re-executed once process 1 runs, because one side of it is
//! in there. They listen before the start is reported, and end with process 1.

use super::{lifecycle, spawn};
use crate::container::plan::Plan;
use crate::error::{Context, Error, Result};
use crate::fault;
use crate::model::proxy::Proxy;
use crate::store::proxies;
use crate::sys::clone::{self, Spawn};
use crate::sys::{memfd, ns, pidfd};
use serde::{Deserialize, Serialize};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;

/// Argument zero of the role.
pub const ROLE: &str = "stapes-proxy";
/// What the role finds at its descriptors from 3 on: its task, the pipe to report on, its file, process 1, and the network,
/// mount and user namespaces of that.
pub const HANDED: [i32; 7] = [3, 4, 5, 6, 7, 8, 9];

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

/// Starts the proxies of a plan whose process 1 is `init`, and waits until they listen.
///
/// # Errors
/// An address is taken, or whatever else one reports; those that were started end with process 1.
pub fn start(plan: &Plan, init: i32) -> Result<()> {
    for proxy in &plan.proxies {
        one(plan, proxy, init).with_context(|| format!("Failed to start device \"{}\"", proxy.device))?;
        fault::point("proxy.started")?;
    }
    Ok(())
}

fn one(plan: &Plan, proxy: &Proxy, init: i32) -> Result<()> {
    let lock = proxies::begin(&plan.run_dir, &proxy.device)?;
    let task = Task {
        proxy: proxy.clone(),
        mapped: !plan.privileged,
        root: (plan.host_uid(0), plan.host_gid(0)),
        owner: (plan.host_uid(proxy.owner.0), plan.host_gid(proxy.owner.1)),
    };
    let task = serde_json::to_vec(&task).map_err(|e| Error::internal("Failed writing a task").caused_by(e))?;
    let task = memfd::sealed("stapes-proxy", &task).context("Failed handing over the task")?;
    let (ready, theirs) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    // One that has ended already, as a short command may, is served no more.
    let Some([process, net, mnt, user]) = handles(init)? else { return Ok(()) };
    let log = std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW | libc::O_CLOEXEC)
        .open(plan.log_dir.join(lifecycle::MONITOR_LOG))
        .context("Failed opening the log")?;
    let null = std::fs::File::open("/dev/null").context("Failed opening \"/dev/null\"")?;
    let exe = spawn::our_binary(plan).context("Failed opening ourselves")?;
    let handed = [task.as_fd(), theirs.as_fd(), lock.as_fd(), process.as_fd(), net.as_fd(), mnt.as_fd(), user.as_fd()];
    let words = [ROLE.to_string(), format!("{}/{} {}", plan.project, plan.name, proxy.device)];
    let program = spawn::role([null.as_raw_fd(), log.as_raw_fd()], &handed, exe.as_fd(), words)?;
    // It stays in our cgroup: the monitors', or that of whoever keeps the instance himself.
    let mut child =
        clone::spawn(&Spawn { namespaces: 0, cgroup: None }, &program).context("Failed starting the proxy")?;
    drop((theirs, lock));
    if let Err(failure) = child.wait_exec().context("Failed starting the proxy")? {
        return Err(Error::failed(format!("Failed starting the proxy: error {}", failure.errno)));
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
