//! Writes gzip on all processors: the input is cut into blocks, each becomes a member of its own (RFC 1952, section 2.2: members
//! simply follow each other), and they are written in order.
//!
//! Used by `compress`. Where a block ends depends on the input only, so the result does not depend on the number of processors.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

/// Most bytes of a block.
const BLOCK: usize = 512 << 10;
/// Fewest bytes of a block that ends at a mark of its content.
const LEAST: usize = 32 << 10;
/// One position in 2^17 is a mark.
const MARK_BITS: u32 = 17;

/// A block and where its member goes.
type Job = (Vec<u8>, Sender<io::Result<Vec<u8>>>);

/// The writer.
pub struct Gzip<W: Write> {
    sink: W,
    block: Vec<u8>,
    /// Cut where the content says so: a change in the input changes the output nearby only.
    rsyncable: bool,
    /// Of the last 64 bytes.
    hash: u64,
    any: bool,
    jobs: Option<Sender<Job>>,
    waiting: VecDeque<Receiver<io::Result<Vec<u8>>>>,
    most_waiting: usize,
    workers: Vec<JoinHandle<()>>,
}

impl<W: Write> Gzip<W> {
    /// Begins a stream of `level` on that many threads.
    pub fn new(sink: W, level: u32, rsyncable: bool, threads: u32) -> io::Result<Self> {
        let (jobs, todo) = channel::<Job>();
        let todo = Arc::new(Mutex::new(todo));
        let worker = |_| {
            let todo = Arc::clone(&todo);
            std::thread::Builder::new().name("gzip".into()).spawn(move || work(&todo, level))
        };
        let workers = (0..threads.max(1)).map(worker).collect::<io::Result<Vec<_>>>()?;
        Ok(Self {
            sink,
            block: Vec::with_capacity(BLOCK),
            rsyncable,
            hash: 0,
            any: false,
            jobs: Some(jobs),
            waiting: VecDeque::new(),
            most_waiting: 2 * workers.len(),
            workers,
        })
    }

    /// How many bytes of `data` go into the present block, and whether it ends with them.
    fn take(&mut self, data: &[u8]) -> (usize, bool) {
        let room = data.len().min(BLOCK - self.block.len());
        if self.rsyncable {
            for (at, byte) in data[..room].iter().enumerate() {
                // Shifting forgets what is 64 bytes back.
                self.hash = (self.hash << 1).wrapping_add((u64::from(*byte) + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
                if self.hash >> (64 - MARK_BITS) == 0 && self.block.len() + at + 1 >= LEAST {
                    return (at + 1, true);
                }
            }
        }
        (room, self.block.len() + room == BLOCK)
    }

    fn end_block(&mut self) -> io::Result<()> {
        let (to, member) = channel();
        let block = std::mem::replace(&mut self.block, Vec::with_capacity(BLOCK));
        self.any = true;
        let jobs = self.jobs.as_ref().ok_or_else(ended)?;
        jobs.send((block, to)).map_err(|_| ended())?;
        self.waiting.push_back(member);
        while self.waiting.len() > self.most_waiting {
            self.write_one()?;
        }
        Ok(())
    }

    fn write_one(&mut self) -> io::Result<()> {
        let Some(first) = self.waiting.pop_front() else { return Ok(()) };
        let member = first.recv().map_err(|_| ended())??;
        self.sink.write_all(&member)
    }

    /// Completes the stream and returns the sink.
    pub fn finish(mut self) -> io::Result<W> {
        // Nothing is a member, too.
        if !self.block.is_empty() || !self.any {
            self.end_block()?;
        }
        while !self.waiting.is_empty() {
            self.write_one()?;
        }
        self.jobs = None;
        for worker in self.workers.drain(..) {
            worker.join().map_err(|_| ended())?;
        }
        Ok(self.sink)
    }
}

fn ended() -> io::Error {
    io::Error::other("A compressing thread ended early")
}

/// Ends when the writer has gone.
fn work(todo: &Mutex<Receiver<Job>>, level: u32) {
    loop {
        let next = match todo.lock() {
            Ok(todo) => todo.recv(),
            Err(_) => return,
        };
        let Ok((block, to)) = next else { return };
        // No name, no time: the same input gives the same bytes.
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(level));
        let member = encoder.write_all(&block).and_then(|()| encoder.finish());
        // If the writer has gone it does not care.
        let _ = to.send(member);
    }
}

impl<W: Write> Write for Gzip<W> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let (n, ends) = self.take(data);
        self.block.extend_from_slice(&data[..n]);
        if ends {
            self.end_block()?;
        }
        Ok(n)
    }

    /// Blocks stay as they are.
    fn flush(&mut self) -> io::Result<()> {
        self.sink.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    fn packed(data: &[u8], rsyncable: bool, threads: u32) -> Vec<u8> {
        let mut gzip = Gzip::new(Vec::new(), 1, rsyncable, threads).expect("threads");
        gzip.write_all(data).expect("write");
        gzip.finish().expect("finish")
    }

    fn noise(n: usize) -> Vec<u8> {
        let mut x = 1u64;
        let mut next = || {
            x = x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (x >> 56) as u8
        };
        (0..n).map(|_| next()).collect()
    }

    #[test]
    fn any_number_of_threads_gives_the_same_stream() {
        for n in [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 5 * BLOCK + 7] {
            let data = noise(n);
            for rsyncable in [false, true] {
                let one = packed(&data, rsyncable, 1);
                assert!(one == packed(&data, rsyncable, 3), "{n}");
                let mut out = Vec::new();
                flate2::read::MultiGzDecoder::new(&one[..]).read_to_end(&mut out).expect("gzip");
                assert!(out == data, "{n}");
            }
        }
    }

    #[test]
    fn a_small_change_stays_small_if_that_is_wanted() {
        let data = noise(3 << 20);
        let changed = [b"in front", &data[..]].concat();
        let common_end = |rsyncable| {
            let (a, b) = (packed(&data, rsyncable, 2), packed(&changed, rsyncable, 2));
            a.iter().rev().zip(b.iter().rev()).take_while(|(x, y)| x == y).count()
        };
        assert!(common_end(true) > 2 << 20);
        assert!(common_end(false) < 1 << 20);
    }
}
