//! `network rename` and `network list-allocations`.

use super::list::FormatOption;
use super::network::named;
use super::output::columns::{self, Column, column};
use super::{Context, DONE, Outcome, complete, kv};
use crate::base::names::{NetworkName, ProjectName};
use crate::error::{Error, Result};
use crate::model::view::AllocationView;
use crate::ops::network::{allocations, rename};
use clap::Args;
use clap_complete::engine::ArgValueCompleter;

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
    #[arg(short, long, value_name = "columns", default_value = "uaNtnm")]
    pub columns: String,
    #[command(flatten)]
    pub format: FormatOption,
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
        if cx.project_given && self.all_projects {
            return Err(Error::invalid("Can't specify --project with --all-projects").into());
        }
        let store = cx.reader()?;
        let projects: Vec<ProjectName> = match self.all_projects {
            true => store.projects()?.into_iter().map(|(name, _)| name).collect(),
            false => vec![cx.project(&store)?],
        };
        let lists = projects.iter().map(|project| allocations::list(&store, project));
        let all: Vec<AllocationView> = lists.collect::<Result<Vec<_>>>()?.into_iter().flatten().collect();
        let row = |one: &AllocationView| chosen.iter().map(|c| cell(one, c.cell)).collect();
        let header: Vec<&str> = chosen.iter().map(|c| c.header).collect();
        self.format.print(&format, &header, all.iter().map(row).collect(), &all)
    }
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
