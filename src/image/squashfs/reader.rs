//! Reads a squashfs without the kernel: walks its folders and writes what is there as the entries of an archive.
//!
//! Called by `squashfs`; what it writes goes through `unpack`, as any archive. One thread walks, others unpack blocks, and the one
//! that called puts both together. Hostile files are bounded here by depth, and else by what `unpack` and `pipe` bound: entries and
//! bytes.

use super::blocks::{self, Block, Orders};
use super::tables::{Cursor, NONE, Numbers, Place, Tables, bad};
use crate::error::{Error, Result};
use crate::image::sparse::{SEGMENTS_MAX, Segment};
use crate::image::tarread::{Entry, EntryKind};
use crate::image::tarwrite::{self, TarWriter};
use crate::image::{Limits, pipe};
use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::io::{self, Read};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

/// Bytes that wait in unpacked blocks, about; and how many blocks at least and at most.
const WAITING: usize = 8 << 20;
const WAITING_BLOCKS: (usize, usize) = (8, 64);
/// Blocks with ends of files that are remembered: neighbours share one.
const REMEMBERED: usize = 4;
/// Most blocks of a file (4 bytes of memory each).
const BLOCKS_MAX: u64 = 1 << 22;
/// Memory counted for a file with several names beside the name, and how much of it there may be, in that of folders.
const LINK_COST: usize = 64;
const LINKS: usize = 8;
/// Longest target of a link (PATH_MAX).
const LINK_MAX: u32 = 4096;

/// What the walking thread finds, in order.
enum Found {
    Entry(Box<Entry>),
    /// Data of the entry before: so many bytes at that place of a block.
    Piece(Block, usize, usize),
    Failed(Error),
}

/// Writes all of `file` into `sink`; `first`: what has that path is written before, too.
///
/// # Errors
/// It is damaged; the sink's.
pub fn write((file, first): (&File, Option<&str>), limits: &Limits, sink: &mut pipe::Sink) -> Result<()> {
    let tables = Tables::open(file)?;
    let (packing, block) = (tables.packing, tables.block);
    let (send, found) = sync_channel((WAITING / block).clamp(WAITING_BLOCKS.0, WAITING_BLOCKS.1));
    let body = |orders: Orders| {
        std::thread::scope(|scope| {
            std::thread::Builder::new().name("squashfs".into()).spawn_scoped(scope, move || {
                if let Err(Some(e)) = walk((file, first), limits, &send, &orders) {
                    let _ = send.send(Found::Failed(e));
                }
            })?;
            append(found, sink).map_err(io::Error::other)
        })
    };
    blocks::with(file, packing, block, body).map_err(pipe::error_of)
}

fn append(found: Receiver<Found>, sink: &mut pipe::Sink) -> Result<()> {
    let mut tar = TarWriter::new(sink);
    while let Ok(next) = found.recv() {
        match next {
            Found::Entry(entry) => tar.append(&entry, &mut Pieces { found: &found, now: None })?,
            Found::Piece(..) => return Err(Error::internal("Data of no file")),
            Found::Failed(e) => return Err(e),
        }
    }
    tar.finish().map(drop)
}

/// The data of one file.
struct Pieces<'a> {
    found: &'a Receiver<Found>,
    now: Option<(Block, usize, usize)>,
}

impl Read for Pieces<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.now.as_ref().is_none_or(|(_, _, left)| *left == 0) {
            self.now = match self.found.recv() {
                Ok(Found::Piece(block, at, length)) => Some((block, at, length)),
                Ok(Found::Failed(e)) => return Err(io::Error::other(e)),
                Ok(Found::Entry(_)) | Err(_) => return Err(io::Error::other(bad("data is missing"))),
            };
        }
        let Some((block, at, left)) = &mut self.now else { return Ok(0) };
        let data = block.wait().as_deref().and_then(|data| data.get(*at..*at + *left));
        let data = data.ok_or_else(|| io::Error::other(bad("a block of data")))?;
        let n = data.len().min(buffer.len());
        buffer[..n].copy_from_slice(&data[..n]);
        (*at, *left) = (*at + n, *left - n);
        Ok(n)
    }
}

/// None: nobody listens any more.
type Walked<T> = std::result::Result<T, Option<Error>>;

fn walk(
    (file, first): (&File, Option<&str>),
    limits: &Limits,
    send: &SyncSender<Found>,
    orders: &Orders,
) -> Walked<()> {
    let tables = Tables::open(file)?;
    let root = tables.root;
    let (links, ends) = (HashMap::new(), VecDeque::new());
    let only = first.map(|path| format!("./{path}").into_bytes());
    let mut walker = Walker { tables: &tables, limits, send, orders, only, links, memory: 0, ends };
    if walker.only.is_some() {
        walker.inode(root, b".".to_vec(), 0)?;
        (walker.only, walker.links, walker.memory) = (None, HashMap::new(), 0);
    }
    walker.inode(root, b".".to_vec(), 0)
}

struct Walker<'w, 'a> {
    tables: &'w Tables<'a>,
    limits: &'w Limits,
    send: &'w SyncSender<Found>,
    orders: &'w Orders,
    /// Nothing but what is on the way to this.
    only: Option<Vec<u8>>,
    /// Files with several names: their inode, and the first name.
    links: HashMap<u64, Vec<u8>>,
    /// Bytes of memory for them.
    memory: usize,
    /// Ends of files, by number.
    ends: VecDeque<(u32, Block)>,
}

/// A folder's names, of so many bytes.
struct Names {
    block: u32,
    offset: u16,
    size: u32,
}

impl Walker<'_, '_> {
    fn send(&self, found: Found) -> Walked<()> {
        self.send.send(found).map_err(|_| None)
    }

    /// Whatever is at `reference`, as `path`.
    fn inode(&mut self, reference: u64, path: Vec<u8>, depth: usize) -> Walked<()> {
        let mut cursor = self.tables.inode(reference)?;
        let head: [u8; 16] = cursor.take()?;
        let head = Numbers(&head);
        let kind = head.u16(0);
        let mut entry = Entry {
            mode: u32::from(head.u16(2)) & 0o7777,
            uid: self.tables.owner(head.u16(4))?,
            gid: self.tables.owner(head.u16(6))?,
            mtime: (i64::from(head.u32(8)), 0),
            path,
            ..tarwrite::empty()
        };
        if depth == 0 && !matches!(kind, 1 | 8) {
            return Err(Some(bad("its root is no folder")));
        }
        match kind {
            1 | 8 => self.folder(kind == 8, &mut cursor, entry, depth),
            2 | 9 => self.file(kind == 9, &mut cursor, entry, reference),
            3 | 10 => {
                let numbers: [u8; 8] = cursor.take()?;
                let size = Numbers(&numbers).u32(4);
                if size > LINK_MAX {
                    return Err(Some(bad("a link's target")));
                }
                entry.kind = EntryKind::Symlink;
                entry.link = cursor.bytes(size as usize)?;
                self.other(kind == 10, &mut cursor, entry)
            }
            4 | 5 | 11 | 12 => {
                let numbers: [u8; 8] = cursor.take()?;
                let device = Numbers(&numbers).u32(4);
                entry.kind = if matches!(kind, 4 | 11) { EntryKind::Block } else { EntryKind::Char };
                entry.device = ((device & 0xf_ff00) >> 8, device & 0xff | device >> 12 & 0xf_ff00);
                self.other(kind > 7, &mut cursor, entry)
            }
            6 | 13 => {
                let _: [u8; 4] = cursor.take()?;
                entry.kind = EntryKind::Fifo;
                self.other(kind == 13, &mut cursor, entry)
            }
            // Sockets belong to a process.
            7 | 14 => Ok(()),
            _ => Err(Some(bad("an inode's kind"))),
        }
    }

    fn attributes(&self, entry: &mut Entry, index: u32) -> Result<()> {
        entry.xattrs = self.tables.attributes(index, self.limits.xattrs)?;
        Ok(())
    }

    /// Attributes stand at the end of the inode, if it is one that can have some.
    fn other(&mut self, extended: bool, cursor: &mut Cursor<'_, '_>, mut entry: Entry) -> Walked<()> {
        if extended {
            let index = u32::from_le_bytes(cursor.take()?);
            self.attributes(&mut entry, index)?;
        }
        self.send(Found::Entry(Box::new(entry)))
    }

    fn folder(&mut self, extended: bool, cursor: &mut Cursor<'_, '_>, mut entry: Entry, depth: usize) -> Walked<()> {
        if depth > self.limits.depth {
            return Err(Some(Error::invalid("The image's tree is too deep")));
        }
        let names = match extended {
            false => {
                let bytes: [u8; 16] = cursor.take()?;
                let numbers = Numbers(&bytes);
                Names { block: numbers.u32(0), size: u32::from(numbers.u16(8)), offset: numbers.u16(10) }
            }
            true => {
                let bytes: [u8; 24] = cursor.take()?;
                let numbers = Numbers(&bytes);
                self.attributes(&mut entry, numbers.u32(20))?;
                Names { size: numbers.u32(4), block: numbers.u32(8), offset: numbers.u16(18) }
            }
        };
        let path = entry.path.clone();
        entry.kind = EntryKind::Dir;
        entry.path.push(b'/');
        if self.only.is_none() {
            self.send(Found::Entry(Box::new(entry)))?;
        }
        self.names(&names, &path, depth)
    }

    /// Everything in a folder. Its size counts three bytes more: the two names that are not there.
    fn names(&mut self, names: &Names, path: &[u8], depth: usize) -> Walked<()> {
        let mut left = names.size.saturating_sub(3) as usize;
        if left == 0 {
            return Ok(());
        }
        let mut cursor = self.tables.folder(names.block, names.offset)?;
        let mut need = |bytes: usize| {
            left = left.checked_sub(bytes).ok_or_else(|| bad("a folder's size"))?;
            Ok::<_, Error>(left)
        };
        loop {
            need(12)?;
            let head: [u8; 12] = cursor.take()?;
            let head = Numbers(&head);
            // One less than there are; 256 at most.
            if head.u32(0) > 255 {
                return Err(Some(bad("a folder's names")));
            }
            let mut rest = 0;
            for _ in 0..=head.u32(0) {
                let one: [u8; 8] = cursor.take()?;
                let one = Numbers(&one);
                let length = usize::from(one.u16(6)) + 1;
                rest = need(8 + length)?;
                let name = cursor.bytes(length.min(256))?;
                if length > 255 || matches!(&name[..], b"." | b"..") || name.iter().any(|b| matches!(b, 0 | b'/')) {
                    return Err(Some(bad("a name")));
                }
                let child = [path, b"/", &name].concat();
                let leads =
                    |only: &Vec<u8>| only.strip_prefix(&child[..]).is_some_and(|r| matches!(r, [] | [b'/', ..]));
                if self.only.as_ref().is_some_and(|only| !leads(only)) {
                    continue;
                }
                self.inode(u64::from(head.u32(4)) << 16 | u64::from(one.u16(0)), child, depth + 1)?;
            }
            if rest == 0 {
                return Ok(());
            }
        }
    }

    fn file(&mut self, extended: bool, cursor: &mut Cursor<'_, '_>, mut entry: Entry, reference: u64) -> Walked<()> {
        entry.kind = EntryKind::File;
        let (start, end, offset) = match extended {
            false => {
                let bytes: [u8; 16] = cursor.take()?;
                let numbers = Numbers(&bytes);
                entry.size = u64::from(numbers.u32(12));
                (u64::from(numbers.u32(0)), numbers.u32(4), numbers.u32(8))
            }
            true => {
                let bytes: [u8; 40] = cursor.take()?;
                let numbers = Numbers(&bytes);
                if numbers.u32(24) > 1 {
                    if let Some(first) = self.links.get(&reference) {
                        let link = Entry { kind: EntryKind::HardLink, link: first.clone(), ..entry };
                        return self.send(Found::Entry(Box::new(link)));
                    }
                    self.memory += entry.path.len() + LINK_COST;
                    if self.memory > LINKS * self.limits.memory {
                        return Err(Some(Error::invalid("The image has too many files with several names")));
                    }
                    self.links.insert(reference, entry.path.clone());
                }
                entry.size = numbers.u64(8);
                self.attributes(&mut entry, numbers.u32(36))?;
                (numbers.u64(0), numbers.u32(28), numbers.u32(32))
            }
        };
        let block = self.tables.block as u64;
        let whole = if end == NONE { entry.size.div_ceil(block) } else { entry.size / block };
        if whole > BLOCKS_MAX {
            return Err(Some(Error::invalid("The image has a file that is too large")));
        }
        let words = cursor.bytes(whole as usize * 4)?;
        let words: Vec<u32> = words.chunks_exact(4).map(|word| Numbers(word).u32(0)).collect();
        let size = entry.size;
        entry.segments = segments(&words, block, size);
        let holes = entry.segments.is_some();
        self.send(Found::Entry(Box::new(entry)))?;
        let mut at = start;
        for (index, word) in words.into_iter().enumerate() {
            let length = block.min(size - index as u64 * block) as usize;
            match Place::new(at, word) {
                Some(place) => {
                    at = at.checked_add(place.stored as u64).ok_or_else(|| bad("a place outside of the file"))?;
                    self.send(Found::Piece(self.orders.order(place), 0, length))?;
                }
                None if holes => {}
                None => {
                    let zeros = Block::default();
                    let _ = zeros.set(Some(vec![0; length]));
                    self.send(Found::Piece(zeros, 0, length))?;
                }
            }
        }
        let rest = (size - (whole * block).min(size)) as usize;
        if rest == 0 {
            return Ok(());
        }
        let block = self.end(end)?;
        self.send(Found::Piece(block, offset as usize, rest))
    }

    fn end(&mut self, index: u32) -> Result<Block> {
        if let Some((_, block)) = self.ends.iter().find(|(known, _)| *known == index) {
            return Ok(Block::clone(block));
        }
        let block = self.orders.order(self.tables.fragment(index)?);
        self.ends.push_front((index, Block::clone(&block)));
        self.ends.truncate(REMEMBERED);
        Ok(block)
    }
}

/// The pieces that are no holes; none if there are no holes, or too many.
fn segments(words: &[u32], block: u64, size: u64) -> Option<Vec<Segment>> {
    if words.iter().all(|word| Place::new(0, *word).is_some()) {
        return None;
    }
    let mut found: Vec<Segment> = Vec::new();
    let mut add = |offset: u64, len: u64| match found.last_mut() {
        Some(last) if last.offset + last.len == offset => last.len += len,
        _ => found.push(Segment { offset, len }),
    };
    for (index, word) in words.iter().enumerate() {
        if Place::new(0, *word).is_some() {
            let offset = index as u64 * block;
            add(offset, block.min(size - offset));
        }
    }
    let whole = (words.len() as u64 * block).min(size);
    if whole < size {
        add(whole, size - whole);
    }
    if found.last().is_none_or(|last| last.offset + last.len < size) {
        found.push(Segment { offset: size, len: 0 });
    }
    (found.len() <= SEGMENTS_MAX).then_some(found)
}
