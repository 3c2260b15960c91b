//! Amounts of data: reading (`10MiB`, `5GB`, `20Mbit`) and showing (`1.20MiB`).
//!
//! Same suffixes, same roundings and same messages as Incus's `shared/units`.

use crate::error::{Error, Result};

const SI: [&str; 6] = ["kB", "MB", "GB", "TB", "PB", "EB"];
const IEC: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];

/// Reads bytes: a whole number with `B`, `kB`…`EB` (1000) or `KiB`…`EiB` (1024), or none. Empty means 0.
pub fn parse_bytes(input: &str) -> Result<u64> {
    let (digits, suffix) = split(input)?;
    let factor = match suffix {
        "" | "B" | " bytes" => 1,
        s => factor(s).ok_or_else(|| Error::invalid(format!("Invalid value: {input}")))?,
    };
    scale(input, digits, factor)
}

/// Reads bits: a whole number with `bit`, `kbit`…`Ebit` (1000) or `Kibit`…`Eibit` (1024), or none. Empty means 0.
pub fn parse_bits(input: &str) -> Result<u64> {
    let (digits, suffix) = split(input)?;
    let factor = match suffix {
        "" | "bit" => 1,
        s => s
            .strip_suffix("bit")
            .and_then(|unit| factor(&format!("{unit}B")))
            .ok_or_else(|| Error::invalid(format!("Unsupported suffix: {s}")))?,
    };
    scale(input, digits, factor)
}

/// Bytes in powers of 1024 with two decimals: `512B`, `1.20MiB`.
pub fn format_iec(bytes: u64) -> String {
    format(bytes, 1024.0, &IEC)
}

/// Bytes in powers of 1000 with two decimals: `512B`, `1.20MB`.
pub fn format_si(bytes: u64) -> String {
    format(bytes, 1000.0, &SI)
}

fn format(bytes: u64, base: f64, units: &[&str]) -> String {
    #[allow(clippy::cast_precision_loss)] // Two decimals are shown.
    let mut value = bytes as f64;
    if value < base {
        return format!("{bytes}B");
    }
    for unit in units {
        value /= base;
        if value < base || *unit == units[units.len() - 1] {
            return format!("{value:.2}{unit}");
        }
    }
    unreachable!("the last unit returns")
}

fn split(input: &str) -> Result<(&str, &str)> {
    let at = input.find(|c: char| !c.is_ascii_digit()).unwrap_or(input.len());
    if at == 0 && !input.is_empty() {
        return Err(Error::invalid(format!("Invalid value: {input}")));
    }
    Ok(input.split_at(at))
}

fn factor(suffix: &str) -> Option<u64> {
    let power = |at: usize, base: u64| base.pow(u32::try_from(at).unwrap_or(u32::MAX) + 1);
    let si = SI.iter().position(|u| *u == suffix).map(|at| power(at, 1000));
    si.or_else(|| IEC.iter().position(|u| *u == suffix).map(|at| power(at, 1024)))
}

fn scale(input: &str, digits: &str, factor: u64) -> Result<u64> {
    if digits.is_empty() {
        return Ok(0);
    }
    let number: i64 = digits.parse().map_err(|_| Error::invalid(format!("Invalid integer: {input}")))?;
    let number = number.unsigned_abs();
    number
        .checked_mul(factor)
        .filter(|n| i64::try_from(*n).is_ok())
        .ok_or_else(|| Error::invalid(format!("Overflow multiplying {number} with {factor}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads() {
        for (text, bytes) in [
            ("", 0),
            ("123", 123),
            ("123B", 123),
            ("8 bytes", 8),
            ("1kB", 1000),
            ("5GB", 5_000_000_000),
            ("10MiB", 10 << 20),
            ("2GiB", 2 << 30),
            ("1EiB", 1 << 60),
        ] {
            assert_eq!(parse_bytes(text).expect(text), bytes, "{text}");
        }
        for bad in ["x", "-1", "1.5GiB", "10mb", "1 GiB", "9EiB", "99999999999999999999", "1KB"] {
            assert!(parse_bytes(bad).is_err(), "{bad}");
        }
        assert_eq!(parse_bits("200Mbit").expect("bits"), 200_000_000);
        assert_eq!(parse_bits("1Kibit").expect("bits"), 1024);
        assert!(parse_bits("1MB").is_err());
    }

    #[test]
    fn shows() {
        assert_eq!(format_iec(1023), "1023B");
        assert_eq!(format_iec(1024), "1.00KiB");
        assert_eq!(format_iec(1_258_291), "1.20MiB");
        assert_eq!(format_si(999), "999B");
        assert_eq!(format_si(1_200_000), "1.20MB");
        assert_eq!(format_iec(u64::MAX), "16.00EiB");
    }

    proptest! {
        #[test]
        fn never_panics(text in "\\PC{0,24}") {
            let _ = (parse_bytes(&text), parse_bits(&text));
        }

        #[test]
        fn plain_numbers_are_bytes(n in 0u64..(1 << 62)) {
            prop_assert_eq!(parse_bytes(&n.to_string()).ok(), Some(n));
        }
    }
}
