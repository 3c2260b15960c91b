//! What is refused, with Incus's words, and leaves nothing.

use super::support::{More, names, state};

#[test]
fn wrong_pools_are_refused_and_leave_nothing() {
    let Some(state) = state("wrong_pools_are_refused_and_leave_nothing", false) else { return };
    std::fs::create_dir(state.path("free")).unwrap();
    std::fs::create_dir(state.path("full")).unwrap();
    std::fs::write(state.path("full/file"), "x").unwrap();
    std::fs::write(state.path("file"), "x").unwrap();
    std::fs::create_dir(state.path("open")).unwrap();
    std::fs::set_permissions(state.path("open"), std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    std::os::unix::fs::symlink("state", state.path("link")).unwrap();
    for (words, error) in [
        ("create default dir", "The storage pool already exists"),
        ("create p ceph", "Unknown storage driver \"ceph\""),
        ("create p ../../x", "Unknown storage driver"),
        ("create ../x dir", "name"),
        ("create p dir foo=1", "Invalid option \"foo\""),
        ("create p dir size=1GiB", "Invalid option \"size\""),
        ("create p dir volatile.id=x", "Invalid option \"volatile.id\""),
        ("create p dir volume.size=big", "Invalid value for option \"volume.size\""),
        ("create p btrfs size=1MiB", "Invalid value for option \"size\""),
        ("create p btrfs btrfs.create_options=--rootdir=/etc", "Invalid value for option \"btrfs.create_options\""),
        ("create p btrfs btrfs.mount_options=subvol=/", "Invalid value for option \"btrfs.mount_options\""),
        ("create p dir source=nothing", "doesn't exist"),
        ("create p dir source=full", "isn't empty"),
        ("create p dir source=file", "is not a directory"),
        ("create p dir source=open", "can be changed by other users"),
        ("create p dir source=state", "is within"),
        ("create p dir source=link/pools", "is within"),
        ("create p dir source=run", "is within"),
        ("create p dir --target x", "cluster"),
        ("set p user.x=1", "Storage pool not found"),
        ("delete p", "Storage pool not found"),
        ("get p x", "Storage pool not found"),
        ("set default source=free", "Pool source cannot be changed when not in pending state"),
        ("unset default source", "Pool source cannot be changed when not in pending state"),
        ("set default foo=1", "Invalid option \"foo\""),
        ("set default volatile.idmap=maybe", "Invalid option \"volatile.idmap\""),
        ("set default -p name=x", "The property with tag \"name\" does not exist"),
        ("get default -p foo", "does not exist on the storage pool \"default\""),
        ("delete default", "The storage pool is currently in use"),
    ] {
        state.refuses(&format!("storage {words}"), error);
        state.doctor().unwrap();
    }
    let on_btrfs = state.words("storage create p btrfs source=free");
    assert!(on_btrfs.stderr.contains("is not on a btrfs filesystem") || on_btrfs.ok(), "{on_btrfs}");
    if on_btrfs.ok() {
        state.ok("storage delete p");
    }
    assert!(state.given("storage create p dir", "config: [").stderr.contains("Invalid YAML"));
    assert_eq!(names(&state.path("state/pools")), ["default"]);
    assert_eq!(names(&state.path("full")), ["file"]);
    assert!(names(&state.path("free")).is_empty() && names(&state.path("open")).is_empty());
    state.finish(&[]);
}

#[test]
fn two_roots_are_refused() {
    let Some(state) = state("two_roots_are_refused", false) else { return };
    state.ok("storage create p dir");
    for (profile, pool) in [("one", "default"), ("two", "p")] {
        state.ok(&format!("profile create {profile}"));
        state.ok(&format!("profile device add {profile} {profile} disk path=/ pool={pool}"));
    }
    for words in ["create img c1 -p one -p two", "launch img c1 -p one -p two -s p", "create c1 --empty -p one -p two"]
    {
        state.refuses(words, "Failed detecting root disk device: More than one root device found");
    }
    state.ok("create img c1 -p one");
    state.refuses("profile assign c1 one two", "More than one root device found");
    state.ok("delete c1");
    state.ok("profile delete one");
    state.ok("profile delete two");
    state.finish(&["p"]);
}
