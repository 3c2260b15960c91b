//! The devices an instance may have: their types, options and rules.
//!
//! An option is a [`Key`] like a configuration key, read with the same methods (`disk::SOURCE.get(&device)`); a [`Kind`]
//! says which options a type has. Rules that need more than the device itself (networks, pools, the host) are checked where
//! these are known.

pub mod disk;
pub mod gpu;
pub mod infiniband;
pub mod nic;
pub mod other;
pub mod proxy;
pub mod unix;

use super::key::{Key, Scope, Suffix};
use super::value::Value;
use crate::base::boolean;
use crate::base::names::DeviceName;
use crate::error::{Context, Error, Kind as ErrorKind, Result};
use crate::model::instance::{Device, Devices, InstanceType};

keys! {
    TYPE: "type", Both, Value::Line, "Type of the device";
    USER: "user.", Both, Value::Text, "Anything, without effect" => prefix(Suffix::Any);
    INITIAL: "initial.", Both, Value::Line, "Option for what the device creates" => prefix(Suffix::Any),
        long("For a root disk an option of its volume, by the pool's driver: `block.*` and `lvm.*` of lvm, `zfs.*` of zfs. It \
              counts when the instance is created.");
}

/// A type of device, or one of the sub-types of NICs, GPUs and InfiniBand devices.
#[derive(Debug)]
pub struct Kind {
    /// Value of `type`.
    pub device: &'static str,
    /// Value of `nictype` or `gputype`; empty if the type has no sub-types.
    pub sub: &'static str,
    /// Instances that can have it.
    pub scope: Scope,
    /// Instances that can get and lose it while they run.
    pub hotplug: Option<Scope>,
    /// Its options.
    pub options: &'static [&'static Key],
    /// Those that must be set.
    pub required: &'static [&'static Key],
    /// Those whose change does not take the device away and bring it back.
    pub updatable: &'static [&'static Key],
    /// Rules beyond single options.
    pub check: fn(&Device, Option<InstanceType>) -> Result<()>,
}

impl Kind {
    /// Can an instance of this type get and lose it while it runs?
    pub fn hotplugs(&self, kind: InstanceType) -> bool {
        self.hotplug.is_some_and(|scope| scope.covers(Some(kind)))
    }

    fn option(&self, name: &str, kind: Option<InstanceType>) -> Option<&'static Key> {
        let listed = self.options.iter().copied().find(|k| k.name == name && k.scope.covers(kind));
        listed.or_else(|| [&USER, &INITIAL].into_iter().find(|k| k.matches(name)))
    }
}

/// A rule set of nothing.
fn no_rules(_: &Device, _: Option<InstanceType>) -> Result<()> {
    Ok(())
}

/// Every kind of device.
pub fn kinds() -> impl Iterator<Item = &'static Kind> {
    [nic::KINDS, disk::KINDS, unix::KINDS, gpu::KINDS, infiniband::KINDS, proxy::KINDS, other::KINDS]
        .into_iter()
        .flat_map(|kinds| kinds.iter().copied())
}

/// Value of `type`, empty if missing.
pub fn device_type(device: &Device) -> &str {
    TYPE.text(device)
}

/// The kind of a device. A NIC on a managed network has the kind [`nic::MANAGED`] until the network's type is known.
pub fn kind_of(device: &Device) -> Result<&'static Kind> {
    let (device_type, sub) = match device_type(device) {
        "nic" if nic::NETWORK.get(device).is_some() => return Ok(&nic::MANAGED),
        "nic" => ("nic", nic::NICTYPE.text(device)),
        "infiniband" => ("infiniband", nic::NICTYPE.text(device)),
        "gpu" => ("gpu", gpu::GPUTYPE.text(device)),
        other => (other, ""),
    };
    kinds().find(|k| k.device == device_type && k.sub == sub).ok_or_else(unsupported)
}

fn unsupported() -> Error {
    Error::unsupported("Unsupported device type")
}

/// Checks one device of an instance.
pub fn validate(name: &str, device: &Device, kind: InstanceType) -> Result<()> {
    validate_for(name, device, Some(kind))
}

/// Checks one device; `kind` none is a profile's, for either type of instance.
pub fn validate_for(name: &str, device: &Device, kind: Option<InstanceType>) -> Result<()> {
    DeviceName::parse(name)?;
    let checked = kind_of(device).and_then(|k| validate_as(device, k, kind));
    checked.with_context(|| format!("Device validation failed for {name:?}"))
}

/// The error for an option that must be set.
fn required(key: &Key) -> Error {
    Error::invalid("Required value").context(format!("Invalid value for device option {:?}", key.name))
}

/// Checks a device against a kind, as for a NIC whose network turned out to be of some type.
pub fn validate_as(device: &Device, as_kind: &Kind, kind: Option<InstanceType>) -> Result<()> {
    if !as_kind.scope.covers(kind) {
        return Err(unsupported());
    }
    for (name, value) in device {
        if name == TYPE.name || (!as_kind.sub.is_empty() && (name == nic::NICTYPE.name || name == gpu::GPUTYPE.name)) {
            continue;
        }
        let shown: String = name.chars().filter(|c| !c.is_control()).collect();
        let key =
            as_kind.option(name, kind).ok_or_else(|| Error::invalid(format!("Invalid device option {shown:?}")))?;
        key.value.check(value).with_context(|| format!("Invalid value for device option {shown:?}"))?;
    }
    match as_kind.required.iter().find(|k| k.get(device).is_none()) {
        Some(key) => Err(required(key)),
        None => (as_kind.check)(device, kind),
    }
}

/// Checks the devices of an instance or profile: the local ones strictly, and, if given, the expanded ones, among which types
/// for the other type of instance are passed over and a root disk must be.
pub fn validate_all(local: &Devices, expanded: Option<&Devices>, kind: Option<InstanceType>) -> Result<()> {
    for (name, device) in local {
        validate_for(name, device, kind)?;
    }
    disk::check_paths(local)?;
    let Some(expanded) = expanded else { return Ok(()) };
    root_disk(expanded).context("Failed detecting root disk device")?;
    for (name, device) in expanded.iter().filter(|(name, _)| !local.contains_key(*name)) {
        match validate_for(name, device, kind) {
            Err(e) if e.kind() == ErrorKind::Unsupported => {}
            other => other?,
        }
    }
    nic::check_together(expanded)
}

/// Is it the root disk's entry?
pub fn is_root_disk(device: &Device) -> bool {
    device_type(device) == "disk" && disk::PATH.text(device) == "/" && disk::SOURCE.get(device).is_none()
}

/// The root disk among the devices.
pub fn root_disk(devices: &Devices) -> Result<(&str, &Device)> {
    let mut roots = devices.iter().filter(|(_, d)| is_root_disk(d));
    match (roots.next(), roots.next()) {
        (Some((name, device)), None) => Ok((name, device)),
        (Some(_), Some(_)) => Err(Error::invalid("More than one root device found")),
        (None, _) => Err(Error::not_found("No root device could be found")),
    }
}

/// Options of `new` whose change does not take the device away: none if the kinds differ or the old one was not attached.
pub fn updatable(old: &Device, new: &Device) -> &'static [&'static Key] {
    let detached = disk::ATTACHED.get(old).is_some_and(|v| !boolean::is_true(v));
    match (kind_of(old), kind_of(new)) {
        (Ok(a), Ok(b)) if !detached && a.device == b.device && a.sub == b.sub => b.updatable,
        _ => &[],
    }
}

/// An error if more than one of `keys` is set.
fn at_most_one(device: &Device, keys: &[&Key]) -> Result<()> {
    let set: Vec<&&Key> = keys.iter().filter(|k| k.get(device).is_some()).collect();
    match set[..] {
        [first, second, ..] => {
            Err(Error::invalid(format!("Cannot use {:?} when {:?} is set", second.name, first.name)))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
