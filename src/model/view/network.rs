//! Networks as users see them.

use super::LOCATION;
use crate::base::yaml;
use crate::model::instance::Config;
use serde::{Deserialize, Serialize};

/// What of a network can be written.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct NetworkPut {
    /// Configuration.
    #[serde(default, deserialize_with = "yaml::config")]
    pub config: Config,
    /// Free text.
    #[serde(default, deserialize_with = "yaml::text")]
    pub description: String,
}

/// A network, managed or not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NetworkView {
    /// What can be written.
    #[serde(flatten)]
    pub put: NetworkPut,
    /// Name.
    pub name: String,
    /// Type: `bridge`, `physical`, …
    #[serde(rename = "type")]
    pub kind: String,
    /// Addresses of the instances and profiles that use it.
    pub used_by: Vec<String>,
    /// It is ours.
    pub managed: bool,
    /// `Created`; empty for one that is not ours.
    pub status: String,
    /// Cluster members that have it.
    pub locations: Vec<String>,
    /// Project.
    pub project: String,
}

impl NetworkView {
    /// A managed network.
    pub fn managed(project: &str, name: &str, kind: &str, put: NetworkPut, used_by: Vec<String>) -> Self {
        Self {
            put,
            name: name.to_string(),
            kind: kind.to_string(),
            used_by,
            managed: true,
            status: "Created".to_string(),
            locations: vec![LOCATION.to_string()],
            project: project.to_string(),
        }
    }

    /// An interface of the host that is not ours.
    pub fn of_host(name: &str, kind: &str, used_by: Vec<String>) -> Self {
        Self {
            put: NetworkPut::default(),
            name: name.to_string(),
            kind: kind.to_string(),
            used_by,
            managed: false,
            status: String::new(),
            locations: Vec::new(),
            project: "default".to_string(),
        }
    }
}
