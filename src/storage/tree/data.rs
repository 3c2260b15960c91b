//! A regular file's bytes: shared with the source where the file system can, holes kept, else copied inside the kernel.
//!
//! Used by the copy only.

use crate::error::Result;
use rustix::fd::BorrowedFd;
use rustix::fs::{SeekFrom, Stat};
use rustix::io::Errno;

/// How bytes travel; what turned out not to work between two file systems is not tried again.
#[derive(Debug)]
pub struct Mover {
    reflink: bool,
    in_kernel: bool,
    buffer: Vec<u8>,
    /// Files that share their blocks with the source.
    pub shared: u64,
}

impl Mover {
    /// A mover that tries everything.
    pub fn new() -> Self {
        Self { reflink: true, in_kernel: true, buffer: Vec::new(), shared: 0 }
    }

    /// Fills the empty file `to` with the content of `from`, described by `stat`.
    pub fn file(&mut self, from: BorrowedFd<'_>, to: BorrowedFd<'_>, stat: &Stat) -> Result<()> {
        let size = u64::try_from(stat.st_size).unwrap_or(0);
        if size == 0 {
            return Ok(());
        }
        if self.reflink {
            match rustix::fs::ioctl_ficlone(to, from) {
                Ok(()) => {
                    self.shared += 1;
                    return Ok(());
                }
                // This file only (inline data, differing flags, swap file).
                Err(Errno::INVAL | Errno::TXTBSY | Errno::PERM) => {}
                Err(Errno::OPNOTSUPP | Errno::XDEV | Errno::NOTTY | Errno::NOSYS) => self.reflink = false,
                Err(e) => return Err(e.into()),
            }
        }
        let blocks = u64::try_from(stat.st_blocks).unwrap_or(0);
        if blocks.saturating_mul(512) < size { self.sparse(from, to, size) } else { self.range(from, to, 0, size) }
    }

    /// Copies the parts that hold data, then sets the size.
    fn sparse(&mut self, from: BorrowedFd<'_>, to: BorrowedFd<'_>, size: u64) -> Result<()> {
        let mut at = 0;
        while at < size {
            let data = match rustix::fs::seek(from, SeekFrom::Data(at)) {
                Ok(data) => data,
                Err(Errno::NXIO) => break,
                Err(Errno::INVAL) => at,
                Err(e) => return Err(e.into()),
            };
            let end = match rustix::fs::seek(from, SeekFrom::Hole(data)) {
                Ok(hole) => hole.min(size),
                Err(Errno::NXIO | Errno::INVAL) => size,
                Err(e) => return Err(e.into()),
            };
            if data >= end {
                break;
            }
            self.range(from, to, data, end)?;
            at = end;
        }
        rustix::fs::ftruncate(to, size)?;
        Ok(())
    }

    /// Copies the bytes from `at` up to `end`; a source that became shorter ends it early.
    fn range(&mut self, from: BorrowedFd<'_>, to: BorrowedFd<'_>, at: u64, end: u64) -> Result<()> {
        let (mut read, mut write) = (at, at);
        while self.in_kernel && read < end {
            let want = usize::try_from(end - read).unwrap_or(usize::MAX).min(1 << 30);
            match rustix::fs::copy_file_range(from, Some(&mut read), to, Some(&mut write), want) {
                Ok(0) => return Ok(()),
                Ok(_) | Err(Errno::INTR) => {}
                Err(Errno::XDEV | Errno::INVAL | Errno::OPNOTSUPP | Errno::NOSYS | Errno::PERM) => {
                    self.in_kernel = false;
                }
                Err(e) => return Err(e.into()),
            }
        }
        self.buffer.resize(128 << 10, 0);
        while read < end {
            let want = usize::try_from(end - read).unwrap_or(usize::MAX).min(self.buffer.len());
            let got = match rustix::io::pread(from, &mut self.buffer[..want], read) {
                Ok(0) => return Ok(()),
                Ok(got) => got,
                Err(Errno::INTR) => continue,
                Err(e) => return Err(e.into()),
            };
            let mut done = 0;
            while done < got {
                match rustix::io::pwrite(to, &self.buffer[done..got], read + done as u64) {
                    Ok(n) => done += n,
                    Err(Errno::INTR) => {}
                    Err(e) => return Err(e.into()),
                }
            }
            read += got as u64;
        }
        Ok(())
    }
}
