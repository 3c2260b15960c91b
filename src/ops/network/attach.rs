//! `network attach` and `detach`: the device that puts an interface on a network, for instances and profiles.

use super::{not_found, project_of};
use crate::base::names::{NetworkName, ProjectName};
use crate::error::{Error, Result};
use crate::host::links::{Details, Links};
use crate::model::instance::{Device, Devices};
use crate::model::keys::device::{TYPE, device_type, nic as keys};
use crate::store::Store;

/// An interface on a network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connection {
    /// The network, or an interface of the host.
    pub network: NetworkName,
    /// The device; Incus calls it after the network if nothing is said.
    pub device: String,
    /// The interface's name inside.
    pub interface: Option<String>,
}

impl Connection {
    /// From the words of the command.
    pub fn new(network: &NetworkName, device: Option<&str>, interface: Option<&str>) -> Self {
        let device = device.unwrap_or(network.as_str()).to_string();
        Self { network: network.clone(), device, interface: interface.map(str::to_string) }
    }
}

/// The device that makes a connection: on a managed network, or else on an interface of the host.
///
/// # Errors
/// Not found: neither is there.
pub fn device(store: &Store, project: &ProjectName, connection: &Connection) -> Result<Device> {
    let mut device = Device::new();
    device.insert(TYPE.name.to_string(), "nic".to_string());
    let name = connection.network.as_str();
    if store.network(&project_of(store, project)?, &connection.network)?.is_some() {
        keys::NETWORK.set(&mut device, name);
    } else {
        let link = Links::open()?.find(name)?.ok_or_else(not_found)?;
        let bridge = matches!(link.details, Details::Bridge(_));
        keys::NICTYPE.set(&mut device, if bridge { "bridged" } else { "macvlan" });
        keys::PARENT.set(&mut device, name);
    }
    if let Some(interface) = &connection.interface {
        keys::NAME.set(&mut device, interface);
    }
    Ok(device)
}

/// Adds it to `devices`.
///
/// # Errors
/// Exists.
pub fn add(devices: &mut Devices, connection: &Connection, device: Device) -> Result<()> {
    if devices.contains_key(&connection.device) {
        return Err(Error::exists("The device already exists"));
    }
    devices.insert(connection.device.clone(), device);
    Ok(())
}

/// Removes the device `name`, or the only one on `network`.
///
/// # Errors
/// There is no such device, or more than one.
pub fn remove(devices: &mut Devices, network: &NetworkName, name: Option<&str>) -> Result<()> {
    let on = |d: &Device| {
        device_type(d) == "nic" && [&keys::NETWORK, &keys::PARENT].iter().any(|k| k.get(d) == Some(network.as_str()))
    };
    let name = match name {
        Some(name) => match devices.get(name) {
            None => return Err(Error::not_found("The specified device doesn't exist")),
            Some(device) if !on(device) => {
                return Err(Error::invalid("The specified device doesn't match the network"));
            }
            Some(_) => name.to_string(),
        },
        None => {
            let mut found = devices.iter().filter(|(_, d)| on(d)).map(|(name, _)| name.clone());
            let first = found.next().ok_or_else(|| Error::not_found("No device found for this network"))?;
            if found.next().is_some() {
                return Err(Error::invalid("More than one device matches, specify the device name"));
            }
            first
        }
    };
    devices.remove(&name);
    Ok(())
}
