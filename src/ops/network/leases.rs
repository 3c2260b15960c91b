//! `network list-leases`: who has which address on a bridge – reserved, handed out by dnsmasq, or the bridge's own.

use super::up::Plan;
use super::{not_found, project_of};
use crate::base::mac;
use crate::base::names::{InstanceName, NetworkName, ProjectName};
use crate::error::{Error, Result};
use crate::model::keys::VOLATILE_DEVICE_HWADDR;
use crate::model::keys::device::{self, nic as keys};
use crate::model::network::{NetworkType, nic};
use crate::model::view::LeaseView;
use crate::network::dnsmasq::leases::{self, Lease, LeaseNic};
use crate::ops::load;
use crate::store::Store;
use std::io::Read;
use std::net::IpAddr;

/// Most bytes of dnsmasq's file that are read: instances decide what stands in it.
const MOST: u64 = 16 << 20;

/// A NIC on the network.
struct Found {
    instance: InstanceName,
    hwaddr: Option<[u8; 6]>,
    addresses: Vec<IpAddr>,
}

/// The leases that instances of `project` have on a network.
///
/// # Errors
/// Not found; Invalid: it is no bridge.
pub fn list(store: &Store, project: &ProjectName, name: &NetworkName) -> Result<Vec<LeaseView>> {
    let owner = project_of(store, project)?;
    let network = store.network(&owner, name)?.ok_or_else(not_found)?;
    if network.kind != NetworkType::Bridge {
        return Err(Error::not_found("Leases not found"));
    }
    let plan = Plan::of(store, name, &network.config)?;
    let found = nics(store, project, name)?;
    let nics: Vec<LeaseNic<'_>> = found
        .iter()
        .map(|f| LeaseNic { instance: &f.instance, hwaddr: f.hwaddr, addresses: f.addresses.clone() })
        .collect();
    Ok(leases::merge(name, &plan.bridge, owner == *project, &nics, &of(store, &owner, name)))
}

/// What dnsmasq has handed out; nothing if it has written nothing. `owner`: the network's project.
pub(super) fn of(store: &Store, owner: &ProjectName, name: &NetworkName) -> Vec<Lease> {
    let path = store.layout().network_dir(owner, name).join(leases::FILE);
    let mut bytes = Vec::new();
    let read = std::fs::File::open(path).and_then(|file| file.take(MOST).read_to_end(&mut bytes));
    read.map(|_| leases::parse(&String::from_utf8_lossy(&bytes))).unwrap_or_default()
}

fn nics(store: &Store, project: &ProjectName, name: &NetworkName) -> Result<Vec<Found>> {
    let mut all = Vec::new();
    for instance in store.instance_names(project)? {
        // A damaged one has nothing to show.
        let Ok(loaded) = load::load(store, project, &instance) else { continue };
        for (device, options) in &loaded.expanded.devices {
            if device::device_type(options) != "nic" || keys::NETWORK.get(options) != Some(name.as_str()) {
                continue;
            }
            let noted = VOLATILE_DEVICE_HWADDR.get_of(&loaded.volatile.config, device);
            let hwaddr = keys::HWADDR.get(options).or(noted).and_then(|text| mac::parse(text).ok());
            all.push(Found { instance: instance.clone(), hwaddr, addresses: nic::static_addresses(options) });
        }
    }
    Ok(all)
}
