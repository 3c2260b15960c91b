//! A monitor that is told to end: by systemd, which stops its scope, or by anybody with SIGTERM.

use crate::support::{Ask, kill, lives, until};
use crate::{monitor, power, state};
use std::time::{Duration, Instant};

#[test]
fn it_shuts_its_container_down_cleanly() {
    let Some(state) = state("it_shuts_its_container_down_cleanly") else { return };
    for (name, signal) in [("c1", "TERM"), ("c2", "URG")] {
        state.launch(name, &[]).good().unwrap();
        let pid = monitor(&state, name);
        kill(pid, signal);
        until("the monitor to end", || !lives(pid));
        assert_eq!(state.status(name).as_deref(), Some("STOPPED"));
        let log = state
            .layout()
            .instance_log_dir(&Default::default(), &stapes::base::names::InstanceName::parse(name).unwrap());
        let console = std::fs::read_to_string(log.join("console.log")).unwrap();
        assert!(console.contains("bye"), "its init was asked: {console:?}");
        assert_eq!(power(&state, name), "RUNNING", "it ended with the host");
    }
    // A frozen one is thawed, an ephemeral one deleted.
    state.launch("e1", &["-e"]).good().unwrap();
    state.good(&["pause", "e1"]);
    kill(monitor(&state, "e1"), "TERM");
    state.wait_status("e1", None);
    state.finish();
}

#[test]
fn a_deaf_container_is_killed_when_its_time_is_over() {
    let Some(state) = state("a_deaf_container_is_killed_when_its_time_is_over") else { return };
    state.launch("c1", &[]).good().unwrap();
    state.sh("c1", "touch /root/deaf");
    // Read when it is needed.
    state.good(&["config", "set", "c1", "boot.host_shutdown_timeout=2"]);
    let pid = monitor(&state, "c1");
    let begin = Instant::now();
    kill(pid, "TERM");
    // Impatience changes nothing.
    kill(pid, "TERM");
    until("the monitor to end", || !lives(pid));
    let took = begin.elapsed();
    assert!((Duration::from_millis(1900)..Duration::from_secs(20)).contains(&took), "{took:?}");
    state.wait_status("c1", Some("STOPPED"));
    state.good(&["start", "c1"]);
    state.sh("c1", "touch /root/deaf");
    // Asking first would take a minute.
    state.good(&["config", "set", "c1", "boot.host_shutdown_action=force-stop", "boot.host_shutdown_timeout=60"]);
    let (pid, begin) = (monitor(&state, "c1"), Instant::now());
    kill(pid, "TERM");
    until("the monitor to end", || !lives(pid));
    assert!(begin.elapsed() < Duration::from_secs(50), "{:?}", begin.elapsed());
    state.finish();
}
