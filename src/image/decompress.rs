//! Reads compressed streams: the format is recognised by its first bytes, never by a name or a user's word.
//!
//! Called by `pipe` (import) and by whoever reads one of our archives. Decoders are built in; no program is run (CVE-2026-41567,
//! CVE-2026-48755). Each has a memory limit: xz and lzma [`LZMA_MEMORY`], zstd a window of 32 MiB (`zstd --ultra -20` at most), the
//! others need little by their format. How much may come out is bounded by the caller (`pipe`).

use crate::error::{Context, Error, Result};
use std::io::{BufRead, BufReader, Chain, Cursor, Read};

/// Largest dictionary memory of an xz or lzma stream: `xz -9` wants 65 MiB (xz(1)).
pub const LZMA_MEMORY: u64 = 72 << 20;
/// xz may decode blocks in parallel while that stays below this. Our threads: two.
const LZMA_THREADED_MEMORY: u64 = 128 << 20;
/// Base-2 logarithm of the largest zstd window.
const ZSTD_WINDOW_LOG: u32 = 25;
/// Bytes that are needed to tell formats apart.
const PEEK: usize = 512;

/// What a file is, by its first bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Plain tar.
    Tar,
    /// gzip (RFC 1952).
    Gzip,
    /// bzip2.
    Bzip2,
    /// xz.
    Xz,
    /// lzma alone.
    Lzma,
    /// Zstandard (RFC 8878).
    Zstd,
    /// LZ4 frame.
    Lz4,
    /// A squashfs file system (not a stream).
    Squashfs,
    /// A QEMU disk image.
    Qcow2,
    /// None of these.
    Unknown,
}

impl Format {
    /// Recognises a format from the first 512 bytes of a file (fewer if it is shorter).
    pub fn detect(head: &[u8]) -> Self {
        let starts = |magic: &[u8]| head.starts_with(magic);
        match () {
            () if starts(b"\x1f\x8b") => Self::Gzip,
            () if starts(b"BZh") => Self::Bzip2,
            () if starts(b"\xfd7zXZ\0") => Self::Xz,
            () if starts(b"\x28\xb5\x2f\xfd") => Self::Zstd,
            () if starts(b"\x04\x22\x4d\x18") => Self::Lz4,
            () if starts(b"hsqs") => Self::Squashfs,
            () if starts(b"QFI\xfb") => Self::Qcow2,
            () if starts(b"\x5d\0\0") => Self::Lzma,
            () if is_tar(head) => Self::Tar,
            () => Self::Unknown,
        }
    }

    /// The ending of the file names Incus gives on export (incus-reference 1.3, `image export`).
    pub fn extension(self) -> &'static str {
        match self {
            Self::Tar => ".tar",
            Self::Gzip => ".tar.gz",
            Self::Bzip2 => ".tar.bz2",
            Self::Xz => ".tar.xz",
            Self::Lzma => ".tar.lzma",
            Self::Zstd => ".tar.zst",
            Self::Lz4 => ".tar.lz4",
            Self::Squashfs => ".squashfs",
            Self::Qcow2 => ".qcow2",
            Self::Unknown => "",
        }
    }

    /// A stream that may hold a tar archive.
    pub fn is_stream(self) -> bool {
        !matches!(self, Self::Squashfs | Self::Qcow2 | Self::Unknown)
    }
}

/// A tar archive starts with a header whose checksum is right; old ones have no magic. An empty one starts with zeros.
fn is_tar(head: &[u8]) -> bool {
    let Some(block) = head.first_chunk::<512>() else { return false };
    block.iter().all(|b| *b == 0) || super::tarread::checksum_is_right(block)
}

/// A reader whose first bytes have been looked at and are still there.
pub type Peeked<R> = BufReader<Chain<Cursor<Vec<u8>>, R>>;

/// Recognises what `source` holds.
///
/// # Errors
/// `source` cannot be read.
pub fn peek<R: Read>(mut source: R) -> Result<(Format, Peeked<R>)> {
    let mut head = Vec::with_capacity(PEEK);
    let read = source.by_ref().take(PEEK as u64).read_to_end(&mut head);
    read.map_err(super::pipe::error_of).context("Failed reading the image")?;
    let format = Format::detect(&head);
    Ok((format, BufReader::with_capacity(256 << 10, Cursor::new(head).chain(source))))
}

/// A reader of the decompressed content. The stream's end must be there: a truncated one gives an error at its end. What follows the
/// compressed stream is not read here.
///
/// # Errors
/// `format` is not a stream.
pub fn decoder<'a, R: BufRead + Send + 'a>(format: Format, source: R) -> Result<Box<dyn Read + Send + 'a>> {
    Ok(match format {
        Format::Tar => Box::new(source),
        Format::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(source)),
        Format::Bzip2 => Box::new(bzip2::bufread::MultiBzDecoder::new(source)),
        Format::Xz => {
            let stream = liblzma::stream::MtStreamBuilder::new()
                .threads(2)
                .memlimit_threading(LZMA_THREADED_MEMORY)
                .memlimit_stop(LZMA_MEMORY)
                .decoder()
                .map_err(std::io::Error::from)?;
            Box::new(liblzma::bufread::XzDecoder::new_stream(source, stream))
        }
        Format::Lzma => {
            let stream = liblzma::stream::Stream::new_lzma_decoder(LZMA_MEMORY).map_err(std::io::Error::from)?;
            Box::new(liblzma::bufread::XzDecoder::new_stream(source, stream))
        }
        Format::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(source)?;
            decoder.window_log_max(ZSTD_WINDOW_LOG)?;
            Box::new(decoder)
        }
        Format::Lz4 => Box::new(lz4_flex::frame::FrameDecoder::new(source)),
        Format::Squashfs | Format::Qcow2 | Format::Unknown => {
            return Err(Error::internal("Not a compressed stream"));
        }
    })
}

#[cfg(test)]
mod tests {
    use super::super::compress::{Algorithm, Encoder};
    use super::*;
    use std::io::Write;

    fn round(data: &[u8], packed: Vec<u8>, wanted: Format) {
        let (format, reader) = peek(Cursor::new(packed.clone())).expect("peek");
        assert_eq!(format, wanted);
        let mut out = Vec::new();
        decoder(format, reader).expect("decoder").read_to_end(&mut out).expect("decoded");
        assert!(out == data);
        // Cut short: an error, never a short success.
        if format != Format::Tar {
            let (format, reader) = peek(Cursor::new(packed[..packed.len() - 5].to_vec())).expect("peek");
            assert!(decoder(format, reader).expect("decoder").read_to_end(&mut Vec::new()).is_err(), "{format:?}");
        }
    }

    #[test]
    fn all_formats() {
        let data: Vec<u8> = (0..300_000u32).flat_map(|i| (i / 7).to_le_bytes()).collect();
        for (algorithm, format) in
            [(Algorithm::Gzip, Format::Gzip), (Algorithm::Xz, Format::Xz), (Algorithm::Zstd, Format::Zstd)]
        {
            let mut encoder = Encoder::new(Vec::new(), algorithm).expect("encoder");
            encoder.write_all(&data).expect("write");
            round(&data, encoder.finish().expect("finish"), format);
        }
        let mut lz4 = lz4_flex::frame::FrameEncoder::new(Vec::new());
        lz4.write_all(&data).expect("write");
        round(&data, lz4.finish().expect("finish"), Format::Lz4);
        let mut bz = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
        bz.write_all(&data).expect("write");
        round(&data, bz.finish().expect("finish"), Format::Bzip2);
        let options = liblzma::stream::LzmaOptions::new_preset(1).expect("options");
        let stream = liblzma::stream::Stream::new_lzma_encoder(&options).expect("stream");
        let mut lzma = liblzma::write::XzEncoder::new_stream(Vec::new(), stream);
        lzma.write_all(&data).expect("write");
        round(&data, lzma.finish().expect("finish"), Format::Lzma);
    }

    #[test]
    fn large_windows_are_refused() {
        let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).expect("encoder");
        encoder.window_log(27).expect("window");
        encoder.include_contentsize(false).expect("flag");
        encoder.write_all(&vec![1; 1 << 20]).expect("write");
        let packed = encoder.finish().expect("finish");
        assert!(decoder(Format::Zstd, &packed[..]).expect("decoder").read_to_end(&mut Vec::new()).is_err());
    }

    #[test]
    fn not_images() {
        for head in [&b""[..], b"PK\x03\x04", b"\x7fELF", &[b'a'; 600]] {
            assert_eq!(Format::detect(head), Format::Unknown);
        }
        assert_eq!(Format::detect(b"QFI\xfb"), Format::Qcow2);
        assert_eq!(Format::detect(b"hsqs"), Format::Squashfs);
        assert_eq!(Format::detect(&[0; 512]), Format::Tar);
    }
}
