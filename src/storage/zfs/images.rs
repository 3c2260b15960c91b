//! The images of a pool: datasets with a snapshot that others are cloned from.

use super::volumes::{Place, READONLY};
use super::{Zfs, names, tool};
use crate::base::names::Fingerprint;
use crate::error::{Error, Result};
use crate::fault;
use crate::storage::volume::{Staging, Trash, Volume};
use crate::storage::{ImageFate, Images};
use std::path::PathBuf;

impl Images for Zfs {
    fn begin_image(&self, staging: &Staging) -> Result<PathBuf> {
        self.make(&Place::staging(staging), &self.how.properties())
    }

    fn commit_image(&self, staging: &Staging, image: &Fingerprint) -> Result<()> {
        let staged = Place::staging(staging);
        if self.has_image(image)? {
            return self.clear(&staged);
        }
        if !self.has(&staged.set)? {
            return Err(Error::not_found(format!("Image \"{image}\" was not unpacked")));
        }
        self.show(&staged)?;
        self.pool.check_image(&staged.rel, image)?;
        fault::point("storage.image.unpacked")?;
        self.pool.sync_at(&staged.rel)?;
        // A kill may have left it.
        let snapshot = format!("{}{READONLY}", self.root.at(&staged.set));
        tool::if_there(tool::zfs(&["destroy", &snapshot]))?;
        tool::zfs(&["snapshot", &snapshot])?;
        fault::point("storage.image.snapshot")?;
        self.relabel(&self.pool.alone()?, &staged, &names::image(image))?;
        fault::point("storage.image.renamed")
    }

    fn abort_image(&self, staging: &Staging) -> Result<Option<Trash>> {
        let staged = Place::staging(staging);
        match self.has(&staged.set)? {
            true => self.discard(&self.pool.alone()?, &staged).map(Some),
            false => self.pool.hide(&self.pool.alone()?, &staged.rel).map(|()| None),
        }
    }

    fn staged_images(&self) -> Result<Vec<Staging>> {
        self.listed(names::new(), names::parse_staging)
    }

    fn has_image(&self, image: &Fingerprint) -> Result<bool> {
        self.has(&names::image(image))
    }

    fn image_metadata(&self, image: &Fingerprint) -> PathBuf {
        let place = Place::image(image);
        // Without it the folder is empty, which is told when it is read.
        let _ = self.show(&place);
        self.pool.path(&place.rel)
    }

    fn delete_image(&self, image: &Fingerprint) -> Result<ImageFate> {
        fault::point("storage.image.delete")?;
        let place = Place::image(image);
        let gone = match self.has(&place.set)? {
            true => Some(self.discard(&self.pool.alone()?, &place)?),
            false => None,
        };
        Ok(ImageFate::Gone(gone))
    }

    fn image_users(&self, _image: &Fingerprint) -> Result<Vec<Volume>> {
        Ok(Vec::new())
    }

    fn images(&self) -> Result<Vec<Fingerprint>> {
        self.listed(names::images(), |name| Fingerprint::parse(name).ok())
    }
}
