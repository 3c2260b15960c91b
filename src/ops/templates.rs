//! Generates the files that an instance's image asks for when the instance starts: `create`, `copy` or `rename` once after
//! that, `start` each time. They are rendered here, before anything runs, travel in the plan, and are written by the monitor
//! through the root mount it makes anyway.

use super::load::Loaded;
use crate::base::idmap::{Entry, IdMap, Kind};
use crate::container::plan::{File, Plan};
use crate::error::{Context, Error, Result};
use crate::guest::{self, templates};
use crate::image::metadata;
use crate::model::keys;
use crate::storage::Driver;
use crate::sys::path::{self, Links, Owner};
use rustix::fs::OFlags;
use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

/// The trigger of every start.
const START: &str = "start";

/// The files that are due.
///
/// # Errors
/// A template that cannot be rendered: the instance does not start then.
pub fn due(driver: &dyn Driver, loaded: &Loaded, privileged: bool) -> Result<Vec<File>> {
    let home = path::open_root(&driver.metadata(&loaded.volume()?)?)?;
    let flags = OFlags::PATH | OFlags::DIRECTORY;
    let sources = match path::open(home.as_fd(), Path::new("templates"), flags, 0, Links::Refuse) {
        Err(e) if e.errno() == Some(libc::ENOENT) => return Ok(Vec::new()),
        other => other.context("Failed opening the image's templates")?,
    };
    let metadata = metadata::read(home.as_fd()).context("Failed reading the image's metadata")?;
    let once = keys::VOLATILE_APPLY_TEMPLATE.get(&loaded.volatile.config);
    let instance = facts(loaded, privileged);
    let mut files = Vec::new();
    for trigger in once.into_iter().chain([START]) {
        for (path, template) in metadata.templates.iter().filter(|(_, t)| t.when.iter().any(|w| w == trigger)) {
            let wanted = templates::Template {
                path: path.clone(),
                source: template.template.clone(),
                create_only: template.create_only,
                properties: template.properties.clone(),
                owner: templates::owner(&template.uid, &template.gid, &template.mode)?,
            };
            let (config, devices) = (&loaded.expanded.config, &loaded.expanded.devices);
            let scope = templates::Scope { trigger, instance: &instance, config, devices };
            let text = templates::text(sources.as_fd(), &wanted, &scope)?;
            let Owner { uid, gid, mode } = wanted.owner;
            files.push(File { path: wanted.path, text, create_only: wanted.create_only, uid, gid, mode });
        }
    }
    Ok(files)
}

/// Writes the plan's files into the root behind `root`, the mount that the container gets.
///
/// # Errors
/// A file that cannot be written: the instance does not start then.
pub fn write(plan: &Plan, root: BorrowedFd<'_>) -> Result<()> {
    let ids = if plan.privileged { IdMap::default() } else { ids(plan)? };
    // Host ids show on it, whether by an id-mapped mount or because the files were shifted.
    let root = guest::Root { fd: root, ids: &ids };
    for file in &plan.files {
        let owner = Owner { uid: file.uid, gid: file.gid, mode: file.mode };
        let rendered = templates::Rendered { path: &file.path, text: &file.text, create_only: file.create_only, owner };
        templates::write(&root, &rendered)?;
    }
    Ok(())
}

/// The id map of a plan.
fn ids(plan: &Plan) -> Result<IdMap> {
    let linux = plan.spec.linux().as_ref().ok_or_else(|| Error::internal("The plan has no id map"))?;
    let mut map = IdMap::default();
    for (kind, mappings) in [(Kind::Uid, linux.uid_mappings()), (Kind::Gid, linux.gid_mappings())] {
        for m in mappings.iter().flatten() {
            map.insert(Entry { kind, host: m.host_id(), ns: m.container_id(), range: m.size() })?;
        }
    }
    Ok(map)
}

/// What templates may know of the instance.
fn facts(loaded: &Loaded, privileged: bool) -> BTreeMap<String, String> {
    let instance = &loaded.instance;
    let pairs = [
        ("name", loaded.name.to_string()),
        ("type", instance.kind.as_str().to_string()),
        ("architecture", instance.architecture.clone()),
        ("ephemeral", instance.ephemeral.to_string()),
        ("privileged", privileged.to_string()),
    ];
    pairs.into_iter().map(|(k, v)| (k.to_string(), v)).collect()
}
