//! Project quotas of ext4 and xfs: a bound on what the files of one project take up together (quotactl(2) and
//! `quotactl_fd` of Linux 5.14, ioctl_xfs_fsgetxattr(2)).
//!
//! Called by `storage`. A file has a project ID; with `FS_XFLAG_PROJINHERIT` on a folder what is made in it gets the folder's.
//! Outside of the first user namespace nobody changes either (fs/file_attr.c), so no unprivileged container leaves its project.

use super::{Result, SysError, check};
use std::os::fd::{AsRawFd, BorrowedFd};

const FSGETXATTR: libc::Ioctl = 0x801c_581f_u32 as libc::Ioctl;
const FSSETXATTR: libc::Ioctl = 0x401c_5820;
const XFLAG_PROJINHERIT: u32 = 0x200;

/// The same on every architecture (include/uapi/asm-generic/unistd.h).
const SYS_QUOTACTL_FD: libc::c_long = 443;
const PRJQUOTA: u32 = 2;
const Q_GETQUOTA: u32 = 0x0080_0007;
const Q_SETQUOTA: u32 = 0x0080_0008;
const Q_XGETQSTATV: u32 = 0x5808;
/// Only the bounds on blocks count.
const QIF_BLIMITS: u32 = 1;
/// Project quotas are kept (`FS_QUOTA_PDQ_ENFD`).
const ENFORCED: u16 = 1 << 5;
/// Unit of the bounds, bytes.
const BLOCK: u64 = 1024;

/// `struct fsxattr`.
#[repr(C)]
#[derive(Default)]
struct Attributes {
    xflags: u32,
    extsize: u32,
    nextents: u32,
    project: u32,
    cowextsize: u32,
    pad: [u8; 8],
}

/// `struct if_dqblk`.
#[repr(C)]
#[derive(Default)]
struct Block {
    hard: u64,
    soft: u64,
    space: u64,
    inode_hard: u64,
    inode_soft: u64,
    inodes: u64,
    times: [u64; 2],
    valid: u32,
}

/// `struct fs_quota_statv`.
#[repr(C)]
struct Status {
    version: i8,
    pad: u8,
    flags: u16,
    rest: [u32; 39],
}

/// What a project takes up and may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Project {
    /// Bytes in use.
    pub used: u64,
    /// Inodes in use.
    pub inodes: u64,
    /// Most bytes; 0 is no bound.
    pub most: u64,
}

fn quotactl<T>(fd: BorrowedFd<'_>, command: u32, id: u32, args: &mut T) -> Result<()> {
    let command = libc::c_ulong::from((command << 8) | PRJQUOTA);
    // SAFETY: every caller hands in the structure that belongs to the command; it lives across the call.
    let n = unsafe {
        libc::syscall(SYS_QUOTACTL_FD, fd.as_raw_fd(), command, libc::c_ulong::from(id), std::ptr::from_mut(args))
    };
    check("quotactl_fd", n).map(drop)
}

fn attributes(fd: BorrowedFd<'_>, request: libc::Ioctl, args: &mut Attributes) -> Result<()> {
    // SAFETY: both requests take this structure; it lives across the call.
    let n = unsafe { libc::ioctl(fd.as_raw_fd(), request, std::ptr::from_mut(args)) };
    if n < 0 { Err(SysError::last("FS_IOC_FSSETXATTR")) } else { Ok(()) }
}

/// The file system of the open file or folder keeps the bounds of projects.
pub fn is_enforced(fd: BorrowedFd<'_>) -> bool {
    let mut status = Status { version: 1, pad: 0, flags: 0, rest: [0; 39] };
    quotactl(fd, Q_XGETQSTATV, 0, &mut status).is_ok() && status.flags & ENFORCED != 0
}

/// The project of an open file or folder, and whether what is made in it gets the same; 0 where there are no projects.
pub fn project(fd: BorrowedFd<'_>) -> (u32, bool) {
    let mut args = Attributes::default();
    match attributes(fd, FSGETXATTR, &mut args) {
        Ok(()) => (args.project, args.xflags & XFLAG_PROJINHERIT != 0),
        Err(_) => (0, false),
    }
}

/// Puts an open file, or a folder with what will be made in it, into a project.
///
/// # Errors
/// EPERM: it is immutable, or we may not; EINVAL: not in the first user namespace.
pub fn set_project(fd: BorrowedFd<'_>, id: u32, folder: bool) -> Result<()> {
    let mut args = Attributes::default();
    attributes(fd, FSGETXATTR, &mut args)?;
    let xflags = if folder { args.xflags | XFLAG_PROJINHERIT } else { args.xflags };
    if (args.project, args.xflags) == (id, xflags) {
        return Ok(());
    }
    (args.project, args.xflags) = (id, xflags);
    attributes(fd, FSSETXATTR, &mut args)
}

/// What the project `id` takes up and may, on the file system of the open file or folder.
///
/// # Errors
/// EPERM without privilege; ESRCH or ENOSYS where there are no project quotas.
pub fn read(fd: BorrowedFd<'_>, id: u32) -> Result<Project> {
    let mut block = Block::default();
    match quotactl(fd, Q_GETQUOTA, id, &mut block) {
        Ok(()) => Ok(Project { used: block.space, inodes: block.inodes, most: block.hard.saturating_mul(BLOCK) }),
        // Nothing is kept about it.
        Err(e) if e.errno == libc::ENOENT => Ok(Project::default()),
        Err(e) => Err(e),
    }
}

/// Bounds a project to `most` bytes; 0 is no bound. What is in use stays, even if it is more.
///
/// # Errors
/// As [`read`].
pub fn limit(fd: BorrowedFd<'_>, id: u32, most: u64) -> Result<()> {
    let mut block = Block { hard: most.div_ceil(BLOCK), valid: QIF_BLIMITS, ..Block::default() };
    quotactl(fd, Q_SETQUOTA, id, &mut block)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn layouts_are_the_kernels() {
        assert_eq!((size_of::<Attributes>(), size_of::<Block>(), size_of::<Status>()), (28, 72, 160));
    }

    #[test]
    fn elsewhere_it_is_said_that_there_are_none() {
        let folder = std::fs::File::open("/proc").expect("proc");
        assert!(!is_enforced(folder.as_fd()));
        assert_eq!(project(folder.as_fd()), (0, false));
        assert!(read(folder.as_fd(), 5).is_err() && limit(folder.as_fd(), 5, 1).is_err());
        assert!(set_project(folder.as_fd(), 5, true).is_err());
    }
}
