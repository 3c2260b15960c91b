//! Parsers of the values that are more than a word or a number, for validation and for those who act on them.

use super::checks;
use crate::base::{boolean, idmap, idset, size};
use crate::error::{Error, Result};
use std::collections::{BTreeMap, BTreeSet};

/// `limits.cpu`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CpuLimit {
    /// That many of the least used.
    Count(u32),
    /// These.
    Set(BTreeSet<u32>),
    /// A virtual machine's layout.
    Topology {
        /// Sockets.
        sockets: u32,
        /// Cores a socket.
        cores: u32,
        /// Threads a core.
        threads: u32,
    },
}

/// Reads `limits.cpu`.
pub fn cpu(value: &str) -> Result<CpuLimit> {
    if value.contains('=') {
        return topology(value);
    }
    let shape = !value.is_empty() && value.bytes().all(|c| c.is_ascii_digit() || matches!(c, b',' | b'-'));
    if !shape {
        return Err(Error::invalid("Invalid CPU limit syntax"));
    }
    if checks::digits(value) {
        let count = value.parse().ok().filter(|n| *n > 0);
        return count.map(CpuLimit::Count).ok_or_else(|| Error::invalid(format!("Invalid cpuset value: {value}")));
    }
    idset::parse(value).map(CpuLimit::Set)
}

fn topology(value: &str) -> Result<CpuLimit> {
    let (mut sockets, mut cores, mut threads) = (None, None, None);
    for chunk in value.split(',').map(str::trim) {
        let entry = chunk.split_once('=').map(|(k, v)| (k.trim(), v.trim()));
        let (key, count) = entry.ok_or_else(|| Error::invalid(format!("Invalid CPU topology entry: {chunk:?}")))?;
        let slot = match key {
            "sockets" => &mut sockets,
            "cores" => &mut cores,
            "threads" => &mut threads,
            _ => return Err(Error::invalid(format!("Unknown CPU topology entry: {key:?}"))),
        };
        let number = checks::digits(count).then(|| count.parse().ok()).flatten().filter(|n: &u32| *n > 0);
        let number =
            number.ok_or_else(|| Error::invalid(format!("Invalid CPU topology value for {key:?}: {count:?}")))?;
        if slot.replace(number).is_some() {
            return Err(Error::invalid(format!("Duplicate CPU topology entry: {key:?}")));
        }
    }
    let one = |n: Option<u32>| n.unwrap_or(1);
    Ok(CpuLimit::Topology { sockets: one(sockets), cores: one(cores), threads: one(threads) })
}

/// `limits.cpu.allowance`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Allowance {
    /// A share under load.
    Percent(u32),
    /// A hard limit: milliseconds out of milliseconds.
    Times {
        /// To use.
        quota: u32,
        /// Out of.
        period: u32,
    },
}

/// Reads `limits.cpu.allowance`.
pub fn allowance(value: &str) -> Result<Allowance> {
    let wrong = || Error::invalid(format!("Invalid allowance: {value}"));
    let number = |s: &str| checks::digits(s).then(|| s.parse::<u32>().ok()).flatten().ok_or_else(wrong);
    if let Some(percent) = value.strip_suffix('%') {
        return number(percent).map(Allowance::Percent);
    }
    let (quota, period) = value.split_once('/').ok_or_else(wrong)?;
    let times =
        |s: &str| number(s.strip_suffix("ms").unwrap_or(s)).and_then(|n| if n > 0 { Ok(n) } else { Err(wrong()) });
    Ok(Allowance::Times { quota: times(quota)?, period: times(period)? })
}

/// `limits.memory`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemoryLimit {
    /// Bytes.
    Bytes(u64),
    /// Of the host's memory.
    Percent(u64),
}

impl MemoryLimit {
    /// In bytes, given the host's memory.
    pub fn bytes(self, host: u64) -> u64 {
        match self {
            Self::Bytes(n) => n,
            Self::Percent(p) => (host / 100).saturating_mul(p),
        }
    }
}

/// Reads `limits.memory`.
pub fn memory(value: &str) -> Result<MemoryLimit> {
    if let Some(percent) = value.strip_suffix('%') {
        let number = checks::digits(percent).then(|| percent.parse().ok()).flatten();
        return match number {
            Some(0) => Err(Error::invalid("Memory limit can't be 0%")),
            Some(n) => Ok(MemoryLimit::Percent(n)),
            None => Err(Error::invalid(format!("Invalid value: {value}"))),
        };
    }
    match size::parse_bytes(value)? {
        0 => Err(Error::invalid("Memory limit can't be 0")),
        n => Ok(MemoryLimit::Bytes(n)),
    }
}

/// `limits.memory.swap`, `limits.memory.hotplug`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Switch {
    /// On or off.
    Bool(bool),
    /// Bytes.
    Bytes(u64),
}

/// Reads a boolean or bytes; `0` and `1` are booleans.
pub fn switch(value: &str) -> Result<Switch> {
    boolean::parse(value).map(Switch::Bool).or_else(|_| size::parse_bytes(value).map(Switch::Bytes))
}

/// `limits.kernel.*`; none is unlimited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rlimit {
    /// Soft limit.
    pub soft: Option<u64>,
    /// Hard limit.
    pub hard: Option<u64>,
}

/// Reads `limits.kernel.*`.
pub fn rlimit(value: &str) -> Result<Rlimit> {
    let one = |s: &str| match s.trim() {
        "unlimited" => Ok(None),
        s if checks::digits(s) => {
            s.parse().map(Some).map_err(|_| Error::invalid(format!("Invalid resource limit {value:?}")))
        }
        _ => Err(Error::invalid(format!("Invalid resource limit {value:?}"))),
    };
    let (soft, hard) = value.split_once(':').unwrap_or((value, value));
    let limit = Rlimit { soft: one(soft)?, hard: one(hard)? };
    match limit {
        Rlimit { soft: None, hard: Some(_) } => Err(Error::invalid(format!("Soft limit above hard limit {value:?}"))),
        Rlimit { soft: Some(s), hard: Some(h) } if s > h => {
            Err(Error::invalid(format!("Soft limit above hard limit {value:?}")))
        }
        limit => Ok(limit),
    }
}

/// A disk's `limits.read`, `.write` or `.max`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct IoLimit {
    /// Bytes a second.
    pub bytes: Option<u64>,
    /// Requests a second.
    pub iops: Option<u64>,
}

/// Reads `10MB`, `30iops`, or one of either separated by a comma.
pub fn io_limit(value: &str) -> Result<IoLimit> {
    let mut limit = IoLimit::default();
    for part in value.split(',').map(str::trim).filter(|p| !p.is_empty()) {
        let (slot, what, number) = match part.strip_suffix("iops") {
            Some(n) => {
                let number = checks::digits(n).then(|| n.parse().ok()).flatten();
                let number = number.ok_or_else(|| Error::invalid(format!("Invalid I/O limit {part:?}")))?;
                (&mut limit.iops, "IOPS", number)
            }
            None => (&mut limit.bytes, "byte/s", size::parse_bytes(part)?),
        };
        if slot.replace(number).is_some() {
            return Err(Error::invalid(format!("More than one {what} limit in {value:?}")));
        }
    }
    Ok(limit)
}

/// What mounting by a container is redirected to: file system to FUSE program, or to none if the kernel mounts it.
pub fn mount_filter(allowed: &str, fuse: &str) -> Result<BTreeMap<String, Option<String>>> {
    let words =
        |s: &'_ str| s.split(',').map(str::trim).filter(|w| !w.is_empty()).map(String::from).collect::<Vec<_>>();
    let mut filter = BTreeMap::new();
    for entry in words(fuse) {
        let parts: Vec<&str> = entry.split('=').collect();
        let [fs, program] = parts[..] else {
            let key = super::SYSCALLS_INTERCEPT_MOUNT_FUSE.name;
            return Err(Error::invalid(format!("{key} is not of the form 'filesystem=fuse-binary': {entry}")));
        };
        filter.insert(fs.to_string(), Some(program.to_string()));
    }
    for fs in words(allowed) {
        if filter.insert(fs.clone(), None).is_some_and(|old| old.is_some()) {
            return Err(Error::invalid(format!(
                "Filesystem {fs} cannot appear in {} and {}",
                super::SYSCALLS_INTERCEPT_MOUNT_ALLOWED.name,
                super::SYSCALLS_INTERCEPT_MOUNT_FUSE.name
            )));
        }
    }
    Ok(filter)
}

pub(super) fn check_cpu(value: &str) -> Result<()> {
    cpu(value).map(drop)
}

pub(super) fn check_allowance(value: &str) -> Result<()> {
    allowance(value).map(drop)
}

pub(super) fn check_memory(value: &str) -> Result<()> {
    memory(value).map(drop)
}

pub(super) fn check_rlimit(value: &str) -> Result<()> {
    rlimit(value).map(drop)
}

pub(super) fn check_io_limit(value: &str) -> Result<()> {
    io_limit(value).map(drop)
}

pub(super) fn check_raw_idmap(value: &str) -> Result<()> {
    idmap::IdMap::parse_raw(value).map(drop)
}

pub(super) fn check_oom(value: &str) -> Result<()> {
    match checks::int(value)? {
        -1000..=1000 => Ok(()),
        _ => Err(Error::invalid(format!("Invalid value for a limit {value:?}. Must be between -1000 and 1000"))),
    }
}

/// Lines `key = value` of `raw.lxc`; comments and empty lines are left out.
pub fn raw_lxc(value: &str) -> Result<Vec<(String, String)>> {
    let mut entries = Vec::new();
    for line in value.split('\n') {
        let line = line.trim_start_matches([' ', '\t']);
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (key, val) = line.split_once('=').ok_or_else(|| Error::invalid(format!("Invalid raw.lxc line: {line}")))?;
        entries.push((key.trim_matches([' ', '\t']).to_lowercase(), val.trim_matches([' ', '\t']).to_string()));
    }
    Ok(entries)
}

pub(super) fn check_raw_lxc(value: &str) -> Result<()> {
    for (key, _) in raw_lxc(value)? {
        let message = match key.as_str() {
            "lxc.logfile" | "lxc.log.file" => "Setting lxc.logfile is not allowed",
            "lxc.syslog" | "lxc.log.syslog" => "Setting lxc.log.syslog is not allowed",
            "lxc.ephemeral" => "Setting lxc.ephemeral is not allowed",
            key if key.starts_with("lxc.prlimit.") => {
                "Process limits should be set via \"limits.kernel.[limit name]\" and not directly via \"lxc.prlimit.[limit name]\""
            }
            _ => continue,
        };
        return Err(Error::invalid(message));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn cpus() {
        assert_eq!(cpu("4").expect("cpu"), CpuLimit::Count(4));
        assert_eq!(cpu("1-1").expect("cpu"), CpuLimit::Set([1].into()));
        assert_eq!(cpu("0-2,7").expect("cpu"), CpuLimit::Set([0, 1, 2, 7].into()));
        let t = CpuLimit::Topology { sockets: 1, cores: 2, threads: 2 };
        assert_eq!(cpu("cores=2, threads=2").expect("cpu"), t);
        for bad in ["0", "-1", "a", "1,1", "0-4294967295", "cores=0", "cores=1,cores=2", "cpus=1", "cores", "="] {
            assert!(cpu(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn times_and_sizes() {
        assert_eq!(allowance("50%").expect("a"), Allowance::Percent(50));
        assert_eq!(allowance("25ms/100ms").expect("a"), Allowance::Times { quota: 25, period: 100 });
        for bad in ["50", "%", "1ms", "0ms/0ms", "1s/2s", "-1%"] {
            assert!(allowance(bad).is_err(), "{bad}");
        }
        assert_eq!(memory("50%").expect("m").bytes(1000), 500);
        assert_eq!(memory("1GiB").expect("m"), MemoryLimit::Bytes(1 << 30));
        assert!(memory("0").is_err() && memory("0%").is_err() && memory("x").is_err());
        assert_eq!(switch("1").expect("s"), Switch::Bool(true));
        assert_eq!(switch("1GiB").expect("s"), Switch::Bytes(1 << 30));
        assert_eq!(rlimit("1024:unlimited").expect("r"), Rlimit { soft: Some(1024), hard: None });
        assert_eq!(rlimit("unlimited").expect("r"), Rlimit { soft: None, hard: None });
        assert!(rlimit("5:1").is_err() && rlimit("unlimited:1").is_err() && rlimit("-1").is_err());
        assert_eq!(io_limit("10MB,20iops").expect("io"), IoLimit { bytes: Some(10_000_000), iops: Some(20) });
        assert!(io_limit("1MB,2MB").is_err() && io_limit("xiops").is_err());
    }

    #[test]
    fn raw_values() {
        assert!(check_raw_lxc("# x\n lxc.cap.drop = sys_admin\n").is_ok());
        assert!(check_raw_lxc("lxc.log.file=/x").is_err() && check_raw_lxc("foo").is_err());
        assert!(check_raw_lxc("lxc.prlimit.nofile = 1").is_err());
        let filter = mount_filter("ext4, xfs", "ntfs=ntfs-3g").expect("filter");
        assert_eq!(filter["ntfs"].as_deref(), Some("ntfs-3g"));
        assert!(mount_filter("ext4", "ext4=fuse2fs").is_err() && mount_filter("", "ext4").is_err());
    }

    proptest! {
        #[test]
        fn never_panics(text in "[0-9a-zA-Z%/,:=. -]{0,16}") {
            let _ = (cpu(&text), allowance(&text), memory(&text), rlimit(&text), io_limit(&text), raw_lxc(&text));
        }
    }
}
