//! `stop`, `restart`, `pause`, `resume`: a wish is left for the monitor and a signal sent; the monitor does the rest.

use super::wait::Watch;
use super::{confine, halt, lifecycle, load, logs};
use crate::base::names::{InstanceName, ProjectName};
use crate::error::{Context, Error, Result};
use crate::fault;
use crate::host::cgroup::Group;
use crate::store::Store;
use crate::store::lock::{Exclusive, Held, InstanceKey};
use crate::store::runfile::{Running, Wish};
use crate::sys::pidfd;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

/// What a clean shutdown waits for when nothing is said, as Incus's server does.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(600);
/// How long the monitor may take to record an end after a kill.
const RECORD_TIMEOUT: Duration = Duration::from_secs(60);
/// How long freezing may take.
const FREEZE_TIMEOUT: Duration = Duration::from_secs(10);

/// How it is stopped.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// Kill it.
    pub force: bool,
    /// How long a clean shutdown may take; none is Incus's 600 s.
    pub timeout: Option<Duration>,
}

/// Stops an instance.
///
/// # Errors
/// Conflict: not running. Failed: it did not shut down in time and goes on running.
pub fn stop(store: &Store, project: &ProjectName, name: &InstanceName, options: Options) -> Result<()> {
    let held = store.lock_instance(project, name, "stop")?;
    end(store, held, options, Wish::Stop)
}

/// Whether `--all` of the command `verb` means this instance: of `start` those that do not run, of `resume` those that are frozen, else
/// those that run. One of which that cannot be told is meant: its error is for the user.
pub fn concerns(store: &Store, project: &ProjectName, name: &InstanceName, verb: &str) -> bool {
    let Ok(running) = load::running(store, project, name) else { return true };
    match (verb, running) {
        ("start", running) => running.is_none(),
        ("resume", Some(running)) => Group::at(running.file.cgroup).frozen(),
        (_, running) => running.is_some(),
    }
}

/// Stops and starts again; the ephemeral flag does not act.
///
/// # Errors
/// As [`stop`] and `start`.
pub fn restart(store: &Store, project: &ProjectName, name: &InstanceName, options: Options) -> Result<()> {
    let held = store.lock_instance(project, name, "restart")?;
    if store.instance_exists(project, name)? && load::running(store, project, name)?.is_none() {
        lifecycle::settle(store, &held)?;
        return Err(Error::conflict("The instance is not running").hint(format!("start it: stapes start {name}")));
    }
    let log = || logs::monitor(store, project, name).unwrap_or_default();
    let before = log().len();
    end(store, held, options, Wish::Restart)?;
    // The old monitor has started the new one, under the lock; what went wrong is in its log.
    let _again = store.lock_instance(project, name, "restart")?;
    match load::running(store, project, name)? {
        Some(_) => Ok(()),
        None => {
            let log = log();
            let said = String::from_utf8_lossy(log.get(before..).unwrap_or_default());
            let why = said.lines().rev().find_map(|line| line.strip_prefix("Error"));
            Err(Error::failed(format!("The instance did not start again{}", why.unwrap_or_default())))
        }
    }
}

/// Leaves the wish, signals, lets go of the lock and waits for the monitor.
///
/// # Errors
/// As [`stop`].
pub(super) fn end(store: &Store, held: Held<InstanceKey, Exclusive>, options: Options, wish: Wish) -> Result<()> {
    let InstanceKey { project, name } = held.key().clone();
    if !store.instance_exists(&project, &name)? {
        return Err(load::not_found());
    }
    let Some(running) = load::running(store, &project, &name)? else {
        lifecycle::settle(store, &held)?;
        return Err(Error::conflict("The instance is already stopped"));
    };
    let Some(monitor) = running.file.open_monitor()? else { return lifecycle::settle(store, &held) };
    fault::point("stop.begin")?;
    store.save_wish(&held, wish)?;
    fault::point("stop.wish")?;
    let group = Group::at(running.file.cgroup.clone());
    if options.force {
        kill(&running, &group)?;
    } else {
        if group.frozen() {
            group.freeze(false, FREEZE_TIMEOUT)?;
        }
    }
    drop(held);
    fault::point("stop.released")?;
    if !options.force {
        let asked = halt::ask(&running.file, &monitor, options.timeout.unwrap_or(DEFAULT_TIMEOUT));
        asked.map_err(|e| match load::load(store, &project, &name) {
            Ok(loaded) => confine::explain(&loaded.expanded.config, e),
            Err(_) => e,
        })?;
    }
    fault::point("stop.signalled")?;
    let who = (&project, &name);
    if wish == Wish::Restart {
        let ended = wait_replaced(store, who, &running, &monitor, patience(options))?;
        return concluded(store, who, ended);
    }
    let ended = pidfd::wait_ended(monitor.as_fd(), Some(patience(options)))?;
    concluded(store, who, ended)
}

fn patience(options: Options) -> Duration {
    if options.force { RECORD_TIMEOUT } else { options.timeout.unwrap_or(DEFAULT_TIMEOUT) }
}

/// Waits until what runs is another than `before`: a monitor ends when it has started the next one, but an instance in the
/// foreground is started again by the same process.
fn wait_replaced(
    store: &Store,
    who: (&ProjectName, &InstanceName),
    before: &Running,
    monitor: &OwnedFd,
    most: Duration,
) -> Result<bool> {
    let end = Instant::now() + most;
    loop {
        let watch = Watch::new(store.layout(), who, None)?;
        let now = store.running(who.0, who.1)?.map(|r| (r.file.init_pid, r.file.init_starttime));
        if now != Some((before.file.init_pid, before.file.init_starttime)) {
            return Ok(true);
        }
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() || pidfd::wait_ended(monitor.as_fd(), Some(Duration::ZERO))? {
            return pidfd::wait_ended(monitor.as_fd(), Some(Duration::ZERO)).map_err(Error::from);
        }
        watch.wait(&[monitor.as_fd()], Some(left))?;
    }
}

fn concluded(store: &Store, who: (&ProjectName, &InstanceName), ended: bool) -> Result<()> {
    if !ended {
        return Err(Error::failed("Failed shutting down instance, status is \"Running\": context deadline exceeded")
            .hint("use --force to kill it"));
    }
    // The monitor records the end; one that was killed itself could not.
    let held = store.lock_instance(who.0, who.1, "stop")?;
    lifecycle::settle(store, &held)
}

/// Kills an instance that runs, under its lock, and waits until its monitor has gone. Returns with the lock free.
///
/// # Errors
/// It cannot be killed.
pub fn kill_and_wait(store: &Store, held: Held<InstanceKey, Exclusive>) -> Result<()> {
    end(store, held, Options { force: true, timeout: None }, Wish::Stop)
}

fn kill(running: &Running, group: &Group) -> Result<()> {
    // A fork bomb may not outrun the kill; without the controller there is no such file.
    let _ = group.write("pids.max", "0");
    // A security module may let no signal through; it has no say in the second.
    let init = running.file.open_init()?;
    let first = init.map_or(Ok(()), |init| pidfd::kill(init.as_fd()).context("Failed killing the instance"));
    match group.kill_now() {
        Ok(()) => Ok(()),
        Err(_) => first,
    }
}

/// Freezes an instance.
///
/// # Errors
/// Conflict: not running, or frozen already.
pub fn pause(store: &Store, project: &ProjectName, name: &InstanceName) -> Result<()> {
    freeze(store, project, name, true)
}

/// Thaws an instance.
///
/// # Errors
/// Conflict: not frozen.
pub fn resume(store: &Store, project: &ProjectName, name: &InstanceName) -> Result<()> {
    freeze(store, project, name, false)
}

fn freeze(store: &Store, project: &ProjectName, name: &InstanceName, freeze: bool) -> Result<()> {
    let (verb, event) = if freeze { ("freeze", "instance-paused") } else { ("unfreeze", "instance-resumed") };
    let held = store.lock_instance(project, name, verb)?;
    lifecycle::settle(store, &held)?;
    let running = load::need_running(store, project, name)?;
    let group = Group::at(running.file.cgroup);
    if group.frozen() == freeze {
        let state = if freeze { "already frozen" } else { "already running" };
        return Err(Error::conflict(format!("The instance is {state}")));
    }
    group.freeze(freeze, FREEZE_TIMEOUT)?;
    lifecycle::note(store, project, name, event);
    Ok(())
}
