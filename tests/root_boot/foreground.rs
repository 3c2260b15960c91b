//! `start --foreground`: one process that keeps its instance, tells a manager, and ends with it.

use crate::common_root::{PATIENCE, State, leftovers, on, skip, wait};
use crate::support::{Ask, kill, lives, until};
use crate::{power, state};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// A start in the foreground with the socket it notifies.
struct Foreground {
    child: Child,
    socket: UnixDatagram,
}

impl Foreground {
    fn start(state: &State, name: &str) -> Self {
        let command = state.command(&["start", "--foreground", name]);
        Self::run(state, command)
    }

    /// The same, from within a cgroup.
    fn start_in(state: &State, name: &str, group: &Path) -> Self {
        let ours = state.command(&["start", "--foreground", name]);
        let mut command = Command::new("sh");
        command.args(["-c", "echo $$ >\"$0/cgroup.procs\" && exec \"$@\""]).arg(group);
        command.arg(ours.get_program()).args(ours.get_args());
        command.envs(ours.get_envs().filter_map(|(k, v)| Some((k, v?))));
        Self::run(state, command)
    }

    fn run(state: &State, mut command: Command) -> Self {
        let path = state.path("notify");
        let _ = std::fs::remove_file(&path);
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        command.env("NOTIFY_SOCKET", &path).stdin(Stdio::null());
        command.stdout(std::fs::File::create(state.path("out")).unwrap());
        command.stderr(std::fs::File::create(state.path("err")).unwrap());
        Self { child: command.spawn().unwrap(), socket }
    }

    fn pid(&self) -> i32 {
        self.child.id() as i32
    }

    /// The next message; none when it is silent.
    fn told(&self) -> String {
        let mut buffer = [0; 512];
        let n = on(|| self.socket.recv(&mut buffer)).unwrap();
        String::from_utf8(buffer[..n].to_vec()).unwrap()
    }

    fn ready(self) -> Self {
        let message = self.told();
        assert!(message.starts_with("READY=1\nSTATUS=Running, process 1 is "), "{message:?}");
        self
    }

    fn code(&mut self) -> Option<i32> {
        wait(&mut self.child, PATIENCE).and_then(|s| s.code())
    }
}

fn output(state: &State, name: &str) -> String {
    std::fs::read_to_string(state.path(name)).unwrap()
}

#[test]
fn it_tells_its_manager_and_ends_well_when_told() {
    let Some(state) = state("it_tells_its_manager_and_ends_well_when_told") else { return };
    state.good(&["create", "test", "c1"]);
    for signal in ["TERM", "INT", "HUP"] {
        let mut run = Foreground::start(&state, "c1").ready();
        assert_eq!(state.run_record("c1")["monitor_pid"].as_integer(), Some(run.pid().into()));
        until("the console", || output(&state, "out").contains("booted\n"));
        assert_eq!(state.sh("c1", "echo in"), "in");
        let second = state.run(&["start", "--foreground", "c1"]);
        second.clean_failure().unwrap();
        assert!(second.stderr.contains("already running"), "{second}");
        kill(run.pid(), signal);
        assert!(run.told().starts_with("STOPPING=1\n"));
        assert_eq!(run.code(), Some(0), "{}", output(&state, "err"));
        assert!(output(&state, "out").ends_with("bye\n"), "{:?}", output(&state, "out"));
        assert_eq!(state.status("c1").as_deref(), Some("STOPPED"));
        assert_eq!(power(&state, "c1"), "STOPPED", "its unit decides whether it comes back");
    }
    state.finish();
}

#[test]
fn how_it_ended_is_its_status() {
    let Some(state) = state("how_it_ended_is_its_status") else { return };
    state.good(&["create", "test", "c1"]);
    for (words, code) in [
        (&["stop", "c1"][..], 0),
        (&["stop", "-f", "c1"], 0),
        (&["exec", "c1", "--", "poweroff", "-f"], 0),
        (&["admin", "shutdown"], 0),
    ] {
        let mut run = Foreground::start(&state, "c1").ready();
        let done = state.run(words);
        assert!(done.ok() || words[0] == "exec", "{done}");
        assert_eq!(run.code(), Some(code), "{words:?}: {}", output(&state, "err"));
    }
    // Nobody asked for this one.
    let mut run = Foreground::start(&state, "c1").ready();
    kill(state.init("c1"), "KILL");
    assert_eq!(run.code(), Some(1));
    assert!(output(&state, "err").starts_with("Error: The instance has ended unexpectedly\n"));
    assert_eq!(state.status("c1").as_deref(), Some("STOPPED"));
    // A start that fails leaves nothing and says why.
    state.good(&["config", "set", "c1", "security.protection.start=true"]);
    let refused = state.run(&["start", "--foreground", "c1"]);
    refused.clean_failure().unwrap();
    for bad in [
        &["start", "--foreground", "c1", "c2"][..],
        &["start", "--foreground", "--all"],
        &["start", "--foreground", "no"],
    ] {
        state.run(bad).clean_failure().unwrap();
    }
    state.finish();
}

#[test]
fn a_restart_stays_in_the_process() {
    let Some(state) = state("a_restart_stays_in_the_process") else { return };
    state.good(&["create", "test", "c1"]);
    let mut run = Foreground::start(&state, "c1").ready();
    for words in [&["exec", "c1", "--", "reboot", "-f"][..], &["restart", "c1"], &["restart", "-f", "c1"]] {
        let before = state.init("c1");
        let done = state.run(words);
        assert!(done.ok() || words[0] == "exec", "{done}");
        state.wait_rebooted("c1", before);
        assert!(!lives(before));
        assert_eq!(state.run_record("c1")["monitor_pid"].as_integer(), Some(run.pid().into()), "{words:?}");
        assert_eq!(state.sh("c1", "echo in"), "in");
        assert_eq!(run.told(), "STATUS=Starting again");
        assert!(run.told().starts_with("STATUS=Running, process 1 is "));
    }
    kill(run.pid(), "TERM");
    assert_eq!(run.code(), Some(0));
    state.finish();
}

#[test]
fn a_killed_one_is_settled_by_the_next() {
    let Some(state) = state("a_killed_one_is_settled_by_the_next") else { return };
    for options in [&[][..], &["-c", "security.privileged=true"]] {
        state.good(&[&["create", "test", "c1"], options].concat());
        let mut run = Foreground::start(&state, "c1").ready();
        let init = state.init("c1");
        kill(run.pid(), "KILL");
        assert_eq!(run.code(), None);
        until("process 1 to end", || !lives(init));
        let mut run = Foreground::start(&state, "c1").ready();
        assert_ne!(state.init("c1"), init);
        assert_eq!(state.sh("c1", "echo in"), "in");
        state.good(&["delete", "-f", "c1"]);
        assert_eq!(run.code(), Some(0), "{}", output(&state, "err"));
        state.doctor().unwrap();
    }
    state.finish();
}

/// A wait looks where the instance is, which need not be where a start without `--foreground` would have put it.
#[test]
fn a_wait_sees_it_freeze_at_once() {
    let Some(state) = state("a_wait_sees_it_freeze_at_once") else { return };
    state.good(&["create", "test", "c1"]);
    // A group handed over to whoever is in it, as a unit with `Delegate=yes` has.
    let group =
        leftovers::cgroup(&state).unwrap().parent().unwrap().join(format!("stapes-test-{}", std::process::id()));
    std::fs::create_dir(&group).unwrap();
    let marked = Command::new("setfattr").args(["-n", "trusted.delegate", "-v", "1"]).arg(&group).status();
    if !marked.is_ok_and(|s| s.success()) {
        std::fs::remove_dir(&group).unwrap();
        return skip("a_wait_sees_it_freeze_at_once", "no setfattr, or a cgroup takes no attribute");
    }
    let mut run = Foreground::start_in(&state, "c1", &group).ready();
    let lives_in = state.run_record("c1")["cgroup"].as_str().unwrap().to_string();
    assert!(lives_in.starts_with(group.to_str().unwrap()), "{lives_in}");
    for (verb, status) in [("pause", "frozen"), ("resume", "running")] {
        // Nothing looks again within the patience of this test.
        let words = ["wait", "c1", &format!("status={status}"), "--interval", "3600"];
        let mut waits = state.command(&words).stdin(Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(500));
        assert!(waits.try_wait().unwrap().is_none(), "not yet {status}");
        state.good(&[verb, "c1"]);
        assert!(wait(&mut waits, PATIENCE).is_some_and(|s| s.success()), "{status}");
    }
    state.good(&["stop", "-f", "c1"]);
    assert_eq!(run.code(), Some(0));
    std::fs::remove_dir(group.join("monitors")).unwrap();
    std::fs::remove_dir(&group).unwrap();
    state.finish();
}
