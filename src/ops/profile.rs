//! `profile`: creating, changing, renaming and deleting them, with the instances that use them in view.
//!
//! A writer holds the project alone, so no instance of it starts or changes meanwhile. What a change does to those that have
//! the profile: [`super::profile_change`].

pub use super::profile_change::update;
use super::{network, update, volume};
use crate::base::names::{InstanceName, PoolName, ProfileName, ProjectName};
use crate::error::{Error, Result};
use crate::fault;
use crate::model::instance::Devices;
use crate::model::keys::{self, device};
use crate::model::profile::Profile;
use crate::model::view::{ProfilePut, ProfileView, url};
use crate::store::events::{self, Event};
use crate::store::lock::{Exclusive, Held, InstanceKey, ProjectKey, Proof};
use crate::store::{Action, Journal, Store};
use std::collections::BTreeMap;

type ProjectLock = Held<ProjectKey, Exclusive>;

pub(super) fn not_found() -> Error {
    Error::not_found("Profile not found")
}

/// The instances of a project by the profiles they have; a record that cannot be read has none.
fn users(store: &Store, project: &ProjectName) -> Result<BTreeMap<String, Vec<InstanceName>>> {
    let mut all: BTreeMap<String, Vec<InstanceName>> = BTreeMap::new();
    for (name, instance) in store.instances(project)? {
        for profile in instance.map(|i| i.profiles).unwrap_or_default() {
            all.entry(profile).or_default().push(name.clone());
        }
    }
    Ok(all)
}

/// All profiles of a project as users see them; what is wrong with a damaged one stands in its description.
///
/// # Errors
/// The state folder cannot be read.
pub fn list(store: &Store, project: &ProjectName) -> Result<Vec<ProfileView>> {
    let users = users(store, project)?;
    let view = |(name, profile): (ProfileName, Result<Profile>)| {
        let broken = |e: Error| Profile {
            format: 1,
            description: format!("ERROR: {e}"),
            config: BTreeMap::new(),
            devices: BTreeMap::new(),
        };
        view_of(project, &name, &profile.unwrap_or_else(broken), users.get(name.as_str()))
    };
    Ok(store.profiles(project)?.into_iter().map(view).collect())
}

fn view_of(
    project: &ProjectName,
    name: &ProfileName,
    profile: &Profile,
    users: Option<&Vec<InstanceName>>,
) -> ProfileView {
    let used_by = users.into_iter().flatten().map(|n| url::instance(project, n)).collect();
    ProfileView::new(project, name, profile, used_by)
}

/// One profile as users see it.
///
/// # Errors
/// Not found; the record is damaged.
pub fn show(store: &Store, project: &ProjectName, name: &ProfileName) -> Result<ProfileView> {
    let profile = store.profile(project, name)?.ok_or_else(not_found)?;
    Ok(view_of(project, name, &profile, users(store, project)?.get(name.as_str())))
}

/// Creates a profile.
///
/// # Errors
/// Exists; a key or device is wrong.
pub fn create(store: &Store, project: &ProjectName, name: &ProfileName, put: &ProfilePut) -> Result<()> {
    let lock = store.lock_project_exclusive(project, "create")?;
    if store.profile(project, name)?.is_some() {
        let context = format!("Error inserting {:?} into database", name.as_str());
        return Err(Error::exists("The profile already exists").context(context));
    }
    let profile = record_of(put);
    validate(store, project, &profile)?;
    let _volumes = volume::keep(store, project, profile.devices.values())?;
    fault::point("profile.create")?;
    record(store, &lock, name, &profile)?;
    note(store, project, name, "profile-created");
    Ok(())
}

pub(super) fn record_of(put: &ProfilePut) -> Profile {
    let config = put.config.iter().filter(|(_, v)| !v.is_empty()).map(|(k, v)| (k.clone(), v.clone())).collect();
    Profile { format: 1, description: put.description.clone(), config, devices: put.devices.clone() }
}

pub(super) fn validate(store: &Store, project: &ProjectName, profile: &Profile) -> Result<()> {
    keys::validate_profile(&profile.config)?;
    device::validate_all(&profile.devices, None, None)?;
    network::check_devices(store, project, &profile.devices, None)?;
    update::check_pools(store, &profile.devices)?;
    volume::check_devices(store, project, &profile.devices)
}

/// Saves it, as long as the networks that it names are there.
///
/// # Errors
/// Not found: one of them was deleted meanwhile. An I/O error.
pub(super) fn record(store: &Store, lock: &ProjectLock, name: &ProfileName, profile: &Profile) -> Result<()> {
    let _networks = network::keep(store, &lock.key().0, profile.devices.values())?;
    store.save_profile(lock, name, profile)
}

/// Deletes a profile that nobody has.
///
/// # Errors
/// Denied: `default`. Conflict: in use. Not found.
pub fn delete(store: &Store, project: &ProjectName, name: &ProfileName) -> Result<()> {
    if name.as_str() == "default" {
        return Err(Error::denied("The \"default\" profile cannot be deleted"));
    }
    let lock = store.lock_project_exclusive(project, "delete")?;
    // One that is damaged can be deleted too.
    if matches!(store.profile(project, name), Ok(None)) {
        return Err(not_found());
    }
    if users(store, project)?.contains_key(name.as_str()) {
        return Err(Error::conflict("Profile is currently in use"));
    }
    fault::point("profile.delete")?;
    store.delete_profile(&lock, name)?;
    note(store, project, name, "profile-deleted");
    Ok(())
}

/// Gives a profile another name, and the instances that have it that name; once begun it is done, by us or by recovery.
///
/// # Errors
/// Denied: `default`. Not found; Exists; an instance is busy.
pub fn rename(store: &Store, project: &ProjectName, from: &ProfileName, to: &ProfileName) -> Result<()> {
    if from.as_str() == "default" {
        return Err(Error::denied("The \"default\" profile cannot be renamed"));
    }
    let lock = store.lock_project_exclusive(project, "rename")?;
    if store.profile(project, from)?.is_none() {
        return Err(Error::not_found(format!("Profile {:?} doesn't exist", from.as_str())));
    }
    if store.profile(project, to)?.is_some() {
        return Err(Error::exists(format!("Profile {:?} already exists", to.as_str())));
    }
    let names = users(store, project)?.remove(from.as_str()).unwrap_or_default();
    let keys = names.into_iter().map(|name| InstanceKey { project: project.clone(), name }).collect();
    let held = store.lock_instances(keys, "rename")?;
    let mut proofs: Vec<&dyn Proof> = held.iter().map(|h| h as &dyn Proof).collect();
    proofs.push(&lock);
    fault::point("profile.rename")?;
    let action = Action::RenameProfile { project: project.to_string(), from: from.to_string(), to: to.to_string() };
    Journal::forward(store, "rename", &proofs, vec![action])?.finish()?;
    note(store, project, to, "profile-renamed");
    Ok(())
}

/// Copies a profile; with `refresh` one that exists is updated from the source.
///
/// # Errors
/// Not found; as [`create`] and [`update`].
pub fn copy(
    store: &Store,
    from: (&ProjectName, &ProfileName),
    to: (&ProjectName, &ProfileName),
    refresh: bool,
) -> Result<()> {
    let put = show(store, from.0, from.1)?.put;
    if refresh && store.profile(to.0, to.1)?.is_some() {
        return update(store, to.0, to.1, &mut |target| {
            *target = put.clone();
            Ok(())
        });
    }
    create(store, to.0, to.1, &put)
}

/// The pools that a profile's disks name.
pub fn pools_of(devices: &Devices) -> Vec<PoolName> {
    let disks = devices.values().filter(|d| device::device_type(d) == "disk");
    disks.filter_map(|d| PoolName::parse(device::disk::POOL.get(d)?).ok()).collect()
}

pub(super) fn note(store: &Store, project: &ProjectName, name: &ProfileName, action: &str) {
    let event = Event::lifecycle(action, &format!("/1.0/profiles/{name}"), project, serde_json::Value::Null);
    let _ = events::append(store, &event);
}
