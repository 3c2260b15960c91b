//! The network interfaces of an instance: what is settled about each before a start, and what the host has of them.
//!
//! What a device does not say is chosen once and noted in the volatile record: MAC address and name inside stay, the name on
//! the host is a new one at each start. So what there is on the host of an instance that ended is known from its records.

use super::load::{self, Loaded};
use super::network::{self, dns::Port};
use super::{nic_function, nic_host, nic_routes, nic_vlan};
use crate::base::mac;
use crate::base::names::{InstanceName, ProjectName};
use crate::container;
use crate::error::{Context, Error, Result};
use crate::host::links::{Details, Links};
use crate::model::diff::DeviceChanges;
use crate::model::instance::{Config, Device, Devices};
use crate::model::keys::device::{self, nic as keys};
use crate::model::keys::project::HWADDR_PATTERN;
use crate::model::keys::{
    VOLATILE_DEVICE_HOST_NAME, VOLATILE_DEVICE_HWADDR, VOLATILE_DEVICE_NAME, VOLATILE_PREFIX, all as all_keys, server,
};
use crate::model::network::{NetworkType, nic, random};
use crate::model::nic::{Identity, Link, Nic};
use crate::network::nft::Script;
use crate::store::Store;
use crate::store::plugged::Board;
use std::collections::BTreeSet;

/// Devices that are network interfaces and plugged in.
pub(super) fn interfaces(loaded: &Loaded) -> impl Iterator<Item = (&String, &Device)> {
    let plugged = |d: &Device| keys::ATTACHED.bool(d).unwrap_or(true);
    loaded.expanded.devices.iter().filter(move |(_, d)| device::device_type(d) == "nic" && plugged(d))
}

/// Settles name, MAC address and name on the host of all interfaces for a start, in the volatile configuration of `loaded`;
/// nothing is saved. Takes no lock.
///
/// # Errors
/// As [`choose`].
pub(super) fn settle(store: &Store, loaded: &mut Loaded) -> Result<()> {
    choose(store, &loaded.project, &loaded.expanded.devices, &mut loaded.volatile.config)?;
    let plugged: Vec<String> = interfaces(loaded).map(|(name, _)| name.clone()).collect();
    forget(&mut loaded.volatile.config);
    plugged.iter().try_for_each(|name| name_on_host(store, loaded, name))
}

/// Chooses what stays of all interfaces among `devices`: the name inside and the MAC address, where the device says none and
/// none was chosen before. Done when an instance or a device comes to be, as Incus does, and before a start.
///
/// # Errors
/// The configuration of server or project cannot be read; its pattern for MAC addresses is wrong.
pub(super) fn choose(store: &Store, project: &ProjectName, devices: &Devices, volatile: &mut Config) -> Result<()> {
    let nics: Vec<(&String, &Device)> = devices.iter().filter(|(_, d)| device::device_type(d) == "nic").collect();
    let mut names: BTreeSet<String> = nics
        .iter()
        .filter_map(|(n, d)| keys::NAME.get(d).or(VOLATILE_DEVICE_NAME.get_of(volatile, n)).map(str::to_string))
        .collect();
    let mut pattern = None;
    for (name, options) in nics {
        let (own_name, hwaddr) = (VOLATILE_DEVICE_NAME.of(name), VOLATILE_DEVICE_HWADDR.of(name));
        match keys::NAME.get(options) {
            Some(_) => drop(volatile.remove(&own_name)),
            None if volatile.contains_key(&own_name) => {}
            None => {
                let free = (0..).map(|n| format!("eth{n}")).find(|n| !names.contains(n)).unwrap_or_default();
                names.insert(free.clone());
                volatile.insert(own_name, free);
            }
        }
        match keys::HWADDR.get(options) {
            Some(_) => drop(volatile.remove(&hwaddr)),
            None if volatile.contains_key(&hwaddr) || keeps_address(&nictype(store, project, options)) => {}
            None => {
                if pattern.is_none() {
                    let own = store.project(project)?.and_then(|p| HWADDR_PATTERN.get(&p.config).map(str::to_string));
                    let config = store.server()?.config;
                    pattern = Some(own.or_else(|| config.get(server::HWADDR_PATTERN).cloned()));
                }
                let pattern = pattern.as_ref().and_then(Option::as_deref).unwrap_or(mac::DEFAULT_PATTERN);
                volatile.insert(hwaddr, mac::generate(pattern)?);
            }
        }
    }
    Ok(())
}

/// Interfaces of these types have the address that they or their parents come with.
fn keeps_address(nictype: &str) -> bool {
    matches!(nictype, "physical" | "ipvlan" | "sriov")
}

/// The type of an interface; one on a network that is not there has none.
fn nictype(store: &Store, project: &ProjectName, options: &Device) -> String {
    match keys::NETWORK.get(options) {
        None => keys::NICTYPE.text(options).to_string(),
        Some(network) => {
            network::need(store, project, network).map_or_else(|_| String::new(), |(_, n)| n.kind.nictype().to_string())
        }
    }
}

/// Renews what was chosen about interfaces after a change of devices: that of those that are gone goes, and what a device now
/// says counts, as in Incus; new ones get theirs.
///
/// # Errors
/// As [`choose`].
pub(super) fn refresh(store: &Store, changes: &DeviceChanges, new: &mut Loaded) -> Result<()> {
    let volatile = &mut new.volatile.config;
    for (name, old) in changes.removed.iter().filter(|(_, d)| device::device_type(d) == "nic") {
        let now = changes.added.get(name);
        let same = |now: &Device| {
            device::device_type(now) == "nic" && nictype(store, &new.project, now) == nictype(store, &new.project, old)
        };
        let says = |part: &str| now.is_some_and(|d| d.get(part).is_some_and(|v| !v.is_empty()));
        let all = !now.is_some_and(same);
        for key in all_keys().filter(|key| key.is_of_device()) {
            if all || says(key.name) {
                volatile.remove(&key.of(name));
            }
        }
    }
    choose(store, &new.project, &new.expanded.devices, volatile)
}

/// Settles the name on the host of the interface of a device, in the volatile configuration of `loaded`: one that has one
/// keeps it. That of a virtual function is not chosen, see [`lend`].
///
/// # Errors
/// As [`choose`].
pub(super) fn name_on_host(store: &Store, loaded: &mut Loaded, name: &str) -> Result<()> {
    let Some(options) = loaded.expanded.devices.get(name) else { return Ok(()) };
    if nictype(store, &loaded.project, options) == "sriov" {
        return Ok(());
    }
    let volatile = &loaded.volatile.config;
    let noted = VOLATILE_DEVICE_HOST_NAME.get_of(volatile, name);
    let address = keys::HWADDR.get(options).or(VOLATILE_DEVICE_HWADDR.get_of(volatile, name));
    let by_mac = || Ok::<_, Error>(store.server()?.config.get(server::NIC_HOST_NAME).is_some_and(|v| v == "mac"));
    let host_name = match (keys::HOST_NAME.get(options), noted, address) {
        (Some(given), _, _) => given.to_string(),
        (None, Some(noted), _) => noted.to_string(),
        (None, None, Some(address)) if by_mac()? => random::host_name_by_mac(mac::parse(address)?),
        (None, None, _) => random::host_name("veth", &mut network::random_bits, &|_| false)?,
    };
    loaded.volatile.config.insert(VOLATILE_DEVICE_HOST_NAME.of(name), host_name);
    Ok(())
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

/// The devices of an instance, those on managed networks with what these say, those of VLANs on the VLAN's interface.
///
/// # Errors
/// There is no such network; a device sets what the network says, or wants what the hardware has not.
pub(super) fn resolved(store: &Store, loaded: &Loaded) -> Result<Devices> {
    let mut devices = loaded.expanded.devices.clone();
    for (name, options) in interfaces(loaded) {
        let whole = on_network(store, loaded, options).and_then(|whole| {
            nic_host::check_hardware(&whole)?;
            nic_vlan::on_interface(&whole)
        });
        devices.insert(name.clone(), whole.with_context(|| format!("Failed to start device \"{name}\""))?);
    }
    Ok(devices)
}

/// An interface with what its managed network says, if it is on one.
fn on_network(store: &Store, loaded: &Loaded, options: &Device) -> Result<Device> {
    let Some(network) = keys::NETWORK.get(options) else { return Ok(options.clone()) };
    network::need(store, &loaded.project, network)
        .with_context(|| format!("Failed loading network \"{network}\""))
        .and_then(|(found, record)| nic::resolve(options, &found, &record))
        .and_then(as_port)
}

/// One on a network that stands for an interface of the host is a port of that where it is a bridge, as with Incus.
fn as_port(mut whole: Device) -> Result<Device> {
    if let ("physical", Some(parent)) = (keys::NICTYPE.text(&whole), keys::PARENT.get(&whole))
        && Links::open()?.find(parent)?.is_some_and(|link| matches!(link.details, Details::Bridge(_)))
    {
        keys::NICTYPE.set(&mut whole, "bridged");
        keys::GVRP.remove(&mut whole);
    }
    Ok(whole)
}

/// Sees to it that what interfaces of an instance are put on is there: managed networks are brought up, and interfaces of the
/// host are looked for. Locks what runs of each network in turn.
///
/// # Errors
/// As [`connect`].
pub(super) fn begin(store: &Store, loaded: &Loaded) -> Result<()> {
    let connect = |(name, options): (&String, &Device)| {
        let begun = below(store, loaded, (name, options)).and_then(|()| connect(store, loaded, (name, options)));
        begun.with_context(|| format!("Failed to start device \"{name}\""))
    };
    interfaces(loaded).try_for_each(connect)
}

/// Names the virtual functions that [`begin`] has chosen, in the interfaces of a plan and in the volatile configuration of
/// `loaded`.
///
/// # Errors
/// What was noted cannot be read.
pub(super) fn lend(store: &Store, loaded: &mut Loaded, nics: &mut [Nic]) -> Result<()> {
    if !nics.iter().any(|nic| matches!(nic.link, Link::Function(_))) {
        return Ok(());
    }
    for nic in nics {
        let device = nic.device.clone();
        let port = Port { project: &loaded.project, instance: &loaded.name, device: &device };
        nic_function::name(store, port, nic)?;
    }
    nic_function::remember(store, loaded)
}

/// Sets up what the interface of a device needs on the host before it is made.
///
/// # Errors
/// As [`nic_host::begin`].
pub(super) fn below(store: &Store, loaded: &Loaded, (name, options): (&str, &Device)) -> Result<()> {
    let port = Port { project: &loaded.project, instance: &loaded.name, device: name };
    nic_host::begin(store, port, &on_network(store, loaded, options)?, &identity(loaded, name)?)
}

/// The same for one: its network is brought up, and what the network has of it – rules, reservation – is set, anew if it is
/// there already.
///
/// # Errors
/// Not found: the network. As [`network::up::ensure`], [`network::dns::add`].
pub(super) fn connect(store: &Store, loaded: &Loaded, (name, options): (&str, &Device)) -> Result<()> {
    let Some(network) = keys::NETWORK.get(options) else {
        let port = Port { project: &loaded.project, instance: &loaded.name, device: name };
        return nic_host::filter(store, port, options, &identity(loaded, name)?);
    };
    let (found, record) = network::need(store, &loaded.project, network)?;
    if record.kind != NetworkType::Bridge {
        return Ok(());
    }
    let lock = store.lock_network_run(&found)?;
    // It may have been changed until the lock was won.
    let (_, record) = network::need(store, &loaded.project, network)?;
    network::up::ensure_locked(store, &lock, &record)?;
    let port = Port { project: &loaded.project, instance: &loaded.name, device: name };
    let owner = network::project_of(store, &loaded.project)?;
    network::dns::add(store, &lock, (&owner, &record), port, (&identity(loaded, name)?, options))?;
    network::zone_server::follow_network(store, &record.config);
    Ok(())
}

/// Takes away what networks have of the interface of a device, after it has gone; nothing being there is fine. `filtered`: it
/// may have rules.
///
/// # Errors
/// nft refuses; dnsmasq cannot be told.
pub(super) fn disconnect(store: &Store, port: Port<'_>, filtered: bool) -> Result<()> {
    nic_host::end(store, (port.project, port.instance), Some(port.device))?;
    if filtered {
        network::filter::end(store, port)?;
    }
    network::dns::remove(store, port)
}

/// Sets up what needs the interfaces of an instance to be there.
///
/// # Errors
/// nft is missing or refuses; a route cannot be made.
pub(super) fn started(store: &Store, loaded: &Loaded) -> Result<()> {
    interfaces(loaded).try_for_each(|(name, options)| {
        above(store, loaded, (name, options)).with_context(|| format!("Failed to start device \"{name}\""))
    })
}

/// The same for one, again after its options have changed.
///
/// # Errors
/// As [`started`].
pub(super) fn above(store: &Store, loaded: &Loaded, (name, options): (&str, &Device)) -> Result<()> {
    let port = Port { project: &loaded.project, instance: &loaded.name, device: name };
    if nic_routes::concerns(store, port, options)? {
        nic_routes::follow(store, port, &on_network(store, loaded, options)?)?;
    }
    nic_host::started(store, port, options, &identity(loaded, name)?)
}

/// The rules of the host for the single interfaces of an instance that runs: none for most.
///
/// # Errors
/// As [`resolved`]; what is noted cannot be read.
pub(super) fn noted_rules(store: &Store, loaded: &Loaded) -> Result<Script> {
    let mut script = Script::default();
    if store.nic_notes(&loaded.project, &loaded.name)?.devices.is_empty() {
        return Ok(script);
    }
    let devices = resolved(store, loaded)?;
    for (name, said) in interfaces(loaded) {
        let Some(options) = devices.get(name) else { continue };
        let port = Port { project: &loaded.project, instance: &loaded.name, device: name };
        let identity = identity(loaded, name)?;
        script.append(nic_host::noted_rules(store, port, options, &identity)?);
        script.append(nic_host::noted_filter(store, port, said, &identity)?);
    }
    Ok(script)
}

/// Sets them again, after somebody took them away. Where no network is up the caller holds the allocator of addresses, as
/// whoever tidies up does.
///
/// # Errors
/// nft is missing or refuses.
pub(super) fn rules_again(store: &Store, loaded: &Loaded) -> Result<()> {
    network::firewall::set(store, &noted_rules(store, loaded)?)
}

/// Ends what the host still has of the interfaces of an instance that ended; nothing left is fine.
///
/// # Errors
/// The kernel refuses; dnsmasq cannot be told.
pub(super) fn end(store: &Store, who: (&ProjectName, &InstanceName)) -> Result<()> {
    nic_host::end(store, who, None)?;
    if !store.instance_exists(who.0, who.1)? {
        return Ok(());
    }
    let volatile = store.volatile(who.0, who.1)?.config;
    let on_host = volatile.iter().filter_map(|(key, name)| Some((VOLATILE_DEVICE_HOST_NAME.device_in(key)?, name)));
    let (mut devices, mut names): (BTreeSet<String>, BTreeSet<String>) =
        on_host.filter(|(d, _)| !nic_function::has(&volatile, d)).map(|(d, n)| (d.to_string(), n.clone())).unzip();
    // One whose plugging in was broken off stands in the run file only. What cannot be read has none.
    if let Ok(board) = Board::read(&store.layout().instance_run_dir(who.0, who.1)) {
        container::nics::restore(&board)?;
        for plugged in board.all() {
            devices.insert(plugged.nic.device.clone());
            names.extend(plugged.nic.link.host_end().map(|end| end.name.clone()));
        }
    }
    if devices.is_empty() && store.network_runs()?.is_empty() {
        return Ok(());
    }
    container::nics::remove(names.iter().map(String::as_str)).context("Failed removing network interfaces")?;
    // A start that was killed had not noted the names yet. What cannot be read has none but those.
    if let Ok(loaded) = load::load(store, who.0, who.1) {
        devices.extend(interfaces(&loaded).map(|(name, _)| name.clone()));
    }
    for device in devices {
        let port = Port { project: who.0, instance: who.1, device: &device };
        disconnect(store, port, true)?;
    }
    if network::zone_server::is_told(store) {
        network::zone_server::follow(store);
    }
    Ok(())
}

/// Gives back the addresses that interfaces of an instance have leases of, because it goes for good. One that keeps its lease
/// blocks an address for a while and nothing else, so what goes wrong here stops nobody.
pub(super) fn release(store: &Store, who: (&ProjectName, &InstanceName)) {
    let Ok(loaded) = load::load(store, who.0, who.1) else { return };
    let Ok(owner) = network::project_of(store, &loaded.project) else { return };
    // An IPv6 client may call itself on all interfaces by the address of one.
    let hwaddrs: Vec<[u8; 6]> =
        interfaces(&loaded).filter_map(|(name, _)| identity(&loaded, name).ok()?.hwaddr).collect();
    let named: BTreeSet<&str> = interfaces(&loaded).filter_map(|(_, options)| keys::NETWORK.get(options)).collect();
    for name in named {
        if let Ok((network, _)) = network::need(store, &loaded.project, name) {
            let _ = network::leases::release(store, (&owner, &network), &hwaddrs, who.1);
        }
    }
}

/// Forgets the names on the host and what there was of virtual functions, once there is nothing left of them.
pub(super) fn forget(volatile: &mut Config) {
    volatile.retain(|key, _| VOLATILE_DEVICE_HOST_NAME.device_in(key).is_none() && !nic_function::is_about(key));
}

/// The same for one device.
pub(super) fn forget_one(volatile: &mut Config, device: &str) {
    let own =
        |key: &str| key.strip_prefix(VOLATILE_PREFIX).and_then(|k| k.strip_prefix(device)?.strip_prefix('.')).is_some();
    volatile
        .retain(|key, _| !own(key) || (*key != VOLATILE_DEVICE_HOST_NAME.of(device) && !nic_function::is_about(key)));
}
