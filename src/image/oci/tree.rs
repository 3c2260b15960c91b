//! Makes one tree of an image's layers, and a split image of the tree: the form in which the rest of the program knows it. Where the
//! tree is put together, in one folder or layer by layer, is the caller's business ([`Trees`]).
//!
//! Each layer is hashed twice while it is read once: as it came, and uncompressed. Nothing counts before both are right.

use super::Found;
use super::document::{Config, Descriptor};
use super::reference::Digest;
use super::{bundle, user};
use crate::base::digest::Hasher;
use crate::error::{Context, Error, Result};
use crate::fault;
use crate::image::compress::{Algorithm, Encoder};
use crate::image::decompress::{self, Format};
use crate::image::export::Exporter;
use crate::image::hash::{HashingFile, Tee, create_blob};
use crate::image::import::{Dest, Imported, Options, make_dir, put};
use crate::image::metadata::Metadata;
use crate::image::tarread::TarReader;
use crate::image::unpack::{Options as UnpackOptions, Stats, Unpacker};
use crate::image::{Fingerprint, OnProgress, Progress, pipe};
use crate::model::instance::InstanceType;
use crate::sys::path::{self, Links};
use sha2::digest::Update;
use std::collections::BTreeMap;
use std::io::{self, BufRead, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

/// Waits for a layer, by its number, and opens it; told what to say meanwhile.
pub type Layers<'a> = &'a mut dyn FnMut(usize, OnProgress<'_>) -> Result<Box<dyn Read + Send>>;

/// Where the tree is put together.
pub trait Trees {
    /// What the layers before number `at` make, to unpack that one into. None: it is in it already.
    ///
    /// # Errors
    /// The place cannot be made.
    fn begin(&mut self, at: usize) -> Result<Option<OwnedFd>>;

    /// The layer is unpacked and right, and nothing of it is open any more.
    ///
    /// # Errors
    /// The place cannot be written.
    fn end(&mut self, at: usize) -> Result<()>;

    /// What all layers make.
    ///
    /// # Errors
    /// It cannot be opened.
    fn whole(&mut self) -> Result<OwnedFd>;
}

/// One folder for all layers.
#[derive(Debug)]
pub struct Flat(OwnedFd);

impl Flat {
    /// The folder `rootfs` in `staging`.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn new(staging: &Path) -> Result<Self> {
        let rootfs = make_dir(&path::open_root(staging)?, "rootfs")?;
        // Not every image has an entry for it, and the same layers give the same tree.
        path::set_times(rootfs.as_fd(), (0, 0))?;
        Ok(Self(rootfs))
    }
}

impl Trees for Flat {
    fn begin(&mut self, _: usize) -> Result<Option<OwnedFd>> {
        self.whole().map(Some)
    }

    fn end(&mut self, _: usize) -> Result<()> {
        Ok(())
    }

    fn whole(&mut self) -> Result<OwnedFd> {
        self.0.try_clone().context("dup")
    }
}

/// Makes the image: its tree in `trees`, `config.json` and `metadata.yaml` in `dest.staging`, and the two files of a split image.
/// `fingerprint` is what it is to be known by.
///
/// # Errors
/// Invalid: a layer is not what was announced, damaged, over a limit. Others: reading and writing.
pub fn make(
    found: &Found,
    (fingerprint, properties): (&Fingerprint, BTreeMap<String, String>),
    (layers, trees): (Layers<'_>, &mut dyn Trees),
    (dest, options): (Dest<'_>, Options<'_>),
    on_progress: OnProgress<'_>,
) -> Result<Imported> {
    fault::point("oci.begin")?;
    let staging = path::open_root(dest.staging)?;
    let mut stats = Stats::default();
    for (at, what) in found.manifest.layers.iter().enumerate() {
        let Some(root) = trees.begin(at)? else { continue };
        let file = layers(at, on_progress)?;
        let one = layer(root, (what, &found.config.diff_ids[at]), file, &options, on_progress);
        let one = one.with_context(|| format!("Failed unpacking layer {}", what.digest))?;
        stats.entries += one.entries;
        stats.bytes += one.bytes;
        stats.nodes += one.nodes;
        stats.skipped_nodes += one.skipped_nodes;
        stats.skipped_xattrs += one.skipped_xattrs;
        trees.end(at)?;
        fault::point("oci.layer")?;
    }
    let rootfs = trees.whole()?;
    let metadata = describe(&found.config, properties);
    let user = user::find(rootfs.as_fd(), &found.config.user)?;
    let texts = [("metadata.yaml", metadata.to_yaml()?), ("config.json", bundle::text(&found.config, &user)?)];
    for (name, text) in &texts {
        put(&staging, name.as_bytes(), text.as_bytes())?;
    }
    if path::read_dir(rootfs.as_fd())?.is_empty() {
        return Err(Error::invalid("Not an image: its rootfs is empty"));
    }
    on_progress(Progress::Step("Packing image"))?;
    let (size, content) = pack(&rootfs, dest, &texts, metadata.creation_date)?;
    fault::point("oci.packed")?;
    Ok(Imported {
        fingerprint: fingerprint.clone(),
        content: Some(content),
        kind: InstanceType::Container,
        metadata: Metadata::parse(texts[0].1.as_bytes())?,
        split: true,
        size,
        filename: format!("{fingerprint}{}", Format::Gzip.extension()),
        format: Format::Gzip,
        rootfs_format: Some(Format::Zstd),
        stats,
    })
}

fn describe(config: &Config, properties: BTreeMap<String, String>) -> Metadata {
    Metadata {
        architecture: config.architecture.to_string(),
        creation_date: config.created.as_second(),
        properties,
        ..Metadata::default()
    }
}

/// The two files; how large they are, and their hash.
fn pack(rootfs: &OwnedFd, dest: Dest<'_>, texts: &[(&str, String)], mtime: i64) -> Result<(u64, Fingerprint)> {
    let mut meta = Exporter::new(Encoder::new(HashingFile::new(create_blob(dest.blob)?), Algorithm::Gzip)?);
    for (name, text) in texts {
        meta.file(name, text.as_bytes(), mtime)?;
    }
    let first = meta.finish()?.finish()?;
    let sink = io::BufWriter::with_capacity(1 << 20, HashingFile { file: create_blob(dest.blob_rootfs)?, ..first });
    let mut root = Exporter::new(Encoder::new(sink, Algorithm::Zstd)?);
    root.tree(rootfs.as_fd(), ".")?;
    let second = root.finish()?.finish()?.into_inner().map_err(|e| Error::from(e.into_error()))?;
    Ok((second.count, Fingerprint::of(second.hasher)))
}

/// Hashes what is read of the uncompressed layer.
struct Hashed<'a, R: ?Sized> {
    source: &'a mut R,
    hash: &'a mut Hasher,
    count: u64,
}

impl<R: Read + ?Sized> Read for Hashed<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.source.read(buffer)?;
        self.hash.update(&buffer[..n]);
        self.count += n as u64;
        Ok(n)
    }
}

/// What an archive ends with that holds `count` bytes so far: the rest of a block, and two empty ones.
fn archive_end(count: u64) -> Vec<u8> {
    vec![0; (count.next_multiple_of(512) - count) as usize + 1024]
}

/// Unpacks one layer over those before it.
fn layer(
    root: OwnedFd,
    (what, diff_id): (&Descriptor, &Digest),
    file: Box<dyn Read + Send>,
    options: &Options<'_>,
    on_progress: OnProgress<'_>,
) -> Result<Stats> {
    on_progress(Progress::Step("Unpacking layers"))?;
    let count = Arc::new(AtomicU64::new(0));
    let (format, peeked) = decompress::peek(Tee::new(file, what.digest.hasher(), None, Arc::clone(&count)))?;
    if !matches!(format, Format::Tar | Format::Gzip | Format::Zstd) {
        return Err(Error::invalid("Unknown kind of compression"));
    }
    let produce = |sink: &mut pipe::Sink| read_layer((format, peeked), diff_id.hasher(), sink);
    let limits = options.limits;
    let unpack = UnpackOptions { limits: limits.clone(), owners: options.owners, links: Links::InRoot };
    let consume = |source: &mut pipe::Source<'_>| {
        let mut tar = TarReader::new(&mut *source, limits);
        let mut unpacker = Unpacker::new(root, unpack).over_others();
        while let Some(entry) = tar.next_entry()? {
            unpacker.entry(&mut tar, entry)?;
        }
        unpacker.finish()
    };
    let bounds = pipe::Bounds::new(limits, Arc::clone(&count));
    let ((packed, plain), stats) = pipe::join(bounds, Some(what.size), on_progress, produce, consume)?;
    for (got, wanted) in [(&packed, &what.digest), (&plain, diff_id)] {
        if got != wanted {
            return Err(Error::invalid(format!("Hash mismatch: {got} != {wanted}")));
        }
    }
    Ok(stats)
}

/// The thread's side: the digests of the layer as it came and of what is in it.
fn read_layer<R: Read + Send>(
    (format, mut peeked): (Format, decompress::Peeked<Tee<R, Hasher>>),
    mut hash: Hasher,
    sink: &mut pipe::Sink,
) -> Result<(Digest, Digest)> {
    let mut decoder = decompress::decoder(format, &mut peeked)?;
    let mut hashed = Hashed { source: &mut *decoder, hash: &mut hash, count: 0 };
    sink.copy_from(&mut hashed).map_err(pipe::error_of)?;
    // Some tools (`umoci insert`) leave the end of the archive out. That it is whole the digests show.
    sink.write_all(&archive_end(hashed.count)).map_err(pipe::error_of)?;
    drop(decoder);
    let plain = Digest::end(hash);
    while let rest @ 1.. = peeked.fill_buf().map_err(pipe::error_of)?.len() {
        peeked.consume(rest);
    }
    Ok((Digest::end(peeked.into_inner().into_inner().1.finish()), plain))
}
