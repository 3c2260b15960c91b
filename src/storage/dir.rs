//! Driver `dir`: every volume is a full copy in a folder. Works on any file system; where that can share blocks between
//! files (btrfs, xfs, bcachefs) a copy takes little room and no data is moved.
//!
//! A volume: `rootfs/`, `metadata.yaml`, `templates/`, and `idmap` if the owners on disk are shifted. A custom volume is the
//! folder of the user's data itself.
//!
//! Shifting makes a second copy beside the first, with the map it has written inside it, and swaps the two by one rename:
//! at each moment the volume has either all old or all new owners and says itself which. An in-place walk would need no
//! second copy, but after a kill nobody could tell a shifted file from an unshifted one without a mark on each inode, and
//! file systems without id-mapped mounts are those without extended attributes to put it in.

use super::owners;
use super::pool::Pool;
use super::tree::{self, Ids};
use super::volume::{Staging, Trash, Volume, VolumeKind};
use super::{Caps, Driver, ImageFate, Images, Quotas, Records, Space, Usage, quota};
use crate::base::idmap::IdMap;
use crate::base::names::Fingerprint;
use crate::error::{Error, Result};
use crate::fault;
use crate::model::attach::Rootfs;
use rustix::fd::AsFd;
use std::ffi::CStr;
use std::path::PathBuf;

/// See the module.
#[derive(Debug)]
pub(super) struct Dir {
    pool: Pool,
}

impl Dir {
    pub fn new(pool: Pool) -> Self {
        Self { pool }
    }

    /// Copies the folder `from` of the pool to the staging place of `volume`.
    fn fill(&self, from: &str, volume: &Volume, ids: &Ids, skip: &[&CStr]) -> Result<()> {
        self.pool.stage(&volume.staged())?;
        fault::point("storage.volume.begun")?;
        let source = self.pool.open_dir(from)?;
        let target = self.pool.open_dir(&volume.staged())?;
        tree::copy_tree(source.as_fd(), target.as_fd(), ids, skip)?;
        Ok(())
    }

    /// A swap that had to be done in two renames and was cut between them is finished: the new tree is whole, since its map
    /// is written last.
    fn finish_swap(&self, volume: &Volume) -> Result<()> {
        if !self.pool.has(&volume.path())? && owners::is_said(&self.pool, &volume.staged())? {
            self.pool.rename(&volume.staged(), &volume.path())?;
        }
        Ok(())
    }
}

impl Images for Dir {
    fn begin_image(&self, staging: &Staging) -> Result<PathBuf> {
        self.pool.begin_image(staging)
    }

    fn commit_image(&self, staging: &Staging, image: &Fingerprint) -> Result<()> {
        self.pool.commit_image(staging, image)
    }

    fn abort_image(&self, staging: &Staging) -> Result<Option<Trash>> {
        self.pool.abort_image(staging)
    }

    fn staged_images(&self) -> Result<Vec<Staging>> {
        self.pool.staged_images()
    }

    fn has_image(&self, image: &Fingerprint) -> Result<bool> {
        self.pool.has_image(image)
    }

    fn image_metadata(&self, image: &Fingerprint) -> PathBuf {
        self.pool.path(&Pool::image(image))
    }

    fn delete_image(&self, image: &Fingerprint) -> Result<ImageFate> {
        self.pool.discard_image(image).map(ImageFate::Gone)
    }

    fn image_users(&self, _image: &Fingerprint) -> Result<Vec<Volume>> {
        Ok(Vec::new())
    }

    fn images(&self) -> Result<Vec<Fingerprint>> {
        self.pool.images()
    }
}

impl Quotas for Dir {
    fn can_bound(&self) -> Result<bool> {
        quota::can_bound(&self.pool)
    }

    fn set_size(&self, volume: &Volume, size: Option<u64>) -> Result<()> {
        quota::set_size(&self.pool, volume, size)
    }

    fn space(&self, volume: &Volume) -> Result<Option<Space>> {
        quota::space(&self.pool, volume)
    }
}

impl Records for Dir {
    fn keep_record(&self, volume: &Volume, text: &str) -> Result<()> {
        self.pool.keep_record(volume, text)
    }

    fn kept_record(&self, volume: &Volume) -> Result<Option<String>> {
        self.pool.kept_record(volume)
    }

    fn stray_records(&self) -> Result<Vec<Volume>> {
        self.pool.stray_records()
    }

    fn drop_record(&self, volume: &Volume) -> Result<()> {
        self.pool.drop_record(volume)
    }
}

impl Driver for Dir {
    fn name(&self) -> &'static str {
        "dir"
    }

    fn caps(&self) -> Caps {
        Caps { instant_clone: false, uses_image: false, shift_on_disk: true }
    }

    fn create_from_image(&self, volume: &Volume, image: &Fingerprint) -> Result<()> {
        self.pool.absent(volume)?;
        self.pool.need_image(image)?;
        self.fill(&Pool::image(image), volume, &Ids::none(), &[])?;
        self.pool.appear(volume)
    }

    fn create_empty(&self, volume: &Volume) -> Result<()> {
        self.pool.create_empty(volume)
    }

    fn copy(&self, from: &Volume, to: &Volume) -> Result<()> {
        self.pool.present(from)?;
        self.pool.absent(to)?;
        self.fill(&from.path(), to, &Ids::none(), &[])?;
        self.pool.sync()?;
        self.pool.appear(to)
    }

    fn begin_restore(&self, from: &Volume, to: &Volume) -> Result<()> {
        self.pool.present(from)?;
        self.pool.present(to)?;
        self.fill(&from.path(), to, &Ids::none(), &[])?;
        quota::carry(&self.pool, to)?;
        self.pool.sync()
    }

    fn begin_rebuild(&self, volume: &Volume, image: &Fingerprint) -> Result<()> {
        self.pool.present(volume)?;
        self.pool.need_image(image)?;
        self.fill(&Pool::image(image), volume, &Ids::none(), &[])?;
        quota::carry(&self.pool, volume)
    }

    fn finish_restore(&self, to: &Volume) -> Result<Option<Trash>> {
        self.pool.replace_volume(to)
    }

    fn abort_restore(&self, to: &Volume) -> Result<()> {
        self.pool.remove(&to.staged())
    }

    fn begin_volume(&self, volume: &Volume) -> Result<PathBuf> {
        let folder = self.pool.begin_volume(volume)?;
        quota::carry(&self.pool, volume)?;
        Ok(folder)
    }

    fn commit_volume(&self, volume: &Volume) -> Result<()> {
        self.pool.commit_volume(volume)
    }

    fn owners(&self, volume: &Volume) -> Result<IdMap> {
        self.pool.present(volume)?;
        // What lies in a custom volume is no file of ours.
        if volume.kind().is_custom() { Ok(IdMap::default()) } else { owners::read(&self.pool, &volume.path()) }
    }

    fn rename(&self, from: &Volume, to: &Volume) -> Result<()> {
        self.pool.rename_volume(from, to)
    }

    fn delete(&self, volume: &Volume) -> Result<Option<Trash>> {
        self.pool.discard_volume(volume)
    }

    fn exists(&self, volume: &Volume) -> Result<bool> {
        self.pool.has(&volume.path())
    }

    fn list(&self, kind: VolumeKind) -> Result<Vec<Volume>> {
        self.pool.volumes(kind)
    }

    fn rootfs(&self, volume: &Volume) -> Result<Rootfs> {
        self.pool.present(volume)?;
        Ok(Rootfs::Dir { path: self.pool.path(&Pool::root(volume)) })
    }

    fn metadata(&self, volume: &Volume) -> Result<PathBuf> {
        self.pool.present(volume)?;
        Ok(self.pool.path(&volume.path()))
    }

    fn usage(&self, volume: &Volume) -> Result<Usage> {
        self.pool.present(volume)?;
        tree::usage(self.pool.open_dir(&volume.path())?.as_fd())
    }

    fn shift(&self, volume: &Volume, to: &IdMap) -> Result<Option<Trash>> {
        if volume.kind().is_custom() {
            return Err(Error::unsupported("The owners in a custom volume are never shifted"));
        }
        self.finish_swap(volume)?;
        self.pool.present(volume)?;
        let from = owners::read(&self.pool, &volume.path())?;
        if from == *to {
            // The old tree may be left from a swap that was cut before it was thrown away.
            return self.pool.discard(&volume.staged());
        }
        // Only the root file system has the container's owners; metadata and templates stay ours.
        self.fill(&volume.path(), volume, &Ids::none(), &[owners::NAME, c"rootfs"])?;
        let (staged, rootfs) = (volume.staged(), format!("{}/rootfs", volume.path()));
        let new_rootfs = format!("{staged}/rootfs");
        self.pool.make_dir(&new_rootfs)?;
        let (source, target) = (self.pool.open_dir(&rootfs)?, self.pool.open_dir(&new_rootfs)?);
        tree::copy_tree(source.as_fd(), target.as_fd(), &Ids::change(&from, to), &[])?;
        owners::write(&self.pool, &staged, to)?;
        quota::carry(&self.pool, volume)?;
        // The old tree goes after this: unlike a fresh volume it is not to be had again.
        self.pool.sync()?;
        fault::point("storage.shift.copied")?;
        if self.pool.exchange(&staged, &volume.path())? {
            fault::point("storage.shift.swapped")?;
            return self.pool.discard(&staged);
        }
        let old = self.pool.discard(&volume.path())?;
        fault::point("storage.shift.between")?;
        self.pool.rename(&staged, &volume.path())?;
        Ok(old)
    }

    fn trash(&self) -> Result<Vec<Trash>> {
        self.pool.trash()
    }

    fn empty(&self, trash: &Trash) -> Result<()> {
        quota::give_back(&self.pool, trash);
        self.pool.empty(trash)
    }
}
