//! Volumes that go with an instance, after a crash: they are of the same moment as it is, and gone or there with it.

use super::checks::want;
use super::common_root::State;
use super::scenarios::{Scenario, scenario};

const ATTACHED: &[&str] = &[
    "create img c1 -c user.x=old",
    "storage volume create default v1",
    "storage volume attach default v1 c1 d /data",
    "snapshot create c1 s1",
];
const DEPENDENT: &[&str] =
    &[ATTACHED[0], ATTACHED[1], ATTACHED[2], ATTACHED[3], "config device set c1 d dependent=true"];
const CHANGED: &[&str] = &[
    DEPENDENT[0],
    DEPENDENT[1],
    DEPENDENT[2],
    DEPENDENT[3],
    DEPENDENT[4],
    "storage volume file create default v1/mark",
    "config set c1 user.x=new",
];
const POOLS: &[&str] =
    &[DEPENDENT[0], DEPENDENT[1], DEPENDENT[2], DEPENDENT[3], DEPENDENT[4], "storage create other dir"];

const COPIED: &[&str] = &[
    DEPENDENT[0],
    DEPENDENT[1],
    DEPENDENT[2],
    DEPENDENT[3],
    DEPENDENT[4],
    "copy c1 c2 -d d,source=v2",
    "snapshot create c1 s2",
    "snapshot delete c1 s1",
    "storage volume file create default v1/mark",
    "config set c1 user.x=new",
];
const RUNS: &[&str] = &[DEPENDENT[0], DEPENDENT[1], DEPENDENT[2], DEPENDENT[3], DEPENDENT[4], "start c1"];

/// A backup of an instance with one, which are gone.
fn backed_up(state: &State) {
    for words in CHANGED {
        state.good(&words.split(' ').collect::<Vec<_>>());
    }
    state.good(&["export", "c1", "backup.tar", "--compression", "none"]);
    state.good(&["delete", "c1"]);
}

pub const ALL: &[Scenario] = &[
    Scenario { before: ATTACHED, ..scenario("dependent set", "config device set c1 d dependent=true", marked) },
    Scenario { before: DEPENDENT, ..scenario("snapshot, dependent", "snapshot create c1 s2", paired) },
    Scenario { before: CHANGED, ..scenario("restore, dependent", "snapshot restore c1 s1", restored) },
    Scenario { before: DEPENDENT, ..scenario("copy, dependent", "copy c1 c2 -d d,source=v2", copied) },
    Scenario { before: POOLS, ..scenario("move --storage, dependent", "move c1 --storage other", moved) },
    Scenario { prepare: backed_up, ..scenario("import, dependent", "import backup.tar", imported) },
    Scenario { before: RUNS, ..scenario("export, dependent", "export c1 out.tar --compression none", exported) },
    Scenario { before: COPIED, ..scenario("copy, refresh, dependent", "copy c1 c2 --refresh", refreshed) },
];

fn lines(state: &State, words: &str) -> Result<Vec<String>, String> {
    let out = state.run(&words.split(' ').collect::<Vec<_>>()).good()?;
    Ok(out.lines().map(str::to_string).collect())
}

/// Settles what the killed command left.
fn settle(state: &State) -> Result<(), String> {
    state.run(&["storage", "volume", "create", "default", "settler"]).good()?;
    state.run(&["storage", "volume", "delete", "default", "settler"]).good().map(drop)
}

/// The instance and its volume have the same snapshots, and go together.
fn same(state: &State, (instance, pool, volume): (&str, &str, &str)) -> Result<(), String> {
    let of = lines(state, &format!("snapshot list {instance} -f csv -c n"))?;
    let with = lines(state, &format!("storage volume snapshot list {pool} {volume} -f csv -c n"))?;
    want(of == with, &format!("{instance} has {of:?}, its volume {with:?}"))?;
    if let Some(one) = of.first() {
        lines(state, &format!("snapshot restore {instance} {one}"))?;
    }
    lines(state, &format!("delete {instance}"))?;
    want(!lines(state, &format!("storage volume list {pool} -f csv -c n"))?.contains(&volume.to_string()), "it stays")
}

fn marked(state: &State, done: bool) -> Result<(), String> {
    settle(state)?;
    let is = lines(state, "storage volume get default v1 dependent")? == ["true"];
    want(is || !done, "it was reported done and is not")?;
    if !is {
        want(lines(state, "storage volume snapshot list default v1 -f csv -c n")?.is_empty(), "it has snapshots")?;
        lines(state, "config device set c1 d dependent=true")?;
    }
    same(state, ("c1", "default", "v1"))
}

fn paired(state: &State, _: bool) -> Result<(), String> {
    settle(state)?;
    same(state, ("c1", "default", "v1"))
}

fn restored(state: &State, done: bool) -> Result<(), String> {
    settle(state)?;
    let new = lines(state, "config get c1 user.x")? == ["new"];
    let mark = state.run(&["storage", "volume", "file", "pull", "default", "v1/mark", "-"]).ok();
    want(new == mark, &format!("file there: {mark}, value new: {new}"))?;
    want(!new || !done, "it was reported restored and is not")?;
    same(state, ("c1", "default", "v1"))
}

fn copied(state: &State, done: bool) -> Result<(), String> {
    settle(state)?;
    let there = state.run(&["config", "show", "c2"]).ok();
    let volume = state.run(&["storage", "volume", "show", "default", "v2"]).ok();
    want(there == volume, &format!("instance there: {there}, volume: {volume}"))?;
    want(there || !done, "it was reported copied and is not")?;
    if there {
        same(state, ("c2", "default", "v2"))?;
    }
    same(state, ("c1", "default", "v1"))
}

fn moved(state: &State, done: bool) -> Result<(), String> {
    settle(state)?;
    let pool = lines(state, "config device get c1 d pool")?.concat();
    want(pool == "other" || !done, "it was reported moved and is not")?;
    let elsewhere = if pool == "other" { "default" } else { "other" };
    want(state.run(&["storage", "volume", "show", elsewhere, "v1"]).good().is_err(), "there are two")?;
    same(state, ("c1", &pool, "v1"))
}

fn imported(state: &State, done: bool) -> Result<(), String> {
    settle(state)?;
    let there = state.run(&["config", "show", "c1"]).ok();
    let volume = state.run(&["storage", "volume", "show", "default", "v1"]).ok();
    want(there == volume, &format!("instance there: {there}, volume: {volume}"))?;
    want(there || !done, "it was reported imported and is not")?;
    if !there {
        lines(state, "import backup.tar")?;
    }
    lines(state, "storage volume file pull default v1/mark -")?;
    same(state, ("c1", "default", "v1"))
}

fn exported(state: &State, done: bool) -> Result<(), String> {
    settle(state)?;
    want(state.path("out.tar").exists() || !done, "it was reported exported and is not there")?;
    want(lines(state, "list -f csv -c ns")?.contains(&"c1,RUNNING".to_string()), "it does not run on")?;
    lines(state, "stop -f c1")?;
    same(state, ("c1", "default", "v1"))
}

fn refreshed(state: &State, done: bool) -> Result<(), String> {
    settle(state)?;
    let mark = state.run(&["storage", "volume", "file", "pull", "default", "v2/mark", "-"]).ok();
    let all = lines(state, "snapshot list c2 -f csv -c n")?;
    want(mark == (all == ["s2"]), &format!("files of now: {mark}, snapshots {all:?}"))?;
    want(mark || !done, "it was reported refreshed and is not")?;
    same(state, ("c2", "default", "v2"))?;
    same(state, ("c1", "default", "v1"))
}
