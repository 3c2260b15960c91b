//! Starts a container from its plan. Called by the monitor, whose child process 1 becomes.
//!
//! ```text
//!  monitor                                         process 1
//!  clone3: namespaces, cgroup, pidfd  ─────────▶   waits
//!  writes the id maps, makes the NICs ──── #1 ──▶  becomes root of its user namespace, leaves the cgroup namespace,
//!  mounts root, /dev, devices detached             mounts proc, sysfs, cgroup2, mqueue detached, sets the host name
//!  sends the mounts                   ──── #2 ──▶  pivots to the root, attaches all the others,
//!  waits for the report                            sysctls, limits, terminal, capabilities, seccomp
//!  end-of-file: it runs               ◀─── #3 ───  exec, or 12 bytes that say which step failed
//! ```
//!
//! Whatever fails before #3 kills the child and leaves nothing: all mounts live in descriptors and in its namespace.

use super::dev::{self, Dev};
use super::disks::{self, Owners};
use super::nics::{self, Lent};
use super::ops;
use super::plan::Plan;
use super::resources;
use super::rootfs::{self, Mapping};
use crate::error::{Context, Error, Result};
use crate::fault;
use crate::host::cgroup::Group;
use crate::host::lsm::apparmor;
use crate::model::attach::Shift;
use crate::store::mounted::{Board, Mounted};
use crate::sys::bpf;
use crate::sys::child::{Failure, Op};
use crate::sys::clone::{Child, Spawn, spawn};
use crate::sys::mount;
use crate::sys::{ns, socket};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// The standard streams of a command that is not on the console.
pub type Streams = [OwnedFd; 3];

/// A started container.
#[derive(Debug)]
pub struct Started {
    /// Process 1; dropping it kills it.
    pub child: Child,
    /// Master of the console, or of the command's terminal.
    pub console: OwnedFd,
    /// What gives interfaces of the host back when it has ended.
    pub lent: Lent,
}

/// Works on the root file system before the container sees it, through its detached mount.
pub type Furnish<'a> = &'a dyn Fn(BorrowedFd<'_>) -> Result<()>;

/// Starts it. `streams` are given for an `Init::Command` without a terminal; `furnish` writes what the plan's `files` ask for.
///
/// # Errors
/// [`crate::error::Kind::Failed`] naming the step; nothing is left running or mounted.
pub fn start(plan: &Plan, streams: Option<Streams>, furnish: Furnish<'_>) -> Result<Started> {
    let group = Group::at(plan.cgroup.clone());
    let cgroup = prepare_cgroup(plan, &group)?;
    fault::point("container.cgroup")?;
    let (ours, theirs) = socket::pair()?;
    let fixed = FixedMounts::count(plan);
    let program = ops::container(plan, theirs.as_raw_fd(), &fixed)?;
    let how = Spawn { namespaces: namespaces(plan), cgroup: Some(cgroup.as_fd()) };
    let mut child = spawn(&how, &program).context("Failed creating the container's first process")?;
    drop(theirs);
    fault::point("container.cloned")?;
    set_oom_score(plan, &child)?;
    let userns = write_maps(plan, &child)?;
    let lent = nics::make(plan, &child)?;
    socket::tell(ours.as_fd()).context("Failed talking to the container's first process")?;
    let mapping = userns.as_ref().map(|fd| Mapping {
        userns: fd.as_fd(),
        root_uid: plan.host_uid(0),
        root_gid: plan.host_gid(0),
    });
    let (fds, console) = detached_mounts(plan, mapping, streams)?;
    if !plan.files.is_empty() {
        furnish(fds[FixedMounts::ROOT].as_fd())?;
    }
    fault::point("container.mounts")?;
    let borrowed: Vec<BorrowedFd<'_>> = fds.iter().map(AsFd::as_fd).collect();
    // A child that has failed already says so on its report; the broken pipe here would hide it.
    let sent = socket::send_fds(ours.as_fd(), &borrowed);
    if let Err(failure) = child.wait_exec().context("Failed waiting for the container's first process")? {
        return Err(explain(&program, failure));
    }
    sent.context("Failed talking to the container's first process")?;
    check_label(plan, &child)?;
    Ok(Started { child, console, lent })
}

/// What was asked for is compared with what the kernel says: an instance does not run without its label.
fn check_label(plan: &Plan, child: &Child) -> Result<()> {
    let Some(wanted) = plan.apparmor() else { return Ok(()) };
    let label = apparmor::label_of(child.pid())?;
    match label.as_deref().is_some_and(|label| apparmor::holds(label, wanted)) {
        true => Ok(()),
        false => Err(Error::failed(format!(
            "The container's first process is not confined by the AppArmor profile \"{wanted}\" but by \"{}\"",
            label.as_deref().unwrap_or("unconfined")
        ))),
    }
}

/// Mounts of the plan that are always there, in the order they are sent in.
#[derive(Debug, Clone, Copy)]
pub(super) struct FixedMounts {
    /// How many descriptors are sent in all.
    pub total: usize,
    /// Index of the first host bind.
    pub binds: usize,
    /// Index of the first device mount.
    pub mounts: usize,
}

impl FixedMounts {
    pub(super) const ROOT: usize = 0;
    pub(super) const DEV: usize = 1;
    pub(super) const PTS: usize = 2;
    pub(super) const SHM: usize = 3;
    /// Three of them: standard input, output, error.
    pub(super) const STREAMS: usize = 4;

    fn count(plan: &Plan) -> Self {
        let binds = Self::STREAMS + 3;
        let mounts = binds + plan.host_binds.len();
        Self { total: mounts + plan.mounts.len(), binds, mounts }
    }
}

fn namespaces(plan: &Plan) -> i32 {
    let all = libc::CLONE_NEWNS | libc::CLONE_NEWPID | libc::CLONE_NEWUTS | libc::CLONE_NEWIPC | libc::CLONE_NEWNET;
    if plan.privileged { all } else { all | libc::CLONE_NEWUSER }
}

fn prepare_cgroup(plan: &Plan, group: &Group) -> Result<OwnedFd> {
    group.make()?;
    resources::write(group, &plan.limits())?;
    if plan.privileged {
        let fd = rustix::fs::open(
            group.path(),
            rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::DIRECTORY | rustix::fs::OFlags::CLOEXEC,
            rustix::fs::Mode::empty(),
        )?;
        bpf::restrict_devices(fd.as_fd(), &privileged_devices()).context("Failed restricting the devices")?;
        return Ok(fd);
    }
    group.delegate(plan.host_uid(0), plan.host_gid(0))?;
    group.open()
}

/// What a privileged container may open; everything may be made with mknod(2).
fn privileged_devices() -> Vec<bpf::Device> {
    let open = |major, minor| bpf::Device { block: false, major: Some(major), minor, open: true };
    let make = |block| bpf::Device { block, major: None, minor: None, open: false };
    let mut all = vec![make(false), make(true), open(136, None)];
    for minor in [3, 5, 7, 8, 9] {
        all.push(open(1, Some(minor)));
    }
    all.extend([open(5, Some(0)), open(5, Some(1)), open(5, Some(2)), open(10, Some(229)), open(10, Some(200))]);
    all
}

fn write_maps(plan: &Plan, child: &Child) -> Result<Option<OwnedFd>> {
    if plan.privileged {
        return Ok(None);
    }
    let linux = plan.spec.linux().as_ref().ok_or_else(|| Error::internal("The plan has no id map"))?;
    for (file, mappings) in [("uid_map", linux.uid_mappings()), ("gid_map", linux.gid_mappings())] {
        let mut text = String::new();
        for m in mappings.iter().flatten() {
            text.push_str(&format!("{} {} {}\n", m.container_id(), m.host_id(), m.size()));
        }
        let path = format!("/proc/{}/{file}", child.pid());
        write_once(&path, text.as_bytes()).with_context(|| format!("Failed writing the {file}"))?;
    }
    Ok(Some(ns::open(child.pid(), "user").context("Failed opening the user namespace")?))
}

/// From here, because lowering it takes the host's privilege (proc_pid_oom_score_adj(5)).
fn set_oom_score(plan: &Plan, child: &Child) -> Result<()> {
    let wanted = plan.spec.process().as_ref().and_then(|p| p.oom_score_adj()).unwrap_or(0);
    if wanted == 0 {
        return Ok(());
    }
    let path = format!("/proc/{}/oom_score_adj", child.pid());
    write_once(&path, wanted.to_string().as_bytes()).context("Failed setting the OOM score")
}

/// The kernel takes an id map in one write.
fn write_once(path: &str, data: &[u8]) -> Result<()> {
    use std::io::Write;
    let mut file = std::fs::OpenOptions::new().write(true).open(path)?;
    Ok(file.write_all(data)?)
}

/// All detached mounts in the order of [`FixedMounts`], and the console's master.
fn detached_mounts(
    plan: &Plan,
    mapping: Option<Mapping<'_>>,
    streams: Option<Streams>,
) -> Result<(Vec<OwnedFd>, OwnedFd)> {
    let options = rootfs::Options {
        mapping: mapping.filter(|_| plan.shift == Shift::Idmapped),
        readonly: plan.readonly,
        nodev: !plan.privileged,
        throwaway: plan.throwaway,
        scratch: Some(&plan.run_dir),
    };
    let root = rootfs::mount(&plan.rootfs, &options)?;
    let owner = dev::Owner::new(|id| plan.host_uid(id), |id| plan.host_gid(id));
    let Dev { dev, pts, shm, master, slave, .. } = dev::make(owner)?;
    let mut all = vec![root, dev, pts, shm];
    match streams {
        Some(streams) => all.extend(streams),
        None => {
            // Whoever writes there may open it again, as /dev/stdout.
            if let Some(user) = plan.spec.process().as_ref().map(|p| p.user().uid()).filter(|uid| *uid != 0) {
                let owner = rustix::fs::Uid::from_raw(plan.host_uid(user));
                rustix::fs::fchown(&slave, Some(owner), None).context("Failed setting the console's owner")?;
            }
            all.push(slave.try_clone()?);
            all.push(slave.try_clone()?);
            all.push(slave);
        }
    }
    for bind in &plan.host_binds {
        let private =
            |tree: &OwnedFd| mount::set_attr(tree.as_fd(), mount::no_attr(), mount::no_attr(), libc::MS_PRIVATE, true);
        let tree = mount::open_tree(&bind.source, true).and_then(|tree| private(&tree).map(|()| tree));
        all.push(tree.with_context(|| format!("Failed binding \"{}\"", bind.source.display()))?);
    }
    all.extend(device_mounts(plan, mapping)?);
    Ok((all, master))
}

/// Those of disk devices; noted in the run folder, for whoever changes the devices later.
fn device_mounts(plan: &Plan, mapping: Option<Mapping<'_>>) -> Result<Vec<OwnedFd>> {
    let (uid, gid) = (|id| plan.host_uid(id), |id| plan.host_gid(id));
    let owners = Owners { mapping, uid: &uid, gid: &gid };
    let (mut all, mut noted) = (Vec::new(), Vec::new());
    for m in &plan.mounts {
        let made = disks::detached(m, &owners).and_then(|fd| Ok((mount::id(fd.as_fd())?, fd)));
        let (id, fd) = made.with_context(|| format!("Failed mounting device \"{}\"", m.device))?;
        noted.push(Mounted { id, done: true, mount: m.clone() });
        all.push(fd);
    }
    Board::begin(&plan.run_dir, noted)?;
    Ok(all)
}

/// Turns the child's 12 bytes into words.
pub(super) fn explain(program: &[Op], failure: Failure) -> Error {
    let step = program.get(failure.step as usize).map_or_else(|| "start".to_string(), Op::describe);
    let cause = nix::errno::Errno::from_raw(failure.errno).desc();
    Error::failed(format!("Failed to {step}: {cause}")).with_errno(failure.errno)
}
