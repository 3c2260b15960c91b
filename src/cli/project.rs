//! `project`: lists and shows them; what changes them is in [`super::project_change`].

use super::complete;
use super::list::{FieldFilter, FormatOption};
use super::output::columns::{self, Column, column};
use super::output::yaml;
use super::project_change::{Create, Delete, Edit, Get, Rename, Set, Switch, Unset};
use super::{Context, DONE, Outcome, kv, refuse_option};
use crate::base::names::ProjectName;
use crate::base::{boolean, size};
use crate::error::{Error, Result};
use crate::model::view::ProjectView;
use crate::ops::project as ops;
use clap::{Args, Subcommand};
use clap_complete::engine::ArgValueCompleter;

/// Manage projects
#[derive(Debug, Subcommand)]
pub enum Project {
    #[command(visible_alias = "add")]
    Create(Create),
    #[command(visible_aliases = ["rm", "remove"])]
    Delete(Delete),
    Edit(Edit),
    Get(Get),
    GetCurrent(GetCurrent),
    Info(Info),
    #[command(visible_alias = "ls")]
    List(List),
    #[command(visible_alias = "mv")]
    Rename(Rename),
    Set(Set),
    Show(Show),
    #[command(visible_alias = "set-default")]
    Switch(Switch),
    Unset(Unset),
}

/// Show the current project
#[derive(Debug, Args)]
pub struct GetCurrent {
    /// Remote
    #[arg(value_name = "remote")]
    pub remote: Option<String>,
}

/// Get a summary of resource allocations
#[derive(Debug, Args)]
pub struct Info {
    /// Project
    #[arg(value_name = "project", add = ArgValueCompleter::new(complete::projects))]
    pub project: String,
    #[command(flatten)]
    pub format: FormatOption,
    /// Show the instance's access list
    #[arg(long, hide = true)]
    pub show_access: bool,
}

/// List projects
///
/// Default column layout: nipvbwzdu
///
/// Column shorthand chars:
///   n - Project Name
///   i - Images
///   p - Profiles
///   v - Storage Volumes
///   b - Storage Buckets
///   w - Networks
///   z - Network Zones
///   d - Description
///   u - Used By
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub struct List {
    /// Filters
    #[arg(value_name = "filter")]
    pub filters: Vec<String>,
    /// Columns
    #[arg(short, long, value_name = "columns", default_value = "nipvbwzdu")]
    pub columns: String,
    #[command(flatten)]
    pub format: FormatOption,
}

/// Show project options
#[derive(Debug, Args)]
pub struct Show {
    /// Project
    #[arg(value_name = "project", add = ArgValueCompleter::new(complete::projects))]
    pub project: String,
}

/// What a letter of `project list` shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cell {
    Name,
    Images,
    Profiles,
    Volumes,
    Buckets,
    Networks,
    Zones,
    Description,
    UsedBy,
}

/// The letters of `project list -c`.
pub const COLUMNS: &[Column<Cell>] = &[
    column('n', "NAME", Cell::Name),
    column('i', "IMAGES", Cell::Images),
    column('p', "PROFILES", Cell::Profiles),
    column('v', "STORAGE VOLUMES", Cell::Volumes),
    column('b', "STORAGE BUCKETS", Cell::Buckets),
    column('w', "NETWORKS", Cell::Networks),
    column('z', "NETWORK ZONES", Cell::Zones),
    column('d', "DESCRIPTION", Cell::Description),
    column('u', "USED BY", Cell::UsedBy),
];

impl Project {
    /// Runs the command.
    ///
    /// # Errors
    /// See `ops`.
    pub fn run(self, cx: &Context) -> Outcome {
        match self {
            Self::Create(create) => return create.run(cx),
            Self::Delete(delete) => return delete.run(cx),
            Self::Edit(edit) => return edit.run(cx),
            Self::Get(get) => return get.run(cx),
            Self::Rename(rename) => return rename.run(cx),
            Self::Set(set) => return set.run(cx),
            Self::Switch(switch) => return switch.run(cx),
            Self::Unset(unset) => return unset.run(cx),
            Self::GetCurrent(_) => cx.line(&cx.project)?,
            Self::Info(info) => return info.run(cx),
            Self::List(list) => return list.run(cx),
            Self::Show(show) => cx.print(yaml::document(&ops::show(&cx.reader()?, &name(&show.project)?)?)?)?,
        }
        Ok(DONE)
    }
}

/// A project's name as a user gives it.
pub(super) fn name(word: &str) -> Result<ProjectName> {
    ProjectName::parse(&kv::local(word)?).map_err(|_| Error::not_found("Project not found"))
}

impl Info {
    fn run(self, cx: &Context) -> Outcome {
        let format = self.format.parse()?;
        refuse_option("--show-access", self.show_access)?;
        let state = ops::state(&cx.reader()?, &name(&self.project)?)?;
        let row = |(name, resource): (&String, &ops::Resource)| {
            let bytes = ["disk", "memory"].contains(&name.split('.').next().unwrap_or_default());
            let number = |n: i64| match u64::try_from(n) {
                Err(_) => "UNLIMITED".to_string(),
                Ok(n) if bytes => size::format_iec(n),
                Ok(n) => n.to_string(),
            };
            vec![name.to_uppercase(), number(resource.limit), number(resource.usage)]
        };
        let rows = state.resources.iter().map(row).collect();
        self.format.print(&format, &["RESOURCE", "LIMIT", "USAGE"], rows, &state)
    }
}

impl List {
    fn run(self, cx: &Context) -> Outcome {
        let format = self.format.parse()?;
        let filters: Vec<FieldFilter> = kv::skip_remote(&self.filters)?.iter().map(|f| FieldFilter::parse(f)).collect();
        let chosen = columns::letters(&self.columns, COLUMNS)?;
        let mut all = ops::list(&cx.reader()?)?;
        all.retain(|view| filters.iter().all(|f| f.passes(&|field| field_of(view, field))));
        let row = |view: &ProjectView| chosen.iter().map(|c| cell(cx, view, c.cell)).collect();
        let header: Vec<&str> = chosen.iter().map(|c| c.header).collect();
        self.format.print(&format, &header, all.iter().map(row).collect(), &all)
    }
}

fn cell(cx: &Context, view: &ProjectView, cell: Cell) -> String {
    let feature = |name: &str| {
        let on = view.put.config.get(&format!("features.{name}")).is_some_and(|v| boolean::is_true(v));
        (if on { "YES" } else { "NO" }).to_string()
    };
    match cell {
        Cell::Name if view.name == cx.project => format!("{} (current)", view.name),
        Cell::Name => view.name.clone(),
        Cell::Images => feature("images"),
        Cell::Profiles => feature("profiles"),
        Cell::Volumes => feature("storage.volumes"),
        Cell::Buckets => feature("storage.buckets"),
        Cell::Networks => feature("networks"),
        Cell::Zones => feature("networks.zones"),
        Cell::Description => view.put.description.clone(),
        Cell::UsedBy => view.used_by.len().to_string(),
    }
}

fn field_of(view: &ProjectView, field: &str) -> Option<String> {
    match field {
        "name" => Some(view.name.clone()),
        "description" => Some(view.put.description.clone()),
        key => view.put.config.get(key.strip_prefix("config.").unwrap_or(key)).cloned(),
    }
}
