//! From `limits.*` of the expanded configuration to the typed limits of a container, and to the control files that a change
//! of a running one has to write. What Incus makes of each key stands in its documentation; CPUs are given out by `cpus`.

use crate::container::resources::{self, IO_WEIGHT, Limits, Setting, hugepage_files};
use crate::error::{Error, Result};
use crate::model::instance::Config;
use crate::model::keys::parse::{self, Allowance, Switch};
use crate::model::keys::{self, Action};
use std::collections::BTreeSet;

/// Priority where the key says none.
const TOP: i64 = 10;
/// Share of an instance without an allowance.
const SHARE: i64 = 100;
/// Weights that the kernel takes.
const WEIGHTS: (i64, i64) = (1, 10_000);
/// Periods that the kernel takes, milliseconds (sched-bwc.rst).
const PERIODS: std::ops::RangeInclusive<u32> = 1..=1000;

/// The limits that `config` asks for. `host_memory`: what a percentage is of, bytes.
///
/// # Errors
/// [`crate::error::Kind::Invalid`] for a value that does not parse, or that no kernel takes.
pub fn of(config: &Config, host_memory: u64) -> Result<Limits> {
    let memory = keys::LIMITS_MEMORY.read(config, parse::memory)?.map(|m| m.bytes(host_memory));
    let soft = keys::LIMITS_MEMORY_ENFORCE.text(config) == "soft";
    let mut hugepages = Vec::new();
    for (key, size) in &keys::LIMITS_HUGEPAGES {
        hugepages.extend(key.size(config)?.map(|bytes| ((*size).to_string(), bytes)));
    }
    Ok(Limits {
        memory: memory.filter(|_| !soft),
        memory_high: memory.filter(|_| soft),
        swap: swap(config)?,
        processes: processes(config)?,
        disk_weight: disk(config)?,
        hugepages,
        ..cpu(config)?
    })
}

/// The default stays the kernel's, as in Incus; a weight of 0 is none, 10 is the least that Incus gives.
fn disk(config: &Config) -> Result<Option<u16>> {
    let priority = keys::LIMITS_DISK_PRIORITY.i64(config)?;
    let set = priority.filter(|_| keys::LIMITS_DISK_PRIORITY.get(config).is_some());
    Ok(set.map(|n| u16::try_from((n * 100).max(10)).unwrap_or(u16::MAX)))
}

/// Weight and time: a percentage is a share under load, a pair of times a ceiling; priority only moves the weight.
fn cpu(config: &Config) -> Result<Limits> {
    let allowance = keys::LIMITS_CPU_ALLOWANCE.read(config, parse::allowance)?;
    let (share, time) = match allowance {
        None => (SHARE, None),
        Some(Allowance::Percent(n)) => (i64::from(n), None),
        Some(Allowance::Times { quota, period }) => {
            if !PERIODS.contains(&period) {
                let key = keys::LIMITS_CPU_ALLOWANCE.name;
                let message = format!("Invalid \"{key}\": the period is {period}ms and the kernel takes 1ms to 1000ms");
                return Err(Error::invalid(message));
            }
            (SHARE, Some((u64::from(quota) * 1000, u64::from(period) * 1000)))
        }
    };
    let weight = share - (TOP - keys::LIMITS_CPU_PRIORITY.i64(config)?.unwrap_or(TOP));
    let weight = weight.clamp(WEIGHTS.0, WEIGHTS.1);
    let cpu_weight = (weight != SHARE).then(|| weight.unsigned_abs());
    Ok(Limits { cpu_weight, cpu_time: time, ..Limits::default() })
}

/// `true` and nothing leave it to the memory limit, which allows no swap in version 2, as in Incus.
fn swap(config: &Config) -> Result<Option<u64>> {
    Ok(match keys::LIMITS_MEMORY_SWAP.read(config, parse::switch)? {
        None | Some(Switch::Bool(true)) => None,
        Some(Switch::Bool(false)) => Some(0),
        Some(Switch::Bytes(n)) => Some(n),
    })
}

fn processes(config: &Config) -> Result<Option<i64>> {
    let processes = keys::LIMITS_PROCESSES.i64(config)?;
    if processes.is_some_and(|n| n < -1) {
        let key = keys::LIMITS_PROCESSES.name;
        return Err(Error::invalid(format!("Invalid \"{key}\": a number of processes, or -1 for no limit")));
    }
    Ok(processes)
}

/// The control files that `actions` concern, as `config` wants them: a limit that is not set is lifted.
///
/// # Errors
/// As [`of`].
pub fn settings(actions: &BTreeSet<Action>, config: &Config, host_memory: u64) -> Result<Vec<Setting>> {
    let wanted = resources::to_spec(&of(config, host_memory)?)?.as_ref().map(resources::files).unwrap_or_default();
    let concerned: Vec<Setting> = actions.iter().flat_map(|a| lifted(*a)).collect();
    let as_wanted = |default: Setting| wanted.iter().find(|s| s.file == default.file).cloned().unwrap_or(default);
    Ok(concerned.into_iter().map(as_wanted).collect())
}

/// The files of an action with what the kernel gives a new group.
fn lifted(action: Action) -> Vec<Setting> {
    let max = |file: &str| Setting::lifted(file, "max");
    match action {
        Action::CpuTime => vec![Setting::lifted("cpu.weight", SHARE), Setting::lifted("cpu.max", "max 100000")],
        Action::Memory => vec![max("memory.swap.max"), max("memory.high"), max("memory.max")],
        Action::Processes => vec![max("pids.max")],
        Action::DiskPriority => vec![Setting::lifted(IO_WEIGHT, 100)],
        Action::HugePages => {
            let files = keys::LIMITS_HUGEPAGES.iter().flat_map(|(_, size)| hugepage_files(size));
            files.map(|file| max(&file)).collect()
        }
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> Config {
        let pairs = text.split_whitespace().filter_map(|pair| pair.split_once('='));
        pairs.map(|(k, v)| (format!("limits.{k}"), v.to_string())).collect()
    }

    fn files(settings: &[Setting]) -> String {
        settings.iter().map(|s| format!("{}={}", s.file, s.value)).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn table() {
        let cases = [
            ("", ""),
            ("cpu.allowance=50%", "cpu.weight=50"),
            ("cpu.allowance=50% cpu.priority=3", "cpu.weight=43"),
            ("cpu.allowance=100%", ""),
            ("cpu.allowance=5% cpu.priority=0", "cpu.weight=1"),
            ("cpu.allowance=20000%", "cpu.weight=10000"),
            ("cpu.priority=10", ""),
            ("cpu.priority=0", "cpu.weight=90"),
            ("cpu.allowance=25ms/100ms", "cpu.max=25000 100000"),
            ("cpu.allowance=200ms/100ms cpu.priority=5", "cpu.max=200000 100000 cpu.weight=95"),
            ("memory=64MiB", "memory.max=67108864 memory.swap.max=0"),
            ("memory=50%", "memory.max=500 memory.swap.max=0"),
            ("memory=1000 memory.swap=true", "memory.max=1000 memory.swap.max=0"),
            ("memory=1000 memory.swap=false", "memory.max=1000 memory.swap.max=0"),
            ("memory=1000 memory.swap=1MiB", "memory.max=1000 memory.swap.max=1048576"),
            ("memory=1000 memory.enforce=hard", "memory.max=1000 memory.swap.max=0"),
            ("memory=1000 memory.enforce=soft", "memory.high=1000"),
            ("memory=1000 memory.enforce=soft memory.swap=5", "memory.high=1000 memory.swap.max=5"),
            ("memory.enforce=hard memory.swap=true memory.swap.priority=1", ""),
            ("memory.swap=false", "memory.swap.max=0"),
            ("processes=50", "pids.max=50"),
            ("processes=-1", "pids.max=max"),
            ("disk.priority=0", "io.weight=10"),
            ("disk.priority=5", "io.weight=500"),
            ("disk.priority=10", "io.weight=1000"),
            (
                "hugepages.2MB=4MiB hugepages.1GB=0",
                "hugetlb.1GB.max=0 hugetlb.1GB.rsvd.max=0 hugetlb.2MB.max=4194304 hugetlb.2MB.rsvd.max=4194304",
            ),
            ("cpu=2 kernel.nofile=3", ""),
        ];
        for (text, want) in cases {
            let spec = resources::to_spec(&of(&config(text), 1000).expect("limits")).expect("spec");
            assert_eq!(files(&spec.as_ref().map(resources::files).unwrap_or_default()), want, "{text}");
        }
        for bad in ["cpu.allowance=1ms/2000ms", "processes=-2", "memory=0", "memory.swap=x", "hugepages.2MB=x"] {
            assert!(of(&config(bad), 1000).is_err(), "{bad}");
        }
    }

    #[test]
    fn live_changes() {
        let cases = [
            (Action::CpuTime, "", "cpu.weight=100 cpu.max=max 100000"),
            (Action::CpuTime, "cpu.allowance=1ms/2ms", "cpu.weight=100 cpu.max=1000 2000"),
            (Action::Memory, "", "memory.swap.max=max memory.high=max memory.max=max"),
            (Action::Memory, "memory=9", "memory.swap.max=0 memory.high=max memory.max=9"),
            (Action::Memory, "memory=9 memory.enforce=soft", "memory.swap.max=max memory.high=9 memory.max=max"),
            (Action::Processes, "", "pids.max=max"),
            (Action::Processes, "processes=3 memory=9", "pids.max=3"),
            (Action::DiskPriority, "disk.priority=1", "io.weight=100"),
            (Action::Cpu, "cpu=2", ""),
        ];
        for (action, text, want) in cases {
            let settings = settings(&[action].into(), &config(text), 1000).expect("settings");
            assert_eq!(files(&settings), want, "{action:?} {text}");
        }
        let pages = settings(&[Action::HugePages].into(), &config("hugepages.2MB=1"), 0).expect("settings");
        assert_eq!(pages.len(), 8);
        assert!(pages.iter().all(|s| s.optional == (s.value == "max")));
    }
}
