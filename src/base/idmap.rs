//! User and group id maps: what a user namespace maps, Incus's JSON form of it, and `raw.idmap`.
//!
//! Pure arithmetic; who owns which host range is `host::subids`' matter, who gets which is `store`'s.

use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::fmt::Write;

/// Which ids an entry maps. Incus's "both" entries are kept as two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// User ids.
    Uid,
    /// Group ids.
    Gid,
}

/// `range` ids from `ns` on inside are those from `host` on outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Entry {
    /// Users or groups.
    pub kind: Kind,
    /// First id outside.
    pub host: u32,
    /// First id inside.
    pub ns: u32,
    /// How many, at least 1.
    pub range: u32,
}

impl Entry {
    fn host_end(&self) -> u64 {
        u64::from(self.host) + u64::from(self.range)
    }

    fn ns_end(&self) -> u64 {
        u64::from(self.ns) + u64::from(self.range)
    }

    fn hosts_overlap(&self, other: &Entry) -> bool {
        u64::from(self.host) < other.host_end() && u64::from(other.host) < self.host_end()
    }

    fn inside_overlaps(&self, other: &Entry) -> bool {
        u64::from(self.ns) < other.ns_end() && u64::from(other.ns) < self.ns_end()
    }

    /// An entry must not be empty, nor reach the id 4294967295, which means "none" to the kernel.
    fn check(self) -> Result<Self> {
        let end = u64::from(u32::MAX);
        if self.range == 0 || self.host_end() > end || self.ns_end() > end {
            return Err(Error::invalid("Bad mapping: id wraparound"));
        }
        Ok(self)
    }
}

/// A whole map.
#[derive(Debug, Clone, PartialEq, Eq, Default, Hash)]
pub struct IdMap {
    /// In Incus's order: as they were added.
    pub entries: Vec<Entry>,
}

#[derive(Serialize, Deserialize)]
struct JsonEntry {
    #[serde(rename = "Isuid")]
    is_uid: bool,
    #[serde(rename = "Isgid")]
    is_gid: bool,
    #[serde(rename = "Hostid")]
    host: i64,
    #[serde(rename = "Nsid")]
    ns: i64,
    #[serde(rename = "Maprange")]
    range: i64,
}

impl IdMap {
    /// The usual map: `range` users and as many groups from 0 on inside, from `host` on outside.
    pub fn simple(host: u32, range: u32) -> Result<Self> {
        let entry = |kind| Entry { kind, host, ns: 0, range }.check();
        Ok(Self { entries: vec![entry(Kind::Uid)?, entry(Kind::Gid)?] })
    }

    /// Nothing is mapped, as in a privileged container.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Adds an entry, splitting the one it falls into. An error if its host ids are mapped already, or if it covers ids
    /// inside that only part of an existing entry maps.
    pub fn insert(&mut self, new: Entry) -> Result<()> {
        new.check()?;
        if self.entries.iter().any(|e| e.kind == new.kind && e.hosts_overlap(&new)) {
            return Err(Error::invalid("Host ID is in the range of subids"));
        }
        let mut result = Vec::with_capacity(self.entries.len() + 2);
        let mut added = false;
        for e in &self.entries {
            if e.kind != new.kind || !e.inside_overlaps(&new) {
                result.push(*e);
                continue;
            }
            let below = new.ns.saturating_sub(e.ns);
            if below > 0 {
                result.push(Entry { range: below, ..*e });
            }
            if !added {
                added = true;
                result.push(new);
            }
            let above = e.ns_end().saturating_sub(new.ns_end());
            if above > 0 {
                // Both ends lie in the entry, so these stay within u32.
                let skip = u64::from(e.range) - above;
                let at = |base: u32| u32::try_from(u64::from(base) + skip).map_err(|_| Error::internal("Id map split"));
                let range = u32::try_from(above).map_err(|_| Error::internal("Id map split"))?;
                result.push(Entry { kind: e.kind, host: at(e.host)?, ns: at(e.ns)?, range });
            }
        }
        if !added {
            result.push(new);
        }
        self.entries = result;
        Ok(())
    }

    /// Adds every entry of `other` ([`Self::insert`]).
    pub fn insert_all(&mut self, other: &IdMap) -> Result<()> {
        other.entries.iter().try_for_each(|e| self.insert(*e))
    }

    /// Reads `raw.idmap`: lines `uid|gid|both <host> <inside>`, ids single or `first-last`.
    pub fn parse_raw(value: &str) -> Result<Self> {
        let mut map = Self::default();
        for line in value.lines().filter(|l| !l.is_empty()) {
            let words: Vec<&str> = line.split(' ').collect();
            let [kind, host, ns] = words[..] else {
                return Err(Error::invalid(format!("Invalid ID map line: {line}")));
            };
            let (host, host_size) = raw_range(host)?;
            let (ns, range) = raw_range(ns)?;
            if host_size != range {
                return Err(Error::invalid(format!("The ID map ranges are of different sizes: {line}")));
            }
            let kinds: &[Kind] = match kind {
                "uid" => &[Kind::Uid],
                "gid" => &[Kind::Gid],
                "both" => &[Kind::Uid, Kind::Gid],
                _ => return Err(Error::invalid(format!("Invalid ID map type: {line}"))),
            };
            for kind in kinds {
                map.insert(Entry { kind: *kind, host, ns, range })?;
            }
        }
        Ok(map)
    }

    fn shift(&self, kind: Kind, id: u32, from: impl Fn(&Entry) -> u32, to: impl Fn(&Entry) -> u32) -> Option<u32> {
        let entry = self.entries.iter().filter(|e| e.kind == kind).find(|e| id >= from(e) && id - from(e) < e.range)?;
        Some(to(entry) + (id - from(entry)))
    }

    /// The host's user id of one inside.
    pub fn to_host_uid(&self, ns: u32) -> Option<u32> {
        self.shift(Kind::Uid, ns, |e| e.ns, |e| e.host)
    }

    /// The host's group id of one inside.
    pub fn to_host_gid(&self, ns: u32) -> Option<u32> {
        self.shift(Kind::Gid, ns, |e| e.ns, |e| e.host)
    }

    /// The user id inside of one of the host.
    pub fn to_ns_uid(&self, host: u32) -> Option<u32> {
        self.shift(Kind::Uid, host, |e| e.host, |e| e.ns)
    }

    /// The group id inside of one of the host.
    pub fn to_ns_gid(&self, host: u32) -> Option<u32> {
        self.shift(Kind::Gid, host, |e| e.host, |e| e.ns)
    }

    fn proc_text(&self, kind: Kind) -> String {
        let mut out = String::new();
        for e in self.entries.iter().filter(|e| e.kind == kind) {
            let _ = writeln!(out, "{} {} {}", e.ns, e.host, e.range);
        }
        out
    }

    /// Text for `/proc/PID/uid_map` (user_namespaces(7)).
    pub fn uid_map(&self) -> String {
        self.proc_text(Kind::Uid)
    }

    /// Text for `/proc/PID/gid_map` (user_namespaces(7)).
    pub fn gid_map(&self) -> String {
        self.proc_text(Kind::Gid)
    }

    /// Incus's JSON form, as `volatile.idmap.next` holds it; `[]` for no map.
    pub fn to_json(&self) -> String {
        let entries: Vec<JsonEntry> = self.entries.iter().map(JsonEntry::from).collect();
        serde_json::to_string(&entries).expect("plain numbers and booleans always serialise")
    }

    /// Reads [`Self::to_json`]'s form; entries for both users and groups become two.
    pub fn from_json(text: &str) -> Result<Self> {
        let wrong = || Error::invalid("Invalid ID map");
        let entries: Vec<JsonEntry> = serde_json::from_str(text).map_err(|e| wrong().caused_by(e))?;
        let mut map = Self::default();
        for e in entries {
            let number = |n: i64| u32::try_from(n).map_err(|_| wrong());
            let (host, ns, range) = (number(e.host)?, number(e.ns)?, number(e.range)?);
            for (kind, wanted) in [(Kind::Uid, e.is_uid), (Kind::Gid, e.is_gid)] {
                if wanted {
                    map.entries.push(Entry { kind, host, ns, range }.check()?);
                }
            }
        }
        Ok(map)
    }
}

impl From<&Entry> for JsonEntry {
    fn from(e: &Entry) -> Self {
        let (is_uid, is_gid) = (e.kind == Kind::Uid, e.kind == Kind::Gid);
        Self { is_uid, is_gid, host: e.host.into(), ns: e.ns.into(), range: e.range.into() }
    }
}

fn raw_range(text: &str) -> Result<(u32, u32)> {
    let wrong = || Error::invalid(format!("Invalid ID map range: {text}"));
    let number = |s: &str| {
        let plain = !s.is_empty() && s.bytes().all(|c| c.is_ascii_digit());
        plain.then(|| s.parse::<u32>().ok()).flatten().ok_or_else(wrong)
    };
    match text.split_once('-') {
        None => Ok((number(text)?, 1)),
        Some((first, last)) => {
            let (first, last) = (number(first)?, number(last)?);
            let size = last.checked_sub(first).and_then(|n| n.checked_add(1)).ok_or_else(wrong)?;
            Ok((first, size))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn uid(host: u32, ns: u32, range: u32) -> Entry {
        Entry { kind: Kind::Uid, host, ns, range }
    }

    #[test]
    fn splits_as_incus() {
        let base = || IdMap { entries: vec![uid(1000, 0, 1000)] };
        let mut middle = base();
        middle.insert(uid(500, 500, 10)).expect("insert");
        assert_eq!(middle.entries, [uid(1000, 0, 500), uid(500, 500, 10), uid(1510, 510, 490)]);
        let mut low = base();
        low.insert(uid(500, 0, 10)).expect("insert");
        assert_eq!(low.entries, [uid(500, 0, 10), uid(1010, 10, 990)]);
        let mut high = base();
        high.insert(uid(500, 995, 10)).expect("insert");
        assert_eq!(high.entries, [uid(1000, 0, 995), uid(500, 995, 10)]);
        assert!(base().insert(uid(1999, 5000, 1)).is_err());
        assert!(base().insert(uid(5000, 5000, 0)).is_err());
        assert!(base().insert(uid(u32::MAX - 1, 5000, 2)).is_err());
    }

    #[test]
    fn raw() {
        let mut map = IdMap::simple(1_000_000, 65536).expect("map");
        map.insert_all(&IdMap::parse_raw("both 1000 0\nuid 5-10 20-25\n").expect("raw")).expect("insert");
        assert_eq!(map.to_host_uid(0), Some(1000));
        assert_eq!(map.to_host_gid(0), Some(1000));
        assert_eq!((map.to_host_uid(22), map.to_host_gid(22)), (Some(7), Some(1_000_022)));
        assert_eq!((map.to_host_uid(26), map.to_host_uid(65536)), (Some(1_000_026), None));
        assert_eq!(map.gid_map(), "0 1000 1\n1 1000001 65535\n");
        for bad in [
            "both 1000",
            "both 1-2 3",
            "x 1 2",
            "uid 2-1 2-1",
            "uid a 1",
            "uid 1-2-3 4-6",
            "uid -1 0",
            "uid 1  0",
            "uid 4294967295 0",
        ] {
            assert!(IdMap::parse_raw(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn json() {
        let map = IdMap::simple(1_000_000, 1_000_000_000).expect("map");
        let text = "[{\"Isuid\":true,\"Isgid\":false,\"Hostid\":1000000,\"Nsid\":0,\"Maprange\":1000000000},\
                    {\"Isuid\":false,\"Isgid\":true,\"Hostid\":1000000,\"Nsid\":0,\"Maprange\":1000000000}]";
        assert_eq!(map.to_json(), text);
        assert_eq!(IdMap::from_json(text).expect("map"), map);
        assert_eq!(IdMap::default().to_json(), "[]");
        assert!(IdMap::from_json("[]").expect("map").is_empty());
        assert!(
            IdMap::from_json("[{\"Isuid\":true,\"Isgid\":false,\"Hostid\":-1,\"Nsid\":0,\"Maprange\":1}]").is_err()
        );
        let both = "[{\"Isuid\":true,\"Isgid\":true,\"Hostid\":7,\"Nsid\":0,\"Maprange\":1}]";
        assert_eq!(IdMap::from_json(both).expect("map").entries.len(), 2);
    }

    proptest! {
        /// After any insertions no two entries overlap inside, and what was inserted last is what is looked up.
        #[test]
        fn stays_disjoint(items in proptest::collection::vec((0u32..300, 1u32..60), 1..6)) {
            let mut map = IdMap::simple(1_000_000, 256).expect("map");
            for (i, (ns, range)) in items.iter().enumerate() {
                let host = 2_000_000 + 1000 * u32::try_from(i).expect("small");
                map.insert(uid(host, *ns, *range)).expect("insert");
                prop_assert_eq!(map.to_host_uid(*ns), Some(host));
                prop_assert_eq!(map.to_host_uid(ns + range - 1), Some(host + range - 1));
            }
            for (i, a) in map.entries.iter().enumerate() {
                for b in &map.entries[i + 1..] {
                    prop_assert!(a.kind != b.kind || (!a.inside_overlaps(b) && !a.hosts_overlap(b)));
                }
            }
            for id in 0..256 {
                let host = map.to_host_uid(id).expect("still mapped");
                prop_assert_eq!(map.to_ns_uid(host), Some(id));
            }
        }

        #[test]
        fn raw_never_panics(text in "(uid|gid|both|x)( [0-9-]{0,12}){0,3}") {
            let _ = IdMap::parse_raw(&text);
        }
    }
}
