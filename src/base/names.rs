//! Names of objects. Every name that becomes part of a path, a link or a record passes one of these parsers first, at every
//! entry (create, import, rename, backup), and travels on as its own type.
//!
//! No name can hold a control character, a slash (aliases excepted) or be `.` or `..`.

use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::borrow::Borrow;
use std::fmt;
use std::ops::Deref;

macro_rules! names {
    ($($(#[$doc:meta])* $name:ident, $check:path;)*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// Checks and takes a name.
            pub fn parse(value: &str) -> Result<Self> {
                $check(value)?;
                Ok(Self(value.to_string()))
            }

            /// The name.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl Deref for $name {
            type Target = str;
            fn deref(&self) -> &str {
                &self.0
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl std::str::FromStr for $name {
            type Err = Error;
            fn from_str(value: &str) -> Result<Self> {
                Self::parse(value)
            }
        }

        impl TryFrom<String> for $name {
            type Error = Error;
            fn try_from(value: String) -> Result<Self> {
                Self::parse(&value)
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0
            }
        }
    )*};
}

names! {
    /// An instance: 1–63 letters, digits and `-`, neither first nor last a `-`, not a number.
    InstanceName, instance;
    /// A snapshot of an instance or volume.
    SnapshotName, snapshot;
    /// A project.
    ProjectName, project;
    /// A profile.
    ProfileName, profile;
    /// A storage pool.
    PoolName, pool;
    /// A custom volume; `@` is kept for the names of its snapshots on disk.
    VolumeName, volume;
    /// A device of an instance or profile.
    DeviceName, device;
    /// An image alias; may hold slashes (`debian/12`).
    AliasName, alias;
    /// An image: 64 lower-case hexadecimal digits.
    Fingerprint, fingerprint;
    /// A network: what an interface may be called (2–15 characters), for it names the bridge.
    NetworkName, network;
    /// A network ACL; a name in rules, told from addresses and selectors.
    AclName, acl;
    /// An address set; `$name` in rules.
    AddressSetName, address_set;
    /// A DNS zone: `example.net`, `2.0.10.in-addr.arpa`.
    ZoneName, zone;
    /// A record in a zone: `@`, `*.x`, `_srv` or a plain name.
    ZoneRecordName, zone_record;
}

/// The project that always exists.
impl Default for ProjectName {
    fn default() -> Self {
        Self("default".to_string())
    }
}

impl ProjectName {
    /// Is it the project that always exists?
    pub fn is_default(&self) -> bool {
        self.0 == "default"
    }

    /// The name of one of this project's objects where projects share a folder or a name space: `name` in the default
    /// project, else `project_name` (a project's name has no underscore, so this is unambiguous).
    pub fn prefixed(&self, name: &str) -> String {
        if self.is_default() { name.to_string() } else { format!("{}_{name}", self.0) }
    }
}

impl Fingerprint {
    /// Could `text` be the beginning of a fingerprint?
    pub fn is_prefix(text: &str) -> bool {
        (1..=64).contains(&text.len()) && text.bytes().all(|c| c.is_ascii_digit() || (b'a'..=b'f').contains(&c))
    }

    /// The first 12 digits, as tables show it.
    pub fn short(&self) -> &str {
        &self.0[..12]
    }
}

fn instance(value: &str) -> Result<()> {
    if value.contains('/') {
        return Err(Error::invalid("The character \"/\" is reserved for snapshots"));
    }
    hostname(value).map_err(|e| e.context("Invalid instance name"))
}

fn snapshot(value: &str) -> Result<()> {
    let wrong = |why: &str| Err(Error::invalid(format!("Invalid instance snapshot name: {why}")));
    if value.is_empty() {
        return wrong("Cannot be empty");
    }
    if value.contains([' ', '/']) {
        return wrong("Cannot contain space or / characters");
    }
    if value.chars().any(|c| c.is_control() || c.is_whitespace()) {
        return wrong("Cannot contain white space or control characters");
    }
    if value.starts_with('.') {
        return wrong("Cannot start with a dot");
    }
    if value.len() > 200 {
        return wrong("Maximum name length is 200 characters");
    }
    Ok(())
}

fn project(value: &str) -> Result<()> {
    if value.contains('_') {
        return Err(Error::invalid("Project names may not contain underscores"));
    }
    if value == "*" {
        return Err(Error::invalid("Reserved project name"));
    }
    api_name(value, false).map_err(|e| e.context("Invalid project name"))
}

fn profile(value: &str) -> Result<()> {
    api_name(value, false).map_err(|e| e.context("Invalid profile name"))
}

fn pool(value: &str) -> Result<()> {
    api_name(value, false).map_err(|e| e.context("Invalid storage pool name"))
}

fn device(value: &str) -> Result<()> {
    api_name(value, false).map_err(|e| e.context(format!("Invalid device name {value:?}")))
}

fn network(value: &str) -> Result<()> {
    interface(value).map_err(|e| e.context("Invalid network name"))
}

/// What the kernel and Incus let an interface be called.
pub fn interface(value: &str) -> Result<()> {
    if value.len() < 2 {
        return Err(Error::invalid("Network interface is too short (minimum 2 characters)"));
    }
    if value.len() > 15 {
        return Err(Error::invalid("Network interface is too long (maximum 15 characters)"));
    }
    let good = value.bytes().all(|c| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_' | b'.')) && value != "..";
    if good { Ok(()) } else { Err(Error::invalid("Network interface contains invalid characters")) }
}

fn volume(value: &str) -> Result<()> {
    let checked = match value.contains('@') {
        true => Err(Error::invalid("Name contains invalid character \"@\"")),
        false => api_name(value, false),
    };
    checked.map_err(|e| e.context("Invalid volume name"))
}

fn acl(value: &str) -> Result<()> {
    rule_name(value, "@%#").map_err(|e| e.context("Invalid network ACL name"))
}

fn address_set(value: &str) -> Result<()> {
    rule_name(value, "@$").map_err(|e| e.context("Invalid network address set name"))
}

/// A name that rules use.
fn rule_name(value: &str, reserved: &str) -> Result<()> {
    if let Some(c) = value.chars().next().filter(|c| reserved.contains(*c)) {
        return Err(Error::invalid(format!("Name cannot start with reserved character '{c}'")));
    }
    api_name(value, false)?;
    hostname(value)
}

fn zone(value: &str) -> Result<()> {
    domain(value).map_err(|e| e.context("Invalid network zone name"))
}

/// A domain: labels of letters, digits, `-` and `_`, at most 253 characters (RFC 1035, section 2.3.4).
pub fn domain(value: &str) -> Result<()> {
    let label = |l: &str| {
        (1..=63).contains(&l.len())
            && !l.starts_with('-')
            && !l.ends_with('-')
            && l.bytes().all(|c| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_'))
    };
    if value.len() <= 253 && value.split('.').all(label) {
        return Ok(());
    }
    Err(Error::invalid(format!("Not a domain name {value:?}")))
}

fn zone_record(value: &str) -> Result<()> {
    let checked = match value {
        "@" | "*" => Ok(()),
        _ => domain(value.strip_prefix("*.").unwrap_or(value)),
    };
    checked.map_err(|e| e.context("Invalid network zone record name"))
}

fn alias(value: &str) -> Result<()> {
    // Aliases are keys of a map and never paths, yet they may become ones some day.
    let dots = value.split('/').any(|part| part.is_empty() || part == "." || part == "..");
    let checked = api_name(value, true).and_then(|()| match dots {
        true => Err(Error::invalid("Name contains an empty or dot component")),
        false => Ok(()),
    });
    checked.map_err(|e| e.context("Invalid image alias name"))
}

fn fingerprint(value: &str) -> Result<()> {
    if value.len() == 64 && Fingerprint::is_prefix(value) {
        return Ok(());
    }
    Err(Error::invalid("Invalid SHA-256 hash"))
}

/// What a DNS label may be, without being a number.
fn hostname(value: &str) -> Result<()> {
    let wrong = |why: &str| Err(Error::invalid(why));
    if value.is_empty() || value.len() > 63 {
        return wrong("Name must be 1-63 characters long");
    }
    if value.starts_with('-') {
        return wrong("Name must not start with \"-\" character");
    }
    if value.ends_with('-') {
        return wrong("Name must not end with \"-\" character");
    }
    if value.bytes().all(|c| c.is_ascii_digit()) {
        return wrong("Name cannot be a number");
    }
    if !value.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-') {
        return wrong("Name can only contain alphanumeric and hyphen characters");
    }
    Ok(())
}

/// The rule most objects share.
fn api_name(value: &str, slashes: bool) -> Result<()> {
    if value.is_empty() {
        return Err(Error::invalid("No name provided"));
    }
    if value.len() > 64 {
        return Err(Error::invalid("Maximum name length is 64 characters"));
    }
    if value.chars().any(char::is_whitespace) {
        return Err(Error::invalid("Name cannot contain white space"));
    }
    if value.chars().any(char::is_control) {
        return Err(Error::invalid("Name cannot contain control characters"));
    }
    let reserved = |c: &char| "$?&+\"'`*".contains(*c) || (*c == '/' && !slashes);
    if let Some(c) = value.chars().find(reserved) {
        return Err(Error::invalid(format!("Name contains invalid character {:?}", c.to_string())));
    }
    let ends = value.chars().next().is_some_and(|c| c.is_ascii_alphanumeric())
        && value.chars().last().is_some_and(|c| c.is_ascii_alphanumeric());
    if !ends {
        return Err(Error::invalid("Names must start and end with an alphanumeric character"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn instances() {
        for good in ["a", "web-1", "1a", "A9", &"x".repeat(63)] {
            assert_eq!(InstanceName::parse(good).expect(good).as_str(), good);
        }
        let message = |v: &str| InstanceName::parse(v).expect_err(v).to_string();
        assert_eq!(message("c1/snap"), "The character \"/\" is reserved for snapshots");
        assert_eq!(message("-a"), "Invalid instance name: Name must not start with \"-\" character");
        assert_eq!(message("12"), "Invalid instance name: Name cannot be a number");
        for bad in ["", "a-", "a.b", "a_b", "a b", "a\n", "é", &"x".repeat(64), "../x", "."] {
            assert!(InstanceName::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn others() {
        assert!(SnapshotName::parse("before_update:2.1").is_ok());
        for bad in ["", "a b", "a/b", ".", "..", ".x", "a\u{7}", "a\tb", &"x".repeat(201)] {
            assert!(SnapshotName::parse(bad).is_err(), "{bad}");
        }
        assert!(ProjectName::parse("team.a-1").is_ok());
        for bad in ["", "a_b", "*", "..", ".", "a'b", "a/b", "a b", "a\u{1}b"] {
            assert!(ProjectName::parse(bad).is_err(), "{bad}");
        }
        assert!(
            ProfileName::parse("gpu_x").is_ok() && DeviceName::parse("eth0").is_ok() && PoolName::parse("p1").is_ok()
        );
        assert!(AliasName::parse("debian/12/cloud").is_ok());
        for bad in ["/a", "a/", "a//b", "a/../b", "a$b"] {
            assert!(AliasName::parse(bad).is_err(), "{bad}");
        }
        assert_eq!(ProjectName::default().prefixed("c1"), "c1");
        assert_eq!(ProjectName::parse("p").expect("p").prefixed("c1"), "p_c1");
    }

    #[test]
    fn networks() {
        assert!(NetworkName::parse("stapesbr0").is_ok() && AclName::parse("web").is_ok());
        assert!(ZoneName::parse("2.0.10.in-addr.arpa").is_ok() && AddressSetName::parse("hosts").is_ok());
        for good in ["@", "*", "*.x", "_srv._tcp", "www"] {
            assert!(ZoneRecordName::parse(good).is_ok(), "{good}");
        }
        let message = |v: &str| NetworkName::parse(v).expect_err(v).to_string();
        assert_eq!(
            message("a-network-of-16c"),
            "Invalid network name: Network interface is too long (maximum 15 characters)"
        );
        for bad in ["", "a", "a b", "a/b", "..", "a:b", "a\nb"] {
            assert!(NetworkName::parse(bad).is_err(), "{bad}");
        }
        for bad in ["@a", "%a", "#a", "$a", "", "a.b", "1", "a b"] {
            assert!(AclName::parse(bad).is_err() && AddressSetName::parse(bad).is_err() || bad == "$a", "{bad}");
        }
        assert!(ZoneName::parse("*").is_err() && ZoneRecordName::parse("*.@").is_err());
        for bad in ["", "a..b", "a b", "-a", "a\n", "a,b", "a/b", &"x".repeat(64), "*x"] {
            assert!(ZoneName::parse(bad).is_err() && ZoneRecordName::parse(bad).is_err(), "{bad}");
        }
    }

    /// Rows CVE-2026-33542 and CVE-2025-54293 of the security cases: no name or fingerprint is a path.
    #[test]
    fn names_are_no_paths() {
        for evil in ["../../etc/shadow", "..", ".", "a/../../b", "a\0b", "/etc"] {
            assert!(InstanceName::parse(evil).is_err() && SnapshotName::parse(evil).is_err());
            assert!(
                ProfileName::parse(evil).is_err() && PoolName::parse(evil).is_err() && DeviceName::parse(evil).is_err()
            );
            assert!(
                ProjectName::parse(evil).is_err()
                    && Fingerprint::parse(evil).is_err()
                    && AliasName::parse(evil).is_err()
            );
        }
        let good = "0123456789abcdef".repeat(4);
        assert_eq!(Fingerprint::parse(&good).expect("fp").short(), "0123456789ab");
        assert!(Fingerprint::parse(&good.to_uppercase()).is_err() && Fingerprint::parse(&good[1..]).is_err());
    }

    proptest! {
        #[test]
        fn no_control_character_and_no_dot_path(text in "\\PC{0,6}|[\\x00-\\x7f]{0,6}") {
            let ok = [
                InstanceName::parse(&text).is_ok(), SnapshotName::parse(&text).is_ok(), ProjectName::parse(&text).is_ok(),
                ProfileName::parse(&text).is_ok(), DeviceName::parse(&text).is_ok(), PoolName::parse(&text).is_ok(),
            ];
            if ok.contains(&true) {
                prop_assert!(!text.chars().any(char::is_control) && !text.contains('/') && text != "." && text != "..");
            }
        }
    }
}
