//! Rules of one NIC: anti-spoofing and ACLs of a port of a bridge, the reverse path of a routed NIC, priority of packets.
//!
//! A frame from the instance that may be forged is dropped before any rule accepts anything. Neighbour discovery is held to
//! the plain form every system sends – no extension headers, one option at most – because nft looks at fixed places of a
//! packet and another form would move a forged address past them.

use super::acl::{Policy, of_family};
use super::network::{one, port};
use super::refusal;
use super::rule::{Action, AddressItem, Addresses, Ip, Match, Name, Quoted, Rule, Side};
use super::script::{Chain, Family, Hook, Script};
use crate::base::inet::IpNet;
use crate::error::{Error, Result};
use crate::model::network::acl::Direction;
use crate::model::network::bridge::eui64;
use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What of nftables for bridges the kernel has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kernel {
    /// `ct` in family bridge (`nf_conntrack_bridge`, Linux 5.3).
    pub conntrack: bool,
    /// `reject` in family bridge (`nft_reject_bridge`); else what would be rejected is dropped.
    pub reject: bool,
}

/// How far a NIC's addresses are filtered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Allowed {
    /// Any address.
    Any,
    /// These only; none at all if empty.
    Only(Vec<IpNet>),
}

/// A NIC of a bridge as its rules need it.
#[derive(Debug, Clone)]
pub struct Port<'a> {
    /// See [`super::label`].
    pub label: Name,
    /// Name of the device, for the log.
    pub device: &'a str,
    /// Its end on the host.
    pub host_name: &'a str,
    /// Its MAC address.
    pub hwaddr: [u8; 6],
    /// `security.mac_filtering`; filtering of addresses implies it.
    pub mac_filtering: bool,
    /// `security.ipv4_filtering` with its addresses and routes.
    pub v4: Allowed,
    /// `security.ipv6_filtering` with its addresses and routes.
    pub v6: Allowed,
    /// `security.acls`.
    pub acls: Option<&'a Policy>,
    /// Name servers it may always ask.
    pub dns: Vec<IpAddr>,
    /// The bridge.
    pub bridge: &'a str,
    /// Addresses and subnets known to be its own, filtered or not.
    pub own: Vec<IpNet>,
}

const CHAINS: [&str; 3] = ["in", "fwd", "out"];
/// Before the bridge's own filters.
const PRIORITY: i32 = -200;
pub(super) const ARP: Match = Match::Protocol(&["arp"]);
const IP: Match = Match::Protocol(&["ip"]);
pub(super) const IP6: Match = Match::Protocol(&["ip6"]);

/// The rules of a NIC; replaces whatever rules it had.
///
/// # Errors
/// Unsupported: the kernel cannot track connections on bridges, and an ACL of the NIC needs that.
pub fn up(port: &Port<'_>, kernel: Kernel) -> Result<Script> {
    if port.acls.is_some_and(|policy| !policy.is_stateless()) && !kernel.conntrack {
        return Err(Error::unsupported("ACLs on NICs need connection tracking for bridges, which the kernel has not").hint(
            "The module is called nf_conntrack_bridge; ACLs on the network, and on NICs those with \"allow-stateless\" in \
             place of \"allow\", do without",
        ));
    }
    let mut script = Script::default();
    let guarded = port.spoof_rules();
    let chains = [port.input(&guarded, kernel), port.forward(&guarded, kernel), port.output(kernel)];
    for (prefix, rules) in CHAINS.into_iter().zip(chains) {
        let priority = if prefix == "out" { 0 } else { PRIORITY };
        let hook = match prefix {
            "in" => "input",
            "fwd" => "forward",
            _ => "output",
        };
        let name = port.label.under(prefix);
        script.replace_or_remove(Chain { family: Family::Bridge, name, hook: Hook::filter(hook, priority), rules });
    }
    script.append(refusal::up(port, &guarded, kernel));
    Ok(script)
}

/// Takes the rules of a NIC away.
pub fn down(label: &Name) -> Script {
    let mut script = Script::default();
    for prefix in CHAINS {
        script.remove(Family::Bridge, label.under(prefix));
    }
    script.append(refusal::down(label));
    script
}

/// Drops what a routed NIC sends from an address that is not routed to it.
pub fn reverse_path_up(label: &Name, host_name: &str) -> Script {
    let mut script = Script::default();
    let rules = vec![Rule::new([Match::Iif(Quoted::new(host_name)), Match::WrongPath], Action::Drop)];
    let hook = Hook::filter("prerouting", -300);
    script.replace(Chain { family: Family::Inet, name: label.under("prert"), hook, rules });
    script
}

/// Takes that away.
pub fn reverse_path_down(label: &Name) -> Script {
    let mut script = Script::default();
    script.remove(Family::Inet, label.under("prert"));
    script
}

/// `limits.priority`; the interface must be there. The chain goes with the interface.
pub fn priority_up(label: &Name, host_name: &str, priority: u32) -> Script {
    let mut script = Script::default();
    let device = Some(Quoted::new(host_name));
    let hook = Some(Hook { kind: "filter", hook: "egress", device, priority: 0 });
    let rules = vec![Rule::new([], Action::Priority(priority))];
    script.replace(Chain { family: Family::Netdev, name: label.under("egress.netprio"), hook, rules });
    script
}

/// Takes that away.
pub fn priority_down(label: &Name) -> Script {
    let mut script = Script::default();
    script.remove(Family::Netdev, label.under("egress.netprio"));
    script
}

impl Port<'_> {
    pub(super) fn iif(&self) -> Match {
        Match::Iif(Quoted::new(self.host_name))
    }

    fn oif(&self) -> Match {
        Match::Oif(Quoted::new(self.host_name))
    }

    fn filters_addresses(&self) -> bool {
        self.v4 != Allowed::Any || self.v6 != Allowed::Any
    }

    fn link(&self, direction: Direction) -> Match {
        match direction {
            Direction::Ingress => self.oif(),
            Direction::Egress => self.iif(),
        }
    }

    /// From the instance to the host.
    fn input(&self, guarded: &[Rule], kernel: Kernel) -> Vec<Rule> {
        if guarded.is_empty() && self.acls.is_none() {
            return Vec::new();
        }
        // Frames of others are done with at once.
        let mut rules = vec![Rule::new([Match::NotIif(Quoted::new(self.host_name))], Action::Accept)];
        rules.extend(guarded.iter().filter(|r| !is_source_check(r)).cloned());
        if self.v4 != Allowed::Only(Vec::new()) {
            rules.push(dhcp4_client());
        }
        if self.v6 != Allowed::Only(Vec::new()) {
            rules.extend(ipv6_clients());
        }
        rules.extend(guarded.iter().filter(|r| is_source_check(r)).cloned());
        let Some(policy) = self.acls else { return rules };
        rules.extend(answers(kernel));
        rules.extend(self.neighbours(&self.iif()));
        rules.extend(self.dns.iter().flat_map(|a| dns(*a, Side::Destination)));
        let link = |d| self.link(d);
        rules.extend(policy.rules_of(&[Direction::Egress], self.device, Family::Bridge, kernel.reject, &link));
        rules
    }

    /// Between the instance and others of the bridge.
    fn forward(&self, guarded: &[Rule], kernel: Kernel) -> Vec<Rule> {
        if guarded.is_empty() && self.acls.is_none() {
            return Vec::new();
        }
        let name = Quoted::new(self.host_name);
        let mut rules = vec![Rule::new([Match::NotIif(name.clone()), Match::NotOif(name)], Action::Accept)];
        rules.extend(guarded.iter().map(|r| {
            let matches = [self.iif()].into_iter().chain(r.matches.clone());
            Rule::new(matches, r.action.clone())
        }));
        let Some(policy) = self.acls else { return rules };
        rules.extend(answers(kernel));
        rules.extend(self.neighbours(&self.iif()));
        rules.extend(self.neighbours(&self.oif()));
        // The forward hook of a bridge cannot answer.
        rules.extend(policy.rules(self.device, Family::Bridge, false, &|d| self.link(d)));
        rules
    }

    /// From the host, and from elsewhere through it, to the instance.
    fn output(&self, kernel: Kernel) -> Vec<Rule> {
        let Some(policy) = self.acls else { return Vec::new() };
        let mut rules = vec![Rule::new([Match::NotOif(Quoted::new(self.host_name))], Action::Accept)];
        rules.extend(answers(kernel));
        rules.extend(refusal::answers());
        if !kernel.conntrack {
            rules.extend(self.dns.iter().flat_map(|a| dns(*a, Side::Source)));
        }
        rules.extend(self.neighbours(&self.oif()));
        let link_local = || Match::Address(Ip::V6, Side::Source, one(link_local(10)));
        let udp = || Match::Transport("udp");
        rules.push(Rule::new([IP, udp(), port(Side::Source, 67), port(Side::Destination, 68)], Action::Accept));
        rules.push(Rule::new([IP6, link_local(), udp(), port(Side::Source, 547)], Action::Accept));
        let icmp = Match::Icmp(Ip::V6, vec![1, 2, 3, 4, 128, 134, 135, 136, 143]);
        rules.push(Rule::new([IP6, link_local(), icmp], Action::Accept));
        let link = |d| self.link(d);
        rules.extend(policy.rules_of(&[Direction::Ingress], self.device, Family::Bridge, false, &link));
        rules
    }

    /// Without these nobody finds anybody.
    fn neighbours(&self, link: &Match) -> [Rule; 2] {
        let icmp = Match::Icmp(Ip::V6, vec![135, 136]);
        [Rule::new([link.clone(), ARP], Action::Accept), Rule::new([link.clone(), IP6, icmp], Action::Accept)]
    }

    /// Drops of what the instance may not send.
    fn spoof_rules(&self) -> Vec<Rule> {
        let mut matches: Vec<Vec<Match>> = Vec::new();
        if self.filters_addresses() {
            // A tagged frame would pass under the filters below.
            matches.push(vec![Match::NotEtherType(&["arp", "ip", "ip6"])]);
        }
        if self.mac_filtering || self.filters_addresses() {
            matches.push(vec![Match::NotEtherSource(self.hwaddr)]);
            matches.push(vec![ARP, Match::NotArpEther(self.hwaddr)]);
            matches.extend(self.discovery_rules());
        }
        match &self.v4 {
            Allowed::Any => {}
            Allowed::Only(nets) if nets.is_empty() => matches.extend([vec![ARP], vec![IP]]),
            Allowed::Only(nets) => matches.extend(ipv4_rules(nets)),
        }
        match &self.v6 {
            Allowed::Any => {}
            Allowed::Only(nets) if nets.is_empty() => matches.push(vec![IP6]),
            Allowed::Only(nets) => matches.extend(self.ipv6_rules(nets)),
        }
        matches.into_iter().map(|m| Rule::new(m, Action::Drop)).collect()
    }

    /// Link-layer addresses in neighbour discovery (RFC 4861, sections 4.1–4.4 and 4.6.1). From the network header on:
    /// 40 bytes of IPv6, then 8 of a router solicitation or 24 of a neighbour message, then the option's type, length, and
    /// address.
    fn discovery_rules(&self) -> Vec<Vec<Match>> {
        let own = hex(&self.hwaddr);
        let icmp = |types: &[u8]| Match::Icmp(Ip::V6, types.to_vec());
        let not_own = |at| Match::NotRaw(at, 48, own.clone());
        vec![
            vec![IP6, icmp(&[133, 135, 136]), Match::NotPlainIcmp6],
            vec![IP6, icmp(&[135, 136]), Match::NotIp6Length(&[24, 32])],
            vec![IP6, icmp(&[133]), Match::NotIp6Length(&[8, 16])],
            vec![IP6, icmp(&[136]), Match::Ip6Length(32), Match::NotRaw(512, 8, "2".into())],
            vec![IP6, icmp(&[136]), Match::Ip6Length(32), not_own(528)],
            vec![IP6, icmp(&[135]), Match::Ip6Length(32), Match::Raw(512, 8, "1".into()), not_own(528)],
            vec![IP6, icmp(&[133]), Match::Ip6Length(16), Match::Raw(384, 8, "1".into()), not_own(400)],
        ]
    }

    /// Router advertisements, redirects, DHCPv6 replies; advertised and source addresses.
    fn ipv6_rules(&self, nets: &[IpNet]) -> Vec<Vec<Match>> {
        let own = eui64(&link_local(64), self.hwaddr).map(|a| IpNet::host(a.into()));
        let all: Vec<IpNet> = nets.iter().copied().filter(|n| !n.is_ipv4()).chain(own).collect();
        let mut target = vec![IP6, Match::Icmp(Ip::V6, vec![136])];
        target.extend(all.iter().map(not_target));
        // An address that is only tried out has none as its source (RFC 4862, section 5.4.2).
        let none = IpNet::host(Ipv6Addr::UNSPECIFIED.into());
        let sources = all.iter().copied().chain([none]).map(AddressItem::Net).collect();
        vec![
            vec![IP6, Match::Icmp(Ip::V6, vec![134, 137])],
            vec![IP6, Match::Transport("udp"), port(Side::Source, 547)],
            target,
            vec![IP6, Match::NotAddress(Ip::V6, Side::Source, sources)],
        ]
    }
}

/// Link-local addresses: all of `fe80::/10` (RFC 4291, section 2.4), or the `/64` hosts make theirs in.
fn link_local(prefix: u8) -> IpNet {
    let address = IpAddr::V6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0));
    IpNet::new(address, prefix).unwrap_or(IpNet::host(address))
}

fn host(address: impl Into<IpAddr>) -> Addresses {
    one(IpNet::host(address.into()))
}

/// DHCP replies, ARP and source addresses. Whoever tries an address out asks with no address of its own (RFC 5227).
fn ipv4_rules(nets: &[IpNet]) -> Vec<Vec<Match>> {
    let own: Vec<AddressItem> = nets.iter().filter(|n| n.is_ipv4()).map(|n| AddressItem::Net(*n)).collect();
    let probe = AddressItem::Net(IpNet::host(Ipv4Addr::UNSPECIFIED.into()));
    let asking = own.iter().copied().chain([probe]).collect();
    vec![
        vec![IP, Match::Transport("udp"), port(Side::Source, 67)],
        vec![ARP, Match::NotArpIp(asking)],
        vec![IP, Match::NotAddress(Ip::V4, Side::Source, own)],
    ]
}

/// The check of a packet's source, which requests for an address come before.
fn is_source_check(rule: &Rule) -> bool {
    rule.matches.iter().any(|m| matches!(m, Match::NotAddress(_, Side::Source, _)))
}

pub(super) fn dhcp4_client() -> Rule {
    let matches = [
        IP,
        Match::Address(Ip::V4, Side::Source, host(Ipv4Addr::UNSPECIFIED)),
        Match::Address(Ip::V4, Side::Destination, host(Ipv4Addr::BROADCAST)),
        Match::Transport("udp"),
        port(Side::Destination, 67),
    ];
    Rule::new(matches, Action::Accept)
}

/// DHCPv6 and router solicitations to the host.
pub(super) fn ipv6_clients() -> [Rule; 2] {
    let to = |last| Match::Address(Ip::V6, Side::Destination, host(last));
    let from = || Match::Address(Ip::V6, Side::Source, one(link_local(10)));
    let servers = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 1, 2);
    let routers = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);
    let dhcp = [IP6, from(), to(servers), Match::Transport("udp"), port(Side::Destination, 547)];
    let solicitation = [IP6, from(), to(routers), Match::Icmp(Ip::V6, vec![133])];
    [Rule::new(dhcp, Action::Accept), Rule::new(solicitation, Action::Accept)]
}

/// Answers and what belongs to a connection that was let through, if the kernel knows.
pub(super) fn answers(kernel: Kernel) -> Option<Rule> {
    kernel.conntrack.then(|| Rule::new([Match::Established], Action::Accept))
}

/// To a name server, or from one.
pub(super) fn dns(server: IpAddr, side: Side) -> [Rule; 2] {
    let ip = Ip::of(server);
    ["tcp", "udp"].map(|protocol| {
        let at = Match::Address(ip, side, host(server));
        let matches = [of_family(Family::Bridge, ip), at, Match::Transport(protocol), port(side, 53)];
        Rule::new(matches, Action::Accept)
    })
}

/// The address a neighbour advertisement is about is outside `net`; it stands 8 bytes into the message.
fn not_target(net: &IpNet) -> Match {
    let IpAddr::V6(address) = net.network().address() else { return Match::NotRaw(384, 8, "0".into()) };
    // In whole bytes: wider than the prefix by seven bits at most.
    let bytes = usize::from(net.prefix() / 8).max(1);
    Match::NotRaw(384, u16::from(net.prefix() / 8).max(1) * 8, hex(&address.octets()[..bytes]))
}

/// Hexadecimal digits without leading zeros.
fn hex(bytes: &[u8]) -> String {
    let mut text = String::new();
    for byte in bytes {
        let _ = write!(text, "{byte:02x}");
    }
    let short = text.trim_start_matches('0');
    if short.is_empty() { "0".into() } else { short.to_string() }
}
