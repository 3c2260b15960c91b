//! Where storage, devices and the runtimes meet: plain data, so that none of them calls another (design, section 3).
//!
//! A device states [`Need`]s; `ops::wiring` has them met and hands back [`Supply`]s; the device answers with
//! [`Attachment`]s; `container` and `vm` translate those with one exhaustive match each.

use super::nic::{Identity, Nic};
use super::proxy::Proxy;
use crate::base::idmap::IdMap;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// How an instance's root file system is put together. Paths are the pool's, with ids unshifted unless said otherwise.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rootfs {
    /// One folder.
    Dir {
        /// The folder.
        path: PathBuf,
    },
    /// Read-only layers below one writable one.
    Overlay {
        /// Topmost first.
        lower: Vec<PathBuf>,
        /// The writable layer.
        upper: PathBuf,
        /// overlayfs's work folder, on the same file system.
        work: PathBuf,
    },
}

/// Whether the ids on disk are the container's own or were shifted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Shift {
    /// Mounted with an id map.
    Idmapped,
    /// The tree on disk already has host ids, or nothing is to be mapped (privileged).
    None,
}

/// What a device wants before it can start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Need {
    /// A path on the host that must exist.
    HostPath {
        /// Absolute path.
        path: PathBuf,
        /// Its absence is an error.
        required: bool,
    },
    /// The instance's root volume.
    RootVolume,
    /// A custom volume.
    Volume {
        /// Its pool.
        pool: String,
        /// Its name.
        volume: String,
        /// Its absence is an error.
        required: bool,
    },
    /// Name and address of a network interface.
    Interface,
}

/// What a device got.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Supply {
    /// The host path is there.
    HostPath {
        /// Absolute path.
        path: PathBuf,
        /// The folder that it must not lead out of.
        beneath: Option<PathBuf>,
    },
    /// An optional thing is not there: the device is skipped.
    Absent,
    /// The root volume.
    Rootfs(Rootfs),
    /// A custom volume.
    Volume {
        /// The folder of its data.
        root: PathBuf,
        /// Its ids are to be mapped.
        shift: bool,
        /// The map that the owners on disk have; empty: they are as the instance sees them, or as they are.
        on_disk: IdMap,
        /// Owner, group and mode of folders that are made in it.
        initial: (u32, u32, u32),
    },
    /// What is settled about the interface.
    Interface(Identity),
}

/// What a device gives the runtime.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Attachment {
    /// The root file system.
    Root {
        /// How it is put together.
        rootfs: Rootfs,
        /// Mounted read-only.
        readonly: bool,
    },
    /// A mount inside the instance.
    Mount(Mount),
    /// A network interface.
    Nic(Nic),
    /// A process beside the instance.
    Proxy(Proxy),
}

/// A mount inside the instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// The device it belongs to.
    pub device: String,
    /// What is mounted.
    pub source: MountSource,
    /// Absolute path in the instance.
    pub target: PathBuf,
    /// Read-only.
    pub readonly: bool,
    /// Ids mapped by an id-mapped mount (`shift=true`).
    pub shift: bool,
    /// Bring the mounts below the source along.
    pub recursive: bool,
    /// `private`, `shared`, `slave`, `unbindable` or one of these with `r` in front; none leaves the default.
    pub propagation: Option<String>,
    /// Further mount options, for a file system.
    pub options: Vec<String>,
}

/// What is mounted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MountSource {
    /// A file or folder of the host.
    HostPath(PathBuf),
    /// One that is looked up beneath a folder: links that lead out of that are refused.
    HostBeneath {
        /// The folder.
        folder: PathBuf,
        /// Relative to it; may be empty.
        path: PathBuf,
    },
    /// A custom volume, or a part of it. What lies in it is under the control of its users: the path is looked up beneath its
    /// root without following links.
    Volume {
        /// The folder of its data.
        root: PathBuf,
        /// A file or folder below that; a folder that is missing is made. None: all of it.
        path: Option<PathBuf>,
        /// Owner, group and mode of what is made.
        initial: (u32, u32, u32),
    },
    /// A fresh tmpfs; ids are the instance's.
    Tmpfs {
        /// Bytes; none is the kernel's default.
        size: Option<u64>,
        /// Owner of its root.
        uid: u32,
        /// Group of its root.
        gid: u32,
        /// Mode of its root.
        mode: u32,
    },
}
