//! Waits until a young system container can be talked to.
//!
//! A container runs some milliseconds after `launch`, but its systemd takes a few tenths of a second until `systemctl` finds
//! it. `exec` right after `launch` is what scripts do, so it waits for systemd's socket: woken by changes of the mount table
//! and of the folders, never by a clock, and never longer than [`PATIENCE`] after the start.

use crate::container::attach::{self, Target};
use crate::error::Result;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use rustix::fs::{Mode, OFlags, ResolveFlags};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

/// How long after its start a container counts as young.
const PATIENCE: Duration = Duration::from_secs(10);
/// systemd's own socket, which `systemctl` uses as root.
const SOCKET: &str = "run/systemd/private";
/// Folders whose changes may bring it.
const FOLDERS: [&str; 2] = ["run", "run/systemd"];

/// Waits for systemd in the container that started `age` ago. Any trouble ends the wait: the command will meet it itself.
///
/// # Errors
/// Not running.
pub fn wait_for_systemd(target: &Target<'_>, age: Duration) -> Result<()> {
    let Some(left) = PATIENCE.checked_sub(age) else { return Ok(()) };
    let exe = std::fs::read_link(format!("/proc/{}/exe", target.init_pid)).unwrap_or_default();
    if exe.file_name().is_none_or(|n| n != "systemd") {
        return Ok(());
    }
    let root = attach::root(target)?;
    if look(&root, SOCKET).is_some() {
        return Ok(());
    }
    let end = Instant::now() + left;
    let (Ok(mounts), Ok(inotify)) = (
        std::fs::File::open(format!("/proc/{}/mounts", target.init_pid)),
        Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK),
    ) else {
        return Ok(());
    };
    loop {
        watch(&root, &inotify);
        // Looked at after watching: what came before the watch is seen here.
        if look(&root, SOCKET).is_some() {
            return Ok(());
        }
        let left = end.saturating_duration_since(Instant::now()).as_millis();
        let timeout = PollTimeout::try_from(i32::try_from(left).unwrap_or(0)).unwrap_or(PollTimeout::ZERO);
        let mut fds = [
            PollFd::new(mounts.as_fd(), PollFlags::POLLPRI | PollFlags::POLLERR),
            PollFd::new(inotify.as_fd(), PollFlags::POLLIN),
            PollFd::new(target.init, PollFlags::POLLIN),
        ];
        match poll(&mut fds, timeout) {
            Err(nix::errno::Errno::EINTR) => {}
            Ok(n) if n > 0 && fds[2].any() != Some(true) => drop(inotify.read_events()),
            _ => return Ok(()),
        }
    }
}

/// Watches the folders as they are now; the same folder again changes nothing.
fn watch(root: &OwnedFd, inotify: &Inotify) {
    for folder in FOLDERS {
        if let Some(fd) = look(root, folder) {
            let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
            let _ = inotify.add_watch(path.as_str(), AddWatchFlags::IN_CREATE | AddWatchFlags::IN_MOVED_TO);
        }
    }
}

/// Looks a path up beneath the container's root.
fn look(root: &OwnedFd, path: &str) -> Option<OwnedFd> {
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_SYMLINKS;
    rustix::fs::openat2(root, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), resolve).ok()
}
