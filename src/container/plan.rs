//! The plan of a container: everything a start needs, as data. `ops` makes it, the monitor executes it, tests compare it.
//!
//! It is an OCI runtime specification plus what that has no word for. Nothing here touches the system.

use super::resources::{self, Setting};
use crate::error::{Error, Result};
use crate::model::attach::{Mount, Rootfs, Shift};
use crate::model::cpus::CpuWish;
use crate::model::nic::Nic;
use crate::model::proxy::Proxy;
use oci_spec::runtime::{LinuxIdMapping, Spec};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// The plan.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Plan {
    /// Process, host name, id maps, capabilities, limits, sysctls, seccomp: as the runtime specification has them.
    #[serde(deserialize_with = "super::plan_spec::deserialize")]
    pub spec: Spec,
    /// Project of the instance.
    pub project: String,
    /// Its name.
    pub name: String,
    /// Its root file system.
    pub rootfs: Rootfs,
    /// The root is mounted read-only.
    pub readonly: bool,
    /// What is written need not survive the container.
    pub throwaway: bool,
    /// How ids on disk become the container's.
    pub shift: Shift,
    /// Mounts of its devices, in order.
    pub mounts: Vec<Mount>,
    /// Network interfaces besides the loopback.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub nics: Vec<Nic>,
    /// Processes beside it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub proxies: Vec<Proxy>,
    /// What of the host's own is bound in: sysfs folders, lxcfs files.
    pub host_binds: Vec<Bind>,
    /// Runs without a user namespace.
    pub privileged: bool,
    /// Extra proc and sysfs mounts for containers inside.
    pub nesting: bool,
    /// What runs as process 1.
    pub init: Init,
    /// Files to be written into its root before it starts.
    pub files: Vec<File>,
    /// Folder of its cgroup.
    pub cgroup: PathBuf,
    /// The CPUs it asks for; which ones it gets is settled when it starts, with all others that run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpus: Option<CpuWish>,
    /// Its folder under the run directory.
    pub run_dir: PathBuf,
    /// Its folder under the log directory.
    pub log_dir: PathBuf,
    /// The state folder and its companions, for recording the exit.
    pub places: Places,
    /// The signal that asks process 1 to shut down; none: what it handles tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop_signal: Option<i32>,
    /// Times of automatic restarts so far, seconds since the epoch, separated by spaces.
    pub restarted: String,
}

/// The four folders everything lives under, as the monitor is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Places {
    /// Records.
    pub state: PathBuf,
    /// What runs.
    pub run: PathBuf,
    /// Downloads.
    pub cache: PathBuf,
    /// Logs.
    pub log: PathBuf,
}

/// A file to be written into the root.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct File {
    /// Absolute path in the container.
    pub path: String,
    /// Its content.
    pub text: String,
    /// Leave a file that is there already.
    pub create_only: bool,
    /// Owner of a new file, as the container sees it.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// Its mode.
    pub mode: u32,
}

/// A path of the host bound in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bind {
    /// On the host.
    pub source: PathBuf,
    /// In the container.
    pub target: PathBuf,
}

/// What runs as process 1.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Init {
    /// The image's own init system, on the console.
    System,
    /// Our small init with the specification's process as its child.
    Command {
        /// The command runs on a terminal.
        terminal: bool,
    },
}

impl Plan {
    /// As JSON, for the monitor.
    ///
    /// # Errors
    /// [`crate::error::Kind::Internal`] if it cannot be written.
    pub fn to_json(&self) -> Result<Vec<u8>> {
        serde_json::to_vec(self).map_err(|e| Error::internal("Failed writing the plan").caused_by(e))
    }

    /// From JSON.
    ///
    /// # Errors
    /// [`crate::error::Kind::Internal`] if it is not a plan.
    pub fn from_json(data: &[u8]) -> Result<Self> {
        serde_json::from_slice(data).map_err(|e| Error::internal("Failed reading the plan").caused_by(e))
    }

    /// The control files of its limits.
    pub fn limits(&self) -> Vec<Setting> {
        let linux = self.spec.linux().as_ref();
        linux.and_then(|l| l.resources().as_ref()).map(resources::files).unwrap_or_default()
    }

    /// The AppArmor label that all of it runs with.
    pub fn apparmor(&self) -> Option<&str> {
        self.spec.process().as_ref()?.apparmor_profile().as_deref()
    }

    /// Host id of the container's uid `id`; unmapped ids are the overflow id.
    pub fn host_uid(&self, id: u32) -> u32 {
        map(self.spec.linux().as_ref().and_then(|l| l.uid_mappings().as_deref()), id)
    }

    /// True if the host's user `uid` is one of the container's.
    pub fn holds_uid(&self, uid: u32) -> bool {
        let mappings = self.spec.linux().as_ref().and_then(|l| l.uid_mappings().as_deref());
        let holds = |m: &LinuxIdMapping| uid.checked_sub(m.host_id()).is_some_and(|at| at < m.size());
        self.privileged || mappings.is_some_and(|all| all.iter().any(holds))
    }

    /// Host id of the container's gid `id`.
    pub fn host_gid(&self, id: u32) -> u32 {
        map(self.spec.linux().as_ref().and_then(|l| l.gid_mappings().as_deref()), id)
    }
}

fn map(mappings: Option<&[LinuxIdMapping]>, id: u32) -> u32 {
    const OVERFLOW: u32 = 65534;
    let Some(mappings) = mappings.filter(|m| !m.is_empty()) else { return id };
    mappings
        .iter()
        .find_map(|m| id.checked_sub(m.container_id()).filter(|at| *at < m.size()).map(|at| m.host_id() + at))
        .unwrap_or(OVERFLOW)
}
