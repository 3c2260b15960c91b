//! `network zone record`: what users put into DNS zones.

use super::complete;
use super::edit::edit;
use super::list::FormatOption;
use super::network_zone::named;
use super::output::yaml;
use super::{Context, DONE, Outcome, kv};
use crate::base::names::{ProjectName, ZoneName, ZoneRecordName};
use crate::error::{Error, Result};
use crate::model::network::zone::ZoneEntry;
use crate::model::view::{ZoneRecordPut, ZoneRecordView};
use crate::ops::config::{Change, change_properties, document_of};
use crate::ops::network::zones as ops;
use crate::store::Store;
use clap::{Args, Subcommand};
use clap_complete::engine::ArgValueCompleter;

/// Manage network zone records
#[derive(Debug, Subcommand)]
pub enum Record {
    #[command(visible_alias = "add")]
    Create(Create),
    /// Delete network zone records
    #[command(visible_aliases = ["rm", "remove"])]
    Delete(One),
    /// Edit network zone record configurations as YAML
    Edit(One),
    #[command(subcommand)]
    Entry(Entry),
    Get(Get),
    #[command(visible_alias = "ls")]
    List(List),
    Set(Set),
    /// Show network zone record configurations
    Show(One),
    Unset(Unset),
}

/// A zone and a name in it.
#[derive(Debug, Args)]
pub struct Place {
    /// Zone
    #[arg(value_name = "zone", add = ArgValueCompleter::new(complete::zones))]
    pub zone: String,
    /// Record
    #[arg(value_name = "record")]
    pub record: String,
}

/// Create new network zone records
#[derive(Debug, Args)]
pub struct Create {
    #[command(flatten)]
    pub place: Place,
    /// Keys and values
    #[arg(value_name = "key=value")]
    pub values: Vec<String>,
    /// Record description
    #[arg(long, value_name = "description")]
    pub description: Option<String>,
}

/// A record
#[derive(Debug, Args)]
pub struct One {
    #[command(flatten)]
    pub place: Place,
}

/// Get values for network zone record configuration keys
#[derive(Debug, Args)]
pub struct Get {
    #[command(flatten)]
    pub place: Place,
    /// Key
    #[arg(value_name = "key")]
    pub key: String,
    /// Get the key as a network zone record property
    #[arg(short, long)]
    pub property: bool,
}

/// List available network zone records
#[derive(Debug, Args)]
pub struct List {
    /// Zone
    #[arg(value_name = "zone", add = ArgValueCompleter::new(complete::zones))]
    pub zone: String,
    #[command(flatten)]
    pub format: FormatOption,
}

/// Set network zone record configuration keys
#[derive(Debug, Args)]
pub struct Set {
    #[command(flatten)]
    pub place: Place,
    /// Keys and values
    #[arg(value_name = "key=value", required = true)]
    pub values: Vec<String>,
    /// Set the key as a network zone record property
    #[arg(short, long)]
    pub property: bool,
}

/// Unset network zone record configuration keys
#[derive(Debug, Args)]
pub struct Unset {
    #[command(flatten)]
    pub place: Place,
    /// Key
    #[arg(value_name = "key")]
    pub key: String,
    /// Unset the key as a network zone record property
    #[arg(short, long)]
    pub property: bool,
}

/// Manage network zone record entries
#[derive(Debug, Subcommand)]
pub enum Entry {
    #[command(visible_alias = "create")]
    Add(AddEntry),
    #[command(visible_aliases = ["delete", "rm"])]
    Remove(RemoveEntry),
}

/// Add a network zone record entry
#[derive(Debug, Args)]
pub struct AddEntry {
    #[command(flatten)]
    pub place: Place,
    /// Type
    #[arg(value_name = "type")]
    pub kind: String,
    /// Value
    #[arg(value_name = "value")]
    pub value: String,
    /// Entry TTL
    #[arg(long, value_name = "seconds", default_value_t = 0)]
    pub ttl: u64,
}

/// Remove a network zone record entry
#[derive(Debug, Args)]
pub struct RemoveEntry {
    #[command(flatten)]
    pub place: Place,
    /// Type
    #[arg(value_name = "type")]
    pub kind: String,
    /// Value
    #[arg(value_name = "value")]
    pub value: String,
}

const EDIT_HELP: &str = "### This is a YAML representation of the network zone record.
### Any line starting with a '# will be ignored.
###
### An example would look like:
### name: foo
### description: SPF record
### config:
###   user.foo: bah
### entries:
###   - type: TXT
###     value: v=spf1 mx ~all";

/// The project in use, and the zone and name of a record.
fn place_of(cx: &Context, store: &Store, place: &Place) -> Result<(ProjectName, ZoneName, ZoneRecordName)> {
    let (project, zone) = named(cx, store, &place.zone)?;
    let name = ZoneRecordName::parse(&place.record).map_err(|_| ops::no_record())?;
    Ok((project, zone, name))
}

impl Record {
    /// Runs the command.
    ///
    /// # Errors
    /// See `ops`.
    pub fn run(self, cx: &Context) -> Outcome {
        match self {
            Self::Create(create) => create.run(cx),
            Self::Delete(One { place }) => {
                let store = cx.store()?;
                let (project, zone, name) = place_of(cx, &store, &place)?;
                ops::delete_record(&store, &project, (&zone, &name))?;
                cx.notice(format_args!("Network zone record {name} deleted"))?;
                Ok(DONE)
            }
            Self::Edit(one) => edited(cx, &one.place),
            Self::Entry(Entry::Add(add)) => add.run(cx),
            Self::Entry(Entry::Remove(remove)) => remove.run(cx),
            Self::Get(get) => get.run(cx),
            Self::List(list) => list.run(cx),
            Self::Set(set) => {
                let change = Change::Set(cx.values(kv::assignments(&set.values)?)?);
                changed(cx, &set.place, set.property, &change)
            }
            Self::Show(one) => {
                cx.print(yaml::document(&shown(cx, &one.place)?)?)?;
                Ok(DONE)
            }
            Self::Unset(unset) => changed(cx, &unset.place, unset.property, &Change::Unset(vec![unset.key])),
        }
    }
}

impl Create {
    fn run(self, cx: &Context) -> Outcome {
        let mut put: ZoneRecordPut = document_of(&cx.stdin_document()?.unwrap_or_default())?;
        put.config.extend(cx.values(kv::assignments(&self.values)?)?);
        if let Some(description) = self.description.filter(|d| !d.is_empty()) {
            put.description = description;
        }
        let name = ZoneRecordName::parse(&self.place.record)?;
        let store = cx.store()?;
        let (project, zone) = named(cx, &store, &self.place.zone)?;
        ops::create_record(&store, &project, (&zone, &name), put)?;
        cx.notice(format_args!("Network zone record {name} created"))?;
        Ok(DONE)
    }
}

fn shown(cx: &Context, place: &Place) -> Result<ZoneRecordView> {
    let store = cx.reader()?;
    let (project, zone, name) = place_of(cx, &store, place)?;
    ops::record(&store, &project, (&zone, &name))
}

fn update(cx: &Context, place: &Place, edit: &mut dyn FnMut(&mut ZoneRecordPut) -> Result<()>) -> Result<()> {
    let store = cx.store()?;
    let (project, zone, name) = place_of(cx, &store, place)?;
    ops::update_record(&store, &project, (&zone, &name), edit)
}

fn edited(cx: &Context, place: &Place) -> Outcome {
    let text = match cx.tty.stdin {
        true => yaml::document(&shown(cx, place)?)?,
        false => String::new(),
    };
    edit(cx, EDIT_HELP, &text, &mut |text| {
        let put: ZoneRecordPut = document_of(text)?;
        update(cx, place, &mut |target| {
            *target = put.clone();
            Ok(())
        })
    })?;
    Ok(DONE)
}

fn changed(cx: &Context, place: &Place, property: bool, change: &Change) -> Outcome {
    update(cx, place, &mut |put| match (property, change) {
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
        let mut put = shown(cx, &self.place)?.put;
        cx.value(&mut put, (&self.key, self.property), &format!("network zone record {:?}", self.place.record))?;
        Ok(DONE)
    }
}

impl List {
    fn run(self, cx: &Context) -> Outcome {
        let format = self.format.parse()?;
        let store = cx.reader()?;
        let (project, zone) = named(cx, &store, &self.zone)?;
        let all = ops::records(&store, &project, &zone)?;
        let entries = |view: &ZoneRecordView| {
            let lines: Vec<String> = view.put.entries.iter().map(|e| format!("{} {}", e.kind, e.value)).collect();
            lines.join("\n")
        };
        let row = |view: &ZoneRecordView| vec![view.name.clone(), view.put.description.clone(), entries(view)];
        self.format.print(&format, &["NAME", "DESCRIPTION", "ENTRIES"], all.iter().map(row).collect(), &all)
    }
}

impl AddEntry {
    fn run(self, cx: &Context) -> Outcome {
        let entry = ZoneEntry { kind: self.kind, ttl: self.ttl, value: self.value };
        update(cx, &self.place, &mut |put| {
            put.entries.push(entry.clone());
            Ok(())
        })?;
        Ok(DONE)
    }
}

impl RemoveEntry {
    fn run(self, cx: &Context) -> Outcome {
        update(cx, &self.place, &mut |put| {
            let before = put.entries.len();
            put.entries.retain(|e| e.kind != self.kind || e.value != self.value);
            match put.entries.len() == before {
                true => Err(Error::not_found("Couldn't find a matching entry")),
                false => Ok(()),
            }
        })?;
        Ok(DONE)
    }
}
