//! An HTTP/1.1 client (RFC 9112) for image servers: GET and HEAD over TCP or TLS, directly or through a proxy.
//!
//! Called by `ops` for remotes. One connection a request, no state between requests. Whatever a server sends is hostile: heads and
//! lengths are bounded, a body ends exactly where it was announced to end, a server that goes quiet or drips is given up, an https
//! URL never leads to http, and what identifies the user stays with the host it was meant for. Knows nothing of images.

mod body;
mod connect;
mod download;
mod head;
mod proxy;
mod tls;

pub use body::Body;
pub(crate) use download::pause;
pub use download::{Download, Expected};
pub use head::Headers;
pub use proxy::{Proxies, basic};
pub use tls::{Trust, fingerprint};

use crate::base::url::{Scheme, Url};
use crate::error::{Context, Error, Kind, Result};
use crate::host::dns::Resolver;
use std::io::{Read, Write};
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// Redirects followed for one request.
const REDIRECTS: usize = 5;
const AGENT: &str = concat!("stapes/", env!("CARGO_PKG_VERSION"));

/// How long what may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Times {
    /// Connecting to one address, and the greetings of proxy and TLS.
    pub connect: Duration,
    /// Silence of the server.
    pub idle: Duration,
    /// From the request to the end of the response's head.
    pub head: Duration,
    /// In each such span a body must bring [`Times::least`] bytes.
    pub span: Duration,
    /// See [`Times::span`].
    pub least: u64,
    /// Wait before the first retry; doubled each time.
    pub backoff: Duration,
    /// Tries of one download that brought nothing new.
    pub tries: u32,
}

impl Default for Times {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            idle: Duration::from_secs(30),
            head: Duration::from_secs(60),
            span: Duration::from_secs(60),
            least: 64 << 10,
            backoff: Duration::from_millis(500),
            tries: 4,
        }
    }
}

/// What a front tells about the surroundings.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// Proxies of the environment.
    pub proxies: Proxies,
    /// File with the certificates of authorities in place of the system's (`SSL_CERT_FILE`).
    pub roots: Option<PathBuf>,
    /// Where names are looked up.
    pub resolver: Resolver,
    /// Bounds in time.
    pub times: Times,
}

/// What is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method<'a> {
    /// The body is wanted.
    Get,
    /// Only the head.
    Head,
    /// This form (`application/x-www-form-urlencoded`) is sent, to this place and no other: a redirect is the response.
    Post(&'a str),
}

/// A request.
#[derive(Debug, Clone)]
pub struct Request<'a> {
    /// What is wanted.
    pub method: Method<'a>,
    /// Of which place.
    pub url: &'a Url,
    /// Further headers; `Authorization` goes to this host only.
    pub headers: &'a [(&'a str, String)],
    /// Which certificates count for this host.
    pub trust: &'a Trust,
}

/// A response; its head is read.
#[derive(Debug)]
pub struct Response {
    /// Where it came from, redirects followed.
    pub url: Url,
    /// Status code.
    pub status: u16,
    /// Headers.
    pub headers: Headers,
    /// The body, to be read.
    pub body: Body,
}

/// The client. Cheap to make; the system's certificates are read at the first TLS connection.
#[derive(Debug, Default)]
pub struct Client {
    settings: Settings,
    roots: OnceLock<Arc<rustls::RootCertStore>>,
}

impl Client {
    /// A client for these surroundings.
    pub fn new(settings: Settings) -> Self {
        Self { settings, roots: OnceLock::new() }
    }

    /// Bounds in time.
    pub fn times(&self) -> &Times {
        &self.settings.times
    }

    /// Sends a request and reads the head of the response, redirects followed. Status codes are no errors.
    ///
    /// # Errors
    /// Failed: no connection, no trust, no sound response in time. The message names host and cause in one line.
    pub fn send(&self, request: &Request<'_>) -> Result<Response> {
        let mut url = request.url.clone();
        for _ in 0..=REDIRECTS {
            let home = url.same_origin(request.url);
            let response = self.once(request, &url, home)?;
            let sends = matches!(request.method, Method::Post(_));
            let moved = matches!(response.status, 301 | 302 | 303 | 307 | 308) && !sends;
            let Some(location) = response.headers.get("location").filter(|_| moved) else { return Ok(response) };
            let next = url.join(location).with_context(|| format!("Bad redirect from \"{}\"", url.authority()))?;
            if url.scheme == Scheme::Https && next.scheme == Scheme::Http {
                return Err(Error::denied(format!("\"{}\" redirects to \"{next}\", away from https", url.authority())));
            }
            url = next;
        }
        Err(Error::failed(format!("\"{}\" redirects too often", request.url.authority())))
    }

    fn once(&self, request: &Request<'_>, url: &Url, home: bool) -> Result<Response> {
        // A pinned certificate is that of the host asked for, not of where it sends us.
        let stranger = Trust::default();
        let trust = if home { request.trust } else { &stranger };
        let mut connection = self.connect(url, trust)?;
        let fail = || format!("Failed fetching \"{url}\"");
        let text = self.head(request, url, home, connection.through_proxy.as_deref());
        connection
            .stream
            .write_all(text.as_bytes())
            .and_then(|()| connection.stream.flush())
            .map_err(io_error)
            .with_context(fail)?;
        let (head, rest) = head::read(&mut connection.stream, self.settings.times.head).with_context(fail)?;
        let bodiless = request.method == Method::Head;
        let framing = head.framing(bodiless).with_context(fail)?;
        let body = Body::new(connection.stream, rest, framing, self.settings.times);
        Ok(Response { url: url.clone(), status: head.status, headers: head.headers, body })
    }

    /// The request's text. `proxy`: that of a plain request through a proxy, with the credentials for it.
    fn head(&self, request: &Request<'_>, url: &Url, home: bool, proxy: Option<&str>) -> String {
        let (method, form) = match request.method {
            Method::Get => ("GET", None),
            Method::Head => ("HEAD", None),
            Method::Post(form) => ("POST", Some(form)),
        };
        let target = match proxy {
            Some(_) => format!("{}://{}{}", url.scheme_name(), url.authority(), url.path),
            None => url.path.clone(),
        };
        let mut text = format!("{method} {target} HTTP/1.1\r\nHost: {}\r\nUser-Agent: {AGENT}\r\n", url.authority());
        text.push_str("Accept-Encoding: identity\r\nConnection: close\r\n");
        if let Some(credentials) = proxy.filter(|c| !c.is_empty()) {
            text.push_str(&format!("Proxy-Authorization: {credentials}\r\n"));
        }
        let own = url.login.as_ref().map(|login| ("Authorization", proxy::basic(login)));
        let given = request.headers.iter().map(|(name, value)| (*name, value.clone()));
        let secret = |name: &str| name.eq_ignore_ascii_case("authorization") || name.eq_ignore_ascii_case("cookie");
        for (name, value) in given.filter(|(name, _)| home || !secret(name)).chain(own) {
            // A line break would begin a header of its own.
            if !value.contains(['\r', '\n']) {
                text.push_str(&format!("{name}: {value}\r\n"));
            }
        }
        if let Some(form) = form {
            let length = form.len();
            text.push_str("Content-Type: application/x-www-form-urlencoded\r\n");
            text.push_str(&format!("Content-Length: {length}\r\n\r\n{form}"));
        } else {
            text.push_str("\r\n");
        }
        text
    }

    /// The whole body of a small file; tried twice.
    ///
    /// # Errors
    /// As [`Client::send`]; NotFound for 404 and 410, Failed for any other status but 200; it is larger than `limit` bytes.
    pub fn small(&self, request: &Request<'_>, limit: u64) -> Result<Vec<u8>> {
        match self.small_once(request, limit) {
            Err(e) if e.kind() == Kind::Failed && e.hint_text().is_none() => {
                pause(self.settings.times.backoff);
                self.small_once(request, limit)
            }
            other => other,
        }
    }

    fn small_once(&self, request: &Request<'_>, limit: u64) -> Result<Vec<u8>> {
        let mut response = self.send(request)?;
        response.expect(&[200], request.url)?;
        let mut bytes = Vec::new();
        let fail = || format!("Failed fetching \"{}\"", request.url);
        response.body.by_ref().take(limit + 1).read_to_end(&mut bytes).map_err(io_error).with_context(fail)?;
        if bytes.len() as u64 > limit {
            return Err(Error::invalid(format!(
                "Failed fetching \"{}\": It is larger than {limit} bytes",
                request.url
            )));
        }
        Ok(bytes)
    }
}

impl Response {
    /// One of these status codes.
    ///
    /// # Errors
    /// NotFound for 404 and 410, Denied for 401, 403 and 407, else Failed; the message names the URL and the status.
    pub fn expect(&self, wanted: &[u16], url: &Url) -> Result<()> {
        if wanted.contains(&self.status) {
            return Ok(());
        }
        let text = format!("Failed fetching \"{url}\": The server answered with status {}", self.status);
        Err(match self.status {
            404 | 410 => Error::not_found(text),
            401 | 403 | 407 => Error::denied(text),
            _ => Error::failed(text),
        })
    }
}

/// An I/O error of a connection in our words; one that carries an error of ours gives it back.
pub(crate) fn io_error(e: std::io::Error) -> Error {
    use std::io::ErrorKind;
    if e.get_ref().is_some_and(|inner| inner.is::<Error>()) {
        let inner = e.into_inner().and_then(|inner| inner.downcast::<Error>().ok());
        return inner.map_or_else(|| Error::internal("Lost an error"), |b| *b);
    }
    if let Some(tls) = e.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        return tls::error(tls);
    }
    match e.kind() {
        ErrorKind::WouldBlock | ErrorKind::TimedOut => Error::failed("The server doesn't answer"),
        ErrorKind::UnexpectedEof => Error::failed("The connection ended early"),
        _ => e.into(),
    }
}

#[cfg(test)]
mod tests;
