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
use crate::network::dnsmasq::leases::{self, Holder, Lease, LeaseNic};
use crate::network::dnsmasq::release;
use crate::ops::load;
use crate::store::Store;
use crate::store::atomic::{self, Durability};
use crate::sys::socket;
use std::io::Read;
use std::net::{IpAddr, SocketAddr};

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
    read(store, owner, name).1
}

/// dnsmasq's file, and the leases in it.
fn read(store: &Store, owner: &ProjectName, name: &NetworkName) -> (String, Vec<Lease>) {
    let path = store.layout().network_dir(owner, name).join(leases::FILE);
    let mut bytes = Vec::new();
    let read = std::fs::File::open(path).and_then(|file| file.take(MOST).read_to_end(&mut bytes));
    let text = read.map(|_| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    let all = leases::parse(&text);
    (text, all)
}

/// Gives back the addresses that dnsmasq has handed out to interfaces which are no more, of the instance `name`: thousands of
/// short-lived instances would use up a subnet before their leases run out. Locks what runs of the network.
///
/// # Errors
/// The file cannot be written; the kernel refuses the message.
pub(crate) fn release(
    store: &Store,
    (owner, network): (&ProjectName, &NetworkName),
    hwaddrs: &[[u8; 6]],
    name: &InstanceName,
) -> Result<()> {
    let alone = !has_port_of(store, network, name)?;
    let holder = Holder { hwaddrs, name: alone.then_some(name.as_str()) };
    let (text, all) = read(store, owner, network);
    let gone: Vec<Lease> = all.into_iter().filter(|l| leases::is_of(l, holder)).collect();
    if gone.is_empty() {
        return Ok(());
    }
    let lock = store.lock_network_run(network)?;
    if dns::is_running(store, &lock)? {
        let Some(record) = store.network(owner, network)? else { return Ok(()) };
        let plan = Plan::of(store, network, &record.config)?;
        let v4 = plan.bridge.v4.address.map(|net| net.address());
        let server = leases::server(&text).unwrap_or_default();
        for lease in &gone {
            let message = match (lease.address, v4) {
                (IpAddr::V4(_), Some(IpAddr::V4(to))) => {
                    release::message(lease, to).map(|bytes| (SocketAddr::from((to, release::PORT)), bytes))
                }
                (IpAddr::V4(_), _) => None,
                (IpAddr::V6(_), _) => release::message_v6(lease, &server)
                    .map(|bytes| (SocketAddr::from((release::SERVERS_V6, release::PORT_V6)), bytes)),
            };
            if let Some((to, bytes)) = message {
                socket::send_udp(network.as_str(), to, &bytes)?;
            }
        }
        return Ok(());
    }
    let path = store.layout().network_dir(owner, network).join(leases::FILE);
    let fail = || format!("Failed changing {}", path.display());
    match leases::without(&std::fs::read_to_string(&path).with_context(fail)?, holder) {
        Some(text) => atomic::replace(&path, text.as_bytes(), 0o644, Durability::Fast).with_context(fail),
        None => Ok(()),
    }
}

/// Is an interface of an instance of this name on the network, whatever its project?
fn has_port_of(store: &Store, network: &NetworkName, name: &InstanceName) -> Result<bool> {
    let of =
        |file: &String| file.split_once('_').and_then(|(_, rest)| rest.split_once('.')).map(|(n, _)| n.to_string());
    Ok(store.network_ports(network)?.iter().any(|file| of(file).as_deref() == Some(name.as_str())))
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
