//! Network ACLs: records of rules, and their checks in the words of Incus.

use crate::base::inet::IpNet;
use crate::base::names::AclName;
use crate::error::{Context, Error, Result};
use crate::model::instance::Config;
use crate::model::keys::network::{checks, zone as keys};
use crate::model::network::range::IpRange;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// An ACL's record; its project and name are its place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Acl {
    /// Format of the record.
    pub format: u32,
    /// Free text.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// `user.` options.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub config: Config,
    /// Rules for traffic out of the instance.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub egress: Vec<AclRule>,
    /// Rules for traffic into the instance.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ingress: Vec<AclRule>,
}

macro_rules! rule_fields {
    ($($name:ident: $doc:literal,)*) => {
        /// One rule, as Incus's objects have it; an empty field says nothing.
        #[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
        #[serde(deny_unknown_fields)]
        pub struct AclRule {
            /// `allow`, `allow-stateless`, `drop` or `reject`.
            pub action: String,
            $(#[doc = $doc]
            #[serde(default, skip_serializing_if = "String::is_empty")]
            pub $name: String,)*
            /// `enabled`, `disabled` or `logged`.
            #[serde(default = "enabled")]
            pub state: String,
        }

        impl AclRule {
            /// The names of the fields.
            pub const FIELDS: &[&str] = &["action", $(stringify!($name),)* "state"];

            /// The field `name`.
            pub fn field(&mut self, name: &str) -> Option<&mut String> {
                match name {
                    "action" => Some(&mut self.action),
                    $(stringify!($name) => Some(&mut self.$name),)*
                    "state" => Some(&mut self.state),
                    _ => None,
                }
            }
        }
    };
}

rule_fields! {
    source: "Addresses, ranges, subnets, `$set`s it comes from.",
    destination: "Addresses, ranges, subnets, `$set`s it goes to.",
    protocol: "`tcp`, `udp`, `icmp4` or `icmp6`.",
    source_port: "Ports and ranges.",
    destination_port: "Ports and ranges.",
    icmp_type: "ICMP type, 0–255.",
    icmp_code: "ICMP code, 0–255.",
    description: "Free text.",
}

fn enabled() -> String {
    "enabled".to_string()
}

/// What a rule does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum AclAction {
    /// Silently not let through.
    Drop,
    /// Refused with an answer.
    Reject,
    /// Let through, replies as well.
    Allow,
    /// Let through; whether replies are is for other rules to say.
    AllowStateless,
}

impl AclAction {
    /// Reads an action.
    ///
    /// # Errors
    /// Invalid.
    pub fn parse(text: &str) -> Result<Self> {
        match text {
            "drop" => Ok(Self::Drop),
            "reject" => Ok(Self::Reject),
            "allow" => Ok(Self::Allow),
            "allow-stateless" => Ok(Self::AllowStateless),
            _ => Err(Error::invalid("Action must be one of: allow, allow-stateless, drop, reject")),
        }
    }
}

/// From the instance's point of view.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Into the instance.
    Ingress,
    /// Out of the instance.
    Egress,
}

impl Direction {
    /// The name Incus uses.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ingress => "ingress",
            Self::Egress => "egress",
        }
    }
}

/// One item of a source or destination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    /// An address or a subnet.
    Net(IpNet),
    /// A range of addresses.
    Range(IpRange),
    /// An address set.
    Set(String),
}

impl Subject {
    fn is_ipv4(&self) -> Option<bool> {
        match self {
            Self::Net(net) => Some(net.is_ipv4()),
            Self::Range(range) => Some(range.first().is_ipv4()),
            Self::Set(_) => None,
        }
    }
}

/// A rule, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParsedRule {
    /// What it does.
    pub action: AclAction,
    /// Also logged.
    pub logged: bool,
    /// Sources; empty is any.
    pub source: Vec<Subject>,
    /// Destinations; empty is any.
    pub destination: Vec<Subject>,
    /// Protocol; none is any.
    pub protocol: Option<AclProtocol>,
}

/// A rule's protocol with what belongs to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AclProtocol {
    /// TCP or UDP with ports; an empty list is any.
    Ports {
        /// UDP, else TCP.
        udp: bool,
        /// Source ports, first and last.
        source: Vec<(u16, u16)>,
        /// Destination ports, first and last.
        destination: Vec<(u16, u16)>,
    },
    /// ICMP.
    Icmp {
        /// ICMPv6, else ICMPv4.
        v6: bool,
        /// Type.
        kind: Option<u8>,
        /// Code.
        code: Option<u8>,
    },
}

impl AclRule {
    /// The fields without blanks at the ends, as Incus stores them.
    #[must_use]
    pub fn normalised(&self) -> Self {
        let trim = |text: &str| text.split(',').map(str::trim).collect::<Vec<_>>().join(",");
        Self {
            action: self.action.trim().into(),
            source: trim(&self.source),
            destination: trim(&self.destination),
            protocol: self.protocol.trim().into(),
            source_port: trim(&self.source_port),
            destination_port: trim(&self.destination_port),
            icmp_type: self.icmp_type.trim().into(),
            icmp_code: self.icmp_code.trim().into(),
            description: self.description.trim().into(),
            state: self.state.trim().into(),
        }
    }

    /// Names of the address sets it mentions.
    pub fn sets(&self) -> impl Iterator<Item = &str> {
        let items = self.source.split(',').chain(self.destination.split(','));
        items.filter_map(|item| item.trim().strip_prefix('$'))
    }

    /// Is it in force?
    pub fn is_enabled(&self) -> bool {
        self.state != "disabled"
    }

    /// Reads a rule. `set_exists` says whether there is an address set of that name.
    ///
    /// # Errors
    /// Invalid; Unsupported for selectors that need OVN.
    pub fn parse(&self, direction: Direction, set_exists: &dyn Fn(&str) -> bool) -> Result<ParsedRule> {
        let action = AclAction::parse(&self.action)?;
        if !matches!(self.state.as_str(), "enabled" | "disabled" | "logged") {
            return Err(Error::invalid("State must be one of: enabled, disabled, logged"));
        }
        if self.description.chars().any(char::is_control) {
            return Err(Error::invalid("Description cannot contain control characters"));
        }
        let named_source = direction == Direction::Ingress;
        let source = subjects(&self.source, "Source", named_source, direction, set_exists)?;
        let destination = subjects(&self.destination, "Destination", !named_source, direction, set_exists)?;
        check_families(&source, &destination)?;
        let protocol = self.parse_protocol()?;
        if let Some(AclProtocol::Icmp { v6, .. }) = protocol {
            for (list, what) in [(&source, "source"), (&destination, "destination")] {
                if list.iter().any(|s| s.is_ipv4() == Some(v6)) {
                    let family = if v6 { "IPv4" } else { "IPv6" };
                    let message = format!("Cannot use {family} {what} addresses with {:?} protocol", self.protocol);
                    return Err(Error::invalid(message));
                }
            }
        }
        Ok(ParsedRule { action, logged: self.state == "logged", source, destination, protocol })
    }

    fn parse_protocol(&self) -> Result<Option<AclProtocol>> {
        let wrong = |message: String| Err(Error::invalid(message));
        let icmp = [(&self.icmp_type, "ICMP type"), (&self.icmp_code, "ICMP code")];
        let ports = [(&self.source_port, "Source port"), (&self.destination_port, "Destination port")];
        match self.protocol.as_str() {
            "tcp" | "udp" => {
                if let Some((_, what)) = icmp.iter().find(|(text, _)| !text.is_empty()) {
                    return wrong(format!("{what} cannot be used with non-ICMP protocol"));
                }
                let [source, destination] =
                    ports.map(|(text, what)| port_list(text).with_context(|| format!("Invalid {what}")));
                let udp = self.protocol == "udp";
                Ok(Some(AclProtocol::Ports { udp, source: source?, destination: destination? }))
            }
            "icmp4" | "icmp6" => {
                if let Some((_, what)) = ports.iter().find(|(text, _)| !text.is_empty()) {
                    return wrong(format!("{what} cannot be used with {:?} protocol", self.protocol));
                }
                let [kind, code] = icmp.map(|(text, what)| octet(text).with_context(|| format!("Invalid {what}")));
                let (kind, code) = (kind?, code?);
                if kind.is_none() && code.is_some() {
                    return wrong("ICMP code cannot be used without ICMP type".into());
                }
                Ok(Some(AclProtocol::Icmp { v6: self.protocol == "icmp6", kind, code }))
            }
            "" => match icmp.iter().chain(&ports).find(|(text, _)| !text.is_empty()) {
                Some((_, what)) => wrong(format!("{what} cannot be used without specifying protocol")),
                None => Ok(None),
            },
            _ => wrong("Protocol must be one of: icmp4, icmp6, tcp, udp".into()),
        }
    }
}

fn octet(text: &str) -> Result<Option<u8>> {
    match text {
        "" => Ok(None),
        text => text
            .parse()
            .map(Some)
            .map_err(|_| Error::invalid(format!("Invalid value for an integer {text:?}. Must be between 0 and 255"))),
    }
}

fn port_list(text: &str) -> Result<Vec<(u16, u16)>> {
    text.split(',').map(str::trim).filter(|t| !t.is_empty()).map(checks::port_range).collect()
}

fn check_families(source: &[Subject], destination: &[Subject]) -> Result<()> {
    let has = |list: &[Subject], family: Option<bool>| list.iter().any(|s| s.is_ipv4() == family);
    let alone = |a: &[Subject], b: &[Subject]| {
        [Some(true), Some(false)].iter().any(|f| has(a, *f) && !b.is_empty() && !has(b, *f) && !has(b, None))
    };
    if alone(source, destination) || alone(destination, source) {
        return Err(Error::invalid("Conflicting IP family types used for Source and Destination"));
    }
    Ok(())
}

fn subjects(
    text: &str,
    field: &str,
    named: bool,
    direction: Direction,
    set_exists: &dyn Fn(&str) -> bool,
) -> Result<Vec<Subject>> {
    let one = |item: &str| {
        subject(item, set_exists).and_then(|s| match s {
            Some(s) => Ok(s),
            None if named => Err(Error::unsupported(format!("Subject {item:?} is not supported by this version"))
                .hint("Selectors of ACLs and networks need networks of type \"ovn\"")),
            None => {
                let direction = direction.as_str();
                Err(Error::invalid(format!("Named subjects not allowed in {field:?} for {direction:?} rules")))
            }
        })
    };
    let items = text.split(',').map(str::trim);
    let list: Result<Vec<_>> = if text.is_empty() { Ok(Vec::new()) } else { items.map(one).collect() };
    list.with_context(|| format!("Invalid {field}"))
}

/// Reads one item; `None` for a name (`@internal`, an ACL), which only OVN can resolve.
fn subject(item: &str, set_exists: &dyn Fn(&str) -> bool) -> Result<Option<Subject>> {
    if let Ok(address) = item.parse::<IpAddr>() {
        return Ok(Some(Subject::Net(IpNet::host(address))));
    }
    if let Ok(net) = item.parse::<IpNet>() {
        return Ok(Some(Subject::Net(net.network())));
    }
    if let Ok(range) = IpRange::parse(item) {
        return Ok(Some(Subject::Range(range)));
    }
    if let Some(name) = item.strip_prefix('$') {
        crate::base::names::AddressSetName::parse(name)?;
        return match set_exists(name) {
            true => Ok(Some(Subject::Set(name.to_string()))),
            false => Err(Error::not_found("Network address set not found")
                .context(format!("Failed getting network address set {name:?} for subject validation"))),
        };
    }
    let named = item.starts_with('@') || item.starts_with('#') || AclName::parse(item).is_ok();
    if named { Ok(None) } else { Err(Error::invalid(format!("Invalid subject {item:?}"))) }
}

impl Acl {
    /// Rules of one direction.
    pub fn rules(&self, direction: Direction) -> &[AclRule] {
        match direction {
            Direction::Ingress => &self.ingress,
            Direction::Egress => &self.egress,
        }
    }

    /// Does a rule mention this address set?
    pub fn mentions(&self, set: &str) -> bool {
        self.egress.iter().chain(&self.ingress).any(|rule| rule.sets().any(|name| name == set))
    }

    /// Checks the whole. `set_exists` says whether there is an address set of that name.
    ///
    /// # Errors
    /// See [`AclRule::parse`].
    pub fn validate(&self, set_exists: &dyn Fn(&str) -> bool) -> Result<()> {
        keys::check(keys::USER_ONLY, &self.config)?;
        for direction in [Direction::Ingress, Direction::Egress] {
            let (rules, name) = (self.rules(direction), direction.as_str());
            for (i, rule) in rules.iter().enumerate() {
                rule.parse(direction, set_exists).with_context(|| format!("Invalid {name} rule {i}"))?;
                if rules[..i].contains(rule) {
                    return Err(Error::invalid(format!("Duplicate of {name} rule {i}")));
                }
            }
        }
        Ok(())
    }
}
