//! Storage volumes and their snapshots.

use super::LOCATION;
use super::property::{Field, Properties};
use crate::base::time::GoTime;
use crate::base::yaml;
use crate::model::instance::Config;
use crate::model::volume::{ContentType, CustomVolume, VolumeSnapshot};
use serde::{Deserialize, Serialize};

/// What of a volume can be written.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct VolumePut {
    /// Configuration.
    #[serde(default, deserialize_with = "yaml::config")]
    pub config: Config,
    /// Free text.
    #[serde(default, deserialize_with = "yaml::text")]
    pub description: String,
}

/// A volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct VolumeView {
    /// What can be written.
    #[serde(flatten)]
    pub put: VolumePut,
    /// Name; of a snapshot `<volume>/<snapshot>`.
    pub name: String,
    /// `custom`, `container`, `image`, …
    #[serde(rename = "type")]
    pub kind: String,
    /// Addresses of what uses it, sorted.
    pub used_by: Vec<String>,
    /// Cluster member; here always [`LOCATION`].
    pub location: String,
    /// `filesystem`, `block` or `iso`.
    pub content_type: String,
    /// Project.
    pub project: String,
    /// When it was made.
    pub created_at: GoTime,
}

impl VolumeView {
    /// A custom volume, from its record.
    pub fn custom(project: &str, name: &str, volume: &CustomVolume, mut used_by: Vec<String>) -> Self {
        used_by.sort();
        let put = VolumePut { config: volume.config.clone(), description: volume.description.clone() };
        let content_type = volume.content_type.as_str().to_string();
        let created_at = volume.created_at.into();
        Self { put, used_by, content_type, created_at, ..Self::of("custom", project, name) }
    }

    /// One that goes with something else, of which there is no more to say than whose it is.
    pub fn of(kind: &str, project: &str, name: &str) -> Self {
        Self {
            put: VolumePut::default(),
            name: name.to_string(),
            kind: kind.to_string(),
            used_by: Vec::new(),
            location: LOCATION.to_string(),
            content_type: "filesystem".to_string(),
            project: project.to_string(),
            created_at: GoTime(None),
        }
    }
}

/// What of a volume's snapshot can be written.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct VolumeSnapshotPut {
    /// Free text.
    #[serde(default, deserialize_with = "yaml::text")]
    pub description: String,
    /// When it may be deleted.
    #[serde(default)]
    pub expires_at: GoTime,
}

/// A snapshot of a volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct VolumeSnapshotView {
    /// What can be written.
    #[serde(flatten)]
    pub put: VolumeSnapshotPut,
    /// Name.
    pub name: String,
    /// Configuration of the volume at that time.
    pub config: Config,
    /// `filesystem`, `block` or `iso`.
    pub content_type: String,
    /// When it was taken.
    pub created_at: GoTime,
}

impl VolumeSnapshotView {
    /// From the record; of what the volume holds.
    pub fn new(name: &str, content: ContentType, snapshot: &VolumeSnapshot) -> Self {
        Self {
            put: VolumeSnapshotPut {
                description: snapshot.description.clone(),
                expires_at: snapshot.expires_at.into(),
            },
            name: name.to_string(),
            config: snapshot.config.clone(),
            content_type: content.as_str().to_string(),
            created_at: snapshot.created_at.into(),
        }
    }
}

impl Properties for VolumeSnapshotPut {
    fn field(&mut self, name: &str) -> Option<Field<'_>> {
        Some(match name.to_ascii_lowercase().as_str() {
            "description" => Field::Text(&mut self.description),
            "expires_at" => Field::Time(&mut self.expires_at),
            _ => return None,
        })
    }
}

impl Properties for VolumePut {
    fn field(&mut self, name: &str) -> Option<Field<'_>> {
        Some(match name.to_ascii_lowercase().as_str() {
            "config" => Field::Config(&mut self.config),
            "description" => Field::Text(&mut self.description),
            _ => return None,
        })
    }
}
