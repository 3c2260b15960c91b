//! Living beside other firewalls.
//!
//! A packet passes if no chain of its hook drops it, so what our chains accept may still be dropped by another table. Hosts
//! with Docker, ufw or firewalld need more, and none of them has to be set up by the user for it:
//!
//! - **Docker** sets the policy of `ip filter FORWARD` to drop and leaves the rest of that chain to itself and others. Two
//!   accept rules for the bridge are *appended* there: they only undo the policy. In `DOCKER-USER`, at the head, they would
//!   open ports of Docker's containers that are not published.
//! - **ufw** has the policies of INPUT and FORWARD at drop or reject, and chains of its own that end in one of them. Accept
//!   rules go to the head of `ufw-after-input` and `ufw-after-forward` (`ufw6-` for IPv6), which come behind the rules of
//!   the administrator, so what those deny stays denied. INPUT gets DHCP and DNS from the bridge only.
//! - Any other **iptables-nft** set-up with those policies is treated as Docker's.
//! - **firewalld** lets nobody into its table and forgets foreign rules at each reload; the bridge is put into its zone
//!   `trusted` for the running configuration, by its own command.
//! - Other tables whose input or forward hook drops by policy are somebody's own work: they are named ([`Fix::blockers`])
//!   and left alone, as is iptables-legacy, which nft cannot see.
//!
//! Each added rule has a comment, `stapes:<network>:<digest of the rule>`, by which it is found, renewed after a reload of
//! the other program, and taken away exactly; nothing without it is ever touched. The rules use only what iptables-nft can
//! show, so that `iptables -L` goes on working.
//!
//! Input is the output of `nft -j -a list ruleset`; a rule that vanished between that and the change fails the transaction
//! and is no loss: the caller reads again.

use super::rule::Quoted;
use super::{Script, Tables};
use crate::base::names::NetworkName;
use crate::error::{Error, Result};
use crate::model::network::bridge::Bridge;
use serde::Deserialize;
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;
use std::fmt::Write;

/// What is there, as far as it matters.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ruleset {
    chains: Vec<Chain>,
    rules: Vec<Marked>,
    trusted: BTreeSet<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct Chain {
    family: String,
    table: String,
    name: String,
    hook: Option<String>,
    policy: Option<String>,
}

/// A rule of firewalld for an interface: what it is compared with, and where it goes on.
#[derive(Deserialize)]
struct Zoned {
    table: String,
    expr: Vec<serde_json::Value>,
}

impl Zoned {
    /// The interface, if it is in firewalld's zone `trusted`.
    fn trusted(&self) -> Option<String> {
        let right = |e: &serde_json::Value| {
            let one = e.pointer("/match")?;
            let by_name = one.pointer("/left/meta/key")? == "iifname";
            by_name.then(|| one.pointer("/right")?.as_str().map(str::to_string)).flatten()
        };
        let goes = |e: &serde_json::Value| {
            let to = e.pointer("/goto/target").or(e.pointer("/jump/target"));
            to.and_then(serde_json::Value::as_str).is_some_and(|to| to.starts_with("filter_IN_trusted"))
        };
        let ours = self.table == FIREWALLD && self.expr.iter().any(goes);
        ours.then(|| self.expr.iter().find_map(right)).flatten()
    }
}

const FIREWALLD: &str = "firewalld";

/// A rule with a comment.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct Marked {
    family: String,
    table: String,
    chain: String,
    handle: u64,
    comment: String,
}

#[derive(Deserialize)]
struct Document {
    nftables: Vec<serde_json::Map<String, serde_json::Value>>,
}

impl Fix {
    /// Nothing is to be done.
    pub fn is_empty(&self) -> bool {
        self.script.is_empty() && self.firewalld.is_none()
    }
}

impl Ruleset {
    /// Reads the output of `nft -j -a list ruleset`. What is not understood is left out.
    ///
    /// # Errors
    /// Failed: it is not of that form at all.
    pub fn parse(json: &str) -> Result<Self> {
        let document: Document = serde_json::from_str(json)
            .map_err(|e| Error::failed(format!("Failed reading the list of nft rules: {e}")))?;
        let mut all = Self::default();
        for (kind, value) in document.nftables.into_iter().flatten() {
            match kind.as_str() {
                "chain" => all.chains.extend(serde_json::from_value::<Chain>(value).ok()),
                "rule" => {
                    all.trusted.extend(serde_json::from_value::<Zoned>(value.clone()).ok().and_then(|r| r.trusted()));
                    all.rules.extend(serde_json::from_value::<Marked>(value).ok());
                }
                _ => {}
            }
        }
        Ok(all)
    }

    /// Are all the chains there that a script makes?
    pub fn has_all(&self, tables: &Tables, script: &Script) -> bool {
        let table = tables.name().to_string();
        script.chains().all(|(family, name)| self.has(family.word(), &table, &name.to_string()))
    }

    fn has(&self, family: &str, table: &str, name: &str) -> bool {
        self.chains.iter().any(|c| c.family == family && c.table == table && c.name == name)
    }

    fn has_firewalld(&self) -> bool {
        self.chains.iter().any(|c| c.table == FIREWALLD)
    }

    fn drops(&self, family: &str, name: &str) -> bool {
        let is = |c: &&Chain| c.family == family && c.table == "filter" && c.name == name;
        self.chains.iter().find(is).is_some_and(|c| c.policy.as_deref() == Some("drop"))
    }

    /// Chains that drop by policy and are neither ours nor of a program we know.
    fn blockers(&self, tables: &Tables) -> Vec<String> {
        let hooks = ["input", "forward", "output"];
        let known = |c: &Chain| {
            let compat = c.table == "filter" && matches!(c.name.as_str(), "INPUT" | "FORWARD");
            compat || c.table == FIREWALLD || c.table == tables.name().to_string()
        };
        let drops = |c: &&Chain| {
            c.policy.as_deref() == Some("drop") && c.hook.as_deref().is_some_and(|h| hooks.contains(&h)) && !known(c)
        };
        self.chains.iter().filter(drops).map(|c| format!("{} {} {}", c.family, c.table, c.name)).collect()
    }
}

/// What to do about other firewalls.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fix {
    /// One transaction for `nft -f -`; empty if nothing is to do.
    pub script: String,
    /// Arguments for `firewall-cmd`, if firewalld runs.
    pub firewalld: Option<Vec<String>>,
    /// Chains that drop and are left alone: `family table chain`.
    pub blockers: Vec<String>,
}

/// A rule we want: family, chain, whether at the head, and its text.
struct Wanted {
    family: &'static str,
    chain: String,
    head: bool,
    text: String,
}

/// Makes way for a bridge that is up. To be called again whenever a command sees the network: what is in place costs nothing.
pub fn up(tables: &Tables, name: &NetworkName, bridge: &Bridge, there: &Ruleset) -> Fix {
    let mut wanted = Vec::new();
    for (family, of) in [("ip", &bridge.v4), ("ip6", &bridge.v6)] {
        if !of.firewall || of.address.is_none() {
            continue;
        }
        if of.routing {
            wanted.extend(wanted_in(there, family, "forward", forward_rules(name)));
        }
        wanted.extend(wanted_in(there, family, "input", input_rules(name, family)));
    }
    let zone = ["--zone=trusted".to_string(), format!("--change-interface={name}")];
    Fix {
        script: script(tables, name, &wanted, there),
        firewalld: (there.has_firewalld() && !there.trusted.contains(name.as_str())).then(|| zone.to_vec()),
        blockers: there.blockers(tables),
    }
}

/// Takes away what was added for a bridge.
pub fn down(tables: &Tables, name: &NetworkName, there: &Ruleset) -> Fix {
    let zone = ["--zone=trusted".to_string(), format!("--remove-interface={name}")];
    let firewalld = there.has_firewalld().then(|| zone.to_vec());
    Fix { script: script(tables, name, &[], there), firewalld, blockers: Vec::new() }
}

fn forward_rules(name: &NetworkName) -> Vec<String> {
    let link = Quoted::new(name);
    ["iifname", "oifname"].iter().map(|side| format!("{side} {link} counter accept")).collect()
}

fn input_rules(name: &NetworkName, family: &str) -> Vec<String> {
    let link = Quoted::new(name);
    let dhcp = if family == "ip" { 67 } else { 547 };
    [("udp", dhcp), ("udp", 53), ("tcp", 53)]
        .iter()
        .map(|(protocol, port)| format!("iifname {link} {protocol} dport {port} counter accept"))
        .collect()
}

/// Where the rules of a hook go, if anything there drops.
fn wanted_in(there: &Ruleset, family: &'static str, hook: &str, rules: Vec<String>) -> Vec<Wanted> {
    let ufw = format!("{}-after-{hook}", if family == "ip" { "ufw" } else { "ufw6" });
    let base = hook.to_ascii_uppercase();
    let (chain, head) = match there.has(family, "filter", &ufw) {
        true => (ufw, true),
        false if there.drops(family, &base) => (base, false),
        false => return Vec::new(),
    };
    rules.into_iter().map(|text| Wanted { family, chain: chain.clone(), head, text }).collect()
}

fn mark(tables: &Tables, name: &NetworkName) -> String {
    format!("{}:{name}:", tables.name())
}

fn script(tables: &Tables, name: &NetworkName, wanted: &[Wanted], there: &Ruleset) -> String {
    let mark = mark(tables, name);
    let comment = |text: &str| {
        let digest = Sha256::digest(text.as_bytes());
        let hex: String = digest[..4].iter().map(|b| format!("{b:02x}")).collect();
        format!("{mark}{hex}")
    };
    let ours = || there.rules.iter().filter(|r| r.table == "filter" && r.comment.starts_with(&mark));
    let mut out = String::new();
    let mut kept = BTreeSet::new();
    for w in wanted {
        let comment = comment(&w.text);
        match ours().find(|r| r.family == w.family && r.chain == w.chain && r.comment == comment) {
            Some(rule) => drop(kept.insert((rule.family.as_str(), rule.chain.as_str(), rule.handle))),
            None => {
                let verb = if w.head { "insert" } else { "add" };
                let (family, chain) = (w.family, &w.chain);
                let _ =
                    writeln!(out, "{verb} rule {family} filter {chain} {} comment {}", w.text, Quoted::new(&comment));
            }
        }
    }
    for rule in ours().filter(|r| !kept.contains(&(r.family.as_str(), r.chain.as_str(), r.handle))) {
        // Names of foreign chains are nft's own words: they come from nft and hold nothing else.
        let name_ok = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_' | b'.' | b'/');
        if rule.chain.bytes().all(name_ok) && matches!(rule.family.as_str(), "ip" | "ip6") {
            let _ = writeln!(out, "delete rule {} filter {} handle {}", rule.family, rule.chain, rule.handle);
        }
    }
    out
}
