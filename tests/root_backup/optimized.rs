//! Backups in btrfs's own form: what was comes back, btrfs's own program reads and writes the same streams, and no stream, whoever
//! made it, does harm.

use super::common_root::{State, have, skip};
use super::image_common::Ar;
use super::support::{Ask, state};
use super::tree::{FACTS, FILL};
use std::path::{Path, PathBuf};
use std::process::Command;

/// A state with the pool `fast`.
fn on_btrfs(test: &str) -> Option<State> {
    if !(have("mkfs.btrfs") && Path::new("/dev/loop-control").exists()) {
        skip(test, "no mkfs.btrfs (apt-get install btrfs-progs) or no loop devices");
        return None;
    }
    let state = state(test)?;
    state.good(&["storage", "create", "fast", "btrfs", "size=512MiB"]);
    Some(state)
}

fn end(state: State) {
    state.delete_all().unwrap();
    state.good(&["storage", "delete", "fast"]);
    state.finish();
}

fn data(state: &State) -> PathBuf {
    state.path("state/pools/fast/data")
}

fn shell(script: &str) -> String {
    let out = Command::new("sh").args(["-ec", script]).output().unwrap();
    assert!(out.status.success(), "{script}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap()
}

/// All about the files of a volume as the host sees them.
fn facts(volume: &Path) -> String {
    let list = "find . -mindepth 1 ! -name backup.yaml -printf '%p %y %m %U:%G %s %T@ %n %l\\n' | sort";
    let sums = "find . -type f ! -name backup.yaml -exec md5sum {} + | sort -k2";
    shell(&format!("cd {} && {list} && {sums}", volume.display()))
}

/// An instance with two snapshots, and what it has in all three states.
fn filled(state: &State) -> [String; 3] {
    state.launch("c1", &["-s", "fast", "-c", "user.x=1"]).good().unwrap();
    state.sh("c1", FILL);
    let file = data(state).join("containers/c1/rootfs/data/file");
    rustix::fs::setxattr(file, "user.mark", b"kept", rustix::fs::XattrFlags::empty()).unwrap();
    let first = state.sh("c1", FACTS);
    state.good(&["snapshot", "create", "c1", "s1"]);
    let script = "cd /data && mv deep moved && rm link && mkdir link && head -c 300000 /dev/urandom >random && ln random link/too";
    state.sh("c1", script);
    let second = state.sh("c1", FACTS);
    state.good(&["snapshot", "create", "c1", "s2"]);
    state.sh("c1", "cd /data && rm -r moved hard && echo x | dd of=random bs=1 seek=100000 conv=notrunc 2>/dev/null");
    [first, second, state.sh("c1", FACTS)]
}

#[test]
fn what_was_comes_back_from_streams() {
    let Some(state) = on_btrfs("what_was_comes_back_from_streams") else { return };
    let [first, second, third] = filled(&state);
    let out = state.run(&["export", "c1", "x", "--compression", "squashfs", "--optimized-storage"]);
    out.clean_failure().unwrap();
    assert!(out.stderr.contains("Optimized backups can't be compressed with squashfs"), "{out}");
    state.good(&["export", "c1", "b.tar", "--compression", "none", "--optimized-storage"]);
    assert_eq!(state.status("c1").as_deref(), Some("RUNNING"));
    assert_eq!(state.good(&["snapshot", "list", "c1", "-f", "csv", "-c", "n"]), "s1\ns2\n");
    let names = shell(&format!("tar -tf {}", state.path("b.tar").display()));
    let wanted = ["index.yaml", "optimized_header.yaml", "snapshots/s1.bin", "snapshots/s2.bin", "container.bin"];
    assert_eq!(names.lines().collect::<Vec<_>>(), wanted.map(|name| format!("backup/{name}")));
    let size = |name: &str| std::fs::metadata(state.path(name)).unwrap().len();
    shell(&format!("tar -C {} -xf {}", state.dir.display(), state.path("b.tar").display()));
    assert!(size("backup/snapshots/s2.bin") < size("backup/snapshots/s1.bin") / 2, "only what is different");
    state.good(&["storage", "create", "other", "btrfs", "size=512MiB"]);
    for (pool, how) in [("fast", "none"), ("other", "zstd")] {
        state.good(&["export", "c1", "b", "-f", "--compression", how, "--optimized-storage"]);
        state.good(&["import", "b", "c2", "-s", pool]);
        state.good(&["start", "c2"]);
        assert_eq!(state.sh("c2", FACTS), third, "{pool}");
        let file = state.path(&format!("state/pools/{pool}/data/containers/c2/rootfs/data/file"));
        let mut value = [0; 9];
        assert_eq!(rustix::fs::getxattr(&file, "user.mark", &mut value[..]), Ok(4));
        for (snapshot, wanted) in [("s1", &first), ("s2", &second)] {
            state.good(&["snapshot", "restore", "c2", snapshot]);
            assert_eq!(state.sh("c2", FACTS), *wanted, "{pool}, {snapshot}");
        }
        assert_eq!(state.good(&["config", "get", "c2", "user.x"]), "1\n");
        // What came by a stream goes into one.
        state.good(&["export", "c2", "again", "-f", "--optimized-storage"]);
        state.good(&["delete", "-f", "c2"]);
        state.good(&["import", "again"]);
        state.good(&["start", "c2"]);
        assert_eq!(state.sh("c2", FACTS), second, "{pool}");
        state.good(&["delete", "-f", "c2"]);
    }
    let out = state.run(&["import", "b", "c2", "-s", "default"]);
    out.clean_failure().unwrap();
    assert!(out.stderr.contains("Optimized backup storage driver \"btrfs\" differs from"), "{out}");
    // A guest's own subvolumes are in no stream of ours.
    state.good(&["stop", "-f", "c1"]);
    shell(&format!("btrfs -q subvolume create {}", data(&state).join("containers/c1/rootfs/inner").display()));
    let out = state.run(&["export", "c1", "c", "--optimized-storage"]);
    out.clean_failure().unwrap();
    assert!(out.stderr.contains("Subvolumes inside of a volume"), "{out}");
    assert!(!state.path("c").exists());
    state.good(&["storage", "delete", "other"]);
    end(state);
}

#[test]
fn btrfs_itself_reads_and_writes_them() {
    let Some(state) = on_btrfs("btrfs_itself_reads_and_writes_them") else { return };
    filled(&state);
    state.good(&["stop", "-f", "c1"]);
    state.good(&["export", "c1", "b.tar", "--compression", "none", "--optimized-storage"]);
    let (dir, pool) = (state.dir.display(), data(&state));
    shell(&format!("tar -C {dir} -xf {dir}/b.tar"));
    let volumes = ["containers-snapshots/c1@s1", "containers-snapshots/c1@s2", "containers/c1"];
    let files = ["snapshots/s1", "snapshots/s2", "container"];
    let own: Vec<String> = volumes.iter().map(|volume| facts(&pool.join(volume))).collect();
    // Received by it.
    for (n, file) in files.iter().enumerate() {
        let at = pool.join(format!("trash/received{n}"));
        let receive = format!("mkdir {0} && btrfs -q receive -f {dir}/backup/{file}.bin {0}", at.display());
        shell(&receive);
        let inner = std::fs::read_dir(&at).unwrap().next().unwrap().unwrap().path();
        assert_eq!(facts(&inner), own[n], "{file}");
    }
    // Sent by it, of its own copies and with version 2 of the format.
    let program = shell("btrfs version");
    let version = if program.contains(" v5.") { "" } else { "--proto 2" };
    let mut parent = String::new();
    for (n, file) in files.iter().enumerate() {
        let copy = pool.join(format!("trash/copy{n}"));
        let copy = copy.display();
        shell(&format!("btrfs -q subvolume snapshot -r {} {copy}", pool.join(volumes[n]).display()));
        shell(&format!("btrfs -q send {version} {parent} -f {dir}/backup/{file}.bin {copy}"));
        parent = format!("-p {copy}");
    }
    shell(&format!(
        "cd {dir} && tar -cf packed.tar backup/index.yaml backup/snapshots/s1.bin backup/snapshots/s2.bin backup/container.bin"
    ));
    state.good(&["import", "packed.tar", "c2"]);
    for (n, volume) in volumes.iter().enumerate() {
        assert_eq!(facts(&pool.join(volume.replace("c1", "c2"))), own[n], "{volume}");
    }
    let shown = shell(&format!("btrfs subvolume show {}", pool.join("containers-snapshots/c2@s1").display()));
    let received = shown.lines().find(|line| line.contains("Received UUID")).unwrap();
    assert!(received.split_whitespace().nth(2).is_some_and(|id| id.len() == 36), "{received}");
    shell(&format!(
        "for v in {0}/copy* {0}/received*/*; do btrfs -q subvolume delete $v; done; rmdir {0}/received*",
        pool.join("trash").display()
    ));
    end(state);
}

#[test]
fn volumes_as_streams() {
    let Some(state) = on_btrfs("volumes_as_streams") else { return };
    let volume = |words: &str| state.good(&format!("storage volume {words}").split(' ').collect::<Vec<_>>());
    volume("create fast v1 user.x=1 size=64MiB");
    let root = |name: &str| data(&state).join("custom").join(format!("default_{name}"));
    shell(&format!("cd {} && echo early >f && chown 7:8 . && chmod 3750 . && ln f g", root("v1").display()));
    let early = facts(&root("v1"));
    volume("snapshot create fast v1 s1");
    shell(&format!("cd {} && echo later >f && mkdir d && touch d/x backup.yaml", root("v1").display()));
    let later = facts(&root("v1"));
    volume("export fast v1 b --optimized-storage");
    volume("import fast b v2");
    assert_eq!(facts(&root("v2")), later);
    let own = shell(&format!("stat -c '%u:%g %a' {}; ls -A {0}", root("v2").display()));
    assert_eq!(own, "7:8 3750\nbackup.yaml\nd\nf\ng\n");
    assert_eq!(volume("get fast v2 size"), "64MiB\n");
    volume("snapshot restore fast v2 s1");
    assert_eq!(facts(&root("v2")), early);
    volume("export fast v2 c --optimized-storage --volume-only");
    volume("import fast c v3");
    assert_eq!(facts(&root("v3")), early);
    for name in ["v1", "v2", "v3"] {
        volume(&format!("delete fast {name}"));
    }
    end(state);
}

/// A stream made by hand.
struct Stream(Vec<u8>);

fn value(number: u16, data: &[u8]) -> Vec<u8> {
    [&number.to_le_bytes(), &(data.len() as u16).to_le_bytes(), data].concat()
}

fn at(path: &str) -> Vec<u8> {
    value(15, path.as_bytes())
}

impl Stream {
    fn begun() -> Self {
        Self(b"btrfs-stream\0\x01\0\0\0".to_vec()).then(1, &[value(1, &[7; 16]), value(2, &[9; 8])])
    }

    fn then(mut self, number: u16, values: &[Vec<u8>]) -> Self {
        let body = values.concat();
        let mut all = [&(body.len() as u32).to_le_bytes()[..], &number.to_le_bytes(), &[0; 4], &body].concat();
        let sum = all.iter().fold(0, |sum, byte| {
            let shift = |sum: u32, _| if sum & 1 == 1 { sum >> 1 ^ 0x82f6_3b78 } else { sum >> 1 };
            (0..8).fold(sum ^ u32::from(*byte), shift)
        });
        all[6..10].copy_from_slice(&sum.to_le_bytes());
        self.0.extend(all);
        self
    }

    fn file(self, path: &str) -> Self {
        self.then(3, &[at(path)])
    }

    fn dir(self, path: &str) -> Self {
        self.then(4, &[at(path)])
    }

    fn symlink(self, path: &str, target: &str) -> Self {
        self.then(8, &[at(path), value(17, target.as_bytes())])
    }

    fn write(self, path: &str) -> Self {
        self.then(15, &[at(path), value(18, &[0; 8]), value(19, b"written")])
    }

    fn clone_from(self, uuid: u8, path: &str) -> Self {
        let number = |number, n: u64| value(number, &n.to_le_bytes());
        let from = [value(20, &[uuid; 16]), number(21, 0), value(22, path.as_bytes()), number(23, 0)];
        let to = [at("made"), number(18, 0), number(24, 4096)];
        self.file("made").then(16, &[&to[..], &from[..]].concat())
    }

    fn end(self) -> Vec<u8> {
        self.then(21, &[]).0
    }

    /// With what an instance's volume has.
    fn whole(self) -> Self {
        self.dir("rootfs").file("metadata.yaml")
    }
}

const INDEX: &str = "name: c9\nbackend: btrfs\npool: fast\noptimized: true\noptimized_header: false\ntype: container\nconfig:\n  \
     container:\n    architecture: x86_64\n    config: {}\n    devices: {}\n    ephemeral: false\n    profiles:\n    - default\n    \
     name: c9\n    type: container\n";

fn packed(streams: &[(&str, &[u8])]) -> Vec<u8> {
    let begun = Ar::default().file("backup/index.yaml", INDEX.as_bytes());
    streams.iter().fold(begun, |ar, (name, bytes)| ar.file(&format!("backup/{name}.bin"), bytes)).finish()
}

/// What it is, the stream, and what must be said. `out`: a file of the host's.
fn bad(out: &str) -> Vec<(&'static str, Vec<u8>, &'static str)> {
    let s = || Stream::begun().whole();
    let up = format!("../../../../../../../../../../../..{out}");
    vec![
        ("climbs", s().file("../x").end(), "the name"),
        ("climbs to the host", s().write(&up).end(), "the name"),
        ("absolute", s().write(out).end(), "the name"),
        ("through a link", s().symlink("l", "/tmp").file("l/stapes-made").end(), "Failed receiving"),
        ("writes through a link", s().symlink("l", out).write("l").end(), "Failed receiving"),
        (
            "cuts through a link",
            s().symlink("l", out).then(17, &[at("l"), value(4, &[0; 8])]).end(),
            "Failed receiving",
        ),
        ("mode through a link", s().symlink("l", out).then(18, &[at("l"), value(5, &[255; 8])]).end(), "symlink"),
        (
            "links a link's target",
            s().symlink("l", "/etc").then(10, &[at("h"), value(17, b"l/passwd")]).end(),
            "Failed receiving",
        ),
        (
            "renames into a link",
            s().symlink("l", "/tmp").file("f").then(9, &[at("f"), value(16, b"l/f")]).end(),
            "Failed receiving",
        ),
        ("removes through a link", s().symlink("l", "/tmp").then(11, &[at("l/x")]).end(), "Failed receiving"),
        ("writes to a pipe", s().then(6, &[at("p")]).write("p").end(), "Not a regular file"),
        ("writes to a folder", s().write("rootfs").end(), "Not a regular file"),
    ]
}

/// The same of those that are no good for another reason.
fn bad_otherwise(out: &str) -> Vec<(&'static str, Vec<u8>, &'static str)> {
    let s = || Stream::begun().whole();
    let good = s().end();
    let mut wrong_sum = good.clone();
    *wrong_sum.last_mut().unwrap() ^= 1;
    let oversize = [&s().0[..], &[255, 255, 255, 0, 3, 0, 0, 0, 0, 0]].concat();
    vec![
        ("makes the root", s().file("").end(), "its root"),
        ("removes the root", s().then(12, &[at("")]).end(), "Bad path"),
        ("shares with a stranger", s().clone_from(8, "metadata.yaml").end(), "shares blocks"),
        ("shares with a link", s().symlink("l", out).clone_from(7, "l").end(), "Failed receiving"),
        (
            "builds upon nothing",
            {
                let header = b"btrfs-stream\0\x01\0\0\0".to_vec();
                Stream(header).then(2, &[value(1, &[7; 16]), value(2, &[9; 8]), value(20, &[6; 16])]).end()
            },
            "builds upon",
        ),
        ("wrong checksum", wrong_sum, "checksum"),
        ("oversize", oversize, "16777215"),
        ("cut", good[..good.len() - 3].to_vec(), "truncated"),
        ("without an end", s().0, "truncated"),
        ("more than the end", [&good[..], b"x"].concat(), "after its end"),
        ("no rootfs", Stream::begun().file("metadata.yaml").end(), "rootfs"),
        ("rootfs as a link", Stream::begun().file("metadata.yaml").symlink("rootfs", "/").end(), "rootfs"),
        ("metadata as a link", Stream::begun().dir("rootfs").symlink("metadata.yaml", out).end(), "metadata.yaml"),
        (
            "metadata as a file of the guest's",
            {
                let linked = value(17, b"rootfs/f");
                Stream::begun().dir("rootfs").file("rootfs/f").then(10, &[at("metadata.yaml"), linked]).end()
            },
            "no file of its own",
        ),
        ("template as a link", s().dir("templates").symlink("templates/t", out).end(), "template"),
        ("templates as a link", s().symlink("templates", "/etc").end(), "templates"),
    ]
}

#[test]
fn hostile_streams_are_refused() {
    let Some(state) = on_btrfs("hostile_streams_are_refused") else { return };
    let victim = state.path("victim");
    std::fs::write(&victim, "untouched").unwrap();
    let out = victim.to_str().unwrap();
    let mut wrong = String::new();
    let mut refused = |what: &str, bytes: &[u8], said: &str| {
        std::fs::write(state.path("bad"), bytes).unwrap();
        let out = state.run(&["import", "bad"]);
        out.clean_failure().unwrap_or_else(|e| panic!("{what}: {e}"));
        for folder in ["containers", "containers-snapshots", "trash"] {
            assert_eq!(std::fs::read_dir(data(&state).join(folder)).unwrap().count(), 0, "{what}: {folder}");
        }
        assert_eq!(std::fs::read_to_string(&victim).unwrap(), "untouched", "{what}");
        assert!(!Path::new("/tmp/stapes-made").exists());
        if !out.stderr.contains(said) {
            wrong += &format!("{what}: {out}\n");
        }
    };
    for (what, bytes, said) in bad(out).into_iter().chain(bad_otherwise(out)) {
        refused(what, &packed(&[("container", &bytes)]), said);
    }
    let good = Stream::begun().whole().end();
    refused("none", &packed(&[]), "missing");
    refused("twice", &packed(&[("container", &good), ("container", &good)]), "no stream of a volume");
    refused("nested", &packed(&[("container_inner", &good)]), "Subvolumes inside of a volume");
    refused("other snapshot", &packed(&[("snapshots/s1", &good)]), "belongs to nothing");
    let shifted = "config: {volatile.last_state.idmap: '[{\"Isuid\":true}]'}";
    let index = INDEX.replacen("config: {}", shifted, 1);
    let ar = Ar::default().file("backup/index.yaml", index.as_bytes()).file("backup/container.bin", &good);
    refused("shifted", &ar.finish(), "shifted owners");
    assert!(wrong.is_empty(), "{wrong}");
    // The same without what was wrong with it; what lies beside goes, and what the host reads is the host's.
    let more = Stream::begun()
        .whole()
        .write("metadata.yaml")
        .then(19, &[at("metadata.yaml"), value(6, &[9, 0, 0, 0, 0, 0, 0, 0]), value(7, &[0; 8])]);
    let more = more
        .then(18, &[at("metadata.yaml"), value(5, &[255, 15, 0, 0, 0, 0, 0, 0])])
        .dir("state")
        .symlink("state/x", out);
    std::fs::write(state.path("good"), packed(&[("container", &more.symlink("backup.yaml", out).end())])).unwrap();
    state.good(&["import", "good"]);
    let shown = shell(&format!(
        "cd {} && ls -A && stat -c '%u %a' metadata.yaml . && cat metadata.yaml",
        data(&state).join("containers/c9").display()
    ));
    assert_eq!(shown, "metadata.yaml\nrootfs\n0 755\n0 700\nwritten");
    end(state);
}
