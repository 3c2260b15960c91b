//! An instance: what the user said ([`Instance`]) and what the program filled in ([`Volatile`]).
//!
//! Two records because they change at different times: `instance.toml` when the user changes something, `volatile.toml`
//! when an instance starts or stops.

use crate::base::time::GoTime;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Configuration: key to value; values are always strings, as in Incus.
pub type Config = BTreeMap<String, String>;
/// One device: its options, `type` among them.
pub type Device = BTreeMap<String, String>;
/// Devices by name.
pub type Devices = BTreeMap<String, Device>;

/// Container or virtual machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum InstanceType {
    /// A system or application container.
    #[default]
    Container,
    /// A virtual machine.
    VirtualMachine,
}

impl InstanceType {
    /// The name Incus uses in its objects.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Container => "container",
            Self::VirtualMachine => "virtual-machine",
        }
    }
}

/// What the user said about an instance. Its project and name are the record's place, not part of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Instance {
    /// Format of the record.
    pub format: u32,
    /// Container or virtual machine.
    #[serde(rename = "type")]
    pub kind: InstanceType,
    /// Kernel architecture name (`x86_64`).
    pub architecture: String,
    /// Free text.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// Deleted when it stops.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub ephemeral: bool,
    /// A saved runtime state is there.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stateful: bool,
    /// Creation time.
    pub created_at: Timestamp,
    /// Profiles in order of application.
    pub profiles: Vec<String>,
    /// Local configuration, `volatile.*` excluded.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub config: Config,
    /// Local devices.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub devices: Devices,
    /// What was said about the root volume.
    #[serde(default, skip_serializing_if = "RootVolume::is_empty")]
    pub root: RootVolume,
    /// What the program filled in when it made the instance; counts until there is a record of its own for that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volatile: Option<Volatile>,
}

/// What was said about a root volume, which is without effect.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RootVolume {
    /// Free text.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// `user.*`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub config: Config,
}

impl RootVolume {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl Instance {
    /// What the program filled in when it made the instance.
    pub fn volatile_at_creation(&self) -> Volatile {
        self.volatile.clone().unwrap_or_else(|| Volatile { format: 1, ..Volatile::default() })
    }
}

/// What the program filled in.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Volatile {
    /// Format of the record.
    pub format: u32,
    /// Last start; none if never started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_used_at: Option<Timestamp>,
    /// `volatile.*` keys with their values.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub config: Config,
}

impl Volatile {
    /// The last start as Incus's objects say it: of an instance, never is not Go's zero time but Unix's.
    pub fn shown_last_used(&self) -> GoTime {
        self.last_used_at.unwrap_or(Timestamp::UNIX_EPOCH).into()
    }
}
