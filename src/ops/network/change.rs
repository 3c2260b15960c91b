//! `network create`, `set`, `unset`, `edit`, `delete`: records first, then what runs.
//!
//! The record decides: a network whose record is there is brought up by the next who needs it, whatever a killed command has
//! done of it, and one whose record has gone is taken down by whoever deletes it again or by `doctor`.

use super::{dns, firewall, follow, nat, not_found, project_of, rules, up, users, zone_server, zones};
use crate::base::inet::IpNet;
use crate::base::names::{NetworkName, ProjectName};
use crate::error::{Context, Error, Result};
use crate::fault;
use crate::host::links::{Links, sysctl};
use crate::model::instance::Config;
use crate::model::keys::network::{Part, bridge as keys, uplink};
use crate::model::network::{self, Network, NetworkType, random};
use crate::model::view::NetworkPut;
use crate::store::Store;
use crate::store::events::{self, Event};
use std::collections::BTreeSet;

/// A network to be made.
#[derive(Debug, Clone)]
pub struct Request {
    /// Its project.
    pub project: ProjectName,
    /// Its name.
    pub name: NetworkName,
    /// What it is.
    pub kind: NetworkType,
    /// Free text.
    pub description: String,
    /// Configuration as given.
    pub config: Config,
}

/// Makes a network and brings it up.
///
/// # Errors
/// Exists; an option is wrong; its subnet or its name is taken on the host; it cannot be brought up: nothing is left then.
pub fn create(store: &Store, request: &Request) -> Result<()> {
    let project = project_of(store, &request.project)?;
    let name = &request.name;
    let _acls = store.lock_acls_shared(&project)?;
    let lock = store.lock_network_exclusive(&project, name, "create")?;
    if store.network(&project, name)?.is_some() {
        return Err(Error::exists("The network already exists"));
    }
    let mut config = request.config.clone();
    config.retain(|_, value| !value.is_empty());
    if request.kind == NetworkType::Bridge {
        network::complete_new(&mut config, sysctl::has_ipv6());
    }
    network::validate(name, request.kind, &config)?;
    rules::check(store, &project, &config)?;
    zones::check(store, &project, &config)?;
    check_host(name, request.kind, &config)?;
    choose(store, (&project, name), &mut config)?;
    let network = Network { format: 1, kind: request.kind, description: request.description.clone(), config };
    zone_server::changing(store, ("create", &lock), &[&network.config], || {
        fault::point("network.create")?;
        store.save_network(&lock, &network)?;
        fault::point("network.recorded")?;
        up::ensure(store, name, &network).or_else(|e| {
            let run = store.lock_network_run(name)?;
            let undone = [up::down(store, &run), store.delete_network(&lock)];
            Err(undone.into_iter().filter_map(Result::err).fold(e, Error::and))
        })
    })?;
    note(store, &project, name, "network-created");
    Ok(())
}

/// The name of a bridge must be free on the host; the interface that another network stands for must be there.
fn check_host(name: &NetworkName, kind: NetworkType, config: &Config) -> Result<()> {
    let mut host = Links::open()?;
    match kind {
        NetworkType::Bridge => match host.find(name.as_str())? {
            Some(_) => Err(Error::exists(format!("Network interface \"{name}\" already exists"))
                .hint("give the network another name, or remove the interface")),
            None => Ok(()),
        },
        _ => {
            let parent = uplink::PARENT.text(config);
            let found = !parent.is_empty() && host.find(parent)?.is_some();
            let missing = || Error::not_found(format!("Parent interface \"{parent}\" not found"));
            if found || parent.is_empty() { Ok(()) } else { Err(missing()) }
        }
    }
}

/// Chooses addresses that are `auto`, and sees that the others are nobody else's.
fn choose(store: &Store, who: (&ProjectName, &NetworkName), config: &mut Config) -> Result<()> {
    let others = others(store, who)?;
    let mut host = Links::open()?;
    let own = host.find(who.1.as_str())?.map(|link| link.index);
    let mut bits = super::random_bits;
    for key in [&keys::IPV4_ADDRESS, &keys::IPV6_ADDRESS] {
        let (v4, value) = (key.name == keys::IPV4_ADDRESS.name, key.get(config).unwrap_or("none").to_string());
        if value == "auto" {
            let mut clashes = |net: &IpNet| {
                others.iter().any(|(_, other)| other.overlaps(net)) || !matches!(host.clash(*net, own), Ok(None))
            };
            let cell = std::cell::RefCell::new(&mut clashes);
            let taken = |net: &IpNet| (cell.borrow_mut())(net);
            let choice = if v4 { random::subnet_v4(&mut bits, &taken)? } else { random::subnet_v6(&mut bits, &taken)? };
            key.set(config, choice.to_string());
        } else if let Ok(net) = value.parse::<IpNet>() {
            if let Some((name, other)) = others.iter().find(|(_, other)| other.overlaps(&net)) {
                return Err(Error::conflict(format!(
                    "The subnet \"{net}\" overlaps with \"{other}\" of network \"{name}\""
                )));
            }
            if let Some(clash) = host.clash(net, own)? {
                return Err(Error::conflict(format!(
                    "The subnet \"{net}\" is in use on the host by \"{}\"",
                    clash.net
                )));
            }
        }
    }
    Ok(())
}

/// Subnets of the other networks, of all projects.
fn others(store: &Store, who: (&ProjectName, &NetworkName)) -> Result<Vec<(NetworkName, IpNet)>> {
    let mut all = Vec::new();
    for (project, _) in store.projects()? {
        for (name, network) in store.networks(&project)? {
            let Ok(network) = network else { continue };
            if (&project, &name) == who || network.kind != NetworkType::Bridge {
                continue;
            }
            let values = [&keys::IPV4_ADDRESS, &keys::IPV6_ADDRESS].map(|key| key.get(&network.config)?.parse().ok());
            all.extend(values.into_iter().flatten().map(|net: IpNet| (name.clone(), net)));
        }
    }
    Ok(all)
}

/// Changes a network: `edit` is shown what can be written of it, and what is changed counts at once.
///
/// # Errors
/// Not found; what `edit` says; what is wrong with it, or what the kernel refuses: all is as before then.
pub fn update(
    store: &Store,
    project: &ProjectName,
    name: &NetworkName,
    edit: &mut dyn FnMut(&mut NetworkPut) -> Result<()>,
) -> Result<()> {
    let project = project_of(store, project)?;
    let _acls = store.lock_acls_shared(&project)?;
    let lock = store.lock_network_exclusive(&project, name, "update")?;
    let old = store.network(&project, name)?.ok_or_else(not_found)?;
    let mut put = NetworkPut { description: old.description.clone(), config: old.config.clone() };
    edit(&mut put)?;
    put.config.retain(|_, value| !value.is_empty());
    network::validate(name, old.kind, &put.config)?;
    rules::check(store, &project, &put.config)?;
    zones::check(store, &project, &put.config)?;
    let mut new = Network { description: put.description, config: put.config, ..old.clone() };
    let mut changes = network::diff(old.kind, &old.config, &new.config);
    if !users(store, &project, name)?.is_empty() {
        changes.check_used()?;
    }
    if old.kind == NetworkType::Bridge {
        choose(store, (&project, name), &mut new.config)?;
        changes = network::diff(old.kind, &old.config, &new.config);
    }
    zone_server::changing(store, ("update", &lock), &[&old.config, &new.config], || {
        fault::point("network.update")?;
        store.save_network(&lock, &new)?;
        fault::point("network.recorded")?;
        let who = (&project, name);
        renew(store, who, &new, &changes.parts).map_err(|e| {
            let back = store.save_network(&lock, &old).and_then(|()| renew(store, who, &old, &changes.parts));
            back.err().into_iter().fold(e, Error::and)
        })
    })?;
    note(store, &project, name, "network-updated");
    Ok(())
}

/// What runs becomes what the record says.
fn renew(
    store: &Store,
    (project, name): (&ProjectName, &NetworkName),
    network: &Network,
    parts: &BTreeSet<Part>,
) -> Result<()> {
    if network.kind != NetworkType::Bridge {
        return Ok(());
    }
    if store.network_run(name)?.is_none() {
        return up::ensure(store, name, network);
    }
    let lock = store.lock_network_run(name)?;
    let plan = up::Plan::of(store, name, &network.config)?;
    let change = || {
        up::apply(store, &lock, &plan, parts)?;
        if parts.contains(&Part::Addresses) {
            nat::follow(store, name)?;
        }
        if !parts.contains(&Part::Dnsmasq) {
            return Ok(());
        }
        if !parts.contains(&Part::Firewall) {
            // Name servers, which interfaces with ACLs may always ask.
            follow::follow(store, &lock, &plan, &|rules| firewall::set(store, rules))?;
        }
        dns::renew(store, project, &lock, &plan)
    };
    change().with_context(|| format!("Failed to change network \"{name}\""))
}

/// Deletes a network nobody uses, with all that runs of it.
///
/// # Errors
/// Not found; Conflict: it is in use.
pub fn delete(store: &Store, project: &ProjectName, name: &NetworkName) -> Result<()> {
    let project = project_of(store, project)?;
    let lock = store.lock_network_exclusive(&project, name, "delete")?;
    let network = store.network(&project, name)?.ok_or_else(not_found)?;
    // Whoever records that it uses the network, or begins to, has this lock meanwhile, and looks whether it is there.
    let run = store.lock_network_run(name)?;
    if !users(store, &project, name)?.is_empty() {
        return Err(Error::conflict("The network is currently in use"));
    }
    zone_server::changing(store, ("delete", &lock), &[&network.config], || {
        fault::point("network.delete")?;
        if network.kind == NetworkType::Bridge {
            up::down(store, &run)?;
        }
        fault::point("network.down")?;
        store.delete_network(&lock)
    })?;
    note(store, &project, name, "network-deleted");
    Ok(())
}

/// Appends a lifecycle event; a log that cannot be written stops nothing.
pub(super) fn note(store: &Store, project: &ProjectName, name: &NetworkName, action: &str) {
    let event = Event::lifecycle(action, &format!("/1.0/networks/{name}"), project.as_str(), serde_json::Value::Null);
    let _ = events::append(store, &event);
}
