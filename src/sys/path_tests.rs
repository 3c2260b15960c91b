//! Tests of `sys::path`: nothing leaves the root, whatever the tree holds.

use super::*;
use std::os::unix::fs::{PermissionsExt, symlink as plant};

fn me() -> Owner {
    Owner { uid: nix::unistd::geteuid().as_raw(), gid: nix::unistd::getegid().as_raw(), mode: 0o640 }
}

struct Jail {
    _dir: tempfile::TempDir,
    root: OwnedFd,
    inside: std::path::PathBuf,
    outside: std::path::PathBuf,
}

fn jail() -> Jail {
    let dir = tempfile::tempdir().expect("temporary directory");
    let (inside, outside) = (dir.path().join("in"), dir.path().join("out"));
    std::fs::create_dir(&inside).expect("mkdir");
    std::fs::create_dir(&outside).expect("mkdir");
    std::fs::write(outside.join("canary"), "host").expect("write");
    let root = open_root(&inside).expect("root");
    Jail { _dir: dir, root, inside, outside }
}

#[test]
fn links_and_dots_stay_inside_or_fail() {
    let j = jail();
    plant(&j.outside, j.inside.join("abs")).expect("symlink");
    plant("../out", j.inside.join("rel")).expect("symlink");
    plant("/proc/self/root", j.inside.join("magic")).expect("symlink");
    std::fs::write(j.inside.join("canary"), "guest").expect("write");
    for name in ["abs/canary", "rel/canary", "magic/etc/passwd", "../out/canary", "../../etc/passwd"] {
        for links in [Links::InRoot, Links::Refuse] {
            assert!(read_limited(j.root.as_fd(), Path::new(name), 100, links).is_err(), "{name} {links:?}");
            assert!(write_replace(j.root.as_fd(), Path::new(name), b"x", me(), links).is_err(), "{name} {links:?}");
        }
    }
    // `..` stops at the root.
    let data = read_limited(j.root.as_fd(), Path::new("/../../canary"), 100, Links::InRoot).expect("read");
    assert_eq!(data, b"guest");
    assert!(read_limited(j.root.as_fd(), Path::new("../in/canary"), 100, Links::Refuse).is_err());
    assert_eq!(std::fs::read(j.outside.join("canary")).expect("read"), b"host");
}

#[test]
fn cve_2025_9566_write_replaces_a_link_at_the_name() {
    let j = jail();
    plant(j.outside.join("canary"), j.inside.join("hosts")).expect("symlink");
    write_replace(j.root.as_fd(), Path::new("hosts"), b"new", me(), Links::InRoot).expect("write");
    assert_eq!(std::fs::read(j.outside.join("canary")).expect("read"), b"host");
    let meta = std::fs::symlink_metadata(j.inside.join("hosts")).expect("stat");
    assert!(meta.is_file());
    assert_eq!(meta.permissions().mode() & 0o7777, 0o640);
    assert_eq!(std::fs::read_dir(&j.inside).expect("list").count(), 1);
}

#[test]
fn only_regular_files_are_opened() {
    let j = jail();
    let fifo = Path::new("pipe");
    mknod(j.root.as_fd(), fifo, Kind::Fifo, (0, 0), me(), Links::Refuse).expect("mknod");
    assert_eq!(stat(j.root.as_fd(), fifo, Links::Refuse).expect("stat").mode, 0o640);
    // Would block for ever if it were opened.
    assert!(read_limited(j.root.as_fd(), fifo, 10, Links::InRoot).is_err());
    assert!(open_regular(j.root.as_fd(), Path::new("."), OFlags::RDONLY, Links::InRoot).is_err());
}

#[test]
fn dirs_are_made_through_links_inside() {
    let j = jail();
    std::fs::create_dir(j.inside.join("real")).expect("mkdir");
    plant("/real", j.inside.join("link")).expect("symlink");
    let o = me();
    create_dir_all(j.root.as_fd(), Path::new("/link/a/b"), o.uid, o.gid, 0o755, Links::InRoot).expect("made");
    assert!(j.inside.join("real/a/b").is_dir());
    assert!(create_dir_all(j.root.as_fd(), Path::new("link/c"), o.uid, o.gid, 0o755, Links::Refuse).is_err());
    assert!(create_dir_all(j.root.as_fd(), Path::new(""), o.uid, o.gid, 0o755, Links::Refuse).is_ok());
}

#[test]
fn hard_link_takes_the_link_itself() {
    let j = jail();
    plant(j.outside.join("canary"), j.inside.join("s")).expect("symlink");
    link(j.root.as_fd(), Path::new("s"), Path::new("t"), Links::InRoot).expect("link");
    assert_eq!(stat(j.root.as_fd(), Path::new("t"), Links::InRoot).expect("stat").kind, Kind::Symlink);
    assert!(link(j.root.as_fd(), Path::new("../out/canary"), Path::new("u"), Links::InRoot).is_err());
    assert!(link(j.root.as_fd(), Path::new("../out/canary"), Path::new("u"), Links::Refuse).is_err());
}

#[test]
fn limits_and_bad_names() {
    let j = jail();
    std::fs::write(j.inside.join("f"), vec![0; 20]).expect("write");
    assert!(read_limited(j.root.as_fd(), Path::new("f"), 19, Links::Refuse).is_err());
    assert_eq!(read_limited(j.root.as_fd(), Path::new("f"), 20, Links::Refuse).expect("read").len(), 20);
    for bad in ["", "/", "..", "a/.."] {
        assert!(unlink(j.root.as_fd(), Path::new(bad), Links::InRoot).is_err(), "{bad}");
    }
    assert_eq!(read_dir(j.root.as_fd()).expect("list").len(), 1);
    remove_contents(j.root.as_fd()).expect("removed");
    assert!(read_dir(j.root.as_fd()).expect("list").is_empty());
}

#[test]
fn cve_2018_15664_a_racer_never_leads_a_lookup_out() {
    let j = jail();
    std::fs::create_dir(j.inside.join("d")).expect("mkdir");
    std::fs::write(j.inside.join("d/canary"), "guest").expect("write");
    plant(&j.outside, j.inside.join("l")).expect("symlink");
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|s| {
        s.spawn(|| {
            let dir = open_root(&j.inside).expect("root");
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                let _ = rustix::fs::renameat_with(&dir, "d", &dir, "l", rustix::fs::RenameFlags::EXCHANGE);
            }
        });
        for _ in 0..5_000 {
            for links in [Links::InRoot, Links::Refuse] {
                if let Ok(data) = read_limited(j.root.as_fd(), Path::new("d/canary"), 100, links) {
                    assert_eq!(data, b"guest");
                }
                let _ = write_replace(j.root.as_fd(), Path::new("d/new"), b"x", me(), links);
            }
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    assert!(!j.outside.join("new").exists());
}
