//! The mount operations of the interpreter between clone and exec; the same rules hold as in its parent module.

use super::{Bad, Make, errno, ok};
use libc::c_long;
use std::ffi::CString;

/// openat2(2): stay beneath the folder, no symlink anywhere, no magic link.
pub(super) const BENEATH: u64 = libc::RESOLVE_BENEATH | libc::RESOLVE_NO_SYMLINKS | libc::RESOLVE_NO_MAGICLINKS;
/// openat2(2): the folder is the root; symlinks lead inside it.
const IN_ROOT: u64 = libc::RESOLVE_IN_ROOT | libc::RESOLVE_NO_MAGICLINKS;

pub(super) fn private() -> Result<c_long, Bad> {
    let none = std::ptr::null::<libc::c_char>();
    let flags = libc::MS_REC | libc::MS_PRIVATE;
    // SAFETY: mount(2) that changes propagation reads only the target.
    ok(0, unsafe { libc::syscall(libc::SYS_mount, none, c"/".as_ptr(), none, flags, none) })
}

pub(super) fn new_fs(kind: &CString, params: &[(CString, CString)], attr: u64) -> Result<c_long, Bad> {
    const FSOPEN_CLOEXEC: c_long = 1;
    const FSMOUNT_CLOEXEC: c_long = 1;
    const SET_FLAG: c_long = 0;
    const SET_STRING: c_long = 1;
    const CREATE: c_long = 6;
    let none = std::ptr::null::<libc::c_char>();
    // SAFETY: pointers to live C strings, or null where the command takes none.
    unsafe {
        let fs = ok(0, libc::syscall(libc::SYS_fsopen, kind.as_ptr(), FSOPEN_CLOEXEC))?;
        let mut i = 0;
        while i < params.len() {
            let (key, value) = &params[i];
            let ret = if value.as_bytes().is_empty() {
                libc::syscall(libc::SYS_fsconfig, fs, SET_FLAG, key.as_ptr(), none, 0)
            } else {
                libc::syscall(libc::SYS_fsconfig, fs, SET_STRING, key.as_ptr(), value.as_ptr(), 0)
            };
            ok(1, ret)?;
            i += 1;
        }
        ok(2, libc::syscall(libc::SYS_fsconfig, fs, CREATE, none, none, 0))?;
        let mount = ok(3, libc::syscall(libc::SYS_fsmount, fs, FSMOUNT_CLOEXEC, attr))?;
        libc::syscall(libc::SYS_close, fs);
        Ok(mount)
    }
}

pub(super) fn copy_tree(from: i32, path: &CString, recursive: bool) -> Result<c_long, Bad> {
    const OPEN_TREE_CLONE: i32 = 1;
    let mut flags = OPEN_TREE_CLONE | libc::O_CLOEXEC | libc::AT_SYMLINK_NOFOLLOW;
    if path.as_bytes().is_empty() {
        flags |= libc::AT_EMPTY_PATH;
    }
    if recursive {
        flags |= libc::AT_RECURSIVE;
    }
    // SAFETY: live C string.
    ok(0, unsafe { libc::syscall(libc::SYS_open_tree, from, path.as_ptr(), flags) })
}

/// `masks`: set, clear, propagation.
pub(super) fn set_attr(fd: i32, masks: [u64; 3], recursive: bool) -> Result<c_long, Bad> {
    let attr = [masks[0], masks[1], masks[2], 0];
    let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the array has the layout and size of struct mount_attr.
    ok(0, unsafe { libc::syscall(libc::SYS_mount_setattr, fd, c"".as_ptr(), flags, attr.as_ptr(), 32) })
}

pub(super) fn open2(dir: i32, path: *const libc::c_char, flags: i32, mode: u64, resolve: u64) -> c_long {
    let how = [flags as u64, mode, resolve];
    // SAFETY: the array has the layout and size of struct open_how; the path is a live C string.
    unsafe { libc::syscall(libc::SYS_openat2, dir, path, how.as_ptr(), 24) }
}

pub(super) fn attach(fd: i32, dir: i32, path: &CString, make: Make, links: bool) -> Result<c_long, Bad> {
    const F_EMPTY_PATH: c_long = 0x4;
    const T_EMPTY_PATH: c_long = 0x40;
    let resolve = if links { IN_ROOT } else { BENEATH };
    let flags = libc::O_PATH | libc::O_CLOEXEC;
    let mut target = open2(dir, path.as_ptr(), flags, 0, resolve);
    if target < 0 && errno() == libc::ENOENT && make != Make::No {
        make_parents(dir, path, make == Make::Dir)?;
        if make == Make::File {
            let create = libc::O_CREAT | libc::O_EXCL | libc::O_WRONLY | libc::O_CLOEXEC | libc::O_NOFOLLOW;
            let file = ok(1, open2(dir, path.as_ptr(), create, 0o644, resolve))?;
            // SAFETY: closes the number just received.
            unsafe { libc::syscall(libc::SYS_close, file) };
        }
        target = open2(dir, path.as_ptr(), flags, 0, resolve);
    }
    let target = ok(2, target)?;
    // SAFETY: empty C strings and numbers.
    unsafe {
        let ret =
            libc::syscall(libc::SYS_move_mount, fd, c"".as_ptr(), target, c"".as_ptr(), F_EMPTY_PATH | T_EMPTY_PATH);
        let done = ok(3, ret);
        libc::syscall(libc::SYS_close, target);
        done
    }
}

/// Nothing there, or another mount: done already.
pub(super) fn detach(dir: i32, path: &CString, id: u64) -> Result<c_long, Bad> {
    let found = open2(dir, path.as_ptr(), libc::O_PATH | libc::O_CLOEXEC, 0, IN_ROOT);
    if found < 0 {
        let e = errno();
        return if matches!(e, libc::ENOENT | libc::ENOTDIR | libc::ELOOP) { Ok(0) } else { Err(Bad(0, e)) };
    }
    // SAFETY: the buffer is a whole struct statx, for which all zero is valid; live C strings and numbers.
    unsafe {
        let mut stat: libc::statx = std::mem::zeroed();
        let ret =
            libc::syscall(libc::SYS_statx, found, c"".as_ptr(), libc::AT_EMPTY_PATH, libc::STATX_MNT_ID, &raw mut stat);
        let e = errno();
        libc::syscall(libc::SYS_close, found);
        if ret < 0 {
            return Err(Bad(1, e));
        }
        if stat.stx_mnt_id != id {
            return Ok(0);
        }
        ok(2, libc::syscall(libc::SYS_umount2, path.as_ptr(), libc::MNT_DETACH))
    }
}

/// Makes the missing parents of `path` beneath `dir`, mode 0755, and with `last` the path itself. Symlinks on the way are
/// resolved with `dir` as root.
fn make_parents(dir: i32, path: &CString, last: bool) -> Result<c_long, Bad> {
    const MOST: usize = 4096;
    let bytes = path.as_bytes();
    let mut name = [0u8; MOST];
    if bytes.len() >= MOST {
        return Err(Bad(10, libc::ENAMETOOLONG));
    }
    let mut at = 1;
    while at <= bytes.len() {
        let ends = at == bytes.len();
        if (ends && last) || (!ends && bytes[at] == b'/' && bytes[at - 1] != b'/') {
            name[..at].copy_from_slice(&bytes[..at]);
            name[at] = 0;
            make_dir(dir, &mut name, at)?;
        }
        at += 1;
    }
    Ok(0)
}

/// Makes one folder: its parent is opened safely, then mkdirat(2) with a bare name.
fn make_dir(dir: i32, name: &mut [u8], len: usize) -> Result<c_long, Bad> {
    let whole = open2(dir, name.as_ptr().cast(), libc::O_PATH | libc::O_CLOEXEC, 0, IN_ROOT);
    // SAFETY: `name` is terminated at `len`; the split at the last slash leaves two terminated strings.
    unsafe {
        if whole >= 0 {
            return Ok(libc::syscall(libc::SYS_close, whole));
        }
        let mut slash = len;
        while slash > 0 && name[slash - 1] != b'/' {
            slash -= 1;
        }
        let leaf = name.as_ptr().add(slash);
        if slash == 0 {
            return ok(11, libc::syscall(libc::SYS_mkdirat, dir, leaf, 0o755));
        }
        name[slash - 1] = 0;
        let upper = if slash == 1 { c"/".as_ptr() } else { name.as_ptr().cast() };
        let parent = ok(12, open2(dir, upper, libc::O_PATH | libc::O_DIRECTORY | libc::O_CLOEXEC, 0, IN_ROOT))?;
        name[slash - 1] = b'/';
        let done = libc::syscall(libc::SYS_mkdirat, parent, leaf, 0o755);
        let e = errno();
        libc::syscall(libc::SYS_close, parent);
        if done < 0 && e != libc::EEXIST { Err(Bad(13, e)) } else { Ok(0) }
    }
}

/// Puts the mount over `/`, then pivots (pivot_root(2), "pivot_root(".", ".")").
pub(super) fn pivot_to(fd: i32) -> Result<c_long, Bad> {
    const F_EMPTY_PATH: c_long = 0x4;
    // SAFETY: live C strings and numbers.
    unsafe {
        ok(0, libc::syscall(libc::SYS_move_mount, fd, c"".as_ptr(), libc::AT_FDCWD, c"/".as_ptr(), F_EMPTY_PATH))?;
        ok(1, libc::syscall(libc::SYS_fchdir, fd))?;
        ok(2, libc::syscall(libc::SYS_pivot_root, c".".as_ptr(), c".".as_ptr()))?;
        ok(3, libc::syscall(libc::SYS_umount2, c".".as_ptr(), libc::MNT_DETACH))?;
        ok(4, libc::syscall(libc::SYS_chdir, c"/".as_ptr()))
    }
}

/// What is mounted on the way is not the file system that was meant (CVE-2025-52881).
pub(super) fn write_file(dir: i32, path: &CString, data: &[u8]) -> Result<c_long, Bad> {
    let resolve = BENEATH | libc::RESOLVE_NO_XDEV;
    let file = ok(0, open2(dir, path.as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC, 0, resolve))?;
    // SAFETY: writes from a live slice, then closes the number just opened.
    unsafe {
        let ret = libc::syscall(libc::SYS_write, file, data.as_ptr(), data.len());
        let done = ok(1, ret);
        libc::syscall(libc::SYS_close, file);
        done
    }
}
