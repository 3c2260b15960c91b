//! The operations that process 1 of a container runs between clone and exec, made from the plan as data.
//!
//! The order matters and is the one drawn in `start`. No I/O but a look at our own /proc entry: tests read the list.

use super::plan::{Init, Plan};
use super::seccomp;
use super::start::FixedMounts;
use crate::error::{Error, Result};
use crate::sys::child::{CArray, Fd, Make, Op};
use crate::sys::process;
use oci_spec::runtime::{Process, Spec};
use std::ffi::{CString, OsStr};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Slots of what the child makes itself.
const PROC: usize = 200;
const SYS: usize = 201;
const CGROUP: usize = 202;
const MQUEUE: usize = 203;
const CONSOLE: usize = 204;
const NESTED: usize = 205;
const NETWORK: usize = 207;
const READONLY: usize = 208;

const NOSUID: u64 = 2;
const NODEV: u64 = 4;
const NOEXEC: u64 = 8;
const RDONLY: u64 = 1;
/// What a command may be found in when its image says nothing.
pub const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

pub(super) fn cstring(s: impl AsRef<[u8]>) -> Result<CString> {
    CString::new(s.as_ref()).map_err(|_| Error::invalid("A value has a NUL byte"))
}

pub(super) fn relative(path: &Path) -> Result<CString> {
    let bytes = path.as_os_str().as_bytes();
    let start = bytes.iter().position(|b| *b != b'/').unwrap_or(bytes.len());
    cstring(&bytes[start..])
}

/// The whole program of process 1. `socket`: the child's end; `fixed`: order of the descriptors that come over it.
pub(super) fn container(plan: &Plan, socket: i32, fixed: &FixedMounts) -> Result<Vec<Op>> {
    if fixed.total > PROC {
        return Err(Error::invalid("The instance has too many mounts"));
    }
    let mut out = vec![
        // The parent's end of the socket must be the parent's alone, or its death would not be seen here; and its locks
        // are not ours to keep.
        Op::KeepOnly(vec![socket]),
        Op::Await(socket),
        Op::Ids { uid: 0, gid: 0, groups: Vec::new() },
        Op::NotDumpable,
        Op::DieWithParent,
        Op::SessionKeyring,
        Op::NewSession,
        Op::Unshare(libc::CLONE_NEWCGROUP),
        Op::PrivateMounts,
    ];
    kernel_filesystems(plan, &mut out)?;
    if let Some(name) = plan.spec.hostname() {
        out.push(Op::Hostname(cstring(name)?));
    }
    out.push(Op::LoopbackUp);
    sysctls(plan, &mut out)?;
    out.push(Op::Receive { socket, first: 0, count: fixed.total });
    out.push(Op::PivotTo(Fd::Slot(FixedMounts::ROOT)));
    // From here on places of mounts are made, which are the instance's own: whose command it is does not matter.
    out.push(Op::Umask(0o022));
    attach_system(plan, &mut out)?;
    attach_mounts(plan, fixed, &mut out)?;
    limits(plan, &mut out)?;
    for i in 0..3 {
        out.push(Op::Dup { from: Fd::Slot(FixedMounts::STREAMS + i), to: i as i32 });
    }
    out.push(Op::CloexecFrom(3));
    out.push(Op::ResetSignals);
    out.push(Op::DropBounding(dropped(&plan.spec)));
    out.push(Op::NothingInheritable);
    for filter in seccomp::programs(&plan.spec)? {
        out.push(Op::Seccomp(filter));
    }
    label(plan, &mut out);
    let process = plan.spec.process().as_ref().ok_or_else(|| Error::internal("The plan has no process"))?;
    match &plan.init {
        // As on a real boot, an init has no controlling terminal: its getty takes it.
        Init::System => command(process, &mut out)?,
        Init::Command { terminal } => {
            out.push(Op::Blank(process::own_strings()));
            out.push(Op::Supervise);
            out.push(Op::NewSession);
            if *terminal {
                out.push(Op::ControllingTty(Fd::Num(0)));
            }
            command(process, &mut out)?;
        }
    }
    Ok(out)
}

fn kernel_filesystems(plan: &Plan, out: &mut Vec<Op>) -> Result<()> {
    let new =
        |kind: &str, slot, attr| Ok::<_, Error>(Op::NewFs { kind: cstring(kind)?, params: Vec::new(), attr, slot });
    out.push(new("proc", PROC, NOSUID | NODEV | NOEXEC)?);
    let sys = if plan.privileged { RDONLY } else { 0 };
    out.push(new("sysfs", SYS, NOSUID | NODEV | NOEXEC | sys)?);
    out.push(new("cgroup2", CGROUP, NOSUID | NODEV | NOEXEC)?);
    out.push(new("mqueue", MQUEUE, NOSUID | NODEV | NOEXEC)?);
    if plan.nesting && !plan.privileged {
        out.push(new("proc", NESTED, NOSUID | NODEV | NOEXEC)?);
        out.push(new("sysfs", NESTED + 1, NOSUID | NODEV | NOEXEC)?);
    }
    Ok(())
}

fn attach_system(plan: &Plan, out: &mut Vec<Op>) -> Result<()> {
    let root = Fd::Slot(FixedMounts::ROOT);
    let attach = |slot, path: &str, make| {
        Ok::<_, Error>(Op::Attach { fd: Fd::Slot(slot), dir: root, path: cstring(path)?, make, links: false })
    };
    out.push(attach(FixedMounts::DEV, "dev", Make::Dir)?);
    out.push(attach(FixedMounts::PTS, "dev/pts", Make::No)?);
    out.push(attach(FixedMounts::SHM, "dev/shm", Make::No)?);
    out.push(attach(MQUEUE, "dev/mqueue", Make::No)?);
    out.push(attach(PROC, "proc", Make::Dir)?);
    out.push(attach(SYS, "sys", Make::Dir)?);
    out.push(attach(CGROUP, "sys/fs/cgroup", Make::No)?);
    // The console is the first terminal of this devpts.
    out.push(Op::CopyTree { from: Fd::Slot(FixedMounts::PTS), path: cstring("0")?, recursive: false, slot: CONSOLE });
    out.push(attach(CONSOLE, "dev/console", Make::No)?);
    if plan.privileged {
        // The network namespace is its own, and so are its settings. Taken while nothing read-only lies above them.
        let network = cstring("sys/net")?;
        out.push(Op::CopyTree { from: Fd::Slot(PROC), path: network, recursive: false, slot: NETWORK });
        let paths = plan.spec.linux().as_ref().and_then(|l| l.readonly_paths().as_ref());
        for (i, path) in paths.into_iter().flatten().filter_map(|p| p.strip_prefix("/proc/")).enumerate() {
            let slot = READONLY + i;
            out.push(Op::CopyTree { from: Fd::Slot(PROC), path: cstring(path)?, recursive: false, slot });
            out.push(Op::SetAttr { fd: Fd::Slot(slot), set: RDONLY, clear: 0, propagation: 0, recursive: false });
            out.push(attach(slot, &format!("proc/{path}"), Make::No)?);
        }
        out.push(attach(NETWORK, "proc/sys/net", Make::No)?);
    } else if plan.nesting {
        out.push(attach(NESTED, "dev/.lxc/proc", Make::Dir)?);
        out.push(attach(NESTED + 1, "dev/.lxc/sys", Make::Dir)?);
    }
    Ok(())
}

fn attach_mounts(plan: &Plan, fixed: &FixedMounts, out: &mut Vec<Op>) -> Result<()> {
    let dir = Fd::Slot(FixedMounts::ROOT);
    for (i, bind) in plan.host_binds.iter().enumerate() {
        let path = relative(&bind.target)?;
        out.push(Op::Attach { fd: Fd::Slot(fixed.binds + i), dir, path, make: Make::No, links: false });
    }
    for (i, m) in plan.mounts.iter().enumerate() {
        let make = if super::disks::is_file(&m.source) { Make::File } else { Make::Dir };
        out.push(Op::Attach { fd: Fd::Slot(fixed.mounts + i), dir, path: relative(&m.target)?, make, links: true });
    }
    Ok(())
}

/// Written while our procfs is attached nowhere: nothing can be mounted over it yet.
fn sysctls(plan: &Plan, out: &mut Vec<Op>) -> Result<()> {
    let sysctl = plan.spec.linux().as_ref().and_then(|l| l.sysctl().as_ref());
    let mut sysctls: Vec<_> = sysctl.into_iter().flatten().collect();
    sysctls.sort();
    for (key, value) in sysctls {
        let path = cstring(format!("sys/{}", key.replace('.', "/")))?;
        out.push(Op::WriteFile { dir: Fd::Slot(PROC), path, data: value.clone().into_bytes(), optional: false });
    }
    Ok(())
}

/// Late, and by changing over instead of asking for it at the exec: an exec into another label takes the wish to die with
/// the parent away (the kernel's security/apparmor/lsm.c), and our small init never execs. The mounts are there by now; one
/// over the file is refused by the operation itself.
fn label(plan: &Plan, out: &mut Vec<Op>) {
    if let Some(profile) = plan.apparmor() {
        let data = format!("changeprofile {profile}").into_bytes();
        out.push(Op::Label { proc: Fd::Slot(PROC), data });
    }
}

fn limits(plan: &Plan, out: &mut Vec<Op>) -> Result<()> {
    let process = plan.spec.process().as_ref();
    for limit in process.and_then(|p| p.rlimits().as_ref()).into_iter().flatten() {
        let resource = super::limits::resource(&limit.typ().to_string())?;
        out.push(Op::Rlimit { resource, soft: limit.soft(), hard: limit.hard() });
    }
    Ok(())
}

/// Capabilities that the bounding set of the specification lacks.
fn dropped(spec: &Spec) -> u64 {
    let bounding = spec.process().as_ref().and_then(|p| p.capabilities().as_ref()).and_then(|c| c.bounding().as_ref());
    let Some(kept) = bounding else { return 0 };
    let mut mask = 0;
    for cap in caps::all() {
        let kept = kept.iter().any(|k| format!("CAP_{}", k.to_string().trim_start_matches("CAP_")) == cap.to_string());
        if !kept {
            mask |= cap.bitmask();
        }
    }
    mask
}

fn exec(process: &Process) -> Result<Op> {
    let strings = |list: Option<&Vec<String>>| list.into_iter().flatten().map(cstring).collect::<Result<Vec<_>>>();
    let argv = strings(process.args().as_ref())?;
    let envp = strings(process.env().as_ref())?;
    let program = process.args().as_ref().and_then(|a| a.first()).cloned().unwrap_or_default();
    let path = process.env().iter().flatten().find_map(|e| e.strip_prefix("PATH=")).unwrap_or(DEFAULT_PATH);
    let paths = candidates(OsStr::new(&program), path)?;
    Ok(Op::Exec { paths, argv: CArray::new(argv), envp: CArray::new(envp) })
}

/// Where `program` may be, as execvp(3) looks for it.
///
/// # Errors
/// A NUL byte in the path.
pub fn candidates(program: &OsStr, path: &str) -> Result<Vec<CString>> {
    if program.as_bytes().contains(&b'/') {
        return Ok(vec![cstring(program.as_bytes())?]);
    }
    path.split(':')
        .filter(|d| d.starts_with('/'))
        .map(|d| cstring([d.trim_end_matches('/').as_bytes(), b"/", program.as_bytes()].concat()))
        .collect()
}

/// User, folder and exec of a command, after its session and terminal are there.
fn command(process: &Process, out: &mut Vec<Op>) -> Result<()> {
    let user = process.user();
    let groups = user.additional_gids().clone().unwrap_or_default();
    if user.uid() != 0 || user.gid() != 0 || !groups.is_empty() {
        out.push(Op::Ids { uid: user.uid(), gid: user.gid(), groups });
    }
    out.push(Op::WorkDir { path: cstring(process.cwd().as_os_str().as_bytes())?, or_root: false });
    out.push(exec(process)?);
    Ok(())
}
