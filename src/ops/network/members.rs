//! What a bridge has besides the interfaces of instances: interfaces of the host (`bridge.external_interfaces`) and tunnels to
//! other hosts (`tunnel.*`). Called by `up`, under the lock of what runs of the network.
//!
//! VLAN interfaces that are made for it carry our name as their alias, and tunnels theirs begin with the network's, so both
//! are found again without a record.

use super::firewall;
use super::up::Plan;
use crate::error::{Context, Error, Result};
use crate::fault;
use crate::host::links::{Change, Details, End, Kind, Link, LinkSpec, Links, Target, Vxlan, spec};
use crate::model::instance::Config;
use crate::model::keys::Key;
use crate::model::keys::network::bridge as keys;
use crate::store::Store;
use std::collections::BTreeSet;
use std::net::IpAddr;

/// Kinds of tunnels, as the kernel calls them.
const TUNNELS: [&str; 3] = ["gretap", "ip6gretap", "vxlan"];

/// Interfaces of the host in the bridge; those that `old` had and the plan has not are let go.
pub(super) fn attach(
    store: &Store,
    host: &mut Links,
    bridge: &Target,
    plan: &Plan,
    old: Option<&Config>,
) -> Result<()> {
    let wanted = keys::EXTERNAL_INTERFACES.list(&plan.config);
    let kept: BTreeSet<&str> = wanted.iter().map(|text| name_of(text)).collect();
    for text in old.map(|config| keys::EXTERNAL_INTERFACES.list(config)).unwrap_or_default() {
        if !kept.contains(name_of(text)) {
            let_go(store, host, bridge.index, name_of(text))?;
        }
    }
    for text in wanted {
        let fail = || format!("Failed to add external interface {text:?}");
        let link = member(store, host, bridge, text).with_context(fail)?;
        if link.master != Some(bridge.index) {
            let into = Change { master: Some(bridge.index), up: Some(true), ..Change::default() };
            host.run(spec::change(&link.target(), &into)).with_context(fail)?;
        }
        fault::point("network.member")?;
    }
    Ok(())
}

/// Adds the interfaces of `new` to those of `config`.
pub(super) fn add_to(config: &mut Config, new: &Config) {
    let all: BTreeSet<&str> = [&*config, new].into_iter().flat_map(|c| keys::EXTERNAL_INTERFACES.list(c)).collect();
    if !all.is_empty() {
        let text = all.into_iter().collect::<Vec<_>>().join(",");
        keys::EXTERNAL_INTERFACES.set(config, text);
    }
}

/// Of `name`, or `name/parent/vlan`.
fn name_of(text: &str) -> &str {
    text.split('/').next().unwrap_or(text).trim()
}

/// Gives all of them back, and ends the tunnels.
pub(super) fn detach(store: &Store, host: &mut Links, bridge: &Link, config: &Config) -> Result<()> {
    end_tunnels(host, bridge.index, &bridge.name)?;
    for port in host.ports_of(bridge.index)? {
        let named = keys::EXTERNAL_INTERFACES.list(config).into_iter().any(|text| name_of(text) == port.name);
        if named || port.alias == mark(store) {
            let_go(store, host, bridge.index, &port.name)?;
        }
    }
    Ok(())
}

/// An interface that has another master by now, or has gone, is nothing to us.
fn let_go(store: &Store, host: &mut Links, bridge: u32, name: &str) -> Result<()> {
    match host.find(name)? {
        Some(link) if link.master != Some(bridge) => Ok(()),
        Some(link) if link.alias == mark(store) => host.run(spec::delete(name)),
        Some(link) => host.run(spec::change(&link.target(), &Change { master: Some(0), ..Change::default() })),
        None => Ok(()),
    }
}

fn mark(store: &Store) -> String {
    firewall::tables(store).name().to_string()
}

/// The interface a word stands for; that of a VLAN is made if it is not there.
fn member(store: &Store, host: &mut Links, bridge: &Target, text: &str) -> Result<Link> {
    let parts: Vec<&str> = text.split('/').map(str::trim).collect();
    if let [name, parent, vlan] = parts[..] {
        let lower = host.target(parent)?.index;
        let id = vlan.parse().map_err(|_| Error::invalid(format!("Invalid VLAN ID {vlan:?}")))?;
        if let Some(found) = host.find(name)? {
            return match found.details == Details::Vlan(id) && found.lower == Some(lower) {
                true => Ok(found),
                false => Err(Error::exists(format!("Interface {name:?} is not VLAN {id} of {parent:?}"))),
            };
        }
        let end = End { name, ..End::default() };
        let kind = Kind::Vlan { id, gvrp: false };
        host.create_marked(&LinkSpec { end, kind, master: Some(bridge.index), lower: Some(lower) }, &mark(store))?;
        return host.get(name);
    }
    let link = host.get(text)?;
    let configured = host.addresses_of(link.index)?.iter().any(|a| a.scope_name() == "global");
    if configured && link.master.is_none() {
        return Err(Error::conflict("Only unconfigured network interfaces can be bridged"));
    }
    match link.master {
        Some(other) if other != bridge.index => Err(Error::conflict("It is a port of another interface already")),
        _ => Ok(link),
    }
}

/// Tunnels, all made anew.
pub(super) fn tunnels(host: &mut Links, bridge: &Target, plan: &Plan) -> Result<()> {
    end_tunnels(host, bridge.index, &bridge.name)?;
    let config = &plan.config;
    let named: BTreeSet<&str> = config.keys().filter_map(|key| keys::TUNNEL_PROTOCOL.item_in(key)).collect();
    for tunnel in named {
        let Some((kind, lower)) = read(host, config, tunnel)? else { continue };
        let name = format!("{}-{tunnel}", bridge.name);
        let end = End { name: &name, up: true, mtu: Some(plan.bridge.mtu), ..End::default() };
        host.create(&LinkSpec { end, kind, master: Some(bridge.index), lower })?;
        fault::point("network.tunnel")?;
    }
    Ok(())
}

fn end_tunnels(host: &mut Links, bridge: u32, network: &str) -> Result<()> {
    let prefix = format!("{network}-");
    let ours = |port: &Link| TUNNELS.contains(&port.kind.as_str()) && port.name.starts_with(&prefix);
    let ports = host.ports_of(bridge)?;
    host.run_all(ports.iter().filter(|port| ours(port)).map(|port| spec::delete(&port.name)).collect())
}

/// A tunnel and the interface it goes through; none of one that is not wholly configured yet, as with Incus.
fn read<'a>(host: &mut Links, config: &Config, name: &str) -> Result<Option<(Kind<'a>, Option<u32>)>> {
    let address = |key: &Key| -> Result<Option<IpAddr>> {
        let wrong = |text: &str| Error::invalid(format!("Not an IP address {text:?}"));
        key.get_of(config, name).map(|text| text.parse().map_err(|_| wrong(text))).transpose()
    };
    let number = |key: &Key| -> Option<u32> { key.get_of(config, name)?.parse().ok() };
    let (local, remote) = (address(&keys::TUNNEL_LOCAL)?, address(&keys::TUNNEL_REMOTE)?);
    match (keys::TUNNEL_PROTOCOL.get_of(config, name), local, remote) {
        (Some("gre"), Some(local), Some(remote)) => Ok(Some((Kind::GreTap { local, remote }, None))),
        (Some("vxlan"), _, _) => {
            let given = keys::TUNNEL_INTERFACE.get_of(config, name);
            let (to, lower) = match remote {
                Some(remote) => (remote, given.map(|name| host.target(name)).transpose()?.map(|on| on.index)),
                None => {
                    let default = IpAddr::from([239, 0, 0, 1]);
                    let group = address(&keys::TUNNEL_GROUP)?.unwrap_or(default);
                    (group, Some(multicast_interface(host, given, group)?))
                }
            };
            let vxlan = Vxlan {
                id: number(&keys::TUNNEL_ID).unwrap_or(0),
                local,
                to,
                port: number(&keys::TUNNEL_PORT).and_then(|port| u16::try_from(port).ok()).filter(|port| *port != 0),
                ttl: number(&keys::TUNNEL_TTL).and_then(|ttl| u8::try_from(ttl).ok()).unwrap_or(1),
            };
            Ok(Some((Kind::Vxlan(vxlan), lower)))
        }
        _ => Ok(None),
    }
}

/// The interface that multicast of a tunnel goes through: the one said, else that of the default route.
fn multicast_interface(host: &mut Links, given: Option<&str>, group: IpAddr) -> Result<u32> {
    if let Some(name) = given {
        return Ok(host.target(name)?.index);
    }
    let all = host.routes(group.is_ipv4(), Some(crate::host::links::route::MAIN), None)?;
    let default = all.into_iter().filter(|route| route.to.prefix() == 0).min_by_key(|route| route.metric.unwrap_or(0));
    default.and_then(|route| route.device).ok_or_else(|| {
        Error::failed("Failed to find the interface of the default route for a VXLAN")
            .hint(format!("Set \"tunnel.<name>.{}\"", keys::TUNNEL_INTERFACE.name))
    })
}
