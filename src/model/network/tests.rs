use super::acl::{Acl, AclRule, Direction, Subject};
use super::address_set::AddressSet;
use super::forward::{Forward, ForwardPort};
use super::nic::{NicLive, NicPart, Taken, check_on, live};
use super::zone::{Data, ZoneEntry, ZoneRecord};
use super::*;
use crate::base::names::{AclName, ZoneName};
use crate::model::instance::Device;
use crate::model::keys::device::{self, nic};
use proptest::prelude::*;
use std::net::IpAddr;

fn config(entries: &[(&str, &str)]) -> Config {
    entries.iter().map(|(k, v)| ((*k).to_string(), (*v).to_string())).collect()
}

fn name(text: &str) -> NetworkName {
    NetworkName::parse(text).expect("name")
}

fn bridge(entries: &[(&str, &str)]) -> Network {
    Network { format: 1, kind: NetworkType::Bridge, description: String::new(), config: config(entries) }
}

fn text<T>(result: Result<T>) -> String {
    result.map_or_else(|e| e.to_string(), |_| "ok".into())
}

#[test]
fn types() {
    assert_eq!(NetworkType::parse("").expect("type"), NetworkType::Bridge);
    assert_eq!(NetworkType::parse("ovn").expect_err("ovn").kind(), crate::error::Kind::Unsupported);
    assert!(NetworkType::parse("x").is_err());
    let record = toml::to_string(&bridge(&[("ipv4.address", "none")])).expect("toml");
    assert_eq!(record, "format = 1\ntype = \"bridge\"\n\n[config]\n\"ipv4.address\" = \"none\"\n");
    assert_eq!(toml::from_str::<Network>(&record).expect("again"), bridge(&[("ipv4.address", "none")]));
}

#[test]
fn options_together() {
    let check = |entries: &[(&str, &str)]| text(validate(&name("net0"), NetworkType::Bridge, &config(entries)));
    let v4 = ("ipv4.address", "10.0.0.1/24");
    assert_eq!(check(&[v4, ("ipv4.dhcp.ranges", "10.0.0.5-10.0.0.9, 10.0.0.20-10.0.0.30")]), "ok");
    assert_eq!(check(&[("ipv4.address", "auto"), ("ipv4.dhcp.ranges", "10.0.0.5-10.0.0.9")]), "ok");
    assert_eq!(
        check(&[v4, ("ipv4.dhcp.ranges", "10.0.1.5-10.0.1.9")]),
        "Failed parsing ipv4.dhcp.ranges: IP range \"10.0.1.5-10.0.1.9\" does not fall within any of the allowed networks [10.0.0.0/24]"
    );
    assert_eq!(
        check(&[v4, ("ipv4.dhcp.ranges", "10.0.0.9-10.0.0.5")]),
        "Failed parsing ipv4.dhcp.ranges: Start IP \"10.0.0.9\" must be less than End IP \"10.0.0.5\""
    );
    assert!(check(&[v4, ("ipv4.dhcp.ranges", "10.0.0.5-10.0.0.9,10.0.0.9-10.0.0.12")]).contains("overlap"));
    assert_eq!(
        check(&[v4, ("ipv4.ovn.ranges", "10.0.0.5-10.0.0.9")]),
        "\"ipv4.ovn.ranges\" must be used in conjunction with non-overlapping \"ipv4.dhcp.ranges\" when DHCPv4 is enabled"
    );
    let both = [v4, ("ipv4.ovn.ranges", "10.0.0.5-10.0.0.9"), ("ipv4.dhcp.ranges", "10.0.0.9-10.0.0.12")];
    assert_eq!(
        check(&both),
        "The range specified in \"ipv4.ovn.ranges\" (\"10.0.0.5-10.0.0.9\") cannot overlap with \"ipv4.dhcp.ranges\""
    );
    let tunnel = [("tunnel.longname-longname.protocol", "vxlan")];
    assert_eq!(check(&tunnel), "Network name too long for tunnel interface: net0-longname-longname");
    assert_eq!(check(&[("ipv6.address", "fd42::/64")]), "ok");
    assert!(check(&[("ipv6.address", "fd42::/80")]).starts_with("Can't generate an EUI64"));
}

#[test]
fn a_new_bridge_is_completed_and_read() {
    let mut c = config(&[("ipv6.nat", "false")]);
    complete_new(&mut c, true);
    assert_eq!(
        c,
        config(&[("ipv4.address", "auto"), ("ipv4.nat", "true"), ("ipv6.address", "auto"), ("ipv6.nat", "false")])
    );
    let mut c = config(&[("ipv4.address", "10.0.0.1/24")]);
    complete_new(&mut c, false);
    assert_eq!(c, config(&[("ipv4.address", "10.0.0.1/24"), ("ipv6.address", "none")]));
    let read = super::bridge::Bridge::read(&c, None).expect("read");
    assert!(read.v6.address.is_none() && !read.v4.nat && read.v4.firewall && read.v4.dhcp && read.needs_dnsmasq());
    assert!(super::bridge::Bridge::read(&config(&[("ipv4.address", "auto")]), None).is_err());
    let read =
        super::bridge::Bridge::read(&config(&[("ipv6.address", "fd42:1::/64")]), Some([0x10, 0x66, 0x6a, 1, 2, 3]));
    assert_eq!(read.expect("read").v6.address.expect("own").to_string(), "fd42:1::1266:6aff:fe01:203/64");
}

#[test]
fn changes_name_the_parts() {
    let old = config(&[("ipv4.nat", "true"), ("user.x", "1"), ("bridge.mtu", "1500")]);
    let new = config(&[("ipv4.nat", "false"), ("user.x", "2"), ("dns.mode", "none"), ("bridge.mtu", "1500")]);
    let d = diff(NetworkType::Bridge, &old, &new);
    assert_eq!(d.keys, ["dns.mode", "ipv4.nat", "user.x"]);
    assert_eq!(d.parts, [Part::Firewall, Part::Dnsmasq, Part::Zones].into());
    assert!(d.check_used().is_ok());
    let d = diff(NetworkType::Macvlan, &config(&[("parent", "a0")]), &config(&[("parent", "b0")]));
    assert_eq!(d.check_used().expect_err("used").kind(), crate::error::Kind::Conflict);
}

fn rule(action: &str, fields: &[(&str, &str)]) -> AclRule {
    let mut r = AclRule { action: action.into(), state: "enabled".into(), ..AclRule::default() };
    for (field, value) in fields {
        let slot = match *field {
            "source" => &mut r.source,
            "destination" => &mut r.destination,
            "protocol" => &mut r.protocol,
            "source_port" => &mut r.source_port,
            "destination_port" => &mut r.destination_port,
            "icmp_type" => &mut r.icmp_type,
            "icmp_code" => &mut r.icmp_code,
            "state" => &mut r.state,
            other => panic!("{other}"),
        };
        *slot = (*value).to_string();
    }
    r
}

#[test]
fn acl_rules_speak_as_incus() {
    let check = |fields: &[(&str, &str)]| text(rule("allow", fields).parse(Direction::Ingress, &|n| n == "known"));
    assert_eq!(check(&[("source", "10.0.0.0/8, 192.0.2.1,10.0.0.1-10.0.0.9,$known,fd42::/64")]), "ok");
    assert_eq!(check(&[("protocol", "tcp"), ("destination_port", "80,8000-8010")]), "ok");
    assert_eq!(
        text(rule("x", &[]).parse(Direction::Egress, &|_| false)),
        "Action must be one of: allow, allow-stateless, drop, reject"
    );
    assert_eq!(check(&[("state", "on")]), "State must be one of: enabled, disabled, logged");
    assert_eq!(
        check(&[("source", "10.0.0.1"), ("destination", "fd42::1")]),
        "Conflicting IP family types used for Source and Destination"
    );
    assert_eq!(check(&[("source", "10.0.0.1"), ("destination", "$known")]), "ok");
    assert_eq!(
        check(&[("destination", "@internal")]),
        "Invalid Destination: Named subjects not allowed in \"Destination\" for \"ingress\" rules"
    );
    assert!(check(&[("source", "@internal")]).contains("is not supported by this version"));
    assert!(check(&[("source", "$gone")]).starts_with("Invalid Source: Failed getting network address set \"gone\""));
    assert_eq!(check(&[("source", "1.2.3.4;x")]), "Invalid Source: Invalid subject \"1.2.3.4;x\"");
    assert_eq!(check(&[("protocol", "sctp")]), "Protocol must be one of: icmp4, icmp6, tcp, udp");
    assert_eq!(check(&[("protocol", "tcp"), ("icmp_type", "1")]), "ICMP type cannot be used with non-ICMP protocol");
    assert_eq!(
        check(&[("protocol", "icmp4"), ("source_port", "1")]),
        "Source port cannot be used with \"icmp4\" protocol"
    );
    assert_eq!(check(&[("destination_port", "1")]), "Destination port cannot be used without specifying protocol");
    assert_eq!(
        check(&[("protocol", "udp"), ("source_port", "9-8")]),
        "Invalid Source port: Start port 9 must be lower than end port 8"
    );
    assert_eq!(
        check(&[("protocol", "icmp6"), ("source", "10.0.0.1")]),
        "Cannot use IPv4 source addresses with \"icmp6\" protocol"
    );
    assert!(check(&[("protocol", "icmp4"), ("icmp_type", "300")]).starts_with("Invalid ICMP type: "));
    let mut acl = Acl { format: 1, description: String::new(), config: Config::new(), egress: vec![], ingress: vec![] };
    acl.egress = vec![rule("drop", &[]), rule("allow", &[("source", "10.0.0.1")]), rule("drop", &[])];
    assert_eq!(text(acl.validate(&|_| false)), "Duplicate of egress rule 2");
    acl.egress.pop();
    assert_eq!(text(acl.validate(&|_| false)), "ok");
    assert_eq!(toml::from_str::<Acl>(&toml::to_string(&acl).expect("toml")).expect("again"), acl);
    assert_eq!(rule("allow", &[("source", " 10.0.0.1 , 10.0.0.2 ")]).normalised().source, "10.0.0.1,10.0.0.2");
    assert!(AclName::parse("web-1").is_ok());
}

#[test]
fn address_sets() {
    let set = |items: &[&str]| AddressSet {
        format: 1,
        description: String::new(),
        config: Config::new(),
        addresses: items.iter().map(|i| (*i).to_string()).collect(),
    };
    assert_eq!(text(set(&["10.0.0.1", "fd42::/64", "10.0.0.5-10.0.0.9"]).validate()), "ok");
    assert_eq!(text(set(&["x"]).validate()), "Invalid addresses: Unsupported address format \"x\" at index 0");
    assert_eq!(
        text(set(&["10.0.0.1", "10.0.0.1/32"]).validate()),
        "Invalid addresses: Duplicate address \"10.0.0.1/32\" found at index 1"
    );
}

#[test]
fn forwards_speak_as_incus() {
    let net = config(&[("ipv4.address", "10.0.0.1/24")]);
    let port = |listen: &str, target: &str, address: &str| ForwardPort {
        protocol: "tcp".into(),
        listen_port: listen.into(),
        target_port: target.into(),
        target_address: address.into(),
        ..ForwardPort::default()
    };
    let check = |listen: &str, default: &str, ports: Vec<ForwardPort>| {
        let config = if default.is_empty() { Config::new() } else { config(&[("target_address", default)]) };
        text(Forward { format: 1, description: String::new(), config, ports }.parse(listen, &net))
    };
    assert_eq!(
        check("192.0.2.1", "10.0.0.2", vec![port("80,90-92", "", "10.0.0.3"), port("22", "2222", "10.0.0.4")]),
        "ok"
    );
    assert_eq!(check("x", "", vec![]), "Invalid listen address");
    assert_eq!(check("0.0.0.0", "", vec![]), "Cannot use unspecified address: \"0.0.0.0\"");
    assert_eq!(
        check("192.0.2.1", "fd42::1", vec![]),
        "Cannot mix IP versions in listen address and default target address"
    );
    assert_eq!(check("192.0.2.1", "10.0.1.1", vec![]), "Default target address is not within the network subnet");
    assert_eq!(check("192.0.2.1", "10.0.0.255", vec![]), "Default target address cannot be a broadcast address");
    assert_eq!(check("192.0.2.1", "10.0.0.0", vec![]), "Default target address cannot be a network ID address");
    assert_eq!(
        check("192.0.2.1", "", vec![port("80-81", "", "10.0.0.3"), port("81", "", "10.0.0.4")]),
        "Duplicate listen port 81 for protocol \"tcp\" in port specification 1"
    );
    assert_eq!(
        check("192.0.2.1", "", vec![port("80-82", "1-2", "10.0.0.3")]),
        "Mismatch of listen port(s) and target port(s) count in port specification 0"
    );
    assert_eq!(check("192.0.2.1", "", vec![port("", "", "10.0.0.3")]), "Missing listen port in port specification 0");
    assert!(
        check("192.0.2.1", "", vec![port("9-8", "", "10.0.0.3")])
            .contains("Start port 9 must be lower than end port 8")
    );
    assert!(
        check("192.0.2.1", "", vec![port("70000", "", "10.0.0.3")])
            .starts_with("Invalid listen port in port specification 0")
    );
}

#[test]
fn zones() {
    let entry = |kind: &str, value: &str| ZoneEntry { kind: kind.into(), ttl: 0, value: value.into() };
    assert_eq!(entry("MX", "10 mail.example.net.").parse().expect("mx"), Data::Mx(10, "mail.example.net".into()));
    let texts = Data::Txt(vec!["a \"b\" c".into(), "d".into()]);
    assert_eq!(entry("TXT", "\"a \\\"b\\\" c\" d").parse().expect("txt"), texts);
    for (kind, bad) in
        [("A", "x"), ("A", "1.2.3.4 5"), ("TXT", "\"open"), ("SRV", "1 2 x."), ("TXT", ""), ("A", "1.2.3.4\n")]
    {
        assert!(entry(kind, bad).parse().is_err(), "{kind} {bad}");
    }
    assert_eq!(entry("NAPTR", "x").parse().expect_err("naptr").kind(), crate::error::Kind::Unsupported);
    let zone_name = |text: &str| ZoneName::parse(text).expect("zone");
    let ip = |text: &str| text.parse::<IpAddr>().expect("ip");
    let line =
        |z: &str, a: &str| zone::address_line(&zone_name(z), "c1", ip(a), "example.net").map(|l| (l.name, l.data));
    assert_eq!(
        line("example.net", "10.0.0.2"),
        Some(("c1.example.net".into(), Data::A("10.0.0.2".parse().expect("a"))))
    );
    assert_eq!(
        line("0.0.10.in-addr.arpa", "10.0.0.2"),
        Some(("2.0.0.10.in-addr.arpa".into(), Data::Ptr("c1.example.net".into())))
    );
    assert_eq!(line("1.0.10.in-addr.arpa", "10.0.0.2"), None);
    assert_eq!(line("0.0.10.in-addr.arpa", "fd42::1"), None);
    assert!(
        zone::reverse_name(ip("fd42::1")).starts_with("1.0.0.0.")
            && zone::reverse_name(ip("fd42::1")).ends_with(".2.4.d.f.ip6.arpa")
    );
    let entries = vec![entry("A", "10.0.0.1"), entry("A", "10.0.0.1")];
    let record = ZoneRecord { format: 1, description: String::new(), config: Config::new(), entries };
    assert_eq!(text(record.validate()), "Duplicate record for type \"A\" and value \"10.0.0.1\"");
}

fn device(entries: &[(&str, &str)]) -> Device {
    [&[("type", "nic"), ("network", "net0")], entries]
        .concat()
        .iter()
        .map(|(k, v)| ((*k).into(), (*v).into()))
        .collect()
}

#[test]
fn nics_on_networks_speak_as_incus() {
    let on = |net: &[(&str, &str)], d: &[(&str, &str)]| text(check_on(&device(d), &name("net0"), &bridge(net), None));
    let v4 = ("ipv4.address", "10.0.0.1/24");
    assert_eq!(on(&[v4], &[("ipv4.address", "10.0.0.9"), ("vlan", "5")]), "ok");
    assert_eq!(
        on(&[v4], &[("ipv4.address", "10.0.0.1")]),
        "IP address \"10.0.0.1\" is assigned to parent managed network device \"net0\""
    );
    assert_eq!(
        on(&[v4], &[("ipv4.address", "10.0.1.1")]),
        "Device IP address \"10.0.1.1\" not within network \"net0\" subnet"
    );
    assert_eq!(
        on(&[v4, ("ipv4.dhcp", "false")], &[("ipv4.address", "10.0.0.9")]),
        "Cannot specify \"ipv4.address\" when DHCP is disabled (unless using security.ipv4_filtering) on network \"net0\""
    );
    assert_eq!(
        on(&[("ipv6.address", "fd42::1/64")], &[("ipv6.address", "fd42::9")]),
        "Cannot specify \"ipv6.address\" when DHCP or \"ipv6.dhcp.stateful\" are disabled (unless using security.ipv6_filtering) on network \"net0\""
    );
    assert_eq!(
        on(&[v4], &[("ipv4.address", "none")]),
        "Cannot have ipv4.address as none unless using security.ipv4_filtering"
    );
    assert_eq!(on(&[v4], &[("ipv4.address", "none"), ("security.ipv4_filtering", "true")]), "ok");
    assert_eq!(on(&[v4], &[("vlan", "0")]), "VLAN ID 0 is not allowed for native Linux bridges");
    assert_eq!(on(&[v4], &[("mtu", "1400")]), "Cannot use \"mtu\" property in conjunction with \"network\" property");
    let uplink = |kind| Network { kind, ..bridge(&[("parent", "eth1"), ("vlan", "7")]) };
    let r = nic::PARENT
        .get(&super::nic::resolve(&device(&[]), &name("net0"), &uplink(NetworkType::Macvlan)).expect("nic"))
        .map(String::from);
    assert_eq!(r.as_deref(), Some("eth1"));
    assert_eq!(text(check_on(&device(&[]), &name("net0"), &uplink(NetworkType::Physical), None)), "ok");
    assert!(
        text(check_on(&device(&[("ipv4.address", "10.0.0.2")]), &name("net0"), &uplink(NetworkType::Sriov), None))
            .contains("Invalid device option")
    );
    let unmanaged = device(&[("ipv4.address", "10.0.0.2")]);
    assert_eq!(
        text(super::nic::check_unmanaged_bridge(&unmanaged)),
        "Cannot use manually specified ipv4.address when using unmanaged parent bridge"
    );
}

#[test]
fn live_changes_of_nics() {
    let kind = super::nic::kind_on(NetworkType::Bridge).expect("kind");
    assert_eq!(live(kind, "limits.ingress"), NicLive::Apply(&[NicPart::Limits]));
    assert_eq!(live(kind, "hwaddr"), NicLive::Replug);
    assert_eq!(live(kind, "user.x"), NicLive::Record);
    for kind in device::kinds().filter(|k| k.device == "nic") {
        for key in kind.options {
            let updatable = kind.updatable.iter().any(|k| k.name == key.name);
            assert_eq!(updatable, live(kind, key.name) != NicLive::Replug, "{} {}", kind.sub, key.name);
        }
    }
    let (a, b) = (device(&[]), device(&[("limits.priority", "3"), ("ipv4.address", "10.0.0.9")]));
    assert_eq!(super::nic::parts(kind, &a, &b), Some([NicPart::Priority, NicPart::Hosts, NicPart::Filter].into()));
    assert_eq!(super::nic::parts(kind, &a, &device(&[("mtu", "1400")])), None);
}

#[test]
fn nobody_takes_anothers_address() {
    let mut taken = Taken::default();
    taken.add("c1/eth0", &device(&[("ipv4.address", "10.0.0.9")]), Some("10:66:6A:00:00:01"));
    let d = device(&[("ipv4.address", "10.0.0.9")]);
    assert!(taken.check("c1/eth0", &d, None).is_ok());
    assert_eq!(text(taken.check("c2/eth0", &d, None)), "IP address \"10.0.0.9\" already defined on another NIC");
    assert!(taken.check("c2/eth0", &device(&[]), Some("10:66:6a:00:00:01")).is_err());
    assert_eq!(taken.addresses().len(), 1);
}

#[test]
fn chosen_by_chance() {
    let mut n = 0u32;
    let mut bits = || {
        n = n.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        n
    };
    let v4 = random::subnet_v4(&mut bits, &|_| false).expect("v4");
    assert!(v4.to_string().starts_with("10.") && v4.to_string().ends_with(".1/24"));
    let all: crate::base::inet::IpNet = "10.0.0.0/8".parse().expect("net");
    assert_eq!(
        text(random::subnet_v4(&mut bits, &|net| all.covers(net))),
        "Failed to automatically find an unused IPv4 subnet"
    );
    assert!(random::subnet_v6(&mut bits, &|_| false).expect("v6").to_string().starts_with("fd42:"));
    let mac = random::hwaddr("10:66:6a:xx:xx:xx", &mut bits, &|_| false).expect("mac");
    assert!(mac.starts_with("10:66:6a:") && mac.len() == 17);
    assert!(random::hwaddr("10:66:6a:xx:xx", &mut bits, &|_| false).is_err());
    assert_eq!(
        random::hwaddr("10:66:6a:00:00:01", &mut bits, &|_| true).expect_err("taken").kind(),
        crate::error::Kind::Failed
    );
    let host = random::host_name("veth", &mut bits, &|_| false).expect("veth");
    assert!(host.starts_with("veth") && host.len() == 12);
    assert_eq!(random::host_name_by_mac([0x10, 0x66, 0x6a, 1, 2, 3]), "inc666a010203");
}

proptest! {
    #[test]
    fn nothing_panics(a in "\\PC{0,24}", b in "[0-9a-f.:/,$@ -]{0,24}") {
        for value in [&a, &b] {
            let mut r = rule("allow", &[("protocol", "tcp"), ("destination_port", value.as_str())]);
            r.source = value.clone();
            if let Ok(parsed) = r.parse(Direction::Ingress, &|_| true) {
                prop_assert!(parsed.source.iter().all(|s| !matches!(s, Subject::Set(n) if n.contains(char::is_whitespace))));
            }
            let entry = ZoneEntry { kind: "TXT".into(), ttl: 1, value: value.clone() };
            let _ = entry.parse();
            let _ = check_on(&device(&[("ipv4.address", value)]), &name("net0"), &bridge(&[("ipv4.address", value)]), None);
            let _ = validate(&name("net0"), NetworkType::Bridge, &config(&[("ipv4.dhcp.ranges", value), ("ipv4.address", "10.0.0.1/24")]));
        }
    }
}
