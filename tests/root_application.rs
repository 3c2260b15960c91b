//! Application (OCI) containers as their users meet them: what the image says is run, with its keys, user, folder, mounts, stop
//! signal and an address of its own.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test: its files are no records")]

mod common_root;
mod image_common;

use common_root::{PATIENCE, State, binary, have};
use image_common::Ar;
use std::time::{Duration, Instant};

/// Says who it is, serves until it is told to quit.
const APP: &str = "#!/bin/sh
echo \"I am $(id -u):$(id -g) of $(id -G) in $(pwd) with A=$A, HOME=$HOME, given $*\"
echo again > /dev/stdout
grep -E ' /(run|cache) ' /proc/mounts
trap 'echo quitting; exit 3' QUIT
while :; do sleep 1 & wait; done
";

/// `config.json` with more in its process and beside it.
fn config(process: &str, beside: &str) -> String {
    format!("{{\"ociVersion\": \"1.0.0\", \"process\": {{{process}}}{beside}}}")
}

const PROCESS: &str = r#""user": {"uid": 101, "gid": 102, "additionalGids": [7]}, "args": ["app", "x y", "z"],
    "env": ["PATH=/bin", "A=b c"], "cwd": "/srv""#;
const BESIDE: &str = r#", "mounts": [{"destination": "/cache", "type": "tmpfs", "options": ["size=1m", "mode=1777"]},
    {"destination": "/proc", "type": "proc"}],
    "annotations": {"org.opencontainers.image.stopSignal": "SIGQUIT"}"#;

/// A state with the image `app`, in a network of its own.
fn state(test: &str, config: &str) -> Option<State> {
    if !common_root::can_run(test) {
        return None;
    }
    if !have("busybox") {
        common_root::skip(test, "no busybox (apt-get install busybox-static)");
        return None;
    }
    common_root::leave_the_network();
    let state = State::new(&binary());
    let mut image = Ar::default()
        .file("metadata.yaml", b"architecture: x86_64\ncreation_date: 1700000000\nproperties: {os: test, type: oci}\n")
        .file("config.json", config.as_bytes());
    for dir in ["", "/bin", "/sbin", "/etc", "/run", "/dev", "/proc", "/sys", "/srv", "/tmp"] {
        image = image.dir(&format!("rootfs{dir}"), 0o755);
    }
    image = image.mode(0o755).file("rootfs/bin/busybox", &std::fs::read("/bin/busybox").unwrap());
    for name in ["sh", "id", "grep", "sleep", "cat", "env", "nc", "ip", "true", "ping"] {
        image = image.symlink(&format!("rootfs/bin/{name}"), "busybox");
    }
    for name in ["rootfs/bin/app", "rootfs/sbin/init"] {
        image = image.mode(0o755).file(name, APP.as_bytes());
    }
    std::fs::write(state.path("app.tar"), image.finish()).unwrap();
    state.good(&["image", "import", "app.tar", "--alias", "app"]);
    Some(state)
}

fn get(state: &State, key: &str) -> String {
    state.good(&["config", "get", "a1", key]).trim().to_string()
}

/// What the application has said, once it has said `word`.
fn said(state: &State, word: &str) -> String {
    let end = Instant::now() + PATIENCE;
    loop {
        let log = state.run(&["console", "a1", "--show-log"]).stdout.replace('\r', "");
        if log.contains(word) {
            return log;
        }
        assert!(Instant::now() < end, "never {word:?}: {log}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn finish(state: &State) {
    state.delete_all().unwrap();
    state.doctor().unwrap();
    assert_eq!(common_root::leftovers::find(state), Vec::<String>::new());
}

#[test]
fn what_the_image_says_is_run() {
    let Some(state) = state("what_the_image_says_is_run", &config(PROCESS, BESIDE)) else { return };
    state.good(&["launch", "app", "a1", "-c", "environment.A=mine"]);
    let log = said(&state, "/run");
    assert!(log.contains("I am 101:102 of 102 7 in /srv with A=mine, HOME=/, given x y z\nagain\n"), "{log}");
    assert!(log.lines().any(|l| l.contains(" /cache tmpfs ") && l.contains("size=1024k")), "{log}");
    let keys = ["oci.entrypoint", "oci.cwd", "oci.uid", "oci.gid", "environment.PATH", "volatile.container.oci"];
    assert_eq!(keys.map(|key| get(&state, key)), ["app 'x y' z", "/srv", "101", "102", "/bin", "true"]);
    assert_eq!(state.good(&["list", "-f", "csv", "-c", "nt"]), "a1,CONTAINER (APP)\n");
    // Ours is the first process; what is left alone inside is reaped.
    let zombies = "(sleep 0.2 &) ; sleep 0.5; grep -s State: /proc/[0-9]*/status";
    assert!(!state.good(&["exec", "a1", "--", "sh", "-c", zombies]).contains("Z (zombie)"));
    // With the image's own signal, and started again with other words.
    state.good(&["stop", "a1"]);
    assert!(said(&state, "quitting").ends_with("quitting\n"));
    state.good(&["config", "set", "a1", "oci.entrypoint=app 'it is' \"new\"", "oci.uid=0", "oci.cwd=/tmp"]);
    state.good(&["start", "a1"]);
    said(&state, "I am 0:102 of 102 7 in /tmp with A=mine, HOME=/root, given it is new");
    state.good(&["restart", "a1"]);
    state.good(&["stop", "a1", "--timeout", "20"]);
    finish(&state);
}

#[test]
fn an_end_is_an_end_and_autorestart_is_not() {
    let ends = r#""args": ["sh", "-c", "echo at work; sleep 0.3; exit $CODE"], "env": ["CODE=0"]"#;
    let Some(state) = state("an_end_is_an_end_and_autorestart_is_not", &config(ends, "")) else { return };
    state.good(&["launch", "app", "a1"]);
    state.good(&["wait", "a1", "status=stopped", "--timeout", "60"]);
    state.good(&["config", "set", "a1", "environment.CODE=7", "boot.autorestart=true"]);
    state.good(&["start", "a1"]);
    let end = Instant::now() + PATIENCE;
    while state.run(&["console", "a1", "--show-log"]).stdout.matches("at work").count() < 3 {
        assert!(Instant::now() < end, "it does not come back");
        std::thread::sleep(Duration::from_millis(50));
    }
    state.good(&["delete", "-f", "a1"]);
    // Gone with its end, as a throwaway.
    state.good(&["launch", "app", "a1", "-e"]);
    let end = Instant::now() + PATIENCE;
    while !state.instances().unwrap().is_empty() {
        assert!(Instant::now() < end, "it is still there");
        std::thread::sleep(Duration::from_millis(50));
    }
    finish(&state);
}

#[test]
fn an_init_system_is_process_one() {
    let init = PROCESS.replace("[\"app\"", "[\"/sbin/init\"");
    let Some(state) = state("an_init_system_is_process_one", &config(&init, BESIDE)) else { return };
    state.good(&["launch", "app", "a1"]);
    said(&state, "I am 101:102 of 102 7 in /srv");
    let first = state.good(&["exec", "a1", "--", "cat", "/proc/1/cmdline"]);
    assert!(first.contains("/sbin/init"), "{first}");
    state.good(&["delete", "-f", "a1"]);
    finish(&state);
}

#[test]
fn run_takes_the_application_unless_told_otherwise() {
    let once = PROCESS.replace("[\"app\", \"x y\", \"z\"]", "[\"sh\", \"-c\", \"id -u; exit 5\"]");
    let Some(state) = state("run_takes_the_application_unless_told_otherwise", &config(&once, BESIDE)) else { return };
    let out = state.run(&["run", "app"]);
    assert_eq!((out.code(), out.stdout.as_str()), (Some(5), "101\n"), "{out}");
    assert_eq!(state.good(&["run", "app", "--", "sh", "-c", "id -u; id -G; pwd; echo $A"]), "101\n102 7\n/srv\nb c\n");
    let other = ["run", "app", "--user", "5", "--workdir", "/tmp", "--", "sh", "-c", "id -u; id -G; pwd"];
    assert_eq!(state.good(&other), "5\n5\n/tmp\n");
    finish(&state);
}

#[test]
fn addresses_and_names_come_from_outside() {
    const NAME: &str = "addresses_and_names_come_from_outside";
    let Some(state) = state(NAME, &config(PROCESS, BESIDE)) else { return };
    if !have("dnsmasq") || !have("nft") {
        return common_root::skip(NAME, "no dnsmasq or nft (apt-get install dnsmasq-base nftables)");
    }
    state.good(&["network", "create", "appbr0", "ipv4.address=10.76.0.1/24", "ipv6.address=fd42:76::1/64"]);
    let show = |words: &[&str]| {
        state.good(&[&["launch", "app", "a1", "-n", "appbr0"], words].concat());
        let text = "ip -4 -o addr show eth0; ip route; cat /etc/resolv.conf /etc/hosts /etc/hostname; ping -c 1 -W 9 10.76.0.1";
        let text = state.good(&["exec", "a1", "--", "sh", "-c", text]);
        state.good(&["delete", "-f", "a1"]);
        text
    };
    let given = show(&[]);
    for word in
        ["inet 10.76.0.", "/24 ", "default via 10.76.0.1", "nameserver 10.76.0.1\n", "\ta1.incus a1\n", "\na1\n"]
    {
        assert!(given.contains(word), "{word}: {given}");
    }
    let fixed = show(&["-d", "eth0,ipv4.address=10.76.0.9/16", "-d", "eth0,ipv4.gateway=none"]);
    assert!(fixed.contains("inet 10.76.0.9/16 ") && !fixed.contains("default"), "{fixed}");
    let dns = ["-c", "oci.dns.nameservers=192.0.2.1", "-c", "oci.dns.search=a.example,b.example"];
    let named = show(&dns);
    assert!(named.contains("search a.example b.example\nnameserver 192.0.2.1\n"), "{named}");
    state.good(&["network", "delete", "appbr0"]);
    finish(&state);
}

#[test]
fn what_an_image_must_not_say() {
    const NAME: &str = "what_an_image_must_not_say";
    let long = format!("\"args\": [\"{}\"]", "x".repeat(2 << 20));
    let bad = [
        ("\"args\": []", "", "no entry point"),
        ("\"args\": [\"sh\"], \"cwd\": \"/../..\"", "", "working folder"),
        ("\"args\": [\"sh\"], \"env\": [\"A=b\\nc\"]", "", "Environment variables cannot contain line breaks"),
        (long.as_str(), "", "config.json"),
        ("\"args\": [\"sh\"]", ", \"mounts\": [{\"type\": \"tmpfs\", \"destination\": \"/a/../../etc\"}]", "mount"),
        ("\"args\": [\"sh\"]", ", \"annotations\": {\"org.opencontainers.image.stopSignal\": \"X\"}", "stop signal"),
    ];
    for (process, beside, word) in bad {
        let Some(state) = state_or_refused(NAME, &config(process, beside), word) else { return };
        let Some(state) = state else { continue };
        let out = state.run(&["launch", "app", "a1"]);
        out.clean_failure().unwrap();
        assert!(out.stderr.contains(word), "{word}: {out}");
        finish(&state);
    }
    // A system container is none, whatever its keys are.
    let Some(state) = state(NAME, &config(PROCESS, BESIDE)) else { return };
    state.good(&["create", "plain", "--empty", "-c", "oci.uid=5"]);
    let out = state.run(&["start", "plain"]);
    out.clean_failure().unwrap();
    assert!(out.stderr.contains("\"oci.uid\" is for application (OCI) containers only"), "{out}");
    finish(&state);
}

/// The state with the image; `Some(None)` if the import refuses it, as it may what is too large.
fn state_or_refused(test: &str, config: &str, word: &str) -> Option<Option<State>> {
    if config.len() < 1 << 20 {
        return state(test, config).map(Some);
    }
    let state = state(test, &self::config(PROCESS, ""))?;
    let image = Ar::default()
        .file("metadata.yaml", b"architecture: x86_64\ncreation_date: 1700000000\nproperties: {type: oci}\n")
        .file("config.json", config.as_bytes())
        .dir("rootfs", 0o755);
    std::fs::write(state.path("large.tar"), image.finish()).unwrap();
    let out = state.run(&["image", "import", "large.tar"]);
    if out.ok() {
        let fingerprint = out.stdout.split_whitespace().last().unwrap_or_default().to_string();
        let out = state.run(&["launch", &fingerprint, "a1"]);
        out.clean_failure().unwrap();
        assert!(out.stderr.contains(word), "{out}");
    } else {
        out.clean_failure().unwrap();
    }
    finish(&state);
    Some(None)
}
