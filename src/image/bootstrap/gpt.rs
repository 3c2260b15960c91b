//! A partition table (UEFI specification 2.10, section 5): protective MBR, GPT and its copy at the end of the disk.
//!
//! Called by `machine` for a disk that is all zeroes so far.

use crate::error::{Context, Result};
use flate2::Crc;
use std::fs::File;
use std::os::unix::fs::FileExt;
use uuid::Uuid;

/// Bytes of a sector, the only size there is here.
pub const SECTOR: u64 = 512;
/// Places in the table, as the specification wants them at least, and bytes of each.
const PLACES: usize = 128;
const PLACE: usize = 128;
/// Sectors of the table.
const TABLE: u64 = (PLACES * PLACE) as u64 / SECTOR;

/// A partition.
#[derive(Debug, Clone, Copy)]
pub struct Partition {
    /// What it is for.
    pub kind: Uuid,
    /// Its own.
    pub id: Uuid,
    /// In ASCII, 36 characters at most.
    pub name: &'static str,
    /// First byte, of a whole sector.
    pub start: u64,
    /// The byte behind it.
    pub end: u64,
}

/// Writes both tables of a disk of `size` bytes.
///
/// # Errors
/// Those of writing.
pub fn write(disk: &File, size: u64, id: Uuid, partitions: &[Partition]) -> Result<()> {
    let last = size / SECTOR - 1;
    let table = table(partitions);
    let sum = crc(&table);
    let copy = last - TABLE;
    let pieces = [
        (0, mbr(last).to_vec()),
        (1, header(1, last, 2, id, sum).to_vec()),
        (2, table.clone()),
        (copy, table),
        (last, header(last, 1, copy, id, sum).to_vec()),
    ];
    pieces
        .iter()
        .try_for_each(|(sector, data)| disk.write_all_at(data, sector * SECTOR))
        .context("Failed writing the partition table")
}

/// The last byte that a partition may end before, on a disk of `size` bytes.
pub fn end(size: u64) -> u64 {
    (size / SECTOR - 1 - TABLE) * SECTOR
}

fn crc(data: &[u8]) -> u32 {
    let mut crc = Crc::new();
    crc.update(data);
    crc.sum()
}

/// Tells old tools that all of the disk is taken.
fn mbr(last: u64) -> [u8; SECTOR as usize] {
    let mut sector = [0; SECTOR as usize];
    let sectors = u32::try_from(last).unwrap_or(u32::MAX);
    let entry = &mut sector[446..462];
    entry[..8].copy_from_slice(&[0, 0, 2, 0, 0xee, 0xff, 0xff, 0xff]);
    entry[8..12].copy_from_slice(&1u32.to_le_bytes());
    entry[12..].copy_from_slice(&sectors.to_le_bytes());
    sector[510..].copy_from_slice(&[0x55, 0xaa]);
    sector
}

fn header(own: u64, other: u64, table: u64, id: Uuid, sum: u32) -> [u8; SECTOR as usize] {
    let mut sector = [0; SECTOR as usize];
    let mut put = |at: usize, bytes: &[u8]| sector[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, b"EFI PART\0\0\x01\0\x5c\0\0\0");
    let last = own.max(other);
    for (at, number) in [(24, own), (32, other), (40, 2 + TABLE), (48, last - TABLE - 1), (72, table)] {
        put(at, &number.to_le_bytes());
    }
    put(56, &id.to_bytes_le());
    for (at, number) in [(80, PLACES as u32), (84, PLACE as u32), (88, sum)] {
        put(at, &number.to_le_bytes());
    }
    let own_sum = crc(&sector[..92]);
    sector[16..20].copy_from_slice(&own_sum.to_le_bytes());
    sector
}

fn table(partitions: &[Partition]) -> Vec<u8> {
    let mut table = vec![0; PLACES * PLACE];
    for (place, partition) in table.chunks_exact_mut(PLACE).zip(partitions) {
        place[..16].copy_from_slice(&partition.kind.to_bytes_le());
        place[16..32].copy_from_slice(&partition.id.to_bytes_le());
        place[32..40].copy_from_slice(&(partition.start / SECTOR).to_le_bytes());
        place[40..48].copy_from_slice(&(partition.end / SECTOR - 1).to_le_bytes());
        for (room, unit) in place[56..].chunks_exact_mut(2).zip(partition.name.encode_utf16()) {
            room.copy_from_slice(&unit.to_le_bytes());
        }
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_tables_are_there() {
        let disk = tempfile::tempfile().expect("file");
        let size = 8 << 20;
        disk.set_len(size).expect("length");
        let kind = Uuid::from_u128(0xC12A7328_F81F_11D2_BA4B_00A0C93EC93B);
        let only = Partition { kind, id: Uuid::from_u128(1), name: "ESP", start: 1 << 20, end: 2 << 20 };
        write(&disk, size, Uuid::from_u128(2), &[only]).expect("written");
        let sector = |at: u64| {
            let mut data = [0; SECTOR as usize];
            disk.read_exact_at(&mut data, at * SECTOR).expect("read");
            data
        };
        let last = size / SECTOR - 1;
        assert_eq!(sector(0)[510..], [0x55, 0xaa]);
        for (own, table) in [(1, 2), (last, last - 32)] {
            let mut header = sector(own);
            assert_eq!(&header[..8], b"EFI PART");
            let said = u32::from_le_bytes(header[16..20].try_into().expect("four"));
            header[16..20].fill(0);
            assert_eq!(crc(&header[..92]), said);
            // The mixed order of bytes that the specification has.
            assert_eq!(sector(table)[..8], [0x28, 0x73, 0x2a, 0xc1, 0x1f, 0xf8, 0xd2, 0x11]);
            assert_eq!(sector(table)[56..62], *b"E\0S\0P\0");
        }
        assert_eq!(end(size), (last - 32) * SECTOR);
        // The well-known check value of this sum.
        assert_eq!(crc(b"123456789"), 0xcbf4_3926);
    }
}
