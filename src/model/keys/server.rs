//! Keys of the server's own configuration (`config set <key>=<value>` without an instance).
//!
//! Kept apart from the keys of instances: none of these is expanded, live or volatile. A key of Incus that this version
//! could only store without heeding it is refused, so that nobody believes in it.

use super::checks;
use super::value::Value;
use crate::base::mac;
use crate::error::{Error, Result};
use crate::model::instance::Config;
use std::net::{IpAddr, SocketAddr};

const COMPRESSION: Value = Value::Checked("compression algorithm", compression);
const MAC_PATTERN: Value = Value::Checked("MAC pattern", mac_pattern);
/// Names of architectures.
pub(super) const ARCHITECTURE: Value = Value::OneOf(&[
    "aarch64",
    "armv6l",
    "armv7l",
    "armv8l",
    "i686",
    "loongarch64",
    "mips",
    "mips64",
    "ppc",
    "ppc64",
    "ppc64le",
    "riscv32",
    "riscv64",
    "s390x",
    "x86_64",
]);

/// How the ends of interfaces on the host are called: `random`, or `mac`.
pub const NIC_HOST_NAME: &str = "instances.nic.host_name";
/// Pattern of MAC addresses that are chosen.
pub const HWADDR_PATTERN: &str = "network.hwaddr_pattern";

/// How often images that follow a server are compared with it, hours; 0: never.
pub const AUTO_UPDATE_INTERVAL: &str = "images.auto_update_interval";
/// Whether cached images follow their server.
pub const AUTO_UPDATE_CACHED: &str = "images.auto_update_cached";
/// How backups are compressed.
pub const BACKUP_COMPRESSION: &str = "backups.compression_algorithm";
/// How published images are compressed.
pub const IMAGE_COMPRESSION: &str = "images.compression_algorithm";
/// Architecture chosen in a cluster of several.
pub const DEFAULT_ARCHITECTURE: &str = "images.default_architecture";
/// Days after its last use that a cached image is kept.
pub const REMOTE_CACHE_EXPIRY: &str = "images.remote_cache_expiry";

/// Proxies for downloads, and the variables of the environment they stand for where these are not set.
pub const PROXIES: [(&str, &str); 3] =
    [("core.proxy_http", "HTTP_PROXY"), ("core.proxy_https", "HTTPS_PROXY"), ("core.proxy_ignore_hosts", "NO_PROXY")];

/// A flag, or what it is unless it is set.
pub fn is_on(config: &Config, key: &str, default: bool) -> bool {
    config.get(key).and_then(|text| crate::base::boolean::parse(text).ok()).unwrap_or(default)
}

/// A number, or what it is unless it is set.
pub fn number(config: &Config, key: &str, default: i64) -> i64 {
    config.get(key).and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// Where zones are served: an address of the host, and a port if it is not 53.
pub const DNS_ADDRESS: &str = "core.dns_address";
const DNS_AT: Value = Value::Checked("address", |text| dns_address(text).map(drop));

/// Reads [`DNS_ADDRESS`].
///
/// # Errors
/// Invalid: not of that form, or every address there is.
pub fn dns_address(text: &str) -> Result<(IpAddr, u16)> {
    let bare = |text: &str| text.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    let (address, port) = match (text.parse::<SocketAddr>(), bare(text)) {
        (Ok(both), _) => (both.ip(), both.port()),
        (_, Ok(address)) => (address, 53),
        _ => return Err(Error::invalid("expecting an IP address, and a port if it is not 53")),
    };
    match address.is_unspecified() || port == 0 {
        true => Err(Error::invalid("expecting one address of the host")),
        false => Ok((address, port)),
    }
}

/// Names and types of the keys this version knows; `user.*` besides.
static KNOWN: [(&str, Value); 13] = [
    (BACKUP_COMPRESSION, COMPRESSION),
    (DNS_ADDRESS, DNS_AT),
    (PROXIES[0].0, Value::Line),
    (PROXIES[1].0, Value::Line),
    (PROXIES[2].0, Value::Line),
    ("core.shutdown_timeout", Value::Int),
    (AUTO_UPDATE_CACHED, Value::Bool),
    (AUTO_UPDATE_INTERVAL, Value::Int),
    (IMAGE_COMPRESSION, COMPRESSION),
    (REMOTE_CACHE_EXPIRY, Value::Int),
    (DEFAULT_ARCHITECTURE, ARCHITECTURE),
    (NIC_HOST_NAME, Value::OneOf(&["random", "mac"])),
    (HWADDR_PATTERN, MAC_PATTERN),
];

/// What Incus has besides, by prefix.
const REFUSED: [&str; 13] = [
    "acme.",
    "authorization.",
    "cluster.",
    "core.",
    "images.",
    "instances.",
    "logging.",
    "loki.",
    "network.ovn.",
    "network.ovs.",
    "oidc.",
    "openfga.",
    "storage.",
];

/// Names of the known keys.
pub fn server_keys() -> impl Iterator<Item = &'static str> {
    KNOWN.iter().map(|(name, _)| *name)
}

/// Checks a server configuration as a whole; the message is Incus's: the first wrong key, and how many more there are.
///
/// # Errors
/// [`crate::error::Kind::Invalid`], or Unsupported for a key of Incus that this version has not.
pub fn validate_server(config: &Config) -> Result<()> {
    let mut wrong = config.iter().filter_map(|(name, value)| {
        let e = check(name, value).err()?;
        Some((e.kind(), format!("cannot set '{}' to '{}': {e}", name.escape_debug(), value.escape_debug())))
    });
    let Some((kind, first)) = wrong.next() else { return Ok(()) };
    match wrong.count() {
        0 => Err(Error::new(kind, first)),
        more => Err(Error::new(kind, format!("{first} (and {more} more errors)"))),
    }
}

fn check(name: &str, value: &str) -> Result<()> {
    if let Some(rest) = name.strip_prefix(super::USER.name) {
        let good = |c: char| c.is_alphanumeric() || c.is_ascii_punctuation();
        return match !rest.is_empty() && rest.chars().all(good) {
            true => super::USER.value.check(value),
            false => Err(Error::invalid("Invalid key name")),
        };
    }
    match KNOWN.iter().find(|(known, _)| *known == name) {
        Some((_, kind)) => kind.check(value),
        None if REFUSED.iter().any(|prefix| name.starts_with(prefix)) => {
            Err(Error::unsupported("this key is not supported by this version"))
        }
        None => Err(Error::invalid("unknown key")),
    }
}

pub(super) fn compression(value: &str) -> Result<()> {
    let name = value.split(' ').next().unwrap_or_default();
    match ["bzip2", "gzip", "lz4", "lzma", "none", "squashfs", "xz", "zstd"].contains(&name) {
        true => Ok(()),
        false => Err(Error::invalid(format!("Compression algorithm {name:?} isn't currently supported"))),
    }
}

pub(super) fn mac_pattern(value: &str) -> Result<()> {
    let address = value.replace(['x', 'X'], "0");
    checks::mac_address(&address)?;
    mac::generate(value).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(pairs: &[(&str, &str)]) -> String {
        let config = pairs.iter().map(|(k, v)| ((*k).to_string(), (*v).to_string())).collect();
        validate_server(&config).map_or_else(|e| e.to_string(), |()| "ok".into())
    }

    #[test]
    fn checks_in_the_words_of_incus() {
        assert_eq!(
            set(&[("user.a", "1\n2"), ("core.shutdown_timeout", "5"), ("images.auto_update_cached", "no")]),
            "ok"
        );
        assert_eq!(set(&[("network.hwaddr_pattern", "10:66:6a:xx:xx:xx")]), "ok");
        assert_eq!(set(&[("foo", "x")]), "cannot set 'foo' to 'x': unknown key");
        assert_eq!(set(&[("bar", "1"), ("foo", "x")]), "cannot set 'bar' to '1': unknown key (and 1 more errors)");
        assert_eq!(
            set(&[("core.https_address", "[::]:8443")]),
            "cannot set 'core.https_address' to '[::]:8443': this key is not supported by this version"
        );
        assert!(set(&[("user.a b", "x")]).ends_with("Invalid key name") && set(&[("user.", "x")]) != "ok");
        assert!(set(&[("images.compression_algorithm", "rar")]).contains("isn't currently supported"));
        assert!(set(&[("network.hwaddr_pattern", "zz")]) != "ok");
    }
}
