//! Custom volumes, after a crash: whole under one of their names or not there, and what runs has what the records say.

use super::checks::{created, kept, want};
use super::common_root::State;
use super::scenarios::{Scenario, scenario};

const VOLUME: &[&str] = &["storage volume create default v1 user.x=old"];
const SNAPSHOT: &[&str] = &[VOLUME[0], "storage volume snapshot create default v1 s1"];
const USED: &[&str] = &[SNAPSHOT[0], SNAPSHOT[1], "create img c1", "storage volume attach default v1 c1 data /data"];
const USED_OTHER: &[&str] = &[USED[0], USED[1], USED[2], USED[3], "storage create other dir"];
const RUNS: &[&str] = &[VOLUME[0], "launch img c1"];
const RUNS_WITH: &[&str] = &[VOLUME[0], "launch img c1", "storage volume attach default v1 c1 data /data"];

const EXPORT: &str = "storage volume export default v1 v1.tar --compression none";
const EXPORTED: &[&str] = &[SNAPSHOT[0], SNAPSHOT[1], EXPORT, "storage volume delete default v1"];
const RUNS_EXPORTED: &[&str] = &[
    SNAPSHOT[0],
    SNAPSHOT[1],
    "launch img c1 -d data,type=disk -d data,pool=default -d data,source=v1 -d data,path=/data",
];

const DISK: &[&str] = &["storage volume create default v1 --type=block size=1MiB user.x=old"];
const DISK_SNAPSHOT: &[&str] = &[DISK[0], SNAPSHOT[1], "storage volume set default v1 size=2MiB"];
const DISK_EXPORTED: &[&str] = &[DISK[0], SNAPSHOT[1], EXPORT, "storage volume delete default v1"];

const REFRESHED: &[&str] = &[
    SNAPSHOT[0],
    "storage volume snapshot create default v1 gone",
    "storage volume copy default/v1 default/v2",
    "storage volume snapshot delete default v1 gone",
    SNAPSHOT[1],
];

pub const ALL: &[Scenario] = &[
    Scenario { before: EXPORTED, ..scenario("volume import", "storage volume import default v1.tar", imported) },
    Scenario { before: RUNS_EXPORTED, ..scenario("volume export, running", EXPORT, exported) },
    scenario("volume create", "storage volume create default v1 user.x=old", made),
    Scenario { before: VOLUME, ..scenario("volume set", "storage volume set default v1 user.x=new", there) },
    scenario("disk create", DISK[0], made),
    Scenario { before: DISK, ..scenario("disk set", "storage volume set default v1 size=3MiB", sized) },
    Scenario {
        before: DISK_SNAPSHOT,
        ..scenario("disk restore", "storage volume snapshot restore default v1 s1", sized)
    },
    Scenario { before: DISK_EXPORTED, ..scenario("disk import", "storage volume import default v1.tar", imported) },
    // Any file will do.
    Scenario {
        before: EXPORTED,
        ..scenario("disc import", "storage volume import default v1.tar v1 --type=iso", disc)
    },
    scenario("volume delete, image", "storage volume delete default image/FINGERPRINT", unpacked_again),
    Scenario { before: SNAPSHOT, ..scenario("volume delete", "storage volume delete default v1", gone) },
    Scenario { before: SNAPSHOT, ..scenario("volume rename", "storage volume rename default v1 v2", renamed) },
    Scenario { before: USED, ..scenario("volume rename, used", "storage volume rename default v1 v2", renamed_used) },
    Scenario {
        before: USED_OTHER,
        ..scenario("volume move, used", "storage volume move default/v1 other/v2", moved_used)
    },
    Scenario { before: VOLUME, ..scenario("volume snapshot", "storage volume snapshot create default v1 s1", taken) },
    Scenario {
        before: RUNS_WITH,
        ..scenario("volume snapshot, running", "storage volume snapshot create default v1 s1", taken_running)
    },
    Scenario {
        before: RUNS_WITH,
        ..scenario("volume copy, running", "storage volume copy default/v1 default/v2", copied_running)
    },
    Scenario {
        before: SNAPSHOT,
        ..scenario("volume snapshot --reuse", "storage volume snapshot create default v1 s1 --reuse", there)
    },
    Scenario {
        before: SNAPSHOT,
        ..scenario("volume snapshot rename", "storage volume snapshot rename default v1 s1 s2", snapshot_renamed)
    },
    Scenario {
        before: SNAPSHOT,
        ..scenario("volume snapshot delete", "storage volume snapshot delete default v1 s1", snapshot_gone)
    },
    Scenario { before: SNAPSHOT, ..scenario("volume restore", "storage volume snapshot restore default v1 s1", taken) },
    Scenario {
        before: SNAPSHOT,
        ..scenario("volume snapshot set", "storage volume set -p default v1/s1 description=x", taken)
    },
    Scenario { before: VOLUME, ..scenario("volume rebuild", "storage volume rebuild default v1", there) },
    Scenario { before: SNAPSHOT, ..scenario("volume copy", "storage volume copy default/v1 default/v2", copied) },
    Scenario {
        before: REFRESHED,
        ..scenario("volume copy --refresh", "storage volume copy default/v1 default/v2 --refresh", copied)
    },
    Scenario { before: USED, ..scenario("start, volume", "start c1", kept_with) },
    Scenario {
        before: RUNS,
        ..scenario("volume attach, running", "storage volume attach default v1 c1 data /data", attached)
    },
    Scenario {
        before: RUNS,
        ..scenario(
            "volume attach-profile, running",
            "storage volume attach-profile default v1 default data /data",
            attached_by_profile,
        )
    },
    Scenario {
        before: RUNS_WITH,
        ..scenario("volume detach, running", "storage volume detach default v1 c1 data", detached)
    },
    Scenario { before: RUNS_WITH, ..scenario("device set, running", "config device set c1 data path=/other", moved) },
];

/// Names as `storage volume list` has them, snapshots too.
fn names(state: &State) -> Result<Vec<String>, String> {
    // Settles what the killed command left.
    state.run(&["storage", "volume", "create", "default", "settler"]).good()?;
    state.run(&["storage", "volume", "delete", "default", "settler"]).good()?;
    let all = state.run(&["storage", "volume", "list", "default", "-f", "csv", "-c", "tn"]).good()?;
    Ok(all
        .lines()
        .filter_map(|l| l.strip_prefix("custom")?.split_once(',').map(|(_, name)| name.to_string()))
        .collect())
}

/// It can be worked with, and deleted.
fn whole(state: &State, name: &str) -> Result<(), String> {
    let shown = state.run(&["storage", "volume", "show", "default", name]).good()?;
    want(shown.contains("user.x: old") || shown.contains("user.x: new"), &format!("{name} is not whole: {shown}"))?;
    state.run(&["storage", "volume", "snapshot", "create", "default", name, "probe"]).good()?;
    state.run(&["storage", "volume", "snapshot", "restore", "default", name, "probe"]).good()?;
    state.doctor()?;
    state.run(&["storage", "volume", "delete", "default", name]).good().map(drop)
}

fn has(all: &[String], name: &str) -> bool {
    all.iter().any(|n| n == name)
}

fn made(state: &State, done: bool) -> Result<(), String> {
    let all = names(state)?;
    want(!done || has(&all, "v1"), "it was reported made and is not there")?;
    if has(&all, "v1") {
        whole(state, "v1")
    } else {
        state.run(&["storage", "volume", "create", "default", "v1"]).good()?;
        state.run(&["storage", "volume", "delete", "default", "v1"]).good().map(drop)
    }
}

fn there(state: &State, _: bool) -> Result<(), String> {
    want(has(&names(state)?, "v1"), "it is lost")?;
    whole(state, "v1")
}

/// A disk is as large as its record says.
fn sized(state: &State, done: bool) -> Result<(), String> {
    want(has(&names(state)?, "v1"), "it is lost")?;
    let said = state.run(&["storage", "volume", "get", "default", "v1", "size"]).good()?;
    let disk = state.path("state/pools/default/data/custom/default_v1/root.img");
    let found = std::fs::metadata(disk).map_err(|e| e.to_string())?.len() >> 20;
    want(said.trim() == format!("{found}MiB"), &format!("it has {found}MiB, its record says {said}"))?;
    there(state, done)
}

/// The image of a disc is there, or is not.
fn disc(state: &State, done: bool) -> Result<(), String> {
    let there = has(&names(state)?, "v1");
    want(!done || there, "it was reported imported and is not there")?;
    if !there {
        state.run(&["storage", "volume", "import", "default", "v1.tar", "v1", "--type=iso"]).good()?;
    }
    let disk = state.path("state/pools/default/data/custom/default_v1/root.img");
    let same =
        std::fs::read(disk).map_err(|e| e.to_string())? == std::fs::read(state.path("v1.tar")).unwrap_or_default();
    want(same, "it is another one")?;
    state.run(&["storage", "volume", "delete", "default", "v1"]).good().map(drop)
}

fn gone(state: &State, done: bool) -> Result<(), String> {
    let all = names(state)?;
    want(!done || !has(&all, "v1"), "it was reported deleted and is there")?;
    want(has(&all, "v1") == has(&all, "v1/s1"), &format!("half of it is there: {all:?}"))?;
    if has(&all, "v1") { whole(state, "v1") } else { Ok(()) }
}

fn moved_used(state: &State, done: bool) -> Result<(), String> {
    names(state)?;
    let get =
        |key: &str| state.run(&["config", "device", "get", "c1", "data", key]).good().map(|v| v.trim().to_string());
    let (pool, name) = (get("pool")?, get("source")?);
    want(!done || pool == "other", "it was reported moved and is not")?;
    let (elsewhere, other) = if pool == "other" { ("default", "v1") } else { ("other", "v2") };
    want(state.run(&["storage", "volume", "show", elsewhere, other]).good().is_err(), "there are two")?;
    state.run(&["storage", "volume", "snapshot", "restore", &pool, &name, "s1"]).good()?;
    kept(state, done)?;
    state.run(&["storage", "volume", "delete", &pool, &name]).good().map(drop)
}

/// The name it has, with its snapshot.
fn one_name(state: &State, done: bool) -> Result<&'static str, String> {
    let all = names(state)?;
    want(has(&all, "v1") != has(&all, "v2"), &format!("neither or both are there: {all:?}"))?;
    let now = if has(&all, "v2") { "v2" } else { "v1" };
    want(!done || now == "v2", "it was reported renamed and is not")?;
    want(has(&all, &format!("{now}/s1")), &format!("its snapshot is lost: {all:?}"))?;
    Ok(now)
}

fn renamed(state: &State, done: bool) -> Result<(), String> {
    let now = one_name(state, done)?;
    state.run(&["storage", "volume", "snapshot", "restore", "default", now, "s1"]).good()?;
    whole(state, now)
}

fn renamed_used(state: &State, done: bool) -> Result<(), String> {
    let now = one_name(state, done)?;
    let source = state.run(&["config", "device", "get", "c1", "data", "source"]).good()?;
    want(source.trim() == now, &format!("the instance names {source:?}, there is {now}"))?;
    kept(state, done)?;
    whole(state, now)
}

/// The instance is whole; the volume as before.
fn kept_with(state: &State, done: bool) -> Result<(), String> {
    names(state)?;
    kept(state, done)?;
    whole(state, "v1")
}

fn taken(state: &State, done: bool) -> Result<(), String> {
    let all = names(state)?;
    want(!done || has(&all, "v1/s1"), "it was reported taken and is not there")?;
    if has(&all, "v1/s1") {
        state.run(&["storage", "volume", "snapshot", "restore", "default", "v1", "s1"]).good()?;
    }
    there(state, done)
}

/// What runs goes on.
fn goes_on(state: &State) -> Result<(), String> {
    state.run(&["exec", "c1", "--", "true"]).good()?;
    let listed = state.run(&["list", "-f", "csv", "-c", "ns"]).good()?;
    want(listed.lines().any(|l| l == "c1,RUNNING"), &format!("it is held up: {listed}"))?;
    state.run(&["delete", "-f", "c1"]).good().map(drop)
}

fn taken_running(state: &State, done: bool) -> Result<(), String> {
    names(state)?;
    goes_on(state)?;
    taken(state, done)
}

fn copied_running(state: &State, done: bool) -> Result<(), String> {
    let all = names(state)?;
    want(!done || has(&all, "v2"), "it was reported copied and is not there")?;
    goes_on(state)?;
    if has(&all, "v2") {
        whole(state, "v2")?;
    }
    there(state, done)
}

fn snapshot_renamed(state: &State, done: bool) -> Result<(), String> {
    let all = names(state)?;
    want(has(&all, "v1/s1") != has(&all, "v1/s2"), &format!("neither or both are there: {all:?}"))?;
    want(!done || has(&all, "v1/s2"), "it was reported renamed and is not")?;
    let now = if has(&all, "v1/s2") { "s2" } else { "s1" };
    state.run(&["storage", "volume", "snapshot", "restore", "default", "v1", now]).good()?;
    there(state, done)
}

fn snapshot_gone(state: &State, done: bool) -> Result<(), String> {
    want(!done || !has(&names(state)?, "v1/s1"), "it was reported deleted and is there")?;
    there(state, done)
}

fn copied(state: &State, done: bool) -> Result<(), String> {
    let all = names(state)?;
    want(!done || has(&all, "v2"), "it was reported copied and is not there")?;
    let refreshed = has(&all, "v2/s1") != has(&all, "v2/gone");
    want(has(&all, "v2") == refreshed, &format!("half of it is there: {all:?}"))?;
    if has(&all, "v2") {
        whole(state, "v2")?;
    }
    there(state, done)
}

/// What runs of `c1` has the volume where its record says, and nowhere else.
fn agreed(state: &State) -> Result<bool, String> {
    names(state)?;
    let shown = state.run(&["config", "show", "c1", "--expanded"]).good()?;
    let at = shown.lines().find_map(|l| l.strip_prefix("    path: ").filter(|p| *p != "/"));
    let Ok(record) = std::fs::read_to_string(state.path("run/instances/default_c1/run.toml")) else {
        return Ok(at.is_some());
    };
    let record: toml::Table = record.parse().map_err(|e| format!("run record: {e}"))?;
    let mounts =
        std::fs::read_to_string(format!("/proc/{}/mountinfo", record["init_pid"])).map_err(|e| e.to_string())?;
    let mounted: Vec<&str> =
        mounts.lines().filter_map(|l| l.split(' ').nth(4)).filter(|p| ["/data", "/other"].contains(p)).collect();
    want(mounted == at.into_iter().collect::<Vec<_>>(), &format!("on record {at:?}, mounted {mounted:?}"))?;
    Ok(at.is_some())
}

fn attached(state: &State, done: bool) -> Result<(), String> {
    want(agreed(state)? || !done, "it was reported attached and is not")?;
    created(state, true)?;
    there(state, done)
}

fn attached_by_profile(state: &State, done: bool) -> Result<(), String> {
    want(agreed(state)? || !done, "it was reported attached and is not")?;
    let _ = state.run(&["storage", "volume", "detach-profile", "default", "v1", "default"]);
    want(!agreed(state)?, "it is attached still")?;
    created(state, true)?;
    there(state, done)
}

fn detached(state: &State, done: bool) -> Result<(), String> {
    want(!agreed(state)? || !done, "it was reported detached and is there")?;
    created(state, true)?;
    there(state, done)
}

fn moved(state: &State, done: bool) -> Result<(), String> {
    want(agreed(state)?, "its device is lost")?;
    created(state, true)?;
    there(state, done)
}

fn imported(state: &State, done: bool) -> Result<(), String> {
    let all = names(state)?;
    want(!done || has(&all, "v1"), "it was reported imported and is not there")?;
    want(has(&all, "v1") == has(&all, "v1/s1"), &format!("half of it is there: {all:?}"))?;
    if has(&all, "v1") {
        return whole(state, "v1");
    }
    state.run(&["storage", "volume", "import", "default", "v1.tar"]).good()?;
    whole(state, "v1")
}

fn exported(state: &State, done: bool) -> Result<(), String> {
    let all = names(state)?;
    want(all.len() == 2, &format!("its copy is left: {all:?}"))?;
    want(!done || state.path("v1.tar").exists(), "it was reported exported and is not")?;
    created(state, true)?;
    there(state, done)
}

/// What the pool has of the image is unpacked when it is needed.
fn unpacked_again(state: &State, _done: bool) -> Result<(), String> {
    state.run(&["create", "img", "c1"]).good()?;
    created(state, true)
}
