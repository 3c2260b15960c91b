//! The log of QEMU's `blklogwrites` driver: every write and flush that a guest sent to its disk, in their order.
//!
//! The format is that of Linux's dm-log-writes (`Documentation/admin-guide/device-mapper/log-writes.rst`): a super block in the
//! first sector, then per request a sector with its header, followed by its data. QEMU was killed: the log is read until it
//! makes no sense any more, whatever the number in the super block.

use std::collections::BTreeMap;
use std::ops::Range;

pub const SECTOR: usize = 512;
const MAGIC: u64 = 0x006a_7366_7773_6872;
const FLUSH: u64 = 1;
const FUA: u64 = 2;
const DISCARD: u64 = 4;
/// What a disk writes as one or not at all.
const BLOCK: usize = 4096;

/// One request.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Byte offset on the disk.
    pub at: u64,
    /// Where its data lies in the log.
    pub data: Range<usize>,
    flags: u64,
}

impl Entry {
    /// All writes before it are on the medium.
    pub fn is_flush(&self) -> bool {
        self.flags & (FLUSH | FUA) != 0
    }
}

/// A log, read as a whole.
pub struct Log {
    bytes: Vec<u8>,
    pub entries: Vec<Entry>,
}

fn number(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

impl Log {
    /// `None`: the bytes are no such log.
    pub fn parse(bytes: Vec<u8>) -> Option<Self> {
        if number(&bytes, 0)? != MAGIC {
            return None;
        }
        let mut entries = Vec::new();
        let mut at = SECTOR;
        while let (Some(sector), Some(sectors), Some(flags)) =
            (number(&bytes, at), number(&bytes, at + 8), number(&bytes, at + 16))
        {
            let begin = at + SECTOR;
            let data = if flags & DISCARD != 0 { 0 } else { sectors as usize * SECTOR };
            if sectors == 0 && flags & FLUSH == 0 || begin + data > bytes.len() {
                break;
            }
            entries.push(Entry { at: sector * SECTOR as u64, data: begin..begin + data, flags });
            at = begin + data;
        }
        Some(Self { bytes, entries })
    }

    pub fn data(&self, entry: &Entry) -> &[u8] {
        &self.bytes[entry.data.clone()]
    }

    /// What was written by the time the power went just before entry `cut`: all up to the last flush before it, and of the
    /// writes since then those blocks that `keep` says yes to. Sector by sector: number, content.
    pub fn disk_at(&self, cut: usize, mut keep: impl FnMut() -> bool) -> BTreeMap<u64, &[u8]> {
        let flushed = self.entries[..cut].iter().rposition(Entry::is_flush).map_or(0, |n| n + 1);
        let mut disk = BTreeMap::new();
        for (n, entry) in self.entries[..cut].iter().enumerate() {
            let first = entry.at / SECTOR as u64;
            for (block, number) in self.data(entry).chunks(BLOCK).zip((first..).step_by(BLOCK / SECTOR)) {
                if n < flushed || keep() {
                    disk.extend((number..).zip(block.chunks(SECTOR)));
                }
            }
        }
        disk
    }

    /// How many writes of before `cut` are not flushed then.
    pub fn unflushed(&self, cut: usize) -> usize {
        self.entries[..cut].iter().rev().take_while(|e| !e.is_flush()).count()
    }
}

#[test]
fn a_log_is_read_and_unflushed_writes_go() {
    let mut bytes = vec![0; SECTOR];
    bytes[..8].copy_from_slice(&MAGIC.to_le_bytes());
    let mut add = |sector: u64, data: &[u8], flags: u64| {
        for n in [sector, (data.len() / SECTOR) as u64, flags, 0] {
            bytes.extend(n.to_le_bytes());
        }
        bytes.resize(bytes.len().next_multiple_of(SECTOR), 0);
        bytes.extend(data);
    };
    add(8, &[1; BLOCK], 0);
    add(0, &[], FLUSH);
    add(8, &[2; BLOCK], 0);
    add(16, &[3; SECTOR], 0);
    bytes.extend([0; 4 * SECTOR]);
    let log = Log::parse(bytes).unwrap();
    assert_eq!(log.entries.len(), 4);
    assert_eq!((log.unflushed(1), log.unflushed(2), log.unflushed(4)), (1, 0, 2));
    assert!(log.disk_at(1, || false).is_empty());
    assert_eq!(log.disk_at(4, || false)[&8][0], 1);
    assert_eq!(log.disk_at(4, || true)[&15][0], 2);
    assert_eq!(log.disk_at(4, || true).len(), 9);
    assert!(Log::parse(vec![0; 4096]).is_none());
}
