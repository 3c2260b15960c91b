//! What the file system below a pool can do, found by trying.
//!
//! Called when a pool is made, by `doctor`, and by the wiring to choose between id-mapped mounts and shifting on disk.
//! Leaves nothing behind.

use crate::error::{Error, Result};
use crate::fault;
use crate::store::trash;
use crate::sys::mount::{self, Param};
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, RenameFlags, XattrFlags};
use std::ffi::{CString, OsStr};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// What a file system can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Features {
    /// Carry the writable layer of an overlay.
    pub overlay: bool,
    /// Share blocks between files (FICLONE).
    pub reflink: bool,
    /// Be mounted with an id map; None if it was not tried.
    pub idmap: Option<bool>,
}

/// statfs(2) magic numbers of file systems that overlayfs refuses as a writable layer, or that accept it and lose
/// something: overlayfs itself, NFS, CIFS, SMB2, 9p, FUSE, vfat, ramfs, ecryptfs.
const UNFIT: [i64; 9] =
    [0x794c_7630, 0x6969, 0xff53_4d42, 0xfe53_4d42, 0x0102_1997, 0x6573_5546, 0x4d44, 0x8584_58f6, 0xf15f];

/// Tries what the file system of the folder `path` can do; `userns`, a user namespace with maps that is not the initial
/// one, is what an id map is tried with.
///
/// # Errors
/// The folder cannot be opened or written.
pub fn features(path: &Path, userns: Option<BorrowedFd<'_>>) -> Result<Features> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let parent = rustix::fs::open(path, flags, Mode::empty())?;
    let name = CString::new(format!(".probe-{}", uuid::Uuid::new_v4().simple())).expect("no NUL");
    rustix::fs::mkdirat(&parent, &name, Mode::RWXU)?;
    let tried = try_all(&parent, &name, userns);
    trash::remove_at(parent.as_fd(), OsStr::from_bytes(name.as_bytes()))?;
    tried
}

fn try_all(parent: &OwnedFd, name: &CString, userns: Option<BorrowedFd<'_>>) -> Result<Features> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let dir = rustix::fs::openat(parent, name, flags, Mode::empty())?;
    fault::point("storage.probe")?;
    Ok(Features {
        overlay: overlay(dir.as_fd()).unwrap_or(false),
        reflink: reflink(dir.as_fd())?,
        idmap: userns.map(|ns| idmap(dir.as_fd(), ns)).transpose()?,
    })
}

/// The better driver for a file system.
pub fn best_driver(features: &Features) -> &'static str {
    match features {
        // Layers cannot be shifted on disk: the image's is shared.
        Features { overlay: true, idmap: Some(true) | None, .. } => "overlay",
        _ => "dir",
    }
}

/// overlayfs wants from its upper layer: extended attributes for itself, a folder listing that tells kinds, and renames
/// that leave a whiteout (Documentation/filesystems/overlayfs.rst, "Upper and lower"). It mounts with a warning where they
/// lack, so each is tried before the mount is.
fn overlay(dir: BorrowedFd<'_>) -> Result<bool> {
    let magic = rustix::fs::fstatfs(dir)?.f_type;
    if UNFIT.contains(&(magic as i64)) {
        return Ok(false);
    }
    let root = rustix::process::geteuid().is_root();
    let attribute = if root { c"trusted.overlay.probe" } else { c"user.overlay.probe" };
    rustix::fs::mkdirat(dir, c"upper", Mode::RWXU)?;
    rustix::fs::mkdirat(dir, c"work", Mode::RWXU)?;
    rustix::fs::mkdirat(dir, c"lower", Mode::RWXU)?;
    let upper = rustix::fs::openat(dir, c"upper", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    rustix::fs::fsetxattr(&upper, attribute, b"y", XattrFlags::empty())?;
    file(upper.as_fd(), "a")?;
    rustix::fs::renameat_with(&upper, c"a", &upper, c"b", RenameFlags::WHITEOUT)?;
    for entry in rustix::fs::Dir::read_from(&upper)? {
        if entry?.file_type() == FileType::Unknown {
            return Ok(false);
        }
    }
    rustix::fs::unlinkat(&upper, c"a", AtFlags::empty())?;
    if !root {
        // Mounting takes a user namespace first; the file system itself has all that is needed.
        return Ok(true);
    }
    mounts(dir)
}

/// The mount itself, detached: it ends with its descriptor.
fn mounts(dir: BorrowedFd<'_>) -> Result<bool> {
    let at = |name: &str| CString::new(format!("/proc/self/fd/{}/{name}", dir.as_raw_fd())).expect("no NUL");
    let (lower, upper, work) = (at("lower"), at("upper"), at("work"));
    let layers = [Param::Text(c"lowerdir", &lower), Param::Text(c"upperdir", &upper), Param::Text(c"workdir", &work)];
    Ok(mount::new_fs(c"overlay", &layers, mount::no_attr()).is_ok())
}

fn file(dir: BorrowedFd<'_>, name: &str) -> Result<OwnedFd> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(dir, name, flags, Mode::RUSR | Mode::WUSR).map_err(Error::from)
}

fn reflink(dir: BorrowedFd<'_>) -> Result<bool> {
    let (from, to) = (file(dir, "from")?, file(dir, "to")?);
    rustix::io::write(&from, &[1u8; 4096])?;
    Ok(rustix::fs::ioctl_ficlone(&to, &from).is_ok())
}

/// Sets the map on a detached mount of the folder.
fn idmap(dir: BorrowedFd<'_>, userns: BorrowedFd<'_>) -> Result<bool> {
    let tried = mount::open_tree_at(dir, false).and_then(|tree| mount::set_idmap(tree.as_fd(), userns, false));
    match tried {
        Ok(()) => Ok(true),
        // An ordinary user may not, except on file systems mounted in a user namespace of his.
        Err(e) if mount::is_unsupported(e) || e.errno == libc::EPERM => Ok(false),
        Err(e) => Err(e.into()),
    }
}
