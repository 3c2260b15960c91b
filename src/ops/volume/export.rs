//! `storage volume export`: a custom volume with its snapshots as one archive, in the form Incus has for it. While something
//! that runs uses the volume, the archive is made of a copy, as a snapshot would be.

use super::quiet::Quiet;
use super::{Of, data, list, named_snapshot, need, note, users};
use crate::base::names::SnapshotName;
use crate::base::{time, yaml};
use crate::error::{Context, Result};
use crate::fault;
use crate::image::compress::Compression;
use crate::image::export::Exporter;
use crate::image::{OnProgress, Progress, pipe};
use crate::model::backup::{CUSTOM, INDEX, Index, VOLUME, VOLUME_SNAPSHOTS, VolumeRecords, VolumeSnapshotView};
use crate::model::view::{VolumeSnapshotView as Snapshot, VolumeView};
use crate::model::volume::ContentType;
use crate::ops::backup::optimized;
use crate::ops::backup::unpack::CUSTOM as CUSTOM_FORM;
use crate::ops::{load, pool, restrict};
use crate::storage::{Driver, Volume, block};
use crate::store::lock::{Exclusive, Held, VolumeKey};
use crate::store::{Action, Store, journal};
use crate::sys::path::{self, Links};
use std::io::Write;
use std::os::fd::AsFd;
use std::path::Path;

/// How a volume is exported.
#[derive(Debug, Clone, Copy)]
pub struct How {
    /// Without its snapshots.
    pub only: bool,
    /// How it is compressed.
    pub compression: Compression,
    /// In the form of the pool's driver, if it has one.
    pub optimized: bool,
}

/// Writes the archive of a volume to `sink`; the image of a disc as it is.
///
/// # Errors
/// Not found; busy; its files cannot be read; `sink` cannot be written.
pub fn export(
    store: &Store,
    of: Of<'_>,
    how: How,
    sink: &mut (dyn Write + Send),
    on_progress: OnProgress<'_>,
) -> Result<()> {
    restrict::backups(store, of.project)?;
    let _pool = store.lock_pool_shared(of.pool)?;
    let (lock, quiet) = Quiet::lock(store, &of.key(store)?, "export")?;
    let key = lock.key();
    let record = need(store, key)?;
    if record.content_type == ContentType::Iso {
        // As it came.
        let driver = pool::need(store, &key.pool)?;
        std::io::copy(&mut block::open(driver.as_ref(), &data(key)?)?, sink).context("Failed writing the backup")?;
        note(store, key, "storage-volume-backup-created");
        return Ok(());
    }
    let driver = pool::need(store, &key.pool)?;
    let snapshots = if how.only { Vec::new() } else { list::snapshots(store, of)? };
    let is_image = record.content_type.is_image();
    let optimized = how.optimized && driver.streams().is_some();
    let records = VolumeRecords {
        volume: VolumeView::custom(&key.project, &key.name, &record, Vec::new()),
        volume_snapshots: snapshots.iter().map(in_index).collect(),
    };
    let mut write = |sink: &mut pipe::Sink, volume: &Volume| {
        let mut out = Exporter::new(sink);
        let index = Index {
            name: key.name.as_str(),
            backend: driver.name(),
            pool: key.pool.as_str(),
            snapshots: snapshots.iter().map(|s| s.name.as_str()).collect(),
            optimized,
            optimized_header: optimized,
            kind: CUSTOM,
            config: &records,
        };
        out.file(INDEX, yaml::to_string(&index)?.as_bytes(), time::now().as_second())?;
        fault::point("export.index")?;
        if optimized {
            streams(store, (&lock, driver.as_ref()), &mut out, (volume, &snapshots), on_progress)?;
            return out.finish().map(drop);
        }
        for found in &snapshots {
            on_progress(Progress::Step(&format!("snapshot {}", found.name)))?;
            let of = data(key)?.snapshot(&SnapshotName::parse(&found.name)?)?;
            out = content(out, (driver.as_ref(), &of), &format!("{VOLUME_SNAPSHOTS}/{}", found.name), is_image)?;
        }
        on_progress(Progress::Step("volume"))?;
        content(out, (driver.as_ref(), volume), VOLUME, is_image)?.finish().map(drop)
    };
    at_rest(store, (&lock, quiet), driver.as_ref(), |volume| {
        pipe::encode(sink, how.compression, |sink| write(sink, volume)).map(drop)
    })?;
    note(store, key, "storage-volume-backup-created");
    Ok(())
}

/// All volumes as streams, the volume as it is `at_rest`.
fn streams<W: Write>(
    store: &Store,
    (lock, driver): (&Held<VolumeKey, Exclusive>, &dyn Driver),
    out: &mut Exporter<'_, W>,
    (at_rest, snapshots): (&Volume, &[Snapshot]),
    on_progress: OnProgress<'_>,
) -> Result<()> {
    let key = lock.key();
    let names = snapshots.iter().map(|s| SnapshotName::parse(&s.name)).collect::<Result<Vec<_>>>()?;
    let (volume, named) = (&data(key)?, &|of: &SnapshotName| named_snapshot(key, of));
    let source = optimized::Source { driver, volume, named, form: CUSTOM_FORM, beside: None };
    journal::run(store, "export", &[lock], |journal| source.write(out, journal, (at_rest, &names), on_progress))
}

fn in_index(snapshot: &Snapshot) -> VolumeSnapshotView {
    VolumeSnapshotView {
        config: snapshot.config.clone(),
        description: snapshot.put.description.clone(),
        content_type: snapshot.content_type.clone(),
        created_at: snapshot.created_at,
        expires_at: snapshot.put.expires_at,
        name: snapshot.name.clone(),
    }
}

/// A volume as the folder `name`; one that is a disk as the file `name.img`.
fn content<W: Write>(
    mut out: Exporter<'static, W>,
    (driver, volume): (&dyn Driver, &Volume),
    name: &str,
    is_image: bool,
) -> Result<Exporter<'static, W>> {
    if is_image {
        out.disk(&format!("{name}.img"), block::open(driver, volume)?, time::now().as_second())?;
        return Ok(out);
    }
    let folder = path::open_root(&super::folder_of(driver, volume)?)?;
    let folder = path::open_dir(folder.as_fd(), Path::new("."), Links::Refuse)?;
    out.tree(folder.as_fd(), name)?;
    // Files of another volume have nothing to do with these.
    Ok(out.next_tree())
}

/// Hands `body` a volume that nothing that runs uses, or a copy of it, which goes afterwards.
fn at_rest(
    store: &Store,
    (lock, quiet): (&Held<VolumeKey, Exclusive>, Quiet),
    driver: &dyn Driver,
    body: impl FnOnce(&Volume) -> Result<()>,
) -> Result<()> {
    let key = lock.key();
    let volume = data(key)?;
    let runs = |user: &super::User| match &user.instance {
        Some(name) => Ok(load::running(store, &user.project, name)?.is_some()),
        None => Ok(false),
    };
    let running = users(store, key)?.iter().map(runs).collect::<Result<Vec<bool>>>()?;
    if !running.contains(&true) {
        drop(quiet);
        return body(&volume);
    }
    // No snapshot has such a name: it would be one of the user's.
    let name = SnapshotName::parse(&format!("export:{}", uuid::Uuid::new_v4().simple()))?;
    let (copy, named) = (volume.snapshot(&name)?, named_snapshot(key, &name));
    journal::run(store, "export", &[lock], |journal| {
        journal.undo(Action::RemoveVolume(named.clone()))?;
        journal.then(Action::RemoveVolume(named))?;
        // Of its own: what was frozen may be frozen by somebody else by the time that the archive is written.
        journal::run(store, "export", &[lock], |still| quiet.copy(store, still, || driver.copy(&volume, &copy)))?;
        drop(quiet);
        fault::point("export.copied")?;
        body(&copy)
    })
}
