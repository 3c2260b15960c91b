//! What must hold for the storage pool `p2` after a crash: it is there and can be used, or it is not and its name, its source
//! and its file are free.

use super::checks::{created, want};
use super::common_root::{self, State};
use super::scenarios::{Scenario, scenario};
use super::{lvm, zfs};
use std::path::Path;
use std::time::{Duration, Instant};

/// There if a pool on btrfs can be made.
const BTRFS: &str = "btrfs";
const LOOP: &[&str] = &["storage create p2 btrfs size=256MiB"];
const FOLDER: &[&str] = &["storage create p2 dir source=source"];
/// In a volume group of the state's own, see [`run`].
pub const GROUP: &str = "storage create p2 lvm size=256MiB volume.size=48MiB lvm.vg_name=GROUP";

/// A backup as streams.
pub const OPTIMIZED: &str = "export c1 out.tar -f --compression none --optimized-storage";
/// A second pool, to copy to.
const SECOND: &str = "storage create p3 btrfs size=256MiB";
const RESIZE: &str = "config device set c1 root size=80MiB";

/// The rows of pools.
pub const ALL: &[Scenario] = &[
    Scenario { prepare, ..scenario("storage create, folder", FOLDER[0], made) },
    scenario("storage create", "storage create p2 dir", made),
    Scenario { before: FOLDER, prepare, ..scenario("storage delete, folder", "storage delete p2", deleted) },
    Scenario { needs: BTRFS, ..scenario("storage create, loop", LOOP[0], made) },
    Scenario { needs: BTRFS, before: LOOP, ..scenario("storage delete, loop", "storage delete p2", deleted) },
    Scenario { needs: BTRFS, before: LOOP, ..scenario("storage set size", "storage set p2 size=384MiB", grown) },
    Scenario { needs: BTRFS, before: LOOP, ..scenario("create, btrfs", "create img c1 -s p2", created_there) },
    Scenario {
        needs: BTRFS,
        before: &[LOOP[0], "admin shutdown"],
        ..scenario("launch, btrfs, not mounted", "launch img c1 -s p2", created_there)
    },
    Scenario {
        needs: BTRFS,
        before: &[LOOP[0], "create img c1 -s p2"],
        ..scenario("snapshot, btrfs", "snapshot create c1 s1", kept_there)
    },
    Scenario {
        needs: BTRFS,
        before: &[LOOP[0], "create img c1 -s p2", "snapshot create c1 s1"],
        ..scenario("snapshot restore, btrfs", "snapshot restore c1 s1", kept_there)
    },
    Scenario {
        needs: BTRFS,
        before: &[LOOP[0], "create img c1 -s p2"],
        ..scenario("delete, btrfs", "delete c1", deleted_there)
    },
    Scenario {
        needs: BTRFS,
        before: &[LOOP[0], "create img c1 -s p2", "snapshot create c1 s1"],
        ..scenario("export, streams", OPTIMIZED, kept_there)
    },
    Scenario {
        needs: BTRFS,
        before: &[LOOP[0], "create img c1 -s p2", "snapshot create c1 s1", OPTIMIZED, "delete c1"],
        ..scenario("import, streams", "import out.tar", created_there)
    },
    Scenario {
        needs: BTRFS,
        before: &[LOOP[0], SECOND, "create img c1 -s p2", "snapshot create c1 s1"],
        ..scenario("copy, streams", "copy c1 c3 -s p3", crossed)
    },
    Scenario {
        needs: BTRFS,
        before: &[LOOP[0], SECOND, "create img c1 -s p2", "snapshot create c1 s1"],
        ..scenario("move, streams", "move c1 -s p3", went_across)
    },
    Scenario {
        needs: BTRFS,
        before: LOOP,
        ..scenario("create, size", "create img c1 -s p2 -d root,size=60MiB", sized_instance)
    },
    Scenario {
        needs: BTRFS,
        before: &[LOOP[0], "launch img c1 -s p2"],
        ..scenario("device set size, running", "config device set c1 root size=60MiB", sized_instance)
    },
    Scenario {
        needs: BTRFS,
        before: &[LOOP[0], "create img c1 -s p2 -d root,size=60MiB", "snapshot create c1 s1", RESIZE],
        ..scenario("snapshot restore, size", "snapshot restore c1 s1", sized_instance)
    },
    Scenario {
        needs: BTRFS,
        before: LOOP,
        ..scenario("volume create, size", "storage volume create p2 v1 size=60MiB", sized_volume)
    },
    Scenario {
        needs: BTRFS,
        before: &[LOOP[0], "storage volume create p2 v1 size=60MiB"],
        ..scenario("volume set size", "storage volume set p2 v1 size=80MiB", sized_volume)
    },
];

/// A file `btrfs` if pools on it can be made.
pub fn mark(state: &State) {
    if common_root::have("mkfs.btrfs") && Path::new("/dev/loop-control").exists() {
        std::fs::write(state.path(BTRFS), "").unwrap();
    }
    lvm::mark(state);
    zfs::mark(state);
}

fn prepare(state: &State) {
    std::fs::create_dir(state.path("source")).unwrap();
}

/// The pool can be used and deleted; or all of it is free. True: it was there.
fn whole_or_absent(state: &State) -> Result<bool, String> {
    let pools = state.run(&["storage", "list", "-f", "csv", "-c", "n"]).good()?;
    let there = pools.lines().any(|l| l == "p2");
    if !there {
        if zfs::is_chosen(state) {
            run(state, zfs::CREATE)?;
            run(state, "storage delete p2")?;
            return Ok(false);
        }
        let group = state.path("group").exists();
        for (words, there) in [(FOLDER[0], "source"), (LOOP[0], BTRFS), (GROUP, "group")] {
            if state.path(there).exists() && group == (words == GROUP) {
                run(state, words)?;
                run(state, "storage delete p2")?;
            }
        }
        return Ok(false);
    }
    run(state, "create c2 --empty -s p2")?;
    run(state, "delete c2")?;
    run(state, "storage delete p2")?;
    Ok(true)
}

/// A command with the names of this state's volume group and ZFS pool.
pub fn named(state: &State, words: &str) -> String {
    let words = zfs::named(state, &words.replace("GROUP", &lvm::group(state)));
    match words.contains("FINGERPRINT") {
        true => words.replace("FINGERPRINT", state.good(&["image", "list", "-f", "csv", "-c", "F"]).trim()),
        false => words,
    }
}

fn run(state: &State, words: &str) -> Result<(), String> {
    let words = named(state, words);
    state.run(&words.split(' ').collect::<Vec<_>>()).good().map(drop)
}

/// The folder of the user's is as it was; no file and no loop device is left.
fn free(state: &State) -> Result<(), String> {
    let empty = |at: &Path| std::fs::read_dir(at).map_or(0, Iterator::count) == 0;
    want(empty(&state.path("source")), "something is left in the source")?;
    want(empty(&state.path("state/disks")), "a file of a pool is left")?;
    want(lvm::no_device(state), "a logical volume is left")?;
    want(!zfs::is_imported(state), "a ZFS pool is left")?;
    let image = state.path("state/disks/p2.img").display().to_string();
    let end = Instant::now() + Duration::from_secs(30);
    loop {
        let devices = std::process::Command::new("losetup").args(["-n", "-O", "BACK-FILE"]).output();
        let devices = devices.map_err(|e| e.to_string())?;
        if !String::from_utf8_lossy(&devices.stdout).contains(&image) {
            return Ok(());
        }
        // The mounts of a container that ended go after it, and with the last one the device.
        want(Instant::now() < end, "a loop device is left")?;
        std::thread::sleep(Duration::from_millis(20));
    }
}

pub fn made(state: &State, done: bool) -> Result<(), String> {
    want(whole_or_absent(state)? || !done, "it was reported made and is not there")?;
    free(state)
}

pub fn deleted(state: &State, done: bool) -> Result<(), String> {
    want(!whole_or_absent(state)? || !done, "it was reported deleted and is there")?;
    free(state)
}

/// As long as the record says, or the growth is not done.
pub fn grown(state: &State, done: bool) -> Result<(), String> {
    let said = state.run(&["storage", "get", "p2", "size"]).good()?;
    let is = std::fs::metadata(state.path("state/disks/p2.img")).map_err(|e| e.to_string())?.len() >> 20;
    want(said.trim() == format!("{is}MiB") || (said.trim() == "256MiB" && is == 384), &format!("{said} {is}"))?;
    want(is == 384 || !done, "it was reported grown and is not")?;
    want(whole_or_absent(state)?, "it is lost")?;
    free(state)
}

pub fn created_there(state: &State, done: bool) -> Result<(), String> {
    created(state, done)?;
    want(whole_or_absent(state)?, "the pool is lost")?;
    free(state)
}

pub fn kept_there(state: &State, _done: bool) -> Result<(), String> {
    created_there(state, true)
}

/// `c3` on the other pool is a whole copy or is not there, and `c1` is as it was.
pub fn crossed(state: &State, done: bool) -> Result<(), String> {
    let there = super::checks::whole_or_absent(state, "c3")?;
    want(there || !done, "it was reported copied and is not there")?;
    run(state, "storage delete p3")?;
    kept_there(state, done)
}

/// `c1` is on one of the pools, with its snapshot.
pub fn went_across(state: &State, done: bool) -> Result<(), String> {
    let pool = state.run(&["list", "c1", "-f", "csv", "-c", "b"]).good()?;
    want(pool.trim() == "p3" || !done, "it was reported moved and was not")?;
    run(state, "snapshot restore c1 s1")?;
    created(state, true)?;
    run(state, "storage delete p3")?;
    only_the_pool(state)
}

pub fn deleted_there(state: &State, done: bool) -> Result<(), String> {
    super::checks::deleted(state, done)?;
    want(whole_or_absent(state)?, "the pool is lost")?;
    free(state)
}

/// A volume has the size that its record says.
fn sized(state: &State, record: &[&str], volume: &str) -> Result<(), String> {
    // Settles what the killed command left.
    run(state, "create c2 --empty -s p2")?;
    run(state, "delete c2")?;
    let said = state.run(record).good()?;
    let info = state.run(&["storage", "volume", "info", "p2", volume]).good()?;
    let total = info.lines().find_map(|l| l.strip_prefix("Total: ")).unwrap_or_default();
    want(total.replace(".00", "") == said.trim(), &format!("{volume}: on record {said:?}, kept {total:?}"))
}

pub fn sized_instance(state: &State, done: bool) -> Result<(), String> {
    let there = state.run(&["list", "-f", "csv", "-c", "n"]).good()?.lines().any(|l| l == "c1");
    want(there || !done, "it was reported made and is not there")?;
    if there {
        sized(state, &["config", "device", "get", "c1", "root", "size"], "container/c1")?;
        created_there(state, done)
    } else {
        only_the_pool(state)
    }
}

fn sized_volume(state: &State, done: bool) -> Result<(), String> {
    let listed = || state.run(&["storage", "volume", "list", "p2", "-f", "csv", "-c", "n"]).good();
    run(state, "create c2 --empty -s p2")?;
    run(state, "delete c2")?;
    let there = listed()?.lines().any(|l| l == "v1");
    want(there || !done, "it was reported made and is not there")?;
    if there {
        sized(state, &["storage", "volume", "get", "p2", "v1", "size"], "v1")?;
        run(state, "storage volume delete p2 v1")?;
    }
    only_the_pool(state)
}

/// Nothing but the pool is there, whole.
pub fn only_the_pool(state: &State) -> Result<(), String> {
    want(whole_or_absent(state)?, "the pool is lost")?;
    free(state)
}
