//! `export` and `import`: an instance with its snapshots as one archive, in the form Incus has for it. What archives of custom
//! volumes share with that is used by `volume::export` and `volume::import`.
//!
//! The archive begins with an index of all records; the files of each volume stand in a folder of their own, with the ids that
//! the container sees. Both ways stream: neither needs room for a second copy, nor memory that depends on the size.

pub mod export;
pub mod import;
pub(super) mod optimized;
pub(super) mod unpack;

/// Largest index that is read, bytes: as much as a YAML document may have.
const INDEX_MAX: u64 = 4 << 20;
