//! `file push`, `file pull`, `file create`, `file delete`: one object at a time beneath an instance's root.
//!
//! Called by `ops::file`, which walks for `--recursive`. Links are resolved as the instance would (its root is `/`); what is
//! read or written is a regular file and nothing else, so a FIFO or device in its place cannot stop us or act on the host.
//! Never uses a path of the host, never resolves one twice for check and use.

use super::{MAKE, OWN, READ, REMOVE, Root, WRITE};
use crate::error::{Context, Error, Kind as ErrorKind, Result};
use crate::store::trash;
use crate::sys::path::{self, Kind, Links, Owner};
use rustix::fs::OFlags;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// Links followed by hand before it counts as a loop, as in the kernel (path_resolution(7)).
const MAX_LINKS: u32 = 40;

/// Owner and mode as the instance sees them; what is not given stays, or is 0, 0 and the kind's usual mode for a new one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Attributes {
    /// User id in the instance.
    pub uid: Option<u32>,
    /// Group id in the instance.
    pub gid: Option<u32>,
    /// Permission bits.
    pub mode: Option<u32>,
}

/// What is put into the instance.
pub enum Content<'a> {
    /// A regular file with what the reader gives. An existing one is truncated and keeps its inode.
    File(&'a mut dyn Read),
    /// A folder. An existing one stays as it is.
    Directory,
    /// A symbolic link with this text. An existing link is replaced.
    Symlink(&'a OsStr),
}

impl std::fmt::Debug for Content<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File(_) => f.write_str("File"),
            Self::Directory => f.write_str("Directory"),
            Self::Symlink(text) => write!(f, "Symlink({text:?})"),
        }
    }
}

/// What was found in the instance.
#[derive(Debug)]
pub enum Found {
    /// A regular file, open for reading at its begin.
    File(File),
    /// A folder: its bare names, sorted.
    Directory(Vec<OsString>),
    /// A symbolic link's text.
    Symlink(OsString),
}

/// An object of the instance.
#[derive(Debug)]
pub struct Pulled {
    /// The thing itself.
    pub found: Found,
    /// Owner and permission bits as the instance sees them; [`super::NOBODY`] for ids that are not mapped.
    pub owner: Owner,
    /// Bytes of a file, as told when it was opened.
    pub size: u64,
    /// Modification time: seconds, nanoseconds.
    pub mtime: (i64, u32),
}

/// The path to write for a target as given on the command line: with a slash at its end (or empty) it is a folder, and the
/// source's name is added.
///
/// # Errors
/// A folder was given and the source (standard input) has no name.
pub fn target(given: &str, source_name: Option<&OsStr>) -> Result<PathBuf> {
    let path = Path::new("/").join(given);
    if !given.is_empty() && !given.ends_with('/') {
        return Ok(path);
    }
    let name = source_name.ok_or_else(|| Error::invalid("Missing target file name"))?;
    Ok(path.join(name))
}

/// Puts one object at `path`. With `create_dirs` missing parents are made (0755, the instance's root).
///
/// # Errors
/// NotFound: a parent. Invalid: something of another kind is there; an id is not mapped. Those of reading and writing.
pub fn push(
    root: &Root<'_>,
    path: &Path,
    content: Content<'_>,
    attributes: &Attributes,
    create_dirs: bool,
) -> Result<()> {
    let failed = || format!("Failed pushing \"{}\"", path.display());
    if create_dirs {
        make_parents(root, path).with_context(failed)?;
    }
    match content {
        Content::File(reader) => push_file(root, path, reader, attributes),
        Content::Directory => push_directory(root, path, attributes),
        Content::Symlink(text) => push_symlink(root, path, text, attributes),
    }
    .with_context(failed)
}

/// Takes the object at `path`. With `follow` a link as last component is resolved, inside the root.
///
/// # Errors
/// NotFound. Invalid: a device, FIFO or socket. Those of opening.
pub fn pull(root: &Root<'_>, path: &Path, follow: bool) -> Result<Pulled> {
    take(root, path, follow).with_context(|| format!("Failed pulling \"{}\"", path.display()))
}

/// Removes the object at `path`, not followed; a folder must be empty unless `recursive`.
///
/// # Errors
/// NotFound; the folder is not empty; the root itself.
pub fn delete(root: &Root<'_>, path: &Path, recursive: bool) -> Result<()> {
    let remove = || -> Result<()> {
        let (parent, name) = path::open_parent(root.fd, path, Links::InRoot)?;
        root.allow(parent.as_fd(), REMOVE)?;
        let bare = Path::new(name);
        match path::stat(parent.as_fd(), bare, Links::Refuse)?.kind {
            // What is mounted in there is not the instance's alone: never entered.
            Kind::Dir if recursive => Ok(trash::remove_at(parent.as_fd(), name).map(drop)?),
            Kind::Dir => path::remove_dir(parent.as_fd(), bare, Links::Refuse),
            _ => path::unlink(parent.as_fd(), bare, Links::Refuse),
        }
    };
    remove().map_err(found_out).with_context(|| format!("Failed deleting \"{}\"", path.display()))
}

/// ENOENT gets its kind, so that fronts can tell.
fn found_out(e: Error) -> Error {
    match e.errno() {
        Some(libc::EXDEV | libc::EBUSY) => Error::conflict("Something is mounted there"),
        Some(libc::ENOENT | libc::ENOTDIR) if e.kind() == ErrorKind::Failed => {
            Error::not_found("Not found").with_errno(libc::ENOENT)
        }
        _ => e,
    }
}

fn is_missing(e: &Error) -> bool {
    e.errno() == Some(libc::ENOENT)
}

/// Makes the missing folders above `path`: 0755 and the instance's root's.
pub(super) fn make_parents(root: &Root<'_>, path: &Path) -> Result<()> {
    let parents: Vec<&Path> = path.ancestors().skip(1).filter(|p| p.file_name().is_some()).collect();
    parents.into_iter().rev().try_for_each(|p| push_directory(root, p, &Attributes::default()))
}

/// The folder that `path` is to be made in, open, and the bare name there.
fn place<'p>(root: &Root<'_>, path: &'p Path) -> Result<(OwnedFd, &'p Path)> {
    let (parent, name) = path::open_parent(root.fd, path, Links::InRoot)?;
    root.allow(parent.as_fd(), MAKE)?;
    Ok((parent, Path::new(name)))
}

/// A file open for writing.
pub(super) struct Target {
    /// Empty.
    pub file: File,
    /// It was not there before: owner and mode are to be set.
    pub fresh: bool,
}

/// Opens the regular file at `path` empty, or makes it (0600 until its attributes are set). A link that leads nowhere is
/// followed to where the instance would make the file. `own`: an existing one is to get other attributes.
pub(super) fn open_target(root: &Root<'_>, path: &Path, own: bool) -> Result<Target> {
    let mut at = path.to_path_buf();
    for _ in 0..MAX_LINKS {
        match path::open(root.fd, &at, OFlags::PATH, 0, Links::InRoot) {
            Ok(pin) => {
                let file = empty(root, &pin, &at, own)?;
                return Ok(Target { file, fresh: false });
            }
            Err(e) if is_missing(&e) => {}
            Err(e) => return Err(e),
        }
        let private = root.host(Owner { uid: 0, gid: 0, mode: 0o600 })?;
        let (parent, name) = place(root, &at).map_err(found_out)?;
        match root.creating(|| path::create_file(parent.as_fd(), name, private, Links::Refuse)) {
            Ok(file) => return Ok(Target { file, fresh: true }),
            Err(e) if e.errno() == Some(libc::EEXIST) => {}
            Err(e) => return Err(found_out(e)),
        }
        // A dangling link, or something that came in between: then the next round sees it.
        if let Ok(text) = path::read_link(parent.as_fd(), name.as_os_str()) {
            // Lexical, but resolved anew from the root: `..` after a link is the kernel's business.
            at = at.parent().unwrap_or(Path::new("/")).join(text);
        }
    }
    Err(Error::invalid("Too many levels of symbolic links"))
}

/// Opens the pinned regular file for writing, and empties it.
fn empty(root: &Root<'_>, pin: &OwnedFd, path: &Path, own: bool) -> Result<File> {
    if path::fstat(pin.as_fd())?.kind != Kind::File {
        return Err(Error::invalid(format!("Not a regular file: \"{}\"", path.display())));
    }
    root.allow(pin.as_fd(), if own { WRITE | OWN } else { WRITE })?;
    path::reopen(pin.as_fd(), OFlags::WRONLY | OFlags::TRUNC)
}

fn push_file(root: &Root<'_>, path: &Path, reader: &mut dyn Read, attributes: &Attributes) -> Result<()> {
    if path.as_os_str().as_bytes().ends_with(b"/") {
        return Err(Error::invalid("A file's path cannot end with a slash"));
    }
    // Refused before the file is made.
    let wanted = Attributes { mode: attributes.mode.or(Some(0o644)), ..*attributes };
    let fresh_owner = owner(root, &wanted, Owner { uid: 0, gid: 0, mode: 0o644 })?;
    let mut target = open_target(root, path, *attributes != Attributes::default())?;
    std::io::copy(reader, &mut target.file).context("write")?;
    match target.fresh {
        true => set(target.file.as_fd(), fresh_owner),
        false => apply(root, target.file.as_fd(), attributes),
    }
}

fn push_directory(root: &Root<'_>, path: &Path, attributes: &Attributes) -> Result<()> {
    let owner = owner(root, attributes, Owner { uid: 0, gid: 0, mode: 0o755 })?;
    let Ok((parent, name)) = path::open_parent(root.fd, path, Links::InRoot).map_err(found_out) else {
        // The root itself, or a missing parent.
        return path::open_dir(root.fd, path, Links::InRoot).map(drop).map_err(found_out);
    };
    // Bare and made in the parent we hold.
    match path::stat(parent.as_fd(), Path::new(name), Links::Refuse) {
        Ok(_) => return path::open_dir(root.fd, path, Links::InRoot).map(drop),
        Err(e) if is_missing(&e) => {}
        Err(e) => return Err(e),
    }
    root.allow(parent.as_fd(), MAKE)?;
    let make =
        || path::create_dir_all(parent.as_fd(), Path::new(name), owner.uid, owner.gid, owner.mode, Links::Refuse);
    root.creating(make).map(drop)
}

fn push_symlink(root: &Root<'_>, path: &Path, text: &OsStr, attributes: &Attributes) -> Result<()> {
    let owner = owner(root, attributes, Owner { uid: 0, gid: 0, mode: 0o777 })?;
    let (parent, name) = place(root, path).map_err(found_out)?;
    match path::stat(parent.as_fd(), name, Links::Refuse) {
        Ok(stat) if stat.kind == Kind::Symlink => {
            root.allow(parent.as_fd(), REMOVE).and_then(|_| path::unlink(parent.as_fd(), name, Links::Refuse))?
        }
        Ok(_) => return Err(Error::exists("Something other than a symbolic link is there")),
        Err(e) if is_missing(&e) => {}
        Err(e) => return Err(e),
    }
    root.creating(|| path::symlink(parent.as_fd(), name, text, Links::Refuse))?;
    path::chown_in(parent.as_fd(), name.as_os_str(), owner.uid, owner.gid)
}

/// The wanted attributes on our side, over the instance's `default`.
fn owner(root: &Root<'_>, attributes: &Attributes, default: Owner) -> Result<Owner> {
    root.host(Owner {
        uid: attributes.uid.unwrap_or(default.uid),
        gid: attributes.gid.unwrap_or(default.gid),
        mode: attributes.mode.unwrap_or(default.mode) & 0o7777,
    })
}

/// Sets the owner, then the mode, which a change of owner could have cut.
pub(super) fn set(fd: std::os::fd::BorrowedFd<'_>, owner: Owner) -> Result<()> {
    path::chown(fd, owner.uid, owner.gid)?;
    path::chmod(fd, owner.mode)
}

/// Sets what was asked for on an existing file, on its descriptor.
fn apply(root: &Root<'_>, fd: std::os::fd::BorrowedFd<'_>, attributes: &Attributes) -> Result<()> {
    if *attributes == Attributes::default() {
        return Ok(());
    }
    let now = path::fstat(fd)?;
    let asked = root.host(Owner {
        uid: attributes.uid.unwrap_or(0),
        gid: attributes.gid.unwrap_or(0),
        mode: attributes.mode.unwrap_or(now.mode),
    })?;
    let uid = attributes.uid.map_or(now.uid, |_| asked.uid);
    let gid = attributes.gid.map_or(now.gid, |_| asked.gid);
    set(fd, Owner { uid, gid, mode: asked.mode })
}

fn take(root: &Root<'_>, path: &Path, follow: bool) -> Result<Pulled> {
    let mut flags = OFlags::PATH;
    if !follow {
        flags |= OFlags::NOFOLLOW;
    }
    // Everything after this is about the very inode found here.
    let pin = path::open(root.fd, path, flags, 0, Links::InRoot).map_err(found_out)?;
    let stat = match path::fstat(pin.as_fd())? {
        link if link.kind == Kind::Symlink => link,
        _ => root.allow(pin.as_fd(), READ)?,
    };
    let found = match stat.kind {
        Kind::File => Found::File(path::reopen(pin.as_fd(), OFlags::RDONLY)?),
        Kind::Dir => Found::Directory(path::read_dir(pin.as_fd())?.into_iter().map(|e| e.name).collect()),
        Kind::Symlink => Found::Symlink(link_text(pin.as_fd())?),
        Kind::Char | Kind::Block | Kind::Fifo | Kind::Socket => {
            return Err(Error::invalid("Not a file, folder or symbolic link"));
        }
    };
    Ok(Pulled { found, owner: root.inside(&stat), size: stat.size, mtime: stat.mtime })
}

/// readlinkat(2) with an empty name reads the link that the descriptor pins.
fn link_text(pin: std::os::fd::BorrowedFd<'_>) -> Result<OsString> {
    let text = rustix::fs::readlinkat(pin, c"", Vec::new())?;
    Ok(OsString::from_vec(text.into_bytes()))
}

#[cfg(test)]
#[path = "files_tests.rs"]
mod tests;
