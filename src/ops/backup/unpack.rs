//! The volumes of a backup while they are unpacked.

use crate::base::names::SnapshotName;
use crate::error::{Context, Error, Result};
use crate::fault;
use crate::image::Limits;
use crate::image::metadata;
use crate::image::tarread::{Entry, EntryKind, TarReader};
use crate::image::unpack::{Options, Unpacker, clean_path};
use crate::model::backup::{CONTAINER, INDEX, SNAPSHOTS, VOLUME, VOLUME_SNAPSHOTS};
use crate::storage::{Driver, Volume};
use crate::sys::path::{self, Links};
use std::io::BufRead;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

/// What of a volume lies beside its root file system; all else that a backup has there is left out.
pub(super) const BESIDE: [&[u8]; 3] = [b"metadata.yaml", b"config.json", b"templates"];

/// Where what stands in an archive.
#[derive(Debug, Clone, Copy)]
pub(in crate::ops) struct Form {
    volume: &'static str,
    snapshots: &'static str,
}

impl Form {
    /// The name of a volume's stream.
    pub(super) fn stream(self) -> String {
        format!("{}.bin", self.volume)
    }

    /// That of a snapshot's.
    pub(super) fn snapshot_stream(self, name: &SnapshotName) -> String {
        format!("{}/{name}.bin", self.snapshots)
    }
}

/// An instance's: each volume has a root file system and what lies beside it.
pub(in crate::ops) const INSTANCE: Form = Form { volume: CONTAINER, snapshots: SNAPSHOTS };
/// A custom volume's: each is the user's files.
pub(in crate::ops) const CUSTOM: Form = Form { volume: VOLUME, snapshots: VOLUME_SNAPSHOTS };

/// One of them.
struct Unpacking {
    volume: Volume,
    folder: OwnedFd,
    /// None beside a custom volume.
    beside: Option<Unpacker>,
    root: Unpacker,
    /// Its root file system was in the archive.
    seen: bool,
}

/// All of them: the root volume first.
pub(in crate::ops) struct Volumes {
    form: Form,
    all: Vec<Unpacking>,
    names: Vec<SnapshotName>,
    depth: usize,
}

impl Volumes {
    /// Begins the volume and those of its snapshots.
    ///
    /// # Errors
    /// The pool cannot be written.
    pub fn begin(driver: &dyn Driver, volume: &Volume, snapshots: &[SnapshotName], limits: &Limits) -> Result<Self> {
        let custom = volume.kind().is_custom();
        let of_snapshots = snapshots.iter().map(|name| volume.snapshot(name));
        let volumes = std::iter::once(Ok(volume.clone())).chain(of_snapshots);
        let begin = |volume: Volume| -> Result<Unpacking> {
            let folder = path::open_root(&driver.begin_volume(&volume)?)?;
            fault::point("backup.volume")?;
            let root = if custom { "." } else { "rootfs" };
            let root = path::open_dir(folder.as_fd(), Path::new(root), Links::Refuse)?;
            let options = |links| Options { limits: limits.clone(), links, ..Options::default() };
            let beside = match custom {
                true => None,
                false => Some(Unpacker::new(folder.try_clone()?, options(Links::Refuse))),
            };
            Ok(Unpacking { volume, beside, folder, root: Unpacker::new(root, options(Links::InRoot)), seen: false })
        };
        let all = volumes.map(|v| v.and_then(begin)).collect::<Result<_>>()?;
        let form = if custom { CUSTOM } else { INSTANCE };
        Ok(Self { form, all, names: snapshots.to_vec(), depth: limits.depth })
    }

    /// Which of them, and the rest of the name; none: it belongs to none of them.
    fn place<'a>(&self, path: &'a [u8]) -> Result<Option<(usize, &'a [u8])>> {
        let below = |folder: &str| match path.strip_prefix(folder.as_bytes()) {
            Some([b'/', rest @ ..]) => Some(rest),
            Some([]) => Some(&path[path.len()..]),
            _ => None,
        };
        if let Some(rest) = below(self.form.volume) {
            return Ok(Some((0, rest)));
        }
        let Some(rest) = below(self.form.snapshots).filter(|rest| !rest.is_empty()) else { return Ok(None) };
        let (name, rest) = match rest.iter().position(|b| *b == b'/') {
            Some(at) => (&rest[..at], &rest[at + 1..]),
            None => (rest, &rest[rest.len()..]),
        };
        let at = self.names.iter().position(|n| n.as_str().as_bytes() == name);
        let unknown = || Error::invalid(format!("Snapshot {:?} is not in the index", String::from_utf8_lossy(name)));
        at.map(|at| Some((at + 1, rest))).ok_or_else(unknown)
    }

    /// Unpacks the rest of the archive.
    ///
    /// # Errors
    /// The archive is bad; a snapshot that the index does not name; no room.
    pub fn unpack(&mut self, mut tar: TarReader<&mut dyn BufRead>) -> Result<()> {
        while let Some(mut entry) = tar.next_entry()? {
            let path = clean_path(&entry.path, self.depth)?;
            let Some((at, rest)) = self.place(&path)? else {
                if entry.kind == EntryKind::Dir || path == INDEX.as_bytes() {
                    continue;
                }
                return Err(Error::invalid(format!("{} belongs to nothing in a backup", entry.name())));
            };
            if entry.kind == EntryKind::HardLink {
                let link = clean_path(&entry.link, self.depth)?;
                match self.place(&link)? {
                    Some((of, target)) if of == at => entry.link = target.to_vec(),
                    _ => return Err(Error::invalid(format!("{} is a link out of its volume", entry.name()))),
                }
            }
            entry.path = rest.to_vec();
            self.all[at].entry(&mut tar, entry)?;
        }
        Ok(())
    }

    /// Shows them all, the root volume last.
    ///
    /// # Errors
    /// One was not in the archive or is not of the right form; no room.
    pub fn commit(self, driver: &dyn Driver) -> Result<()> {
        let mut all = self.all;
        all.reverse();
        for one in all {
            let Unpacking { volume, folder, beside, root, seen } = one;
            if !seen {
                return Err(Error::invalid(format!("The files of volume \"{}\" are missing", volume.name())));
            }
            root.finish()?;
            if let Some(beside) = beside {
                beside.finish()?;
                metadata::check_layout(folder.as_fd())
                    .with_context(|| format!("Bad volume \"{}\" in the backup", volume.name()))?;
            }
            driver.commit_volume(&volume)?;
        }
        Ok(())
    }
}

impl Unpacking {
    fn entry(&mut self, tar: &mut TarReader<&mut dyn BufRead>, mut entry: Entry) -> Result<()> {
        let Some(beside) = &mut self.beside else {
            if entry.path.is_empty() && entry.kind != EntryKind::Dir {
                return Err(Error::invalid("The volume of a backup is no folder"));
            }
            self.seen = true;
            return self.root.entry(tar, entry);
        };
        let inside = |path: &[u8]| match path.strip_prefix(b"rootfs") {
            Some([]) => Some(Vec::new()),
            Some([b'/', rest @ ..]) => Some(rest.to_vec()),
            _ => None,
        };
        if let Some(rest) = inside(&entry.path) {
            if rest.is_empty() && entry.kind != EntryKind::Dir {
                return Err(Error::invalid("The \"rootfs\" of a backup is no folder"));
            }
            if entry.kind == EntryKind::HardLink {
                let out = || Error::invalid("A link leads out of the \"rootfs\" of a backup");
                entry.link = inside(&entry.link).ok_or_else(out)?;
            }
            self.seen = true;
            entry.path = rest;
            return self.root.entry(tar, entry);
        }
        let first = entry.path.split(|b| *b == b'/').next().unwrap_or_default();
        if !BESIDE.contains(&first) {
            return Ok(());
        }
        match entry.kind {
            EntryKind::File | EntryKind::Dir => {
                // They are the host's, as those of an image.
                (entry.uid, entry.gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
                entry.mode &= 0o755;
                beside.entry(tar, entry)
            }
            _ => Err(Error::invalid(format!("{} of a backup is neither a file nor a folder", entry.name()))),
        }
    }
}
