//! `storage volume list` and `info`.

use super::list::{FieldFilter, FormatOption};
use super::output::columns::{self, Column, column};
use super::output::{Table, ascii, sort_rows};
use super::storage_volume::{self, Place, pool};
use super::{Context, DONE, Outcome, complete};
use crate::base::names::{InstanceName, VolumeName};
use crate::base::{size, time};
use crate::model::view::{LOCATION, VolumeSnapshotView, VolumeView};
use crate::ops::volume::Of;
use crate::ops::volume::list::{self, Type};
use clap::Args;
use clap_complete::engine::ArgValueCompleter;

/// The columns when nothing is said, for one project and for all.
const DEFAULT: &str = "tndcu";
const DEFAULT_ALL: &str = "etndcu";

/// List storage volumes
///
/// Default column layout: tndcu (etndcu with --all-projects)
///
/// Column shorthand chars:
///   t - Type of volume (custom, image, container or virtual-machine)
///   n - Name
///   d - Description
///   c - Content type (filesystem, block or iso)
///   u - Number of references (used by)
///   L - Location of the instance (e.g. its cluster member)
///   U - Current disk usage
///   e - Project
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub struct List {
    /// Pool
    #[arg(value_name = "pool", add = ArgValueCompleter::new(complete::pools))]
    pub pool: String,
    /// Filters
    #[arg(value_name = "filter")]
    pub filters: Vec<String>,
    /// All projects
    #[arg(long)]
    pub all_projects: bool,
    /// Columns
    #[arg(short, long, value_name = "columns", default_value = DEFAULT)]
    pub columns: String,
    #[command(flatten)]
    pub format: FormatOption,
}

/// Show storage volume state information
///
/// If the type is not specified, custom is assumed. Supported types are custom, container and virtual-machine.
#[derive(Debug, Args)]
pub struct Info {
    #[command(flatten)]
    pub place: Place,
}

/// What a letter of `storage volume list` shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cell {
    Project,
    Type,
    Name,
    Description,
    ContentType,
    UsedBy,
    Usage,
    Location,
}

/// The letters of `storage volume list -c`.
pub const COLUMNS: &[Column<Cell>] = &[
    column('e', "PROJECT", Cell::Project),
    column('t', "TYPE", Cell::Type),
    column('n', "NAME", Cell::Name),
    column('d', "DESCRIPTION", Cell::Description),
    column('c', "CONTENT-TYPE", Cell::ContentType),
    column('u', "USED BY", Cell::UsedBy),
    column('U', "USAGE", Cell::Usage),
    column('L', "LOCATION", Cell::Location),
];

impl List {
    pub(super) fn run(self, cx: &Context) -> Outcome {
        let format = self.format.parse()?;
        let wanted = if self.all_projects && self.columns == DEFAULT { DEFAULT_ALL } else { &self.columns };
        let chosen = columns::letters(wanted, COLUMNS)?;
        let filters: Vec<FieldFilter> = self.filters.iter().map(|f| FieldFilter::parse(f)).collect();
        let store = cx.reader()?;
        let pool = pool(&self.pool)?;
        let project = cx.project(&store)?;
        let mut all = list::list(&store, (!self.all_projects).then_some(&project), &pool)?;
        all.retain(|view| filters.iter().all(|f| f.passes(&|field| field_of(view, field))));
        let shown = |view: &VolumeView, wanted: Cell| match wanted {
            // One that vanishes meanwhile is no reason to fail.
            Cell::Usage => {
                list::usage(&store, view, &pool).ok().flatten().map(|s| size::format_iec(s.used)).unwrap_or_default()
            }
            other => cell(view, other),
        };
        let mut rows: Vec<Vec<String>> =
            all.iter().map(|view| chosen.iter().map(|c| shown(view, c.cell)).collect()).collect();
        sort_rows(&mut rows);
        let header: Vec<&str> = chosen.iter().map(|c| c.header).collect();
        self.format.print(&format, &header, rows, &all)
    }
}

fn cell(view: &VolumeView, cell: Cell) -> String {
    match cell {
        Cell::Project => view.project.clone(),
        Cell::Type if view.name.contains('/') => format!("{} (snapshot)", view.kind),
        Cell::Type => view.kind.clone(),
        Cell::Name => view.name.clone(),
        Cell::Description => view.put.description.clone(),
        Cell::ContentType => view.content_type.clone(),
        Cell::UsedBy => view.used_by.len().to_string(),
        Cell::Location => LOCATION.to_string(),
        Cell::Usage => String::new(),
    }
}

fn field_of(view: &VolumeView, field: &str) -> Option<String> {
    match field {
        "name" => Some(view.name.clone()),
        "type" => Some(view.kind.clone()),
        "content_type" => Some(view.content_type.clone()),
        "description" => Some(view.put.description.clone()),
        "project" => Some(view.project.clone()),
        key => view.put.config.get(key.strip_prefix("config.").unwrap_or(key)).cloned(),
    }
}

impl Info {
    pub(super) fn run(self, cx: &Context) -> Outcome {
        let store = cx.reader()?;
        let (pool, view) = storage_volume::shown(cx, &store, &self.place)?;
        let mut lines = vec![format!("Name: {}", view.name)];
        if !view.put.description.is_empty() {
            lines.push(format!("Description: {}", view.put.description));
        }
        lines.push(format!("Type: {}", view.kind));
        lines.push(format!("Content type: {}", view.content_type));
        if let Some(space) = list::usage(&store, &view, &pool)? {
            lines.push(format!("Usage: {}", size::format_iec(space.used)));
            lines.extend((space.total > 0).then(|| format!("Total: {}", size::format_iec(space.total))));
        }
        lines.extend(view.created_at.0.map(|t| format!("Created: {}", time::format_table(t))));
        let mut out = lines.join("\n") + "\n";
        let project = cx.project(&store)?;
        let all = match Type::parse(&view.kind) {
            Some(Type::Custom) => {
                let name = VolumeName::parse(&view.name)?;
                list::snapshots(&store, Of { project: &project, pool: &pool, name: &name })?
            }
            Some(Type::Container) => list::root_snapshots(&store, &project, &InstanceName::parse(&view.name)?)?,
            _ => Vec::new(),
        };
        out.push_str(&snapshots(&all));
        cx.print(out)?;
        Ok(DONE)
    }
}

fn snapshots(all: &[VolumeSnapshotView]) -> String {
    if all.is_empty() {
        return String::new();
    }
    let date = |t: time::GoTime| t.0.map_or_else(|| " ".to_string(), time::format_table);
    let row = |s: &VolumeSnapshotView| vec![s.name.clone(), s.put.description.clone(), date(s.put.expires_at)];
    let table = Table::new(["Name", "Description", "Expires at"], all.iter().map(row).collect());
    format!("\nSnapshots:\n{}", ascii(&table.header, &table.rows))
}
