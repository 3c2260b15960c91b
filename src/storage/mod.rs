//! Storage pools: where images are unpacked and the root file systems of instances live.
//!
//! Called by `ops` (create, delete, rename, copy, info) and by its wiring for the root disk. A pool is a folder with a
//! fixed layout (see [`POOL_FOLDERS`]); a [`Driver`] decides how a volume is made from an image. Nothing here knows records,
//! locks or mounts: callers hold the pool and instance locks (and the image's, where a method says so), and put a
//! [`Rootfs`] together themselves.
//!
//! Privacy: everything below a pool is 0700 and root's. Files on disk carry the container's own ids, a set-uid file of
//! container root is one of real root; it must be out of reach for the host's users (CVE-2025-64507). A container never
//! needs to pass these folders: its root is mounted by descriptor and looked up from there.
//!
//! Durability: see [`Images::commit_image`] and [`Driver::create_from_image`].
pub mod block;
mod btrfs;
mod dir;
pub mod disk;
mod formatted;
mod kept;
mod layers;
pub mod lvm;
mod overlay;
mod owners;
mod pool;
pub mod probe;
mod quota;
pub mod send_stream;
mod shown;
pub mod source;
pub mod streams;
mod tree;
mod volume;
pub mod zfs;

pub use layers::Layers;
pub use pool::{POOL_FOLDERS, setup};
pub use tree::{Ids, Stats, Usage, copy_tree};
pub use volume::{Staging, Trash, Volume, VolumeKind};

use crate::base::idmap::IdMap;
use crate::base::names::Fingerprint;
use crate::error::{Error, Result};
use crate::model::attach::Rootfs;
use crate::model::instance::Config;
use std::path::{Path, PathBuf};

/// Names of the drivers, the preferred one first.
pub const DRIVERS: &[&str] = &["overlay", "dir", "btrfs", "lvm", "zfs"];

/// What a driver can do; what the file system below it can do is [`probe::Features`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caps {
    /// A volume is made from an image in a time that does not depend on the image's size, whatever the file system.
    pub instant_clone: bool,
    /// Volumes go on using the image they were made from.
    pub uses_image: bool,
    /// Owners on disk can be changed to another id map ([`Driver::shift`]). Where not, the file system must support
    /// id-mapped mounts for unprivileged containers.
    pub shift_on_disk: bool,
}

/// What became of an image that was to be deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ImageFate {
    /// It is out of the way; what it held waits in the trash. None: it was not there.
    Gone(Option<Trash>),
    /// Volumes made from it need it: nothing was done.
    InUse(Vec<Volume>),
}

/// The images of a pool: unpacked once, shared by the volumes made from them. All methods work on one pool. Steps that a
/// killed process left half done are finished or undone by the next call for the same object; each method says how it behaves
/// when repeated.
pub trait Images: std::fmt::Debug + Send + Sync {
    /// Makes an empty folder in the pool to unpack an image into: `rootfs/`, `metadata.yaml` and, if the image has them,
    /// `templates/`. Its fingerprint need not be known yet. What an earlier attempt of that name left is thrown away. No lock:
    /// the name is the caller's own.
    ///
    /// # Errors
    /// The pool cannot be written.
    fn begin_image(&self, staging: &Staging) -> Result<PathBuf>;

    /// Makes the unpacked image usable under its fingerprint. The file system is synced first (syncfs(2)): an image is shared by
    /// all later instances and is never read again from its archive, so after a power cut it must be whole or not there. An
    /// image that is there already stays, and what was unpacked is removed. Repeated: nothing happens. Lock: the image, exclusive.
    ///
    /// # Errors
    /// NotFound without `begin_image`; Invalid if `rootfs` is no folder or `metadata.yaml` or `templates` are not what they
    /// should be (a symbolic link, say).
    fn commit_image(&self, staging: &Staging, image: &Fingerprint) -> Result<()>;

    /// Throws away what was unpacked and not committed. Repeated: None.
    ///
    /// # Errors
    /// The pool cannot be written.
    fn abort_image(&self, staging: &Staging) -> Result<Option<Trash>>;

    /// What is being unpacked, or was when its process was killed.
    ///
    /// # Errors
    /// The pool cannot be read.
    fn staged_images(&self) -> Result<Vec<Staging>>;

    /// The image is in the pool.
    ///
    /// # Errors
    /// The pool cannot be read.
    fn has_image(&self, image: &Fingerprint) -> Result<bool>;

    /// The folder that holds `metadata.yaml` of an image that is in the pool, and `templates/` and `config.json` if it has them; not
    /// to be written.
    fn image_metadata(&self, image: &Fingerprint) -> PathBuf;

    /// Removes the image unless volumes still need it. To be called when its record goes, and again after each
    /// [`Driver::delete`] of a volume whose image has no record any more. Repeated: `Gone(None)`. Lock: the image, exclusive.
    ///
    /// # Errors
    /// The pool cannot be written.
    fn delete_image(&self, image: &Fingerprint) -> Result<ImageFate>;

    /// The volumes that still need the image: it stays in the pool as long as there are any.
    ///
    /// # Errors
    /// The pool cannot be read.
    fn image_users(&self, image: &Fingerprint) -> Result<Vec<Volume>>;

    /// The images in the pool, sorted.
    ///
    /// # Errors
    /// The pool cannot be read.
    fn images(&self) -> Result<Vec<Fingerprint>>;

    /// Images that are not in the pool and of which something beside them is: [`Images::delete_image`] removes that. A power
    /// cut may leave it, of an image that was on its way in or out.
    ///
    /// # Errors
    /// The pool cannot be read.
    fn image_remains(&self) -> Result<Vec<Fingerprint>> {
        Ok(Vec::new())
    }

    /// Layers of images are kept apart here.
    fn layers(&self) -> Option<&dyn Layers> {
        None
    }
}

/// A size and what counts against it, bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// In use.
    pub used: u64,
    /// Most that can be.
    pub total: u64,
}

/// Sizes of volumes. What has none is bounded by its file system alone.
pub trait Quotas {
    /// The file system below the pool keeps sizes.
    ///
    /// # Errors
    /// The pool cannot be read.
    fn can_bound(&self) -> Result<bool>;

    /// Says what size the volumes made next are to have, none for the usual one: where a size is given when a volume is made, that
    /// spares another step. [`Quotas::set_size`] is called all the same.
    fn plan(&self, _size: Option<u64>) {}

    /// Says which options the volumes made next are to have, and those that [`Quotas::set_size`] is called for.
    ///
    /// # Errors
    /// A value is wrong.
    fn plan_options(&self, _config: &Config) -> Result<()> {
        Ok(())
    }

    /// Says how large a disk the custom volumes made next are to hold, bytes: in place of the other two.
    fn plan_disk(&self, _size: u64) {}

    /// Has a volume have room for a disk of that size, bytes, where volumes are file systems of a size. Repeated: nothing happens.
    ///
    /// # Errors
    /// NotFound; no room.
    fn make_room(&self, _volume: &Volume, _size: u64) -> Result<()> {
        Ok(())
    }

    /// Gives a volume another size, or none, whatever it holds and whether it is in use. What takes its place by
    /// [`Driver::finish_restore`] has the same; a copy has none. Repeated: nothing happens. Lock: as for [`Driver::delete`].
    ///
    /// # Errors
    /// NotFound; Unsupported: the file system keeps no sizes.
    fn set_size(&self, volume: &Volume, size: Option<u64>) -> Result<()>;

    /// The size of a volume and what counts against it; none if it has none.
    ///
    /// # Errors
    /// NotFound.
    fn space(&self, volume: &Volume) -> Result<Option<Space>>;
}

/// What is said where sizes cannot be kept.
fn not_bounded() -> Error {
    Error::unsupported("The file system of the storage pool doesn't keep sizes").hint(
        "mount it with prjquota (ext4 with the features quota and project, or xfs), or use a pool of the driver \"btrfs\"",
    )
}

/// Copies of the records of volumes, beside them (`kept`).
pub trait Records {
    /// Keeps a copy of a volume's record beside it, for [`Records::kept_record`]. It is renamed and goes with the volume. Not
    /// synced: it is for the day when nothing else is left. Lock: the volume's.
    ///
    /// # Errors
    /// The pool cannot be written.
    fn keep_record(&self, volume: &Volume, text: &str) -> Result<()>;

    /// That copy; None if there is none. As hostile as all that comes from a disk.
    ///
    /// # Errors
    /// It cannot be read.
    fn kept_record(&self, volume: &Volume) -> Result<Option<String>>;

    /// The volumes of which copies are kept and that are not there: what a power cut left. Lock: none.
    ///
    /// # Errors
    /// The pool cannot be read.
    fn stray_records(&self) -> Result<Vec<Volume>>;

    /// Removes the copy. Repeated: nothing happens. Lock: none; `admin maintain` makes it again if the volume is there.
    ///
    /// # Errors
    /// The pool cannot be written.
    fn drop_record(&self, volume: &Volume) -> Result<()>;
}

/// A storage driver. All methods work on one pool, and can be repeated as those of [`Images`].
pub trait Driver: Images + Quotas + Records {
    /// Name, as in `storage create <pool> <driver>`.
    fn name(&self) -> &'static str;

    /// What it can do.
    fn caps(&self) -> Caps;

    /// Makes a volume from an image. It appears at once, by a rename, or not at all. Its content is not synced: it holds
    /// nothing yet that the image does not, and a sync here would cost more than the whole start. That it is there is on
    /// disk before any record that is synced later: by itself on ext4 and xfs, by a sync of its folder elsewhere.
    /// A half-made one from before is replaced. Locks: the image shared, the instance exclusive.
    ///
    /// # Errors
    /// NotFound: the image is not in the pool. Exists: the volume is there.
    fn create_from_image(&self, volume: &Volume, image: &Fingerprint) -> Result<()>;

    /// Makes a volume with an empty root file system (0755, root); a custom one is empty itself (0700, root).
    ///
    /// # Errors
    /// Exists.
    fn create_empty(&self, volume: &Volume) -> Result<()>;

    /// Makes `to` a copy of `from`, at rest or frozen; snapshots are made this way, too. Unlike an image's copy it is on disk
    /// when it appears: it is not to be had again. Lock: both instances; the image shared.
    ///
    /// # Errors
    /// NotFound: `from`. Exists: `to`.
    fn copy(&self, from: &Volume, to: &Volume) -> Result<()>;

    /// Puts a copy of `from`, on disk, beside the existing volume `to`, for [`Driver::finish_restore`]. A half-made one from
    /// before is replaced. Lock: the instance of both.
    ///
    /// # Errors
    /// NotFound: one of them; no space.
    fn begin_restore(&self, from: &Volume, to: &Volume) -> Result<()>;

    /// Puts what [`Driver::create_from_image`] would make beside the existing volume, for [`Driver::finish_restore`]. Locks: the
    /// image shared, the instance exclusive.
    ///
    /// # Errors
    /// NotFound: the image or the volume; no space.
    fn begin_rebuild(&self, volume: &Volume, image: &Fingerprint) -> Result<()>;

    /// What [`Driver::begin_restore`] made takes the place of `to`; the old content comes back as trash. Repeated, also after a
    /// kill in between: it is finished, or nothing happens. Nobody uses the volume. Lock: its instance.
    ///
    /// # Errors
    /// The pool cannot be written.
    fn finish_restore(&self, to: &Volume) -> Result<Option<Trash>>;

    /// Throws away what [`Driver::begin_restore`] made, whole or not. Repeated: nothing happens.
    ///
    /// # Errors
    /// The pool cannot be written.
    fn abort_restore(&self, to: &Volume) -> Result<()>;

    /// Begins a volume whose content comes from elsewhere: its folder, with an empty `rootfs` (0755, root) in it, a custom
    /// one without, to be filled and shown by [`Driver::commit_volume`], or, if there is such a volume, to take its place as [`Driver::begin_restore`]'s.
    /// A half-made one from before is replaced. Lock: the instance, exclusive.
    ///
    /// # Errors
    /// The pool cannot be written.
    fn begin_volume(&self, volume: &Volume) -> Result<PathBuf>;

    /// Shows what was begun, once it is on disk.
    ///
    /// # Errors
    /// NotFound: nothing was begun; Exists: the volume is there; no space.
    fn commit_volume(&self, volume: &Volume) -> Result<()>;

    /// The map that the owners on disk of the volume have; empty: they are the container's own ids.
    ///
    /// # Errors
    /// NotFound; what is kept about it is damaged.
    fn owners(&self, volume: &Volume) -> Result<IdMap> {
        self.exists(volume)?.then(IdMap::default).ok_or_else(|| Error::not_found("Volume not found"))
    }

    /// Renames a volume. Repeated: nothing happens.
    ///
    /// # Errors
    /// NotFound: neither name is there. Exists: both are.
    fn rename(&self, from: &Volume, to: &Volume) -> Result<()>;

    /// Moves a volume into the trash, half-made ones too; `empty` then frees the space. Repeated: None.
    ///
    /// # Errors
    /// The pool cannot be written.
    fn delete(&self, volume: &Volume) -> Result<Option<Trash>>;

    /// The volume is there, whole.
    ///
    /// # Errors
    /// The pool cannot be read.
    fn exists(&self, volume: &Volume) -> Result<bool>;

    /// The volumes of one kind, sorted.
    ///
    /// # Errors
    /// The pool cannot be read.
    fn list(&self, kind: VolumeKind) -> Result<Vec<Volume>>;

    /// How the root file system is put together; of a custom volume the folder that instances see. Paths are absolute.
    ///
    /// # Errors
    /// NotFound: the volume, or the image below it.
    fn rootfs(&self, volume: &Volume) -> Result<Rootfs>;

    /// The folder that holds `metadata.yaml`, `templates/` and `config.json` of the volume: its own, or its image's (not to be written).
    ///
    /// # Errors
    /// NotFound.
    fn metadata(&self, volume: &Volume) -> Result<PathBuf>;

    /// The same folder, the volume's own, to be written; it counts once it has a `metadata.yaml`.
    ///
    /// # Errors
    /// NotFound.
    fn own_metadata(&self, volume: &Volume) -> Result<PathBuf> {
        self.metadata(volume)
    }

    /// What the volume takes up beyond its image.
    ///
    /// # Errors
    /// NotFound; a folder could not be read.
    fn usage(&self, volume: &Volume) -> Result<Usage>;

    /// The volume can be mounted with an id map whatever the file system of the pool can; false: as that can.
    ///
    /// # Errors
    /// The pool cannot be read.
    fn maps_ids(&self, _volume: &Volume) -> Result<bool> {
        Ok(false)
    }

    /// Changes the owners on disk to the id map `to` (empty: the container's own ids), for file systems without id-mapped
    /// mounts. Which map the disk has is kept in the volume itself; the same one again does nothing. Returns the old
    /// tree. The instance is stopped.
    ///
    /// # Errors
    /// NotFound; Unsupported by the driver; no space for a second copy.
    fn shift(&self, volume: &Volume, to: &IdMap) -> Result<Option<Trash>>;

    /// A shift is more than one step, and goes by a journal: [`Driver::begin_shift`] and `finish_restore`.
    fn shifts_in_steps(&self) -> bool {
        false
    }

    /// The same of a custom volume, but that [`Driver::finish_restore`] has the new tree take its place; nobody uses it.
    ///
    /// # Errors
    /// As [`Driver::shift`].
    fn begin_shift(&self, _volume: &Volume, _to: &IdMap) -> Result<()> {
        Err(Error::unsupported("The storage driver cannot shift the owners in custom volumes"))
    }

    /// Volumes have a form of the driver's own as streams.
    fn streams(&self) -> Option<&dyn streams::Streams> {
        None
    }

    /// What waits in the trash, of this command or of earlier ones.
    ///
    /// # Errors
    /// The pool cannot be read.
    fn trash(&self) -> Result<Vec<Trash>>;

    /// Frees what the trash holds. Slow, needs no lock, may run twice at a time. Repeated: nothing happens.
    ///
    /// # Errors
    /// The first thing that could not be removed; the rest was.
    fn empty(&self, trash: &Trash) -> Result<()>;
}

/// The driver of a pool with that configuration on the pool folder `data`, which [`setup`] made before.
///
/// # Errors
/// As [`driver`]; an option is wrong.
pub fn open(name: &str, data: &Path, config: &Config) -> Result<Box<dyn Driver>> {
    if let Some(group) = lvm::Group::of(name, config) {
        return Ok(Box::new(lvm::Lvm::new(pool::Pool::open(data)?, group, lvm::Settings::of(config)?)));
    }
    match zfs::Root::of(name, config) {
        Some(root) => Ok(Box::new(zfs::Zfs::new(pool::Pool::open(data)?, root, zfs::Settings::of(config)?))),
        None => driver(name, data),
    }
}

/// The driver `name`, one that needs no configuration, on the pool folder `data`, which [`setup`] made before.
///
/// # Errors
/// Invalid: no such driver. NotFound: no such folder. Denied: others can write to it.
pub fn driver(name: &str, data: &Path) -> Result<Box<dyn Driver>> {
    match name {
        "dir" => Ok(Box::new(dir::Dir::new(pool::Pool::open(data)?))),
        "btrfs" => Ok(Box::new(btrfs::Btrfs::new(pool::Pool::open(data)?)?)),
        "overlay" => Ok(Box::new(overlay::Overlay::new(pool::Pool::open(data)?))),
        _ => Err(Error::invalid(format!("Unknown storage driver \"{name}\""))),
    }
}
