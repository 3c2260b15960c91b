//! Volumes in instances: owners inside and on disk, several instances at one volume, parts of a volume, what is in use.

use super::support::{Ask, state};
use super::{data, good, refused};
use std::os::unix::fs::{MetadataExt, symlink};

/// The ids on disk are those inside, whatever the maps of those who share it.
#[test]
fn shared_between_id_maps() {
    let Some(state) = state("shared_between_id_maps") else { return };
    good(&state, &["create", "default", "v1", "initial.mode=777"]);
    for (name, options) in [
        ("c1", &[][..]),
        ("c2", &["-c", "security.idmap.isolated=true"][..]),
        ("c3", &["-c", "security.privileged=true"][..]),
    ] {
        state.good(&[&["create", "test", name], options].concat());
        good(&state, &["attach", "default", "v1", name, "data", "/data"]);
        state.good(&["start", name]);
    }
    state.sh("c1", "echo one > /data/f; chown 1000:1001 /data/f; chmod 4755 /data/f");
    let file = std::fs::metadata(data(&state, "v1").join("f")).unwrap();
    assert_eq!((file.uid(), file.gid(), file.mode() & 0o7777), (1000, 1001, 0o4755));
    for name in ["c1", "c2", "c3"] {
        assert_eq!(state.sh(name, "stat -c '%u %g %a' /data /data/f; cat /data/f"), "0 0 777\n1000 1001 4755\none");
    }
    state.sh("c2", "echo two > /data/g");
    assert_eq!(std::fs::metadata(data(&state, "v1").join("g")).unwrap().uid(), 0);
    assert_eq!(state.sh("c1", "stat -c %u /data/g; cat /data/g"), "0\ntwo");
    let users = good(&state, &["show", "default", "v1"]);
    assert!(users.contains("used_by:\n- /1.0/instances/c1\n- /1.0/instances/c2\n- /1.0/instances/c3\n"), "{users}");
    for name in ["c1", "c2", "c3"] {
        state.good(&["delete", "-f", name]);
    }
    good(&state, &["delete", "default", "v1"]);
    state.finish();
}

/// A volume that may not be written, one that is not there, one whose data are lost.
#[test]
fn read_only_and_missing() {
    let Some(state) = state("read_only_and_missing") else { return };
    good(&state, &["create", "default", "v1"]);
    state.good(&["create", "test", "c1"]);
    let add = |name: &str, options: &[&str]| {
        state.run(&[&["config", "device", "add", "c1", name, "disk", "pool=default"], options].concat())
    };
    add("ro", &["source=v1", "path=/ro", "readonly=true"]).good().unwrap();
    let missing = add("m", &["source=v2", "path=/m"]);
    missing.clean_failure().unwrap();
    assert!(missing.stderr.contains("Failed loading custom volume: Storage volume not found"), "{missing}");
    let nowhere = add("nowhere", &["source=v1"]);
    nowhere.clean_failure().unwrap();
    assert!(nowhere.stderr.contains("Custom filesystem volumes require a path to be defined"), "{nowhere}");
    state.good(&["start", "c1"]);
    assert!(state.try_sh("c1", "touch /ro/x").stderr.contains("Read-only file system"));
    state.good(&["stop", "-f", "c1"]);
    // The data are lost: only one that says so may start without.
    std::fs::remove_dir(data(&state, "v1")).unwrap();
    state.run(&["start", "c1"]).clean_failure().unwrap();
    state.good(&["config", "device", "set", "c1", "ro", "required=false"]);
    state.good(&["start", "c1"]);
    state.good(&["delete", "-f", "c1"]);
    good(&state, &["delete", "default", "v1"]);
    state.finish();
}

/// A part of a volume is looked up without following what a guest has put there out of the volume.
#[test]
fn parts_stay_inside() {
    let Some(state) = state("parts_stay_inside") else { return };
    let victim = state.path("victim");
    std::fs::create_dir(&victim).unwrap();
    std::fs::write(victim.join("secret"), "secret").unwrap();
    good(&state, &["create", "default", "v1", "initial.uid=7"]);
    state.launch("c1", &[]).good().unwrap();
    good(&state, &["attach", "default", "v1", "c1", "whole", "/whole"]);
    let part = |name: &str, source: &str| {
        let source = format!("source=v1/{source}");
        let path = format!("path=/part/{name}");
        state.run(&["config", "device", "add", "c1", name, "disk", "pool=default", &source, &path])
    };
    part("deep", "a/b").good().unwrap();
    assert_eq!(
        state.sh("c1", "stat -c '%u %a' /part/deep /whole/a; touch /whole/a/b/x; ls /part/deep"),
        "7 711\n7 711\nx"
    );
    let more = ["initial.uid=5", "initial.gid=6", "initial.mode=750", "path=/part/own", "source=v1/own/b"];
    state.good(&[&["config", "device", "add", "c1", "own", "disk", "pool=default"], &more[..]].concat());
    assert_eq!(state.sh("c1", "stat -c '%u %g %a' /part/own /whole/own"), "5 6 750\n5 6 750");
    state.sh("c1", "echo text > /whole/file; mkfifo /whole/pipe");
    part("file", "file").good().unwrap();
    assert_eq!(state.sh("c1", "cat /part/file"), "text");
    part("pipe", "pipe").clean_failure().unwrap();
    let root = data(&state, "v1");
    for (n, target) in
        [victim.to_str().unwrap(), "/etc", "../../../..", "/proc/self/root", "a/../.."].into_iter().enumerate()
    {
        symlink(target, root.join(format!("l{n}"))).unwrap();
        for source in [format!("l{n}"), format!("l{n}/x"), format!("a/../l{n}")] {
            let out = part("evil", &source);
            out.clean_failure().unwrap();
            assert!(!out.stderr.contains("secret"), "{out}");
        }
        // The same at a start.
        state.good(&["create", "test", "c2"]);
        let source = format!("source=v1/l{n}/x");
        state.good(&["config", "device", "add", "c2", "evil", "disk", "pool=default", &source, "path=/evil"]);
        state.run(&["start", "c2"]).clean_failure().unwrap();
        state.good(&["delete", "-f", "c2"]);
    }
    assert_eq!(std::fs::read_dir(&victim).unwrap().count(), 1);
    // A link that stays inside is followed, and something may be made behind it.
    symlink("a", root.join("in")).unwrap();
    symlink("../a/b", root.join("a/up")).unwrap();
    symlink("nowhere", root.join("dangling")).unwrap();
    for (name, source) in [("in", "in"), ("up", "in/up"), ("new", "in/new")] {
        part(name, source).good().unwrap();
        state.sh("c1", &format!("echo {name} > /part/{name}/word"));
    }
    part("dangling", "dangling").clean_failure().unwrap();
    assert_eq!(state.sh("c1", "cat /whole/a/word /whole/a/b/word /whole/a/new/word"), "in\nup\nnew");
    state.good(&["delete", "-f", "c1"]);
    good(&state, &["delete", "default", "v1"]);
    std::fs::remove_dir_all(victim).unwrap();
    state.finish();
}

#[test]
fn in_use() {
    let Some(state) = state("volumes_in_use") else { return };
    good(&state, &["create", "default", "v1"]);
    good(&state, &["create", "default", "taken"]);
    good(&state, &["attach-profile", "default", "v1", "default", "data", "/data"]);
    refused(&state, &["delete", "default", "v1"], "The storage volume is still in use");
    state.launch("c1", &[]).good().unwrap();
    state.sh("c1", "echo x > /data/f");
    refused(&state, &["rename", "default", "v1", "v2"], "Volume is still in use by running instances");
    refused(&state, &["snapshot", "restore", "default", "v1", "none"], "Storage volume snapshot not found");
    let shown = good(&state, &["show", "default", "v1"]);
    assert!(shown.contains("- /1.0/instances/c1\n- /1.0/profiles/default\n"), "{shown}");
    state.good(&["stop", "-f", "c1"]);
    refused(&state, &["rename", "default", "v1", "taken"], "Volume by that name already exists");
    good(&state, &["rename", "default", "v1", "v2"]);
    assert!(state.good(&["profile", "device", "get", "default", "data", "source"]).trim() == "v2");
    state.good(&["start", "c1"]);
    assert_eq!(state.sh("c1", "cat /data/f"), "x");
    // Detached while it runs, from the profile.
    refused(&state, &["detach-profile", "default", "taken", "default"], "No device found for this storage volume");
    good(&state, &["detach-profile", "default", "v2", "default"]);
    assert_eq!(state.sh("c1", "ls /data"), "");
    good(&state, &["delete", "default", "v2"]);
    good(&state, &["delete", "default", "taken"]);
    state.good(&["delete", "-f", "c1"]);
    state.finish();
}
