//! The current process: descriptors it inherited, signals it takes by descriptor, its own attributes.

use super::{Result, SysError, from_rustix, named};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd};

/// Takes over the descriptors that whoever started this role left at fixed numbers; they become close-on-exec.
///
/// # Errors
/// EBADF if one is not open: the role was not started by us.
pub fn take_inherited<const N: usize>(numbers: [i32; N]) -> Result<[OwnedFd; N]> {
    for n in numbers {
        // SAFETY: borrowed only for the two calls below, which check the number.
        let fd = unsafe { BorrowedFd::borrow_raw(n) };
        from_rustix("fcntl", rustix::io::fcntl_setfd(fd, rustix::io::FdFlags::CLOEXEC))?;
    }
    // SAFETY: each number is open (checked above) and, by the role's contract, owned by nobody else in this process.
    Ok(numbers.map(|n| unsafe { OwnedFd::from_raw_fd(n) }))
}

/// A copy of one of our standard streams (0, 1, 2).
///
/// # Errors
/// EBADF if it is closed.
pub fn stream(number: i32) -> Result<OwnedFd> {
    // SAFETY: borrowed only for the duplication, which checks the number.
    let fd = unsafe { BorrowedFd::borrow_raw(number) };
    from_rustix("fcntl", rustix::io::fcntl_dupfd_cloexec(fd, 3))
}

/// Blocks `signals` in this thread (and those it starts) and returns a descriptor to read them from.
///
/// # Errors
/// As signalfd(2).
pub fn signals(signals: &[Signal]) -> Result<SignalFd> {
    let mut set = SigSet::empty();
    for s in signals {
        set.add(*s);
    }
    named("sigprocmask", set.thread_block())?;
    named("signalfd", SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK))
}

/// A wait of at least `time` for poll(2), which counts in milliseconds; none for [`Duration::ZERO`].
///
/// [`Duration::ZERO`]: std::time::Duration::ZERO
pub fn poll_timeout(time: std::time::Duration) -> nix::poll::PollTimeout {
    let ms = time.as_micros().div_ceil(1000).min(i32::MAX as u128);
    nix::poll::PollTimeout::try_from(i32::try_from(ms).unwrap_or(i32::MAX)).unwrap_or(nix::poll::PollTimeout::MAX)
}

/// Does nothing for `time`, without a thread's sleep: one poll(2) of nothing.
pub fn pause(time: std::time::Duration) {
    let end = std::time::Instant::now() + time;
    loop {
        let left = end.saturating_duration_since(std::time::Instant::now());
        if left.is_zero() {
            return;
        }
        let _ = nix::poll::poll(&mut [], poll_timeout(left));
    }
}

/// True if `fd` is a terminal.
pub fn is_terminal(fd: &impl AsFd) -> bool {
    rustix::termios::isatty(fd)
}

/// Makes sure that descriptors 0, 1 and 2 are open, so that no file of ours ends up there.
///
/// # Errors
/// As open(2).
pub fn ensure_standard_streams() -> Result<()> {
    for n in 0..3 {
        // SAFETY: borrowed for one call that checks the number.
        let open = rustix::io::fcntl_getfd(unsafe { BorrowedFd::borrow_raw(n) }).is_ok();
        if !open {
            let flags = rustix::fs::OFlags::RDWR;
            let fd = from_rustix("open", rustix::fs::open(c"/dev/null", flags, rustix::fs::Mode::empty()))?;
            // The lowest free number is the one that was closed; it stays open for the whole run.
            if std::os::fd::AsRawFd::as_raw_fd(&fd) != n {
                return Err(SysError { call: "open", errno: libc::EBADF });
            }
            std::mem::forget(fd);
        }
    }
    Ok(())
}

/// Where our own arguments and environment lie in memory, for [`super::child::Op::Blank`]: the first and the last address
/// of each (proc_pid_stat(5), fields 48 to 51). Nothing if the kernel does not say.
pub fn own_strings() -> Vec<(usize, usize)> {
    let text = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after = text.rsplit_once(')').map_or("", |(_, after)| after);
    // Counted from the state, field 3.
    let mut fields = after.split_ascii_whitespace().skip(45).map_while(|f| f.parse::<usize>().ok());
    let mut range = || Some((fields.next()?, fields.next()?));
    let found = [range(), range()];
    found.into_iter().flatten().filter(|(start, end)| *start != 0 && start <= end).collect()
}

/// Set in the environment of a process that runs from a protected copy of our binary.
const PROTECTED: &str = "STAPES_PROTECTED=1";

/// Makes sure that this process runs from a copy of our binary that nothing in a privileged instance can write to: executes
/// itself again from one, with the same arguments, unless it already does (CVE-2019-5736).
///
/// # Errors
/// As [`super::selfexe::sealed`]; execveat(2).
pub fn become_protected() -> Result<()> {
    let io = |e: std::io::Error| SysError { call: "read", errno: e.raw_os_error().unwrap_or(libc::EIO) };
    let environ = std::fs::read("/proc/self/environ").map_err(io)?;
    let mut envp = c_strings(&environ)?;
    if envp.iter().any(|e| e.as_bytes() == PROTECTED.as_bytes()) {
        return Ok(());
    }
    envp.extend(CString::new(PROTECTED));
    let argv = c_strings(&std::fs::read("/proc/self/cmdline").map_err(io)?)?;
    let exe = super::selfexe::sealed()?;
    let failed = nix::unistd::execveat(&exe, c"", &argv, &envp, nix::fcntl::AtFlags::AT_EMPTY_PATH);
    Err(SysError { call: "execveat", errno: failed.err().map_or(0, |e| e as i32) })
}

/// The NUL-terminated strings of a /proc file.
fn c_strings(data: &[u8]) -> Result<Vec<CString>> {
    let bad = |_| SysError { call: "execveat", errno: libc::EINVAL };
    let text = data.strip_suffix(&[0]).unwrap_or(data);
    text.split(|b| *b == 0).map(|s| CString::new(s).map_err(bad)).collect()
}

/// Lets go of the stack below the caller's frames: what deeper calls dirtied stays resident for good otherwise (madvise(2),
/// `MADV_DONTNEED`). For a process that is about to sleep for a long time.
#[inline(never)]
pub fn release_stack() {
    const PAGE: usize = 4096;
    /// Far more than our own frame and what a signal handler or the next calls would need at once.
    const KEEP: usize = 4 * PAGE;
    /// How deep the stack has been at most, in the places that call this.
    const DEEPEST: usize = 1 << 20;
    let here = 0u8;
    let end = ((&raw const here).addr() - KEEP) / PAGE * PAGE;
    // SAFETY: the range ends well below our frame, so that nothing in it is live: the stack grows downwards (and where it
    // would not, the range is not mapped). Pages that are not mapped give ENOMEM, after the mapped ones were dealt with.
    unsafe { libc::madvise(std::ptr::with_exposed_provenance_mut(end - DEEPEST), DEEPEST, libc::MADV_DONTNEED) };
}

/// Gives what was freed back to the kernel. (musl's allocator does so by itself.)
pub fn release_heap() {
    #[cfg(target_env = "gnu")]
    // SAFETY: no argument is a pointer (malloc_trim(3)).
    unsafe {
        libc::malloc_trim(0)
    };
}

/// Lets go of the memory that our own code takes up; the kernel maps what is still needed again, page by page, from the
/// file it shares with every other process of ours (madvise(2), `MADV_DONTNEED` on clean file pages).
pub fn release_code() {
    unsafe extern "C" {
        // Set by the linker: the first byte of the image, and the first one behind its code.
        static __executable_start: u8;
        static etext: u8;
    }
    const PAGE: usize = 4096;
    let (start, end) = ((&raw const __executable_start).addr(), (&raw const etext).addr());
    let (start, end) = (start.next_multiple_of(PAGE), end / PAGE * PAGE);
    if start < end {
        // SAFETY: the range holds read-only file pages that nobody has written to; dropping them loses nothing.
        unsafe { libc::madvise(std::ptr::with_exposed_provenance_mut(start), end - start, libc::MADV_DONTNEED) };
    }
}
