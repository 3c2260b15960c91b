//! Snapshots of volumes, and copies within a pool and between pools.

use super::support::{Ask, state};
use super::{data, good, refused};
use std::os::unix::fs::{MetadataExt, symlink};

#[test]
fn taken_and_restored() {
    let Some(state) = state("volume_snapshots") else { return };
    good(&state, &["create", "default", "v1", "snapshots.expiry=1d"]);
    let root = data(&state, "v1");
    // Names that mean something to drivers mean nothing in here.
    std::fs::create_dir(root.join("work")).unwrap();
    symlink(format!("../../images/{}", "a".repeat(64)), root.join("image")).unwrap();
    std::fs::write(root.join("idmap"), "[]").unwrap();
    std::fs::write(root.join("f"), "old").unwrap();
    std::os::unix::fs::chown(root.join("f"), Some(1000), Some(1000)).unwrap();
    assert_eq!(good(&state, &["snapshot", "create", "default", "v1"]), "Volume snapshot name is: snap0\n");
    good(&state, &["snapshot", "create", "default", "v1", "s1", "--expiry", "2w", "--description", "first"]);
    refused(&state, &["snapshot", "create", "default", "v1", "s1"], "Snapshot \"s1\" already in use");
    std::fs::write(root.join("f"), "new").unwrap();
    good(&state, &["snapshot", "create", "default", "v1", "s2", "--no-expiry"]);
    good(&state, &["snapshot", "create", "default", "v1", "snap0", "--reuse"]);
    let all = good(&state, &["snapshot", "list", "default", "v1", "-f", "csv", "-c", "n"]);
    assert_eq!(all.lines().collect::<std::collections::BTreeSet<_>>(), ["s1", "s2", "snap0"].into());
    let rows = good(&state, &["list", "default", "-f", "csv", "-c", "tn", "type=custom"]);
    assert_eq!(rows, "custom,v1\ncustom (snapshot),v1/s1\ncustom (snapshot),v1/s2\ncustom (snapshot),v1/snap0\n");
    let shown = good(&state, &["snapshot", "show", "default", "v1/s1"]);
    assert!(shown.starts_with("description: first\nexpires_at: 20") && shown.contains("\nname: s1\n"), "{shown}");
    good(&state, &["snapshot", "restore", "default", "v1", "s1"]);
    let file = std::fs::metadata(root.join("f")).unwrap();
    assert_eq!((std::fs::read_to_string(root.join("f")).unwrap().as_str(), file.uid()), ("old", 1000));
    assert!(root.join("work").is_dir() && root.join("image").is_symlink() && root.join("idmap").is_file());
    good(&state, &["snapshot", "rename", "default", "v1", "s1", "s9"]);
    refused(&state, &["snapshot", "rename", "default", "v1", "s9", "s2"], "Snapshot by that name already exists");
    refused(&state, &["snapshot", "restore", "default", "v1", "s1"], "Storage volume snapshot not found");
    refused(&state, &["snapshot", "create", "default", "v1", "a/b"], "snapshot name");
    // In a running instance.
    state.launch("c1", &[]).good().unwrap();
    good(&state, &["attach", "default", "v1", "c1", "d", "/data"]);
    good(&state, &["snapshot", "create", "default", "v1", "live"]);
    refused(&state, &["snapshot", "restore", "default", "v1", "live"], "Cannot restore custom volume used by running");
    state.good(&["stop", "-f", "c1"]);
    good(&state, &["snapshot", "restore", "default", "v1", "s2"]);
    state.good(&["start", "c1"]);
    assert_eq!(state.sh("c1", "cat /data/f"), "new");
    state.good(&["delete", "-f", "c1"]);
    good(&state, &["rename", "default", "v1", "v2"]);
    good(&state, &["snapshot", "restore", "default", "v2", "s9"]);
    good(&state, &["snapshot", "delete", "default", "v2", "s9", "snap0"]);
    good(&state, &["delete", "default", "v2"]);
    state.finish();
}

#[test]
fn what_of_a_snapshot_is_changed() {
    let Some(state) = state("what_of_a_snapshot_is_changed") else { return };
    good(&state, &["create", "default", "v1", "user.a=b"]);
    good(&state, &["snapshot", "create", "default", "v1", "s1"]);
    good(&state, &["set", "-p", "default", "v1/s1", "description=two words", "expires_at=2040-01-31T12:00:00Z"]);
    assert_eq!(good(&state, &["get", "-p", "default", "v1/s1", "description"]), "two words\n");
    assert_eq!(good(&state, &["get", "-p", "default", "custom/v1/s1", "expires_at"]), "2040-01-31T12:00:00Z\n");
    assert_eq!(good(&state, &["get", "default", "v1/s1", "user.a"]), "b\n");
    let shown = good(&state, &["show", "default", "v1/s1"]);
    assert!(shown.starts_with("description: two words\nexpires_at: 2040-01-31T12:00:00Z\n"), "{shown}");
    let edit = state.command(&["storage", "volume", "edit", "default", "v1/s1"]);
    let text = shown.replace("two words", "three");
    crate::common_root::run(edit, Some(&text), crate::common_root::PATIENCE).good().unwrap();
    good(&state, &["unset", "-p", "default", "v1/s1", "expires_at"]);
    let shown = good(&state, &["snapshot", "show", "default", "v1/s1"]);
    assert!(shown.starts_with("description: three\nexpires_at: 0001-01-01T00:00:00Z\n"), "{shown}");
    refused(&state, &["set", "default", "v1/s1", "user.a=c"], "Snapshots are read-only");
    refused(&state, &["set", "-p", "default", "v1/s1", "name=x"], "does not exist");
    refused(&state, &["set", "-p", "default", "v1/s1", "expires_at=soon"], "");
    refused(&state, &["set", "-p", "default", "v1/s9", "description=x"], "Storage volume snapshot not found");
    refused(&state, &["set", "-p", "default", "v9/s1", "description=x"], "Storage volume not found");
    assert_eq!(good(&state, &["get", "-p", "default", "v1", "description"]), "\n", "the volume has its own");
    good(&state, &["delete", "default", "v1"]);
    state.finish();
}

#[test]
fn rebuilt_volumes_are_empty() {
    let Some(state) = state("rebuilt_volumes_are_empty") else { return };
    good(&state, &["create", "default", "v1", "user.a=b", "initial.uid=9", "initial.mode=0750"]);
    let root = data(&state, "v1");
    let fill = || {
        std::fs::write(root.join("f"), "x").unwrap();
        std::os::unix::fs::chown(&root, Some(1), Some(1)).unwrap();
    };
    let is_new = || {
        let meta = std::fs::metadata(&root).unwrap();
        let empty = std::fs::read_dir(&root).unwrap().next().is_none();
        empty && (meta.uid(), meta.mode() & 0o7777) == (9, 0o750)
    };
    fill();
    assert_eq!(good(&state, &["rebuild", "default", "custom/v1"]), "Storage volume v1 rebuilt\n");
    assert!(is_new());
    assert_eq!(good(&state, &["get", "default", "v1", "user.a"]), "b\n");
    good(&state, &["snapshot", "create", "default", "v1", "s1"]);
    fill();
    refused(&state, &["rebuild", "default", "v1"], "Cannot rebuild custom volume with snapshots");
    good(&state, &["snapshot", "delete", "default", "v1", "s1"]);
    state.launch("c1", &[]).good().unwrap();
    good(&state, &["attach", "default", "v1", "c1", "d", "/data"]);
    refused(&state, &["rebuild", "default", "v1"], "Cannot rebuild custom volume used by running instances");
    refused(&state, &["rebuild", "default", "container/c1"], "Only \"custom\" volumes can be rebuilt");
    assert!(!is_new());
    state.good(&["stop", "-f", "c1"]);
    good(&state, &["rebuild", "default", "v1"]);
    assert!(is_new());
    state.good(&["start", "c1"]);
    assert_eq!(state.sh("c1", "ls /data"), "");
    good(&state, &["create", "default", "d1", "--type=block", "size=1MiB"]);
    let disk = std::fs::read_dir(data(&state, "d1")).unwrap().next().unwrap().unwrap().path();
    std::fs::write(&disk, "x").unwrap();
    good(&state, &["rebuild", "default", "d1"]);
    let now = std::fs::read(&disk).unwrap();
    assert!(now.len() == 1 << 20 && now.iter().all(|byte| *byte == 0));
    state.good(&["delete", "-f", "c1"]);
    good(&state, &["delete", "default", "v1"]);
    good(&state, &["delete", "default", "d1"]);
    state.finish();
}

#[test]
fn copied_and_moved() {
    let Some(state) = state("volume_copies") else { return };
    let pool = "storage_pools: [{name: second, driver: dir}]\n";
    let command = state.command(&["admin", "init", "--preseed"]);
    crate::common_root::run(command, Some(pool), crate::common_root::PATIENCE).good().unwrap();
    good(&state, &["create", "default", "v1", "user.a=old", "initial.uid=9"]);
    std::fs::write(data(&state, "v1").join("f"), "old").unwrap();
    good(&state, &["snapshot", "create", "default", "v1", "s1"]);
    std::fs::write(data(&state, "v1").join("f"), "new").unwrap();
    good(&state, &["set", "default", "v1", "user.a=new"]);
    let second = |name: &str| {
        let pool = stapes::base::names::PoolName::parse("second").unwrap();
        state.layout().pool_custom(&pool).join(format!("default_{name}"))
    };
    assert_eq!(good(&state, &["copy", "default/v1", "second/v1"]), "Storage volume copied successfully!\n");
    assert_eq!(std::fs::read_to_string(second("v1").join("f")).unwrap(), "new");
    assert_eq!(std::fs::metadata(second("v1")).unwrap().uid(), 9);
    good(&state, &["snapshot", "restore", "second", "v1", "s1"]);
    assert_eq!(std::fs::read_to_string(second("v1").join("f")).unwrap(), "old");
    good(&state, &["copy", "default/v1/s1", "default/then"]);
    assert_eq!(std::fs::read_to_string(data(&state, "then").join("f")).unwrap(), "old");
    assert_eq!(good(&state, &["get", "default", "then", "user.a"]), "old\n");
    good(&state, &["copy", "default/v1", "default/alone", "--volume-only"]);
    assert_eq!(good(&state, &["snapshot", "list", "default", "alone", "-f", "csv"]), "");
    refused(&state, &["copy", "default/v1", "second/v1"], "Volume by that name already exists");
    refused(&state, &["copy", "default/none", "second/v2"], "Storage volume not found");
    refused(&state, &["copy", "default/v1/none", "second/v2"], "Storage volume snapshot not found");
    refused(&state, &["copy", "v1", "second/v2"], "Invalid volume");
    assert_eq!(good(&state, &["move", "second/v1", "default/v3"]), "Storage volume moved successfully!\n");
    assert!(!second("v1").exists() && data(&state, "v3").join("f").exists());
    good(&state, &["snapshot", "restore", "default", "v3", "s1"]);
    state.good(&["create", "test", "c1"]);
    good(&state, &["attach", "default", "v3", "c1", "d", "/data"]);
    state.good(&["start", "c1"]);
    refused(&state, &["move", "default/v3", "second/v3"], "still in use by running instances");
    state.good(&["stop", "-f", "c1"]);
    good(&state, &["move", "default/v3", "second/v5"]);
    let device = state.good(&["config", "device", "show", "c1"]);
    assert!(device.contains("pool: second\n") && device.contains("source: v5\n"), "{device}");
    good(&state, &["snapshot", "restore", "second", "v5", "s1"]);
    good(&state, &["mv", "second/v5", "default/v3"]);
    good(&state, &["mv", "default/v3", "default/v4"]);
    assert_eq!(state.good(&["config", "device", "get", "c1", "d", "source"]), "v4\n");
    state.good(&["project", "create", "p1"]);
    refused(
        &state,
        &["move", "default/v4", "default/v4", "--target-project", "p1"],
        "The storage volume is still in use",
    );
    state.good(&["project", "delete", "p1"]);
    state.good(&["delete", "c1"]);
    for name in ["v1", "then", "alone", "v4"] {
        good(&state, &["delete", "default", name]);
    }
    state.finish();
}

#[test]
fn refreshed() {
    let Some(state) = state("volume_refresh") else { return };
    let pool = "storage_pools: [{name: second, driver: dir}]\n";
    let command = state.command(&["admin", "init", "--preseed"]);
    crate::common_root::run(command, Some(pool), crate::common_root::PATIENCE).good().unwrap();
    let second = |name: &str| {
        let pool = stapes::base::names::PoolName::parse("second").unwrap();
        state.layout().pool_custom(&pool).join(format!("default_{name}"))
    };
    let names = |pool: &str, name: &str| {
        let all = good(&state, &["snapshot", "list", pool, name, "-f", "csv", "-c", "n"]);
        let mut all: Vec<String> = all.lines().map(str::to_string).collect();
        all.sort();
        all.join(" ")
    };
    good(&state, &["create", "default", "v1", "user.a=source"]);
    let root = data(&state, "v1");
    std::fs::write(root.join("f"), "one").unwrap();
    good(&state, &["snapshot", "create", "default", "v1", "s1"]);
    good(&state, &["snapshot", "create", "default", "v1", "s2"]);
    // Where there is none, it is made.
    for to in ["second/v1", "default/v2"] {
        assert_eq!(good(&state, &["copy", "default/v1", to, "--refresh"]), "Storage volume copied successfully!\n");
    }
    good(&state, &["set", "second", "v1", "user.a=copy"]);
    std::fs::write(second("v1").join("mine"), "of the copy").unwrap();
    std::fs::write(root.join("f"), "two").unwrap();
    good(&state, &["snapshot", "delete", "default", "v1", "s1"]);
    good(&state, &["snapshot", "create", "default", "v1", "s2", "--reuse"]);
    good(&state, &["snapshot", "create", "default", "v1", "s3"]);
    for (to, pool, name) in [("second/v1", "second", "v1"), ("default/v2", "default", "v2")] {
        good(&state, &["copy", "default/v1", to, "--refresh"]);
        assert_eq!(names(pool, name), "s2 s3");
        let folder = if pool == "second" { second(name) } else { data(&state, name) };
        assert_eq!(std::fs::read_to_string(folder.join("f")).unwrap(), "two");
        assert!(!folder.join("mine").exists());
        good(&state, &["snapshot", "restore", pool, name, "s2"]);
        assert_eq!(std::fs::read_to_string(folder.join("f")).unwrap(), "two");
    }
    assert_eq!(good(&state, &["get", "second", "v1", "user.a"]), "copy\n", "its configuration stays");
    good(&state, &["snapshot", "delete", "second", "v1", "s2"]);
    good(&state, &["copy", "default/v1", "second/v1", "--refresh", "--refresh-exclude-older"]);
    assert_eq!(names("second", "v1"), "s3");
    good(&state, &["copy", "default/v1/s2", "second/v1", "--refresh"]);
    assert_eq!(names("second", "v1"), "s3");
    refused(&state, &["copy", "default/v1", "default/v1", "--refresh"], "can't be refreshed from itself");
    refused(&state, &["copy", "default/nope", "second/v1", "--refresh"], "Storage volume not found");
    state.launch("c1", &[]).good().unwrap();
    good(&state, &["attach", "second", "v1", "c1", "d", "/data"]);
    refused(&state, &["copy", "default/v1", "second/v1", "--refresh"], "still in use by running instances");
    state.good(&["delete", "-f", "c1"]);
    for (pool, name) in [("default", "v1"), ("default", "v2"), ("second", "v1")] {
        good(&state, &["delete", pool, name]);
    }
    state.finish();
}
