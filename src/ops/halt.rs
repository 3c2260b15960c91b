//! How process 1 of a container is asked to shut down: the signal that its kind of init understands.
//!
//! Used by `stop`, which waits for the monitor, and by whoever keeps a container and is told to end it ([`super::keep`]).
//! The kernel drops what a first process does not handle, so one that is still too young to listen is asked again.

use crate::error::{Context, Result};
use crate::store::runfile::RunFile;
use crate::sys::pidfd;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

/// Before the second time; doubled each time up to [`MOST`].
pub const FIRST: Duration = Duration::from_millis(20);
/// The longest pause between two times.
pub const MOST: Duration = Duration::from_secs(1);

/// Asks until somebody listens, `monitor` has ended, or `patience` is over.
///
/// # Errors
/// The process cannot be signalled.
pub fn ask(file: &RunFile, monitor: &OwnedFd, patience: Duration) -> Result<()> {
    let Some(init) = file.open_init()? else { return Ok(()) };
    let begin = Instant::now();
    let mut pause = FIRST;
    loop {
        if once(init.as_fd(), file.init_pid)? || begin.elapsed() >= patience {
            return Ok(());
        }
        if pidfd::wait_ended(monitor.as_fd(), Some(pause))? {
            return Ok(());
        }
        pause = (pause * 2).min(MOST);
    }
}

/// Asks once; true if it listens, or has ended.
///
/// # Errors
/// The process cannot be signalled.
pub fn once(init: BorrowedFd<'_>, pid: i32) -> Result<bool> {
    let signal = signal_for(pid);
    match pidfd::send_signal(init, signal.unwrap_or(libc::SIGPWR)) {
        Err(e) if e.errno == libc::ESRCH => Ok(true),
        other => other.map(|()| signal.is_some()).context("Failed signalling the instance"),
    }
}

/// systemd shuts down on SIGRTMIN+3, which it blocks and reads by descriptor; sysvinit and others on SIGPWR; busybox's
/// init knows SIGUSR2. What the process handles tells which (proc_pid_status(5): SigBlk, SigCgt).
fn signal_for(init: i32) -> Option<i32> {
    let status = std::fs::read_to_string(format!("/proc/{init}/status")).unwrap_or_default();
    let mask = |field: &str| {
        let line = status.lines().find_map(|l| l.strip_prefix(field)).unwrap_or_default();
        u64::from_str_radix(line.trim_start_matches(':').trim(), 16).unwrap_or(0)
    };
    let handled = mask("SigBlk") | mask("SigCgt");
    let handles = |signal: i32| handled & (1 << (signal - 1)) != 0;
    let systemd = libc::SIGRTMIN() + 3;
    [systemd, libc::SIGPWR, libc::SIGUSR2].into_iter().find(|s| handles(*s))
}
