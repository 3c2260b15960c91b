//! `export` and `import`: an instance with its snapshots as one archive, in the form Incus has for it.
//!
//! The archive begins with an index of all records; the files of each volume stand in a folder of their own, with the ids that
//! the container sees. Both ways stream: neither needs room for a second copy, nor memory that depends on the size.

pub mod export;
pub mod import;
mod unpack;

/// Largest index that is read, bytes: as much as a YAML document may have.
const INDEX_MAX: u64 = 4 << 20;
