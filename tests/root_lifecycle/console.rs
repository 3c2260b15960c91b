//! `console`: what the first process shows and is typed, the log of it.

use crate::support::{Ask, Terminal, Tree, state_with, until};

/// Shows what it is typed, on the console it was given.
const TALKER: &str = "#!/bin/sh
trap 'exit 0' PWR
echo booted on $(tty)
exec 9<>/dev/console
while :; do read -r line <&9 || sleep 0.1; echo \"said $line\"; [ \"$line\" = size ] && stty size; done
";

fn talker(tree: &Tree) {
    tree.file("sbin/init", TALKER, 0o755);
}

#[test]
fn console_talks_and_detaches() {
    let Some(state) = state_with("console_talks_and_detaches", talker) else { return };
    state.launch("c1", &[]).good().unwrap();
    let mut console = Terminal::spawn(&state, &["console", "c1"], (101, 33));
    console.expect("To detach from the console, press: <ctrl>+a q");
    until("raw mode", || !console.is_cooked());
    console.send("hello\n");
    console.expect("said hello");
    console.send("size\n");
    console.expect("33 101");
    console.resize(90, 20);
    console.send("size\n");
    console.expect("20 90");
    // ctrl-a twice is one; only ctrl-a q detaches.
    console.send("x\u{1}\u{1}y\n");
    console.expect("said x\u{1}y");
    // A second one is refused, and takes over with --force.
    let mut second = Terminal::spawn(&state, &["console", "c1"], (80, 24));
    second.expect("already connected");
    assert_eq!(second.wait(), Some(1));
    let mut third = Terminal::spawn(&state, &["console", "--force", "c1"], (80, 24));
    third.send("mine\n");
    third.expect("said mine");
    assert_eq!(console.wait(), Some(0));
    assert!(console.is_cooked());
    third.send("\u{1}q");
    assert_eq!(third.wait(), Some(0));
    assert!(third.is_cooked(), "the terminal is as it was");
    // It goes on running, and the log has it all.
    assert_eq!(state.status("c1").as_deref(), Some("RUNNING"));
    let log = state.good(&["console", "c1", "--show-log"]);
    for words in ["Console log:", "booted on /dev/", "said hello", "said mine"] {
        assert!(log.contains(words), "{words} in {log:?}");
    }
    // A stop ends an attached console.
    let mut last = Terminal::spawn(&state, &["console", "c1"], (80, 24));
    last.send("again\n");
    last.expect("said again");
    state.good(&["stop", "-f", "c1"]);
    assert_eq!(last.wait(), Some(0));
    assert!(state.good(&["console", "c1", "--show-log"]).contains("said again"), "of a stopped one too");
    state.run(&["console", "c1"]).clean_failure().unwrap();
    state.finish();
}

#[test]
fn console_log_is_bounded() {
    let Some(state) = state_with("console_log_is_bounded", |_| {}) else { return };
    state.launch("c1", &[]).good().unwrap();
    state.sh("c1", "i=0; while [ $i -lt 40 ]; do head -c 100000 /dev/zero | tr '\\0' x; echo; i=$((i+1)); done > /dev/console; echo the end > /dev/console");
    let dir =
        state.layout().instance_log_dir(&Default::default(), &stapes::base::names::InstanceName::parse("c1").unwrap());
    until("the log", || state.good(&["console", "c1", "--show-log"]).contains("the end"));
    let size: u64 = std::fs::read_dir(&dir).unwrap().map(|e| e.unwrap().metadata().unwrap().len()).sum();
    assert!((400_000..1_200_000).contains(&size), "{size} bytes");
    let mode =
        std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(dir.join("console.log")).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    state.finish();
}
