//! A NIC on a network: what its options say together with those of the network, and what a live change of an option does.

use super::bridge::Bridge;
use super::{Network, NetworkType};
use crate::base::names::NetworkName;
use crate::error::{Error, Result};
use crate::model::instance::{Device, InstanceType};
use crate::model::keys::Key;
use crate::model::keys::device::{self, Kind, nic};
use crate::model::keys::network::{bridge as net_keys, uplink};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// A part of a running NIC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NicPart {
    /// Rates (tc) of the host's end.
    Limits,
    /// Priority of outgoing packets (nft, family netdev).
    Priority,
    /// Routes to the host's end.
    Routes,
    /// The entry in dnsmasq's hosts.
    Hosts,
    /// Anti-spoofing and ACL rules (nft, family bridge).
    Filter,
    /// The link's state.
    Carrier,
}

/// What a change of a NIC's option does while the instance runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NicLive {
    /// The NIC is taken out and put in again.
    Replug,
    /// It is stored.
    Record,
    /// These parts are set up anew.
    Apply(&'static [NicPart]),
}

/// What a change of the option `name` of a NIC of this kind does. Only options the kind declares as updatable are changed in
/// place, so this and [`device::updatable`] cannot disagree.
pub fn live(kind: &Kind, name: &str) -> NicLive {
    use NicPart::{Carrier, Filter, Hosts, Limits, Priority, Routes};
    if device::USER.matches(name) {
        return NicLive::Record;
    }
    if !kind.updatable.iter().any(|k| k.name == name) {
        return NicLive::Replug;
    }
    let is = |keys: &[&Key]| keys.iter().any(|k| k.name == name);
    if is(&[&nic::LIMITS_INGRESS, &nic::LIMITS_EGRESS, &nic::LIMITS_MAX]) {
        NicLive::Apply(&[Limits])
    } else if is(&[&nic::LIMITS_PRIORITY]) {
        NicLive::Apply(&[Priority])
    } else if is(&[&nic::IPV4_ROUTES, &nic::IPV6_ROUTES, &nic::IPV4_ROUTES_EXTERNAL, &nic::IPV6_ROUTES_EXTERNAL]) {
        NicLive::Apply(&[Routes, Filter])
    } else if is(&[&nic::IPV4_ADDRESS, &nic::IPV6_ADDRESS]) {
        NicLive::Apply(&[Hosts, Filter])
    } else if is(&[&nic::CONNECTED]) {
        NicLive::Apply(&[Carrier])
    } else {
        NicLive::Apply(&[Filter])
    }
}

/// The parts to set up anew for a change between two states of a NIC; none if it has to be plugged anew.
pub fn parts(kind: &Kind, old: &Device, new: &Device) -> Option<BTreeSet<NicPart>> {
    let names: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    let mut parts = BTreeSet::new();
    for name in names.into_iter().filter(|n| old.get(*n) != new.get(*n)) {
        match live(kind, name) {
            NicLive::Replug => return None,
            NicLive::Record => {}
            NicLive::Apply(some) => parts.extend(some),
        }
    }
    Some(parts)
}

/// The kind of NIC `network=` stands for.
///
/// # Errors
/// Internal: no such kind is declared.
pub fn kind_on(kind: NetworkType) -> Result<&'static Kind> {
    let sub = kind.nictype();
    let found = device::kinds().find(|k| k.device == "nic" && k.sub == sub);
    found.ok_or_else(|| Error::internal(format!("No NIC type {sub:?}")))
}

/// The device a NIC with `network=` amounts to: type, parent, MTU and VLAN come from the network.
///
/// # Errors
/// Invalid: it sets what the network says.
pub fn resolve(device: &Device, name: &NetworkName, network: &Network) -> Result<Device> {
    for banned in [&nic::NICTYPE, &nic::PARENT, &nic::MTU] {
        if banned.get(device).is_some() {
            return Err(Error::invalid(format!(
                "Cannot use {:?} property in conjunction with \"network\" property",
                banned.name
            )));
        }
    }
    let mut whole = device.clone();
    nic::NETWORK.remove(&mut whole);
    nic::NICTYPE.set(&mut whole, network.kind.nictype());
    let config = &network.config;
    let (parent, mtu) = match network.kind {
        NetworkType::Bridge => (Some(name.as_str()), net_keys::MTU.get(config)),
        _ => (uplink::PARENT.get(config), uplink::MTU.get(config)),
    };
    if let Some(parent) = parent {
        nic::PARENT.set(&mut whole, parent);
    }
    if let Some(mtu) = mtu {
        nic::MTU.set(&mut whole, mtu);
    }
    let from_network: &[(&Key, &Key)] = match network.kind {
        NetworkType::Bridge => &[],
        NetworkType::Sriov => &[(&uplink::VLAN, &nic::VLAN)],
        NetworkType::Macvlan => &[(&uplink::VLAN, &nic::VLAN), (&uplink::GVRP, &nic::GVRP)],
        NetworkType::Physical => {
            &[(&uplink::VLAN, &nic::VLAN), (&uplink::VLAN_TAGGED, &nic::VLAN_TAGGED), (&uplink::GVRP, &nic::GVRP)]
        }
    };
    for (from, to) in from_network {
        if let Some(value) = from.get(config) {
            to.set(&mut whole, value);
        }
    }
    Ok(whole)
}

/// Checks a NIC against its managed network: as the kind the network's type makes it, and on a bridge its addresses.
///
/// # Errors
/// Invalid, in the words of Incus.
pub fn check_on(device: &Device, name: &NetworkName, network: &Network, kind: Option<InstanceType>) -> Result<()> {
    let whole = resolve(device, name, network)?;
    device::validate_as(&whole, kind_on(network.kind)?, kind)?;
    match network.kind {
        NetworkType::Bridge => check_on_bridge(device, name, &Bridge::read(&network.config, None)?),
        _ => Ok(()),
    }
}

fn check_on_bridge(device: &Device, name: &NetworkName, bridge: &Bridge) -> Result<()> {
    let stateful = bridge.v6.dhcp_subnet().filter(|_| bridge.stateful);
    let families = [
        (&nic::IPV4_ADDRESS, &nic::SECURITY_IPV4_FILTERING, &bridge.v4, bridge.v4.dhcp_subnet()),
        (&nic::IPV6_ADDRESS, &nic::SECURITY_IPV6_FILTERING, &bridge.v6, stateful),
    ];
    for (key, filtering, family, served) in families {
        let Some(text) = key.get(device).filter(|t| !t.contains('/')) else { continue };
        let filtered = filtering.bool(device)?;
        if served.is_none() && !filtered {
            let what = match key.name == nic::IPV4_ADDRESS.name {
                true => "DHCP is disabled".to_string(),
                false => format!("DHCP or {:?} are disabled", net_keys::IPV6_DHCP_STATEFUL.name),
            };
            return Err(Error::invalid(format!(
                "Cannot specify {:?} when {what} (unless using {}) on network {:?}",
                key.name,
                filtering.name,
                name.as_str()
            )));
        }
        if text == "none" {
            if !filtered {
                return Err(Error::invalid(format!(
                    "Cannot have {} as none unless using {}",
                    key.name, filtering.name
                )));
            }
            continue;
        }
        let Ok(address) = text.parse::<IpAddr>() else { continue };
        if family.dhcp_subnet().is_some_and(|net| !net.contains(address)) {
            return Err(Error::invalid(format!(
                "Device IP address {text:?} not within network {:?} subnet",
                name.as_str()
            )));
        }
        if family.address.is_some_and(|own| own.address() == address) {
            return Err(Error::invalid(format!(
                "IP address {text:?} is assigned to parent managed network device {:?}",
                name.as_str()
            )));
        }
    }
    check_native_vlans(device)
}

fn check_native_vlans(device: &Device) -> Result<()> {
    if nic::BRIDGE_VLAN.get(device) == Some("0") {
        return Err(Error::invalid("VLAN ID 0 is not allowed for native Linux bridges"));
    }
    let first = |item: &str| item.split('-').next().and_then(|t| t.trim().parse::<u16>().ok());
    if nic::VLAN_TAGGED.list(device).into_iter().any(|item| first(item) == Some(0)) {
        return Err(Error::invalid("VLAN tagged ID 0 is not allowed for native Linux bridges"));
    }
    Ok(())
}

/// Checks a bridged NIC whose parent is no network of ours.
///
/// # Errors
/// Invalid, in the words of Incus.
pub fn check_unmanaged_bridge(device: &Device) -> Result<()> {
    let families = [
        (&nic::IPV4_ADDRESS, &nic::SECURITY_IPV4_FILTERING, "IPv4"),
        (&nic::IPV6_ADDRESS, &nic::SECURITY_IPV6_FILTERING, "IPv6"),
    ];
    for (key, filtering, family) in families {
        let address = key.get(device);
        if filtering.bool(device)? {
            if address.is_none() {
                return Err(Error::invalid(format!(
                    "{family} filtering requires a manually specified {} when using an unmanaged parent bridge",
                    key.name
                )));
            }
        } else if address.is_some_and(|a| !a.contains('/')) {
            return Err(Error::invalid(format!(
                "Cannot use manually specified {} when using unmanaged parent bridge",
                key.name
            )));
        }
    }
    Ok(())
}

/// Static addresses of a NIC, without prefix.
pub fn static_addresses(device: &Device) -> Vec<IpAddr> {
    let keys = [&nic::IPV4_ADDRESS, &nic::IPV6_ADDRESS];
    let items = keys.into_iter().flat_map(|k| k.list(device));
    items.filter_map(|item| item.split('/').next()?.parse().ok()).collect()
}

/// Who has an address or a MAC address on a network, for the check that a NIC takes nobody's: from `<instance>/<device>` to
/// its device with the MAC address filled in. One pass over all, so that the two-hundredth NIC costs as the first.
#[derive(Debug, Clone, Default)]
pub struct Taken {
    addresses: BTreeMap<IpAddr, String>,
    hwaddrs: BTreeMap<String, String>,
}

impl Taken {
    /// Adds a NIC of someone.
    pub fn add(&mut self, owner: &str, device: &Device, hwaddr: Option<&str>) {
        for address in static_addresses(device) {
            self.addresses.insert(address, owner.to_string());
        }
        if let Some(hwaddr) = hwaddr {
            self.hwaddrs.insert(hwaddr.to_ascii_lowercase(), owner.to_string());
        }
    }

    /// The addresses.
    pub fn addresses(&self) -> BTreeSet<IpAddr> {
        self.addresses.keys().copied().collect()
    }

    /// Checks that the NIC of `owner` takes nobody's address.
    ///
    /// # Errors
    /// Conflict.
    pub fn check(&self, owner: &str, device: &Device, hwaddr: Option<&str>) -> Result<()> {
        let other = |found: Option<&String>| found.filter(|o| *o != owner).cloned();
        if let Some(mac) = hwaddr
            && let Some(who) = other(self.hwaddrs.get(&mac.to_ascii_lowercase()))
        {
            return Err(Error::conflict(format!("MAC address {mac:?} already defined on another NIC"))
                .hint(format!("It belongs to {who}")));
        }
        for address in static_addresses(device) {
            if let Some(who) = other(self.addresses.get(&address)) {
                return Err(Error::conflict(format!("IP address \"{address}\" already defined on another NIC"))
                    .hint(format!("It belongs to {who}")));
            }
        }
        Ok(())
    }
}
