//! Images and their aliases.

use super::LOCATION;
use crate::base::names::{Fingerprint, ProjectName};
use crate::base::time::GoTime;
use crate::base::yaml;
use crate::model::image::{Alias, Image};
use crate::model::instance::Config;
use serde::{Deserialize, Serialize};

/// What of an image can be written: what `image show` prints and `image edit` reads.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ImagePut {
    /// Follow the remote alias.
    #[serde(default)]
    pub auto_update: bool,
    /// Properties.
    #[serde(default, deserialize_with = "yaml::config")]
    pub properties: Config,
    /// Readable by everyone.
    #[serde(default)]
    pub public: bool,
    /// Expiry.
    #[serde(default)]
    pub expires_at: GoTime,
    /// Profiles for instances made from it.
    #[serde(default, deserialize_with = "yaml::list")]
    pub profiles: Vec<String>,
}

/// An image.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct ImageView {
    /// What can be written.
    #[serde(flatten)]
    pub put: ImagePut,
    /// Its aliases.
    pub aliases: Vec<ImageAliasView>,
    /// Kernel architecture name.
    pub architecture: String,
    /// Came in by a launch from a remote.
    pub cached: bool,
    /// File name as it was given.
    pub filename: String,
    /// Fingerprint.
    pub fingerprint: String,
    /// Bytes.
    pub size: u64,
    /// Where it came from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub update_source: Option<ImageSourceView>,
    /// `container` or `virtual-machine`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Creation date said by the image.
    pub created_at: GoTime,
    /// Last launch from it.
    pub last_used_at: GoTime,
    /// When it was imported.
    pub uploaded_at: GoTime,
    /// Project.
    pub project: String,
    /// Cluster members that have it; here always [`LOCATION`].
    pub locations: Vec<String>,
}

/// An alias among an image's.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ImageAliasView {
    /// Name.
    pub name: String,
    /// Free text.
    pub description: String,
}

/// Where an image came from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ImageSourceView {
    /// Alias there.
    pub alias: String,
    /// Server's certificate.
    pub certificate: String,
    /// Protocol.
    pub protocol: String,
    /// Server.
    pub server: String,
    /// Type of the image asked for.
    pub image_type: String,
}

/// An alias by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AliasEntryView {
    /// Free text.
    pub description: String,
    /// Fingerprint it names.
    pub target: String,
    /// Name.
    pub name: String,
    /// Type of the image.
    #[serde(rename = "type")]
    pub kind: String,
}

/// What an [`ImageView`] is made from.
#[derive(Debug, Clone, Copy)]
pub struct ImageParts<'a> {
    /// The project it is seen in.
    pub project: &'a ProjectName,
    /// Its fingerprint.
    pub fingerprint: &'a Fingerprint,
    /// Its record.
    pub image: &'a Image,
    /// Its aliases with their names.
    pub aliases: &'a [(&'a str, &'a Alias)],
}

impl ImageView {
    /// From the records.
    pub fn new(parts: ImageParts<'_>) -> Self {
        let image = parts.image;
        let kind = image.kind.as_str().to_string();
        let source = image.source.as_ref().map(|s| ImageSourceView {
            alias: s.alias.clone(),
            certificate: String::new(),
            protocol: s.protocol.clone(),
            server: s.server.clone(),
            image_type: kind.clone(),
        });
        let alias = |(name, a): &(&str, &Alias)| ImageAliasView {
            name: (*name).to_string(),
            description: a.description.clone(),
        };
        Self {
            put: ImagePut {
                auto_update: image.auto_update,
                properties: image.properties.clone(),
                public: image.public,
                expires_at: image.expires_at.into(),
                profiles: image.profiles.clone(),
            },
            aliases: parts.aliases.iter().map(alias).collect(),
            architecture: image.architecture.clone(),
            cached: image.cached,
            filename: image.filename.clone(),
            fingerprint: parts.fingerprint.to_string(),
            size: image.size,
            update_source: source,
            kind,
            created_at: image.created_at.into(),
            last_used_at: image.last_used_at.into(),
            uploaded_at: image.uploaded_at.into(),
            project: parts.project.to_string(),
            locations: vec![LOCATION.to_string()],
        }
    }
}

impl AliasEntryView {
    /// From the record.
    pub fn new(name: &str, alias: &Alias) -> Self {
        Self {
            description: alias.description.clone(),
            target: alias.target.clone(),
            name: name.to_string(),
            kind: alias.kind.as_str().to_string(),
        }
    }
}
