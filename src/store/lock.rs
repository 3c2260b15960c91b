//! Ranked locks: flock(2) on files that stay as long as their object does, with typed proofs (design, section 5).
//!
//! Locks are taken upward in [`Rank`], several keys of one rank in sorted order; a debug assertion per thread watches it.
//! A [`Held`] is the proof that functions which change something ask for. The holder of an exclusive lock writes verb, pid
//! and start time into the file and marks it when letting go, so a lock won after a kill is known to be one, and the dead
//! owner's journal is settled before anything is done ([`Won::dirty`]).
//!
//! Waiting is a blocking flock in a helper thread with a deadline, never a sleep loop. fs2 is called in full form only:
//! the method form silently means std's own functions on new Rust. Lock files are close-on-exec; nothing here may fork.

use super::dir::Dir;
use super::lock_end::Ending;
use crate::error::{Context, Error, Result};
use crate::host::proc;
use rustix::fs::OFlags;
use std::cell::RefCell;
use std::fs::File;
use std::io::ErrorKind;
use std::marker::PhantomData;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::MutexGuard;
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

pub use super::lock_keys::*;

/// How long a command waits for another one before it says that the object is busy.
pub const WAIT: Duration = Duration::from_secs(30);

/// The order in which locks are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Rank {
    /// The state folder as a whole.
    Layout = 0,
    /// Server configuration.
    Server = 1,
    /// A project and its profiles.
    Project = 2,
    /// A network.
    Network = 3,
    /// A storage pool.
    Pool = 4,
    /// An image.
    Image = 5,
    /// An instance.
    Instance = 6,
    /// A custom volume.
    Volume = 7,
    /// Allocators and small shared tables; held for microseconds.
    Allocator = 8,
}

/// Marks a lock shared with other readers of the object.
#[derive(Debug, Clone, Copy)]
pub enum Shared {}
/// Marks a lock nobody else has.
#[derive(Debug, Clone, Copy)]
pub enum Exclusive {}

/// [`Shared`] or [`Exclusive`].
pub trait Mode {
    /// Nobody else.
    const EXCLUSIVE: bool;
}
impl Mode for Shared {
    const EXCLUSIVE: bool = false;
}
impl Mode for Exclusive {
    const EXCLUSIVE: bool = true;
}

/// The file of a lock, relative to the state folder.
pub(super) fn file_name(rank: Rank, key: &str) -> PathBuf {
    Path::new(FOLDER).join(lock_name(rank, key))
}

/// The folder of the lock files.
pub(super) const FOLDER: &str = "locks";

fn lock_name(rank: Rank, key: &str) -> String {
    format!("{}-{key}", rank as u8)
}

/// Proof that the lock of `K` is held; lets go when dropped. It belongs to its thread, as the order does.
#[derive(Debug)]
#[must_use = "the lock is let go when this is dropped"]
pub struct Held<K: Key, M: Mode> {
    key: K,
    _order: Order,
    lock: FileLock,
    _mode: PhantomData<M>,
    _thread: PhantomData<MutexGuard<'static, ()>>,
}

impl<K: Key, M: Mode> Held<K, M> {
    /// What is locked.
    pub fn key(&self) -> &K {
        &self.key
    }

    pub(super) fn new(key: K, order: Order, lock: FileLock) -> Self {
        Self { key, _order: order, lock, _mode: PhantomData, _thread: PhantomData }
    }

    /// Changes what another command is told we are doing (a `restart` that turned into a `start`).
    ///
    /// # Errors
    /// The lock file cannot be written.
    pub fn set_verb(&mut self, verb: &str) -> Result<()> {
        self.lock.mark(verb)
    }
}

/// The open file that is locked. A process that is given a copy of it holds the lock as well, until it closes the copy or
/// ends (flock(2)).
impl<K: Key> AsFd for Held<K, Exclusive> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.lock.file.as_fd()
    }
}

#[cfg(test)]
impl<K: Key, M: Mode> Held<K, M> {
    /// What a kill does: the lock ends, the mark stays.
    pub(super) fn killed(mut self) {
        self.lock.marked = false;
    }
}

/// What a journal asks for: something locked exclusively, whatever it is.
pub trait Proof {
    /// The locked object in words: `instance default/c1`.
    fn subject(&self) -> String;
    /// Name of its lock's file; none if it is new under a name nobody else can know.
    fn lock_file(&self) -> Option<String>;
}
impl<K: Key> Proof for Held<K, Exclusive> {
    fn subject(&self) -> String {
        self.key.subject()
    }
    fn lock_file(&self) -> Option<String> {
        Some(lock_name(K::RANK, &self.key.file_key()))
    }
}

/// The proof for what needs no lock: objects under a random name that nobody else knows, such as an image being unpacked. The
/// journal's own flock tells whether its owner lives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fresh {
    what: &'static str,
    name: String,
}
impl Fresh {
    /// `what`: one word for it. `name`: made up for this one use.
    pub fn new(what: &'static str, name: &str) -> Self {
        Self { what, name: name.to_string() }
    }
}
impl Proof for Fresh {
    fn subject(&self) -> String {
        format!("{} {}", self.what, self.name)
    }
    fn lock_file(&self) -> Option<String> {
        None
    }
}

/// An flock and whether our mark is in the file.
#[derive(Debug)]
pub(super) struct FileLock {
    file: File,
    marked: bool,
    ending: Option<Ending>,
}

/// A lock just won.
pub(super) struct Won {
    pub lock: FileLock,
    /// The previous holder never let go: it was killed.
    pub dirty: bool,
}

/// Bytes of a mark; fixed, so that one write replaces the last one whole.
const MARK: usize = 96;
/// First byte after the holder let go.
const LET_GO: u8 = b'-';

impl FileLock {
    /// Opens and locks `rel` below `base`. `wait`: how long another holder is waited for. `subject`: for messages.
    pub fn take(base: &Dir, rel: &std::path::Path, exclusive: bool, wait: Duration, subject: &str) -> Result<Won> {
        let fail = || format!("Failed locking \"{}\"", base.path(rel).display());
        let end = Instant::now() + wait;
        let file = loop {
            let file = base.open_at(rel, OFlags::RDWR | OFlags::CREATE, 0o600).with_context(fail)?;
            let left = end.saturating_duration_since(Instant::now());
            let Some(file) = acquire(file, exclusive, left).with_context(fail)? else {
                return Err(busy(base, rel, subject));
            };
            // Its last holder may have removed it, with its object: then this is the lock of nothing.
            if rustix::fs::fstat(&file).map_err(std::io::Error::from).with_context(fail)?.st_nlink > 0 {
                break file;
            }
        };
        let dirty = exclusive && {
            let mut first = [0];
            file.read_at(&mut first, 0).with_context(fail)? == 1 && first[0] != LET_GO
        };
        Ok(Won { lock: Self { file, marked: false, ending: None }, dirty })
    }

    /// Says what is to be done when a marked lock is let go.
    pub fn end_with(&mut self, ending: Option<Ending>) {
        self.ending = ending;
    }

    /// Writes who we are and what we do.
    pub fn mark(&mut self, verb: &str) -> Result<()> {
        let pid = std::process::id();
        let text = format!("{verb} {pid} {}", proc::own_start_time()?);
        let mut line = [b' '; MARK];
        let n = text.len().min(MARK - 1);
        line[..n].copy_from_slice(&text.as_bytes()[..n]);
        line[MARK - 1] = b'\n';
        self.file.write_all_at(&line, 0).context("Failed writing the lock file")?;
        self.marked = true;
        Ok(())
    }
}

impl Drop for FileLock {
    fn drop(&mut self) {
        if self.marked {
            // Best effort: without it the next holder looks for a journal of ours and finds none.
            let _ = self.file.write_at(&[LET_GO], 0);
            if let Some(ending) = &self.ending {
                ending.run();
            }
        }
    }
}

fn lock(file: &File, exclusive: bool) -> std::io::Result<()> {
    loop {
        let done = if exclusive { fs2::FileExt::lock_exclusive(file) } else { fs2::FileExt::lock_shared(file) };
        match done {
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

/// Tries the lock once. `false`: somebody has it.
pub(super) fn try_lock(file: &File, exclusive: bool) -> std::io::Result<bool> {
    let tried = if exclusive { fs2::FileExt::try_lock_exclusive(file) } else { fs2::FileExt::try_lock_shared(file) };
    match tried {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == ErrorKind::WouldBlock => Ok(false),
        Err(e) => Err(e),
    }
}

/// Locks `file`, waiting up to `wait`; `None` when the time is over.
///
/// The thread waits on a duplicate of the descriptor, which is the same lock. If it wins after we gave up, its close is
/// the last one and lets go at once. After a success it is joined: the caller may need a single-threaded process.
pub fn acquire(file: File, exclusive: bool, wait: Duration) -> std::io::Result<Option<File>> {
    if try_lock(&file, exclusive)? {
        return Ok(Some(file));
    }
    if wait.is_zero() {
        return Ok(None);
    }
    let (tx, rx) = sync_channel(1);
    let copy = file.try_clone()?;
    let waiter = std::thread::Builder::new().name("lock".into()).stack_size(64 * 1024).spawn(move || {
        let won = lock(&copy, exclusive);
        drop(copy);
        let _ = tx.send(won);
    })?;
    match rx.recv_timeout(wait) {
        Ok(won) => {
            let _ = waiter.join();
            won.map(|()| Some(file))
        }
        Err(RecvTimeoutError::Timeout) => Ok(None),
        Err(RecvTimeoutError::Disconnected) => Err(std::io::Error::other("the lock's thread ended")),
    }
}

/// Who holds a lock, as its file says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// What it does.
    pub verb: String,
    /// Its process.
    pub pid: i32,
    /// Start time of that process.
    pub starttime: u64,
}

/// Reads a holder's mark; `None` if it let go or the file says nothing.
pub(super) fn parse_mark(bytes: &[u8]) -> Option<Holder> {
    let text = std::str::from_utf8(bytes).ok()?.lines().next()?;
    if text.as_bytes().first() == Some(&LET_GO) {
        return None;
    }
    let mut fields = text.split_ascii_whitespace();
    let (verb, pid, starttime) = (fields.next()?, fields.next()?, fields.next()?);
    Some(Holder { verb: verb.to_string(), pid: pid.parse().ok()?, starttime: starttime.parse().ok()? })
}

/// The holder of `rel`, if the one in the file still runs.
pub(super) fn holder(base: &Dir, rel: &std::path::Path) -> Option<Holder> {
    let bytes = super::record::read_bytes(base, rel).ok()??;
    parse_mark(&bytes).filter(|h| proc::alive(h.pid, h.starttime))
}

fn busy(base: &Dir, rel: &std::path::Path, subject: &str) -> Error {
    match holder(base, rel) {
        Some(h) => Error::busy(format!("{subject} is busy running a \"{}\" operation", h.verb))
            .hint(format!("It is held by process {}", h.pid)),
        None => Error::busy(format!("{subject} is busy")),
    }
}

thread_local! {
    /// What this thread holds, for the order assertion of debug builds.
    static HELD: RefCell<Vec<(Rank, String)>> = const { RefCell::new(Vec::new()) };
}

/// An entry in this thread's order.
#[derive(Debug)]
pub(super) struct Order(Option<(Rank, String)>);

impl Order {
    /// Enters `rank`/`key`. Called before the lock is waited for: the mistake shows even when nobody contends.
    pub fn enter(rank: Rank, key: &str) -> Self {
        if !cfg!(debug_assertions) {
            return Self(None);
        }
        let new = (rank, key.to_string());
        HELD.with_borrow_mut(|held| {
            let top = held.iter().max();
            debug_assert!(top < Some(&new), "lock order: {new:?} is taken while {top:?} is held");
            held.push(new.clone());
        });
        Self(Some(new))
    }
}

impl Drop for Order {
    fn drop(&mut self) {
        if let Some(mine) = &self.0 {
            let _ = HELD.try_with(|held| held.borrow_mut().retain(|e| e != mine));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn base() -> (tempfile::TempDir, Dir) {
        let d = tempfile::tempdir().expect("tempdir");
        std::fs::create_dir(d.path().join("locks")).expect("locks");
        let dir = Dir::open(d.path()).expect("open");
        (d, dir)
    }

    fn take(base: &Dir, exclusive: bool, wait: Duration) -> Result<Won> {
        FileLock::take(base, &file_name(Rank::Instance, "default_c1"), exclusive, wait, "Instance")
    }

    #[test]
    fn busy_says_what_the_holder_does() {
        let (_d, base) = base();
        let mut won = take(&base, true, Duration::ZERO).expect("free");
        won.lock.mark("start").expect("mark");
        let e = take(&base, true, Duration::ZERO).err().expect("held");
        assert_eq!(e.kind(), crate::error::Kind::Busy);
        assert_eq!(e.to_string(), "Instance is busy running a \"start\" operation");
        let t = Instant::now();
        assert!(take(&base, true, Duration::from_millis(30)).is_err());
        assert!(t.elapsed() >= Duration::from_millis(30));
        drop(won);
        // The waiter that gave up wins now and must let go by itself.
        assert!(take(&base, true, Duration::from_secs(5)).is_ok());
    }

    #[test]
    fn shared_locks_share_and_say_nothing_in_the_file() {
        let (_d, base) = base();
        let a = take(&base, false, Duration::ZERO).expect("first");
        let b = take(&base, false, Duration::ZERO).expect("second");
        let e = take(&base, true, Duration::ZERO).err().expect("exclusive");
        assert_eq!(e.to_string(), "Instance is busy");
        drop((a, b));
        assert!(take(&base, true, Duration::from_secs(5)).is_ok());
    }

    #[test]
    fn a_waiter_wins_when_the_holder_lets_go() {
        let (_d, base) = base();
        let won = take(&base, true, Duration::ZERO).expect("free");
        std::thread::scope(|s| {
            let waiter = s.spawn(|| take(&base, true, Duration::from_secs(10)).map(|w| w.dirty));
            // Whether it waits already or not, it must win.
            drop(won);
            assert!(!waiter.join().expect("thread").expect("won"));
        });
    }

    #[test]
    fn a_holder_that_never_let_go_is_noticed() {
        let (_d, base) = base();
        let mut won = take(&base, true, Duration::ZERO).expect("free");
        assert!(!won.dirty, "a new file");
        won.lock.mark("create").expect("mark");
        drop(won);
        let mut won = take(&base, true, Duration::ZERO).expect("free");
        assert!(!won.dirty, "let go in order");
        won.lock.mark("create").expect("mark");
        won.lock.marked = false; // what a kill does: the lock ends, the mark stays
        drop(won);
        assert!(take(&base, true, Duration::ZERO).expect("free").dirty);
    }

    #[test]
    fn the_lock_of_nothing_goes_and_a_waiter_takes_the_new_one() {
        let (d, base) = base();
        let rel = file_name(Rank::Instance, "default_c1");
        let record = "projects/default/instances/c1/instance.toml";
        let hold = || {
            let mut won = take(&base, true, Duration::from_secs(5)).expect("free");
            won.lock.mark("delete").expect("mark");
            let ending = Ending::new(&base, None, &rel, [Some(record.into()), None]).expect("dup");
            won.lock.end_with(ending);
            won
        };
        drop(hold());
        assert!(!base.exists(&rel).expect("look"), "no such instance");
        std::fs::create_dir_all(d.path().join(record)).expect("record");
        drop(hold());
        assert!(base.exists(&rel).expect("look"));
        std::fs::remove_dir(d.path().join(record)).expect("record");
        // Many want it; each one that wins removes the file: no two may have it at once.
        let inside = std::sync::atomic::AtomicUsize::new(0);
        std::thread::scope(|s| {
            for _ in 0..4 {
                s.spawn(|| {
                    for _ in 0..200 {
                        let won = hold();
                        assert_eq!(inside.fetch_add(1, std::sync::atomic::Ordering::SeqCst), 0);
                        std::thread::yield_now();
                        inside.fetch_sub(1, std::sync::atomic::Ordering::SeqCst);
                        drop(won);
                    }
                });
            }
        });
        assert!(!base.exists(&rel).expect("look"));
    }

    #[test]
    fn marks_parse_and_garbage_does_not() {
        let h = parse_mark(b"start 12 345   \n").expect("mark");
        assert_eq!((h.verb.as_str(), h.pid, h.starttime), ("start", 12, 345));
        for bad in [&b"-tart 12 345\n"[..], b"", b"start\n", b"start x 1\n", b"\xff\n"] {
            assert_eq!(parse_mark(bad), None);
        }
    }

    #[test]
    #[cfg(debug_assertions)]
    fn the_order_is_watched() {
        let a = Order::enter(Rank::Pool, "a");
        let b = Order::enter(Rank::Instance, "b");
        let wrong = std::panic::catch_unwind(|| Order::enter(Rank::Project, "p"));
        assert!(wrong.is_err(), "down");
        assert!(std::panic::catch_unwind(|| Order::enter(Rank::Instance, "a")).is_err(), "unsorted");
        assert!(std::panic::catch_unwind(|| Order::enter(Rank::Instance, "b")).is_err(), "twice");
        drop(b);
        drop(Order::enter(Rank::Image, "x"));
        drop(a);
        drop(Order::enter(Rank::Layout, ""));
    }
}
