//! The same work on many things at once, for listings of many small files: a few threads, the order kept.

use std::num::NonZero;

/// Fewer items than this a thread are not worth one.
const PER_THREAD: usize = 64;
/// More threads than this only wait for the same folder.
const MOST: usize = 8;

/// `f` of each item, in order. A few items, or one processor, take no thread.
pub fn map<T: Send, U: Send>(items: Vec<T>, f: impl Fn(T) -> U + Sync) -> Vec<U> {
    let processors = std::thread::available_parallelism().map_or(1, NonZero::get);
    let threads = (items.len() / PER_THREAD).min(processors).min(MOST);
    if threads < 2 {
        return items.into_iter().map(f).collect();
    }
    let size = items.len().div_ceil(threads);
    let mut rest = items.into_iter();
    let chunks: Vec<Vec<T>> = (0..threads).map(|_| rest.by_ref().take(size).collect()).collect();
    let work = |chunk: Vec<T>| chunk.into_iter().map(&f).collect::<Vec<U>>();
    std::thread::scope(|scope| {
        let mut chunks = chunks.into_iter();
        let first = chunks.next().unwrap_or_default();
        let others: Vec<_> = chunks.map(|chunk| scope.spawn(|| work(chunk))).collect();
        let mut all = work(first);
        for other in others {
            match other.join() {
                Ok(part) => all.extend(part),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        all
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_is_kept() {
        for count in [0, 1, 63, 128, 129, 1000, 1001] {
            let items: Vec<usize> = (0..count).collect();
            assert_eq!(map(items.clone(), |n| n * 2), items.iter().map(|n| n * 2).collect::<Vec<_>>());
        }
    }
}
