//! Hands bytes from one thread to another in large blocks that are used again: decompressing (or walking a tree) and writing files
//! go on side by side, as `zstd -dc | tar x` does, without a second process.
//!
//! Used by `import`, `squashfs` and backups. The producer counts what it hands over against the input it has read and stops a bomb; six blocks of
//! 256 KiB are all the memory.

use super::compress::{Compression, Encoder};
use super::{Limits, OnProgress, Progress, human};
use crate::error::{Error, Result};
use std::io::{self, BufRead, Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};

const BLOCK: usize = 256 << 10;
const IN_FLIGHT: usize = 4;

type Message = Result<Vec<u8>>;

/// The sending end.
pub struct Sink {
    full: SyncSender<Message>,
    empty: Receiver<Vec<u8>>,
    made: usize,
    block: Vec<u8>,
    sent: u64,
    bounds: Bounds,
}

impl std::fmt::Debug for Sink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Sink")
    }
}

/// How much may come out.
#[derive(Clone)]
pub struct Bounds {
    /// Bytes of input read so far.
    pub input: Arc<AtomicU64>,
    /// Always allowed.
    pub free: u64,
    /// Per byte of input beyond that.
    pub ratio: u64,
}

impl Bounds {
    /// From an import's limits.
    pub fn new(limits: &Limits, input: Arc<AtomicU64>) -> Self {
        Self { input, free: limits.free_bytes, ratio: limits.ratio }
    }
}

/// The other side has gone away: the producer ends quietly.
fn gone() -> io::Error {
    io::Error::from(io::ErrorKind::BrokenPipe)
}

impl Sink {
    /// Copies all of `source`.
    pub fn copy_from(&mut self, source: &mut dyn Read) -> io::Result<()> {
        loop {
            let at = self.block.len();
            self.block.resize(BLOCK, 0);
            let got = loop {
                match source.read(&mut self.block[at..]) {
                    Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                    other => break other,
                }
            };
            self.block.truncate(at + got.as_ref().map_or(0, |n| *n));
            if got? == 0 {
                return Ok(());
            }
            if self.block.len() == BLOCK {
                self.send()?;
            }
        }
    }

    fn send(&mut self) -> io::Result<()> {
        self.sent += self.block.len() as u64;
        let input = self.bounds.input.load(Ordering::Relaxed);
        let allowed = self.bounds.free.saturating_add(self.bounds.ratio.saturating_mul(input));
        if self.sent > allowed {
            let e = Error::invalid(format!("The image grows from {} to over {}", human(input), human(allowed)))
                .hint("this looks like a decompression bomb");
            return Err(io::Error::other(e));
        }
        let next = if self.made < IN_FLIGHT + 2 {
            self.made += 1;
            Vec::with_capacity(BLOCK)
        } else {
            self.empty.recv().map_err(|_| gone())?
        };
        let full = std::mem::replace(&mut self.block, next);
        self.full.send(Ok(full)).map_err(|_| gone())
    }
}

impl Write for Sink {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let n = data.len().min(BLOCK - self.block.len());
        self.block.extend_from_slice(&data[..n]);
        if self.block.len() == BLOCK {
            self.send()?;
        }
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.block.is_empty() { Ok(()) } else { self.send() }
    }
}

/// The receiving end.
pub struct Source<'a> {
    full: Receiver<Message>,
    empty: Sender<Vec<u8>>,
    block: Vec<u8>,
    at: usize,
    input: Arc<AtomicU64>,
    total: Option<u64>,
    on_progress: OnProgress<'a>,
}

impl Source<'_> {
    fn next_block(&mut self) -> io::Result<()> {
        // If the sender has gone this is the end; an error has come as a message before.
        let Ok(message) = self.full.recv() else {
            self.block.clear();
            self.at = 0;
            return Ok(());
        };
        let block = message.map_err(io::Error::other)?;
        let mut used = std::mem::replace(&mut self.block, block);
        self.at = 0;
        used.clear();
        let _ = self.empty.send(used);
        let done = self.input.load(Ordering::Relaxed);
        (self.on_progress)(Progress::Bytes(done, self.total)).map_err(io::Error::other)
    }

    /// Reads what is left, so that checksums at the end are looked at.
    pub fn drain(&mut self) -> io::Result<()> {
        loop {
            let n = self.fill_buf()?.len();
            if n == 0 {
                return Ok(());
            }
            self.consume(n);
        }
    }
}

impl BufRead for Source<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.at == self.block.len() {
            self.next_block()?;
        }
        Ok(&self.block[self.at..])
    }

    fn consume(&mut self, n: usize) {
        self.at += n;
    }
}

impl Read for Source<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let from = self.fill_buf()?;
        let n = from.len().min(buffer.len());
        buffer[..n].copy_from_slice(&from[..n]);
        self.consume(n);
        Ok(n)
    }
}

/// Compresses into `sink`, on a thread beside this one, what `produce` writes here: reading files does not wait for the
/// encoder, nor that for files. If both fail the encoder's error counts: it is why the other one could not go on.
///
/// # Errors
/// Those of the two. What is in `sink` then is not whole.
pub fn encode<W: Write + Send, T>(
    sink: W,
    how: Compression,
    produce: impl FnOnce(&mut Sink) -> Result<T>,
) -> Result<(W, T)> {
    let (full, full_out) = sync_channel::<Message>(IN_FLIGHT);
    let (empty, empty_out) = channel();
    std::thread::scope(|scope| {
        let encoder = std::thread::Builder::new().name("encoder".into()).spawn_scoped(scope, move || {
            let mut out = Encoder::new(sink, how)?;
            while let Ok(block) = full_out.recv() {
                // Without the end that would make it look whole.
                let Ok(mut block) = block else { return Ok(None) };
                out.write_all(&block)?;
                block.clear();
                let _ = empty.send(block);
            }
            out.finish().map(Some)
        })?;
        let bounds = Bounds { input: Arc::default(), free: u64::MAX, ratio: 0 };
        let mut sink = Sink { full, empty: empty_out, made: 1, block: Vec::with_capacity(BLOCK), sent: 0, bounds };
        let produced = produce(&mut sink).and_then(|made| sink.flush().map(|()| made).map_err(error_of));
        if produced.is_err() {
            let _ = sink.full.send(Err(Error::internal("Stopped")));
        }
        drop(sink);
        let encoded = encoder.join().map_err(|_| Error::internal("The encoding thread ended early"))?;
        match (encoded?, produced?) {
            (Some(sink), made) => Ok((sink, made)),
            (None, _) => Err(Error::internal("The encoding thread was stopped")),
        }
    })
}

/// An I/O error that carries one of ours gives it back; bad data is the input's fault, anything with an errno the system's.
pub fn error_of(e: io::Error) -> Error {
    if e.get_ref().is_some_and(|inner| inner.is::<Error>()) {
        let inner = e.into_inner().and_then(|inner| inner.downcast::<Error>().ok());
        return inner.map_or_else(|| Error::internal("Lost an error"), |b| *b);
    }
    match (e.raw_os_error(), e.kind()) {
        (Some(_), _) => e.into(),
        (None, io::ErrorKind::UnexpectedEof) => Error::invalid("The image is truncated"),
        (None, _) => Error::invalid(format!("The image is damaged: {e}")),
    }
}

/// Runs `produce` on a thread and `consume` here, joined by the pipe. If both fail the consumer's error counts: it has seen the producer's.
///
/// # Errors
/// Those of the two.
pub fn join<P: Send, C>(
    bounds: Bounds,
    total: Option<u64>,
    on_progress: OnProgress<'_>,
    produce: impl FnOnce(&mut Sink) -> Result<P> + Send,
    consume: impl FnOnce(&mut Source<'_>) -> Result<C>,
) -> Result<(P, C)> {
    let (full, full_out) = sync_channel(IN_FLIGHT);
    let (empty, empty_out) = channel();
    let input = Arc::clone(&bounds.input);
    std::thread::scope(|scope| {
        let producer = std::thread::Builder::new().name("image".into()).spawn_scoped(scope, move || {
            let mut sink = Sink { full, empty: empty_out, made: 1, block: Vec::with_capacity(BLOCK), sent: 0, bounds };
            let made = produce(&mut sink).and_then(|made| {
                sink.flush().map_err(error_of)?;
                Ok(made)
            });
            made.map_err(|e| {
                // To the consumer, who is waiting; if it has gone it does not care.
                let _ = sink.full.send(Err(e));
            })
        })?;
        let mut source = Source { full: full_out, empty, block: Vec::new(), at: 0, input, total, on_progress };
        let consumed = consume(&mut source).and_then(|c| {
            source.drain().map_err(error_of)?;
            Ok(c)
        });
        drop(source);
        let produced = producer.join().map_err(|_| Error::internal("The image thread ended early"))?;
        let consumed = consumed?;
        match produced {
            Ok(p) => Ok((p, consumed)),
            Err(()) => Err(Error::internal("The image thread's error got lost")),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::super::compress::Algorithm;
    use super::*;

    /// Takes that many bytes.
    struct Full(usize);

    impl Write for Full {
        fn write(&mut self, data: &[u8]) -> io::Result<usize> {
            self.0 = self.0.checked_sub(data.len()).ok_or_else(|| io::Error::from_raw_os_error(libc::ENOSPC))?;
            Ok(data.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn both_sides_of_an_encoder() {
        let data: Vec<u8> = (0..5_000_000_u32).flat_map(|n| n.to_le_bytes()).collect();
        let write = |sink: &mut Sink| sink.write_all(&data).map_err(error_of);
        let (out, ()) = encode(Vec::new(), Algorithm::Zstd.into(), write).expect("whole");
        assert_eq!(zstd::decode_all(&out[..]).expect("whole"), data);
        // The sink has no room; nothing more can be written; the archive ends early.
        let full = encode(Full(1 << 20), Algorithm::None.into(), write).map(drop).expect_err("full");
        assert_eq!(full.errno(), Some(libc::ENOSPC));
        let mut partial = Vec::new();
        let stopped = encode(&mut partial, Algorithm::Zstd.into(), |sink| {
            write(sink)?;
            Err::<(), _>(Error::not_found("Gone"))
        });
        assert_eq!(stopped.map(drop).expect_err("stopped").to_string(), "Gone");
        assert!(zstd::decode_all(&partial[..]).is_err());
    }
}
