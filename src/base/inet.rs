//! Addresses with the length of their prefix (CIDR notation, RFC 4632 and RFC 4291 section 2.3), IPv4 and IPv6 alike.

use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// An address and the length of its prefix: an address on an interface (`10.1.2.1/24`) or, where all bits behind the prefix
/// are 0, a subnet (`10.1.2.0/24`).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct IpNet {
    address: IpAddr,
    prefix: u8,
}

impl IpNet {
    /// `address` with a prefix of `prefix` bits; `None` if the family has fewer.
    pub fn new(address: IpAddr, prefix: u8) -> Option<Self> {
        (prefix <= bits(address)).then_some(Self { address, prefix })
    }

    /// One address alone: `/32` or `/128`.
    pub fn host(address: IpAddr) -> Self {
        Self { address, prefix: bits(address) }
    }

    /// All IPv4 addresses.
    pub const fn all_v4() -> Self {
        Self { address: IpAddr::V4(Ipv4Addr::UNSPECIFIED), prefix: 0 }
    }

    /// All IPv6 addresses.
    pub const fn all_v6() -> Self {
        Self { address: IpAddr::V6(Ipv6Addr::UNSPECIFIED), prefix: 0 }
    }

    /// The address as written, bits behind the prefix included.
    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// Length of the prefix in bits.
    pub fn prefix(&self) -> u8 {
        self.prefix
    }

    /// IPv4, not IPv6.
    pub fn is_ipv4(&self) -> bool {
        self.address.is_ipv4()
    }

    /// A single address.
    pub fn is_host(&self) -> bool {
        self.prefix == bits(self.address)
    }

    /// All bits behind the prefix are 0.
    pub fn is_network(&self) -> bool {
        number(self.address) & self.host_mask() == 0
    }

    /// The subnet around it: bits behind the prefix are set to 0.
    #[must_use]
    pub fn network(&self) -> Self {
        Self { address: self.at(number(self.address) & !self.host_mask()), prefix: self.prefix }
    }

    /// The last address of the subnet; with IPv4 that of the broadcast.
    pub fn last(&self) -> IpAddr {
        self.at(number(self.address) | self.host_mask())
    }

    /// The mask: `255.255.255.0` for an IPv4 `/24`.
    pub fn netmask(&self) -> IpAddr {
        self.at(!self.host_mask())
    }

    /// The address `n` behind the first one of the subnet; `None` behind its last one.
    pub fn nth(&self, n: u128) -> Option<IpAddr> {
        (n <= self.host_mask()).then(|| self.at((number(self.address) & !self.host_mask()) | n))
    }

    /// The first address an interface can have: behind that of the network, or of all routers with IPv6, where the prefix
    /// leaves room for one.
    pub fn first_host(&self) -> IpAddr {
        let spare = self.host_bits() > 1;
        self.nth(u128::from(spare)).unwrap_or(self.address)
    }

    /// The last address an interface can have: with IPv4 before that of the broadcast, where there is one.
    pub fn last_host(&self) -> IpAddr {
        let spare = self.is_ipv4() && self.host_bits() > 1;
        self.nth(self.host_mask() - u128::from(spare)).unwrap_or(self.address)
    }

    /// Is `address` in the subnet? One of the other family never is.
    pub fn contains(&self, address: IpAddr) -> bool {
        let same = self.address.is_ipv4() == address.is_ipv4();
        same && (number(self.address) ^ number(address)) & !self.host_mask() == 0
    }

    /// Is the whole subnet of `other` in this one?
    pub fn covers(&self, other: &Self) -> bool {
        self.prefix <= other.prefix && self.contains(other.address)
    }

    /// Have the two subnets an address in common? Then one lies within the other.
    pub fn overlaps(&self, other: &Self) -> bool {
        self.covers(other) || other.covers(self)
    }

    fn host_bits(&self) -> u8 {
        bits(self.address) - self.prefix
    }

    /// Ones for the bits behind the prefix.
    fn host_mask(&self) -> u128 {
        match self.host_bits() {
            128 => u128::MAX,
            n => (1 << n) - 1,
        }
    }

    /// The address of our family with the number `n`.
    fn at(&self, n: u128) -> IpAddr {
        match self.address {
            #[expect(clippy::cast_possible_truncation, reason = "the upper bits are those of a mask")]
            IpAddr::V4(_) => Ipv4Addr::from(n as u32).into(),
            IpAddr::V6(_) => Ipv6Addr::from(n).into(),
        }
    }
}

/// Bits of an address: 32 or 128.
fn bits(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

/// An address as a number.
pub fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(a) => u32::from(a).into(),
        IpAddr::V6(a) => a.into(),
    }
}

/// The address behind `address`; `None` for the last one there is.
pub fn next(address: IpAddr) -> Option<IpAddr> {
    Some(match address {
        IpAddr::V4(a) => Ipv4Addr::from(u32::from(a).checked_add(1)?).into(),
        IpAddr::V6(a) => Ipv6Addr::from(u128::from(a).checked_add(1)?).into(),
    })
}

impl fmt::Display for IpNet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

impl From<IpNet> for String {
    fn from(net: IpNet) -> Self {
        net.to_string()
    }
}

impl TryFrom<String> for IpNet {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl fmt::Debug for IpNet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Reads `ADDRESS/BITS`; bits behind the prefix may be set. A bare address is refused: use [`IpNet::host`] where one is meant.
impl FromStr for IpNet {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let read = || {
            let (address, prefix) = text.split_once('/')?;
            let digits = !prefix.is_empty() && prefix.bytes().all(|c| c.is_ascii_digit());
            Self::new(address.parse().ok()?, digits.then(|| prefix.parse().ok())??)
        };
        read().ok_or_else(|| Error::invalid(format!("Invalid CIDR address: {text}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn net(text: &str) -> IpNet {
        text.parse().expect("a network")
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn reads_and_prints() {
        for text in ["10.1.2.3/24", "0.0.0.0/0", "255.255.255.255/32", "fd42::1/64", "::/0", "fe80::1/128"] {
            assert_eq!(net(text).to_string(), text);
        }
        for bad in ["", "10.1.2.3", "10.1.2.3/", "10.1.2.3/33", "10.1.2/24", "10.1.2.3/+8", "::1/129", "::1/-1", "x/8"]
        {
            let e = bad.parse::<IpNet>().expect_err(bad);
            assert_eq!(e.to_string(), format!("Invalid CIDR address: {bad}"));
        }
    }

    #[test]
    fn borders_of_subnets() {
        let show = |text: &str| {
            let n = net(text);
            format!("{} {} {} {}", n.network(), n.first_host(), n.last_host(), n.last())
        };
        assert_eq!(show("10.1.2.3/24"), "10.1.2.0/24 10.1.2.1 10.1.2.254 10.1.2.255");
        assert_eq!(show("10.1.2.3/31"), "10.1.2.2/31 10.1.2.2 10.1.2.3 10.1.2.3");
        assert_eq!(show("10.1.2.3/32"), "10.1.2.3/32 10.1.2.3 10.1.2.3 10.1.2.3");
        assert_eq!(show("1.2.3.4/0"), "0.0.0.0/0 0.0.0.1 255.255.255.254 255.255.255.255");
        assert_eq!(show("fd42::5/126"), "fd42::4/126 fd42::5 fd42::7 fd42::7");
        assert_eq!(net("10.1.2.3/20").netmask(), ip("255.255.240.0"));
        assert_eq!((net("10.1.2.0/24").nth(7), net("10.1.2.0/24").nth(256)), (Some(ip("10.1.2.7")), None));
        assert!(net("10.1.2.0/24").is_network() && !net("10.1.2.1/24").is_network() && net("::/0").is_network());
        assert_eq!((next(ip("10.0.0.255")), next(ip("255.255.255.255"))), (Some(ip("10.0.1.0")), None));
    }

    #[test]
    fn what_lies_where() {
        assert!(net("10.1.2.9/24").contains(ip("10.1.2.255")) && !net("10.1.2.9/24").contains(ip("10.1.3.0")));
        assert!(IpNet::all_v6().contains(ip("::1")) && !IpNet::all_v6().contains(ip("10.0.0.1")));
        assert!(!net("::/0").contains(ip("0.0.0.0")) && !net("0.0.0.0/0").overlaps(&net("::/0")));
        assert!(net("10.0.0.0/8").covers(&net("10.3.0.0/16")) && !net("10.3.0.0/16").covers(&net("10.0.0.0/8")));
        assert!(net("10.3.0.0/16").overlaps(&net("10.0.0.0/8")) && !net("10.3.0.0/16").overlaps(&net("10.4.0.0/16")));
    }

    proptest! {
        #[test]
        fn subnets_hold_their_borders(n: u128, v4: bool, prefix in 0u8..=128) {
            #[expect(clippy::cast_possible_truncation, reason = "any number will do")]
            let address = if v4 { IpAddr::from(Ipv4Addr::from(n as u32)) } else { Ipv6Addr::from(n).into() };
            let net = IpNet::new(address, prefix.min(bits(address))).expect("short enough");
            prop_assert_eq!(net.to_string().parse::<IpNet>().expect("as printed"), net);
            for a in [net.network().address(), net.first_host(), net.last_host(), net.last(), address] {
                prop_assert!(net.contains(a));
            }
            prop_assert!(net.network().is_network() && net.network().covers(&net) && net.covers(&net.network()));
            if let Some(behind) = next(net.last()) {
                prop_assert!(!net.contains(behind));
            }
        }
    }
}
