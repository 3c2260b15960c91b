//! Instances: records, volumes, run folders, cgroups and logs, matched by name.

use super::Report;
use super::images::unless_busy;
use super::pools::waits;
use crate::base::names::{InstanceName, ProjectName};
use crate::error::{Context, Result};
use crate::host::cgroup::Tree;
use crate::ops::{confine, cpus, instance_metadata, lifecycle, load, pool};
use crate::storage::{Volume, VolumeKind};
use crate::store::Store;
use crate::store::lock::{Exclusive, Held, InstanceKey};
use crate::store::runfile::Liveness;
use crate::sys::path;
use std::collections::BTreeSet;
use std::os::fd::AsFd;
use std::path::Path;
use std::time::Duration;

type Who = (ProjectName, InstanceName);

pub(super) fn check(store: &Store, fix: bool, report: &mut Report) -> Result<()> {
    let cgroups = load::cgroups(store.layout()).ok();
    for (project, name) in everybody(store, cgroups.as_ref())? {
        let key = InstanceKey { project, name };
        let Some(held) = unless_busy(store.lock_within(key, "doctor", Duration::ZERO))? else { continue };
        // As every command does that works on it. What does not get through is found below.
        let _ = lifecycle::settle(store, &held);
        let one = One { store, held: &held, fix, cgroups: cgroups.as_ref() };
        one.check(report)?;
    }
    // Likewise: CPUs of those that ended without saying so.
    let _ = cpus::settle(store);
    Ok(())
}

/// Every name that a record, a volume, a run folder, a cgroup or a log knows.
fn everybody(store: &Store, cgroups: Option<&Tree>) -> Result<BTreeSet<Who>> {
    let mut all = BTreeSet::new();
    for (project, _) in store.projects()? {
        for name in store.instance_names(&project)? {
            all.insert((project.clone(), name));
        }
    }
    for (name, _) in store.pools()? {
        let Ok(Some(driver)) = pool::open(store, &name) else { continue };
        all.extend(driver.list(VolumeKind::Container)?.iter().filter_map(|v| of_volume(v.name())));
    }
    let layout = store.layout();
    for folder in [layout.run_instances_dir(), layout.log.clone()] {
        all.extend(folders(&folder).iter().filter_map(|n| of_group(n)));
    }
    all.extend(confine::confined(layout).unwrap_or_default());
    all.extend(cgroups.into_iter().flat_map(Tree::names).filter_map(|n| of_group(&n)));
    Ok(all)
}

fn folders(dir: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(dir) else { return Vec::new() };
    entries
        .flatten()
        .filter(|e| e.file_type().is_ok_and(|t| t.is_dir()))
        .filter_map(|e| e.file_name().into_string().ok())
        .collect()
}

/// `<project>_<name>`; an instance's name has no underscore.
fn of_group(text: &str) -> Option<Who> {
    let (project, name) = text.rsplit_once('_')?;
    Some((ProjectName::parse(project).ok()?, InstanceName::parse(name).ok()?))
}

/// As a group, with the default project left out.
pub(super) fn of_volume(text: &str) -> Option<Who> {
    match text.contains('_') {
        true => of_group(text),
        false => Some((ProjectName::default(), InstanceName::parse(text).ok()?)),
    }
}

struct One<'a> {
    store: &'a Store,
    held: &'a Held<InstanceKey, Exclusive>,
    fix: bool,
    cgroups: Option<&'a Tree>,
}

impl One<'_> {
    fn check(&self, report: &mut Report) -> Result<()> {
        let InstanceKey { project, name } = self.held.key();
        let label = format!("instance {project}/{name}");
        let lives = match self.store.running(project, name) {
            Ok(running) => running.is_some_and(|r| r.liveness == Liveness::Running),
            Err(e) => {
                report.broken(&label, &e);
                return Ok(());
            }
        };
        if lives {
            return Ok(());
        }
        let exists = match self.store.instance(project, name) {
            Ok(record) => record.is_some(),
            Err(e) => {
                report.broken(&label, &e);
                return Ok(());
            }
        };
        self.leftovers(&label, report);
        if exists && self.still_there()? { self.volume(&label, report) } else { self.orphan(&label, report) }
    }

    /// Nothing of a stopped instance may be in the kernel or the run folder.
    fn leftovers(&self, label: &str, report: &mut Report) {
        let InstanceKey { project, name } = self.held.key();
        let run = self.store.layout().instance_run_dir(project, name);
        let group = self.cgroups.map(|t| t.instance(&load::group_name(project, name)));
        let profiles = confine::confined(self.store.layout()).unwrap_or_default();
        let profile = profiles.iter().any(|(p, n)| p == project && n == name);
        let left = [
            (run.exists(), "a run folder"),
            (group.is_some_and(|g| g.exists()), "a cgroup"),
            (profile, "an AppArmor profile"),
        ];
        let left: Vec<&str> = left.into_iter().filter_map(|(there, what)| there.then_some(what)).collect();
        if left.is_empty() {
            return;
        }
        let what = left.join(" and ");
        report.disagreement(label, format!("does not run and has left {what}"), self.fix, || {
            lifecycle::clean_up(self.store, self.held)
        });
    }

    /// Cleaning up an ephemeral one deletes it.
    fn still_there(&self) -> Result<bool> {
        self.store.instance_exists(&self.held.key().project, &self.held.key().name)
    }

    fn volume(&self, label: &str, report: &mut Report) -> Result<()> {
        let InstanceKey { project, name } = self.held.key();
        let found = load::load(self.store, project, name).and_then(|loaded| {
            let pool_name = loaded.pool()?;
            let (driver, volume) = (pool::need(self.store, &pool_name)?, loaded.volume()?);
            let there = driver.exists(&volume)?;
            if there {
                // As every change of its templates does.
                instance_metadata::tidy(path::open_root(&driver.own_metadata(&volume)?)?.as_fd())?;
            }
            Ok((there, pool_name))
        });
        match found {
            Err(e) => report.broken(label, &e),
            Ok((true, _)) => {}
            Ok((false, pool)) => {
                let e = crate::error::Error::failed(format!("its volume is missing in pool \"{pool}\""))
                    .hint(format!("delete it: stapes delete {name}"));
                report.broken(label, &e);
            }
        }
        Ok(())
    }

    /// No record: whatever else bears the name is left over.
    fn orphan(&self, label: &str, report: &mut Report) -> Result<()> {
        let InstanceKey { project, name } = self.held.key();
        let volume = Volume::container(project, name)?;
        for (pool_name, _) in self.store.pools()? {
            let Ok(Some(driver)) = pool::open(self.store, &pool_name) else { continue };
            if !driver.exists(&volume)? {
                continue;
            }
            let message = format!("has a volume in pool \"{pool_name}\" and no record");
            if waits(self.store, &pool_name, report, (label, &message)) {
                continue;
            }
            report.disagreement(label, message, self.fix, || match driver.delete(&volume)? {
                Some(trash) => driver.empty(&trash),
                None => Ok(()),
            });
        }
        self.stray_folder(label, "a log folder", &self.store.layout().instance_log_dir(project, name), report);
        Ok(())
    }

    fn stray_folder(&self, label: &str, what: &str, path: &Path, report: &mut Report) {
        if path.is_dir() {
            report.disagreement(label, format!("has {what} and no record"), self.fix, || {
                std::fs::remove_dir_all(path).with_context(|| format!("Failed removing \"{}\"", path.display()))
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_back() {
        let (p, n) = of_volume("web").expect("default");
        assert_eq!((p.as_str(), n.as_str()), ("default", "web"));
        let (p, n) = of_volume("team_web").expect("project");
        assert_eq!((p.as_str(), n.as_str()), ("team", "web"));
        assert!(of_group("monitors").is_none());
    }
}
