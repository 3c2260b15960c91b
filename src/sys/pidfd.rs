//! Processes by descriptor: pidfd_open(2), pidfd_send_signal(2), waitid(2) with `P_PIDFD`.

use super::{Result, SysError, from_rustix};
use rustix::process::{Pid, PidfdFlags, Signal, WaitId, WaitIdOptions};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// How a child ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// By exit(2) with this status.
    Code(i32),
    /// By this signal.
    Signal(i32),
}

impl Exit {
    /// The status a shell would give: the code, or 128 + signal.
    pub fn shell_status(self) -> i32 {
        match self {
            Self::Code(c) => c,
            Self::Signal(s) => 128 + s,
        }
    }
}

/// Opens a descriptor for process `pid`.
///
/// # Errors
/// ESRCH if there is none; else as pidfd_open(2).
pub fn open(pid: i32) -> Result<OwnedFd> {
    let bad = SysError { call: "pidfd_open", errno: libc::ESRCH };
    let pid = Pid::from_raw(pid).ok_or(bad)?;
    from_rustix("pidfd_open", rustix::process::pidfd_open(pid, PidfdFlags::empty()))
}

/// Sends signal number `signal`.
///
/// # Errors
/// ESRCH if it has ended; else as pidfd_send_signal(2).
pub fn send_signal(pidfd: BorrowedFd<'_>, signal: i32) -> Result<()> {
    // SAFETY: numbers and a null pointer only; realtime signals are not known to the typed wrappers.
    let ret = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            std::os::fd::AsRawFd::as_raw_fd(&pidfd),
            signal,
            std::ptr::null::<libc::siginfo_t>(),
            0,
        )
    };
    super::check("pidfd_send_signal", ret).map(drop)
}

/// Sends KILL; one that has ended already is what was wanted.
///
/// # Errors
/// As pidfd_send_signal(2).
pub fn kill(pidfd: BorrowedFd<'_>) -> Result<()> {
    match send_signal(pidfd, KILL) {
        Err(e) if e.errno == libc::ESRCH => Ok(()),
        other => other,
    }
}

/// Waits for the child behind `pidfd` to end and reaps it.
///
/// # Errors
/// ECHILD if it is not our child; else as waitid(2).
pub fn wait(pidfd: BorrowedFd<'_>) -> Result<Exit> {
    loop {
        match rustix::process::waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED) {
            Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(SysError { call: "waitid", errno: e.raw_os_error() }),
            Ok(status) => {
                let status = status.ok_or(SysError { call: "waitid", errno: libc::ECHILD })?;
                return Ok(match (status.exit_status(), status.terminating_signal()) {
                    (Some(code), _) => Exit::Code(code),
                    (None, Some(signal)) => Exit::Signal(signal),
                    (None, None) => Exit::Code(255),
                });
            }
        }
    }
}

/// Waits until the process behind `pidfd` has ended, ours or not; `timeout` in milliseconds, none waits for ever.
/// Returns false when the time is over.
///
/// # Errors
/// As poll(2).
pub fn wait_ended(pidfd: BorrowedFd<'_>, timeout: Option<std::time::Duration>) -> Result<bool> {
    let end = timeout.map(|t| std::time::Instant::now() + t);
    loop {
        let left = match end {
            None => nix::poll::PollTimeout::NONE,
            Some(end) => {
                let left = end.saturating_duration_since(std::time::Instant::now()).as_millis();
                nix::poll::PollTimeout::try_from(u128::min(left + 1, i32::MAX as u128) as i32)
                    .unwrap_or(nix::poll::PollTimeout::MAX)
            }
        };
        let mut fds = [nix::poll::PollFd::new(pidfd, nix::poll::PollFlags::POLLIN)];
        match nix::poll::poll(&mut fds, left) {
            Ok(0) if end.is_some_and(|e| std::time::Instant::now() >= e) => return Ok(false),
            Ok(0) | Err(nix::errno::Errno::EINTR) => {}
            Ok(_) => return Ok(true),
            Err(e) => return Err(SysError { call: "poll", errno: e as i32 }),
        }
    }
}

/// SIGKILL, for the typed callers.
pub const KILL: i32 = Signal::KILL.as_raw();
