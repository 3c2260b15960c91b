//! The send stream of btrfs, versions 1 and 2 (btrfs-progs, "Send stream format"): a list of commands that make a subvolume.
//!
//! Used by the driver `btrfs`, which carries the commands out. Streams come out of backups of strangers: lengths, checksums,
//! order, names and the presence of every value are checked here, and memory does not depend on the stream. A name that leaves
//! this module has no `..`, no empty component, does not begin with a slash and is short enough for the kernel; that no link is
//! on its way is up to whoever looks it up. Must never panic.

mod command;
mod crc32c;

pub use command::{Command, Source, Uuid};

use crate::error::{Error, Result};
use command::Values;

/// What a stream begins with.
const MAGIC: &[u8] = b"btrfs-stream\0";
/// The magic and the version.
const HEADER: usize = MAGIC.len() + 4;
/// Length, number and checksum of a command.
const COMMAND: usize = 10;
/// Longest command of version 1, and of version 2, whose data has no length of its own.
const LONGEST: [usize; 2] = [64 << 10, 1 << 20];

fn bad(what: impl std::fmt::Display) -> Error {
    Error::invalid(format!("Bad stream of a subvolume: {what}"))
}

/// How far a stream has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    Header,
    /// Nothing but the command that says what it makes.
    Start,
    Commands,
    End,
}

/// Reads one stream that comes in pieces.
#[derive(Debug)]
pub struct Parser {
    /// The beginning of what is not whole yet.
    rest: Vec<u8>,
    version: u32,
    at: At,
}

impl Default for Parser {
    fn default() -> Self {
        Self { rest: Vec::new(), version: 0, at: At::Header }
    }
}

impl Parser {
    /// Takes the next bytes, and hands each command to `sink` as soon as it is whole. After an error it is of no more use.
    ///
    /// # Errors
    /// The stream is damaged or of another form; those of `sink`.
    pub fn feed(&mut self, mut piece: &[u8], sink: &mut dyn FnMut(&Command<'_>) -> Result<()>) -> Result<()> {
        while !self.rest.is_empty() {
            // Only as much as what is in it lacks.
            let wanted = self.length(&self.rest)?.unwrap_or(COMMAND);
            let missing = wanted.saturating_sub(self.rest.len()).min(piece.len());
            self.rest.extend_from_slice(&piece[..missing]);
            piece = &piece[missing..];
            match self.length(&self.rest)? {
                Some(length) if length == self.rest.len() => {
                    let mut whole = std::mem::take(&mut self.rest);
                    self.item(&whole, sink)?;
                    whole.clear();
                    // Its room is used again; it is empty, and the loop ends.
                    self.rest = whole;
                }
                _ if piece.is_empty() => return Ok(()),
                _ => {}
            }
        }
        loop {
            match self.length(piece)? {
                Some(length) if length <= piece.len() => {
                    let (whole, after) = piece.split_at(length);
                    self.item(whole, sink)?;
                    piece = after;
                }
                _ => break,
            }
        }
        self.rest.extend_from_slice(piece);
        Ok(())
    }

    /// It ends here.
    ///
    /// # Errors
    /// It is not whole.
    pub fn finish(&self) -> Result<()> {
        match self.at == At::End && self.rest.is_empty() {
            true => Ok(()),
            false => Err(bad("it is truncated")),
        }
    }

    /// The length of what `bytes` begin with; none: there are too few to tell.
    fn length(&self, bytes: &[u8]) -> Result<Option<usize>> {
        match self.at {
            At::Header => Ok(Some(HEADER)),
            At::End if !bytes.is_empty() => Err(bad("something comes after its end")),
            _ => {
                let Some(length) = bytes.first_chunk::<4>() else { return Ok(None) };
                let length = u32::from_le_bytes(*length) as usize;
                match length <= LONGEST[usize::from(self.version > 1)] {
                    true => Ok(Some(COMMAND + length)),
                    false => Err(bad(format_args!("a command of {length} bytes"))),
                }
            }
        }
    }

    /// The header or a command, whole.
    fn item(&mut self, bytes: &[u8], sink: &mut dyn FnMut(&Command<'_>) -> Result<()>) -> Result<()> {
        if self.at == At::Header {
            let version = bytes.strip_prefix(MAGIC).and_then(|rest| rest.first_chunk::<4>());
            self.version = u32::from_le_bytes(*version.ok_or_else(|| bad("it has no header"))?);
            if !matches!(self.version, 1 | 2) {
                return Err(Error::unsupported(format!(
                    "Streams of subvolumes of version {} are not supported",
                    self.version
                )));
            }
            self.at = At::Start;
            return Ok(());
        }
        let (head, body) = bytes.split_at_checked(COMMAND).ok_or_else(|| bad("a command is cut"))?;
        let said = u32::from_le_bytes([head[6], head[7], head[8], head[9]]);
        // Of all of it, its own place counted as zeros.
        let sum = crc32c::add(crc32c::add(crc32c::add(0, &head[..6]), &[0; 4]), body);
        if sum != said {
            return Err(bad("a wrong checksum"));
        }
        let command = Command::read(u16::from_le_bytes([head[4], head[5]]), &Values::read(body, self.version)?)?;
        let begins = matches!(command, Command::Subvolume { .. } | Command::Snapshot { .. });
        if begins != (self.at == At::Start) {
            return Err(bad("it does not begin with the subvolume it is of, or has two of them"));
        }
        self.at = if matches!(command, Command::End) { At::End } else { At::Commands };
        sink(&command)
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
