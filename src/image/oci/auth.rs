//! How a registry wants to be asked: challenges (RFC 9110, section 11; RFC 6750), tokens, and where passwords are kept.

use crate::error::{Error, Result};
use serde_json::Value;
use std::io::Read;
use std::path::Path;

/// User and password; of the user [`IDENTITY`] an identity token.
pub type Login = (String, String);

/// The user that stands for an identity token in the place of a password, as docker's credential helpers say it.
pub const IDENTITY: &str = "<token>";

/// What a registry asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Challenge {
    /// User and password.
    Basic,
    /// A token, to be had from `realm`.
    Bearer {
        /// URL.
        realm: String,
        /// Whom the token is for.
        service: String,
    },
}

/// The challenge of `WWW-Authenticate` headers that we can answer; a token goes before a password.
pub fn challenge<'a>(headers: impl Iterator<Item = &'a str>) -> Option<Challenge> {
    let mut best = None;
    for (scheme, parameters) in headers.flat_map(challenges) {
        let get = |name: &str| parameters.iter().find(|(n, _)| n == name).map(|(_, v)| v.clone());
        match (scheme.as_str(), get("realm")) {
            ("bearer", Some(realm)) => {
                return Some(Challenge::Bearer { realm, service: get("service").unwrap_or_default() });
            }
            ("basic", _) => best = Some(Challenge::Basic),
            _ => {}
        }
    }
    best
}

type Parameters = Vec<(String, String)>;

/// The challenges of one header: a scheme, then `name=value` with commas between; values may be quoted.
fn challenges(mut text: &str) -> Vec<(String, Parameters)> {
    let mut all: Vec<(String, Parameters)> = Vec::new();
    let token = |b: char| b.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(b);
    loop {
        text = text.trim_start_matches([' ', '\t', ',']);
        let end = text.find(|c| !token(c)).unwrap_or(text.len());
        let (word, rest) = text.split_at(end);
        if word.is_empty() {
            return all;
        }
        let after = rest.trim_start_matches([' ', '\t']);
        let Some(value) = after.strip_prefix('=').filter(|_| !all.is_empty()) else {
            all.push((word.to_ascii_lowercase(), Vec::new()));
            text = rest;
            continue;
        };
        let Some((value, rest)) = parameter(value.trim_start_matches([' ', '\t'])) else { return all };
        if let Some((_, parameters)) = all.last_mut() {
            parameters.push((word.to_ascii_lowercase(), value));
        }
        text = rest;
    }
}

/// A value, and what follows it.
fn parameter(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([',', ' ', '\t']).unwrap_or(text.len());
        return Some((text[..end].to_string(), &text[end..]));
    };
    let mut value = String::new();
    let mut chars = quoted.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((value, &quoted[at + 1..])),
            '\\' => value.push(chars.next()?.1),
            c => value.push(c),
        }
    }
    None
}

/// The token of a token server's answer.
///
/// # Errors
/// Failed: there is none in it.
pub fn token(answer: &[u8]) -> Result<String> {
    let value: Value = serde_json::from_slice(answer).unwrap_or_default();
    let found = ["token", "access_token"].iter().find_map(|key| value[key].as_str().filter(|t| !t.is_empty()));
    let found = found.filter(|t| t.bytes().all(|b| b.is_ascii_graphic()));
    found.map(ToString::to_string).ok_or_else(|| Error::failed("The token server sends no token"))
}

/// What a credentials helper says (docker-credential-helpers' `get`).
///
/// # Errors
/// It is something else.
pub fn of_helper(answer: &[u8]) -> Result<Login> {
    let value: Value = serde_json::from_slice(answer).unwrap_or_default();
    match (value["Username"].as_str(), value["Secret"].as_str()) {
        (Some(user), Some(secret)) => Ok((user.to_string(), secret.to_string())),
        _ => Err(Error::failed("The credentials helper says no user and secret")),
    }
}

/// Where passwords are kept: files of the form of `~/.docker/config.json` (containers-auth.json(5)); the first that knows the host.
pub fn of_files<'a>(files: impl Iterator<Item = &'a Path>, host: &str) -> Option<Login> {
    files
        .filter_map(|file| {
            let mut text = Vec::new();
            std::fs::File::open(file).ok()?.take(1 << 20).read_to_end(&mut text).ok()?;
            of_file(&text, host)
        })
        .next()
}

fn of_file(text: &[u8], host: &str) -> Option<Login> {
    let value: Value = serde_json::from_slice(text).ok()?;
    let is_it = |key: &str| {
        let key = key.strip_prefix("https://").unwrap_or(key);
        let key = key.split('/').next().unwrap_or_default();
        // Docker's own place has an old name there.
        key == host || (host == "docker.io" && key == "index.docker.io")
    };
    let (_, entry) = value["auths"].as_object()?.iter().find(|(key, _)| is_it(key))?;
    if let Some(token) = entry["identitytoken"].as_str().filter(|token| !token.is_empty()) {
        return Some((IDENTITY.to_string(), token.to_string()));
    }
    let text = String::from_utf8(base64(entry["auth"].as_str()?)?).ok()?;
    let (user, password) = text.split_once(':')?;
    Some((user.to_string(), password.trim_end_matches('\0').to_string()))
}

/// Reads base64 (RFC 4648, section 4).
fn base64(text: &str) -> Option<Vec<u8>> {
    let (mut bytes, mut bits, mut have) = (Vec::new(), 0u32, 0);
    for digit in text.trim_end_matches('=').bytes() {
        let value = match digit {
            b'A'..=b'Z' => digit - b'A',
            b'a'..=b'z' => digit - b'a' + 26,
            b'0'..=b'9' => digit - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = (bits << 6 | u32::from(value)) & 0xffff;
        have += 6;
        if have >= 8 {
            have -= 8;
            bytes.push((bits >> have & 0xff) as u8);
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(headers: &[&str]) -> Option<Challenge> {
        challenge(headers.iter().copied())
    }

    #[test]
    fn challenges_as_registries_send_them() {
        let bearer =
            |realm: &str, service: &str| Some(Challenge::Bearer { realm: realm.into(), service: service.into() });
        let docker =
            r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="a:b:pull,push""#;
        assert_eq!(read(&[docker]), bearer("https://auth.docker.io/token", "registry.docker.io"));
        assert_eq!(read(&["Basic realm=\"a, b\""]), Some(Challenge::Basic));
        assert_eq!(
            read(&["Basic realm=x, Bearer realm = \"https://h/\\\"t\" , service=s"]),
            bearer("https://h/\"t", "s")
        );
        assert_eq!(read(&["Basic", "BEARER realm=https://h/t"]), bearer("https://h/t", ""));
        for none in ["", "Negotiate abc==", "Bearer", "Bearer service=x", "Bearer realm=\"open", "=,=\"", "\u{e4}"] {
            assert_eq!(read(&[none]), None, "{none}");
        }
    }

    #[test]
    fn tokens() {
        assert_eq!(token(br#"{"token": "a.b"}"#).expect("good"), "a.b");
        assert_eq!(token(br#"{"token": "", "access_token": "c"}"#).expect("good"), "c");
        for bad in ["", "{}", "[]", r#"{"token": 1}"#, r#"{"token": "a\r\nX: y"}"#] {
            assert!(token(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn passwords() {
        assert_eq!(
            of_helper(br#"{"ServerURL": "x", "Username": "u", "Secret": "s"}"#).expect("good"),
            ("u".into(), "s".into())
        );
        assert!(of_helper(b"credentials not found in native keychain").is_err());
        let file =
            br#"{"auths": {"https://index.docker.io/v1/": {"auth": "dTpwOnc="}, "h:5000": {"auth": "YTpi"}, "x": {}}}"#;
        assert_eq!(of_file(file, "docker.io"), Some(("u".into(), "p:w".into())));
        assert_eq!(of_file(file, "h:5000"), Some(("a".into(), "b".into())));
        let file =
            br#"{"auths": {"h": {"auth": "YTpi", "identitytoken": "t"}, "i": {"auth": "YTpi", "identitytoken": ""}}}"#;
        assert_eq!(of_file(file, "h"), Some((IDENTITY.into(), "t".into())));
        assert_eq!(of_file(file, "i"), Some(("a".into(), "b".into())));
        assert_eq!((of_file(file, "x"), of_file(file, "x"), of_file(b"x", "h")), (None, None, None));
    }
}
