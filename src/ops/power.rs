//! What happens to instances when the host comes up and goes down: `admin boot` and `admin shutdown`.
//!
//! As Incus's server does it: at boot those with `boot.autostart`, or that ran when the host went down, first those without a
//! priority side by side, then the others from the highest priority on; at shutdown in batches of `boot.stop.priority`. Both go
//! on after a failure and report all; both may be repeated. The order is decided by pure functions.

use super::stop::Options as Stopping;
use super::{load, pool_place, start, stop};
use crate::base::names::{InstanceName, ProjectName};
use crate::base::parallel;
use crate::error::{Error, Kind, Result};
use crate::fault;
use crate::model::instance::Config;
use crate::model::keys::{self, volatile_value};
use crate::store::Store;
use crate::store::runfile::Wish;
use crate::sys::process;
use std::cmp::Reverse;
use std::time::{Duration, Instant};

/// How long a clean stop may take at host shutdown if the configuration cannot be read: the key's default.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);
/// How often a start is tried, as in Incus.
const ATTEMPTS: u32 = 3;
/// Most instances started or stopped at once.
const AT_ONCE: usize = 16;
/// Values of `boot.autostart` and of `boot.host_shutdown_action` that are acted on.
const LAST_STATE: &str = "last-state";
const FORCE_STOP: &str = "force-stop";
const STATEFUL_STOP: &str = "stateful-stop";

/// An instance.
pub type Who = (ProjectName, InstanceName);

/// What was done.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Those that were started or stopped.
    pub done: Vec<Who>,
    /// What did not work.
    pub failed: Vec<(Who, Error)>,
    /// What was done in another way than asked for, in words.
    pub remarks: Vec<String>,
}

/// How long an instance with this (effective) configuration may take to stop with the host; none: it is killed at once.
///
/// # Errors
/// The key is no number.
pub fn stop_terms(config: &Config) -> Result<Option<Duration>> {
    if keys::BOOT_HOST_SHUTDOWN_ACTION.text(config) == FORCE_STOP {
        return Ok(None);
    }
    let seconds = keys::BOOT_HOST_SHUTDOWN_TIMEOUT
        .i64(config)?
        .map_or(DEFAULT_TIMEOUT, |s| Duration::from_secs(u64::try_from(s).unwrap_or(0)));
    Ok(Some(seconds))
}

/// One that is to be started.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Candidate {
    who: Who,
    priority: Option<i64>,
    delay: Duration,
}

/// The ones without a priority, which start side by side, and the others in their order.
fn boot_order(all: Vec<Candidate>) -> (Vec<Candidate>, Vec<Candidate>) {
    let (together, mut in_order): (Vec<_>, Vec<_>) = all.into_iter().partition(|c| c.priority.is_none());
    in_order.sort_by_key(|c| Reverse(c.priority));
    (together, in_order)
}

/// Batches from the highest priority on.
fn stop_order(mut all: Vec<(i64, Who)>) -> Vec<Vec<Who>> {
    all.sort_by_key(|(priority, _)| Reverse(*priority));
    let batches = all.chunk_by(|a, b| a.0 == b.0);
    batches.map(|batch| batch.iter().map(|(_, who)| who.clone()).collect()).collect()
}

/// Starts what is to run after the host has come up. `retry`: how long after a failure it is tried again.
///
/// # Errors
/// The projects cannot be listed; what fails of single instances is in the outcome.
pub fn boot(store: &Store, retry: Duration) -> Result<Outcome> {
    let mut outcome = Outcome::default();
    let mut all = Vec::new();
    for who in everybody(store)? {
        match candidate(store, &who) {
            Ok(found) => all.extend(found),
            Err(e) => outcome.failed.push((who, e)),
        }
    }
    fault::point("boot.begin")?;
    let (together, in_order) = boot_order(all);
    let last = in_order.is_empty();
    let started = parallel::each(together, AT_ONCE, |c| {
        let done = start_one(store, &c.who, retry);
        if done.is_ok() && !last {
            process::pause(c.delay);
        }
        (c.who, done)
    });
    started.into_iter().for_each(|(who, done)| outcome.note(who, done));
    let count = in_order.len();
    for (at, c) in in_order.into_iter().enumerate() {
        let done = start_one(store, &c.who, retry);
        if done.is_ok() && at + 1 < count {
            process::pause(c.delay);
        }
        outcome.note(c.who, done);
    }
    Ok(outcome)
}

impl Outcome {
    fn note(&mut self, who: Who, done: Result<()>) {
        match done {
            Ok(()) => self.done.push(who),
            Err(e) => self.failed.push((who, e)),
        }
    }
}

/// All instances; a project that cannot be read has none.
fn everybody(store: &Store) -> Result<Vec<Who>> {
    let mut all = Vec::new();
    for (project, _) in store.projects()? {
        all.extend(store.instance_names(&project)?.into_iter().map(|name| (project.clone(), name)));
    }
    Ok(all)
}

fn candidate(store: &Store, who: &Who) -> Result<Option<Candidate>> {
    let loaded = load::load(store, &who.0, &who.1)?;
    let config = &loaded.expanded.config;
    if !wanted(config, &loaded.volatile.config)? || load::running(store, &who.0, &who.1)?.is_some() {
        return Ok(None);
    }
    let delay = keys::BOOT_AUTOSTART_DELAY.i64(config)?.unwrap_or(0);
    Ok(Some(Candidate {
        who: who.clone(),
        priority: keys::BOOT_AUTOSTART_PRIORITY.i64(config)?,
        delay: Duration::from_secs(u64::try_from(delay).unwrap_or(0)),
    }))
}

/// Unset means as it was when the host went down.
fn wanted(config: &Config, volatile: &Config) -> Result<bool> {
    match keys::BOOT_AUTOSTART.get(config) {
        None | Some(LAST_STATE) => {
            Ok(keys::VOLATILE_LAST_STATE_POWER.get(volatile) == Some(volatile_value::POWER_RUNNING))
        }
        Some(_) => keys::BOOT_AUTOSTART.bool(config),
    }
}

/// Tries it three times, unless trying again cannot help.
fn start_one(store: &Store, who: &Who, retry: Duration) -> Result<()> {
    let mut attempt = 1;
    loop {
        match start::start(store, &who.0, &who.1) {
            Ok(()) => break,
            // Somebody else was faster.
            Err(_) if matches!(load::running(store, &who.0, &who.1), Ok(Some(_))) => break,
            Err(e) if attempt == ATTEMPTS || !matches!(e.kind(), Kind::Failed | Kind::Busy) => return Err(e),
            Err(_) => process::pause(retry),
        }
        attempt += 1;
    }
    fault::point("boot.started")
}

/// How all instances are stopped.
#[derive(Debug, Clone, Copy, Default)]
pub struct Shutdown {
    /// Kill them at once.
    pub force: bool,
    /// When to give up waiting for clean stops, whatever the instances' own time-outs.
    pub timeout: Option<Duration>,
}

/// Stops all that runs, each as its configuration says; what does not stop in time is killed. They count as running for the
/// next [`boot`].
///
/// # Errors
/// The projects cannot be listed; what fails of single instances is in the outcome.
pub fn shutdown(store: &Store, how: Shutdown) -> Result<Outcome> {
    let end = how.timeout.map(|t| Instant::now() + t);
    let mut outcome = Outcome::default();
    let mut all = Vec::new();
    for who in everybody(store)? {
        // What runs is stopped even if its run record is damaged: that shows below.
        if matches!(load::running(store, &who.0, &who.1), Ok(None)) {
            continue;
        }
        let config = load::load(store, &who.0, &who.1).map(|l| l.expanded.config).unwrap_or_default();
        if keys::BOOT_HOST_SHUTDOWN_ACTION.text(&config) == STATEFUL_STOP && !how.force {
            let remark =
                format!("Instance \"{}\" is stopped without its state: stateful stop isn't supported yet", who.1);
            outcome.remarks.push(remark);
        }
        all.push((keys::BOOT_STOP_PRIORITY.i64(&config).ok().flatten().unwrap_or(0), who));
    }
    fault::point("shutdown.begin")?;
    for batch in stop_order(all) {
        let stopped = parallel::each(batch, AT_ONCE, |who| {
            let done = stop_one(store, &who, how.force, end).and_then(|()| fault::point("shutdown.stopped"));
            (who, done)
        });
        stopped.into_iter().for_each(|(who, done)| outcome.note(who, done));
    }
    let mounted = pool_place::unmount_all(store)?;
    outcome.remarks.extend(mounted.iter().map(ToString::to_string));
    Ok(outcome)
}

fn stop_one(store: &Store, who: &Who, force: bool, end: Option<Instant>) -> Result<()> {
    let terms = match load::load(store, &who.0, &who.1) {
        _ if force => None,
        Ok(loaded) => stop_terms(&loaded.expanded.config)?,
        Err(_) => Some(DEFAULT_TIMEOUT),
    };
    let left = end.map(|end| end.saturating_duration_since(Instant::now()));
    let patience = terms.map(|own| left.map_or(own, |left| left.min(own)));
    if let Some(patience) = patience {
        match stop_once(store, who, Stopping { force: false, timeout: Some(patience) }) {
            // It did not stop in time.
            Err(e) if e.kind() == Kind::Failed => {}
            other => return other,
        }
    }
    stop_once(store, who, Stopping { force: true, timeout: None })
}

/// One that has ended meanwhile is fine.
fn stop_once(store: &Store, who: &Who, options: Stopping) -> Result<()> {
    let held = store.lock_instance(&who.0, &who.1, "stop")?;
    match stop::end(store, held, options, Wish::Shutdown) {
        Err(e) if e.kind() == Kind::Conflict && matches!(load::running(store, &who.0, &who.1), Ok(None)) => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn who(name: &str) -> Who {
        (ProjectName::default(), InstanceName::parse(name).expect("name"))
    }

    fn names<'a>(all: impl IntoIterator<Item = &'a Who>) -> Vec<&'a str> {
        all.into_iter().map(|w| w.1.as_str()).collect()
    }

    fn config(pairs: &[(&str, &str)]) -> Config {
        pairs.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect()
    }

    #[test]
    fn those_without_a_priority_start_first_and_the_others_from_the_highest() {
        let one = |name, priority| Candidate { who: who(name), priority, delay: Duration::ZERO };
        let all =
            vec![one("low", Some(-1)), one("a", None), one("high", Some(10)), one("zero", Some(0)), one("b", None)];
        let (together, in_order) = boot_order(all);
        assert_eq!(names(together.iter().map(|c| &c.who)), ["a", "b"]);
        assert_eq!(names(in_order.iter().map(|c| &c.who)), ["high", "zero", "low"]);
    }

    #[test]
    fn batches_go_down_from_the_highest_priority() {
        let batches = stop_order(vec![(0, who("a")), (5, who("b")), (0, who("c")), (-2, who("d")), (5, who("e"))]);
        let found: Vec<Vec<&str>> = batches.iter().map(names).collect();
        assert_eq!(found, [vec!["b", "e"], vec!["a", "c"], vec!["d"]]);
        assert!(stop_order(Vec::new()).is_empty());
    }

    #[test]
    fn what_starts_with_the_host() {
        let key = keys::BOOT_AUTOSTART.name;
        let (on, off) = (config(&[("volatile.last_state.power", "RUNNING")]), Config::default());
        let cases = [
            (config(&[]), true, false),
            (config(&[(key, LAST_STATE)]), true, false),
            (config(&[(key, "true")]), true, true),
            (config(&[(key, "false")]), false, false),
        ];
        for (config, after_running, after_stopped) in cases {
            assert_eq!(wanted(&config, &on).expect("bool"), after_running, "{config:?}");
            assert_eq!(wanted(&config, &off).expect("bool"), after_stopped, "{config:?}");
        }
    }

    #[test]
    fn terms_of_a_stop_with_the_host() {
        let (action, time) = (keys::BOOT_HOST_SHUTDOWN_ACTION.name, keys::BOOT_HOST_SHUTDOWN_TIMEOUT.name);
        let seconds = |pairs: &[(&str, &str)]| stop_terms(&config(pairs)).expect("terms").map(|t| t.as_secs());
        assert_eq!(seconds(&[]), Some(30));
        assert_eq!(seconds(&[(time, "5")]), Some(5));
        assert_eq!(seconds(&[(action, "force-stop"), (time, "5")]), None);
        assert_eq!(seconds(&[(action, "stateful-stop")]), Some(30));
        assert!(stop_terms(&config(&[(time, "x")])).is_err());
    }
}
