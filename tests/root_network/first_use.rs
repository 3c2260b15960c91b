//! What the first instance of a state folder brings along, and what goes when instances go.

use crate::common_root::{self, State, binary};
use crate::support::Ask;
use crate::world::host;
use std::path::Path;

fn bare(name: &str) -> Option<State> {
    if !common_root::can_run(name) {
        return None;
    }
    if !["busybox", "nft", "dnsmasq"].iter().all(|program| common_root::have(program)) {
        common_root::skip(name, "no busybox, nft or dnsmasq");
        return None;
    }
    Some(State::bare(&binary()))
}

#[test]
fn the_first_instance_has_a_network() {
    let Some(state) = bare("the_first_instance_has_a_network") else { return };
    let made = state.run(&["launch", "bootstrap:busybox", "c1"]);
    assert!(made.ok() && made.stderr.is_empty(), "{made}");
    assert_eq!(state.good(&["network", "list", "-f", "csv", "-c", "nmu"]), "lo,NO,0\nstapesbr0,YES,2\n");
    let device = state.good(&["profile", "device", "show", "default"]);
    assert!(device.contains("eth0:\n  name: eth0\n  network: stapesbr0\n  type: nic\n"), "{device}");
    state.good(&["wait", "c1", "ipv4", "--interval", "1", "--timeout", "30"]);
    let address = state.good(&["list", "-f", "csv", "-c", "4"]);
    assert!(address.starts_with("10.") && address.contains("(eth0)"), "{address}");
    // Another state folder on the same host takes the next name.
    let other = State::bare(&binary());
    other.good(&["create", "bootstrap:busybox", "c1"]);
    assert!(other.good(&["network", "list", "-f", "csv", "-c", "nm"]).contains("stapesbr1,YES"));
    // What was taken away does not come back.
    other.good(&["profile", "device", "remove", "default", "eth0"]);
    other.good(&["network", "delete", "stapesbr1"]);
    other.good(&["create", "bootstrap:busybox", "c2"]);
    assert!(!other.good(&["network", "list", "-f", "csv", "-c", "nm"]).contains("YES"));
    // Both are in one network.
    state.delete_all().unwrap();
    other.finish();
    state.finish();
}

#[test]
fn a_host_without_the_programs_is_told_once() {
    let Some(state) = bare("a_host_without_the_programs_is_told_once") else { return };
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).unwrap();
    host("mount --make-rprivate /");
    // Behind a file that cannot be executed.
    let at = host("which dnsmasq").trim().to_string();
    host(&format!("mount --bind /etc/passwd {at}"));
    let run = |words: &[&str]| state.run(words);
    let made = run(&["launch", "bootstrap:busybox", "c1"]);
    assert!(
        made.ok() && made.stderr.contains("Instances get no network: The program \"dnsmasq\" is missing"),
        "{made}"
    );
    assert!(made.stderr.contains("dnsmasq-base") && made.stderr.contains("stapes network create stapesbr0"), "{made}");
    assert_eq!(run(&["exec", "c1", "--", "ls", "/sys/class/net"]).good().unwrap(), "lo\n");
    let again = run(&["launch", "bootstrap:busybox", "c2"]);
    assert!(again.ok() && again.stderr.is_empty(), "{again}");
    // As it says.
    host(&format!("umount {at}"));
    state.good(&["delete", "-f", "c2"]);
    state.good(&["stop", "-f", "c1"]);
    state.good(&["network", "create", "stapesbr0"]);
    state.good(&["network", "attach-profile", "stapesbr0", "default", "eth0", "eth0"]);
    state.good(&["start", "c1"]);
    assert_eq!(state.good(&["exec", "c1", "--", "ls", "/sys/class/net"]), "eth0\nlo\n");
    state.finish();
}

#[test]
fn what_goes_gives_its_address_back() {
    let Some(state) = bare("what_goes_gives_its_address_back") else { return };
    // Three addresses, and no more.
    state.good(&["network", "create", "stapesbr0", "ipv6.address=none", "ipv4.address=10.87.0.1/29"]);
    state.good(&["network", "set", "stapesbr0", "ipv4.dhcp.ranges=10.87.0.2-10.87.0.4"]);
    state.good(&["launch", "bootstrap:busybox", "stays"]);
    state.good(&["wait", "stays", "ipv4", "--interval", "1", "--timeout", "30"]);
    for round in 0..6 {
        state.good(&["launch", "bootstrap:busybox", "goes"]);
        let got = state.run(&["wait", "goes", "ipv4", "--interval", "1", "--timeout", "30"]);
        assert!(got.ok(), "round {round}: {got}");
        state.good(&["delete", "-f", "goes"]);
    }
    let leases = state.good(&["network", "list-leases", "stapesbr0", "-f", "csv"]);
    assert_eq!(leases.matches("DYNAMIC").count(), 1, "{leases}");
    // The last one, when dnsmasq has ended with it.
    state.good(&["delete", "-f", "stays"]);
    let file = state.path("state/projects/default/networks/stapesbr0/dnsmasq.leases");
    let left = std::fs::read_to_string(find(&state.dir, "dnsmasq.leases").unwrap_or(file)).unwrap();
    assert!(!left.contains("10.87.0."), "{left}");
    assert!(!host("ps -e -o args").contains(state.dir.to_str().unwrap()));
    state.finish();
}

fn find(folder: &Path, name: &str) -> Option<std::path::PathBuf> {
    std::fs::read_dir(folder).ok()?.flatten().find_map(|entry| match entry.path() {
        path if path.file_name().is_some_and(|n| n == name) => Some(path),
        path if path.is_dir() && !path.is_symlink() && !path.ends_with("data") => find(&path, name),
        _ => None,
    })
}
