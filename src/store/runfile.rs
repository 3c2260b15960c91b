//! What runs: the run file of an instance, the lock its monitor holds for life, and the wish others leave it.
//!
//! Written by the monitor (which holds `monitor.lock`, its proof), read by every command that touches a running instance.
//! On tmpfs and not synced. A stored pid is a hint: whether something lives is asked of the kernel by boot id, lock and
//! start time, and a process is reached only through a pidfd that was checked (design, section 6).

use super::Store;
use super::atomic::{self, Durability};
use super::dir::Dir;
use super::layout::{MONITOR_LOCK, RUN_FILE, WISH_FILE, rel};
use super::lock::{self, Exclusive, Held, InstanceKey};
use super::record::{self, records};
use crate::base::names::{InstanceName, ProjectName};
use crate::error::{Context, Error, Result};
use crate::host::{boot_id, proc};
use jiff::Timestamp;
use rustix::fs::OFlags;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use super::record::Record;

/// The run file: `$RUN/instances/<project>_<name>/run.toml`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunFile {
    /// Format of the record; set when written.
    #[serde(default)]
    pub format: u32,
    /// The monitor.
    pub monitor_pid: i32,
    /// Its start time, clock ticks after boot.
    pub monitor_starttime: u64,
    /// The boot both processes belong to.
    pub boot_id: String,
    /// The container's init, or QEMU.
    pub init_pid: i32,
    /// Its start time.
    pub init_starttime: u64,
    /// Its cgroup; absolute path.
    pub cgroup: PathBuf,
    /// When it was started.
    pub started_at: Timestamp,
    /// What else those who come later need (names of links, of sockets), by key.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub extra: BTreeMap<String, String>,
}

records! { RunFile => "Run file", }

/// What the kernel says about a run file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Liveness {
    /// The monitor lives, and with it the instance or its clean-up.
    Running,
    /// The monitor was killed, the instance's first process lives.
    Orphaned,
    /// Nothing lives.
    Dead,
}

/// A run file and whether it still holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Running {
    /// The run file.
    pub file: RunFile,
    /// What the kernel says.
    pub liveness: Liveness,
}

impl RunFile {
    /// A pidfd of the instance's first process; `None` if it is gone.
    ///
    /// # Errors
    /// `/proc` cannot be read, or pidfd_open(2) failed.
    pub fn open_init(&self) -> Result<Option<OwnedFd>> {
        self.open(self.init_pid, self.init_starttime)
    }

    /// A pidfd of the monitor; `None` if it is gone.
    ///
    /// # Errors
    /// As [`RunFile::open_init`].
    pub fn open_monitor(&self) -> Result<Option<OwnedFd>> {
        self.open(self.monitor_pid, self.monitor_starttime)
    }

    fn open(&self, pid: i32, starttime: u64) -> Result<Option<OwnedFd>> {
        if self.boot_id == boot_id::current()? { proc::open(pid, starttime) } else { Ok(None) }
    }
}

/// What a command asks of the monitor, which reads it when its instance ends or when it is woken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Wish {
    /// Stopped on purpose: no automatic restart.
    Stop,
    /// Stopped because the host goes down: as [`Wish::Stop`], but it counts as running when the host is back.
    Shutdown,
    /// Start again when it has ended.
    Restart,
    /// The start failed after the monitor had done its part: end with the instance and leave the rest to the command.
    Abandon,
}

impl Wish {
    fn as_str(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Shutdown => "shutdown",
            Self::Restart => "restart",
            Self::Abandon => "abandon",
        }
    }
}

fn read_wish(dir: &Dir) -> Result<Option<Wish>> {
    let text = record::read_bytes(dir, Path::new(WISH_FILE))?;
    Ok(match text.as_deref() {
        Some(b"stop") => Some(Wish::Stop),
        Some(b"shutdown") => Some(Wish::Shutdown),
        Some(b"restart") => Some(Wish::Restart),
        Some(b"abandon") => Some(Wish::Abandon),
        _ => None,
    })
}

/// Asks the kernel about `file`, whose folder is `dir`. The cheapest sure sign first: the held lock.
fn liveness(dir: &Dir, file: &RunFile) -> Result<Liveness> {
    if file.boot_id != boot_id::current()? {
        return Ok(Liveness::Dead);
    }
    if monitor_lives(dir)? {
        return Ok(Liveness::Running);
    }
    Ok(if proc::alive(file.init_pid, file.init_starttime) { Liveness::Orphaned } else { Liveness::Dead })
}

/// Tried shared, so that many can ask at once; the monitor takes it exclusively and waits out such a question.
fn monitor_lives(dir: &Dir) -> Result<bool> {
    let lock = match dir.open_at(MONITOR_LOCK, OFlags::RDONLY, 0) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(false),
        other => other.with_context(|| format!("Failed opening \"{}\"", dir.path(MONITOR_LOCK).display()))?,
    };
    Ok(!lock::try_lock(&lock, false).context("Failed asking for the monitor's lock")?)
}

impl Store {
    fn run_dir(&self, p: &ProjectName, n: &InstanceName) -> Result<Option<Dir>> {
        let Some(run) = &self.run else { return Ok(None) };
        match run.dir(rel::run_dir(p, n)) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
            other => other.map(Some).with_context(|| format!("Failed opening the run folder of \"{n}\"")),
        }
    }

    /// The run file of an instance with what the kernel says; `None` if it was not started since boot or ended in order.
    ///
    /// # Errors
    /// The run file is damaged or cannot be read.
    pub fn running(&self, p: &ProjectName, n: &InstanceName) -> Result<Option<Running>> {
        let Some(dir) = self.run_dir(p, n)? else { return Ok(None) };
        let Some(file) = record::read::<RunFile>(&dir, RUN_FILE)? else { return Ok(None) };
        let liveness = liveness(&dir, &file)?;
        Ok(Some(Running { file, liveness }))
    }

    /// Whether a monitor of this instance lives, run file or not: between its start and its readiness there is none yet.
    ///
    /// # Errors
    /// An I/O error.
    pub fn has_monitor(&self, p: &ProjectName, n: &InstanceName) -> Result<bool> {
        self.run_dir(p, n)?.map_or(Ok(false), |dir| monitor_lives(&dir))
    }

    /// Whether the instance has a run folder: it runs, or what is left of a run is to be cleared away.
    ///
    /// # Errors
    /// An I/O error.
    pub fn has_run_dir(&self, p: &ProjectName, n: &InstanceName) -> Result<bool> {
        Ok(self.run_dir(p, n)?.is_some())
    }

    /// Makes the run folder of an instance (0700) for its monitor; a wish of an earlier run is removed.
    ///
    /// # Errors
    /// An I/O error.
    pub fn make_run_dir(&self, lock: &Held<InstanceKey, Exclusive>) -> Result<PathBuf> {
        let (p, n) = (&lock.key().project, &lock.key().name);
        let fail = || format!("Failed creating the run folder of \"{n}\"");
        let run = self.run_mut()?;
        run.make(rel::RUN_INSTANCES, 0o711).with_context(fail)?;
        run.make(rel::run_dir(p, n), 0o700).with_context(fail)?;
        run.unlink(rel::run_dir(p, n).join(WISH_FILE)).with_context(fail)?;
        Ok(run.path(rel::run_dir(p, n)))
    }

    /// Removes the run folder of an instance that does not run.
    ///
    /// # Errors
    /// Conflict: a monitor lives; or an I/O error.
    pub fn remove_run_dir(&self, lock: &Held<InstanceKey, Exclusive>) -> Result<()> {
        let (p, n) = (&lock.key().project, &lock.key().name);
        if self.has_monitor(p, n)? {
            return Err(Error::conflict("The instance is running"));
        }
        super::trash::remove(&self.layout().instance_run_dir(p, n))
    }

    /// The wish that was left for the monitor of an instance, for those who clean up in its place.
    ///
    /// # Errors
    /// An I/O error.
    pub fn wish(&self, p: &ProjectName, n: &InstanceName) -> Result<Option<Wish>> {
        self.run_dir(p, n)?.map_or(Ok(None), |dir| read_wish(&dir))
    }

    /// Leaves a wish for the monitor; write it before signalling.
    ///
    /// # Errors
    /// An I/O error: the instance has no run folder.
    pub fn save_wish(&self, lock: &Held<InstanceKey, Exclusive>, wish: Wish) -> Result<()> {
        let (p, n) = (&lock.key().project, &lock.key().name);
        let dir = self.run_dir(p, n)?.ok_or_else(|| Error::conflict("The instance is not running"))?;
        atomic::write(&dir, OsStr::new(WISH_FILE), wish.as_str().as_bytes(), 0o600, Durability::Fast, true)
    }
}

/// The monitor's lock, held from its first moment to its last; the proof with which it writes the run file.
///
/// It stands apart from [`Store`]: a monitor that only waits holds no store and no layout lock.
#[derive(Debug)]
pub struct MonitorLock {
    _lock: File,
    dir: Dir,
}

impl MonitorLock {
    /// Takes the lock in `run_dir` ([`Store::make_run_dir`]).
    ///
    /// # Errors
    /// Busy: another monitor lives; or an I/O error.
    pub fn take(run_dir: &Path) -> Result<Self> {
        let fail = || format!("Failed locking \"{}\"", run_dir.join(MONITOR_LOCK).display());
        let dir = Dir::open(run_dir).with_context(fail)?;
        let file = dir.open_at(MONITOR_LOCK, OFlags::RDWR | OFlags::CREATE, 0o600).with_context(fail)?;
        // Somebody asking holds it shared for an instant; another monitor holds it for long.
        let won = lock::acquire(file, true, std::time::Duration::from_secs(1)).with_context(fail)?;
        let lock = won.ok_or_else(|| Error::busy("The instance has a monitor already"))?;
        Ok(Self { _lock: lock, dir })
    }

    /// Writes the run file.
    ///
    /// # Errors
    /// An I/O error.
    pub fn save(&self, file: &RunFile) -> Result<()> {
        record::write(&self.dir, RUN_FILE, file, Durability::Fast)
    }

    /// Removes the run file: the instance has ended and is cleaned up.
    ///
    /// # Errors
    /// An I/O error.
    pub fn remove(&self) -> Result<()> {
        self.dir.unlink(RUN_FILE).map(drop).context("Failed removing the run file")
    }

    /// The wish left by a command, if any.
    ///
    /// # Errors
    /// An I/O error.
    pub fn wish(&self) -> Result<Option<Wish>> {
        read_wish(&self.dir)
    }

    /// Removes the wish, once it was fulfilled.
    ///
    /// # Errors
    /// An I/O error.
    pub fn clear_wish(&self) -> Result<()> {
        self.dir.unlink(WISH_FILE).map(drop).context("Failed removing the wish")
    }
}

#[cfg(test)]
mod tests {
    use super::super::Access;
    use super::super::layout::Layout;
    use super::*;

    fn run_file() -> RunFile {
        let pid = std::process::id() as i32;
        let starttime = proc::own_start_time().expect("own");
        RunFile {
            format: 0,
            monitor_pid: pid,
            monitor_starttime: starttime,
            boot_id: boot_id::current().expect("boot id").to_string(),
            init_pid: pid,
            init_starttime: starttime,
            cgroup: "/sys/fs/cgroup/stapes/default_c1".into(),
            started_at: Timestamp::now(),
            extra: BTreeMap::new(),
        }
    }

    #[test]
    fn liveness_is_asked_of_the_kernel() {
        let d = tempfile::tempdir().expect("tempdir");
        let layout = Layout::under(d.path());
        let store = Store::open(&layout, Access::Write).expect("open");
        let (p, n) = (ProjectName::default(), InstanceName::parse("c1").expect("name"));
        assert!(store.running(&p, &n).expect("none").is_none());
        let held = store.lock_instance(&p, &n, "start").expect("lock");
        assert!(store.save_wish(&held, Wish::Stop).is_err(), "nothing runs");
        let dir = store.make_run_dir(&held).expect("run folder");
        assert_eq!(dir, layout.instance_run_dir(&p, &n));
        assert!(!store.has_monitor(&p, &n).expect("ask"));
        let monitor = MonitorLock::take(&dir).expect("monitor");
        assert_eq!(MonitorLock::take(&dir).expect_err("second").kind(), crate::error::Kind::Busy);
        assert!(store.has_monitor(&p, &n).expect("ask") && store.running(&p, &n).expect("no file yet").is_none());

        let mut file = run_file();
        monitor.save(&file).expect("save");
        let seen = store.running(&p, &n).expect("read").expect("there");
        assert_eq!((seen.liveness, seen.file.init_pid, seen.file.format), (Liveness::Running, file.init_pid, 1));
        assert!(seen.file.open_init().expect("pidfd").is_some());
        store.save_wish(&held, Wish::Restart).expect("wish");
        assert_eq!(monitor.wish().expect("wish"), Some(Wish::Restart));
        monitor.clear_wish().expect("clear");
        assert_eq!(monitor.wish().expect("wish"), None);
        assert!(store.remove_run_dir(&held).is_err(), "it runs");

        // What another test forks has a copy of the lock until its exec.
        let left = || {
            let end = std::time::Instant::now() + std::time::Duration::from_secs(10);
            while store.has_monitor(&p, &n).expect("ask") && std::time::Instant::now() < end {
                std::thread::sleep(std::time::Duration::from_millis(2));
            }
        };
        drop(monitor);
        left();
        let state = |f: &RunFile| {
            record::write(&Dir::open(&dir).expect("dir"), RUN_FILE, f, Durability::Fast).expect("save");
            store.running(&p, &n).expect("read").expect("there").liveness
        };
        assert_eq!(state(&file), Liveness::Orphaned, "init lives, its monitor does not");
        file.init_starttime += 1;
        assert_eq!(state(&file), Liveness::Dead, "a recycled pid is not ours");
        assert!(file.open_init().expect("pidfd").is_none());
        let _monitor = MonitorLock::take(&dir).expect("monitor");
        file = RunFile { boot_id: "another".into(), ..run_file() };
        assert_eq!(state(&file), Liveness::Dead, "of an earlier boot");
        assert!(file.open_monitor().expect("pidfd").is_none(), "nobody is reached by a pid of another boot");
        drop(_monitor);
        left();
        store.remove_run_dir(&held).expect("remove");
        store.remove_run_dir(&held).expect("again");
        assert!(!dir.exists());
    }
}
