//! What an ACL of a NIC refuses: thrown away, and its sender told at once.
//!
//! A bridge can answer before it has looked where a frame goes, and what it hands to the host, but not what it passes on or
//! what the host sends. So a packet from another port is refused in the prerouting hook, where the NIC is known by its MAC
//! address, and one that comes through the host in the family inet, where it is known by its own addresses. What is refused
//! by neither – a NIC that has taken another MAC address, or an address nobody knows of – is dropped by the chains of
//! [`super::nic`], which decide in any case.

use super::nic::{self, ARP, IP6, Kernel, Port};
use super::rule::{Action, AddressItem, Addresses, Ip, Match, Name, Quoted, Rule, Side};
use super::script::{Chain, Family, Hook, Script};
use crate::model::network::acl::Direction;

/// Behind the kernel's own look at connections on a bridge (−200), before it looks where a frame goes.
const BRIDGE_PRIORITY: i32 = -150;
/// Behind the rules of networks.
const INET_PRIORITY: i32 = 1;
const BRIDGE: &str = "prert";
const INET: [&str; 3] = ["rej", "rejfwd", "rejout"];

/// The refusals of a NIC; replaces those it had. `guarded`: what it may not send.
pub(super) fn up(port: &Port<'_>, guarded: &[Rule], kernel: Kernel) -> Script {
    let mut script = Script::default();
    let (name, hook) = (port.label.under(BRIDGE), Hook::filter("prerouting", BRIDGE_PRIORITY));
    let rules = at_bridge(port, guarded, kernel);
    script.replace_or_remove(Chain { family: Family::Bridge, name, hook, rules });
    let rules = through_host(port);
    let jumps = if rules.is_empty() { Vec::new() } else { jumps(port) };
    let [refused, forward, output] = INET.map(|prefix| port.label.under(prefix));
    let chains = match jumps.is_empty() {
        true => [(refused, None, Vec::new()), (forward, None, Vec::new()), (output, None, Vec::new())],
        false => [
            (refused, None, rules),
            (forward, Hook::filter("forward", INET_PRIORITY), jumps.clone()),
            (output, Hook::filter("output", INET_PRIORITY), jumps),
        ],
    };
    for (name, hook, rules) in chains {
        script.replace_or_remove(Chain { family: Family::Inet, name, hook, rules });
    }
    script
}

/// Takes them away.
pub(super) fn down(label: &Name) -> Script {
    let mut script = Script::default();
    script.remove(Family::Bridge, label.under(BRIDGE));
    for prefix in INET {
        script.remove(Family::Inet, label.under(prefix));
    }
    script
}

/// What nft answers where something is refused: of no connection that the kernel knows, and nothing that could be answered
/// itself. Whoever sent nothing takes no notice of it.
pub(super) fn answers() -> [Rule; 2] {
    let of = |ip, kind, code| Rule::new([Match::Icmp(ip, vec![kind]), Match::IcmpCode(ip, code)], Action::Accept);
    [of(Ip::V4, 3, 3), of(Ip::V6, 1, 4)]
}

/// From the NIC, and from other ports to it.
fn at_bridge(port: &Port<'_>, guarded: &[Rule], kernel: Kernel) -> Vec<Rule> {
    let Some(policy) = port.acls.filter(|_| kernel.reject) else { return Vec::new() };
    let out = policy.refusals(Direction::Egress, port.device, Family::Bridge, &port.iif());
    let to = Match::EtherDestination(port.hwaddr);
    let into = policy.refusals(Direction::Ingress, port.device, Family::Bridge, &to);
    if out.is_empty() && into.is_empty() {
        return Vec::new();
    }
    let from_it = |rule: &Rule| Rule::new([port.iif()].into_iter().chain(rule.matches.clone()), Action::Accept);
    // What it forges is thrown away without a word, later.
    let mut rules: Vec<Rule> = guarded.iter().map(from_it).collect();
    rules.extend(nic::answers(kernel));
    rules.push(Rule::new([ARP], Action::Accept));
    rules.push(Rule::new([IP6, Match::Icmp(Ip::V6, vec![135, 136])], Action::Accept));
    let asked = [nic::dhcp4_client()].into_iter().chain(nic::ipv6_clients());
    let asked = asked.chain(port.dns.iter().flat_map(|a| nic::dns(*a, Side::Destination)));
    rules.extend(asked.map(|rule| from_it(&rule)));
    rules.extend(out);
    rules.extend(into);
    rules
}

/// Into what is refused; what goes to another port of the same bridge comes here as well if br_netfilter is loaded.
fn jumps(port: &Port<'_>) -> Vec<Rule> {
    let bridge = || Quoted::new(port.bridge);
    let own = |ip| -> Vec<AddressItem> {
        port.own.iter().filter(|net| Ip::of(net.address()) == ip).map(|net| AddressItem::Net(*net)).collect()
    };
    let jump = |ip| {
        let items = own(ip);
        let to = Match::Address(ip, Side::Destination, Addresses::List(items.clone()));
        let matches = [Match::Oif(bridge()), Match::NotIif(bridge()), to];
        (!items.is_empty()).then(|| Rule::new(matches, Action::Jump(port.label.under(INET[0]))))
    };
    [Ip::V4, Ip::V6].into_iter().filter_map(jump).collect()
}

/// From the host, and from elsewhere through it.
fn through_host(port: &Port<'_>) -> Vec<Rule> {
    let Some(policy) = port.acls else { return Vec::new() };
    let link = Match::Oif(Quoted::new(port.bridge));
    let refused = policy.refusals(Direction::Ingress, port.device, Family::Inet, &link);
    if refused.is_empty() {
        return refused;
    }
    let from = |number| vec![Match::Transport("udp"), Match::Ports(Side::Source, vec![(number, number)])];
    // Servers of addresses, and what every router says.
    let needed = [from(67), from(547), vec![Match::Icmp(Ip::V6, vec![134, 135, 136, 143])]];
    let mut rules = vec![Rule::new([Match::Established], Action::Accept)];
    rules.extend(needed.into_iter().map(|matches| Rule::new(matches, Action::Accept)));
    rules.extend(refused);
    rules
}
