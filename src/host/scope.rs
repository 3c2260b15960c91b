//! Our part of the cgroup tree on a systemd host: one transient scope with `Delegate=yes` for all that runs, so that nothing is
//! written behind systemd's back and no log-out or stop of a unit reaches an instance (systemd's CGROUP_DELEGATION document).
//!
//! ```text
//!  <mount>/machine.slice/stapes.scope/            no process: only groups may give controllers to groups below them
//!                                     monitors/   all monitors; appears only when the scope is ready for use
//!                                     keeper/     whoever made the scope, until something else lives in it
//!                                     default_c1/ …
//! ```
//!
//! systemd makes the scope around a process and removes it when the last process in it has ended. A start finds it there,
//! as a rule, and pays nothing; only the first one has systemd make it, around a child that does nothing ([`Keeper`]). Several
//! first ones at once: systemd makes one scope, and the others wait for `monitors` to appear.

use super::cgroup::{Group, Tree};
use super::systemd;
use crate::error::{Error, Kind, Result};
use crate::sys::child::Op;
use crate::sys::clone::{Child, Spawn, spawn};
use crate::sys::{pidfd, socket};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

/// The slice of machines and containers (systemd.special(7)).
pub const SLICE: &str = "machine.slice";
/// How often a scope that comes or goes is looked at again.
const ATTEMPTS: u32 = 500;
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(20);

/// Whether the cgroup2 tree at `mount` belongs to a systemd: it runs (sd_booted(3)), and it has its own group there.
pub fn is_systemds(mount: &Path) -> bool {
    Path::new("/run/systemd/system").is_dir() && mount.join("init.scope").is_dir()
}

/// A process that does nothing. While it lives, our part of the tree stays.
#[derive(Debug)]
pub struct Keeper {
    child: Child,
    _end: OwnedFd,
    /// A group of its own, which goes with it.
    own: Option<Group>,
}

impl Drop for Keeper {
    fn drop(&mut self) {
        let Some(own) = &self.own else { return };
        let _ = pidfd::kill(self.child.pidfd());
        let _ = pidfd::wait_ended(self.child.pidfd(), Some(PAUSE * 50));
        let _ = own.remove();
    }
}

impl Keeper {
    /// Starts it, in `group` if given. It ends when we do.
    fn start(group: Option<BorrowedFd<'_>>) -> Result<Self> {
        let (ours, theirs) = socket::pair()?;
        // Without exec it would hold our descriptors, and with them our locks.
        let program = [Op::ResetSignals, Op::KeepOnly(vec![theirs.as_raw_fd()]), Op::Await(theirs.as_raw_fd())];
        let child = spawn(&Spawn { namespaces: 0, cgroup: group }, &program)?;
        Ok(Self { child, _end: ours, own: None })
    }
}

/// True for what a group that went away leads to.
pub fn went_away(e: &Error) -> bool {
    matches!(e.errno(), Some(libc::ENOENT | libc::ENODEV))
}

impl Tree {
    /// Sees to it that our part of the tree with its `monitors` group is there, and stays until the result is dropped.
    ///
    /// # Errors
    /// As mkdir(2); systemd cannot be reached or refuses.
    pub fn hold(&self) -> Result<Option<Keeper>> {
        let Some(unit) = self.scope() else {
            Group::at(self.base().to_path_buf()).make()?;
            self.monitors().make()?;
            return Ok(None);
        };
        let mut refused = None;
        for _ in 0..ATTEMPTS {
            match self.monitors().open().and_then(|group| Keeper::start(Some(group.as_fd()))) {
                Ok(keeper) => return Ok(Some(keeper)),
                Err(e) if went_away(&e) => {}
                Err(e) => return Err(e),
            }
            let mut keeper = Keeper::start(None)?;
            let pid = u32::try_from(keeper.child.pid()).unwrap_or(0);
            match systemd::start_scope(unit, SLICE, pid) {
                Ok(true) => match self.settle(&mut keeper) {
                    Ok(()) => return Ok(Some(keeper)),
                    Err(e) if went_away(&e) => {}
                    Err(e) => return Err(e),
                },
                Ok(false) => {}
                // While an old one of that name is on its way out, a new one cannot be put in its place.
                Err(e) if e.kind() == Kind::Busy => refused = Some(e),
                Err(e) => return Err(e.context(format!("Failed creating \"{unit}\""))),
            }
            // Somebody else's is coming, or an old one is going.
            pidfd::wait_ended(keeper.child.pidfd(), Some(PAUSE))?;
        }
        if let Some(e) = refused {
            return Err(e.context(format!("Failed creating \"{unit}\"")));
        }
        Err(Error::busy(format!("The systemd unit \"{unit}\" is neither there nor can it be made"))
            .hint(format!("see: systemctl status {unit}")))
    }

    /// Moves the keeper out of the scope's own group; after that, and not before, there are `monitors`.
    fn settle(&self, keeper: &mut Keeper) -> Result<()> {
        let own = self.instance("keeper");
        own.make()?;
        keeper.own = Some(own.clone());
        own.enter(keeper.child.pid())?;
        self.monitors().make()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_keeper_ends_with_its_handle_and_has_nothing_of_ours() {
        let file = std::fs::File::open("/dev/null").expect("null");
        let keeper = Keeper::start(None).expect("keeper");
        let pid = keeper.child.pid();
        let copy = keeper.child.pidfd().try_clone_to_owned().expect("pidfd");
        let target = || std::fs::read_link(format!("/proc/{pid}/fd/{}", file.as_raw_fd()));
        let end = std::time::Instant::now() + Duration::from_secs(5);
        while target().is_ok() && std::time::Instant::now() < end {
            let _ = pidfd::wait_ended(copy.as_fd(), Some(Duration::from_millis(5)));
        }
        assert!(target().is_err(), "it holds a file of ours");
        drop(keeper);
        assert!(pidfd::wait_ended(copy.as_fd(), Some(Duration::ZERO)).expect("poll"));
    }
}
