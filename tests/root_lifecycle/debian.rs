//! A Debian container with systemd as its first process: it boots with no failed unit.

use crate::common_root::{self, debian::debian};
use crate::support::Ask;
use std::time::Duration;

/// Boots to `running` with these settings, and shuts down and reboots cleanly.
fn boots(test: &str, settings: &[&str]) {
    let Some(state) = debian(test) else { return };
    let flags: Vec<&str> = settings.iter().flat_map(|s| ["-c", s]).collect();
    state.good(&[&["launch", "debian", "d1"], &flags[..]].concat());
    let running = state.run(&["exec", "d1", "--", "systemctl", "is-system-running", "--wait"]);
    let failed = state.run(&["exec", "d1", "--", "systemctl", "--failed", "--no-legend", "--plain"]);
    assert_eq!((running.stdout.trim(), failed.stdout.trim()), ("running", ""), "{running} {failed}");
    // A login shell, a user, a terminal, the journal.
    let login = state.run(&["exec", "d1", "--", "su", "-l", "-c", "echo $HOME $(id -un) $(hostname)"]);
    assert_eq!(login.stdout.trim(), "/root root d1", "{login}");
    assert!(state.run(&["exec", "-t", "d1", "--", "tty"]).stdout.starts_with("/dev/pts/"));
    assert!(state.good(&["exec", "d1", "--", "journalctl", "-b", "--no-pager", "-n", "5"]).lines().count() >= 5);
    let first = state.init("d1");
    state.run(&["exec", "d1", "--", "systemctl", "reboot"]);
    state.wait_rebooted("d1", first);
    let again = state.run(&["exec", "d1", "--", "systemctl", "is-system-running", "--wait"]);
    assert_eq!(again.stdout.trim(), "running", "{again}");
    let begin = std::time::Instant::now();
    state.good(&["stop", "d1"]);
    assert!(begin.elapsed() < Duration::from_secs(45), "a clean stop takes {:?}", begin.elapsed());
    let log = state.good(&["console", "d1", "--show-log"]);
    assert!(log.contains("systemd"), "{log:?}");
    state.finish();
}

#[test]
fn debian_boots() {
    boots("debian_boots", &[]);
}

#[test]
fn debian_boots_nesting() {
    boots("debian_boots_nesting", &["security.nesting=true"]);
}

#[test]
fn debian_boots_privileged() {
    // systemd's sandboxes bind the whole tree, which the profile of a privileged instance refuses unless it is nesting.
    let mut settings = vec!["security.privileged=true"];
    if std::path::Path::new("/sys/kernel/security/apparmor/policy").is_dir() {
        settings.push("security.nesting=true");
    }
    boots("debian_boots_privileged", &settings);
}

#[test]
fn debian_runs_a_command() {
    let Some(state) = debian("debian_runs_a_command") else { return };
    let out = state.run(&["run", "debian", "--", "cat", "/etc/os-release"]);
    assert!(out.ok() && out.stdout.contains("VERSION_ID=\"12\""), "{out}");
    // A shell pipeline with a user and job control, as CI has it.
    let out = state.run(&["run", "debian", "--", "bash", "-ec", "set -o pipefail; id -un | grep root; (exit 9)"]);
    assert_eq!(out.code(), Some(9), "{out}");
    assert!(common_root::leftovers::find(&state).iter().all(|l| l.contains("image")));
    state.finish();
}
