//! Processes of dnsmasq: found again by the file they write, and who they run as.

use crate::error::Result;
use crate::host::proc;
use crate::network::dnsmasq::args::{Owner, PROGRAM};
use crate::ops::load;
use crate::store::Store;
use crate::sys::pidfd;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

/// The dnsmasq that wrote `file`, if it runs. Whoever takes dnsmasq over may write there, so it counts only for a process with
/// that argument.
///
/// # Errors
/// `/proc` cannot be read.
pub(super) fn by_file(file: &Path) -> Result<Option<OwnedFd>> {
    let Some(pid) = std::fs::read_to_string(file).ok().and_then(|text| text.trim().parse().ok()) else {
        return Ok(None);
    };
    let Some(started) = proc::start_time(pid)? else { return Ok(None) };
    let words = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let own = format!("--pid-file={}", file.display());
    if words.split(|b| *b == 0).any(|word| word == own.as_bytes()) { still(pid, started) } else { Ok(None) }
}

/// A process that has ended may not have been waited for yet.
///
/// # Errors
/// As pidfd_open(2).
pub(super) fn still(pid: i32, started: u64) -> Result<Option<OwnedFd>> {
    let Some(process) = proc::open(pid, started)? else { return Ok(None) };
    let ended = pidfd::wait_ended(process.as_fd(), Some(Duration::ZERO))?;
    Ok((!ended).then_some(process))
}

/// Moves it to the monitors, which outlast the session or the service whose command started it; on a systemd host the scope is
/// made if a service of its own is the first on the network. Elsewhere, where there is no group of ours, it stays where it is.
///
/// # Errors
/// As [`crate::host::cgroup::Tree::hold`]; it cannot be moved.
pub(super) fn settle(store: &Store, pid: i32) -> Result<()> {
    let cgroups = load::cgroups(store.layout())?;
    let _keeper = cgroups.scope().map(|_| cgroups.hold()).transpose()?;
    let monitors = cgroups.monitors();
    if monitors.exists() { Ok(monitors.enter(pid)?) } else { Ok(()) }
}

/// Its own user where the package made one, which is its choice by itself; else nobody.
pub(super) fn owner() -> Option<Owner<'static>> {
    let has = |file: &str, name: &str| {
        let text = std::fs::read_to_string(file).unwrap_or_default();
        text.lines().any(|line| line.split(':').next() == Some(name))
    };
    let group = if has("/etc/group", "nogroup") { "nogroup" } else { "nobody" };
    (!has("/etc/passwd", PROGRAM)).then_some(Owner { user: "nobody", group })
}
