//! `image generate-metadata`: the metadata archive of a split image, for a disk or root file system that somebody has already.

use super::image_export::{failed, temporary};
use crate::base::time;
use crate::error::{Context, Result};
use crate::image::compress::{Algorithm, Encoder};
use crate::image::export::Exporter;
use crate::image::metadata::{Metadata, architecture};
use jiff::Timestamp;
use std::path::Path;

/// What an image says about itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct About {
    /// `Debian`.
    pub os: String,
    /// `bookworm`.
    pub release: String,
    /// `default`, `cloud`, …
    pub variant: String,
    /// In the kernel's or Debian's spelling.
    pub architecture: String,
    /// Free text.
    pub description: String,
}

impl About {
    /// The description that is meant if none is given. `now`: when the image is made.
    pub fn described(&self, now: Timestamp) -> String {
        let Self { os, release, variant, architecture, .. } = self;
        let serial = serial(now);
        match variant.as_str() {
            "" | "default" => format!("{os} {release} {architecture} ({serial})"),
            _ => format!("{os} {release} {architecture} ({variant}) ({serial})"),
        }
    }
}

/// As image servers name versions.
fn serial(now: Timestamp) -> String {
    now.strftime("%Y%m%d_%H:%M").to_string()
}

/// When an image is made that is described now.
pub fn now() -> Timestamp {
    time::now()
}

/// Writes the archive, gzip-compressed as Incus's. A file that is there is replaced; it appears whole or not at all.
///
/// # Errors
/// Invalid: an unknown architecture, a text that cannot be a property. The file cannot be written.
pub fn generate(path: &Path, about: &About, now: Timestamp) -> Result<()> {
    let kernel = architecture(&about.architecture)?;
    let pairs = [
        ("architecture", about.architecture.clone()),
        ("description", about.description.clone()),
        ("os", about.os.clone()),
        ("release", about.release.clone()),
        ("serial", serial(now)),
        ("variant", about.variant.clone()),
    ];
    let metadata = Metadata {
        architecture: kernel.to_string(),
        creation_date: now.as_second(),
        properties: pairs.into_iter().map(|(key, value)| (key.to_string(), value)).collect(),
        ..Metadata::default()
    };
    let text = metadata.to_yaml()?;
    // What would not come in does not go out.
    Metadata::parse(text.as_bytes())?;
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    let file = temporary(folder)?;
    let mut archive = Exporter::new(Encoder::new(file, Algorithm::Gzip)?);
    archive.file("metadata.yaml", text.as_bytes(), now.as_second())?;
    let file = archive.finish()?.finish()?;
    file.persist(path).map_err(|e| e.error).with_context(|| failed(path))?;
    Ok(())
}
