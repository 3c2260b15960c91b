//! Volumes that are disks, and images of discs: one file each, whatever is in it.

use super::common_root::{State, have, skip};
use super::image_common::Ar;
use super::support::{Ask, state};
use super::{good, refused};
use std::io::Write;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Words with blanks between them.
fn ok(state: &State, words: &str) -> String {
    good(state, &words.split(' ').collect::<Vec<_>>())
}

fn no(state: &State, words: &str, said: &str) {
    refused(state, &words.split(' ').collect::<Vec<_>>(), said);
}

fn disk(state: &State, pool: &str, name: &str) -> PathBuf {
    let pool = stapes::base::names::PoolName::parse(pool).unwrap();
    state.layout().pool_custom(&pool).join(format!("default_{name}/root.img"))
}

/// Writes into a disk as a machine would.
fn write(path: &Path, at: u64, bytes: &[u8]) {
    std::fs::OpenOptions::new().write(true).open(path).unwrap().write_all_at(bytes, at).unwrap();
}

fn read(path: &Path, at: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    std::fs::File::open(path).unwrap().read_exact_at(&mut bytes, at).unwrap();
    bytes
}

/// The disk of a pool on each driver through its life. `other` is a pool to copy to.
fn life(state: &State, pool: &str, other: &str) {
    let on = |words: &str| ok(state, &words.replace("POOL", pool).replace("OTHER", other));
    let len = |name: &str| std::fs::metadata(disk(state, pool, name)).unwrap().len();
    assert_eq!(on("create POOL d1 --type=block"), "Storage volume d1 created\n");
    assert_eq!((len("d1"), on("get POOL d1 size").trim()), (10 << 30, ""), "Incus's default");
    on("create POOL d2 -t block size=10000001B security.shared=true user.a=b");
    assert_eq!(len("d2"), 10_002_432, "whole blocks");
    let stat = std::fs::metadata(disk(state, pool, "d2")).unwrap();
    assert_eq!((stat.permissions().mode() & 0o7777, stat.uid(), stat.blocks()), (0o600, 0, 0));
    let listed = on("list POOL type=custom -f csv -c tnc");
    assert_eq!(listed, "custom,d1,block\ncustom,d2,block\n");
    let info = on("info POOL d2");
    assert!(info.contains("Content type: block\nUsage: ") && info.contains("\nTotal: 9.54MiB\n"), "{info}");
    assert!(on("show POOL d2").contains("content_type: block\n"));
    // It grows; it does not shrink.
    let path = disk(state, pool, "d2");
    write(&path, 10_002_000, b"first");
    no(state, &format!("set {pool} d2 size=1MiB"), "Block volumes cannot be shrunk");
    no(state, &format!("set {pool} d2 security.shifted=true"), "Invalid option for volume \"d2\"");
    assert_eq!((len("d2"), on("get POOL d2 size").trim()), (10_002_432, "10000001B"));
    on("snapshot create POOL d2 s1");
    assert!(on("snapshot show POOL d2/s1").contains("content_type: block\n"));
    on("set POOL d2 size=20MiB");
    assert_eq!(len("d2"), 20 << 20);
    write(&path, 10_002_000, b"later");
    on("copy POOL/d2 POOL/d3");
    on("copy POOL/d2/s1 OTHER/d4");
    assert_eq!(read(&disk(state, other, "d4"), 10_002_000, 5), b"first");
    on("move OTHER/d4 POOL/d5");
    assert_eq!(read(&disk(state, pool, "d5"), 10_002_000, 5), b"first");
    // What it was, as large as it is said to be now.
    on("snapshot restore POOL d2 s1");
    assert_eq!((len("d2"), read(&path, 10_002_000, 5)), (20 << 20, b"first".to_vec()));
    assert_eq!(read(&disk(state, pool, "d3"), 10_002_000, 5), b"later");
    on("copy POOL/d2 POOL/d3 --refresh");
    assert_eq!((len("d3"), read(&disk(state, pool, "d3"), 10_002_000, 5)), (20 << 20, b"first".to_vec()));
    on("rename POOL d3 d6");
    on("snapshot rename POOL d6 s1 s2");
    // As an archive, which holds the holes as such.
    on("export POOL d6 d6.tar --compression none --force");
    let archive = std::fs::metadata(state.path("d6.tar")).unwrap().len();
    assert!(archive < 1 << 20, "{archive} bytes");
    on("import OTHER d6.tar d7");
    let there = disk(state, other, "d7");
    assert_eq!((read(&there, 10_002_000, 5), std::fs::metadata(&there).unwrap().len()), (b"first".to_vec(), 20 << 20));
    assert!(std::fs::metadata(&there).unwrap().blocks() < 1000);
    let own = |text: String| text.lines().filter(|l| !l.starts_with("name: ")).map(String::from).collect::<Vec<_>>();
    assert_eq!(own(on("show OTHER d7")), own(on("show POOL d6")));
    on("snapshot restore OTHER d7 s2");
    assert_eq!(read(&there, 10_002_000, 5), b"first");
    for name in ["POOL d1", "POOL d2", "POOL d5", "POOL d6", "OTHER d7"] {
        on(&format!("delete {name}"));
    }
}

#[test]
fn a_disk_through_its_life() {
    let Some(state) = state("a_disk_through_its_life") else { return };
    state.good(&["storage", "create", "plain", "dir"]);
    life(&state, "default", "plain");
    life(&state, "plain", "default");
    state.good(&["storage", "delete", "plain"]);
    state.finish();
}

#[test]
fn a_disk_on_btrfs() {
    let test = "a_disk_on_btrfs";
    if !(have("mkfs.btrfs") && Path::new("/dev/loop-control").exists()) {
        return skip(test, "no mkfs.btrfs (apt-get install btrfs-progs) or no loop devices");
    }
    let Some(state) = state(test) else { return };
    state.good(&["storage", "create", "fast", "btrfs", "size=512MiB"]);
    life(&state, "fast", "default");
    life(&state, "default", "fast");
    ok(&state, "create fast d1 --type=block size=1MiB");
    ok(&state, "copy fast/d1 default/d1");
    ok(&state, "copy default/d1 fast/d2");
    for name in ["d1", "d2"] {
        let out = Command::new("lsattr").arg(disk(&state, "fast", name)).output().unwrap();
        let flags = String::from_utf8(out.stdout).unwrap();
        assert!(flags.split(' ').next().unwrap().contains('C'), "{name} is written in place: {flags}");
    }
    // Where there is no such form, it is an archive like any other, as with Incus.
    ok(&state, "export default d1 x.tar --compression none --optimized-storage");
    ok(&state, "import fast x.tar d3");
    // On btrfs there is one.
    std::fs::write(disk(&state, "fast", "d1"), vec![7; 1 << 20]).unwrap();
    ok(&state, "snapshot create fast d1 s1");
    ok(&state, "export fast d1 y.tar --optimized-storage");
    no(&state, "import default y.tar d4", "differs from the target storage pool driver");
    ok(&state, "import fast y.tar d4");
    assert_eq!(std::fs::read(disk(&state, "fast", "d4")).unwrap(), vec![7; 1 << 20]);
    ok(&state, "snapshot restore fast d4 s1");
    for name in ["fast d1", "fast d2", "fast d3", "fast d4", "default d1"] {
        ok(&state, &format!("delete {name}"));
    }
    state.good(&["storage", "delete", "fast"]);
    state.finish();
}

#[test]
fn discs_come_and_go_as_they_are() {
    let Some(state) = state("discs_come_and_go_as_they_are") else { return };
    // Not whole blocks, and with a hole.
    let mut bytes = vec![7; 300_001];
    bytes[4096..200_000].fill(0);
    std::fs::write(state.path("install.ISO"), &bytes).unwrap();
    ok(&state, "import default install.ISO");
    let mut command = state.command(&["storage", "volume", "import", "default", "-", "again", "--type=iso"]);
    let mut sender = command.stdin(Stdio::piped()).spawn().unwrap();
    sender.stdin.take().unwrap().write_all(&bytes).unwrap();
    assert!(sender.wait().unwrap().success());
    let listed = ok(&state, "list default type=custom -f csv -c tnc");
    assert_eq!(listed, "custom,again,iso\ncustom,install,iso\n");
    assert_eq!(ok(&state, "get default install size"), "300001\n");
    for words in ["export default install", "export default again x.iso --volume-only --compression zstd"] {
        ok(&state, words);
    }
    for file in ["install.iso", "x.iso"] {
        assert!(std::fs::read(state.path(file)).unwrap() == bytes, "{file}");
    }
    for (words, said) in [
        ("import default install.ISO", "already exists"),
        ("import default - --type=iso", "Importing ISO images requires a volume name to be set"),
        ("set default install user.a=b", "Custom ISO volume config cannot be changed"),
        ("snapshot create default install s1", "Volume of content type \"iso\" does not support snapshots"),
        ("file pull default install/root.img .", "has no files"),
        ("copy default/install default/disk --refresh", "can't be refreshed"),
    ] {
        if words.contains("disk") {
            ok(&state, "create default disk --type=block size=1MiB");
        }
        no(&state, words, said);
    }
    ok(&state, "set -p default install description=installer");
    ok(&state, "copy default/install default/third");
    no(&state, "copy default/install default/third --refresh", "Volume of content type \"iso\" cannot be refreshed");
    ok(&state, "rename default third fourth");
    assert!(std::fs::read(disk(&state, "default", "fourth")).unwrap() == bytes);
    for name in ["install", "again", "disk", "fourth"] {
        ok(&state, &format!("delete default {name}"));
    }
    state.finish();
}

#[test]
fn containers_get_no_disks() {
    let Some(state) = state("containers_get_no_disks") else { return };
    std::fs::write(state.path("x.iso"), "disc").unwrap();
    ok(&state, "import default x.iso");
    ok(&state, "create default d1 --type=block size=1MiB");
    ok(&state, "create default d2 --type=block size=1MiB security.shared=true");
    state.good(&["create", "test", "c1"]);
    let add = |volume: &str| format!("config device add c1 v disk pool=default source={volume} path=/x");
    let device =
        |volume: &str| format!("create test c2 -d v,type=disk -d v,pool=default -d v,source={volume} -d v,path=/x");
    for (volume, kind) in [("d1", "block"), ("d2", "block"), ("x", "ISO")] {
        let said = format!("Custom {kind} volumes cannot be used on containers");
        no(&state, &format!("attach default {volume} c1"), &said);
        for words in [add(volume), device(volume)] {
            let out = state.run(&words.split(' ').collect::<Vec<_>>());
            out.clean_failure().unwrap();
            assert!(out.stderr.contains(&said), "{out}");
        }
        let said = format!("Custom {kind} volumes cannot have a path defined");
        no(&state, &format!("attach-profile default {volume} default v /x"), &said);
    }
    no(&state, "attach-profile default d1 default", "Cannot add un-shared custom storage block volume to profile");
    for words in ["file pull default d1/root.img .", "file push x.iso default d1/y", "file delete default d1/root.img"]
    {
        no(&state, words, "Volume of content type \"block\" has no files");
    }
    // A profile may have a shared one, for machines; a container does not get it from there.
    state.good(&["profile", "create", "machines"]);
    ok(&state, "attach-profile default d2 machines");
    let out = state.run(&["create", "test", "c2", "-p", "default", "-p", "machines"]);
    assert!(out.stderr.contains("Custom block volumes cannot be used on containers"), "{out}");
    no(&state, "delete default d2", "The storage volume is still in use");
    state.good(&["profile", "delete", "machines"]);
    state.good(&["delete", "c1"]);
    for name in ["d1", "d2", "x"] {
        ok(&state, &format!("delete default {name}"));
    }
    state.finish();
}

const INDEX: &str = "name: d9\nbackend: dir\npool: elsewhere\noptimized: false\noptimized_header: false\ntype: custom\n\
    snapshots:\n- s1\nconfig:\n  volume:\n    config:\n      size: 8KiB\n    description: \"\"\n    name: d9\n    \
    type: custom\n    content_type: block\n  volume_snapshots:\n  - name: s1\n    config: {}\n    content_type: block\n";

/// Rows CVE-2026-24708, CVE-2024-4467, CVE-2024-32498: what a disk says of itself is not believed, nor read.
#[test]
fn cve_2026_24708_disks_are_data() {
    let Some(state) = state("cve_2026_24708_disks_are_data") else { return };
    // The header of a qcow2 whose backing file is the host's.
    let mut qcow = b"QFI\xfb\0\0\0\x03\0\0\0\0\0\0\0\x68\0\0\0\x0b".to_vec();
    qcow.resize(104, 0);
    qcow.extend(b"/etc/shadow");
    qcow.resize(8192, 0);
    let begin = || Ar::default().file("backup/index.yaml", INDEX.as_bytes());
    let put = |ar: Ar| std::fs::write(state.path("b.tar"), ar.finish()).unwrap();
    put(begin().file("backup/volume-snapshots/s1.img", b"x").file("backup/volume.img", &qcow));
    ok(&state, "import default b.tar");
    assert!(std::fs::read(disk(&state, "default", "d9")).unwrap() == qcow);
    ok(&state, "set default d9 size=16KiB");
    assert_eq!(std::fs::metadata(disk(&state, "default", "d9")).unwrap().len(), 16384);
    ok(&state, "copy default/d9 default/d8");
    ok(&state, "export default d8 again.tar --compression none");
    ok(&state, "import default again.tar d7");
    assert!(read(&disk(&state, "default", "d7"), 0, 8192) == qcow);
    // One that is larger than its record says has its own size in that: projects have limits.
    put(begin().file("backup/volume-snapshots/s1.img", b"x").file("backup/volume.img", &vec![1; 9000]));
    ok(&state, "import default b.tar d6");
    assert_eq!(ok(&state, "get default d6 size"), "9000\n");
    for name in ["d9", "d8", "d7", "d6"] {
        ok(&state, &format!("delete default {name}"));
    }
    std::fs::write(state.path("victim"), "untouched").unwrap();
    let victim = state.path("victim");
    let out = victim.to_str().unwrap();
    let snapshot = || begin().file("backup/volume-snapshots/s1.img", b"x");
    let whole = || snapshot().file("backup/volume.img", b"x");
    for (what, ar, said) in [
        ("no disk", snapshot(), "are missing"),
        ("no disk of the snapshot", begin().file("backup/volume.img", b"x"), "are missing"),
        ("a link", snapshot().symlink("backup/volume.img", out), "is no disk"),
        ("a hard link", snapshot().hard_link("backup/volume.img", out), "is no disk"),
        ("twice", whole().file("backup/volume.img", b"y"), "is no disk"),
        ("files", whole().file("backup/volume/x", b"y"), "belongs to nothing"),
        ("another snapshot", whole().file("backup/volume-snapshots/s2.img", b"y"), "belongs to nothing"),
        ("climbs", whole().file("backup/volume-snapshots/../../victim", b"y"), "leads upwards"),
    ] {
        put(ar);
        no(&state, "import default b.tar", said);
        let pool = state.dir.join("state/pools/default/data");
        for folder in ["custom", "custom-snapshots", "trash"] {
            assert_eq!(std::fs::read_dir(pool.join(folder)).unwrap().count(), 0, "{what}: {folder}");
        }
        assert_eq!(std::fs::read_to_string(out).unwrap(), "untouched", "{what}");
    }
    state.finish();
}

/// A link in the place of a disk, as on a pool that comes from elsewhere, is not followed.
#[test]
fn a_link_is_no_disk() {
    let Some(state) = state("a_link_is_no_disk") else { return };
    ok(&state, "create default d1 --type=block size=1MiB");
    let (path, victim) = (disk(&state, "default", "d1"), state.path("victim"));
    std::fs::write(&victim, "secret").unwrap();
    std::fs::remove_file(&path).unwrap();
    std::os::unix::fs::symlink(&victim, &path).unwrap();
    for words in ["export default d1 x.tar", "info default d1", "set default d1 size=2MiB"] {
        no(&state, words, "disk of volume");
    }
    assert!(state.doctor().unwrap_err().contains("volume default/default/d1"));
    assert_eq!(std::fs::read_to_string(&victim).unwrap(), "secret");
    ok(&state, "delete default d1");
    state.finish();
}

#[test]
fn projects_count_disks() {
    let Some(state) = state("projects_count_disks") else { return };
    let project = ["project", "create", "p1", "-c", "limits.disk=1MiB", "-c", "features.images=false"];
    state.good(&project);
    std::fs::write(state.path("x.iso"), vec![1; 2 << 20]).unwrap();
    let within =
        |words: &str| state.run(&format!("storage volume {words} --project p1").split(' ').collect::<Vec<_>>());
    for words in ["create default d1 --type=block size=2MiB", "create default d1 --type=block", "import default x.iso"]
    {
        let out = within(words);
        out.clean_failure().unwrap();
    }
    within("create default d1 --type=block size=1MiB").good().unwrap();
    within("set default d1 size=2MiB").clean_failure().unwrap();
    within("delete default d1").good().unwrap();
    state.good(&["project", "delete", "p1"]);
    state.finish();
}
