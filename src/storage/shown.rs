//! Volumes that are mounted in the pool's folder: shown there, hidden, synced.
//!
//! Used by the drivers whose volumes are file systems of their own (lvm, zfs). A volume is mounted when its files are first needed
//! and stays so until it is renamed, replaced or deleted, or the pool is unmounted. The name of what is mounted somewhere never
//! changes while it is: whoever changes one hides it first, and both under a lock that a mount takes, too ([`Alone`]). So what is
//! mounted at a volume's place is it.

use super::pool::{POOL_FOLDERS, Pool};
use super::{disk, kept};
use crate::error::{Context, Error, Result};
use crate::sys::mount;
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags};
use std::path::Path;

/// Nobody else mounts or renames in the pool as long as this is.
pub(super) struct Alone(#[expect(dead_code, reason = "the lock goes with it")] OwnedFd);

impl Pool {
    /// See [`Alone`].
    pub fn alone(&self) -> Result<Alone> {
        let folder = self.open_dir("trash")?;
        rustix::fs::flock(&folder, FlockOperation::LockExclusive).map_err(Error::from).context("Failed locking")?;
        Ok(Alone(folder))
    }

    /// Is a folder of the pool the root of a mount?
    pub fn is_mount(&self, rel: &str) -> Result<bool> {
        match rustix::fs::openat(self.as_fd(), rel, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty()) {
            Ok(fd) => Ok(mount::id(fd.as_fd())? != mount::id(self.as_fd())?),
            Err(rustix::io::Errno::NOENT) => Ok(false),
            Err(e) => Err(Error::from(e).context(format!("Failed opening \"{}\"", self.path(rel).display()))),
        }
    }

    /// Unmounts what is at `rel`, whoever looks at it, and removes the folder with what a kill left in it.
    pub fn hide(&self, _alone: &Alone, rel: &str) -> Result<()> {
        use nix::mount::{MntFlags, umount2};
        while self.is_mount(rel)? {
            let path = self.path(rel);
            umount2(&path, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW)
                .map_err(Error::from)
                .with_context(|| format!("Failed unmounting \"{}\"", path.display()))?;
        }
        self.remove(rel)
    }

    /// What was written to what is mounted at `rel` is on disk.
    pub fn sync_at(&self, rel: &str) -> Result<()> {
        let done = rustix::fs::syncfs(self.open_dir(rel)?).map_err(Error::from);
        done.with_context(|| format!("Failed syncing \"{}\"", self.path(rel).display()))
    }
}

/// Unmounts all that is mounted in the folder of a pool. Repeated: nothing happens.
///
/// # Errors
/// Busy: somebody uses one; the others are unmounted.
pub fn unmount_all(data: &Path) -> Result<()> {
    if !data.is_dir() {
        return Ok(());
    }
    let pool = Pool::open(data)?;
    let mut errors = Vec::new();
    errors.extend(disk::unmount(&pool.path(kept::FOLDER)).err());
    for folder in POOL_FOLDERS {
        // One that is not mounted itself has none.
        let names = if pool.has(folder)? { pool.entries(folder)? } else { Vec::new() };
        for name in names {
            let rel = format!("{folder}/{name}");
            if pool.is_mount(&rel)? {
                let gone = disk::unmount(&pool.path(&rel))
                    .and_then(|()| rustix::fs::unlinkat(pool.as_fd(), &rel, AtFlags::REMOVEDIR).map_err(Error::from));
                errors.extend(gone.err());
            }
        }
    }
    Error::join(errors).map_or(Ok(()), Err)
}
