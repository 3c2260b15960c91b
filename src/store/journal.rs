//! The intent journal of one mutating operation (design, section 6).
//!
//! `ops` begins one after taking its locks, notes before each step how to undo it, and commits. A failure, an early
//! return and a kill all end in the same code: not committed – undo in reverse order; committed – do the rest
//! ([`Journal::then`]) forward. Delete-like operations begin committed ([`Journal::forward`]).
//!
//! The rule that makes settling safe: an action touches only what the owner holds exclusively, which is why `begin` wants
//! the proofs and borrows them. So a dead owner's objects are unlocked or won by somebody who saw the dead holder's mark
//! and settles first.
//!
//! As a rule nothing here is synced. A kill needs only write(2). After a power cut the journal may be gone, torn, or back in
//! an earlier state. Gone: what is left has no record, because records are published last, and `doctor` finds it. Torn: the
//! step of an incomplete line was not begun. Earlier state: for creations [`Journal::commits_by`] names the record whose
//! existence is the commit, so what was reported done stays; an old record is not put back over a newer one
//! (`RestoreFile` is passed over for journals of an earlier boot), as each is whole by itself and nothing runs.
//!
//! That takes a file system that keeps the order of what was done (`sys::mount::keeps_order`). On others (btrfs) a finished
//! journal may come back long after, beside what later commands did: there those of an earlier boot count as gone.
//!
//! What moves data that there is no second of (renaming, restoring) may not be cut in half by a power cut either: it keeps its
//! journal ([`Journal::keep`]), which is synced then, and counts after any boot.

use super::Store;
use super::dir::Dir;
use super::lock::{self, Proof};
use super::undo::Action;
use crate::error::{Context, Error, Result};
use crate::fault;
use crate::host::{boot_id, proc};
use crate::sys::mount;
use jiff::Timestamp;
use rustix::fs::OFlags;
use serde::{Deserialize, Serialize};
use std::ffi::OsStr;
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// First line: what is being done, to what, by whom.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// Operation: `create`, `delete`, …
    pub op: String,
    /// Locked objects: `instance default/c1`.
    pub targets: Vec<String>,
    /// Names of their lock files.
    #[serde(default)]
    pub locks: Vec<String>,
    /// Process.
    pub pid: i32,
    /// Its start time, clock ticks.
    pub starttime: u64,
    /// Its boot.
    pub boot_id: String,
    /// When.
    pub at: Timestamp,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Line {
    Begin(Header),
    CommitsBy(PathBuf),
    Undo(Action),
    Then(Action),
    Kept,
    Commit,
}

/// What a journal says, whoever reads it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Script {
    pub header: Option<Header>,
    undo: Vec<Action>,
    then: Vec<Action>,
    commits_by: Option<PathBuf>,
    /// It is on disk.
    kept: bool,
    committed: bool,
}

impl Script {
    fn take(&mut self, line: Line) {
        match line {
            Line::Begin(header) => self.header = Some(header),
            Line::CommitsBy(path) => self.commits_by = Some(path),
            Line::Undo(action) => self.undo.push(action),
            Line::Then(action) => self.then.push(action),
            Line::Kept => self.kept = true,
            Line::Commit => self.committed = true,
        }
    }

    /// Parses a journal; an incomplete last line is dropped, anything else that is not understood is an error.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let end = bytes.iter().rposition(|&b| b == b'\n').map_or(0, |at| at + 1);
        let mut script = Self::default();
        for (n, line) in bytes[..end].split(|&b| b == b'\n').enumerate().filter(|(_, l)| !l.is_empty()) {
            let damaged = |e| Error::failed(format!("Journal line {} is damaged", n + 1)).caused_by(e);
            script.take(serde_json::from_slice(line).map_err::<Error, _>(damaged)?);
        }
        Ok(script)
    }

    /// Settles: rolls back or does the rest. Goes on past errors. Whether it was committed, and all errors.
    pub fn play(&self, store: &Store) -> (bool, Vec<Error>) {
        let committed =
            self.committed || self.commits_by.as_ref().is_some_and(|p| std::fs::symlink_metadata(p).is_ok());
        let lasts =
            self.kept || self.header.as_ref().is_none_or(|h| boot_id::current().is_ok_and(|id| id == h.boot_id));
        if !lasts && !store.state.as_ref().is_some_and(keeps_order) {
            return (false, Vec::new());
        }
        let run = |action: &Action| {
            if !lasts && matches!(action, Action::RestoreFile { .. }) {
                return Ok(());
            }
            fault::point("store.journal.action")?;
            store.perform(action)
        };
        let errors = match committed {
            true => self.then.iter().filter_map(|a| run(a).err()).collect(),
            false => self.undo.iter().rev().filter_map(|a| run(a).err()).collect(),
        };
        (committed, errors)
    }

    /// Removes the journal once it is settled, or keeps it as failed for `doctor`.
    pub fn close(&self, ops: &Dir, name: &str, good: bool) -> Result<()> {
        if !good {
            let failed = format!("{}{FAILED}", name.strip_suffix(SUFFIX).unwrap_or(name));
            let renamed = super::dir::rename(ops, OsStr::new(name), ops, OsStr::new(&failed), true);
            return renamed.context("Failed keeping a journal");
        }
        ops.unlink(name).context("Failed removing a journal")?;
        // It must not come back: what it speaks of goes on changing.
        if self.kept && !keeps_order(ops) {
            ops.sync().context("Failed removing a journal")?;
        }
        Ok(())
    }
}

/// A journal in progress. Dropping it unfinished rolls back (or, once committed, does the rest), so `?` is safe; use
/// [`Journal::abort`] to report what went wrong on the way back.
#[derive(Debug)]
pub struct Journal<'a> {
    store: &'a Store,
    ops: Dir,
    name: String,
    /// Its flock tells the living from the dead. `None` once settled, and for a deletion on a full disk.
    file: Option<File>,
    /// Not settled yet.
    pending: bool,
    script: Script,
}

pub(super) const SUFFIX: &str = ".journal";
pub(super) const FAILED: &str = ".failed";

impl<'a> Journal<'a> {
    /// Begins the journal of a create- or update-like operation: it rolls back until committed. `held`: the exclusive
    /// locks of all that it touches; they must outlive it.
    ///
    /// # Errors
    /// An I/O error.
    pub fn begin(store: &'a Store, op: &str, held: &[&'a dyn Proof]) -> Result<Self> {
        Self::start(store, op, held, Script::default())
    }

    /// Begins a delete-like operation: `actions` are what it does, in order; once this returned they will be done, by
    /// [`Journal::finish`] or by whoever settles.
    ///
    /// Deleting is how one makes room: on a full disk it goes on without a file, and what a kill then leaves is `doctor`'s.
    ///
    /// # Errors
    /// An I/O error; nothing was or will be done.
    pub fn forward(store: &'a Store, op: &str, held: &[&'a dyn Proof], actions: Vec<Action>) -> Result<Self> {
        Self::start(store, op, held, Script { then: actions, committed: true, ..Script::default() })
    }

    /// The same, and kept ([`Journal::keep`]): all of it is done after a power cut, too.
    ///
    /// # Errors
    /// As [`Journal::forward`].
    pub fn forward_kept(store: &'a Store, op: &str, held: &[&'a dyn Proof], actions: Vec<Action>) -> Result<Self> {
        Self::start(store, op, held, Script { then: actions, committed: true, kept: true, ..Script::default() })
    }

    fn start(store: &'a Store, op: &str, held: &[&'a dyn Proof], mut script: Script) -> Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let at = Timestamp::now();
        let header = Header {
            op: op.to_string(),
            targets: held.iter().map(|p| p.subject()).collect(),
            locks: held.iter().filter_map(|p| p.lock_file()).collect(),
            pid: std::process::id() as i32,
            starttime: proc::own_start_time()?,
            boot_id: boot_id::current()?.to_string(),
            at,
        };
        // Sorted by name is sorted by time; pid and counter make it unique.
        let name = format!(
            "{:016x}-{}-{}{SUFFIX}",
            at.as_nanosecond() as u64,
            header.pid,
            NEXT.fetch_add(1, Ordering::Relaxed)
        );
        let mut text = encode(&Line::Begin(header.clone()))?;
        script.header = Some(header);
        for action in &script.then {
            text.extend(encode(&Line::Then(action.clone()))?);
        }
        if script.kept {
            text.extend(encode(&Line::Kept)?);
        }
        if script.committed {
            text.extend(encode(&Line::Commit)?);
        }
        fault::point("store.journal.begin")?;
        let ops = store.state_mut()?.dir(super::layout::rel::OPS).context("Failed opening the journal folder")?;
        let file = match create(&ops, &name, &text) {
            Err(e) if script.committed && matches!(e.errno(), Some(libc::ENOSPC | libc::EDQUOT)) => None,
            other => Some(other.context("Failed creating a journal")?),
        };
        if let (Some(file), true) = (&file, script.kept)
            && let Err(e) = sync(&ops, file)
        {
            let _ = ops.unlink(&name);
            return Err(e);
        }
        fault::point("store.journal.begun")?;
        Ok(Self { store, ops, name, file, pending: true, script })
    }

    /// The journal's id: the operation's id.
    pub fn id(&self) -> &str {
        self.name.strip_suffix(SUFFIX).unwrap_or(&self.name)
    }

    fn write(&mut self, line: Line) -> Result<()> {
        let text = encode(&line)?;
        let file = self.file.as_mut().ok_or_else(|| Error::internal("The journal is finished"))?;
        file.write_all(&text).context("Failed writing the journal")?;
        self.script.take(line);
        Ok(())
    }

    /// Notes how to undo the step that comes next. Undone in reverse order.
    ///
    /// # Errors
    /// An I/O error: do not begin the step.
    pub fn undo(&mut self, action: Action) -> Result<()> {
        fault::point("store.journal.undo")?;
        self.write(Line::Undo(action))?;
        self.sync_kept()?;
        fault::point("store.journal.noted")
    }

    /// Has on disk what was noted, and from now on each further line before the step it is about: the operation is whole after a
    /// power cut, too. Before the first step that is not to be had again.
    ///
    /// # Errors
    /// An I/O error.
    pub fn keep(&mut self) -> Result<()> {
        self.write(Line::Kept)?;
        self.file.as_ref().map_or(Ok(()), |file| sync(&self.ops, file))?;
        fault::point("store.journal.kept")
    }

    fn sync_kept(&self) -> Result<()> {
        match &self.file {
            Some(file) if self.script.kept => file.sync_data().context("Failed syncing the journal"),
            _ => Ok(()),
        }
    }

    /// Notes what is to be done after the commit, in order, when the journal finishes or is settled.
    ///
    /// # Errors
    /// An I/O error.
    pub fn then(&mut self, action: Action) -> Result<()> {
        self.write(Line::Then(action))
    }

    /// Says that the existence of `path`, which is not there yet, is the commit point: for creations, the record.
    ///
    /// # Errors
    /// Exists, or an I/O error.
    pub fn commits_by(&mut self, path: &Path) -> Result<()> {
        if std::fs::symlink_metadata(path).is_ok() {
            return Err(Error::exists(format!("\"{}\" already exists", path.display())));
        }
        self.write(Line::CommitsBy(path.to_path_buf()))
    }

    /// Passes the commit point: from here nothing is rolled back.
    ///
    /// # Errors
    /// An I/O error; it is rolled back then.
    pub fn commit(&mut self) -> Result<()> {
        fault::point("store.journal.commit")?;
        self.write(Line::Commit)?;
        self.sync_kept()?;
        fault::point("store.journal.committed")
    }

    /// Commits if that is not done yet, does what was noted with [`Journal::then`], removes the journal.
    ///
    /// # Errors
    /// All that did not work, joined; the journal is then kept as failed, for `doctor`.
    pub fn finish(mut self) -> Result<()> {
        if !self.script.committed {
            self.commit()?;
        }
        Error::join(self.settle()).map_or(Ok(()), Err)
    }

    /// Rolls back (or, once committed, does the rest) after `error`. Returns it with all that went wrong on the way.
    #[must_use]
    pub fn abort(mut self, error: Error) -> Error {
        self.settle().into_iter().fold(error, Error::and)
    }

    fn settle(&mut self) -> Vec<Error> {
        if !std::mem::take(&mut self.pending) {
            return Vec::new();
        }
        let (_, mut errors) = self.script.play(self.store);
        let Some(file) = self.file.take() else { return errors };
        if let Err(e) = fault::point("store.journal.settled")
            .and_then(|()| self.script.close(&self.ops, &self.name, errors.is_empty()))
        {
            errors.push(e);
        }
        drop(file);
        errors
    }

    /// What a kill does: the descriptor closes, the file stays.
    #[cfg(test)]
    pub(super) fn killed(mut self) {
        self.pending = false;
        self.file.take();
    }
}

impl Drop for Journal<'_> {
    fn drop(&mut self) {
        let _ = self.settle();
    }
}

/// Runs `body` with a journal: finishes it after a success, aborts it after an error.
///
/// # Errors
/// What `body` said, with what went wrong undoing it; or [`Journal::finish`]'s.
pub fn run<'a, T>(
    store: &'a Store,
    op: &str,
    held: &[&'a dyn Proof],
    body: impl FnOnce(&mut Journal<'a>) -> Result<T>,
) -> Result<T> {
    let mut journal = Journal::begin(store, op, held)?;
    match body(&mut journal) {
        Ok(value) => journal.finish().map(|()| value),
        Err(e) => Err(journal.abort(e)),
    }
}

fn encode(line: &Line) -> Result<Vec<u8>> {
    let mut text = serde_json::to_vec(line).map_err(|e| Error::internal("Failed writing the journal").caused_by(e))?;
    text.push(b'\n');
    Ok(text)
}

/// Created without a name, locked, filled, and only then shown: nobody can take a newborn journal for a dead one, and a
/// kill before that leaves nothing.
fn create(ops: &Dir, name: &str, text: &[u8]) -> Result<File> {
    let mut file = match ops.open_at(".", OFlags::WRONLY | OFlags::TMPFILE | OFlags::APPEND, 0o600) {
        // A file system without such files (EISDIR: one whose kernel does not know them).
        Err(e) if matches!(e.raw_os_error(), Some(libc::EOPNOTSUPP | libc::EISDIR)) => {
            return create_hidden(ops, name, text);
        }
        other => other?,
    };
    if !lock::try_lock(&file, true)? {
        return Err(Error::internal("A new journal is locked already"));
    }
    file.write_all(text)?;
    fault::point("store.journal.hidden")?;
    // Linking by the descriptor itself takes a capability; by its name in /proc it does not (open(2)).
    let unnamed = format!("/proc/self/fd/{}", file.as_raw_fd());
    rustix::fs::linkat(rustix::fs::CWD, unnamed, ops, name, rustix::fs::AtFlags::SYMLINK_FOLLOW)?;
    Ok(file)
}

/// As [`create`], under a hidden name; what a kill leaves is removed by the next garbage collection.
fn create_hidden(ops: &Dir, name: &str, text: &[u8]) -> Result<File> {
    let hidden = format!(".{name}");
    let mut file = ops.open_at(&hidden, OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::APPEND, 0o600)?;
    let made = (|| {
        if !lock::try_lock(&file, true)? {
            return Err(Error::internal("A new journal is locked already"));
        }
        file.write_all(text)?;
        fault::point("store.journal.hidden")?;
        Ok(super::dir::rename(ops, OsStr::new(&hidden), ops, OsStr::new(name), false)?)
    })();
    match made {
        Ok(()) => Ok(file),
        Err(e) => {
            let _ = ops.unlink(&hidden);
            Err(e)
        }
    }
}

/// Has a journal on disk with its name.
fn sync(ops: &Dir, file: &File) -> Result<()> {
    let fail = "Failed syncing the journal";
    file.sync_all().context(fail)?;
    if keeps_order(ops) { Ok(()) } else { ops.sync().context(fail) }
}

/// Whether what is synced brings along all that was done before it.
fn keeps_order(folder: &Dir) -> bool {
    mount::keeps_order(folder.as_fd()).unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_torn_last_line_is_dropped_and_other_damage_is_said() {
        let undo = Line::Undo(Action::RemoveFile { path: "/x".into() });
        let mut text = encode(&undo).expect("encode");
        text.extend(encode(&Line::Commit).expect("encode"));
        let whole = Script::parse(&text).expect("parse");
        assert!(whole.committed && whole.undo.len() == 1);
        let torn = Script::parse(&text[..text.len() - 2]).expect("parse");
        assert!(!torn.committed && torn.undo.len() == 1);
        assert_eq!(Script::parse(b"").expect("empty"), Script::default());
        assert!(Script::parse(b"{\"undo\":{\"explode\":{}}}\n").is_err(), "an action of a later version");
    }

    #[test]
    fn every_action_survives_the_journal() {
        let volume = super::super::undo::Volume {
            pool: "p".into(),
            kind: super::super::undo::VolumeKind::VirtualMachine,
            project: "default".into(),
            name: "v".into(),
        };
        let (project, name) = ("default".to_string(), "c1".to_string());
        for action in [
            Action::RemoveFile { path: "/a".into() },
            Action::RestoreFile { path: "/a".into(), content: "a\n\"b\"".into() },
            Action::Move { from: "/a".into(), to: "/b".into() },
            Action::ForgetInstance { project: project.clone(), name: name.clone() },
            Action::RenameInstance { project: project.clone(), from: name.clone(), to: "c2".into() },
            Action::RenameProfile { project: project.clone(), from: "a".into(), to: "b".into() },
            Action::KillCgroup { path: "/sys/fs/cgroup/x".into() },
            Action::RemoveLink { name: "veth".into() },
            Action::RemoveVolume(volume.clone()),
            Action::FinishRestore(volume.clone()),
            Action::AbortRestore(volume.clone()),
            Action::ForgetSnapshot { project: "p".into(), name: "c1".into(), snapshot: "s".into() },
            Action::RenameSnapshot { project: "p".into(), name: "c1".into(), from: "s".into(), to: "t".into() },
            Action::ThawCgroup { path: "/sys/fs/cgroup/x".into() },
            Action::RenameVolume { volume, to: "w".into() },
            Action::StopDevices { project: project.clone(), name: name.clone() },
            Action::FreeCpus { project: project.clone(), name: name.clone() },
            Action::RenewLimits { project: project.clone(), name },
            Action::RenewForwards { project: project.clone(), name: "br0".into() },
            Action::StopNetwork { project, name: "br0".into() },
        ] {
            let line = encode(&Line::Undo(action.clone())).expect("encode");
            assert_eq!(line.iter().filter(|&&b| b == b'\n').count(), 1);
            assert_eq!(Script::parse(&line).expect("parse").undo, [action]);
        }
    }
}
