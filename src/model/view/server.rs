//! The server: what `info` and `config show` print without an instance.

use crate::base::yaml;
use crate::model::instance::Config;
use serde::{Deserialize, Serialize};

/// What of the server can be written.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ServerPut {
    /// Configuration.
    #[serde(default, deserialize_with = "yaml::config")]
    pub config: Config,
}

/// The server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ServerView {
    /// What can be written.
    #[serde(flatten)]
    pub put: ServerPut,
    /// `stable`.
    pub api_status: String,
    /// `1.0`.
    pub api_version: String,
    /// `trusted`: whoever can run the program may do what the file system lets them.
    pub auth: String,
    /// Never.
    pub public: bool,
    /// None: nothing listens.
    pub auth_methods: Vec<String>,
    /// The user's name.
    pub auth_user_name: String,
    /// `unix`.
    pub auth_user_method: String,
    /// Host and program.
    pub environment: Environment,
}

/// The host and the program.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Environment {
    /// None: nothing listens.
    pub addresses: Vec<String>,
    /// What runs here, the host's own first.
    pub architectures: Vec<String>,
    /// Empty: there is none.
    pub certificate: String,
    /// Empty: there is none.
    pub certificate_fingerprint: String,
    /// What runs instances.
    pub driver: String,
    /// Its version.
    pub driver_version: String,
    /// `nftables`.
    pub firewall: String,
    /// `Linux`.
    pub kernel: String,
    /// Its architecture.
    pub kernel_architecture: String,
    /// What of it is used.
    pub kernel_features: Config,
    /// Its release.
    pub kernel_version: String,
    /// Empty: liblxc is not used.
    pub lxc_features: Config,
    /// The distribution.
    pub os_name: String,
    /// Its version.
    pub os_version: String,
    /// The project in use.
    pub project: String,
    /// The program.
    pub server: String,
    /// Never.
    pub server_clustered: bool,
    /// `full-mesh`, as of a server that is not clustered.
    pub server_event_mode: String,
    /// The host's name.
    pub server_name: String,
    /// 0: no server process.
    pub server_pid: i64,
    /// The program's version.
    pub server_version: String,
    /// Storage drivers in use, separated by ` | `.
    pub storage: String,
    /// Their versions.
    pub storage_version: String,
    /// Drivers there are.
    pub storage_supported_drivers: Vec<StorageDriver>,
}

/// A storage driver.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StorageDriver {
    /// Name.
    pub name: String,
    /// Version of what it uses.
    pub version: String,
    /// Whether it is on another machine.
    pub remote: bool,
}

/// How full a storage pool is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct PoolResources {
    /// Bytes.
    pub space: Amount,
    /// Inodes.
    pub inodes: Amount,
}

/// Used out of a total.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Amount {
    /// In use.
    pub used: u64,
    /// There are.
    pub total: u64,
}
