//! ACLs of interfaces: within a network too, together with what keeps an interface from forging.

use crate::acl::{C1, C2, Lan};
use crate::common_root;
use crate::packets::{Fate, Open, Refused, Servers, Silent, tcp, udp};
use crate::support::Ask;
use crate::world::{OUTSIDE, host};
use std::time::Duration;

/// Does the kernel take this rule on bridges?
fn kernel_has(rule: &str) -> bool {
    let text = format!(
        "add table bridge probe\nadd chain bridge probe c {{ type filter hook input priority 0; }}\nadd rule bridge probe c {rule}\n"
    );
    let mut nft = std::process::Command::new("nft")
        .args(["-c", "-f", "-"])
        .stdin(std::process::Stdio::piped())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    std::io::Write::write_all(&mut nft.stdin.take().unwrap(), text.as_bytes()).unwrap();
    nft.wait().unwrap().success()
}

fn device(lan: &Lan, name: &str, options: &[&str]) {
    lan.state.good(&[&["config", "device", "set", name, "eth0"][..], options].concat());
}

/// Stateful rules: the answers of what was let out come in. A kernel that cannot know them refuses such rules.
#[test]
fn an_interface_with_state() {
    const NAME: &str = "an_interface_with_state";
    let Some(mut lan) = Lan::new(NAME, &["ipv4.nat=false"]) else { return };
    lan.acl("create web");
    lan.acl("rule add web egress action=allow protocol=tcp destination_port=80");
    device(&lan, "c1", &["security.acls=web", "ipv4.address=10.77.0.11", "security.mac_filtering=true"]);
    if !kernel_has("ct state established accept") {
        common_root::skip(NAME, "the kernel tracks no connections on bridges; only the refusal is looked at");
        let out = lan.state.run(&["start", "c1"]);
        out.clean_failure().unwrap();
        assert!(out.stderr.contains("ACLs on NICs need connection tracking for bridges"), "{out}");
        assert!(!host("ip -br link").contains("veth") && !host("nft list ruleset").contains("c1.eth0"));
        return lan.finish();
    }
    lan.start();
    let outside = lan.world.pid();
    let _in = Servers::new(lan.c1, &[80, 8080], &[]);
    let _near = Servers::new(lan.c2, &[80, 81], &[]);
    let at_bridge = if kernel_has("reject") { Refused } else { Silent };
    assert_eq!([tcp(lan.c1, OUTSIDE, 80), tcp(lan.c1, OUTSIDE, 81)], [Open, at_bridge]);
    assert_eq!([tcp(lan.c1, C2, 80), tcp(lan.c1, C2, 81)], [Open, at_bridge], "within the network");
    assert_eq!([tcp(lan.c2, C1, 80), tcp(outside, C1, 80)], [at_bridge, Refused]);
    lan.acl("rule add web ingress action=allow protocol=tcp destination_port=8080 source=10.77.0.0/24");
    assert_eq!([tcp(lan.c2, C1, 8080), tcp(lan.c2, C1, 80), tcp(outside, C1, 8080)], [Open, at_bridge, Refused]);
    // One that forges is not helped by rules that allow all.
    lan.acl("rule add web egress action=allow");
    lan.state.sh("c1", "ip link set eth0 down; ip link set eth0 address 10:66:6a:99:99:99; ip link set eth0 up");
    assert!(!lan.ping("c1", C2) && !lan.ping("c1", "10.77.0.1"), "a forged MAC address");
    lan.finish();
}

/// Rules without state need nothing of the kernel, and what they do not allow is closed, answers included.
#[test]
fn an_interface_without_state() {
    let Some(mut lan) = Lan::new("an_interface_without_state", &["ipv4.nat=false"]) else { return };
    lan.set("create hosts addresses=203.0.113.2");
    lan.acl("create web");
    lan.acl("rule add web egress action=allow-stateless protocol=tcp destination_port=80");
    lan.acl("rule add web ingress action=allow-stateless protocol=tcp source_port=80 source=$hosts");
    let filters = ["security.mac_filtering=true", "security.ipv4_filtering=true", "security.ipv6_filtering=true"];
    device(&lan, "c1", &[&["security.acls=web", "ipv4.address=10.77.0.11"][..], &filters[..]].concat());
    lan.start();
    let outside = lan.world.pid();
    let _in = Servers::new(lan.c1, &[80], &[5000]);
    let _near = Servers::new(lan.c2, &[80], &[5000]);
    let _out = Servers::new(outside, &[81], &[5000]);
    let shown = lan.acl("show web");
    assert!(shown.contains("used_by:\n- /1.0/instances/c1\n"), "{shown}");
    let closed = |fate: Fate| fate != Open;
    assert_eq!(tcp(lan.c1, OUTSIDE, 80), Open);
    assert!(closed(tcp(lan.c1, OUTSIDE, 81)) && closed(udp(lan.c1, OUTSIDE, 5000, 0)));
    assert!(closed(tcp(lan.c2, C1, 80)) && closed(tcp(outside, C1, 80)) && closed(udp(lan.c2, C1, 5000, 0)));
    let answers = closed(tcp(lan.c1, C2, 80));
    let stateful = kernel_has("ct state established accept");
    assert_eq!(answers, !stateful, "without state the answers of others stay outside");
    assert!(!lan.ping("c1", C2) && !lan.ping("c2", C1));
    // A rule and a set count at once; the other interface is free.
    lan.acl("rule add web egress action=allow-stateless protocol=icmp4");
    lan.acl("rule add web ingress action=allow-stateless protocol=icmp4 source=10.77.0.12");
    assert!(lan.ping("c1", C2) && lan.ping("c2", C1));
    assert!(lan.ping("c2", "10.77.0.1"));
    if !stateful {
        lan.set("add hosts 10.77.0.12");
        assert_eq!(tcp(lan.c1, C2, 80), Open);
        lan.set("remove hosts 203.0.113.2");
        assert!(closed(tcp(lan.c1, OUTSIDE, 80)));
        lan.set("add hosts 203.0.113.2");
    }
    // What it forges is dropped whatever its rules allow.
    lan.acl("rule add web egress action=allow-stateless");
    lan.acl("rule add web ingress action=allow-stateless");
    assert!(lan.ping("c1", "10.77.0.1") && lan.ping("c1", C2));
    lan.state.sh("c1", "ip addr add 10.77.0.99/24 dev eth0");
    for to in ["10.77.0.1", C2] {
        assert!(
            !lan.state.try_sh("c1", &format!("ping -c 1 -W 1 -I 10.77.0.99 {to}")).ok(),
            "a forged address to {to}"
        );
    }
    // A rule that needs state is refused while the kernel has none, and nothing is changed by that.
    if !stateful {
        let before = (host("nft list ruleset"), lan.acl("show web"));
        let out = lan.state.run(&["network", "acl", "rule", "add", "web", "egress", "action=allow", "protocol=udp"]);
        out.clean_failure().unwrap();
        assert!(out.stderr.contains("connection tracking for bridges"), "{out}");
        assert_eq!(before, (host("nft list ruleset"), lan.acl("show web")));
    }
    // Taken off a running instance, and put on again.
    lan.acl("rule remove web ingress --force");
    assert!(closed(tcp(lan.c2, C1, 80)));
    device(&lan, "c1", &["security.acls="]);
    assert_eq!(tcp(lan.c2, C1, 80), Open);
    device(&lan, "c1", &["security.acls=web"]);
    assert!(closed(tcp(lan.c2, C1, 80)));
    lan.state.good(&["stop", "-f", "c1"]);
    let left = host("nft list ruleset");
    assert!(!left.contains("c1.eth0") && !left.contains("set.hosts"), "{left}");
    lan.finish();
}

/// Whoever is refused is told so at once, whichever way the packet goes; what is dropped is not answered.
#[test]
fn a_refusal_is_told() {
    let Some(mut lan) = Lan::new("a_refusal_is_told", &["ipv4.nat=false", "ipv6.nat=false"]) else { return };
    lan.acl("create web");
    for rule in [
        "egress action=allow-stateless protocol=tcp destination_port=80",
        "ingress action=allow-stateless protocol=tcp source_port=80",
        "ingress action=allow-stateless protocol=tcp destination_port=8080",
        "egress action=allow-stateless protocol=tcp source_port=8080",
        "ingress action=drop protocol=tcp destination_port=99",
        "egress action=drop protocol=tcp destination_port=99",
    ] {
        lan.acl(&format!("rule add web {rule}"));
    }
    device(&lan, "c1", &["security.acls=web", "ipv4.address=10.77.0.11", "security.ipv4_filtering=true"]);
    // The other one may send everything, and gets no answers but those of a server and refusals.
    lan.acl("create open");
    lan.acl("rule add open egress action=allow-stateless");
    lan.acl("rule add open ingress action=allow-stateless protocol=tcp source_port=8080");
    lan.acl("rule add open ingress action=allow-stateless protocol=tcp destination_port=80-81,99");
    device(&lan, "c2", &["security.acls=open", "ipv4.address=10.77.0.12"]);
    lan.start();
    let outside = lan.world.pid();
    let _in = Servers::new(lan.c1, &[81, 8080, 99], &[5000]);
    let _near = Servers::new(lan.c2, &[80, 81, 99], &[5000]);
    let _out = Servers::new(outside, &[81, 99], &[5000]);
    let at_bridge = if kernel_has("reject") {
        Refused
    } else {
        common_root::skip(
            "a_refusal_is_told",
            "the kernel refuses nothing on bridges; only what comes through the host is",
        );
        Silent
    };
    let refused =
        [tcp(lan.c1, OUTSIDE, 81), tcp(lan.c1, C2, 81), udp(lan.c1, OUTSIDE, 5000, 0), udp(lan.c1, C2, 5000, 0)];
    assert_eq!(refused, [at_bridge; 4], "out of it");
    assert_eq!([tcp(lan.c2, C1, 81), udp(lan.c2, C1, 5000, 0)], [at_bridge; 2], "from within the network");
    assert_eq!([tcp(outside, C1, 81), udp(outside, C1, 5000, 0)], [Refused; 2], "from the world");
    let from_host =
        std::net::TcpStream::connect_timeout(&(format!("{C1}:81").parse().unwrap()), Duration::from_secs(2));
    assert_eq!(from_host.unwrap_err().kind(), std::io::ErrorKind::ConnectionRefused, "from the host");
    assert_eq!([tcp(lan.c1, OUTSIDE, 99), tcp(lan.c1, C2, 99)], [Silent; 2]);
    assert_eq!([tcp(outside, C1, 99), tcp(lan.c2, C1, 99)], [Silent; 2]);
    assert_eq!([tcp(lan.c1, OUTSIDE, 80), tcp(lan.c1, C2, 80)], [Open; 2]);
    assert_eq!([tcp(outside, C1, 8080), tcp(lan.c2, C1, 8080)], [Open; 2]);
    // What is forged is refused to nobody: it is thrown away.
    lan.state.sh("c1", "ip addr flush dev eth0; ip addr add 10.77.0.99/24 dev eth0");
    lan.state.sh("c1", "ip route add default via 10.77.0.1");
    assert_eq!([tcp(lan.c1, OUTSIDE, 81), tcp(lan.c1, C2, 81)], [Silent; 2]);
    // Rules without a refusal need none of it.
    device(&lan, "c1", &["security.acls.default.egress.action=drop", "security.acls.default.ingress.action=drop"]);
    let rules = host("nft list ruleset");
    assert!(!rules.contains("rejfwd.c1.eth0") && !rules.contains("prert.c1.eth0"), "{rules}");
    lan.finish();
}

/// Name servers of a network, which an interface with ACLs may always ask, count for it at once.
#[test]
fn name_servers_are_followed() {
    let Some(mut lan) = Lan::new("name_servers_are_followed", &["ipv4.nat=false"]) else { return };
    lan.acl("create none");
    device(&lan, "c1", &["security.acls=none", "ipv4.address=10.77.0.11"]);
    lan.start();
    let _out = Servers::new(lan.world.pid(), &[], &[53]);
    assert_ne!(udp(lan.c1, OUTSIDE, 53, 0), Open);
    lan.state.good(&["network", "set", "testbr0", &format!("dns.nameservers={OUTSIDE}")]);
    assert_eq!(udp(lan.c1, OUTSIDE, 53, 0), Open);
    lan.state.good(&["network", "unset", "testbr0", "dns.nameservers"]);
    assert_ne!(udp(lan.c1, OUTSIDE, 53, 0), Open);
    lan.finish();
}

#[test]
fn an_acl_that_is_not_there() {
    let Some(lan) = Lan::new("an_acl_that_is_not_there", &[]) else { return };
    lan.acl("create web");
    for (words, said) in [
        ("config device set c1 eth0 security.acls=nowhere", "Network ACL \"nowhere\" does not exist"),
        ("config device set c1 eth0 security.acls=web,web", "Network ACL \"web\" specified multiple times"),
        ("network set testbr0 security.acls=nowhere", "Network ACL \"nowhere\" does not exist"),
        ("network set testbr0 security.acls=web,web", "Network ACL \"web\" specified multiple times"),
        ("network create testbr1 security.acls=nowhere", "Network ACL \"nowhere\" does not exist"),
        (
            "profile device add default eth7 nic network=testbr0 security.acls=nowhere",
            "Network ACL \"nowhere\" does not exist",
        ),
    ] {
        let out = lan.state.run(&words.split(' ').collect::<Vec<_>>());
        out.clean_failure().unwrap();
        assert!(out.stderr.contains(said), "{out}");
    }
    assert!(!host("ip -br link").contains("testbr1"));
    device(&lan, "c1", &["security.acls=web"]);
    let out = lan.state.run(&["network", "acl", "delete", "web"]);
    out.clean_failure().unwrap();
    device(&lan, "c1", &["security.acls="]);
    lan.acl("delete web");
    lan.finish();
}
