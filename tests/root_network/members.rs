//! What a bridge has besides instances: interfaces of the host, tunnels to other hosts; and networks under another name.

use crate::support::{Ask, state};
use crate::types::kernel_has;
use crate::world::{World, host};

/// What the kernel says of an interface.
fn link(name: &str) -> String {
    host(&format!("ip -d -o link show {name}"))
}

#[test]
fn interfaces_of_the_host_come_and_go() {
    let test = "interfaces_of_the_host_come_and_go";
    let Some(state) = state(test) else { return };
    let world = World::new(&state);
    for n in 0..3 {
        host(&format!("ip link add low{n} type veth peer name far{n}"));
    }
    let vlans = kernel_has(test, "link low2 type vlan id 9");
    let create = |options: &[&str]| {
        let words = ["network", "create", "testbr0", "ipv4.address=10.77.0.1/24", "ipv6.address=none"];
        state.run(&[&words[..], options].concat())
    };
    for (member, said) in [
        ("up0", "Only unconfigured network interfaces can be bridged"),
        ("nowhere0", "Network interface \"nowhere0\" not found"),
        ("low2.5/low2/4095", "Invalid VLAN ID"),
    ] {
        let out = create(&[&format!("bridge.external_interfaces=low0,{member}")]);
        out.clean_failure().unwrap();
        assert!(out.stderr.contains(said), "{out}");
        assert!(!link("low0").contains("master") && !host("ip -br link").contains("testbr0"));
    }
    create(&["bridge.external_interfaces=low0"]).good().unwrap();
    assert!(link("low0").contains("master testbr0"));
    state.good(&["network", "set", "testbr0", "bridge.external_interfaces=low1"]);
    assert!(link("low1").contains("master testbr0") && !link("low0").contains("master"));
    // A change that is refused changes nothing.
    let out = state.run(&["network", "set", "testbr0", "bridge.external_interfaces=low0,low1,up0"]);
    out.clean_failure().unwrap();
    assert!(link("low1").contains("master testbr0") && !link("low0").contains("master"));
    if vlans {
        state.good(&["network", "set", "testbr0", "bridge.external_interfaces=low1,tagged0/low2/9"]);
        assert!(link("tagged0").contains("master testbr0") && link("tagged0").contains("id 9"));
        state.good(&["network", "set", "testbr0", "bridge.external_interfaces=low1"]);
        assert!(!host("ip -br link").contains("tagged0"));
        state.good(&["network", "set", "testbr0", "bridge.external_interfaces=low1,tagged0/low2/9"]);
    }
    state.good(&["network", "delete", "testbr0"]);
    let links = host("ip -br link");
    assert!(links.contains("low1") && !links.contains("tagged0"), "{links}");
    assert!(!link("low1").contains("master"));
    drop(world);
    state.finish();
}

#[test]
fn tunnels_to_other_hosts() {
    let test = "tunnels_to_other_hosts";
    let Some(state) = state(test) else { return };
    let world = World::new(&state);
    let create = ["network", "create", "testbr0", "ipv4.address=10.77.0.1/24", "ipv6.address=none"];
    state.good(&create);
    let ends = ["local=203.0.113.1", "remote=203.0.113.2"];
    let set = |name: &str, options: &[&str]| {
        let all: Vec<String> = options.iter().chain(&ends).map(|o| format!("tunnel.{name}.{o}")).collect();
        let words: Vec<&str> =
            ["network", "set", "testbr0"].into_iter().chain(all.iter().map(String::as_str)).collect();
        state.run(&words)
    };
    if kernel_has(test, "type vxlan id 9 remote 203.0.113.2 dstport 4789") {
        set("x", &["protocol=vxlan", "id=7", "port=4789"]).good().unwrap();
        let there = link("testbr0-x");
        assert!(there.contains("master testbr0") && there.contains("vxlan id 7"), "{there}");
        world.sh("ip link add vx0 type vxlan id 7 local 203.0.113.2 remote 203.0.113.1 dstport 4789");
        world.sh("ip addr add 10.77.0.9/24 dev vx0");
        world.sh("ip link set vx0 up");
        world.sh("busybox ping -c 1 -W 5 10.77.0.1");
        world.sh("ip link del vx0");
        for key in ["protocol", "id", "port", "local", "remote"] {
            state.good(&["network", "unset", "testbr0", &format!("tunnel.x.{key}")]);
        }
        assert!(!host("ip -br link").contains("testbr0-x"));
    }
    if kernel_has(test, "type gretap local 203.0.113.1 remote 203.0.113.2") {
        set("g", &["protocol=gre"]).good().unwrap();
        assert!(link("testbr0-g").contains("gretap remote 203.0.113.2 local 203.0.113.1"));
        world.sh("ip link add gr0 type gretap local 203.0.113.2 remote 203.0.113.1");
        world.sh("ip addr add 10.77.0.9/24 dev gr0");
        world.sh("ip link set gr0 up");
        world.sh("busybox ping -c 1 -W 5 10.77.0.1");
    }
    state.good(&["network", "delete", "testbr0"]);
    assert!(!host("ip -br link").contains("testbr0-"));
    drop(world);
    state.finish();
}

#[test]
fn under_another_name() {
    let Some(state) = state("under_another_name") else { return };
    state.good(&["network", "create", "testbr0", "ipv4.address=10.77.0.1/24", "ipv4.nat=true", "ipv6.address=none"]);
    host("ip link add other0 type veth peer name other1");
    state.good(&["network", "create", "testbr1", "ipv4.address=10.78.0.1/24", "ipv6.address=none"]);
    state.good(&["create", "test", "c1", "-n", "testbr1"]);
    state.good(&["config", "device", "set", "c1", "eth0", "ipv4.address=10.78.0.9"]);
    let rename = |from: &str, to: &str| state.run(&["network", "rename", from, to]);
    for (from, to, said) in [
        ("testbr1", "testbr2", "Network is currently in use"),
        ("testbr0", "testbr1", "Network \"testbr1\" already exists"),
        ("testbr0", "testbr0", "Network \"testbr0\" already exists"),
        ("testbr0", "other0", "Network interface \"other0\" already exists"),
        ("testbr0", "a-name-that-is-too-long", "too long"),
        ("testbr9", "testbr2", "Network not found"),
        ("other0", "testbr2", "Network not found"),
    ] {
        let out = rename(from, to);
        out.clean_failure().unwrap();
        assert!(out.stderr.contains(said), "{from} {to}: {out}");
    }
    assert_eq!(rename("testbr0", "testbr2").good().unwrap(), "Network testbr0 renamed to testbr2\n");
    assert_eq!(state.good(&["network", "get", "testbr2", "ipv4.address"]).trim(), "10.77.0.1/24");
    assert!(host("ip -o -4 addr show dev testbr2").contains("10.77.0.1/24"));
    let rules = host("nft list ruleset");
    assert!(rules.contains("pstrt.testbr2") && !rules.contains("testbr0"), "{rules}");
    assert!(!host("ip -br link").contains("testbr0"));
    // Addresses in use, by whom.
    let table = state.good(&["network", "list-allocations", "-f", "csv"]);
    for row in [
        "/1.0/networks/testbr2,10.77.0.1/24,testbr2,network,YES,",
        "/1.0/networks/testbr1,10.78.0.1/24,testbr1,network,NO,",
    ] {
        assert!(table.lines().any(|line| line == row), "no {row}: {table}");
    }
    assert!(table.contains("/1.0/instances/c1,10.78.0.9/32,testbr1,instance,NO,"), "{table}");
    assert!(state.good(&["network", "list-allocations", "-f", "csv", "-c", "Na"]).contains("testbr2,10.77.0.1/24"));
    assert!(state.good(&["network", "list-allocations", "-f", "json"]).contains("\"addresses\":\"10.78.0.9/32\""));
    let summary = state.good(&["network", "list-allocations", "--summary", "-p", "default", "-f", "csv"]);
    assert!(summary.lines().any(|l| l == "testbr1,10.78.0.0/24,10.78.0.9"), "{summary}");
    state.run(&["network", "list-allocations", "--summary", "-c", "u"]).clean_failure().unwrap();
    state.good(&["delete", "c1"]);
    for name in ["testbr1", "testbr2"] {
        state.good(&["network", "delete", name]);
    }
    state.finish();
}
