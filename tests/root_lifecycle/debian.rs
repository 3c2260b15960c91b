//! A Debian container with systemd as its first process: it boots with no failed unit.
//!
//! The image is built once from the distribution's packages and kept under `target/test-cache`.

use crate::common_root::{self, State, binary, can_run, have, run, skip};
use crate::support::Ask;
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::Duration;

const BUILD: Duration = Duration::from_secs(900);

/// A state with the image `debian`.
fn debian(test: &str) -> Option<State> {
    static BUILDING: Mutex<()> = Mutex::new(());
    if !can_run(test) {
        return None;
    }
    let state = State::new(&binary());
    let cache = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target/test-cache");
    let one_builds = BUILDING.lock().unwrap_or_else(|e| e.into_inner());
    let kept = || {
        let files = std::fs::read_dir(&cache).into_iter().flatten().flatten().map(|e| e.path());
        let mut files: Vec<PathBuf> = files.filter(|p| p.to_string_lossy().contains("debian-12.")).collect();
        files.sort();
        files
    };
    if kept().is_empty() {
        if !have("mmdebstrap") && !have("debootstrap") {
            skip(test, "neither mmdebstrap nor debootstrap");
            return None;
        }
        let built = run(state.command(&["create", "bootstrap:debian/12", "built"]), None, BUILD);
        if !built.ok() {
            skip(test, &format!("Debian cannot be built here: {built}"));
            return None;
        }
        let fingerprint = state.images().unwrap().remove(0);
        std::fs::create_dir_all(&cache).unwrap();
        let out = state.path("export");
        std::fs::create_dir(&out).unwrap();
        run(state.command(&["image", "export", &fingerprint, out.to_str().unwrap()]), None, BUILD).good().unwrap();
        for file in std::fs::read_dir(&out).unwrap().flatten() {
            let name = file.file_name().to_string_lossy().into_owned();
            let kind = if name.starts_with("meta-") { "0-meta" } else { "1-rootfs" };
            let ending = name.split_once('.').map_or("", |(_, e)| e);
            std::fs::copy(file.path(), cache.join(format!("debian-12.{kind}.{ending}"))).unwrap();
        }
        std::fs::remove_dir_all(out).unwrap();
        state.good(&["delete", "built"]);
        state.delete_all().unwrap();
    }
    drop(one_builds);
    let files: Vec<String> = kept().into_iter().map(|p| p.to_string_lossy().into_owned()).collect();
    let mut words = vec!["image", "import"];
    words.extend(files.iter().map(String::as_str));
    words.extend(["--alias", "debian"]);
    run(state.command(&words), None, BUILD).good().unwrap();
    Some(state)
}

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
    boots("debian_boots_privileged", &["security.privileged=true"]);
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
