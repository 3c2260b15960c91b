//! `storage volume attach` and `detach`: the device that puts a volume into an instance or a profile.

use super::{Of, need};
use crate::base::names::{PoolName, VolumeName};
use crate::error::{Error, Result};
use crate::model::instance::{Device, Devices};
use crate::model::keys::device::{
    TYPE, device_type,
    disk::{self, Source},
};
use crate::store::Store;

/// A volume in an instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connection {
    /// The pool.
    pub pool: PoolName,
    /// The volume, perhaps with a path below its root.
    pub source: String,
    /// The device; Incus calls it after the volume if nothing is said.
    pub device: String,
    /// Where it appears inside.
    pub path: Option<String>,
}

impl Connection {
    /// From the words of the command: one that begins with a slash is a path, as it was before there were device names.
    pub fn new(pool: &PoolName, source: &str, device: Option<&str>, path: Option<&str>) -> Self {
        let (device, path) = match (device, path) {
            (Some(only), None) if only.starts_with('/') => (None, Some(only)),
            other => other,
        };
        let volume = source.split('/').next().unwrap_or(source);
        Self {
            pool: pool.clone(),
            source: source.to_string(),
            device: device.unwrap_or(volume).to_string(),
            path: path.map(str::to_string),
        }
    }
}

/// Adds it to `devices`.
///
/// # Errors
/// Exists: there is a device of that name.
pub fn add(devices: &mut Devices, connection: &Connection) -> Result<()> {
    if devices.contains_key(&connection.device) {
        return Err(Error::exists("The device already exists"));
    }
    let mut device = Device::new();
    device.insert(TYPE.name.to_string(), "disk".to_string());
    disk::POOL.set(&mut device, connection.pool.as_str());
    disk::SOURCE.set(&mut device, connection.source.as_str());
    if let Some(path) = &connection.path {
        disk::PATH.set(&mut device, path);
    }
    devices.insert(connection.device.clone(), device);
    Ok(())
}

/// Removes the device `name`, or the only one on the volume.
///
/// # Errors
/// There is no such device, or more than one.
pub fn remove(devices: &mut Devices, pool: &PoolName, volume: &VolumeName, name: Option<&str>) -> Result<()> {
    let missing = || Error::not_found("No device found for this storage volume");
    let name = match name {
        Some(name) => {
            is_on(devices.get(name).ok_or_else(missing)?, pool, volume)?;
            name.to_string()
        }
        None => {
            let on = |(_, device): &(&String, &Device)| is_on(device, pool, volume).is_ok();
            let mut found = devices.iter().filter(on).map(|(name, _)| name.clone());
            let first = found.next().ok_or_else(missing)?;
            if found.next().is_some() {
                return Err(Error::invalid("More than one device matches, specify the device name"));
            }
            first
        }
    };
    devices.remove(&name);
    Ok(())
}

/// The device is on that volume; the messages are Incus's.
fn is_on(device: &Device, pool: &PoolName, volume: &VolumeName) -> Result<()> {
    let kind = device_type(device);
    if kind != "disk" {
        return Err(Error::invalid(format!("The specified device is not a disk ({kind} device)")));
    }
    let (found, source) = match disk::source(device) {
        Source::Volume { pool, volume, .. } => (pool, volume),
        _ => (disk::POOL.text(device), disk::SOURCE.text(device)),
    };
    if found != pool.as_str() {
        return Err(Error::invalid(format!("The specified disk is not in the given pool (found {found})")));
    }
    match source == volume.as_str() {
        true => Ok(()),
        false => Err(Error::invalid(format!(
            "The specified disk does not point to the given storage volume (found {source})"
        ))),
    }
}

/// Looks whether the volume is there.
///
/// # Errors
/// Not found.
pub fn check(store: &Store, of: Of<'_>) -> Result<()> {
    need(store, &of.key(store)?).map(drop)
}
