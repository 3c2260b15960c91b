//! The step of an exec that makes its process visible inside: a second child, made by the first.
//!
//! A process can be seen in an instance's `/proc` from its clone on, before it has run one instruction, and everybody there
//! may read its command line, its mounts and its network. So the first child, which stays outside, blanks its memory, lets
//! go of descriptors and joins the namespaces; only then it makes the second one, which our parent gets as its own child.

use super::{Bad, State, errno, ok};
use crate::sys::clone::INTO_CGROUP;
use libc::c_long;

/// Returns in the second child only; the first one says its number on `tell` and ends.
pub(super) fn run(cgroup: i32, tell: i32, state: &State) -> Result<c_long, Bad> {
    // SAFETY: all zero is a valid clone_args; no CLONE_VM, the child is a copy that goes on with the operations. Its exit
    // signal is ours, SIGCHLD, because of CLONE_PARENT (clone(2)).
    unsafe {
        let mut args: libc::clone_args = std::mem::zeroed();
        args.flags = (libc::CLONE_PARENT as u64) | INTO_CGROUP;
        args.cgroup = cgroup as u64;
        let pid = ok(0, libc::syscall(libc::SYS_clone3, &raw mut args, size_of::<libc::clone_args>()))?;
        if pid == 0 {
            return Ok(0);
        }
        // The end of the report must be the second child's exec.
        libc::syscall(libc::SYS_close, state.report);
        let number = (pid as i32).to_ne_bytes();
        let written = libc::syscall(libc::SYS_write, tell, number.as_ptr(), number.len());
        libc::syscall(libc::SYS_exit_group, c_long::from(written != number.len() as c_long));
        Err(Bad(1, errno()))
    }
}
