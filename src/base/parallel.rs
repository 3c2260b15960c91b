//! The same work on many things at once, the order kept: listings of many small files on a few threads ([`map`]), work that
//! waits on a thread each ([`each`]).

use std::num::NonZero;
use std::sync::{Mutex, OnceLock, PoisonError};

/// Fewer items than this a thread are not worth one.
const PER_THREAD: usize = 64;
/// More threads than this only wait for the same folder.
const MOST: usize = 8;
/// As many a thread takes at a time: what is long to do may all stand together.
const AT_A_TIME: usize = 16;

/// How many processors this process may use; asked once.
pub fn processors() -> usize {
    static FOUND: OnceLock<usize> = OnceLock::new();
    *FOUND.get_or_init(|| std::thread::available_parallelism().map_or(1, NonZero::get))
}

/// `f` of each item, in order. A few items, or one processor, take no thread.
pub fn map<T: Send, U: Send>(items: Vec<T>, f: impl Fn(T) -> U + Sync) -> Vec<U> {
    let threads = (items.len() / PER_THREAD).min(MOST);
    let threads = if threads < 2 { threads } else { threads.min(processors()) };
    if threads < 2 {
        return items.into_iter().map(f).collect();
    }
    let mut rest = items.into_iter();
    let mut blocks = Vec::with_capacity(rest.len().div_ceil(AT_A_TIME));
    while rest.len() > 0 {
        blocks.push(rest.by_ref().take(AT_A_TIME).collect::<Vec<T>>());
    }
    shared(blocks, threads, |block| block.into_iter().map(&f).collect::<Vec<U>>()).into_iter().flatten().collect()
}

/// `f` of each item, in order, up to `at_once` at a time, each in a thread: for work that waits.
pub fn each<T: Send, U: Send>(items: Vec<T>, at_once: usize, f: impl Fn(T) -> U + Sync) -> Vec<U> {
    if items.len() < 2 || at_once < 2 {
        return items.into_iter().map(f).collect();
    }
    let threads = items.len().min(at_once);
    shared(items, threads, f)
}

/// `f` of each item, in order: `threads` of them, of which this is one, each take the next that is left.
fn shared<T: Send, U: Send>(items: Vec<T>, threads: usize, f: impl Fn(T) -> U + Sync) -> Vec<U> {
    let left = Mutex::new(items.into_iter().enumerate());
    let next = || left.lock().unwrap_or_else(PoisonError::into_inner).next();
    let work = || {
        let mut done = Vec::new();
        while let Some((at, item)) = next() {
            done.push((at, f(item)));
        }
        done
    };
    let mut all: Vec<(usize, U)> = std::thread::scope(|scope| {
        let workers: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
        let mut all = work();
        for worker in workers {
            all.extend(worker.join().unwrap_or_else(|p| std::panic::resume_unwind(p)));
        }
        all
    });
    all.sort_by_key(|(at, _)| *at);
    all.into_iter().map(|(_, done)| done).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_work_is_side_by_side_and_bounded() {
        use std::sync::atomic::{AtomicUsize, Ordering};
        let (now, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let done = each((0..20).collect(), 4, |n: usize| {
            most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            std::thread::sleep(std::time::Duration::from_millis(5));
            now.fetch_sub(1, Ordering::SeqCst);
            n * 2
        });
        assert_eq!(done, (0..20).map(|n| n * 2).collect::<Vec<_>>());
        let most = most.into_inner();
        assert!((2..=4).contains(&most), "{most} at once");
    }

    #[test]
    fn the_order_is_kept() {
        for count in [0, 1, 63, 128, 129, 1000, 1001] {
            let items: Vec<usize> = (0..count).collect();
            assert_eq!(map(items.clone(), |n| n * 2), items.iter().map(|n| n * 2).collect::<Vec<_>>());
        }
    }
}
