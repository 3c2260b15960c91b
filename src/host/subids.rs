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
    choose(&read("/etc/subuid")?, &read("/etc/subgid")?)
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
    fn default_root_and_disagreement() {
        assert_eq!(choose("", "").expect("default"), DEFAULT);
        assert_eq!(choose("joe:1:65536\n", "").expect("default"), DEFAULT);
        let r = choose("root:100000:65536\nroot:1000000:1000000000\n", "root:1000000:1000000000\n").expect("common");
        assert_eq!(r, Range { base: 1_000_000, size: 1_000_000_000 });
        assert!(choose("root:100000:65536\n", "").is_err());
        assert!(choose("root:100000:65536\n", "root:900000:65536\n").is_err());
    }
}
