//! Replacing a file so that after a kill or a power cut it is whole: old or new, never torn (design, section 6).
//!
//! Temporary file in the same folder (O_EXCL), write, fsync, rename, fsync of the folder. The one way records are written;
//! also for callers outside `store` that keep small files. The caller holds the lock that covers the file: the temporary
//! name is derived from the final one, so a leftover of a killed writer is replaced by the next and never piles up.

use super::dir::{self, Dir};
use crate::error::{Context, Error, Result};
use crate::fault;
use rustix::fs::OFlags;
use std::ffi::{OsStr, OsString};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// What survives a power cut. A kill of the process alone never harms any of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// The new content, once the call returned: file and folder are synced.
    Durable,
    /// The old or the new content, whole: only the file is synced.
    Whole,
    /// Nothing is promised: for `$RUN`, which ends with the boot.
    Fast,
}

/// Replaces or creates the file `path`. `mode`: permission bits of the new file.
///
/// # Errors
/// An I/O error; the old content is still there.
pub fn replace(path: &Path, bytes: &[u8], mode: u32, durability: Durability) -> Result<()> {
    let (parent, name) = split(path)?;
    write(&parent, name, bytes, mode, durability, true)
}

/// Creates the file `path`.
///
/// # Errors
/// Exists, or an I/O error; nothing is left of the attempt but the hidden temporary file at worst.
pub fn create_new(path: &Path, bytes: &[u8], mode: u32, durability: Durability) -> Result<()> {
    let (parent, name) = split(path)?;
    write(&parent, name, bytes, mode, durability, false)
}

fn split(path: &Path) -> Result<(Dir, &OsStr)> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(Error::internal(format!("\"{}\" is not the path of a file", path.display())));
    };
    let dir = Dir::open(parent).with_context(|| format!("Failed opening folder \"{}\"", parent.display()))?;
    Ok((dir, name))
}

/// The temporary name of `name`: what a writer that was killed may leave.
pub fn temporary(name: &OsStr) -> OsString {
    let mut t = OsString::from(".");
    t.push(name);
    t.push(".new");
    t
}

/// Writes `name` in `parent`; see [`replace`] and [`create_new`].
pub(super) fn write(
    parent: &Dir,
    name: &OsStr,
    bytes: &[u8],
    mode: u32,
    durability: Durability,
    overwrite: bool,
) -> Result<()> {
    let fail = || format!("Failed writing \"{}\"", parent.path(name).display());
    stage(parent, name, bytes, mode, durability)?;
    if let Err(e) = fault::point("store.atomic.written").and_then(|()| publish(parent, name, overwrite)) {
        let _ = parent.unlink(temporary(name));
        return Err(if e.kind() == crate::error::Kind::Exists { e } else { e.context(fail()) });
    }
    fault::point("store.atomic.renamed").with_context(fail)?;
    if durability == Durability::Durable {
        parent.sync().with_context(fail)?;
    }
    Ok(())
}

/// First half: the temporary file, complete and, as `durability` says, synced.
fn stage(parent: &Dir, name: &OsStr, bytes: &[u8], mode: u32, durability: Durability) -> Result<()> {
    let fail = || format!("Failed writing \"{}\"", parent.path(name).display());
    fault::point("store.atomic.begin").with_context(fail)?;
    let mut file = create_exclusive(parent, &temporary(name), mode).with_context(fail)?;
    let written = file.write_all(bytes).and_then(|()| match durability {
        Durability::Fast => Ok(()),
        Durability::Whole | Durability::Durable => file.sync_all(),
    });
    written.with_context(fail).inspect_err(|_| drop(parent.unlink(temporary(name))))
}

/// Second half: the rename.
fn publish(parent: &Dir, name: &OsStr, overwrite: bool) -> Result<()> {
    match dir::rename(parent, &temporary(name), parent, name, overwrite) {
        Ok(()) => Ok(()),
        Err(e) if e.kind() == ErrorKind::AlreadyExists => {
            Err(Error::exists(format!("\"{}\" already exists", parent.path(name).display())))
        }
        Err(e) => Err(e.into()),
    }
}

fn create_exclusive(parent: &Dir, temp: &OsStr, mode: u32) -> std::io::Result<std::fs::File> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
    let file = match parent.open_at(temp, flags, mode) {
        // Left by a writer that was killed: whoever wrote it held the lock we hold now.
        Err(e) if e.kind() == ErrorKind::AlreadyExists => {
            parent.unlink(temp)?;
            parent.open_at(temp, flags, mode)
        }
        other => other,
    }?;
    if mode & 0o077 != 0 {
        // Others are to read it, whatever the umask took: that of a monitor takes all.
        file.set_permissions(PermissionsExt::from_mode(mode))?;
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replaces_whole_and_leaves_no_temporary_file() {
        let d = tempfile::tempdir().expect("tempdir");
        let f = d.path().join("a.toml");
        for (text, how) in [("one", Durability::Durable), ("two", Durability::Whole), ("3", Durability::Fast)] {
            replace(&f, text.as_bytes(), 0o600, how).expect("write");
            assert_eq!(std::fs::read_to_string(&f).expect("read"), text);
        }
        assert_eq!(std::fs::metadata(&f).expect("stat").permissions().mode() & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(d.path()).expect("list").count(), 1);
    }

    #[test]
    fn what_others_are_to_read_they_can_whatever_the_umask_takes() {
        let d = tempfile::tempdir().expect("tempdir");
        let f = d.path().join("a");
        replace(&f, b"x", 0o666, Durability::Fast).expect("write");
        assert_eq!(std::fs::metadata(&f).expect("stat").permissions().mode() & 0o777, 0o666);
    }

    #[test]
    fn create_new_refuses_what_is_there_and_a_leftover_is_taken_over() {
        let d = tempfile::tempdir().expect("tempdir");
        let f = d.path().join("a");
        std::fs::write(d.path().join(".a.new"), "half of an ol").expect("leftover");
        create_new(&f, b"x", 0o600, Durability::Fast).expect("first");
        let e = create_new(&f, b"y", 0o600, Durability::Fast).expect_err("second");
        assert_eq!(e.kind(), crate::error::Kind::Exists);
        assert_eq!(std::fs::read(&f).expect("read"), b"x");
        assert_eq!(std::fs::read_dir(d.path()).expect("list").count(), 1);
    }

    #[test]
    fn a_symlink_at_the_temporary_name_is_not_written_through() {
        let d = tempfile::tempdir().expect("tempdir");
        let victim = d.path().join("victim");
        std::fs::write(&victim, "safe").expect("victim");
        std::os::unix::fs::symlink(&victim, d.path().join(".a.new")).expect("symlink");
        replace(&d.path().join("a"), b"x", 0o600, Durability::Fast).expect("write");
        assert_eq!(std::fs::read_to_string(&victim).expect("read"), "safe");
    }
}
