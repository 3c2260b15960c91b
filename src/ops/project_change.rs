//! `project create`, `edit`, `set`, `rename` and `delete`. A writer holds the project alone; the default project, whose objects
//! others may use, is held with others, so that nobody who changes those meets a project on its way in or out.

use super::{delete, features, image, profile, project, restrict, volume};
use crate::base::names::ProjectName;
use crate::error::{Error, Result};
use crate::fault;
use crate::model::instance::Config;
use crate::model::keys::project as keys;
use crate::model::project::{Feature, Project};
use crate::model::view::ProjectPut;
use crate::store::Store;
use crate::store::events::{self, Event};
use crate::store::lock::{Exclusive, Held, Key, ProjectKey, Shared};

/// The locks of a change, and the default project's.
struct Locked {
    own: Vec<Held<ProjectKey, Exclusive>>,
    _default: Option<Held<ProjectKey, Shared>>,
}

impl Locked {
    fn of(&self, name: &ProjectName) -> Result<&Held<ProjectKey, Exclusive>> {
        let own = self.own.iter().find(|held| held.key().0 == *name);
        own.ok_or_else(|| Error::internal("A project is not locked"))
    }
}

fn lock(store: &Store, names: &[&ProjectName], verb: &str) -> Result<Locked> {
    let default = ProjectName::default();
    let mut all: Vec<&ProjectName> = names.iter().copied().chain([&default]).collect();
    all.sort_by_cached_key(|p| ProjectKey((*p).clone()).file_key());
    all.dedup();
    let mut locked = Locked { own: Vec::new(), _default: None };
    for project in all {
        match names.contains(&project) {
            true => locked.own.push(store.lock_project_exclusive(project, verb)?),
            false => locked._default = Some(store.lock_project_shared(project)?),
        }
    }
    Ok(locked)
}

fn need(store: &Store, name: &ProjectName) -> Result<Project> {
    store.project(name)?.ok_or_else(|| Error::not_found("Project not found"))
}

/// Nothing is in it but the profile that came with it.
fn is_empty(store: &Store, name: &ProjectName) -> Result<bool> {
    let mut used = project::used_by(store, name)?;
    used.retain(|address| !project::is_first_profile(name, address));
    Ok(used.is_empty())
}

/// Makes a project with a profile `default`.
///
/// # Errors
/// Exists; an option is wrong.
pub fn create(store: &Store, name: &ProjectName, put: &ProjectPut) -> Result<()> {
    let locked = lock(store, &[name], "create")?;
    if store.project(name)?.is_some() {
        return Err(Error::exists(format!("Project \"{name}\" already exists")));
    }
    let mut config = put.config.clone();
    config.retain(|_, value| !value.is_empty());
    keys::check(&config)?;
    keys::check_features(&config)?;
    keys::apply_defaults(&mut config);
    fault::point("project.create")?;
    let project = Project { format: 1, description: put.description.clone(), config };
    store.save_project(locked.of(name)?, &project)?;
    note(store, name, "project-created");
    Ok(())
}

/// Changes a project: `edit` is shown what can be written of it.
///
/// # Errors
/// Not found; what `edit` says; an option is wrong, or what is in the project does not keep to it.
pub fn update(store: &Store, name: &ProjectName, edit: &mut dyn FnMut(&mut ProjectPut) -> Result<()>) -> Result<()> {
    let locked = lock(store, &[name], "update")?;
    let old = need(store, name)?;
    let mut put = ProjectPut { config: old.config.clone(), description: old.description.clone() };
    edit(&mut put)?;
    put.config.retain(|_, value| !value.is_empty());
    keys::check(&put.config)?;
    check_features(store, name, &old.config, &put.config)?;
    let new = Project { format: old.format, description: put.description, config: put.config };
    restrict::check_project(store, name, &old.config, &new)?;
    fault::point("project.update")?;
    store.save_project(locked.of(name)?, &new)?;
    note(store, name, "project-updated");
    Ok(())
}

fn check_features(store: &Store, name: &ProjectName, old: &Config, new: &Config) -> Result<()> {
    if keys::FEATURES.iter().all(|key| key.get(old) == key.get(new)) {
        return Ok(());
    }
    if name.is_default() {
        return Err(Error::invalid("You can't change the features of the default project"));
    }
    keys::check_features(new)?;
    match is_empty(store, name)? {
        true => Ok(()),
        false => Err(Error::conflict("Features can only be changed on empty projects")),
    }
}

/// Gives an empty project another name.
///
/// # Errors
/// Denied: the default project. Not found; Exists; Conflict: something is in it.
pub fn rename(store: &Store, from: &ProjectName, to: &ProjectName) -> Result<()> {
    if from.is_default() {
        return Err(Error::denied("The 'default' project cannot be renamed"));
    }
    let locked = match from == to {
        true => return Err(Error::exists(format!("A project named {:?} already exists", to.as_str()))),
        false => lock(store, &[from, to], "rename")?,
    };
    need(store, from)?;
    if store.project(to)?.is_some() {
        return Err(Error::exists(format!("A project named {:?} already exists", to.as_str())));
    }
    if !is_empty(store, from)? {
        return Err(Error::conflict("Only empty projects can be renamed"));
    }
    fault::point("project.rename")?;
    store.rename_project(locked.of(from)?, locked.of(to)?)?;
    note(store, to, "project-renamed");
    Ok(())
}

/// Deletes a project; with `force` what is in it first, one thing after the other.
///
/// # Errors
/// Denied: the default project. Not found; Conflict: something is in it.
pub fn delete(store: &Store, name: &ProjectName, force: bool) -> Result<()> {
    if name.is_default() {
        return Err(Error::denied("The 'default' project cannot be deleted"));
    }
    need(store, name)?;
    if force {
        clear(store, name)?;
    }
    let locked = lock(store, &[name], "delete")?;
    need(store, name)?;
    if !is_empty(store, name)? {
        return Err(Error::conflict("Only empty projects can be removed"));
    }
    fault::point("project.delete")?;
    store.delete_project(locked.of(name)?)?;
    note(store, name, "project-deleted");
    Ok(())
}

/// Deletes all that is in a project.
fn clear(store: &Store, name: &ProjectName) -> Result<()> {
    for instance in store.instance_names(name)? {
        delete::delete(store, name, &instance, true)?;
    }
    for (owner, pool) in store.volume_places()?.into_iter().filter(|(owner, _)| owner == name) {
        for (one, _) in store.volumes(&owner, &pool)? {
            let of = volume::Of { project: name, pool: &pool, name: &one };
            volume::change::forget(store, of)?;
        }
    }
    let before = store.use_images_of(name.clone());
    let deleted = store.images().and_then(|all| all.iter().try_for_each(|(one, _)| image::delete(store, one)));
    store.use_images_of(before);
    deleted?;
    if features::owner(store, name, Feature::Profiles)? == *name {
        for (one, _) in store.profiles(name)?.into_iter().filter(|(one, _)| one.as_str() != "default") {
            profile::delete(store, name, &one)?;
        }
    }
    Ok(())
}

fn note(store: &Store, name: &ProjectName, action: &str) {
    let event = Event::lifecycle(action, &format!("/1.0/projects/{name}"), name, serde_json::Value::Null);
    let _ = events::append(store, &event);
}
