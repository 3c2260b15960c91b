//! What the host has for an interface besides the interface itself: the VLAN below it, addresses that are answered for, rules.
//!
//! Set up before the instance's own side is made, each thing noted before it is done ([`crate::store::nic_notes`]); taken away
//! after the instance has ended, whatever its configuration says by then.

use super::network::dns::Port;
use super::network::{beside, filter, firewall};
use super::nic_vlan::{self, Outcome};
use super::{nic_function, nic_routes};
use crate::base::inet::IpNet;
use crate::base::names::{DeviceName, InstanceName, ProjectName};
use crate::error::{Context, Error, Result};
use crate::fault;
use crate::host::links::sysctl::{self, Family, Setting};
use crate::host::links::{Details, Links, Route, route};
use crate::model::instance::Device;
use crate::model::keys::Key;
use crate::model::keys::device::nic as keys;
use crate::model::nic::Identity;
use crate::network::nft::{self, Script, nic as rules};
use crate::store::Store;
use crate::store::lock::Allocator;
use crate::store::nic_notes::{HostPart, NicNotes};
use std::net::IpAddr;
use std::time::Duration;

/// How long a neighbour may take to say that it has an address.
const PROBE: Duration = Duration::from_millis(500);
/// The interface that routes of ipvlans lead to.
const LOOPBACK: &str = "lo";

/// Sets up what the interface of a device needs on the host; nothing for most.
///
/// # Errors
/// Not found: the parent or the VRF. Invalid: the parent is of the wrong kind. Conflict: an address is taken. A setting of the
/// host is missing; the kernel refuses.
pub(super) fn begin(store: &Store, port: Port<'_>, options: &Device, identity: &Identity) -> Result<()> {
    let nictype = keys::NICTYPE.text(options);
    if !matches!(nictype, "routed" | "ipvlan" | "macvlan" | "physical" | "sriov") {
        return Ok(());
    }
    let mut host = Links::open()?;
    check_place(&mut host, options)?;
    let mut notes = Notes { store, port };
    if nictype == "sriov" {
        check_hardware(options)?;
        return nic_function::claim(store, &mut host, options, identity.hwaddr, &mut |part| notes.add(&[part]));
    }
    let made = {
        let _lock = store.lock_allocator(Allocator::Ip)?;
        let made = nic_vlan::ensure(store, &mut host, options, &mut |part| notes.add(&[part]))?;
        fault::point("nic.lower")?;
        made
    };
    let wish = Wish::of(options)?;
    if wish.addresses.is_empty() {
        return Ok(());
    }
    if let Some(parent) = &wish.parent {
        settings(&wish, parent, matches!(made, Outcome::Ours))?;
        probe(&mut host, &wish, parent)?;
    }
    claim(&mut host, &mut notes, &wish)?;
    if nictype != "routed" {
        return Ok(());
    }
    let rules = rules::reverse_path_up(&label(port)?, &identity.host_name);
    set_rules(&mut notes, &rules)?;
    fault::point("nic.rules")
}

/// Sets what an interface on a bridge that is no network of ours may send, in the place of what it has; nothing for most.
///
/// # Errors
/// nft is missing or refuses.
pub(super) fn filter(store: &Store, port: Port<'_>, options: &Device, identity: &Identity) -> Result<()> {
    if !filter::is_wanted(options)? {
        let old = has_rules(&store.nic_notes(port.project, port.instance)?, port);
        return if old { firewall::unset(store, &rules::down(&label(port)?)) } else { Ok(()) };
    }
    set_rules(&mut Notes { store, port }, &filter::unmanaged(port, identity, options)?)?;
    fault::point("nic.filtered")
}

fn has_rules(notes: &NicNotes, port: Port<'_>) -> bool {
    notes.devices.get(port.device).is_some_and(|parts| parts.contains(&HostPart::Rules))
}

/// Whoever tidies up holds the same lock. Those of others that somebody took away meanwhile are set again.
fn set_rules(notes: &mut Notes<'_>, rules: &Script) -> Result<()> {
    beside::renew(notes.store)?;
    let _lock = notes.store.lock_allocator(Allocator::Ip)?;
    notes.add(&[HostPart::Rules])?;
    fault::point("nic.ruled")?;
    firewall::set(notes.store, rules)
}

/// Sets up what needs the interface to be there, or takes it away if it is not wanted any more: `limits.priority`.
///
/// # Errors
/// nft is missing or refuses.
pub(super) fn started(store: &Store, port: Port<'_>, options: &Device, identity: &Identity) -> Result<()> {
    let Some(priority) = keys::LIMITS_PRIORITY.u32(options)? else {
        let old = has_rules(&store.nic_notes(port.project, port.instance)?, port);
        return if old { firewall::unset(store, &rules::priority_down(&label(port)?)) } else { Ok(()) };
    };
    set_rules(&mut Notes { store, port }, &rules::priority_up(&label(port)?, &identity.host_name, priority))?;
    fault::point("nic.priority")
}

/// The rules of [`filter`] that are noted of it; `options` as the device says them.
///
/// # Errors
/// What is noted cannot be read; an option is wrong.
pub(super) fn noted_filter(store: &Store, port: Port<'_>, options: &Device, identity: &Identity) -> Result<Script> {
    let noted = has_rules(&store.nic_notes(port.project, port.instance)?, port);
    match noted && keys::NETWORK.get(options).is_none() && filter::is_wanted(options)? {
        true => filter::unmanaged(port, identity, options),
        false => Ok(Script::default()),
    }
}

/// The other rules that are noted of it; none for most.
///
/// # Errors
/// What is noted cannot be read; an option is wrong.
pub(super) fn noted_rules(store: &Store, port: Port<'_>, options: &Device, identity: &Identity) -> Result<Script> {
    if !has_rules(&store.nic_notes(port.project, port.instance)?, port) {
        return Ok(Script::default());
    }
    let (label, mut script) = (label(port)?, Script::default());
    if keys::NICTYPE.text(options) == "routed" {
        script.append(rules::reverse_path_up(&label, &identity.host_name));
    }
    if let Some(priority) = keys::LIMITS_PRIORITY.u32(options)? {
        script.append(rules::priority_up(&label, &identity.host_name, priority));
    }
    Ok(script)
}

/// Takes away what the interfaces of an instance had, or that of one device; nothing left is fine.
///
/// # Errors
/// The kernel refuses; the rest is done all the same.
pub(super) fn end(store: &Store, who: (&ProjectName, &InstanceName), only: Option<&str>) -> Result<()> {
    let mut notes = store.nic_notes(who.0, who.1)?;
    if notes.devices.is_empty() || only.is_some_and(|device| !notes.devices.contains_key(device)) {
        return Ok(());
    }
    let mut host = Links::open()?;
    let mut failed = Vec::new();
    for (device, parts) in notes.devices.iter().filter(|(device, _)| only.is_none_or(|o| o == *device)) {
        let port = Port { project: who.0, instance: who.1, device };
        failed.extend(parts.iter().rev().filter_map(|part| remove(store, &mut host, port, part).err()));
    }
    if let Some(e) = Error::join(failed) {
        return Err(e.context("Failed removing what network interfaces had on the host"));
    }
    fault::point("nic.removed")?;
    let had_rules = notes.devices.values().flatten().any(|part| *part == HostPart::Rules);
    notes.devices.retain(|device, _| only.is_some_and(|o| o != device));
    store.save_nic_notes(who.0, who.1, &notes)?;
    if !had_rules {
        return Ok(());
    }
    let _lock = store.lock_allocator(Allocator::Ip)?;
    firewall::tidy(store)
}

fn remove(store: &Store, host: &mut Links, port: Port<'_>, part: &HostPart) -> Result<()> {
    match part {
        HostPart::Rules => {
            let label = label(port)?;
            firewall::unset(store, &rules::reverse_path_down(&label))?;
            firewall::unset(store, &rules::priority_down(&label))?;
            firewall::unset(store, &rules::down(&label))
        }
        HostPart::Address { address, parent: Some(parent) } => match host.find(parent)? {
            Some(link) => host.run(route::remove_proxy(&link.target(), *address)),
            None => Ok(()),
        },
        HostPart::Address { parent: None, .. } => Ok(()),
        HostPart::Local { to, table } => local(host, *to, *table, route::remove),
        HostPart::Route { .. } => nic_routes::remove(host, part),
        HostPart::Function(function) => nic_function::release(host, function),
        HostPart::Vlan { name } => {
            let _lock = store.lock_allocator(Allocator::Ip)?;
            nic_vlan::release(store, host, (port.project, port.instance), name)
        }
    }
}

fn local(host: &mut Links, to: IpNet, table: u32, step: fn(&Route) -> crate::host::links::Step) -> Result<()> {
    let Some(loopback) = host.find(LOOPBACK)? else { return Ok(()) };
    host.run(step(&Route { table, ..Route::on(to, loopback.index) }))
}

fn label(port: Port<'_>) -> Result<nft::rule::Name> {
    Ok(nft::label(port.project, port.instance, &DeviceName::parse(port.device)?))
}

/// The notes of a device.
struct Notes<'a> {
    store: &'a Store,
    port: Port<'a>,
}

impl Notes<'_> {
    fn add(&mut self, parts: &[HostPart]) -> Result<()> {
        let (p, n) = (self.port.project, self.port.instance);
        let mut notes = self.store.nic_notes(p, n)?;
        let own = notes.devices.entry(self.port.device.to_string()).or_default();
        let new: Vec<HostPart> = parts.iter().filter(|part| !own.contains(part)).cloned().collect();
        own.extend(new);
        self.store.save_nic_notes(p, n, &notes)
    }
}

/// The parent is there and of the right kind, and the VRF is there.
fn check_place(host: &mut Links, options: &Device) -> Result<()> {
    if let Some(parent) = keys::PARENT.get(options) {
        let missing = || Error::not_found(format!("Parent device {parent:?} doesn't exist"));
        let link = host.find(parent)?.ok_or_else(missing)?;
        if keys::NICTYPE.text(options) == "physical" && matches!(link.details, Details::Bridge(_)) {
            return Err(Error::invalid("Parent device is a bridge, use nictype=bridged instead"));
        }
    }
    let Some(vrf) = keys::VRF.get(options) else { return Ok(()) };
    match host.find(vrf)?.map(|link| link.details) {
        Some(Details::Vrf(_)) => Ok(()),
        _ => Err(Error::not_found(format!("VRF {vrf:?} doesn't exist"))),
    }
}

/// Whether the parent of a virtual function can have some.
///
/// # Errors
/// Not found: the parent. Invalid: it is no hardware, or such that has none.
pub(super) fn check_hardware(options: &Device) -> Result<()> {
    let Some(parent) = keys::PARENT.get(options).filter(|_| keys::NICTYPE.text(options) == "sriov") else {
        return Ok(());
    };
    let missing = || Error::not_found(format!("Parent device {parent:?} doesn't exist"));
    match Links::open()?.find(parent)?.ok_or_else(missing)?.device.has_virtual_functions() {
        true => Ok(()),
        false => Err(Error::invalid(format!("Parent device {parent:?} doesn't support SR-IOV"))),
    }
}

/// What is asked of the host for the addresses of an interface.
struct Wish {
    /// How Incus begins the message about a missing setting.
    mode: &'static str,
    addresses: Vec<IpAddr>,
    /// Those to look for on the parent's network.
    probed: Vec<IpAddr>,
    /// The interface to answer on; that of the VLAN if there is one.
    parent: Option<String>,
    /// Routing tables of routes through the loopback.
    local: Vec<(IpNet, u32)>,
}

impl Wish {
    fn of(options: &Device) -> Result<Self> {
        let routed = keys::NICTYPE.text(options) == "routed";
        let own = keys::NICTYPE.text(options) == "ipvlan" && keys::IPVLAN_MODE.text(options) != "l2";
        let mode = if routed { "Routed mode" } else { "IPVLAN in L3S mode" };
        let parent = keys::PARENT.get(&nic_vlan::on_interface(options)?).map(str::to_string);
        let mut wish = Self { mode, addresses: Vec::new(), probed: Vec::new(), parent, local: Vec::new() };
        if !routed && !own {
            return Ok(wish);
        }
        for (address, probe, table) in [
            (&keys::ROUTED_IPV4_ADDRESS, &keys::IPV4_NEIGHBOR_PROBE, &keys::IPV4_HOST_TABLE),
            (&keys::ROUTED_IPV6_ADDRESS, &keys::IPV6_NEIGHBOR_PROBE, &keys::IPV6_HOST_TABLE),
        ] {
            let addresses = parsed(address, options)?;
            if routed && probe.bool(options)? {
                wish.probed.extend(&addresses);
            }
            if own {
                let tables = [Some(route::MAIN), table.u32(options)?].into_iter().flatten();
                let all = tables.flat_map(|t| addresses.iter().map(move |a| (IpNet::host(*a), t)));
                wish.local.extend(all);
            }
            wish.addresses.extend(addresses);
        }
        Ok(wish)
    }

    fn has(&self, v4: bool) -> bool {
        self.addresses.iter().any(|a| a.is_ipv4() == v4)
    }
}

fn parsed(key: &Key, options: &Device) -> Result<Vec<IpAddr>> {
    let read = |text: &str| text.parse().map_err(|_| Error::invalid(format!("Not an IP address {text:?}")));
    key.list(options).into_iter().map(read).collect()
}

/// Settings of the host without which nothing is forwarded. Those of an interface we have made (`made`) are ours to set; others are
/// the administrator's, as with Incus.
fn settings(wish: &Wish, parent: &str, made: bool) -> Result<()> {
    use Setting::{Forwarding, ProxyNdp};
    if wish.has(false) {
        need(wish, "ipv6", "all", Forwarding, sysctl::of_all(Family::V6, Forwarding)?)?;
        need(wish, "ipv6", "all", ProxyNdp, sysctl::of_all(Family::V6, ProxyNdp)?)?;
    }
    for (family, word, v4, all) in
        [(Family::V4, "ipv4", true, &[Forwarding][..]), (Family::V6, "ipv6", false, &[Forwarding, ProxyNdp][..])]
    {
        for setting in all.iter().filter(|_| wish.has(v4)) {
            if made {
                sysctl::set(family, parent, &[(*setting, 1)])?;
            }
            need(wish, word, parent, *setting, sysctl::get(family, parent, *setting)?)?;
        }
    }
    Ok(())
}

fn need(wish: &Wish, family: &str, interface: &str, setting: Setting, value: i32) -> Result<()> {
    if value == 1 {
        return Ok(());
    }
    let key = format!("net.{family}.conf.{interface}.{}", setting.file());
    // A dot in a name would part words.
    let typed = format!("net/{family}/conf/{interface}/{}", setting.file());
    Err(Error::failed(format!("{} requires sysctl {key}=1", wish.mode)).hint(format!("Run: sysctl -w {typed}=1")))
}

/// Nobody behind the parent has one of the addresses.
fn probe(host: &mut Links, wish: &Wish, parent: &str) -> Result<()> {
    let on = host.target(parent)?;
    let found = host.answering(&on, &wish.probed, PROBE).context("Failed checking IP availability")?;
    match found.first() {
        Some(address) => Err(Error::conflict(format!("IP address \"{address}\" in use on parent network {parent:?}"))),
        None => Ok(()),
    }
}

/// Takes the addresses for this instance, and answers for them on the parent.
fn claim(host: &mut Links, notes: &mut Notes<'_>, wish: &Wish) -> Result<()> {
    let _lock = notes.store.lock_allocator(Allocator::Ip)?;
    let others = notes.store.nic_notes_of_others(notes.port.project, notes.port.instance)?;
    for address in &wish.addresses {
        let has = |notes: &NicNotes| {
            let mut parts = notes.devices.values().flatten();
            parts.any(|part| matches!(part, HostPart::Address { address: a, .. } if a == address))
        };
        if let Some((who, _)) = others.iter().find(|(_, notes)| has(notes)) {
            return Err(Error::conflict(format!("IP address \"{address}\" already defined on another NIC"))
                .hint(format!("It belongs to {who}")));
        }
        if host.route_to(*address)?.is_some_and(|route| route.is_local()) {
            return Err(Error::conflict(format!("IP address \"{address}\" is in use on the host")));
        }
    }
    let addresses = wish.addresses.iter();
    let mut parts: Vec<HostPart> =
        addresses.map(|a| HostPart::Address { address: *a, parent: wish.parent.clone() }).collect();
    parts.extend(wish.local.iter().map(|(to, table)| HostPart::Local { to: *to, table: *table }));
    notes.add(&parts)?;
    fault::point("nic.noted")?;
    if let Some(parent) = &wish.parent {
        let on = host.target(parent)?;
        host.run_all(wish.addresses.iter().map(|a| route::add_proxy(&on, *a)).collect())?;
    }
    for (to, table) in &wish.local {
        local(host, *to, *table, route::add)?;
    }
    fault::point("nic.claimed")
}
