//! `admin maintain`: what a daemon would do by the clock – snapshots that are due, snapshots and cached images that have
//! expired, images that follow a server.
//!
//! A timer of systemd or cron runs it as often as the shortest schedule wants. What was due since the last run is done once,
//! however often it was due; a run that was killed is gone on from, because a snapshot says itself what it was taken for. One
//! run at a time.

use super::snapshot::{self, Expiry, Request};
use super::{image, image_remote, load, maintain_volumes};
use crate::base::cron::{self, Minute, Trigger};
use crate::base::names::{Fingerprint, InstanceName, ProjectName};
use crate::error::{Error, Kind, Result};
use crate::fault;
use crate::model::instance::Config;
use crate::model::keys::{self, server};
use crate::ops::record_copy;
use crate::store::Store;
use crate::store::lock::{Exclusive, Held, MaintenanceKey};
use crate::store::types::{Maintenance, Snapshot};
use jiff::{Timestamp, ToSpan};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

/// Longest time after which what was missed is still done.
const MEMORY: i64 = 400 * 24 * 60;
/// How often images are compared with their servers unless it is set, hours.
const IMAGES_EVERY: i64 = 6;

/// How long another run is waited for: also a process that was forked off the last one, and has not got to its exec, has the lock.
const PATIENCE: Duration = Duration::from_secs(3);

/// Compares an image with its server; the one that takes its place, if there is one. Given by the front, which knows servers.
pub type Refresh<'a> = &'a mut dyn FnMut(&Store, &Fingerprint) -> Result<Option<Fingerprint>>;

/// What was done, in words, and what did not work.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Lines for the user.
    pub done: Vec<String>,
    /// Objects and errors.
    pub failed: Vec<(String, Error)>,
}

/// Does all that is due at `now`.
///
/// # Errors
/// Busy: another run goes on; the records cannot be read or written. What fails of single objects is in the outcome.
pub fn maintain(store: &Store, now: Timestamp, refresh: Refresh<'_>) -> Result<Outcome> {
    let held: Held<MaintenanceKey, Exclusive> = store.lock_within(MaintenanceKey, "maintain", PATIENCE)?;
    let mut record = store.maintenance()?;
    // The first run has missed nothing.
    let since = record.last_run.unwrap_or(now - 1.minutes()).min(now);
    let mut outcome = Outcome::default();
    for (project, _) in store.projects()? {
        for name in store.instance_names(&project)? {
            let who = (&project, &name);
            let label = if project == ProjectName::default() { name.to_string() } else { format!("{project}/{name}") };
            let done = scheduled(store, who, (since, now)).map(|taken| {
                outcome.done.extend(taken.map(|s| format!("Snapshot \"{label}/{s}\" taken")));
            });
            outcome.failed.extend(done.err().map(|e| (label.clone(), e)));
            match expired(store, who, now) {
                Ok(gone) => outcome.done.extend(gone.iter().map(|s| format!("Snapshot \"{label}/{s}\" expired"))),
                Err(e) => outcome.failed.push((label, e)),
            }
        }
    }
    maintain_volumes::maintain(store, (since, now), &mut outcome)?;
    images(store, &mut outcome, (&mut record, now), refresh)?;
    record_copy::all(store)?;
    fault::point("maintain.done")?;
    (record.format, record.last_run) = (1, Some(now));
    store.save_maintenance(&held, &record)?;
    Ok(outcome)
}

/// Takes the snapshot of an instance that was due last, unless that is done.
fn scheduled(
    store: &Store,
    who: (&ProjectName, &InstanceName),
    (since, now): (Timestamp, Timestamp),
) -> Result<Option<String>> {
    let loaded = match load::load(store, who.0, who.1) {
        // It went meanwhile.
        Err(e) if e.kind() == Kind::NotFound && store.instance(who.0, who.1)?.is_none() => return Ok(None),
        other => other?,
    };
    let config = &loaded.expanded.config;
    let schedule = keys::SNAPSHOTS_SCHEDULE.text(config);
    if schedule.is_empty() {
        return Ok(None);
    }
    let since = since.max(loaded.instance.created_at);
    let Some(due) = last_due(&cron::parse(schedule)?, minute_of(&loaded.volatile.config), (since, now)) else {
        return Ok(None);
    };
    let stopped = load::running(store, who.0, who.1)?.is_none();
    if stopped && !keys::SNAPSHOTS_SCHEDULE_STOPPED.bool(config)? {
        return Ok(None);
    }
    let taken = |s: &Snapshot| s.scheduled_for.is_some_and(|minute| minute >= due);
    if store.snapshots(who.0, who.1)?.iter().any(|(_, s)| s.as_ref().is_ok_and(taken)) {
        return Ok(None);
    }
    let request = Request { expiry: Expiry::Configured, scheduled: Some(due), ..Request::default() };
    snapshot::create(store, who, &request).map(|name| Some(name.to_string()))
}

/// The minute of the hour at which names like `@daily` are due for an object with these keys: not for all the same one.
pub(super) fn minute_of(volatile: &Config) -> u8 {
    let mut hasher = DefaultHasher::new();
    keys::VOLATILE_UUID.get(volatile).unwrap_or_default().hash(&mut hasher);
    u8::try_from(hasher.finish() % 60).unwrap_or(0)
}

/// The last minute after `since` and not after `now` at which one of the triggers is due, in local time.
pub(super) fn last_due(triggers: &[Trigger], minute: u8, (since, now): (Timestamp, Timestamp)) -> Option<Timestamp> {
    let whole = now.as_second().div_euclid(60);
    (0..MEMORY).map_while(|back| Timestamp::from_second((whole - back) * 60).ok().filter(|at| *at > since)).find(|at| {
        let zoned = at.to_zoned(jiff::tz::TimeZone::system());
        let small = |n: i8| u8::try_from(n).unwrap_or(0);
        let at = Minute {
            minute: small(zoned.minute()),
            hour: small(zoned.hour()),
            day: small(zoned.day()),
            month: small(zoned.month()),
            weekday: small(zoned.weekday().to_sunday_zero_offset()),
        };
        triggers.iter().any(|trigger| is_due(trigger, minute, at))
    })
}

fn is_due(trigger: &Trigger, minute: u8, at: Minute) -> bool {
    let name = match trigger {
        Trigger::Fields(fields) => return fields.matches(at),
        Trigger::Alias(name) => *name,
    };
    let midnight = at.hour == 0;
    at.minute == minute
        && match name {
            "@hourly" => true,
            "@daily" | "@midnight" => midnight,
            "@weekly" => midnight && at.weekday == 0,
            "@monthly" => midnight && at.day == 1,
            "@annually" | "@yearly" => midnight && at.day == 1 && at.month == 1,
            // With the instance's start, which is no matter of the clock; or never.
            _ => false,
        }
}

/// Deletes the snapshots of an instance that have expired.
fn expired(store: &Store, who: (&ProjectName, &InstanceName), now: Timestamp) -> Result<Vec<String>> {
    let over = |s: &Snapshot| s.expires_at.is_some_and(|at| at <= now);
    let all = store.snapshots(who.0, who.1)?.into_iter();
    let gone: Vec<_> = all.filter(|(_, s)| s.as_ref().is_ok_and(over)).map(|(name, _)| name).collect();
    if !gone.is_empty() {
        snapshot::delete(store, who, &gone)?;
    }
    Ok(gone.iter().map(ToString::to_string).collect())
}

/// Images that follow a server, every few hours; cached ones that nobody used for long.
fn images(
    store: &Store,
    outcome: &mut Outcome,
    (record, now): (&mut Maintenance, Timestamp),
    refresh: Refresh<'_>,
) -> Result<()> {
    let mut asked = Vec::new();
    for project in store.image_projects()? {
        let own = store.use_images_of(project.clone());
        let done = image_remote::settings(store).and_then(|config| {
            let hours = server::number(&config, server::AUTO_UPDATE_INTERVAL, IMAGES_EVERY);
            let last = record.images_of.get(project.as_str()).copied().or(record.images_at);
            let due = last.is_none_or(|last| now.as_second() - last.as_second() >= hours.saturating_mul(3600));
            let due = hours > 0 && due;
            asked.extend(due.then(|| project.to_string()));
            images_of(store, outcome, (&config, now, due), refresh)
        });
        store.use_images_of(own);
        done?;
    }
    record.images_of.extend(asked.into_iter().map(|project| (project, now)));
    Ok(())
}

/// The images of one project.
fn images_of(
    store: &Store,
    outcome: &mut Outcome,
    (config, now, due): (&Config, Timestamp, bool),
    refresh: Refresh<'_>,
) -> Result<()> {
    for fingerprint in image_remote::outdated(store, config, now)? {
        let label = fingerprint.as_str()[..12].to_string();
        match image::delete(store, &fingerprint) {
            Ok(()) => outcome.done.push(format!("Image \"{label}\" expired")),
            Err(e) if e.kind() == Kind::NotFound => {}
            Err(e) => outcome.failed.push((label, e)),
        }
    }
    for (fingerprint, image) in if due { store.images()? } else { Vec::new() } {
        if !image.is_ok_and(|i| i.auto_update) {
            continue;
        }
        let label = fingerprint.as_str()[..12].to_string();
        match refresh(store, &fingerprint) {
            Ok(Some(new)) => outcome.done.push(format!("Image \"{label}\" replaced by \"{}\"", &new.as_str()[..12])),
            Ok(None) => {}
            Err(e) => outcome.failed.push((label, e)),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn due(schedule: &str, since: &str, now: &str) -> Option<String> {
        let at = |text: &str| text.parse::<Timestamp>().expect("time");
        let found = last_due(&cron::parse(schedule).expect("schedule"), 7, (at(since), at(now)));
        found.map(|t| t.to_string())
    }

    #[test]
    fn what_was_missed_is_due_once() {
        let show = |found: Option<String>| found.unwrap_or_default();
        // In any zone whose offset is whole hours.
        assert_eq!(show(due("*/15 * * * *", "2026-01-01T10:01:00Z", "2026-01-01T12:04:59Z")), "2026-01-01T12:00:00Z");
        assert_eq!(due("*/15 * * * *", "2026-01-01T12:00:00Z", "2026-01-01T12:14:59Z"), None);
        assert_eq!(show(due("@hourly", "2026-01-01T10:08:00Z", "2026-01-01T12:06:00Z")), "2026-01-01T11:07:00Z");
        assert_eq!(due("@never, @startup", "2025-01-01T10:08:00Z", "2026-01-01T12:06:00Z"), None);
        assert!(due("@yearly", "2025-03-01T00:00:00Z", "2026-02-01T00:00:00Z").is_some());
        assert_eq!(due("* * * * *", "2026-01-01T12:00:00Z", "2026-01-01T11:00:00Z"), None, "the clock went back");
    }
}
