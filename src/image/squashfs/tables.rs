//! The tables of a squashfs file system (version 4.0, as the kernel's fs/squashfs reads it): where things are, owners, attributes.
//!
//! Called by `reader`. The file is hostile: every number is checked before it is used, and what comes out of a packed piece is bounded
//! by what the format allows there.

use super::lzo;
use crate::error::{Error, Result};
use crate::sys::xattr::{Attribute, may_unpack};
use std::cell::RefCell;
use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::rc::Rc;

/// Bytes of a metadata block, unpacked.
const META: usize = 8192;
/// Metadata blocks that are remembered.
const REMEMBERED: usize = 256;
/// "None" in 32 and in 64 bits.
pub const NONE: u32 = u32::MAX;
const NOWHERE: u64 = u64::MAX;
/// An attribute's value lies elsewhere.
const ELSEWHERE: u16 = 0x100;
/// Largest attribute that Linux has (xattr(7)).
const VALUE_MAX: u32 = 64 << 10;
const XZ_MEMORY: u64 = 64 << 20;

/// An error of the file's.
pub fn bad(what: &str) -> Error {
    Error::invalid(format!("The image is damaged: bad squashfs: {what}"))
}

/// How pieces are packed.
#[derive(Debug, Clone, Copy)]
pub enum Packing {
    /// zlib.
    Gzip,
    /// lzma alone.
    Lzma,
    /// LZO1X.
    Lzo,
    /// xz.
    Xz,
    /// lz4 blocks.
    Lz4,
    /// Zstandard.
    Zstd,
}

impl Packing {
    /// Unpacks a piece into `most` bytes at most; none if it is damaged or larger.
    pub fn unpack(self, data: &[u8], most: usize) -> Option<Vec<u8>> {
        let mut out = Vec::with_capacity(most);
        match self {
            Self::Gzip => {
                let mut inflate = flate2::Decompress::new(true);
                let end = inflate.decompress_vec(data, &mut out, flate2::FlushDecompress::Finish).ok()?;
                (end == flate2::Status::StreamEnd).then_some(out)
            }
            Self::Lzma => {
                // The size that stands in the head is not how the stream ends.
                let (head, rest) = data.split_at_checked(13)?;
                let size = usize::try_from(Numbers(head).u64(5)).ok().filter(|size| *size <= most)?;
                let packed = [&head[..5], &[0xff; 8], rest].concat();
                let mut stream = liblzma::stream::Stream::new_lzma_decoder(XZ_MEMORY).ok()?;
                out.resize(size, 0);
                stream.process(&packed, &mut out, liblzma::stream::Action::Run).ok()?;
                (stream.total_out() == size as u64).then_some(out)
            }
            Self::Lzo => lzo::unpack(data, most),
            Self::Xz => {
                let mut stream = liblzma::stream::Stream::new_stream_decoder(XZ_MEMORY, 0).ok()?;
                let end = stream.process_vec(data, &mut out, liblzma::stream::Action::Finish).ok()?;
                (end == liblzma::stream::Status::StreamEnd).then_some(out)
            }
            Self::Lz4 => {
                out.resize(most, 0);
                let n = lz4_flex::block::decompress_into(data, &mut out).ok()?;
                out.truncate(n);
                Some(out)
            }
            Self::Zstd => zstd::bulk::decompress(data, most).ok(),
        }
    }
}

/// Numbers out of bytes that were read whole.
pub struct Numbers<'a>(pub &'a [u8]);

impl Numbers<'_> {
    fn get<const N: usize>(&self, at: usize) -> [u8; N] {
        let found = at.checked_add(N).and_then(|end| self.0.get(at..end)?.try_into().ok());
        found.unwrap_or([0; N])
    }

    /// 16 bits.
    pub fn u16(&self, at: usize) -> u16 {
        u16::from_le_bytes(self.get(at))
    }

    /// 32 bits.
    pub fn u32(&self, at: usize) -> u32 {
        u32::from_le_bytes(self.get(at))
    }

    /// 64 bits.
    pub fn u64(&self, at: usize) -> u64 {
        u64::from_le_bytes(self.get(at))
    }
}

/// Where a block of data is.
#[derive(Debug, Clone, Copy)]
pub struct Place {
    /// First byte in the file.
    pub start: u64,
    /// Bytes there.
    pub stored: usize,
    /// Packed.
    pub packed: bool,
}

impl Place {
    /// Of the word that says the size; none of a hole.
    pub fn new(start: u64, word: u32) -> Option<Self> {
        const PLAIN: u32 = 1 << 24;
        let stored = (word & (PLAIN - 1)) as usize;
        (stored != 0).then_some(Self { start, stored, packed: word & PLAIN == 0 })
    }
}

type Meta = (Rc<Vec<u8>>, u64);

/// An open file system.
pub struct Tables<'a> {
    file: &'a File,
    /// Bytes of a block of data.
    pub block: usize,
    /// How it is packed.
    pub packing: Packing,
    /// The root folder's inode.
    pub root: u64,
    inodes: u64,
    folders: u64,
    owners: Vec<u8>,
    fragments: Vec<u8>,
    /// Where the entries of attributes lie, and the attributes themselves.
    attributes: (Vec<u8>, u64),
    attribute_sets: u32,
    remembered: RefCell<HashMap<u64, Meta>>,
}

impl<'a> Tables<'a> {
    /// Reads the beginning.
    ///
    /// # Errors
    /// It is damaged; it cannot be read.
    pub fn open(file: &'a File) -> Result<Self> {
        let mut head = [0; 96];
        file.read_exact_at(&mut head, 0).map_err(|_| bad("it is too short"))?;
        let numbers = Numbers(&head);
        if numbers.u16(28) != 4 || numbers.u16(30) != 0 {
            return Err(bad("not version 4.0"));
        }
        let packing = match numbers.u16(20) {
            1 => Packing::Gzip,
            2 => Packing::Lzma,
            3 => Packing::Lzo,
            4 => Packing::Xz,
            5 => Packing::Lz4,
            6 => Packing::Zstd,
            _ => return Err(bad("its packing")),
        };
        let (block, log) = (numbers.u32(12), numbers.u16(22));
        if !(12..=20).contains(&log) || block != 1 << log {
            return Err(bad("its block size"));
        }
        let mut tables = Self {
            file,
            block: block as usize,
            packing,
            root: numbers.u64(32),
            inodes: numbers.u64(64),
            folders: numbers.u64(72),
            owners: Vec::new(),
            fragments: Vec::new(),
            attributes: (Vec::new(), 0),
            attribute_sets: 0,
            remembered: RefCell::default(),
        };
        tables.owners = tables.list(numbers.u64(48), u32::from(numbers.u16(26)), 4)?;
        tables.fragments = tables.list(numbers.u64(80), numbers.u32(16), 16)?;
        let at = numbers.u64(56);
        if at != NOWHERE {
            let mut head = [0; 16];
            file.read_exact_at(&mut head, at).map_err(|_| bad("its attributes"))?;
            let head = Numbers(&head);
            let begin = at.checked_add(16).ok_or_else(|| bad("its attributes"))?;
            tables.attribute_sets = head.u32(8);
            tables.attributes = (tables.list(begin, head.u32(8), 16)?, head.u64(0));
        }
        Ok(tables)
    }

    /// A list of `count` entries: at `start` the places of the metadata blocks that have them. Those places, as bytes.
    fn list(&self, start: u64, count: u32, size: usize) -> Result<Vec<u8>> {
        if count == 0 || start == NOWHERE {
            return Ok(Vec::new());
        }
        let bytes = (count as usize).checked_mul(size).ok_or_else(|| bad("a table's size"))?;
        let length = bytes.div_ceil(META) * 8;
        // Each of those blocks has two bytes at least.
        let file = self.file.metadata()?.len();
        if start.checked_add(length as u64).is_none_or(|end| end > file) {
            return Err(bad("a table outside of the file"));
        }
        let mut places = vec![0; length];
        self.file.read_exact_at(&mut places, start).map_err(|_| bad("a table outside of the file"))?;
        Ok(places)
    }

    /// Entry `index`, of `N` bytes, of such a list.
    fn of_list<const N: usize>(&self, places: &[u8], index: u32) -> Result<[u8; N]> {
        let at = index as usize * N;
        let place =
            places.get(at / META * 8..).filter(|rest| rest.len() >= 8).ok_or_else(|| bad("an entry's number"))?;
        let mut cursor = Cursor { tables: self, next: Numbers(place).u64(0), data: Rc::default(), at: 0 };
        cursor.skip(at % META)?;
        cursor.take()
    }

    /// Owner or group `index`.
    ///
    /// # Errors
    /// There is no such one.
    pub fn owner(&self, index: u16) -> Result<u32> {
        self.of_list(&self.owners, u32::from(index)).map(u32::from_le_bytes)
    }

    /// The block that holds the ends of files, number `index`.
    ///
    /// # Errors
    /// There is no such one.
    pub fn fragment(&self, index: u32) -> Result<Place> {
        let entry: [u8; 16] = self.of_list(&self.fragments, index)?;
        let numbers = Numbers(&entry);
        Place::new(numbers.u64(0), numbers.u32(8)).ok_or_else(|| bad("an empty fragment"))
    }

    /// The attributes of set `index` that are taken over; [`NONE`] has none.
    ///
    /// # Errors
    /// They are damaged; more than `most`.
    pub fn attributes(&self, index: u32, most: usize) -> Result<Vec<Attribute>> {
        if index == NONE {
            return Ok(Vec::new());
        }
        if index >= self.attribute_sets {
            return Err(bad("attributes that are not there"));
        }
        let entry: [u8; 16] = self.of_list(&self.attributes.0, index)?;
        let numbers = Numbers(&entry);
        let count = numbers.u32(8) as usize;
        if count > most {
            return Err(bad("too many attributes"));
        }
        let mut cursor = self.cursor(self.attributes.1, numbers.u64(0))?;
        let mut found = Vec::new();
        for _ in 0..count {
            let (kind, length) = (u16::from_le_bytes(cursor.take()?), u16::from_le_bytes(cursor.take()?));
            let prefix: &[u8] = match kind & 0xff {
                0 => b"user.",
                1 => b"trusted.",
                2 => b"security.",
                _ => return Err(bad("an attribute's kind")),
            };
            let name = [prefix, &cursor.bytes(usize::from(length.min(255)))?].concat();
            let value = cursor.value()?;
            let value = match kind & ELSEWHERE {
                0 => value,
                _ => self.cursor(self.attributes.1, Numbers(&value).u64(0))?.value()?,
            };
            if may_unpack(&name) {
                found.push((name, value));
            }
        }
        Ok(found)
    }

    /// At an inode.
    ///
    /// # Errors
    /// It is not in the file.
    pub fn inode(&self, reference: u64) -> Result<Cursor<'_, 'a>> {
        self.cursor(self.inodes, reference)
    }

    /// At a folder's names.
    ///
    /// # Errors
    /// They are not in the file.
    pub fn folder(&self, block: u32, offset: u16) -> Result<Cursor<'_, 'a>> {
        self.cursor(self.folders, u64::from(block) << 16 | u64::from(offset))
    }

    /// `reference`: a block's place in a table, and an offset in it.
    fn cursor(&self, table: u64, reference: u64) -> Result<Cursor<'_, 'a>> {
        let next = table.checked_add(reference >> 16).ok_or_else(|| bad("a place outside of the file"))?;
        let mut cursor = Cursor { tables: self, next, data: Rc::default(), at: 0 };
        cursor.skip((reference & 0xffff) as usize)?;
        Ok(cursor)
    }

    /// A metadata block, unpacked, and where the next one is.
    fn meta(&self, at: u64) -> Result<Meta> {
        if let Some(known) = self.remembered.borrow().get(&at) {
            return Ok(known.clone());
        }
        let outside = |_| bad("metadata outside of the file");
        let mut word = [0; 2];
        self.file.read_exact_at(&mut word, at).map_err(outside)?;
        let word = usize::from(u16::from_le_bytes(word));
        let (plain, stored) = (word & 0x8000 != 0, word & 0x7fff);
        if stored == 0 || stored > META {
            return Err(bad("a metadata block's size"));
        }
        let mut data = vec![0; stored];
        let begin = at.checked_add(2).ok_or_else(|| bad("metadata outside of the file"))?;
        self.file.read_exact_at(&mut data, begin).map_err(outside)?;
        if !plain {
            data = self.packing.unpack(&data, META).ok_or_else(|| bad("a metadata block"))?;
        }
        let found = (Rc::new(data), begin + stored as u64);
        let mut remembered = self.remembered.borrow_mut();
        if remembered.len() >= REMEMBERED {
            remembered.clear();
        }
        remembered.insert(at, found.clone());
        Ok(found)
    }
}

/// Reads metadata from block to block.
pub struct Cursor<'t, 'a> {
    tables: &'t Tables<'a>,
    next: u64,
    data: Rc<Vec<u8>>,
    at: usize,
}

impl Cursor<'_, '_> {
    fn each(&mut self, mut left: usize, mut piece: impl FnMut(&[u8])) -> Result<()> {
        while left > 0 {
            if self.at == self.data.len() {
                (self.data, self.next) = self.tables.meta(self.next)?;
                self.at = 0;
                if self.data.is_empty() {
                    return Err(bad("an empty metadata block"));
                }
            }
            let n = left.min(self.data.len() - self.at);
            piece(&self.data[self.at..self.at + n]);
            self.at += n;
            left -= n;
        }
        Ok(())
    }

    fn skip(&mut self, n: usize) -> Result<()> {
        self.each(n, |_| ())
    }

    /// The next `n` bytes; the caller has bounded them.
    ///
    /// # Errors
    /// They are not in the file.
    pub fn bytes(&mut self, n: usize) -> Result<Vec<u8>> {
        let mut out = Vec::with_capacity(n.min(META));
        self.each(n, |piece| out.extend_from_slice(piece))?;
        Ok(out)
    }

    /// The next bytes.
    ///
    /// # Errors
    /// As [`Cursor::bytes`].
    pub fn take<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut out = [0; N];
        let mut at = 0;
        self.each(N, |piece| {
            out[at..at + piece.len()].copy_from_slice(piece);
            at += piece.len();
        })?;
        Ok(out)
    }

    /// A value of an attribute.
    fn value(&mut self) -> Result<Vec<u8>> {
        match u32::from_le_bytes(self.take()?) {
            size if size > VALUE_MAX => Err(bad("an attribute's size")),
            size => self.bytes(size as usize),
        }
    }
}
