//! `image export`: the files of an image, byte for byte, to where the user wants them. They are those of the local store, or come
//! straight from a server. Each appears whole or not at all.

use super::image::not_found;
use super::image_remote::{Server, with_offer};
use crate::base::names::Fingerprint;
use crate::error::{Context, Error, Result};
use crate::host::http::io_error;
use crate::image::decompress::Format;
use crate::image::export::file_names;
use crate::image::simplestreams::{Files, Offer};
use crate::image::{OnProgress, Progress};
use crate::model::image::Image;
use crate::model::instance::InstanceType;
use crate::store::Store;
use crate::store::lock::{Held, ImageKey, Shared};
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use tempfile::NamedTempFile;

/// Where an image is exported to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// A folder: the files are named after the fingerprint.
    Folder(PathBuf),
    /// A file: its name begins so.
    File(PathBuf),
}

impl Target {
    /// The folder, and how the names of the files begin if that is given.
    fn parts(&self) -> Result<(&Path, Option<&str>)> {
        let (folder, stem) = match self {
            Self::Folder(folder) => (folder.as_path(), None),
            Self::File(file) => {
                let bad = || Error::invalid(format!("Bad file name \"{}\"", file.display()));
                (file.parent().ok_or_else(bad)?, Some(file.file_name().and_then(|n| n.to_str()).ok_or_else(bad)?))
            }
        };
        Ok((if folder.as_os_str().is_empty() { Path::new(".") } else { folder }, stem))
    }
}

/// Copies the files of an image, byte for byte; their paths.
///
/// # Errors
/// NotFound; the target cannot be written. No part of a file is left.
pub fn export(store: &Store, fingerprint: &Fingerprint, target: &Target) -> Result<Vec<PathBuf>> {
    let _held: Held<ImageKey, Shared> = store.lock_image_shared(fingerprint)?;
    let image = store.image(fingerprint)?.ok_or_else(|| not_found(fingerprint))?;
    let (folder, _) = target.parts()?;
    let mut files = Vec::new();
    for path in paths(store, fingerprint, &image) {
        let mut file = temporary(folder)?;
        std::io::copy(&mut open(&path)?.0, file.as_file_mut()).with_context(|| failed(folder))?;
        files.push(file);
    }
    place(&crate::image::Fingerprint::parse(fingerprint)?, files, target)
}

fn paths(store: &Store, fingerprint: &Fingerprint, image: &Image) -> Vec<PathBuf> {
    let layout = store.layout();
    let rootfs = image.split.then(|| layout.image_rootfs_file(fingerprint));
    [layout.image_file(fingerprint)].into_iter().chain(rootfs).collect()
}

/// The same with an image of a server, which the store need not have and does not get.
///
/// # Errors
/// NotFound; the server does not answer; what it sends is not what it says.
pub fn of_server(
    store: &Store,
    (server, name): (&Server, &str),
    kind: InstanceType,
    target: &Target,
    on_progress: OnProgress<'_>,
) -> Result<Vec<PathBuf>> {
    with_offer(server, name, kind, |offer, _| {
        let fingerprint = Fingerprint::parse(offer.fingerprint.as_str())?;
        match store.image(&fingerprint) {
            Ok(Some(_)) => export(store, &fingerprint, target),
            _ => download(server, offer, target, on_progress),
        }
    })
}

fn download(server: &Server, offer: &Offer, target: &Target, on_progress: OnProgress<'_>) -> Result<Vec<PathBuf>> {
    let (folder, _) = target.parts()?;
    let (mut hash, mut files, mut buffer) = (Sha256::new(), Vec::new(), vec![0; 256 << 10]);
    let all = match &offer.files {
        Files::Unified(file) => vec![file],
        Files::Split(metadata, root) => vec![metadata, root],
    };
    for what in all {
        let (mut source, mut file) = (server.download(what, None)?.reader, temporary(folder)?);
        let mut done = 0;
        loop {
            let n = source.read(&mut buffer).map_err(io_error)?;
            if n == 0 {
                break;
            }
            hash.update(&buffer[..n]);
            file.write_all(&buffer[..n]).with_context(|| failed(folder))?;
            done += n as u64;
            on_progress(Progress::Bytes(done, Some(what.size)))?;
        }
        files.push(file);
    }
    let got: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    if got != offer.fingerprint.as_str() {
        let text = format!("Image fingerprint doesn't match. Got {got} expected {}", offer.fingerprint);
        return Err(Error::invalid(text));
    }
    // The names are ours: a server chooses none here.
    place(&offer.fingerprint, files, target)
}

/// The one file or two get their names.
fn place(fingerprint: &crate::image::Fingerprint, files: Vec<NamedTempFile>, target: &Target) -> Result<Vec<PathBuf>> {
    let (folder, stem) = target.parts()?;
    let formats: Vec<Format> = files.iter().map(|f| open(f.path()).map(|(_, format)| format)).collect::<Result<_>>()?;
    let first = formats.first().copied().ok_or_else(|| Error::internal("An image without files"))?;
    let (name, second) = file_names(fingerprint, stem, first, formats.get(1).copied());
    let mut written = Vec::new();
    for (file, name) in files.into_iter().zip([Some(name), second].into_iter().flatten()) {
        let path = folder.join(name);
        file.persist(&path).map_err(|e| e.error).with_context(|| failed(&path))?;
        written.push(path);
    }
    Ok(written)
}

/// A file and what it holds.
pub(super) fn open(path: &Path) -> Result<(File, Format)> {
    let context = || format!("Failed opening \"{}\"", path.display());
    let mut head = Vec::new();
    File::open(path).with_context(context)?.take(512).read_to_end(&mut head).with_context(context)?;
    Ok((File::open(path).with_context(context)?, Format::detect(&head)))
}

pub(super) fn failed(path: &Path) -> String {
    format!("Failed writing \"{}\"", path.display())
}

/// A file in the folder that goes unless it gets a name.
pub(super) fn temporary(folder: &Path) -> Result<NamedTempFile> {
    // The caller's umask applies.
    let permissions = std::fs::Permissions::from_mode(0o666);
    let mut builder = tempfile::Builder::new();
    builder.prefix(".stapes-").permissions(permissions).tempfile_in(folder).with_context(|| failed(folder))
}
