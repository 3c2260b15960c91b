//! Properties of objects by name: `config get --property`, `set --property`, `unset --property`.
//!
//! Incus finds the field by the name it has in the object, in any case, and prints it as Go's `%v` does.

use super::{InstancePut, NetworkPut, PoolPut, ProfilePut, ProjectPut};
use crate::base::time::{self, GoTime};
use crate::error::{Error, Result};
use crate::model::instance::{Config, Devices};

/// A field of an object that can be written.
#[derive(Debug)]
pub enum Field<'a> {
    /// Text.
    Text(&'a mut String),
    /// Yes or no.
    Bool(&'a mut bool),
    /// A list of names.
    List(&'a mut Vec<String>),
    /// A configuration.
    Config(&'a mut Config),
    /// Devices.
    Devices(&'a mut Devices),
    /// A time, or none.
    Time(&'a mut GoTime),
}

/// An object with properties.
pub trait Properties {
    /// The field called `name` in any case.
    fn field(&mut self, name: &str) -> Option<Field<'_>>;
}

impl Properties for InstancePut {
    fn field(&mut self, name: &str) -> Option<Field<'_>> {
        Some(match name.to_ascii_lowercase().as_str() {
            "architecture" => Field::Text(&mut self.architecture),
            "config" => Field::Config(&mut self.config),
            "devices" => Field::Devices(&mut self.devices),
            "ephemeral" => Field::Bool(&mut self.ephemeral),
            "profiles" => Field::List(&mut self.profiles),
            "restore" => Field::Text(&mut self.restore),
            "disk_only" => Field::Bool(&mut self.disk_only),
            "stateful" => Field::Bool(&mut self.stateful),
            "description" => Field::Text(&mut self.description),
            _ => return None,
        })
    }
}

impl Properties for ProfilePut {
    fn field(&mut self, name: &str) -> Option<Field<'_>> {
        Some(match name.to_ascii_lowercase().as_str() {
            "config" => Field::Config(&mut self.config),
            "description" => Field::Text(&mut self.description),
            "devices" => Field::Devices(&mut self.devices),
            _ => return None,
        })
    }
}

impl Properties for NetworkPut {
    fn field(&mut self, name: &str) -> Option<Field<'_>> {
        Some(match name.to_ascii_lowercase().as_str() {
            "config" => Field::Config(&mut self.config),
            "description" => Field::Text(&mut self.description),
            _ => return None,
        })
    }
}

impl Properties for PoolPut {
    fn field(&mut self, name: &str) -> Option<Field<'_>> {
        Some(match name.to_ascii_lowercase().as_str() {
            "config" => Field::Config(&mut self.config),
            "description" => Field::Text(&mut self.description),
            _ => return None,
        })
    }
}

impl Properties for ProjectPut {
    fn field(&mut self, name: &str) -> Option<Field<'_>> {
        Some(match name.to_ascii_lowercase().as_str() {
            "config" => Field::Config(&mut self.config),
            "description" => Field::Text(&mut self.description),
            _ => return None,
        })
    }
}

fn find<'a>(object: &'a mut dyn Properties, name: &str) -> Result<Field<'a>> {
    let missing = || Error::not_found(format!("The property with tag {name:?} does not exist"));
    object.field(name).ok_or_else(missing)
}

/// The property `name`, as Go's `%v` prints it.
///
/// # Errors
/// [`crate::error::Kind::NotFound`].
pub fn get(object: &mut dyn Properties, name: &str) -> Result<String> {
    Ok(match find(object, name)? {
        Field::Text(text) => text.clone(),
        Field::Bool(on) => on.to_string(),
        Field::Time(at) => time::rfc3339(at.0),
        Field::List(names) => format!("[{}]", names.join(" ")),
        Field::Config(config) => map(config),
        Field::Devices(devices) => {
            let each: Vec<String> = devices.iter().map(|(name, device)| format!("{name}:{}", map(device))).collect();
            format!("map[{}]", each.join(" "))
        }
    })
}

fn map(config: &Config) -> String {
    let pairs: Vec<String> = config.iter().map(|(k, v)| format!("{k}:{v}")).collect();
    format!("map[{}]", pairs.join(" "))
}

/// Sets the property `name`.
///
/// # Errors
/// There is none of that name, it is neither text nor a boolean, or the value is no boolean.
pub fn set(object: &mut dyn Properties, name: &str, value: &str) -> Result<()> {
    match find(object, name)? {
        Field::Text(text) => *text = value.to_string(),
        Field::Time(at) => *at = GoTime(time::parse_rfc3339(value)?),
        Field::Bool(on) => {
            *on = match value.to_ascii_lowercase().as_str() {
                "1" | "t" | "true" => true,
                "0" | "f" | "false" => false,
                other => return Err(Error::invalid(format!("Invalid boolean value: {other}"))),
            }
        }
        _ => return Err(Error::invalid(format!("The property {name:?} can only be changed with \"edit\""))),
    }
    Ok(())
}

/// Sets the property `name` to its zero value; lists and maps stay as they are, as in Incus.
///
/// # Errors
/// There is none of that name.
pub fn unset(object: &mut dyn Properties, name: &str) -> Result<()> {
    match find(object, name)? {
        Field::Text(text) => text.clear(),
        Field::Bool(on) => *on = false,
        Field::Time(at) => *at = GoTime(None),
        Field::List(_) | Field::Config(_) | Field::Devices(_) => {}
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_and_writes_by_name() {
        let mut put = InstancePut { profiles: vec!["a".into(), "b".into()], ..InstancePut::default() };
        put.config.insert("user.x".into(), "1".into());
        put.devices.insert("root".into(), [("type".to_string(), "disk".to_string())].into());
        set(&mut put, "Description", "hello").expect("text");
        set(&mut put, "ephemeral", "T").expect("bool");
        let mut show = |name: &str| get(&mut put, name).map_err(|e| e.to_string());
        assert_eq!(show("description").as_deref(), Ok("hello"));
        assert_eq!(show("EPHEMERAL").as_deref(), Ok("true"));
        assert_eq!(show("profiles").as_deref(), Ok("[a b]"));
        assert_eq!(show("config").as_deref(), Ok("map[user.x:1]"));
        assert_eq!(show("devices").as_deref(), Ok("map[root:map[type:disk]]"));
        assert_eq!(show("x"), Err("The property with tag \"x\" does not exist".into()));
        unset(&mut put, "ephemeral").expect("unset");
        assert!(!put.ephemeral && set(&mut put, "profiles", "x").is_err());
        assert_eq!(set(&mut put, "stateful", "maybe").expect_err("no").to_string(), "Invalid boolean value: maybe");
        let mut profile = ProfilePut::default();
        assert!(set(&mut profile, "description", "d").is_ok() && set(&mut profile, "ephemeral", "1").is_err());
    }
}
