//! Which snapshots of ZFS's hold what volumes hold, and which come before which: what a stream can be of, and build upon.
//!
//! Used by `streams`. A clone that we make tells the snapshot it was made of ([`FROM`]), wherever that goes by `zfs promote`; what
//! was received tells the one it came with. ZFS tells what is different between a snapshot and one before it on the way to the
//! root, along which a clone follows on what it was made from (zfs-send(8)). Nothing here runs a program.

use std::collections::BTreeMap;

/// The property of a dataset that tells the snapshot, `@<name>`, that it was the same as when it was made.
pub(super) const FROM: &str = "stapes:from";
/// What [`Timeline::parse`] reads, of `zfs list -Hp -t filesystem,snapshot`.
pub(super) const COLUMNS: &str = "name,origin,createtxg,guid,stapes:from";

/// A snapshot of ZFS's.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Point {
    /// Its dataset.
    pub set: String,
    /// Its name there, `@` and all.
    pub name: String,
    /// When it was made, counted by its ZFS pool.
    pub when: u64,
    /// Its identity, here and wherever it is received.
    pub guid: u64,
}

impl Point {
    /// Its whole name.
    pub fn full(&self) -> String {
        format!("{}{}", self.set, self.name)
    }
}

#[derive(Debug)]
struct Set {
    origin: Option<String>,
    from: Option<String>,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Timeline {
    sets: BTreeMap<String, Set>,
    points: BTreeMap<String, Point>,
}

impl Timeline {
    /// Reads a list of [`COLUMNS`]; what is no line of one is left out.
    pub fn parse(text: &str) -> Self {
        let mut all = Self::default();
        let some = |word: &str| (word != "-").then(|| word.to_string());
        for line in text.lines() {
            let [name, origin, when, guid, from] = line.split('\t').collect::<Vec<_>>()[..] else { continue };
            match (name.split_once('@'), when.parse(), guid.parse()) {
                (Some((set, rest)), Ok(when), Ok(guid)) => {
                    let point = Point { set: set.to_string(), name: format!("@{rest}"), when, guid };
                    all.points.insert(name.to_string(), point);
                }
                _ => drop(all.sets.insert(name.to_string(), Set { origin: some(origin), from: some(from) })),
            }
        }
        all
    }

    fn origin(&self, set: &str) -> Option<&Point> {
        self.points.get(self.sets.get(set)?.origin.as_ref()?)
    }

    /// The snapshot that a dataset was the same as when it was made.
    fn made_of(&self, set: &str) -> Option<&Point> {
        let from = self.sets.get(set)?.from.as_ref()?;
        self.points.get(&format!("{set}{from}")).or_else(|| self.origin(set).filter(|origin| origin.name == *from))
    }

    /// The first snapshot that holds what the dataset `set` holds, which has not changed since it was made. `stays`: nobody
    /// changes what is in a dataset; what was made of one holds what that was made of.
    pub fn content(&self, set: &str, stays: impl Fn(&str) -> bool) -> Option<&Point> {
        let mut found = self.made_of(set)?;
        let mut of = set;
        while found.set != of && stays(&found.set) {
            match self.made_of(&found.set) {
                // One that came to that dataset from another one is none of what is in it.
                Some(first) if first.when < found.when => (of, found) = (&found.set, first),
                _ => break,
            }
        }
        Some(found)
    }

    /// The whole name of the last snapshot called `name` that a dataset, of which `of` is a snapshot, follows on.
    pub fn last_before(&self, of: &str, name: &str) -> Option<String> {
        let to = self.points.get(of)?;
        let before = self.points.values().filter(|point| point.name == name && self.is_before(point, to));
        before.max_by_key(|point| point.when).map(Point::full)
    }

    /// A stream of `to` can build upon `from`.
    pub fn is_before(&self, from: &Point, to: &Point) -> bool {
        let (mut set, mut before) = (&to.set, to.when);
        for _ in 0..=self.sets.len() {
            if from.set == *set {
                return from.when < before;
            }
            match self.origin(set) {
                // It is one of them.
                Some(origin) if origin.when < before => (set, before) = (&origin.set, origin.when + 1),
                _ => break,
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stays(set: &str) -> bool {
        set.starts_with("p/snaps/")
    }

    fn content(all: &Timeline, set: &str) -> Option<String> {
        all.content(set, stays).map(Point::full)
    }

    fn before(all: &Timeline, from: &str, to: &str) -> bool {
        all.is_before(&all.points[from], &all.points[to])
    }

    #[test]
    fn snapshots_of_a_volume_follow_each_other() {
        let all = Timeline::parse(
            "p/images/i\t-\t1\t1\t-\np/images/i@readonly\t-\t5\t5\t-\n\
             p/c/c1\tp/images/i@readonly\t10\t10\t-\np/c/c1@copy-1\t-\t11\t11\t-\np/c/c1@copy-2\t-\t12\t12\t-\n\
             p/c/c1@copy-3\t-\t20\t20\t-\np/snaps/s1\tp/c/c1@copy-1\t11\t1\t@copy-1\np/snaps/s2\tp/c/c1@copy-2\t12\t1\t@copy-2\n\
             p/snaps/s1@copy-4\t-\t21\t21\t@copy-1\np/snaps/c\tp/snaps/s1@copy-4\t21\t1\t@copy-4\n\
             p/snaps/last\tp/c/c1@copy-3\t20\t1\t@copy-3\np/snaps/w\tp/c/c1@copy-3\t20\t1\t@sent-1\n\
             p/snaps/w@sent-1\t-\t22\t22\t@sent-1\nnoise\n",
        );
        for (set, point) in [
            ("p/snaps/s1", "p/c/c1@copy-1"),
            ("p/snaps/s2", "p/c/c1@copy-2"),
            // A copy of a snapshot is that snapshot.
            ("p/snaps/c", "p/c/c1@copy-1"),
            ("p/snaps/last", "p/c/c1@copy-3"),
            // What was written to has one of its own.
            ("p/snaps/w", "p/snaps/w@sent-1"),
        ] {
            assert_eq!(content(&all, set).as_deref(), Some(point), "{set}");
        }
        assert_eq!((content(&all, "p/c/c1"), content(&all, "p/none")), (None, None));
        assert!(before(&all, "p/c/c1@copy-1", "p/c/c1@copy-2") && !before(&all, "p/c/c1@copy-2", "p/c/c1@copy-1"));
        assert!(before(&all, "p/c/c1@copy-2", "p/snaps/w@sent-1") && before(&all, "p/c/c1@copy-3", "p/snaps/w@sent-1"));
        assert!(before(&all, "p/images/i@readonly", "p/snaps/w@sent-1"));
        assert_eq!(all.last_before("p/c/c1@copy-3", "@readonly").as_deref(), Some("p/images/i@readonly"));
        assert_eq!(all.last_before("p/c/c1@copy-3", "@copy-4"), None);
        // Not from one branch to another.
        assert!(!before(&all, "p/snaps/s1@copy-4", "p/c/c1@copy-3") && !before(&all, "p/c/c1@copy-3", "p/c/c1@copy-3"));
    }

    /// After a restore to the first snapshot: what the volume was before is gone, and its snapshots went to the second one.
    #[test]
    fn what_was_promoted_keeps_what_it_is() {
        let all = Timeline::parse(
            "p/c/c1\tp/snaps/s1@copy-9\t30\t1\t@copy-9\np/c/c1@copy-7\t-\t40\t40\t@copy-9\n\
             p/snaps/s1\tp/snaps/s2@copy-1\t11\t1\t@copy-1\np/snaps/s1@copy-9\t-\t30\t30\t@copy-1\n\
             p/snaps/s2\t-\t12\t1\t@copy-2\np/snaps/s2@copy-1\t-\t11\t11\t@copy-2\n\
             p/snaps/c\tp/c/c1@copy-7\t40\t1\t@copy-7\n",
        );
        assert_eq!(content(&all, "p/snaps/s1").as_deref(), Some("p/snaps/s2@copy-1"));
        assert_eq!(content(&all, "p/snaps/s2"), None, "its own went");
        assert_eq!(content(&all, "p/snaps/c").as_deref(), Some("p/c/c1@copy-7"));
        assert!(before(&all, "p/snaps/s2@copy-1", "p/c/c1@copy-7"));
        // One that came with its snapshot, and one made of another snapshot than the one it follows on.
        let all = Timeline::parse(
            "p/snaps/a\t-\t1\t1\t@recv-1\np/snaps/a@recv-1\t-\t2\t7\t@recv-1\n\
             p/snaps/b\tp/snaps/a@recv-1\t3\t1\t@recv-2\np/snaps/b@recv-2\t-\t4\t8\t@recv-2\n\
             p/snaps/x\tp/snaps/a@recv-1\t3\t1\t@other\n",
        );
        assert_eq!(all.content("p/snaps/b", stays).map(|point| point.guid), Some(8));
        assert!(before(&all, "p/snaps/a@recv-1", "p/snaps/b@recv-2"));
        assert_eq!(content(&all, "p/snaps/x"), None);
    }
}
