//! Reads the entries of a tar archive: ustar, GNU and PAX, strictly.
//!
//! Used by `unpack` and `import`. The `tar` crate supplies the layout of headers; entry framing is ours, because the crate reads
//! extended headers of any size into memory, splits PAX values at newlines and lets the first of two equal keys win (see also
//! RUSTSEC-2026-0068, CVE-2025-62518). Rules: a PAX size holds for the next file entry and for nothing before it, and may not
//! contradict the header; only files have contents; extended headers are given once; the end is marked. Must never panic.

use super::pax::{self, Pax};
use super::pipe::error_of;
use super::sparse::{self, MapReader, Segment};
use super::{Limits, METADATA_MAX, number};
use crate::error::{Error, Result};
use crate::sys::xattr::Attribute;
use std::io::{BufRead, ErrorKind};

const BLOCK: u64 = 512;
/// Size fields hold this many octal digits less than bytes: larger files are in PAX or base-256 form.
const OCTAL_MAX: u64 = 1 << 33;
/// Longest GNU long name we read; the path check is stricter.
const LONG_NAME_MAX: u64 = 64 << 10;

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EntryKind {
    /// Regular file.
    File,
    /// Directory.
    Dir,
    /// Symbolic link to `link`.
    Symlink,
    /// Another name of the earlier entry `link`.
    HardLink,
    /// Character device.
    Char,
    /// Block device.
    Block,
    /// Named pipe.
    Fifo,
}

/// One entry of an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// What it is.
    pub kind: EntryKind,
    /// Name as the archive has it.
    pub path: Vec<u8>,
    /// Target of a link.
    pub link: Vec<u8>,
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Modification time.
    pub mtime: (i64, u32),
    /// Size of a file, holes included.
    pub size: u64,
    /// Where its data belongs, if it has holes.
    pub segments: Option<Vec<Segment>>,
    /// Major and minor number of a device.
    pub device: (u32, u32),
    /// Extended attributes.
    pub xattrs: Vec<Attribute>,
}

impl Entry {
    /// Its name for messages.
    pub fn name(&self) -> String {
        printable(&self.path)
    }
}

/// A name from an archive, quoted, control characters escaped, cut at 200 bytes.
pub fn printable(path: &[u8]) -> String {
    format!("{:?}", String::from_utf8_lossy(&path[..path.len().min(200)]))
}

/// Whether a block is a header with the right checksum (the sum of its bytes, the field itself counted as spaces).
pub fn checksum_is_right(block: &[u8; 512]) -> bool {
    let sum: u64 =
        block.iter().enumerate().map(|(i, b)| if (148..156).contains(&i) { 32 } else { u64::from(*b) }).sum();
    number::unsigned(&block[148..156], "checksum").is_ok_and(|s| s == sum)
}

fn bad(what: impl std::fmt::Display) -> Error {
    Error::invalid(format!("Bad archive: {what}"))
}

/// The entries of one archive, in order.
pub struct TarReader<R> {
    source: R,
    /// Bytes of the current entry's data not read yet, and the padding behind them.
    left: u64,
    padding: u64,
    entries: u64,
    limits: Limits,
    global: Pax,
}

impl<R> std::fmt::Debug for TarReader<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TarReader").field("entries", &self.entries).finish_non_exhaustive()
    }
}

/// What came before an entry to describe it.
#[derive(Default)]
struct Ahead {
    name: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    pax: Option<Pax>,
}

impl<R: BufRead> TarReader<R> {
    /// Reads from the start of an uncompressed archive.
    pub fn new(source: R, limits: &Limits) -> Self {
        Self { source, left: 0, padding: 0, entries: 0, limits: limits.clone(), global: Pax::default() }
    }

    /// The next entry; what is left of the one before is skipped. `None` at the end mark.
    ///
    /// # Errors
    /// The archive is malformed, truncated or over a limit; the source fails.
    pub fn next_entry(&mut self) -> Result<Option<Entry>> {
        let mut ahead = Ahead::default();
        loop {
            let rest = self.left + self.padding;
            self.take(rest, &mut |_| Ok(()))?;
            (self.left, self.padding) = (0, 0);
            let header = self.block()?;
            if header.iter().all(|b| *b == 0) {
                let dangling = ahead.name.is_some() || ahead.link.is_some() || ahead.pax.is_some();
                return if dangling { Err(bad("an extended header describes nothing")) } else { Ok(None) };
            }
            if !checksum_is_right(&header) {
                return Err(bad("wrong checksum of a header"));
            }
            self.entries += 1;
            if self.entries > self.limits.entries {
                return Err(bad(format!("more than {} entries", self.limits.entries)));
            }
            let header = of_known_form(header)?;
            let size = number::unsigned(&header.as_old().size, "size")?;
            match header.as_old().linkflag[0] {
                b'L' => store(&mut ahead.name, self.long_name(size)?)?,
                b'K' => store(&mut ahead.link, self.long_name(size)?)?,
                b'x' => store(&mut ahead.pax, self.pax(size)?)?,
                b'g' => {
                    self.global = self.pax(size)?;
                    self.global.check_global()?;
                }
                // A volume's label.
                b'V' if size == 0 => {}
                _ => return self.entry(&header, size, ahead).map(Some),
            }
        }
    }

    /// Reads the current entry's data in pieces; `sink` gets them in order, holes not included.
    ///
    /// # Errors
    /// The source ends early; `sink` fails.
    pub fn data(&mut self, sink: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
        let left = std::mem::take(&mut self.left);
        self.take(left, sink)
    }

    /// Reads the current entry's data at once.
    ///
    /// # Errors
    /// As [`TarReader::data`]; there is more than `max`.
    pub fn small_data(&mut self, name: &str, max: u64) -> Result<Vec<u8>> {
        if self.left > max {
            return Err(bad(format!("{name} is larger than {max} bytes")));
        }
        let mut data = Vec::new();
        self.data(&mut |piece| {
            data.extend_from_slice(piece);
            Ok(())
        })?;
        Ok(data)
    }

    fn take(&mut self, mut n: u64, sink: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
        while n > 0 {
            let piece = match self.source.fill_buf() {
                Err(e) if e.kind() == ErrorKind::Interrupted => continue,
                other => other.map_err(error_of)?,
            };
            if piece.is_empty() {
                return Err(Error::invalid("The image is truncated"));
            }
            let len = usize::try_from(n).unwrap_or(usize::MAX).min(piece.len());
            sink(&piece[..len])?;
            self.source.consume(len);
            n -= len as u64;
        }
        Ok(())
    }

    fn block(&mut self) -> Result<[u8; 512]> {
        let mut block = [0; 512];
        let mut at = 0;
        self.take(BLOCK, &mut |piece| {
            block[at..at + piece.len()].copy_from_slice(piece);
            at += piece.len();
            Ok(())
        })?;
        Ok(block)
    }

    fn frame(&mut self, size: u64) {
        self.left = size;
        self.padding = (BLOCK - size % BLOCK) % BLOCK;
    }

    fn long_name(&mut self, size: u64) -> Result<Vec<u8>> {
        self.frame(size);
        let mut name = self.small_data("a long name", LONG_NAME_MAX)?;
        // GNU tar reads on behind a name that has no end.
        if name.pop() != Some(0) {
            return Err(bad("a long name without end"));
        }
        while name.last() == Some(&0) {
            name.pop();
        }
        Ok(name)
    }

    fn pax(&mut self, size: u64) -> Result<Pax> {
        self.frame(size);
        let data = self.small_data("an extended header", METADATA_MAX)?;
        pax::parse(&data, self.limits.xattrs)
    }

    fn entry(&mut self, header: &tar::Header, header_size: u64, ahead: Ahead) -> Result<Entry> {
        let old = header.as_old();
        let pax = ahead.pax.unwrap_or_default();
        let path = pick(ahead.name, pax.path, header.path_bytes().into_owned())?;
        let own_link = field_text(&old.linkname).to_vec();
        let link = pick(ahead.link, pax.linkpath, own_link)?;
        let stored = agreed_size(header_size, pax.size)?;
        let kind = kind(old.linkflag[0], &path)?;
        if kind != EntryKind::File && stored != 0 {
            return Err(bad(format!("{} is no file but has contents", printable(&path))));
        }
        let id = |own: &[u8], pax: Option<u64>, global: Option<u64>, name| -> Result<u32> {
            let fits = |value: u64| {
                u32::try_from(value).ok().filter(|v| *v != u32::MAX).ok_or_else(|| bad(format!("the {name} {value}")))
            };
            // What is replaced must be a number all the same.
            let own = fits(number::unsigned(own, name)?)?;
            pax.or(global).map_or(Ok(own), fits)
        };
        let mtime = match pax.mtime.or(self.global.mtime) {
            Some(t) => t,
            None => (i64::try_from(number::field(&old.mtime, "mtime")?).map_err(|_| bad("a date"))?, 0),
        };
        let mut entry = Entry {
            kind,
            path,
            link,
            mode: u32::try_from(number::unsigned(&old.mode, "mode")? & 0o7777).unwrap_or(0),
            uid: id(&old.uid, pax.uid, self.global.uid, "uid")?,
            gid: id(&old.gid, pax.gid, self.global.gid, "gid")?,
            mtime,
            size: stored,
            segments: None,
            device: device(header, kind)?,
            xattrs: pax.xattrs,
        };
        self.frame(stored);
        if old.linkflag[0] == b'S' {
            self.gnu_sparse(header, &mut entry)?;
        } else if header.as_gnu().is_some() && header.as_bytes()[386..495].iter().any(|b| *b != 0) {
            // bsdtar takes any GNU header with a map as a file with holes, GNU tar one of the right type.
            return Err(bad(format!("{} has a map of holes but is of another type", entry.name())));
        } else if pax.sparse.is_used() && header.as_ustar().is_none() {
            // GNU tar takes them as they stand then, others with their holes.
            return Err(bad(format!("{} has the holes of another form of header", entry.name())));
        } else if pax.sparse.is_used() {
            self.pax_sparse(pax.sparse, &mut entry)?;
        }
        match entry.path.is_empty() || entry.path.contains(&0) || entry.link.contains(&0) {
            true => Err(bad("an entry without name, or with a NUL byte in it")),
            false => Ok(entry),
        }
    }

    /// The old GNU form: the map is in the header and in blocks behind it, which the size does not count.
    fn gnu_sparse(&mut self, header: &tar::Header, entry: &mut Entry) -> Result<()> {
        let gnu = header.as_gnu().ok_or_else(|| bad("a GNU entry without GNU header"))?;
        let mut segments = Vec::new();
        let bytes = header.as_bytes();
        sparse::gnu_block(&bytes[386..386 + 96], &mut segments)?;
        let mut more = gnu.isextended[0] != 0;
        while more {
            let block = self.block()?;
            sparse::gnu_block(&block[..504], &mut segments)?;
            more = block[504] != 0;
        }
        let real = number::unsigned(&gnu.realsize, "real size")?;
        sparse::check(&segments, real, entry.size)?;
        entry.size = real;
        entry.segments = Some(segments);
        Ok(())
    }

    fn pax_sparse(&mut self, said: pax::PaxSparse, entry: &mut Entry) -> Result<()> {
        if entry.kind != EntryKind::File {
            return Err(bad(format!("{} is no file but has holes", entry.name())));
        }
        let real = said.realsize.ok_or_else(|| bad("a file with holes but without size"))?;
        let segments = match (said.major, said.minor, said.map) {
            (Some(1), Some(0), None) => self.map_before_data()?,
            (None, None, Some(map)) => {
                if said.numblocks.is_some_and(|n| n != map.len() as u64) {
                    return Err(bad("a wrong number of holes"));
                }
                map
            }
            _ => return Err(bad("an unknown form of holes")),
        };
        sparse::check(&segments, real, self.left)?;
        entry.path = said.name.unwrap_or_else(|| std::mem::take(&mut entry.path));
        entry.size = real;
        entry.segments = Some(segments);
        Ok(())
    }

    fn map_before_data(&mut self) -> Result<Vec<Segment>> {
        let mut map = MapReader::default();
        loop {
            if self.left < BLOCK {
                return Err(bad("a truncated map of holes"));
            }
            let block = self.block()?;
            self.left -= BLOCK;
            if map.feed(&block)? {
                return Ok(map.finish());
            }
        }
    }
}

/// The marks of the two known forms, or none (the oldest form). The version behind POSIX's is of no account to other readers, but
/// to the one used here; of other marks one reader makes this and another that.
fn of_known_form(mut block: [u8; 512]) -> Result<tar::Header> {
    match &block[257..265] {
        [b'u', b's', b't', b'a', b'r', 0, ..] => block[263..265].copy_from_slice(b"00"),
        b"ustar  \0" => {}
        [b'u', b's', b't', b'a', b'r', ..] => return Err(bad("a header of an unknown form")),
        _ => {}
    }
    Ok(tar::Header::from_byte_slice(&block[..]).clone())
}

fn store<T>(slot: &mut Option<T>, value: T) -> Result<()> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(bad("two extended headers describe one entry")),
    }
}

/// A GNU long name and a PAX path may stand side by side only if they agree.
fn pick(gnu: Option<Vec<u8>>, pax: Option<Vec<u8>>, own: Vec<u8>) -> Result<Vec<u8>> {
    match (gnu, pax) {
        (Some(a), Some(b)) if a != b => Err(bad("two different names of one entry")),
        (a, b) => Ok(a.or(b).unwrap_or(own)),
    }
}

fn field_text(field: &[u8]) -> &[u8] {
    field.split(|b| *b == 0).next().unwrap_or(field)
}

/// A PAX size replaces the header's, which is then 0, the same, or cannot hold it.
fn agreed_size(header: u64, pax: Option<u64>) -> Result<u64> {
    match pax {
        None => Ok(header),
        Some(size) if header == 0 || header == size || size >= OCTAL_MAX => Ok(size),
        Some(size) => Err(bad(format!("an entry is said to have {header} bytes and {size} bytes"))),
    }
}

fn kind(flag: u8, path: &[u8]) -> Result<EntryKind> {
    Ok(match flag {
        // BSD's old way to mark directories.
        0 | b'0' | b'7' if path.last() == Some(&b'/') => EntryKind::Dir,
        0 | b'0' | b'7' | b'S' => EntryKind::File,
        b'1' => EntryKind::HardLink,
        b'2' => EntryKind::Symlink,
        b'3' => EntryKind::Char,
        b'4' => EntryKind::Block,
        b'5' => EntryKind::Dir,
        b'6' => EntryKind::Fifo,
        other => return Err(bad(format!("{} is of the unknown type {:?}", printable(path), char::from(other)))),
    })
}

fn device(header: &tar::Header, kind: EntryKind) -> Result<(u32, u32)> {
    if !matches!(kind, EntryKind::Char | EntryKind::Block) {
        return Ok((0, 0));
    }
    let (major, minor) = match (header.as_ustar(), header.as_gnu()) {
        (Some(h), _) => (&h.dev_major, &h.dev_minor),
        (None, Some(h)) => (&h.dev_major, &h.dev_minor),
        (None, None) => return Err(bad("a device without number")),
    };
    // The kernel's own bounds: 12 bits and 20 bits (makedev(3)).
    let number = |field: &[u8], max: u64| -> Result<u32> {
        let n = number::unsigned(field, "device")?;
        u32::try_from(n).ok().filter(|_| n < max).ok_or_else(|| bad(format!("the device number {n}")))
    };
    Ok((number(major, 1 << 12)?, number(minor, 1 << 20)?))
}

#[cfg(test)]
#[path = "tarread_tests.rs"]
mod tests;
