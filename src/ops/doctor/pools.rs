//! Storage pools: what they lie in is there, mounted and as long as the record says; nothing is left of pools that are gone.

use super::images::unless_busy;
use super::{Level, Report};
use crate::base::names::PoolName;
use crate::error::Result;
use crate::model::keys::pool as keys;
use crate::model::pool::Pool as Record;
use crate::ops::pool;
use crate::ops::pool_place::{self, Place};
use crate::ops::quota;
use crate::storage::disk::{self, Disk};
use crate::storage::{VolumeKind, lvm, zfs};
use crate::store::lock::{Exclusive, Held, PoolKey};
use crate::store::{Store, trash};
use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

pub(super) fn check(store: &Store, fix: bool, report: &mut Report) -> Result<()> {
    for (name, record) in store.pools()? {
        let Ok(record) = record else { continue };
        let Some(held) = lock(store, &name)? else { continue };
        one(store, &held, &record, fix, report)?;
    }
    leftovers(store, fix, report)
}

/// Nobody works on it meanwhile; None if somebody does.
fn lock(store: &Store, name: &PoolName) -> Result<Option<Held<PoolKey, Exclusive>>> {
    unless_busy(store.lock_within(PoolKey(name.clone()), "doctor", Duration::ZERO))
}

fn one(store: &Store, held: &Held<PoolKey, Exclusive>, record: &Record, fix: bool, report: &mut Report) -> Result<()> {
    let name = &held.key().0;
    let check = format!("pool {name}");
    let place = Place::of_pool(store.layout(), name, record);
    if let Place::Disk(disk) | Place::Group(_, Some(disk)) | Place::Zfs(_, Some(disk)) = &place {
        let there = disk.path().exists();
        if there && !fix && !pool_place::is_ready(store, name, &place, &record.config)? {
            // As after each boot.
            report.add(
                &check,
                Level::Warning,
                "is not mounted",
                "the next command that changes something on it mounts it",
            );
        }
        if let (true, Disk::Image(image)) = (there, disk) {
            let (is, wanted) = (std::fs::metadata(image)?.len(), keys::SIZE.size(&record.config)?.unwrap_or(0));
            if is < wanted {
                let message = format!("its file is smaller than its size ({is} of {wanted} bytes)");
                report.disagreement(&check, message, fix, || pool_place::grow(store, name));
            }
        }
        if there && !fix {
            return Ok(());
        }
    }
    if let Err(e) = pool_place::ready(store, name, record) {
        report.broken(&check, &e);
        return Ok(());
    }
    let unkept = quota::unkept(store, name)?;
    if !unkept.is_empty() {
        let message = format!("its filesystem doesn't keep the sizes of {}", unkept.join(", "));
        report.add(&check, Level::Warning, message, "mount it with prjquota");
    }
    Ok(())
}

/// Files and folders of pools without a record: what a power cut left.
fn leftovers(store: &Store, fix: bool, report: &mut Report) -> Result<()> {
    let layout = store.layout();
    let mut names: BTreeSet<PoolName> = BTreeSet::new();
    names.extend(entries(&layout.pools_dir()).iter().filter_map(|n| PoolName::parse(n).ok()));
    let images = entries(&layout.disks_dir());
    names.extend(images.iter().filter_map(|n| PoolName::parse(n.strip_suffix(".img")?).ok()));
    for name in names {
        // Its record came or went while we waited for it.
        let Some(_held) = lock(store, &name)? else { continue };
        if !matches!(store.pool(&name), Ok(None)) {
            continue;
        }
        let (folder, image) = (layout.pool_dir(&name), layout.pool_image(&name));
        let found = full(&folder.join("data")) || holds_something(&image);
        let check = format!("pool {name}");
        if found {
            // Instances may be in it: nothing to be thrown away by the way.
            let fix = format!(
                "run: stapes admin recover; if nothing in it is needed: rm -rf {} {}",
                folder.display(),
                image.display()
            );
            report.add(&check, Level::Error, "it has no record, and volumes of it are left", fix);
        } else if name.as_str() != pool::DEFAULT || image.exists() {
            // The first use goes on with an empty folder of its own.
            report.disagreement(&check, "it has no record, and something of it is left", fix, || {
                disk::unmount(&layout.pool_data(&name))?;
                trash::remove(&image)?;
                trash::remove(&folder)
            });
        }
    }
    Ok(())
}

/// Does what bears no record in a pool wait there to be recovered? Then that is told, and nothing of it goes.
pub(super) fn waits(store: &Store, pool: &PoolName, report: &mut Report, (check, message): (&str, &str)) -> bool {
    let marked = |found: Record| keys::RECOVERED.get(&found.config).is_some();
    let waits = store.pool(pool).ok().flatten().is_some_and(marked);
    if waits {
        report.add(check, Level::Error, message, "run: stapes admin recover".to_string());
    }
    waits
}

/// A file has a file system, or volumes.
fn holds_something(image: &Path) -> bool {
    let labelled = [lvm::is_labelled, zfs::is_labelled].into_iter().any(|is| is(image).unwrap_or(false));
    labelled || disk::identity(image).is_ok_and(|id| id.is_some())
}

/// Some volume is in the folder of a pool.
fn full(data: &Path) -> bool {
    !data.is_symlink() && VolumeKind::ALL.into_iter().any(|kind| !entries(&data.join(kind.folder())).is_empty())
}

fn entries(dir: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(dir) else { return Vec::new() };
    entries.flatten().filter_map(|e| e.file_name().into_string().ok()).collect()
}
