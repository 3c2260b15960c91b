//! ACLs made rules: for a network in the family inet, for a NIC in the family bridge; and address sets.

use super::rule::{Action, AddressItem, Addresses, Ip, Match, Name, Rule, Side};
use super::script::{Family, Script};
use crate::base::names::{AddressSetName, ProjectName};
use crate::error::{Context, Result};
use crate::model::network::acl::{Acl, AclAction, AclProtocol, Direction, ParsedRule, Subject};
use crate::model::network::address_set::AddressSet;
use std::collections::BTreeSet;

/// What happens to packets of one direction that no rule is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fallback {
    /// What is done.
    pub action: AclAction,
    /// Also logged.
    pub logged: bool,
}

/// The ACLs of a network or a NIC, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// Project whose address sets the rules name.
    project: ProjectName,
    rules: Vec<(Direction, usize, ParsedRule)>,
    ingress: Fallback,
    egress: Fallback,
}

impl Policy {
    /// Reads the rules of `acls`, those that are not disabled.
    ///
    /// # Errors
    /// See [`crate::model::network::acl::AclRule::parse`].
    pub fn new(project: &ProjectName, acls: &[&Acl], ingress: Fallback, egress: Fallback) -> Result<Self> {
        let mut rules = Vec::new();
        for direction in [Direction::Egress, Direction::Ingress] {
            let all = acls.iter().flat_map(|acl| acl.rules(direction).iter().enumerate());
            for (i, rule) in all.filter(|(_, r)| r.is_enabled()) {
                // Sets cannot be deleted while a rule names them.
                let parsed = rule.parse(direction, &|_| true);
                let parsed = parsed.with_context(|| format!("Invalid {} rule {i}", direction.as_str()))?;
                rules.push((direction, i, parsed));
            }
        }
        rules.sort_by_key(|(_, _, rule)| rank(rule.action));
        Ok(Self { project: project.clone(), rules, ingress, egress })
    }

    /// Names of the address sets that the rules need.
    pub fn sets(&self) -> BTreeSet<&str> {
        let subjects = self.rules.iter().flat_map(|(_, _, rule)| rule.source.iter().chain(&rule.destination));
        subjects
            .filter_map(|subject| if let Subject::Set(name) = subject { Some(name.as_str()) } else { None })
            .collect()
    }

    /// Nothing in it lets answers through by itself, so it can be held without tracking connections.
    pub fn is_stateless(&self) -> bool {
        let defaults = [self.ingress.action, self.egress.action];
        self.rules.iter().map(|(_, _, rule)| rule.action).chain(defaults).all(|action| action != AclAction::Allow)
    }

    /// The default of a direction.
    pub fn default(&self, direction: Direction) -> Fallback {
        match direction {
            Direction::Ingress => self.ingress,
            Direction::Egress => self.egress,
        }
    }

    /// The rules in their order: drop, reject, allow, and the defaults at last. `subject`: name of the network or NIC for the
    /// log. `rejects`: this hook can answer; else what would be rejected is dropped. `link`: the interface of a direction.
    pub(super) fn rules(
        &self,
        subject: &str,
        family: Family,
        rejects: bool,
        link: &dyn Fn(Direction) -> Match,
    ) -> Vec<Rule> {
        let directions = [Direction::Egress, Direction::Ingress];
        self.rules_of(&directions, subject, family, rejects, link)
    }

    pub(super) fn rules_of(
        &self,
        directions: &[Direction],
        subject: &str,
        family: Family,
        rejects: bool,
        link: &dyn Fn(Direction) -> Match,
    ) -> Vec<Rule> {
        let mut all = Vec::new();
        for (direction, i, rule) in self.rules.iter().filter(|(d, _, _)| directions.contains(d)) {
            let log = rule.logged.then(|| format!("{subject}-{}-{i}", direction.as_str()));
            let action = action(rule.action, rejects);
            for matches in matches(rule, family, &self.project) {
                let matches = [link(*direction)].into_iter().chain(matches);
                all.push(Rule::new(matches, action.clone()).logged(log.clone()));
            }
        }
        for direction in directions {
            let default = self.default(*direction);
            let log = default.logged.then(|| format!("{subject}-{}", direction.as_str()));
            all.push(Rule::new([link(*direction)], action(default.action, rejects)).logged(log));
        }
        all
    }

    /// What of a direction is refused, for a hook that comes before the one that decides: what is not refused leaves this
    /// chain, and is logged where it is dropped or let through. Nothing if nothing is refused.
    pub(super) fn refusals(&self, direction: Direction, subject: &str, family: Family, link: &Match) -> Vec<Rule> {
        let mut all = self.rules_of(&[direction], subject, family, true, &|_| link.clone());
        let last = all.iter().rposition(|rule| rule.action == Action::Reject);
        all.truncate(last.map_or(0, |at| at + 1));
        for rule in all.iter_mut().filter(|rule| rule.action != Action::Reject) {
            (rule.action, rule.log) = (Action::Accept, None);
        }
        all
    }
}

fn rank(action: AclAction) -> u8 {
    match action {
        AclAction::Drop => 0,
        AclAction::Reject => 1,
        AclAction::Allow | AclAction::AllowStateless => 2,
    }
}

/// The kernel tracks connections on a bridge for NAT anyway, so a stateless allow differs from the other only in that it does
/// not need the state to let further packets through.
fn action(action: AclAction, rejects: bool) -> Action {
    match action {
        AclAction::Drop => Action::Drop,
        AclAction::Reject if rejects => Action::Reject,
        AclAction::Reject => Action::Drop,
        AclAction::Allow | AclAction::AllowStateless => Action::Accept,
    }
}

/// What a rule matches: one list per family of addresses, and per set and list of addresses, since nft has no "or".
fn matches(rule: &ParsedRule, family: Family, project: &ProjectName) -> Vec<Vec<Match>> {
    let icmp = match rule.protocol {
        Some(AclProtocol::Icmp { v6, .. }) => Some(if v6 { Ip::V6 } else { Ip::V4 }),
        _ => None,
    };
    let addressless = rule.source.is_empty() && rule.destination.is_empty();
    if addressless && icmp.is_none() && family == Family::Inet {
        return vec![protocol(rule)];
    }
    let mut all = Vec::new();
    for ip in [Ip::V4, Ip::V6].into_iter().filter(|ip| icmp.is_none_or(|only| only == *ip)) {
        let sources = addresses(&rule.source, Side::Source, ip, project);
        let destinations = addresses(&rule.destination, Side::Destination, ip, project);
        for source in &sources {
            for destination in &destinations {
                let mut one = vec![of_family(family, ip)];
                one.extend(source.iter().chain(destination).cloned());
                one.extend(protocol(rule));
                all.push(one);
            }
        }
    }
    all
}

pub(super) fn of_family(family: Family, ip: Ip) -> Match {
    match (family, ip) {
        (Family::Inet, ip) => Match::Family(ip),
        (_, Ip::V4) => Match::Protocol(&["ip"]),
        (_, Ip::V6) => Match::Protocol(&["ip6"]),
    }
}

/// The ways one side can match: `[None]` if it says nothing, nothing if it has only addresses of the other family.
fn addresses(subjects: &[Subject], side: Side, ip: Ip, project: &ProjectName) -> Vec<Option<Match>> {
    if subjects.is_empty() {
        return vec![None];
    }
    let literals: Vec<AddressItem> = subjects.iter().filter_map(item).filter(|i| family_of(i) == ip).collect();
    let sets = subjects.iter().filter_map(|s| match s {
        Subject::Set(name) => Some(set_name(project, name, ip)),
        _ => None,
    });
    let list = (!literals.is_empty()).then_some(Addresses::List(literals));
    list.into_iter().chain(sets.map(Addresses::Set)).map(|a| Some(Match::Address(ip, side, a))).collect()
}

fn item(subject: &Subject) -> Option<AddressItem> {
    match subject {
        Subject::Net(net) => Some(AddressItem::Net(*net)),
        Subject::Range(range) => Some(AddressItem::Range(*range)),
        Subject::Set(_) => None,
    }
}

fn family_of(item: &AddressItem) -> Ip {
    match item {
        AddressItem::Net(net) => Ip::of(net.address()),
        AddressItem::Range(range) => Ip::of(range.first()),
    }
}

fn protocol(rule: &ParsedRule) -> Vec<Match> {
    match &rule.protocol {
        None => Vec::new(),
        Some(AclProtocol::Ports { udp, source, destination }) => {
            let mut all = vec![Match::Transport(if *udp { "udp" } else { "tcp" })];
            let sides = [(Side::Source, source), (Side::Destination, destination)];
            all.extend(sides.into_iter().filter(|(_, p)| !p.is_empty()).map(|(s, p)| Match::Ports(s, merged(p))));
            all
        }
        Some(AclProtocol::Icmp { v6, kind, code }) => {
            let ip = if *v6 { Ip::V6 } else { Ip::V4 };
            let mut all = vec![Match::Icmp(ip, kind.iter().copied().collect())];
            all.extend(code.map(|code| Match::IcmpCode(ip, code)));
            all
        }
    }
}

/// Ports without overlaps, which nft refuses in one list.
fn merged(ports: &[(u16, u16)]) -> Vec<(u16, u16)> {
    let mut sorted = ports.to_vec();
    sorted.sort_unstable();
    let mut all: Vec<(u16, u16)> = Vec::new();
    for (first, last) in sorted {
        match all.last_mut() {
            Some((_, end)) if first <= *end => *end = last.max(*end),
            _ => all.push((first, last)),
        }
    }
    all
}

fn set_name(project: &ProjectName, name: &str, ip: Ip) -> Name {
    let version = if ip == Ip::V4 { "ipv4" } else { "ipv6" };
    let whole = match project.is_default() {
        true => format!("{name}_{version}"),
        false => format!("{}_{name}_{version}", Name::encode_part(project)),
    };
    // A name that begins with a digit is a number to nft.
    Name::encode(&format!("set.{whole}"))
}

const SET_KINDS: [(Ip, &str); 2] = [(Ip::V4, "ipv4_addr"), (Ip::V6, "ipv6_addr")];

/// The kind of a set, by its name; none if it is no address set.
pub(super) fn set_family(name: &str) -> Option<&'static str> {
    let version = name.strip_prefix("set.")?.rsplit('_').next()?;
    let ip = match version {
        "ipv4" => Ip::V4,
        "ipv6" => Ip::V6,
        _ => return None,
    };
    SET_KINDS.iter().find(|(own, _)| *own == ip).map(|(_, kind)| *kind)
}

/// What nft calls the sets of an address set.
pub fn set_names(project: &ProjectName, name: &AddressSetName) -> [String; 2] {
    [Ip::V4, Ip::V6].map(|ip| set_name(project, name.as_str(), ip).to_string())
}

/// Puts an address set in place, for rules of networks and of NICs. To be applied before rules that name it.
///
/// # Errors
/// Invalid: an address is none.
pub fn set_up(project: &ProjectName, name: &AddressSetName, set: &AddressSet) -> Result<Script> {
    let items: Vec<AddressItem> = set.items()?.iter().filter_map(item).collect();
    let mut script = Script::default();
    for family in [Family::Inet, Family::Bridge] {
        for (ip, kind) in SET_KINDS {
            let own = items.iter().copied().filter(|i| family_of(i) == ip).collect();
            script.replace_set(family, set_name(project, name, ip), kind, own);
        }
    }
    Ok(script)
}

/// Takes an address set away; no rule may name it.
pub fn set_down(project: &ProjectName, name: &AddressSetName) -> Script {
    let mut script = Script::default();
    for family in [Family::Inet, Family::Bridge] {
        for (ip, kind) in SET_KINDS {
            script.remove_set(family, set_name(project, name, ip), kind);
        }
    }
    script
}
