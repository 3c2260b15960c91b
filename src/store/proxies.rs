//! Processes of proxies: one file each in the run folder of their instance, `proxies/<device>`. The process holds its lock for
//! as long as it lives, so whether one is left is seen without knowing its number.

use super::Store;
use super::dir::Dir;
use super::layout::rel;
use super::{dir, lock};
use crate::base::names::{InstanceName, ProjectName};
use crate::error::{Context, Error, Result};
use crate::host::proc;
use crate::sys::pidfd;
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const FOLDER: &str = "proxies";
/// How long an ending process may take.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long it is left alone in between.
const PAUSE: Duration = Duration::from_millis(2);
/// Longest text of a file, bytes.
const NOTE_MAX: u64 = 1 << 20;

/// Makes the file of a proxy and locks it; `run_dir`: its instance's.
///
/// # Errors
/// Busy: a process of an earlier run still has it. An I/O error.
pub fn begin(run_dir: &Path, device: &str) -> Result<File> {
    let fail = || format!("Failed recording proxy \"{device}\"");
    let file = begin_at(&run_dir.join(FOLDER).join(file_name(device))).with_context(fail)?;
    file.ok_or_else(|| Error::busy(format!("The process of proxy \"{device}\" is still running")))
}

/// The same for any process of ours with a file of its own; none if one has it.
///
/// # Errors
/// An I/O error.
pub fn begin_at(path: &Path) -> Result<Option<File>> {
    let folder = path.parent().unwrap_or(path);
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let mut options = OpenOptions::new();
    options.create(true).truncate(false).read(true).write(true);
    let file = options.mode(0o600).custom_flags(libc::O_NOFOLLOW | libc::O_CLOEXEC).open(path)?;
    Ok(lock::try_lock(&file, true)?.then_some(file))
}

/// Does the process of a file live?
///
/// # Errors
/// The file cannot be read.
pub fn lives(path: &Path) -> Result<bool> {
    if path.exists() { Ok(!lock::try_lock(&open(path)?, true)?) } else { Ok(false) }
}

fn file_name(device: &str) -> String {
    device.replace('%', "%25").replace('/', "%2f")
}

/// Notes in a proxy's file that this process is it, the socket on the host that goes with it, and what it carries, in one
/// line.
///
/// # Errors
/// An I/O error.
pub fn note(mut file: &File, socket: Option<&Path>, what: &str) -> Result<()> {
    let (pid, started) = (std::process::id(), proc::own_start_time()?);
    let socket = socket.map(|p| p.display().to_string()).unwrap_or_default();
    file.set_len(0)?;
    file.rewind()?;
    file.write_all(format!("{pid} {started}\n{socket}\n{what}\n").as_bytes()).context("Failed recording a proxy")
}

impl Store {
    /// Ends what is left of the proxies of an instance that has ended, and waits for it. They end by themselves with the
    /// instance; one that does not is killed.
    ///
    /// # Errors
    /// One does not end.
    pub fn end_proxies(&self, p: &ProjectName, n: &InstanceName) -> Result<()> {
        let Some(run) = &self.run else { return Ok(()) };
        let folder = rel::run_dir(p, n).join(FOLDER);
        let Some((_, names)) = dir::list(run, &folder)? else { return Ok(()) };
        let failed = names.iter().map(|name| end_file(run, &folder, name)).filter_map(Result::err).collect();
        Error::join(failed).map_or(Ok(()), Err)
    }

    /// What the process of a proxy carries, as it noted it; none if there is no process.
    ///
    /// # Errors
    /// Its file cannot be read.
    pub fn proxy(&self, p: &ProjectName, n: &InstanceName, device: &str) -> Result<Option<String>> {
        let Some(run) = &self.run else { return Ok(None) };
        let at = rel::run_dir(p, n).join(FOLDER).join(file_name(device));
        if !run.exists(&at)? {
            return Ok(None);
        }
        let mut file = open(&run.path(at))?;
        if lock::try_lock(&file, true)? {
            return Ok(None);
        }
        Ok(Some(read(&mut file)?.lines().nth(2).unwrap_or_default().to_string()))
    }

    /// Ends the process of a proxy, and waits for it; none being there is fine.
    ///
    /// # Errors
    /// As [`Store::end_proxies`].
    pub fn end_proxy(&self, p: &ProjectName, n: &InstanceName, device: &str) -> Result<()> {
        let Some(run) = &self.run else { return Ok(()) };
        let (folder, name) = (rel::run_dir(p, n).join(FOLDER), file_name(device));
        if run.exists(folder.join(&name))? { end_file(run, &folder, &name) } else { Ok(()) }
    }
}

fn end_file(run: &Dir, folder: &Path, name: &str) -> Result<()> {
    let fail = || format!("Failed ending proxy \"{name}\"");
    end(&run.path(folder.join(name))).with_context(fail)?;
    run.unlink(folder.join(name)).map(drop).with_context(fail)
}

fn open(path: &Path) -> Result<File> {
    Ok(OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_CLOEXEC).open(path)?)
}

fn read(file: &mut File) -> Result<String> {
    let mut text = String::new();
    file.rewind()?;
    file.take(NOTE_MAX).read_to_string(&mut text)?;
    Ok(text)
}

/// The process that a proxy's file names, if it lives.
fn process_of(text: &str) -> Result<Option<OwnedFd>> {
    let numbers = text.lines().next().and_then(|line| line.split_once(' ')).map(|(a, b)| (a.parse(), b.parse()));
    match numbers {
        Some((Ok(pid), Ok(started))) => proc::open(pid, started),
        _ => Ok(None),
    }
}

/// Ends the process of a file, which is there, and waits for it.
///
/// # Errors
/// It does not end; an I/O error.
pub fn end(path: &Path) -> Result<()> {
    let mut file = open(path)?;
    let until = Instant::now() + PATIENCE;
    // One that was begun a moment ago notes its number in the next.
    while lock::acquire(file.try_clone()?, true, PAUSE)?.is_none() {
        if let Some(process) = process_of(&read(&mut file)?)? {
            pidfd::kill(process.as_fd())?;
            pidfd::wait_ended(process.as_fd(), Some(PATIENCE))?;
        }
        if Instant::now() > until {
            return Err(Error::failed("Its process does not end"));
        }
    }
    let text = read(&mut file)?;
    let mut lines = text.lines().skip(1);
    match lines.next().filter(|socket| !socket.is_empty()) {
        Some(socket) => remove_dead_socket(&PathBuf::from(socket)),
        None => Ok(()),
    }
}

/// Removes a socket that nobody listens at any more; anything else stays.
///
/// # Errors
/// It cannot be removed.
pub fn remove_dead_socket(path: &Path) -> Result<()> {
    let is_socket = std::fs::symlink_metadata(path).is_ok_and(|m| m.file_type().is_socket());
    let refused = |e: std::io::Error| e.kind() == std::io::ErrorKind::ConnectionRefused;
    if is_socket && std::os::unix::net::UnixStream::connect(path).is_err_and(refused) {
        std::fs::remove_file(path).with_context(|| format!("Failed removing \"{}\"", path.display()))?;
    }
    Ok(())
}
