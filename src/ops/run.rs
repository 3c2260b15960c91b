//! `run`: a throwaway instance for one command. Made, run, gone; the command's status is ours.
//!
//! No init system is booted: our small init is process 1 and the command its child. This process is its own monitor: it
//! holds the instance's lock, its monitor lock and an open journal for as long as the command runs, so that whatever ends
//! it, kill -9 included, leaves nothing that the next command would not clear away.

use super::exec::{self, Process, Session};
use super::load::{self, Loaded};
use super::relay::Ended;
use super::restrict::{self, Hold};
use super::{
    application, confine, create, idmap, image_import, lifecycle, network, nics, pool, proxies, run_network, settings,
    start, templates,
};
use crate::base::user::UserSpec;
use crate::container::build::{self, Settings};
use crate::container::plan::{Init, Plan};
use crate::container::rootfs;
use crate::container::start::{self as runtime, Started};
use crate::error::{Context, Error, Result};
use crate::fault;
use crate::host::cgroup::Group;
use crate::image::oci::user;
use crate::store::journal::Journal;
use crate::store::lock::{Exclusive, Held, InstanceKey};
use crate::store::runfile::MonitorLock;
use crate::store::undo::{Volume, VolumeKind};
use crate::store::{Action, Store};
use crate::sys::{pidfd, selfexe};
use nix::sys::signalfd::SignalFd;
use std::ffi::OsString;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

/// Status when the time is over, as timeout(1) has it.
pub const TIMED_OUT: i32 = 124;

/// What is wanted.
#[derive(Debug)]
pub struct Request {
    /// The instance to make; `ephemeral` is set unless it is to be kept.
    pub create: create::Request,
    /// The command; without words the image's application, else its shell.
    pub process: Process,
    /// `user[:group]`, numbers or names of the image; without it the application's, if the image has one.
    pub user: Option<String>,
    /// Leave the instance behind, stopped.
    pub keep: bool,
    /// Kill it after this time.
    pub timeout: Option<Duration>,
}

/// Runs it; the status as a shell gives it, [`TIMED_OUT`] when the time was over. `signals` are passed on.
///
/// # Errors
/// As `create` and `start`; nothing is left then.
pub fn run(store: &Store, mut request: Request, signals: Option<&SignalFd>) -> Result<i32> {
    request.create.ephemeral = !request.keep;
    let project = request.create.project.clone();
    pool::ensure_default(store)?;
    let name = match &request.create.name {
        Some(name) => name.clone(),
        None => create::free_name(store, &project)?,
    };
    let mut held_project = Some(restrict::hold(store, &project, "run")?);
    let new = create::prepare(store, &request.create, &name)?;
    let _pool = store.lock_pool_shared(&new.pool)?;
    let image = request.create.image.clone();
    let shared = image.as_ref().map(|f| store.lock_image_shared(f)).transpose()?;
    let held = store.lock_instance(&project, &name, "run")?;
    lifecycle::settle(store, &held)?;
    let mut journal = Journal::begin(store, "run", &[&held])?;
    let outcome = (|| {
        // The image may be deleted while the command runs: then its tree goes with its last user.
        let release = image.as_ref().map(|image| image_import::volume(&new.pool, image));
        for action in release.into_iter().chain(undo(store, &held, new.pool.as_ref())?) {
            journal.undo(action)?;
        }
        fault::point("run.begin")?;
        create::make_parts(store, &held, new, image.as_ref())?;
        // It counts from here on; others of a project with limits need not wait for the command to end.
        held_project.take_if(|held| matches!(held, Hold::Alone(_)));
        // The volume keeps the image alive from here on.
        drop(shared);
        execute(store, &held, request, signals)
    })();
    finish(store, &held, journal, outcome)
}

/// Everything a run may leave, in the order it is to be undone from the last.
fn undo(store: &Store, held: &Held<InstanceKey, Exclusive>, pool: &str) -> Result<Vec<Action>> {
    let InstanceKey { project, name } = held.key();
    let group = load::cgroups(store.layout())?.instance(&load::group_name(project, name));
    let (project_name, instance) = (project.to_string(), name.to_string());
    let mut actions = confine::undo(store, held, group.path());
    actions.extend([
        Action::RemoveTree { path: store.layout().instance_log_dir(project, name) },
        Action::RemoveVolume(Volume {
            pool: pool.to_string(),
            kind: VolumeKind::Container,
            project: project_name.clone(),
            name: instance.clone(),
        }),
        Action::ForgetInstance { project: project_name, name: instance },
        Action::RemoveTree { path: store.layout().instance_run_dir(project, name) },
        // Undone from the last: the CPUs are free once the group is gone.
        Action::FreeCpus { project: project.to_string(), name: name.to_string() },
        Action::StopDevices { project: project.to_string(), name: name.to_string() },
        Action::RemoveCgroup { path: group.path().to_path_buf() },
        Action::KillCgroup { path: group.path().to_path_buf() },
    ]);
    Ok(actions)
}

/// A kept instance stays, stopped; anything else is rolled back, which is what a kill would have led to as well.
fn finish(
    store: &Store,
    held: &Held<InstanceKey, Exclusive>,
    journal: Journal<'_>,
    outcome: Result<(i32, bool)>,
) -> Result<i32> {
    match outcome {
        Ok((status, true)) => {
            let errors = [journal.finish(), lifecycle::clean_up(store, held)].into_iter().filter_map(Result::err);
            Error::join(errors.collect()).map_or(Ok(status), Err)
        }
        Ok((status, false)) => {
            fault::point("run.ended")?;
            let rolled_back = journal.abort(Error::internal("Done"));
            match rolled_back.others() {
                [] => Ok(status),
                _ => Err(rolled_back.context("Failed removing the instance")),
            }
        }
        Err(e) => Err(journal.abort(e)),
    }
}

fn execute(
    store: &Store,
    held: &Held<InstanceKey, Exclusive>,
    request: Request,
    signals: Option<&SignalFd>,
) -> Result<(i32, bool)> {
    let InstanceKey { project, name } = held.key();
    let mut loaded = load::load(store, project, name)?;
    nics::settle(store, &mut loaded)?;
    let told = run_network::settle(store, &mut loaded)?;
    let mut plan = plan(store, &loaded, &request)?;
    // From when there is a group to start in, until the command is in one.
    let keeper = load::cgroups(store.layout())?.hold()?;
    start::prepare(store, held, &plan)?;
    run_network::plan(&mut plan, &loaded, told)?;
    confine::prepare(store, &loaded)?;
    fault::point("run.confined")?;
    if !plan.nics.is_empty() {
        store.save_volatile(held, &loaded.volatile)?;
        nics::begin(store, &loaded)?;
        nics::lend(store, &mut loaded, &mut plan.nics)?;
    }
    network::nat::begin(store, &loaded)?;
    let monitor = MonitorLock::take(&plan.run_dir)?;
    let user = plan.spec.process().as_ref().map_or(0, |p| p.user().uid());
    let owner = (!plan.privileged).then(|| plan.host_uid(user));
    let session = Session::plain(&request.process.streams, request.process.terminal.is_some(), owner)?;
    let (session, theirs) = session.split();
    fault::point("run.start")?;
    let Started { child, console, lent } = match runtime::start(&plan, theirs, &|root| templates::write(&plan, root)) {
        Err(e) if e.errno() == Some(libc::ENOENT) && is_exec(&e) => {
            return Ok((exec::not_found(&request.process.streams.error), request.keep));
        }
        Err(e) if e.errno() == Some(libc::EACCES) && is_exec(&e) => {
            let status = exec::not_executable(&loaded.expanded.config, &request.process.streams.error);
            return Ok((status, request.keep));
        }
        other => other.map_err(|e| confine::explain(&loaded.expanded.config, e))?,
    };
    nics::started(store, &loaded)?;
    proxies::start(&plan, child.pid())?;
    lifecycle::record(&monitor, &plan, child.pid())?;
    drop(keeper);
    fault::point("run.running")?;
    let deadline = request.timeout.map(|t| Instant::now() + t);
    let master = request.process.terminal.is_some().then_some(console);
    let ended = session.relay_until(child.pidfd(), master, signals, request.process.streams, deadline)?;
    let status = match ended {
        Ended::Process => child.wait()?.shell_status(),
        Ended::Deadline => {
            pidfd::kill(child.pidfd()).map_err(Error::from).or_else(|_| Group::at(plan.cgroup.clone()).kill_now())?;
            child.wait()?;
            TIMED_OUT
        }
    };
    lent.give_back()?;
    Group::at(plan.cgroup).kill(lifecycle::KILL_TIMEOUT)?;
    Ok((status, request.keep))
}

/// True if the instance's root could write to our binary: the front then runs itself from a protected copy first.
///
/// # Errors
/// As `create`.
pub fn needs_protection(store: &Store, request: &create::Request) -> Result<bool> {
    pool::ensure_default(store)?;
    let (_, expanded) = create::effective(store, request)?;
    idmap::would_reach(&expanded.config, selfexe::owner()?)
}

fn is_exec(e: &Error) -> bool {
    e.to_string().starts_with("Failed to run ")
}

/// The words of a plan are text.
fn texts(words: Vec<OsString>) -> Result<Vec<String>> {
    let text = |word: OsString| word.into_string().map_err(|word| Error::invalid(format!("{word:?} is not UTF-8")));
    words.into_iter().map(text).collect()
}

fn plan(store: &Store, loaded: &Loaded, request: &Request) -> Result<Plan> {
    let cgroups = load::cgroups(store.layout())?;
    let base = start::plan(store, loaded, &cgroups)?;
    let config = &loaded.expanded.config;
    let term = request.process.terminal.as_deref().filter(|t| !t.is_empty());
    let group = Group::at(base.cgroup.clone());
    let system = settings::system(&loaded.name, config, start::map_of(loaded)?, &group)?;
    let application = application::of(pool::need(store, &loaded.pool()?)?.as_ref(), loaded)?;
    let own = application.map(|a| a.settings(system.clone(), config)).transpose()?;
    let mut settings = own.unwrap_or_else(|| Settings { args: vec!["/bin/sh".to_string()], ..system });
    if !request.process.command.is_empty() {
        settings.args = texts(request.process.command.clone())?;
    }
    if let Some(given) = &request.user {
        (settings.uid, settings.gid, settings.groups) = user_of(store, &base, given)?;
    }
    if let Some(cwd) = &request.process.cwd {
        settings.cwd = cwd.into();
    }
    let given = &request.process.env;
    let env = settings::command_environment(config, given, settings.uid, (settings::search_path(None), term));
    settings.env = texts(env)?;
    settings.terminal = request.process.terminal.is_some();
    settings.apparmor = base.apparmor().map(str::to_string);
    let mut spec = build::spec(&settings)?;
    // Its limits are those of any start.
    let limits = base.spec.linux().as_ref().and_then(|linux| linux.resources().clone());
    if let Some(linux) = spec.linux_mut() {
        linux.set_resources(limits);
    }
    Ok(Plan {
        spec,
        host_binds: settings::device_nodes(),
        throwaway: !request.keep,
        init: Init::Command { terminal: request.process.terminal.is_some() },
        ..base
    })
}

/// The user, group and further groups that `given` names. A number without a group is its own group.
fn user_of(store: &Store, plan: &Plan, given: &str) -> Result<(u32, u32, Vec<u32>)> {
    if let Ok((uid, gid)) = UserSpec::parse(given)?.ids() {
        return Ok((uid, gid.unwrap_or(uid), Vec::new()));
    }
    let scratch = tempfile::tempdir_in(&store.layout().run).context("Failed creating a folder for mounting")?;
    let options = rootfs::Options { nodev: true, scratch: Some(scratch.path()), ..rootfs::Options::default() };
    let user = user::find(rootfs::mount(&plan.rootfs, &options)?.as_fd(), given)?;
    Ok((user.uid, user.gid, user.groups))
}
