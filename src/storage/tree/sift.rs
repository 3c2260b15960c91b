//! Looks through a tree that a stranger made whole.
//!
//! Called for volumes that a file system received by itself: what an archive of files could not have brought goes.

use super::chain::Chain;
use super::meta::remove_attributes;
use super::{entries, open_dir, reopen};
use crate::error::{Error, Result};
use crate::sys::xattr;
use rustix::fd::BorrowedFd;
use rustix::fs::FileType;
use std::ffi::CString;

/// Removes the attributes below the folder `root` that are not taken over from strangers, and counts what is there off `left`;
/// whether nothing had to go.
///
/// # Errors
/// Invalid: there is more; the calls' own.
pub fn sift(root: BorrowedFd<'_>, left: &mut u64) -> Result<bool> {
    let mut walk = Walk { chain: Chain::new(reopen(root)?)?, left, same: true };
    let mut stack = vec![walk.folder()?];
    while let Some(folders) = stack.last_mut() {
        match folders.pop() {
            Some(name) => {
                walk.chain.push(open_dir(walk.chain.fd(), &name)?)?;
                stack.push(walk.folder()?);
            }
            None => {
                stack.pop();
                walk.chain.pop()?;
            }
        }
    }
    Ok(walk.same)
}

struct Walk<'a> {
    chain: Chain,
    left: &'a mut u64,
    same: bool,
}

impl Walk<'_> {
    fn folder(&mut self) -> Result<Vec<CString>> {
        let (mut folders, mut all) = (Vec::new(), vec![c".".to_owned()]);
        entries(self.chain.fd(), |name, kind| match kind {
            FileType::Directory => folders.push(name),
            _ => all.push(name),
        })?;
        let many = || Error::invalid("The backup has too many files");
        *self.left = self.left.checked_sub(all.len() as u64).ok_or_else(many)?;
        for name in all {
            self.same &= remove_attributes(self.chain.fd(), &name, |name| !xattr::may_unpack(name))?;
        }
        Ok(folders)
    }
}
