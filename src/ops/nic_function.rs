//! Virtual functions of network cards (`nictype=sriov`): one that nobody has is chosen, the card is told of it, and its driver
//! is bound anew so that it hears of that; later all is put back.
//!
//! Which one an instance has stands in its notes, with what it was like before ([`crate::store::nic_notes`]); the volatile
//! configuration shows the same under Incus's names. Called by `nics`, `nic_host` and `nic_live`.

use super::load::Loaded;
use super::network::dns::Port;
use crate::base::mac;
use crate::error::{Error, Kind, Result};
use crate::fault;
use crate::host::links::function::{self, Setting};
use crate::host::links::{Change, Device as Hardware, Link, Links, spec};
use crate::model::instance::{Config, Device};
use crate::model::keys::device::nic as keys;
use crate::model::keys::{self as all_keys, Key};
use crate::model::nic::{self, Nic};
use crate::store::Store;
use crate::store::lock::Allocator;
use crate::store::nic_notes::{Function, HostPart, NicNotes};
use std::collections::BTreeSet;

/// Notes something of the host.
type Note<'a> = &'a mut dyn FnMut(HostPart) -> Result<()>;

/// What volatile configurations say of a virtual function, besides the name of its interface.
const VOLATILE: [&Key; 9] = [
    &all_keys::VOLATILE_DEVICE_LAST_STATE_CREATED,
    &all_keys::VOLATILE_DEVICE_LAST_STATE_HWADDR,
    &all_keys::VOLATILE_DEVICE_LAST_STATE_MTU,
    &all_keys::VOLATILE_DEVICE_LAST_STATE_VF_HWADDR,
    &all_keys::VOLATILE_DEVICE_LAST_STATE_VF_ID,
    &all_keys::VOLATILE_DEVICE_LAST_STATE_VF_PARENT,
    &all_keys::VOLATILE_DEVICE_LAST_STATE_VF_SPOOFCHECK,
    &all_keys::VOLATILE_DEVICE_LAST_STATE_VF_TRUSTED,
    &all_keys::VOLATILE_DEVICE_LAST_STATE_VF_VLAN,
];

/// Chooses a virtual function for the interface of a device, notes it with `note`, and has it be what the device says.
///
/// # Errors
/// Not found: the card. Invalid: it has no virtual functions. Busy: all of them are in use. The driver refuses.
pub(super) fn claim(
    store: &Store,
    host: &mut Links,
    options: &Device,
    hwaddr: Option<[u8; 6]>,
    note: Note<'_>,
) -> Result<()> {
    let card = card(store, host, options)?;
    let new = card.device.function(0).is_none();
    card.device.make_functions()?;
    // Some cards want that, as Incus knows.
    host.run(spec::change(&card.target(), &Change { up: Some(true), ..Change::default() }))?;
    if let Some(first) = card.device.function(0).filter(|_| new) {
        host.appeared(&first.name, "")?;
    }
    let (was, device) = {
        let _lock = store.lock_allocator(Allocator::Ip)?;
        let all = format!("All virtual functions on parent device {:?} are already in use", card.name);
        let mut free = Taken::read(store)?.free(host, &card)?.into_iter();
        let found = free.next().ok_or_else(|| Error::new(Kind::Busy, all))?;
        note(HostPart::Function(found.0.clone()))?;
        found
    };
    fault::point("nic.function")?;
    device.unbind()?;
    fault::point("nic.unbound")?;
    let told = tell(host, &card, &was, options, hwaddr);
    // Without a driver nobody could use it.
    device.probe().and(told)?;
    named(host, &device, &was, false)?;
    fault::point("nic.bound")
}

/// The interface of the card that a device names, or of the one with the most that is free among those it describes.
fn card(store: &Store, host: &mut Links, options: &Device) -> Result<Link> {
    if let Some(parent) = keys::PARENT.get(options) {
        return host.get(parent);
    }
    let is = |key: &Key, value: &str| key.get(options).is_none_or(|wanted| wanted.eq_ignore_ascii_case(value));
    let matches = |link: &Link| {
        let device = &link.device;
        let ids = device.ids().is_some_and(|(v, p)| is(&keys::VENDORID, &v) && is(&keys::PRODUCTID, &p));
        device.has_virtual_functions()
            && ids
            && keys::PCI.get(options).is_none_or(|pci| same_address(pci, &device.name))
    };
    let taken = Taken::read(store)?;
    let mut best: Option<(Link, usize, usize)> = None;
    for link in host.list()?.into_iter().filter(matches) {
        let (free, all) = match host.functions(link.index)?.len() {
            // All that there can be will be made.
            0 => (1, 1),
            all => (taken.free(host, &link)?.len(), all),
        };
        if free > 0 && best.as_ref().is_none_or(|(_, f, a)| free * a > f * all) {
            best = Some((link, free, all));
        }
    }
    best.map(|(link, ..)| link).ok_or_else(|| Error::not_found("Couldn't find a matching NIC"))
}

/// Addresses of the PCI bus may leave their domain out, and have capitals.
fn same_address(typed: &str, name: &str) -> bool {
    let domain = if typed.matches(':').count() == 1 { "0000:" } else { "" };
    format!("{domain}{typed}").eq_ignore_ascii_case(name)
}

/// What cannot be chosen.
struct Taken {
    /// Cards and numbers that instances have.
    functions: BTreeSet<(String, u32)>,
    /// Interfaces that a device or a network names.
    interfaces: BTreeSet<String>,
}

impl Taken {
    /// A record that cannot be read names nothing.
    fn read(store: &Store) -> Result<Self> {
        let notes = store.nic_notes_of_all()?;
        let functions =
            notes.iter().flat_map(|(_, notes)| all_of(notes)).map(|(_, f)| (f.card.clone(), f.id)).collect();
        let mut interfaces = BTreeSet::new();
        for (project, _) in store.projects()? {
            let instances = store.instances(&project)?.into_iter().filter_map(|(_, i)| Some(i.ok()?.devices));
            let profiles = store.profiles(&project)?.into_iter().filter_map(|(_, p)| Some(p.ok()?.devices));
            for device in instances.chain(profiles).flat_map(|devices| devices.into_values()) {
                interfaces.extend(keys::PARENT.get(&device).map(str::to_string));
            }
            let networks = store.networks(&project)?.into_iter().filter_map(|(_, n)| n.ok());
            interfaces
                .extend(networks.filter_map(|n| all_keys::network::uplink::PARENT.get(&n.config).map(str::to_string)));
        }
        Ok(Self { functions, interfaces })
    }

    /// The virtual functions of a card that nobody uses: their interfaces are here, down and without addresses.
    fn free(&self, host: &mut Links, card: &Link) -> Result<Vec<(Function, Hardware)>> {
        let (all, port) = (host.list()?, card.device.port(&card.name));
        let mut found = Vec::new();
        for told in host.functions(card.index)? {
            let Some(device) = card.device.function(told.id) else { continue };
            if self.functions.contains(&(card.name.clone(), told.id)) {
                continue;
            }
            let own = |l: &&Link| l.device.name == device.name && device.port(&l.name) == port;
            let Some(link) = all.iter().find(own) else { continue };
            if link.is_up() || self.interfaces.contains(&link.name) || !host.addresses_of(link.index)?.is_empty() {
                continue;
            }
            let was = Function {
                card: card.name.clone(),
                id: told.id,
                interface: link.name.clone(),
                device: device.name.clone(),
                hwaddr: link.mac,
                mtu: link.mtu,
                mac: told.mac,
                vlan: told.vlan,
                spoof_check: told.spoof_check,
                trusted: told.trusted,
            };
            found.push((was, device));
        }
        Ok(found)
    }
}

/// Tells the card what the device says, in the order that Intel's drivers want.
fn tell(host: &mut Links, card: &Link, was: &Function, options: &Device, hwaddr: Option<[u8; 6]>) -> Result<()> {
    let on = card.target();
    let mut set = |setting| host.run(function::set(&on, was.id, setting));
    if let Some(vlan) = keys::VLAN.u32(options)? {
        set(Setting::Vlan(vlan))?;
    }
    if keys::SECURITY_TRUSTED.get(options).is_some() {
        if was.trusted.is_none() {
            let id = was.id;
            return Err(Error::unsupported(format!(
                "Failed setting trusted for vf \"{id}\": The driver reported missing support for this feature"
            )));
        }
        set(Setting::Trusted(keys::SECURITY_TRUSTED.bool(options)?))?;
    }
    if keys::SECURITY_MAC_FILTERING.bool(options)? {
        set(Setting::Mac(hwaddr.or(was.hwaddr).unwrap_or_default()))?;
        return set(Setting::SpoofCheck(true));
    }
    // An address from before would stay the only one. Not every card can forget it.
    let _ = set(Setting::Mac([0; 6]));
    match set(Setting::SpoofCheck(false)) {
        Err(e) if keys::SECURITY_MAC_FILTERING.get(options).is_some() => Err(e),
        _ => Ok(()),
    }
}

/// Waits for the interface of a function whose driver was bound anew, and gives it the name it had; `whole`: also the rest.
fn named(host: &mut Links, device: &Hardware, was: &Function, whole: bool) -> Result<()> {
    let link = host.appeared(&device.name, &was.interface)?;
    let change = Change {
        name: Some(was.interface.as_str()).filter(|name| *name != link.name),
        mac: was.hwaddr.filter(|mac| whole && link.mac != Some(*mac)),
        mtu: Some(was.mtu).filter(|mtu| whole && link.mtu != *mtu),
        ..Change::default()
    };
    if change.name.is_some() || change.mac.is_some() || change.mtu.is_some() {
        host.run(spec::change(&link.target(), &change))?;
    }
    Ok(())
}

/// Has a virtual function be what it was, wherever its interface is. One that is not there any more is fine.
///
/// # Errors
/// The driver refuses.
pub(super) fn release(host: &mut Links, was: &Function) -> Result<()> {
    let Some(card) = host.find(&was.card)? else { return Ok(()) };
    let Some(device) = card.device.function(was.id) else { return Ok(()) };
    let is = host.functions(card.index)?.into_iter().find(|f| f.id == was.id).unwrap_or_default();
    device.unbind()?;
    fault::point("nic.unbound")?;
    let (flag, on) = (|old: Option<bool>, now| old.filter(|_| old != now), card.target());
    let settings = [
        (is.vlan != was.vlan).then_some(Setting::Vlan(was.vlan)),
        // No address cannot be set while it is checked.
        flag(was.spoof_check, is.spoof_check).map(Setting::SpoofCheck),
        (is.mac != was.mac).then_some(Setting::Mac(was.mac)),
        flag(was.trusted, is.trusted).map(Setting::Trusted),
    ];
    let told = host.run_all(settings.into_iter().flatten().map(|s| function::set(&on, was.id, s)).collect());
    device.probe().and(told)?;
    named(host, &device, was, true)
}

fn all_of(notes: &NicNotes) -> impl Iterator<Item = (&String, &Function)> {
    let is = |part: &HostPart| matches!(part, HostPart::Function(_));
    notes.devices.iter().flat_map(move |(device, parts)| {
        parts.iter().filter(move |part| is(part)).filter_map(move |part| match part {
            HostPart::Function(function) => Some((device, function)),
            _ => None,
        })
    })
}

/// Names the function that was chosen for an interface, if one was.
///
/// # Errors
/// The notes cannot be read.
pub(super) fn name(store: &Store, port: Port<'_>, nic: &mut Nic) -> Result<()> {
    let nic::Link::Function(own) = &mut nic.link else { return Ok(()) };
    let notes = store.nic_notes(port.project, port.instance)?;
    if let Some((_, function)) = all_of(&notes).find(|(device, _)| *device == port.device) {
        own.interface.clone_from(&function.interface);
        own.device.clone_from(&function.device);
    }
    Ok(())
}

/// Notes in the volatile configuration of `loaded` which functions its interfaces have.
///
/// # Errors
/// The notes cannot be read.
pub(super) fn remember(store: &Store, loaded: &mut Loaded) -> Result<()> {
    let notes = store.nic_notes(&loaded.project, &loaded.name)?;
    let volatile = &mut loaded.volatile.config;
    for (device, f) in all_of(&notes) {
        let mac = |address: Option<[u8; 6]>| address.map(mac::format).unwrap_or_default();
        let said = |flag: Option<bool>| flag.map(|on| on.to_string()).unwrap_or_default();
        let values = [
            "false".to_string(),
            mac(f.hwaddr),
            f.mtu.to_string(),
            mac(Some(f.mac)),
            f.id.to_string(),
            f.card.clone(),
            said(f.spoof_check),
            f.trusted.map(|on| u8::from(on).to_string()).unwrap_or_default(),
            f.vlan.to_string(),
        ];
        for (key, value) in VOLATILE.iter().zip(values).filter(|(_, value)| !value.is_empty()) {
            volatile.insert(key.of(device), value);
        }
        volatile.insert(all_keys::VOLATILE_DEVICE_HOST_NAME.of(device), f.interface.clone());
    }
    Ok(())
}

/// Whether a device has a virtual function, as far as its volatile configuration says.
pub(super) fn has(volatile: &Config, device: &str) -> bool {
    all_keys::VOLATILE_DEVICE_LAST_STATE_VF_ID.get_of(volatile, device).is_some()
}

/// Whether a name of a volatile configuration is about a virtual function.
pub(super) fn is_about(name: &str) -> bool {
    VOLATILE.iter().any(|key| key.device_in(name).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_the_bus() {
        assert!(same_address("0000:01:00.0", "0000:01:00.0") && same_address("01:00.0", "0000:01:00.0"));
        assert!(same_address("0000:0A:00.0", "0000:0a:00.0") && !same_address("02:00.0", "0000:01:00.0"));
    }

    #[test]
    fn names_about_functions() {
        assert!(is_about("volatile.eth0.last_state.vf.id") && is_about("volatile.eth0.last_state.hwaddr"));
        assert!(!is_about("volatile.eth0.hwaddr") && !is_about("volatile.eth0.last_state.ip_addresses"));
    }
}
