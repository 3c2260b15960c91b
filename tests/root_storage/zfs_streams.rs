//! Volumes on ZFS as streams: from one pool to another, in backups, and those that somebody else made.

use super::common_root::State;
use super::crossing::facts;
use super::support::More;
use super::zfs::{only_images, said, sets, state, unique};
use std::path::Path;
use std::process::Command;

const BIG: u64 = 32 << 20;

/// A state with two pools, and their names for ZFS.
fn pools(test: &str) -> Option<(State, [String; 2])> {
    let state = state(test)?;
    let names = ["one", "two"].map(|name| unique(&state, name));
    for (pool, name) in ["a", "b"].iter().zip(&names) {
        state.ok(&format!("storage create {pool} zfs size=384MiB zfs.pool_name={name}"));
    }
    Some((state, names))
}

fn used(pool: &str) -> u64 {
    said(&format!("zpool sync {pool}"));
    said(&format!("zpool wait -t free {pool}"));
    said(&format!("zfs get -Hp -o value used {pool}")).trim().parse().unwrap()
}

fn shell(state: &State, script: &str) {
    let out = Command::new("sh").args(["-ec", script]).current_dir(&state.dir).output().unwrap();
    assert!(out.status.success(), "{script}: {out:?}");
}

/// Looks into a dataset, wherever else it is shown.
fn inside<T>(state: &State, set: &str, look: impl FnOnce(&Path) -> T) -> T {
    let place = state.path("looked-at");
    std::fs::create_dir_all(&place).unwrap();
    said(&format!("mount -t zfs {set} {}", place.display()));
    let found = look(&place);
    said(&format!("umount {}", place.display()));
    found
}

/// All there is to the root of an instance or snapshot.
fn root(state: &State, pool: &str, name: &str) -> String {
    let kind = if name.contains('@') { "containers-snapshots" } else { "containers" };
    let set = format!("{pool}/{kind}/{}", name.replace('@', "::"));
    inside(state, &set, |place| facts(place.join("rootfs")))
}

/// Writes to a volume of files or of a disk.
fn write(state: &State, pool: &str, (file, at): (&str, u64)) {
    inside(state, &format!("{pool}/custom/default_v"), |place| {
        let path = place.join(file);
        let dd = "dd if=/dev/urandom bs=1M conv=notrunc count=8";
        shell(state, &format!("{dd} seek={at} of={} 2>/dev/null", path.display()));
    });
}

/// An instance with three snapshots; it runs.
fn filled(state: &State, flags: &str) {
    state.ok(&format!("launch img c1 -s a{flags}"));
    let fill = "cd /root; dd if=/dev/urandom of=big bs=1M count=32 2>/dev/null; echo one >x; mkdir d; ln x d/hard; \
                ln -s x soft; mknod pipe p; chown 5:6 d; chmod 4751 x";
    state.sh("c1", fill).good().unwrap();
    for step in ["mv d e; echo two >x", "rm pipe; truncate -s 3M e/hole", "echo four >>x; chmod 600 x"] {
        state.ok("snapshot create c1");
        state.sh("c1", &format!("cd /root; {step}")).good().unwrap();
    }
}

/// Nothing is left of what was sent and received.
fn only_named(state: &State, pools: &[String; 2]) {
    for pool in pools {
        let odd: Vec<_> =
            sets(pool).into_iter().filter(|s| s.starts_with("new/") || s.starts_with("deleted/")).collect();
        assert!(odd.is_empty() && !sets(pool).iter().any(|s| s.contains(":3a")), "{odd:?} {:?}", sets(pool));
    }
    state.doctor().unwrap();
}

#[test]
fn zfs_streams_between_pools() {
    let Some((state, pools)) = pools("zfs_streams_between_pools") else { return };
    filled(&state, " -d root,size=128MiB");
    let before = used(&pools[1]);
    state.ok("copy c1 c2 -s b");
    let grown = used(&pools[1]) - before;
    assert!(grown > BIG && grown < BIG * 3 / 2, "{grown}");
    assert!(state.ok("list c1 -f csv -c s").contains("RUNNING"));
    state.ok("stop -f c1");
    for snap in ["snap0", "snap1", "snap2"] {
        assert_eq!(
            root(&state, &pools[0], &format!("c1@{snap}")),
            root(&state, &pools[1], &format!("c2@{snap}")),
            "{snap}"
        );
    }
    assert!(state.ok("storage volume info b container/c2").contains("Total: 128.00MiB"));
    only_named(&state, &pools);
    // What has come since is all that is sent.
    state.ok("start c1");
    state.sh("c1", "cd /root; echo five >>x; dd if=/dev/urandom of=more bs=1M count=4 2>/dev/null").good().unwrap();
    state.ok("snapshot create c1");
    state.ok("snapshot delete c1 snap0");
    state.ok("stop -f c1");
    let before = used(&pools[1]);
    state.ok("copy c1 c2 --refresh");
    let grown = used(&pools[1]).saturating_sub(before);
    assert!(grown < BIG / 2, "{grown}");
    assert_eq!(root(&state, &pools[0], "c1"), root(&state, &pools[1], "c2"));
    assert!(state.ok("storage volume info b container/c2").contains("Total: 128.00MiB"), "a size outlives a refresh");
    assert_eq!(state.ok("snapshot list c2 -f csv -c n"), "snap1\nsnap2\nsnap3\n");
    // From the copy back, after a restore there.
    state.ok("snapshot restore c2 snap1");
    state.ok("delete c1");
    only_images(&pools[0]);
    let before = used(&pools[0]);
    state.ok("copy c2 c1 -s a");
    let grown = used(&pools[0]) - before;
    assert!(grown > BIG && grown < BIG * 3 / 2, "{grown}");
    for (name, text) in [("c1", "two\n"), ("c2", "two\n")] {
        state.ok(&format!("start {name}"));
        assert_eq!(state.ok(&format!("exec {name} -- cat /root/x")), text);
        state.ok(&format!("stop -f {name}"));
    }
    state.ok("delete c2");
    only_images(&pools[1]);
    state.ok("move c1 -s b");
    only_images(&pools[0]);
    state.ok("snapshot restore c1 snap3");
    state.ok("start c1");
    state.sh("c1", "test $(stat -c %s /root/more) = 4194304").good().unwrap();
    state.ok("delete -f c1");
    only_named(&state, &pools);
    only_images(&pools[1]);
    state.finish(&["a", "b"]);
}

#[test]
fn zfs_streams_of_volumes() {
    let Some((state, pools)) = pools("zfs_streams_of_volumes") else { return };
    for (kind, file) in [("filesystem", "file"), ("block", "root.img")] {
        state.ok(&format!("storage volume create a v --type {kind} size=24MiB zfs.blocksize=16KiB"));
        for at in [0, 8] {
            write(&state, &pools[0], (file, at));
            state.ok("storage volume snapshot create a v");
        }
        state.ok("storage volume copy a/v b/w");
        assert_eq!(said(&format!("zfs get -Hp -o value recordsize {}/custom/default_w", pools[1])), "16384\n");
        state.ok("storage volume copy a/v b/w --refresh");
        state.ok("storage volume snapshot restore b w snap0");
        state.ok("storage volume snapshot restore a v snap0");
        let own = |set: &str| inside(&state, set, |place| facts(place.to_path_buf()));
        assert_eq!(own(&format!("{}/custom/default_v", pools[0])), own(&format!("{}/custom/default_w", pools[1])));
        state.ok("storage volume delete b w");
        state.ok("storage volume move a/v b/v");
        state.ok("storage volume delete b v");
    }
    only_named(&state, &pools);
    pools.iter().for_each(|pool| only_images(pool));
    state.finish(&["a", "b"]);
}

const INDEX: &str = "name: c9\nbackend: zfs\npool: b\noptimized: true\noptimized_header: false\ntype: container\nconfig:\n  \
     container:\n    architecture: x86_64\n    config: {}\n    devices: {}\n    ephemeral: false\n    profiles:\n    - default\n    \
     name: c9\n    type: container\n";

/// A backup that somebody made, of what a shell script writes to `container.bin`.
fn backup(state: &State, script: &str) {
    std::fs::create_dir_all(state.path("made/backup")).unwrap();
    std::fs::write(state.path("made/backup/index.yaml"), INDEX).unwrap();
    shell(state, &format!("cd made/backup; {script}"));
    shell(state, "tar -C made -cf made.tar backup/index.yaml backup/container.bin");
}

#[test]
fn zfs_streams_in_backups() {
    let Some((state, pools)) = pools("zfs_streams_in_backups") else { return };
    filled(&state, "");
    for running in [true, false] {
        if !running {
            state.ok("stop -f c1");
        }
        state.ok("export c1 b.tar -f --compression none --optimized-storage");
        let list = said(&format!("tar -tf {}", state.path("b.tar").display()));
        let files: Vec<_> = list.lines().filter(|name| !name.ends_with('/')).collect();
        let wanted =
            ["index.yaml", "snapshots/snap0.bin", "snapshots/snap1.bin", "snapshots/snap2.bin", "container.bin"];
        assert_eq!(files, wanted.map(|name| format!("backup/{name}")), "{running}");
        let size = std::fs::metadata(state.path("b.tar")).unwrap().len();
        assert!(size > BIG && size < BIG * 5 / 4, "{size}");
    }
    only_named(&state, &pools);
    let before = used(&pools[1]);
    state.ok("import b.tar c2 -s b");
    let grown = used(&pools[1]) - before;
    assert!(grown > BIG && grown < BIG * 3 / 2, "{grown}");
    assert_eq!(root(&state, &pools[0], "c1"), root(&state, &pools[1], "c2"));
    assert_eq!(root(&state, &pools[0], "c1@snap1"), root(&state, &pools[1], "c2@snap1"));
    let set = format!("{}/containers/c2", pools[1]);
    inside(&state, &set, |place| assert!(!place.join("backup.yaml").exists() && place.join("metadata.yaml").exists()));
    // It is a copy like any other.
    state.ok("start c1");
    state.sh("c1", "echo more >>/root/x").good().unwrap();
    state.ok("stop -f c1");
    state.ok("snapshot create c1");
    state.ok("copy c1 c2 --refresh");
    state.ok("snapshot restore c2 snap0");
    state.ok("start c2");
    assert_eq!(state.ok("exec c2 -- cat /root/x"), "one\n");
    state.ok("export c2 again.tar -f --optimized-storage");
    state.ok("delete -f c1 c2");
    pools.iter().for_each(|pool| only_images(pool));
    state.ok("import again.tar c3 -s a");
    state.ok("start c3");
    assert_eq!(state.ok("exec c3 -- cat /root/x"), "one\n");
    state.ok("delete -f c3");
    for kind in ["filesystem", "block"] {
        state.ok(&format!("storage volume create a v --type {kind} size=16MiB"));
        write(&state, &pools[0], ("root.img", 0));
        state.ok("storage volume snapshot create a v");
        state.ok("storage volume export a v v.tar -f --optimized-storage");
        state.ok("storage volume import b v.tar w");
        state.ok("storage volume snapshot restore b w snap0");
        let own = |set: &str| inside(&state, set, |place| facts(place.to_path_buf()));
        assert_eq!(own(&format!("{}/custom/default_v", pools[0])), own(&format!("{}/custom/default_w", pools[1])));
        state.ok("storage volume delete a v");
        state.ok("storage volume delete b w");
    }
    only_named(&state, &pools);
    state.finish(&["a", "b"]);
}

/// A volume that goes with an instance does so as streams, beside those of the root.
#[test]
fn zfs_streams_with_dependent_volumes() {
    let Some((state, pools)) = pools("zfs_streams_with_dependent_volumes") else { return };
    state.ok("create img c1 -s a");
    state.ok("storage volume create b v size=24MiB");
    state.ok("config device add c1 d disk pool=b source=v path=/data dependent=true");
    write(&state, &pools[1], ("file", 0));
    state.ok("snapshot create c1 s1");
    write(&state, &pools[1], ("file", 8));
    state.ok("export c1 b.tar -f --compression none --optimized-storage");
    let list = said(&format!("tar -tf {}", state.path("b.tar").display()));
    assert_eq!(list.lines().filter(|name| name.ends_with(".bin")).count(), 4, "{list}");
    state.ok("import b.tar c2 -s b -d d,source=w -d d,pool=a");
    let own = |set: &str| inside(&state, set, |place| facts(place.to_path_buf()));
    for (kind, end) in [("custom", ""), ("custom-snapshots", "::s1")] {
        let [v, w] = [format!("{}/{kind}/default_v{end}", pools[1]), format!("{}/{kind}/default_w{end}", pools[0])];
        assert_eq!(own(&v), own(&w), "{kind}");
    }
    assert_eq!(root(&state, &pools[0], "c1@s1"), root(&state, &pools[1], "c2@s1"));
    state.ok("snapshot create c1 s2");
    state.ok("copy c1 c2 --refresh");
    assert_eq!(state.ok("storage volume snapshot list a w -f csv -c n"), "s1\ns2\n");
    state.ok("snapshot restore c2 s1");
    state.ok("delete c1 c2");
    only_named(&state, &pools);
    pools.iter().for_each(|pool| only_images(pool));
    state.finish(&["a", "b"]);
}

/// A dataset `own` with the snapshots `s` and `t`: files of an instance with more than it has, and properties.
fn make_evil(state: &State, own: &str, there: &Path) {
    let place = state.path("evil");
    std::fs::create_dir(&place).unwrap();
    said(&format!("zfs create -o mountpoint=legacy -o xattr=sa {own}"));
    said(&format!("mount -t zfs {own} {}", place.display()));
    shell(
        state,
        "cd evil; mkdir -m 755 rootfs; echo secret >rootfs/f; setfattr -n trusted.evil -v 1 rootfs/f; \
                   setfattr -n user.good -v 1 rootfs/f; ln -s f rootfs/l; echo '{}' >stray; chmod 777 .; \
                   printf 'architecture: x86_64\\ncreation_date: 1\\n' >metadata.yaml",
    );
    said(&format!("zfs snapshot {own}@s"));
    said(&format!("umount {}", place.display()));
    let mountpoint = format!("mountpoint={}", there.display());
    for set in ["canmount=noauto", "sharenfs=on", "setuid=off", "stapes:from=@x", &mountpoint] {
        said(&format!("zfs set {set} {own}"));
    }
    said(&format!("zfs snapshot {own}@t"));
}

/// What a stranger's stream is and says decides about nothing but files.
#[test]
fn zfs_streams_of_strangers() {
    let Some((state, pools)) = pools("zfs_streams_of_strangers") else { return };
    let own = format!("{}/evil", pools[0]);
    let there = Path::new("/").join(&pools[0]);
    make_evil(&state, &own, &there);
    said(&format!("zfs create -V 8M {}/block", pools[0]));
    said(&format!("zfs snapshot {}/block@s", pools[0]));
    let refuses = |script: &str, words: &str| {
        backup(&state, script);
        state.refuses("import made.tar c9 -s b", words);
        only_named(&state, &pools);
        assert_eq!(state.ok("list c9 -f csv"), "");
        let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
        assert!(!mounts.contains(&format!("{}/new", pools[1])), "{mounts}");
    };
    refuses(&format!("zfs send -p {own}@s >container.bin"), "hold properties");
    refuses(&format!("zfs send -R {own}@t >container.bin"), "hold properties");
    refuses(&format!("zfs send {}/block@s >container.bin", pools[0]), "block devices");
    refuses(&format!("zfs send -i {own}@s {own}@t >container.bin"), "builds upon");
    refuses("head -c 100000 /dev/urandom >container.bin", "no stream of ZFS");
    refuses(": >container.bin", "no stream of ZFS");
    refuses(&format!("zfs send {own}@s | head -c 20000 >container.bin"), "Failed receiving");
    refuses(&format!("zfs send {own}@s >container.bin; head -c 300000 /dev/zero >>container.bin"), "Failed receiving");
    refuses(
        &format!(
            "zfs send {own}@s | dd of=container.bin bs=1 seek=0 2>/dev/null; printf xxxx | dd of=container.bin bs=1 seek=4000 conv=notrunc 2>/dev/null"
        ),
        "Failed receiving",
    );
    // What it holds is looked through, and what it is called is ours to say.
    backup(&state, &format!("zfs send {own}@t >container.bin"));
    state.ok("import made.tar c9 -s b");
    let set = format!("{}/containers/c9", pools[1]);
    let props = said(&format!("zfs get -H -o value mountpoint,sharenfs,setuid,canmount,stapes:from {set}"));
    assert_eq!(props, "legacy\noff\non\non\n-\n");
    inside(&state, &set, |folder| {
        assert!(!folder.join("stray").exists());
        let mode = std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(folder).unwrap());
        assert_eq!(mode & 0o777, 0o700);
        let shown = said(&format!("getfattr -d -m - --absolute-names {}", folder.join("rootfs/f").display()));
        assert!(shown.contains("user.good") && !shown.contains("trusted"), "{shown}");
    });
    assert!(!there.exists());
    state.ok("delete c9");
    said(&format!("zfs destroy -r {own}"));
    said(&format!("zfs destroy -r {}/block", pools[0]));
    pools.iter().for_each(|pool| only_images(pool));
    state.finish(&["a", "b"]);
}
