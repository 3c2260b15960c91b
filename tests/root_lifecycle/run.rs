//! `run`: a throwaway container around one command.

use crate::common_root::{State, leftovers};
use crate::support::{Ask, Terminal, kill, state, until};
use std::io::Read;
use std::process::Stdio;

/// Nothing but the image is left, after one more command that changes something.
fn gone(state: &State) {
    state.good(&["run", "test", "--", "true"]);
    assert_eq!(state.instances().unwrap(), []);
    let left: Vec<String> = leftovers::find(state).into_iter().filter(|l| !l.contains("image")).collect();
    assert!(left.is_empty(), "{left:#?}");
    state.doctor().unwrap();
}

#[test]
fn run_passes_the_status_on() {
    let Some(state) = state("run_passes_the_status_on") else { return };
    let run = |args: &[&str]| state.run(&[&["run", "test"], args].concat());
    for (script, code) in [("exit 0", 0), ("exit 7", 7), ("kill -9 $$", 137), ("kill -15 $$", 143)] {
        assert_eq!(run(&["--", "sh", "-c", script]).code(), Some(code), "{script}");
    }
    assert_eq!(run(&["--", "/no/such"]).code(), Some(127));
    assert_eq!(run(&["--", "/etc/passwd"]).code(), Some(126));
    let out = run(&["--", "sh", "-c", "echo out; echo err >&2; cat"]);
    assert_eq!((out.stdout.as_str(), out.stderr.as_str()), ("out\n", "err\n"));
    // Our init reaps, and is the parent of orphans: at last there are it and the shell.
    let script = "(sleep 0.1 & true); until set -- /proc/[0-9]*; [ $# = 2 ]; do sleep 0.1; done; echo $*";
    assert_eq!(run(&["--", "sh", "-c", script]).stdout.trim(), "/proc/1 /proc/2");
    // No command: the image's shell, here on no terminal.
    let mut shell = state.command(&["run", "-i", "test"]);
    let mut child = shell.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), b"echo $((40+2)); exit 3\n").unwrap();
    let out = child.wait_with_output().unwrap();
    assert_eq!((out.status.code(), String::from_utf8_lossy(&out.stdout).trim()), (Some(3), "42"));
    gone(&state);
    state.finish();
}

#[test]
fn run_options() {
    let Some(state) = state("run_options") else { return };
    let dir = state.path("work");
    std::fs::create_dir(&dir).unwrap();
    std::fs::write(dir.join("file"), "x").unwrap();
    let mount = |target: &str| format!("{}:{target}", dir.display());
    let run = |args: &[&str]| state.run(&[&["run", "test"], args].concat());
    let script = "pwd; id -u; id -g; echo $A; ls /src /ro; touch /src/new && touch /ro/new || echo refused";
    let out = run(&[
        "--mount",
        &mount("/src"),
        "--mount",
        &mount("/ro:ro"),
        "--workdir",
        "/src",
        "--env",
        "A=b",
        "--",
        "sh",
        "-c",
        script,
    ]);
    assert_eq!(out.stdout, "/src\n0\n0\nb\n/ro:\nfile\n\n/src:\nfile\nrefused\n", "{out}");
    assert!(dir.join("new").exists());
    assert_eq!(run(&["--user", "1000", "--", "sh", "-c", "id -u; id -g"]).stdout, "1000\n1000\n");
    assert_eq!(run(&["--user", "user:tty", "--", "sh", "-c", "id -u; id -g"]).stdout, "1000\n5\n");
    let begin = std::time::Instant::now();
    let late = run(&["--timeout", "1", "--", "sleep", "100"]);
    assert!(late.code() == Some(124) && begin.elapsed().as_secs() < 20, "{late}");
    run(&["--workdir", "/no/such", "--", "true"]).clean_failure().unwrap();
    run(&["--mount", "/no/such:/x", "--", "true"]).clean_failure().unwrap();
    for bad in ["nosuch", "root:nosuch", "+1", "01", "4294967295", "-1", " 1", "1:", "1:2:3"] {
        run(&["--user", bad, "--", "true"]).clean_failure().unwrap();
    }
    // Kept ones are there, stopped, with what was written.
    let kept = run(&["--keep", "--name", "kept", "--", "sh", "-c", "echo x > /root/file; exit 4"]);
    assert_eq!(kept.code(), Some(4), "{kept}");
    assert_eq!(state.status("kept").as_deref(), Some("STOPPED"));
    state.good(&["start", "kept"]);
    assert_eq!(state.sh("kept", "cat /root/file"), "x");
    state.good(&["delete", "-f", "kept"]);
    std::fs::remove_dir_all(dir).unwrap();
    gone(&state);
    state.finish();
}

#[test]
fn run_on_a_terminal() {
    let Some(state) = state("run_on_a_terminal") else { return };
    let mut shell = Terminal::spawn(&state, &["run", "-t", "test", "--", "sh"], (93, 29));
    shell.expect("# ");
    shell.send("stty size; echo $TERM; sleep 1000\n");
    shell.expect("29 93");
    std::thread::sleep(std::time::Duration::from_millis(300));
    shell.send("\u{3}");
    shell.expect("# ");
    shell.send("exit 6\n");
    assert_eq!(shell.wait(), Some(6));
    assert!(shell.is_cooked());
    // Without a terminal inside, ctrl-c on ours ends the command.
    let mut plain =
        Terminal::spawn(&state, &["run", "test", "--", "sh", "-c", "echo ready; exec sleep 1000"], (80, 24));
    plain.expect("ready");
    plain.send("\u{3}");
    assert_eq!(plain.wait(), Some(130));
    gone(&state);
    state.finish();
}

#[test]
fn run_that_is_killed_leaves_nothing() {
    let Some(state) = state("run_that_is_killed_leaves_nothing") else { return };
    for (signal, code) in [("TERM", Some(143)), ("INT", Some(130)), ("HUP", Some(129)), ("KILL", None)] {
        let mut command = state.command(&["run", "test", "--", "sh", "-c", "sleep 1002 & echo ready; exec sleep 1001"]);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        child.stdout.as_mut().unwrap().read_exact(&mut [0u8; 6]).unwrap();
        kill(child.id() as i32, signal);
        assert_eq!(child.wait().unwrap().code(), code, "{signal}");
        // Whatever the next command is.
        assert_eq!(state.good(&["list", "-f", "csv", "-c", "n"]), "", "{signal}");
        gone(&state);
    }
    // In the middle of its making, too.
    for wait in [1, 3, 6, 10, 15, 20, 30, 50] {
        let mut command = state.command(&["run", "test", "--", "sleep", "1003"]);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
        std::thread::sleep(std::time::Duration::from_millis(wait));
        child.kill().unwrap();
        child.wait().unwrap();
        gone(&state);
    }
    until("no sleeper", || {
        !std::process::Command::new("pgrep").args(["-x", "-f", "sleep 100[123]"]).status().is_ok_and(|s| s.success())
    });
    state.finish();
}
