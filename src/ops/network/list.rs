//! `network list`, `show`, `info`: managed networks and the interfaces of the host as users see them.

use super::{not_found, project_of, users};
use crate::base::mac;
use crate::base::names::{NetworkName, ProjectName};
use crate::error::{Error, Result};
use crate::host::links::{Counters, Details, Link, Links};
use crate::model::keys::network::bridge as keys;
use crate::model::network::Network;
use crate::model::view::{NetworkAddress, NetworkCounters, NetworkPut, NetworkView};
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
                NetworkView::managed(owner.as_str(), &name, "", put, Vec::new())
            }
        });
    }
    let managed: Vec<String> = all.iter().map(|view| view.name.clone()).collect();
    let links = Links::open()?.list()?;
    // The ends of pairs belong to instances.
    let shown = links.iter().filter(|l| l.kind != "veth" && !managed.contains(&l.name));
    all.extend(shown.map(|link| NetworkView::of_host(&link.name, kind(link), Vec::new())));
    Ok(all)
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
    Ok(NetworkView::of_host(&link.name, kind(&link), Vec::new()))
}

fn view(project: &ProjectName, name: &NetworkName, network: &Network, users: Vec<String>) -> NetworkView {
    let put = NetworkPut { config: network.config.clone(), description: network.description.clone() };
    NetworkView::managed(project.as_str(), name, network.kind.as_str(), put, users)
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

/// What an interface of the host is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    /// Its addresses.
    pub addresses: Vec<NetworkAddress>,
    /// Since it was made.
    pub counters: NetworkCounters,
    /// MAC address.
    pub hwaddr: String,
    /// MTU in bytes.
    pub mtu: u32,
    /// `up` or `down`.
    pub state: &'static str,
    /// `broadcast`, `loopback`, …
    pub kind: &'static str,
    /// Of a bridge.
    pub bridge: Option<BridgeState>,
    /// Number of a VLAN and the interface below it.
    pub vlan: Option<(u16, String)>,
}

/// What a bridge is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BridgeState {
    /// Priority and MAC address.
    pub id: String,
    /// The spanning tree protocol is on.
    pub stp: bool,
    /// Hundredths of a second.
    pub forward_delay: u32,
    /// VLAN of untagged packets of a new port.
    pub default_vlan: u16,
    /// VLANs are kept apart.
    pub vlan_filtering: bool,
    /// Its ports.
    pub ports: Vec<String>,
}

/// What the interface `name` is doing.
///
/// # Errors
/// Not found; the kernel refuses.
pub fn state(name: &NetworkName) -> Result<State> {
    let mut host = Links::open()?;
    let link = host.find(name.as_str())?.ok_or_else(|| Error::not_found("Network interface not found"))?;
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
            forward_delay: b.forward_delay,
            default_vlan: b.default_pvid,
            vlan_filtering: b.vlan_filtering,
            ports: host.ports_of(link.index)?.into_iter().map(|port| port.name).collect(),
        }),
        _ => None,
    };
    let vlan = match (&link.details, link.lower) {
        (Details::Vlan(id), Some(lower)) => {
            let below = host.list()?.into_iter().find(|l| l.index == lower).map(|l| l.name);
            Some((*id, below.unwrap_or_default()))
        }
        _ => None,
    };
    Ok(State {
        addresses,
        counters: counters(&link.counters),
        hwaddr: link.mac.map(mac::format).unwrap_or_default(),
        mtu: link.mtu,
        state: if link.is_up() { "up" } else { "down" },
        kind: link.medium(),
        bridge,
        vlan,
    })
}

fn counters(c: &Counters) -> NetworkCounters {
    let n = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
    NetworkCounters {
        bytes_received: n(c.bytes_received),
        bytes_sent: n(c.bytes_sent),
        packets_received: n(c.packets_received),
        packets_sent: n(c.packets_sent),
        errors_received: n(c.errors_received),
        errors_sent: n(c.errors_sent),
        packets_dropped_outbound: n(c.dropped_sent),
        packets_dropped_inbound: n(c.dropped_received),
    }
}
