//! An instance that is stopped for the time of an operation which it must not run beside, and started again afterwards:
//! `publish --force`, `snapshot restore`. After a crash in between it is stopped; nothing else of it has changed.

use super::{lifecycle, load, start, stop};
use crate::base::names::{InstanceName, ProjectName};
use crate::error::{Error, Result};
use crate::fault;
use crate::store::Store;
use crate::store::lock::{Exclusive, Held, InstanceKey};

/// An instance that was stopped for this.
#[derive(Debug)]
pub(super) struct Halted {
    /// It would have gone with its end.
    ephemeral: bool,
}

/// Kills what runs of an instance, as Incus does it; none: it does not run. `refuse`: said instead if it runs.
///
/// # Errors
/// Not found; `refuse`; as stopping.
pub(super) fn halt(
    store: &Store,
    (project, name): (&ProjectName, &InstanceName),
    verb: &str,
    refuse: Option<&str>,
) -> Result<Option<Halted>> {
    let locked = store.lock_instance(project, name, verb)?;
    lifecycle::settle(store, &locked)?;
    let mut instance = store.instance(project, name)?.ok_or_else(load::not_found)?;
    if load::running(store, project, name)?.is_none() {
        return Ok(None);
    }
    if let Some(text) = refuse {
        return Err(Error::conflict(text));
    }
    let ephemeral = std::mem::replace(&mut instance.ephemeral, false);
    if ephemeral {
        store.save_instance(&locked, &instance)?;
    }
    fault::point("halted.begin")?;
    stop::kill_and_wait(store, locked)?;
    fault::point("halted.stopped")?;
    Ok(Some(Halted { ephemeral }))
}

/// Starts it again; what is taken out of `halted` is done with.
///
/// # Errors
/// As starting.
pub(super) fn resume(store: &Store, locked: &Held<InstanceKey, Exclusive>, halted: &mut Option<Halted>) -> Result<()> {
    let Some(Halted { ephemeral }) = halted.take() else { return Ok(()) };
    let InstanceKey { project, name } = locked.key();
    let Some(mut instance) = store.instance(project, name)? else { return Ok(()) };
    if ephemeral {
        instance.ephemeral = true;
        store.save_instance(locked, &instance)?;
    }
    // Somebody else may have started it.
    if load::running(store, project, name)?.is_none() {
        start::locked(store, locked, &start::Options::default())?;
        lifecycle::note(store, project, name, "instance-started");
    }
    Ok(())
}

/// The same after the operation ended, one way or the other, without its lock: it may not have come as far as resuming. Returns
/// what the operation returned.
///
/// # Errors
/// The operation's, with what went wrong here; else what did.
pub(super) fn resumed<T>(
    store: &Store,
    (project, name): (&ProjectName, &InstanceName),
    mut halted: Option<Halted>,
    made: Result<T>,
) -> Result<T> {
    let resumed = match halted {
        Some(_) => store.lock_instance(project, name, "start").and_then(|locked| resume(store, &locked, &mut halted)),
        None => Ok(()),
    };
    match (made, resumed) {
        (Ok(made), resumed) => resumed.map(|()| made),
        (Err(e), resumed) => Err(resumed.err().into_iter().fold(e, Error::and)),
    }
}
