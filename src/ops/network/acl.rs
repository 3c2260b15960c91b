//! `network acl`: the rules that networks and interfaces name, as records; a change of one counts at once for all that have it.
//!
//! The lock is that of all ACLs and address sets of a project: rules name sets. Records that nobody uses change in one write.
//! For the others the journal notes the old record, and that the kernel is to be given what the records say.

use super::{project_of, rules};
use crate::base::names::{AclName, AddressSetName, ProjectName};
use crate::error::{Error, Result};
use crate::fault;
use crate::host::kmsg;
use crate::model::instance::{Config, Devices};
use crate::model::keys::device::{device_type, nic};
use crate::model::network::acl::{Acl, AclRule};
use crate::model::view::{AclPut, AclView, url};
use crate::ops::load;
use crate::store::events::{self, Event};
use crate::store::lock::{AclsKey, Exclusive, Held};
use crate::store::{Action, Journal, Store};
use std::collections::BTreeMap;

/// Incus's words for an ACL that is not there.
pub fn not_found() -> Error {
    Error::not_found("Network ACL not found")
}

/// What was written becomes a record, if it makes sense.
fn record_of(store: &Store, project: &ProjectName, put: AclPut) -> Result<Acl> {
    let normalised = |rules: Vec<AclRule>| rules.iter().map(AclRule::normalised).collect();
    let acl = Acl {
        format: 1,
        description: put.description,
        config: put.config.into_iter().filter(|(_, value)| !value.is_empty()).collect(),
        egress: normalised(put.egress),
        ingress: normalised(put.ingress),
    };
    let exists = |name: &str| {
        let found = AddressSetName::parse(name).and_then(|name| store.address_set(project, &name));
        found.is_ok_and(|set| set.is_some())
    };
    acl.validate(&exists)?;
    Ok(acl)
}

/// Makes an ACL.
///
/// # Errors
/// Exists; a rule or an option is wrong.
pub fn create(store: &Store, project: &ProjectName, name: &AclName, put: AclPut) -> Result<()> {
    let project = project_of(store, project)?;
    let lock = store.lock_acls(&project, "create")?;
    if store.acl(&project, name)?.is_some() {
        return Err(Error::exists("The network ACL already exists"));
    }
    let acl = record_of(store, &project, put)?;
    fault::point("acl.create")?;
    store.save_acl(&lock, name, &acl)?;
    fault::point("acl.created")?;
    note(store, &project, name, "network-acl-created");
    Ok(())
}

/// Changes an ACL: `edit` is shown what can be written of it, and what is changed counts at once for all that have it.
///
/// # Errors
/// Not found; what `edit` says; what is wrong with it, or what nft refuses: all is as before then.
pub fn update(
    store: &Store,
    project: &ProjectName,
    name: &AclName,
    edit: &mut dyn FnMut(&mut AclPut) -> Result<()>,
) -> Result<()> {
    let project = project_of(store, project)?;
    let lock = store.lock_acls(&project, "update")?;
    let old = store.acl(&project, name)?.ok_or_else(not_found)?;
    let mut put = AclView::new(&project, name, &old, Vec::new()).put;
    edit(&mut put)?;
    let new = record_of(store, &project, put)?;
    fault::point("acl.update")?;
    let save = |acl: &Acl| store.save_acl(&lock, name, acl);
    let change =
        Change { project: &project, part: rules::Part::Acl(name), restore: store.restore_acl(&project, name)? };
    change.carry_out(store, &lock, &|| save(&new), &|| save(&old))?;
    note(store, &project, name, "network-acl-updated");
    Ok(())
}

/// A change of a record that rules in force may be made of.
pub(super) struct Change<'a> {
    /// Whose it is.
    pub project: &'a ProjectName,
    /// What is to be set anew.
    pub part: rules::Part<'a>,
    /// Puts the record back.
    pub restore: Action,
}

impl Change<'_> {
    /// Saves the new record and has it count. If that fails, the old one is saved: nft has left the kernel as it was.
    ///
    /// # Errors
    /// As [`rules::renew`].
    pub(super) fn carry_out(
        self,
        store: &Store,
        lock: &Held<AclsKey, Exclusive>,
        save: &dyn Fn() -> Result<()>,
        back: &dyn Fn() -> Result<()>,
    ) -> Result<()> {
        let mut journal = Journal::begin(store, "update", &[lock])?;
        // Undone in reverse: first the record, then what it says.
        journal.undo(Action::RenewAcls { project: self.project.to_string() })?;
        journal.undo(self.restore)?;
        match rules::renew(store, self.project, self.part, save) {
            Ok(()) => {
                fault::point("acl.applied")?;
                journal.finish()
            }
            Err(e) => match back() {
                Ok(()) => Err(journal.finish().err().into_iter().fold(e, Error::and)),
                Err(_) => Err(journal.abort(e)),
            },
        }
    }
}

/// Gives an ACL that nobody uses another name.
///
/// # Errors
/// Not found; Exists; Conflict: it is in use.
pub fn rename(store: &Store, project: &ProjectName, from: &AclName, to: &AclName) -> Result<()> {
    let project = project_of(store, project)?;
    let lock = store.lock_acls(&project, "rename")?;
    store.acl(&project, from)?.ok_or_else(not_found)?;
    if store.acl(&project, to)?.is_some() {
        return Err(Error::exists("An ACL by that name exists already"));
    }
    if is_used(store, &project, from)? {
        return Err(Error::conflict("Cannot rename an ACL that is in use"));
    }
    fault::point("acl.rename")?;
    store.rename_acl(&lock, from, to)?;
    fault::point("acl.renamed")?;
    note(store, &project, to, "network-acl-renamed");
    Ok(())
}

/// Deletes an ACL that nobody uses.
///
/// # Errors
/// Not found; Conflict: it is in use.
pub fn delete(store: &Store, project: &ProjectName, name: &AclName) -> Result<()> {
    let project = project_of(store, project)?;
    let lock = store.lock_acls(&project, "delete")?;
    // One that is damaged can go.
    if store.acl(&project, name).is_ok_and(|found| found.is_none()) {
        return Err(not_found());
    }
    if is_used(store, &project, name)? {
        return Err(Error::conflict("Cannot delete an ACL that is in use"));
    }
    fault::point("acl.delete")?;
    store.delete_acl(&lock, name)?;
    fault::point("acl.deleted")?;
    note(store, &project, name, "network-acl-deleted");
    Ok(())
}

/// One ACL.
///
/// # Errors
/// Not found; its record is damaged.
pub fn show(store: &Store, project: &ProjectName, name: &AclName) -> Result<AclView> {
    let project = project_of(store, project)?;
    let acl = store.acl(&project, name)?.ok_or_else(not_found)?;
    let users = users(store, &project)?.remove(name.as_str()).unwrap_or_default();
    Ok(AclView::new(&project, name, &acl, users))
}

/// All ACLs of a project; what is wrong with a damaged record stands in its description.
///
/// # Errors
/// The state folder cannot be read.
pub fn list(store: &Store, project: &ProjectName) -> Result<Vec<AclView>> {
    let project = project_of(store, project)?;
    let mut users = users(store, &project)?;
    let view = |(name, found): (AclName, Result<Acl>)| {
        let used = users.remove(name.as_str()).unwrap_or_default();
        let acl = found.unwrap_or_else(|e| Acl {
            format: 1,
            description: format!("ERROR: {e}"),
            config: Config::new(),
            egress: Vec::new(),
            ingress: Vec::new(),
        });
        AclView::new(&project, &name, &acl, used)
    };
    Ok(store.acls(&project)?.into_iter().map(view).collect())
}

fn is_used(store: &Store, project: &ProjectName, name: &AclName) -> Result<bool> {
    Ok(users(store, project)?.contains_key(name.as_str()) || rules::is_in_force(store, project, name)?)
}

/// Names of ACLs with the addresses of what has them: networks, and instances and profiles with interfaces on networks.
fn users(store: &Store, project: &ProjectName) -> Result<BTreeMap<String, Vec<String>>> {
    let mut all: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut add = |names: Vec<&str>, address: String| {
        for name in names {
            let addresses = all.entry(name.to_string()).or_default();
            if addresses.last() != Some(&address) {
                addresses.push(address.clone());
            }
        }
    };
    for (name, network) in store.networks(project)? {
        let config = network.map(|n| n.config).unwrap_or_default();
        add(rules::acls_of(&config), url::network(project, &name));
    }
    for (other, _) in store.projects()? {
        if project_of(store, &other)? != *project {
            continue;
        }
        for (instance, record) in store.instances(&other)? {
            let Ok(record) = record else { continue };
            let devices = load::expanded(store, &other, &record).map_or(record.devices, |e| e.devices);
            add(of_devices(&devices), url::instance(&other, &instance));
        }
        for (profile, record) in store.profiles(&other)? {
            let Ok(record) = record else { continue };
            add(of_devices(&record.devices), url::profile(&other, &profile));
        }
    }
    Ok(all)
}

fn of_devices(devices: &Devices) -> Vec<&str> {
    let on_network = devices.values().filter(|d| device_type(d) == "nic" && nic::NETWORK.get(d).is_some());
    on_network.flat_map(rules::acls_of).collect()
}

/// Lines of the kernel's log about packets that rules of an ACL, those with the state `logged`, were for. As in Incus they
/// begin with the network or the device, the direction and the number of the rule, which says nothing of the ACL if there
/// are several.
///
/// # Errors
/// Not found; nothing has the ACL; the kernel's log cannot be read.
pub fn log(store: &Store, project: &ProjectName, name: &AclName) -> Result<Vec<String>> {
    let project = project_of(store, project)?;
    store.acl(&project, name)?.ok_or_else(not_found)?;
    let subjects = rules::subjects(store, &project, name)?;
    if subjects.is_empty() {
        return Err(Error::conflict(
            "The network ACL is not in force: no network that is up and no running instance has it",
        ));
    }
    let is_ours = |line: &String| {
        subjects.iter().any(|subject| {
            let rest = ["ingress-", "egress-"]
                .iter()
                .find_map(|d| line.strip_prefix(subject.name.as_str())?.strip_prefix('-')?.strip_prefix(d));
            let number = rest.is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
            number && subject.link.as_ref().is_none_or(|link| line.contains(&format!("={link} ")))
        })
    };
    Ok(kmsg::read()?.into_iter().filter(|m| is_ours(&m.text)).map(|m| m.to_string()).collect())
}

/// Appends a lifecycle event; a log that cannot be written stops nothing.
fn note(store: &Store, project: &ProjectName, name: &AclName, action: &str) {
    let at = format!("/1.0/network-acls/{name}");
    let _ = events::append(store, &Event::lifecycle(action, &at, project.as_str(), serde_json::Value::Null));
}
