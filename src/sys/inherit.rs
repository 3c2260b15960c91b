//! What a program we execute may inherit: file descriptors 0, 1 and 2, and nothing else; and that it ends with us, if need be
//! with all that it started and mounted.
//!
//! Our own descriptors are close-on-exec from birth; this covers those that the caller of our program left open
//! (CVE-2024-21626). Called by `host::command` before each spawn. Must never close anything.

use crate::error::{Error, Result};
use std::os::unix::process::CommandExt;
use std::process::Command;

/// Marks every descriptor from `first` on close-on-exec (close_range(2), Linux 5.11).
///
/// # Errors
/// Those of close_range(2).
pub fn close_on_exec_from(first: u32) -> Result<()> {
    // SAFETY: with CLOSE_RANGE_CLOEXEC the call only sets a flag on descriptors; no descriptor is closed, no memory is touched.
    let n = unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    match n {
        0 => Ok(()),
        _ => Err(Error::from(std::io::Error::last_os_error()).context("close_range")),
    }
}

/// Has the program of `command` take every signal: what we block, to read it by descriptor, it would never get (std leaves the
/// mask as it is).
pub fn take_signals(command: &mut Command) {
    let unblock = || {
        // SAFETY: a live, emptied set and no old one, as is fit between fork and exec.
        unsafe {
            let mut none = std::mem::zeroed();
            done(libc::sigemptyset(&raw mut none))?;
            done(libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut()))
        }
    };
    // SAFETY: the closure allocates nothing and takes no lock.
    unsafe { command.pre_exec(unblock) };
}

/// Has the program of `command` run with these resource limits (setrlimit(2)), of which it cannot get rid.
pub fn limit(command: &mut Command, limits: Vec<(u32, u64)>) {
    let set = move || {
        for (resource, value) in &limits {
            let limit = libc::rlimit { rlim_cur: *value, rlim_max: *value };
            // SAFETY: a number and a live structure, as is fit between fork and exec.
            done(unsafe { libc::setrlimit(*resource as _, &raw const limit) })?;
        }
        Ok(())
    };
    // SAFETY: the closure allocates nothing and takes no lock.
    unsafe { command.pre_exec(set) };
}

/// Has the program of `command` asked to end (SIGTERM) when the thread that starts it ends, however that comes about: nobody
/// would take its result (prctl(2), PR_SET_PDEATHSIG). TERM and not KILL, so that it can clear away what it made.
pub fn end_with_us(command: &mut Command) {
    let us = std::process::id();
    let ask = move || {
        // SAFETY: system calls on numbers only, as is fit between fork and exec.
        let (set, parent) = unsafe { (libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM), libc::getppid()) };
        // We may have ended before it was set; nobody is told then.
        match (set, u32::try_from(parent) == Ok(us)) {
            (0, true) => Ok(()),
            (0, false) => Err(std::io::Error::from_raw_os_error(libc::ESRCH)),
            _ => Err(std::io::Error::last_os_error()),
        }
    };
    // SAFETY: the closure allocates nothing and takes no lock.
    unsafe { command.pre_exec(ask) };
}

/// Has the program of `command` run in a mount and a pid namespace of its own: its mounts never show in the host's table, and
/// with it, or with us, every process that it started is gone, however that comes about (pid_namespaces(7)). It is told
/// nothing: there is nothing to clear away then but files. Needs root.
///
/// The process that the standard library sees is a stand-in outside, which leaves with the program's status, or with 128 and
/// the signal's number.
pub fn contain(command: &mut Command) {
    let us = std::process::id();
    let enter = move || {
        // SAFETY: system calls on numbers and constant strings only, as is fit between fork and exec; the forked child
        // returns to the same code, which goes on to the exec.
        unsafe {
            done(libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL))?;
            if u32::try_from(libc::getppid()) != Ok(us) {
                return Err(std::io::Error::from_raw_os_error(libc::ESRCH));
            }
            done(libc::unshare(libc::CLONE_NEWNS | libc::CLONE_NEWPID))?;
            let private = libc::MS_REC | libc::MS_PRIVATE;
            done(libc::mount(c"none".as_ptr(), c"/".as_ptr(), std::ptr::null(), private, std::ptr::null()))?;
            let mut alive = [0; 2];
            done(libc::pipe2(alive.as_mut_ptr(), libc::O_CLOEXEC))?;
            match libc::fork() {
                -1 => Err(std::io::Error::last_os_error()),
                0 => end_with(alive),
                program => stand_in(program, alive[1]),
            }
        }
    };
    // SAFETY: the closure allocates nothing and takes no lock.
    unsafe { command.pre_exec(enter) };
}

fn done(ret: libc::c_int) -> std::io::Result<()> {
    if ret < 0 { Err(std::io::Error::last_os_error()) } else { Ok(()) }
}

/// Has the program end with its stand-in, which holds the other end of the pipe `alive`: one that has gone before the signal
/// was asked for is seen by that.
fn end_with(alive: [libc::c_int; 2]) -> std::io::Result<()> {
    // SAFETY: numbers and one live structure.
    unsafe {
        done(libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL))?;
        libc::close(alive[1]);
        let mut poll = libc::pollfd { fd: alive[0], events: 0, revents: 0 };
        done(libc::poll(&raw mut poll, 1, 0))?;
        if poll.revents != 0 { Err(std::io::Error::from_raw_os_error(libc::ESRCH)) } else { Ok(()) }
    }
}

/// Waits for the program and leaves with its status. Holds no descriptor but `alive`: the end of the program's streams, and
/// of the report of its exec, must be seen.
fn stand_in(program: libc::pid_t, alive: libc::c_int) -> ! {
    // SAFETY: numbers and a live integer; this process never returns to code that owns a descriptor.
    unsafe {
        libc::dup2(alive, 0);
        libc::syscall(libc::SYS_close_range, 1, u32::MAX, 0);
        let mut status = 0;
        while libc::waitpid(program, &raw mut status, 0) < 0 {
            if std::io::Error::last_os_error().raw_os_error() != Some(libc::EINTR) {
                libc::_exit(125);
            }
        }
        let code = if libc::WIFEXITED(status) { libc::WEXITSTATUS(status) } else { 128 + libc::WTERMSIG(status) };
        libc::_exit(code)
    }
}
