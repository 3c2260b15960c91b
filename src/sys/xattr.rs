//! Extended attributes by fd, never by a path that a guest controls.
//!
//! Regular files and directories: flistxattr(2), fgetxattr(2), fsetxattr(2) on an fd opened for reading. These calls refuse an `O_PATH`
//! handle, and a symlink, device or pipe cannot be opened otherwise, so for those the *xattrat* calls of Linux 6.13 are used
//! with a directory fd, a bare name and `AT_SYMLINK_NOFOLLOW`. On older kernels such attributes are reported as absent and setting one
//! is `Unsupported`: little is lost, `user.*` is forbidden on such files by the kernel and capabilities mean nothing there.
//! Called by `image` and `backup`. Must never go through `/proc/self/fd`.

use super::path::call;
use crate::error::{Error, Result};
use rustix::fs::XattrFlags;
use rustix::io::Errno;
use std::ffi::{CStr, CString, OsStr};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;

/// Largest value the kernel takes (`XATTR_SIZE_MAX`, xattr(7)).
pub const VALUE_MAX: usize = 65536;
/// Longest name (`XATTR_NAME_MAX`).
pub const NAME_MAX: usize = 255;
/// Largest list of names (`XATTR_LIST_MAX`).
const LIST_MAX: usize = 65536;

// The same on every architecture since Linux 6.13 (include/uapi/asm-generic/unistd.h; alpha is not built for).
const SYS_SETXATTRAT: libc::c_long = 463;
const SYS_GETXATTRAT: libc::c_long = 464;
const SYS_LISTXATTRAT: libc::c_long = 465;

/// `struct xattr_args` of include/uapi/linux/xattr.h.
#[repr(C)]
struct XattrArgs {
    value: u64,
    size: u32,
    flags: u32,
}

/// Attributes that are taken over from archives, streams and trees.
pub fn may_unpack(name: &[u8]) -> bool {
    match name {
        b"security.capability" | b"system.posix_acl_access" | b"system.posix_acl_default" => true,
        _ => name.starts_with(b"user.") && !name.starts_with(b"user.overlay."),
    }
}

/// A name and its value.
pub type Attribute = (Vec<u8>, Vec<u8>);

/// All attributes of an open file or directory, sorted by name; empty where the file system has none.
///
/// # Errors
/// Those of flistxattr(2) and fgetxattr(2).
pub fn list(fd: BorrowedFd<'_>) -> Result<Vec<Attribute>> {
    let mut names = vec![0; 1024];
    let len = loop {
        match rustix::fs::flistxattr(fd, &mut names[..]) {
            Err(Errno::RANGE) if names.len() < LIST_MAX => names.resize(LIST_MAX, 0),
            Err(Errno::NOTSUP) => return Ok(Vec::new()),
            other => break call("flistxattr", other)?,
        }
    };
    collect(&names[..len], |name| get(fd, name))
}

/// One attribute of an open file or directory.
///
/// # Errors
/// Those of fgetxattr(2), absence apart.
pub fn get(fd: BorrowedFd<'_>, name: &[u8]) -> Result<Option<Vec<u8>>> {
    let mut value = vec![0; 256];
    loop {
        match rustix::fs::fgetxattr(fd, name, &mut value[..]) {
            Err(Errno::RANGE) if value.len() < VALUE_MAX => value.resize(VALUE_MAX, 0),
            Err(Errno::NODATA | Errno::NOTSUP) => return Ok(None),
            other => {
                let len = call("fgetxattr", other)?;
                value.truncate(len);
                return Ok(Some(value));
            }
        }
    }
}

/// Sets an attribute of an open file or directory.
///
/// # Errors
/// Those of fsetxattr(2); ENOTSUP where the file system has none.
pub fn set(fd: BorrowedFd<'_>, name: &[u8], value: &[u8]) -> Result<()> {
    call("fsetxattr", rustix::fs::fsetxattr(fd, name, value, XattrFlags::empty()))
}

/// Removes an attribute of an open file or directory.
///
/// # Errors
/// Those of fremovexattr(2).
pub fn remove(fd: BorrowedFd<'_>, name: &[u8]) -> Result<()> {
    call("fremovexattr", rustix::fs::fremovexattr(fd, name))
}

/// All attributes of the bare `name` in `dir`, which is not followed (and may be a symlink, device, pipe). Empty before Linux 6.13.
///
/// # Errors
/// Those of listxattrat(2) and getxattrat(2).
pub fn list_in(dir: BorrowedFd<'_>, name: &OsStr) -> Result<Vec<Attribute>> {
    let path = c_name(name.as_bytes())?;
    let mut names = vec![0u8; LIST_MAX];
    // SAFETY: `path` is a C string and `names` a writable buffer of the given length; both outlive the call.
    let n = unsafe {
        libc::syscall(
            SYS_LISTXATTRAT,
            dir.as_raw_fd(),
            path.as_ptr(),
            libc::AT_SYMLINK_NOFOLLOW,
            names.as_mut_ptr(),
            names.len(),
        )
    };
    let Ok(len) = usize::try_from(n) else {
        return match std::io::Error::last_os_error() {
            e if matches!(e.raw_os_error(), Some(libc::ENOSYS | libc::EOPNOTSUPP)) => Ok(Vec::new()),
            e => Err(Error::from(e).context("listxattrat")),
        };
    };
    collect(&names[..len], |attribute| get_in(dir, &path, attribute))
}

/// Has the bare `name` in `dir`, which is not followed, surely no attributes? False before Linux 6.13.
pub fn none_in(dir: BorrowedFd<'_>, name: &CStr) -> bool {
    let nowhere = std::ptr::null_mut::<u8>();
    // SAFETY: `name` is a C string that outlives the call; nothing is written to a buffer of no length.
    let n = unsafe {
        libc::syscall(SYS_LISTXATTRAT, dir.as_raw_fd(), name.as_ptr(), libc::AT_SYMLINK_NOFOLLOW, nowhere, 0usize)
    };
    n == 0
}

fn get_in(dir: BorrowedFd<'_>, path: &CString, name: &[u8]) -> Result<Option<Vec<u8>>> {
    let name = c_name(name)?;
    let mut value = vec![0u8; VALUE_MAX];
    let mut args = XattrArgs { value: value.as_mut_ptr() as u64, size: VALUE_MAX as u32, flags: 0 };
    // SAFETY: `path` and `name` are C strings; `args` has the kernel's layout and points at a writable buffer of that size;
    // all outlive the call.
    let n = unsafe {
        libc::syscall(
            SYS_GETXATTRAT,
            dir.as_raw_fd(),
            path.as_ptr(),
            libc::AT_SYMLINK_NOFOLLOW,
            name.as_ptr(),
            &raw mut args,
            size_of::<XattrArgs>(),
        )
    };
    let Ok(len) = usize::try_from(n) else {
        return match std::io::Error::last_os_error() {
            e if e.raw_os_error() == Some(libc::ENODATA) => Ok(None),
            e => Err(Error::from(e).context("getxattrat")),
        };
    };
    value.truncate(len);
    Ok(Some(value))
}

/// Sets an attribute of the bare `name` in `dir`, not followed.
///
/// # Errors
/// `Unsupported` before Linux 6.13; those of setxattrat(2).
pub fn set_in(dir: BorrowedFd<'_>, name: &OsStr, attribute: &[u8], value: &[u8]) -> Result<()> {
    let (path, attribute) = (c_name(name.as_bytes())?, c_name(attribute)?);
    let size = u32::try_from(value.len()).map_err(|_| Error::invalid("Extended attribute is too large"))?;
    let args = XattrArgs { value: value.as_ptr() as u64, size, flags: 0 };
    // SAFETY: `path` and `attribute` are C strings; `args` has the kernel's layout and points at `size` readable bytes; all
    // outlive the call.
    let n = unsafe {
        libc::syscall(
            SYS_SETXATTRAT,
            dir.as_raw_fd(),
            path.as_ptr(),
            libc::AT_SYMLINK_NOFOLLOW,
            attribute.as_ptr(),
            &raw const args,
            size_of::<XattrArgs>(),
        )
    };
    if n == 0 {
        return Ok(());
    }
    match std::io::Error::last_os_error() {
        e if e.raw_os_error() == Some(libc::ENOSYS) => {
            Err(Error::unsupported("Extended attributes of links and nodes need Linux 6.13").caused_by(e))
        }
        e => Err(Error::from(e).context("setxattrat")),
    }
}

fn c_name(name: &[u8]) -> Result<CString> {
    CString::new(name).map_err(|_| Error::invalid("Name contains a NUL byte"))
}

/// Reads the values of a NUL-separated list of names; one that vanished meanwhile is left out.
fn collect(names: &[u8], mut get: impl FnMut(&[u8]) -> Result<Option<Vec<u8>>>) -> Result<Vec<Attribute>> {
    let mut all = Vec::new();
    for name in names.split(|b| *b == 0).filter(|n| !n.is_empty()) {
        if let Some(value) = get(name)? {
            all.push((name.to_vec(), value));
        }
    }
    all.sort_unstable();
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn set_list_get() {
        let dir = tempfile::tempdir_in("target").expect("temporary directory");
        let file = std::fs::File::create(dir.path().join("f")).expect("create");
        if let Err(e) = set(file.as_fd(), b"user.b", b"1") {
            assert_eq!(e.errno(), Some(libc::EOPNOTSUPP));
            return;
        }
        let big = vec![7; 3000];
        set(file.as_fd(), b"user.a", &big).expect("set");
        assert_eq!(list(file.as_fd()).expect("list"), [(b"user.a".to_vec(), big), (b"user.b".to_vec(), b"1".to_vec())]);
        assert_eq!(get(file.as_fd(), b"user.none").expect("get"), None);
    }

    #[test]
    fn a_link_is_not_followed() {
        let dir = tempfile::tempdir_in("target").expect("temporary directory");
        let file = std::fs::File::create(dir.path().join("f")).expect("create");
        std::os::unix::fs::symlink("f", dir.path().join("l")).expect("symlink");
        let fd = std::fs::File::open(dir.path()).expect("open");
        // The kernel forbids user.* on a symlink: proof that the link, not its target, was meant.
        assert!(set_in(fd.as_fd(), OsStr::new("l"), b"user.x", b"1").is_err());
        assert!(list(file.as_fd()).expect("list").is_empty());
        assert!(list_in(fd.as_fd(), OsStr::new("l")).expect("list").is_empty());
        if set(file.as_fd(), b"user.a", b"1").is_ok() {
            assert!(!none_in(fd.as_fd(), c"f"));
        }
        // Where the kernel has the call, this is what it says of the link.
        assert_eq!(
            none_in(fd.as_fd(), c"l"),
            set_in(fd.as_fd(), OsStr::new("l"), b"user.x", b"1").is_err_and(|e| e.errno() == Some(libc::EPERM))
        );
    }
}
