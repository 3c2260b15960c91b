//! The folder a pool lies in when it is not one of the state folder's: a folder of the user's, or the root of a file system
//! that is mounted for the pool.
//!
//! Such a folder bears a mark that says whose it is. It is adopted only when it is empty, or bears the mark of a pool that is no
//! more; it is used only as long as its mark is the pool's, so that a disk which is not mounted is never mistaken for an empty
//! pool. When the pool goes, what is the pool's goes and the folder stays. Called by `ops`, which holds the pool.

use super::pool::{POOL_FOLDERS, Pool};
use crate::error::{Context, Error, Result};
use crate::fault;
use crate::store::trash;
use crate::sys::path::{self, Links, Owner};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

/// File with the mark.
const MARK: &str = ".stapes-pool";
/// Largest one read.
const MARK_MAX: u64 = 16 << 10;
/// What a file system has in its root from the beginning.
const OF_FILE_SYSTEM: &str = "lost+found";

/// Says whose pool a folder is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// Made up for each pool; its record has it, too.
    pub id: String,
    /// The pool's name.
    pub pool: String,
    /// Its record.
    pub record: PathBuf,
}

fn open(folder: &Path) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::open(folder, flags, Mode::empty())
        .map_err(Error::from)
        .with_context(|| format!("Failed opening storage pool source \"{}\"", folder.display()))
}

fn read(folder: &OwnedFd) -> Result<Option<Mark>> {
    match rustix::fs::statat(folder, MARK, AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::NOENT) => return Ok(None),
        other => other?,
    };
    let text = path::read_limited(folder.as_fd(), Path::new(MARK), MARK_MAX, Links::Refuse)?;
    serde_json::from_slice(&text).map(Some).map_err(|e| Error::failed(format!("\"{MARK}\" is damaged")).caused_by(e))
}

/// The mark of a folder, None if it has none.
///
/// # Errors
/// The folder cannot be opened; its mark is damaged.
pub fn mark(folder: &Path) -> Result<Option<Mark>> {
    read(&open(folder)?)
}

/// Is `folder` there with the mark `id`?
///
/// # Errors
/// The folder cannot be opened; its mark is damaged.
pub fn is_marked(folder: &Path, id: &str) -> Result<bool> {
    Ok(mark(folder)?.is_some_and(|mark| mark.id == id))
}

/// May a pool be made in `folder`? Changes nothing.
///
/// # Errors
/// NotFound: it is not there. Conflict: it holds something, or is another pool's. Denied: others can write to it.
pub fn check_free(folder: &Path) -> Result<()> {
    let shown = folder.display();
    if !folder.exists() {
        return Err(Error::not_found(format!("Source path \"{shown}\" doesn't exist")));
    }
    if !folder.is_dir() {
        return Err(Error::invalid(format!("Source path \"{shown}\" is not a directory")));
    }
    drop(Pool::open(folder)?);
    let opened = open(folder)?;
    if let Some(mark) = read(&opened)? {
        if mark.record.exists() {
            let message = format!("Source path \"{shown}\" is in use by storage pool \"{}\"", mark.pool);
            return Err(Error::conflict(message).hint(format!("that pool's record is {}", mark.record.display())));
        }
        return Ok(());
    }
    for entry in rustix::fs::Dir::read_from(&opened)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if !matches!(name, b"." | b"..") && name != OF_FILE_SYSTEM.as_bytes() {
            return Err(Error::conflict(format!("Source path \"{shown}\" isn't empty"))
                .hint("give an empty directory; what is in it would be mixed with the pool's"));
        }
    }
    Ok(())
}

/// Marks a folder; the mark is on disk when this returns. Repeated: nothing happens.
///
/// # Errors
/// It cannot be written.
pub fn adopt(folder: &Path, mark: &Mark) -> Result<()> {
    let opened = open(folder)?;
    let text = serde_json::to_vec(mark).map_err(|e| Error::internal("Failed writing a mark").caused_by(e))?;
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    path::write_replace(opened.as_fd(), Path::new(MARK), &text, Owner { uid, gid, mode: 0o600 }, Links::Refuse)
        .with_context(|| format!("Failed writing to storage pool source \"{}\"", folder.display()))?;
    rustix::fs::fsync(&opened)?;
    fault::point("pool.source.marked")
}

/// Removes what is the pool's from a folder that bears its mark, the mark last. Repeated, or without the mark: nothing happens.
///
/// # Errors
/// What could not be removed; the rest was.
pub fn release(folder: &Path, id: &str) -> Result<()> {
    if !folder.is_dir() || !is_marked(folder, id)? {
        return Ok(());
    }
    let opened = open(folder)?;
    let mut errors = Vec::new();
    for name in POOL_FOLDERS {
        fault::point("pool.source.emptying")?;
        let gone = trash::remove_at(opened.as_fd(), OsStr::new(name));
        errors.extend(gone.err().map(|e| Error::from(e).context(format!("Failed removing \"{name}\""))));
    }
    if let Some(e) = Error::join(errors) {
        return Err(e.context(format!("Failed emptying storage pool source \"{}\"", folder.display())));
    }
    rustix::fs::unlinkat(&opened, MARK, AtFlags::empty())?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder() -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().expect("tempdir");
        let path = dir.path().join("source");
        std::fs::create_dir(&path).expect("folder");
        (dir, path)
    }

    #[test]
    fn only_what_is_free_is_taken_and_only_what_is_ours_goes() {
        let (dir, path) = folder();
        let record = dir.path().join("pool.toml");
        let mark = Mark { id: "one".into(), pool: "p".into(), record: record.clone() };
        assert!(check_free(&dir.path().join("nothing")).is_err() && check_free(&path).is_ok());
        std::fs::create_dir(path.join("lost+found")).expect("folder");
        assert!(check_free(&path).is_ok(), "an empty file system");
        adopt(&path, &mark).expect("adopt");
        std::fs::create_dir_all(path.join("containers/c1/rootfs")).expect("volume");
        std::fs::write(path.join("notes"), "the user's").expect("file");
        assert!(check_free(&path).is_ok(), "of a pool that is no more");
        std::fs::write(&record, "").expect("record");
        assert!(check_free(&path).expect_err("in use").to_string().contains("in use by storage pool \"p\""));
        assert!(is_marked(&path, "one").expect("read") && !is_marked(&path, "two").expect("read"));
        release(&path, "two").expect("another's");
        assert!(path.join("containers").exists());
        for _ in 0..2 {
            release(&path, "one").expect("release");
        }
        let left: Vec<_> = std::fs::read_dir(&path).expect("list").flatten().map(|e| e.file_name()).collect();
        assert_eq!(left.len(), 2, "{left:?}");
        assert!(check_free(&path).expect_err("notes").to_string().contains("isn't empty"));
    }
}
