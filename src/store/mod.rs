//! L3: the state directory – records, locks, journals, run files (design, sections 4 to 6).
//!
//! `ops` and the monitor open a [`Store`] per command and read and write every record through it. Reading takes no lock
//! but the layout's shared one, because records are replaced atomically; writing asks for the proof of an exclusive lock.
//! What was read before a lock was won must be read again after it. Nothing here knows what an instance means: what only
//! upper layers can undo is handed to the [`Undoer`] they give.
//!
//! A `Store` holds the layout lock: a command that runs for long (`exec`, `console`, a monitor) drops it first.
//!
//! The files: `layout` every path, `open` the trust checks and first use, `lock`, `atomic`, `record`, then the typed
//! records (`instances`, `images`, `objects`), `journal` with `undo` and `recover`, `runfile`, `trash`, `events`.

pub mod acls;
pub mod atomic;
pub mod cpus;
mod dir;
pub mod events;
pub mod firewall;
mod forwards;
mod images;
mod instances;
pub mod journal;
pub mod layout;
pub mod lock;
mod lock_end;
mod lock_keys;
pub mod migrate;
pub mod mounted;
pub mod networks;
pub mod nic_notes;
mod objects;
mod open;
pub mod plugged;
pub mod proxies;
pub mod record;
pub mod recover;
pub mod runfile;
mod snapshots;
pub mod trash;
pub mod types;
pub mod undo;
mod volumes;
mod zones;

use crate::base::names::{Fingerprint, InstanceName, NetworkName, PoolName, ProjectName};
use crate::error::{Context, Error, Result};
use dir::Dir;
pub use instances::Records;
pub use journal::Journal;
use layout::Layout;
pub use lock::Held;
use lock::{
    AclsKey, Allocator, Exclusive, FileLock, ImageKey, InstanceKey, Key, Mode, NetworkKey, NetworkRunKey, Order,
    PoolKey, PoolMountKey, ProjectKey, ServerKey, Shared, VolumeKey,
};
use lock_end::Ending;
pub use recover::Settled;
use std::sync::Mutex;
use std::time::Duration;
pub use undo::{Action, NoUndoer, Undoer};

/// What a command is going to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Only reads: nothing is made, nothing settled; a read-only state folder will do.
    Read,
    /// Changes something: what is missing is made and what a killed command left is settled first.
    Write,
}

/// The open state directory.
#[derive(Debug)]
pub struct Store {
    layout: Layout,
    access: Access,
    state: Option<Dir>,
    run: Option<Dir>,
    /// Held for as long as the store is open.
    _layout_lock: Option<std::fs::File>,
    undoer: &'static dyn Undoer,
    wait: Duration,
    settled: Mutex<Vec<Settled>>,
    images_of: Mutex<ProjectName>,
}

/// A store that has the layout lock alone: no other command runs.
#[derive(Debug)]
pub struct ExclusiveStore(Store);

/// Nobody else runs a command on the state folder, and none begins, until this is dropped.
#[derive(Debug)]
#[must_use = "others may begin when this is dropped"]
pub struct Alone(#[allow(dead_code, reason = "held, not read")] std::fs::File);

impl Alone {
    /// If that is so now; nothing is waited for. No store may be open in this process.
    ///
    /// # Errors
    /// The state folder cannot be trusted or read.
    pub fn now(layout: &Layout) -> Result<Option<Self>> {
        Ok(open::alone(layout)?.map(Self))
    }
}

impl std::ops::Deref for ExclusiveStore {
    type Target = Store;
    fn deref(&self) -> &Store {
        &self.0
    }
}

impl Store {
    /// Opens the state directory without a way to undo what only `ops` can; see [`Store::open_with`].
    ///
    /// # Errors
    /// See [`Store::open_with`].
    pub fn open(layout: &Layout, access: Access) -> Result<Self> {
        Self::open_with(layout, access, &NoUndoer)
    }

    /// Opens the state directory; takes the layout lock shared.
    ///
    /// Write makes what is missing and settles what killed commands left. Read never changes anything; where there is no
    /// state folder yet it sees the default project and profile and nothing else.
    ///
    /// # Errors
    /// Denied: the folder is somebody else's, writable by others, a symlink, or (Write) read-only. Unsupported: unknown
    /// format or a network file system. Busy: it is being reorganized.
    pub fn open_with(layout: &Layout, access: Access, undoer: &'static dyn Undoer) -> Result<Self> {
        let store = Self::assemble(layout, access, undoer, false)?;
        if access == Access::Write {
            store.settle()?;
        }
        Ok(store)
    }

    /// Opens it alone, for maintenance; waits some seconds for other commands.
    ///
    /// # Errors
    /// As [`Store::open_with`]; Busy while other commands run.
    pub fn open_exclusive(layout: &Layout, undoer: &'static dyn Undoer) -> Result<ExclusiveStore> {
        let store = Self::assemble(layout, Access::Write, undoer, true)?;
        store.settle()?;
        Ok(ExclusiveStore(store))
    }

    fn assemble(layout: &Layout, access: Access, undoer: &'static dyn Undoer, exclusive: bool) -> Result<Self> {
        let o = open::open(layout, access, exclusive)?;
        Ok(Self {
            layout: layout.clone(),
            access,
            state: o.state,
            run: o.run,
            _layout_lock: o.layout,
            undoer,
            wait: lock::WAIT,
            settled: Mutex::new(Vec::new()),
            images_of: Mutex::default(),
        })
    }

    /// Every path.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// How it was opened.
    pub fn access(&self) -> Access {
        self.access
    }

    /// How long the lock functions wait for another command; [`lock::WAIT`] unless set, zero for not at all.
    pub fn set_lock_wait(&mut self, wait: Duration) {
        self.wait = wait;
    }

    /// What was settled through this store, for a front to tell the user; empties the list.
    pub fn take_settled(&self) -> Vec<Settled> {
        self.settled.lock().map(|mut s| std::mem::take(&mut *s)).unwrap_or_default()
    }

    /// The state folder, for a writer.
    fn state_mut(&self) -> Result<&Dir> {
        match (&self.state, self.access) {
            (Some(dir), Access::Write) => Ok(dir),
            _ => Err(Error::internal("The store was opened for reading")),
        }
    }

    /// The run folder, for a writer.
    fn run_mut(&self) -> Result<&Dir> {
        match (&self.run, self.access) {
            (Some(dir), Access::Write) => Ok(dir),
            _ => Err(Error::internal("The store was opened for reading")),
        }
    }

    /// Takes any lock. `verb`: one word for the busy message others get. Waits up to [`Store::set_lock_wait`].
    ///
    /// Locks are taken upward in rank, several of one rank in the order of their file keys. If the last holder of an
    /// exclusive lock was killed, what it left is settled before this returns.
    ///
    /// # Errors
    /// Busy: `Instance is busy running a "start" operation`. What an earlier command could not finish still fails.
    pub fn lock<K: Key, M: Mode>(&self, key: K, verb: &str) -> Result<Held<K, M>> {
        self.lock_within(key, verb, self.wait)
    }

    /// As [`Store::lock`], with its own time to wait; zero tries once.
    ///
    /// # Errors
    /// Busy.
    pub fn lock_within<K: Key, M: Mode>(&self, key: K, verb: &str, wait: Duration) -> Result<Held<K, M>> {
        let state = self.state_mut()?;
        let file_key = key.file_key();
        let order = Order::enter(K::RANK, &file_key);
        let rel = lock::file_name(K::RANK, &file_key);
        let mut won = FileLock::take(state, &rel, M::EXCLUSIVE, wait, &key.busy_subject())?;
        if won.dirty && K::RANK != lock::Rank::Allocator {
            // A journal's action may take an allocator itself, and no journal is about one.
            // For all others: until this worked the old mark stays, so the next one tries again.
            self.settle()?;
        }
        if M::EXCLUSIVE && K::RANK != lock::Rank::Allocator {
            self.settle_failed(&rel)?;
        }
        if M::EXCLUSIVE {
            won.lock.mark(verb)?;
            let ending = Ending::new(state, self.run.as_ref(), &rel, key.records());
            won.lock.end_with(ending.context("Failed locking")?);
        }
        Ok(Held::new(key, order, won.lock))
    }

    /// Who holds the exclusive lock of `key` right now, for messages only.
    pub fn holder<K: Key>(&self, key: &K) -> Option<lock::Holder> {
        lock::holder(self.state.as_ref()?, &lock::file_name(K::RANK, &key.file_key()))
    }

    /// An instance, alone.
    ///
    /// # Errors
    /// See [`Store::lock`].
    pub fn lock_instance(&self, p: &ProjectName, n: &InstanceName, verb: &str) -> Result<Held<InstanceKey, Exclusive>> {
        self.lock(InstanceKey { project: p.clone(), name: n.clone() }, verb)
    }

    /// Several instances, alone, in the right order; the result is in that order, without duplicates.
    ///
    /// # Errors
    /// See [`Store::lock`].
    pub fn lock_instances(&self, mut keys: Vec<InstanceKey>, verb: &str) -> Result<Vec<Held<InstanceKey, Exclusive>>> {
        keys.sort_by_cached_key(Key::file_key);
        keys.dedup();
        keys.into_iter().map(|k| self.lock(k, verb)).collect()
    }

    /// A project, with others.
    ///
    /// # Errors
    /// See [`Store::lock`].
    pub fn lock_project_shared(&self, p: &ProjectName) -> Result<Held<ProjectKey, Shared>> {
        self.lock(ProjectKey(p.clone()), "")
    }

    /// A project and its profiles, alone.
    ///
    /// # Errors
    /// See [`Store::lock`].
    pub fn lock_project_exclusive(&self, p: &ProjectName, verb: &str) -> Result<Held<ProjectKey, Exclusive>> {
        self.lock(ProjectKey(p.clone()), verb)
    }

    /// A network, with others.
    ///
    /// # Errors
    /// See [`Store::lock`].
    pub fn lock_network_shared(&self, p: &ProjectName, n: &NetworkName) -> Result<Held<NetworkKey, Shared>> {
        self.lock(NetworkKey { project: p.clone(), name: n.clone() }, "")
    }

    /// A network, alone.
    ///
    /// # Errors
    /// See [`Store::lock`].
    pub fn lock_network_exclusive(
        &self,
        p: &ProjectName,
        n: &NetworkName,
        verb: &str,
    ) -> Result<Held<NetworkKey, Exclusive>> {
        self.lock(NetworkKey { project: p.clone(), name: n.clone() }, verb)
    }

    /// Two networks of a project, alone, in the order they are named in.
    ///
    /// # Errors
    /// See [`Store::lock`]. Internal: they are the same.
    pub fn lock_networks(
        &self,
        p: &ProjectName,
        names: [&NetworkName; 2],
        verb: &str,
    ) -> Result<[Held<NetworkKey, Exclusive>; 2]> {
        let [a, b] = names.map(|n| NetworkKey { project: p.clone(), name: n.clone() });
        match a.file_key().cmp(&b.file_key()) {
            std::cmp::Ordering::Equal => Err(Error::internal("Two names give one lock")),
            std::cmp::Ordering::Less => Ok([self.lock(a, verb)?, self.lock(b, verb)?]),
            std::cmp::Ordering::Greater => {
                let second = self.lock(b, verb)?;
                Ok([self.lock(a, verb)?, second])
            }
        }
    }

    /// The ACLs and address sets of a project, with others: those that are there stay.
    ///
    /// # Errors
    /// See [`Store::lock`].
    pub fn lock_acls_shared(&self, p: &ProjectName) -> Result<Held<AclsKey, Shared>> {
        self.lock(AclsKey(p.clone()), "")
    }

    /// The ACLs and address sets of a project, alone.
    ///
    /// # Errors
    /// See [`Store::lock`].
    pub fn lock_acls(&self, p: &ProjectName, verb: &str) -> Result<Held<AclsKey, Exclusive>> {
        self.lock(AclsKey(p.clone()), verb)
    }

    /// What runs of a network, alone.
    ///
    /// # Errors
    /// See [`Store::lock`].
    pub fn lock_network_run(&self, n: &NetworkName) -> Result<Held<NetworkRunKey, Exclusive>> {
        self.lock(NetworkRunKey(n.clone()), "network")
    }

    /// A pool, with others.
    ///
    /// # Errors
    /// See [`Store::lock`].
    pub fn lock_pool_shared(&self, n: &PoolName) -> Result<Held<PoolKey, Shared>> {
        self.lock(PoolKey(n.clone()), "")
    }

    /// A pool, alone.
    ///
    /// # Errors
    /// See [`Store::lock`].
    pub fn lock_pool_exclusive(&self, n: &PoolName, verb: &str) -> Result<Held<PoolKey, Exclusive>> {
        self.lock(PoolKey(n.clone()), verb)
    }

    /// The mount of a pool.
    ///
    /// # Errors
    /// See [`Store::lock`].
    pub fn lock_pool_mount(&self, n: &PoolName) -> Result<Held<PoolMountKey, Exclusive>> {
        self.lock(PoolMountKey(n.clone()), "mount")
    }

    /// An image, alone.
    ///
    /// # Errors
    /// See [`Store::lock`].
    pub fn lock_image(&self, f: &Fingerprint, verb: &str) -> Result<Held<ImageKey, Exclusive>> {
        self.lock(ImageKey(f.clone()), verb)
    }

    /// An image, with others: it stays while an instance is made from it.
    ///
    /// # Errors
    /// See [`Store::lock`].
    pub fn lock_image_shared(&self, f: &Fingerprint) -> Result<Held<ImageKey, Shared>> {
        self.lock(ImageKey(f.clone()), "")
    }

    /// A custom volume, alone.
    ///
    /// # Errors
    /// See [`Store::lock`].
    pub fn lock_volume(&self, key: VolumeKey, verb: &str) -> Result<Held<VolumeKey, Exclusive>> {
        self.lock(key, verb)
    }

    /// The server's configuration, alone.
    ///
    /// # Errors
    /// See [`Store::lock`].
    pub fn lock_server(&self, verb: &str) -> Result<Held<ServerKey, Exclusive>> {
        self.lock(ServerKey, verb)
    }

    /// An allocator, alone, for microseconds.
    ///
    /// # Errors
    /// See [`Store::lock`].
    pub fn lock_allocator(&self, which: Allocator) -> Result<Held<Allocator, Exclusive>> {
        self.lock(which, "allocate")
    }
}

impl ExclusiveStore {
    /// Removes lock files and the hidden temporary files of killed writers; nobody else is here. A lock that is held all the
    /// same stays: a monitor has its instance's for a moment without the layout's. Returns how many.
    ///
    /// # Errors
    /// An I/O error.
    pub fn gc(&self) -> Result<usize> {
        let state = self.0.state_mut()?;
        let mut removed = 0;
        let locks = state.dir("locks").context("Failed opening the lock folder")?;
        // Rank 0 is what we hold.
        for name in locks.names().context("Failed listing the lock folder")?.iter().filter(|n| !n.starts_with("0-")) {
            let fail = || format!("Failed removing lock \"{name}\"");
            let file = locks.open_at(name, rustix::fs::OFlags::RDWR, 0).with_context(fail)?;
            if lock::try_lock(&file, true).with_context(fail)? {
                removed += usize::from(locks.unlink(name).with_context(fail)?);
            }
        }
        Ok(removed + recover::remove_temporaries(&self.0)?)
    }
}

#[cfg(all(test, feature = "faults"))]
mod crash;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod undo_tests;
