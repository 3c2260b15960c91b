//! Folders of the user's as sources of pools.

use super::support::{Device, More, names, state};
use std::process::Command;

#[test]
fn a_folder_is_adopted_and_stays_without_what_was_ours() {
    let Some(state) = state("a_folder_is_adopted_and_stays_without_what_was_ours", false) else { return };
    let folder = state.path("source");
    for driver in ["dir", "overlay"] {
        std::fs::create_dir_all(folder.join("lost+found")).unwrap();
        // Relative: of the working folder.
        state.ok(&format!("storage create p {driver} source=source"));
        assert_eq!(state.ok("storage get p source"), format!("{}\n", folder.display()));
        state.ok("launch img c1 -s p");
        state.sh("c1", "echo x >/root/file").good().unwrap();
        assert_eq!(names(&folder.join("containers")), ["c1"]);
        std::fs::write(folder.join("notes"), "the user's").unwrap();
        state.refuses("storage create q dir source=source", "is in use by storage pool \"p\"");
        state.refuses("storage create q dir source=source/containers", "is in use by storage pool \"p\"");
        state.ok("delete -f c1");
        state.ok("storage delete p");
        assert_eq!(names(&folder), ["lost+found", "notes"], "{driver}");
        state.refuses("storage create p dir source=source", "isn't empty");
        std::fs::remove_file(folder.join("notes")).unwrap();
    }
    state.finish(&[]);
}

#[test]
fn a_folder_that_vanishes_takes_nothing_else_along() {
    let Some(state) = state("a_folder_that_vanishes_takes_nothing_else_along", false) else { return };
    let (folder, away) = (state.path("source"), state.path("away"));
    std::fs::create_dir(&folder).unwrap();
    state.ok("storage create p dir source=source");
    state.ok("create img c1 -s p");
    state.ok("launch img c2");
    std::fs::rename(&folder, &away).unwrap();
    for empty in [false, true] {
        let reason = if empty { "is not the source of storage pool" } else { "doesn't exist" };
        if empty {
            // What a disk that is not mounted looks like.
            std::fs::create_dir(&folder).unwrap();
        }
        state.refuses("start c1", reason);
        state.refuses("create img c3 -s p", reason);
        state.refuses("storage info p", reason);
        assert!(state.ok("storage list -f csv -c ns").contains("p,UNAVAILABLE"));
        assert!(state.ok("storage show p").contains("status: Unavailable"));
        assert_eq!(state.instances().unwrap().len(), 2);
        state.sh("c2", "true").good().unwrap();
        state.ok("create img c4");
        state.ok("delete c4");
        let doctor = state.run(&["doctor", "-f", "csv"]);
        assert!(!doctor.ok() && doctor.stdout.contains("pool p,ERROR"), "{}", doctor.stdout);
        assert_eq!(folder.exists(), empty, "nothing was made there");
    }
    assert!(names(&folder).is_empty(), "nothing was made there");
    state.refuses("storage delete p", "currently in use");
    std::fs::remove_dir(&folder).unwrap();
    std::fs::rename(&away, &folder).unwrap();
    state.ok("start c1");
    state.ok("delete -f c1");
    // A pool whose source is gone for good can be deleted.
    std::fs::rename(&folder, &away).unwrap();
    state.ok("storage delete p");
    // And what bears its mark be taken by another.
    state.ok("storage create q dir source=away");
    state.finish(&["q"]);
}

#[test]
fn a_folder_on_btrfs_holds_a_pool_beside_other_things() {
    let Some(state) = state("a_folder_on_btrfs_holds_a_pool_beside_other_things", true) else { return };
    let device = Device::new(&state, "disk");
    device.mkfs("btrfs");
    let at = state.path("mnt");
    std::fs::create_dir(&at).unwrap();
    assert!(Command::new("mount").arg(&device.path).arg(&at).status().unwrap().success());
    std::fs::create_dir(at.join("pool")).unwrap();
    std::fs::write(at.join("other"), "x").unwrap();
    state.refuses("storage create p btrfs source=mnt", "isn't empty");
    state.ok("storage create p btrfs source=mnt/pool size=1GiB");
    assert_eq!(state.ok("storage get p size"), "", "of no meaning there");
    state.refuses("storage set p size=2GiB", "Cannot resize non-loopback pools");
    state.ok("launch img c1 -s p");
    state.sh("c1", "echo x >/root/file").good().unwrap();
    state.ok("delete -f c1");
    state.ok("storage delete p");
    assert!(names(&at.join("pool")).is_empty() && at.join("other").exists());
    let subvolumes = Command::new("btrfs").args(["subvolume", "list"]).arg(&at).output().unwrap();
    assert!(subvolumes.stdout.is_empty(), "{subvolumes:?}");
    assert!(Command::new("umount").arg(&at).status().unwrap().success());
    state.finish(&[]);
}

/// Nothing is done to what lies in a pool that is not there, and nothing is done to it later by what has failed.
#[test]
fn what_fails_in_a_lost_pool_does_not_happen_when_it_is_back() {
    let Some(state) = state("what_fails_in_a_lost_pool_does_not_happen_when_it_is_back", false) else { return };
    let (here, away) = (state.path("here"), state.path("away"));
    std::fs::create_dir(&here).unwrap();
    state.ok("storage create p dir source=here");
    for words in [
        "create img c1 -s p",
        "snapshot create c1 s1",
        "storage volume create p v",
        "storage volume snapshot create p v s1",
    ] {
        state.ok(words);
    }
    state.ok("create img c2");
    state.ok("storage volume create p d");
    state.ok("config device add c2 d disk pool=p source=d path=/d dependent=true");
    state.ok("snapshot create c2 s1");
    std::fs::rename(&here, &away).unwrap();
    for words in [
        "snapshot delete c1 s1",
        "snapshot create c1 s1 --reuse",
        "snapshot delete c2 s1",
        "storage volume snapshot delete p v s1",
        "storage volume snapshot create p v s1 --reuse",
        "storage volume delete p v",
        "delete c1",
        "delete c2",
    ] {
        state.refuses(words, "doesn't exist");
        state.ok("config set c1 user.x=1");
    }
    std::fs::rename(&away, &here).unwrap();
    state.doctor().unwrap();
    for name in ["c1", "c2"] {
        assert_eq!(state.ok(&format!("snapshot list {name} -f csv -c n")), "s1\n", "{name}");
        state.ok(&format!("snapshot restore {name} s1"));
    }
    state.ok("storage volume snapshot restore p v s1");
    for name in ["v", "container/c1", "d"] {
        assert_eq!(state.ok(&format!("storage volume snapshot list p {name} -f csv -c n")), "s1\n", "{name}");
    }
    // A project that is to go with all it has goes without the pool.
    state.ok("project create q");
    state.ok("storage volume create p w --project q");
    std::fs::rename(&here, &away).unwrap();
    state.ok("project delete -f q");
    std::fs::rename(&away, &here).unwrap();
    for words in ["delete c1 c2", "storage volume delete p v"] {
        state.ok(words);
    }
    std::fs::remove_dir(here.join("custom/q_w")).unwrap();
    // A pool that never comes back.
    state.ok("storage volume create p x");
    state.ok("storage volume snapshot create p x");
    std::fs::rename(&here, &away).unwrap();
    state.refuses("storage delete p", "The storage pool is currently in use");
    let out = state.words("storage volume delete p x --force");
    assert!(out.ok() && out.stderr.contains("stays in storage pool \"p\""), "{out}");
    state.ok("storage delete p");
    state.finish(&[]);
}
