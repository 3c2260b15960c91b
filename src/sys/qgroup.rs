//! Quota groups of btrfs: a bound on what a subvolume holds (include/uapi/linux/btrfs.h, btrfs-qgroup(8)).
//!
//! Called by `storage`. Each subvolume has a group of its own as soon as quotas are on for the file system. What it refers to
//! counts, shared with others or not, as with Incus. What the kernel has counted stands in /sys/fs/btrfs since Linux 5.9.

use super::Result;
use super::btrfs::ioctl;
use std::os::fd::BorrowedFd;

const INO_LOOKUP: libc::Ioctl = 0xd000_9412_u32 as libc::Ioctl;
const FS_INFO: libc::Ioctl = 0x8400_941f_u32 as libc::Ioctl;
const QUOTA_CTL: libc::Ioctl = 0xc010_9428_u32 as libc::Ioctl;
const QGROUP_CREATE: libc::Ioctl = 0x4010_942a;
const QGROUP_LIMIT: libc::Ioctl = 0x8030_942b_u32 as libc::Ioctl;
const QUOTA_RESCAN_WAIT: libc::Ioctl = 0x942e;
const QUOTA_ENABLE: u64 = 1;
/// Inode of a subvolume's root.
const ROOT_INODE: u64 = 256;
/// What is referred to is bounded.
const LIMIT_REFERENCED: u64 = 1;

/// `struct btrfs_ioctl_ino_lookup_args`.
#[repr(C)]
struct Lookup {
    treeid: u64,
    objectid: u64,
    name: [u8; 4080],
}

/// `struct btrfs_ioctl_fs_info_args`.
#[repr(C)]
struct FsInfo {
    max_id: u64,
    devices: u64,
    fsid: [u8; 16],
    rest: [u64; 124],
}

/// What a subvolume holds and may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Group {
    /// Bytes, as of the kernel's last turn.
    pub used: u64,
    /// Most bytes; 0 is no bound.
    pub most: u64,
}

/// The ID of the subvolume whose root is open; that of its group, too.
fn id(fd: BorrowedFd<'_>) -> Result<u64> {
    let mut args = Lookup { treeid: 0, objectid: ROOT_INODE, name: [0; 4080] };
    ioctl("BTRFS_IOC_INO_LOOKUP", fd, INO_LOOKUP, &mut args)?;
    Ok(args.treeid)
}

/// The group of the subvolume whose root is open; none while quotas are off.
///
/// # Errors
/// It is no subvolume of btrfs.
pub fn read(fd: BorrowedFd<'_>) -> Result<Option<Group>> {
    let mut info = FsInfo { max_id: 0, devices: 0, fsid: [0; 16], rest: [0; 124] };
    ioctl("BTRFS_IOC_FS_INFO", fd, FS_INFO, &mut info)?;
    let folder = format!("/sys/fs/btrfs/{}/qgroups/0_{}", uuid::Uuid::from_bytes(info.fsid).hyphenated(), id(fd)?);
    let number = |file: &str| std::fs::read_to_string(format!("{folder}/{file}")).ok()?.trim().parse::<u64>().ok();
    let Some(used) = number("referenced") else { return Ok(None) };
    let bound = number("limit_flags").is_some_and(|flags| flags & LIMIT_REFERENCED != 0);
    let most = number("max_referenced").filter(|most| bound && *most != u64::MAX).unwrap_or(0);
    Ok(Some(Group { used, most }))
}

/// Turns quotas on for the file system and waits until all of it is counted. Repeated: nothing happens.
///
/// # Errors
/// EPERM; no space.
pub fn enable(fd: BorrowedFd<'_>) -> Result<()> {
    ioctl("BTRFS_IOC_QUOTA_CTL", fd, QUOTA_CTL, &mut [QUOTA_ENABLE, 0])?;
    ioctl("BTRFS_IOC_QUOTA_RESCAN_WAIT", fd, QUOTA_RESCAN_WAIT, &mut 0u64)
}

/// Bounds the subvolume whose root is open to `most` bytes; 0 is no bound. What it holds stays, even if it is more. `outside`: a
/// folder of the file system that is in none which is full, for the kernel takes the room that this needs from there.
///
/// # Errors
/// ENOTCONN: quotas are off; EPERM; EDQUOT: `outside` is full.
pub fn limit(fd: BorrowedFd<'_>, outside: BorrowedFd<'_>, most: u64) -> Result<()> {
    let most = if most == 0 { u64::MAX } else { most };
    // qgroupid, flags, max_rfer, max_excl, rsv_rfer, rsv_excl.
    ioctl("BTRFS_IOC_QGROUP_LIMIT", outside, QGROUP_LIMIT, &mut [id(fd)?, LIMIT_REFERENCED, most, 0, 0, 0])
}

/// Gives the group of a subvolume that is about to go back, which Linux does itself since 6.10 or so.
pub fn forget(fd: BorrowedFd<'_>) {
    if let Ok(id) = id(fd) {
        let _ = ioctl("BTRFS_IOC_QGROUP_CREATE", fd, QGROUP_CREATE, &mut [0, id]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn layouts_are_the_kernels() {
        assert_eq!((size_of::<Lookup>(), size_of::<FsInfo>()), (4096, 1024));
    }

    #[test]
    fn elsewhere_it_is_said_that_there_are_none() {
        let folder = std::fs::File::open("/proc").expect("proc");
        assert!(read(folder.as_fd()).is_err() && enable(folder.as_fd()).is_err());
        assert!(limit(folder.as_fd(), folder.as_fd(), 1).is_err());
        forget(folder.as_fd());
    }
}
