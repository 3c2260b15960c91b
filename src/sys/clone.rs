//! clone3(2): a child in new namespaces and a given cgroup, with a pidfd, that runs prepared operations.
//!
//! [`spawn`] returns only in the parent. Dropping a [`Child`] kills it: a start that fails half-way leaves nothing behind.

use super::child::{self, Failure, Op};
use super::{Result, SysError, check, from_rustix, pidfd};
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};

/// `CLONE_INTO_CGROUP` of clone3(2): beyond the 32 bits the C constant has.
pub(super) const INTO_CGROUP: u64 = 0x2_0000_0000;

/// True in a child between clone and exec; the allocator of test builds looks at it.
static IN_CHILD: AtomicBool = AtomicBool::new(false);

pub(super) fn mark_child() {
    IN_CHILD.store(true, Ordering::Relaxed);
}

/// True between clone and exec.
pub fn in_child() -> bool {
    IN_CHILD.load(Ordering::Relaxed)
}

/// How a child is made.
#[derive(Debug, Default)]
pub struct Spawn<'a> {
    /// New namespaces, `CLONE_NEW*`.
    pub namespaces: i32,
    /// The cgroup v2 folder it starts in.
    pub cgroup: Option<BorrowedFd<'a>>,
}

/// A child that was started.
#[derive(Debug)]
pub struct Child {
    pid: i32,
    pidfd: OwnedFd,
    report: Option<OwnedFd>,
    detached: bool,
}

/// Starts a child that runs `ops`. Descriptors of the parent reach the operations by number; all are close-on-exec there.
///
/// # Errors
/// As clone3(2).
pub fn spawn(how: &Spawn<'_>, ops: &[Op]) -> Result<Child> {
    let (read, write) = from_rustix("pipe", rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC))?;
    let mut fd: i32 = -1;
    // SAFETY: all zero is a valid clone_args.
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = (libc::CLONE_PIDFD as u64) | u64::from(how.namespaces as u32);
    args.pidfd = (&raw mut fd) as u64;
    args.exit_signal = libc::SIGCHLD as u64;
    if let Some(cgroup) = how.cgroup {
        args.flags |= INTO_CGROUP;
        args.cgroup = cgroup.as_raw_fd() as u64;
    }
    // SAFETY: no CLONE_VM: the child is a copy and goes straight into the interpreter, which never returns and makes raw
    // system calls only, whatever locks other threads of the parent held.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw mut args, size_of::<libc::clone_args>()) };
    if pid == 0 {
        child::run(ops, write.as_raw_fd());
    }
    let pid = check("clone3", pid)? as i32;
    // SAFETY: the kernel stored a new descriptor of ours here.
    let pidfd = unsafe { OwnedFd::from_raw_fd(fd) };
    Ok(Child { pid, pidfd, report: Some(read), detached: false })
}

/// As [`spawn`], for operations that hold one [`Op::Sibling`], whose `tell` is the other end of `told`: the handle is that of
/// the second child. `Ok(Err)` is an operation of the first child that failed.
///
/// # Errors
/// As clone3(2); ESRCH if the first child was killed.
pub fn spawn_second(ops: &[Op], tell: OwnedFd, told: OwnedFd) -> Result<std::result::Result<Child, Failure>> {
    let mut first = spawn(&Spawn::default(), ops)?;
    drop(tell);
    let mut number = [0u8; 4];
    let Ok(()) = std::fs::File::from(told).read_exact(&mut number) else {
        let silent = SysError { call: "clone3", errno: libc::ESRCH };
        return first.wait_exec()?.map_or_else(|failure| Ok(Err(failure)), |()| Err(silent));
    };
    let pid = i32::from_ne_bytes(number);
    // Our own child: the number is its own until we have waited for it.
    let pidfd = pidfd::open(pid)?;
    let report = first.report.take();
    first.wait()?;
    Ok(Ok(Child { pid, pidfd, report, detached: false }))
}

impl Child {
    /// Its process id, in our pid namespace.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Its descriptor.
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// Waits until it has exec'd. An operation that failed comes back as its record.
    ///
    /// # Errors
    /// As read(2).
    pub fn wait_exec(&mut self) -> Result<std::result::Result<(), Failure>> {
        let Some(report) = self.report.take() else { return Ok(Ok(())) };
        let mut file = std::fs::File::from(report);
        let mut record = [0u8; Failure::SIZE];
        match file.read(&mut record) {
            Ok(0) => Ok(Ok(())),
            Ok(Failure::SIZE) => Ok(Err(Failure::from_bytes(record))),
            Ok(_) => Err(SysError { call: "read", errno: libc::EPROTO }),
            Err(e) => Err(SysError { call: "read", errno: e.raw_os_error().unwrap_or(libc::EIO) }),
        }
    }

    /// The report descriptor, for callers that wait on several things; end-of-file means exec happened.
    pub fn report(&self) -> Option<BorrowedFd<'_>> {
        self.report.as_ref().map(AsFd::as_fd)
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// As waitid(2).
    pub fn wait(mut self) -> Result<pidfd::Exit> {
        let exit = pidfd::wait(self.pidfd.as_fd());
        self.detached = exit.is_ok();
        exit
    }

    /// Lets it live on without us.
    ///
    /// # Errors
    /// No descriptor is left for the handle.
    pub fn detach(mut self) -> Result<(i32, OwnedFd)> {
        self.detached = true;
        let copy = self.pidfd.try_clone();
        let io = |e: std::io::Error| SysError { call: "fcntl", errno: e.raw_os_error().unwrap_or(libc::EMFILE) };
        Ok((self.pid, copy.map_err(io)?))
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if !self.detached {
            // One whose security module lets no signal through is not waited for: it is left to its cgroup's end.
            if pidfd::kill(self.pidfd.as_fd()).is_ok() {
                let _ = pidfd::wait(self.pidfd.as_fd());
            }
        }
    }
}
