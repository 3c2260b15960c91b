//! What a file has besides its data: owner, extended attributes, mode, times.
//!
//! Used by the copy. The order matters: a change of owner drops set-uid bits and file capabilities, a write to a file
//! without write permission needs root; hence owner, attributes, mode, times. Every call acts on a descriptor or on the
//! last component itself.

use super::idattr;
use super::ids::Ids;
use crate::error::{Error, Result};
use crate::sys::xattr;
use rustix::fd::{AsRawFd, BorrowedFd};
use rustix::fs::{AtFlags, Gid, Mode, Stat, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;
use std::ffi::{CStr, CString};
use std::os::unix::ffi::OsStrExt;

/// A file to read attributes from or to write them to.
#[derive(Debug, Clone, Copy)]
pub enum At<'a> {
    /// An open file.
    Fd(BorrowedFd<'a>),
    /// A name in an open folder, for what cannot be opened (symbolic links, devices). Never followed.
    Name(BorrowedFd<'a>, &'a CStr),
}

impl At<'_> {
    /// A path for the `l*xattr` calls: the magic link names the folder, only the last component is looked up.
    fn path(dir: BorrowedFd<'_>, name: &CStr) -> CString {
        let mut path = format!("/proc/self/fd/{}/", dir.as_raw_fd()).into_bytes();
        path.extend_from_slice(name.to_bytes());
        CString::new(path).expect("both parts are free of NUL")
    }

    fn list(self, buffer: &mut Vec<u8>) -> rustix::io::Result<()> {
        growing(buffer, |b| match self {
            Self::Fd(fd) => rustix::fs::flistxattr(fd, b),
            Self::Name(dir, name) => rustix::fs::llistxattr(Self::path(dir, name), b),
        })
    }

    fn get(self, attribute: &CStr, buffer: &mut Vec<u8>) -> rustix::io::Result<()> {
        growing(buffer, |b| match self {
            Self::Fd(fd) => rustix::fs::fgetxattr(fd, attribute, b),
            Self::Name(dir, name) => rustix::fs::lgetxattr(Self::path(dir, name), attribute, b),
        })
    }

    fn set(self, attribute: &CStr, value: &[u8]) -> rustix::io::Result<()> {
        match self {
            Self::Fd(fd) => rustix::fs::fsetxattr(fd, attribute, value, XattrFlags::empty()),
            Self::Name(dir, name) => {
                rustix::fs::lsetxattr(Self::path(dir, name), attribute, value, XattrFlags::empty())
            }
        }
    }
}

/// Calls `read` with a buffer that grows until the answer fits.
fn growing(buffer: &mut Vec<u8>, read: impl Fn(&mut [u8]) -> rustix::io::Result<usize>) -> rustix::io::Result<()> {
    buffer.resize(buffer.capacity().max(256), 0);
    loop {
        match read(buffer) {
            Ok(len) => {
                buffer.truncate(len);
                return Ok(());
            }
            // The kernel's own limit is 64 KiB for both a list and a value.
            Err(Errno::RANGE) if buffer.len() < 128 << 10 => buffer.resize(buffer.len() * 4, 0),
            Err(e) => return Err(e),
        }
    }
}

/// How xfs shows access lists a second time, to root alone. They are lists of ids that no id map changes, and on another file
/// system mere data, which would be lists again on the next xfs.
const ACCESS_LISTS_OF_XFS: [&[u8]; 2] = [b"trusted.SGI_ACL_FILE", b"trusted.SGI_ACL_DEFAULT"];

/// Copies all extended attributes; returns how many the target could not take. Access lists come by their own names.
///
/// An attribute the target's file system has no room for by kind (`EOPNOTSUPP`), or that our privilege does not cover
/// (`EPERM`, in an ordinary user's pool), is left out and counted, as `cp -a` does; any other failure is an error.
pub fn copy_attributes(from: At<'_>, to: At<'_>, ids: &Ids) -> Result<u64> {
    // Nearly always, and known without a way through /proc.
    if let At::Name(dir, name) = from
        && xattr::none_in(dir, name)
    {
        return Ok(0);
    }
    let mut names = Vec::new();
    match from.list(&mut names) {
        Ok(()) => {}
        Err(Errno::OPNOTSUPP) => return Ok(0),
        Err(e) => return Err(e.into()),
    }
    let mut dropped = 0;
    let mut value = Vec::new();
    for name in names.split_inclusive(|&b| b == 0) {
        let Ok(attribute) = CStr::from_bytes_with_nul(name) else { continue };
        if ACCESS_LISTS_OF_XFS.contains(&attribute.to_bytes()) {
            continue;
        }
        match from.get(attribute, &mut value) {
            Ok(()) => {}
            // Removed meanwhile, or not for our eyes.
            Err(Errno::NODATA | Errno::PERM | Errno::ACCESS | Errno::OPNOTSUPP) => continue,
            Err(e) => return Err(e.into()),
        }
        let new = idattr::change(attribute.to_bytes(), std::mem::take(&mut value), ids);
        match to.set(attribute, &new) {
            Ok(()) => {}
            Err(Errno::OPNOTSUPP | Errno::PERM | Errno::ACCESS) => dropped += 1,
            Err(e) => return Err(e.into()),
        }
        value = new;
    }
    Ok(dropped)
}

fn owner(stat: &Stat, ids: &Ids) -> (Option<Uid>, Option<Gid>) {
    (Some(Uid::from_raw(ids.uid(stat.st_uid))), Some(Gid::from_raw(ids.gid(stat.st_gid))))
}

/// The owner of a file.
pub fn owner_of(stat: &Stat) -> (u32, u32) {
    (stat.st_uid, stat.st_gid)
}

/// Does what is owned by `made` belong to whom the copy of the file described by `stat` shall? Each change of an owner is one
/// more entry in the file system's log.
fn belongs(made: (u32, u32), stat: &Stat, ids: &Ids) -> bool {
    made == (ids.uid(stat.st_uid), ids.gid(stat.st_gid))
}

fn times(stat: &Stat) -> Timestamps {
    let time = |sec, nsec| Timespec { tv_sec: sec, tv_nsec: nsec };
    // The field types differ between architectures.
    #[allow(clippy::unnecessary_cast, clippy::useless_conversion)]
    Timestamps {
        last_access: time(stat.st_atime as i64, stat.st_atime_nsec as i64),
        last_modification: time(stat.st_mtime as i64, stat.st_mtime_nsec as i64),
    }
}

/// Gives the open file or folder `to` everything that `from`, described by `stat`, has. Data must be written before.
pub fn copy_open(from: BorrowedFd<'_>, stat: &Stat, to: BorrowedFd<'_>, ids: &Ids) -> Result<u64> {
    if !belongs(owner_of(&rustix::fs::fstat(to)?), stat, ids) {
        let (uid, gid) = owner(stat, ids);
        rustix::fs::fchown(to, uid, gid)?;
    }
    let dropped = copy_attributes(At::Fd(from), At::Fd(to), ids)?;
    // Another owner and access lists change it.
    if rustix::fs::fstat(to)?.st_mode != stat.st_mode {
        rustix::fs::fchmod(to, Mode::from_raw_mode(stat.st_mode))?;
    }
    rustix::fs::futimens(to, &times(stat))?;
    Ok(dropped)
}

/// The same for what cannot be opened: `name` in `from` and in `to`, where it is owned by `made`.
pub fn copy_named(
    from: BorrowedFd<'_>,
    to: BorrowedFd<'_>,
    name: &CStr,
    stat: &Stat,
    made: (u32, u32),
    ids: &Ids,
) -> Result<u64> {
    if !belongs(made, stat, ids) {
        let (uid, gid) = owner(stat, ids);
        rustix::fs::chownat(to, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW)?;
    }
    let dropped = copy_attributes(At::Name(from, name), At::Name(to, name), ids)?;
    if !rustix::fs::FileType::from_raw_mode(stat.st_mode).is_symlink() {
        // The name was made by us in a folder nobody else sees: it is no link.
        rustix::fs::chmodat(to, name, Mode::from_raw_mode(stat.st_mode), AtFlags::empty())?;
    }
    rustix::fs::utimensat(to, name, &times(stat), AtFlags::SYMLINK_NOFOLLOW)?;
    Ok(dropped)
}

/// Changes the owner of `name` in a folder of ours, described by `stat`, and the ids in its attributes. A change of owner drops set-uid
/// bits and capabilities: they are put back.
pub fn shift_named(dir: BorrowedFd<'_>, name: &CStr, stat: &Stat, ids: &Ids) -> Result<()> {
    let at = At::Name(dir, name);
    let mut kept = Vec::new();
    for attribute in idattr::ALL {
        let mut value = Vec::new();
        match at.get(attribute, &mut value) {
            Ok(()) => kept.push((attribute, idattr::change(attribute.to_bytes(), value, ids))),
            Err(Errno::NODATA | Errno::OPNOTSUPP) => {}
            Err(e) => return Err(e.into()),
        }
    }
    let (uid, gid) = owner(stat, ids);
    rustix::fs::chownat(dir, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW)?;
    if stat.st_mode & 0o6000 != 0 && !rustix::fs::FileType::from_raw_mode(stat.st_mode).is_symlink() {
        rustix::fs::chmodat(dir, name, Mode::from_raw_mode(stat.st_mode), AtFlags::empty())?;
    }
    Ok(kept.iter().try_for_each(|(attribute, value)| at.set(attribute, value))?)
}

/// Removes the attributes of `name`, never followed, that are `unwanted`; whether there was none.
///
/// # Errors
/// The calls' own.
pub fn remove_attributes(dir: BorrowedFd<'_>, name: &CStr, unwanted: impl Fn(&[u8]) -> bool) -> Result<bool> {
    let mut names = Vec::new();
    match At::Name(dir, name).list(&mut names) {
        Ok(()) => {}
        Err(Errno::OPNOTSUPP) => return Ok(true),
        Err(e) => return Err(e.into()),
    }
    let mut none = true;
    for attribute in names.split(|&b| b == 0).filter(|attribute| !attribute.is_empty() && unwanted(attribute)) {
        rustix::fs::lremovexattr(At::path(dir, name), attribute)?;
        none = false;
    }
    Ok(none)
}

/// Gives the folder `to` the owner, attributes, mode and times of the folder `from`, ids unchanged: what an overlay's
/// upper layer must take over from the root of the layer below, because overlayfs shows the upper one's. Attributes that
/// are instructions to overlayfs are refused: an image could hide its own root with them.
///
/// # Errors
/// The calls' own; the image's root has attributes of overlayfs.
pub fn copy_root_attributes(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> Result<()> {
    let mut names = Vec::new();
    match At::Fd(from).list(&mut names) {
        Ok(()) | Err(Errno::OPNOTSUPP) => {}
        Err(e) => return Err(e.into()),
    }
    let instruction = |n: &[u8]| n.starts_with(b"trusted.overlay.") || n.starts_with(b"user.overlay.");
    if names.split(|&b| b == 0).any(instruction) {
        return Err(Error::invalid("The image's root folder has attributes of overlayfs"));
    }
    let stat = rustix::fs::fstat(from)?;
    copy_open(from, &stat, to, &Ids::none()).map(|_| ())
}

/// For messages: a relative path of bytes.
pub fn shown(path: &[u8]) -> String {
    let text = std::ffi::OsStr::from_bytes(path);
    if path.is_empty() { ".".to_string() } else { text.to_string_lossy().into_owned() }
}
