//! Sizes that LVM does not have: bytes of all numbers, fewer than a file system needs, and as many as before.
//! For the guest (`tests/guest/root-tier root_storage -- lvm_sizes`).

use super::common_root::State;
use super::lvm::{group, lvm, state};
use super::support::{Device, More};

/// The size of a volume as users see it.
fn total(state: &State, pool: &str, name: &str) -> String {
    let info = state.ok(&format!("storage volume info {pool} {name}"));
    info.lines().find_map(|l| l.strip_prefix("Total: ").map(String::from)).unwrap_or(info)
}

#[test]
fn lvm_sizes_of_all_numbers() {
    let Some(state) = state("lvm_sizes_of_all_numbers") else { return };
    let group = group(&state, "odd");
    let odd = "lvm.thinpool_metadata_size=10MB lvm.metadata_size=2000001B";
    state.ok(&format!("storage create p lvm size=512MiB volume.size=48MiB lvm.vg_name={group} {odd}"));
    state
        .ok(&format!("storage create q lvm size=512MiB volume.size=48MiB lvm.vg_name={group}q lvm.use_thinpool=false"));
    for pool in ["p", "q"] {
        let on = |words: &str| state.ok(&format!("storage volume {words}").replace("POOL", pool));
        for (size, shown) in [("10MB", "12.00MiB"), ("1000001B", "4.00MiB")] {
            on(&format!("create POOL v size={size}"));
            assert_eq!(on("get POOL v size"), format!("{size}\n"));
            // What it is already: nothing. Then more, the same in other words, and less.
            for (next, total_is) in [(size, shown), ("20MB", "20.00MiB"), ("20971520", "20.00MiB"), ("9MB", "12.00MiB")]
            {
                on(&format!("set POOL v size={next}"));
                assert_eq!(total(&state, pool, "v"), total_is, "{pool}, {size}, {next}");
            }
            on("delete POOL v");
        }
        on("create POOL d --type=block size=10MB");
        state.refuses(&format!("storage volume set {pool} d size=1000001B"), "Block volumes cannot be shrunk");
        on("set POOL d size=11MB");
        assert_eq!(total(&state, pool, "d"), "10.49MiB");
        on("delete POOL d");
        state.ok(&format!("create img c1 -s {pool} -d root,size=30MB"));
        for (size, shown) in [("50MB", "48.00MiB"), ("50000001", "48.00MiB"), ("30MB", "32.00MiB")] {
            state.ok(&format!("config device set c1 root size={size}"));
            assert_eq!(total(&state, pool, "container/c1"), shown);
        }
        state.ok("snapshot create c1 s1 --expiry 1d");
        let info = state.ok(&format!("storage volume info {pool} container/c1"));
        assert!(info.contains("\nSnapshots:\n") && info.contains("| s1 "), "{info}");
        state.ok("copy c1 c2 -d root,size=60MB");
        assert_eq!(total(&state, pool, "container/c2"), "60.00MiB");
        state.ok("delete c1 c2");
    }
    state.finish(&["p", "q"]);
}

/// A volume on several disks has whole extents on each of them; a group may have others than the usual ones.
#[test]
fn lvm_sizes_by_stripes_and_extents() {
    let Some(state) = state("lvm_sizes_by_stripes_and_extents") else { return };
    let name = group(&state, "step");
    let devices = ["one", "two"].map(|name| Device::new(&state, name));
    let [one, two] = devices.each_ref().map(Device::shown);
    lvm(&format!("vgcreate {name} {one} {two}"));
    let own = "lvm.use_thinpool=false volume.size=12MiB volume.lvm.stripes=2";
    state.ok(&format!("storage create p lvm source={name} {own}"));
    state.ok("storage volume create p v");
    assert_eq!(total(&state, "p", "v"), "16.00MiB");
    for (size, shown) in [("28MiB", "32.00MiB"), ("30MiB", "32.00MiB"), ("12MiB", "16.00MiB")] {
        state.ok(&format!("storage volume set p v size={size}"));
        assert_eq!(total(&state, "p", "v"), shown, "{size}");
    }
    state.ok("storage volume delete p v");
    state.ok("storage delete p");
    lvm(&format!("vgremove {name}"));
    lvm(&format!("vgcreate -s 1m {name} {one}"));
    state.ok(&format!("storage create p lvm source={name} volume.size=12MiB"));
    state.ok("storage volume create p v size=5MB");
    for (size, shown) in [("5MB", "5.00MiB"), ("6MB", "6.00MiB"), ("5MB", "5.00MiB")] {
        state.ok(&format!("storage volume set p v size={size}"));
        assert_eq!(total(&state, "p", "v"), shown, "{size}");
    }
    state.ok("storage volume delete p v");
    state.ok("storage delete p");
    lvm(&format!("vgremove {name}"));
    state.finish(&[]);
}

/// xfs has a least size, and never becomes smaller.
#[test]
fn lvm_sizes_of_xfs() {
    let Some(state) = state("lvm_sizes_of_xfs") else { return };
    let group = group(&state, "xfs");
    state.ok(&format!("storage create p lvm size=2GiB volume.size=48MiB lvm.vg_name={group}"));
    let least = "Error: Filesystem must be larger than 300MB\nan xfs filesystem needs 300MiB";
    state.refuses("storage volume create p v block.filesystem=xfs", least);
    state.refuses("create img c1 -s p -d root,initial.block.filesystem=xfs", least);
    state.ok("storage volume create p v block.filesystem=xfs size=320MB");
    state.refuses("storage volume set p v size=301MiB", "Filesystem \"xfs\" cannot be shrunk");
    assert_eq!(state.ok("storage volume get p v size"), "320MB\n");
    state.ok("storage volume delete p v");
    // An image that was unpacked as the pool said then.
    state.ok("create img c1 -s p");
    state.ok("storage set p volume.block.filesystem=xfs volume.size=340MiB");
    state.ok("launch img c2 -s p");
    assert!(state.sh("c2", "mount | grep ' / '").good().unwrap().contains(" xfs "));
    state.ok("delete -f c1 c2");
    state.ok("image delete img");
    state.ok("image import image.tar --alias img");
    // Smaller than what the image is unpacked in.
    state.ok("create img c1 -s p");
    state.ok("create img c2 -s p -d root,size=304MiB");
    assert_eq!(total(&state, "p", "container/c2"), "304.00MiB");
    state.finish(&["p"]);
}
