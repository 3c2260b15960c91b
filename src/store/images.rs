//! Records of images and their aliases. The image files beside them are `image`'s.

use super::Store;
use super::atomic::Durability;
use super::layout::rel;
use super::lock::{Allocator, Exclusive, Held, ImageKey};
use super::objects::in_files;
use super::record;
use crate::base::names::{AliasName, Fingerprint};
use crate::error::{Context, Error, Result};
use crate::model::image::{Aliases, Image};
use crate::model::instance::InstanceType;

impl Store {
    /// An image by its full fingerprint; `None` if there is none.
    ///
    /// # Errors
    /// The record is damaged or cannot be read.
    pub fn image(&self, f: &Fingerprint) -> Result<Option<Image>> {
        self.state.as_ref().map_or(Ok(None), |state| record::read(state, rel::image(f)))
    }

    /// All images by fingerprint.
    ///
    /// # Errors
    /// The folder cannot be listed.
    pub fn images(&self) -> Result<Vec<(Fingerprint, Result<Image>)>> {
        let list = |state| in_files(state, rel::IMAGES.as_ref(), image_name);
        self.state.as_ref().map_or(Ok(Vec::new()), list)
    }

    /// The fingerprints that begin with `prefix`; no record is read.
    ///
    /// # Errors
    /// The folder cannot be listed.
    pub fn images_by_prefix(&self, prefix: &str) -> Result<Vec<Fingerprint>> {
        let Some(state) = &self.state else { return Ok(Vec::new()) };
        let Some((_, names)) = super::dir::list(state, rel::IMAGES)? else { return Ok(Vec::new()) };
        let matches = |n: &String| n.starts_with(prefix);
        Ok(names.iter().filter(|n| matches(n)).filter_map(|n| image_name(n.strip_suffix(".toml")?).ok()).collect())
    }

    /// Creates or replaces an image's record: the commit point of an import.
    ///
    /// # Errors
    /// An I/O error.
    pub fn save_image(&self, lock: &Held<ImageKey, Exclusive>, image: &Image) -> Result<()> {
        record::write(self.state_mut()?, rel::image(&lock.key().0), image, Durability::Durable)
    }

    /// Removes an image's record, then its files. `false`: there was no record.
    ///
    /// # Errors
    /// An I/O error.
    pub fn delete_image(&self, lock: &Held<ImageKey, Exclusive>) -> Result<bool> {
        let (state, f) = (self.state_mut()?, &lock.key().0);
        let fail = || format!("Failed deleting image \"{f}\"");
        let was = state.unlink(rel::image(f)).with_context(fail)?;
        for file in [format!("images/{f}"), format!("images/{f}.rootfs")] {
            state.unlink(file).with_context(fail)?;
        }
        // One sync of the folder that all three were in.
        state.dir(rel::IMAGES).and_then(|dir| dir.sync()).with_context(fail)?;
        Ok(was)
    }

    /// All aliases.
    ///
    /// # Errors
    /// The record is damaged or cannot be read.
    pub fn aliases(&self) -> Result<Aliases> {
        let none = || Aliases { format: 1, ..Aliases::default() };
        let Some(state) = &self.state else { return Ok(none()) };
        Ok(record::read(state, rel::ALIASES)?.unwrap_or_else(none))
    }

    /// Changes the aliases: reads, lets `change` work on them, writes, all under the aliases' own lock, which is above
    /// an image's. Nothing is written if `change` fails or changes nothing.
    ///
    /// # Errors
    /// What `change` says, or an I/O error.
    pub fn update_aliases<T>(&self, change: impl FnOnce(&mut Aliases) -> Result<T>) -> Result<T> {
        let lock = self.lock_allocator(Allocator::Aliases)?;
        let before = self.aliases()?;
        let mut after = before.clone();
        let out = change(&mut after)?;
        if after != before {
            self.save_aliases(&lock, &after)?;
        }
        Ok(out)
    }

    /// Makes `names` aliases of `image`, whatever they named before.
    ///
    /// # Errors
    /// A bad name; an I/O error.
    pub fn set_aliases(&self, image: &Fingerprint, names: &[String]) -> Result<()> {
        let names: Vec<AliasName> = names.iter().map(|n| AliasName::parse(n)).collect::<Result<_>>()?;
        // A record that cannot be read keeps nobody from giving its image a name.
        let kind = self.image(image).ok().flatten().map_or_else(InstanceType::default, |image| image.kind);
        self.update_aliases(|all| {
            for name in &names {
                // A description stays with the name.
                let alias = all.aliases.entry(name.to_string()).or_default();
                (alias.target, alias.kind) = (image.to_string(), kind);
            }
            Ok(())
        })
    }

    /// Removes the aliases of `image`; for the journal's actions.
    pub(super) fn forget_aliases(&self, image: &Fingerprint) -> Result<()> {
        self.update_aliases(|all| {
            all.aliases.retain(|_, alias| alias.target != **image);
            Ok(())
        })
    }

    /// Replaces all aliases. `lock`: [`Allocator::Aliases`].
    ///
    /// # Errors
    /// An I/O error.
    pub fn save_aliases(&self, lock: &Held<Allocator, Exclusive>, aliases: &Aliases) -> Result<()> {
        if *lock.key() != Allocator::Aliases {
            return Err(Error::internal("Aliases are written under another lock"));
        }
        record::write(self.state_mut()?, rel::ALIASES, aliases, Durability::Durable)
    }
}

/// `aliases.toml` lies beside the records and is none.
fn image_name(stem: &str) -> Result<Fingerprint> {
    if stem == "aliases" { Err(Error::invalid("Not a fingerprint")) } else { Fingerprint::parse(stem) }
}
