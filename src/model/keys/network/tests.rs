use super::*;
use std::collections::BTreeSet;

const TYPES: [NetworkType; 4] = [NetworkType::Bridge, NetworkType::Macvlan, NetworkType::Sriov, NetworkType::Physical];

fn config(entries: &[(&str, &str)]) -> Config {
    entries.iter().map(|(k, v)| ((*k).to_string(), (*v).to_string())).collect()
}

fn message(kind: NetworkType, entries: &[(&str, &str)]) -> String {
    check_each("net0", kind, &config(entries)).map_or_else(|e| e.to_string(), |()| "ok".into())
}

#[test]
fn declarations_are_whole() {
    for kind in TYPES {
        let mut seen = BTreeSet::new();
        for NetKey { key, .. } in all(kind) {
            assert!(seen.insert(key.display_name()), "{} twice", key.display_name());
            assert!(!key.short.is_empty() && !key.short.ends_with('.'), "{}", key.name);
            let dynamic = ["auto", "0"].contains(&key.default);
            assert!(dynamic || key.value.check(key.default).is_ok(), "default of {}", key.name);
            let name = key.of("x");
            assert!(std::ptr::eq(find(kind, &name).expect("itself").key, *key), "{name}");
        }
    }
    assert!(all(NetworkType::Bridge).count() > 60);
    assert!(find(NetworkType::Macvlan, "ipv4.nat").is_none() && find(NetworkType::Bridge, "tunnel.a.b.port").is_none());
    assert!(find(NetworkType::Bridge, "tunnel..port").is_none());
}

/// Rows CVE-2026-23953, GHSA-m3j6-p3v3-qmjv, GHSA-7fj9-65v4-rp7h for networks: nothing smuggles a line anywhere.
#[test]
fn no_option_takes_control_characters() {
    for kind in TYPES {
        for NetKey { key, .. } in all(kind) {
            for c in (0u8..32).chain([127]).map(char::from) {
                let refused = key.value.check(&format!("a{c}b")).is_err();
                assert!(refused || (key.value.is_text() && matches!(c, '\n' | '\t')), "{} takes {c:?}", key.name);
            }
        }
    }
    for bad in ["a\nb", "a,b", "a b", "x/y", "#x"] {
        assert_ne!(message(NetworkType::Bridge, &[("dns.domain", bad)]), "ok", "{bad}");
        assert_ne!(message(NetworkType::Bridge, &[("ipv4.dhcp.expiry", bad)]), "ok", "{bad}");
    }
}

#[test]
fn speaks_as_incus() {
    let bridge = |entries: &[(&str, &str)]| message(NetworkType::Bridge, entries);
    assert_eq!(
        bridge(&[
            ("ipv4.address", "10.0.0.1/24"),
            ("tunnel.a.port", "4789"),
            ("user.x", "y"),
            ("ipv4.dhcp.expiry", "1h")
        ]),
        "ok"
    );
    assert_eq!(bridge(&[("ipv6.address", "fd42::/64"), ("bridge.external_interfaces", "eth1, v5/eth2/5")]), "ok");
    assert_eq!(bridge(&[("foo", "x")]), "Invalid option for network \"net0\" option \"foo\"");
    assert_eq!(
        bridge(&[("ipv4.address", "10.0.0.0/24")]),
        "Invalid value for network \"net0\" option \"ipv4.address\": Not a usable IPv4 address \"10.0.0.0/24\""
    );
    assert!(bridge(&[("ipv4.address", "10.0.0.1")]).ends_with("invalid CIDR address: 10.0.0.1"));
    assert!(bridge(&[("ipv4.dhcp.ranges", "10.0.0.1")]).ends_with("IP range must contain start and end IP addresses"));
    assert!(bridge(&[("ipv4.dhcp.routes", "10.1.0.0/24")]).ends_with("missing gateway for route 10.1.0.0/24"));
    assert!(bridge(&[("bridge.mtu", "500")]).ends_with("Out of MTU range (1280-16384) \"500\""));
    assert!(bridge(&[("bridge.external_interfaces", "e/x/5000")]).contains("interface name \"e\""));
    assert!(bridge(&[("tunnel.a.port", "70000")]).ends_with("Invalid port number: 70000"));
    assert!(bridge(&[("bgp.peers.a.asn", "65000")]).contains("is not supported by this version"));
    assert!(bridge(&[("bridge.driver", "openvswitch")]).contains("is not supported by this version"));
    assert_eq!(
        message(NetworkType::Macvlan, &[("mtu", "1500")]),
        "Invalid value for network \"net0\" option \"parent\": Required value"
    );
    assert_eq!(message(NetworkType::Physical, &[("parent", "eth0"), ("ipv4.gateway", "192.0.2.1/24")]), "ok");
    assert!(bridge(&[("raw.dnsmasq", "no-poll\ndhcp-script=/bin/x")]).ends_with("is not allowed in raw.dnsmasq"));
}
