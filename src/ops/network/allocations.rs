//! `network list-allocations`: addresses in use on managed bridges – the bridge's own, those reserved for instances, those
//! handed out by dnsmasq, and those of forwards.

use super::{leases, project_of};
use crate::base::inet::IpNet;
use crate::base::mac;
use crate::base::names::{InstanceName, NetworkName, ProjectName};
use crate::error::Result;
use crate::model::network::bridge::{Bridge, Family};
use crate::model::network::{Network, NetworkType};
use crate::model::view::{AllocationView, url};
use crate::ops::network::up::Plan;
use crate::store::Store;
use std::net::IpAddr;

/// The addresses in use on the networks that the instances of `project` have.
///
/// # Errors
/// The state folder cannot be read. A damaged network has none.
pub fn list(store: &Store, project: &ProjectName) -> Result<Vec<AllocationView>> {
    let owner = project_of(store, project)?;
    let mut all = Vec::new();
    for (name, network) in store.networks(&owner)? {
        if let Ok(network) = network
            && network.kind == NetworkType::Bridge
        {
            all.extend(on_bridge(store, project, (&owner, &name), &network)?);
        }
    }
    Ok(all)
}

fn on_bridge(
    store: &Store,
    project: &ProjectName,
    (owner, name): (&ProjectName, &NetworkName),
    network: &Network,
) -> Result<Vec<AllocationView>> {
    let plan = Plan::of(store, name, &network.config)?;
    let mut all = Vec::new();
    if owner == project {
        let own = plan.bridge.families().into_iter().filter_map(|family| family.address);
        all.extend(own.map(|net| AllocationView {
            address: net.to_string(),
            nat: family_of(&plan.bridge, net.address()).nat,
            kind: "network".to_string(),
            used_by: url::network(owner, name),
            network: name.to_string(),
            ..AllocationView::default()
        }));
    }
    for lease in leases::list(store, project, name)? {
        // Gateways are above, with their prefixes.
        let (Ok(address), false) = (lease.address.parse::<IpAddr>(), lease.kind == "gateway") else { continue };
        let Ok(instance) = InstanceName::parse(&lease.hostname) else { continue };
        all.push(AllocationView {
            address: IpNet::host(address).to_string(),
            hwaddr: mac::parse(&lease.hwaddr).map(mac::format).unwrap_or_default(),
            nat: family_of(&plan.bridge, address).nat,
            kind: "instance".to_string(),
            used_by: url::instance(project, &instance),
            network: name.to_string(),
        });
    }
    if owner == project {
        // What is wrong with a record does not free its address.
        all.extend(store.forwards(owner, name)?.into_iter().map(|(listen, _)| AllocationView {
            address: IpNet::host(listen).to_string(),
            kind: "network-forward".to_string(),
            used_by: url::network_forward(owner, name, &listen.to_string()),
            network: name.to_string(),
            ..AllocationView::default()
        }));
    }
    Ok(all)
}

fn family_of(bridge: &Bridge, address: IpAddr) -> &Family {
    if address.is_ipv4() { &bridge.v4 } else { &bridge.v6 }
}
