//! Writes the entries of an archive into a directory tree, through directory fds only.
//!
//! Used by `import`, `oci` and backups. The parent of an entry is looked up beneath the root by openat2: in a rootfs
//! ([`Links::InRoot`]) a link on the way is followed as the container would see it, so that `bin/ls` works where `bin` is a link to
//! `usr/bin`, and can never lead out; elsewhere ([`Links::Refuse`]) it is an error. Rules where names meet:
//! - the last entry of a name wins; what is there is unlinked first, never written into (hard link, then file) nor followed;
//! - a directory over a directory keeps the contents; over anything else it replaces it (link, then directory);
//! - anything over a directory that is not empty is an error, as is a name with `..`; a leading `/` is dropped;
//! - hard links: the target is looked up beneath the same root and must be there.
//!
//! Owners, modes, times and attributes of directories are set at the end, so that a read-only directory or a default ACL does not act on its
//! contents while they are written. Nothing is removed after an error: the caller throws its staging directory away.
//! What is different for a layer over others stands in `layer`.

mod layer;

use super::tarread::{Entry, EntryKind, TarReader, printable};
use super::{Limits, human};
use crate::error::{Context, Error, Result};
use crate::sys::path::{self, Kind, Links};
use crate::sys::writeback;
use crate::sys::xattr::{self, Attribute, may_unpack};
use rustix::fs::{AtFlags, Mode, OFlags};
use std::collections::{BTreeMap, HashMap};
use std::ffi::OsStr;
use std::fs::File;
use std::io::{BufRead, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Whose files the result consists of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owners {
    /// As the archive says.
    Keep,
    /// The calling user (for tests and users without a user namespace).
    Caller,
}

/// Files from this size on, bytes, go out to the disk while the next ones are unpacked.
const EARLY: u64 = 256 << 10;

/// How to unpack.
#[derive(Debug, Clone)]
pub struct Options {
    /// Bounds.
    pub limits: Limits,
    /// Owners.
    pub owners: Owners,
    /// Links in parents.
    pub links: Links,
}

impl Default for Options {
    fn default() -> Self {
        Self { limits: Limits::default(), owners: Owners::Keep, links: Links::InRoot }
    }
}

/// What was unpacked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Entries.
    pub entries: u64,
    /// Bytes of all files, holes included.
    pub bytes: u64,
    /// Device nodes that were made.
    pub nodes: u64,
    /// Device nodes that could not be made for want of rights.
    pub skipped_nodes: u64,
    /// Extended attributes left out: overlayfs's own, `trusted.*`, labels, and those the file system does not take.
    pub skipped_xattrs: u64,
}

/// Unpacks a whole uncompressed archive beneath `root`.
///
/// # Errors
/// The archive is bad or over a limit; the file system refuses.
pub fn archive(source: impl BufRead, root: OwnedFd, options: &Options) -> Result<Stats> {
    let mut tar = TarReader::new(source, &options.limits);
    let mut unpacker = Unpacker::new(root, options.clone());
    while let Some(entry) = tar.next_entry()? {
        unpacker.entry(&mut tar, entry)?;
    }
    unpacker.finish()
}

/// The components of a name: no empty ones, no `.`, and none that climbs. Joined by single slashes; empty for the root.
///
/// # Errors
/// `..`; a component over 255 bytes; too long or too deep.
pub fn clean_path(path: &[u8], depth: usize) -> Result<Vec<u8>> {
    let bad = |why: &str| Error::invalid(format!("Bad archive: the name {} {why}", printable(path)));
    let mut clean = Vec::with_capacity(path.len());
    let mut components = 0;
    for part in path.split(|b| *b == b'/').filter(|p| !p.is_empty() && *p != b".") {
        components += 1;
        if part == b".." {
            return Err(bad("leads upwards"));
        }
        if part.len() > 255 || part.contains(&0) {
            return Err(bad("is not a file name"));
        }
        if !clean.is_empty() {
            clean.push(b'/');
        }
        clean.extend_from_slice(part);
    }
    // PATH_MAX counts the final NUL.
    if clean.len() > 4095 || components > depth {
        return Err(bad("is too long"));
    }
    Ok(clean)
}

/// Parents kept open.
const PARENTS: usize = 64;

/// What a directory gets at the end.
struct Late {
    mode: u32,
    uid: u32,
    gid: u32,
    mtime: (i64, u32),
    xattrs: Vec<Attribute>,
}

/// Unpacks entry by entry.
pub struct Unpacker {
    root: OwnedFd,
    options: Options,
    parents: HashMap<Vec<u8>, OwnedFd>,
    late: BTreeMap<Vec<u8>, Late>,
    memory: usize,
    stats: Stats,
    /// Unpacks a layer over others.
    layer: Option<layer::Layer>,
}

impl std::fmt::Debug for Unpacker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Unpacker").field("stats", &self.stats).finish_non_exhaustive()
    }
}

fn split(path: &[u8]) -> (&[u8], &OsStr) {
    let at = path.iter().rposition(|b| *b == b'/');
    let (parent, name) = at.map_or((&[][..], path), |i| (&path[..i], &path[i + 1..]));
    (parent, OsStr::from_bytes(name))
}

fn bytes_path(path: &[u8]) -> &Path {
    Path::new(OsStr::from_bytes(path))
}

fn errno<T>(r: rustix::io::Result<T>) -> std::io::Result<T> {
    r.map_err(std::io::Error::from)
}

impl Unpacker {
    /// Into the directory `root`.
    pub fn new(root: OwnedFd, options: Options) -> Self {
        let (parents, late) = (HashMap::new(), BTreeMap::new());
        Self { root, options, parents, late, memory: 0, stats: Stats::default(), layer: None }
    }

    /// Writes one entry, whose data `tar` is about to give.
    ///
    /// # Errors
    /// See [`archive`].
    pub fn entry<R: BufRead>(&mut self, tar: &mut TarReader<R>, entry: Entry) -> Result<()> {
        let shown = entry.name();
        self.write(tar, entry).with_context(|| format!("Failed unpacking {shown}"))
    }

    fn write<R: BufRead>(&mut self, tar: &mut TarReader<R>, mut entry: Entry) -> Result<()> {
        let path = clean_path(&entry.path, self.options.limits.depth)?;
        self.stats.entries += 1;
        self.stats.bytes = self.stats.bytes.saturating_add(entry.size);
        if self.stats.bytes > self.options.limits.bytes {
            let max = human(self.options.limits.bytes);
            return Err(Error::invalid(format!("The image holds more than {max}")));
        }
        self.filter_xattrs(&mut entry.xattrs);
        if self.layer.is_some() && self.layered(&path)? {
            return Ok(());
        }
        if path.is_empty() {
            return match entry.kind {
                EntryKind::Dir => self.postpone(path, entry),
                _ => Err(Error::invalid("Bad archive: its root is not a directory")),
            };
        }
        match entry.kind {
            EntryKind::Dir => self.dir(path, entry),
            EntryKind::File => self.file(tar, &path, &entry),
            EntryKind::HardLink => self.hard_link(&path, &entry),
            EntryKind::Symlink => self.symlink(&path, &entry),
            EntryKind::Char | EntryKind::Block | EntryKind::Fifo => self.node(&path, &entry),
        }
    }

    /// Makes sure the parent of `path` is open, and returns it.
    fn parent<'a>(&mut self, path: &'a [u8]) -> Result<(&OwnedFd, &'a OsStr)> {
        let (parent, name) = split(path);
        if !self.parents.contains_key(parent) {
            if self.parents.len() >= PARENTS {
                self.parents.clear();
            }
            let fd = self.open_parent(parent)?;
            self.parents.insert(parent.to_vec(), fd);
        }
        Ok((&self.parents[parent], name))
    }

    fn open_parent(&mut self, parent: &[u8]) -> Result<OwnedFd> {
        let (rel, links) = (bytes_path(parent), self.options.links);
        match path::open(self.root.as_fd(), rel, OFlags::PATH | OFlags::DIRECTORY, 0, links) {
            // The archive did not mention it.
            Err(e) if e.errno() == Some(libc::ENOENT) => {
                self.touch_nearest(parent)?;
                let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
                path::create_dir_all(self.root.as_fd(), rel, uid, gid, 0o755, links)
            }
            other => {
                let fd = other?;
                self.touch(parent, &fd)?;
                Ok(fd)
            }
        }
    }

    /// Makes room for `path`: what is there is removed, unless it is a directory with contents.
    fn clear(&mut self, path: &[u8]) -> Result<()> {
        let over_others = self.layer.is_some();
        let (parent, name) = self.parent(path)?;
        let there = path::stat_in(parent.as_fd(), name)?;
        let flags = if there.kind == Kind::Dir { AtFlags::REMOVEDIR } else { AtFlags::empty() };
        if over_others {
            layer::remove(parent.as_fd(), name, there.kind)?;
        } else {
            errno(rustix::fs::unlinkat(parent, name, flags)).context("Another entry is in the way")?;
        }
        if matches!(there.kind, Kind::Dir | Kind::Symlink) {
            // Open parents may have been reached through it.
            self.parents.clear();
            self.late.remove(path);
        }
        Ok(())
    }

    /// Tries `make`; if the name is taken, makes room and tries once more.
    fn make<T>(&mut self, path: &[u8], make: impl Fn(&OwnedFd, &OsStr) -> Result<T>) -> Result<T> {
        let (parent, name) = self.parent(path)?;
        match make(parent, name) {
            Err(e) if e.errno() == Some(libc::EEXIST) => {}
            other => return other,
        }
        self.clear(path)?;
        let (parent, name) = self.parent(path)?;
        make(parent, name)
    }

    fn dir(&mut self, path: Vec<u8>, entry: Entry) -> Result<()> {
        let (parent, name) = self.parent(&path)?;
        let there = match errno(rustix::fs::mkdirat(parent, name, Mode::RWXU)) {
            Err(e) if e.raw_os_error() == Some(libc::EEXIST) => Some(path::stat_in(parent.as_fd(), name)?.kind),
            other => other.map(|()| None).context("mkdirat")?,
        };
        if there.is_some_and(|kind| kind != Kind::Dir) {
            self.clear(&path)?;
            let (parent, name) = self.parent(&path)?;
            errno(rustix::fs::mkdirat(parent, name, Mode::RWXU)).context("mkdirat")?;
        }
        self.postpone(path, entry)
    }

    fn postpone(&mut self, path: Vec<u8>, entry: Entry) -> Result<()> {
        let Entry { mode, uid, gid, mtime, xattrs, .. } = entry;
        self.memory += path.len() + 160 + xattrs.iter().map(|(n, v)| n.len() + v.len() + 96).sum::<usize>();
        if self.memory > self.options.limits.memory {
            return Err(Error::invalid("The image has too many directories"));
        }
        self.late.insert(path, Late { mode, uid, gid, mtime, xattrs });
        Ok(())
    }

    fn file<R: BufRead>(&mut self, tar: &mut TarReader<R>, path: &[u8], entry: &Entry) -> Result<()> {
        let mut file = self.make(path, |parent, name| path::create_in(parent.as_fd(), name))?;
        match &entry.segments {
            None => tar.data(&mut |piece| Ok(file.write_all(piece)?))?,
            Some(segments) => {
                let mut writer = SparseWriter { file: &file, segments, at: 0, done: 0 };
                tar.data(&mut |piece| writer.write(piece))?;
                file.set_len(entry.size).context("ftruncate")?;
            }
        }
        if entry.size >= EARLY {
            writeback::begin(file.as_fd(), 0, 0);
        }
        self.finish_fd(&file, entry)
    }

    /// Owner, then mode (chown clears set-id bits), then attributes (chown clears capabilities), then times.
    fn finish_fd(&mut self, file: &File, entry: &Entry) -> Result<()> {
        if self.options.owners == Owners::Keep {
            path::chown(file.as_fd(), entry.uid, entry.gid)?;
        }
        path::chmod(file.as_fd(), entry.mode)?;
        self.set_xattrs(&entry.xattrs, |name, value| xattr::set(file.as_fd(), name, value))?;
        path::set_times(file.as_fd(), entry.mtime)
    }

    fn hard_link(&mut self, path: &[u8], entry: &Entry) -> Result<()> {
        let target = clean_path(&entry.link, self.options.limits.depth)?;
        if target.is_empty() {
            return Err(Error::invalid("Bad archive: a hard link to the root"));
        }
        let (from, old) = split(&target);
        let from =
            path::open(self.root.as_fd(), bytes_path(from), OFlags::PATH | OFlags::DIRECTORY, 0, self.options.links)
                .with_context(|| format!("Failed finding {}", printable(&target)))?;
        // The link itself, if the target is one.
        let there =
            path::stat_in(from.as_fd(), old).with_context(|| format!("Failed finding {}", printable(&target)))?;
        let (parent, name) = self.parent(path)?;
        // Its own name too: GNU tar takes this as done.
        if path::stat_in(parent.as_fd(), name).is_ok_and(|s| (s.dev, s.ino) == (there.dev, there.ino)) {
            return Ok(());
        }
        self.make(path, |parent, name| {
            errno(rustix::fs::linkat(&from, old, parent, name, AtFlags::empty())).context("linkat")
        })
    }

    fn symlink(&mut self, path: &[u8], entry: &Entry) -> Result<()> {
        if entry.link.is_empty() {
            return Err(Error::invalid("Bad archive: a symbolic link without target"));
        }
        self.make(path, |parent, name| {
            errno(rustix::fs::symlinkat(&entry.link[..], parent, name)).context("symlinkat")
        })?;
        self.finish_name(path, entry)
    }

    fn node(&mut self, path: &[u8], entry: &Entry) -> Result<()> {
        let kind = match entry.kind {
            EntryKind::Char => Kind::Char,
            EntryKind::Block => Kind::Block,
            _ => Kind::Fifo,
        };
        match self.make(path, |parent, name| path::mknod_in(parent.as_fd(), name, kind, entry.device)) {
            Err(e) if kind != Kind::Fifo && e.errno() == Some(libc::EPERM) => {
                self.stats.skipped_nodes += 1;
                return Ok(());
            }
            other => other?,
        }
        self.stats.nodes += u64::from(kind != Kind::Fifo);
        self.finish_name(path, entry)
    }

    /// What cannot be opened gets its owner, mode and times by parent and bare name; nobody else works in this tree.
    fn finish_name(&mut self, path: &[u8], entry: &Entry) -> Result<()> {
        let keep = self.options.owners == Owners::Keep;
        let (parent, name) = self.parent(path)?;
        let parent = parent.try_clone()?;
        if keep {
            path::chown_in(parent.as_fd(), name, entry.uid, entry.gid)?;
        }
        if entry.kind != EntryKind::Symlink {
            let pin = path::open(parent.as_fd(), Path::new(name), OFlags::PATH, 0, Links::Refuse)?;
            path::chmod(pin.as_fd(), entry.mode)?;
        }
        self.set_xattrs(&entry.xattrs, |attribute, value| xattr::set_in(parent.as_fd(), name, attribute, value))?;
        path::set_times_in(parent.as_fd(), name, entry.mtime)
    }

    /// Only attributes that belong to the content may come in: those of overlayfs would redirect files once the tree is a layer.
    fn filter_xattrs(&mut self, xattrs: &mut Vec<Attribute>) {
        let before = xattrs.len();
        xattrs.retain(|(name, _)| may_unpack(name));
        self.stats.skipped_xattrs += (before - xattrs.len()) as u64;
    }

    fn set_xattrs(&mut self, xattrs: &[Attribute], set: impl Fn(&[u8], &[u8]) -> Result<()>) -> Result<()> {
        for (name, value) in xattrs {
            match set(name, value) {
                Ok(()) => {}
                Err(e) if self.is_harmless(&e) => self.stats.skipped_xattrs += 1,
                Err(e) => return Err(e.context(format!("Failed setting {}", printable(name)))),
            }
        }
        Ok(())
    }

    /// The file system, or an older kernel for links, has no such attributes; or we may not set them as an ordinary user.
    fn is_harmless(&self, e: &Error) -> bool {
        match e.errno() {
            Some(libc::EOPNOTSUPP | libc::ENOSYS) => true,
            Some(libc::EPERM) => self.options.owners == Owners::Caller,
            _ => false,
        }
    }

    /// Gives the directories their owners, modes, attributes and times.
    ///
    /// # Errors
    /// See [`archive`].
    pub fn finish(mut self) -> Result<Stats> {
        self.parents.clear();
        self.restore_touched()?;
        // Children before parents: the latter may be closed to us afterwards.
        while let Some((path, late)) = self.late.pop_last() {
            let shown = printable(&path);
            self.finish_dir(&path, &late).with_context(|| format!("Failed unpacking {shown}"))?;
        }
        Ok(self.stats)
    }

    fn finish_dir(&mut self, path: &[u8], late: &Late) -> Result<()> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW;
        let dir = match path::open(self.root.as_fd(), bytes_path(path), flags, 0, self.options.links) {
            // A link on its way was replaced by a later entry.
            Err(e) if matches!(e.errno(), Some(libc::ENOENT | libc::ENOTDIR | libc::ELOOP)) => return Ok(()),
            other => other?,
        };
        if self.options.owners == Owners::Keep {
            path::chown(dir.as_fd(), late.uid, late.gid)?;
        }
        path::chmod(dir.as_fd(), late.mode)?;
        if self.layer.is_some() {
            layer::forget_attributes(dir.as_fd(), &late.xattrs)?;
        }
        self.set_xattrs(&late.xattrs, |name, value| xattr::set(dir.as_fd(), name, value))?;
        path::set_times(dir.as_fd(), late.mtime)
    }
}

/// Puts consecutive data where the map says.
struct SparseWriter<'a> {
    file: &'a File,
    segments: &'a [super::sparse::Segment],
    /// Current piece and how much of it is written.
    at: usize,
    done: u64,
}

impl SparseWriter<'_> {
    fn write(&mut self, mut data: &[u8]) -> Result<()> {
        let mut file = self.file;
        while !data.is_empty() {
            let Some(segment) = self.segments.get(self.at) else {
                return Err(Error::internal("More data than the map of holes has"));
            };
            if self.done == segment.len {
                (self.at, self.done) = (self.at + 1, 0);
                continue;
            }
            if self.done == 0 {
                file.seek(SeekFrom::Start(segment.offset)).context("lseek")?;
            }
            let n = usize::try_from(segment.len - self.done).unwrap_or(usize::MAX).min(data.len());
            file.write_all(&data[..n]).context("write")?;
            self.done += n as u64;
            data = &data[n..];
        }
        Ok(())
    }
}
