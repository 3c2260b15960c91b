//! L4: devices of an instance. A closed set of small types behind [`Device`]; each states what it needs, is given that by
//! `ops::wiring`, and answers with data for the runtime. A device never calls storage, networks or the runtime itself.

mod disk;
mod nic;
mod nic_ipvlan;
mod nic_routed;
mod proxy;

use crate::error::{Error, Result};
use crate::model::attach::{Attachment, Need, Supply};
use crate::model::instance::{Device as Options, InstanceType};
use std::fmt::Debug;

/// What every device can do.
pub trait Device: Debug {
    /// What must be there before it starts.
    fn needs(&self) -> Vec<Need>;

    /// What the runtime does with it; `supplies` answer [`Device::needs`] one by one.
    ///
    /// # Errors
    /// A supply that the device cannot work with.
    fn start(&self, supplies: Vec<Supply>) -> Result<Vec<Attachment>>;

    /// Mounts are made shallow before deep: the path in the instance decides the order among devices. Interfaces have none
    /// and come first.
    fn order(&self) -> &str;
}

/// The device `name` with `options`; none for a masked one (`type=none`).
///
/// # Errors
/// [`crate::error::Kind::Unsupported`] for a kind that is not there yet; [`crate::error::Kind::Invalid`] for bad options.
pub fn load(name: &str, options: &Options, kind: InstanceType) -> Result<Option<Box<dyn Device>>> {
    match options.get("type").map(String::as_str) {
        Some("none") => Ok(None),
        Some("disk") => disk::Disk::load(name, options).map(|d| Some(Box::new(d) as Box<dyn Device>)),
        Some("nic") => nic::Nic::load(name, options).map(|d| d.map(|d| Box::new(d) as Box<dyn Device>)),
        Some("proxy") => proxy::Proxy::load(name, options).map(|d| d.map(|d| Box::new(d) as Box<dyn Device>)),
        Some(other) => Err(Error::unsupported(format!(
            "Failed to start device \"{name}\": Devices of type \"{other}\" are not supported by this version for {}s",
            kind.as_str()
        ))
        .hint(format!("remove it, or mask it on the instance with a device of type none named \"{name}\""))),
        None => Err(Error::invalid(format!("Missing device type for device \"{name}\""))),
    }
}
