//! The network interfaces of an instance: what is settled about each before a start, and what the host has of them.
//!
//! What a device does not say is chosen once and noted in the volatile record: MAC address and name inside stay, the name on
//! the host is a new one at each start. So what there is on the host of an instance that ended is known from its records.

use super::load::{self, Loaded};
use super::network::{self, dns::Port};
use crate::base::mac;
use crate::base::names::{InstanceName, ProjectName};
use crate::container;
use crate::error::{Context, Error, Result};
use crate::model::instance::{Config, Device, Devices};
use crate::model::keys::device::{self, nic as keys};
use crate::model::keys::{VOLATILE_DEVICE_HOST_NAME, VOLATILE_DEVICE_HWADDR, VOLATILE_DEVICE_NAME, server};
use crate::model::network::{NetworkType, nic, random};
use crate::model::nic::Identity;
use crate::store::Store;
use std::collections::BTreeSet;

/// Devices that are network interfaces and plugged in.
fn interfaces(loaded: &Loaded) -> impl Iterator<Item = (&String, &Device)> {
    let plugged = |d: &Device| keys::ATTACHED.bool(d).unwrap_or(true);
    loaded.expanded.devices.iter().filter(move |(_, d)| device::device_type(d) == "nic" && plugged(d))
}

/// Settles name, MAC address and name on the host of all interfaces, in the volatile configuration of `loaded`; nothing is
/// saved. Takes no lock.
///
/// # Errors
/// The server's configuration cannot be read; its pattern for MAC addresses is wrong.
pub(super) fn settle(store: &Store, loaded: &mut Loaded) -> Result<()> {
    let devices: Vec<(String, Device)> = interfaces(loaded).map(|(n, d)| (n.clone(), d.clone())).collect();
    if devices.is_empty() {
        return Ok(());
    }
    let config = store.server()?.config;
    let pattern = config.get(server::HWADDR_PATTERN).map_or(mac::DEFAULT_PATTERN, String::as_str);
    let by_mac = config.get(server::NIC_HOST_NAME).is_some_and(|value| value == "mac");
    let mut names = taken_names(loaded);
    let volatile = &mut loaded.volatile.config;
    for (name, options) in devices {
        let (own_name, hwaddr) = (VOLATILE_DEVICE_NAME.of(&name), VOLATILE_DEVICE_HWADDR.of(&name));
        match keys::NAME.get(&options) {
            Some(_) => drop(volatile.remove(&own_name)),
            None if volatile.contains_key(&own_name) => {}
            None => {
                let free = (0..).map(|n| format!("eth{n}")).find(|n| !names.contains(n)).unwrap_or_default();
                names.insert(free.clone());
                volatile.insert(own_name, free);
            }
        }
        match keys::HWADDR.get(&options) {
            Some(_) => drop(volatile.remove(&hwaddr)),
            None if volatile.contains_key(&hwaddr) => {}
            None => drop(volatile.insert(hwaddr.clone(), mac::generate(pattern)?)),
        }
        let address = keys::HWADDR.get(&options).or(volatile.get(&hwaddr).map(String::as_str)).unwrap_or_default();
        let host_name = match keys::HOST_NAME.get(&options) {
            Some(given) => given.to_string(),
            None if by_mac => random::host_name_by_mac(mac::parse(address)?),
            None => random::host_name("veth", &mut network::random_bits, &|_| false)?,
        };
        volatile.insert(VOLATILE_DEVICE_HOST_NAME.of(&name), host_name);
    }
    Ok(())
}

/// Names inside that interfaces have by their devices, or had before.
fn taken_names(loaded: &Loaded) -> BTreeSet<String> {
    let noted = |name: &String| VOLATILE_DEVICE_NAME.get_of(&loaded.volatile.config, name);
    interfaces(loaded).filter_map(|(n, d)| keys::NAME.get(d).or(noted(n)).map(str::to_string)).collect()
}

/// What [`settle`] has settled about the interface of a device.
///
/// # Errors
/// Its MAC address is none.
pub(super) fn identity(loaded: &Loaded, name: &str) -> Result<Identity> {
    let empty = Device::new();
    let options = loaded.expanded.devices.get(name).unwrap_or(&empty);
    let volatile = &loaded.volatile.config;
    // An interface of the host keeps its own.
    let noted =
        VOLATILE_DEVICE_HWADDR.get_of(volatile, name).filter(|_| keys::NICTYPE.get(options) != Some("physical"));
    let hwaddr = keys::HWADDR.get(options).or(noted).map(mac::parse).transpose();
    let inside = keys::NAME.get(options).or(VOLATILE_DEVICE_NAME.get_of(volatile, name)).unwrap_or(name);
    Ok(Identity {
        name: inside.to_string(),
        hwaddr: hwaddr.with_context(|| format!("Failed to start device \"{name}\""))?,
        host_name: VOLATILE_DEVICE_HOST_NAME.get_of(volatile, name).unwrap_or_default().to_string(),
    })
}

/// The devices of an instance, those on managed networks with what these say.
///
/// # Errors
/// There is no such network; a device sets what the network says.
pub(super) fn resolved(store: &Store, loaded: &Loaded) -> Result<Devices> {
    let mut devices = loaded.expanded.devices.clone();
    for (name, options) in interfaces(loaded) {
        let Some(network) = keys::NETWORK.get(options) else { continue };
        let whole = network::need(store, &loaded.project, network)
            .context(format!("Failed loading network \"{network}\""))
            .and_then(|(found, record)| nic::resolve(options, &found, &record));
        let whole = whole.with_context(|| format!("Failed to start device \"{name}\""))?;
        devices.insert(name.clone(), whole);
    }
    Ok(devices)
}

/// Sees to it that what interfaces of an instance are put on is there: managed networks are brought up, and interfaces of the
/// host are looked for. Locks what runs of each network in turn.
///
/// # Errors
/// Not found: the bridge or the parent. As [`network::up::ensure`], [`network::dns::add`].
pub(super) fn begin(store: &Store, loaded: &Loaded) -> Result<()> {
    for (name, options) in interfaces(loaded) {
        let fail = || format!("Failed to start device \"{name}\"");
        let Some(network) = keys::NETWORK.get(options) else {
            if network::filter::is_wanted(options)? {
                let text = "Filtering is not supported by this version but on managed networks";
                return Err(Error::unsupported(text)).with_context(fail);
            }
            continue;
        };
        let (found, record) = network::need(store, &loaded.project, network).with_context(fail)?;
        if record.kind != NetworkType::Bridge {
            continue;
        }
        network::up::ensure(store, &found, &record).with_context(fail)?;
        let port = Port { project: &loaded.project, instance: &loaded.name, device: name };
        let identity = identity(loaded, name)?;
        let owner = network::project_of(store, &loaded.project)?;
        network::dns::add(store, (&owner, &found, &record), port, &identity, options).with_context(fail)?;
    }
    Ok(())
}

/// Ends what the host still has of the interfaces of an instance that ended; nothing left is fine.
///
/// # Errors
/// The kernel refuses; dnsmasq cannot be told.
pub(super) fn end(store: &Store, who: (&ProjectName, &InstanceName)) -> Result<()> {
    if !store.instance_exists(who.0, who.1)? {
        return Ok(());
    }
    let volatile = store.volatile(who.0, who.1)?.config;
    let on_host = volatile.iter().filter_map(|(key, name)| Some((VOLATILE_DEVICE_HOST_NAME.device_in(key)?, name)));
    let (mut devices, names): (BTreeSet<String>, Vec<&String>) = on_host.map(|(d, n)| (d.to_string(), n)).unzip();
    if devices.is_empty() && store.network_runs()?.is_empty() {
        return Ok(());
    }
    container::nics::remove(names.into_iter().map(String::as_str)).context("Failed removing network interfaces")?;
    // A start that was killed had not noted the names yet. What cannot be read has none but those.
    let mut filtered = BTreeSet::new();
    if let Ok(loaded) = load::load(store, who.0, who.1) {
        for (name, options) in interfaces(&loaded) {
            devices.insert(name.clone());
            if network::filter::is_wanted(options).unwrap_or(false) {
                filtered.insert(name.clone());
            }
        }
    }
    for device in devices {
        let port = Port { project: who.0, instance: who.1, device: &device };
        if filtered.contains(&device) {
            network::filter::end(store, port)?;
        }
        network::dns::remove(store, port)?;
    }
    Ok(())
}

/// Gives back the addresses that interfaces of an instance have leases of, because it goes for good. One that keeps its lease
/// blocks an address for a while and nothing else, so what goes wrong here stops nobody.
pub(super) fn release(store: &Store, who: (&ProjectName, &InstanceName)) {
    let Ok(loaded) = load::load(store, who.0, who.1) else { return };
    for (name, options) in interfaces(&loaded) {
        let found = keys::NETWORK.get(options).and_then(|network| network::need(store, &loaded.project, network).ok());
        let (Some((network, _)), Ok(identity)) = (found, identity(&loaded, name)) else { continue };
        let Ok(owner) = network::project_of(store, &loaded.project) else { continue };
        let _ = network::leases::release(store, &owner, &network, identity.hwaddr.as_slice());
    }
}

/// Forgets the names on the host, once there is nothing left of them.
pub(super) fn forget(volatile: &mut Config) {
    volatile.retain(|key, _| VOLATILE_DEVICE_HOST_NAME.device_in(key).is_none());
}
