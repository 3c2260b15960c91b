//! A transaction for `nft -f -`: chains and sets that are replaced or taken away.

use super::Tables;
use super::rule::{AddressItem, Name, Quoted, Rule};
use std::fmt::Write;

/// Family of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    /// IPv4 and IPv6.
    Inet,
    /// Frames of bridges.
    Bridge,
    /// Frames of one interface.
    Netdev,
}

impl Family {
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Inet => "inet",
            Self::Bridge => "bridge",
            Self::Netdev => "netdev",
        }
    }
}

/// Where the kernel calls a chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hook {
    /// `filter` or `nat`.
    pub kind: &'static str,
    /// `input`, `forward`, …
    pub hook: &'static str,
    /// The device of an `egress` hook.
    pub device: Option<Quoted>,
    /// Lower comes first.
    pub priority: i32,
}

impl Hook {
    /// A filter.
    pub fn filter(hook: &'static str, priority: i32) -> Option<Self> {
        Some(Self { kind: "filter", hook, device: None, priority })
    }

    /// Address translation.
    pub fn nat(hook: &'static str, priority: i32) -> Option<Self> {
        Some(Self { kind: "nat", hook, device: None, priority })
    }

    fn text(&self) -> String {
        let device = self.device.as_ref().map(|d| format!(" device {d}")).unwrap_or_default();
        format!(" {{ type {} hook {}{device} priority {}; policy accept; }}", self.kind, self.hook, self.priority)
    }
}

/// A chain with its rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain {
    /// Family of its table.
    pub family: Family,
    /// Name.
    pub name: Name,
    /// Where the kernel calls it; none if only others jump to it.
    pub hook: Option<Hook>,
    /// Rules in order.
    pub rules: Vec<Rule>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    Replace(Chain),
    Remove(Family, Name),
    ReplaceSet { family: Family, name: Name, kind: &'static str, items: Vec<AddressItem> },
    RemoveSet { family: Family, name: Name, kind: &'static str },
    Bridge { name: Quoted, present: bool },
}

/// A transaction. Steps are applied in order, all or none.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Script {
    steps: Vec<Step>,
}

/// Interfaces of our bridges, in the table of family inet.
pub(super) const BRIDGES: &str = "bridges";

impl Script {
    /// Puts a chain in place of what its name stood for.
    pub fn replace(&mut self, chain: Chain) {
        self.steps.push(Step::Replace(chain));
    }

    /// Takes a chain away; one that is not there is no error.
    pub fn remove(&mut self, family: Family, name: Name) {
        self.steps.push(Step::Remove(family, name));
    }

    /// Puts a chain that may be empty: without rules it is taken away instead.
    pub fn replace_or_remove(&mut self, chain: Chain) {
        match chain.rules.is_empty() {
            true => self.remove(chain.family, chain.name),
            false => self.replace(chain),
        }
    }

    pub(super) fn replace_set(&mut self, family: Family, name: Name, kind: &'static str, items: Vec<AddressItem>) {
        self.steps.push(Step::ReplaceSet { family, name, kind, items });
    }

    pub(super) fn remove_set(&mut self, family: Family, name: Name, kind: &'static str) {
        self.steps.push(Step::RemoveSet { family, name, kind });
    }

    pub(super) fn bridge(&mut self, name: Quoted, present: bool) {
        self.steps.push(Step::Bridge { name, present });
    }

    /// Adds the steps of another.
    pub fn append(&mut self, other: Self) {
        self.steps.extend(other.steps);
    }

    /// Nothing to do.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// The chains that are there afterwards: family and name.
    pub fn chains(&self) -> impl Iterator<Item = (Family, &Name)> {
        self.steps.iter().filter_map(|step| match step {
            Step::Replace(chain) => Some((chain.family, &chain.name)),
            _ => None,
        })
    }

    /// Nothing is there afterwards that was not before.
    pub fn only_removes(&self) -> bool {
        self.steps.iter().all(|step| matches!(step, Step::Remove(..) | Step::RemoveSet { .. }))
    }

    /// The text for `nft -f -`. All chains are emptied first, so that none is held by another's jump when it goes.
    pub fn text(&self, tables: &Tables) -> String {
        let mut out = String::new();
        let name = tables.name();
        let mut families: Vec<Family> = self.steps.iter().map(Step::family).collect();
        families.sort_unstable();
        families.dedup();
        for family in families {
            let _ = writeln!(out, "add table {} {name}", family.word());
        }
        for step in &self.steps {
            step.prepare(&mut out, name);
        }
        for step in &self.steps {
            step.carry_out(&mut out, name);
        }
        out
    }
}

impl Step {
    fn family(&self) -> Family {
        match self {
            Self::Replace(chain) => chain.family,
            Self::Remove(family, _) | Self::ReplaceSet { family, .. } | Self::RemoveSet { family, .. } => *family,
            Self::Bridge { .. } => Family::Inet,
        }
    }

    /// After this the chain is there and empty, and the set is there.
    fn prepare(&self, out: &mut String, table: &Name) {
        let family = self.family().word();
        match self {
            Self::Replace(Chain { name, hook: None, .. }) | Self::Remove(_, name) => {
                let _ = writeln!(out, "add chain {family} {table} {name}\nflush chain {family} {table} {name}");
            }
            // The hook may have changed, and that of a chain cannot be changed.
            Self::Replace(Chain { name, hook: Some(hook), .. }) => {
                let _ = writeln!(out, "add chain {family} {table} {name}\nflush chain {family} {table} {name}");
                let _ = writeln!(out, "delete chain {family} {table} {name}");
                let _ = writeln!(out, "add chain {family} {table} {name}{}", hook.text());
            }
            Self::ReplaceSet { name, kind, .. } | Self::RemoveSet { name, kind, .. } => {
                let _ = writeln!(
                    out,
                    "add set {family} {table} {name} {{ type {kind}; flags interval; auto-merge; }}\nflush set {family} {table} {name}"
                );
            }
            Self::Bridge { name, .. } => {
                let _ = writeln!(out, "add set {family} {table} {BRIDGES} {{ type ifname; }}");
                let _ = writeln!(out, "add element {family} {table} {BRIDGES} {{ {name} }}");
            }
        }
    }

    fn carry_out(&self, out: &mut String, table: &Name) {
        let family = self.family().word();
        match self {
            Self::Replace(chain) => {
                for rule in &chain.rules {
                    let _ = writeln!(out, "add rule {family} {table} {} {rule}", chain.name);
                }
            }
            Self::Remove(_, name) => {
                let _ = writeln!(out, "delete chain {family} {table} {name}");
            }
            Self::ReplaceSet { items, .. } if items.is_empty() => {}
            Self::ReplaceSet { name, items, .. } => {
                let items: Vec<String> = items.iter().map(ToString::to_string).collect();
                let _ = writeln!(out, "add element {family} {table} {name} {{ {} }}", items.join(", "));
            }
            Self::RemoveSet { name, .. } => {
                let _ = writeln!(out, "delete set {family} {table} {name}");
            }
            Self::Bridge { present: true, .. } => {}
            Self::Bridge { name, .. } => {
                let _ = writeln!(out, "delete element {family} {table} {BRIDGES} {{ {name} }}");
            }
        }
    }
}
