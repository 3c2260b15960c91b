//! The small init of `run` and of application containers: one child, reaped like all orphans, signals forwarded.
//!
//! It stays in the interpreter instead of running a program of its own: no exec, and, being not dumpable and of the host's
//! user namespace, out of reach of the instance's ptrace(2).

use super::{Bad, Op, State, errno, ok, run_from};
use libc::c_long;

const CLD_EXITED: i32 = 1;

/// Starts a child that goes on with the operations after `at`; never returns in the parent, and not in the child either.
pub(super) fn run(all: &[Op], at: usize, state: &mut State) -> ! {
    let everything = u64::MAX;
    // SAFETY: raw calls with live buffers of the kernel's sizes; fork-like clone with no stack of its own.
    unsafe {
        let none = std::ptr::null_mut::<u64>();
        libc::syscall(libc::SYS_rt_sigprocmask, libc::SIG_SETMASK, &raw const everything, none, 8);
        let child = libc::syscall(libc::SYS_clone, libc::SIGCHLD, 0, 0, 0, 0);
        if child < 0 {
            super::fail(state.report, at, 0, errno());
        }
        if child == 0 {
            // The mask survives exec(2): the command must not be deaf.
            let nothing = 0u64;
            libc::syscall(libc::SYS_rt_sigprocmask, libc::SIG_SETMASK, &raw const nothing, none, 8);
            run_from(all, at + 1, state);
        }
        // The report's end-of-file must mean the child's exec, and nothing of the host's stays open here.
        libc::syscall(libc::SYS_close_range, 0, u32::MAX, 0);
        supervise(child)
    }
}

fn supervise(child: c_long) -> ! {
    let everything = u64::MAX;
    loop {
        let mut info = [0u32; 32];
        // SAFETY: rt_sigtimedwait(2) fills a siginfo_t of 128 bytes; the set is the kernel's 8 bytes.
        let signal = unsafe {
            libc::syscall(
                libc::SYS_rt_sigtimedwait,
                &raw const everything,
                info.as_mut_ptr(),
                std::ptr::null::<u8>(),
                8,
            )
        };
        if signal == c_long::from(libc::SIGCHLD) {
            if let Some(status) = reap(child) {
                // SAFETY: ends the process.
                unsafe { libc::syscall(libc::SYS_exit_group, status) };
            }
        } else if signal > 0 && signal != c_long::from(libc::SIGPIPE) {
            // SAFETY: numbers only. To the child's group if it leads one, else to the child.
            unsafe {
                if libc::syscall(libc::SYS_kill, -child, signal) < 0 {
                    libc::syscall(libc::SYS_kill, child, signal);
                }
            }
        }
    }
}

/// Reaps all that ended; the status to leave with once the child is among them.
fn reap(child: c_long) -> Option<i32> {
    let mut leave = None;
    loop {
        let mut info = [0i32; 32];
        let none = std::ptr::null_mut::<u8>();
        const P_ALL: c_long = 0;
        let flags = libc::WEXITED | libc::WNOHANG;
        // SAFETY: waitid(2) fills a siginfo_t of 128 bytes.
        let ret = unsafe { libc::syscall(libc::SYS_waitid, P_ALL, 0, info.as_mut_ptr(), flags, none) };
        // siginfo_t: signo, errno, code, padding, pid, uid, status.
        let (code, pid, status) = (info[2], info[4], info[6]);
        if ok(0, ret).map_err(|Bad(..)| ()).is_err() || pid == 0 {
            return leave;
        }
        if c_long::from(pid) == child {
            leave = Some(if code == CLD_EXITED { status } else { 128 + status });
        }
    }
}
