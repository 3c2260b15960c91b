//! Processes of dnsmasq: found again by the file they write, and who they run as.

use crate::error::{Context, Result};
use crate::host::proc;
use crate::network::dnsmasq::args::{Owner, PROGRAM};
use crate::ops::load;
use crate::store::Store;
use crate::store::layout::Layout;
use crate::sys::pidfd;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

/// The bit by which others may search a folder.
const SEARCH_OTHERS: u32 = 0o001;

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

/// The folder that keeps dnsmasq, once it is nobody, from what it reads while it runs, if there is one.
pub fn shut_out(layout: &Layout) -> Option<&Path> {
    let closed = |p: &&Path| std::fs::metadata(p).is_ok_and(|m| m.permissions().mode() & SEARCH_OTHERS == 0);
    layout.run.ancestors().find(closed)
}

/// Lets others through the folder of a state that is all in one place (`STAPES_DIR`), which whoever made it may have closed
/// (mktemp(1) does); what lies in it is closed itself. A folder further up is not ours to open, see [`shut_out`].
///
/// # Errors
/// Its mode cannot be set.
pub(super) fn let_in(layout: &Layout) -> Result<()> {
    let own =
        layout.run.parent().filter(|top| layout.state.parent() == Some(*top) && layout.log.parent() == Some(*top));
    let Some(folder) = shut_out(layout).filter(|folder| Some(*folder) == own) else { return Ok(()) };
    let fail = || format!("Failed letting dnsmasq through \"{}\"", folder.display());
    let mut permissions = std::fs::metadata(folder).with_context(fail)?.permissions();
    permissions.set_mode(permissions.mode() | SEARCH_OTHERS);
    std::fs::set_permissions(folder, permissions).with_context(fail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_in_one_place_is_opened_and_nothing_above_it() {
        let d = tempfile::tempdir().expect("tempdir");
        let mode = |p: &Path| std::fs::metadata(p).expect("there").permissions().mode() & 0o777;
        let set = |p: &Path, mode| std::fs::set_permissions(p, PermissionsExt::from_mode(mode)).expect("chmod");
        let top = d.path().join("ci");
        let layout = Layout::under(&top);
        std::fs::create_dir_all(&layout.run).expect("folders");
        for folder in [&top, &layout.run] {
            set(folder, 0o711);
        }
        set(d.path(), 0o755);
        assert_eq!(shut_out(&layout), None);
        set(&top, 0o700);
        assert_eq!(shut_out(&layout), Some(top.as_path()));
        let_in(&layout).expect("opened");
        assert_eq!((shut_out(&layout), mode(&top)), (None, 0o701));
        set(d.path(), 0o700);
        let_in(&layout).expect("not ours");
        assert_eq!((shut_out(&layout), mode(d.path())), (Some(d.path()), 0o700));
    }
}
