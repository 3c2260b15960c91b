//! What is chosen by chance: subnets of new bridges, MAC addresses, names of interfaces on the host.
//!
//! Functions of a source of random bits and of a question whether a choice is taken; who asks knows routes, links and
//! records.

use crate::base::inet::IpNet;
use crate::base::mac;
use crate::error::{Error, Result};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A source of random bits.
pub type Bits<'a> = &'a mut dyn FnMut() -> u32;

/// How often a choice is made before it is given up.
const TRIES: u32 = 100;

fn choose<T>(bits: Bits<'_>, what: &str, mut make: impl FnMut(&mut dyn FnMut() -> u32) -> Option<T>) -> Result<T> {
    (0..TRIES).find_map(|_| make(bits)).ok_or_else(|| Error::failed(format!("Failed to automatically find {what}")))
}

/// An address `10.x.y.1/24` whose subnet is not `taken`.
///
/// # Errors
/// Failed: everything that was tried is taken.
pub fn subnet_v4(bits: Bits<'_>, taken: &dyn Fn(&IpNet) -> bool) -> Result<IpNet> {
    choose(bits, "an unused IPv4 subnet", |bits| {
        let [x, y, ..] = bits().to_be_bytes();
        let address = IpAddr::V4(Ipv4Addr::new(10, x, y, 1));
        IpNet::new(address, 24).filter(|net| !taken(net))
    })
}

/// An address `fd42:a:b:c::1/64` whose subnet is not `taken` (RFC 4193).
///
/// # Errors
/// Failed: everything that was tried is taken.
pub fn subnet_v6(bits: Bits<'_>, taken: &dyn Fn(&IpNet) -> bool) -> Result<IpNet> {
    choose(bits, "an unused IPv6 subnet", |bits| {
        let [a, b, c, d] = bits().to_be_bytes();
        let [e, f, ..] = bits().to_be_bytes();
        let word = |high, low| u16::from_be_bytes([high, low]);
        let address = Ipv6Addr::new(0xfd42, word(a, b), word(c, d), word(e, f), 0, 0, 0, 1);
        IpNet::new(IpAddr::V6(address), 64).filter(|net| !taken(net))
    })
}

/// A MAC address by a pattern in which each `x` is any digit ([`mac::DEFAULT_PATTERN`]); never multicast.
///
/// # Errors
/// Invalid: it is no pattern. Failed: everything that was tried is taken.
pub fn hwaddr(pattern: &str, bits: Bits<'_>, taken: &dyn Fn(&str) -> bool) -> Result<String> {
    let wrong = || {
        Error::invalid(
            "Invalid MAC address pattern, must be 6 bytes (hex characters or `x` to denote a wildcard) separated by colons",
        )
    };
    mac::parse(&pattern.replace(['x', 'X'], "0")).map_err(|_| wrong())?;
    choose(bits, "an unused MAC address", |bits| {
        let digit = |c: char| match c {
            'x' | 'X' => char::from_digit(bits() & 15, 16).unwrap_or('0'),
            c => c,
        };
        let text: String = pattern.chars().map(digit).collect();
        let mut address = mac::parse(&text).ok()?;
        address[0] &= !1;
        Some(mac::format(address)).filter(|a| !taken(a))
    })
}

/// A name for an interface on the host: `prefix` (`veth`, `tap`, `mac`) and eight hexadecimal digits.
///
/// # Errors
/// Failed: everything that was tried is taken.
pub fn host_name(prefix: &str, bits: Bits<'_>, taken: &dyn Fn(&str) -> bool) -> Result<String> {
    choose(bits, "an unused interface name", |bits| Some(format!("{prefix}{:08x}", bits())).filter(|name| !taken(name)))
}

/// The name of a NIC's end on the host where `instances.nic.host_name` is `mac`: `inc` and the MAC address's digits but the
/// first two, as in Incus.
pub fn host_name_by_mac(hwaddr: [u8; 6]) -> String {
    let digits: String = mac::format(hwaddr).split(':').collect();
    format!("inc{}", &digits[2..])
}
