//! `profile`: creating, changing, renaming and deleting them, with the instances that use them in view.
//!
//! A writer holds the project alone, so no instance of it starts or changes meanwhile. A change is tried on every instance
//! that has the profile before anything is saved: what one of them refuses is refused as a whole.

use super::update::{self, Checked};
use super::{lifecycle, live, load, network};
use crate::base::names::{InstanceName, PoolName, ProfileName, ProjectName};
use crate::error::{Context, Error, Kind, Result};
use crate::fault;
use crate::model::diff::Changes;
use crate::model::expand::{Expanded, expand};
use crate::model::instance::{Devices, Instance};
use crate::model::keys::{self, device};
use crate::model::profile::Profile;
use crate::model::view::{ProfilePut, ProfileView, url};
use crate::store::events::{self, Event};
use crate::store::lock::{Exclusive, Held, InstanceKey, ProjectKey, Proof};
use crate::store::{Action, Journal, Store, journal, record};
use std::collections::BTreeMap;

type ProjectLock = Held<ProjectKey, Exclusive>;

fn not_found() -> Error {
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
    fault::point("profile.create")?;
    store.save_profile(&lock, name, &profile)?;
    note(store, project, name, "profile-created");
    Ok(())
}

fn record_of(put: &ProfilePut) -> Profile {
    let config = put.config.iter().filter(|(_, v)| !v.is_empty()).map(|(k, v)| (k.clone(), v.clone())).collect();
    Profile { format: 1, description: put.description.clone(), config, devices: put.devices.clone() }
}

fn validate(store: &Store, project: &ProjectName, profile: &Profile) -> Result<()> {
    keys::validate_profile(&profile.config)?;
    device::validate_all(&profile.devices, None, None)?;
    network::check_devices(store, project, &profile.devices, None)?;
    update::check_pools(store, &profile.devices)
}

/// Changes a profile: `edit` is shown what can be written of it, and what of it is changed counts for all its instances.
///
/// # Errors
/// Not found; what `edit` says; what is wrong with it, or what an instance that has it refuses: nothing is changed then.
pub fn update(
    store: &Store,
    project: &ProjectName,
    name: &ProfileName,
    edit: &mut dyn FnMut(&mut ProfilePut) -> Result<()>,
) -> Result<()> {
    let lock = store.lock_project_exclusive(project, "update")?;
    let old = store.profile(project, name)?.ok_or_else(not_found)?;
    let mut put =
        ProfilePut { config: old.config.clone(), description: old.description.clone(), devices: old.devices.clone() };
    edit(&mut put)?;
    let new = record_of(&put);
    validate(store, project, &new)?;
    check_root(store, project, name, &old.devices, &new.devices)?;
    let affected = affected(store, project, name, &new)?;
    let act = || {
        apply(store, project, &affected)?;
        save(store, &lock, Saved { name, old: &old, new: &new, affected: &affected })
    };
    let undo: Vec<Action> = affected.iter().filter_map(|a| live::undo(project, &a.name, &a.changes)).collect();
    match undo.is_empty() {
        true => act()?,
        false => journal::run(store, "update", &[&lock], |journal| {
            undo.into_iter().try_for_each(|action| journal.undo(action))?;
            act()
        })?,
    }
    note(store, project, name, "profile-updated");
    Ok(())
}

/// Does to all that run what has to be done at once; what one of them refuses is taken back by the journal.
fn apply(store: &Store, project: &ProjectName, affected: &[Affected]) -> Result<()> {
    for one in affected {
        let Some(running) = load::running(store, project, &one.name)? else { continue };
        let target = live::Target { store, project, name: &one.name, running: &running };
        let done = live::apply(target, &one.changes.actions, &one.new);
        done.with_context(|| format!("Instance \"{}\"", one.name))?;
    }
    Ok(())
}

/// The root disk of instances that have none of their own stays where it is.
fn check_root(store: &Store, project: &ProjectName, name: &ProfileName, old: &Devices, new: &Devices) -> Result<()> {
    let pool = |devices: &Devices| {
        device::root_disk(devices).ok().and_then(|(n, d)| Some((n.to_string(), device::disk::POOL.get(d)?.to_string())))
    };
    let Some((root, old_pool)) = pool(old) else { return Ok(()) };
    if pool(new).is_some_and(|(_, p)| p == old_pool) {
        return Ok(());
    }
    for (_, instance) in store.instances(project)? {
        let Ok(instance) = instance else { continue };
        if pool(&instance.devices).is_some() || !instance.profiles.iter().any(|p| p == name.as_str()) {
            continue;
        }
        let mut profiles = load::profiles(store, project, &instance.profiles)?.into_iter().rev();
        if profiles.find(|(_, p)| p.devices.contains_key(&root)).is_some_and(|(n, _)| n == name.as_str()) {
            return Err(Error::conflict("At least one instance relies on this profile's root disk device"));
        }
    }
    Ok(())
}

/// An instance that a profile's change reaches.
struct Affected {
    name: InstanceName,
    changes: Changes,
    new: Expanded,
}

/// The instances that have the profile, each checked with `new` in its place; all that refuse are told.
fn affected(store: &Store, project: &ProjectName, name: &ProfileName, new: &Profile) -> Result<Vec<Affected>> {
    let (mut all, mut errors) = (Vec::new(), Vec::new());
    for (instance_name, instance) in store.instances(project)? {
        let Ok(instance) = instance else { continue };
        if !instance.profiles.iter().any(|p| p == name.as_str()) {
            continue;
        }
        match affect(store, project, &instance_name, &instance, (name, new)) {
            Ok(one) => all.push(one),
            Err(e) => errors.push(e.context(format!("Instance \"{instance_name}\""))),
        }
    }
    match Error::join(errors) {
        Some(e) => Err(e.context(format!("Failed to update profile {:?}, nothing was changed", name.as_str()))),
        None => Ok(all),
    }
}

fn affect(
    store: &Store,
    project: &ProjectName,
    name: &InstanceName,
    instance: &Instance,
    changed: (&ProfileName, &Profile),
) -> Result<Affected> {
    let mut profiles = load::profiles(store, project, &instance.profiles)?;
    let expanded = |profiles: &[(String, Profile)]| {
        let named: Vec<(&str, &Profile)> = profiles.iter().map(|(n, p)| (n.as_str(), p)).collect();
        expand(&named, instance)
    };
    let old = expanded(&profiles);
    profiles.iter_mut().filter(|(n, _)| n == changed.0.as_str()).for_each(|(_, p)| *p = changed.1.clone());
    let new = expanded(&profiles);
    let checked = Checked { old: &old, new: &new, local: &instance.devices, kind: instance.kind };
    let changes = update::check(store, checked)?;
    if load::running(store, project, name)?.is_some() {
        live::check(store, &changes, &new)?;
    }
    Ok(Affected { name: name.clone(), changes, new })
}

/// A changed profile.
struct Saved<'a> {
    name: &'a ProfileName,
    old: &'a Profile,
    new: &'a Profile,
    affected: &'a [Affected],
}

/// Writes the profile; where ids or cloud-init's identity follow from it, the volatile records of instances with it, under
/// one journal.
fn save(store: &Store, lock: &ProjectLock, saved: Saved<'_>) -> Result<()> {
    let project = &lock.key().0;
    let volatile: Vec<&Affected> = saved.affected.iter().filter(|a| a.changes.idmap || a.changes.cloud_init).collect();
    if volatile.is_empty() {
        fault::point("profile.update")?;
        return store.save_profile(lock, saved.name, saved.new);
    }
    let key = |a: &&Affected| InstanceKey { project: project.clone(), name: a.name.clone() };
    let held = store.lock_instances(volatile.iter().map(key).collect(), "update")?;
    let mut proofs: Vec<&dyn Proof> = held.iter().map(|h| h as &dyn Proof).collect();
    proofs.push(lock);
    journal::run(store, "update", &proofs, |journal| {
        let path = store.layout().profile_record(project, saved.name);
        journal.undo(Action::RestoreFile { path, content: record::render(saved.old)? })?;
        for one in &held {
            let Some(affected) = volatile.iter().find(|a| a.name == one.key().name) else { continue };
            save_volatile(store, one, affected, journal)?;
            fault::point("profile.volatile")?;
        }
        store.save_profile(lock, saved.name, saved.new)?;
        fault::point("profile.record")
    })
}

fn save_volatile(
    store: &Store,
    held: &Held<InstanceKey, Exclusive>,
    affected: &Affected,
    journal: &mut Journal<'_>,
) -> Result<()> {
    lifecycle::settle(store, held)?;
    let old = match load::load(store, &held.key().project, &held.key().name) {
        // Gone since: an ephemeral one that stopped.
        Err(e) if e.kind() == Kind::NotFound => return Ok(()),
        other => other?,
    };
    let mut new = load::Loaded { expanded: affected.new.clone(), ..old.clone() };
    let _ids = update::refresh_volatile(store, &affected.changes, &mut new)?;
    journal.undo(update::restore_volatile(store, &old)?)?;
    store.save_volatile(held, &new.volatile)
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

fn note(store: &Store, project: &ProjectName, name: &ProfileName, action: &str) {
    let event = Event::lifecycle(action, &format!("/1.0/profiles/{name}"), project, serde_json::Value::Null);
    let _ = events::append(store, &event);
}
