//! A machine where SELinux enforces Debian's policy: a start is refused in words, leaves nothing, and works when it does not.
//!
//! `tests/guest/selinux` boots a guest in that way and runs this in it.
#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "a test: its files are no records"
)]

mod common_root;
#[path = "root_lifecycle/support.rs"]
#[allow(dead_code, reason = "the other test programs use the rest")]
mod support;

use common_root::{State, leftovers, skip};
use support::Ask;

const REFUSAL: &str = "Error: SELinux is enforcing, which this version cannot label instances for";
const ENFORCE: &str = "/sys/fs/selinux/enforce";

/// Switches between enforcing and permissive; enforcing again with the result.
struct Permissive;

impl Permissive {
    fn set() -> Self {
        std::fs::write(ENFORCE, "0").unwrap();
        Self
    }
}

impl Drop for Permissive {
    fn drop(&mut self) {
        let _ = std::fs::write(ENFORCE, "1");
    }
}

/// A state with the image `test`, if this is that guest.
fn state(test: &str) -> Option<State> {
    if std::env::var_os("STAPES_GUEST_SELINUX").is_none() {
        skip(test, "no guest: run tests/guest/selinux");
        return None;
    }
    assert_eq!(std::fs::read_to_string(ENFORCE).unwrap(), "1", "SELinux does not enforce here");
    let own = std::fs::read_to_string("/proc/self/attr/current").unwrap();
    assert!(own.contains(":system_r:"), "no policy is loaded: {own:?}");
    support::state(test)
}

/// What `doctor` says about SELinux.
fn diagnosis(state: &State) -> String {
    let out = state.run(&["doctor", "-f", "csv"]);
    let line = out.stdout.lines().find(|l| l.starts_with("SELinux,"));
    line.unwrap_or_default().to_string()
}

// One after the other: the mode is the machine's.
#[test]
fn enforcing_it_is_refused_and_permissive_it_runs() {
    let Some(state) = state("enforcing_it_is_refused_and_permissive_it_runs") else { return };
    state.good(&["create", "test", "c1"]);
    state.good(&["create", "test", "c2", "-c", "security.privileged=true"]);
    for words in [&["start", "c1"][..], &["start", "c2"], &["run", "test", "--", "true"]] {
        let out = state.run(words);
        out.clean_failure().unwrap();
        assert!(out.stderr.contains(REFUSAL) && out.stderr.contains("setenforce 0"), "{out}");
    }
    let foreground = state.run(&["start", "--foreground", "c1"]);
    assert!(!foreground.ok() && foreground.stderr.contains(REFUSAL), "{foreground}");
    // As in Incus it is made, and not started.
    let launched = state.run(&["launch", "test", "c3"]);
    assert!(launched.code() == Some(1) && launched.stderr.contains(REFUSAL), "{launched}");
    for name in ["c1", "c2", "c3"] {
        assert_eq!(state.status(name).as_deref(), Some("STOPPED"));
    }
    let of_a_run = ["cgroup ", "monitor ", "mount ", "process "];
    let mut left = leftovers::find(&state);
    left.retain(|l| of_a_run.iter().any(|kind| l.starts_with(kind)));
    assert!(left.is_empty(), "a refused start has left: {left:#?}");
    assert!(diagnosis(&state).starts_with("SELinux,ERROR,"), "{}", diagnosis(&state));
    {
        let _permissive = Permissive::set();
        assert!(!diagnosis(&state).contains("ERROR"), "{}", diagnosis(&state));
        state.good(&["start", "c1", "c2"]);
        assert_eq!(state.sh("c1", "echo in"), "in");
        state.good(&["run", "test", "--", "true"]);
    }
    // What runs is not lost when it is enforced again: it can be entered and ended.
    assert_eq!(state.sh("c1", "echo still"), "still");
    state.good(&["pause", "c1"]);
    state.good(&["resume", "c1"]);
    state.good(&["stop", "c1", "c2"]);
    state.run(&["start", "c1"]).clean_failure().unwrap();
    state.delete_all().unwrap();
    let left = leftovers::find(&state);
    assert!(left.is_empty(), "left behind: {left:#?}");
    let found = state.run(&["doctor", "-f", "csv"]).stdout;
    let bad: Vec<&str> = found.lines().filter(|l| l.contains(",ERROR,") && !l.starts_with("SELinux,")).collect();
    assert!(bad.is_empty(), "{bad:?}");
}
