//! URLs of servers (RFC 3986, as far as http and https need it): parsing, joining, comparing.
//!
//! Strict: what is not clearly a URL is refused, because other programs may read it differently. No I/O.

use crate::error::{Error, Result};
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

/// How a server is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// In the clear.
    Http,
    /// Over TLS.
    Https,
}

/// An absolute `http://` or `https://` URL without fragment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Url {
    /// How.
    pub scheme: Scheme,
    /// User and password before the host, percent-encoding resolved.
    pub login: Option<(String, String)>,
    /// Host in lower case; an IPv6 address without brackets.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Path and query; begins with `/`.
    pub path: String,
}

impl Url {
    /// Parses it.
    ///
    /// # Errors
    /// Invalid: it is no such URL.
    pub fn parse(text: &str) -> Result<Self> {
        parse(text).ok_or_else(|| Error::invalid(format!("Invalid URL {text:?}")))
    }

    /// The URL of a file below this one, which is a folder. `path` is relative and stays below: no `..`, no scheme, no query.
    ///
    /// # Errors
    /// Invalid: it would leave the folder.
    pub fn below(&self, path: &str) -> Result<Self> {
        let sound = |part: &str| !part.is_empty() && part != "." && part != ".." && !part.contains(['\\', '%']);
        let visible = path.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b'?' | b'#'));
        if path.len() > 1024 || !visible || !path.split('/').all(sound) {
            return Err(Error::invalid(format!("Invalid path {path:?}")));
        }
        let folder = self.path.split('?').next().unwrap_or("/").trim_end_matches('/');
        Ok(Self { path: format!("{folder}/{path}"), ..self.clone() })
    }

    /// Where a `Location` header leads.
    ///
    /// # Errors
    /// Invalid: it is no URL.
    pub fn join(&self, location: &str) -> Result<Self> {
        let location = location.split('#').next().unwrap_or_default();
        let bad = || Error::invalid(format!("Invalid URL {location:?}"));
        if location.contains("://") && !location.starts_with('/') {
            return Self::parse(location);
        }
        if !location.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(bad());
        }
        if let Some(rest) = location.strip_prefix("//") {
            let scheme = self.scheme_name();
            return Self::parse(&format!("{scheme}://{rest}"));
        }
        let path = match location {
            "" => return Err(bad()),
            l if l.starts_with('/') => l.to_string(),
            l if l.starts_with('?') => format!("{}{l}", self.path.split('?').next().unwrap_or("/")),
            l => {
                let path = self.path.split('?').next().unwrap_or("/");
                format!("{}/{l}", path.rsplit_once('/').map_or("", |(folder, _)| folder))
            }
        };
        Ok(Self { path, login: None, ..self.clone() })
    }

    /// Scheme, host and port are the same.
    pub fn same_origin(&self, other: &Self) -> bool {
        self.scheme == other.scheme && self.host == other.host && self.port == other.port
    }

    /// `http` or `https`.
    pub fn scheme_name(&self) -> &'static str {
        match self.scheme {
            Scheme::Http => "http",
            Scheme::Https => "https",
        }
    }

    /// Host and, unless it is the scheme's own, port, as the `Host` header has them.
    pub fn authority(&self) -> String {
        if self.port == default_port(self.scheme) { bracketed(&self.host) } else { self.host_and_port() }
    }

    /// Host and port, always both.
    pub fn host_and_port(&self) -> String {
        format!("{}:{}", bracketed(&self.host), self.port)
    }
}

/// Without the login: this is for messages and records.
impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = if self.path == "/" { "" } else { &self.path };
        write!(f, "{}://{}{path}", self.scheme_name(), self.authority())
    }
}

fn bracketed(host: &str) -> String {
    if host.contains(':') { format!("[{host}]") } else { host.to_string() }
}

fn default_port(scheme: Scheme) -> u16 {
    match scheme {
        Scheme::Http => 80,
        Scheme::Https => 443,
    }
}

fn parse(text: &str) -> Option<Url> {
    if text.len() > 4096
        || !text.bytes().all(|b| b.is_ascii_graphic())
        || text.contains(['"', '<', '>', '\\', '^', '`'])
    {
        return None;
    }
    let (scheme, rest) = text.split_once("://")?;
    let scheme = match scheme.to_ascii_lowercase().as_str() {
        "http" => Scheme::Http,
        "https" => Scheme::Https,
        _ => return None,
    };
    let rest = rest.split('#').next()?;
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let path = if path.starts_with('/') { path.to_string() } else { format!("/{path}") };
    let (login, host) = match authority.rsplit_once('@') {
        Some((login, host)) => {
            let (user, password) = login.split_once(':').unwrap_or((login, ""));
            (Some((unescape(user)?, unescape(password)?)), host)
        }
        None => (None, authority),
    };
    let (host, port) = host_and_port(host)?;
    Some(Url { scheme, login, host, port: port.unwrap_or(default_port(scheme)), path })
}

/// `host`, `host:port`, `[v6]`, `[v6]:port`.
fn host_and_port(text: &str) -> Option<(String, Option<u16>)> {
    let port = |text: &str| match text.strip_prefix(':') {
        None if text.is_empty() => Some(None),
        Some(digits) if digits.bytes().all(|b| b.is_ascii_digit()) => {
            Some(Some(digits.parse().ok().filter(|p| *p > 0)?))
        }
        _ => None,
    };
    if let Some(rest) = text.strip_prefix('[') {
        let (host, rest) = rest.split_once(']')?;
        let address: Ipv6Addr = host.parse().ok()?;
        return Some((address.to_string(), port(rest)?));
    }
    let (host, rest) = text.split_at(text.find(':').unwrap_or(text.len()));
    let known = host.parse::<IpAddr>().is_ok() || super::dns::name(host).is_some();
    known.then(|| host.to_ascii_lowercase()).zip(port(rest))
}

fn unescape(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, more)) = rest.split_first() {
        rest = more;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let digits = rest.get(..2)?;
        bytes.push(u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?);
        rest = &rest[2..];
    }
    String::from_utf8(bytes).ok().filter(|t| !t.contains(char::is_control))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn show(text: &str) -> String {
        Url::parse(text).map_or_else(|e| e.to_string(), |u| format!("{u} {} {}", u.host, u.port))
    }

    #[test]
    fn urls() {
        assert_eq!(show("https://Images.example.org"), "https://images.example.org images.example.org 443");
        assert_eq!(show("http://h:8080/a/b?c#d"), "http://h:8080/a/b?c h 8080");
        assert_eq!(show("https://[2001:DB8::1]:8443/"), "https://[2001:db8::1]:8443 2001:db8::1 8443");
        assert_eq!(show("https://h:443?x"), "https://h/?x h 443");
        let url = Url::parse("http://u%40x:p%3a@h/").expect("good");
        assert_eq!(url.login, Some(("u@x".into(), "p:".into())));
        assert_eq!(url.to_string(), "http://h");
    }

    #[test]
    fn what_is_no_url() {
        for bad in [
            "",
            "h",
            "ftp://h",
            "https://",
            "https:///x",
            "https://h:0",
            "https://h:x",
            "https://h:99999",
            "https://h:+1",
            "https://[::1",
            "https://[h]",
            "https://a b",
            "https://h\r\nX: y",
            "https://h/\u{e4}",
            "https://-h",
            "https://u%zz@h",
            "https://h\\@evil",
        ] {
            assert!(Url::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn paths_stay_below() {
        let base = Url::parse("https://h/mirror/").expect("good");
        assert_eq!(base.below("streams/v1/index.json").expect("good").path, "/mirror/streams/v1/index.json");
        for bad in [
            "",
            "../x",
            "a/../b",
            "/etc",
            "a//b",
            "a?b",
            "a#b",
            "a\\b",
            "a\r\nb",
            "%2e%2e/x",
            "./a",
            "a b",
            "https://x/",
        ] {
            assert!(base.below(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn redirects() {
        let base = Url::parse("https://h:1/a/b?c").expect("good");
        let to = |l: &str| base.join(l).map_or_else(|e| e.to_string(), |u| u.to_string());
        assert_eq!(to("/x"), "https://h:1/x");
        assert_eq!(to("x?y#z"), "https://h:1/a/x?y");
        assert_eq!(to("?z"), "https://h:1/a/b?z");
        assert_eq!(to("//o/x"), "https://o/x");
        assert_eq!(to("http://o/x"), "http://o/x");
        assert!(base.join("").is_err() && base.join("a b").is_err() && base.join("ftp://x/").is_err());
        assert!(
            base.same_origin(&base.join("/q").expect("good")) && !base.same_origin(&base.join("//h/q").expect("good"))
        );
    }
}
