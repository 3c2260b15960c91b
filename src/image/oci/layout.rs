//! A layout (image-spec 1.1, "OCI Image Layout"): a folder with images in it, or a tar archive of one, which is read where it is;
//! a compressed one is decompressed first.

use super::Source;
use super::document::{self, DOCUMENT_MAX, Descriptor, Document, Entry};
use crate::error::{Context, Error, Result};
use crate::image::decompress::{self, Format};
use crate::image::tarread::{EntryKind, TarReader};
use crate::image::unpack::clean_path;
use crate::image::{Limits, human};
use crate::sys::path::{self, Links};
use rustix::fs::OFlags;
use std::cell::Cell;
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

/// Files of an archive that are looked at.
const NAMES_MAX: usize = 100_000;

/// What is looked for without a tag where there are several images.
const LATEST: &str = "latest";

/// One image of a layout.
#[derive(Debug)]
pub struct Layout {
    root: Root,
    tag: Option<String>,
}

/// Where its files are.
#[derive(Debug)]
enum Root {
    Folder(OwnedFd),
    /// By name: offset and size in the archive.
    Archive(Arc<File>, HashMap<Vec<u8>, (u64, u64)>),
}

/// A folder is a layout.
pub fn is_layout(folder: &Path) -> bool {
    folder.join("oci-layout").is_file()
}

impl Layout {
    /// The image `tag` of the layout at `path`, a folder or a tar archive; no tag: the only one, else `latest`. What has to be
    /// decompressed goes into the folder `scratch`, under no name.
    ///
    /// # Errors
    /// It is no layout.
    pub fn open(path: &Path, tag: Option<String>, scratch: &Path) -> Result<Self> {
        let shown = || format!("Failed opening \"{}\"", path.display());
        let root = match path.is_dir() {
            true => Root::Folder(path::open_root(path)?),
            false => archive(File::open(path).with_context(shown)?, scratch).with_context(shown)?,
        };
        let layout = Self { root, tag };
        layout.text("oci-layout").with_context(|| format!("Not an OCI layout: \"{}\"", path.display()))?;
        Ok(layout)
    }

    /// A file, and its size.
    fn file(&self, name: &str) -> Result<(Box<dyn Read + Send>, u64)> {
        match &self.root {
            Root::Folder(root) => {
                let file = path::open_regular(root.as_fd(), name.as_ref(), OFlags::RDONLY, Links::Refuse)?;
                let size = file.metadata()?.len();
                Ok((Box::new(file), size))
            }
            Root::Archive(file, names) => {
                let missing = || Error::not_found(format!("The archive has no \"{name}\""));
                let (at, left) = *names.get(name.as_bytes()).ok_or_else(missing)?;
                Ok((Box::new(Piece { file: Arc::clone(file), at, left }), left))
            }
        }
    }

    fn text(&self, name: &str) -> Result<Vec<u8>> {
        let (file, size) = self.file(name).with_context(|| format!("Failed reading \"{name}\" of the layout"))?;
        if size > DOCUMENT_MAX {
            return Err(Error::invalid(format!("Bad layout: \"{name}\" is larger than {DOCUMENT_MAX} bytes")));
        }
        let mut bytes = Vec::new();
        file.take(DOCUMENT_MAX).read_to_end(&mut bytes).context("Failed reading the layout")?;
        Ok(bytes)
    }

    /// A layer. Its content is checked by who reads it.
    ///
    /// # Errors
    /// It is not there, or not as large as it should be.
    pub fn blob(&self, what: &Descriptor) -> Result<Box<dyn Read + Send>> {
        match self.file(&name(what)).with_context(|| format!("Failed reading {} of the layout", what.digest))? {
            (file, size) if size == what.size => Ok(file),
            (_, size) => Err(Error::invalid(format!("{} has {size} bytes, not {}", what.digest, what.size))),
        }
    }

    fn choose<'a>(&self, entries: &'a [Entry]) -> Result<Option<&'a Descriptor>> {
        let named =
            |tag: &str| entries.iter().find(|entry| entry.name.as_deref() == Some(tag)).map(|entry| &entry.what);
        match (&self.tag, entries) {
            (Some(tag), _) => match named(tag) {
                Some(what) => Ok(Some(what)),
                None => Err(Error::not_found(format!("The layout has no image {tag:?}"))),
            },
            (None, [one]) => Ok(Some(&one.what)),
            // Without names it is one image for several platforms.
            (None, all) if all.iter().all(|entry| entry.name.is_none()) => Ok(None),
            (None, _) => named(LATEST).map(Some).ok_or_else(|| {
                let names: Vec<_> = entries.iter().filter_map(|entry| entry.name.as_deref()).collect();
                Error::invalid("The layout has several images").hint(format!("name one of them: {}", names.join(", ")))
            }),
        }
    }
}

impl Source for Layout {
    fn top(&self) -> Result<(Vec<u8>, String)> {
        let index = self.text("index.json")?;
        let Document::Index(entries) = document::parse(&index, "")? else {
            return Err(Error::invalid("Bad layout: \"index.json\" is no index"));
        };
        match self.choose(&entries)? {
            Some(what) => Ok((super::checked(self, what, true)?, what.media_type.clone())),
            None => Ok((index, String::new())),
        }
    }

    fn get(&self, what: &Descriptor, _: bool) -> Result<Vec<u8>> {
        self.text(&name(what))
    }
}

fn name(what: &Descriptor) -> String {
    format!("blobs/{}/{}", what.digest.algorithm(), what.digest.hex())
}

/// A part of a file.
struct Piece {
    file: Arc<File>,
    at: u64,
    left: u64,
}

impl Read for Piece {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let n = self.file.read_at(&mut buffer[..most], self.at)?;
        (self.at, self.left) = (self.at + n as u64, self.left - n as u64);
        Ok(n)
    }
}

/// Counts what is taken from it.
struct Counted<R>(R, Rc<Cell<u64>>);

impl<R: BufRead> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.0.read(buffer)?;
        self.1.set(self.1.get() + n as u64);
        Ok(n)
    }
}

impl<R: BufRead> BufRead for Counted<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.0.fill_buf()
    }

    fn consume(&mut self, n: usize) {
        self.1.set(self.1.get() + n as u64);
        self.0.consume(n);
    }
}

/// Where the files of an archive are. The last of a name counts.
fn archive(file: File, scratch: &Path) -> Result<Root> {
    let limits = Limits::default();
    let packed = file.metadata()?.len();
    let (format, peeked) = decompress::peek(Piece { file: Arc::new(file.try_clone()?), at: 0, left: u64::MAX })?;
    let file = match format {
        Format::Tar => file,
        _ if format.is_stream() => {
            let allowed = limits.free_bytes.saturating_add(limits.ratio.saturating_mul(packed));
            decompressed(decompress::decoder(format, peeked)?, allowed, scratch)?
        }
        _ => return Err(Error::invalid("Not an archive of an OCI layout: it is no tar archive")),
    };
    let (file, at) = (Arc::new(file), Rc::new(Cell::new(0)));
    let whole = Piece { file: Arc::clone(&file), at: 0, left: u64::MAX };
    let mut tar = TarReader::new(Counted(BufReader::with_capacity(256 << 10, whole), Rc::clone(&at)), &limits);
    let mut names = HashMap::new();
    while let Some(entry) = tar.next_entry()? {
        if entry.kind == EntryKind::File && entry.segments.is_none() && names.len() < NAMES_MAX {
            names.insert(clean_path(&entry.path, limits.depth)?, (at.get(), entry.size));
        }
    }
    Ok(Root::Archive(file, names))
}

/// A file without a name with what comes out, at most that many bytes.
fn decompressed(source: impl Read, allowed: u64, scratch: &Path) -> Result<File> {
    let fail = || format!("Failed writing to \"{}\"", scratch.display());
    let mut file = tempfile::tempfile_in(scratch).with_context(fail)?;
    let size =
        io::copy(&mut source.take(allowed.saturating_add(1)), &mut file).context("Failed decompressing the archive")?;
    match size > allowed {
        true => Err(Error::invalid(format!("The archive grows to over {}", human(allowed)))),
        false => Ok(file),
    }
}
