//! `file push -r` and `file pull -r`: whole folders.
//!
//! Both walk by name from the folder that was asked for, go on past errors and tell them all. What comes out of an instance is
//! hostile: each of its names is made in the folder of the host that is held open for it, and nothing that is there already is
//! followed, so a link that was pulled once leads no later pull elsewhere.

use super::file::{Files, Local, OnTransfer, Source, Told, Transfer, Way, deliver};
use crate::error::{Context, Error, Result};
use crate::guest::files::{self, Attributes, Content, Found, Pulled};
use crate::sys::path::{self, Kind, Links, Owner};
use rustix::fs::OFlags;
use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Folders in folders; with links that are followed there may be no end.
const DEEPEST: usize = 128;

fn too_deep() -> Error {
    Error::invalid("Too many folders in folders").hint("is there a link to a folder above? see --no-dereference")
}

/// Pushes the folder `from` of the host as `to`. `given`: owners of all of it, and the mode of `to`.
///
/// # Errors
/// All that did not work, joined.
pub(super) fn push(
    files: &Files,
    (from, to): (&Path, &Path),
    given: Attributes,
    way: Way,
    on_transfer: OnTransfer<'_>,
) -> Result<()> {
    let mut walk = Push { files, given, way, on_transfer, failed: Vec::new() };
    walk.folder(from, to, 0);
    Error::join(walk.failed).map_or(Ok(()), Err)
}

struct Push<'a, 'b> {
    files: &'a Files,
    given: Attributes,
    way: Way,
    on_transfer: OnTransfer<'b>,
    failed: Vec<Error>,
}

impl Push<'_, '_> {
    fn folder(&mut self, from: &Path, to: &Path, depth: usize) {
        match self.make(from, to, depth) {
            Err(e) => self.failed.push(e),
            Ok(mut names) => {
                names.sort();
                for name in names {
                    let (from, to) = (from.join(&name), to.join(&name));
                    if let Err(e) = self.entry(&from, &to, depth + 1) {
                        self.failed.push(e);
                    }
                }
            }
        }
    }

    /// Makes the folder; the names in it.
    fn make(&mut self, from: &Path, to: &Path, depth: usize) -> Result<Vec<std::ffi::OsString>> {
        let shown = || format!("Failed to open source folder \"{}\"", from.display());
        if depth > DEEPEST {
            return Err(too_deep()).with_context(shown);
        }
        let meta = std::fs::metadata(from).with_context(shown)?;
        let names = std::fs::read_dir(from).with_context(shown)?;
        let names =
            names.map(|entry| entry.map(|e| e.file_name())).collect::<std::io::Result<_>>().with_context(shown)?;
        let mode = self.given.mode.filter(|_| depth == 0).unwrap_or(meta.mode() & 0o777);
        let attributes = Attributes {
            uid: self.given.uid.or(Some(meta.uid())),
            gid: self.given.gid.or(Some(meta.gid())),
            mode: Some(mode),
        };
        files::push(&self.files.root(), to, Content::Directory, &attributes, false)?;
        Ok(names)
    }

    fn entry(&mut self, from: &Path, to: &Path, depth: usize) -> Result<()> {
        let shown = || format!("Failed to open source file \"{}\"", from.display());
        let found = match self.way.follow_all {
            true => std::fs::metadata(from),
            false => std::fs::symlink_metadata(from),
        };
        let kind = found.with_context(shown)?.file_type();
        if kind.is_dir() {
            self.folder(from, to, depth);
            return Ok(());
        }
        if !kind.is_file() && !kind.is_symlink() {
            return Err(Error::invalid(format!("\"{}\" isn't a supported file type", from.display())));
        }
        let local = Local::open(Source::Path(from.to_path_buf()), !self.way.follow_all)?;
        let attributes = Attributes { mode: None, ..self.given };
        let attributes = local.attributes(&attributes);
        deliver(self.files, local, to, &attributes, self.on_transfer)
    }
}

/// Pulls the folder `from` of an instance, with the names in it, as `name` into the folder `into`; without a name into that one itself.
///
/// # Errors
/// All that did not work, joined.
pub(super) fn pull(
    files: &Files,
    from: &Path,
    (into, name): (&Path, Option<&OsStr>),
    found: Pulled,
    way: Way,
    on_transfer: OnTransfer<'_>,
) -> Result<()> {
    let target = path::open_root(into).with_context(|| format!("Failed opening \"{}\"", into.display()))?;
    let mut walk = Pull { files, way, on_transfer, failed: Vec::new() };
    match name {
        Some(name) => walk.folder(from, (target.as_fd(), name), found, 0),
        None => walk.content(from, &target, found, 0),
    }
    Error::join(walk.failed).map_or(Ok(()), Err)
}

struct Pull<'a, 'b> {
    files: &'a Files,
    way: Way,
    on_transfer: OnTransfer<'b>,
    failed: Vec<Error>,
}

/// Owner of what is written here: us.
fn ours(mode: u32) -> Owner {
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    Owner { uid, gid, mode: mode & 0o777 }
}

impl Pull<'_, '_> {
    fn folder(&mut self, from: &Path, (into, name): (BorrowedFd<'_>, &OsStr), found: Pulled, depth: usize) {
        let owner = ours(found.owner.mode);
        let made = match depth > DEEPEST {
            true => Err(too_deep()),
            // One that is there stays as it is; a link to one is none.
            false => path::create_dir_all(into, Path::new(name), owner.uid, owner.gid, owner.mode, Links::Refuse),
        };
        match made.with_context(|| format!("Failed pulling \"{}\"", from.display())) {
            Ok(folder) => self.content(from, &folder, found, depth),
            Err(e) => self.failed.push(e),
        }
    }

    fn content(&mut self, from: &Path, folder: &OwnedFd, found: Pulled, depth: usize) {
        let Found::Directory(names) = found.found else { return };
        for name in names {
            let from = from.join(&name);
            if let Err(e) = self.entry(&from, (folder.as_fd(), &name), depth + 1) {
                self.failed.push(e);
            }
        }
    }

    fn entry(&mut self, from: &Path, (into, name): (BorrowedFd<'_>, &OsStr), depth: usize) -> Result<()> {
        let pulled = files::pull(&self.files.root(), from, self.way.follow_all)?;
        let failed = || format!("Failed pulling \"{}\"", from.display());
        match pulled.found {
            Found::Directory(_) => {
                self.folder(from, (into, name), pulled, depth);
                Ok(())
            }
            Found::Symlink(text) => link(into, name, &text).with_context(failed),
            Found::File(mut inner) => {
                let (shown, to) = (from.to_string_lossy(), name.to_string_lossy());
                let transfer = Transfer { from: &shown, to: &to, done: 0, total: Some(pulled.size) };
                let mut told = Told { inner: &mut inner, transfer, on_transfer: self.on_transfer };
                let mut out = file(into, name, ours(pulled.owner.mode)).with_context(failed)?;
                std::io::copy(&mut told, &mut out).map(drop).with_context(failed)
            }
        }
    }
}

/// The regular file of that name, empty, or a new one.
fn file(into: BorrowedFd<'_>, name: &OsStr, owner: Owner) -> Result<std::fs::File> {
    let name = Path::new(name);
    match path::open_regular(into, name, OFlags::WRONLY | OFlags::TRUNC, Links::Refuse) {
        Ok(file) => {
            path::chmod(file.as_fd(), owner.mode)?;
            Ok(file)
        }
        Err(e) if e.errno() == Some(libc::ENOENT) => path::create_file(into, name, owner, Links::Refuse),
        Err(e) => Err(e),
    }
}

fn link(into: BorrowedFd<'_>, name: &OsStr, text: &OsStr) -> Result<()> {
    let name = Path::new(name);
    match path::stat(into, name, Links::Refuse) {
        Ok(stat) if stat.kind == Kind::Symlink => path::unlink(into, name, Links::Refuse)?,
        Ok(_) => return Err(Error::exists("Something other than a symbolic link is there")),
        Err(e) if e.errno() == Some(libc::ENOENT) => {}
        Err(e) => return Err(e),
    }
    path::symlink(into, name, text, Links::Refuse)
}
