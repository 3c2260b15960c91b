//! `metadata.yaml` of an image, and the layout an unpacked image must have.
//!
//! Used by `import`, `bootstrap` and publishing. Both come from strangers: sizes, counts and characters are bounded, template names
//! are bare file names (CVE-2026-48752), and the well-known names must be what they say, seen without following links (CVE-2026-48749,
//! -48750, -63125, -63343). Format: incus-reference, section 5.1; JSON is YAML too.

use super::METADATA_MAX;
use crate::base::yaml;
use crate::error::{Context, Error, Result};
use crate::sys::path::{self, Kind};
use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize};
use std::collections::BTreeMap;
use std::os::fd::BorrowedFd;

/// Properties and templates of one image.
const ITEMS_MAX: usize = 1000;
/// Longest property value and template path, bytes.
const TEXT_MAX: usize = 4096;

/// The content of `metadata.yaml`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Metadata {
    /// Kernel architecture name (`x86_64`).
    #[serde(default, deserialize_with = "nullable")]
    pub architecture: String,
    /// Seconds since the epoch.
    #[serde(default, deserialize_with = "nullable")]
    pub creation_date: i64,
    /// Seconds since the epoch; 0 for never.
    #[serde(default, deserialize_with = "nullable")]
    pub expiry_date: i64,
    /// `os`, `release`, `description`, …
    #[serde(default, deserialize_with = "nullable")]
    pub properties: BTreeMap<String, String>,
    /// By the path in the instance.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "BTreeMap::is_empty")]
    pub templates: BTreeMap<String, Template>,
}

/// A file that is generated in the instance.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Template {
    /// `create`, `copy`, `rename`, `start`.
    #[serde(default, deserialize_with = "nullable")]
    pub when: Vec<String>,
    /// Only if the file is not there.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "std::ops::Not::not")]
    pub create_only: bool,
    /// Bare name in `templates/`.
    #[serde(default, deserialize_with = "nullable")]
    pub template: String,
    /// Handed to the template.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "BTreeMap::is_empty")]
    pub properties: BTreeMap<String, String>,
    /// Owner of a new file; empty for root.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "String::is_empty")]
    pub uid: String,
    /// Group of a new file; empty for root.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "String::is_empty")]
    pub gid: String,
    /// Mode of a new file, octal; empty for 0644.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "String::is_empty")]
    pub mode: String,
}

/// Go reads null as the empty value.
fn nullable<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(d: D) -> Result<T, D::Error> {
    Option::<T>::deserialize(d).map(Option::unwrap_or_default)
}

fn bad(what: impl std::fmt::Display) -> Error {
    Error::invalid(format!("Bad image metadata: {what}"))
}

impl Metadata {
    /// Reads and checks a `metadata.yaml`. The architecture is returned in the kernel's spelling; line breaks and tabs in property values
    /// become spaces, so that they can be configuration values.
    ///
    /// # Errors
    /// It is not YAML, over a bound, without architecture or creation date, or holds a name that is not allowed.
    pub fn parse(data: &[u8]) -> Result<Self> {
        if data.len() as u64 > METADATA_MAX {
            return Err(bad(format!("it is larger than {METADATA_MAX} bytes")));
        }
        let text = std::str::from_utf8(data).map_err(|_| bad("it is not UTF-8"))?;
        let mut metadata: Self = yaml::from_str(text).map_err(|e| bad(first_line(&e.to_string())))?;
        metadata.check()?;
        Ok(metadata)
    }

    /// As `metadata.yaml`.
    ///
    /// # Errors
    /// None that is known.
    pub fn to_yaml(&self) -> Result<String> {
        yaml::to_string(self)
    }

    /// When the image was made.
    ///
    /// # Errors
    /// The date is out of range.
    pub fn created(&self) -> Result<Timestamp> {
        Timestamp::from_second(self.creation_date).map_err(|_| bad("the creation date"))
    }

    /// When it expires, if it does.
    ///
    /// # Errors
    /// The date is out of range.
    pub fn expires(&self) -> Result<Option<Timestamp>> {
        match self.expiry_date {
            0 => Ok(None),
            at => Timestamp::from_second(at).map(Some).map_err(|_| bad("the expiry date")),
        }
    }

    fn check(&mut self) -> Result<()> {
        self.architecture = architecture(&self.architecture)?.to_string();
        if self.creation_date <= 0 {
            return Err(bad("the creation date is missing"));
        }
        self.created()?;
        self.expires()?;
        if self.properties.len() > ITEMS_MAX || self.templates.len() > ITEMS_MAX {
            return Err(bad(format!("more than {ITEMS_MAX} properties or templates")));
        }
        for (key, value) in &mut self.properties {
            if key.is_empty() || key.len() > 255 || key.contains(|c: char| c.is_control() || c == '=') {
                return Err(bad(format!("the property name {key:?}")));
            }
            *value = value.replace(['\n', '\r', '\t'], " ");
            if value.len() > TEXT_MAX || value.contains(char::is_control) {
                return Err(bad(format!("the value of the property {key:?}")));
            }
        }
        self.templates.iter().try_for_each(|(target, template)| template.check(target))
    }
}

impl Template {
    fn check(&self, target: &str) -> Result<()> {
        if target.is_empty() || target.len() > TEXT_MAX || target.contains(char::is_control) {
            return Err(bad(format!("the template path {target:?}")));
        }
        if !is_bare_name(self.template.as_bytes()) {
            return Err(bad(format!("the template name {:?} of {target:?}", self.template)));
        }
        let ids = [&self.uid, &self.gid].into_iter().all(|id| id.is_empty() || id.parse::<u32>().is_ok());
        let mode = self.mode.is_empty() || u32::from_str_radix(&self.mode, 8).is_ok_and(|m| m <= 0o7777);
        if !ids || !mode {
            return Err(bad(format!("the owner or mode of the template {target:?}")));
        }
        // One that nobody knows never comes: images have such, and Incus takes them.
        let plain = |when: &String| when.len() <= 255 && !when.contains(char::is_control);
        match self.when.len() <= ITEMS_MAX && self.when.iter().all(plain) {
            true => Ok(()),
            false => Err(bad(format!("the triggers of the template {target:?}"))),
        }
    }
}

/// A name of one file in one folder.
pub fn is_bare_name(name: &[u8]) -> bool {
    !matches!(name, b"" | b"." | b"..")
        && name.len() <= 255
        && name.iter().all(|b| *b != b'/' && *b >= b' ' && *b != 0x7f)
}

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().chars().take(200).collect()
}

/// The kernel's name of an architecture that may be given in Debian's spelling.
///
/// # Errors
/// It is missing or unknown.
pub fn architecture(name: &str) -> Result<&'static str> {
    Ok(match name {
        "i686" | "i386" | "x86" | "386" => "i686",
        "x86_64" | "amd64" => "x86_64",
        "armv6l" | "armel" => "armv6l",
        "armv7l" | "armhf" | "arm" => "armv7l",
        "armv8l" => "armv8l",
        "aarch64" | "arm64" => "aarch64",
        "ppc" | "powerpc" => "ppc",
        "ppc64" => "ppc64",
        "ppc64le" | "ppc64el" => "ppc64le",
        "s390x" => "s390x",
        "mips" => "mips",
        "mips64" => "mips64",
        "riscv32" => "riscv32",
        "riscv64" => "riscv64",
        "loongarch64" | "loong64" => "loongarch64",
        "" => return Err(bad("the architecture is missing")),
        other => return Err(bad(format!("the architecture {other:?}"))),
    })
}

/// Checks what lies in the top folder of an unpacked image: `metadata.yaml` and `config.json` regular files, `rootfs` and `templates` real
/// folders, nothing else; templates regular files. `config.json` and `templates` may be absent.
///
/// # Errors
/// Anything else.
pub fn check_layout(image: BorrowedFd<'_>) -> Result<()> {
    let entries = path::read_dir(image)?;
    for name in ["metadata.yaml", "rootfs"] {
        if !entries.iter().any(|e| e.name == name) {
            return Err(Error::invalid(format!("Not an image: it has no \"{name}\"")));
        }
    }
    for entry in entries {
        let wanted = match entry.name.to_str() {
            Some("metadata.yaml" | "config.json") => Kind::File,
            Some("rootfs" | "templates") => Kind::Dir,
            _ => return Err(Error::invalid(format!("Bad image: unexpected {:?}", entry.name))),
        };
        // The type byte of a directory listing is a hint; this is the inode.
        if path::stat_in(image, &entry.name)?.kind != wanted {
            return Err(Error::invalid(format!("Bad image: {:?} is not a {}", entry.name, kind_name(wanted))));
        }
        if entry.name == "templates" {
            check_templates(image)?;
        }
    }
    Ok(())
}

fn check_templates(image: BorrowedFd<'_>) -> Result<()> {
    use std::os::fd::AsFd;
    let dir = path::open_dir(image, "templates".as_ref(), path::Links::Refuse)?;
    for entry in path::read_dir(dir.as_fd())? {
        if path::stat_in(dir.as_fd(), &entry.name)?.kind != Kind::File {
            return Err(Error::invalid(format!("Bad image: the template {:?} is not a regular file", entry.name)));
        }
    }
    Ok(())
}

fn kind_name(kind: Kind) -> &'static str {
    if kind == Kind::Dir { "directory" } else { "regular file" }
}

/// Reads `metadata.yaml` of an unpacked image.
///
/// # Errors
/// As [`Metadata::parse`]; it is not a regular file.
pub fn read(image: BorrowedFd<'_>) -> Result<Metadata> {
    let data = path::read_limited(image, "metadata.yaml".as_ref(), METADATA_MAX, path::Links::Refuse)
        .context("Failed reading \"metadata.yaml\"")?;
    Metadata::parse(&data)
}

#[cfg(test)]
#[path = "metadata_tests.rs"]
mod tests;
