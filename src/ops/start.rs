//! `start`: from records to a running container.

use super::disk_limits::Disks;
use super::load::{self, Loaded, group_name};
use super::spawn::Waiting;
use super::{
    application, confine, cpus, disk_limits, idmap, lifecycle, network, nics, pool, quota, root_owners, run_network,
    settings, snapshot, templates, volume, wiring,
};
use crate::base::idmap::IdMap;
use crate::base::names::{InstanceName, ProjectName};
use crate::base::time;
use crate::container::build::{self, Settings};
use crate::container::plan::{Init, Plan};
use crate::error::{Context, Error, Result};
use crate::fault;
use crate::host::cgroup::{Group, Tree};
use crate::host::command::{Cmd, Host, Program, Runner};
use crate::host::controllers;
use crate::model::attach::{Attachment, Mount, Need, Rootfs, Shift};
use crate::model::cpus::CpuWish;
use crate::model::instance::{Config, InstanceType};
use crate::model::keys::{self, volatile_value};
use crate::model::nic::Nic;
use crate::model::proxy::Proxy;
use crate::store::Store;
use crate::store::lock::{Exclusive, Held, InstanceKey};
use crate::store::runfile::Wish;
use crate::sys::pidfd;
use std::os::fd::AsFd;
use std::time::Duration;

/// How it is started.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Times of automatic restarts so far (see `lifecycle`).
    pub restarted: String,
}

/// Starts an instance; a frozen one is resumed.
///
/// # Errors
/// Not found, running already, protected, a device or key that cannot be honoured; nothing is left running then.
pub fn start(store: &Store, project: &ProjectName, name: &InstanceName) -> Result<()> {
    let _project = store.lock_project_shared(project)?;
    let held = store.lock_instance(project, name, "start")?;
    lifecycle::settle(store, &held)?;
    if let Some(running) = load::running(store, project, name)? {
        let group = Group::at(running.file.cgroup);
        if group.frozen() {
            return group.freeze(false, Duration::from_secs(10));
        }
        return Err(already());
    }
    let loaded = load::load(store, project, name)?;
    match snapshot::due_at_start(store, project, &loaded.expanded)? {
        None => ready(store, &held, loaded, &Options::default())?,
        Some(pool) => {
            // A snapshot takes the lock of the pool before the instance's.
            drop(held);
            let _pool = store.lock_pool_shared(&pool)?;
            let held = store.lock_instance(project, name, "start")?;
            lifecycle::settle(store, &held)?;
            if load::running(store, project, name)?.is_some() {
                return Err(already());
            }
            snapshot::at_start(store, &held, &pool)?;
            locked(store, &held, &Options::default())?;
        }
    }
    lifecycle::note(store, project, name, "instance-started");
    Ok(())
}

fn already() -> Error {
    Error::conflict("The instance is already running")
}

/// Who carries a start out.
pub(super) struct Starter<'a, F> {
    /// Where the instance is to live.
    pub cgroups: &'a Tree,
    /// Whether it is started again when the host comes back.
    pub returns_with_host: bool,
    /// Starts the container of the plan; what it returns ends the container when it is dropped, or is nothing.
    pub run: F,
}

/// Starts a stopped instance under its lock, with a monitor.
///
/// # Errors
/// As [`start`].
pub fn locked(store: &Store, held: &Held<InstanceKey, Exclusive>, options: &Options) -> Result<()> {
    let loaded = load::load(store, &held.key().project, &held.key().name)?;
    ready(store, held, loaded, options)
}

fn ready(store: &Store, held: &Held<InstanceKey, Exclusive>, loaded: Loaded, options: &Options) -> Result<()> {
    let monitor = Waiting::new(store, held, &loaded.expanded.config)?;
    loaded_with(store, held, loaded, options, monitored(monitor, &load::cgroups(store.layout())?))
}

/// The same, with a monitor that waits already.
///
/// # Errors
/// As [`start`].
pub fn with_monitor(store: &Store, held: &Held<InstanceKey, Exclusive>, monitor: Waiting) -> Result<()> {
    let cgroups = load::cgroups(store.layout())?;
    locked_with(store, held, &Options::default(), monitored(monitor, &cgroups))
}

fn monitored(monitor: Waiting, cgroups: &Tree) -> Starter<'_, impl FnOnce(&Plan) -> Result<()>> {
    Starter { cgroups, returns_with_host: true, run: move |plan: &Plan| monitor.start(plan) }
}

/// The same, carried out by `starter`, which sees to it that our part of the cgroup tree is there and stays until something
/// lives in it.
///
/// # Errors
/// As [`start`].
pub(super) fn locked_with<T>(
    store: &Store,
    held: &Held<InstanceKey, Exclusive>,
    options: &Options,
    starter: Starter<'_, impl FnOnce(&Plan) -> Result<T>>,
) -> Result<T> {
    let loaded = load::load(store, &held.key().project, &held.key().name)?;
    loaded_with(store, held, loaded, options, starter)
}

fn loaded_with<T>(
    store: &Store,
    held: &Held<InstanceKey, Exclusive>,
    mut loaded: Loaded,
    options: &Options,
    starter: Starter<'_, impl FnOnce(&Plan) -> Result<T>>,
) -> Result<T> {
    let InstanceKey { project, name } = held.key();
    let map = map_of(&loaded)?;
    volume::owners::settle(store, project, loaded.expanded.devices.values(), map.as_ref(), held.key())?;
    let _volumes = volume::hold(store, project, loaded.expanded.devices.values())?;
    quota::settle_root(store, &mut loaded)?;
    root_owners::settle(store, held, &loaded, map.as_ref())?;
    let before = loaded.volatile.clone();
    nics::settle(store, &mut loaded)?;
    // Nobody inside would ask for an address.
    let told = application::is_instance(&loaded)?.then(|| run_network::settle(store, &mut loaded)).transpose()?;
    let mut plan = Plan { restarted: options.restarted.clone(), ..plan(store, &loaded, starter.cgroups)? };
    let started = prepare(store, held, &plan)
        .and_then(|()| told.map_or(Ok(()), |told| run_network::plan(&mut plan, &loaded, told)))
        .and_then(|()| fault::point("start.planned"))
        .and_then(|()| load_modules(&loaded.expanded.config))
        .and_then(|()| confine::prepare(store, &loaded))
        .and_then(|()| fault::point("start.confined"))
        .and_then(|()| nics::begin(store, &loaded))
        .and_then(|()| nics::lend(store, &mut loaded, &mut plan.nics))
        .and_then(|()| network::nat::begin(store, &loaded))
        .and_then(|()| fault::point("start.connected"))
        .and_then(|()| {
            mark_running(&mut loaded, &plan, starter.returns_with_host);
            cpus::note_node(store, (project, name), &mut loaded.volatile.config)?;
            record_and_run(store, held, &loaded, || (starter.run)(&plan))
        });
    match started {
        Ok(started) => Ok(started),
        Err(e) => Err([lifecycle::clean_up(store, held), store.save_volatile(held, &before)]
            .into_iter()
            .filter_map(Result::err)
            .fold(confine::explain(&loaded.expanded.config, e), Error::and)),
    }
}

/// The record goes to disk while the container starts: a power cut ends the container anyway.
fn record_and_run<T>(
    store: &Store,
    held: &Held<InstanceKey, Exclusive>,
    loaded: &Loaded,
    run: impl FnOnce() -> Result<T>,
) -> Result<T> {
    let (recorded, started) = std::thread::scope(|scope| {
        let record = scope.spawn(|| store.save_volatile(held, &loaded.volatile));
        let started = run();
        (record.join().unwrap_or_else(|_| Err(Error::internal("Recording ended early"))), started)
    });
    let started = started?;
    let ready = recorded.and_then(|()| nics::started(store, loaded));
    match ready.and_then(|()| fault::point("start.running")) {
        Ok(()) => Ok(started),
        Err(e) => {
            drop(started);
            abandon(store, held);
            Err(e)
        }
    }
}

/// Ends an instance whose start failed after all. Its monitor would wait for our lock to record the end: it is told to go.
fn abandon(store: &Store, held: &Held<InstanceKey, Exclusive>) {
    let InstanceKey { project, name } = held.key();
    let _ = store.save_wish(held, Wish::Abandon);
    let Ok(Some(running)) = load::running(store, project, name) else { return };
    let Ok(Some(monitor)) = running.file.open_monitor() else { return };
    let _ = Group::at(running.file.cgroup).kill(lifecycle::KILL_TIMEOUT);
    let _ = pidfd::wait_ended(monitor.as_fd(), Some(lifecycle::KILL_TIMEOUT));
}

/// Loads the kernel modules that an instance with this (expanded) configuration wants.
///
/// # Errors
/// One of them cannot be loaded.
pub(super) fn load_modules(config: &Config) -> Result<()> {
    const MODPROBE: Program = Program { name: "modprobe", package: "kmod" };
    for module in keys::LINUX_KERNEL_MODULES.list(config) {
        Host::default()
            .run(Cmd::new(MODPROBE).args(["--", module]))
            .with_context(|| format!("Failed to load kernel module \"{module}\""))?;
    }
    Ok(())
}

fn mark_running(loaded: &mut Loaded, plan: &Plan, returns_with_host: bool) {
    loaded.volatile.last_used_at = Some(time::now());
    let config = &mut loaded.volatile.config;
    let power = if returns_with_host { volatile_value::POWER_RUNNING } else { volatile_value::POWER_STOPPED };
    keys::VOLATILE_LAST_STATE_POWER.set(config, power);
    keys::VOLATILE_APPLY_TEMPLATE.remove(config);
    if plan.shift == Shift::Idmapped {
        keys::VOLATILE_LAST_STATE_IDMAP.set(config, volatile_value::IDMAP_NONE);
    }
    let current = keys::VOLATILE_IDMAP_NEXT.get(config).unwrap_or(volatile_value::IDMAP_NONE).to_string();
    keys::VOLATILE_IDMAP_CURRENT.set(config, current);
}

/// Makes what a plan needs before the container: its run-time folder, and the controllers and CPUs of its cgroup.
///
/// # Errors
/// As mkdir(2). Unsupported: a limit's controller cannot be turned on. As [`cpus::assign`].
pub fn prepare(store: &Store, held: &Held<InstanceKey, Exclusive>, plan: &Plan) -> Result<()> {
    store.make_run_dir(held)?;
    prepare_group(store, held, plan)
}

fn prepare_group(store: &Store, held: &Held<InstanceKey, Exclusive>, plan: &Plan) -> Result<()> {
    let group = Group::at(plan.cgroup.clone());
    let available = controllers::enable(plan.cgroup.parent().unwrap_or(&plan.cgroup))?;
    plan.limits().iter().try_for_each(|setting| available.require(setting.controller()))?;
    let Some(wish) = &plan.cpus else { return Ok(()) };
    available.require("cpuset")?;
    group.make()?;
    fault::point("start.group")?;
    cpus::assign(store, (&held.key().project, &held.key().name), &group, wish)
}

/// The id map of an instance, from its effective configuration.
///
/// # Errors
/// As [`idmap::of`].
pub fn map_of(loaded: &Loaded) -> Result<Option<IdMap>> {
    let base = keys::VOLATILE_IDMAP_BASE.get(&loaded.volatile.config).and_then(|v| v.parse().ok());
    idmap::of(&loaded.expanded.config, base)
}

/// The plan that an instance would be started with now; nothing is done.
///
/// # Errors
/// As [`plan`]; Unsupported on a pool where making a plan shifts the files' owners.
pub fn preview(store: &Store, who: (&ProjectName, &InstanceName)) -> Result<Plan> {
    let loaded = load::load(store, who.0, who.1)?;
    if !pool::maps_ids_of(store, &loaded.pool()?, &loaded.volume()?)? {
        return Err(Error::unsupported("The plan can't be shown: this storage pool has no id-mapped mounts"));
    }
    plan(store, &loaded, &load::cgroups(store.layout())?)
}

/// The plan of a system container.
///
/// # Errors
/// What cannot be honoured, named.
pub fn plan(store: &Store, loaded: &Loaded, cgroups: &Tree) -> Result<Plan> {
    let config = &loaded.expanded.config;
    if loaded.instance.kind != InstanceType::Container {
        return Err(Error::unsupported("Virtual machines are not supported by this version"));
    }
    if keys::SECURITY_PROTECTION_START.bool(config)? {
        return Err(Error::denied("Instance is protected from being started"));
    }
    settings::check(config, cgroups)?;
    disk_limits::check(&loaded.expanded.devices, cgroups)?;
    let group = cgroups.instance(&group_name(&loaded.project, &loaded.name));
    let map = map_of(loaded)?;
    let root = root_of(store, loaded, map.as_ref())?;
    let parts = parts(store, loaded, &root.rootfs, map.as_ref())?;
    let privileged = map.is_none();
    let apparmor = confine::label(store.layout(), &loaded.project, &loaded.name);
    let driver = pool::need(store, &loaded.pool()?)?;
    let application = application::of(driver.as_ref(), loaded)?;
    let mut system = Settings { apparmor, ..settings::system(&loaded.name, config, map, &group)? };
    let disks = Disks { store, project: &loaded.project, name: &loaded.name, devices: &loaded.expanded.devices };
    system.limits.throttles = disk_limits::of(disks)?;
    let (settings, init, mut mounts) = match &application {
        None => (system, Init::System, Vec::new()),
        Some(application) => {
            let settings = application.settings(system, config)?;
            let init = application.init(&settings);
            (settings, init, application.mounts(&root.rootfs, &parts.mounts)?)
        }
    };
    mounts.extend(parts.mounts);
    Ok(Plan {
        spec: build::spec(&settings)?,
        project: loaded.project.to_string(),
        name: loaded.name.to_string(),
        rootfs: root.rootfs,
        readonly: parts.readonly,
        throwaway: false,
        shift: root.shift,
        mounts,
        nics: parts.nics,
        proxies: parts.proxies,
        host_binds: settings::host_binds(privileged),
        stop_signal: application.filter(|_| init != Init::System).map(|a| a.stop_signal()),
        privileged,
        nesting: keys::SECURITY_NESTING.bool(config)?,
        init,
        files: templates::due(driver.as_ref(), loaded, privileged)?,
        cgroup: group.path().to_path_buf(),
        cpus: CpuWish::of(config),
        run_dir: store.layout().instance_run_dir(&loaded.project, &loaded.name),
        log_dir: store.layout().instance_log_dir(&loaded.project, &loaded.name),
        places: lifecycle::places(store.layout()),
        restarted: String::new(),
    })
}

/// The root file system with how its ids become the container's.
#[derive(Debug)]
pub struct Root {
    /// How it is put together.
    pub rootfs: Rootfs,
    /// How it is mounted.
    pub shift: Shift,
}

/// The root of `loaded` for the id map `map`; where the pool cannot be id-mapped, the files on disk are shifted first.
///
/// # Errors
/// The volume is missing; the pool can neither map nor shift.
pub fn root_of(store: &Store, loaded: &Loaded, map: Option<&IdMap>) -> Result<Root> {
    let (pool_name, volume) = (loaded.pool()?, loaded.volume()?);
    let driver = pool::need(store, &pool_name)?;
    let mapped = pool::maps_ids(store, &pool_name)? || driver.maps_ids(&volume)?;
    let shift = if map.is_some() && mapped { Shift::Idmapped } else { Shift::None };
    if !mapped {
        let protected = keys::SECURITY_PROTECTION_SHIFT.bool(&loaded.expanded.config)?;
        let wanted = map.cloned().unwrap_or_default();
        if protected && !wanted.is_empty() {
            return Err(Error::denied("Container is protected against filesystem shifting"));
        }
        if let Some(trash) = driver.shift(&volume, &wanted)? {
            driver.empty(&trash)?;
        }
    }
    Ok(Root { rootfs: driver.rootfs(&volume)?, shift })
}

/// What the devices ask of the runtime.
struct Parts {
    mounts: Vec<Mount>,
    nics: Vec<Nic>,
    proxies: Vec<Proxy>,
    readonly: bool,
}

fn parts(store: &Store, loaded: &Loaded, root: &Rootfs, map: Option<&IdMap>) -> Result<Parts> {
    let mut parts = Parts { mounts: Vec::new(), nics: Vec::new(), proxies: Vec::new(), readonly: false };
    let devices = nics::resolved(store, loaded)?;
    let identity = |device: &str| nics::identity(loaded, device);
    let volumes = |need: &Need| volume::supply(store, &loaded.project, need, map);
    for attachment in wiring::attachments(&devices, loaded.instance.kind, root, &volumes, &identity)? {
        match attachment {
            Attachment::Nic(mut nic) => {
                network::hairpin::settle(store, &devices, &mut nic)?;
                parts.nics.push(nic);
            }
            Attachment::Proxy(proxy) => parts.proxies.push(proxy),
            Attachment::Root { readonly, .. } => parts.readonly = readonly,
            Attachment::Mount(m) => parts.mounts.push(m),
        }
    }
    Ok(parts)
}
