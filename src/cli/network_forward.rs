//! `network forward`: addresses of the host whose packets go to instances.

use super::complete;
use super::edit::edit;
use super::list::FormatOption;
use super::network::named;
use super::output::columns::{self, Column, column};
use super::output::yaml;
use super::{Context, DONE, Outcome, kv, refuse_target};
use crate::error::{Error, Result};
use crate::model::network::forward::ForwardPort;
use crate::model::view::{ForwardPut, ForwardView, LOCATION};
use crate::ops::config::{Change, change_properties, document_of};
use crate::ops::network::forwards as ops;
use clap::{Args, Subcommand};
use clap_complete::engine::ArgValueCompleter;

/// Manage network forwards
#[derive(Debug, Subcommand)]
pub enum Forward {
    #[command(visible_alias = "add")]
    Create(Create),
    #[command(visible_aliases = ["rm", "remove"])]
    Delete(One),
    /// Edit network forward configurations as YAML
    Edit(One),
    Get(Get),
    #[command(visible_alias = "ls")]
    List(List),
    #[command(subcommand)]
    Port(Port),
    Set(Set),
    /// Show network forward configurations
    Show(One),
    Unset(Unset),
}

/// A network and an address.
#[derive(Debug, Args)]
pub struct Place {
    /// Network
    #[arg(value_name = "network", add = ArgValueCompleter::new(complete::networks))]
    pub network: String,
    /// Listen address
    #[arg(value_name = "listen address", add = ArgValueCompleter::new(complete::forwards))]
    pub address: String,
    /// Cluster member name
    #[arg(long, value_name = "member", hide = true)]
    pub target: Option<String>,
}

/// Create new network forwards
#[derive(Debug, Args)]
#[command(after_help = "stapes network forward create n1 127.0.0.1

stapes network forward create n1 127.0.0.1 < config.yaml
    Create a new network forward for network n1 from config.yaml")]
pub struct Create {
    #[command(flatten)]
    pub place: Place,
    /// Keys and values
    #[arg(value_name = "key=value")]
    pub values: Vec<String>,
    /// Network forward description
    #[arg(long, value_name = "description")]
    pub description: Option<String>,
}

/// Delete network forwards
#[derive(Debug, Args)]
pub struct One {
    #[command(flatten)]
    pub place: Place,
}

/// Get values for network forward configuration keys
#[derive(Debug, Args)]
pub struct Get {
    #[command(flatten)]
    pub place: Place,
    /// Key
    #[arg(value_name = "key", add = ArgValueCompleter::new(complete::forward_keys))]
    pub key: String,
    /// Get the key as a network forward property
    #[arg(short, long)]
    pub property: bool,
}

/// List available network forwards
///
/// Default column layout: ldDp
///
/// Column shorthand chars:
///   l - Listen Address
///   d - Description
///   D - Default Target Address
///   p - Port
///   L - Location of the network zone (e.g. its cluster member)
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub struct List {
    /// Network
    #[arg(value_name = "network", add = ArgValueCompleter::new(complete::networks))]
    pub network: String,
    /// Columns
    #[arg(short, long, value_name = "columns", default_value = "ldDp")]
    pub columns: String,
    #[command(flatten)]
    pub format: FormatOption,
}

/// Set network forward keys
///
/// For backward compatibility, a single configuration key may still be set with:
///     stapes network forward set [<remote>:]<network> <listen_address> <key> <value>
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub struct Set {
    #[command(flatten)]
    pub place: Place,
    /// Keys and values
    #[arg(value_name = "key=value", required = true, add = ArgValueCompleter::new(complete::forward_keys))]
    pub values: Vec<String>,
    /// Set the key as a network forward property
    #[arg(short, long)]
    pub property: bool,
}

/// Unset network forward keys
#[derive(Debug, Args)]
pub struct Unset {
    #[command(flatten)]
    pub place: Place,
    /// Key
    #[arg(value_name = "key", add = ArgValueCompleter::new(complete::forward_keys))]
    pub key: String,
    /// Unset the key as a network forward property
    #[arg(short, long)]
    pub property: bool,
}

/// Manage network forward ports
#[derive(Debug, Subcommand)]
pub enum Port {
    #[command(visible_alias = "create")]
    Add(AddPort),
    #[command(visible_aliases = ["delete", "rm"])]
    Remove(RemovePort),
}

/// Add ports to a forward
#[derive(Debug, Args)]
pub struct AddPort {
    #[command(flatten)]
    pub place: Place,
    /// Protocol
    #[arg(value_name = "protocol", add = ArgValueCompleter::new(complete::protocols))]
    pub protocol: String,
    /// Listen ports
    #[arg(value_name = "listen ports")]
    pub listen: String,
    /// Target address
    #[arg(value_name = "target address")]
    pub target_address: String,
    /// Target ports
    #[arg(value_name = "target ports")]
    pub ports: Option<String>,
    /// Port description
    #[arg(long, value_name = "description")]
    pub description: Option<String>,
}

/// Remove ports from a forward
#[derive(Debug, Args)]
pub struct RemovePort {
    #[command(flatten)]
    pub place: Place,
    /// Protocol
    #[arg(value_name = "protocol", add = ArgValueCompleter::new(complete::protocols))]
    pub protocol: Option<String>,
    /// Listen ports
    #[arg(value_name = "listen ports")]
    pub listen: Option<String>,
    /// Remove all ports that match
    #[arg(short, long)]
    pub force: bool,
}

/// What a letter of `network forward list` shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cell {
    Listen,
    Description,
    Target,
    Ports,
    Location,
}

/// The letters of `network forward list -c`.
pub const COLUMNS: &[Column<Cell>] = &[
    column('l', "LISTEN ADDRESS", Cell::Listen),
    column('d', "DESCRIPTION", Cell::Description),
    column('D', "DEFAULT TARGET ADDRESS", Cell::Target),
    column('p', "PORTS", Cell::Ports),
    column('L', "LOCATION", Cell::Location),
];

const EDIT_HELP: &str = "### This is a YAML representation of the network forward.
### Any line starting with a '# will be ignored.
###
### A network forward consists of a default target address and optional set of port forwards for a listen address.
###
### An example would look like:
### listen_address: 192.0.2.1
### config:
###   target_address: 198.51.100.2
### description: test desc
### ports:
### - description: port forward
###   protocol: tcp
###   listen_port: 80,81,8080-8090
###   target_address: 198.51.100.3
###   target_port: 80,81,8080-8090
### location: server01
###
### Note that the listen_address and location cannot be changed.";

impl Forward {
    /// Runs the command.
    ///
    /// # Errors
    /// See `ops`.
    pub fn run(self, cx: &Context) -> Outcome {
        match self {
            Self::Create(create) => create.run(cx),
            Self::Delete(one) => delete(cx, &one.place),
            Self::Edit(one) => edited(cx, &one.place),
            Self::Get(get) => get.run(cx),
            Self::List(list) => list.run(cx),
            Self::Port(Port::Add(add)) => add.run(cx),
            Self::Port(Port::Remove(remove)) => remove.run(cx),
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

fn shown(cx: &Context, place: &Place) -> Result<ForwardView> {
    refuse_target(place.target.as_deref())?;
    let store = cx.reader()?;
    let (project, network) = named(cx, &store, &place.network)?;
    ops::show(&store, (&project, &network), &place.address)
}

fn update(cx: &Context, place: &Place, edit: &mut dyn FnMut(&mut ForwardPut) -> Result<()>) -> Result<()> {
    refuse_target(place.target.as_deref())?;
    let store = cx.store()?;
    let (project, network) = named(cx, &store, &place.network)?;
    ops::update(&store, (&project, &network), &place.address, edit)
}

impl Create {
    fn run(self, cx: &Context) -> Outcome {
        refuse_target(self.place.target.as_deref())?;
        let mut put: ForwardPut = document_of(&cx.stdin_document()?.unwrap_or_default())?;
        put.config.extend(cx.values(kv::assignments(&self.values)?)?);
        if let Some(description) = self.description.filter(|d| !d.is_empty()) {
            put.description = description;
        }
        let store = cx.store()?;
        let (project, network) = named(cx, &store, &self.place.network)?;
        let address = ops::create(&store, (&project, &network), &self.place.address, put)?;
        cx.notice(format_args!("Network forward {address} created"))?;
        Ok(DONE)
    }
}

fn delete(cx: &Context, place: &Place) -> Outcome {
    refuse_target(place.target.as_deref())?;
    let store = cx.store()?;
    let (project, network) = named(cx, &store, &place.network)?;
    ops::delete(&store, (&project, &network), &place.address)?;
    cx.notice(format_args!("Network forward {} deleted", place.address))?;
    Ok(DONE)
}

fn edited(cx: &Context, place: &Place) -> Outcome {
    let text = match cx.tty.stdin {
        true => yaml::document(&shown(cx, place)?)?,
        false => String::new(),
    };
    edit(cx, EDIT_HELP, &text, &mut |text| {
        let put: ForwardPut = document_of(text)?;
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
        cx.value(&mut put, (&self.key, self.property), &format!("network forward {:?}", self.place.address))?;
        Ok(DONE)
    }
}

impl List {
    fn run(self, cx: &Context) -> Outcome {
        let format = self.format.parse()?;
        let chosen = columns::letters(&self.columns, COLUMNS)?;
        let store = cx.reader()?;
        let (project, network) = named(cx, &store, &self.network)?;
        let all = ops::list(&store, (&project, &network))?;
        let row = |view: &ForwardView| chosen.iter().map(|c| cell(view, c.cell)).collect();
        let header: Vec<&str> = chosen.iter().map(|c| c.header).collect();
        self.format.print(&format, &header, all.iter().map(row).collect(), &all)
    }
}

fn cell(view: &ForwardView, cell: Cell) -> String {
    match cell {
        Cell::Listen => view.listen_address.clone(),
        Cell::Description => view.put.description.clone(),
        Cell::Target => view.put.config.get(ops::TARGET).cloned().unwrap_or_default(),
        Cell::Ports => view.put.ports.len().to_string(),
        Cell::Location => LOCATION.to_string(),
    }
}

impl AddPort {
    fn run(self, cx: &Context) -> Outcome {
        let port = ForwardPort {
            description: self.description.unwrap_or_default(),
            protocol: self.protocol,
            listen_port: self.listen,
            target_port: self.ports.unwrap_or_default(),
            target_address: self.target_address,
            snat: false,
        };
        update(cx, &self.place, &mut |put| {
            put.ports.push(port.clone());
            Ok(())
        })?;
        Ok(DONE)
    }
}

impl RemovePort {
    fn run(self, cx: &Context) -> Outcome {
        let matches = |port: &ForwardPort| {
            self.protocol.as_ref().is_none_or(|p| *p == port.protocol)
                && self.listen.as_ref().is_none_or(|l| *l == port.listen_port)
        };
        update(cx, &self.place, &mut |put| {
            match put.ports.iter().filter(|p| matches(p)).count() {
                0 => return Err(Error::not_found("No matching port(s) found")),
                2.. if !self.force => {
                    return Err(Error::invalid("Multiple ports match. Use --force to remove them all"));
                }
                _ => put.ports.retain(|port| !matches(port)),
            }
            Ok(())
        })?;
        Ok(DONE)
    }
}
