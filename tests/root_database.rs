//! A database that is written to while snapshots of its instance are taken: PostgreSQL of a Debian package, under pgbench. Each
//! snapshot becomes an instance that starts; what was committed before the snapshot is in it, no transaction is there by half,
//! and no page or index is damaged.
#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "a test: its files are no records"
)]

mod common_root;

use common_root::debian::{system, up};
use common_root::{State, have, leftovers, run, skip};
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

const SNAPSHOTS: usize = 20;
/// pgbench's tables: sums that each of its transactions changes by the same, and its history.
const SUMS: &str = "SELECT (SELECT sum(abalance) FROM pgbench_accounts), (SELECT sum(tbalance) FROM pgbench_tellers), \
                    (SELECT sum(bbalance) FROM pgbench_branches), (SELECT sum(delta) FROM pgbench_history), \
                    (SELECT count(*) FROM pgbench_history)";
const COMMITTED: &str = "SELECT count(*) FROM pgbench_history";
/// The load ends by itself if the test does not end it. With so many checkpoints hardly a moment is like the one before: files
/// copied one by one while it goes on would not be those of one database.
const LOAD: &str =
    "cd /tmp; while psql -qc CHECKPOINT; do sleep 0.1; done >/dev/null & exec pgbench --client 4 --jobs 2 --time 900";

/// A shell script as the database's user.
fn shell(state: &State, name: &str, script: &str) -> common_root::Out {
    state.run(&["exec", name, "--", "su", "postgres", "-c", script])
}

fn sql(state: &State, name: &str, query: &str) -> String {
    shell(state, name, &format!("psql --no-psqlrc --quiet --tuples-only --no-align -c \"{query}\""))
        .good()
        .unwrap()
        .trim()
        .to_string()
}

/// Waits until the database answers: after a copy it first recovers, as after a power cut.
fn answers(state: &State, name: &str) {
    let end = Instant::now() + Duration::from_secs(180);
    while !state.run(&["exec", name, "--", "pg_isready", "--quiet"]).ok() {
        assert!(Instant::now() < end, "{name}: {}", state.run(&["exec", name, "--", "journalctl", "-n", "50"]));
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// The database of a copy is whole, and holds what had been committed before the snapshot was asked for, and no more than
/// afterwards.
fn check(state: &State, name: &str, (before, after): (u64, u64)) {
    answers(state, name);
    let line = sql(state, name, SUMS);
    let numbers: Vec<i64> = line.split('|').map(|n| n.parse().unwrap_or_else(|_| panic!("{name}: {line}"))).collect();
    assert!(numbers[1..4].iter().all(|sum| *sum == numbers[0]), "{name}: {line}");
    let count = u64::try_from(numbers[4]).unwrap();
    assert!((before..=after).contains(&count), "{name}: {count} transactions, not {before} to {after}");
    shell(state, name, "cd /tmp; /usr/lib/postgresql/*/bin/pg_amcheck --all --install-missing --heapallindexed")
        .good()
        .unwrap();
}

struct Load(Child);

impl Load {
    fn begin(state: &State, name: &str) -> Self {
        let mut command = state.command(&["exec", name, "--", "su", "postgres", "-c", LOAD]);
        Self(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn launch(state: &State, pool: &str) {
    state.good(&["launch", "debian", "db", "--storage", pool, "--no-profiles"]);
    up(state, "db");
    answers(state, "db");
}

/// Has `snapshot` take `count` snapshots under load; how many transactions there were before and after each.
fn loaded(state: &State, count: usize, snapshot: impl Fn(usize)) -> Vec<(u64, u64)> {
    shell(state, "db", "cd /tmp; pgbench --initialize --quiet --scale 4").good().unwrap();
    let committed = || -> u64 { sql(state, "db", COMMITTED).parse().unwrap() };
    let mut load = Load::begin(state, "db");
    let end = Instant::now() + Duration::from_secs(60);
    while committed() == 0 {
        assert!(Instant::now() < end, "pgbench does not begin");
    }
    let mut bounds = Vec::new();
    for n in 0..count {
        let before = committed();
        snapshot(n);
        bounds.push((before, committed()));
        assert!(load.0.try_wait().unwrap().is_none(), "pgbench has ended at snapshot {n}");
    }
    // It was never held up for long, and nothing of it failed.
    assert!(bounds.windows(2).all(|pair| pair[0].0 < pair[1].1), "{bounds:?}");
    shell(state, "db", "pkill -INT pgbench").good().unwrap();
    let end = Instant::now() + Duration::from_secs(60);
    while load.0.try_wait().unwrap().is_none() {
        assert!(Instant::now() < end, "pgbench does not end");
        std::thread::sleep(Duration::from_millis(50));
    }
    state.good(&["stop", "-f", "db"]);
    bounds
}

/// Launches a database in `pool`, takes `count` snapshots under load, and checks each in a copy.
fn torture(state: &State, pool: &str, count: usize) {
    launch(state, pool);
    let bounds = loaded(state, count, |n| drop(state.good(&["snapshot", "create", "db", &format!("s{n}")])));
    for (n, bounds) in bounds.into_iter().enumerate() {
        let name = format!("check{n}");
        state.good(&["copy", &format!("db/s{n}"), &name]);
        state.good(&["start", &name]);
        check(state, &name, bounds);
        state.good(&["delete", "-f", &name]);
    }
    // What was ended without notice comes up again, too.
    state.good(&["start", "db"]);
    answers(state, "db");
    shell(state, "db", "cd /tmp; /usr/lib/postgresql/*/bin/pg_amcheck --all --install-missing").good().unwrap();
    state.good(&["delete", "-f", "db"]);
}

/// The same with the database in a volume of its own: snapshots of that, each restored, and backups of it.
fn torture_volume(state: &State, pool: &str, count: usize) {
    launch(state, pool);
    let volume = |words: &str| state.good(&format!("storage volume {words}").split(' ').collect::<Vec<_>>());
    volume(&format!("create {pool} data"));
    volume(&format!("attach {pool} data db data /data"));
    let anew = "v=$(ls /usr/lib/postgresql); pg_dropcluster --stop $v main && chown postgres /data && \
                pg_createcluster --datadir /data/main --start $v main";
    state.good(&["exec", "db", "--", "sh", "-c", anew]);
    answers(state, "db");
    let bounds = loaded(state, count, |n| match n % 4 {
        3 => drop(volume(&format!("export {pool} data s{n} --volume-only --compression none"))),
        _ => drop(volume(&format!("snapshot create {pool} data s{n}"))),
    });
    for (n, bounds) in bounds.into_iter().enumerate() {
        if n % 4 == 3 {
            volume(&format!("import {pool} s{n} from{n}"));
            volume(&format!("detach {pool} data db"));
            volume(&format!("attach {pool} from{n} db data /data"));
        } else {
            volume(&format!("snapshot restore {pool} data s{n}"));
        }
        state.good(&["start", "db"]);
        check(state, "db", bounds);
        state.good(&["stop", "-f", "db"]);
        if n % 4 == 3 {
            volume(&format!("detach {pool} from{n} db"));
            volume(&format!("attach {pool} data db data /data"));
            volume(&format!("delete {pool} from{n}"));
        }
    }
    state.good(&["delete", "db"]);
    volume(&format!("delete {pool} data"));
}

/// The machine with the database; made once, since it takes minutes.
fn machine(test: &str) -> Option<State> {
    let state = system(test, "database-12.", &["postgresql"])?;
    state.good(&["profile", "device", "remove", "default", "root"]);
    Some(state)
}

fn ends_clean(state: State, pools: &[&str]) {
    state.delete_all().unwrap();
    for pool in pools {
        state.good(&["storage", "delete", pool]);
    }
    state.doctor().unwrap();
    let left = leftovers::find(&state);
    assert!(left.is_empty(), "left behind: {}", left.join("; "));
}

#[test]
fn a_database_survives_its_snapshots() {
    let Some(state) = machine("a_database_survives_its_snapshots") else { return };
    torture(&state, "default", SNAPSHOTS);
    ends_clean(state, &[]);
}

#[test]
fn a_database_survives_snapshots_of_its_volume() {
    let Some(state) = machine("a_database_survives_snapshots_of_its_volume") else { return };
    torture_volume(&state, "default", SNAPSHOTS / 2);
    ends_clean(state, &[]);
}

#[test]
fn a_database_survives_its_snapshots_on_btrfs() {
    let test = "a_database_survives_its_snapshots_on_btrfs";
    if !(have("mkfs.btrfs") && Path::new("/dev/loop-control").exists()) {
        return skip(test, "no mkfs.btrfs (apt-get install btrfs-progs) or no loop devices");
    }
    let Some(state) = machine(test) else { return };
    let make = state.command(&["storage", "create", "fast", "btrfs", "size=6GiB"]);
    run(make, None, Duration::from_secs(300)).good().unwrap();
    torture(&state, "fast", SNAPSHOTS / 4);
    torture_volume(&state, "fast", SNAPSHOTS / 4);
    ends_clean(state, &["fast"]);
}
