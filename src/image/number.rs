//! Numbers in tar headers, read strictly: what two readers could read differently is an error (CVE-2025-62518).

use crate::error::{Error, Result};

fn bad(field: &str) -> Error {
    Error::invalid(format!("Bad archive: the {field} field of a header is not a number"))
}

/// A header field: octal digits with leading spaces or zeros, ended by spaces or NULs, or GNU's base-256 form (POSIX ustar; GNU tar manual,
/// "Basic Tar Format"). An empty field is 0. Negative numbers are given as they are.
pub fn field(bytes: &[u8], name: &str) -> Result<i128> {
    match bytes.first() {
        Some(0x80) | Some(0xff) => base_256(bytes).ok_or_else(|| bad(name)),
        _ => octal(bytes).map(i128::from).ok_or_else(|| bad(name)),
    }
}

fn base_256(bytes: &[u8]) -> Option<i128> {
    let negative = bytes[0] == 0xff;
    let mut value: i128 = if negative { -1 } else { 0 };
    for byte in &bytes[1..] {
        value = value.checked_mul(256)?.checked_add(i128::from(*byte))?;
        // Wider than any field we know what to do with.
        if value.unsigned_abs() > 1 << 64 {
            return None;
        }
    }
    Some(value)
}

fn octal(bytes: &[u8]) -> Option<u64> {
    let text = bytes.trim_ascii_start();
    let end = text.iter().position(|b| matches!(b, 0 | b' ')).unwrap_or(text.len());
    let (digits, rest) = text.split_at(end);
    if !rest.iter().all(|b| matches!(b, 0 | b' ')) {
        return None;
    }
    digits.iter().try_fold(0u64, |value, b| match b {
        b'0'..=b'7' => value.checked_mul(8)?.checked_add(u64::from(b - b'0')),
        _ => None,
    })
}

/// A size or device number.
pub fn unsigned(bytes: &[u8], name: &str) -> Result<u64> {
    u64::try_from(field(bytes, name)?).map_err(|_| bad(name))
}

/// Plain decimal digits without sign or needless zeros.
pub fn decimal(bytes: &[u8]) -> Option<u64> {
    if bytes.is_empty() || (bytes.len() > 1 && bytes[0] == b'0') || !bytes.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(bytes).ok()?.parse().ok()
}

/// A time of a PAX header: seconds with an optional sign and fraction (POSIX pax, "mtime").
pub fn time(bytes: &[u8]) -> Option<(i64, u32)> {
    let (negative, bytes) = bytes.strip_prefix(b"-").map_or((false, bytes), |rest| (true, rest));
    let mut parts = bytes.splitn(2, |b| *b == b'.');
    let whole = parts.next()?;
    if whole.is_empty() || !whole.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let mut secs: i64 = std::str::from_utf8(whole).ok()?.parse().ok()?;
    let mut nanos = 0u32;
    if let Some(fraction) = parts.next() {
        if !fraction.iter().all(u8::is_ascii_digit) {
            return None;
        }
        for i in 0..9 {
            nanos = nanos * 10 + fraction.get(i).map_or(0, |b| u32::from(b - b'0'));
        }
    }
    if negative {
        secs = -secs;
        if nanos > 0 {
            (secs, nanos) = (secs.checked_sub(1)?, 1_000_000_000 - nanos);
        }
    }
    Some((secs, nanos))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_fields() {
        assert_eq!(unsigned(b"0000644\0", "mode").expect("octal"), 0o644);
        assert_eq!(unsigned(b"   644 \0", "mode").expect("octal"), 0o644);
        assert_eq!(unsigned(b"\0\0\0\0\0\0\0\0", "x").expect("empty"), 0);
        assert_eq!(unsigned(b"77777777777\0", "size").expect("octal"), 0o77_777_777_777);
        assert_eq!(unsigned(&[0x80, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 1], "size").expect("binary"), (2 << 56) + 1);
        assert_eq!(field(&[0xff; 12], "mtime").expect("negative"), -1);
        for bad in [&b"-1\0"[..], b"0x10", b"12 3\0", b"8", b"1\x0002", &[0xff; 12], &[0x80, 9, 9, 9, 9, 9, 9, 9, 9, 9]]
        {
            assert!(unsigned(bad, "size").is_err(), "{bad:?}");
        }
    }

    #[test]
    fn decimals_and_times() {
        assert_eq!(decimal(b"120"), Some(120));
        for bad in [&b""[..], b"+1", b"01", b" 1", b"1 ", b"99999999999999999999999"] {
            assert_eq!(decimal(bad), None);
        }
        assert_eq!(time(b"12.5"), Some((12, 500_000_000)));
        assert_eq!(time(b"-1.25"), Some((-2, 750_000_000)));
        assert_eq!(time(b"7"), Some((7, 0)));
        for bad in [&b""[..], b".", b"1.x", b"--1", b"99999999999999999999"] {
            assert_eq!(time(bad), None);
        }
    }
}
