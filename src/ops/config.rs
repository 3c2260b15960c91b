//! `config` without devices: reading and changing the keys and properties of an instance, and those of the server.

use super::network::zone_server;
use super::update::{self, Edit};
use super::{load, status};
use crate::base::names::{InstanceName, ProjectName};
use crate::base::yaml;
use crate::error::{Context, Error, Result};
use crate::model::instance::Config;
use crate::model::keys::{self, server::DNS_ADDRESS};
use crate::model::profile::Profile;
use crate::model::view::{InstanceParts, InstancePut, InstanceView, ServerPut, property};
use crate::store::{Action, Store, journal};

/// Which instance.
pub type Who<'a> = (&'a ProjectName, &'a InstanceName);

/// An instance as users see it.
///
/// # Errors
/// Not found; a record is damaged.
pub fn view(store: &Store, who: Who<'_>) -> Result<InstanceView> {
    let instance = store.instance(who.0, who.1)?.ok_or_else(load::not_found)?;
    let volatile = store.volatile_of(who.0, who.1, &instance)?;
    let profiles = load::profiles(store, who.0, &instance.profiles)?;
    let profiles: Vec<(&str, &Profile)> = profiles.iter().map(|(n, p)| (n.as_str(), p)).collect();
    Ok(InstanceView::new(InstanceParts {
        project: who.0,
        name: who.1,
        instance: &instance,
        volatile: &volatile,
        profiles: &profiles,
        status: status::of(store, who.0, who.1)?.status,
    }))
}

/// The instance without what its profiles add, as `config edit` shows it.
///
/// # Errors
/// As [`view`].
pub fn editable(store: &Store, who: Who<'_>) -> Result<String> {
    let mut view = view(store, who)?;
    view.expanded_config.clear();
    view.expanded_devices.clear();
    yaml::to_string(&view)
}

/// The value of a key, empty if it is not set.
///
/// # Errors
/// As [`view`].
pub fn get(store: &Store, who: Who<'_>, key: &str, expanded: bool) -> Result<String> {
    let view = view(store, who)?;
    let config = if expanded { &view.expanded_config } else { &view.put.config };
    Ok(config.get(key).cloned().unwrap_or_default())
}

/// A property.
///
/// # Errors
/// As [`view`]; there is no such property.
pub fn property(store: &Store, who: Who<'_>, name: &str) -> Result<String> {
    let mut put = view(store, who)?.put;
    property::get(&mut put, name)
        .map_err(|e| e.context(format!("The property {name:?} does not exist on the instance \"{}\"", who.1)))
}

/// A change of keys or of properties.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Set these.
    Set(Vec<(String, String)>),
    /// Unset these.
    Unset(Vec<String>),
}

/// Changes keys, all or none.
///
/// # Errors
/// As [`update::update`]; a key to be unset is not set.
pub fn keys(store: &Store, who: Who<'_>, change: &Change) -> Result<()> {
    update::update(store, who.0, who.1, &mut |edit: &mut Edit<'_>| change_config(&mut edit.put.config, change))
}

fn change_config(config: &mut Config, change: &Change) -> Result<()> {
    match change {
        Change::Set(pairs) => config.extend(pairs.iter().cloned()),
        Change::Unset(names) => {
            for name in names {
                let missing = || Error::invalid(format!("Can't unset key '{name}', it's not currently set"));
                config.remove(name).ok_or_else(missing)?;
            }
        }
    }
    Ok(())
}

/// Changes properties of an object, all or none.
///
/// # Errors
/// See [`property`].
pub fn change_properties(object: &mut dyn property::Properties, change: &Change) -> Result<()> {
    match change {
        Change::Set(pairs) => pairs
            .iter()
            .try_for_each(|(name, value)| property::set(object, name, value))
            .map_err(|e| e.context("Error setting properties")),
        Change::Unset(names) => names
            .iter()
            .try_for_each(|name| property::unset(object, name))
            .map_err(|e| e.context("Error unsetting properties")),
    }
}

/// Changes properties of an instance.
///
/// # Errors
/// As [`update::update`] and [`change_properties`].
pub fn properties(store: &Store, who: Who<'_>, change: &Change) -> Result<()> {
    update::update(store, who.0, who.1, &mut |edit: &mut Edit<'_>| change_properties(&mut edit.put, change))
}

/// Replaces all that can be written, by a YAML document; an empty one is an instance without anything.
///
/// # Errors
/// It is no such document; as [`update::update`].
pub fn replace(store: &Store, who: Who<'_>, document: &str) -> Result<()> {
    let put: InstancePut = document_of(document)?;
    update::update(store, who.0, who.1, &mut |edit: &mut Edit<'_>| {
        edit.put = put.clone();
        Ok(())
    })
}

/// Reads a document; nothing in it is the default.
///
/// # Errors
/// It is not of that form.
pub fn document_of<T: serde::de::DeserializeOwned + Default>(text: &str) -> Result<T> {
    match text.lines().all(|l| l.trim().is_empty() || l.trim_start().starts_with('#')) {
        true => Ok(T::default()),
        false => yaml::from_str(text).context("Invalid YAML"),
    }
}

/// What of the server can be written.
///
/// # Errors
/// The record is damaged.
pub fn server(store: &Store) -> Result<ServerPut> {
    Ok(ServerPut { config: store.server()?.config })
}

/// Changes keys of the server, all or none; unsetting what is not set is fine.
///
/// # Errors
/// An unknown key or a wrong value.
pub fn server_keys(store: &Store, change: &Change) -> Result<()> {
    let lock = store.lock_server("update")?;
    let mut server = store.server()?;
    match change {
        Change::Set(pairs) => server.config.extend(pairs.iter().cloned()),
        Change::Unset(names) => names.iter().for_each(|n| drop(server.config.remove(n))),
    }
    save_server(store, &lock, server)
}

/// Replaces the server's configuration by a YAML document.
///
/// # Errors
/// As [`server_keys`].
pub fn replace_server(store: &Store, document: &str) -> Result<()> {
    let put: ServerPut = document_of(document)?;
    let lock = store.lock_server("update")?;
    let mut server = store.server()?;
    server.config = put.config;
    save_server(store, &lock, server)
}

type ServerLock = crate::store::Held<crate::store::lock::ServerKey, crate::store::lock::Exclusive>;

fn save_server(store: &Store, lock: &ServerLock, mut server: crate::store::types::Server) -> Result<()> {
    keys::validate_server(&server.config)?;
    server.config.retain(|_, v| !v.is_empty());
    crate::fault::point("config.server")?;
    let before = store.server()?;
    if before.config.get(DNS_ADDRESS) == server.config.get(DNS_ADDRESS) {
        store.save_server(lock, &server)?;
    } else {
        journal::run(store, "update", &[lock], |journal| {
            journal.undo(Action::RenewZones)?;
            store.save_server(lock, &server)?;
            zone_server::renew(store).map(drop).map_err(|e| {
                let back = store.save_server(lock, &before);
                back.err().into_iter().fold(e, Error::and)
            })
        })?;
    }
    let event = crate::store::events::Event::lifecycle("config-updated", "/1.0", "", serde_json::Value::Null);
    let _ = crate::store::events::append(store, &event);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unsetting_takes_what_is_set() {
        let mut config = Config::from([("user.a".to_string(), "1".to_string())]);
        let e = change_config(&mut config, &Change::Unset(vec!["user.b".into()])).expect_err("not set");
        assert_eq!(e.to_string(), "Can't unset key 'user.b', it's not currently set");
        change_config(&mut config, &Change::Set(vec![("user.b".into(), "x=y".into())])).expect("set");
        change_config(&mut config, &Change::Unset(vec!["user.a".into()])).expect("unset");
        assert_eq!(config.into_iter().collect::<Vec<_>>(), [("user.b".to_string(), "x=y".to_string())]);
    }

    #[test]
    fn documents() {
        assert_eq!(document_of::<InstancePut>("# only\n\n").expect("empty"), InstancePut::default());
        let put: InstancePut = document_of("config:\n  user.a: 1\nname: shown\n").expect("document");
        assert_eq!(put.config["user.a"], "1");
        assert!(document_of::<InstancePut>("- a\n").is_err());
    }
}
