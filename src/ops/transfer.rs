//! The root file system of an instance or of its snapshot from one pool to another, or to another driver: file by file, as the
//! instance sees it.

use crate::base::idmap::IdMap;
use crate::container::rootfs;
use crate::error::{Context, Error, Result};
use crate::fault;
use crate::storage::{Driver, Ids, Volume, copy_tree};
use crate::store::Store;
use crate::sys::path;
use std::ffi::CStr;
use std::os::fd::AsFd;
use std::path::Path;

/// What lies in a volume's folder and is its driver's own affair, or is copied apart.
const NOT_METADATA: [&CStr; 5] = [c"rootfs", c"upper", c"work", c"image", c"idmap"];

/// A volume and the driver of its pool.
#[derive(Debug, Clone, Copy)]
pub struct End<'a> {
    /// The driver.
    pub driver: &'a dyn Driver,
    /// The volume.
    pub volume: &'a Volume,
}

/// Has all of the pool that the volume is in on disk.
///
/// # Errors
/// NotFound; the disk fails.
pub fn sync(driver: &dyn Driver, volume: &Volume) -> Result<()> {
    sync_at(&driver.metadata(volume)?)
}

/// Has all of the file system that a folder of the pool is in on disk.
///
/// # Errors
/// As [`sync`].
pub fn sync_at(folder: &Path) -> Result<()> {
    let root = path::open_root(folder)?;
    let folder = path::open_dir(root.as_fd(), Path::new("."), path::Links::Refuse)?;
    rustix::fs::syncfs(&folder).map_err(Error::from).context("Failed syncing the storage pool")
}

/// Puts a copy of `from`, which is at rest or frozen, where the driver puts `to` together. Locks: the instances of both.
///
/// # Errors
/// NotFound: `from`; no space.
pub fn stage(store: &Store, from: End<'_>, to: End<'_>) -> Result<()> {
    let scratch = tempfile::tempdir_in(&store.layout().run).context("Failed creating a folder for mounting")?;
    let source = rootfs::view(&from.driver.rootfs(from.volume)?, scratch.path())?;
    let ids = Ids::change(&from.driver.owners(from.volume)?, &IdMap::default());
    let folder = to.driver.begin_volume(to.volume)?;
    fault::point("transfer.begun")?;
    let target = path::open_root(&folder)?;
    let root = path::open_dir(target.as_fd(), Path::new("rootfs"), path::Links::Refuse)?;
    copy_tree(source.as_fd(), root.as_fd(), &ids, &[])?;
    fault::point("transfer.copied")?;
    let beside = path::open_root(&from.driver.metadata(from.volume)?)?;
    copy_tree(beside.as_fd(), target.as_fd(), &Ids::none(), &NOT_METADATA)?;
    Ok(())
}
