//! `network list`, `list-leases` and the text of `network info`.

use super::complete;
use super::list::{FieldFilter, FormatOption};
use super::output::columns::{self, Column, column};
use super::{Context, Outcome, kv};
use crate::base::names::NetworkName;
use crate::base::size;
use crate::error::{Error, Result};
use crate::model::view::{LeaseView, NetworkStateView, NetworkView};
use crate::ops::network::{leases, list as ops};
use clap::Args;
use clap_complete::engine::ArgValueCompleter;

/// List available networks
///
/// Filters may be of the <key>=<value> form for property based filtering,
/// or part of the network name.
///
/// Default column layout: ntm46dus
///
/// Column shorthand chars:
///   4 - IPv4 address
///   6 - IPv6 address
///   d - Description
///   e - Project name
///   m - Managed status
///   n - Network Interface Name
///   s - State
///   t - Interface type
///   u - Used by (count)
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub struct List {
    /// Filters
    #[arg(value_name = "filter")]
    pub filters: Vec<String>,
    /// List networks in all projects
    #[arg(long)]
    pub all_projects: bool,
    /// Columns
    #[arg(short, long, value_name = "columns", default_value = "ntm46dus")]
    pub columns: String,
    #[command(flatten)]
    pub format: FormatOption,
}

/// What a letter of `network list` shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cell {
    Project,
    Name,
    Type,
    Managed,
    Ipv4,
    Ipv6,
    Description,
    UsedBy,
    State,
}

/// The letters of `network list -c`.
pub const COLUMNS: &[Column<Cell>] = &[
    column('e', "PROJECT", Cell::Project),
    column('n', "NAME", Cell::Name),
    column('t', "TYPE", Cell::Type),
    column('m', "MANAGED", Cell::Managed),
    column('4', "IPV4", Cell::Ipv4),
    column('6', "IPV6", Cell::Ipv6),
    column('d', "DESCRIPTION", Cell::Description),
    column('u', "USED BY", Cell::UsedBy),
    column('s', "STATE", Cell::State),
];

impl List {
    /// The columns asked for; the project first with `--all-projects`.
    ///
    /// # Errors
    /// See [`columns::letters`].
    pub fn chosen(&self) -> Result<Vec<Column<Cell>>> {
        let value = if self.all_projects && self.columns == "ntm46dus" { "entm46dus" } else { &self.columns };
        columns::letters(value, COLUMNS)
    }

    pub(super) fn run(self, cx: &Context) -> Outcome {
        let format = self.format.parse()?;
        let filters: Vec<FieldFilter> = kv::skip_remote(&self.filters)?.iter().map(|f| FieldFilter::parse(f)).collect();
        if cx.project_given && self.all_projects {
            return Err(Error::invalid("Can't specify --project with --all-projects").into());
        }
        let chosen = self.chosen()?;
        let store = cx.reader()?;
        let projects = match self.all_projects {
            true => store.projects()?.into_iter().map(|(name, _)| name).collect(),
            false => vec![cx.project(&store)?],
        };
        let mut all: Vec<NetworkView> = Vec::new();
        for project in &projects {
            for view in ops::list(&store, project)? {
                // What projects share is there once.
                if !all.contains(&view) {
                    all.push(view);
                }
            }
        }
        all.retain(|view| filters.iter().all(|f| f.passes(&|field| field_of(view, field))));
        let row = |view: &NetworkView| chosen.iter().map(|c| cell(view, c.cell)).collect();
        let header: Vec<&str> = chosen.iter().map(|c| c.header).collect();
        self.format.print(&format, &header, all.iter().map(row).collect(), &all)
    }
}

fn cell(view: &NetworkView, cell: Cell) -> String {
    let config = |key: &str| view.put.config.get(key).cloned().unwrap_or_default();
    match cell {
        Cell::Project => view.project.clone(),
        Cell::Name => view.name.clone(),
        Cell::Type => view.kind.clone(),
        Cell::Managed => if view.managed { "YES" } else { "NO" }.to_string(),
        Cell::Ipv4 => config(ops::IPV4),
        Cell::Ipv6 => config(ops::IPV6),
        Cell::Description => view.put.description.clone(),
        Cell::UsedBy => view.used_by.len().to_string(),
        Cell::State => view.status.to_uppercase(),
    }
}

fn field_of(view: &NetworkView, field: &str) -> Option<String> {
    match field {
        "name" => Some(view.name.clone()),
        "type" => Some(view.kind.clone()),
        "description" => Some(view.put.description.clone()),
        "managed" => Some(view.managed.to_string()),
        "status" => Some(view.status.clone()),
        key => view.put.config.get(key.strip_prefix("config.").unwrap_or(key)).cloned(),
    }
}

/// List DHCP leases
///
/// Default column layout: hmit
///
/// Column shorthand chars:
///   h - Hostname
///   m - MAC Address
///   i - IP Address
///   t - Type
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub struct ListLeases {
    /// Network
    #[arg(value_name = "network", add = ArgValueCompleter::new(complete::networks))]
    pub network: String,
    /// Columns
    #[arg(short, long, value_name = "columns", default_value = "hmit")]
    pub columns: String,
    #[command(flatten)]
    pub format: FormatOption,
}

/// What a letter of `network list-leases` shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeaseCell {
    Hostname,
    Mac,
    Address,
    Type,
}

/// The letters of `network list-leases -c`.
pub const LEASE_COLUMNS: &[Column<LeaseCell>] = &[
    column('h', "HOSTNAME", LeaseCell::Hostname),
    column('m', "MAC ADDRESS", LeaseCell::Mac),
    column('i', "IP ADDRESS", LeaseCell::Address),
    column('t', "TYPE", LeaseCell::Type),
];

impl ListLeases {
    pub(super) fn run(self, cx: &Context) -> Outcome {
        let format = self.format.parse()?;
        let chosen = columns::letters(&self.columns, LEASE_COLUMNS)?;
        let store = cx.reader()?;
        let (project, name) = super::network::named(cx, &store, &self.network)?;
        let all = leases::list(&store, &project, &name)?;
        let cell = |lease: &LeaseView, cell: LeaseCell| match cell {
            LeaseCell::Hostname => lease.hostname.clone(),
            LeaseCell::Mac => lease.hwaddr.clone(),
            LeaseCell::Address => lease.address.clone(),
            LeaseCell::Type => lease.kind.to_uppercase(),
        };
        let rows = all.iter().map(|lease| chosen.iter().map(|c| cell(lease, c.cell)).collect()).collect();
        let header: Vec<&str> = chosen.iter().map(|c| c.header).collect();
        self.format.print(&format, &header, rows, &all)
    }
}

/// What is said of a network, in Incus's order.
pub(super) fn describe(name: &NetworkName, state: &NetworkStateView) -> String {
    let mut out = String::new();
    let mut line = |text: String| {
        out.push_str(&text);
        out.push('\n');
    };
    line(format!("Name: {name}"));
    line(format!("MAC address: {}", state.hwaddr));
    line(format!("MTU: {}", state.mtu));
    line(format!("State: {}", state.state));
    line(format!("Type: {}", state.kind));
    if !state.addresses.is_empty() {
        line("\nIP addresses:".to_string());
        for a in &state.addresses {
            line(format!("  {}\t{}/{} ({})", a.family, a.address, a.netmask, a.scope));
        }
    }
    line("\nNetwork usage:".to_string());
    let amount = |n: i64| size::format_si(u64::try_from(n).unwrap_or(0));
    let counters = state.counters.unwrap_or_default();
    line(format!("  Bytes received: {}", amount(counters.bytes_received)));
    line(format!("  Bytes sent: {}", amount(counters.bytes_sent)));
    line(format!("  Packets received: {}", counters.packets_received));
    line(format!("  Packets sent: {}", counters.packets_sent));
    if let Some(bridge) = &state.bridge {
        line("\nBridge:".to_string());
        line(format!("  ID: {}", bridge.id));
        line(format!("  STP: {}", bridge.stp));
        line(format!("  Forward delay: {}", bridge.forward_delay));
        line(format!("  Default VLAN ID: {}", bridge.vlan_default));
        line(format!("  VLAN filtering: {}", bridge.vlan_filtering));
        line(format!("  Upper devices: {}", bridge.upper_devices.join(", ")));
    }
    if let Some(vlan) = &state.vlan {
        line("\nVLAN:".to_string());
        line(format!("  Lower device: {}", vlan.lower_device));
        line(format!("  VLAN ID: {}", vlan.vid));
    }
    out
}
