//! What comes along into an instance with a start, an exec or a run: descriptors, folders, terminals, capabilities, users.

use crate::common_root::{Out, PATIENCE, State, brief, run};
use crate::support::{Ask, Terminal};
use crate::tools::probed;
use std::process::Command;

/// The program with host folders open on 3 to 20, as a careless caller leaves them.
fn leaking(state: &State, dir: &str, args: &[&str]) -> Out {
    let opens: String = (3..=20).map(|n| format!("exec {n}<{dir}; ")).collect();
    let mut command = Command::new("bash");
    command.args(["-c", &format!("{opens} exec \"$@\""), "bash"]).arg(&state.bin).args(args);
    command.env("STAPES_DIR", &state.dir);
    run(command, None, PATIENCE)
}

/// Row CVE-2024-21626: descriptors that our caller left open reach nobody, and no folder behind one becomes the working
/// folder of a command.
#[test]
fn cve_2024_21626_leaked_descriptors() {
    let Some(state) = probed("cve_2024_21626_leaked_descriptors") else { return };
    let dir = state.path("host");
    std::fs::create_dir(&dir).unwrap();
    std::fs::write(dir.join("canary"), "of the host").unwrap();
    let host = dir.to_str().unwrap();
    leaking(&state, host, &["launch", "test", "c1"]).good().unwrap();
    let only_streams = |out: &str| {
        let numbers: Vec<&str> = out.lines().map(|l| l.split(' ').next().unwrap()).collect();
        assert_eq!(numbers, ["0", "1", "2"], "{out}");
        assert!(!out.contains("/host") && !out.contains("memfd"), "{out}");
    };
    only_streams(&leaking(&state, host, &["exec", "c1", "--", "probe", "fds"]).good().unwrap());
    only_streams(&leaking(&state, host, &["exec", "-t", "c1", "--", "probe", "fds"]).good().unwrap());
    only_streams(&leaking(&state, host, &["run", "test", "--", "probe", "fds"]).good().unwrap());
    let of_init: Vec<_> = std::fs::read_dir(format!("/proc/{}/fd", state.init("c1"))).unwrap().flatten().collect();
    for fd in of_init {
        let target = std::fs::read_link(fd.path()).unwrap_or_default();
        let number: i32 = fd.file_name().to_string_lossy().parse().unwrap();
        // The shell of our init script keeps the script open on 10.
        assert!(number <= 2 || number == 10, "{number} is {}", target.display());
        assert!(target.starts_with("/dev/pts") || target.ends_with("sbin/init"), "{number} is {}", target.display());
    }
    // What leaks has low numbers.
    for n in 3..=if brief() { 9 } else { 64 } {
        for place in
            [format!("/proc/self/fd/{n}"), format!("/proc/self/fd/{n}/../.."), format!("/proc/thread-self/fd/{n}/.")]
        {
            for verb in [&["exec", "c1", "--cwd", &place][..], &["run", "test", "--workdir", &place]] {
                if verb[0] == "run" && n > 8 {
                    continue;
                }
                let out =
                    leaking(&state, host, &[verb, &["--", "sh", "-c", "cat canary host/canary; echo ran"]].concat());
                assert!(!out.stdout.contains("of the host"), "{out}");
            }
        }
    }
    std::fs::remove_dir_all(dir).unwrap();
    state.finish();
}

/// Streams on host files, sockets and terminals are relayed: inside there are pipes, or a terminal of the instance's own.
#[test]
fn host_streams_stay_outside() {
    let Some(state) = probed("host_streams_stay_outside") else { return };
    for settings in [&[][..], &["-c", "security.privileged=true"]] {
        state.launch("c1", settings).good().unwrap();
        let before = rustix::fs::stat("/dev/null").unwrap();
        assert_eq!(before.st_uid, 0, "the host's /dev/null is not root's: something has given it away before");
        for args in [&["exec", "c1"][..], &["exec", "-T", "c1"], &["run", "test"]] {
            // On a terminal of the host.
            let mut plain = Terminal::spawn(&state, &[args, &["--", "probe", "fds"]].concat(), (80, 24));
            assert_eq!(plain.wait(), Some(0));
            let lines: Vec<&str> = plain.shown.lines().collect();
            assert_eq!(lines.len(), 3, "{lines:?}");
            let inside = |l: &&str| {
                l.contains("pipe:[") || l.ends_with(" tty") && l.contains(" /dev/pts/") || l.contains(" /dev/null")
            };
            assert!(lines.iter().all(inside), "{args:?}: {lines:?}");
            let terminals = lines.iter().filter(|l| l.ends_with("tty")).count();
            assert_eq!(terminals, if args == ["exec", "c1"] { 3 } else { 0 }, "{args:?}: {lines:?}");
            // On a file and a named pipe of the host's.
            let (file, fifo) = (state.path("out"), state.path("fifo"));
            rustix::fs::mkfifoat(rustix::fs::CWD, &fifo, rustix::fs::Mode::RUSR).unwrap();
            let both = std::fs::File::options().read(true).write(true).open(&fifo).unwrap();
            let mut command = state.command(&[args, &["--", "probe", "fds"]].concat());
            command.stdin(both).stdout(std::fs::File::create(&file).unwrap());
            assert!(command.status().unwrap().success());
            let seen = std::fs::read_to_string(&file).unwrap();
            assert!(!seen.contains("/out") && !seen.contains("/fifo"), "{seen}");
            assert_eq!(std::os::unix::fs::MetadataExt::uid(&std::fs::metadata(&fifo).unwrap()), 0, "it was given away");
            std::fs::remove_file(file).unwrap();
            std::fs::remove_file(fifo).unwrap();
        }
        // The host's null device keeps its owner and mode, also when it is our stream.
        let mut null =
            state.command(&["exec", "c1", "--", "sh", "-c", "chmod 667 /proc/self/fd/0; chown 1:1 /proc/self/fd/1"]);
        null.stdin(std::process::Stdio::null()).stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
        null.status().unwrap();
        let after = rustix::fs::stat("/dev/null").unwrap();
        assert_eq!((before.st_uid, before.st_gid, before.st_mode), (after.st_uid, after.st_gid, after.st_mode));
        state.good(&["delete", "-f", "c1"]);
    }
    state.finish();
}

/// A pipe of the caller's is not the command's: what is written into it from inside cannot reach the caller's other readers.
#[test]
fn a_callers_pipe_cannot_be_written_back() {
    let Some(state) = probed("a_callers_pipe_cannot_be_written_back") else { return };
    for settings in [&[][..], &["-c", "security.privileged=true"]] {
        state.launch("c1", settings).good().unwrap();
        let (read, write) = rustix::pipe::pipe().unwrap();
        rustix::io::write(&write, b"for the command\n").unwrap();
        let mut command =
            state.command(&["exec", "c1", "--", "sh", "-c", "read line; echo injected > /proc/self/fd/0"]);
        command.stdin(read.try_clone().unwrap()).stderr(std::process::Stdio::null());
        command.status().unwrap();
        drop((command, write));
        let mut left = String::new();
        std::io::Read::read_to_string(&mut std::fs::File::from(read), &mut left).unwrap();
        assert!(!left.contains("injected"), "{left:?}");
        state.good(&["delete", "-f", "c1"]);
    }
    state.finish();
}

/// TIOCSTI: what a command types into its terminal does not become the caller's input.
#[test]
fn tiocsti_reaches_no_host_terminal() {
    let Some(state) = probed("tiocsti_reaches_no_host_terminal") else { return };
    state.launch("c1", &[]).good().unwrap();
    for args in [&["exec", "c1"][..], &["exec", "-T", "c1"], &["run", "test"], &["run", "-t", "test"]] {
        let mut terminal = Terminal::spawn(&state, &[args, &["--", "probe", "push"]].concat(), (80, 24));
        assert_eq!(terminal.wait(), Some(0));
        assert!(terminal.is_cooked());
        rustix::fs::fcntl_setfl(&terminal.slave, rustix::fs::OFlags::RDWR | rustix::fs::OFlags::NONBLOCK).unwrap();
        let waiting = rustix::io::read(&terminal.slave, &mut [0u8; 64]);
        assert_eq!(waiting.err(), Some(rustix::io::Errno::AGAIN), "{args:?}: something was typed");
    }
    state.finish();
}

/// Rows CVE-2022-29162 and CVE-2025-27612: all five sets are as they should be, also when the caller's are odd.
#[test]
fn cve_2022_29162_capability_sets() {
    let Some(state) = probed("cve_2022_29162_capability_sets") else { return };
    let own = std::fs::read_to_string("/proc/self/status").unwrap();
    let all = own.lines().find_map(|l| l.strip_prefix("CapBnd:\t")).unwrap();
    let all = u64::from_str_radix(all, 16).unwrap();
    // With a policy of its own (AppArmor namespaces) root inside may change that.
    let policy: &[u32] = if stapes::host::lsm::apparmor::namespaces() { &[] } else { &[32, 33] };
    let dropped: u64 = [16, 17, 25].iter().chain(policy).map(|b| 1u64 << b).sum();
    let show = "grep -E '^(Cap|NoNewPrivs)' /proc/self/status | tr -d '\\n\\t'";
    for (settings, kept) in [
        (&[][..], u64::MAX),
        (&["-c", "security.nesting=true"], u64::MAX),
        (&["-c", "security.privileged=true"], !dropped),
    ] {
        state.launch("c1", settings).good().unwrap();
        let last = u64::from_str_radix(&state.sh("c1", "grep CapBnd /proc/1/status | cut -f2"), 16).unwrap();
        assert_eq!(last & kept, last);
        assert!(kept == u64::MAX || last == all & kept);
        let root =
            format!("CapInh:{0:016x}CapPrm:{1:016x}CapEff:{1:016x}CapBnd:{1:016x}CapAmb:{0:016x}NoNewPrivs:0", 0, last);
        let user =
            format!("CapInh:{0:016x}CapPrm:{0:016x}CapEff:{0:016x}CapBnd:{1:016x}CapAmb:{0:016x}NoNewPrivs:0", 0, last);
        assert_eq!(state.sh("c1", &show.replace("self", "1")), root, "{settings:?}");
        for caller in [
            &[][..],
            &["setpriv", "--inh-caps", "+chown,+sys_admin", "--ambient-caps", "+chown,+sys_admin"],
            &["setpriv", "--inh-caps", "+chown,+kill"],
        ] {
            let as_caller = |words: &[&str]| {
                let words = [caller, words].concat();
                let mut command = Command::new(words[0]);
                command.args(&words[1..]).env("STAPES_DIR", &state.dir);
                run(command, None, PATIENCE).good().unwrap()
            };
            // The caller's sets really are odd.
            let sets = as_caller(&["grep", "-E", "CapInh|CapAmb", "/proc/self/status"]);
            let (inheritable, ambient) =
                (!sets.contains("CapInh:\t0000000000000000"), !sets.contains("CapAmb:\t0000000000000000"));
            assert_eq!((inheritable, ambient), (!caller.is_empty(), caller.contains(&"--ambient-caps")), "{sets}");
            let exec = |options: &[&str]| {
                let bin = state.bin.to_str().unwrap();
                as_caller(&[&[bin, "exec", "c1"], options, &["--", "sh", "-c", show]].concat())
            };
            assert_eq!(exec(&[]), root, "{settings:?} {caller:?}");
            assert_eq!(exec(&["--user", "1000", "--cwd", "/"]), user, "{settings:?} {caller:?}");
            assert_eq!(exec(&["-t"]).trim(), root, "{settings:?} {caller:?}");
        }
        // `run` from an odd caller too, and `launch`, whose process 1 is a grandchild of the caller.
        let odd = ["--inh-caps", "+chown,+sys_admin", "--ambient-caps", "+chown,+sys_admin"];
        let odd_caller = |words: &[&str]| {
            let mut command = Command::new("setpriv");
            command.args(odd).arg(&state.bin).args(words).env("STAPES_DIR", &state.dir);
            run(command, None, PATIENCE).good().unwrap()
        };
        let words = [&["run", "test"], settings, &["--", "sh", "-c", show]].concat();
        assert_eq!(odd_caller(&words), root, "{settings:?}");
        odd_caller(&["restart", "-f", "c1"]);
        assert_eq!(state.sh("c1", &show.replace("self", "1")), root, "{settings:?}, started by an odd caller");
        state.good(&["delete", "-f", "c1"]);
    }
    state.finish();
}

/// Row CVE-2026-30892: a user or group that could be read in two ways runs nothing, least of all as root.
#[test]
fn cve_2026_30892_user_strings() {
    let Some(state) = probed("cve_2026_30892_user_strings") else { return };
    state.launch("c1", &[]).good().unwrap();
    let bad = [
        "",
        " 1",
        "1 ",
        "+1",
        "-1",
        "01",
        "0000",
        "0x1",
        "1:",
        ":1",
        "4294967295",
        "4294967296",
        "99999999999",
        "1e3",
        "\u{661}",
        "root\n",
    ];
    for value in bad {
        for (verb, option) in [("exec", "--user"), ("exec", "--group"), ("run", "--user")] {
            let target = if verb == "exec" { "c1" } else { "test" };
            let out = state.run(&[
                verb,
                &format!("{option}={value}"),
                target,
                "--",
                "sh",
                "-c",
                "echo ran as $(id -u):$(id -g)",
            ]);
            assert!(!out.ok() && !out.stdout.contains("ran as"), "{out}");
        }
    }
    let out = state.good(&[
        "exec",
        "--user",
        "1",
        "--group",
        "2",
        "--cwd",
        "/",
        "c1",
        "--",
        "sh",
        "-c",
        "id -u; id -g; grep Groups /proc/self/status",
    ]);
    assert_eq!(out.replace('\t', " ").trim(), "1\n2\nGroups:");
    let out = state.run(&["exec", "--user", "4294967294", "--cwd", "/", "c1", "--", "id", "-u"]);
    assert!(!out.ok(), "an unmapped id runs nothing: {out}");
    state.finish();
}
