//! What a change to an instance amounts to: changed keys, devices that come, go or change, what the runtime has to do now, and
//! what a running instance refuses.

use crate::error::{Error, Result};
use crate::model::expand::Expanded;
use crate::model::instance::{Config, Device, Devices, InstanceType};
use crate::model::keys::device::{self, disk, nic};
use crate::model::keys::{self, Action, Live};
use std::collections::{BTreeMap, BTreeSet};

/// The difference between two expanded configurations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changes {
    /// Type of the instance.
    pub kind: InstanceType,
    /// Changed configuration keys, in order.
    pub keys: Vec<String>,
    /// What the runtime must do if the instance runs.
    pub actions: BTreeSet<Action>,
    /// Keys among the changed that count from the next start on.
    pub next_start: Vec<String>,
    /// Keys among the changed that a running instance refuses.
    pub refused: Vec<String>,
    /// Devices.
    pub devices: DeviceChanges,
    /// The id map has to be worked out anew.
    pub idmap: bool,
    /// cloud-init gets a new identity.
    pub cloud_init: bool,
}

/// The difference between two sets of devices. A device whose changed options are all updatable is updated; any other changed
/// device is removed and added.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DeviceChanges {
    /// Gone, or to be replaced; as they were.
    pub removed: Devices,
    /// New, or replacing; as they are to be.
    pub added: Devices,
    /// Changed in place: old and new.
    pub updated: BTreeMap<String, (Device, Device)>,
}

impl DeviceChanges {
    /// Nothing changed.
    pub fn is_empty(&self) -> bool {
        self.removed.is_empty() && self.added.is_empty() && self.updated.is_empty()
    }

    /// What is new or changed, as it is to be.
    pub fn incoming(&self) -> Devices {
        let updated = self.updated.iter().map(|(name, (_, new))| (name, new));
        self.added.iter().chain(updated).map(|(name, device)| (name.clone(), device.clone())).collect()
    }
}

/// Compares two expanded configurations of an instance.
pub fn diff(old: &Expanded, new: &Expanded, kind: InstanceType) -> Changes {
    let keys = changed(&old.config, &new.config);
    let mut changes = Changes {
        kind,
        actions: BTreeSet::new(),
        next_start: Vec::new(),
        refused: Vec::new(),
        devices: diff_devices(&old.devices, &new.devices),
        idmap: keys.iter().any(|k| IDMAP_KEYS.iter().any(|key| key.name == k)),
        cloud_init: keys.iter().any(|k| keys::CLOUD_INIT_SEEDS.iter().any(|key| key.name == k))
            || nic_names(old) != nic_names(new),
        keys: Vec::new(),
    };
    for name in &keys {
        // A key nobody knows cannot do anything to what runs.
        match keys::find(name).map_or(Live::Record, |k| k.live_for(kind)) {
            Live::Record => {}
            Live::NextStart => changes.next_start.push(name.clone()),
            Live::No => changes.refused.push(name.clone()),
            Live::Apply(action) => drop(changes.actions.insert(action)),
        }
    }
    if limits_disks(&changes.devices) {
        changes.actions.insert(Action::DiskLimits);
    }
    changes.keys = keys;
    changes
}

/// Limits of a disk come, go or change.
fn limits_disks(devices: &DeviceChanges) -> bool {
    let limits = |(old, new): &(Device, Device)| {
        device::device_type(new) == "disk" && changed(old, new).iter().any(|option| disk::is_limit(option))
    };
    devices.removed.values().chain(devices.added.values()).any(disk::is_limited) || devices.updated.values().any(limits)
}

static IDMAP_KEYS: [&keys::Key; 5] = [
    &keys::SECURITY_IDMAP_ISOLATED,
    &keys::SECURITY_IDMAP_BASE,
    &keys::SECURITY_IDMAP_SIZE,
    &keys::RAW_IDMAP,
    &keys::SECURITY_PRIVILEGED,
];

fn changed(old: &Config, new: &Config) -> Vec<String> {
    let value = |config: &Config, name: &str| config.get(name).cloned().unwrap_or_default();
    let names: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    names.into_iter().filter(|n| value(old, n) != value(new, n)).cloned().collect()
}

fn nic_names(expanded: &Expanded) -> BTreeSet<&str> {
    let nics = expanded.devices.iter().filter(|(_, d)| device::device_type(d) == "nic");
    nics.map(|(name, d)| nic::NAME.get(d).unwrap_or(name)).collect()
}

/// Compares two sets of devices.
pub fn diff_devices(old: &Devices, new: &Devices) -> DeviceChanges {
    let mut changes = DeviceChanges::default();
    for (name, device) in old {
        match new.get(name) {
            Some(now) if changed(device, now).is_empty() => {}
            Some(now) if only_updates(device, now) => {
                changes.updated.insert(name.clone(), (device.clone(), now.clone()));
            }
            Some(now) => {
                changes.removed.insert(name.clone(), device.clone());
                changes.added.insert(name.clone(), now.clone());
            }
            None => drop(changes.removed.insert(name.clone(), device.clone())),
        }
    }
    changes.added.extend(new.iter().filter(|(n, _)| !old.contains_key(*n)).map(|(n, d)| (n.clone(), d.clone())));
    changes
}

fn only_updates(old: &Device, new: &Device) -> bool {
    let updatable = device::updatable(old, new);
    changed(old, new).iter().all(|k| device::USER.matches(k) || updatable.iter().any(|key| key.name == k))
}

impl Changes {
    /// Nothing changed.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty() && self.devices.is_empty()
    }

    /// May this be done to an instance that exists, running or not? The root disk keeps its pool, and options for what a
    /// device creates are not changed afterwards.
    pub fn check(&self, old: &Expanded, new: &Expanded) -> Result<()> {
        for (name, device) in &self.devices.added {
            check_initial(device, self.devices.removed.get(name))?;
        }
        let (_, root) = device::root_disk(&new.devices).map_err(|e| e.context("Invalid root disk device"))?;
        let pool = disk::POOL.text(root);
        match device::root_disk(&old.devices) {
            Ok((_, before)) if disk::POOL.text(before) != pool => {
                Err(Error::invalid(format!("Cannot update root disk device pool name to {pool:?}")))
            }
            _ => Ok(()),
        }
    }

    /// May this be done while the instance runs?
    pub fn check_running(&self) -> Result<()> {
        if let Some(key) = self.refused.first() {
            let what = if self.kind == InstanceType::VirtualMachine { "VM" } else { "instance" };
            return Err(Error::conflict(format!("Key {key:?} cannot be updated when {what} is running")));
        }
        let cannot = |device: &Device| {
            device::kind_of(device).is_ok_and(|k| k.scope.covers(Some(self.kind)) && !k.hotplugs(self.kind))
        };
        for (verb, done, devices) in
            [("stop", "stopped", &self.devices.removed), ("start", "started", &self.devices.added)]
        {
            if let Some((name, _)) = devices.iter().find(|(_, d)| cannot(d)) {
                let why = Error::conflict(format!("Device cannot be {done} when instance is running"));
                return Err(why.context(format!("Failed to {verb} device {name:?}")));
            }
        }
        Ok(())
    }
}

fn check_initial(new: &Device, old: Option<&Device>) -> Result<()> {
    // These create something whenever they appear.
    let anew = match disk::source(new) {
        disk::Source::Tmpfs | disk::Source::TmpfsOverlay => true,
        disk::Source::Volume { path, .. } => path.is_some(),
        _ => false,
    };
    let initial = new.iter().filter(|(k, v)| device::INITIAL.matches(k) && !v.is_empty());
    for (key, value) in initial.filter(|_| !anew) {
        let message = match old.map(|old| old.get(key)) {
            None => "New device with initial configuration cannot be added once the instance is created",
            Some(None) => "Device initial configuration cannot be added once the instance is created",
            Some(Some(before)) if before != value => {
                "Device initial configuration cannot be modified once the instance is created"
            }
            Some(Some(_)) => continue,
        };
        return Err(Error::invalid(message));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::expand::tests::{devices, map};

    const ROOT: (&str, &[(&str, &str)]) = ("root", &[("type", "disk"), ("path", "/"), ("pool", "p")]);

    fn expanded(config: &[(&str, &str)], more: &[(&str, &[(&str, &str)])]) -> Expanded {
        Expanded { config: map(config), devices: devices(&[&[ROOT], more].concat()) }
    }

    #[test]
    fn keys_are_classed() {
        let old = expanded(&[("limits.cpu", "1"), ("user.a", "1"), ("security.privileged", "false")], &[]);
        let new = expanded(
            &[("limits.cpu", "2"), ("limits.memory", "1GiB"), ("security.privileged", "true"), ("user.b", "")],
            &[],
        );
        let c = diff(&old, &new, InstanceType::Container);
        assert_eq!(c.keys, ["limits.cpu", "limits.memory", "security.privileged", "user.a"]);
        assert_eq!(c.actions, [Action::Cpu, Action::Memory].into());
        assert_eq!(c.next_start, ["security.privileged"]);
        assert!(c.idmap && !c.cloud_init && c.refused.is_empty() && c.check_running().is_ok());
        let vm = diff(&old, &expanded(&[("security.iommu", "true")], &[]), InstanceType::VirtualMachine);
        assert_eq!(
            vm.check_running().expect_err("vm").to_string(),
            "Key \"security.iommu\" cannot be updated when VM is running"
        );
        assert!(diff(&old, &old, InstanceType::Container).is_empty());
    }

    #[test]
    fn devices_are_classed() {
        let nic: &[(&str, &str)] = &[("type", "nic"), ("nictype", "bridged"), ("parent", "br0")];
        let old = expanded(&[], &[("eth0", nic), ("gone", &[("type", "none")])]);
        let limited = [nic, &[("limits.max", "1Mbit"), ("user.x", "1")]].concat();
        let new = expanded(&[], &[("eth0", &limited), ("eth1", nic)]);
        let c = diff(&old, &new, InstanceType::Container);
        assert_eq!(c.devices.updated.keys().collect::<Vec<_>>(), ["eth0"]);
        assert_eq!(c.devices.removed.keys().collect::<Vec<_>>(), ["gone"]);
        assert_eq!(c.devices.added.keys().collect::<Vec<_>>(), ["eth1"]);
        assert!(c.cloud_init, "a NIC more");
        let moved = [nic, &[("hwaddr", "10:66:6a:00:00:01")]].concat();
        let c = diff(&old, &expanded(&[], &[("eth0", &moved), ("gone", &[("type", "none")])]), InstanceType::Container);
        assert!(c.devices.updated.is_empty() && c.devices.removed.len() == 1 && c.devices.added.len() == 1);
    }

    #[test]
    fn limits_of_disks_have_something_done() {
        let data: &[(&str, &str)] = &[("type", "disk"), ("source", "/srv"), ("path", "/d")];
        let with = |more: &[(&str, &str)]| expanded(&[], &[("d", &[data, more].concat())]);
        let act = |old: &Expanded, new: &Expanded| diff(old, new, InstanceType::Container);
        let (free, limited) = (with(&[]), with(&[("limits.read", "1MB")]));
        let none = expanded(&[], &[]);
        for (old, new) in [(&free, &limited), (&limited, &free), (&none, &limited), (&limited, &none)] {
            assert_eq!(act(old, new).actions, [Action::DiskLimits].into());
        }
        let changes = act(&limited, &with(&[("limits.max", "1MB,5iops")]));
        assert_eq!((changes.devices.updated.len(), changes.actions.len()), (1, 1));
        let noted = with(&[("limits.read", "1MB"), ("user.x", "1")]);
        for (old, new) in [(&limited, &noted), (&none, &free), (&free, &none)] {
            assert!(act(old, new).actions.is_empty());
        }
        let moved = act(&limited, &with(&[("limits.read", "1MB"), ("source", "/var")]));
        assert_eq!((moved.devices.removed.len(), moved.actions.len()), (1, 1));
    }

    #[test]
    fn some_changes_are_refused() {
        let old = expanded(&[], &[]);
        let moved = Expanded {
            config: Config::new(),
            devices: devices(&[("root", &[("type", "disk"), ("path", "/"), ("pool", "q")])]),
        };
        let check =
            |new: &Expanded| diff(&old, new, InstanceType::Container).check(&old, new).map_err(|e| e.to_string());
        assert_eq!(check(&moved), Err("Cannot update root disk device pool name to \"q\"".into()));
        let bare = Expanded::default();
        assert_eq!(check(&bare), Err("Invalid root disk device: No root device could be found".into()));
        let initial = expanded(
            &[],
            &[("d", &[("type", "disk"), ("source", "v"), ("pool", "p"), ("path", "/d"), ("initial.uid", "1")])],
        );
        assert!(check(&initial).expect_err("initial").starts_with("New device with initial"));
        let tmpfs =
            expanded(&[], &[("d", &[("type", "disk"), ("source", "tmpfs:"), ("path", "/d"), ("initial.uid", "1")])]);
        assert!(check(&tmpfs).is_ok());
        let gpu = expanded(&[], &[("g", &[("type", "gpu"), ("gputype", "mig"), ("mig.uuid", "x")])]);
        let e = diff(&old, &gpu, InstanceType::Container).check_running().expect_err("no hotplug");
        assert_eq!(e.to_string(), "Failed to start device \"g\": Device cannot be started when instance is running");
        assert!(diff(&gpu, &old, InstanceType::Container).check_running().is_err());
    }
}
