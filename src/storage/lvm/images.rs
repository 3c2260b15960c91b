//! The images of a pool: with a thin pool logical volumes that others are made from, without one folders.

use super::volumes::Place;
use super::{Lvm, names};
use crate::base::names::Fingerprint;
use crate::error::{Error, Result};
use crate::fault;
use crate::storage::formatted::Kind;
use crate::storage::volume::{Staging, Trash, Volume};
use crate::storage::{ImageFate, Images};
use std::path::PathBuf;
use std::sync::PoisonError;

impl Lvm {
    /// A volume of an image, `size` bytes long, is made as a thin copy of that; else all of it is copied: where its file system is
    /// to be another one, or cannot become so small.
    pub(super) fn is_copied(&self, image: &Fingerprint, size: u64) -> Result<bool> {
        if !self.thin() {
            return Ok(true);
        }
        let planned = self.of_volume.lock().unwrap_or_else(PoisonError::into_inner);
        let how = planned.as_ref().unwrap_or(&self.how);
        let (own, usual, lv) = (&how.format, &self.how.format, names::image(image));
        let differs = own.create != usual.create
            || !self.is_of_kind(&lv, own.kind)?
            || own.kind != Kind::Ext4 && !own.kind.can_become(self.size(&lv)?, size);
        drop(planned);
        if differs {
            self.show(&Place::image(image))?;
        }
        Ok(differs)
    }
}

impl Images for Lvm {
    fn begin_image(&self, staging: &Staging) -> Result<PathBuf> {
        match self.thin() {
            true => self.make(&Place::staging(staging), self.how.size),
            false => self.pool.begin_image(staging),
        }
    }

    fn commit_image(&self, staging: &Staging, image: &Fingerprint) -> Result<()> {
        if !self.thin() {
            return self.pool.commit_image(staging, image);
        }
        let staged = Place::staging(staging);
        if self.has_image(image)? {
            return self.clear(&staged);
        }
        if !self.has(&staged.lv)? {
            return Err(Error::not_found(format!("Image \"{image}\" was not unpacked")));
        }
        self.show(&staged)?;
        self.pool.check_image(&staged.rel, image)?;
        fault::point("storage.image.unpacked")?;
        self.pool.sync_at(&staged.rel)?;
        self.relabel(&self.pool.alone()?, &staged, &names::image(image))?;
        fault::point("storage.image.renamed")
    }

    fn abort_image(&self, staging: &Staging) -> Result<Option<Trash>> {
        let staged = Place::staging(staging);
        if !self.thin() {
            return self.pool.abort_image(staging);
        }
        match self.has(&staged.lv)? {
            true => self.discard(&self.pool.alone()?, &staged).map(Some),
            false => self.pool.hide(&self.pool.alone()?, &staged.rel).map(|()| None),
        }
    }

    fn staged_images(&self) -> Result<Vec<Staging>> {
        match self.thin() {
            true => Ok(self.group.volumes()?.iter().filter_map(|name| names::parse_staging(name)).collect()),
            false => self.pool.staged_images(),
        }
    }

    fn has_image(&self, image: &Fingerprint) -> Result<bool> {
        if self.thin() { self.has(&names::image(image)) } else { self.pool.has_image(image) }
    }

    fn image_metadata(&self, image: &Fingerprint) -> PathBuf {
        let place = Place::image(image);
        if self.thin() {
            // Without it the folder is empty, which is told when it is read.
            let _ = self.show(&place);
        }
        self.pool.path(&place.rel)
    }

    fn delete_image(&self, image: &Fingerprint) -> Result<ImageFate> {
        if !self.thin() {
            return self.pool.discard_image(image).map(ImageFate::Gone);
        }
        fault::point("storage.image.delete")?;
        let place = Place::image(image);
        let gone = match self.has(&place.lv)? {
            true => Some(self.discard(&self.pool.alone()?, &place)?),
            false => None,
        };
        Ok(ImageFate::Gone(gone))
    }

    fn image_users(&self, _image: &Fingerprint) -> Result<Vec<Volume>> {
        Ok(Vec::new())
    }

    fn images(&self) -> Result<Vec<Fingerprint>> {
        if !self.thin() {
            return self.pool.images();
        }
        let mut all: Vec<_> = self.group.volumes()?.iter().filter_map(|name| names::parse_image(name)).collect();
        all.sort();
        Ok(all)
    }
}
