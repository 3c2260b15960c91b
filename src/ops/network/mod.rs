//! Managed networks: records, the bridges behind them, and who uses them.
//!
//! A writer holds the network alone. What runs of a network – its bridge, firewall rules and dnsmasq – is brought up by whoever
//! needs it first and found from its record by everybody after that ([`up`]). It has a lock of its own, held for a moment by
//! whoever changes it, records that the network is used, or deletes the network; each reads the record again under it.

pub mod acl;
pub mod address_set;
pub mod allocations;
pub mod attach;
pub mod audit;
pub mod beside;
pub mod change;
pub mod dns;
pub mod filter;
pub(super) mod firewall;
mod follow;
pub mod forwards;
pub mod hairpin;
pub mod leases;
pub mod list;
mod members;
pub mod nat;
pub mod process;
pub mod rename;
pub mod rules;
pub mod taken;
pub mod up;
pub mod zone_server;
pub mod zones;

use crate::base::names::{NetworkName, ProjectName};
use crate::error::{Context, Error, Result};
use crate::model::instance::{Device, Devices, InstanceType};
use crate::model::keys::device::{self, nic};
use crate::model::network::Network;
use crate::model::network::nic::{check_on, check_unmanaged_bridge};
use crate::model::project::Feature;
use crate::model::view::url;
use crate::ops::{features, load};
use crate::store::Store;
use crate::store::lock::{Exclusive, Held, NetworkRunKey};
use std::collections::BTreeSet;

/// Incus's words for a network that is not there.
pub fn not_found() -> Error {
    Error::not_found("Network not found")
}

/// The project whose networks the instances of `project` use: its own, or the default project's.
///
/// # Errors
/// Its record is damaged.
pub fn project_of(store: &Store, project: &ProjectName) -> Result<ProjectName> {
    features::owner(store, project, Feature::Networks)
}

/// The project that a managed network belongs to; a name stands for one interface of the host, so there is one.
///
/// # Errors
/// Not found; the state folder cannot be read.
fn owner(store: &Store, name: &NetworkName) -> Result<ProjectName> {
    for (project, _) in store.projects()? {
        if store.network(&project, name).is_ok_and(|found| found.is_some()) {
            return Ok(project);
        }
    }
    Err(not_found())
}

/// The network that an instance of `project` calls `name`.
///
/// # Errors
/// Not found; its record is damaged.
pub fn need(store: &Store, project: &ProjectName, name: &str) -> Result<(NetworkName, Network)> {
    let found = NetworkName::parse(name).map_err(|_| not_found())?;
    let network = store.network(&project_of(store, project)?, &found)?.ok_or_else(not_found)?;
    Ok((found, network))
}

/// Checks the interfaces among `devices` that are on managed networks, with what these say.
///
/// # Errors
/// Not found: there is no such network. Invalid: what a device says does not go with it.
pub fn check_devices(
    store: &Store,
    project: &ProjectName,
    devices: &Devices,
    kind: Option<InstanceType>,
) -> Result<()> {
    for (name, options) in devices.iter().filter(|(_, d)| device::device_type(d) == "nic") {
        let checked = match nic::NETWORK.get(options) {
            Some(network) => need(store, project, network)
                .with_context(|| format!("Failed loading network {network:?}"))
                .and_then(|(found, record)| check_on(options, &found, &record, kind))
                .and_then(|()| rules::check(store, &project_of(store, project)?, options)),
            None if nic::NICTYPE.get(options) == Some("bridged") => check_unmanaged_bridge(options),
            None => Ok(()),
        };
        checked.with_context(|| format!("Device validation failed for {name:?}"))?;
    }
    Ok(())
}

/// Keeps the networks that `devices` name until what is returned is dropped: nobody deletes one before it is recorded that it
/// is used. To be held for a moment, around the recording; nothing but what comes after these locks is locked meanwhile.
///
/// # Errors
/// Not found: one of them was deleted meanwhile.
pub fn keep<'a>(
    store: &Store,
    project: &ProjectName,
    devices: impl Iterator<Item = &'a Device>,
) -> Result<Vec<Held<NetworkRunKey, Exclusive>>> {
    let names: BTreeSet<&str> =
        devices.filter(|d| device::device_type(d) == "nic").filter_map(|d| nic::NETWORK.get(d)).collect();
    let keep = |name: &str| -> Result<_> {
        let held = store.lock_network_run(&NetworkName::parse(name).map_err(|_| not_found())?)?;
        need(store, project, name)?;
        Ok(held)
    };
    let named = |name: &str| keep(name).with_context(|| format!("Failed loading network \"{name}\""));
    names.into_iter().map(named).collect()
}

/// Addresses of the instances and profiles that use a network.
///
/// # Errors
/// The state folder cannot be read.
pub fn users(store: &Store, project: &ProjectName, name: &NetworkName) -> Result<Vec<String>> {
    let mut all = Vec::new();
    let uses = |devices: &Devices| {
        let mut nics = devices.values().filter(|d| device::device_type(d) == "nic");
        nics.any(|d| nic::NETWORK.get(d) == Some(name.as_str()))
    };
    for (other, _) in store.projects()? {
        if project_of(store, &other)? != *project {
            continue;
        }
        for (instance, record) in store.instances(&other)? {
            // What comes from a profile counts for its instances, too.
            let devices = record.ok().map(|r| load::expanded(store, &other, &r).map_or(r.devices, |e| e.devices));
            if devices.is_some_and(|d| uses(&d)) {
                all.push(url::instance(&other, &instance));
            }
        }
        for (profile, record) in store.profiles(&other)? {
            if record.is_ok_and(|p| uses(&p.devices)) {
                all.push(url::profile(&other, &profile));
            }
        }
    }
    Ok(all)
}

/// Are the programs there that a managed bridge takes?
///
/// # Errors
/// Unsupported: one is missing, and which package brings it.
pub fn programs() -> Result<()> {
    firewall::program()?;
    dns::program()
}

/// 32 random bits.
pub(super) fn random_bits() -> u32 {
    let bytes = *uuid::Uuid::new_v4().as_bytes();
    u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
}
