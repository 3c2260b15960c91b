//! Pseudo-terminals of a given devpts instance (pts(4), ioctl_tty(2)).

use super::{Result, SysError, check, from_rustix, named};
use rustix::fs::{Mode, OFlags, ResolveFlags};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// `DEVPTS_SUPER_MAGIC`.
const DEVPTS_MAGIC: i64 = 0x1cd1;

/// A terminal's size, in cells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// Columns.
    pub width: u16,
    /// Rows.
    pub height: u16,
}

/// Opens a new pair on the devpts instance whose root folder is `devpts`: (master, slave, number of the slave). The slave
/// belongs to `uid`:`gid`, mode 0620.
///
/// # Errors
/// EINVAL if the folder is not devpts, or its `ptmx` is not the multiplexer; EXDEV if something is mounted over that.
pub fn open(devpts: BorrowedFd<'_>, uid: u32, gid: u32) -> Result<(OwnedFd, OwnedFd, u32)> {
    if super::mount::fs_magic(devpts)? != DEVPTS_MAGIC {
        return Err(SysError { call: "devpts", errno: libc::EINVAL });
    }
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    // A guest may have bound something over the multiplexer, such as a file whose open(2) never returns.
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    let master = from_rustix("open", rustix::fs::openat2(devpts, c"ptmx", flags, Mode::empty(), resolve))?;
    let stat = from_rustix("fstat", rustix::fs::fstat(&master))?;
    if stat.st_rdev != libc::makedev(5, 2) {
        return Err(SysError { call: "devpts", errno: libc::EINVAL });
    }
    from_rustix("fcntl", rustix::fs::fcntl_setfl(&master, OFlags::empty()))?;
    from_rustix("ioctl", rustix::pty::unlockpt(&master))?;
    let mut number: libc::c_uint = 0;
    // SAFETY: TIOCGPTN stores a number.
    let got = unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCGPTN, &raw mut number) };
    check("ioctl", libc::c_long::from(got))?;
    let slave = peer(master.as_fd())?;
    let owner = (rustix::fs::Uid::from_raw(uid), rustix::fs::Gid::from_raw(gid));
    from_rustix("fchown", rustix::fs::fchown(&slave, Some(owner.0), Some(owner.1)))?;
    Ok((master, slave, number))
}

/// Opens the slave of `master`, wherever its devpts is mounted.
///
/// # Errors
/// As ioctl_tty(2), `TIOCGPTPEER`.
pub fn peer(master: BorrowedFd<'_>) -> Result<OwnedFd> {
    let flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC;
    // SAFETY: TIOCGPTPEER returns a new descriptor that we own from here on.
    unsafe {
        let fd = libc::ioctl(master.as_raw_fd(), libc::TIOCGPTPEER, flags);
        check("ioctl", libc::c_long::from(fd))?;
        Ok(OwnedFd::from_raw_fd(fd))
    }
}

/// The size of the terminal behind `fd`.
///
/// # Errors
/// ENOTTY if it is none.
pub fn size(fd: BorrowedFd<'_>) -> Result<Size> {
    let w = from_rustix("ioctl", rustix::termios::tcgetwinsize(fd))?;
    Ok(Size { width: w.ws_col, height: w.ws_row })
}

/// Sets the size of the terminal behind `fd`.
///
/// # Errors
/// ENOTTY if it is none.
pub fn set_size(fd: BorrowedFd<'_>, size: Size) -> Result<()> {
    let w = rustix::termios::Winsize { ws_col: size.width, ws_row: size.height, ws_xpixel: 0, ws_ypixel: 0 };
    from_rustix("ioctl", rustix::termios::tcsetwinsize(fd, w))
}

/// A terminal in raw mode; dropping puts the old mode back.
#[derive(Debug)]
pub struct Raw {
    fd: OwnedFd,
    before: nix::sys::termios::Termios,
}

/// Puts the terminal behind `fd` into raw mode (termios(3), cfmakeraw).
///
/// # Errors
/// ENOTTY if it is none.
pub fn raw(fd: BorrowedFd<'_>) -> Result<Raw> {
    use nix::sys::termios;
    let copy = |e: std::io::Error| SysError { call: "fcntl", errno: e.raw_os_error().unwrap_or(libc::EMFILE) };
    let fd = fd.try_clone_to_owned().map_err(copy)?;
    let before = named("tcgetattr", termios::tcgetattr(&fd))?;
    let mut mode = before.clone();
    termios::cfmakeraw(&mut mode);
    named("tcsetattr", termios::tcsetattr(&fd, termios::SetArg::TCSANOW, &mode))?;
    Ok(Raw { fd, before })
}

impl Drop for Raw {
    fn drop(&mut self) {
        use nix::sys::termios;
        let _ = termios::tcsetattr(&self.fd, termios::SetArg::TCSANOW, &self.before);
    }
}
