//! Namespaces: handles of another process's, and leaving shared ones.

use super::{Result, SysError, from_rustix, named};
use nix::sched::CloneFlags;
use rustix::fs::{Mode, OFlags};
use std::os::fd::{BorrowedFd, OwnedFd};

/// Opens `/proc/<pid>/ns/<name>`; `name` is `user`, `net`, `mnt`, …
///
/// # Errors
/// ENOENT if the process has ended.
pub fn open(pid: i32, name: &str) -> Result<OwnedFd> {
    let path = format!("/proc/{pid}/ns/{name}");
    from_rustix("open", rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()))
}

/// Leaves the shared namespaces `flags` for new ones.
///
/// # Errors
/// As unshare(2).
pub fn unshare(flags: i32) -> Result<()> {
    named("unshare", nix::sched::unshare(CloneFlags::from_bits_truncate(flags)))
}

/// Opens the network namespace of the calling thread.
///
/// # Errors
/// As open(2).
pub fn open_own_net() -> Result<OwnedFd> {
    from_rustix("open", rustix::fs::open("/proc/thread-self/ns/net", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()))
}

/// Stack of the thread that enters another namespace.
const STACK: usize = 256 * 1024;

/// Runs `work` in the network namespace `net`: in a thread of its own that ends with it, so that no other code ever runs in
/// there. What `work` opens – sockets, files below `/proc/sys/net` – goes on belonging to that namespace. Costs a thread's
/// start and one setns(2), no process.
///
/// # Errors
/// As setns(2): EPERM for a caller that may not enter it. EAGAIN if there is no thread.
pub fn inside_net<T: Send>(net: BorrowedFd<'_>, work: impl FnOnce() -> T + Send) -> Result<T> {
    let enter = move || named("setns", nix::sched::setns(net, CloneFlags::CLONE_NEWNET)).map(|()| work());
    in_thread(enter)?
}

/// Runs `work` in each of the network namespaces `nets`, one after the other in one thread as [`inside_net`]; what came of
/// each, in order.
///
/// # Errors
/// EAGAIN if there is no thread; each of them as setns(2).
pub fn inside_each_net<T: Send>(nets: &[OwnedFd], mut work: impl FnMut() -> T + Send) -> Result<Vec<Result<T>>> {
    let enter = |net: &OwnedFd| named("setns", nix::sched::setns(net, CloneFlags::CLONE_NEWNET));
    in_thread(|| nets.iter().map(|net| enter(net).map(|()| work())).collect())
}

fn in_thread<T: Send>(work: impl FnOnce() -> T + Send) -> Result<T> {
    let failed = |errno| SysError { call: "clone", errno };
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(STACK).spawn_scoped(scope, work);
        let thread = thread.map_err(|e| failed(e.raw_os_error().unwrap_or(libc::EAGAIN)))?;
        Ok(thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    })
}
