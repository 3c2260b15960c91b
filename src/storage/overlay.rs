//! Driver `overlay`: a volume is a writable layer over the image's tree, joined by overlayfs when the instance starts. A
//! volume is made by a handful of calls, whatever the image's size.
//!
//! A volume: `upper/`, `work/`, and `image`, a symbolic link to the image's folder. Below it come the layers of the image (`layers`),
//! or its `rootfs`. A volume without an image (made empty) is a plain `rootfs/`; one whose metadata were changed has them itself; a
//! custom volume is the folder of the user's data itself.
//!
//! An image in use stays. Each user has a mark, the name `images/<fingerprint>.users/<volume>`. It is made before the volume
//! appears and removed after it is gone, so that a kill in between leaves a mark too many, never one too few; a mark whose
//! volume is not there or uses another image is stale and dropped when it is next seen.

use super::pool::Pool;
use super::tree::{self, Ids};
use super::volume::{Staging, Trash, Volume, VolumeKind};
use super::{Caps, Driver, ImageFate, Images, Layers, Quotas, Records, Space, Usage, layers, quota};
use crate::base::idmap::IdMap;
use crate::base::names::Fingerprint;
use crate::error::{Context, Error, Result};
use crate::fault;
use crate::model::attach::Rootfs;
use rustix::fd::AsFd;
use std::path::PathBuf;

/// See the module.
#[derive(Debug)]
pub(super) struct Overlay {
    pool: Pool,
}

fn users(image: &Fingerprint) -> String {
    format!("images/{image}.users")
}

fn mark(image: &Fingerprint, volume: &Volume) -> String {
    format!("images/{image}.users/{}", volume.token())
}

/// The text of a link to the image, the same in a volume's folder and in the folder of marks.
fn link_text(image: &Fingerprint) -> String {
    format!("../../{}", Pool::image(image))
}

impl Overlay {
    pub fn new(pool: Pool) -> Self {
        Self { pool }
    }

    /// The image of the volume at `rel`; None if it has none or is not there. No link in a custom volume is ours.
    fn image_of(&self, rel: &str) -> Result<Option<Fingerprint>> {
        let custom = |k: VolumeKind| k.is_custom() && rel.split('/').next() == Some(k.folder());
        if VolumeKind::ALL.into_iter().any(custom) {
            return Ok(None);
        }
        let Some(text) = self.pool.read_link(&format!("{rel}/image"))? else { return Ok(None) };
        let name = text.rsplit('/').next().unwrap_or_default();
        Fingerprint::parse(name).map(Some).with_context(|| format!("Bad image link in volume \"{rel}\""))
    }

    /// Makes a link to the image at `rel`: another name of the one link each image has, because names are cheap and inodes
    /// are not (ext4 takes 20 us for one, 300 after many were deleted lately).
    fn link_image(&self, image: &Fingerprint, rel: &str) -> Result<()> {
        let (folder, text) = (users(image), link_text(image));
        let first = format!("{folder}/.image");
        if self.pool.second_name(&first, rel)? {
            return Ok(());
        }
        self.pool.make_dir(&folder)?;
        self.pool.link(&text, &first)?;
        if !self.pool.second_name(&first, rel)? {
            // As many names as the file system allows.
            self.pool.link(&text, rel)?;
        }
        Ok(())
    }

    fn add_mark(&self, image: &Fingerprint, volume: &Volume) -> Result<()> {
        self.link_image(image, &mark(image, volume))?;
        self.pool.settle(&users(image))
    }

    fn drop_mark(&self, image: Option<&Fingerprint>, volume: &Volume) -> Result<()> {
        image.map_or(Ok(()), |image| self.pool.unlink(&mark(image, volume)))
    }

    /// The volumes that use an image; stale marks are removed.
    fn users_of(&self, image: &Fingerprint) -> Result<Vec<Volume>> {
        let folder = users(image);
        if !self.pool.has(&folder)? {
            return Ok(Vec::new());
        }
        let mut found = Vec::new();
        for name in self.pool.names(&folder)? {
            let volume = Volume::parse(&name)?;
            match self.image_of(&volume.path())? {
                Some(used) if used == *image => found.push(volume),
                _ => self.pool.unlink(&format!("{folder}/{name}"))?,
            }
        }
        Ok(found)
    }

    /// A volume of an image at the staging place of `volume`.
    fn stage_layers(&self, volume: &Volume, image: &Fingerprint) -> Result<()> {
        self.pool.need_image(image)?;
        self.add_mark(image, volume)?;
        fault::point("storage.volume.marked")?;
        let staged = volume.staged();
        self.pool.stage(&staged)?;
        fault::point("storage.volume.begun")?;
        self.make_layers(&staged, image)
    }

    /// A copy of the volume `from` at the staging place of `to`, on disk; the image of both.
    fn stage_copy(&self, from: &Volume, to: &Volume) -> Result<Option<Fingerprint>> {
        self.pool.present(from)?;
        let image = self.image_of(&from.path())?;
        if let Some(image) = &image {
            self.add_mark(image, to)?;
        }
        let staged = to.staged();
        self.pool.stage(&staged)?;
        fault::point("storage.copy.begun")?;
        let (source, target) = (self.pool.open_dir(&from.path())?, self.pool.open_dir(&staged)?);
        // Whiteouts and overlayfs's own attributes are copied like any other; they are good over the same image. The work
        // folder holds nothing that lasts.
        tree::copy_tree(source.as_fd(), target.as_fd(), &Ids::none(), if image.is_some() { &[c"work"] } else { &[] })?;
        if image.is_some() {
            self.pool.make_dir(&format!("{staged}/work"))?;
        }
        self.pool.sync()?;
        Ok(image)
    }

    /// The writable layer's root must look as the image's: overlayfs shows the upper one.
    fn make_layers(&self, staged: &str, image: &Fingerprint) -> Result<()> {
        let upper = format!("{staged}/upper");
        self.pool.make_dir(&upper)?;
        self.pool.make_dir(&format!("{staged}/work"))?;
        self.link_image(image, &format!("{staged}/image"))?;
        let lower = self.pool.open_dir(&layers::lower(&self.pool, image)?[0])?;
        tree::copy_root_attributes(lower.as_fd(), self.pool.open_dir(&upper)?.as_fd())
    }
}

impl Images for Overlay {
    fn begin_image(&self, staging: &Staging) -> Result<PathBuf> {
        self.pool.begin_image(staging)
    }

    fn commit_image(&self, staging: &Staging, image: &Fingerprint) -> Result<()> {
        if self.pool.has_image(image)? {
            return self.abort_image(staging)?.map_or(Ok(()), |trash| self.pool.empty(&trash));
        }
        self.pool.make_dir(&users(image))?;
        self.pool.link(&link_text(image), &format!("{}/.image", users(image)))?;
        self.pool.commit_image(staging, image)
    }

    fn abort_image(&self, staging: &Staging) -> Result<Option<Trash>> {
        layers::discard(&self.pool, &staging.path())
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
        let used = self.users_of(image)?;
        if !used.is_empty() {
            return Ok(ImageFate::InUse(used));
        }
        fault::point("storage.image.delete")?;
        let gone = layers::discard(&self.pool, &Pool::image(image))?;
        self.pool.remove(&users(image))?;
        Ok(ImageFate::Gone(gone))
    }

    fn image_users(&self, image: &Fingerprint) -> Result<Vec<Volume>> {
        self.users_of(image)
    }

    fn images(&self) -> Result<Vec<Fingerprint>> {
        self.pool.images()
    }

    fn image_remains(&self) -> Result<Vec<Fingerprint>> {
        let names = self.pool.names("images")?;
        let marked = names.iter().filter_map(|name| Fingerprint::parse(name.strip_suffix(".users")?).ok());
        let images = self.pool.images()?;
        let marked = marked.filter(|image| !images.contains(image));
        Ok(marked.chain(layers::without_image(&self.pool)?).collect())
    }

    fn layers(&self) -> Option<&dyn Layers> {
        Some(&self.pool)
    }
}

impl Quotas for Overlay {
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

impl Records for Overlay {
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

impl Driver for Overlay {
    fn name(&self) -> &'static str {
        "overlay"
    }

    fn caps(&self) -> Caps {
        Caps { instant_clone: true, uses_image: true, shift_on_disk: false }
    }

    fn create_from_image(&self, volume: &Volume, image: &Fingerprint) -> Result<()> {
        self.pool.absent(volume)?;
        self.stage_layers(volume, image)?;
        self.pool.appear(volume)
    }

    fn create_empty(&self, volume: &Volume) -> Result<()> {
        self.pool.create_empty(volume)
    }

    fn copy(&self, from: &Volume, to: &Volume) -> Result<()> {
        self.pool.absent(to)?;
        let image = self.stage_copy(from, to)?;
        self.pool.appear(to)?;
        // Whoever looked for users meanwhile found none for the mark. The image is there: `from` is one.
        image.map_or(Ok(()), |image| self.add_mark(&image, to))
    }

    fn begin_restore(&self, from: &Volume, to: &Volume) -> Result<()> {
        self.pool.present(to)?;
        self.stage_copy(from, to)?;
        quota::carry(&self.pool, to)
    }

    fn begin_rebuild(&self, volume: &Volume, image: &Fingerprint) -> Result<()> {
        self.pool.present(volume)?;
        self.stage_layers(volume, image)?;
        quota::carry(&self.pool, volume)
    }

    fn finish_restore(&self, to: &Volume) -> Result<Option<Trash>> {
        if !self.pool.has(&to.staged())? {
            return Ok(None);
        }
        let (old, new) = (self.image_of(&to.path())?, self.image_of(&to.staged())?);
        let mark = || new.as_ref().map_or(Ok(()), |image| self.add_mark(image, to));
        mark()?;
        let trash = self.pool.replace_volume(to)?;
        // As after a copy.
        mark()?;
        if old != new {
            self.drop_mark(old.as_ref(), to)?;
        }
        Ok(trash)
    }

    fn abort_restore(&self, to: &Volume) -> Result<()> {
        let (old, new) = (self.image_of(&to.path())?, self.image_of(&to.staged())?);
        self.pool.remove(&to.staged())?;
        if old == new { Ok(()) } else { self.drop_mark(new.as_ref(), to) }
    }

    fn begin_volume(&self, volume: &Volume) -> Result<PathBuf> {
        let folder = self.pool.begin_volume(volume)?;
        quota::carry(&self.pool, volume)?;
        Ok(folder)
    }

    fn commit_volume(&self, volume: &Volume) -> Result<()> {
        self.pool.commit_volume(volume)
    }

    fn rename(&self, from: &Volume, to: &Volume) -> Result<()> {
        let image = match self.image_of(&from.path())? {
            Some(image) => Some(image),
            None => self.image_of(&to.path())?,
        };
        if let Some(image) = &image {
            self.add_mark(image, to)?;
        }
        self.pool.rename_volume(from, to)?;
        self.drop_mark(image.as_ref(), from)
    }

    fn delete(&self, volume: &Volume) -> Result<Option<Trash>> {
        let staged = self.image_of(&volume.staged())?;
        let image = self.image_of(&volume.path())?;
        let trash = self.pool.discard_volume(volume)?;
        self.drop_mark(staged.as_ref(), volume)?;
        self.drop_mark(image.as_ref(), volume)?;
        Ok(trash)
    }

    fn exists(&self, volume: &Volume) -> Result<bool> {
        self.pool.has(&volume.path())
    }

    fn list(&self, kind: VolumeKind) -> Result<Vec<Volume>> {
        self.pool.volumes(kind)
    }

    fn rootfs(&self, volume: &Volume) -> Result<Rootfs> {
        self.pool.present(volume)?;
        let path = volume.path();
        let Some(image) = self.image_of(&path)? else {
            return Ok(Rootfs::Dir { path: self.pool.path(&Pool::root(volume)) });
        };
        if !self.pool.has_image(&image)? {
            return Err(Error::not_found(format!("Image \"{image}\" of volume \"{}\" is missing", volume.name())));
        }
        Ok(Rootfs::Overlay {
            lower: layers::lower(&self.pool, &image)?.iter().map(|rel| self.pool.path(rel)).collect(),
            upper: self.pool.path(&format!("{path}/upper")),
            work: self.pool.path(&format!("{path}/work")),
        })
    }

    fn metadata(&self, volume: &Volume) -> Result<PathBuf> {
        self.pool.present(volume)?;
        let own = volume.path();
        if self.pool.has(&format!("{own}/metadata.yaml"))? {
            return Ok(self.pool.path(&own));
        }
        Ok(self.pool.path(&self.image_of(&own)?.map_or(own, |image| Pool::image(&image))))
    }

    fn own_metadata(&self, volume: &Volume) -> Result<PathBuf> {
        self.pool.present(volume)?;
        Ok(self.pool.path(&volume.path()))
    }

    fn usage(&self, volume: &Volume) -> Result<Usage> {
        self.pool.present(volume)?;
        tree::usage(self.pool.open_dir(&volume.path())?.as_fd())
    }

    fn shift(&self, _volume: &Volume, _to: &IdMap) -> Result<Option<Trash>> {
        Err(Error::unsupported("The overlay storage driver cannot shift owners on disk")
            .hint("Use a storage pool of the \"dir\" driver, or a file system with id-mapped mounts"))
    }

    fn trash(&self) -> Result<Vec<Trash>> {
        self.pool.trash()
    }

    fn empty(&self, trash: &Trash) -> Result<()> {
        quota::give_back(&self.pool, trash);
        self.pool.empty(trash)
    }
}
