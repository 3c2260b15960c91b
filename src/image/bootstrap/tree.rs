//! Small edits of a rootfs beneath its fd, as a container would see it.

use crate::error::{Context, Result};
use crate::sys::path::{self, Links, Owner};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

/// A rootfs being made ready; every file belongs to its root user.
pub struct Tree<'a>(pub &'a OwnedFd);

impl Tree<'_> {
    /// Makes a directory and its parents.
    pub fn dir(&self, name: &str, mode: u32) -> Result<()> {
        path::create_dir_all(self.0.as_fd(), name.as_ref(), 0, 0, mode, Links::InRoot)
            .map(drop)
            .with_context(|| format!("Failed making \"{name}\""))
    }

    /// Writes a file, replacing what has that name.
    pub fn file(&self, name: &str, data: &[u8], mode: u32) -> Result<()> {
        self.parent(name)?;
        path::write_replace(self.0.as_fd(), name.as_ref(), data, Owner { uid: 0, gid: 0, mode }, Links::InRoot)
            .with_context(|| format!("Failed writing \"{name}\""))
    }

    /// Makes a symbolic link, replacing what has that name.
    pub fn symlink(&self, name: &str, target: &str) -> Result<()> {
        self.parent(name)?;
        self.remove(name)?;
        path::symlink(self.0.as_fd(), name.as_ref(), target.as_ref(), Links::InRoot)
            .with_context(|| format!("Failed linking \"{name}\""))
    }

    fn parent(&self, name: &str) -> Result<()> {
        match Path::new(name).parent().and_then(Path::to_str) {
            Some(parent) if !parent.is_empty() => self.dir(parent, 0o755),
            _ => Ok(()),
        }
    }

    /// Whether there is something of that name (links at the end not followed).
    pub fn exists(&self, name: &str) -> bool {
        path::stat(self.0.as_fd(), name.as_ref(), Links::InRoot).is_ok()
    }

    /// Removes a file or link, if it is there.
    pub fn remove(&self, name: &str) -> Result<()> {
        match path::unlink(self.0.as_fd(), name.as_ref(), Links::InRoot) {
            Err(e) if matches!(e.errno(), Some(libc::ENOENT | libc::ENOTDIR)) => Ok(()),
            other => other.with_context(|| format!("Failed removing \"{name}\"")),
        }
    }

    /// Empties a directory, if it is there.
    pub fn empty(&self, name: &str) -> Result<()> {
        match path::open_dir(self.0.as_fd(), name.as_ref(), Links::InRoot) {
            Err(e) if e.errno() == Some(libc::ENOENT) => Ok(()),
            dir => path::remove_contents(dir?.as_fd()).with_context(|| format!("Failed emptying \"{name}\"")),
        }
    }
}
