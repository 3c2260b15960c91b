//! Block devices of ZFS (`/dev/zdN`): which dataset one is.
//!
//! Called by `storage`.

use super::path::call;
use crate::error::Result;
use rustix::fs::{CWD, Mode, OFlags};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

/// `_IOR(0x12, 125, char[256])` (`BLKZNAME` of OpenZFS's `sys/zvol.h`).
const BLKZNAME: libc::Ioctl = 0x8100_127Du32 as libc::Ioctl;
const LONGEST: usize = 256;

/// The dataset that the device at `path` is at this moment; None: the device is none, or has just gone.
pub fn name(path: &Path) -> Option<String> {
    let fd = call("open", rustix::fs::openat(CWD, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())).ok()?;
    let mut text = [0u8; LONGEST];
    // SAFETY: the kernel writes at most that many bytes, during the call.
    let n = unsafe { libc::ioctl(fd.as_raw_fd(), BLKZNAME, text.as_mut_ptr()) };
    let end = text.iter().position(|byte| *byte == 0).filter(|_| n == 0)?;
    String::from_utf8(text[..end].to_vec()).ok()
}

/// The devices that there are, the last one first.
///
/// # Errors
/// The list of devices cannot be read.
pub fn devices() -> Result<Vec<PathBuf>> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir("/sys/block")? {
        let name = entry?.file_name();
        all.extend(name.to_str().and_then(|name| name.strip_prefix("zd")?.parse::<u32>().ok()));
    }
    all.sort_unstable_by(|a, b| b.cmp(a));
    Ok(all.into_iter().map(|number| PathBuf::from(format!("/dev/zd{number}"))).collect())
}
