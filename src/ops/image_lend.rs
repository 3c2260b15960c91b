//! Images that one project has, for another one: it gets a record of its own, the files stay the ones there are.
//!
//! Called before anything is fetched or built for a project, and by `image copy --target-project`.

use super::features;
use super::image::{self, not_found};
use super::image_import::{self, Wanted, settle};
use super::image_remote::Copy;
use crate::base::names::{AliasName, Fingerprint, ProjectName};
use crate::base::time;
use crate::error::{Error, Result};
use crate::model::image::Image;
use crate::model::instance::InstanceType;
use crate::store::Store;

/// Gives the project that `store` is about an image that another one has; `false`: none has it.
///
/// # Errors
/// Exists: this project has it; the records cannot be written.
pub(super) fn lend(store: &Store, fingerprint: &Fingerprint, wanted: &Wanted) -> Result<bool> {
    let held = store.lock_image(fingerprint, "import")?;
    if store.image(fingerprint)?.is_some() {
        return Err(Error::exists("Image with same fingerprint already exists"));
    }
    let Some(other) = store.image_elsewhere(fingerprint)? else { return Ok(false) };
    let mut properties = other.properties;
    properties.extend(wanted.properties.clone());
    let record = Image {
        public: wanted.public,
        cached: wanted.cached,
        auto_update: wanted.auto_update,
        uploaded_at: time::now(),
        expires_at: other.expires_at.or(wanted.expires_at),
        last_used_at: wanted.cached.then(time::now),
        source: wanted.source.clone(),
        profiles: wanted.profiles.clone().unwrap_or_else(|| vec!["default".to_string()]),
        properties,
        ..other
    };
    settle(store, &held, None, &record, &wanted.aliases)?;
    Ok(true)
}

/// [`lend`] of what another project has of an alias of a remote.
pub(super) fn of_source(
    store: &Store,
    source: (&str, &str),
    alias: &str,
    wanted: &Wanted,
) -> Result<Option<Fingerprint>> {
    for other in store.image_projects()? {
        let own = store.use_images_of(other);
        let found = image::cached(store, source, alias, InstanceType::Container);
        store.use_images_of(own);
        if let Some(found) = found?
            && lend(store, &found, wanted)?
        {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

/// Copies an image of the project that `store` is about into the images of another one, to stay.
///
/// # Errors
/// NotFound: the image, the project; Exists: it is there, or it is the same project.
pub fn copy(store: &Store, to: &ProjectName, request: &Copy) -> Result<Fingerprint> {
    let found = image::find(store, &request.name)?;
    let image = store.image(&found)?.ok_or_else(|| not_found(&request.name))?;
    let mut aliases = request.aliases.clone();
    if request.copy_aliases {
        let all = store.aliases()?.aliases;
        let own = all.iter().filter(|(_, a)| a.target == *found);
        aliases.extend(own.filter_map(|(name, _)| AliasName::parse(name).ok()));
    }
    if store.project(to)?.is_none() {
        return Err(Error::not_found("Project not found"));
    }
    features::images(store, to);
    let replaced = if request.reuse { image::superseded(store, &aliases)? } else { Vec::new() };
    let wanted = Wanted {
        aliases,
        public: request.public,
        source: image.source.filter(|_| request.auto_update),
        auto_update: request.auto_update,
        profiles: request.profiles.clone(),
        ..Wanted::default()
    };
    if !lend(store, &found, &wanted)? {
        return Err(not_found(&request.name));
    }
    image_import::delete_others(store, &replaced, &found)?;
    Ok(found)
}
