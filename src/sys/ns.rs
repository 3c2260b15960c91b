//! Namespaces: handles of another process's, and joining one from the current thread.

use super::{Result, check, from_rustix, named};
use rustix::fs::{Mode, OFlags};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

/// Opens `/proc/<pid>/ns/<name>`; `name` is `user`, `net`, `mnt`, …
///
/// # Errors
/// ENOENT if the process has ended.
pub fn open(pid: i32, name: &str) -> Result<OwnedFd> {
    let path = format!("/proc/{pid}/ns/{name}");
    from_rustix("open", rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()))
}

/// Joins the namespaces `flags` (`CLONE_NEW*`) of the process behind `pidfd` (setns(2), Linux 5.8). `CLONE_NEWPID` acts
/// on later children only.
///
/// # Errors
/// EPERM without the rights; ESRCH if it has ended.
pub fn join(pidfd: BorrowedFd<'_>, flags: i32) -> Result<()> {
    // SAFETY: numbers only.
    check("setns", libc::c_long::from(unsafe { libc::setns(pidfd.as_raw_fd(), flags) })).map(drop)
}

/// Leaves the shared namespaces `flags` for new ones.
///
/// # Errors
/// As unshare(2).
pub fn unshare(flags: i32) -> Result<()> {
    named("unshare", nix::sched::unshare(nix::sched::CloneFlags::from_bits_truncate(flags)))
}
