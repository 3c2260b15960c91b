//! `network forward`: addresses of the host whose packets go to instances on a bridge.
//!
//! A forward is a record below its network's. All forwards of a network are one transaction of nft, set when one of them
//! changes and whenever the network's own rules are. A change is noted in the journal: a killed command leaves the record and
//! the rules as they were before, or as they were to be.

use super::{firewall, hairpin, not_found, project_of, up};
use crate::base::inet::IpNet;
use crate::base::names::{NetworkName, ProjectName};
use crate::error::{Context, Error, Result};
use crate::fault;
use crate::model::instance::{Config, Devices};
use crate::model::keys::device::nic as device_keys;
use crate::model::keys::network::{bridge as keys, zone as forward_keys};
use crate::model::network::bridge::Bridge;
use crate::model::network::forward::Forward;
use crate::model::network::{Network, NetworkType};
use crate::model::view::{ForwardPut, ForwardView};
use crate::network::nft::{Script, forward as rules};
use crate::store::events::{self, Event};
use crate::store::lock::{Exclusive, Held, NetworkKey};
use crate::store::{Action, Journal, Store, journal, record};
use std::net::IpAddr;

/// A network as a user names it: the project in use and the network's name.
pub type Of<'a> = (&'a ProjectName, &'a NetworkName);

/// The option that `network forward list` shows.
pub const TARGET: &str = forward_keys::TARGET_ADDRESS.name;

fn no_forward() -> Error {
    Error::not_found("Network forward not found")
}

/// The network's project and its record.
fn bridge(store: &Store, (project, name): Of<'_>) -> Result<(ProjectName, Network)> {
    let owner = project_of(store, project)?;
    let network = store.network(&owner, name)?.ok_or_else(not_found)?;
    match network.kind {
        NetworkType::Bridge => Ok((owner, network)),
        other => Err(Error::invalid(format!("Network driver {:?} does not support forwards", other.as_str()))),
    }
}

fn address(listen: &str) -> Result<IpAddr> {
    listen
        .trim()
        .parse()
        .map_err(|_| Error::invalid(format!("Failed parsing {listen:?}: Invalid IP address {listen:?}")))
}

/// All forwards of a network as users see them; what is wrong with a damaged record stands in its description.
///
/// # Errors
/// Not found; the network is no bridge.
pub fn list(store: &Store, of: Of<'_>) -> Result<Vec<ForwardView>> {
    let (owner, _) = bridge(store, of)?;
    let view = |(listen, forward): (IpAddr, Result<Forward>)| {
        let broken = |e: Error| record_of(ForwardPut { description: format!("ERROR: {e}"), ..ForwardPut::default() });
        ForwardView::new(&listen.to_string(), &forward.unwrap_or_else(broken))
    };
    Ok(store.forwards(&owner, of.1)?.into_iter().map(view).collect())
}

/// One of them.
///
/// # Errors
/// Not found; the record is damaged.
pub fn show(store: &Store, of: Of<'_>, listen: &str) -> Result<ForwardView> {
    let (owner, _) = bridge(store, of)?;
    let listen = address(listen).map_err(|_| no_forward())?;
    let forward = store.forward(&owner, of.1, listen)?.ok_or_else(no_forward)?;
    Ok(ForwardView::new(&listen.to_string(), &forward))
}

fn record_of(put: ForwardPut) -> Forward {
    let mut forward = Forward { format: 1, description: put.description, config: put.config, ports: put.ports };
    forward.config.retain(|_, value| !value.is_empty());
    forward.normalise();
    forward
}

/// Makes a forward; it counts at once if its network is up. Its address as it is written.
///
/// # Errors
/// Exists; what is wrong with it; its address belongs to somebody else; nft refuses: nothing is left then.
pub fn create(store: &Store, of: Of<'_>, listen: &str, put: ForwardPut) -> Result<IpAddr> {
    let owner = project_of(store, of.0)?;
    let lock = store.lock_network_exclusive(&owner, of.1, "update")?;
    let (_, network) = bridge(store, of)?;
    let listen = address(listen)?;
    if store.forward(&owner, of.1, listen)?.is_some() {
        return Err(Error::exists("A forward for that listen address already exists"));
    }
    let forward = record_of(put);
    forward.parse(&listen.to_string(), &network.config)?;
    check_free(store, (&owner, of.1), listen)?;
    save(store, &lock, (listen, &forward), None)?;
    note(store, (&owner, of.1), listen, "network-forward-created");
    Ok(listen)
}

/// Changes a forward: `edit` is shown what can be written of it.
///
/// # Errors
/// Not found; what `edit` says; what is wrong with it; nft refuses: all is as before then.
pub fn update(
    store: &Store,
    of: Of<'_>,
    listen: &str,
    edit: &mut dyn FnMut(&mut ForwardPut) -> Result<()>,
) -> Result<()> {
    let owner = project_of(store, of.0)?;
    let lock = store.lock_network_exclusive(&owner, of.1, "update")?;
    let (_, network) = bridge(store, of)?;
    let listen = address(listen).map_err(|_| no_forward())?;
    let old = store.forward(&owner, of.1, listen)?.ok_or_else(no_forward)?;
    let Forward { description, config, ports, .. } = old.clone();
    let mut put = ForwardPut { description, config, ports };
    edit(&mut put)?;
    let new = record_of(put);
    new.parse(&listen.to_string(), &network.config)?;
    if new != old {
        save(store, &lock, (listen, &new), Some(&old))?;
    }
    note(store, (&owner, of.1), listen, "network-forward-updated");
    Ok(())
}

/// Deletes a forward.
///
/// # Errors
/// Not found; nft refuses: it is tried again by the next command then.
pub fn delete(store: &Store, of: Of<'_>, listen: &str) -> Result<()> {
    let owner = project_of(store, of.0)?;
    let lock = store.lock_network_exclusive(&owner, of.1, "update")?;
    bridge(store, of)?;
    let listen = address(listen).map_err(|_| no_forward())?;
    // A damaged one can be deleted, too.
    let path = store.layout().forward_record(&owner, of.1, listen);
    if !path.exists() {
        return Err(no_forward());
    }
    fault::point("forward.delete")?;
    let actions = vec![Action::RemoveFile { path }, renewal(&owner, of.1)];
    Journal::forward(store, "delete", &[&lock], actions)?.finish()?;
    note(store, (&owner, of.1), listen, "network-forward-deleted");
    Ok(())
}

fn renewal(owner: &ProjectName, name: &NetworkName) -> Action {
    Action::RenewForwards { project: owner.to_string(), name: name.to_string() }
}

/// The record and then the rules; both as before if one of them fails.
fn save(
    store: &Store,
    lock: &Held<NetworkKey, Exclusive>,
    (listen, forward): (IpAddr, &Forward),
    old: Option<&Forward>,
) -> Result<()> {
    let NetworkKey { project, name } = lock.key();
    let path = store.layout().forward_record(project, name, listen);
    let back = match old {
        Some(old) => Action::RestoreFile { path, content: record::render(old)? },
        None => Action::RemoveFile { path },
    };
    fault::point("forward.begin")?;
    journal::run(store, "update", &[lock], |journal| {
        // Undone last first.
        journal.undo(renewal(project, name))?;
        journal.undo(back)?;
        store.save_forward(lock, listen, forward)?;
        fault::point("forward.recorded")?;
        renew(store, project, name)?;
        fault::point("forward.applied")
    })
}

/// Has the rules of a network that is up be those its records say; one that is down gets them when it comes up. Locks what
/// runs of the network.
///
/// # Errors
/// nft refuses.
pub fn renew(store: &Store, owner: &ProjectName, name: &NetworkName) -> Result<()> {
    let Some(network) = store.network(owner, name)? else { return Ok(()) };
    if network.kind != NetworkType::Bridge || !up::runs(store, name)? {
        return Ok(());
    }
    let _lock = store.lock_network_run(name)?;
    let plan = up::Plan::of(store, name, &network.config)?;
    let done = script(store, name, &plan.bridge)
        .and_then(|script| firewall::set(store, &script))
        .and_then(|()| hairpin::renew(store, name));
    done.with_context(|| format!("Failed setting the forwards of network \"{name}\""))
}

/// The rules of all forwards of a bridge, whichever project it belongs to: its name is the interface's, which there is but
/// one of. A record that cannot be read has none; it is `doctor`'s.
///
/// # Errors
/// The state folder cannot be read.
pub(super) fn script(store: &Store, name: &NetworkName, bridge: &Bridge) -> Result<Script> {
    let mut all = Vec::new();
    for (project, _) in store.projects()? {
        for (listen, forward) in store.forwards(&project, name)? {
            // Whether targets are in the subnet was seen when it was written; the subnet may have changed since.
            all.extend(forward.and_then(|f| f.parse(&listen.to_string(), &Config::new())).ok());
        }
    }
    let subnets: Vec<IpNet> = bridge.families().iter().filter_map(|f| f.address).map(|net| net.network()).collect();
    Ok(rules::up(name, &all, &subnets))
}

/// Sees that nobody else has the address: another bridge's subnet or source address, a forward, an interface's routes. What
/// the network itself has is no obstacle.
fn check_free(store: &Store, own: Of<'_>, listen: IpAddr) -> Result<()> {
    let taken = |net: &IpNet| net.contains(listen);
    let mut clash = false;
    for (project, _) in store.projects()? {
        for (name, network) in store.networks(&project)? {
            let Ok(network) = network else { continue };
            clash |= (&project, &name) != own && subnets(&network).iter().any(taken);
            clash |= store.forwards(&project, &name)?.iter().any(|(other, _)| *other == listen);
        }
        for (_, instance) in store.instances(&project)? {
            clash |= instance.is_ok_and(|i| routes(&i.devices).iter().any(taken));
        }
        for (_, profile) in store.profiles(&project)? {
            clash |= profile.is_ok_and(|p| routes(&p.devices).iter().any(taken));
        }
    }
    match clash {
        true => Err(Error::conflict(format!(
            "Forward listen address \"{}\" overlaps with another network or NIC",
            IpNet::host(listen)
        ))),
        false => Ok(()),
    }
}

fn subnets(network: &Network) -> Vec<IpNet> {
    let nets = [&keys::IPV4_ADDRESS, &keys::IPV6_ADDRESS].map(|k| k.get(&network.config)?.parse().ok());
    let sources = [&keys::IPV4_NAT_ADDRESS, &keys::IPV6_NAT_ADDRESS];
    let sources = sources.map(|k| k.get(&network.config)?.parse().ok().map(IpNet::host));
    nets.into_iter().chain(sources).flatten().collect()
}

fn routes(devices: &Devices) -> Vec<IpNet> {
    let all = [&device_keys::IPV4_ROUTES_EXTERNAL, &device_keys::IPV6_ROUTES_EXTERNAL];
    devices.values().flat_map(|d| all.iter().flat_map(|key| key.list(d))).filter_map(|net| net.parse().ok()).collect()
}

fn note(store: &Store, (project, name): Of<'_>, listen: IpAddr, action: &str) {
    let url = format!("/1.0/networks/{name}/forwards/{listen}");
    let _ = events::append(store, &Event::lifecycle(action, &url, project.as_str(), serde_json::Value::Null));
}
