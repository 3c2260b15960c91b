//! `profile set`, `edit` and the like: a change of a profile reaches all instances that have it, those that run at once.
//!
//! The writer holds all projects that use the profile alone, and each instance whose own records or interfaces change. What one of them refuses is
//! refused as a whole.

use super::load::{self, Loaded};
use super::network::taken::{self, Owner};
use super::profile::{Locked, lock, not_found, note, record, record_of, validate};
use super::restrict::{self, Wanted};
use super::update::{self, Checked};
use super::{disk_live, lifecycle, live, nic_live, nics, proxy_live, quota, volume};
use crate::base::names::{InstanceName, ProfileName, ProjectName};
use crate::error::{Context, Error, Kind, Result};
use crate::fault;
use crate::model::diff::Changes;
use crate::model::expand::{Expanded, expand};
use crate::model::instance::{Devices, Instance};
use crate::model::keys::device;
use crate::model::profile::Profile;
use crate::model::view::ProfilePut;
use crate::ops::record_copy;
use crate::store::lock::{Exclusive, Held, InstanceKey, Key, Proof};
use crate::store::{Action, Journal, Store, journal, record as store_record};
use std::collections::{BTreeMap, BTreeSet};

type InstanceLock = Held<InstanceKey, Exclusive>;

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
    let lock = lock(store, project, "update")?;
    let project = &lock.owner;
    let old = store.profile(project, name)?.ok_or_else(not_found)?;
    let mut put =
        ProfilePut { config: old.config.clone(), description: old.description.clone(), devices: old.devices.clone() };
    edit(&mut put)?;
    let new = record_of(&put);
    validate(store, project, name, &new)?;
    let mut all = Vec::new();
    for user in lock.projects() {
        check_root(store, user, name, &old.devices, &new.devices)?;
        all.extend(affected(store, user, name, &new)?);
    }
    let affected = checked(all, name)?;
    let held = lock_instances(store, &affected)?;
    for one in &affected {
        one.settle_disks(store)?;
    }
    let _volumes = volume::keep(store, project, new.devices.values(), &[])?;
    let mut proofs: Vec<&dyn Proof> = held.iter().map(|h| h as &dyn Proof).collect();
    proofs.extend(lock.held.iter().map(|h| h as &dyn Proof));
    let mut chosen = choose(store, &held, &affected)?;
    let sizes = affected.iter().filter(|a| a.resized).map(|a| quota::renewal(&a.key.project, &a.key.name));
    let undo: Vec<Action> = sizes.chain(affected.iter().flat_map(Affected::undo)).collect();
    let mut act = |journal: Option<&mut Journal<'_>>| {
        apply(store, &affected, &mut chosen)?;
        let saved = Saved { name, old: &old, new: &new, affected: &affected, held: &held, chosen: &chosen };
        save(store, &lock, saved, journal)
    };
    match undo.is_empty() && held.is_empty() {
        true => act(None)?,
        // What was done to what runs is taken back last: it goes by the records.
        false => journal::run(store, "update", &proofs, |journal| {
            undo.into_iter().try_for_each(|action| journal.undo(action))?;
            act(Some(journal))
        })?,
    }
    held.iter().for_each(|one| record_copy::instance(store, (&one.key().project, &one.key().name), false));
    note(store, project, name, "profile-updated");
    Ok(())
}

/// The instances whose own records or interfaces change with the profile. None of them ends meanwhile, or not quite.
fn lock_instances(store: &Store, affected: &[Affected]) -> Result<Vec<InstanceLock>> {
    let keys: Vec<InstanceKey> = affected.iter().filter(|a| a.has_own()).map(|a| a.key.clone()).collect();
    if keys.is_empty() { Ok(Vec::new()) } else { store.lock_instances(keys, "update") }
}

/// What is chosen for the new interfaces of the locked instances, by the file keys of their locks; one that has gone since has
/// none.
fn choose(store: &Store, held: &[InstanceLock], affected: &[Affected]) -> Result<BTreeMap<String, Loaded>> {
    let mut all = BTreeMap::new();
    for one in held {
        lifecycle::settle(store, one)?;
        let InstanceKey { project, name } = one.key();
        let Some(affected) = affected.iter().find(|a| a.key == *one.key()) else { continue };
        match load::load(store, project, name) {
            // An ephemeral one that stopped.
            Err(e) if e.kind() == Kind::NotFound => {}
            Err(e) => return Err(e),
            Ok(old) => {
                let mut new = Loaded { expanded: affected.new.clone(), ..old };
                nics::refresh(store, &affected.changes.devices, &mut new)?;
                all.insert(one.key().file_key(), new);
            }
        }
    }
    Ok(all)
}

/// Does to all that run what has to be done at once; what one of them refuses is taken back by the journal.
fn apply(store: &Store, affected: &[Affected], chosen: &mut BTreeMap<String, Loaded>) -> Result<()> {
    for one in affected {
        let InstanceKey { project, name } = &one.key;
        // One that was deleted meanwhile has no size.
        if let Some(new) = chosen.get_mut(&one.key.file_key()).filter(|_| one.resized) {
            quota::resize_or_note(store, (project, name), &one.new.devices, &mut new.volatile.config)
                .with_context(|| format!("Instance \"{name}\""))?;
        }
        let Some(running) = load::running(store, project, name)? else { continue };
        let target = live::Target { store, project, name, running: &running };
        let mut act = || {
            live::apply(target, &one.changes.actions, &one.new)?;
            match chosen.get_mut(&one.key.file_key()) {
                Some(new) => {
                    disk_live::apply(target, new, &disk_live::touched(&one.changes.devices))?;
                    nic_live::apply(target, new, &one.nics())?;
                    proxy_live::apply(target, new, &one.proxies())
                }
                None => Ok(()),
            }
        };
        act().with_context(|| format!("Instance \"{name}\""))?;
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
    key: InstanceKey,
    changes: Changes,
    new: Expanded,
    /// Its root gets another size.
    resized: bool,
}

impl Affected {
    /// What takes back what is done to it while it runs.
    fn undo(&self) -> Vec<Action> {
        live::undo(&self.key.project, &self.key.name, &self.changes, &self.new)
    }

    /// The volumes that it gets while it runs belong to it.
    fn settle_disks(&self, store: &Store) -> Result<()> {
        let InstanceKey { project, name } = &self.key;
        if disk_live::touched(&self.changes.devices).is_empty() || load::running(store, project, name)?.is_none() {
            return Ok(());
        }
        disk_live::settle(store, &self.key, &load::load(store, project, name)?, &self.changes.devices)
            .with_context(|| format!("Instance \"{name}\""))
    }

    /// Its volatile record follows from the change, or something that runs of it.
    fn has_own(&self) -> bool {
        let disks = !disk_live::touched(&self.changes.devices).is_empty();
        let devices = disks || !self.nics().is_empty() || !self.proxies().is_empty();
        self.changes.idmap || self.changes.cloud_init || devices || self.resized
    }

    /// Its interfaces that the change reaches.
    fn nics(&self) -> BTreeSet<String> {
        nic_live::touched(&self.changes.devices, &self.new.devices)
    }

    /// Its proxies that the change reaches.
    fn proxies(&self) -> BTreeSet<String> {
        proxy_live::touched(&self.changes.devices, &self.new.devices)
    }
}

/// The instances of a project that have the profile, each checked with `new` in its place.
fn affected(store: &Store, project: &ProjectName, name: &ProfileName, new: &Profile) -> Result<Vec<Result<Affected>>> {
    let mut all = Vec::new();
    for (instance_name, instance) in store.instances(project)? {
        let Ok(instance) = instance else { continue };
        if !instance.profiles.iter().any(|p| p == name.as_str()) {
            continue;
        }
        let one = affect(store, project, &instance_name, &instance, (name, new));
        all.push(one.with_context(|| format!("Instance \"{instance_name}\"")));
    }
    Ok(all)
}

/// All of them, or what all that refuse say.
fn checked(all: Vec<Result<Affected>>, name: &ProfileName) -> Result<Vec<Affected>> {
    let (mut good, mut errors) = (Vec::new(), Vec::new());
    all.into_iter().for_each(|one| match one {
        Ok(one) => good.push(one),
        Err(e) => errors.push(e),
    });
    match Error::join(errors) {
        Some(e) => Err(e.context(format!("Failed to update profile {:?}, nothing was changed", name.as_str()))),
        None => Ok(good),
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
    let owner = Owner { project, name, devices: &new.devices };
    taken::check(store, owner, &changes.devices.incoming())?;
    restrict::check(store, Wanted { project, name, kind: instance.kind, expanded: &new })?;
    if load::running(store, project, name)?.is_some() {
        live::check(store, &changes, &new)?;
    }
    let resized = quota::changes(store, &old.devices, &new.devices)?;
    let key = InstanceKey { project: project.clone(), name: name.clone() };
    Ok(Affected { key, changes, new, resized })
}

/// A changed profile, the instances it reaches, and those of them whose own records follow.
#[derive(Clone, Copy)]
struct Saved<'a> {
    name: &'a ProfileName,
    old: &'a Profile,
    new: &'a Profile,
    affected: &'a [Affected],
    held: &'a [InstanceLock],
    chosen: &'a BTreeMap<String, Loaded>,
}

/// Writes the profile, and the volatile records of instances that follow from it, all of it undone by the journal.
fn save(store: &Store, lock: &Locked, saved: Saved<'_>, journal: Option<&mut Journal<'_>>) -> Result<()> {
    let Some(journal) = journal else {
        fault::point("profile.update")?;
        return record(store, lock.own()?, saved.name, saved.new);
    };
    let path = store.layout().profile_record(&lock.owner, saved.name);
    journal.undo(Action::RestoreFile { path, content: store_record::render(saved.old)? })?;
    for one in saved.held {
        save_volatile(store, one, saved, journal)?;
        fault::point("profile.volatile")?;
    }
    record(store, lock.own()?, saved.name, saved.new)?;
    fault::point("profile.record")
}

fn save_volatile(store: &Store, held: &InstanceLock, saved: Saved<'_>, journal: &mut Journal<'_>) -> Result<()> {
    let InstanceKey { project, name } = held.key();
    let Some(affected) = saved.affected.iter().find(|a| a.key == *held.key()) else { return Ok(()) };
    let Some(chosen) = saved.chosen.get(&held.key().file_key()) else { return Ok(()) };
    let old = load::load(store, project, name)?;
    let mut new = chosen.clone();
    let _ids = update::refresh_volatile(store, &affected.changes, &mut new)?;
    if new.volatile == old.volatile {
        return Ok(());
    }
    journal.undo(update::restore_volatile(store, &old)?)?;
    store.save_volatile(held, &new.volatile)
}
