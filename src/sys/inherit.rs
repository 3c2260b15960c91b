//! What a program we execute may inherit: file descriptors 0, 1 and 2, and nothing else.
//!
//! Our own descriptors are close-on-exec from birth; this covers those that the caller of our program left open
//! (CVE-2024-21626). Called by `host::command` before each spawn. Must never close anything.

use crate::error::{Error, Result};

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
