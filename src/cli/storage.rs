//! `storage`: pools as they are shown; what changes them is in `storage_change`.

use super::complete;
use super::list::{FieldFilter, FormatOption};
use super::output::columns::{self, Column, column};
use super::output::yaml;
use super::storage_change::{Create, Delete, Edit, Get, Set, Unset};
use super::storage_volume::Volume;
use super::{Context, DONE, Outcome, kv, refuse_target};
use crate::base::names::PoolName;
use crate::base::size;
use crate::error::{Error, Result};
use crate::model::view::PoolView;
use crate::ops::storage_info as ops;
use clap::{Args, Subcommand};
use clap_complete::engine::ArgValueCompleter;
use std::collections::BTreeMap;

/// Manage storage pools and volumes
#[derive(Debug, Subcommand)]
pub enum Storage {
    #[command(visible_alias = "add")]
    Create(Create),
    #[command(visible_aliases = ["rm", "remove"])]
    Delete(Delete),
    Edit(Edit),
    Get(Get),
    Info(Info),
    #[command(visible_alias = "ls")]
    List(List),
    Set(Set),
    Show(Show),
    Unset(Unset),
    #[command(subcommand)]
    Volume(Volume),
}

/// Show useful information about storage pools
#[derive(Debug, Args)]
pub struct Info {
    /// Pool
    #[arg(value_name = "pool", add = ArgValueCompleter::new(complete::pools))]
    pub pool: String,
    /// Show the used and free space in bytes
    #[arg(long)]
    pub bytes: bool,
    /// Cluster member name
    #[arg(long, value_name = "member", hide = true)]
    pub target: Option<String>,
}

/// List available storage pools
///
/// Default column layout: nDdus
///
/// Column shorthand chars:
///   n - Name
///   D - Driver
///   d - Description
///   S - Source
///   u - Used by
///   s - State
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub struct List {
    /// Filters
    #[arg(value_name = "filter")]
    pub filters: Vec<String>,
    /// Columns
    #[arg(short, long, value_name = "columns", default_value = "nDdus")]
    pub columns: String,
    #[command(flatten)]
    pub format: FormatOption,
}

/// Show storage pool configurations and resources
#[derive(Debug, Args)]
pub struct Show {
    /// Pool
    #[arg(value_name = "pool", add = ArgValueCompleter::new(complete::pools))]
    pub pool: String,
    /// Show the resources available to the storage pool
    #[arg(long)]
    pub resources: bool,
    /// Cluster member name
    #[arg(long, value_name = "member", hide = true)]
    pub target: Option<String>,
}

/// What a letter of `storage list` shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cell {
    Name,
    Driver,
    Description,
    Source,
    UsedBy,
    State,
}

/// The letters of `storage list -c`.
pub const COLUMNS: &[Column<Cell>] = &[
    column('n', "NAME", Cell::Name),
    column('D', "DRIVER", Cell::Driver),
    column('d', "DESCRIPTION", Cell::Description),
    column('S', "SOURCE", Cell::Source),
    column('u', "USED BY", Cell::UsedBy),
    column('s', "STATE", Cell::State),
];

impl Storage {
    /// Runs the command.
    ///
    /// # Errors
    /// See `ops`.
    pub fn run(self, cx: &Context) -> Outcome {
        match self {
            Self::Create(create) => create.run(cx),
            Self::Delete(delete) => delete.run(cx),
            Self::Edit(edit) => edit.run(cx),
            Self::Get(get) => get.run(cx),
            Self::Info(info) => info.run(cx),
            Self::List(list) => list.run(cx),
            Self::Set(set) => set.run(cx),
            Self::Show(show) => show.run(cx),
            Self::Unset(unset) => unset.run(cx),
            Self::Volume(volume) => volume.run(cx),
        }
    }
}

/// The name of a pool of this host.
pub(super) fn pool(word: &str) -> Result<PoolName> {
    PoolName::parse(&kv::local(word)?).map_err(|_| Error::not_found("Storage pool not found"))
}

impl Info {
    fn run(self, cx: &Context) -> Outcome {
        refuse_target(self.target.as_deref())?;
        let name = pool(&self.pool)?;
        let store = cx.reader()?;
        let (view, resources) = (ops::show(&store, &name)?, ops::resources(&store, &name)?);
        let amount = |n: u64| if self.bytes { n.to_string() } else { size::format_iec(n) };
        let info: BTreeMap<&str, String> = [
            ("name", view.name.clone()),
            ("driver", view.driver.clone()),
            ("description", view.put.description.clone()),
            ("total space", amount(resources.space.total)),
            ("space used", amount(resources.space.used)),
        ]
        .into();
        cx.print(yaml::document(&BTreeMap::from([("info", info)]))?)?;
        cx.print(yaml::document(&BTreeMap::from([("used by", ops::users_by_kind(&view))]))?)?;
        Ok(DONE)
    }
}

impl Show {
    fn run(self, cx: &Context) -> Outcome {
        refuse_target(self.target.as_deref())?;
        let name = pool(&self.pool)?;
        let store = cx.reader()?;
        let text = match self.resources {
            true => yaml::document(&ops::resources(&store, &name)?)?,
            false => yaml::document(&ops::show(&store, &name)?)?,
        };
        cx.print(text)?;
        Ok(DONE)
    }
}

impl List {
    fn run(self, cx: &Context) -> Outcome {
        let format = self.format.parse()?;
        let filters: Vec<FieldFilter> = kv::skip_remote(&self.filters)?.iter().map(|f| FieldFilter::parse(f)).collect();
        let chosen = columns::letters(&self.columns, COLUMNS)?;
        let store = cx.reader()?;
        let mut all = ops::list(&store, &cx.project(&store)?)?;
        all.retain(|view| filters.iter().all(|f| f.passes(&|field| field_of(view, field))));
        let row = |view: &PoolView| chosen.iter().map(|c| cell(view, c.cell)).collect();
        let header: Vec<&str> = chosen.iter().map(|c| c.header).collect();
        self.format.print(&format, &header, all.iter().map(row).collect(), &all)
    }
}

fn cell(view: &PoolView, cell: Cell) -> String {
    match cell {
        Cell::Name => view.name.clone(),
        Cell::Driver => view.driver.clone(),
        Cell::Description => view.put.description.clone(),
        Cell::Source => ops::source(view).to_string(),
        Cell::UsedBy => view.used_by.len().to_string(),
        Cell::State => view.status.to_uppercase(),
    }
}

fn field_of(view: &PoolView, field: &str) -> Option<String> {
    match field {
        "name" => Some(view.name.clone()),
        "driver" => Some(view.driver.clone()),
        "description" => Some(view.put.description.clone()),
        "status" => Some(view.status.clone()),
        key => view.put.config.get(key.strip_prefix("config.").unwrap_or(key)).cloned(),
    }
}
