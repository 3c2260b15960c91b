//! A registry (distribution-spec 1.1): asks for documents and layers, and for leave where that is wanted.
//!
//! Who we are goes to the registry and to the token server that it names, over TLS, and to nobody else: not to where a blob is
//! redirected to, and a challenge of such a place is not answered.

use super::Source;
use super::auth::{self, Challenge, IDENTITY, Login};
use super::document::{ACCEPT, DOCUMENT_MAX, Descriptor};
use super::reference::Reference;
use crate::base::url::{Scheme, Url};
use crate::error::{Context, Error, Kind, Result};
use crate::host::http::{self, Client, Download, Expected, Method, Request, Response, Trust};
use std::fmt::Write;
use std::fs::File;
use std::io::Read;
use std::sync::{Mutex, PoisonError};

/// Largest answer of a token server, bytes.
const TOKEN_MAX: u64 = 1 << 20;
/// Docker's registry, and where it really is.
const DOCKER: (&str, &str) = ("docker.io", "registry-1.docker.io");

/// One image in a registry.
pub struct Registry<'a> {
    client: &'a Client,
    base: Url,
    trust: &'a Trust,
    repository: String,
    reference: Reference,
    login: &'a (dyn Fn() -> Result<Option<Login>> + Sync),
    /// `Authorization`, once it was asked for.
    authorization: Mutex<Option<String>>,
}

impl std::fmt::Debug for Registry<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Registry")
            .field("base", &self.base)
            .field("repository", &self.repository)
            .finish_non_exhaustive()
    }
}

/// Where the repository of an image is: server, and name there. A path of the address stands before the name; Docker's own
/// images are in a folder.
pub fn address(url: &Url, reference: &Reference) -> (Url, String) {
    let mut base = Url { login: None, path: "/".to_string(), ..url.clone() };
    let folder = url.path.split('?').next().unwrap_or_default().trim_matches('/');
    let mut repository = reference.repository.clone();
    if !folder.is_empty() {
        repository = format!("{folder}/{repository}");
    }
    if base.host == DOCKER.0 || base.host == format!("index.{}", DOCKER.0) {
        base.host = DOCKER.1.to_string();
        if !repository.contains('/') {
            repository = format!("library/{repository}");
        }
    }
    (base, repository)
}

impl<'a> Registry<'a> {
    /// The image `reference` of the registry at `url`. `login` is asked when the registry wants to know who we are.
    pub fn new(
        client: &'a Client,
        (url, trust): (&Url, &'a Trust),
        reference: Reference,
        login: &'a (dyn Fn() -> Result<Option<Login>> + Sync),
    ) -> Self {
        let (base, repository) = address(url, &reference);
        Self { client, base, trust, repository, reference, login, authorization: Mutex::default() }
    }

    fn url(&self, kind: &str, what: &str) -> Result<Url> {
        self.base.below(&format!("v2/{}/{kind}/{what}", self.repository))
    }

    fn authorization(&self) -> Option<String> {
        self.authorization.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Sends a request, once more with what a challenge wants.
    fn send(&self, url: &Url, accept: Option<&str>) -> Result<Response> {
        let once = || {
            let mut headers: Vec<(&str, String)> = Vec::new();
            headers.extend(accept.map(|types| ("Accept", types.to_string())));
            headers.extend(self.authorization().map(|value| ("Authorization", value)));
            self.client.send(&Request { method: Method::Get, url, headers: &headers, trust: self.trust })
        };
        let first = once()?;
        if first.status != 401 || !first.url.same_origin(&self.base) {
            return Ok(first);
        }
        self.answer(&first).with_context(|| format!("Failed fetching \"{url}\""))?;
        once()
    }

    /// Answers the challenge of a response.
    fn answer(&self, response: &Response) -> Result<()> {
        let login = || (self.login)();
        let value = match auth::challenge(response.headers.all("www-authenticate")) {
            Some(Challenge::Basic) => match login()?.filter(|(user, _)| user != IDENTITY) {
                Some(login) => http::basic(&login),
                None => {
                    return Err(Error::denied("The registry wants a user and a password").hint(
                        "give the remote a --credentials-helper, or name the registry in ~/.docker/config.json",
                    ));
                }
            },
            Some(Challenge::Bearer { realm, service }) => self.token(&realm, &service, login()?)?,
            None => return Err(Error::denied("The registry refuses and doesn't say what it wants")),
        };
        *self.authorization.lock().unwrap_or_else(PoisonError::into_inner) = Some(value);
        Ok(())
    }

    /// A token for reading this repository: asked for as a user, or had for an identity token (distribution's "OAuth2 token
    /// authentication", a refresh token of RFC 6749, section 6).
    fn token(&self, realm: &str, service: &str, login: Option<Login>) -> Result<String> {
        let mut url = Url::parse(realm).context("Bad token server")?;
        if url.scheme != Scheme::Https {
            return Err(Error::denied(format!("The token server \"{url}\" isn't reached over https")));
        }
        let mut query = format!("scope={}", escaped(&format!("repository:{}:pull", self.repository)));
        if !service.is_empty() {
            let _ = write!(query, "&service={}", escaped(service));
        }
        url.login = None;
        let (identity, user) = match login {
            Some((user, token)) if user == IDENTITY => (Some(token), None),
            other => (None, other),
        };
        let form = identity.map(|token| {
            format!("grant_type=refresh_token&client_id=stapes&{query}&refresh_token={}", escaped(&token))
        });
        let method = form.as_deref().map_or(Method::Get, Method::Post);
        if method == Method::Get {
            let joint = if url.path.contains('?') { '&' } else { '?' };
            url.path = format!("{}{joint}{query}", url.path);
        }
        let headers: Vec<_> = user.iter().map(|login| ("Authorization", http::basic(login))).collect();
        let stranger = Trust::default();
        let trust = if url.same_origin(&self.base) { self.trust } else { &stranger };
        let request = Request { method, url: &url, headers: &headers, trust };
        Ok(format!("Bearer {}", auth::token(&self.client.small(&request, TOKEN_MAX)?)?))
    }

    /// A small file and its media type.
    fn text(&self, url: &Url, accept: Option<&str>) -> Result<(Vec<u8>, String)> {
        let once = || {
            let mut response = self.send(url, accept)?;
            response.expect(&[200], url)?;
            let mut bytes = Vec::new();
            let fail = || format!("Failed fetching \"{url}\"");
            let read = response.body.by_ref().take(DOCUMENT_MAX + 1).read_to_end(&mut bytes);
            read.map_err(http::io_error).with_context(fail)?;
            if bytes.len() as u64 > DOCUMENT_MAX {
                return Err(Error::invalid(format!("It is larger than {DOCUMENT_MAX} bytes")).context(fail()));
            }
            Ok((bytes, response.headers.get("content-type").unwrap_or_default().to_string()))
        };
        match once() {
            Err(e) if e.kind() == Kind::Failed && e.hint_text().is_none() => {
                http::pause(self.client.times().backoff);
                once()
            }
            other => other,
        }
    }

    /// A layer, as a stream that is checked at its end. `part`: the beginning of it.
    ///
    /// # Errors
    /// The digest does not make a URL.
    pub fn layer(&self, what: &Descriptor, part: Option<File>) -> Result<Download<'_>> {
        let expected = Expected { size: what.size, hash: what.digest.hex().to_string() };
        let headers = self.authorization().map(|value| ("Authorization", value)).into_iter().collect();
        let url = self.url("blobs", &what.digest.to_string())?;
        Ok(Download::new(self.client, url, self.trust, expected, part).with_headers(headers))
    }

    /// Asks again for leave: a token does not live long.
    ///
    /// # Errors
    /// It is refused.
    pub fn renew(&self, what: &Descriptor) -> Result<()> {
        *self.authorization.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.send(&self.url("blobs", &what.digest.to_string())?, None).map(drop)
    }
}

impl Source for Registry<'_> {
    fn top(&self) -> Result<(Vec<u8>, String)> {
        let (bytes, kind) = self.text(&self.url("manifests", &self.reference.wanted())?, Some(ACCEPT))?;
        match &self.reference.digest {
            Some(wanted) => wanted.check(&bytes).map(|()| (bytes, kind)),
            None => Ok((bytes, kind)),
        }
    }

    fn get(&self, what: &Descriptor, manifest: bool) -> Result<Vec<u8>> {
        let digest = what.digest.to_string();
        let found = match manifest {
            true => self.text(&self.url("manifests", &digest)?, Some(ACCEPT)),
            false => self.text(&self.url("blobs", &digest)?, None),
        };
        Ok(found?.0)
    }
}

/// For a query: everything but letters, digits and what is harmless there is escaped.
fn escaped(text: &str) -> String {
    text.bytes().fold(String::new(), |mut out, b| {
        match b.is_ascii_alphanumeric() || b"-._~:/".contains(&b) {
            true => out.push(b as char),
            false => {
                let _ = write!(out, "%{b:02X}");
            }
        }
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_repositories_are() {
        let at = |url: &str, name: &str| {
            let reference = Reference::parse(name).expect("name");
            let (url, repository) = address(&Url::parse(url).expect("url"), &reference);
            format!("{url} {repository} {:?}", url.login)
        };
        assert_eq!(at("https://docker.io", "nginx"), "https://registry-1.docker.io library/nginx None");
        assert_eq!(at("https://u:p@docker.io/", "a/b:c"), "https://registry-1.docker.io a/b None");
        assert_eq!(at("https://docker.io/corp", "x"), "https://registry-1.docker.io corp/x None");
        assert_eq!(at("https://ghcr.io/me/?q", "x"), "https://ghcr.io me/x None");
        assert_eq!(escaped("a b&c=\"%/\u{e4}"), "a%20b%26c%3D%22%25/%C3%A4");
    }
}
