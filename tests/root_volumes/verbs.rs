//! Making, listing, showing, changing, renaming and deleting, without any instance.

use super::support::{Ask, state};
use super::{data, good, refused, volume};
use std::os::unix::fs::MetadataExt;

#[test]
fn a_volume_through_its_life() {
    let Some(state) = state("a_volume_through_its_life") else { return };
    let made = ["create", "default", "v1", "initial.uid=5", "initial.gid=6", "initial.mode=750", "user.a=b"];
    assert_eq!(good(&state, &made), "Storage volume v1 created\n");
    let root = std::fs::metadata(data(&state, "v1")).unwrap();
    assert_eq!((root.uid(), root.gid(), root.mode() & 0o7777), (5, 6, 0o750));
    assert_eq!(std::fs::read_dir(data(&state, "v1")).unwrap().count(), 0, "no folder of ours in it");
    good(&state, &["create", "default", "v2", "--description", "two words", "-t", "filesystem"]);
    let plain = std::fs::metadata(data(&state, "v2")).unwrap();
    assert_eq!((plain.uid(), plain.gid(), plain.mode() & 0o7777), (0, 0, 0o711));
    let all = good(&state, &["list", "default", "type=custom", "-f", "csv"]);
    assert_eq!(all, "custom,v1,,filesystem,0\ncustom,v2,two words,filesystem,0\n");
    let all = good(&state, &["ls", "default", "type=custom", "--all-projects", "-c", "enuU", "-f", "csv"]);
    assert_eq!(all, "default,v1,0,4.00KiB\ndefault,v2,0,4.00KiB\n");
    let images = good(&state, &["list", "default", "type=image", "-f", "csv", "-c", "tcu"]);
    assert_eq!(images, "image,filesystem,1\n");
    let shown = good(&state, &["show", "default", "custom/v1"]);
    let start = "config:\n  initial.gid: \"6\"\n  initial.mode: \"750\"\n  initial.uid: \"5\"\n  user.a: b\n\
                 description: \"\"\nname: v1\ntype: custom\nused_by: []\nlocation: none\ncontent_type: filesystem\n\
                 project: default\ncreated_at: ";
    assert!(shown.starts_with(start), "{shown}");
    good(&state, &["set", "default", "v1", "user.a=c", "snapshots.expiry=1d"]);
    good(&state, &["set", "-p", "default", "v1", "description=hello"]);
    assert_eq!(good(&state, &["get", "default", "v1", "user.a"]), "c\n");
    assert_eq!(good(&state, &["get", "-p", "default", "v1", "description"]), "hello\n");
    good(&state, &["unset", "default", "v1", "snapshots.expiry"]);
    assert_eq!(good(&state, &["get", "default", "v1", "snapshots.expiry"]), "");
    let info = good(&state, &["info", "default", "v1"]);
    assert!(
        info.starts_with("Name: v1\nDescription: hello\nType: custom\nContent type: filesystem\nUsage: "),
        "{info}"
    );
    assert_eq!(good(&state, &["rename", "default", "v1", "v3"]), "Renamed storage volume from \"v1\" to \"v3\"\n");
    assert!(!data(&state, "v1").exists() && data(&state, "v3").is_dir());
    for name in ["v2", "custom/v3"] {
        good(&state, &["rm", "default", name]);
    }
    assert_eq!(good(&state, &["list", "default", "type=custom", "-f", "csv"]), "");
    state.finish();
}

#[test]
fn documents_and_defaults() {
    let Some(state) = state("documents_and_defaults") else { return };
    let with = |words: &[&str], input: &str| {
        let command = state.command(&[&["storage", "volume"], words].concat());
        crate::common_root::run(command, Some(input), crate::common_root::PATIENCE)
    };
    with(&["create", "default", "v1", "user.b=2"], "config: {user.a: 1}\ndescription: from a file\n").good().unwrap();
    assert_eq!(good(&state, &["get", "default", "v1", "user.a"]), "1\n");
    assert_eq!(good(&state, &["get", "default", "v1", "user.b"]), "2\n");
    with(&["edit", "default", "v1"], "config: {user.c: x}\nname: shown\n").good().unwrap();
    let shown = good(&state, &["show", "default", "v1"]);
    assert!(shown.starts_with("config:\n  user.c: x\ndescription: \"\"\n"), "{shown}");
    with(&["edit", "default", "v1"], "- a\n").clean_failure().unwrap();
    good(&state, &["delete", "default", "v1"]);
    state.finish();
}

/// What the pool says of new volumes is theirs once they are made.
#[test]
fn a_pool_says_what_new_volumes_have() {
    let Some(state) = state("a_pool_says_what_new_volumes_have") else { return };
    let defaults = [
        "snapshots.expiry=3d",
        "snapshots.expiry.manual=1w",
        "snapshots.pattern=auto%d",
        "snapshots.schedule=@daily",
        "security.unmapped=true",
        "security.shared=true",
        "initial.uid=7",
        "initial.gid=8",
        "initial.mode=0750",
    ];
    for default in defaults {
        state.good(&["storage", "set", "default", &format!("volume.{default}")]);
    }
    let config = |name: &str| {
        let shown = good(&state, &["show", "default", name]);
        let lines = shown.lines().take_while(|l| !l.starts_with("description:")).filter_map(|l| l.strip_prefix("  "));
        let mut lines: Vec<String> = lines.map(|l| l.replace(": ", "=").replace(['"', '\''], "")).collect();
        lines.sort();
        lines
    };
    let but = |left_out: &str| {
        let mut rest: Vec<String> = defaults.iter().filter(|d| !d.starts_with(left_out)).map(|d| (*d).into()).collect();
        rest.sort();
        rest
    };
    good(&state, &["create", "default", "v1"]);
    assert_eq!(config("v1"), but("security.shared"));
    let root = std::fs::metadata(data(&state, "v1")).unwrap();
    assert_eq!((root.uid(), root.gid(), root.mode() & 0o7777), (7, 8, 0o750));
    good(&state, &["snapshot", "create", "default", "v1"]);
    let taken = good(&state, &["snapshot", "show", "default", "v1/auto0"]);
    assert!(taken.contains("expires_at: 2") && !taken.contains("expires_at: 0001"), "{taken}");
    good(&state, &["create", "default", "d1", "--type=block", "size=1MiB"]);
    let disk = config("d1");
    let disk: Vec<&String> = disk.iter().filter(|l| *l != "size=1MiB").collect();
    assert_eq!(disk, but("security.unmapped").iter().collect::<Vec<_>>());
    std::fs::write(state.path("x.iso"), "disc").unwrap();
    good(&state, &["import", "default", "x.iso"]);
    assert_eq!(config("x"), ["size=4"]);
    // Its own words count, and what the pool says later does not.
    good(&state, &["create", "default", "v2", "snapshots.pattern=mine%d", "initial.uid=0"]);
    state.good(&["storage", "set", "default", "volume.snapshots.expiry=9d"]);
    state.good(&["storage", "unset", "default", "volume.snapshots.schedule"]);
    assert!(config("v2").contains(&"snapshots.pattern=mine%d".to_string()));
    assert!(config("v1").contains(&"snapshots.expiry=3d".to_string()));
    refused(&state, &["create", "default", "v3", "security.shifted=true"], "mutually exclusive");
    good(&state, &["export", "default", "v2", "v2.tar.gz"]);
    good(&state, &["import", "default", "v2.tar.gz", "v4"]);
    assert!(config("v4").contains(&"snapshots.pattern=mine%d".to_string()));
    for name in ["v1", "v2", "v4", "d1", "x"] {
        good(&state, &["delete", "default", name]);
    }
    state.finish();
}

/// A copy has what its source said, and of what that left unsaid what its pool says.
#[test]
fn a_pool_says_what_copies_lack() {
    let Some(state) = state("a_pool_says_what_copies_lack") else { return };
    state.good(&["storage", "create", "other", "dir", "volume.snapshots.expiry=5d", "volume.snapshots.pattern=a%d"]);
    good(&state, &["create", "default", "v1", "snapshots.expiry=3d", "security.unmapped=true"]);
    for words in [&["copy", "default/v1", "other/v2"][..], &["move", "default/v1", "other/v3"]] {
        good(&state, words);
        let name = &words[2]["other/".len()..];
        assert_eq!(good(&state, &["get", "other", name, "snapshots.expiry"]), "3d\n");
        assert_eq!(good(&state, &["get", "other", name, "snapshots.pattern"]), "a%d\n");
    }
    good(&state, &["copy", "other/v2", "other/v4"]);
    good(&state, &["unset", "other", "v4", "snapshots.pattern"]);
    good(&state, &["copy", "other/v4", "other/v5"]);
    assert_eq!(good(&state, &["get", "other", "v5", "snapshots.pattern"]), "");
    state.good(&["storage", "set", "default", "volume.security.shifted=true"]);
    refused(&state, &["copy", "other/v2", "default/v1"], "mutually exclusive");
    for name in ["v2", "v3", "v4", "v5"] {
        good(&state, &["delete", "other", name]);
    }
    state.good(&["storage", "delete", "other"]);
    state.finish();
}

#[test]
fn what_is_refused() {
    let Some(state) = state("volumes_what_is_refused") else { return };
    good(&state, &["create", "default", "v1"]);
    refused(&state, &["create", "default", "v1"], "Volume by that name already exists");
    refused(&state, &["create", "nowhere", "v1"], "Storage pool not found");
    refused(&state, &["create", "default", "v2", "x=y"], "Invalid option for volume \"v2\" option \"x\"");
    refused(&state, &["create", "default", "v2", "initial.mode=9"], "Invalid value for volume \"v2\"");
    for bad in ["a/b", "..", ".", "a b", "a@b", "-a", "", "a\nb", &"x".repeat(65), "custom/../x"] {
        volume(&state, &["create", "default", "--", bad]).clean_failure().unwrap();
    }
    refused(&state, &["delete", "default", "v2"], "Storage volume not found");
    refused(&state, &["delete", "default", "image/x"], "Storage volume not found");
    refused(&state, &["delete", "default", "container/x"], "type \"container\" cannot be deleted with the storage API");
    refused(
        &state,
        &["rename", "default", "image/x", "y"],
        "Renaming storage volumes of type \"image\" is not allowed",
    );
    refused(&state, &["rename", "default", "v1", "v1"], "already exists");
    refused(&state, &["rename", "default", "v1", "../v"], "Invalid volume name");
    refused(&state, &["set", "default", "v1", "initial.uid=7"], "cannot be changed after creation");
    refused(&state, &["show", "default", "container/none"], "Storage pool volume \"container/none\" not found\n");
    let hint = "Storage pool volume \"custom/v2\" not found. Try virtual-machine or container for type";
    refused(&state, &["show", "default", "v2"], hint);
    refused(&state, &["show", "default", "v1/none"], "Storage volume snapshot not found");
    refused(&state, &["detach", "default", "v1", "none"], "not found");
    // Data without a record, and the other way round.
    std::fs::rename(data(&state, "v1"), data(&state, "v9")).unwrap();
    let seen = state.run(&["doctor", "-f", "csv"]);
    assert!(
        seen.stdout.contains("its data are missing") && seen.stdout.contains("it has data and no record"),
        "{seen}"
    );
    refused(&state, &["create", "default", "v9"], "already exists");
    let _ = state.run(&["doctor", "--fix"]);
    assert!(!data(&state, "v9").exists(), "what nobody has a record of is gone");
    good(&state, &["delete", "default", "v1"]);
    state.finish();
}

/// What a pool has of an image goes by itself, unless something needs it, and comes again.
#[test]
fn an_unpacked_image_can_be_deleted() {
    let Some(state) = state("an_unpacked_image_can_be_deleted") else { return };
    state.good(&["storage", "create", "plain", "dir"]);
    let image = state.good(&["image", "list", "-f", "csv", "-c", "F"]);
    let name = format!("image/{}", image.trim());
    state.good(&["create", "test", "c1"]);
    state.good(&["create", "test", "c2", "-s", "plain"]);
    let list = |pool: &str| good(&state, &["list", pool, "type=image", "-f", "csv", "-c", "tn"]);
    let row = format!("image,{}", image);
    for pool in ["default", "plain"] {
        assert_eq!(list(pool), row);
        let shown = good(&state, &["show", pool, &name]);
        assert!(shown.contains(&format!("\ntype: image\nused_by:\n- /1.0/images/{}", image.trim())), "{shown}");
        let info = good(&state, &["info", pool, &name]);
        assert!(
            info.starts_with(&format!("Name: {}\nType: image\nContent type: filesystem\n", image.trim())),
            "{info}"
        );
    }
    // Copies of files need nothing of it, layers do.
    assert_eq!(good(&state, &["delete", "plain", &name]), format!("Storage volume {} deleted\n", image.trim()));
    assert_eq!((list("plain"), state.good(&["image", "list", "-f", "csv", "-c", "F"])), (String::new(), image.clone()));
    refused(&state, &["delete", "plain", &name], "Storage volume not found");
    refused(&state, &["delete", "default", &format!("{name}/s")], "Storage volume not found");
    if state.good(&["storage", "show", "default"]).contains("driver: overlay") {
        refused(&state, &["delete", "default", &name], "The storage volume is still in use");
    }
    state.good(&["delete", "c1", "c2"]);
    good(&state, &["delete", "default", &name]);
    state.doctor().unwrap();
    state.good(&["launch", "test", "c1"]);
    assert_eq!(list("default"), row);
    state.good(&["delete", "-f", "c1"]);
    state.good(&["storage", "delete", "plain"]);
    state.finish();
}

#[test]
fn a_damaged_record_can_be_deleted() {
    let Some(state) = state("a_damaged_record_can_be_deleted") else { return };
    good(&state, &["create", "default", "v1"]);
    good(&state, &["create", "default", "v2"]);
    let record = state.path("state/projects/default/volumes/default/v1.toml");
    std::fs::write(&record, "format = 1\nx = 1\n").unwrap();
    let all = good(&state, &["list", "default", "type=custom", "-f", "csv"]);
    assert!(all.contains("custom,v1,") && all.contains("ERROR: ") && all.contains("custom,v2,,filesystem,0"), "{all}");
    volume(&state, &["show", "default", "v1"]).clean_failure().unwrap();
    volume(&state, &["set", "default", "v1", "user.a=b"]).clean_failure().unwrap();
    good(&state, &["delete", "default", "v1"]);
    good(&state, &["delete", "default", "v2"]);
    state.finish();
}
