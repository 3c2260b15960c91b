//! The three sections of a window: data, instructions, addresses; each may be packed.
//!
//! Called by `vcdiff` for each window. Packed sections of one kind are one stream through all windows.

use super::{WINDOW_MAX, bad, bytes, number};
use crate::error::{Error, Result};
use crate::image::decompress::LZMA_MEMORY;
use liblzma::stream::{Action, Stream};
use std::io::Read;

/// The ways of packing that xdelta3 has numbers for.
const DJW: u8 = 1;
const LZMA: u8 = 2;
const FGK: u8 = 16;

/// What unpacks sections, by kind; there from the first packed one on.
#[derive(Default)]
pub struct Unpackers([Option<Stream>; 3]);

impl Unpackers {
    /// For what is packed in way `id`.
    ///
    /// # Errors
    /// It is not known here.
    pub fn new(id: u8) -> Result<Self> {
        match id {
            LZMA => Ok(Self::default()),
            DJW => Err(Error::unsupported("The difference is packed with djw")),
            FGK => Err(Error::unsupported("The difference is packed with fgk")),
            _ => Err(Error::unsupported("The difference is packed in an unknown way")),
        }
    }

    /// Unpacks all of `packed`, `size` bytes, into `out`.
    fn unpack(&mut self, kind: usize, packed: &[u8], size: usize, out: &mut Vec<u8>) -> Result<()> {
        let broken = || bad("a packed section");
        let slot = &mut self.0[kind];
        let stream = match slot {
            Some(stream) => stream,
            None => slot.insert(Stream::new_stream_decoder(LZMA_MEMORY, 0).map_err(std::io::Error::from)?),
        };
        out.clear();
        out.resize(size, 0);
        let (mut from, mut to) = (0, 0);
        while from < packed.len() || to < size {
            let before = (stream.total_in(), stream.total_out());
            stream.process(&packed[from..], &mut out[to..], Action::Run).map_err(|_| broken())?;
            let (read, written) = (stream.total_in() - before.0, stream.total_out() - before.1);
            if read == 0 && written == 0 {
                return Err(broken());
            }
            (from, to) = (from + read as usize, to + written as usize);
        }
        Ok(())
    }
}

/// The sections of a window. Used again for the next one.
#[derive(Debug, Default)]
pub struct Sections {
    /// What is added and repeated.
    pub data: Vec<u8>,
    /// The steps.
    pub steps: Vec<u8>,
    /// Where copies come from.
    pub addresses: Vec<u8>,
    packed: Vec<u8>,
}

impl Sections {
    /// Reads the sections of a window that makes `made` bytes, and the checksum before them if there is one.
    ///
    /// # Errors
    /// They are damaged, cut short, or larger than they can be.
    pub fn read(
        &mut self,
        body: &mut dyn Read,
        made: u64,
        checksum: bool,
        mut unpackers: Option<&mut Unpackers>,
    ) -> Result<Option<u32>> {
        let [packed] = bytes(body)?;
        if packed > 7 || packed != 0 && unpackers.is_none() {
            return Err(bad("a window's packing"));
        }
        let lengths = [number(body)?, number(body)?, number(body)?];
        let sum = match checksum {
            true => Some(u32::from_be_bytes(bytes(body)?)),
            false => None,
        };
        // A step makes a byte at least, and is not so long. Without this a few bytes could keep us unpacking.
        let most = made.saturating_mul(16).min(WINDOW_MAX);
        for (kind, section) in [&mut self.data, &mut self.steps, &mut self.addresses].into_iter().enumerate() {
            let length = lengths[kind];
            match unpackers.as_mut().filter(|_| packed & 1 << kind != 0) {
                Some(unpackers) => {
                    read(body, length, &mut self.packed)?;
                    let mut rest = &self.packed[..];
                    let size = number(&mut rest)?;
                    if size > most {
                        return Err(bad("a section's size"));
                    }
                    unpackers.unpack(kind, rest, size as usize, section)?;
                }
                None if length > most => return Err(bad("a section's size")),
                None => read(body, length, section)?,
            }
        }
        Ok(sum)
    }
}

/// Reads `length` bytes.
fn read(body: &mut dyn Read, length: u64, into: &mut Vec<u8>) -> Result<()> {
    into.clear();
    // What is not there takes no memory.
    match length <= WINDOW_MAX && (&mut *body).take(length).read_to_end(into)? as u64 == length {
        true => Ok(()),
        false => Err(bad("a section's size")),
    }
}
