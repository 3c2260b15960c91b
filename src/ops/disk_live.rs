//! Disks of a running instance: mounted into it and taken out, so that what it has is what its configuration says.
//!
//! What it has stands in the run file of mounts ([`crate::store::mounted`]), noted before anything is attached. So the same
//! code carries a change out and takes one back that was refused or broken off. Called by `update` and `profile`, under the
//! lock of the instance, and by recovery.

use super::live::Target;
use super::load::{self, Loaded};
use super::{pool, volume, wiring};
use crate::base::idmap::IdMap;
use crate::base::names::{InstanceName, ProjectName};
use crate::container::attach::Target as Container;
use crate::container::disks;
use crate::error::{Context, Error, Result};
use crate::fault;
use crate::model::attach::{Mount, Need};
use crate::model::diff::DeviceChanges;
use crate::model::instance::{Device, Devices};
use crate::model::keys;
use crate::model::keys::device::device_type;
use crate::store::Store;
use crate::store::lock::InstanceKey;
use crate::store::mounted::{Board, Mounted};
use crate::sys::pidfd;
use std::collections::BTreeSet;
use std::os::fd::AsFd;
use std::time::Duration;

/// A disk that comes and goes while the instance runs: any but the root.
pub(super) fn is_pluggable(options: &Device) -> bool {
    device_type(options) == "disk" && !pool::is_root(options)
}

/// The disks that a change reaches, by device.
pub(super) fn touched(changes: &DeviceChanges) -> BTreeSet<String> {
    let whole = changes.removed.iter().chain(&changes.added);
    whole.filter(|(_, d)| is_pluggable(d)).map(|(name, _)| name.clone()).collect()
}

/// The ID map that a running instance has; empty: none.
fn map_of(loaded: &Loaded) -> Result<IdMap> {
    match keys::VOLATILE_IDMAP_CURRENT.get(&loaded.volatile.config).unwrap_or_default() {
        "" => Ok(IdMap::default()),
        text => IdMap::from_json(text),
    }
}

/// Has the volumes that come with the change belong to the running instance; no volume is locked yet.
///
/// # Errors
/// As [`volume::owners::settle`].
pub(super) fn settle(store: &Store, me: &InstanceKey, old: &Loaded, changes: &DeviceChanges) -> Result<()> {
    let map = map_of(old)?;
    let coming = changes.incoming();
    let map = Some(&map).filter(|map| !map.is_empty());
    volume::owners::settle(store, &old.project, coming.values().filter(|d| is_pluggable(d)), map, me)
}

/// Has the disks of these devices be what `loaded` says. An instance that has ended meanwhile is fine.
///
/// # Errors
/// `Failed to start device "data": …`; part of it may be done.
pub(super) fn apply(target: Target<'_>, loaded: &Loaded, devices: &BTreeSet<String>) -> Result<()> {
    if devices.is_empty() {
        return Ok(());
    }
    let file = &target.running.file;
    let Some(init) = file.open_init()? else { return Ok(()) };
    let map = map_of(loaded)?;
    let container =
        Container { init: init.as_fd(), init_pid: file.init_pid, cgroup: &file.cgroup, unprivileged: !map.is_empty() };
    let wanted = wanted(target.store, loaded, devices, Some(&map).filter(|map| !map.is_empty()))?;
    let board = Board::read(&target.store.layout().instance_run_dir(target.project, target.name))?;
    let outcome = carry_out(&container, (board, &map), devices, &wanted);
    match pidfd::wait_ended(init.as_fd(), Some(Duration::ZERO))? {
        // Its mounts have ended with it.
        true => Ok(()),
        false => outcome,
    }
}

/// Has the disks of these devices be what the records say, as far as the instance runs. Takes no lock.
///
/// # Errors
/// As [`apply`]; a record is damaged.
pub(super) fn renew(store: &Store, project: &ProjectName, name: &InstanceName, devices: &[String]) -> Result<()> {
    let Some(running) = load::running(store, project, name)? else { return Ok(()) };
    let loaded = load::load(store, project, name)?;
    let target = Target { store, project, name, running: &running };
    apply(target, &loaded, &devices.iter().cloned().collect())
}

/// What these devices are to be, in the order they are mounted.
fn wanted(store: &Store, loaded: &Loaded, devices: &BTreeSet<String>, map: Option<&IdMap>) -> Result<Vec<Mount>> {
    let mut all: Devices = loaded.expanded.devices.clone();
    all.retain(|name, options| devices.contains(name) && is_pluggable(options));
    let volumes = |need: &Need| volume::supply(store, &loaded.project, need, map);
    wiring::mounts(&all, loaded.instance.kind, &volumes)
}

fn carry_out(
    container: &Container<'_>,
    (mut board, map): (Board, &IdMap),
    devices: &BTreeSet<String>,
    wanted: &[Mount],
) -> Result<()> {
    let stays = |old: &Mounted| old.done && wanted.contains(&old.mount);
    let mut leaving: Vec<Mounted> =
        devices.iter().filter_map(|name| board.get(name)).filter(|old| !stays(old)).cloned().collect();
    // What may lie in another goes before that.
    leaving.sort_by(|a, b| b.mount.target.cmp(&a.mount.target));
    for old in &leaving {
        let device = &old.mount.device;
        // Half of it may be gone from here on: it is made anew should it stay after all.
        board.set(Mounted { done: false, ..old.clone() })?;
        fault::point("live.disk.stop")?;
        disks::detach(container, &old.mount, old.id).with_context(|| format!("Failed to stop device \"{device}\""))?;
        fault::point("live.disk.out")?;
        board.remove(device)?;
    }
    for mount in wanted {
        if board.get(&mount.device).is_some() {
            continue;
        }
        let done = put_in(container, (&mut board, map), mount);
        done.with_context(|| format!("Failed to start device \"{}\"", mount.device))?;
    }
    Ok(())
}

fn put_in(container: &Container<'_>, (board, map): (&mut Board, &IdMap), mount: &Mount) -> Result<()> {
    let ready = disks::prepare(container, map, mount)?;
    let noted = Mounted { id: ready.id, done: false, mount: mount.clone() };
    board.set(noted.clone())?;
    fault::point("live.disk.noted")?;
    if let Err(e) = disks::attach(container, &ready, mount) {
        let forgotten = board.remove(&mount.device);
        return Err([forgotten].into_iter().filter_map(Result::err).fold(e, Error::and));
    }
    fault::point("live.disk.in")?;
    board.set(Mounted { done: true, ..noted })
}
