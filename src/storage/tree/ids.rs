//! Which owner a file gets when a tree goes from one id map to another.
//!
//! Built by the drivers from two id maps, used by the copy. Pure. An id outside the maps stays as it is, as in Incus's
//! shifter: inside the container it shows as nobody, the same as with an id-mapped mount.

use crate::base::idmap::{IdMap, Kind};
use std::ops::Range;

/// A piece of the change: ids in `from` move to `to` and following.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Span {
    from: Range<u64>,
    to: u64,
}

/// The change of owners of a tree; empty for none.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Ids {
    uids: Vec<Span>,
    gids: Vec<Span>,
}

/// One entry of an id map: first id on disk, first id in the container, how many.
type Entry = (u32, u32, u32);

impl Ids {
    /// No change.
    pub fn none() -> Self {
        Self::default()
    }

    /// The change from the map a tree has on disk to another. An empty map: the ids on disk are the container's own.
    pub fn change(from: &IdMap, to: &IdMap) -> Self {
        let of = |map: &IdMap, kind: Kind| -> Vec<Entry> {
            if map.is_empty() {
                return vec![(0, 0, u32::MAX)];
            }
            map.entries.iter().filter(|e| e.kind == kind).map(|e| (e.host, e.ns, e.range)).collect()
        };
        let spans = |kind| compose(&of(from, kind), &of(to, kind));
        Self { uids: spans(Kind::Uid), gids: spans(Kind::Gid) }
    }

    /// Nothing changes.
    pub fn is_none(&self) -> bool {
        let same = |spans: &[Span]| spans.iter().all(|s| s.from.start == s.to);
        same(&self.uids) && same(&self.gids)
    }

    /// The user id for a file owned by `id`.
    pub fn uid(&self, id: u32) -> u32 {
        find(&self.uids, id).unwrap_or(id)
    }

    /// The group id for a file of group `id`.
    pub fn gid(&self, id: u32) -> u32 {
        find(&self.gids, id).unwrap_or(id)
    }
}

fn find(spans: &[Span], id: u32) -> Option<u32> {
    let id = u64::from(id);
    let span = spans.iter().find(|s| s.from.contains(&id))?;
    u32::try_from(span.to + (id - span.from.start)).ok()
}

/// Disk id → container id by `from`, then container id → disk id by `to`.
fn compose(from: &[Entry], to: &[Entry]) -> Vec<Span> {
    let mut spans = Vec::new();
    for &(disk, ns, range) in from {
        let (disk, ns, range) = (u64::from(disk), u64::from(ns), u64::from(range));
        for &(new_disk, to_ns, to_range) in to {
            let (new_disk, to_ns, to_range) = (u64::from(new_disk), u64::from(to_ns), u64::from(to_range));
            let low = ns.max(to_ns);
            let high = (ns + range).min(to_ns + to_range);
            if low < high {
                let from = disk + (low - ns)..disk + (high - ns);
                spans.push(Span { from, to: new_disk + (low - to_ns) });
            }
        }
    }
    spans
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(entries: &[Entry]) -> IdMap {
        let both = |&(host, ns, range): &Entry| {
            [Kind::Uid, Kind::Gid].map(|kind| crate::base::idmap::Entry { kind, host, ns, range })
        };
        IdMap { entries: entries.iter().flat_map(both).collect() }
    }

    #[test]
    fn there_and_back() {
        let map = map(&[(1_000_000, 0, 1000), (1000, 1000, 1), (1_001_001, 1001, 64_535)]);
        let there = Ids::change(&IdMap::default(), &map);
        assert_eq!(there.uid(0), 1_000_000);
        assert_eq!(there.uid(1000), 1000);
        assert_eq!(there.gid(1001), 1_001_001);
        assert_eq!(there.uid(65_536), 65_536, "outside the map it stays");
        let back = Ids::change(&map, &IdMap::default());
        for id in [0, 5, 999, 1000, 1001, 65_535] {
            assert_eq!(back.uid(there.uid(id)), id);
        }
    }

    #[test]
    fn from_one_map_to_another() {
        let (one, two, none) = (map(&[(100_000, 0, 65_536)]), map(&[(300_000, 0, 1000)]), IdMap::default());
        let change = Ids::change(&one, &two);
        assert_eq!(change.uid(100_999), 300_999);
        assert_eq!(change.uid(101_000), 101_000);
        assert!(!change.is_none());
        assert!(Ids::change(&none, &none).is_none());
        assert!(Ids::change(&one, &one).is_none());
        assert!(Ids::none().is_none());
    }
}
