//! What an interface on a bridge may send: its own MAC address, its own addresses (`security.mac_filtering`,
//! `security.ipv4_filtering`, `security.ipv6_filtering`), and what its ACLs say (`security.acls`). Rules of nft at the bridge,
//! set before the interface is there and taken away after it has gone.

use super::super::nic_routes;
use super::{dns, rules as force};
use crate::base::inet::IpNet;
use crate::base::mac;
use crate::base::names::{DeviceName, InstanceName, NetworkName, ProjectName};
use crate::error::{Error, Result};
use crate::model::instance::{Config, Device};
use crate::model::keys::Key;
use crate::model::keys::device::nic as keys;
use crate::model::network::bridge::{Bridge, Family, eui64};
use crate::model::network::nic;
use crate::model::nic::Identity;
use crate::network::nft::acl::Policy;
use crate::network::nft::nic::{self as nft_nic, Allowed, Kernel};
use crate::network::nft::{self, Script};
use crate::store::Store;
use crate::store::acls::{Filter, FilteredNic};
use std::net::IpAddr;

/// The options that take rules.
const OPTIONS: [&Key; 3] =
    [&keys::SECURITY_MAC_FILTERING, &keys::SECURITY_IPV4_FILTERING, &keys::SECURITY_IPV6_FILTERING];

/// Does a device have rules of its own? What a virtual function may send its card checks.
///
/// # Errors
/// An option is wrong.
pub fn is_wanted(options: &Device) -> Result<bool> {
    if keys::NICTYPE.get(options) == Some("sriov") {
        return Ok(false);
    }
    OPTIONS.iter().try_fold(force::has_acls(options), |found, key| Ok(found || key.bool(options)?))
}

/// Sets the rules of an interface that is about to be on the network `on`, `project`'s, in the place of those it has;
/// `addresses` are reserved for it.
///
/// # Errors
/// An ACL is missing; the kernel cannot hold the rules; nft is missing or refuses.
pub fn begin(
    store: &Store,
    (project, on): (&ProjectName, &NetworkName),
    port: dns::Port<'_>,
    identity: &Identity,
    (options, addresses): (&Device, &[IpAddr]),
) -> Result<()> {
    let hwaddr = hwaddr_of(identity)?;
    let nic = filtered(port, identity, hwaddr, addresses);
    let filter = Filter { format: 1, project: project.to_string(), options: options.clone(), nic: Some(nic) };
    force::set(store, project, &(on.clone(), port.file_name()?), &filter)
}

fn hwaddr_of(identity: &Identity) -> Result<[u8; 6]> {
    identity.hwaddr.ok_or_else(|| Error::internal("An interface on a bridge has no MAC address"))
}

fn filtered(port: dns::Port<'_>, identity: &Identity, hwaddr: [u8; 6], addresses: &[IpAddr]) -> FilteredNic {
    FilteredNic {
        project: port.project.to_string(),
        instance: port.instance.to_string(),
        device: port.device.to_string(),
        host_name: identity.host_name.clone(),
        hwaddr: mac::format(hwaddr),
        addresses: addresses.to_vec(),
    }
}

/// The rules of an interface on a bridge that is no network of ours: it may have the addresses it was given.
///
/// # Errors
/// Unsupported: it has ACLs.
pub fn unmanaged(port: dns::Port<'_>, identity: &Identity, options: &Device) -> Result<Script> {
    if force::has_acls(options) {
        return Err(Error::unsupported("ACLs are not supported by this version but on managed networks"));
    }
    let nic = filtered(port, identity, hwaddr_of(identity)?, &nic::static_addresses(options));
    let bridge = Bridge::read(&Config::new(), None)?;
    let on = keys::PARENT.text(options);
    rules((on, &bridge), (&nic, options), None, Kernel { conntrack: false, reject: false })
}

/// The rules of an interface on `bridge`.
///
/// # Errors
/// Unsupported: the kernel cannot hold them.
pub(super) fn rules(
    (on, bridge): (&str, &Bridge),
    (nic, options): (&FilteredNic, &Device),
    policy: Option<&Policy>,
    kernel: Kernel,
) -> Result<Script> {
    let hwaddr = mac::parse(&nic.hwaddr)?;
    let nets = |v4| nets(bridge, hwaddr, (options, &nic.addresses), v4);
    let allowed = |filtering: &Key, v4: bool| -> Result<Allowed> {
        match filtering.bool(options)? {
            true => Ok(Allowed::Only(nets(v4)?)),
            false => Ok(Allowed::Any),
        }
    };
    let gateways = bridge.families().into_iter().filter_map(|family| family.address).map(|net| net.address());
    let port = nft_nic::Port {
        label: label(nic)?,
        device: &nic.device,
        host_name: &nic.host_name,
        hwaddr,
        mac_filtering: keys::SECURITY_MAC_FILTERING.bool(options)?,
        v4: allowed(&keys::SECURITY_IPV4_FILTERING, true)?,
        v6: allowed(&keys::SECURITY_IPV6_FILTERING, false)?,
        acls: policy,
        dns: bridge.nameservers.iter().copied().chain(gateways).collect(),
        bridge: on,
        own: [nets(true)?, nets(false)?].concat(),
    };
    nft_nic::up(&port, kernel)
}

/// What takes them away.
///
/// # Errors
/// A name is wrong.
pub(super) fn rules_down(nic: &FilteredNic) -> Result<Script> {
    Ok(nft_nic::down(&label(nic)?))
}

/// Takes the rules of an interface away, whatever network it was on; none being there is fine.
///
/// # Errors
/// nft refuses.
pub fn end(store: &Store, port: dns::Port<'_>) -> Result<()> {
    let file = port.file_name()?;
    store.network_runs()?.iter().try_for_each(|network| force::unset(store, (network, &file)))
}

/// What the chains of an interface are named after.
///
/// # Errors
/// A name is wrong.
pub(super) fn label(nic: &FilteredNic) -> Result<nft::rule::Name> {
    let (project, instance) = (ProjectName::parse(&nic.project)?, InstanceName::parse(&nic.instance)?);
    Ok(nft::label(&project, &instance, &DeviceName::parse(&nic.device)?))
}

/// The addresses of a family that it may send from: those reserved, what is routed to it, and the one it gives itself from
/// router advertisements.
fn nets(bridge: &Bridge, hwaddr: [u8; 6], (options, addresses): (&Device, &[IpAddr]), v4: bool) -> Result<Vec<IpNet>> {
    let key = if v4 { &keys::IPV4_ADDRESS } else { &keys::IPV6_ADDRESS };
    if key.get(options) == Some("none") {
        return Ok(Vec::new());
    }
    let mut all: Vec<IpNet> = addresses.iter().filter(|a| a.is_ipv4() == v4).map(|a| IpNet::host(*a)).collect();
    let routes = if v4 { nic_routes::V4 } else { nic_routes::V6 };
    for net in routes.iter().flat_map(|key| key.list(options)) {
        all.push(net.parse()?);
    }
    let Family { address, .. } = if v4 { &bridge.v4 } else { &bridge.v6 };
    all.extend(address.filter(|_| !v4).and_then(|net| eui64(&net, hwaddr)).map(|a| IpNet::host(a.into())));
    Ok(all)
}
