//! Profiles, projects and storage pools.

use super::LOCATION;
use crate::base::yaml;
use crate::model::instance::{Config, Devices};
use crate::model::pool::Pool;
use crate::model::profile::Profile;
use crate::model::project::Project;
use serde::{Deserialize, Serialize};

/// What of a profile can be written.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ProfilePut {
    /// Configuration.
    #[serde(default, deserialize_with = "yaml::config")]
    pub config: Config,
    /// Free text.
    #[serde(default, deserialize_with = "yaml::text")]
    pub description: String,
    /// Devices.
    #[serde(default, deserialize_with = "yaml::devices")]
    pub devices: Devices,
}

/// A profile.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ProfileView {
    /// What can be written.
    #[serde(flatten)]
    pub put: ProfilePut,
    /// Name.
    pub name: String,
    /// Addresses of the instances that have it.
    pub used_by: Vec<String>,
    /// Project.
    pub project: String,
}

impl ProfileView {
    /// From the record. `used_by`: see [`super::url`].
    pub fn new(project: &str, name: &str, profile: &Profile, used_by: Vec<String>) -> Self {
        let put = ProfilePut {
            config: profile.config.clone(),
            description: profile.description.clone(),
            devices: profile.devices.clone(),
        };
        Self { put, name: name.to_string(), used_by, project: project.to_string() }
    }
}

/// What of a project can be written.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ProjectPut {
    /// Configuration.
    #[serde(default, deserialize_with = "yaml::config")]
    pub config: Config,
    /// Free text.
    #[serde(default, deserialize_with = "yaml::text")]
    pub description: String,
}

/// A project.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ProjectView {
    /// What can be written.
    #[serde(flatten)]
    pub put: ProjectPut,
    /// Name.
    pub name: String,
    /// Addresses of what is in it.
    pub used_by: Vec<String>,
}

impl ProjectView {
    /// From the record. `used_by`: see [`super::url`].
    pub fn new(name: &str, project: &Project, used_by: Vec<String>) -> Self {
        let put = ProjectPut { config: project.config.clone(), description: project.description.clone() };
        Self { put, name: name.to_string(), used_by }
    }
}

/// What of a storage pool can be written.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct PoolPut {
    /// Configuration.
    #[serde(default, deserialize_with = "yaml::config")]
    pub config: Config,
    /// Free text.
    #[serde(default, deserialize_with = "yaml::text")]
    pub description: String,
}

/// A storage pool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PoolView {
    /// What can be written.
    #[serde(flatten)]
    pub put: PoolPut,
    /// Name.
    pub name: String,
    /// Driver.
    pub driver: String,
    /// Addresses of what uses it, sorted.
    pub used_by: Vec<String>,
    /// `Created`, or `Unavailable` if the driver cannot get at it.
    pub status: String,
    /// Cluster members that have it; here always [`LOCATION`].
    pub locations: Vec<String>,
}

impl PoolView {
    /// From the record. `used_by`: see [`super::url`].
    pub fn new(name: &str, pool: &Pool, mut used_by: Vec<String>, available: bool) -> Self {
        used_by.sort();
        let put = PoolPut { config: pool.config.clone(), description: pool.description.clone() };
        let status = if available { "Created" } else { "Unavailable" };
        let locations = vec![LOCATION.to_string()];
        Self {
            put,
            name: name.to_string(),
            driver: pool.driver.clone(),
            used_by,
            status: status.to_string(),
            locations,
        }
    }
}
