//! `exec`: statuses, streams, users, terminals, signals.

use crate::support::{Ask, Terminal, kill, lives, state, until};
use std::io::{Read, Write};
use std::process::Stdio;

#[test]
fn exec_statuses() {
    let Some(state) = state("exec_statuses") else { return };
    state.launch("c1", &[]).good().unwrap();
    let code = |script: &str| state.try_sh("c1", script).code().unwrap();
    assert_eq!(code("exit 0"), 0);
    assert_eq!(code("exit 7"), 7);
    assert_eq!(code("exit 255"), 255);
    assert_eq!(code("kill -9 $$"), 137);
    assert_eq!(code("kill -15 $$"), 143);
    assert_eq!(code("kill -11 $$"), 139);
    let missing = state.run(&["exec", "c1", "--", "nothing-like-it"]);
    assert_eq!((missing.code(), missing.stderr.as_str()), (Some(127), "Error: Command not found\n"));
    assert_eq!(state.run(&["exec", "c1", "--", "/no/such"]).code(), Some(127));
    let refused = state.run(&["exec", "c1", "--", "/etc/passwd"]);
    assert_eq!((refused.code(), refused.stderr.as_str()), (Some(126), "Error: Command not executable\n"));
    assert_eq!(state.run(&["exec", "c1", "--", "/etc"]).code(), Some(126));
    // As many words as the kernel takes (xargs gives some 20,000).
    let many: Vec<String> = (0..50_000).map(|n| n.to_string()).collect();
    let mut words = vec!["exec", "c1", "--", "sh", "-c", "echo $#", "sh"];
    words.extend(many.iter().map(String::as_str));
    assert_eq!(state.good(&words), "50000\n");
    // Arguments and variables need be no text.
    use std::os::unix::ffi::OsStrExt;
    let word = std::ffi::OsStr::from_bytes(b"V=\xff\xfe");
    let mut echo = state.command(&["exec", "c1", "--env"]);
    let out = echo.arg(word).args(["--", "sh", "-c", "printf %s%s \"$1\" \"$V\"", "sh"]).arg(word).output().unwrap();
    assert_eq!(out.stdout, b"V=\xff\xfe\xff\xfe", "{out:?}");
    state.run(&["exec", "nobody", "--", "true"]).clean_failure().unwrap();
    state.run(&["exec", "c1", "--cwd", "/no/such", "--", "true"]).clean_failure().unwrap();
    state.good(&["stop", "-f", "c1"]);
    let stopped = state.run(&["exec", "c1", "--", "true"]);
    stopped.clean_failure().unwrap();
    assert!(stopped.stderr.contains("Instance is not running"), "{stopped}");
    state.finish();
}

#[test]
fn exec_streams_are_byte_exact() {
    let Some(state) = state("exec_streams_are_byte_exact") else { return };
    state.launch("c1", &[]).good().unwrap();
    // Ten million bytes that are no text and no multiple of a buffer.
    let data: Vec<u8> = (0..10_000_019u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let (given, got) = (state.path("given"), state.path("got"));
    std::fs::write(&given, &data).unwrap();

    // Files on both ends.
    let mut cat = state.command(&["exec", "c1", "--", "cat"]);
    cat.stdin(std::fs::File::open(&given).unwrap()).stdout(std::fs::File::create(&got).unwrap());
    assert!(cat.status().unwrap().success());
    assert!(std::fs::read(&got).unwrap() == data, "files");

    // Pipes on both ends.
    let mut cat = state.command(&["exec", "c1", "--", "cat"]);
    let mut child = cat.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    let mut back = Vec::new();
    std::thread::scope(|scope| {
        scope.spawn(|| input.write_all(&data).map(|()| drop(input)).unwrap());
        child.stdout.take().unwrap().read_to_end(&mut back).unwrap();
    });
    assert!(child.wait().unwrap().success());
    assert!(back == data, "pipes: {} bytes", back.len());

    // Through a terminal-less socket.
    let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    let mut cat = state.command(&["exec", "c1", "--", "head", "-c", "1000000", "/dev/zero"]);
    let mut child = cat.stdin(Stdio::null()).stdout(std::os::fd::OwnedFd::from(theirs)).spawn().unwrap();
    // The command's copy of our end goes with the builder.
    drop(cat);
    let mut back = Vec::new();
    (&ours).read_to_end(&mut back).unwrap();
    assert!(child.wait().unwrap().success() && back.len() == 1_000_000 && back.iter().all(|b| *b == 0));

    // Output and errors apart; no input.
    let out = state.try_sh("c1", "echo out; echo err >&2; cat");
    assert_eq!((out.stdout.as_str(), out.stderr.as_str()), ("out\n", "err\n"));
    let mut quiet = state.command(&["exec", "-n", "c1", "--", "wc", "-c"]);
    let out = quiet.stdin(std::fs::File::open(&given).unwrap()).output().unwrap();
    assert_eq!(out.stdout, b"0\n");
    // A reader that goes away ends the writer.
    let mut yes = state.command(&["exec", "c1", "--", "yes"]);
    let mut child = yes.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    drop(child.stdout.take());
    until("yes to end", || child.try_wait().unwrap().is_some());
    // What runs on in the background does not keep the command line.
    assert_eq!(state.sh("c1", "sleep 1000 & echo $!").parse::<i32>().map(|_| ()), Ok(()));
    // The command's own standard files can be reopened.
    assert_eq!(state.sh("c1", "echo out > /dev/stdout; echo in | cat /dev/stdin"), "out\nin");
    for path in [given, got] {
        std::fs::remove_file(path).unwrap();
    }
    state.finish();
}

#[test]
fn exec_environment_and_user() {
    let Some(state) = state("exec_environment_and_user") else { return };
    state.launch("c1", &["-c", "environment.FOO=bar", "-c", "environment.BAZ=from config"]).good().unwrap();
    assert_eq!(
        state.sh("c1", "echo \"$FOO|$BAZ|$HOME|$USER|$LANG|$PWD|$SECRET\""),
        "bar|from config|/root|root|C.UTF-8|/root|"
    );
    let mut given =
        state.command(&["exec", "c1", "--env", "BAZ=mine", "--", "sh", "-c", "echo $BAZ $SECRET $STAPES_DIR"]);
    let out = given.env("SECRET", "host").stdin(Stdio::null()).output().unwrap();
    assert_eq!(String::from_utf8(out.stdout).unwrap(), "mine\n");
    let id =
        |args: &[&str]| state.good(&[&["exec", "c1"], args, &["--", "sh", "-c", "id -u; id -g; id -G; pwd"]].concat());
    assert_eq!(id(&[]), "0\n0\n0\n/root\n");
    assert_eq!(id(&["--user", "1000", "--group", "1000", "--cwd", "/tmp"]), "1000\n1000\n1000\n/tmp\n");
    assert_eq!(id(&["--user", "1000", "--cwd", "/"]), "1000\n0\n0\n/\n");
    // Where commands are depends on what is there.
    let path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    assert_eq!(state.sh("c1", "echo $PATH"), path);
    assert_eq!(state.sh("c1", "mkdir /snap; echo $PATH"), path);
    assert_eq!(state.sh("c1", "rmdir /snap; ln -s etc /snap; echo $PATH"), format!("{path}:/snap/bin"));
    // Its own group, session, mask, no signal ignored.
    assert_eq!(state.sh("c1", "umask; grep SigIgn /proc/self/status | cut -f2"), "0022\n0000000000000000");
    assert_eq!(state.sh("c1", "cat /proc/sys/kernel/hostname; hostname"), "c1\nc1");
    state.finish();
}

#[test]
fn exec_on_a_terminal() {
    let Some(state) = state("exec_on_a_terminal") else { return };
    state.launch("c1", &[]).good().unwrap();
    let mut shell = Terminal::spawn(&state, &["exec", "c1", "--", "sh"], (97, 31));
    shell.expect("# ");
    assert!(!shell.is_cooked(), "raw while it runs");
    shell.send("stty size; tty; echo TERM=$TERM\n");
    let shown = shell.expect("TERM=xterm");
    assert!(shown.contains("31 97") && shown.contains("/dev/pts/"), "{shown}");
    shell.resize(120, 40);
    shell.send("sleep 0.3; stty size\n");
    shell.expect("40 120");
    // ctrl-c goes to the command on the terminal, not to the command line.
    shell.send("sleep 1000; echo after $?\n");
    std::thread::sleep(std::time::Duration::from_millis(300));
    shell.send("\u{3}");
    shell.expect("# ");
    shell.send("echo st$((1+1))ill\n");
    shell.expect("st2ill");
    shell.send("exit 5\n");
    assert_eq!(shell.wait(), Some(5));
    assert!(shell.is_cooked(), "the terminal is as it was");
    // Without a command it is a login.
    let mut login = Terminal::spawn(&state, &["exec", "c1"], (80, 24));
    login.expect("# ");
    login.send("echo $0; exit 3\n");
    login.expect("-sh");
    assert_eq!(login.wait(), Some(3));
    // No terminal when asked for none; one when asked for one.
    let mut plain = Terminal::spawn(&state, &["exec", "-T", "c1", "--", "tty"], (80, 24));
    plain.expect("not a tty");
    assert_eq!(plain.wait(), Some(1));
    let forced = state.run(&["exec", "-t", "c1", "--", "tty"]);
    assert!(forced.stdout.starts_with("/dev/pts/"), "{forced}");
    // A user's own terminal can be written by it.
    let own = state.run(&["exec", "-t", "--user", "1000", "--cwd", "/", "c1", "--", "sh", "-c", "echo mine > $(tty)"]);
    assert!(own.ok() && own.stdout.contains("mine"), "{own}");
    state.finish();
}

#[test]
fn exec_passes_signals_on() {
    let Some(state) = state("exec_passes_signals_on") else { return };
    state.launch("c1", &[]).good().unwrap();
    for (signal, code) in [("TERM", 15), ("INT", 2), ("HUP", 1), ("USR1", 10), ("QUIT", 3)] {
        let script = format!("trap 'exit 4{code}' {signal}; echo ready; while :; do sleep 0.05; done");
        let mut command = state.command(&["exec", "c1", "--", "sh", "-c", &script]);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let mut ready = [0u8; 6];
        child.stdout.as_mut().unwrap().read_exact(&mut ready).unwrap();
        kill(child.id() as i32, signal);
        let wanted = format!("4{code}").parse::<i32>().unwrap() & 0xff;
        assert_eq!(child.wait().unwrap().code(), Some(wanted), "{signal}");
    }
    // Untrapped: the status tells the signal.
    let mut command = state.command(&["exec", "c1", "--", "sh", "-c", "echo ready; exec sleep 1000"]);
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdout.as_mut().unwrap().read_exact(&mut [0u8; 6]).unwrap();
    kill(child.id() as i32, "TERM");
    assert_eq!(child.wait().unwrap().code(), Some(143));
    // A command line that is killed takes its command along.
    let mut command = state.command(&["exec", "c1", "--", "sh", "-c", "echo $$; exec sleep 1001"]);
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
    let mut pid = [0u8; 64];
    let n = child.stdout.as_mut().unwrap().read(&mut pid).unwrap();
    let pid = String::from_utf8_lossy(&pid[..n]).trim().to_string();
    assert_eq!(state.try_sh("c1", &format!("kill -0 {pid}")).code(), Some(0));
    child.kill().unwrap();
    child.wait().unwrap();
    until("the command to end", || state.try_sh("c1", &format!("kill -0 {pid}")).code() == Some(1));
    assert!(lives(state.init("c1")));
    state.finish();
}
