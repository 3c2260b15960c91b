//! The images of a pool: datasets with a snapshot that others are cloned from. For volumes in block mode an image has another form, a
//! zvol for each kind of file system, which is made when it is first needed.

use super::volumes::{Place, READONLY};
use super::{Settings, Zfs, names, tool};
use crate::base::names::Fingerprint;
use crate::error::{Context, Error, Result};
use crate::fault;
use crate::storage::formatted::{Format, Kind};
use crate::storage::pool::Pool;
use crate::storage::volume::{Staging, Trash, Volume};
use crate::storage::{Ids, ImageFate, Images, tree};
use rustix::fd::AsFd;
use rustix::fs::FlockOperation;
use std::path::PathBuf;

impl Zfs {
    /// The forms that an image is there in, the best one for volumes made so first.
    fn forms(&self, image: &Fingerprint, how: &Settings) -> Result<Vec<Place>> {
        let best = how.block_mode.then_some(how.format.kind);
        let mut all: Vec<_> = std::iter::once(None).chain(Kind::ALL.map(Some)).collect();
        all.sort_by_key(|form| *form != best);
        let mut found = Vec::new();
        for form in all {
            let place = form.map_or_else(|| Place::image(image), |kind| Place::image_as(image, kind));
            if self.has(&place.set)? {
                found.push(place);
            }
        }
        Ok(found)
    }

    fn form(&self, image: &Fingerprint, how: &Settings) -> Result<Place> {
        let missing = || Error::not_found(format!("Image \"{image}\" is not in the storage pool"));
        self.forms(image, how)?.into_iter().next().ok_or_else(missing)
    }

    /// The form of an image that volumes made so are cloned from, which is made if it is not there; None: they must be filled. `size`:
    /// that of a volume in block mode, bytes.
    pub(super) fn form_for(&self, image: &Fingerprint, how: &Settings, size: u64) -> Result<Option<Place>> {
        let first = self.form(image, how)?;
        let format = &how.format;
        let wanted = match how.block_mode {
            true if format.create != self.how.format.usual(format.kind) => return Ok(None),
            true => Place::image_as(image, format.kind),
            false => Place::image(image),
        };
        if first != wanted {
            self.derive(image, &first, &wanted, how)?;
        }
        let fits = !how.block_mode || format.kind.can_become(self.block_size(&wanted.set)?, size);
        Ok(fits.then_some(wanted))
    }

    /// Makes another form of an image. One at a time: the name it has on its way is that of each attempt.
    fn derive(&self, image: &Fingerprint, from: &Place, to: &Place, how: &Settings) -> Result<()> {
        let folder = self.pool.open_dir("images")?;
        rustix::fs::flock(&folder, FlockOperation::LockExclusive).map_err(Error::from).context("Failed locking")?;
        if self.has(&to.set)? {
            return Ok(());
        }
        let staged = Place::new_form(to);
        match how.block_mode {
            true => {
                let format =
                    Format { create: self.how.format.usual(how.format.kind).to_string(), ..how.format.clone() };
                let usual = Settings { format, ..self.how.clone() };
                self.make_block(&staged, self.how.size, (&usual, false))?
            }
            false => self.make(&staged, &self.how.properties())?,
        };
        self.copy_files(from, &staged)?;
        fault::point("storage.image.derived")?;
        self.keep_image(&staged, &to.set).with_context(|| format!("Failed preparing image \"{image}\""))
    }

    /// What is mounted at `staged` is an image from now on.
    fn keep_image(&self, staged: &Place, to: &str) -> Result<()> {
        self.pool.sync_at(&staged.rel)?;
        let alone = self.pool.alone()?;
        // Its file system is at rest, if it has one.
        self.pool.hide(&alone, &staged.rel)?;
        // A kill may have left it.
        let snapshot = format!("{}{READONLY}", self.root.at(&staged.set));
        tool::if_there(tool::zfs(&["destroy", &snapshot]))?;
        tool::zfs(&["snapshot", &snapshot])?;
        fault::point("storage.image.snapshot")?;
        self.relabel(&alone, staged, to)?;
        fault::point("storage.image.renamed")
    }

    fn copy_files(&self, from: &Place, to: &Place) -> Result<()> {
        self.show(from)?;
        let (source, target) = (self.pool.open_dir(&from.rel)?, self.pool.open_dir(&to.rel)?);
        tree::copy_tree(source.as_fd(), target.as_fd(), &Ids::none(), &[])?;
        drop(target);
        self.pool.sync_at(&to.rel)
    }

    /// Puts a volume of an image together file by file, in block mode.
    pub(super) fn fill(&self, image: &Fingerprint, volume: &Volume, size: u64, how: &Settings) -> Result<()> {
        let staged = Place::staged(volume);
        self.make_block(&staged, size, (how, self.reserves(volume)?))?;
        self.copy_files(&self.form(image, how)?, &staged)
    }

    /// The properties of a clone of the form of an image that is put together for a volume.
    pub(super) fn properties_of(&self, volume: &Volume, form: &Place, how: &Settings) -> Result<Vec<String>> {
        if how.block_mode { self.block_properties(volume, &form.set) } else { self.properties(volume) }
    }
}

impl Images for Zfs {
    fn begin_image(&self, staging: &Staging) -> Result<PathBuf> {
        match self.how.block_mode {
            true => self.make_block(&Place::staging(staging), self.how.size, (&self.how, false)),
            false => self.make(&Place::staging(staging), &self.how.properties()),
        }
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
        let to = match self.block(&staged.set)? {
            Some(true) => names::image_as(image, self.block_kind(&staged.set)?),
            _ => names::image(image),
        };
        self.keep_image(&staged, &to)
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
        Ok(!self.forms(image, &self.how)?.is_empty())
    }

    fn image_metadata(&self, image: &Fingerprint) -> PathBuf {
        let place = self.form(image, &self.how).unwrap_or_else(|_| Place::image(image));
        // Without it the folder is empty, which is told when it is read.
        let _ = self.show(&place);
        self.pool.path(&place.rel)
    }

    fn delete_image(&self, image: &Fingerprint) -> Result<ImageFate> {
        fault::point("storage.image.delete")?;
        for kind in Kind::ALL {
            self.clear(&Place::new_form(&Place::image_as(image, kind)))?;
        }
        self.clear(&Place::new_form(&Place::image(image)))?;
        let mut gone = None;
        for place in self.forms(image, &self.how)? {
            let trash = names::fresh_trash(&Pool::image(image))?;
            self.relabel(&self.pool.alone()?, &place, &names::trash(&trash))?;
            gone = Some(trash);
        }
        Ok(ImageFate::Gone(gone))
    }

    fn image_users(&self, _image: &Fingerprint) -> Result<Vec<Volume>> {
        Ok(Vec::new())
    }

    fn images(&self) -> Result<Vec<Fingerprint>> {
        let mut all = self.listed(names::images(), names::parse_image)?;
        all.dedup();
        Ok(all)
    }
}
