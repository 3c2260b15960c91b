//! The volumes of a backup while they are unpacked: each is a part that takes the entries of the archive that are its own, in
//! whatever order they come.

use crate::base::names::SnapshotName;
use crate::error::{Context, Error, Result};
use crate::fault;
use crate::image::Limits;
use crate::image::metadata;
use crate::image::tarread::{Entry, EntryKind, TarReader};
use crate::image::unpack::{Options, Unpacker, clean_path};
use crate::model::backup::{CONTAINER, HEADER, INDEX, SNAPSHOTS, VOLUME, VOLUME_SNAPSHOTS};
use crate::storage::{Driver, Volume};
use crate::sys::path::{self, Links};
use std::io::BufRead;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

/// What of a volume lies beside its root file system; all else that a backup has there is left out.
pub(super) const BESIDE: [&[u8]; 3] = [b"metadata.yaml", b"config.json", b"templates"];

/// Where what stands in an archive.
#[derive(Debug, Clone)]
pub(in crate::ops) struct Form {
    /// The folder of the volume.
    pub volume: String,
    /// That of the folders of its snapshots.
    pub snapshots: String,
    /// What the driver's own form says of it.
    pub header: String,
}

impl Form {
    /// An instance's: each volume has a root file system and what lies beside it.
    pub fn instance() -> Self {
        Self { volume: CONTAINER.to_string(), snapshots: SNAPSHOTS.to_string(), header: HEADER.to_string() }
    }

    /// A custom volume's: each is the user's files.
    pub fn custom() -> Self {
        Self { volume: VOLUME.to_string(), snapshots: VOLUME_SNAPSHOTS.to_string(), header: HEADER.to_string() }
    }

    /// That of one that goes with an instance, by this device: the same in a folder of its name.
    pub fn dependent(device: &str) -> Self {
        let Self { volume, snapshots, header } = Self::custom();
        let [volume, snapshots, header] =
            [volume, snapshots, header].map(|path| path.replacen('/', &format!("/{device}/"), 1));
        Self { volume, snapshots, header }
    }

    /// The name of a volume's stream.
    pub(super) fn stream(&self) -> String {
        format!("{}.bin", self.volume)
    }

    /// That of a snapshot's.
    pub(super) fn snapshot_stream(&self, name: &SnapshotName) -> String {
        format!("{}/{name}.bin", self.snapshots)
    }
}

/// A volume and its snapshots, taken from an archive.
pub(in crate::ops) trait Part {
    /// The entry of this name is one of its own.
    fn owns(&self, path: &[u8]) -> bool;

    /// Takes one.
    ///
    /// # Errors
    /// It is bad; a snapshot that the index does not name; no room.
    fn take(&mut self, tar: &mut TarReader<&mut dyn BufRead>, entry: Entry, path: &[u8]) -> Result<()>;

    /// Shows all volumes, that which the snapshots are of last.
    ///
    /// # Errors
    /// One was not in the archive or is not of the right form; no room.
    fn commit(self: Box<Self>) -> Result<()>;
}

/// Makes the volumes of the rest of an archive. Where a name could be of several parts it is of the first one.
///
/// # Errors
/// The archive is bad, or something in it belongs to none of them; those of the parts. What was begun is the caller's to remove.
pub(in crate::ops) fn unpack(
    mut parts: Vec<Box<dyn Part + '_>>,
    (mut tar, limits): (TarReader<&mut dyn BufRead>, &Limits),
) -> Result<()> {
    while let Some(entry) = tar.next_entry()? {
        let path = clean_path(&entry.path, limits.depth)?;
        match parts.iter_mut().find(|part| part.owns(&path)) {
            Some(part) => part.take(&mut tar, entry, &path)?,
            None if entry.kind == EntryKind::Dir || path == INDEX.as_bytes() => {}
            None => return Err(Error::invalid(format!("{} belongs to nothing in a backup", entry.name()))),
        }
    }
    fault::point("backup.unpacked")?;
    parts.into_iter().try_for_each(Part::commit)
}

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

/// All of them, as files: the root volume first.
pub(in crate::ops) struct Volumes<'a> {
    driver: &'a dyn Driver,
    form: Form,
    all: Vec<Unpacking>,
    names: Vec<SnapshotName>,
    depth: usize,
}

impl<'a> Volumes<'a> {
    /// Begins the volume and those of its snapshots.
    ///
    /// # Errors
    /// The pool cannot be written.
    pub fn begin(
        (driver, form): (&'a dyn Driver, Form),
        (volume, snapshots): (&Volume, &[SnapshotName]),
        limits: &Limits,
    ) -> Result<Self> {
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
        Ok(Self { driver, form, all, names: snapshots.to_vec(), depth: limits.depth })
    }

    /// Which of them, and the rest of the name; none: it belongs to none of them.
    fn place<'p>(&self, path: &'p [u8]) -> Result<Option<(usize, &'p [u8])>> {
        if let Some(rest) = below(path, &self.form.volume) {
            return Ok(Some((0, rest)));
        }
        let Some(rest) = below(path, &self.form.snapshots).filter(|rest| !rest.is_empty()) else { return Ok(None) };
        let (name, rest) = match rest.iter().position(|b| *b == b'/') {
            Some(at) => (&rest[..at], &rest[at + 1..]),
            None => (rest, &rest[rest.len()..]),
        };
        let at = self.names.iter().position(|n| n.as_str().as_bytes() == name);
        let unknown = || Error::invalid(format!("Snapshot {:?} is not in the index", String::from_utf8_lossy(name)));
        at.map(|at| Some((at + 1, rest))).ok_or_else(unknown)
    }
}

/// What of `path` is beneath the folder.
fn below<'p>(path: &'p [u8], folder: &str) -> Option<&'p [u8]> {
    match path.strip_prefix(folder.as_bytes()) {
        Some([b'/', rest @ ..]) => Some(rest),
        Some([]) => Some(&path[path.len()..]),
        _ => None,
    }
}

impl Part for Volumes<'_> {
    fn owns(&self, path: &[u8]) -> bool {
        below(path, &self.form.volume).is_some() || below(path, &self.form.snapshots).is_some()
    }

    fn take(&mut self, tar: &mut TarReader<&mut dyn BufRead>, mut entry: Entry, path: &[u8]) -> Result<()> {
        let Some((at, rest)) = self.place(path)? else {
            return match entry.kind {
                EntryKind::Dir => Ok(()),
                _ => Err(Error::invalid(format!("{} belongs to nothing in a backup", entry.name()))),
            };
        };
        if entry.kind == EntryKind::HardLink {
            let link = clean_path(&entry.link, self.depth)?;
            match self.place(&link)? {
                Some((of, target)) if of == at => entry.link = target.to_vec(),
                _ => return Err(Error::invalid(format!("{} is a link out of its volume", entry.name()))),
            }
        }
        entry.path = rest.to_vec();
        self.all[at].entry(tar, entry)
    }

    fn commit(self: Box<Self>) -> Result<()> {
        for one in self.all.into_iter().rev() {
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
            self.driver.commit_volume(&volume)?;
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
