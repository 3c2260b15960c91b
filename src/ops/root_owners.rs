//! The owners in the root of an instance, where its pool has no id-mapped mounts: shifted on disk before a start, by a journal.

use super::load::Loaded;
use super::pool;
use crate::base::idmap::IdMap;
use crate::error::{Error, Result};
use crate::model::keys;
use crate::store::lock::{Exclusive, Held, InstanceKey};
use crate::store::undo::{Volume as Named, VolumeKind};
use crate::store::{Action, Store, journal};

/// Shifts the owners of a root on disk for the id map `map`, where the pool's driver takes more than one step for it. The others
/// do so by themselves ([`super::start::root_of`]). Lock: the instance.
///
/// # Errors
/// Denied: the instance is protected; no room. All is as it was then.
pub fn settle(store: &Store, held: &Held<InstanceKey, Exclusive>, loaded: &Loaded, map: Option<&IdMap>) -> Result<()> {
    let (pool_name, volume) = (loaded.pool()?, loaded.volume()?);
    let (driver, wanted) = (pool::need(store, &pool_name)?, map.cloned().unwrap_or_default());
    if !driver.shifts_in_steps() {
        return Ok(());
    }
    if pool::maps_ids(store, &pool_name)? || driver.maps_ids(&volume)? || driver.owners(&volume)? == wanted {
        return Ok(());
    }
    if keys::SECURITY_PROTECTION_SHIFT.bool(&loaded.expanded.config)? && !wanted.is_empty() {
        return Err(Error::denied("Container is protected against filesystem shifting"));
    }
    let InstanceKey { project, name } = held.key();
    let (project, name) = (project.to_string(), name.to_string());
    let target = Named { pool: pool_name.to_string(), kind: VolumeKind::Container, project, name };
    journal::run(store, "start", &[held], |journal| {
        journal.undo(Action::AbortRestore(target.clone()))?;
        driver.begin_shift(&volume, &wanted)?;
        journal.then(Action::FinishRestore(target.clone()))?;
        journal.keep()
    })
}
