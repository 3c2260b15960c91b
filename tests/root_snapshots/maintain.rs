//! What is done by the clock: the clock is the test's.

use crate::common_root::State;
use crate::support::{Ask, state};
use jiff::{Timestamp, ToSpan};
use stapes::ops::{maintain, undo};
use stapes::store::Access;

/// A run at that time; what it said.
fn at(state: &State, now: Timestamp) -> Vec<String> {
    let store = undo::open(&state.layout(), Access::Write).unwrap();
    let outcome = maintain::maintain(&store, now, &mut |_, _| Ok(None)).unwrap();
    assert!(outcome.failed.is_empty(), "{:?}", outcome.failed);
    outcome.done
}

fn names(state: &State, instance: &str) -> Vec<String> {
    let text = state.good(&["snapshot", "list", instance, "-f", "csv", "-c", "n"]);
    text.lines().map(str::to_string).collect()
}

#[test]
fn schedules_and_expiry() {
    let Some(state) = state("schedules_and_expiry") else { return };
    let every = ["-c", "snapshots.schedule=*/10 * * * *", "-c", "snapshots.pattern=auto%d"];
    state.launch("c1", &[&every[..], &["-c", "snapshots.expiry=3H"]].concat()).good().unwrap();
    state.good(&[&["create", "test", "c2", "-c", "snapshots.schedule.stopped=true"], &every[..]].concat());
    state.good(&[&["create", "test", "c3"], &every[..]].concat());
    state.good(&["create", "test", "c4", "-c", "snapshots.schedule=@never"]);
    let now = Timestamp::now();
    assert_eq!(at(&state, now), Vec::<String>::new(), "nothing was due since they were made");
    // Missed several times: done once.
    let hour = now + 1.hours();
    assert_eq!(at(&state, hour), ["Snapshot \"c1/auto0\" taken", "Snapshot \"c2/auto0\" taken"]);
    assert_eq!(at(&state, hour), Vec::<String>::new());
    assert_eq!(at(&state, hour + 11.minutes()), ["Snapshot \"c1/auto1\" taken", "Snapshot \"c2/auto1\" taken"]);
    assert!(names(&state, "c3").is_empty() && names(&state, "c4").is_empty());
    // A run that was killed before it had noted that it was done.
    let record = state.dir.join("state/maintenance.toml");
    let before = std::fs::read(&record).unwrap();
    assert_eq!(at(&state, hour + 22.minutes()).len(), 2);
    std::fs::write(&record, before).unwrap();
    assert_eq!(at(&state, hour + 22.minutes()), Vec::<String>::new(), "nothing twice");
    // Taken now by the host's clock, they are over in three hours of it; the other one's have no end.
    state.good(&["config", "unset", "c1", "snapshots.schedule"]);
    state.good(&["snapshot", "create", "c1", "mine", "--no-expiry"]);
    let gone = at(&state, now + 4.hours());
    assert_eq!(gone.iter().filter(|l| l.contains("c1/") && l.ends_with("expired")).count(), 3, "{gone:?}");
    assert_eq!(names(&state, "c1"), ["mine"]);
    assert!(names(&state, "c2").len() >= 3);
    // Volumes likewise.
    let minutes = ["snapshots.schedule=*/10 * * * *", "snapshots.expiry=1d"];
    state.good(&[&["storage", "volume", "create", "default", "v1"], &minutes[..]].concat());
    assert_eq!(at(&state, now + 5.hours())[..1], ["Snapshot \"c2/auto4\" taken"]);
    assert_eq!(
        at(&state, now + 50.hours())[1..],
        ["Snapshot \"default/v1/snap1\" taken", "Snapshot \"default/v1/snap0\" expired"]
    );
    state.good(&["storage", "volume", "delete", "default", "v1"]);
    // By the command, with the real clock: it has gone back, and nothing is due.
    assert_eq!(state.good(&["admin", "maintain"]), "");
    state.finish();
}

#[test]
fn one_that_fails_holds_up_no_other() {
    let Some(state) = state("one_that_fails_holds_up_no_other") else { return };
    for name in ["c1", "c2"] {
        let options = ["-c", "snapshots.schedule=* * * * *", "-c", "snapshots.schedule.stopped=true"];
        state.good(&[&["create", "test", name], &options[..]].concat());
    }
    state.good(&["config", "set", "c1", "snapshots.pattern={{ config }}"]);
    let store = undo::open(&state.layout(), Access::Write).unwrap();
    let later = Timestamp::now() + 10.minutes();
    let outcome = maintain::maintain(&store, later, &mut |_, _| Ok(None)).unwrap();
    assert_eq!(outcome.done, ["Snapshot \"c2/snap0\" taken"]);
    assert_eq!(outcome.failed.len(), 1);
    assert_eq!(outcome.failed[0].0, "c1");
    drop(store);
    state.finish();
}

/// Of what is at rest, before it starts; by a start, a launch, and a start with the host.
#[test]
fn a_start_takes_one() {
    let Some(state) = state("a_start_takes_one") else { return };
    let schedule = ["-c", "snapshots.schedule=@daily, @startup", "-c", "snapshots.expiry=1d"];
    state.good(&[&["create", "test", "c1"], &schedule[..]].concat());
    state.good(&["start", "c1"]);
    state.sh("c1", "touch /root/mark");
    assert_eq!(names(&state, "c1"), ["snap0"]);
    assert!(!state.good(&["snapshot", "list", "c1", "-f", "csv", "-c", "E"]).trim().is_empty(), "it has no end");
    state.run(&["start", "c1"]).clean_failure().unwrap();
    assert_eq!(names(&state, "c1"), ["snap0"], "it ran");
    state.good(&["config", "set", "c1", "boot.autostart=true"]);
    state.good(&["stop", "-f", "c1"]);
    state.good(&["admin", "boot"]);
    assert_eq!(names(&state, "c1"), ["snap0", "snap1"]);
    state.good(&["restart", "-f", "c1"]);
    assert_eq!(names(&state, "c1"), ["snap0", "snap1", "snap2"]);
    state.sh("c1", "true");
    state.good(&["snapshot", "restore", "c1", "snap0"]);
    assert_eq!(state.sh("c1", "ls /root"), "");
    state.launch("c2", &schedule).good().unwrap();
    assert_eq!(names(&state, "c2"), ["snap0"]);
    state.launch("c3", &["-c", "snapshots.schedule=@daily"]).good().unwrap();
    assert!(names(&state, "c3").is_empty());
    state.good(&["delete", "-f", "c1", "c2", "c3"]);
    state.finish();
}

/// A process that was forked off the last run has its lock for a moment.
#[test]
fn a_lock_that_is_let_go_is_waited_for() {
    let Some(state) = state("a_lock_that_is_let_go_is_waited_for") else { return };
    state.good(&["admin", "maintain"]);
    let file = std::fs::File::open(state.path("state/locks/1-maintenance")).unwrap();
    let locked = nix::fcntl::Flock::lock(file, nix::fcntl::FlockArg::LockExclusive).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(std::time::Duration::from_millis(300));
            drop(locked);
        });
        state.good(&["admin", "maintain"]);
    });
    state.finish();
}
