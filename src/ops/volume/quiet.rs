//! What runs with a volume, held still while its files are copied one by one: a database that writes meanwhile would find
//! another moment in each of them. Where the driver takes all of a volume at once, nothing has to wait.
//!
//! The instances' locks come before the volume's. Whoever has that keeps others from beginning to use it.

use super::users;
use crate::error::{Error, Result};
use crate::ops::{load, pool, snapshot};
use crate::store::lock::{Exclusive, Held, InstanceKey, VolumeKey};
use crate::store::{Journal, Store};

/// How often it is tried to lock what runs with a volume before that is something else again.
const TRIES: usize = 5;

/// Instances to be held still. They can be stopped again when this is dropped.
pub(super) struct Quiet(Vec<Held<InstanceKey, Exclusive>>);

/// The driver copies file by file within the pool.
///
/// # Errors
/// The pool is not to be had.
pub(super) fn takes_its_time(store: &Store, key: &VolumeKey) -> Result<bool> {
    let driver = pool::open(store, &key.pool)?;
    // An overlay is made in no time, and a volume in it copied as slowly as anywhere.
    Ok(driver.is_some_and(|driver| driver.name() == "overlay" || !driver.caps().instant_clone))
}

/// What runs with the volume.
fn running(store: &Store, key: &VolumeKey) -> Result<Vec<InstanceKey>> {
    let mut all = Vec::new();
    for user in users(store, key)? {
        let Some(name) = user.instance else { continue };
        if load::running(store, &user.project, &name)?.is_some() {
            all.push(InstanceKey { project: user.project, name });
        }
    }
    Ok(all)
}

impl Quiet {
    /// Locks a volume with `lock`, whatever else that takes, and before it what runs with the volume, if there is a copy to be
    /// made that `takes_its_time`. The pool is held by the caller.
    ///
    /// # Errors
    /// Busy.
    pub fn with<T>(
        store: &Store,
        key: &VolumeKey,
        (verb, takes_its_time): (&str, bool),
        lock: impl Fn() -> Result<T>,
    ) -> Result<(T, Self)> {
        if !takes_its_time {
            return Ok((lock()?, Self(Vec::new())));
        }
        for _ in 0..TRIES {
            let instances = store.lock_instances(running(store, key)?, verb)?;
            let locked = lock()?;
            if running(store, key)?.iter().all(|one| instances.iter().any(|held| held.key() == one)) {
                return Ok((locked, Self(instances)));
            }
        }
        Err(Error::busy("The instances that use the volume come and go").hint("try again"))
    }

    /// The same for a copy within the volume's pool.
    ///
    /// # Errors
    /// Busy.
    pub fn lock(store: &Store, key: &VolumeKey, verb: &str) -> Result<(Held<VolumeKey, Exclusive>, Self)> {
        Self::with(store, key, (verb, takes_its_time(store, key)?), || store.lock_volume(key.clone(), verb))
    }

    /// Copies, as `body` does it, while nothing changes the volume. The journal thaws what runs should we be killed.
    ///
    /// # Errors
    /// As `body`; an instance cannot be frozen.
    pub fn copy(&self, store: &Store, journal: &mut Journal<'_>, body: impl FnOnce() -> Result<()>) -> Result<()> {
        snapshot::all_frozen(store, &self.0, journal, body)
    }
}
