//! Image records, the files they came in, and what is unpacked in the pools.

use super::Report;
use crate::base::names::{Fingerprint, PoolName};
use crate::error::{Kind, Result};
use crate::ops::pool;
use crate::storage::{Driver, ImageFate, Staging};
use crate::store::Store;
use crate::store::lock::{Exclusive, Held, ImageKey};
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

pub(super) fn check(store: &Store, fix: bool, report: &mut Report) -> Result<()> {
    let mut known = BTreeSet::new();
    for project in store.image_projects()? {
        let own = store.use_images_of(project);
        let checked = records(store, fix, report);
        store.use_images_of(own);
        known.append(&mut checked?);
    }
    stray_files(store, &known, fix, report)?;
    arrivals(store, fix, report)?;
    for (name, _) in store.pools()? {
        if let Ok(Some(driver)) = pool::open(store, &name) {
            unpacked(store, &name, driver.as_ref(), (&known, fix), report)?;
            trash(store, driver.as_ref(), fix, report)?;
        }
    }
    Ok(())
}

/// The images of one project.
fn records(store: &Store, fix: bool, report: &mut Report) -> Result<BTreeSet<String>> {
    let mut known = BTreeSet::new();
    for (fingerprint, record) in store.images()? {
        known.insert(fingerprint.as_str().to_string());
        match record {
            Err(e) => report.broken(&format!("image {fingerprint}"), &e),
            Ok(image) => files(store, &fingerprint, image.split, report),
        }
    }
    aliases(store, &known, fix, report)?;
    Ok(known)
}

fn files(store: &Store, fingerprint: &Fingerprint, split: bool, report: &mut Report) {
    let layout = store.layout();
    let mut wanted = vec![layout.image_file(fingerprint)];
    if split {
        wanted.push(layout.image_rootfs_file(fingerprint));
    }
    for path in wanted.into_iter().filter(|p| !p.is_file()) {
        let e = crate::error::Error::failed(format!("\"{}\" is missing", path.display()))
            .hint(format!("delete the image and import it again: stapes image delete {}", fingerprint.short()));
        report.broken(&format!("image {}", fingerprint.short()), &e);
    }
}

/// Files without a record: what a killed import left and no journal knows of any more.
fn stray_files(store: &Store, known: &BTreeSet<String>, fix: bool, report: &mut Report) -> Result<()> {
    let Ok(entries) = std::fs::read_dir(store.layout().images_dir()) else { return Ok(()) };
    for entry in entries.flatten() {
        let Ok(name) = entry.file_name().into_string() else { continue };
        let stem = name.trim_end_matches(".rootfs");
        let Ok(fingerprint) = Fingerprint::parse(stem) else { continue };
        if known.contains(stem) {
            continue;
        }
        let key = ImageKey(fingerprint.clone());
        let lock: Result<Held<ImageKey, Exclusive>> = store.lock_within(key, "doctor", Duration::ZERO);
        let Some(_lock) = unless_busy(lock)? else { continue };
        if !store.image_owners(&fingerprint)?.is_empty() {
            continue;
        }
        let path: PathBuf = entry.path();
        report.disagreement("images", format!("\"{}\" has no record", path.display()), fix, || {
            Ok(std::fs::remove_file(&path)?)
        });
    }
    Ok(())
}

/// What lies under the random name of an image on its way in. As long as there is a journal, it is somebody's; without one a power
/// cut took it.
fn arrivals(store: &Store, fix: bool, report: &mut Report) -> Result<()> {
    let mut found: Vec<(String, Place)> = Vec::new();
    for entry in std::fs::read_dir(store.layout().images_dir()).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let id = name.strip_prefix(".new-").map(|rest| rest.trim_end_matches(".rootfs").to_string());
        if let Some(id) = id.filter(|id| Staging::parse(id).is_ok()) {
            found.push((id, Place::File(entry.path())));
        }
    }
    for (name, _) in store.pools()? {
        if let Ok(Some(driver)) = pool::open(store, &name) {
            let staged = driver.staged_images()?;
            found.extend(staged.into_iter().map(|s| (s.as_str().to_string(), Place::Pool(name.clone(), s))));
        }
    }
    if found.is_empty() {
        return Ok(());
    }
    // Asked after the looking: an import that began since has its journal.
    let journals: Vec<_> = store.operations()?.into_iter().chain(store.failed_journals()?).collect();
    let targets: BTreeSet<&str> =
        journals.iter().filter_map(|(_, h)| h.as_ref()).flat_map(|h| h.targets.iter().map(String::as_str)).collect();
    found.retain(|(id, place)| !targets.contains(format!("import {id}").as_str()) && place.is_there(store));
    for (id, place) in found {
        report.disagreement("images", format!("the unfinished image {id} belongs to no import"), fix, || {
            place.remove(store)
        });
    }
    Ok(())
}

/// A part of an image on its way in.
enum Place {
    File(PathBuf),
    Pool(PoolName, Staging),
}

impl Place {
    fn is_there(&self, store: &Store) -> bool {
        match self {
            Self::File(path) => path.exists(),
            Self::Pool(pool, staging) => {
                let staged = pool::open(store, pool).ok().flatten().and_then(|d| d.staged_images().ok());
                staged.is_some_and(|all| all.contains(staging))
            }
        }
    }

    fn remove(&self, store: &Store) -> Result<()> {
        match self {
            Self::File(path) => Ok(std::fs::remove_file(path)?),
            Self::Pool(pool, staging) => {
                let driver = pool::need(store, pool)?;
                driver.abort_image(staging)?.map_or(Ok(()), |trash| driver.empty(&trash))
            }
        }
    }
}

fn aliases(store: &Store, known: &BTreeSet<String>, fix: bool, report: &mut Report) -> Result<()> {
    let all = match store.aliases() {
        Ok(all) => all,
        Err(e) => {
            report.broken("image aliases", &e);
            return Ok(());
        }
    };
    for (name, alias) in all.aliases.iter().filter(|(_, a)| !known.contains(&a.target)) {
        report.disagreement("image aliases", format!("\"{name}\" names no image ({})", alias.target), fix, || {
            store.update_aliases(|a| {
                a.aliases.remove(name);
                Ok(())
            })
        });
    }
    Ok(())
}

/// An unpacked image without a record is in order as long as instances use it.
fn unpacked(
    store: &Store,
    pool: &PoolName,
    driver: &dyn Driver,
    (known, fix): (&BTreeSet<String>, bool),
    report: &mut Report,
) -> Result<()> {
    let whole = driver.images()?;
    for fingerprint in whole.iter().cloned().chain(driver.image_remains()?) {
        if known.contains(fingerprint.as_str()) {
            continue;
        }
        let Some(_lock) = unless_busy(store.lock_image(&fingerprint, "doctor"))? else { continue };
        if !store.image_owners(&fingerprint)?.is_empty() || in_use(driver, &fingerprint)? {
            continue;
        }
        let what = if whole.contains(&fingerprint) { "image" } else { "what is left of image" };
        let message = format!("{what} {} in pool \"{pool}\" has no record and no user", fingerprint.short());
        report.disagreement("images", message, fix, || match driver.delete_image(&fingerprint)? {
            ImageFate::Gone(Some(trash)) => driver.empty(&trash),
            _ => Ok(()),
        });
    }
    Ok(())
}

fn in_use(driver: &dyn Driver, image: &Fingerprint) -> Result<bool> {
    Ok(!driver.image_users(image)?.is_empty())
}

/// What lies in the trash is somebody's as long as there is a journal: whoever deletes frees it before they end theirs.
fn trash(store: &Store, driver: &dyn Driver, fix: bool, report: &mut Report) -> Result<()> {
    let mut left = driver.trash()?;
    if left.is_empty() || !store.operations()?.is_empty() {
        return Ok(());
    }
    // Asked after the looking: what was being freed then is gone now.
    let now = driver.trash()?;
    left.retain(|t| now.contains(t));
    if !left.is_empty() {
        let message = format!("{} deleted objects wait to be freed", left.len());
        report.disagreement("trash", message, fix, || left.iter().try_for_each(|t| driver.empty(t)));
    }
    Ok(())
}

/// None if somebody works on it.
pub(super) fn unless_busy<T>(lock: Result<T>) -> Result<Option<T>> {
    match lock {
        Err(e) if e.kind() == Kind::Busy => Ok(None),
        other => other.map(Some),
    }
}
