//! Proxies of a running instance: started, ended and replaced, so that what it has is what its configuration says; those that
//! are rules of the firewall follow its interfaces too.
//!
//! A process of a proxy notes in its file what it carries ([`crate::store::proxies`]), so what runs is compared with what is
//! wanted, and the same code carries a change out and takes one back that was refused or broken off. Called by `update` and
//! `profile`, under the lock of the instance, and by recovery. One that is replaced ends before the other begins: both may
//! listen at the same address.

use super::live::Target;
use super::load::{self, Loaded};
use super::proxies::{self, Home};
use super::{network, wiring};
use crate::base::names::{InstanceName, ProjectName};
use crate::error::{Context, Result};
use crate::fault;
use crate::model::diff::DeviceChanges;
use crate::model::instance::{Device, Devices};
use crate::model::keys::device::device_type;
use crate::model::proxy::Proxy;
use crate::store::Store;
use std::collections::{BTreeMap, BTreeSet};

fn is_proxy(options: &Device) -> bool {
    device_type(options) == "proxy"
}

/// The proxies that a change reaches, by device: `new` are the devices as they are to be. Those of the firewall go to
/// addresses of interfaces.
pub(super) fn touched(changes: &DeviceChanges, new: &Devices) -> BTreeSet<String> {
    let whole = changes.removed.iter().chain(&changes.added);
    let mut all: BTreeSet<String> = whole.clone().filter(|(_, d)| is_proxy(d)).map(|(n, _)| n.clone()).collect();
    let is_nic = |d: &Device| device_type(d) == "nic";
    if whole.clone().any(|(_, d)| is_nic(d)) || changes.updated.values().any(|(_, d)| is_nic(d)) {
        all.extend(new.iter().filter(|(_, d)| network::nat::is_nat(d)).map(|(n, _)| n.clone()));
    }
    all
}

/// Has the proxies of these devices be what `loaded` says. An instance that has ended meanwhile is fine.
///
/// # Errors
/// `Failed to start device "web": …`; part of it may be done.
pub(super) fn apply(target: Target<'_>, loaded: &Loaded, devices: &BTreeSet<String>) -> Result<()> {
    if devices.is_empty() {
        return Ok(());
    }
    let wanted = wanted(loaded, devices)?;
    // What is refused before anything is done.
    let rules = network::nat::rules_of(target.store, loaded, devices)?;
    let running = &target.running.file;
    if running.open_init()?.is_none() {
        return Ok(());
    }
    let (store, project, name) = (target.store, target.project, target.name);
    let mut kept = BTreeSet::new();
    for device in devices {
        match (store.proxy(project, name, device)?, wanted.get(device)) {
            (Some(old), Some(new)) if old == new.to_line()? => drop(kept.insert(device)),
            _ => {
                fault::point("live.proxy.stop")?;
                store
                    .end_proxy(project, name, device)
                    .with_context(|| format!("Failed to stop device \"{device}\""))?;
            }
        }
    }
    fault::point("live.proxy.ended")?;
    network::nat::renew(store, &rules)?;
    fault::point("live.proxy.nat")?;
    let new: Vec<&Proxy> = wanted.iter().filter(|(device, _)| !kept.contains(device)).map(|(_, p)| p).collect();
    if new.is_empty() {
        return Ok(());
    }
    let (run_dir, log_dir) =
        (store.layout().instance_run_dir(project, name), store.layout().instance_log_dir(project, name));
    let home = Home::running((project, name), running.init_pid, &run_dir, &log_dir)?;
    let cgroups = load::cgroups(store.layout())?;
    for proxy in new {
        let started = proxies::one(&home, proxy, running.init_pid, Some(&cgroups));
        started.with_context(|| format!("Failed to start device \"{}\"", proxy.device))?;
        fault::point("live.proxy.started")?;
    }
    Ok(())
}

/// Has the proxies of these devices be what the records say. Takes no lock. Of an instance that does not run none is left.
///
/// # Errors
/// As [`apply`]; a record is damaged.
pub(super) fn renew(store: &Store, project: &ProjectName, name: &InstanceName, devices: &[String]) -> Result<()> {
    let devices: BTreeSet<String> = devices.iter().cloned().collect();
    let Some(running) = load::running(store, project, name)? else {
        return network::nat::remove(store, (project, name), &devices);
    };
    apply(Target { store, project, name, running: &running }, &load::load(store, project, name)?, &devices)
}

/// The processes that these devices are to be.
fn wanted(loaded: &Loaded, devices: &BTreeSet<String>) -> Result<BTreeMap<String, Proxy>> {
    let own: Devices = loaded
        .expanded
        .devices
        .iter()
        .filter(|(name, options)| devices.contains(*name) && is_proxy(options))
        .map(|(name, options)| (name.clone(), options.clone()))
        .collect();
    let all = wiring::proxies(&own, loaded.instance.kind)?;
    Ok(all.into_iter().map(|proxy| (proxy.device.clone(), proxy)).collect())
}
