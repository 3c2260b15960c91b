//! Routes of the host to what is behind an interface on a bridge: they lead through the bridge, for its ports have none, by the
//! interface's own address where it is fixed, and so they do not end with the interface.
//!
//! Noted before they are made ([`crate::store::nic_notes`]); `nic_host` takes them away after the instance has ended.

use super::network::dns::Port;
use crate::base::inet::IpNet;
use crate::error::{Error, Result};
use crate::fault;
use crate::host::links::{Links, Route, route};
use crate::model::instance::Device;
use crate::model::keys::Key;
use crate::model::keys::device::nic as keys;
use crate::store::Store;
use crate::store::nic_notes::{HostPart, NicNotes};
use std::net::IpAddr;

/// Networks behind an interface.
pub(super) const V4: [&Key; 2] = [&keys::IPV4_ROUTES, &keys::IPV4_ROUTES_EXTERNAL];
/// The same.
pub(super) const V6: [&Key; 2] = [&keys::IPV6_ROUTES, &keys::IPV6_ROUTES_EXTERNAL];

/// True if there may be something to do for a device.
///
/// # Errors
/// What is noted cannot be read.
pub(super) fn concerns(store: &Store, port: Port<'_>, options: &Device) -> Result<bool> {
    let says = V4.iter().chain(&V6).any(|key| key.get(options).is_some());
    Ok(says || noted(&store.nic_notes(port.project, port.instance)?, port).next().is_some())
}

/// Has the host's routes be what the options say, with what its network says of them; those of before go.
///
/// # Errors
/// Not found: the bridge. Somebody else has one of the networks; the kernel refuses.
pub(super) fn follow(store: &Store, port: Port<'_>, options: &Device) -> Result<()> {
    let wanted = wanted(options)?;
    let mut notes = store.nic_notes(port.project, port.instance)?;
    let old: Vec<HostPart> = noted(&notes, port).cloned().collect();
    let mut host = Links::open()?;
    for part in old.iter().filter(|part| !wanted.contains(part)) {
        remove(&mut host, part)?;
    }
    note(&mut notes, port, &wanted);
    store.save_nic_notes(port.project, port.instance, &notes)?;
    fault::point("nic.routes")?;
    for (n, part) in wanted.iter().enumerate() {
        if let Err(e) = add(&mut host, part, old.contains(part)) {
            // It is somebody else's, or else is not there: not for us to take away.
            let rest = wanted[n..].iter().filter(|part| old.contains(part));
            note(&mut notes, port, &wanted[..n].iter().chain(rest).cloned().collect::<Vec<_>>());
            store.save_nic_notes(port.project, port.instance, &notes)?;
            return Err(e);
        }
    }
    Ok(())
}

/// Has these be the routes that are noted of the device.
fn note(notes: &mut NicNotes, port: Port<'_>, routes: &[HostPart]) {
    let own = notes.devices.entry(port.device.to_string()).or_default();
    own.retain(|part| !is_route(part));
    own.extend(routes.iter().cloned());
    notes.devices.retain(|_, parts| !parts.is_empty());
}

/// Takes one away that is noted; one that is not there is fine.
///
/// # Errors
/// The kernel refuses.
pub(super) fn remove(host: &mut Links, part: &HostPart) -> Result<()> {
    let HostPart::Route { to, bridge, via } = part else { return Ok(()) };
    match host.find(bridge)? {
        Some(link) => host.run(route::remove(&through(*to, *via, link.index))),
        None => Ok(()),
    }
}

/// Adds one; `ours`: it was noted before, and may be there.
fn add(host: &mut Links, part: &HostPart, ours: bool) -> Result<()> {
    let HostPart::Route { to, bridge, via } = part else { return Ok(()) };
    let route = through(*to, *via, host.target(bridge)?.index);
    let mut there = if ours { host.routes(to.is_ipv4(), Some(route::MAIN), route.device)? } else { Vec::new() };
    there.retain(|r| r.to == *to && r.via == *via && r.protocol == route.protocol);
    if there.is_empty() { host.run(route::add(&route)) } else { Ok(()) }
}

fn through(to: IpNet, via: Option<IpAddr>, device: u32) -> Route {
    via.map_or_else(|| Route::on(to, device), |via| Route::through(to, via, device))
}

fn wanted(options: &Device) -> Result<Vec<HostPart>> {
    let Some(bridge) = keys::PARENT.get(options).filter(|_| keys::NICTYPE.text(options) == "bridged") else {
        return Ok(Vec::new());
    };
    let mut all = Vec::new();
    for (routes, address) in [(V4, &keys::IPV4_ADDRESS), (V6, &keys::IPV6_ADDRESS)] {
        // `none`, and an address with its prefix, which an application container has, are no router's.
        let via = address.get(options).and_then(|text| text.parse::<IpAddr>().ok());
        for text in routes.iter().flat_map(|key| key.list(options)) {
            let to = text.parse().map_err(|_| Error::invalid(format!("Invalid route {text:?}")))?;
            let part = HostPart::Route { to, bridge: bridge.to_string(), via };
            if !all.contains(&part) {
                all.push(part);
            }
        }
    }
    Ok(all)
}

fn noted<'a>(notes: &'a NicNotes, port: Port<'_>) -> impl Iterator<Item = &'a HostPart> {
    notes.devices.get(port.device).into_iter().flatten().filter(|part| is_route(part))
}

fn is_route(part: &HostPart) -> bool {
    matches!(part, HostPart::Route { .. })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_lead_through_the_bridge() {
        let said = |more: &[(&str, &str)]| {
            let base = [("nictype", "bridged"), ("parent", "br0")];
            let options = base.iter().chain(more).map(|(k, v)| (k.to_string(), v.to_string())).collect();
            let show = |part: HostPart| match part {
                HostPart::Route { to, bridge, via } => format!("{to} {bridge} {via:?}"),
                other => format!("{other:?}"),
            };
            wanted(&options).map(|all| all.into_iter().map(show).collect::<Vec<_>>())
        };
        assert!(said(&[]).expect("none").is_empty());
        assert_eq!(said(&[("ipv4.routes", "10.1.0.0/24")]).expect("one"), ["10.1.0.0/24 br0 None"]);
        let all = said(&[
            ("ipv4.routes", "10.1.0.0/24, 10.2.0.0/24"),
            ("ipv4.routes.external", "10.2.0.0/24,192.0.2.0/28"),
            ("ipv4.address", "10.0.0.5"),
            ("ipv6.routes", "fd00:1::/64"),
            ("ipv6.address", "none"),
        ]);
        let via = "Some(10.0.0.5)";
        let expected = [
            format!("10.1.0.0/24 br0 {via}"),
            format!("10.2.0.0/24 br0 {via}"),
            format!("192.0.2.0/28 br0 {via}"),
            "fd00:1::/64 br0 None".to_string(),
        ];
        assert_eq!(all.expect("all"), expected);
        assert!(said(&[("nictype", "p2p"), ("ipv4.routes", "10.1.0.0/24")]).expect("a pair has its own").is_empty());
    }
}
