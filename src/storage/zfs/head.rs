//! How a stream of ZFS begins (`dmu_replay_record_t` and `drr_begin` of OpenZFS's `sys/zfs_ioctl.h`).
//!
//! What is taken is the plain stream of one file system: such a stream has no place for properties and names no other
//! datasets, so whoever made it decides about neither.

use crate::error::{Error, Result};

/// Length, bytes.
pub(super) const LENGTH: usize = 312;
const MAGIC: u64 = 0x2_F5BA_CBAC;
/// Kind of a stream that has no other ones in it.
const SINGLE: u64 = 1;
/// It is of a file system (`DMU_OST_ZFS`).
const FILES: u32 = 2;
/// Spilled attributes, embedded, large and compressed blocks and nodes, long names: how data are written down, and no more. Not
/// among them: encrypted (raw), redacted, resumed and deduplicated streams.
const FORMS: u64 = 1 << 2 | 1 << 16 | 1 << 17 | 1 << 19 | 1 << 22 | 1 << 23 | 1 << 25 | 1 << 27 | 1 << 28 | 1 << 29;

/// See the module.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Head {
    /// Identity of the snapshot that it is of.
    pub to: u64,
    /// That of the one it builds upon.
    pub from: Option<u64>,
}

impl Head {
    /// Reads the first [`LENGTH`] bytes of a stream.
    ///
    /// # Errors
    /// Invalid: it is none of ZFS's; Unsupported: a form that is not read.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let number = |at: usize, len: usize| {
            let own = bytes.get(at..at + len).unwrap_or_default();
            own.iter().rev().fold(0u64, |n, byte| n << 8 | u64::from(*byte))
        };
        let (kind, payload, magic, version) = (number(0, 4), number(4, 4), number(8, 8), number(16, 8));
        if magic == MAGIC.swap_bytes() {
            return Err(Error::unsupported("The stream is one of a machine with another byte order"));
        }
        if bytes.len() < LENGTH || magic != MAGIC || kind != 0 {
            return Err(Error::invalid("It is no stream of ZFS"));
        }
        if version & 3 != SINGLE || payload != 0 {
            return Err(Error::unsupported(
                "Streams of ZFS that hold properties or several datasets are not supported",
            ));
        }
        if version >> 2 & !FORMS != 0 {
            return Err(Error::unsupported("Encrypted, redacted and partial streams of ZFS are not supported"));
        }
        if number(32, 4) != u64::from(FILES) {
            return Err(Error::unsupported("Streams of ZFS block devices are not supported"));
        }
        let (to, from) = (number(40, 8), number(48, 8));
        Ok(Self { to, from: (from != 0).then_some(from) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(kind: u64, forms: u64, (objects, payload): (u32, u32)) -> Vec<u8> {
        let mut bytes = vec![0; 4];
        bytes.extend(payload.to_le_bytes());
        for number in [MAGIC, kind | forms << 2, 0] {
            bytes.extend(number.to_le_bytes());
        }
        bytes.extend(objects.to_le_bytes());
        bytes.extend([0; 4]);
        bytes.extend(7u64.to_le_bytes());
        bytes.extend(5u64.to_le_bytes());
        bytes.resize(LENGTH, b'x');
        bytes
    }

    #[test]
    fn only_plain_streams_are_taken() {
        let good = made(1, 1 << 2 | 1 << 22, (FILES, 0));
        assert_eq!(Head::parse(&good).expect("plain"), Head { to: 7, from: Some(5) });
        let says = |bytes: &[u8]| Head::parse(bytes).expect_err("refused").to_string();
        for (bytes, words) in [
            (made(2, 4, (FILES, 0)), "hold properties"),
            (made(3, 4, (FILES, 0)), "hold properties"),
            (made(1, 4, (FILES, 88)), "hold properties"),
            (made(1, 1 << 24, (FILES, 0)), "Encrypted"),
            (made(1, 1 << 20, (FILES, 0)), "partial"),
            (made(1, 1 << 61, (FILES, 0)), "Encrypted"),
            (made(1, 4, (3, 0)), "block devices"),
            (made(1, 4, (2, 0))[..LENGTH - 1].to_vec(), "no stream of ZFS"),
            (vec![0; LENGTH], "no stream of ZFS"),
            (Vec::new(), "no stream of ZFS"),
        ] {
            assert!(says(&bytes).contains(words), "{words}: {}", says(&bytes));
        }
        let mut other = good;
        other[8..16].reverse();
        assert!(says(&other).contains("byte order"));
    }
}
