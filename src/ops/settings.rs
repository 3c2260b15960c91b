//! From the expanded configuration of a container to the typed settings of its plan. The only place where the runtime's
//! keys are read.

use super::state::host_memory;
use super::{confine, limits};
use crate::base::idmap::IdMap;
use crate::container::build::Settings;
use crate::container::dev;
use crate::container::ops::DEFAULT_PATH;
use crate::container::plan::Bind;
use crate::container::seccomp::Policy;
use crate::error::{Error, Result};
use crate::host::cgroup::{Group, Tree};
use crate::host::subids;
use crate::model::cpus::CpuWish;
use crate::model::instance::Config;
use crate::model::keys::{self, Key, parse};
use crate::sys::path::{self, Links};
use rustix::fs::OFlags;
use std::ffi::OsString;
use std::os::fd::AsFd;
use std::path::Path;

/// Limits with the cgroup controller they need: without it they are refused, so that nobody believes in one that is not
/// there.
static CONTROLLED: [(&Key, &str); 13] = [
    (&keys::LIMITS_CPU, "cpuset"),
    (&keys::LIMITS_CPU_NODES, "cpuset"),
    (&keys::LIMITS_CPU_ALLOWANCE, "cpu"),
    (&keys::LIMITS_CPU_PRIORITY, "cpu"),
    (&keys::LIMITS_MEMORY, "memory"),
    (&keys::LIMITS_MEMORY_ENFORCE, "memory"),
    (&keys::LIMITS_MEMORY_SWAP, "memory"),
    (&keys::LIMITS_PROCESSES, "pids"),
    (&keys::LIMITS_DISK_PRIORITY, "io"),
    (&keys::LIMITS_HUGEPAGES_64KB, "hugetlb"),
    (&keys::LIMITS_HUGEPAGES_1MB, "hugetlb"),
    (&keys::LIMITS_HUGEPAGES_2MB, "hugetlb"),
    (&keys::LIMITS_HUGEPAGES_1GB, "hugetlb"),
];

/// Keys that this version knows and cannot yet honour: a start with one of them set is refused.
static NOT_YET: [&Key; 13] = [
    &keys::RAW_LXC,
    &keys::RAW_SECCOMP,
    &keys::SYSCALLS_INTERCEPT_BPF,
    &keys::SYSCALLS_INTERCEPT_MKNOD,
    &keys::SYSCALLS_INTERCEPT_MOUNT,
    &keys::SYSCALLS_INTERCEPT_SCHED_SETSCHEDULER,
    &keys::SYSCALLS_INTERCEPT_SETXATTR,
    &keys::SYSCALLS_INTERCEPT_SYSINFO,
    &keys::NVIDIA_RUNTIME,
    &keys::SECURITY_BPFFS_DELEGATE_ATTACHS,
    &keys::SECURITY_BPFFS_DELEGATE_CMDS,
    &keys::SECURITY_BPFFS_DELEGATE_MAPS,
    &keys::SECURITY_BPFFS_DELEGATE_PROGS,
];
/// The same for prefixes.
static NOT_YET_BELOW: [&Key; 2] = [&keys::SYSTEMD_CREDENTIAL, &keys::SYSTEMD_CREDENTIAL_BINARY];

/// Refuses configuration that a start could not honour.
///
/// # Errors
/// [`crate::error::Kind::Unsupported`] naming the key; Invalid: a limit that no kernel takes.
pub fn check(config: &Config, cgroups: &Tree) -> Result<()> {
    for (key, controller) in CONTROLLED {
        if key.get(config).is_some() {
            cgroups.require(controller, key.name)?;
        }
    }
    if let Some(wish) = CpuWish::of(config) {
        wish.check()?;
    }
    limits::of(config, host_memory())?;
    for key in NOT_YET {
        if key.get(config).is_some_and(|v| !crate::base::boolean::is_false(v)) {
            return Err(refused(key));
        }
    }
    confine::check(config)?;
    match NOT_YET_BELOW.into_iter().find(|key| key.entries(config).next().is_some()) {
        Some(key) => Err(refused(key)),
        None => Ok(()),
    }
}

fn refused(key: &Key) -> Error {
    Error::unsupported(format!("\"{}\" is not supported by this version", key.name))
        .hint(format!("unset it: stapes config unset <instance> {}", key.name))
}

/// The settings of a system container named `name` that boots its own init.
///
/// # Errors
/// [`crate::error::Kind::Invalid`] for a value that does not parse.
pub fn system(name: &str, config: &Config, idmap: Option<IdMap>, group: &Group) -> Result<Settings> {
    let mut env = vec!["container=lxc".to_string()];
    env.extend(environment(config));
    let mut rlimits = Vec::new();
    for (limit, value) in keys::LIMITS_KERNEL.entries(config) {
        let parsed = parse::rlimit(value)?;
        rlimits.push((limit.to_string(), parsed.soft.unwrap_or(u64::MAX), parsed.hard.unwrap_or(u64::MAX)));
    }
    let oom = keys::LIMITS_MEMORY_OOM_PRIORITY.i64(config)?.unwrap_or(0);
    Ok(Settings {
        hostname: name.to_string(),
        args: vec!["/sbin/init".into()],
        env,
        cwd: "/".into(),
        terminal: true,
        readonly_paths: readonly_paths(idmap.is_none()),
        idmap,
        rlimits,
        sysctls: keys::LINUX_SYSCTL.entries(config).map(|(k, v)| (k.to_string(), v.to_string())).collect(),
        oom_score: i32::try_from(oom).unwrap_or(0),
        seccomp: policy(config)?,
        cgroup: group.path().to_path_buf(),
        limits: limits::of(config, host_memory())?,
        ..Settings::default()
    })
}

/// `environment.*` as `KEY=value`.
pub fn environment(config: &Config) -> Vec<String> {
    keys::ENVIRONMENT.entries(config).map(|(k, v)| format!("{k}={v}")).collect()
}

/// Where commands are, too, in an instance that has the first of each.
const FURTHER_PATHS: [(&str, &str); 2] = [("snap", "/snap/bin"), ("etc/NIXOS", "/run/current-system/sw/bin")];

/// Where commands are in an instance; `init`: its process 1, if it runs.
pub fn search_path(init: Option<i32>) -> String {
    let mut all = DEFAULT_PATH.to_string();
    let Some(root) = init.and_then(|pid| path::open_root(Path::new(&format!("/proc/{pid}/root/."))).ok()) else {
        return all;
    };
    for (sign, more) in FURTHER_PATHS {
        if path::open(root.as_fd(), Path::new(sign), OFlags::PATH, 0, Links::InRoot).is_ok() {
            all = format!("{all}:{more}");
        }
    }
    all
}

/// The environment of a command in an instance, as Incus sets it: `given` over `environment.*` over the defaults. `path`:
/// where commands are.
pub fn command_environment(
    config: &Config,
    given: &[(OsString, OsString)],
    uid: u32,
    (path, term): (String, Option<&str>),
) -> Vec<OsString> {
    let mut all: std::collections::BTreeMap<OsString, OsString> = std::collections::BTreeMap::new();
    all.insert("PATH".into(), path.into());
    all.insert("LANG".into(), "C.UTF-8".into());
    all.extend(term.map(|t| ("TERM".into(), t.into())));
    if uid == 0 {
        all.insert("HOME".into(), "/root".into());
        all.insert("USER".into(), "root".into());
    }
    all.extend(keys::ENVIRONMENT.entries(config).map(|(k, v)| (k.into(), v.into())));
    all.extend(given.iter().cloned());
    let joined = |(mut name, value): (OsString, OsString)| {
        name.push("=");
        name.push(value);
        name
    };
    all.into_iter().map(joined).collect()
}

/// The seccomp policy.
///
/// # Errors
/// [`crate::error::Kind::Invalid`] for a value that is no boolean.
pub fn policy(config: &Config) -> Result<Policy> {
    Ok(Policy {
        deny_default: keys::SYSCALLS_DENY_DEFAULT.bool(config)?,
        deny_compat: keys::SYSCALLS_DENY_COMPAT.bool(config)?,
        deny: keys::SYSCALLS_DENY.get(config).map(str::to_string),
        allow: keys::SYSCALLS_ALLOW.get(config).map(str::to_string),
    })
}

/// What LXC makes read-only of /proc (`lxc.mount.auto = proc:mixed`); /proc/sys/net, which is its own, stays writable.
fn readonly_paths(privileged: bool) -> Vec<String> {
    let wanted = ["/proc/sys", "/proc/sysrq-trigger"];
    let there = |p: &&str| privileged && Path::new(p).exists();
    wanted.into_iter().filter(there).map(str::to_string).collect()
}

/// The device nodes around us, to be bound where none can be made: inside a container.
pub fn device_nodes() -> Vec<Bind> {
    if !subids::in_user_namespace() {
        return Vec::new();
    }
    let bind = |name| Path::new("/dev").join(name);
    dev::node_names().map(bind).map(|path| Bind { source: path.clone(), target: path }).collect()
}

/// What of the host's own is bound into a system container, where the host has it: Incus's list, and lxcfs's files.
pub fn host_binds(privileged: bool) -> Vec<Bind> {
    const SYS: [&str; 7] = [
        "/sys/firmware/efi/efivars",
        "/sys/fs/fuse/connections",
        "/sys/fs/pstore",
        "/sys/kernel/config",
        "/sys/kernel/debug",
        "/sys/kernel/security",
        "/sys/kernel/tracing",
    ];
    const LXCFS: &str = "/var/lib/lxcfs";
    const LXCFS_FILES: [&str; 9] = [
        "proc/cpuinfo",
        "proc/diskstats",
        "proc/loadavg",
        "proc/meminfo",
        "proc/slabinfo",
        "proc/stat",
        "proc/swaps",
        "proc/uptime",
        "sys/devices/system/cpu/online",
    ];
    let binfmt = privileged.then_some("/proc/sys/fs/binfmt_misc");
    let mut all = device_nodes();
    let sys = SYS
        .into_iter()
        .chain(binfmt)
        .filter(|p| Path::new(p).exists())
        .map(|p| Bind { source: p.into(), target: p.into() });
    all.extend(sys);
    if Path::new(LXCFS).join(LXCFS_FILES[0]).exists() {
        let files = LXCFS_FILES.into_iter().map(|f| (Path::new(LXCFS).join(f), Path::new("/").join(f)));
        all.extend(files.filter(|(s, _)| s.exists()).map(|(source, target)| Bind { source, target }));
    }
    all
}
