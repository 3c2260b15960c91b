//! YAML as Incus writes and reads it.
//!
//! Reading is serde-saphyr's. Writing is our own, because scripts and eyes compare it with Incus's: fields of a struct in
//! their order, keys of a map in Go's order, two spaces, sequences not indented below their key, strings quoted when they
//! would read as another type, many-line strings as literal blocks, lines never folded.

mod emit;
mod nil;
mod tree;

pub use nil::{GoList, GoMap};

use crate::error::{Error, Result};
use serde::de::{DeserializeOwned, Deserializer};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Larger documents are refused: nothing a person edits or an image carries comes near it.
pub const MAX_BYTES: usize = 1 << 20;

/// Writes a value as one document, with a final newline.
pub fn to_string<T: Serialize + ?Sized>(value: &T) -> Result<String> {
    let node = tree::build(value).map_err(|e| Error::internal("Failed writing YAML").caused_by(e))?;
    Ok(emit::document(&node))
}

/// Reads one document of at most [`MAX_BYTES`].
pub fn from_str<T: DeserializeOwned>(text: &str) -> Result<T> {
    if text.len() > MAX_BYTES {
        return Err(Error::invalid("YAML document is too large"));
    }
    // Behind a trait object: what the reader makes of each type that is read would be a twentieth of the program.
    let read = |d: serde_saphyr::Deserializer<'_, '_>| {
        erased_serde::deserialize(&mut <dyn erased_serde::Deserializer>::erase(d)).map_err(serde::de::Error::custom)
    };
    serde_saphyr::with_deserializer_from_str(text, read).map_err(|e| Error::invalid(told(&e.to_string())))
}

/// What the reader says is wrong, the place first and once: each level of the document has put its own behind it, and the text
/// itself stands below the first line.
fn told(message: &str) -> String {
    let first = message.lines().next().unwrap_or_default().trim_start_matches("error: ");
    let mut parts = first.split(" at line ");
    match (parts.next(), parts.next()) {
        (Some(what), Some(place)) => format!("line {}: {what}", place.replace(", column", " column")),
        _ => first.to_string(),
    }
}

/// For `deserialize_with`: a string, where null is the empty string as in Go.
pub fn text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    Ok(Option::<String>::deserialize(deserializer)?.unwrap_or_default())
}

/// For `deserialize_with`: a map of strings whose values may be written as numbers, booleans or null; they are kept as
/// written. (JSON text is YAML too: read it with [`from_str`] where such values must pass.)
pub fn config<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<String, String>, D::Error> {
    let map = Option::<BTreeMap<String, Option<String>>>::deserialize(deserializer)?.unwrap_or_default();
    Ok(map.into_iter().map(|(k, v)| (k, v.unwrap_or_default())).collect())
}

/// For `deserialize_with`: [`config`] one level deeper.
pub fn devices<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<BTreeMap<String, BTreeMap<String, String>>, D::Error> {
    let map = Option::<BTreeMap<String, Option<Device>>>::deserialize(deserializer)?.unwrap_or_default();
    Ok(map.into_iter().map(|(k, v)| (k, v.map(|d| d.0).unwrap_or_default())).collect())
}

/// For `deserialize_with`: a list, where null is the empty list.
pub fn list<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Vec<T>, D::Error> {
    Ok(Option::<Vec<T>>::deserialize(deserializer)?.unwrap_or_default())
}

#[derive(Deserialize)]
struct Device(#[serde(deserialize_with = "config")] BTreeMap<String, String>);

/// Is it a YAML document whose top is a mapping (or empty)?
pub fn is_mapping(text: &str) -> Result<()> {
    struct Mapping;
    impl<'de> Deserialize<'de> for Mapping {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            let skip = BTreeMap::<String, serde::de::IgnoredAny>::deserialize(deserializer)?;
            drop(skip);
            Ok(Self)
        }
    }
    from_str::<Option<Mapping>>(text).map(drop)
}

#[cfg(test)]
mod tests;
