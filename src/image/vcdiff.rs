//! Makes a file of an older one and a difference (VCDIFF, RFC 3284, as xdelta3 writes it: checksums of windows, sections packed with
//! lzma).
//!
//! Called by `ops::image_delta`. The difference is hostile: every length, address and count in it is checked before it is used, and no
//! more is written than was announced. It is read once, from front to back; memory is that of one window, whatever the files' sizes.
//! Code tables of its own, and the packings djw and fgk, are refused: nobody writes them unless told to.

mod codes;
mod sections;
mod window;

use crate::error::{Context, Error, Result};
use crate::sys::path;
use sections::Unpackers;
use std::fs::File;
use std::io::{BufRead, Read, Write};
use std::os::fd::AsFd;
use window::{Base, Window};

/// "VCD" with the high bits set, and the version.
const MAGIC: [u8; 4] = [0xd6, 0xc3, 0xc4, 0];
/// Largest window of the result. xdelta3 writes 8 MiB, and 16 at most.
const WINDOW_MAX: u64 = 32 << 20;
/// Bits of the header: packed sections, a code table, a text of the writer's.
const PACKED: u8 = 1;
const CODE_TABLE: u8 = 2;
const TEXT: u8 = 4;
/// Bits of a window: copies from the old file, from the new one, has a checksum.
const OF_OLD: u8 = 1;
const OF_NEW: u8 = 2;
const CHECKSUM: u8 = 4;

/// An error of the difference's.
fn bad(what: &str) -> Error {
    Error::invalid(format!("The difference is damaged: {what}"))
}

/// Writes into the empty file `new`, which can be read too, what `delta` makes of `old`: `size` bytes. `on_window` hears how many
/// there are after each window; its error ends the work.
///
/// # Errors
/// The difference is damaged, or makes another size; Unsupported: a way of packing that is not known here; reading and writing.
pub fn apply(
    old: &File,
    delta: &mut dyn BufRead,
    new: &File,
    size: u64,
    on_window: &mut dyn FnMut(u64) -> Result<()>,
) -> Result<()> {
    let mut unpackers = header(delta)?;
    let old_size = path::fstat(old.as_fd())?.size;
    let (mut window, mut made) = (Window::default(), 0);
    while let Some(kind) = first(delta)? {
        let base = match kind & !CHECKSUM {
            0 => None,
            OF_OLD => Some(Base::read(delta, old, old_size)?),
            OF_NEW => Some(Base::read(delta, new, made)?),
            _ => return Err(bad("a window's kind")),
        };
        let length = number(delta)?;
        let mut body = (&mut *delta).take(length);
        let made_by_it = number(&mut body)?;
        if made_by_it > WINDOW_MAX || made_by_it > size - made {
            return Err(bad("it makes more than was announced"));
        }
        let sum = kind & CHECKSUM != 0;
        let sum = window.sections.read(&mut body, made_by_it, sum, unpackers.as_mut())?;
        if body.limit() != 0 {
            return Err(bad("a window's length"));
        }
        let out = window.run(base, made_by_it)?;
        if sum.is_some_and(|sum| sum != adler32(out)) {
            return Err(bad("a checksum differs"));
        }
        (&*new).write_all(out).context("Failed writing the image")?;
        made += made_by_it;
        on_window(made)?;
    }
    match made == size {
        true => Ok(()),
        false => Err(bad("it makes less than was announced")),
    }
}

/// Reads the beginning; what unpacks sections, if they can be packed.
fn header(delta: &mut dyn BufRead) -> Result<Option<Unpackers>> {
    if bytes(delta)? != MAGIC {
        return Err(bad("it does not begin like one"));
    }
    let [kind] = bytes(delta)?;
    if kind & !(PACKED | TEXT) != 0 {
        return Err(match kind & CODE_TABLE {
            0 => bad("its header"),
            _ => Error::unsupported("The difference has a code table of its own"),
        });
    }
    let unpackers = match kind & PACKED {
        0 => None,
        _ => Some(Unpackers::new(u8::from_be_bytes(bytes(delta)?))?),
    };
    if kind & TEXT != 0 {
        let length = number(delta)?;
        if std::io::copy(&mut (&mut *delta).take(length), &mut std::io::sink())? != length {
            return Err(bad("it is cut short"));
        }
    }
    Ok(unpackers)
}

/// The next byte, or none at the end.
fn first(delta: &mut dyn BufRead) -> Result<Option<u8>> {
    let next = delta.fill_buf().context("Failed reading the difference")?.first().copied();
    delta.consume(usize::from(next.is_some()));
    Ok(next)
}

fn bytes<const N: usize>(source: &mut (impl Read + ?Sized)) -> Result<[u8; N]> {
    let mut out = [0; N];
    source.read_exact(&mut out).map_err(|_| bad("it is cut short"))?;
    Ok(out)
}

/// A number: seven bits a byte, the first ones first.
fn number(source: &mut (impl Read + ?Sized)) -> Result<u64> {
    let mut value = 0u64;
    loop {
        let [byte] = bytes(source)?;
        if value > u64::MAX >> 7 {
            return Err(bad("a number is too large"));
        }
        value = value << 7 | u64::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
}

/// The checksum of RFC 1950.
fn adler32(data: &[u8]) -> u32 {
    const MODULUS: u32 = 65_521;
    let (mut a, mut b) = (1u32, 0u32);
    // So many bytes fit before the sums overflow.
    for piece in data.chunks(5552) {
        for byte in piece {
            a += u32::from(*byte);
            b += a;
        }
        (a, b) = (a % MODULUS, b % MODULUS);
    }
    b << 16 | a
}

#[cfg(test)]
#[path = "vcdiff_tests.rs"]
mod tests;
