//! Which id map the owners in a volume have on disk: said by a file beside its root file system.
//!
//! Used by the drivers that shift (dir, zfs). In a custom volume all is the user's: there it says nothing.

use super::pool::Pool;
use crate::base::idmap::IdMap;
use crate::error::{Context, Error, Result};
use crate::sys::path::{self, Links, Owner};
use rustix::fd::AsFd;
use std::ffi::CStr;
use std::path::Path;

/// The file.
const FILE: &str = "idmap";
/// Its name, for those who leave it out.
pub(super) const NAME: &CStr = c"idmap";
/// Largest one read.
const MAX: u64 = 1 << 20;

/// There is such a file.
pub(super) fn is_said(pool: &Pool, rel: &str) -> Result<bool> {
    pool.has(&format!("{rel}/{FILE}"))
}

/// The map that the owners in the volume in the folder `rel` have; empty: they are the container's own.
pub(super) fn read(pool: &Pool, rel: &str) -> Result<IdMap> {
    if !is_said(pool, rel)? {
        return Ok(IdMap::default());
    }
    let text = path::read_limited(pool.open_dir(rel)?.as_fd(), Path::new(FILE), MAX, Links::Refuse)?;
    let text = String::from_utf8(text).map_err(|_| Error::invalid("Invalid ID map"))?;
    IdMap::from_json(&text).with_context(|| format!("Failed reading \"{}\"", pool.path(rel).display()))
}

/// Says it.
pub(super) fn write(pool: &Pool, rel: &str, map: &IdMap) -> Result<()> {
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    let owner = Owner { uid, gid, mode: 0o600 };
    let folder = pool.open_dir(rel)?;
    path::write_replace(folder.as_fd(), Path::new(FILE), map.to_json().as_bytes(), owner, Links::Refuse)
}
