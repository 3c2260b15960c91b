//! Start, stop, restart, pause, reboot and power-off from inside, what happens when process 1 or the monitor is killed.

use crate::support::{Ask, Tree, kill, lives, state, state_with, until};

#[test]
fn start_stop_restart() {
    let Some(state) = state("start_stop_restart") else { return };
    state.launch("c1", &[]).good().unwrap();
    assert_eq!(state.status("c1").as_deref(), Some("RUNNING"));
    let first = state.init("c1");
    state.run(&["start", "c1"]).clean_failure().unwrap();
    state.good(&["stop", "c1"]);
    assert_eq!(state.status("c1").as_deref(), Some("STOPPED"));
    assert!(!lives(first));
    let again = state.run(&["stop", "c1"]);
    again.clean_failure().unwrap();
    assert!(again.stderr.contains("The instance is already stopped"), "{again}");
    state.good(&["start", "c1"]);
    state.sh("c1", "echo kept > /root/file; echo gone > /run/file; mount -t tmpfs none /mnt");
    let before = state.init("c1");
    state.good(&["restart", "c1"]);
    assert!(!lives(before) && lives(state.init("c1")));
    assert_eq!(state.sh("c1", "cat /root/file; grep ' /mnt ' /proc/mounts | wc -l"), "kept\n0");
    let before = state.init("c1");
    state.good(&["restart", "-f", "c1"]);
    assert!(!lives(before) && lives(state.init("c1")));
    state.good(&["stop", "-f", "c1"]);
    state.run(&["restart", "c1"]).clean_failure().unwrap();
    state.finish();
}

/// The monitor's own descriptors have fixed numbers, wherever the starter's happen to be.
#[test]
fn a_start_with_many_open_descriptors() {
    let Some(state) = state("a_start_with_many_open_descriptors") else { return };
    state.good(&["create", "test", "c1"]);
    for last in (4..=64).step_by(4) {
        let script = format!("for n in $(seq 3 {last}); do eval \"exec $n</dev/null\"; done; exec \"$0\" start c1");
        let mut start = state.command(&[]);
        let (program, folder) = (start.get_program().to_os_string(), state.dir.clone());
        let mut shell = std::process::Command::new("bash");
        shell.arg("-c").arg(script).arg(program).env_clear().current_dir(folder);
        shell.envs(start.get_envs().filter_map(|(k, v)| Some((k, v?))));
        start = shell;
        crate::common_root::run(start, None, crate::common_root::PATIENCE).good().unwrap();
        // The lock is free, the log is the monitor's.
        state.good(&["stop", "-f", "c1"]);
    }
    state.finish();
}

#[test]
fn stop_waits_and_gives_up() {
    let deaf = "#!/bin/sh\ntrap '' PWR TERM INT\nwhile :; do sleep 1; done\n";
    let Some(state) = state_with("stop_waits_and_gives_up", |t: &Tree| t.file("sbin/init", deaf, 0o755)) else {
        return;
    };
    state.launch("c1", &[]).good().unwrap();
    let begin = std::time::Instant::now();
    let refused = state.run(&["stop", "c1", "--timeout", "1"]);
    refused.clean_failure().unwrap();
    assert!((1..60).contains(&begin.elapsed().as_secs()), "{refused}");
    assert_eq!(state.status("c1").as_deref(), Some("RUNNING"));
    state.good(&["stop", "-f", "c1"]);
    assert_eq!(state.status("c1").as_deref(), Some("STOPPED"));
    // A fork bomb does not outrun the kill.
    state.good(&["start", "c1"]);
    state.sh(
        "c1",
        "(while :; do sleep 1000 & [ $(ls -d /proc/[0-9]* | wc -l) -lt 300 ] || sleep 0.2; done) >/dev/null 2>&1 &",
    );
    state.good(&["stop", "-f", "c1"]);
    state.finish();
}

#[test]
fn pause_stops_every_process() {
    let Some(state) = state("pause_stops_every_process") else { return };
    state.launch("c1", &[]).good().unwrap();
    state.sh("c1", "(i=0; while :; do i=$((i+1)); echo $i > /tmp/n; sleep 0.02; done) >/dev/null 2>&1 &");
    let count = || std::fs::read_to_string(format!("/proc/{}/root/tmp/n", state.init("c1"))).unwrap_or_default();
    let first = count();
    until("the counter to move", || count() != first);
    state.good(&["pause", "c1"]);
    assert_eq!(state.status("c1").as_deref(), Some("FROZEN"));
    let frozen = count();
    std::thread::sleep(std::time::Duration::from_millis(300));
    assert_eq!(count(), frozen);
    state.run(&["pause", "c1"]).clean_failure().unwrap();
    let refused = state.try_sh("c1", "true");
    refused.clean_failure().unwrap();
    assert!(refused.stderr.contains("frozen"), "{refused}");
    state.good(&["resume", "c1"]);
    until("the counter to move again", || count() != frozen);
    state.run(&["resume", "c1"]).clean_failure().unwrap();
    // `start` resumes too; a frozen one can be stopped, cleanly and by force.
    state.good(&["pause", "c1"]);
    state.good(&["start", "c1"]);
    assert_eq!(state.status("c1").as_deref(), Some("RUNNING"));
    state.good(&["pause", "c1"]);
    state.good(&["stop", "c1"]);
    state.good(&["start", "c1"]);
    state.good(&["pause", "c1"]);
    state.good(&["delete", "-f", "c1"]);
    state.finish();
}

#[test]
fn reboot_and_poweroff_from_inside() {
    let Some(state) = state("reboot_and_poweroff_from_inside") else { return };
    state.launch("c1", &[]).good().unwrap();
    let first = state.init("c1");
    state.try_sh("c1", "reboot -f");
    state.wait_rebooted("c1", first);
    assert!(!lives(first));
    let second = state.init("c1");
    state.try_sh("c1", "poweroff -f");
    until("the second to end", || !lives(second));
    state.wait_status("c1", Some("STOPPED"));
    // An init that just ends is a stop as well.
    state.good(&["start", "c1"]);
    state.try_sh("c1", "kill -PWR 1");
    state.wait_status("c1", Some("STOPPED"));
    state.finish();
}

#[test]
fn ephemeral_is_gone_when_it_stops() {
    let Some(state) = state("ephemeral_is_gone_when_it_stops") else { return };
    for (name, stop) in
        [("e1", &["stop", "e1"][..]), ("e2", &["stop", "-f", "e2"]), ("e3", &["exec", "e3", "--", "poweroff", "-f"])]
    {
        state.launch(name, &["-e"]).good().unwrap();
        state.run(stop);
        state.wait_status(name, None);
    }
    // A restart and a reboot keep it.
    state.launch("e4", &["-e"]).good().unwrap();
    state.sh("e4", "echo here > /root/file");
    state.good(&["restart", "e4"]);
    assert_eq!(state.sh("e4", "cat /root/file"), "here");
    let before = state.init("e4");
    state.try_sh("e4", "reboot -f");
    state.wait_rebooted("e4", before);
    assert_eq!(state.sh("e4", "cat /root/file"), "here");
    kill(state.init("e4"), "KILL");
    state.wait_status("e4", None);
    state.finish();
}

#[test]
fn autorestart_comes_back_ten_times_a_minute() {
    let Some(state) = state("autorestart_comes_back_ten_times_a_minute") else { return };
    state.launch("c1", &["-c", "boot.autorestart=true"]).good().unwrap();
    let mut seen = state.init("c1");
    for turn in 1..=10 {
        kill(seen, "KILL");
        until(&format!("restart {turn}"), || {
            let path =
                state.layout().run_file(&Default::default(), &stapes::base::names::InstanceName::parse("c1").unwrap());
            let record = std::fs::read_to_string(path).ok().and_then(|t| t.parse::<toml::Table>().ok());
            let now = record.and_then(|r| r["init_pid"].as_integer()).map_or(seen, |p| p as i32);
            now != seen && lives(now)
        });
        state.wait_status("c1", Some("RUNNING"));
        seen = state.init("c1");
    }
    kill(seen, "KILL");
    state.wait_status("c1", Some("STOPPED"));
    // Without the key it stays down at once; a stop is no reason to come back.
    state.launch("c2", &[]).good().unwrap();
    kill(state.init("c2"), "KILL");
    state.wait_status("c2", Some("STOPPED"));
    state.good(&["start", "c1"]);
    state.good(&["stop", "-f", "c1"]);
    assert_eq!(state.status("c1").as_deref(), Some("STOPPED"));
    state.finish();
}

#[test]
fn a_killed_monitor_takes_its_instance_along() {
    let Some(state) = state("a_killed_monitor_takes_its_instance_along") else { return };
    for (name, options, next) in [
        ("c1", &[][..], &["start", "c1"][..]),
        ("c2", &[], &["delete", "-f", "c2"]),
        ("c3", &["-e"], &["doctor", "--fix"]),
        ("c4", &[], &["stop", "-f", "c4"]),
    ] {
        state.launch(name, options).good().unwrap();
        let init = state.init(name);
        kill(state.run_record(name)["monitor_pid"].as_integer().unwrap() as i32, "KILL");
        until("process 1 to end", || !lives(init));
        assert_ne!(state.status(name).as_deref(), Some("RUNNING"));
        let settled = state.run(next);
        assert!(settled.ok() || next[0] == "stop", "{settled}");
        state.doctor().unwrap();
    }
    assert_eq!(state.status("c1").as_deref(), Some("RUNNING"));
    assert_eq!((state.status("c2"), state.status("c3")), (None, None));
    assert_eq!(state.status("c4").as_deref(), Some("STOPPED"));
    state.finish();
}

#[test]
fn protected_from_start_and_delete() {
    let Some(state) = state("protected_from_start_and_delete") else { return };
    state.good(&[
        "create",
        "test",
        "c1",
        "-c",
        "security.protection.delete=true",
        "-c",
        "security.protection.start=true",
    ]);
    let start = state.run(&["start", "c1"]);
    start.clean_failure().unwrap();
    assert!(start.stderr.contains("protected from being started"), "{start}");
    for options in [&["delete", "c1"][..], &["delete", "-f", "c1"]] {
        let delete = state.run(options);
        delete.clean_failure().unwrap();
        assert!(delete.stderr.contains("protected from being deleted"), "{delete}");
    }
    assert_eq!(state.status("c1").as_deref(), Some("STOPPED"));
    state.good(&["config", "set", "c1", "security.protection.delete=false"]);
    state.good(&["config", "unset", "c1", "security.protection.start"]);
    state.good(&["start", "c1"]);
    state.finish();
}

/// What the monitor could not do is said where it was asked for.
#[test]
fn a_restart_that_fails_says_why() {
    let Some(state) = state("a_restart_that_fails_says_why") else { return };
    std::fs::create_dir(state.path("shared")).unwrap();
    let source = format!("source={}", state.path("shared").display());
    state.launch("c1", &[]).good().unwrap();
    state.good(&["config", "device", "add", "c1", "src", "disk", &source, "path=/mnt"]);
    std::fs::remove_dir(state.path("shared")).unwrap();
    let out = state.run(&["restart", "-f", "c1"]);
    out.clean_failure().unwrap();
    assert!(out.stderr.contains("did not start again: Failed to start device \"src\": Missing source path"), "{out}");
    assert!(out.stderr.contains("info --show-log c1` for more info"), "{out}");
    state.good(&["delete", "c1"]);
    state.finish();
}

/// `--all` passes over what is there already, as Incus does.
#[test]
fn all_means_those_it_can_be_done_to() {
    let Some(state) = state("all_means_those_it_can_be_done_to") else { return };
    state.launch("c1", &[]).good().unwrap();
    for name in ["c2", "c3"] {
        state.good(&["create", "test", name]);
    }
    let shown = || {
        let text = state.good(&["list", "-f", "csv", "-c", "ns"]);
        text.lines().map(|line| line[3..].to_string() + " ").collect::<String>()
    };
    state.good(&["pause", "--all"]);
    assert_eq!(shown(), "FROZEN STOPPED STOPPED ");
    state.good(&["start", "--all"]);
    assert_eq!(shown(), "FROZEN RUNNING RUNNING ");
    state.good(&["resume", "--all"]);
    assert_eq!(shown(), "RUNNING RUNNING RUNNING ");
    state.good(&["stop", "-f", "c2"]);
    state.good(&["restart", "-f", "--all"]);
    assert_eq!(shown(), "RUNNING STOPPED RUNNING ");
    state.good(&["stop", "-f", "--all"]);
    state.good(&["stop", "-f", "--all"]);
    assert_eq!(shown(), "STOPPED STOPPED STOPPED ");
    state.good(&["delete", "c1", "c2", "c3"]);
    state.finish();
}
