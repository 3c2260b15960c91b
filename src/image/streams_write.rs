//! Adds images to the lists of a simplestreams tree, in the form that `incus-simplestreams` gives them.
//!
//! Called by `ops` (image export) with what the tree says now; what others wrote there and we do not know stays. No I/O.

use super::metadata;
use super::simplestreams::{File, Files};
use crate::error::{Error, Result};
use crate::model::instance::InstanceType;
use jiff::Timestamp;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// Where the images are listed.
pub const LIST: &str = "streams/v1/images.json";

/// An image whose files are in the tree.
#[derive(Debug, Clone)]
pub struct Made<'a> {
    /// Its fingerprint.
    pub fingerprint: &'a str,
    /// Container or virtual machine.
    pub kind: InstanceType,
    /// Kernel architecture name.
    pub architecture: &'a str,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it expires.
    pub expires_at: Option<Timestamp>,
    /// Its properties.
    pub properties: &'a BTreeMap<String, String>,
    /// Its names.
    pub aliases: Vec<String>,
    /// Its files.
    pub files: Files,
}

/// Debian's name of an architecture, which servers of images use.
fn debian(architecture: &str) -> &str {
    match architecture {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "i686" => "i386",
        "armv7l" => "armhf",
        "armv6l" => "armel",
        "ppc64le" => "ppc64el",
        other => other,
    }
}

fn bad() -> Error {
    Error::invalid(format!("The tree's \"{LIST}\" is not as it should be"))
}

/// The object below `key`, made if it is not there.
fn object<'a>(of: &'a mut Map<String, Value>, key: &str) -> Result<&'a mut Map<String, Value>> {
    of.entry(key).or_insert_with(|| json!({})).as_object_mut().ok_or_else(bad)
}

fn item(ftype: &str, file: &File) -> Value {
    json!({"ftype": ftype, "path": file.path, "size": file.size, "sha256": file.sha256})
}

/// The items of an image, by name.
fn items(made: &Made<'_>) -> Vec<(&'static str, Value)> {
    match &made.files {
        Files::Unified(file) => {
            let mut all = item("incus_combined.tar.gz", file);
            all["combined_type"] = json!(made.kind.as_str());
            vec![("incus_combined.tar.gz", all)]
        }
        Files::Split(metadata, root) => {
            let (ftype, combined) = match made.kind {
                InstanceType::VirtualMachine => ("disk-kvm.img", "combined_disk-kvm-img_sha256"),
                InstanceType::Container if root.path.ends_with(".squashfs") => ("squashfs", "combined_squashfs_sha256"),
                InstanceType::Container => ("root.tar.xz", "combined_rootxz_sha256"),
            };
            let mut first = item("incus.tar.xz", metadata);
            first[combined] = json!(made.fingerprint);
            vec![("incus.tar.xz", first), (ftype, item(ftype, root))]
        }
    }
}

/// Adds an image as a version of its product; the versions there are stay. What is there already stays as it is.
///
/// # Errors
/// Invalid: the list is damaged.
pub fn add(list: &mut Value, made: &Made<'_>) -> Result<()> {
    let top = list.as_object_mut().ok_or_else(bad)?;
    for (key, value) in [("content_id", "images"), ("datatype", "image-downloads"), ("format", "products:1.0")] {
        top.entry(key).or_insert_with(|| json!(value));
    }
    let short = made.fingerprint.get(..12).unwrap_or(made.fingerprint);
    let property = |key: &str, or| made.properties.get(key).filter(|v| !v.is_empty()).map_or(or, String::as_str);
    let (os, release, variant) = (property("os", "custom"), property("release", short), property("variant", "default"));
    // As the image spells it, unless that is another one's name.
    let arch = Some(property("architecture", ""))
        .filter(|name| metadata::architecture(name).is_ok_and(|of| of == made.architecture))
        .unwrap_or_else(|| debian(made.architecture));
    // A colon divides, a comma as well, and none of it may be a path.
    let plain = |text: &str| text.replace(|c: char| !(c.is_ascii_alphanumeric() || "-_.+".contains(c)), "-");
    let name = [os, release, variant, arch].map(plain);
    let product = object(object(top, "products")?, &name.join(":"))?;
    let before = product.get("aliases").and_then(Value::as_str).unwrap_or_default();
    let mut names: Vec<String> = before.split(',').filter(|name| !name.is_empty()).map(ToString::to_string).collect();
    for name in [name[..3].join("/")].iter().chain(&made.aliases) {
        if !names.contains(name) {
            names.push(name.clone());
        }
    }
    product.insert("aliases".into(), json!(names.join(",")));
    for (key, value) in
        [("arch", arch), ("os", os), ("release", release), ("release_title", release), ("variant", variant)]
    {
        product.insert(key.into(), json!(value));
    }
    let needs = made.properties.iter().filter_map(|(key, value)| Some((key.strip_prefix("requirements.")?, value)));
    let needs: BTreeMap<_, _> = needs.collect();
    if !needs.is_empty() {
        product.insert("requirements".into(), json!(needs));
    }
    if let Some(at) = made.expires_at {
        product.insert("support_eol".into(), json!(at.strftime("%Y-%m-%d").to_string()));
    }
    let version = version(object(product, "versions")?, made)?;
    let all = object(version, "items")?;
    for (name, mut item) in items(made) {
        if let (Some(old), Some(new)) = (all.get(name).and_then(Value::as_object), item.as_object_mut()) {
            // The same metadata may stand for several root file systems.
            old.iter().filter(|(key, _)| key.starts_with("combined_")).for_each(|(key, value)| {
                new.entry(key.clone()).or_insert_with(|| value.clone());
            });
        }
        all.insert(name.to_string(), item);
    }
    Ok(())
}

/// The version an image belongs to: of the minute it was made, unless that is another image's.
fn version<'a>(versions: &'a mut Map<String, Value>, made: &Made<'_>) -> Result<&'a mut Map<String, Value>> {
    let at = |format: &str| made.created_at.strftime(format).to_string();
    let serials = [at("%Y%m%d%H%M"), at("%Y%m%d%H%M%S"), format!("{}_{}", at("%Y%m%d"), made.fingerprint)];
    let fits = |serial: &&String| {
        let old = |name: &str| versions.get(*serial).and_then(|version| version["items"].get(name)).cloned();
        items(made).iter().all(|(name, new)| old(name).is_none_or(|old| old["sha256"] == new["sha256"]))
    };
    let serial = serials.iter().find(fits).ok_or_else(bad)?;
    object(versions, serial)
}

/// Brings the list of lists up to date.
///
/// # Errors
/// Invalid: it is damaged.
pub fn index(index: &mut Value, list: &Value) -> Result<()> {
    let top = index.as_object_mut().ok_or_else(bad)?;
    top.entry("format").or_insert_with(|| json!("index:1.0"));
    let products: Vec<&String> = list["products"].as_object().into_iter().flat_map(Map::keys).collect();
    let entry = json!({
        "datatype": "image-downloads", "path": LIST, "format": "products:1.0", "products": products,
    });
    object(top, "index")?.insert("images".into(), entry);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::simplestreams;
    use super::*;

    fn file(path: &str, digit: &str) -> File {
        File { path: path.to_string(), size: 5, sha256: digit.repeat(64) }
    }

    #[test]
    fn what_is_written_is_offered() {
        let properties: BTreeMap<String, String> =
            [("os", "Debian"), ("release", "12"), ("requirements.secureboot", "false"), ("variant", "a:b/../c")]
                .map(|(k, v)| (k.to_string(), v.to_string()))
                .into();
        let at = |text: &str| text.parse::<Timestamp>().expect("time");
        let made = |digit: &'static str, time: &str, files: Files| {
            let fingerprint: &'static str = Box::leak(digit.repeat(64).into_boxed_str());
            let (created_at, aliases) = (at(time), vec!["mine".to_string()]);
            let kind = InstanceType::Container;
            let expires_at = Some(at("2030-01-02T00:00:00Z"));
            Made {
                fingerprint,
                kind,
                architecture: "x86_64",
                created_at,
                expires_at,
                properties: &properties,
                aliases,
                files,
            }
        };
        let split = |meta: &str, root: &str| {
            Files::Split(
                file(&format!("images/{meta}.incus.tar.xz"), meta),
                file(&format!("images/{root}.squashfs"), root),
            )
        };
        let (mut list, mut top) = (json!({"mine": 1}), json!({}));
        let first = made("a", "2026-01-01T10:00:30Z", split("1", "2"));
        for made in [
            &first,
            &first,
            &made("b", "2026-01-01T10:00:40Z", split("3", "4")),
            &made("c", "2026-02-01T10:00:00Z", split("5", "6")),
            &made("7", "2025-01-01T10:00:00Z", Files::Unified(file("images/7.tar.zst", "7"))),
        ] {
            add(&mut list, made).expect("added");
        }
        index(&mut top, &list).expect("index");
        assert_eq!(list["mine"], 1);
        let lists = simplestreams::lists(top.to_string().as_bytes()).expect("index");
        assert_eq!(lists, [LIST]);
        let offers = simplestreams::offers(&[list.to_string().into_bytes()]).expect("offers");
        let prints: Vec<&str> = offers.iter().map(|o| &o.fingerprint.as_str()[..1]).collect();
        assert_eq!(prints, ["c", "b", "a", "7"]);
        assert_eq!(offers[0].aliases, ["Debian/12/a-b-..-c", "mine"]);
        let product = &list["products"]["Debian:12:a-b-..-c:amd64"];
        assert_eq!(product["variant"], "a:b/../c");
        let serials: Vec<&String> = product["versions"].as_object().expect("versions").keys().collect();
        assert_eq!(serials, ["202501011000", "202601011000", "20260101100040", "202602011000"]);
        assert_eq!(offers[0].properties["requirements.secureboot"], "false");
        assert_eq!(offers[0].expires_at, Some(at("2030-01-02T00:00:00Z")));
        assert!(add(&mut json!([]), &first).is_err());
        assert!(add(&mut json!({"products": 1}), &first).is_err());
    }
}
