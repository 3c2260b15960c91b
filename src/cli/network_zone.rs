//! `network zone`: DNS zones.

use super::complete;
use super::edit::edit;
use super::list::FormatOption;
use super::network_zone_record::Record;
use super::output::columns::{self, Column, column};
use super::output::yaml;
use super::{Context, DONE, Outcome, kv};
use crate::base::names::{ProjectName, ZoneName};
use crate::error::{Error, Result};
use crate::model::view::{ZonePut, ZoneView};
use crate::ops::config::{Change, change_properties, document_of};
use crate::ops::network::{zone_server, zones as ops};
use crate::store::Store;
use clap::{Args, Subcommand};
use clap_complete::engine::ArgValueCompleter;

/// Manage network zones
#[derive(Debug, Subcommand)]
pub enum Zone {
    #[command(visible_alias = "add")]
    Create(Create),
    /// Delete network zones
    #[command(visible_aliases = ["rm", "remove"])]
    Delete(One),
    /// Edit network zone configurations as YAML
    Edit(One),
    Get(Get),
    #[command(visible_alias = "ls")]
    List(List),
    #[command(subcommand)]
    Record(Record),
    Set(Set),
    /// Show network zone configurations
    Show(One),
    Unset(Unset),
}

/// Create new network zones
#[derive(Debug, Args)]
#[command(after_help = "stapes network zone create z1
    Create a new network zone

stapes network zone create z1 < config.yaml
    Create a new network zone with configuration from config.yaml")]
pub struct Create {
    /// New zone name
    #[arg(value_name = "new zone name")]
    pub zone: String,
    /// Keys and values
    #[arg(value_name = "key=value")]
    pub values: Vec<String>,
    /// Zone description
    #[arg(long, value_name = "description")]
    pub description: Option<String>,
}

/// A zone
#[derive(Debug, Args)]
pub struct One {
    /// Zone
    #[arg(value_name = "zone", add = ArgValueCompleter::new(complete::zones))]
    pub zone: String,
}

/// Get values for network zone configuration keys
#[derive(Debug, Args)]
pub struct Get {
    /// Zone
    #[arg(value_name = "zone", add = ArgValueCompleter::new(complete::zones))]
    pub zone: String,
    /// Key
    #[arg(value_name = "key")]
    pub key: String,
    /// Get the key as a network zone property
    #[arg(short, long)]
    pub property: bool,
}

/// List available network zones
///
/// Default column layout: ndu
///
/// Column shorthand chars:
///   d - Description
///   e - Project name
///   n - Name
///   u - Used by
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub struct List {
    /// Remote
    #[arg(value_name = "remote:")]
    pub remote: Option<String>,
    /// List network zones in all projects
    #[arg(long)]
    pub all_projects: bool,
    /// Columns
    #[arg(short, long, value_name = "columns", default_value = "ndu")]
    pub columns: String,
    #[command(flatten)]
    pub format: FormatOption,
}

/// Set network zone configuration keys
#[derive(Debug, Args)]
pub struct Set {
    /// Zone
    #[arg(value_name = "zone", add = ArgValueCompleter::new(complete::zones))]
    pub zone: String,
    /// Keys and values
    #[arg(value_name = "key=value", required = true)]
    pub values: Vec<String>,
    /// Set the key as a network zone property
    #[arg(short, long)]
    pub property: bool,
}

/// Unset network zone configuration keys
#[derive(Debug, Args)]
pub struct Unset {
    /// Zone
    #[arg(value_name = "zone", add = ArgValueCompleter::new(complete::zones))]
    pub zone: String,
    /// Key
    #[arg(value_name = "key")]
    pub key: String,
    /// Unset the key as a network zone property
    #[arg(short, long)]
    pub property: bool,
}

/// What a letter of `network zone list` shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cell {
    Project,
    Name,
    Description,
    UsedBy,
}

/// The letters of `network zone list -c`.
pub const COLUMNS: &[Column<Cell>] = &[
    column('e', "PROJECT", Cell::Project),
    column('n', "NAME", Cell::Name),
    column('d', "DESCRIPTION", Cell::Description),
    column('u', "USED BY", Cell::UsedBy),
];

const EDIT_HELP: &str = "### This is a YAML representation of the network zone.
### Any line starting with a '# will be ignored.
###
### A network zone consists of a set of rules and configuration items.
###
### An example would look like:
### name: example.net
### description: Internal domain
### config:
###  user.foo: bah";

/// The project in use and a zone's name.
pub(super) fn named(cx: &Context, store: &Store, word: &str) -> Result<(ProjectName, ZoneName)> {
    let name = ZoneName::parse(&kv::local(word)?).map_err(|_| ops::not_found())?;
    Ok((cx.project(store)?, name))
}

impl Zone {
    /// Runs the command.
    ///
    /// # Errors
    /// See `ops`.
    pub fn run(self, cx: &Context) -> Outcome {
        match self {
            Self::Create(create) => create.run(cx),
            Self::Delete(one) => {
                let store = cx.store()?;
                let (project, zone) = named(cx, &store, &one.zone)?;
                ops::delete(&store, &project, &zone)?;
                cx.notice(format_args!("Network zone {} deleted", one.zone))?;
                Ok(DONE)
            }
            Self::Edit(one) => edited(cx, &one.zone),
            Self::Get(get) => get.run(cx),
            Self::List(list) => list.run(cx),
            Self::Record(record) => record.run(cx),
            Self::Set(set) => {
                let change = Change::Set(cx.values(kv::assignments(&set.values)?)?);
                changed(cx, &set.zone, set.property, &change)
            }
            Self::Show(one) => {
                cx.print(yaml::document(&shown(cx, &one.zone)?)?)?;
                Ok(DONE)
            }
            Self::Unset(unset) => changed(cx, &unset.zone, unset.property, &Change::Unset(vec![unset.key])),
        }
    }
}

impl Create {
    fn run(self, cx: &Context) -> Outcome {
        let mut put: ZonePut = document_of(&cx.stdin_document()?.unwrap_or_default())?;
        put.config.extend(cx.values(kv::assignments(&self.values)?)?);
        if let Some(description) = self.description.filter(|d| !d.is_empty()) {
            put.description = description;
        }
        let name = ZoneName::parse(&kv::local(&self.zone)?)?;
        let store = cx.store()?;
        ops::create(&store, &cx.project(&store)?, &name, put)?;
        say_left_out(cx, &store, &name)?;
        cx.notice(format_args!("Network zone {name} created"))?;
        Ok(DONE)
    }
}

fn shown(cx: &Context, word: &str) -> Result<ZoneView> {
    let store = cx.reader()?;
    let (project, zone) = named(cx, &store, word)?;
    ops::show(&store, &project, &zone)
}

fn update(cx: &Context, word: &str, edit: &mut dyn FnMut(&mut ZonePut) -> Result<()>) -> Result<()> {
    let store = cx.store()?;
    let (project, zone) = named(cx, &store, word)?;
    ops::update(&store, &project, &zone, edit)?;
    say_left_out(cx, &store, &zone)
}

/// What of a zone that was written is not served, as an alias under a name that has something else.
fn say_left_out(cx: &Context, store: &Store, zone: &ZoneName) -> Result<()> {
    let about = format!("{zone}: ");
    for text in zone_server::left_out(store)? {
        if let Some(what) = text.strip_prefix(&about) {
            cx.warn(format_args!("Network zone {zone} is served without all of it: {what}"));
        }
    }
    Ok(())
}

fn edited(cx: &Context, word: &str) -> Outcome {
    let text = match cx.tty.stdin {
        true => yaml::document(&shown(cx, word)?)?,
        false => String::new(),
    };
    edit(cx, EDIT_HELP, &text, &mut |text| {
        let put: ZonePut = document_of(text)?;
        update(cx, word, &mut |target| {
            *target = put.clone();
            Ok(())
        })
    })?;
    Ok(DONE)
}

fn changed(cx: &Context, word: &str, property: bool, change: &Change) -> Outcome {
    update(cx, word, &mut |put| match (property, change) {
        (true, change) => change_properties(put, change),
        (false, Change::Set(pairs)) => {
            put.config.extend(pairs.iter().cloned());
            Ok(())
        }
        (false, Change::Unset(keys)) => {
            put.config.retain(|key, _| !keys.contains(key));
            Ok(())
        }
    })?;
    Ok(DONE)
}

impl Get {
    fn run(self, cx: &Context) -> Outcome {
        let mut put = shown(cx, &self.zone)?.put;
        cx.value(&mut put, (&self.key, self.property), &format!("network zone {:?}", self.zone))?;
        Ok(DONE)
    }
}

impl List {
    fn run(self, cx: &Context) -> Outcome {
        let format = self.format.parse()?;
        if let [word, ..] = kv::skip_remote(self.remote.as_slice())? {
            return Err(Error::invalid(format!("too many arguments; unexpected “{word}”")).into());
        }
        if cx.project_given && self.all_projects {
            return Err(Error::invalid("Can't specify --project with --all-projects").into());
        }
        let letters = if self.all_projects && self.columns == "ndu" { "endu" } else { &self.columns };
        let chosen = columns::letters(letters, COLUMNS)?;
        let store = cx.reader()?;
        let projects = match self.all_projects {
            true => store.projects()?.into_iter().map(|(name, _)| name).collect(),
            false => vec![cx.project(&store)?],
        };
        let mut all: Vec<ZoneView> = Vec::new();
        for project in &projects {
            let found = ops::list(&store, project)?;
            // What projects share is there once.
            let new: Vec<ZoneView> = found.into_iter().filter(|view| !all.contains(view)).collect();
            all.extend(new);
        }
        let row = |view: &ZoneView| chosen.iter().map(|c| cell(view, c.cell)).collect();
        let header: Vec<&str> = chosen.iter().map(|c| c.header).collect();
        self.format.print(&format, &header, all.iter().map(row).collect(), &all)
    }
}

fn cell(view: &ZoneView, cell: Cell) -> String {
    match cell {
        Cell::Project => view.project.clone(),
        Cell::Name => view.name.clone(),
        Cell::Description => view.put.description.clone(),
        Cell::UsedBy => view.used_by.len().to_string(),
    }
}
