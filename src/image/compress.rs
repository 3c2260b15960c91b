//! Writes compressed streams; the algorithms are a closed list (CVE-2026-28384, CVE-2026-48755: no string ever becomes a command).
//!
//! Called by `export`, `bootstrap` and `backup`. gzip, zstd and xz use the machine's processors; the result does not depend on how many.

use super::gzip::Gzip;
use crate::error::{Error, Result};
use std::io::{self, Write};
use std::str::FromStr;

/// A compression we write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// None.
    None,
    /// bzip2.
    Bzip2,
    /// gzip.
    Gzip,
    /// LZ4 frames.
    Lz4,
    /// lzma alone.
    Lzma,
    /// xz.
    Xz,
    /// Zstandard.
    Zstd,
}

impl Algorithm {
    /// Name, and the levels there are with the usual one.
    const ALL: [(&'static str, Self, (u32, u32, u32)); 7] = [
        ("bzip2", Self::Bzip2, (1, 9, 9)),
        ("gzip", Self::Gzip, (1, 9, 6)),
        ("lz4", Self::Lz4, (1, 1, 1)),
        ("lzma", Self::Lzma, (0, 9, 6)),
        ("none", Self::None, (1, 0, 0)),
        ("xz", Self::Xz, (0, 9, 6)),
        ("zstd", Self::Zstd, (1, 19, 3)),
    ];

    fn levels(self) -> (u32, u32, u32) {
        Self::ALL.iter().find(|(_, one, _)| *one == self).map_or((0, 0, 0), |(_, _, levels)| *levels)
    }
}

/// A compression with how hard it tries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Compression {
    /// Which one.
    pub algorithm: Algorithm,
    level: u32,
    rsyncable: bool,
}

impl From<Algorithm> for Compression {
    /// With the level that its program uses.
    fn from(algorithm: Algorithm) -> Self {
        Self { algorithm, level: algorithm.levels().2, rsyncable: false }
    }
}

impl FromStr for Compression {
    type Err = Error;

    /// The name of a program with those of its options that mean something here: `gzip`, `gzip -9 --rsyncable`, `zstd -19 -T0`.
    /// They are understood, never handed to a program; everything else is refused.
    fn from_str(s: &str) -> Result<Self> {
        let mut words = s.split(' ');
        let name = words.next().unwrap_or_default();
        let found = Algorithm::ALL.iter().find(|(known, ..)| *known == name);
        let (_, algorithm, _) = found.ok_or_else(|| {
            let known: Vec<&str> = Algorithm::ALL.iter().map(|(name, ..)| *name).collect();
            Error::invalid(format!("Compression algorithm {name:?} isn't currently supported"))
                .hint(format!("use one of {}", known.join(", ")))
        })?;
        let mut this = Self::from(*algorithm);
        for word in words {
            let known = this.option(word);
            known.ok_or_else(|| Error::invalid(format!("Unknown option {word:?} of the compression {name:?}")))?;
        }
        Ok(this)
    }
}

impl Compression {
    /// Takes in one option.
    fn option(&mut self, word: &str) -> Option<()> {
        let (least, most, _) = self.algorithm.levels();
        let threaded = matches!(self.algorithm, Algorithm::Xz | Algorithm::Zstd);
        match word {
            "--fast" if self.algorithm == Algorithm::Gzip => self.level = least,
            "--best" if self.algorithm == Algorithm::Gzip => self.level = most,
            "--rsyncable" if self.algorithm == Algorithm::Gzip => self.rsyncable = true,
            // There is neither name nor time in what we write.
            "-n" | "--no-name" if self.algorithm == Algorithm::Gzip => {}
            _ => match word.strip_prefix("-T").or_else(|| word.strip_prefix("--threads=")).filter(|_| threaded) {
                // The result does not depend on it.
                Some(threads) => drop(threads.parse::<u16>().ok()?),
                None => {
                    let digits = word.strip_prefix('-')?;
                    let plain = digits.bytes().all(|b| b.is_ascii_digit());
                    self.level = digits.parse().ok().filter(|level| plain && (least..=most).contains(level))?;
                }
            },
        }
        Some(())
    }
}

/// Compresses what is written to it; [`Encoder::finish`] completes the stream.
pub struct Encoder<W: Write>(Inner<W>);

enum Inner<W: Write> {
    None(W),
    Bzip2(bzip2::write::BzEncoder<W>),
    Gzip(Gzip<W>),
    Lz4(Box<lz4_flex::frame::FrameEncoder<W>>),
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
    pub fn new(sink: W, how: impl Into<Compression>) -> Result<Self> {
        let Compression { algorithm, level, rsyncable } = how.into();
        Ok(Self(match algorithm {
            Algorithm::None => Inner::None(sink),
            Algorithm::Bzip2 => Inner::Bzip2(bzip2::write::BzEncoder::new(sink, bzip2::Compression::new(level))),
            Algorithm::Gzip => Inner::Gzip(Gzip::new(sink, level, rsyncable, processors())?),
            Algorithm::Lz4 => Inner::Lz4(Box::new(lz4_flex::frame::FrameEncoder::new(sink))),
            Algorithm::Lzma => {
                let options = liblzma::stream::LzmaOptions::new_preset(level).map_err(io::Error::from)?;
                let stream = liblzma::stream::Stream::new_lzma_encoder(&options).map_err(io::Error::from)?;
                Inner::Xz(liblzma::write::XzEncoder::new_stream(sink, stream))
            }
            Algorithm::Xz => {
                // Above the usual level a thread takes hundreds of MiB (xz(1)).
                let stream = liblzma::stream::MtStreamBuilder::new()
                    .threads(if level > 6 { 1 } else { processors() })
                    .preset(level)
                    .check(liblzma::stream::Check::Crc64)
                    .encoder()
                    .map_err(io::Error::from)?;
                Inner::Xz(liblzma::write::XzEncoder::new_stream(sink, stream))
            }
            Algorithm::Zstd => {
                let level = i32::try_from(level).unwrap_or_default();
                let mut encoder = zstd::stream::write::Encoder::new(sink, level)?;
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
            Inner::Bzip2(w) => w.finish()?,
            Inner::Gzip(w) => w.finish()?,
            Inner::Lz4(w) => w.finish().map_err(io::Error::from)?,
            Inner::Xz(w) => w.finish()?,
            Inner::Zstd(w) => w.finish()?,
        })
    }
}

impl<W: Write> Write for Encoder<W> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        match &mut self.0 {
            Inner::None(w) => w.write(data),
            Inner::Bzip2(w) => w.write(data),
            Inner::Gzip(w) => w.write(data),
            Inner::Lz4(w) => w.write(data),
            Inner::Xz(w) => w.write(data),
            Inner::Zstd(w) => w.write(data),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut self.0 {
            Inner::None(w) => w.flush(),
            Inner::Bzip2(w) => w.flush(),
            Inner::Gzip(w) => w.flush(),
            Inner::Lz4(w) => w.flush(),
            Inner::Xz(w) => w.flush(),
            Inner::Zstd(w) => w.flush(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cve_2026_48755_only_listed_words() {
        let good = |text: &str| text.parse::<Compression>().expect("listed");
        assert_eq!(good("zstd"), Algorithm::Zstd.into());
        assert_eq!((good("zstd -19").level, good("gzip --best").level, good("xz -T0 -0").level), (19, 9, 0));
        assert!(good("gzip --rsyncable -n").rsyncable);
        for bad in [
            "",
            "ZSTD",
            "/bin/sh",
            "zstd;id",
            "xz\n",
            "bzip2 --x",
            "-",
            "none -1",
            "gzip -0",
            "zstd -20",
            "zstd --ultra -22",
            "gzip -+1",
            "xz -Tx",
            "gzip -T0",
            "gzip  -1",
            "gzip --rsyncable=x",
            "xz --files=/etc/passwd",
            "tar2sqfs",
        ] {
            assert!(bad.parse::<Compression>().is_err(), "{bad:?}");
        }
    }
}
