//! Rows that cannot apply, because what went wrong elsewhere is not there: these tests say so.

use crate::common_root::{PATIENCE, run};
use crate::support::{Ask, state};
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

/// Rows CVE-2022-47952 and CVE-2018-6556: no program of ours has rights of its own, and one that is run by somebody else
/// tells nothing about files that somebody else cannot see.
#[test]
fn cve_2022_47952_no_helper_with_rights() {
    let Some(state) = state("cve_2022_47952_no_helper_with_rights") else { return };
    assert_eq!(std::fs::metadata(&state.bin).unwrap().permissions().mode() & 0o6000, 0, "it has a set-id bit");
    let bytes = std::fs::File::open(&state.bin).unwrap();
    let names = stapes::sys::xattr::list(std::os::fd::AsFd::as_fd(&bytes)).unwrap();
    assert!(!names.iter().any(|(n, _)| n == b"security.capability"), "it has capabilities");
    let public = tempfile::tempdir().unwrap();
    std::fs::set_permissions(public.path(), PermissionsExt::from_mode(0o755)).unwrap();
    let bin = public.path().join("stapes");
    std::fs::copy(&state.bin, &bin).unwrap();
    let closed = state.path("closed");
    std::fs::create_dir(&closed).unwrap();
    std::fs::set_permissions(&closed, PermissionsExt::from_mode(0o700)).unwrap();
    std::fs::write(closed.join("there"), "secret").unwrap();
    let ask = |words: &[&str], name: &str| {
        let path = closed.join(name).to_string_lossy().into_owned();
        let words: Vec<String> = words.iter().map(|w| w.replace('@', &path)).collect();
        let mut command = Command::new("setpriv");
        command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]).arg(&bin).args(&words);
        command.env_clear().env("STAPES_DIR", public.path().join("state")).current_dir("/");
        let out = run(command, None, PATIENCE);
        assert!(!out.ok() && !out.stderr.contains("secret"), "{out}");
        out.stderr.replace(&path, "@")
    };
    for words in [&["image", "import", "@"][..], &["--state-dir", "@", "list"], &["file", "push", "@", "c1/x"]] {
        assert_eq!(ask(words, "there"), ask(words, "missing"), "{words:?}");
    }
    std::fs::remove_dir_all(closed).unwrap();
    state.finish();
}

/// Row CVE-2024-3154: nothing an instance's settings hold becomes a line of a unit or of another program's configuration:
/// the one unit that is made is the scope of all instances, named after the state folder (`src/cli/unit.rs` tries the units
/// that `generate` prints), and no program but ours is started for a running instance.
#[test]
fn cve_2024_3154_no_units() {
    let Some(state) = state("cve_2024_3154_no_units") else { return };
    let units = || -> Vec<String> {
        let dirs = ["/run/systemd/transient", "/run/systemd/system", "/etc/systemd/system"];
        let entries = dirs.iter().flat_map(|d| std::fs::read_dir(d).into_iter().flatten().flatten());
        let names = entries.map(|e| e.path().display().to_string());
        let mut names: Vec<String> = names.filter(|n| !n.contains("/stapes-") || !n.contains(".scope")).collect();
        names.sort();
        names
    };
    let before = units();
    let odd = "user.x=a;b%i\\x2d [Service] ExecStart=/bin/sh";
    state.launch("c1", &["-c", odd]).good().unwrap();
    assert_eq!(state.good(&["config", "get", "c1", "user.x"]).trim(), odd.strip_prefix("user.x=").unwrap());
    for value in ["user.x=a\u{7}b", "environment.A=x\nB=y", "user.x\nuser.y=z", "boot.autostart.priority=1\n2"] {
        state.run(&["config", "set", "c1", value]).clean_failure().unwrap();
    }
    assert_eq!(units(), before);
    let monitor = state.run_record("c1")["monitor_pid"].to_string();
    let children = std::fs::read_to_string(format!("/proc/{monitor}/task/{monitor}/children")).unwrap();
    assert_eq!(children.trim(), state.init("c1").to_string(), "the monitor has one child");
    state.finish();
}
