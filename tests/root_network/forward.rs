//! Network forwards: packets to an address of the host really reach the instances, from everywhere.

use crate::common_root::{State, on, run};
use crate::support::{Ask, state};
use crate::world::{HOST, World, echo_once, get, host, inside};
use std::time::Duration;

const HOST6: &str = "2001:db8:113::1";

/// Two instances with a web server that says its name at ports 80 and 9000 to 9002.
fn served(test: &str) -> Option<(State, World)> {
    let state = state(test)?;
    let world = World::new(&state);
    host(&format!("ip addr add {HOST6}/64 dev up0 nodad"));
    world.outside(|| host("ip addr add 2001:db8:113::2/64 dev out0 nodad"));
    state.good(&["network", "create", "testbr0", "ipv4.address=10.77.0.1/24", "ipv6.address=fd42:77::1/64"]);
    for (name, last) in [("c1", 11), ("c2", 12)] {
        state.launch(name, &["-n", "testbr0"]).good().unwrap();
        let setup = format!(
            "ip addr add 10.77.0.{last}/24 dev eth0; ip addr add 10.77.0.{last}0/24 dev eth0; ip route add default via 10.77.0.1; mkdir /www; echo {name} > /www/name
             echo 0 > /proc/sys/net/ipv6/conf/eth0/accept_dad; ip addr add fd42:77::{last}/64 dev eth0
             ip -6 route add default via fd42:77::1
             for p in 80 9000 9001 9002; do httpd -p $p -h /www; done"
        );
        state.sh(name, &setup);
    }
    Some((state, world))
}

#[test]
fn from_outside_from_the_host_and_from_the_network_itself() {
    let Some((state, world)) = served("from_outside_from_the_host_and_from_the_network_itself") else { return };
    let forward = |words: &str| {
        let words: Vec<&str> = ["network", "forward"].into_iter().chain(words.split(' ')).collect();
        state.good(&words)
    };
    assert_eq!(forward(&format!("create testbr0 {HOST}")), format!("Network forward {HOST} created\n"));
    assert_eq!(world.get(HOST, 8000), "");
    forward(&format!("port add testbr0 {HOST} tcp 8000 10.77.0.11 80"));
    forward(&format!("port add testbr0 {HOST} tcp 9000-9002 10.77.0.12 --description range"));
    forward(&format!("port add testbr0 {HOST} udp 5000 10.77.0.12"));
    assert_eq!(world.get(HOST, 8000), "c1");
    for port in 9000..=9002 {
        assert_eq!(world.get(HOST, port), "c2");
    }
    assert_eq!(get(HOST, 8000), "c1", "the host itself");
    for name in ["c1", "c2"] {
        assert_eq!(inside(&state, name, || get(HOST, 8000)), "c1", "{name}");
        assert_eq!(inside(&state, name, || get(HOST, 9001)), "c2", "{name}");
    }
    let echo = echo_once(inside(&state, "c2", || std::net::UdpSocket::bind("0.0.0.0:5000").unwrap()));
    let socket = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    socket.connect((HOST, 5000)).unwrap();
    socket.send(b"hello").unwrap();
    let mut answer = [0; 64];
    let n = on(|| socket.recv(&mut answer)).unwrap();
    assert_eq!(&answer[..n], b"hello");
    echo.join().unwrap();
    // All that no port is for; IPv6; a change of a port, which counts at once.
    forward(&format!("set testbr0 {HOST} target_address=10.77.0.120"));
    assert_eq!(world.get(HOST, 80), "c2");
    forward(&format!("unset testbr0 {HOST} target_address"));
    assert_eq!(world.get(HOST, 80), "");
    forward(&format!("create testbr0 {HOST6} target_address=fd42:77::11"));
    forward(&format!("port add testbr0 {HOST6} tcp 81,82 fd42:77::12 80,9001"));
    assert_eq!(world.get(HOST6, 80), "c1");
    assert_eq!(world.get(HOST6, 82), "c2");
    assert_eq!(inside(&state, "c1", || get(HOST6, 80)), "c1");
    let out = state.run(&["network", "forward", "port", "remove", "testbr0", HOST]);
    out.clean_failure().unwrap();
    assert!(out.stderr.contains("Multiple ports match. Use --force to remove them all"), "{out}");
    forward(&format!("port remove testbr0 {HOST} tcp 8000"));
    assert_eq!(world.get(HOST, 8000), "");
    assert_eq!(world.get(HOST, 9000), "c2");
    // They come back with the network, wherever its rules have gone meanwhile.
    let table = host("nft list tables").lines().find(|l| l.contains("inet stapes")).unwrap().to_string();
    state.good(&["stop", "-f", "c1", "c2"]);
    host("ip link del testbr0");
    host(&format!("nft delete {table}"));
    state.good(&["start", "c1"]);
    assert!(host("nft list ruleset").contains("chain fwdprert.testbr0"));
    assert_eq!(forward(&format!("delete testbr0 {HOST}")), format!("Network forward {HOST} deleted\n"));
    assert_eq!(forward("list testbr0 -f csv"), format!("{HOST6},,fd42:77::11,1\n"));
    assert!(!host("nft list ruleset").contains(HOST));
    state.good(&["delete", "-f", "c1", "c2"]);
    state.good(&["network", "delete", "testbr0"]);
    assert!(!host("nft list ruleset").contains("fwdprert"));
    state.good(&["network", "create", "testbr0"]);
    assert_eq!(forward("list testbr0 -f csv"), "", "they go with their network");
    state.good(&["network", "delete", "testbr0"]);
    drop(world);
    state.finish();
}

/// The address of a forward counts among those in use.
#[test]
fn forwards_are_allocations() {
    let Some(state) = state("forwards_are_allocations") else { return };
    state.good(&["network", "create", "testbr0", "ipv4.address=10.77.0.1/24", "ipv6.address=none"]);
    for listen in ["192.0.2.1", "2001:db8::1"] {
        state.good(&["network", "forward", "create", "testbr0", listen]);
    }
    let listed = || state.good(&["network", "list-allocations", "-f", "csv"]);
    let rows = [("192.0.2.1", "192.0.2.1/32"), ("2001:db8::1", "2001:db8::1/128")]
        .map(|(listen, net)| format!("/1.0/networks/testbr0/forwards/{listen},{net},testbr0,network-forward,NO,"));
    for row in &rows {
        assert!(listed().lines().any(|l| l == row), "{row}: {}", listed());
    }
    state.good(&["network", "forward", "delete", "testbr0", "192.0.2.1"]);
    assert!(!listed().contains(&rows[0]) && listed().contains(&rows[1]));
    state.good(&["network", "delete", "testbr0"]);
    state.finish();
}

#[test]
fn forwards_as_objects() {
    let Some(state) = state("forwards_as_objects") else { return };
    state.good(&["network", "create", "testbr0", "ipv4.address=10.77.0.1/24", "ipv6.address=none"]);
    state.good(&["network", "create", "testbr1", "ipv4.address=10.79.0.1/24", "ipv6.address=none"]);
    let document = "description: web\nconfig:\n  user.x: \"1\"\nports:\n- protocol: tcp\n  listen_port: 80, 90-91\n  target_address: 10.77.0.11\n";
    let create = state.command(&["network", "forward", "create", "testbr0", "192.0.2.1", "target_address=10.77.0.12"]);
    run(create, Some(document), Duration::from_secs(20)).good().unwrap();
    let shown = state.good(&["network", "forward", "show", "testbr0", "192.0.2.1"]);
    assert_eq!(
        shown,
        "description: web\nconfig:\n  target_address: 10.77.0.12\n  user.x: \"1\"\nports:\n- description: \"\"\n  protocol: tcp\n  \
         listen_port: 80,90-91\n  target_port: \"\"\n  target_address: 10.77.0.11\n  snat: false\nlisten_address: 192.0.2.1\nlocation: none\n"
    );
    let edited = shown.replace("description: web", "description: shop").replace("90-91", "90");
    let edit = state.command(&["network", "forward", "edit", "testbr0", "192.0.2.1"]);
    run(edit, Some(&edited), Duration::from_secs(20)).good().unwrap();
    let get = |key: &str| state.good(&["network", "forward", "get", "testbr0", "192.0.2.1", key]);
    assert_eq!(get("user.x"), "1\n");
    assert_eq!(state.good(&["network", "forward", "get", "-p", "testbr0", "192.0.2.1", "description"]), "shop\n");
    let before = (state.good(&["network", "forward", "list", "testbr0", "-f", "yaml"]), host("nft list ruleset"));
    for (words, said) in [
        ("create testbr0 192.0.2.1", "A forward for that listen address already exists"),
        ("create testbr1 192.0.2.1", "overlaps with another network or NIC"),
        ("create testbr0 10.79.0.9", "Forward listen address \"10.79.0.9/32\" overlaps with another network or NIC"),
        ("create testbr0 nonsense", "Failed parsing \"nonsense\""),
        ("create testbr0 0.0.0.0", "Cannot use unspecified address"),
        (
            "create testbr0 192.0.2.2 target_address=10.79.0.2",
            "Default target address is not within the network subnet",
        ),
        ("create testbr0 192.0.2.2 colour=red", "Invalid config option \"colour\""),
        ("create nowhere0 192.0.2.2", "Network not found"),
        ("show testbr0 192.0.2.9", "Network forward not found"),
        ("delete testbr0 192.0.2.9", "Network forward not found"),
        ("port add testbr0 192.0.2.1 tcp 70-95 10.77.0.13", "Duplicate listen port 80 for protocol \"tcp\""),
        ("port add testbr0 192.0.2.1 sctp 1 10.77.0.13", "protocol must be one of: tcp, udp"),
        ("port add testbr0 192.0.2.1 tcp 0 10.77.0.13", "Invalid listen port"),
        ("port add testbr0 192.0.2.1 tcp 1-3 10.77.0.13 1-2", "Mismatch of listen port(s) and target port(s) count"),
        ("port add testbr0 192.0.2.1 tcp 1 10.77.0.12", "Target address is same as default target address"),
        ("port add testbr0 192.0.2.1 tcp 1 10.77.0.255", "broadcast"),
        ("port remove testbr0 192.0.2.1 udp", "No matching port(s) found"),
        ("list lo", "Network not found"),
    ] {
        let words: Vec<&str> = ["network", "forward"].into_iter().chain(words.split(' ')).collect();
        let out = state.run(&words);
        out.clean_failure().unwrap();
        assert!(out.stderr.contains(said), "{words:?}: {out}");
    }
    let after = (state.good(&["network", "forward", "list", "testbr0", "-f", "yaml"]), host("nft list ruleset"));
    assert_eq!(before, after);
    state.good(&["network", "forward", "port", "remove", "testbr0", "192.0.2.1", "--force"]);
    state.good(&["network", "delete", "testbr0", "testbr1"]);
    state.finish();
}
