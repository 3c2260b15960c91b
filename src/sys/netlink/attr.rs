//! Reading attributes (netlink(7)): a walk over bytes that stops at the first one that does not fit.
//!
//! Replies are read this way and not with the types the requests are built of: a foreign interface with an attribute that
//! they do not know must not spoil a list, and most attributes of a reply are never looked at.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Length and kind in front of each attribute.
const HEADER: usize = 4;

/// Kind without the bits that say "nested" and "network byte order".
const KIND: u16 = 0x3fff;

/// Walks over attributes: kind and value of each.
#[derive(Debug, Clone)]
pub struct Attrs<'a>(&'a [u8]);

impl<'a> Attrs<'a> {
    /// The attributes in `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// The attributes behind a header of `header` bytes.
    pub fn behind(payload: &'a [u8], header: usize) -> Self {
        Self(payload.get(header..).unwrap_or_default())
    }

    /// The value of the first one of `kind`.
    pub fn find(mut self, kind: u16) -> Option<&'a [u8]> {
        self.find_map(|(k, value)| (k == kind).then_some(value))
    }
}

impl<'a> Iterator for Attrs<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let length = usize::from(u16_of(self.0.get(..2)?)?);
        let kind = u16_of(self.0.get(2..HEADER)?)? & KIND;
        let value = self.0.get(HEADER..length)?;
        self.0 = self.0.get(align(length)..).unwrap_or_default();
        Some((kind, value))
    }
}

/// The next multiple of four.
pub fn align(length: usize) -> usize {
    length.next_multiple_of(4)
}

macro_rules! numbers {
    ($($(#[$doc:meta])* $name:ident $type:ty;)*) => {$(
        $(#[$doc])*
        pub fn $name(bytes: &[u8]) -> Option<$type> {
            Some(<$type>::from_ne_bytes(*bytes.first_chunk()?))
        }
    )*};
}

numbers! {
    /// A number of 8 bits.
    u8_of u8;
    /// A number of 16 bits.
    u16_of u16;
    /// A number of 32 bits.
    u32_of u32;
    /// A number of 64 bits.
    u64_of u64;
    /// A signed number of 32 bits.
    i32_of i32;
}

/// A text that ends with a NUL. Names in other namespaces are chosen by others: characters that steer a terminal are
/// replaced.
pub fn text_of(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
    let text = String::from_utf8_lossy(&bytes[..end]);
    text.chars().map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

/// An address: 4 or 16 bytes.
pub fn ip_of(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => Some(Ipv4Addr::from(<[u8; 4]>::try_from(bytes).ok()?).into()),
        16 => Some(Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?).into()),
        _ => None,
    }
}

/// A MAC address.
pub fn mac_of(bytes: &[u8]) -> Option<[u8; 6]> {
    bytes.try_into().ok()
}
