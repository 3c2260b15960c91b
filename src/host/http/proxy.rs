//! Proxies as the environment names them (curl(1)'s rules), and basic credentials (RFC 7617).

use crate::base::inet::IpNet;
use crate::base::url::{Scheme, Url};
use crate::error::{Error, Result};
use std::ffi::OsString;
use std::net::IpAddr;

/// The proxies of the environment, unread: a bad one matters only where it is used.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Proxies {
    http: Option<String>,
    https: Option<String>,
    except: Vec<String>,
}

impl Proxies {
    /// From variables, names in either case; a variable in lower case wins.
    pub fn new(variables: &[(OsString, OsString)]) -> Self {
        let get = |name: &str| {
            let find =
                |name: &str| variables.iter().find(|(n, _)| n == name).map(|(_, v)| v.to_string_lossy().into_owned());
            find(name).or_else(|| find(&name.to_ascii_uppercase())).filter(|v| !v.is_empty())
        };
        let all = get("all_proxy");
        let except = get("no_proxy").unwrap_or_default();
        Self {
            http: get("http_proxy").or_else(|| all.clone()),
            https: get("https_proxy").or(all),
            except: except.split([',', ' ']).map(|e| e.trim().to_ascii_lowercase()).filter(|e| !e.is_empty()).collect(),
        }
    }

    /// The proxy for `url`, if it is to go through one.
    ///
    /// # Errors
    /// It is not one we can use.
    pub fn of(&self, url: &Url) -> Result<Option<Url>> {
        let proxy = match url.scheme {
            Scheme::Http => &self.http,
            Scheme::Https => &self.https,
        };
        let Some(text) = proxy.as_ref().filter(|_| !self.except.iter().any(|e| excepted(e, &url.host))) else {
            return Ok(None);
        };
        let full = if text.contains("://") { text.clone() } else { format!("http://{text}") };
        match Url::parse(&full) {
            Ok(url) => Ok(Some(url)),
            // The value may hold a password.
            Err(_) if full.starts_with("socks") => Err(Error::unsupported("SOCKS proxies aren't supported")),
            Err(_) => Err(Error::invalid("The environment names a proxy that is no URL")),
        }
    }
}

/// `*`, a host, a domain with all below it, an address or a range of addresses; a port behind it is ignored.
fn excepted(entry: &str, host: &str) -> bool {
    if entry == "*" || entry == host {
        return true;
    }
    if let Ok(address) = host.parse::<IpAddr>() {
        let range = entry.parse::<IpNet>().is_ok_and(|net| net.contains(address));
        return range || entry.trim_matches(['[', ']']).parse() == Ok(address);
    }
    let entry = entry.split(':').next().unwrap_or_default();
    let domain = entry.trim_start_matches("*.").trim_start_matches('.');
    !domain.is_empty() && (host == domain || host.strip_suffix(domain).is_some_and(|rest| rest.ends_with('.')))
}

/// The value of an `Authorization` header.
pub fn basic((user, password): &(String, String)) -> String {
    format!("Basic {}", base64(format!("{user}:{password}").as_bytes()))
}

/// RFC 4648, section 4.
pub(super) fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let byte = |i: usize| usize::from(group.get(i).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for i in 0..4 {
            let digit = DIGITS[bits >> (18 - 6 * i) & 63];
            text.push(if i <= group.len() { digit as char } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(variables: &[(&str, &str)], url: &str) -> String {
        let variables: Vec<_> = variables.iter().map(|(n, v)| (n.into(), v.into())).collect();
        let found = Proxies::new(&variables).of(&Url::parse(url).expect("good"));
        found.map_or_else(|e| e.to_string(), |p| p.map_or_else(|| "none".into(), |p| p.to_string()))
    }

    #[test]
    fn by_scheme_and_exception() {
        let both = [("HTTPS_PROXY", "p:3128"), ("http_proxy", "http://q:1/"), ("HTTP_PROXY", "http://never/")];
        assert_eq!(of(&both, "https://h/"), "http://p:3128");
        assert_eq!(of(&both, "http://h/"), "http://q:1");
        assert_eq!(of(&[("ALL_PROXY", "https://a")], "https://h/"), "https://a");
        assert_eq!(of(&[], "https://h/"), "none");
        assert_eq!(of(&[("https_proxy", "socks5://x")], "https://h/"), "SOCKS proxies aren't supported");
        let secret = of(&[("https_proxy", "http://user:secret@x y")], "https://h/");
        assert!(!secret.contains("secret"), "{secret}");
        for (list, url, goes) in [
            ("h", "https://h/", false),
            ("example", "https://a.example/", false),
            (".example", "https://a.example/", false),
            ("*.example:443", "https://a.example/", false),
            ("ample", "https://a.example/", true),
            ("10.0.0.0/8, x", "https://10.1.2.3/", false),
            ("10.0.0.0/8", "https://11.1.2.3/", true),
            ("::1", "https://[::1]/", false),
            ("*", "https://x/", false),
        ] {
            let found = of(&[("https_proxy", "p"), ("no_proxy", list)], url);
            assert_eq!(found != "none", goes, "{list} {url}");
        }
    }

    #[test]
    fn rfc_4648_vectors() {
        let all = ["", "f", "fo", "foo", "foob", "fooba", "foobar"].map(|t| base64(t.as_bytes()));
        assert_eq!(all, ["", "Zg==", "Zm8=", "Zm9v", "Zm9vYg==", "Zm9vYmE=", "Zm9vYmFy"]);
        assert_eq!(basic(&("Aladdin".into(), "open sesame".into())), "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
    }
}
