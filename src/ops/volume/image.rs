//! Volumes that are one file: disks out of archives, and images of discs. What is in them is not looked into: it is data of
//! whoever made it, who may say it is of this or that form.

use super::{Of, change, data, named, need_pool, note, project_of};
use crate::base::names::{SnapshotName, VolumeName};
use crate::base::time;
use crate::error::{Context, Error, Result};
use crate::fault;
use crate::image::tarread::{EntryKind, TarReader};
use crate::image::unpack::clean_path;
use crate::image::{Limits, OnProgress, Progress};
use crate::model::backup::{INDEX, VOLUME, VOLUME_SNAPSHOTS};
use crate::model::instance::Config;
use crate::model::keys::volume as keys;
use crate::model::volume::{ContentType, CustomVolume};
use crate::ops::{pool, record_copy, restrict};
use crate::storage::{Driver, Volume, block};
use crate::store::{Action, Store, journal};
use std::fs::File;
use std::io::{BufRead, Read};

/// Makes of the image of a disc, which is `source`, the volume `of`.
///
/// # Errors
/// Exists; `source` cannot be read; no room. Nothing is left then.
pub fn import(
    store: &Store,
    of: Of<'_>,
    (mut source, total): (impl Read, Option<u64>),
    on_progress: OnProgress<'_>,
) -> Result<()> {
    if of.pool.as_str() == pool::DEFAULT {
        pool::ensure_default(store)?;
    }
    let owner = project_of(store, of.project)?;
    let _project = restrict::hold(store, &owner, "import")?;
    let _pool = store.lock_pool_shared(of.pool)?;
    need_pool(store, of.pool)?;
    let lock = store.lock_volume(of.key(store)?, "import")?;
    let key = lock.key();
    change::free(store, key)?;
    let sized = |bytes: u64| -> Result<Config> {
        let mut config = Config::new();
        keys::SIZE.set(&mut config, bytes.to_string());
        restrict::check_volume(store, key, None, &config)?;
        Ok(config)
    };
    sized(total.unwrap_or(0))?;
    let (driver, volume) = (pool::need(store, of.pool)?, data(key)?);
    journal::run(store, "import", &[&lock], |journal| {
        journal.undo(Action::RemoveVolume(named(key)))?;
        journal.commits_by(&store.layout().volume_record(key))?;
        fault::point("volume.disc.begin")?;
        driver.plan_disk(total.unwrap_or(keys::DISK_SIZE));
        let file = block::create(driver.as_ref(), &driver.begin_volume(&volume)?, 0)?;
        let bytes = copy(&mut source, &file, total, on_progress)?;
        let config = sized(bytes)?;
        fault::point("volume.disc.read")?;
        driver.commit_volume(&volume)?;
        fault::point("volume.disc.made")?;
        let (description, created_at) = (String::new(), time::now());
        let record = CustomVolume { format: 1, description, content_type: ContentType::Iso, created_at, config };
        store.save_volume(&lock, &record)?;
        fault::point("volume.disc.record")
    })?;
    record_copy::volume(store, key);
    note(store, key, "storage-volume-created");
    Ok(())
}

/// Fills an empty file; its length.
fn copy(source: &mut impl Read, to: &File, total: Option<u64>, on_progress: OnProgress<'_>) -> Result<u64> {
    let (mut buffer, mut done) = (vec![0; 1 << 20], 0u64);
    loop {
        let n = match source.read(&mut buffer) {
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => continue,
            other => other.context("Failed reading the image")?,
        };
        if n == 0 {
            to.set_len(done)?;
            return Ok(done);
        }
        block::put(to, done, &buffer[..n])?;
        done += n as u64;
        on_progress(Progress::Bytes(done, total))?;
    }
}

/// One disk in an archive.
struct Disk {
    name: String,
    volume: Volume,
    done: bool,
}

/// Unpacks the disks of a volume and of its snapshots from the rest of a backup, and shows them, that of the volume last.
///
/// # Errors
/// One is missing or no file; there is something else; no room. What was begun is the caller's to remove.
pub(super) fn unpack(
    driver: &dyn Driver,
    volume: &Volume,
    snapshots: &[SnapshotName],
    (mut tar, limits): (TarReader<&mut dyn BufRead>, &Limits),
) -> Result<()> {
    let mut disks = vec![Disk { name: format!("{VOLUME}.img"), volume: volume.clone(), done: false }];
    for snapshot in snapshots {
        let name = format!("{VOLUME_SNAPSHOTS}/{snapshot}.img");
        disks.push(Disk { name, volume: volume.snapshot(snapshot)?, done: false });
    }
    while let Some(entry) = tar.next_entry()? {
        let path = clean_path(&entry.path, limits.depth)?;
        let Some(disk) = disks.iter_mut().find(|disk| disk.name.as_bytes() == path) else {
            if entry.kind == EntryKind::Dir || path == INDEX.as_bytes() {
                continue;
            }
            return Err(Error::invalid(format!("{} belongs to nothing in a backup", entry.name())));
        };
        if entry.kind != EntryKind::File || std::mem::replace(&mut disk.done, true) {
            return Err(Error::invalid(format!("{} of a backup is no disk", entry.name())));
        }
        let file = block::begin(driver, &disk.volume, entry.size)?;
        fault::point("backup.volume")?;
        let whole = [(0, entry.size)];
        let pieces = entry.segments.as_ref().map(|all| all.iter().map(|s| (s.offset, s.len)).collect::<Vec<_>>());
        fill(&mut tar, &file, pieces.as_deref().unwrap_or(&whole))?;
    }
    for disk in disks.iter().rev() {
        if !disk.done {
            return Err(Error::invalid(format!("The files of volume \"{}\" are missing", disk.volume.name())));
        }
        driver.commit_volume(&disk.volume)?;
    }
    Ok(())
}

/// Writes an entry's data to where they belong: offsets and lengths, which add up to them.
fn fill(tar: &mut TarReader<&mut dyn BufRead>, file: &File, pieces: &[(u64, u64)]) -> Result<()> {
    let mut rest = pieces.iter();
    let (mut at, mut left) = (0, 0);
    tar.data(&mut |mut bytes| {
        while !bytes.is_empty() {
            while left == 0 {
                (at, left) = *rest.next().ok_or_else(|| Error::internal("The pieces of a disk do not add up"))?;
            }
            let n = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
            block::put(file, at, &bytes[..n])?;
            (at, left, bytes) = (at + n as u64, left - n as u64, &bytes[n..]);
        }
        Ok(())
    })
}

/// The name of a volume for a file of which nobody says one: the file's, without its ending.
///
/// # Errors
/// Invalid: no volume can have that.
pub fn name_of(file: &str) -> Result<VolumeName> {
    let stem = std::path::Path::new(file).file_stem().and_then(|stem| stem.to_str()).filter(|_| file != "-");
    let unnamed = || Error::invalid("Importing ISO images requires a volume name to be set");
    VolumeName::parse(stem.ok_or_else(unnamed)?).map_err(|e| e.hint("give a name after the file"))
}
