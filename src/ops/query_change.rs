//! `query -X POST|PUT|PATCH|DELETE`: what changes objects by the addresses of Incus's API. One table says which function of `ops` does
//! it; nothing is done here that a command does not do.

use super::config::{self, document_of};
use super::query::{self, Asked, Request};
use super::update::{self, Edit};
use super::volume::{self, Of};
use super::{
    copy, create, delete, features, image, image_alias, network, profile, profile_change, project_change, rename,
    restore, snapshot, start, stop, storage,
};
use crate::base::names::{
    AliasName, Fingerprint, InstanceName, NetworkName, PoolName, ProfileName, ProjectName, SnapshotName, VolumeName,
};
use crate::error::{Error, Result};
use crate::model::instance::Devices;
use crate::model::network::NetworkType;
use crate::model::view::{InstancePut, NetworkPut, PoolPut, ProfilePut, ProjectPut, VolumePut};
use crate::model::volume::ContentType;
use crate::store::Store;
use serde_json::Value;
use std::time::Duration;

/// One change.
struct Change<'a> {
    store: &'a Store,
    request: &'a Request<'a>,
    project: ProjectName,
    /// It is laid over what is there.
    patch: bool,
    body: &'a Value,
}

type Act = fn(&Change<'_>, &[&str]) -> Result<()>;

/// Method, address behind `/1.0/`, whether Incus makes an operation of it, and what does it. `*` is given to that.
static TABLE: &[(&str, &str, bool, Act)] = &[
    ("POST", "instances", true, create_instance),
    ("PUT", "instances/*", true, change_instance),
    ("POST", "instances/*", true, rename_instance),
    ("DELETE", "instances/*", true, |c, a| delete::delete(c.store, &c.project, &named(a[0])?, false).map(drop)),
    ("PUT", "instances/*/state", true, change_state),
    ("POST", "instances/*/snapshots", true, create_snapshot),
    ("POST", "instances/*/snapshots/*", true, |c, a| {
        let (from, to) = (SnapshotName::parse(a[1])?, SnapshotName::parse(c.text("name"))?);
        snapshot::rename(c.store, (&c.project, &named(a[0])?), &from, &to)
    }),
    ("DELETE", "instances/*/snapshots/*", true, |c, a| {
        snapshot::delete(c.store, (&c.project, &named(a[0])?), &[SnapshotName::parse(a[1])?])
    }),
    ("DELETE", "images/*", true, |c, a| image::delete(c.store, &Fingerprint::parse(a[0])?)),
    ("POST", "images/aliases", false, |c, _| {
        image_alias::create(c.store, &AliasName::parse(c.text("name"))?, c.text("target"), c.text("description"))
    }),
    ("POST", "images/aliases/*", false, |c, a| {
        image_alias::rename(c.store, &AliasName::parse(a[0])?, &AliasName::parse(c.text("name"))?)
    }),
    ("DELETE", "images/aliases/*", false, |c, a| image_alias::delete(c.store, &AliasName::parse(a[0])?)),
    ("POST", "profiles", false, |c, _| {
        profile::create(c.store, &c.project, &ProfileName::parse(c.text("name"))?, &document_of(&c.document()?)?)
    }),
    ("PUT", "profiles/*", false, |c, a| {
        let put: ProfilePut = document_of(&c.document()?)?;
        profile_change::update(c.store, &c.project, &ProfileName::parse(a[0])?, &mut |old| set(old, &put))
    }),
    ("POST", "profiles/*", false, |c, a| {
        profile::rename(c.store, &c.project, &ProfileName::parse(a[0])?, &ProfileName::parse(c.text("name"))?)
    }),
    ("DELETE", "profiles/*", false, |c, a| profile::delete(c.store, &c.project, &ProfileName::parse(a[0])?)),
    ("POST", "projects", false, |c, _| {
        project_change::create(c.store, &ProjectName::parse(c.text("name"))?, &document_of(&c.document()?)?)
    }),
    ("PUT", "projects/*", false, |c, a| {
        let put: ProjectPut = document_of(&c.document()?)?;
        project_change::update(c.store, &ProjectName::parse(a[0])?, &mut |old| set(old, &put))
    }),
    ("POST", "projects/*", true, |c, a| {
        project_change::rename(c.store, &ProjectName::parse(a[0])?, &ProjectName::parse(c.text("name"))?)
    }),
    ("DELETE", "projects/*", false, |c, a| project_change::delete(c.store, &ProjectName::parse(a[0])?, false)),
    ("POST", "networks", false, create_network),
    ("PUT", "networks/*", false, |c, a| {
        let put: NetworkPut = document_of(&c.document()?)?;
        network::change::update(c.store, &c.project, &NetworkName::parse(a[0])?, &mut |old| set(old, &put))
    }),
    ("DELETE", "networks/*", false, |c, a| network::change::delete(c.store, &c.project, &NetworkName::parse(a[0])?)),
    ("POST", "storage-pools", false, |c, _| {
        let PoolPut { config, description, .. } = document_of(&c.document()?)?;
        let name = PoolName::parse(c.text("name"))?;
        storage::create(c.store, &storage::Request { name, driver: c.text("driver").into(), description, config })
    }),
    ("PUT", "storage-pools/*", false, |c, a| {
        let put: PoolPut = document_of(&c.document()?)?;
        storage::update(c.store, &PoolName::parse(a[0])?, &mut |old| set(old, &put))
    }),
    ("DELETE", "storage-pools/*", false, |c, a| storage::delete(c.store, &PoolName::parse(a[0])?)),
    ("POST", "storage-pools/*/volumes", false, create_volume),
    ("POST", "storage-pools/*/volumes/custom", false, create_volume),
    ("PUT", "storage-pools/*/volumes/custom/*", false, |c, a| {
        let put: VolumePut = document_of(&c.document()?)?;
        c.volume((a[0], a[1]), |of| volume::change::update(c.store, of, &mut |old| set(old, &put)))
    }),
    ("DELETE", "storage-pools/*/volumes/custom/*", false, |c, a| {
        c.volume((a[0], a[1]), |of| volume::change::delete(c.store, of))
    }),
    ("DELETE", "storage-pools/*/volumes/image/*", false, |c, a| {
        volume::unpacked::delete(c.store, &PoolName::parse(a[0])?, a[1])
    }),
    ("POST", "storage-pools/*/volumes/custom/*/snapshots", true, |c, a| {
        c.volume((a[0], a[1]), |of| {
            volume::snapshot::create(c.store, of, &c.snapshot()?, c.text("description")).map(drop)
        })
    }),
    ("DELETE", "storage-pools/*/volumes/custom/*/snapshots/*", true, |c, a| {
        c.volume((a[0], a[1]), |of| volume::snapshot::delete(c.store, of, &[SnapshotName::parse(a[2])?]))
    }),
    ("PUT", "", false, |c, _| config::replace_server(c.store, &c.document()?)),
];

/// Whether Incus makes an operation of it: its answer is about that then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Done {
    /// It is done, and that is all.
    At,
    /// An operation was made, which is over.
    Operation,
}

/// Changes what is at an address.
///
/// # Errors
/// Unsupported: this is not done to such an address. Invalid: `body`. As the functions of `ops`.
pub fn change(store: &Store, request: &Request<'_>, method: &str, body: &Value) -> Result<Done> {
    let (asked, parts) = query::parse(request)?;
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    let Some(("1.0", rest)) = parts.split_first().map(|(first, rest)| (*first, rest)) else {
        return Err(Error::not_found("Not Found"));
    };
    features::images(store, &asked.project);
    let patch = method == "PATCH";
    let wanted = if patch { "PUT" } else { method };
    for (known, pattern, operation, act) in TABLE {
        if let Some(given) = (*known == wanted).then(|| fits(pattern, rest)).flatten() {
            let Asked { project, .. } = asked;
            act(&Change { store, request, project, patch, body }, &given)?;
            return Ok(if *operation { Done::Operation } else { Done::At });
        }
    }
    Err(Error::unsupported(format!("{method} of \"/{}\" is not supported by this version", parts.join("/")))
        .hint("use the command that changes it"))
}

/// What stands at the `*` of a pattern.
fn fits<'a>(pattern: &str, parts: &[&'a str]) -> Option<Vec<&'a str>> {
    let words: Vec<&str> = pattern.split('/').filter(|word| !word.is_empty()).collect();
    let same = words.len() == parts.len() && words.iter().zip(parts).all(|(word, part)| *word == "*" || word == part);
    same.then(|| words.iter().zip(parts).filter(|(word, _)| **word == "*").map(|(_, part)| *part).collect())
}

fn named(part: &str) -> Result<InstanceName> {
    InstanceName::parse(part).map_err(|_| super::load::not_found())
}

fn set<T: Clone>(old: &mut T, new: &T) -> Result<()> {
    old.clone_from(new);
    Ok(())
}

/// `over` laid over an object: the keys of maps one by one, all else as a whole.
fn merge(object: &mut Value, over: &Value) {
    let (Value::Object(object), Value::Object(over)) = (object, over) else { return };
    for (key, value) in over {
        match (object.get_mut(key), value) {
            (Some(Value::Object(old)), Value::Object(new)) => old.extend(new.clone()),
            _ => drop(object.insert(key.clone(), value.clone())),
        }
    }
}

impl Change<'_> {
    fn text(&self, key: &str) -> &str {
        self.body.get(key).and_then(Value::as_str).unwrap_or_default()
    }

    fn is(&self, key: &str) -> bool {
        self.body.get(key).and_then(Value::as_bool).unwrap_or(false)
    }

    /// All that is to be written, as a document.
    fn document(&self) -> Result<String> {
        if !self.body.is_object() && !self.body.is_null() {
            return Err(Error::invalid("The data are no JSON object"));
        }
        if !self.patch {
            return Ok(if self.body.is_null() { String::new() } else { self.body.to_string() });
        }
        let mut whole = query::get(self.store, self.request)?;
        merge(&mut whole, self.body);
        Ok(whole.to_string())
    }

    fn snapshot(&self) -> Result<snapshot::Request> {
        let expiry = match self.text("expires_at") {
            "" => snapshot::Expiry::Configured,
            date => snapshot::Expiry::parse(date)?,
        };
        let name = Some(self.text("name")).filter(|name| !name.is_empty()).map(SnapshotName::parse).transpose()?;
        Ok(snapshot::Request { name, expiry, reuse: false, scheduled: None })
    }

    fn volume(&self, (pool, name): (&str, &str), act: impl FnOnce(Of<'_>) -> Result<()>) -> Result<()> {
        let name = VolumeName::parse(name).map_err(|_| volume::not_found())?;
        act(Of { project: &self.project, pool: &PoolName::parse(pool)?, name: &name })
    }
}

fn create_instance(c: &Change<'_>, _: &[&str]) -> Result<()> {
    let put: InstancePut = document_of(&c.document()?)?;
    let name = Some(c.text("name")).filter(|name| !name.is_empty()).map(InstanceName::parse).transpose()?;
    let source = c.body.get("source").unwrap_or(&Value::Null);
    let said = |key: &str| source.get(key).and_then(Value::as_str).filter(|text| !text.is_empty());
    let profiles = c.body.get("profiles").is_some_and(Value::is_array).then(|| put.profiles.clone());
    if c.text("type") == "virtual-machine" {
        return Err(Error::unsupported("Virtual machines are not supported by this version"));
    }
    let image = match said("type").unwrap_or("none") {
        "none" => None,
        "image" if said("server").is_some() => {
            return Err(Error::unsupported("Images of servers are fetched by the command: stapes image copy"));
        }
        "image" => {
            let wanted = said("fingerprint").or(said("alias")).unwrap_or_default();
            Some(image::find(c.store, wanted)?)
        }
        "copy" => return copy_instance(c, (name, put), source),
        other => return Err(Error::unsupported(format!("Instances are not made from the source {other:?}"))),
    };
    let request = create::Request {
        project: c.project.clone(),
        name,
        image,
        config: put.config,
        devices: put.devices,
        profiles,
        ephemeral: put.ephemeral,
        description: put.description,
        device_overrides: Devices::new(),
        storage: None,
        root_size: None,
        network: None,
    };
    match c.is("start") {
        true => create::launch(c.store, &request).map(drop),
        false => create::create(c.store, &request).map(drop),
    }
}

fn copy_instance(c: &Change<'_>, (target, put): (Option<InstanceName>, InstancePut), source: &Value) -> Result<()> {
    let said = |key: &str| source.get(key).and_then(Value::as_str).filter(|text| !text.is_empty());
    let from = said("source").unwrap_or_default();
    let (name, of) = from.split_once('/').map_or((from, None), |(name, of)| (name, Some(of)));
    let request = copy::Request {
        project: said("project").map_or(Ok(c.project.clone()), ProjectName::parse)?,
        name: named(name)?,
        snapshot: of.map(SnapshotName::parse).transpose()?,
        target_project: c.project.clone(),
        target,
        config: put.config,
        device_overrides: put.devices,
        profiles: c.body.get("profiles").is_some_and(Value::is_array).then_some(put.profiles),
        ephemeral: put.ephemeral,
        storage: None,
        instance_only: source.get("instance_only").and_then(Value::as_bool).unwrap_or(false),
        moving: false,
    };
    copy::copy(c.store, &request).map(drop)
}

fn change_instance(c: &Change<'_>, given: &[&str]) -> Result<()> {
    let name = named(given[0])?;
    if let Some(wanted) = Some(c.text("restore")).filter(|wanted| !wanted.is_empty()) {
        let request = restore::Request { snapshot: SnapshotName::parse(wanted)?, disk_only: c.is("disk_only") };
        return restore::restore(c.store, (&c.project, &name), &request);
    }
    update::update(c.store, &c.project, &name, &mut |edit: &mut Edit<'_>| {
        edit.put = document_of(&c.document()?)?;
        Ok(())
    })
}

fn rename_instance(c: &Change<'_>, given: &[&str]) -> Result<()> {
    match c.is("migration") {
        true => Err(Error::unsupported("Instances are moved by the command: stapes move")),
        false => rename::rename(c.store, &c.project, &named(given[0])?, &InstanceName::parse(c.text("name"))?),
    }
}

fn change_state(c: &Change<'_>, given: &[&str]) -> Result<()> {
    let name = named(given[0])?;
    let timeout = c.body.get("timeout").and_then(Value::as_u64).map(Duration::from_secs);
    let how = stop::Options { force: c.is("force"), timeout };
    match c.text("action") {
        "start" => start::start(c.store, &c.project, &name),
        "stop" => stop::stop(c.store, &c.project, &name, how),
        "restart" => stop::restart(c.store, &c.project, &name, how),
        "freeze" => stop::pause(c.store, &c.project, &name),
        "unfreeze" => stop::resume(c.store, &c.project, &name),
        other => Err(Error::invalid(format!("Unknown action: {other:?}"))),
    }
}

fn create_snapshot(c: &Change<'_>, given: &[&str]) -> Result<()> {
    match c.is("stateful") {
        true => Err(Error::unsupported("Stateful snapshots are not supported by this version")),
        false => snapshot::create(c.store, (&c.project, &named(given[0])?), &c.snapshot()?).map(drop),
    }
}

fn create_network(c: &Change<'_>, _: &[&str]) -> Result<()> {
    let NetworkPut { config, description, .. } = document_of(&c.document()?)?;
    let (name, kind) = (NetworkName::parse(c.text("name"))?, NetworkType::parse(c.text("type"))?);
    let request = network::change::Request { project: c.project.clone(), name, kind, description, config };
    network::change::create(c.store, &request)
}

fn create_volume(c: &Change<'_>, given: &[&str]) -> Result<()> {
    if !matches!(c.text("type"), "" | "custom") {
        return Err(Error::invalid("Only \"custom\" volumes can be created"));
    }
    let content = ContentType::parse(c.text("content_type")).filter(|content| *content != ContentType::Iso);
    let content =
        content.ok_or_else(|| Error::invalid(format!("Invalid content type {:?}", c.text("content_type"))))?;
    let put = document_of(&c.document()?)?;
    c.volume((given[0], c.text("name")), |of| volume::change::create(c.store, of, content, put))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn addresses_fit_their_pattern() {
        assert_eq!(fits("instances/*/state", &["instances", "web", "state"]), Some(vec!["web"]));
        assert_eq!(fits("", &[]), Some(Vec::new()));
        for parts in [&["instances", "web"][..], &["instances", "web", "logs"], &["profiles", "web", "state"]] {
            assert_eq!(fits("instances/*/state", parts), None);
        }
    }

    #[test]
    fn a_patch_keeps_what_it_does_not_name() {
        let mut object = json!({"config": {"a": "1", "b": "2"}, "description": "old", "profiles": ["default"]});
        merge(&mut object, &json!({"config": {"b": "3"}, "description": "new"}));
        assert_eq!(object, json!({"config": {"a": "1", "b": "3"}, "description": "new", "profiles": ["default"]}));
    }
}
