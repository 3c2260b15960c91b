//! Volumes with a btrfs of their own on a block device. The kernel takes two with the same identity for one, so copies get their
//! own. For the guest (`tests/guest/root-tier root_storage -- on_btrfs`).

use super::common_root::State;
use super::support::More;
use super::{lvm, zfs};

const OPTIONS: &str = "volume.block.filesystem=btrfs";

fn kind(state: &State, name: &str, place: &str) -> String {
    let mounts = state.sh(name, "cat /proc/mounts").good().unwrap();
    let mut lines = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    lines.find(|words| words[1] == place).map(|words| words[2].to_string()).unwrap_or(mounts)
}

fn total(state: &State, name: &str) -> String {
    let info = state.ok(&format!("storage volume info p {name}"));
    info.lines().find_map(|l| l.strip_prefix("Total: ").map(String::from)).unwrap_or(info)
}

/// Originals, snapshots and copies are mounted at a time, each with what it had.
fn life(state: &State) {
    state.ok("launch img c1 -s p");
    state.ok("storage volume create p v");
    state.ok("storage volume attach p v c1 data /data");
    assert_eq!([kind(state, "c1", "/"), kind(state, "c1", "/data")], ["btrfs", "btrfs"]);
    state.sh("c1", "echo one >/root/x; echo kept >/data/f").good().unwrap();
    state.ok("snapshot create c1 s1");
    state.ok("storage volume snapshot create p v s");
    state.sh("c1", "echo two >/root/x; rm /data/f").good().unwrap();
    state.ok("copy c1/s1 c2");
    state.ok("copy c1 c3");
    state.ok("start c2 c3");
    for (name, text) in [("c1", "two\n"), ("c2", "one\n"), ("c3", "two\n")] {
        assert_eq!(state.ok(&format!("exec {name} -- cat /root/x")), text, "{name}");
        assert_eq!(kind(state, name, "/"), "btrfs");
    }
    state.ok("stop -f c1 c2 c3");
    state.ok("snapshot restore c1 s1");
    state.ok("storage volume snapshot restore p v s");
    state.ok("rename c2 c-2");
    state.ok("admin shutdown");
    state.ok("start c1 c-2 c3");
    assert_eq!(state.ok("exec c1 -- cat /root/x /data/f"), "one\nkept\n");
    assert_eq!(state.ok("exec c-2 -- cat /root/x"), "one\n");
    assert_eq!(state.ok("exec c3 -- cat /root/x"), "two\n");
    state.ok("stop -f c-2");
    state.ok("copy c3 c-2 --refresh --instance-only");
    state.ok("snapshot delete c1 s1");
    state.ok("rebuild -f img c1");
    assert_eq!(kind(state, "c1", "/data"), "btrfs");
    state.doctor().unwrap();
    state.ok("delete -f c1 c-2 c3");
    state.ok("storage volume delete p v");
}

/// Growing at any time, shrinking at rest.
fn sizes(state: &State) {
    state.ok("launch img c1 -s p -d root,size=320MiB");
    assert_eq!(total(state, "container/c1"), "320.00MiB");
    state.ok("config device set c1 root size=400MiB");
    assert_eq!(total(state, "container/c1"), "400.00MiB");
    state.sh("c1", "yes | head -n 100000 >/root/yes").good().unwrap();
    state.ok("config device set c1 root size=300MiB");
    assert_eq!(state.ok("config get c1 volatile.root.apply_quota"), "true\n");
    state.ok("restart -f c1");
    assert_eq!(total(state, "container/c1"), "300.00MiB");
    state.sh("c1", "test $(grep -c y /root/yes) = 100000").good().unwrap();
    state.ok("stop -f c1");
    state.refuses("config device set c1 root size=200MiB", "256MiB or more");
    state.ok("config device set c1 root size=290MiB");
    assert_eq!(total(state, "container/c1").replace("292", "290"), "290.00MiB");
    state.ok("start c1");
    state.sh("c1", "test $(grep -c y /root/yes) = 100000").good().unwrap();
    state.ok("delete -f c1");
    state.refuses("storage volume create p v size=64MiB", "Filesystem must be larger than 110MB");
    state.ok("storage volume create p v size=120MiB block.filesystem=btrfs block.mount_options=noatime");
    state.refuses("storage volume set p v size=200MiB", "256MiB or more");
    state.ok("storage volume set p v size=260MiB");
    state.ok("storage volume delete p v");
    // Smaller than what its image is in.
    state.ok("create img c1 -s p -d root,size=128MiB");
    assert_eq!(total(state, "container/c1"), "128.00MiB");
    state.ok("delete c1");
}

#[test]
fn lvm_on_btrfs() {
    let Some(state) = lvm::state("lvm_on_btrfs") else { return };
    for how in ["true", "false"] {
        let group = lvm::group(&state, "bt");
        state.ok(&format!(
            "storage create p lvm size=3GiB volume.size=280MiB {OPTIONS} lvm.use_thinpool={how} lvm.vg_name={group}"
        ));
        life(&state);
        sizes(&state);
        state.ok("image delete img");
        state.ok("storage delete p");
        state.ok("image import image.tar --alias img");
    }
    state.finish(&[]);
}

#[test]
fn zfs_on_btrfs() {
    let Some(state) = zfs::state("zfs_on_btrfs") else { return };
    let root = zfs::unique(&state, "bt");
    let mode = format!("{OPTIONS} volume.zfs.block_mode=true");
    state
        .ok(&format!("storage create p zfs size=2GiB volume.size=280MiB zfs.export=false zfs.pool_name={root} {mode}"));
    life(&state);
    sizes(&state);
    // As after a power cut: what was synchronised last is in the log alone, and a copy has it.
    state.ok("launch img c1 -s p");
    state.sh("c1", "echo first >/root/x; sync; echo last | dd of=/root/x conv=fsync").good().unwrap();
    zfs::said(&format!("zfs snapshot {root}/containers/c1@cut"));
    state.ok("stop -f c1");
    state.ok("admin shutdown");
    zfs::said(&format!("zfs rollback {root}/containers/c1@cut"));
    zfs::said(&format!("zfs destroy {root}/containers/c1@cut"));
    state.ok("copy c1 c2");
    state.ok("start c2 c1");
    assert_eq!(state.ok("exec c2 -- cat /root/x"), "last\n");
    assert_eq!(state.ok("exec c1 -- cat /root/x"), "last\n");
    state.ok("delete -f c1 c2");
    state.finish(&["p"]);
}
