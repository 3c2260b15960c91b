//! What is due of custom volumes by the clock, as `maintain` does it for instances.

use super::maintain::{Outcome, last_due, minute_of};
use super::snapshot::{Expiry, Request};
use super::volume::{self, Of};
use crate::base::cron;
use crate::base::names::{PoolName, ProjectName, SnapshotName, VolumeName};
use crate::error::Result;
use crate::model::keys;
use crate::model::volume::{CustomVolume, VolumeSnapshot};
use crate::store::Store;
use crate::store::lock::VolumeKey;
use jiff::Timestamp;

/// Snapshots that were due after `since` and not after `now`, and those that have expired.
///
/// # Errors
/// The projects or pools cannot be listed.
pub(super) fn maintain(store: &Store, (since, now): (Timestamp, Timestamp), outcome: &mut Outcome) -> Result<()> {
    for (project, _) in store.projects()? {
        for (pool, _) in store.pools()? {
            for (name, found) in store.volumes(&project, &pool)? {
                // A damaged record is for `doctor`.
                let Ok(found) = found else { continue };
                let label = format!("{pool}/{name}");
                let all = Volume { store, project: &project, pool: &pool, name: &name, found: &found };
                match all.maintain((since, now)) {
                    Ok(done) => {
                        outcome.done.extend(done.iter().map(|(s, what)| format!("Snapshot \"{label}/{s}\" {what}")))
                    }
                    Err(e) => outcome.failed.push((label, e)),
                }
            }
        }
    }
    Ok(())
}

struct Volume<'a> {
    store: &'a Store,
    project: &'a ProjectName,
    pool: &'a PoolName,
    name: &'a VolumeName,
    found: &'a CustomVolume,
}

impl Volume<'_> {
    /// The snapshots that came and went, with what became of them.
    fn maintain(&self, (since, now): (Timestamp, Timestamp)) -> Result<Vec<(SnapshotName, &'static str)>> {
        let of = Of { project: self.project, pool: self.pool, name: self.name };
        let key = VolumeKey { project: self.project.clone(), pool: self.pool.clone(), name: self.name.clone() };
        let mut done = Vec::new();
        let schedule = keys::SNAPSHOTS_SCHEDULE.text(&self.found.config);
        let all = self.store.volume_snapshots(&key)?;
        if !schedule.is_empty() {
            let since = since.max(self.found.created_at);
            let due = last_due(&cron::parse(schedule)?, minute_of(&self.found.config), (since, now));
            let taken = |due: &Timestamp| {
                let later = |s: &VolumeSnapshot| s.scheduled_for.is_some_and(|minute| minute >= *due);
                all.iter().any(|(_, s)| s.as_ref().is_ok_and(later))
            };
            if let Some(due) = due.filter(|due| !taken(due)) {
                let request = Request { expiry: Expiry::Configured, scheduled: Some(due), ..Request::default() };
                done.push((volume::snapshot::create(self.store, of, &request, "")?, "taken"));
            }
        }
        let over = |s: &VolumeSnapshot| s.expires_at.is_some_and(|at| at <= now);
        let gone: Vec<SnapshotName> =
            all.into_iter().filter(|(_, s)| s.as_ref().is_ok_and(over)).map(|(name, _)| name).collect();
        if !gone.is_empty() {
            volume::snapshot::delete(self.store, of, &gone)?;
        }
        done.extend(gone.into_iter().map(|name| (name, "expired")));
        Ok(done)
    }
}
