//! The open folders from the root of a walk down to where it is.
//!
//! Used by the walks of `storage::tree`. Only the deepest [`WINDOW`] stay open, so a tree as deep as the guest likes does
//! not run us out of descriptors; a parent closed before is opened again through `..` and must then be the same inode: it
//! is never trusted by its place.

use crate::error::{Error, Result};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{Mode, OFlags};

/// Folders kept open besides the root.
pub const WINDOW: usize = 64;

/// See the module.
#[derive(Debug)]
pub struct Chain {
    frames: Vec<Frame>,
}

#[derive(Debug)]
struct Frame {
    fd: Option<OwnedFd>,
    dev: u64,
    ino: u64,
}

impl Chain {
    /// Starts at `root`.
    pub fn new(root: OwnedFd) -> Result<Self> {
        let mut chain = Self { frames: Vec::new() };
        chain.push(root)?;
        Ok(chain)
    }

    /// The folder the walk is in.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.frames.last().and_then(|f| f.fd.as_ref()).expect("the deepest frame is always open").as_fd()
    }

    /// Goes down into `fd`, a folder in the present one.
    pub fn push(&mut self, fd: OwnedFd) -> Result<()> {
        let stat = rustix::fs::fstat(&fd)?;
        let depth = self.frames.len();
        if depth > WINDOW {
            self.frames[depth - WINDOW].fd = None;
        }
        self.frames.push(Frame { fd: Some(fd), dev: stat.st_dev, ino: stat.st_ino });
        Ok(())
    }

    /// Goes up. Does nothing at the root.
    ///
    /// # Errors
    /// The parent had to be opened again and is another folder now: somebody moved a folder while we were inside.
    pub fn pop(&mut self) -> Result<()> {
        let Some(at) = self.frames.len().checked_sub(2) else { return Ok(()) };
        if self.frames[at].fd.is_none() {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let parent = rustix::fs::openat(self.fd(), c"..", flags, Mode::empty())?;
            let stat = rustix::fs::fstat(&parent)?;
            if (stat.st_dev, stat.st_ino) != (self.frames[at].dev, self.frames[at].ino) {
                return Err(Error::conflict("A folder was moved while its tree was read"));
            }
            self.frames[at].fd = Some(parent);
        }
        self.frames.pop();
        Ok(())
    }
}
