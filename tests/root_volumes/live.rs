//! Disks that come and go while an instance runs.

use super::good;
use super::support::{Ask, state};

/// Mounts of the instance, as it sees them.
fn mounts(state: &crate::common_root::State) -> Vec<String> {
    let text = state.sh("c1", "cut -d' ' -f2 /proc/mounts");
    text.lines().filter(|l| l.starts_with("/x")).map(str::to_string).collect()
}

#[test]
fn plugged_and_taken_out() {
    let Some(state) = state("disks_plugged_and_taken_out") else { return };
    let host = state.path("outside");
    std::fs::create_dir(&host).unwrap();
    std::fs::write(host.join("f"), "of the host").unwrap();
    let (source, file) = (format!("source={}", host.display()), format!("source={}/f", host.display()));
    good(&state, &["create", "default", "v1"]);
    state.launch("c1", &["-c", "security.idmap.isolated=true"]).good().unwrap();
    let add =
        |name: &str, options: &[&str]| state.run(&[&["config", "device", "add", "c1", name, "disk"], options].concat());
    good(&state, &["attach", "default", "v1", "c1", "a", "/x/a"]);
    add("b", &[&source, "path=/x/a/b"]).good().unwrap();
    add("c", &[&source, "path=/x/c", "shift=true", "readonly=true"]).good().unwrap();
    add("d", &[&file, "path=/x/d"]).good().unwrap();
    add("e", &["source=tmpfs:", "path=/x/e", "initial.uid=5", "initial.mode=1700", "size=1MiB"]).good().unwrap();
    assert_eq!(mounts(&state), ["/x/a", "/x/a/b", "/x/c", "/x/d", "/x/e"]);
    assert_eq!(
        state.sh("c1", "cat /x/a/b/f; echo; cat /x/d; echo; stat -c '%u %g %a' /x/c /x/e"),
        "of the host\nof the host\n0 0 755\n5 0 1700"
    );
    state.try_sh("c1", "touch /x/c/y").good().unwrap_err();
    // Changed, one after the other; and one that is busy.
    state.sh("c1", "cd /x/e && (sleep 1000 & )");
    state.good(&["config", "device", "set", "c1", "e", "path=/x/f"]);
    state.good(&["config", "device", "set", "c1", "d", "readonly=true"]);
    assert_eq!(mounts(&state), ["/x/a", "/x/a/b", "/x/c", "/x/f", "/x/d"]);
    state.good(&["config", "device", "remove", "c1", "a", "b", "c", "d", "e"]);
    assert_eq!(mounts(&state), [] as [&str; 0]);
    // Nothing of the host's is lost by that.
    assert_eq!(std::fs::read_to_string(host.join("f")).unwrap(), "of the host");
    state.good(&["delete", "-f", "c1"]);
    good(&state, &["delete", "default", "v1"]);
    std::fs::remove_dir_all(host).unwrap();
    state.finish();
}

/// What a guest has done about a mount itself: taken it away, put another over it, made its place a link.
#[test]
fn a_guest_that_meddles() {
    let Some(state) = state("a_guest_that_meddles") else { return };
    good(&state, &["create", "default", "v1"]);
    state.launch("c1", &[]).good().unwrap();
    good(&state, &["attach", "default", "v1", "c1", "a", "/x/a"]);
    state.sh("c1", "umount /x/a");
    good(&state, &["detach", "default", "v1", "c1"]);
    good(&state, &["attach", "default", "v1", "c1", "a", "/x/a"]);
    state.sh("c1", "mount -t tmpfs none /x/a; echo mine > /x/a/f");
    good(&state, &["detach", "default", "v1", "c1"]);
    assert_eq!(state.sh("c1", "cat /x/a/f"), "mine", "its own mount is left alone");
    // A place that is a link leads inside.
    state.sh("c1", "ln -s /etc /x/l; ln -s ../../../../../../../../tmp /x/m");
    for name in ["l", "m"] {
        good(&state, &["attach", "default", "v1", "c1", name, &format!("/x/{name}/deep")]);
    }
    assert_eq!(state.sh("c1", "grep -c deep /proc/mounts; ls -d /etc/deep /tmp/deep"), "2\n/etc/deep\n/tmp/deep");
    assert!(!std::path::Path::new("/etc/deep").exists() && !std::path::Path::new("/tmp/deep").exists());
    state.good(&["config", "device", "remove", "c1", "l", "m"]);
    assert_eq!(state.sh("c1", "grep -c deep /proc/mounts || true"), "0");
    state.good(&["delete", "-f", "c1"]);
    good(&state, &["delete", "default", "v1"]);
    state.finish();
}

/// What is refused changes nothing; the root disk stays.
#[test]
fn refusals_change_nothing() {
    let Some(state) = state("disk_refusals_change_nothing") else { return };
    state.launch("c1", &[]).good().unwrap();
    let add = |options: &[&str]| {
        let out = state.run(&[&["config", "device", "add", "c1", "d", "disk"], options].concat());
        out.clean_failure().unwrap();
        assert_eq!(state.good(&["config", "device", "list", "c1"]).trim(), "");
        assert_eq!(mounts(&state), [] as [&str; 0]);
        out.stderr
    };
    let e = add(&["source=/nowhere", "path=/x/d"]);
    assert!(e.contains("Failed to start device \"d\": Missing source path \"/nowhere\""), "{e}");
    add(&["source=/etc/hostname", "path=/x/../proc/self"]);
    add(&["source=/etc", "path=/bin/sh/x"]);
    add(&["source=/etc", "path=/x/d", "raw.mount.options=nonsense"]);
    state.run(&["config", "device", "override", "c1", "root", "size=1GiB"]).clean_failure().unwrap();
    state.good(&["delete", "-f", "c1"]);
    state.finish();
}

/// A restart from inside keeps what was plugged in meanwhile.
#[test]
fn restarted() {
    let Some(state) = state("disks_restarted") else { return };
    good(&state, &["create", "default", "v1"]);
    state.launch("c1", &[]).good().unwrap();
    good(&state, &["attach", "default", "v1", "c1", "a", "/x/a"]);
    state.good(&["restart", "-f", "c1"]);
    assert_eq!(mounts(&state), ["/x/a"]);
    good(&state, &["detach", "default", "v1", "c1"]);
    assert_eq!(mounts(&state), [] as [&str; 0]);
    state.good(&["restart", "-f", "c1"]);
    assert_eq!(mounts(&state), [] as [&str; 0]);
    state.good(&["delete", "-f", "c1"]);
    good(&state, &["delete", "default", "v1"]);
    state.finish();
}
