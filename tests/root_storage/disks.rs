//! Pools in loop files and on block devices: grown in use, filled, whole afterwards.

use super::support::{Device, More, check, state};
use std::process::Command;

/// Bytes of the pool as `storage show --resources` has them: used and total.
fn space(state: &super::common_root::State, pool: &str) -> (u64, u64) {
    let text = state.ok(&format!("storage show {pool} --resources"));
    let space = &text[text.find("space:").unwrap()..];
    let number = |name: &str| {
        let line = space.lines().find_map(|l| l.trim().strip_prefix(name)).unwrap();
        line.trim_start_matches(':').trim().parse().unwrap()
    };
    (number("used"), number("total"))
}

#[test]
fn a_loop_file_grows_while_an_instance_runs() {
    let Some(state) = state("a_loop_file_grows_while_an_instance_runs", true) else { return };
    state.ok("storage create p btrfs size=256MiB");
    let image = state.path("state/disks/p.img");
    assert_eq!(std::fs::metadata(&image).unwrap().len(), 256 << 20);
    state.ok("launch img c1 -s p");
    let before = space(&state, "p").1;
    state.ok("storage set p size=768MiB user.x=1");
    assert_eq!(std::fs::metadata(&image).unwrap().len(), 768 << 20);
    assert!(space(&state, "p").1 >= before + (500 << 20));
    state.sh("c1", "dd if=/dev/zero of=/root/big bs=1M count=300 2>/dev/null || cat /dev/null").good().unwrap();
    assert_eq!(state.ok("storage get p user.x"), "1\n");
    state.refuses("storage set p size=256MiB", "Pool cannot be shrunk");
    state.ok("storage unset p size");
    assert_eq!(state.ok("storage get p size"), "768MiB\n");
    // Not mounted, it grows as well.
    state.ok("stop -f c1");
    state.ok("admin shutdown");
    state.ok("storage set p size=896MiB");
    state.ok("start c1");
    assert_eq!(std::fs::metadata(&image).unwrap().len(), 896 << 20);
    state.ok("stop -f c1");
    state.ok("admin shutdown");
    check(&image);
    state.finish(&["p"]);
}

#[test]
fn a_full_pool_says_so_and_can_be_emptied() {
    let Some(state) = state("a_full_pool_says_so_and_can_be_emptied", true) else { return };
    state.ok("storage create p btrfs size=256MiB");
    state.ok("launch img c1 -s p");
    let filled = state.sh("c1", "cat /dev/zero >/root/big; i=0; while echo x >/root/f$i; do i=$((i+1)); done; sync");
    assert!(filled.stderr.contains("No space left"), "{filled}");
    let more = state.words("file push image.tar c1/root/more");
    more.clean_failure().unwrap();
    assert!(more.stderr.contains("No space left"), "{more}");
    state.ok("list");
    state.ok("create img c2");
    state.ok("delete -f c1");
    state.ok("launch img c3 -s p");
    // The kernel frees what was destroyed a little later.
    let again = "i=0; until dd if=/dev/zero of=/root/some bs=1M count=20 2>/dev/null; do i=$((i+1)); [ $i -lt 60 ] || exit 1; sleep 1; done";
    state.sh("c3", again).good().unwrap();
    state.ok("stop -f c3");
    state.ok("admin shutdown");
    check(&state.path("state/disks/p.img"));
    state.finish(&["p"]);
}

#[test]
fn snapshots_and_copies_are_of_one_moment() {
    let Some(state) = state("snapshots_and_copies_are_of_one_moment", true) else { return };
    state.ok("storage create p btrfs size=512MiB");
    state.ok("launch img c1 -s p");
    state.sh("c1", "echo one >/root/file").good().unwrap();
    state.ok("snapshot create c1 s1");
    state.sh("c1", "echo two >/root/file").good().unwrap();
    state.ok("copy c1/s1 c2");
    state.ok("snapshot restore c1 s1");
    state.ok("start c2");
    for name in ["c1", "c2"] {
        assert_eq!(state.sh(name, "cat /root/file").good().unwrap(), "one\n", "{name}");
    }
    state.ok("stop -f c2");
    // To another pool and back, through a plain copy.
    state.ok("move c2 -s default");
    state.ok("move c2 -s p");
    state.ok("start c2");
    assert_eq!(state.sh("c2", "cat /root/file").good().unwrap(), "one\n");
    state.ok("snapshot delete c1 s1");
    state.ok("delete -f c1 c2");
    state.doctor().unwrap();
    state.ok("admin shutdown");
    check(&state.path("state/disks/p.img"));
    state.finish(&["p"]);
}

#[test]
fn a_block_device_is_taken_when_it_is_empty_or_may_be_wiped() {
    let Some(state) = state("a_block_device_is_taken_when_it_is_empty_or_may_be_wiped", true) else { return };
    let device = Device::new(&state, "disk");
    device.mkfs("ext4");
    let create = format!("storage create p btrfs source={}", device.shown());
    state.refuses(&create, "holds a filesystem already\nset source.wipe=true");
    state.refuses(&format!("storage create p dir source={}", device.shown()), "is not a directory");
    state.doctor().unwrap();
    let found = Command::new("blkid").args(["-p", "-o", "value", "-s", "TYPE"]).arg(&device.path).output().unwrap();
    assert_eq!(found.stdout, b"ext4\n", "nothing was done to it");
    state.ok(&format!("{create} source.wipe=true"));
    assert_eq!(state.ok("storage get p source.wipe"), "");
    assert_eq!(state.ok("storage get p source"), format!("{}\n", device.shown()));
    state.refuses(&format!("storage create q btrfs source={}", device.shown()), "is in use by storage pool \"p\"");
    state.ok("launch img c1 -s p");
    state.refuses("storage set p size=1GiB", "Cannot resize non-loopback pools");
    state.ok("stop -f c1");
    state.ok("admin shutdown");
    check(&device.path);
    state.ok("start c1");
    state.ok("delete -f c1");
    state.ok("storage delete p");
    // What was ours is gone: it is free again.
    state.ok(&create);
    state.ok("storage delete p");
    device.mkfs("ext4");
    let at = state.path("mnt");
    std::fs::create_dir(&at).unwrap();
    assert!(Command::new("mount").arg(&device.path).arg(&at).status().unwrap().success());
    state.refuses(&format!("{create} source.wipe=true"), "is in use");
    assert!(Command::new("umount").arg(&at).status().unwrap().success());
    state.finish(&[]);
}

/// The file of a pool is as long as it is to be, but what it lies on has no room for that.
#[test]
fn what_lies_on_a_full_disk_can_be_deleted() {
    let Some(state) = state("what_lies_on_a_full_disk_can_be_deleted", true) else { return };
    let disks = state.path("state/disks");
    std::fs::create_dir_all(&disks).unwrap();
    let on_disks = |program: &str, words: &[&str]| {
        assert!(Command::new(program).args(words).arg(&disks).status().unwrap().success(), "{program}");
    };
    on_disks("mount", &["-t", "tmpfs", "-o", "size=120m,mode=0700", "none"]);
    state.ok("storage create p btrfs size=400MiB");
    state.ok("launch img c1 -s p");
    state.ok("create img c3");
    let filled = state.sh("c1", "dd if=/dev/urandom of=/root/big bs=1M count=200 2>&1; sync; touch /root/more");
    assert!(!filled.ok(), "{filled}");
    state.ok("list");
    state.ok("stop -f c1");
    state.refuses("create img c2 -s p", "has become read-only");
    state.refuses("start c1", "has become read-only");
    state.refuses("delete c1", "stapes delete --force");
    state.ok("start c3");
    let out = state.words("delete -f c1");
    assert!(out.ok() && out.stderr.contains("Warning: The files of instance \"c1\" stay"), "{out}");
    state.ok("storage delete p");
    on_disks("umount", &[]);
    state.finish(&[]);
}
