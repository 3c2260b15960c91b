//! `image export --simplestreams`: a tree that any web server can serve, and Incus and we can use as a remote.
//!
//! The files of images come first, under names that nobody knows yet; then the list of images, then the list of lists, each by a
//! rename: whoever reads the tree meanwhile, or after a crash, finds it whole.

use super::image::not_found;
use super::image_export::open;
use crate::base::names::Fingerprint;
use crate::error::{Context, Error, Result};
use crate::fault;
use crate::image::simplestreams::{FILE_MAX, File, Files, INDEX};
use crate::image::streams_write::{self, LIST, Made};
use crate::store::Store;
use crate::store::atomic::{self, Durability};
use crate::store::lock::{Held, ImageKey, Shared};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// How names of files begin that are not whole.
const TEMPORARY: &str = ".stapes-";

/// Adds `images` to the tree in `folder`, which is made if it is not there.
///
/// # Errors
/// NotFound; the folder cannot be written; what is in it is no such tree.
pub fn export(store: &Store, folder: &Path, images: &[Fingerprint]) -> Result<()> {
    let fail = || format!("Failed writing \"{}\"", folder.display());
    for name in ["images", "streams/v1"] {
        std::fs::create_dir_all(folder.join(name)).with_context(fail)?;
    }
    // One writer at a time.
    let alone = std::fs::File::open(folder).with_context(fail)?;
    rustix::fs::flock(&alone, rustix::fs::FlockOperation::LockExclusive)
        .map_err(std::io::Error::from)
        .with_context(fail)?;
    // What a killed one left.
    for entry in std::fs::read_dir(folder.join("images")).with_context(fail)?.flatten() {
        if entry.file_name().as_encoded_bytes().starts_with(TEMPORARY.as_bytes()) {
            std::fs::remove_file(entry.path()).with_context(fail)?;
        }
    }
    let (mut list, mut index) = (read(&folder.join(LIST))?, read(&folder.join(INDEX))?);
    for image in images {
        add(store, folder, image, &mut list)?;
        fault::point("image.streams.files")?;
    }
    streams_write::index(&mut index, &list)?;
    write(&folder.join(LIST), &list)?;
    fault::point("image.streams.list")?;
    write(&folder.join(INDEX), &index)
}

fn read(path: &Path) -> Result<Value> {
    let fail = || format!("Failed reading \"{}\"", path.display());
    let mut text = Vec::new();
    match std::fs::File::open(path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(json!({})),
        file => file.with_context(fail)?.take(FILE_MAX).read_to_end(&mut text).with_context(fail)?,
    };
    serde_json::from_slice(&text).map_err(|e| Error::invalid(format!("{}: {e}", fail())))
}

fn write(path: &Path, value: &Value) -> Result<()> {
    let text = serde_json::to_vec(value).map_err(|e| Error::internal("Failed writing JSON").caused_by(e))?;
    // A web server has to read it.
    atomic::replace(path, &text, 0o644, Durability::Durable)
}

fn add(store: &Store, folder: &Path, fingerprint: &Fingerprint, list: &mut Value) -> Result<()> {
    let _held: Held<ImageKey, Shared> = store.lock_image_shared(fingerprint)?;
    let image = store.image(fingerprint)?.ok_or_else(|| not_found(fingerprint))?;
    let layout = store.layout();
    let (first, format) = open(&layout.image_file(fingerprint))?;
    let files = if image.split {
        let (second, root_format) = open(&layout.image_rootfs_file(fingerprint))?;
        let metadata = copy(first, folder, &format!("images/{fingerprint}.incus.tar.xz"))?;
        Files::Split(metadata, copy(second, folder, &format!("images/{fingerprint}{}", root_format.extension()))?)
    } else {
        Files::Unified(copy(first, folder, &format!("images/{fingerprint}{}", format.extension()))?)
    };
    let aliases = store.aliases()?;
    let own = aliases.aliases.iter().filter(|(_, alias)| alias.target == **fingerprint);
    let made = Made {
        fingerprint,
        kind: image.kind,
        architecture: &image.architecture,
        created_at: image.created_at,
        expires_at: image.expires_at,
        properties: &image.properties,
        aliases: own.map(|(name, _)| name.clone()).collect(),
        files,
    };
    streams_write::add(list, &made)
}

/// Copies a file into the tree; it appears whole.
fn copy(mut source: std::fs::File, folder: &Path, path: &str) -> Result<File> {
    let target = folder.join(path);
    let fail = || format!("Failed writing \"{}\"", target.display());
    let permissions = std::fs::Permissions::from_mode(0o644);
    let mut builder = tempfile::Builder::new();
    let builder = builder.prefix(TEMPORARY).permissions(permissions);
    let mut file = builder.tempfile_in(folder.join("images")).with_context(fail)?;
    let (mut hasher, mut size, mut buffer) = (Sha256::new(), 0, vec![0; 256 << 10]);
    loop {
        let n = source.read(&mut buffer).with_context(fail)?;
        if n == 0 {
            break;
        }
        hasher.update(&buffer[..n]);
        size += n as u64;
        file.write_all(&buffer[..n]).with_context(fail)?;
    }
    file.as_file().sync_all().with_context(fail)?;
    file.persist(&target).map_err(|e| e.error).with_context(fail)?;
    let sha256 = hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(File { path: path.to_string(), size, sha256 })
}
