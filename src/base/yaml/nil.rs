//! Go's lists and maps can be nil, and Go writes nil as `null` in JSON but as `[]` and `{}` in YAML. These two types do the
//! same, for fields of Incus's objects that are nil when there is nothing.

use serde::{Serialize, Serializer};
use std::collections::BTreeMap;

/// Name under which a nil list reaches a serializer.
pub(super) const LIST: &str = "$stapes::nil-list";
/// Name under which a nil map reaches a serializer.
pub(super) const MAP: &str = "$stapes::nil-map";

/// A list that is nil when empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GoList<T>(pub Vec<T>);

/// A map that can be nil.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GoMap<V>(pub Option<BTreeMap<String, V>>);

impl<T> Default for GoList<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<V> Default for GoMap<V> {
    fn default() -> Self {
        Self(None)
    }
}

impl<T: Serialize> Serialize for GoList<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let list = (!self.0.is_empty()).then_some(&self.0);
        serializer.serialize_newtype_struct(LIST, &list)
    }
}

impl<V: Serialize> Serialize for GoMap<V> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_newtype_struct(MAP, &self.0)
    }
}
