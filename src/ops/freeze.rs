//! What runs, held still while its files are copied, so that they are all of one moment. Called by all that copies an instance.
//!
//! A kill in between leaves the journal, which thaws it.

use super::load;
use crate::error::{Error, Result};
use crate::fault;
use crate::host::cgroup::Group;
use crate::store::lock::{Exclusive, Held, InstanceKey};
use crate::store::{Action, Journal, Store};
use std::time::Duration;

/// How long processes may take to freeze and to thaw.
const FREEZE_TIMEOUT: Duration = Duration::from_secs(10);

/// Does something while what runs of an instance is frozen. The journal thaws it should we be killed.
///
/// # Errors
/// As `body`; it cannot be frozen.
pub(super) fn frozen(
    store: &Store,
    held: &Held<InstanceKey, Exclusive>,
    journal: &mut Journal<'_>,
    body: impl FnOnce() -> Result<()>,
) -> Result<()> {
    all_frozen(store, std::slice::from_ref(held), journal, body)
}

/// The same with several instances.
///
/// # Errors
/// As [`frozen`].
pub(super) fn all_frozen(
    store: &Store,
    held: &[Held<InstanceKey, Exclusive>],
    journal: &mut Journal<'_>,
    body: impl FnOnce() -> Result<()>,
) -> Result<()> {
    let mut groups = Vec::new();
    let mut freeze_all = || -> Result<()> {
        for one in held {
            groups.extend(freeze(store, one, journal)?);
        }
        Ok(())
    };
    let done = freeze_all().and_then(|()| body()).and_then(|()| fault::point("snapshot.copied"));
    let thawed = groups.iter().filter_map(|group| group.freeze(false, FREEZE_TIMEOUT).err());
    Error::join(done.err().into_iter().chain(thawed).collect()).map_or(Ok(()), Err)
}

/// Freezes what runs, unless it is frozen already; what is to be thawed.
fn freeze(store: &Store, held: &Held<InstanceKey, Exclusive>, journal: &mut Journal<'_>) -> Result<Option<Group>> {
    let InstanceKey { project, name } = held.key();
    let Some(running) = load::running(store, project, name)? else { return Ok(None) };
    let group = Group::at(running.file.cgroup.clone());
    if group.frozen() {
        return Ok(None);
    }
    let thaw = Action::ThawCgroup { path: running.file.cgroup };
    journal.undo(thaw.clone())?;
    journal.then(thaw)?;
    match group.freeze(true, FREEZE_TIMEOUT) {
        Ok(()) => {}
        // It ended meanwhile: its monitor waits for our lock to record that.
        Err(_) if !group.exists() || !group.populated() => return Ok(None),
        Err(e) => return Err(e),
    }
    fault::point("snapshot.frozen")?;
    Ok(Some(group))
}
