//! A project: its own name space for instances, and by its `features.` for images, profiles and volumes.

use crate::base::boolean;
use crate::model::instance::Config;
use crate::model::keys::{Key, project as keys};
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

/// What a project can have for itself instead of sharing the default project's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Feature {
    /// Images and their aliases.
    Images,
    /// Networks, their ACLs and address sets.
    Networks,
    /// Profiles.
    Profiles,
    /// Custom volumes.
    Volumes,
    /// Network zones.
    Zones,
}

impl Feature {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Images, Self::Networks, Self::Profiles, Self::Volumes, Self::Zones];

    /// Its key.
    pub fn key(self) -> &'static Key {
        match self {
            Self::Images => &keys::IMAGES,
            Self::Networks => &keys::NETWORKS,
            Self::Profiles => &keys::PROFILES,
            Self::Volumes => &keys::VOLUMES,
            Self::Zones => &keys::ZONES,
        }
    }
}

impl Project {
    /// Does it have a name space of its own for these?
    pub fn has(&self, feature: Feature) -> bool {
        feature.key().get(&self.config).is_some_and(boolean::is_true)
    }
}
