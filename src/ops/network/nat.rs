//! Proxies with `nat=true`: rules of the firewall from an address of the host to one of the instance, set before it starts
//! and taken away when it has ended.

use super::firewall;
use crate::base::inet::IpNet;
use crate::base::names::{DeviceName, InstanceName, NetworkName, ProjectName};
use crate::error::{Context, Error, Result};
use crate::fault;
use crate::model::instance::{Device, Devices};
use crate::model::keys::device::proxy::{self as keys, Address};
use crate::model::keys::device::{device_type, nic as nic_keys};
use crate::model::keys::network::bridge as bridge_keys;
use crate::model::network::nic;
use crate::network::nft::{Script, forward as rules, label};
use crate::ops::load::{self, Loaded};
use crate::store::Store;
use std::collections::BTreeSet;
use std::net::IpAddr;

/// Is it a proxy that is rules of the firewall, not a process?
pub fn is_nat(device: &Device) -> bool {
    device_type(device) == "proxy" && keys::NAT.bool(device).unwrap_or(false)
}

fn proxies(devices: &Devices) -> impl Iterator<Item = (&String, &Device)> {
    devices.iter().filter(|(_, d)| is_nat(d))
}

/// Sets the rules of the proxies of an instance that is about to start.
///
/// # Errors
/// Invalid: no interface has the address as its static one. nft is missing or refuses.
pub fn begin(store: &Store, loaded: &Loaded) -> Result<()> {
    for (name, device) in proxies(&loaded.expanded.devices) {
        one(store, loaded, name, device)
            .and_then(|script| firewall::set(store, &script))
            .with_context(|| format!("Failed to start device \"{name}\""))?;
        fault::point("network.nat")?;
    }
    Ok(())
}

/// The rules of these devices of a running instance, in the place of those they have: none for one that is no such proxy (any
/// more).
///
/// # Errors
/// `Failed to start device "web": …`, as [`begin`].
pub fn rules_of(store: &Store, loaded: &Loaded, devices: &BTreeSet<String>) -> Result<Script> {
    let mut script = Script::default();
    for name in devices {
        let found = loaded.expanded.devices.get_key_value(name).filter(|(_, d)| is_nat(d));
        script.append(match found {
            Some((name, device)) => {
                one(store, loaded, name, device).with_context(|| format!("Failed to start device \"{name}\""))?
            }
            None => rules::proxy_down(&label(&loaded.project, &loaded.name, &DeviceName::parse(name)?)),
        });
    }
    Ok(script)
}

/// Sets such rules.
///
/// # Errors
/// nft is missing or refuses: nothing has changed then.
pub fn renew(store: &Store, script: &Script) -> Result<()> {
    // Where there is no nft, there is nothing to be taken away.
    if script.only_removes() { firewall::unset_alone(store, script) } else { firewall::set(store, script) }
}

/// Takes the rules of these devices of an instance away; none being there is fine.
///
/// # Errors
/// nft refuses.
pub fn remove(store: &Store, who: (&ProjectName, &InstanceName), devices: &BTreeSet<String>) -> Result<()> {
    let mut script = Script::default();
    for device in devices {
        script.append(rules::proxy_down(&label(who.0, who.1, &DeviceName::parse(device)?)));
    }
    firewall::unset_alone(store, &script)
}

fn one(store: &Store, loaded: &Loaded, name: &str, device: &Device) -> Result<Script> {
    let (mut addresses, mut subnets) = (Vec::new(), Vec::new());
    for options in loaded.expanded.devices.values().filter(|d| is_on_bridge(store, loaded, d)) {
        addresses.extend(nic::static_addresses(options));
        subnets.extend(nets(store, loaded, options)?);
    }
    let (Address::Tcp(to) | Address::Udp(to)) = Address::parse(keys::CONNECT.text(device))? else {
        return Err(Error::invalid("Only tcp and udp can use NAT"));
    };
    // Else the packets of another instance could be taken.
    if to.ip.is_some_and(|ip: IpAddr| !ip.is_unspecified() && !addresses.contains(&ip)) || addresses.is_empty() {
        return Err(Error::invalid("Proxy connect IP cannot be used with any of the instance NICs static IPs")
            .hint("give an interface of the instance the address: ipv4.address, ipv6.address"));
    }
    let label = label(&loaded.project, &loaded.name, &DeviceName::parse(name)?);
    rules::proxy_up(&label, device, &addresses, &subnets)
}

fn is_on_bridge(store: &Store, loaded: &Loaded, device: &Device) -> bool {
    if device_type(device) != "nic" || !nic_keys::ATTACHED.bool(device).unwrap_or(true) {
        return false;
    }
    let network = nic_keys::NETWORK.get(device).map(|n| super::need(store, &loaded.project, n));
    match network {
        Some(found) => found.is_ok_and(|(_, network)| network.kind.nictype() == "bridged"),
        None => nic_keys::NICTYPE.get(device) == Some("bridged"),
    }
}

/// The subnets of the network an interface is on; none for a bridge of the host.
fn nets(store: &Store, loaded: &Loaded, device: &Device) -> Result<Vec<IpNet>> {
    let Some(name) = nic_keys::NETWORK.get(device) else { return Ok(Vec::new()) };
    let (_, network) = super::need(store, &loaded.project, name)?;
    let nets = [&bridge_keys::IPV4_ADDRESS, &bridge_keys::IPV6_ADDRESS];
    let nets = nets.map(|key| key.get(&network.config)?.parse::<IpNet>().ok());
    Ok(nets.into_iter().flatten().map(|net| net.network()).collect())
}

/// Has the rules of instances that run be right for a network whose subnets have changed.
///
/// # Errors
/// nft is missing or refuses.
pub(super) fn follow(store: &Store, network: &NetworkName) -> Result<()> {
    for (project, _) in store.projects()? {
        for name in store.instance_names(&project)? {
            let Ok(loaded) = load::load(store, &project, &name) else { continue };
            let on_it = |device: &Device| nic_keys::NETWORK.get(device) == Some(network.as_str());
            if loaded.expanded.devices.values().any(on_it) && load::running(store, &project, &name)?.is_some() {
                begin(store, &loaded)?;
            }
        }
    }
    Ok(())
}

/// Takes the rules of an instance's proxies away; none being there is fine.
///
/// # Errors
/// nft refuses.
pub fn end(store: &Store, (project, name): (&ProjectName, &InstanceName)) -> Result<()> {
    // What cannot be read was never started with these.
    let Ok(loaded) = load::load(store, project, name) else { return Ok(()) };
    for (device, _) in proxies(&loaded.expanded.devices) {
        firewall::unset_alone(store, &rules::proxy_down(&label(project, name, &DeviceName::parse(device)?)))?;
    }
    Ok(())
}
