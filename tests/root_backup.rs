//! Backups of instances: what was comes back, here and on another pool, and no archive, whoever made it, does harm.
#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "a test: its files are no records"
)]

#[path = "root_backup/as_incus.rs"]
mod as_incus;
mod common_root;
#[path = "root_backup/dependent.rs"]
mod dependent;
mod image_common;
#[path = "root_backup/optimized.rs"]
mod optimized;
#[path = "root_lifecycle/support.rs"]
#[allow(dead_code, reason = "each test program uses a part of it")]
mod support;
#[path = "root_snapshots/tree.rs"]
mod tree;

use common_root::{PATIENCE, State, run};
use image_common::{Ar, gzip, zstd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::process::{Command, Stdio};
use support::{Ask, state};
use tree::{FACTS, FILL};

/// A second pool `plain` with the driver `dir`.
fn second_pool(state: &State) {
    let text = "storage_pools: [{name: plain, driver: dir}]\n";
    run(state.command(&["admin", "init", "--preseed"]), Some(text), PATIENCE).good().unwrap();
}

#[test]
fn what_was_comes_back() {
    let Some(state) = state("what_was_comes_back") else { return };
    second_pool(&state);
    let nic = ["-d", "eth0,type=nic", "-d", "eth0,nictype=p2p"];
    state.launch("c1", &[&["-c", "user.x=1"], &nic[..]].concat()).good().unwrap();
    state.sh("c1", FILL);
    let early = state.sh("c1", FACTS);
    let volume = |verb: &str, of: &str, word: &str| state.good(&["storage", "volume", verb, "default", of, word]);
    volume("set", "container/c1", "user.said=early");
    state.good(&["snapshot", "create", "c1", "s1"]);
    volume("set", "container/c1", "user.said=late");
    state.good(&["storage", "volume", "set", "default", "container/c1", "description=Mine", "--property"]);
    state.sh("c1", "rm -r /data/deep; echo more >>/data/file");
    let late = state.sh("c1", FACTS);
    for (n, how) in ["gzip", "zstd -1", "xz -0", "none", "lz4", "bzip2 -1", "squashfs"].iter().enumerate() {
        let (file, name) = (format!("b{n}"), format!("r{n}"));
        state.good(&["export", "c1", &file, "--compression", how]);
        let pool = if n % 2 == 0 { "plain" } else { "default" };
        state.good(&["import", &file, &name, "-s", pool]);
        let generation = |of: &str| state.good(&["config", "get", of, "volatile.uuid.generation"]);
        assert_eq!(generation(&name), generation("c1"));
        state.good(&["start", &name]);
        assert_eq!(state.sh(&name, FACTS), late, "{how}");
        state.good(&["snapshot", "restore", &name, "s1"]);
        assert_eq!(state.sh(&name, FACTS), early, "{how}");
        let key = |key: &str| state.good(&["config", "get", &name, key]);
        assert_eq!(key("user.x"), "1\n");
        for same in ["volatile.eth0.hwaddr", "volatile.uuid", "volatile.uuid.generation"] {
            let there = key(same);
            // What was restored has gone back in time.
            let restored = same.ends_with("generation");
            assert_eq!(there == state.good(&["config", "get", "c1", same]), !restored, "{same}: {there}");
        }
        state.good(&["delete", "-f", &name]);
    }
    assert_eq!(std::fs::metadata(state.path("b0")).unwrap().mode() & 0o777, 0o600, "others need not read it");
    assert_eq!(state.status("c1").as_deref(), Some("RUNNING"));
    // In its place again, by a pipe, without its snapshot, with other keys.
    let mut out = state.command(&["export", "c1", "-", "--instance-only"]);
    let mut sender = out.stdout(Stdio::piped()).spawn().unwrap();
    let mut receiver = state.command(&["import", "-", "c2", "-c", "user.x=2", "-d", "eth0,name=lan0"]);
    assert!(receiver.stdin(sender.stdout.take().unwrap()).status().unwrap().success());
    assert!(sender.wait().unwrap().success());
    assert_eq!(state.good(&["snapshot", "list", "c2", "-f", "csv"]), "");
    assert_eq!(state.good(&["config", "get", "c2", "user.x"]), "2\n");
    state.good(&["delete", "-f", "c1"]);
    state.good(&["export", "c2"]);
    state.good(&["delete", "c2"]);
    state.good(&["import", "c2.tar.gz"]);
    state.good(&["start", "c2"]);
    assert_eq!(state.sh("c2", FACTS), late);
    // What was said about the volumes, too.
    state.good(&["import", "b0", "c3", "-s", "default"]);
    for (of, said) in [("container/c2", "late\n"), ("container/c3", "late\n"), ("container/c3/s1", "early\n")] {
        assert_eq!(volume("get", of, "user.said"), said, "{of}");
    }
    assert!(volume("show", "container/c3", "-q").contains("description: Mine"));
    state.finish();
}

/// A device is written to, and a link is followed: neither becomes a file.
#[test]
fn devices_and_links_stay_what_they_are() {
    let Some(state) = state("devices_and_links_stay_what_they_are") else { return };
    state.good(&["create", "test", "c1"]);
    state.good(&["storage", "volume", "create", "default", "v1"]);
    let made = Command::new("mknod").arg(state.path("null")).args(["c", "1", "3"]).status().unwrap();
    assert!(made.success(), "mknod");
    std::os::unix::fs::symlink("there", state.path("link")).unwrap();
    std::os::unix::fs::symlink("null", state.path("to-null")).unwrap();
    for name in ["null", "link", "to-null"] {
        for words in [&["export", "c1"][..], &["storage", "volume", "export", "default", "v1"]] {
            let words = |more: &[&'static str]| [words, &[name], more].concat();
            if name != "link" || state.path("there").exists() {
                let out = state.run(&words(&[]));
                out.clean_failure().unwrap();
                assert!(out.stderr.contains("already exists"), "{out}");
            }
            state.good(&words(&["-f"]));
        }
    }
    let kind = |name: &str| std::fs::symlink_metadata(state.path(name)).unwrap().file_type();
    assert!(kind("null").is_char_device() && kind("link").is_symlink() && kind("to-null").is_symlink());
    state.good(&["storage", "volume", "import", "default", "there", "v2"]);
    assert_eq!(std::fs::metadata(state.path("there")).unwrap().mode() & 0o777, 0o600);
    for name in ["v1", "v2"] {
        state.good(&["storage", "volume", "delete", "default", name]);
    }
    state.finish();
}

#[test]
fn another_pool_if_its_own_is_gone() {
    let Some(state) = state("another_pool_if_its_own_is_gone") else { return };
    second_pool(&state);
    state.good(&["create", "test", "c1", "-s", "plain"]);
    state.good(&["export", "c1", "b"]);
    state.good(&["delete", "c1"]);
    state.good(&["storage", "delete", "plain"]);
    let import = |words: &[&str]| state.run(&[&["import", "b"], words].concat());
    let refused = |words: &[&str]| {
        let out = import(words);
        out.clean_failure().unwrap();
        assert!(out.stderr.contains("not found"), "{out}");
    };
    let there = || {
        assert_eq!(state.good(&["config", "device", "get", "c1", "root", "pool"]), "default\n");
        state.good(&["delete", "c1"]);
    };
    import(&[]).good().unwrap();
    there();
    state.good(&["profile", "device", "remove", "default", "root"]);
    refused(&[]);
    refused(&["-s", "plain"]);
    import(&["-s", "default"]).good().unwrap();
    state.good(&["start", "c1"]);
    state.good(&["stop", "-f", "c1"]);
    there();
    state.finish();
}

#[test]
fn other_tools_read_it() {
    let Some(state) = state("other_tools_read_it") else { return };
    state.launch("c1", &[]).good().unwrap();
    state.sh("c1", FILL);
    state.good(&["snapshot", "create", "c1", "s1"]);
    state.good(&["stop", "-f", "c1"]);
    state.good(&["export", "c1", "b.tar.gz"]);
    let list = Command::new("tar").arg("-tf").arg(state.path("b.tar.gz")).output().unwrap();
    assert!(list.status.success(), "{list:?}");
    let names = String::from_utf8(list.stdout).unwrap();
    let lines: Vec<&str> = names.lines().collect();
    assert_eq!(lines[0], "backup/index.yaml");
    for wanted in [
        "backup/container/",
        "backup/container/backup.yaml",
        "backup/container/metadata.yaml",
        "backup/container/rootfs/data/holes",
        "backup/snapshots/s1/rootfs/data/fifo",
    ] {
        assert!(lines.contains(&wanted), "{wanted} of {names}");
    }
    let tar = |args: &[&str]| {
        let done =
            Command::new("tar").args(args).arg(state.path("b.tar.gz")).arg("-C").arg(&state.dir).output().unwrap();
        assert!(done.status.success(), "{done:?}");
    };
    tar(&["-x", "--numeric-owner", "-f"]);
    let unpacked = std::fs::metadata(state.path("backup/container/rootfs/data/file")).unwrap();
    assert_eq!((unpacked.uid(), unpacked.gid(), unpacked.mode() & 0o7777, unpacked.nlink()), (1000, 33, 0o4755, 2));
    // Packed again by another program, in another order and form.
    let mut pack = Command::new("tar");
    pack.args(["-C", state.dir.to_str().unwrap(), "--numeric-owner", "--format=gnu", "-cJf"])
        .arg(state.path("o.tar.xz"));
    assert!(pack.args(["backup/index.yaml", "backup/snapshots", "backup/container"]).status().unwrap().success());
    state.good(&["import", "o.tar.xz", "c2"]);
    state.good(&["start", "c1", "c2"]);
    assert_eq!(state.sh("c1", FACTS), state.sh("c2", FACTS));
    state.finish();
}

/// An index in Incus's form; `change` is put in place of its line `HERE`.
fn index(change: &str) -> String {
    let given = "name: c9\nbackend: dir\npool: default\noptimized: false\ntype: container\nsnapshots:\n- s1\nconfig:\n  \
         container:\n    architecture: x86_64\n    config:\n      user.x: \"1\"\n      volatile.uuid: \
         d3c4c1a7-9adf-40ab-863d-d3415dacac58\n    devices: {}\n    ephemeral: false\n    profiles:\n    - default\n    \
         name: c9\n    type: container\n  snapshots:\n  - name: s1\n    architecture: x86_64\n    config: {}\n    devices: {}\n    \
         profiles: [default]\n";
    change.split_once("=>").map_or_else(|| given.to_string(), |(from, to)| given.replacen(from, to, 1))
}

/// The rest of a good one.
fn body(ar: Ar) -> Ar {
    let passwd = b"root:x:0:0::/:/bin/sh\n";
    let volume = |ar: Ar, at: &str| {
        ar.dir(&format!("{at}/"), 0o755)
            .file(&format!("{at}/metadata.yaml"), b"architecture: x86_64\ncreation_date: 1\n")
            .dir(&format!("{at}/rootfs/"), 0o755)
            .dir(&format!("{at}/rootfs/etc/"), 0o755)
            .file(&format!("{at}/rootfs/etc/passwd"), passwd)
    };
    volume(volume(ar, "backup/snapshots/s1"), "backup/container")
}

/// Empty, or what it said instead.
fn refused(state: &State, what: &str, bytes: &[u8], said: &str) -> String {
    std::fs::write(state.path("bad"), bytes).unwrap();
    let out = state.run(&["import", "bad"]);
    out.clean_failure().unwrap_or_else(|e| panic!("{what}: {e}"));
    assert_eq!(state.instances().unwrap(), [], "{what}");
    let pool = state.dir.join("state/pools/default/data");
    for folder in ["containers", "containers-snapshots", "custom", "custom-snapshots", "trash"] {
        assert_eq!(std::fs::read_dir(pool.join(folder)).unwrap().count(), 0, "{what}: {folder}");
    }
    if out.stderr.contains(said) { String::new() } else { format!("{what}: {out}\n") }
}

#[test]
fn hostile_indexes_are_refused() {
    let Some(state) = state("hostile_indexes_are_refused") else { return };
    let with = |change: &str| {
        let bytes = body(Ar::default().file("backup/index.yaml", index(change).as_bytes())).finish();
        if change.len().is_multiple_of(2) { gzip(&bytes) } else { zstd(&bytes) }
    };
    std::fs::write(state.path("good"), with("")).unwrap();
    state.good(&["import", "good"]);
    assert_eq!(state.good(&["config", "get", "c9", "user.x"]), "1\n");
    state.good(&["delete", "c9"]);
    // Incus says so of a pool whose driver has no such form, and writes files.
    std::fs::write(state.path("good"), with("optimized: false=>optimized: true")).unwrap();
    state.good(&["import", "good"]);
    state.good(&["snapshot", "restore", "c9", "s1"]);
    state.good(&["delete", "c9"]);
    let mut wrong = String::new();
    for (change, said) in [
        ("name: c9=>name: ../../etc", "reserved"),
        ("name: c9=>name: \"\"", "Invalid"),
        ("name: c9=>name: [a]", "index.yaml"),
        ("- s1=>- ../x", "Invalid"),
        ("- s1=>- s1\n- s1", "twice"),
        ("- s1=>- s2", "no record"),
        ("type: container=>type: virtual-machine", "not supported"),
        ("type: container=>type: custom", "stapes storage volume import"),
        (
            "backend: dir\npool: default\noptimized: false=>backend: btrfs\noptimized: true",
            "Optimized backup storage driver \"btrfs\" differs from",
        ),
        ("user.x: \"1\"=>no.such.key: \"1\"", "nknown"),
        ("user.x: \"1\"=>limits.memory: lots", "limits.memory"),
        ("devices: {}=>devices: {a: {type: disk}}", "a"),
        ("devices: {}=>devices: {../a: {type: none}}", "nvalid"),
        ("devices: {}=>devices: {a: {type: nosuch}}", "Unsupported device type"),
        ("- default=>- nope", "Requested profile \"nope\" doesn't exist"),
        ("- default=>- ../default", "nvalid"),
        ("architecture: x86_64=>architecture: z80", "z80"),
        ("volatile.uuid: d=>volatile.uuid: ../", "nvalid"),
        ("config:\n  container:=>config:\n  other:", "No instance config"),
        ("name: c9=>%YAML", "index.yaml"),
    ] {
        assert_ne!(index(change), index(""), "{change}");
        wrong += &refused(&state, change, &with(change), said);
    }
    assert!(wrong.is_empty(), "{wrong}");
    state.finish();
}

/// What it is, the archive, and what must be said. `out`: a file of the host's.
fn bad(out: &str) -> Vec<(&'static str, Vec<u8>, &'static str)> {
    let whole = body(begin()).finish();
    vec![
        ("no index", body(Ar::default()).finish(), "Backup is missing"),
        ("index as link", body(Ar::default().symlink("backup/index.yaml", out)).finish(), "Backup is missing"),
        (
            "index late",
            body(Ar::default().file("backup/x", b"")).file("backup/index.yaml", b"").finish(),
            "Backup is missing",
        ),
        ("nothing", Vec::new(), "ot an"),
        ("cut short", whole[..whole.len() / 2].to_vec(), "truncated"),
        ("no files", begin().finish(), "missing"),
        ("climbs", body(begin().file("backup/container/rootfs/../../../../../victim", b"x")).finish(), "leads upwards"),
        ("climbs by snapshot", body(begin().file("backup/snapshots/../../x", b"x")).finish(), "leads upwards"),
        ("other snapshot", body(begin().file("backup/snapshots/s2/rootfs/x", b"x")).finish(), "not in the index"),
        ("elsewhere", body(begin().file("backup/other/x", b"x")).finish(), "belongs to nothing"),
        ("absolute", body(begin().file("/etc/x", b"x")).finish(), "belongs to nothing"),
        ("rootfs as link", begin().symlink("backup/container/rootfs", "/").finish(), "no folder"),
        (
            "metadata as link",
            body(begin().symlink("backup/container/metadata.yaml", out)).finish(),
            "neither a file nor a folder",
        ),
        (
            "templates as link",
            body(begin().symlink("backup/container/templates", "/etc")).finish(),
            "neither a file nor a folder",
        ),
        (
            "config as node",
            body(begin().node(b'3', "backup/container/config.json", 1, 5)).finish(),
            "neither a file nor a folder",
        ),
        (
            "link to another volume",
            body(begin()).hard_link("backup/container/rootfs/x", "backup/snapshots/s1/rootfs/etc/passwd").finish(),
            "out of its volume",
        ),
        (
            "link beside the root",
            body(begin()).hard_link("backup/container/rootfs/x", "backup/container/metadata.yaml").finish(),
            "out of the \"rootfs\"",
        ),
        ("link out", body(begin()).hard_link("backup/container/rootfs/x", "../victim").finish(), "leads upwards"),
        ("link to the host", body(begin()).hard_link("backup/container/rootfs/x", out).finish(), "out of its volume"),
    ]
}

fn begin() -> Ar {
    Ar::default().file("backup/index.yaml", index("").as_bytes())
}

#[test]
fn hostile_archives_are_refused() {
    let Some(state) = state("hostile_archives_are_refused") else { return };
    let victim = state.path("victim");
    std::fs::write(&victim, "untouched").unwrap();
    let out = victim.to_str().unwrap();
    let mut wrong = String::new();
    for (what, bytes, said) in bad(out) {
        wrong += &refused(&state, what, &bytes, said);
        assert_eq!(std::fs::read_to_string(&victim).unwrap(), "untouched", "{what}");
    }
    assert!(wrong.is_empty(), "{wrong}");
    // A link that leads out as seen from the host leads in as seen from the container.
    let inward = body(begin()).symlink("backup/container/rootfs/up", "/").file("backup/container/rootfs/up/made", b"x");
    std::fs::write(state.path("inward"), gzip(&inward.finish())).unwrap();
    state.good(&["import", "inward"]);
    assert_eq!(state.good(&["file", "pull", "c9/made", "-"]), "x");
    assert!(!std::path::Path::new("/made").exists());
    // What Incus keeps beside the root and is no business of ours does not come along.
    state.good(&["delete", "c9"]);
    let more = body(begin().symlink("backup/container/backup.yaml", out).file("backup/container/state/x", b"x"));
    std::fs::write(state.path("more"), more.finish()).unwrap();
    state.good(&["import", "more"]);
    let folder = state.dir.join("state/pools/default/data/containers/c9");
    let mut names: Vec<_> = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["metadata.yaml", "rootfs"]);
    state.finish();
}

/// As the rows about partial and damaged backups want it: whatever is wrong, one clear error, and nothing is left.
#[test]
fn damaged_ones_do_no_harm() {
    let Some(state) = state("damaged_ones_do_no_harm") else { return };
    let good = body(begin()).finish();
    let index = 512..512 + index("").len();
    let mut seed = 0x2026_1126_u64;
    let mut random = move |below: usize| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) as usize % below
    };
    let mut made = 0;
    for n in 0..if common_root::brief() { 20 } else { 150 } {
        let mut bytes = good.clone();
        match n % 3 {
            // In the index, anywhere, or cut.
            0 => (0..=random(4)).for_each(|_| bytes[index.start + random(index.len())] = random(256) as u8),
            1 => (0..=random(8)).for_each(|_| bytes[random(good.len())] = random(256) as u8),
            _ => bytes.truncate(random(good.len())),
        }
        std::fs::write(state.path("damaged"), &bytes).unwrap();
        let out = state.run(&["import", "damaged", "c9"]);
        match out.ok() {
            true => {
                made += 1;
                state.good(&["delete", "c9"]);
            }
            false => out.clean_failure().unwrap_or_else(|e| panic!("number {n}: {e}")),
        }
    }
    assert!(made < 100, "hardly anything was refused");
    state.finish();
}

#[test]
fn wrong_words() {
    let Some(state) = state("wrong_words") else { return };
    state.good(&["create", "test", "c1"]);
    state.good(&["export", "c1", "b.tar.gz"]);
    for (words, said) in [
        ("export c1 b.tar.gz", "Target path \"b.tar.gz\" already exists"),
        ("export c9 x", "Instance not found"),
        ("export c1 no/such/folder/x", "Failed writing"),
        ("export c1 x --compression nope", "nope"),
        ("import b.tar.gz", "already exists"),
        ("import nope.tar.gz", "No such file"),
        ("import b.tar.gz c_2", "Invalid"),
        ("import b.tar.gz c2 -s nope", "not found"),
        ("import b.tar.gz c2 -c no.such=1", "nknown"),
        ("import .", "is a folder"),
        ("import local:", "not enough arguments"),
    ] {
        let out = state.run(&words.split(' ').collect::<Vec<_>>());
        out.clean_failure().unwrap();
        assert!(out.stderr.contains(said), "{out}");
    }
    let left = std::fs::read_dir(&state.dir)
        .unwrap()
        .filter(|e| e.as_ref().unwrap().file_name().to_string_lossy().starts_with(".stapes"));
    assert_eq!(left.count(), 0);
    state.good(&["export", "c1", "b.tar.gz", "-f"]);
    state.finish();
}
