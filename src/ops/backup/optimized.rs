//! Backups in the form of a storage driver (`--optimized-storage`): of each volume there is one stream in the archive, that of a
//! snapshot and of the volume itself only with what differs from the snapshot before.
//!
//! Used by both kinds of `export` and `import`. An archive says before each entry how long it is, and a stream does not know:
//! it is made twice, which needs no room. The streams of strangers make volumes as their archives do: what lies beside a root
//! file system is looked through before it is shown.

use super::unpack::{BESIDE, Form, Part};
use crate::base::idmap::IdMap;
use crate::base::names::SnapshotName;
use crate::base::time;
use crate::error::{Context, Error, Result};
use crate::fault;
use crate::image::export::Exporter;
use crate::image::tarread::{Entry, EntryKind, TarReader};
use crate::image::{Limits, OnProgress, Progress, metadata};
use crate::model::backup::{FoundInstance, FoundRecords};
use crate::model::keys::{self, volatile_value};
use crate::storage::streams::{Receiver, Streams};
use crate::storage::{Driver, Volume, block};
use crate::store::undo::Volume as Named;
use crate::store::{Action, Journal, trash};
use crate::sys::path::{self, Kind, Links, Owner};
use rustix::fs::OFlags;
use std::io::{BufRead, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

/// What says, beside a root file system, which id map the owners in it have.
const IDMAP: &str = "idmap";
/// Largest one read.
const IDMAP_MAX: u64 = 1 << 20;
/// Bytes read of a stream at a time.
const STEP: usize = 256 << 10;

/// The form of the driver's own, if it has one.
///
/// # Errors
/// Unsupported.
pub(in crate::ops) fn need(driver: &dyn Driver) -> Result<&dyn Streams> {
    driver.streams().ok_or_else(|| {
        Error::unsupported("Backups in the form of this storage driver are not supported by this version")
            .hint("export it without --optimized-storage")
    })
}

/// A volume can be written in that form.
///
/// # Errors
/// NotFound.
pub(in crate::ops) fn fits(driver: &dyn Driver, volume: &Volume) -> Result<bool> {
    driver.streams().map_or(Ok(false), |streams| streams.fits(volume))
}

/// The map that the owners on disk have in an instance's stream, by its records; None: nothing is told. `shifts`: the driver
/// shifts them, and the volume says it, too. Elsewhere Incus has shifted them where nothing else was possible.
///
/// # Errors
/// Unsupported: they are shifted, and the driver does not do that; Invalid: the map.
pub(super) fn owners(records: &FoundRecords, shifts: bool) -> Result<Option<IdMap>> {
    let map_of = |one: &FoundInstance| match keys::VOLATILE_LAST_STATE_IDMAP.get(&one.config) {
        None | Some("") => Ok(IdMap::default()),
        Some(text) => IdMap::from_json(text),
    };
    if shifts {
        return records.container.as_ref().map(map_of).transpose();
    }
    let all = records.container.iter().chain(records.snapshots.iter().flatten());
    let mut maps = all.filter_map(|one| keys::VOLATILE_LAST_STATE_IDMAP.get(&one.config));
    if maps.any(|map| !matches!(map, "" | volatile_value::IDMAP_NONE)) { Err(shifted()) } else { Ok(None) }
}

/// The volume made of it says the same.
///
/// # Errors
/// Unsupported: it does not; it cannot be read.
pub(super) fn check_owners(driver: &dyn Driver, volume: &Volume, map: &IdMap) -> Result<()> {
    if driver.owners(volume)? == *map { Ok(()) } else { Err(shifted()) }
}

fn shifted() -> Error {
    Error::unsupported("The files of the optimized backup have shifted owners")
        .hint("export it without --optimized-storage")
}

/// What is written, and where it is sealed meanwhile.
pub(in crate::ops) struct Source<'a> {
    pub driver: &'a dyn Driver,
    /// The volume that the snapshots are of.
    pub volume: &'a Volume,
    /// What a journal calls a snapshot of it.
    pub named: &'a dyn Fn(&SnapshotName) -> Named,
    pub form: Form,
    /// A file that is put into the copy of the volume: its name and content.
    pub beside: Option<(&'static str, String)>,
}

/// A volume that waits to be sent.
struct Sealed {
    copy: Volume,
    /// Its name in the archive.
    name: String,
    /// For the user.
    step: String,
}

impl Source<'_> {
    /// Writes all streams of the volume, of which `at_rest` is the present state.
    ///
    /// # Errors
    /// Unsupported: the volume holds what a stream does not; Denied; the sink fails.
    pub fn write<W: Write>(
        &self,
        out: &mut Exporter<'_, W>,
        journal: &mut Journal<'_>,
        (at_rest, snapshots): (&Volume, &[SnapshotName]),
        on_progress: OnProgress<'_>,
    ) -> Result<()> {
        let streams = need(self.driver)?;
        let (mut all, mut header) = (Vec::new(), String::from("subvolumes:\n"));
        let last = std::iter::once(None);
        for of in snapshots.iter().map(Some).chain(last) {
            let (from, name, step) = match of {
                Some(of) => (self.volume.snapshot(of)?, self.form.snapshot_stream(of), format!("snapshot {of}")),
                None => (at_rest.clone(), self.form.stream(), "volume".to_string()),
            };
            let copy = self.copy(journal, &from, of.is_none())?;
            let id = streams.seal(&copy)?;
            let text = of.map_or("", |of| of.as_str());
            header += &format!("- path: /\n  snapshot: {}\n", serde_json::to_string(text)?);
            header += &format!("  readonly: {}\n  uuid: {id}\n", of.is_some());
            all.push(Sealed { copy, name, step });
        }
        fault::point("export.sealed")?;
        if streams.has_header() {
            out.file(&self.form.header, header.as_bytes(), time::now().as_second())?;
        }
        let mut parents = Vec::new();
        for Sealed { copy, name, step } in &all {
            on_progress(Progress::Step(step))?;
            let mut size = 0;
            streams.send(copy, &parents, &mut |stream| {
                let mut buffer = vec![0; STEP];
                loop {
                    match stream.read(&mut buffer)? {
                        0 => return Ok(()),
                        n => size += n as u64,
                    }
                }
            })?;
            let head = (size, time::now().as_second());
            streams.send(copy, &parents, &mut |stream| out.stream(name.clone(), head, stream))?;
            parents.push(copy);
        }
        Ok(())
    }

    /// A copy of a volume that goes when the journal ends.
    fn copy(&self, journal: &mut Journal<'_>, from: &Volume, last: bool) -> Result<Volume> {
        // No snapshot has such a name: it would be one of the user's.
        let name = SnapshotName::parse(&format!("export:{}", uuid::Uuid::new_v4().simple()))?;
        let (copy, named) = (self.volume.snapshot(&name)?, (self.named)(&name));
        journal.undo(Action::RemoveVolume(named.clone()))?;
        journal.then(Action::RemoveVolume(named))?;
        self.driver.copy(from, &copy)?;
        if let Some((file, text)) = self.beside.as_ref().filter(|_| last) {
            let folder = path::open_root(&self.driver.metadata(&copy)?)?;
            path::write_replace(folder.as_fd(), Path::new(file), text.as_bytes(), ours(0o600), Links::Refuse)?;
        }
        Ok(copy)
    }
}

fn ours(mode: u32) -> Owner {
    Owner { uid: rustix::process::geteuid().as_raw(), gid: rustix::process::getegid().as_raw(), mode }
}

/// What the volumes of a backup hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::ops) enum Holds {
    /// A root file system and what lies beside it.
    Instance,
    /// The user's files.
    Files,
    /// A disk.
    Disk,
}

/// A volume whose stream is awaited.
struct Awaited {
    volume: Volume,
    name: String,
    /// The folder it was received in.
    folder: Option<PathBuf>,
}

/// A volume and those of its snapshots, made from streams.
pub(in crate::ops) struct Arriving<'a> {
    driver: &'a dyn Driver,
    form: Form,
    holds: Holds,
    all: Vec<Awaited>,
    receiver: Box<dyn Receiver + 'a>,
}

impl<'a> Arriving<'a> {
    /// Waits for them.
    ///
    /// # Errors
    /// Unsupported: the driver has no streams.
    pub fn new(
        driver: &'a dyn Driver,
        (form, holds): (Form, Holds),
        (volume, snapshots): (&Volume, &[SnapshotName]),
        limits: &Limits,
    ) -> Result<Self> {
        let mut all = vec![Awaited { volume: volume.clone(), name: form.stream(), folder: None }];
        for of in snapshots {
            all.push(Awaited { volume: volume.snapshot(of)?, name: form.snapshot_stream(of), folder: None });
        }
        let receiver = need(driver)?.receiver(Some(limits.entries));
        Ok(Self { driver, form, holds, all, receiver })
    }
}

impl Part for Arriving<'_> {
    fn owns(&self, path: &[u8]) -> bool {
        let Form { volume, snapshots, header } = &self.form;
        let is = |folder: &str| match path.strip_prefix(folder.as_bytes()) {
            Some(rest) => rest.is_empty() || matches!(rest[0], b'/' | b'.' | b'_'),
            None => false,
        };
        path == header.as_bytes() || is(volume) || is(snapshots)
    }

    fn take(&mut self, tar: &mut TarReader<&mut dyn BufRead>, entry: Entry, path: &[u8]) -> Result<()> {
        if entry.kind == EntryKind::Dir || path == self.form.header.as_bytes() {
            return Ok(());
        }
        let Some(one) = self.all.iter_mut().find(|one| one.name.as_bytes() == path) else {
            // What Incus calls them: `container_<path>.bin`.
            let inside = |one: &Awaited| {
                let own = one.name.strip_suffix(".bin").unwrap_or_default();
                path.strip_prefix(own.as_bytes()).is_some_and(|rest| rest.starts_with(b"_") && rest.ends_with(b".bin"))
            };
            return Err(match self.all.iter().any(inside) {
                true => Error::unsupported("Subvolumes inside of a volume are not supported in optimized backups"),
                false => Error::invalid(format!("{} belongs to nothing in a backup", entry.name())),
            });
        };
        if entry.kind != EntryKind::File || entry.segments.is_some() || one.folder.is_some() {
            return Err(Error::invalid(format!("{} of a backup is no stream of a volume", entry.name())));
        }
        let folder = self.receiver.begin(&one.volume)?;
        if self.holds == Holds::Disk {
            block::prepare(self.driver, &folder)?;
        }
        fault::point("backup.volume")?;
        tar.data(&mut |piece| self.receiver.feed(piece))?;
        self.receiver.finish()?;
        one.folder = Some(folder);
        Ok(())
    }

    fn commit(self: Box<Self>) -> Result<()> {
        for Awaited { volume, folder, .. } in self.all.iter().rev() {
            let missing = || Error::invalid(format!("The files of volume \"{}\" are missing", volume.name()));
            let folder = path::open_root(folder.as_deref().ok_or_else(missing)?)?;
            let folder = path::open_dir(folder.as_fd(), Path::new("."), Links::Refuse)?;
            let same = tidy(folder.as_fd(), self.holds, self.driver.caps().shift_on_disk)
                .with_context(|| format!("Bad volume \"{}\" in the backup", volume.name()))?;
            // What will be written to is not the same for long.
            if same && volume.snapshot_of().is_some() {
                self.receiver.identify(volume, None)?;
            }
            self.driver.commit_volume(volume)?;
            // What says it is the stream's own.
            self.driver.owners(volume)?;
        }
        Ok(())
    }
}

/// Has a volume hold what it is to hold and nothing else; whether it was so. `shifts`: it may say whose the files are.
///
/// # Errors
/// Invalid: something of it is missing or of another kind.
fn tidy(folder: BorrowedFd<'_>, holds: Holds, shifts: bool) -> Result<bool> {
    let wanted = |name: &[u8]| match holds {
        Holds::Instance => name == b"rootfs" || BESIDE.contains(&name),
        Holds::Files => true,
        Holds::Disk => name == block::FILE.as_bytes(),
    };
    let mut same = true;
    // No image has it: it is put aside while the rest is looked at.
    let map = if shifts && holds == Holds::Instance { take_map(folder, &mut same)? } else { None };
    if holds != Holds::Files {
        same &= owned(folder, |_| 0o700)?;
        for entry in path::read_dir(folder)? {
            if !wanted(entry.name.as_encoded_bytes()) {
                trash::remove_at(folder, &entry.name)?;
                same = false;
            }
        }
    }
    match holds {
        Holds::Files => {}
        Holds::Disk => drop(alone(folder, Path::new(block::FILE), 0o600, &mut same)?),
        Holds::Instance => {
            metadata::check_layout(folder)?;
            for name in BESIDE.map(|name| Path::new(std::str::from_utf8(name).unwrap_or_default())) {
                match alone(folder, name, 0o755, &mut same) {
                    Ok(true) => {
                        let dir = path::open_dir(folder, name, Links::Refuse)?;
                        for entry in path::read_dir(dir.as_fd())? {
                            alone(dir.as_fd(), Path::new(&entry.name), 0o755, &mut same)?;
                        }
                    }
                    Err(e) if e.errno() == Some(libc::ENOENT) => {}
                    other => drop(other?),
                }
            }
        }
    }
    if let Some(map) = map {
        path::write_replace(folder, Path::new(IDMAP), &map, ours(0o600), Links::Refuse)?;
    }
    Ok(same)
}

/// The file that says which id map the owners have, which is taken away.
fn take_map(folder: BorrowedFd<'_>, same: &mut bool) -> Result<Option<Vec<u8>>> {
    let map = match path::read_limited(folder, Path::new(IDMAP), IDMAP_MAX, Links::Refuse) {
        Err(e) if e.errno() == Some(libc::ENOENT) => return Ok(None),
        other => other?,
    };
    alone(folder, Path::new(IDMAP), 0o600, same)?;
    path::unlink(folder, Path::new(IDMAP), Links::Refuse)?;
    Ok(Some(map))
}

/// Has a file or folder that the host reads be ours, with no more than the permissions `most`; whether it is a folder. What has a
/// name elsewhere could be written by whoever has that. `same`: nothing had to be changed so far.
fn alone(folder: BorrowedFd<'_>, name: &Path, most: u32, same: &mut bool) -> Result<bool> {
    let pin = path::open(folder, name, OFlags::PATH | OFlags::NOFOLLOW, 0, Links::Refuse)?;
    let there = path::fstat(pin.as_fd())?;
    match there.kind {
        Kind::Dir => {}
        Kind::File if there.nlink == 1 => {}
        _ => return Err(Error::invalid(format!("{name:?} is no file of its own"))),
    }
    *same &= owned(pin.as_fd(), |mode| mode & most)?;
    Ok(there.kind == Kind::Dir)
}

/// Has it be ours, with these permissions; whether it was.
fn owned(fd: BorrowedFd<'_>, mode: impl FnOnce(u32) -> u32) -> Result<bool> {
    let there = path::fstat(fd)?;
    let wanted = ours(mode(there.mode));
    if (there.uid, there.gid, there.mode & 0o7777) == (wanted.uid, wanted.gid, wanted.mode & 0o7777) {
        return Ok(true);
    }
    path::chown(fd, wanted.uid, wanted.gid)?;
    path::chmod(fd, wanted.mode)?;
    Ok(false)
}
