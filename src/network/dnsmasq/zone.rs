//! Zones served by dnsmasq's authoritative mode (dnsmasq(8), "AUTHORITATIVE CONFIGURATION"): a configuration for one dnsmasq
//! that does nothing else and listens at the address of `core.dns_address`.
//!
//! What it can: SOA and NS, A and AAAA, reverse zones made from the addresses of the forward zones served beside them, CNAME,
//! MX, SRV, TXT, CAA, wildcards, and transfers (AXFR) to peers known by address. To dnsmasq a peer is one of all forward zones, so
//! one is let in if all of them have it. It gives all answers one TTL, so that is the smallest asked for: nothing is kept longer
//! than its record says. A wildcard it knows as an alias only, so what stands under
//! one is put under a name beside it ([`WILDCARD`]). What it cannot is refused when it is written ([`check`], [`check_zone`]) and, for
//! records from before, said in [`Config::left_out`]: NS records of users, whether of the zone itself or to delegate what is
//! below it, PTR records of users, and TSIG keys; a peer with a key is not allowed in rather than let in without one. For
//! these a server of our own over a library would be needed: `domain` of NLnet Labs makes and signs whole messages without a
//! runtime, while `hickory-server` does it all and brings one.

use crate::base::inet::IpNet;
use crate::base::names::ZoneName;
use crate::error::{Error, Result};
use crate::model::instance::Config as Options;
use crate::model::keys::network::zone as keys;
use crate::model::network::zone::{DEFAULT_TTL, Data, ZoneKind, ZoneLine, ZoneRecord, kind};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::IpAddr;

/// The label under which what is known under a wildcard stands. No label of an instance begins so.
const WILDCARD: &str = "_wildcard";

/// Sees that all of a record can be served.
///
/// # Errors
/// Unsupported; Invalid: an entry is wrong.
pub fn check(record: &ZoneRecord) -> Result<()> {
    for entry in &record.entries {
        let hint = match entry.parse()? {
            Data::Ns(_) => format!("{:?} of the zone names its servers", keys::NAMESERVERS.name),
            Data::Ptr(_) => "the names of addresses of instances are made from the network's reverse zones".to_string(),
            _ => continue,
        };
        let kind = entry.kind.to_ascii_uppercase();
        let message = format!("Records of type {kind:?} in zones are not supported by this version");
        return Err(Error::unsupported(message).hint(hint));
    }
    Ok(())
}

/// Sees that all a zone's options say can be served.
///
/// # Errors
/// Unsupported.
pub fn check_zone(options: &Options) -> Result<()> {
    match options.keys().find(|name| keys::PEER_KEY.item_in(name).is_some()) {
        Some(name) => {
            Err(Error::unsupported(format!("TSIG keys of peers ({name:?}) are not supported by this version"))
                .hint("unset it: a peer without a key is known by its address"))
        }
        None => Ok(()),
    }
}

/// A zone with its lines.
#[derive(Debug, Clone)]
pub struct Served<'a> {
    /// Its name.
    pub name: &'a ZoneName,
    /// Its options.
    pub options: &'a Options,
    /// What is in it.
    pub lines: Vec<ZoneLine>,
    /// The subnet a reverse zone is for.
    pub subnet: Option<IpNet>,
}

/// The text of the configuration file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Config {
    /// Lines for dnsmasq.
    pub text: String,
    /// What dnsmasq cannot serve, in words.
    pub left_out: Vec<String>,
    /// Aliases to be written, and what they stand for.
    aliases: BTreeMap<String, String>,
}

/// The configuration. `listen`: address and port it answers at. `serial`: of the SOA records, rising with every change.
pub fn config(zones: &[Served<'_>], listen: (IpAddr, u16), serial: u32) -> Config {
    let mut out = Config::default();
    let (address, port) = listen;
    let ttl = zones.iter().flat_map(|zone| &zone.lines).map(|line| line.ttl).fold(DEFAULT_TTL, u64::min);
    out.text = format!(
        "no-resolv\nno-hosts\nbind-interfaces\nexcept-interface=lo\nlisten-address={address}\nport={port}\nauth-ttl={ttl}\n"
    );
    let forward = zones.iter().find(|z| kind(z.name) == ZoneKind::Forward);
    let Some(first) = forward.or(zones.first()) else { return out };
    let servers = nameservers(first.options);
    let primary = servers.first().cloned().unwrap_or_else(|| first.name.to_string());
    let contact = match keys::CONTACT.get(first.options) {
        Some(text) => text.trim_end_matches('.').to_string(),
        None => format!("hostmaster.{primary}"),
    };
    let _ = writeln!(out.text, "auth-server={primary},{address}\nauth-soa={serial},{contact},120,60,86400");
    if servers.len() > 1 {
        // With other servers and without peers it would let everybody have all of the zone.
        let _ = writeln!(out.text, "auth-sec-servers={}\nauth-peer={address}", servers[1..].join(","));
    }
    for zone in zones {
        out.zone(zone, zones);
    }
    // Of wildcards that a name is under the last one counts, which has to be the longest.
    let mut aliases: Vec<(String, String)> = std::mem::take(&mut out.aliases).into_iter().collect();
    aliases.sort_by_key(|(name, _)| name.len());
    for (name, target) in aliases {
        let _ = writeln!(out.text, "cname={name},{target}");
    }
    out
}

fn nameservers(options: &Options) -> Vec<String> {
    keys::NAMESERVERS.list(options).into_iter().map(|n| n.trim_end_matches('.').to_string()).collect()
}

/// Has a zone this address as a peer, known by it alone?
fn has_peer(zone: &Served<'_>, address: &str) -> bool {
    keys::peers(zone.options).into_iter().any(|(_, own, with_key)| own == address && !with_key)
}

/// A TXT or CAA text in double quotes, in which dnsmasq knows the backslash.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

/// The subnets of a forward zone for which its names are found by address: dnsmasq answers for reverse names as a part of the
/// zone the names are in. With subnets it leaves out addresses elsewhere, so those are named as well.
fn subnets(zone: &Served<'_>, all: &[Served<'_>]) -> Vec<IpNet> {
    let inside = |name: &str| name.strip_suffix(zone.name.as_str()).is_some_and(|rest| rest.ends_with('.'));
    let of_ours = |z: &&Served<'_>| z.lines.iter().any(|l| matches!(&l.data, Data::Ptr(name) if inside(name)));
    let mut nets: Vec<IpNet> = all.iter().filter(of_ours).filter_map(|z| z.subnet).map(|n| n.network()).collect();
    if nets.is_empty() {
        return nets;
    }
    let addresses = zone.lines.iter().filter_map(|l| match l.data {
        Data::A(a) => Some(IpAddr::V4(a)),
        Data::Aaaa(a) => Some(IpAddr::V6(a)),
        _ => None,
    });
    for address in addresses {
        if !nets.iter().any(|n| n.contains(address)) {
            nets.push(IpNet::host(address));
        }
    }
    nets
}

impl Config {
    fn zone(&mut self, zone: &Served<'_>, all: &[Served<'_>]) {
        match (kind(zone.name), zone.subnet) {
            (ZoneKind::Forward, _) => {
                let subnets: String = subnets(zone, all).iter().map(|n| format!(",{n}")).collect();
                let _ = writeln!(self.text, "auth-zone={}{subnets}", zone.name);
            }
            (_, None) => self.left_out.push(format!("{}: its subnet is not known", zone.name)),
            (_, Some(_)) => {}
        }
        for (peer, address, with_key) in keys::peers(zone.options) {
            // A peer may have all that is served. Reverse zones are no zones to dnsmasq: nobody gets those.
            let without = all.iter().find(|z| kind(z.name) == ZoneKind::Forward && !has_peer(z, address));
            match without {
                _ if with_key => self.left_out.push(format!("{}: peer {peer} has a TSIG key", zone.name)),
                Some(other) if kind(zone.name) == ZoneKind::Forward => self.left_out.push(format!(
                    "{}: peer {peer} ({address}) is not let in, because zone {} is served beside it and does not have it as \
                     a peer",
                    zone.name, other.name
                )),
                Some(_) => {}
                None => drop(writeln!(self.text, "auth-peer={address}")),
            }
        }
        for line in &zone.lines {
            self.line(zone.name, line);
        }
    }

    fn line(&mut self, zone: &ZoneName, line: &ZoneLine) {
        match line.data {
            // Those of addresses, which dnsmasq makes itself.
            Data::Ptr(_) if kind(zone) != ZoneKind::Forward => return,
            Data::Ns(_) | Data::Ptr(_) => {
                return self.left_out.push(format!("{zone}: {} of type {}", line.name, line.data.type_name()));
            }
            _ => {}
        }
        let mut name = line.name.clone();
        if let (Some(beside), false) = (name.strip_prefix("*."), matches!(line.data, Data::Cname(_))) {
            let beside = format!("{WILDCARD}.{beside}");
            self.alias(&name, &beside);
            name = beside;
        }
        let text = match &line.data {
            Data::A(a) => format!("host-record={name},{a}"),
            Data::Aaaa(a) => format!("host-record={name},{a}"),
            Data::Cname(target) => return self.alias(&name, target),
            Data::Ns(_) | Data::Ptr(_) => return,
            Data::Mx(preference, host) => format!("mx-host={name},{host},{preference}"),
            Data::Srv(priority, weight, port, host) => format!("srv-host={name},{host},{port},{priority},{weight}"),
            Data::Txt(texts) => {
                let texts: Vec<String> = texts.iter().map(|t| quoted(t)).collect();
                format!("txt-record={name},{}", texts.join(","))
            }
            Data::Caa(flags, tag, value) => format!("caa-record={name},{flags},{tag},{}", quoted(value)),
        };
        self.text.push_str(&text);
        self.text.push('\n');
    }

    /// dnsmasq does not start with two for one name.
    fn alias(&mut self, name: &str, target: &str) {
        self.aliases.entry(name.to_string()).or_insert_with(|| target.to_string());
    }
}
