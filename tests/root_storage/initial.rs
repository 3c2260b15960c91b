//! What a root disk says of the volume that is made for it: `initial.*`. The parts with lvm are for the guest
//! (`tests/guest/root-tier root_storage -- initial`); those with zfs are among its options, in `zfs`.

use super::common_root::State;
use super::lvm;
use super::support::{More, state as any_state};

#[test]
fn initial_options_are_for_a_driver() {
    let Some(state) = any_state("initial_options_are_for_a_driver", false) else { return };
    state.ok("storage create d dir");
    let words = "\"block.filesystem\" is not supported by storage pools of the driver \"dir\"";
    state.refuses("create img c1 -s d -d root,initial.block.filesystem=xfs", words);
    state.refuses("create img c1 -s d -d root,initial.block.filesystem=vfat", "Invalid initial device configuration");
    state.refuses("create img c1 -s d -d root,initial.size=1GiB", "can't set a size");
    state.refuses("create img c1 -s d -d root,initial.zfs.block_mode=true", "driver \"dir\"");
    assert_eq!(state.ok("list -f csv"), "");
    // A profile is for pools of all drivers. What it said at first stays with the instance.
    state.ok("profile device set default root initial.block.filesystem=xfs");
    state.ok("create img c1 -s d");
    state.ok("create img c2 -s d -d root,initial.mode=0700");
    state.ok("profile device unset default root initial.block.filesystem");
    assert_eq!(state.ok("config device get c1 root initial.block.filesystem"), "xfs\n");
    assert_eq!(state.ok("config device get c1 root pool"), "d\n");
    state.refuses("config device set c1 root initial.block.filesystem=ext4", "cannot be modified once");
    state.ok("copy c1 c3");
    state.ok("delete c1 c2 c3");
    state.finish(&["d"]);
}

/// A pool of the command line makes a root disk where profiles have none; what is said about it counts for that one.
#[test]
fn a_root_is_made_for_the_pool() {
    let Some(state) = any_state("a_root_is_made_for_the_pool", true) else { return };
    state.ok("storage create b btrfs size=256MiB");
    state.ok("storage create d dir");
    let device = |name: &str| state.ok(&format!("config device show {name}"));
    let is = |pool: &str, size: &str| format!("root:\n  path: /\n  pool: {pool}\n  size: {size}\n  type: disk\n");
    state.ok("create img c1 --no-profiles -s b -d root,size=64MiB");
    assert_eq!(device("c1"), is("b", "64MiB"));
    state.ok("create img c2 -s b -d root,size=48MiB");
    assert_eq!(device("c2"), is("b", "48MiB"));
    state.ok("create img c3 -s d -d root,pool=b -d root,size=48MiB");
    assert_eq!(device("c3"), is("b", "48MiB"));
    state.ok("create img c4");
    state.ok("copy c4 c5 --no-profiles -s b -d root,size=32MiB");
    assert_eq!(device("c5"), is("b", "32MiB"));
    state.ok("copy c1 c6 -s d -d root,pool=b -d root,size=80MiB");
    assert_eq!(device("c6"), is("b", "80MiB"));
    state.ok("create img c7 --no-profiles -s d -d root,initial.mode=0700");
    assert_eq!(device("c7"), "root:\n  initial.mode: \"0700\"\n  path: /\n  pool: d\n  type: disk\n");
    state.refuses("create img c8 --no-profiles -s b -d other,size=64MiB", "config for device \"other\"");
    state.refuses("create img c8 --no-profiles -d root,size=64MiB", "config for device \"root\"");
    state.refuses("create img c8 -s nowhere", "Failed loading storage pool \"nowhere\": Storage pool not found");
    state.finish(&["b", "d"]);
}

/// The options that the root of an instance is mounted with on the host, after the kind of its file system.
fn mounted(state: &State, name: &str) -> String {
    state.ok(&format!("storage volume info p container/{name}"));
    let place = format!("{} ", state.path(&format!("state/pools/p/data/containers/{name}")).display());
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
    mounts.lines().find_map(|l| l.split_once(&place)).map(|(_, rest)| rest.to_string()).unwrap_or(mounts)
}

#[test]
fn initial_options_of_lvm() {
    let Some(state) = lvm::state("initial_options_of_lvm") else { return };
    for how in ["true", "false"] {
        let group = lvm::group(&state, "init");
        state.ok(&format!(
            "storage create p lvm size=1500MiB volume.size=48MiB lvm.use_thinpool={how} lvm.vg_name={group}"
        ));
        state.ok("create img plain -s p");
        state.refuses("create img c1 -s p -d root,initial.zfs.blocksize=16KiB", "driver \"lvm\"");
        let options = "-d root,initial.block.filesystem=xfs -d root,initial.block.mount_options=noatime";
        state.ok(&format!("launch img c1 -s p -d root,size=320MiB {options}"));
        let is_as_asked = |step: &str| {
            let is = mounted(&state, "c1");
            assert!(is.starts_with("xfs ") && is.contains("noatime"), "{step}, {how}: {is}");
            let plain = mounted(&state, "plain");
            assert!(plain.starts_with("ext4 ") && !plain.contains("noatime"), "{step}, {how}: {plain}");
        };
        is_as_asked("launch");
        state.ok("snapshot create c1 s1");
        state.ok("stop -f c1");
        // As after a boot.
        state.ok("admin shutdown");
        state.ok("start c1");
        is_as_asked("shutdown");
        state.ok("stop -f c1");
        state.ok("snapshot restore c1 s1");
        is_as_asked("restore");
        state.ok("snapshot delete c1 s1");
        state.ok("rebuild img c1");
        is_as_asked("rebuild");
        state.ok("start c1");
        assert!(state.sh("c1", "mount | grep ' / '").good().unwrap().contains(" xfs "));
        state.ok("delete -f c1 plain");
        state.ok("image delete img");
        state.ok("storage delete p");
        state.ok("image import image.tar --alias img");
    }
    state.finish(&[]);
}
