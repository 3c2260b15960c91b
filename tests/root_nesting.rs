//! Containers in containers: with `security.nesting=true` the program itself runs inside a Debian container as it does
//! outside – makes, starts, enters, stops and deletes containers there – and so does podman.
#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "a test: its files are no records"
)]

mod common_root;

use common_root::debian::{debian, system};
use common_root::{State, leftovers, make_images};

/// Launches `outer` and waits until it is up, whatever of it may have failed.
fn outer(state: &State) {
    state.good(&["launch", "debian", "outer", "-c", "security.nesting=true"]);
    let up = state.run(&["exec", "outer", "--", "systemctl", "is-system-running", "--wait"]);
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

#[test]
fn the_program_runs_inside_a_container() {
    const NAME: &str = "the_program_runs_inside_a_container";
    if std::path::Path::new("/sys/kernel/security/apparmor/policy").is_dir() {
        return common_root::skip(NAME, "not where AppArmor is on: mounting cgroup2 in there is denied, a known gap");
    }
    let Some(state) = debian(NAME) else { return };
    make_images(&state.dir);
    outer(&state);
    state.good(&["file", "push", "--mode", "755", state.bin.to_str().unwrap(), "outer/usr/local/bin/stapes"]);
    state.good(&["file", "push", state.path("image.tar").to_str().unwrap(), "outer/root/image.tar"]);
    inside(&state, "stapes image import /root/image.tar --alias tiny && stapes launch tiny inner");
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
    let Some(state) = system("podman_runs_inside_a_container", "podman-12.", &packages) else { return };
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
