//! Instances on a managed bridge: what they reach, and what is left when they have gone.

use crate::common_root::State;
use crate::support::{Ask, state};
use crate::world::{HOST, OUTSIDE, World, host, inside};
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// The end on the host of an instance's interface.
fn host_name(state: &State, instance: &str, device: &str) -> String {
    state.good(&["config", "get", instance, &format!("volatile.{device}.host_name")]).trim().to_string()
}

#[test]
fn out_into_the_world_behind_the_hosts_address() {
    let Some(state) = state("out_into_the_world_behind_the_hosts_address") else { return };
    let world = World::new(&state);
    state.good(&["network", "create", "testbr0", "ipv4.address=10.77.0.1/24", "ipv4.nat=true", "ipv6.address=none"]);
    for (name, address) in [("c1", "10.77.0.11"), ("c2", "10.77.0.12")] {
        state.launch(name, &["-n", "testbr0"]).good().unwrap();
        state.sh(name, &format!("ip addr add {address}/24 dev eth0; ip route add default via 10.77.0.1"));
    }
    state.sh("c1", "ping -c 1 -W 5 10.77.0.1 && ping -c 1 -W 5 10.77.0.12");
    assert_eq!(state.sh("c1", &format!("wget -qO- http://{OUTSIDE}/cgi-bin/who")), format!("seen as {HOST}"));
    // Not routed at all: not out, and the other one still is reached.
    let out = || {
        let to = SocketAddr::new(OUTSIDE.parse().unwrap(), 80);
        inside(&state, "c1", || TcpStream::connect_timeout(&to, Duration::from_secs(2))).map(drop)
    };
    out().unwrap();
    state.good(&["network", "set", "testbr0", "ipv4.routing=false"]);
    let refused = out().unwrap_err();
    assert!(matches!(refused.kind(), ErrorKind::TimedOut | ErrorKind::HostUnreachable), "{refused}");
    state.sh("c1", "ping -c 1 -W 5 10.77.0.12");
    let end = host_name(&state, "c1", "eth0");
    assert!(host("ip -br link").contains(&end));
    state.good(&["stop", "-f", "c1"]);
    assert!(!host("ip -br link").contains(&end), "the host still has it");
    assert_eq!(host_name(&state, "c1", "eth0"), "");
    state.good(&["delete", "-f", "c1", "c2"]);
    state.good(&["network", "delete", "testbr0"]);
    assert!(!host("nft list ruleset").contains("testbr0"));
    drop(world);
    state.finish();
}

#[test]
fn interfaces_are_what_their_devices_say() {
    let Some(state) = state("interfaces_are_what_their_devices_say") else { return };
    host("ip link add low0 type veth peer name low1");
    host("ip link add phys0 type veth peer name phys1");
    state.good(&["network", "create", "testbr0", "bridge.mtu=1400"]);
    state.good(&["create", "test", "c1"]);
    for device in [
        "eth0 nic network=testbr0 hwaddr=10:66:6a:01:02:03 host_name=mine0 name=lan0",
        "p2p nic nictype=p2p ipv4.routes=10.88.0.0/24 mtu=1300",
        "mac nic nictype=macvlan parent=low0",
        "phys nic nictype=physical parent=phys0 name=real0",
    ] {
        let words: Vec<&str> = ["config", "device", "add", "c1"].into_iter().chain(device.split(' ')).collect();
        state.good(&words);
    }
    state.good(&["start", "c1"]);
    let inside = state.sh("c1", "ip -o link");
    for (name, what) in [("lan0", "mtu 1400"), ("lan0", "10:66:6a:01:02:03"), ("eth1", "UP"), ("real0", "UP")] {
        let line =
            inside.lines().find(|l| l.contains(&format!(" {name}"))).unwrap_or_else(|| panic!("no {name}: {inside}"));
        assert!(line.contains(what), "{line}");
    }
    assert!(host("ip -o link show mine0").contains("master testbr0"));
    let p2p = host_name(&state, "c1", "p2p");
    assert!(host("ip route show").contains(&format!("10.88.0.0/24 dev {p2p}")));
    assert!(!host("ip -br link").contains("phys0"), "it is the instance's now");
    // A reboot takes them along, with what was settled before.
    let hwaddr = state.good(&["config", "get", "c1", "volatile.mac.hwaddr"]);
    state.good(&["restart", "-f", "c1"]);
    assert_eq!(state.good(&["config", "get", "c1", "volatile.mac.hwaddr"]), hwaddr);
    assert!(state.sh("c1", "ip -o link").contains(hwaddr.trim()));
    state.good(&["stop", "-f", "c1"]);
    for name in ["low0", "phys0"] {
        assert!(host("ip -br link").contains(name), "{name} did not come back");
    }
    // What is not there is refused.
    state.good(&["config", "device", "set", "c1", "mac", "parent=nowhere0"]);
    let out = state.run(&["start", "c1"]);
    out.clean_failure().unwrap();
    assert!(out.stderr.contains("nowhere0"), "{out}");
    state.good(&["delete", "-f", "c1"]);
    state.good(&["network", "delete", "testbr0"]);
    state.finish();
}

/// Addresses, names and the rest come from dnsmasq, which is there as long as somebody is on the network.
#[test]
fn addresses_and_names_by_dnsmasq() {
    let Some(state) = state("addresses_and_names_by_dnsmasq") else { return };
    if !crate::common_root::have("dnsmasq") {
        return crate::common_root::skip("addresses_and_names_by_dnsmasq", "no dnsmasq");
    }
    state.good(&["network", "create", "testbr0", "ipv4.address=10.77.0.1/24", "dns.domain=lab"]);
    let ours = format!("--pid-file={}/", state.dir.display());
    let dnsmasq = || -> Vec<String> {
        host("ps -eo pid,user,args").lines().filter(|l| l.contains(&ours)).map(str::to_string).collect()
    };
    assert_eq!(dnsmasq(), Vec::<String>::new());
    state.launch("c1", &["-n", "testbr0"]).good().unwrap();
    let process = dnsmasq();
    assert_eq!(process.len(), 1, "{process:?}");
    assert!(!process[0].contains(" root "), "{process:?}");
    state.good(&["create", "test", "c2", "-n", "testbr0"]);
    state.good(&["config", "device", "set", "c2", "eth0", "ipv4.address=10.77.0.77"]);
    state.good(&["start", "c2"]);
    let lease = "cat > /bin/lease <<'END'\n#!/bin/sh\n[ \"$1\" = bound ] || exit 0\nip addr add $ip/$mask dev $interface\n\
                 ip route add default via $router\nprintf 'search %s\\nnameserver %s\\n' $domain $dns > /etc/resolv.conf\nEND\n\
                 chmod 755 /bin/lease; udhcpc -i eth0 -n -q -t 10 -s /bin/lease";
    for name in ["c1", "c2"] {
        state.sh(name, lease);
    }
    assert!(state.sh("c2", "ip addr show dev eth0").contains("inet 10.77.0.77/24"));
    assert!(state.sh("c1", "nslookup c2.lab").contains("10.77.0.77"));
    state.sh("c1", "ping -c 1 -W 5 c2.lab; ping -c 1 -W 5 _gateway.lab");
    assert!(state.good(&["list", "-f", "csv", "-c", "n4"]).contains("c2,10.77.0.77 (eth0)"));
    let leases = state.good(&["network", "list-leases", "testbr0", "-f", "csv"]);
    for row in ["testbr0.gw,,10.77.0.1,GATEWAY", ",10.77.0.77,STATIC"] {
        assert!(leases.contains(row), "{leases}");
    }
    assert!(leases.lines().any(|l| l.starts_with("c1,10:66:6a:") && l.ends_with(",DYNAMIC")), "{leases}");
    // It died: the next one to come finds another.
    let pid = process[0].split_whitespace().next().unwrap().to_string();
    host(&format!("kill -9 {pid}"));
    state.good(&["restart", "-f", "c2"]);
    let again = dnsmasq();
    assert!(again.len() == 1 && again != process, "{again:?}");
    // A change of its configuration counts at once; another one does not end it.
    state.good(&["network", "set", "testbr0", "user.x=1"]);
    assert_eq!(dnsmasq(), again);
    state.good(&["network", "set", "testbr0", "ipv4.dhcp.ranges=10.77.0.200-10.77.0.210"]);
    assert_ne!(dnsmasq(), again);
    state.sh("c1", &format!("ip addr flush dev eth0; {lease}"));
    assert!(state.sh("c1", "ip addr show dev eth0").contains("inet 10.77.0.2"));
    state.good(&["stop", "-f", "c1"]);
    assert_eq!(dnsmasq().len(), 1);
    state.good(&["stop", "-f", "c2"]);
    assert_eq!(dnsmasq(), Vec::<String>::new(), "nobody is on the network any more");
    state.good(&["delete", "c1", "c2"]);
    state.good(&["network", "delete", "testbr0"]);
    state.finish();
}
