//! Opening below a folder fd: the one place where `store` turns a relative path into a file.
//!
//! Every path is resolved with openat2(2) beneath a folder that was checked once, and symlinks are refused, so a folder
//! swapped or linked after the check cannot redirect us. Called by the other files of `store` only.

use crate::error::{Context, Result};
use rustix::fs::{AtFlags, CWD, Mode, OFlags, RawDir, ResolveFlags};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// A folder and its name for messages.
#[derive(Debug)]
pub struct Dir {
    fd: OwnedFd,
    path: std::path::PathBuf,
}

const FOLDER: OFlags = OFlags::DIRECTORY.union(OFlags::RDONLY).union(OFlags::CLOEXEC).union(OFlags::NOFOLLOW);
const BENEATH: ResolveFlags = ResolveFlags::BENEATH.union(ResolveFlags::NO_SYMLINKS).union(ResolveFlags::NO_MAGICLINKS);

fn io(e: Errno) -> std::io::Error {
    e.into()
}

impl Dir {
    /// Opens the folder `path`; its last component must not be a symlink.
    pub fn open(path: &Path) -> std::io::Result<Self> {
        let fd = rustix::fs::openat(CWD, path, FOLDER, Mode::empty()).map_err(io)?;
        Ok(Self { fd, path: path.to_path_buf() })
    }

    /// The full path of `rel`, for messages and for callers outside.
    pub fn path(&self, rel: impl AsRef<Path>) -> std::path::PathBuf {
        let rel = rel.as_ref();
        if rel.as_os_str().is_empty() { self.path.clone() } else { self.path.join(rel) }
    }

    /// openat2(2) beneath this folder; no symlink is followed; close-on-exec always.
    pub fn open_at(&self, rel: impl AsRef<Path>, flags: OFlags, mode: u32) -> std::io::Result<File> {
        let flags = flags | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let mode = if flags.intersects(OFlags::CREATE) { Mode::from_raw_mode(mode) } else { Mode::empty() };
        // EAGAIN: a rename happened somewhere while ".." was resolved; our paths have none, but the manual allows it.
        loop {
            match rustix::fs::openat2(&self.fd, rel.as_ref(), flags, mode, BENEATH) {
                Ok(fd) => return Ok(fd.into()),
                Err(Errno::AGAIN | Errno::INTR) => {}
                Err(e) => return Err(e.into()),
            }
        }
    }

    /// A folder below.
    pub fn dir(&self, rel: impl AsRef<Path>) -> std::io::Result<Dir> {
        let rel = rel.as_ref();
        let at = if rel.as_os_str().is_empty() { Path::new(".") } else { rel };
        let fd = self.open_at(at, FOLDER, 0)?.into();
        Ok(Dir { fd, path: self.path(rel) })
    }

    /// The folder `rel` lies in, and its last component.
    pub fn parent<'p>(&self, rel: &'p Path) -> std::io::Result<(Dir, &'p OsStr)> {
        let name = rel.file_name().ok_or(Errno::INVAL).map_err(io)?;
        Ok((self.dir(rel.parent().unwrap_or(Path::new("")))?, name))
    }

    /// Makes one folder, its parent being there. `false`: it was there already.
    pub fn make(&self, rel: impl AsRef<Path>, mode: u32) -> std::io::Result<bool> {
        let (parent, name) = self.parent(rel.as_ref())?;
        let bits = Mode::from_raw_mode(mode);
        match rustix::fs::mkdirat(&parent.fd, name, bits) {
            // The umask may have taken the search bit that a container's ids need. The folder above is closed to others,
            // so what the name means has not changed since.
            Ok(()) if mode & 0o077 != 0 => {
                rustix::fs::chmodat(&parent.fd, name, bits, AtFlags::empty()).map(|()| true).map_err(io)
            }
            Ok(()) => Ok(true),
            Err(Errno::EXIST) => Ok(false),
            Err(e) => Err(e.into()),
        }
    }

    /// Makes a folder and those above it, all with `mode`.
    pub fn make_all(&self, rel: impl AsRef<Path>, mode: u32) -> std::io::Result<Dir> {
        let rel = rel.as_ref();
        match self.dir(rel) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound && !rel.as_os_str().is_empty() => {
                self.make_all(rel.parent().unwrap_or(Path::new("")), mode)?;
                self.make(rel, mode)?;
                self.dir(rel)
            }
            other => other,
        }
    }

    /// Removes a file. `false`: it was not there.
    pub fn unlink(&self, rel: impl AsRef<Path>) -> std::io::Result<bool> {
        self.remove(rel.as_ref(), AtFlags::empty())
    }

    /// Removes a file for good: after a power cut it does not come back. `false`: it was not there.
    pub fn unlink_durable(&self, rel: impl AsRef<Path>) -> std::io::Result<bool> {
        let was = self.unlink(rel.as_ref())?;
        if was {
            self.parent(rel.as_ref())?.0.sync()?;
        }
        Ok(was)
    }

    /// Removes an empty folder. `false`: it was not there.
    pub fn rmdir(&self, rel: impl AsRef<Path>) -> std::io::Result<bool> {
        self.remove(rel.as_ref(), AtFlags::REMOVEDIR)
    }

    fn remove(&self, rel: &Path, flags: AtFlags) -> std::io::Result<bool> {
        let (parent, name) = match self.parent(rel) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(false),
            other => other?,
        };
        match rustix::fs::unlinkat(&parent.fd, name, flags) {
            Ok(()) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(e) => Err(e.into()),
        }
    }

    /// Whether something is there; a symlink counts as something.
    pub fn exists(&self, rel: impl AsRef<Path>) -> std::io::Result<bool> {
        match self.open_at(rel, OFlags::PATH, 0) {
            Ok(_) => Ok(true),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(false),
            Err(e) if e.raw_os_error() == Some(libc::ELOOP) => Ok(true),
            Err(e) => Err(e),
        }
    }

    /// Names in this folder, sorted; `.`, `..` and names beginning with a dot are left out (temporary files).
    pub fn names(&self) -> std::io::Result<Vec<String>> {
        self.names_where(|n| !n.starts_with('.'))
    }

    /// Names beginning with a dot, sorted.
    pub fn hidden(&self) -> std::io::Result<Vec<String>> {
        self.names_where(|n| n.starts_with('.') && n != "." && n != "..")
    }

    fn names_where(&self, wanted: impl Fn(&str) -> bool) -> std::io::Result<Vec<String>> {
        rustix::fs::seek(&self.fd, rustix::fs::SeekFrom::Start(0)).map_err(io)?;
        let mut buffer = Vec::with_capacity(32 * 1024);
        let mut out = Vec::new();
        let mut raw = RawDir::new(&self.fd, buffer.spare_capacity_mut());
        while let Some(entry) = raw.next() {
            let entry = entry.map_err(io)?;
            // A name that is not UTF-8 is none of ours.
            match entry.file_name().to_str() {
                Ok(name) if wanted(name) => out.push(name.to_string()),
                _ => {}
            }
        }
        out.sort_unstable();
        Ok(out)
    }

    /// Syncs this folder's entries.
    pub fn sync(&self) -> std::io::Result<()> {
        rustix::fs::fsync(&self.fd).map_err(io)
    }
}

impl AsFd for Dir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// The names of a folder below `base`; none if it is not there.
pub fn list(base: &Dir, rel: impl AsRef<Path>) -> Result<Option<(Dir, Vec<String>)>> {
    let rel = rel.as_ref();
    let found = match base.dir(rel) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        other => other.and_then(|d| d.names().map(|n| (d, n))),
    };
    found.map(Some).with_context(|| format!("Failed listing \"{}\"", base.path(rel).display()))
}

/// Renames within a file system; `replace` false refuses to overwrite.
pub fn rename(from: &Dir, a: &OsStr, to: &Dir, b: &OsStr, replace: bool) -> std::io::Result<()> {
    let flags = if replace { rustix::fs::RenameFlags::empty() } else { rustix::fs::RenameFlags::NOREPLACE };
    match rustix::fs::renameat_with(&from.fd, a.as_bytes(), &to.fd, b.as_bytes(), flags) {
        Err(e) => Err(e.into()),
        Ok(()) => Ok(()),
    }
}
