//! What is measured of an instance: processes, CPU and memory from its cgroup, interfaces from `/proc`, usage of its disks.
//!
//! Called by `list` and `info`. What the host does not account for stays zero, as in Incus.

use super::status::Found;
use super::{pool, quota};
use crate::base::names::{InstanceName, PoolName, ProjectName};
use crate::base::parallel;
use crate::host::cgroup::Group;
use crate::model::instance::Devices;
use crate::model::status::Status;
use crate::model::view::{CpuState, DiskState, InstanceState, MemoryState};
use crate::storage::Volume;
use crate::store::Store;
use crate::store::runfile::RunFile;
use std::collections::BTreeMap;

const NANOS: i64 = 1_000_000_000;

/// The state of an instance without its disks and interfaces.
pub fn of(found: &Found) -> InstanceState {
    let (mut state, Some(run)) = begun(found) else { return InstanceState::new(found.status) };
    let group = Group::at(run.cgroup.clone());
    state.cpu = cpu(&group);
    state.memory = memory(&group);
    state.processes = processes(&group, run);
    state
}

/// What the run record says: process 1 and since when it runs. With the record, if there is one.
pub fn begun(found: &Found) -> (InstanceState, Option<&RunFile>) {
    let mut state = InstanceState::new(found.status);
    let run = found.run.as_ref().filter(|_| found.status != Status::Error);
    if let Some(run) = run {
        state.pid = run.init_pid.into();
        state.started_at = run.started_at.into();
    }
    (state, run)
}

/// Usage of the root disk by the device's name; without a size it takes a walk over the instance's files.
pub fn disks(store: &Store, who: (&ProjectName, &InstanceName), devices: &Devices) -> BTreeMap<String, DiskState> {
    let one = || {
        let (device, pool) = pool::of_root(devices).ok()?;
        Some((device, disk(store, who, &pool)?))
    };
    one().into_iter().collect()
}

fn disk(store: &Store, who: (&ProjectName, &InstanceName), pool: &PoolName) -> Option<DiskState> {
    let volume = Volume::container(who.0, who.1).ok()?;
    let found = quota::in_use(pool::open(store, pool).ok()??.as_ref(), &volume).ok()?;
    let bytes = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    Some(DiskState { usage: bytes(found.used), total: bytes(found.total) })
}

fn number(group: &Group, file: &str, field: Option<&str>) -> Option<i64> {
    group.number(file, field).and_then(|n| i64::try_from(n).ok())
}

fn processes(group: &Group, run: &RunFile) -> i64 {
    let counted = number(group, "pids.current", None);
    counted.unwrap_or_else(|| i64::try_from(group.processes()).unwrap_or(0)).max(i64::from(run.init_pid > 0))
}

/// cgroup-v2.rst: `cpu.stat` is there without the controller too.
fn cpu(group: &Group) -> CpuState {
    let usage = number(group, "cpu.stat", Some("usage_usec")).unwrap_or(0).saturating_mul(1000);
    let limit = std::fs::read_to_string(group.path().join("cpu.max")).unwrap_or_default();
    CpuState { usage, allocated_time: quota(&limit).unwrap_or_else(|| cpus(group).saturating_mul(NANOS)) }
}

/// `<quota> <period>` in microseconds; `max` is no limit.
fn quota(text: &str) -> Option<i64> {
    let (quota, period) = text.trim().split_once(' ')?;
    let (quota, period): (i64, i64) = (quota.parse().ok()?, period.parse().ok()?);
    NANOS.checked_mul(quota)?.checked_div(period)
}

fn cpus(group: &Group) -> i64 {
    let set = std::fs::read_to_string(group.path().join("cpuset.cpus.effective")).unwrap_or_default();
    match count_set(&set) {
        0 => i64::try_from(parallel::processors()).unwrap_or(1),
        count => count,
    }
}

/// Members of `0-3,6`.
fn count_set(text: &str) -> i64 {
    let count = |part: &str| {
        let (from, to) = part.split_once('-').unwrap_or((part, part));
        Some(to.trim().parse::<i64>().ok()? - from.trim().parse::<i64>().ok()? + 1)
    };
    text.trim().split(',').filter_map(count).sum()
}

fn memory(group: &Group) -> MemoryState {
    // Without the controller nothing is known.
    let Some(usage) = number(group, "memory.current", None) else { return MemoryState::default() };
    MemoryState {
        usage,
        usage_peak: number(group, "memory.peak", None).unwrap_or(0),
        total: number(group, "memory.max", None).unwrap_or_else(|| i64::try_from(host_memory()).unwrap_or(i64::MAX)),
        swap_usage: number(group, "memory.swap.current", None).unwrap_or(0),
        swap_usage_peak: number(group, "memory.swap.peak", None).unwrap_or(0),
    }
}

/// Memory of the host, bytes (proc_meminfo(5)).
pub fn host_memory() -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kib =
        text.lines().find_map(|l| l.strip_prefix("MemTotal:")?.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    kib.unwrap_or(0).saturating_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cgroup_texts() {
        assert_eq!((quota("max 100000\n"), quota("50000 100000\n"), quota("")), (None, Some(500_000_000), None));
        assert_eq!((count_set("0-3,6\n"), count_set("1"), count_set("\n")), (5, 1, 0));
        assert!(host_memory() > 1 << 20);
    }
}
