//! Namespaces: handles of another process's, and leaving shared ones.

use super::{Result, from_rustix, named};
use rustix::fs::{Mode, OFlags};
use std::os::fd::OwnedFd;

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
    named("unshare", nix::sched::unshare(nix::sched::CloneFlags::from_bits_truncate(flags)))
}
