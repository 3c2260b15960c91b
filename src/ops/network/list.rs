//! `network list`, `show`, `info`: managed networks and the interfaces of the host as users see them.

use super::{not_found, project_of, users};
use crate::base::mac;
use crate::base::names::{NetworkName, ProjectName};
use crate::error::{Error, Result};
use crate::host::links::{Counters, Details, Link, Links};
use crate::model::keys::network::{bridge as keys, uplink};
use crate::model::network::Network;
use crate::model::restrict;
use crate::model::view::{
    BridgeState, NetworkAddress, NetworkPut, NetworkStateView, NetworkView, TrafficCounters, VlanState,
};
use crate::store::Store;
use std::path::Path;

/// The options that `network list` shows.
pub const IPV4: &str = keys::IPV4_ADDRESS.name;
/// The IPv6 one.
pub const IPV6: &str = keys::IPV6_ADDRESS.name;

/// All networks of a project, and the host's interfaces; what is wrong with a damaged record stands in its description.
///
/// # Errors
/// The state folder or the interfaces cannot be read.
pub fn list(store: &Store, project: &ProjectName) -> Result<Vec<NetworkView>> {
    let owner = project_of(store, project)?;
    let mut all = Vec::new();
    for (name, found) in store.networks(&owner)? {
        all.push(match found {
            Ok(network) => view(&owner, &name, &network, users(store, &owner, &name)?),
            Err(e) => {
                let put = NetworkPut { description: format!("ERROR: {e}"), ..NetworkPut::default() };
                NetworkView {
                    put,
                    status: "Unavailable".to_string(),
                    ..NetworkView::unmanaged(owner.as_str(), &name, "", Vec::new())
                }
            }
        });
    }
    let managed: Vec<String> = all.iter().map(|view| view.name.clone()).collect();
    let links = Links::open()?.list()?;
    // The ends of pairs belong to instances.
    let shown = links.iter().filter(|l| l.kind != "veth" && !managed.contains(&l.name));
    all.extend(shown.map(|link| NetworkView::unmanaged(project.as_str(), &link.name, kind(link), Vec::new())));
    if let Some(limits) = store.project(project)? {
        all.retain(|view| restrict::sees_network(&limits.config, &view.name, view.managed));
    }
    Ok(all)
}

/// Refuses a network that those who work in a project may not see.
///
/// # Errors
/// Not found; a record is damaged.
pub fn visible(store: &Store, project: &ProjectName, name: &NetworkName) -> Result<()> {
    let Some(limits) = store.project(project)? else { return Ok(()) };
    // What cannot be read is told by whoever wants it.
    let managed = !matches!(store.network(&project_of(store, project)?, name), Ok(None));
    restrict::sees_network(&limits.config, name.as_str(), managed).then_some(()).ok_or_else(not_found)
}

/// One of them.
///
/// # Errors
/// Not found; its record is damaged.
pub fn show(store: &Store, project: &ProjectName, name: &NetworkName) -> Result<NetworkView> {
    let owner = project_of(store, project)?;
    if let Some(network) = store.network(&owner, name)? {
        return Ok(view(&owner, name, &network, users(store, &owner, name)?));
    }
    let link = Links::open()?.find(name.as_str())?.ok_or_else(not_found)?;
    Ok(NetworkView::unmanaged(project.as_str(), &link.name, kind(&link), Vec::new()))
}

fn view(project: &ProjectName, name: &NetworkName, network: &Network, users: Vec<String>) -> NetworkView {
    NetworkView::new(project.as_str(), name, network, users, true)
}

/// What Incus calls the kind of an interface of the host.
fn kind(link: &Link) -> &'static str {
    match link.kind.as_str() {
        _ if link.is_loopback() => "loopback",
        "bridge" => "bridge",
        "vlan" => "vlan",
        "bond" => "bond",
        _ if Path::new("/sys/class/net").join(&link.name).join("device").exists() => "physical",
        _ => "unknown",
    }
}

/// What the interface `name` is doing, or that of the host which the network of this name stands for.
///
/// # Errors
/// Not found; the kernel refuses; the network's record is damaged.
pub fn state(store: &Store, project: &ProjectName, name: &NetworkName) -> Result<NetworkStateView> {
    let network = store.network(&project_of(store, project)?, name)?;
    let parent = network.as_ref().and_then(|network| uplink::PARENT.get(&network.config));
    let mut host = Links::open()?;
    let link =
        host.find(parent.unwrap_or(name.as_str()))?.ok_or_else(|| Error::not_found("Network interface not found"))?;
    let addresses = host.addresses_of(link.index)?.into_iter().map(|a| NetworkAddress {
        family: if a.net.is_ipv4() { "inet" } else { "inet6" }.to_string(),
        address: a.net.address().to_string(),
        netmask: a.net.prefix().to_string(),
        scope: a.scope_name().to_string(),
    });
    let addresses = addresses.collect();
    let bridge = match &link.details {
        Details::Bridge(b) => Some(BridgeState {
            id: b.id.clone(),
            stp: b.stp,
            forward_delay: b.forward_delay.into(),
            vlan_default: b.default_pvid.into(),
            vlan_filtering: b.vlan_filtering,
            upper_devices: host.ports_of(link.index)?.into_iter().map(|port| port.name).collect(),
        }),
        _ => None,
    };
    let vlan = match (&link.details, link.lower) {
        (Details::Vlan(id), Some(lower)) => {
            let below = host.list()?.into_iter().find(|l| l.index == lower).map(|l| l.name);
            Some(VlanState { lower_device: below.unwrap_or_default(), vid: (*id).into() })
        }
        _ => None,
    };
    Ok(NetworkStateView {
        addresses,
        counters: Some(counters(&link.counters)),
        hwaddr: link.mac.map(mac::format).unwrap_or_default(),
        mtu: link.mtu.into(),
        state: if link.is_up() { "up" } else { "down" }.to_string(),
        kind: link.medium().to_string(),
        bridge,
        vlan,
        ..NetworkStateView::default()
    })
}

fn counters(c: &Counters) -> TrafficCounters {
    let n = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
    TrafficCounters {
        bytes_received: n(c.bytes_received),
        bytes_sent: n(c.bytes_sent),
        packets_received: n(c.packets_received),
        packets_sent: n(c.packets_sent),
    }
}
