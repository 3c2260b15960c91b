//! Driver `lvm`: each volume is a file system on a logical volume, in a volume group of the pool's. Done by LVM's program and those
//! of the file systems, as everywhere.
//!
//! With a thin pool, as usual, an image is a logical volume that others are made from in no time. Without one each volume takes
//! its whole size, images are unpacked into the pool's folder, and copies are made file by file.
//!
//! A volume: `rootfs/`, `metadata.yaml`, `templates/`, as with `dir`; a custom volume is the user's data itself. It is mounted at
//! `<kind>/<name>` in the pool's folder, which is on the file system of the state ([`volumes`]). Its logical volume's name says
//! what it is ([`names`]): what is being put together and what waits to be removed are called otherwise, and the renaming is
//! one step. What is removed frees its space at once.

mod group;
mod images;
mod names;
mod recall;
mod rename;
mod settings;
mod tool;
mod volumes;

pub use super::shown::unmount_all;
pub use group::{DRIVER, Group, is_labelled};
pub use settings::Settings;

use super::formatted::Kind;
use super::pool::Pool;
use super::tree;
use super::volume::{Trash, Volume, VolumeKind};
use super::{Caps, Driver, Ids, Images, Quotas, Records, Space, Usage};
use crate::base::idmap::IdMap;
use crate::base::names::Fingerprint;
use crate::error::{Context, Error, Result};
use crate::fault;
use crate::model::attach::Rootfs;
use crate::model::instance::Config;
use rustix::fd::AsFd;
use rustix::fs::Mode;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use volumes::Place;

/// See the module.
#[derive(Debug)]
pub(super) struct Lvm {
    pool: Pool,
    group: Group,
    how: Settings,
    /// Size of the next volume to be made, bytes; 0: the usual one.
    planned: AtomicU64,
    /// What the volumes to be made next have of their own.
    of_volume: Mutex<Option<Settings>>,
}

impl Lvm {
    pub fn new(pool: Pool, group: Group, how: Settings) -> Self {
        Self { pool, group, how, planned: AtomicU64::new(0), of_volume: Mutex::default() }
    }

    fn thin(&self) -> bool {
        self.how.thin.is_some()
    }

    fn planned(&self) -> u64 {
        match self.planned.load(Ordering::Relaxed) {
            0 => self.how.size,
            size => size,
        }
    }

    /// Refuses a volume that is there already, or whose name LVM has no room for.
    fn absent(&self, volume: &Volume) -> Result<()> {
        if !names::fits(&self.group.name, volume) {
            return Err(Error::invalid(format!("The name \"{}\" is too long for a logical volume", volume.name())));
        }
        match self.exists(volume)? {
            true => Err(Error::exists(format!("Volume \"{}\" already exists", volume.name()))),
            false => Ok(()),
        }
    }

    fn present(&self, volume: &Volume) -> Result<()> {
        match self.exists(volume)? {
            true => Ok(()),
            false => Err(Error::not_found(format!("Volume \"{}\" not found", volume.name()))),
        }
    }

    fn need_image(&self, image: &Fingerprint) -> Result<()> {
        match self.has_image(image)? {
            true => Ok(()),
            false => Err(Error::not_found(format!("Image \"{image}\" is not in the storage pool"))),
        }
    }

    /// Mounts a volume that is there.
    fn open(&self, volume: &Volume) -> Result<PathBuf> {
        let place = Place::of(volume);
        if self.pool.is_mount(&place.rel)? {
            return Ok(self.pool.path(&place.rel));
        }
        self.present(volume)?;
        self.show(&place)
    }

    /// What was put together takes the name of the volume; it is on disk.
    fn appear(&self, volume: &Volume) -> Result<()> {
        let staged = Place::staged(volume);
        if self.pool.is_mount(&staged.rel)? {
            self.pool.sync_at(&staged.rel)?;
        }
        fault::point("storage.volume.staged")?;
        self.relabel(&self.pool.alone()?, &staged, &names::volume(volume))?;
        fault::point("storage.volume.made")
    }

    /// Copies the folder `from` of the pool into a new logical volume at the staging place of `to`.
    fn fill(&self, from: &str, to: &Volume, size: u64) -> Result<()> {
        let staged = Place::staged(to);
        self.make(&staged, size)?;
        let (source, target) = (self.pool.open_dir(from)?, self.pool.open_dir(&staged.rel)?);
        tree::copy_tree(source.as_fd(), target.as_fd(), &Ids::none(), &[])?;
        drop(target);
        self.pool.sync_at(&staged.rel)
    }

    /// A copy of the volume `from` at the staging place of `to`; of another size if that is to have one.
    fn stage_copy(&self, from: &Volume, to: &Volume, size: Option<u64>) -> Result<()> {
        let (source, staged) = (Place::of(from), Place::staged(to));
        self.present(from)?;
        if !self.thin() {
            let size = size.map_or_else(|| self.size(&source.lv), Ok)?;
            self.open(from)?;
            return self.fill(&source.rel, to, size);
        }
        self.clear(&staged)?;
        fault::point("storage.copy.begun")?;
        if from.snapshot_of().is_none() && self.is_of_kind(&source.lv, Kind::Btrfs)? {
            // LVM has the others frozen; this the kernel does not find by its device. A copy does not have what is in a log only.
            self.open(from)?;
            self.pool.sync_at(&source.rel)?;
        }
        self.snapshot(&source.lv, &staged.lv)?;
        size.map_or(Ok(()), |size| self.resize(&staged, size))
    }
}

impl Quotas for Lvm {
    fn can_bound(&self) -> Result<bool> {
        Ok(true)
    }

    fn plan(&self, size: Option<u64>) {
        self.planned.store(size.unwrap_or(0), Ordering::Relaxed);
    }

    fn plan_options(&self, config: &Config) -> Result<()> {
        let planned = self.how.of_volume(config)?;
        *self.of_volume.lock().unwrap_or_else(PoisonError::into_inner) = Some(planned);
        Ok(())
    }

    fn plan_disk(&self, size: u64) {
        self.plan(Some(settings::room_for_disk(size)));
        let how = Settings { format: self.how.format.of_disk(), ..self.how.clone() };
        *self.of_volume.lock().unwrap_or_else(PoisonError::into_inner) = Some(how);
    }

    fn make_room(&self, volume: &Volume, size: u64) -> Result<()> {
        let (place, size) = (Place::of(volume), settings::room_for_disk(size));
        self.present(volume)?;
        if self.size(&place.lv)? >= size { Ok(()) } else { self.resize(&place, size) }
    }

    /// A logical volume always has a size: without one it keeps its own.
    fn set_size(&self, volume: &Volume, size: Option<u64>) -> Result<()> {
        self.present(volume)?;
        let Some(size) = size else { return Ok(()) };
        self.resize(&Place::of(volume), size)
            .with_context(|| format!("Failed setting the size of volume \"{}\"", volume.name()))
    }

    fn space(&self, volume: &Volume) -> Result<Option<Space>> {
        self.open(volume)?;
        let place = Place::of(volume);
        self.pool.space_at(&place.rel, self.size(&place.lv)?).map(Some)
    }
}

impl Records for Lvm {
    fn keep_record(&self, volume: &Volume, text: &str) -> Result<()> {
        self.records()?;
        self.pool.keep_record(volume, text)
    }

    fn kept_record(&self, volume: &Volume) -> Result<Option<String>> {
        self.records()?;
        self.pool.kept_record(volume)
    }

    fn stray_records(&self) -> Result<Vec<Volume>> {
        self.records()?;
        let mut all = self.pool.recorded()?;
        if !all.is_empty() {
            let there = self.group.volumes()?;
            all.retain(|volume| !there.contains(&names::volume(volume)));
        }
        Ok(all)
    }

    fn drop_record(&self, volume: &Volume) -> Result<()> {
        self.records()?;
        self.pool.drop_record(volume)
    }
}

impl Driver for Lvm {
    fn name(&self) -> &'static str {
        DRIVER
    }

    fn caps(&self) -> Caps {
        Caps { instant_clone: self.thin(), uses_image: false, shift_on_disk: false }
    }

    fn create_from_image(&self, volume: &Volume, image: &Fingerprint) -> Result<()> {
        self.absent(volume)?;
        self.need_image(image)?;
        if self.is_copied(image, self.planned())? {
            self.fill(&Pool::image(image), volume, self.planned())?;
            return self.appear(volume);
        }
        self.clear(&Place::staged(volume))?;
        fault::point("storage.volume.begun")?;
        // One step, and on disk when it is done.
        self.snapshot(&names::image(image), &names::volume(volume))?;
        fault::point("storage.volume.made")
    }

    fn create_empty(&self, volume: &Volume) -> Result<()> {
        self.absent(volume)?;
        self.begin_volume(volume)?;
        self.appear(volume)
    }

    fn copy(&self, from: &Volume, to: &Volume) -> Result<()> {
        self.absent(to)?;
        self.stage_copy(from, to, None)?;
        self.appear(to)
    }

    fn begin_restore(&self, from: &Volume, to: &Volume) -> Result<()> {
        self.present(to)?;
        self.stage_copy(from, to, Some(self.size(&names::volume(to))?))
    }

    fn begin_rebuild(&self, volume: &Volume, image: &Fingerprint) -> Result<()> {
        self.present(volume)?;
        self.need_image(image)?;
        let size = self.size(&names::volume(volume))?;
        if self.is_copied(image, size)? {
            return self.fill(&Pool::image(image), volume, size);
        }
        let staged = Place::staged(volume);
        self.clear(&staged)?;
        fault::point("storage.volume.begun")?;
        self.snapshot(&names::image(image), &staged.lv)?;
        self.resize(&staged, size)
    }

    fn finish_restore(&self, to: &Volume) -> Result<Option<Trash>> {
        let (place, staged) = (Place::of(to), Place::staged(to));
        if !self.has(&staged.lv)? {
            return Ok(None);
        }
        if self.pool.is_mount(&staged.rel)? {
            self.pool.sync_at(&staged.rel)?;
        }
        let alone = self.pool.alone()?;
        let old = match self.has(&place.lv)? {
            true => Some(self.discard(&alone, &place)?),
            false => None,
        };
        fault::point("storage.restore.between")?;
        self.relabel(&alone, &staged, &place.lv)?;
        fault::point("storage.restore.done")?;
        Ok(old)
    }

    fn abort_restore(&self, to: &Volume) -> Result<()> {
        self.clear(&Place::staged(to))
    }

    fn begin_volume(&self, volume: &Volume) -> Result<PathBuf> {
        let size = match self.exists(volume)? {
            true => self.size(&names::volume(volume))?,
            false => self.planned(),
        };
        let staged = Place::staged(volume);
        let path = self.make(&staged, size)?;
        if !volume.kind().is_custom() {
            let rootfs = format!("{}/rootfs", staged.rel);
            self.pool.make_dir(&rootfs)?;
            rustix::fs::fchmod(self.pool.open_dir(&rootfs)?, Mode::from_raw_mode(0o755))?;
        }
        Ok(path)
    }

    fn commit_volume(&self, volume: &Volume) -> Result<()> {
        if !self.has(&names::staged(volume))? {
            return Err(Error::not_found(format!("Volume \"{}\" was not begun", volume.name())));
        }
        self.absent(volume)?;
        self.appear(volume)
    }

    fn rename(&self, from: &Volume, to: &Volume) -> Result<()> {
        match (self.exists(from)?, self.exists(to)?) {
            (true, true) => self.absent(to)?,
            (false, true) => {}
            (_, false) => {
                self.present(from)?;
                self.absent(to)?;
                self.relabel(&self.pool.alone()?, &Place::of(from), &names::volume(to))?;
                fault::point("storage.volume.renamed")?;
            }
        }
        self.records()?;
        self.pool.rename_record(from, to)
    }

    fn delete(&self, volume: &Volume) -> Result<Option<Trash>> {
        fault::point("storage.volume.delete")?;
        self.clear(&Place::staged(volume))?;
        let place = Place::of(volume);
        let trash = match self.has(&place.lv)? {
            true => Some(self.discard(&self.pool.alone()?, &place)?),
            false => {
                self.pool.hide(&self.pool.alone()?, &place.rel)?;
                None
            }
        };
        fault::point("storage.volume.trashed")?;
        self.drop_record(volume)?;
        Ok(trash)
    }

    fn exists(&self, volume: &Volume) -> Result<bool> {
        self.has(&names::volume(volume))
    }

    fn list(&self, kind: VolumeKind) -> Result<Vec<Volume>> {
        let mut all: Vec<_> = self.group.volumes()?.iter().filter_map(|name| names::parse_volume(name)).collect();
        all.retain(|volume| volume.kind() == kind);
        all.sort();
        Ok(all)
    }

    fn rootfs(&self, volume: &Volume) -> Result<Rootfs> {
        self.open(volume)?;
        Ok(Rootfs::Dir { path: self.pool.path(&Pool::root(volume)) })
    }

    fn metadata(&self, volume: &Volume) -> Result<PathBuf> {
        self.open(volume)
    }

    fn usage(&self, volume: &Volume) -> Result<Usage> {
        self.open(volume)?;
        tree::usage(self.pool.open_dir(&volume.path())?.as_fd())
    }

    fn shift(&self, _volume: &Volume, _to: &IdMap) -> Result<Option<Trash>> {
        Err(Error::unsupported("The lvm storage driver cannot shift owners on disk").hint(
            "Its volumes are mounted with an id map, which ext4 and xfs support since Linux 5.12, btrfs since 5.15",
        ))
    }

    fn trash(&self) -> Result<Vec<Trash>> {
        let mut all = self.pool.trash()?;
        all.extend(self.group.volumes()?.iter().filter_map(|name| names::parse_trash(name)));
        Ok(all)
    }

    fn empty(&self, trash: &Trash) -> Result<()> {
        self.pool.empty(trash)?;
        let name = names::trash(trash);
        match self.has(&name)? {
            true => self.remove(&name),
            false => Ok(()),
        }
    }
}
