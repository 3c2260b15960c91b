//! Changes the owners in a whole tree in place.
//!
//! Called by drivers on a copy that nobody else sees and that is thrown away unless all of it was done: a file that was shifted
//! cannot be told from one that was not.

use super::chain::Chain;
use super::ids::Ids;
use super::meta::{shift_named, shown};
use super::{entries, open_dir, reopen};
use crate::error::{Context, Result};
use rustix::fd::BorrowedFd;
use rustix::fs::{AtFlags, FileType};
use std::collections::HashSet;
use std::ffi::{CStr, CString};

/// Changes the owners of the folder `root` and of all below it, and the ids in their attributes.
///
/// # Errors
/// Whatever was met, with the name of what it was.
pub fn shift_tree(root: BorrowedFd<'_>, ids: &Ids) -> Result<()> {
    let mut walk = Walk { chain: Chain::new(reopen(root)?)?, ids, seen: HashSet::new() };
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
    Ok(())
}

struct Walk<'a> {
    chain: Chain,
    ids: &'a Ids,
    /// Files with several names that are done.
    seen: HashSet<u64>,
}

impl Walk<'_> {
    /// Does the present folder and the files in it; returns the folders.
    fn folder(&mut self) -> Result<Vec<CString>> {
        let (mut folders, mut files) = (Vec::new(), Vec::new());
        entries(self.chain.fd(), |name, kind| match kind {
            FileType::Directory => folders.push(name),
            _ => files.push(name),
        })?;
        self.one(c".")?;
        files.iter().try_for_each(|name| self.one(name))?;
        Ok(folders)
    }

    fn one(&mut self, name: &CStr) -> Result<()> {
        let stat = rustix::fs::statat(self.chain.fd(), name, AtFlags::SYMLINK_NOFOLLOW)?;
        let folder = FileType::from_raw_mode(stat.st_mode).is_dir();
        if !folder && stat.st_nlink > 1 && !self.seen.insert(stat.st_ino) {
            return Ok(());
        }
        shift_named(self.chain.fd(), name, &stat, self.ids)
            .with_context(|| format!("Failed changing the owner of \"{}\"", shown(name.to_bytes())))
    }
}
