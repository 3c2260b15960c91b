//! What `admin init --preseed` reads and `--dump` prints: the server's configuration, projects, networks, pools, volumes and
//! profiles.

use crate::base::yaml;
use crate::model::instance::{Config, Devices};
use serde::{Deserialize, Serialize};

// What can be written of an object is not flattened into it: serde would guess what a value without quotes is.

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
    /// Configuration.
    #[serde(default, deserialize_with = "yaml::config")]
    pub config: Config,
    /// Free text.
    #[serde(default, deserialize_with = "yaml::text")]
    pub description: String,
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
    /// Configuration.
    #[serde(default, deserialize_with = "yaml::config")]
    pub config: Config,
    /// Free text.
    #[serde(default, deserialize_with = "yaml::text")]
    pub description: String,
    /// Its name.
    pub name: String,
    /// The one that suits the file system best if nothing is said.
    #[serde(default)]
    pub driver: String,
}

/// A custom volume.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct PreseedVolume {
    /// Configuration.
    #[serde(default, deserialize_with = "yaml::config")]
    pub config: Config,
    /// Free text.
    #[serde(default, deserialize_with = "yaml::text")]
    pub description: String,
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
    /// Configuration.
    #[serde(default, deserialize_with = "yaml::config")]
    pub config: Config,
    /// Free text.
    #[serde(default, deserialize_with = "yaml::text")]
    pub description: String,
    /// Its name.
    pub name: String,
}

/// A profile.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct PreseedProfile {
    /// Configuration.
    #[serde(default, deserialize_with = "yaml::config")]
    pub config: Config,
    /// Free text.
    #[serde(default, deserialize_with = "yaml::text")]
    pub description: String,
    /// Devices by name.
    #[serde(default, deserialize_with = "yaml::devices")]
    pub devices: Devices,
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
