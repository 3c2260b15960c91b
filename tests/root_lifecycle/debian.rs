//! A Debian container with systemd as its first process: it boots with no failed unit.

use crate::common_root::debian::{debian, up};
use crate::common_root::{PATIENCE, State};
use crate::support::Ask;
use std::path::Path;
use std::time::Instant;

/// Boots to `running` with these settings, and shuts down and reboots cleanly.
fn boots(state: &State, name: &str, settings: &[&str]) {
    let flags: Vec<&str> = settings.iter().flat_map(|s| ["-c", s]).collect();
    state.good(&[&["launch", "debian", name], &flags[..]].concat());
    let running = up(state, name);
    let failed = state.run(&["exec", name, "--", "systemctl", "--failed", "--no-legend", "--plain"]);
    assert_eq!((running.stdout.trim(), failed.stdout.trim()), ("running", ""), "{settings:?}: {running} {failed}");
    // A login shell, a user, a terminal, the journal.
    let login = state.run(&["exec", name, "--", "su", "-l", "-c", "echo $HOME $(id -un) $(hostname)"]);
    assert_eq!(login.stdout.trim(), format!("/root root {name}"), "{login}");
    assert!(state.run(&["exec", "-t", name, "--", "tty"]).stdout.starts_with("/dev/pts/"));
    assert!(state.good(&["exec", name, "--", "journalctl", "-b", "--no-pager", "-n", "5"]).lines().count() >= 5);
    let first = state.init(name);
    state.run(&["exec", name, "--", "systemctl", "reboot"]);
    state.wait_rebooted(name, first);
    let again = up(state, name);
    assert_eq!(again.stdout.trim(), "running", "{settings:?}: {again}");
    // One that is not clean lasts until its time is over, ten minutes.
    let begin = Instant::now();
    state.good(&["stop", name]);
    assert!(begin.elapsed() < PATIENCE, "{settings:?}: a clean stop takes {:?}", begin.elapsed());
    let log = state.good(&["console", name, "--show-log"]);
    assert!(log.contains("systemd"), "{log:?}");
}

fn runs_a_command(state: &State) {
    let out = state.run(&["run", "debian", "--", "cat", "/etc/os-release"]);
    assert!(out.ok() && out.stdout.contains("VERSION_ID=\"12\""), "{out}");
    // A shell pipeline with a user and job control, as CI has it.
    let out = state.run(&["run", "debian", "--", "bash", "-ec", "set -o pipefail; id -un | grep root; (exit 9)"]);
    assert_eq!(out.code(), Some(9), "{out}");
}

// One state for all: the image is large.
#[test]
fn debian_boots() {
    let Some(state) = debian("debian_boots") else { return };
    // systemd's sandboxes bind the whole tree, which the profile of a privileged instance refuses unless it is nesting.
    let mut privileged = vec!["security.privileged=true"];
    if Path::new("/sys/kernel/security/apparmor/policy").is_dir() {
        privileged.push("security.nesting=true");
    }
    std::thread::scope(|scope| {
        scope.spawn(|| boots(&state, "plain", &[]));
        scope.spawn(|| boots(&state, "nesting", &["security.nesting=true"]));
    });
    boots(&state, "privileged", &privileged);
    runs_a_command(&state);
    state.finish();
}
