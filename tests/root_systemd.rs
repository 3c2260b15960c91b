//! What only a real systemd shows: the scope that instances live in, that no unit's stop reaches them, the units that are
//! shipped and generated. Runs where systemd is process 1 (`tests/guest/root-tier root_systemd`), else it is skipped.
#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "a test: its files are no records"
)]

mod common_root;
#[path = "root_lifecycle/support.rs"]
#[allow(dead_code, reason = "the other test programs use the rest")]
mod support;

use common_root::{State, skip};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use support::{Ask, kill, lives, until};

const UNITS: &str = "/etc/systemd/system";
const INIT: &str = "#!/bin/sh\ntrap 'echo bye; exit 0' PWR\necho booted\nwhile :; do sleep 3600 & wait $!; done\n";

fn state(test: &str) -> Option<State> {
    if !Path::new("/run/systemd/system").is_dir() {
        skip(test, "systemd does not run here");
        return None;
    }
    support::state_with(test, |tree| tree.file("sbin/init", INIT, 0o755))
}

fn tool(program: &str, args: &[&str]) -> Output {
    Command::new(program).args(args).output().unwrap()
}

fn systemctl(args: &[&str]) -> String {
    String::from_utf8(tool("systemctl", args).stdout).unwrap().trim().to_string()
}

fn show(unit: &str, property: &str) -> String {
    systemctl(&["show", "--value", "-p", property, unit])
}

/// The scope of this state.
fn scope(state: &State) -> String {
    stapes::ops::load::cgroups(&state.layout()).unwrap().scope().unwrap().to_string()
}

/// Writes a unit file; it is gone with the result.
struct Unit(String);

impl Unit {
    fn new(name: &str, text: &str) -> Self {
        std::fs::write(Path::new(UNITS).join(name), text).unwrap();
        systemctl(&["daemon-reload"]);
        Self(name.to_string())
    }
}

impl Drop for Unit {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(Path::new(UNITS).join(&self.0));
        systemctl(&["daemon-reload"]);
    }
}

#[test]
fn the_scope_is_there_while_something_runs() {
    let Some(state) = state("the_scope_is_there_while_something_runs") else { return };
    let unit = scope(&state);
    assert_eq!(show(&unit, "ActiveState"), "inactive");
    for name in ["c1", "c2"] {
        state.good(&["create", "test", name]);
    }
    // Two first ones at once.
    state.good(&["start", "c1", "c2"]);
    assert_eq!(show(&unit, "ActiveState"), "active");
    assert_eq!((show(&unit, "Delegate"), show(&unit, "TasksMax")), ("yes".into(), "infinity".into()));
    assert_eq!(show(&unit, "ControlGroup"), format!("/machine.slice/{unit}"));
    let base = Path::new("/sys/fs/cgroup/machine.slice").join(&unit);
    assert_eq!(std::fs::read_to_string(base.join("cgroup.procs")).unwrap(), "", "its own group is free of processes");
    let controllers = std::fs::read_to_string(base.join("cgroup.controllers")).unwrap();
    assert!(["cpu", "memory", "pids"].iter().all(|c| controllers.split_whitespace().any(|f| f == *c)), "{controllers}");
    let tree = String::from_utf8(tool("systemd-cgls", &["--no-pager", "/machine.slice"]).stdout).unwrap();
    assert!(tree.contains("default_c1") && tree.contains("stapes-monitor default/c1"), "{tree}");
    state.good(&["stop", "c1"]);
    assert_eq!(show(&unit, "ActiveState"), "active");
    state.good(&["stop", "c2"]);
    until("the scope to go", || !base.exists() && show(&unit, "ActiveState") == "inactive");
    // Starts that meet an ending scope.
    for _ in 0..4 {
        state.good(&["start", "c1"]);
        state.good(&["stop", "-f", "c1"]);
        state.good(&["run", "test", "--", "true"]);
    }
    until("the scope to go", || !base.exists());
    // Stopping the scope is an order to the monitors.
    state.good(&["start", "c1"]);
    systemctl(&["stop", &unit]);
    assert_eq!(state.status("c1").as_deref(), Some("STOPPED"));
    let shown = state.good(&["console", "c1", "--show-log"]);
    assert!(shown.trim_end().ends_with("bye"), "{shown}");
    state.finish();
}

#[test]
fn the_end_of_the_unit_that_started_it_does_not_reach_it() {
    let Some(state) = state("the_end_of_the_unit_that_started_it_does_not_reach_it") else { return };
    for name in ["c1", "c2"] {
        state.good(&["create", "test", name]);
    }
    let (bin, dir) = (state.bin.to_string_lossy().into_owned(), format!("--setenv=STAPES_DIR={}", state.dir.display()));
    let done = tool("systemd-run", &["--unit=stapes-test-once", "--wait", "--collect", &dir, &bin, "start", "c1"]);
    assert!(done.status.success(), "{done:?}");
    assert_eq!(state.status("c1").as_deref(), Some("RUNNING"));
    let script = format!("{bin} start c2 && exec sleep 1000");
    tool("systemd-run", &["--unit=stapes-test-long", "--collect", &dir, "sh", "-c", &script]);
    until("c2 to run", || state.status("c2").as_deref() == Some("RUNNING"));
    let inits = [state.init("c1"), state.init("c2")];
    systemctl(&["stop", "stapes-test-long.service"]);
    assert!(inits.iter().all(|p| lives(*p)));
    assert_eq!(state.status("c2").as_deref(), Some("RUNNING"));
    state.finish();
}

/// Settings of logind for a while: a log-out ends all processes of the session, root's too (logind.conf(5)).
struct Strict;

const LOGIND: &str = "/run/systemd/logind.conf.d/stapes-test.conf";

impl Strict {
    fn set() -> Self {
        std::fs::create_dir_all(Path::new(LOGIND).parent().unwrap()).unwrap();
        std::fs::write(LOGIND, "[Login]\nKillUserProcesses=yes\nKillExcludeUsers=\n").unwrap();
        systemctl(&["restart", "systemd-logind"]);
        Self
    }
}

impl Drop for Strict {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(LOGIND);
        systemctl(&["restart", "systemd-logind"]);
    }
}

#[test]
fn a_log_out_does_not_reach_it() {
    let Some(state) = state("a_log_out_does_not_reach_it") else { return };
    if tool("sh", &["-c", "ls /usr/lib/*/security/pam_systemd.so /lib/*/security/pam_systemd.so"]).stdout.is_empty() {
        skip("a_log_out_does_not_reach_it", "no pam_systemd: the package libpam-systemd");
        return;
    }
    state.good(&["create", "test", "c1"]);
    let _strict = Strict::set();
    let (bin, dir) = (state.bin.to_string_lossy().into_owned(), format!("--setenv=STAPES_DIR={}", state.dir.display()));
    // A session as login(1) opens it. One process of it stays behind as stubbornly as it can.
    let stray = state.path("stray");
    let script = format!("{bin} start c1; setsid nohup sleep 3000 & echo $! >{}; exec sleep 3000", stray.display());
    let begun =
        ["--unit=stapes-test-login", "--collect", "-p", "PAMName=login", "-p", "User=root", &dir, "sh", "-c", &script];
    assert!(tool("systemd-run", &begun).status.success());
    let pid = || std::fs::read_to_string(&stray).ok()?.trim().parse::<i32>().ok();
    until("the session to have started it", || pid().is_some() && state.status("c1").as_deref() == Some("RUNNING"));
    let (stray, init) = (pid().unwrap(), state.init("c1"));
    let group = std::fs::read_to_string(format!("/proc/{stray}/cgroup")).unwrap();
    let session = group.trim().rsplit_once("/session-").and_then(|(_, n)| n.strip_suffix(".scope"));
    let session = session.unwrap_or_else(|| panic!("no session: {group}"));
    assert!(tool("loginctl", &["terminate-session", session]).status.success());
    until("the session to end", || !lives(stray));
    until("the user's slice to be empty", || !Path::new("/sys/fs/cgroup/user.slice/user-0.slice").is_dir());
    assert!(lives(init));
    assert_eq!(state.status("c1").as_deref(), Some("RUNNING"));
    assert_eq!(state.sh("c1", "echo still"), "still");
    state.finish();
}

/// The shipped template for this state and program.
fn template(state: &State) -> String {
    let text = include_str!("../examples/systemd/stapes@.service");
    let set = format!("[Service]\nEnvironment=STAPES_DIR={}\n", state.dir.display());
    text.replace("/usr/local/bin/stapes", &state.bin.to_string_lossy()).replace("[Service]\n", &set)
}

#[test]
fn the_shipped_template_runs_an_instance() {
    let Some(state) = state("the_shipped_template_runs_an_instance") else { return };
    state.good(&["create", "test", "c1"]);
    let _template = Unit::new("stapes-test@.service", &template(&state));
    let unit = "stapes-test@c1.service";
    systemctl(&["start", unit]);
    assert_eq!((show(unit, "ActiveState"), state.status("c1")), ("active".into(), Some("RUNNING".into())));
    let group = show(unit, "ControlGroup");
    assert_eq!(state.run_record("c1")["cgroup"].as_str().unwrap(), format!("/sys/fs/cgroup{group}/default_c1"));
    let controllers = std::fs::read_to_string(format!("/sys/fs/cgroup{group}/cgroup.controllers")).unwrap();
    assert!(controllers.contains("memory"), "{controllers}");
    until("the journal to have the console", || {
        String::from_utf8_lossy(&tool("journalctl", &["--no-pager", "-u", unit]).stdout).contains("booted")
    });
    // Killed: started again. A restart and the guest's reboot stay inside.
    let (main, init) = (show(unit, "MainPID"), state.init("c1"));
    kill(main.parse().unwrap(), "KILL");
    until("the restart", || {
        show(unit, "ActiveState") == "active" && !["0", main.as_str()].contains(&show(unit, "MainPID").as_str())
    });
    assert!(!lives(init));
    let (main, init) = (show(unit, "MainPID"), state.init("c1"));
    state.try_sh("c1", "reboot -f");
    state.wait_rebooted("c1", init);
    assert_eq!(show(unit, "MainPID"), main);
    systemctl(&["stop", unit]);
    assert_eq!((show(unit, "Result"), state.status("c1")), ("success".into(), Some("STOPPED".into())));
    // Stopped by our own command: no restart.
    systemctl(&["start", unit]);
    state.good(&["stop", "c1"]);
    until("the unit to end", || show(unit, "ActiveState") == "inactive");
    assert_eq!((show(unit, "Result"), show(unit, "NRestarts")), ("success".into(), "0".into()));
    state.finish();
}

/// What serves a network is in the monitors' scope, not in the unit of the instance that came first, with which it would end.
#[test]
fn a_networks_server_outlasts_the_unit_that_started_it() {
    let Some(state) = state("a_networks_server_outlasts_the_unit_that_started_it") else { return };
    if let Some(missing) = ["dnsmasq", "nft"].iter().find(|p| !common_root::have(p)) {
        skip("a_networks_server_outlasts_the_unit_that_started_it", &format!("the program \"{missing}\" is missing"));
        return;
    }
    state.good(&["network", "create", "st0", "ipv4.address=10.117.0.1/24", "ipv4.nat=false", "ipv6.address=none"]);
    for name in ["c1", "c2"] {
        state.good(&["create", "test", name, "--network", "st0"]);
    }
    // In the network of this thread, as its commands are.
    let namespace = format!("[Service]\nNetworkNamespacePath=/proc/{}/ns/net\n", nix::unistd::gettid());
    let _template = Unit::new("stapes-test-n@.service", &template(&state).replace("[Service]\n", &namespace));
    let unit = "stapes-test-n@c1.service";
    systemctl(&["start", unit]);
    assert_eq!(state.status("c1").as_deref(), Some("RUNNING"));
    let file = state.layout().network_run_dir("st0").join("dnsmasq.pid");
    let server: i32 = std::fs::read_to_string(&file).unwrap().trim().parse().unwrap();
    let group = std::fs::read_to_string(format!("/proc/{server}/cgroup")).unwrap();
    assert_eq!(group.trim(), format!("0::/machine.slice/{}/monitors", scope(&state)));
    state.good(&["start", "c2"]);
    systemctl(&["stop", unit]);
    assert_eq!((show(unit, "Result"), state.status("c1")), ("success".into(), Some("STOPPED".into())));
    assert!(lives(server), "it ended with the unit");
    let journal = String::from_utf8_lossy(&tool("journalctl", &["--no-pager", "-u", unit]).stdout).into_owned();
    assert!(!journal.contains("Killing process"), "{journal}");
    state.good(&["stop", "c2"]);
    until("the server to end", || !lives(server));
    state.good(&["delete", "c1", "c2"]);
    state.good(&["network", "delete", "st0"]);
    state.finish();
}

#[test]
fn shipped_units_are_clean_and_boot_and_stop_instances() {
    let Some(state) = state("shipped_units_are_clean_and_boot_and_stop_instances") else { return };
    let text = include_str!("../examples/systemd/stapes.service");
    let set = format!("[Service]\nEnvironment=STAPES_DIR={}\n", state.dir.display());
    let text = text.replace("/usr/local/bin/stapes", &state.bin.to_string_lossy()).replace("[Service]\n", &set);
    let _service = Unit::new("stapes.service", &text);
    let _template = Unit::new("stapes-test-v@.service", &template(&state));
    for unit in ["stapes.service", "stapes-test-v@c1.service"] {
        let verified = tool("systemd-analyze", &["verify", &format!("{UNITS}/{unit}")]);
        let said = String::from_utf8_lossy(&verified.stderr).into_owned();
        assert!(verified.status.success() && !said.contains("stapes"), "{unit}: {said}");
    }
    state.good(&["create", "test", "c1", "-c", "boot.autostart=true"]);
    systemctl(&["start", "stapes.service"]);
    assert_eq!(state.status("c1").as_deref(), Some("RUNNING"));
    // At shutdown it is stopped before the scope.
    assert!(show("stapes.service", "After").split(' ').any(|u| u == scope(&state)));
    systemctl(&["stop", "stapes.service"]);
    assert_eq!(state.status("c1").as_deref(), Some("STOPPED"));
    state.finish();
}

/// The shipped timer, made to elapse every two seconds, takes the snapshot that a schedule asks for, once, and what it did stands in
/// the journal.
#[test]
fn the_shipped_timer_takes_what_is_due() {
    let Some(state) = state("the_shipped_timer_takes_what_is_due") else { return };
    let text = include_str!("../examples/systemd/stapes-maintain.service");
    let set = format!("[Service]\nEnvironment=STAPES_DIR={}\n", state.dir.display());
    let text = text.replace("/usr/local/bin/stapes", &state.bin.to_string_lossy()).replace("[Service]\n", &set);
    let _service = Unit::new("stapes-maintain.service", &text);
    let text = include_str!("../examples/systemd/stapes-maintain.timer");
    assert!(text.contains("OnCalendar=*:0/5\n") && text.contains("AccuracySec=30s\n"), "{text}");
    let often =
        text.replace("OnCalendar=*:0/5\n", "OnCalendar=*:*:0/2\n").replace("AccuracySec=30s", "AccuracySec=100ms");
    let _timer = Unit::new("stapes-maintain.timer", &often);
    for unit in ["stapes-maintain.service", "stapes-maintain.timer"] {
        let verified = tool("systemd-analyze", &["verify", &format!("{UNITS}/{unit}")]);
        let said = String::from_utf8_lossy(&verified.stderr).into_owned();
        assert!(verified.status.success() && !said.contains("stapes"), "{unit}: {said}");
    }
    state.launch("c1", &["-c", "snapshots.schedule=@hourly", "-c", "snapshots.pattern=auto%d"]).good().unwrap();
    // Made two hours ago, when maintenance was last done, so one has been missed.
    state.good(&["admin", "maintain"]);
    let then = jiff::Timestamp::now() - jiff::SignedDuration::from_hours(2);
    for (file, key) in [("projects/default/instances/c1/instance.toml", "created_at"), ("maintenance.toml", "last_run")]
    {
        let record = state.dir.join("state").join(file);
        let text = std::fs::read_to_string(&record).unwrap();
        let line = text.lines().find(|line| line.starts_with(key)).unwrap();
        std::fs::write(&record, text.replace(line, &format!("{key} = \"{then}\""))).unwrap();
    }
    systemctl(&["start", "stapes-maintain.timer"]);
    let names = || state.good(&["snapshot", "list", "c1", "-f", "csv", "-c", "n"]);
    until("the snapshot", || !names().is_empty());
    let runs = || {
        let journal = tool("journalctl", &["--no-pager", "-u", "stapes-maintain.service"]).stdout;
        String::from_utf8_lossy(&journal).matches("Finished").count()
    };
    let before = runs();
    until("two more runs", || runs() > before + 1);
    assert_eq!(names(), "auto0\n", "once");
    let journal = tool("journalctl", &["--no-pager", "-u", "stapes-maintain.service"]).stdout;
    assert!(String::from_utf8_lossy(&journal).contains("Snapshot \"c1/auto0\" taken"));
    systemctl(&["stop", "stapes-maintain.timer"]);
    until("the last run to end", || show("stapes-maintain.service", "ActiveState") == "inactive");
    assert_eq!(state.status("c1").as_deref(), Some("RUNNING"), "the end of the unit ended nothing");
    state.finish();
}

/// CVE-2024-3154 with systemd's own parser: a folder whose name has all that means something to it.
#[test]
fn cve_2024_3154_a_generated_unit_means_what_it_says() {
    let Some(state) = state("cve_2024_3154_a_generated_unit_means_what_it_says") else { return };
    let mark = state.path("injected");
    let odd =
        format!("o;d d%h%%\\x41\"'$HOME\nExecStartPost=touch {}\n\\", mark.display().to_string().replace('/', "_"));
    let odd: PathBuf = state.path(&odd);
    std::fs::create_dir(&odd).unwrap();
    state.good(&["image", "export", "test", "odd"]);
    let odd_state = State { dir: odd, bin: state.bin.clone() };
    let mut file = std::fs::read_dir(&state.dir).unwrap().flatten().map(|e| e.path());
    let archive = file.find(|p| p.to_string_lossy().contains("/odd") && p.is_file()).unwrap();
    odd_state.good(&["image", "import", &archive.to_string_lossy(), "--alias", "test"]);
    odd_state.good(&["create", "test", "c1"]);
    let text = odd_state.good(&["generate", "systemd", "c1"]);
    let unit = Unit::new("stapes-test-odd.service", &text);
    let verified = tool("systemd-analyze", &["verify", &format!("{UNITS}/{}", unit.0)]);
    assert!(verified.status.success(), "{text}{verified:?}");
    systemctl(&["start", &unit.0]);
    assert_eq!(show(&unit.0, "ActiveState"), "active", "{text}");
    assert_eq!(odd_state.status("c1").as_deref(), Some("RUNNING"));
    assert_eq!(show(&unit.0, "ExecStartPost"), "");
    systemctl(&["stop", &unit.0]);
    assert_eq!(odd_state.status("c1").as_deref(), Some("STOPPED"));
    odd_state.finish();
    state.finish();
}
