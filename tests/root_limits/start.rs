//! Limits that stand in the configuration when an instance starts.

use crate::support::{Ask, kill};
use crate::tools::{controlled, files};

const EVERYTHING: [&str; 7] =
    ["cpu.weight", "cpu.max", "memory.max", "memory.high", "memory.swap.max", "pids.max", "cpuset.cpus"];

#[test]
fn each_is_seen_in_its_file() {
    let Some(state) = controlled("each_is_seen_in_its_file", &["cpu", "cpuset", "memory", "pids"]) else { return };
    state.launch("free", &[]).good().unwrap();
    assert_eq!(files(&state, "free", &EVERYTHING), "100; max 100000; max; max; max; max; ");
    let settings = [
        "limits.cpu.allowance=50%",
        "limits.cpu.priority=5",
        "limits.cpu=0-0",
        "limits.memory=64MiB",
        "limits.processes=50",
    ];
    let flags: Vec<&str> = settings.iter().flat_map(|s| ["-c", s]).collect();
    state.launch("c1", &flags).good().unwrap();
    let wanted = "45; max 100000; 67108864; max; 0; 50; 0";
    assert_eq!(files(&state, "c1", &EVERYTHING), wanted);
    // Inside they show and are not the instance's to change.
    assert_eq!(state.sh("c1", "cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/pids.max; nproc"), "67108864\n50\n1");
    for file in ["memory.max", "memory.high", "pids.max", "cpu.max", "cpu.weight", "cpuset.cpus", "memory.swap.max"] {
        assert!(!state.try_sh("c1", &format!("echo 9999 > /sys/fs/cgroup/{file}")).ok(), "{file}");
    }
    // They stay over a restart, whoever causes it.
    state.good(&["restart", "-f", "c1"]);
    assert_eq!(files(&state, "c1", &EVERYTHING), wanted);
    state.good(&["config", "set", "c1", "boot.autorestart=true"]);
    let before = state.init("c1");
    kill(before, "KILL");
    state.wait_rebooted("c1", before);
    assert_eq!(files(&state, "c1", &EVERYTHING), wanted);
    state.finish();
}

#[test]
fn the_other_forms() {
    let Some(state) = controlled("the_other_forms", &["cpu", "memory", "pids", "io"]) else { return };
    let settings = [
        "limits.cpu.allowance=25ms/100ms",
        "limits.memory=10%",
        "limits.memory.enforce=soft",
        "limits.memory.swap=1MiB",
        "limits.memory.swap.priority=3",
    ];
    let flags: Vec<&str> = settings.iter().flat_map(|s| ["-c", s]).collect();
    state.launch("c1", &flags).good().unwrap();
    let host = stapes::ops::state::host_memory();
    let high = (host / 100 * 10) / 4096 * 4096;
    let wanted = format!("100; 25000 100000; max; {high}; 1048576; max; ");
    assert_eq!(files(&state, "c1", &EVERYTHING), wanted);
    // A throwaway is limited as well.
    let shown = state.good(&["run", "test", "-c", "limits.memory=64MiB", "--", "cat", "/sys/fs/cgroup/memory.max"]);
    assert_eq!(shown.trim(), "67108864");
    let launched = state.launch("c2", &["-c", "limits.disk.priority=3"]);
    if launched.ok() {
        let weight = files(&state, "c2", &["io.weight", "io.bfq.weight"]);
        assert!(weight.contains("300"), "{weight}");
    } else {
        launched.clean_failure().unwrap();
        assert!(launched.stderr.contains("has no limit \"io.weight\""), "{launched}");
    }
    state.finish();
}

#[test]
fn what_is_used_is_shown() {
    let Some(state) = controlled("what_is_used_is_shown", &["memory", "pids"]) else { return };
    state.launch("c1", &["-c", "limits.memory=100MiB"]).good().unwrap();
    state.sh("c1", "i=0; while [ $i -lt 3000 ]; do i=$((i+1)); done");
    let row = state.good(&["list", "-f", "csv", "-c", "mMNu"]);
    let cells: Vec<&str> = row.trim().split(',').collect();
    assert!(cells[0].ends_with("iB") && cells[1].ends_with('%'), "{row}");
    assert!(cells[2].parse::<u32>().is_ok_and(|n| n >= 1) && cells[3].ends_with('s'), "{row}");
    let info = state.good(&["info", "c1"]);
    for word in ["Memory (current): ", "Memory (peak): ", "Processes: ", "CPU usage (in seconds): "] {
        assert!(info.contains(word) || word.starts_with("CPU") || word.contains("peak"), "{word}: {info}");
    }
    let state_json = state.good(&["list", "-f", "json", "c1"]);
    assert!(state_json.contains("\"total\":104857600"), "{state_json}");
    state.finish();
}
