//! Sets of small numbers written as ranges (`0-3,8`): CPUs, NUMA nodes, VLANs. The form of the kernel's `List format`
//! (cpuset(7)).

use crate::error::{Error, Result};
use std::collections::BTreeSet;

/// Larger numbers are refused, so that a range cannot fill the memory.
const LIMIT: u32 = 65_536;

/// Reads a set; a number given twice is an error, as is an empty or reversed range.
pub fn parse(value: &str) -> Result<BTreeSet<u32>> {
    let wrong = || Error::invalid(format!("Invalid cpuset value: {value}"));
    let number = |s: &str| {
        let plain = !s.is_empty() && s.bytes().all(|c| c.is_ascii_digit());
        plain.then(|| s.parse::<u32>().ok()).flatten().filter(|n| *n < LIMIT).ok_or_else(wrong)
    };
    let mut set = BTreeSet::new();
    for chunk in value.trim_end_matches('\n').split(',') {
        let (low, high) = match chunk.split_once('-') {
            Some((low, high)) => (number(low)?, number(high)?),
            None => (number(chunk)?, number(chunk)?),
        };
        if low > high {
            return Err(wrong());
        }
        for n in low..=high {
            if !set.insert(n) {
                return Err(Error::invalid("Cannot define CPU multiple times"));
            }
        }
    }
    Ok(set)
}

/// The shortest text of a set.
pub fn format(set: &BTreeSet<u32>) -> String {
    let mut ranges: Vec<(u32, u32)> = Vec::new();
    for n in set {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == *n => *last = *n,
            _ => ranges.push((*n, *n)),
        }
    }
    let texts: Vec<String> =
        ranges.iter().map(|(a, b)| if a == b { a.to_string() } else { format!("{a}-{b}") }).collect();
    texts.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_and_shows() {
        let set = parse("0-3,8\n").expect("set");
        assert_eq!(set.iter().copied().collect::<Vec<_>>(), [0, 1, 2, 3, 8]);
        assert_eq!(format(&set), "0-3,8");
        assert_eq!(format(&parse("1-1").expect("set")), "1");
        for bad in ["", "a", "1,", "3-1", "1-2-3", "1,1", "0-2,1", "-1", "+1", "0-4294967295", "70000"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn reads_back(set in proptest::collection::btree_set(0u32..200, 1..40)) {
            prop_assert_eq!(parse(&format(&set)).ok(), Some(set));
        }

        #[test]
        fn never_panics(text in "[0-9,\\-]{0,16}") {
            let _ = parse(&text);
        }
    }
}
