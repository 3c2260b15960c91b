//! Interfaces without a bridge: routed ones, ipvlans, and VLANs of the host's interfaces. What a kernel has not is skipped
//! aloud; the kernel is asked.

use crate::common_root::{State, skip};
use crate::support::{Ask, state};
use crate::world::{HOST, OUTSIDE, World, host, host_try};

/// True if the kernel makes an interface with these words behind `ip link add`; it is removed again.
pub fn kernel_has(test: &str, words: &str) -> bool {
    let made = host_try(&format!("ip link add kind0 {words}"));
    if made.is_err() {
        skip(test, &format!("the kernel has no {words}"));
        return false;
    }
    host("ip link del kind0");
    true
}

pub fn add_device(state: &State, instance: &str, name: &str, options: &str) {
    let words = ["config", "device", "add", instance, name, "nic"].into_iter();
    state.good(&words.chain(options.split(' ')).collect::<Vec<_>>());
}

/// A start that must fail cleanly, with these words.
pub fn refused(state: &State, instance: &str, said: &str) {
    let out = state.run(&["start", instance]);
    out.clean_failure().unwrap();
    assert!(out.stderr.contains(said), "{said:?}: {out}");
}

fn forward(interface: &str) {
    host(&format!("sysctl -qw net.ipv4.conf.{interface}.forwarding=1"));
}

fn forward_v6(interface: &str) {
    for key in ["all.forwarding", "all.proxy_ndp"] {
        host(&format!("sysctl -qw net.ipv6.conf.{key}=1"));
    }
    for key in ["forwarding", "proxy_ndp"] {
        host(&format!("sysctl -qw net.ipv6.conf.{interface}.{key}=1"));
    }
}

/// What the host has of routed interfaces and the like.
fn traces() -> String {
    let parts = [
        "ip -br link",
        "ip neigh show proxy",
        "ip -6 neigh show proxy",
        "ip route show table all",
        "ip -6 route show table all",
        "nft list ruleset",
    ];
    // What the kernel does by itself for an interface that has come up takes its time.
    let all = parts.map(host).concat();
    all.lines().filter(|l| !l.contains("anycast") && !l.contains("fe80:")).map(|l| format!("{l}\n")).collect()
}

#[test]
fn routed_into_the_world() {
    let Some(state) = state("routed_into_the_world") else { return };
    let world = World::new(&state);
    host("ip addr add fd42:113::1/64 dev up0 nodad");
    world.sh("ip addr add fd42:113::2/64 dev out0 nodad");
    for key in ["ipv6.conf.all", "ipv4.conf.up0"] {
        host(&format!("sysctl -qw net.{key}.forwarding=0"));
    }
    let before = traces();
    state.good(&["create", "test", "c1"]);
    let addresses = "ipv4.address=203.0.113.50,203.0.113.51 ipv6.address=fd42:113::50";
    add_device(&state, "c1", "eth0", &format!("nictype=routed parent=up0 ipv4.routes=10.66.0.0/24 {addresses}"));
    refused(&state, "c1", "Routed mode requires sysctl net.ipv6.conf.all.forwarding=1");
    forward_v6("up0");
    refused(&state, "c1", "Routed mode requires sysctl net.ipv4.conf.up0.forwarding=1");
    forward("up0");
    state.good(&["start", "c1"]);
    // Its addresses and its way out are there before anything runs in it.
    let inside = state.sh("c1", "ip addr show dev eth0; ip route; ip -6 route");
    for text in ["inet 203.0.113.50/32", "inet 203.0.113.51/32", "inet6 fd42:113::50/128", "default via 169.254.0.1"] {
        assert!(inside.contains(text), "no {text}: {inside}");
    }
    assert!(inside.contains("default via fe80::1"), "{inside}");
    assert_eq!(state.sh("c1", &format!("wget -qO- http://{OUTSIDE}/cgi-bin/who")), "seen as 203.0.113.50");
    // Nobody there has a route to it: the host answers for it.
    for address in ["203.0.113.50", "203.0.113.51", "fd42:113::50"] {
        world.sh(&format!("busybox ping -c 1 -W 5 {address}"));
    }
    state.sh("c1", "ping -c 1 -W 5 169.254.0.1");
    assert!(host("ip route show").contains("10.66.0.0/24 via 203.0.113.50"), "{}", host("ip route show"));
    // From another address nothing gets through, neither by the host's routes nor by nft.
    state.sh("c1", "ip addr add 203.0.113.77/32 dev eth0; ip addr add fd42:113::77/128 dev eth0; sleep 2");
    assert!(!state.try_sh("c1", &format!("ping -c 1 -W 1 -I 203.0.113.77 {OUTSIDE}")).ok());
    assert!(!state.try_sh("c1", "ping -c 1 -W 1 -I fd42:113::77 fd42:113::2").ok());
    assert!(host("nft list ruleset").contains("chain prert.c1.eth0"));
    state.good(&["restart", "-f", "c1"]);
    world.sh("busybox ping -c 1 -W 5 203.0.113.50");
    state.good(&["stop", "-f", "c1"]);
    assert_eq!(traces(), before, "something is left");
    state.good(&["delete", "c1"]);
    drop(world);
    state.finish();
}

#[test]
fn routed_addresses_are_nobody_elses() {
    let Some(state) = state("routed_addresses_are_nobody_elses") else { return };
    let world = World::new(&state);
    forward("up0");
    for name in ["c1", "c2"] {
        state.good(&["create", "test", name]);
    }
    let routed = |address: &str| format!("nictype=routed parent=up0 ipv4.address={address}");
    add_device(&state, "c1", "eth0", &routed(OUTSIDE));
    let set = |name: &str, option: &str| state.good(&["config", "device", "set", name, "eth0", option]);
    refused(&state, "c1", &format!("IP address \"{OUTSIDE}\" in use on parent network \"up0\""));
    set("c1", &format!("ipv4.address={HOST}"));
    refused(&state, "c1", &format!("IP address \"{HOST}\" is in use on the host"));
    set("c1", "ipv4.address=203.0.113.50");
    set("c1", "parent=nowhere0");
    refused(&state, "c1", "Parent device \"nowhere0\" doesn't exist");
    set("c1", "parent=up0");
    set("c1", "vrf=nowhere0");
    refused(&state, "c1", "VRF \"nowhere0\" doesn't exist");
    set("c1", "vrf=");
    state.good(&["start", "c1"]);
    add_device(&state, "c2", "eth0", &routed("203.0.113.50"));
    let proxies = host("ip neigh show proxy");
    assert!(proxies.contains("203.0.113.50 dev up0"), "{proxies}");
    refused(&state, "c2", "IP address \"203.0.113.50\" already defined on another NIC");
    assert_eq!(host("ip neigh show proxy"), proxies, "the first one's is still there");
    world.sh("busybox ping -c 1 -W 5 203.0.113.50");
    // Asked for not to look: then it is taken.
    set("c2", &format!("ipv4.address={OUTSIDE}"));
    set("c2", "ipv4.neighbor_probe=false");
    state.good(&["start", "c2"]);
    for (option, said) in [
        ("ipv4.address=203.0.113.0/24", "ipv4.address"),
        ("ipv4.address=203.0.113.5,203.0.113.5", "Duplicate address"),
        ("ipv4.gateway=203.0.113.1", "ipv4.gateway"),
        ("ipv4.host_tables=256", "ipv4.host_tables"),
        ("vlan=4095", "vlan"),
    ] {
        let out = state.run(&["config", "device", "set", "c2", "eth0", option]);
        out.clean_failure().unwrap();
        assert!(out.stderr.contains(said), "{out}");
    }
    state.good(&["delete", "-f", "c1", "c2"]);
    assert_eq!(host("ip neigh show proxy"), "");
    drop(world);
    state.finish();
}

#[test]
fn routed_without_a_parent_and_with_tables() {
    let Some(state) = state("routed_without_a_parent_and_with_tables") else { return };
    state.good(&["create", "test", "c1"]);
    let options = "nictype=routed ipv4.address=10.66.0.2 ipv4.host_address=10.66.0.1 ipv4.host_tables=254,100 \
                   ipv4.gateway=none host_name=mine0 mtu=1400 limits.priority=3";
    add_device(&state, "c1", "eth0", options);
    state.good(&["start", "c1"]);
    state.sh("c1", "ip route add 10.66.0.1/32 dev eth0; ping -c 1 -W 5 10.66.0.1");
    assert!(!state.sh("c1", "ip route").contains("default"));
    for table in ["main", "100"] {
        assert!(host(&format!("ip route show table {table}")).contains("10.66.0.2 dev mine0"), "{table}");
    }
    let rules = host("nft list ruleset");
    assert!(rules.contains("chain egress.netprio.c1.eth0") && rules.contains("meta priority set 0:3"), "{rules}");
    host("busybox ping -c 1 -W 5 10.66.0.2");
    // While it runs: in place, out, and in again.
    state.good(&["config", "device", "set", "c1", "eth0", "limits.priority=5"]);
    assert!(host("nft list ruleset").contains("meta priority set 0:5"));
    state.good(&["config", "device", "unset", "c1", "eth0", "limits.priority"]);
    let rules = host("nft list ruleset");
    assert!(!rules.contains("netprio") && rules.contains("prert.c1.eth0"), "{rules}");
    state.good(&["config", "device", "remove", "c1", "eth0"]);
    assert_eq!(host("nft list ruleset"), "");
    assert!(!host("ip -br link").contains("mine0") && !host("ip route show table all").contains("10.66.0.2"));
    add_device(&state, "c1", "eth0", "nictype=routed ipv4.address=10.66.0.2 host_name=mine0");
    state.sh("c1", "ip route | grep default && ping -c 1 -W 5 169.254.0.1");
    host("busybox ping -c 1 -W 5 10.66.0.2");
    state.good(&["stop", "-f", "c1"]);
    assert_eq!(host("nft list ruleset"), "");
    assert!(!host("ip -br link").contains("mine0"));
    state.good(&["delete", "c1"]);
    state.finish();
}

#[test]
fn routed_in_a_vrf() {
    let test = "routed_in_a_vrf";
    let Some(state) = state(test) else { return };
    if !kernel_has(test, "type vrf table 77") {
        return state.finish();
    }
    host("ip link add red0 type vrf table 77");
    host("ip link set red0 up");
    state.good(&["create", "test", "c1"]);
    add_device(&state, "c1", "eth0", "nictype=routed vrf=red0 ipv4.address=10.66.0.2 host_name=mine0");
    state.good(&["start", "c1"]);
    assert!(host("ip -o link show mine0").contains("master red0"));
    assert!(host("ip route show table 77").contains("10.66.0.2 dev mine0"));
    assert!(!host("ip route show").contains("10.66.0.2"));
    host("busybox ping -I red0 -c 1 -W 5 10.66.0.2");
    state.good(&["delete", "-f", "c1"]);
    state.finish();
}

#[test]
fn an_ipvlan_shares_the_parents_address() {
    let test = "an_ipvlan_shares_the_parents_address";
    let Some(state) = state(test) else { return };
    host("ip link add low0 type veth peer name low1");
    if !kernel_has(test, "link low0 type ipvlan mode l3s") {
        return state.finish();
    }
    let world = World::new(&state);
    host("sysctl -qw net.ipv4.conf.up0.forwarding=0");
    let before = traces();
    state.good(&["create", "test", "c1"]);
    add_device(&state, "c1", "eth0", "nictype=ipvlan parent=up0 ipv4.address=203.0.113.60 ipv4.host_table=100");
    refused(&state, "c1", "IPVLAN in L3S mode requires sysctl net.ipv4.conf.up0.forwarding=1");
    forward("up0");
    state.good(&["start", "c1"]);
    let inside = state.sh("c1", "ip addr show dev eth0; ip route");
    assert!(inside.contains("inet 203.0.113.60/32") && inside.contains("default dev eth0"), "{inside}");
    assert_eq!(state.sh("c1", &format!("wget -qO- http://{OUTSIDE}/cgi-bin/who")), "seen as 203.0.113.60");
    world.sh("busybox ping -c 1 -W 5 203.0.113.60");
    assert!(host("ip route show table 100").contains("203.0.113.60 dev lo"));
    state.good(&["stop", "-f", "c1"]);
    assert_eq!(traces(), before, "something is left");
    // On the network itself: nothing of the host is asked for.
    for option in ["mode=l2", "ipv4.address=203.0.113.61/24", "ipv4.gateway=203.0.113.2", "ipv4.host_table="] {
        state.good(&["config", "device", "set", "c1", "eth0", option]);
    }
    state.good(&["start", "c1"]);
    assert_eq!(host("ip neigh show proxy"), "");
    assert!(state.sh("c1", "ip route").contains("default via 203.0.113.2"));
    assert_eq!(state.sh("c1", &format!("wget -qO- http://{OUTSIDE}/cgi-bin/who")), "seen as 203.0.113.61");
    state.good(&["delete", "-f", "c1"]);
    drop(world);
    state.finish();
}

#[test]
fn a_vlan_lives_as_long_as_somebody_is_on_it() {
    let test = "a_vlan_lives_as_long_as_somebody_is_on_it";
    let Some(state) = state(test) else { return };
    let world = World::new(&state);
    if !kernel_has(test, "link up0 type vlan id 9") {
        state.good(&["create", "test", "c1"]);
        add_device(&state, "c1", "eth0", "nictype=macvlan parent=up0 vlan=5");
        refused(&state, "c1", "Failed to create VLAN interface \"up0.5\"");
        state.good(&["delete", "c1"]);
        drop(world);
        return state.finish();
    }
    world.sh("ip link add link out0 name out0.5 type vlan id 5");
    world.sh("ip addr add 10.5.0.1/24 dev out0.5");
    world.sh("ip link set out0.5 up");
    for (name, options) in [
        ("c1", "nictype=macvlan parent=up0 vlan=5"),
        ("c2", "nictype=routed parent=up0 vlan=5 ipv4.address=10.5.0.22"),
        ("c3", "nictype=physical parent=up0 vlan=6"),
    ] {
        state.good(&["create", "test", name]);
        add_device(&state, name, "eth0", options);
        state.good(&["start", name]);
    }
    assert!(host("ip -d link show up0.5").contains("vlan protocol 802.1Q id 5"));
    // What c2 says to the world goes by the host's routes.
    host("ip route add 10.5.0.0/24 dev up0.5");
    state.sh("c1", "ip addr add 10.5.0.11/24 dev eth0; ping -c 1 -W 5 10.5.0.1");
    world.sh("busybox ping -c 1 -W 5 10.5.0.22");
    let inside = host(&format!("nsenter -t {} -n ip -d link show eth0", state.init("c3")));
    assert!(inside.contains("vlan protocol 802.1Q id 6"), "{inside}");
    state.good(&["stop", "-f", "c1"]);
    assert!(host("ip -br link").contains("up0.5@"), "c2 is still on it");
    state.good(&["stop", "-f", "c2", "c3"]);
    let links = host("ip -br link");
    assert!(!links.contains("up0.5") && !links.contains("up0.6"), "{links}");
    // One that was there before stays, whatever it is called.
    host("ip link add link up0 name mine5 type vlan id 5");
    host("ip link set mine5 up");
    state.good(&["start", "c1"]);
    assert!(!host("ip -br link").contains("up0.5"));
    state.sh("c1", "ip addr add 10.5.0.11/24 dev eth0; ping -c 1 -W 5 10.5.0.1");
    state.good(&["delete", "-f", "c1", "c2", "c3"]);
    assert!(host("ip -br link").contains("mine5"));
    drop(world);
    state.finish();
}

#[test]
fn vlans_of_a_bridge_are_kept_apart() {
    let test = "vlans_of_a_bridge_are_kept_apart";
    let Some(state) = state(test) else { return };
    state.good(&["network", "create", "testbr0", "ipv4.address=10.77.0.1/24", "ipv6.address=none"]);
    let filters = kernel_has(test, "type bridge vlan_filtering 1");
    for (name, options) in [("c1", "vlan=10"), ("c2", "vlan=10"), ("c3", ""), ("c4", "vlan=none vlan.tagged=10-12,20")]
    {
        state.good(&["create", "test", name, "-n", "testbr0"]);
        for option in options.split_whitespace() {
            state.good(&["config", "device", "set", name, "eth0", option]);
        }
    }
    if !filters {
        refused(&state, "c1", "VLAN filtering is not enabled in parent bridge \"testbr0\"");
    } else {
        state.good(&["start", "c1", "c2", "c3", "c4"]);
        for (name, address) in [("c1", "10.77.0.11"), ("c2", "10.77.0.12"), ("c3", "10.77.0.13")] {
            state.sh(name, &format!("ip addr add {address}/24 dev eth0"));
        }
        state.sh("c1", "ping -c 1 -W 5 10.77.0.12");
        state.sh("c3", "ping -c 1 -W 5 10.77.0.1");
        for other in ["10.77.0.13", "10.77.0.1"] {
            assert!(!state.try_sh("c1", &format!("ping -c 1 -W 1 {other}")).ok(), "{other} is in another VLAN");
        }
        let end = state.good(&["config", "get", "c4", "volatile.eth0.host_name"]);
        let vlans = host(&format!("bridge vlan show dev {}", end.trim()));
        assert!(vlans.contains("10-12") || (vlans.contains("10") && vlans.contains("12")), "{vlans}");
        assert!(vlans.contains("20") && !vlans.contains("PVID"), "{vlans}");
    }
    for (option, said) in
        [("vlan=0", "VLAN ID 0 is not allowed"), ("vlan=4095", "vlan"), ("vlan.tagged=10", "Tagged VLAN ID")]
    {
        let out = state.run(&["config", "device", "set", "c1", "eth0", option]);
        out.clean_failure().unwrap();
        assert!(out.stderr.contains(said), "{out}");
    }
    state.good(&["delete", "-f", "c1", "c2", "c3", "c4"]);
    state.good(&["network", "delete", "testbr0"]);
    state.finish();
}
