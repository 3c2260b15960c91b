//! Volumes as streams in the form of their driver: what changed since another one is all that has to be told of it, and blocks that
//! volumes share are shared where the stream ends.
//!
//! Called by `ops` for backups, of which what arrives is a stranger's, and between pools, where both ends are ours.

use super::volume::Volume;
use crate::error::Result;
use std::io::Read;
use std::path::PathBuf;

/// Reads a stream.
pub type Reading<'a> = &'a mut dyn FnMut(&mut dyn Read) -> Result<()>;

/// What streams call a volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ids {
    /// Its own id.
    pub own: String,
    /// That of what it was received from ([`Receiver::identify`]); it has not been changed by us since.
    pub received: Option<String>,
}

/// Of drivers that have such a form.
pub trait Streams {
    /// Makes a volume, a copy that was made for this, one that cannot be written, until it is deleted; the id that streams call it
    /// by.
    ///
    /// # Errors
    /// NotFound; Unsupported: it holds what a stream does not.
    fn seal(&self, volume: &Volume) -> Result<String>;

    /// Hands the stream of a sealed volume to `body`, which reads all of it: the whole volume, or what is different in one of the
    /// sealed volumes `parents`, which were sent before, the last one last. The same volumes have the same stream.
    ///
    /// # Errors
    /// NotFound; Denied; those of `body`; it did not read all.
    fn send(&self, volume: &Volume, parents: &[&Volume], body: Reading<'_>) -> Result<()>;

    /// What streams call a volume, sealed or not.
    ///
    /// # Errors
    /// NotFound.
    fn ids(&self, volume: &Volume) -> Result<Ids>;

    /// For streams that belong together: what a later one builds upon comes in an earlier one, or is told of by
    /// [`Receiver::build_upon`]. At most `most` files and folders are made; none: the streams are those of a pool of ours, and
    /// all of their attributes are taken over.
    fn receiver(&self, most: Option<u64>) -> Box<dyn Receiver + '_>;

    /// A volume has that form.
    ///
    /// # Errors
    /// NotFound.
    fn fits(&self, _volume: &Volume) -> Result<bool> {
        Ok(true)
    }

    /// A backup says of its streams in a file before them what they are.
    fn has_header(&self) -> bool {
        true
    }
}

/// Makes volumes from streams. They are put together where [`super::Driver::begin_volume`] does that, and shown by
/// [`super::Driver::commit_volume`] after the last one. Lock: their instance, exclusive.
pub trait Receiver {
    /// The next stream is that of `volume`; the folder it will be in when the stream has ended.
    ///
    /// # Errors
    /// The pool cannot be written.
    fn begin(&mut self, volume: &Volume) -> Result<PathBuf>;

    /// The next bytes of it.
    ///
    /// # Errors
    /// Invalid: it is damaged, or builds upon what is not there; Unsupported: it is of a form that is not read; no room.
    fn feed(&mut self, piece: &[u8]) -> Result<()>;

    /// It has ended.
    ///
    /// # Errors
    /// Invalid: it is not whole.
    fn finish(&mut self) -> Result<()>;

    /// Says of a volume that has all its stream told of, and will not change, what it was received from: `id`, or what the stream
    /// says.
    ///
    /// # Errors
    /// The pool cannot be written.
    fn identify(&self, volume: &Volume, id: Option<&str>) -> Result<()>;

    /// Streams may build upon `volume`, which is there and has what they call `id`.
    ///
    /// # Errors
    /// Invalid: no id.
    fn build_upon(&mut self, volume: &Volume, id: &str) -> Result<()>;
}
