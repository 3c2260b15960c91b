//! Checks of single values of network options. Messages are Incus's.

use super::super::checks::{
    base64, digits, interface_name, ip, ipv4, ipv6, network_v4, network_v6, nic_ipv4, nic_ipv6,
};
use crate::base::names;
use crate::error::{Context, Error, Result};

fn fail<T>(message: impl Into<String>) -> Result<T> {
    Err(Error::invalid(message))
}

/// `none`, `auto` or an address with its prefix.
pub(super) fn bridge_v4(value: &str) -> Result<()> {
    if matches!(value, "none" | "auto") { Ok(()) } else { cidr_v4(value) }
}

/// `none`, `auto`, an address with its prefix, or a subnet in which the address is derived from the MAC address.
pub(super) fn bridge_v6(value: &str) -> Result<()> {
    if matches!(value, "none" | "auto") || network_v6(value).is_ok() { Ok(()) } else { cidr_v6(value) }
}

/// An IPv4 address with its prefix.
pub(super) fn cidr_v4(value: &str) -> Result<()> {
    if value.contains('/') { nic_ipv4(value) } else { fail(format!("invalid CIDR address: {value}")) }
}

/// An IPv6 address with its prefix.
pub(super) fn cidr_v6(value: &str) -> Result<()> {
    if value.contains('/') { nic_ipv6(value) } else { fail(format!("invalid CIDR address: {value}")) }
}

/// `none` or an IPv4 address.
pub(super) fn v4_or_none(value: &str) -> Result<()> {
    if value == "none" { Ok(()) } else { ipv4(value) }
}

fn ends(value: &str) -> Result<(&str, &str)> {
    value.split_once('-').ok_or_else(|| Error::invalid("IP range must contain start and end IP addresses"))
}

/// `first-last`; whether it lies in the subnet is checked where that is known.
pub(super) fn range_v4(value: &str) -> Result<()> {
    let (first, last) = ends(value)?;
    ipv4(first).and_then(|()| ipv4(last))
}

/// As [`range_v4`].
pub(super) fn range_v6(value: &str) -> Result<()> {
    let (first, last) = ends(value)?;
    ipv6(first).and_then(|()| ipv6(last))
}

/// Subnets and gateways in turn, separated by commas (DHCP option 121).
pub(super) fn dhcp_routes(value: &str) -> Result<()> {
    let parts: Vec<&str> = value.split(',').map(str::trim).collect();
    for (i, part) in parts.iter().enumerate() {
        if i % 2 == 0 { network_v4(part)? } else { ipv4(part)? }
    }
    match parts[..] {
        [.., last] if parts.len() % 2 == 1 => fail(format!("missing gateway for route {last}")),
        _ => Ok(()),
    }
}

/// A lease time as dnsmasq reads it: `infinite`, or a number with `s`, `m`, `h`, `d` or `w`, at least two minutes. Incus takes
/// any text and lets dnsmasq fail.
pub(super) fn expiry(value: &str) -> Result<()> {
    if value == "infinite" {
        return Ok(());
    }
    let unit = |c: char| match c {
        's' => Some(1),
        'm' => Some(60),
        'h' => Some(3600),
        'd' => Some(86_400),
        'w' => Some(604_800),
        _ => None,
    };
    let (number, factor) = match value.chars().next_back().and_then(unit) {
        Some(factor) => (&value[..value.len() - 1], factor),
        None => (value, 1),
    };
    let seconds = digits(number).then(|| number.parse::<u32>().ok()?.checked_mul(factor)).flatten();
    match seconds {
        Some(120..) => Ok(()),
        _ => fail(format!("Invalid lease time {value:?} (\"infinite\" or at least two minutes: \"90m\", \"1h\")")),
    }
}

/// A domain. Incus takes any text (GHSA-7fj9-65v4-rp7h).
pub(super) fn domain(value: &str) -> Result<()> {
    names::domain(value)
}

/// `name`, or `name/parent/vlan` for a VLAN interface that is made for it.
pub(super) fn external_interface(value: &str) -> Result<()> {
    let parts: Vec<&str> = value.split('/').map(str::trim).collect();
    let named = |name: &str| interface_name(name).with_context(|| format!("Invalid interface name {name:?}"));
    match parts[..] {
        [name] => named(name),
        [name, parent, vlan] => {
            named(name)?;
            named(parent)?;
            let id = digits(vlan).then(|| vlan.parse::<u16>().ok()).flatten();
            match id {
                Some(1..=4094) => Ok(()),
                _ => fail(format!("Invalid VLAN ID {vlan:?}")),
            }
        }
        _ => named(value),
    }
}

/// 1–65535.
pub(super) fn port(value: &str) -> Result<()> {
    match value.parse::<u16>() {
        Ok(1..) if digits(value) => Ok(()),
        _ if digits(value) => fail(format!("Invalid port number: {value}")),
        _ => fail(format!("Invalid value for an integer: {value}")),
    }
}

/// `port` or `first-last`.
pub(crate) fn port_range(value: &str) -> Result<(u16, u16)> {
    let number = |text: &str, what: &str| {
        let read = digits(text).then(|| text.parse::<u16>().ok()).flatten();
        read.ok_or_else(|| Error::invalid(format!("Invalid {what} number {value:?}")))
    };
    match value.split_once('-') {
        None => number(value, "port").map(|n| (n, n)),
        Some((first, last)) => {
            let (first, last) = (number(first, "port")?, number(last, "end port")?);
            match first < last {
                true => Ok((first, last)),
                false => fail(format!("Start port {first} must be lower than end port {last}")),
            }
        }
    }
}

/// The name of an ACL.
pub(super) fn acl(value: &str) -> Result<()> {
    names::AclName::parse(value).map(drop)
}

/// The name of a zone.
pub(super) fn zone(value: &str) -> Result<()> {
    names::ZoneName::parse(value).map(drop)
}

/// A name server's name, with or without the final dot.
pub(super) fn nameserver(value: &str) -> Result<()> {
    names::domain(value.strip_suffix('.').unwrap_or(value))
}

/// An address.
pub(super) fn address(value: &str) -> Result<()> {
    ip(value)
}

/// A secret as tsig-keygen(8) writes it. Incus takes any text, and lets nobody in who has one that is none.
pub(super) fn tsig_key(value: &str) -> Result<()> {
    if value.len().is_multiple_of(4) { base64(value) } else { fail("Invalid value for a base64 string") }
}

/// Lines of dnsmasq's own configuration. What would let it run programs or read files as another user is refused: the
/// option is for what dnsmasq serves.
pub(super) fn raw_dnsmasq(value: &str) -> Result<()> {
    const REFUSED: [&str; 9] = [
        "conf-dir",
        "conf-file",
        "conf-script",
        "dhcp-luascript",
        "dhcp-script",
        "dhcp-scriptuser",
        "group",
        "servers-file",
        "user",
    ];
    for line in value.lines().map(str::trim) {
        let word = line.split(['=', ' ', '\t', '#']).next().unwrap_or_default();
        if REFUSED.contains(&word) {
            return fail(format!("The option {word:?} is not allowed in raw.dnsmasq"));
        }
    }
    Ok(())
}
