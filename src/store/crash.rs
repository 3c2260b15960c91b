//! The store's own crash matrix: a child process runs a creation and a deletion, and is killed, or made to fail, at every
//! fault point it passes; afterwards everything is whole or absent. Needs `--features faults`.

use super::tests::{Fixture, create, delete, fixture_in, whole_or_absent};
use super::*;
use std::collections::BTreeMap;
use std::path::Path;

const DIR: &str = "STAPES_TEST_DIR";
const FAULT: &str = "STAPES_TEST_FAULT";

/// What the child does; nothing when run by hand.
#[test]
#[ignore = "run by the matrix"]
fn child() {
    let (Ok(dir), Ok(spec)) = (std::env::var(DIR), std::env::var(FAULT)) else { return };
    crate::fault::arm(&spec).expect("specification");
    let f = fixture_in(Path::new(&dir));
    // Errors are expected: the parent looks at what is left.
    let _ = Store::open(&f.layout, Access::Write).and_then(|store| {
        create(&store, &f, false)?;
        delete(&store, &f)?;
        store.empty_trash()?;
        create(&store, &f, true)
    });
}

#[allow(clippy::disallowed_methods)]
fn run_child(dir: &Path, spec: &str) {
    let exe = std::env::current_exe().expect("exe");
    std::process::Command::new(exe)
        .args(["--exact", "store::crash::child", "--ignored", "-q"])
        .env(DIR, dir)
        .env(FAULT, spec)
        .stdout(std::process::Stdio::null())
        .status()
        .expect("child");
}

/// Opens the store as the next command would and checks what it finds.
fn inspect(f: &Fixture, how: &str) {
    // The state folder may be half made, or not made at all.
    let store = Store::open(&f.layout, Access::Write).unwrap_or_else(|e| panic!("{how}: {e:?}"));
    if !store.failed_journals().expect("list").is_empty() {
        assert!(how.starts_with('e'), "{how}: only an error while undoing leaves a failed journal");
        store.retry_failed().unwrap_or_else(|e| panic!("{how}: {e:?}"));
    }
    let there = whole_or_absent(&store, f);
    // And it goes on from here.
    match there {
        true => delete(&store, f),
        false => create(&store, f, false),
    }
    .unwrap_or_else(|e| panic!("{how}: {e:?}"));
    assert_eq!(whole_or_absent(&store, f), !there, "{how}");
    assert!(store.profiles(&f.p).expect("list").iter().all(|(_, r)| r.is_ok()), "{how}");
}

#[test]
fn every_point_survives_a_kill_and_an_error() {
    let traced = tempfile::tempdir().expect("tempdir");
    let trace = traced.path().join("trace");
    run_child(&traced.path().join("d"), &format!("trace:{}", trace.display()));
    let mut points: BTreeMap<String, u32> = BTreeMap::new();
    for name in std::fs::read_to_string(&trace).expect("trace").lines() {
        *points.entry(name.to_string()).or_default() += 1;
    }
    assert!(points.len() > 15, "{points:?}");
    for (point, passages) in points {
        for nth in 1..=passages {
            for action in ["kill", "enospc", "eio"] {
                let d = tempfile::tempdir().expect("tempdir");
                let how = format!("{action}:{point}:{nth}");
                run_child(d.path(), &how);
                inspect(&fixture_in(d.path()), &how);
            }
        }
    }
}
