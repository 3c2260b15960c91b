//! Subvolumes of btrfs by ioctl (include/uapi/linux/btrfs.h): make, snapshot, destroy, also with those nested in them.
//!
//! Called by `storage` and by the removal of trees in `store`. What lies in a subvolume was a guest's: paths in it are
//! resolved beneath its root and never through a symbolic link, and the depth of nesting is bounded. A snapshot of btrfs
//! leaves nested subvolumes out (an empty folder stands in their place), and one that holds others cannot be destroyed; the
//! `_tree` functions here do the nested ones too.

use super::{Result, SysError, from_rustix};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, Timespec, Timestamps};
use rustix::io::Errno;
use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// `BTRFS_SUPER_MAGIC` of statfs(2).
pub const MAGIC: i64 = 0x9123_683e;
/// Inode of a subvolume's root (`BTRFS_FIRST_FREE_OBJECTID`).
const ROOT_INODE: u64 = 256;
/// Subvolumes nested in each other deeper than this are left to whoever walks the tree.
const MOST_NESTED: usize = 64;

const RESIZE: libc::Ioctl = 0x5000_9403;
const SUBVOL_CREATE: libc::Ioctl = 0x5000_940e;
const SNAP_DESTROY: libc::Ioctl = 0x5000_940f;
const SNAP_CREATE_V2: libc::Ioctl = 0x5000_9417;
const SYNC: libc::Ioctl = 0x9408;
const SUBVOL_GETFLAGS: libc::Ioctl = 0x8008_9419_u32 as libc::Ioctl;
const SUBVOL_SETFLAGS: libc::Ioctl = 0x4008_941a;
/// Linux 4.18, as the next one.
const GET_SUBVOL_ROOTREF: libc::Ioctl = 0xd000_943d_u32 as libc::Ioctl;
const INO_LOOKUP_USER: libc::Ioctl = 0xd000_943e_u32 as libc::Ioctl;
const SUBVOL_RDONLY: u64 = 2;

/// `struct btrfs_ioctl_vol_args`.
#[repr(C)]
struct VolArgs {
    fd: i64,
    name: [u8; 4088],
}

/// `struct btrfs_ioctl_vol_args_v2`.
#[repr(C)]
struct VolArgsV2 {
    fd: i64,
    transid: u64,
    flags: u64,
    unused: [u64; 4],
    name: [u8; 4040],
}

/// `struct btrfs_ioctl_get_subvol_rootref_args`.
#[repr(C)]
struct RootRefs {
    min_treeid: u64,
    /// Tree id and inode of the folder it is in.
    refs: [[u64; 2]; 255],
    count: u8,
    align: [u8; 7],
}

/// `struct btrfs_ioctl_ino_lookup_user_args`.
#[repr(C)]
struct LookupUser {
    dirid: u64,
    treeid: u64,
    name: [u8; 256],
    path: [u8; 3824],
}

/// Fills a name; the last byte stays NUL.
fn fill(to: &mut [u8], name: &CStr) -> Result<()> {
    let bytes = name.to_bytes();
    if bytes.len() >= to.len() {
        return Err(SysError { call: "ioctl", errno: libc::ENAMETOOLONG });
    }
    to[..bytes.len()].copy_from_slice(bytes);
    Ok(())
}

/// The text before the first NUL.
fn text(bytes: &[u8]) -> CString {
    let end = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
    CString::new(&bytes[..end]).unwrap_or_default()
}

/// Runs an ioctl on a structure of ours that has the kernel's layout.
pub(super) fn ioctl<T>(call: &'static str, fd: BorrowedFd<'_>, request: libc::Ioctl, args: &mut T) -> Result<()> {
    // SAFETY: every caller hands in the structure that belongs to the request; it lives across the call.
    let n = unsafe { libc::ioctl(fd.as_raw_fd(), request, std::ptr::from_mut(args)) };
    if n < 0 { Err(SysError::last(call)) } else { Ok(()) }
}

/// The open folder lies on btrfs.
///
/// # Errors
/// As fstatfs(2).
pub fn is_btrfs(fd: BorrowedFd<'_>) -> Result<bool> {
    super::mount::fs_magic(fd).map(|magic| magic == MAGIC)
}

/// The open folder is the root of a subvolume.
///
/// # Errors
/// As fstat(2).
pub fn is_subvolume(fd: BorrowedFd<'_>) -> Result<bool> {
    let stat = from_rustix("fstat", rustix::fs::fstat(fd))?;
    Ok(stat.st_ino == ROOT_INODE && FileType::from_raw_mode(stat.st_mode).is_dir() && is_btrfs(fd)?)
}

/// Makes the empty subvolume `name` in the folder `parent`.
///
/// # Errors
/// EEXIST; ENOTTY: not on btrfs; no space.
pub fn create(parent: BorrowedFd<'_>, name: &CStr) -> Result<()> {
    let mut args = VolArgs { fd: 0, name: [0; 4088] };
    fill(&mut args.name, name)?;
    ioctl("BTRFS_IOC_SUBVOL_CREATE", parent, SUBVOL_CREATE, &mut args)
}

/// Makes `name` in the folder `parent` a snapshot of the subvolume behind `source`, without those nested in it. It is on
/// disk when this returns.
///
/// # Errors
/// EEXIST; EINVAL: not a subvolume; EXDEV: of another file system; no space.
pub fn snapshot(source: BorrowedFd<'_>, parent: BorrowedFd<'_>, name: &CStr) -> Result<()> {
    let mut args =
        VolArgsV2 { fd: i64::from(source.as_raw_fd()), transid: 0, flags: 0, unused: [0; 4], name: [0; 4040] };
    fill(&mut args.name, name)?;
    ioctl("BTRFS_IOC_SNAP_CREATE_V2", parent, SNAP_CREATE_V2, &mut args)
}

/// Destroys the subvolume `name` in the folder `parent`; its space comes back later.
///
/// # Errors
/// ENOTEMPTY: others are nested in it; EINVAL: not a subvolume.
fn destroy(parent: BorrowedFd<'_>, name: &CStr) -> Result<()> {
    let mut args = VolArgs { fd: 0, name: [0; 4088] };
    fill(&mut args.name, name)?;
    ioctl("BTRFS_IOC_SNAP_DESTROY", parent, SNAP_DESTROY, &mut args)
}

/// The subvolume cannot be written.
///
/// # Errors
/// EINVAL: not a subvolume.
pub fn is_read_only(fd: BorrowedFd<'_>) -> Result<bool> {
    let mut flags = 0u64;
    ioctl("BTRFS_IOC_SUBVOL_GETFLAGS", fd, SUBVOL_GETFLAGS, &mut flags)?;
    Ok(flags & SUBVOL_RDONLY != 0)
}

/// Has the subvolume be one that cannot be written, or can.
///
/// # Errors
/// EINVAL: not a subvolume; EPERM: it is being sent.
pub fn set_read_only(fd: BorrowedFd<'_>, whether: bool) -> Result<()> {
    let mut flags = if whether { SUBVOL_RDONLY } else { 0 };
    ioctl("BTRFS_IOC_SUBVOL_SETFLAGS", fd, SUBVOL_SETFLAGS, &mut flags)
}

/// Has the file system of the open folder take all of its (only) device.
///
/// # Errors
/// EPERM; the device cannot be read.
pub fn grow(fd: BorrowedFd<'_>) -> Result<()> {
    let mut args = VolArgs { fd: 0, name: [0; 4088] };
    fill(&mut args.name, c"max")?;
    ioctl("BTRFS_IOC_RESIZE", fd, RESIZE, &mut args)
}

/// Has the file system of the open folder use no more than `size` bytes of its (only) device.
///
/// # Errors
/// EPERM; ENOSPC: it holds more; EINVAL: that is too small.
pub fn shrink(fd: BorrowedFd<'_>, size: u64) -> Result<()> {
    let mut args = VolArgs { fd: 0, name: [0; 4088] };
    fill(&mut args.name, &CString::new(size.to_string()).unwrap_or_default())?;
    ioctl("BTRFS_IOC_RESIZE", fd, RESIZE, &mut args)
}

/// Has the kernel begin to free what was destroyed, which it does at its next turn else, up to half a minute later. Everything
/// written to the file system is on disk after this. (`BTRFS_IOC_START_SYNC` would not wait for that, but may wait for the
/// turn.)
///
/// # Errors
/// The file system cannot be written.
pub fn free_now(fd: BorrowedFd<'_>) -> Result<()> {
    ioctl("BTRFS_IOC_SYNC", fd, SYNC, &mut 0u64)
}

/// Where a nested subvolume is: the folder below the root of the one around it, and its name there.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Nested {
    folder: CString,
    name: CString,
}

/// The subvolumes directly nested in the one whose root is open.
fn nested(fd: BorrowedFd<'_>) -> Result<Vec<Nested>> {
    let mut all = Vec::new();
    let mut args = RootRefs { min_treeid: 0, refs: [[0; 2]; 255], count: 0, align: [0; 7] };
    loop {
        let more = match ioctl("BTRFS_IOC_GET_SUBVOL_ROOTREF", fd, GET_SUBVOL_ROOTREF, &mut args) {
            Ok(()) => false,
            // There are more; the next ones begin where the kernel said.
            Err(e) if e.errno == libc::EOVERFLOW => true,
            Err(e) => return Err(e),
        };
        for [treeid, dirid] in args.refs.iter().take(usize::from(args.count)) {
            let mut lookup = LookupUser { dirid: *dirid, treeid: *treeid, name: [0; 256], path: [0; 3824] };
            match ioctl("BTRFS_IOC_INO_LOOKUP_USER", fd, INO_LOOKUP_USER, &mut lookup) {
                Ok(()) => all.push(Nested { folder: text(&lookup.path), name: text(&lookup.name) }),
                // Removed meanwhile.
                Err(e) if e.errno == libc::ENOENT => {}
                Err(e) => return Err(e),
            }
        }
        if !more || args.count == 0 {
            return Ok(all);
        }
    }
}

/// Others are nested in the subvolume whose root is open.
///
/// # Errors
/// ENOTTY: not on btrfs.
pub fn has_nested(fd: BorrowedFd<'_>) -> Result<bool> {
    nested(fd).map(|all| !all.is_empty())
}

/// Opens a folder below `root`: not through a symbolic link, not across a mount.
fn beneath(root: BorrowedFd<'_>, rel: &CStr) -> rustix::io::Result<OwnedFd> {
    let rel = if rel.is_empty() { c"." } else { rel };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let how = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_XDEV;
    rustix::fs::openat2(root, rel, flags, Mode::empty(), how)
}

/// Destroys the subvolume `name` in the folder `parent` with those nested in it.
///
/// # Errors
/// EINVAL: not a subvolume; a path in it is too long, or the nesting too deep, for this: a walk can still remove it.
pub fn destroy_tree(parent: BorrowedFd<'_>, name: &CStr) -> Result<()> {
    destroy_level(parent, name, MOST_NESTED)
}

fn destroy_level(parent: BorrowedFd<'_>, name: &CStr, left: usize) -> Result<()> {
    match destroy(parent, name) {
        Err(e) if e.errno == libc::ENOTEMPTY && left > 0 => {}
        other => return other,
    }
    let root = from_rustix("openat2", beneath(parent, name))?;
    for inner in nested(root.as_fd())? {
        let folder = from_rustix("openat2", beneath(root.as_fd(), &inner.folder))?;
        destroy_level(folder.as_fd(), &inner.name, left - 1)?;
    }
    destroy(parent, name)
}

/// Makes `name` in the folder `parent` a snapshot of the subvolume behind `source`, with those nested in it, which stay
/// read-only where they were. What is made is not there as a whole at once: `name` is to be a staging place.
///
/// # Errors
/// As [`snapshot`]; the nesting is too deep.
pub fn snapshot_tree(source: BorrowedFd<'_>, parent: BorrowedFd<'_>, name: &CStr) -> Result<()> {
    snapshot_level(source, parent, name, MOST_NESTED)
}

fn snapshot_level(source: BorrowedFd<'_>, parent: BorrowedFd<'_>, name: &CStr, left: usize) -> Result<()> {
    snapshot(source, parent, name)?;
    let inner = nested(source)?;
    if inner.is_empty() {
        return Ok(());
    }
    if left == 0 {
        return Err(SysError { call: "snapshot", errno: libc::ELOOP });
    }
    let copy = from_rustix("openat2", beneath(parent, name))?;
    for one in inner {
        // Whoever runs in the source may have moved or removed it since.
        let Ok(from) = beneath(source, &one.folder).and_then(|folder| beneath(folder.as_fd(), &one.name)) else {
            continue;
        };
        if !is_subvolume(from.as_fd())? {
            continue;
        }
        match beneath(copy.as_fd(), &one.folder) {
            Ok(to) => snapshot_inner(from.as_fd(), to.as_fd(), &one.name, left - 1)?,
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {}
            Err(e) => return from_rustix("openat2", Err(e)),
        }
    }
    Ok(())
}

/// Puts a nested one in the place of the empty folder that stands for it.
fn snapshot_inner(from: BorrowedFd<'_>, to: BorrowedFd<'_>, name: &CStr, left: usize) -> Result<()> {
    let stat = from_rustix("fstat", rustix::fs::fstat(to))?;
    match rustix::fs::unlinkat(to, name, AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT) => {}
        // Something else has the name by now.
        Err(Errno::NOTDIR | Errno::NOTEMPTY) => return Ok(()),
        Err(e) => return from_rustix("unlinkat", Err(e)),
    }
    snapshot_level(from, to, name, left)?;
    if is_read_only(from)? {
        let made = from_rustix("openat2", beneath(to, name))?;
        set_read_only(made.as_fd(), true)?;
    }
    // The folder is as it was in the source.
    let time = |tv_sec, tv_nsec| Timespec { tv_sec, tv_nsec };
    #[allow(clippy::unnecessary_cast, reason = "the field types differ between architectures")]
    let times = Timestamps {
        last_access: time(stat.st_atime as i64, stat.st_atime_nsec as i64),
        last_modification: time(stat.st_mtime as i64, stat.st_mtime_nsec as i64),
    };
    from_rustix("futimens", rustix::fs::futimens(to, &times))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layouts_are_the_kernels() {
        assert_eq!((size_of::<VolArgs>(), size_of::<VolArgsV2>()), (4096, 4096));
        assert_eq!((size_of::<RootRefs>(), size_of::<LookupUser>()), (4096, 4096));
    }

    #[test]
    fn elsewhere_it_is_said_that_there_are_none() {
        let folder = std::fs::File::open("/proc").expect("proc");
        assert!(!is_subvolume(folder.as_fd()).expect("stat"));
        assert!(create(folder.as_fd(), c"x").is_err() && destroy_tree(folder.as_fd(), c"x").is_err());
        assert!(fill(&mut [0; 4], c"four").is_err() && fill(&mut [0; 5], c"four").is_ok());
        assert_eq!(text(b"ab\0c").as_bytes(), b"ab");
    }
}
