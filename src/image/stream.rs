//! A compressed stream of unknown kind, decompressed on a thread beside its reader.
//!
//! Called by `ops` (backups). Images go through `import`, which also hashes and keeps what it reads.

use super::decompress::{self, Format};
use super::{Limits, OnProgress, pipe, squashfs};
use crate::error::{Context, Error, Result};
use std::io::{self, BufRead, Read};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Counts what goes through.
struct Counted<R> {
    inner: R,
    count: Arc<AtomicU64>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        self.count.fetch_add(n as u64, Ordering::Relaxed);
        Ok(n)
    }
}

/// Where a squashfs is kept, and which of its files comes first.
#[derive(Debug, Clone, Copy)]
pub struct Kept<'a> {
    /// A folder for a file without a name: it is not read in one go.
    pub folder: &'a Path,
    /// A path in it. Squashfs has no order but that of names.
    pub first: &'a str,
}

/// Hands the decompressed content of `source` to `consume`; of a squashfs what an archive of it would be. `total`: its size, for the
/// progress.
///
/// # Errors
/// Invalid: no archive, damaged, truncated, growing beyond the limits; those of `consume`.
pub fn read<T>(
    (source, total): (impl Read + Send, Option<u64>),
    kept: Kept<'_>,
    limits: &Limits,
    on_progress: OnProgress<'_>,
    consume: impl FnOnce(&mut dyn BufRead) -> Result<T>,
) -> Result<T> {
    let count = Arc::new(AtomicU64::new(0));
    let (format, mut peeked) = decompress::peek(Counted { inner: source, count: Arc::clone(&count) })?;
    if format == Format::Squashfs {
        let fail = || format!("Failed writing in \"{}\"", kept.folder.display());
        let mut file = tempfile::tempfile_in(kept.folder).with_context(fail)?;
        io::copy(&mut peeked, &mut file).with_context(fail)?;
        return squashfs::read_from((&file, Some(kept.first)), limits, on_progress, consume);
    }
    if !format.is_stream() || format == Format::Unknown {
        return Err(Error::invalid("Not an archive: unknown file type"));
    }
    let bounds = pipe::Bounds::new(limits, count);
    let produce = |sink: &mut pipe::Sink| {
        let mut decoder = decompress::decoder(format, &mut peeked)?;
        sink.copy_from(&mut decoder).map_err(pipe::error_of)
    };
    pipe::join(bounds, total, on_progress, produce, |source| consume(source)).map(|((), out)| out)
}
