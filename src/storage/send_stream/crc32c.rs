//! CRC-32C (Castagnoli, RFC 3720 appendix B.4), four bytes at a time, without the inversions at both ends: the way btrfs uses it
//! in its streams.

/// The polynomial, reflected.
const POLYNOMIAL: u32 = 0x82f6_3b78;

/// What a byte does to the sum, and what it does with one, two and three more after it.
static TABLES: [[u32; 256]; 4] = tables();

const fn tables() -> [[u32; 256]; 4] {
    let mut all = [[0; 256]; 4];
    let mut n = 0;
    while n < 256 {
        let (mut sum, mut bit) = (n as u32, 0);
        while bit < 8 {
            sum = if sum & 1 == 1 { sum >> 1 ^ POLYNOMIAL } else { sum >> 1 };
            bit += 1;
        }
        all[0][n] = sum;
        n += 1;
    }
    let mut more = 1;
    while more < 4 {
        let mut n = 0;
        while n < 256 {
            let before = all[more - 1][n];
            all[more][n] = before >> 8 ^ all[0][(before & 255) as usize];
            n += 1;
        }
        more += 1;
    }
    all
}

/// The sum of what had the sum `sum` with `bytes` after it.
pub fn add(mut sum: u32, bytes: &[u8]) -> u32 {
    let of = |table: usize, value: u32| TABLES[table][(value & 255) as usize];
    let (words, rest) = bytes.as_chunks::<4>();
    for word in words {
        sum ^= u32::from_le_bytes(*word);
        sum = of(3, sum) ^ of(2, sum >> 8) ^ of(1, sum >> 16) ^ of(0, sum >> 24);
    }
    rest.iter().fold(sum, |sum, byte| sum >> 8 ^ of(0, sum ^ u32::from(*byte)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_sums() {
        // RFC 3720, B.4: with the inversions.
        let sum = |bytes: &[u8]| !add(!0, bytes);
        assert_eq!(sum(&[0; 32]), 0x8a91_36aa);
        assert_eq!(sum(&[255; 32]), 0x62a8_ab43);
        assert_eq!(sum(b"123456789"), 0xe306_9283);
        assert_eq!(add(add(0, b"123"), b"456789"), add(0, b"123456789"));
    }
}
