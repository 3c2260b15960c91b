//! L4: images - what comes in as archives, packages or folders, and goes out as archives.
//!
//! `ops` calls [`import`], [`bootstrap`] and [`export`]; each works into a staging directory and files it is handed, knows nothing of
//! the store, and leaves cleaning up after a failure to its caller. Archives are hostile: every entry goes through `sys::path`,
//! every size is bounded by [`Limits`], and no error is a panic. Nothing here prints; progress goes through [`Progress`].

pub mod bootstrap;
pub mod bundle;
pub mod compress;
pub mod decompress;
pub mod export;
pub mod import;
pub mod metadata;
pub mod pack;
pub mod unpack;
pub mod vcdiff;

mod gzip;
mod hash;
mod number;
pub mod oci;
mod pax;
pub(crate) mod pipe;
pub mod qcow2;
pub mod simplestreams;
mod sparse;
pub mod squashfs;
pub mod stream;
pub mod streams_write;

pub mod tarread;
mod tarwrite;

pub use hash::{Fingerprint, create_blob};

use crate::error::Result;

/// Largest `metadata.yaml`, PAX header or template we read, bytes.
pub const METADATA_MAX: u64 = 1 << 20;

/// Bounds on what an archive may do. The defaults fit any real image and stop bombs early.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Entries of one archive.
    pub entries: u64,
    /// Bytes of all files, holes counted.
    pub bytes: u64,
    /// Bytes of a decompressed stream that are always allowed.
    pub free_bytes: u64,
    /// Beyond `free_bytes`: decompressed bytes per compressed byte.
    pub ratio: u64,
    /// Components of a path.
    pub depth: usize,
    /// Extended attributes of one entry.
    pub xattrs: usize,
    /// Memory for what has to be remembered until the end (directories), bytes.
    pub memory: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            entries: 4_000_000,
            bytes: 1 << 40,
            free_bytes: 64 << 20,
            ratio: 256,
            depth: 256,
            xattrs: 64,
            memory: 24 << 20,
        }
    }
}

/// What is going on, for the user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress<'a> {
    /// A new step begins ("Unpacking image").
    Step(&'a str),
    /// Bytes of the input handled so far, and all of them if that is known.
    Bytes(u64, Option<u64>),
    /// A line of an outside program.
    Line(&'a str),
}

/// Called with each [`Progress`]; an error (the user's interrupt, say) ends the work.
pub type OnProgress<'a> = &'a mut dyn FnMut(Progress<'_>) -> Result<()>;

/// A size for messages: "12.3MB" is not needed here, plain bytes with a unit that fits.
fn human(bytes: u64) -> String {
    match bytes {
        b if b >= 1 << 30 => format!("{}GiB", b >> 30),
        b if b >= 1 << 20 => format!("{}MiB", b >> 20),
        b => format!("{b} bytes"),
    }
}
