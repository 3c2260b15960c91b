//! Mounts as file descriptors: the mount API of Linux 5.2 and the id-mapped mounts of 5.12.
//!
//! Everything is built detached and only moved into place by the process that enters the instance, so no mount ever shows
//! in the host's table. Sources: fsopen(2), fsconfig(2), fsmount(2), open_tree(2), move_mount(2), mount_setattr(2).

use super::{Result, SysError, check, from_rustix};
use rustix::fs::{Mode, OFlags};
use rustix::mount::{FsMountFlags, FsOpenFlags, FsPickFlags, MountAttrFlags, OpenTreeFlags};
use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

pub use rustix::mount::MountAttrFlags as Attr;

/// `MOUNT_ATTR_IDMAP` of mount_setattr(2).
const ATTR_IDMAP: u64 = 0x0010_0000;

/// A detached copy of the mount at `path`; with `recursive`, of the mounts below it too.
///
/// # Errors
/// As open_tree(2).
pub fn open_tree(path: &Path, recursive: bool) -> Result<OwnedFd> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    if recursive {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    from_rustix("open_tree", rustix::mount::open_tree(rustix::fs::CWD, path, flags))
}

/// A detached copy of the mount that `fd` (an `O_PATH` descriptor) lies on, rooted at `fd`.
///
/// # Errors
/// As open_tree(2).
pub fn open_tree_at(fd: BorrowedFd<'_>, recursive: bool) -> Result<OwnedFd> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    if recursive {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    from_rustix("open_tree", rustix::mount::open_tree(fd, c"", flags))
}

/// Maps the ids of the detached mount `fd` through the user namespace `userns`.
///
/// # Errors
/// EINVAL where the file system cannot be id-mapped; else as mount_setattr(2).
pub fn set_idmap(fd: BorrowedFd<'_>, userns: BorrowedFd<'_>, recursive: bool) -> Result<()> {
    let attr =
        libc::mount_attr { attr_set: ATTR_IDMAP, attr_clr: 0, propagation: 0, userns_fd: userns.as_raw_fd() as u64 };
    setattr(fd, &attr, recursive)
}

/// Sets and clears mount attributes; `propagation` is one of `MS_PRIVATE`, `MS_SHARED`, `MS_SLAVE`, `MS_UNBINDABLE` or 0.
///
/// # Errors
/// As mount_setattr(2).
pub fn set_attr(fd: BorrowedFd<'_>, set: Attr, clear: Attr, propagation: u64, recursive: bool) -> Result<()> {
    let attr = libc::mount_attr {
        attr_set: u64::from(set.bits()),
        attr_clr: u64::from(clear.bits()),
        propagation,
        userns_fd: 0,
    };
    setattr(fd, &attr, recursive)
}

fn setattr(fd: BorrowedFd<'_>, attr: &libc::mount_attr, recursive: bool) -> Result<()> {
    let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the path is an empty C string, `attr` lives across the call and its size is given.
    let ret = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            fd.as_raw_fd(),
            c"".as_ptr(),
            flags,
            std::ptr::from_ref(attr),
            size_of::<libc::mount_attr>(),
        )
    };
    check("mount_setattr", ret).map(drop)
}

/// One parameter of a file system that is being configured.
#[derive(Debug)]
pub enum Param<'a> {
    /// A flag without a value.
    Flag(&'a CStr),
    /// A string value.
    Text(&'a CStr, &'a CStr),
    /// A descriptor as value.
    Fd(&'a CStr, BorrowedFd<'a>),
}

/// A new, detached mount of file system `kind` with `params`.
///
/// # Errors
/// As fsopen(2), fsconfig(2), fsmount(2); the kernel's own message, if any, is lost.
pub fn new_fs(kind: &CStr, params: &[Param<'_>], attr: Attr) -> Result<OwnedFd> {
    let context = from_rustix("fsopen", rustix::mount::fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC))?;
    for p in params {
        configure(context.as_fd(), p)?;
    }
    from_rustix("fsconfig", rustix::mount::fsconfig_create(context.as_fd()))?;
    from_rustix("fsmount", rustix::mount::fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attr))
}

/// Gives the file system mounted at `at` other `params`, and this mount the attributes `attr`, beside those that it has.
///
/// # Errors
/// As fspick(2), fsconfig(2), mount_setattr(2): a parameter that the file system does not have, or not while it is mounted.
pub fn reconfigure(at: &Path, params: &[Param<'_>], attr: Attr) -> Result<()> {
    let flags = FsPickFlags::FSPICK_CLOEXEC | FsPickFlags::FSPICK_SYMLINK_NOFOLLOW;
    let context = from_rustix("fspick", rustix::mount::fspick(rustix::fs::CWD, at, flags))?;
    for p in params {
        configure(context.as_fd(), p)?;
    }
    from_rustix("fsconfig", rustix::mount::fsconfig_reconfigure(context.as_fd()))?;
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mount = from_rustix("open", rustix::fs::open(at, flags, Mode::empty()))?;
    let times = Attr::MOUNT_ATTR_NOATIME | Attr::MOUNT_ATTR_STRICTATIME;
    // One way of keeping access times takes the place of the other.
    let clear = if attr.intersects(times) { Attr::MOUNT_ATTR__ATIME } else { no_attr() };
    set_attr(mount.as_fd(), attr, clear, 0, false)
}

fn configure(context: BorrowedFd<'_>, param: &Param<'_>) -> Result<()> {
    let done = match param {
        Param::Flag(key) => rustix::mount::fsconfig_set_flag(context, *key),
        Param::Text(key, value) => rustix::mount::fsconfig_set_string(context, *key, *value),
        Param::Fd(key, fd) => rustix::mount::fsconfig_set_fd(context, *key, fd.as_fd()),
    };
    from_rustix("fsconfig", done)
}

/// Attaches the detached mount `from` at the path `to` of the caller's mount namespace (helpers and tests only; instances
/// attach theirs between clone and exec).
///
/// # Errors
/// As move_mount(2).
pub fn attach(from: BorrowedFd<'_>, to: &Path) -> Result<()> {
    let flags = rustix::mount::MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    from_rustix("move_mount", rustix::mount::move_mount(from, c"", rustix::fs::CWD, to, flags))
}

/// The magic number of the file system `fd` lies on, as statfs(2) gives it.
///
/// # Errors
/// As fstatfs(2).
pub fn fs_magic(fd: BorrowedFd<'_>) -> Result<i64> {
    #[allow(clippy::unnecessary_cast)]
    from_rustix("fstatfs", rustix::fs::fstatfs(fd)).map(|s| s.f_type as i64)
}

/// Whether the file system that `fd` lies on keeps the order of what is done in its folders, so that syncing one thing brings along
/// all that was done before it: ext4 and xfs, which have one journal. btrfs, for one, writes what is synced and no more (its log
/// tree), and what was done before comes with the next commit or is lost.
///
/// # Errors
/// As fstatfs(2).
pub fn keeps_order(fd: BorrowedFd<'_>) -> Result<bool> {
    const EXT4: i64 = 0xef53;
    const XFS: i64 = 0x5846_5342;
    Ok(matches!(fs_magic(fd)?, EXT4 | XFS))
}

/// The kernel's number for the mount that `fd` lies on (`STATX_MNT_ID` of statx(2), Linux 5.8): it keeps it when it is moved.
///
/// # Errors
/// As statx(2).
pub fn id(fd: BorrowedFd<'_>) -> Result<u64> {
    let flags = rustix::fs::AtFlags::EMPTY_PATH;
    from_rustix("statx", rustix::fs::statx(fd, c"", flags, rustix::fs::StatxFlags::MNT_ID)).map(|s| s.stx_mnt_id)
}

/// No attributes.
pub fn no_attr() -> Attr {
    MountAttrFlags::empty()
}

/// True if the error says that this kernel or file system cannot do it, so that a fallback is worth a try.
pub fn is_unsupported(e: SysError) -> bool {
    matches!(e.errno, libc::EINVAL | libc::EOPNOTSUPP | libc::ENOSYS)
}
