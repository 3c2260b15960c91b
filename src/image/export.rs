//! Writes a tree as a tar archive: sorted, with owners, attributes, hard links and nodes, the same bytes for the same tree.
//!
//! Used by `import` (folders, squashfs), `bootstrap`, publishing and backups. The tree may belong to a running guest: it is walked by directory
//! fds without following links, and only regular files are opened. Also the file names of `image export`.

use super::Fingerprint;
use super::compress::{Compression, Encoder};
use super::decompress::Format;
use super::sparse;
use super::tarread::{Entry, EntryKind};
use super::tarwrite::TarWriter;
use crate::error::{Context, Error, Result};
use crate::sys::path::{self, Kind, Links, Stat};
use crate::sys::xattr::{self, may_unpack};
use rustix::fs::OFlags;
use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Deepest tree that is walked (a path is at most 4096 bytes anyway).
const DEPTH_MAX: usize = 2048;

/// Changes an entry of a tree before it is written.
pub type Change<'a> = &'a (dyn Fn(&mut Entry) + Sync);

/// A folder on the way down a tree.
struct Level {
    dir: OwnedFd,
    /// In the archive.
    name: Vec<u8>,
    left: std::vec::IntoIter<path::Entry>,
}

/// Writes trees into one archive.
pub struct Exporter<'a, W: Write> {
    tar: TarWriter<W>,
    change: Option<Change<'a>>,
    /// Files with several names: device and inode, and the first name.
    seen: HashMap<(u64, u64), Vec<u8>>,
    entries: u64,
    bytes: u64,
}

impl<W: Write> std::fmt::Debug for Exporter<'_, W> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Exporter").field("links", &self.seen.len()).finish_non_exhaustive()
    }
}

impl<'a, W: Write> Exporter<'a, W> {
    /// Begins an archive.
    pub fn new(sink: W) -> Self {
        Self { tar: TarWriter::new(sink), change: None, seen: HashMap::new(), entries: 0, bytes: 0 }
    }

    /// The same, with a change of the owners of what [`Exporter::tree`] adds.
    #[must_use]
    pub fn changed(mut self, change: Option<Change<'a>>) -> Self {
        self.change = change;
        self
    }

    /// The same, for a tree that has nothing to do with the ones before: no file of it is a further name of one of theirs.
    pub fn next_tree(self) -> Exporter<'static, W> {
        Exporter { tar: self.tar, change: None, seen: HashMap::new(), entries: self.entries, bytes: self.bytes }
    }

    /// Entries so far.
    pub fn entries(&self) -> u64 {
        self.entries
    }

    /// Bytes of files so far.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    fn append(&mut self, mut entry: Entry, data: &mut dyn Read) -> Result<()> {
        self.entries += 1;
        self.bytes += entry.size;
        if let Some(change) = self.change {
            change(&mut entry);
        }
        self.tar.append(&entry, data)
    }

    /// Adds a regular file of ours.
    ///
    /// # Errors
    /// The sink fails.
    pub fn file(&mut self, name: &str, data: &[u8], mtime: i64) -> Result<()> {
        let stat = Stat {
            kind: Kind::File,
            mode: 0o644,
            uid: 0,
            gid: 0,
            size: data.len() as u64,
            dev: 0,
            ino: 0,
            nlink: 1,
            rdev: 0,
            mtime: (mtime, 0),
        };
        let entry = entry(EntryKind::File, name.as_bytes().to_vec(), &stat);
        self.entries += 1;
        self.bytes += entry.size;
        // It is ours, not of a tree.
        self.tar.append(&entry, &mut &data[..])
    }

    /// Adds a disk as the file `name`, without its holes.
    ///
    /// # Errors
    /// It cannot be read; the sink fails.
    pub fn disk(&mut self, name: &str, file: File, mtime: i64) -> Result<()> {
        let own = Entry { kind: EntryKind::File, mode: 0o600, mtime: (mtime, 0), ..super::tarwrite::empty() };
        self.contents(Entry { path: name.into(), size: file.metadata()?.len(), ..own }, file)
    }

    /// Adds what `data` gives, `size` bytes, as the file `name`.
    ///
    /// # Errors
    /// It gives less; the sink fails.
    pub fn stream(&mut self, name: String, (size, mtime): (u64, i64), data: &mut dyn Read) -> Result<()> {
        let own = Entry { kind: EntryKind::File, mode: 0o600, mtime: (mtime, 0), ..super::tarwrite::empty() };
        self.append(Entry { path: name.into_bytes(), size, ..own }, data)
    }

    /// Adds an empty folder of ours.
    ///
    /// # Errors
    /// The sink fails.
    pub fn folder(&mut self, name: &str, mtime: i64) -> Result<()> {
        let path = [name.as_bytes(), b"/"].concat();
        let own = Entry { kind: EntryKind::Dir, mode: 0o755, mtime: (mtime, 0), ..super::tarwrite::empty() };
        self.entries += 1;
        self.tar.append(&Entry { path, ..own }, &mut std::io::empty())
    }

    /// Adds the directory `dir` and everything beneath it as `name` ("rootfs"; "." for names without prefix).
    ///
    /// # Errors
    /// The tree cannot be read; the sink fails.
    pub fn tree(&mut self, dir: BorrowedFd<'_>, name: &str) -> Result<()> {
        let dir = path::open_dir(dir, Path::new("."), Links::Refuse)?;
        let mut levels = vec![self.level(dir, name.as_bytes().to_vec())?];
        while let Some(level) = levels.last_mut() {
            let Some(child) = level.left.next() else {
                levels.pop();
                continue;
            };
            let full = [&level.name[..], b"/", child.name.as_bytes()].concat();
            let done = match self.child(level.dir.as_fd(), &child.name, full.clone()) {
                Ok(Some(_)) if levels.len() > DEPTH_MAX => return Err(Error::failed("The tree is too deep")),
                Ok(Some(inner)) => self.level(inner, full).map(Some),
                other => other.map(|_| None),
            };
            match done {
                // Gone since the folder was listed.
                Err(e) if e.errno() == Some(libc::ENOENT) => {}
                other => levels.extend(other.with_context(|| format!("Failed archiving {:?}", child.name))?),
            }
        }
        Ok(())
    }

    /// Adds a folder without what is in it.
    fn level(&mut self, dir: OwnedFd, name: Vec<u8>) -> Result<Level> {
        let mut own = entry(EntryKind::Dir, [&name[..], b"/"].concat(), &path::fstat(dir.as_fd())?);
        own.xattrs = kept(xattr::list(dir.as_fd())?);
        self.append(own, &mut std::io::empty())?;
        let left = path::read_dir(dir.as_fd())?.into_iter();
        Ok(Level { dir, name, left })
    }

    /// Adds one name of a folder; one that is a folder is opened, and that is all.
    fn child(&mut self, dir: BorrowedFd<'_>, bare: &OsStr, name: Vec<u8>) -> Result<Option<OwnedFd>> {
        let there = path::stat_in(dir, bare)?;
        let kind = match there.kind {
            Kind::Dir => return path::open_dir(dir, Path::new(bare), Links::Refuse).map(Some),
            // They belong to a process; GNU tar leaves them out as well.
            Kind::Socket => return Ok(None),
            Kind::File => EntryKind::File,
            Kind::Symlink => EntryKind::Symlink,
            Kind::Char => EntryKind::Char,
            Kind::Block => EntryKind::Block,
            Kind::Fifo => EntryKind::Fifo,
        };
        if there.nlink > 1 {
            let key = (there.dev, there.ino);
            if let Some(first) = self.seen.get(&key) {
                let mut link = entry(EntryKind::HardLink, name, &there);
                link.link.clone_from(first);
                return self.append(link, &mut std::io::empty()).map(|()| None);
            }
            self.seen.insert(key, name.clone());
        }
        if kind == EntryKind::File {
            return self.regular(dir, bare, name).map(|()| None);
        }
        let mut own = entry(kind, name, &there);
        if kind == EntryKind::Symlink {
            own.link = path::read_link(dir, bare)?.as_bytes().to_vec();
        }
        own.xattrs = kept(xattr::list_in(dir, bare)?);
        self.append(own, &mut std::io::empty()).map(|()| None)
    }

    fn regular(&mut self, dir: BorrowedFd<'_>, bare: &OsStr, name: Vec<u8>) -> Result<()> {
        let file = path::open_regular(dir, Path::new(bare), OFlags::RDONLY, Links::Refuse)?;
        let now = path::fstat(file.as_fd())?;
        let mut own = entry(EntryKind::File, name, &now);
        own.xattrs = kept(xattr::list(file.as_fd())?);
        self.contents(own, file)
    }

    fn contents(&mut self, mut own: Entry, mut file: File) -> Result<()> {
        match sparse::find(&file, own.size) {
            Some(pieces) => {
                own.segments = Some(pieces.clone());
                self.append(own, &mut sparse::Pieces::new(&file, &pieces))
            }
            None => {
                // Looking for holes has moved it.
                std::io::Seek::rewind(&mut file).context("lseek")?;
                self.append(own, &mut file)
            }
        }
    }

    /// Marks the end and returns the sink.
    ///
    /// # Errors
    /// The sink fails.
    pub fn finish(self) -> Result<W> {
        self.tar.finish()
    }
}

fn kept(mut xattrs: Vec<xattr::Attribute>) -> Vec<xattr::Attribute> {
    xattrs.retain(|(name, _)| may_unpack(name));
    xattrs
}

fn entry(kind: EntryKind, path: Vec<u8>, stat: &Stat) -> Entry {
    Entry {
        kind,
        path,
        link: Vec::new(),
        mode: stat.mode,
        uid: stat.uid,
        gid: stat.gid,
        mtime: (stat.mtime.0, 0),
        size: if kind == EntryKind::File { stat.size } else { 0 },
        segments: None,
        device: (rustix::fs::major(stat.rdev), rustix::fs::minor(stat.rdev)),
        xattrs: Vec::new(),
    }
}

/// What goes into an image.
#[derive(Clone, Copy)]
pub struct Unified<'a> {
    /// The `metadata.yaml`.
    pub metadata: &'a [u8],
    /// Further files at the top (`config.json` of OCI images): name and content.
    pub files: &'a [(&'a str, &'a [u8])],
    /// `templates/`, if there is one.
    pub templates: Option<BorrowedFd<'a>>,
    /// `rootfs/`.
    pub rootfs: BorrowedFd<'a>,
    /// Of the entries of `rootfs/`.
    pub change: Option<Change<'a>>,
    /// Date of the files that come without one, seconds.
    pub mtime: i64,
}

impl std::fmt::Debug for Unified<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Unified").field("rootfs", &self.rootfs).finish_non_exhaustive()
    }
}

/// Writes a unified image archive: `metadata.yaml`, further files, `templates/`, `rootfs/`.
///
/// # Errors
/// The tree cannot be read; the sink fails.
pub fn unified<W: Write>(sink: W, how: impl Into<Compression>, parts: &Unified<'_>) -> Result<W> {
    let mut out = Exporter::new(Encoder::new(sink, how)?);
    parts.beside_the_root(&mut out)?;
    let mut out = out.changed(parts.change);
    out.tree(parts.rootfs, "rootfs")?;
    out.finish()?.finish()
}

/// Writes the metadata archive of a split image: all of [`unified`] but `rootfs/`.
///
/// # Errors
/// As [`unified`].
pub fn metadata<W: Write>(sink: W, how: impl Into<Compression>, parts: &Unified<'_>) -> Result<W> {
    let mut out = Exporter::new(Encoder::new(sink, how)?);
    parts.beside_the_root(&mut out)?;
    out.finish()?.finish()
}

/// Writes the root file system of a split image.
///
/// # Errors
/// As [`unified`].
pub fn rootfs<W: Write>(sink: W, how: impl Into<Compression>, parts: &Unified<'_>) -> Result<W> {
    let mut out = Exporter::new(Encoder::new(sink, how)?).changed(parts.change);
    out.tree(parts.rootfs, ".")?;
    out.finish()?.finish()
}

impl Unified<'_> {
    /// The root folder's own entry.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn root(&self) -> Result<Entry> {
        let mut own = entry(EntryKind::Dir, b"./".to_vec(), &path::fstat(self.rootfs)?);
        if let Some(change) = self.change {
            change(&mut own);
        }
        Ok(own)
    }

    fn beside_the_root<W: Write>(&self, out: &mut Exporter<'_, W>) -> Result<()> {
        out.file("metadata.yaml", self.metadata, self.mtime)?;
        for (name, data) in self.files {
            out.file(name, data, self.mtime)?;
        }
        self.templates.map_or(Ok(()), |templates| out.tree(templates, "templates"))
    }
}

/// File names of `image export` for the stored file (and its rootfs file): by fingerprint, or with the stem the user gave
/// (incus-reference 1.3).
pub fn file_names(
    fingerprint: &Fingerprint,
    stem: Option<&str>,
    meta: Format,
    rootfs: Option<Format>,
) -> (String, Option<String>) {
    let base = stem.unwrap_or(fingerprint.as_str());
    match (rootfs, stem) {
        (None, _) => (format!("{base}{}", meta.extension()), None),
        (Some(root), None) => (format!("meta-{base}{}", meta.extension()), Some(format!("{base}{}", root.extension()))),
        // Two files at one given name: Incus adds no endings here.
        (Some(_), Some(_)) => (base.to_string(), Some(format!("{base}.root"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::trash;

    /// Too deep, or too many files open on the way down: it is said once.
    #[test]
    fn a_tree_that_is_too_deep_is_one_line() {
        let dir = tempfile::tempdir().expect("dir");
        let top = OwnedFd::from(File::open(dir.path()).expect("open"));
        let mut at = top.try_clone().expect("dup");
        for _ in 0..DEPTH_MAX + 2 {
            rustix::fs::mkdirat(&at, "d", rustix::fs::Mode::RWXU).expect("mkdir");
            at = path::open_dir(at.as_fd(), Path::new("d"), Links::Refuse).expect("open");
        }
        drop(at);
        let said = Exporter::new(std::io::sink()).tree(top.as_fd(), "rootfs").expect_err("deep").to_string();
        assert!(said.len() < 120 && said.matches("archiving").count() <= 1, "{said}");
        trash::remove(&dir.path().join("d")).expect("removed");
    }

    #[test]
    fn export_names() {
        let fp = Fingerprint::parse(&"a".repeat(64)).expect("fingerprint");
        let a = "a".repeat(64);
        assert_eq!(file_names(&fp, None, Format::Xz, None), (format!("{a}.tar.xz"), None));
        assert_eq!(
            file_names(&fp, None, Format::Xz, Some(Format::Squashfs)),
            (format!("meta-{a}.tar.xz"), Some(format!("{a}.squashfs")))
        );
        assert_eq!(file_names(&fp, Some("my"), Format::Zstd, None), ("my.tar.zst".into(), None));
    }
}
