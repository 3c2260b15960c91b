//! Takes an image in: reads its files once, and in that one pass hashes them, stores them, and unpacks them into a staging directory.
//!
//! Called by `ops` (image import, launch from a remote) under the image's lock. What is unpacked is what was hashed. The layout of the
//! staging directory afterwards: `metadata.yaml`, `rootfs/`, and `templates/` and `config.json` if the image has them. Entries of other
//! names are never written. After an error files and directory are left for the caller to remove. Virtual machine images are
//! recognised and refused.

use super::compress::Algorithm;
use super::decompress::{self, Format, Peeked};
use super::hash::{Fingerprint, Tee, create_blob};
use super::metadata::{self, Metadata};
use super::squashfs;
use super::tarread::{Entry, EntryKind, TarReader};
use super::unpack::{self, Options as UnpackOptions, Owners, Stats, Unpacker, clean_path};
use super::{Limits, METADATA_MAX, OnProgress, Progress, export, pipe};
use crate::error::{Context, Error, Result};
use crate::fault;
use crate::host::command::Runner;
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
    /// An archive with the metadata, and a squashfs or archive with the rootfs.
    Split {
        /// `metadata.yaml` and templates.
        metadata: Input<'a>,
        /// The rootfs.
        rootfs: Input<'a>,
    },
    /// A folder with `metadata.yaml`, `rootfs/`, `templates/`; a unified image is made of it.
    Directory(&'a Path),
}

/// Where it goes.
#[derive(Debug, Clone, Copy)]
pub struct Dest<'a> {
    /// File for the unified image, or the metadata of a split one. Overwritten, synced.
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
    /// Runs `unsquashfs`, if the kernel's squashfs cannot be used.
    pub runner: &'a dyn Runner,
}

impl std::fmt::Debug for Options<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Options").field("expect", &self.expect).field("limits", &self.limits).finish_non_exhaustive()
    }
}

/// An image that is in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Imported {
    /// sha256 of the file, or of metadata file and rootfs file joined.
    pub fingerprint: Fingerprint,
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
/// `Invalid`: it is no image, damaged, truncated, over a limit, or not the one that was expected. `Unsupported`: a virtual machine
/// image; a squashfs that can neither be mounted nor unpacked here. Others: reading and writing.
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
        Source::Directory(dir) => {
            if let Some(name) = dir.canonicalize().ok().as_deref().and_then(Path::file_name) {
                filename = format!("{}{}", name.to_string_lossy(), extension(options.algorithm));
            }
            import.directory(dir)?
        }
    };
    fault::point("image.unpacked")?;
    let imported = import.finish(parts, filename)?;
    fault::point("image.verified")?;
    Ok(imported)
}

fn extension(algorithm: Algorithm) -> &'static str {
    match algorithm {
        Algorithm::None => Format::Tar.extension(),
        Algorithm::Gzip => Format::Gzip.extension(),
        Algorithm::Xz => Format::Xz.extension(),
        Algorithm::Zstd => Format::Zstd.extension(),
    }
}

/// What the passes over the files gave.
struct Parts {
    hash: Sha256,
    size: u64,
    format: Format,
    rootfs_format: Option<Format>,
    stats: Stats,
}

struct Import<'a, 'p> {
    dest: Dest<'a>,
    options: Options<'a>,
    staging: OwnedFd,
    on_progress: OnProgress<'p>,
}

fn vm_image() -> Error {
    Error::unsupported("Virtual machine images are not supported by this version")
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
        let stats = router.finish()?;
        Ok(Parts { hash: pass.hash, size: pass.size, format: pass.format, rootfs_format: None, stats })
    }

    fn split(&mut self, meta: Input<'_>, rootfs: Input<'_>) -> Result<Parts> {
        (self.on_progress)(Progress::Step("Unpacking image metadata"))?;
        let copy = create_blob(self.dest.blob)?;
        let mut router = Router::new(self.staging.try_clone()?, None, self.options.limits);
        let (first, ()) = self.pass(meta, Sha256::new(), Some(copy), |source, format| router.route(source, format))?;
        router.finish()?;
        fault::point("image.metadata")?;
        (self.on_progress)(Progress::Step("Unpacking image"))?;
        let copy = create_blob(self.dest.blob_rootfs)?;
        let reread = copy.try_clone().context("dup")?;
        let target = self.make_rootfs()?;
        let options = self.unpack_options();
        let (second, stats) = self.pass(rootfs, first.hash, Some(copy), |source, format| match format {
            Format::Squashfs => Ok(None),
            _ => unpack::archive(source, target.try_clone()?, &options).map(Some),
        })?;
        let stats = match stats {
            Some(stats) => stats,
            None => {
                let target = squashfs::Target { dir: target, path: &self.dest.staging.join("rootfs") };
                let (file, runner) = (self.dest.blob_rootfs, self.options.runner);
                squashfs::unpack(&reread, file, target, &options, runner, self.on_progress)?
            }
        };
        let size = first.size + second.size;
        Ok(Parts { hash: second.hash, size, format: first.format, rootfs_format: Some(second.format), stats })
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
            mtime: parsed.creation_date,
        };
        let blob = create_blob(self.dest.blob)?;
        let blob = export::unified(blob, self.options.algorithm, &parts)?;
        blob.sync_all().context("Failed writing the image")?;
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
            match format {
                Format::Unknown => return Err(Error::invalid("Not an image: unknown file type")),
                Format::Qcow2 => return Err(vm_image()),
                _ => {}
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
        if path::read_dir(rootfs.as_fd())?.is_empty() {
            return Err(Error::invalid("Not an image: its rootfs is empty"));
        }
        let fingerprint = Fingerprint::of(parts.hash);
        if let Some(expected) = self.options.expect.filter(|e| **e != fingerprint) {
            let text = format!("Image fingerprint doesn't match. Got {fingerprint} expected {expected}");
            return Err(Error::invalid(text));
        }
        Ok(Imported {
            fingerprint,
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
    peeked.into_inner().into_inner().1.finish()
}

fn make_dir(parent: &OwnedFd, name: &str) -> Result<OwnedFd> {
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
}

impl<'a> Router<'a> {
    fn new(staging: OwnedFd, rootfs: Option<Unpacker>, limits: &'a Limits) -> Self {
        Self { staging, rootfs, limits, templates: None, count: 0, has_metadata: false }
    }

    fn route(&mut self, source: &mut pipe::Source<'_>, format: Format) -> Result<()> {
        if !format.is_stream() {
            return Err(Error::invalid("Not an image: a file system without metadata")
                .hint("give the metadata archive first, then the rootfs"));
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
                b"rootfs.img" => return Err(vm_image()),
                _ => backup |= top == b"backup",
            }
        }
        match (self.has_metadata, backup) {
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
        let Some(unpacker) = &mut self.rootfs else {
            return Err(Error::invalid("Bad image: the metadata archive of a split image has a rootfs"));
        };
        if rest.is_empty() && entry.kind != EntryKind::Dir {
            return Err(Error::invalid("Bad image: \"rootfs\" is not a directory"));
        }
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

    fn finish(self) -> Result<Stats> {
        self.rootfs.map_or_else(|| Ok(Stats::default()), Unpacker::finish)
    }
}

/// A new file in our staging directory; twice the same name is an error.
fn put(dir: &OwnedFd, name: &[u8], data: &[u8]) -> Result<()> {
    use std::io::Write;
    use std::os::unix::ffi::OsStrExt;
    let (uid, gid) = caller();
    let name = std::ffi::OsStr::from_bytes(name);
    let mut file = path::create_file(dir.as_fd(), Path::new(name), Owner { uid, gid, mode: 0o644 }, Links::Refuse)
        .with_context(|| format!("Failed writing {name:?}"))?;
    file.write_all(data).context("write")?;
    Ok(())
}
