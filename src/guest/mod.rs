//! Files inside an instance, reached beneath a descriptor of its root: push, pull, delete, templates.
//!
//! Called by `ops`, which opens the root: `/proc/<pid>/root` of a running container, a detached mount of a stopped one.
//! Everything in there is the guest's, and it may change under our hands: names are resolved by `sys::path` alone.
pub mod files;
pub mod templates;

use crate::base::idmap::IdMap;
use crate::error::{Error, Result};
use crate::sys::cred;
use crate::sys::path::{self, Owner};
use std::os::fd::BorrowedFd;

/// Id shown for an owner that is not in the map.
pub const NOBODY: u32 = 65_534;

/// An instance's root folder with the ids it is seen with.
#[derive(Debug, Clone, Copy)]
pub struct Root<'a> {
    /// The folder; `O_PATH` will do.
    pub fd: BorrowedFd<'a>,
    /// How the instance's ids appear through `fd`: its id map for `/proc/<pid>/root` and for an id-mapped mount; empty where
    /// they appear as they are.
    pub ids: &'a IdMap,
}

impl Root<'_> {
    /// The id on our side of one of the instance.
    fn host(&self, owner: Owner) -> Result<Owner> {
        if self.ids.is_empty() {
            return Ok(owner);
        }
        let missing = |kind: &str, id: u32| Error::invalid(format!("{kind} {id} is not mapped in the instance"));
        Ok(Owner {
            uid: self.ids.to_host_uid(owner.uid).ok_or_else(|| missing("UID", owner.uid))?,
            gid: self.ids.to_host_gid(owner.gid).ok_or_else(|| missing("GID", owner.gid))?,
            mode: owner.mode,
        })
    }

    /// The instance's owner of what we see as `stat`.
    fn inside(&self, stat: &path::Stat) -> Owner {
        let (uid, gid) = match self.ids.is_empty() {
            true => (stat.uid, stat.gid),
            false => (self.ids.to_ns_uid(stat.uid).unwrap_or(NOBODY), self.ids.to_ns_gid(stat.gid).unwrap_or(NOBODY)),
        };
        Owner { uid, gid, mode: stat.mode }
    }

    /// Runs `make`, which creates files, with the file-system ids of the instance's root: an id-mapped mount refuses new
    /// files of ids it does not know (EOVERFLOW), ours among them. All capabilities stay.
    fn creating<T>(&self, make: impl FnOnce() -> Result<T>) -> Result<T> {
        if self.ids.is_empty() || !rustix::process::geteuid().is_root() {
            return make();
        }
        let root = self.host(Owner { uid: 0, gid: 0, mode: 0 })?;
        cred::with_fs_ids(root.uid, root.gid, || Ok(make()))?
    }
}
