//! What is logged of an instance: `monitor.log` and `console.log` in a folder of its own.
//!
//! Folder and files are made when there is something to write: most instances of a CI job never say a word, and each file is an
//! inode that a launch would wait for. The monitor's standard error is nothing at all; what it has to say goes through [`Monitor::say`].

use super::{load, undo};
use crate::base::names::{InstanceName, ProjectName};
use crate::error::{Context, Result};
use crate::store::layout::Layout;
use crate::store::{Access, Store};
use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Name of the monitor's log in the instance's log folder; its proxies write there, too.
pub const MONITOR: &str = "monitor.log";
/// Name of the console's log.
pub const CONSOLE: &str = "console.log";
/// Name of the console's older log.
pub const CONSOLE_OLD: &str = "console.log.old";
/// Most of a log that is read, bytes.
const MAX: u64 = 4 << 20;

/// Opens the log `name` in `folder` for appending; both are made.
///
/// # Errors
/// As open(2), mkdir(2).
pub fn open(folder: &Path, name: &str) -> Result<File> {
    let path = folder.join(name);
    let mut options = File::options();
    options.create(true).append(true).mode(0o600).custom_flags(libc::O_NOFOLLOW | libc::O_CLOEXEC);
    let opened = match options.open(&path) {
        Err(e) if e.kind() == ErrorKind::NotFound => {
            let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
            made.and_then(|()| options.open(&path))
        }
        other => other,
    };
    opened.with_context(|| format!("Failed opening \"{}\"", path.display()))
}

/// The monitor's log of one instance.
#[derive(Debug, Clone)]
pub struct Monitor {
    /// Where everything is.
    pub layout: Layout,
    /// Project of the instance.
    pub project: ProjectName,
    /// Its name.
    pub name: InstanceName,
}

impl Monitor {
    /// Adds a line, if that can be done. Needs no lock: the end of an instance is written down when others may have deleted
    /// it already. Its record goes first then, so whoever finds none afterwards takes the log away again.
    pub fn say(&self, line: &str) {
        let folder = self.layout.instance_log_dir(&self.project, &self.name);
        append(&folder, line);
        let there = || undo::open(&self.layout, Access::Read)?.instance_exists(&self.project, &self.name);
        if there().is_ok_and(|there| !there) {
            let _ = std::fs::remove_dir_all(folder);
        }
    }
}

fn append(folder: &Path, line: &str) {
    let _ = open(folder, MONITOR).map(|mut log| writeln!(log, "{line}"));
}

/// A panic of this process goes to the monitor's log in `folder`.
pub fn keep_panics(folder: PathBuf) {
    std::panic::set_hook(Box::new(move |panic| append(&folder, &panic.to_string())));
}

/// The console's log: the older half and the newer one.
///
/// # Errors
/// Not found; the log cannot be read.
pub fn console(store: &Store, project: &ProjectName, name: &InstanceName) -> Result<Vec<u8>> {
    read(store, project, name, &[CONSOLE_OLD, CONSOLE])
}

/// The monitor's log, which `info --show-log` shows.
///
/// # Errors
/// Not found; the log cannot be read.
pub fn monitor(store: &Store, project: &ProjectName, name: &InstanceName) -> Result<Vec<u8>> {
    read(store, project, name, &[MONITOR])
}

fn read(store: &Store, project: &ProjectName, name: &InstanceName, files: &[&str]) -> Result<Vec<u8>> {
    if !store.instance_exists(project, name)? {
        return Err(load::not_found());
    }
    let dir = store.layout().instance_log_dir(project, name);
    let mut all = Vec::new();
    for file in files {
        match File::open(dir.join(file)) {
            Ok(f) => drop(f.take(MAX).read_to_end(&mut all).with_context(|| format!("Failed reading \"{file}\""))?),
            Err(e) if e.kind() == ErrorKind::NotFound => {}
            Err(e) => return Err(e).with_context(|| format!("Failed opening \"{file}\"")),
        }
    }
    Ok(all)
}
