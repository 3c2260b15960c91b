//! Enters a running container: namespaces joined by pidfd, a clone straight into its cgroup.
//!
//! No lock is held meanwhile. A process in the container's pid namespace is seen there from its clone on, so a first child
//! makes it, outside, with nothing of the host's left to show ([`Op::Sibling`]); neither is dumpable until the exec
//! (CVE-2016-9962). Into a privileged container only a protected copy of our binary may go (CVE-2019-5736): the caller sees
//! to that before it calls. Root in there may read the memory of every process it sees; that is what privileged means.

use super::ops::{candidates, cstring};
use super::start::explain;
use crate::error::{Context, Error, Result};
use crate::host::cgroup::Group;
use crate::sys::child::{CArray, Failure, Fd, Op};
use crate::sys::clone::{Child, spawn_second};
use crate::sys::seccomp::Instruction;
use crate::sys::{pidfd, process};
use rustix::fs::{Mode, OFlags, ResolveFlags};
use std::ffi::OsString;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

/// A running container, as the run record names it.
#[derive(Debug)]
pub struct Target<'a> {
    /// Descriptor of its process 1, checked against the record.
    pub init: BorrowedFd<'a>,
    /// Process id of process 1.
    pub init_pid: i32,
    /// Its cgroup.
    pub cgroup: &'a Path,
    /// It has a user namespace.
    pub unprivileged: bool,
}

/// What is run.
#[derive(Debug)]
pub struct Command {
    /// Program and arguments.
    pub args: Vec<OsString>,
    /// The whole environment, `KEY=value`.
    pub env: Vec<OsString>,
    /// User in the container.
    pub uid: u32,
    /// Group in the container.
    pub gid: u32,
    /// Folder in the container.
    pub cwd: String,
    /// Where that does not exist, `/`.
    pub cwd_or_root: bool,
    /// The standard streams are one terminal, which becomes the controlling one.
    pub terminal: bool,
    /// Capabilities to drop from the bounding set.
    pub drop: u64,
    /// Seccomp programs.
    pub seccomp: Vec<Vec<Instruction>>,
    /// The AppArmor label it runs with; none: ours.
    pub label: Option<String>,
}

/// How an exec failed before the program ran.
#[derive(Debug)]
pub enum Refused {
    /// The program is not there.
    NotFound,
    /// It is there and cannot be run.
    NotExecutable,
    /// Something else.
    Other(Error),
}

impl From<Error> for Refused {
    fn from(e: Error) -> Self {
        Self::Other(e)
    }
}

/// Runs `command` in the container with `streams` as its standard streams; returns once the program runs.
///
/// # Errors
/// [`Refused`].
pub fn attach(target: &Target<'_>, command: &Command, streams: &[OwnedFd; 3]) -> Result<Child, Refused> {
    // The container's payload group itself may hold no process once its init has made groups below it and turned
    // controllers on; then the init's own group is the place.
    let group = Group::at(target.cgroup.to_path_buf());
    let cgroup = group.open()?;
    let spawned = match spawn(target, command, streams, &cgroup) {
        Err(Refused::Other(e)) if e.errno() == Some(libc::EBUSY) => {
            spawn(target, command, streams, &init_group(target)?)
        }
        other => other,
    };
    let (mut child, program) = spawned?;
    match child.wait_exec().context("Failed waiting for the command")? {
        Ok(()) => Ok(child),
        Err(failure) => Err(refused(&program, failure)),
    }
}

/// The process in `cgroup`, still on its way to its exec, and its operations.
fn spawn(
    target: &Target<'_>,
    command: &Command,
    streams: &[OwnedFd; 3],
    cgroup: &OwnedFd,
) -> Result<(Child, Vec<Op>), Refused> {
    let pipe = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC);
    let (told, tell) = pipe.map_err(Error::from).context("Failed creating a pipe")?;
    let proc = command.label.as_ref().map(|_| host_proc()).transpose()?;
    let handed =
        Handed { cgroup: cgroup.as_raw_fd(), tell: tell.as_raw_fd(), proc: proc.as_ref().map(AsRawFd::as_raw_fd) };
    let program = program(target, command, streams, handed)?;
    match spawn_second(&program, tell, told).context("Failed creating a process in the instance")? {
        Ok(child) => Ok((child, program)),
        Err(failure) => Err(refused(&program, failure)),
    }
}

/// Descriptors of ours that the child works with.
struct Handed {
    cgroup: i32,
    tell: i32,
    proc: Option<i32>,
}

/// The host's procfs.
fn host_proc() -> Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open("/proc", flags, Mode::empty()).map_err(Error::from).context("Failed opening \"/proc\"")
}

fn refused(program: &[Op], failure: Failure) -> Refused {
    let step = program.get(failure.step as usize);
    match (step, failure.errno) {
        (Some(Op::Exec { .. }), libc::ENOENT | libc::ENOTDIR) => Refused::NotFound,
        (Some(Op::Exec { .. }), libc::EACCES | libc::ENOEXEC | libc::EISDIR) => Refused::NotExecutable,
        (Some(Op::Join { .. } | Op::Sibling { .. }), errno) => {
            Refused::Other(not_running(errno).unwrap_or_else(|| explain(program, failure)))
        }
        _ => Refused::Other(explain(program, failure)),
    }
}

fn not_running(errno: i32) -> Option<Error> {
    (errno == libc::ESRCH || errno == libc::ENOMEM).then(|| Error::conflict("Instance is not running"))
}

/// The group process 1 lives in now: below the payload's, found through its own view.
fn init_group(target: &Target<'_>) -> Result<OwnedFd> {
    let text = std::fs::read_to_string(format!("/proc/{}/cgroup", target.init_pid))
        .context("Failed reading the instance's cgroup")?;
    let own = text.lines().find_map(|l| l.strip_prefix("0::")).unwrap_or("/");
    let mount = crate::host::cgroup::mount_point()?;
    let group = Group::at(mount.join(own.trim_start_matches('/')));
    // What a guest does inside its part cannot lead out of it.
    if !group.path().starts_with(target.cgroup) {
        return Err(Error::failed("The instance's first process is outside its cgroup"));
    }
    group.open()
}

fn program(
    target: &Target<'_>,
    command: &Command,
    streams: &[OwnedFd; 3],
    Handed { cgroup, tell, proc }: Handed,
) -> Result<Vec<Op>> {
    let init = target.init.as_raw_fd();
    let outside = libc::CLONE_NEWNS | libc::CLONE_NEWUTS | libc::CLONE_NEWIPC | libc::CLONE_NEWNET | libc::CLONE_NEWPID;
    // Who has left the host's cgroup namespace may not be allowed to clone across its border (`nsdelegate`); who has left
    // its user namespace neither.
    let mut inside = libc::CLONE_NEWCGROUP;
    if target.unprivileged {
        inside |= libc::CLONE_NEWUSER;
    }
    let mut out = vec![Op::NotDumpable, Op::Blank(process::own_strings()), Op::Name(c"stapes")];
    for (i, fd) in streams.iter().enumerate() {
        out.push(Op::Dup { from: Fd::Num(fd.as_raw_fd()), to: i as i32 });
    }
    out.push(Op::KeepOnly([init, cgroup, tell].into_iter().chain(proc).collect()));
    out.push(Op::Join { fd: Fd::Num(init), flags: outside });
    // Out here the file is the host's, and no handle of the host's procfs goes in. Not at the exec: that would take the wish
    // to die with the parent away.
    if let (Some(proc), Some(label)) = (proc, &command.label) {
        out.push(Op::Label { proc: Fd::Num(proc), data: format!("changeprofile {label}").into_bytes() });
        out.push(Op::Close(Fd::Num(proc)));
    }
    // From here on the instance sees it.
    out.push(Op::Sibling { cgroup, tell });
    out.extend([cgroup, tell].map(|fd| Op::Close(Fd::Num(fd))));
    out.push(Op::Join { fd: Fd::Num(init), flags: inside });
    out.push(Op::CloexecFrom(3));
    out.push(Op::NewSession);
    if command.terminal {
        out.push(Op::ControllingTty(Fd::Num(0)));
    }
    out.push(Op::SessionKeyring);
    out.push(Op::ResetSignals);
    out.push(Op::Umask(0o022));
    out.push(Op::DropBounding(command.drop));
    out.push(Op::NothingInheritable);
    out.extend(command.seccomp.iter().cloned().map(Op::Seccomp));
    out.push(Op::Ids { uid: command.uid, gid: command.gid, groups: Vec::new() });
    out.push(Op::NotDumpable);
    // The loss of the command line kills the command, as the loss of the control connection does in Incus.
    out.push(Op::DieWithParent);
    out.push(Op::WorkDir { path: cstring(&command.cwd)?, or_root: command.cwd_or_root });
    let path = command.env.iter().find_map(|e| e.to_str()?.strip_prefix("PATH=")).unwrap_or(super::ops::DEFAULT_PATH);
    let name = command.args.first().ok_or_else(|| Error::invalid("Missing command"))?;
    let one = |text: &OsString| cstring(text.as_bytes());
    let strings = |list: &[OsString]| list.iter().map(one).collect::<Result<Vec<_>>>().map(CArray::new);
    out.push(Op::Exec { paths: candidates(name, path)?, argv: strings(&command.args)?, envp: strings(&command.env)? });
    Ok(out)
}

/// The root of a running container's file system, for safe look-ups beneath it.
///
/// # Errors
/// ENOENT if it has ended.
pub fn root(target: &Target<'_>) -> Result<OwnedFd> {
    let path = format!("/proc/{}/root", target.init_pid);
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let fd = rustix::fs::open(path, flags, Mode::empty()).map_err(|_| Error::conflict("Instance is not running"))?;
    // The number could have been given to another process meanwhile: the descriptor still names ours or nothing.
    match pidfd::wait_ended(target.init, Some(Duration::ZERO))? {
        true => Err(Error::conflict("Instance is not running")),
        false => Ok(fd),
    }
}

/// A terminal from the container's own devpts: (master, slave). The slave belongs to the host ids given.
///
/// # Errors
/// [`crate::error::Kind::Failed`] if `/dev/pts` is not a devpts there.
pub fn terminal(target: &Target<'_>, uid: u32, gid: u32) -> Result<(OwnedFd, OwnedFd)> {
    let root = root(target)?;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_SYMLINKS;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let pts = rustix::fs::openat2(&root, c"dev/pts", flags, Mode::empty(), resolve)
        .map_err(Error::from)
        .context("Failed opening the instance's /dev/pts")?;
    let (master, slave, _) =
        crate::sys::pty::open(pts.as_fd(), uid, gid).context("Failed opening a terminal in the instance")?;
    Ok((master, slave))
}
