//! Words of the command line: `key=value`, `remote:object`, `device,key=value`, yes and no.
//!
//! Pure parsing; the errors are Incus's.

use crate::error::{Error, Result};
use std::collections::BTreeMap;

/// Key and value pairs in the order given.
pub type Pairs = Vec<(String, String)>;

/// A list of `key=value` words, or the deprecated `key value`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assignments {
    /// The pairs.
    pub pairs: Pairs,
    /// The deprecated form was used: print [`DEPRECATED`] as a warning.
    pub deprecated: bool,
}

/// The warning for `key value`.
pub const DEPRECATED: &str = "the “<key> <value>” syntax is deprecated; please switch to the “<key>=<value>” syntax";

/// Parses `key=value …`; two words of which the first has no `=` are the deprecated form.
///
/// # Errors
/// A word without `=` elsewhere, or an empty key.
pub fn assignments(words: &[String]) -> Result<Assignments> {
    if let [key, value] = words
        && !key.contains('=')
    {
        return Ok(Assignments { pairs: vec![(key.clone(), value.clone())], deprecated: true });
    }
    let pairs = words.iter().map(|word| pair(word)).collect::<Result<_>>()?;
    Ok(Assignments { pairs, deprecated: false })
}

/// Parses one `key=value`; the value may hold further `=`.
///
/// # Errors
/// There is no `=` or no key.
pub fn pair(word: &str) -> Result<(String, String)> {
    match word.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_string(), value.to_string())),
        _ => Err(Error::invalid(format!("Bad key=value pair: {word:?}"))),
    }
}

/// Splits the words of `set`-like commands from the right: the pairs, and the object in front of them if there is one.
///
/// `config set c1 a=b`, `config set a=b` and the deprecated `config set c1 a b`, `config set a b` are told apart by where
/// the first `=` is.
///
/// # Errors
/// As [`assignments`].
pub fn object_and_assignments(words: &[String]) -> Result<(Option<String>, Assignments)> {
    // An object holds no "=" (neither names nor remotes may).
    let (object, rest) = match words {
        [first, second, ..] if !first.contains('=') && second.contains('=') => (Some(first), &words[1..]),
        [first, _, _] if !first.contains('=') => (Some(first), &words[1..]),
        _ => (None, words),
    };
    Ok((object.cloned(), assignments(rest)?))
}

/// Device overrides of `-d name,key=value …`, by device. One pair a word: the value may hold commas.
///
/// # Errors
/// A word that is not of that form.
pub fn device_overrides(words: &[String]) -> Result<BTreeMap<String, BTreeMap<String, String>>> {
    let mut devices: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
    for word in words {
        let parts = word.split_once(',').and_then(|(device, rest)| Some((device, rest.split_once('=')?)));
        let (device, (key, value)) = parts.ok_or_else(|| {
            Error::invalid(format!("Bad device override syntax, expecting <device>,<key>=<value>: {word}"))
        })?;
        devices.entry(device.to_string()).or_default().insert(key.to_string(), value.to_string());
    }
    Ok(devices)
}

/// The answer to a question that asks for the word.
pub fn is_yes(answer: &str) -> bool {
    answer.eq_ignore_ascii_case("yes")
}

/// Remotes that every configuration begins with. Only commands about images know further ones.
const REMOTES: &[&str] = &["local", "bootstrap", "images"];

/// Where an object lives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    /// Its name.
    pub remote: String,
    /// The remote was written.
    pub remote_given: bool,
    /// The part behind the colon; may be empty.
    pub name: String,
}

/// Splits `remote:object` at the first colon; without a colon it is an object of `default_remote`. What has `=` in front of
/// the colon, or `/` and is no remote, is an object as a whole.
///
/// # Errors
/// The remote is not known.
pub fn object(word: &str, default_remote: &str) -> Result<Object> {
    object_among(word, default_remote, &|name| REMOTES.contains(&name))
}

/// [`object`] with the remotes that `known` knows.
///
/// # Errors
/// As [`object`].
pub fn object_among(word: &str, default_remote: &str, known: &dyn Fn(&str) -> bool) -> Result<Object> {
    let whole = || Object { remote: default_remote.to_string(), remote_given: false, name: word.to_string() };
    let Some((remote, name)) = word.split_once(':') else { return Ok(whole()) };
    if remote.contains('=') {
        return Ok(whole());
    }
    if known(remote) {
        return Ok(Object { remote: remote.to_string(), remote_given: true, name: name.to_string() });
    }
    if remote.contains('/') {
        return Ok(whole());
    }
    Err(Error::not_found(format!("The remote \"{remote}\" doesn't exist")))
}

/// The name of an object of this host: `name` or `local:name`.
///
/// # Errors
/// The remote is not known or has no such objects, or the name is empty.
pub fn local(word: &str) -> Result<String> {
    let found = object(word, "local")?;
    if found.remote != "local" {
        return Err(Error::unsupported(format!("The remote \"{}\" only has images", found.remote)));
    }
    if found.name.is_empty() {
        return Err(Error::invalid(format!("Missing name in \"{word}\"")));
    }
    Ok(found.name)
}

/// [`local`] for each word.
///
/// # Errors
/// As [`local`].
pub fn locals(words: &[String]) -> Result<Vec<String>> {
    words.iter().map(|w| local(w)).collect()
}

/// Takes a leading `remote:` off a list of words (filters); only this host's.
///
/// # Errors
/// The remote is not known or not this host.
pub fn skip_remote(words: &[String]) -> Result<&[String]> {
    match words {
        [first, rest @ ..] if first.ends_with(':') && !first.contains('=') => {
            let found = object(first, "local")?;
            if found.remote != "local" {
                return Err(Error::unsupported(format!("The remote \"{}\" cannot be listed", found.remote)));
            }
            Ok(rest)
        }
        _ => Ok(words),
    }
}

/// [`skip_remote`] as often as there is one.
///
/// # Errors
/// As [`skip_remote`].
pub fn skip_remotes(words: &[String]) -> Result<&[String]> {
    let mut rest = words;
    loop {
        let shorter = skip_remote(rest)?;
        if shorter.len() == rest.len() {
            return Ok(rest);
        }
        rest = shorter;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words<const N: usize>(list: [&str; N]) -> Vec<String> {
        list.map(String::from).to_vec()
    }

    fn set<const N: usize>(list: [&str; N]) -> String {
        match object_and_assignments(&words(list)) {
            Ok((object, a)) => {
                let pairs: Vec<String> = a.pairs.iter().map(|(k, v)| format!("{k}={v}")).collect();
                format!("{} {}{}", object.unwrap_or_default(), pairs.join(" "), if a.deprecated { " !" } else { "" })
            }
            Err(e) => e.to_string(),
        }
    }

    #[test]
    fn set_from_the_right() {
        assert_eq!(set(["c1", "a=b", "c=d=e"]), "c1 a=b c=d=e");
        assert_eq!(set(["a=b"]), " a=b");
        assert_eq!(set(["c1", "a", "b=c"]), "c1 a=b=c !");
        assert_eq!(set(["c1", "a", "b"]), "c1 a=b !");
        assert_eq!(set(["a", "b"]), " a=b !");
        assert_eq!(set(["c1", "a="]), "c1 a=");
        assert_eq!(set(["c1", "a=b", "c"]), "Bad key=value pair: \"c\"");
        assert_eq!(set(["=x"]), "Bad key=value pair: \"=x\"");
    }

    #[test]
    fn remotes() {
        let show =
            |word: &str| object(word, "local").map_or_else(|e| e.to_string(), |o| format!("{}|{}", o.remote, o.name));
        assert_eq!(show("c1"), "local|c1");
        assert_eq!(show("local:c1"), "local|c1");
        assert_eq!(show("bootstrap:debian/12"), "bootstrap|debian/12");
        assert_eq!(show("x:c1"), "The remote \"x\" doesn't exist");
        assert_eq!(show("a=b:c"), "local|a=b:c");
        assert_eq!(show("c1/snap:1"), "local|c1/snap:1");
        assert!(local("local:").is_err() && local("bootstrap:x").is_err());
        assert_eq!(skip_remote(&words(["local:", "a:b=c"])).unwrap(), words(["a:b=c"]));
        assert_eq!(skip_remote(&words(["web"])).unwrap(), words(["web"]));
    }

    #[test]
    fn overrides() {
        let devices = device_overrides(&words(["root,size=1GiB", "root,io.bus=nvme", "d,raw=a,b=c"])).unwrap();
        assert_eq!((devices["root"]["io.bus"].as_str(), devices["d"]["raw"].as_str()), ("nvme", "a,b=c"));
        assert!(device_overrides(&words(["root"])).is_err() && device_overrides(&words(["root,x"])).is_err());
    }
}
