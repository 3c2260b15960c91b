//! The order of names in tables: digit-aware, so that `c2` stands before `c10`; empty cells last.

use std::cmp::Ordering;

/// Compares two strings as Incus's tables do (the `sortorder` package it uses): runs of digits by their value, everything
/// else byte by byte; of two equal values the one with fewer leading zeros first.
pub fn compare(a: &str, b: &str) -> Ordering {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    let (mut i, mut j) = (0, 0);
    while i < a.len() && j < b.len() {
        let (x, y) = (a[i], b[j]);
        if x.is_ascii_digit() && y.is_ascii_digit() {
            let (zeros_a, zeros_b) = (zeros(&a[i..]), zeros(&b[j..]));
            let (run_a, run_b) = (digits(&a[i + zeros_a..]), digits(&b[j + zeros_b..]));
            let order = run_a.len().cmp(&run_b.len()).then_with(|| run_a.cmp(run_b)).then(zeros_a.cmp(&zeros_b));
            if order != Ordering::Equal {
                return order;
            }
            i += zeros_a + run_a.len();
            j += zeros_b + run_b.len();
        } else if x == y {
            i += 1;
            j += 1;
        } else {
            return x.cmp(&y);
        }
    }
    (a.len() - i).cmp(&(b.len() - j))
}

/// Compares two rows column by column from the left; an empty cell comes after any other.
pub fn compare_rows<S: AsRef<str>>(a: &[S], b: &[S]) -> Ordering {
    for (x, y) in a.iter().zip(b) {
        let (x, y) = (x.as_ref(), y.as_ref());
        let order = match (x.is_empty(), y.is_empty()) {
            (true, true) => Ordering::Equal,
            (true, false) => Ordering::Greater,
            (false, true) => Ordering::Less,
            (false, false) => compare(x, y),
        };
        if order != Ordering::Equal {
            return order;
        }
    }
    a.len().cmp(&b.len())
}

fn zeros(s: &[u8]) -> usize {
    s.iter().take_while(|c| **c == b'0').count()
}

fn digits(s: &[u8]) -> &[u8] {
    &s[..s.iter().take_while(|c| c.is_ascii_digit()).count()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn digits_count() {
        let mut names = vec!["c10", "c2", "c1", "c02", "b", "c", "c1a", "c1-2", "c1-10"];
        names.sort_by(|a, b| compare(a, b));
        assert_eq!(names, ["b", "c", "c1", "c1-2", "c1-10", "c1a", "c2", "c02", "c10"]);
    }

    #[test]
    fn empty_cells_last() {
        let mut rows = vec![vec!["", "b"], vec!["a", ""], vec!["a", "2"], vec!["a", "10"]];
        rows.sort_by(|a, b| compare_rows(a, b));
        assert_eq!(rows, [vec!["a", "2"], vec!["a", "10"], vec!["a", ""], vec!["", "b"]]);
    }

    proptest! {
        #[test]
        fn is_a_total_order(a in "[a0-2.]{0,6}", b in "[a0-2.]{0,6}", c in "[a0-2.]{0,6}") {
            prop_assert_eq!(compare(&a, &b), compare(&b, &a).reverse());
            if compare(&a, &b) != Ordering::Greater && compare(&b, &c) != Ordering::Greater {
                prop_assert!(compare(&a, &c) != Ordering::Greater);
            }
            prop_assert_eq!(compare(&a, &b) == Ordering::Equal, a == b);
        }
    }
}
