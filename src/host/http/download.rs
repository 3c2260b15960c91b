//! One file of known length and hash as a stream: whatever breaks on the way is tried again from where it broke.
//!
//! A part that an earlier command got can be put in front; it is checked with the rest, as one file.

use super::{Body, Client, Method, Request, Times, Trust, io_error};
use crate::base::digest::Hasher;
use crate::base::url::Url;
use crate::error::{Error, Kind, Result};
use sha2::digest::Update;
use std::fs::File;
use std::io::{self, Read};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

/// What a file has to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expected {
    /// Bytes.
    pub size: u64,
    /// sha256 or sha512, hexadecimal digits in lower case.
    pub hash: String,
}

/// Reads the file; at its end length and hash are checked. Errors of [`Read`] carry an [`Error`].
pub struct Download<'a> {
    client: &'a Client,
    url: Url,
    trust: &'a Trust,
    headers: Vec<(&'a str, String)>,
    expected: Expected,
    part: Option<File>,
    body: Option<Body>,
    /// The server's name for this content, so that a rest is only taken of the same.
    etag: Option<String>,
    hash: Option<Hasher>,
    at: u64,
    /// Tries since something came.
    tries: u32,
}

impl std::fmt::Debug for Download<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Download").field("url", &self.url).field("at", &self.at).finish_non_exhaustive()
    }
}

impl<'a> Download<'a> {
    /// Of `url`; `part`: the beginning of it, from an earlier command. Nothing is asked before the first read.
    pub fn new(client: &'a Client, url: Url, trust: &'a Trust, expected: Expected, part: Option<File>) -> Self {
        let hash = Some(Hasher::like(&expected.hash));
        let headers = Vec::new();
        Self { client, url, trust, headers, expected, part, body: None, etag: None, hash, at: 0, tries: 0 }
    }

    /// Sends these headers with each request.
    #[must_use]
    pub fn with_headers(mut self, headers: Vec<(&'a str, String)>) -> Self {
        self.headers = headers;
        self
    }

    fn fail(&self, why: &str) -> Error {
        Error::failed(format!("Failed fetching \"{}\": {why}", self.url))
    }

    /// What another try would not change.
    fn wrong(&self, why: &str) -> Error {
        Error::invalid(format!("Failed fetching \"{}\": {why}", self.url))
    }

    /// Asks for what is missing.
    fn open(&mut self) -> Result<Body> {
        let mut headers = self.headers.clone();
        if self.at > 0 {
            headers.push(("Range", format!("bytes={}-", self.at)));
            // Only a strong validator compares (RFC 9110, section 13.1.5).
            headers.extend(self.etag.clone().filter(|e| !e.starts_with("W/")).map(|etag| ("If-Range", etag)));
        }
        let request = Request { method: Method::Get, url: &self.url, headers: &headers, trust: self.trust };
        let mut response = self.client.send(&request)?;
        if matches!(response.status, 429 | 500 | 502 | 503 | 504) {
            return Err(self.fail(&format!("The server answered with status {}", response.status)));
        }
        response.expect(&[200, 206], &self.url)?;
        let begins = match (response.status, self.at) {
            (200, _) => 0,
            (_, 0) => return Err(self.wrong("The server sends a part that was not asked for")),
            _ => match response.headers.get("content-range").and_then(begin) {
                Some(begin) if begin == self.at => begin,
                _ => return Err(self.wrong("The server sends another part than was asked for")),
            },
        };
        if response.body.length().is_some_and(|length| length != self.expected.size - begins) {
            let size = self.expected.size;
            return Err(self.wrong(&format!("The file has not the announced size of {size} bytes")));
        }
        if begins < self.at {
            // The server does not do ranges, or has a new file: what is there already is passed over and the hash decides.
            let skipped = io::copy(&mut response.body.by_ref().take(self.at), &mut io::sink()).map_err(io_error)?;
            if skipped < self.at {
                return Err(self.fail("The file is shorter than announced"));
            }
        }
        self.etag = response.headers.get("etag").map(ToString::to_string);
        Ok(response.body)
    }

    /// Some bytes; zero at the announced end.
    fn some(&mut self, buffer: &mut [u8]) -> Result<usize> {
        if let Some(part) = &mut self.part {
            match part.read(buffer) {
                Ok(n) if n > 0 => return Ok(n),
                _ => self.part = None,
            }
        }
        if self.at == self.expected.size && self.body.is_none() {
            return Ok(0);
        }
        loop {
            let got = match &mut self.body {
                Some(body) => body.read(buffer).map_err(io_error),
                None => match self.open() {
                    Ok(body) => {
                        self.body = Some(body);
                        continue;
                    }
                    Err(e) => Err(e),
                },
            };
            match got {
                Ok(0) if self.at < self.expected.size => self.retry(self.fail("The file is shorter than announced"))?,
                Ok(n) => {
                    self.tries = 0;
                    return Ok(n);
                }
                Err(e) if e.kind() == Kind::Failed || e.errno().is_some() => self.retry(e)?,
                Err(e) => return Err(e),
            }
        }
    }

    /// Waits before another try; the error if there were enough.
    fn retry(&mut self, e: Error) -> Result<()> {
        let Times { tries, backoff, .. } = *self.client.times();
        self.body = None;
        self.tries += 1;
        if self.tries >= tries || e.hint_text().is_some() {
            let named = format!("{e:#}").contains(&self.url.host);
            return Err(if named { e } else { e.context(format!("Failed fetching \"{}\"", self.url)) });
        }
        pause(backoff * 2u32.pow(self.tries.min(6) - 1));
        Ok(())
    }

    fn finish(&mut self) -> Result<()> {
        let Some(hash) = self.hash.take() else { return Ok(()) };
        let got = hash.hex();
        if got == self.expected.hash {
            return Ok(());
        }
        let text = format!("Hash mismatch for \"{}\": {got} != {}", self.url, self.expected.hash);
        Err(Error::invalid(text))
    }
}

/// The first byte of `bytes 5-9/10`.
fn begin(range: &str) -> Option<u64> {
    range.strip_prefix("bytes ")?.split('-').next()?.parse().ok()
}

/// Waits; there is no descriptor to wait on.
pub(crate) fn pause(time: Duration) {
    let never = Mutex::new(());
    let guard = never.lock().unwrap_or_else(PoisonError::into_inner);
    let _ = Condvar::new().wait_timeout_while(guard, time, |()| true);
}

impl Read for Download<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        let n = self.some(buffer).map_err(io::Error::other)?;
        if n == 0 {
            self.finish().map_err(io::Error::other)?;
            return Ok(0);
        }
        if n as u64 > self.expected.size - self.at {
            return Err(io::Error::other(self.wrong("The file is longer than announced")));
        }
        if let Some(hash) = &mut self.hash {
            hash.update(&buffer[..n]);
        }
        self.at += n as u64;
        Ok(n)
    }
}
