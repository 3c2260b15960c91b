//! A limit that the host cannot hold is refused, at the start and live, and says why.

use crate::common_root::skip;
use crate::support::{Ask, state};

#[test]
fn without_a_controller() {
    let Some(state) = state("without_a_controller") else { return };
    let there = stapes::ops::load::cgroups(&state.layout()).unwrap().controllers();
    let all = [
        ("limits.memory=64MiB", "memory"),
        ("limits.processes=50", "pids"),
        ("limits.cpu=1", "cpuset"),
        ("limits.cpu.nodes=0", "cpuset"),
        ("limits.cpu.allowance=50%", "cpu"),
        ("limits.cpu.priority=3", "cpu"),
        ("limits.disk.priority=3", "io"),
        ("limits.hugepages.2MB=1MiB", "hugetlb"),
    ];
    let missing: Vec<_> = all.iter().filter(|(_, c)| !there.iter().any(|t| t == c)).collect();
    if missing.is_empty() {
        skip("without_a_controller", "the host's cgroup2 has them all");
        return;
    }
    state.launch("c1", &[]).good().unwrap();
    for (setting, controller) in missing {
        let (key, value) = setting.split_once('=').unwrap();
        let reason = format!("Cannot apply \"{key}\": the cgroup2 controller \"{controller}\" is not available");
        let out = state.launch("c2", &["-c", setting]);
        out.clean_failure().unwrap();
        assert!(out.stderr.contains(&reason), "{out}");
        assert_eq!(state.status("c2").as_deref(), Some("STOPPED"));
        state.good(&["delete", "c2"]);
        let out = state.run(&["config", "set", "c1", setting]);
        out.clean_failure().unwrap();
        assert!(out.stderr.contains(&reason), "{out}");
        assert_eq!(state.good(&["config", "get", "c1", key]).trim(), "");
        // One that does not run takes it: it may be meant for another host. It cannot be started, and unset it can.
        state.good(&["stop", "-f", "c1"]);
        state.good(&["config", "set", "c1", setting]);
        assert_eq!(state.good(&["config", "get", "c1", key]).trim(), value);
        state.run(&["start", "c1"]).clean_failure().unwrap();
        state.good(&["config", "unset", "c1", key]);
        state.good(&["start", "c1"]);
    }
    let out = state.run(&["run", "test", "-c", "limits.cpu.allowance=1ms/5000ms", "--", "true"]);
    out.clean_failure().unwrap();
    state.finish();
}

/// Those of disks, which are no keys.
#[test]
fn without_a_controller_for_disks() {
    let Some(state) = state("without_a_controller_for_disks") else { return };
    if stapes::ops::load::cgroups(&state.layout()).unwrap().controllers().iter().any(|c| c == "io") {
        skip("without_a_controller_for_disks", "the host's cgroup2 has it");
        return;
    }
    let reason = "Cannot apply disk limits as IO cgroup controller is missing";
    let out = state.launch("c1", &["-d", "root,limits.read=1MB"]);
    out.clean_failure().unwrap();
    assert!(out.stderr.contains(reason), "{out}");
    state.good(&["config", "device", "unset", "c1", "root", "limits.read"]);
    state.good(&["start", "c1"]);
    let out = state.run(&["config", "device", "set", "c1", "root", "limits.max=1MB"]);
    out.clean_failure().unwrap();
    assert!(out.stderr.contains(reason), "{out}");
    let add = ["config", "device", "add", "c1", "d", "disk", "source=/proc", "path=/d", "limits.write=1iops"];
    let out = state.run(&add);
    out.clean_failure().unwrap();
    assert!(out.stderr.contains(reason) && !state.good(&["config", "show", "c1"]).contains("/proc"), "{out}");
    state.finish();
}

/// The kernel takes no such value: said before anything is done.
#[test]
fn values_that_no_kernel_takes() {
    let Some(state) = state("values_that_no_kernel_takes") else { return };
    for setting in ["limits.cpu.allowance=1ms/5000ms", "limits.processes=-7"] {
        let out = state.launch("c1", &["-c", setting]);
        out.clean_failure().unwrap();
        assert!(out.stderr.contains(setting.split('=').next().unwrap()), "{out}");
        state.good(&["delete", "c1"]);
    }
    state.finish();
}
