//! `profile`: creating, changing, renaming and deleting them, with the instances that use them in view.
//!
//! The project given is the one in use; where it has no profiles of its own, they are the default project's. A writer holds all
//! projects that use them alone, so none of their instances starts or changes meanwhile. What a change does to those that
//! have the profile: [`super::profile_change`].

pub use super::profile_change::update;
use super::{features, network, restrict, update, volume};
use crate::base::names::{PoolName, ProfileName, ProjectName};
use crate::error::{Error, Result};
use crate::fault;
use crate::model::instance::Devices;
use crate::model::keys::{self, device};
use crate::model::profile::Profile;
use crate::model::project::Feature;
use crate::model::view::{ProfilePut, ProfileView, url};
use crate::ops::record_copy;
use crate::store::events::{self, Event};
use crate::store::lock::{Exclusive, Held, InstanceKey, ProjectKey, Proof};
use crate::store::{Action, Journal, Store};
use std::collections::BTreeMap;

/// The projects that use the profiles, alone, and which of them has them.
pub(super) struct Locked {
    /// All of them.
    pub held: Vec<Held<ProjectKey, Exclusive>>,
    /// The one that has the profiles.
    pub owner: ProjectName,
}

impl Locked {
    /// The lock of the one that has them.
    pub fn own(&self) -> Result<&Held<ProjectKey, Exclusive>> {
        let own = self.held.iter().find(|held| held.key().0 == self.owner);
        own.ok_or_else(|| Error::not_found("Project not found"))
    }

    /// The projects.
    pub fn projects(&self) -> impl Iterator<Item = &ProjectName> {
        self.held.iter().map(|held| &held.key().0)
    }
}

pub(super) fn lock(store: &Store, project: &ProjectName, verb: &str) -> Result<Locked> {
    let owner = owner(store, project)?;
    let held = features::lock_sharing(store, &owner, Feature::Profiles, verb)?;
    Ok(Locked { held, owner })
}

/// The project whose profiles `project` uses.
///
/// # Errors
/// Its record is damaged.
pub fn owner(store: &Store, project: &ProjectName) -> Result<ProjectName> {
    features::owner(store, project, Feature::Profiles)
}

pub(super) fn not_found() -> Error {
    Error::not_found("Profile not found")
}

/// The instances that use the profiles of a project, by the profiles they have; a record that cannot be read has none.
fn users(store: &Store, owner: &ProjectName) -> Result<BTreeMap<String, Vec<InstanceKey>>> {
    let mut all: BTreeMap<String, Vec<InstanceKey>> = BTreeMap::new();
    for project in features::sharing(store, owner, Feature::Profiles)? {
        for (name, instance) in store.instances(&project)? {
            for profile in instance.map(|i| i.profiles).unwrap_or_default() {
                all.entry(profile).or_default().push(InstanceKey { project: project.clone(), name: name.clone() });
            }
        }
    }
    Ok(all)
}

/// The projects that have profiles of their own.
///
/// # Errors
/// The state folder cannot be read.
pub fn owners(store: &Store) -> Result<Vec<ProjectName>> {
    let all = store.projects()?.into_iter().map(|(name, _)| name);
    Ok(all.filter(|name| owner(store, name).is_ok_and(|owner| owner == *name)).collect())
}

/// All profiles of a project as users see them; what is wrong with a damaged one stands in its description.
///
/// # Errors
/// The state folder cannot be read.
pub fn list(store: &Store, project: &ProjectName) -> Result<Vec<ProfileView>> {
    let project = &owner(store, project)?;
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
    users: Option<&Vec<InstanceKey>>,
) -> ProfileView {
    let used_by = users.into_iter().flatten().map(|user| url::instance(&user.project, &user.name)).collect();
    ProfileView::new(project, name, profile, used_by)
}

/// One profile as users see it.
///
/// # Errors
/// Not found; the record is damaged.
pub fn show(store: &Store, project: &ProjectName, name: &ProfileName) -> Result<ProfileView> {
    let project = &owner(store, project)?;
    let profile = store.profile(project, name)?.ok_or_else(not_found)?;
    Ok(view_of(project, name, &profile, users(store, project)?.get(name.as_str())))
}

/// Creates a profile.
///
/// # Errors
/// Exists; a key or device is wrong.
pub fn create(store: &Store, project: &ProjectName, name: &ProfileName, put: &ProfilePut) -> Result<()> {
    let lock = lock(store, project, "create")?;
    let project = &lock.owner;
    if store.profile(project, name)?.is_some() {
        let context = format!("Error inserting {:?} into database", name.as_str());
        return Err(Error::exists("The profile already exists").context(context));
    }
    let profile = record_of(put);
    validate(store, project, name, &profile)?;
    let _volumes = volume::keep(store, project, profile.devices.values(), &[])?;
    fault::point("profile.create")?;
    record(store, lock.own()?, name, &profile)?;
    note(store, project, name, "profile-created");
    Ok(())
}

pub(super) fn record_of(put: &ProfilePut) -> Profile {
    let config = put.config.iter().filter(|(_, v)| !v.is_empty()).map(|(k, v)| (k.clone(), v.clone())).collect();
    Profile { format: 1, description: put.description.clone(), config, devices: put.devices.clone() }
}

pub(super) fn validate(store: &Store, project: &ProjectName, name: &ProfileName, profile: &Profile) -> Result<()> {
    keys::validate_profile(&profile.config)?;
    device::validate_all(&profile.devices, None, None)?;
    network::check_devices(store, project, &profile.devices, None)?;
    update::check_pools(store, &profile.devices)?;
    volume::check_devices(store, project, &profile.devices, None)?;
    restrict::check_profile(store, project, name, profile)
}

/// Saves it, as long as the networks that it names are there.
///
/// # Errors
/// Not found: one of them was deleted meanwhile. An I/O error.
pub(super) fn record(
    store: &Store,
    lock: &Held<ProjectKey, Exclusive>,
    name: &ProfileName,
    profile: &Profile,
) -> Result<()> {
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
    let lock = lock(store, project, "delete")?;
    let project = &lock.owner;
    // One that is damaged can be deleted too.
    if matches!(store.profile(project, name), Ok(None)) {
        return Err(not_found());
    }
    if users(store, project)?.contains_key(name.as_str()) {
        return Err(Error::conflict("Profile is currently in use"));
    }
    fault::point("profile.delete")?;
    store.delete_profile(lock.own()?, name)?;
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
    let lock = lock(store, project, "rename")?;
    let project = &lock.owner;
    if store.profile(project, from)?.is_none() {
        return Err(Error::not_found(format!("Profile {:?} doesn't exist", from.as_str())));
    }
    if store.profile(project, to)?.is_some() {
        return Err(Error::exists(format!("Profile {:?} already exists", to.as_str())));
    }
    let keys = users(store, project)?.remove(from.as_str()).unwrap_or_default();
    let held = store.lock_instances(keys, "rename")?;
    let mut proofs: Vec<&dyn Proof> = held.iter().map(|h| h as &dyn Proof).collect();
    proofs.extend(lock.held.iter().map(|h| h as &dyn Proof));
    fault::point("profile.rename")?;
    // Of those that have none of their own, only the instances change.
    let action =
        |p: &ProjectName| Action::RenameProfile { project: p.to_string(), from: from.to_string(), to: to.to_string() };
    Journal::forward_kept(store, "rename", &proofs, lock.projects().map(action).collect())?.finish()?;
    held.iter().for_each(|one| record_copy::instance(store, (&one.key().project, &one.key().name), false));
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
    if refresh && store.profile(&owner(store, to.0)?, to.1)?.is_some() {
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
