//! Images: found by name, shown, changed, deleted, exported. How they come in is `image_import`, their aliases `image_alias`.
//!
//! Readers take no lock; a change takes the image's. Names of images are aliases, fingerprints or unique beginnings of those.

pub use super::image_import::ensure_unpacked;

use super::image_import::{self, BOOTSTRAP};
use super::pool;
use crate::base::names::{AliasName, Fingerprint, PoolName, ProfileName, ProjectName};
use crate::base::time;
use crate::error::{Context, Error, Result};
use crate::fault;
use crate::host::command::Runner;
use crate::image::decompress::Format;
use crate::image::{OnProgress, export};
use crate::model::image::{Alias, Aliases, Image};
use crate::model::view::{ImageParts, ImageView};
use crate::store::journal::Journal;
use crate::store::lock::{Held, ImageKey, PoolKey, Shared};
use crate::store::{Action, Store, events};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How stale an image's date of last use may be, seconds: writing it costs a sync, and it only serves expiry after days.
const LAST_USED_STEP: i64 = 24 * 3600;

/// Incus's words, with the name.
pub(super) fn not_found(name: &str) -> Error {
    Error::not_found(format!("Image \"{name}\" not found"))
}

/// The image a command names on `remote`: `local` finds it ([`find`]), `bootstrap` finds it among those built earlier or builds
/// it with `tools`. To be called for launches: the date of last use is kept.
///
/// # Errors
/// NotFound; as [`image_import::cached_or_built`].
pub fn resolve(
    store: &Store,
    tools: &dyn Runner,
    remote: &str,
    name: &str,
    on_progress: OnProgress<'_>,
) -> Result<Fingerprint> {
    let found = match remote {
        "local" => find(store, name)?,
        BOOTSTRAP => image_import::cached_or_built(store, tools, name, on_progress)?,
        other => return Err(Error::not_found(format!("The remote \"{other}\" doesn't exist"))),
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

/// An image that is seen on `remote` and need not be built for that.
///
/// # Errors
/// As [`find`].
pub fn find_on(store: &Store, remote: &str, name: &str) -> Result<Fingerprint> {
    if remote != BOOTSTRAP {
        return find(store, name);
    }
    let alias = crate::image::bootstrap::parse(name)?.alias();
    let hint = format!("it is built when it is first used: stapes launch {BOOTSTRAP}:{alias}");
    cached(store, BOOTSTRAP, &alias)?.ok_or_else(|| not_found(&format!("{BOOTSTRAP}:{alias}")).hint(hint))
}

/// The image that came from `alias` of a remote, the newest if there are several.
pub(super) fn cached(store: &Store, protocol: &str, alias: &str) -> Result<Option<Fingerprint>> {
    let is_it = |image: &Image| image.source.as_ref().is_some_and(|s| s.protocol == protocol && s.alias == alias);
    let all = store.images()?.into_iter().filter_map(|(f, image)| Some((image.ok()?, f)));
    Ok(all.filter(|(image, _)| is_it(image)).max_by_key(|(image, _)| image.uploaded_at).map(|(_, f)| f))
}

/// Notes that the image is used now, if that was noted long ago and nobody is at it.
fn used(store: &Store, fingerprint: &Fingerprint) -> Result<()> {
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
    Ok(view_of(fingerprint, &image, &store.aliases()?))
}

/// All images, and what is wrong with those whose record cannot be read.
///
/// # Errors
/// The folder or the aliases cannot be read.
pub fn views(store: &Store) -> Result<Vec<(Fingerprint, Result<ImageView>)>> {
    let aliases = store.aliases()?;
    let images = store.images()?.into_iter();
    Ok(images
        .map(|(f, image)| {
            let view = image.map(|i| view_of(&f, &i, &aliases));
            (f, view)
        })
        .collect())
}

/// The images of a remote, by fingerprint or alias: those there are, or for `bootstrap` those that can be.
///
/// # Errors
/// As [`views`]; there is no such remote.
pub fn on_remote(store: &Store, remote: &str) -> Result<Vec<(String, Result<ImageView>)>> {
    match remote {
        "local" => Ok(views(store)?.into_iter().map(|(f, view)| (f.to_string(), view)).collect()),
        BOOTSTRAP => image_import::offered(store),
        other => Err(Error::not_found(format!("The remote \"{other}\" doesn't exist"))),
    }
}

/// Images are shared by all projects and belong to the default one.
fn view_of(fingerprint: &Fingerprint, image: &Image, aliases: &Aliases) -> ImageView {
    let own: Vec<(&str, &Alias)> =
        aliases.aliases.iter().filter(|(_, a)| a.target == **fingerprint).map(|(n, a)| (n.as_str(), a)).collect();
    let project = ProjectName::default();
    ImageView::new(ImageParts { project: &project, fingerprint, image, aliases: &own })
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
    for name in &profiles {
        let there = ProfileName::parse(name).ok().map(|n| store.profile(&ProjectName::default(), &n)).transpose()?;
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

fn modify(store: &Store, fingerprint: &Fingerprint, change: impl FnOnce(&mut Image) -> Result<()>) -> Result<()> {
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

/// Deletes an image: its record, aliases and files at once; what is unpacked in the pools goes too, unless instances use it.
///
/// # Errors
/// NotFound; what could not be removed.
pub fn delete(store: &Store, fingerprint: &Fingerprint) -> Result<()> {
    let pools = lock_pools(store)?;
    let held = store.lock_image(fingerprint, "delete")?;
    let layout = store.layout();
    let record = layout.image_record(fingerprint);
    if !record.exists() {
        return Err(not_found(fingerprint));
    }
    let mut actions = vec![
        Action::RemoveFile { path: record },
        Action::ForgetAliases { image: fingerprint.to_string() },
        Action::RemoveFile { path: layout.image_file(fingerprint) },
        Action::RemoveFile { path: layout.image_rootfs_file(fingerprint) },
    ];
    for pool in &pools {
        let name = &pool.key().0;
        if pool::open(store, name)?.is_some_and(|d| d.has_image(fingerprint).unwrap_or(false)) {
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

/// Where an image is exported to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// A folder: the files are named after the fingerprint.
    Folder(PathBuf),
    /// A file: its name begins so.
    File(PathBuf),
}

/// Copies the files of an image, byte for byte; their paths.
///
/// # Errors
/// NotFound; the target cannot be written. No part of a file is left.
pub fn export(store: &Store, fingerprint: &Fingerprint, target: &Target) -> Result<Vec<PathBuf>> {
    let held: Held<ImageKey, Shared> = store.lock_image_shared(fingerprint)?;
    let image = store.image(fingerprint)?.ok_or_else(|| not_found(fingerprint))?;
    let layout = store.layout();
    let (first, first_format) = open(&layout.image_file(fingerprint))?;
    let second = image.split.then(|| open(&layout.image_rootfs_file(fingerprint))).transpose()?;
    let (folder, stem) = match target {
        Target::Folder(folder) => (folder.as_path(), None),
        Target::File(file) => {
            let bad = || Error::invalid(format!("Bad file name \"{}\"", file.display()));
            (file.parent().ok_or_else(bad)?, Some(file.file_name().and_then(|n| n.to_str()).ok_or_else(bad)?))
        }
    };
    let own = crate::image::Fingerprint::parse(fingerprint)?;
    let names = export::file_names(&own, stem, first_format, second.as_ref().map(|(_, format)| *format));
    let mut written = Vec::new();
    for (source, name) in [(Some(first), Some(names.0)), (second.map(|(file, _)| file), names.1)] {
        let (Some(source), Some(name)) = (source, name) else { continue };
        written.push(copy_out(source, folder, &name)?);
    }
    drop(held);
    Ok(written)
}

fn open(path: &Path) -> Result<(File, Format)> {
    let context = || format!("Failed opening \"{}\"", path.display());
    let mut head = Vec::new();
    File::open(path).with_context(context)?.take(512).read_to_end(&mut head).with_context(context)?;
    Ok((File::open(path).with_context(context)?, Format::detect(&head)))
}

/// The file appears whole or not at all.
fn copy_out(mut source: File, folder: &Path, name: &str) -> Result<PathBuf> {
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let path = folder.join(name);
    let context = || format!("Failed writing \"{}\"", path.display());
    // The caller's umask applies.
    let permissions = std::fs::Permissions::from_mode(0o666);
    let mut builder = tempfile::Builder::new();
    let builder = builder.prefix(".stapes-").permissions(permissions);
    let mut file = builder.tempfile_in(folder).with_context(context)?;
    std::io::copy(&mut source, file.as_file_mut()).with_context(context)?;
    file.persist(&path).map_err(|e| e.error).with_context(context)?;
    Ok(path)
}

/// Appends a lifecycle event of an image; a log that cannot be written stops nothing.
pub(super) fn note(store: &Store, fingerprint: &Fingerprint, action: &str) {
    let source = format!("/1.0/images/{fingerprint}");
    let event = events::Event::lifecycle(action, &source, &ProjectName::default(), serde_json::Value::Null);
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
