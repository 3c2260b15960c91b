//! Whether what a new storage pool is to lie in is nobody's. Called by `pool_place`.

use crate::error::{Error, Result};
use crate::model::instance::Config;
use crate::model::keys::pool as keys;
use crate::storage::disk::Disk;
use crate::store::Store;
use std::path::{Path, PathBuf};

const GIB: u64 = 1 << 30;

/// A disk is nobody's; a file gets its size.
///
/// # Errors
/// Exists; Conflict.
pub(super) fn disk(store: &Store, disk: &Disk, config: &mut Config) -> Result<()> {
    match disk {
        Disk::Device(path) => is_nobodys(store, path),
        Disk::Image(path) if path.exists() => {
            Err(Error::exists(format!("Loop file \"{}\" already exists", path.display()))
                .hint("if no pool needs it: stapes doctor --fix"))
        }
        Disk::Image(_) if keys::SIZE.get(config).is_some() => Ok(()),
        Disk::Image(_) => {
            keys::SIZE.set(config, format!("{}GiB", default_size(&store.layout().state)? / GIB));
            Ok(())
        }
    }
}

/// It is on btrfs.
pub(super) fn is_btrfs(stat: &rustix::fs::StatFs) -> bool {
    #[allow(clippy::unnecessary_cast, reason = "the field types differ between architectures")]
    let magic = stat.f_type as i64;
    magic == crate::sys::btrfs::MAGIC
}

/// A fifth of what is free, between 5 and 30 GiB.
fn default_size(folder: &Path) -> Result<u64> {
    let stat = rustix::fs::statvfs(folder).map_err(std::io::Error::from)?;
    let free = stat.f_bavail.saturating_mul(stat.f_frsize);
    Ok((free / 5 / GIB * GIB).clamp(5 * GIB, 30 * GIB))
}

/// A source lies neither in our own folders nor in that of another pool.
///
/// # Errors
/// Conflict.
pub(super) fn is_nobodys(store: &Store, path: &Path) -> Result<()> {
    let layout = store.layout();
    for ours in [&layout.state, &layout.run, &layout.cache, &layout.log] {
        let real = ours.canonicalize().unwrap_or_else(|_| ours.clone());
        if path.starts_with(&real) {
            return Err(Error::conflict(format!(
                "Source path \"{}\" is within \"{}\"",
                path.display(),
                ours.display()
            ))
            .hint("leave source out for a pool in the state folder"));
        }
    }
    for (other, found) in store.pools()? {
        let Ok(Some(source)) = found.map(|pool| keys::SOURCE.get(&pool.config).map(PathBuf::from)) else { continue };
        if path.starts_with(&source) || source.starts_with(path) {
            let message = format!("Source path \"{}\" is in use by storage pool \"{other}\"", path.display());
            return Err(Error::conflict(message));
        }
    }
    Ok(())
}
