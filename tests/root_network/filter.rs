//! What an instance cannot forge: frames are really sent, and really do not arrive.

use crate::support::{Ask, state};
use crate::world::host;

/// True if `name` reaches the bridge from `address` within a second.
fn reaches(state: &crate::common_root::State, name: &str, address: &str, to: &str) -> bool {
    state.try_sh(name, &format!("ping -c 1 -W 1 -I {address} {to}")).ok()
}

#[test]
fn nobody_elses_address() {
    let Some(state) = state("nobody_elses_address") else { return };
    state.good(&["network", "create", "testbr0", "ipv4.address=10.77.0.1/24", "ipv6.address=fd42:77::1/64"]);
    for name in ["good", "bad"] {
        state.good(&["create", "test", name, "-n", "testbr0"]);
        state.good(&["config", "device", "set", name, "eth0", &format!("ipv4.address=10.77.0.{}", 10 + name.len())]);
    }
    let filters = ["security.mac_filtering=true", "security.ipv4_filtering=true", "security.ipv6_filtering=true"];
    for option in filters {
        state.good(&["config", "device", "set", "bad", "eth0", option]);
    }
    state.good(&["start", "good", "bad"]);
    assert!(host("nft list ruleset").contains("chain in.bad.eth0"));
    state.sh("good", "ip addr add 10.77.0.14/24 dev eth0; ip addr add fd42:77::14/64 dev eth0");
    state.sh(
        "bad",
        "ip addr add 10.77.0.13/24 dev eth0; ip addr add 10.77.0.99/24 dev eth0; ip addr add fd42:77::99/64 dev eth0",
    );
    for to in ["10.77.0.1", "10.77.0.14"] {
        assert!(reaches(&state, "bad", "10.77.0.13", to), "its own address does not get to {to}");
        assert!(!reaches(&state, "bad", "10.77.0.99", to), "a forged address gets to {to}");
    }
    // The address that it makes of its MAC address is its own, another is not.
    let own = state.sh("bad", "ip -6 addr show dev eth0 scope link | sed -n 's/.*inet6 fe80:\\(.*\\)\\/64.*/\\1/p'");
    state.sh("bad", &format!("ip addr add fd42:77:0:0{own}/64 dev eth0 nodad; sleep 1"));
    assert!(reaches(&state, "bad", &format!("fd42:77:0:0{own}"), "fd42:77::1"));
    assert!(!reaches(&state, "bad", "fd42:77::99", "fd42:77::1"));
    // Nobody's MAC address but its own, towards the host and towards others.
    state.sh("bad", "ip link set eth0 down; ip link set eth0 address 10:66:6a:99:99:99; ip link set eth0 up");
    for to in ["10.77.0.1", "10.77.0.14"] {
        assert!(!reaches(&state, "bad", "10.77.0.13", to), "a forged MAC address gets to {to}");
    }
    assert!(reaches(&state, "good", "10.77.0.14", "10.77.0.1"), "the other one is not filtered");
    // Taken away with it.
    state.good(&["stop", "-f", "bad"]);
    assert!(!host("nft list ruleset").contains("bad.eth0"));
    state.good(&["delete", "-f", "good", "bad"]);
    state.good(&["network", "delete", "testbr0"]);
    state.finish();
}

/// Without an address of its own one is reserved: the same again as long as its lease lasts.
#[test]
fn a_filtered_interface_gets_an_address() {
    let Some(state) = state("a_filtered_interface_gets_an_address") else { return };
    state.good(&["network", "create", "testbr0", "ipv4.address=10.77.0.1/24", "ipv6.address=none"]);
    let port = |name: &str| {
        let file = state.path(&format!("run/networks/testbr0/ports/default_{name}.eth0"));
        let text = std::fs::read_to_string(file).unwrap();
        text.split(',').find(|word| word.starts_with("10.")).unwrap().to_string()
    };
    for name in ["c1", "c2"] {
        state.good(&["create", "test", name, "-n", "testbr0"]);
        state.good(&["config", "device", "set", name, "eth0", "security.ipv4_filtering=true"]);
        state.good(&["start", name]);
    }
    let own = [port("c1"), port("c2")];
    assert_ne!(own[0], own[1]);
    for (name, address) in ["c1", "c2"].iter().zip(&own) {
        state.sh(name, &format!("ip addr add {address}/24 dev eth0"));
        assert!(reaches(&state, name, address, "10.77.0.1"));
    }
    state.sh("c1", &format!("ip addr flush dev eth0; ip addr add {}/24 dev eth0", own[1]));
    assert!(!reaches(&state, "c1", &own[1], "10.77.0.1"), "it has the other one's address");
    state.good(&["delete", "-f", "c1", "c2"]);
    state.good(&["network", "delete", "testbr0"]);
    state.finish();
}

/// What an interface may send is of the network's addresses as they are now.
#[test]
fn filters_follow_their_network() {
    let Some(state) = state("filters_follow_their_network") else { return };
    state.good(&["network", "create", "testbr0", "ipv4.address=10.77.0.1/24", "ipv6.address=fd42:77::1/64"]);
    state.good(&["create", "test", "c1", "-n", "testbr0"]);
    let filters = ["security.ipv4_filtering=true", "security.ipv6_filtering=true"];
    state.good(&[&["config", "device", "set", "c1", "eth0"][..], &filters].concat());
    state.good(&["start", "c1"]);
    let port = || {
        let text = std::fs::read_to_string(state.path("run/networks/testbr0/ports/default_c1.eth0")).unwrap();
        text.split(',').find(|word| word.starts_with("10.")).unwrap().to_string()
    };
    let own = port();
    let hwaddr = state.good(&["config", "get", "c1", "volatile.eth0.hwaddr"]).trim().to_string();
    let parts: Vec<&str> = hwaddr.split(':').collect();
    let end = format!("1266:6aff:fe{}:{}{}", parts[3], parts[4], parts[5]);
    let settled = "while ip addr show dev eth0 | grep -q tentative; do sleep 0.1; done";
    state.sh("c1", &format!("ip addr add {own}/24 dev eth0; ip addr add fd42:77::{end}/64 dev eth0; {settled}"));
    let said = || state.sh("c1", "ip addr show dev eth0") + &host("nft list ruleset");
    assert!(reaches(&state, "c1", &own, "10.77.0.1"), "{own}: {}", said());
    assert!(reaches(&state, "c1", &format!("fd42:77::{end}"), "fd42:77::1"), "{end}: {}", said());
    state.good(&["network", "set", "testbr0", "ipv4.address=10.78.0.1/24", "ipv6.address=fd42:78::1/64"]);
    let new = port();
    assert!(new.starts_with("10.78.0."), "{new}");
    state.sh("c1", &format!("ip addr add {new}/24 dev eth0; ip addr add fd42:78::{end}/64 dev eth0; {settled}"));
    state.sh("c1", "ip addr add 10.78.0.99/24 dev eth0");
    assert!(
        reaches(&state, "c1", &new, "10.78.0.1") && reaches(&state, "c1", &format!("fd42:78::{end}"), "fd42:78::1")
    );
    assert!(!reaches(&state, "c1", "10.78.0.99", "10.78.0.1") && !reaches(&state, "c1", &own, "10.78.0.1"));
    // One that is of the subnet still stays.
    state.good(&["network", "set", "testbr0", "ipv4.address=10.78.0.2/24"]);
    assert_eq!(port(), new);
    assert!(reaches(&state, "c1", &new, "10.78.0.2"));
    state.doctor().unwrap();
    state.good(&["delete", "-f", "c1"]);
    state.good(&["network", "delete", "testbr0"]);
    state.finish();
}

/// On a bridge of the host it may have what it was given.
#[test]
fn on_a_bridge_of_the_host() {
    let Some(state) = state("on_a_bridge_of_the_host") else { return };
    host("ip link add hostbr0 type bridge");
    host("ip addr add 10.79.0.1/24 dev hostbr0");
    host("ip link set hostbr0 up");
    let nic = ["eth0", "nic", "nictype=bridged", "parent=hostbr0"];
    state.good(&["create", "test", "c1"]);
    let add = |options: &[&str]| state.run(&[&["config", "device", "add", "c1"], &nic[..], options].concat());
    add(&["security.ipv4_filtering=true"]).clean_failure().unwrap();
    add(&["ipv4.address=10.79.0.5", "security.ipv4_filtering=true", "limits.priority=3"]).good().unwrap();
    state.good(&["start", "c1"]);
    state.sh("c1", "ip addr add 10.79.0.5/24 dev eth0; ip addr add 10.79.0.6/24 dev eth0");
    assert!(reaches(&state, "c1", "10.79.0.5", "10.79.0.1"));
    assert!(!reaches(&state, "c1", "10.79.0.6", "10.79.0.1"), "a forged address gets through");
    state.doctor().unwrap();
    // Rules that somebody takes away are seen and set again.
    host("nft flush ruleset");
    assert!(state.doctor().is_err() && reaches(&state, "c1", "10.79.0.6", "10.79.0.1"));
    state.good(&["doctor", "--fix"]);
    assert!(!reaches(&state, "c1", "10.79.0.6", "10.79.0.1"));
    // While it runs.
    let set = |option: &str| state.good(&["config", "device", "set", "c1", "eth0", option]);
    set("ipv4.address=10.79.0.6");
    assert!(reaches(&state, "c1", "10.79.0.6", "10.79.0.1") && !reaches(&state, "c1", "10.79.0.5", "10.79.0.1"));
    state.good(&["config", "device", "set", "c1", "eth0", "ipv4.address=", "security.ipv4_filtering=false"]);
    assert!(reaches(&state, "c1", "10.79.0.5", "10.79.0.1"));
    assert!(!host("nft list ruleset").contains("chain in.c1.eth0"));
    set("security.mac_filtering=true");
    assert!(reaches(&state, "c1", "10.79.0.5", "10.79.0.1"));
    state.sh("c1", "ip link set eth0 down; ip link set eth0 address 10:66:6a:99:99:99; ip link set eth0 up");
    assert!(!reaches(&state, "c1", "10.79.0.5", "10.79.0.1"), "a forged MAC address gets through");
    state.doctor().unwrap();
    state.good(&["config", "device", "remove", "c1", "eth0"]);
    assert!(!host("nft list ruleset").contains("c1.eth0"));
    add(&["security.mac_filtering=true"]).good().unwrap();
    assert!(host("nft list ruleset").contains("chain in.c1.eth0"));
    state.good(&["stop", "-f", "c1"]);
    assert_eq!(host("nft list tables"), "");
    state.good(&["delete", "c1"]);
    host("ip link delete hostbr0");
    state.finish();
}
