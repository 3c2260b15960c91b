//! Pools on ZFS whose volumes are zvols with a file system (`zfs.block_mode`). For the guest
//! (`tests/guest/root-tier root_storage -- zfs_block`).

use super::common_root::State;
use super::recover::lost_and_found;
use super::support::{Device, More};
use super::zfs::{said, state, unique};
use std::path::Path;

/// Zvols below a dataset, without its name.
fn zvols(root: &str) -> Vec<String> {
    let all = said(&format!("zfs list -H -r -t volume -o name {root}"));
    all.lines().filter_map(|line| Some(line.strip_prefix(root)?.strip_prefix('/')?.to_string())).collect()
}

fn get(root: &str, set: &str, name: &str) -> String {
    said(&format!("zfs get -Hp -o value {name} {root}/{set}")).trim().to_string()
}

/// Zvols that have a device, whoever's they are.
fn shown(root: &str) -> Vec<String> {
    let all = zvols(root);
    all.into_iter().filter(|set| Path::new("/dev/zvol").join(root).join(set).exists()).collect()
}

fn image(state: &State) -> String {
    state.ok("image list -f csv -c F").trim().to_string()
}

/// Nothing is left but images and their snapshots.
fn only_images(root: &str) {
    let left: Vec<_> = zvols(root).into_iter().filter(|name| !name.starts_with("images/")).collect();
    assert!(left.is_empty(), "{left:?}");
    let snapshots = said(&format!("zfs list -H -r -t snapshot -o name {root}"));
    assert!(snapshots.lines().all(|name| name.ends_with("@readonly")), "{snapshots}");
}

#[test]
fn zfs_block_life() {
    let Some(state) = state("zfs_block_life") else { return };
    let root = unique(&state, "blk");
    state.ok(&format!(
        "storage create p zfs size=512MiB zfs.pool_name={root} volume.zfs.block_mode=true volume.size=48MiB"
    ));
    state.ok("launch img c1 -s p");
    state.ok("storage volume create p v size=24MiB");
    assert_eq!(state.ok("storage volume get p v zfs.block_mode"), "true\n");
    // Unlike a dataset before ZFS 2.2 it has id-mapped mounts.
    state.ok("storage volume attach p v c1 data /data");
    let mounts = state.sh("c1", "cat /proc/mounts; echo one >/root/x; echo kept >/data/f").good().unwrap();
    for place in [" / ext4 ", " /data ext4 "] {
        assert!(mounts.contains(place), "{mounts}");
    }
    state.ok("snapshot create c1 s1");
    state.ok("storage volume snapshot create p v s");
    state.sh("c1", "echo two >/root/x; dd if=/dev/urandom of=/root/big bs=1M count=8").good().unwrap();
    state.ok("snapshot create c1 s2");
    state.sh("c1", "echo three >/root/x; rm /data/f").good().unwrap();
    state.ok("copy c1/s1 c-2");
    state.ok("start c-2");
    assert_eq!(state.ok("exec c-2 -- cat /root/x"), "one\n");
    let all = zvols(&root);
    for name in ["containers/c1", "containers-snapshots/c1::s1", "containers/c-2", "custom/default_v"] {
        assert!(all.iter().any(|found| found == name), "{name}: {all:?}");
    }
    let form = format!("images/{}_ext4", image(&state));
    assert!(all.contains(&form) && !all.iter().any(|name| name.starts_with("new/")), "{all:?}");
    let devices = shown(&root);
    assert!(!devices.iter().any(|name| name == &form || name.contains("::s2")), "{devices:?}");
    state.ok("stop -f c1 c-2");
    // To an older one, and the later one is still there.
    state.ok("snapshot restore c1 s1");
    state.ok("storage volume snapshot restore p v s");
    state.ok("start c1");
    assert_eq!(state.ok("exec c1 -- cat /root/x /data/f"), "one\nkept\n");
    state.sh("c1", "test ! -e /root/big").good().unwrap();
    state.ok("stop -f c1");
    state.ok("snapshot restore c1 s2");
    state.ok("rename c-2 c2");
    state.ok("snapshot rename c1 s1 first");
    state.ok("storage volume rename p v w");
    // As after a boot.
    state.ok("admin shutdown");
    state.ok("start c1 c2");
    assert_eq!(state.ok("exec c1 -- cat /root/x /data/f"), "two\nkept\n");
    state.sh("c1", "test $(stat -c %s /root/big) = 8388608").good().unwrap();
    assert_eq!(state.ok("exec c2 -- cat /root/x"), "one\n");
    state.doctor().unwrap();
    // What others were made from goes before them.
    state.ok("delete -f c1");
    state.ok("restart -f c2");
    assert_eq!(state.ok("exec c2 -- cat /root/x"), "one\n");
    state.ok("rebuild -f img c2");
    state.sh("c2", "test ! -e /root/x").good().unwrap();
    state.ok("delete -f c2");
    state.ok("storage volume delete p w");
    only_images(&root);
    state.ok("image delete img");
    assert_eq!(zvols(&root), Vec::<String>::new());
    state.finish(&["p"]);
}

/// Growing at any time, shrinking at rest; what is set aside.
#[test]
fn zfs_block_sizes() {
    let Some(state) = state("zfs_block_sizes") else { return };
    let root = unique(&state, "bsz");
    state.ok(&format!(
        "storage create p zfs size=512MiB zfs.pool_name={root} volume.zfs.block_mode=true volume.size=48MiB"
    ));
    let total = |name: &str| {
        let info = state.ok(&format!("storage volume info p {name}"));
        info.lines().find_map(|l| l.strip_prefix("Total: ").map(String::from)).unwrap_or(info)
    };
    state.ok("launch img c1 -s p -d root,size=64MiB");
    assert_eq!(total("container/c1"), "64.00MiB");
    state.sh("c1", "dd if=/dev/zero of=/root/big bs=1M count=4; yes | head -n 100000 >/root/yes").good().unwrap();
    // What is not written yet stays, though it takes the device for another one.
    state.ok("config device set c1 root size=96MiB");
    assert_eq!(total("container/c1"), "96.00MiB");
    state.sh("c1", "test $(grep -c y /root/yes) = 100000").good().unwrap();
    state.sh("c1", "dd if=/dev/urandom of=/root/more bs=1M count=70; sync").good().unwrap();
    assert!(!state.sh("c1", "dd if=/dev/urandom of=/root/most bs=1M count=30").ok(), "it is full");
    state.sh("c1", "rm /root/mo*").good().unwrap();
    // Less waits for the next start.
    state.ok("config device set c1 root size=80MiB");
    assert_eq!(
        (state.ok("config get c1 volatile.root.apply_quota").as_str(), total("container/c1").as_str()),
        ("true\n", "96.00MiB")
    );
    state.ok("config device set c1 root size=96MiB");
    state.ok("snapshot create c1 s1");
    state.ok("stop -f c1");
    state.refuses("config device set c1 root size=2MiB", "more than");
    state.ok("config device set c1 root size=80MiB");
    assert_eq!(get(&root, "containers/c1", "volsize"), (80 << 20).to_string());
    // It is what the record says that is restored with it. A rebuild leaves it.
    state.ok("snapshot restore c1 s1");
    assert_eq!(total("container/c1"), "96.00MiB");
    state.ok("config device set c1 root size=80MiB");
    state.ok("start c1");
    state.sh("c1", "test $(stat -c %s /root/big) = 4194304").good().unwrap();
    state.ok("stop -f c1");
    state.ok("snapshot delete c1 s1");
    state.ok("rebuild img c1");
    assert_eq!(total("container/c1"), "80.00MiB");
    state.ok("delete -f c1");
    state.ok("create img c2 -s p -d root,size=32MiB");
    assert_eq!(total("container/c2"), "32.00MiB");
    let options = "zfs.blocksize=4KiB zfs.reserve_space=true block.create_options=-N\\u002064";
    let options: Vec<_> = options.split(' ').map(|word| word.replace("\\u0020", " ")).collect();
    let options: Vec<_> = options.iter().map(String::as_str).collect();
    state.good(&[&["storage", "volume", "create", "p", "v", "size=20MiB"], &options[..]].concat());
    let values = || ["volsize", "volblocksize", "refreservation"].map(|name| get(&root, "custom/default_v", name));
    let mib = |n: u64| (n << 20).to_string();
    assert_eq!(values(), [mib(20), "4096".to_string(), mib(20)]);
    state.ok("storage volume set p v size=30MiB");
    assert_eq!(values(), [mib(30), "4096".to_string(), mib(30)]);
    state.ok("storage volume snapshot create p v");
    state.ok("storage volume set p v zfs.reserve_space=false");
    assert_eq!(values(), [mib(30), "4096".to_string(), "0".to_string()]);
    state.ok("storage volume set p v zfs.reserve_space=true size=25MiB");
    state.ok("storage volume snapshot restore p v snap0");
    assert_eq!(values(), [mib(25), "4096".to_string(), mib(25)]);
    state.ok("storage volume delete p v");
    state.finish(&["p"]);
}

/// Some volumes of a pool are in block mode, others are not, and each is copied as what it is.
#[test]
fn zfs_block_beside_datasets() {
    let Some(state) = state("zfs_block_beside_datasets") else { return };
    let root = unique(&state, "mix");
    state.ok(&format!("storage create p zfs size=1GiB zfs.pool_name={root} volume.size=320MiB"));
    state.ok("create img plain -s p");
    let options = "-d root,initial.zfs.block_mode=true -d root,initial.block.filesystem=xfs";
    state.ok(&format!("launch img c1 -s p {options} -d root,initial.block.mount_options=noatime"));
    let image = image(&state);
    assert_eq!(zvols(&root), ["containers/c1".to_string(), format!("images/{image}_xfs")]);
    assert_eq!(get(&root, &format!("images/{image}"), "type"), "filesystem");
    let mounts = state.sh("c1", "grep ' / ' /proc/mounts; echo kept >/root/x").good().unwrap();
    assert!(mounts.contains(" xfs ") && mounts.contains("noatime"), "{mounts}");
    state.ok("config device set c1 root size=352MiB");
    state.ok("copy c1 c2");
    state.ok("storage volume create p v zfs.block_mode=true size=24MiB");
    state.ok("storage volume create p w size=24MiB");
    state.ok("storage volume copy p/v p/v2");
    for (set, kind) in
        [("containers/c2", "volume"), ("custom/default_v2", "volume"), ("custom/default_w", "filesystem")]
    {
        assert_eq!(get(&root, set, "type"), kind, "{set}");
    }
    // To another pool and back, with what was said of it.
    state.ok("storage create b btrfs size=512MiB");
    state.ok("storage volume file push image.tar p v/f");
    state.ok("storage volume copy p/v b/v");
    assert_eq!(state.ok("storage volume get b v zfs.block_mode"), "");
    state.ok("storage volume copy b/v p/v3");
    assert_eq!(get(&root, "custom/default_v3", "type"), "filesystem");
    // A backup has no stream of it.
    for how in ["", " --optimized-storage"] {
        state.ok(&format!("storage volume export p v v.tar --force{how}"));
        state.ok("storage volume import p v.tar v4");
        assert_eq!(get(&root, "custom/default_v4", "type"), "volume", "{how}");
        state.good(&["storage", "volume", "file", "pull", "p", "v4/f", "out"]);
        assert_eq!(std::fs::read(state.path("out")).unwrap(), std::fs::read(state.path("image.tar")).unwrap());
        state.ok("storage volume delete p v4");
        state.ok(&format!("export c1 c1.tar --force{how}"));
        state.ok("import c1.tar c4 -s p");
        assert_eq!(get(&root, "containers/c4", "type"), "volume", "{how}");
        state.ok("delete c4");
    }
    state.ok("storage set p zfs.clone_copy=false");
    state.ok("stop -f c1");
    state.ok("copy c1 c3");
    assert_eq!(
        (get(&root, "containers/c3", "type"), get(&root, "containers/c3", "origin")),
        ("volume".into(), "-".into())
    );
    state.ok("start c3");
    assert_eq!(state.ok("exec c3 -- cat /root/x"), "kept\n");
    state.ok("copy c3 c1 --refresh");
    state.ok("move c1 c1 -s b");
    state.ok("delete -f c1 c2 c3 plain");
    for name in ["v", "v2", "v3", "w"] {
        state.ok(&format!("storage volume delete p {name}"));
    }
    state.ok("storage volume delete b v");
    only_images(&root);
    state.ok("image delete img");
    assert_eq!(zvols(&root), Vec::<String>::new());
    state.finish(&["p", "b"]);
}

#[test]
fn zfs_block_is_recovered_from_a_device() {
    let Some(state) = state("zfs_block_is_recovered_from_a_device") else { return };
    let device = Device::new(&state, "disk");
    lost_and_found(state, "zfs", &device.shown(), "volume.zfs.block_mode=true");
}
