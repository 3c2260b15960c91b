//! What a backup says of itself: `backup/index.yaml` in Incus's archives (incus-reference, 6.2).
//!
//! Written for Incus as well as for us; read from anybody: nothing in it is believed that is not checked by whoever uses it.

use super::view::{InstanceView, PoolView, ProfileView, SnapshotView, VolumeView as CustomView};
use crate::base::time::GoTime;
use crate::base::yaml;
use crate::model::instance::{Config, Devices};
use serde::{Deserialize, Serialize};

/// Name of the index in the archive; its first entry.
pub const INDEX: &str = "backup/index.yaml";
/// What a driver's own form has beside the streams.
pub const HEADER: &str = "backup/optimized_header.yaml";
/// Folder of a container's volume in the archive.
pub const CONTAINER: &str = "backup/container";
/// Folder of the folders of its snapshots.
pub const SNAPSHOTS: &str = "backup/snapshots";
/// Folder of a custom volume in the archive.
pub const VOLUME: &str = "backup/volume";
/// Folder of the folders of its snapshots.
pub const VOLUME_SNAPSHOTS: &str = "backup/volume-snapshots";
/// What the index of a custom volume says it is of.
pub const CUSTOM: &str = "custom";
/// The drivers whose backups may be in a form of their own; those of others are of files, whatever the index says, as with Incus.
pub const STREAMED: [&str; 2] = ["btrfs", "zfs"];

/// The index, to be written.
#[derive(Debug, Serialize)]
pub struct Index<'a, R> {
    /// Name of the instance or volume.
    pub name: &'a str,
    /// Driver of its pool.
    pub backend: &'a str,
    /// Its pool.
    pub pool: &'a str,
    /// Its snapshots that are in the archive, oldest first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub snapshots: Vec<&'a str>,
    /// In the form of the pool's driver.
    pub optimized: bool,
    /// That form has a header of its own.
    pub optimized_header: bool,
    /// `container`, `custom`.
    #[serde(rename = "type")]
    pub kind: &'a str,
    /// All records.
    pub config: &'a R,
}

/// The records of a custom volume.
#[derive(Debug, Serialize)]
pub struct VolumeRecords {
    /// Its pool, if it goes with an instance.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pool: Option<PoolView>,
    /// The volume.
    pub volume: CustomView,
    /// Its snapshots.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub volume_snapshots: Vec<VolumeSnapshotView>,
}

/// The records of an instance, as they also stand in its volume's `backup.yaml`.
#[derive(Debug, Serialize)]
pub struct Records {
    /// The instance.
    pub container: InstanceView,
    /// Its snapshots.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub snapshots: Vec<SnapshotView>,
    /// Its pool.
    pub pool: PoolView,
    /// Its profiles.
    pub profiles: Vec<ProfileView>,
    /// Its volume.
    pub volume: VolumeView,
    /// Those of its snapshots.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub volume_snapshots: Vec<VolumeSnapshotView>,
    /// The custom volumes that go with it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub dependent_volumes: Vec<VolumeRecords>,
}

/// A root volume, as Incus has it.
#[derive(Debug, Serialize)]
pub struct VolumeView {
    /// Configuration.
    pub config: Config,
    /// Free text.
    pub description: String,
    /// Name.
    pub name: String,
    /// `container`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Addresses of users.
    pub used_by: Vec<String>,
    /// Cluster member.
    pub location: String,
    /// `filesystem`.
    pub content_type: String,
    /// Project.
    pub project: String,
    /// When it was made.
    pub created_at: GoTime,
}

/// A snapshot of one.
#[derive(Debug, Serialize)]
pub struct VolumeSnapshotView {
    /// Configuration.
    pub config: Config,
    /// Free text.
    pub description: String,
    /// `filesystem`.
    pub content_type: String,
    /// When it was made.
    pub created_at: GoTime,
    /// When it goes.
    pub expires_at: GoTime,
    /// Name, without the volume's.
    pub name: String,
}

/// The index, as it was found.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Found {
    /// Name of the instance.
    #[serde(deserialize_with = "yaml::text")]
    pub name: String,
    /// Driver of its pool.
    #[serde(deserialize_with = "yaml::text")]
    pub backend: String,
    /// Its pool.
    #[serde(deserialize_with = "yaml::text")]
    pub pool: String,
    /// Its snapshots.
    #[serde(deserialize_with = "yaml::list")]
    pub snapshots: Vec<String>,
    /// In the form of a driver.
    pub optimized: Option<bool>,
    /// `container`, `virtual-machine`, `custom`, `bucket`; nothing is a container.
    #[serde(rename = "type", deserialize_with = "yaml::text")]
    pub kind: String,
    /// The records.
    pub config: Option<FoundRecords>,
}

/// The records, as they were found.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct FoundRecords {
    /// The instance; LXD's name for it.
    #[serde(alias = "instance")]
    pub container: Option<FoundInstance>,
    /// Its snapshots.
    pub snapshots: Option<Vec<FoundInstance>>,
    /// The pool.
    pub pool: Option<FoundPool>,
    /// The custom volume, or the root volume of the instance.
    pub volume: Option<FoundVolume>,
    /// Its snapshots.
    pub volume_snapshots: Option<Vec<FoundVolume>>,
    /// The custom volumes that go with the instance, each with its pool and snapshots.
    pub dependent_volumes: Option<Vec<FoundRecords>>,
}

/// A pool.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct FoundPool {
    /// Name.
    #[serde(deserialize_with = "yaml::text")]
    pub name: String,
    /// Driver.
    #[serde(deserialize_with = "yaml::text")]
    pub driver: String,
}

/// A volume or a snapshot of one.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct FoundVolume {
    /// Name; of a snapshot perhaps with the volume's before it.
    #[serde(deserialize_with = "yaml::text")]
    pub name: String,
    /// Free text.
    #[serde(deserialize_with = "yaml::text")]
    pub description: String,
    /// Keys, those of its driver and of its program included.
    #[serde(deserialize_with = "yaml::config")]
    pub config: Config,
    /// `filesystem`, `block`, `iso`; nothing is files.
    #[serde(deserialize_with = "yaml::text")]
    pub content_type: String,
    /// When it was made.
    pub created_at: GoTime,
    /// When it goes.
    pub expires_at: GoTime,
}

/// An instance or a snapshot.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct FoundInstance {
    /// Name; of a snapshot perhaps with the instance's before it.
    #[serde(deserialize_with = "yaml::text")]
    pub name: String,
    /// Kernel architecture name.
    #[serde(deserialize_with = "yaml::text")]
    pub architecture: String,
    /// Free text.
    #[serde(deserialize_with = "yaml::text")]
    pub description: String,
    /// Keys, volatile ones included.
    #[serde(deserialize_with = "yaml::config")]
    pub config: Config,
    /// Devices.
    #[serde(deserialize_with = "yaml::devices")]
    pub devices: Devices,
    /// Profiles in their order.
    #[serde(deserialize_with = "yaml::list")]
    pub profiles: Vec<String>,
    /// Deleted when it stops.
    pub ephemeral: bool,
    /// Has a saved state.
    pub stateful: bool,
    /// `container`.
    #[serde(rename = "type", deserialize_with = "yaml::text")]
    pub kind: String,
    /// When it was made.
    pub created_at: GoTime,
    /// When it goes.
    pub expires_at: GoTime,
}
