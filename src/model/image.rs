//! An image's record in the local store.

use crate::model::instance::InstanceType;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// An image; its fingerprint is its place. The files it came in lie beside the record (see `store::layout`), so that
/// `image export` returns them byte for byte.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Image {
    /// Format of the record.
    pub format: u32,
    /// Container or virtual machine.
    #[serde(rename = "type")]
    pub kind: InstanceType,
    /// Kernel architecture name (`x86_64`).
    pub architecture: String,
    /// sha256 of the files joined, where the fingerprint is of something else (OCI images).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<String>,
    /// Sum of the files' sizes, bytes.
    pub size: u64,
    /// File name of the image as it was given.
    pub filename: String,
    /// Has a separate rootfs file (split image).
    pub split: bool,
    /// Readable by everyone on a server; only shown here.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub public: bool,
    /// Came in by a launch from a remote, not by the user's import.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cached: bool,
    /// Follow the remote alias.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub auto_update: bool,
    /// Creation date said by the image.
    pub created_at: Timestamp,
    /// When it was imported here.
    pub uploaded_at: Timestamp,
    /// Expiry said by the image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    /// Last launch from it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_used_at: Option<Timestamp>,
    /// Where a cached image came from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<ImageSource>,
    /// Profiles for instances made from it.
    #[serde(default = "default_profiles")]
    pub profiles: Vec<String>,
    /// Properties (`os`, `release`, `variant`, …).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub properties: BTreeMap<String, String>,
}

fn default_profiles() -> Vec<String> {
    vec!["default".to_string()]
}

/// Where a cached image came from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImageSource {
    /// Server address or remote name.
    pub server: String,
    /// `simplestreams`, `oci`, `bootstrap`.
    pub protocol: String,
    /// Alias asked for there.
    pub alias: String,
}

/// All aliases: one record, `images/aliases.toml`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Aliases {
    /// Format of the record.
    pub format: u32,
    /// By name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub aliases: BTreeMap<String, Alias>,
}

/// One alias.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Alias {
    /// Fingerprint of the image it names.
    pub target: String,
    /// Type of that image.
    #[serde(rename = "type", default)]
    pub kind: InstanceType,
    /// Free text.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
}
