//! The head of a response (RFC 9112): read within bounds, and how long its body is.

use super::io_error;
use crate::error::{Error, Result};
use std::io::Read;
use std::time::{Duration, Instant};

const MOST_BYTES: usize = 64 << 10;
const MOST_HEADERS: usize = 200;

/// Headers in the order they came, names in lower case.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Headers(Vec<(String, String)>);

impl Headers {
    /// The first of that name (lower case).
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    /// All of that name.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(n, _)| n == name).map(|(_, value)| value.as_str())
    }
}

/// Where a body ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// After this many bytes.
    Length(u64),
    /// After the last chunk.
    Chunked,
    /// With the connection.
    Close,
}

/// Status line and headers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// Status code.
    pub status: u16,
    /// Headers.
    pub headers: Headers,
}

/// Reads a head, interim ones (1xx) passed over; what was read behind it comes along.
pub fn read(stream: &mut impl Read, within: Duration) -> Result<(Head, Vec<u8>)> {
    let deadline = Instant::now() + within;
    let mut bytes = Vec::new();
    let mut block = [0; 4096];
    loop {
        while let Some(end) = end(&bytes) {
            let head = parse(&bytes[..end])?;
            bytes.drain(..end);
            if !(100..200).contains(&head.status) {
                return Ok((head, bytes));
            }
            if head.status == 101 {
                return Err(Error::failed("The server changes the protocol"));
            }
        }
        if bytes.len() > MOST_BYTES {
            return Err(Error::failed("The head of the response is too long"));
        }
        if Instant::now() >= deadline {
            return Err(Error::failed("The server doesn't answer"));
        }
        match stream.read(&mut block) {
            Ok(0) => return Err(Error::failed("The connection ended early")),
            Ok(n) => bytes.extend_from_slice(&block[..n]),
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) => return Err(io_error(e)),
        }
    }
}

/// The place behind the empty line.
fn end(bytes: &[u8]) -> Option<usize> {
    bytes.windows(4).position(|w| w == b"\r\n\r\n").map(|at| at + 4)
}

fn parse(bytes: &[u8]) -> Result<Head> {
    parsed(bytes).ok_or_else(|| Error::failed("The server doesn't speak HTTP/1.1"))
}

fn parsed(bytes: &[u8]) -> Option<Head> {
    let text = std::str::from_utf8(bytes).ok()?.strip_suffix("\r\n\r\n")?;
    let mut lines = text.split("\r\n");
    let rest = lines.next()?.strip_prefix("HTTP/1.")?;
    let rest = rest.strip_prefix(['0', '1'])?.strip_prefix(' ')?;
    let digits = rest.get(..3).filter(|d| d.bytes().all(|b| b.is_ascii_digit()))?;
    if !matches!(rest.as_bytes().get(3), None | Some(b' ')) {
        return None;
    }
    let mut headers = Vec::new();
    for line in lines {
        let (name, value) = line.split_once(':')?;
        let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
        // A line that begins with a blank continues the one before: long forbidden, and never meant well.
        if name.is_empty() || !name.bytes().all(token) || headers.len() == MOST_HEADERS {
            return None;
        }
        let value = value.trim_matches([' ', '\t']);
        if value.chars().any(|c| c.is_control() && c != '\t') {
            return None;
        }
        headers.push((name.to_ascii_lowercase(), value.to_string()));
    }
    Some(Head { status: digits.parse().ok()?, headers: Headers(headers) })
}

impl Head {
    /// Where the body ends. `bodiless`: it answers HEAD.
    ///
    /// # Errors
    /// Two lengths, or a coding we do not know.
    pub fn framing(&self, bodiless: bool) -> Result<Framing> {
        if bodiless || matches!(self.status, 204 | 304) {
            return Ok(Framing::Length(0));
        }
        let mut codings = self.headers.all("transfer-encoding");
        if let Some(coding) = codings.next() {
            if coding.eq_ignore_ascii_case("chunked") && codings.next().is_none() {
                return Ok(Framing::Chunked);
            }
            return Err(Error::failed(format!("The server sends an unknown transfer coding {coding:?}")));
        }
        let Some(first) = self.length() else {
            return match self.headers.get("content-length") {
                Some(bad) => Err(Error::failed(format!("The server sends a bad length {bad:?}"))),
                None => Ok(Framing::Close),
            };
        };
        if self.headers.all("content-length").any(|other| other.parse() != Ok(first)) {
            return Err(Error::failed("The server announces two lengths"));
        }
        Ok(Framing::Length(first))
    }

    fn length(&self) -> Option<u64> {
        let text = self.headers.get("content-length")?;
        text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok())?
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn framing(text: &str) -> String {
        let head = read(&mut text.as_bytes(), Duration::from_secs(5)).and_then(|(head, _)| head.framing(false));
        head.map_or_else(|e| e.to_string(), |f| format!("{f:?}"))
    }

    #[test]
    fn heads() {
        let text = "HTTP/1.1 103 x\r\nLink: y\r\n\r\nHTTP/1.1 206 Partial\r\nA:  b \r\nContent-Length: 5\r\n\r\nabcde";
        let (head, rest) = read(&mut text.as_bytes(), Duration::from_secs(5)).expect("good");
        assert_eq!((head.status, head.headers.get("a"), rest.as_slice()), (206, Some("b"), &b"abcde"[..]));
        assert_eq!(framing("HTTP/1.0 200\r\n\r\n"), "Close");
        assert_eq!(framing("HTTP/1.1 200 \r\nTransfer-Encoding: Chunked\r\nContent-Length: 3\r\n\r\n"), "Chunked");
        assert_eq!(framing("HTTP/1.1 304 x\r\nContent-Length: 3\r\n\r\n"), "Length(0)");
    }

    #[test]
    fn what_is_no_head() {
        for bad in [
            "HTTP/2 200\r\n\r\n",
            "HTTP/1.1 20\r\n\r\n",
            "HTTP/1.1 2000\r\n\r\n",
            "HTTP/1.1 200 x\r\n folded: y\r\n\r\n",
            "HTTP/1.1 200 x\r\nA b: y\r\n\r\n",
            "HTTP/1.1 200 x\r\nno colon\r\n\r\n",
            "HTTP/1.1 200 x\r\nA: \0\r\n\r\n",
            "<html>\r\n\r\n",
        ] {
            assert_eq!(framing(bad), "The server doesn't speak HTTP/1.1", "{bad:?}");
        }
        assert_eq!(framing("HTTP/1.1 200 x\r\n"), "The connection ended early");
        for length in ["x", "-1", "+1", "1, 1", "99999999999999999999"] {
            let text = format!("HTTP/1.1 200 x\r\nContent-Length: {length}\r\n\r\n");
            assert!(framing(&text).starts_with("The server sends a bad length"), "{length}");
        }
        assert_eq!(
            framing("HTTP/1.1 200 x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n"),
            "The server announces two lengths"
        );
        assert!(framing("HTTP/1.1 200 x\r\nTransfer-Encoding: gzip\r\n\r\n").contains("unknown transfer coding"));
        let endless = format!("HTTP/1.1 200 x\r\nA: {}", "x".repeat(1 << 20));
        assert_eq!(framing(&endless), "The head of the response is too long");
    }
}
