//! Limits of a container as files of its cgroup: typed limits, the runtime specification's words for them (`resources`), and
//! the files of cgroup v2 that these become.
//!
//! `container::start` writes them into the group before process 1 is cloned into it; `ops::live` writes them again while it
//! runs. The CPUs it may use are not among them: they depend on everybody else (`ops::cpus`). Sources: config-linux.md of the
//! OCI runtime specification, the kernel's admin-guide/cgroup-v2.rst and Documentation/block/bfq-iosched.rst.

use super::throttle::{self, Throttles};
use crate::error::{Context, Error, Result};
use crate::host::cgroup::Group;
use oci_spec::OciSpecError;
use oci_spec::runtime::{
    LinuxBlockIoBuilder, LinuxCpuBuilder, LinuxHugepageLimit, LinuxHugepageLimitBuilder, LinuxMemoryBuilder,
    LinuxPidsBuilder, LinuxResources, LinuxResourcesBuilder,
};
use std::collections::HashMap;

/// Limits, typed; what is not set does not limit.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Limits {
    /// Share of the CPUs under load, 1 to 10000; the kernel's default is 100.
    pub cpu_weight: Option<u64>,
    /// CPU time out of a period, both in microseconds.
    pub cpu_time: Option<(u64, u64)>,
    /// Memory it can never have more of, bytes.
    pub memory: Option<u64>,
    /// Memory from which on it is slowed down and reclaimed from, bytes.
    pub memory_high: Option<u64>,
    /// Swap, bytes; without it a `memory` limit allows none.
    pub swap: Option<u64>,
    /// Processes and threads; below zero: no limit.
    pub processes: Option<i64>,
    /// Share of disk requests under load, 1 to 1000; the kernel's default is 100.
    pub disk_weight: Option<u16>,
    /// Reading and writing of block devices.
    pub throttles: Throttles,
    /// Huge pages: size in the kernel's words (`2MB`), bytes.
    pub hugepages: Vec<(String, u64)>,
}

/// A control file and what goes into it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// Its name; `<controller>.…`.
    pub file: String,
    /// The value.
    pub value: String,
    /// A kernel without the file is fine, or without the device that it is about.
    pub optional: bool,
}

impl Setting {
    pub(super) fn new(file: impl Into<String>, value: impl ToString) -> Self {
        Self { file: file.into(), value: value.to_string(), optional: false }
    }

    /// One that gives a limit up: where there is no such file there was no limit.
    pub fn lifted(file: impl Into<String>, value: impl ToString) -> Self {
        Self { optional: true, ..Self::new(file, value) }
    }

    /// The controller that it belongs to.
    pub fn controller(&self) -> &str {
        self.file.split('.').next().unwrap_or_default()
    }
}

const WEIGHT: &str = "cpu.weight";
const SWAP: &str = "memory.swap.max";
const HIGH: &str = "memory.high";

pub(super) fn internal(e: OciSpecError) -> Error {
    Error::internal("Failed building the plan").caused_by(e)
}

/// The specification's words for `limits`; none if nothing is limited. What it has no word for, or another meaning, stands
/// under `unified`.
///
/// # Errors
/// [`crate::error::Kind::Internal`] if it cannot be built.
pub fn to_spec(limits: &Limits) -> Result<Option<LinuxResources>> {
    if *limits == Limits::default() {
        return Ok(None);
    }
    let signed = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    let mut resources = LinuxResourcesBuilder::default().build().map_err(internal)?;
    if let Some((quota, period)) = limits.cpu_time {
        let cpu = LinuxCpuBuilder::default().quota(signed(quota)).period(period).build().map_err(internal)?;
        resources.set_cpu(Some(cpu));
    }
    if let Some(limit) = limits.memory {
        // Memory and swap together, as the specification counts: the limit itself is no swap.
        let mut memory = LinuxMemoryBuilder::default().limit(signed(limit));
        if limits.swap.is_none() {
            memory = memory.swap(signed(limit));
        }
        resources.set_memory(Some(memory.build().map_err(internal)?));
    }
    if let Some(processes) = limits.processes {
        resources.set_pids(Some(LinuxPidsBuilder::default().limit(processes).build().map_err(internal)?));
    }
    if limits.disk_weight.is_some() || !limits.throttles.is_empty() {
        let mut block = LinuxBlockIoBuilder::default().build().map_err(internal)?;
        block.set_weight(limits.disk_weight);
        throttle::to_spec(&limits.throttles, &mut block)?;
        resources.set_block_io(Some(block));
    }
    let page = |(size, bytes): &(String, u64)| {
        LinuxHugepageLimitBuilder::default().page_size(size.clone()).limit(signed(*bytes)).build().map_err(internal)
    };
    let pages = limits.hugepages.iter().map(page).collect::<Result<Vec<_>>>()?;
    resources.set_hugepage_limits((!pages.is_empty()).then_some(pages));
    let unified = [(WEIGHT, limits.cpu_weight), (HIGH, limits.memory_high), (SWAP, limits.swap)];
    let unified: HashMap<String, String> =
        unified.into_iter().filter_map(|(file, n)| Some((file.to_string(), n?.to_string()))).collect();
    resources.set_unified((!unified.is_empty()).then_some(unified));
    Ok(Some(resources))
}

/// The control files of `resources`, in the order they are to be written: by name, so that plans compare.
pub fn files(resources: &LinuxResources) -> Vec<Setting> {
    let mut all = Vec::new();
    let time = resources.cpu().as_ref().and_then(|c| Some((c.quota()?, c.period().unwrap_or(100_000))));
    all.extend(time.map(|(quota, period)| Setting::new("cpu.max", format!("{quota} {period}"))));
    if let Some(memory) = resources.memory() {
        let limit = memory.limit();
        all.extend(limit.map(|n| Setting::new("memory.max", n)));
        let swap = memory.swap().map(|all| all.saturating_sub(limit.unwrap_or(0)).max(0));
        // A kernel that does not count swap gives none either.
        all.extend(swap.map(|n| Setting::lifted(SWAP, n)));
    }
    all.extend(resources.pids().iter().map(|p| match p.limit() {
        n if n < 0 => Setting::new("pids.max", "max"),
        n => Setting::new("pids.max", n),
    }));
    if let Some(block) = resources.block_io() {
        all.extend(block.weight().map(|w| Setting::new(IO_WEIGHT, w)));
        all.extend(throttle::settings(&throttle::from_spec(block)));
    }
    all.extend(resources.hugepage_limits().iter().flatten().flat_map(hugepages));
    all.extend(resources.unified().iter().flatten().map(|(file, value)| Setting::new(file, value)));
    all.sort_by(|a, b| a.file.cmp(&b.file));
    all
}

fn hugepages(limit: &LinuxHugepageLimit) -> Vec<Setting> {
    hugepage_files(limit.page_size()).into_iter().map(|file| Setting::new(file, limit.limit())).collect()
}

/// The files of one size of huge pages (`2MB`): use, and reservations.
pub fn hugepage_files(size: &str) -> [String; 2] {
    [format!("hugetlb.{size}.max"), format!("hugetlb.{size}.rsvd.max")]
}

/// Weight of disk requests under the io.cost policy.
pub const IO_WEIGHT: &str = "io.weight";
/// The same under the BFQ scheduler, for kernels that have no other.
const BFQ_WEIGHT: &str = "io.bfq.weight";

/// Writes settings into a group.
///
/// # Errors
/// [`crate::error::Kind::Unsupported`]: this kernel has no such limit. Else as write(2), naming the file.
pub fn write(group: &Group, settings: &[Setting]) -> Result<()> {
    settings.iter().try_for_each(|s| write_one(group, s))
}

fn write_one(group: &Group, setting: &Setting) -> Result<()> {
    let missing = |e: &Error| e.errno() == Some(libc::ENOENT);
    let mut done = group.write(&setting.file, &setting.value);
    if setting.file == IO_WEIGHT && done.as_ref().is_err_and(missing) {
        done = group.write(BFQ_WEIGHT, &setting.value);
    }
    match done {
        Err(e) if setting.optional && (missing(&e) || e.errno() == Some(libc::ENODEV)) => Ok(()),
        Err(e) if missing(&e) && group.exists() => {
            let message = format!("The kernel of this host has no limit \"{}\"", setting.file);
            Err(Error::unsupported(message).hint("unset the key that asks for it"))
        }
        other => other.context("Failed setting the instance's limits"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::block::Device;
    use crate::model::keys::parse::IoLimit;

    /// The files of `limits` as `name=value`, `?` behind optional ones, and the specification's fields used.
    fn rendered(limits: Limits) -> (String, String) {
        let Some(spec) = to_spec(&limits).expect("builds") else { return Default::default() };
        let mark = |s: &Setting| format!("{}={}{}", s.file, s.value, if s.optional { "?" } else { "" });
        let json = serde_json::to_value(&spec).expect("json");
        let fields: Vec<String> = json.as_object().expect("object").keys().cloned().collect();
        (files(&spec).iter().map(mark).collect::<Vec<_>>().join(" "), fields.join(","))
    }

    fn throttles() -> Throttles {
        let read = IoLimit { bytes: Some(5), iops: Some(6) };
        let devices = ["253:1", "8:0"].iter().filter_map(|text| Device::parse(text)).collect();
        throttle::average(&[(devices, throttle::Throttle::of(read, IoLimit::default()))])
    }

    #[test]
    fn table() {
        let none = Limits::default;
        let cases = [
            (none(), "", ""),
            (Limits { cpu_weight: Some(45), ..none() }, "cpu.weight=45", "unified"),
            (Limits { cpu_time: Some((25_000, 100_000)), ..none() }, "cpu.max=25000 100000", "cpu"),
            (Limits { memory: Some(64 << 20), ..none() }, "memory.max=67108864 memory.swap.max=0?", "memory"),
            (
                Limits { memory: Some(1000), swap: Some(5), ..none() },
                "memory.max=1000 memory.swap.max=5",
                "memory,unified",
            ),
            (Limits { memory_high: Some(1000), ..none() }, "memory.high=1000", "unified"),
            (Limits { swap: Some(0), ..none() }, "memory.swap.max=0", "unified"),
            (Limits { processes: Some(50), ..none() }, "pids.max=50", "pids"),
            (Limits { processes: Some(-1), ..none() }, "pids.max=max", "pids"),
            (Limits { disk_weight: Some(500), ..none() }, "io.weight=500", "blockIO"),
            (
                Limits { disk_weight: Some(10), throttles: throttles(), ..none() },
                "io.max=8:0 rbps=5 wbps=max riops=6 wiops=max io.max=253:1 rbps=5 wbps=max riops=6 wiops=max io.weight=10",
                "blockIO",
            ),
            (
                Limits { hugepages: vec![("2MB".into(), 4 << 20)], ..none() },
                "hugetlb.2MB.max=4194304 hugetlb.2MB.rsvd.max=4194304",
                "hugepageLimits",
            ),
        ];
        for (limits, files, fields) in cases {
            let words = format!("{limits:?}");
            assert_eq!(rendered(limits), (files.to_string(), fields.to_string()), "{words}");
        }
    }

    #[test]
    fn writing() {
        let d = tempfile::tempdir().expect("tempdir");
        let group = Group::at(d.path().to_path_buf());
        let one = |s: Setting| write(&group, &[s]);
        assert!(one(Setting::lifted("memory.max", "max")).is_ok(), "no file, no limit");
        let e = one(Setting::new("hugetlb.64KB.max", 0)).expect_err("no such limit");
        assert_eq!(e.to_string(), "The kernel of this host has no limit \"hugetlb.64KB.max\"");
        let text = |file: &str| std::fs::read_to_string(d.path().join(file)).expect("read");
        std::fs::write(d.path().join("io.bfq.weight"), "").expect("make");
        one(Setting::new(IO_WEIGHT, 10)).expect("falls back");
        assert_eq!(text("io.bfq.weight"), "10");
        std::fs::write(d.path().join(IO_WEIGHT), "").expect("make");
        one(Setting::new(IO_WEIGHT, 20)).expect("writes");
        assert_eq!((text(IO_WEIGHT), text("io.bfq.weight")), ("20".into(), "10".into()));
        assert_eq!(Setting::new("memory.swap.max", 0).controller(), "memory");
    }
}
