//! Layers of OCI images where the pool keeps them apart: one is unpacked once, whichever images it belongs to.
//!
//! A layer is unpacked into the layers below it, joined by overlayfs with an empty folder on top; what is in that folder afterwards is
//! the layer, with whiteouts as the kernel wants them. So the unpacker sees one tree, and its rules are the same as in one folder.

use super::image_import::Arrival;
use crate::base::names::Fingerprint;
use crate::container::rootfs::{self, Options};
use crate::error::{Context, Result};
use crate::image::oci::Found;
use crate::image::oci::tree::Trees;
use crate::storage::{Layers, Staging};
use crate::store::Store;
use std::os::fd::OwnedFd;

/// The layers of an image on its way in.
pub(super) struct Apart<'a> {
    layers: &'a dyn Layers,
    staging: &'a Staging,
    /// Their chain ids, lowest first.
    ids: Vec<Fingerprint>,
    /// Which of them are there already.
    pub there: Vec<bool>,
    /// For mount points.
    scratch: tempfile::TempDir,
}

impl<'a> Apart<'a> {
    /// None: the image is unpacked into one folder.
    pub fn begin(store: &Store, arrival: &'a Arrival<'_>, found: &Found) -> Result<Option<Self>> {
        let Some(layers) = arrival.driver.layers() else { return Ok(None) };
        let ids = found.chain_ids();
        let ids = ids.iter().map(|id| Fingerprint::parse(id.as_str())).collect::<Result<Vec<_>>>()?;
        let Some(there) = layers.begin_layers(&arrival.staging, &ids)? else { return Ok(None) };
        let scratch = tempfile::tempdir_in(&store.layout().run).context("Failed creating a folder for mounting")?;
        Ok(Some(Self { layers, staging: &arrival.staging, ids, there, scratch }))
    }
}

impl Trees for Apart<'_> {
    fn begin(&mut self, at: usize) -> Result<Option<OwnedFd>> {
        if self.there[at] {
            return Ok(None);
        }
        let tree = self.layers.begin_layer(self.staging, &self.ids, at)?;
        // All of the image is synced at once when it is whole.
        let options = Options { throwaway: true, scratch: Some(self.scratch.path()), ..Options::default() };
        rootfs::mount(&tree, &options).map(Some)
    }

    fn end(&mut self, at: usize) -> Result<()> {
        self.layers.end_layer(self.staging, &self.ids[at])
    }

    fn whole(&mut self) -> Result<OwnedFd> {
        rootfs::view(&self.layers.joined(self.staging, &self.ids)?, self.scratch.path())
    }
}
