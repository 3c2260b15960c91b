//! Volumes that go with an instance.

use super::support::{Ask, state};
use super::{data, good, refused};
use crate::common_root::State;

fn snapshots(state: &State, volume: &str) -> String {
    good(state, &["snapshot", "list", "default", volume, "-f", "csv", "-c", "n"])
}

fn fails(state: &State, words: &[&str], with: &str) {
    let out = state.run(words);
    out.clean_failure().unwrap();
    assert!(out.stderr.contains(with), "{with:?} is not said: {out}");
}

#[test]
fn dependent_volumes_go_with_their_instance() {
    let Some(state) = state("dependent_volumes") else { return };
    let root = |volume: &str| data(&state, volume).join("f");
    state.launch("c1", &[]).good().unwrap();
    good(&state, &["create", "default", "v1"]);
    refused(&state, &["create", "default", "v2", "dependent=true"], "cannot be set on creation");
    std::fs::write(root("v1"), "one").unwrap();
    good(&state, &["attach", "default", "v1", "c1", "d", "/data"]);

    // It becomes one, and gets the snapshots that there are.
    good(&state, &["snapshot", "create", "default", "v1", "own"]);
    fails(
        &state,
        &["config", "device", "set", "c1", "d", "dependent=true"],
        "Cannot attach volume with snapshots as dependent",
    );
    good(&state, &["snapshot", "delete", "default", "v1", "own"]);
    state.good(&["snapshot", "create", "c1", "s1"]);
    state.good(&["config", "device", "set", "c1", "d", "dependent=true"]);
    assert_eq!(good(&state, &["get", "default", "v1", "dependent"]), "true\n");
    assert_eq!(snapshots(&state, "v1"), "s1\n");
    state.good(&["config", "device", "set", "c1", "d", "user.x=y"]);
    let shown = good(&state, &["show", "default", "v1"]);
    let edit = state.command(&["storage", "volume", "edit", "default", "v1"]);
    crate::common_root::run(edit, Some(&shown), crate::common_root::PATIENCE).good().unwrap();

    nobody_elses(&state);

    // Snapshots.
    std::fs::write(root("v1"), "two").unwrap();
    state.good(&["snapshot", "create", "c1", "s2"]);
    state.good(&["snapshot", "rename", "c1", "s2", "s3"]);
    assert_eq!(snapshots(&state, "v1"), "s1\ns3\n");
    std::fs::write(root("v1"), "three").unwrap();
    state.good(&["snapshot", "create", "c1", "s3", "--reuse"]);
    std::fs::write(root("v1"), "four").unwrap();
    state.good(&["snapshot", "restore", "c1", "s3"]);
    assert_eq!(state.sh("c1", "cat /data/f"), "three");
    state.good(&["stop", "-f", "c1"]);
    good(&state, &["rename", "default", "v1", "w1"]);
    state.good(&["start", "c1"]);
    state.good(&["snapshot", "restore", "c1", "s3", "--diskonly"]);
    state.good(&["snapshot", "restore", "c1", "s3"]);
    assert_eq!(state.good(&["config", "device", "get", "c1", "d", "source"]), "w1\n");
    // One of before it was a dependent one.
    state.good(&["snapshot", "restore", "c1", "s1"]);
    assert_eq!(good(&state, &["get", "default", "w1", "dependent"]), "true\n");
    assert_eq!(state.sh("c1", "cat /data/f"), "one");
    state.good(&["snapshot", "restore", "c1", "s3"]);
    state.good(&["snapshot", "delete", "c1", "s1"]);
    assert_eq!(snapshots(&state, "w1"), "s3\n");

    copied_and_moved(&state);
    state.finish();
}

/// `v1` is the volume of `c1` alone.
fn nobody_elses(state: &State) {
    refused(state, &["set", "default", "v1", "dependent=false"], "dependent cannot be changed");
    refused(
        state,
        &["set", "default", "v1", "snapshots.schedule=@daily"],
        "may not have a \"snapshots.schedule\" config",
    );
    refused(state, &["snapshot", "create", "default", "v1"], "Direct snapshots are not allowed for dependent volumes");
    refused(state, &["snapshot", "delete", "default", "v1", "s1"], "Direct snapshot removal is not allowed");
    refused(state, &["snapshot", "rename", "default", "v1", "s1", "x"], "not allowed for dependent volumes");
    refused(state, &["delete", "default", "v1"], "still in use");
    state.good(&["create", "test", "c2"]);
    refused(state, &["attach", "default", "v1", "c2", "d", "/data"], "to more than one instance");
    refused(state, &["attach-profile", "default", "v1", "default", "d", "/data"], "to more than one instance");
    let device =
        ["profile", "device", "add", "default", "e", "disk", "pool=default", "source=v1", "path=/e", "dependent=true"];
    fails(state, &device, "Dependent disks cannot be added to profiles");
    state.good(&["delete", "c2"]);
}

/// `c1` has `w1` with the snapshot `s3`.
fn copied_and_moved(state: &State) {
    fails(state, &["copy", "c1", "c2"], "Device source name should be different during copy");
    state.good(&["copy", "c1", "c2", "-d", "d,source=w2"]);
    assert_eq!(snapshots(state, "w2"), "s3\n");
    assert_eq!(good(state, &["get", "default", "w2", "dependent"]), "true\n");
    std::fs::write(data(state, "w2").join("f"), "five").unwrap();
    state.good(&["snapshot", "restore", "c2", "s3"]);
    state.good(&["start", "c2"]);
    assert_eq!(state.sh("c2", "cat /data/f"), "three");
    assert_eq!(state.good(&["config", "device", "get", "c2", "d", "source"]), "w2\n");
    state.good(&["stop", "-f", "c2"]);
    state.good(&["delete", "-f", "c2"]);
    refused(state, &["show", "default", "w2"], "not found");
    state.good(&["copy", "c1/s3", "c3", "-d", "d,source=w3"]);
    assert_eq!(snapshots(state, "w3"), "");
    state.good(&["rename", "c3", "c4"]);

    state.good(&["storage", "create", "other", "dir"]);
    state.good(&["stop", "-f", "c1"]);
    state.good(&["move", "c1", "--storage", "other"]);
    refused(state, &["show", "default", "w1"], "not found");
    assert_eq!(good(state, &["snapshot", "list", "other", "w1", "-f", "csv", "-c", "n"]), "s3\n");
    state.good(&["snapshot", "restore", "c1", "s3"]);
    assert_eq!(state.good(&["config", "device", "get", "c1", "d", "pool"]), "other\n");

    state.good(&["project", "create", "p1", "-c", "features.images=false", "-c", "features.profiles=false"]);
    state.good(&["move", "c1", "--target-project", "p1"]);
    refused(state, &["show", "other", "w1"], "not found");
    let own = state.good(&["storage", "volume", "list", "other", "--project", "p1", "-f", "csv", "-c", "tn"]);
    assert!(own.contains("custom,w1\n") && own.contains("w1/s3\n"), "{own}");
    state.good(&[
        "project",
        "create",
        "p2",
        "-c",
        "features.images=false",
        "-c",
        "features.profiles=false",
        "-c",
        "features.storage.volumes=false",
    ]);
    state.good(&["move", "c4", "--target-project", "p2"]);
    assert_eq!(good(state, &["get", "default", "w3", "dependent"]), "true\n");
    state.good(&["delete", "c4", "--project", "p2"]);
    refused(state, &["show", "default", "w3"], "not found");

    // Taken off it is one like others.
    state.good(&["start", "c1", "--project", "p1"]);
    state.good(&["config", "device", "remove", "c1", "d", "--project", "p1"]);
    state.good(&["delete", "-f", "c1", "--project", "p1"]);
    state.good(&["storage", "volume", "delete", "other", "w1", "--project", "p1"]);
    state.good(&["project", "delete", "p1"]);
    state.good(&["project", "delete", "p2"]);
}
