//! A machine with the shipped units is set up as README says, goes down, and comes up again.
//!
//! `tests/guest/reboot` boots a guest, runs the test `before…` in it, has it reboot by `systemctl reboot`, and runs the tests
//! `after…` in its second life. State folder, program and units are where a user has them. The init of the instances here
//! keeps a diary in its file system: when it began, was asked to end, and ended, in seconds since the machine's boot.
#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "a test: its files are no records"
)]

mod common_root;

use common_root::skip;
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

const PROGRAM: &str = "/usr/local/bin/stapes";
const UNITS: &str = "/etc/systemd/system";
/// The boot id of the first life.
const FIRST_LIFE: &str = "/root/first-life";
/// Asked to end, it takes a second: who is asked only after its end is asked a second later.
const INIT: &str = "#!/bin/sh
note() { read -r up rest </proc/uptime; echo \"$1 $up\" >>/diary; }
trap 'note asked; sleep 1; note ended; exit 0' PWR
note begun
rm -f /run/f
mkfifo /run/f
exec 9<>/run/f
while :; do read -t 1 -r x <&9; done
";
/// The instances that `stapes.service` is about: name, keys, whether it ran when the machine went down, whether it is to run
/// after.
const INSTANCES: [(&str, &[&str], bool, bool); 9] = [
    ("auto", &["boot.autostart=true", "boot.stop.priority=10"], true, true),
    ("high", &["boot.autostart=true", "boot.autostart.priority=5", "boot.autostart.delay=4"], true, true),
    ("low", &["boot.autostart=true", "boot.autostart.priority=1", "boot.stop.priority=5"], true, true),
    ("forced", &["boot.autostart=true", "boot.host_shutdown_action=force-stop"], true, true),
    ("late", &["boot.autostart=true"], false, true),
    ("ran", &[], true, true),
    ("never", &["boot.autostart=false"], true, false),
    ("stopped", &[], false, false),
    ("created", &[], false, false),
];
/// Those that have a unit of their own.
const OWN_UNIT: [(&str, &str); 2] = [("wrapped", "stapes@wrapped.service"), ("printed", "stapes-printed.service")];

/// True inside the guest.
fn in_guest(test: &str) -> bool {
    let inside = std::env::var_os("STAPES_GUEST_REBOOTS").is_some();
    if !inside {
        skip(test, "no guest: run tests/guest/reboot");
    }
    inside
}

fn tool(program: &str, args: &[&str]) -> String {
    let mut command = Command::new(program);
    command.args(args).env_remove("STAPES_DIR");
    common_root::run(command, None, common_root::PATIENCE).good().unwrap().trim().to_string()
}

fn stapes(args: &[&str]) -> String {
    tool(PROGRAM, args)
}

fn boot_id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap()
}

fn states() -> BTreeMap<String, String> {
    let text = stapes(&["list", "-f", "csv,noheader", "-c", "ns"]);
    text.lines().filter_map(|l| l.split_once(',')).map(|(n, s)| (n.to_string(), s.to_string())).collect()
}

/// An image whose init is the one above.
fn import_image() {
    let dir = tempfile::tempdir_in("/var/tmp").unwrap();
    common_root::make_images(dir.path());
    let at = dir.path().to_string_lossy().into_owned();
    tool("tar", &["-C", &at, "-xf", &format!("{at}/image.tar")]);
    std::fs::write(dir.path().join("rootfs/sbin/init"), INIT).unwrap();
    tool("tar", &["-C", &at, "-cf", &format!("{at}/new.tar"), "metadata.yaml", "rootfs"]);
    stapes(&["image", "import", &format!("{at}/new.tar"), "--alias", "test"]);
}

#[test]
fn before_the_machine_is_set_up() {
    if !in_guest("before_the_machine_is_set_up") {
        return;
    }
    tool("install", &[&common_root::binary().to_string_lossy(), PROGRAM]);
    // What a journal on disk needs.
    tool("install", &["-d", "/var/log/journal"]);
    tool("systemctl", &["restart", "systemd-journald"]);
    import_image();
    for (name, keys, ..) in INSTANCES {
        let keys = keys.iter().flat_map(|k| ["-c", *k]);
        stapes(&["create", "test", name].into_iter().chain(keys).collect::<Vec<_>>());
    }
    for (name, _) in OWN_UNIT {
        stapes(&["create", "test", name]);
    }
    let shipped = [
        ("stapes.service", include_str!("../examples/systemd/stapes.service").to_string()),
        ("stapes@.service", include_str!("../examples/systemd/stapes@.service").to_string()),
        ("stapes-printed.service", stapes(&["generate", "systemd", "printed"])),
    ];
    for (name, text) in shipped {
        std::fs::write(Path::new(UNITS).join(name), text).unwrap();
    }
    tool("systemctl", &["enable", "--now", "stapes.service", OWN_UNIT[0].1, OWN_UNIT[1].1]);
    let by_hand = ["ran", "never", "stopped"];
    stapes(&[&["start"], &by_hand[..]].concat());
    stapes(&["stop", "stopped"]);
    // It is to start with the next boot only.
    stapes(&["stop", "late"]);
    let mut wanted: BTreeMap<_, _> = INSTANCES.iter().map(|(n, _, ran, _)| (*n, *ran)).collect();
    wanted.extend(OWN_UNIT.map(|(n, _)| (n, true)));
    for (name, state) in states() {
        assert_eq!(state == "RUNNING", wanted[name.as_str()], "{name}: {state}");
    }
    std::fs::write(FIRST_LIFE, boot_id()).unwrap();
}

/// What an instance's diary has of the first life and of the second.
fn diary(name: &str) -> [BTreeMap<String, f64>; 2] {
    let text = stapes(&["file", "pull", &format!("{name}/diary"), "-"]);
    let mut lives: Vec<BTreeMap<String, f64>> = Vec::new();
    for line in text.lines() {
        let (what, when) = line.split_once(' ').unwrap();
        if what == "begun" {
            lives.push(BTreeMap::new());
        }
        lives.last_mut().unwrap().insert(what.to_string(), when.parse().unwrap());
    }
    lives.resize(2, BTreeMap::new());
    lives.try_into().unwrap()
}

/// The journal of the first life.
fn journal(of: &[&str]) -> String {
    let id = std::fs::read_to_string(FIRST_LIFE).unwrap().trim().replace('-', "");
    tool("journalctl", &[&["--no-pager", "-o", "short-monotonic", "-b", &id], of].concat())
}

#[test]
fn after_those_run_that_should() {
    if !in_guest("after_those_run_that_should") {
        return;
    }
    assert_ne!(boot_id(), std::fs::read_to_string(FIRST_LIFE).unwrap(), "it did not reboot");
    let mut wanted: BTreeMap<String, String> = INSTANCES
        .iter()
        .map(|(name, _, _, runs)| (name.to_string(), if *runs { "RUNNING" } else { "STOPPED" }.to_string()))
        .collect();
    wanted.extend(OWN_UNIT.map(|(name, _)| (name.to_string(), "RUNNING".to_string())));
    assert_eq!(states(), wanted);
    for (name, runs) in &wanted {
        if runs == "RUNNING" {
            assert_eq!(stapes(&["exec", name, "--", "cat", "/proc/1/comm"]), "init", "{name}");
        }
    }
    for (name, unit) in OWN_UNIT {
        let group = tool("systemctl", &["show", "--value", "-p", "ControlGroup", unit]);
        assert!(Path::new(&format!("/sys/fs/cgroup{group}/default_{name}")).is_dir(), "{name} is not in {unit}");
    }
    assert!(Path::new("/sys/fs/cgroup/machine.slice/stapes.scope/default_auto").is_dir());
}

#[test]
fn after_nothing_failed_and_nothing_is_left_of_the_first_life() {
    if !in_guest("after_nothing_failed_and_nothing_is_left_of_the_first_life") {
        return;
    }
    assert_eq!(tool("systemctl", &["--failed", "--no-legend", "--plain"]), "");
    let findings = stapes(&["doctor", "-f", "csv"]);
    assert!(!findings.contains(",ERROR,"), "{findings}");
    let said = tool("journalctl", &["--no-pager", "-b", "-u", "stapes.service", "-u", "stapes*.service"]);
    assert!(!said.contains("Error:") && !said.contains("Failed"), "{said}");
}

#[test]
fn after_a_shutdown_in_which_each_was_asked_and_none_was_killed() {
    if !in_guest("after_a_shutdown_in_which_each_was_asked_and_none_was_killed") {
        return;
    }
    let ran = INSTANCES.iter().filter(|(_, _, ran, _)| *ran).map(|(name, ..)| *name);
    for name in ran.chain(OWN_UNIT.map(|(name, _)| name)) {
        let [first, _] = diary(name);
        let (asked, ended) = (first.get("asked"), first.get("ended"));
        if name == "forced" {
            assert_eq!((asked, ended), (None, None), "it was to be killed at once");
        } else {
            assert!(asked.is_some() && ended.is_some(), "{name} had no time to end: {first:?}");
        }
    }
    let units = ["stapes.service", "stapes.scope", OWN_UNIT[0].1, OWN_UNIT[1].1];
    for unit in units {
        let said = journal(&["-u", unit]);
        let bad = ["Killing process", "timed out", "Failed", "SIGKILL", "Error:"];
        assert!(!bad.iter().any(|b| said.contains(b)), "{unit}: {said}");
        assert!(said.contains("Deactivated successfully"), "{unit}: {said}");
    }
    // Nor by the last broom of all, after every unit is down.
    let whole = journal(&[]);
    assert!(!whole.contains("Sending SIGKILL to PID"), "{whole}");
    let events = std::fs::read_to_string("/var/log/stapes/events.jsonl").unwrap();
    for name in ["auto", "high", "low", "ran", "never", "wrapped", "printed"] {
        let source = format!("/1.0/instances/{name}\"");
        let mine = events.lines().filter(|l| l.contains(&source));
        let last: Vec<&str> = mine.filter(|l| l.contains("instance-s")).collect();
        let actions = ["instance-started", "instance-stopped", "instance-shutdown"];
        let words: Vec<&str> =
            last.iter().map(|l| *actions.iter().find(|a| l.contains(*a)).expect("an event of its life")).collect();
        assert!(
            words.len() >= 2 && words[0] == "instance-started" && words[1] != "instance-started",
            "{name}: {words:?}"
        );
    }
}

#[test]
fn after_the_order_was_right_both_ways() {
    if !in_guest("after_the_order_was_right_both_ways") {
        return;
    }
    let down = |name: &str, what: &str| diary(name)[0][what];
    let up = |name: &str| diary(name)[1]["begun"];
    // The highest boot.stop.priority first, and the next when that has ended.
    assert!(down("auto", "ended") < down("low", "asked"));
    // Also what has a unit of its own: `stapes.service` goes down before those units do.
    for name in ["high", "ran", "never"].into_iter().chain(OWN_UNIT.map(|(name, _)| name)) {
        assert!(down("low", "ended") < down(name, "asked"), "{name}");
    }
    // Those first, and those without a priority before the others; a delay holds back what comes after.
    for (own, _) in OWN_UNIT {
        assert!(up(own) < up("auto"), "{own}");
    }
    for name in ["auto", "forced", "late", "ran"] {
        assert!(up(name) < up("high"), "{name}");
    }
    assert!(up("high") + 4.0 < up("low"));
}

#[test]
fn after_all_it_ends_clean() {
    if !in_guest("after_all_it_ends_clean") {
        return;
    }
    // The other tests look at what runs.
    tool("systemctl", &["disable", "--now", "stapes.service", OWN_UNIT[0].1, OWN_UNIT[1].1]);
    assert!(states().values().all(|s| s == "STOPPED"), "{:?}", states());
    assert_eq!(tool("systemctl", &["--failed", "--no-legend", "--plain"]), "");
    let names: Vec<String> = states().into_keys().collect();
    stapes(&["delete"].into_iter().chain(names.iter().map(String::as_str)).collect::<Vec<_>>());
    let findings = stapes(&["doctor", "-f", "csv"]);
    assert!(!findings.contains(",ERROR,"), "{findings}");
}
