//! Judges the disk of a virtual machine image: the header of a qcow2 file (QEMU, docs/interop/qcow2.txt).
//!
//! Called by `import` before a virtual machine image gets its record. What is refused here no other program ever opens: a disk that
//! names further files is a way to read those of the host (CVE-2024-32498, CVE-2024-4467, CVE-2026-24708), and a format is never
//! guessed. Nothing here follows a pointer of the file; those that QEMU follows first are held to lie within it. No I/O but
//! [`file`]'s one read of the beginning. Must never panic.

use super::human;
use super::sparse::Segment;
use super::tarread::{Entry, TarReader};
use crate::error::{Context, Error, Result};
use std::fs::File;
use std::io::BufRead;
use std::os::unix::fs::FileExt;

/// What such a file begins with.
pub const MAGIC: &[u8; 4] = b"QFI\xfb";
/// Bytes of the beginning that are looked at: header and its extensions must end there.
pub const HEAD_MAX: usize = 64 << 10;
/// Header of version 2, and the least of version 3, bytes.
const HEADERS: [u64; 2] = [72, 104];
/// Sizes of clusters, as powers of two: the format's least, QEMU's largest.
const CLUSTER_BITS: std::ops::RangeInclusive<u32> = 9..=21;
/// QEMU's bounds of the tables it reads into memory, bytes, and of the number of snapshots.
const L1_MAX: u64 = 32 << 20;
const REFCOUNTS_MAX: u64 = 8 << 20;
const SNAPSHOTS_MAX: u32 = 65536;

/// Bits of features that a reader has to know.
const DIRTY: u64 = 1;
const CORRUPT: u64 = 1 << 1;
const DATA_FILE: u64 = 1 << 2;
const COMPRESSION: u64 = 1 << 3;
const SMALL_CLUSTERS: u64 = 1 << 4;
/// Those that change nothing about where data is: refcounts to repair, zstd, parts of clusters.
const KNOWN: u64 = DIRTY | COMPRESSION | SMALL_CLUSTERS;

/// Types of header extensions.
const END: u32 = 0;
const BACKING_FORMAT: u32 = 0xe279_2aca;
const DATA_FILE_NAME: u32 = 0x4441_5441;
const ENCRYPTION: u32 = 0x0537_be77;

/// What a sound header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Disk {
    /// 2 or 3.
    pub version: u32,
    /// Bytes of a cluster.
    pub cluster: u64,
    /// Bytes of the disk that the guest sees.
    pub size: u64,
}

fn bad(what: impl std::fmt::Display) -> Error {
    Error::invalid(format!("Bad virtual machine image: {what}"))
}

/// Big-endian numbers of the beginning; what is not there is an error.
struct Numbers<'a>(&'a [u8]);

impl Numbers<'_> {
    fn bytes<const N: usize>(&self, at: usize) -> Result<[u8; N]> {
        let found = self.0.get(at..).and_then(|rest| rest.first_chunk::<N>());
        found.copied().ok_or_else(|| bad("its header is cut short"))
    }

    fn u32(&self, at: usize) -> Result<u32> {
        self.bytes(at).map(u32::from_be_bytes)
    }

    fn u64(&self, at: usize) -> Result<u64> {
        self.bytes(at).map(u64::from_be_bytes)
    }
}

/// Judges a disk by its beginning (all of it, or [`HEAD_MAX`] bytes) and the size of the file. `largest`: the largest disk allowed.
///
/// # Errors
/// Invalid: it is no qcow2 file, needs other files or a key, or is not as the format says.
pub fn judge(head: &[u8], file_size: u64, largest: u64) -> Result<Disk> {
    if !head.starts_with(MAGIC) {
        return Err(bad("its disk is not in qcow2 format"));
    }
    let numbers = Numbers(head);
    let (version, bits) = (numbers.u32(4)?, numbers.u32(20)?);
    if !matches!(version, 2 | 3) {
        return Err(bad(format!("qcow2 version {version}")));
    }
    if !CLUSTER_BITS.contains(&bits) {
        return Err(bad(format!("clusters of 2^{bits} bytes")));
    }
    let disk = Disk { version, cluster: 1 << bits, size: numbers.u64(24)? };
    if numbers.u64(8)? != 0 || numbers.u32(16)? != 0 {
        return Err(bad("its disk needs a backing file"));
    }
    if numbers.u32(32)? != 0 {
        return Err(bad("its disk is encrypted"));
    }
    if disk.size == 0 || disk.size > largest {
        return Err(bad(format!("a disk of {}", human(disk.size))));
    }
    let (small, header) = features(&numbers, &disk)?;
    tables(&numbers, &disk, small, file_size)?;
    extensions(&numbers, header, disk.cluster.min(file_size))?;
    Ok(disk)
}

/// Version 3's own fields: whether clusters have parts (with larger entries in their tables), and the header's length.
fn features(numbers: &Numbers<'_>, disk: &Disk) -> Result<(bool, u64)> {
    if disk.version == 2 {
        return Ok((false, HEADERS[0]));
    }
    let (needed, order, length) = (numbers.u64(72)?, numbers.u32(96)?, u64::from(numbers.u32(100)?));
    if needed & DATA_FILE != 0 {
        return Err(bad("its disk needs an external data file"));
    }
    if needed & CORRUPT != 0 {
        return Err(bad("its disk is marked as corrupt"));
    }
    if needed & !KNOWN != 0 {
        return Err(bad(format!("its disk needs unknown features ({:#x})", needed & !KNOWN)));
    }
    if order > 6 {
        return Err(bad(format!("reference counts of 2^{order} bits")));
    }
    if length < HEADERS[1] || !length.is_multiple_of(8) || length > disk.cluster || length > HEAD_MAX as u64 {
        return Err(bad(format!("a header of {length} bytes")));
    }
    // The field is there, and says zstd, if the bit is set.
    let method = if length > HEADERS[1] { numbers.bytes::<1>(104)?[0] } else { 0 };
    if method > 1 || (method != 0) != (needed & COMPRESSION != 0) {
        return Err(bad(format!("the compression {method}")));
    }
    let small = needed & SMALL_CLUSTERS != 0;
    if small && disk.cluster < 1 << 14 {
        return Err(bad("parts of clusters that are too small for it"));
    }
    Ok((small, length))
}

/// The tables that are read when the disk is opened lie in the file, and the first one covers the disk.
fn tables(numbers: &Numbers<'_>, disk: &Disk, small: bool, file_size: u64) -> Result<()> {
    let within = |what: &str, offset: u64, length: u64, most: u64| {
        let end = offset.checked_add(length).is_some_and(|end| end <= file_size);
        match offset != 0 && offset.is_multiple_of(disk.cluster) && length != 0 && length <= most && end {
            true => Ok(()),
            false => Err(bad(format!("its {what} is not where it can be"))),
        }
    };
    let l1 = u64::from(numbers.u32(36)?);
    within("L1 table", numbers.u64(40)?, l1 * 8, L1_MAX)?;
    // An L2 table is one cluster.
    let covered = disk.cluster / if small { 16 } else { 8 } * disk.cluster;
    if l1 < disk.size.div_ceil(covered) {
        return Err(bad("its L1 table is too short"));
    }
    within("refcount table", numbers.u64(48)?, u64::from(numbers.u32(56)?) * disk.cluster, REFCOUNTS_MAX)?;
    match numbers.u32(60)? {
        0 => Ok(()),
        // An entry of that table has 40 bytes at least.
        n if n <= SNAPSHOTS_MAX => within("snapshot table", numbers.u64(64)?, u64::from(n) * 40, u64::MAX),
        n => Err(bad(format!("{n} snapshots"))),
    }
}

/// The extensions behind the header, up to the end mark or the end of the first cluster.
fn extensions(numbers: &Numbers<'_>, header: u64, end: u64) -> Result<()> {
    let mut at = header;
    while at + 8 <= end {
        let here = usize::try_from(at).unwrap_or(usize::MAX);
        // Beyond what was looked at they could hide.
        let (kind, length) = (numbers.u32(here)?, u64::from(numbers.u32(here.saturating_add(4))?));
        match kind {
            END => return Ok(()),
            DATA_FILE_NAME => return Err(bad("its disk names an external data file")),
            ENCRYPTION => return Err(bad("its disk is encrypted")),
            // What is left of a backing file that was merged is empty.
            BACKING_FORMAT if length != 0 => return Err(bad("its disk names the format of a backing file")),
            _ => {}
        }
        at = at + 8 + length.next_multiple_of(8);
        if at > end {
            return Err(bad("a header extension that is too long"));
        }
    }
    Ok(())
}

/// [`judge`] of a file of ours.
///
/// # Errors
/// As [`judge`]; it cannot be read.
pub fn file(file: &File, size: u64, largest: u64) -> Result<Disk> {
    let mut head = room(size);
    file.read_exact_at(&mut head, 0).context("Failed reading the image")?;
    judge(&head, size, largest)
}

/// [`judge`] of an entry of an archive, whose data `tar` is about to give.
///
/// # Errors
/// As [`judge`]; the archive's.
pub fn entry<R: BufRead>(tar: &mut TarReader<R>, entry: &Entry, largest: u64) -> Result<Disk> {
    if entry.size > largest {
        return Err(Error::invalid(format!("The image holds more than {}", human(largest))));
    }
    let whole = [Segment { offset: 0, len: entry.size }];
    let mut pieces = entry.segments.as_deref().unwrap_or(&whole).iter();
    let (mut head, mut piece) = (room(entry.size), Segment { offset: 0, len: 0 });
    tar.data(&mut |mut data| {
        while !data.is_empty() {
            if piece.len == 0 {
                piece = *pieces.next().ok_or_else(|| Error::internal("More data than the map of holes has"))?;
                continue;
            }
            let n = usize::try_from(piece.len).unwrap_or(usize::MAX).min(data.len());
            if let Some(place) = usize::try_from(piece.offset).ok().and_then(|at| head.get_mut(at..)) {
                let fits = place.len().min(n);
                place[..fits].copy_from_slice(&data[..fits]);
            }
            (piece.offset, piece.len) = (piece.offset + n as u64, piece.len - n as u64);
            data = &data[n..];
        }
        Ok(())
    })?;
    judge(&head, entry.size, largest)
}

/// For the beginning of so large a file.
fn room(size: u64) -> Vec<u8> {
    vec![0; usize::try_from(size).unwrap_or(HEAD_MAX).min(HEAD_MAX)]
}

#[cfg(test)]
#[path = "qcow2_tests.rs"]
mod tests;
