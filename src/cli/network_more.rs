//! `network rename` and `network list-allocations`.

use super::list::FormatOption;
use super::network::named;
use super::output::columns::{self, Column, column};
use super::{Context, DONE, Outcome, complete, kv};
use crate::base::inet::{self, IpNet};
use crate::base::names::{NetworkName, ProjectName};
use crate::error::{Error, Result};
use crate::model::view::AllocationView;
use crate::ops::network::{allocations, rename};
use clap::Args;
use clap_complete::engine::ArgValueCompleter;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// Rename networks
#[derive(Debug, Args)]
pub struct Rename {
    /// Network
    #[arg(value_name = "network", add = ArgValueCompleter::new(complete::networks))]
    pub network: String,
    /// New network name
    #[arg(value_name = "new network name")]
    pub new_name: String,
}

impl Rename {
    pub(super) fn run(self, cx: &Context) -> Outcome {
        let store = cx.store()?;
        let (project, name) = named(cx, &store, &self.network)?;
        let new = NetworkName::parse(&kv::local(&self.new_name)?)?;
        rename::rename(&store, &project, &name, &new)?;
        cx.notice(format_args!("Network {name} renamed to {new}"))?;
        Ok(DONE)
    }
}

/// List network allocations in use
///
/// Default column layout: uaNtnm
///
/// Column shorthand chars:
///   u - Used by
///   a - Address
///   N - Network
///   t - Type
///   n - NAT
///   m - MAC Address
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub struct ListAllocations {
    /// Run against all projects
    #[arg(long)]
    pub all_projects: bool,
    /// Columns
    #[arg(short, long, value_name = "columns", default_value = DEFAULT_COLUMNS)]
    pub columns: String,
    #[command(flatten)]
    pub format: FormatOption,
    /// Run against a specific project; --project is everywhere, and has no short form elsewhere
    #[arg(short = 'p', long, value_name = "project", hide = true)]
    pub of_project: Option<String>,
    /// Show a summary of used IP ranges per subnet
    #[arg(long)]
    pub summary: bool,
}

/// A subnet of a network, as `--summary` shows it.
#[derive(Debug, Serialize)]
struct Used {
    network: String,
    subnet: String,
    used: String,
}

/// What a letter of `network list-allocations` shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AllocationCell {
    UsedBy,
    Address,
    Network,
    Type,
    Nat,
    Mac,
}

const DEFAULT_COLUMNS: &str = "uaNtnm";

/// The letters of `network list-allocations -c`.
pub const ALLOCATION_COLUMNS: &[Column<AllocationCell>] = &[
    column('u', "USED BY", AllocationCell::UsedBy),
    column('a', "ADDRESS", AllocationCell::Address),
    column('N', "NETWORK", AllocationCell::Network),
    column('t', "TYPE", AllocationCell::Type),
    column('n', "NAT", AllocationCell::Nat),
    column('m', "MAC ADDRESS", AllocationCell::Mac),
];

impl ListAllocations {
    pub(super) fn run(self, cx: &Context) -> Outcome {
        let format = self.format.parse()?;
        let chosen = columns::letters(&self.columns, ALLOCATION_COLUMNS)?;
        if (cx.project_given || self.of_project.is_some()) && self.all_projects {
            return Err(Error::invalid("Can't specify --project with --all-projects").into());
        }
        if self.summary && self.columns != DEFAULT_COLUMNS {
            return Err(Error::invalid("The --summary flag cannot be used with custom columns (-c)").into());
        }
        let store = cx.reader()?;
        let projects: Vec<ProjectName> = match (self.all_projects, &self.of_project) {
            (true, _) => store.projects()?.into_iter().map(|(name, _)| name).collect(),
            (false, None) => vec![cx.project(&store)?],
            (false, Some(given)) => {
                let name = ProjectName::parse(given)?;
                store.project(&name)?.ok_or_else(|| Error::not_found("Project not found"))?;
                vec![name]
            }
        };
        let lists = projects.iter().map(|project| allocations::list(&store, project));
        let all: Vec<AllocationView> = lists.collect::<Result<Vec<_>>>()?.into_iter().flatten().collect();
        if self.summary {
            let all = summary(&all)?;
            let row = |one: &Used| vec![one.network.clone(), one.subnet.clone(), one.used.clone()];
            return self.format.print(&format, &["NETWORK", "SUBNET", "USED"], all.iter().map(row).collect(), &all);
        }
        let row = |one: &AllocationView| chosen.iter().map(|c| cell(one, c.cell)).collect();
        let header: Vec<&str> = chosen.iter().map(|c| c.header).collect();
        self.format.print(&format, &header, all.iter().map(row).collect(), &all)
    }
}

/// The subnets of each network with what is used of them; then what is in none.
fn summary(all: &[AllocationView]) -> Result<Vec<Used>> {
    let mut networks: BTreeMap<&str, (BTreeSet<IpNet>, BTreeSet<IpAddr>)> = BTreeMap::new();
    for one in all {
        let (subnets, used) = networks.entry(&one.network).or_default();
        let net: IpNet = one.address.parse()?;
        match one.kind.as_str() {
            "network" => drop(subnets.insert(net.network())),
            _ => drop(used.insert(net.address())),
        }
    }
    let mut rows = Vec::new();
    for (network, (subnets, mut used)) in networks {
        let row = |subnet: String, used: &BTreeSet<IpAddr>| Used {
            network: network.to_string(),
            subnet,
            used: ranges(used.iter().copied()).join(", "),
        };
        for subnet in &subnets {
            let (inside, rest) = used.into_iter().partition(|a| subnet.contains(*a));
            used = rest;
            rows.push(row(subnet.to_string(), &inside));
        }
        if !used.is_empty() {
            rows.push(row("external".to_string(), &used));
        }
    }
    Ok(rows)
}

/// Sorted addresses, those that follow each other as `first-last`.
fn ranges(addresses: impl Iterator<Item = IpAddr>) -> Vec<String> {
    let mut all: Vec<(IpAddr, IpAddr)> = Vec::new();
    for address in addresses {
        match all.last_mut() {
            Some((_, last)) if inet::next(*last) == Some(address) => *last = address,
            _ => all.push((address, address)),
        }
    }
    let text = |(first, last): &(IpAddr, IpAddr)| match first == last {
        true => first.to_string(),
        false => format!("{first}-{last}"),
    };
    all.iter().map(text).collect()
}

fn cell(view: &AllocationView, cell: AllocationCell) -> String {
    match cell {
        AllocationCell::UsedBy => view.used_by.clone(),
        AllocationCell::Address => view.address.clone(),
        AllocationCell::Network => view.network.clone(),
        AllocationCell::Type => view.kind.clone(),
        AllocationCell::Nat => if view.nat { "YES" } else { "NO" }.to_string(),
        AllocationCell::Mac => view.hwaddr.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn summary_of_what_is_used() {
        let one = |network: &str, kind: &str, address: &str| AllocationView {
            network: network.into(),
            kind: kind.into(),
            address: address.into(),
            ..AllocationView::default()
        };
        let all = [
            one("b", "instance", "10.0.0.10/32"),
            one("b", "network", "fd00::1/64"),
            one("b", "network", "10.0.0.1/24"),
            one("b", "instance", "10.0.0.9/32"),
            one("b", "instance", "10.0.0.11/32"),
            one("b", "instance", "10.0.0.20/32"),
            one("b", "instance", "10.0.0.20/32"),
            one("b", "network-forward", "192.0.2.1/32"),
            one("a", "network", "10.1.0.1/24"),
        ];
        let rows = summary(&all).expect("summary");
        let shown: Vec<String> = rows.iter().map(|r| format!("{} {} {}", r.network, r.subnet, r.used)).collect();
        let expected =
            ["a 10.1.0.0/24 ", "b 10.0.0.0/24 10.0.0.9-10.0.0.11, 10.0.0.20", "b fd00::/64 ", "b external 192.0.2.1"];
        assert_eq!(shown, expected);
    }
}
