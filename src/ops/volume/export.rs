//! `storage volume export`: a custom volume with its snapshots as one archive, in the form Incus has for it. While something
//! that runs uses the volume, the archive is made of a copy, as a snapshot would be.

use super::quiet::Quiet;
use super::{Of, data, list, named_snapshot, need, note, users};
use crate::base::idmap::IdMap;
use crate::base::names::SnapshotName;
use crate::base::{time, yaml};
use crate::error::{Context, Result};
use crate::fault;
use crate::image::export::Exporter;
use crate::image::pack::Packing;
use crate::image::tarread::Entry;
use crate::image::{OnProgress, Progress, pipe};
use crate::model::backup::{CUSTOM, INDEX, Index, VolumeRecords, VolumeSnapshotView};
use crate::model::view::{PoolView, VolumeSnapshotView as Snapshot, VolumeView};
use crate::model::volume::ContentType;
use crate::ops::backup::unpack::Form;
use crate::ops::backup::{check_packing, encode, optimized};
use crate::ops::publish::change_owner;
use crate::ops::{load, pool, restrict};
use crate::storage::{Driver, Ids, Volume, block};
use crate::store::lock::{Exclusive, Held, VolumeKey};
use crate::store::{Action, Journal, Store, journal};
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
    pub compression: Packing,
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
    let optimized = how.optimized && optimized::fits(driver.as_ref(), &data(key)?)?;
    check_packing(how.compression, optimized)?;
    let records = records(None, VolumeView::custom(&key.project, &key.name, &record, Vec::new()), &snapshots);
    let mut write = |sink: &mut pipe::Sink, volume: &Volume| {
        let mut out = Exporter::new(sink);
        let index = Index {
            name: key.name.as_str(),
            backend: driver.name(),
            pool: key.pool.as_str(),
            snapshots: snapshots.iter().map(|s| s.name.as_str()).collect(),
            optimized,
            optimized_header: optimized && driver.streams().is_some_and(|streams| streams.has_header()),
            kind: CUSTOM,
            config: &records,
        };
        out.file(INDEX, yaml::to_string(&index)?.as_bytes(), time::now().as_second())?;
        fault::point("export.index")?;
        let (driver, form) = (driver.as_ref(), Form::custom());
        let source = Source { lock: &lock, driver, form, at_rest: volume, snapshots: &snapshots, is_image, optimized };
        source.write(store, out, on_progress)?.finish().map(drop)
    };
    at_rest(store, (&lock, quiet), driver.as_ref(), |volume| {
        encode(store, sink, how.compression, |sink| write(sink, volume)).map(drop)
    })?;
    note(store, key, "storage-volume-backup-created");
    Ok(())
}

/// What the index says of a volume.
pub(super) fn records(pool: Option<PoolView>, volume: VolumeView, snapshots: &[Snapshot]) -> VolumeRecords {
    VolumeRecords { pool, volume, volume_snapshots: snapshots.iter().map(in_index).collect() }
}

/// A volume that is written.
pub(super) struct Source<'a> {
    pub lock: &'a Held<VolumeKey, Exclusive>,
    pub driver: &'a dyn Driver,
    /// Where in the archive.
    pub form: Form,
    /// It, or a copy, that nothing changes.
    pub at_rest: &'a Volume,
    pub snapshots: &'a [Snapshot],
    pub is_image: bool,
    pub optimized: bool,
}

impl Source<'_> {
    /// Writes the snapshots and the volume.
    ///
    /// # Errors
    /// They cannot be read; the sink fails.
    pub(super) fn write<W: Write>(
        &self,
        store: &Store,
        mut out: Exporter<'static, W>,
        on_progress: OnProgress<'_>,
    ) -> Result<Exporter<'static, W>> {
        if self.optimized {
            self.streams(store, &mut out, on_progress)?;
            return Ok(out);
        }
        for found in self.snapshots {
            on_progress(Progress::Step(&format!("snapshot {}", found.name)))?;
            let of = data(self.lock.key())?.snapshot(&SnapshotName::parse(&found.name)?)?;
            let name = format!("{}/{}", self.form.snapshots, found.name);
            out = content(out, (self.driver, &of), &name, self.is_image)?;
        }
        on_progress(Progress::Step("volume"))?;
        content(out, (self.driver, self.at_rest), &self.form.volume, self.is_image)
    }

    /// All volumes as streams.
    fn streams<W: Write>(&self, store: &Store, out: &mut Exporter<'_, W>, on_progress: OnProgress<'_>) -> Result<()> {
        let key = self.lock.key();
        let names = self.snapshots.iter().map(|s| SnapshotName::parse(&s.name)).collect::<Result<Vec<_>>>()?;
        let (volume, named) = (&data(key)?, &|of: &SnapshotName| named_snapshot(key, of));
        let (driver, form) = (self.driver, self.form.clone());
        let source = optimized::Source { driver, volume, named, form, beside: None };
        let write = |journal: &mut Journal<'_>| source.write(out, journal, (self.at_rest, &names), on_progress);
        journal::run(store, "export", &[self.lock], write)
    }
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
    let ids = Ids::change(&driver.owners(volume)?, &IdMap::default());
    let change = |entry: &mut Entry| change_owner(entry, &ids);
    let mut out = out.changed((!ids.is_none()).then_some(&change));
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
