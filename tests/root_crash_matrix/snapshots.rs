//! Snapshots, copies and moves of instances, after a crash.

use super::checks::{self, created, kept, want};
use super::common_root::State;
use super::scenarios::{Scenario, scenario};

/// `c1` with a snapshot of before it was changed.
pub const CHANGED: &[&str] =
    &["create img c1 -c user.x=old", "snapshot create c1 s1", "file create c1/mark", "config set c1 user.x=new"];
/// The same, and it runs.
pub const CHANGED_RUNNING: &[&str] = &[CHANGED[0], CHANGED[1], CHANGED[2], CHANGED[3], "start c1"];

/// A backup of such an instance, which is gone.
pub fn backed_up(state: &State) {
    for words in CHANGED {
        state.good(&words.split(' ').collect::<Vec<_>>());
    }
    state.good(&["export", "c1", "backup.tar", "--compression", "none"]);
    state.good(&["delete", "c1"]);
}

/// All rows.
pub const ALL: &[Scenario] = &[
    Scenario { before: CHANGED, ..scenario("snapshot create", "snapshot create c1 s2", taken) },
    Scenario { before: CHANGED_RUNNING, ..scenario("snapshot create, running", "snapshot create c1 s2", taken) },
    Scenario { before: CHANGED, ..scenario("snapshot restore", "snapshot restore c1 s1", restored) },
    Scenario { before: CHANGED_RUNNING, ..scenario("snapshot restore, running", "snapshot restore c1 s1", restored) },
    Scenario { before: CHANGED, ..scenario("snapshot delete", "snapshot delete c1 s1", deleted) },
    Scenario { before: CHANGED, ..scenario("snapshot rename", "snapshot rename c1 s1 s2", renamed) },
    Scenario { before: CHANGED, ..scenario("rename, snapshot", "rename c1 c2", moved) },
    Scenario { before: CHANGED, ..scenario("copy", "copy c1 c2", copied) },
    Scenario { before: CHANGED, ..scenario("delete, snapshot", "delete c1", checks::deleted) },
    Scenario {
        before: &[
            "create img c1 -c user.x=old",
            "copy c1 c2",
            "snapshot create c1 s1",
            "file create c1/mark",
            "config set c1 user.x=new",
        ],
        ..scenario("copy, refresh", "copy c1 c2 --refresh", refreshed)
    },
    Scenario { before: &["create img c1", "file create c1/mark"], ..scenario("rebuild", "rebuild img c1", rebuilt) },
    Scenario { prepare: backed_up, ..scenario("import of backup", "import backup.tar", imported) },
    Scenario {
        before: &["create img c1 -c snapshots.schedule=@startup"],
        ..scenario("start, snapshot", "start c1", checks::runs)
    },
    scenario("launch, snapshot", "launch img c1 -c snapshots.schedule=@startup", checks::created),
    Scenario { before: CHANGED_RUNNING, ..scenario("export, running", "export c1 out.tar", exported) },
];

fn lines(state: &State, words: &str) -> Result<Vec<String>, String> {
    let out = state.run(&words.split(' ').collect::<Vec<_>>()).good()?;
    Ok(out.lines().map(str::to_string).collect())
}

fn snapshots(state: &State, instance: &str) -> Result<Vec<String>, String> {
    lines(state, &format!("snapshot list {instance} -f csv -c n"))
}

/// There is what was changed after the snapshot: in the files and in the configuration, or in neither.
fn is_changed(state: &State, instance: &str) -> Result<bool, String> {
    let mark = state.run(&["file", "pull", &format!("{instance}/mark"), "-"]).ok();
    let value = lines(state, &format!("config get {instance} user.x"))?.concat();
    want(mark == (value == "new"), &format!("of {instance}: file there: {mark}, value {value:?}"))?;
    Ok(mark)
}

/// A snapshot is whole: it can be restored, and is what was.
fn whole(state: &State, instance: &str, snapshot: &str, changed: bool) -> Result<(), String> {
    state.run(&["snapshot", "restore", instance, snapshot]).good()?;
    want(is_changed(state, instance)? == changed, "the snapshot is not what was")
}

/// `c1` has the old root with the configuration of before, or a new one.
pub fn rebuilt(state: &State, done: bool) -> Result<(), String> {
    let mark = state.run(&["file", "pull", "c1/mark", "-"]).ok();
    want(!mark || !done, "it was reported rebuilt and is not")?;
    kept(state, done)
}

/// The snapshot `s2` of `c1` is there, or its name is free; what ran goes on running.
pub fn taken(state: &State, done: bool) -> Result<(), String> {
    let running = lines(state, "list -f csv -c ns")?;
    want(running.iter().any(|l| l == "c1,STOPPED" || l == "c1,RUNNING"), &format!("{running:?}"))?;
    let there = snapshots(state, "c1")?.contains(&"s2".to_string());
    want(there || !done, "it was reported taken and is not there")?;
    if there {
        whole(state, "c1", "s2", true)?
    } else {
        state.run(&["snapshot", "create", "c1", "s2"]).good().map(drop)?
    }
    whole(state, "c1", "s1", false)?;
    kept(state, done)
}

/// `c1` is what it was when `s1` was taken, or what it was later.
pub fn restored(state: &State, done: bool) -> Result<(), String> {
    want(!is_changed(state, "c1")? || !done, "it was reported restored and is not")?;
    whole(state, "c1", "s1", false)?;
    kept(state, done)
}

/// `s1` of `c1` is there and whole, or gone.
pub fn deleted(state: &State, done: bool) -> Result<(), String> {
    want(is_changed(state, "c1")?, "the instance was touched")?;
    match snapshots(state, "c1")?.as_slice() {
        [] => state.run(&["snapshot", "create", "c1", "s1"]).good().map(drop)?,
        _ if done => return Err("it was reported deleted and is there".into()),
        _ => whole(state, "c1", "s1", false)?,
    }
    kept(state, done)
}

/// `s1` of `c1` is there as `s1` or as `s2`.
pub fn renamed(state: &State, done: bool) -> Result<(), String> {
    let all = snapshots(state, "c1")?;
    want(all == ["s1"] || all == ["s2"], &format!("there: {all:?}"))?;
    want(all == ["s2"] || !done, "it was reported renamed and is not")?;
    whole(state, "c1", &all[0], false)?;
    kept(state, done)
}

/// `c2` is a whole copy of `c1` with its snapshot, or its name is free.
pub fn copied(state: &State, done: bool) -> Result<(), String> {
    let there = lines(state, "list -f csv -c n")?.contains(&"c2".to_string());
    want(there || !done, "it was reported copied and is not there")?;
    if there {
        want(is_changed(state, "c2")?, "the copy is not like the instance")?;
        whole(state, "c2", "s1", false)?;
        state.run(&["start", "c2"]).good()?;
        state.run(&["delete", "-f", "c2"]).good()?;
    } else {
        state.run(&["copy", "c1", "c2"]).good()?;
        state.run(&["delete", "c2"]).good()?;
    }
    whole(state, "c1", "s1", false)?;
    kept(state, done)
}

/// `c2` is what it was or what `c1` is, and has the snapshot with that.
pub fn refreshed(state: &State, done: bool) -> Result<(), String> {
    let mark = state.run(&["file", "pull", "c2/mark", "-"]).ok();
    let all = snapshots(state, "c2")?;
    want(mark == (all == ["s1"]), &format!("files of now: {mark}, snapshots {all:?}"))?;
    want(mark || !done, "it was reported refreshed and is not")?;
    state.run(&["copy", "c1", "c2", "--refresh"]).good()?;
    want(state.run(&["file", "pull", "c2/mark", "-"]).ok(), "refreshing again does not")?;
    state.run(&["start", "c2"]).good()?;
    state.run(&["delete", "-f", "c2"]).good()?;
    whole(state, "c1", "s1", false)?;
    kept(state, done)
}

/// `c1` came back with its snapshot, or its name is free.
pub fn imported(state: &State, done: bool) -> Result<(), String> {
    if lines(state, "list -f csv -c n")?.contains(&"c1".to_string()) {
        want(is_changed(state, "c1")?, "it is not what it was")?;
        whole(state, "c1", "s1", false)?;
    }
    created(state, done)
}

/// What was exported runs on, and has no snapshot more.
pub fn exported(state: &State, done: bool) -> Result<(), String> {
    let all = lines(state, "list -f csv -c ns")?;
    want(all.iter().any(|l| l == "c1,RUNNING"), &format!("{all:?}"))?;
    want(snapshots(state, "c1")? == ["s1"], "its snapshots are others")?;
    want(state.path("out.tar").exists() || !done, "it was reported exported and is not there")?;
    kept(state, done)
}

/// `c1` is in one of the two projects, whole, with its snapshot.
pub fn moved(state: &State, done: bool) -> Result<(), String> {
    let all = lines(state, "list --all-projects -f csv -c en")?;
    let (old, new) = (all.iter().any(|l| l == "default,c1"), all.iter().any(|l| l == "default,c2"));
    want(old != new, &format!("there: {all:?}"))?;
    want(new || !done, "it was reported moved and is not")?;
    let name = if new { "c2" } else { "c1" };
    want(is_changed(state, name)?, "it is not what it was")?;
    whole(state, name, "s1", false)?;
    if new {
        state.run(&["delete", "c2"]).good()?;
        return created(state, false);
    }
    kept(state, done)
}
