//! Rules of a bridge: NAT, what is not to be routed, and its ACLs.

use super::acl::Policy;
use super::rule::{Action, AddressItem, Addresses, Ip, Match, Name, Quoted, Rule, Side};
use super::script::{BRIDGES, Chain, Family, Hook, Script};
use super::{forward, network_label};
use crate::base::inet::IpNet;
use crate::base::names::NetworkName;
use crate::model::network::acl::Direction;
use crate::model::network::bridge::{self, Bridge};

/// NAT before that of others, which is at 100.
const NAT_BEFORE: i32 = 99;
/// NAT after that of others, firewalld's at 110 included.
const NAT_AFTER: i32 = 111;

/// ICMPv4 that must always pass: unreachable, time exceeded, parameter problem.
const ICMP4_CORE: [u8; 3] = [3, 11, 12];
/// ICMPv6 that must pass from instances: errors, solicitations, neighbour discovery, multicast reports (RFC 4890).
const ICMP6_IN: [u8; 8] = [1, 2, 3, 4, 133, 135, 136, 143];
/// ICMPv6 that must pass to instances: errors, echo (dnsmasq looks whether an address is free), advertisements, discovery.
const ICMP6_OUT: [u8; 9] = [1, 2, 3, 4, 128, 134, 135, 136, 143];

/// The rules of a bridge that is up; replaces whatever rules it had, ACLs and forwards aside.
pub fn up(name: &NetworkName, bridge: &Bridge) -> Script {
    let mut script = Script::default();
    let chains = Chains { label: network_label(name), link: Quoted::new(name) };
    script.bridge(chains.link.clone(), true);
    script.replace_or_remove(chains.output(bridge));
    script.replace_or_remove(chains.forward(bridge));
    let after = bridge.families().iter().any(|f| f.nat && f.nat_after);
    script.replace_or_remove(chains.nat(bridge, if after { NAT_AFTER } else { NAT_BEFORE }));
    script
}

/// Takes all rules of a bridge away, ACLs and forwards included.
pub fn down(name: &NetworkName) -> Script {
    let mut script = Script::default();
    let label = network_label(name);
    script.bridge(Quoted::new(name), false);
    for prefix in ["out", "fwd", "pstrt"] {
        script.remove(Family::Inet, label.under(prefix));
    }
    script.append(acls_down(name));
    script.append(forward::down(name));
    script
}

/// The ACLs of a network: they filter between the network and everything else, the host included; never within it.
pub fn acls_up(name: &NetworkName, policy: &Policy) -> Script {
    let chains = Chains { label: network_label(name), link: Quoted::new(name) };
    let mut script = Script::default();
    for chain in [chains.acl_input(), chains.acl_output(), chains.acl_forward(), chains.acl_rules(name, policy)] {
        script.replace(chain);
    }
    script
}

/// Takes the ACLs of a network away.
pub fn acls_down(name: &NetworkName) -> Script {
    let mut script = Script::default();
    let label = network_label(name);
    for prefix in ["aclin", "aclout", "aclfwd", "acl"] {
        script.remove(Family::Inet, label.under(prefix));
    }
    script
}

struct Chains {
    label: Name,
    link: Quoted,
}

impl Chains {
    fn chain(&self, prefix: &str, hook: Option<Hook>, rules: Vec<Rule>) -> Chain {
        Chain { family: Family::Inet, name: self.label.under(prefix), hook, rules }
    }

    fn iif(&self) -> Match {
        Match::Iif(self.link.clone())
    }

    fn oif(&self) -> Match {
        Match::Oif(self.link.clone())
    }

    /// Replies of the DHCP server: the checksum is left to hardware that a virtual link does not have, and older clients
    /// look at it in the packet.
    fn output(&self, bridge: &Bridge) -> Chain {
        let serves = bridge.v4.firewall && bridge.v4.dhcp_subnet().is_some();
        let from_dhcp = [self.oif(), Match::Family(Ip::V4), Match::Transport("udp"), port(Side::Source, 67)];
        let rules = if serves { vec![Rule::new(from_dhcp, Action::NoUdpChecksum)] } else { Vec::new() };
        self.chain("out", Hook::filter("output", 0), rules)
    }

    /// A family that is not to be routed, or that the network has not, does not get through the host.
    fn forward(&self, bridge: &Bridge) -> Chain {
        let mut rules = Vec::new();
        for (ip, family) in [(Ip::V4, &bridge.v4), (Ip::V6, &bridge.v6)] {
            if family.firewall && (!family.routing || family.address.is_none()) {
                // Packets within the bridge come here as well if br_netfilter is loaded.
                let not_in = Match::NotIif(self.link.clone());
                let not_out = Match::NotOif(self.link.clone());
                rules.push(Rule::new([self.oif(), not_in, Match::Family(ip)], Action::Reject));
                rules.push(Rule::new([self.iif(), not_out, Match::Family(ip)], Action::Reject));
            }
        }
        self.chain("fwd", Hook::filter("forward", 0), rules)
    }

    fn nat(&self, bridge: &Bridge, priority: i32) -> Chain {
        let families = [(Ip::V4, &bridge.v4), (Ip::V6, &bridge.v6)];
        let rules = families.iter().filter(|(_, f)| f.nat).flat_map(|(ip, f)| nat_rules(*ip, f)).collect();
        self.chain("pstrt", Hook::nat("postrouting", priority), rules)
    }

    fn acl_input(&self) -> Chain {
        let dns = ["tcp", "udp"].map(|p| vec![Match::Transport(p), port(Side::Destination, 53)]);
        let dhcp = [67, 547].map(|n| vec![Match::Transport("udp"), port(Side::Destination, n)]);
        let icmp = [vec![Match::Icmp(Ip::V4, ICMP4_CORE.into())], vec![Match::Icmp(Ip::V6, ICMP6_IN.into())]];
        let allowed = dns.into_iter().chain(dhcp).chain(icmp);
        let mut rules: Vec<Rule> =
            allowed.map(|m| Rule::new([self.iif()].into_iter().chain(m), Action::Accept)).collect();
        rules.push(self.to_acl(self.iif()));
        self.chain("aclin", Hook::filter("input", 0), rules)
    }

    fn acl_output(&self) -> Chain {
        let dhcp = [67, 547].map(|n| vec![Match::Transport("udp"), port(Side::Source, n)]);
        let icmp = [vec![Match::Icmp(Ip::V4, ICMP4_CORE.into())], vec![Match::Icmp(Ip::V6, ICMP6_OUT.into())]];
        let allowed = dhcp.into_iter().chain(icmp);
        let mut rules: Vec<Rule> =
            allowed.map(|m| Rule::new([self.oif()].into_iter().chain(m), Action::Accept)).collect();
        rules.push(self.to_acl(self.oif()));
        self.chain("aclout", Hook::filter("output", 0), rules)
    }

    /// Packets within the bridge, which come here as well if br_netfilter is loaded, are not at its border.
    fn acl_forward(&self) -> Chain {
        let out = [self.iif(), Match::NotOif(self.link.clone())];
        let into = [self.oif(), Match::NotIif(self.link.clone())];
        let rules = [out, into].into_iter().map(|matches| Rule::new(matches, self.acl())).collect();
        self.chain("aclfwd", Hook::filter("forward", 0), rules)
    }

    fn to_acl(&self, link: Match) -> Rule {
        Rule::new([link], self.acl())
    }

    fn acl(&self) -> Action {
        Action::Jump(self.label.under("acl"))
    }

    fn acl_rules(&self, name: &NetworkName, policy: &Policy) -> Chain {
        let mut rules = vec![Rule::new([Match::Established], Action::Accept)];
        let link = |direction| match direction {
            Direction::Ingress => self.oif(),
            Direction::Egress => self.iif(),
        };
        rules.extend(policy.rules(name, Family::Inet, true, &link));
        self.chain("acl", None, rules)
    }
}

pub(super) fn port(side: Side, port: u16) -> Match {
    Match::Ports(side, vec![(port, port)])
}

/// Packets to another bridge of ours keep their source; all others to outside the subnet get another.
fn nat_rules(ip: Ip, family: &bridge::Family) -> Vec<Rule> {
    let Some(net) = family.address.map(|a| a.network()) else { return Vec::new() };
    let from = || Match::Address(ip, Side::Source, one(net));
    let out = Match::NotAddress(ip, Side::Destination, vec![AddressItem::Net(net)]);
    let action = family.nat_address.map_or(Action::Masquerade, |a| Action::Snat(a, None));
    vec![Rule::new([from(), Match::OifSet(Name::encode(BRIDGES))], Action::Accept), Rule::new([from(), out], action)]
}

pub(super) fn one(net: IpNet) -> Addresses {
    Addresses::List(vec![AddressItem::Net(net)])
}
