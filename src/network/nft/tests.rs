//! What is rendered stands in `tests/golden/nft/`; `tests/network_texts.rs` loads the same texts into a kernel. To
//! renew them: `STAPES_GOLDEN=write`.

use super::acl::{Fallback, Policy};
use super::coexist::{self, Ruleset};
use super::nic::{Allowed, Kernel, Port};
use super::rule::{Action, Match, Quoted, Side};
use super::*;
use crate::base::inet::IpNet;
use crate::base::names::AddressSetName;
use crate::model::instance::{Config, Device};
use crate::model::network::acl::{Acl, AclAction, AclRule};
use crate::model::network::address_set::AddressSet;
use crate::model::network::bridge::Bridge;
use crate::model::network::forward::{Forward, ForwardPort};
use proptest::prelude::*;
use std::net::IpAddr;

fn config(entries: &[(&str, &str)]) -> Config {
    entries.iter().map(|(k, v)| ((*k).to_string(), (*v).to_string())).collect()
}

fn net0() -> NetworkName {
    NetworkName::parse("net0").expect("name")
}

fn bridge(more: &[(&str, &str)]) -> Bridge {
    let mut all = config(&[("ipv4.address", "10.0.0.1/24"), ("ipv6.address", "fd42::1/64"), ("ipv4.nat", "true")]);
    all.extend(config(more));
    Bridge::read(&all, None).expect("bridge")
}

fn nets(list: &[&str]) -> Vec<IpNet> {
    list.iter().map(|t| t.parse().unwrap_or_else(|_| IpNet::host(t.parse().expect("address")))).collect()
}

fn rule(action: &str, source: &str, protocol: &str, port: &str, state: &str) -> AclRule {
    AclRule {
        action: action.into(),
        source: source.into(),
        protocol: protocol.into(),
        destination_port: port.into(),
        state: state.into(),
        ..AclRule::default()
    }
}

fn policy(default: AclAction) -> Policy {
    let icmp = AclRule { icmp_type: "8".into(), icmp_code: "0".into(), ..rule("allow", "", "icmp4", "", "enabled") };
    let acl = Acl {
        format: 1,
        description: String::new(),
        config: Config::new(),
        egress: vec![rule("allow-stateless", "", "udp", "53", "enabled"), rule("drop", "", "", "", "disabled")],
        ingress: vec![
            rule("allow", "192.0.2.0/24,10.0.0.5-10.0.0.9,$hosts,fd42::/64", "tcp", "80,8000-8010,8005", "logged"),
            rule("reject", "198.51.100.1", "", "", "enabled"),
            rule("drop", "203.0.113.0/24", "", "", "enabled"),
            icmp,
        ],
    };
    let fallback = Fallback { action: default, logged: default == AclAction::Reject };
    Policy::new(&ProjectName::default(), &[&acl], fallback, fallback).expect("policy")
}

fn port<'a>(policy: Option<&'a Policy>, v4: Allowed, v6: Allowed) -> Port<'a> {
    let name = InstanceName::parse("c1").expect("name");
    Port {
        label: label(&ProjectName::default(), &name, &DeviceName::parse("eth0").expect("name")),
        device: "eth0",
        host_name: "veth0",
        hwaddr: [0x10, 0x66, 0x6a, 0, 0, 1],
        mac_filtering: true,
        v4,
        v6,
        acls: policy,
        dns: vec!["10.0.0.1".parse().expect("ip"), "fd42::1".parse().expect("ip")],
        bridge: "net0",
        own: nets(&["10.0.0.9", "fd42::9", "fd43::/50"]),
    }
}

const ALL: Kernel = Kernel { conntrack: true, reject: true };

fn addresses() -> (Allowed, Allowed) {
    (Allowed::Only(nets(&["10.0.0.9", "10.9.0.0/16"])), Allowed::Only(nets(&["fd42::9", "fd43::/50"])))
}

fn forwards() -> Vec<crate::model::network::forward::ParsedForward> {
    let port = |protocol: &str, listen: &str, target: &str, snat| ForwardPort {
        protocol: protocol.into(),
        listen_port: listen.into(),
        target_port: target.into(),
        target_address: "10.0.0.9".into(),
        snat,
        ..ForwardPort::default()
    };
    let v4 = Forward {
        format: 1,
        description: String::new(),
        config: config(&[("target_address", "10.0.0.2")]),
        ports: vec![
            port("tcp", "80,8000-8003", "", true),
            port("tcp", "22", "2222", true),
            port("udp", "100-102", "200-202", true),
            port("tcp", "500-501", "600", false),
        ],
    };
    let v6 = Forward { ports: Vec::new(), config: config(&[("target_address", "fd42::9")]), ..v4.clone() };
    let network = config(&[("ipv4.address", "10.0.0.1/24"), ("ipv6.address", "fd42::1/64")]);
    vec![v4.parse("192.0.2.1", &network).expect("forward"), v6.parse("2001:db8::1", &network).expect("forward")]
}

fn proxy(listen: &str, connect: &str) -> crate::error::Result<Script> {
    let device: Device = config(&[("listen", listen), ("connect", connect), ("nat", "true")]);
    let label =
        label(&ProjectName::default(), &InstanceName::parse("c1").expect("c1"), &DeviceName::parse("p").expect("p"));
    let targets: Vec<IpAddr> = vec!["10.0.0.9".parse().expect("ip"), "fd42::9".parse().expect("ip")];
    forward::proxy_up(&label, &device, &targets, &nets(&["10.0.0.1/24", "fd42::1/64"]))
}

fn sets() -> Script {
    let set = AddressSet {
        format: 1,
        description: String::new(),
        config: Config::new(),
        addresses: ["192.0.2.7", "198.51.100.0/24", "fd42::5-fd42::9", "198.51.100.9"].map(String::from).into(),
    };
    acl::set_up(&ProjectName::default(), &AddressSetName::parse("hosts").expect("name"), &set).expect("set")
}

/// Every text there is, by name. Those in `bridge-acl` need connection tracking for bridges.
fn texts() -> Vec<(&'static str, String)> {
    let (v4, v6) = addresses();
    let reject = policy(AclAction::Reject);
    let nic = |p: &Port<'_>| nic::up(p, ALL).expect("rules");
    let label = &port(None, Allowed::Any, Allowed::Any).label;
    let plain = |script: Script| script.text(&Tables::new(None));
    let with_sets = |script: Script| {
        let mut all = sets();
        all.append(script);
        plain(all)
    };
    let isolated = bridge(&[
        ("ipv4.routing", "false"),
        ("ipv6.address", "none"),
        ("ipv4.nat.address", "192.0.2.9"),
        ("ipv4.nat.order", "after"),
    ]);
    vec![
        ("network", plain(network::up(&net0(), &bridge(&[("ipv6.nat", "true")])))),
        ("network-isolated", plain(network::up(&net0(), &isolated))),
        ("network-down", plain(network::down(&net0()))),
        ("network-acl", with_sets(network::acls_up(&net0(), &reject))),
        ("nic-mac", plain(nic(&port(None, Allowed::Any, Allowed::Any)))),
        ("nic-addresses", plain(nic(&port(None, v4.clone(), v6.clone())))),
        ("nic-nothing", plain(nic(&port(None, Allowed::Only(vec![]), Allowed::Only(vec![]))))),
        ("nic-down", plain(nic::down(label))),
        ("bridge-acl", with_sets(nic(&port(Some(&reject), v4, v6)))),
        ("forward", plain(forward::up(&net0(), &forwards(), &nets(&["10.0.0.1/24"])))),
        ("forward-down", plain(forward::down(&net0()))),
        ("proxy", plain(proxy("tcp:[::]:80-81", "tcp:[::]:8080-8081").expect("proxy"))),
        ("proxy-down", plain(forward::proxy_down(&Name::encode("c1.p")))),
        ("routed", plain(nic::reverse_path_up(label, "veth0"))),
        ("routed-down", plain(nic::reverse_path_down(label))),
        ("priority", plain(nic::priority_up(label, "lo", 0x1_0003))),
        ("priority-down", plain(nic::priority_down(label))),
        ("set-down", plain(acl::set_down(&ProjectName::default(), &AddressSetName::parse("hosts").expect("name")))),
    ]
}

#[test]
fn texts_are_the_golden_ones() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/nft");
    let mut wrong = Vec::new();
    for (name, text) in texts() {
        let path = folder.join(format!("{name}.nft"));
        if std::env::var_os("STAPES_GOLDEN").is_some() {
            std::fs::write(&path, &text).expect("write");
        }
        if std::fs::read_to_string(&path).ok().as_deref() != Some(&text) {
            wrong.push(name);
        }
    }
    assert!(wrong.is_empty(), "differ from tests/golden/nft: {wrong:?}");
}

/// Rows CVE-2025-52889, CVE-2025-52890, GHSA-6v6x-387m-rj4w: nothing is accepted before the drops of forged frames.
#[test]
fn forged_frames_are_dropped_before_anything_is_accepted() {
    let (v4, v6) = addresses();
    for default in [AclAction::Allow, AclAction::Reject, AclAction::Drop, AclAction::AllowStateless] {
        for (v4, v6) in [(v4.clone(), v6.clone()), (Allowed::Any, Allowed::Any), (v4.clone(), Allowed::Any)] {
            let policy = policy(default);
            let text = nic::up(&port(Some(&policy), v4, v6), ALL).expect("rules").text(&Tables::new(None));
            for chain in ["in", "fwd"] {
                let prefix = format!("add rule bridge stapes {chain}.c1.eth0 ");
                let rules: Vec<&str> = text.lines().filter_map(|l| l.strip_prefix(&prefix)).collect();
                let last_forged =
                    rules.iter().rposition(|r| r.contains("10:66:6a:00:00:01") || r.contains("@nh,")).expect("drops");
                // The first rule lets go of frames of other NICs.
                let others = rules[0].starts_with("iifname != \"veth0\"");
                let first_accept = rules.iter().skip(1).position(|r| r.ends_with("accept")).expect("accepts") + 1;
                assert!(others && last_forged < first_accept, "{chain}: {rules:#?}");
                let established = rules.iter().position(|r| r.contains("ct state")).expect("state");
                let sources = rules.iter().rposition(|r| r.contains("saddr != {") && r.ends_with("drop"));
                assert!(sources.is_none_or(|at| at < established), "{chain}: {rules:#?}");
            }
        }
    }
}

#[test]
fn order_within_an_acl() {
    let text = network::acls_up(&net0(), &policy(AclAction::Allow)).text(&Tables::new(None));
    let rules: Vec<&str> = text.lines().filter(|l| l.starts_with("add rule inet stapes acl.net0 ")).collect();
    let kind = |r: &&str| match r.rsplit(' ').next() {
        _ if r.ends_with("\"net0\" accept") => 3,
        Some("drop") => 0,
        Some("reject") => 1,
        _ => 2,
    };
    let order: Vec<i32> = rules[1..].iter().map(kind).collect();
    assert!(order.is_sorted() && order.contains(&0) && order.contains(&1), "{order:?} {rules:#?}");
    assert!(text.contains("log prefix \"net0-ingress-0 \" accept"));
    assert!(rules[0].ends_with("ct state established,related accept"));
}

#[test]
fn a_kernel_without_tracking_on_bridges() {
    let reject = policy(AclAction::Reject);
    let port = port(Some(&reject), Allowed::Any, Allowed::Any);
    let e = nic::up(&port, Kernel { conntrack: false, reject: true }).expect_err("no tracking");
    assert_eq!(e.kind(), crate::error::Kind::Unsupported);
    let text = nic::up(&port, Kernel { conntrack: true, reject: false }).expect("rules").text(&Tables::new(None));
    // What comes through the host is refused there.
    let at_bridge = |text: &str| text.lines().filter(|l| l.starts_with("add rule bridge")).collect::<String>();
    assert!(!at_bridge(&text).contains("reject") && text.contains("add rule inet stapes rej.c1.eth0"), "{text}");
    // What lets nothing back in by itself is held by the rules alone.
    let stateless = Acl {
        egress: vec![rule("allow-stateless", "", "tcp", "80", "enabled"), rule("drop", "$hosts", "", "", "enabled")],
        ingress: Vec::new(),
        ..Acl { format: 1, description: String::new(), config: Config::new(), egress: Vec::new(), ingress: Vec::new() }
    };
    let of = |action| {
        let fallback = Fallback { action, logged: false };
        Policy::new(&ProjectName::default(), &[&stateless], fallback, fallback).expect("policy")
    };
    assert_eq!(of(AclAction::Drop).sets().into_iter().collect::<Vec<_>>(), ["hosts"]);
    let none = Kernel { conntrack: false, reject: false };
    for (action, held) in [
        (AclAction::Drop, true),
        (AclAction::Reject, true),
        (AclAction::AllowStateless, true),
        (AclAction::Allow, false),
    ] {
        let policy = of(action);
        let rules = nic::up(&Port { acls: Some(&policy), ..port.clone() }, none);
        assert_eq!(rules.is_ok(), held, "{action:?}");
        assert!(rules.is_err() || !at_bridge(&rules.expect("rules").text(&Tables::new(None))).contains("ct state"));
    }
}

#[test]
fn labels_are_names_and_differ() {
    let of = |p: &str, i: &str, d: &str| {
        let p = ProjectName::parse(p).expect("project");
        label(&p, &InstanceName::parse(i).expect("instance"), &DeviceName::parse(d).expect("device")).to_string()
    };
    assert_eq!(of("default", "c1", "eth0"), "c1.eth0");
    assert_eq!(of("a.b", "c1", "x.y"), "a/2eb_c1.x/2ey");
    assert_ne!(of("default", "p", "q_c1.eth0"), of("p.q", "c1", "eth0"));
    let long = "x:".repeat(31) + "x";
    let a = of(&long, &"i".repeat(63), &long);
    assert!(a.len() <= LABEL_MAX && a != of(&long, &"i".repeat(63), &("x".to_string() + &long[1..].replace(':', "y"))));
    assert_eq!(Tables::new(Some("00ff")).name().to_string(), "stapes-00ff");
}

fn listing(forward: &str, more: &str) -> Ruleset {
    let chain = |family: &str, name: &str, hook: &str, policy: &str| {
        format!(
            "{{\"chain\":{{\"family\":\"{family}\",\"table\":\"filter\",\"name\":\"{name}\",\"handle\":1,\"type\":\"filter\",\"hook\":\"{hook}\",\"prio\":0,\"policy\":\"{policy}\"}}}}"
        )
    };
    let json = format!(
        "{{\"nftables\":[{{\"metainfo\":{{}}}},{},{more}{{\"x\":1}}]}}",
        chain("ip", "FORWARD", "forward", forward)
    );
    Ruleset::parse(&json).expect("listing")
}

#[test]
fn beside_docker() {
    let tables = Tables::new(None);
    let up = |there: &Ruleset| coexist::up(&tables, &net0(), &bridge(&[]), there);
    assert_eq!(up(&listing("accept", "")).script, "");
    let script = up(&listing("drop", "")).script;
    let lines: Vec<&str> = script.lines().collect();
    assert!(
        lines[0].starts_with("add rule ip filter FORWARD iifname \"net0\" counter accept comment \"stapes:net0:"),
        "{script}"
    );
    assert!(
        lines[1].starts_with("add rule ip filter FORWARD oifname \"net0\" counter accept comment") && lines.len() == 2
    );
    // What is there stays, what belongs to another rule or network does not.
    let comment = |line: &str| line.rsplit('"').nth(1).expect("comment").to_string();
    let rule = |handle: u32, comment: &str| {
        format!(
            "{{\"rule\":{{\"family\":\"ip\",\"table\":\"filter\",\"chain\":\"FORWARD\",\"handle\":{handle},\"comment\":\"{comment}\",\"expr\":[]}}}},"
        )
    };
    let more = rule(5, &comment(lines[0]))
        + &rule(6, "stapes:net0:00000000")
        + &rule(7, "stapes:net01:00000000")
        + &rule(8, "theirs");
    let there = listing("drop", &more);
    let script = up(&there).script;
    assert!(
        script.contains("oifname")
            && !script.contains("iifname")
            && script.ends_with("delete rule ip filter FORWARD handle 6\n"),
        "{script}"
    );
    let gone = coexist::down(&tables, &net0(), &there).script;
    assert_eq!(gone, "delete rule ip filter FORWARD handle 5\ndelete rule ip filter FORWARD handle 6\n");
    assert_eq!(coexist::up(&tables, &net0(), &bridge(&[("ipv4.firewall", "false")]), &there).script, gone);
}

#[test]
fn beside_ufw_firewalld_and_others() {
    let tables = Tables::new(None);
    let chain = |family: &str, table: &str, name: &str, more: &str| {
        format!(
            "{{\"chain\":{{\"family\":\"{family}\",\"table\":\"{table}\",\"name\":\"{name}\",\"handle\":1{more}}}}},"
        )
    };
    let ufw = chain("ip", "filter", "ufw-after-forward", "") + &chain("ip", "filter", "ufw-after-input", "");
    let fix = coexist::up(&tables, &net0(), &bridge(&[]), &listing("drop", &ufw));
    assert!(
        fix.script.contains("insert rule ip filter ufw-after-input iifname \"net0\" udp dport 67 counter accept"),
        "{}",
        fix.script
    );
    assert!(!fix.script.contains("filter FORWARD") && fix.firewalld.is_none() && fix.blockers.is_empty());
    let other = chain("inet", "mine", "fw", ",\"hook\":\"forward\",\"policy\":\"drop\"")
        + &chain("inet", "firewalld", "filter_FORWARD", "");
    let fix = coexist::up(&tables, &net0(), &bridge(&[]), &listing("accept", &other));
    assert_eq!(fix.blockers, ["inet mine fw"]);
    assert_eq!(fix.firewalld.expect("firewalld"), ["--zone=trusted", "--change-interface=net0"]);
    assert!(Ruleset::parse("x").is_err() && Ruleset::parse("{\"nftables\":[{\"chain\":3}]}").is_ok());
}

#[test]
fn proxies_that_make_no_sense() {
    assert!(proxy("tcp:0.0.0.0:80", "udp:10.0.0.9:80").is_err() && proxy("unix:/x", "tcp:10.0.0.9:80").is_err());
    let text = proxy("tcp:192.0.2.1:80", "tcp:0.0.0.0:80").expect("proxy").text(&Tables::new(None));
    assert!(
        text.contains("ip daddr 192.0.2.1 meta l4proto tcp th dport 80 dnat ip to 10.0.0.9\n") && !text.contains("ip6")
    );
}

proptest! {
    /// Nothing from outside becomes syntax: a text stays one word between quotes, a name one word.
    #[test]
    fn no_text_becomes_syntax(text in "\\PC{0,40}|[\\x00-\\x7f]{0,40}") {
        let quoted = Quoted::new(&text).to_string();
        prop_assert!(quoted.len() >= 2 && !quoted[1..quoted.len() - 1].contains(['"', '\\', '\n']) && quoted.is_ascii());
        let name = rule::Name::encode(&text).to_string();
        prop_assert!(name.bytes().all(|c| c.is_ascii_alphanumeric() || b"-_./".contains(&c)));
        let rule = rule::Rule::new([Match::Iif(Quoted::new(&text)), Match::Ports(Side::Source, vec![(1, 2)])], Action::Drop).logged(Some(text));
        prop_assert_eq!(rule.to_string().lines().count(), 1);
        let _ = Ruleset::parse(&rule.to_string());
    }
}
