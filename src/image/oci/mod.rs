//! OCI images: what a registry or a layout folder has under a name becomes one tree and one split image.
//!
//! `ops` finds an image with [`resolve`], brings its layers with [`pull`] or [`layout`], and makes it with [`tree`]. Every byte is
//! checked against the digest that led to it, from the name down: manifest, configuration, layers, uncompressed layers. Layers go
//! through the same unpacker as other images. The result has property `type: oci`, and `config.json` beside `metadata.yaml`.

pub mod auth;
mod bundle;
pub mod document;
pub mod layout;
pub mod pull;
pub mod reference;
pub mod registry;
pub mod tree;
pub mod user;

use self::document::{Config, DOCUMENT_MAX, Descriptor, Document, Manifest};
use self::reference::Digest;
use super::hash::Fingerprint;
use crate::error::{Error, Result};
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;

/// Indexes that lead to one another.
const DEPTH_MAX: usize = 3;

/// Where documents come from. What is returned is checked by the caller.
pub trait Source {
    /// The document that the image's name stands for, and its media type.
    ///
    /// # Errors
    /// NotFound; it cannot be read.
    fn top(&self) -> Result<(Vec<u8>, String)>;

    /// A manifest, or (not `manifest`) a configuration.
    ///
    /// # Errors
    /// As [`Source::top`].
    fn get(&self, what: &Descriptor, manifest: bool) -> Result<Vec<u8>>;
}

/// An image, with all its documents read and checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Of its manifest.
    pub digest: Digest,
    /// Its parts.
    pub manifest: Manifest,
    /// Its configuration.
    pub config: Config,
}

/// Reads an image's documents; of several platforms this machine's.
///
/// # Errors
/// NotFound, Invalid, Unsupported.
pub fn resolve(source: &dyn Source) -> Result<Found> {
    let (mut bytes, mut media_type) = source.top()?;
    for _ in 0..DEPTH_MAX {
        match document::parse(&bytes, &media_type)? {
            Document::Index(entries) => {
                let next = document::choose(&entries, std::env::consts::ARCH)?;
                bytes = checked(source, next, true)?;
                media_type.clone_from(&next.media_type);
            }
            Document::Manifest(manifest) => {
                let config = document::config(&checked(source, &manifest.config, false)?)?;
                let own = super::metadata::architecture(std::env::consts::ARCH)?;
                if config.architecture != own {
                    let text = format!("The image is for {}, this is {own}", config.architecture);
                    return Err(Error::not_found(text));
                }
                if config.diff_ids.len() != manifest.layers.len() {
                    return Err(Error::invalid("Bad image: manifest and configuration have different layers"));
                }
                return Ok(Found { digest: Digest::of(&bytes), manifest, config });
            }
        }
    }
    Err(Error::invalid("Bad image: indexes lead to indexes"))
}

fn checked(source: &dyn Source, what: &Descriptor, manifest: bool) -> Result<Vec<u8>> {
    if what.size > DOCUMENT_MAX {
        return Err(Error::invalid(format!("Bad image: a document of {} bytes", what.size)));
    }
    let bytes = source.get(what, manifest)?;
    if bytes.len() as u64 != what.size {
        return Err(Error::invalid(format!("{} has {} bytes, not {}", what.digest, bytes.len(), what.size)));
    }
    what.digest.check(&bytes).map(|()| bytes)
}

impl Found {
    /// As Incus knows the image: the hash of its layers' digests, joined.
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(self.layers())
    }

    /// Another one, for an image whose layers are those of another image.
    pub fn own_fingerprint(&self) -> Fingerprint {
        Fingerprint::of(self.layers().chain_update(self.digest.to_string()))
    }

    fn layers(&self) -> Sha256 {
        let mut hash = Sha256::new();
        self.manifest.layers.iter().for_each(|layer| hash.update(layer.digest.to_string()));
        hash
    }

    /// The chain ids of the layers, lowest first: each stands for a layer and all below it (image-spec 1.1, "Layer ChainID"). Of layers
    /// known by another hash than SHA-256 it is not the usual one.
    pub fn chain_ids(&self) -> Vec<Fingerprint> {
        let mut all: Vec<Fingerprint> = Vec::with_capacity(self.config.diff_ids.len());
        for id in &self.config.diff_ids {
            let text = all.last().map_or_else(|| id.to_string(), |last| format!("sha256:{last} {id}"));
            let own = if all.is_empty() { Fingerprint::parse(id.hex()).ok() } else { None };
            all.push(own.unwrap_or_else(|| Fingerprint::of(Sha256::new().chain_update(text))));
        }
        all
    }

    /// Bytes of all layers.
    pub fn size(&self) -> u64 {
        self.manifest.layers.iter().map(|layer| layer.size).sum()
    }

    /// Properties of the image, named so.
    pub fn properties(&self, name: &str) -> BTreeMap<String, String> {
        [
            ("architecture", self.config.architecture),
            ("description", &format!("{name} (OCI)")),
            ("digest", &self.digest.to_string()),
            ("id", name),
            ("type", "oci"),
        ]
        .into_iter()
        .map(|(key, value)| (key.to_string(), value.to_string()))
        .collect()
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
