//! Subvolumes of btrfs as streams, by ioctl (include/uapi/linux/btrfs.h): what one has, what changed since another, and what
//! one is a copy of; also blocks shared between files.
//!
//! Called by the storage driver. Sending needs `CAP_SYS_ADMIN` in the first user namespace.

use super::btrfs::ioctl;
use super::{Result, SysError};
use std::os::fd::{AsRawFd, BorrowedFd};

const SET_RECEIVED: libc::Ioctl = 0xc0c8_9425_u32 as libc::Ioctl;
const SEND: libc::Ioctl = 0x4048_9426;
const CLONE_RANGE: libc::Ioctl = 0x4020_940d;
/// Linux 4.18.
const SUBVOL_INFO: libc::Ioctl = 0x81f8_943c_u32 as libc::Ioctl;

/// A universally unique id.
pub type Uuid = [u8; 16];

/// `struct btrfs_ioctl_received_subvol_args`; times are seconds and nanoseconds, filled up.
#[repr(C)]
struct Received {
    uuid: Uuid,
    stransid: u64,
    rtransid: u64,
    times: [[u64; 2]; 2],
    flags: u64,
    reserved: [u64; 16],
}

/// `struct btrfs_ioctl_send_args`.
#[repr(C)]
struct SendArgs {
    fd: i64,
    sources_count: u64,
    sources: *const u64,
    parent_root: u64,
    flags: u64,
    version: u32,
    reserved: [u8; 28],
}

/// `struct btrfs_ioctl_get_subvol_info_args`.
#[repr(C)]
struct InfoArgs {
    treeid: u64,
    name: [u8; 256],
    parent_and_dir: [u64; 2],
    generation: u64,
    flags: u64,
    uuid: Uuid,
    parent_uuid: Uuid,
    received_uuid: Uuid,
    rest: [u64; 20],
}

/// `struct file_clone_range`.
#[repr(C)]
struct CloneRange {
    from: i64,
    from_offset: u64,
    len: u64,
    to_offset: u64,
}

/// What a subvolume is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Info {
    /// Its number in the file system.
    pub id: u64,
    /// Its own id.
    pub uuid: Uuid,
    /// That of the one it was received from; zeros if it was not.
    pub received: Uuid,
}

/// What the subvolume behind `fd` is.
///
/// # Errors
/// ENOTTY: not on btrfs.
pub fn info(fd: BorrowedFd<'_>) -> Result<Info> {
    let mut args = InfoArgs {
        treeid: 0,
        name: [0; 256],
        parent_and_dir: [0; 2],
        generation: 0,
        flags: 0,
        uuid: [0; 16],
        parent_uuid: [0; 16],
        received_uuid: [0; 16],
        rest: [0; 20],
    };
    ioctl("BTRFS_IOC_GET_SUBVOL_INFO", fd, SUBVOL_INFO, &mut args)?;
    Ok(Info { id: args.treeid, uuid: args.uuid, received: args.received_uuid })
}

/// Writes the read-only subvolume behind `fd` to the pipe `sink` as a stream of version 1: all of it, or what changed since the
/// read-only one with the number `parent`. Comes back when all is written.
///
/// # Errors
/// EPERM: one can be written, or the caller has not the right; EPIPE: nobody reads; EIO.
pub fn send(fd: BorrowedFd<'_>, sink: BorrowedFd<'_>, parent: Option<u64>) -> Result<()> {
    let sources: Vec<u64> = parent.into_iter().collect();
    let mut args = SendArgs {
        fd: i64::from(sink.as_raw_fd()),
        sources_count: sources.len() as u64,
        sources: sources.as_ptr(),
        parent_root: parent.unwrap_or(0),
        flags: 0,
        version: 0,
        reserved: [0; 28],
    };
    // `sources` outlives the call.
    ioctl("BTRFS_IOC_SEND", fd, SEND, &mut args)
}

/// Says that the subvolume behind `fd` has what the one with that id had at its transaction `transid`: streams that go on from
/// there find it by this.
///
/// # Errors
/// EROFS; EPERM.
pub fn set_received(fd: BorrowedFd<'_>, uuid: Uuid, transid: u64) -> Result<()> {
    let mut args = Received { uuid, stransid: transid, rtransid: 0, times: [[0; 2]; 2], flags: 0, reserved: [0; 16] };
    ioctl("BTRFS_IOC_SET_RECEIVED_SUBVOL", fd, SET_RECEIVED, &mut args)
}

/// Has a part of the file `to` share its blocks with a part of the file `from` (ioctl_ficlonerange(2)).
///
/// # Errors
/// EINVAL: the parts are not of whole blocks, or of files that cannot share.
pub fn clone_range(from: BorrowedFd<'_>, from_offset: u64, len: u64, to: (BorrowedFd<'_>, u64)) -> Result<()> {
    // Zero would mean up to the end.
    if len == 0 {
        return Err(SysError { call: "FICLONERANGE", errno: libc::EINVAL });
    }
    let mut args = CloneRange { from: i64::from(from.as_raw_fd()), from_offset, len, to_offset: to.1 };
    ioctl("FICLONERANGE", to.0, CLONE_RANGE, &mut args)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn layouts_are_the_kernels() {
        let sizes = [size_of::<Received>(), size_of::<SendArgs>(), size_of::<InfoArgs>(), size_of::<CloneRange>()];
        let said = [SET_RECEIVED, SEND, SUBVOL_INFO, CLONE_RANGE].map(|request| (request >> 16) as usize & 0x3fff);
        assert_eq!(sizes, said);
    }

    #[test]
    fn elsewhere_nothing_can_be_sent() {
        let folder = std::fs::File::open("/proc").expect("proc");
        assert!(info(folder.as_fd()).is_err() && send(folder.as_fd(), folder.as_fd(), Some(5)).is_err());
    }
}
