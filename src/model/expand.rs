//! What counts for an instance: its profiles in their order, then its own configuration and devices.

use crate::model::image::Image;
use crate::model::instance::{Config, Device, Devices, Instance, Volatile};
use crate::model::keys;
use crate::model::keys::device::{self, disk, nic};
use crate::model::profile::Profile;
use std::cmp::Ordering;

/// Configuration and devices that count.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Expanded {
    /// Configuration.
    pub config: Config,
    /// Devices.
    pub devices: Devices,
}

impl Expanded {
    /// Adds what the program filled in, as Incus's objects show it.
    #[must_use]
    pub fn with_volatile(mut self, volatile: &Volatile) -> Self {
        self.config.extend(volatile.config.clone());
        self
    }
}

/// Expands an instance. `profiles`: name and record, in the instance's order. A later profile, and at last the instance,
/// replaces a key or a whole device of an earlier one. `image.*` keys are an instance's own, never a profile's.
pub fn expand(profiles: &[(&str, &Profile)], instance: &Instance) -> Expanded {
    let mut all = Expanded::default();
    for (_, profile) in profiles {
        let own = |name: &str| name.starts_with(keys::IMAGE.name) || keys::is_volatile(name);
        all.config.extend(profile.config.iter().filter(|(k, _)| !own(k)).map(|(k, v)| (k.clone(), v.clone())));
        all.devices.extend(profile.devices.iter().map(|(name, d)| (name.clone(), without_empty(d))));
    }
    all.config.extend(instance.config.clone());
    all.devices.extend(instance.devices.iter().map(|(name, d)| (name.clone(), without_empty(d))));
    all
}

fn without_empty(device: &Device) -> Device {
    device.iter().filter(|(_, v)| !v.is_empty()).map(|(k, v)| (k.clone(), v.clone())).collect()
}

/// The `image.*` keys a new instance gets. Whatever an image says becomes data below that prefix and nothing else
/// (CVE-2026-40226); properties that make no valid key are left out.
pub fn image_config(image: &Image) -> Config {
    let entries = image.properties.iter().map(|(k, v)| (keys::IMAGE.of(k), v.clone()));
    entries.filter(|(k, v)| keys::check(k, v, None).is_ok()).collect()
}

/// A new instance takes over its root disk from a profile if that has `initial.*` options, so that a later change of the profile does
/// not change what was created. `expanded`: its devices with those of the profiles.
pub fn keep_initial(local: &mut Devices, expanded: &Devices) {
    for (name, device) in expanded.iter().filter(|(_, device)| device::is_root_disk(device)) {
        if device.keys().any(|key| key.starts_with(device::INITIAL.name)) && !local.contains_key(name) {
            local.insert(name.clone(), device.clone());
        }
    }
}

/// Parts a configuration as users see it into what they said and what the program keeps.
pub fn split_volatile(config: Config) -> (Config, Config) {
    let (volatile, own) = config.into_iter().partition(|(k, _)| keys::is_volatile(k));
    (own, volatile)
}

/// Devices in the order they start: NICs first (nested ones after the others), then disks by path from the root on, then the
/// rest by type. Stopping goes the other way round.
pub fn start_order(devices: &Devices) -> Vec<(&str, &Device)> {
    let mut list: Vec<(&str, &Device)> = devices.iter().map(|(n, d)| (n.as_str(), d)).collect();
    list.sort_by(|a, b| order(a.1, b.1).then_with(|| a.0.cmp(b.0)));
    list
}

fn order(a: &Device, b: &Device) -> Ordering {
    let (a_type, b_type) = (device::device_type(a), device::device_type(b));
    let rank = |t: &str| match t {
        "nic" => 0,
        "disk" => 1,
        _ => 2,
    };
    // Types in falling order, as Incus has it.
    let by_type = rank(a_type).cmp(&rank(b_type)).then_with(|| b_type.cmp(a_type));
    by_type.then_with(|| match a_type {
        "nic" => nic::NESTED.get(a).is_some().cmp(&nic::NESTED.get(b).is_some()),
        "disk" => {
            let path = |d: &Device| (disk::PATH.text(d) != "/", disk::PATH.text(d).to_string());
            path(a).cmp(&path(b))
        }
        _ => Ordering::Equal,
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::model::instance::InstanceType;

    pub(crate) fn map(entries: &[(&str, &str)]) -> Config {
        entries.iter().map(|(k, v)| ((*k).to_string(), (*v).to_string())).collect()
    }

    pub(crate) fn devices(entries: &[(&str, &[(&str, &str)])]) -> Devices {
        entries.iter().map(|(name, d)| ((*name).to_string(), map(d))).collect()
    }

    pub(crate) fn instance(config: &[(&str, &str)], devices_: &[(&str, &[(&str, &str)])]) -> Instance {
        Instance {
            format: 1,
            kind: InstanceType::Container,
            architecture: "x86_64".into(),
            description: String::new(),
            ephemeral: false,
            stateful: false,
            created_at: jiff::Timestamp::UNIX_EPOCH,
            profiles: vec!["default".into()],
            config: map(config),
            devices: devices(devices_),
            root: Default::default(),
            volatile: None,
        }
    }

    pub(crate) fn profile(config: &[(&str, &str)], devices_: &[(&str, &[(&str, &str)])]) -> Profile {
        Profile { format: 1, description: String::new(), config: map(config), devices: devices(devices_) }
    }

    #[test]
    fn later_wins_and_devices_replace() {
        let a = profile(
            &[("limits.cpu", "1"), ("user.a", "a"), ("image.os", "x")],
            &[("eth0", &[("type", "nic"), ("network", "n"), ("mtu", "")])],
        );
        let b = profile(&[("limits.cpu", "2")], &[("root", &[("type", "disk"), ("path", "/"), ("pool", "p")])]);
        let i = instance(
            &[("limits.memory", "1GiB")],
            &[("root", &[("type", "disk"), ("path", "/"), ("pool", "q"), ("size", "5GiB")])],
        );
        let e = expand(&[("a", &a), ("b", &b)], &i);
        assert_eq!(e.config, map(&[("limits.cpu", "2"), ("limits.memory", "1GiB"), ("user.a", "a")]));
        assert_eq!(e.devices["eth0"], map(&[("type", "nic"), ("network", "n")]));
        assert_eq!(e.devices["root"]["pool"], "q");
        assert_eq!(expand(&[("b", &b), ("a", &a)], &i).config["limits.cpu"], "1");
    }

    #[test]
    fn starts_in_order() {
        let d = devices(&[
            ("a-unix1", &[("type", "unix-char")]),
            ("a-usb", &[("type", "usb")]),
            ("b-disk1", &[("type", "disk"), ("path", "/foo/bar")]),
            ("b-disk2", &[("type", "disk"), ("path", "/foo")]),
            ("b-disk3", &[("type", "disk"), ("path", "/")]),
            ("a-nested", &[("type", "nic"), ("nested", "x")]),
            ("z-nic", &[("type", "nic")]),
        ]);
        let names: Vec<&str> = start_order(&d).into_iter().map(|(n, _)| n).collect();
        assert_eq!(names, ["z-nic", "a-nested", "b-disk3", "b-disk2", "b-disk1", "a-usb", "a-unix1"]);
    }

    #[test]
    fn initial_options_come_along() {
        let all = devices(&[
            ("root", &[("type", "disk"), ("path", "/"), ("pool", "p"), ("initial.mode", "0700")]),
            ("tmp", &[("type", "disk"), ("path", "/tmp"), ("source", "tmpfs:"), ("initial.mode", "0700")]),
        ]);
        let mut taken = Devices::new();
        keep_initial(&mut taken, &all);
        assert_eq!(taken.keys().collect::<Vec<_>>(), ["root"]);
        let own = devices(&[("root", &[("type", "disk"), ("path", "/"), ("pool", "q")])]);
        let mut kept = own.clone();
        keep_initial(&mut kept, &all);
        assert_eq!(kept, own);
        let (own, volatile) = split_volatile(map(&[("user.a", "1"), ("volatile.uuid", "2")]));
        assert_eq!((own, volatile), (map(&[("user.a", "1")]), map(&[("volatile.uuid", "2")])));
    }

    /// Row CVE-2026-40226: an image that carries every key changes nothing but `image.*`.
    #[test]
    fn images_carry_data_only() {
        let mut properties: Config = keys::all().map(|k| (k.of("x"), "true".to_string())).collect();
        properties.insert("os".into(), "Debian".into());
        properties.insert("bad\nkey".into(), "x".into());
        properties.insert("note".into(), "\u{1b}[2J".into());
        let image = Image {
            content: None,
            format: 1,
            kind: InstanceType::Container,
            architecture: "x86_64".into(),
            size: 0,
            filename: String::new(),
            split: false,
            public: false,
            cached: false,
            auto_update: false,
            created_at: jiff::Timestamp::UNIX_EPOCH,
            uploaded_at: jiff::Timestamp::UNIX_EPOCH,
            expires_at: None,
            last_used_at: None,
            source: None,
            profiles: Vec::new(),
            properties,
        };
        let config = image_config(&image);
        assert_eq!(config["image.os"], "Debian");
        assert!(config.keys().all(|k| k.starts_with("image.")) && !config.contains_key("image.note"));
        assert!(!config.contains_key("image.bad\nkey"));
        let evil = profile(&[("image.os", "evil"), ("volatile.uuid", "1")], &[]);
        assert!(expand(&[("evil", &evil)], &instance(&[], &[])).config.is_empty());
    }
}
