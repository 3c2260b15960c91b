//! Names of images in registries: `[folder/]name[:tag][@digest]`, and digests.
//!
//! What is read here becomes part of URLs and of file names: the characters are those of the distribution specification and
//! nothing else.

use crate::base::digest::Hasher;
use crate::error::{Error, Result};
use sha2::digest::Update;

/// A digest (image-spec 1.1, "Digests"): algorithm and digits, sha256 or sha512.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(String);

impl Digest {
    /// Reads `sha256:` and 64 digits, or `sha512:` and 128.
    ///
    /// # Errors
    /// Invalid.
    pub fn parse(text: &str) -> Result<Self> {
        let bad = || Error::invalid(format!("Bad digest {:?}", text.chars().take(200).collect::<String>()));
        let (length, hex) = match text.split_once(':') {
            Some(("sha256", hex)) => (64, hex),
            Some(("sha512", hex)) => (128, hex),
            _ => return Err(bad()),
        };
        let good = hex.len() == length && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if good { Ok(Self(hex.to_string())) } else { Err(bad()) }
    }

    /// Of some bytes, with sha256.
    pub fn of(bytes: &[u8]) -> Self {
        Self(String::new()).again(bytes)
    }

    /// Of other bytes, with the same algorithm.
    #[must_use]
    pub fn again(&self, bytes: &[u8]) -> Self {
        let mut hash = self.hasher();
        hash.update(bytes);
        Self::end(hash)
    }

    /// Compares it with some bytes.
    ///
    /// # Errors
    /// Invalid: it is that of others.
    pub fn check(&self, bytes: &[u8]) -> Result<()> {
        match self.again(bytes) {
            same if same == *self => Ok(()),
            got => Err(Error::invalid(format!("Hash mismatch: {got} != {self}"))),
        }
    }

    /// A hash with the same algorithm.
    pub fn hasher(&self) -> Hasher {
        Hasher::like(&self.0)
    }

    /// Of what went into a hash.
    pub fn end(hash: Hasher) -> Self {
        Self(hash.hex())
    }

    /// The digits.
    pub fn hex(&self) -> &str {
        &self.0
    }

    /// Its algorithm's name.
    pub fn algorithm(&self) -> &'static str {
        if self.0.len() == 128 { "sha512" } else { "sha256" }
    }
}

impl std::fmt::Display for Digest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.algorithm(), self.0)
    }
}

/// An image in a registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    /// With the folders.
    pub repository: String,
    /// Tag; of no account beside a digest.
    pub tag: Option<String>,
    /// Which one exactly.
    pub digest: Option<Digest>,
}

/// Longest name of a repository, bytes.
const REPOSITORY_MAX: usize = 255;

impl Reference {
    /// Reads `name[:tag][@digest]`. Without tag and digest `latest` is meant; beside a digest the tag is dropped.
    ///
    /// # Errors
    /// Invalid.
    pub fn parse(text: &str) -> Result<Self> {
        let bad = || Error::invalid(format!("Invalid image name {:?}", text.chars().take(300).collect::<String>()));
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(Digest::parse(digest)?)),
            None => (text, None),
        };
        let (repository, tag) = match rest.split_once(':') {
            Some((repository, tag)) => (repository, Some(tag)),
            None => (rest, None),
        };
        let sound = repository.len() <= REPOSITORY_MAX && repository.split('/').all(is_component);
        if !sound || !tag.is_none_or(is_tag) {
            return Err(bad());
        }
        let tag = match &digest {
            Some(_) => None,
            None => Some(tag.unwrap_or("latest").to_string()),
        };
        Ok(Self { repository: repository.to_string(), tag, digest })
    }

    /// What of the repository is meant: the digest, else the tag.
    pub fn wanted(&self) -> String {
        self.digest.as_ref().map_or_else(|| self.tag.clone().unwrap_or_default(), ToString::to_string)
    }
}

/// Small letters and digits, joined by one `.`, one or two `_`, or any number of `-`.
fn is_component(text: &str) -> bool {
    let alphanumeric = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let ends = |b: Option<u8>| b.is_some_and(alphanumeric);
    let mut joints = text.split(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
    ends(text.bytes().next())
        && ends(text.bytes().next_back())
        && joints.all(|joint| matches!(joint, "" | "." | "_" | "__") || joint.bytes().all(|b| b == b'-'))
}

/// A tag's name.
pub fn is_tag(text: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    (1..=128).contains(&text.len())
        && text.bytes().next().is_some_and(word)
        && text.bytes().all(|b| word(b) || matches!(b, b'.' | b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn names_tags_and_digests() {
        let read = |text: &str| Reference::parse(text).map(|r| format!("{} {}", r.repository, r.wanted())).ok();
        assert_eq!(read("nginx").as_deref(), Some("nginx latest"));
        assert_eq!(read("a/b-c__d.e/f:V1.0_x").as_deref(), Some("a/b-c__d.e/f V1.0_x"));
        // A tag beside a digest says nothing.
        for text in [format!("nginx@{DIGEST}"), format!("nginx:1.2@{DIGEST}")] {
            assert_eq!(read(&text), Some(format!("nginx {DIGEST}")));
            assert_eq!(Reference::parse(&text).expect("good").tag, None);
        }
        assert_eq!(Digest::of(b"").to_string(), DIGEST);
        let long = format!("sha512:{}", "0a".repeat(64));
        assert_eq!(read(&format!("nginx@{long}")), Some(format!("nginx {long}")));
        let other = Digest::parse(&long).expect("good").again(b"abc").to_string();
        assert!(other.starts_with("sha512:ddaf35a193617aba"), "{other}");
    }

    #[test]
    fn cve_2026_48769_names_by_form() {
        let long = "a".repeat(256);
        for bad in [
            "",
            "/",
            "a/",
            "/a",
            "a//b",
            "../b",
            "a/../b",
            "A",
            "a b",
            "a:",
            "a:-x",
            "a:b:c",
            "a:b/c",
            "a@",
            "a@sha256:x",
            "-a",
            "a-",
            "a..b",
            "a___b",
            "a%2fb",
            "a?b",
            "a#b",
            "\u{e4}",
            "a\n",
            &long,
            &format!("a:{}", "t".repeat(129)),
            &format!("a@{}", DIGEST.to_uppercase()),
            &format!("a@{DIGEST}0"),
            &format!("a@sha512:{DIGEST}"),
            &format!("a@{}", DIGEST.replace("256", "512")),
            &format!("a@sha256:{}", "0".repeat(128)),
            &format!("a@sha384:{}", "0".repeat(96)),
        ] {
            assert!(Reference::parse(bad).is_err(), "{bad:?}");
        }
    }
}
