//! Starts the monitor of an instance: our binary re-executed, in a session and a cgroup of its own, with nothing inherited
//! but the sealed plan, a pipe to report on and its log.

use crate::container::plan::Plan;
use crate::error::{Context, Error, Result};
use crate::fault;
use crate::host::cgroup::Tree;
use crate::host::scope;
use crate::ops::lifecycle;
use crate::store::lock::{Exclusive, Held, InstanceKey};
use crate::sys::child::{CArray, Fd, Op};
use crate::sys::clone::{Child, Spawn, spawn};
use crate::sys::{memfd, selfexe};
use std::ffi::CString;
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;

/// Where the monitor finds its plan.
pub const PLAN: i32 = 3;
/// Where it reports.
pub const READY: i32 = 4;
/// Where it holds the instance's lock, too, until it has recorded what runs: whoever starts it may be killed meanwhile, and
/// nobody else may take a container that is on its way for one that was left behind.
pub const LOCK: i32 = 5;
/// Argument zero of the role.
pub const ROLE: &str = "stapes-monitor";

/// Starts the monitor and waits until the container runs. Needs the instance's lock, `held`.
///
/// # Errors
/// What the monitor reports; the monitor has then ended and left nothing.
pub fn monitor(held: &Held<InstanceKey, Exclusive>, plan: &Plan, cgroups: &Tree) -> Result<()> {
    let (ready, theirs) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    let data = memfd::sealed("stapes-plan", &plan.to_json()?).context("Failed handing over the plan")?;
    let log = std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW | libc::O_CLOEXEC)
        .open(plan.log_dir.join(lifecycle::MONITOR_LOG))
        .context("Failed opening the monitor's log")?;
    let null = std::fs::File::open("/dev/null").context("Failed opening \"/dev/null\"")?;
    let exe = our_binary(plan).context("Failed opening ourselves")?;
    let words = [ROLE.to_string(), format!("{}/{}", plan.project, plan.name)];
    let handed = [data.as_fd(), theirs.as_fd(), held.as_fd()];
    let program = role([null.as_raw_fd(), log.as_raw_fd()], &handed, exe.as_fd(), words)?;
    let mut child = into_tree(cgroups, &program).context("Failed starting the monitor")?;
    drop(theirs);
    if let Err(failure) = child.wait_exec().context("Failed starting the monitor")? {
        return Err(Error::failed(format!("Failed starting the monitor: error {}", failure.errno)));
    }
    await_ready(ready, child, "The monitor ended before the instance was running")
}

/// Straight into the monitors' group, as a rule; if it is not there, or is going away with the last instance, it is made.
fn into_tree(cgroups: &Tree, program: &[Op]) -> Result<Child> {
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

/// What the monitor, and what it starts itself, runs from: a protected view where the instance's root could write to the binary itself.
pub(super) fn our_binary(plan: &Plan) -> crate::sys::Result<OwnedFd> {
    if plan.holds_uid(selfexe::owner()?) { selfexe::sealed() } else { selfexe::plain() }
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
    let mut pipe = std::fs::File::from(ready);
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
