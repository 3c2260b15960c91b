//! Enters a running container: one clone, straight into its cgroup, namespaces joined by pidfd.
//!
//! No lock is held meanwhile. The command line joins only the pid namespace itself (it acts on children alone); all other
//! namespaces are joined in the child, which is not dumpable until its exec (CVE-2016-9962). Into a privileged container
//! only a protected copy of our binary may go (CVE-2019-5736): the caller sees to that before it calls.

use super::ops::{candidates, cstring};
use super::start::explain;
use crate::error::{Context, Error, Result};
use crate::host::cgroup::Group;
use crate::sys::child::{CArray, Fd, Op};
use crate::sys::clone::{Child, Spawn, spawn};
use crate::sys::seccomp::Instruction;
use crate::sys::{ns, pidfd, process};
use rustix::fs::{Mode, OFlags, ResolveFlags};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

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
    pub args: Vec<String>,
    /// The whole environment, `KEY=value`.
    pub env: Vec<String>,
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
    ns::join(target.init, libc::CLONE_NEWPID)
        .map_err(|e| not_running(e.errno).unwrap_or_else(|| Error::from(e).context("Failed joining the namespaces")))?;
    let program = program(target, command, streams)?;
    let how = Spawn { namespaces: 0, cgroup: Some(cgroup.as_fd()) };
    let spawned = match spawn(&how, &program) {
        Err(e) if e.errno == libc::EBUSY => {
            let cgroup = init_group(target)?;
            spawn(&Spawn { namespaces: 0, cgroup: Some(cgroup.as_fd()) }, &program)
        }
        other => other,
    };
    let mut child = spawned.map_err(|e| {
        not_running(e.errno).unwrap_or_else(|| Error::from(e).context("Failed creating a process in the instance"))
    })?;
    match child.wait_exec().context("Failed waiting for the command")? {
        Ok(()) => Ok(child),
        Err(failure) => {
            let exec = matches!(program.get(failure.step as usize), Some(Op::Exec { .. }));
            Err(match failure.errno {
                libc::ENOENT | libc::ENOTDIR if exec => Refused::NotFound,
                libc::EACCES | libc::ENOEXEC | libc::EISDIR if exec => Refused::NotExecutable,
                _ => Refused::Other(explain(&program, failure)),
            })
        }
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

fn program(target: &Target<'_>, command: &Command, streams: &[OwnedFd; 3]) -> Result<Vec<Op>> {
    let mut flags = libc::CLONE_NEWNS | libc::CLONE_NEWUTS | libc::CLONE_NEWIPC | libc::CLONE_NEWNET;
    flags |= libc::CLONE_NEWCGROUP;
    if target.unprivileged {
        flags |= libc::CLONE_NEWUSER;
    }
    // Until its exec the child is seen in the instance's /proc; our arguments and environment are none of its business.
    let mut out = vec![
        Op::NotDumpable,
        Op::Blank(process::own_strings()),
        Op::Join { fd: Fd::Num(target.init.as_raw_fd()), flags },
    ];
    for (i, fd) in streams.iter().enumerate() {
        out.push(Op::Dup { from: Fd::Num(fd.as_raw_fd()), to: i as i32 });
    }
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
    let path = command.env.iter().find_map(|e| e.strip_prefix("PATH=")).unwrap_or(super::ops::DEFAULT_PATH);
    let name = command.args.first().ok_or_else(|| Error::invalid("Missing command"))?;
    let strings = |list: &[String]| list.iter().map(cstring).collect::<Result<Vec<_>>>().map(CArray::new);
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
    pidfd::send_signal(target.init, 0).map_err(|_| Error::conflict("Instance is not running"))?;
    Ok(fd)
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
