//! PAX extended headers (POSIX.1-2017 pax, "pax Extended Header"; GNU tar manual, "Storing Sparse Files").
//!
//! Used by `tarread`. Read strictly: a record that is not exactly as long as it says, a key given twice, or a number in any but its
//! plain form is an error, for two readers might disagree about it (CVE-2025-62518, RUSTSEC-2026-0068, -0112, -0145).

use super::number;
use super::sparse::{SEGMENTS_MAX, Segment};
use crate::error::{Error, Result};
use crate::sys::xattr::{self, Attribute};

/// What an extended header says about the next entry.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Pax {
    pub path: Option<Vec<u8>>,
    pub linkpath: Option<Vec<u8>>,
    pub size: Option<u64>,
    pub uid: Option<u64>,
    pub gid: Option<u64>,
    pub mtime: Option<(i64, u32)>,
    pub xattrs: Vec<Attribute>,
    pub sparse: PaxSparse,
}

/// GNU's description of a file with holes, versions 0.0, 0.1 and 1.0.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct PaxSparse {
    pub major: Option<u64>,
    pub minor: Option<u64>,
    pub name: Option<Vec<u8>>,
    pub realsize: Option<u64>,
    pub numblocks: Option<u64>,
    pub map: Option<Vec<Segment>>,
    /// 0.0: an offset whose length has not come yet.
    offset: Option<u64>,
}

impl PaxSparse {
    /// Anything was said.
    pub fn is_used(&self) -> bool {
        *self != Self::default()
    }
}

fn bad(what: impl std::fmt::Display) -> Error {
    Error::invalid(format!("Bad archive: {what} in an extended header"))
}

fn quoted(bytes: &[u8]) -> String {
    format!("{:?}", String::from_utf8_lossy(&bytes[..bytes.len().min(64)]))
}

/// Reads all records. `xattrs`: how many extended attributes are allowed.
pub fn parse(mut data: &[u8], xattrs: usize) -> Result<Pax> {
    let mut pax = Pax::default();
    while !data.is_empty() {
        let (key, value, rest) = record(data).ok_or_else(|| bad("a malformed record"))?;
        data = rest;
        pax.set(key, value, xattrs)?;
    }
    if pax.sparse.offset.is_some() {
        return Err(bad("a hole without length"));
    }
    Ok(pax)
}

/// `<length> <key>=<value>\n`; the length counts the whole record.
fn record(data: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let space = data.iter().take(20).position(|b| *b == b' ')?;
    let length = usize::try_from(number::decimal(&data[..space])?).ok()?;
    let (record, rest) = data.split_at_checked(length)?;
    let body = record.get(space + 1..)?.strip_suffix(b"\n")?;
    let equals = body.iter().position(|b| *b == b'=')?;
    match equals {
        0 => None,
        _ => Some((&body[..equals], &body[equals + 1..], rest)),
    }
}

/// Sets a value once.
fn once<T>(slot: &mut Option<T>, key: &[u8], value: Option<T>) -> Result<()> {
    let value = value.ok_or_else(|| bad(format!("a bad value of {}", quoted(key))))?;
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(bad(format!("{} twice", quoted(key)))),
    }
}

fn name(value: &[u8]) -> Option<Vec<u8>> {
    (!value.is_empty() && !value.contains(&0)).then(|| value.to_vec())
}

impl Pax {
    fn set(&mut self, key: &[u8], value: &[u8], xattrs: usize) -> Result<()> {
        let number = || number::decimal(value);
        let sparse = &mut self.sparse;
        match key {
            b"path" => once(&mut self.path, key, name(value)),
            b"linkpath" => once(&mut self.linkpath, key, name(value)),
            b"size" => once(&mut self.size, key, number()),
            b"uid" => once(&mut self.uid, key, number()),
            b"gid" => once(&mut self.gid, key, number()),
            b"mtime" => once(&mut self.mtime, key, number::time(value)),
            b"GNU.sparse.major" => once(&mut sparse.major, key, number()),
            b"GNU.sparse.minor" => once(&mut sparse.minor, key, number()),
            b"GNU.sparse.name" => once(&mut sparse.name, key, name(value)),
            b"GNU.sparse.realsize" | b"GNU.sparse.size" => once(&mut sparse.realsize, key, number()),
            b"GNU.sparse.numblocks" => once(&mut sparse.numblocks, key, number()),
            b"GNU.sparse.map" => once(&mut sparse.map, key, map(value)),
            b"GNU.sparse.offset" => once(&mut sparse.offset, key, number()),
            b"GNU.sparse.numbytes" => {
                let offset = sparse.offset.take();
                let segment = offset.zip(number()).map(|(offset, len)| Segment { offset, len });
                let segments = sparse.map.get_or_insert_default();
                segments.push(segment.ok_or_else(|| bad("a bad hole"))?);
                if segments.len() > SEGMENTS_MAX { Err(bad("too many holes")) } else { Ok(()) }
            }
            _ => self.set_other(key, value, xattrs),
        }
    }

    fn set_other(&mut self, key: &[u8], value: &[u8], xattrs: usize) -> Result<()> {
        let forbidden: [&[u8]; 4] = [b"GNU.sparse.", b"GNU.volume.", b"GNU.dumpdir", b"SCHILY.realsize"];
        if forbidden.iter().any(|f| key.starts_with(f)) {
            return Err(bad(format!("the unsupported key {}", quoted(key))));
        }
        // Others (comment, atime, uname, vendors' own) are ignored, as POSIX says.
        let Some(name) = key.strip_prefix(b"SCHILY.xattr.") else { return Ok(()) };
        let fits = !name.is_empty() && name.len() <= xattr::NAME_MAX && value.len() <= xattr::VALUE_MAX;
        if !fits || name.contains(&0) || self.xattrs.len() >= xattrs {
            return Err(bad(format!("a bad extended attribute {}", quoted(name))));
        }
        if self.xattrs.iter().any(|(known, _)| known == name) {
            return Err(bad(format!("{} twice", quoted(key))));
        }
        self.xattrs.push((name.to_vec(), value.to_vec()));
        Ok(())
    }

    /// A global header may only say what does not change what an archive holds.
    pub fn check_global(&self) -> Result<()> {
        let touches = self.path.is_some() || self.linkpath.is_some() || self.size.is_some();
        match touches || !self.xattrs.is_empty() || self.sparse.is_used() {
            true => Err(Error::invalid("Bad archive: a global header names, sizes or marks entries")),
            false => Ok(()),
        }
    }
}

/// Version 0.1: `offset,length,offset,length…`.
fn map(value: &[u8]) -> Option<Vec<Segment>> {
    let mut segments = Vec::new();
    let mut numbers = value.split(|b| *b == b',').map(number::decimal);
    if value.is_empty() {
        return Some(segments);
    }
    while let Some(offset) = numbers.next() {
        segments.push(Segment { offset: offset?, len: numbers.next()?? });
        if segments.len() > SEGMENTS_MAX {
            return None;
        }
    }
    Some(segments)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_with_any_bytes_in_values() {
        let data = b"12 path=a\nb\n29 SCHILY.xattr.user.x=\x00\n\xff=1\n";
        let pax = parse(data, 5).expect("good");
        assert_eq!(pax.path.as_deref(), Some(&b"a\nb"[..]));
        assert_eq!(pax.xattrs, [(b"user.x".to_vec(), b"\0\n\xff=1".to_vec())]);
    }

    #[test]
    fn cve_2025_62518_malformed_or_double_records_are_refused() {
        for bad in [
            &b"8 size=5\n"[..],
            b"11 size=5\n",
            b"+9 size=5\n",
            b"011 size=5\n",
            b"11 size=05\n",
            b"9 size=-\n",
            b"10 size=5\n10 size=6\n",
            b"10 size=5\n\0\0",
            b"9 size=\n\n",
            b"7 path\n",
            b"6 =abc\n",
            b"99999999999999999999 a=b\n",
            b"11 path=a\0b\n",
            b"8 path=\n",
            b"26 GNU.sparse.offset=512\n\n",
            b"25 GNU.sparse.numbytes=5\n",
            b"25 SCHILY.realsize=12345\n",
        ] {
            assert!(parse(bad, 5).is_err(), "{:?}", String::from_utf8_lossy(bad));
        }
    }

    #[test]
    fn attributes_are_counted() {
        let one = b"26 SCHILY.xattr.user.aa=1\n".to_vec();
        let two = b"26 SCHILY.xattr.user.bb=1\n".to_vec();
        let both = [one.clone(), two].concat();
        assert_eq!(parse(&both, 2).expect("good").xattrs.len(), 2);
        assert!(parse(&both, 1).is_err());
        assert!(parse(&[one.clone(), one].concat(), 9).is_err());
    }

    #[test]
    fn global_headers_may_comment_only() {
        assert!(parse(b"13 comment=x\n", 0).expect("good").check_global().is_ok());
        assert!(parse(b"10 size=5\n", 0).expect("good").check_global().is_err());
    }
}
