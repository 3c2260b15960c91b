//! Files inside an instance, reached beneath a descriptor of its root: push, pull, delete, templates.
//!
//! Called by `ops`, which opens the root: `/proc/<pid>/root` of a running container, a detached mount of a stopped one.
//! Everything in there is the guest's, and it may change under our hands: names are resolved by `sys::path` alone.
pub mod files;
pub mod templates;

use crate::base::idmap::IdMap;
use crate::error::{Error, Result};
use crate::sys::cred;
use crate::sys::mount;
use crate::sys::path::{self, Owner, Stat};
use std::os::fd::BorrowedFd;

/// Id shown for an owner that is not in the map.
pub const NOBODY: u32 = 65_534;

/// What [`Root::allow`] is asked for: reading a file or a folder's names, as in a mode.
const READ: u32 = 0o4;
/// Writing a file.
const WRITE: u32 = 0o2;
/// Making something in a folder.
const MAKE: u32 = 0o3;
/// Removing something from a folder: more than [`MAKE`] if it is sticky.
const REMOVE: u32 = 0o23;
/// Changing owner and mode.
const OWN: u32 = 0o10;

/// File systems through which the kernel is spoken to: proc, sysfs, cgroup 2 and 1, debugfs, tracefs, securityfs, bpf,
/// configfs, efivarfs, pstore, binfmt_misc, selinuxfs (statfs(2)).
const KERNELS: [i64; 13] = [
    0x9fa0,
    0x6265_6572,
    0x6367_7270,
    0x0027_e0eb,
    0x6462_6720,
    0x7472_6163,
    0x7363_6673,
    0xcafe_4a11,
    0x6265_6570,
    0xde5e_81e4,
    0x6165_676c,
    0x4249_4e4d,
    0xf97c_ff8c,
];

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

    /// Refuses what the instance's own root could not do. It mounts what it likes where it likes, so any path may lead to a
    /// folder that the host shares with it, or to the kernel's settings, for which we have more rights than it has. As in the
    /// kernel (capable_wrt_inode_uidgid()), its root may do everything with what belongs to a mapped user and group, and
    /// with the rest what everybody may. `fd` pins the object; `want`: [`READ`] and so on.
    fn allow(&self, fd: BorrowedFd<'_>, want: u32) -> Result<Stat> {
        let stat = path::fstat(fd)?;
        if want != READ && KERNELS.contains(&mount::fs_magic(fd)?) {
            return Err(Error::denied("Permission denied").hint("the instance has a file system of the kernel there"));
        }
        let mapped =
            self.ids.is_empty() || self.ids.to_ns_uid(stat.uid).is_some() && self.ids.to_ns_gid(stat.gid).is_some();
        let everybody = stat.mode & 0o7 | if stat.mode & 0o1000 == 0 { REMOVE & !MAKE } else { 0 };
        match mapped || want & !everybody == 0 {
            true => Ok(stat),
            false => Err(Error::denied("Permission denied").hint("its owner is nobody in the instance")),
        }
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
