//! Networks that stand for an interface of the host, and interfaces of the host that are passed on.

use crate::common_root::{skip, with_the_network};
use crate::support::{Ask, state};
use crate::types::{add_device, kernel_has, refused};
use crate::world::host;

/// `network=` in place of `nictype` and `parent`.
#[test]
fn networks_that_stand_for_an_interface() {
    let test = "networks_that_stand_for_an_interface";
    let Some(state) = state(test) else { return };
    for name in ["low", "phys"] {
        host(&format!("ip link add {name}0 type veth peer name {name}1"));
        host(&format!("ip link set {name}1 up"));
    }
    state.good(&["network", "create", "macnet", "--type=macvlan", "parent=low0", "mtu=1400"]);
    state.good(&["network", "create", "physnet", "--type=physical", "parent=phys0"]);
    assert!(state.good(&["network", "list", "-f", "csv"]).contains("macnet,macvlan,YES"));
    // What it stands for is what is there.
    let link = host("ip -o link show low0");
    let mac = link.split("link/ether ").nth(1).and_then(|rest| rest.split(' ').next()).unwrap();
    let info = state.good(&["network", "info", "macnet"]);
    assert!(info.contains("Name: macnet\n") && info.contains(mac), "{info}");
    state.launch("c1", &["-n", "macnet"]).good().unwrap();
    state.launch("c2", &["-n", "physnet"]).good().unwrap();
    let inside = state.sh("c1", "ip -o link show eth0");
    assert!(inside.contains("mtu 1400"), "{inside}");
    state.sh("c2", "ip -o link show eth0");
    assert!(!host("ip -br link").contains("phys0@"), "it is the instance's now");
    for (words, said) in [
        ("network rename physnet othernet", "Network is currently in use"),
        ("network delete macnet", "The network is currently in use"),
        ("network set macnet parent=phys1", "Cannot update \"parent\" when the network is in use"),
        ("network create badnet --type=macvlan", "Required value"),
        ("network create badnet --type=macvlan parent=low0 vlan=5000", "vlan"),
        ("config device set c1 eth0 parent=low0", "parent"),
    ] {
        let out = state.run(&words.split(' ').collect::<Vec<_>>());
        out.clean_failure().unwrap();
        assert!(out.stderr.contains(said), "{out}");
    }
    state.good(&["delete", "-f", "c1", "c2"]);
    assert!(host("ip -br link").contains("phys0@"));
    state.good(&["network", "rename", "physnet", "othernet"]);
    assert_eq!(state.good(&["network", "get", "othernet", "parent"]).trim(), "phys0");
    state.good(&["network", "delete", "macnet"]);
    state.good(&["network", "delete", "othernet"]);
    state.finish();
}

/// A network that stands for a bridge of the host gives ports of it, with the network's VLANs.
#[test]
fn a_network_that_stands_for_a_bridge() {
    let test = "a_network_that_stands_for_a_bridge";
    let Some(state) = state(test) else { return };
    for words in ["link add own0 type bridge", "addr add 10.79.0.1/24 dev own0", "link set own0 up"] {
        host(&format!("ip {words}"));
    }
    state.good(&["network", "create", "ownnet", "--type=physical", "parent=own0"]);
    state.launch("c1", &["-n", "ownnet"]).good().unwrap();
    state.sh("c1", "ip addr add 10.79.0.11/24 dev eth0; ping -c 1 -W 5 10.79.0.1");
    let end = state.good(&["config", "get", "c1", "volatile.eth0.host_name"]);
    assert!(host(&format!("ip -o link show {}", end.trim())).contains("master own0"));
    state.good(&["stop", "-f", "c1"]);
    assert!(!host("ip -br link").contains(end.trim()));
    add_device(&state, "c1", "eth1", "nictype=physical parent=own0 name=eth1");
    refused(&state, "c1", "Parent device is a bridge, use nictype=bridged instead");
    state.good(&["config", "device", "remove", "c1", "eth1"]);
    if kernel_has(test, "type bridge vlan_filtering 1") {
        host("ip link set own0 type bridge vlan_filtering 1");
        state.good(&["network", "set", "ownnet", "vlan.tagged=20,30-31"]);
        state.good(&["start", "c1"]);
        let end = state.good(&["config", "get", "c1", "volatile.eth0.host_name"]);
        let vlans = host(&format!("bridge -compressvlans vlan show dev {}", end.trim()));
        assert!(vlans.contains("20") && vlans.contains("30-31"), "{vlans}");
    }
    state.good(&["delete", "-f", "c1"]);
    state.good(&["network", "delete", "ownnet"]);
    host("ip link del own0");
    state.finish();
}

/// What has no virtual functions is not split into some.
#[test]
fn virtual_functions_need_hardware() {
    let Some(state) = state("virtual_functions_need_hardware") else { return };
    host("ip link add low0 type veth peer name low1");
    state.good(&["network", "create", "vfnet", "--type=sriov", "parent=low0"]);
    state.good(&["create", "test", "c1", "-n", "vfnet"]);
    refused(&state, "c1", "Parent device \"low0\" doesn't support SR-IOV");
    state.good(&["config", "device", "remove", "c1", "eth0"]);
    add_device(&state, "c1", "eth1", "nictype=sriov parent=nowhere0 security.mac_filtering=true vlan=5");
    refused(&state, "c1", "Parent device \"nowhere0\" doesn't exist");
    state.good(&["delete", "c1"]);
    state.good(&["network", "delete", "vfnet"]);
    state.finish();
}

/// Hardware whose container lost its monitor, and with it whoever would have taken it back, is what it was after the next
/// command. It is given to the machine's own network, so it is from there that it is passed on.
#[test]
fn hardware_comes_back_without_a_monitor() {
    let test = "hardware_comes_back_without_a_monitor";
    let Some(state) = state(test) else { return };
    let Some(name) = std::env::var_os("STAPES_TEST_NIC").filter(|name| !name.is_empty()) else {
        return skip(test, "no network interface of the machine to spare (STAPES_TEST_NIC names one)");
    };
    let name = name.to_str().unwrap();
    with_the_network(|| {
        host(&format!("ip link set {name} down mtu 1400 address 02:00:00:00:00:77"));
        host(&format!("ip link set {name} up"));
        let shown = || host("ip -o link").lines().filter(|l| l.contains("02:00:00:00:00:77")).collect::<String>();
        let before = shown();
        assert!(before.contains(&format!(" {name}: ")) && before.contains("mtu 1400"), "{before}");
        state.good(&["create", "test", "c1"]);
        add_device(
            &state,
            "c1",
            "eth0",
            &format!("nictype=physical parent={name} name=inner0 mtu=1300 hwaddr=02:00:00:00:00:78"),
        );
        state.good(&["start", "c1"]);
        assert!(state.sh("c1", "ip -o link show inner0").contains("mtu 1300"));
        assert!(!host("ip -o link").contains(&format!(" {name}: ")));
        let init = state.init("c1");
        let stat = std::fs::read_to_string(format!("/proc/{init}/stat")).unwrap();
        host(&format!("kill -9 {}", stat.rsplit(") ").next().unwrap().split(' ').nth(1).unwrap()));
        state.good(&["start", "c1"]);
        assert!(state.sh("c1", "ip -o link show inner0").contains("mtu 1300"));
        state.good(&["delete", "-f", "c1"]);
        let after = shown();
        let what = |line: &str| line.split_once(": ").map(|(_, rest)| rest.split(" qdisc").next().unwrap().to_string());
        assert_eq!(what(&after), what(&before));
    });
    state.finish();
}
