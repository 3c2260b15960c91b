//! Journals of an earlier boot, on a file system that does not keep the order of what is done: a finished one may come back there
//! after a power cut, beside what later commands did.

use super::common_root::State;
use super::support::{Device, More, state};
use std::fs;
use std::process::Command;

/// As a command of another boot would have left it: past its commit, with one file to be removed.
fn leave(state: &State, name: &str, file: &str, more: &str) {
    let begin =
        r#"{"begin":{"op":"delete","targets":[],"pid":1,"starttime":0,"boot_id":"x","at":"2026-01-01T00:00:00Z"}}"#;
    let then = format!(r#"{{"then":{{"remove-file":{{"path":"{file}"}}}}}}"#);
    fs::write(state.path("state/ops").join(name), format!("{begin}\n{then}\n{more}\"commit\"\n")).unwrap();
}

fn program(words: &str) {
    let mut words = words.split(' ');
    let done = Command::new(words.next().unwrap()).args(words).status().unwrap();
    assert!(done.success());
}

#[test]
fn journals_of_an_earlier_boot() {
    let Some(other) = state("journals_of_an_earlier_boot", true) else { return };
    for kind in ["ext4", "btrfs"] {
        let state = State::bare(&super::common_root::binary());
        let device = Device::new(&state, "disk");
        device.mkfs(kind);
        let folder = state.path("state").display().to_string();
        fs::create_dir_all(&folder).unwrap();
        program(&format!("mount {} {folder}", device.shown()));
        program(&format!("chmod 700 {folder}"));
        state.preseed();
        ["a", "b"].iter().for_each(|name| drop(state.ok(&format!("profile create {name}"))));
        let record = |name: &str| format!("{folder}/projects/default/profiles/{name}.toml");
        leave(&state, "1.journal", &record("a"), "");
        leave(&state, "2.journal", &record("b"), "\"kept\"\n");
        state.ok("profile create c");
        let left = state.ok("profile list -f csv,noheader -c n");
        let wanted = if kind == "ext4" { "c\ndefault\n" } else { "a\nc\ndefault\n" };
        assert_eq!(left, wanted, "{kind}");
        assert_eq!(fs::read_dir(state.path("state/ops")).unwrap().count(), 0, "{kind}");
        state.doctor().unwrap();
        state.ok("admin shutdown");
        program(&format!("umount {folder}"));
    }
    other.finish(&[]);
}
