//! The body of a response: ends where it was announced to end, or is an error; a body that drips is given up.

use super::Times;
use super::connect::Stream;
use super::head::Framing;
use crate::error::Error;
use std::io::{self, BufRead, BufReader, Cursor, Read};
use std::time::Instant;

/// Longest line between chunks.
const LINE: u64 = 4096;

type Source = BufReader<io::Chain<Cursor<Vec<u8>>, Stream>>;

/// What a server sends behind the head. Errors of [`Read`] carry an [`Error`] or are those of the connection.
pub struct Body {
    source: Source,
    state: State,
    pace: Pace,
}

impl std::fmt::Debug for Body {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Body").field("state", &self.state).finish_non_exhaustive()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Bytes until the end.
    Length(u64),
    /// Bytes until the end of this chunk; zero: a chunk begins.
    Chunk(u64),
    Close,
    Done,
}

fn failed(text: &str) -> io::Error {
    io::Error::other(Error::failed(text))
}

impl Body {
    /// `rest`: what was read behind the head.
    pub(super) fn new(stream: Stream, rest: Vec<u8>, framing: Framing, times: Times) -> Self {
        let state = match framing {
            Framing::Length(0) => State::Done,
            Framing::Length(n) => State::Length(n),
            Framing::Chunked => State::Chunk(0),
            Framing::Close => State::Close,
        };
        let source = BufReader::with_capacity(64 << 10, Cursor::new(rest).chain(stream));
        Self { source, state, pace: Pace { times, since: Instant::now(), bytes: 0 } }
    }

    /// The announced length, if there is one.
    pub fn length(&self) -> Option<u64> {
        match self.state {
            State::Length(n) => Some(n),
            State::Done => Some(0),
            _ => None,
        }
    }

    fn piece(&mut self, buffer: &mut [u8], most: u64) -> io::Result<usize> {
        let most = buffer.len().min(usize::try_from(most).unwrap_or(usize::MAX));
        let n = self.source.read(&mut buffer[..most])?;
        self.pace.passed(n)?;
        Ok(n)
    }

    /// The size of the next chunk; behind the last one the trailer is read away.
    fn next_chunk(&mut self) -> io::Result<u64> {
        let line = self.line()?;
        let digits = line.split(';').next().unwrap_or_default().trim();
        if digits.is_empty() || digits.len() > 15 || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(failed("The server sends a bad chunk"));
        }
        let size = u64::from_str_radix(digits, 16).map_err(|_| failed("The server sends a bad chunk"))?;
        if size == 0 {
            for _ in 0..100 {
                if self.line()?.is_empty() {
                    return Ok(0);
                }
            }
            return Err(failed("The server sends an endless trailer"));
        }
        Ok(size)
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        let n = self.source.by_ref().take(LINE).read_line(&mut line)?;
        self.pace.passed(n)?;
        match line.strip_suffix("\r\n") {
            Some(line) => Ok(line.to_string()),
            None if n as u64 == LINE => Err(failed("The server sends a bad chunk")),
            None => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}

impl Read for Body {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        match self.state {
            State::Done => Ok(0),
            State::Close => {
                let n = self.piece(buffer, u64::MAX)?;
                if n == 0 {
                    self.state = State::Done;
                }
                Ok(n)
            }
            State::Length(left) => {
                let n = self.piece(buffer, left)?;
                self.state = match left - n as u64 {
                    _ if n == 0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                    0 => State::Done,
                    left => State::Length(left),
                };
                Ok(n)
            }
            State::Chunk(0) => {
                self.state = match self.next_chunk()? {
                    0 => State::Done,
                    size => State::Chunk(size),
                };
                self.read(buffer)
            }
            State::Chunk(left) => {
                let n = self.piece(buffer, left)?;
                if n == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                if left == n as u64 && !self.line()?.is_empty() {
                    return Err(failed("The server sends a bad chunk"));
                }
                self.state = State::Chunk(left - n as u64);
                Ok(n)
            }
        }
    }
}

/// Watches that enough comes in each span. The time that our own side takes counts as well: it is short against a span.
struct Pace {
    times: Times,
    since: Instant,
    bytes: u64,
}

impl Pace {
    fn passed(&mut self, n: usize) -> io::Result<()> {
        self.bytes += n as u64;
        if self.since.elapsed() < self.times.span {
            return Ok(());
        }
        if self.bytes < self.times.least {
            return Err(failed("The server sends too slowly"));
        }
        (self.since, self.bytes) = (Instant::now(), 0);
        Ok(())
    }
}
