//! Makes one window of the new file.
//!
//! Called by `vcdiff`. An address counts through the piece of a file that the window may copy from, and goes on in what the window has
//! made so far.

use super::codes::{Addresses, Step, steps};
use super::sections::Sections;
use super::{bad, number};
use crate::error::{Context, Result};
use std::fs::File;
use std::io::BufRead;
use std::os::unix::fs::FileExt;

/// Bytes that are read at once for small copies.
const BLOCK: u64 = 16 << 10;

/// The piece of a file that a window copies from.
#[derive(Debug)]
pub struct Base<'a> {
    file: &'a File,
    start: u64,
    length: u64,
}

impl<'a> Base<'a> {
    /// Reads which piece it is, of `file`'s first `size` bytes.
    ///
    /// # Errors
    /// It is not in there.
    pub fn read(delta: &mut dyn BufRead, file: &'a File, size: u64) -> Result<Self> {
        let (length, start) = (number(delta)?, number(delta)?);
        match start.checked_add(length) {
            Some(end) if end <= size => Ok(Self { file, start, length }),
            _ => Err(bad("it copies from outside of the older image")),
        }
    }
}

/// A window, and its memory, which the next one uses again.
#[derive(Debug, Default)]
pub struct Window {
    /// What it is made of.
    pub sections: Sections,
    out: Vec<u8>,
    /// A block of the base, and where it begins there.
    block: (u64, Vec<u8>),
}

impl Window {
    /// Makes the `size` bytes of the window from its sections.
    ///
    /// # Errors
    /// The sections do not make that; reading.
    pub fn run(&mut self, base: Option<Base<'_>>, size: u64) -> Result<&[u8]> {
        let (out, block) = (&mut self.out, &mut self.block);
        out.clear();
        out.reserve(size as usize);
        block.1.clear();
        let begin = base.as_ref().map_or(0, |base| base.length);
        let (mut data, mut codes, mut places) =
            (&self.sections.data[..], &self.sections.steps[..], &self.sections.addresses[..]);
        let mut known = Addresses::new();
        while let Some((code, rest)) = codes.split_first() {
            codes = rest;
            let (one, two) = steps(*code);
            for (step, length) in [Some(one), two].into_iter().flatten() {
                let length = if length == 0 { number(&mut codes)? } else { u64::from(length) };
                if length > size - out.len() as u64 {
                    return Err(bad("a window's size"));
                }
                let n = length as usize;
                match step {
                    Step::Add => out.extend_from_slice(take(&mut data, n)?),
                    Step::Run => {
                        let byte = take(&mut data, 1)?[0];
                        out.resize(out.len() + n, byte);
                    }
                    Step::Copy(mode) => {
                        let at = known.next(&mut places, mode, begin + out.len() as u64)?;
                        let of_base = length.min(begin.saturating_sub(at));
                        if let Some(base) = base.as_ref().filter(|_| of_base > 0) {
                            copy(base, at, of_base, block, out)?;
                        }
                        again(out, (at + of_base).saturating_sub(begin) as usize, n - of_base as usize);
                    }
                }
            }
        }
        match out.len() as u64 == size && data.is_empty() && places.is_empty() {
            true => Ok(out),
            false => Err(bad("a window's size")),
        }
    }
}

fn take<'d>(data: &mut &'d [u8], n: usize) -> Result<&'d [u8]> {
    data.split_off(..n).ok_or_else(|| bad("data is missing"))
}

/// Appends `length` bytes at `at` of the base.
fn copy(base: &Base<'_>, at: u64, length: u64, block: &mut (u64, Vec<u8>), out: &mut Vec<u8>) -> Result<()> {
    let known = |block: &(u64, Vec<u8>)| {
        let skip = usize::try_from(at.checked_sub(block.0)?).ok()?;
        Some(skip..skip.checked_add(length as usize)?).filter(|range| range.end <= block.1.len())
    };
    let read = |data: &mut [u8], at| base.file.read_exact_at(data, base.start + at).context("Failed reading the image");
    if length >= BLOCK {
        let have = out.len();
        out.resize(have + length as usize, 0);
        return read(&mut out[have..], at);
    }
    if known(block).is_none() {
        // From there on, as one copy often follows another; at least what is wanted, never beyond the piece.
        block.0 = at;
        block.1.resize(BLOCK.min(base.length - at) as usize, 0);
        read(&mut block.1, at)?;
    }
    let range = known(block).ok_or_else(|| bad("an address"))?;
    out.extend_from_slice(&block.1[range]);
    Ok(())
}

/// Appends `left` bytes at `from` of `out` itself; those that this appends count as well.
fn again(out: &mut Vec<u8>, from: usize, mut left: usize) {
    while left > 0 {
        let n = left.min(out.len() - from);
        out.extend_from_within(from..from + n);
        left -= n;
    }
}
