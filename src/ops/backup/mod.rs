//! `export` and `import`: an instance with its snapshots as one archive, in the form Incus has for it. What archives of custom
//! volumes share with that is used by `volume::export` and `volume::import`.
//!
//! The archive begins with an index of all records; the files of each volume stand in a folder of their own, with the ids that
//! the container sees. Both ways stream: neither needs room for a second copy, nor memory that depends on the size.

pub mod export;
pub mod import;
pub(super) mod optimized;
pub(super) mod unpack;

use crate::error::{Context, Error, Result};
use crate::image::pack::{self, Packing};
use crate::image::pipe;
use crate::store::Store;
use std::io::Write;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;

/// Largest index that is read, bytes: as much as a YAML document may have.
const INDEX_MAX: u64 = 4 << 20;

/// A folder for files without a name: what cannot be streamed is kept there meanwhile.
///
/// # Errors
/// It is not there and cannot be made.
pub(super) fn scratch(store: &Store) -> Result<PathBuf> {
    let folder = store.layout().images_dir();
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o711).create(&folder);
    made.with_context(|| format!("Failed creating \"{}\"", folder.display()))?;
    Ok(folder)
}

/// Compresses into `sink` what `produce` writes.
///
/// # Errors
/// Those of both; Unsupported: a program is missing.
pub(super) fn encode<W: Write + Send, T>(
    store: &Store,
    sink: W,
    how: Packing,
    produce: impl FnOnce(&mut pipe::Sink) -> Result<T>,
) -> Result<(W, T)> {
    match how {
        Packing::Archive(how) => pipe::encode(sink, how, produce),
        Packing::Squashfs => pack::stream(sink, &scratch(store)?, produce),
    }
}

/// Refuses streams of drivers in a squashfs: it has no order, and they build upon each other.
///
/// # Errors
/// Unsupported.
pub(super) fn check_packing(how: Packing, optimized: bool) -> Result<()> {
    match how {
        Packing::Squashfs if optimized => {
            Err(Error::unsupported("Optimized backups can't be compressed with squashfs")
                .hint("leave out --optimized-storage, or use another compression"))
        }
        _ => Ok(()),
    }
}
