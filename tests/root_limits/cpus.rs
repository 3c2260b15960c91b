//! The division of CPUs: by number, by set, anew at every start, stop and change.

use crate::common_root::{State, skip};
use crate::support::{Ask, kill, until};
use crate::tools::{controlled, files};
use std::collections::BTreeMap;

/// A state on a host with two CPUs or more, from which the tests use the first two.
fn two(test: &str) -> Option<State> {
    let online = stapes::host::cpus::read(std::path::Path::new("/")).unwrap().online;
    if online.len() != 2 {
        skip(test, &format!("{} CPUs and not 2", online.len()));
        return None;
    }
    controlled(test, &["cpuset"])
}

/// How many of the instances named are on each CPU.
fn usage(state: &State, names: &[&str]) -> BTreeMap<String, usize> {
    let mut all = BTreeMap::new();
    for name in names {
        *all.entry(files(state, name, &["cpuset.cpus"])).or_default() += 1;
    }
    all
}

fn table(state: &State) -> std::path::PathBuf {
    state.layout().run.join("cpus.toml")
}

#[test]
fn are_balanced() {
    let Some(state) = two("are_balanced") else { return };
    let set = |name: &str| files(&state, name, &["cpuset.cpus"]);
    state.launch("free", &[]).good().unwrap();
    assert!(!table(&state).exists(), "nobody asks for anything");
    for name in ["a", "b", "c"] {
        state.launch(name, &["-c", "limits.cpu=1"]).good().unwrap();
    }
    assert_eq!((set("a"), set("b"), set("c")), ("0".into(), "1".into(), "0".into()));
    // A stop makes room for those that are left; a kill of everything there is of one as well.
    state.good(&["stop", "-f", "b"]);
    assert_eq!(usage(&state, &["a", "c"]), [("0".to_string(), 1), ("1".to_string(), 1)].into());
    state.good(&["start", "b"]);
    kill(state.init("a"), "KILL");
    until("the exit of a", || state.status("a").as_deref() == Some("STOPPED"));
    until("room", || usage(&state, &["b", "c"]).len() == 2);
    // One that names its CPU counts first: the others move away.
    let busy = set("b");
    state.launch("fixed", &["-c", &format!("limits.cpu={busy}-{busy}")]).good().unwrap();
    assert_eq!(set("fixed"), busy);
    state.good(&["stop", "-f", "c"]);
    assert_ne!(set("b"), busy);
    // Changes count at once.
    state.good(&["config", "set", "b", "limits.cpu=2"]);
    assert_eq!(set("b"), "0-1");
    assert_eq!(state.sh("b", "nproc"), "2");
    state.good(&["config", "unset", "b", "limits.cpu"]);
    assert_eq!(files(&state, "b", &["cpuset.cpus.effective"]), "0-1");
    state.good(&["config", "set", "free", "limits.cpu=1"]);
    assert_ne!(set("free"), busy);
    state.good(&["delete", "-f", "free"]);
    state.good(&["delete", "-f", "fixed"]);
    assert!(!table(&state).exists(), "nobody asks any more");
    state.finish();
}

/// Several commands at once divide the CPUs as one after another would.
#[test]
fn many_at_once() {
    let Some(state) = two("many_at_once") else { return };
    let names = ["a", "b", "c", "d"];
    let all = |words: &[&str]| {
        std::thread::scope(|s| {
            let runs: Vec<_> = names.map(|n| s.spawn(|| state.good(&[words, &[n]].concat()))).into();
            runs.into_iter().for_each(|r| drop(r.join().unwrap()));
        });
    };
    for name in names {
        state.good(&["create", "test", name, "-c", "limits.cpu=1"]);
    }
    all(&["start"]);
    assert_eq!(usage(&state, &names), [("0".to_string(), 2), ("1".to_string(), 2)].into());
    all(&["restart", "-f"]);
    assert_eq!(usage(&state, &names), [("0".to_string(), 2), ("1".to_string(), 2)].into());
    all(&["stop", "-f"]);
    assert!(!table(&state).exists());
    state.finish();
}

#[test]
fn what_cannot_be_given_is_refused() {
    let Some(state) = two("what_cannot_be_given_is_refused") else { return };
    state.launch("a", &["-c", "limits.cpu=1-1"]).good().unwrap();
    let out = state.run(&["config", "set", "a", "limits.cpu=7-9"]);
    out.clean_failure().unwrap();
    assert!(out.stderr.contains("none of the CPUs of \"7-9\" is online"), "{out}");
    assert_eq!(files(&state, "a", &["cpuset.cpus"]), "1");
    assert_eq!(state.good(&["config", "get", "a", "limits.cpu"]).trim(), "1-1");
    let out = state.launch("b", &["-c", "limits.cpu=sockets=1,cores=1,threads=1"]);
    out.clean_failure().unwrap();
    let out = state.launch("c", &["-c", "limits.cpu=7-9"]);
    out.clean_failure().unwrap();
    assert_eq!(state.status("c").as_deref(), Some("STOPPED"));
    state.finish();
}

/// A table that was damaged or is out of date mends itself.
#[test]
fn the_table_mends_itself() {
    let Some(state) = two("the_table_mends_itself") else { return };
    for name in ["a", "b"] {
        state.launch(name, &["-c", "limits.cpu=1"]).good().unwrap();
    }
    std::fs::write(table(&state), "rubbish").unwrap();
    state.launch("c", &["-c", "limits.cpu=1"]).good().unwrap();
    let text = std::fs::read_to_string(table(&state)).unwrap();
    assert_eq!(text.matches("[[entries]]").count(), 3, "{text}");
    // As if a throwaway had been killed with all that it had.
    let gone = text.replace("default_a\"", "default_gone\"").replace("\"a\"", "\"gone\"");
    std::fs::write(table(&state), gone).unwrap();
    state.doctor().unwrap();
    assert_eq!(usage(&state, &["b", "c"]).len(), 2);
    let run = ["run", "test", "-c", "limits.cpu=1", "--", "nproc"];
    assert_eq!(state.good(&run).trim(), "1");
    assert_eq!(std::fs::read_to_string(table(&state)).unwrap().matches("[[entries]]").count(), 2);
    state.finish();
}

#[test]
fn nodes() {
    let Some(state) = controlled("nodes", &["cpuset"]) else { return };
    let host = stapes::host::cpus::read(std::path::Path::new("/")).unwrap();
    if !host.nodes.contains_key(&0) {
        skip("nodes", "no NUMA nodes");
        return;
    }
    let node0 = stapes::base::idset::format(&host.nodes[&0]);
    state.launch("a", &["-c", "limits.cpu.nodes=0"]).good().unwrap();
    assert_eq!(files(&state, "a", &["cpuset.cpus"]), node0);
    state.launch("b", &["-c", "limits.cpu.nodes=balanced", "-c", "limits.cpu=1"]).good().unwrap();
    let chosen = |name: &str| state.good(&["config", "get", name, "volatile.cpu.nodes"]).trim().to_string();
    assert!(chosen("b").parse::<u32>().is_ok_and(|n| host.nodes.contains_key(&n)), "{}", chosen("b"));
    state.good(&["config", "unset", "b", "limits.cpu.nodes"]);
    assert_eq!(chosen("b"), "");
    state.good(&["config", "set", "a", "limits.cpu.nodes=balanced"]);
    assert_ne!(chosen("a"), "");
    state.finish();
}
