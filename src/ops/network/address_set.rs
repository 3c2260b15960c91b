//! `network address-set`: lists of addresses that rules of ACLs name, as records; a change counts at once.

use super::acl::Change;
use super::{project_of, rules};
use crate::base::names::{AddressSetName, ProjectName};
use crate::error::{Error, Result};
use crate::fault;
use crate::model::instance::Config;
use crate::model::network::address_set::AddressSet;
use crate::model::view::{AddressSetPut, AddressSetView, url};
use crate::store::Store;
use crate::store::events::{self, Event};

/// Incus's words for an address set that is not there.
pub fn not_found() -> Error {
    Error::not_found("Network address set not found")
}

fn record_of(put: AddressSetPut) -> Result<AddressSet> {
    let set = AddressSet {
        format: 1,
        description: put.description,
        config: put.config.into_iter().filter(|(_, value)| !value.is_empty()).collect(),
        addresses: put.addresses.iter().map(|a| a.trim().to_string()).collect(),
    };
    set.validate()?;
    Ok(set)
}

/// Makes an address set.
///
/// # Errors
/// Exists; an address or an option is wrong.
pub fn create(store: &Store, project: &ProjectName, name: &AddressSetName, put: AddressSetPut) -> Result<()> {
    let project = project_of(store, project)?;
    let lock = store.lock_acls(&project, "create")?;
    if store.address_set(&project, name)?.is_some() {
        return Err(Error::exists("The network address set already exists"));
    }
    let set = record_of(put)?;
    fault::point("address-set.create")?;
    store.save_address_set(&lock, name, &set)?;
    fault::point("address-set.created")?;
    note(store, &project, name, "network-address-set-created");
    Ok(())
}

/// Changes an address set: `edit` is shown what can be written of it, and what is changed counts at once wherever a rule
/// names it.
///
/// # Errors
/// Not found; what `edit` says; what is wrong with it, or what nft refuses: all is as before then.
pub fn update(
    store: &Store,
    project: &ProjectName,
    name: &AddressSetName,
    edit: &mut dyn FnMut(&mut AddressSetPut) -> Result<()>,
) -> Result<()> {
    let project = project_of(store, project)?;
    let lock = store.lock_acls(&project, "update")?;
    let old = store.address_set(&project, name)?.ok_or_else(not_found)?;
    let mut put = AddressSetView::new(&project, name, &old, Vec::new()).put;
    edit(&mut put)?;
    let new = record_of(put)?;
    fault::point("address-set.update")?;
    let save = |set: &AddressSet| store.save_address_set(&lock, name, set);
    let restore = store.restore_address_set(&project, name)?;
    let change = Change { project: &project, part: rules::Part::Set(name), restore };
    change.carry_out(store, &lock, &|| save(&new), &|| save(&old))?;
    note(store, &project, name, "network-address-set-updated");
    Ok(())
}

/// Gives an address set that no rule names another name.
///
/// # Errors
/// Not found; Exists; Conflict: it is in use.
pub fn rename(store: &Store, project: &ProjectName, from: &AddressSetName, to: &AddressSetName) -> Result<()> {
    let project = project_of(store, project)?;
    let lock = store.lock_acls(&project, "rename")?;
    store.address_set(&project, from)?.ok_or_else(not_found)?;
    if store.address_set(&project, to)?.is_some() {
        return Err(Error::exists(format!("Address set by that name: {to} exists already")));
    }
    if !users(store, &project, from)?.is_empty() {
        return Err(Error::conflict("Cannot rename address set that is in use"));
    }
    fault::point("address-set.rename")?;
    store.rename_address_set(&lock, from, to)?;
    fault::point("address-set.renamed")?;
    note(store, &project, to, "network-address-set-renamed");
    Ok(())
}

/// Deletes an address set that no rule names.
///
/// # Errors
/// Not found; Conflict: it is in use.
pub fn delete(store: &Store, project: &ProjectName, name: &AddressSetName) -> Result<()> {
    let project = project_of(store, project)?;
    let lock = store.lock_acls(&project, "delete")?;
    // One that is damaged can go.
    if store.address_set(&project, name).is_ok_and(|found| found.is_none()) {
        return Err(not_found());
    }
    if !users(store, &project, name)?.is_empty() {
        return Err(Error::conflict("Cannot delete address set that is in use"));
    }
    fault::point("address-set.delete")?;
    store.delete_address_set(&lock, name)?;
    fault::point("address-set.deleted")?;
    note(store, &project, name, "network-address-set-deleted");
    Ok(())
}

/// One address set.
///
/// # Errors
/// Not found; its record is damaged.
pub fn show(store: &Store, project: &ProjectName, name: &AddressSetName) -> Result<AddressSetView> {
    let project = project_of(store, project)?;
    let set = store.address_set(&project, name)?.ok_or_else(not_found)?;
    Ok(AddressSetView::new(&project, name, &set, users(store, &project, name)?))
}

/// All address sets of a project; what is wrong with a damaged record stands in its description.
///
/// # Errors
/// The state folder cannot be read.
pub fn list(store: &Store, project: &ProjectName) -> Result<Vec<AddressSetView>> {
    let project = project_of(store, project)?;
    let mut all = Vec::new();
    for (name, found) in store.address_sets(&project)? {
        let set = found.unwrap_or_else(|e| AddressSet {
            format: 1,
            description: format!("ERROR: {e}"),
            config: Config::new(),
            addresses: Vec::new(),
        });
        all.push(AddressSetView::new(&project, &name, &set, users(store, &project, &name)?));
    }
    Ok(all)
}

/// Addresses of the ACLs that name it.
fn users(store: &Store, project: &ProjectName, name: &AddressSetName) -> Result<Vec<String>> {
    let all = store.acls(project)?.into_iter();
    let named = all.filter(|(_, acl)| acl.as_ref().is_ok_and(|acl| acl.mentions(name.as_str())));
    Ok(named.map(|(acl, _)| url::network_acl(project, &acl)).collect())
}

/// Appends a lifecycle event; a log that cannot be written stops nothing.
fn note(store: &Store, project: &ProjectName, name: &AddressSetName, action: &str) {
    let at = format!("/1.0/network-address-sets/{name}");
    let _ = events::append(store, &Event::lifecycle(action, &at, project.as_str(), serde_json::Value::Null));
}
