//! The rows of pools on ZFS. They need its module, which the guest has: `STAPES_MATRIX=zfs tests/guest/root-tier
//! root_crash_matrix`.

use super::checks::{created, want, whole_or_absent};
use super::common_root::{self, State};
use super::pools::{OPTIMIZED, created_there, crossed, deleted, deleted_there, grown, kept_there, made};
use super::pools::{only_the_pool, sized_instance, went_across};
use super::scenarios::{Scenario, scenario};
use std::path::Path;
use std::process::Command;

/// There if a pool on ZFS can be made.
const NEEDS: &str = "zfs";
/// There if the pool of this state is one.
const CHOSEN: &str = "zpool";
/// A pool of the state's own, see [`named`].
pub const CREATE: &str = "storage create p2 zfs size=256MiB zfs.pool_name=ZPOOL";
/// One that shares nothing between copies.
const UNSHARED: &str = "storage create p2 zfs size=256MiB zfs.pool_name=ZPOOL zfs.clone_copy=false";
/// One whose volumes are block devices with a file system.
const BLOCK: &str =
    "storage create p2 zfs size=256MiB zfs.pool_name=ZPOOL volume.zfs.block_mode=true volume.size=48MiB";
/// A second pool, to copy to.
const SECOND: &str = "storage create p3 zfs size=256MiB zfs.pool_name=ZPOOL-b";
const INSTANCE: &str = "create img c1 -s p2";
const SNAPSHOT: &str = "snapshot create c1 s1";
const ACROSS: &str = "copy c1 c3 -s p3";

const fn row(
    name: &'static str,
    before: &'static [&'static str],
    verb: &'static str,
    check: fn(&State, bool) -> Result<(), String>,
) -> Scenario {
    Scenario { needs: NEEDS, prepare: choose, before, ..scenario(name, verb, check) }
}

/// All rows.
pub const ALL: &[Scenario] = &[
    row("zfs storage create", &[], CREATE, made),
    row("zfs storage delete", &[CREATE], "storage delete p2", deleted),
    row("zfs storage set size", &[CREATE], "storage set p2 size=384MiB", grown),
    row("zfs launch, exported", &[CREATE, "admin shutdown"], "launch img c1 -s p2", created_there),
    row("zfs snapshot", &[CREATE, INSTANCE], "snapshot create c1 s1", kept_there),
    row("zfs snapshot restore", &[CREATE, INSTANCE, SNAPSHOT], "snapshot restore c1 s1", kept_there),
    row("zfs copy", &[CREATE, INSTANCE], "copy c1 c3", copied),
    row("zfs delete", &[CREATE, INSTANCE, SNAPSHOT], "delete c1", deleted_there),
    row("zfs copy, unshared", &[UNSHARED, INSTANCE], "copy c1 c3", copied),
    row("zfs copy, streams", &[CREATE, SECOND, INSTANCE, SNAPSHOT], ACROSS, crossed),
    row("zfs move, streams", &[CREATE, SECOND, INSTANCE, SNAPSHOT], "move c1 -s p3", went_across),
    row(
        "zfs refresh, streams",
        &[CREATE, SECOND, INSTANCE, SNAPSHOT, ACROSS, "snapshot create c1 s2"],
        "copy c1 c3 --refresh",
        refreshed,
    ),
    row(
        "zfs start, owners of a volume",
        &[CREATE, INSTANCE, "storage volume create p2 v", "storage volume attach p2 v c1 data /data"],
        "start c1",
        started_with_volume,
    ),
    row("zfs block create", &[BLOCK], INSTANCE, created_there),
    row("zfs block snapshot restore", &[BLOCK, INSTANCE, SNAPSHOT], "snapshot restore c1 s1", kept_there),
    row("zfs block copy", &[BLOCK, INSTANCE], "copy c1 c3", copied),
    row("zfs block delete", &[BLOCK, INSTANCE, SNAPSHOT], "delete c1", deleted_there),
    row(
        "zfs block device set size, running",
        &[BLOCK, "launch img c1 -s p2 -d root,size=60MiB"],
        "config device set c1 root size=80MiB",
        sized_instance,
    ),
    row("zfs export, streams", &[CREATE, INSTANCE, SNAPSHOT], OPTIMIZED, kept_there),
    row("zfs import, streams", &[CREATE, INSTANCE, SNAPSHOT, OPTIMIZED, "delete c1"], "import out.tar", created_there),
];

/// A file that says so.
pub fn mark(state: &State) {
    let loads = || Command::new("modprobe").arg("zfs").output().is_ok_and(|out| out.status.success());
    if ["zfs", "zpool"].into_iter().all(common_root::have) && loads() {
        std::fs::write(state.path(NEEDS), "").unwrap();
    }
}

fn choose(state: &State) {
    std::fs::write(state.path(CHOSEN), "").unwrap();
}

/// The pool of this state is one on ZFS.
pub fn is_chosen(state: &State) -> bool {
    state.path(CHOSEN).exists()
}

fn pool(state: &State) -> String {
    let name = state.dir.file_name().unwrap().to_string_lossy().replace(|c: char| !c.is_ascii_alphanumeric(), "");
    format!("matrix{name}")
}

/// Words with the name of the state's ZFS pool: all of the machine are in one list.
pub fn named(state: &State, words: &str) -> String {
    words.replace("ZPOOL", &pool(state))
}

/// A ZFS pool of the state's is there.
pub fn is_imported(state: &State) -> bool {
    ["ZPOOL", "ZPOOL-b"].iter().any(|name| Path::new("/proc/spl/kstat/zfs").join(named(state, name)).exists())
}

/// There and whole, or not; and what it was made from stays.
fn copied(state: &State, done: bool) -> Result<(), String> {
    let there = state.run(&["list", "-f", "csv", "-c", "n"]).good()?.lines().any(|name| name == "c3");
    want(there || !done, "it was reported copied and is not there")?;
    // What it was made from goes first.
    created(state, true)?;
    if there {
        state.run(&["start", "c3"]).good()?;
        state.run(&["exec", "c3", "--", "/bin/true"]).good()?;
        state.run(&["delete", "-f", "c3"]).good()?;
    }
    state.run(&["create", "img", "c1", "-s", "p2"]).good()?;
    kept_there(state, true)
}

/// The volume whose owners are shifted for the instance is there, and nothing of it twice.
fn started_with_volume(state: &State, _done: bool) -> Result<(), String> {
    state.run(&["storage", "volume", "show", "p2", "v"]).good()?;
    want(whole_or_absent(state, "c1")?, "it is lost")?;
    state.run(&["storage", "volume", "delete", "p2", "v"]).good()?;
    only_the_pool(state)
}

/// `c3` on the other pool is there with what it had, and takes what it lacks once more.
fn refreshed(state: &State, done: bool) -> Result<(), String> {
    let list = |name: &str| state.run(&["snapshot", "list", name, "-f", "csv", "-c", "n"]).good();
    let has = list("c3")?;
    want(has == "s1\ns2\n" || (has == "s1\n" && !done), &format!("it has {has:?}"))?;
    state.run(&["copy", "c1", "c3", "--refresh"]).good()?;
    want(list("c3")? == "s1\ns2\n", "a refresh does not bring it all")?;
    state.run(&["snapshot", "restore", "c3", "s2"]).good()?;
    want(whole_or_absent(state, "c3")?, "it is lost")?;
    crossed(state, false)
}
