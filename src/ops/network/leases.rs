//! `network list-leases`: who has which address on a bridge – reserved, handed out by dnsmasq, or the bridge's own.

use super::up::Plan;
use super::{dns, not_found, project_of};
use crate::base::mac;
use crate::base::names::{InstanceName, NetworkName, ProjectName};
use crate::error::{Context, Error, Result};
use crate::model::keys::VOLATILE_DEVICE_HWADDR;
use crate::model::keys::device::{self, nic as keys};
use crate::model::network::{NetworkType, nic};
use crate::model::view::LeaseView;
use crate::network::dnsmasq::leases::{self, Lease, LeaseNic};
use crate::network::dnsmasq::release;
use crate::ops::load;
use crate::store::Store;
use crate::store::atomic::{self, Durability};
use crate::sys::socket;
use std::io::Read;
use std::net::{IpAddr, SocketAddrV4};

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

/// Names and addresses of a bridge and of the instances of `project` on it: fixed, handed out, and reserved for those that
/// run.
///
/// # Errors
/// As [`list`].
pub(super) fn known(store: &Store, project: &ProjectName, name: &NetworkName) -> Result<Vec<(String, IpAddr)>> {
    let listed = list(store, project, name)?.into_iter();
    let mut all: Vec<(String, IpAddr)> =
        listed.filter(|l| l.hostname != "*").filter_map(|l| Some((l.hostname, l.address.parse().ok()?))).collect();
    let found = nics(store, project, name)?;
    for file in store.network_ports(name)? {
        let text = store.network_port(name, &file)?.unwrap_or_default();
        let mut words = text.split(',').map(str::trim);
        let hwaddr = words.next().and_then(|w| mac::parse(w).ok());
        let Some(nic) = found.iter().find(|f| hwaddr.is_some() && f.hwaddr == hwaddr) else { continue };
        let addresses = words.filter_map(|w| w.trim_matches(['[', ']']).parse::<IpAddr>().ok());
        all.extend(addresses.map(|address| (nic.instance.to_string(), address)));
    }
    Ok(all)
}

/// What dnsmasq has handed out; nothing if it has written nothing. `owner`: the network's project.
pub(super) fn of(store: &Store, owner: &ProjectName, name: &NetworkName) -> Vec<Lease> {
    let path = store.layout().network_dir(owner, name).join(leases::FILE);
    let mut bytes = Vec::new();
    let read = std::fs::File::open(path).and_then(|file| file.take(MOST).read_to_end(&mut bytes));
    read.map(|_| leases::parse(&String::from_utf8_lossy(&bytes))).unwrap_or_default()
}

/// Gives back the IPv4 addresses that dnsmasq has handed out to interfaces which are no more: thousands of short-lived
/// instances would use up a subnet before their leases run out. Locks what runs of the network.
///
/// # Errors
/// The file cannot be written; the kernel refuses the message.
pub(crate) fn release(store: &Store, owner: &ProjectName, name: &NetworkName, hwaddrs: &[[u8; 6]]) -> Result<()> {
    let held = |store: &Store| of(store, owner, name).into_iter().filter(|l| leases::is_of(l, hwaddrs)).collect();
    let gone: Vec<Lease> = held(store);
    if gone.is_empty() {
        return Ok(());
    }
    let lock = store.lock_network_run(name)?;
    if dns::is_running(store, &lock)? {
        let Some(network) = store.network(owner, name)? else { return Ok(()) };
        let plan = Plan::of(store, name, &network.config)?;
        let Some(IpAddr::V4(server)) = plan.bridge.v4.address.map(|net| net.address()) else { return Ok(()) };
        let messages = gone.iter().filter_map(|lease| release::message(lease, server));
        for message in messages {
            socket::send_udp(name.as_str(), SocketAddrV4::new(server, release::PORT), &message)?;
        }
        return Ok(());
    }
    let path = store.layout().network_dir(owner, name).join(leases::FILE);
    let fail = || format!("Failed changing {}", path.display());
    match leases::without(&std::fs::read_to_string(&path).with_context(fail)?, hwaddrs) {
        Some(text) => atomic::replace(&path, text.as_bytes(), 0o644, Durability::Fast).with_context(fail),
        None => Ok(()),
    }
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
