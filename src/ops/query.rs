//! `query`: the objects of Incus's API by their addresses, as `--format json` shows them. What changes them is in
//! [`super::query_change`].

use super::{features, image, image_alias, info, list, network, profile, project, storage_info, volume};
use crate::base::names::{
    AclName, Fingerprint, InstanceName, NetworkName, PoolName, ProfileName, ProjectName, ZoneName,
};
use crate::error::{Error, Result};
use crate::model::view::{VolumeSnapshotView, url};
use crate::store::Store;
use serde::Serialize;
use serde_json::Value;

/// What is asked for.
#[derive(Debug, Clone)]
pub struct Request<'a> {
    /// Address: `/1.0/instances/web?recursion=1`.
    pub address: &'a str,
    /// The project in use; the address may name another.
    pub project: &'a ProjectName,
    /// User id of who asks.
    pub uid: u32,
}

/// How it is asked for.
pub(super) struct Asked {
    pub project: ProjectName,
    whole: bool,
    uid: u32,
}

fn not_found() -> Error {
    Error::not_found("Not Found")
}

/// The object or the list at an address: with `recursion` a list has the objects, else their addresses.
///
/// # Errors
/// Not found. Invalid: the address.
pub fn get(store: &Store, request: &Request<'_>) -> Result<Value> {
    let (asked, parts) = parse(request)?;
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    match parts[..] {
        [] => value(&["/1.0"]),
        ["1.0"] => {
            let asking = info::Asking { project: asked.project.as_str(), uid: asked.uid };
            value(&info::server(store, asking)?)
        }
        ["1.0", "instances", ref rest @ ..] => instances(store, &asked, rest),
        ["1.0", "images", ref rest @ ..] => images(store, &asked, rest),
        ["1.0", "profiles"] => {
            let all = profile::list(store, &asked.project)?;
            asked.all(all.iter().map(|p| (url::profile(asked.project.as_str(), &p.name), p)))
        }
        ["1.0", "profiles", name] => value(&profile::show(store, &asked.project, &ProfileName::parse(name)?)?),
        ["1.0", "projects"] => {
            let all = project::list(store)?;
            asked.all(all.iter().map(|p| (url::project(&p.name), p)))
        }
        ["1.0", "projects", name] => value(&project::show(store, &ProjectName::parse(name)?)?),
        ["1.0", "projects", name, "state"] => value(&project::state(store, &ProjectName::parse(name)?)?),
        ["1.0", "networks", ref rest @ ..] => networks(store, &asked, rest),
        ["1.0", "network-acls"] => {
            let all = network::acl::list(store, &asked.project)?;
            asked.all(all.iter().map(|a| (url::network_acl(asked.project.as_str(), &a.name), a)))
        }
        ["1.0", "network-acls", name] => value(&network::acl::show(store, &asked.project, &AclName::parse(name)?)?),
        ["1.0", "network-zones"] => {
            let all = network::zones::list(store, &asked.project)?;
            asked.all(all.iter().map(|z| (url::network_zone(asked.project.as_str(), &z.name), z)))
        }
        ["1.0", "network-zones", name] => value(&network::zones::show(store, &asked.project, &ZoneName::parse(name)?)?),
        ["1.0", "storage-pools", ref rest @ ..] => pools(store, &asked, rest),
        _ => Err(not_found()),
    }
}

/// The parts of an address, and what follows it.
///
/// # Errors
/// Invalid.
pub(super) fn parse(request: &Request<'_>) -> Result<(Asked, Vec<String>)> {
    let (path, query) = request.address.split_once('?').unwrap_or((request.address, ""));
    let mut asked = Asked { project: request.project.clone(), whole: false, uid: request.uid };
    for (key, value) in query.split('&').filter_map(|pair| pair.split_once('=')) {
        match key {
            "project" => asked.project = ProjectName::parse(&plain(value)?)?,
            "recursion" => asked.whole = value != "0",
            _ => {}
        }
    }
    let parts = path.split('/').filter(|p| !p.is_empty()).map(plain).collect::<Result<_>>()?;
    Ok((asked, parts))
}

impl Asked {
    fn all<T: Serialize>(&self, all: impl Iterator<Item = (String, T)>) -> Result<Value> {
        let one = |(address, object): (String, T)| if self.whole { value(&object) } else { Ok(Value::String(address)) };
        all.map(one).collect::<Result<Vec<_>>>().map(Value::Array)
    }
}

fn instances(store: &Store, asked: &Asked, rest: &[&str]) -> Result<Value> {
    let project = &asked.project;
    let [name, rest @ ..] = rest else {
        let needs = list::Needs::default().objects();
        let rows = list::list(store, std::slice::from_ref(project), &[], needs)?;
        let all = list::objects(store, &rows, false)?;
        return asked.all(all.iter().map(|i| (url::instance(project.as_str(), &i.instance.name), &i.instance)));
    };
    let name = InstanceName::parse(name)?;
    let full = info::instance(store, project, &name)?;
    match rest {
        [] if asked.whole => value(&full),
        [] => value(&full.instance),
        ["state"] => value(&full.state),
        ["snapshots"] => {
            let address = |s: &str| url::snapshot(project.as_str(), &name, s.rsplit('/').next().unwrap_or(s));
            asked.all(full.snapshots.0.iter().map(|s| (address(&s.name), s)))
        }
        ["snapshots", wanted] => {
            let mut all = full.snapshots.0.iter();
            let found =
                all.find(|s| s.name.rsplit('/').next() == Some(wanted)).ok_or_else(super::snapshot::not_found)?;
            value(found)
        }
        _ => Err(not_found()),
    }
}

fn images(store: &Store, asked: &Asked, rest: &[&str]) -> Result<Value> {
    let project = asked.project.as_str();
    features::images(store, &asked.project);
    match rest {
        [] => {
            let all: Vec<_> = image::views(store)?.into_iter().filter_map(|(_, view)| view.ok()).collect();
            asked.all(all.iter().map(|i| (url::image(project, &i.fingerprint), i)))
        }
        ["aliases", name @ ..] => {
            let all = image_alias::views(store)?;
            if name.is_empty() {
                return asked.all(all.iter().map(|a| (url::object(project, &["images", "aliases", &a.name]), a)));
            }
            // A name may have slashes.
            let found = all.iter().find(|a| a.name == name.join("/"));
            value(found.ok_or_else(|| Error::not_found("Image alias not found"))?)
        }
        [fingerprint] => value(&image::view(store, &Fingerprint::parse(fingerprint)?)?),
        _ => Err(not_found()),
    }
}

fn networks(store: &Store, asked: &Asked, rest: &[&str]) -> Result<Value> {
    let project = &asked.project;
    let [name, rest @ ..] = rest else {
        let all = network::list::list(store, project)?;
        return asked.all(all.iter().map(|n| (url::network(project.as_str(), &n.name), n)));
    };
    let name = NetworkName::parse(name).map_err(|_| network::not_found())?;
    network::list::visible(store, project, &name)?;
    match rest {
        [] => value(&network::list::show(store, project, &name)?),
        ["state"] => value(&network::list::state(store, project, &name)?),
        ["leases"] => value(&network::leases::list(store, project, &name)?),
        _ => Err(not_found()),
    }
}

fn pools(store: &Store, asked: &Asked, rest: &[&str]) -> Result<Value> {
    let project = &asked.project;
    let [name, rest @ ..] = rest else {
        let all = storage_info::list(store, project)?;
        return asked.all(all.iter().map(|p| (url::pool(&p.name), p)));
    };
    let pool = PoolName::parse(name)?;
    match rest {
        [] => value(&storage_info::show(store, &pool)?),
        ["resources"] => value(&storage_info::resources(store, &pool)?),
        ["volumes", of @ ..] if of.len() < 2 => {
            let mut all = volume::list::list(store, Some(project), &pool)?;
            all.retain(|v| of.first().is_none_or(|kind| v.kind == *kind));
            let address = |kind: &str, name: &str| {
                url::object(project.as_str(), &["storage-pools", pool.as_str(), "volumes", kind, name])
            };
            asked.all(all.iter().map(|v| (address(&v.kind, &v.name), v)))
        }
        ["volumes", kind, name] => {
            let kind = volume::list::Type::parse(kind).ok_or_else(not_found)?;
            value(&volume::list::show(store, project, &pool, (kind, name))?)
        }
        ["volumes", kind, name, "snapshots", of @ ..] if of.len() < 2 => {
            let of_kind = volume::list::Type::parse(kind).ok_or_else(not_found)?;
            let all = volume::list::snapshots_of(store, project, &pool, (of_kind, name))?;
            let Some(wanted) = of.first() else {
                let address = ["storage-pools", pool.as_str(), "volumes", kind, name, "snapshots"];
                let address = |s: &str| url::object(project.as_str(), &[&address[..], &[s]].concat());
                // As `storage volume snapshot list` shows them.
                let shown =
                    |s: &VolumeSnapshotView| VolumeSnapshotView { name: format!("{name}/{}", s.name), ..s.clone() };
                return asked.all(all.iter().map(|s| (address(&s.name), shown(s))));
            };
            value(all.iter().find(|s| s.name == *wanted).ok_or_else(volume::snapshot::not_found)?)
        }
        _ => Err(not_found()),
    }
}

fn value<T: Serialize + ?Sized>(object: &T) -> Result<Value> {
    serde_json::to_value(object).map_err(|e| Error::internal("Failed writing JSON").caused_by(e))
}

/// Undoes percent-encoding (RFC 3986, section 2.1).
fn plain(part: &str) -> Result<String> {
    let bad = || Error::invalid(format!("Invalid address: {part:?}"));
    let mut out = Vec::new();
    let mut bytes = part.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            out.push(byte);
            continue;
        }
        let digit = |b: Option<u8>| b.and_then(|b| char::from(b).to_digit(16));
        let (Some(high), Some(low)) = (digit(bytes.next()), digit(bytes.next())) else { return Err(bad()) };
        out.push((high * 16 + low) as u8);
    }
    String::from_utf8(out).map_err(|_| bad())
}

#[cfg(test)]
mod tests {
    use super::plain;

    #[test]
    fn addresses_are_decoded() {
        assert_eq!(plain("a%2Fb%20c").expect("good"), "a/b c");
        for bad in ["%", "%2", "%zz", "%ff"] {
            assert!(plain(bad).is_err(), "{bad}");
        }
    }
}
