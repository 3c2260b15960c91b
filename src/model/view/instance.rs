//! Instances, their snapshots and backups.

use super::{InstanceState, LOCATION};
use crate::base::names::{InstanceName, ProjectName};
use crate::base::time::GoTime;
use crate::base::yaml::{self, GoList};
use crate::model::expand;
use crate::model::instance::{Config, Devices, Instance, Volatile};
use crate::model::profile::Profile;
use crate::model::status::Status;
use serde::{Deserialize, Serialize};

/// What of an instance can be written: what `config show` prints and `config edit` reads.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct InstancePut {
    /// Kernel architecture name.
    #[serde(default, deserialize_with = "yaml::text")]
    pub architecture: String,
    /// Configuration, volatile keys included.
    #[serde(default, deserialize_with = "yaml::config")]
    pub config: Config,
    /// Devices.
    #[serde(default, deserialize_with = "yaml::devices")]
    pub devices: Devices,
    /// Deleted when it stops.
    #[serde(default)]
    pub ephemeral: bool,
    /// Profiles in their order.
    #[serde(default, deserialize_with = "yaml::list")]
    pub profiles: Vec<String>,
    /// Snapshot to restore.
    #[serde(default, deserialize_with = "yaml::text", skip_serializing_if = "String::is_empty")]
    pub restore: String,
    /// Restore the disk and nothing else.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub disk_only: bool,
    /// A saved runtime state is there.
    #[serde(default)]
    pub stateful: bool,
    /// Free text.
    #[serde(default, deserialize_with = "yaml::text")]
    pub description: String,
}

/// An instance.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct InstanceView {
    /// What can be written.
    #[serde(flatten)]
    pub put: InstancePut,
    /// Creation time.
    pub created_at: GoTime,
    /// Configuration with the profiles' below.
    #[serde(skip_serializing_if = "Config::is_empty")]
    pub expanded_config: Config,
    /// Devices with the profiles' below.
    #[serde(skip_serializing_if = "Devices::is_empty")]
    pub expanded_devices: Devices,
    /// Name.
    pub name: String,
    /// `Running`.
    pub status: Status,
    /// Number of the status.
    pub status_code: u32,
    /// Last start.
    pub last_used_at: GoTime,
    /// Cluster member; here always [`LOCATION`].
    pub location: String,
    /// `container` or `virtual-machine`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Project.
    pub project: String,
}

/// An instance with everything about it, as `list --format json` shows it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct InstanceFull {
    /// The instance.
    #[serde(flatten)]
    pub instance: InstanceView,
    /// Its backups.
    pub backups: GoList<BackupView>,
    /// Its state.
    pub state: Option<InstanceState>,
    /// Its snapshots.
    pub snapshots: GoList<SnapshotView>,
}

/// What an [`InstanceView`] is made from.
#[derive(Debug, Clone, Copy)]
pub struct InstanceParts<'a> {
    /// Its project.
    pub project: &'a ProjectName,
    /// Its name.
    pub name: &'a InstanceName,
    /// Its record.
    pub instance: &'a Instance,
    /// What the program filled in.
    pub volatile: &'a Volatile,
    /// Its profiles with their names, in its order.
    pub profiles: &'a [(&'a str, &'a Profile)],
    /// Its status.
    pub status: Status,
}

impl InstancePut {
    /// From the records.
    pub fn new(instance: &Instance, volatile: &Volatile) -> Self {
        let mut config = instance.config.clone();
        config.extend(volatile.config.clone());
        Self {
            architecture: instance.architecture.clone(),
            config,
            devices: instance.devices.clone(),
            ephemeral: instance.ephemeral,
            profiles: instance.profiles.clone(),
            restore: String::new(),
            disk_only: false,
            stateful: instance.stateful,
            description: instance.description.clone(),
        }
    }
}

impl InstanceView {
    /// From the records.
    pub fn new(parts: InstanceParts<'_>) -> Self {
        let expanded = expand::expand(parts.profiles, parts.instance).with_volatile(parts.volatile);
        Self {
            put: InstancePut::new(parts.instance, parts.volatile),
            created_at: parts.instance.created_at.into(),
            expanded_config: expanded.config,
            expanded_devices: expanded.devices,
            name: parts.name.to_string(),
            status: parts.status,
            status_code: parts.status.code(),
            last_used_at: parts.volatile.shown_last_used(),
            location: LOCATION.to_string(),
            kind: parts.instance.kind.as_str().to_string(),
            project: parts.project.to_string(),
        }
    }

    /// What `config show --expanded` prints.
    pub fn expanded_put(&self) -> InstancePut {
        InstancePut { config: self.expanded_config.clone(), devices: self.expanded_devices.clone(), ..self.put.clone() }
    }
}

/// A snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SnapshotView {
    /// When it is deleted.
    pub expires_at: GoTime,
    /// Kernel architecture name.
    pub architecture: String,
    /// Configuration at that time.
    pub config: Config,
    /// When it was taken.
    pub created_at: GoTime,
    /// Free text.
    pub description: String,
    /// Devices at that time.
    pub devices: Devices,
    /// Whether the instance was ephemeral.
    pub ephemeral: bool,
    /// Configuration at that time with the profiles' below.
    #[serde(skip_serializing_if = "Config::is_empty")]
    pub expanded_config: Config,
    /// Devices at that time with the profiles' below.
    #[serde(skip_serializing_if = "Devices::is_empty")]
    pub expanded_devices: Devices,
    /// Last start of the instance at that time.
    pub last_used_at: GoTime,
    /// Name, without the instance's.
    pub name: String,
    /// Profiles at that time.
    pub profiles: Vec<String>,
    /// A runtime state is saved in it.
    pub stateful: bool,
    /// Bytes it holds alone; -1 if not known.
    pub size: i64,
}

/// A backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BackupView {
    /// Name.
    pub name: String,
    /// When it was made.
    pub created_at: GoTime,
    /// When it is deleted.
    pub expires_at: GoTime,
    /// Without snapshots.
    pub instance_only: bool,
    /// In the storage driver's own form.
    pub optimized_storage: bool,
}
