//! Devices of instances and profiles: the same edits on a set of devices, with the messages of Incus.
//!
//! Called by `config device` (through [`super::update`]) and `profile device` (through [`super::profile`]).

use crate::error::{Error, Result};
use crate::model::instance::{Device, Devices};
use crate::model::keys::device::TYPE;

/// A change of devices.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Adds `name` of type `kind`.
    Add {
        /// Its name.
        name: String,
        /// Its type.
        kind: String,
        /// Its options.
        values: Vec<(String, String)>,
    },
    /// Copies `name` from the profiles, with other options.
    Override {
        /// Its name.
        name: String,
        /// Options over those of the profiles.
        values: Vec<(String, String)>,
    },
    /// Removes devices.
    Remove {
        /// Their names.
        names: Vec<String>,
    },
    /// Sets options.
    Set {
        /// The device.
        name: String,
        /// Options; an empty value takes one away.
        values: Vec<(String, String)>,
    },
    /// Takes options away.
    Unset {
        /// The device.
        name: String,
        /// Options.
        keys: Vec<String>,
    },
}

/// Does `change` to `devices`. `expanded`: for an instance, its devices with those of its profiles.
///
/// # Errors
/// A device is there that should not be, or the other way round.
pub fn apply(devices: &mut Devices, expanded: Option<&Devices>, change: &Change) -> Result<()> {
    match change {
        Change::Add { name, kind, values } => {
            absent(devices, name)?;
            let mut device = with(Device::new(), values);
            device.insert(TYPE.name.to_string(), kind.clone());
            devices.insert(name.clone(), device);
        }
        Change::Override { name, values } => {
            absent(devices, name)?;
            let inherited = expanded.and_then(|all| all.get(name));
            let inherited = inherited.ok_or_else(|| Error::not_found("The profile device doesn't exist"))?;
            devices.insert(name.clone(), with(inherited.clone(), values));
        }
        Change::Remove { names } => return remove(devices, expanded, names),
        Change::Set { name, values } => {
            let device = own(devices, expanded, name, "modified")?;
            *device = with(std::mem::take(device), values);
        }
        Change::Unset { name, keys } => {
            let device = own(devices, expanded, name, "modified")?;
            device.retain(|k, _| !keys.contains(k));
        }
    }
    Ok(())
}

/// One option of a device, empty if it is not set.
///
/// # Errors
/// There is no such device, or it is a profile's.
pub fn get(devices: &Devices, expanded: Option<&Devices>, name: &str, key: &str) -> Result<String> {
    match devices.get(name) {
        Some(device) => Ok(device.get(key).cloned().unwrap_or_default()),
        None if expanded.is_some_and(|all| all.contains_key(name)) => {
            Err(Error::invalid("Device from profile(s) cannot be retrieved for individual instance"))
        }
        None => Err(Error::not_found("Device doesn't exist")),
    }
}

fn with(mut device: Device, values: &[(String, String)]) -> Device {
    device.extend(values.iter().cloned());
    device.retain(|_, v| !v.is_empty());
    device
}

fn absent(devices: &Devices, name: &str) -> Result<()> {
    if devices.contains_key(name) { Err(Error::exists("The device already exists")) } else { Ok(()) }
}

fn own<'a>(devices: &'a mut Devices, expanded: Option<&Devices>, name: &str, done: &str) -> Result<&'a mut Device> {
    let inherited = expanded.is_some_and(|all| all.contains_key(name));
    devices.get_mut(name).ok_or_else(|| match inherited {
        true => Error::invalid(format!(
            "Device from profile(s) cannot be {done} for individual instance. Override device or modify profile instead"
        )),
        false => Error::not_found("Device doesn't exist"),
    })
}

/// All or none; every wrong name is told.
fn remove(devices: &mut Devices, expanded: Option<&Devices>, names: &[String]) -> Result<()> {
    let wrong = |name: &String| match expanded.is_some_and(|all| all.contains_key(name)) {
        true => Error::invalid(format!(
            "Device from profile(s) cannot be removed from individual instance. Override device “{name}” or modify profile instead"
        )),
        false => Error::not_found(format!("Device “{name}” doesn't exist")),
    };
    let errors = names.iter().filter(|name| devices.remove(*name).is_none()).map(wrong).collect();
    Error::join(errors).map_or(Ok(()), Err)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::expand::tests::devices;

    fn pairs(list: &[(&str, &str)]) -> Vec<(String, String)> {
        list.iter().map(|(k, v)| ((*k).to_string(), (*v).to_string())).collect()
    }

    fn does(own: &mut Devices, all: Option<&Devices>, change: Change) -> String {
        apply(own, all, &change).map_or_else(|e| e.to_string(), |()| "ok".into())
    }

    #[test]
    fn messages_of_incus() {
        let root: (&str, &[(&str, &str)]) = ("root", &[("type", "disk"), ("path", "/"), ("pool", "p")]);
        let all = devices(&[root, ("d", &[("type", "disk"), ("path", "/d"), ("source", "/x")])]);
        let mut own = devices(&[("d", &[("type", "disk"), ("path", "/d"), ("source", "/x")])]);
        let set = |name: &str, list: &[(&str, &str)]| Change::Set { name: name.into(), values: pairs(list) };
        let add = |name: &str| Change::Add { name: name.into(), kind: "none".into(), values: vec![] };
        assert_eq!(does(&mut own, Some(&all), add("d")), "The device already exists");
        assert_eq!(does(&mut own, Some(&all), set("x", &[("a", "b")])), "Device doesn't exist");
        let from_profile = does(&mut own, Some(&all), set("root", &[("size", "1GiB")]));
        assert!(from_profile.starts_with("Device from profile(s) cannot be modified"), "{from_profile}");
        let over = |name: &str| Change::Override { name: name.into(), values: pairs(&[("size", "5GiB")]) };
        assert_eq!(does(&mut own, Some(&all), over("x")), "The profile device doesn't exist");
        assert_eq!(does(&mut own, Some(&all), over("root")), "ok");
        assert_eq!((own["root"]["size"].as_str(), own["root"]["pool"].as_str()), ("5GiB", "p"));
        assert_eq!(does(&mut own, Some(&all), set("d", &[("readonly", "true"), ("source", "")])), "ok");
        assert!(!own["d"].contains_key("source"));
        let unset = Change::Unset { name: "d".into(), keys: vec!["readonly".into()] };
        assert_eq!(does(&mut own, Some(&all), unset), "ok");
        assert_eq!(get(&own, Some(&all), "d", "readonly").expect("unset"), "");
        let gone = Change::Remove { names: vec!["d".into(), "x".into()] };
        assert_eq!(does(&mut own, None, gone), "Device “x” doesn't exist");
        assert_eq!(does(&mut own, None, add("n")), "ok");
        assert_eq!(own["n"], Device::from([("type".to_string(), "none".to_string())]));
    }
}
