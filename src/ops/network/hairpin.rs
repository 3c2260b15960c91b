//! Ports of bridges that may send a packet back where it came from: an instance that asks for its own forward.
//!
//! Packets between ports go through the address translation of the host where br_netfilter is on
//! (`/proc/sys/net/bridge/bridge-nf-call-iptables`); then the translated one never leaves the bridge, and the port must take
//! it back. Without br_netfilter such packets are routed, and the port needs nothing. Only ports of instances are changed, and
//! only where there is something to ask for: what is flooded comes back to its sender as well.

use crate::base::names::NetworkName;
use crate::error::Result;
use crate::host::links::{self, Links, spec, sysctl};
use crate::model::instance::Devices;
use crate::model::nic::{Link, Nic};
use crate::store::Store;

/// Says of a new interface whether its port needs it, for an instance with these devices.
///
/// # Errors
/// The state folder cannot be read.
pub fn settle(store: &Store, devices: &Devices, nic: &mut Nic) -> Result<()> {
    let Link::Veth(outer) = &mut nic.link else { return Ok(()) };
    let Some(port) = &mut outer.bridge else { return Ok(()) };
    if sysctl::translates_in_bridges() {
        port.hairpin = devices.values().any(super::nat::is_nat) || has_forwards(store, &port.bridge)?;
    }
    Ok(())
}

fn has_forwards(store: &Store, bridge: &str) -> Result<bool> {
    let Ok(name) = NetworkName::parse(bridge) else { return Ok(false) };
    for (project, _) in store.projects()? {
        if !store.forwards(&project, &name)?.is_empty() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Sets it on the ports of instances that a bridge with forwards has already.
///
/// # Errors
/// The kernel refuses.
pub fn renew(store: &Store, name: &NetworkName) -> Result<()> {
    if !sysctl::translates_in_bridges() || !has_forwards(store, name)? {
        return Ok(());
    }
    let mut host = Links::open()?;
    let Some(bridge) = host.find(name.as_str())? else { return Ok(()) };
    let on = links::Port { hairpin: Some(true), ..links::Port::default() };
    let ports = host.ports_of(bridge.index)?;
    let steps = ports.iter().filter(|p| p.kind == "veth").map(|p| spec::change_port(&p.target(), &on)).collect();
    host.run_all(steps)
}
