//! Hashes that files are known by: sha256, and sha512 where others have chosen it.

use sha2::{Digest, Sha256, Sha512};
use std::fmt::Write;

/// A hash on its way.
#[derive(Debug, Clone)]
pub enum Hasher {
    /// 64 digits in the end.
    Sha256(Sha256),
    /// 128.
    Sha512(Sha512),
}

impl Hasher {
    /// One that can be compared with a result in hexadecimal digits.
    pub fn like(hex: &str) -> Self {
        if hex.len() == 128 { Self::Sha512(Sha512::new()) } else { Self::Sha256(Sha256::new()) }
    }

    /// The result in hexadecimal digits, lower case.
    pub fn hex(self) -> String {
        let (short, long);
        let bytes: &[u8] = match self {
            Self::Sha256(hash) => {
                short = hash.finalize();
                &short
            }
            Self::Sha512(hash) => {
                long = hash.finalize();
                &long
            }
        };
        bytes.iter().fold(String::new(), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
    }
}

impl sha2::digest::Update for Hasher {
    fn update(&mut self, data: &[u8]) {
        match self {
            Self::Sha256(hash) => Digest::update(hash, data),
            Self::Sha512(hash) => Digest::update(hash, data),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sha2::digest::Update;

    #[test]
    fn as_the_standard_has_them() {
        // FIPS 180-4, the examples of one block.
        let of = |like: &str| {
            let mut hash = Hasher::like(like);
            hash.update(b"abc");
            hash.hex()
        };
        assert_eq!(of(""), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_eq!(
            of(&"0".repeat(128)),
            "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a\
             2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f"
        );
    }
}
