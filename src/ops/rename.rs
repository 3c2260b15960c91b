//! `rename`: another name for a stopped instance. Volume, records and logs move under one journal: all or none.

use super::update::restore_volatile;
use super::{confine, lifecycle, load, pool, snapshot};
use crate::base::names::{InstanceName, ProjectName, SnapshotName};
use crate::error::{Context, Error, Result};
use crate::fault;
use crate::model::keys::{self, volatile_value};
use crate::storage::Volume;
use crate::store::lock::{Exclusive, Held, InstanceKey};
use crate::store::undo::{Volume as Named, VolumeKind};
use crate::store::{Action, Journal, Store, journal};
use std::path::Path;

/// Both names, locked.
struct Names {
    from: Held<InstanceKey, Exclusive>,
    to: Held<InstanceKey, Exclusive>,
}

/// Renames an instance.
///
/// # Errors
/// Not found; Conflict: it runs; Exists: the new name is taken. Nothing is changed then.
pub fn rename(store: &Store, project: &ProjectName, from: &InstanceName, to: &InstanceName) -> Result<()> {
    let taken = || Error::exists(format!("Name {:?} already in use", to.as_str()));
    if from == to {
        return Err(if store.instance_exists(project, from)? { taken() } else { load::not_found() });
    }
    let _project = store.lock_project_shared(project)?;
    let names = lock(store, project, from, to)?;
    lifecycle::settle(store, &names.from)?;
    let loaded = load::load(store, project, from)?;
    if store.instance_exists(project, to)? {
        return Err(taken());
    }
    if load::running(store, project, from)?.is_some() {
        return Err(Error::conflict("Renaming of running instance not allowed"));
    }
    journal::run(store, "rename", &[&names.from, &names.to], |journal| steps(store, journal, &names, &loaded))?;
    lifecycle::note(store, project, to, "instance-renamed");
    Ok(())
}

fn lock(store: &Store, project: &ProjectName, from: &InstanceName, to: &InstanceName) -> Result<Names> {
    let key = |name: &InstanceName| InstanceKey { project: project.clone(), name: name.clone() };
    let held = store.lock_instances(vec![key(from), key(to)], "rename")?;
    let (mut first, mut second) = (None, None);
    for one in held {
        if one.key().name == *from { first = Some(one) } else { second = Some(one) }
    }
    match (first, second) {
        (Some(from), Some(to)) => Ok(Names { from, to }),
        _ => Err(Error::internal("Two names gave one lock")),
    }
}

fn steps(store: &Store, journal: &mut Journal<'_>, names: &Names, loaded: &load::Loaded) -> Result<()> {
    let (project, from, to) = (&loaded.project, &names.from.key().name, &names.to.key().name);
    fault::point("rename.begin")?;
    let pool_name = loaded.pool()?;
    let driver = pool::need(store, &pool_name)?;
    let target = Volume::container(project, to)?;
    let volume = Named {
        pool: pool_name.to_string(),
        kind: VolumeKind::Container,
        project: project.to_string(),
        name: to.to_string(),
    };
    if driver.exists(&target)? {
        return Err(Error::exists(format!("Volume \"{to}\" already exists on storage pool \"{pool_name}\""))
            .hint("Run \"stapes doctor\": no instance has it"));
    }
    let snapshots = snapshots(store, loaded, to)?;
    journal.undo(Action::RenameVolume { volume, to: from.to_string() })?;
    snapshots.iter().try_for_each(|one| journal.undo(one.undo.clone()))?;
    journal.undo(restore_volatile(store, loaded)?)?;
    journal.keep()?;
    driver.rename(&loaded.volume()?, &target)?;
    fault::point("rename.volume")?;
    for one in &snapshots {
        // One that is gone need not hold up the rest.
        if driver.exists(&one.old)? {
            driver.rename(&one.old, &one.new)?;
        }
        fault::point("rename.snapshot")?;
    }

    let mut volatile = loaded.volatile.clone();
    // What it was never started after is still due: its templates are those of its creation.
    if keys::VOLATILE_APPLY_TEMPLATE.get(&volatile.config).is_none() {
        keys::VOLATILE_APPLY_TEMPLATE.set(&mut volatile.config, volatile_value::TEMPLATE_RENAME);
    }
    keys::VOLATILE_CLOUD_INIT_INSTANCE_ID.set(&mut volatile.config, uuid::Uuid::new_v4().to_string());
    store.save_volatile(&names.from, &volatile)?;
    fault::point("rename.volatile")?;

    let (old, new) = (from.to_string(), to.to_string());
    journal.undo(Action::RenameInstance { project: project.to_string(), from: new, to: old })?;
    store.rename_instance(&names.from, &names.to)?;
    fault::point("rename.record")?;

    let layout = store.layout();
    let (log_from, log_to) = (layout.instance_log_dir(project, from), layout.instance_log_dir(project, to));
    journal.undo(Action::Move { from: log_to.clone(), to: log_from.clone() })?;
    move_logs(&log_from, &log_to)?;
    // The compiled profile goes by the name; a lost one is made again.
    if let Some(Action::RemoveFile { path }) = confine::forget(layout, project, from) {
        let _ = std::fs::remove_file(path);
    }
    fault::point("rename.log")
}

/// The volume of a snapshot, which goes with that of the instance.
struct Moved {
    old: Volume,
    new: Volume,
    undo: Action,
}

fn snapshots(store: &Store, loaded: &load::Loaded, to: &InstanceName) -> Result<Vec<Moved>> {
    let (project, from, pool) = (&loaded.project, &loaded.name, loaded.pool()?);
    let (volume, target) = (loaded.volume()?, Volume::container(project, to)?);
    let one = |name: &SnapshotName| {
        let renamed = snapshot::volume_of(&pool, project, to, name);
        let undo = Action::RenameVolume { volume: renamed, to: format!("{from}@{name}") };
        Ok(Moved { old: volume.snapshot(name)?, new: target.snapshot(name)?, undo })
    };
    store.snapshots(project, from)?.iter().map(|(name, _)| one(name)).collect()
}

/// What an earlier instance of the new name left goes.
fn move_logs(from: &Path, to: &Path) -> Result<()> {
    let fail = || format!("Failed renaming \"{}\"", from.display());
    match std::fs::remove_dir_all(to) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(e).with_context(fail),
        _ => {}
    }
    match std::fs::rename(from, to) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
        other => other.with_context(fail),
    }
}
