//! Interfaces of instances that run: they come, change and go, and what goes leaves nothing.

use crate::common_root::{State, skip};
use crate::support::{Ask, state};
use crate::world::{host, host_try};
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

/// A state with the network `testbr0`, which has names for nobody: an instance may be on it twice.
fn ready_for_two(test: &str) -> Option<State> {
    let state = ready(test)?;
    state.good(&["network", "set", "testbr0", "dns.mode=none"]);
    Some(state)
}

/// A state with the network `testbr0`.
fn ready(test: &str) -> Option<State> {
    let state = state(test)?;
    state.good(&["network", "create", "testbr0", "ipv4.address=10.77.0.1/24", "ipv6.address=none"]);
    Some(state)
}

fn device(state: &State, words: &str) -> String {
    let words: Vec<&str> = ["config", "device"].into_iter().chain(words.split(' ')).collect();
    state.good(&words)
}

fn refused(state: &State, words: &str) -> String {
    let out = state.run(&words.split(' ').collect::<Vec<_>>());
    out.clean_failure().unwrap();
    assert_eq!(out.stderr.lines().filter(|l| l.starts_with("Error")).count(), 1, "{out}");
    out.stderr
}

fn volatile(state: &State, instance: &str, key: &str) -> String {
    state.good(&["config", "get", instance, &format!("volatile.{key}")]).trim().to_string()
}

/// One try, for what must not get through.
fn gets_through(state: &State, name: &str, to: &str) -> bool {
    state.try_sh(name, &format!("ping -c 1 -W 1 {to}")).ok()
}

/// What must get through may take a moment: a link that comes up tells of its carrier later, and a machine may be busy.
fn reaches(state: &State, name: &str, to: &str) -> bool {
    (0..10).any(|_| gets_through(state, name, to))
}

/// Gives the interface of `c1` another address, and waits until it is up.
fn set_mac(state: &State, mac: &str) {
    state.sh("c1", &format!("ip link set eth0 down; ip link set eth0 address {mac}; ip link set eth0 up"));
    state
        .sh("c1", "n=0; until grep -q up /sys/class/net/eth0/operstate || [ $n = 50 ]; do sleep 0.1; n=$((n+1)); done");
}

fn ports(state: &State) -> Vec<String> {
    let dir = std::fs::read_dir(state.path("run/networks/testbr0/ports")).into_iter().flatten();
    dir.map(|e| e.unwrap().file_name().into_string().unwrap()).collect()
}

fn dnsmasq(state: &State) -> usize {
    let ours = format!("--pid-file={}/", state.dir.display());
    host("ps -eo args").lines().filter(|l| l.contains(&ours)).count()
}

/// All that the host has of links and rules, and what the records say.
fn everything(state: &State) -> [String; 5] {
    let links = host("ip -o link").lines().map(|l| l.split(" qdisc").next().unwrap_or(l).to_string() + "\n").collect();
    let shown = |name: &str| state.run(&["config", "show", name]).stdout;
    let tag = stapes::ops::load::tag(&state.layout()).unwrap_or_default();
    let rules = host("nft list ruleset").replace(&format!("table bridge stapes-{tag} {{\n}}\n"), "");
    [links, rules, format!("{:?}", ports(state)), shown("c1"), shown("c2")]
}

#[test]
fn an_interface_comes_and_goes() {
    let Some(state) = ready("an_interface_comes_and_goes") else { return };
    state.launch("c1", &[]).good().unwrap();
    state.launch("c2", &["-n", "testbr0"]).good().unwrap();
    state.sh("c2", "ip addr add 10.77.0.12/24 dev eth0");
    state.good(&["network", "attach", "testbr0", "c1", "lan"]);
    let (mac, end) = (volatile(&state, "c1", "lan.hwaddr"), volatile(&state, "c1", "lan.host_name"));
    assert_eq!(volatile(&state, "c1", "lan.name"), "eth0");
    let inside = state.sh("c1", "ip -o link show eth0");
    assert!(inside.contains(&mac) && inside.contains("UP"), "{inside}");
    assert!(host(&format!("ip -o link show {end}")).contains("master testbr0"));
    state.sh("c1", "ip addr add 10.77.0.11/24 dev eth0");
    assert!(reaches(&state, "c1", "10.77.0.12") && reaches(&state, "c1", "10.77.0.1"));
    assert!(ports(&state).iter().any(|p| p == "default_c1.lan"));
    // A second one gets the next name; of a kind without a network.
    device(&state, "add c1 p2p nic nictype=p2p ipv4.routes=10.88.0.0/24");
    assert!(state.sh("c1", "ip -o link show eth1").contains("UP"));
    let p2p = volatile(&state, "c1", "p2p.host_name");
    assert!(host("ip route show").contains(&format!("10.88.0.0/24 dev {p2p}")));
    device(&state, "remove c1 p2p");
    assert!(!host("ip -br link").contains(&p2p) && !state.sh("c1", "ip -o link").contains("eth1"));
    assert_eq!(volatile(&state, "c1", "p2p.hwaddr"), "");
    // What is there lasts as long as one of a start: until the instance ends, or longer if it restarts.
    state.good(&["restart", "-f", "c1"]);
    assert!(state.sh("c1", "ip -o link show eth0").contains(&mac), "another address after a restart");
    state.good(&["delete", "-f", "c2"]);
    let end = volatile(&state, "c1", "lan.host_name");
    assert!(host("ip -br link").contains(&end));
    state.good(&["network", "detach", "testbr0", "c1"]);
    assert!(!host("ip -br link").contains(&end) && !state.sh("c1", "ip -o link").contains("eth0"));
    assert_eq!((ports(&state), dnsmasq(&state)), (Vec::new(), 0), "nobody is on the network any more");
    for key in ["lan.hwaddr", "lan.host_name", "lan.name"] {
        assert_eq!(volatile(&state, "c1", key), "");
    }
    // An instance that ends takes along what came while it ran.
    device(&state, "add c1 lan nic network=testbr0 security.mac_filtering=true");
    state.good(&["restart", "-f", "c1"]);
    assert!(host("nft list ruleset").contains("c1.lan"));
    device(&state, "remove c1 lan");
    assert!(!host("nft list ruleset").contains("c1.lan"), "rules of the start are left");
    device(&state, "add c1 lan nic network=testbr0 security.mac_filtering=true");
    let end = volatile(&state, "c1", "lan.host_name");
    state.good(&["stop", "-f", "c1"]);
    assert!(!host("ip -br link").contains(&end) && !host("nft list ruleset").contains("c1.lan"));
    assert_eq!((ports(&state), dnsmasq(&state)), (Vec::new(), 0));
    state.good(&["delete", "c1"]);
    state.good(&["network", "delete", "testbr0"]);
    state.finish();
}

#[test]
fn filters_count_at_once() {
    let Some(state) = ready("filters_count_at_once") else { return };
    state.launch("c1", &["-n", "testbr0"]).good().unwrap();
    state.launch("c2", &["-n", "testbr0"]).good().unwrap();
    state.sh("c1", "ip addr add 10.77.0.11/24 dev eth0; ip addr add 10.77.0.99/24 dev eth0");
    state.sh("c2", "ip addr add 10.77.0.12/24 dev eth0");
    let forged = |address: &str| state.try_sh("c1", &format!("ping -c 1 -W 1 -I {address} 10.77.0.12")).ok();
    let with_mac = |mac: &str| {
        set_mac(&state, mac);
        reaches(&state, "c1", "10.77.0.12")
    };
    let (own, other) = (volatile(&state, "c1", "eth0.hwaddr"), "10:66:6a:99:99:99");
    assert!(with_mac(other), "nothing filters yet");
    assert!(with_mac(&own));
    device(&state, "set c1 eth0 security.mac_filtering=true");
    assert!(forged("10.77.0.11"), "it is there still, with its address");
    set_mac(&state, other);
    assert!(!gets_through(&state, "c1", "10.77.0.12"), "a forged MAC address gets through");
    assert!(with_mac(&own) && forged("10.77.0.99"), "only MAC addresses are filtered");
    device(&state, "set c1 eth0 ipv4.address=10.77.0.11 security.ipv4_filtering=true");
    assert!(forged("10.77.0.11") && !forged("10.77.0.99"), "the address is its own, or not");
    let port = std::fs::read_to_string(state.path("run/networks/testbr0/ports/default_c1.eth0")).unwrap();
    assert!(port.contains("10.77.0.11"), "{port}");
    device(&state, "unset c1 eth0 security.ipv4_filtering");
    device(&state, "unset c1 eth0 security.mac_filtering");
    assert!(forged("10.77.0.99") && with_mac(other));
    assert!(!host("nft list ruleset").contains("c1.eth0"));
    // Neighbours that do not see each other, and a cable that is pulled.
    assert!(with_mac(&own));
    for name in ["c1", "c2"] {
        device(&state, &format!("set {name} eth0 security.port_isolation=true"));
    }
    assert!(!gets_through(&state, "c1", "10.77.0.12") && reaches(&state, "c1", "10.77.0.1"));
    device(&state, "unset c1 eth0 security.port_isolation");
    assert!(reaches(&state, "c1", "10.77.0.12"));
    device(&state, "set c1 eth0 connected=false");
    let carrier = || state.sh("c1", "cat /sys/class/net/eth0/carrier");
    assert!(carrier() == "0" && !gets_through(&state, "c1", "10.77.0.1"));
    state.good(&["restart", "-f", "c1"]);
    assert_eq!(carrier(), "0", "at the start as well");
    // It was its monitor that started it, whose files are nobody else's otherwise.
    for folder in ["ports", "names"] {
        let file = state.path(&format!("run/networks/testbr0/{folder}/default_c1.eth0"));
        let mode = std::fs::metadata(&file).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o644, "dnsmasq, which is nobody, cannot read {}", file.display());
    }
    device(&state, "set c1 eth0 connected=true ipv4.routes=10.89.0.0/24");
    assert_eq!(carrier(), "1");
    routes_lead_behind_it(&state);
    let end = volatile(&state, "c1", "eth0.host_name");
    // Out of its socket and in again, with what was chosen for it.
    device(&state, "set c1 eth0 attached=false");
    assert!(!host("ip -br link").contains(&end) && !state.sh("c1", "ip -o link").contains("eth0"));
    assert_eq!(
        (volatile(&state, "c1", "eth0.host_name").as_str(), volatile(&state, "c1", "eth0.hwaddr")),
        ("", own.clone())
    );
    device(&state, "unset c1 eth0 attached");
    assert!(state.sh("c1", "ip -o link show eth0").contains(&own));
    state.good(&["delete", "-f", "c1", "c2"]);
    state.good(&["network", "delete", "testbr0"]);
    state.finish();
}

/// The host reaches what is behind the interface of `c1`, as long as it is said and runs.
fn routes_lead_behind_it(state: &State) {
    let inside = "ip addr add 10.77.0.11/24 dev eth0; ip addr add 10.89.0.1/32 dev lo; ip addr add 10.90.0.1/32 dev lo";
    state.sh("c1", inside);
    let there = |address: &str| host_try(&format!("ping -c 1 -W 1 {address}")).is_ok();
    assert!(there("10.89.0.1") && !there("10.90.0.1"));
    device(state, "set c1 eth0 ipv4.routes= ipv4.routes.external=10.90.0.0/24 security.ipv4_filtering=true");
    assert!(there("10.90.0.1") && !there("10.89.0.1"));
    device(state, "unset c1 eth0 security.ipv4_filtering");
    // Without a fixed address, it is asked for on the bridge.
    device(state, "unset c1 eth0 ipv4.address");
    assert!(there("10.90.0.1"));
    // Somebody else's way there stays, and so does what was.
    host("ip route add 10.89.0.0/24 dev testbr0");
    refused(state, "config device set c1 eth0 ipv4.routes=10.89.0.0/24");
    assert!(host("ip route show").contains("10.89.0.0/24 dev testbr0") && there("10.90.0.1"));
    host("ip route del 10.89.0.0/24");
    state.good(&["stop", "-f", "c1"]);
    assert!(!host("ip route show").contains("10.90."));
    device(state, "set c1 eth0 ipv4.address=10.77.0.11");
    state.good(&["start", "c1"]);
    assert!(host("ip route show").contains("10.90.0.0/24 via 10.77.0.11 dev testbr0"));
}

#[test]
fn limits_count_at_once() {
    const NAME: &str = "limits_count_at_once";
    let Some(state) = ready(NAME) else { return };
    host("ip link add probe0 type veth peer name probe1");
    let probe = |words: &str| {
        Command::new("tc").args(words.split(' ')).stderr(Stdio::null()).status().is_ok_and(|s| s.success())
    };
    if !probe("qdisc add dev probe0 root fq_codel") || !probe("qdisc add dev probe0 ingress") {
        return skip(NAME, "the kernel lacks fq_codel");
    }
    state.launch("c1", &["-n", "testbr0"]).good().unwrap();
    let end = volatile(&state, "c1", "eth0.host_name");
    state.sh("c1", "ip addr add 10.77.0.11/24 dev eth0");
    device(&state, "set c1 eth0 limits.ingress=10Mbit");
    assert!(host(&format!("tc class show dev {end}")).contains("rate 10Mbit"));
    device(&state, "set c1 eth0 limits.ingress=20Mbit");
    assert!(host(&format!("tc class show dev {end}")).contains("rate 20Mbit"));
    assert!(reaches(&state, "c1", "10.77.0.1"), "it has its address still");
    device(&state, "unset c1 eth0 limits.ingress");
    assert_eq!(host(&format!("tc class show dev {end}")), "");
    state.good(&["delete", "-f", "c1"]);
    state.good(&["network", "delete", "testbr0"]);
    state.finish();
}

/// One of the host's: it is given back as it was, whoever ends what.
#[test]
fn an_interface_of_the_host_comes_back() {
    let Some(state) = ready("an_interface_of_the_host_comes_back") else { return };
    host("ip link add phys0 type veth peer name phys1");
    host("ip link set phys0 mtu 1400 address 10:66:6a:00:00:77 up");
    let is_back = || {
        let there = host("ip -o link");
        there.lines().find(|l| l.contains(" phys0@")).is_some_and(|l| {
            l.contains("10:66:6a:00:00:77") && l.contains("mtu 1400") && l.contains("UP") && !l.contains("testbr0")
        })
    };
    let add = || {
        device(&state, "add c1 phys nic nictype=physical parent=phys0 name=real0 hwaddr=10:66:6a:00:00:78 mtu=1300");
        let inside = state.sh("c1", "ip -o link show real0");
        assert!(inside.contains("10:66:6a:00:00:78") && inside.contains("mtu 1300"), "{inside}");
        assert!(!host("ip -o link").contains(" phys0@"), "the host has it still");
    };
    state.launch("c1", &[]).good().unwrap();
    add();
    let said = refused(&state, "config device add c1 again nic nictype=physical parent=phys0");
    assert!(said.contains("Network interface \"phys0\" not found"), "{said}");
    // Whatever it is called by then.
    state.sh("c1", "ip link set real0 down; ip link set real0 name own0");
    device(&state, "remove c1 phys");
    assert!(is_back(), "{}", host("ip -o link"));
    add();
    state.good(&["stop", "-f", "c1"]);
    assert!(is_back(), "{}", host("ip -o link"));
    // There from the start, and taken out.
    state.good(&["start", "c1"]);
    assert!(state.sh("c1", "ip -o link").contains("real0"));
    device(&state, "set c1 phys attached=false");
    assert!(is_back(), "{}", host("ip -o link"));
    device(&state, "set c1 phys attached=true");
    assert!(!host("ip -o link").contains(" phys0@"));
    state.good(&["restart", "-f", "c1"]);
    assert!(state.sh("c1", "ip -o link").contains("real0"), "it is lent again");
    // By itself, from inside.
    state.try_sh("c1", "kill -PWR 1");
    state.wait_status("c1", Some("STOPPED"));
    assert!(is_back(), "{}", host("ip -o link"));
    state.good(&["delete", "-f", "c1"]);
    state.good(&["network", "delete", "testbr0"]);
    state.finish();
}

#[test]
fn a_profile_reaches_all_or_none() {
    let Some(state) = ready_for_two("a_profile_reaches_all_or_none") else { return };
    for name in ["c1", "c2"] {
        state.launch(name, &[]).good().unwrap();
    }
    state.good(&["create", "test", "c3"]);
    state.good(&["network", "attach-profile", "testbr0", "default", "lan", "lan0"]);
    for (name, address) in [("c1", "10.77.0.11"), ("c2", "10.77.0.12")] {
        state.sh(name, &format!("ip addr add {address}/24 dev lan0"));
    }
    assert!(reaches(&state, "c1", "10.77.0.12"));
    assert_ne!(volatile(&state, "c1", "lan.hwaddr"), volatile(&state, "c2", "lan.hwaddr"));
    assert!(volatile(&state, "c3", "lan.hwaddr").starts_with("10:66:6a:"), "chosen although it does not run");
    assert_eq!(volatile(&state, "c3", "lan.host_name"), "");
    // One of them has something in the way: nothing changes, in neither.
    state.sh("c2", "ip link add mine0 type veth peer name mine1");
    let before = everything(&state);
    let profile = state.good(&["profile", "show", "default"]);
    let said = refused(&state, "profile device add default more nic network=testbr0 name=mine0");
    assert!(said.contains("Instance \"c2\"") && said.contains("\"mine0\" already exists in the instance"), "{said}");
    assert_eq!(everything(&state), before);
    assert_eq!(state.good(&["profile", "show", "default"]), profile);
    assert!(!state.sh("c1", "ip -o link").contains("mine0"));
    assert!(reaches(&state, "c1", "10.77.0.12"));
    // Masked in one, it goes there alone; then everywhere.
    device(&state, "override c1 lan name=lan1");
    assert!(state.sh("c1", "ip -o link show lan1").contains(&volatile(&state, "c1", "lan.hwaddr")));
    device(&state, "remove c1 lan");
    device(&state, "add c1 lan none");
    assert!(!state.sh("c1", "ip -o link").contains("lan") && state.sh("c2", "ip -o link").contains("lan0"));
    device(&state, "remove c1 lan");
    assert!(state.sh("c1", "ip -o link").contains("lan0"));
    state.good(&["network", "detach-profile", "testbr0", "default"]);
    for name in ["c1", "c2"] {
        assert!(!state.sh(name, "ip -o link").contains("lan0"));
    }
    assert_eq!((ports(&state), dnsmasq(&state)), (Vec::new(), 0));
    // By assignment.
    state.good(&["profile", "create", "net"]);
    state.good(&["network", "attach-profile", "testbr0", "net", "eth0"]);
    state.good(&["profile", "assign", "c1", "default", "net"]);
    assert!(state.sh("c1", "ip -o link").contains("eth0"));
    state.good(&["profile", "remove", "c1", "net"]);
    assert!(!state.sh("c1", "ip -o link").contains("eth0"));
    state.good(&["delete", "-f", "c1", "c2", "c3"]);
    state.good(&["profile", "delete", "net"]);
    state.good(&["network", "delete", "testbr0"]);
    state.finish();
}

#[test]
fn what_cannot_be_plugged_in_changes_nothing() {
    let Some(state) = ready_for_two("what_cannot_be_plugged_in_changes_nothing") else { return };
    state.launch("c1", &["-n", "testbr0"]).good().unwrap();
    state.good(&["create", "test", "c2", "-n", "testbr0"]);
    device(&state, "set c2 eth0 ipv4.address=10.77.0.12 hwaddr=10:66:6a:00:00:12");
    state.sh("c1", "ip link add mine0 type veth peer name mine1");
    state.good(&["config", "set", "c1", "user.x=1"]);
    let before = everything(&state);
    for (words, said) in [
        ("config device add c1 eth0 nic network=testbr0", "The device already exists"),
        ("config device add c1 more nic network=testbr0 name=eth0", "Duplicate NIC name detected \"eth0\""),
        ("config device add c1 more nic network=testbr0 name=mine0", "\"mine0\" already exists in the instance"),
        ("config device add c1 more nic nictype=macvlan parent=nowhere0", "Network interface \"nowhere0\" not found"),
        ("config device add c1 more nic nictype=bridged parent=nowhere0", "Network interface \"nowhere0\" not found"),
        ("config device add c1 more nic network=nowhere0", "Network not found"),
        ("config device add c1 more nic network=testbr0 ipv4.address=10.77.0.12", "already defined on another NIC"),
        ("config device add c1 more nic network=testbr0 hwaddr=10:66:6A:00:00:12", "already defined on another NIC"),
        ("config device set c1 eth0 ipv4.address=10.77.0.12", "already defined on another NIC"),
        ("config device set c1 eth0 ipv4.address=10.78.0.1", "not within network"),
        (
            "config device add c1 more nic nictype=sriov parent=testbr0",
            "Parent device \"testbr0\" doesn't support SR-IOV",
        ),
        (
            "config device add c1 d unix-char source=/dev/null path=/dev/x",
            "Failed to start device \"d\": The root disk of a running instance",
        ),
    ] {
        let out = refused(&state, words);
        assert!(out.contains(said), "{words}: {out}");
        assert_eq!(everything(&state), before, "{words}");
    }
    state.good(&["delete", "-f", "c1", "c2"]);
    state.good(&["network", "delete", "testbr0"]);
    state.finish();
}

/// A network that has names for instances has one for each, so there is one interface of it, as in Incus.
#[test]
fn one_name_on_a_network() {
    let Some(state) = ready("one_name_on_a_network") else { return };
    state.launch("c1", &["-n", "testbr0"]).good().unwrap();
    let before = everything(&state);
    let said = refused(&state, "config device add c1 more nic network=testbr0");
    let words =
        "Instance DNS name \"c1\" conflict between \"more\" and \"eth0\" because both are connected to same network";
    assert!(said.contains("Device validation failed for \"more\"") && said.contains(words), "{said}");
    assert_eq!(everything(&state), before);
    // Another of the same name, written otherwise.
    let said = refused(&state, "create test C1 -n testbr0");
    assert!(said.contains("Instance DNS name \"c1\" already used on network"), "{said}");
    assert_eq!(everything(&state), before);
    // Where there are no names, or another network, it may.
    state.good(&["network", "create", "testbr1", "ipv4.address=10.78.0.1/24", "ipv6.address=none"]);
    device(&state, "add c1 more nic network=testbr1");
    device(&state, "remove c1 more");
    state.good(&["network", "set", "testbr0", "dns.mode=none"]);
    device(&state, "add c1 more nic network=testbr0");
    assert!(state.sh("c1", "ip -o link").contains("eth1"));
    state.good(&["delete", "-f", "c1"]);
    state.good(&["network", "delete", "testbr0"]);
    state.good(&["network", "delete", "testbr1"]);
    state.finish();
}

/// Chosen once, with the instance or the device.
#[test]
fn addresses_are_chosen_when_devices_come_to_be() {
    let Some(state) = ready_for_two("addresses_are_chosen_when_devices_come_to_be") else { return };
    host("ip link add phys0 type veth peer name phys1");
    state.good(&["create", "test", "c1", "-n", "testbr0"]);
    let first = volatile(&state, "c1", "eth0.hwaddr");
    assert!(first.starts_with("10:66:6a:"), "{first}");
    device(&state, "add c1 more nic network=testbr0");
    let more = volatile(&state, "c1", "more.hwaddr");
    assert!(more.starts_with("10:66:6a:") && more != first);
    assert_eq!(volatile(&state, "c1", "more.name"), "eth1");
    device(&state, "add c1 phys nic nictype=physical parent=phys0");
    assert_eq!(volatile(&state, "c1", "phys.hwaddr"), "");
    state.good(&["rename", "c1", "c2"]);
    state.good(&["start", "c2"]);
    assert!(state.sh("c2", "ip -o link show eth0").contains(&first));
    state.good(&["stop", "-f", "c2"]);
    assert_eq!(volatile(&state, "c2", "eth0.hwaddr"), first);
    device(&state, "set c2 eth0 hwaddr=10:66:6a:00:00:01");
    assert_eq!(volatile(&state, "c2", "eth0.hwaddr"), "");
    device(&state, "unset c2 eth0 hwaddr");
    assert!(volatile(&state, "c2", "eth0.hwaddr").starts_with("10:66:6a:"));
    device(&state, "remove c2 more");
    assert_eq!(
        (volatile(&state, "c2", "more.hwaddr"), volatile(&state, "c2", "more.name")),
        (String::new(), String::new())
    );
    state.good(&["delete", "c2"]);
    state.good(&["network", "delete", "testbr0"]);
    state.finish();
}

/// Whoever comes first: a network that is deleted is not used, and one that is used is not deleted.
#[test]
fn deleted_or_used() {
    let Some(state) = ready("deleted_or_used") else { return };
    state.launch("c1", &[]).good().unwrap();
    state.good(&["create", "test", "c2", "-n", "testbr0"]);
    for round in 0..6 {
        if round > 0 {
            state.good(&["network", "create", "race0", "ipv4.address=10.79.0.1/24", "ipv6.address=none"]);
        } else {
            state.good(&["network", "create", "race0", "ipv4.address=none", "ipv6.address=none"]);
        }
        let mut add = state.command(&["config", "device", "add", "c1", "lan", "nic", "network=race0"]);
        let mut add = add.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let mut start = state.command(&["start", "c2"]);
        let mut start = start.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(std::time::Duration::from_millis(round * 15));
        let deleted = state.run(&["network", "delete", "race0"]);
        let set = state.run(&["network", "set", "testbr0", &format!("ipv4.dhcp.ranges=10.77.0.10-10.77.0.2{round}")]);
        set.good().unwrap();
        let added = add.wait().unwrap().success();
        assert!(start.wait().unwrap().success());
        assert_ne!(added, deleted.ok(), "{deleted}");
        let inside = state.sh("c1", "ip -o link").contains("eth0");
        assert_eq!(inside, added);
        state.doctor().unwrap();
        state.good(&["stop", "-f", "c2"]);
        if added {
            device(&state, "remove c1 lan");
            state.good(&["network", "delete", "race0"]);
        }
        assert!(!host("ip -br link").contains("race0"));
    }
    assert_eq!(ports(&state), Vec::<String>::new());
    state.good(&["delete", "-f", "c1", "c2"]);
    state.good(&["network", "delete", "testbr0"]);
    state.finish();
}
