//! A faithful copy of a tree: kinds, owners, modes, times, extended attributes, access lists, file capabilities, hard
//! links, devices, holes. With another id map the owners change on the way (see [`Ids`]).
//!
//! Called by the drivers. The target is a fresh folder of ours that nobody else sees; the source may belong to a running
//! guest: what it swaps under us can give a strange copy, never a way out of the tree.

use super::chain::Chain;
use super::data::Mover;
use super::ids::Ids;
use super::meta::{copy_named, copy_open, shown};
use super::{entries, open_dir, reopen};
use crate::error::{Context, Error, Result};
use crate::sys::path;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;
use std::collections::HashMap;
use std::ffi::{CStr, CString};

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

/// Copies the content and the attributes of the folder `from` into the empty folder `to`, both readable descriptors.
/// Names in `skip` directly below the root are left out.
///
/// # Errors
/// Whatever reading or writing met, with the path inside the tree.
pub fn copy_tree(from: BorrowedFd<'_>, to: BorrowedFd<'_>, ids: &Ids, skip: &[&CStr]) -> Result<Stats> {
    let mut copy = Copy {
        ids,
        from: Chain::new(reopen(from)?)?,
        to: Chain::new(reopen(to)?)?,
        path: Vec::new(),
        links: HashMap::new(),
        mover: Mover::new(),
        stats: Stats::default(),
    };
    let result = copy.run(skip);
    result.with_context(|| format!("Failed copying \"{}\"", shown(&copy.path)))?;
    copy.stats.shared = copy.mover.shared;
    Ok(copy.stats)
}

struct Copy<'a> {
    ids: &'a Ids,
    from: Chain,
    to: Chain,
    /// Where we are, relative to the root; for messages and hard links.
    path: Vec<u8>,
    /// First name of each file that has several.
    links: HashMap<(u64, u64), CString>,
    mover: Mover,
    stats: Stats,
}

/// A folder whose files are copied and whose folders are still to do.
struct Pending {
    folders: Vec<CString>,
    /// Length of the path of its parent.
    parent: usize,
}

impl Copy<'_> {
    fn run(&mut self, skip: &[&CStr]) -> Result<()> {
        let mut stack = vec![Pending { folders: self.files(skip)?, parent: 0 }];
        while let Some(top) = stack.last_mut() {
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
                    self.stats.attributes_dropped += copy_open(self.from.fd(), &stat, self.to.fd(), self.ids)?;
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

    /// Makes the folder `name` and goes in. False if it is gone or is a mount point (which stays empty in the copy).
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
        self.from.push(source)?;
        self.to.push(target)?;
        Ok(true)
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
        if self.linked(name, &stat)? {
            return Ok(());
        }
        let source = path::reopen(pin.as_fd(), OFlags::RDONLY | OFlags::NONBLOCK)?;
        let target = create(self.to.fd(), name)?;
        self.mover.file(source.as_fd(), target.as_fd(), &stat)?;
        self.stats.attributes_dropped += copy_open(source.as_fd(), &stat, target.as_fd(), self.ids)?;
        self.stats.entries += 1;
        self.remember(&stat);
        Ok(())
    }

    /// Symbolic links, devices, FIFOs and sockets.
    fn special(&mut self, name: &CStr) -> Result<()> {
        let stat = match rustix::fs::statat(self.from.fd(), name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(Errno::NOENT) => return Ok(()),
            Err(e) => return Err(e.into()),
        };
        if self.linked(name, &stat)? {
            return Ok(());
        }
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Symlink => {
                let target = match rustix::fs::readlinkat(self.from.fd(), name, Vec::new()) {
                    Ok(target) => target,
                    Err(Errno::NOENT | Errno::INVAL) => return Ok(()),
                    Err(e) => return Err(e.into()),
                };
                rustix::fs::symlinkat(target, self.to.fd(), name)?;
            }
            kind @ (FileType::Fifo | FileType::Socket | FileType::CharacterDevice | FileType::BlockDevice) => {
                rustix::fs::mknodat(self.to.fd(), name, kind, Mode::RUSR, stat.st_rdev)?;
            }
            // Swapped for something else since the folder was read.
            _ => return Ok(()),
        }
        self.stats.attributes_dropped += copy_named(self.from.fd(), self.to.fd(), name, &stat, self.ids)?;
        self.stats.entries += 1;
        self.remember(&stat);
        Ok(())
    }

    /// Makes `name` a further name of a file copied already. False if it is the first one.
    fn linked(&mut self, name: &CStr, stat: &Stat) -> Result<bool> {
        if stat.st_nlink < 2 {
            return Ok(false);
        }
        let Some(first) = self.links.get(&(stat.st_dev, stat.st_ino)) else { return Ok(false) };
        match rustix::fs::linkat(self.to.root(), first, self.to.fd(), name, AtFlags::empty()) {
            Ok(()) => {
                self.stats.entries += 1;
                Ok(true)
            }
            // Too deep for one path, or too many names for the target's file system: a copy of its own.
            Err(Errno::NAMETOOLONG | Errno::MLINK) => Ok(false),
            Err(e) => Err(e.into()),
        }
    }

    fn remember(&mut self, stat: &Stat) {
        if stat.st_nlink > 1 {
            let path = CString::new(self.path.clone()).expect("made of names without NUL");
            self.links.insert((stat.st_dev, stat.st_ino), path);
        }
    }
}

fn create(dir: BorrowedFd<'_>, name: &CStr) -> Result<OwnedFd> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(dir, name, flags, Mode::RUSR | Mode::WUSR).map_err(Error::from)
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
    use std::fs::File;
    use std::os::unix::fs::{FileTypeExt, symlink};

    /// What takes a file's place after the folder was read is copied as what it is, and never opened.
    #[test]
    fn nothing_but_files_is_opened() {
        let dir = tempfile::tempdir().expect("dir");
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        for made in [&from, &to, &from.join("folder")] {
            std::fs::create_dir(made).expect("mkdir");
        }
        std::fs::write(from.join("file"), "data").expect("write");
        std::fs::set_permissions(from.join("file"), std::os::unix::fs::PermissionsExt::from_mode(0o600)).expect("mode");
        symlink("file", from.join("link")).expect("link");
        let socket = std::os::unix::net::UnixListener::bind(from.join("socket")).expect("socket");
        let [source, target] = [&from, &to].map(|path| OwnedFd::from(File::open(path).expect("open")));
        let make = |name, kind, device| rustix::fs::mknodat(&source, name, kind, Mode::RUSR, device);
        make("fifo", FileType::Fifo, 0).expect("fifo");
        // Not for everybody.
        let device = make("device", FileType::CharacterDevice, rustix::fs::makedev(1, 3)).is_ok();
        let watch = Inotify::init(InitFlags::IN_NONBLOCK).expect("inotify");
        watch.add_watch(&from, AddWatchFlags::IN_OPEN).expect("watch");
        let mut copy = Copy {
            ids: &Ids::none(),
            from: Chain::new(source).expect("chain"),
            to: Chain::new(target).expect("chain"),
            path: Vec::new(),
            links: HashMap::new(),
            mover: Mover::new(),
            stats: Stats::default(),
        };
        for name in [c"fifo", c"device", c"link", c"socket", c"folder", c"gone", c"file"] {
            copy.regular(name).expect("copied");
        }
        drop(socket);
        let opened: Vec<_> = watch.read_events().expect("events").into_iter().filter_map(|event| event.name).collect();
        assert_eq!(opened, ["file"]);
        let kind = |name: &str| std::fs::symlink_metadata(to.join(name)).map(|m| m.file_type());
        assert!(kind("fifo").expect("there").is_fifo() && kind("socket").expect("there").is_socket());
        assert!(kind("link").expect("there").is_symlink() && kind("folder").is_err() && kind("gone").is_err());
        assert_eq!(kind("device").is_ok_and(|kind| kind.is_char_device()), device);
        assert_eq!(std::fs::read(to.join("file")).expect("read"), b"data");
        assert_eq!(copy.stats.entries, 4 + u64::from(device));
    }
}
