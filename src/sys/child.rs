//! What runs between clone and exec: an interpreter of prepared operations.
//!
//! The parent prepares everything (C strings, masks, filters); [`run`] only makes raw system calls. It never returns, never
//! allocates, formats, logs, drops or panics, because after clone the child of a threaded program may hold any lock of the
//! allocator or the C library. A failure is one 12-byte record on the report descriptor: step, detail, error number; the
//! parent turns the step into words ([`Op::describe`]). End-of-file on that descriptor means: exec happened.
//!
//! File descriptors that come into being in the child, or arrive from the parent after clone, live in numbered slots.

use super::seccomp::Instruction;
use libc::{c_int, c_long};
use std::ffi::{CStr, CString};

mod exec;
mod label;
mod mount;
mod sibling;
mod supervise;

/// How many slots there are; also the most descriptors that one message carries (unix(7), `SCM_MAX_FD` is 253).
pub const SLOTS: usize = 250;

/// A descriptor known before clone, or the content of a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fd {
    /// This number.
    Num(i32),
    /// What the slot holds.
    Slot(usize),
}

/// A C string array as execve(2) wants it: whole before the clone, as nothing may be allocated after it.
#[derive(Debug)]
pub struct CArray {
    strings: Vec<CString>,
    /// Where they are, which moving the list does not change, and 0.
    addresses: Vec<usize>,
}

impl CArray {
    /// From owned strings.
    pub fn new(strings: Vec<CString>) -> Self {
        let addresses = strings.iter().map(|s| s.as_ptr().expose_provenance()).chain([0]).collect();
        Self { strings, addresses }
    }

    /// The strings.
    pub fn strings(&self) -> &[CString] {
        &self.strings
    }
}

/// What a mount point is made as when it is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Make {
    /// It must exist.
    No,
    /// A folder, with its parents.
    Dir,
    /// An empty file, with its parents.
    File,
}

/// One operation.
#[derive(Debug)]
pub enum Op {
    /// Meeting point: writes one byte to the socket.
    Tell(i32),
    /// Meeting point: reads one byte; end-of-file ends the child silently.
    Await(i32),
    /// Receives `count` descriptors into slots from `first` on.
    Receive { socket: i32, first: usize, count: usize },
    /// setsid(2).
    NewSession,
    /// Makes the terminal the controlling one (`TIOCSCTTY`).
    ControllingTty(Fd),
    /// prctl(2) `PR_SET_PDEATHSIG`.
    DieWithParent,
    /// prctl(2) `PR_SET_DUMPABLE`, 0.
    NotDumpable,
    /// prctl(2) `PR_SET_NO_NEW_PRIVS`.
    NoNewPrivileges,
    /// unshare(2).
    Unshare(c_int),
    /// setns(2).
    Join { fd: Fd, flags: c_int },
    /// setgroups(2), setresgid(2), setresuid(2); `keep` keeps the permitted capabilities over the change.
    Ids { uid: u32, gid: u32, groups: Vec<u32> },
    /// Mount propagation of the whole tree: private.
    PrivateMounts,
    /// A new detached mount into `slot`; attributes as fsmount(2).
    NewFs { kind: CString, params: Vec<(CString, CString)>, attr: u64, slot: usize },
    /// Copies the mount behind `from`, at the relative `path` (empty: itself), detached, into `slot`.
    CopyTree { from: Fd, path: CString, recursive: bool, slot: usize },
    /// mount_setattr(2) on a detached mount.
    SetAttr { fd: Fd, set: u64, clear: u64, propagation: u64, recursive: bool },
    /// Attaches a detached mount at `path` beneath `dir`; symlinks are refused unless `links`, in which case they are
    /// resolved with `dir` as root.
    Attach { fd: Fd, dir: Fd, path: CString, make: Make, links: bool },
    /// Unmounts what is at `path`, absolute, if that is the mount `id`; looked up with `dir` as root, which is that of this
    /// process.
    Detach { dir: Fd, path: CString, id: u64 },
    /// Ends: all is done, and nothing is to be run.
    Done,
    /// Makes the detached mount the root of the namespace and lets go of the old one.
    PivotTo(Fd),
    /// Writes `data` to `path` beneath `dir` (a procfs mount); a failure with `optional` is passed over.
    WriteFile { dir: Fd, path: CString, data: Vec<u8>, optional: bool },
    /// Writes `data` to our own `attr/apparmor/current` (proc_pid_attr(5)) beneath `proc`, a procfs that shows this process.
    Label { proc: Fd, data: Vec<u8> },
    /// sethostname(2).
    Hostname(CString),
    /// Brings the loopback interface up.
    LoopbackUp,
    /// A session keyring of its own (keyctl(2)).
    SessionKeyring,
    /// prlimit(2) on itself.
    Rlimit { resource: c_int, soft: u64, hard: u64 },
    /// Drops capabilities of this mask from the bounding set.
    DropBounding(u64),
    /// Empties the inheritable and the ambient set, whatever the caller had in them (CVE-2022-29162).
    NothingInheritable,
    /// prctl(2) `PR_SET_NAME`: what `ps` shows.
    Name(&'static CStr),
    /// Goes on in a second child of our parent's, made in the cgroup behind `cgroup` and in the pid namespace joined before
    /// ([`super::clone::spawn_second`], which reads `tell`).
    Sibling { cgroup: i32, tell: i32 },
    /// Zeroes these ranges of our own memory: what /proc would show as our arguments and environment
    /// (`process::own_strings`).
    Blank(Vec<(usize, usize)>),
    /// Loads a seccomp filter without setting no_new_privs.
    Seccomp(Vec<Instruction>),
    /// dup2(2).
    Dup { from: Fd, to: i32 },
    /// Marks every descriptor from here on close-on-exec (close_range(2)).
    CloexecFrom(u32),
    /// Closes the descriptor.
    Close(Fd),
    /// Closes every descriptor from 3 on but these and the report's.
    KeepOnly(Vec<i32>),
    /// Clears close-on-exec of the descriptor.
    Inherit(i32),
    /// Default action for every signal, empty mask.
    ResetSignals,
    /// umask(2).
    Umask(u32),
    /// chdir(2), then checks that the place is inside the root; with `or_root`, `/` where it does not exist.
    WorkDir { path: CString, or_root: bool },
    /// execve(2) of the first of `paths` that exists.
    Exec { paths: Vec<CString>, argv: CArray, envp: CArray },
    /// execveat(2) of an open file.
    ExecFd { fd: Fd, argv: CArray, envp: CArray },
    /// Becomes a small init: starts a child that goes on with the operations after this one, reaps, forwards signals, and
    /// leaves with the child's status.
    Supervise,
}

impl Op {
    /// The operation in words, for `Failed to …`.
    pub fn describe(&self) -> String {
        let text = |c: &CString| c.to_string_lossy().into_owned();
        match self {
            Self::Tell(_) | Self::Await(_) | Self::Receive { .. } => "talk to the parent".into(),
            Self::NewSession => "start a session".into(),
            Self::ControllingTty(_) => "take the terminal".into(),
            Self::DieWithParent | Self::NotDumpable | Self::NoNewPrivileges | Self::Blank(_) | Self::Name(_) => {
                "set process attributes".into()
            }
            Self::Unshare(_) => "create a namespace".into(),
            Self::Join { .. } => "join the namespaces".into(),
            Self::Sibling { .. } => "create a process in the instance".into(),
            Self::Ids { uid, gid, .. } => format!("switch to user {uid} and group {gid}"),
            Self::PrivateMounts => "make the mounts private".into(),
            Self::NewFs { kind, .. } => format!("mount {}", text(kind)),
            Self::CopyTree { path, .. } => format!("copy the mount \"{}\"", text(path)),
            Self::SetAttr { .. } => "set mount attributes".into(),
            Self::Attach { path, .. } => format!("mount on \"/{}\"", text(path).trim_start_matches('/')),
            Self::Detach { path, .. } => format!("unmount \"{}\"", text(path)),
            Self::Done => "end".into(),
            Self::PivotTo(_) => "switch to the root file system".into(),
            Self::WriteFile { path, .. } => format!("write \"{}\"", text(path)),
            Self::Label { .. } => "set the AppArmor label".into(),
            Self::Hostname(_) => "set the host name".into(),
            Self::LoopbackUp => "bring the loopback interface up".into(),
            Self::SessionKeyring => "join a session keyring".into(),
            Self::Rlimit { .. } => "set a resource limit".into(),
            Self::DropBounding(_) | Self::NothingInheritable => "set capabilities".into(),
            Self::Seccomp(_) => "load the seccomp filter".into(),
            Self::Dup { .. } | Self::CloexecFrom(_) | Self::Close(_) | Self::KeepOnly(_) | Self::Inherit(_) => {
                "arrange descriptors".into()
            }
            Self::ResetSignals => "reset signals".into(),
            Self::Umask(_) => "set the umask".into(),
            Self::WorkDir { path, .. } => format!("change to \"{}\"", text(path)),
            Self::Exec { paths, .. } => {
                format!("run \"{}\"", paths.first().map(text).unwrap_or_default())
            }
            Self::ExecFd { .. } => "run the program".into(),
            Self::Supervise => "start the command".into(),
        }
    }
}

/// The report of a failure: 12 bytes, native order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Failure {
    /// Index of the operation.
    pub step: u32,
    /// Which call inside it.
    pub detail: u32,
    /// Error number.
    pub errno: i32,
}

impl Failure {
    /// Bytes of one record.
    pub const SIZE: usize = 12;

    /// From the bytes read.
    pub fn from_bytes(b: [u8; Self::SIZE]) -> Self {
        let word = |at: usize| [b[at], b[at + 1], b[at + 2], b[at + 3]];
        Self {
            step: u32::from_ne_bytes(word(0)),
            detail: u32::from_ne_bytes(word(4)),
            errno: i32::from_ne_bytes(word(8)),
        }
    }
}

/// The child's own state: the slots.
struct State {
    slots: [i32; SLOTS],
    report: i32,
}

/// A failed call inside an operation: which one, and its error number.
struct Bad(u32, i32);
type Done = Result<(), Bad>;

fn errno() -> i32 {
    // SAFETY: returns the thread's own errno cell.
    unsafe { *libc::__errno_location() }
}

fn ok(detail: u32, ret: c_long) -> Result<c_long, Bad> {
    if ret < 0 { Err(Bad(detail, errno())) } else { Ok(ret) }
}

impl State {
    fn fd(&self, fd: Fd) -> i32 {
        match fd {
            Fd::Num(n) => n,
            Fd::Slot(s) => match self.slots.get(s) {
                Some(n) => *n,
                None => -1,
            },
        }
    }

    fn put(&mut self, slot: usize, fd: c_long) -> Done {
        match self.slots.get_mut(slot) {
            Some(place) => {
                *place = fd as i32;
                Ok(())
            }
            None => Err(Bad(0, libc::EMFILE)),
        }
    }
}

/// Runs the operations; the last one is an exec. `report` gets the failure record.
///
/// Called only by `clone::spawn` in the fresh child.
pub(super) fn run(ops: &[Op], report: i32) -> ! {
    crate::sys::clone::mark_child();
    let mut state = State { slots: [-1; SLOTS], report };
    run_from(ops, 0, &mut state)
}

fn run_from(ops: &[Op], first: usize, state: &mut State) -> ! {
    let mut at = first;
    while at < ops.len() {
        if let Err(Bad(detail, errno)) = step(&ops[at], ops, at, state) {
            fail(state.report, at, detail, errno);
        }
        at += 1;
    }
    fail(state.report, at, 0, libc::EINVAL)
}

fn fail(report: i32, step: usize, detail: u32, errno: i32) -> ! {
    let mut record = [0u8; Failure::SIZE];
    record[0..4].copy_from_slice(&(step as u32).to_ne_bytes());
    record[4..8].copy_from_slice(&detail.to_ne_bytes());
    record[8..12].copy_from_slice(&errno.to_ne_bytes());
    // SAFETY: writes from a live buffer; then ends without unwinding or destructors.
    unsafe {
        libc::syscall(libc::SYS_write, report, record.as_ptr(), record.len());
        libc::syscall(libc::SYS_exit_group, 127);
        libc::abort()
    }
}

/// One operation. A match over all of them; each arm is one or a few raw calls.
#[allow(clippy::too_many_lines)]
fn step(op: &Op, all: &[Op], at: usize, state: &mut State) -> Done {
    // SAFETY: all calls get numbers, or pointers into `op`, which the parent prepared and which outlives this process's
    // use of it; none of them keeps a pointer.
    unsafe {
        match op {
            Op::Tell(fd) => ok(0, libc::syscall(libc::SYS_write, *fd, c"+".as_ptr(), 1))?,
            Op::Await(fd) => await_byte(*fd)?,
            Op::Receive { socket, first, count } => return receive(state, *socket, *first, *count),
            Op::NewSession => {
                libc::syscall(libc::SYS_setsid);
                0
            }
            Op::ControllingTty(fd) => ok(0, libc::syscall(libc::SYS_ioctl, state.fd(*fd), libc::TIOCSCTTY, 0))?,
            Op::DieWithParent => ok(0, prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as u64))?,
            Op::NotDumpable => ok(0, prctl(libc::PR_SET_DUMPABLE, 0))?,
            Op::NoNewPrivileges => ok(0, prctl(libc::PR_SET_NO_NEW_PRIVS, 1))?,
            Op::Unshare(flags) => ok(0, libc::syscall(libc::SYS_unshare, *flags))?,
            Op::Join { fd, flags } => ok(0, libc::syscall(libc::SYS_setns, state.fd(*fd), *flags))?,
            Op::Ids { uid, gid, groups } => {
                ok(0, libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr()))?;
                ok(1, libc::syscall(libc::SYS_setresgid, *gid, *gid, *gid))?;
                ok(2, libc::syscall(libc::SYS_setresuid, *uid, *uid, *uid))?
            }
            Op::PrivateMounts => mount::private()?,
            Op::NewFs { kind, params, attr, slot } => {
                let fd = mount::new_fs(kind, params, *attr)?;
                return state.put(*slot, fd);
            }
            Op::CopyTree { from, path, recursive, slot } => {
                let fd = mount::copy_tree(state.fd(*from), path, *recursive)?;
                return state.put(*slot, fd);
            }
            Op::SetAttr { fd, set, clear, propagation, recursive } => {
                mount::set_attr(state.fd(*fd), [*set, *clear, *propagation], *recursive)?
            }
            Op::Attach { fd, dir, path, make, links } => {
                mount::attach(state.fd(*fd), state.fd(*dir), path, *make, *links)?
            }
            Op::Detach { dir, path, id } => mount::detach(state.fd(*dir), path, *id)?,
            Op::Done => libc::syscall(libc::SYS_exit_group, 0),
            Op::PivotTo(fd) => mount::pivot_to(state.fd(*fd))?,
            Op::WriteFile { dir, path, data, optional } => {
                let done = mount::write_file(state.fd(*dir), path, data);
                match done {
                    Err(_) if *optional => 0,
                    other => other?,
                }
            }
            Op::Label { proc, data } => label::write(state.fd(*proc), data)?,
            Op::Hostname(name) => {
                let bytes = name.as_bytes();
                ok(0, libc::syscall(libc::SYS_sethostname, bytes.as_ptr(), bytes.len()))?
            }
            Op::LoopbackUp => loopback_up()?,
            Op::SessionKeyring => {
                // A kernel without keyrings is fine.
                libc::syscall(libc::SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, 0, 0, 0, 0)
            }
            Op::Rlimit { resource, soft, hard } => {
                let limit = [*soft, *hard];
                let none = std::ptr::null_mut::<u64>();
                ok(0, libc::syscall(libc::SYS_prlimit64, 0, *resource, limit.as_ptr(), none))?
            }
            Op::DropBounding(mask) => drop_bounding(*mask)?,
            Op::NothingInheritable => nothing_inheritable()?,
            Op::Name(name) => ok(0, prctl(libc::PR_SET_NAME, name.as_ptr() as u64))?,
            Op::Sibling { cgroup, tell } => sibling::run(*cgroup, *tell, state)?,
            Op::Blank(ranges) => blank(ranges),
            Op::Seccomp(filter) => seccomp(filter)?,
            Op::Dup { from, to } => {
                let from = state.fd(*from);
                if from == *to {
                    ok(0, libc::syscall(libc::SYS_fcntl, from, libc::F_SETFD, 0))?
                } else {
                    ok(0, libc::syscall(libc::SYS_dup3, from, *to, 0))?
                }
            }
            Op::CloexecFrom(first) => {
                ok(0, libc::syscall(libc::SYS_close_range, *first, u32::MAX, libc::CLOSE_RANGE_CLOEXEC))?
            }
            Op::Close(fd) => {
                libc::syscall(libc::SYS_close, state.fd(*fd));
                0
            }
            Op::KeepOnly(list) => keep_only(list, state.report)?,
            Op::Inherit(fd) => ok(0, libc::syscall(libc::SYS_fcntl, *fd, libc::F_SETFD, 0))?,
            Op::ResetSignals => reset_signals()?,
            Op::Umask(mask) => libc::syscall(libc::SYS_umask, *mask),
            Op::WorkDir { path, or_root } => exec::work_dir(path, *or_root)?,
            Op::Exec { paths, argv, envp } => exec::exec(paths, argv, envp)?,
            Op::ExecFd { fd, argv, envp } => exec::exec_fd(state.fd(*fd), argv, envp)?,
            Op::Supervise => supervise::run(all, at, state),
        };
    }
    Ok(())
}

unsafe fn prctl(option: c_int, value: u64) -> c_long {
    // SAFETY: only called with options that take a number, or the address of a live string.
    unsafe { libc::syscall(libc::SYS_prctl, option, value, 0, 0, 0) }
}

/// `KEYCTL_JOIN_SESSION_KEYRING` of keyctl(2).
const KEYCTL_JOIN_SESSION_KEYRING: c_long = 1;

/// netdevice(7): SIOCSIFFLAGS on `lo`.
fn loopback_up() -> Result<c_long, Bad> {
    #[repr(C)]
    struct Request {
        name: [u8; 16],
        flags: i16,
        rest: [u8; 22],
    }
    let mut request = Request { name: [0; 16], flags: (libc::IFF_UP | libc::IFF_RUNNING) as i16, rest: [0; 22] };
    request.name[0] = b'l';
    request.name[1] = b'o';
    // SAFETY: a live struct ifreq.
    unsafe {
        let kind = libc::SOCK_DGRAM | libc::SOCK_CLOEXEC;
        let socket = ok(0, libc::syscall(libc::SYS_socket, libc::AF_INET, kind, 0))?;
        let done = ok(1, libc::syscall(libc::SYS_ioctl, socket, libc::SIOCSIFFLAGS, &raw const request));
        libc::syscall(libc::SYS_close, socket);
        done
    }
}

fn await_byte(fd: i32) -> Result<c_long, Bad> {
    let mut byte = 0u8;
    // SAFETY: reads into one live byte; a parent that is gone ends us without a word.
    unsafe {
        loop {
            match libc::syscall(libc::SYS_read, fd, &raw mut byte, 1) {
                1 => return Ok(1),
                0 => {
                    libc::syscall(libc::SYS_exit_group, 127);
                }
                _ if errno() == libc::EINTR => {}
                _ => return Err(Bad(0, errno())),
            }
        }
    }
}

fn receive(state: &mut State, socket: i32, first: usize, count: usize) -> Done {
    const SPACE: usize = 16 + SLOTS * 4 + 8;
    #[repr(align(8))]
    struct Control([u8; SPACE]);
    let mut control = Control([0; SPACE]);
    let mut byte = 0u8;
    let mut iov = libc::iovec { iov_base: (&raw mut byte).cast(), iov_len: 1 };
    // SAFETY: an all-zero msghdr is a valid empty one.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &raw mut iov;
    message.msg_iovlen = 1;
    message.msg_control = control.0.as_mut_ptr().cast();
    message.msg_controllen = SPACE as _;
    // SAFETY: the message points at live buffers of the sizes given; the control data is walked with the kernel's length.
    unsafe {
        let n = loop {
            let n = libc::syscall(libc::SYS_recvmsg, socket, &raw mut message, libc::MSG_CMSG_CLOEXEC);
            if n >= 0 || errno() != libc::EINTR {
                break ok(0, n)?;
            }
        };
        if n == 0 {
            libc::syscall(libc::SYS_exit_group, 127);
        }
        let header = libc::CMSG_FIRSTHDR(&raw const message);
        if header.is_null() || (*header).cmsg_type != libc::SCM_RIGHTS {
            return Err(Bad(1, libc::EPROTO));
        }
        let got = ((*header).cmsg_len as usize - libc::CMSG_LEN(0) as usize) / 4;
        if got != count {
            return Err(Bad(2, libc::EPROTO));
        }
        let data = libc::CMSG_DATA(header).cast::<i32>();
        for i in 0..got {
            state.put(first + i, c_long::from(data.add(i).read_unaligned()))?;
        }
    }
    Ok(())
}

fn drop_bounding(mask: u64) -> Result<c_long, Bad> {
    for cap in 0..64 {
        if mask & (1 << cap) != 0 {
            // SAFETY: numbers only. EINVAL: the kernel does not know this one.
            let ret = unsafe { prctl(libc::PR_CAPBSET_DROP, cap) };
            if ret < 0 && errno() != libc::EINVAL {
                return Err(Bad(0, errno()));
            }
        }
    }
    Ok(0)
}

fn keep_only(list: &[i32], report: i32) -> Result<c_long, Bad> {
    let mut from = 3;
    loop {
        // The next one that stays, if there is any.
        let mut next = if report >= from { report } else { i32::MAX };
        let mut i = 0;
        while i < list.len() {
            if list[i] >= from && list[i] < next {
                next = list[i];
            }
            i += 1;
        }
        if next == i32::MAX {
            return close_between(from, i32::MAX);
        }
        close_between(from, next - 1)?;
        from = next + 1;
    }
}

fn close_between(first: i32, last: i32) -> Result<c_long, Bad> {
    if first > last {
        return Ok(0);
    }
    // SAFETY: nothing of the parent's owns a descriptor in this process, which never returns to its code.
    ok(0, unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) })
}

fn nothing_inheritable() -> Result<c_long, Bad> {
    let header = [super::cred::CAP_VERSION, 0];
    // Effective, permitted, inheritable: the low halves, then the high ones.
    let mut data = [[0u32; 3]; 2];
    // SAFETY: header and data have the layout of capget(2) and capset(2), version 3.
    unsafe {
        prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL as u64);
        ok(0, libc::syscall(libc::SYS_capget, header.as_ptr(), data.as_mut_ptr()))?;
        data[0][2] = 0;
        data[1][2] = 0;
        ok(1, libc::syscall(libc::SYS_capset, header.as_ptr(), data.as_ptr()))
    }
}

fn blank(ranges: &[(usize, usize)]) -> c_long {
    let mut i = 0;
    while i < ranges.len() {
        let (start, end) = ranges[i];
        // SAFETY: `process::own_strings` had the addresses from the kernel: the strings that execve(2) put on our own
        // stack, writable for the life of the process. It is our copy of them, and nothing reads them any more.
        unsafe { std::ptr::write_bytes(start as *mut u8, 0, end.saturating_sub(start)) };
        i += 1;
    }
    0
}

fn seccomp(filter: &[Instruction]) -> Result<c_long, Bad> {
    #[repr(C)]
    struct Program {
        len: u16,
        filter: *const Instruction,
    }
    const SECCOMP_SET_MODE_FILTER: c_long = 1;
    let program = Program { len: filter.len() as u16, filter: filter.as_ptr() };
    // SAFETY: a sock_fprog over a live slice; the kernel copies it.
    ok(0, unsafe { libc::syscall(libc::SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &raw const program) })
}

fn reset_signals() -> Result<c_long, Bad> {
    /// The kernel's struct sigaction, all zero: SIG_DFL, no flags, empty mask.
    #[repr(C)]
    struct Action([u64; 4]);
    let default = Action([0; 4]);
    let empty = 0u64;
    // SAFETY: passes live, zeroed structures of the kernel's sizes; signals that cannot be changed answer EINVAL.
    unsafe {
        for signal in 1..=64 {
            let none = std::ptr::null_mut::<Action>();
            libc::syscall(libc::SYS_rt_sigaction, signal, &raw const default, none, 8);
        }
        let none = std::ptr::null_mut::<u64>();
        ok(0, libc::syscall(libc::SYS_rt_sigprocmask, libc::SIG_SETMASK, &raw const empty, none, 8))
    }
}
