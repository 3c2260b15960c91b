//! How process 1 of a container is asked to shut down: the signal that its kind of init understands.
//!
//! Used by `stop`, which waits for the monitor, and by whoever keeps a container and is told to end it ([`super::keep`]).
//! The kernel drops what a first process does not handle, so one that is still too young to listen is asked again.

use crate::error::{Context, Result};
use crate::store::runfile::RunFile;
use crate::sys::pidfd;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

/// Run record: the signal that an application wants, a number.
pub const SIGNAL: &str = "stop_signal";
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
    let signal = file.extra.get(SIGNAL).and_then(|number| number.parse().ok());
    let begin = Instant::now();
    let mut pause = FIRST;
    loop {
        if once(init.as_fd(), file.init_pid, signal)? || begin.elapsed() >= patience {
            return Ok(());
        }
        if pidfd::wait_ended(monitor.as_fd(), Some(pause))? {
            return Ok(());
        }
        pause = (pause * 2).min(MOST);
    }
}

/// Asks once, with `signal` if that is known; true if it listens, or has ended.
///
/// # Errors
/// The process cannot be signalled.
pub fn once(init: BorrowedFd<'_>, pid: i32, signal: Option<i32>) -> Result<bool> {
    let signal = signal.or_else(|| signal_for(pid));
    match pidfd::send_signal(init, signal.unwrap_or(libc::SIGPWR)) {
        Err(e) if e.errno == libc::ESRCH => Ok(true),
        other => other.map(|()| signal.is_some()).context("Failed signalling the instance"),
    }
}

/// The signal that process `init` shuts down on, as far as it shows.
fn signal_for(init: i32) -> Option<i32> {
    signal_of(&std::fs::read_to_string(format!("/proc/{init}/status")).unwrap_or_default())
}

/// systemd shuts down on SIGRTMIN+3, which it blocks and reads by descriptor; sysvinit and others on SIGPWR; busybox's
/// init knows SIGUSR2. What the process handles, or else blocks, tells which (proc_pid_status(5): SigCgt, SigBlk). A shell
/// blocks everything for a moment, SIGSEGV too: that tells nothing.
fn signal_of(status: &str) -> Option<i32> {
    let mask = |field: &str| {
        let line = status.lines().find_map(|l| l.strip_prefix(field)).unwrap_or_default();
        u64::from_str_radix(line.trim_start_matches(':').trim(), 16).unwrap_or(0)
    };
    let has = |mask: u64, signal: i32| mask & (1 << (signal - 1)) != 0;
    let (handled, blocked) = (mask("SigCgt"), mask("SigBlk"));
    let blocked = if has(blocked, libc::SIGSEGV) { 0 } else { blocked };
    let known = [libc::SIGRTMIN() + 3, libc::SIGPWR, libc::SIGUSR2];
    [handled, blocked].into_iter().find_map(|mask| known.into_iter().find(|s| has(mask, *s)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kind_of_init_shows() {
        let status = |blocked: &str, handled: &str| format!("Name:\tinit\nSigBlk:\t{blocked}\nSigCgt:\t{handled}\n");
        let (systemd, busybox) = (libc::SIGRTMIN() + 3, libc::SIGUSR2);
        let cases = [
            ("7fe3c0fe28014a03", "00000001000004ec", Some(systemd)),
            ("0000000000000000", "0000000020000000", Some(libc::SIGPWR)),
            // A shell with a trap while it forks, and one without.
            ("fffffffe7ffbfeff", "0000000020010002", Some(libc::SIGPWR)),
            ("fffffffe7ffbfeff", "0000000000010002", None),
            ("0000000000000a00", "0000000000000000", Some(busybox)),
            ("0000000000000000", "0000000000000a00", Some(busybox)),
            ("0000000000000000", "0000000000000000", None),
        ];
        for (blocked, handled, expected) in cases {
            assert_eq!(signal_of(&status(blocked, handled)), expected, "{blocked} {handled}");
        }
        assert_eq!(signal_of(""), None);
    }
}
