//! `storage list`, `show` and `info`: pools as users see them, who uses them, how full they are.

use super::pool_place::{self, Place};
use super::{load, pool, profile};
use crate::base::names::{PoolName, ProjectName};
use crate::error::{Context, Error, Result};
use crate::model::instance::Config;
use crate::model::keys::pool as keys;
use crate::model::pool::Pool;
use crate::model::restrict;
use crate::model::view::{Amount, PoolResources, PoolView, url};
use crate::storage::Space;
use crate::storage::lvm::Settings;
use crate::store::Store;
use std::collections::BTreeMap;

/// Addresses of what uses each pool.
type Users = BTreeMap<PoolName, Vec<String>>;

/// What the records say: instances, profiles and custom volumes.
fn recorded(store: &Store) -> Result<Users> {
    let mut all = Users::new();
    let mut add = |pool: PoolName, address: String| all.entry(pool).or_default().push(address);
    for (project, _) in store.projects()? {
        for name in store.instance_names(&project)? {
            // One that is damaged says nothing of its pool.
            if let Ok(pool) = load::load(store, &project, &name).and_then(|l| l.pool()) {
                add(pool, url::instance(&project, &name));
            }
        }
        for (name, found) in store.profiles(&project)? {
            let Ok(found) = found else { continue };
            profile::pools_of(&found.devices).into_iter().for_each(|p| add(p, url::profile(&project, &name)));
        }
    }
    for (project, pool) in store.volume_places()? {
        for (name, _) in store.volumes(&project, &pool)? {
            add(pool.clone(), url::volume(&project, &pool, &name));
        }
    }
    Ok(all)
}

fn users(store: &Store) -> Result<Users> {
    let mut all = recorded(store)?;
    for (name, _) in store.pools()? {
        let images = pool::open(store, &name).ok().flatten().and_then(|d| d.images().ok()).unwrap_or_default();
        let addresses = images.iter().map(|image| url::image(&ProjectName::default(), image));
        all.entry(name).or_default().extend(addresses);
    }
    Ok(all)
}

/// Who keeps a pool from being deleted, in words.
///
/// # Errors
/// The state folder cannot be read.
pub fn holders(store: &Store, name: &PoolName) -> Result<Vec<String>> {
    let addresses = recorded(store)?.remove(name).unwrap_or_default();
    let kinds = by_kind(&addresses);
    Ok(kinds
        .iter()
        .flat_map(|(kind, names)| names.iter().map(|n| format!("{} {n}", kind.trim_end_matches('s'))))
        .collect())
}

/// The configuration as it is shown: with where the pool is.
pub fn config(store: &Store, name: &PoolName, pool: &Pool) -> Config {
    let mut config = pool.config.clone();
    let place = Place::of_pool(store.layout(), name, pool).source(store.layout(), name);
    keys::SOURCE.set(&mut config, place.display().to_string());
    config
}

fn view(store: &Store, name: &PoolName, pool: &Pool, used_by: Vec<String>) -> PoolView {
    let available = pool::open(store, name).is_ok_and(|d| d.is_some());
    let mut view = PoolView::new(name, pool, used_by, available);
    view.put.config = config(store, name, pool);
    view
}

/// All pools that those who work in a project see; one whose record is damaged has what is wrong in its description and the status `Unavailable`.
///
/// # Errors
/// The state folder cannot be read.
pub fn list(store: &Store, project: &ProjectName) -> Result<Vec<PoolView>> {
    let limits = store.project(project).ok().flatten().map(|found| found.config).unwrap_or_default();
    let mut users = users(store)?;
    let one = |(name, found): (PoolName, Result<Pool>)| {
        let used_by = users.remove(&name).unwrap_or_default();
        match found {
            Ok(pool) => view(store, &name, &pool, used_by),
            Err(e) => {
                let description = format!("ERROR: {e}");
                let pool = Pool { format: 1, driver: String::new(), description, config: BTreeMap::new() };
                PoolView::new(&name, &pool, used_by, false)
            }
        }
    };
    let seen = |(name, _): &(PoolName, _)| restrict::sees_pool(&limits, name.as_str());
    Ok(store.pools()?.into_iter().filter(seen).map(one).collect())
}

/// The source of a pool.
pub fn source(view: &PoolView) -> &str {
    keys::SOURCE.text(&view.put.config)
}

/// One pool.
///
/// # Errors
/// Not found; its record is damaged.
pub fn show(store: &Store, name: &PoolName) -> Result<PoolView> {
    let pool = store.pool(name)?.ok_or_else(|| Error::not_found("Storage pool not found"))?;
    Ok(view(store, name, &pool, users(store)?.remove(name).unwrap_or_default()))
}

/// How full the file system below a pool is (statvfs(3)).
///
/// # Errors
/// Not found; it cannot be asked.
pub fn resources(store: &Store, name: &PoolName) -> Result<PoolResources> {
    let pool = store.pool(name)?.ok_or_else(|| Error::not_found("Storage pool not found"))?;
    let data = pool_place::ready(store, name, &pool)?;
    let own = match Place::of_pool(store.layout(), name, &pool) {
        Place::Group(group, _) => Some(group.space(&Settings::of(&pool.config)?)?),
        Place::Zfs(root, _) => Some(root.space()?),
        _ => None,
    };
    if let Some(Space { used, total }) = own {
        return Ok(PoolResources { space: Amount { used, total }, inodes: Amount { used: 0, total: 0 } });
    }
    let stat = rustix::fs::statvfs(&data).map_err(std::io::Error::from);
    let stat = stat.with_context(|| format!("Failed getting the resources of storage pool \"{name}\""))?;
    let bytes = |blocks: u64| blocks.saturating_mul(stat.f_frsize);
    Ok(PoolResources {
        space: Amount { used: bytes(stat.f_blocks.saturating_sub(stat.f_bfree)), total: bytes(stat.f_blocks) },
        inodes: Amount { used: stat.f_files.saturating_sub(stat.f_ffree), total: stat.f_files },
    })
}

/// The users of a pool by kind (`instances`, `profiles`, `images`, …), as `storage info` shows them.
pub fn users_by_kind(view: &PoolView) -> BTreeMap<String, Vec<String>> {
    by_kind(&view.used_by)
}

fn by_kind(addresses: &[String]) -> BTreeMap<String, Vec<String>> {
    let mut all: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for address in addresses {
        let (path, query) = address.split_once('?').unwrap_or((address, ""));
        let parts: Vec<&str> = path.trim_start_matches("/1.0/").split('/').collect();
        let (kind, name) = match parts[..] {
            ["storage-pools", _, kind, _, name] => (kind, name),
            [kind, name, ..] => (kind, name),
            _ => continue,
        };
        let name = match query.strip_prefix("project=") {
            Some(project) => format!("{name} (project {project:?})"),
            None => name.to_string(),
        };
        all.entry(kind.to_string()).or_default().push(name);
    }
    all
}
