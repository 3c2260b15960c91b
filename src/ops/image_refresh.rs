//! `image refresh`: an image that came from a server is replaced by what its name means there now.

use super::image::not_found;
use super::image_import::{self, Wanted};
use super::image_oci;
use super::image_remote::{Place, fetch};
use crate::base::names::{AliasName, Fingerprint};
use crate::error::Result;
use crate::fault;
use crate::image::{OnProgress, simplestreams};
use crate::model::image::ImageSource;
use crate::model::remote::{OCI, SIMPLESTREAMS};
use crate::store::Store;

/// The server an image came from; none if it was made here.
///
/// # Errors
/// NotFound; the record is damaged.
pub fn source(store: &Store, fingerprint: &Fingerprint) -> Result<Option<ImageSource>> {
    let image = store.image(fingerprint)?.ok_or_else(|| not_found(fingerprint))?;
    Ok(image.source.filter(|source| matches!(&*source.protocol, SIMPLESTREAMS | OCI)))
}

/// Fetches what `source` of an image means now; the new image gets the names and settings of the old one, which goes. `None`:
/// it is the newest.
///
/// # Errors
/// NotFound: the server has the name no more; as [`super::image_remote::cached_or_fetched`]. The old image is there then.
pub fn refresh(
    store: &Store,
    place: &Place,
    old: &Fingerprint,
    on_progress: OnProgress<'_>,
) -> Result<Option<Fingerprint>> {
    let image = store.image(old)?.ok_or_else(|| not_found(old))?;
    let Some(source) = &image.source else { return Ok(None) };
    let aliases = store.aliases()?;
    let own = aliases.aliases.iter().filter(|(_, alias)| alias.target == **old);
    let wanted = Wanted {
        aliases: own.map(|(name, _)| AliasName::parse(name)).collect::<Result<_>>()?,
        public: image.public,
        source: image.source.clone(),
        cached: image.cached,
        auto_update: image.auto_update,
        profiles: Some(image.profiles.clone()),
        ..Wanted::default()
    };
    let new = match place {
        Place::Server(server) => {
            let offers = server.offers(true)?;
            let (offer, _) = simplestreams::find(&offers, &source.alias, image.kind)?;
            if offer.fingerprint.as_str() == old.as_str() {
                return Ok(None);
            }
            let (properties, expires_at) = (offer.properties.clone(), offer.expires_at);
            fetch(store, server, offer, &Wanted { properties, expires_at, ..wanted }, on_progress)?
        }
        Place::Registry(registry) => {
            let place = (&**registry, source.alias.as_str());
            match image_oci::renewed(store, place, old, &wanted, on_progress)? {
                Some(new) => new,
                None => return Ok(None),
            }
        }
        Place::Local | Place::Bootstrap => return Ok(None),
    };
    fault::point("image.refreshed")?;
    // Its names have gone over; one that somebody gave it meanwhile keeps it.
    image_import::delete_others(store, std::slice::from_ref(old), &new)?;
    Ok(Some(new))
}
