//! The JSON documents of OCI images (image-spec 1.1) and of Docker's, schema 2: indexes, manifests, configurations.
//!
//! All of it is hostile: bounded, checked by form, and what cannot be read in one way only is refused. No I/O.

use super::reference::Digest;
use crate::error::{Error, Result};
use crate::image::metadata;
use jiff::Timestamp;
use serde_json::Value;

/// Largest document that is read, bytes.
pub const DOCUMENT_MAX: u64 = 4 << 20;
/// Layers of an image.
const LAYERS_MAX: usize = 500;
/// Entries of an index.
const ENTRIES_MAX: usize = 1000;
/// Largest layer, bytes.
const SIZE_MAX: u64 = 1 << 40;
/// The annotation that gives an entry of a layout its name.
const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// Media types of indexes and manifests, as an `Accept` header has them.
pub const ACCEPT: &str = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.docker.distribution.manifest.v2+json";
const INDEXES: [&str; 2] =
    ["application/vnd.oci.image.index.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json"];
const MANIFESTS: [&str; 2] =
    ["application/vnd.oci.image.manifest.v1+json", "application/vnd.docker.distribution.manifest.v2+json"];
const CONFIGS: [&str; 2] =
    ["application/vnd.oci.image.config.v1+json", "application/vnd.docker.container.image.v1+json"];
const LAYERS: [&str; 9] = [
    "application/vnd.oci.image.layer.v1.tar",
    "application/vnd.oci.image.layer.v1.tar+gzip",
    "application/vnd.oci.image.layer.v1.tar+zstd",
    "application/vnd.oci.image.layer.nondistributable.v1.tar",
    "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
    "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd",
    "application/vnd.docker.image.rootfs.diff.tar",
    "application/vnd.docker.image.rootfs.diff.tar.gzip",
    "application/vnd.docker.image.rootfs.diff.tar.zstd",
];

/// Something by digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Descriptor {
    /// What it is said to be.
    pub media_type: String,
    /// Its digest.
    pub digest: Digest,
    /// Bytes.
    pub size: u64,
}

/// One entry of an index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Manifest or further index.
    pub what: Descriptor,
    /// System, architecture in Go's spelling, variant; empty strings where nothing is said.
    pub platform: Option<[String; 3]>,
    /// Its name in a layout.
    pub name: Option<String>,
}

/// The parts of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// Its configuration.
    pub config: Descriptor,
    /// Its layers, lowest first.
    pub layers: Vec<Descriptor>,
}

/// What a name leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Document {
    /// Images for several platforms.
    Index(Vec<Entry>),
    /// One image.
    Manifest(Manifest),
}

/// What of an image's configuration counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Kernel architecture name.
    pub architecture: &'static str,
    /// When it was made; the epoch's second second if that is not said.
    pub created: Timestamp,
    /// Digests of the uncompressed layers, lowest first.
    pub diff_ids: Vec<Digest>,
    /// `user[:group]`, or empty.
    pub user: String,
    /// `NAME=value`.
    pub env: Vec<String>,
    /// Entry point and command.
    pub args: Vec<String>,
    /// Working folder, absolute.
    pub cwd: String,
    /// Signal that ends it, or empty.
    pub stop_signal: String,
}

fn bad(what: impl std::fmt::Display) -> Error {
    Error::invalid(format!("Bad image: {what}"))
}

fn json(text: &[u8], what: &str) -> Result<Value> {
    let value: Value = serde_json::from_slice(text).map_err(|e| bad(format!("the {what} is no JSON: {e}")))?;
    if value.is_object() { Ok(value) } else { Err(bad(format!("the {what} is no object"))) }
}

/// A member that is text; empty if it is missing or null, as Go reads it.
fn text<'a>(value: &'a Value, key: &str) -> Result<&'a str> {
    match &value[key] {
        Value::Null => Ok(""),
        Value::String(text) => Ok(text),
        _ => Err(bad(format!("{key} is no text"))),
    }
}

fn array<'a>(value: &'a Value, key: &str, most: usize) -> Result<&'a [Value]> {
    match &value[key] {
        Value::Null => Ok(&[]),
        Value::Array(all) if all.len() <= most => Ok(all),
        Value::Array(_) => Err(bad(format!("more than {most} {key}"))),
        _ => Err(bad(format!("{key} is no list"))),
    }
}

/// Texts that will be arguments or variables of a process.
fn texts(value: &Value, key: &str) -> Result<Vec<String>> {
    let text = |v: &Value| v.as_str().filter(|t| !t.contains('\0')).map(ToString::to_string);
    let all = array(value, key, 10_000)?.iter();
    all.map(|v| text(v).ok_or_else(|| bad(format!("{key} holds what is no text")))).collect()
}

fn descriptor(value: &Value) -> Result<Descriptor> {
    let size = value["size"].as_u64().filter(|size| *size <= SIZE_MAX);
    Ok(Descriptor {
        media_type: text(value, "mediaType")?.to_string(),
        digest: Digest::parse(text(value, "digest")?)?,
        size: size.ok_or_else(|| bad(format!("the size {}", value["size"])))?,
    })
}

/// Reads an index or a manifest. `media_type`: what it came as; what it says itself goes before that.
///
/// # Errors
/// Invalid; Unsupported: of a kind that we do not know.
pub fn parse(bytes: &[u8], media_type: &str) -> Result<Document> {
    let value = json(bytes, "manifest")?;
    let said = text(&value, "mediaType")?;
    let kind = if said.is_empty() { media_type.split(';').next().unwrap_or_default().trim() } else { said };
    let (index, manifest) = (value.get("manifests").is_some(), value.get("layers").is_some());
    if index && manifest {
        return Err(bad("it is index and manifest at once"));
    }
    // Old layouts and plain file servers say nothing: then the form decides.
    let plain = matches!(kind, "" | "application/json" | "text/plain" | "application/octet-stream");
    let known = |types: &[&str]| types.contains(&kind) || plain;
    match value["schemaVersion"].as_u64() {
        Some(2) if index && known(&INDEXES) => entries(&value).map(Document::Index),
        Some(2) if manifest && known(&MANIFESTS) => one(&value).map(Document::Manifest),
        _ => Err(Error::unsupported(format!(
            "Unknown kind of manifest {:?}",
            kind.chars().take(100).collect::<String>()
        ))),
    }
}

fn entries(value: &Value) -> Result<Vec<Entry>> {
    let entry = |value: &Value| {
        let platform = &value["platform"];
        let part = |key| text(platform, key).map(ToString::to_string);
        let platform = match platform.is_object() {
            true => Some([part("os")?, part("architecture")?, part("variant")?]),
            false => None,
        };
        let name = value["annotations"][REF_NAME].as_str().map(ToString::to_string);
        Ok(Entry { what: descriptor(value)?, platform, name })
    };
    array(value, "manifests", ENTRIES_MAX)?.iter().map(entry).collect()
}

fn one(value: &Value) -> Result<Manifest> {
    let config = descriptor(&value["config"])?;
    if !CONFIGS.contains(&config.media_type.as_str()) {
        return Err(Error::unsupported(format!("Not an image but {:?}", config.media_type)));
    }
    let layers: Vec<Descriptor> = array(value, "layers", LAYERS_MAX)?.iter().map(descriptor).collect::<Result<_>>()?;
    if let Some(layer) = layers.iter().find(|layer| !LAYERS.contains(&layer.media_type.as_str())) {
        return Err(Error::unsupported(format!("Unknown kind of layer {:?}", layer.media_type)));
    }
    match layers.is_empty() {
        true => Err(bad("it has no layers")),
        false => Ok(Manifest { config, layers }),
    }
}

/// The entry for this machine: Linux, `architecture` in Rust's spelling, the variant that fits best.
///
/// # Errors
/// NotFound: there is none.
pub fn choose<'a>(entries: &'a [Entry], architecture: &str) -> Result<&'a Descriptor> {
    let (own, variants) = platform(architecture);
    let rank = |entry: &&Entry| match &entry.platform {
        Some([os, arch, variant]) if os == "linux" && arch == own => variants.iter().position(|v| v == variant),
        _ => None,
    };
    let best = entries.iter().filter_map(|entry| Some((rank(&entry)?, entry))).min_by_key(|(rank, _)| *rank);
    match (best, entries) {
        (Some((_, entry)), _) => Ok(&entry.what),
        // Layouts name no platform where there is no choice.
        (None, [Entry { what, platform: None, .. }]) => Ok(what),
        _ => Err(Error::not_found(format!("The image has nothing for linux/{own}"))),
    }
}

/// Go's name of an architecture of Rust's, and its variants, best first.
fn platform(architecture: &str) -> (&str, &'static [&'static str]) {
    match architecture {
        "x86_64" => ("amd64", &["", "v1"]),
        "aarch64" => ("arm64", &["v8", ""]),
        "arm" => ("arm", &["v7", "v6", "v5", ""]),
        "x86" => ("386", &[""]),
        "powerpc64" => ("ppc64le", &[""]),
        "loongarch64" => ("loong64", &[""]),
        other => (other, &[""]),
    }
}

/// Reads a configuration.
///
/// # Errors
/// Invalid; Unsupported: of another system.
pub fn config(bytes: &[u8]) -> Result<Config> {
    let value = json(bytes, "configuration")?;
    let os = text(&value, "os")?;
    if os != "linux" {
        return Err(Error::unsupported(format!("The image is for {:?}", os.chars().take(100).collect::<String>())));
    }
    let diff_ids = texts(&value["rootfs"], "diff_ids")?;
    let run = &value["config"];
    let mut args = texts(run, "Entrypoint")?;
    args.extend(texts(run, "Cmd")?);
    let created: Option<Timestamp> = text(&value, "created")?.parse().ok();
    let cwd = text(run, "WorkingDir")?;
    let plain = |key| match text(run, key)? {
        t if t.contains(char::is_control) => Err(bad(format!("{key} has control characters"))),
        t => Ok(t.to_string()),
    };
    if cwd.contains(char::is_control) {
        return Err(bad("WorkingDir has control characters"));
    }
    Ok(Config {
        architecture: metadata::architecture(text(&value, "architecture")?)?,
        // Metadata without a date counts as damaged, so it is one second after the epoch.
        created: created.filter(|at| at.as_second() > 0).unwrap_or(Timestamp::constant(1, 0)),
        diff_ids: diff_ids.iter().map(|id| Digest::parse(id)).collect::<Result<_>>()?,
        user: plain("User")?,
        env: texts(run, "Env")?,
        args,
        cwd: if cwd.starts_with('/') { cwd.to_string() } else { format!("/{cwd}") },
        stop_signal: plain("StopSignal")?,
    })
}

#[cfg(test)]
#[path = "document_tests.rs"]
mod tests;
