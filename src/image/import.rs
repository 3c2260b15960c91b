//! Takes an image in: reads its files once, and in that one pass hashes them, stores them, and unpacks them into a staging directory.
//!
//! Called by `ops` (image import, launch from a remote) under the image's lock. What is unpacked is what was hashed. The layout of the
//! staging directory afterwards: `metadata.yaml`, `rootfs/`, and `templates/` and `config.json` if the image has them. Entries of other
//! names are never written. After an error files and directory are left for the caller to remove. The disk of a virtual machine image
//! is judged ([`super::qcow2`]) and stays in its file: nothing of such an image is of use in a pool of containers.

use super::compress::Algorithm;
use super::decompress::{self, Format, Peeked};
use super::hash::{Fingerprint, Tee, create_blob};
use super::metadata::{self, Metadata};
use super::squashfs;
use super::tarread::{Entry, EntryKind, TarReader};
use super::unpack::{self, Options as UnpackOptions, Owners, Stats, Unpacker, clean_path};
use super::{Limits, METADATA_MAX, OnProgress, Progress, export, pipe, qcow2};
use crate::error::{Context, Error, Result};
use crate::fault;
use crate::model::instance::InstanceType;
use crate::sys::path::{self, Links, Owner};
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::{BufRead, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Most templates of an image.
const TEMPLATES_MAX: usize = 1000;

/// One file of an image, from disk or network.
pub struct Input<'a> {
    /// Its name, for messages and the record.
    pub name: String,
    /// Its bytes.
    pub reader: Box<dyn Read + Send + 'a>,
    /// Its size if that is known, for progress only.
    pub size: Option<u64>,
}

impl std::fmt::Debug for Input<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Input").field("name", &self.name).field("size", &self.size).finish_non_exhaustive()
    }
}

impl Input<'static> {
    /// A file on disk.
    ///
    /// # Errors
    /// It cannot be opened or is a directory.
    pub fn open(path: &Path) -> Result<Self> {
        let shown = || format!("Failed opening \"{}\"", path.display());
        let file = File::open(path).with_context(shown)?;
        let meta = file.metadata().with_context(shown)?;
        if meta.is_dir() {
            return Err(Error::invalid(format!("\"{}\" is a directory", path.display())));
        }
        let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        Ok(Self { name, size: meta.is_file().then_some(meta.len()), reader: Box::new(file) })
    }
}

/// What is imported.
#[derive(Debug)]
pub enum Source<'a> {
    /// One archive with metadata and rootfs.
    Unified(Input<'a>),
    /// An archive with the metadata, and a squashfs or archive with the rootfs, or the disk of a virtual machine.
    Split {
        /// `metadata.yaml` and templates.
        metadata: Input<'a>,
        /// The rootfs.
        rootfs: Input<'a>,
    },
    /// As before, with the rootfs in its place in [`Dest`] already, synced: it is read back from there.
    Rebuilt {
        /// `metadata.yaml` and templates.
        metadata: Input<'a>,
        /// Name of the rootfs for messages.
        name: String,
    },
    /// A folder with `metadata.yaml`, `rootfs/`, `templates/`; a unified image is made of it.
    Directory(&'a Path),
    /// What [`super::pack`] wrote to [`Dest`] already: it is read back from there.
    Packed {
        /// Name for messages and the record.
        name: String,
        /// In two files.
        split: bool,
    },
}

/// Where it goes.
#[derive(Debug, Clone, Copy)]
pub struct Dest<'a> {
    /// File for the unified image, or the metadata of a split one. Overwritten, not synced.
    pub blob: &'a Path,
    /// File for the rootfs of a split image; not touched otherwise.
    pub blob_rootfs: &'a Path,
    /// An empty directory for the unpacked image. Not synced.
    pub staging: &'a Path,
}

/// How.
#[derive(Clone, Copy)]
pub struct Options<'a> {
    /// The image must have this fingerprint.
    pub expect: Option<&'a Fingerprint>,
    /// Bounds.
    pub limits: &'a Limits,
    /// Owners of the unpacked files.
    pub owners: Owners,
    /// Compression of an image made of a folder.
    pub algorithm: Algorithm,
}

impl std::fmt::Debug for Options<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Options").field("expect", &self.expect).field("limits", &self.limits).finish_non_exhaustive()
    }
}

/// An image that is in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Imported {
    /// sha256 of the file, or of metadata file and rootfs file joined; see [`Imported::content`].
    pub fingerprint: Fingerprint,
    /// That sha256 where the image is known by another one.
    pub content: Option<Fingerprint>,
    /// Of a container or a virtual machine; of the latter nothing is in the staging directory that a pool takes.
    pub kind: InstanceType,
    /// Content of `metadata.yaml`.
    pub metadata: Metadata,
    /// Two files.
    pub split: bool,
    /// Bytes of the files.
    pub size: u64,
    /// Name of the (first) file as given.
    pub filename: String,
    /// What the first file is.
    pub format: Format,
    /// What the rootfs file is.
    pub rootfs_format: Option<Format>,
    /// What was unpacked.
    pub stats: Stats,
}

/// Imports an image. Locks: the image's, if its fingerprint is known. Blocks for as long as it takes; `on_progress` is called often and may
/// end it.
///
/// # Errors
/// `Invalid`: it is no image, damaged, truncated, over a limit, or not the one that was expected. Others: reading and
/// writing.
pub fn import(
    source: Source<'_>,
    dest: Dest<'_>,
    options: Options<'_>,
    on_progress: OnProgress<'_>,
) -> Result<Imported> {
    fault::point("image.begin")?;
    let mut import = Import::begin(dest, options, on_progress)?;
    let mut filename = String::new();
    let parts = match source {
        Source::Unified(input) => {
            filename.clone_from(&input.name);
            import.unified(input)?
        }
        Source::Split { metadata, rootfs } => {
            filename.clone_from(&metadata.name);
            import.split(metadata, rootfs)?
        }
        Source::Rebuilt { metadata, name } => {
            filename.clone_from(&metadata.name);
            let rootfs = Input { name, ..Input::open(dest.blob_rootfs)? };
            let reread = File::open(dest.blob_rootfs).context("Failed reading the image")?;
            let copies = (Some(create_blob(dest.blob)?), None);
            import.split_from(metadata, rootfs, copies, &reread)?
        }
        Source::Directory(dir) => {
            if let Some(name) = dir.canonicalize().ok().as_deref().and_then(Path::file_name) {
                filename = format!("{}{}", name.to_string_lossy(), extension(options.algorithm));
            }
            import.directory(dir)?
        }
        Source::Packed { name, split } => {
            filename.clone_from(&name);
            import.packed(&name, split)?
        }
    };
    fault::point("image.unpacked")?;
    let imported = import.finish(parts, filename)?;
    fault::point("image.verified")?;
    Ok(imported)
}

/// The ending of the names of archives.
pub fn extension(algorithm: Algorithm) -> &'static str {
    let format = match algorithm {
        Algorithm::None => Format::Tar,
        Algorithm::Bzip2 => Format::Bzip2,
        Algorithm::Gzip => Format::Gzip,
        Algorithm::Lz4 => Format::Lz4,
        Algorithm::Lzma => Format::Lzma,
        Algorithm::Xz => Format::Xz,
        Algorithm::Zstd => Format::Zstd,
    };
    format.extension()
}

/// What the passes over the files gave.
struct Parts {
    hash: Sha256,
    size: u64,
    format: Format,
    rootfs_format: Option<Format>,
    stats: Stats,
    kind: InstanceType,
}

struct Import<'a, 'p> {
    dest: Dest<'a>,
    options: Options<'a>,
    staging: OwnedFd,
    on_progress: OnProgress<'p>,
}

impl<'a, 'p> Import<'a, 'p> {
    fn begin(dest: Dest<'a>, options: Options<'a>, on_progress: OnProgress<'p>) -> Result<Self> {
        let staging = path::open_root(dest.staging)?;
        if !path::read_dir(staging.as_fd())?.is_empty() {
            return Err(Error::internal(format!("The directory \"{}\" is not empty", dest.staging.display())));
        }
        Ok(Self { dest, options, staging, on_progress })
    }

    fn unpack_options(&self) -> UnpackOptions {
        UnpackOptions { limits: self.options.limits.clone(), owners: self.options.owners, links: Links::InRoot }
    }

    fn make_rootfs(&self) -> Result<OwnedFd> {
        make_dir(&self.staging, "rootfs")
    }

    fn unified(&mut self, input: Input<'_>) -> Result<Parts> {
        (self.on_progress)(Progress::Step("Unpacking image"))?;
        let copy = create_blob(self.dest.blob)?;
        self.unified_from(input, Some(copy))
    }

    fn unified_from(&mut self, input: Input<'_>, copy: Option<File>) -> Result<Parts> {
        let rootfs = self.make_rootfs()?;
        let mut router = Router::new(
            self.staging.try_clone()?,
            Some(Unpacker::new(rootfs, self.unpack_options())),
            self.options.limits,
        );
        let (pass, ()) = self.pass(input, Sha256::new(), copy, |source, format| router.route(source, format))?;
        let (stats, kind) = router.finish()?;
        Ok(Parts { hash: pass.hash, size: pass.size, format: pass.format, rootfs_format: None, stats, kind })
    }

    fn split(&mut self, meta: Input<'_>, rootfs: Input<'_>) -> Result<Parts> {
        let (blob, blob_rootfs) = (create_blob(self.dest.blob)?, create_blob(self.dest.blob_rootfs)?);
        let reread = blob_rootfs.try_clone().context("dup")?;
        self.split_from(meta, rootfs, (Some(blob), Some(blob_rootfs)), &reread)
    }

    fn packed(&mut self, name: &str, split: bool) -> Result<Parts> {
        let file = |path: &Path| -> Result<(Input<'static>, File)> {
            let input = Input { name: name.to_string(), ..Input::open(path)? };
            Ok((input, File::open(path).context("Failed reading the image")?))
        };
        (self.on_progress)(Progress::Step("Unpacking image"))?;
        let (first, _) = file(self.dest.blob)?;
        if !split {
            return self.unified_from(first, None);
        }
        let (second, reread) = file(self.dest.blob_rootfs)?;
        self.split_from(first, second, (None, None), &reread)
    }

    /// `copies`: where the two go; `reread`: the second one, when it is there.
    fn split_from(
        &mut self,
        meta: Input<'_>,
        rootfs: Input<'_>,
        copies: (Option<File>, Option<File>),
        reread: &File,
    ) -> Result<Parts> {
        (self.on_progress)(Progress::Step("Unpacking image metadata"))?;
        let mut router = Router::new(self.staging.try_clone()?, None, self.options.limits);
        let (first, ()) = self.pass(meta, Sha256::new(), copies.0, |source, format| router.route(source, format))?;
        router.finish()?;
        fault::point("image.metadata")?;
        (self.on_progress)(Progress::Step("Unpacking image"))?;
        let target = self.make_rootfs()?;
        let (options, name) = (self.unpack_options(), rootfs.name.clone());
        let (second, stats) = self.pass(rootfs, first.hash, copies.1, |source, format| match format {
            Format::Squashfs | Format::Qcow2 => Ok(None),
            _ => unpack::archive(source, target.try_clone()?, &options).map(Some),
        })?;
        let mut kind = InstanceType::Container;
        let stats = match stats {
            Some(stats) => stats,
            None if second.format == Format::Qcow2 => {
                let disk = qcow2::file(reread, second.size, self.options.limits.bytes)
                    .with_context(|| format!("Failed importing \"{name}\""))?;
                kind = InstanceType::VirtualMachine;
                Stats { entries: 1, bytes: disk.size, ..Stats::default() }
            }
            None => {
                let limits = self.options.limits;
                squashfs::read(reread, limits, self.on_progress, |source| unpack::archive(source, target, &options))?
            }
        };
        let size = first.size + second.size;
        Ok(Parts { hash: second.hash, size, format: first.format, rootfs_format: Some(second.format), stats, kind })
    }

    fn directory(&mut self, dir: &Path) -> Result<Parts> {
        (self.on_progress)(Progress::Step("Packing image"))?;
        let root = path::open_root(dir)?;
        let text = path::read_limited(root.as_fd(), "metadata.yaml".as_ref(), METADATA_MAX, Links::Refuse)
            .context("Not an image: failed reading \"metadata.yaml\"")?;
        let parsed = Metadata::parse(&text)?;
        let rootfs = path::open_dir(root.as_fd(), "rootfs".as_ref(), Links::Refuse)
            .context("Not an image: failed opening \"rootfs\"")?;
        let templates = match path::open_dir(root.as_fd(), "templates".as_ref(), Links::Refuse) {
            Err(e) if e.errno() == Some(libc::ENOENT) => None,
            other => Some(other.context("Failed opening \"templates\"")?),
        };
        let parts = export::Unified {
            metadata: &text,
            files: &[],
            templates: templates.as_ref().map(AsFd::as_fd),
            rootfs: rootfs.as_fd(),
            change: None,
            mtime: parsed.creation_date,
        };
        let blob = create_blob(self.dest.blob)?;
        drop(export::unified(blob, self.options.algorithm, &parts)?);
        fault::point("image.packed")?;
        // What counts is what was written: it is read back, as any image.
        let name = dir.display().to_string();
        let reader = File::open(self.dest.blob).context("Failed reading the image")?;
        self.unified_from(Input { name, reader: Box::new(reader), size: None }, None)
    }

    /// One pass over one file: hash, copy, decompress on a thread; `consume` gets the content here (nothing of a squashfs).
    fn pass<T>(
        &mut self,
        input: Input<'_>,
        hasher: Sha256,
        copy: Option<File>,
        consume: impl FnOnce(&mut pipe::Source<'_>, Format) -> Result<T>,
    ) -> Result<(Pass, T)> {
        let Input { name, reader, size } = input;
        let count = Arc::new(AtomicU64::new(0));
        let tee = Tee::new(reader, hasher, copy, Arc::clone(&count));
        let run = || {
            let (format, peeked) = decompress::peek(tee)?;
            if format == Format::Unknown {
                return Err(Error::invalid("Not an image: unknown file type"));
            }
            let bounds = pipe::Bounds::new(self.options.limits, Arc::clone(&count));
            let produce = |sink: &mut pipe::Sink| produce(format, peeked, sink);
            let consume = |source: &mut pipe::Source<'_>| consume(source, format);
            let (hash, out) = pipe::join(bounds, size, self.on_progress, produce, consume)?;
            Ok((Pass { hash, size: count.load(Ordering::Relaxed), format }, out))
        };
        run().with_context(|| format!("Failed importing \"{name}\""))
    }

    fn finish(self, parts: Parts, filename: String) -> Result<Imported> {
        metadata::check_layout(self.staging.as_fd())?;
        let metadata = metadata::read(self.staging.as_fd())?;
        let rootfs = path::open_dir(self.staging.as_fd(), "rootfs".as_ref(), Links::Refuse)?;
        if parts.kind == InstanceType::Container && path::read_dir(rootfs.as_fd())?.is_empty() {
            return Err(Error::invalid("Not an image: its rootfs is empty"));
        }
        let fingerprint = Fingerprint::of(parts.hash);
        if let Some(expected) = self.options.expect.filter(|e| **e != fingerprint) {
            let text = format!("Image fingerprint doesn't match. Got {fingerprint} expected {expected}");
            return Err(Error::invalid(text));
        }
        Ok(Imported {
            fingerprint,
            content: None,
            kind: parts.kind,
            metadata,
            split: parts.rootfs_format.is_some(),
            size: parts.size,
            filename,
            format: parts.format,
            rootfs_format: parts.rootfs_format,
            stats: parts.stats,
        })
    }
}

struct Pass {
    hash: Sha256,
    size: u64,
    format: Format,
}

/// The thread's side of a pass.
fn produce<R: Read + Send>(format: Format, mut peeked: Peeked<Tee<R>>, sink: &mut pipe::Sink) -> Result<Sha256> {
    use std::io::Write;
    if format.is_stream() {
        let mut decoder = decompress::decoder(format, &mut peeked)?;
        sink.copy_from(&mut decoder).map_err(pipe::error_of)?;
        drop(decoder);
        sink.flush().map_err(pipe::error_of)?;
    }
    // To the end of the file, for the hash and the copy; xz allows zeros behind the stream.
    loop {
        let rest = peeked.fill_buf().map_err(pipe::error_of)?;
        if rest.is_empty() {
            break;
        }
        if format.is_stream() && rest.iter().any(|b| *b != 0) {
            return Err(Error::invalid("The image has data after its end"));
        }
        let n = rest.len();
        peeked.consume(n);
    }
    Ok(peeked.into_inner().into_inner().1.finish())
}

pub(super) fn make_dir(parent: &OwnedFd, name: &str) -> Result<OwnedFd> {
    let (uid, gid) = caller();
    path::create_dir_all(parent.as_fd(), name.as_ref(), uid, gid, 0o755, Links::Refuse)
}

fn caller() -> (u32, u32) {
    (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw())
}

/// Sends the entries of a unified or metadata archive to their places.
struct Router<'a> {
    staging: OwnedFd,
    rootfs: Option<Unpacker>,
    limits: &'a Limits,
    templates: Option<OwnedFd>,
    count: usize,
    has_metadata: bool,
    has_rootfs: bool,
    /// The disk of a virtual machine.
    disk: Option<qcow2::Disk>,
}

impl<'a> Router<'a> {
    fn new(staging: OwnedFd, rootfs: Option<Unpacker>, limits: &'a Limits) -> Self {
        let (has_metadata, has_rootfs) = (false, false);
        Self { staging, rootfs, limits, templates: None, count: 0, has_metadata, has_rootfs, disk: None }
    }

    fn route(&mut self, source: &mut pipe::Source<'_>, format: Format) -> Result<()> {
        if !format.is_stream() {
            return Err(Error::invalid("Not an image: a file system or disk without metadata")
                .hint("give the metadata archive first, then the rootfs or disk"));
        }
        let mut tar = TarReader::new(source, self.limits);
        let mut backup = false;
        while let Some(entry) = tar.next_entry()? {
            let path = clean_path(&entry.path, self.limits.depth)?;
            let cut = path.iter().position(|b| *b == b'/').unwrap_or(path.len());
            let (top, rest) = (&path[..cut], path.get(cut + 1..).unwrap_or_default());
            match top {
                b"metadata.yaml" | b"config.json" => self.small_file(&mut tar, &path, &entry)?,
                b"templates" => self.template(&mut tar, rest, &entry)?,
                b"rootfs" => self.rootfs(&mut tar, rest, entry)?,
                b"rootfs.img" => self.disk(&mut tar, rest, &entry)?,
                _ => backup |= top == b"backup",
            }
        }
        match (self.has_metadata, backup) {
            (true, _) if self.has_rootfs && self.disk.is_some() => {
                Err(Error::invalid("Bad image: it has a rootfs and a disk"))
            }
            (true, _) => Ok(()),
            (false, true) => Err(Error::invalid("Not an image: this is a backup").hint("use \"import\"")),
            (false, false) => Err(Error::invalid("Not an image: it has no \"metadata.yaml\"")),
        }
    }

    /// Only a regular file of a bounded size, and only once.
    fn small_file<R: BufRead>(&mut self, tar: &mut TarReader<R>, path: &[u8], entry: &Entry) -> Result<()> {
        let shown = entry.name();
        if entry.kind != EntryKind::File || entry.segments.is_some() || path.contains(&b'/') {
            return Err(Error::invalid(format!("Bad image: {shown} is not a regular file")));
        }
        let data = tar.small_data(&shown, METADATA_MAX)?;
        self.has_metadata |= path == b"metadata.yaml";
        put(&self.staging, path, &data)
    }

    fn template<R: BufRead>(&mut self, tar: &mut TarReader<R>, name: &[u8], entry: &Entry) -> Result<()> {
        let shown = entry.name();
        if name.is_empty() && entry.kind != EntryKind::Dir {
            return Err(Error::invalid("Bad image: \"templates\" is not a directory"));
        }
        if self.templates.is_none() {
            self.templates = Some(make_dir(&self.staging, "templates")?);
        }
        let dir = self.templates.as_ref().ok_or_else(|| Error::internal("No templates"))?;
        if name.is_empty() {
            return Ok(());
        }
        if entry.kind != EntryKind::File || entry.segments.is_some() || !metadata::is_bare_name(name) {
            return Err(Error::invalid(format!("Bad image: the template {shown} is not a regular file")));
        }
        self.count += 1;
        if self.count > TEMPLATES_MAX {
            return Err(Error::invalid(format!("Bad image: more than {TEMPLATES_MAX} templates")));
        }
        let data = tar.small_data(&shown, METADATA_MAX)?;
        put(dir, name, &data)
    }

    fn rootfs<R: BufRead>(&mut self, tar: &mut TarReader<R>, rest: &[u8], mut entry: Entry) -> Result<()> {
        // In the metadata of a split image it does not count: the other file is the root file system.
        let Some(unpacker) = &mut self.rootfs else { return Ok(()) };
        if rest.is_empty() && entry.kind != EntryKind::Dir {
            return Err(Error::invalid("Bad image: \"rootfs\" is not a directory"));
        }
        self.has_rootfs = true;
        if entry.kind == EntryKind::HardLink {
            let target = clean_path(&entry.link, self.limits.depth)?;
            let inside = target.strip_prefix(b"rootfs/");
            entry.link = inside
                .ok_or_else(|| Error::invalid(format!("Bad image: the link {} leaves the rootfs", entry.name())))?
                .to_vec();
        }
        entry.path = rest.to_vec();
        unpacker.entry(tar, entry)
    }

    /// It stays in the archive.
    fn disk<R: BufRead>(&mut self, tar: &mut TarReader<R>, rest: &[u8], entry: &Entry) -> Result<()> {
        if self.rootfs.is_none() {
            return Err(Error::invalid("Bad image: the metadata archive of a split image has a disk"));
        }
        if entry.kind != EntryKind::File || !rest.is_empty() || self.disk.is_some() {
            return Err(Error::invalid("Bad image: \"rootfs.img\" is not one regular file"));
        }
        self.disk = Some(qcow2::entry(tar, entry, self.limits.bytes)?);
        Ok(())
    }

    fn finish(self) -> Result<(Stats, InstanceType)> {
        let stats = self.rootfs.map_or_else(|| Ok(Stats::default()), Unpacker::finish)?;
        Ok(match self.disk {
            Some(disk) => (Stats { entries: 1, bytes: disk.size, ..stats }, InstanceType::VirtualMachine),
            None => (stats, InstanceType::Container),
        })
    }
}

/// A new file in our staging directory; twice the same name is an error.
pub(super) fn put(dir: &OwnedFd, name: &[u8], data: &[u8]) -> Result<()> {
    use std::io::Write;
    use std::os::unix::ffi::OsStrExt;
    let (uid, gid) = caller();
    let name = std::ffi::OsStr::from_bytes(name);
    let mut file = path::create_file(dir.as_fd(), Path::new(name), Owner { uid, gid, mode: 0o644 }, Links::Refuse)
        .with_context(|| format!("Failed writing {name:?}"))?;
    file.write_all(data).context("write")?;
    Ok(())
}
