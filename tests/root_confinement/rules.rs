//! What the profiles forbid, with the kernel asked.

use crate::common_root::State;
use crate::support::Ask;
use crate::tools::{as_if_in, enforced, label, loaded, profile, state};

fn denied(state: &State, script: &str) {
    let out = state.try_sh("c1", script);
    assert!(!out.ok() && out.stderr.contains("ermission denied"), "{script}: {out}");
}

#[test]
fn the_kernel_is_out_of_reach() {
    let Some(state) = state("the_kernel_is_out_of_reach") else { return };
    for settings in [&[][..], &["-c", "security.privileged=true"]] {
        assert!(state.launch("c1", settings).ok());
        denied(&state, "cat /proc/kcore");
        assert!(!state.try_sh("c1", "echo h >/proc/sysrq-trigger").ok());
        let script = "echo x >/sys/kernel/uevent_helper || echo x >/sys/kernel/uevent_seqnum";
        assert!(!state.try_sh("c1", script).ok());
        let core = std::fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap();
        assert!(!state.try_sh("c1", "echo '|/x' >/proc/sys/kernel/core_pattern").ok());
        assert_eq!(std::fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap(), core);
        state.good(&["delete", "-f", "c1"]);
    }
    state.finish();
}

/// Root of the host is root inside: only the profile stands between it and these.
#[test]
fn a_privileged_instance_cannot_go_around() {
    let Some(state) = state("a_privileged_instance_cannot_go_around") else { return };
    assert!(state.launch("c1", &["-c", "security.privileged=true"]).ok());
    // Bound in writable: the rule alone keeps it.
    denied(&state, "echo 1 >/sys/kernel/debug/clear_warn_once");
    for script in [
        "mount -t proc proc /mnt",
        "mount -t sysfs sysfs /mnt",
        "mount -t debugfs debugfs /mnt",
        "mount -t tracefs tracefs /mnt",
        "mount -t securityfs securityfs /mnt",
        "mount --bind /proc /mnt",
        "mount --bind /proc/sys /mnt",
        "mount --bind /sys /mnt",
        "mount --rbind / /mnt",
        "mount -o remount,rw,bind /proc/sys",
        "mount --move /proc /mnt",
    ] {
        denied(&state, script);
    }
    for script in [
        "mount -t tmpfs tmpfs /mnt && mkdir /mnt/a && mount --bind /mnt/a /mnt/a && mount -o remount,ro,bind /mnt/a",
        "! touch /mnt/a/x 2>/dev/null",
        "umount /mnt/a && umount /mnt",
        "hostname other && test $(hostname) = other",
        "mkdir /sys/fs/cgroup/sub && rmdir /sys/fs/cgroup/sub",
    ] {
        state.try_sh("c1", script).good().unwrap();
    }
    // Read-only besides.
    assert!(!state.try_sh("c1", "echo '|/x' >/proc/sys/kernel/core_pattern").ok());
    state.finish();
}

#[test]
fn the_users_rules_at_start_and_live() {
    let Some(state) = state("the_users_rules_at_start_and_live") else { return };
    assert!(state.launch("c1", &["-c", "raw.apparmor=deny /etc/group r,"]).ok());
    denied(&state, "cat /etc/group");
    state.sh("c1", "cat /etc/passwd");
    // At once, for what runs already.
    state.good(&["config", "set", "c1", "raw.apparmor=deny /etc/passwd r,"]);
    denied(&state, "cat /etc/passwd");
    state.sh("c1", "cat /etc/group");
    assert_eq!(label(state.init("c1")), enforced(&state, "c1"));
    // What the compiler refuses changes nothing.
    let out = state.run(&["config", "set", "c1", "raw.apparmor=no such rule"]);
    out.clean_failure().unwrap();
    assert!(out.stderr.contains("AppArmor profile") && out.stderr.contains("raw.apparmor"), "{out}");
    assert_eq!(state.good(&["config", "get", "c1", "raw.apparmor"]).trim(), "deny /etc/passwd r,");
    denied(&state, "cat /etc/passwd");
    state.good(&["config", "unset", "c1", "raw.apparmor"]);
    state.sh("c1", "cat /etc/passwd /etc/group");
    // Through a profile of ours.
    state.good(&["profile", "set", "default", "raw.apparmor=deny /etc/group r,"]);
    denied(&state, "cat /etc/group");
    state.good(&["profile", "unset", "default", "raw.apparmor"]);
    state.sh("c1", "cat /etc/group");
    state.good(&["stop", "-f", "c1"]);
    state.good(&["config", "set", "c1", "raw.apparmor=no such rule"]);
    let out = state.run(&["start", "c1"]);
    out.clean_failure().unwrap();
    assert!(out.stderr.contains("raw.apparmor"), "{out}");
    assert_eq!(loaded(&state), [""; 0]);
    state.finish();
}

#[test]
fn instances_cannot_trace_or_signal_each_other() {
    let Some(state) = state("instances_cannot_trace_or_signal_each_other") else { return };
    assert!(state.launch("c1", &[]).ok() && state.launch("c2", &[]).ok());
    let other = state.init("c2");
    // With the rights of the host's root, which no process in there has: only the profile says no.
    for script in [format!("cat /proc/{other}/environ"), format!("kill -0 {other}")] {
        let Some(out) = as_if_in(&state, "c1", &script) else { return };
        assert!(!out.ok(), "{script} from c1: {out}");
        let own = as_if_in(&state, "c2", &script).unwrap();
        assert!(own.ok(), "{script} from {}: {own}", profile(&state, "c2"));
    }
    state.finish();
}

/// CVE-2019-16884, CVE-2025-52881: whatever is mounted over the file that the label is written to.
#[test]
fn cve_2025_52881_no_label_to_a_fake_file() {
    let Some(state) = state("cve_2025_52881_no_label_to_a_fake_file") else { return };
    let fake = state.path("fake");
    std::fs::create_dir_all(fake.join("apparmor")).unwrap();
    for file in ["exec", "current", "apparmor/exec", "apparmor/current"] {
        std::fs::write(fake.join(file), "").unwrap();
    }
    for path in ["/proc/1/attr", "/proc/1/attr/apparmor", "/proc"] {
        let source = if path.ends_with("apparmor") { fake.join("apparmor") } else { fake.clone() };
        state.good(&["create", "test", "c1"]);
        let (source, path) = (format!("source={}", source.display()), format!("path={path}"));
        state.good(&["config", "device", "add", "c1", "fake", "disk", &source, &path]);
        let out = state.run(&["start", "c1"]);
        match out.ok() {
            true => assert_eq!(label(state.init("c1")), enforced(&state, "c1"), "{path}"),
            false => out.clean_failure().unwrap(),
        }
        state.good(&["delete", "-f", "c1"]);
        let mount = format!("{}:{}", &source[7..], &path[5..]);
        let words =
            ["run", "--name", "r1", "--mount", &mount, "test", "--", "sh", "-c", "kill -0 1 && sleep 1; echo ran"];
        let ran = state.run(&words);
        if ran.ok() {
            // With /proc covered our own handle still reaches the true one.
            assert_eq!(path, "path=/proc", "{ran}");
        }
        assert_eq!(loaded(&state), [""; 0]);
    }
    for file in ["exec", "current", "apparmor/exec", "apparmor/current"] {
        assert_eq!(std::fs::read_to_string(fake.join(file)).unwrap(), "", "a label went to {file}");
    }
    state.finish();
}
