//! What a program we execute may inherit: file descriptors 0, 1 and 2, and nothing else; and that it ends with us.
//!
//! Our own descriptors are close-on-exec from birth; this covers those that the caller of our program left open
//! (CVE-2024-21626). Called by `host::command` before each spawn. Must never close anything.

use crate::error::{Error, Result};
use std::os::unix::process::CommandExt;
use std::process::Command;

/// Marks every descriptor from `first` on close-on-exec (close_range(2), Linux 5.11).
///
/// # Errors
/// Those of close_range(2).
pub fn close_on_exec_from(first: u32) -> Result<()> {
    // SAFETY: with CLOSE_RANGE_CLOEXEC the call only sets a flag on descriptors; no descriptor is closed, no memory is touched.
    let n = unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    match n {
        0 => Ok(()),
        _ => Err(Error::from(std::io::Error::last_os_error()).context("close_range")),
    }
}

/// Has the program of `command` asked to end (SIGTERM) when the thread that starts it ends, however that comes about: nobody
/// would take its result (prctl(2), PR_SET_PDEATHSIG). TERM and not KILL, so that it can clear away what it made.
pub fn end_with_us(command: &mut Command) {
    let us = std::process::id();
    let ask = move || {
        // SAFETY: system calls on numbers only, as is fit between fork and exec.
        let (set, parent) = unsafe { (libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM), libc::getppid()) };
        // We may have ended before it was set; nobody is told then.
        match (set, u32::try_from(parent) == Ok(us)) {
            (0, true) => Ok(()),
            (0, false) => Err(std::io::Error::from_raw_os_error(libc::ESRCH)),
            _ => Err(std::io::Error::last_os_error()),
        }
    };
    // SAFETY: the closure allocates nothing and takes no lock.
    unsafe { command.pre_exec(ask) };
}
