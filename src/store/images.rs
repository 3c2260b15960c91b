//! Records of images and their aliases, of each project that has images of its own; what such a project has lies in its folder. The
//! image files beside the default project's records serve all of them and are `image`'s.
//!
//! A store is about the images of one project at a time ([`Store::use_images_of`]): its front says which.

use super::Store;
use super::atomic::Durability;
use super::layout::rel;
use super::lock::{Allocator, Exclusive, Held, ImageKey};
use super::objects::in_files;
use super::record;
use crate::base::names::{AliasName, Fingerprint, ProjectName};
use crate::error::{Context, Error, Result};
use crate::model::image::{Aliases, Image};
use crate::model::instance::InstanceType;
use std::sync::PoisonError;

impl Store {
    /// The project whose images this store is about.
    pub fn image_project(&self) -> ProjectName {
        self.images_of.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// From now on this store is about the images of `p`, which has its own; the project it was about before.
    pub fn use_images_of(&self, p: ProjectName) -> ProjectName {
        std::mem::replace(&mut *self.images_of.lock().unwrap_or_else(PoisonError::into_inner), p)
    }

    /// The projects that have, or had, images of their own; the default one first.
    ///
    /// # Errors
    /// The folder cannot be listed.
    pub fn image_projects(&self) -> Result<Vec<ProjectName>> {
        let mut all = vec![ProjectName::default()];
        let Some(state) = &self.state else { return Ok(all) };
        let Some((_, names)) = super::dir::list(state, rel::PROJECTS)? else { return Ok(all) };
        for name in names.iter().filter_map(|n| ProjectName::parse(n).ok()).filter(|n| !n.is_default()) {
            if state.exists(rel::images(&name)).context("Failed opening the images")? {
                all.push(name);
            }
        }
        Ok(all)
    }

    /// The projects that have this image.
    ///
    /// # Errors
    /// As [`Store::image_projects`].
    pub fn image_owners(&self, f: &Fingerprint) -> Result<Vec<ProjectName>> {
        let mut all = self.image_projects()?;
        all.retain(|p| self.layout.image_record(p, f).exists());
        Ok(all)
    }

    /// The record that another project has of an image.
    ///
    /// # Errors
    /// As [`Store::image_projects`].
    pub fn image_elsewhere(&self, f: &Fingerprint) -> Result<Option<Image>> {
        let (own, Some(state)) = (self.image_project(), &self.state) else { return Ok(None) };
        let others = self.image_projects()?.into_iter().filter(|p| *p != own);
        // One that is damaged has nothing to give.
        Ok(others.filter_map(|p| record::read(state, rel::image(&p, f)).ok().flatten()).next())
    }

    /// An image by its full fingerprint; `None` if there is none.
    ///
    /// # Errors
    /// The record is damaged or cannot be read.
    pub fn image(&self, f: &Fingerprint) -> Result<Option<Image>> {
        self.image_at(&self.image_project(), f)
    }

    fn image_at(&self, p: &ProjectName, f: &Fingerprint) -> Result<Option<Image>> {
        self.state.as_ref().map_or(Ok(None), |state| record::read(state, rel::image(p, f)))
    }

    /// All images by fingerprint.
    ///
    /// # Errors
    /// The folder cannot be listed.
    pub fn images(&self) -> Result<Vec<(Fingerprint, Result<Image>)>> {
        self.images_at(&self.image_project())
    }

    /// All images of a project that has its own.
    ///
    /// # Errors
    /// The folder cannot be listed.
    pub fn images_at(&self, p: &ProjectName) -> Result<Vec<(Fingerprint, Result<Image>)>> {
        let list = |state| in_files(state, &rel::images(p), image_name);
        self.state.as_ref().map_or(Ok(Vec::new()), list)
    }

    /// The fingerprints that begin with `prefix`; no record is read.
    ///
    /// # Errors
    /// The folder cannot be listed.
    pub fn images_by_prefix(&self, prefix: &str) -> Result<Vec<Fingerprint>> {
        let Some(state) = &self.state else { return Ok(Vec::new()) };
        let Some((_, names)) = super::dir::list(state, rel::images(&self.image_project()))? else {
            return Ok(Vec::new());
        };
        let matches = |n: &String| n.starts_with(prefix);
        Ok(names.iter().filter(|n| matches(n)).filter_map(|n| image_name(n.strip_suffix(".toml")?).ok()).collect())
    }

    /// Makes the folder of the records, where it is not the default project's.
    fn make_images(&self, p: &ProjectName) -> Result<()> {
        if !p.is_default() {
            self.state_mut()?.make(rel::images(p), 0o700).context("Failed creating the folder of images")?;
        }
        Ok(())
    }

    /// Creates or replaces an image's record: the commit point of an import. What its files are called is on disk then, too.
    ///
    /// # Errors
    /// An I/O error.
    pub fn save_image(&self, lock: &Held<ImageKey, Exclusive>, image: &Image) -> Result<()> {
        let p = self.image_project();
        self.make_images(&p)?;
        if !p.is_default() {
            self.state_mut()?.dir(rel::IMAGES).and_then(|d| d.sync()).context("Failed writing the image's files")?;
        }
        record::write(self.state_mut()?, rel::image(&p, &lock.key().0), image, Durability::Durable)
    }

    /// All aliases.
    ///
    /// # Errors
    /// The record is damaged or cannot be read.
    pub fn aliases(&self) -> Result<Aliases> {
        self.aliases_at(&self.image_project())
    }

    fn aliases_at(&self, p: &ProjectName) -> Result<Aliases> {
        let none = || Aliases { format: 1, ..Aliases::default() };
        let Some(state) = &self.state else { return Ok(none()) };
        Ok(record::read(state, rel::aliases(p))?.unwrap_or_else(none))
    }

    /// Changes the aliases: reads, lets `change` work on them, writes, all under the aliases' own lock, which is above
    /// an image's. Nothing is written if `change` fails or changes nothing.
    ///
    /// # Errors
    /// What `change` says, or an I/O error.
    pub fn update_aliases<T>(&self, change: impl FnOnce(&mut Aliases) -> Result<T>) -> Result<T> {
        self.update_aliases_at(&self.image_project(), change)
    }

    fn update_aliases_at<T>(&self, p: &ProjectName, change: impl FnOnce(&mut Aliases) -> Result<T>) -> Result<T> {
        let lock = self.lock_allocator(Allocator::Aliases)?;
        let before = self.aliases_at(p)?;
        let mut after = before.clone();
        let out = change(&mut after)?;
        if after != before {
            self.save_aliases(&lock, p, &after)?;
        }
        Ok(out)
    }

    /// Makes `names` aliases of `image`, whatever they named before.
    ///
    /// # Errors
    /// A bad name; an I/O error.
    pub fn set_aliases(&self, image: &Fingerprint, names: &[String]) -> Result<()> {
        self.set_aliases_at(&self.image_project(), image, names)
    }

    /// The same in a project; for the journal's actions.
    pub(super) fn set_aliases_at(&self, p: &ProjectName, image: &Fingerprint, names: &[String]) -> Result<()> {
        let names: Vec<AliasName> = names.iter().map(|n| AliasName::parse(n)).collect::<Result<_>>()?;
        // A record that cannot be read keeps nobody from giving its image a name.
        let kind = self.image_at(p, image).ok().flatten().map_or_else(InstanceType::default, |image| image.kind);
        self.update_aliases_at(p, |all| {
            for name in &names {
                // A description stays with the name.
                let alias = all.aliases.entry(name.to_string()).or_default();
                (alias.target, alias.kind) = (image.to_string(), kind);
            }
            Ok(())
        })
    }

    /// Removes the aliases of `image`; for the journal's actions.
    pub(super) fn forget_aliases(&self, p: &ProjectName, image: &Fingerprint) -> Result<()> {
        self.update_aliases_at(p, |all| {
            all.aliases.retain(|_, alias| alias.target != **image);
            Ok(())
        })
    }

    fn save_aliases(&self, lock: &Held<Allocator, Exclusive>, p: &ProjectName, aliases: &Aliases) -> Result<()> {
        if *lock.key() != Allocator::Aliases {
            return Err(Error::internal("Aliases are written under another lock"));
        }
        self.make_images(p)?;
        record::write(self.state_mut()?, rel::aliases(p), aliases, Durability::Durable)
    }
}

/// `aliases.toml` lies beside the records and is none.
fn image_name(stem: &str) -> Result<Fingerprint> {
    if stem == "aliases" { Err(Error::invalid("Not a fingerprint")) } else { Fingerprint::parse(stem) }
}
