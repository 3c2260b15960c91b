//! `exec`: a command in a running instance. No lock is held: the run record names the processes, the kernel is asked.
//!
//! Streams: the command gets pipes of ours and the caller's streams are relayed, so that the instance never holds a handle
//! of the host's: not of its files and terminals, and not of its pipes either, which could be reopened the other way round
//! and so written to where the caller's shell reads. Only the null device goes in as it is, and only where it cannot be
//! changed.

use super::relay::{Ended, Pump, Relay};
use super::{boot, confine, idmap, load, settings};
use crate::base::names::{InstanceName, ProjectName};
use crate::base::time;
use crate::container::attach::{self, Command, Refused, Target};
use crate::container::{build, seccomp};
use crate::error::{Context, Error, Result};
use crate::host::lsm::{self, AppArmor};
use crate::host::proc;
use crate::model::instance::Config;
use crate::store::Store;
use crate::store::runfile::RunFile;
use crate::sys::{pidfd, pty, selfexe};
use nix::sys::signalfd::SignalFd;
use rustix::fs::{FileType, OFlags};
use std::ffi::OsString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

/// The caller's streams.
#[derive(Debug)]
pub struct Streams {
    /// Standard input.
    pub input: OwnedFd,
    /// Standard output.
    pub output: OwnedFd,
    /// Standard error.
    pub error: OwnedFd,
}

/// A command and its surroundings in an instance.
#[derive(Debug)]
pub struct Process {
    /// Program and arguments.
    pub command: Vec<OsString>,
    /// Environment over the instance's.
    pub env: Vec<(OsString, OsString)>,
    /// User id in the instance.
    pub user: u32,
    /// Group id in the instance.
    pub group: u32,
    /// Folder; none is the user's home.
    pub cwd: Option<String>,
    /// Run on a terminal; the value of `TERM`.
    pub terminal: Option<String>,
    /// The caller's streams.
    pub streams: Streams,
}

/// What is wanted.
#[derive(Debug)]
pub struct Request {
    /// Project of the instance.
    pub project: ProjectName,
    /// The instance.
    pub instance: InstanceName,
    /// The command.
    pub process: Process,
}

/// Runs it to its end; the status as a shell gives it. `signals` are passed on.
///
/// # Errors
/// Not found, not running, frozen; the command's own failures are statuses (126, 127 with a word on the error stream).
pub fn exec(store: Store, request: Request, signals: Option<&SignalFd>) -> Result<i32> {
    let (project, name) = (&request.project, &request.instance);
    let running = load::need_running(&store, project, name)?;
    let loaded = load::load(&store, project, name)?;
    // A command may run for days: nothing of the state stays open meanwhile.
    drop(store);
    let config = &loaded.expanded.config;
    let init = running.file.open_init()?.ok_or_else(not_running)?;
    if crate::host::cgroup::Group::at(running.file.cgroup.clone()).frozen() {
        return Err(Error::conflict("Instance is frozen"));
    }
    // An instance that ended on our way in fails at many places; there is one word for it.
    let status = enter(&running.file, init.as_fd(), config, request.process, signals);
    status.map_err(|e| confine::explain(config, or_ended(init.as_fd(), e)))
}

fn not_running() -> Error {
    Error::conflict("Instance is not running")
}

/// One that is dying has lost its namespaces a moment before its descriptor says so.
fn or_ended(init: BorrowedFd<'_>, e: Error) -> Error {
    if pidfd::wait_ended(init, Some(Duration::from_millis(200))).unwrap_or(false) { not_running() } else { e }
}

fn enter(
    running: &RunFile,
    init: BorrowedFd<'_>,
    config: &Config,
    process: Process,
    signals: Option<&SignalFd>,
) -> Result<i32> {
    // What it was started with, whatever the configuration says by now.
    let map = proc::id_map(running.init_pid)?;
    let target = Target { init, init_pid: running.init_pid, cgroup: &running.cgroup, unprivileged: map.is_some() };
    let age = time::now().duration_since(running.started_at);
    boot::wait_for_systemd(&target, Duration::try_from(age).unwrap_or_default())?;
    let host = |id: u32| map.as_ref().map_or(Some(id), |m| m.to_host_uid(id)).unwrap_or(id);
    let (session, theirs) = Session::open(&target, &process, host(process.user), host(5))?.split();
    let theirs = theirs.ok_or_else(|| Error::internal("The command has no streams"))?;
    let label = label_of(running.init_pid, init)?;
    let dropped = if map.is_none() { build::privileged_drop(label.as_deref()) } else { 0 };
    let command = Command { label, drop: dropped, ..command(&process, config, running.init_pid)? };
    let spawned = attach::attach(&target, &command, &theirs);
    drop(theirs);
    let child = match spawned {
        Ok(child) => child,
        Err(Refused::Other(e)) => return Err(e),
        Err(refused) => return Ok(refusal(&refused, config, &process.streams.error)),
    };
    session.relay_until(child.pidfd(), None, signals, process.streams, None)?;
    Ok(child.wait()?.shell_status())
}

/// The AppArmor label of process 1, which everything in the instance shares. Where we only inherit one, the command does too.
fn label_of(pid: i32, init: BorrowedFd<'_>) -> Result<Option<String>> {
    if lsm::apparmor() != AppArmor::Managed {
        return Ok(None);
    }
    let label = lsm::apparmor::label_of(pid)?;
    // It was the instance's if that still lives.
    if pidfd::wait_ended(init, Some(Duration::ZERO))? {
        return Err(not_running());
    }
    Ok(label)
}

/// True if a process on its way into the instance needs a protected copy of our binary: the front re-executes itself then.
///
/// # Errors
/// The run record is damaged; the id map cannot be read.
pub fn needs_protection(store: &Store, project: &ProjectName, name: &InstanceName) -> Result<bool> {
    let Some(running) = load::running(store, project, name)? else { return Ok(false) };
    let Some(init) = running.file.open_init()? else { return Ok(false) };
    let map = proc::id_map(running.file.init_pid).map_err(|e| or_ended(init.as_fd(), e))?;
    Ok(idmap::reaches(map.as_ref(), selfexe::owner()?))
}

/// Incus's words and statuses.
fn refusal(refused: &Refused, config: &Config, error: &OwnedFd) -> i32 {
    match refused {
        Refused::NotFound => not_found(error),
        _ => not_executable(config, error),
    }
}

pub(super) fn not_found(error: &OwnedFd) -> i32 {
    let _ = rustix::io::write(error, b"Error: Command not found\n");
    127
}

pub(super) fn not_executable(config: &Config, error: &OwnedFd) -> i32 {
    let remark = confine::remark(config).map(|text| format!(": {text}")).unwrap_or_default();
    let _ = rustix::io::write(error, format!("Error: Command not executable{remark}\n").as_bytes());
    126
}

fn command(request: &Process, config: &Config, init: i32) -> Result<Command> {
    let term = request.terminal.as_deref().filter(|t| !t.is_empty());
    let home = if request.user == 0 { "/root" } else { "/" };
    let path = settings::search_path(Some(init));
    let policy = seccomp::to_spec(&settings::policy(config)?)?;
    Ok(Command {
        args: request.command.clone(),
        env: settings::command_environment(config, &request.env, request.user, (path, term)),
        uid: request.user,
        gid: request.group,
        cwd_or_root: request.cwd.is_none(),
        cwd: request.cwd.clone().unwrap_or_else(|| home.to_string()),
        terminal: request.terminal.is_some(),
        drop: 0,
        label: None,
        seccomp: policy.as_ref().map(seccomp::programs_of).transpose()?.unwrap_or_default(),
    })
}

/// The streams between the caller and the command.
pub(super) struct Session {
    theirs: Option<[OwnedFd; 3]>,
    master: Option<OwnedFd>,
    /// Our ends of the pipes for streams that are relayed.
    ours: [Option<OwnedFd>; 3],
}

impl Session {
    fn open(target: &Target<'_>, request: &Process, uid: u32, gid: u32) -> Result<Self> {
        if request.terminal.is_none() {
            return Self::plain(&request.streams, false, target.unprivileged.then_some(uid));
        }
        let (master, slave) = attach::terminal(target, uid, gid)?;
        let theirs = Some([slave.try_clone()?, slave.try_clone()?, slave]);
        Ok(Self { theirs, master: Some(master), ours: [None, None, None] })
    }

    /// Streams without a terminal of the instance; with `terminal` none at all yet: the start makes it. `owner`: host id
    /// that may reopen the pipes; none for a privileged instance.
    pub(super) fn plain(s: &Streams, terminal: bool, owner: Option<u32>) -> Result<Self> {
        if terminal {
            return Ok(Self { theirs: None, master: None, ours: [None, None, None] });
        }
        let (input, to) = stream(s.input.as_fd(), true, owner)?;
        let (output, from) = stream(s.output.as_fd(), false, owner)?;
        let (error, from_error) = stream(s.error.as_fd(), false, owner)?;
        Ok(Self { theirs: Some([input, output, error]), master: None, ours: [to, from, from_error] })
    }

    /// Takes the command's ends out.
    pub(super) fn split(mut self) -> (Self, Option<[OwnedFd; 3]>) {
        let theirs = self.theirs.take();
        (self, theirs)
    }

    /// Relays until the process ends, or until `deadline`. `master`: the terminal, if the start made it.
    ///
    /// # Errors
    /// As poll(2).
    pub(super) fn relay_until(
        self,
        process: BorrowedFd<'_>,
        master: Option<OwnedFd>,
        signals: Option<&SignalFd>,
        streams: Streams,
        deadline: Option<Instant>,
    ) -> Result<Ended> {
        let master = master.or(self.master);
        drop(self.theirs);
        let mut pumps = Vec::new();
        let mut raw = None;
        let terminal = streams.input.try_clone()?;
        if let Some(master) = &master {
            raw = pty::raw(terminal.as_fd()).ok();
            // A command that does not read must not keep us from showing what it writes.
            rustix::fs::fcntl_setfl(master, OFlags::RDWR | OFlags::NONBLOCK)?;
            pumps.push(Pump::new(streams.input, master.try_clone()?, true));
            pumps.push(Pump::new(master.try_clone()?, streams.output, false));
        } else {
            let [input, output, error] = self.ours;
            pumps.extend(input.map(|to| Pump::new(streams.input, to, true)));
            pumps.extend(output.map(|from| Pump::new(from, streams.output, false)));
            pumps.extend(error.map(|from| Pump::new(from, streams.error, false)));
        }
        let window = master.as_ref().map(|m| (terminal.as_fd(), m.as_fd()));
        let ended = Relay { process, pumps, signals, window, deadline }.run();
        drop(raw);
        ended
    }
}

/// One stream: what the command gets, and our end of the pipe if it is relayed. `owner`: host id that may reopen it.
fn stream(ours: BorrowedFd<'_>, input: bool, owner: Option<u32>) -> Result<(OwnedFd, Option<OwnedFd>)> {
    if is_null(ours)? && owner.is_some() {
        // Never given away with fchown(2): the node is the host's.
        return Ok((ours.try_clone_to_owned()?, None));
    }
    let pipe = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC);
    let (read, write) = pipe.map_err(Error::from).context("Failed creating a pipe")?;
    let (theirs, mine) = if input { (read, write) } else { (write, read) };
    if input {
        rustix::fs::fcntl_setfl(&mine, OFlags::WRONLY | OFlags::NONBLOCK)?;
    }
    if let Some(uid) = owner {
        // So that /dev/stdout can be reopened inside.
        let _ = rustix::fs::fchown(&theirs, Some(rustix::fs::Uid::from_raw(uid)), None);
    }
    Ok((theirs, Some(mine)))
}

/// The null device is everybody's; but a privileged root could change the host's node through the handle.
fn is_null(fd: BorrowedFd<'_>) -> Result<bool> {
    let stat = rustix::fs::fstat(fd)?;
    let character = FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice;
    Ok(character && stat.st_rdev == libc::makedev(1, 3))
}
