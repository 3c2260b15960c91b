//! Gives out CPUs to running instances that ask for some, anew for all of them whenever one starts, stops or changes: what
//! Incus's daemon does, done here by whoever starts, stops or changes one (`model::cpus` works it out).
//!
//! All of it happens under one allocator lock, on a run-time table that exists only while somebody asks
//! (`store::cpus`); instances without a wish never take the lock, and a stop reads one missing file. A command that is killed
//! midway leaves at most a division that is out of date: the next one compares what should be with what the kernel has.
//! CPUs that come and go are seen at the next start or stop.

use super::load;
use crate::base::idset;
use crate::base::names::{InstanceName, ProjectName};
use crate::error::{Context, Error, Result};
use crate::fault;
use crate::host::cgroup::Group;
use crate::host::cpus;
use crate::model::cpus::{Asker, CpuWish, Host, Set, balance};
use crate::model::instance::Config;
use crate::model::keys;
use crate::store::Store;
use crate::store::cpus::{CpuEntry, CpuTable};
use crate::store::lock::{Allocator, Exclusive, Held};
use std::path::Path;

/// The control file (cgroup-v2.rst): a line break alone means all that the group above has.
const FILE: &str = "cpuset.cpus";

type Who<'a> = (&'a ProjectName, &'a InstanceName);

/// Gives `who`, whose cgroup exists, the CPUs it asks for, and has the others make room.
///
/// # Errors
/// Invalid: it asks for what no container gets. Failed: none of what it may have is online. The kernel refused: all is as
/// before then.
pub fn assign(store: &Store, who: Who<'_>, group: &Group, wish: &CpuWish) -> Result<()> {
    wish.check()?;
    let lock = store.lock_allocator(Allocator::Cpu)?;
    let before = live_table(store, who)?;
    let host = read_host(group.path())?;
    let mut table = before.clone();
    let at = table.entries.iter().position(|e| e.is(who.0, who.1));
    let others: Vec<&CpuEntry> = table.entries.iter().filter(|e| !e.is(who.0, who.1)).collect();
    let node = match wish.wants_node() {
        // It keeps the one it has.
        true => match at.and_then(|at| table.entries[at].node) {
            Some(node) => Some(node),
            None => host.least_loaded_node(&askers(&others))?,
        },
        false => None,
    };
    let entry = CpuEntry {
        project: who.0.to_string(),
        name: who.1.to_string(),
        cgroup: group.path().to_path_buf(),
        node,
        wish: wish.clone(),
    };
    match at {
        Some(at) => table.entries[at] = entry,
        None => table.entries.push(entry),
    }
    let places = places(&host, &table)?;
    let own = table.entries.iter().zip(&places).find(|(e, _)| e.is(who.0, who.1)).and_then(|(_, p)| p.clone());
    let own = own.ok_or_else(|| nothing_online(wish))?;
    store.save_cpu_table(&lock, &table)?;
    fault::point("cpus.recorded")?;
    match set(group, Some(&own)) {
        Ok(()) => {
            spread(&table, &places);
            Ok(())
        }
        Err(e) => Err(store.save_cpu_table(&lock, &before).err().into_iter().fold(e, Error::and)),
    }
}

fn nothing_online(wish: &CpuWish) -> Error {
    let (key, value) = match wish.cpus.is_empty() {
        true => (keys::LIMITS_CPU_NODES.name, &wish.nodes),
        false => (keys::LIMITS_CPU.name, &wish.cpus),
    };
    Error::failed(format!("Cannot apply \"{key}\": none of the CPUs of \"{value}\" is online"))
}

/// Takes `who`, which has ended or asks for nothing any more, off the table and gives the others what is free now. Without
/// an entry this is one look at a file.
///
/// # Errors
/// The table cannot be written.
pub fn release(store: &Store, who: Who<'_>) -> Result<()> {
    let there = |table: &CpuTable| table.entries.iter().any(|e| e.is(who.0, who.1));
    match store.cpu_table() {
        Ok(None) => return Ok(()),
        Ok(Some(table)) if !there(&table) => return Ok(()),
        _ => {}
    }
    update(store, |e| !e.is(who.0, who.1))
}

/// Takes off the table whoever has ended without saying so: for `doctor`.
///
/// # Errors
/// The table cannot be written.
pub fn settle(store: &Store) -> Result<()> {
    match store.cpu_table() {
        Ok(None) => Ok(()),
        Ok(Some(table)) if table.entries.iter().all(lives) => Ok(()),
        _ => update(store, |_| true),
    }
}

fn update(store: &Store, stays: impl Fn(&CpuEntry) -> bool) -> Result<()> {
    let lock = store.lock_allocator(Allocator::Cpu)?;
    let mut table = read(store)?;
    table.entries.retain(|e| lives(e) && stays(e));
    save_and_spread(store, &lock, &table)
}

fn save_and_spread(store: &Store, lock: &Held<Allocator, Exclusive>, table: &CpuTable) -> Result<()> {
    store.save_cpu_table(lock, table)?;
    fault::point("cpus.recorded")?;
    if let Some(first) = table.entries.first() {
        spread(table, &places(&read_host(&first.cgroup)?, table)?);
    }
    Ok(())
}

/// Lifts what [`assign`] did to a running instance.
///
/// # Errors
/// The kernel refused; as [`release`].
pub fn lift(store: &Store, who: Who<'_>, group: &Group) -> Result<()> {
    match set(group, None) {
        // A group with processes cannot go back to naming none: then it names all there are, as Incus has it.
        Err(e) if e.errno() == Some(libc::ENOSPC) => set(group, Some(&read_host(group.path())?.online))?,
        other => other?,
    }
    release(store, who)
}

/// Notes the NUMA node that was chosen for `who` in its volatile configuration, or that none was.
///
/// # Errors
/// The table is damaged.
pub fn note_node(store: &Store, who: Who<'_>, volatile: &mut Config) -> Result<()> {
    let table = store.cpu_table()?.unwrap_or_default();
    let node = table.entries.iter().find(|e| e.is(who.0, who.1)).and_then(|e| e.node);
    match node {
        Some(node) => keys::VOLATILE_CPU_NODES.set(volatile, node.to_string()),
        None => drop(keys::VOLATILE_CPU_NODES.remove(volatile)),
    }
    Ok(())
}

/// An entry counts as long as its cgroup is there: that is made before the entry and removed at every end.
fn lives(entry: &CpuEntry) -> bool {
    Group::at(entry.cgroup.clone()).exists()
}

/// The table without those who have ended; `who` stays, it is on its way.
fn live_table(store: &Store, who: Who<'_>) -> Result<CpuTable> {
    let mut table = read(store)?;
    table.entries.retain(|e| e.is(who.0, who.1) || lives(e));
    Ok(table)
}

/// The table; one that cannot be read is made anew from the records of what runs.
fn read(store: &Store) -> Result<CpuTable> {
    if let Ok(table) = store.cpu_table() {
        return Ok(table.unwrap_or_default());
    }
    let mut table = CpuTable::default();
    for (project, _) in store.projects()? {
        for name in store.instance_names(&project)? {
            let Ok(Some(running)) = load::running(store, &project, &name) else { continue };
            let Ok(loaded) = load::load(store, &project, &name) else { continue };
            let Some(wish) = CpuWish::of(&loaded.expanded.config).filter(|w| w.check().is_ok()) else { continue };
            let node = keys::VOLATILE_CPU_NODES.u32(&loaded.volatile.config).ok().flatten();
            table.entries.push(CpuEntry {
                project: project.to_string(),
                name: name.to_string(),
                cgroup: running.file.cgroup,
                node: node.filter(|_| wish.wants_node()),
                wish,
            });
        }
    }
    Ok(table)
}

fn read_host(group: &Path) -> Result<Host> {
    cpus::read(group.parent().unwrap_or(group))
}

fn askers<'a>(entries: &[&'a CpuEntry]) -> Vec<Asker<'a>> {
    entries.iter().map(|e| Asker { wish: &e.wish, node: e.node }).collect()
}

fn places(host: &Host, table: &CpuTable) -> Result<Vec<Option<Set>>> {
    balance(host, &askers(&table.entries.iter().collect::<Vec<_>>()))
}

/// Writes to every group what it has not. One that ends meanwhile, or that the kernel refuses, keeps what it has: it is not
/// the one that this command is about.
fn spread(table: &CpuTable, places: &[Option<Set>]) {
    for (entry, place) in table.entries.iter().zip(places) {
        if let Some(place) = place {
            let _ = set(&Group::at(entry.cgroup.clone()), Some(place));
        }
    }
}

/// Writes a group's CPUs, unless it has just these; none lifts the limit, as far as there can be one.
fn set(group: &Group, wanted: Option<&Set>) -> Result<()> {
    let path = group.path().join(FILE);
    let now = std::fs::read_to_string(&path);
    let now = match (now, wanted) {
        (Err(e), None) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        (now, _) => now.with_context(|| format!("Failed reading \"{}\"", path.display()))?,
    };
    let now = Some(now.trim()).filter(|t| !t.is_empty()).map(idset::parse).transpose()?;
    if now.as_ref() == wanted {
        return Ok(());
    }
    group.write(FILE, &wanted.map_or_else(|| "\n".to_string(), idset::format))
}
