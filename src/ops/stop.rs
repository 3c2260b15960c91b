//! `stop`, `restart`, `pause`, `resume`: a wish is left for the monitor and a signal sent; the monitor does the rest.

use super::lifecycle;
use super::load;
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

/// Stops and starts again; the ephemeral flag does not act.
///
/// # Errors
/// As [`stop`] and `start`.
pub fn restart(store: &Store, project: &ProjectName, name: &InstanceName, options: Options) -> Result<()> {
    let held = store.lock_instance(project, name, "restart")?;
    if store.instance_exists(project, name)? && load::running(store, project, name)?.is_none() {
        lifecycle::settle(store, &held)?;
        return Err(Error::conflict("The instance is not running").hint("start it: stapes start <instance>"));
    }
    end(store, held, options, Wish::Restart)?;
    // The old monitor has started the new one, under the lock; what went wrong is in its log.
    let _again = store.lock_instance(project, name, "restart")?;
    match load::running(store, project, name)? {
        Some(_) => Ok(()),
        None => Err(Error::failed("The instance did not start again").hint("see: stapes info --show-log <instance>")),
    }
}

/// Leaves the wish, signals, lets go of the lock and waits for the monitor.
fn end(store: &Store, held: Held<InstanceKey, Exclusive>, options: Options, wish: Wish) -> Result<()> {
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
        ask(&running, &monitor, options.timeout.unwrap_or(DEFAULT_TIMEOUT))?;
    }
    fault::point("stop.signalled")?;
    wait_for(store, (&project, &name), &monitor, options)
}

fn wait_for(store: &Store, who: (&ProjectName, &InstanceName), monitor: &OwnedFd, options: Options) -> Result<()> {
    let timeout = if options.force { RECORD_TIMEOUT } else { options.timeout.unwrap_or(DEFAULT_TIMEOUT) };
    if !pidfd::wait_ended(monitor.as_fd(), Some(timeout))? {
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
    if let Some(init) = running.file.open_init()? {
        pidfd::kill(init.as_fd()).context("Failed killing the instance")?;
    }
    let _ = group.kill_now();
    Ok(())
}

/// Asks process 1 to shut down, in the way its kind of init understands. The kernel drops what a first process does not
/// handle, so one that is still too young to listen is asked again.
fn ask(running: &Running, monitor: &OwnedFd, patience: Duration) -> Result<()> {
    let Some(init) = running.file.open_init()? else { return Ok(()) };
    let begin = Instant::now();
    let mut pause = Duration::from_millis(20);
    loop {
        let signal = halt_signal(running.file.init_pid);
        match pidfd::send_signal(init.as_fd(), signal.unwrap_or(libc::SIGPWR)) {
            Err(e) if e.errno == libc::ESRCH => return Ok(()),
            other => other.context("Failed signalling the instance")?,
        }
        if signal.is_some() || begin.elapsed() >= patience || pidfd::wait_ended(monitor.as_fd(), Some(pause))? {
            return Ok(());
        }
        pause = (pause * 2).min(Duration::from_secs(1));
    }
}

/// systemd shuts down on SIGRTMIN+3, which it blocks and reads by descriptor; sysvinit and others on SIGPWR; busybox's
/// init knows SIGUSR2. What the process handles tells which (proc_pid_status(5): SigBlk, SigCgt).
fn halt_signal(init: i32) -> Option<i32> {
    let status = std::fs::read_to_string(format!("/proc/{init}/status")).unwrap_or_default();
    let mask = |field: &str| {
        let line = status.lines().find_map(|l| l.strip_prefix(field)).unwrap_or_default();
        u64::from_str_radix(line.trim_start_matches(':').trim(), 16).unwrap_or(0)
    };
    let handled = mask("SigBlk") | mask("SigCgt");
    let handles = |signal: i32| handled & (1 << (signal - 1)) != 0;
    let systemd = libc::SIGRTMIN() + 3;
    [systemd, libc::SIGPWR, libc::SIGUSR2].into_iter().find(|s| handles(*s))
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
