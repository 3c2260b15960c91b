//! Volumes that go with an instance, in its backup: they come back with it, under their names or others, and no index and no
//! archive, whoever made them, does harm.

use super::common_root::{State, have};
use super::image_common::Ar;
use super::support::{Ask, state};
use super::{body, index, refused, second_pool};
use std::path::Path;
use std::process::Command;

/// What `name` has in its root and both volumes.
fn says(state: &State, name: &str) -> String {
    state.sh(name, "cat /root/f /v/f /w/f; stat -c '%a %h %u %g' /v/g")
}

/// Writes `word` to all three.
fn write(state: &State, word: &str) {
    state.sh("c1", &format!("for d in root v w; do echo {word} >/$d/f; done; ln -f /v/f /v/g; chown 1000:1000 /v/g"));
}

fn has(word: &str) -> String {
    format!("{word}\n{word}\n{word}\n644 2 1000 1000")
}

fn volumes(state: &State, pool: &str) -> String {
    let all = state.good(&["storage", "volume", "list", pool, "-f", "csv", "-c", "tn"]);
    all.lines().filter(|line| line.starts_with("custom")).map(|line| format!("{line}\n")).collect()
}

/// `c1` on `root` with `dv` on `other` and `dw` on `root`, two snapshots, and a third state.
fn made(state: &State, root: &str, other: &str) {
    state.good(&["create", "test", "c1", "-s", root]);
    for (device, pool, name, path) in [("dv", other, "v", "/v"), ("dw", root, "w", "/w")] {
        state.good(&["storage", "volume", "create", pool, name, "user.of=them"]);
        let (pool, source, path) = (format!("pool={pool}"), format!("source={name}"), format!("path={path}"));
        state.good(&["config", "device", "add", "c1", device, "disk", &pool, &source, &path, "dependent=true"]);
    }
    state.good(&["start", "c1"]);
    write(state, "one");
    state.good(&["snapshot", "create", "c1", "s1"]);
    write(state, "two");
    state.good(&["snapshot", "create", "c1", "s2"]);
    write(state, "three");
}

/// The copy `name` is what `c1` was in all three states.
fn whole(state: &State, name: &str) {
    state.good(&["start", name]);
    assert_eq!(says(state, name), has("three"));
    for (snapshot, word) in [("s1", "one"), ("s2", "two")] {
        state.good(&["snapshot", "restore", name, snapshot]);
        assert_eq!(says(state, name), has(word));
    }
    state.good(&["delete", "-f", name]);
}

#[test]
fn dependent_volumes_come_back() {
    let Some(state) = state("dependent_volumes_come_back") else { return };
    second_pool(&state);
    made(&state, "default", "plain");
    // Running: all of one moment, and nothing stays of that.
    state.good(&["export", "c1", "b.tar", "--compression", "none"]);
    assert_eq!(volumes(&state, "plain"), "custom,v\ncustom (snapshot),v/s1\ncustom (snapshot),v/s2\n");
    let list = Command::new("tar").arg("-tf").arg(state.path("b.tar")).output().unwrap();
    let list = String::from_utf8(list.stdout).unwrap();
    for name in ["dv/volume/f", "dv/volume-snapshots/s1/f", "dw/volume/f", "dw/volume-snapshots/s2/f"] {
        assert!(list.lines().any(|line| line == format!("backup/{name}")), "{list}");
    }
    for (words, said) in [
        (&["n1"][..], "Failed importing the volume of the device \"d"),
        (&["n1", "-d", "dv,source=n"], "--device dw,source=<new volume>"),
        (&["n1", "-d", "dv,source=n", "-d", "dv,pool=default", "-d", "dw,source=n"], "is not attached to the instance"),
        (&["n1", "-d", "dv,source=n", "-d", "dw,dependent=false"], "is not attached to the instance"),
    ] {
        let out = state.run(&[&["import", "b.tar"], words].concat());
        out.clean_failure().unwrap();
        assert!(out.stderr.contains(said), "{words:?}: {out}");
    }
    assert_eq!(volumes(&state, "default"), "custom,w\ncustom (snapshot),w/s1\ncustom (snapshot),w/s2\n");
    state.good(&["import", "b.tar", "n1", "-d", "dv,source=nv", "-d", "dw,source=nw"]);
    assert_eq!(state.good(&["storage", "volume", "get", "plain", "nv", "user.of"]), "them\n");
    assert_eq!(state.good(&["storage", "volume", "get", "plain", "nv", "dependent"]), "true\n");
    whole(&state, "n1");
    let volume = ["-d", "dv,source=nv", "-d", "dw,source=nw", "-d", "dv,pool=default", "-s", "plain"];
    state.good(&[&["import", "b.tar", "n1"], &volume[..]].concat());
    assert!(volumes(&state, "default").contains("custom,nv\n"));
    whole(&state, "n1");
    // Without their snapshots, and without them.
    state.good(&["export", "c1", "only.tar", "--compression", "none", "--instance-only"]);
    state.good(&["export", "c1", "root.tar", "--compression", "none", "--root-only"]);
    state.good(&["delete", "-f", "c1"]);
    assert_eq!((volumes(&state, "default"), volumes(&state, "plain")), (String::new(), String::new()));
    let out = state.run(&["import", "root.tar"]);
    out.clean_failure().unwrap();
    assert!(out.stderr.contains("Storage volume not found"), "{out}");
    state.good(&["import", "only.tar"]);
    assert_eq!(volumes(&state, "plain"), "custom,v\n");
    state.good(&["delete", "c1"]);
    // The pool of one is not here: it comes to where the instance does. In another project, too.
    state.good(&["storage", "delete", "plain"]);
    state.good(&["project", "create", "p1", "-c", "features.images=false", "-c", "features.profiles=false"]);
    state.good(&["import", "b.tar", "--project", "p1"]);
    let own = state.good(&["storage", "volume", "list", "default", "--project", "p1", "-f", "csv", "-c", "tn"]);
    assert!(own.contains("custom,v\n") && own.contains("custom (snapshot),w/s2\n"), "{own}");
    state.good(&["snapshot", "restore", "c1", "s1", "--project", "p1"]);
    assert_eq!(state.good(&["storage", "volume", "file", "pull", "default", "v/f", "-", "--project", "p1"]), "one\n");
    state.good(&["delete", "c1", "--project", "p1"]);
    state.good(&["project", "delete", "p1"]);
    state.good(&["import", "b.tar"]);
    whole(&state, "c1");
    state.finish();
}

#[test]
fn dependent_volumes_come_back_as_streams() {
    let test = "dependent_volumes_come_back_as_streams";
    if !(have("mkfs.btrfs") && Path::new("/dev/loop-control").exists()) {
        return super::common_root::skip(test, "no mkfs.btrfs (apt-get install btrfs-progs) or no loop devices");
    }
    let Some(state) = state(test) else { return };
    for pool in ["fast", "other"] {
        state.good(&["storage", "create", pool, "btrfs", "size=256MiB"]);
    }
    made(&state, "fast", "other");
    state.good(&["export", "c1", "b.tar", "--compression", "none", "--optimized-storage"]);
    state.good(&["import", "b.tar", "n1", "-d", "dv,source=nv", "-d", "dw,source=nw"]);
    whole(&state, "n1");
    let out = state.run(&["import", "b.tar", "n1", "-d", "dv,pool=default", "-d", "dw,source=nw"]);
    out.clean_failure().unwrap();
    assert!(out.stderr.contains("\"btrfs\" differs from the target storage pool driver"), "{out}");
    // A copy elsewhere is brought up to date by streams.
    state.good(&["copy", "c1", "n1", "-s", "other", "-d", "dv,source=nv", "-d", "dv,pool=fast", "-d", "dw,source=nw"]);
    refreshed(&state);
    state.good(&["delete", "-f", "c1"]);
    state.good(&["import", "b.tar"]);
    whole(&state, "c1");
    state.delete_all().unwrap();
    for pool in ["fast", "other"] {
        state.good(&["storage", "delete", pool]);
    }
    state.finish();
}

#[test]
fn dependent_volumes_are_refreshed() {
    let Some(state) = state("dependent_volumes_are_refreshed") else { return };
    second_pool(&state);
    made(&state, "default", "plain");
    state.good(&["copy", "c1", "n1", "-d", "dv,source=nv", "-d", "dv,pool=default", "-d", "dw,source=nw"]);
    refreshed(&state);
    // Both must have them.
    state.good(&["copy", "c1", "n1", "-d", "dv,source=nv", "-d", "dw,source=nw"]);
    for (of, device) in [("n1", "dv"), ("c1", "dw")] {
        state.good(&["config", "device", "set", of, device, "dependent=false"]);
        let out = state.run(&["copy", "c1", "n1", "--refresh"]);
        out.clean_failure().unwrap();
        assert!(
            out.stderr.contains(&format!("Instance \"{of}\" has no dependent volume as device \"{device}\"")),
            "{out}"
        );
        // It has snapshots of its own now.
        let (pool, volume) = if of == "n1" { ("plain", "nv") } else { ("default", "w") };
        for name in ["s2", "s3"] {
            state.good(&["storage", "volume", "snapshot", "delete", pool, volume, name]);
        }
        state.good(&["config", "device", "set", of, device, "dependent=true"]);
    }
    state.finish();
}

/// `n1`, a copy of `c1`, follows it; afterwards there is `c1` with `s2` and `s3`.
fn refreshed(state: &State) {
    let copies = |pool: &str| volumes(state, pool).matches("/s").count();
    write(state, "four");
    state.good(&["snapshot", "delete", "c1", "s1"]);
    state.good(&["snapshot", "create", "c1", "s3"]);
    write(state, "five");
    state.good(&["copy", "c1", "n1", "--refresh", "--instance-only"]);
    state.good(&["start", "n1"]);
    assert_eq!(says(state, "n1"), has("five"));
    state.good(&["stop", "-f", "n1"]);
    assert_eq!(state.good(&["snapshot", "list", "n1", "-f", "csv", "-c", "n"]), "s1\ns2\n");
    write(state, "six");
    state.good(&["copy", "c1", "n1", "--refresh"]);
    let pools = state.good(&["storage", "list", "-f", "csv", "-c", "n"]);
    assert_eq!(pools.lines().map(copies).sum::<usize>(), 8, "two snapshots of four volumes");
    state.good(&["start", "n1"]);
    assert_eq!(says(state, "n1"), has("six"));
    for (snapshot, word) in [("s3", "four"), ("s2", "two")] {
        state.good(&["snapshot", "restore", "n1", snapshot]);
        assert_eq!(says(state, "n1"), has(word));
    }
    state.good(&["stop", "-f", "n1"]);
    state.good(&["copy", "c1/s3", "n1", "--refresh"]);
    state.good(&["start", "n1"]);
    assert_eq!(says(state, "n1"), has("four"));
    state.good(&["delete", "-f", "n1"]);
}

/// The index of an instance with a dependent volume, as Incus writes it; `change` is put in place of a part.
fn with_volume(change: &str) -> String {
    let device = "devices: {d: {type: disk, pool: default, source: v, path: /v, dependent: \"true\"}}";
    let text = index("").replace("devices: {}", device)
        + "  dependent_volumes:\n  - pool: {config: {}, name: default, driver: dir, status: Created}\n    volume:\n      \
           config: {dependent: \"true\", user.k: k}\n      name: v\n      type: custom\n      content_type: filesystem\n    \
           volume_snapshots:\n    - {name: v/s1, content_type: filesystem, config: {}}\n";
    change.split_once("=>").map_or_else(|| text.clone(), |(from, to)| text.replacen(from, to, 1))
}

fn begun(change: &str) -> Ar {
    body(Ar::default().file("backup/index.yaml", with_volume(change).as_bytes()))
}

fn filled(ar: Ar) -> Ar {
    ["backup/d/volume-snapshots/s1", "backup/d/volume"].into_iter().fold(ar.dir("backup/d/", 0o755), |ar, at| {
        ar.dir(&format!("{at}/"), 0o711).file(&format!("{at}/f"), at.as_bytes())
    })
}

#[test]
fn hostile_dependent_volumes_are_refused() {
    let Some(state) = state("hostile_dependent_volumes_are_refused") else { return };
    // In any order; that of Incus is the other one.
    let early = filled(Ar::default().file("backup/index.yaml", with_volume("").as_bytes()));
    for (file, bytes) in [("good", filled(begun("")).finish()), ("early", body(early).finish())] {
        std::fs::write(state.path(file), bytes).unwrap();
        state.good(&["import", file]);
        let volume = |words: &[&str]| state.good(&[&["storage", "volume"], words].concat());
        assert_eq!(volume(&["get", "default", "v", "user.k"]), "k\n");
        assert_eq!(volume(&["snapshot", "list", "default", "v", "-f", "csv", "-c", "n"]), "s1\n");
        assert_eq!(volume(&["file", "pull", "default", "v/f", "-"]), "backup/d/volume");
        state.good(&["snapshot", "restore", "c9", "s1"]);
        assert_eq!(volume(&["file", "pull", "default", "v/f", "-"]), "backup/d/volume-snapshots/s1");
        state.good(&["delete", "c9"]);
    }
    let mut wrong = String::new();
    for (change, said) in [
        ("      name: v\n=>      name: other\n", "is not attached to the instance"),
        ("      name: v\n=>      name: ../v\n", "is not attached to the instance"),
        ("name: default, driver=>name: ../default, driver", "is not attached to the instance"),
        ("source: v, path=>source: ../v, path", "is not attached to the instance"),
        ("dependent: \"true\"}}=>dependent: \"false\"}}", "is not attached to the instance"),
        ("{d: {type=>{../d: {type", "nvalid"),
        ("{name: v/s1=>{name: v/..", "Invalid"),
        ("{name: v/s1=>{name: s2", "not in the index"),
        ("user.k: k=>size: lots", "size"),
        ("user.k: k=>snapshots.schedule: \"@daily\"", "may not have a \"snapshots.schedule\" config"),
        ("content_type: filesystem\n    volume=>content_type: iso\n    volume", "cannot be in a backup"),
        ("content_type: filesystem\n    volume=>content_type: block\n    volume", "something else than its volume"),
        ("    volume:\n=>    other:\n", "Bad dependent volume definition"),
        (
            "  - pool: {config: {}, name: default, driver: dir, status: Created}\n    volume=>  - volume",
            "Bad dependent volume",
        ),
        ("  - pool:=>  -\n  - pool:", "index.yaml"),
    ] {
        assert_ne!(with_volume(change), with_volume(""), "{change}");
        wrong += &refused(&state, change, &filled(begun(change)).finish(), said);
    }
    let twice = with_volume("").split_once("dependent_volumes:\n").unwrap().1.to_string();
    let twice = body(Ar::default().file("backup/index.yaml", (with_volume("") + &twice).as_bytes()));
    let climbs = filled(begun("")).file("backup/d/volume/../../../victim", b"x");
    let strange = filled(begun("")).file("backup/d/volume-snapshots/s2/f", b"x");
    let nobody = filled(begun("")).file("backup/e/volume/f", b"x");
    let root = filled(begun("")).hard_link("backup/d/volume/p", "backup/container/rootfs/etc/passwd");
    for (what, ar, said) in [
        ("the same twice", filled(twice), "is not attached to the instance"),
        ("no files", begun(""), "are missing"),
        ("climbs", climbs, "leads upwards"),
        ("another snapshot", strange, "not in the index"),
        ("another device", nobody, "belongs to nothing"),
        ("linked to the root", root, "out of its volume"),
        ("a link as volume", begun("").symlink("backup/d/volume", "/etc"), "no folder"),
    ] {
        wrong += &refused(&state, what, &ar.finish(), said);
        assert_eq!(volumes(&state, "default"), "", "{what}");
    }
    assert!(wrong.is_empty(), "{wrong}");
    state.finish();
}
