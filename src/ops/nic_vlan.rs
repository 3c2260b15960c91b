//! VLANs of an interface of the host (`vlan` of a macvlan, ipvlan, routed or physical NIC): an interface of their own, made for
//! the first instance that wants one and removed with the last. One that was there before is used and stays.
//!
//! What we made carries our name as its alias, so it is known without a record; who uses it stands in the notes of instances.

use super::network::firewall;
use crate::base::names::{InstanceName, ProjectName};
use crate::error::{Error, Result};
use crate::fault;
use crate::host::links::{Details, End, Kind, Link, LinkSpec, Links, spec};
use crate::model::instance::Device;
use crate::model::keys::device::nic as keys;
use crate::store::Store;
use crate::store::nic_notes::HostPart;

/// Longest name of an interface.
const NAME_MAX: usize = 15;

/// A VLAN that a NIC wants.
struct Wanted<'a> {
    parent: &'a str,
    id: u16,
}

/// `None` for a NIC without, and for those whose VLAN is no interface: ports of bridges and virtual functions.
fn wanted(options: &Device) -> Result<Option<Wanted<'_>>> {
    let applies = matches!(keys::NICTYPE.text(options), "macvlan" | "ipvlan" | "routed" | "physical");
    let (Some(id), Some(parent)) = (keys::VLAN.get(options).filter(|_| applies), keys::PARENT.get(options)) else {
        return Ok(None);
    };
    let id = id.parse().map_err(|_| Error::invalid(format!("Invalid VLAN ID {id:?}")))?;
    Ok(Some(Wanted { parent, id }))
}

/// The interface of a VLAN: one that is there, whatever it is called, else the name it gets.
fn find(host: &mut Links, wanted: &Wanted<'_>) -> Result<(String, Option<Link>)> {
    let name = format!("{}.{}", wanted.parent, wanted.id);
    let is = |link: &Link, lower: u32| link.details == Details::Vlan(wanted.id) && link.lower == Some(lower);
    let Some(lower) = host.find(wanted.parent)?.map(|link| link.index) else { return Ok((name, None)) };
    if let Some(link) = host.find(&name)? {
        return match is(&link, lower) {
            true => Ok((name, Some(link))),
            false => Err(Error::exists(format!("Network interface \"{name}\" already exists"))
                .hint(format!("It is not VLAN {} of \"{}\"", wanted.id, wanted.parent))),
        };
    }
    let other = host.list()?.into_iter().find(|link| is(link, lower));
    Ok((other.as_ref().map_or(name, |link| link.name.clone()), other))
}

/// The same NIC on the VLAN's interface, if it wants a VLAN.
///
/// # Errors
/// Exists: the name belongs to something else. Invalid: it would be too long.
pub(super) fn on_interface(options: &Device) -> Result<Device> {
    let Some(wanted) = wanted(options)? else { return Ok(options.clone()) };
    let (name, _) = find(&mut Links::open()?, &wanted)?;
    let mut whole = options.clone();
    keys::PARENT.set(&mut whole, name);
    keys::VLAN.remove(&mut whole);
    keys::GVRP.remove(&mut whole);
    Ok(whole)
}

/// What [`ensure`] found or did.
pub(super) enum Outcome {
    /// The NIC wants no VLAN.
    None,
    /// The interface is somebody else's.
    Theirs,
    /// We made it, now or before.
    Ours,
}

/// Sees to it that the VLAN interface of a NIC is there and up. One of ours is noted with `note` before it is made. The
/// caller holds the allocator of addresses.
///
/// # Errors
/// The kernel knows no VLANs, or refuses.
pub(super) fn ensure(
    store: &Store,
    host: &mut Links,
    options: &Device,
    note: &mut dyn FnMut(HostPart) -> Result<()>,
) -> Result<Outcome> {
    let Some(wanted) = wanted(options)? else { return Ok(Outcome::None) };
    let mark = mark(store);
    let (name, found) = find(host, &wanted)?;
    if let Some(link) = found {
        if link.alias != mark {
            return Ok(Outcome::Theirs);
        }
        note(HostPart::Vlan { name })?;
        return Ok(Outcome::Ours);
    }
    if name.len() > NAME_MAX {
        return Err(Error::invalid(format!(
            "Network interface \"{name}\" is too long (maximum {NAME_MAX} characters)"
        ))
        .hint(format!("Make VLAN {} of \"{}\" under another name, it is used then", wanted.id, wanted.parent)));
    }
    let lower = host.target(wanted.parent)?.index;
    note(HostPart::Vlan { name: name.clone() })?;
    fault::point("nic.vlan")?;
    let kind = Kind::Vlan { id: wanted.id, gvrp: keys::GVRP.bool(options)? };
    let end = End { name: &name, ..End::default() };
    host.create_marked(&LinkSpec { end, kind, master: None, lower: Some(lower) }, &mark)?;
    Ok(Outcome::Ours)
}

/// Removes a VLAN interface of ours that no other instance has. The caller holds the allocator of addresses.
///
/// # Errors
/// The kernel refuses.
pub(super) fn release(store: &Store, host: &mut Links, who: (&ProjectName, &InstanceName), name: &str) -> Result<()> {
    let used = |parts: &Vec<HostPart>| parts.iter().any(|p| matches!(p, HostPart::Vlan { name: n } if n == name));
    let others = store.nic_notes_of_others(who.0, who.1)?;
    let own = store.nic_notes(who.0, who.1)?;
    if others.iter().any(|(_, notes)| notes.devices.values().any(used))
        || own.devices.values().filter(|p| used(p)).count() > 1
    {
        return Ok(());
    }
    match host.find(name)? {
        Some(link) if link.alias == mark(store) => host.run(spec::delete(name)),
        _ => Ok(()),
    }
}

fn mark(store: &Store) -> String {
    firewall::tables(store).name().to_string()
}
