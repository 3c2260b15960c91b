//! Loop devices (loop(4)).
//!
//! Called by `storage`. A device is released by the kernel when its last user is gone (`LO_FLAGS_AUTOCLEAR`), so
//! nothing is left behind by a kill. Only root of the host can do this; callers have another way for other users.

use super::path::call;
use crate::error::{Context, Error, Result};
use rustix::fs::{CWD, Mode, OFlags};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

const LOOP_CTL_GET_FREE: libc::Ioctl = 0x4C82;
/// Linux 5.8.
const LOOP_CONFIGURE: libc::Ioctl = 0x4C0A;
const LO_FLAGS_AUTOCLEAR: u32 = 4;
const LO_FLAGS_DIRECT_IO: u32 = 16;
const LOOP_SET_CAPACITY: libc::Ioctl = 0x4C07;
const LOOP_GET_STATUS64: libc::Ioctl = 0x4C05;
/// Another process may take the free device before us.
const TRIES: u32 = 64;

/// `struct loop_info64` of include/uapi/linux/loop.h.
#[repr(C)]
#[derive(Clone, Copy)]
struct LoopInfo64 {
    device: u64,
    inode: u64,
    rdevice: u64,
    offset: u64,
    size_limit: u64,
    number: u32,
    encrypt_type: u32,
    encrypt_key_size: u32,
    flags: u32,
    file_name: [u8; 64],
    crypt_name: [u8; 64],
    encrypt_key: [u8; 32],
    init: [u64; 2],
}

/// `struct loop_config` of include/uapi/linux/loop.h.
#[repr(C)]
struct LoopConfig {
    fd: u32,
    block_size: u32,
    info: LoopInfo64,
    reserved: [u64; 8],
}

/// A loop device that lives as long as this (or a mount of it) does.
#[derive(Debug)]
pub struct LoopDevice {
    fd: OwnedFd,
    number: u32,
}

impl LoopDevice {
    /// Its path.
    pub fn path(&self) -> String {
        format!("/dev/loop{}", self.number)
    }

    /// Its descriptor.
    pub fn fd(&self) -> BorrowedFd<'_> {
        use std::os::fd::AsFd;
        self.fd.as_fd()
    }

    /// Has the device take the size that its file has by now.
    ///
    /// # Errors
    /// As ioctl(2).
    pub fn follow_size(&self) -> Result<()> {
        // SAFETY: the request takes no argument.
        match unsafe { libc::ioctl(self.fd.as_raw_fd(), LOOP_SET_CAPACITY, 0) } {
            0 => Ok(()),
            _ => Err(Error::from(std::io::Error::last_os_error()).context("LOOP_SET_CAPACITY")),
        }
    }
}

/// The device that has the open `file` as its content already, whoever made it.
///
/// # Errors
/// The list of devices cannot be read.
pub fn find(file: BorrowedFd<'_>) -> Result<Option<LoopDevice>> {
    let wanted = call("fstat", rustix::fs::fstat(file))?;
    for entry in std::fs::read_dir("/sys/block").context("Failed listing block devices")? {
        let entry = entry?;
        let number = entry.file_name().to_str().and_then(|name| name.strip_prefix("loop")?.parse::<u32>().ok());
        let Some(number) = number.filter(|_| entry.path().join("loop").exists()) else { continue };
        let path = format!("/dev/loop{number}");
        let Ok(fd) = rustix::fs::openat(CWD, path, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()) else { continue };
        let mut info = EMPTY;
        // SAFETY: `info` has the kernel's layout and is written during the call.
        let n = unsafe { libc::ioctl(fd.as_raw_fd(), LOOP_GET_STATUS64, &raw mut info) };
        #[allow(clippy::unnecessary_cast, reason = "the field types differ between architectures")]
        if n == 0 && info.inode == wanted.st_ino && info.device == wanted.st_dev as u64 {
            return Ok(Some(LoopDevice { fd, number }));
        }
    }
    Ok(None)
}

/// Gives a free loop device the open `file` as its content: past the page cache where the file's own file system can (the kernel
/// goes through the cache else), so that nothing is cached twice.
///
/// # Errors
/// No right to loop devices, none there, or those of ioctl(2).
pub fn attach_disk(file: BorrowedFd<'_>) -> Result<LoopDevice> {
    let open = |path: &str, flags| call("open", rustix::fs::openat(CWD, path, flags | OFlags::CLOEXEC, Mode::empty()));
    let control = open("/dev/loop-control", OFlags::RDWR).context("Failed opening \"/dev/loop-control\"")?;
    for _ in 0..TRIES {
        // SAFETY: the request takes no argument and returns a number.
        let number = unsafe { libc::ioctl(control.as_raw_fd(), LOOP_CTL_GET_FREE) };
        let number = u32::try_from(number)
            .map_err(|_| Error::from(std::io::Error::last_os_error()).context("LOOP_CTL_GET_FREE"))?;
        let fd = open(&format!("/dev/loop{number}"), OFlags::RDWR)?;
        match configure(&fd, file, LO_FLAGS_DIRECT_IO) {
            Ok(()) => return Ok(LoopDevice { fd, number }),
            Err(e) if e.errno() == Some(libc::EBUSY) => {}
            Err(e) => return Err(e),
        }
    }
    Err(Error::failed("No free loop device"))
}

const EMPTY: LoopInfo64 = LoopInfo64 {
    device: 0,
    inode: 0,
    rdevice: 0,
    offset: 0,
    size_limit: 0,
    number: 0,
    encrypt_type: 0,
    encrypt_key_size: 0,
    flags: 0,
    file_name: [0; 64],
    crypt_name: [0; 64],
    encrypt_key: [0; 32],
    init: [0; 2],
};

fn configure(device: &OwnedFd, file: BorrowedFd<'_>, flags: u32) -> Result<()> {
    let config = LoopConfig {
        fd: u32::try_from(file.as_raw_fd()).map_err(|_| Error::internal("Bad descriptor"))?,
        block_size: 0,
        info: LoopInfo64 { flags: LO_FLAGS_AUTOCLEAR | flags, ..EMPTY },
        reserved: [0; 8],
    };
    // SAFETY: `config` has the kernel's layout and is only read during the call.
    let n = unsafe { libc::ioctl(device.as_raw_fd(), LOOP_CONFIGURE, &raw const config) };
    match n {
        0 => Ok(()),
        _ => Err(Error::from(std::io::Error::last_os_error()).context("LOOP_CONFIGURE")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layouts_are_the_kernels() {
        assert_eq!(size_of::<LoopInfo64>(), 232);
        assert_eq!(size_of::<LoopConfig>(), 304);
    }
}
