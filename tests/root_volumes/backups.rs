//! Volumes as archives: what was comes back, other tools read it, and no archive, whoever made it, does harm.

use super::common_root::{PATIENCE, State, run};
use super::image_common::{Ar, gzip, zstd};
use super::support::{Ask, state};
use super::tree::{FACTS, FILL};
use super::{data, good, refused, volume};
use std::os::unix::fs::MetadataExt;
use std::process::{Command, Stdio};

/// A second pool `plain` with the driver `dir`.
fn second_pool(state: &State) {
    let text = "storage_pools: [{name: plain, driver: dir}]\n";
    run(state.command(&["admin", "init", "--preseed"]), Some(text), PATIENCE).good().unwrap();
}

#[test]
fn what_was_comes_back() {
    let Some(state) = state("volume_what_was_comes_back") else { return };
    second_pool(&state);
    state.launch("c1", &[]).good().unwrap();
    good(&state, &["create", "default", "v1", "user.x=1", "snapshots.expiry=3d", "--description", "mine"]);
    good(&state, &["attach", "default", "v1", "c1", "d", "/data"]);
    state.sh("c1", FILL);
    let early = state.sh("c1", FACTS);
    good(&state, &["snapshot", "create", "default", "v1", "s1", "--description", "first"]);
    state.sh("c1", "rm -r /data/deep; echo more >>/data/file");
    let late = state.sh("c1", FACTS);
    let facts = |pool: &str, name: &str| {
        good(&state, &["attach", pool, name, "c1", "again", "/other"]);
        let script = FACTS.replace("cd /data", "cd /other");
        let found = state.sh("c1", &script);
        good(&state, &["detach", pool, name, "c1", "again"]);
        found
    };
    for (n, how) in ["gzip", "zstd -1", "none", "squashfs"].iter().enumerate() {
        let (file, name) = (format!("b{n}"), format!("r{n}"));
        assert_eq!(
            good(&state, &["export", "default", "v1", &file, "--compression", how]),
            "Backup exported successfully!\n"
        );
        let pool = if n % 2 == 0 { "plain" } else { "default" };
        good(&state, &["import", pool, &file, &name]);
        assert_eq!(facts(pool, &name), late, "{how}");
        let shown = good(&state, &["show", pool, &name]);
        let was = good(&state, &["show", "default", "v1"]);
        let own = |text: &str| -> Vec<String> {
            let lines = text.lines().filter(|l| !l.starts_with("name:") && !l.starts_with("- /1.0"));
            lines.filter(|l| !l.starts_with("used_by:")).map(str::to_string).collect()
        };
        assert_eq!(own(&shown), own(&was));
        let snapshot = good(&state, &["snapshot", "show", pool, &format!("{name}/s1")]);
        assert_eq!(snapshot, good(&state, &["snapshot", "show", "default", "v1/s1"]));
        good(&state, &["snapshot", "restore", pool, &name, "s1"]);
        assert_eq!(facts(pool, &name), early, "{how}");
        good(&state, &["delete", pool, &name]);
    }
    assert_eq!(std::fs::metadata(state.path("b0")).unwrap().mode() & 0o777, 0o600, "others need not read it");
    // By a pipe, without the snapshot; then in its own place again.
    let mut out = state.command(&["storage", "volume", "export", "default", "v1", "-", "--volume-only"]);
    let mut sender = out.stdout(Stdio::piped()).spawn().unwrap();
    let mut receiver = state.command(&["storage", "volume", "import", "default", "-", "v2"]);
    assert!(receiver.stdin(sender.stdout.take().unwrap()).status().unwrap().success());
    assert!(sender.wait().unwrap().success());
    assert_eq!(good(&state, &["snapshot", "list", "default", "v2", "-f", "csv"]), "");
    state.good(&["delete", "-f", "c1"]);
    good(&state, &["delete", "default", "v1"]);
    good(&state, &["export", "default", "v2"]);
    good(&state, &["delete", "default", "v2"]);
    good(&state, &["import", "default", "v2.tar.gz"]);
    assert_eq!(std::fs::metadata(data(&state, "v2").join("file")).unwrap().uid(), 1000);
    good(&state, &["delete", "default", "v2"]);
    state.finish();
}

#[test]
fn other_tools_read_it() {
    let Some(state) = state("volume_other_tools_read_it") else { return };
    good(&state, &["create", "default", "v1", "initial.uid=7", "initial.mode=0750"]);
    let root = data(&state, "v1");
    std::fs::create_dir(root.join("rootfs")).unwrap();
    std::fs::write(root.join("rootfs/f"), "here").unwrap();
    std::fs::hard_link(root.join("rootfs/f"), root.join("metadata.yaml")).unwrap();
    good(&state, &["snapshot", "create", "default", "v1", "s1"]);
    good(&state, &["export", "default", "v1", "b.tar.gz"]);
    let list = Command::new("tar").arg("-tf").arg(state.path("b.tar.gz")).output().unwrap();
    assert!(list.status.success(), "{list:?}");
    let names = String::from_utf8(list.stdout).unwrap();
    let lines: Vec<&str> = names.lines().collect();
    assert_eq!(lines[0], "backup/index.yaml");
    for wanted in ["backup/volume/", "backup/volume/rootfs/f", "backup/volume-snapshots/s1/metadata.yaml"] {
        assert!(lines.contains(&wanted), "{wanted} of {names}");
    }
    // Packed again by another program, in another order and form.
    let at = state.dir.to_str().unwrap();
    let unpack =
        Command::new("tar").args(["-x", "--numeric-owner", "-C", at, "-f"]).arg(state.path("b.tar.gz")).status();
    assert!(unpack.unwrap().success());
    let mut pack = Command::new("tar");
    pack.args(["-C", at, "--numeric-owner", "--format=gnu", "-cJf"]).arg(state.path("o.tar.xz"));
    assert!(pack.args(["backup/index.yaml", "backup/volume-snapshots", "backup/volume"]).status().unwrap().success());
    good(&state, &["import", "default", "o.tar.xz", "v2"]);
    let (folder, file) = (data(&state, "v2"), data(&state, "v2").join("metadata.yaml"));
    let stat = std::fs::metadata(&folder).unwrap();
    assert_eq!((stat.uid(), stat.mode() & 0o7777), (7, 0o750));
    assert_eq!(
        (std::fs::read_to_string(&file).unwrap().as_str(), std::fs::metadata(&file).unwrap().nlink()),
        ("here", 2)
    );
    good(&state, &["snapshot", "restore", "default", "v2", "s1"]);
    good(&state, &["delete", "default", "v1"]);
    good(&state, &["delete", "default", "v2"]);
    state.finish();
}

/// An index in Incus's form; `change` is put in place of its line.
fn index(change: &str) -> String {
    let given = "name: v9\nbackend: zfs\npool: elsewhere\noptimized: false\noptimized_header: false\ntype: custom\n\
         snapshots:\n- s1\nconfig:\n  volume:\n    config:\n      user.x: \"1\"\n      zfs.blocksize: 4KiB\n      \
         volatile.uuid: d3c4c1a7-9adf-40ab-863d-d3415dacac58\n    description: \"\"\n    name: v9\n    type: custom\n    \
         content_type: filesystem\n  volume_snapshots:\n  - name: s1\n    config: {}\n    content_type: filesystem\n";
    change.split_once("=>").map_or_else(|| given.to_string(), |(from, to)| given.replacen(from, to, 1))
}

fn begin() -> Ar {
    Ar::default().file("backup/index.yaml", index("").as_bytes())
}

/// The rest of a good one.
fn body(ar: Ar) -> Ar {
    let volume = |ar: Ar, at: &str| ar.dir(&format!("{at}/"), 0o755).file(&format!("{at}/f"), b"text");
    volume(volume(ar, "backup/volume-snapshots/s1"), "backup/volume")
}

/// Empty, or what it said instead.
fn bad(state: &State, what: &str, bytes: &[u8], said: &str) -> String {
    std::fs::write(state.path("bad"), bytes).unwrap();
    let out = volume(state, &["import", "default", "bad"]);
    out.clean_failure().unwrap_or_else(|e| panic!("{what}: {e}"));
    assert_eq!(good(state, &["list", "default", "-f", "csv", "type=custom"]), "", "{what}");
    let pool = state.dir.join("state/pools/default/data");
    for folder in ["custom", "custom-snapshots", "trash"] {
        assert_eq!(std::fs::read_dir(pool.join(folder)).unwrap().count(), 0, "{what}: {folder}");
    }
    if out.stderr.contains(said) { String::new() } else { format!("{what}: {out}\n") }
}

#[test]
fn hostile_indexes_are_refused() {
    let Some(state) = state("volume_hostile_indexes_are_refused") else { return };
    let with = |change: &str| {
        let bytes = body(Ar::default().file("backup/index.yaml", index(change).as_bytes())).finish();
        if change.len().is_multiple_of(2) { gzip(&bytes) } else { zstd(&bytes) }
    };
    std::fs::write(state.path("good"), with("")).unwrap();
    good(&state, &["import", "default", "good"]);
    assert_eq!(good(&state, &["get", "default", "v9", "user.x"]), "1\n");
    assert_eq!(good(&state, &["get", "default", "v9", "zfs.blocksize"]), "", "of another driver");
    good(&state, &["snapshot", "restore", "default", "v9", "s1"]);
    // A size that the pool cannot keep is kept in the record.
    std::fs::write(state.path("sized"), with("user.x: \"1\"=>size: 10GiB")).unwrap();
    good(&state, &["import", "default", "sized", "v8"]);
    assert_eq!(good(&state, &["get", "default", "v8", "size"]), "10GiB\n");
    good(&state, &["delete", "default", "v9"]);
    good(&state, &["delete", "default", "v8"]);
    let mut wrong = String::new();
    for (change, said) in [
        ("name: v9=>name: ../../etc", "nvalid"),
        ("name: v9=>name: \"\"", "nvalid"),
        ("name: v9=>name: a/b", "nvalid"),
        ("name: v9=>name: [a]", "index.yaml"),
        ("- s1=>- ../x", "nvalid"),
        ("- s1=>- s1\n- s1", "twice"),
        ("- s1=>- s2", "no record"),
        ("type: custom=>type: container", "not of a custom volume"),
        ("type: custom=>type: bucket", "not of a custom volume"),
        ("optimized: false=>optimized: true", "Optimized backup storage driver \"zfs\" differs from"),
        ("content_type: filesystem=>content_type: block", "holds something else"),
        ("content_type: filesystem=>content_type: iso", "cannot be in a backup"),
        ("content_type: filesystem=>content_type: ../x", "cannot be in a backup"),
        ("user.x: \"1\"=>size: much", "Invalid value for volume"),
        ("user.x: \"1\"=>initial.mode: \"99\"", "Invalid value for volume"),
        ("config: {}=>config: {snapshots.expiry: soon}", "Bad snapshot"),
        ("config:\n  volume:=>config:\n  other:", "No volume config"),
        ("name: v9=>%YAML", "index.yaml"),
    ] {
        assert_ne!(index(change), index(""), "{change}");
        wrong += &bad(&state, change, &with(change), said);
    }
    assert!(wrong.is_empty(), "{wrong}");
    state.finish();
}

#[test]
fn hostile_archives_are_refused() {
    let Some(state) = state("volume_hostile_archives_are_refused") else { return };
    let victim = state.path("victim");
    std::fs::write(&victim, "untouched").unwrap();
    let out = victim.to_str().unwrap();
    let whole = body(begin()).finish();
    let mut wrong = String::new();
    for (what, bytes, said) in [
        ("no index", body(Ar::default()).finish(), "Backup is missing"),
        ("index as link", body(Ar::default().symlink("backup/index.yaml", out)).finish(), "Backup is missing"),
        ("nothing", Vec::new(), "ot an"),
        ("cut short", whole[..whole.len() / 2].to_vec(), "truncated"),
        ("no files", begin().finish(), "missing"),
        ("climbs", body(begin().file("backup/volume/../../../../victim", b"x")).finish(), "leads upwards"),
        ("climbs by snapshot", body(begin().file("backup/volume-snapshots/../../x", b"x")).finish(), "leads upwards"),
        ("other snapshot", body(begin().file("backup/volume-snapshots/s2/x", b"x")).finish(), "not in the index"),
        ("elsewhere", body(begin().file("backup/container/x", b"x")).finish(), "belongs to nothing"),
        ("a disk", body(begin().file("backup/volume.img", b"x")).finish(), "belongs to nothing"),
        ("absolute", body(begin().file("/etc/x", b"x")).finish(), "belongs to nothing"),
        ("volume as link", begin().symlink("backup/volume", "/").finish(), "no folder"),
        ("volume as file", begin().file("backup/volume", b"x").finish(), "no folder"),
        (
            "link to another volume",
            body(begin()).hard_link("backup/volume/x", "backup/volume-snapshots/s1/f").finish(),
            "out of its volume",
        ),
        ("link out", body(begin()).hard_link("backup/volume/x", "../victim").finish(), "leads upwards"),
        ("link to the host", body(begin()).hard_link("backup/volume/x", out).finish(), "out of its volume"),
    ] {
        wrong += &bad(&state, what, &bytes, said);
        assert_eq!(std::fs::read_to_string(&victim).unwrap(), "untouched", "{what}");
    }
    assert!(wrong.is_empty(), "{wrong}");
    // A link that leads out as seen from the host leads in as seen from the container.
    let inward = body(begin()).symlink("backup/volume/up", "/").file("backup/volume/up/made", b"x");
    std::fs::write(state.path("inward"), gzip(&inward.finish())).unwrap();
    good(&state, &["import", "default", "inward"]);
    assert_eq!(std::fs::read_to_string(data(&state, "v9").join("made")).unwrap(), "x");
    assert!(!std::path::Path::new("/made").exists());
    good(&state, &["delete", "default", "v9"]);
    state.finish();
}

#[test]
fn wrong_words() {
    let Some(state) = state("volume_backups_wrong_words") else { return };
    good(&state, &["create", "default", "v1"]);
    good(&state, &["export", "default", "v1", "b.tar.gz"]);
    std::fs::write(state.path("disc.iso"), "x").unwrap();
    for (words, said) in [
        ("export default v1 b.tar.gz", "Target path \"b.tar.gz\" already exists"),
        ("export default v9 x", "Storage pool volume \"custom/v9\" not found"),
        ("export default container/c1 x", "Only \"custom\" volumes"),
        ("export default v1 no/such/folder/x", "Failed writing"),
        ("export default v1 x --compression nope", "nope"),
        ("import default b.tar.gz", "already exists"),
        ("import nope b.tar.gz v2", "Storage pool not found"),
        ("import default nope.tar.gz", "No such file"),
        ("import default b.tar.gz a/b", "nvalid"),
        ("import default disc.iso --type=backup", "ot an archive"),
        ("import default .", "is a folder"),
    ] {
        refused(&state, &words.split(' ').collect::<Vec<_>>(), said);
    }
    good(&state, &["export", "default", "v1", "b.tar.gz", "--force"]);
    good(&state, &["import", "default", "b.tar.gz", "v2", "-t", "backup"]);
    good(&state, &["delete", "default", "v1"]);
    good(&state, &["delete", "default", "v2"]);
    state.finish();
}
