//! Driver `btrfs`: images and volumes are subvolumes, made from each other by snapshots in a time that does not depend on
//! their size. All of it by ioctl (`sys::btrfs`), no program is run.
//!
//! A volume: `rootfs/`, `metadata.yaml`, `templates/`, as with `dir`; a custom volume is the user's data itself. Volumes do not
//! need their image any more: blocks are shared, not names. Subvolumes that a guest has made in its own are copied and removed
//! with it, as Incus does. Nothing is marked read-only: a read-only subvolume cannot be moved to the trash, and nobody but us
//! gets at an image.
//!
//! A size is a limit on what the volume's subvolume refers to, its image's blocks too, as in Incus. Quotas are turned on for
//! the file system when the first volume gets a size. What a guest puts into subvolumes that it makes itself is not counted.
mod streams;
mod tree;

use super::pool::Pool;
use super::streams::Streams;
use super::volume::{Staging, Trash, Volume, VolumeKind};
use super::{Caps, Driver, ImageFate, Images, Quotas, Records, Space, Usage, tree as files};
use crate::base::idmap::IdMap;
use crate::base::names::Fingerprint;
use crate::error::{Context, Error, Result};
use crate::fault;
use crate::model::attach::Rootfs;
use crate::sys::{btrfs, qgroup};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::Mode;
use std::ffi::CString;
use std::path::PathBuf;

/// Less than the n-th part being free is little.
const SCARCE: u64 = 8;

/// See the module.
#[derive(Debug)]
pub(super) struct Btrfs {
    pool: Pool,
}

impl Btrfs {
    /// # Errors
    /// The pool's folder is not on btrfs.
    pub fn new(pool: Pool) -> Result<Self> {
        if !btrfs::is_btrfs(pool.open_dir("images")?.as_fd())? {
            let message =
                format!("Storage pool directory \"{}\" is not on a btrfs filesystem", pool.path("").display());
            return Err(Error::invalid(message));
        }
        Ok(Self { pool })
    }

    /// The folder that `rel` is in, open, and its name there.
    fn place(&self, rel: &str) -> Result<(OwnedFd, CString)> {
        let (folder, name) = rel.split_once('/').ok_or_else(|| Error::internal("Not a path in a pool"))?;
        let name = CString::new(name).map_err(|_| Error::invalid("Invalid volume name"))?;
        Ok((self.pool.open_dir(folder)?, name))
    }

    /// Makes an empty subvolume at `rel`, 0700; what was there is thrown away.
    fn make(&self, rel: &str) -> Result<()> {
        self.pool.remove(rel)?;
        let (folder, name) = self.place(rel)?;
        btrfs::create(folder.as_fd(), &name)
            .map_err(Error::from)
            .with_context(|| format!("Failed creating subvolume \"{}\"", self.pool.path(rel).display()))?;
        Ok(rustix::fs::fchmod(self.pool.open_dir(rel)?, Mode::RWXU)?)
    }

    /// A copy of the volume `from` at the staging place of `to`.
    fn stage_copy(&self, from: &Volume, to: &Volume) -> Result<()> {
        self.pool.present(from)?;
        self.pool.remove(&to.staged())?;
        fault::point("storage.copy.begun")?;
        self.snapshot(&from.path(), &to.staged(), true)
    }

    fn bound(&self, rel: &str, size: Option<u64>) -> Result<()> {
        let (folder, outside) = (self.pool.open_dir(rel)?, self.place(rel)?.0);
        let (folder, outside) = (folder.as_fd(), outside.as_fd());
        let Some(size) = size else {
            let bounded = qgroup::read(folder)?.is_some_and(|group| group.most != 0);
            return if bounded { Ok(qgroup::limit(folder, outside, 0)?) } else { Ok(()) };
        };
        if qgroup::read(folder)?.is_none() {
            qgroup::enable(folder)?;
            fault::point("storage.size.enabled")?;
        }
        qgroup::limit(folder, outside, size)?;
        // What was written lately is counted with this.
        Ok(btrfs::free_now(folder)?)
    }

    /// What is staged to take the place of a volume gets its size.
    fn carry(&self, volume: &Volume) -> Result<()> {
        if !self.pool.has(&volume.path())? {
            return Ok(());
        }
        self.space(volume)?.map_or(Ok(()), |space| self.bound(&volume.staged(), Some(space.total)))
    }

    fn appear(&self, volume: &Volume) -> Result<()> {
        self.pool.appear(volume)?;
        self.settle(volume)
    }

    /// That a subvolume was renamed is on disk when the folder it is in is: its own fsync(2) has nothing to write.
    fn settle(&self, volume: &Volume) -> Result<()> {
        self.pool.settle(volume.kind().folder())
    }

    /// Makes `to` a snapshot of `from`, with what is nested in that if `whole`; without, it appears at once.
    fn snapshot(&self, from: &str, to: &str, whole: bool) -> Result<()> {
        let source = self.pool.open_dir(from)?;
        let (folder, name) = self.place(to)?;
        let make = if whole { btrfs::snapshot_tree } else { btrfs::snapshot };
        make(source.as_fd(), folder.as_fd(), &name)
            .map_err(Error::from)
            .with_context(|| format!("Failed creating snapshot \"{}\"", self.pool.path(to).display()))
    }
}

impl Images for Btrfs {
    fn begin_image(&self, staging: &Staging) -> Result<PathBuf> {
        self.make(&staging.path())?;
        Ok(self.pool.path(&staging.path()))
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

impl Quotas for Btrfs {
    fn can_bound(&self) -> Result<bool> {
        Ok(true)
    }

    fn set_size(&self, volume: &Volume, size: Option<u64>) -> Result<()> {
        self.pool.present(volume)?;
        self.bound(&volume.path(), size)
            .with_context(|| format!("Failed setting the size of volume \"{}\"", volume.name()))
    }

    fn space(&self, volume: &Volume) -> Result<Option<Space>> {
        let folder = self.pool.open_dir(&volume.path())?;
        let group = qgroup::read(folder.as_fd())?.filter(|group| group.most != 0);
        Ok(group.map(|group| Space { used: group.used, total: group.most }))
    }
}

impl Records for Btrfs {
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

impl Driver for Btrfs {
    fn name(&self) -> &'static str {
        "btrfs"
    }

    fn caps(&self) -> Caps {
        Caps { instant_clone: true, uses_image: false, shift_on_disk: false }
    }

    fn create_from_image(&self, volume: &Volume, image: &Fingerprint) -> Result<()> {
        self.pool.absent(volume)?;
        self.pool.need_image(image)?;
        self.pool.remove(&volume.staged())?;
        fault::point("storage.volume.begun")?;
        // One step, and on disk when it is done: an image has nothing nested in it.
        self.snapshot(&Pool::image(image), &volume.path(), false)?;
        fault::point("storage.volume.made")
    }

    fn create_empty(&self, volume: &Volume) -> Result<()> {
        self.pool.absent(volume)?;
        self.begin_volume(volume)?;
        self.appear(volume)
    }

    fn copy(&self, from: &Volume, to: &Volume) -> Result<()> {
        self.pool.absent(to)?;
        self.pool.present(from)?;
        if btrfs::has_nested(self.pool.open_dir(&from.path())?.as_fd())? {
            self.stage_copy(from, to)?;
            return self.appear(to);
        }
        self.pool.remove(&to.staged())?;
        fault::point("storage.copy.begun")?;
        // One step, and on disk when it is done.
        self.snapshot(&from.path(), &to.path(), false)?;
        fault::point("storage.volume.made")
    }

    fn begin_restore(&self, from: &Volume, to: &Volume) -> Result<()> {
        self.pool.present(to)?;
        self.stage_copy(from, to)?;
        self.carry(to)
    }

    fn begin_rebuild(&self, volume: &Volume, image: &Fingerprint) -> Result<()> {
        self.pool.present(volume)?;
        self.pool.need_image(image)?;
        self.pool.remove(&volume.staged())?;
        fault::point("storage.volume.begun")?;
        self.snapshot(&Pool::image(image), &volume.staged(), false)?;
        self.carry(volume)
    }

    fn finish_restore(&self, to: &Volume) -> Result<Option<Trash>> {
        self.pool.replace_volume(to)
    }

    fn abort_restore(&self, to: &Volume) -> Result<()> {
        self.pool.remove(&to.staged())
    }

    fn begin_volume(&self, volume: &Volume) -> Result<PathBuf> {
        let staged = volume.staged();
        self.make(&staged)?;
        if !volume.kind().is_custom() {
            let rootfs = format!("{staged}/rootfs");
            self.pool.make_dir(&rootfs)?;
            rustix::fs::fchmod(self.pool.open_dir(&rootfs)?, Mode::from_raw_mode(0o755))?;
        }
        self.carry(volume)?;
        Ok(self.pool.path(&staged))
    }

    fn commit_volume(&self, volume: &Volume) -> Result<()> {
        self.pool.commit_volume(volume)?;
        self.settle(volume)
    }

    fn rename(&self, from: &Volume, to: &Volume) -> Result<()> {
        self.pool.rename_volume(from, to)
    }

    fn delete(&self, volume: &Volume) -> Result<Option<Trash>> {
        // It could not be moved: sealed by us, or by whoever owns the root of a custom volume.
        match self.pool.open_dir(&volume.path()) {
            Ok(folder) if btrfs::is_read_only(folder.as_fd()).unwrap_or(false) => {
                btrfs::set_read_only(folder.as_fd(), false)?
            }
            _ => {}
        }
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
        files::usage(self.pool.open_dir(&volume.path())?.as_fd())
    }

    fn shift(&self, _volume: &Volume, _to: &IdMap) -> Result<Option<Trash>> {
        Err(Error::unsupported("The btrfs storage driver cannot shift owners on disk")
            .hint("Its volumes are mounted with an id map, which btrfs supports since Linux 5.15"))
    }

    fn streams(&self) -> Option<&dyn Streams> {
        Some(self)
    }

    fn trash(&self) -> Result<Vec<Trash>> {
        self.pool.trash()
    }

    fn empty(&self, trash: &Trash) -> Result<()> {
        if let Ok(folder) = self.pool.open_dir(&trash.path()) {
            qgroup::forget(folder.as_fd());
        }
        self.pool.empty(trash)?;
        // Where there is little room, whoever makes some wants it now.
        let folder = self.pool.open_dir("trash")?;
        let space = rustix::fs::fstatvfs(&folder)?;
        if space.f_bavail < space.f_blocks / SCARCE {
            let _ = btrfs::free_now(folder.as_fd());
        }
        Ok(())
    }
}
