//! Which host ids containers may use: root's entries in `/etc/subuid` and `/etc/subgid` (subuid(5)), or Incus's default
//! where there are none. The files are read as they are; no NSS.

use crate::error::{Context, Error, Result};

/// First id and size used where root has no entry.
pub const DEFAULT: Range = Range { base: 1_000_000, size: 1_000_000_000 };
/// The least a container can do with.
pub const MINIMUM: u32 = 65536;

/// A range of host ids, used for users and groups alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    /// First id.
    pub base: u32,
    /// How many.
    pub size: u32,
}

/// The range for containers of root.
///
/// # Errors
/// [`crate::error::Kind::Unsupported`] if only one of the files has an entry, or the ranges do not agree.
pub fn range() -> Result<Range> {
    let wanted = choose(&read("/etc/subuid")?, &read("/etc/subgid")?)?;
    within(wanted, &mapped(&read("/proc/self/uid_map")?), &mapped(&read("/proc/self/gid_map")?))
}

/// The ids that exist here: the first column and the last of user_namespaces(7)'s maps.
fn mapped(text: &str) -> Vec<Range> {
    let line = |line: &str| {
        let mut fields = line.split_ascii_whitespace();
        let base = fields.next()?.parse().ok()?;
        Some(Range { base, size: fields.nth(1)?.parse().ok()? })
    };
    text.lines().filter_map(line).collect()
}

/// True inside a container: not all user ids exist here (user_namespaces(7)).
pub fn in_user_namespace() -> bool {
    let all = |r: &Range| (r.base, r.size) == (0, u32::MAX);
    read("/proc/self/uid_map").is_ok_and(|text| !mapped(&text).iter().any(all))
}

/// What of `wanted` exists: inside a container that is less. Where nothing of Incus's default exists, it is what lies beyond
/// the ids that the container needs itself.
fn within(wanted: Range, uids: &[Range], gids: &[Range]) -> Result<Range> {
    let both = || uids.iter().flat_map(|u| gids.iter().filter_map(|g| common(*u, *g)));
    let largest = |of: Range| both().filter_map(|r| common(r, of)).max_by_key(|r| r.size).filter(|r| r.size >= MINIMUM);
    let beyond = Range { base: MINIMUM, size: u32::MAX - MINIMUM };
    let found = largest(wanted).or_else(|| largest(beyond).filter(|_| wanted == DEFAULT));
    found.ok_or_else(|| {
        Error::unsupported("There are no 65536 user and group ids left for containers in here")
            .hint("give the container around it more: security.idmap.size=131072 or more")
    })
}

fn read(path: &str) -> Result<String> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(text),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
        Err(e) => Err(e).with_context(|| format!("Failed reading \"{path}\"")),
    }
}

fn choose(uids: &str, gids: &str) -> Result<Range> {
    let (uids, gids) = (ranges(uids), ranges(gids));
    if uids.is_empty() && gids.is_empty() {
        return Ok(DEFAULT);
    }
    // One range serves both: the largest common part.
    let both = uids.iter().flat_map(|u| gids.iter().filter_map(|g| common(*u, *g))).max_by_key(|r| r.size);
    both.filter(|r| r.size >= MINIMUM).ok_or_else(|| {
        Error::unsupported("root's ranges in /etc/subuid and /etc/subgid have no 65536 ids in common")
            .hint("give root the same range in both files, for example root:1000000:1000000000")
    })
}

fn common(a: Range, b: Range) -> Option<Range> {
    let base = a.base.max(b.base);
    let end = (u64::from(a.base) + u64::from(a.size)).min(u64::from(b.base) + u64::from(b.size));
    let size = u32::try_from(end.checked_sub(u64::from(base))?).ok()?;
    Some(Range { base, size })
}

/// Root's entries: `root:base:size` or `0:base:size`.
fn ranges(text: &str) -> Vec<Range> {
    text.lines()
        .filter_map(|line| {
            let mut fields = line.trim().split(':');
            let user = fields.next()?;
            let range = Range { base: fields.next()?.parse().ok()?, size: fields.next()?.parse().ok()? };
            let sane = range.base > 0 && u64::from(range.base) + u64::from(range.size) <= u64::from(u32::MAX);
            (matches!(user, "root" | "0") && sane).then_some(range)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inside_a_container_only_its_ids_count() {
        let host = mapped("         0          0 4294967295\n");
        assert_eq!(within(DEFAULT, &host, &host).expect("all"), DEFAULT);
        let large = mapped("0 1000000 1000000000\n");
        let inside = within(DEFAULT, &large, &large).expect("the most of it");
        assert_eq!(inside, Range { base: 1_000_000, size: 999_000_000 });
        let small = mapped("0 1000000 200000\n");
        assert_eq!(within(DEFAULT, &small, &small).expect("beyond"), Range { base: 65536, size: 134_464 });
        let told = Range { base: 100_000, size: 65536 };
        assert_eq!(within(told, &small, &small).expect("as told"), told);
        let tiny = mapped("0 1000000 65536\n");
        assert!(within(DEFAULT, &tiny, &tiny).is_err());
        assert!(within(told, &tiny, &tiny).is_err(), "never others than those that were given");
        assert!(within(DEFAULT, &large, &tiny).is_err());
    }

    #[test]
    fn default_root_and_disagreement() {
        assert_eq!(choose("", "").expect("default"), DEFAULT);
        assert_eq!(choose("joe:1:65536\n", "").expect("default"), DEFAULT);
        let r = choose("root:100000:65536\nroot:1000000:1000000000\n", "root:1000000:1000000000\n").expect("common");
        assert_eq!(r, Range { base: 1_000_000, size: 1_000_000_000 });
        assert!(choose("root:100000:65536\n", "").is_err());
        assert!(choose("root:100000:65536\n", "root:900000:65536\n").is_err());
    }
}
