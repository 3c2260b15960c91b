//! Simplestreams (`streams/v1`): what an image server says it has, turned into images that can be chosen and fetched.
//!
//! Called by `ops` with the text of the files. All of it is hostile: an item whose hash, size or path is not sound does not exist
//! for us, a fingerprint is checked by form, and paths stay below the server's address. No I/O.

use super::Fingerprint;
use super::metadata;
use crate::base::url::Url;
use crate::error::{Error, Result};
use crate::model::instance::InstanceType;
use jiff::Timestamp;
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};

/// Where a server's list of lists is, below its address.
pub const INDEX: &str = "streams/v1/index.json";
/// Largest file of these that is read, bytes.
pub const FILE_MAX: u64 = 32 << 20;
/// Largest file of an image, bytes.
const SIZE_MAX: u64 = 1 << 40;
/// Images of a server that are looked at.
const IMAGES: usize = 100_000;

/// A file to fetch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// Below the server's address.
    pub path: String,
    /// Bytes.
    pub size: u64,
    /// sha256, 64 hexadecimal digits.
    pub sha256: String,
}

impl File {
    /// The last component of its path.
    pub fn name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or_default()
    }
}

/// The files of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Files {
    /// One archive.
    Unified(File),
    /// Metadata and root file system or disk.
    Split(File, File),
}

/// What an older image's root file system lacks to be an image's: VCDIFF (RFC 3284).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delta {
    /// The older image.
    pub base: Fingerprint,
    /// What to fetch.
    pub file: File,
}

/// An image that a server offers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    /// What the files joined hash to.
    pub fingerprint: Fingerprint,
    /// Container or virtual machine.
    pub kind: InstanceType,
    /// Kernel architecture name.
    pub architecture: &'static str,
    /// Names without architecture that this image is the newest of.
    pub aliases: Vec<String>,
    /// The architecture in the server's spelling, the end of long names.
    pub suffix: String,
    /// When it was made.
    pub created_at: Option<Timestamp>,
    /// End of its support.
    pub expires_at: Option<Timestamp>,
    /// Properties (`os`, `release`, …).
    pub properties: BTreeMap<String, String>,
    /// What to fetch.
    pub files: Files,
    /// What may be fetched instead of the root file system.
    pub deltas: Vec<Delta>,
}

impl Offer {
    /// Bytes of its files.
    pub fn size(&self) -> u64 {
        match &self.files {
            Files::Unified(file) => file.size,
            Files::Split(metadata, root) => metadata.size + root.size,
        }
    }

    /// Name of the file that stands for it.
    pub fn filename(&self) -> &str {
        match &self.files {
            Files::Unified(file) | Files::Split(file, _) => file.name(),
        }
    }

    /// All its names: without architecture if it is this host's, and with it.
    pub fn names(&self) -> impl Iterator<Item = String> {
        let short = self.aliases.iter().filter(|_| self.architecture == std::env::consts::ARCH).cloned();
        short.chain(self.aliases.iter().map(|alias| format!("{alias}/{}", self.suffix)))
    }
}

#[derive(Deserialize)]
struct Index {
    #[serde(default)]
    index: BTreeMap<String, Entry>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Entry {
    datatype: String,
    path: String,
    products: Vec<String>,
}

/// The paths of the lists of images in the text of [`INDEX`].
///
/// # Errors
/// It is no such file.
pub fn lists(text: &[u8]) -> Result<Vec<String>> {
    let index: Index = serde_json::from_slice(text).map_err(|e| bad(&e))?;
    let of_images = |entry: &Entry| entry.datatype == "image-downloads" && !entry.products.is_empty();
    Ok(index.index.into_values().filter(of_images).map(|entry| entry.path).take(64).collect())
}

fn bad(e: &serde_json::Error) -> Error {
    Error::invalid(format!("The server's list of images is damaged: {e}"))
}

#[derive(Deserialize)]
struct Products {
    #[serde(default)]
    products: BTreeMap<String, Product>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Product {
    aliases: String,
    arch: String,
    os: String,
    release: String,
    release_title: String,
    version: String,
    variant: String,
    support_eol: Option<String>,
    requirements: BTreeMap<String, String>,
    versions: BTreeMap<String, Version>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Version {
    label: String,
    items: BTreeMap<String, Item>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Item {
    ftype: String,
    path: String,
    size: u64,
    sha256: String,
    delta_base: String,
    combined_type: String,
    combined_squashfs_sha256: String,
    combined_rootxz_sha256: String,
    combined_sha256: String,
    #[serde(rename = "combined_disk-kvm-img_sha256")]
    combined_kvm: String,
    #[serde(rename = "combined_uefi1-img_sha256")]
    combined_uefi: String,
    #[serde(rename = "combined_disk1-img_sha256")]
    combined_disk: String,
}

/// Gives the hash of metadata and root joined, or nothing.
type Combined = fn(&Item) -> &str;

/// Types of root items in the order of preference, where the metadata item says the joined hash, and what they make.
const ROOTS: [(&str, Combined, InstanceType); 5] = [
    ("squashfs", |item| &item.combined_squashfs_sha256, InstanceType::Container),
    ("root.tar.xz", rootxz, InstanceType::Container),
    ("disk-kvm.img", |item| &item.combined_kvm, InstanceType::VirtualMachine),
    ("uefi1.img", |item| &item.combined_uefi, InstanceType::VirtualMachine),
    ("disk1.img", |item| &item.combined_disk, InstanceType::VirtualMachine),
];

fn rootxz(item: &Item) -> &str {
    if item.combined_rootxz_sha256.is_empty() { &item.combined_sha256 } else { &item.combined_rootxz_sha256 }
}

const METADATA: &str = "incus.tar.xz";
const UNIFIED: &str = "incus_combined.tar.gz";

/// The images in the texts of the lists, newest first, each name at the newest image that has it.
///
/// # Errors
/// One of them is no such file.
pub fn offers(texts: &[Vec<u8>]) -> Result<Vec<Offer>> {
    let mut found: Vec<(String, usize, Offer)> = Vec::new();
    for text in texts {
        let lists: Products = serde_json::from_slice(text).map_err(|e| bad(&e))?;
        for product in lists.products.values() {
            for (serial, version) in &product.versions {
                for (rank, offer) in of_version(product, serial, version) {
                    if found.len() == IMAGES {
                        return Err(Error::invalid("The server's list of images is too long"));
                    }
                    found.push((serial.clone(), rank, offer));
                }
            }
        }
    }
    found.sort_by(|(a, a_rank, x), (b, b_rank, y)| {
        b.cmp(a).then(a_rank.cmp(b_rank)).then_with(|| x.fingerprint.cmp(&y.fingerprint))
    });
    let (mut seen, mut named) = (BTreeSet::new(), BTreeSet::new());
    let mut all = Vec::with_capacity(found.len());
    for (_, _, mut offer) in found {
        if !seen.insert(offer.fingerprint.clone()) {
            continue;
        }
        let (kind, architecture) = (offer.kind, offer.architecture);
        offer.aliases.retain(|alias| named.insert((kind == InstanceType::Container, architecture, alias.clone())));
        all.push(offer);
    }
    Ok(all)
}

fn of_version(product: &Product, serial: &str, version: &Version) -> Vec<(usize, Offer)> {
    let Ok(architecture) = metadata::architecture(&product.arch) else { return Vec::new() };
    let offer = |combined: &str, kind, root_type: &str, files| {
        Some(Offer {
            fingerprint: Fingerprint::parse(combined).ok()?,
            kind,
            architecture,
            aliases: aliases(&product.aliases),
            suffix: product.arch.clone(),
            created_at: serial.get(..8).and_then(day),
            expires_at: product.support_eol.as_deref().and_then(|text| day(&text.replace('-', ""))),
            properties: properties(product, serial, version, root_type),
            files,
            deltas: Vec::new(),
        })
    };
    let mut found = Vec::new();
    let of_type = |wanted: &str| version.items.values().find(|item| item.ftype == wanted);
    if let Some(item) = of_type(UNIFIED) {
        let vm = item.combined_type == "virtual-machine";
        let kind = if vm { InstanceType::VirtualMachine } else { InstanceType::Container };
        let made = file(item).and_then(|file| offer(&item.sha256, kind, "tar.gz", Files::Unified(file)));
        found.extend(made.map(|offer| (ROOTS.len(), offer)));
    }
    let Some((meta, meta_file)) = of_type(METADATA).and_then(|item| Some((item, file(item)?))) else { return found };
    for (rank, (root_type, combined, kind)) in ROOTS.iter().enumerate() {
        let Some(root) = of_type(root_type).and_then(file) else { continue };
        let files = Files::Split(meta_file.clone(), root);
        let shown = root_type.trim_start_matches("root.");
        let deltas = deltas(product, version, root_type, *combined);
        found.extend(offer(combined(meta), *kind, shown, files).map(|offer| (rank, Offer { deltas, ..offer })));
    }
    found
}

/// Sound deltas to versions that are there still.
fn deltas(product: &Product, version: &Version, root_type: &str, combined: Combined) -> Vec<Delta> {
    let of_root = |item: &&Item| item.ftype.strip_suffix(".vcdiff") == Some(root_type);
    let delta = |item: &Item| {
        let base = product.versions.get(&item.delta_base)?.items.values().find(|base| base.ftype == METADATA)?;
        Some(Delta { base: Fingerprint::parse(combined(base)).ok()?, file: file(item)? })
    };
    version.items.values().filter(of_root).filter_map(delta).take(64).collect()
}

/// A sound item as a file.
fn file(item: &Item) -> Option<File> {
    let sound = Fingerprint::parse(&item.sha256).is_ok() && (1..=SIZE_MAX).contains(&item.size) && is_below(&item.path);
    sound.then(|| File { path: item.path.clone(), size: item.size, sha256: item.sha256.clone() })
}

/// Whether a path can be fetched at all: see [`Url::below`].
fn is_below(path: &str) -> bool {
    Url::parse("https://server").and_then(|url| url.below(path)).is_ok()
}

fn aliases(list: &str) -> Vec<String> {
    let sound = |name: &str| {
        let letter = |c: char| c.is_ascii_alphanumeric() || "-_./+".contains(c);
        !name.is_empty() && name.len() <= 255 && name.chars().all(letter) && !name.starts_with('-')
    };
    list.split(',').map(str::trim).filter(|name| sound(name)).take(64).map(ToString::to_string).collect()
}

/// `20261231` as the beginning of that day.
fn day(digits: &str) -> Option<Timestamp> {
    let number = |range: std::ops::Range<usize>| digits.get(range)?.parse::<u32>().ok();
    let (year, month, day) = (number(0..4)?, number(4..6)?, number(6..8)?);
    format!("{year:04}-{month:02}-{day:02}T00:00:00Z").parse().ok()
}

fn properties(product: &Product, serial: &str, version: &Version, root_type: &str) -> BTreeMap<String, String> {
    let variant = match product.variant.as_str() {
        "" | "default" => String::new(),
        other => format!(" ({other})"),
    };
    let title = if product.release_title.is_empty() { &product.release } else { &product.release_title };
    let description = format!("{} {title} {}{variant} ({serial})", product.os, product.arch);
    let pairs = [
        ("architecture", product.arch.as_str()),
        ("description", &description),
        ("label", &version.label),
        ("os", &product.os),
        ("release", &product.release),
        ("serial", serial),
        ("type", root_type),
        ("variant", &product.variant),
        ("version", &product.version),
    ];
    let mut all: BTreeMap<String, String> =
        pairs.into_iter().filter(|(_, v)| !v.is_empty()).map(|(k, v)| (k.to_string(), v.to_string())).collect();
    all.extend(product.requirements.iter().map(|(key, value)| (format!("requirements.{key}"), value.clone())));
    // They become configuration of instances and lines on terminals.
    let sound = |text: &str, most: usize| text.len() <= most && !text.contains(char::is_control);
    all.retain(|key, value| sound(key, 255) && !key.contains('=') && sound(value, 4096));
    all
}

/// Architectures whose programs run here too, in order.
fn runnable() -> &'static [&'static str] {
    match std::env::consts::ARCH {
        "x86_64" => &["x86_64", "i686"],
        "aarch64" => &["aarch64", "armv8l", "armv7l", "armv6l"],
        _ => &[std::env::consts::ARCH],
    }
}

/// The image of a name, which may have an architecture behind it, or of the beginning of a fingerprint; and whether it was
/// found by name.
///
/// # Errors
/// NotFound; more than one fits.
pub fn find<'a>(offers: &'a [Offer], name: &str, kind: InstanceType) -> Result<(&'a Offer, bool)> {
    let name = if name.is_empty() { "default" } else { name };
    let of_kind = || offers.iter().filter(move |offer| offer.kind == kind);
    let short = |arch: &str| of_kind().find(|o| o.architecture == arch && o.aliases.iter().any(|a| a == name));
    let long = |offer: &&Offer| {
        offer.aliases.iter().any(|alias| name.strip_prefix(alias.as_str()) == Some(&format!("/{}", offer.suffix)))
    };
    if let Some(found) = runnable().iter().find_map(|arch| short(arch)).or_else(|| of_kind().find(long)) {
        return Ok((found, true));
    }
    let mut matching = offers.iter().filter(|offer| offer.fingerprint.as_str().starts_with(&name.to_ascii_lowercase()));
    match (matching.next(), matching.next()) {
        (Some(one), None) => Ok((one, false)),
        (Some(_), Some(_)) => Err(Error::invalid("More than one image matches")),
        (None, _) => Err(Error::not_found(format!("Image \"{name}\" not found"))),
    }
}

#[cfg(test)]
#[path = "simplestreams_tests.rs"]
mod tests;
