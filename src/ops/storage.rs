//! `storage create`, `set`, `unset`, `edit`, `delete`: pools.
//!
//! The record makes a pool: what is made before it is undone by a journal if it does not come to it, and what a pool has goes
//! after it. A writer holds the pool alone.

use super::{pool, pool_lvm, pool_place as place, pool_zfs, storage_info};
use crate::base::names::PoolName;
use crate::base::size;
use crate::error::{Context, Error, Result};
use crate::fault;
use crate::model::instance::Config;
use crate::model::keys::{self as registry, pool as keys};
use crate::model::pool::Pool;
use crate::model::view::PoolPut;
use crate::ops::pool_place::Place;
use crate::storage::{DRIVERS, VolumeKind};
use crate::store::events::{self, Event};
use crate::store::journal::{self, Journal};
use crate::store::{Action, Store};
use std::path::PathBuf;

/// A pool to be made.
#[derive(Debug, Clone)]
pub struct Request {
    /// Its name.
    pub name: PoolName,
    /// Its driver; empty: the one that suits the state folder best.
    pub driver: String,
    /// Free text.
    pub description: String,
    /// Configuration as given.
    pub config: Config,
}

fn not_found() -> Error {
    Error::not_found("Storage pool not found")
}

/// Makes a pool.
///
/// # Errors
/// Exists; the driver is unknown; an option is wrong; the source cannot be used: nothing is left then.
pub fn create(store: &Store, request: &Request) -> Result<()> {
    let name = &request.name;
    let lock = store.lock_pool_exclusive(name, "create")?;
    if store.pool(name)?.is_some() {
        return Err(Error::exists("The storage pool already exists"));
    }
    if !request.driver.is_empty() && !DRIVERS.contains(&request.driver.as_str()) {
        return Err(Error::invalid(format!("Unknown storage driver \"{}\"", request.driver))
            .hint(format!("the drivers are {}", DRIVERS.join(", "))));
    }
    let mut config = request.config.clone();
    config.retain(|_, value| !value.is_empty());
    refuse_volatile(&config, &Config::new())?;
    keys::check_each(&request.driver, &config)?;
    let fail = || format!("Failed creating storage pool \"{name}\"");
    let chosen = place::choose(store, name, &request.driver, &mut config).with_context(fail)?;
    journal::run(store, "create", &[&lock], |journal| {
        // A folder in the state folder that is there without a record may hold what a record was lost for.
        if chosen != Place::Own || !store.layout().pool_dir(name).exists() {
            journal.undo(release(name, &chosen, &config))?;
        }
        journal.commits_by(&store.layout().pool_record(name))?;
        fault::point("pool.create")?;
        let data = place::make(store, name, &chosen, &mut config).with_context(fail)?;
        fault::point("pool.placed")?;
        let (driver, description) = (request.driver.clone(), request.description.clone());
        pool::make_at(store, &lock, Pool { format: 1, driver, description, config }, &data)?;
        fault::point("pool.recorded")
    })?;
    note(store, name, "storage-pool-created");
    Ok(())
}

/// The action that takes away what a pool has.
fn release(name: &PoolName, place: &Place, config: &Config) -> Action {
    let source = keys::SOURCE.get(config).map(PathBuf::from).unwrap_or_default();
    let group = match place {
        Place::Group(..) => pool_lvm::traces(config),
        Place::Zfs(..) => pool_zfs::traces(config),
        _ => Config::new(),
    };
    Action::ReleasePool { pool: name.to_string(), source, id: keys::ID.text(config).to_string(), group }
}

/// What the program keeps for itself is nobody's to set.
fn refuse_volatile(config: &Config, before: &Config) -> Result<()> {
    match config.iter().find(|(key, value)| registry::is_volatile(key) && before.get(*key) != Some(*value)) {
        Some((key, _)) => Err(Error::invalid(format!("Invalid option {key:?}"))),
        None => Ok(()),
    }
}

/// Changes a pool: `edit` is shown what can be written of it.
///
/// # Errors
/// Not found; what `edit` says; an option is wrong, or cannot be changed: all is as before then.
pub fn update(store: &Store, name: &PoolName, edit: &mut dyn FnMut(&mut PoolPut) -> Result<()>) -> Result<()> {
    let lock = store.lock_pool_exclusive(name, "update")?;
    let old = store.pool(name)?.ok_or_else(not_found)?;
    let chosen = Place::of_pool(store.layout(), name, &old);
    let shown = storage_info::config(store, name, &old);
    let mut put = PoolPut { description: old.description.clone(), config: shown.clone() };
    edit(&mut put)?;
    put.config.retain(|_, value| !value.is_empty());
    refuse_volatile(&put.config, &old.config)?;
    put.config
        .extend(old.config.iter().filter(|(key, _)| registry::is_volatile(key)).map(|(k, v)| (k.clone(), v.clone())));
    if keys::SOURCE.get(&put.config) != keys::SOURCE.get(&shown) {
        return Err(Error::invalid("Pool source cannot be changed when not in pending state"));
    }
    if keys::SOURCE.get(&old.config).is_none() {
        keys::SOURCE.remove(&mut put.config);
    }
    keys::check_each(&old.driver, &put.config)?;
    keys::check_change(&old.config, &put.config)?;
    let grows = size_of(&chosen, &old.config, &mut put.config)?;
    let renamed = keys::renames(&old.config, &mut put.config);
    if renamed {
        pool_lvm::check_rename(store, name, &old, &put.config)?;
    }
    let new = Pool { format: old.format, driver: old.driver.clone(), description: put.description, config: put.config };
    place::remount(store, name, &old.config, &new)?;
    let record = store.layout().pool_record(name);
    journal::run(store, "update", &[&lock], |journal| {
        if grows || renamed {
            let content = std::fs::read_to_string(&record).context("Failed reading the pool's record")?;
            journal.undo(Action::RestoreFile { path: record.clone(), content })?;
        }
        if grows {
            journal.then(Action::GrowPool { pool: name.to_string() })?;
        }
        if renamed {
            let (from, to) = (pool_lvm::traces(&old.config), pool_lvm::traces(&new.config));
            journal.undo(Action::RenameGroup { pool: name.to_string(), from: to.clone(), to: from.clone() })?;
            // After a power cut LVM has one of the names: which of them the record is to say has to be known then.
            journal.keep()?;
            pool_lvm::rename(store, name, (&from, &to))?;
        }
        fault::point("pool.update")?;
        store.save_pool(&lock, &new)?;
        fault::point("pool.recorded")
    })?;
    note(store, name, "storage-pool-updated");
    Ok(())
}

/// Whether the pool is to grow. A size that was taken out stays.
fn size_of(chosen: &Place, old: &Config, new: &mut Config) -> Result<bool> {
    let before = keys::SIZE.size(old)?;
    let Some(wanted) = keys::SIZE.size(new)? else {
        if let Some(kept) = keys::SIZE.get(old) {
            keys::SIZE.set(new, kept);
        }
        return Ok(false);
    };
    let file = chosen.image().is_some();
    match before {
        Some(before) if file && wanted >= before => Ok(wanted > before),
        Some(before) if file => {
            Err(Error::invalid("Pool cannot be shrunk").hint(format!("it has {}", size::format_iec(before))))
        }
        _ => Err(Error::invalid("Cannot resize non-loopback pools")),
    }
}

/// Deletes a pool nobody uses, with the images unpacked in it. A folder or disk of the user's stays, without what is ours.
///
/// # Errors
/// Not found; Conflict: it is in use; Busy: a process is in it.
pub fn delete(store: &Store, name: &PoolName) -> Result<()> {
    let lock = store.lock_pool_exclusive(name, "delete")?;
    let old = store.pool(name)?.ok_or_else(not_found)?;
    let mut users = storage_info::holders(store, name)?;
    if users.is_empty() {
        users = volumes(store, name);
    }
    if !users.is_empty() {
        return Err(
            Error::conflict("The storage pool is currently in use").hint(format!("used by {}", users.join(", ")))
        );
    }
    fault::point("pool.delete")?;
    // It may be in use by somebody we do not know: then nothing has happened.
    place::unmount(store, name, &old)?;
    let chosen = Place::of_pool(store.layout(), name, &old);
    let actions =
        vec![Action::RemoveFile { path: store.layout().pool_record(name) }, release(name, &chosen, &old.config)];

    Journal::forward(store, "delete", &[&lock], actions)?.finish()?;
    note(store, name, "storage-pool-deleted");
    Ok(())
}

/// What lies in a pool besides images, whoever's it is; nothing if nobody gets at it.
fn volumes(store: &Store, name: &PoolName) -> Vec<String> {
    let Ok(Some(driver)) = pool::open(store, name) else { return Vec::new() };
    let all = VolumeKind::ALL.into_iter().flat_map(|kind| driver.list(kind).unwrap_or_default());
    all.map(|volume| format!("volume {}/{}", volume.kind().folder(), volume.name())).collect()
}

/// Appends a lifecycle event; a log that cannot be written stops nothing.
pub(super) fn note(store: &Store, name: &PoolName, action: &str) {
    let event = Event::lifecycle(action, &format!("/1.0/storage-pools/{name}"), "", serde_json::Value::Null);
    let _ = events::append(store, &event);
}
