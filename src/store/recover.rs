//! Settling what killed commands left: their journals and temporary files.
//!
//! Run by [`Store::open_with`] for writers and whenever a lock is won whose last holder never let go. One process at a
//! time settles; the others wait, because what they want may be what is being rolled back. A journal whose flock can be won has no
//! living owner.
//!
//! One that fails is kept as failed and reported once. It is tried again by the next command, and after that once a minute,
//! under the locks of its objects where they are free; whoever wants one of these objects tries first and is refused while
//! it fails. So nothing that was made since can be taken for what the journal speaks of, and other objects are not held up.

use super::dir::{self, Dir};
use super::journal::{FAILED, Header, SUFFIX, Script};
use super::layout::rel;
use super::lock::{self, FileLock, Rank};
use super::record;
use super::{Access, Store};
use crate::error::{Context, Error, Kind, Result};
use crate::fault;
use crate::host::proc;
use rustix::fs::OFlags;
use std::ffi::OsStr;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// A journal that was settled.
#[derive(Debug)]
pub struct Settled {
    /// The journal's id.
    pub id: String,
    /// What it was; `None` if even that was damaged.
    pub header: Option<Header>,
    /// It was past its commit point: the rest was done. Else it was rolled back.
    pub forward: bool,
    /// What did not work, joined.
    pub error: Option<Error>,
}

/// The lock of journal `name`; `None` if its owner lives.
///
/// A killed owner may have left a child between clone and exec, which has the lock too, for the moment that it takes the
/// child to notice: that is waited for, so that what was killed is gone after the very next command.
fn win(ops: &Dir, name: &str, file: File) -> Result<Option<File>> {
    if lock::try_lock(&file, true)? {
        return Ok(Some(file));
    }
    let script = record::read_bytes(ops, Path::new(name))?.and_then(|b| Script::parse(&b).ok());
    match script.and_then(|s| s.header) {
        Some(owner) if !proc::alive(owner.pid, owner.starttime) => Ok(lock::acquire(file, true, lock::WAIT)?),
        _ => Ok(None),
    }
}

impl Store {
    /// Settles the journals of dead owners; what was settled is kept for [`Store::take_settled`]. Usually there are none,
    /// and this is one listing of an empty folder.
    ///
    /// # Errors
    /// The journal folder cannot be read, or (Busy) another command takes long to settle.
    pub fn settle(&self) -> Result<()> {
        let state = self.state_mut()?;
        let Some((ops, names)) = dir::list(state, rel::OPS)? else { return Ok(()) };
        if !names.iter().any(|n| n.ends_with(SUFFIX) || (n.ends_with(FAILED) && is_due(&ops, n))) {
            return Ok(());
        }
        let rel = lock::file_name(Rank::Layout, "settle");
        let _alone = FileLock::take(state, &rel, true, lock::WAIT, "Recovery of a killed command")?;
        for name in ops.names().context("Failed listing the journals")? {
            let settled = if name.ends_with(SUFFIX) {
                self.settle_one(&ops, &name)?
            } else if name.ends_with(FAILED) && is_due(&ops, &name) {
                self.retry_one(&ops, &name, None)?.filter(|settled| settled.error.is_none())
            } else {
                None
            };
            self.keep_settled(settled);
        }
        Ok(())
    }

    fn keep_settled(&self, settled: Option<Settled>) {
        if let (Some(settled), Ok(mut all)) = (settled, self.settled.lock()) {
            all.push(settled);
        }
    }

    /// Tries the failed journals that are about the object of the lock file `lock`, which was just won.
    ///
    /// # Errors
    /// One fails again: the object is not to be used.
    pub(super) fn settle_failed(&self, lock: &Path) -> Result<()> {
        let Some((ops, names)) = dir::list(self.state_mut()?, rel::OPS)? else { return Ok(()) };
        let Some(lock) = lock.file_name().and_then(OsStr::to_str) else { return Ok(()) };
        for name in names.iter().filter(|n| n.ends_with(FAILED)) {
            let header = read(&ops, name).and_then(|script| script.header);
            let Some(header) = header.filter(|h| h.locks.iter().any(|l| l == lock)) else { continue };
            let settle = lock::file_name(Rank::Layout, "settle");
            let _alone = FileLock::take(self.state_mut()?, &settle, true, lock::WAIT, "Recovery of a killed command")?;
            let settled = self.retry_one(&ops, name, Some(lock))?;
            let Some(settled) = settled else { continue };
            if let Some(e) = settled.error {
                let what = format!("Failed finishing an earlier \"{}\" of {}", header.op, header.targets.join(", "));
                return Err(e.context(what));
            }
            self.keep_settled(Some(settled));
        }
        Ok(())
    }

    /// Tries a failed journal again, under the locks of its objects; `held`: the one that the caller has. `None`: another
    /// command is at one of them, or was faster.
    fn retry_one(&self, ops: &Dir, name: &str, held: Option<&str>) -> Result<Option<Settled>> {
        let fail = || format!("Failed settling journal \"{}\"", ops.path(name).display());
        let Some(script) = read(ops, name) else { return Ok(None) };
        let Some(header) = &script.header else { return Ok(None) };
        let mut locks = Vec::new();
        for lock in header.locks.iter().filter(|l| Some(l.as_str()) != held) {
            let rel = Path::new(lock::FOLDER).join(lock);
            match FileLock::take(self.state_mut()?, &rel, true, Duration::ZERO, lock) {
                Err(e) if e.kind() == Kind::Busy => return Ok(None),
                other => locks.push(other?),
            }
        }
        // What it spoke of is whole now if it was settled meanwhile: looked at under the locks.
        if !ops.exists(name).with_context(fail)? {
            return Ok(None);
        }
        let (forward, errors) = script.play(self);
        fault::point("store.recover.retried").with_context(fail)?;
        let error = Error::join(errors);
        match &error {
            None => script.close(ops, name, true).with_context(fail)?,
            Some(_) => not_before(ops, name, RETRY).with_context(fail)?,
        }
        let id = name.strip_suffix(FAILED).unwrap_or(name).to_string();
        Ok(Some(Settled { id, header: script.header, forward, error }))
    }

    /// `None`: the owner lives, or finished just now.
    fn settle_one(&self, ops: &Dir, name: &str) -> Result<Option<Settled>> {
        let fail = || format!("Failed settling journal \"{}\"", ops.path(name).display());
        let file = match ops.open_at(name, OFlags::RDWR, 0) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            other => other.with_context(fail)?,
        };
        let Some(file) = win(ops, name, file).with_context(fail)? else { return Ok(None) };
        // Finished between listing and locking: the lock is of a file that has no name any more.
        let stat = rustix::fs::fstat(&file).map_err(std::io::Error::from).with_context(fail)?;
        if stat.st_nlink == 0 {
            return Ok(None);
        }
        let script = record::read_bytes(ops, Path::new(name)).and_then(|b| Script::parse(&b.unwrap_or_default()));
        let (script, forward, error) = match script {
            Err(e) => (Script::default(), false, Some(e.context(fail()))),
            Ok(script) => {
                let (forward, errors) = script.play(self);
                (script, forward, Error::join(errors))
            }
        };
        fault::point("store.recover.played").with_context(fail)?;
        script.close(ops, name, error.is_none())?;
        drop(file);
        let id = name.strip_suffix(SUFFIX).unwrap_or(name).to_string();
        Ok(Some(Settled { id, header: script.header, forward, error }))
    }

    /// Journals that could not be settled: id and what they were. For `doctor`.
    ///
    /// # Errors
    /// The journal folder cannot be read.
    pub fn failed_journals(&self) -> Result<Vec<(String, Option<Header>)>> {
        self.journals(FAILED)
    }

    /// Operations in progress (`operation list`), and any dead ones not settled yet.
    ///
    /// # Errors
    /// The journal folder cannot be read.
    pub fn operations(&self) -> Result<Vec<(String, Option<Header>)>> {
        self.journals(SUFFIX)
    }

    fn journals(&self, suffix: &str) -> Result<Vec<(String, Option<Header>)>> {
        let Some(state) = &self.state else { return Ok(Vec::new()) };
        let Some((ops, names)) = dir::list(state, rel::OPS)? else { return Ok(Vec::new()) };
        let header = |name: &str| read(&ops, name)?.header;
        Ok(names.iter().filter_map(|n| Some((n.strip_suffix(suffix)?.to_string(), header(n)))).collect())
    }

    /// Tries the failed journals again now. The result is in [`Store::take_settled`].
    ///
    /// # Errors
    /// As [`Store::settle`]; those that failed again, joined.
    pub fn retry_failed(&self) -> Result<()> {
        let state = self.state_mut()?;
        let ops = state.dir(rel::OPS).context("Failed opening the journal folder")?;
        let rel = lock::file_name(Rank::Layout, "settle");
        let _alone = FileLock::take(state, &rel, true, lock::WAIT, "Recovery of a killed command")?;
        let mut errors = Vec::new();
        for name in ops.names().context("Failed listing the journals")?.iter().filter(|n| n.ends_with(FAILED)) {
            match self.retry_one(&ops, name, None)? {
                Some(Settled { error: Some(e), .. }) => errors.push(e),
                settled => self.keep_settled(settled),
            }
        }
        Error::join(errors).map_or(Ok(()), Err)
    }
}

/// How long a journal that failed again is left alone.
const RETRY: Duration = Duration::from_secs(60);

/// A journal; none if it is gone or damaged.
fn read(ops: &Dir, name: &str) -> Option<Script> {
    let bytes = record::read_bytes(ops, Path::new(name)).ok()??;
    Script::parse(&bytes).ok()
}

/// The date of a failed journal says from when on it may be tried again.
fn is_due(ops: &Dir, name: &str) -> bool {
    let Ok(date) = ops.open_at(name, OFlags::RDONLY, 0).and_then(|f| f.metadata()?.modified()) else { return false };
    date <= SystemTime::now()
}

fn not_before(ops: &Dir, name: &str, wait: Duration) -> std::io::Result<()> {
    ops.open_at(name, OFlags::WRONLY, 0)?.set_modified(SystemTime::now() + wait)
}

/// Removes the hidden files of killed writers. Only with the layout lock alone; returns how many.
pub(super) fn remove_temporaries(store: &Store) -> Result<usize> {
    debug_assert_eq!(store.access, Access::Write);
    let state = store.state_mut()?;
    let mut todo: Vec<PathBuf> = ["", rel::OPS, rel::IMAGES, rel::PROJECTS, rel::POOLS].map(PathBuf::from).to_vec();
    let mut removed = 0;
    while let Some(at) = todo.pop() {
        let Ok(folder) = state.dir(&at) else { continue };
        let fail = || format!("Failed cleaning \"{}\"", state.path(&at).display());
        for name in folder.hidden().with_context(fail)? {
            if name.ends_with(".new") || name.ends_with(SUFFIX) {
                removed += usize::from(folder.unlink(&name).with_context(fail)?);
            }
        }
        // Below projects everything is ours; below a pool only its record is.
        let (projects, pools) = (at.starts_with(rel::PROJECTS), at == Path::new(rel::POOLS));
        if projects || pools {
            todo.extend(folder.names().with_context(fail)?.into_iter().map(|n| at.join(n)));
        }
    }
    Ok(removed)
}
