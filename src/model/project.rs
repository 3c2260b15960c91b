//! A project: its own name space for instances, and by its `features.` for images, profiles and volumes.

use crate::base::boolean;
use crate::model::instance::Config;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A project's record; its name is its place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Project {
    /// Format of the record.
    pub format: u32,
    /// Free text.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// Configuration.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub config: Config,
}

impl Project {
    /// Does it have a name space of its own for these (`networks`, `images`, …)?
    pub fn has(&self, feature: &str) -> bool {
        self.config.get(&format!("features.{feature}")).is_some_and(|value| boolean::is_true(value))
    }
}
