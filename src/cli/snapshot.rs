//! `snapshot`: copies of instances as they were.

use super::complete;
use super::list::FormatOption;
use super::output::columns::{self, Column, column};
use super::output::yaml;
use super::snapshot_config::{SnapshotPut, view};
use super::{Context, DONE, Outcome, config, kv, refuse_option};
use crate::base::names::SnapshotName;
use crate::base::time;
use crate::error::{Error, Result};
use crate::model::view::SnapshotView;
use crate::ops::config::document_of;
use crate::ops::snapshot::{self as ops, Expiry, Request};
use crate::ops::{list, load, restore};
use clap::{Args, Subcommand};
use clap_complete::engine::ArgValueCompleter;

/// Manage instance snapshots
#[derive(Debug, Subcommand)]
pub enum Snapshot {
    #[command(visible_alias = "add")]
    Create(Create),
    #[command(visible_aliases = ["rm", "remove"])]
    Delete(Delete),
    #[command(visible_alias = "ls")]
    List(List),
    Rename(Rename),
    Restore(Restore),
    Show(Show),
}

/// Create instance snapshots
///
/// When --stateful is used, the instance's running state is to be kept, too; this version cannot do that.
#[derive(Debug, Args)]
#[command(after_help = "stapes snapshot create u1 snap0
    Create a snapshot of \"u1\" called \"snap0\".

stapes snapshot create u1 snap0 < config.yaml
    Create a snapshot of \"u1\" called \"snap0\" with the configuration from \"config.yaml\".

stapes snapshot create u1 --expiry 2w
    Create one with the next free name that goes after two weeks.")]
pub struct Create {
    /// Instance
    #[arg(value_name = "instance", add = ArgValueCompleter::new(complete::instances))]
    pub instance: String,
    /// New snapshot name
    #[arg(value_name = "new snapshot name")]
    pub snapshot: Option<String>,
    /// Expiry date or time span for the new snapshot
    #[arg(long, value_name = "expiry")]
    pub expiry: Option<String>,
    /// Ignore any configured auto-expiry for the instance
    #[arg(long)]
    pub no_expiry: bool,
    /// If the snapshot name already exists, delete and create a new one
    #[arg(long)]
    pub reuse: bool,
    /// Whether or not to snapshot the instance's running state
    #[arg(long)]
    pub stateful: bool,
}

/// Delete instance snapshots
#[derive(Debug, Args)]
pub struct Delete {
    /// Instance
    #[arg(value_name = "instance", add = ArgValueCompleter::new(complete::instances))]
    pub instance: String,
    /// Snapshots
    #[arg(value_name = "snapshot", required = true, add = ArgValueCompleter::new(complete::snapshots))]
    pub snapshots: Vec<String>,
    /// Require user confirmation
    #[arg(short, long)]
    pub interactive: bool,
}

/// List instance snapshots
///
/// Default column layout: nTEs
///
/// Column shorthand chars:
///   n - Name
///   T - Taken At
///   E - Expires At
///   s - Stateful
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub struct List {
    /// Instance
    #[arg(value_name = "instance", add = ArgValueCompleter::new(complete::instances))]
    pub instance: String,
    /// Columns
    #[arg(short, long, value_name = "columns", default_value = "nTEs")]
    pub columns: String,
    #[command(flatten)]
    pub format: FormatOption,
}

/// Rename instance snapshots
#[derive(Debug, Args)]
pub struct Rename {
    #[command(flatten)]
    pub which: One,
    /// New snapshot name
    #[arg(value_name = "new snapshot name")]
    pub new_name: String,
}

/// Restore instance snapshots
///
/// A running instance is stopped for it and started again.
#[derive(Debug, Args)]
#[command(after_help = "stapes snapshot restore u1 snap0
    Restore instance u1 to snapshot snap0")]
pub struct Restore {
    #[command(flatten)]
    pub which: One,
    /// Only restore the instance's disk
    #[arg(long)]
    pub diskonly: bool,
    /// Whether or not to restore the instance's running state from snapshot (if available)
    #[arg(long)]
    pub stateful: bool,
}

/// Show instance snapshot configuration
#[derive(Debug, Args)]
pub struct Show {
    #[command(flatten)]
    pub which: One,
}

// Flattened: no doc comment.
#[derive(Debug, Args)]
pub struct One {
    /// Instance
    #[arg(value_name = "instance", add = ArgValueCompleter::new(complete::instances))]
    pub instance: String,
    /// Snapshot
    #[arg(value_name = "snapshot", add = ArgValueCompleter::new(complete::snapshots))]
    pub snapshot: String,
}

/// What a letter of `snapshot list` shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cell {
    Name,
    Taken,
    Expires,
    Stateful,
}

/// The letters of `snapshot list -c`.
pub const COLUMNS: &[Column<Cell>] = &[
    column('n', "NAME", Cell::Name),
    column('T', "TAKEN AT", Cell::Taken),
    column('E', "EXPIRES AT", Cell::Expires),
    column('s', "STATEFUL", Cell::Stateful),
];

impl Snapshot {
    /// Runs the command.
    ///
    /// # Errors
    /// See `ops`.
    pub fn run(self, cx: &Context) -> Outcome {
        match self {
            Self::Create(create) => create.run(cx),
            Self::Delete(delete) => delete.run(cx),
            Self::List(list) => list.run(cx),
            Self::Rename(rename) => rename.run(cx),
            Self::Restore(restore) => restore.run(cx),
            Self::Show(show) => show.run(cx),
        }
    }
}

/// A name that none can have is not found.
pub(super) fn named(word: &str) -> Result<SnapshotName> {
    SnapshotName::parse(word).map_err(|_| ops::not_found())
}

impl Create {
    fn run(self, cx: &Context) -> Outcome {
        refuse_option("--stateful", self.stateful)?;
        if self.no_expiry && self.expiry.is_some() {
            return Err(Error::invalid("Can't use both --no-expiry and --expiry").into());
        }
        let given: SnapshotPut = document_of(&cx.stdin_document()?.unwrap_or_default())?;
        let expiry = match (&self.expiry, given.expires_at.0) {
            _ if self.no_expiry => Expiry::Never,
            (Some(text), _) => Expiry::parse(text)?,
            (None, Some(at)) => Expiry::At(at),
            (None, None) => Expiry::Configured,
        };
        if self.reuse && self.snapshot.is_none() {
            return Err(Error::invalid("--reuse needs the name of a snapshot").into());
        }
        let request = Request {
            name: self.snapshot.as_deref().map(SnapshotName::parse).transpose()?,
            expiry,
            reuse: self.reuse,
            scheduled: None,
        };
        let store = cx.store()?;
        let (project, name) = config::instance(cx, &store, &kv::local(&self.instance)?)?;
        let made = ops::create(&store, (&project, &name), &request)?;
        if self.snapshot.is_none() {
            cx.notice(format_args!("Instance snapshot name is: {made}"))?;
        }
        Ok(DONE)
    }
}

impl Delete {
    fn run(self, cx: &Context) -> Outcome {
        let instance = kv::local(&self.instance)?;
        for snapshot in self.snapshots.iter().filter(|_| self.interactive) {
            if !cx.confirm(&format!("Remove {instance}/{snapshot}"))? {
                return Err(Error::failed("User aborted delete operation").into());
            }
        }
        let names = self.snapshots.iter().map(|s| named(s)).collect::<Result<Vec<_>>>()?;
        let store = cx.store()?;
        let (project, name) = config::instance(cx, &store, &instance)?;
        ops::delete(&store, (&project, &name), &names)?;
        Ok(DONE)
    }
}

impl List {
    fn run(self, cx: &Context) -> Outcome {
        let format = self.format.parse()?;
        let chosen = columns::letters(&self.columns, COLUMNS)?;
        let store = cx.reader()?;
        let (project, name) = config::instance(cx, &store, &kv::local(&self.instance)?)?;
        store.instance(&project, &name)?.ok_or_else(load::not_found)?;
        let all = list::snapshots(&store, &project, &name)?;
        let row = |view: &SnapshotView| chosen.iter().map(|c| cell(view, c.cell)).collect();
        let header: Vec<&str> = chosen.iter().map(|c| c.header).collect();
        self.format.print(&format, &header, all.iter().map(row).collect(), &all)
    }
}

fn cell(view: &SnapshotView, cell: Cell) -> String {
    let date = |t: &time::GoTime| t.0.map_or(" ".to_string(), time::format_table);
    match cell {
        Cell::Name => view.name.clone(),
        Cell::Taken => date(&view.created_at),
        Cell::Expires => date(&view.expires_at),
        Cell::Stateful => if view.stateful { "YES" } else { "NO" }.to_string(),
    }
}

impl Rename {
    fn run(self, cx: &Context) -> Outcome {
        let (from, to) = (named(&self.which.snapshot)?, SnapshotName::parse(&self.new_name)?);
        let store = cx.store()?;
        let (project, name) = config::instance(cx, &store, &kv::local(&self.which.instance)?)?;
        ops::rename(&store, (&project, &name), &from, &to)?;
        Ok(DONE)
    }
}

impl Restore {
    fn run(self, cx: &Context) -> Outcome {
        refuse_option("--stateful", self.stateful)?;
        let request = restore::Request { snapshot: named(&self.which.snapshot)?, disk_only: self.diskonly };
        let store = cx.store()?;
        let (project, name) = config::instance(cx, &store, &kv::local(&self.which.instance)?)?;
        restore::restore(&store, (&project, &name), &request)?;
        Ok(DONE)
    }
}

impl Show {
    fn run(self, cx: &Context) -> Outcome {
        let store = cx.reader()?;
        let (project, name) = config::instance(cx, &store, &kv::local(&self.which.instance)?)?;
        cx.print(yaml::document(&view(&store, (&project, &name), &self.which.snapshot)?)?)?;
        Ok(DONE)
    }
}
