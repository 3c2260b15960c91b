//! The `/dev` of a container: a tmpfs with real device nodes, a devpts of its own, and the console.
//!
//! The nodes are made by the host in a file system whose ids are the container's; an unprivileged container can use them
//! and make none. Inside a container none can be made at all: there plain files are the mount points for those around us
//! ([`node_names`]). Called by `start` only.

use crate::error::{Context, Result};
use crate::sys::mount::{Attr, Param, new_fs};
use crate::sys::pty;
use rustix::fs::{AtFlags, FileType, Gid, Mode, Uid, chownat, mkdirat, mknodat, symlinkat};
use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};

/// Group of terminals in nearly every distribution; owner of the slaves, as in Incus.
const TTY_GID: u32 = 5;

/// A standard node: name, major, minor, mode.
const NODES: [(&str, u32, u32, u32); 6] = [
    ("null", 1, 3, 0o666),
    ("zero", 1, 5, 0o666),
    ("full", 1, 7, 0o666),
    ("random", 1, 8, 0o666),
    ("urandom", 1, 9, 0o666),
    ("tty", 5, 0, 0o666),
];
/// Nodes that are there when the host has them.
const OPTIONAL: [(&str, u32, u32, u32); 2] = [("fuse", 10, 229, 0o666), ("net/tun", 10, 200, 0o666)];
const LINKS: [(&str, &str); 5] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
];

/// The host ids of the container's root and of its terminal group.
#[derive(Debug, Clone, Copy)]
pub struct Owner {
    /// Of uid 0.
    pub uid: u32,
    /// Of gid 0.
    pub gid: u32,
    /// Of gid 5.
    pub tty: u32,
}

impl Owner {
    /// Looked up with `uid` and `gid`, which give the host id of a container id.
    pub fn new(uid: impl Fn(u32) -> u32, gid: impl Fn(u32) -> u32) -> Self {
        Self { uid: uid(0), gid: gid(0), tty: gid(TTY_GID) }
    }
}

/// The detached mounts, and the console's pair with the number of its slave.
#[derive(Debug)]
pub struct Dev {
    /// For `/dev`.
    pub dev: OwnedFd,
    /// For `/dev/pts`.
    pub pts: OwnedFd,
    /// For `/dev/shm`.
    pub shm: OwnedFd,
    /// The console's master.
    pub master: OwnedFd,
    /// The console's slave.
    pub slave: OwnedFd,
    /// Its number in `/dev/pts`.
    pub number: u32,
}

/// Makes all of it.
///
/// # Errors
/// [`crate::error::Kind::Failed`], naming the step.
pub fn make(owner: Owner) -> Result<Dev> {
    let dev = folder(owner).context("Failed creating /dev")?;
    let pts = devpts(owner).context("Failed creating /dev/pts")?;
    let shm = new_fs(
        c"tmpfs",
        &[
            Param::Text(c"mode", c"1777"),
            Param::Text(c"uid", &number(owner.uid)),
            Param::Text(c"gid", &number(owner.gid)),
        ],
        Attr::MOUNT_ATTR_NOSUID | Attr::MOUNT_ATTR_NODEV,
    )
    .context("Failed creating /dev/shm")?;
    let (master, slave, number) = pty::open(pts.as_fd(), owner.uid, owner.tty).context("Failed opening the console")?;
    Ok(Dev { dev, pts, shm, master, slave, number })
}

/// Names below `/dev` of the device nodes that a container has on this host.
pub fn node_names() -> impl Iterator<Item = &'static str> {
    let there = |(name, ..): &(&str, u32, u32, u32)| std::fs::exists(format!("/dev/{name}")).unwrap_or(false);
    NODES.iter().map(|n| n.0).chain(OPTIONAL.into_iter().filter(there).map(|n| n.0))
}

fn number(n: u32) -> CString {
    CString::new(n.to_string()).unwrap_or_default()
}

fn devpts(owner: Owner) -> crate::sys::Result<OwnedFd> {
    let params = [
        Param::Text(c"gid", &number(owner.tty)),
        Param::Text(c"mode", c"0620"),
        Param::Text(c"ptmxmode", c"0666"),
        Param::Text(c"max", c"1024"),
    ];
    new_fs(c"devpts", &params, Attr::MOUNT_ATTR_NOSUID | Attr::MOUNT_ATTR_NOEXEC)
}

fn folder(owner: Owner) -> Result<OwnedFd> {
    let params = [
        Param::Text(c"mode", c"0755"),
        Param::Text(c"size", c"500k"),
        Param::Text(c"nr_inodes", c"2048"),
        Param::Text(c"uid", &number(owner.uid)),
        Param::Text(c"gid", &number(owner.gid)),
    ];
    let dev = new_fs(c"tmpfs", &params, Attr::MOUNT_ATTR_NOSUID)?;
    for dir in ["pts", "shm", "mqueue", "net"] {
        let mode = Mode::from_raw_mode(0o755);
        mkdirat(&dev, dir, mode)?;
        // The umask took bits away: without them only root could use /dev/net/tun.
        rustix::fs::chmodat(&dev, dir, mode, AtFlags::empty())?;
        own(&dev, dir, owner)?;
    }
    for (name, major, minor, mode) in NODES {
        node(&dev, owner, name, (major, minor), mode)?;
    }
    for (name, major, minor, mode) in OPTIONAL {
        if std::fs::exists(format!("/dev/{name}")).unwrap_or(false) {
            node(&dev, owner, name, (major, minor), mode)?;
        }
    }
    for (name, target) in LINKS {
        symlinkat(target, &dev, name)?;
        own(&dev, name, owner)?;
    }
    // A mount point for the console's terminal.
    mknodat(&dev, "console", FileType::RegularFile, Mode::from_raw_mode(0o600), 0)?;
    own(&dev, "console", owner)?;
    Ok(dev)
}

fn node(dev: &OwnedFd, owner: Owner, name: &str, (major, minor): (u32, u32), mode: u32) -> Result<()> {
    let mode = Mode::from_raw_mode(mode);
    match mknodat(dev, name, FileType::CharacterDevice, mode, libc::makedev(major, minor)) {
        // In a user namespace (mknod(2)): the node that we have ourselves will be bound here.
        Err(rustix::io::Errno::PERM) => mknodat(dev, name, FileType::RegularFile, mode, 0)?,
        other => other?,
    }
    // The umask took bits away.
    rustix::fs::chmodat(dev, name, mode, AtFlags::empty())?;
    own(dev, name, owner)
}

fn own(dev: &OwnedFd, name: &str, owner: Owner) -> Result<()> {
    let (uid, gid) = (Uid::from_raw(owner.uid), Gid::from_raw(owner.gid));
    Ok(chownat(dev, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?)
}
