//! Many interfaces on one bridge: what is done for the next one does not grow with those that are there. Counted in system
//! calls and bytes, which no busy machine changes; times are the numbers' (`tests/numbers/network`).

use crate::common_root::{State, brief, have, skip};
use crate::support::{Ask, state};
use crate::world::host;

/// System calls of a command that starts one more instance, and the bytes it reads from files, folders and netlink.
fn calls(state: &State, name: &str) -> (usize, u64) {
    let file = state.path(&format!("{name}.trace"));
    let words = ["launch", "-q", "test", name, "-n", "testbr0"];
    let mut traced = std::process::Command::new("strace");
    let command = state.command(&words);
    traced.args(["-o", file.to_str().unwrap(), "--"]).arg(command.get_program()).args(command.get_args());
    for (key, value) in command.get_envs() {
        match value {
            Some(value) => traced.env(key, value),
            None => traced.env_remove(key),
        };
    }
    let done = traced.stdin(std::process::Stdio::null()).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let text = std::fs::read_to_string(file).unwrap();
    let reads = ["read(", "pread64(", "recvfrom(", "recvmsg(", "getdents64("];
    let bytes = |line: &str| -> Option<u64> {
        reads.iter().any(|call| line.starts_with(call)).then(|| line.rsplit("= ").next()?.trim().parse().ok()).flatten()
    };
    (text.lines().count(), text.lines().filter_map(bytes).sum())
}

/// The same of the monitor, as far as the kernel counts it: reads and their bytes.
fn monitor(state: &State, name: &str) -> (u64, u64) {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", state.init(name))).unwrap();
    let monitor = stat.rsplit(") ").next().unwrap().split(' ').nth(1).unwrap();
    let io = std::fs::read_to_string(format!("/proc/{monitor}/io")).unwrap();
    let field = |name: &str| io.lines().find_map(|l| l.strip_prefix(name)).unwrap().trim().parse::<u64>().unwrap();
    (field("syscr:"), field("rchar:"))
}

#[test]
fn the_next_interface_costs_what_the_first_did() {
    let test = "the_next_interface_costs_what_the_first_did";
    let Some(state) = state(test) else { return };
    if !have("strace") {
        return skip(test, "no strace (apt-get install strace)");
    }
    state.good(&["network", "create", "testbr0", "ipv4.address=10.77.0.1/24", "ipv6.address=none"]);
    // With the first one dnsmasq starts.
    state.launch("c0", &["-n", "testbr0"]).good().unwrap();
    let first = (calls(&state, "first"), monitor(&state, "first"));
    let others = if brief() { 8 } else { 40 };
    for n in 1..=others {
        state.launch(&format!("c{n}"), &["-n", "testbr0"]).good().unwrap();
    }
    let next = (calls(&state, "next"), monitor(&state, "next"));
    assert_eq!(host("ip -br link").lines().filter(|l| l.starts_with("veth")).count(), others + 3);
    // Names of other lengths, and waiting that was interrupted.
    let near = |a: u64, b: u64, most: u64| a.abs_diff(b) <= most;
    let ((n, bytes), (reads, read)) = first;
    // One listing of names, for another of the same name on the network.
    let names = others as u64 * 32;
    let same = near(n as u64, next.0.0 as u64, 8) && near(bytes, next.0.1, 400 + names);
    assert!(same, "the command: {first:?}, then {next:?}");
    assert!(near(reads, next.1.0, 8) && near(read, next.1.1, 400), "the monitor: {first:?}, then {next:?}");
    state.delete_all().unwrap();
    state.finish();
}
