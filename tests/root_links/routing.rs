//! Addresses, routes, neighbours, settings, limits, and the search for a free subnet.

use super::support::{alone, elsewhere, json, net, output, spec};
use serde_json::{Value, json};
use stapes::error::Kind as ErrorKind;
use stapes::host::links::sysctl::{self, Family, Setting};
use stapes::host::links::{AddressOptions, Bridge, Kind, Links, Route, Target, address, route, tc};
use std::os::fd::AsFd;

/// A bridge that is up, as a place for addresses.
fn bridge(links: &mut Links, name: &str) -> Target {
    links.create(&spec(name, Kind::Bridge(Bridge::default()))).unwrap();
    links.target(name).unwrap()
}

#[test]
fn addresses_come_and_go() {
    alone("addresses_come_and_go", |links| {
        let on = bridge(links, "br0");
        let options = AddressOptions { nodad: true, noprefixroute: true };
        let wanted = ["10.9.8.1/24", "fd42:1::1/64"];
        for _ in 0..2 {
            let steps = wanted.map(|text| address::add(&on, net(text), options));
            links.run_all(steps.into()).unwrap();
        }
        links.run(address::add(&on, net("10.9.9.1/24"), AddressOptions::default())).unwrap();
        let said = json("ip -d -j addr show br0")[0]["addr_info"].clone();
        let of = |local: &str| said.as_array().unwrap().iter().find(|a| a["local"] == local).cloned().unwrap();
        for (local, prefix) in [("10.9.8.1", 24), ("fd42:1::1", 64)] {
            let a = of(local);
            assert_eq!(
                (&a["prefixlen"], &a["noprefixroute"], &a["scope"]),
                (&json!(prefix), &json!(true), &json!("global")),
                "{a}"
            );
        }
        assert_eq!(
            (of("fd42:1::1")["nodad"].clone(), of("10.9.9.1")["noprefixroute"].clone()),
            (json!(true), Value::Null)
        );
        let found = links.addresses_of(on.index).unwrap();
        let names: Vec<_> = found.iter().map(|a| (a.net.to_string(), a.scope_name(), a.is_tentative())).collect();
        for text in ["10.9.8.1/24", "10.9.9.1/24", "fd42:1::1/64"] {
            assert!(names.contains(&(text.into(), "global", false)), "{names:?}");
        }
        assert!(links.addresses().unwrap().len() >= found.len());
        links.run(address::remove(&on, net("10.9.8.1/24"))).unwrap();
        links.run(address::remove(&on, net("10.9.8.1/24"))).unwrap();
        links.remove_addresses(&on, |a| a.scope_name() == "global").unwrap();
        let left = links.addresses_of(on.index).unwrap();
        assert!(left.iter().all(|a| a.scope_name() == "link"), "{left:?}");
        let e = links.run(address::add(&Target { index: 999, name: "gone".into() }, net("10.0.0.1/24"), options));
        let e = e.expect_err("no interface");
        assert_eq!(e.errno(), Some(libc::ENODEV));
        assert!(e.to_string().starts_with("Failed to add address \"10.0.0.1/24\" to \"gone\": "), "{e}");
        links.run(address::remove(&Target { index: 999, name: "gone".into() }, net("10.0.0.1/24"))).unwrap();
    });
}

#[test]
fn routes_and_proxied_neighbours() {
    alone("routes_and_proxied_neighbours", |links| {
        let on = bridge(links, "br0");
        links.run(address::add(&on, net("10.9.8.1/24"), AddressOptions::default())).unwrap();
        let plain = Route::on(net("10.20.0.0/16"), on.index);
        let table = Route {
            table: 1000,
            protocol: route::STATIC,
            metric: Some(77),
            ..Route::on(net("10.21.0.5/32"), on.index)
        };
        let far =
            Route { onlink: true, ..Route::through(net("10.22.0.0/24"), "169.254.0.1".parse().unwrap(), on.index) };
        let six = Route { source: None, ..Route::on(net("fd77::5/128"), on.index) };
        links.run_all([plain, table, far, six].iter().map(route::add).collect()).unwrap();
        links.run_all([plain, table, far, six].iter().map(route::replace).collect()).unwrap();
        let other = bridge(links, "br1");
        let e = links.run(route::add(&Route { device: Some(other.index), ..plain })).expect_err("taken");
        assert_eq!(
            (e.kind(), e.to_string().as_str()),
            (ErrorKind::Exists, "Failed to add route \"10.20.0.0/16\": File exists")
        );
        let said = json("ip -d -j route show table all");
        let of = |dst: &str| said.as_array().unwrap().iter().find(|r| r["dst"] == dst).cloned().unwrap();
        assert_eq!(
            (of("10.20.0.0/16")["scope"].clone(), of("10.20.0.0/16")["dev"].clone()),
            (json!("link"), json!("br0"))
        );
        let there = of("10.21.0.5");
        assert_eq!(
            (&there["table"], &there["protocol"], &there["metric"]),
            (&json!("1000"), &json!("static"), &json!(77))
        );
        assert_eq!(
            (of("10.22.0.0/24")["gateway"].clone(), of("10.22.0.0/24")["flags"].clone()),
            (json!("169.254.0.1"), json!(["onlink"]))
        );
        let main = links.routes(true, Some(route::MAIN), None).unwrap();
        assert!(main.contains(&plain) && main.contains(&far) && !main.contains(&table), "{main:?}");
        assert_eq!(links.routes(true, Some(1000), Some(on.index)).unwrap(), [table]);
        let v6 = links.routes(false, None, Some(on.index)).unwrap();
        assert!(v6.iter().any(|r| r.to == six.to && r.device == Some(on.index)), "{v6:?}");
        let to = links.route_to("10.20.1.1".parse().unwrap()).unwrap().unwrap();
        assert_eq!((to.device, to.source), (Some(on.index), Some("10.9.8.1".parse().unwrap())));
        assert_eq!(links.route_to("8.8.8.8".parse().unwrap()).unwrap(), None);
        for _ in 0..2 {
            links.run_all([plain, table, far, six].iter().map(route::remove).collect()).unwrap();
        }
        assert!(!output("ip route show table all").contains("10.2"), "{}", output("ip route show table all"));

        let addresses = ["10.30.0.1", "fd77::1"].map(|a| a.parse().unwrap());
        for _ in 0..2 {
            links.run_all(addresses.iter().map(|a| route::add_proxy(&on, *a)).collect()).unwrap();
        }
        assert!(output("ip neigh show proxy").contains("10.30.0.1 dev br0"));
        assert_eq!(links.proxies(true).unwrap(), [(on.index, addresses[0])]);
        assert_eq!(links.proxies(false).unwrap(), [(on.index, addresses[1])]);
        for _ in 0..2 {
            links.run_all(addresses.iter().map(|a| route::remove_proxy(&on, *a)).collect()).unwrap();
        }
        assert_eq!(output("ip neigh show proxy"), "");
    });
}

#[test]
fn what_a_subnet_clashes_with() {
    alone("what_a_subnet_clashes_with", |links| {
        let (a, b) = (bridge(links, "br0"), bridge(links, "br1"));
        links.run(address::add(&a, net("10.9.8.1/24"), AddressOptions { noprefixroute: true, nodad: true })).unwrap();
        let default = Route::through(net("0.0.0.0/0"), "10.9.8.254".parse().unwrap(), a.index);
        let vpn = Route::on(net("128.0.0.0/1"), b.index);
        let six = Route::on(net("fd42:5::/48"), b.index);
        let routes = [Route { onlink: true, ..default }, vpn, Route::on(net("10.50.0.0/16"), b.index), six];
        links.run_all(routes.iter().map(route::add).collect()).unwrap();
        output("ip route add blackhole 10.60.0.0/24 table 55");
        let mut clash =
            |text: &str, ignore| links.clash(net(text), ignore).unwrap().map(|c| (c.net.to_string(), c.device));
        assert_eq!(clash("10.9.8.128/25", None), Some(("10.9.8.1/24".into(), Some(a.index))));
        assert_eq!(clash("10.9.0.0/16", None), Some(("10.9.8.1/24".into(), Some(a.index))));
        assert_eq!(clash("10.9.8.0/24", Some(a.index)), None);
        assert_eq!(clash("10.50.7.0/24", None), Some(("10.50.0.0/16".into(), Some(b.index))));
        assert_eq!(clash("10.60.0.128/25", None), Some(("10.60.0.0/24".into(), None)));
        assert_eq!((clash("10.61.0.0/24", None), clash("192.168.7.0/24", None)), (None, None));
        assert_eq!(clash("fd42:5:0:1::/64", None), Some(("fd42:5::/48".into(), Some(b.index))));
        assert_eq!(clash("fd42:6::/64", None), None);
    });
}

#[test]
fn settings_of_interfaces() {
    alone("settings_of_interfaces", |links| {
        bridge(links, "a.b");
        let wanted =
            [(Setting::AcceptRa, 0), (Setting::AddrGenMode, 1), (Setting::Autoconf, 0), (Setting::ProxyNdp, 1)];
        sysctl::set(Family::V6, "a.b", &wanted).unwrap();
        for (setting, value) in wanted {
            assert_eq!(sysctl::get(Family::V6, "a.b", setting).unwrap(), value);
        }
        sysctl::set(Family::V4, "a.b", &[(Setting::RpFilter, 2), (Setting::ProxyArp, 1)]).unwrap();
        assert_eq!(sysctl::get(Family::V4, "a.b", Setting::RpFilter).unwrap(), 2);
        sysctl::set(Family::V6, "a.b", &[(Setting::DisableIpv6, 1)]).unwrap();
        let index = links.target("a.b").unwrap().index;
        assert_eq!(links.addresses_of(index).unwrap(), []);
        for bad in ["all", "default", "..", ".", "", "a/b", "../all", "lo/../all", "a b"] {
            let e = sysctl::set(Family::V4, bad, &[(Setting::Forwarding, 1)]).expect_err(bad).to_string();
            assert!(e.ends_with(&format!("Invalid interface name \"{bad}\"")), "{e}");
        }
        let e = sysctl::get(Family::V4, "nosuch", Setting::Forwarding).expect_err("not there");
        assert_eq!(e.to_string(), "Failed to read forwarding of interface \"nosuch\": No such interface");
        // In another namespace: there, and not here.
        let guest = elsewhere();
        sysctl::set_in(guest.as_fd(), Family::V6, "lo", &[(Setting::DisableIpv6, 1)]).unwrap();
        assert_eq!(sysctl::get(Family::V6, "lo", Setting::DisableIpv6).unwrap(), 0);
        assert!(sysctl::has_ipv6());
        bridge(links, "up0");
        for family in [Family::V4, Family::V6] {
            sysctl::enable_forwarding(family).unwrap();
            assert_eq!(sysctl::get(family, "lo", Setting::Forwarding).unwrap(), 1);
        }
        // What listened to router advertisements goes on; what did not goes on not to.
        let listens = |interface| sysctl::get(Family::V6, interface, Setting::AcceptRa).unwrap();
        assert_eq!((listens("up0"), listens("a.b")), (2, 0));
    });
}

#[test]
fn limits_of_bandwidth() {
    alone("limits_of_bandwidth", |links| {
        let on = bridge(links, "br0");
        if let Err(e) =
            links.run_all(tc::limit_ingress(&on, 1 << 20)).and(links.run_all(tc::limit_egress(&on, 1 << 20)))
        {
            // The kernel's words where it lacks HTB, the ingress discipline, the filter or the action.
            assert_eq!(e.errno(), Some(libc::ENOENT), "{e}");
            eprintln!("SKIP limits_of_bandwidth: {e}");
            return;
        }
        for rate in [80_000u64, 1_000_000_000, 100_000_000_000] {
            links.run_all(tc::limit_ingress(&on, rate)).unwrap();
            links.run_all(tc::limit_egress(&on, rate)).unwrap();
            let classes = output("tc class show dev br0");
            let (word, burst) = match rate {
                80_000 => ("80Kbit", "64Kb"),
                1_000_000_000 => ("1Gbit", "2"),
                _ => ("100Gbit", "2"),
            };
            let class = classes.lines().find(|line| line.starts_with("class htb 1:10 root leaf 10:")).unwrap();
            assert!(class.contains(&format!("rate {word} ceil {word} ")), "{class}");
            let disciplines = output("tc qdisc show dev br0");
            assert!(disciplines.contains("htb 1: root") && disciplines.contains("default 0x10"), "{disciplines}");
            assert!(
                disciplines.contains("fq_codel 10: parent 1:10") && disciplines.contains("ingress ffff:"),
                "{disciplines}"
            );
            let filter = output("tc filter show dev br0 parent ffff:");
            let police = format!("rate {word} burst {burst}");
            assert!(
                filter.contains("matchall") && filter.contains(&police) && filter.contains("action drop"),
                "{filter}"
            );
            assert!(filter.contains("mtu 64Kb"), "{filter}");
        }
        for _ in 0..2 {
            links.run_all(vec![tc::remove_ingress(&on), tc::remove_egress(&on)]).unwrap();
        }
        assert!(
            !output("tc qdisc show dev br0").contains("htb") && !output("tc qdisc show dev br0").contains("ingress")
        );
    });
}
