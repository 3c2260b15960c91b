//! Writes tar archives: ustar headers, PAX records where a value does not fit.
//!
//! Used by `export` and `squashfs`. The same entries give the same bytes: no names of users, no access times, records in a fixed
//! order. GNU tar, bsdtar and `tarread` read the result alike.

use super::pipe::error_of;
use super::sparse;
use super::tarread::{Entry, EntryKind};
use crate::error::{Error, Result};
use std::io::{ErrorKind, Read, Write};

/// Largest value of an octal field of `digits` digits plus one.
fn fits(value: u64, digits: u32) -> bool {
    value < 1u64 << (3 * digits)
}

/// An archive being written.
pub struct TarWriter<W: Write> {
    sink: W,
    buffer: Vec<u8>,
}

impl<W: Write> TarWriter<W> {
    /// Begins an archive.
    pub fn new(sink: W) -> Self {
        Self { sink, buffer: vec![0; 128 << 10] }
    }

    /// Adds an entry; for a file exactly `entry.size` bytes are taken from `data`, for one with holes those of its pieces.
    ///
    /// # Errors
    /// `data` ends early (the file was cut meanwhile); the sink fails.
    pub fn append(&mut self, entry: &Entry, data: &mut dyn Read) -> Result<()> {
        let map = entry.segments.as_deref().map(sparse::map);
        let pieces = || entry.segments.iter().flatten().map(|piece| piece.len).sum();
        let data_size = match entry.kind {
            EntryKind::File if map.is_some() => pieces(),
            EntryKind::File => entry.size,
            _ => 0,
        };
        let size = data_size + map.as_ref().map_or(0, |map| map.len() as u64);
        let records = records(entry, size);
        if !records.is_empty() {
            self.header(b"././@PaxHeader", b'x', records.len() as u64, &Entry { mode: 0o644, ..empty() })?;
            self.padded(&records)?;
        }
        self.header(&entry.path, flag(entry.kind), size, entry)?;
        self.put(map.as_deref().unwrap_or_default())?;
        let mut left = data_size;
        while left > 0 {
            let most = usize::try_from(left).unwrap_or(usize::MAX).min(self.buffer.len());
            let n = match data.read(&mut self.buffer[..most]) {
                Err(e) if e.kind() == ErrorKind::Interrupted => continue,
                other => other.map_err(error_of)?,
            };
            if n == 0 {
                return Err(Error::failed(format!("File {} changed while it was read", entry.name())));
            }
            self.sink.write_all(&self.buffer[..n]).map_err(error_of)?;
            left -= n as u64;
        }
        self.pad(size)
    }

    fn padded(&mut self, data: &[u8]) -> Result<()> {
        self.put(data)?;
        self.pad(data.len() as u64)
    }

    fn put(&mut self, data: &[u8]) -> Result<()> {
        self.sink.write_all(data).map_err(error_of)
    }

    fn pad(&mut self, size: u64) -> Result<()> {
        let missing = (512 - size % 512) % 512;
        self.put(&[0; 512][..missing as usize])
    }

    fn header(&mut self, path: &[u8], flag: u8, size: u64, entry: &Entry) -> Result<()> {
        let mut header = tar::Header::new_ustar();
        let put = |field: &mut [u8], text: &[u8]| {
            let n = text.len().min(field.len());
            field[..n].copy_from_slice(&text[..n]);
        };
        let clip = |value: u64, digits| if fits(value, digits) { value } else { 0 };
        header.set_mode(entry.mode & 0o7777);
        header.set_uid(clip(entry.uid.into(), 7));
        header.set_gid(clip(entry.gid.into(), 7));
        header.set_size(clip(size, 11));
        header.set_mtime(u64::try_from(entry.mtime.0).ok().filter(|t| fits(*t, 11)).unwrap_or(0));
        put(&mut header.as_old_mut().name, path);
        put(&mut header.as_old_mut().linkname, &entry.link);
        header.as_old_mut().linkflag[0] = flag;
        if matches!(entry.kind, EntryKind::Char | EntryKind::Block) {
            header.set_device_major(entry.device.0)?;
            header.set_device_minor(entry.device.1)?;
        }
        header.set_cksum();
        self.put(header.as_bytes())
    }

    /// Marks the end and returns the sink.
    ///
    /// # Errors
    /// The sink fails.
    pub fn finish(mut self) -> Result<W> {
        self.put(&[0; 1024])?;
        Ok(self.sink)
    }
}

/// An entry with nothing in it.
pub(super) fn empty() -> Entry {
    Entry {
        kind: EntryKind::File,
        path: Vec::new(),
        link: Vec::new(),
        mode: 0,
        uid: 0,
        gid: 0,
        mtime: (0, 0),
        size: 0,
        segments: None,
        device: (0, 0),
        xattrs: Vec::new(),
    }
}

fn flag(kind: EntryKind) -> u8 {
    match kind {
        EntryKind::File => b'0',
        EntryKind::HardLink => b'1',
        EntryKind::Symlink => b'2',
        EntryKind::Char => b'3',
        EntryKind::Block => b'4',
        EntryKind::Dir => b'5',
        EntryKind::Fifo => b'6',
    }
}

/// The PAX records an entry needs.
fn records(entry: &Entry, size: u64) -> Vec<u8> {
    let mut all = Vec::new();
    if entry.path.len() > 100 {
        record(&mut all, b"path", &entry.path);
    }
    if entry.segments.is_some() {
        // Version 1.0 of GNU's form (tar's manual, "Storing Sparse Files"): the map stands before the data.
        record(&mut all, b"GNU.sparse.major", b"1");
        record(&mut all, b"GNU.sparse.minor", b"0");
        record(&mut all, b"GNU.sparse.name", &entry.path);
        record(&mut all, b"GNU.sparse.realsize", entry.size.to_string().as_bytes());
    }
    if entry.link.len() > 100 {
        record(&mut all, b"linkpath", &entry.link);
    }
    let mut number = |key: &[u8], value: u64, digits| {
        if !fits(value, digits) {
            record(&mut all, key, value.to_string().as_bytes());
        }
    };
    number(b"size", size, 11);
    number(b"uid", entry.uid.into(), 7);
    number(b"gid", entry.gid.into(), 7);
    if !u64::try_from(entry.mtime.0).is_ok_and(|t| fits(t, 11)) {
        record(&mut all, b"mtime", entry.mtime.0.to_string().as_bytes());
    }
    for (name, value) in &entry.xattrs {
        record(&mut all, &[b"SCHILY.xattr.", &name[..]].concat(), value);
    }
    all
}

/// `<length> <key>=<value>\n`, where the length counts its own digits.
fn record(all: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let body = key.len() + value.len() + 3;
    let mut length = body + 1;
    while length != body + length.to_string().len() {
        length = body + length.to_string().len();
    }
    all.extend_from_slice(length.to_string().as_bytes());
    all.push(b' ');
    all.extend_from_slice(key);
    all.push(b'=');
    all.extend_from_slice(value);
    all.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::super::Limits;
    use super::super::tarread::TarReader;
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let mut entries = vec![
            Entry { path: b"a".to_vec(), size: 5, mode: 0o4755, uid: 7, gid: 3_000_000, mtime: (-5, 0), ..empty() },
            Entry { path: vec![b'p'; 300], kind: EntryKind::Symlink, link: vec![b'l'; 101], ..empty() },
            Entry { path: b"n".to_vec(), kind: EntryKind::Block, device: (8, 300), ..empty() },
            Entry { path: b"d".to_vec(), kind: EntryKind::Dir, mtime: (1 << 34, 0), ..empty() },
        ];
        for len in 0..200 {
            let value = vec![b'\n'; len];
            entries.push(Entry { path: b"x".to_vec(), xattrs: vec![(b"user.x".to_vec(), value)], ..empty() });
        }
        let mut tar = TarWriter::new(Vec::new());
        for entry in &entries {
            tar.append(entry, &mut &b"12345"[..]).expect("append");
        }
        let bytes = tar.finish().expect("finish");
        let mut reader = TarReader::new(&bytes[..], &Limits::default());
        for entry in &entries {
            assert_eq!(reader.next_entry().expect("entry").as_ref(), Some(entry));
        }
        assert_eq!(reader.next_entry().expect("end"), None);
    }

    #[test]
    fn holes_are_read_back() {
        use super::super::sparse::Segment;
        let piece = |offset, len| Segment { offset, len };
        for segments in [vec![piece(0, 3), piece(4096, 2), piece(1 << 40, 0)], vec![piece(1 << 40, 0)]] {
            let path = b"folder/file".to_vec();
            let entry = Entry { path, size: 1 << 40, segments: Some(segments), ..empty() };
            let mut tar = TarWriter::new(Vec::new());
            tar.append(&entry, &mut &b"12345"[..]).expect("append");
            let bytes = tar.finish().expect("finish");
            let limits = Limits { bytes: u64::MAX, ..Limits::default() };
            let mut reader = TarReader::new(&bytes[..], &limits);
            assert_eq!(reader.next_entry().expect("entry").as_ref(), Some(&entry));
            assert_eq!(reader.next_entry().expect("end"), None);
        }
    }

    #[test]
    fn a_file_that_shrinks_is_an_error() {
        let entry = Entry { path: b"a".to_vec(), size: 9, ..empty() };
        assert!(TarWriter::new(Vec::new()).append(&entry, &mut &b"12345"[..]).is_err());
    }
}
