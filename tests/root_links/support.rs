//! A network namespace for each test, and what iproute2 says of it.

use serde_json::Value;
use stapes::host::links::{End, Kind, LinkSpec, Links};
use stapes::sys::ns;
use std::os::fd::OwnedFd;
use std::process::Command;

/// Runs `work` in a thread in a network namespace of its own; programs started there are in it too.
pub fn alone(test: &str, work: impl FnOnce(&mut Links) + Send) {
    if !rustix::process::geteuid().is_root() {
        eprintln!("SKIP {test}: not root");
        return;
    }
    if Command::new("ip").arg("-V").output().is_err() {
        eprintln!("SKIP {test}: no iproute2");
        return;
    }
    std::thread::scope(|scope| {
        let run = || {
            ns::unshare(libc::CLONE_NEWNET).expect("a network namespace");
            work(&mut Links::open().expect("a socket"));
        };
        scope.spawn(run).join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
}

/// Another network namespace.
pub fn elsewhere() -> OwnedFd {
    let make = || {
        ns::unshare(libc::CLONE_NEWNET).expect("a network namespace");
        ns::open_own_net().expect("its descriptor")
    };
    std::thread::spawn(make).join().expect("a thread")
}

/// The output of a program that must succeed.
pub fn output(line: &str) -> String {
    let mut words = line.split_whitespace();
    let out = Command::new(words.next().expect("a program")).args(words).output().expect("started");
    assert!(out.status.success(), "{line}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).expect("text")
}

/// The same as JSON; nothing is an empty list.
pub fn json(line: &str) -> Value {
    match output(line).trim() {
        "" => Value::Array(Vec::new()),
        text => serde_json::from_str(text).unwrap_or_else(|e| panic!("{line}: {e}: {text}")),
    }
}

/// `ip -d -j link show <name>`.
pub fn link(name: &str) -> Value {
    json(&format!("ip -d -j link show {name}"))[0].clone()
}

/// An interface that is up.
pub fn spec<'a>(name: &'a str, kind: Kind<'a>) -> LinkSpec<'a> {
    LinkSpec { end: End { name, up: true, ..End::default() }, kind, master: None, lower: None }
}

/// A subnet or an address.
pub fn net(text: &str) -> stapes::base::inet::IpNet {
    text.parse().expect("a subnet")
}

/// Makes an interface; false, said aloud, if the kernel knows no such kind.
pub fn made(test: &str, links: &mut Links, spec: &LinkSpec<'_>) -> bool {
    match links.create(spec) {
        Err(e) if e.kind() == stapes::error::Kind::Unsupported => {
            eprintln!("SKIP {test}: {e}");
            false
        }
        other => other.map(|()| true).unwrap(),
    }
}

/// An interface to do something with: one end of a pair. Not every kernel has dummy interfaces.
pub fn pair<'a>(name: &'a str, other: &'a str) -> LinkSpec<'a> {
    spec(name, Kind::Veth(End { name: other, ..End::default() }))
}

/// Waits until something is so, some seconds at most.
pub fn until(mut so: impl FnMut() -> bool) {
    let began = std::time::Instant::now();
    while !so() {
        assert!(began.elapsed().as_secs() < 10, "it did not come to be so");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
}
