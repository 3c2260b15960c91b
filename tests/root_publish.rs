//! Images made of instances: what comes out is what was in there, in every form, and what cannot be made leaves nothing.
#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "a test: its files are no records"
)]

mod common_root;
#[path = "root_images/support.rs"]
mod support;

use std::collections::BTreeMap;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Command;
use support::{State, program, sha256};

/// A folder `dir/rich` to import, with all that a tree can hold.
fn rich(state: &State) -> String {
    common_root::make_images(state.path());
    let tree = state.path().join("rich");
    std::fs::create_dir_all(tree.join("templates")).unwrap();
    let script = "set -e; cd rich; mkdir rootfs; tar -C rootfs -xf ../rootfs.tar; cd rootfs; \
         mkdir -m 1777 data; cd data; echo text > file; chown 1000:33 file; chmod 4755 file; ln file hard; ln -s file link; \
         mkfifo -m 640 fifo; mknod -m 600 node c 1 5; truncate -s 64M holes; printf x | dd of=holes bs=1 seek=32M conv=notrunc \
         status=none; dd if=/dev/zero of=full bs=1M count=3 status=none; mkdir -p deep/er; touch -d @1234567890 deep/old; \
         setfattr -n user.note -v hello file; setfattr -n security.capability \
         -v 0x0100000200200000000000000000000000000000 full; touch \"$(printf 'odd\\nname')\"; \
         touch \"$(printf 'long%0200d' 7)\"; chown 65534:65534 deep";
    let done = Command::new("sh").arg("-c").arg(script).current_dir(state.path()).status().unwrap();
    assert!(done.success());
    let arch = std::env::consts::ARCH;
    let text = format!(
        "architecture: {arch}\ncreation_date: 1700000000\nexpiry_date: 1900000000\nproperties:\n  os: test\n  description: Old\n\
         templates:\n  /etc/made:\n    when: [create]\n    template: made.tpl\n"
    );
    std::fs::write(tree.join("metadata.yaml"), text).unwrap();
    std::fs::write(tree.join("templates/made.tpl"), "of {{ container.name }}\n").unwrap();
    state.import(&["rich", "--alias", "rich"])
}

/// Everything about the files below `root` that an archive must keep.
fn facts(root: &Path) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    let mut links: BTreeMap<u64, String> = BTreeMap::new();
    let mut todo = vec![root.to_path_buf()];
    while let Some(path) = todo.pop() {
        let meta = std::fs::symlink_metadata(&path).unwrap();
        let name = path.strip_prefix(root).unwrap().to_string_lossy().into_owned();
        let mut fact = format!("{:o} {}:{} {} {}", meta.mode(), meta.uid(), meta.gid(), meta.mtime(), meta.rdev());
        if meta.is_file() {
            fact += &format!(" {} {}", meta.size(), sha256(&[&path]));
        }
        if meta.is_symlink() {
            fact += &format!(" {}", std::fs::read_link(&path).unwrap().display());
        }
        let mut names = Command::new("getfattr");
        names.args(["-h", "-d", "-m", "^(user|security.capability|system.posix)", "-e", "hex", "--absolute-names"]);
        let said = names.arg(&path).output().unwrap();
        fact += &String::from_utf8_lossy(&said.stdout).lines().skip(1).collect::<String>();
        if meta.is_dir() {
            todo.extend(std::fs::read_dir(&path).unwrap().map(|e| e.unwrap().path()));
        } else if meta.nlink() > 1 {
            // Which names belong together; the order of walking does not matter.
            let group = links.entry(meta.ino()).or_default();
            *group = format!("{group}+");
            fact += &format!(" links {}", meta.nlink());
        }
        all.insert(name, fact);
    }
    all
}

fn root_of(state: &State, fingerprint: &str) -> std::path::PathBuf {
    state.pool().join("images").join(fingerprint).join("rootfs")
}

/// Publishes and gives back the fingerprint.
#[track_caller]
fn publish(state: &State, words: &[&str]) -> String {
    let said = state.good(&[&["publish"], words].concat());
    let (text, fingerprint) = said.trim_end().rsplit_once(' ').expect("a message");
    assert_eq!(text, "Instance published with fingerprint:");
    fingerprint.to_string()
}

/// Options, and the endings of what comes out.
const FORMS: &[(&[&str], &[&str])] = &[
    (&[], &[".tar.gz"]),
    (&["--compression", "gzip -9 --rsyncable"], &[".tar.gz"]),
    (&["--compression", "zstd -1", "--format", "unified"], &[".tar.zst"]),
    (&["--compression", "none"], &[".tar"]),
    (&["--compression", "lz4"], &[".tar.lz4"]),
    (&["--compression", "bzip2 -1"], &[".tar.bz2"]),
    (&["--format", "split", "--compression", "xz -0"], &[".tar.xz", ".tar.xz"]),
    (&["--format", "split", "--compression", "lzma -0"], &[".tar.lzma", ".tar.lzma"]),
    (&["--format=split", "--compression=squashfs"], &[".tar.gz", ".squashfs"]),
];

/// Exports the image and hashes its files.
fn exported(state: &State, fingerprint: &str, endings: &[&str]) -> String {
    let out = tempfile::tempdir_in(state.path()).unwrap();
    state.good(&["image", "export", fingerprint, out.path().to_str().unwrap()]);
    let files: Vec<_> = match endings {
        [one] => vec![out.path().join(format!("{fingerprint}{one}"))],
        [meta, root] => {
            vec![out.path().join(format!("meta-{fingerprint}{meta}")), out.path().join(format!("{fingerprint}{root}"))]
        }
        _ => unreachable!(),
    };
    let files: Vec<&Path> = files.iter().map(AsRef::as_ref).collect();
    sha256(&files)
}

fn gnu_tar_agrees_about_the_holes(state: &State) {
    state.good(&["image", "export", "made3", "plain"]);
    let out = state.path().join("by-tar");
    std::fs::create_dir(&out).unwrap();
    let mut tar = Command::new("tar");
    assert!(tar.arg("-xf").arg(state.path().join("plain.tar")).arg("-C").arg(&out).status().unwrap().success());
    let file = std::fs::File::open(out.join("rootfs/data/holes")).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, 32 << 20).unwrap();
    assert_eq!((file.metadata().unwrap().size(), byte), (64 << 20, *b"x"));
    assert!(file.metadata().unwrap().blocks() * 512 < 16 << 20);
}

#[test]
fn every_form_holds_what_the_instance_held() {
    const NAME: &str = "every_form_holds_what_the_instance_held";
    if !common_root::can_run(NAME) || !program(NAME, "getfattr") {
        return;
    }
    let state = State::new();
    rich(&state);
    state.good(&["create", "rich", "c1"]);
    let said = state.run_with_input(&["file", "push", "-", "c1/data/new", "--uid", "7", "--mode", "0640"], b"new\n");
    assert_eq!(said.code, 0, "{said:?}");
    state.good(&["file", "delete", "c1/etc/group"]);
    let mut first: Option<BTreeMap<String, String>> = None;
    for (n, (words, endings)) in FORMS.iter().enumerate() {
        if words.concat().contains("squashfs") && !program(NAME, "mksquashfs") {
            continue;
        }
        let alias = format!("made{n}");
        let fingerprint = publish(&state, &[&["c1", "--alias", &alias], *words].concat());
        assert_eq!(exported(&state, &fingerprint, endings), fingerprint, "{words:?}");
        let mut found = facts(&root_of(&state, &fingerprint));
        assert_eq!(found["data/new"].split(' ').next(), Some("100640"), "{words:?}");
        assert!(!found.contains_key("etc/group"), "{words:?}");
        assert!(found["data/full"].contains("security.capability"), "{words:?}: {}", found["data/full"]);
        if let (Some(first), true) = (&first, words.concat().contains("squashfs")) {
            // mksquashfs 4.5.1 gives the root folder the time of its run.
            found.insert(String::new(), first[""].clone());
        }
        match &first {
            Some(first) => assert_eq!(&found, first, "{words:?}"),
            None => first = Some(found),
        }
        let holes = std::fs::metadata(root_of(&state, &fingerprint).join("data/holes")).unwrap();
        assert_eq!(holes.size(), 64 << 20);
        if !words.concat().contains("squashfs") {
            assert!(holes.blocks() * 512 < 16 << 20, "{words:?}: the holes are filled");
        }
        assert!(state.pool().join("images").join(&fingerprint).join("templates/made.tpl").exists());
    }
    // The tree is what was imported, but for the two changes (and what pushing did to their folders).
    let imported = state.good(&["image", "list", "rich", "-f", "csv", "-c", "F"]);
    let before = facts(&root_of(&state, imported.trim()));
    for (name, fact) in &before {
        if !["data", "etc", "etc/group"].contains(&name.as_str()) {
            assert_eq!(first.as_ref().unwrap().get(name), Some(fact), "{name}");
        }
    }
    state.good(&["launch", "made1", "c2"]);
    let pulled = state.good(&["file", "pull", "c2/etc/made", "-"]);
    assert_eq!(pulled, "of c2\n");
    gnu_tar_agrees_about_the_holes(&state);
    state.good(&["delete", "-f", "c1", "c2"]);
    state.assert_clean();
}

#[test]
fn metadata_aliases_and_expiry() {
    if !common_root::can_run("metadata_aliases_and_expiry") {
        return;
    }
    let state = State::new();
    rich(&state);
    state.good(&["create", "rich", "c1"]);
    let old = publish(&state, &["c1", "--alias", "a", "--alias", "b"]);
    let taken = state.bad(&["publish", "c1", "--alias", "a", "--alias", "b", "--alias", "new"]);
    assert_eq!(taken, "Aliases already exists: a, b");
    let words = ["c1", "local:", "--public", "--expire", "2035-02-03T04:05:06Z", "description=New one", "x.y=z"];
    // A date has seconds: another one makes another image.
    std::thread::sleep(std::time::Duration::from_millis(1100));
    let new = publish(&state, &[&words[..], &["--alias", "a", "--reuse"]].concat());
    let info = state.good(&["image", "info", "a"]);
    for line in [
        &format!("Fingerprint: {new}"),
        "Public: yes",
        "    description: New one",
        "    os: test",
        "    x.y: z",
        "    Expires: 2035/02/03 04:05 UTC",
        "    - a",
        "Cached: no",
    ] {
        assert!(info.contains(&format!("{line}\n")), "{line}: {info}");
    }
    assert!(!info.contains("Created: 2023"), "{info}");
    let info = state.good(&["image", "info", "b"]);
    assert!(
        info.contains(&old) && info.contains("    description: Old\n") && info.contains("Expires: never"),
        "{info}"
    );
    std::thread::sleep(std::time::Duration::from_millis(1100));
    let newest = publish(&state, &["c1", "--alias", "a", "--alias", "b", "--reuse"]);
    let mut left: Vec<String> =
        state.good(&["image", "list", "-f", "csv", "-c", "F"]).lines().map(String::from).collect();
    left.retain(|fingerprint| *fingerprint == new || *fingerprint == old || *fingerprint == newest);
    assert_eq!(left, [newest], "those that lost their aliases have gone");
    // Of an instance without image.
    state.good(&["create", "--empty", "c2"]);
    state.run_with_input(&["file", "push", "-", "c2/hello"], b"hello\n");
    let empty = publish(&state, &["c2", "os=none"]);
    let yaml = std::fs::read_to_string(state.pool().join("images").join(&empty).join("metadata.yaml")).unwrap();
    assert!(yaml.contains(&format!("architecture: {}", std::env::consts::ARCH)) && yaml.contains("os: none"), "{yaml}");
    state.good(&["config", "set", "images.compression_algorithm=zstd"]);
    std::thread::sleep(std::time::Duration::from_millis(1100));
    let zstd = publish(&state, &["c2"]);
    state.good(&["image", "export", &zstd]);
    assert!(state.path().join(format!("{zstd}.tar.zst")).exists());
    state.good(&["delete", "c1", "c2"]);
    state.assert_clean();
}

#[test]
fn what_runs_is_stopped_and_started_again() {
    if !common_root::can_run("what_runs_is_stopped_and_started_again") {
        return;
    }
    let state = State::new();
    common_root::make_images(state.path());
    state.import(&["image.tar", "--alias", "img"]);
    state.good(&["launch", "img", "c1"]);
    state.good(&["launch", "img", "c2", "--ephemeral"]);
    let refused = state.bad(&["publish", "c1", "--alias", "made"]);
    assert_eq!(refused, "The instance is currently running. Use --force to have it stopped and restarted");
    for name in ["c1", "c2"] {
        // What is the same in the same second is the same image.
        state.good(&["exec", name, "--", "sh", "-c", &format!("echo kept {name} > /root/kept")]);
        let kept = format!("kept {name}\n");
        let pid = || state.good(&["list", name, "-f", "csv", "-c", "p"]);
        let before = pid();
        publish(&state, &[name, "--force", "--alias", name]);
        assert_eq!(state.good(&["exec", name, "--", "cat", "/root/kept"]), kept);
        assert_ne!(pid(), before, "it was started anew");
        assert_eq!(state.good(&["run", name, "--", "cat", "/root/kept"]), kept);
    }
    assert!(state.good(&["list", "-f", "csv", "-c", "ns"]).contains("c2,RUNNING"));
    state.good(&["stop", "-f", "c2"]);
    assert!(!state.good(&["list", "-f", "csv", "-c", "n"]).contains("c2"), "it is ephemeral still");
    // Nothing was stopped for what cannot be done.
    let taken = state.bad(&["publish", "c1", "-f", "--compression", "squashfs"]);
    assert!(taken.starts_with("Only split images"), "{taken}");
    assert!(state.good(&["list", "-f", "csv", "-c", "ns"]).contains("c1,RUNNING"));
    state.good(&["delete", "-f", "c1"]);
    state.assert_clean();
}

/// `mksquashfs` reads what a guest has written: it runs without rights and with limits.
#[test]
fn the_packer_has_no_rights() {
    const NAME: &str = "the_packer_has_no_rights";
    if !common_root::can_run(NAME) || !program(NAME, "mksquashfs") {
        return;
    }
    let state = State::new();
    rich(&state);
    state.good(&["create", "rich", "c1"]);
    // The packer cannot write where only root may.
    let open = tempfile::tempdir().unwrap();
    std::fs::set_permissions(open.path(), PermissionsExt::from_mode(0o777)).unwrap();
    let said = open.path().join("said");
    let script = format!(
        "#!/bin/sh\n{{ id -u; id -G; ulimit -v; ulimit -n; grep ^CapEff /proc/self/status; }} >{}\nexec {} \"$@\"\n",
        said.display(),
        open.path().join("real").display()
    );
    let installed = std::env::split_paths(&std::env::var_os("PATH").unwrap())
        .map(|dir| dir.join("mksquashfs"))
        .find(|path| path.is_file())
        .unwrap();
    std::fs::copy(&installed, open.path().join("real")).unwrap();
    std::fs::write(open.path().join("mksquashfs"), script).unwrap();
    std::fs::set_permissions(open.path().join("mksquashfs"), PermissionsExt::from_mode(0o755)).unwrap();
    // In its place, where nobody else sees it.
    let ours = state.command(&["publish", "c1", "--alias", "made", "--format=split", "--compression=squashfs"]);
    let mut command = Command::new("unshare");
    command.args(["-m", "sh", "-c", "mount --bind \"$1\" \"$2\" && shift 2 && exec \"$@\"", "sh"]);
    command.arg(open.path().join("mksquashfs")).arg(installed).arg(ours.get_program()).args(ours.get_args());
    command.envs(ours.get_envs().filter_map(|(k, v)| Some((k, v?))));
    assert!(command.status().unwrap().success());
    let said = std::fs::read_to_string(said).unwrap();
    assert_eq!(said, "65534\n65534\n16777216\n64\nCapEff:\t0000000000000000\n");
    for entry in std::fs::read_dir(state.images()).unwrap() {
        assert_eq!(entry.unwrap().metadata().unwrap().uid(), 0);
    }
    state.good(&["delete", "c1"]);
    state.assert_clean();
}

/// A pool whose file system has no id-mapped mounts: files belong to the container's ids on disk, and to nobody's in an image.
#[test]
fn owners_shifted_on_disk_are_shifted_back() {
    const NAME: &str = "owners_shifted_on_disk_are_shifted_back";
    if !common_root::can_run(NAME) || !program(NAME, "getfattr") {
        return;
    }
    let state = State::bare();
    let preseed = "storage_pools:\n- name: default\n  driver: dir\nprofiles:\n- name: default\n  devices:\n    root:\n      path: /\n      pool: default\n      type: disk\n";
    let said = state.run_with_input(&["admin", "init", "--preseed"], preseed.as_bytes());
    assert_eq!(said.code, 0, "{said:?}");
    let record = state.path().join("state/pools/default/pool.toml");
    let text = std::fs::read_to_string(&record).unwrap();
    let text = match text.contains("volatile.idmap") {
        true => text.replace("\"volatile.idmap\" = \"true\"", "\"volatile.idmap\" = \"false\""),
        false => format!("{text}\n[config]\n\"volatile.idmap\" = \"false\"\n"),
    };
    std::fs::write(&record, text).unwrap();
    let imported = rich(&state);
    state.good(&["launch", "rich", "c1"]);
    let mut volumes = std::fs::read_dir(state.pool().join("containers")).unwrap().map(|e| e.unwrap().file_name());
    let volume = volumes.find(|name| name.to_string_lossy().ends_with("c1")).unwrap();
    let on_disk = std::fs::metadata(state.pool().join("containers").join(&volume).join("rootfs/data/file")).unwrap();
    assert!(on_disk.uid() > 100_000, "{}", on_disk.uid());
    let made = publish(&state, &["c1", "-f"]);
    let (before, after) = (facts(&root_of(&state, &imported)), facts(&root_of(&state, &made)));
    for name in ["bin/busybox", "data/file", "data/hard", "data/full", "data/deep", "data/node", "data/link"] {
        assert_eq!(before[name], after[name], "{name}");
    }
    // One that never ran.
    state.good(&["create", "rich", "c2"]);
    let made = publish(&state, &["c2", "--compression", "none"]);
    let after = facts(&root_of(&state, &made));
    assert_eq!(before["data/file"], after["data/file"]);
    state.good(&["exec", "c1", "--", "true"]);
    state.good(&["delete", "-f", "c1", "c2"]);
    state.assert_clean();
}

#[test]
fn what_cannot_be_published_leaves_nothing() {
    if !common_root::can_run("what_cannot_be_published_leaves_nothing") {
        return;
    }
    let state = State::new();
    common_root::make_images(state.path());
    state.import(&["image.tar", "--alias", "img"]);
    state.good(&["create", "img", "c1"]);
    let before = state.listing();
    for (words, says) in [
        (&["nothing"][..], "Instance not found"),
        (&["c1/snap"], "Instance snapshot not found"),
        (&["c1", "images:"], "The remote \"images\""),
        (&["c1", "local:name"], "Did you want an alias?"),
        (&["images:c1"], "only has images"),
        (&["nowhere:c1"], "doesn't exist"),
        (&["c1", "--compression", "rar"], "isn't currently supported"),
        (&["c1", "--compression", "gzip --files=/etc/shadow"], "Unknown option"),
        (&["c1", "--compression", "squashfs"], "Only split images"),
        (&["c1", "--format", "tar"], "Invalid image format"),
        (&["c1", "--expire", "tomorrow"], "Invalid expiration date"),
        (&["c1", "--alias", "../x"], "Invalid image alias name"),
        (&["c1", "--alias", "img"], "Aliases already exists: img"),
        (&["c1", "noequals"], "key=value"),
        (&["c1", "key=bad\u{7}value"], "property"),
        (&["c1", "bad\nkey=x"], "property"),
    ] {
        let error = state.bad(&[&["publish"], words].concat());
        assert!(error.contains(says), "{words:?}: {error}");
        assert_eq!(state.listing(), before, "{words:?}");
    }
    state.good(&["delete", "c1"]);
    state.assert_clean();
}
