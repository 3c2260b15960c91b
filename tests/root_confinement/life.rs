//! Labels, and when profiles come and go.

use crate::common_root::State;
use crate::support::{Ask, kill, lives, until};
use crate::tools::{all_enforced, enforced, label, loaded, profile, seen_inside, state, with_parser};
use std::path::Path;
use std::process::{Command, Stdio};

const OWN: [&str; 2] = ["cat", "/proc/self/attr/apparmor/current"];

/// Process 1, what is executed, as whoever, and what they start; the monitor stays outside.
fn labels(state: &State, settings: &[&str]) {
    assert!(state.launch("c1", settings).ok());
    let wanted = enforced(state, "c1");
    assert_eq!(label(state.init("c1")), wanted);
    for options in [&[][..], &["-t"], &["--user", "1000"]] {
        let out = state.good(&[&["exec", "c1"], options, &["--"], &OWN].concat());
        assert_eq!(out.trim(), seen_inside(state, "c1"), "exec {options:?}");
        let script = "echo up; sleep 100 & wait";
        let mut command = state.command(&[&["exec", "c1"], options, &["--", "sh", "-c", script]].concat());
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut [0u8; 2]).unwrap();
        until("the command's own child", || all_enforced(state, "c1") >= 3);
        child.kill().unwrap();
        child.wait().unwrap();
    }
    assert_eq!(state.sh("c1", "sh -c 'cat /proc/self/attr/apparmor/current'"), seen_inside(state, "c1"));
    assert_eq!(state.sh("c1", "cat /proc/1/attr/apparmor/current"), seen_inside(state, "c1"));
    let monitor = state.run_record("c1")["monitor_pid"].as_integer().unwrap() as i32;
    assert_eq!(label(monitor), "unconfined");
    // Files and the console go on working.
    state.good(&["file", "push", "/etc/hostname", "c1/root/pushed"]);
    assert!(state.good(&["file", "pull", "c1/root/pushed", "-"]).len() > 1);
    assert!(state.good(&["console", "c1", "--show-log"]).contains("booted"));
    // Signals from outside arrive: a clean stop takes one.
    state.good(&["restart", "c1"]);
    assert_eq!(label(state.init("c1")), wanted);
    state.good(&["stop", "c1"]);
    assert_eq!(loaded(state), [""; 0]);
    state.good(&["delete", "c1"]);
}

#[test]
fn labels_unprivileged() {
    let Some(state) = state("labels_unprivileged") else { return };
    labels(&state, &[]);
    state.finish();
}

#[test]
fn labels_privileged_and_nesting() {
    let Some(state) = state("labels_privileged_and_nesting") else { return };
    labels(&state, &["-c", "security.privileged=true"]);
    labels(&state, &["-c", "security.nesting=true"]);
    state.finish();
}

#[test]
fn labels_of_run() {
    let Some(state) = state("labels_of_run") else { return };
    for options in [&[][..], &["-t"], &["-c", "security.privileged=true"]] {
        let words = [&["run", "--name", "r1"], options, &["test", "--"], &OWN].concat();
        assert_eq!(state.good(&words).trim(), seen_inside(&state, "r1"), "{options:?}");
    }
    // The small init, which never execs, and the command below it.
    let mut command = state.command(&["run", "--name", "r2", "test", "--", "sh", "-c", "echo up; sleep 100 & wait"]);
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
    let mut first = [0u8; 3];
    std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut first).unwrap();
    let init = state.init("r2");
    assert_eq!(label(init), enforced(&state, "r2"));
    let below = std::fs::read_to_string(format!("/proc/{init}/task/{init}/children")).unwrap();
    let command: i32 = below.trim().parse().unwrap();
    assert_eq!(label(command), enforced(&state, "r2"));
    assert_eq!(state.sh("r2", OWN.join(" ").as_str()), seen_inside(&state, "r2"));
    assert!(all_enforced(&state, "r2") >= 2);
    // Killed like this, the next command undoes all.
    child.kill().unwrap();
    child.wait().unwrap();
    until("the end of the instance", || !lives(init));
    state.good(&["run", "test", "--", "true"]);
    assert_eq!(loaded(&state), [""; 0]);
    state.finish();
}

#[test]
fn profiles_come_and_go() {
    let Some(state) = state("profiles_come_and_go") else { return };
    state.good(&["create", "test", "c1"]);
    assert_eq!(loaded(&state), [""; 0], "a stopped one has none");
    state.good(&["start", "c1"]);
    assert_eq!(loaded(&state), [profile(&state, "c1")]);
    state.good(&["stop", "-f", "c1"]);
    assert_eq!(loaded(&state), [""; 0]);
    state.good(&["start", "c1"]);
    state.good(&["delete", "-f", "c1"]);
    assert_eq!(loaded(&state), [""; 0]);
    assert!(state.launch("e1", &["-e"]).ok());
    assert_eq!(loaded(&state), [profile(&state, "e1")]);
    state.good(&["stop", "-f", "e1"]);
    assert_eq!(loaded(&state), [""; 0], "ephemeral");
    // A start that fails: nothing of it is left.
    state.good(&["create", "test", "c2"]);
    let bad = ["config", "device", "add", "c2", "d", "disk", "source=/nowhere", "path=/mnt", "required=true"];
    state.good(&bad);
    state.run(&["start", "c2"]).clean_failure().unwrap();
    assert_eq!(loaded(&state), [""; 0], "a failed start");
    state.finish();
}

#[test]
fn a_killed_monitor_leaves_a_profile_for_the_next_command() {
    let Some(state) = state("a_killed_monitor_leaves_a_profile") else { return };
    for next in [&["start", "c1"][..], &["delete", "c1"], &["doctor", "--fix"]] {
        assert!(state.launch("c1", &[]).ok());
        let init = state.init("c1");
        kill(state.run_record("c1")["monitor_pid"].as_integer().unwrap() as i32, "KILL");
        until("the end of the instance", || !lives(init));
        assert_eq!(loaded(&state), [profile(&state, "c1")], "nobody was there to remove it");
        state.good(next);
        let wanted = if next[0] == "start" { vec![profile(&state, "c1")] } else { Vec::new() };
        assert_eq!(loaded(&state), wanted, "after {next:?}");
        if next[0] != "delete" {
            state.good(&["delete", "-f", "c1"]);
        }
    }
    state.finish();
}

#[test]
fn doctor_finds_a_stray_profile() {
    let Some(state) = state("doctor_finds_a_stray_profile") else { return };
    let text = format!("profile \"{}\" {{ file, }}\n", profile(&state, "gone"));
    let file = state.path("stray");
    std::fs::write(&file, text).unwrap();
    assert!(Command::new("apparmor_parser").args(["-r", "-K"]).arg(&file).status().unwrap().success());
    std::fs::remove_file(file).unwrap();
    let found = || {
        let out = state.run(&["doctor", "-f", "csv"]);
        assert!(!out.ok() && out.stdout.contains("an AppArmor profile"), "{out}");
        assert_eq!(loaded(&state).len(), 1, "without --fix it stays");
        state.good(&["doctor", "--fix"]);
        assert_eq!(loaded(&state), [""; 0]);
    };
    found();
    // Of a start that was killed between its steps the namespace alone may be left.
    if let Some(namespace) = crate::tools::namespace(&state, "gone") {
        stapes::host::lsm::apparmor::make_namespace(&namespace).unwrap();
        found();
    }
    state.finish();
}

/// A program that fails, with size and time of the compiler: a start that would run it fails.
fn broken_parser(state: &State) -> std::path::PathBuf {
    let fake = state.path("parser");
    let script =
        "p=$(readlink -f \"$(command -v apparmor_parser)\"); printf '#!/bin/sh\\necho broken >&2; exit 9\\n' >\"$0\"
        truncate -s \"$(stat -c %s \"$p\")\" \"$0\"; chmod 755 \"$0\"; touch -r \"$p\" \"$0\"";
    assert!(Command::new("sh").args(["-ec", script]).arg(&fake).status().unwrap().success());
    fake
}

#[test]
fn a_second_start_does_not_compile() {
    let Some(state) = state("a_second_start_does_not_compile") else { return };
    let fake = broken_parser(&state);
    state.good(&["create", "test", "c1"]);
    let first = with_parser(&state, &fake, &["start", "c1"]);
    first.clean_failure().unwrap();
    assert!(first.stderr.contains("AppArmor") && first.stderr.contains("broken"), "{first}");
    assert_eq!((loaded(&state).len(), state.status("c1").as_deref()), (0, Some("STOPPED")), "never without a profile");
    state.good(&["start", "c1"]);
    state.good(&["stop", "-f", "c1"]);
    with_parser(&state, &fake, &["start", "c1"]).good().unwrap();
    assert_eq!(label(state.init("c1")), enforced(&state, "c1"));
    state.good(&["stop", "-f", "c1"]);
    // What is kept is not believed when it was touched, and not used for other rules.
    let kept = std::fs::read_dir(state.layout().apparmor_dir()).unwrap().next().unwrap().unwrap().path();
    let mut bytes = std::fs::read(&kept).unwrap();
    let last = bytes.len() - 9;
    bytes[last] ^= 1;
    std::fs::write(&kept, &bytes).unwrap();
    with_parser(&state, &fake, &["start", "c1"]).clean_failure().unwrap();
    state.good(&["start", "c1"]);
    state.good(&["stop", "-f", "c1"]);
    state.good(&["config", "set", "c1", "security.nesting=true"]);
    with_parser(&state, &fake, &["start", "c1"]).clean_failure().unwrap();
    state.good(&["delete", "c1"]);
    assert_eq!(std::fs::read_dir(state.layout().apparmor_dir()).unwrap().count(), 0, "goes with the instance");
    std::fs::remove_file(fake).unwrap();
    state.finish();
}

#[test]
fn a_missing_compiler_is_refused() {
    let Some(state) = state("a_missing_compiler_is_refused") else { return };
    state.good(&["create", "test", "c1"]);
    let out = with_parser(&state, Path::new("/dev/null"), &["start", "c1"]);
    out.clean_failure().unwrap();
    assert!(out.stderr.contains("apparmor_parser") && out.stderr.contains("apt-get install apparmor"), "{out}");
    let out = with_parser(&state, Path::new("/dev/null"), &["run", "test", "--", "true"]);
    out.clean_failure().unwrap();
    let out = with_parser(&state, Path::new("/dev/null"), &["doctor", "-f", "csv"]);
    assert!(out.ok() && out.stdout.contains("AppArmor,WARNING"), "{out}");
    assert_eq!(loaded(&state), [""; 0]);
    state.finish();
}
