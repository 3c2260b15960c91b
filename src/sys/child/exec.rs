//! The last operations of the interpreter between clone and exec; the same rules hold as in its parent module.

use super::{Bad, CArray, errno, ok};
use libc::c_long;
use std::ffi::CString;

/// A place outside the root would give an "(unreachable)" path (getcwd(2)); CVE-2024-21626.
pub(super) fn work_dir(path: &CString, or_root: bool) -> Result<c_long, Bad> {
    let mut place = [0u8; 4096];
    // SAFETY: live path and buffer with its size.
    unsafe {
        if libc::syscall(libc::SYS_chdir, path.as_ptr()) < 0 {
            if !(or_root && errno() == libc::ENOENT) {
                return Err(Bad(0, errno()));
            }
            ok(1, libc::syscall(libc::SYS_chdir, c"/".as_ptr()))?;
        }
        let len = ok(2, libc::syscall(libc::SYS_getcwd, place.as_mut_ptr(), place.len()))?;
        if place[0] != b'/' { Err(Bad(3, libc::EXDEV)) } else { Ok(len) }
    }
}

pub(super) fn exec(paths: &[CString], argv: &CArray, envp: &CArray) -> Result<c_long, Bad> {
    let (argv, envp) = (argv.addresses.as_ptr(), envp.addresses.as_ptr());
    let mut worst = libc::ENOENT;
    let mut i = 0;
    while i < paths.len() {
        // SAFETY: terminated arrays of pointers to live C strings.
        unsafe { libc::syscall(libc::SYS_execve, paths[i].as_ptr(), argv, envp) };
        let e = errno();
        if e != libc::ENOENT && e != libc::ENOTDIR && worst != libc::EACCES {
            worst = e;
        }
        if e != libc::ENOENT && e != libc::ENOTDIR && e != libc::EACCES {
            break;
        }
        i += 1;
    }
    Err(Bad(0, worst))
}

pub(super) fn exec_fd(fd: i32, argv: &CArray, envp: &CArray) -> Result<c_long, Bad> {
    let (argv, envp) = (argv.addresses.as_ptr(), envp.addresses.as_ptr());
    // SAFETY: an empty path, terminated arrays of pointers to live C strings.
    ok(0, unsafe { libc::syscall(libc::SYS_execveat, fd, c"".as_ptr(), argv, envp, libc::AT_EMPTY_PATH) })
}
