//! `storage volume snapshot`: copies of volumes as they were.

use super::list::FormatOption;
use super::output::columns::{self, Column, column};
use super::output::yaml;
use super::storage_volume::{Named, Word, pool, shown_snapshot};
use super::{Context, DONE, Outcome, complete};
use crate::base::names::SnapshotName;
use crate::base::time;
use crate::error::{Error, Result};
use crate::model::view::{VolumeSnapshotPut, VolumeSnapshotView};
use crate::ops::config::document_of;
use crate::ops::snapshot::{Expiry, Request};
use crate::ops::volume::list::{self, Type};
use crate::ops::volume::snapshot as ops;
use crate::store::Store;
use clap::{Args, Subcommand};
use clap_complete::engine::ArgValueCompleter;

/// Manage storage volume snapshots
#[derive(Debug, Subcommand)]
pub enum Snapshot {
    #[command(visible_alias = "add")]
    Create(Create),
    #[command(visible_aliases = ["rm", "remove"])]
    Delete(Delete),
    #[command(visible_alias = "ls")]
    List(List),
    Rename(Rename),
    /// Restore storage volume snapshots
    Restore(One),
    Show(Show),
}

// Flattened: no doc comment.
#[derive(Debug, Args)]
pub struct Place {
    /// Pool
    #[arg(value_name = "pool", add = ArgValueCompleter::new(complete::pools))]
    pub pool: String,
    /// Volume
    #[arg(value_name = "volume", add = ArgValueCompleter::new(complete::volumes))]
    pub volume: String,
}

/// Snapshot storage volumes
#[derive(Debug, Args)]
#[command(after_help = "stapes storage volume snapshot create default foo snap0
    Create a snapshot of \"foo\" in pool \"default\" called \"snap0\"

stapes storage volume snapshot create default vol1 snap0 < config.yaml
    Create a snapshot of \"vol1\" in pool \"default\" called \"snap0\" with the configuration from \"config.yaml\"")]
pub struct Create {
    #[command(flatten)]
    pub place: Place,
    /// New snapshot name
    #[arg(value_name = "new snapshot name")]
    pub snapshot: Option<String>,
    /// Snapshot description
    #[arg(long, value_name = "description")]
    pub description: Option<String>,
    /// Expiry date or time span for the new snapshot
    #[arg(long, value_name = "expiry")]
    pub expiry: Option<String>,
    /// Ignore any configured auto-expiry for the storage volume
    #[arg(long)]
    pub no_expiry: bool,
    /// If the snapshot name already exists, delete and create a new one
    #[arg(long)]
    pub reuse: bool,
}

/// Delete storage volume snapshots
#[derive(Debug, Args)]
pub struct Delete {
    #[command(flatten)]
    pub place: Place,
    /// Snapshots
    #[arg(value_name = "snapshot", required = true, add = ArgValueCompleter::new(complete::volume_snapshots))]
    pub snapshots: Vec<String>,
}

/// List storage volume snapshots
///
/// Default column layout: nTE
///
/// Column shorthand chars:
///   n - Name
///   T - Taken at
///   E - Expires at
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub struct List {
    #[command(flatten)]
    pub place: Place,
    /// Columns
    #[arg(short, long, value_name = "columns", default_value = "nTE")]
    pub columns: String,
    #[command(flatten)]
    pub format: FormatOption,
}

/// Rename storage volume snapshots
#[derive(Debug, Args)]
pub struct Rename {
    #[command(flatten)]
    pub which: One,
    /// New snapshot name
    #[arg(value_name = "new snapshot name")]
    pub new_name: String,
}

// Flattened too: no doc comment.
#[derive(Debug, Args)]
pub struct One {
    #[command(flatten)]
    pub place: Place,
    /// Snapshot
    #[arg(value_name = "snapshot", add = ArgValueCompleter::new(complete::volume_snapshots))]
    pub snapshot: String,
}

/// Show storage volume snapshot configurations
///
/// Show the storage volume snapshot configurations: <volume> <snapshot>, or <volume>/<snapshot>.
#[derive(Debug, Args)]
pub struct Show {
    #[command(flatten)]
    pub place: Place,
    /// Snapshot
    #[arg(value_name = "snapshot", add = ArgValueCompleter::new(complete::volume_snapshots))]
    pub snapshot: Option<String>,
}

/// What a letter of `storage volume snapshot list` shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cell {
    Name,
    Taken,
    Expires,
}

/// The letters of `storage volume snapshot list -c`.
pub const COLUMNS: &[Column<Cell>] =
    &[column('n', "NAME", Cell::Name), column('T', "TAKEN AT", Cell::Taken), column('E', "EXPIRES AT", Cell::Expires)];

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
            Self::Restore(one) => restore(cx, &one),
            Self::Show(show) => show.run(cx),
        }
    }
}

/// A name that none can have is not found.
fn named(word: &str) -> Result<SnapshotName> {
    SnapshotName::parse(word).map_err(|_| ops::not_found())
}

/// A new name.
fn new_name(word: &str) -> Result<SnapshotName> {
    SnapshotName::parse(word).map_err(|e| {
        Error::invalid(e.to_string().replacen("Invalid instance snapshot", "Invalid storage volume snapshot", 1))
    })
}

impl Create {
    fn run(self, cx: &Context) -> Outcome {
        if self.no_expiry && self.expiry.is_some() {
            return Err(Error::invalid("Can't use both --no-expiry and --expiry").into());
        }
        if self.reuse && self.snapshot.is_none() {
            return Err(Error::invalid("--reuse needs the name of a snapshot").into());
        }
        let given: VolumeSnapshotPut = document_of(&cx.stdin_document()?.unwrap_or_default())?;
        let expiry = match (&self.expiry, given.expires_at.0) {
            _ if self.no_expiry => Expiry::Never,
            (Some(text), _) => Expiry::parse(text)?,
            (None, Some(at)) => Expiry::At(at),
            (None, None) => Expiry::Configured,
        };
        let name = self.snapshot.as_deref().map(new_name).transpose()?;
        let request = Request { name, expiry, reuse: self.reuse, scheduled: None };
        let store = cx.store()?;
        let volume = Named::of(cx, &store, (&self.place.pool, &self.place.volume), "snapshotted")?;
        let description = self.description.filter(|d| !d.is_empty()).unwrap_or(given.description);
        let made = ops::create(&store, volume.get(), &request, &description)?;
        if self.snapshot.is_none() {
            cx.notice(format_args!("Volume snapshot name is: {made}"))?;
        }
        Ok(DONE)
    }
}

impl Delete {
    fn run(self, cx: &Context) -> Outcome {
        let names = self.snapshots.iter().map(|s| named(s)).collect::<Result<Vec<_>>>()?;
        let store = cx.store()?;
        let volume = Named::of(cx, &store, (&self.place.pool, &self.place.volume), "snapshotted")?;
        ops::delete(&store, volume.get(), &names)?;
        for name in &names {
            cx.notice(format_args!("Storage volume snapshot {name} deleted from {}", volume.name))?;
        }
        Ok(DONE)
    }
}

impl List {
    fn run(self, cx: &Context) -> Outcome {
        let format = self.format.parse()?;
        let chosen = columns::letters(&self.columns, COLUMNS)?;
        let store = cx.reader()?;
        let (volume, all) = snapshots(cx, &store, &self.place)?;
        let row = |view: &VolumeSnapshotView| chosen.iter().map(|c| cell(view, c.cell)).collect();
        let header: Vec<&str> = chosen.iter().map(|c| c.header).collect();
        let rows = all.iter().map(row).collect();
        // As an object it has its volume's name, too.
        let full = |view: VolumeSnapshotView| VolumeSnapshotView { name: format!("{volume}/{}", view.name), ..view };
        let all: Vec<_> = all.iter().cloned().map(full).collect();
        self.format.print(&format, &header, rows, &all)
    }
}

/// A volume's name and its snapshots.
fn snapshots(cx: &Context, store: &Store, place: &Place) -> Result<(String, Vec<VolumeSnapshotView>)> {
    let word = Word::parse(&place.volume);
    if word.kind == Type::Custom || word.snapshot.is_some() {
        let volume = Named::of(cx, store, (&place.pool, &place.volume), "listed")?;
        let all = list::snapshots(store, volume.get())?;
        return Ok((volume.name.to_string(), all));
    }
    let all = list::snapshots_of(store, &cx.project(store)?, &pool(&place.pool)?, (word.kind, &word.name));
    Ok((word.name.clone(), all.map_err(|e| word.missing(e))?))
}

fn cell(view: &VolumeSnapshotView, cell: Cell) -> String {
    let date = |t: time::GoTime| t.0.map_or_else(|| " ".to_string(), time::format_table);
    match cell {
        Cell::Name => view.name.clone(),
        Cell::Taken => date(view.created_at),
        Cell::Expires => date(view.put.expires_at),
    }
}

impl Rename {
    fn run(self, cx: &Context) -> Outcome {
        let (from, to) = (named(&self.which.snapshot)?, new_name(&self.new_name)?);
        let store = cx.store()?;
        let place = &self.which.place;
        let volume = Named::of(cx, &store, (&place.pool, &place.volume), "snapshotted")?;
        ops::rename(&store, volume.get(), &from, &to)?;
        cx.notice(format_args!("Renamed storage volume snapshot from \"{from}\" to \"{to}\""))?;
        Ok(DONE)
    }
}

fn restore(cx: &Context, one: &One) -> Outcome {
    let snapshot = named(&one.snapshot)?;
    let store = cx.store()?;
    let volume = Named::of(cx, &store, (&one.place.pool, &one.place.volume), "restored")?;
    ops::restore(&store, volume.get(), &snapshot)?;
    Ok(DONE)
}

impl Show {
    fn run(self, cx: &Context) -> Outcome {
        let word = match &self.snapshot {
            Some(snapshot) => format!("{}/{snapshot}", self.place.volume),
            None => self.place.volume,
        };
        let found = shown_snapshot(cx, &cx.reader()?, (&self.place.pool, &word))?;
        cx.print(yaml::document(&found.ok_or_else(|| Error::invalid("Missing snapshot name"))?)?)?;
        Ok(DONE)
    }
}
