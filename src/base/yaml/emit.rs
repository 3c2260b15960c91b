//! From the tree to text, by the rules of Go's YAML library in its version 2 form (public repository yaml/go-yaml:
//! `internal/libyaml/{representer,resolver,emitter}.go`).

use super::tree::Node;
use std::cmp::Ordering;
use std::fmt::Write;

/// The document's text.
pub fn document(node: &Node) -> String {
    let mut out = String::new();
    match node {
        Node::Map(entries) if !entries.is_empty() => map(&mut out, entries, 0),
        Node::List(items) if !items.is_empty() => list(&mut out, items, 0),
        other => {
            scalar(&mut out, other, 0);
            out.push('\n');
        }
    }
    out
}

fn pad(out: &mut String, indent: usize) {
    out.extend(std::iter::repeat_n(' ', indent));
}

fn map(out: &mut String, entries: &[(String, Node)], indent: usize) {
    for (i, (key, value)) in entries.iter().enumerate() {
        // The first line of a map in a sequence stands behind the dash.
        if i > 0 || out.is_empty() || out.ends_with('\n') {
            pad(out, indent);
        }
        if key.contains('\n') {
            double_quoted(out, key)
        } else {
            text(out, key, 0)
        }
        out.push(':');
        child(out, value, indent);
    }
}

fn list(out: &mut String, items: &[Node], indent: usize) {
    for item in items {
        pad(out, indent);
        out.push('-');
        match item {
            Node::Map(entries) if !entries.is_empty() => {
                out.push(' ');
                map(out, entries, indent + 2);
            }
            Node::List(inner) if !inner.is_empty() => {
                let mut nested = String::new();
                list(&mut nested, inner, indent + 2);
                out.push(' ');
                out.push_str(&nested[indent + 2..]);
            }
            other => child(out, other, indent),
        }
    }
}

/// What stands behind a colon or a dash, up to the line's end.
fn child(out: &mut String, value: &Node, indent: usize) {
    match value {
        Node::Map(entries) if !entries.is_empty() => {
            out.push('\n');
            map(out, entries, indent + 2);
        }
        Node::List(items) if !items.is_empty() => {
            out.push('\n');
            list(out, items, indent);
        }
        other => {
            out.push(' ');
            scalar(out, other, indent);
            if !out.ends_with('\n') {
                out.push('\n');
            }
        }
    }
}

fn scalar(out: &mut String, node: &Node, indent: usize) {
    match node {
        Node::Plain(value) => out.push_str(value),
        Node::Text(value) => text(out, value, indent),
        Node::List(_) => out.push_str("[]"),
        Node::Map(_) => out.push_str("{}"),
    }
}

fn text(out: &mut String, value: &str, indent: usize) {
    let facts = Facts::of(value);
    if value.contains('\n') {
        if value.trim().is_empty() || !facts.block_allowed {
            double_quoted(out, value)
        } else {
            literal(out, value, indent)
        }
    } else if reads_as_other(value) || facts.special || value.contains('\t') {
        double_quoted(out, value);
    } else if facts.plain_allowed {
        out.push_str(value);
    } else {
        let _ = write!(out, "'{}'", value.replace('\'', "''"));
    }
}

fn literal(out: &mut String, value: &str, indent: usize) {
    out.push('|');
    // Go looks at the first line only and so loses the indentation of "\n x".
    if value.trim_start_matches('\n').starts_with(' ') {
        out.push('2');
    }
    match value.strip_suffix('\n') {
        None => out.push('-'),
        Some(rest) if rest.is_empty() || rest.ends_with('\n') => out.push('+'),
        Some(_) => {}
    }
    out.push('\n');
    for line in value.strip_suffix('\n').unwrap_or(value).split('\n') {
        if !line.is_empty() {
            pad(out, indent + 2);
            out.push_str(line);
        }
        out.push('\n');
    }
}

fn double_quoted(out: &mut String, value: &str) {
    out.push('"');
    for c in value.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\0' => out.push_str("\\0"),
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\t' => out.push_str("\\t"),
            '\n' => out.push_str("\\n"),
            '\u{b}' => out.push_str("\\v"),
            '\u{c}' => out.push_str("\\f"),
            '\r' => out.push_str("\\r"),
            '\u{1b}' => out.push_str("\\e"),
            '\u{85}' => out.push_str("\\N"),
            '\u{2028}' => out.push_str("\\L"),
            '\u{2029}' => out.push_str("\\P"),
            c if printable(c) => out.push(c),
            c if (c as u32) <= 0xff => drop(write!(out, "\\x{:02X}", c as u32)),
            c if (c as u32) <= 0xffff => drop(write!(out, "\\u{:04X}", c as u32)),
            c => drop(write!(out, "\\U{:08X}", c as u32)),
        }
    }
    out.push('"');
}

fn printable(c: char) -> bool {
    matches!(c, '\n' | '\x20'..='\x7e' | '\u{a0}'..='\u{d7ff}' | '\u{e000}'..='\u{fffd}') && c != '\u{feff}'
}

fn line_break(c: char) -> bool {
    matches!(c, '\r' | '\n' | '\u{85}' | '\u{2028}' | '\u{2029}')
}

/// What the emitter's analysis of a scalar finds out.
struct Facts {
    plain_allowed: bool,
    block_allowed: bool,
    special: bool,
}

impl Facts {
    fn of(value: &str) -> Self {
        let chars: Vec<char> = value.chars().collect();
        let blank = |at: usize| chars.get(at).is_none_or(|c| matches!(c, ' ' | '\t') || line_break(*c));
        let (mut indicators, mut special, mut space_break) = (false, false, false);
        if value.starts_with("---") || value.starts_with("...") {
            indicators = true;
        }
        for (i, c) in chars.iter().enumerate() {
            let next_blank = blank(i + 1);
            indicators |= match c {
                '#' | ',' | '[' | ']' | '{' | '}' | '&' | '*' | '!' | '|' | '>' | '\'' | '"' | '%' | '@' | '`'
                    if i == 0 =>
                {
                    true
                }
                '?' | '-' if i == 0 => next_blank,
                ':' => next_blank,
                '#' => blank(i.wrapping_sub(1)),
                _ => false,
            };
            special |= *c != '\t' && !printable(*c);
            space_break |= line_break(*c) && i > 0 && chars[i - 1] == ' ';
        }
        let edge = |c: Option<&char>| c.is_some_and(|c| *c == ' ' || line_break(*c));
        let edges = edge(chars.first()) || edge(chars.last());
        Self {
            plain_allowed: !indicators && !edges && !chars.iter().any(|c| line_break(*c)),
            block_allowed: chars.last() != Some(&' ') && !space_break && !special,
            special,
        }
    }
}

/// Would the bare text be read as something else than a string, by today's YAML or that of version 1.1?
fn reads_as_other(value: &str) -> bool {
    const WORDS: [&str; 40] = [
        "", "~", "null", "Null", "NULL", "true", "True", "TRUE", "false", "False", "FALSE", "y", "Y", "yes", "Yes",
        "YES", "n", "N", "no", "No", "NO", "on", "On", "ON", "off", "Off", "OFF", ".nan", ".NaN", ".NAN", ".inf",
        ".Inf", ".INF", "+.inf", "+.Inf", "+.INF", "-.inf", "-.Inf", "-.INF", "<<",
    ];
    if WORDS.contains(&value) {
        return true;
    }
    if !value.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '+' | '-' | '.')) {
        return false;
    }
    timestamp(value) || base60(value) || number(&value.replace('_', ""))
}

/// A number as Go reads it: decimal, `0x`, `0o`, `0b`, leading-zero octal, or a float.
fn number(plain: &str) -> bool {
    let unsigned = plain.strip_prefix(['+', '-']).unwrap_or(plain);
    let radix = |prefix: [&str; 2], base: u32| {
        let digits = prefix.iter().find_map(|p| unsigned.strip_prefix(p));
        digits.is_some_and(|d| !d.is_empty() && d.len() <= 64 && d.chars().all(|c| c.is_digit(base)))
    };
    if radix(["0x", "0X"], 16) || radix(["0b", "0B"], 2) || radix(["0o", "0O"], 8) {
        return true;
    }
    let (mantissa, exponent) = match unsigned.find(['e', 'E']) {
        Some(at) => (&unsigned[..at], Some(&unsigned[at + 1..])),
        None => (unsigned, None),
    };
    let digits = |s: &str| !s.is_empty() && s.bytes().all(|c| c.is_ascii_digit());
    let mantissa_ok = match mantissa.split_once('.') {
        None => digits(mantissa),
        Some(("", fraction)) => digits(fraction),
        Some((whole, fraction)) => digits(whole) && (fraction.is_empty() || digits(fraction)),
    };
    mantissa_ok && exponent.is_none_or(|e| digits(e.strip_prefix(['+', '-']).unwrap_or(e)))
}

/// `190:20:30`: a number to base 60 in YAML 1.1.
fn base60(value: &str) -> bool {
    let unsigned = value.strip_prefix(['+', '-']).unwrap_or(value);
    let mut parts = unsigned.split(':');
    let first = parts.next().unwrap_or_default();
    let first_ok =
        first.starts_with(|c: char| c.is_ascii_digit()) && first.bytes().all(|c| c.is_ascii_digit() || c == b'_');
    let rest: Vec<&str> = parts.collect();
    let sixty = |s: &str| match s.as_bytes() {
        [a] => a.is_ascii_digit(),
        [a, b] => (b'0'..=b'5').contains(a) && b.is_ascii_digit(),
        _ => false,
    };
    let last_ok = |s: &str| {
        let (whole, fraction) = s.split_once('.').unwrap_or((s, ""));
        sixty(whole) && fraction.bytes().all(|c| c.is_ascii_digit() || c == b'_')
    };
    let Some((last, middle)) = rest.split_last() else { return false };
    first_ok && last_ok(last) && middle.iter().all(|s| sixty(s))
}

/// A date, alone or with a time.
fn timestamp(value: &str) -> bool {
    let (date, rest) = match value.find(['T', 't', ' ']) {
        Some(at) => (&value[..at], Some(&value[at + 1..])),
        None => (value, None),
    };
    let numbers = |s: &str, by: char, n: usize| {
        let parts: Vec<&str> = s.split(by).collect();
        parts.len() == n && parts.iter().all(|p| !p.is_empty() && p.bytes().all(|c| c.is_ascii_digit()))
    };
    let date_ok = date.len() >= 8 && date.as_bytes().get(4) == Some(&b'-') && numbers(date, '-', 3);
    date_ok
        && rest.is_none_or(|time| {
            let end = time.find(['Z', '+', '-']).unwrap_or(time.len());
            let clock = time[..end].split('.').next().unwrap_or_default();
            numbers(clock, ':', 3)
        })
}

/// The order in which Go's library writes the keys of a map: letters after other signs, runs of digits by value.
pub fn key_order(a: &str, b: &str) -> Ordering {
    let (x, y): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut digits = false;
    for i in 0..x.len().min(y.len()) {
        let (p, q) = (x[i], y[i]);
        if p == q {
            digits = p.is_numeric();
            continue;
        }
        return match (p.is_alphabetic(), q.is_alphabetic()) {
            (true, true) => p.cmp(&q),
            // A letter ends a number (before all else), otherwise it comes last.
            (true, false) => {
                if digits {
                    Ordering::Less
                } else {
                    Ordering::Greater
                }
            }
            (false, true) => {
                if digits {
                    Ordering::Greater
                } else {
                    Ordering::Less
                }
            }
            (false, false) => digit_order(&x, &y, i),
        };
    }
    x.len().cmp(&y.len())
}

fn digit_order(x: &[char], y: &[char], at: usize) -> Ordering {
    let before = x[..at].iter().rev().take_while(|c| c.is_ascii_digit());
    let seed = u64::from((x[at] == '0' || y[at] == '0') && before.clone().any(|c| *c != '0'));
    let run = |s: &[char]| {
        let digits = s[at..].iter().map_while(|c| c.to_digit(10));
        digits.fold((seed, 0usize), |(n, len), d| (n.wrapping_mul(10).wrapping_add(u64::from(d)), len + 1))
    };
    let ((n, n_len), (m, m_len)) = (run(x), run(y));
    n.cmp(&m).then(n_len.cmp(&m_len)).then(x[at].cmp(&y[at]))
}
