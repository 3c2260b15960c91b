//! The operation that gives the process its AppArmor label; the rules of the parent module hold.
//!
//! The file is found by our own number below a procfs that the caller knows, never through a link, never across a mount, and
//! it must be procfs's: a label that went to any other file would be none (CVE-2019-16884, CVE-2025-52881).

use super::mount::{BENEATH, open2};
use super::{Bad, ok};
use libc::c_long;

/// Writes `data` to `<our pid>/attr/apparmor/current` beneath `proc`.
pub(super) fn write(proc: i32, data: &[u8]) -> Result<c_long, Bad> {
    let mut path = [0u8; 64];
    // SAFETY: numbers, live buffers with their sizes; an all-zero statfs is a valid one.
    unsafe {
        let pid = libc::syscall(libc::SYS_getpid);
        own_path(&mut path, pid);
        let flags = libc::O_WRONLY | libc::O_CLOEXEC;
        let fd = ok(0, open2(proc, path.as_ptr().cast(), flags, 0, BENEATH | libc::RESOLVE_NO_XDEV))?;
        let mut fs: libc::statfs = std::mem::zeroed();
        ok(1, libc::syscall(libc::SYS_fstatfs, fd, &raw mut fs))?;
        if fs.f_type != libc::PROC_SUPER_MAGIC {
            return Err(Bad(2, libc::EXDEV));
        }
        let written = ok(3, libc::syscall(libc::SYS_write, fd, data.as_ptr(), data.len()))?;
        libc::syscall(libc::SYS_close, fd);
        if written == data.len() as c_long { Ok(0) } else { Err(Bad(4, libc::EIO)) }
    }
}

/// `<pid>/attr/apparmor/current`, terminated: the buffer is zero and longer than any of them.
fn own_path(path: &mut [u8; 64], pid: c_long) {
    let mut digits = [0u8; 20];
    let (mut left, mut first) = (pid.unsigned_abs(), digits.len());
    loop {
        first -= 1;
        digits[first] = b'0' + (left % 10) as u8;
        left /= 10;
        if left == 0 {
            break;
        }
    }
    let mut at = 0;
    for part in [&digits[first..], b"/attr/apparmor/current".as_slice()] {
        let mut i = 0;
        while i < part.len() && at < path.len() - 1 {
            path[at] = part[i];
            at += 1;
            i += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::CStr;

    #[test]
    fn the_path_is_our_own() {
        for (pid, wanted) in [(1, "1/attr/apparmor/current"), (4_194_304, "4194304/attr/apparmor/current")] {
            let mut path = [0u8; 64];
            own_path(&mut path, pid);
            let path = CStr::from_bytes_until_nul(&path).expect("terminated");
            assert_eq!(path.to_str(), Ok(wanted));
        }
    }

    #[test]
    fn no_other_file_system_gets_a_label() {
        use std::os::fd::AsRawFd;
        let dir = tempfile::tempdir().expect("tempdir");
        let own = dir.path().join(std::process::id().to_string()).join("attr/apparmor");
        std::fs::create_dir_all(&own).expect("mkdir");
        std::fs::write(own.join("current"), "").expect("write");
        let folder = std::fs::File::open(dir.path()).expect("open");
        let Err(Bad(detail, errno)) = write(folder.as_raw_fd(), b"changeprofile x") else {
            panic!("a fake took the label");
        };
        assert_eq!((detail, errno), (2, libc::EXDEV));
        assert_eq!(std::fs::read(own.join("current")).expect("read"), b"");
    }
}
