//! Our own binary, in a form that nothing inside an instance can write to (CVE-2019-5736).
//!
//! A privileged instance's root is the host's root as far as file permissions go, and so is that of an instance whose
//! `raw.idmap` holds the binary's owner. A process of ours that is on its way into
//! such an instance must not have the real binary behind `/proc/self/exe`: it runs from a read-only overlay of the binary's
//! folder, which has no writable layer that a remount could uncover. A sealed copy in memory is the fallback.

use super::mount::{Attr, Param, new_fs};
use super::{Result, SysError, from_rustix};
use rustix::fs::{Mode, OFlags};
use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

/// An open handle of our binary, for execveat(2). The plain one: good for anything that an instance cannot reach.
///
/// # Errors
/// ENOENT if the binary is gone.
pub fn plain() -> Result<OwnedFd> {
    from_rustix("open", rustix::fs::open(c"/proc/self/exe", OFlags::PATH | OFlags::CLOEXEC, Mode::empty()))
}

/// Owner of our binary: whoever has this user id may write to it.
///
/// # Errors
/// As [`plain`].
pub fn owner() -> Result<u32> {
    from_rustix("fstat", rustix::fs::fstat(plain()?)).map(|s| s.st_uid)
}

/// The protected handle, for processes on their way into a privileged instance.
///
/// # Errors
/// As fsopen(2), memfd_create(2).
pub fn sealed() -> Result<OwnedFd> {
    overlay_view().or_else(|_| memory_copy())
}

fn overlay_view() -> Result<OwnedFd> {
    let gone = SysError { call: "readlink", errno: libc::ENOENT };
    let path = std::fs::read_link("/proc/self/exe").map_err(|_| gone)?;
    let (dir, name) = (path.parent().ok_or(gone)?, path.file_name().ok_or(gone)?);
    // overlayfs wants two layers when none is writable; an empty folder of the kernel's serves.
    let layers = [escape(dir.as_os_str().as_bytes()), b"/proc/sys/fs/binfmt_misc".to_vec()].join(&b':');
    let layers = CString::new(layers).map_err(|_| gone)?;
    let attr = Attr::MOUNT_ATTR_RDONLY | Attr::MOUNT_ATTR_NODEV | Attr::MOUNT_ATTR_NOSUID;
    let view = new_fs(c"overlay", &[Param::Text(c"lowerdir", &layers)], attr)?;
    let flags = OFlags::PATH | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let seen = from_rustix("open", rustix::fs::openat(&view, name, flags, Mode::empty()))?;
    let same = |fd: &OwnedFd| from_rustix("fstat", rustix::fs::fstat(fd)).map(|s| (s.st_size, s.st_mtime, s.st_mode));
    if same(&seen)? != same(&plain()?)? { Err(gone) } else { Ok(seen) }
}

/// `:` and `\` separate and escape in lowerdir.
fn escape(path: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(path.len());
    for b in path {
        if matches!(b, b':' | b'\\' | b',') {
            out.push(b'\\');
        }
        out.push(*b);
    }
    out
}

fn memory_copy() -> Result<OwnedFd> {
    use rustix::fs::{MemfdFlags, SealFlags};
    let io = |e: std::io::Error| SysError { call: "copy", errno: e.raw_os_error().unwrap_or(libc::EIO) };
    let mut from = std::fs::File::open("/proc/self/exe").map_err(io)?;
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let fd = from_rustix("memfd_create", rustix::fs::memfd_create("stapes", flags))?;
    let mut to = std::fs::File::from(fd);
    std::io::copy(&mut from, &mut to).map_err(io)?;
    let seals = SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE;
    from_rustix("fcntl", rustix::fs::fcntl_add_seals(to.as_fd(), seals))?;
    Ok(to.into())
}
