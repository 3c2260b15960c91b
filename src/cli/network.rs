//! `network`: managed networks, and interfaces of the host beside them.

use super::address_set::AddressSet;
use super::complete;
use super::edit::edit;
use super::network_acl::Acl;
use super::network_forward::Forward;
use super::network_list::{List, ListLeases};
use super::network_more::{ListAllocations, Rename};
use super::network_ovn::NeedsOvn;
use super::network_use::{Attach, AttachProfile, Detach, DetachProfile};
use super::network_zone::Zone;
use super::output::yaml;
use super::{Context, DONE, Outcome, kv, refuse_target};
use crate::base::names::{NetworkName, ProjectName};
use crate::error::{Error, Result};
use crate::model::network::NetworkType;
use crate::model::view::{NetworkPut, NetworkView};
use crate::ops::config::{Change, change_properties, document_of};
use crate::ops::network::{self as ops, change, list};
use crate::store::Store;
use clap::{Args, Subcommand};
use clap_complete::engine::ArgValueCompleter;

/// Manage and attach instances to networks
///
/// Manage and attach instances to networks
#[derive(Debug, Subcommand)]
pub enum Network {
    /// Manage network ACLs
    ///
    /// Manage network ACLs
    #[command(subcommand)]
    Acl(Acl),
    /// Manage network address sets
    ///
    /// Manage network address sets
    #[command(subcommand)]
    AddressSet(AddressSet),
    Attach(Attach),
    AttachProfile(AttachProfile),
    #[command(visible_alias = "add")]
    Create(Create),
    #[command(visible_aliases = ["rm", "remove"])]
    Delete(Delete),
    Detach(Detach),
    DetachProfile(DetachProfile),
    Edit(Edit),
    #[command(subcommand)]
    Forward(Forward),
    Get(Get),
    Info(Info),
    #[command(hide = true)]
    Integration(NeedsOvn),
    #[command(visible_alias = "ls")]
    List(List),
    ListAllocations(ListAllocations),
    ListLeases(ListLeases),
    #[command(hide = true)]
    LoadBalancer(NeedsOvn),
    #[command(hide = true)]
    Peer(NeedsOvn),
    #[command(visible_alias = "mv")]
    Rename(Rename),
    Set(Set),
    Show(Show),
    Unset(Unset),
    #[command(subcommand)]
    Zone(Zone),
}

/// Create new networks
#[derive(Debug, Args)]
#[command(after_help = "stapes network create foo
    Create a new network called foo

stapes network create foo < config.yaml
    Create a new network called foo using the content of config.yaml.

stapes network create bar network=baz --type ovn
    Create a new OVN network called bar using baz as its uplink network")]
pub struct Create {
    /// New network name
    #[arg(value_name = "new network name")]
    pub name: String,
    /// Keys and values
    #[arg(value_name = "key=value")]
    pub values: Vec<String>,
    /// Network type
    #[arg(short = 't', long = "type", value_name = "type")]
    pub kind: Option<String>,
    /// Network description
    #[arg(long, value_name = "description")]
    pub description: Option<String>,
    /// Cluster member name
    #[arg(long, value_name = "member", hide = true)]
    pub target: Option<String>,
}

/// Delete networks
#[derive(Debug, Args)]
pub struct Delete {
    /// Networks
    #[arg(value_name = "network", required = true, add = ArgValueCompleter::new(complete::networks))]
    pub networks: Vec<String>,
}

/// Edit network configurations as YAML
#[derive(Debug, Args)]
pub struct Edit {
    /// Network
    #[arg(value_name = "network", add = ArgValueCompleter::new(complete::networks))]
    pub network: String,
}

/// Get values for network configuration keys
#[derive(Debug, Args)]
pub struct Get {
    /// Network
    #[arg(value_name = "network", add = ArgValueCompleter::new(complete::networks))]
    pub network: String,
    /// Key
    #[arg(value_name = "key", add = ArgValueCompleter::new(complete::network_keys))]
    pub key: String,
    /// Get the key as a network property
    #[arg(short, long)]
    pub property: bool,
    /// Cluster member name
    #[arg(long, value_name = "member", hide = true)]
    pub target: Option<String>,
}

/// Get runtime information on networks
#[derive(Debug, Args)]
pub struct Info {
    /// Network
    #[arg(value_name = "network", add = ArgValueCompleter::new(complete::networks))]
    pub network: String,
    /// Cluster member name
    #[arg(long, value_name = "member", hide = true)]
    pub target: Option<String>,
}

/// Set network configuration keys
///
/// For backward compatibility, a single configuration key may still be set with:
///     stapes network set [<remote>:]<network> <key> <value>
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub struct Set {
    /// Network
    #[arg(value_name = "network", add = ArgValueCompleter::new(complete::networks))]
    pub network: String,
    /// Keys and values
    #[arg(value_name = "key=value", required = true, add = ArgValueCompleter::new(complete::network_keys))]
    pub values: Vec<String>,
    /// Set the key as a network property
    #[arg(short, long)]
    pub property: bool,
    /// Cluster member name
    #[arg(long, value_name = "member", hide = true)]
    pub target: Option<String>,
}

/// Show network configurations
#[derive(Debug, Args)]
pub struct Show {
    /// Network
    #[arg(value_name = "network", add = ArgValueCompleter::new(complete::networks))]
    pub network: String,
    /// Cluster member name
    #[arg(long, value_name = "member", hide = true)]
    pub target: Option<String>,
}

/// Unset network configuration keys
#[derive(Debug, Args)]
pub struct Unset {
    /// Network
    #[arg(value_name = "network", add = ArgValueCompleter::new(complete::networks))]
    pub network: String,
    /// Key
    #[arg(value_name = "key", add = ArgValueCompleter::new(complete::network_keys))]
    pub key: String,
    /// Unset the key as a network property
    #[arg(short, long)]
    pub property: bool,
    /// Cluster member name
    #[arg(long, value_name = "member", hide = true)]
    pub target: Option<String>,
}

/// The project in use and a network's name in it.
pub(super) fn named(cx: &Context, store: &Store, word: &str) -> Result<(ProjectName, NetworkName)> {
    let name = NetworkName::parse(&kv::local(word)?).map_err(|_| ops::not_found())?;
    let project = cx.project(store)?;
    list::visible(store, &project, &name)?;
    Ok((project, name))
}

impl Network {
    /// Runs the command.
    ///
    /// # Errors
    /// See `ops`.
    pub fn run(self, cx: &Context) -> Outcome {
        match self {
            Self::Acl(acl) => acl.run(cx),
            Self::AddressSet(set) => set.run(cx),
            Self::Attach(attach) => attach.run(cx),
            Self::AttachProfile(attach) => attach.run(cx),
            Self::Create(create) => create.run(cx),
            Self::Delete(delete) => delete.run(cx),
            Self::Detach(detach) => detach.run(cx),
            Self::DetachProfile(detach) => detach.run(cx),
            Self::Edit(edit) => edit.run(cx),
            Self::Forward(forward) => forward.run(cx),
            Self::Get(get) => get.run(cx),
            Self::Info(info) => info.run(cx),
            Self::List(list) => list.run(cx),
            Self::ListAllocations(allocations) => allocations.run(cx),
            Self::ListLeases(leases) => leases.run(cx),
            Self::Rename(rename) => rename.run(cx),
            Self::Integration(command) => command.refuse(cx, "Network integrations"),
            Self::LoadBalancer(command) => command.refuse(cx, "Network load balancers"),
            Self::Peer(command) => command.refuse(cx, "Network peers"),
            Self::Zone(zone) => zone.run(cx),
            Self::Set(set) => {
                refuse_target(set.target.as_deref())?;
                let change = Change::Set(cx.values(kv::assignments(&set.values)?)?);
                changed(cx, &set.network, set.property, &change)
            }
            Self::Show(show) => show.run(cx),
            Self::Unset(unset) => {
                refuse_target(unset.target.as_deref())?;
                changed(cx, &unset.network, unset.property, &Change::Unset(vec![unset.key]))
            }
        }
    }
}

impl Create {
    fn run(self, cx: &Context) -> Outcome {
        refuse_target(self.target.as_deref())?;
        let mut put: NetworkPut = document_of(&cx.stdin_document()?.unwrap_or_default())?;
        put.config.extend(cx.values(kv::assignments(&self.values)?)?);
        if let Some(description) = self.description.filter(|d| !d.is_empty()) {
            put.description = description;
        }
        let kind = NetworkType::parse(self.kind.as_deref().unwrap_or_default())?;
        let name = NetworkName::parse(&kv::local(&self.name)?)?;
        let store = cx.store()?;
        let project = cx.project(&store)?;
        let request = change::Request { project, name, kind, description: put.description, config: put.config };
        change::create(&store, &request)?;
        cx.notice(format_args!("Network {} created", request.name))?;
        Ok(DONE)
    }
}

impl Delete {
    fn run(self, cx: &Context) -> Outcome {
        let store = cx.store()?;
        let mut failed = Vec::new();
        for word in &self.networks {
            let done = named(cx, &store, word).and_then(|(project, name)| change::delete(&store, &project, &name));
            match done {
                Ok(()) => cx.notice(format_args!("Network {word} deleted"))?,
                Err(e) => failed.push(e),
            }
        }
        Error::join(failed).map_or(Ok(DONE), |e| Err(e.into()))
    }
}

const EDIT_HELP: &str = "### This is a YAML representation of the network.
### Any line starting with a '# will be ignored.
###
### A network consists of a set of configuration items.
###
### An example would look like:
### name: mybr0
### config:
###   ipv4.address: 10.62.42.1/24
###   ipv4.nat: true
###   ipv6.address: fd00:56ad:9f7a:9800::1/64
###   ipv6.nat: true
### managed: true
### type: bridge
###
### Note that only the configuration can be changed.";

impl Edit {
    fn run(self, cx: &Context) -> Outcome {
        let text = match cx.tty.stdin {
            true => yaml::document(&shown(cx, &self.network)?)?,
            false => String::new(),
        };
        edit(cx, EDIT_HELP, &text, &mut |text| {
            let put: NetworkPut = document_of(text)?;
            let store = cx.store()?;
            let (project, name) = named(cx, &store, &self.network)?;
            change::update(&store, &project, &name, &mut |target| {
                *target = put.clone();
                Ok(())
            })
        })?;
        Ok(DONE)
    }
}

fn shown(cx: &Context, word: &str) -> Result<NetworkView> {
    let store = cx.reader()?;
    let (project, name) = named(cx, &store, word)?;
    list::show(&store, &project, &name)
}

impl Get {
    fn run(self, cx: &Context) -> Outcome {
        refuse_target(self.target.as_deref())?;
        let mut put = shown(cx, &self.network)?.put;
        cx.value(&mut put, (&self.key, self.property), &format!("network {:?}", self.network))?;
        Ok(DONE)
    }
}

impl Info {
    fn run(self, cx: &Context) -> Outcome {
        refuse_target(self.target.as_deref())?;
        let store = cx.reader()?;
        let (project, name) = named(cx, &store, &self.network)?;
        let state = list::state(&store, &project, &name)?;
        cx.print(super::network_list::describe(&name, &state))?;
        Ok(DONE)
    }
}

impl Show {
    fn run(self, cx: &Context) -> Outcome {
        refuse_target(self.target.as_deref())?;
        cx.print(yaml::document(&shown(cx, &self.network)?)?)?;
        Ok(DONE)
    }
}

fn changed(cx: &Context, word: &str, property: bool, change: &Change) -> Outcome {
    let store = cx.store()?;
    let (project, name) = named(cx, &store, word)?;
    change::update(&store, &project, &name, &mut |put| match (property, change) {
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
