//! Runs ZFS's programs. They load the kernel's module themselves.

use crate::error::{Error, Result};
use crate::host::command::{Cmd, Host, Program, Runner, Stdin};
use crate::storage::streams::Reading;
use crate::sys::uevent::Events;
use rustix::pipe::PipeFlags;
use std::fs::File;
use std::io::{ErrorKind, Write};
use std::path::Path;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

const ZFS: Program = Program { name: "zfs", package: "zfsutils-linux" };
const ZPOOL: Program = Program { name: "zpool", package: "zfsutils-linux" };
const WIPEFS: Program = Program { name: "wipefs", package: "util-linux" };

fn run(program: Program, words: &[&str]) -> Result<String> {
    let out = Host::default().run(Cmd::new(program).args(words.iter().copied()))?;
    Ok(String::from_utf8_lossy(&out.stdout).into_owned())
}

/// Runs `zfs <words>`. Names that we make begin with no dash.
///
/// # Errors
/// It is missing; what it says.
pub(super) fn zfs(words: &[&str]) -> Result<String> {
    run(ZFS, words)
}

/// The same; what is busy is waited for, some seconds: whoever looks at a new device, and the mounts of an instance that has just
/// ended, go of themselves, and nothing tells when.
///
/// # Errors
/// As [`zfs`].
pub(super) fn patiently(words: &[&str]) -> Result<String> {
    for _ in 1..TRIES {
        match zfs(words) {
            Err(e) if e.to_string().contains("busy") => wait(),
            other => return other,
        }
    }
    zfs(words)
}

/// How often something that is busy is asked to go.
pub(super) const TRIES: u64 = 20;

/// A tenth of a second: nothing tells when the kernel has let go.
pub(super) fn wait() {
    let time = rustix::fs::Timespec { tv_sec: 0, tv_nsec: TENTH.subsec_nanos().into() };
    let _ = rustix::event::poll(&mut [], Some(&time));
}

const TENTH: Duration = Duration::from_millis(100);
/// How long a device takes at most, as a rule, to come, go or be renamed; a busy machine may take longer.
const DEVICE: Duration = Duration::from_secs(5);

/// Somebody who waits for a device. The kernel tells of it, or, to a container, nobody.
pub(super) struct Waiting {
    events: Option<Events>,
    began: Instant,
    most: Duration,
}

impl Waiting {
    /// Begins, before what is waited for is asked for; `times`: how many times as long as a device usually takes at most.
    pub fn start(times: u32) -> Self {
        Self { events: Events::new().ok(), began: Instant::now(), most: DEVICE * times }
    }

    /// It takes longer than is usual.
    pub fn is_late(&self) -> bool {
        self.began.elapsed() > DEVICE
    }

    /// Waits until there may be something new; false: that took too long.
    pub fn goes_on(&self) -> bool {
        match &self.events {
            Some(events) => drop(events.wait(TENTH)),
            None => wait(),
        }
        self.began.elapsed() < self.most
    }
}

/// Runs `zpool <words>`.
///
/// # Errors
/// As [`zfs`].
pub(super) fn zpool(words: &[&str]) -> Result<String> {
    run(ZPOOL, words)
}

/// What a program says of something that is not there.
pub(super) fn is_missing(e: &Error) -> bool {
    let said = e.to_string();
    ["does not exist", "no such pool", "could not find any snapshots"].iter().any(|text| said.contains(text))
}

/// None if what was asked for is not there.
///
/// # Errors
/// All others.
pub(super) fn if_there(said: Result<String>) -> Result<Option<String>> {
    match said {
        Err(e) if is_missing(&e) => Ok(None),
        other => other.map(Some),
    }
}

/// Values of properties of a dataset, in the order asked for; `-` for none, numbers in bytes. None: it is not there.
///
/// # Errors
/// As [`zfs`].
pub(super) fn get(properties: &str, dataset: &str) -> Result<Option<Vec<String>>> {
    let said = if_there(zfs(&["get", "-Hp", "-o", "value", properties, dataset]))?;
    Ok(said.map(|text| text.lines().map(String::from).collect()))
}

/// Runs `zfs send <words>`, whose output `body` reads.
///
/// # Errors
/// As [`zfs`]; those of `body`.
pub(super) fn send(words: &[String], body: Reading<'_>) -> Result<()> {
    let (output, input) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
    let cmd = Cmd { stdout: Some(input), ..Cmd::new(ZFS).arg("send").args(words) };
    let sender = std::thread::spawn(move || Host::default().run(cmd));
    let mut output = File::from(output);
    let read = body(&mut output);
    // It need not go on if nobody reads.
    drop(output);
    match (read, joined(sender)) {
        (Err(e), _) => Err(e),
        (Ok(()), sent) => sent,
    }
}

type Running = JoinHandle<Result<crate::host::command::Output>>;

fn joined(running: Running) -> Result<()> {
    running.join().map_err(|_| Error::internal("A thread ended early"))?.map(drop)
}

/// A `zfs receive` that is fed; when this goes, it has ended.
#[derive(Debug)]
pub(super) struct Receiving {
    input: Option<File>,
    running: Option<Running>,
}

impl Receiving {
    /// Runs `zfs receive <words>`.
    ///
    /// # Errors
    /// No pipe is to be had.
    pub fn start(words: &[&str]) -> Result<Self> {
        let (output, input) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
        let cmd = Cmd::new(ZFS).arg("receive").args(words.iter().copied()).stdin(Stdin::File(output));
        let running = std::thread::spawn(move || Host::default().run(cmd));
        Ok(Self { input: Some(File::from(input)), running: Some(running) })
    }

    /// The next bytes.
    ///
    /// # Errors
    /// What it says; Invalid: it has read to the stream's end.
    pub fn feed(&mut self, piece: &[u8]) -> Result<()> {
        let Some(input) = &mut self.input else { return Err(Error::internal("It was fed to its end")) };
        match input.write_all(piece) {
            Err(e) if e.kind() == ErrorKind::BrokenPipe => {
                self.finish()?;
                Err(Error::invalid("The stream goes on behind its end"))
            }
            other => Ok(other?),
        }
    }

    /// There is no more; it has received all. Repeated: nothing happens.
    ///
    /// # Errors
    /// What it says; Unsupported: the pool has no form for it.
    pub fn finish(&mut self) -> Result<()> {
        self.input = None;
        let ended = self.running.take().map_or(Ok(()), joined);
        ended.map_err(|e| match e.to_string() {
            said if said.contains("unsupported feature") || said.contains("must be upgraded") => {
                Error::unsupported("The ZFS pool lacks a feature that the stream uses").caused_by(e)
            }
            _ => e,
        })
    }
}

impl Drop for Receiving {
    fn drop(&mut self) {
        let _ = self.finish();
    }
}

/// Takes off a device what says that it holds something.
///
/// # Errors
/// As [`zfs`].
pub(super) fn wipe(device: &Path) -> Result<()> {
    Host::default().run(Cmd::new(WIPEFS).args(["-q", "-a", "--"]).arg(device)).map(drop)
}
