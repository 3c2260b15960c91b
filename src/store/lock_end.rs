//! What becomes of a lock file when its object is gone: it goes, too. Else each instance that ever was – `run` makes one per
//! call, a mistyped name makes one – would leave a file for good.
//!
//! The holder of the exclusive lock removes the name while it still holds the lock. Whoever had the file open by then wins
//! the lock of a file without a name, notices (`FileLock::take`) and begins again with the name; so at no moment two have
//! it. Used by `store::lock` only.

use super::dir::Dir;
use rustix::fs::AtFlags;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

/// KeptBy whose existence keeps an object's lock file: below the state folder, below the run folder.
pub type KeptBy = [Option<PathBuf>; 2];

/// What is done at the end of a lock.
#[derive(Debug)]
pub(super) struct Ending {
    state: OwnedFd,
    run: Option<OwnedFd>,
    /// The lock file, below the state folder.
    file: PathBuf,
    records: KeptBy,
}

impl Ending {
    /// `None`: lock files of this kind stay.
    pub fn new(state: &Dir, run: Option<&Dir>, file: &Path, records: KeptBy) -> std::io::Result<Option<Self>> {
        if records.iter().all(Option::is_none) {
            return Ok(None);
        }
        let copy = |dir: &Dir| dir.as_fd().try_clone_to_owned();
        Ok(Some(Self { state: copy(state)?, run: run.map(copy).transpose()?, file: file.to_path_buf(), records }))
    }

    /// Removes the lock file if no record is there. Best effort: what stays does no harm and is `ExclusiveStore::gc`'s.
    pub fn run(&self) {
        let [state, run] = &self.records;
        let gone = |dir: Option<&OwnedFd>, record: &Option<PathBuf>| match (dir, record) {
            (Some(dir), Some(record)) => {
                let found = rustix::fs::statat(dir, record, AtFlags::SYMLINK_NOFOLLOW);
                matches!(found, Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR))
            }
            _ => true,
        };
        if gone(Some(&self.state), state) && gone(self.run.as_ref(), run) {
            let _ = rustix::fs::unlinkat(&self.state, &self.file, AtFlags::empty());
        }
    }
}
