//! Processes of proxies: one file each in the run folder of their instance, `proxies/<device>`. The process holds its lock for
//! as long as it lives, so whether one is left is seen without knowing its number.

use super::Store;
use super::layout::rel;
use super::{dir, lock};
use crate::base::names::{InstanceName, ProjectName};
use crate::error::{Context, Error, Result};
use crate::host::proc;
use crate::sys::pidfd;
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

const FOLDER: &str = "proxies";
/// How long an ending process may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// Makes the file of a proxy and locks it; `run_dir`: its instance's.
///
/// # Errors
/// Busy: a process of an earlier run still has it. An I/O error.
pub fn begin(run_dir: &Path, device: &str) -> Result<File> {
    let fail = || format!("Failed recording proxy \"{device}\"");
    let folder = run_dir.join(FOLDER);
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder).with_context(fail)?;
    let name = device.replace('%', "%25").replace('/', "%2f");
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW | libc::O_CLOEXEC)
        .open(folder.join(name))
        .with_context(fail)?;
    match lock::try_lock(&file, true).with_context(fail)? {
        true => Ok(file),
        false => Err(Error::busy(format!("The process of proxy \"{device}\" is still running"))),
    }
}

/// Notes in a proxy's file that this process is it, and the socket on the host that goes with it.
///
/// # Errors
/// An I/O error.
pub fn note(mut file: &File, socket: Option<&Path>) -> Result<()> {
    let (pid, started) = (std::process::id(), proc::own_start_time()?);
    let socket = socket.map(|p| p.display().to_string()).unwrap_or_default();
    file.set_len(0)?;
    file.rewind()?;
    file.write_all(format!("{pid} {started}\n{socket}\n").as_bytes()).context("Failed recording a proxy")
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
        let one = |name: &String| {
            end(&run.path(folder.join(name))).with_context(|| format!("Failed ending proxy \"{name}\""))?;
            run.unlink(folder.join(name)).map(drop).with_context(|| format!("Failed ending proxy \"{name}\""))
        };
        let failed = names.iter().map(one).filter_map(Result::err).collect();
        Error::join(failed).map_or(Ok(()), Err)
    }
}

fn end(path: &Path) -> Result<()> {
    let mut file = OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_CLOEXEC).open(path)?;
    let mut text = String::new();
    Read::by_ref(&mut file).take(8192).read_to_string(&mut text)?;
    let mut lines = text.lines();
    let numbers = lines.next().and_then(|line| line.split_once(' '));
    if !lock::try_lock(&file, true)? {
        if let Some((Ok(pid), Ok(started))) = numbers.map(|(a, b)| (a.parse(), b.parse()))
            && let Some(process) = proc::open(pid, started)?
        {
            pidfd::kill(process.as_fd())?;
        }
        if lock::acquire(file, true, PATIENCE)?.is_none() {
            return Err(Error::failed("Its process does not end"));
        }
    }
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
