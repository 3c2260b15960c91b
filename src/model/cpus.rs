//! Which CPUs each instance gets: the balance over all that run and ask for some (`limits.cpu`, `limits.cpu.nodes`).
//!
//! Pure, and a function of the host and the wishes in their order alone: whoever starts, stops or changes an instance works
//! it out anew for all of them (`ops::cpus`), as Incus's daemon does. Fixed sets count first; then each number of CPUs takes
//! the least used, in the order in which the instances came, so that a new one never moves those that are there.

use crate::base::idset;
use crate::error::{Error, Result};
use crate::model::instance::Config;
use crate::model::keys::{self, parse};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Numbers of CPUs, or of NUMA nodes.
pub type Set = BTreeSet<u32>;

/// The word of `limits.cpu.nodes` that leaves the node to us.
pub const BALANCED: &str = "balanced";

/// What an instance asks for: the two keys as they are written. It stands in the plan and in the run-time table.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CpuWish {
    /// `limits.cpu`; empty: not set.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub cpus: String,
    /// `limits.cpu.nodes`; empty: not set.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub nodes: String,
}

impl CpuWish {
    /// The wish of an expanded configuration; none if it may run anywhere.
    pub fn of(config: &Config) -> Option<Self> {
        let text = |key: &keys::Key| key.get(config).unwrap_or_default().to_string();
        let wish = Self { cpus: text(&keys::LIMITS_CPU), nodes: text(&keys::LIMITS_CPU_NODES) };
        (wish != Self::default()).then_some(wish)
    }

    /// True if the node is to be chosen by us; a fixed set of CPUs overrides the nodes.
    pub fn wants_node(&self) -> bool {
        self.nodes == BALANCED && !matches!(self.take(), Ok(Take::Set(_)))
    }

    /// Can a container have this?
    ///
    /// # Errors
    /// [`crate::error::Kind::Invalid`]: it does not parse, or is a virtual machine's topology.
    pub fn check(&self) -> Result<()> {
        self.take()?;
        self.node_set(None).map(drop)
    }

    fn take(&self) -> Result<Take> {
        if self.cpus.is_empty() {
            return Ok(Take::All);
        }
        match parse::cpu(&self.cpus)? {
            parse::CpuLimit::Count(n) => Ok(Take::Count(n as usize)),
            parse::CpuLimit::Set(set) => Ok(Take::Set(set)),
            parse::CpuLimit::Topology { .. } => {
                let key = keys::LIMITS_CPU.name;
                Err(Error::invalid(format!("Invalid \"{key}\": only virtual machines have a CPU topology"))
                    .hint("give a container a number or a set of CPUs"))
            }
        }
    }

    fn node_set(&self, chosen: Option<u32>) -> Result<Option<Set>> {
        match self.nodes.as_str() {
            "" => Ok(None),
            BALANCED => Ok(chosen.map(|n| [n].into())),
            list => idset::parse(list).map(Some),
        }
    }
}

enum Take {
    All,
    Count(usize),
    Set(Set),
}

/// The host's CPUs.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Host {
    /// Those that are online and that our groups may use.
    pub online: Set,
    /// Those that the kernel schedules nothing on by itself: only a fixed set names them.
    pub isolated: Set,
    /// CPUs of each NUMA node.
    pub nodes: BTreeMap<u32, Set>,
}

/// One that asks, with the node that was chosen for it.
#[derive(Debug, Clone, Copy)]
pub struct Asker<'a> {
    /// What it asks for.
    pub wish: &'a CpuWish,
    /// Its node, if it wants one and has it already.
    pub node: Option<u32>,
}

/// How often each CPU is used.
type Usage = BTreeMap<u32, usize>;

/// The CPUs of each, in order; none where nothing it may have is online.
///
/// # Errors
/// As [`CpuWish::check`].
pub fn balance(host: &Host, askers: &[Asker<'_>]) -> Result<Vec<Option<Set>>> {
    let mut usage: Usage = host.online.difference(&host.isolated).map(|cpu| (*cpu, 0)).collect();
    let takes = askers
        .iter()
        .map(|a| Ok((a.wish.take()?, a.wish.node_set(a.node)?.map(|nodes| host.cpus_of(&nodes)))))
        .collect::<Result<Vec<_>>>()?;
    let mut places = vec![None; takes.len()];
    for (place, (take, within)) in places.iter_mut().zip(&takes) {
        let fixed: Set = match (take, within) {
            (Take::Set(set), _) => set.intersection(&host.online).copied().collect(),
            (Take::All, Some(within)) => within.iter().filter(|cpu| usage.contains_key(cpu)).copied().collect(),
            _ => continue,
        };
        *place = count(&mut usage, fixed);
    }
    // Those bound to a node have less to choose from: before the others.
    for bound in [true, false] {
        for (place, (take, within)) in places.iter_mut().zip(&takes) {
            if let (Take::Count(n), true) = (take, within.is_some() == bound) {
                let least = least_used(&usage, *n, within.as_ref());
                *place = count(&mut usage, least);
            }
        }
    }
    Ok(places)
}

impl Host {
    fn cpus_of(&self, nodes: &Set) -> Set {
        nodes.iter().filter_map(|n| self.nodes.get(n)).flatten().copied().collect()
    }

    /// The NUMA node whose CPUs are used least by `askers`, the lowest of several; none if the host has none.
    ///
    /// # Errors
    /// As [`balance`].
    pub fn least_loaded_node(&self, askers: &[Asker<'_>]) -> Result<Option<u32>> {
        let mut usage = Usage::new();
        for place in balance(self, askers)?.into_iter().flatten() {
            count(&mut usage, place);
        }
        let usable = |cpus: &Set| cpus.iter().any(|cpu| self.online.contains(cpu) && !self.isolated.contains(cpu));
        // Per CPU, in thousandths: nodes need not be of one size.
        let load = |cpus: &Set| {
            cpus.iter().filter_map(|cpu| usage.get(cpu)).sum::<usize>().saturating_mul(1000) / cpus.len().max(1)
        };
        Ok(self
            .nodes
            .iter()
            .filter(|(_, cpus)| usable(cpus))
            .min_by_key(|(n, cpus)| (load(cpus), **n))
            .map(|(n, _)| *n))
    }
}

fn count(usage: &mut Usage, set: Set) -> Option<Set> {
    set.iter().for_each(|cpu| *usage.entry(*cpu).or_default() += 1);
    (!set.is_empty()).then_some(set)
}

fn least_used(usage: &Usage, n: usize, within: Option<&Set>) -> Set {
    let mut all: Vec<(usize, u32)> = usage
        .iter()
        .filter(|(cpu, _)| within.is_none_or(|w| w.contains(cpu)))
        .map(|(cpu, used)| (*used, *cpu))
        .collect();
    all.sort_unstable();
    all.into_iter().take(n).map(|(_, cpu)| cpu).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(cpus: &str, isolated: &str, nodes: &[&str]) -> Host {
        let set = |text: &str| if text.is_empty() { Set::new() } else { idset::parse(text).expect("set") };
        let nodes = nodes.iter().enumerate().map(|(n, cpus)| (n as u32, set(cpus))).collect();
        Host { online: set(cpus), isolated: set(isolated), nodes }
    }

    /// The sets of `wishes` (`limits.cpu`, `limits.cpu.nodes`) as text; `-`: none.
    fn balanced(host: &Host, wishes: &[(&str, &str)]) -> Vec<String> {
        let wishes: Vec<CpuWish> =
            wishes.iter().map(|(c, n)| CpuWish { cpus: c.to_string(), nodes: n.to_string() }).collect();
        let mut askers: Vec<Asker<'_>> = Vec::new();
        for wish in &wishes {
            let node = wish.wants_node().then(|| host.least_loaded_node(&askers).expect("node")).flatten();
            askers.push(Asker { wish, node });
        }
        let places = balance(host, &askers).expect("balance");
        places.iter().map(|p| p.as_ref().map_or("-".into(), idset::format)).collect()
    }

    #[test]
    fn table() {
        let two = host("0-1", "", &["0-1"]);
        let eight = host("0-7", "6-7", &["0-3", "4-7"]);
        type Case<'a> = (&'a Host, &'a [(&'a str, &'a str)], &'a [&'a str]);
        let cases: &[Case<'_>] = &[
            (&two, &[("1", "")], &["0"]),
            (&two, &[("1", ""), ("1", "")], &["0", "1"]),
            (&two, &[("1", ""), ("1", ""), ("1", "")], &["0", "1", "0"]),
            (&two, &[("2", ""), ("1", "")], &["0-1", "0"]),
            (&two, &[("64", "")], &["0-1"]),
            // Fixed ones count first, wherever they stand; a number goes where they are not.
            (&two, &[("1", ""), ("0-0", "")], &["1", "0"]),
            (&two, &[("0-0", ""), ("1", ""), ("1", "")], &["0", "1", "0"]),
            (&two, &[("0,7", "")], &["0"]),
            (&two, &[("5-7", "")], &["-"]),
            // Isolated ones are for those who name them.
            (&eight, &[("8", "")], &["0-5"]),
            (&eight, &[("7-7", "")], &["7"]),
            (&eight, &[("", "1")], &["4-5"]),
            (&eight, &[("1", "1"), ("1", "1"), ("1", "1")], &["4", "5", "4"]),
            (&eight, &[("2", ""), ("2", "0")], &["2-3", "0-1"]),
            (&eight, &[("1-1", "1")], &["1"]),
            (&eight, &[("1", "9")], &["-"]),
            (&eight, &[("", "balanced"), ("2", "balanced"), ("1", "balanced")], &["0-3", "4-5", "4"]),
        ];
        for (host, wishes, want) in cases {
            assert_eq!(balanced(host, wishes), *want, "{wishes:?}");
        }
    }

    #[test]
    fn a_newcomer_moves_nobody() {
        let host = host("0-3", "", &["0-3"]);
        let mut wishes = vec![("2", ""), ("1", ""), ("3", "")];
        let before = balanced(&host, &wishes);
        wishes.push(("2", ""));
        assert_eq!(balanced(&host, &wishes)[..3], before);
    }

    #[test]
    fn what_a_container_cannot_have() {
        let wish = |cpus: &str, nodes: &str| CpuWish { cpus: cpus.into(), nodes: nodes.into() };
        assert!(wish("sockets=1", "").check().is_err() && wish("x", "").check().is_err());
        assert!(wish("", "x").check().is_err() && wish("2", BALANCED).check().is_ok());
        assert!(CpuWish::of(&Config::new()).is_none());
    }
}
