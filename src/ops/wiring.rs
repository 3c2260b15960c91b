//! Brings together what must not know each other: devices state needs, storage and the host satisfy them, the answers
//! become attachments for the runtime.

use crate::device;
use crate::error::{Context, Error, Result};
use crate::model::attach::{Attachment, Mount, Need, Rootfs, Supply};
use crate::model::instance::{Devices, InstanceType};
use crate::model::keys::device::device_type;
use crate::model::nic::{Identity, Nic};
use crate::model::proxy::Proxy;

/// Name and address of the interface of a device.
pub type Interfaces<'a> = &'a dyn Fn(&str) -> Result<Identity>;

/// What a custom volume, or a path of the host that is there, is to a disk that needs it.
pub type Volumes<'a> = &'a dyn Fn(&Need) -> Result<Supply>;

/// Starts all `devices` on paper: the attachments in the order they are to be made. `root` satisfies the root volume,
/// `volumes` what disks need, `interfaces` what network interfaces need.
///
/// # Errors
/// The device that cannot start, with the reason.
pub fn attachments(
    devices: &Devices,
    kind: InstanceType,
    root: &Rootfs,
    volumes: Volumes<'_>,
    interfaces: Interfaces<'_>,
) -> Result<Vec<Attachment>> {
    let given = Given { root: Some(root), volumes, interfaces };
    let mut loaded = Vec::new();
    for (name, options) in devices {
        loaded.extend(device::load(name, options, kind)?.map(|d| (name, d)));
    }
    loaded.sort_by(|(a, x), (b, y)| (x.order(), a).cmp(&(y.order(), b)));
    let mut out = Vec::new();
    for (name, device) in loaded {
        let supplies = device.needs().into_iter().map(|n| supply(name, n, given)).collect::<Result<_>>()?;
        out.extend(device.start(supplies)?);
    }
    Ok(out)
}

/// The network interfaces among `devices`, on paper.
///
/// # Errors
/// As [`attachments`].
pub fn nics(devices: &Devices, kind: InstanceType, interfaces: Interfaces<'_>) -> Result<Vec<Nic>> {
    let mut out = Vec::new();
    for (name, options) in devices.iter().filter(|(_, d)| device_type(d) == "nic") {
        let Some(device) = device::load(name, options, kind)? else { continue };
        for attachment in device.start(vec![Supply::Interface(interfaces(name)?)])? {
            match attachment {
                Attachment::Nic(nic) => out.push(nic),
                other => return Err(Error::internal(format!("A network interface asks for {other:?}"))),
            }
        }
    }
    Ok(out)
}

/// The disks among `devices` but for the root, on paper, in the order they are to be mounted.
///
/// # Errors
/// As [`attachments`].
pub fn mounts(devices: &Devices, kind: InstanceType, volumes: Volumes<'_>) -> Result<Vec<Mount>> {
    let interfaces = |_: &str| Err(Error::internal("A disk asks for an interface"));
    let given = Given { root: None, volumes, interfaces: &interfaces };
    let mut loaded = Vec::new();
    for (name, options) in devices.iter().filter(|(_, d)| device_type(d) == "disk") {
        loaded.extend(device::load(name, options, kind)?.map(|d| (name, d)));
    }
    loaded.sort_by(|(a, x), (b, y)| (x.order(), a).cmp(&(y.order(), b)));
    let mut out = Vec::new();
    for (name, device) in loaded {
        let supplies = device.needs().into_iter().map(|n| supply(name, n, given)).collect::<Result<_>>()?;
        for attachment in device.start(supplies)? {
            match attachment {
                Attachment::Mount(mount) => out.push(mount),
                other => return Err(Error::internal(format!("A disk asks for {other:?}"))),
            }
        }
    }
    Ok(out)
}

/// The proxies among `devices` that are processes, on paper.
///
/// # Errors
/// As [`attachments`].
pub fn proxies(devices: &Devices, kind: InstanceType) -> Result<Vec<Proxy>> {
    let mut out = Vec::new();
    for (name, options) in devices.iter().filter(|(_, d)| device_type(d) == "proxy") {
        let Some(device) = device::load(name, options, kind)? else { continue };
        for attachment in device.start(Vec::new())? {
            match attachment {
                Attachment::Proxy(proxy) => out.push(proxy),
                other => return Err(Error::internal(format!("A proxy asks for {other:?}"))),
            }
        }
    }
    Ok(out)
}

/// What satisfies the needs.
#[derive(Clone, Copy)]
struct Given<'a> {
    root: Option<&'a Rootfs>,
    volumes: Volumes<'a>,
    interfaces: Interfaces<'a>,
}

fn supply(device: &str, need: Need, given: Given<'_>) -> Result<Supply> {
    match need {
        Need::Interface => (given.interfaces)(device).map(Supply::Interface),
        Need::RootVolume => {
            let root = given.root.ok_or_else(|| Error::internal("A disk beside the root asks for the root volume"))?;
            Ok(Supply::Rootfs(root.clone()))
        }
        Need::Volume { .. } => (given.volumes)(&need).with_context(|| format!("Failed to start device \"{device}\"")),
        Need::HostPath { ref path, required } => match (path.symlink_metadata().is_ok(), required) {
            (true, _) => (given.volumes)(&need).with_context(|| format!("Failed to start device \"{device}\"")),
            (false, false) => Ok(Supply::Absent),
            (false, true) => Err(Error::not_found(format!(
                "Failed to start device \"{device}\": Missing source path \"{}\" for disk \"{device}\"",
                path.display()
            ))),
        },
    }
}
