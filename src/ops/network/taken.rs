//! Addresses on a network that interfaces were given, and names that its DNS knows instances by: none is given twice.

use super::{need, project_of};
use crate::base::names::{InstanceName, ProjectName};
use crate::error::{Context, Error, Result};
use crate::model::instance::{Config, Device, Devices};
use crate::model::keys::VOLATILE_DEVICE_HWADDR;
use crate::model::keys::device::{self, nic as keys};
use crate::model::keys::network::bridge;
use crate::model::network::NetworkType;
use crate::model::network::nic::{Taken, static_addresses};
use crate::ops::load;
use crate::store::Store;
use std::collections::BTreeMap;

/// An instance whose interfaces are checked.
#[derive(Debug, Clone, Copy)]
pub struct Owner<'a> {
    /// Its project.
    pub project: &'a ProjectName,
    /// Its name.
    pub name: &'a InstanceName,
    /// All its devices, as they are to be.
    pub devices: &'a Devices,
}

/// Checks that the interfaces among `changed`, devices of `owner`, take no address that another interface on their network
/// was given, and no name that it knows another by. Those that are given no address cost little.
///
/// # Errors
/// Conflict. The state folder cannot be read.
pub fn check(store: &Store, owner: Owner<'_>, changed: &Devices) -> Result<()> {
    for (device, options) in changed.iter().filter(|(_, d)| device::device_type(d) == "nic") {
        let Some(network) = keys::NETWORK.get(options) else { continue };
        let checked = check_name(store, owner, (device, options), network);
        checked.with_context(|| format!("Device validation failed for {device:?}"))?;
    }
    check_addresses(store, owner, changed)
}

/// A network has one name for an instance, so there is one interface of it, but for those of other VLANs, as in Incus.
fn check_name(store: &Store, owner: Owner<'_>, (device, options): (&str, &Device), network: &str) -> Result<()> {
    let (_, record) = need(store, owner.project, network)?;
    if record.kind != NetworkType::Bridge || bridge::DNS_MODE.text(&record.config) == "none" {
        return Ok(());
    }
    let name = owner.name.as_str().to_lowercase();
    let meets = |d: &Device| {
        let on = device::device_type(d) == "nic" && keys::NETWORK.get(d) == Some(network);
        on && keys::BRIDGE_VLAN.get(d) == keys::BRIDGE_VLAN.get(options)
    };
    if let Some((other, _)) = owner.devices.iter().find(|(other, d)| *other != device && meets(d)) {
        return Err(Error::conflict(format!(
            "Instance DNS name {name:?} conflict between {device:?} and {other:?} because both are connected to same network"
        )));
    }
    let home = project_of(store, owner.project)?;
    for (project, _) in store.projects()? {
        if project_of(store, &project)? != home {
            continue;
        }
        for (other, found) in store.instances_called(&project, &name)? {
            if (&project, &other) == (owner.project, owner.name) {
                continue;
            }
            let Ok(found) = found else { continue };
            if load::expanded(store, &project, &found).is_ok_and(|all| all.devices.values().any(meets)) {
                return Err(Error::conflict(format!("Instance DNS name {name:?} already used on network")));
            }
        }
    }
    Ok(())
}

fn check_addresses(store: &Store, owner: Owner<'_>, changed: &Devices) -> Result<()> {
    let given = |d: &Device| !static_addresses(d).is_empty() || keys::HWADDR.get(d).is_some();
    let nics = changed.iter().filter(|(_, d)| device::device_type(d) == "nic" && given(d));
    let mut networks: BTreeMap<&str, Taken> = BTreeMap::new();
    for (device, options) in nics {
        let Some(network) = keys::NETWORK.get(options) else { continue };
        if !networks.contains_key(network) {
            networks.insert(network, taken(store, owner, network)?);
        }
        let name = label(owner.project, owner.name, device);
        let checked = networks.get(network).map(|t| t.check(&name, options, keys::HWADDR.get(options)));
        checked.unwrap_or(Ok(())).with_context(|| format!("Device validation failed for {device:?}"))?;
    }
    Ok(())
}

fn label(project: &ProjectName, instance: &InstanceName, device: &str) -> String {
    format!("{project}/{instance}/{device}")
}

/// Who has which address on a network; of `owner` what it is to have.
fn taken(store: &Store, owner: Owner<'_>, network: &str) -> Result<Taken> {
    let home = project_of(store, owner.project)?;
    let mut taken = Taken::default();
    let mut add = |project: &ProjectName, name: &InstanceName, devices: &Devices, volatile: &Config| {
        let on = |d: &Device| device::device_type(d) == "nic" && keys::NETWORK.get(d) == Some(network);
        for (device, options) in devices.iter().filter(|(_, d)| on(d)) {
            let hwaddr = keys::HWADDR.get(options).or(VOLATILE_DEVICE_HWADDR.get_of(volatile, device));
            taken.add(&label(project, name, device), options, hwaddr);
        }
    };
    // First, so that what another has as well is the other's.
    add(owner.project, owner.name, owner.devices, &Config::new());
    for (project, _) in store.projects()? {
        if project_of(store, &project)? != home {
            continue;
        }
        for (name, record) in store.instances(&project)? {
            if (&project, &name) == (owner.project, owner.name) {
                continue;
            }
            let Ok(expanded) = record.and_then(|r| load::expanded(store, &project, &r)) else { continue };
            let volatile = store.volatile(&project, &name).map(|v| v.config).unwrap_or_default();
            add(&project, &name, &expanded.devices, &volatile);
        }
    }
    Ok(taken)
}
