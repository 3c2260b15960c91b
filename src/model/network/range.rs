//! Ranges of addresses: `10.0.0.2-10.0.0.9`.

use crate::base::inet::{self, IpNet};
use crate::error::{Error, Result};
use std::fmt;
use std::net::IpAddr;

/// Addresses of one family from the first to the last, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IpRange {
    first: IpAddr,
    last: IpAddr,
}

impl IpRange {
    /// From `first` to `last`; `None` if they are of two families or in the wrong order.
    pub fn new(first: IpAddr, last: IpAddr) -> Option<Self> {
        (first.is_ipv4() == last.is_ipv4() && first <= last).then_some(Self { first, last })
    }

    /// Reads `first-last`. The messages are Incus's.
    ///
    /// # Errors
    /// Invalid.
    pub fn parse(text: &str) -> Result<Self> {
        let (first, last) = text
            .split_once('-')
            .ok_or_else(|| Error::invalid(format!("IP range {text:?} must contain start and end IP addresses")))?;
        let read = |what: &str, text: &str| {
            text.trim().parse::<IpAddr>().map_err(|_| Error::invalid(format!("{what} IP {text:?} is invalid")))
        };
        let (first, last) = (read("Start", first)?, read("End", last)?);
        if first.is_ipv4() != last.is_ipv4() {
            return Err(Error::invalid("Start and end IP addresses are not in same family"));
        }
        let order = || format!("Start IP \"{first}\" must be less than End IP \"{last}\"");
        Self::new(first, last).ok_or_else(|| Error::invalid(order()))
    }

    /// Reads a list of ranges, all of which must lie within `net`.
    ///
    /// # Errors
    /// Invalid.
    pub fn parse_list(text: &str, net: &IpNet) -> Result<Vec<Self>> {
        let items = text.split(',').map(str::trim).filter(|t| !t.is_empty());
        items
            .map(|item| {
                let range = Self::parse(item)?;
                let inside = net.contains(range.first) && net.contains(range.last);
                let wrong = || {
                    let net = net.network();
                    format!("IP range {item:?} does not fall within any of the allowed networks [{net}]")
                };
                if inside { Ok(range) } else { Err(Error::invalid(wrong())) }
            })
            .collect()
    }

    /// The first address.
    pub fn first(&self) -> IpAddr {
        self.first
    }

    /// The last address.
    pub fn last(&self) -> IpAddr {
        self.last
    }

    /// Is `address` in it?
    pub fn contains(&self, address: IpAddr) -> bool {
        self.first.is_ipv4() == address.is_ipv4() && (self.first..=self.last).contains(&address)
    }

    /// Have the two an address in common?
    pub fn overlaps(&self, other: &Self) -> bool {
        self.contains(other.first) || other.contains(self.first)
    }

    /// How many addresses there are, less one.
    pub fn span(&self) -> u128 {
        inet::number(self.last) - inet::number(self.first)
    }
}

impl fmt::Display for IpRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.first, self.last)
    }
}
