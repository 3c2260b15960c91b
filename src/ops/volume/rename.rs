//! Renaming a volume: data, snapshots, records, and the devices of instances and profiles that name it, all or none.

use super::copy::{Ends, new_record};
use super::{Of, User, change, data, named, named_snapshot, need, note, project_of, refuse_running, users};
use crate::base::names::{ProjectName, SnapshotName, VolumeName};
use crate::error::{Error, Result};
use crate::fault;
use crate::model::instance::Devices;
use crate::model::keys::device::disk::{self, Source};
use crate::model::project::Feature;
use crate::ops::record_copy;
use crate::ops::{features, pool};
use crate::store::lock::{Exclusive, Held, InstanceKey, Key, ProjectKey, Proof, VolumeKey};
use crate::store::{Action, Journal, Store, journal, record};

/// All that changes with the name, locked.
struct Locked {
    projects: Vec<Held<ProjectKey, Exclusive>>,
    instances: Vec<Held<InstanceKey, Exclusive>>,
    from: Held<VolumeKey, Exclusive>,
    to: Held<VolumeKey, Exclusive>,
}

/// Gives a volume another name; instances and profiles that use it follow.
///
/// # Errors
/// Not found; Exists; Conflict: a running instance uses it. Nothing is changed then.
pub fn rename(store: &Store, of: Of<'_>, to: &VolumeName) -> Result<()> {
    let owner = project_of(store, of.project)?;
    let (old, new) = (of.key(store)?, Of { name: to, ..of }.key(store)?);
    if old == new {
        return Err(super::taken());
    }
    // Nobody of these starts or changes an instance meanwhile.
    let projects = features::lock_sharing(store, &owner, Feature::Volumes, "rename")?;
    let _pool = store.lock_pool_shared(of.pool)?;
    let (locked, users) = lock(store, projects, (&old, &new), "rename")?;
    change::free(store, &new)?;
    journal::run(store, "rename", &locked.proofs(), |journal| steps(store, journal, &locked, &users))?;
    locked.keep_copies(store);
    note(store, &new, "storage-volume-renamed");
    Ok(())
}

/// Moves a volume to another pool; instances and profiles of its project that use it follow. Locks: both pools.
///
/// # Errors
/// As [`rename`]; no room.
pub(super) fn relocate(
    store: &Store,
    projects: Vec<Held<ProjectKey, Exclusive>>,
    old: &VolumeKey,
    new: &VolumeKey,
) -> Result<()> {
    let (locked, users) = lock(store, projects, (old, new), "move")?;
    let (record, snapshots) = new_record(store, (old, new), None, false)?;
    let ends = Ends { from: &locked.from, to: &locked.to, snapshot: None, snapshots: &snapshots };
    journal::run(store, "move", &locked.proofs(), |journal| {
        ends.note(store, journal)?;
        journal.undo(Action::RemoveFile { path: store.layout().volume_record(new) })?;
        ends.cross(store, journal, &record, None)?;
        // The copies are on disk; which of them counts is on disk, too, before a record says so.
        journal.keep()?;
        ends.finish(store, &record)?;
        users.iter().try_for_each(|user| follow(store, journal, &locked, user))?;
        change::removal(store, old)?.into_iter().try_for_each(|action| journal.then(action))
    })?;
    locked.keep_copies(store);
    record_copy::volume(store, new);
    note(store, new, "storage-volume-created");
    note(store, old, "storage-volume-deleted");
    Ok(())
}

/// The volume under both names with its users, which do not run.
fn lock(
    store: &Store,
    projects: Vec<Held<ProjectKey, Exclusive>>,
    (old, new): (&VolumeKey, &VolumeKey),
    verb: &str,
) -> Result<(Locked, Vec<User>)> {
    need(store, old)?;
    let users = users(store, old)?;
    let own = users.iter().filter_map(|u| Some((u.project.clone(), u.instance.clone()?)));
    let keys: Vec<InstanceKey> = own.map(|(project, name)| InstanceKey { project, name }).collect();
    let instances = if keys.is_empty() { Vec::new() } else { store.lock_instances(keys, verb)? };
    refuse_running(store, &users)?;
    let (from, to) = pair(store, old, new, verb)?;
    need(store, old)?;
    Ok((Locked { projects, instances, from, to }, users))
}

impl Locked {
    fn proofs(&self) -> Vec<&dyn Proof> {
        let mut proofs: Vec<&dyn Proof> = vec![&self.from, &self.to];
        proofs.extend(self.projects.iter().map(|h| h as &dyn Proof));
        proofs.extend(self.instances.iter().map(|h| h as &dyn Proof));
        proofs
    }

    /// Renews the copies of the users' records.
    fn keep_copies(&self, store: &Store) {
        let users = self.instances.iter().map(Held::key);
        users.for_each(|one| record_copy::instance(store, (&one.project, &one.name), false));
    }
}

/// Both, in the right order.
pub(super) fn pair(
    store: &Store,
    a: &VolumeKey,
    b: &VolumeKey,
    verb: &str,
) -> Result<(Held<VolumeKey, Exclusive>, Held<VolumeKey, Exclusive>)> {
    if a.file_key() < b.file_key() {
        let first = store.lock_volume(a.clone(), verb)?;
        return Ok((first, store.lock_volume(b.clone(), verb)?));
    }
    let first = store.lock_volume(b.clone(), verb)?;
    Ok((store.lock_volume(a.clone(), verb)?, first))
}

fn steps(store: &Store, journal: &mut Journal<'_>, locked: &Locked, users: &[User]) -> Result<()> {
    let (old, new) = (locked.from.key(), locked.to.key());
    fault::point("volume.rename.begin")?;
    let driver = pool::need(store, &old.pool)?;
    let snapshots: Vec<SnapshotName> = store.volume_snapshots(old)?.into_iter().map(|(name, _)| name).collect();
    journal.undo(Action::RenameVolume { volume: named(new), to: old.name.to_string() })?;
    for snapshot in &snapshots {
        let back = named_snapshot(old, snapshot).name;
        journal.undo(Action::RenameVolume { volume: named_snapshot(new, snapshot), to: back })?;
    }
    let layout = store.layout();
    for (from, to) in [
        (layout.volume_record(new), layout.volume_record(old)),
        (layout.volume_snapshots_dir(new), layout.volume_snapshots_dir(old)),
    ] {
        journal.undo(Action::Move { from, to })?;
    }
    journal.keep()?;
    driver.rename(&data(old)?, &data(new)?)?;
    fault::point("volume.rename.data")?;
    for snapshot in &snapshots {
        driver.rename(&data(old)?.snapshot(snapshot)?, &data(new)?.snapshot(snapshot)?)?;
        fault::point("volume.rename.snapshot")?;
    }
    store.rename_volume(&locked.from, &locked.to)?;
    fault::point("volume.rename.record")?;
    users.iter().try_for_each(|user| follow(store, journal, locked, user))
}

/// Gives the devices of a user the new name.
fn follow(store: &Store, journal: &mut Journal<'_>, locked: &Locked, user: &User) -> Result<()> {
    let (old, new) = (locked.from.key(), locked.to.key());
    if let Some(name) = &user.instance {
        let Some(mut instance) = store.instance(&user.project, name)? else { return Ok(()) };
        let path = store.instance_path(&user.project, name)?;
        let before = record::render(&instance)?;
        if renamed(&mut instance.devices, old, new) {
            let held = locked.instances.iter().find(|h| h.key().project == user.project && h.key().name == *name);
            let held = held.ok_or_else(|| Error::internal("An instance is not locked"))?;
            journal.undo(Action::RestoreFile { path, content: before })?;
            store.save_instance(held, &instance)?;
            fault::point("volume.rename.instance")?;
        }
    }
    if let Some(name) = &user.profile {
        let Some(mut profile) = store.profile(&user.project, name)? else { return Ok(()) };
        let before = record::render(&profile)?;
        if renamed(&mut profile.devices, old, new) {
            let path = store.layout().profile_record(&user.project, name);
            journal.undo(Action::RestoreFile { path, content: before })?;
            store.save_profile(held_project(locked, &user.project)?, name, &profile)?;
            fault::point("volume.rename.profile")?;
        }
    }
    Ok(())
}

fn held_project<'a>(locked: &'a Locked, project: &ProjectName) -> Result<&'a Held<ProjectKey, Exclusive>> {
    let held = locked.projects.iter().find(|h| h.key().0 == *project);
    held.ok_or_else(|| Error::internal("A project is not locked"))
}

/// Has the devices on the volume `old` name it as `new`; whether there were any.
fn renamed(devices: &mut Devices, old: &VolumeKey, new: &VolumeKey) -> bool {
    let mut any = false;
    for device in devices.values_mut() {
        let Source::Volume { pool, volume, path } = disk::source(device) else { continue };
        if pool == old.pool.as_str() && volume == old.name.as_str() {
            let source = path.map_or_else(|| new.name.to_string(), |path| format!("{}/{path}", new.name));
            disk::SOURCE.set(device, source);
            disk::POOL.set(device, new.pool.as_str());
            any = true;
        }
    }
    any
}
