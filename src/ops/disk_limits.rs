//! Limits of the reading and writing of disks: from the options of an instance's disks to the block devices below them.
//!
//! Called by `start`, which has them in the plan, and by `live` whenever limits, or disks that have some, come, go or change.
//! What counts is what the files lie on when the limit is set, as in Incus: one that is moved to other devices later keeps it
//! until then.

use super::live::Target;
use super::{pool, volume, wiring};
use crate::base::names::{InstanceName, ProjectName};
use crate::container::disks;
use crate::container::resources::Setting;
use crate::container::throttle::{self, IO_MAX, Throttle, Throttles};
use crate::error::{Context, Error, Result};
use crate::host::block::{self, Device};
use crate::host::cgroup::{Group, Tree};
use crate::model::attach::{MountSource, Need, Rootfs};
use crate::model::instance::{self, Devices, InstanceType};
use crate::model::keys::device::disk;
use crate::storage::Volume;
use crate::store::Store;
use std::collections::BTreeSet;
use std::os::fd::AsFd;

const CONTROLLER: &str = "io";

/// Refuses limits of disks where nobody could hold them.
///
/// # Errors
/// [`crate::error::Kind::Unsupported`]: no controller for it.
pub(super) fn check(devices: &Devices, cgroups: &Tree) -> Result<()> {
    if !devices.values().any(disk::is_limited) || cgroups.controllers().iter().any(|c| c == CONTROLLER) {
        return Ok(());
    }
    Err(Error::unsupported("Cannot apply disk limits as IO cgroup controller is missing")
        .hint("boot with a pure cgroup v2 hierarchy (systemd.unified_cgroup_hierarchy=1), or unset the disks' limits"))
}

/// The disks of an instance.
#[derive(Clone, Copy)]
pub(super) struct Disks<'a> {
    /// Where it stands.
    pub store: &'a Store,
    /// Its project.
    pub project: &'a ProjectName,
    /// Its name.
    pub name: &'a InstanceName,
    /// Its (expanded) devices.
    pub devices: &'a Devices,
}

/// What the limits of all its disks come to.
///
/// # Errors
/// `Failed to start device "data": Invalid block device "tmpfs"`.
pub(super) fn of(disks: Disks<'_>) -> Result<Throttles> {
    limited(disks).collect::<Result<Vec<_>>>().map(|all| throttle::average(&all))
}

/// The settings that have a running instance be limited as its disks say, and in nothing else. `known`: they were in force
/// before, so a disk whose source has gone since is passed over.
///
/// # Errors
/// As [`of`].
pub(super) fn settings(target: Target<'_>, group: &Group, devices: &Devices, known: bool) -> Result<Vec<Setting>> {
    let disks = Disks { store: target.store, project: target.project, name: target.name, devices };
    let wanted = match known {
        true => throttle::average(&limited(disks).filter_map(Result::ok).collect::<Vec<_>>()),
        false => of(disks)?,
    };
    // Without the file nothing is limited.
    let present = std::fs::read_to_string(group.path().join(IO_MAX)).unwrap_or_default();
    Ok(throttle::renewal(&present, &wanted))
}

/// Each disk that has limits, with the devices that it lies on; none for one that is not there and need not be.
fn limited(disks: Disks<'_>) -> impl Iterator<Item = Result<(BTreeSet<Device>, Throttle)>> {
    disks.devices.iter().filter(|(_, device)| disk::is_limited(device)).map(move |(name, device)| {
        let (read, write) = disk::io_limits(device)?;
        let devices = below(disks, name, device)?;
        Ok((devices, Throttle::of(read, write)))
    })
}

fn below(disks: Disks<'_>, name: &str, device: &instance::Device) -> Result<BTreeSet<Device>> {
    let source = match pool::is_root(device) {
        true => Some(root(disks)?),
        false => mounted(disks, name, device)?,
    };
    let Some(source) = source else { return Ok(BTreeSet::new()) };
    let found =
        match disks::origin(&source) {
            Ok(Some(fd)) => block::below(fd.as_fd()),
            Ok(None) => Err(Error::unsupported("Invalid block device \"tmpfs\"")
                .hint("memory has no limits of reading and writing")),
            Err(e) => Err(e),
        };
    found.with_context(|| format!("Failed to start device \"{name}\""))
}

/// Where the instance's root is written to. What it lies over is in the same pool.
fn root(disks: Disks<'_>) -> Result<MountSource> {
    let driver = pool::need(disks.store, &pool::of_root(disks.devices)?.1)?;
    let path = match driver.rootfs(&Volume::container(disks.project, disks.name)?)? {
        Rootfs::Dir { path } => path,
        Rootfs::Overlay { upper, .. } => upper,
    };
    Ok(MountSource::HostPath(path))
}

fn mounted(disks: Disks<'_>, name: &str, device: &instance::Device) -> Result<Option<MountSource>> {
    let alone = Devices::from([(name.to_string(), device.clone())]);
    let volumes = |need: &Need| volume::source(disks.store, disks.project, need);
    let mounts = wiring::mounts(&alone, InstanceType::Container, &volumes)?;
    Ok(mounts.into_iter().next().map(|mount| mount.source))
}
