//! A faithful copy of a tree: kinds, owners, modes, times, extended attributes, access lists, file capabilities, hard
//! links, devices, holes. With another id map the owners change on the way (see [`Ids`]).
//!
//! Called by the drivers. The target is a fresh folder of ours that nobody else sees; the source may belong to a running
//! guest: what it swaps under us can give a strange copy, never a way out of the tree.

use super::chain::Chain;
use super::data::Mover;
use super::desk::Desk;
use super::ids::Ids;
use super::meta::{copy_named, copy_open, owner_of, shown};
use super::{entries, open_dir, reopen};
use crate::error::{Context, Error, Result};
use crate::sys::path;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;
use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::{CStr, CString};
use std::sync::{Mutex, PoisonError};

/// What a copy came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stats {
    /// Files and folders made.
    pub entries: u64,
    /// Files that share their blocks with the source.
    pub shared: u64,
    /// Extended attributes the target could not take.
    pub attributes_dropped: u64,
}

/// Names at which others are asked to help: what has fewer is done before they are there.
const WORTH_HELP: usize = 32;

/// How many copy one tree, at most.
const THREADS: usize = 4;

/// Copies the content and the attributes of the folder `from` into the empty folder `to`, both readable descriptors.
/// Names in `skip` directly below the root are left out. Several threads share a tree that is not small.
///
/// # Errors
/// Whatever reading or writing met, with the path inside the tree.
pub fn copy_tree(from: BorrowedFd<'_>, to: BorrowedFd<'_>, ids: &Ids, skip: &[&CStr]) -> Result<Stats> {
    let shared = Shared { ids, root: to, links: Mutex::default(), desk: Desk::new() };
    let all = Folder { from: reopen(from)?, to: reopen(to)?, path: Vec::new() };
    std::thread::scope(|scope| {
        let (shared, helpers) = (&shared, RefCell::new(Vec::new()));
        let call = || {
            let threads = std::thread::available_parallelism().map_or(1, |n| n.get().min(THREADS));
            for _ in 1..threads {
                shared.desk.joins(true);
                let thread = std::thread::Builder::new().name("copy".into());
                match thread.spawn_scoped(scope, || shared.help(Stats::default())) {
                    Ok(helper) => helpers.borrow_mut().push(helper),
                    // It is done with fewer.
                    Err(_) => shared.desk.joins(false),
                }
            }
        };
        let own = shared.copy(all, skip, Some(&call)).and_then(|stats| shared.help(stats));
        let ends = helpers.take().into_iter().map(|helper| helper.join().expect("it does not panic"));
        ends.fold(own, |sum, stats| Ok(sum?.and(stats?)))
    })
}

/// What all who copy one tree have in common.
struct Shared<'a> {
    ids: &'a Ids,
    /// The root of the target.
    root: BorrowedFd<'a>,
    /// First name of each file that has several.
    links: Mutex<HashMap<(u64, u64), CString>>,
    desk: Desk<Folder>,
}

/// A folder to be copied with all below it; the target has been made.
#[derive(Debug)]
struct Folder {
    from: OwnedFd,
    to: OwnedFd,
    /// Relative to the root.
    path: Vec<u8>,
}

impl Shared<'_> {
    /// Copies what others hand over until all is done; what was done before is counted in.
    fn help(&self, mut stats: Stats) -> Result<Stats> {
        while let Some(folder) = self.desk.take() {
            stats = stats.and(self.copy(folder, &[], None)?);
        }
        Ok(stats)
    }

    /// Copies a folder; all stop if that fails.
    fn copy(&self, folder: Folder, skip: &[&CStr], call: Option<&dyn Fn()>) -> Result<Stats> {
        let done = Copy::new(self, folder, call).and_then(|mut copy| {
            let result = copy.run(skip);
            result.with_context(|| format!("Failed copying \"{}\"", shown(&copy.path)))?;
            copy.stats.shared = copy.mover.shared;
            Ok(copy.stats)
        });
        if done.is_err() {
            self.desk.close();
        }
        done
    }
}

impl Stats {
    fn and(self, other: Self) -> Self {
        Self {
            entries: self.entries + other.entries,
            shared: self.shared + other.shared,
            attributes_dropped: self.attributes_dropped + other.attributes_dropped,
        }
    }
}

struct Copy<'a> {
    tree: &'a Shared<'a>,
    from: Chain,
    to: Chain,
    /// Where we are, relative to the root; for messages and hard links.
    path: Vec<u8>,
    /// Whom new files in the present folder of the target belong to, once one was made.
    made: Option<(u32, u32)>,
    /// Calls the others, once there is enough to do.
    call: Option<&'a dyn Fn()>,
    /// Names seen.
    seen: usize,
    mover: Mover,
    stats: Stats,
}

/// A folder whose files are copied and whose folders are still to do.
struct Pending {
    folders: Vec<CString>,
    /// Length of the path of its parent.
    parent: usize,
}

impl<'a> Copy<'a> {
    fn new(tree: &'a Shared<'a>, folder: Folder, call: Option<&'a dyn Fn()>) -> Result<Self> {
        let Folder { from, to, path } = folder;
        let (from, to) = (Chain::new(from)?, Chain::new(to)?);
        Ok(Self { tree, from, to, path, made: None, call, seen: 0, mover: Mover::new(), stats: Stats::default() })
    }

    fn run(&mut self, skip: &[&CStr]) -> Result<()> {
        let mut stack = vec![Pending { folders: self.files(skip)?, parent: self.path.len() }];
        while let Some(top) = stack.last_mut() {
            if self.tree.desk.is_closed() {
                return Ok(());
            }
            match top.folders.pop() {
                Some(name) => {
                    let parent = self.path.len();
                    self.step(&name);
                    if self.enter(&name)? {
                        stack.push(Pending { folders: self.files(&[])?, parent });
                    } else {
                        self.path.truncate(parent);
                    }
                }
                None => {
                    // Last, because filling a folder changes its times and a closed mode would be in the way.
                    let stat = rustix::fs::fstat(self.from.fd())?;
                    self.stats.attributes_dropped += copy_open(self.from.fd(), &stat, self.to.fd(), self.tree.ids)?;
                    self.path.truncate(top.parent);
                    stack.pop();
                    if !stack.is_empty() {
                        self.from.pop()?;
                        self.to.pop()?;
                    }
                }
            }
        }
        Ok(())
    }

    fn step(&mut self, name: &CStr) {
        if !self.path.is_empty() {
            self.path.push(b'/');
        }
        self.path.extend_from_slice(name.to_bytes());
    }

    /// Makes the folder `name` and goes in. False if there is nothing to do in it: it is gone, is a mount point (which stays
    /// empty in the copy), or another one copies it.
    fn enter(&mut self, name: &CStr) -> Result<bool> {
        let source = match open_dir(self.from.fd(), name) {
            Ok(fd) => Some(fd),
            Err(Errno::NOENT | Errno::LOOP | Errno::NOTDIR) => return Ok(false),
            Err(Errno::XDEV) => None,
            Err(e) => return Err(e.into()),
        };
        rustix::fs::mkdirat(self.to.fd(), name, Mode::RWXU)?;
        self.stats.entries += 1;
        let Some(source) = source else { return Ok(false) };
        let target = open_dir(self.to.fd(), name)?;
        match self.tree.desk.offer(Folder { from: source, to: target, path: self.path.clone() }) {
            Some(Folder { from, to, .. }) => {
                self.from.push(from)?;
                self.to.push(to)?;
                Ok(true)
            }
            None => Ok(false),
        }
    }

    /// Copies everything but folders in the present folder; returns the folders.
    fn files(&mut self, skip: &[&CStr]) -> Result<Vec<CString>> {
        let (mut folders, mut files) = (Vec::new(), Vec::new());
        entries(self.from.fd(), |name, kind| {
            if skip.contains(&name.as_c_str()) {
                return;
            }
            match kind {
                FileType::Directory => folders.push(name),
                _ => files.push((name, kind)),
            }
        })?;
        self.seen += folders.len() + files.len();
        if self.seen >= WORTH_HELP
            && let Some(call) = self.call.take()
        {
            call();
        }
        self.made = None;
        let here = self.path.len();
        for (name, kind) in files {
            self.step(&name);
            match kind {
                FileType::RegularFile => self.regular(&name)?,
                _ => self.special(&name)?,
            }
            self.path.truncate(here);
        }
        Ok(folders)
    }

    fn regular(&mut self, name: &CStr) -> Result<()> {
        // Looked at before it is opened: something that runs may have put a device or a FIFO in its place, and opening one of
        // these can do something by itself.
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let pin = match rustix::fs::openat(self.from.fd(), name, flags, Mode::empty()) {
            Ok(fd) => fd,
            Err(Errno::NOENT) => return Ok(()),
            Err(e) => return Err(e.into()),
        };
        let stat = rustix::fs::fstat(&pin)?;
        if !FileType::from_raw_mode(stat.st_mode).is_file() {
            return self.special(name);
        }
        let Some(target) = self.once(name, &stat, |to| create(to, name, &stat))? else { return Ok(()) };
        let source = path::reopen(pin.as_fd(), OFlags::RDONLY | OFlags::NONBLOCK)?;
        self.mover.file(source.as_fd(), target.as_fd(), &stat)?;
        self.stats.attributes_dropped += copy_open(source.as_fd(), &stat, target.as_fd(), self.tree.ids)?;
        Ok(())
    }

    /// Symbolic links, devices, FIFOs and sockets.
    fn special(&mut self, name: &CStr) -> Result<()> {
        let stat = match rustix::fs::statat(self.from.fd(), name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(Errno::NOENT) => return Ok(()),
            Err(e) => return Err(e.into()),
        };
        let kind = FileType::from_raw_mode(stat.st_mode);
        let link = match kind {
            FileType::Symlink => match rustix::fs::readlinkat(self.from.fd(), name, Vec::new()) {
                Ok(target) => Some(target),
                Err(Errno::NOENT | Errno::INVAL) => return Ok(()),
                Err(e) => return Err(e.into()),
            },
            FileType::Fifo | FileType::Socket | FileType::CharacterDevice | FileType::BlockDevice => None,
            // Swapped for something else since the folder was read.
            _ => return Ok(()),
        };
        let make = |to: BorrowedFd<'_>| match &link {
            Some(target) => rustix::fs::symlinkat(target, to, name),
            None => rustix::fs::mknodat(to, name, kind, Mode::RUSR, stat.st_rdev),
        };
        if self.once(name, &stat, |to| make(to).map_err(Error::from))?.is_some() {
            let (from, to) = (self.from.fd(), self.to.fd());
            let made = match self.made {
                Some(made) => made,
                None => owner_of(&rustix::fs::statat(to, name, AtFlags::SYMLINK_NOFOLLOW)?),
            };
            self.stats.attributes_dropped += copy_named(from, to, name, &stat, made, self.tree.ids)?;
            self.made = Some(made);
        }
        Ok(())
    }

    /// Makes the file `name` by `make`, or a further name of it if it is there already, which gives None.
    fn once<T>(
        &mut self,
        name: &CStr,
        stat: &Stat,
        make: impl FnOnce(BorrowedFd<'_>) -> Result<T>,
    ) -> Result<Option<T>> {
        self.stats.entries += 1;
        if stat.st_nlink < 2 {
            return make(self.to.fd()).map(Some);
        }
        // Held until it is made: another one may be at another name of it.
        let mut links = self.tree.links.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(first) = links.get(&(stat.st_dev, stat.st_ino)) {
            match rustix::fs::linkat(self.tree.root, first, self.to.fd(), name, AtFlags::empty()) {
                Ok(()) => return Ok(None),
                // Too deep for one path, or too many names for the target's file system: a copy of its own.
                Err(Errno::NAMETOOLONG | Errno::MLINK) => {}
                Err(e) => return Err(e.into()),
            }
        }
        let made = make(self.to.fd())?;
        let path = CString::new(self.path.clone()).expect("made of names without NUL");
        links.insert((stat.st_dev, stat.st_ino), path);
        Ok(Some(made))
    }
}

/// The file with the mode it will have, but for what a change of owner would take.
fn create(dir: BorrowedFd<'_>, name: &CStr, stat: &Stat) -> Result<OwnedFd> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(dir, name, flags, Mode::from_raw_mode(stat.st_mode & 0o777)).map_err(Error::from)
}

#[cfg(test)]
#[path = "copy_tests.rs"]
mod tests;
