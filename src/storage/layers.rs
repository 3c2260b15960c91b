//! Layers of images that are kept apart, so that images share them: the folder `images/<chain id>.layer` is what one layer changes, in
//! the form that overlayfs wants its lower folders in. An image of such layers has no `rootfs` but a file `layers` with the names of
//! its own, topmost first.
//!
//! Used by `overlay`. Nothing is counted: a layer stays as long as an image names it, and one on its way in names its layers before it
//! makes the first. Who takes a name away or moves it, and who looks for layers without one, holds a lock on the folder of images (not one of
//! the store's) for those few calls. A kill leaves a layer too many, never one too few.

use super::pool::Pool;
use super::tree;
use super::volume::{Staging, Trash};
use crate::base::names::Fingerprint;
use crate::error::{Context, Error, Kind, Result};
use crate::fault;
use crate::model::attach::Rootfs;
use crate::store::{lock, trash};
use crate::sys::path::{self, Links, Owner};
use crate::sys::xattr;
use rustix::fd::AsFd;
use rustix::fs::{Mode, Timespec, Timestamps};
use std::ffi::OsStr;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Most layers of one image: what overlayfs still takes as one text (see `container::rootfs`), as many as with other tools.
const MOST: usize = 128;
/// How long the lock is waited for.
const WAIT: Duration = Duration::from_secs(30);
/// What overlayfs notes for itself.
const OWN: &[u8] = b"trusted.overlay.";

/// Layers of images that are kept apart, each known by its chain id (image-spec 1.1, "Layer ChainID"). One stays as long as an image
/// in the pool, or one being unpacked, has it. `layers` is always the same: those of the image `staging`, lowest first.
pub trait Layers: std::fmt::Debug + Send + Sync {
    /// Says of which layers the image that was begun under this name will be; which of them are there. They appear and go with the
    /// image. None: there are too many, or we may not make any: the image is to be unpacked as one tree. Lock: none.
    ///
    /// # Errors
    /// The pool cannot be written; Busy.
    fn begin_layers(&self, staging: &Staging, layers: &[Fingerprint]) -> Result<Option<Vec<bool>>>;

    /// Makes the place of layer `at`, once all before it are there. What is written into the tree that is returned is the layer.
    ///
    /// # Errors
    /// The pool cannot be written.
    fn begin_layer(&self, staging: &Staging, layers: &[Fingerprint], at: usize) -> Result<Rootfs>;

    /// The layer is written, and its tree not mounted any more.
    ///
    /// # Errors
    /// The pool cannot be written.
    fn end_layer(&self, staging: &Staging, layer: &Fingerprint) -> Result<()>;

    /// All layers as one tree that is only read.
    ///
    /// # Errors
    /// The pool cannot be read.
    fn joined(&self, staging: &Staging, layers: &[Fingerprint]) -> Result<Rootfs>;
}

fn place(layer: &Fingerprint) -> String {
    format!("images/{layer}.layer")
}

fn list(image: &str) -> String {
    format!("{image}/layers")
}

/// Nobody takes the name of a layer away meanwhile.
fn locked(pool: &Pool) -> Result<File> {
    let folder = File::from(pool.open_dir("images")?);
    let held = lock::acquire(folder, true, WAIT).context("Failed locking the images of the storage pool")?;
    held.ok_or_else(|| Error::new(Kind::Busy, "The images of the storage pool are busy"))
}

/// The layers of the image in the folder `image` of the pool, topmost first; None if it has a tree of its own.
fn named(pool: &Pool, image: &str) -> Result<Option<Vec<Fingerprint>>> {
    let rel = list(image);
    let fail = || format!("Failed reading \"{}\"", pool.path(&rel).display());
    let text = match path::read_limited(pool.as_fd(), Path::new(&rel), 1 << 16, Links::Refuse) {
        Err(e) if e.errno() == Some(libc::ENOENT) => return Ok(None),
        other => String::from_utf8(other.with_context(fail)?).map_err(|_| Error::invalid("It is no text")),
    };
    let read = |text: String| match text.lines().map(Fingerprint::parse).collect::<Result<Vec<_>>>() {
        Ok(none) if none.is_empty() => Err(Error::invalid("It names no layers")),
        other => other,
    };
    text.and_then(read).with_context(fail).map(Some)
}

/// The trees of an image, topmost first.
pub(super) fn lower(pool: &Pool, image: &Fingerprint) -> Result<Vec<String>> {
    let folder = Pool::image(image);
    Ok(match named(pool, &folder)? {
        Some(layers) => layers.iter().map(place).collect(),
        None => vec![format!("{folder}/rootfs")],
    })
}

/// Gives the layers of an unpacked image, which is on disk, their names. Until what is returned is dropped the image can be renamed.
pub(super) fn commit(pool: &Pool, staged: &str) -> Result<Option<File>> {
    let Some(layers) = named(pool, staged)? else { return Ok(None) };
    for layer in &layers {
        let own = format!("{staged}/{layer}.layer");
        match pool.rename(&own, &place(layer)) {
            Ok(()) => fault::point("storage.layer.kept")?,
            Err(e) if e.kind() == Kind::NotFound && pool.has(&place(layer))? => {}
            // Another image brought it meanwhile.
            Err(e) if e.kind() == Kind::Exists => forget(pool, staged, &format!("{layer}.layer"))?,
            Err(e) => return Err(e),
        }
    }
    locked(pool).map(Some)
}

fn forget(pool: &Pool, staged: &str, name: &str) -> Result<()> {
    Ok(trash::remove_at(pool.open_dir(staged)?.as_fd(), OsStr::new(name)).map(drop)?)
}

/// Moves the folder `rel`, an image or one being unpacked, into the trash, and with it the layers that no image names any more.
pub(super) fn discard(pool: &Pool, rel: &str) -> Result<Option<Trash>> {
    let _held = locked(pool)?;
    let mut gone = pool.discard(rel)?;
    fault::point("storage.image.trashed")?;
    for layer in stray(pool)? {
        let from = place(&layer);
        let into = |trash: &Trash| pool.rename(&from, &format!("{}/{layer}.layer", trash.path()));
        let moved = gone.as_ref().map_or_else(|| Err(Error::not_found("No trash")), into);
        // Somebody may empty the trash at any time.
        if moved.as_ref().is_err_and(|e| e.kind() == Kind::NotFound) {
            let trash = Trash::fresh(rel);
            pool.make_dir(&trash.path())?;
            into(&trash)?;
            gone = Some(trash);
        } else {
            moved?;
        }
        fault::point("storage.layer.trashed")?;
    }
    Ok(gone)
}

/// The layers that no image names, as far as that can be said.
pub(super) fn without_image(pool: &Pool) -> Result<Vec<Fingerprint>> {
    let _held = locked(pool)?;
    stray(pool)
}

fn stray(pool: &Pool) -> Result<Vec<Fingerprint>> {
    let names = pool.entries("images")?;
    let mut layers: Vec<_> =
        names.iter().filter_map(|name| Fingerprint::parse(name.strip_suffix(".layer")?).ok()).collect();
    if layers.is_empty() {
        return Ok(layers);
    }
    for name in &names {
        let used = match (Fingerprint::parse(name), Staging::of_path(name)) {
            (Ok(image), _) => match named(pool, &Pool::image(&image)) {
                // What this one needs is not known.
                Err(_) => return Ok(Vec::new()),
                Ok(used) => used,
            },
            // A power cut may have left half a list, of an image that will never be one.
            (_, Some(staging)) => named(pool, &staging.path()).unwrap_or_default(),
            _ => None,
        };
        let used = used.unwrap_or_default();
        layers.retain(|layer| !used.contains(layer));
    }
    Ok(layers)
}

/// We may write what overlayfs notes in a layer.
fn may_note(pool: &Pool, staged: &str) -> Result<bool> {
    let folder = pool.open_dir(staged)?;
    let name = [OWN, b"opaque"].concat();
    Ok(xattr::set(folder.as_fd(), &name, b"y").and_then(|()| xattr::remove(folder.as_fd(), &name)).is_ok())
}

/// Where a layer of an image on its way in is.
fn found(pool: &Pool, staging: &Staging, layer: &Fingerprint) -> Result<String> {
    let own = format!("{}/{layer}.layer", staging.path());
    Ok(if pool.has(&own)? { own } else { place(layer) })
}

/// Where those of the first `count` layers are, topmost first.
fn below(pool: &Pool, staging: &Staging, layers: &[Fingerprint]) -> Result<Vec<PathBuf>> {
    layers.iter().rev().map(|layer| found(pool, staging, layer).map(|rel| pool.path(&rel))).collect()
}

impl Layers for Pool {
    fn begin_layers(&self, staging: &Staging, layers: &[Fingerprint]) -> Result<Option<Vec<bool>>> {
        let staged = staging.path();
        if layers.len() > MOST || !may_note(self, &staged)? {
            return Ok(None);
        }
        let text: String = layers.iter().rev().map(|layer| format!("{layer}\n")).collect();
        let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        let _held = locked(self)?;
        let owner = Owner { uid, gid, mode: 0o644 };
        path::write_replace(self.as_fd(), Path::new(&list(&staged)), text.as_bytes(), owner, Links::Refuse)?;
        fault::point("storage.layers.named")?;
        layers.iter().map(|layer| self.has(&place(layer))).collect::<Result<_>>().map(Some)
    }

    fn begin_layer(&self, staging: &Staging, layers: &[Fingerprint], at: usize) -> Result<Rootfs> {
        let own = format!("{}/{}", staging.path(), layers[at]);
        let (upper, work) = (format!("{own}.layer"), format!("{own}.work"));
        self.make_dir(&upper)?;
        let folder = self.open_dir(&upper)?;
        if at == 0 {
            rustix::fs::fchmod(&folder, Mode::from_raw_mode(0o755))?;
            // Not every image has an entry for it, and the same layers give the same tree.
            let epoch = Timespec { tv_sec: 0, tv_nsec: 0 };
            rustix::fs::futimens(&folder, &Timestamps { last_access: epoch, last_modification: epoch })?;
            return Ok(Rootfs::Dir { path: self.path(&upper) });
        }
        self.make_dir(&work)?;
        let last = self.open_dir(&found(self, staging, &layers[at - 1])?)?;
        tree::copy_root_attributes(last.as_fd(), folder.as_fd())?;
        let lower = below(self, staging, &layers[..at])?;
        Ok(Rootfs::Overlay { lower, upper: self.path(&upper), work: self.path(&work) })
    }

    fn end_layer(&self, staging: &Staging, layer: &Fingerprint) -> Result<()> {
        forget(self, &staging.path(), &format!("{layer}.work"))?;
        // What overlayfs notes at the top is about the layer as an upper one.
        let root = self.open_dir(&format!("{}/{layer}.layer", staging.path()))?;
        for (name, _) in xattr::list(root.as_fd())?.iter().filter(|(name, _)| name.starts_with(OWN)) {
            xattr::remove(root.as_fd(), name)?;
        }
        Ok(())
    }

    fn joined(&self, staging: &Staging, layers: &[Fingerprint]) -> Result<Rootfs> {
        let mut all = below(self, staging, layers)?;
        match all.len() {
            0 => Err(Error::internal("An image has no layers")),
            1 => Ok(Rootfs::Dir { path: all.remove(0) }),
            _ => {
                let upper = all.remove(0);
                Ok(Rootfs::Overlay { lower: all, work: upper.with_extension("work"), upper })
            }
        }
    }
}
