//! Archives that are a squashfs, which has no order: ours and those of the program that Incus runs.

use super::common_root::{State, have, skip};
use super::support::{Ask, state};
use super::{data, good, refused};
use std::path::PathBuf;
use std::process::{Command, Stdio};

fn shell(state: &State, script: &str) {
    let out = Command::new("sh").args(["-ec", script]).current_dir(&state.dir).output().unwrap();
    assert!(out.status.success(), "{script}: {out:?}");
}

/// The file of a disk.
fn disk(state: &State, name: &str) -> PathBuf {
    std::fs::read_dir(data(state, name)).unwrap().next().unwrap().unwrap().path()
}

#[test]
fn squashed_archives() {
    let test = "squashed_archives";
    if !have("mksquashfs") {
        return skip(test, "no mksquashfs (apt-get install squashfs-tools)");
    }
    let Some(state) = state(test) else { return };
    good(&state, &["create", "default", "v1", "user.x=1"]);
    // A name that comes before that of the index, and one like it.
    std::fs::create_dir(data(&state, "v1").join("a")).unwrap();
    std::fs::write(data(&state, "v1").join("a/index.yaml"), vec![7; 3 << 20]).unwrap();
    good(&state, &["snapshot", "create", "default", "v1", "s1"]);
    good(&state, &["export", "default", "v1", "--compression", "squashfs"]);
    good(&state, &["import", "default", "v1.squashfs", "v2"]);
    let same = |name: &str| {
        assert_eq!(std::fs::read(data(&state, name).join("a/index.yaml")).unwrap(), vec![7; 3 << 20]);
        assert_eq!(good(&state, &["get", "default", name, "user.x"]), "1\n");
        assert!(good(&state, &["snapshot", "list", "default", name, "-f", "csv"]).starts_with("s1,"));
        good(&state, &["delete", "default", name]);
    };
    same("v2");
    let mut import = state.command(&["storage", "volume", "import", "default", "-", "v3"]);
    let mut receiver = import.stdin(Stdio::piped()).spawn().unwrap();
    let mut bytes = std::fs::File::open(state.path("v1.squashfs")).unwrap();
    std::io::copy(&mut bytes, &mut receiver.stdin.take().unwrap()).unwrap();
    assert!(receiver.wait().unwrap().success());
    same("v3");
    if have("tar2sqfs") {
        good(&state, &["export", "default", "v1", "v1.tar", "--compression", "none"]);
        shell(&state, "tar2sqfs -q --no-skip --force --compressor xz theirs.squashfs <v1.tar");
        good(&state, &["import", "default", "theirs.squashfs", "v4"]);
        same("v4");
    }
    good(&state, &["create", "default", "d1", "--type=block", "size=8MiB"]);
    let file = std::fs::OpenOptions::new().write(true).open(disk(&state, "d1")).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, &[9; 10_000], 3_000_000).unwrap();
    good(&state, &["export", "default", "d1", "--compression", "squashfs"]);
    good(&state, &["import", "default", "d1.squashfs", "d2"]);
    assert!(std::fs::read(disk(&state, "d1")).unwrap() == std::fs::read(disk(&state, "d2")).unwrap());
    for name in ["d1", "d2", "v1"] {
        good(&state, &["delete", "default", name]);
    }
    // What is none, or not whole.
    shell(
        &state,
        "mkdir -p x/backup/volume; ln -s ../../etc/passwd x/backup/index.yaml; mksquashfs x link.sqfs -quiet",
    );
    shell(&state, "rm x/backup/index.yaml; mksquashfs x none.sqfs -quiet; head -c 3000 v1.squashfs >cut.sqfs");
    for (file, said) in
        [("link.sqfs", "Backup is missing"), ("none.sqfs", "Backup is missing"), ("cut.sqfs", "Failed importing")]
    {
        refused(&state, &["import", "default", file], said);
    }
    state.finish();
}
