//! `image import <URL>`: a server names an image by two headers of its answer to HEAD, and it is fetched from where they say.
//!
//! As Incus has it: `Incus-Image-URL` is where the unified image is, `Incus-Image-Hash` its fingerprint. Both come from a stranger:
//! the hash is checked by form before anything else, and what does not hash to it never becomes an image.

use crate::base::names::Fingerprint;
use crate::base::url::{Scheme, Url};
use crate::error::{Context, Error, Result};
use crate::host::http::{Client, Download, Expected, Method, Request, Response, Trust};
use crate::image::import::Input;
use crate::store::Store;

/// Largest image that is fetched, bytes.
const SIZE_MAX: u64 = 1 << 40;

/// The image that `url` names, to be read by an import. `architectures`: what this host can run.
///
/// # Errors
/// The server cannot be reached or names no image; it is here already.
pub fn open<'a>(store: &Store, client: &'a Client, trust: &'a Trust, url: &Url) -> Result<Input<'a>> {
    let headers = [
        ("Incus-Server-Architectures", architectures().to_string()),
        ("Incus-Server-Version", env!("CARGO_PKG_VERSION").to_string()),
    ];
    let named = head(client, &Request { method: Method::Head, url, headers: &headers, trust })?;
    let said = |name: &str| {
        let value = named.headers.get(&name.to_ascii_lowercase()).filter(|value| !value.is_empty());
        value.ok_or_else(|| Error::invalid(format!("\"{url}\" names no image: The header {name} is missing")))
    };
    let hash = Fingerprint::parse(said("Incus-Image-Hash")?).context("Bad header Incus-Image-Hash")?;
    let place = Url::parse(said("Incus-Image-URL")?).context("Bad header Incus-Image-URL")?;
    if place.scheme != Scheme::Https {
        return Err(Error::denied(format!("\"{url}\" names an image at \"{place}\", away from https")));
    }
    if store.image(&hash)?.is_some() {
        return Err(Error::exists("Image with same fingerprint already exists"));
    }
    let file = head(client, &Request { method: Method::Head, url: &place, headers: &[], trust })?;
    let size = file.headers.get("content-length").and_then(|text| text.parse().ok());
    let size = size
        .filter(|size| (1..=SIZE_MAX).contains(size))
        .ok_or_else(|| Error::invalid(format!("\"{place}\" does not say how large it is")))?;
    let name = place.path.split('?').next().unwrap_or_default().rsplit('/').next().unwrap_or_default().to_string();
    let expected = Expected { size, hash: hash.to_string() };
    let reader = Box::new(Download::new(client, place, trust, expected, None));
    Ok(Input { name, reader, size: Some(size) })
}

fn head(client: &Client, request: &Request<'_>) -> Result<Response> {
    let response = client.send(request)?;
    response.expect(&[200], request.url)?;
    Ok(response)
}

/// In Incus's form: separated by commas.
fn architectures() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "x86_64, i686",
        "aarch64" => "aarch64, armv8l, armv7l, armv6l",
        other => other,
    }
}
