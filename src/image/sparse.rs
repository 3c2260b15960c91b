//! Files with holes in tar archives: the maps of the GNU and PAX forms, checked before a byte is written.
//!
//! Used by `tarread` (which reads the maps) and `unpack` (which writes at the offsets), and the other way round by `export` and
//! `tarwrite`.

use super::number;
use crate::error::{Error, Result};
use rustix::fs::SeekFrom;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;

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

/// The map of PAX version 1.0, filled up to a whole block.
pub fn map(segments: &[Segment]) -> Vec<u8> {
    let mut text = format!("{}\n", segments.len());
    for piece in segments {
        text += &format!("{}\n{}\n", piece.offset, piece.len);
    }
    let mut bytes = text.into_bytes();
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes
}

/// The pieces of a file of `size` bytes that are not holes (lseek(2), `SEEK_DATA`), with an empty one at the end if that is a
/// hole: GNU tar makes the file that long only then. None: it has no holes worth a map, or the file system does not say.
pub fn find(file: &File, size: u64) -> Option<Vec<Segment>> {
    /// Smaller holes cost more than they save.
    const LEAST: u64 = 4096;
    if size < LEAST || rustix::fs::seek(file, SeekFrom::Hole(0)).ok()? >= size {
        return None;
    }
    let (mut found, mut at, mut holes) = (Vec::new(), 0, 0);
    while at < size {
        let data = match rustix::fs::seek(file, SeekFrom::Data(at)) {
            Ok(data) => data.min(size),
            // Nothing but a hole up to the end.
            Err(rustix::io::Errno::NXIO) => size,
            Err(_) => return None,
        };
        holes += data - at;
        if data == size {
            break;
        }
        at = rustix::fs::seek(file, SeekFrom::Hole(data)).ok()?.min(size);
        found.push(Segment { offset: data, len: at - data });
        if found.len() == SEGMENTS_MAX {
            return None;
        }
    }
    if found.last().is_none_or(|last| last.offset + last.len < size) {
        found.push(Segment { offset: size, len: 0 });
    }
    (holes >= LEAST).then_some(found)
}

/// Reads the pieces of a file one after the other.
pub struct Pieces<'a> {
    file: &'a File,
    left: std::slice::Iter<'a, Segment>,
    now: Segment,
}

impl<'a> Pieces<'a> {
    /// Those of `segments`.
    pub fn new(file: &'a File, segments: &'a [Segment]) -> Self {
        Self { file, left: segments.iter(), now: Segment { offset: 0, len: 0 } }
    }
}

impl Read for Pieces<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.now.len == 0 {
            let Some(next) = self.left.next() else { return Ok(0) };
            self.now = *next;
        }
        let most = usize::try_from(self.now.len).unwrap_or(usize::MAX).min(buffer.len());
        let n = self.file.read_at(&mut buffer[..most], self.now.offset)?;
        self.now.offset += n as u64;
        self.now.len -= n as u64;
        Ok(n)
    }
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
    fn holes_of_a_file() {
        let file = tempfile::tempfile().expect("file");
        file.set_len(3 << 20).expect("length");
        file.write_all_at(&[7; 9000], 1 << 20).expect("write");
        let found = find(&file, 3 << 20).expect("holes");
        assert_eq!(found.last(), Some(&Segment { offset: 3 << 20, len: 0 }));
        let mut data = Vec::new();
        Pieces::new(&file, &found).read_to_end(&mut data).expect("read");
        assert_eq!(data.iter().filter(|byte| **byte == 7).count(), 9000);
        assert!(data.len() < 1 << 20);
        let mut reader = MapReader::default();
        assert!(map(&found).chunks(512).any(|block| reader.feed(block).expect("map")));
        assert_eq!(reader.finish(), found);
        assert!(find(&file, 100).is_none());
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
