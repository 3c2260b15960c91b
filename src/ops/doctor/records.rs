//! Records that cannot be read, journals that were left, mounts that should not be.

use super::{Level, Report};
use crate::error::Result;
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
    mounts(store, report);
    Ok(())
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
/// [`super::pools`]'s.
fn mounts(store: &Store, report: &mut Report) {
    let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let state = store.layout().state.to_string_lossy().into_owned();
    for line in table.lines() {
        let Some(at) = line.split(' ').nth(4) else { continue };
        if at.starts_with(&format!("{state}/pools/")) && at.contains("/data/") {
            report.add("mounts", Level::Error, format!("unexpected mount on {at}"), format!("umount {at}"));
        }
    }
}
