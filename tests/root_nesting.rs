//! Containers in containers: with `security.nesting=true` the program itself runs inside a Debian container as it does
//! outside – makes, starts, enters, stops and deletes containers there – and so does podman.
#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "a test: its files are no records"
)]

mod common_root;

use common_root::debian::{bring_apparmor, debian, system, up};
use common_root::{State, leftovers, make_images};

/// Launches `outer` and waits until it is up, whatever of it may have failed.
fn outer(state: &State) {
    state.good(&["launch", "debian", "outer", "-c", "security.nesting=true"]);
    let up = up(state, "outer");
    assert!(["running", "degraded"].contains(&up.stdout.trim()), "{up}");
}

/// A script inside; its output.
fn inside(state: &State, script: &str) -> String {
    state.good(&["exec", "outer", "--", "sh", "-ec", script])
}

fn ends_clean(state: &State) {
    state.delete_all().unwrap();
    state.doctor().unwrap();
    assert_eq!(leftovers::find(state), Vec::<String>::new());
}

/// The program itself, inside, with an image and an instance of it.
fn launch_inner(state: &State) {
    state.good(&["file", "push", "--mode", "755", state.bin.to_str().unwrap(), "outer/usr/local/bin/stapes"]);
    state.good(&["file", "push", state.path("image.tar").to_str().unwrap(), "outer/root/image.tar"]);
    inside(state, "stapes image import /root/image.tar --alias tiny && stapes launch tiny inner");
}

/// With AppArmor's programs in the outer one, inner ones have profiles of their own, in the outer one's policy.
#[test]
fn inner_instances_have_profiles() {
    const NAME: &str = "inner_instances_have_profiles";
    if !std::fs::read_to_string("/sys/module/apparmor/parameters/enabled").is_ok_and(|t| t.trim() == "Y") {
        return common_root::skip(NAME, "AppArmor is not enabled");
    }
    let Some(state) = debian(NAME) else { return };
    make_images(&state.dir);
    outer(&state);
    if !bring_apparmor(&state, "outer") {
        return common_root::skip(NAME, "no package apparmor on this host");
    }
    launch_inner(&state);
    let own = "stapes exec inner -- cat /proc/self/attr/apparmor/current";
    assert_eq!(inside(&state, own).trim(), "stapes-default_inner (enforce)");
    let loaded = "cat /sys/kernel/security/apparmor/profiles";
    assert_eq!(inside(&state, loaded).trim(), "stapes-default_inner (enforce)");
    assert!(inside(&state, "stapes doctor -f csv").contains("each instance has a profile of its own"));
    inside(&state, "stapes config set inner raw.apparmor='deny /etc/group r,'");
    assert_eq!(inside(&state, "stapes exec inner -- cat /etc/group 2>/dev/null || echo denied").trim(), "denied");
    inside(&state, "stapes delete -f inner");
    assert_eq!(inside(&state, loaded).trim(), "");
    ends_clean(&state);
}

#[test]
fn the_program_runs_inside_a_container() {
    let Some(state) = debian("the_program_runs_inside_a_container") else { return };
    make_images(&state.dir);
    outer(&state);
    launch_inner(&state);
    let ids = inside(&state, "stapes exec inner -- cat /proc/self/uid_map");
    let base: u32 = ids.split_whitespace().nth(1).unwrap().parse().unwrap();
    assert!(base >= 65536, "a range within the outer one: {ids}");
    // Devices work, though none can be made in here.
    let devices =
        "stapes exec inner -- sh -c 'echo x >/dev/null && read -r x </dev/urandom; [ -c /dev/full ] && echo fine'";
    assert_eq!(inside(&state, devices).trim(), "fine");
    assert_eq!(inside(&state, "stapes run tiny -- sh -c 'exit 4' || echo $?").trim(), "4");
    inside(&state, "stapes stop -f inner && stapes start inner && stapes pause inner && stapes resume inner");
    assert_eq!(inside(&state, "stapes list -f csv -c ns").trim(), "inner,RUNNING");
    inside(&state, "stapes restart -f inner && stapes delete -f inner");
    assert!(!inside(&state, "stapes doctor -f csv").contains(",ERROR,"));
    // What runs inside ends with the outer one.
    inside(&state, "stapes launch tiny inner");
    state.good(&["stop", "-f", "outer"]);
    ends_clean(&state);
}

#[test]
fn podman_runs_inside_a_container() {
    let packages = ["podman", "crun"];
    let Some(state) = system("podman_runs_inside_a_container", "podman-12-udev.", &packages) else { return };
    make_images(&state.dir);
    outer(&state);
    state.good(&["file", "push", state.path("rootfs.tar").to_str().unwrap(), "outer/root/rootfs.tar"]);
    // overlayfs does not go on the overlay that the outer root is.
    let conf = "[storage]\\ndriver=\"vfs\"\\nrunroot=\"/run/containers\"\\ngraphroot=\"/var/lib/containers/own\"\\n";
    inside(&state, &format!("rm -rf /var/lib/containers; printf '{conf}' >/etc/containers/storage.conf"));
    inside(&state, "podman import -q /root/rootfs.tar tiny");
    let run = "podman --cgroup-manager cgroupfs run --rm --network none tiny /bin/sh -c 'echo $((6 * 7))'";
    assert_eq!(inside(&state, run).trim(), "42");
    ends_clean(&state);
}
