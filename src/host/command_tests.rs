//! Tests of the command runner with tools every system has.

use super::*;
use crate::error::Kind;

const SH: Program = Program { name: "sh", package: "dash" };

fn sh(script: &str) -> Cmd {
    Cmd::new(SH).arg("-c").arg(script)
}

#[test]
fn environment_is_cleared_and_output_kept() {
    let mut host = Host::default();
    host.env.proxies.push(("http_proxy".into(), "http://p".into()));
    let out = host.run(sh("env | sort")).expect("ran");
    let text = String::from_utf8(out.stdout).expect("text");
    let names: Vec<&str> = text.lines().filter_map(|l| l.split('=').next()).collect();
    assert_eq!(names, ["LANG", "PATH", "PWD", "http_proxy"]);
}

#[test]
fn failure_quotes_the_end_of_stderr() {
    let e = Host::default().run(sh("echo one >&2; echo two >&2; exit 3")).expect_err("fails");
    assert_eq!(e.to_string(), "Failed running \"sh\": exit status 3: one; two");
}

#[test]
fn missing_program_names_the_package() {
    let e = Host::default().run(Cmd::new(Program { name: "no-such-tool", package: "tools" })).expect_err("missing");
    assert_eq!(e.kind(), Kind::Unsupported);
    assert_eq!(e.to_string(), "The program \"no-such-tool\" is missing");
    assert_eq!(e.hint_text(), Some("install the package \"tools\""));
}

#[test]
fn input_is_fed_and_may_be_ignored() {
    let big = vec![b'x'; 1 << 20];
    let out = Host::default().run(sh("wc -c").stdin(Stdin::Bytes(big.clone()))).expect("ran");
    assert_eq!(String::from_utf8_lossy(&out.stdout).trim(), "1048576");
    Host::default().run(sh("exit 0").stdin(Stdin::Bytes(big))).expect("ran");
}

#[test]
fn cve_2024_21626_no_descriptor_is_handed_down() {
    // One that is not close-on-exec, as a careless caller of ours would leave open.
    let leaked = rustix::io::dup(std::io::stdin()).expect("dup");
    assert!(!rustix::io::fcntl_getfd(&leaked).expect("flags").contains(rustix::io::FdFlags::CLOEXEC));
    let out = Host::default().run(sh("exec ls /proc/self/fd")).expect("ran");
    let text = String::from_utf8(out.stdout).expect("text");
    // 3 is the directory ls reads.
    assert_eq!(text.split_whitespace().collect::<Vec<_>>(), ["0", "1", "2", "3"]);
}

#[test]
fn deadline_kills_the_group() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let mut cmd = sh("sleep 300 & echo $! > pid; wait").timeout(Duration::from_millis(300));
    cmd.dir = dir.path().to_path_buf();
    let e = Host::default().run(cmd).expect_err("too slow");
    assert_eq!(e.to_string(), "Failed running \"sh\": It did not end in time");
    let pid = std::fs::read_to_string(dir.path().join("pid")).expect("pid");
    // Killed it is; how soon it is gone is up to the scheduler.
    let gone = match crate::sys::pidfd::open(pid.trim().parse().expect("number")) {
        Err(_) => true,
        Ok(fd) => {
            crate::sys::pidfd::wait_ended(std::os::fd::AsFd::as_fd(&fd), Some(Duration::from_secs(20))).expect("poll")
        }
    };
    assert!(gone, "process {pid} lives on");
}

#[test]
fn a_daemon_left_behind_is_not_waited_for() {
    let start = Instant::now();
    Host::default().run(sh("sleep 20 & echo done")).expect("ran");
    assert!(start.elapsed() < Duration::from_secs(10));
}

#[test]
fn lines_and_limits() {
    let mut seen = Vec::new();
    let mut on_line = |s: Stream, l: &str| {
        seen.push((s, l.to_string()));
        Ok(())
    };
    let out = Host::default().run_with(sh("printf 'a\\nb\\rc'; printf 'e\\n' >&2"), Some(&mut on_line)).expect("ran");
    assert!(out.stdout.is_empty());
    seen.sort_by_key(|(s, _)| *s as u8);
    let lines: Vec<&str> = seen.iter().map(|(_, l)| l.as_str()).collect();
    assert_eq!(lines, ["a", "b", "c", "e"]);

    let dir = tempfile::tempdir().expect("temporary directory");
    let mut cmd =
        sh("sleep 0.2; head -c 100000 /dev/zero > f").limits(Limits { file_size: Some(1000), ..Limits::default() });
    cmd.dir = dir.path().to_path_buf();
    assert!(Host::default().run(cmd).is_err());
    let mut noisy = sh("cat /dev/zero");
    noisy.max_output = 1 << 20;
    assert!(Host::default().run(noisy).expect_err("noisy").to_string().contains("more than"));
}

#[test]
fn fake_answers_and_remembers() {
    let fake = Fake::new(&["nft"], |call| Answer { code: i32::from(call.args.len() > 1), ..Answer::default() });
    const NFT: Program = Program { name: "nft", package: "nftables" };
    fake.run(Cmd::new(NFT).arg("-v")).expect("ran");
    assert!(fake.run(Cmd::new(NFT).args(["-f", "-"]).stdin(Stdin::Bytes(b"x".to_vec()))).is_err());
    assert!(fake.find(SH).is_err());
    assert_eq!(fake.calls()[1].stdin, b"x");
}

/// The test program runs itself: that one starts a tool and is killed.
#[test]
fn a_tool_ends_when_we_are_killed() {
    const ROLE: &str = "STAPES_TEST_RUNS_A_TOOL";
    const SLEEP: Program = Program { name: "sleep", package: "coreutils" };
    if std::env::var_os(ROLE).is_some() {
        let _ = Host::default().run(Cmd::new(SLEEP).arg("1000"));
        return;
    }
    let mut us = Command::new(std::env::current_exe().expect("path"))
        .args(["--exact", "host::command::tests::a_tool_ends_when_we_are_killed"])
        .env(ROLE, "1")
        .stdout(Stdio::null())
        .spawn()
        .expect("spawn");
    let tool = loop {
        let children = |pid: &str| {
            let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
            let lists = tasks.map(|t| std::fs::read_to_string(t.path().join("children")).unwrap_or_default());
            lists.collect::<String>().split_whitespace().next().map(str::to_string)
        };
        let named = |pid: &str| std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        match children(&us.id().to_string()) {
            Some(tool) if named(&tool).trim() == "sleep" => break tool,
            _ => std::thread::sleep(Duration::from_millis(5)),
        }
    };
    let tool = Pid::from_raw(tool.parse().expect("pid")).expect("pid");
    let tool = rustix::process::pidfd_open(tool, PidfdFlags::empty()).expect("pidfd");
    us.kill().expect("kill");
    us.wait().expect("wait");
    let mut fds = [PollFd::new(tool.as_fd(), PollFlags::POLLIN)];
    assert_eq!(nix::poll::poll(&mut fds, 10_000u16).expect("poll"), 1, "the tool goes on");
}

#[test]
fn a_contained_program_takes_all_it_started_and_mounted_along() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let dir = tempfile::tempdir().expect("temporary directory");
    // Nobody else sleeps as long.
    let [first, second] = [1, 2].map(|n| format!("{}.{n}", 1000 + std::process::id()));
    // A daemon that would outlive it, and a mount that would stay.
    let script = format!(
        "mkdir m && mount -t tmpfs none m && echo seen > m/file && cat m/file; (trap '' HUP TERM; exec sleep {first}) & exit 7"
    );
    let mut cmd = sh(&script).contained();
    cmd.dir = dir.path().to_path_buf();
    let out = Host::default().run_with(cmd, None).expect("ran");
    assert_eq!((out.status.code(), out.stdout.as_slice()), (Some(7), b"seen\n".as_slice()));
    assert!(!dir.path().join("m/file").exists(), "its mount is not ours");
    let mut slow = sh(&format!("sleep {second} & wait")).contained().timeout(Duration::from_millis(300));
    slow.dir = dir.path().to_path_buf();
    Host::default().run_with(slow, None).expect_err("too slow");
    let left = |seconds: &str| {
        let words = format!("sleep\0{seconds}\0");
        let all = std::fs::read_dir("/proc").expect("proc").flatten();
        all.filter(|p| std::fs::read(p.path().join("cmdline")).is_ok_and(|c| c == words.as_bytes())).count()
    };
    // What is killed from afar may take a moment to go.
    let end = std::time::Instant::now() + Duration::from_secs(10);
    while (left(&first), left(&second)) != (0, 0) && std::time::Instant::now() < end {
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!((left(&first), left(&second)), (0, 0));
    let missing = Host::default().run(Cmd::new(Program { name: "/etc/passwd", package: "x" }).contained());
    assert_eq!(missing.expect_err("no program").kind(), Kind::Unsupported);
}

/// A monitor blocks signals that it reads by descriptor; what it runs shall end on them all the same.
#[test]
fn a_program_takes_the_signals_that_we_block() {
    let blocked = || {
        let mut set = nix::sys::signal::SigSet::empty();
        set.add(nix::sys::signal::Signal::SIGTERM);
        set.thread_block().expect("block");
        Host::default().run(sh("grep SigBlk: /proc/self/status"))
    };
    let out = std::thread::spawn(blocked).join().expect("thread").expect("ran");
    assert_eq!(String::from_utf8_lossy(&out.stdout).trim(), "SigBlk:\t0000000000000000");
}
