//! A layer over others (image-spec 1.1, "Applying changesets"): whiteouts, and what changes in a tree that is there already.
//!
//! - `.wh.x` removes `x` of the layers below, `.wh..wh..opq` everything of theirs in its folder; what the layer itself brings stays,
//!   wherever in the archive it stands;
//! - anything takes the place of anything, a folder's contents go with it; a folder over a folder keeps the contents and gets the
//!   owner, mode, attributes and time of the new entry;
//! - a folder that the layer only writes into keeps its time.

use super::{Unpacker, bytes_path, errno, may_unpack, split};
use crate::error::{Context, Error, Result};
use crate::image::tarread::printable;
use crate::sys::path::{self, Kind, Links};
use crate::sys::xattr::{self, Attribute};
use rustix::fs::{AtFlags, OFlags};
use std::collections::hash_map::RandomState;
use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::hash::BuildHasher;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

const WHITEOUT: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";
/// Others of that beginning are aufs's own and mean nothing.
const AUFS: &[u8] = b".wh..wh.";
/// Memory counted for a remembered path, bytes.
const PATH_COST: usize = 16;

/// What has to be known of a layer while it is written.
#[derive(Default)]
pub(super) struct Layer {
    /// Hashes, under a key of our own, of the paths that the layer brings and of the folders they are in.
    upper: HashSet<u64>,
    key: RandomState,
    /// Folders written into: device, inode, time before.
    touched: HashMap<Vec<u8>, (u64, u64, (i64, u32))>,
}

impl Unpacker {
    /// Unpacks a layer over what is there.
    #[must_use]
    pub fn over_others(mut self) -> Self {
        self.layer = Some(Layer::default());
        self
    }

    fn hash(&self, path: &[u8]) -> u64 {
        self.layer.as_ref().map_or(0, |layer| layer.key.hash_one(path))
    }

    fn count(&mut self, cost: usize) -> Result<()> {
        self.memory += cost;
        match self.memory > self.options.limits.memory {
            true => Err(Error::invalid("The layer has too many files")),
            false => Ok(()),
        }
    }

    /// `true`: the entry is a whiteout, and done. Else its path is remembered.
    pub(super) fn layered(&mut self, path: &[u8]) -> Result<bool> {
        let (folder, name) = split(path);
        let name = name.as_bytes();
        if let Some(hidden) = name.strip_prefix(WHITEOUT) {
            match () {
                () if name == OPAQUE => self.hide_below(folder)?,
                () if name.starts_with(AUFS) => {}
                () if matches!(hidden, b"" | b"." | b"..") => {
                    return Err(Error::invalid(format!("Bad layer: {} hides nothing", printable(path))));
                }
                () => self.hide(folder, OsStr::from_bytes(hidden))?,
            }
            return Ok(true);
        }
        let mut rest = path;
        while !rest.is_empty() {
            let hash = self.hash(rest);
            let Some(layer) = &mut self.layer else { break };
            // Its folders are there with it.
            if !layer.upper.insert(hash) {
                break;
            }
            self.count(PATH_COST)?;
            rest = split(rest).0;
        }
        Ok(false)
    }

    /// A folder of the layers below; none if there is no such one.
    fn below(&mut self, folder: &[u8]) -> Result<Option<OwnedFd>> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        match path::open(self.root.as_fd(), bytes_path(folder), flags, 0, self.options.links) {
            Err(e) if matches!(e.errno(), Some(libc::ENOENT | libc::ENOTDIR)) => Ok(None),
            Err(e) => Err(e),
            Ok(dir) => {
                self.touch(folder, &dir)?;
                Ok(Some(dir))
            }
        }
    }

    fn hide(&mut self, folder: &[u8], name: &OsStr) -> Result<()> {
        let Some(dir) = self.below(folder)? else { return Ok(()) };
        let path = if folder.is_empty() { name.as_bytes().to_vec() } else { [folder, b"/", name.as_bytes()].concat() };
        self.hide_in(dir.as_fd(), name, &path)
    }

    fn hide_below(&mut self, folder: &[u8]) -> Result<()> {
        match self.below(folder)? {
            Some(dir) => self.hide_all(dir.as_fd(), folder),
            None => Ok(()),
        }
    }

    fn hide_all(&mut self, dir: BorrowedFd<'_>, folder: &[u8]) -> Result<()> {
        for child in path::read_dir(dir)? {
            let name = child.name.as_bytes();
            let path = if folder.is_empty() { name.to_vec() } else { [folder, b"/", name].concat() };
            self.hide_in(dir, &child.name, &path)?;
        }
        Ok(())
    }

    /// Removes `name` in `dir` unless the layer brings it; of a folder that it brings what it does not.
    fn hide_in(&mut self, dir: BorrowedFd<'_>, name: &OsStr, full: &[u8]) -> Result<()> {
        let there = match path::stat_in(dir, name) {
            Err(e) if e.errno() == Some(libc::ENOENT) => return Ok(()),
            other => other?,
        };
        let hash = self.hash(full);
        if !self.layer.as_ref().is_some_and(|layer| layer.upper.contains(&hash)) {
            remove(dir, name, there.kind)?;
            // Open parents may have been reached through it.
            self.parents.clear();
            return Ok(());
        }
        match there.kind {
            Kind::Dir => self.hide_all(path::open_dir(dir, Path::new(name), Links::Refuse)?.as_fd(), full),
            _ => Ok(()),
        }
    }

    /// Remembers the time of a folder that is about to be written into.
    pub(super) fn touch(&mut self, folder: &[u8], dir: &OwnedFd) -> Result<()> {
        let Some(layer) = &mut self.layer else { return Ok(()) };
        if layer.touched.contains_key(folder) {
            return Ok(());
        }
        let stat = path::fstat(dir.as_fd())?;
        layer.touched.insert(folder.to_vec(), (stat.dev, stat.ino, stat.mtime));
        self.count(folder.len() + 96)
    }

    /// [`Unpacker::touch`] for the nearest folder above one that is not there yet.
    pub(super) fn touch_nearest(&mut self, mut folder: &[u8]) -> Result<()> {
        while self.layer.is_some() && !folder.is_empty() {
            folder = split(folder).0;
            let flags = OFlags::PATH | OFlags::DIRECTORY;
            if let Ok(dir) = path::open(self.root.as_fd(), bytes_path(folder), flags, 0, self.options.links) {
                return self.touch(folder, &dir);
            }
        }
        Ok(())
    }

    /// Gives the folders that were written into their times back; those with an entry of their own get theirs after that.
    pub(super) fn restore_touched(&mut self) -> Result<()> {
        let Some(layer) = &mut self.layer else { return Ok(()) };
        for (folder, (dev, ino, mtime)) in std::mem::take(&mut layer.touched) {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY;
            let Ok(dir) = path::open(self.root.as_fd(), bytes_path(&folder), flags, 0, self.options.links) else {
                continue;
            };
            let now = path::fstat(dir.as_fd())?;
            if (now.dev, now.ino) == (dev, ino) {
                path::set_times(dir.as_fd(), mtime)?;
            }
        }
        Ok(())
    }
}

/// Removes whatever `name` is.
pub(super) fn remove(dir: BorrowedFd<'_>, name: &OsStr, kind: Kind) -> Result<()> {
    let flags = if kind == Kind::Dir { AtFlags::REMOVEDIR } else { AtFlags::empty() };
    if kind == Kind::Dir {
        path::remove_contents(path::open_dir(dir, Path::new(name), Links::Refuse)?.as_fd())?;
    }
    errno(rustix::fs::unlinkat(dir, name, flags)).context("unlinkat")?;
    Ok(())
}

/// Removes the attributes of a folder that its new entry does not have.
pub(super) fn forget_attributes(dir: BorrowedFd<'_>, kept: &[Attribute]) -> Result<()> {
    for (name, _) in xattr::list(dir)? {
        if may_unpack(&name) && !kept.iter().any(|(k, _)| *k == name) {
            xattr::remove(dir, &name)?;
        }
    }
    Ok(())
}
