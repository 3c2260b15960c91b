//! What `admin init --preseed` reads and `--dump` prints: the server's configuration, projects, networks, pools, volumes and
//! profiles.

use super::{NetworkPut, PoolPut, ProfilePut, ProjectPut, VolumePut};
use crate::base::yaml;
use crate::model::instance::Config;
use serde::{Deserialize, Serialize};

/// The document. Sections of Incus's that mean nothing here may be empty.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Preseed {
    /// Configuration of the server.
    #[serde(default, deserialize_with = "yaml::config")]
    pub config: Config,
    /// Networks.
    #[serde(default)]
    pub networks: Vec<PreseedNetwork>,
    /// Storage pools.
    #[serde(default)]
    pub storage_pools: Vec<PreseedPool>,
    /// Custom volumes.
    #[serde(default)]
    pub storage_volumes: Vec<PreseedVolume>,
    /// Profiles.
    #[serde(default)]
    pub profiles: Vec<PreseedProfile>,
    /// Projects.
    #[serde(default)]
    pub projects: Vec<PreseedProject>,
    /// Certificates.
    #[serde(default)]
    pub certificates: Vec<serde_json::Value>,
    /// Groups of cluster members.
    #[serde(default)]
    pub cluster_groups: Vec<serde_json::Value>,
    /// The cluster.
    #[serde(default)]
    pub cluster: Option<serde_json::Value>,
}

/// A network.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct PreseedNetwork {
    /// What can be written.
    #[serde(flatten)]
    pub put: NetworkPut,
    /// Its name.
    pub name: String,
    /// `bridge` if nothing is said.
    #[serde(rename = "type", default)]
    pub kind: String,
    /// Its project.
    #[serde(default)]
    pub project: String,
}

/// A storage pool.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct PreseedPool {
    /// What can be written.
    #[serde(flatten)]
    pub put: PoolPut,
    /// Its name.
    pub name: String,
    /// The one that suits the file system best if nothing is said.
    #[serde(default)]
    pub driver: String,
}

/// A custom volume.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct PreseedVolume {
    /// What can be written.
    #[serde(flatten)]
    pub put: VolumePut,
    /// Its name.
    pub name: String,
    /// `custom`, or nothing.
    #[serde(rename = "type", default)]
    pub kind: String,
    /// `filesystem` if nothing is said.
    #[serde(default)]
    pub content_type: String,
    /// The pool it is in.
    pub pool: String,
    /// Its project.
    #[serde(default)]
    pub project: String,
}

/// A project.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct PreseedProject {
    /// What can be written.
    #[serde(flatten)]
    pub put: ProjectPut,
    /// Its name.
    pub name: String,
}

/// A profile.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct PreseedProfile {
    /// What can be written.
    #[serde(flatten)]
    pub put: ProfilePut,
    /// Its name.
    pub name: String,
    /// Its project.
    #[serde(default)]
    pub project: String,
}

impl Preseed {
    /// The first section that says something this version cannot do.
    pub fn unsupported(&self) -> Option<&'static str> {
        let lists = [("certificates", &self.certificates), ("cluster_groups", &self.cluster_groups)];
        let list = lists.iter().find(|(_, list)| !list.is_empty()).map(|(name, _)| *name);
        list.or(self.cluster.as_ref().filter(|c| !c.is_null()).map(|_| "cluster"))
    }
}
