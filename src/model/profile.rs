//! A profile: configuration and devices that instances share.

use crate::model::instance::{Config, Devices};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A profile's record; its project and name are its place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// Format of the record.
    pub format: u32,
    /// Free text.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// Configuration.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub config: Config,
    /// Devices.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub devices: Devices,
}
