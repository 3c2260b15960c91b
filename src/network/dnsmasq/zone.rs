//! Zones served by dnsmasq's authoritative mode (dnsmasq(8), "AUTHORITATIVE CONFIGURATION"): a configuration for one dnsmasq
//! that does nothing else and listens at the address of `core.dns_address`.
//!
//! What it can: SOA and NS, A and AAAA with a TTL each, reverse zones made from the addresses of the forward zones served
//! beside them, CNAME with a TTL, MX, SRV, TXT, CAA, and transfers (AXFR) to peers known by address. What it cannot – said in
//! [`Config::left_out`] –: another TTL than the zone's for MX, SRV, TXT and CAA, addresses under a wildcard, PTR records for
//! addresses of no forward zone, delegation by NS records below the zone, and TSIG keys; a peer with a key is therefore not
//! allowed in rather than let in without one. For these a server of our own over a library would be needed: `domain` of NLnet
//! Labs makes and signs whole messages without a runtime, while `hickory-server` does it all and brings one.

use crate::base::inet::IpNet;
use crate::base::names::ZoneName;
use crate::model::instance::Config as Options;
use crate::model::keys::network::zone as keys;
use crate::model::network::zone::{DEFAULT_TTL, Data, ZoneKind, ZoneLine, kind};
use std::fmt::Write;
use std::net::IpAddr;

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
}

/// The configuration. `listen`: address and port it answers at. `serial`: of the SOA records, rising with every change.
pub fn config(zones: &[Served<'_>], listen: (IpAddr, u16), serial: u32) -> Config {
    let mut out = Config::default();
    let (address, port) = listen;
    out.text = format!(
        "no-resolv\nno-hosts\nbind-interfaces\nexcept-interface=lo\nlisten-address={address}\nport={port}\nauth-ttl={DEFAULT_TTL}\n"
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
        let _ = writeln!(out.text, "auth-sec-servers={}", servers[1..].join(","));
    }
    for zone in zones {
        out.zone(zone, zones);
    }
    out
}

fn nameservers(options: &Options) -> Vec<String> {
    keys::NAMESERVERS.list(options).into_iter().map(|n| n.trim_end_matches('.').to_string()).collect()
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
            if with_key {
                self.left_out.push(format!("{}: peer {peer} has a TSIG key", zone.name));
            } else {
                let _ = writeln!(self.text, "auth-peer={address}");
            }
        }
        for line in &zone.lines {
            self.line(zone.name, line);
        }
    }

    fn line(&mut self, zone: &ZoneName, line: &ZoneLine) {
        let (name, ttl) = (&line.name, line.ttl);
        let wildcard = name.starts_with("*.");
        let text = match &line.data {
            Data::A(_) | Data::Aaaa(_) if wildcard => None,
            Data::A(a) => Some(format!("host-record={name},{a},{ttl}")),
            Data::Aaaa(a) => Some(format!("host-record={name},{a},{ttl}")),
            Data::Cname(target) => Some(format!("cname={name},{target},{ttl}")),
            Data::Ptr(_) if kind(zone) != ZoneKind::Forward => Some(String::new()),
            Data::Ns(_) | Data::Ptr(_) => None,
            _ if wildcard || ttl != DEFAULT_TTL => None,
            Data::Mx(preference, host) => Some(format!("mx-host={name},{host},{preference}")),
            Data::Srv(priority, weight, port, host) => {
                Some(format!("srv-host={name},{host},{port},{priority},{weight}"))
            }
            Data::Txt(texts) => {
                let texts: Vec<String> = texts.iter().map(|t| quoted(t)).collect();
                Some(format!("txt-record={name},{}", texts.join(",")))
            }
            Data::Caa(flags, tag, value) => Some(format!("caa-record={name},{flags},{tag},{}", quoted(value))),
        };
        match text {
            Some(text) if text.is_empty() => {}
            Some(text) => {
                self.text.push_str(&text);
                self.text.push('\n');
            }
            None => self.left_out.push(format!("{zone}: {name} of type {}", line.data.type_name())),
        }
    }
}
