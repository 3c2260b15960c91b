//! How a snapshot that nobody named is called: `snapshots.pattern`.
//!
//! Incus renders the pattern as a template. A template of a user's is no place for a language that reads files
//! (CVE-2025-54287): of it two things are known here, `%d` and `{{ creation_date }}`, the latter also with the filter `date`
//! and a layout in Go's form (package time, "Layout"), and all else is refused.

use crate::base::names::SnapshotName;
use crate::error::{Context, Error, Result};
use jiff::Timestamp;

/// What stands for the next number.
const NUMBER: &str = "%d";

/// The name of the next snapshot, `taken` being those that are there. Without a place for a number a taken name gets one.
///
/// # Errors
/// Invalid: the pattern has something in it that is not known, or gives no name.
pub fn next<'a>(pattern: &str, taken: impl Iterator<Item = &'a str> + Clone, now: Timestamp) -> Result<SnapshotName> {
    let fail = || format!("Failed finding a snapshot name by the pattern {pattern:?}");
    let mut text = render(pattern, now).with_context(fail)?;
    if text.matches(NUMBER).count() > 1 {
        return Err(Error::invalid("Snapshot pattern may contain '%d' only once")).with_context(fail);
    }
    if !text.contains(NUMBER) {
        if taken.clone().all(|name| name != text) {
            return SnapshotName::parse(&text).with_context(fail);
        }
        text.push('-');
        text.push_str(NUMBER);
    }
    let (before, after) = text.split_once(NUMBER).ok_or_else(|| Error::internal("A pattern lost its number"))?;
    let number = |name: &str| name.strip_prefix(before)?.strip_suffix(after)?.parse::<u64>().ok();
    let next = taken.filter_map(number).max().map_or(0, |n| n.saturating_add(1));
    SnapshotName::parse(&format!("{before}{next}{after}")).with_context(fail)
}

/// Puts the date in.
fn render(pattern: &str, now: Timestamp) -> Result<String> {
    let mut out = String::new();
    let mut rest = pattern;
    while let Some((before, inner)) = rest.split_once("{{") {
        let (inner, after) = inner.split_once("}}").ok_or_else(|| Error::invalid("\"{{\" is not closed"))?;
        out.push_str(before);
        out.push_str(&date(inner.trim(), now)?);
        rest = after;
    }
    if rest.contains("{%") {
        return Err(Error::invalid("Only creation_date is known in it"));
    }
    out.push_str(rest);
    Ok(out)
}

fn date(expression: &str, now: Timestamp) -> Result<String> {
    let zoned = now.to_zoned(jiff::tz::TimeZone::system());
    match expression.split_once('|').map(|(name, filter)| (name.trim(), filter.trim())) {
        None if expression == "creation_date" => Ok(zoned.strftime("%Y-%m-%d_%H-%M-%S").to_string()),
        Some(("creation_date", filter)) => {
            let layout = filter.strip_prefix("date:").map(str::trim);
            let quoted = |text: &'_ str| -> Option<String> {
                let quote = text.chars().next().filter(|c| matches!(c, '\'' | '"'))?;
                text.strip_prefix(quote)?.strip_suffix(quote).map(str::to_string)
            };
            let layout =
                layout.and_then(quoted).ok_or_else(|| Error::invalid("Only the filter date:'…' is known in it"))?;
            Ok(zoned.strftime(&layout_of(&layout)).to_string())
        }
        _ => Err(Error::invalid("Only creation_date is known in it")),
    }
}

/// The strftime(3) form of a layout of Go's: the parts of its reference time, the longer before the shorter.
fn layout_of(layout: &str) -> String {
    const PARTS: [(&str, &str); 14] = [
        ("2006", "%Y"),
        ("January", "%B"),
        ("Monday", "%A"),
        ("Jan", "%b"),
        ("Mon", "%a"),
        ("MST", "%Z"),
        ("-0700", "%z"),
        ("01", "%m"),
        ("02", "%d"),
        ("15", "%H"),
        ("03", "%I"),
        ("04", "%M"),
        ("05", "%S"),
        ("06", "%y"),
    ];
    let mut out = String::new();
    let mut rest = layout;
    while let Some(c) = rest.chars().next() {
        if let Some((part, form)) = PARTS.iter().find(|(part, _)| rest.starts_with(part)) {
            out.push_str(form);
            rest = &rest[part.len()..];
        } else {
            if c == '%' {
                out.push('%');
            }
            out.push(c);
            rest = &rest[c.len_utf8()..];
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(pattern: &str, taken: &[&str]) -> Result<String> {
        next(pattern, taken.iter().copied(), Timestamp::UNIX_EPOCH).map(|n| n.to_string())
    }

    #[test]
    fn numbers_go_on_from_the_highest() {
        assert_eq!(name("snap%d", &[]).expect("name"), "snap0");
        assert_eq!(name("snap%d", &["snap0", "snap7", "snapx", "other9"]).expect("name"), "snap8");
        assert_eq!(name("a%db", &["a3b", "a9"]).expect("name"), "a4b");
        assert_eq!(name("daily", &[]).expect("name"), "daily");
        assert_eq!(name("daily", &["daily"]).expect("name"), "daily-0");
        assert_eq!(name("daily", &["daily", "daily-4"]).expect("name"), "daily-5");
    }

    #[test]
    fn dates_and_nothing_else_are_known() {
        let plain = name("{{ creation_date }}", &[]).expect("name");
        assert!(plain.starts_with("19") && plain.len() == 19, "{plain}");
        let dated = name("x-{{creation_date|date:'2006-01-02_15%04'}}-%d", &[]).expect("name");
        assert!(dated.starts_with("x-19") && dated.ends_with("-0") && dated.contains('%'), "{dated}");
        for bad in [
            "{{ creation_date",
            "{{ config }}",
            "{% include \"/etc/shadow\" %}",
            "{{ creation_date|safe }}",
            "%d%d",
            "a b",
            "a/%d",
            "",
        ] {
            assert!(name(bad, &[]).is_err(), "{bad:?}");
        }
    }
}
