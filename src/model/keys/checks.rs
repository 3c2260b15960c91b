//! Checks of single values, for [`super::value::Value::Checked`]. Messages are Incus's.

use crate::base::{idset, mac, time, yaml};
use crate::error::{Error, Result};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

fn wrong(message: impl Into<String>) -> Error {
    Error::invalid(message)
}

fn require(good: bool, message: impl FnOnce() -> String) -> Result<()> {
    if good { Ok(()) } else { Err(wrong(message())) }
}

/// Nothing but digits.
pub(super) fn digits(value: &str) -> bool {
    !value.is_empty() && value.bytes().all(|c| c.is_ascii_digit())
}

/// A whole number.
pub(super) fn int(value: &str) -> Result<i64> {
    value.parse().map_err(|_| wrong(format!("Invalid value for an integer {value:?}")))
}

/// 0–4294967295.
pub(super) fn uint32(value: &str) -> Result<u32> {
    let number = digits(value).then(|| value.parse().ok()).flatten();
    number.ok_or_else(|| wrong(format!("Invalid value for uint32 {value:?}")))
}

pub(super) fn abs_path(value: &str) -> Result<()> {
    require(value.starts_with('/'), || "Must be absolute file path".into())
}

pub(super) fn uuid(value: &str) -> Result<()> {
    uuid::Uuid::parse_str(value).map(drop).map_err(|_| wrong("Invalid UUID"))
}

/// Standard alphabet; padding may lack.
pub(super) fn base64(value: &str) -> Result<()> {
    let body = value.trim_end_matches('=');
    let good = body.bytes().all(|c| c.is_ascii_alphanumeric() || matches!(c, b'+' | b'/')) && body.len() % 4 != 1;
    require(good, || "Invalid value for a base64 string".into())
}

pub(super) fn expiry(value: &str) -> Result<()> {
    time::expiry(jiff::Timestamp::UNIX_EPOCH, value).map(drop)
}

pub(super) fn cron(value: &str) -> Result<()> {
    crate::base::cron::parse(value).map(drop)
}

pub(super) fn yaml_mapping(value: &str) -> Result<()> {
    yaml::is_mapping(value)
}

/// Cloud-config is YAML; anything else (scripts, MIME, jinja) is the guest's matter.
pub(super) fn cloud_init(value: &str) -> Result<()> {
    match value.strip_prefix("#cloud-config\n") {
        Some(body) => yaml::is_mapping(body),
        None => Ok(()),
    }
}

pub(super) fn selinux_type(value: &str) -> Result<()> {
    let good = value.strip_suffix("_t").is_some_and(|s| {
        s.starts_with(|c: char| c.is_ascii_lowercase())
            && s.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'_')
    });
    require(good, || "Invalid value, must be SELinux type string (e.g. container_init_t)".into())
}

pub(super) fn selinux_level(value: &str) -> Result<()> {
    let tagged = |s: &str, tag: char| s.strip_prefix(tag).is_some_and(digits);
    let (levels, categories) = match value.split_once(':') {
        Some((levels, categories)) => (levels, Some(categories)),
        None => (value, None),
    };
    let levels: Vec<&str> = levels.split('-').collect();
    let category = |c: &str| {
        let ends: Vec<&str> = c.split('.').collect();
        ends.len() <= 2 && ends.iter().all(|e| tagged(e, 'c'))
    };
    let good = levels.len() <= 2
        && levels.iter().all(|l| tagged(l, 's'))
        && categories.is_none_or(|list| list.split(',').all(category));
    require(good, || "Invalid value, must be SELinux level (e.g. s0:c1,c2)".into())
}

pub(super) fn ip(value: &str) -> Result<()> {
    value.parse::<IpAddr>().map(drop).map_err(|_| wrong(format!("Not an IP address {value:?}")))
}

pub(super) fn ipv4(value: &str) -> Result<()> {
    value.parse::<Ipv4Addr>().map(drop).map_err(|_| wrong(format!("Not an IPv4 address {value:?}")))
}

pub(super) fn ipv6(value: &str) -> Result<()> {
    value.parse::<Ipv6Addr>().map(drop).map_err(|_| wrong(format!("Not an IPv6 address {value:?}")))
}

fn cidr(value: &str) -> Result<(IpAddr, u8)> {
    let invalid = || wrong(format!("invalid CIDR address: {value}"));
    let (address, bits) = value.split_once('/').ok_or_else(invalid)?;
    let address: IpAddr = address.parse().map_err(|_| invalid())?;
    let bits: u8 = if digits(bits) { bits.parse().map_err(|_| invalid())? } else { return Err(invalid()) };
    let most = if address.is_ipv4() { 32 } else { 128 };
    if bits <= most { Ok((address, bits)) } else { Err(invalid()) }
}

/// Are all bits behind the prefix zero?
fn is_network((address, bits): (IpAddr, u8)) -> bool {
    match address {
        IpAddr::V4(a) => u32::from(a).checked_shl(u32::from(bits)).unwrap_or(0) == 0,
        IpAddr::V6(a) => u128::from(a).checked_shl(u32::from(bits)).unwrap_or(0) == 0,
    }
}

pub(super) fn network_v4(value: &str) -> Result<()> {
    let net = cidr(value)?;
    require(net.0.is_ipv4(), || format!("Not an IPv4 network {value:?}"))?;
    require(is_network(net), || format!("Not an IPv4 network address {value:?}"))
}

pub(super) fn network_v6(value: &str) -> Result<()> {
    let net = cidr(value)?;
    require(net.0.is_ipv6(), || format!("Not an IPv6 network {value:?}"))?;
    require(is_network(net), || format!("Not an IPv6 network address {value:?}"))
}

/// An address, `none`, or an address with its prefix length (static in application containers).
pub(super) fn nic_ipv4(value: &str) -> Result<()> {
    if value == "none" || !value.contains('/') {
        return if value == "none" { Ok(()) } else { ipv4(value) };
    }
    let net = cidr(value)?;
    require(net.0.is_ipv4(), || format!("Not an IPv4 address {value:?}"))?;
    require(net.1 == 32 || !is_network(net), || format!("Not a usable IPv4 address {value:?}"))
}

/// As [`nic_ipv4`].
pub(super) fn nic_ipv6(value: &str) -> Result<()> {
    if value == "none" || !value.contains('/') {
        return if value == "none" { Ok(()) } else { ipv6(value) };
    }
    let net = cidr(value)?;
    require(net.0.is_ipv6(), || format!("Not an IPv6 address {value:?}"))?;
    require(net.1 == 128 || !is_network(net), || format!("Not a usable IPv6 address {value:?}"))
}

/// An address with or without prefix length, as ipvlan's l2 mode takes it.
pub(super) fn ipv4_maybe_cidr(value: &str) -> Result<()> {
    if value.contains('/') {
        return require(cidr(value)?.0.is_ipv4(), || format!("Not an IPv4 CIDR address: {value}"));
    }
    ipv4(value)
}

/// As [`ipv4_maybe_cidr`].
pub(super) fn ipv6_maybe_cidr(value: &str) -> Result<()> {
    if value.contains('/') {
        return require(cidr(value)?.0.is_ipv6(), || format!("Not an IPv6 CIDR address: {value}"));
    }
    ipv6(value)
}

pub(super) fn gateway(value: &str) -> Result<()> {
    require(matches!(value, "none" | "auto"), || format!("Invalid gateway: {value}"))
}

pub(super) fn gateway_v4(value: &str) -> Result<()> {
    gateway(value).or_else(|_| ipv4(value))
}

pub(super) fn gateway_v6(value: &str) -> Result<()> {
    gateway(value).or_else(|_| ipv6(value))
}

pub(super) fn vlan(value: &str) -> Result<()> {
    let id: i64 = value.parse().map_err(|_| wrong(format!("Invalid VLAN ID {value:?}")))?;
    require((0..=4094).contains(&id), || format!("Out of VLAN ID range (0-4094) {value:?}"))
}

pub(super) fn vlan_or_none(value: &str) -> Result<()> {
    if value == "none" { Ok(()) } else { vlan(value) }
}

pub(super) fn vlan_list(value: &str) -> Result<()> {
    for part in value.split(',').map(str::trim) {
        match part.split_once('-') {
            None => vlan(part)?,
            Some((low, high)) => {
                require(vlan(low).is_ok() && vlan(high).is_ok(), || {
                    format!("Invalid VLAN range boundary. start:{low}, end:{high}")
                })?;
                require(int(low)? <= int(high)?, || {
                    format!("Invalid VLAN range boundary. start:{low} is higher than end:{high}")
                })?;
            }
        }
    }
    Ok(())
}

pub(super) fn mtu(value: &str) -> Result<()> {
    let mtu = digits(value).then(|| value.parse::<u32>().ok()).flatten();
    let mtu = mtu.ok_or_else(|| wrong(format!("Invalid MTU {value:?}")))?;
    require((1280..=16384).contains(&mtu), || format!("Out of MTU range (1280-16384) {value:?}"))
}

pub(super) fn mac_address(value: &str) -> Result<()> {
    mac::parse(value).map(drop)
}

/// 8 or 20 bytes.
pub(super) fn infiniband_mac(value: &str) -> Result<()> {
    let good = mac::hex_bytes(value).is_some_and(|b| matches!(b.len(), 8 | 20));
    require(good, || "Invalid value, must be either 8 or 20 bytes of hex separated by colons".into())
}

pub(super) fn infiniband_guid(value: &str) -> Result<()> {
    let good = mac::hex_bytes(value).is_some_and(|b| b.len() == 8);
    require(good, || "Invalid value, must be 8 bytes of hex separated by colons".into())
}

pub(super) fn interface_name(value: &str) -> Result<()> {
    crate::base::names::interface(value)
}

pub(super) fn device_id(value: &str) -> Result<()> {
    let good = value.len() == 4 && value.bytes().all(|c| c.is_ascii_digit() || (b'a'..=b'f').contains(&c));
    require(good, || "Invalid value, must be four lower case hex characters".into())
}

/// `[dddd:]bb:dd.f`.
pub(super) fn pci_address(value: &str) -> Result<()> {
    let hex = |s: &str, n: usize| s.len() == n && s.bytes().all(|c| c.is_ascii_hexdigit());
    let parts: Vec<&str> = value.split([':', '.']).collect();
    let (domain, rest) = if parts.len() == 4 { (parts[0], &parts[1..]) } else { ("0000", &parts[..]) };
    let separators: String = value.chars().filter(|c| matches!(c, ':' | '.')).collect();
    let good = matches!(separators.as_str(), ":." | "::.")
        && rest.len() == 3
        && hex(domain, 4)
        && hex(rest[0], 2)
        && hex(rest[1], 2)
        && hex(rest[2], 1);
    require(good, || "Invalid PCI address".into())
}

pub(super) fn unix_id(value: &str) -> Result<()> {
    crate::base::user::parse_id(value).map(drop).map_err(|_| wrong("Invalid value for a UNIX ID"))
}

pub(super) fn device_number(value: &str) -> Result<()> {
    uint32(value).map(drop).map_err(|_| wrong("Invalid value for a UNIX device number"))
}

pub(super) fn octal_mode(value: &str) -> Result<()> {
    let good =
        value.bytes().all(|c| (b'0'..=b'7').contains(&c)) && u32::from_str_radix(value, 8).is_ok_and(|m| m <= 0o7777);
    require(good, || "Invalid value for an octal file mode".into())
}

pub(super) fn wwn(value: &str) -> Result<()> {
    let hex = value.strip_prefix("0x");
    let hex = hex.ok_or_else(|| wrong(format!("Invalid value for a WWN {value:?}: Missing expected 0x prefix")))?;
    let good = !hex.is_empty() && hex.len() <= 16 && hex.bytes().all(|c| c.is_ascii_hexdigit());
    require(good, || format!("Invalid value for a WWN {value:?}"))
}

/// Go's duration of at least a second: `90s`, `1m30s`.
pub(super) fn seconds(value: &str) -> Result<()> {
    let mut total = 0f64;
    let mut rest = value;
    while !rest.is_empty() {
        let at = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let number: f64 = rest[..at].parse().map_err(|_| wrong("Invalid duration"))?;
        let unit_end = rest[at..].find(|c: char| c.is_ascii_digit()).map_or(rest.len(), |n| at + n);
        total += number
            * match &rest[at..unit_end] {
                "ns" => 1e-9,
                "us" | "µs" => 1e-6,
                "ms" => 1e-3,
                "s" => 1.0,
                "m" => 60.0,
                "h" => 3600.0,
                _ => return Err(wrong("Invalid duration")),
            };
        rest = &rest[unit_end..];
    }
    require(total >= 1.0, || "Duration must be greater than 1s".into())
}

/// NUMA nodes, or `balanced`.
pub(super) fn cpu_nodes(value: &str) -> Result<()> {
    let good = value == "balanced" || idset::parse(value).is_ok();
    require(good, || format!("{value:?} isn't a valid value"))
}

pub(super) fn mig_uuid(value: &str) -> Result<()> {
    uuid(value.strip_prefix("MIG-").unwrap_or(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        assert!(
            network_v4("10.0.0.0/24").is_ok()
                && network_v4("10.0.0.1/24").is_err()
                && network_v4("10.0.0.0/33").is_err()
        );
        assert!(
            network_v6("fd00::/64").is_ok() && network_v6("fd00::1/64").is_err() && network_v6("10.0.0.0/8").is_err()
        );
        assert!(network_v4("0.0.0.0/0").is_ok() && network_v4("1.2.3.4/32").is_ok());
        assert!(nic_ipv4("none").is_ok() && nic_ipv4("10.0.0.2/24").is_ok() && nic_ipv4("10.0.0.0/24").is_err());
        assert!(nic_ipv6("fd00::2/64").is_ok() && nic_ipv6("10.0.0.2").is_err());
        assert!(gateway_v4("auto").is_ok() && gateway_v4("10.0.0.1").is_ok() && gateway_v4("x").is_err());
        assert!(vlan_list("1, 5-10").is_ok() && vlan_list("10-5").is_err() && vlan_list("4095").is_err());
    }

    #[test]
    fn hardware() {
        assert!(
            pci_address("0000:01:00.0").is_ok() && pci_address("01:00.0").is_ok() && pci_address("01.00:0").is_err()
        );
        assert!(pci_address("1:00.0").is_err() && pci_address("0000:01:00").is_err());
        assert!(device_id("1d6b").is_ok() && device_id("1D6B").is_err() && octal_mode("0660").is_ok());
        assert!(octal_mode("660x").is_err() && octal_mode("99").is_err() && octal_mode("+7").is_err());
        assert!(wwn("0x5000").is_ok() && wwn("5000").is_err() && wwn("0x").is_err());
        assert!(
            seconds("1m30s").is_ok() && seconds("500ms").is_err() && seconds("1").is_err() && seconds("-2s").is_err()
        );
        assert!(mig_uuid("MIG-74c6a31a-fde5-5c61-973b-70e12346c202").is_ok());
    }

    #[test]
    fn texts() {
        assert!(cloud_init("#cloud-config\npackages: [vim]\n").is_ok() && cloud_init("#cloud-config\n- a\n").is_err());
        assert!(cloud_init("#!/bin/sh\n: [").is_ok() && cloud_init("#cloud-config").is_ok());
        assert!(base64("aGk=").is_ok() && base64("aGk").is_ok() && base64("a").is_err() && base64("a b=").is_err());
        assert!(selinux_level("s0-s1:c1.c3,c7").is_ok() && selinux_level("s0:x").is_err());
        assert!(selinux_type("container_init_t").is_ok() && selinux_type("t").is_err());
        assert!(interface_name("eth0").is_ok() && interface_name("..").is_err() && interface_name("a/b").is_err());
    }
}
