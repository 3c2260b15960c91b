//! Address translation to instances: forwards of a network, and proxies with `nat=true`.
//!
//! Besides packets from outside, those of the host itself are translated (output hook), and those of the same subnet get the
//! bridge's address as their source, so that the answer comes back this way (hairpin) whether or not br_netfilter is loaded.

use super::network::one;
use super::network_label;
use super::rule::{Action, AddressItem, Ip, Match, Name, Rule, Side};
use super::script::{Chain, Family, Hook, Script};
use crate::base::inet::IpNet;
use crate::base::names::NetworkName;
use crate::error::{Error, Result};
use crate::model::instance::Device;
use crate::model::keys::device::proxy::{self, Address};
use crate::model::network::forward::{ParsedForward, PortMap};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Before the translation of networks, so that it is the first to choose.
const SOURCE_PRIORITY: i32 = 98;
const DESTINATION_PRIORITY: i32 = -100;

/// One translation.
#[derive(Debug, Clone)]
struct Translation<'a> {
    ip: Ip,
    /// None is every address of the host.
    listen: Option<IpAddr>,
    /// Protocol and ports; none is everything.
    ports: Option<(&'static str, &'a [u16], &'a [u16])>,
    target: IpAddr,
    snat: bool,
}

/// The forwards of a network, all of them; replaces what was there. `subnets`: the bridge's own, for hairpin.
pub fn up(name: &NetworkName, forwards: &[ParsedForward], subnets: &[IpNet]) -> Script {
    // Ports first, then what no port is for.
    let ports = forwards.iter().flat_map(|f| f.ports.iter().map(move |p| of_port(f, p)));
    let rest = forwards.iter().filter_map(of_default);
    let all: Vec<Translation<'_>> = ports.chain(rest).collect();
    let label = network_label(name);
    let names = ["fwdprert", "fwdout", "fwdpstrt"].map(|p| label.under(p));
    script(names, &all, subnets)
}

/// Takes the forwards of a network away.
pub fn down(name: &NetworkName) -> Script {
    let label = network_label(name);
    remove(["fwdprert", "fwdout", "fwdpstrt"].map(|p| label.under(p)))
}

/// A proxy with `nat=true`. `targets`: the instance's addresses, for a connect address that stands for any. `subnets`: those
/// of the instance's bridge, for hairpin.
///
/// # Errors
/// Invalid: the device is no proxy for NAT, or the instance has no address of the family.
pub fn proxy_up(label: &Name, device: &Device, targets: &[IpAddr], subnets: &[IpNet]) -> Result<Script> {
    let (listen, connect) = (Address::parse(proxy::LISTEN.text(device))?, Address::parse(proxy::CONNECT.text(device))?);
    let (protocol, from, to) = match (&listen, &connect) {
        (Address::Tcp(a), Address::Tcp(b)) => ("tcp", a, b),
        (Address::Udp(a), Address::Udp(b)) => ("udp", a, b),
        _ => return Err(Error::invalid("Only tcp to tcp and udp to udp can use NAT")),
    };
    let given = |ip: Option<IpAddr>| ip.filter(|a| !a.is_unspecified());
    // A wildcard of IPv6 stands for both families, as a socket's does (ipv6(7)).
    let family = [given(from.ip), given(to.ip), from.ip.filter(IpAddr::is_ipv4), to.ip.filter(IpAddr::is_ipv4)];
    let wanted = family.into_iter().flatten().next().map(Ip::of);
    let mut all = Vec::new();
    for ip in [Ip::V4, Ip::V6].into_iter().filter(|ip| wanted.is_none_or(|w| w == *ip)) {
        let own = || targets.iter().copied().find(|a| Ip::of(*a) == ip);
        let Some(target) = given(to.ip).or_else(own) else { continue };
        let ports = Some((protocol, &from.ports[..], &to.ports[..]));
        all.push(Translation { ip, listen: given(from.ip), ports, target, snat: false });
    }
    if all.is_empty() {
        return Err(Error::invalid("Proxy connect IP cannot be used with any of the instance NICs static IPs"));
    }
    Ok(script(["prert", "out", "pstrt"].map(|p| label.under(p)), &all, subnets))
}

/// Takes a proxy away.
pub fn proxy_down(label: &Name) -> Script {
    remove(["prert", "out", "pstrt"].map(|p| label.under(p)))
}

fn remove(names: [Name; 3]) -> Script {
    let mut script = Script::default();
    for name in names {
        script.remove(Family::Inet, name);
    }
    script
}

fn of_port<'a>(forward: &'a ParsedForward, port: &'a PortMap) -> Translation<'a> {
    let protocol = if port.udp { "udp" } else { "tcp" };
    Translation {
        ip: Ip::of(forward.listen),
        listen: Some(forward.listen),
        ports: Some((protocol, &port.listen, &port.target_ports)),
        target: port.target,
        snat: port.snat,
    }
}

fn of_default(forward: &ParsedForward) -> Option<Translation<'_>> {
    let target = forward.default_target?;
    Some(Translation { ip: Ip::of(target), listen: Some(forward.listen), ports: None, target, snat: false })
}

fn script([incoming, own, source]: [Name; 3], all: &[Translation<'_>], subnets: &[IpNet]) -> Script {
    let mut script = Script::default();
    let chain = |name, hook, rules| Chain { family: Family::Inet, name, hook, rules };
    let rules = all.iter().map(|t| t.destination(false)).collect();
    script.replace_or_remove(chain(incoming, Hook::nat("prerouting", DESTINATION_PRIORITY), rules));
    let rules = all.iter().map(|t| t.destination(true)).collect();
    script.replace_or_remove(chain(own, Hook::nat("output", DESTINATION_PRIORITY), rules));
    let mut rules: Vec<Rule> = Vec::new();
    for rule in all.iter().flat_map(|t| t.source(subnets)) {
        if !rules.contains(&rule) {
            rules.push(rule);
        }
    }
    script.replace_or_remove(chain(source, Hook::nat("postrouting", SOURCE_PRIORITY), rules));
    script
}

impl Translation<'_> {
    /// Ports with their counterparts if these differ from them and from each other.
    fn pairs(&self) -> Option<Vec<(u16, u16)>> {
        let (_, from, to) = self.ports?;
        let pairs: Vec<(u16, u16)> = from.iter().copied().zip(to.iter().copied()).collect();
        (to.len() > 1 && pairs.iter().any(|(a, b)| a != b)).then_some(pairs)
    }

    /// The one port all go to.
    fn single(&self) -> Option<u16> {
        match self.ports {
            Some((_, from, [one])) if from != [*one] => Some(*one),
            _ => None,
        }
    }

    /// To the target. `own`: packets of the host itself; those to its loopback addresses stay, as they cannot leave by
    /// another interface.
    fn destination(&self, own: bool) -> Rule {
        let mut matches = vec![Match::Family(self.ip)];
        match self.listen {
            Some(a) => matches.push(Match::Address(self.ip, Side::Destination, one(IpNet::host(a)))),
            None => {
                if own {
                    matches.push(Match::NotAddress(self.ip, Side::Destination, vec![loopback(self.ip)]));
                }
                matches.push(Match::ToHost);
            }
        }
        let Some((protocol, from, _)) = self.ports else { return Rule::new(matches, Action::Dnat(self.target, None)) };
        matches.push(Match::Transport(protocol));
        matches.push(Match::Ports(Side::Destination, ranges(from)));
        let action = match self.pairs() {
            Some(pairs) => Action::DnatMap(self.target, protocol, pairs),
            None => Action::Dnat(self.target, self.single()),
        };
        Rule::new(matches, action)
    }

    /// Sources on the way to and from the target.
    fn source(&self, subnets: &[IpNet]) -> Vec<Rule> {
        let target = || one(IpNet::host(self.target));
        let net = subnets.iter().find(|n| n.contains(self.target)).map_or_else(target, |n| one(n.network()));
        let to = Match::Address(self.ip, Side::Destination, target());
        let hairpin = [Match::Family(self.ip), Match::Address(self.ip, Side::Source, net), to, Match::Dnatted];
        let mut rules = vec![Rule::new(hairpin, Action::Masquerade)];
        if let (true, Some(listen), Some((protocol, from, to))) = (self.snat, self.listen, self.ports) {
            let there = if to.is_empty() { from } else { to };
            let from_target = [
                Match::Family(self.ip),
                Match::Address(self.ip, Side::Source, target()),
                Match::Transport(protocol),
                Match::Ports(Side::Source, ranges(there)),
            ];
            let back = |pairs: Vec<(u16, u16)>| pairs.into_iter().map(|(a, b)| (b, a)).collect();
            let action = match (self.pairs(), self.single(), from) {
                (Some(pairs), _, _) => Action::SnatMap(listen, protocol, back(pairs)),
                (None, Some(_), [first, ..]) => Action::Snat(listen, Some(*first)),
                _ => Action::Snat(listen, None),
            };
            rules.push(Rule::new(from_target, action));
        }
        rules
    }
}

fn loopback(ip: Ip) -> AddressItem {
    let net = match ip {
        Ip::V4 => IpNet::new(Ipv4Addr::new(127, 0, 0, 0).into(), 8),
        Ip::V6 => Some(IpNet::host(Ipv6Addr::LOCALHOST.into())),
    };
    AddressItem::Net(net.unwrap_or(IpNet::all_v4()))
}

/// Ports as ranges, sorted and joined.
fn ranges(ports: &[u16]) -> Vec<(u16, u16)> {
    let mut sorted = ports.to_vec();
    sorted.sort_unstable();
    let mut all: Vec<(u16, u16)> = Vec::new();
    for port in sorted {
        match all.last_mut() {
            Some((_, last)) if u32::from(port) <= u32::from(*last) + 1 => *last = port,
            _ => all.push((port, port)),
        }
    }
    all
}
