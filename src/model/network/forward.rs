//! Network forwards: addresses of the host whose packets go to instances.

use crate::base::inet::IpNet;
use crate::error::{Context, Error, Result};
use crate::model::instance::Config;
use crate::model::keys::network::{bridge, checks, zone as keys};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// A forward's record; its network and listen address are its place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Forward {
    /// Format of the record.
    pub format: u32,
    /// Free text.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// `target_address` and `user.` options.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub config: Config,
    /// Where single ports go.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<ForwardPort>,
}

/// Where ports go, as Incus's objects have it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ForwardPort {
    /// Free text.
    #[serde(default)]
    pub description: String,
    /// `tcp` or `udp`.
    pub protocol: String,
    /// Ports and ranges.
    pub listen_port: String,
    /// Ports and ranges; empty is the listen ports, one is for all.
    #[serde(default)]
    pub target_port: String,
    /// The instance's address.
    pub target_address: String,
    /// Let the instance's own packets from these ports have the listen address.
    #[serde(default)]
    pub snat: bool,
}

/// A forward, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParsedForward {
    /// Address it listens at.
    pub listen: IpAddr,
    /// Where packets go that no port is for.
    pub default_target: Option<IpAddr>,
    /// Where ports go.
    pub ports: Vec<PortMap>,
}

/// Where ports go, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortMap {
    /// UDP, else TCP.
    pub udp: bool,
    /// In the order given.
    pub listen: Vec<u16>,
    /// The instance's address.
    pub target: IpAddr,
    /// As many as `listen`, or one, or none for the same ports.
    pub target_ports: Vec<u16>,
    /// Let the instance's own packets from these ports have the listen address.
    pub snat: bool,
}

fn wrong<T>(message: impl Into<String>) -> Result<T> {
    Err(Error::invalid(message))
}

impl Forward {
    /// Takes away what does not matter: white space, and other ways to write an address.
    pub fn normalise(&mut self) {
        self.description = self.description.trim().to_string();
        for port in &mut self.ports {
            port.description = port.description.trim().to_string();
            port.protocol = port.protocol.trim().to_string();
            let address = port.target_address.trim();
            port.target_address = address.parse::<IpAddr>().map_or(address.to_string(), |a| a.to_string());
            port.listen_port.retain(|c| !c.is_whitespace());
            port.target_port.retain(|c| !c.is_whitespace());
        }
    }

    /// Reads a forward. `network`: configuration of its network, a bridge.
    ///
    /// # Errors
    /// Invalid, in the words of Incus.
    pub fn parse(&self, listen: &str, network: &Config) -> Result<ParsedForward> {
        let Ok(listen) = listen.parse::<IpAddr>() else { return wrong("Invalid listen address") };
        if listen.is_unspecified() {
            return wrong(format!("Cannot use unspecified address: \"{listen}\""));
        }
        keys::check(keys::FORWARD, &self.config)?;
        let address = if listen.is_ipv4() { &bridge::IPV4_ADDRESS } else { &bridge::IPV6_ADDRESS };
        let net: Option<IpNet> = address.get(network).and_then(|text| text.parse().ok());
        let default_target = match keys::TARGET_ADDRESS.get(&self.config) {
            None => None,
            Some(text) => Some(default_target(text, listen, net)?),
        };
        let mut taken = [BTreeSet::new(), BTreeSet::new()];
        let ports = self.ports.iter().enumerate().map(|(i, port)| {
            let map = port.parse(i, listen, default_target, net)?;
            match map.listen.iter().find(|p| !taken[usize::from(map.udp)].insert(**p)) {
                Some(p) => wrong(format!(
                    "Duplicate listen port {p} for protocol {:?} in port specification {i}",
                    port.protocol
                )),
                None => Ok(map),
            }
        });
        Ok(ParsedForward { listen, default_target, ports: ports.collect::<Result<_>>()? })
    }
}

fn default_target(text: &str, listen: IpAddr, net: Option<IpNet>) -> Result<IpAddr> {
    let Ok(target) = text.parse::<IpAddr>() else { return wrong("Invalid default target address") };
    if target.is_ipv4() != listen.is_ipv4() {
        return wrong("Cannot mix IP versions in listen address and default target address");
    }
    if net.is_some_and(|n| !n.contains(target)) {
        return wrong("Default target address is not within the network subnet");
    }
    check_usable(target, net, "Default target address")?;
    Ok(target)
}

fn check_usable(target: IpAddr, net: Option<IpNet>, what: &str) -> Result<()> {
    let Some(net) = net.filter(|n| !n.is_host()) else { return Ok(()) };
    if target.is_ipv4() && target == net.last() {
        return wrong(format!("{what} cannot be a broadcast address"));
    }
    if target == net.network().address() {
        return wrong(format!("{what} cannot be a network ID address"));
    }
    Ok(())
}

impl ForwardPort {
    fn parse(&self, i: usize, listen: IpAddr, default: Option<IpAddr>, net: Option<IpNet>) -> Result<PortMap> {
        let at = format!("in port specification {i}");
        if !matches!(self.protocol.as_str(), "tcp" | "udp") {
            return wrong(format!("Invalid port protocol {at}, protocol must be one of: tcp, udp"));
        }
        if self.description.chars().any(char::is_control) {
            return wrong(format!("Description cannot contain control characters {at}"));
        }
        let Ok(target) = self.target_address.parse::<IpAddr>() else {
            return wrong(format!("Invalid target address {at}"));
        };
        if Some(target) == default {
            return wrong(format!("Target address is same as default target address {at}"));
        }
        if target.is_ipv4() != listen.is_ipv4() {
            return wrong(format!(
                "Cannot mix IP versions in listen address and port specification {i} target address"
            ));
        }
        if net.is_some_and(|n| !n.contains(target)) {
            return wrong(format!("Target address is not within the network subnet {at}"));
        }
        check_usable(target, net, "Target address")?;
        let from = ports(&self.listen_port).with_context(|| format!("Invalid listen port {at}"))?;
        if from.is_empty() {
            return wrong(format!("Missing listen port {at}"));
        }
        let to = ports(&self.target_port).with_context(|| format!("Invalid target port {at}"))?;
        if to.len() > 1 && to.len() != from.len() {
            return wrong(format!("Mismatch of listen port(s) and target port(s) count {at}"));
        }
        Ok(PortMap { udp: self.protocol == "udp", listen: from, target, target_ports: to, snat: self.snat })
    }
}

/// Ports and ranges, in the order given; none is 0.
fn ports(text: &str) -> Result<Vec<u16>> {
    let mut all = Vec::new();
    for item in text.split(',').map(str::trim).filter(|t| !t.is_empty()) {
        let (first, last) = checks::port_range(item)?;
        if first == 0 {
            return wrong(format!("Invalid port number {item:?}"));
        }
        all.extend(first..=last);
        if all.len() > usize::from(u16::MAX) {
            return wrong("More ports than there are");
        }
    }
    Ok(all)
}
