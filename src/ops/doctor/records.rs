//! Records that cannot be read, journals that were left, mounts that should not be.

use super::{Level, Report};
use crate::base::names::PoolName;
use crate::error::Result;
use crate::storage::{lvm, zfs};
use crate::store::Store;

pub(super) fn check(store: &Store, fix: bool, report: &mut Report) -> Result<()> {
    journals(store, fix, report)?;
    for (project, record) in store.projects()? {
        if let Err(e) = record {
            report.broken(&format!("project {project}"), &e);
            continue;
        }
        for (name, profile) in store.profiles(&project)? {
            if let Err(e) = profile {
                report.broken(&format!("profile {project}/{name}"), &e);
            }
        }
    }
    for (name, pool) in store.pools()? {
        if let Err(e) = pool {
            report.broken(&format!("pool {name}"), &e);
        }
    }
    mounts(store, report)
}

fn journals(store: &Store, fix: bool, report: &mut Report) -> Result<()> {
    let left = store.failed_journals()?;
    if left.is_empty() {
        return Ok(());
    }
    let names: Vec<String> = left
        .iter()
        .map(|(id, h)| h.as_ref().map_or_else(|| id.clone(), |h| format!("{} {}", h.op, h.targets.join(", "))))
        .collect();
    let message = format!("could not be settled: {}", names.join("; "));
    report.disagreement("journals", message, fix, || store.retry_failed());
    Ok(())
}

/// Mounts in pools live in instances: one in the host's table is a mistake of ours or somebody's help. That of a pool is
/// [`super::pools`]'s, and those of volumes of a pool in a volume group or of ZFS are their driver's.
fn mounts(store: &Store, report: &mut Report) -> Result<()> {
    let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let mut groups = store.pools()?;
    groups
        .retain(|(_, pool)| pool.as_ref().is_ok_and(|pool| [lvm::DRIVER, zfs::DRIVER].contains(&pool.driver.as_str())));
    let groups: Vec<PoolName> = groups.into_iter().map(|(name, _)| name).collect();
    let state = store.layout().state.to_string_lossy().into_owned();
    for line in table.lines() {
        let Some(at) = line.split(' ').nth(4) else { continue };
        let Some((pool, below)) =
            at.strip_prefix(&format!("{state}/pools/")).and_then(|rest| rest.split_once("/data/"))
        else {
            continue;
        };
        // That of the copies of records is in the pool's folder itself.
        let of_driver = groups.iter().any(|name| name.as_str() == pool) && below.matches('/').count() <= 1;
        if !of_driver {
            report.add("mounts", Level::Error, format!("unexpected mount on {at}"), format!("umount {at}"));
        }
    }
    Ok(())
}
