//! Which project's objects the instances of a project use: its own where it has that feature, else the default project's.

use crate::base::names::ProjectName;
use crate::error::Result;
use crate::model::project::Feature;
use crate::store::Store;
use crate::store::lock::{Exclusive, Held, ProjectKey};

/// The project whose objects of this sort `project` uses.
///
/// # Errors
/// Its record is damaged.
pub fn owner(store: &Store, project: &ProjectName, feature: Feature) -> Result<ProjectName> {
    // It has all features; its record need not be read on the way to every instance.
    let own = project.is_default() || store.project(project)?.is_some_and(|p| p.has(feature));
    Ok(if own { project.clone() } else { ProjectName::default() })
}

/// Has `store` be about the images that `project` uses.
pub fn images(store: &Store, project: &ProjectName) {
    // Who works in a project that is not there is told so.
    if let Ok(owner) = owner(store, project, Feature::Images) {
        store.use_images_of(owner);
    }
}

/// The projects that use the objects of `owner`, sorted by name.
///
/// # Errors
/// The state folder cannot be read.
pub fn sharing(store: &Store, owner: &ProjectName, feature: Feature) -> Result<Vec<ProjectName>> {
    let mut all = Vec::new();
    for (project, _) in store.projects()? {
        // One whose record is damaged has no commands.
        if self::owner(store, &project, feature).is_ok_and(|p| p == *owner) {
            all.push(project);
        }
    }
    all.sort();
    Ok(all)
}

/// All projects that use the objects of `owner`, alone: none of their instances starts or changes meanwhile.
///
/// # Errors
/// Busy. Not found: `owner` has gone.
pub fn lock_sharing(
    store: &Store,
    owner: &ProjectName,
    feature: Feature,
    verb: &str,
) -> Result<Vec<Held<ProjectKey, Exclusive>>> {
    loop {
        let all = sharing(store, owner, feature)?;
        let lock = |p| store.lock_project_exclusive(p, verb);
        let held = all.iter().map(lock).collect::<Result<Vec<_>>>()?;
        // Made, or given another feature, while we waited for the others.
        if sharing(store, owner, feature)? == all {
            return Ok(held);
        }
    }
}
