//! Images: found by name, shown, changed, deleted. How they come in is `image_import`, how they go out `image_export`, their aliases
//! `image_alias`.
//!
//! Readers take no lock; a change takes the image's. Names of images are aliases, fingerprints or unique beginnings of those.

pub use super::image_import::ensure_unpacked;

use super::image_import::{self, BOOTSTRAP};
use super::image_oci;
use super::image_remote::{self, Place};
use super::{features, pool};
use crate::base::names::{AliasName, Fingerprint, PoolName, ProfileName, ProjectName};
use crate::base::time;
use crate::error::{Error, Result};
use crate::fault;
use crate::host::command::Runner;
use crate::image::OnProgress;
use crate::model::image::{Alias, Aliases, Image, ImageSource};
use crate::model::instance::InstanceType;
use crate::model::project::Feature;
use crate::model::remote::{OCI, SIMPLESTREAMS};
use crate::model::view::{ImageParts, ImageView};
use crate::store::journal::Journal;
use crate::store::lock::{Held, ImageKey, PoolKey, Shared};
use crate::store::{Action, Store, events};
use std::collections::BTreeMap;
use std::time::Duration;

/// How stale an image's date of last use may be, seconds: writing it costs a sync, and it only serves expiry after days.
const LAST_USED_STEP: i64 = 24 * 3600;

/// Incus's words, with the name.
pub(super) fn not_found(name: &str) -> Error {
    Error::not_found(format!("Image \"{name}\" not found"))
}

/// A virtual machine image where an instance is to be made of it.
pub(super) fn no_container() -> Error {
    Error::unsupported("Virtual machines are not supported by this version")
}

/// The image a command names: this host finds it ([`find`]), `bootstrap` finds it among those built earlier or builds it with
/// `tools`, a server's is taken of those fetched earlier or is fetched. To be called for launches: the date of last use is kept.
///
/// # Errors
/// NotFound; as [`image_import::cached_or_built`].
pub fn resolve(
    store: &Store,
    tools: &dyn Runner,
    place: &Place,
    name: &str,
    on_progress: OnProgress<'_>,
) -> Result<Fingerprint> {
    let found = match place {
        Place::Local => find(store, name)?,
        Place::Bootstrap => image_import::cached_or_built(store, tools, name, on_progress)?,
        Place::Server(server) => image_remote::cached_or_fetched(store, server, name, on_progress)?,
        Place::Registry(registry) => image_oci::cached_or_fetched(store, registry, name, on_progress)?,
    };
    used(store, &found)?;
    Ok(found)
}

/// An image of the local store by alias, fingerprint or the unique beginning of one. Its record is not read: it may be damaged.
///
/// # Errors
/// NotFound: `Image "x" not found`; Invalid: `More than one image matches`.
pub fn find(store: &Store, name: &str) -> Result<Fingerprint> {
    let name = if name.is_empty() { "default" } else { name };
    if let Some(alias) = store.aliases()?.aliases.get(name) {
        return Fingerprint::parse(&alias.target);
    }
    if !Fingerprint::is_prefix(name) {
        return Err(not_found(name));
    }
    let mut matching = store.images_by_prefix(name)?.into_iter();
    match (matching.next(), matching.next()) {
        (Some(one), None) => Ok(one),
        (None, _) => Err(not_found(name)),
        (Some(_), Some(_)) => Err(Error::invalid("More than one image matches")),
    }
}

/// An image that is here already, by its name at `place`; `vm`: a virtual machine's. One name of a server may stand for both.
///
/// # Errors
/// As [`find`].
pub fn find_on(store: &Store, place: &Place, name: &str, vm: bool) -> Result<Fingerprint> {
    let kind = if vm { InstanceType::VirtualMachine } else { InstanceType::Container };
    match place {
        // Here a name stands for one.
        Place::Local => {
            let found = find(store, name)?;
            let other = vm && store.image(&found)?.is_some_and(|image| image.kind != kind);
            return if other { Err(not_found(name)) } else { Ok(found) };
        }
        Place::Bootstrap => {}
        Place::Server(server) => {
            let option = if vm { " --vm" } else { "" };
            let hint = format!("copy it first: stapes image copy {0}:{name} local:{option}", server.name);
            return cached(store, (SIMPLESTREAMS, &server.addr), name, kind)?.ok_or_else(|| not_found(name).hint(hint));
        }
        Place::Registry(registry) => {
            let hint = format!("copy it first: stapes image copy {0}:{name} local:", registry.name);
            return cached(store, (OCI, &registry.addr), name, kind)?.ok_or_else(|| not_found(name).hint(hint));
        }
    }
    let alias = crate::image::bootstrap::parse(name)?.alias();
    let hint = format!("it is built when it is first used: stapes launch {BOOTSTRAP}:{alias}");
    cached(store, (BOOTSTRAP, BOOTSTRAP), &alias, kind)?
        .ok_or_else(|| not_found(&format!("{BOOTSTRAP}:{alias}")).hint(hint))
}

/// The image that came from `alias` of a remote, the newest if there are several.
pub(super) fn cached(
    store: &Store,
    (protocol, server): (&str, &str),
    alias: &str,
    kind: InstanceType,
) -> Result<Option<Fingerprint>> {
    let from = |s: &ImageSource| s.protocol == protocol && s.server == server && s.alias == alias;
    let is_it = |image: &Image| image.kind == kind && image.source.as_ref().is_some_and(from);
    let all = store.images()?.into_iter().filter_map(|(f, image)| Some((image.ok()?, f)));
    Ok(all.filter(|(image, _)| is_it(image)).max_by_key(|(image, _)| image.uploaded_at).map(|(_, f)| f))
}

/// Notes that the image is used now, if that was noted long ago and nobody is at it.
pub(super) fn used(store: &Store, fingerprint: &Fingerprint) -> Result<()> {
    let now = time::now();
    let stale = |image: &Image| image.last_used_at.is_none_or(|at| now.as_second() - at.as_second() > LAST_USED_STEP);
    if !store.image(fingerprint)?.is_some_and(|image| stale(&image)) {
        return Ok(());
    }
    let Ok(held) = store.lock_within(ImageKey(fingerprint.clone()), "update", Duration::ZERO) else { return Ok(()) };
    match store.image(fingerprint)? {
        Some(image) if stale(&image) => store.save_image(&held, &Image { last_used_at: Some(now), ..image }),
        _ => Ok(()),
    }
}

/// An image as Incus's API shows it.
///
/// # Errors
/// NotFound; the record is damaged.
pub fn view(store: &Store, fingerprint: &Fingerprint) -> Result<ImageView> {
    let image = store.image(fingerprint)?.ok_or_else(|| not_found(fingerprint))?;
    Ok(view_of(&store.image_project(), fingerprint, &image, &store.aliases()?))
}

/// All images, and what is wrong with those whose record cannot be read.
///
/// # Errors
/// The folder or the aliases cannot be read.
pub fn views(store: &Store) -> Result<Vec<(Fingerprint, Result<ImageView>)>> {
    let (project, aliases) = (store.image_project(), store.aliases()?);
    let images = store.images()?.into_iter();
    Ok(images
        .map(|(f, image)| {
            let view = image.map(|i| view_of(&project, &f, &i, &aliases));
            (f, view)
        })
        .collect())
}

/// The images of a remote, by fingerprint or alias: those there are, or for `bootstrap` those that can be.
///
/// # Errors
/// As [`views`]; the server does not answer.
pub fn on_remote(store: &Store, place: &Place) -> Result<Vec<(String, Result<ImageView>)>> {
    match place {
        Place::Local => Ok(views(store)?.into_iter().map(|(f, view)| (f.to_string(), view)).collect()),
        Place::Bootstrap => image_import::offered(store),
        Place::Server(server) => {
            let views = image_remote::views(server)?.into_iter();
            Ok(views.map(|view| (view.fingerprint.clone(), Ok(view))).collect())
        }
        Place::Registry(_) => Err(Error::unsupported("Can't list images from OCI registry")),
    }
}

fn view_of(project: &ProjectName, fingerprint: &Fingerprint, image: &Image, aliases: &Aliases) -> ImageView {
    let own: Vec<(&str, &Alias)> =
        aliases.aliases.iter().filter(|(_, a)| a.target == **fingerprint).map(|(n, a)| (n.as_str(), a)).collect();
    ImageView::new(ImageParts { project, fingerprint, image, aliases: &own })
}

/// What of an image can be changed.
#[derive(Debug, Clone, Default)]
pub struct Change {
    /// Follow the remote alias.
    pub auto_update: bool,
    /// Properties.
    pub properties: BTreeMap<String, String>,
    /// Readable by everyone on a server.
    pub public: bool,
    /// Expiry; none keeps it.
    pub expires_at: Option<jiff::Timestamp>,
    /// Profiles for instances made from it; none is `default`.
    pub profiles: Option<Vec<String>>,
}

/// Changes an image.
///
/// # Errors
/// NotFound; a profile does not exist; a bad property.
pub fn update(store: &Store, fingerprint: &Fingerprint, change: Change) -> Result<()> {
    change.properties.iter().try_for_each(|(key, value)| check_property(key, value))?;
    let profiles = change.profiles.unwrap_or_else(|| vec!["default".to_string()]);
    let owner = features::owner(store, &store.image_project(), Feature::Profiles)?;
    for name in &profiles {
        let there = ProfileName::parse(name).ok().map(|n| store.profile(&owner, &n)).transpose()?;
        if there.flatten().is_none() {
            return Err(Error::invalid(format!("Profile '{name}' doesn't exist")));
        }
    }
    modify(store, fingerprint, |image| {
        image.auto_update = change.auto_update;
        image.properties = change.properties;
        image.public = change.public;
        image.expires_at = change.expires_at.or(image.expires_at);
        image.profiles = profiles;
        Ok(())
    })
}

/// Sets properties, and removes those without a value.
///
/// # Errors
/// NotFound; a bad property.
pub fn set_properties(store: &Store, fingerprint: &Fingerprint, values: &[(String, Option<String>)]) -> Result<()> {
    for (key, value) in values {
        check_property(key, value.as_deref().unwrap_or_default())?;
    }
    modify(store, fingerprint, |image| {
        for (key, value) in values {
            match value {
                Some(value) => image.properties.insert(key.clone(), value.clone()),
                None => image.properties.remove(key),
            };
        }
        Ok(())
    })
}

pub(super) fn modify(
    store: &Store,
    fingerprint: &Fingerprint,
    change: impl FnOnce(&mut Image) -> Result<()>,
) -> Result<()> {
    let held = store.lock_image(fingerprint, "update")?;
    let mut image = store.image(fingerprint)?.ok_or_else(|| not_found(fingerprint))?;
    change(&mut image)?;
    store.save_image(&held, &image)?;
    note(store, fingerprint, "image-updated");
    Ok(())
}

/// Properties become `image.*` configuration of instances: what cannot be there cannot be here (CVE-2026-23953).
///
/// # Errors
/// Invalid.
pub fn check_property(key: &str, value: &str) -> Result<()> {
    let control = |c: char| c.is_control() && c != '\n';
    if key.is_empty() || key.len() > 255 || key.contains(|c: char| c.is_control() || c == '=') {
        return Err(Error::invalid(format!("Invalid image property name {key:?}")));
    }
    if value.len() > 4096 || value.contains(control) || value.contains('\n') {
        return Err(Error::invalid(format!("Invalid value of image property \"{key}\"")));
    }
    Ok(())
}

/// The images that have aliases and none but `aliases`.
pub(super) fn superseded(store: &Store, aliases: &[AliasName]) -> Result<Vec<Fingerprint>> {
    let all = store.aliases()?;
    let mut kept: BTreeMap<&str, bool> = BTreeMap::new();
    for (name, alias) in &all.aliases {
        let other = !aliases.iter().any(|a| a.as_str() == name);
        *kept.entry(&alias.target).or_default() |= other;
    }
    kept.into_iter().filter(|(_, kept)| !kept).map(|(target, _)| Fingerprint::parse(target)).collect()
}

/// Deletes an image: its record, aliases and files at once; what is unpacked in the pools goes too, unless instances use it. Where
/// another project has the image, only this one's record and aliases go.
///
/// # Errors
/// NotFound; what could not be removed.
pub fn delete(store: &Store, fingerprint: &Fingerprint) -> Result<()> {
    let pools = lock_pools(store)?;
    let held = store.lock_image(fingerprint, "delete")?;
    let layout = store.layout();
    let (project, owners) = (store.image_project(), store.image_owners(fingerprint)?);
    if !owners.contains(&project) {
        return Err(not_found(fingerprint));
    }
    let alone = owners.len() == 1;
    let mut actions = vec![
        Action::RemoveFile { path: layout.image_record(&project, fingerprint) },
        Action::ForgetAliases { project: project.to_string(), image: fingerprint.to_string() },
    ];
    if alone {
        let files = [layout.image_file(fingerprint), layout.image_rootfs_file(fingerprint)];
        actions.extend(files.map(|path| Action::RemoveFile { path }));
    }
    for pool in pools.iter().filter(|_| alone) {
        let name = &pool.key().0;
        // A pool nobody gets at keeps what is unpacked in it until doctor sees it again.
        if pool::open(store, name).ok().flatten().is_some_and(|d| d.has_image(fingerprint).unwrap_or(false)) {
            actions.push(image_import::volume(name, fingerprint));
        }
    }
    fault::point("image.delete")?;
    Journal::forward(store, "delete", &[&held], actions)?.finish()?;
    note(store, fingerprint, "image-deleted");
    Ok(())
}

/// All pools, in the order of locks. One that is damaged keeps nobody from deleting images elsewhere.
fn lock_pools(store: &Store) -> Result<Vec<Held<PoolKey, Shared>>> {
    let mut names: Vec<PoolName> = store.pools()?.into_iter().filter(|(_, p)| p.is_ok()).map(|(n, _)| n).collect();
    names.sort();
    names.iter().map(|n| store.lock_pool_shared(n)).collect()
}

/// Appends a lifecycle event of an image; a log that cannot be written stops nothing.
pub(super) fn note(store: &Store, fingerprint: &Fingerprint, action: &str) {
    let source = format!("/1.0/images/{fingerprint}");
    let event = events::Event::lifecycle(action, &source, &store.image_project(), serde_json::Value::Null);
    let _ = events::append(store, &event);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn properties_cannot_break_lines() {
        for (key, value) in [("os", "Debian"), ("description", "a = b, c"), ("x.y", "")] {
            assert!(check_property(key, value).is_ok(), "{key}");
        }
        for (key, value) in
            [("", "x"), ("a=b", "x"), ("a\n", "x"), ("a", "x\ny"), ("a", "\u{7}"), ("a", &"x".repeat(5000))]
        {
            assert!(check_property(key, value).is_err(), "{key:?}");
        }
    }
}
