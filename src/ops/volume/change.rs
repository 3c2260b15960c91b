//! Making, changing and deleting volumes.

use super::{
    Of, User, data, dependent, named, named_snapshot, need, need_pool, not_found, note, project_of, refuse_running,
    taken, users,
};
use crate::base::time;
use crate::error::{Context, Error, Result};
use crate::fault;
use crate::model::instance::Config;
use crate::model::keys::device::disk;
use crate::model::keys::volume as keys;
use crate::model::view::VolumePut;
use crate::model::volume::{ContentType, CustomVolume};
use crate::ops::record_copy;
use crate::ops::{pool, quota, restrict};
use crate::storage::block;
use crate::store::lock::{Exclusive, Held, VolumeKey};
use crate::store::{Action, Journal, Store, journal, record};
use crate::sys::path;
use rustix::fs::{Mode, OFlags};
use std::os::fd::AsFd;
use std::path::Path;

/// Makes a volume that holds files or a disk; where the default pool is not there yet, that too.
///
/// # Errors
/// Exists; an option is wrong; the pool cannot be written: nothing is left then.
pub fn create(store: &Store, of: Of<'_>, content: ContentType, put: VolumePut) -> Result<()> {
    if of.pool.as_str() == pool::DEFAULT {
        pool::ensure_default(store)?;
    }
    let owner = project_of(store, of.project)?;
    let _project = restrict::hold(store, &owner, "create")?;
    let _pool = store.lock_pool_shared(of.pool)?;
    need_pool(store, of.pool)?;
    let key = of.key(store)?;
    let lock = store.lock_volume(key.clone(), "create")?;
    free(store, &key)?;
    let driver = pool::need(store, of.pool)?;
    if disk::DEPENDENT.get(&put.config).is_some() {
        return Err(Error::invalid("Config key \"dependent\" cannot be set on creation"));
    }
    let given: Config = put.config.into_iter().filter(|(_, value)| !value.is_empty()).collect();
    keys::check(&key.name, content, &given)?;
    let mut config = given.clone();
    let defaults = store.pool(of.pool)?.map(|p| p.config).unwrap_or_default();
    keys::apply_defaults(&defaults, content, keys::Origin::New, &mut config)?;
    keys::check(&key.name, content, &config).context("Invalid defaults of the storage pool")?;
    keys::check_new(driver.name(), &key.name, &config)?;
    let disk = block::rounded(keys::SIZE.size(&config)?.filter(|size| *size > 0).unwrap_or(keys::DISK_SIZE))?;
    let initial = keys::initial(&config)?;
    restrict::check_volume(store, &key, None, &config)?;
    let record = CustomVolume {
        format: 1,
        description: put.description,
        content_type: content,
        created_at: time::now(),
        config,
    };
    let (driver, volume) = (driver, data(&key)?);
    journal::run(store, "create", &[&lock], |journal| {
        journal.undo(Action::RemoveVolume(named(&key)))?;
        journal.commits_by(&store.layout().volume_record(&key))?;
        fault::point("volume.create.begin")?;
        quota::plan_volume(driver.as_ref(), &record)?;
        let folder = driver.begin_volume(&volume)?;
        match content.is_image() {
            true => drop(block::create(driver.as_ref(), &folder, disk)?),
            false => own(&folder, initial)?,
        }
        driver.commit_volume(&volume)?;
        match keys::SIZE.get(&given) {
            Some(_) => quota::new_volume(driver.as_ref(), &volume, &record)?,
            None => quota::brought_volume(driver.as_ref(), &volume, &record)?,
        }
        fault::point("volume.create.made")?;
        store.save_volume(&lock, &record)?;
        fault::point("volume.create.record")
    })?;
    record_copy::volume(store, &key);
    note(store, &key, "storage-volume-created");
    Ok(())
}

/// Neither a record nor data have the name.
pub(super) fn free(store: &Store, key: &VolumeKey) -> Result<()> {
    if store.layout().volume_record(key).exists() {
        return Err(taken());
    }
    match pool::need(store, &key.pool)?.exists(&data(key)?)? {
        true => Err(taken().hint("Run \"stapes doctor\": there are data of that name and no volume")),
        false => Ok(()),
    }
}

/// Gives the root of a new volume its owner and mode.
fn own(folder: &Path, (uid, gid, mode): (u32, u32, u32)) -> Result<()> {
    let fail = || format!("Failed setting the owner of \"{}\"", folder.display());
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let fd = rustix::fs::open(folder, flags, Mode::empty()).map_err(Error::from).with_context(fail)?;
    path::chown(fd.as_fd(), uid, gid).with_context(fail)?;
    path::chmod(fd.as_fd(), mode).with_context(fail)
}

/// Changes a volume: `edit` is shown what can be written of it.
///
/// # Errors
/// Not found; what `edit` says; an option is wrong.
pub fn update(store: &Store, of: Of<'_>, edit: &mut dyn FnMut(&mut VolumePut) -> Result<()>) -> Result<()> {
    let key = of.key(store)?;
    let _project = restrict::hold(store, &key.project, "update")?;
    let lock = store.lock_volume(key.clone(), "update")?;
    let old = need(store, &key)?;
    let mut put = VolumePut { config: old.config.clone(), description: old.description.clone() };
    edit(&mut put)?;
    put.config.retain(|_, value| !value.is_empty());
    let users = users(store, &key)?;
    let goes = users.iter().any(|user| user.dependent);
    if disk::DEPENDENT.get(&put.config).is_some() && disk::DEPENDENT.bool(&put.config).ok() != Some(goes) {
        return Err(Error::invalid("dependent cannot be changed").hint("it is set on the disk device of an instance"));
    }
    put.config.remove(disk::DEPENDENT.name);
    if goes {
        dependent::check_config(&put.config)?;
    }
    if old.content_type == ContentType::Iso && put.config != old.config {
        return Err(Error::invalid("Custom ISO volume config cannot be changed"));
    }
    keys::check(&key.name, old.content_type, &put.config)?;
    keys::check_driver(&store.pool(of.pool)?.map(|p| p.driver).unwrap_or_default(), &key.name, &put.config)?;
    keys::check_change(&old.config, &put.config)?;
    if keys::SHARED.bool(&old.config)? && !keys::SHARED.bool(&put.config)? {
        check_unshared(&users)?;
    }
    restrict::check_volume(store, &key, Some(&old.config), &put.config)?;
    let new = CustomVolume { description: put.description, config: put.config, ..old.clone() };
    let save = || {
        fault::point("volume.update")?;
        store.save_volume(&lock, &new)
    };
    let resized = keys::is_applied(&old.config, &new.config);
    if resized && new.content_type.is_image() {
        grow(store, &lock, &old, &new)?;
    } else if resized {
        journal::run(store, "update", &[&lock], |journal| {
            journal.undo(Action::RenewSize(named(&key)))?;
            quota::resize_volume(store, &key, &new.config)?;
            save()
        })?;
    } else if new != old {
        save()?;
    }
    record_copy::volume(store, &key);
    note(store, &key, "storage-volume-updated");
    Ok(())
}

/// Refuses to take a disk from several users all but one of whom may have it.
fn check_unshared(users: &[User]) -> Result<()> {
    let refuse =
        |whom| Err(Error::conflict(format!("Cannot un-share custom storage block volume if attached to {whom}")));
    match users.iter().filter(|user| user.instance.is_some()).count() {
        _ if users.iter().any(|user| user.profile.is_some()) => refuse("profile"),
        0 | 1 => Ok(()),
        _ => refuse("more than one instance"),
    }
}

/// Grows a disk to the size that its new record says, if that says one: with the record it is asked for, and done afterwards.
fn grow(store: &Store, lock: &Held<VolumeKey, Exclusive>, old: &CustomVolume, new: &CustomVolume) -> Result<()> {
    let (key, volume) = (lock.key(), data(lock.key())?);
    let driver = pool::need(store, &key.pool)?;
    if let Some(size) = quota::disk_size(&new.config)? {
        if size < block::size(driver.as_ref(), &volume)? {
            return Err(Error::invalid("Block volumes cannot be shrunk: Cannot be shrunk"));
        }
        block::can_grow(driver.as_ref(), &volume, size)?;
    }
    journal::run(store, "update", &[lock], |journal| {
        let path = store.layout().volume_record(key);
        journal.undo(Action::RestoreFile { path, content: record::render(old)? })?;
        journal.then(Action::RenewSize(named(key)))?;
        journal.keep()?;
        fault::point("volume.update")?;
        store.save_volume(lock, new)?;
        fault::point("volume.update.record")
    })
}

/// Deletes a volume with its snapshots; once begun it is done, by us or by recovery.
///
/// # Errors
/// Not found; Conflict: it is in use; its pool is not to be had. Nothing has happened then.
pub fn delete(store: &Store, of: Of<'_>) -> Result<()> {
    gone(store, of, true)
}

/// Deletes one of a pool that may not be to be had: what is said about it goes, and its data if somebody gets at them; false:
/// nobody does.
///
/// # Errors
/// Not found; Conflict: it is in use.
pub fn forget(store: &Store, of: Of<'_>) -> Result<bool> {
    let with_data = pool::open(store, of.pool).is_ok();
    gone(store, of, with_data).map(|()| with_data)
}

fn gone(store: &Store, of: Of<'_>, with_data: bool) -> Result<()> {
    let _pool = store.lock_pool_shared(of.pool)?;
    let key = of.key(store)?;
    let lock = store.lock_volume(key.clone(), "delete")?;
    need_pool(store, of.pool)?;
    // One whose record is damaged can be deleted, too.
    if !store.layout().volume_record(&key).exists() {
        return Err(not_found());
    }
    if !users(store, &key)?.is_empty() {
        return Err(Error::conflict("The storage volume is still in use"));
    }
    let mut actions = removal(store, &key)?;
    if with_data {
        pool::open(store, of.pool)?;
    } else {
        actions.retain(|action| !matches!(action, Action::RemoveVolume(_)));
    }
    fault::point("volume.delete.begin")?;
    Journal::forward(store, "delete", &[&lock], actions)?.finish()?;
    fault::point("volume.delete.done")?;
    note(store, &key, "storage-volume-deleted");
    Ok(())
}

/// What deletes a volume with its snapshots. Lock: the volume.
pub(super) fn removal(store: &Store, key: &VolumeKey) -> Result<Vec<Action>> {
    let mut actions = vec![Action::RemoveFile { path: store.layout().volume_record(key) }];
    for (snapshot, _) in store.volume_snapshots(key)? {
        actions.push(Action::RemoveVolume(named_snapshot(key, &snapshot)));
    }
    actions.push(Action::RemoveTree { path: store.layout().volume_snapshots_dir(key) });
    actions.push(Action::RemoveVolume(named(key)));
    Ok(actions)
}

/// Empties a volume: it is as it was when it was made, with the configuration it has now.
///
/// # Errors
/// Not found; Conflict: it has snapshots, something that runs uses it. All is as it was then.
pub fn rebuild(store: &Store, of: Of<'_>) -> Result<()> {
    let _pool = store.lock_pool_shared(of.pool)?;
    let lock = store.lock_volume(of.key(store)?, "rebuild")?;
    let key = lock.key();
    let record = need(store, key)?;
    if record.content_type == ContentType::Iso {
        return Err(Error::invalid("Custom ISO volumes cannot be rebuilt"));
    }
    if !store.volume_snapshots(key)?.is_empty() {
        return Err(Error::conflict("Cannot rebuild custom volume with snapshots"));
    }
    if refuse_running(store, &users(store, key)?).is_err() {
        return Err(Error::conflict("Cannot rebuild custom volume used by running instances"));
    }
    let (driver, volume) = (pool::need(store, of.pool)?, data(key)?);
    journal::run(store, "rebuild", &[&lock], |journal| {
        journal.undo(Action::AbortRestore(named(key)))?;
        fault::point("volume.rebuild.begin")?;
        quota::plan_volume(driver.as_ref(), &record)?;
        let folder = driver.begin_volume(&volume)?;
        match record.content_type.is_image() {
            true => {
                let size = quota::disk_size(&record.config)?.unwrap_or(keys::DISK_SIZE);
                drop(block::create(driver.as_ref(), &folder, block::rounded(size)?)?);
            }
            false => own(&folder, keys::initial(&record.config)?)?,
        }
        fault::point("volume.rebuild.made")?;
        journal.then(Action::FinishRestore(named(key)))?;
        journal.then(Action::RenewSize(named(key)))?;
        journal.keep()
    })?;
    note(store, key, "storage-volume-rebuilt");
    Ok(())
}
