//! Fingerprints, and the reader that hashes and stores what passes through it.
//!
//! Used by `import` and `bootstrap`. What is unpacked is exactly what was hashed and stored: the source is read once
//! (CVE-2025-47290, CVE-2026-33542). A fingerprint is checked by form before it is ever part of a path.

use crate::error::{Context, Error, Result};
use crate::sys::writeback;
use sha2::digest::Update;
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// SHA-256 of an image's files, 64 lower-case hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fingerprint(String);

impl Fingerprint {
    /// Checks the form `^[0-9a-f]{64}$`.
    ///
    /// # Errors
    /// Anything else.
    pub fn parse(text: &str) -> Result<Self> {
        let good = text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        match good {
            true => Ok(Self(text.to_string())),
            false => Err(Error::invalid(format!("Bad image fingerprint {text:?}"))),
        }
    }

    pub(super) fn of(hasher: Sha256) -> Self {
        use std::fmt::Write;
        let mut text = String::with_capacity(64);
        for byte in hasher.finalize() {
            let _ = write!(text, "{byte:02x}");
        }
        Self(text)
    }

    /// The digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// Opens a file of ours for writing from its start, mode 0600, not through a link.
///
/// # Errors
/// Those of open(2).
pub fn create_blob(path: &Path) -> Result<File> {
    std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW)
        .open(path)
        .with_context(|| format!("Failed creating \"{}\"", path.display()))
}

/// Reads `source`; each byte goes into the hash and, if given, into the file.
pub struct Tee<R, H = Sha256> {
    source: R,
    hasher: H,
    copy: Option<File>,
    /// Bytes of the copy that there are, and that are on their way to the disk.
    copied: u64,
    begun: u64,
    count: Arc<AtomicU64>,
}

/// What is copied goes out to the disk in such pieces, bytes.
const PIECE: u64 = 8 << 20;

impl<R: Read, H: Update> Tee<R, H> {
    /// `hasher` may have begun with an earlier file. `count` is advanced by what is read.
    pub fn new(source: R, hasher: H, copy: Option<File>, count: Arc<AtomicU64>) -> Self {
        Self { source, hasher, copy, copied: 0, begun: 0, count }
    }

    /// Gives the hash back. The copy is not synced.
    pub fn finish(self) -> H {
        self.hasher
    }
}

impl<R: Read, H: Update> Read for Tee<R, H> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.source.read(buffer)?;
        Update::update(&mut self.hasher, &buffer[..n]);
        if let Some(file) = &mut self.copy {
            file.write_all(&buffer[..n])?;
            self.copied += n as u64;
            if self.copied - self.begun >= PIECE {
                writeback::begin(file.as_fd(), self.begun, self.copied - self.begun);
                self.begun = self.copied;
            }
        }
        self.count.fetch_add(n as u64, Ordering::Relaxed);
        Ok(n)
    }
}

/// Writes into a file and a hash.
pub struct HashingFile {
    /// The file.
    pub file: File,
    /// Of what was written, and of what it began with.
    pub hasher: Sha256,
    /// Bytes in the hash.
    pub count: u64,
}

impl HashingFile {
    /// Begins with nothing.
    pub fn new(file: File) -> Self {
        Self { file, hasher: Sha256::new(), count: 0 }
    }
}

impl Write for HashingFile {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let n = self.file.write(data)?;
        Update::update(&mut self.hasher, &data[..n]);
        self.count += n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cve_2026_48769_fingerprints_by_form() {
        let good = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(Fingerprint::parse(good).expect("good").as_str(), good);
        assert_eq!(Fingerprint::of(Sha256::new()).as_str(), good);
        let up = good.to_uppercase();
        let path = format!("../../{}", &good[6..]);
        for bad in ["", "e3b0", &up, &path, &format!("{good}0"), &format!("{}\n", &good[1..])] {
            assert!(Fingerprint::parse(bad).is_err(), "{bad:?}");
        }
    }
}
