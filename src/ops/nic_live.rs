//! Network interfaces of a running instance: plugged in, taken out and changed in place, so that what it has is what its
//! configuration says.
//!
//! What it has stands in the run file of interfaces ([`crate::store::plugged`]), noted before anything is done. So the same
//! code carries a change out and takes one back that was refused or broken off: it compares what is noted with what is
//! wanted, and whatever was begun is ended first. Called by `update` and `profile`, under the lock of the instance, and by
//! recovery.

use super::live::Target;
use super::load::{self, Loaded};
use super::network::dns::Port;
use super::{network, nic_function, nic_host, nics, wiring};
use crate::base::names::{InstanceName, NetworkName, ProjectName};
use crate::container::nics as runtime;
use crate::error::{Context, Error, Result};
use crate::fault;
use crate::host::links::{Links, sysctl};
use crate::model::diff::DeviceChanges;
use crate::model::instance::{Device, Devices};
use crate::model::keys::Key;
use crate::model::keys::device::{
    device_type,
    nic::{NETWORK, VLAN},
};
use crate::model::nic::Nic;
use crate::store::Store;
use crate::store::plugged::{Board, Plugged};
use crate::sys::{ns, pidfd};
use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

/// The network interfaces that a change reaches, by device: `new` are the devices as they are to be. Whether there are proxies
/// of the firewall may matter to all of them (see [`network::hairpin`]).
pub(super) fn touched(changes: &DeviceChanges, new: &Devices) -> BTreeSet<String> {
    let is_nic = |d: &Device| device_type(d) == "nic";
    let whole = changes.removed.iter().chain(&changes.added).filter(|(_, d)| is_nic(d)).map(|(n, _)| n);
    let updated = changes.updated.iter().filter(|(_, (_, new))| is_nic(new)).map(|(n, _)| n);
    let mut all: BTreeSet<String> = whole.chain(updated).cloned().collect();
    if sysctl::translates_in_bridges()
        && changes.removed.values().chain(changes.added.values()).any(network::nat::is_nat)
    {
        all.extend(new.iter().filter(|(_, d)| is_nic(d)).map(|(n, _)| n.clone()));
    }
    all
}

/// Has the interfaces of these devices be what `loaded` says; its volatile configuration gets the names on the host. An
/// instance that has ended meanwhile is fine.
///
/// # Errors
/// `Failed to start device "eth1": …`; part of it may be done.
pub(super) fn apply(target: Target<'_>, loaded: &mut Loaded, devices: &BTreeSet<String>) -> Result<()> {
    if devices.is_empty() {
        return Ok(());
    }
    let Some(mut live) = Live::open(target)? else { return Ok(()) };
    let plugged: BTreeSet<String> =
        nics::interfaces(loaded).map(|(name, _)| name).filter(|name| devices.contains(*name)).cloned().collect();
    plugged.iter().try_for_each(|name| nics::name_on_host(target.store, loaded, name))?;
    let wanted = wanted(target.store, loaded, &plugged)?;
    live.check(loaded, devices, &wanted)?;
    let outcome = live.carry_out(loaded, devices, &wanted);
    for name in devices.difference(&plugged) {
        nics::forget_one(&mut loaded.volatile.config, name);
    }
    nic_function::remember(target.store, loaded)?;
    match live.has_ended()? {
        false => outcome,
        // Its monitor sees to the rest, but for what got in after it had looked.
        true => live.take_back(&wanted),
    }
}

/// Has the interfaces of these devices be what the records say, as far as the instance runs. Takes no lock but what runs of
/// networks.
///
/// # Errors
/// As [`apply`]; a record is damaged.
pub(super) fn renew(store: &Store, project: &ProjectName, name: &InstanceName, devices: &[String]) -> Result<()> {
    let Some(running) = load::running(store, project, name)? else { return Ok(()) };
    let mut loaded = load::load(store, project, name)?;
    let target = Target { store, project, name, running: &running };
    apply(target, &mut loaded, &devices.iter().cloned().collect())
}

/// What the interfaces of these devices are to be.
fn wanted(store: &Store, loaded: &Loaded, devices: &BTreeSet<String>) -> Result<BTreeMap<String, Nic>> {
    let mut all: Devices = nics::resolved(store, loaded)?;
    all.retain(|name, _| devices.contains(name));
    let identity = |device: &str| nics::identity(loaded, device);
    let mut nics = wiring::nics(&all, loaded.instance.kind, &identity)?;
    for nic in &mut nics {
        network::hairpin::settle(store, &loaded.expanded.devices, nic)?;
        let device = nic.device.clone();
        let port = Port { project: &loaded.project, instance: &loaded.name, device: &device };
        nic_function::name(store, port, nic)?;
    }
    Ok(nics.into_iter().map(|nic| (nic.device.clone(), nic)).collect())
}

/// Those of a start are not noted with their rules: every port of a bridge may have some.
fn may_have_rules(plugged: &Plugged) -> bool {
    plugged.filtered || plugged.nic.link.host_end().is_some_and(|end| end.bridge.is_some())
}

/// A running instance whose interfaces are changed.
struct Live<'a> {
    target: Target<'a>,
    init: OwnedFd,
    net: OwnedFd,
    host: Links,
    board: Board,
}

impl<'a> Live<'a> {
    /// None if it has ended.
    fn open(target: Target<'a>) -> Result<Option<Self>> {
        let file = &target.running.file;
        let Some(init) = file.open_init()? else { return Ok(None) };
        let net = match ns::open(file.init_pid, "net") {
            Err(e) if e.errno == libc::ENOENT => return Ok(None),
            other => other.context("Failed opening the network namespace")?,
        };
        let board = Board::read(&target.store.layout().instance_run_dir(target.project, target.name))?;
        let live = Self { target, init, net, host: Links::open()?, board };
        // Until now the number could have become another process's.
        Ok(if live.has_ended()? { None } else { Some(live) })
    }

    fn has_ended(&self) -> Result<bool> {
        Ok(pidfd::wait_ended(self.init.as_fd(), Some(Duration::ZERO))?)
    }

    fn port<'b>(&'b self, device: &'b str) -> Port<'b> {
        Port { project: self.target.project, instance: self.target.name, device }
    }

    /// Refuses what can be refused before anything is done: what an interface is made on is there, and its name inside is free.
    fn check(&mut self, loaded: &Loaded, devices: &BTreeSet<String>, wanted: &BTreeMap<String, Nic>) -> Result<()> {
        let stays = |p: &Plugged| wanted.get(&p.nic.device).is_some_and(|new| p.nic.becomes(new));
        let (staying, leaving): (Vec<_>, Vec<_>) =
            self.board.all().iter().filter(|p| devices.contains(&p.nic.device)).cloned().partition(stays);
        for (name, nic) in wanted.iter().filter(|(name, _)| staying.iter().all(|p| p.nic.device != **name)) {
            let fail = || format!("Failed to start device \"{name}\"");
            let returns = |p: &Plugged| p.before.as_ref().is_some_and(|b| Some(b.name.as_str()) == nic.link.lent());
            // A bridge of ours is made when it is needed, and so is the interface of a VLAN.
            let says = |key: &Key| loaded.expanded.devices.get(name).is_some_and(|d| key.get(d).is_some());
            let made = says(&NETWORK) || says(&VLAN);
            if !leaving.iter().any(returns) && !made {
                runtime::check(&mut self.host, nic).with_context(fail)?;
            }
            if !leaving.iter().any(|p| p.nic.name == nic.name) && !runtime::is_free(self.net.as_fd(), &nic.name)? {
                let text = format!("Network interface \"{}\" already exists in the instance", nic.name);
                return Err(Error::exists(text)).with_context(fail);
            }
        }
        Ok(())
    }

    fn carry_out(&mut self, loaded: &Loaded, devices: &BTreeSet<String>, wanted: &BTreeMap<String, Nic>) -> Result<()> {
        let mut kept = BTreeSet::new();
        for device in devices {
            let Some(old) = self.board.get(device).cloned() else {
                // It may have been broken off before it was noted.
                nic_host::end(self.target.store, (self.target.project, self.target.name), Some(device))?;
                continue;
            };
            if let Some(new) = wanted.get(device)
                && self.can_stay(&old, new)?
            {
                kept.insert(device);
                continue;
            }
            if !loaded.expanded.devices.contains_key(device) {
                self.release(&old);
            }
            self.take_out(&old).with_context(|| format!("Failed to stop device \"{device}\""))?;
        }
        for (device, new) in wanted {
            let Some(options) = loaded.expanded.devices.get(device) else { continue };
            match kept.contains(device) {
                true => {
                    let done = self.change(loaded, (device, options), new);
                    done.with_context(|| format!("Failed to update device \"{device}\""))?;
                }
                false => {
                    let done = self.put_in(loaded, (device, options), new);
                    done.with_context(|| format!("Failed to start device \"{device}\""))?;
                }
            }
        }
        Ok(())
    }

    /// What is whole, and differs only in what can be changed while it is there.
    fn can_stay(&mut self, old: &Plugged, new: &Nic) -> Result<bool> {
        if !old.done || !old.nic.becomes(new) {
            return Ok(false);
        }
        match old.nic.link.host_end() {
            Some(end) => Ok(self.host.find(&end.name)?.is_some()),
            None => runtime::is_inside(self.net.as_fd(), old),
        }
    }

    /// Gives back the addresses that one has leases of, because it goes for good; what goes wrong here stops nobody.
    fn release(&self, old: &Plugged) {
        let port = old.nic.link.host_end().and_then(|end| end.bridge.as_ref());
        let (Some(port), store) = (port, self.target.store) else { return };
        let (Ok(network), Ok(owner)) =
            (NetworkName::parse(&port.bridge), network::project_of(store, self.target.project))
        else {
            return;
        };
        if store.network(&owner, &network).is_ok_and(|found| found.is_some()) {
            let _ = network::leases::release(store, (&owner, &network), old.nic.hwaddr.as_slice(), self.target.name);
        }
    }

    /// The link first: as long as it is there, it is filtered.
    fn take_out(&mut self, old: &Plugged) -> Result<()> {
        let device = &old.nic.device;
        fault::point("live.nic.stop")?;
        runtime::unplug(&mut self.host, self.net.as_fd(), old)?;
        fault::point("live.nic.out")?;
        nics::disconnect(self.target.store, self.port(device), may_have_rules(old))?;
        fault::point("live.nic.ended")?;
        self.board.remove(device)
    }

    /// The link last: when it is there, it is filtered.
    fn put_in(&mut self, loaded: &Loaded, (device, options): (&str, &Device), new: &Nic) -> Result<()> {
        nics::below(self.target.store, loaded, (device, options))?;
        let mut new = new.clone();
        nic_function::name(self.target.store, self.port(device), &mut new)?;
        let noted = runtime::noted(&mut self.host, &new)?;
        let mut plugged = Plugged { filtered: network::filter::is_wanted(options)?, ..noted };
        self.board.set(plugged.clone())?;
        fault::point("live.nic.noted")?;
        nics::connect(self.target.store, loaded, (device, options))?;
        fault::point("live.nic.connected")?;
        runtime::plug(&mut self.host, self.net.as_fd(), &mut plugged)?;
        fault::point("live.nic.in")?;
        nics::above(self.target.store, loaded, (device, options))?;
        self.board.set(plugged)
    }

    fn change(&mut self, loaded: &Loaded, (device, options): (&str, &Device), new: &Nic) -> Result<()> {
        let Some(old) = self.board.get(device).cloned() else { return Ok(()) };
        let filtered = network::filter::is_wanted(options)?;
        let mut begun = Plugged { filtered: filtered || old.filtered, ..old.clone() };
        begun.nic.link = old.nic.link.or(&new.link);
        self.board.set(begun.clone())?;
        fault::point("live.nic.change")?;
        nics::connect(self.target.store, loaded, (device, options))?;
        if !filtered && may_have_rules(&begun) {
            network::filter::end(self.target.store, self.port(device))?;
        }
        fault::point("live.nic.reconnected")?;
        if let (Some(from), Some(to)) = (begun.nic.link.host_end(), new.link.host_end()) {
            runtime::adjust(&mut self.host, from, to)?;
        }
        nics::above(self.target.store, loaded, (device, options))?;
        fault::point("live.nic.changed")?;
        self.board.set(Plugged { filtered, nic: new.clone(), ..old })
    }

    /// Interfaces of the host that got into a namespace which its monitor has left already.
    fn take_back(&mut self, wanted: &BTreeMap<String, Nic>) -> Result<()> {
        let lent: Vec<Plugged> = self.board.all().iter().filter(|p| p.before.is_some()).cloned().collect();
        let ours = lent.iter().filter(|p| wanted.contains_key(&p.nic.device));
        let failed = ours.filter_map(|p| runtime::unplug(&mut self.host, self.net.as_fd(), p).err()).collect();
        Error::join(failed).map_or(Ok(()), Err)
    }
}
