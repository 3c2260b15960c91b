//! Networks as objects: made, shown, changed, deleted; what is refused.

use crate::support::{Ask, state};
use crate::world::host;

fn config(state: &crate::common_root::State, network: &str, key: &str) -> String {
    state.good(&["network", "get", network, key]).trim().to_string()
}

#[test]
fn made_shown_changed_and_deleted() {
    let Some(state) = state("made_shown_changed_and_deleted") else { return };
    assert_eq!(state.good(&["network", "create", "testbr0", "--description", "first"]), "Network testbr0 created\n");
    let v4 = config(&state, "testbr0", "ipv4.address");
    let v6 = config(&state, "testbr0", "ipv6.address");
    assert!(v4.starts_with("10.") && v4.ends_with(".1/24"), "{v4}");
    assert!(v6.starts_with("fd42:") && v6.ends_with("::1/64"), "{v6}");
    let there = host("ip -o addr show dev testbr0");
    assert!(there.contains(&v4) && there.contains(&v6), "{there}");
    let listed = state.good(&["network", "list", "-f", "csv"]);
    assert!(listed.contains(&format!("testbr0,bridge,YES,{v4},{v6},first,0,CREATED")), "{listed}");
    assert!(listed.contains("lo,loopback,NO"), "{listed}");
    let shown = state.good(&["network", "show", "testbr0"]);
    let end = "description: first\nname: testbr0\ntype: bridge\nused_by: []\nmanaged: true\nstatus: Created\nlocations:\n- none\nproject: default\n";
    assert!(shown.ends_with(end), "{shown}");
    // At once, and in the kernel.
    state.good(&[
        "network",
        "set",
        "testbr0",
        "ipv4.address=10.77.0.1/24",
        "bridge.mtu=1400",
        "ipv4.routes=10.78.0.0/24",
    ]);
    let there = host("ip -o addr show dev testbr0");
    assert!(there.contains("10.77.0.1/24") && !there.contains(&v4), "{there}");
    assert!(host("ip link show testbr0").contains("mtu 1400"));
    assert!(host("ip route show").contains("10.78.0.0/24 dev testbr0"));
    state.good(&["network", "unset", "testbr0", "ipv4.routes"]);
    assert!(!host("ip route show").contains("10.78.0.0/24"));
    state.good(&["network", "set", "testbr0", "ipv6.address=none"]);
    assert!(!host("ip -o addr show dev testbr0").contains("inet6 fd42"));
    let info = state.good(&["network", "info", "testbr0"]);
    assert!(info.contains("MTU: 1400") && info.contains("inet\t10.77.0.1/24 (global)"), "{info}");
    assert_eq!(state.good(&["network", "delete", "testbr0"]), "Network testbr0 deleted\n");
    assert!(!host("ip -br link").contains("testbr0"));
    assert_eq!(host("nft list ruleset").matches("testbr0").count(), 0);
    state.finish();
}

#[test]
fn what_is_wrong_is_refused_and_changes_nothing() {
    let Some(state) = state("what_is_wrong_is_refused_and_changes_nothing") else { return };
    state.good(&["network", "create", "testbr0", "ipv4.address=10.77.0.1/24", "ipv6.address=none"]);
    host("ip link add other0 type veth peer name other1");
    host("ip addr add 10.99.0.1/16 dev other0");
    host("ip link set other0 up");
    let before = (host("ip -o -4 addr show"), host("nft list ruleset"), state.good(&["network", "show", "testbr0"]));
    for (words, said) in [
        ("create testbr0", "The network already exists"),
        ("create a-name-that-is-too-long", "too long (maximum 15 characters)"),
        ("create other0", "Network interface \"other0\" already exists"),
        ("create testbr1 ipv4.address=10.77.0.129/25", "overlaps with \"10.77.0.1/24\" of network \"testbr0\""),
        ("create testbr1 ipv4.address=10.99.3.1/24", "is in use on the host"),
        ("create testbr1 ipv4.address=10.77.0.1", "ipv4.address"),
        ("create testbr1 nonsense=1", "nonsense"),
        ("create testbr1 --type ovn", "\"ovn\" is not supported"),
        ("create testbr1 --type macvlan parent=nowhere0", "Parent interface \"nowhere0\" not found"),
        ("set testbr0 bridge.mtu=12", "bridge.mtu"),
        ("set testbr0 ipv4.dhcp.ranges=10.5.0.1-10.5.0.9", "ipv4.dhcp.ranges"),
        ("show testbr9", "Network not found"),
        ("delete other0", "Network not found"),
    ] {
        let words: Vec<&str> = std::iter::once("network").chain(words.split(' ')).collect();
        let out = state.run(&words);
        out.clean_failure().unwrap();
        assert!(out.stderr.contains(said), "{out}");
    }
    let after = (host("ip -o -4 addr show"), host("nft list ruleset"), state.good(&["network", "show", "testbr0"]));
    assert_eq!(before, after);
    state.good(&["network", "delete", "testbr0"]);
    state.finish();
}

#[test]
fn a_network_in_use_stays() {
    let Some(state) = state("a_network_in_use_stays") else { return };
    state.good(&["network", "create", "testbr0"]);
    state.launch("c1", &["-n", "testbr0"]).good().unwrap();
    assert!(state.good(&["network", "show", "testbr0"]).contains("used_by:\n- /1.0/instances/c1\n"));
    let out = state.run(&["network", "delete", "testbr0"]);
    out.clean_failure().unwrap();
    assert!(out.stderr.contains("The network is currently in use"), "{out}");
    state.good(&["delete", "-f", "c1"]);
    state.good(&["network", "delete", "testbr0"]);
    state.finish();
}

/// What a network takes is named with its package, and without it nothing is half done.
#[test]
fn missing_programs_are_named() {
    let Some(state) = state("missing_programs_are_named") else { return };
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).unwrap();
    host("mount --make-rprivate /");
    // Behind a file that cannot be executed.
    let without = |program: &str, args: &[&str]| {
        let at = host(&format!("which {program}"));
        host(&format!("mount --bind /etc/passwd {}", at.trim()));
        let out = state.run(args);
        host(&format!("umount {}", at.trim()));
        out.clean_failure().unwrap();
        out.stderr
    };
    let said = without("nft", &["network", "create", "testbr0"]);
    assert!(said.contains("The program \"nft\" is missing") && said.contains("\"nftables\""), "{said}");
    assert!(!host("ip -br link").contains("testbr0"));
    state.good(&["network", "create", "testbr0"]);
    let said = without("dnsmasq", &["launch", "test", "c1", "-n", "testbr0"]);
    assert!(said.contains("The program \"dnsmasq\" is missing") && said.contains("\"dnsmasq-base\""), "{said}");
    state.good(&["delete", "c1"]);
    assert!(!host("ip -br link").contains("veth"));
    state.good(&["network", "delete", "testbr0"]);
    state.finish();
}

#[test]
fn interfaces_that_do_not_go_with_their_network() {
    let Some(state) = state("interfaces_that_do_not_go_with_their_network") else { return };
    state.good(&["network", "create", "testbr0", "ipv4.address=10.77.0.1/24"]);
    state.good(&["create", "test", "c1"]);
    for (options, said) in [
        ("network=nowhere0", "Failed loading network \"nowhere0\": Network not found"),
        ("network=testbr0 ipv4.address=10.78.0.5", "not within network \"testbr0\" subnet"),
        ("network=testbr0 ipv4.address=10.77.0.1", "is assigned to parent managed network device"),
        ("network=testbr0 mtu=1400", "Cannot use \"mtu\" property in conjunction with \"network\" property"),
        ("network=testbr0 parent=lo", "parent"),
        ("network=testbr0 name=a-name-that-is-too-long", "too long"),
    ] {
        let words: Vec<&str> =
            ["config", "device", "add", "c1", "eth0", "nic"].into_iter().chain(options.split(' ')).collect();
        let out = state.run(&words);
        out.clean_failure().unwrap();
        assert!(out.stderr.contains(said), "{out}");
        let profile: Vec<&str> =
            ["profile", "device", "add", "default", "eth0", "nic"].into_iter().chain(options.split(' ')).collect();
        state.run(&profile).clean_failure().unwrap();
    }
    let out = state.run(&["create", "test", "c2", "-n", "nowhere0"]);
    out.clean_failure().unwrap();
    assert_eq!(state.good(&["config", "device", "list", "c1"]).trim(), "");
    state.good(&["delete", "c1"]);
    state.good(&["network", "delete", "testbr0"]);
    state.finish();
}
