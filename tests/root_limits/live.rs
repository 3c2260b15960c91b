//! Limits changed while the instance runs: at once, all or nothing, and back again.

use crate::support::Ask;
use crate::tools::{controlled, files, group};

#[test]
fn set_and_unset() {
    let Some(state) = controlled("set_and_unset", &["cpu", "memory", "pids"]) else { return };
    state.launch("c1", &[]).good().unwrap();
    let all = ["cpu.weight", "cpu.max", "memory.max", "memory.high", "memory.swap.max", "pids.max"];
    let shown = || files(&state, "c1", &all);
    let free = "100; max 100000; max; max; max; max";
    assert_eq!(shown(), free);
    let steps: &[(&[&str], &str)] = &[
        (&["limits.memory=80MiB"], "100; max 100000; 83886080; max; 0; max"),
        (&["limits.memory.enforce=soft"], "100; max 100000; max; 83886080; max; max"),
        (&["limits.memory.swap=4096"], "100; max 100000; max; 83886080; 4096; max"),
        (&["limits.processes=40", "limits.cpu.allowance=20%"], "20; max 100000; max; 83886080; 4096; 40"),
        (&["limits.cpu.allowance=50ms/100ms", "limits.cpu.priority=0"], "90; 50000 100000; max; 83886080; 4096; 40"),
    ];
    for (settings, wanted) in steps {
        state.good(&[&["config", "set", "c1"], *settings].concat());
        assert_eq!(shown(), *wanted, "{settings:?}");
    }
    let keys = ["memory", "memory.enforce", "memory.swap", "processes", "cpu.allowance", "cpu.priority"];
    for key in keys {
        state.good(&["config", "unset", "c1", &format!("limits.{key}")]);
    }
    assert_eq!(shown(), free);
    // Through a profile, and off it again.
    state.good(&["profile", "set", "default", "limits.processes=33"]);
    assert_eq!(files(&state, "c1", &["pids.max"]), "33");
    state.good(&["profile", "unset", "default", "limits.processes"]);
    assert_eq!(shown(), free);
    state.finish();
}

#[test]
fn huge_pages() {
    let Some(state) = controlled("huge_pages", &["hugetlb"]) else { return };
    if !std::path::Path::new("/sys/kernel/mm/hugepages/hugepages-2048kB").exists() {
        crate::common_root::skip("huge_pages", "no huge pages of 2 MB");
        return;
    }
    state.launch("c1", &["-c", "limits.hugepages.2MB=8MiB"]).good().unwrap();
    let both = ["hugetlb.2MB.max", "hugetlb.2MB.rsvd.max"];
    assert_eq!(files(&state, "c1", &both), "8388608; 8388608");
    state.good(&["config", "set", "c1", "limits.hugepages.2MB=4MiB"]);
    assert_eq!(files(&state, "c1", &both), "4194304; 4194304");
    // Refused as a whole: what was written before is as it was, and nothing is recorded.
    let out = state.run(&["config", "set", "c1", "limits.hugepages.2MB=2MiB", "limits.hugepages.64KB=1MiB"]);
    if std::path::Path::new("/sys/kernel/mm/hugepages/hugepages-64kB").exists() {
        out.good().unwrap();
    } else {
        out.clean_failure().unwrap();
        assert!(out.stderr.contains("The kernel of this host has no limit \"hugetlb.64KB.max\""), "{out}");
        assert_eq!(files(&state, "c1", &both), "4194304; 4194304");
        assert_eq!(state.good(&["config", "get", "c1", "limits.hugepages.2MB"]).trim(), "4MiB");
        assert_eq!(state.good(&["config", "get", "c1", "limits.hugepages.64KB"]).trim(), "");
        let out = state.run(&["profile", "set", "default", "limits.hugepages.1GB=0", "limits.hugepages.1MB=0"]);
        out.clean_failure().unwrap();
        assert!(out.stderr.contains("Instance \"c1\""), "{out}");
        assert!(["-", "max"].contains(&files(&state, "c1", &["hugetlb.1GB.max"]).as_str()));
        // At a start likewise, and nothing is left of it.
        let out = state.launch("c2", &["-c", "limits.hugepages.64KB=1MiB"]);
        out.clean_failure().unwrap();
        assert!(out.stderr.contains("hugetlb.64KB.max"), "{out}");
        assert_eq!(state.status("c2").as_deref(), Some("STOPPED"));
    }
    state.good(&["config", "unset", "c1", "limits.hugepages.2MB"]);
    let unlimited = files(&state, "c1", &both);
    assert!(unlimited.split("; ").all(|n| n == "max" || n.parse::<u64>().is_ok_and(|n| n > 1 << 60)), "{unlimited}");
    state.finish();
}

/// An instance that ran before its controllers were turned on gets its limits all the same.
#[test]
fn controllers_come_later() {
    let Some(state) = controlled("controllers_come_later", &["memory", "pids"]) else { return };
    state.launch("c1", &[]).good().unwrap();
    let base = group(&state, "c1").parent().unwrap().join("cgroup.subtree_control");
    std::fs::write(&base, "-memory -pids").unwrap();
    assert_eq!(files(&state, "c1", &["memory.max", "pids.max"]), "-; -");
    state.good(&["config", "set", "c1", "limits.memory=90MiB"]);
    assert_eq!(files(&state, "c1", &["memory.max", "pids.max"]), "94371840; max");
    state.finish();
}
