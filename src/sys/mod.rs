//! L0: the only unsafe code. Safe wrappers around the kernel, one file per subject.
//!
//! Calls that `nix` or `rustix` wrap well are used from there; this folder holds what they lack (clone3, mount_setattr,
//! seccomp, PTMX peers) and the one place where code runs between clone and exec ([`child`]). Nothing here knows what an
//! instance is.
#![allow(unsafe_code)]

#[cfg(any(test, feature = "faults"))]
pub mod alloc_guard;
pub mod backtrace;
pub mod bpf;
pub mod btrfs;
pub mod btrfs_send;
pub mod child;
pub mod clone;
pub mod cred;
pub mod freeze;
pub mod inherit;
pub mod loopdev;
pub mod memfd;
pub mod mount;
pub mod netlink;
pub mod ns;
pub mod path;
pub mod pidfd;
pub mod process;
pub mod pty;
pub mod qgroup;
pub mod quota;
pub mod seccomp;
pub mod selfexe;
pub mod socket;
pub mod syscalls;
pub mod uevent;
pub mod writeback;
pub mod xattr;
pub mod zvol;

use crate::error::Error;

/// A failed system call: its name and error number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SysError {
    /// Name of the call.
    pub call: &'static str,
    /// Error number.
    pub errno: i32,
}

/// Result of a system call.
pub type Result<T> = std::result::Result<T, SysError>;

impl SysError {
    /// The thread's current error number under the name `call`.
    pub fn last(call: &'static str) -> Self {
        Self { call, errno: std::io::Error::last_os_error().raw_os_error().unwrap_or(0) }
    }
}

impl std::fmt::Display for SysError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.call, nix::errno::Errno::from_raw(self.errno).desc())
    }
}

impl std::error::Error for SysError {}

impl From<SysError> for Error {
    fn from(e: SysError) -> Self {
        Error::failed(e.to_string()).with_errno(e.errno)
    }
}

/// Turns the return value of a raw call into a result.
fn check(call: &'static str, ret: libc::c_long) -> Result<libc::c_long> {
    if ret < 0 { Err(SysError::last(call)) } else { Ok(ret) }
}

/// Turns a nix result into ours.
fn named<T>(call: &'static str, r: nix::Result<T>) -> Result<T> {
    r.map_err(|e| SysError { call, errno: e as i32 })
}

/// Turns a rustix result into ours.
fn from_rustix<T>(call: &'static str, r: rustix::io::Result<T>) -> Result<T> {
    r.map_err(|e| SysError { call, errno: e.raw_os_error() })
}
