//! Instructions and addresses: the default code table (RFC 3284, section 5.6) and the two caches of addresses (section 5.1).
//!
//! Called by `window`.

use super::{bad, bytes, number};
use crate::error::Result;

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Take bytes of the data.
    Add,
    /// One byte of the data, again and again.
    Run,
    /// Bytes from elsewhere; the address is written in this mode.
    Copy(u8),
}

/// A step and for how many bytes; 0: the number follows.
pub type Part = (Step, u8);

/// The one or two steps that `code` stands for.
pub fn steps(code: u8) -> (Part, Option<Part>) {
    match code {
        0 => ((Step::Run, 0), None),
        1..=18 => ((Step::Add, code - 1), None),
        19..=162 => {
            let (mode, size) = ((code - 19) / 16, (code - 19) % 16);
            ((Step::Copy(mode), if size == 0 { 0 } else { size + 3 }), None)
        }
        163..=234 => {
            let (mode, sizes) = ((code - 163) / 12, (code - 163) % 12);
            ((Step::Add, 1 + sizes / 3), Some((Step::Copy(mode), 4 + sizes % 3)))
        }
        235..=246 => {
            let (mode, size) = (6 + (code - 235) / 4, 1 + (code - 235) % 4);
            ((Step::Add, size), Some((Step::Copy(mode), 4)))
        }
        247..=255 => ((Step::Copy(code - 247), 4), Some((Step::Add, 1))),
    }
}

const NEAR: usize = 4;
const SAME: usize = 3;

/// Addresses that were used, for one window.
#[derive(Debug)]
pub struct Addresses {
    near: [u64; NEAR],
    next: usize,
    same: [u64; SAME * 256],
}

impl Addresses {
    /// None yet.
    pub fn new() -> Self {
        Self { near: [0; NEAR], next: 0, same: [0; SAME * 256] }
    }

    /// The next address, written in `mode`. It is below `here`.
    ///
    /// # Errors
    /// It is not; there is none.
    pub fn next(&mut self, section: &mut &[u8], mode: u8, here: u64) -> Result<u64> {
        let outside = || bad("an address");
        let mode = usize::from(mode);
        let address = match mode {
            0 => number(section)?,
            1 => here.checked_sub(number(section)?).ok_or_else(outside)?,
            _ if mode < 2 + NEAR => self.near[mode - 2].checked_add(number(section)?).ok_or_else(outside)?,
            _ => {
                let [byte] = bytes(section)?;
                *self.same.get((mode - 2 - NEAR) * 256 + usize::from(byte)).ok_or_else(outside)?
            }
        };
        if address >= here {
            return Err(outside());
        }
        self.near[self.next] = address;
        self.next = (self.next + 1) % NEAR;
        self.same[(address % (SAME as u64 * 256)) as usize] = address;
        Ok(address)
    }
}
