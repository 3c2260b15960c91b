//! Runs outside programs: typed arguments, never a shell; the only place with `Command::new`.
//!
//! Called by everything that needs a standard tool of the field (nft, dnsmasq, mmdebstrap, mksquashfs, qemu-img, …). A child gets
//! an empty environment but for [`Env`], no descriptor of ours, its own process group (killed when the run ends early), optional
//! resource limits and a deadline. What it says on stderr is kept for the error message. Tests hand in [`Fake`]. Must never pass a
//! user's string as an option: callers put `--` before operands, and arguments that start with a dash are theirs to refuse.

use crate::error::{Context, Error, Result};
use crate::sys::inherit;
use nix::poll::{PollFd, PollFlags, PollTimeout};
use rustix::process::{Pid, PidfdFlags, Signal};
use std::ffi::{OsStr, OsString};
use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

pub use fake::{Answer, Call, Fake};

/// A program and the package that brings it, for the message when it is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Program {
    /// Name looked up in [`Env::path`], or an absolute path.
    pub name: &'static str,
    /// Debian's package name, the hint of the error.
    pub package: &'static str,
}

/// The environment a child sees; the front fills it, nothing below reads the environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Env {
    /// `PATH`: searched for programs and handed on.
    pub path: OsString,
    /// `LANG`; tools are run in "C.UTF-8" so that messages can be matched.
    pub lang: OsString,
    /// `TMPDIR`, if it is set.
    pub tmpdir: Option<PathBuf>,
    /// Proxy variables (`http_proxy`, `https_proxy`, `no_proxy`, …), name and value.
    pub proxies: Vec<(OsString, OsString)>,
}

impl Default for Env {
    fn default() -> Self {
        Self {
            path: "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".into(),
            lang: "C.UTF-8".into(),
            tmpdir: None,
            proxies: Vec::new(),
        }
    }
}

/// What a child reads from.
#[derive(Debug, Default)]
pub enum Stdin {
    /// `/dev/null`.
    #[default]
    Null,
    /// These bytes, then end of file.
    Bytes(Vec<u8>),
    /// An open file of ours.
    File(OwnedFd),
}

/// Resource limits of a child (setrlimit(2)); `None` leaves ours.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Limits {
    /// Address space, bytes.
    pub address_space: Option<u64>,
    /// Processor time, seconds.
    pub cpu_seconds: Option<u64>,
    /// Largest file it may write, bytes.
    pub file_size: Option<u64>,
    /// Open files.
    pub open_files: Option<u64>,
}

/// One run of a program.
#[derive(Debug)]
pub struct Cmd {
    /// What to run.
    pub program: Program,
    /// Its arguments.
    pub args: Vec<OsString>,
    /// Further environment variables.
    pub env: Vec<(OsString, OsString)>,
    /// Working directory; `/` unless given.
    pub dir: PathBuf,
    /// Standard input.
    pub stdin: Stdin,
    /// Where its standard output goes, if not to us.
    pub stdout: Option<OwnedFd>,
    /// Resource limits.
    pub limits: Limits,
    /// Deadline for the whole run.
    pub timeout: Option<Duration>,
    /// Bytes of standard output that are kept; more is an error.
    pub max_output: usize,
    /// Its mounts and all its processes end with it ([`inherit::contain`]); for root.
    pub contained: bool,
    /// Run as this user and group, without rights of ours; not together with `contained`.
    pub user: Option<u32>,
    /// An open file of ours that it finds as `/proc/self/fd/` and our number for it, whoever may reach its path.
    pub kept: Option<OwnedFd>,
}

impl Cmd {
    /// A run of `program` without arguments, with an empty input and up to 16 MiB of output.
    pub fn new(program: Program) -> Self {
        Self {
            program,
            args: Vec::new(),
            env: Vec::new(),
            dir: PathBuf::from("/"),
            stdin: Stdin::Null,
            stdout: None,
            limits: Limits::default(),
            timeout: None,
            max_output: 16 << 20,
            contained: false,
            user: None,
            kept: None,
        }
    }

    /// Adds one argument.
    #[must_use]
    pub fn arg(mut self, arg: impl Into<OsString>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<A: Into<OsString>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// Sets the input.
    #[must_use]
    pub fn stdin(mut self, stdin: Stdin) -> Self {
        self.stdin = stdin;
        self
    }

    /// Sets the resource limits.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Keeps its mounts and processes to itself.
    #[must_use]
    pub fn contained(mut self) -> Self {
        self.contained = true;
        self
    }

    /// Sets the deadline.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }
}

/// Which stream a line came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Out,
    /// Standard error.
    Err,
}

/// Called for each complete line (lossy UTF-8, carriage returns end lines too). An error stops the program.
pub type OnLine<'a> = &'a mut dyn FnMut(Stream, &str) -> Result<()>;

/// What a program left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// How it ended.
    pub status: ExitStatus,
    /// Standard output; empty if a line callback took it.
    pub stdout: Vec<u8>,
    /// The last 8 KiB of standard error.
    pub stderr: Vec<u8>,
}

impl Output {
    /// Itself, or an error that quotes the last lines of standard error.
    ///
    /// # Errors
    /// The program did not exit with 0.
    pub fn success(self, program: Program) -> Result<Self> {
        if self.status.success() {
            return Ok(self);
        }
        let how = match (self.status.code(), self.status.signal()) {
            (Some(code), _) => format!("exit status {code}"),
            (None, Some(signal)) => format!("signal {signal}"),
            (None, None) => "unknown status".to_string(),
        };
        let said = last_lines(&self.stderr);
        let tail = if said.is_empty() { String::new() } else { format!(": {said}") };
        Err(Error::failed(format!("Failed running \"{}\": {how}{tail}", program.name)))
    }
}

/// The last three lines, joined.
fn last_lines(stderr: &[u8]) -> String {
    let text = String::from_utf8_lossy(stderr);
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|l| !l.is_empty()).collect();
    lines[lines.len().saturating_sub(3)..].join("; ").chars().filter(|c| !c.is_control()).collect()
}

/// Runs programs: the host, or a [`Fake`].
pub trait Runner {
    /// Where the program is, or the "missing program" error that names the package.
    ///
    /// # Errors
    /// `Unsupported` if it is not installed.
    fn find(&self, program: Program) -> Result<PathBuf>;

    /// Runs it to its end; any exit status is an `Ok`.
    ///
    /// # Errors
    /// It is missing, could not be started, ran past its deadline, said too much, or `on_line` failed. It is dead then.
    fn run_with(&self, cmd: Cmd, on_line: Option<OnLine<'_>>) -> Result<Output>;

    /// Runs it and wants exit status 0.
    ///
    /// # Errors
    /// As [`Runner::run_with`]; another exit status.
    fn run(&self, cmd: Cmd) -> Result<Output> {
        let program = cmd.program;
        self.run_with(cmd, None)?.success(program)
    }
}

/// The real runner.
#[derive(Debug, Clone, Default)]
pub struct Host {
    /// Environment of the children.
    pub env: Env,
}

impl Runner for Host {
    fn find(&self, program: Program) -> Result<PathBuf> {
        let runnable =
            |p: &Path| std::fs::metadata(p).is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0);
        let found = if program.name.starts_with('/') {
            Some(PathBuf::from(program.name)).filter(|p| runnable(p))
        } else {
            std::env::split_paths(&self.env.path)
                .filter(|dir| dir.is_absolute())
                .map(|dir| dir.join(program.name))
                .find(|p| runnable(p))
        };
        found.ok_or_else(|| {
            Error::unsupported(format!("The program \"{}\" is missing", program.name))
                .hint(format!("install the package \"{}\"", program.package))
        })
    }

    fn run_with(&self, cmd: Cmd, on_line: Option<OnLine<'_>>) -> Result<Output> {
        let path = self.find(cmd.program)?;
        let name = cmd.program.name;
        #[expect(clippy::disallowed_methods, reason = "this is the one place")]
        let mut command = Command::new(path);
        command.args(&cmd.args).current_dir(&cmd.dir).process_group(0);
        command.env_clear().env("PATH", &self.env.path).env("LANG", &self.env.lang);
        command.envs(self.env.tmpdir.as_ref().map(|d| (OsStr::new("TMPDIR"), d)));
        command.envs(self.env.proxies.iter().map(|(k, v)| (k, v))).envs(cmd.env.iter().map(|(k, v)| (k, v)));
        let mut input = Vec::new();
        command.stdin(match cmd.stdin {
            Stdin::Null => Stdio::null(),
            Stdin::File(fd) => Stdio::from(fd),
            Stdin::Bytes(bytes) => {
                input = bytes;
                Stdio::piped()
            }
        });
        command.stdout(cmd.stdout.map_or_else(Stdio::piped, Stdio::from)).stderr(Stdio::piped());
        inherit::close_on_exec_from(3)?;
        if let Some(kept) = &cmd.kept {
            rustix::io::fcntl_setfd(kept, rustix::io::FdFlags::empty()).map_err(std::io::Error::from)?;
        }
        if let Some(id) = cmd.user {
            command.uid(id).gid(id);
        }
        inherit::take_signals(&mut command);
        set_limits(&mut command, cmd.limits);
        match cmd.contained {
            true => inherit::contain(&mut command),
            false => inherit::end_with_us(&mut command),
        }
        let child = command.spawn().with_context(|| format!("Failed starting \"{name}\""))?;
        let guard = Guard { child, reaped: false };
        let deadline = cmd.timeout.map(|t| Instant::now() + t);
        let mut pump = Pump { input, written: 0, deadline, max_output: cmd.max_output, on_line };
        pump.run(guard).with_context(|| format!("Failed running \"{name}\""))
    }
}

fn set_limits(command: &mut Command, limits: Limits) {
    let wanted = [
        (libc::RLIMIT_AS, limits.address_space),
        (libc::RLIMIT_CPU, limits.cpu_seconds),
        (libc::RLIMIT_FSIZE, limits.file_size),
        (libc::RLIMIT_NOFILE, limits.open_files),
        (libc::RLIMIT_CORE, Some(0)),
    ];
    inherit::limit(command, wanted.into_iter().filter_map(|(resource, value)| Some((resource as _, value?))).collect());
}

/// A child that is killed, with its process group, and reaped when this goes away.
struct Guard {
    child: Child,
    reaped: bool,
}

impl Guard {
    fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    fn wait(&mut self) -> Result<ExitStatus> {
        let status = self.child.wait().context("wait")?;
        self.reaped = true;
        Ok(status)
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if !self.reaped {
            // Not reaped: the pid, and with it the group's id, cannot have been given to another.
            let _ = rustix::process::kill_process_group(self.pid(), Signal::KILL);
            let _ = self.child.wait();
        }
    }
}

/// Moves bytes between a child and us until it has ended.
struct Pump<'a> {
    input: Vec<u8>,
    written: usize,
    deadline: Option<Instant>,
    max_output: usize,
    on_line: Option<OnLine<'a>>,
}

/// What is left of standard error for messages.
const STDERR_TAIL: usize = 8 << 10;
/// A line longer than this is reported in pieces.
const LINE_MAX: usize = 16 << 10;

struct Sink {
    stream: Stream,
    kept: Vec<u8>,
    line: Vec<u8>,
}

impl Pump<'_> {
    fn run(&mut self, mut guard: Guard) -> Result<Output> {
        let mut stdin = guard.child.stdin.take();
        let (mut stdout, mut stderr) = (guard.child.stdout.take(), guard.child.stderr.take());
        for fd in [stdin.as_ref().map(AsFd::as_fd), stdout.as_ref().map(AsFd::as_fd), stderr.as_ref().map(AsFd::as_fd)]
        {
            fd.map_or(Ok(()), |fd| rustix::io::ioctl_fionbio(fd, true)).map_err(std::io::Error::from)?;
        }
        let pidfd = rustix::process::pidfd_open(guard.pid(), PidfdFlags::empty()).map_err(std::io::Error::from)?;
        let mut out = Sink { stream: Stream::Out, kept: Vec::new(), line: Vec::new() };
        let mut err = Sink { stream: Stream::Err, kept: Vec::new(), line: Vec::new() };
        loop {
            let ended = self.wait(&pidfd, stdin.as_ref(), stdout.as_ref(), stderr.as_ref())?;
            self.feed(&mut stdin)?;
            self.take(&mut stdout, &mut out)?;
            self.take(&mut stderr, &mut err)?;
            // What a daemon it left behind may still write is not waited for.
            if ended {
                break;
            }
        }
        self.last_line(&mut out)?;
        self.last_line(&mut err)?;
        Ok(Output { status: guard.wait()?, stdout: out.kept, stderr: err.kept })
    }

    /// Blocks until something can be moved; true when the child has ended.
    fn wait(
        &self,
        pidfd: &OwnedFd,
        stdin: Option<&impl AsFd>,
        stdout: Option<&impl AsFd>,
        stderr: Option<&impl AsFd>,
    ) -> Result<bool> {
        let mut fds = vec![PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)];
        fds.extend(stdin.map(|fd| PollFd::new(fd.as_fd(), PollFlags::POLLOUT)));
        fds.extend(stdout.map(|fd| PollFd::new(fd.as_fd(), PollFlags::POLLIN)));
        fds.extend(stderr.map(|fd| PollFd::new(fd.as_fd(), PollFlags::POLLIN)));
        let timeout = match self.deadline {
            None => PollTimeout::NONE,
            Some(at) => {
                let left = at.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    return Err(Error::failed("It did not end in time"));
                }
                // Rounded up, so that the loop does not spin in the last millisecond.
                let millis = left.as_millis().saturating_add(1).min(i32::MAX as u128);
                PollTimeout::try_from(millis).unwrap_or(PollTimeout::MAX)
            }
        };
        match nix::poll::poll(&mut fds, timeout) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(e) => return Err(Error::from(e).context("poll")),
        }
        Ok(fds[0].any().unwrap_or(false))
    }

    fn feed(&mut self, stdin: &mut Option<impl Write>) -> Result<()> {
        while let Some(pipe) = stdin {
            match pipe.write(&self.input[self.written..]) {
                Err(e) if e.kind() == ErrorKind::WouldBlock => break,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                // It does not want the rest.
                Err(e) if e.kind() == ErrorKind::BrokenPipe => *stdin = None,
                Err(e) => return Err(Error::from(e).context("write")),
                Ok(n) => self.written += n,
            }
            if self.written == self.input.len() {
                *stdin = None;
            }
        }
        Ok(())
    }

    fn take(&mut self, pipe: &mut Option<impl Read>, sink: &mut Sink) -> Result<()> {
        let mut buffer = [0; 16 << 10];
        while let Some(from) = pipe {
            match from.read(&mut buffer) {
                Ok(0) => *pipe = None,
                Ok(n) => self.keep(&buffer[..n], sink)?,
                Err(e) if e.kind() == ErrorKind::WouldBlock => break,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(Error::from(e).context("read")),
            }
        }
        Ok(())
    }

    fn keep(&mut self, data: &[u8], sink: &mut Sink) -> Result<()> {
        if let Some(on_line) = &mut self.on_line {
            for byte in data {
                if matches!(byte, b'\n' | b'\r') || sink.line.len() >= LINE_MAX {
                    let line = std::mem::take(&mut sink.line);
                    if !line.is_empty() {
                        on_line(sink.stream, &String::from_utf8_lossy(&line))?;
                    }
                }
                if !matches!(byte, b'\n' | b'\r') {
                    sink.line.push(*byte);
                }
            }
        }
        match sink.stream {
            Stream::Out if self.on_line.is_some() => {}
            Stream::Out => {
                sink.kept.extend_from_slice(data);
                if sink.kept.len() > self.max_output {
                    return Err(Error::failed(format!("It wrote more than {} bytes", self.max_output)));
                }
            }
            Stream::Err => {
                sink.kept.extend_from_slice(data);
                let extra = sink.kept.len().saturating_sub(STDERR_TAIL);
                sink.kept.drain(..extra);
            }
        }
        Ok(())
    }

    fn last_line(&mut self, sink: &mut Sink) -> Result<()> {
        match &mut self.on_line {
            Some(on_line) if !sink.line.is_empty() => on_line(sink.stream, &String::from_utf8_lossy(&sink.line)),
            _ => Ok(()),
        }
    }
}

#[path = "command_fake.rs"]
mod fake;

#[cfg(test)]
#[path = "command_tests.rs"]
mod tests;
