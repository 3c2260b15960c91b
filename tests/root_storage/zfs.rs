//! Pools on ZFS: in a file, on a device, in a ZFS pool or a dataset that is there; used, put down and up again.
//! For the guest (`tests/guest/root-tier root_storage -- zfs`), for which the kernel's module is built.

use super::common_root::{self, State};
use super::recover::lost_and_found;
use super::support::{Device, More, state as any_state};
use std::process::Command;

pub fn state(test: &str) -> Option<State> {
    let loads = || Command::new("modprobe").arg("zfs").output().is_ok_and(|out| out.status.success());
    if !(["zfs", "zpool"].into_iter().all(common_root::have) && loads()) {
        common_root::skip(test, "no ZFS (apt-get install zfsutils-linux zfs-dkms)");
        return None;
    }
    any_state(test, false)
}

/// What a program says.
pub fn said(words: &str) -> String {
    let mut parts = words.split(' ');
    let out = Command::new(parts.next().unwrap()).args(parts).output().unwrap();
    assert!(out.status.success(), "{words}: {out:?}");
    String::from_utf8(out.stdout).unwrap()
}

/// Datasets below one, without its name.
pub fn sets(root: &str) -> Vec<String> {
    let all = said(&format!("zfs list -H -r -t filesystem -o name {root}"));
    all.lines().filter_map(|line| Some(line.strip_prefix(root)?.strip_prefix('/')?.to_string())).collect()
}

pub fn has(root: &str, set: &str) -> bool {
    sets(root).iter().any(|found| found == set)
}

/// A name that no other test takes.
pub fn unique(state: &State, name: &str) -> String {
    let last = state.dir.file_name().unwrap().to_string_lossy().replace(|c: char| !c.is_ascii_alphanumeric(), "");
    format!("{name}{}", &last[last.len().saturating_sub(8)..])
}

fn is_imported(pool: &str) -> bool {
    said("zpool list -H -o name").lines().any(|name| name == pool)
}

/// What is left in the datasets that others lie in: nothing but images.
pub fn only_images(root: &str) {
    let left: Vec<_> =
        sets(root).into_iter().filter(|name| name.contains('/') && !name.starts_with("images/")).collect();
    assert!(left.is_empty(), "{left:?}");
    let snapshots = said(&format!("zfs list -H -r -t snapshot -o name {root}"));
    assert!(snapshots.lines().all(|name| name.ends_with("@readonly")), "{snapshots}");
}

/// The whole life of instances and volumes.
fn life(state: &State, root: &str) {
    state.ok("launch img c1 -s p");
    state.ok("storage volume create p v size=24MiB");
    state.ok("storage volume set p v security.unmapped=true");
    state.ok("storage volume attach p v c1 data /data");
    state.sh("c1", "echo one >/root/x").good().unwrap();
    state.ok("snapshot create c1 s1");
    state.ok("storage volume snapshot create p v s");
    state.sh("c1", "echo two >/root/x; dd if=/dev/urandom of=/root/big bs=1M count=8").good().unwrap();
    state.ok("snapshot create c1 s2");
    state.sh("c1", "echo three >/root/x; touch /root/later").good().unwrap();
    state.ok("copy c1/s1 c-2");
    state.ok("start c-2");
    assert_eq!(state.ok("exec c-2 -- cat /root/x"), "one\n");
    assert_eq!(state.ok("exec c1 -- cat /root/x"), "three\n");
    for name in [
        "containers/c1",
        "containers-snapshots/c1::s1",
        "containers/c-2",
        "custom/default_v",
        "custom-snapshots/default_v::s",
    ] {
        assert!(has(root, name), "{name}: {:?}", sets(root));
    }
    state.ok("stop -f c1 c-2");
    // To an older one, and the later one is still there.
    state.ok("snapshot restore c1 s1");
    state.ok("start c1");
    assert_eq!(state.ok("exec c1 -- cat /root/x"), "one\n");
    state.sh("c1", "test ! -e /root/later -a ! -e /root/big").good().unwrap();
    state.ok("stop -f c1");
    state.ok("snapshot restore c1 s2");
    state.ok("rename c-2 c2");
    state.ok("snapshot rename c1 s1 first");
    assert!(has(root, "containers-snapshots/c1::first") && !sets(root).iter().any(|s| s.starts_with("deleted/")));
    // As after a boot.
    state.ok("admin shutdown");
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
    assert!(!mounts.contains(&state.dir.display().to_string()), "{mounts}");
    assert_eq!(is_imported(root.split('/').next().unwrap()), root.contains('/'));
    state.ok("list");
    state.ok("start c1 c2");
    assert_eq!(state.ok("exec c1 -- cat /root/x"), "two\n");
    state.sh("c1", "test $(stat -c %s /root/big) = 8388608").good().unwrap();
    assert_eq!(state.ok("exec c2 -- cat /root/x"), "one\n");
    state.doctor().unwrap();
    // What others were made from goes before them.
    state.ok("delete -f c1");
    assert_eq!(state.ok("exec c2 -- cat /root/x"), "one\n");
    state.ok("restart -f c2");
    assert_eq!(state.ok("exec c2 -- cat /root/x"), "one\n");
    state.ok("delete -f c2");
    state.ok("storage volume delete p v");
    only_images(root);
    state.doctor().unwrap();
}

#[test]
fn zfs_in_a_file() {
    let Some(state) = state("zfs_in_a_file") else { return };
    let pool = unique(&state, "file");
    state.ok(&format!("storage create p zfs size=512MiB zfs.pool_name={pool}"));
    state.refuses("storage set p zfs.pool_name=other", "zfs.pool_name cannot be modified");
    state.refuses("storage set p size=256MiB", "Pool cannot be shrunk");
    state.refuses(&format!("storage create q zfs zfs.pool_name={pool}"), "A ZFS pool already exists called");
    life(&state, &pool);
    let images = sets(&pool).into_iter().filter(|name| name.starts_with("images/")).count();
    assert_eq!(images, 1, "an image is unpacked once");
    state.ok("storage set p size=768MiB");
    let shown = state.ok("storage show p --resources");
    let total = shown.lines().find_map(|l| l.trim().strip_prefix("total: ")).and_then(|n| n.parse::<u64>().ok());
    assert!(total.is_some_and(|total| total > 550 << 20), "{shown}");
    // An image goes, and what was made from it stays.
    state.ok("launch img c1 -s p");
    state.ok("image delete img");
    state.ok("restart -f c1");
    state.doctor().unwrap();
    state.ok("delete -f c1");
    only_images(&pool);
    assert!(!sets(&pool).iter().any(|name| name.starts_with("images/")), "{:?}", sets(&pool));
    state.ok("storage delete p");
    assert!(!is_imported(&pool));
    state.finish(&[]);
}

/// What a volume says itself counts more than what its pool says, and can be changed.
fn own_options(state: &State, pool: &str) {
    let get = |set: &str, name: &str| said(&format!("zfs get -Hp -o value {name} {pool}/{set}")).trim().to_string();
    for (key, value) in [("zfs.blocksize", "8KiB"), ("zfs.use_refquota", "false"), ("zfs.reserve_space", "false")] {
        state.ok(&format!("storage volume set p v {key}={value}"));
    }
    let all = ["quota", "refquota", "reservation", "refreservation", "recordsize"];
    let values = |set: &str| all.map(|name| get(set, name).parse::<u64>().unwrap());
    assert_eq!(values("custom/default_v"), [20 << 20, 0, 0, 0, 8 << 10]);
    state.ok("storage volume set p v zfs.reserve_space=true");
    state.ok("storage volume snapshot create p v");
    state.ok("storage volume snapshot restore p v snap0");
    state.ok("storage volume copy p/v p/w");
    for name in ["v", "w"] {
        assert_eq!(values(&format!("custom/default_{name}")), [20 << 20, 0, 20 << 20, 0, 8 << 10], "{name}");
    }
    for unset in ["zfs.blocksize", "size"] {
        state.ok(&format!("storage volume unset p w {unset}"));
    }
    assert_eq!(values("custom/default_w"), [0, 0, 0, 0, 16 << 10], "the pool's");
    state.refuses("storage volume set p v zfs.delegate=true", "Local ZFS version doesn't support delegation");
    state.refuses("storage volume create p x block.filesystem=xfs", "option \"block.filesystem\"");
    state.refuses("storage volume set p v zfs.block_mode=true", "cannot be changed after creation");
    state.refuses("storage volume set p v zfs.blocksize=5KiB", "be power of 2");
    state.ok("storage volume delete p w");
    state.ok("create img c3 -s p -d root,size=64MiB -d root,initial.zfs.blocksize=32KiB -d root,initial.zfs.use_refquota=false");
    assert_eq!(values("containers/c3"), [64 << 20, 0, 64 << 20, 0, 32 << 10]);
    state.ok("delete c3");
}

#[test]
fn zfs_sizes() {
    let Some(state) = state("zfs_sizes") else { return };
    let pool = unique(&state, "size");
    state.ok(&format!("storage create p zfs size=512MiB zfs.pool_name={pool}"));
    let get = |set: &str, name: &str| said(&format!("zfs get -Hp -o value {name} {pool}/{set}")).trim().to_string();
    state.ok("launch img c1 -s p -d root,size=32MiB");
    assert_eq!(get("containers/c1", "quota"), (32 << 20).to_string());
    assert!(!state.sh("c1", "dd if=/dev/urandom of=/root/big bs=1M count=64").ok(), "it is full");
    state.sh("c1", "rm /root/big").good().unwrap();
    state.ok("config device set c1 root size=128MiB");
    assert!(state.ok("storage volume info p container/c1").contains("Total: 128.00MiB"));
    state.ok("snapshot create c1 s1");
    state.ok("stop -f c1");
    state.ok("snapshot restore c1 s1");
    assert_eq!(get("containers/c1", "quota"), (128 << 20).to_string(), "a size outlives a restore");
    state.ok("config device unset c1 root size");
    assert_eq!(get("containers/c1", "quota"), "0");
    state.ok("storage set p volume.zfs.use_refquota=true volume.zfs.reserve_space=true volume.zfs.blocksize=16KiB");
    state.ok("storage volume create p v size=24MiB");
    for (name, value) in [("refquota", 24 << 20), ("refreservation", 24 << 20), ("quota", 0), ("recordsize", 16 << 10)]
    {
        assert_eq!(get("custom/default_v", name), value.to_string(), "{name}");
    }
    state.ok("storage volume set p v size=20MiB");
    assert_eq!(get("custom/default_v", "refreservation"), (20 << 20).to_string());
    own_options(&state, &pool);
    // Copies of their own.
    state.ok("storage set p zfs.clone_copy=false");
    state.ok("copy c1 c2");
    assert_eq!(get("containers/c2", "origin"), "-");
    state.ok("storage set p zfs.clone_copy=rebase");
    state.ok("copy c2 c3");
    state.ok("copy c1 c4");
    assert_eq!(get("containers/c3", "origin"), "-", "it shares nothing with the image any more");
    assert!(get("containers/c4", "origin").ends_with("@readonly"));
    state.ok("delete c1");
    for name in ["c2", "c4"] {
        state.ok(&format!("start {name}"));
    }
    state.ok("delete -f c2 c3 c4");
    state.ok("storage volume delete p v");
    only_images(&pool);
    state.finish(&["p"]);
}

#[test]
fn zfs_on_a_device_that_is_empty() {
    let Some(state) = state("zfs_on_a_device_that_is_empty") else { return };
    let pool = unique(&state, "dev");
    let device = Device::new(&state, "disk");
    device.mkfs("ext4");
    let create = format!("storage create p zfs zfs.pool_name={pool} source={}", device.shown());
    state.refuses(&create, "isn't empty\nset source.wipe=true");
    let found = Command::new("blkid").args(["-p", "-o", "value", "-s", "TYPE"]).arg(&device.path).output().unwrap();
    assert_eq!(found.stdout, b"ext4\n", "nothing was done to it");
    assert!(!is_imported(&pool));
    state.ok(&format!("{create} source.wipe=true"));
    state.refuses(&format!("storage create q zfs source={}", device.shown()), "is in use by storage pool \"p\"");
    state.ok("launch img c1 -s p");
    state.ok("stop -f c1");
    state.ok("admin shutdown");
    assert!(!is_imported(&pool));
    state.ok("start c1");
    state.ok("delete -f c1");
    state.ok("storage delete p");
    assert!(!is_imported(&pool));
    // It is empty again.
    state.ok(&create);
    state.ok("storage delete p");
    state.finish(&[]);
}

/// Neither the names of volumes nor the copies of records are in the state folder.
#[test]
fn zfs_is_recovered_from_a_device() {
    let Some(state) = state("zfs_is_recovered_from_a_device") else { return };
    let (pool, device) = (unique(&state, "lost"), Device::new(&state, "disk"));
    lost_and_found(state, "zfs", &device.shown(), &format!("zfs.pool_name={pool}"));
    assert!(!is_imported(&pool));
}

#[test]
fn zfs_in_a_pool_or_dataset_that_is_there() {
    let Some(state) = state("zfs_in_a_pool_or_dataset_that_is_there") else { return };
    let pool = unique(&state, "own");
    state.refuses(&format!("storage create p zfs source={pool}"), "doesn't exist");
    let file = state.path("theirs").display().to_string();
    std::fs::File::create(&file).unwrap().set_len(512 << 20).unwrap();
    said(&format!("zpool create -o cachefile=none -m none {pool} {file}"));
    said(&format!("zfs create {pool}/theirs"));
    state.refuses(&format!("storage create p zfs source={pool}"), "Provided ZFS pool (or dataset) isn't empty");
    state
        .refuses(&format!("storage create p zfs source={pool} zfs.pool_name=x"), "The source must match zfs.pool_name");
    state.refuses(&format!("storage create p zfs zfs.pool_name={pool}/x"), "can't point to a dataset");
    assert_eq!(sets(&pool), ["theirs"]);
    // One that is not there is made, and goes again.
    state.ok(&format!("storage create p zfs source={pool}/ours"));
    state.refuses(&format!("storage create q zfs source={pool}/ours/below"), "in use by another storage pool");
    life(&state, &format!("{pool}/ours"));
    state.ok("storage delete p");
    assert_eq!(sets(&pool), ["theirs"]);
    // One that is there stays, as empty as it was.
    state.ok(&format!("storage create p zfs source={pool}/theirs"));
    state.ok("launch img c1 -s p");
    state.ok("delete -f c1");
    state.ok("storage delete p");
    assert_eq!(sets(&pool), ["theirs"]);
    said(&format!("zfs destroy {pool}/theirs"));
    state.ok(&format!("storage create p zfs source={pool} zfs.export=false"));
    state.ok("launch img c1 -s p");
    state.ok("stop -f c1");
    state.ok("admin shutdown");
    assert!(is_imported(&pool), "it is not to be exported");
    state.ok("start c1");
    state.ok("delete -f c1");
    state.ok("storage delete p");
    assert!(sets(&pool).is_empty());
    said(&format!("zpool destroy {pool}"));
    state.finish(&[]);
}
