//! `admin boot` and `admin shutdown`.

use crate::common_root::State;
use crate::support::{Ask, kill, lives, until};
use crate::{monitor, power, state};
use std::time::{Duration, Instant};

/// When an instance was started, for comparing.
fn started(state: &State, name: &str) -> jiff::Timestamp {
    state.run_record(name)["started_at"].as_str().unwrap().parse().unwrap()
}

/// Names in the order of the events `action`, as the event log has them.
fn order(state: &State, action: &str) -> Vec<String> {
    let log = std::fs::read_to_string(state.layout().events_file()).unwrap();
    let events = log.lines().map(|l| serde_json::from_str::<serde_json::Value>(l).unwrap());
    let source = |e: serde_json::Value| {
        let data = &e["metadata"];
        (data["action"] == action).then(|| data["source"].as_str().unwrap().rsplit('/').next().unwrap().to_string())
    };
    events.filter_map(source).collect()
}

#[test]
fn boot_starts_what_is_wanted_in_order() {
    let Some(state) = state("boot_starts_what_is_wanted_in_order") else { return };
    for (name, settings) in [
        ("low", &["boot.autostart=true", "boot.autostart.priority=1"][..]),
        ("high", &["boot.autostart=true", "boot.autostart.priority=10", "boot.autostart.delay=1"]),
        ("plain", &["boot.autostart=true"]),
        ("never", &["boot.autostart=false"]),
        ("unset", &[]),
        ("broken", &["boot.autostart=true", "nvidia.runtime=true"]),
    ] {
        let options: Vec<&str> = settings.iter().flat_map(|s| ["-c", s]).collect();
        state.good(&[&["create", "test", name], &options[..]].concat());
    }
    let booted = state.run(&["admin", "boot"]);
    assert_eq!(booted.code(), Some(1), "{booted}");
    assert!(booted.stderr.contains("broken: error: "), "{booted}");
    assert!(booted.stderr.contains("Some instances failed to start"), "{booted}");
    let status = |name: &str| state.status(name).unwrap();
    assert_eq!(["low", "high", "plain"].map(status), ["RUNNING"; 3].map(String::from));
    assert_eq!(["never", "unset", "broken"].map(status), ["STOPPED"; 3].map(String::from));
    assert_eq!(order(&state, "instance-started"), ["plain", "high", "low"]);
    let gap = started(&state, "low").duration_since(started(&state, "high"));
    assert!(gap.as_secs() >= 1, "the delay after \"high\" was {gap:?}");
    // Again: what runs is left alone.
    state.good(&["config", "unset", "broken", "nvidia.runtime"]);
    let before = state.init("low");
    state.good(&["admin", "boot"]);
    assert_eq!((state.init("low"), status("broken")), (before, "RUNNING".to_string()));
    state.finish();
}

#[test]
fn shutdown_goes_by_priority_and_boot_brings_back_what_ran() {
    let Some(state) = state("shutdown_goes_by_priority_and_boot_brings_back_what_ran") else { return };
    for (name, priority) in [("last", "-1"), ("first", "7"), ("mid1", "0"), ("mid2", "0"), ("off", "0")] {
        state.launch(name, &["-c", &format!("boot.stop.priority={priority}")]).good().unwrap();
        // Each batch takes a second, so that the order shows.
        state.sh(name, "touch /root/slow");
    }
    state.launch("gone", &["-e"]).good().unwrap();
    state.good(&["stop", "off"]);
    let begin = Instant::now();
    state.good(&["admin", "shutdown"]);
    let took = begin.elapsed();
    assert!(took >= Duration::from_secs(3), "three batches of a second each took {took:?}");
    let all = order(&state, "instance-stopped");
    let stopped: Vec<&str> = all.iter().map(String::as_str).filter(|n| *n != "off" && *n != "gone").collect();
    assert_eq!((stopped[0], stopped[3]), ("first", "last"), "{stopped:?}");
    assert_eq!(state.instances().unwrap().iter().filter(|(_, s)| s == "STOPPED").count(), 5);
    assert_eq!(state.status("gone"), None, "an ephemeral one does not come back");
    assert_eq!((power(&state, "first").as_str(), power(&state, "off").as_str()), ("RUNNING", "STOPPED"));
    state.good(&["admin", "shutdown"]);
    state.good(&["admin", "boot"]);
    let running = |name: &str| state.status(name).as_deref() == Some("RUNNING");
    assert!(["first", "mid1", "mid2", "last"].iter().all(|n| running(n)) && !running("off"));
    state.finish();
}

#[test]
fn shutdown_kills_what_does_not_stop_in_time() {
    let Some(state) = state("shutdown_kills_what_does_not_stop_in_time") else { return };
    state.launch("deaf", &["-c", "boot.host_shutdown_timeout=1"]).good().unwrap();
    state.launch("killed", &["-c", "boot.host_shutdown_action=force-stop"]).good().unwrap();
    state.launch("state", &["-c", "boot.host_shutdown_action=stateful-stop"]).good().unwrap();
    state.launch("frozen", &[]).good().unwrap();
    for name in ["deaf", "killed"] {
        state.sh(name, "touch /root/deaf");
    }
    state.good(&["pause", "frozen"]);
    let begin = Instant::now();
    let down = state.run(&["admin", "shutdown"]);
    assert!(down.ok(), "{down}");
    assert!(down.stderr.contains("\"state\" is stopped without its state"), "{down}");
    let took = begin.elapsed();
    assert!((Duration::from_secs(1)..Duration::from_secs(20)).contains(&took), "{took:?}");
    assert!(state.instances().unwrap().iter().all(|(_, s)| s == "STOPPED"));
    assert_eq!(power(&state, "deaf"), "RUNNING");
    // The whole shutdown may be bounded, and may be forced.
    state.good(&["config", "set", "deaf", "boot.host_shutdown_timeout=600"]);
    for options in [&["admin", "shutdown", "-t", "1"][..], &["admin", "shutdown", "--force"]] {
        state.good(&["admin", "boot"]);
        assert_eq!(state.status("deaf").as_deref(), Some("RUNNING"));
        let begin = Instant::now();
        state.good(options);
        assert!(begin.elapsed() < Duration::from_secs(20), "{options:?} took {:?}", begin.elapsed());
        assert!(state.instances().unwrap().iter().all(|(_, s)| s == "STOPPED"));
    }
    state.good(&["admin", "waitready", "-t", "1"]);
    state.finish();
}

#[test]
fn what_ran_at_a_power_cut_comes_back() {
    let Some(state) = state("what_ran_at_a_power_cut_comes_back") else { return };
    for name in ["c1", "c2"] {
        state.launch(name, &[]).good().unwrap();
    }
    let inits = ["c1", "c2"].map(|n| state.init(n));
    for name in ["c1", "c2"] {
        kill(monitor(&state, name), "KILL");
    }
    until("both to end", || !inits.iter().any(|p| lives(*p)));
    // As a state folder whose run files are on disk finds them after the next boot.
    let file = state.layout().run_file(&Default::default(), &stapes::base::names::InstanceName::parse("c1").unwrap());
    let mut record: toml::Table = std::fs::read_to_string(&file).unwrap().parse().unwrap();
    record["boot_id"] = "00000000-0000-0000-0000-000000000000".into();
    std::fs::write(&file, record.to_string()).unwrap();
    state.run(&["doctor", "--fix"]);
    assert_eq!((power(&state, "c1").as_str(), power(&state, "c2").as_str()), ("RUNNING", "STOPPED"));
    state.good(&["admin", "boot"]);
    assert_eq!(state.status("c1").as_deref(), Some("RUNNING"));
    assert_eq!(state.status("c2").as_deref(), Some("STOPPED"), "that one died by itself");
    state.finish();
}
