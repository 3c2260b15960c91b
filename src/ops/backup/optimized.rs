//! Backups in the form of a storage driver (`--optimized-storage`): of each volume there is one stream in the archive, that of a
//! snapshot and of the volume itself only with what differs from the snapshot before.
//!
//! Used by both kinds of `export` and `import`. An archive says before each entry how long it is, and a stream does not know:
//! it is made twice, which needs no room. The streams of strangers make volumes as their archives do: what lies beside a root
//! file system is looked through before it is shown.

use super::unpack::{BESIDE, Form};
use crate::base::names::SnapshotName;
use crate::base::time;
use crate::error::{Context, Error, Result};
use crate::fault;
use crate::image::export::Exporter;
use crate::image::tarread::{EntryKind, TarReader};
use crate::image::unpack::clean_path;
use crate::image::{Limits, OnProgress, Progress, metadata};
use crate::model::backup::{HEADER, INDEX};
use crate::storage::streams::{Receiver, Streams};
use crate::storage::{Driver, Volume, block};
use crate::store::undo::Volume as Named;
use crate::store::{Action, Journal, trash};
use crate::sys::path::{self, Kind, Links, Owner};
use rustix::fs::OFlags;
use std::io::{BufRead, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

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
        out.file(HEADER, header.as_bytes(), time::now().as_second())?;
        let mut parent = None;
        for Sealed { copy, name, step } in &all {
            on_progress(Progress::Step(step))?;
            let mut size = 0;
            streams.send(copy, parent, &mut |stream| {
                let mut buffer = vec![0; STEP];
                loop {
                    match stream.read(&mut buffer)? {
                        0 => return Ok(()),
                        n => size += n as u64,
                    }
                }
            })?;
            let head = (size, time::now().as_second());
            streams.send(copy, parent, &mut |stream| out.stream(name.clone(), head, stream))?;
            parent = Some(copy);
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

/// Makes a volume and those of its snapshots from the streams in the rest of an archive, and shows them, the volume last.
///
/// # Errors
/// The archive or a stream in it is bad, or of a form that is not read; one is missing; no room. What was begun is the caller's to
/// remove.
pub(in crate::ops) fn read(
    driver: &dyn Driver,
    (form, holds): (Form, Holds),
    (volume, snapshots): (&Volume, &[SnapshotName]),
    (tar, limits): (TarReader<&mut dyn BufRead>, &Limits),
) -> Result<()> {
    let mut all = vec![Awaited { volume: volume.clone(), name: form.stream(), folder: None }];
    for of in snapshots {
        all.push(Awaited { volume: volume.snapshot(of)?, name: form.snapshot_stream(of), folder: None });
    }
    let mut receiver = need(driver)?.receiver(Some(limits.entries));
    receive(driver, (&mut all, holds), receiver.as_mut(), (tar, limits))?;
    fault::point("backup.unpacked")?;
    for Awaited { volume, folder, .. } in all.iter().rev() {
        let missing = || Error::invalid(format!("The files of volume \"{}\" are missing", volume.name()));
        let folder = path::open_root(folder.as_deref().ok_or_else(missing)?)?;
        let folder = path::open_dir(folder.as_fd(), Path::new("."), Links::Refuse)?;
        let same =
            tidy(folder.as_fd(), holds).with_context(|| format!("Bad volume \"{}\" in the backup", volume.name()))?;
        // What will be written to is not the same for long.
        if same && volume.snapshot_of().is_some() {
            receiver.identify(volume, None)?;
        }
        driver.commit_volume(volume)?;
    }
    Ok(())
}

fn receive(
    driver: &dyn Driver,
    (all, holds): (&mut [Awaited], Holds),
    receiver: &mut dyn Receiver,
    (mut tar, limits): (TarReader<&mut dyn BufRead>, &Limits),
) -> Result<()> {
    let known = |path: &[u8]| path == INDEX.as_bytes() || path == HEADER.as_bytes();
    while let Some(entry) = tar.next_entry()? {
        let path = clean_path(&entry.path, limits.depth)?;
        if entry.kind == EntryKind::Dir || known(&path) {
            continue;
        }
        let Some(one) = all.iter_mut().find(|one| one.name.as_bytes() == path) else {
            // What Incus calls them: `container_<path>.bin`.
            let inside = |one: &Awaited| {
                let own = one.name.strip_suffix(".bin").unwrap_or_default();
                path.strip_prefix(own.as_bytes()).is_some_and(|rest| rest.starts_with(b"_") && rest.ends_with(b".bin"))
            };
            return Err(match all.iter().any(inside) {
                true => Error::unsupported("Subvolumes inside of a volume are not supported in optimized backups"),
                false => Error::invalid(format!("{} belongs to nothing in a backup", entry.name())),
            });
        };
        if entry.kind != EntryKind::File || entry.segments.is_some() || one.folder.is_some() {
            return Err(Error::invalid(format!("{} of a backup is no stream of a volume", entry.name())));
        }
        let folder = receiver.begin(&one.volume)?;
        if holds == Holds::Disk {
            block::prepare(driver, &folder)?;
        }
        fault::point("backup.volume")?;
        tar.data(&mut |piece| receiver.feed(piece))?;
        receiver.finish()?;
        one.folder = Some(folder);
    }
    Ok(())
}

/// Has a volume hold what it is to hold and nothing else; whether it was so.
///
/// # Errors
/// Invalid: something of it is missing or of another kind.
fn tidy(folder: BorrowedFd<'_>, holds: Holds) -> Result<bool> {
    let wanted = |name: &[u8]| match holds {
        Holds::Instance => name == b"rootfs" || BESIDE.contains(&name),
        Holds::Files => true,
        Holds::Disk => name == block::FILE.as_bytes(),
    };
    let mut same = true;
    if holds != Holds::Files {
        path::chown(folder, ours(0).uid, ours(0).gid)?;
        path::chmod(folder, 0o700)?;
        for entry in path::read_dir(folder)? {
            if !wanted(entry.name.as_encoded_bytes()) {
                trash::remove_at(folder, &entry.name)?;
                same = false;
            }
        }
    }
    match holds {
        Holds::Files => {}
        Holds::Disk => drop(alone(folder, Path::new(block::FILE), 0o600)?),
        Holds::Instance => {
            metadata::check_layout(folder)?;
            for name in BESIDE.map(|name| Path::new(std::str::from_utf8(name).unwrap_or_default())) {
                match alone(folder, name, 0o755) {
                    Ok(true) => {
                        let dir = path::open_dir(folder, name, Links::Refuse)?;
                        for entry in path::read_dir(dir.as_fd())? {
                            alone(dir.as_fd(), Path::new(&entry.name), 0o755)?;
                        }
                    }
                    Err(e) if e.errno() == Some(libc::ENOENT) => {}
                    other => drop(other?),
                }
            }
        }
    }
    Ok(same)
}

/// Has a file or folder that the host reads be ours, with no more than the permissions `most`; whether it is a folder. What has a
/// name elsewhere could be written by whoever has that.
fn alone(folder: BorrowedFd<'_>, name: &Path, most: u32) -> Result<bool> {
    let pin = path::open(folder, name, OFlags::PATH | OFlags::NOFOLLOW, 0, Links::Refuse)?;
    let there = path::fstat(pin.as_fd())?;
    match there.kind {
        Kind::Dir => {}
        Kind::File if there.nlink == 1 => {}
        _ => return Err(Error::invalid(format!("{name:?} is no file of its own"))),
    }
    path::chown(pin.as_fd(), ours(0).uid, ours(0).gid)?;
    path::chmod(pin.as_fd(), there.mode & most)?;
    Ok(there.kind == Kind::Dir)
}
