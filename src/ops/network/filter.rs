//! What an interface on a managed bridge may send: its own MAC address, its own addresses (`security.mac_filtering`,
//! `security.ipv4_filtering`, `security.ipv6_filtering`). Rules of nft at the bridge, set before the interface is there and
//! taken away after it has gone.

use super::{dns, firewall};
use crate::base::inet::IpNet;
use crate::base::names::DeviceName;
use crate::error::{Error, Result};
use crate::model::instance::Device;
use crate::model::keys::Key;
use crate::model::keys::device::nic as keys;
use crate::model::network::bridge::{Bridge, Family, eui64};
use crate::model::nic::Identity;
use crate::network::nft::nic::{self as rules, Allowed, Kernel};
use crate::network::nft::{self};
use crate::store::Store;
use std::net::IpAddr;

/// The options that take rules.
const OPTIONS: [&Key; 3] =
    [&keys::SECURITY_MAC_FILTERING, &keys::SECURITY_IPV4_FILTERING, &keys::SECURITY_IPV6_FILTERING];

/// Does a device have rules of its own?
///
/// # Errors
/// An option is wrong.
pub fn is_wanted(options: &Device) -> Result<bool> {
    OPTIONS.iter().try_fold(false, |found, key| Ok(found || key.bool(options)?))
}

/// Sets the rules of an interface that is about to be on a bridge; `addresses` are reserved for it.
///
/// # Errors
/// nft is missing or refuses.
pub fn begin(
    store: &Store,
    bridge: &Bridge,
    port: dns::Port<'_>,
    identity: &Identity,
    (options, addresses): (&Device, &[IpAddr]),
) -> Result<()> {
    let hwaddr = identity.hwaddr.ok_or_else(|| Error::internal("An interface on a bridge has no MAC address"))?;
    let allowed = |filtering: &Key, v4: bool| -> Result<Allowed> {
        match filtering.bool(options)? {
            true => Ok(Allowed::Only(nets(bridge, hwaddr, (options, addresses), v4)?)),
            false => Ok(Allowed::Any),
        }
    };
    let rules = rules::up(
        &rules::Port {
            label: label(port)?,
            device: port.device,
            host_name: &identity.host_name,
            hwaddr,
            mac_filtering: keys::SECURITY_MAC_FILTERING.bool(options)?,
            v4: allowed(&keys::SECURITY_IPV4_FILTERING, true)?,
            v6: allowed(&keys::SECURITY_IPV6_FILTERING, false)?,
            acls: None,
            dns: Vec::new(),
        },
        // Asked for by rules of ACLs only.
        Kernel { conntrack: false, reject: false },
    )?;
    firewall::set(store, &rules)
}

/// Takes the rules of an interface away; none being there is fine.
///
/// # Errors
/// nft refuses.
pub fn end(store: &Store, port: dns::Port<'_>) -> Result<()> {
    firewall::unset(store, &rules::down(&label(port)?))
}

fn label(port: dns::Port<'_>) -> Result<nft::rule::Name> {
    Ok(nft::label(port.project, port.instance, &DeviceName::parse(port.device)?))
}

/// The addresses of a family that it may send from: those reserved, what is routed to it, and the one it gives itself from
/// router advertisements.
fn nets(bridge: &Bridge, hwaddr: [u8; 6], (options, addresses): (&Device, &[IpAddr]), v4: bool) -> Result<Vec<IpNet>> {
    let key = if v4 { &keys::IPV4_ADDRESS } else { &keys::IPV6_ADDRESS };
    if key.get(options) == Some("none") {
        return Ok(Vec::new());
    }
    let mut all: Vec<IpNet> = addresses.iter().filter(|a| a.is_ipv4() == v4).map(|a| IpNet::host(*a)).collect();
    let routes = if v4 { &keys::IPV4_ROUTES } else { &keys::IPV6_ROUTES };
    for net in routes.list(options) {
        all.push(net.parse()?);
    }
    let Family { address, .. } = if v4 { &bridge.v4 } else { &bridge.v6 };
    all.extend(address.filter(|_| !v4).and_then(|net| eui64(&net, hwaddr)).map(|a| IpNet::host(a.into())));
    Ok(all)
}
