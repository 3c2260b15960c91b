//! Custom volumes: storage of its own that instances attach.

use crate::model::instance::Config;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// A custom volume's record; project, pool and name are its place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CustomVolume {
    /// Format of the record.
    pub format: u32,
    /// Free text.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// What it holds.
    pub content_type: ContentType,
    /// When it was made.
    pub created_at: Timestamp,
    /// Configuration.
    #[serde(default, skip_serializing_if = "Config::is_empty")]
    pub config: Config,
}

/// A snapshot of a custom volume; project, pool, volume and name are its place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VolumeSnapshot {
    /// Format of the record.
    pub format: u32,
    /// Free text.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// When it was taken.
    pub created_at: Timestamp,
    /// When it may be deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    /// The minute that a schedule took it for; none: somebody took it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheduled_for: Option<Timestamp>,
    /// Configuration of the volume at that time.
    #[serde(default, skip_serializing_if = "Config::is_empty")]
    pub config: Config,
}

/// What a volume holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ContentType {
    /// Files.
    Filesystem,
    /// A disk, for virtual machines.
    Block,
    /// The image of a disc, which is never written to.
    Iso,
}

impl ContentType {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Filesystem => "filesystem",
            Self::Block => "block",
            Self::Iso => "iso",
        }
    }

    /// From the word; nothing is files.
    pub fn parse(word: &str) -> Option<Self> {
        match word {
            "" => Some(Self::Filesystem),
            word => [Self::Filesystem, Self::Block, Self::Iso].into_iter().find(|one| one.as_str() == word),
        }
    }

    /// One file instead of files.
    pub fn is_image(self) -> bool {
        self != Self::Filesystem
    }
}
