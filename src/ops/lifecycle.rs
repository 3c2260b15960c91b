//! The monitor's side of an instance's life: it records the start and, after the end, cleans up, restarts or deletes.
//!
//! The monitor holds no lock while it waits; here it takes the instance's lock to record the exit, waiting for whoever has
//! it. The same clean-up serves commands that find the monitor dead ([`clean_up`]).

use super::{confine, cpus, delete, halt, load, logs, network, nics, power, snapshot, start, undo};
use crate::base::names::{InstanceName, ProjectName};
use crate::base::time;
use crate::container::plan::{Places, Plan};
use crate::error::{Error, Kind, Result};
use crate::fault;
use crate::host::cgroup::Group;
use crate::host::{boot_id, proc};
use crate::model::instance::Volatile;
use crate::model::keys;
use crate::model::keys::volatile_value;
use crate::store::events::{self, Event};
use crate::store::layout::Layout;
use crate::store::lock::{Exclusive, Held, InstanceKey};
use crate::store::runfile::{Liveness, MonitorLock, RunFile, Wish};
use crate::store::{Access, Store};
use crate::sys::pidfd::Exit;
use std::time::Duration;

/// How long processes get to die once they were killed.
pub const KILL_TIMEOUT: Duration = Duration::from_secs(30);
/// Most automatic restarts within a minute.
const RESTARTS: usize = 10;
/// Run record: times of automatic restarts.
const RESTARTED: &str = "restarted";

/// What a monitor holds.
#[derive(Debug)]
pub struct Monitored {
    layout: Layout,
    project: ProjectName,
    name: InstanceName,
    lock: MonitorLock,
    restarted: String,
}

/// The layout behind a plan's places.
pub fn layout(places: &Places) -> Layout {
    let Places { state, run, cache, log } = places.clone();
    Layout { state, run, cache, log }
}

/// The places of a layout, for a plan.
pub fn places(layout: &Layout) -> Places {
    let Layout { state, run, cache, log } = layout.clone();
    Places { state, run, cache, log }
}

impl Monitored {
    /// Takes the monitor's lock of the plan's instance.
    ///
    /// # Errors
    /// Another monitor lives.
    pub fn take(plan: &Plan) -> Result<Self> {
        Ok(Self {
            layout: layout(&plan.places),
            project: ProjectName::parse(&plan.project)?,
            name: InstanceName::parse(&plan.name)?,
            lock: MonitorLock::take(&plan.run_dir)?,
            restarted: plan.restarted.clone(),
        })
    }

    /// Where what has to be said is written.
    pub fn log(&self) -> logs::Monitor {
        logs::Monitor { layout: self.layout.clone(), project: self.project.clone(), name: self.name.clone() }
    }

    /// The instance, and how long it may take to stop when it is told to; none: it is killed at once. Read when it is needed,
    /// because the keys may change while it runs.
    pub fn stop_terms(&self) -> Option<Duration> {
        let terms = || -> Result<Option<Duration>> {
            let store = undo::open(&self.layout, Access::Read)?;
            power::stop_terms(&load::load(&store, &self.project, &self.name)?.expanded.config)
        };
        terms().unwrap_or(Some(power::DEFAULT_TIMEOUT))
    }

    /// Writes the run record: process 1 is `init`.
    ///
    /// # Errors
    /// As [`record`].
    pub fn record_start(&self, plan: &Plan, init: i32) -> Result<()> {
        record(&self.lock, plan, init)
    }
}

/// Writes the run record of a container that this process monitors: process 1 is `init`.
///
/// # Errors
/// It has ended already; the record cannot be written.
pub fn record(lock: &MonitorLock, plan: &Plan, init: i32) -> Result<()> {
    let gone = || Error::failed("The container's first process ended at once");
    lock.save(&RunFile {
        format: 1,
        monitor_pid: i32::try_from(std::process::id()).unwrap_or(0),
        monitor_starttime: proc::own_start_time()?,
        boot_id: boot_id::current()?.to_string(),
        init_pid: init,
        init_starttime: proc::start_time(init)?.ok_or_else(gone)?,
        cgroup: plan.cgroup.clone(),
        started_at: time::now(),
        extra: std::iter::once((RESTARTED.to_string(), plan.restarted.clone()))
            .chain(plan.stop_signal.map(|signal| (halt::SIGNAL.to_string(), signal.to_string())))
            .collect(),
    })
}

/// Tells the command that waits what went wrong: the kind's name, a NUL, the message, a NUL, the hint.
pub fn encode_failure(e: &Error) -> Vec<u8> {
    format!("-{:?}\0{e}\0{}", e.kind(), e.hint_text().unwrap_or_default()).into_bytes()
}

/// The error that [`encode_failure`] wrote.
pub fn decode_failure(report: &[u8]) -> Error {
    let text = String::from_utf8_lossy(report.get(1..).unwrap_or_default()).into_owned();
    let mut parts = text.split('\0');
    let kind = match parts.next() {
        Some("Unsupported") => Kind::Unsupported,
        Some("Invalid") => Kind::Invalid,
        Some("Busy") => Kind::Busy,
        Some("Internal") => Kind::Internal,
        _ => Kind::Failed,
    };
    let error = Error::new(kind, parts.next().unwrap_or("The monitor failed").to_string());
    match parts.next() {
        Some(hint) if !hint.is_empty() => error.hint(hint),
        _ => error,
    }
}

/// How a container came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct End {
    /// How its first process ended.
    pub exit: Exit,
    /// Whoever keeps it was told to end it.
    pub told: Option<Told>,
}

/// Who told the keeper of a container to end it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    /// The host goes down: it counts as running when the host is back.
    ByHost,
    /// The unit, or the terminal, that runs it in the foreground.
    ByUnit,
}

/// What comes after an end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum After {
    Stop,
    /// Nobody wanted it, and it was not done from inside either.
    Failed,
    Shutdown,
    Restart,
    AutoRestart,
}

/// What an end led to.
#[derive(Debug)]
pub enum Next<T> {
    /// It is stopped; `failed`: unexpectedly.
    Stopped { failed: bool },
    /// It was started again.
    Started(T),
    /// The command that started it sees to the rest.
    Abandoned,
}

/// How an instance is started again, under its lock.
type Again<'a, T> = &'a dyn Fn(&Store, &Held<InstanceKey, Exclusive>, &start::Options) -> Result<T>;

/// Records the end of a monitored instance and does what follows from it; it is started again with `again`.
///
/// # Errors
/// The store cannot be written; what was left is found by the next command. It could not be started again.
pub fn exited<T>(monitored: Monitored, end: End, again: Again<'_, T>) -> Result<Next<T>> {
    let Monitored { layout, project, name, lock: monitor, restarted } = monitored;
    if monitor.wish()? == Some(Wish::Abandon) {
        return Ok(Next::Abandoned);
    }
    let store = undo::open(&layout, Access::Write)?;
    fault::point("exit.begin")?;
    // A snapshot takes the lock of the pool before the instance's.
    let due = snapshot::due_at_restart(&store, &project, &name);
    let held_pool = due.as_ref().and_then(|pool| store.lock_pool_shared(pool).ok());
    let held = lock_patiently(&store, &project, &name)?;
    fault::point("exit.locked")?;
    let wish = monitor.wish()?;
    let after = match end.told {
        Some(Told::ByHost) => After::Shutdown,
        Some(Told::ByUnit) => After::Stop,
        None => decide(&store, (&project, &name), end.exit, wish, &restarted)?,
    };
    // From here the instance has no monitor; the lock keeps everybody else away.
    drop(monitor);
    fault::point("exit.released")?;
    match after {
        After::Stop | After::Failed | After::Shutdown => {
            let power = if after == After::Shutdown { Power::Kept } else { Power::Stopped };
            clean_up_with(&store, &held, power)?;
            note(&store, &project, &name, if wish.is_some() { "instance-stopped" } else { "instance-shutdown" });
            Ok(Next::Stopped { failed: after == After::Failed })
        }
        After::Restart | After::AutoRestart => {
            let times = if after == After::AutoRestart { push_time(&restarted) } else { restarted };
            remove_processes(&store, &project, &name)?;
            store.end_proxies(&project, &name)?;
            network::nat::end(&store, (&project, &name))?;
            nics::end(&store, (&project, &name))?;
            fault::point("exit.restart")?;
            let options = start::Options { restarted: times };
            let taken = due
                .as_ref()
                .filter(|_| held_pool.is_some())
                .map_or(Ok(()), |pool| snapshot::at_start(&store, &held, pool));
            let started = match taken.and_then(|()| again(&store, &held, &options)) {
                Ok(started) => started,
                Err(e) => {
                    clean_up(&store, &held)?;
                    return Err(e);
                }
            };
            note(&store, &project, &name, "instance-restarted");
            Ok(Next::Started(started))
        }
    }
}

/// Whoever holds the lock works on this instance and will be done; an exit is recorded after that.
fn lock_patiently(store: &Store, p: &ProjectName, n: &InstanceName) -> Result<Held<InstanceKey, Exclusive>> {
    loop {
        match store.lock_instance(p, n, "stop") {
            Err(e) if e.kind() == Kind::Busy => {}
            other => return other,
        }
    }
}

/// reboot(2) in a pid namespace ends its first process by SIGHUP for a restart, by SIGINT for a halt.
fn decide(
    store: &Store,
    who: (&ProjectName, &InstanceName),
    exit: Exit,
    wish: Option<Wish>,
    restarted: &str,
) -> Result<After> {
    match (wish, exit) {
        (Some(Wish::Stop | Wish::Abandon), _) => return Ok(After::Stop),
        (Some(Wish::Shutdown), _) => return Ok(After::Shutdown),
        (Some(Wish::Restart), _) | (None, Exit::Signal(libc::SIGHUP)) => return Ok(After::Restart),
        (None, Exit::Signal(libc::SIGINT) | Exit::Code(0)) => return Ok(After::Stop),
        (None, _) => {}
    }
    let wanted = match load::load(store, who.0, who.1) {
        Ok(loaded) => keys::BOOT_AUTORESTART.bool(&loaded.expanded.config)?,
        Err(_) => false,
    };
    let minute_ago = time::now().as_second() - 60;
    let recent = restarted.split(' ').filter(|t| t.parse::<i64>().is_ok_and(|t| t > minute_ago)).count();
    Ok(if wanted && recent < RESTARTS { After::AutoRestart } else { After::Failed })
}

fn push_time(times: &str) -> String {
    let mut all: Vec<String> = times.split(' ').filter(|t| !t.is_empty()).map(str::to_string).collect();
    all.push(time::now().as_second().to_string());
    let from = all.len().saturating_sub(RESTARTS);
    all[from..].join(" ")
}

/// Clears away what is left of a run whose monitor is gone: processes, cgroup, run folder; records that it is stopped, and
/// deletes it if it was ephemeral. Nothing left is fine. Goes on past errors and reports all.
///
/// # Errors
/// All that did not work.
pub fn clean_up(store: &Store, held: &Held<InstanceKey, Exclusive>) -> Result<()> {
    clean_up_with(store, held, power_after(store, held))
}

/// What the record says afterwards about whether it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Power {
    Stopped,
    /// It ended with the host and is to come back with it.
    Kept,
}

/// What ran in an earlier boot, and what was being stopped with the host, did not end of itself.
fn power_after(store: &Store, held: &Held<InstanceKey, Exclusive>) -> Power {
    let (p, n) = (&held.key().project, &held.key().name);
    let boot = store.running(p, n).ok().flatten().map(|r| r.file.boot_id);
    let earlier = boot.is_some_and(|boot| boot_id::current().is_ok_and(|now| boot != now));
    let shutdown = matches!(store.wish(p, n), Ok(Some(Wish::Shutdown)));
    if earlier || shutdown { Power::Kept } else { Power::Stopped }
}

fn clean_up_with(store: &Store, held: &Held<InstanceKey, Exclusive>, power: Power) -> Result<()> {
    let (p, n) = (&held.key().project, &held.key().name);
    let mut errors = Vec::new();
    errors.extend(fault::point("cleanup.begin").err());
    // While a process is left, its profile stays: the kernel would let it go on unconfined.
    errors.extend(remove_processes(store, p, n).and_then(|()| confine::unload(store, held)).err());
    errors.extend(fault::point("cleanup.processes").err());
    errors.extend(store.end_proxies(p, n).err());
    errors.extend(fault::point("cleanup.proxies").err());
    errors.extend(cpus::release(store, (p, n)).err());
    errors.extend(network::nat::end(store, (p, n)).err());
    errors.extend(nics::end(store, (p, n)).err());
    errors.extend(fault::point("cleanup.network").err());
    let ephemeral = store.instance(p, n).ok().flatten().is_some_and(|i| i.ephemeral);
    if ephemeral {
        // Its run folder goes with it, last: as long as it is there, the next one to look cleans up again.
        errors.extend(delete::locked(store, held).err());
    } else {
        errors.extend(record_ended(store, held, power).err());
        errors.extend(fault::point("cleanup.recorded").err());
        errors.extend(store.remove_run_dir(held).err());
    }
    Error::join(errors).map_or(Ok(()), Err)
}

fn remove_processes(store: &Store, p: &ProjectName, n: &InstanceName) -> Result<()> {
    let recorded = store.running(p, n).ok().flatten().map(|r| Group::at(r.file.cgroup));
    let group = match recorded {
        Some(group) => group,
        None => load::cgroups(store.layout())?.instance(&load::group_name(p, n)),
    };
    group.kill(KILL_TIMEOUT)?;
    group.remove()
}

fn record_ended(store: &Store, held: &Held<InstanceKey, Exclusive>, power: Power) -> Result<()> {
    let (p, n) = (&held.key().project, &held.key().name);
    if !store.instance_exists(p, n)? {
        return Ok(());
    }
    let old: Volatile = store.volatile(p, n)?;
    let mut volatile = old.clone();
    nics::forget(&mut volatile.config);
    if power == Power::Stopped {
        keys::VOLATILE_LAST_STATE_POWER.set(&mut volatile.config, volatile_value::POWER_STOPPED);
    } else if volatile == old {
        return Ok(());
    }
    store.save_volatile(held, &volatile)
}

/// Cleans up if the instance's monitor died without doing so. Every mutating verb calls it after winning the lock.
///
/// # Errors
/// As [`clean_up`].
pub fn settle(store: &Store, held: &Held<InstanceKey, Exclusive>) -> Result<()> {
    let (p, n) = (&held.key().project, &held.key().name);
    match store.running(p, n)? {
        Some(r) if r.liveness != Liveness::Running => clean_up(store, held),
        // A start that was killed before its monitor could write anything.
        None if store.has_run_dir(p, n)? && !store.has_monitor(p, n)? => clean_up(store, held),
        _ => Ok(()),
    }
}

/// Appends a lifecycle event; a log that cannot be written stops nothing.
pub fn note(store: &Store, p: &ProjectName, n: &InstanceName, action: &str) {
    let source = format!("/1.0/instances/{n}");
    let event = Event::lifecycle(action, &source, p.as_str(), serde_json::Value::Null);
    let _ = events::append(store, &event);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_cross_the_pipe_whole() {
        let e = decode_failure(&encode_failure(&Error::unsupported("No such thing").hint("buy one")));
        assert_eq!(
            (e.kind(), e.to_string().as_str(), e.hint_text()),
            (Kind::Unsupported, "No such thing", Some("buy one"))
        );
        assert_eq!(decode_failure(b"-Failed\0x\0").hint_text(), None);
    }

    #[test]
    fn restart_times_are_bounded() {
        let mut times = String::new();
        for _ in 0..20 {
            times = push_time(&times);
        }
        assert_eq!(times.split(' ').count(), RESTARTS);
    }
}
