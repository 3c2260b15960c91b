//! Where those who copy one tree together lay the folders that are still to do: whoever has finished takes the one that was
//! laid down last. Nothing is divided before, so it does not matter how uneven the tree is.
//!
//! Used by the copy only. There is [`ROOM`] for so many, which bounds the open descriptors; what has no room is done by
//! whoever has it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// Pieces that wait at most.
const ROOM: usize = 32;

/// See the module. `T`: a piece of work.
#[derive(Debug)]
pub struct Desk<T> {
    state: Mutex<State<T>>,
    change: Condvar,
    /// Somebody else may take something.
    shared: AtomicBool,
    /// Nobody begins anything more.
    closed: AtomicBool,
}

#[derive(Debug)]
struct State<T> {
    laid: Vec<T>,
    /// How many work and may still lay something down.
    busy: usize,
    /// How many wait for something.
    waiting: usize,
}

impl<T> Desk<T> {
    /// A desk with one who works.
    pub fn new() -> Self {
        Self {
            state: Mutex::new(State { laid: Vec::new(), busy: 1, waiting: 0 }),
            change: Condvar::new(),
            shared: AtomicBool::new(false),
            closed: AtomicBool::new(false),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One more works (or, with false, one did not come after all).
    pub fn joins(&self, comes: bool) {
        let mut state = self.lock();
        state.busy = if comes { state.busy + 1 } else { state.busy - 1 };
        self.shared.store(true, Ordering::Relaxed);
    }

    /// Lays `work` down for whoever comes first; gives it back if nobody could come, or there is no room.
    pub fn offer(&self, work: T) -> Option<T> {
        if !self.shared.load(Ordering::Relaxed) {
            return Some(work);
        }
        let mut state = self.lock();
        if state.laid.len() >= ROOM {
            return Some(work);
        }
        state.laid.push(work);
        let waited_for = state.waiting > 0;
        drop(state);
        if waited_for {
            self.change.notify_one();
        }
        None
    }

    /// The next piece for one that has finished its own. None: all is done, or the desk is closed.
    pub fn take(&self) -> Option<T> {
        let mut state = self.lock();
        state.busy -= 1;
        loop {
            if self.is_closed() {
                return None;
            }
            if let Some(work) = state.laid.pop() {
                state.busy += 1;
                return Some(work);
            }
            if state.busy == 0 {
                self.closed.store(true, Ordering::Relaxed);
                self.change.notify_all();
                return None;
            }
            state.waiting += 1;
            state = self.change.wait(state).unwrap_or_else(PoisonError::into_inner);
            state.waiting -= 1;
        }
    }

    /// Ends the work of all, because one failed.
    pub fn close(&self) {
        let state = self.lock();
        self.closed.store(true, Ordering::Relaxed);
        drop(state);
        self.change.notify_all();
    }

    /// Has somebody closed it?
    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each piece is halved until it is one; what nobody takes is done by whoever has it.
    fn halve(desk: &Desk<u32>, mut piece: u32) -> u32 {
        let mut done = 0;
        while piece > 1 {
            let half = piece / 2;
            piece -= half;
            if let Some(kept) = desk.offer(half) {
                done += halve(desk, kept);
            }
        }
        done + piece
    }

    #[test]
    fn all_is_done_once_and_all_come_home() {
        let desk = Desk::new();
        let work = |first: Option<u32>| {
            let mut done = first.map_or(0, |piece| halve(&desk, piece));
            while let Some(piece) = desk.take() {
                done += halve(&desk, piece);
            }
            done
        };
        let sum: u32 = std::thread::scope(|scope| {
            let others: Vec<_> = (0..3)
                .map(|_| {
                    desk.joins(true);
                    scope.spawn(|| work(None))
                })
                .collect();
            let own = work(Some(100_000));
            own + others.into_iter().map(|other| other.join().expect("ends")).sum::<u32>()
        });
        assert_eq!(sum, 100_000);
    }

    #[test]
    fn nobody_waits_for_one_that_failed() {
        let desk = Desk::<u32>::new();
        std::thread::scope(|scope| {
            desk.joins(true);
            let other = scope.spawn(|| desk.take());
            desk.close();
            assert_eq!(other.join().expect("ends"), None);
        });
        assert_eq!(Desk::new().offer(1), Some(1), "nobody could come");
    }
}
