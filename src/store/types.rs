//! Records whose types `model` does not have yet: server and snapshot; and what the first project says.
//!
//! Read and written by the typed parts of `store`, used by `ops`. Data only.

use super::record::{Record, records};
use crate::model::instance::{Config, Instance};
use crate::model::project::Project;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The server's configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Server {
    /// Format of the record.
    pub format: u32,
    /// Configuration.
    #[serde(default, skip_serializing_if = "Config::is_empty")]
    pub config: Config,
}

impl Default for Server {
    fn default() -> Self {
        Self { format: 1, config: Config::new() }
    }
}

/// What regular maintenance has done.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Maintenance {
    /// Format of the record.
    pub format: u32,
    /// All that was due until then is done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_run: Option<Timestamp>,
    /// When images of projects that are not in `images_of` were last compared with their servers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub images_at: Option<Timestamp>,
    /// When images were last compared with their servers, by project.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub images_of: BTreeMap<String, Timestamp>,
}

/// The `default` project as Incus makes it: it has every feature.
pub fn first_project() -> Project {
    let features = ["images", "networks", "networks.zones", "profiles", "storage.buckets", "storage.volumes"];
    let config = features.iter().map(|f| (format!("features.{f}"), "true".to_string())).collect();
    Project { format: 1, description: "Default Incus project".into(), config }
}

/// A snapshot of an instance; instance and name are its place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Snapshot {
    /// Format of the record.
    pub format: u32,
    /// When it was taken.
    pub created_at: Timestamp,
    /// When it may be deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    /// The minute that a schedule took it for; none: somebody took it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheduled_for: Option<Timestamp>,
    /// Holds a saved runtime state.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stateful: bool,
    /// `volatile.*` keys at that time.
    #[serde(default, skip_serializing_if = "Config::is_empty")]
    pub volatile: Config,
    /// The instance's record at that time.
    pub instance: Instance,
}

records! {
    Server => "Server record",
    Project => "Project record",
    Snapshot => "Snapshot record",
    Maintenance => "Maintenance record",
}
