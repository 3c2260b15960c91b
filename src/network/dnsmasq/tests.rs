//! Arguments and configurations stand in `tests/golden/dnsmasq/`; `tests/network_texts.rs` has dnsmasq read them. To
//! renew them: `STAPES_GOLDEN=write`.

use super::args::{Owner, Paths, arguments, config, failure, is_isolated};
use super::hosts::Host;
use super::leases::{Association, Holder, LeaseNic, merge, parse};
use crate::base::names::{DeviceName, InstanceName, NetworkName, ProjectName};
use crate::model::instance::Config;
use crate::model::network::bridge::{Bridge, DnsMode};
use proptest::prelude::*;
use std::net::IpAddr;
use std::path::Path;

fn options(entries: &[(&str, &str)]) -> Config {
    entries.iter().map(|(k, v)| ((*k).to_string(), (*v).to_string())).collect()
}

fn bridge(entries: &[(&str, &str)]) -> Bridge {
    Bridge::read(&options(entries), None).expect("bridge")
}

fn net0() -> NetworkName {
    NetworkName::parse("net0").expect("name")
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("address")
}

fn args(entries: &[(&str, &str)]) -> Vec<String> {
    let paths = Paths::new(Path::new("/state"), Path::new("/run"));
    arguments(&net0(), &bridge(entries), &paths, Some(Owner { user: "nobody", group: "nogroup" }))
}

const V4: (&str, &str) = ("ipv4.address", "10.0.0.1/24");
const V6: (&str, &str) = ("ipv6.address", "fd42::1/64");

fn texts() -> Vec<(&'static str, String)> {
    let lines = |entries: &[(&str, &str)]| args(entries).join("\n") + "\n";
    vec![
        ("default.args", lines(&[V4, V6])),
        ("stateful.args", lines(&[V4, V6, ("ipv6.dhcp.stateful", "true"), ("dns.mode", "none")])),
        ("isolated.args", lines(&[V4, ("ipv4.routing", "false"), ("ipv4.dhcp.gateway", "none")])),
        ("no-dhcp.args", lines(&[V4, V6, ("ipv4.dhcp", "false"), ("ipv6.dhcp", "false")])),
        (
            "everything.args",
            lines(&[
                V4,
                V6,
                ("bridge.mtu", "1400"),
                ("dns.domain", "example.net"),
                ("dns.search", "a.example, b.example"),
                ("dns.nameservers", "192.0.2.53,2001:db8::53"),
                ("ipv4.dhcp.gateway", "10.0.0.254"),
                ("ipv4.dhcp.expiry", "30m"),
                ("ipv4.dhcp.ranges", "10.0.0.10-10.0.0.20,10.0.0.30-10.0.0.40"),
                ("ipv4.dhcp.routes", "192.0.2.0/24,10.0.0.5,0.0.0.0/0,10.0.0.254"),
                ("ipv6.dhcp.stateful", "true"),
                ("ipv6.dhcp.ranges", "fd42::10-fd42::20"),
            ]),
        ),
        ("raw.conf", config(&bridge(&[V4, ("raw.dnsmasq", "cache-size=10\naddress=/x.test/10.0.0.7\n")]))),
    ]
}

#[test]
fn texts_are_the_golden_ones() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/dnsmasq");
    let mut wrong = Vec::new();
    for (name, text) in texts() {
        let path = folder.join(name);
        if std::env::var_os("STAPES_GOLDEN").is_some() {
            std::fs::write(&path, &text).expect("write");
        }
        if std::fs::read_to_string(&path).ok().as_deref() != Some(&text) {
            wrong.push(name);
        }
    }
    assert!(wrong.is_empty(), "differ from tests/golden/dnsmasq: {wrong:?}");
}

/// Row CVE-2024-29018: a network without a way out has no resolver that has one.
#[test]
fn isolated_networks_ask_nobody() {
    assert!(is_isolated(&bridge(&[V4, ("ipv4.routing", "false")])) && !is_isolated(&bridge(&[V4])));
    let isolated = args(&[V4, ("ipv4.routing", "false")]);
    assert!(isolated.contains(&"--no-resolv".to_string()) && !args(&[V4]).contains(&"--no-resolv".to_string()));
}

#[test]
fn small_subnets() {
    let range = |net: &str| args(&[("ipv4.address", net)]).into_iter().find(|a| a.starts_with("--dhcp-range"));
    assert_eq!(range("10.0.0.1/30").as_deref(), Some("--dhcp-range=10.0.0.2,10.0.0.2,1h"));
    assert_eq!(range("10.0.0.1/32"), None);
    assert_eq!(range("10.0.0.1/16").as_deref(), Some("--dhcp-range=10.0.0.2,10.0.255.254,1h"));
}

#[test]
fn files_of_nics() {
    let (default, other) = (ProjectName::default(), ProjectName::parse("a.b").expect("project"));
    let (c1, eth0) = (InstanceName::parse("c1").expect("c1"), DeviceName::parse("e_t:h.0").expect("dev"));
    let mut host = Host {
        project: &default,
        instance: &c1,
        device: &eth0,
        hwaddr: [0x10, 0x66, 0x6a, 0, 0, 1],
        addresses: vec![],
    };
    assert_eq!(host.file_name(), "default_c1.e%5Ft%3Ah%2E0");
    assert_eq!(host.text(DnsMode::Managed).as_deref(), Some("10:66:6a:00:00:01,c1\n"));
    assert_eq!(host.text(DnsMode::Dynamic), None);
    assert_eq!(host.names(DnsMode::Managed, "incus"), None);
    host.addresses = vec![ip("10.0.0.9"), ip("fd42::9")];
    assert_eq!(host.names(DnsMode::Managed, "incus").as_deref(), Some("10.0.0.9 c1.incus\nfd42::9 c1.incus\n"));
    assert_eq!(host.names(DnsMode::Dynamic, "incus"), None);
    host.project = &other;
    assert_eq!(host.text(DnsMode::Managed).as_deref(), Some("10:66:6a:00:00:01,10.0.0.9,[fd42::9],c1.a.b\n"));
    assert_eq!(host.text(DnsMode::None).as_deref(), Some("10:66:6a:00:00:01,10.0.0.9,[fd42::9]\n"));
}

const FILE: &str = "1700000000 10:66:6a:00:00:01 10.0.0.9 c1 01:10:66:6a:00:00:01\n\
    0 10:66:6a:00:00:02 10.0.0.10 * *\n\
    duid 00:01:00:01:2c:aa:bb:cc:10:66:6a:00:00:ff\n\
    1700000000 6946817 fd42::77 c1 00:01:00:01:2c:aa:bb:cc:10:66:6a:00:00:01\n\
    1700000000 10:66:6a:00:00:03 10.0.0.11 a;b *\n\
    1700000000 10:66:6a:00:00:04 nowhere c9 *\n\
    x 10:66:6a:00:00:04 10.0.0.12 c9 *\n\
    1 2 3\n";

#[test]
fn lease_files_are_read_strictly() {
    let all = parse(FILE);
    let mac = |last| Some([0x10, 0x66, 0x6a, 0, 0, last]);
    let c1 = || Some("c1".to_string());
    let brief: Vec<_> = all.iter().map(|l| (l.expires, l.hwaddr, l.address, l.hostname.clone())).collect();
    assert_eq!(
        brief,
        [
            (1_700_000_000, mac(1), ip("10.0.0.9"), c1()),
            (0, mac(2), ip("10.0.0.10"), None),
            (1_700_000_000, mac(1), ip("fd42::77"), c1()),
        ]
    );
    let own = [[0x10, 0x66, 0x6a, 0, 0, 1]];
    let without = super::leases::without(FILE, Holder { hwaddrs: &own, name: None }).expect("changed");
    assert!(
        !without.contains("10.0.0.9") && without.contains("10.0.0.10") && !without.contains("fd42::77"),
        "{without}"
    );
    assert_eq!(super::leases::without(FILE, Holder { hwaddrs: &[[0; 6]], name: Some("c1") }), None);
    // Neither number nor address of the client: its name.
    let odd = FILE.replace("00:01:00:01:2c:aa:bb:cc:10:66:6a:00:00:01", "00:02:00:00:ab:11");
    let [_, _, temporary] = &parse(&odd.replace("6946817", "T5"))[..] else { panic!("three leases") };
    assert_eq!(temporary.association, Some(Association { id: 5, temporary: true }));
    let named = |name| super::leases::without(&odd, Holder { hwaddrs: &[[0; 6]], name });
    assert!(named(Some("c1")).is_some_and(|left| !left.contains("fd42::77") && left.contains("10.0.0.9")));
    assert_eq!((named(Some("c2")), named(None)), (None, None));
    assert_eq!(super::leases::server(FILE).map(|duid| duid.len()), Some(14));
    assert_eq!(super::leases::server("duid 00\n"), None);
    assert_eq!(parse("1 4294967296 fd42::77 c1 00:02\n"), []);
    assert!(parse(&"1 10:66:6a:00:00:01 10.0.0.9 ".to_string().repeat(3)).is_empty());
}

#[test]
fn leases_are_merged() {
    let name = InstanceName::parse("c1").expect("name");
    let nic = LeaseNic { instance: &name, hwaddr: Some([0x10, 0x66, 0x6a, 0, 0, 1]), addresses: vec![ip("10.0.0.9")] };
    let list = |own| {
        let all = merge(&net0(), &bridge(&[V4, V6]), own, std::slice::from_ref(&nic), &parse(FILE));
        all.into_iter().map(|l| format!("{} {} {} {}", l.hostname, l.hwaddr, l.address, l.kind)).collect::<Vec<_>>()
    };
    let own = [
        "c1 10:66:6a:00:00:01 10.0.0.9 static",
        "c1 10:66:6a:00:00:01 fd42::1266:6aff:fe00:1 dynamic",
        "c1  fd42::77 dynamic",
    ];
    assert_eq!(list(false), own);
    assert_eq!(list(true)[..2], ["net0.gw  10.0.0.1 gateway", "net0.gw  fd42::1 gateway"]);
}

#[test]
fn says_why_it_did_not_start() {
    let e = failure(&net0(), "\ndnsmasq: failed to create listening socket for 10.0.0.1: Address already in use\n");
    assert_eq!(
        e.to_string(),
        "The DNS and DHCP service of network \"net0\" exited prematurely: failed to create listening socket for 10.0.0.1: Address already in use"
    );
    assert!(e.hint_text().expect("hint").contains("port 53"));
    assert!(failure(&net0(), "dnsmasq: bad option at line 1 of /run/dnsmasq.conf").hint_text().is_some());
    assert!(failure(&net0(), "").to_string().ends_with("no reason given"));
}

proptest! {
    #[test]
    fn no_lease_file_is_too_odd(text in "(\\PC{0,20}|[0-9a-f:.* ]{0,60}|\n){0,8}") {
        for lease in parse(&text) {
            prop_assert!(lease.hostname.is_none_or(|h| !h.is_empty() && h.bytes().all(|c| c.is_ascii_graphic())));
            prop_assert!(lease.hwaddr.is_some() || lease.address.is_ipv6());
        }
    }
}
