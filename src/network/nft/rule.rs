//! One rule: what it matches and what it does. Everything in it is typed; text is made at the end, so nothing from outside
//! can become syntax.

use crate::base::inet::IpNet;
use crate::model::network::range::IpRange;
use std::fmt;
use std::net::IpAddr;

/// A name nft takes for tables, chains and sets: letters, digits and `/ - _ .`; first a letter, `_` or `.`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Name(String);

impl Name {
    /// Makes a name of `text`; other characters become `/` and two hexadecimal digits a byte.
    pub fn encode(text: &str) -> Self {
        let plain = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_' | b'.' | b'/');
        Self(encode(text, plain))
    }

    /// `text` with dots and slashes encoded as well, for a part between dots.
    pub fn encode_part(text: &str) -> String {
        encode(text, |c| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_'))
    }

    /// `prefix.name`.
    #[must_use]
    pub fn under(&self, prefix: &str) -> Self {
        Self::encode(&format!("{prefix}.{}", self.0))
    }
}

fn encode(text: &str, plain: impl Fn(u8) -> bool) -> String {
    let one = |c: u8| if plain(c) { char::from(c).to_string() } else { format!("/{c:02x}") };
    text.bytes().map(one).collect()
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Text in double quotes; what could end it or is not printable becomes `_`. nft knows no escapes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quoted(String);

impl Quoted {
    /// The name of an interface, or a word for the log.
    pub fn new(text: &str) -> Self {
        Self(
            text.chars()
                .map(|c| if c == '"' || c == '\\' || c.is_control() || !c.is_ascii() { '_' } else { c })
                .collect(),
        )
    }
}

impl fmt::Display for Quoted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.0)
    }
}

/// A family of addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ip {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Ip {
    /// Of an address.
    pub fn of(address: IpAddr) -> Self {
        if address.is_ipv4() { Self::V4 } else { Self::V6 }
    }

    /// `ip` or `ip6`.
    pub fn word(self) -> &'static str {
        match self {
            Self::V4 => "ip",
            Self::V6 => "ip6",
        }
    }
}

/// Source or destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Source.
    Source,
    /// Destination.
    Destination,
}

impl Side {
    fn letter(self) -> char {
        match self {
            Self::Source => 's',
            Self::Destination => 'd',
        }
    }
}

/// Addresses in a match.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Addresses {
    /// Subnets and ranges of one family.
    List(Vec<AddressItem>),
    /// A set of the table.
    Set(Name),
}

/// A subnet or a range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AddressItem {
    /// A subnet or a single address.
    Net(IpNet),
    /// A range.
    Range(IpRange),
}

impl fmt::Display for AddressItem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Net(net) if net.is_host() => write!(f, "{}", net.address()),
            Self::Net(net) => write!(f, "{}", net.network()),
            Self::Range(range) => write!(f, "{range}"),
        }
    }
}

/// What a rule matches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Match {
    /// Comes in by this interface.
    Iif(Quoted),
    /// Goes out by this interface.
    Oif(Quoted),
    /// Does not come in by this interface.
    NotIif(Quoted),
    /// Does not go out by this interface.
    NotOif(Quoted),
    /// Goes out by an interface of this set.
    OifSet(Name),
    /// Is of this family of addresses (inet).
    Family(Ip),
    /// The frame carries these protocols, VLAN tags aside (bridge): `arp`, `ip`, `ip6`.
    Protocol(&'static [&'static str]),
    /// The frame carries none of these, or is tagged with a VLAN (bridge).
    NotEtherType(&'static [&'static str]),
    /// The frame's sender is not this MAC address.
    NotEtherSource([u8; 6]),
    /// It goes to this MAC address.
    EtherDestination([u8; 6]),
    /// The ARP sender is not this MAC address.
    NotArpEther([u8; 6]),
    /// The ARP sender is none of these addresses.
    NotArpIp(Vec<AddressItem>),
    /// An address.
    Address(Ip, Side, Addresses),
    /// None of these addresses.
    NotAddress(Ip, Side, Vec<AddressItem>),
    /// TCP or UDP.
    Transport(&'static str),
    /// Ports of TCP or UDP, first and last; behind [`Match::Transport`].
    Ports(Side, Vec<(u16, u16)>),
    /// ICMP of a family; types, empty is any.
    Icmp(Ip, Vec<u8>),
    /// ICMP code, behind [`Match::Icmp`].
    IcmpCode(Ip, u8),
    /// The next header behind the fixed IPv6 header is not ICMPv6.
    NotPlainIcmp6,
    /// Length of what is behind the fixed IPv6 header is none of these, bytes.
    NotIp6Length(&'static [u16]),
    /// Length of what is behind the fixed IPv6 header, bytes.
    Ip6Length(u16),
    /// Bits of the packet from the network header on: offset, number and value in hexadecimal.
    Raw(u16, u16, String),
    /// Bits of the packet that are not so.
    NotRaw(u16, u16, String),
    /// Part of a connection that was let in, or an answer about one.
    Established,
    /// Its destination was changed by NAT.
    Dnatted,
    /// It goes to an address of the host.
    ToHost,
    /// Its sender is not reached by the interface it came in by (fib, nft(8)).
    WrongPath,
}

fn list<T: fmt::Display>(items: &[T]) -> String {
    match items {
        [one] => one.to_string(),
        _ => format!("{{ {} }}", items.iter().map(T::to_string).collect::<Vec<_>>().join(", ")),
    }
}

fn mac(address: [u8; 6]) -> String {
    crate::base::mac::format(address)
}

/// Ports as nft writes them.
pub(super) fn ports(ranges: &[(u16, u16)]) -> String {
    let texts: Vec<String> =
        ranges.iter().map(|(a, b)| if a == b { a.to_string() } else { format!("{a}-{b}") }).collect();
    list(&texts)
}

/// Protocols other than TCP and UDP are numbers: nft looks their names up in /etc/protocols, which small systems lack.
impl fmt::Display for Match {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Iif(name) => write!(f, "iifname {name}"),
            Self::Oif(name) => write!(f, "oifname {name}"),
            Self::NotIif(name) => write!(f, "iifname != {name}"),
            Self::NotOif(name) => write!(f, "oifname != {name}"),
            Self::OifSet(name) => write!(f, "oifname @{name}"),
            Self::Family(Ip::V4) => f.write_str("meta nfproto ipv4"),
            Self::Family(Ip::V6) => f.write_str("meta nfproto ipv6"),
            Self::Protocol(names) => write!(f, "meta protocol {}", list(names)),
            Self::NotEtherType(names) => write!(f, "ether type != {}", list(names)),
            Self::NotEtherSource(a) => write!(f, "ether saddr != {}", mac(*a)),
            Self::EtherDestination(a) => write!(f, "ether daddr {}", mac(*a)),
            Self::NotArpEther(a) => write!(f, "arp saddr ether != {}", mac(*a)),
            Self::NotArpIp(items) => write!(f, "arp saddr ip != {}", list(items)),
            Self::Address(ip, side, Addresses::List(items)) => {
                write!(f, "{} {}addr {}", ip.word(), side.letter(), list(items))
            }
            Self::Address(ip, side, Addresses::Set(name)) => write!(f, "{} {}addr @{name}", ip.word(), side.letter()),
            Self::NotAddress(ip, side, items) => write!(f, "{} {}addr != {}", ip.word(), side.letter(), list(items)),
            Self::Transport(name) => write!(f, "meta l4proto {name}"),
            Self::Ports(side, ranges) => write!(f, "th {}port {}", side.letter(), ports(ranges)),
            Self::Icmp(Ip::V4, types) if types.is_empty() => f.write_str("meta l4proto 1"),
            Self::Icmp(Ip::V6, types) if types.is_empty() => f.write_str("meta l4proto 58"),
            Self::Icmp(Ip::V4, types) => write!(f, "icmp type {}", list(types)),
            Self::Icmp(Ip::V6, types) => write!(f, "icmpv6 type {}", list(types)),
            Self::IcmpCode(Ip::V4, code) => write!(f, "icmp code {code}"),
            Self::IcmpCode(Ip::V6, code) => write!(f, "icmpv6 code {code}"),
            Self::NotPlainIcmp6 => f.write_str("ip6 nexthdr != 58"),
            Self::NotIp6Length(lengths) => write!(f, "ip6 length != {}", list(lengths)),
            Self::Ip6Length(length) => write!(f, "ip6 length {length}"),
            Self::Raw(at, bits, value) => write!(f, "@nh,{at},{bits} 0x{value}"),
            Self::NotRaw(at, bits, value) => write!(f, "@nh,{at},{bits} != 0x{value}"),
            Self::Established => f.write_str("ct state established,related"),
            Self::Dnatted => f.write_str("ct status dnat"),
            Self::ToHost => f.write_str("fib daddr type local"),
            Self::WrongPath => f.write_str("fib saddr . iif oif missing"),
        }
    }
}

/// What a rule does with what it matches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// This chain lets it through.
    Accept,
    /// It is thrown away.
    Drop,
    /// It is thrown away and its sender told.
    Reject,
    /// Another chain goes on with it.
    Jump(Name),
    /// Its source becomes the address of the interface it leaves by.
    Masquerade,
    /// Its source becomes this address; with a port also that.
    Snat(IpAddr, Option<u16>),
    /// Its source becomes this address and the port that belongs to its own.
    SnatMap(IpAddr, &'static str, Vec<(u16, u16)>),
    /// Its destination becomes this address; with a port also that.
    Dnat(IpAddr, Option<u16>),
    /// Its destination becomes this address and the port that belongs to its own.
    DnatMap(IpAddr, &'static str, Vec<(u16, u16)>),
    /// The UDP checksum goes, which IPv4 allows (RFC 768).
    NoUdpChecksum,
    /// The packet's priority (tc(8): major and minor half).
    Priority(u32),
}

fn target(address: IpAddr, port: Option<u16>) -> String {
    match (address, port) {
        (_, None) => address.to_string(),
        (IpAddr::V4(a), Some(port)) => format!("{a}:{port}"),
        (IpAddr::V6(a), Some(port)) => format!("[{a}]:{port}"),
    }
}

fn map(address: IpAddr, pairs: &[(u16, u16)]) -> String {
    pairs.iter().map(|(from, to)| format!("{from} : {address} . {to}")).collect::<Vec<_>>().join(", ")
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = |address: &IpAddr| Ip::of(*address).word();
        match self {
            Self::Accept => f.write_str("accept"),
            Self::Drop => f.write_str("drop"),
            Self::Reject => f.write_str("reject"),
            Self::Jump(name) => write!(f, "jump {name}"),
            Self::Masquerade => f.write_str("masquerade"),
            Self::Snat(a, port) => write!(f, "snat {} to {}", word(a), target(*a, *port)),
            Self::SnatMap(a, protocol, pairs) => {
                write!(f, "snat {} to {protocol} sport map {{ {} }}", word(a), map(*a, pairs))
            }
            Self::Dnat(a, port) => write!(f, "dnat {} to {}", word(a), target(*a, *port)),
            Self::DnatMap(a, protocol, pairs) => {
                write!(f, "dnat {} to {protocol} dport map {{ {} }}", word(a), map(*a, pairs))
            }
            Self::NoUdpChecksum => f.write_str("udp checksum set 0"),
            Self::Priority(n) => write!(f, "meta priority set {:x}:{:x}", n >> 16, n & 0xffff),
        }
    }
}

/// A rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// All of these must hold.
    pub matches: Vec<Match>,
    /// Word in front of the log line, if it is logged.
    pub log: Option<Quoted>,
    /// What it does.
    pub action: Action,
}

impl Rule {
    /// A rule that is not logged.
    pub fn new(matches: impl IntoIterator<Item = Match>, action: Action) -> Self {
        Self { matches: matches.into_iter().collect(), log: None, action }
    }

    /// Logged with this word; the kernel takes 127 bytes.
    #[must_use]
    pub fn logged(mut self, word: Option<String>) -> Self {
        self.log = word.map(|w| Quoted::new(&format!("{} ", w.chars().take(120).collect::<String>())));
        self
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for one in &self.matches {
            write!(f, "{one} ")?;
        }
        if let Some(word) = &self.log {
            write!(f, "log prefix {word} ")?;
        }
        write!(f, "{}", self.action)
    }
}
