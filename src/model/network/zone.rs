//! DNS zones and their records.

use crate::base::names::{self, ZoneName};
use crate::error::{Context, Error, Result};
use crate::model::instance::Config;
use crate::model::keys::network::zone as keys;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Seconds a record may be kept if it says nothing.
pub const DEFAULT_TTL: u64 = 300;

/// A zone's record; its project and name are its place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Zone {
    /// Format of the record.
    pub format: u32,
    /// Free text.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// Configuration.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub config: Config,
}

/// The record of a name the user put into a zone; zone and name are its place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ZoneRecord {
    /// Format of the record.
    pub format: u32,
    /// Free text.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// `user.` options.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub config: Config,
    /// What is known under the name.
    #[serde(default)]
    pub entries: Vec<ZoneEntry>,
}

/// One thing known under a name, as Incus's objects have it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ZoneEntry {
    /// `A`, `AAAA`, `CNAME`, `MX`, `NS`, `PTR`, `SRV`, `TXT`, `CAA`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Seconds it may be kept; 0 is [`DEFAULT_TTL`].
    #[serde(default, skip_serializing_if = "is_zero")]
    pub ttl: u64,
    /// What it says, as in a zone file.
    pub value: String,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_zero(n: &u64) -> bool {
    *n == 0
}

/// What an entry says, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Data {
    /// `A`.
    A(Ipv4Addr),
    /// `AAAA`.
    Aaaa(Ipv6Addr),
    /// `CNAME`, without the final dot.
    Cname(String),
    /// `NS`.
    Ns(String),
    /// `PTR`.
    Ptr(String),
    /// `MX`: preference and host.
    Mx(u16, String),
    /// `SRV`: priority, weight, port, host.
    Srv(u16, u16, u16, String),
    /// `TXT`: its texts, each of at most 255 bytes.
    Txt(Vec<String>),
    /// `CAA`: flags, tag, value (RFC 8659).
    Caa(u8, String, String),
}

impl Data {
    /// The type's name.
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::A(_) => "A",
            Self::Aaaa(_) => "AAAA",
            Self::Cname(_) => "CNAME",
            Self::Ns(_) => "NS",
            Self::Ptr(_) => "PTR",
            Self::Mx(..) => "MX",
            Self::Srv(..) => "SRV",
            Self::Txt(_) => "TXT",
            Self::Caa(..) => "CAA",
        }
    }
}

impl ZoneEntry {
    /// Reads an entry.
    ///
    /// # Errors
    /// Invalid; Unsupported for other types of records.
    pub fn parse(&self) -> Result<Data> {
        let bad = || Error::invalid(format!("Invalid value {:?} for a record of type {:?}", self.value, self.kind));
        if self.value.len() > 4096 || self.value.chars().any(char::is_control) || u32::try_from(self.ttl).is_err() {
            return Err(bad());
        }
        let words: Vec<&str> = self.value.split_whitespace().collect();
        let host = |word: &str| {
            let name = word.strip_suffix('.').unwrap_or(word);
            names::domain(name).map(|()| name.to_string())
        };
        let number = |word: &str| word.parse::<u16>().map_err(|_| bad());
        match (self.kind.to_ascii_uppercase().as_str(), &words[..]) {
            ("A", [a]) => a.parse().map(Data::A).map_err(|_| bad()),
            ("AAAA", [a]) => a.parse().map(Data::Aaaa).map_err(|_| bad()),
            ("CNAME", [name]) => host(name).map(Data::Cname),
            ("NS", [name]) => host(name).map(Data::Ns),
            ("PTR", [name]) => host(name).map(Data::Ptr),
            ("MX", [preference, name]) => Ok(Data::Mx(number(preference)?, host(name)?)),
            ("SRV", [priority, weight, port, name]) => {
                Ok(Data::Srv(number(priority)?, number(weight)?, number(port)?, host(name)?))
            }
            ("CAA", [flags, tag, value @ ..]) if !value.is_empty() => {
                let tag_ok = !tag.is_empty() && tag.bytes().all(|c| c.is_ascii_alphanumeric());
                let value = value.join(" ").trim_matches('"').to_string();
                let good = tag_ok && !value.contains('"');
                let flags = flags.parse().map_err(|_| bad())?;
                if good { Ok(Data::Caa(flags, (*tag).to_string(), value)) } else { Err(bad()) }
            }
            ("TXT", [_, ..]) => texts(&self.value).map(Data::Txt).ok_or_else(bad),
            ("A" | "AAAA" | "CNAME" | "NS" | "PTR" | "MX" | "SRV" | "CAA" | "TXT", _) => Err(bad()),
            _ => Err(Error::unsupported(format!("Records of type {:?} are not supported by this version", self.kind))),
        }
    }

    /// Seconds it may be kept.
    pub fn ttl(&self) -> u64 {
        if self.ttl == 0 { DEFAULT_TTL } else { self.ttl }
    }
}

/// The texts of a TXT record: words, or texts in double quotes in which a backslash takes the next character as it is
/// (RFC 1035, section 5.1).
fn texts(value: &str) -> Option<Vec<String>> {
    let mut all = Vec::new();
    let mut rest = value.trim();
    while !rest.is_empty() {
        let quoted = rest.starts_with('"');
        let mut text = String::new();
        let mut chars = rest.char_indices().skip(usize::from(quoted));
        let mut end = (!quoted).then_some(rest.len());
        while let Some((i, c)) = chars.next() {
            match c {
                '\\' => text.push(chars.next()?.1),
                '"' if quoted => {
                    end = Some(i + 1);
                    break;
                }
                '"' => return None,
                c if c.is_whitespace() && !quoted => {
                    end = Some(i);
                    break;
                }
                c => text.push(c),
            }
        }
        if text.len() > 255 {
            return None;
        }
        all.push(text);
        rest = rest[end?..].trim_start();
    }
    Some(all)
}

impl Zone {
    /// Checks the whole.
    ///
    /// # Errors
    /// Invalid.
    pub fn validate(&self) -> Result<()> {
        keys::check(keys::ZONE, &self.config)
    }
}

impl ZoneRecord {
    /// Checks the whole.
    ///
    /// # Errors
    /// Invalid, in the words of Incus.
    pub fn validate(&self) -> Result<()> {
        keys::check(keys::USER_ONLY, &self.config)?;
        for (i, entry) in self.entries.iter().enumerate() {
            entry.parse().context("Bad zone record entry")?;
            if self.entries[..i].iter().any(|e| e.kind == entry.kind && e.value == entry.value) {
                let message = format!("Duplicate record for type {:?} and value {:?}", entry.kind, entry.value);
                return Err(Error::invalid(message));
            }
        }
        Ok(())
    }
}

/// What a zone is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ZoneKind {
    /// Names to addresses.
    Forward,
    /// IPv4 addresses to names.
    ReverseV4,
    /// IPv6 addresses to names.
    ReverseV6,
}

/// What a zone of this name is for.
pub fn kind(zone: &ZoneName) -> ZoneKind {
    if zone.ends_with(".in-addr.arpa") {
        ZoneKind::ReverseV4
    } else if zone.ends_with(".ip6.arpa") {
        ZoneKind::ReverseV6
    } else {
        ZoneKind::Forward
    }
}

/// The name under which the name of an address is found (RFC 1035 section 3.5, RFC 3596 section 2.5), without final dot.
pub fn reverse_name(address: IpAddr) -> String {
    match address {
        IpAddr::V4(a) => {
            let [a, b, c, d] = a.octets();
            format!("{d}.{c}.{b}.{a}.in-addr.arpa")
        }
        IpAddr::V6(a) => {
            let digits: Vec<String> =
                a.octets().iter().rev().flat_map(|b| [b & 15, b >> 4]).map(|d| format!("{d:x}")).collect();
            format!("{}.ip6.arpa", digits.join("."))
        }
    }
}

/// One line of a zone, whole name and data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ZoneLine {
    /// The whole name, without final dot.
    pub name: String,
    /// Seconds it may be kept.
    pub ttl: u64,
    /// What is known under it.
    pub data: Data,
}

/// The lines for an instance's address in a zone: its name there, or in a reverse zone the name of the address. `domain` is
/// the forward zone a reverse zone's names lie in. None if the address is not of the zone's family or not within it.
pub fn address_line(zone: &ZoneName, hostname: &str, address: IpAddr, domain: &str) -> Option<ZoneLine> {
    let line = |name: String, data: Data| Some(ZoneLine { name, ttl: DEFAULT_TTL, data });
    match (kind(zone), address) {
        (ZoneKind::Forward, IpAddr::V4(a)) => line(format!("{hostname}.{zone}"), Data::A(a)),
        (ZoneKind::Forward, IpAddr::V6(a)) => line(format!("{hostname}.{zone}"), Data::Aaaa(a)),
        (ZoneKind::ReverseV4, IpAddr::V4(_)) | (ZoneKind::ReverseV6, IpAddr::V6(_)) => {
            let name = reverse_name(address);
            let inside = name.strip_suffix(zone.as_str()).is_some_and(|rest| rest.ends_with('.'));
            if inside { line(name, Data::Ptr(format!("{hostname}.{domain}"))) } else { None }
        }
        _ => None,
    }
}

/// The lines of a record the user put into a zone.
///
/// # Errors
/// Invalid.
pub fn record_lines(zone: &ZoneName, name: &str, record: &ZoneRecord) -> Result<Vec<ZoneLine>> {
    let name = if name == "@" { zone.to_string() } else { format!("{name}.{zone}") };
    record.entries.iter().map(|e| Ok(ZoneLine { name: name.clone(), ttl: e.ttl(), data: e.parse()? })).collect()
}
