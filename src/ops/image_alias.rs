//! Aliases of images: one record for all of a project, changed under its own lock.

use super::image::{self, not_found};
use super::image_remote::Server;
use crate::base::names::{AliasName, Fingerprint};
use crate::error::{Error, Result};
use crate::model::image::Alias;
use crate::model::view::AliasEntryView;
use crate::store::{Store, events};

/// Incus's words.
fn missing() -> Error {
    Error::not_found("Image alias not found")
}

fn taken(name: &AliasName) -> Error {
    Error::exists(format!("Alias \"{name}\" already exists"))
}

/// Creates an alias for the image whose fingerprint begins with `target` (another alias of it will do as well).
///
/// # Errors
/// Exists: `Alias "x" already exists`; the image is not found.
pub fn create(store: &Store, name: &AliasName, target: &str, description: &str) -> Result<()> {
    let image = image::find(store, target)?;
    // It stays while it gets its name.
    let _held = store.lock_image_shared(&image)?;
    let kind = store.image(&image)?.ok_or_else(|| not_found(target))?.kind;
    store.update_aliases(|all| {
        let new = Alias { target: image.to_string(), kind, description: description.to_string() };
        match all.aliases.insert(name.to_string(), new) {
            None => Ok(()),
            Some(_) => Err(taken(name)),
        }
    })?;
    note(store, name, "image-alias-created");
    Ok(())
}

/// Deletes an alias; the image stays.
///
/// # Errors
/// NotFound: `Image alias not found`.
pub fn delete(store: &Store, name: &AliasName) -> Result<()> {
    store.update_aliases(|all| all.aliases.remove(name.as_str()).map(drop).ok_or_else(missing))?;
    note(store, name, "image-alias-deleted");
    Ok(())
}

/// Gives an alias another name.
///
/// # Errors
/// NotFound; Exists.
pub fn rename(store: &Store, name: &AliasName, new: &AliasName) -> Result<()> {
    store.update_aliases(|all| {
        if all.aliases.contains_key(new.as_str()) {
            return Err(taken(new));
        }
        let alias = all.aliases.remove(name.as_str()).ok_or_else(missing)?;
        all.aliases.insert(new.to_string(), alias);
        Ok(())
    })?;
    note(store, new, "image-alias-renamed");
    Ok(())
}

/// All aliases, by name.
///
/// # Errors
/// The record is damaged.
pub fn views(store: &Store) -> Result<Vec<AliasEntryView>> {
    let all = store.aliases()?;
    let good = all.aliases.iter().filter(|(_, alias)| Fingerprint::parse(&alias.target).is_ok());
    Ok(good.map(|(name, alias)| AliasEntryView::new(name, alias)).collect())
}

/// The aliases of a server, by name.
///
/// # Errors
/// As [`Server::offers`].
pub fn on_server(server: &Server) -> Result<Vec<AliasEntryView>> {
    let mut all = Vec::new();
    for offer in server.offers(false)? {
        for name in offer.names() {
            let alias = Alias { target: offer.fingerprint.to_string(), kind: offer.kind, description: String::new() };
            all.push(AliasEntryView::new(&name, &alias));
        }
    }
    all.sort_by(|a, b| (&a.name, &a.kind).cmp(&(&b.name, &b.kind)));
    Ok(all)
}

fn note(store: &Store, name: &AliasName, action: &str) {
    let source = format!("/1.0/images/aliases/{name}");
    let event = events::Event::lifecycle(action, &source, &store.image_project(), serde_json::Value::Null);
    let _ = events::append(store, &event);
}
