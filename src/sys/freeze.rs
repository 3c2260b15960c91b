//! File systems that write nothing for a moment (`FIFREEZE` of ioctl_fs(2)).
//!
//! Called by `storage`, for as long as it takes to change the device below.

use super::{Result, SysError};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// `_IOWR('X', 119, int)` of include/uapi/linux/fs.h, and the one after it.
const FIFREEZE: libc::Ioctl = 0xC004_5877u32 as libc::Ioctl;
const FITHAW: libc::Ioctl = 0xC004_5878u32 as libc::Ioctl;

/// All of a file system is on its device, and nothing is written until this goes. A kill leaves it so: see [`thaw`].
#[derive(Debug)]
pub struct Frozen(OwnedFd);

/// Freezes the file system that `folder` is in.
///
/// # Errors
/// It cannot be, or is; those of ioctl(2).
pub fn freeze(folder: OwnedFd) -> Result<Frozen> {
    // SAFETY: the request looks at no argument.
    match unsafe { libc::ioctl(folder.as_raw_fd(), FIFREEZE, 0) } {
        0 => Ok(Frozen(folder)),
        _ => Err(SysError::last("FIFREEZE")),
    }
}

/// Thaws it, if it is frozen.
pub fn thaw(folder: BorrowedFd<'_>) {
    // SAFETY: the request looks at no argument.
    unsafe { libc::ioctl(folder.as_raw_fd(), FITHAW, 0) };
}

impl Drop for Frozen {
    fn drop(&mut self) {
        thaw(self.0.as_fd());
    }
}
