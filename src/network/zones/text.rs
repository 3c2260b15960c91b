//! What the DNS server of zones is told, one line a thing: made by `ops::network`, read by the role.
//!
//! `listen ADDRESS:PORT`, and for each zone `zone NAME SERIAL`, `peer NAME ADDRESS|- KEY|-` and `NAME TTL TYPE DATA`, keys and data in
//! hexadecimal digits. A zone keeps its serial as long as its lines stay the same.

use super::data::{Peer, Record, Zone, Zones, kind, name_of, owner, wire};
use crate::base::names::{self, ZoneName};
use crate::error::{Error, Result};
use crate::model::instance::Config;
use crate::model::keys::network::zone as keys;
use crate::model::network::zone::{DEFAULT_TTL, Data, ZoneLine};
use domain::base::ToName;
use domain::tsig::KeyName;
use domain::utils::base64;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::net::SocketAddr;

/// Seconds that the SOA record may be kept, and its times: how often others look for a new serial, and again after they could
/// not, how long they answer without, and how long it is known that there is no such name. They are told of changes.
const SOA_TTL: u32 = 3600;
const SOA_TIMES: [u32; 4] = [900, 60, 86_400, 30];

/// A zone with its lines.
#[derive(Debug, Clone)]
pub struct Served<'a> {
    /// Its name.
    pub name: &'a ZoneName,
    /// Its options.
    pub options: &'a Config,
    /// What is in it.
    pub lines: &'a [ZoneLine],
}

/// What is told.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Told {
    /// The text.
    pub text: String,
    /// What cannot be served, in words.
    pub left_out: Vec<String>,
}

/// Sees that a peer's name can be that of a key.
///
/// # Errors
/// Invalid.
pub fn check(zone: &ZoneName, options: &Config) -> Result<()> {
    match keys::peers(options).iter().find(|peer| peer.key.is_some() && key_name(zone, peer.name).is_none()) {
        Some(peer) => Err(Error::invalid(format!("Peer name {:?} is too long for the name of a key", peer.name))),
        None => Ok(()),
    }
}

/// The name of a peer's key, as Incus has it.
fn key_name(zone: &str, peer: &str) -> Option<KeyName> {
    let name = owner(&name_of(&format!("{zone}_{peer}")))?;
    (peer.len() < 63).then(|| name.try_to_name().ok()).flatten()
}

/// What to tell. `before`: what was told last, whose serials go on. `now`: seconds since 1970, for the serials.
pub fn told(zones: &[Served<'_>], listen: SocketAddr, before: &str, now: u32) -> Told {
    let mut told = Told { text: format!("listen {listen}\n"), left_out: Vec::new() };
    let old = blocks(before);
    for zone in zones {
        let body = body(zone, &mut told.left_out);
        let serial = match old.get(zone.name.as_str()) {
            Some((serial, same)) if *same == body => *serial,
            // It has to rise, whatever the clock does.
            Some((serial, _)) => now.max(serial.wrapping_add(1)),
            None => now,
        };
        let _ = write!(told.text, "zone {} {serial}\n{body}", zone.name);
    }
    told
}

/// Zones of a text by name: serial and the lines behind that.
fn blocks(text: &str) -> BTreeMap<&str, (u32, &str)> {
    let mut all = BTreeMap::new();
    for block in format_blocks(text) {
        let (head, body) = block.split_once('\n').unwrap_or((block, ""));
        if let Some((name, serial)) = head.split_once(' ').and_then(|(n, s)| Some((n, s.parse().ok()?))) {
            all.insert(name, (serial, body));
        }
    }
    all
}

fn format_blocks(text: &str) -> impl Iterator<Item = &str> {
    const HEAD: &str = "zone ";
    let starts: Vec<usize> = text.match_indices("\nzone ").map(|(at, _)| at + 1).collect();
    let ends: Vec<usize> = starts.iter().skip(1).copied().chain([text.len()]).collect();
    starts.into_iter().zip(ends).map(move |(from, to)| &text[from + HEAD.len()..to])
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The lines of a zone, sorted; what cannot be among them is named.
fn body(zone: &Served<'_>, left_out: &mut Vec<String>) -> String {
    let mut text = String::new();
    for peer in keys::peers(zone.options) {
        let address = peer.address.unwrap_or("-");
        let key = peer.key.map(|key| base64::decode::<Vec<u8>>(key).map(|bytes| hex(&bytes)));
        match (key, key_name(zone.name, peer.name)) {
            (None, _) => {
                let _ = writeln!(text, "peer {} {address} -", peer.name);
            }
            (Some(Ok(key)), Some(_)) if !key.is_empty() => {
                let _ = writeln!(text, "peer {} {address} {key}", peer.name);
            }
            _ => left_out.push(format!("{}: peer {} has no key that can be used", zone.name, peer.name)),
        }
    }
    let servers = head(zone);
    let primary = match &servers.first().map(|line| &line.data) {
        Some(Data::Ns(name)) => name.clone(),
        _ => zone.name.to_string(),
    };
    let contact = match keys::CONTACT.get(zone.options) {
        Some(text) => text.trim_end_matches('.').to_string(),
        None => format!("hostmaster.{primary}"),
    };
    let _ = writeln!(text, "soa {primary} {contact}");
    records(zone, &servers, &mut text, left_out);
    text
}

/// The records of one name and type: the type's name, how long they may be kept, and what they say.
type Set = (&'static str, u64, BTreeSet<Vec<u8>>);

fn records(zone: &Served<'_>, servers: &[ZoneLine], text: &mut String, left_out: &mut Vec<String>) {
    let mut sets: BTreeMap<(&str, u16), Set> = BTreeMap::new();
    for line in servers.iter().chain(zone.lines) {
        let (kind, data) = sent(&line.data);
        let set = sets.entry((&line.name, kind)).or_insert((line.data.type_name(), line.ttl, BTreeSet::new()));
        // They have one lifetime (RFC 2181, section 5.2).
        set.1 = set.1.min(line.ttl);
        set.2.insert(data);
    }
    let alone = |name: &str| sets.range((name, 0)..=(name, u16::MAX)).count() == 1 && name != zone.name.as_str();
    for ((name, kind), (type_name, ttl, data)) in &sets {
        let fit = name.len() <= 253 && names::domain(name.strip_prefix("*.").unwrap_or(name)).is_ok();
        let trouble = match *kind {
            _ if !fit => "the name is too long",
            kind::CNAME if !alone(name) => "there is something else under that name",
            kind::CNAME if data.len() > 1 => "there is more than one under that name",
            _ => {
                for one in data {
                    let _ = writeln!(text, "{name} {ttl} {kind} {}", hex(one));
                }
                continue;
            }
        };
        left_out.push(format!("{}: {name} of type {type_name}: {trouble}", zone.name));
    }
}

/// Type and data as they are sent.
fn sent(data: &Data) -> (u16, Vec<u8>) {
    let name = |text: &str| wire(&name_of(text));
    let short = |text: &str| [&[u8::try_from(text.len()).unwrap_or(0)], text.as_bytes()].concat();
    match data {
        Data::A(address) => (kind::A, address.octets().to_vec()),
        Data::Aaaa(address) => (kind::AAAA, address.octets().to_vec()),
        Data::Cname(target) => (kind::CNAME, name(target)),
        Data::Ns(server) => (kind::NS, name(server)),
        Data::Ptr(target) => (kind::PTR, name(target)),
        Data::Mx(preference, host) => (kind::MX, [&preference.to_be_bytes()[..], &name(host)].concat()),
        Data::Srv(priority, weight, port, host) => {
            let numbers = [priority, weight, port].map(|n| n.to_be_bytes()).concat();
            (kind::SRV, [numbers, name(host)].concat())
        }
        Data::Txt(texts) => (kind::TXT, texts.iter().flat_map(|text| short(text)).collect()),
        Data::Caa(flags, tag, value) => (kind::CAA, [&[*flags], &short(tag)[..], value.as_bytes()].concat()),
    }
}

/// The records that name the servers: those of the option; if there are none and none of the user's, one of the zone's own name,
/// for others do not take a zone without.
fn head(zone: &Served<'_>) -> Vec<ZoneLine> {
    let own = |line: &ZoneLine| line.name == zone.name.as_str() && matches!(line.data, Data::Ns(_));
    let named = keys::NAMESERVERS.list(zone.options);
    let mut names: Vec<String> = named.into_iter().map(|n| n.trim_end_matches('.').to_string()).collect();
    if names.is_empty() && !zone.lines.iter().any(own) {
        names.push(zone.name.to_string());
    }
    let line = |server| ZoneLine { name: zone.name.to_string(), ttl: DEFAULT_TTL, data: Data::Ns(server) };
    names.into_iter().map(line).collect()
}

/// Where to listen, and what to say.
///
/// # Errors
/// Internal: it is no such text.
pub fn parse(text: &str) -> Result<(SocketAddr, Zones)> {
    let bad = || Error::internal("What the DNS server of zones was told is damaged");
    let mut listen = None;
    let (mut all, mut of): (Vec<Zone>, &str) = (Vec::new(), "");
    for line in text.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        let done = match (&words[..], all.last_mut()) {
            (["listen", address], None) => address.parse().ok().map(|address| listen = Some(address)),
            (["zone", name, serial], _) => serial.parse().ok().map(|serial| {
                of = name;
                all.push(Zone { apex: name_of(name), serial, peers: Vec::new(), records: Vec::new() });
            }),
            (["soa", primary, contact], Some(zone)) => {
                let record = soa(zone, primary, contact);
                zone.records.push(record);
                Some(())
            }
            (["peer", name, address, key], Some(zone)) => {
                peer(of, (name, address, key)).map(|peer| zone.peers.push(peer))
            }
            ([name, ttl, kind, data], Some(zone)) => record(name, (ttl, kind), data).map(|r| zone.records.push(r)),
            _ => None,
        };
        done.ok_or_else(bad)?;
    }
    Ok((listen.ok_or_else(bad)?, Zones::new(all)))
}

fn soa(zone: &Zone, primary: &str, contact: &str) -> Record {
    let numbers = std::iter::once(zone.serial).chain(SOA_TIMES).flat_map(u32::to_be_bytes).collect();
    let data = [wire(&name_of(primary)), wire(&name_of(contact)), numbers].concat();
    Record { name: zone.apex.clone(), kind: kind::SOA, data: data.into(), ttl: SOA_TTL }
}

fn record(name: &str, (ttl, kind): (&str, &str), data: &str) -> Option<Record> {
    Some(Record { name: name_of(name), kind: kind.parse().ok()?, data: unhex(data)?.into(), ttl: ttl.parse().ok()? })
}

fn peer(zone: &str, (name, address, key): (&str, &str, &str)) -> Option<Peer> {
    let address = if address == "-" { None } else { Some(address.parse().ok()?) };
    let key = if key == "-" { None } else { Some((key_name(zone, name)?, unhex(key)?)) };
    (address.is_some() || key.is_some()).then_some(Peer { address, key })
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let pairs = text.as_bytes().chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok());
    if text.len().is_multiple_of(2) { pairs.collect() } else { None }
}
