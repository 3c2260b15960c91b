//! Driver `zfs`: each volume is a dataset of its own, in a ZFS pool of the storage pool's or in a dataset that is there. Done by
//! ZFS's programs, as everywhere.
//!
//! A volume: `rootfs/`, `metadata.yaml`, `templates/`, `idmap` if the owners on disk are shifted, as with `dir`; a custom volume is
//! the user's data itself. It is mounted at `<kind>/<name>` in the pool's folder, which is a dataset of its own (`shown`, [`root`]).
//! A dataset's name says what it is ([`names`]): what is being put together and what waits to be removed are called otherwise,
//! and the renaming is one step, on disk when it is done.
//!
//! Unlike Incus, which has an instance's snapshots as those of its dataset, each is a clone here: so any of them can be restored
//! with the later ones staying, and all go one by one.
//!
//! Before ZFS 2.2 there are no id-mapped mounts: the owners are shifted on disk, in a clone that takes the place of the volume.
//! Those of a custom volume are said by a property of its dataset.

mod head;
mod images;
mod names;
mod root;
mod settings;
mod streams;
mod timeline;
mod tool;
mod volumes;
mod zvols;

pub use root::{DRIVER, Root, is_labelled};
pub use settings::Settings;

use super::owners;
use super::pool::Pool;
use super::streams::Streams;
use super::tree;
use super::volume::{Trash, Volume, VolumeKind};
use super::{Caps, Driver, Ids, Quotas, Records, Space, Usage};
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
pub(super) struct Zfs {
    pool: Pool,
    root: Root,
    how: Settings,
    /// Those of the volumes made or changed next ([`Quotas::plan_options`]).
    planned: Mutex<Option<Settings>>,
    /// Size of the next volume to be made in block mode, bytes; 0: the usual one.
    size: AtomicU64,
}

impl Zfs {
    pub fn new(pool: Pool, root: Root, how: Settings) -> Self {
        Self { pool, root, how, planned: Mutex::default(), size: AtomicU64::new(0) }
    }

    /// Size of the next volume in block mode, bytes.
    fn planned_size(&self) -> u64 {
        match self.size.load(Ordering::Relaxed) {
            0 => self.how.size,
            size => size,
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

    /// A copy of the volume `from` at the staging place of `to`.
    fn stage_copy(&self, from: &Volume, to: &Volume) -> Result<()> {
        let (source, staged, block) = (Place::of(from), Place::staged(to), self.is_block(from)?);
        let mut own = if block { self.block_properties(to, &source.set)? } else { self.properties(to)? };
        if from.kind().is_custom() && !block {
            own.push(volumes::say_owners(&self.said_owners(from)?));
        }
        self.clear(&staged)?;
        fault::point("storage.copy.begun")?;
        if block {
            self.settle_block(from)?;
        }
        // A snapshot is a clone always: nothing else would be one.
        let within = [from, to].iter().any(|volume| volume.snapshot_of().is_some());
        if self.how.clone_copy || within {
            return self.snapshot(&source.set, &staged.set, &own);
        }
        self.duplicate(&source.set, &staged.set, &own)
    }

    /// What is staged to take the place of a volume gets its size, if both are in block mode.
    fn keep_size(&self, volume: &Volume) -> Result<()> {
        let (set, staged) = (names::volume(volume), Place::staged(volume));
        if self.block(&set)? != Some(true) || self.block(&staged.set)? != Some(true) {
            return Ok(());
        }
        let size = self.block_size(&set)?;
        match self.block_size(&staged.set)? == size {
            true => Ok(()),
            false => self.resize_block(&staged, Some(size), self.reserves(volume)?),
        }
    }

    /// What is staged takes the place of a volume.
    fn replace(&self, volume: &Volume) -> Result<Option<Trash>> {
        let (place, staged) = (Place::of(volume), Place::staged(volume));
        if self.pool.is_mount(&staged.rel)? {
            self.pool.sync_at(&staged.rel)?;
        }
        let alone = self.pool.alone()?;
        let old = match self.has(&place.set)? {
            true => Some(self.discard(&alone, &place)?),
            false => None,
        };
        fault::point("storage.restore.between")?;
        self.relabel(&alone, &staged, &place.set)?;
        fault::point("storage.restore.done")?;
        Ok(old)
    }
}

impl Quotas for Zfs {
    fn can_bound(&self) -> Result<bool> {
        Ok(true)
    }

    fn plan(&self, size: Option<u64>) {
        self.size.store(size.unwrap_or(0), Ordering::Relaxed);
    }

    fn plan_options(&self, config: &Config) -> Result<()> {
        let planned = self.how.of_volume(config)?;
        *self.planned.lock().unwrap_or_else(PoisonError::into_inner) = Some(planned);
        Ok(())
    }

    fn plan_disk(&self, _size: u64) {
        let how = Settings { block_mode: false, ..self.how() };
        *self.planned.lock().unwrap_or_else(PoisonError::into_inner) = Some(how);
    }

    /// A volume in block mode always has a size: without one it keeps its own.
    fn set_size(&self, volume: &Volume, size: Option<u64>) -> Result<()> {
        let done = match self.is_block(volume)? {
            true => self.resize_block(&Place::of(volume), size, self.how().reserve),
            false => self.resize(&names::volume(volume), size),
        };
        done.with_context(|| format!("Failed setting the size of volume \"{}\"", volume.name()))
    }

    fn space(&self, volume: &Volume) -> Result<Option<Space>> {
        let place = Place::of(volume);
        if self.is_block(volume)? {
            self.open(volume)?;
            return self.pool.space_at(&place.rel, self.block_size(&place.set)?).map(Some);
        }
        let values = tool::get("quota,used,refquota,referenced", &self.root.at(&place.set))?;
        let values = values.ok_or_else(|| Error::not_found(format!("Volume \"{}\" not found", volume.name())))?;
        let number = |at: usize| values.get(at).and_then(|v| v.parse().ok()).unwrap_or(0u64);
        let of = |at: usize| (number(at) > 0).then(|| Space { total: number(at), used: number(at + 1) });
        Ok(of(0).or_else(|| of(2)))
    }
}

impl Records for Zfs {
    fn keep_record(&self, volume: &Volume, text: &str) -> Result<()> {
        self.pool.keep_record(volume, text)
    }

    fn kept_record(&self, volume: &Volume) -> Result<Option<String>> {
        self.pool.kept_record(volume)
    }

    fn stray_records(&self) -> Result<Vec<Volume>> {
        let mut stray = Vec::new();
        for volume in self.pool.recorded()? {
            if !self.exists(&volume)? {
                stray.push(volume);
            }
        }
        Ok(stray)
    }

    fn drop_record(&self, volume: &Volume) -> Result<()> {
        self.pool.drop_record(volume)
    }
}

impl Driver for Zfs {
    fn name(&self) -> &'static str {
        DRIVER
    }

    fn caps(&self) -> Caps {
        Caps { instant_clone: true, uses_image: false, shift_on_disk: true }
    }

    fn create_from_image(&self, volume: &Volume, image: &Fingerprint) -> Result<()> {
        self.absent(volume)?;
        let how = self.how();
        let Some(form) = self.form_for(image, &how, self.planned_size())? else {
            self.fill(image, volume, self.planned_size(), &how)?;
            return self.appear(volume);
        };
        self.clear(&Place::staged(volume))?;
        fault::point("storage.volume.begun")?;
        // One step, and on disk when it is done.
        self.clone_image(&form.set, &names::volume(volume), &self.properties_of(volume, &form, &how)?)?;
        fault::point("storage.volume.made")
    }

    fn create_empty(&self, volume: &Volume) -> Result<()> {
        self.absent(volume)?;
        self.begin_volume(volume)?;
        self.appear(volume)
    }

    fn copy(&self, from: &Volume, to: &Volume) -> Result<()> {
        self.absent(to)?;
        self.stage_copy(from, to)?;
        self.appear(to)
    }

    fn begin_restore(&self, from: &Volume, to: &Volume) -> Result<()> {
        self.present(to)?;
        self.stage_copy(from, to)?;
        self.keep_size(to)
    }

    fn begin_rebuild(&self, volume: &Volume, image: &Fingerprint) -> Result<()> {
        // It stays what it is.
        let block_mode = self.is_block(volume)?;
        let (staged, how) = (Place::staged(volume), Settings { block_mode, ..self.how() });
        let size = if block_mode { self.block_size(&names::volume(volume))? } else { 0 };
        let Some(form) = self.form_for(image, &how, size)? else { return self.fill(image, volume, size, &how) };
        let own = self.properties_of(volume, &form, &how)?;
        self.clear(&staged)?;
        fault::point("storage.volume.begun")?;
        self.clone_image(&form.set, &staged.set, &own)?;
        self.keep_size(volume)
    }

    fn finish_restore(&self, to: &Volume) -> Result<Option<Trash>> {
        match self.has(&names::staged(to))? {
            true => self.replace(to),
            false => Ok(None),
        }
    }

    fn abort_restore(&self, to: &Volume) -> Result<()> {
        self.abandon(to)
    }

    fn begin_volume(&self, volume: &Volume) -> Result<PathBuf> {
        let (staged, how, there) = (Place::staged(volume), self.how(), self.block(&names::volume(volume))?);
        // What takes the place of one is what that is.
        let path = match (there.unwrap_or(how.block_mode), there) {
            (false, _) => self.make(&staged, &self.properties(volume)?)?,
            (true, there) => {
                let size = if there.is_some() { self.block_size(&names::volume(volume))? } else { self.planned_size() };
                self.make_block(&staged, size, (&how, self.reserves(volume)?))?
            }
        };
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

    fn owners(&self, volume: &Volume) -> Result<IdMap> {
        if volume.kind().is_custom() {
            return self.said_owners(volume);
        }
        self.open(volume)?;
        owners::read(&self.pool, &volume.path())
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
        self.pool.rename_record(from, to)
    }

    fn delete(&self, volume: &Volume) -> Result<Option<Trash>> {
        fault::point("storage.volume.delete")?;
        self.abandon(volume)?;
        let place = Place::of(volume);
        let trash = match self.has(&place.set)? {
            true => Some(self.discard(&self.pool.alone()?, &place)?),
            false => {
                self.pool.hide(&self.pool.alone()?, &place.rel)?;
                None
            }
        };
        fault::point("storage.volume.trashed")?;
        self.pool.drop_record(volume)?;
        Ok(trash)
    }

    fn exists(&self, volume: &Volume) -> Result<bool> {
        self.has(&names::volume(volume))
    }

    fn list(&self, kind: VolumeKind) -> Result<Vec<Volume>> {
        self.listed(kind.folder(), |name| names::parse_volume(kind, name))
    }

    fn rootfs(&self, volume: &Volume) -> Result<Rootfs> {
        self.open(volume)?;
        Ok(Rootfs::Dir { path: self.pool.path(&Pool::root(volume)) })
    }

    fn metadata(&self, volume: &Volume) -> Result<PathBuf> {
        self.open(volume)
    }

    fn maps_ids(&self, volume: &Volume) -> Result<bool> {
        Ok(self.block(&names::volume(volume))? == Some(true))
    }

    fn usage(&self, volume: &Volume) -> Result<Usage> {
        self.open(volume)?;
        tree::usage(self.pool.open_dir(&volume.path())?.as_fd())
    }

    /// In a clone that is shifted in place: it shares all data with what it takes the place of.
    fn shift(&self, volume: &Volume, to: &IdMap) -> Result<Option<Trash>> {
        let staged = Place::staged(volume);
        if !self.exists(volume)? && self.has(&staged.set)? {
            // A kill between the two renames: the new tree is whole.
            self.replace(volume)?;
        }
        if self.owners(volume)? == *to {
            return Ok(None);
        }
        self.begin_shift(volume, to)?;
        self.replace(volume)
    }

    fn shifts_in_steps(&self) -> bool {
        true
    }

    fn begin_shift(&self, volume: &Volume, to: &IdMap) -> Result<()> {
        self.open(volume)?;
        let (from, staged) = (self.owners(volume)?, Place::staged(volume));
        self.abandon(volume)?;
        let (set, custom) = (names::volume(volume), volume.kind().is_custom());
        let mut own = match self.is_block(volume)? {
            true => {
                self.settle_block(volume)?;
                self.block_properties(volume, &set)?
            }
            false => self.properties(volume)?,
        };
        if custom {
            own.push(volumes::say_owners(to));
        }
        self.snapshot(&set, &staged.set, &own)?;
        self.show(&staged)?;
        let root = self.pool.open_dir(&format!("{}{}", staged.rel, if custom { "" } else { "/rootfs" }))?;
        tree::shift_tree(root.as_fd(), &Ids::change(&from, to))?;
        drop(root);
        if !custom {
            owners::write(&self.pool, &staged.rel, to)?;
        }
        fault::point("storage.shift.copied")
    }

    fn streams(&self) -> Option<&dyn Streams> {
        Some(self)
    }

    fn trash(&self) -> Result<Vec<Trash>> {
        let mut all = self.listed(names::DELETED, names::parse_trash)?;
        all.extend(self.pool.trash()?);
        Ok(all)
    }

    fn empty(&self, trash: &Trash) -> Result<()> {
        self.pool.empty(trash)?;
        self.remove(&names::trash(trash), !names::was_image(trash))
    }
}
