//! How much a tree takes up.
//!
//! Called by the drivers for `info` and `storage volume info`. A file with several names counts once.

use super::chain::Chain;
use super::{entries, open_dir, reopen};
use crate::error::Result;
use rustix::fd::BorrowedFd;
use rustix::fs::{AtFlags, FileType};
use rustix::io::Errno;
use std::collections::HashSet;
use std::ffi::CString;

/// What a tree takes up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Bytes allocated on disk.
    pub bytes: u64,
    /// Inodes.
    pub inodes: u64,
}

/// Measures the tree below the folder `root`.
///
/// # Errors
/// A folder could not be read.
pub fn usage(root: BorrowedFd<'_>) -> Result<Usage> {
    let mut walk = Walk { chain: Chain::new(reopen(root)?)?, seen: HashSet::new(), total: Usage::default() };
    let stat = rustix::fs::fstat(root)?;
    walk.add(&stat);
    let mut stack = vec![walk.files()?];
    while let Some(folders) = stack.last_mut() {
        match folders.pop() {
            Some(name) => match open_dir(walk.chain.fd(), &name) {
                Ok(fd) => {
                    walk.add(&rustix::fs::fstat(&fd)?);
                    walk.chain.push(fd)?;
                    stack.push(walk.files()?);
                }
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::XDEV | Errno::ACCESS) => {}
                Err(e) => return Err(e.into()),
            },
            None => {
                stack.pop();
                walk.chain.pop()?;
            }
        }
    }
    Ok(walk.total)
}

struct Walk {
    chain: Chain,
    seen: HashSet<(u64, u64)>,
    total: Usage,
}

impl Walk {
    fn add(&mut self, stat: &rustix::fs::Stat) {
        self.total.bytes += u64::try_from(stat.st_blocks).unwrap_or(0) * 512;
        self.total.inodes += 1;
    }

    fn files(&mut self) -> Result<Vec<CString>> {
        let (mut folders, mut files) = (Vec::new(), Vec::new());
        entries(self.chain.fd(), |name, kind| match kind {
            FileType::Directory => folders.push(name),
            _ => files.push(name),
        })?;
        for name in files {
            let Ok(stat) = rustix::fs::statat(self.chain.fd(), &name, AtFlags::SYMLINK_NOFOLLOW) else { continue };
            if stat.st_nlink < 2 || self.seen.insert((stat.st_dev, stat.st_ino)) {
                self.add(&stat);
            }
        }
        Ok(folders)
    }
}
