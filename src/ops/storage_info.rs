//! `storage list`, `show` and `info`: pools as users see them, who uses them, how full they are.

use super::{load, pool, profile};
use crate::base::names::{PoolName, ProjectName};
use crate::error::{Context, Error, Result};
use crate::model::pool::Pool;
use crate::model::view::{Amount, PoolResources, PoolView, url};
use crate::store::Store;
use std::collections::BTreeMap;

/// Configuration key of a pool: where it is.
const SOURCE: &str = "source";

/// Addresses of what uses each pool.
type Users = BTreeMap<PoolName, Vec<String>>;

fn users(store: &Store) -> Result<Users> {
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
    for (name, _) in store.pools()? {
        let images = pool::open(store, &name).ok().flatten().and_then(|d| d.images().ok()).unwrap_or_default();
        images.iter().for_each(|image| add(name.clone(), url::image(&ProjectName::default(), image)));
    }
    Ok(all)
}

fn view(store: &Store, name: &PoolName, pool: &Pool, used_by: Vec<String>) -> PoolView {
    let available = pool::open(store, name).is_ok_and(|d| d.is_some());
    let mut view = PoolView::new(name, pool, used_by, available);
    let place = || store.layout().pool_data(name).display().to_string();
    view.put.config.entry(SOURCE.to_string()).or_insert_with(place);
    view
}

/// All pools; one whose record is damaged has what is wrong in its description and the status `Unavailable`.
///
/// # Errors
/// The state folder cannot be read.
pub fn list(store: &Store) -> Result<Vec<PoolView>> {
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
    Ok(store.pools()?.into_iter().map(one).collect())
}

/// The source of a pool.
pub fn source(view: &PoolView) -> &str {
    view.put.config.get(SOURCE).map(String::as_str).unwrap_or_default()
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
    store.pool(name)?.ok_or_else(|| Error::not_found("Storage pool not found"))?;
    let data = store.layout().pool_data(name);
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
    let mut all: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for address in &view.used_by {
        let (path, query) = address.split_once('?').unwrap_or((address, ""));
        let mut parts = path.trim_start_matches("/1.0/").split('/');
        let (Some(kind), Some(name)) = (parts.next(), parts.next()) else { continue };
        let name = match query.strip_prefix("project=") {
            Some(project) => format!("{name} (project {project:?})"),
            None => name.to_string(),
        };
        all.entry(kind.to_string()).or_default().push(name);
    }
    all
}
