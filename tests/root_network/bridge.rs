//! Instances on a managed bridge: what they reach, and what is left when they have gone.

use crate::common_root::State;
use crate::support::{Ask, state};
use crate::world::{HOST, OUTSIDE, World, host};

/// The end on the host of an instance's interface.
fn host_name(state: &State, instance: &str, device: &str) -> String {
    state.good(&["config", "get", instance, &format!("volatile.{device}.host_name")]).trim().to_string()
}

#[test]
fn out_into_the_world_behind_the_hosts_address() {
    let Some(state) = state("out_into_the_world_behind_the_hosts_address") else { return };
    let world = World::new(&state);
    state.good(&["network", "create", "testbr0", "ipv4.address=10.77.0.1/24", "ipv6.address=none"]);
    for (name, address) in [("c1", "10.77.0.11"), ("c2", "10.77.0.12")] {
        state.launch(name, &["-n", "testbr0"]).good().unwrap();
        state.sh(name, &format!("ip addr add {address}/24 dev eth0; ip route add default via 10.77.0.1"));
    }
    state.sh("c1", "ping -c 1 -W 5 10.77.0.1 && ping -c 1 -W 5 10.77.0.12");
    assert_eq!(state.sh("c1", &format!("wget -qO- http://{OUTSIDE}/cgi-bin/who")), format!("seen as {HOST}"));
    // Not routed at all: not out, and the other one still is reached.
    state.good(&["network", "set", "testbr0", "ipv4.routing=false"]);
    assert!(!state.run(&["exec", "c1", "--", "wget", "-T", "2", "-qO-", &format!("http://{OUTSIDE}/")]).ok());
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
    // What would not be heeded is refused, and so is what is not there.
    for (option, said) in [("security.acls=x", "security.acls"), ("parent=nowhere0", "nowhere0")] {
        state.good(&["config", "device", "set", "c1", "mac", option.split('=').next().map(|_| option).unwrap()]);
        let out = state.run(&["start", "c1"]);
        out.clean_failure().unwrap();
        assert!(out.stderr.contains(said), "{out}");
        state.good(&["config", "device", "set", "c1", "mac", "parent=low0"]);
    }
    state.good(&["delete", "-f", "c1"]);
    state.good(&["network", "delete", "testbr0"]);
    state.finish();
}
