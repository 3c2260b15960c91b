//! Disk devices with a path of the host or a tmpfs.

use crate::support::{Ask, state};
use std::os::unix::fs::{MetadataExt, symlink};

/// A value of `-d` for each option, after `name,type=disk`.
fn disk(name: &str, options: &[(&str, &str)]) -> Vec<String> {
    let all = [("type", "disk")].iter().chain(options).map(|(k, v)| format!("{name},{k}={v}"));
    all.flat_map(|o| ["-d".to_string(), o]).collect()
}

fn words(all: &[Vec<String>]) -> Vec<&str> {
    all.iter().flatten().map(String::as_str).collect()
}

#[test]
fn disks_of_the_host() {
    let Some(state) = state("disks_of_the_host") else { return };
    let dir = state.path("shared");
    std::fs::create_dir(&dir).unwrap();
    std::fs::write(dir.join("file"), "of the host").unwrap();
    let (path, file) = (dir.to_str().unwrap(), dir.join("file"));
    let options = [
        disk("rw", &[("source", path), ("path", "/mnt/rw")]),
        disk("ro", &[("source", path), ("path", "/mnt/ro"), ("readonly", "true")]),
        disk("shifted", &[("source", path), ("path", "/mnt/shifted"), ("shift", "true")]),
        disk("one", &[("source", file.to_str().unwrap()), ("path", "/etc/one")]),
        disk("quiet", &[("source", path), ("path", "/mnt/quiet"), ("raw.mount.options", "noexec,nosuid")]),
        disk("maybe", &[("source", "/no/such/place"), ("path", "/mnt/maybe"), ("required", "false")]),
        disk("tmp", &[("source", "tmpfs:"), ("path", "/mnt/tmp"), ("size", "1MiB"), ("initial.mode", "1777")]),
        disk("below", &[("source", path), ("path", "/mnt/tmp/below/it")]),
    ];
    state.launch("c1", &words(&options)).good().unwrap();
    assert_eq!(state.sh("c1", "cat /mnt/rw/file /etc/one"), "of the hostof the host");
    // Without a shift the host's root is nobody inside, and cannot be written as root.
    assert_eq!(state.sh("c1", "stat -c %u /mnt/rw/file /mnt/shifted/file"), "65534\n0");
    assert!(!state.try_sh("c1", "touch /mnt/rw/new").ok());
    state.sh("c1", "touch /mnt/shifted/new && chown 33 /mnt/shifted/new");
    assert_eq!(std::fs::metadata(dir.join("new")).unwrap().uid(), 33);
    assert!(!state.try_sh("c1", "touch /mnt/ro/new2").ok() && !state.try_sh("c1", "mount -o remount,rw /mnt/ro").ok());
    assert!(state.sh("c1", "grep ' /mnt/quiet ' /proc/mounts").contains("noexec"));
    assert_eq!(
        state.sh("c1", "ls /mnt/maybe 2>&1 | wc -l; stat -f -c %T /mnt/tmp; stat -c %a /mnt/tmp"),
        "1\ntmpfs\n1777"
    );
    assert!(!state.try_sh("c1", "head -c 2000000 /dev/zero > /mnt/tmp/big").ok());
    assert!(
        !state.try_sh("c1", "mknod /mnt/shifted/null c 1 3").ok()
            || !state.try_sh("c1", "echo > /mnt/shifted/null").ok()
    );
    // Everybody gets to where things are mounted, also when it was the monitor that started it.
    state.good(&["restart", "-f", "c1"]);
    assert_eq!(state.sh("c1", "stat -c %a /mnt/tmp/below; cat /mnt/tmp/below/it/file"), "755\nof the host");
    // A stop leaves the host's files alone.
    state.good(&["delete", "-f", "c1"]);
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "of the host");
    let missing = disk("gone", &[("source", "/no/such/place"), ("path", "/mnt/gone")]);
    let out = state.launch("c2", &words(&[missing]));
    out.clean_failure().unwrap();
    assert!(out.stderr.contains("Missing source path \"/no/such/place\" for disk \"gone\""), "{out}");
    std::fs::remove_dir_all(dir).unwrap();
    state.finish();
}

#[test]
fn disks_recursive_or_not() {
    let Some(state) = state("disks_recursive_or_not") else { return };
    let dir = state.path("outer");
    let inner = dir.join("inner");
    std::fs::create_dir_all(&inner).unwrap();
    // In a mount namespace of its own: nothing of it is seen outside.
    let script = format!("mount -t tmpfs none {0} && echo deep > {0}/file && exec \"$@\"", inner.display());
    let options = [
        disk("flat", &[("source", dir.to_str().unwrap()), ("path", "/mnt/flat")]),
        disk("deep", &[("source", dir.to_str().unwrap()), ("path", "/mnt/deep"), ("recursive", "true")]),
    ];
    let mut command = std::process::Command::new("unshare");
    command
        .args(["-m", "sh", "-c", &script, "sh"])
        .arg(&state.bin)
        .args(["launch", "test", "c1"])
        .args(words(&options));
    command.env("STAPES_DIR", &state.dir);
    crate::common_root::run(command, None, crate::common_root::PATIENCE).good().unwrap();
    assert_eq!(state.sh("c1", "ls /mnt/flat/inner | wc -l; cat /mnt/deep/inner/file"), "0\ndeep");
    state.good(&["delete", "-f", "c1"]);
    std::fs::remove_dir_all(dir).unwrap();
    state.finish();
}

/// A mount point that the guest made a link leads inside its own root, never out of it.
#[test]
fn disk_targets_stay_inside() {
    let Some(state) = state("disk_targets_stay_inside") else { return };
    let (dir, victim) = (state.path("source"), state.path("victim"));
    for d in [&dir, &victim] {
        std::fs::create_dir(d).unwrap();
    }
    std::fs::write(dir.join("file"), "x").unwrap();
    let options = disk("d", &[("source", dir.to_str().unwrap()), ("path", "/data/deep")]);
    state.launch("c1", &words(&[options])).good().unwrap();
    state.good(&["stop", "-f", "c1"]);
    let root = || {
        let pools =
            state.layout().pool_containers(&stapes::base::names::PoolName::parse("default").unwrap()).join("c1");
        ["upper", "rootfs"].map(|d| pools.join(d)).into_iter().find(|p| p.is_dir()).unwrap()
    };
    for target in [victim.to_str().unwrap(), "../../../../../../tmp", "/proc/self/root/etc"] {
        let _ = std::fs::remove_dir_all(root().join("data"));
        let _ = std::fs::remove_file(root().join("data"));
        symlink(target, root().join("data")).unwrap();
        if state.run(&["start", "c1"]).ok() {
            state.good(&["stop", "-f", "c1"]);
        }
        assert_eq!(std::fs::read_dir(&victim).unwrap().count(), 0, "{target}");
        assert!(!std::path::Path::new("/tmp/deep").exists() && !std::path::Path::new("/etc/deep").exists());
    }
    for d in [dir, victim] {
        std::fs::remove_dir_all(d).unwrap();
    }
    state.finish();
}
