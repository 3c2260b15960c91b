//! From one pool on btrfs to another: as streams, so that what snapshots share stays shared.

use super::common_root::State;
use super::support::{More, names, state};
use std::path::PathBuf;
use std::process::Command;

/// Bytes in use in the file system of a pool.
fn used(state: &State, pool: &str) -> u64 {
    let data = state.path(&format!("state/pools/{pool}/data"));
    // What was deleted is freed a little later, but for this.
    for words in [["filesystem", "sync"], ["subvolume", "sync"], ["filesystem", "sync"]] {
        assert!(Command::new("btrfs").args(words).arg(&data).output().unwrap().status.success());
    }
    let stat = rustix::fs::statvfs(&data).unwrap();
    (stat.f_blocks - stat.f_bfree) * stat.f_frsize
}

fn volume(state: &State, pool: &str, rel: &str) -> PathBuf {
    state.path(&format!("state/pools/{pool}/data/{rel}"))
}

/// All there is to a tree: names, kinds, modes, owners, times, attributes, links, data.
pub fn facts(root: PathBuf) -> String {
    let script = "find . -printf '%P %y %m %U %G %T@ %l %n\\n' | sort; getfattr -Rhd -m - . 2>/dev/null | sort; \
                  find . -type f -exec sha256sum {} + | sort";
    let out = Command::new("/bin/sh").args(["-c", script]).current_dir(&root).output().unwrap();
    assert!(out.status.success(), "{}: {out:?}", root.display());
    String::from_utf8(out.stdout).unwrap()
}

/// What is sent, and was received, is called otherwise than what a user makes.
fn only_named(state: &State, pools: &[&str]) {
    for pool in pools {
        for folder in ["containers", "containers-snapshots", "custom", "custom-snapshots"] {
            let all = names(&volume(state, pool, folder));
            assert!(all.iter().all(|n| !n.starts_with('.') && !n.contains(':')), "{pool}: {all:?}");
        }
    }
    state.doctor().unwrap();
}

const BIG: u64 = 64 << 20;

fn pools(test: &str) -> Option<State> {
    let state = state(test, true)?;
    state.ok("storage create a btrfs size=768MiB");
    state.ok("storage create b btrfs size=768MiB");
    Some(state)
}

#[test]
fn snapshots_share_in_the_pool_they_are_copied_to() {
    let Some(state) = pools("snapshots_share_in_the_pool_they_are_copied_to") else { return };
    state.ok("launch img c1 -s a");
    let fill = "cd /root; dd if=/dev/urandom of=big bs=1M count=64 2>/dev/null; echo one >x; mkdir d; ln x d/hard; \
                ln -s x soft; mknod pipe p; chown 5:6 d; chmod 4751 x";
    state.sh("c1", fill).good().unwrap();
    for step in ["mv d e; echo two >x", "rm pipe; truncate -s 3M e/hole", "echo four >>x; chmod 600 x"] {
        state.ok("snapshot create c1");
        state.sh("c1", &format!("cd /root; {step}")).good().unwrap();
    }
    let before = used(&state, "b");
    // It runs meanwhile.
    state.ok("copy c1 c2 -s b");
    let grown = used(&state, "b") - before;
    assert!(grown > BIG && grown < BIG * 3 / 2, "{grown}");
    assert!(state.ok("list c1 -f csv -c s").contains("RUNNING"));
    for snap in ["snap0", "snap1", "snap2"] {
        let at = |pool, name| facts(volume(&state, pool, &format!("containers-snapshots/{name}@{snap}/rootfs")));
        assert_eq!(at("a", "c1"), at("b", "c2"), "{snap}");
    }
    only_named(&state, &["a", "b"]);
    // What has come since is all that is sent.
    state.sh("c1", "cd /root; echo five >>x; dd if=/dev/urandom of=more bs=1M count=8 2>/dev/null").good().unwrap();
    state.ok("snapshot create c1");
    state.ok("snapshot delete c1 snap0");
    state.ok("stop -f c1");
    let before = used(&state, "b");
    state.ok("copy c1 c2 --refresh");
    let grown = used(&state, "b").saturating_sub(before);
    assert!(grown < BIG / 2, "{grown}");
    let root = |pool, name| facts(volume(&state, pool, &format!("containers/{name}/rootfs")));
    assert_eq!(root("a", "c1"), root("b", "c2"));
    assert_eq!(state.ok("snapshot list c2 -f csv -c n"), "snap1\nsnap2\nsnap3\n");
    // Both are whole and go on.
    for name in ["c1", "c2"] {
        state.ok(&format!("snapshot restore {name} snap1"));
        state.ok(&format!("start {name}"));
        assert_eq!(state.ok(&format!("exec {name} -- cat /root/x")), "two\n");
        state.ok(&format!("stop -f {name}"));
    }
    let before = used(&state, "b");
    state.ok("delete c2");
    state.ok("move c1 -s b");
    assert!(used(&state, "b") < before + BIG / 2, "it shares there, too");
    assert_eq!(names(&volume(&state, "a", "containers-snapshots")), [""; 0]);
    state.ok("snapshot restore c1 snap3");
    state.ok("start c1");
    state.sh("c1", "test $(stat -c %s /root/more) = 8388608").good().unwrap();
    only_named(&state, &["a", "b"]);
    state.finish(&["a", "b"]);
}

/// A size stays, subvolumes of a guest's come along, and file by file whatever a stream does not tell.
#[test]
fn what_streams_do_not_tell_crosses_too() {
    let Some(state) = pools("what_streams_do_not_tell_crosses_too") else { return };
    state.ok("create img c1 -s a -d root,size=200MiB");
    state.ok("snapshot create c1");
    let inner = volume(&state, "a", "containers/c1/rootfs/root/inner");
    assert!(Command::new("btrfs").args(["-q", "subvolume", "create"]).arg(&inner).status().unwrap().success());
    std::fs::write(inner.join("file"), "nested").unwrap();
    state.ok("copy c1 c2 -s b");
    let file = volume(&state, "b", "containers/c2/rootfs/root/inner/file");
    assert_eq!(std::fs::read_to_string(file).unwrap(), "nested");
    assert!(state.ok("storage volume info b container/c2").contains("Total: 200.00MiB"));
    // Without it the root is sent again.
    assert!(Command::new("btrfs").args(["-q", "subvolume", "delete"]).arg(&inner).status().unwrap().success());
    state.ok("copy c1 c2 --refresh");
    let root = |pool, name| facts(volume(&state, pool, &format!("containers/{name}/rootfs")));
    assert_eq!(root("a", "c1"), root("b", "c2"));
    assert!(state.ok("storage volume info b container/c2").contains("Total: 200.00MiB"), "a size outlives a refresh");
    only_named(&state, &["a", "b"]);
    state.finish(&["a", "b"]);
}

#[test]
fn volumes_share_in_the_pool_they_are_copied_to() {
    let Some(state) = pools("volumes_share_in_the_pool_they_are_copied_to") else { return };
    for (kind, file) in [("filesystem", "file"), ("block", "root.img")] {
        state.ok(&format!("storage volume create a v --type {kind} size=80MiB"));
        let path = volume(&state, "a", &format!("custom/default_v/{file}"));
        let write = |at: u64, count: u64| {
            let out = format!("of={}", path.display());
            let (seek, count) = (format!("seek={at}"), format!("count={count}"));
            let words = ["if=/dev/urandom", &out, "bs=1M", "conv=notrunc,fsync", &seek, &count];
            assert!(Command::new("dd").args(words).output().unwrap().status.success());
        };
        write(0, 48);
        for at in 0..3 {
            state.ok("storage volume snapshot create a v");
            write(at, 1);
        }
        let before = used(&state, "b");
        state.ok("storage volume copy a/v b/w");
        let grown = used(&state, "b") - before;
        assert!(grown < 72 << 20, "{kind}: {grown}");
        for rel in ["custom/default_X", "custom-snapshots/default_X@snap0", "custom-snapshots/default_X@snap2"] {
            let at = |pool, name| facts(volume(&state, pool, &rel.replace('X', name)));
            assert_eq!(at("a", "v"), at("b", "w"), "{kind} {rel}");
        }
        write(5, 1);
        state.ok("storage volume snapshot create a v");
        let before = used(&state, "b");
        state.ok("storage volume copy a/v b/w --refresh");
        let grown = used(&state, "b").saturating_sub(before);
        assert!(grown < 24 << 20, "{kind}: {grown}");
        assert_eq!(facts(volume(&state, "a", "custom/default_v")), facts(volume(&state, "b", "custom/default_w")));
        state.ok("storage volume delete b w");
        state.ok("storage volume move a/v b/v");
        state.ok("storage volume snapshot restore b v snap0");
        only_named(&state, &["a", "b"]);
        state.ok("storage volume delete b v");
    }
    state.finish(&["a", "b"]);
}
