//! MAC addresses: reading, and random ones from a pattern in which `x` is any digit.

use crate::error::{Error, Result};

/// The pattern Incus uses where neither server nor project says another.
pub const DEFAULT_PATTERN: &str = "10:66:6a:xx:xx:xx";

/// Six bytes of hexadecimal separated by colons.
pub fn parse(value: &str) -> Result<[u8; 6]> {
    let wrong = || Error::invalid("Invalid MAC address, must be 6 bytes of hex separated by colons");
    let bytes = hex_bytes(value).ok_or_else(wrong)?;
    bytes.try_into().map_err(|_| wrong())
}

/// Any number of two-digit hexadecimal bytes separated by colons.
pub fn hex_bytes(value: &str) -> Option<Vec<u8>> {
    value
        .split(':')
        .map(|b| (b.len() == 2 && b.bytes().all(|c| c.is_ascii_hexdigit())).then(|| u8::from_str_radix(b, 16).ok())?)
        .collect()
}

/// Lower-case text of an address.
pub fn format(mac: [u8; 6]) -> String {
    mac.map(|b| format!("{b:02x}")).join(":")
}

/// A random address from `pattern`: each `x` becomes a random digit. The first byte of the result is never multicast,
/// as the kernel would refuse it.
pub fn generate(pattern: &str) -> Result<String> {
    let random = *uuid::Uuid::new_v4().as_bytes();
    let mut digits = random.iter().take(6).chain(&random[10..]).flat_map(|b| [b >> 4, b & 15]);
    let text: String = pattern
        .chars()
        .map(|c| match c {
            'x' | 'X' => char::from_digit(u32::from(digits.next().unwrap_or(0)), 16).unwrap_or('0'),
            c => c,
        })
        .collect();
    let mut mac = parse(&text)
        .map_err(|_| Error::invalid("Invalid MAC address pattern, must be 6 bytes (hex characters or `x` to denote a wildcard) separated by colons"))?;
    mac[0] &= !1;
    Ok(format(mac))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_and_generates() {
        assert_eq!(parse("10:66:6A:00:01:ff").expect("mac"), [0x10, 0x66, 0x6a, 0, 1, 0xff]);
        for bad in
            ["", "10:66:6a:00:01", "10-66-6a-00-01-ff", "10:66:6a:00:01:f", "10:66:6a:00:01:ff:00", "+1:66:6a:00:01:ff"]
        {
            assert!(parse(bad).is_err(), "{bad}");
        }
        let a = generate(DEFAULT_PATTERN).expect("mac");
        assert!(a.starts_with("10:66:6a:") && a.len() == 17);
        assert_ne!(a, generate(DEFAULT_PATTERN).expect("mac"));
        assert!(generate("10:66").is_err());
        assert_eq!(parse(&generate("xx:xx:xx:xx:xx:xx").expect("mac")).expect("mac")[0] & 1, 0);
    }
}
