//! Unpacks the blocks of files on several threads, and hands them on in their order.
//!
//! Called by `reader`. What waits is bounded by the queue between the one who finds blocks and the one who uses them.

use super::tables::{Packing, Place};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// Threads at most.
const THREADS: usize = 4;

/// A block on its way; none in it: it is damaged.
pub type Block = Arc<OnceLock<Option<Vec<u8>>>>;

struct Job {
    place: Place,
    into: Block,
}

/// Takes places of blocks.
pub struct Orders(Sender<Job>);

impl Orders {
    /// Orders a block.
    pub fn order(&self, place: Place) -> Block {
        let into = Block::default();
        // Threads are there until this is gone.
        let _ = self.0.send(Job { place, into: Arc::clone(&into) });
        into
    }
}

/// Calls `body` while threads work on what it orders; `most`: bytes of a block.
pub fn with<T>(
    file: &File,
    packing: Packing,
    most: usize,
    body: impl FnOnce(Orders) -> std::io::Result<T>,
) -> std::io::Result<T> {
    let (send, jobs) = channel();
    let jobs = Mutex::new(jobs);
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get().min(THREADS));
    std::thread::scope(|scope| {
        for _ in 0..threads {
            let jobs = &jobs;
            std::thread::Builder::new()
                .name("block".into())
                .spawn_scoped(scope, move || work(file, packing, most, jobs))?;
        }
        body(Orders(send))
    })
}

fn work(file: &File, packing: Packing, most: usize, jobs: &Mutex<Receiver<Job>>) {
    loop {
        let next = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(Job { place, into }) = next else { return };
        let _ = into.set(read(file, packing, most, place));
    }
}

fn read(file: &File, packing: Packing, most: usize, place: Place) -> Option<Vec<u8>> {
    if place.stored > most {
        return None;
    }
    let mut data = vec![0; place.stored];
    file.read_exact_at(&mut data, place.start).ok()?;
    if place.packed { packing.unpack(&data, most) } else { Some(data) }
}
