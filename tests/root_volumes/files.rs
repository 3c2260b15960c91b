//! `storage volume file`: files of a volume, whether something uses it or not.

use super::support::{Ask, state};
use super::{data, good, refused};
use std::os::unix::fs::{MetadataExt, symlink};

#[test]
fn files_of_a_volume() {
    let Some(state) = state("files_of_a_volume") else { return };
    good(&state, &["create", "default", "v1"]);
    let (local, back) = (state.path("local"), state.path("back"));
    std::fs::write(&local, "text\n").unwrap();
    let (local, back) = (local.to_str().unwrap(), back.to_str().unwrap());
    good(
        &state,
        &["file", "push", local, "default", "v1/a/b/f", "-p", "--uid", "1000", "--gid", "1001", "--mode", "640"],
    );
    let file = std::fs::metadata(data(&state, "v1").join("a/b/f")).unwrap();
    assert_eq!((file.uid(), file.gid(), file.mode() & 0o7777), (1000, 1001, 0o640));
    assert_eq!(good(&state, &["file", "pull", "default", "v1/a/b/f", "-"]), "text\n");
    good(&state, &["file", "pull", "default", "custom/v1/a/b/f", back]);
    assert_eq!(std::fs::read_to_string(back).unwrap(), "text\n");
    good(&state, &["file", "create", "default", "v1/d/", "--uid", "7"]);
    good(&state, &["file", "create", "default", "v1/d/l", "/a/b/f", "-t", "symlink"]);
    let edit = state.command(&["storage", "volume", "file", "edit", "default", "v1/a/b/f"]);
    crate::common_root::run(edit, Some("edited\n"), crate::common_root::PATIENCE).good().unwrap();
    // A link leads inside the volume.
    assert_eq!(good(&state, &["file", "pull", "default", "v1/d/l", "-"]), "edited\n");
    assert_eq!(std::fs::metadata(data(&state, "v1").join("a/b/f")).unwrap().uid(), 1000);
    state.launch("c1", &[]).good().unwrap();
    good(&state, &["attach", "default", "v1", "c1", "d", "/data"]);
    good(&state, &["file", "push", local, "default", "v1/g"]);
    assert_eq!(state.sh("c1", "cat /data/g /data/a/b/f"), "text\nedited");
    // Whatever its users have put there.
    let victim = state.path("victim");
    std::fs::create_dir(&victim).unwrap();
    for (name, target) in [("e1", victim.to_str().unwrap()), ("e2", "../../../../../etc"), ("e3", "/proc/self/root")] {
        symlink(target, data(&state, "v1").join(name)).unwrap();
        let inside = format!("v1/{name}/x");
        let _ = super::volume(&state, &["file", "push", local, "default", &inside, "-p"]);
        let _ = super::volume(&state, &["file", "delete", "default", &inside, "-f"]);
    }
    assert_eq!(std::fs::read_dir(&victim).unwrap().count(), 0);
    assert!(!std::path::Path::new("/etc/x").exists() && !std::path::Path::new("/x").exists());
    std::fs::create_dir_all(state.path("tree/sub")).unwrap();
    std::fs::write(state.path("tree/sub/f"), "deep").unwrap();
    good(&state, &["file", "push", "-rp", "tree", "default", "v1/trees/"]);
    assert_eq!(state.sh("c1", "cat /data/trees/tree/sub/f"), "deep");
    good(&state, &["file", "pull", "-r", "default", "v1/trees", "pulled"]);
    assert_eq!(std::fs::read_to_string(state.path("pulled/trees/tree/sub/f")).unwrap(), "deep");
    good(&state, &["file", "delete", "default", "v1/trees", "-f"]);
    refused(&state, &["file", "pull", "default", "v1/none", "-"], "");
    refused(&state, &["file", "pull", "default", "v2/none", "-"], "Storage volume not found");
    refused(&state, &["file", "push", local, "default", "v1"], "Invalid path");
    good(&state, &["file", "delete", "default", "v1/g", "v1/d/l"]);
    assert!(!data(&state, "v1").join("g").exists());
    state.good(&["delete", "-f", "c1"]);
    good(&state, &["delete", "default", "v1"]);
    std::fs::remove_dir(victim).unwrap();
    state.finish();
}
