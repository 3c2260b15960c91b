//! That limits hold: what runs inside meets them, and the instance outlives it.

use crate::support::{Ask, until};
use crate::tools::{controlled, count, files};

#[test]
fn a_fork_bomb_is_bounded() {
    let Some(state) = controlled("a_fork_bomb_is_bounded", &["pids"]) else { return };
    state.launch("c1", &["-c", "limits.processes=24"]).good().unwrap();
    // Processes that stay: each starts another one.
    state.try_sh("c1", "echo 'sh /tmp/b & sh /tmp/b & sleep 1000' > /tmp/b; sh /tmp/b >/dev/null 2>&1 &");
    until("the bomb to meet its limit", || count(&state, "c1", "pids.events", "max") > 0);
    let now: u64 = files(&state, "c1", &["pids.current"]).parse().unwrap();
    assert!(now <= 24, "{now}");
    assert_eq!(state.status("c1").as_deref(), Some("RUNNING"));
    state.good(&["stop", "-f", "c1"]);
    state.finish();
}

#[test]
fn a_memory_hog_is_killed_alone() {
    let Some(state) = controlled("a_memory_hog_is_killed_alone", &["memory"]) else { return };
    state.launch("c1", &["-c", "limits.memory=32MiB"]).good().unwrap();
    let init = state.init("c1");
    let hog = state.try_sh("c1", "dd if=/dev/zero of=/dev/null bs=100M count=1 2>/dev/null");
    assert_eq!(hog.code(), Some(137), "{hog}");
    assert!(count(&state, "c1", "memory.events", "oom_kill") > 0);
    assert_eq!((state.status("c1").as_deref(), state.init("c1")), (Some("RUNNING"), init));
    assert_eq!(state.sh("c1", "echo alive"), "alive");
    // More room, at once.
    state.good(&["config", "set", "c1", "limits.memory=300MiB"]);
    state.sh("c1", "dd if=/dev/zero of=/dev/null bs=100M count=1 2>/dev/null");
    state.finish();
}

#[test]
fn cpu_time_is_withheld() {
    let Some(state) = controlled("cpu_time_is_withheld", &["cpu"]) else { return };
    state.launch("c1", &["-c", "limits.cpu.allowance=10ms/100ms"]).good().unwrap();
    state.sh("c1", "(while :; do :; done) >/dev/null 2>&1 &");
    until("the loop to be throttled", || count(&state, "c1", "cpu.stat", "nr_throttled") > 0);
    state.finish();
}
