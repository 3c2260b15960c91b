//! Carries out the commands of a stream in the subvolume it makes.
//!
//! The stream is a stranger's: every name is looked up beneath the subvolume's root, and a symbolic link on the way is an error
//! (streams of btrfs itself have none there). What is written to is a regular file or nothing. Blocks are shared with files of
//! the subvolume itself and of the one it builds upon, no others. Attributes are taken over as from archives.

use crate::error::{Error, Kind as ErrorKind, Result};
use crate::storage::send_stream::{Command, Source, Uuid};
use crate::sys::path::{self, Kind, Links};
use crate::sys::{btrfs_send, xattr};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{FallocateFlags, Mode, OFlags};
use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Access lists that what is made in a folder gets from it.
const INHERITED: [&[u8]; 2] = [b"system.posix_acl_default", b"system.posix_acl_access"];

/// A subvolume being filled.
pub(super) struct Tree {
    root: OwnedFd,
    uuid: Uuid,
    base: Option<(Uuid, OwnedFd)>,
    /// The file written to last, open.
    file: Option<(PathBuf, File)>,
    /// The folder worked in last.
    parent: Option<(PathBuf, OwnedFd)>,
    /// Some folder has a list that is inherited.
    inherits: bool,
    /// The stream is no stranger's: its attributes are those of files of ours.
    ours: bool,
    /// How much may still be made.
    left: u64,
    /// Nothing was left out.
    whole: bool,
}

impl Tree {
    /// Fills what is open as `root`, which was sent as `uuid` and is a snapshot of `base`; whether the stream is one of ours, and
    /// how many things may be made.
    pub fn new(root: OwnedFd, uuid: Uuid, base: Option<(Uuid, OwnedFd)>, (ours, left): (bool, u64)) -> Self {
        let inherits = base.is_some();
        Self { root, uuid, base, file: None, parent: None, inherits, ours, left, whole: true }
    }

    /// Whether nothing was left out, and how much may still be made.
    pub fn finish(self) -> (bool, u64) {
        (self.whole, self.left)
    }

    /// Does one thing.
    ///
    /// # Errors
    /// Invalid: the name leads out, is not there or is something else; too much; no room.
    pub fn apply(&mut self, command: &Command<'_>) -> Result<()> {
        match *command {
            Command::Make { path, kind } => self.make(path, kind, (0, 0)),
            Command::Node { path, kind, device } => self.make(path, kind, device),
            Command::Symlink { path, target } => {
                self.count()?;
                let (parent, name) = self.parent(path)?;
                Ok(rustix::fs::symlinkat(target, parent, name)?)
            }
            Command::Rename { path, to } => self.rename(path, to),
            Command::Link { path, existing } => {
                self.count()?;
                path::link(self.root.as_fd(), existing, path, Links::Refuse)
            }
            Command::Unlink { path } => {
                self.file = None;
                path::unlink(self.root.as_fd(), path, Links::Refuse)
            }
            Command::RemoveDir { path } => {
                (self.file, self.parent) = (None, None);
                path::remove_dir(self.root.as_fd(), path, Links::Refuse)
            }
            Command::SetAttribute { path, name, value } => self.attribute(path, name, Some(value)),
            Command::RemoveAttribute { path, name } => self.attribute(path, name, None),
            Command::Write { path, offset, data } => Ok(self.file(path)?.write_all_at(data, offset)?),
            Command::Clone { path, offset, len, from } => self.share((path, offset), len, from),
            Command::Truncate { path, size } => Ok(self.file(path)?.set_len(size)?),
            Command::Mode { path, mode } => self.mode(path, mode),
            Command::Owner { path, uid, gid } => match self.parent(path) {
                Ok((parent, name)) => path::chown_in(parent, name, uid, gid),
                Err(_) if is_root(path) => path::chown(self.root.as_fd(), uid, gid),
                Err(e) => Err(e),
            },
            Command::Times { path, mtime } => match self.parent(path) {
                Ok((parent, name)) => path::set_times_in(parent, name, mtime),
                Err(_) if is_root(path) => path::set_times(self.root.as_fd(), mtime),
                Err(e) => Err(e),
            },
            Command::Allocate { path, mode, offset, len } => self.allocate(path, mode, (offset, len)),
            Command::Ignored | Command::End => Ok(()),
            Command::Subvolume { .. } | Command::Snapshot { .. } => Err(Error::internal("A stream begins twice")),
        }
    }

    fn count(&mut self) -> Result<()> {
        self.left = self.left.checked_sub(1).ok_or_else(|| Error::invalid("The backup has too many files"))?;
        Ok(())
    }

    /// The folder that `path` is in, open, and its name there.
    fn parent<'a>(&mut self, path: &'a Path) -> Result<(BorrowedFd<'_>, &'a OsStr)> {
        let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(Error::invalid("Bad stream of a subvolume: its root is made, replaced or written to"));
        };
        if self.parent.as_ref().is_none_or(|(open, _)| open != folder) {
            self.parent = None;
            let fd = path::open(self.root.as_fd(), folder, OFlags::PATH | OFlags::DIRECTORY, 0, Links::Refuse)?;
            self.parent = Some((folder.to_path_buf(), fd));
        }
        let (_, fd) = self.parent.as_ref().ok_or_else(|| Error::internal("No folder"))?;
        Ok((fd.as_fd(), name))
    }

    /// The regular file `path`, open.
    fn file(&mut self, path: &Path) -> Result<&File> {
        if self.file.as_ref().is_none_or(|(open, _)| open != path) {
            self.file = None;
            let (parent, name) = self.parent(path)?;
            let file = path::open_regular(parent, Path::new(name), OFlags::WRONLY, Links::Refuse)?;
            self.file = Some((path.to_path_buf(), file));
        }
        self.file.as_ref().map(|(_, file)| file).ok_or_else(|| Error::internal("No file"))
    }

    fn make(&mut self, path: &Path, kind: Kind, device: (u32, u32)) -> Result<()> {
        self.count()?;
        let inherits = self.inherits;
        let (parent, name) = self.parent(path)?;
        match kind {
            Kind::File => {
                let file = path::create_in(parent, name)?;
                if inherits {
                    forget_inherited(file.as_fd())?;
                }
                self.file = Some((path.to_path_buf(), file));
            }
            Kind::Dir => {
                rustix::fs::mkdirat(parent, name, Mode::RWXU)?;
                if inherits {
                    forget_inherited(path::open_dir(parent, Path::new(name), Links::Refuse)?.as_fd())?;
                }
            }
            _ => path::mknod_in(parent, name, kind, device)?,
        }
        Ok(())
    }

    fn rename(&mut self, path: &Path, to: &Path) -> Result<()> {
        let file = self.file.take();
        // Names that lead through it lead elsewhere now.
        self.parent = None;
        let (old, name) = path::open_parent(self.root.as_fd(), path, Links::Refuse)?;
        let (parent, new) = self.parent(to)?;
        rustix::fs::renameat(&old, name, parent, new)?;
        self.parent = None;
        self.file = file.filter(|(open, _)| open == path).map(|(_, file)| (to.to_path_buf(), file));
        Ok(())
    }

    fn mode(&mut self, path: &Path, mode: u32) -> Result<()> {
        if is_root(path) {
            return path::chmod(self.root.as_fd(), mode);
        }
        if let Some((_, file)) = self.file.as_ref().filter(|(open, _)| open == path) {
            return path::chmod(file.as_fd(), mode);
        }
        let (parent, name) = self.parent(path)?;
        let pin = path::open(parent, Path::new(name), OFlags::PATH | OFlags::NOFOLLOW, 0, Links::Refuse)?;
        path::chmod(pin.as_fd(), mode)
    }

    /// Sets or removes an attribute.
    fn attribute(&mut self, path: &Path, name: &[u8], value: Option<&[u8]>) -> Result<()> {
        if !self.ours && !xattr::may_unpack(name) {
            self.whole = false;
            return Ok(());
        }
        self.inherits |= value.is_some() && name == INHERITED[0];
        let kind = match self.parent(path) {
            Ok((parent, bare)) => path::stat_in(parent, bare)?.kind,
            Err(_) if is_root(path) => Kind::Dir,
            Err(e) => return Err(e),
        };
        let change = |fd: BorrowedFd<'_>| match value {
            Some(value) => xattr::set(fd, name, value),
            None => xattr::remove(fd, name),
        };
        let done = match kind {
            Kind::File => change(self.file(path)?.as_fd()),
            Kind::Dir => change(path::open_dir(self.root.as_fd(), path, Links::Refuse)?.as_fd()),
            _ => match value {
                Some(value) => self.parent(path).and_then(|(parent, bare)| xattr::set_in(parent, bare, name, value)),
                None => Err(Error::unsupported("An attribute of what is neither file nor folder")),
            },
        };
        match done {
            Err(e) if e.errno() == Some(libc::ENODATA) => Ok(()),
            Err(e) if e.kind() == ErrorKind::Unsupported || e.errno() == Some(libc::EOPNOTSUPP) => {
                self.whole = false;
                Ok(())
            }
            other => other,
        }
    }

    fn share(&mut self, (path, offset): (&Path, u64), len: u64, from: Source<'_>) -> Result<()> {
        let root = match &self.base {
            _ if from.uuid == self.uuid => &self.root,
            Some((uuid, base)) if *uuid == from.uuid => base,
            _ => return Err(Error::invalid("The stream shares blocks with a volume that it does not build upon")),
        };
        let source = path::open_regular(root.as_fd(), from.path, OFlags::RDONLY, Links::Refuse)?;
        let file = self.file(path)?;
        Ok(btrfs_send::clone_range(source.as_fd(), from.offset, len, (file.as_fd(), offset))?)
    }

    fn allocate(&mut self, path: &Path, mode: u32, (offset, len): (u64, u64)) -> Result<()> {
        let known = FallocateFlags::KEEP_SIZE | FallocateFlags::PUNCH_HOLE | FallocateFlags::ZERO_RANGE;
        let flags = FallocateFlags::from_bits(mode).filter(|flags| known.contains(*flags));
        let flags = flags.ok_or_else(|| Error::unsupported("The stream moves parts of a file"))?;
        Ok(rustix::fs::fallocate(self.file(path)?, flags, offset, len)?)
    }
}

fn is_root(path: &Path) -> bool {
    path.as_os_str().is_empty()
}

/// What is made has no access list until the stream tells of one.
fn forget_inherited(fd: BorrowedFd<'_>) -> Result<()> {
    for name in INHERITED {
        match xattr::remove(fd, name) {
            Err(e) if !matches!(e.errno(), Some(libc::ENODATA | libc::EOPNOTSUPP)) => return Err(e),
            _ => {}
        }
    }
    Ok(())
}
