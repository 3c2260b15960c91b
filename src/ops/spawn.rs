//! Starts the monitor of an instance: our binary re-executed, in a session and a cgroup of its own, with nothing inherited
//! but the plan, a line to talk on and the lock.

use crate::container::plan::Plan;
use crate::error::{Context, Error, Result};
use crate::fault;
use crate::host::cgroup::Tree;
use crate::host::scope;
use crate::model::instance::Config;
use crate::ops::{idmap, lifecycle, load};
use crate::store::Store;
use crate::store::lock::{Exclusive, Held, InstanceKey};
use crate::sys::child::{CArray, Fd, Op};
use crate::sys::clone::{Child, Spawn, spawn};
use crate::sys::{memfd, selfexe, socket};
use std::ffi::CString;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// Where the monitor finds its plan.
pub const PLAN: i32 = 3;
/// Where it is told to begin, and reports.
pub const LINE: i32 = 4;
/// Where it holds the instance's lock, too, until it has recorded what runs: whoever starts it may be killed meanwhile, and
/// nobody else may take a container that is on its way for one that was left behind.
pub const LOCK: i32 = 5;
/// Argument zero of the role.
pub const ROLE: &str = "stapes-monitor";

/// A monitor that has been started and waits for its plan. Dropped, it goes away and has done nothing.
///
/// It comes to itself while the caller is still busy with disk and records, and while it lives our part of the cgroup tree
/// stays.
#[derive(Debug)]
pub struct Waiting {
    child: Child,
    line: OwnedFd,
    plan: OwnedFd,
    /// It runs from a protected view of our binary.
    protected: bool,
}

impl Waiting {
    /// Starts one for the instance whose lock is `held`; it holds that, too. `config`: the instance's, expanded.
    ///
    /// # Errors
    /// As clone3(2); the cgroup tree cannot be made ([`Tree::hold`]).
    pub fn new(store: &Store, held: &Held<InstanceKey, Exclusive>, config: &Config) -> Result<Self> {
        let protected = idmap::would_reach(config, selfexe::owner()?)?;
        let (line, theirs) = socket::pair()?;
        let plan = memfd::empty("stapes-plan").context("Failed handing over the plan")?;
        let null = File::options().read(true).write(true).open("/dev/null").context("Failed opening \"/dev/null\"")?;
        let exe = our_binary(protected).context("Failed opening ourselves")?;
        let words = [ROLE.to_string(), format!("{}/{}", held.key().project, held.key().name)];
        let handed = [plan.as_fd(), theirs.as_fd(), held.as_fd()];
        let program = role([null.as_raw_fd(); 2], &handed, exe.as_fd(), words)?;
        let child = into_tree(&load::cgroups(store.layout())?, &program).context("Failed starting the monitor")?;
        Ok(Self { child, line, plan, protected })
    }

    /// Gives it the plan and waits until the container runs.
    ///
    /// # Errors
    /// What the monitor reports; it has then ended and left nothing.
    pub fn start(mut self, plan: &Plan) -> Result<()> {
        if plan.holds_uid(selfexe::owner()?) && !self.protected {
            return Err(Error::internal("The monitor would run from a binary that the instance can write to"));
        }
        memfd::seal(self.plan.as_fd(), &plan.to_json()?).context("Failed handing over the plan")?;
        if let Err(failure) = self.child.wait_exec().context("Failed starting the monitor")? {
            return Err(Error::failed(format!("Failed starting the monitor: error {}", failure.errno)));
        }
        // One that is gone has its say below.
        let _ = socket::tell(self.line.as_fd());
        await_ready(self.line, self.child, "The monitor ended before the instance was running")
    }
}

/// Straight into the monitors' group, as a rule; if it is not there, or is going away with the last instance, it is made.
pub(super) fn into_tree(cgroups: &Tree, program: &[Op]) -> Result<Child> {
    let into = || -> Result<Child> {
        let group = cgroups.monitors().open()?;
        Ok(spawn(&Spawn { namespaces: 0, cgroup: Some(group.as_fd()) }, program)?)
    };
    match into() {
        Err(e) if scope::went_away(&e) => {
            let _keeper = cgroups.hold()?;
            into()
        }
        other => other,
    }
}

/// What the monitor, and what it starts itself, runs from: a protected view where the instance's root could write to the
/// binary itself.
pub(super) fn our_binary(protected: bool) -> crate::sys::Result<OwnedFd> {
    if protected { selfexe::sealed() } else { selfexe::plain() }
}

/// Our binary as a role of these two first words: in a session of its own, with `handed` at the descriptors from 3 on.
pub(super) fn role(
    io: [i32; 2],
    handed: &[BorrowedFd<'_>],
    exe: BorrowedFd<'_>,
    words: [String; 2],
) -> Result<Vec<Op>> {
    let text = |s: String| CString::new(s).map_err(|_| Error::internal("A name has a NUL byte"));
    let [null, log] = io;
    // Moved out of the way of the fixed numbers first, to numbers above all that are read here: where several instances are
    // started side by side, there may be many.
    let count = i32::try_from(handed.len()).unwrap_or(i32::MAX);
    let given = handed.iter().map(AsRawFd::as_raw_fd).chain([null, log, exe.as_raw_fd(), PLAN + count]);
    let spare = given.max().unwrap_or(PLAN) + 1;
    let mut ops = vec![Op::NewSession, Op::Dup { from: Fd::Num(exe.as_raw_fd()), to: spare }];
    ops.extend((spare + 2..).zip(handed).map(|(to, fd)| Op::Dup { from: Fd::Num(fd.as_raw_fd()), to }));
    ops.extend([
        Op::Dup { from: Fd::Num(log), to: spare + 1 },
        Op::Dup { from: Fd::Num(null), to: 0 },
        Op::Dup { from: Fd::Num(spare + 1), to: 1 },
        Op::Dup { from: Fd::Num(spare + 1), to: 2 },
        Op::CloexecFrom(3),
    ]);
    ops.extend((0..count).map(|i| Op::Dup { from: Fd::Num(spare + 2 + i), to: PLAN + i }));
    let [role, subject] = words;
    ops.extend([
        Op::ResetSignals,
        Op::Umask(0o077),
        Op::WorkDir { path: text("/".into())?, or_root: false },
        Op::ExecFd {
            fd: Fd::Num(spare),
            argv: CArray::new(vec![text(role)?, text(subject)?]),
            envp: CArray::new(environment()?),
        },
    ]);
    Ok(ops)
}

/// Nothing, but for the faults of a test build.
fn environment() -> Result<Vec<CString>> {
    let variable = fault::specification().map(|s| format!("{}={s}", fault::VARIABLE));
    variable.into_iter().map(|v| CString::new(v).map_err(|_| Error::internal("A fault has a NUL byte"))).collect()
}

/// Waits for what a role reports; `silent`: what it means that it ended without a word.
pub(super) fn await_ready(ready: OwnedFd, child: Child, silent: &str) -> Result<()> {
    let mut report = Vec::new();
    let mut pipe = File::from(ready);
    Read::by_ref(&mut pipe).take(64 << 10).read_to_end(&mut report).context("Failed waiting for a process of ours")?;
    match report.first() {
        Some(b'+') => {
            child.detach()?;
            Ok(())
        }
        Some(_) => Err(lifecycle::decode_failure(&report)),
        None => Err(Error::failed(silent)),
    }
}
