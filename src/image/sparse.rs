//! Files with holes in tar archives: the maps of the GNU and PAX forms, checked before a byte is written.
//!
//! Used by `tarread` (which reads the maps) and `unpack` (which writes at the offsets).

use super::number;
use crate::error::{Error, Result};

/// Pieces of one file that are not holes; more is refused (16 bytes of memory each).
pub const SEGMENTS_MAX: usize = 1 << 18;

/// A piece of data in a file with holes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment {
    /// Where it belongs, bytes.
    pub offset: u64,
    /// Its length, bytes.
    pub len: u64,
}

fn bad(what: &str) -> Error {
    Error::invalid(format!("Bad archive: {what} in a file with holes"))
}

/// Wants the pieces in order, not overlapping, within `size`, and together `stored` bytes long.
pub fn check(segments: &[Segment], size: u64, stored: u64) -> Result<()> {
    let mut end = 0u64;
    let mut sum = 0u64;
    for s in segments {
        if s.offset < end {
            return Err(bad("overlapping pieces"));
        }
        end = s.offset.checked_add(s.len).filter(|e| *e <= size).ok_or_else(|| bad("a piece past the end"))?;
        sum += s.len;
    }
    match sum == stored {
        true => Ok(()),
        false => Err(bad("pieces that do not add up")),
    }
}

/// The pairs of one GNU header or extension block (`struct sparse`, 12 bytes offset, 12 bytes length); an empty pair ends it.
pub fn gnu_block(block: &[u8], segments: &mut Vec<Segment>) -> Result<()> {
    for pair in block.chunks_exact(24) {
        if pair[12] == 0 {
            break;
        }
        let offset = number::unsigned(&pair[..12], "sparse offset")?;
        let len = number::unsigned(&pair[12..], "sparse length")?;
        segments.push(Segment { offset, len });
        if segments.len() > SEGMENTS_MAX {
            return Err(bad("too many pieces"));
        }
    }
    Ok(())
}

/// PAX version 1.0: the map stands before the data as decimal numbers, one a line, filled up to a whole block. Fed block by block.
#[derive(Debug, Default)]
pub struct MapReader {
    digits: Vec<u8>,
    count: Option<usize>,
    offset: Option<u64>,
    segments: Vec<Segment>,
}

impl MapReader {
    /// Takes one block of 512 bytes; true when the map is complete.
    pub fn feed(&mut self, block: &[u8]) -> Result<bool> {
        for byte in block {
            if *byte != b'\n' {
                self.digits.push(*byte);
                if self.digits.len() > 20 {
                    return Err(bad("a bad map"));
                }
                continue;
            }
            let value = number::decimal(&self.digits).ok_or_else(|| bad("a bad map"))?;
            self.digits.clear();
            match (self.count, self.offset.take()) {
                (None, _) => {
                    let count = usize::try_from(value).ok().filter(|n| *n <= SEGMENTS_MAX);
                    self.count = Some(count.ok_or_else(|| bad("too many pieces"))?);
                }
                (Some(_), None) => self.offset = Some(value),
                (Some(_), Some(offset)) => self.segments.push(Segment { offset, len: value }),
            }
            if self.count == Some(self.segments.len()) && self.offset.is_none() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The map.
    pub fn finish(self) -> Vec<Segment> {
        self.segments
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_are_checked() {
        let s = |offset, len| Segment { offset, len };
        assert!(check(&[s(0, 5), s(10, 5), s(20, 0)], 20, 10).is_ok());
        assert!(check(&[s(0, 5), s(4, 5)], 20, 10).is_err());
        assert!(check(&[s(0, 5), s(16, 5)], 20, 10).is_err());
        assert!(check(&[s(0, 5)], 20, 6).is_err());
        assert!(check(&[s(u64::MAX, 2)], u64::MAX, 2).is_err());
    }

    #[test]
    fn map_in_front_of_the_data() {
        let mut block = b"2\n0\n512\n4096\n1\n".to_vec();
        block.resize(512, 0);
        let mut map = MapReader::default();
        assert!(map.feed(&block).expect("good"));
        assert_eq!(map.finish(), [Segment { offset: 0, len: 512 }, Segment { offset: 4096, len: 1 }]);
        assert!(MapReader::default().feed(b"999999999\n").is_err());
        assert!(MapReader::default().feed(b"-1\n").is_err());
        assert!(MapReader::default().feed(&[b'1'; 30]).is_err());
    }
}
