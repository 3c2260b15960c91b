//! Writes compressed streams; the algorithms are a closed list (CVE-2026-28384, CVE-2026-48755: no string ever becomes a command).
//!
//! Called by `export`, `bootstrap` and `backup`. zstd and xz use the machine's processors; the result does not depend on how many.

use crate::error::{Error, Result};
use std::io::{self, Write};
use std::str::FromStr;

/// A compression we write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// None.
    None,
    /// gzip, level 6.
    Gzip,
    /// xz, level 6.
    Xz,
    /// Zstandard, level 3.
    Zstd,
}

impl FromStr for Algorithm {
    type Err = Error;

    /// `none`, `gzip`, `xz`, `zstd`, exactly.
    fn from_str(s: &str) -> Result<Self> {
        Ok(match s {
            "none" => Self::None,
            "gzip" => Self::Gzip,
            "xz" => Self::Xz,
            "zstd" => Self::Zstd,
            _ => {
                return Err(
                    Error::invalid(format!("Unsupported compression {s:?}")).hint("use one of none, gzip, xz, zstd")
                );
            }
        })
    }
}

/// Compresses what is written to it; [`Encoder::finish`] completes the stream.
pub struct Encoder<W: Write>(Inner<W>);

enum Inner<W: Write> {
    None(W),
    Gzip(flate2::write::GzEncoder<W>),
    Xz(liblzma::write::XzEncoder<W>),
    Zstd(Box<zstd::stream::write::Encoder<'static, W>>),
}

impl<W: Write> std::fmt::Debug for Encoder<W> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Encoder")
    }
}

/// Processors this process may use.
fn processors() -> u32 {
    std::thread::available_parallelism().map_or(1, |n| u32::try_from(n.get()).unwrap_or(1)).min(16)
}

impl<W: Write> Encoder<W> {
    /// Begins a stream into `sink`.
    ///
    /// # Errors
    /// The encoder cannot get its memory.
    pub fn new(sink: W, algorithm: Algorithm) -> Result<Self> {
        Ok(Self(match algorithm {
            Algorithm::None => Inner::None(sink),
            // No name, no time: the same input gives the same bytes.
            Algorithm::Gzip => Inner::Gzip(flate2::write::GzEncoder::new(sink, flate2::Compression::new(6))),
            Algorithm::Xz => {
                let stream = liblzma::stream::MtStreamBuilder::new()
                    .threads(processors())
                    .preset(6)
                    .check(liblzma::stream::Check::Crc64)
                    .encoder()
                    .map_err(io::Error::from)?;
                Inner::Xz(liblzma::write::XzEncoder::new_stream(sink, stream))
            }
            Algorithm::Zstd => {
                let mut encoder = zstd::stream::write::Encoder::new(sink, 3)?;
                encoder.include_checksum(true)?;
                encoder.multithread(processors().max(1))?;
                Inner::Zstd(Box::new(encoder))
            }
        }))
    }

    /// Completes the stream and returns the sink.
    ///
    /// # Errors
    /// The sink does not take the rest.
    pub fn finish(self) -> Result<W> {
        Ok(match self.0 {
            Inner::None(w) => w,
            Inner::Gzip(w) => w.finish()?,
            Inner::Xz(w) => w.finish()?,
            Inner::Zstd(w) => w.finish()?,
        })
    }
}

impl<W: Write> Write for Encoder<W> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        match &mut self.0 {
            Inner::None(w) => w.write(data),
            Inner::Gzip(w) => w.write(data),
            Inner::Xz(w) => w.write(data),
            Inner::Zstd(w) => w.write(data),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut self.0 {
            Inner::None(w) => w.flush(),
            Inner::Gzip(w) => w.flush(),
            Inner::Xz(w) => w.flush(),
            Inner::Zstd(w) => w.flush(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cve_2026_48755_only_listed_names() {
        assert_eq!("zstd".parse::<Algorithm>().expect("listed"), Algorithm::Zstd);
        for bad in ["", "ZSTD", "gzip -9", "gzip --rsyncable", "/bin/sh", "zstd;id", "xz\n", "bzip2 --x", "-"] {
            assert!(bad.parse::<Algorithm>().is_err(), "{bad:?}");
        }
    }
}
