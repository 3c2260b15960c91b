//! The actions of journals: done twice, or to what is not ours.

use super::Access;
use super::Store;
use super::layout::Layout;
use super::undo::Action;
use std::fs;
use std::path::{Path, PathBuf};

fn fixture() -> (tempfile::TempDir, Store) {
    let d = tempfile::tempdir().expect("tempdir");
    let store = Store::open(&Layout::under(d.path()), Access::Write).expect("open");
    (d, store)
}

/// Runs it twice: it must be idempotent.
fn twice(store: &Store, action: &Action) {
    for _ in 0..2 {
        store.perform(action).expect("action");
    }
}

#[test]
fn files_and_folders() {
    let (_d, store) = fixture();
    let l = store.layout().clone();
    let file = l.images_dir().join("f");
    twice(&store, &Action::RestoreFile { path: file.clone(), content: "old".into() });
    assert_eq!(fs::read_to_string(&file).expect("read"), "old");
    let moved = l.images_dir().join("g");
    twice(&store, &Action::Move { from: file.clone(), to: moved.clone() });
    assert!(moved.exists() && !file.exists());
    fs::write(&file, "new").expect("write");
    twice(&store, &Action::Move { from: moved.clone(), to: file.clone() });
    assert_eq!(fs::read_to_string(&file).expect("read"), "new", "nothing is overwritten");
    twice(&store, &Action::RemoveFile { path: file });
    let dir = l.run.join("x/y");
    fs::create_dir_all(&dir).expect("mkdir");
    twice(&store, &Action::RemoveDir { path: l.run.join("x") });
    assert!(dir.exists(), "not empty: left alone");
    twice(&store, &Action::RemoveTree { path: l.run.join("x") });
    assert!(!dir.exists());
    twice(&store, &Action::RemoveFile { path: l.cache.join("nothing/here") });
}

#[test]
fn a_tree_in_a_pool_goes_through_its_trash() {
    let (d, store) = fixture();
    let data = store.layout().pools_dir().join("p/data");
    fs::create_dir_all(data.join("containers/c1/rootfs")).expect("volume");
    twice(&store, &Action::RemoveTree { path: data.join("containers/c1") });
    assert!(!data.join("containers/c1").exists());
    assert_eq!(fs::read_dir(data.join("trash")).expect("trash").count(), 1);
    // A pool on another disk, linked in by the administrator.
    let disk = d.path().join("disk");
    fs::create_dir_all(disk.join("containers/c2")).expect("volume");
    fs::create_dir_all(store.layout().pools_dir().join("q")).expect("pool");
    std::os::unix::fs::symlink(&disk, store.layout().pools_dir().join("q/data")).expect("link");
    twice(&store, &Action::RemoveTree { path: store.layout().pools_dir().join("q/data/containers/c2") });
    assert!(!disk.join("containers/c2").exists() && disk.join("trash").exists());
}

#[test]
fn places_that_are_not_ours_are_refused() {
    let (d, store) = fixture();
    let victim = d.path().join("victim");
    fs::create_dir_all(&victim).expect("victim");
    let l = store.layout().clone();
    let guest = l.pools_dir().join("p/data/containers/c1/rootfs");
    fs::create_dir_all(&guest).expect("rootfs");
    std::os::unix::fs::symlink(&victim, guest.join("link")).expect("link");
    fs::create_dir(victim.join("sub")).expect("sub");
    for path in
        ["/".into(), "/etc".into(), victim.clone(), l.state.clone(), l.state.join("../victim"), guest.join("link/sub")]
    {
        assert!(store.perform(&Action::RemoveTree { path: path.clone() }).is_err(), "{}", path.display());
    }
    assert!(victim.join("sub").exists());
    for path in ["/etc/passwd".into(), victim.clone()] {
        assert!(store.perform(&Action::KillCgroup { path }).is_err(), "no cgroup");
    }
}

#[test]
fn aliases_come_and_go() {
    let (_d, store) = fixture();
    let (one, two) = ("1".repeat(64), "2".repeat(64));
    let project = || "default".to_string();
    let set = |image: &str, names: &[&str]| Action::SetAliases {
        project: project(),
        image: image.into(),
        names: names.iter().map(ToString::to_string).collect(),
    };
    twice(&store, &set(&one, &["a", "b"]));
    twice(&store, &set(&two, &["b", "c/d"]));
    let targets = |store: &Store| -> Vec<(String, String)> {
        store.aliases().expect("aliases").aliases.into_iter().map(|(n, a)| (n, a.target[..1].to_string())).collect()
    };
    let pair = |n: &str, t: &str| (n.to_string(), t.to_string());
    assert_eq!(targets(&store), [pair("a", "1"), pair("b", "2"), pair("c/d", "2")]);
    twice(&store, &Action::ForgetAliases { project: project(), image: two });
    assert_eq!(targets(&store), [pair("a", "1")]);
    assert!(store.perform(&set("../x", &["a"])).is_err() && store.perform(&set(&one, &["../x"])).is_err());
}

#[test]
fn what_ops_must_do_is_asked_of_it() {
    let (_d, store) = fixture();
    let e = store.perform(&Action::RemoveLink { name: "veth0".into() }).expect_err("nobody can");
    assert!(e.to_string().contains("veth0"), "{e}");
}

#[test]
fn profiles_of_ours_go_and_no_others() {
    let (d, store) = fixture();
    let profile = |name: &str, cgroup: &Path| Action::RemoveProfile { name: name.into(), cgroup: cgroup.into() };
    twice(&store, &profile("stapes.0-test_none", &d.path().join("gone")));
    for other in ["docker-default", "stapes/../../docker"] {
        assert!(store.perform(&profile(other, &d.path().join("gone"))).is_err());
    }
    assert!(store.perform(&profile("stapes-default_c1", d.path())).is_err(), "no cgroup");
}

#[test]
fn cgroups_are_killed_and_removed() {
    let mounts = fs::read_to_string("/proc/self/mounts").expect("mounts");
    let root = mounts.lines().find_map(|l| l.split(' ').nth(1).filter(|_| l.split(' ').nth(2) == Some("cgroup2")));
    let Some(group) = root.map(|r| PathBuf::from(r).join(format!("stapes-test-{}", std::process::id()))) else {
        crate::store::tests::skip!("cgroups_are_killed_and_removed: no cgroup2 mounted");
        return;
    };
    if let Err(e) = fs::create_dir(&group) {
        crate::store::tests::skip!("cgroups_are_killed_and_removed: {e}");
        return;
    }
    fs::create_dir_all(group.join("a/b")).expect("below");
    let (_d, store) = fixture();
    let mut child = sleeper();
    fs::write(group.join("a/b/cgroup.procs"), child.id().to_string()).expect("move");
    assert!(store.perform(&Action::RemoveCgroup { path: group.clone() }).is_err(), "somebody is in it");
    twice(&store, &Action::KillCgroup { path: group.clone() });
    assert!(!child.wait().expect("wait").success());
    twice(&store, &Action::RemoveCgroup { path: group.clone() });
    assert!(!group.exists());
    twice(&store, &Action::KillCgroup { path: group });
}

#[allow(clippy::disallowed_methods)]
fn sleeper() -> std::process::Child {
    std::process::Command::new("sleep").arg("60").spawn().expect("sleep")
}
