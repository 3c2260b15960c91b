//! `network zone`: DNS zones and the records that users put into them. A writer holds the project of the zone alone; a zone
//! is one record, so a killed command leaves it as it was or as it was to be.
//!
//! They are served where the server's `core.dns_address` says ([`zone_server`]); without one they are kept and checked, as with
//! Incus.

use super::zone_server;
use crate::base::names::{ProjectName, ZoneName, ZoneRecordName};
use crate::error::{Error, Result};
use crate::fault;
use crate::model::instance::Config;
use crate::model::keys::network::bridge as keys;
use crate::model::network::zone::{Zone, ZoneKind, ZoneRecord, kind};
use crate::model::project::Feature;
use crate::model::restrict;
use crate::model::view::{ZonePut, ZoneRecordPut, ZoneRecordView, ZoneView, url};
use crate::network::zones::text as server;
use crate::ops::features;
use crate::store::Store;
use crate::store::events::{self, Event};

/// Incus's words for a zone that is not there.
pub fn not_found() -> Error {
    Error::not_found("Network zone not found")
}

/// The same for a record.
pub fn no_record() -> Error {
    Error::not_found("Network zone record not found")
}

/// The project whose zones `project` has: its own, or the default project's.
///
/// # Errors
/// Its record is damaged.
pub fn project_of(store: &Store, project: &ProjectName) -> Result<ProjectName> {
    features::owner(store, project, Feature::Zones)
}

/// Zones that a network's configuration names.
pub(super) fn named(config: &Config) -> Vec<(&str, ZoneKind)> {
    let reverse = [(&keys::ZONE_REVERSE_IPV4, ZoneKind::ReverseV4), (&keys::ZONE_REVERSE_IPV6, ZoneKind::ReverseV6)];
    let forward = keys::ZONE_FORWARD.list(config).into_iter().map(|zone| (zone, ZoneKind::Forward));
    forward.chain(reverse.into_iter().filter_map(|(key, kind)| Some((key.get(config)?, kind)))).collect()
}

/// Sees that the zones a network of `project` names are there, and for what it names them for.
///
/// # Errors
/// Not found; Invalid: a zone for addresses of the other family, or for names.
pub fn check(store: &Store, project: &ProjectName, config: &Config) -> Result<()> {
    let owner = project_of(store, project)?;
    let (all, forward) = (named(config), keys::ZONE_FORWARD.name);
    if all.iter().filter(|(_, wanted)| *wanted == ZoneKind::Forward).count() > 1 {
        return Err(Error::invalid(format!("Invalid {forward:?}, contains multiple zones from the same project")));
    }
    for (name, wanted) in all {
        let zone = ZoneName::parse(name)?;
        if store.zone(&owner, &zone)?.is_none() {
            return Err(not_found().context(format!("Network zone {name:?}")));
        }
        if kind(&zone) != wanted {
            return Err(Error::invalid(format!("Network zone {name:?} is not one for what the network names it for")));
        }
    }
    Ok(())
}

/// Addresses of the networks that use a zone of `owner`.
fn users(store: &Store, owner: &ProjectName, zone: &ZoneName) -> Result<Vec<String>> {
    let mut all = Vec::new();
    for (project, _) in store.projects()? {
        if project_of(store, &project)? != *owner {
            continue;
        }
        for (name, network) in store.networks(&project)? {
            if network.is_ok_and(|n| named(&n.config).iter().any(|(used, _)| *used == zone.as_str())) {
                all.push(url::network(project.as_str(), &name));
            }
        }
    }
    Ok(all)
}

/// All zones of a project; what is wrong with a damaged record stands in its description.
///
/// # Errors
/// The state folder cannot be read.
pub fn list(store: &Store, project: &ProjectName) -> Result<Vec<ZoneView>> {
    let owner = project_of(store, project)?;
    let view = |(name, zone): (ZoneName, Result<Zone>)| {
        let broken = |e| Zone { format: 1, description: format!("ERROR: {e}"), config: Config::new() };
        Ok(ZoneView::new(owner.as_str(), &name, &zone.unwrap_or_else(broken), users(store, &owner, &name)?))
    };
    store.zones(&owner)?.into_iter().map(view).collect()
}

/// One of them.
///
/// # Errors
/// Not found; its record is damaged.
pub fn show(store: &Store, project: &ProjectName, zone: &ZoneName) -> Result<ZoneView> {
    let owner = project_of(store, project)?;
    let found = store.zone(&owner, zone)?.ok_or_else(not_found)?;
    Ok(ZoneView::new(owner.as_str(), zone, &found, users(store, &owner, zone)?))
}

fn record_of(put: ZonePut) -> Zone {
    let mut zone = Zone { format: 1, description: put.description, config: put.config };
    zone.config.retain(|_, value| !value.is_empty());
    zone
}

/// Makes a zone.
///
/// # Errors
/// Exists; an option is wrong.
pub fn create(store: &Store, project: &ProjectName, name: &ZoneName, put: ZonePut) -> Result<()> {
    let owner = project_of(store, project)?;
    let lock = store.lock_project_exclusive(&owner, "create")?;
    if let Some(found) = store.project(&owner)?
        && !restrict::allows_zone(&found.config, name.as_str())
    {
        return Err(Error::denied("Project isn't allowed to use this DNS zone"));
    }
    for (other, _) in store.projects()? {
        if store.zone(&other, name)?.is_some() {
            return Err(Error::exists("The network zone already exists"));
        }
    }
    let zone = record_of(put);
    zone.validate()?;
    server::check(name, &zone.config)?;
    zone_server::changing(store, ("create", &lock), &[], || {
        fault::point("zone.create")?;
        store.save_zone(&lock, name, &zone)
    })?;
    note(store, &owner, name.as_str(), "network-zone-created");
    Ok(())
}

/// Changes a zone: `edit` is shown what can be written of it.
///
/// # Errors
/// Not found; what `edit` says; an option is wrong.
pub fn update(
    store: &Store,
    project: &ProjectName,
    name: &ZoneName,
    edit: &mut dyn FnMut(&mut ZonePut) -> Result<()>,
) -> Result<()> {
    let owner = project_of(store, project)?;
    let lock = store.lock_project_exclusive(&owner, "update")?;
    let old = store.zone(&owner, name)?.ok_or_else(not_found)?;
    let mut put = ZonePut { description: old.description, config: old.config };
    edit(&mut put)?;
    let zone = record_of(put);
    zone.validate()?;
    server::check(name, &zone.config)?;
    zone_server::changing(store, ("update", &lock), &[], || {
        fault::point("zone.update")?;
        store.save_zone(&lock, name, &zone)
    })?;
    note(store, &owner, name.as_str(), "network-zone-updated");
    Ok(())
}

/// Deletes a zone that no network uses, with its records.
///
/// # Errors
/// Not found; Conflict: it is in use.
pub fn delete(store: &Store, project: &ProjectName, name: &ZoneName) -> Result<()> {
    let owner = project_of(store, project)?;
    let lock = store.lock_project_exclusive(&owner, "delete")?;
    store.zone(&owner, name)?.ok_or_else(not_found)?;
    if !users(store, &owner, name)?.is_empty() {
        return Err(Error::conflict("Cannot delete a zone that is in use"));
    }
    zone_server::changing(store, ("delete", &lock), &[], || {
        fault::point("zone.delete")?;
        store.delete_zone(&lock, name)
    })?;
    note(store, &owner, name.as_str(), "network-zone-deleted");
    Ok(())
}

/// All that the user put into a zone.
///
/// # Errors
/// Not found; the state folder cannot be read.
pub fn records(store: &Store, project: &ProjectName, zone: &ZoneName) -> Result<Vec<ZoneRecordView>> {
    let owner = project_of(store, project)?;
    store.zone(&owner, zone)?.ok_or_else(not_found)?;
    let view = |(name, record): (ZoneRecordName, Result<ZoneRecord>)| {
        let broken = |e: Error| {
            let put = ZoneRecordPut { description: format!("ERROR: {e}"), ..ZoneRecordPut::default() };
            entry_of(put)
        };
        ZoneRecordView::new(&name, &record.unwrap_or_else(broken))
    };
    Ok(store.zone_records(&owner, zone)?.into_iter().map(view).collect())
}

/// What stands under one name.
///
/// # Errors
/// Not found; the record is damaged.
pub fn record(store: &Store, project: &ProjectName, place: (&ZoneName, &ZoneRecordName)) -> Result<ZoneRecordView> {
    let owner = project_of(store, project)?;
    store.zone(&owner, place.0)?.ok_or_else(not_found)?;
    let found = store.zone_record(&owner, place.0, place.1)?.ok_or_else(no_record)?;
    Ok(ZoneRecordView::new(place.1, &found))
}

fn entry_of(put: ZoneRecordPut) -> ZoneRecord {
    let mut record = ZoneRecord { format: 1, description: put.description, config: put.config, entries: put.entries };
    record.config.retain(|_, value| !value.is_empty());
    record
}

/// Puts a name into a zone.
///
/// # Errors
/// Not found: the zone; Exists; an entry is wrong.
pub fn create_record(
    store: &Store,
    project: &ProjectName,
    (zone, name): (&ZoneName, &ZoneRecordName),
    put: ZoneRecordPut,
) -> Result<()> {
    let owner = project_of(store, project)?;
    let lock = store.lock_project_exclusive(&owner, "create")?;
    store.zone(&owner, zone)?.ok_or_else(not_found)?;
    if store.zone_record(&owner, zone, name)?.is_some() {
        return Err(Error::exists("The network zone record already exists"));
    }
    let record = entry_of(put);
    record.validate()?;
    zone_server::changing(store, ("create", &lock), &[], || {
        fault::point("zone.record.create")?;
        store.save_zone_record(&lock, zone, (name, &record))
    })?;
    note(store, &owner, &format!("{zone}/records/{name}"), "network-zone-record-created");
    Ok(())
}

/// Changes what stands under a name.
///
/// # Errors
/// Not found; what `edit` says; an entry is wrong.
pub fn update_record(
    store: &Store,
    project: &ProjectName,
    (zone, name): (&ZoneName, &ZoneRecordName),
    edit: &mut dyn FnMut(&mut ZoneRecordPut) -> Result<()>,
) -> Result<()> {
    let owner = project_of(store, project)?;
    let lock = store.lock_project_exclusive(&owner, "update")?;
    store.zone(&owner, zone)?.ok_or_else(not_found)?;
    let old = store.zone_record(&owner, zone, name)?.ok_or_else(no_record)?;
    let mut put = ZoneRecordPut { description: old.description, config: old.config, entries: old.entries };
    edit(&mut put)?;
    let record = entry_of(put);
    record.validate()?;
    zone_server::changing(store, ("update", &lock), &[], || {
        fault::point("zone.record.update")?;
        store.save_zone_record(&lock, zone, (name, &record))
    })?;
    note(store, &owner, &format!("{zone}/records/{name}"), "network-zone-record-updated");
    Ok(())
}

/// Takes a name out of a zone.
///
/// # Errors
/// Not found.
pub fn delete_record(store: &Store, project: &ProjectName, place: (&ZoneName, &ZoneRecordName)) -> Result<()> {
    let owner = project_of(store, project)?;
    let lock = store.lock_project_exclusive(&owner, "delete")?;
    store.zone(&owner, place.0)?.ok_or_else(not_found)?;
    zone_server::changing(store, ("delete", &lock), &[], || {
        fault::point("zone.record.delete")?;
        let there = store.delete_zone_record(&lock, place.0, place.1)?;
        if there { Ok(()) } else { Err(no_record()) }
    })?;
    note(store, &owner, &format!("{}/records/{}", place.0, place.1), "network-zone-record-deleted");
    Ok(())
}

fn note(store: &Store, project: &ProjectName, what: &str, action: &str) {
    let source = format!("/1.0/network-zones/{what}");
    let _ = events::append(store, &Event::lifecycle(action, &source, project.as_str(), serde_json::Value::Null));
}
