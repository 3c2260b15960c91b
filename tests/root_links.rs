//! `host::links` on the real kernel, compared with what iproute2 says. Each test makes a network namespace of its own; the
//! machine's interfaces stay untouched.
#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "a test: it starts programs and names what it skips"
)]

#[path = "root_links/many.rs"]
mod many;
#[path = "root_links/routing.rs"]
mod routing;
#[path = "root_links/state.rs"]
mod state;
#[path = "root_links/support.rs"]
mod support;

use serde_json::json;
use stapes::error::Kind as ErrorKind;
use stapes::host::links::link::PortState;
use stapes::host::links::{Bridge, Change, Details, End, IpVlan, Kind, LinkSpec, Links, MacVlan, Port, PortVlan, spec};
use std::os::fd::AsFd;
use support::{alone, elsewhere, link, made};

const MAC: [u8; 6] = [0x10, 0x66, 0x6a, 0, 0, 1];

#[test]
fn a_bridge_is_made_as_it_was_asked_for() {
    alone("a_bridge_is_made_as_it_was_asked_for", |links| {
        let kind = Bridge {
            multicast_snooping: Some(false),
            vlan_filtering: None,
            default_pvid: None,
            group_fwd_mask: Some(0x4000),
        };
        let end = End { name: "br0", mac: Some(MAC), mtu: Some(1500), up: true, tx_queue: Some(700), namespace: None };
        let bridge = LinkSpec { end, kind: Kind::Bridge(kind), master: None, lower: None };
        links.create(&bridge).unwrap();
        let said = link("br0");
        let data = &said["linkinfo"]["info_data"];
        assert_eq!(
            (&said["address"], &said["mtu"], &said["txqlen"]),
            (&json!("10:66:6a:00:00:01"), &json!(1500), &json!(700))
        );
        assert_eq!((&data["stp_state"], &data["forward_delay"]), (&json!(0), &json!(0)));
        assert_eq!(data["mcast_snooping"], json!(0));
        assert!(said["flags"].as_array().unwrap().contains(&json!("UP")), "{said}");
        let found = links.get("br0").unwrap();
        let Details::Bridge(state) = &found.details else { panic!("{found:?}") };
        assert_eq!(
            (found.kind.as_str(), found.mac, found.mtu, found.is_up(), found.medium()),
            ("bridge", Some(MAC), 1500, true, "broadcast")
        );
        assert_eq!(state.id, "8000.10666a000001");
        assert_eq!((state.stp, state.forward_delay, state.vlan_filtering), (false, 0, false));
        assert_eq!((state.multicast_snooping, state.group_fwd_mask), (false, 0x4000));
        let snooping = Bridge { multicast_snooping: Some(true), ..Bridge::default() };
        links.run(spec::change_bridge(&found.target(), &snooping)).unwrap();
        assert_eq!(link("br0")["linkinfo"]["info_data"]["mcast_snooping"], json!(1));
        // A port with another MTU does not change the bridge's.
        for (name, mtu) in [("small", 1400), ("large", 9000)] {
            let port = LinkSpec {
                end: End { name, mtu: Some(mtu), up: true, ..End::default() },
                kind: Kind::Veth(End { name: &format!("{name}-end"), ..End::default() }),
                master: Some(found.index),
                lower: None,
            };
            links.create(&port).unwrap();
            assert_eq!((link("br0")["mtu"].clone(), link(name)["master"].clone()), (json!(1500), json!("br0")));
        }
        let mut ports: Vec<String> = links.ports_of(found.index).unwrap().into_iter().map(|l| l.name).collect();
        ports.sort();
        assert_eq!(ports, ["large", "small"]);
        let e = links.create(&bridge).expect_err("it is there");
        assert_eq!(
            (e.kind(), e.to_string().as_str()),
            (ErrorKind::Exists, "Failed to create bridge \"br0\": File exists")
        );
        links.run(spec::delete("br0")).unwrap();
        links.run(spec::delete("br0")).unwrap();
        assert_eq!(links.find("br0").unwrap(), None);
        assert_eq!(links.get("br0").expect_err("gone").to_string(), "Network interface \"br0\" not found");
    });
}

#[test]
fn a_pair_reaches_into_another_namespace() {
    alone("a_pair_reaches_into_another_namespace", |links| {
        let guest = elsewhere();
        links.create(&support::spec("br0", Kind::Bridge(Bridge::default()))).unwrap();
        let bridge = links.get("br0").unwrap();
        let inner = End {
            name: "eth0",
            mac: Some(MAC),
            mtu: Some(1400),
            tx_queue: Some(123),
            up: true,
            namespace: Some(guest.as_fd()),
        };
        let outer = End { name: "veth1", mtu: Some(1400), up: true, tx_queue: Some(321), ..End::default() };
        links
            .create(&LinkSpec { end: outer, kind: Kind::Veth(inner), master: Some(bridge.index), lower: None })
            .unwrap();
        let mut inside = Links::open_in(guest.as_fd()).unwrap();
        // The kernel says a little later that a link is up (its linkwatch).
        support::until(|| inside.get("eth0").unwrap().state == "up" && links.get("veth1").unwrap().state == "up");
        let (here, there) = (links.get("veth1").unwrap(), inside.get("eth0").unwrap());
        assert_eq!((here.kind.as_str(), here.mtu, here.tx_queue, here.master), ("veth", 1400, 321, Some(bridge.index)));
        assert_eq!((there.mac, there.mtu, there.tx_queue, there.state), (Some(MAC), 1400, 123, "up"));
        assert_eq!((here.lower, there.lower), (Some(there.index), Some(here.index)));
        assert!(here.lower_namespace.is_some() && there.lower_namespace.is_some());
        assert!(links.find("eth0").unwrap().is_none() && inside.find("veth1").unwrap().is_none());
        assert_eq!((link("veth1")["operstate"].clone(), link("veth1")["master"].clone()), (json!("UP"), json!("br0")));
        // One end gone is both gone.
        links.run(spec::delete("veth1")).unwrap();
        assert_eq!(inside.find("eth0").unwrap(), None);
        // A namespace that goes takes its interfaces along; one that holds a socket stays.
        let e = links.create(&LinkSpec { lower: Some(99), ..support::spec("x", Kind::MacVlan(MacVlan::Bridge)) });
        assert_eq!(e.expect_err("no such interface").kind(), ErrorKind::NotFound);
    });
}

#[test]
fn a_link_moves_changes_and_comes_back() {
    alone("a_link_moves_changes_and_comes_back", |links| {
        let (guest, home) = (elsewhere(), stapes::sys::ns::open_own_net().unwrap());
        links.create(&support::pair("phys0", "far0")).unwrap();
        let here = links.get("phys0").unwrap();
        let into = Change {
            namespace: Some(guest.as_fd()),
            name: Some("eth5"),
            up: Some(true),
            mtu: Some(1300),
            mac: Some(MAC),
            tx_queue: Some(55),
            ..Change::default()
        };
        links.run(spec::change(&here.target(), &into)).unwrap();
        assert!(links.find("phys0").unwrap().is_none());
        let mut inside = Links::open_in(guest.as_fd()).unwrap();
        let there = inside.get("eth5").unwrap();
        assert_eq!((there.mtu, there.mac, there.tx_queue, there.is_up()), (1300, Some(MAC), 55, true));
        let back = Change {
            namespace: Some(home.as_fd()),
            name: Some("phys0"),
            mtu: Some(here.mtu),
            mac: here.mac,
            ..Change::default()
        };
        inside.run(spec::change(&there.target(), &back)).unwrap();
        let again = links.get("phys0").unwrap();
        assert_eq!((again.mtu, again.mac, again.is_up()), (here.mtu, here.mac, false));
        let alias = Change { alias: Some("of an instance"), up: Some(true), ..Change::default() };
        links.run(spec::change(&again.target(), &alias)).unwrap();
        assert_eq!(
            (link("phys0")["ifalias"].clone(), links.get("phys0").unwrap().alias),
            (json!("of an instance"), "of an instance".into())
        );
        let e =
            links.run(spec::change(&again.target(), &Change { mtu: Some(1), mac: Some([1; 6]), ..Change::default() }));
        let e = e.expect_err("no such address").to_string();
        assert_eq!(e, "Failed to change interface \"phys0\": Cannot assign requested address");
    });
}

/// Makes an interface of `kind` above another and gives its `linkinfo`, if the kernel has the kind.
fn above(test: &str, links: &mut Links, kind: Kind<'static>) -> Option<serde_json::Value> {
    if links.find("base0").unwrap().is_none() {
        links.create(&support::pair("base0", "base1")).unwrap();
    }
    links.run(spec::delete("top0")).unwrap();
    let lower = Some(links.get("base0").unwrap().index);
    let there = made(test, links, &LinkSpec { lower, ..support::spec("top0", kind) });
    there.then(|| {
        assert_eq!(links.get("top0").unwrap().lower, lower);
        link("top0")["linkinfo"].clone()
    })
}

#[test]
fn macvlans() {
    alone("macvlans", |links| {
        for (mode, word) in [
            (MacVlan::Bridge, "bridge"),
            (MacVlan::Vepa, "vepa"),
            (MacVlan::Private, "private"),
            (MacVlan::Passthru, "passthru"),
        ] {
            let Some(said) = above("macvlans", links, Kind::MacVlan(mode)) else { return };
            assert_eq!((&said["info_kind"], &said["info_data"]["mode"]), (&json!("macvlan"), &json!(word)));
        }
    });
}

#[test]
fn ipvlans() {
    alone("ipvlans", |links| {
        for (mode, word) in [(IpVlan::L2, "l2"), (IpVlan::L3s, "l3s")] {
            let Some(said) = above("ipvlans", links, Kind::IpVlan(mode)) else { return };
            assert_eq!((&said["info_kind"], &said["info_data"]["mode"]), (&json!("ipvlan"), &json!(word)));
        }
    });
}

#[test]
fn vlans() {
    alone("vlans", |links| {
        let Some(said) = above("vlans", links, Kind::Vlan { id: 42, gvrp: false }) else { return };
        assert_eq!((&said["info_data"]["id"], &said["info_data"]["flags"]), (&json!(42), &json!(["REORDER_HDR"])));
        assert_eq!(links.get("top0").unwrap().details, Details::Vlan(42));
        let Some(said) = above("vlans", links, Kind::Vlan { id: 43, gvrp: true }) else { return };
        assert_eq!(said["info_data"]["flags"], json!(["REORDER_HDR", "GVRP"]));
    });
}

#[test]
fn vrfs() {
    alone("vrfs", |links| {
        if made("vrfs", links, &support::spec("vrf0", Kind::Vrf { table: 1234 })) {
            let vrf = links.vrfs().unwrap();
            assert_eq!((vrf.len(), vrf[0].name.as_str(), &vrf[0].details), (1, "vrf0", &Details::Vrf(1234)));
        }
    });
}

#[test]
fn dummies_and_lists() {
    alone("dummies_and_lists", |links| {
        links.create(&support::pair("base0", "base1")).unwrap();
        let names: Vec<String> = links.list().unwrap().into_iter().map(|l| l.name).collect();
        assert_eq!(names.iter().filter(|n| ["base0", "base1", "lo"].contains(&n.as_str())).count(), 3, "{names:?}");
        if made("dummies_and_lists", links, &support::spec("dummy0", Kind::Dummy)) {
            assert_eq!(
                (links.get("dummy0").unwrap().kind.as_str(), link("dummy0")["linkinfo"]["info_kind"].clone()),
                ("dummy", json!("dummy"))
            );
        }
    });
}

#[test]
fn flags_of_a_port() {
    alone("flags_of_a_port", |links| {
        links.create(&support::spec("br0", Kind::Bridge(Bridge::default()))).unwrap();
        let master = Some(links.get("br0").unwrap().index);
        links.create(&LinkSpec { master, ..support::pair("port0", "far0") }).unwrap();
        let port = links.get("port0").unwrap();
        assert_eq!(port.port, Some(PortState { learning: true, ..PortState::default() }));
        let flags =
            Port { isolated: Some(true), learning: Some(false), neigh_suppress: Some(true), hairpin: Some(true) };
        links.run(spec::change_port(&port.target(), &flags)).unwrap();
        let said = link("port0")["linkinfo"]["info_slave_data"].clone();
        for (key, value) in [("isolated", true), ("learning", false), ("neigh_suppress", true), ("hairpin", true)] {
            assert_eq!(said[key], json!(value), "{key}");
        }
        let all = PortState { isolated: true, learning: false, neigh_suppress: true, hairpin: true };
        assert_eq!(links.get("port0").unwrap().port, Some(all));
        links.run(spec::change_port(&port.target(), &Port { hairpin: Some(false), ..Port::default() })).unwrap();
        assert_eq!(links.get("port0").unwrap().port, Some(PortState { hairpin: false, ..all }));
        links.run(spec::change(&port.target(), &Change { master: Some(0), ..Change::default() })).unwrap();
        assert_eq!((links.get("port0").unwrap().master, links.get("port0").unwrap().port), (None, None));
    });
}

#[test]
fn vlans_of_ports() {
    alone("vlans_of_ports", |links| {
        let filtering = Bridge { vlan_filtering: Some(true), default_pvid: Some(5), ..Bridge::default() };
        if !made("vlans_of_ports", links, &support::spec("br0", Kind::Bridge(filtering))) {
            return;
        }
        let bridge = links.get("br0").unwrap();
        let Details::Bridge(state) = &bridge.details else { panic!("{bridge:?}") };
        assert_eq!((state.vlan_filtering, state.default_pvid), (true, 5));
        links.create(&LinkSpec { master: Some(bridge.index), ..support::pair("port0", "far0") }).unwrap();
        let port = links.target("port0").unwrap();
        let found = |links: &mut Links| {
            let all = links.vlans().unwrap().into_iter();
            all.filter(|(index, _)| *index == port.index).flat_map(|(_, vlans)| vlans).collect::<Vec<_>>()
        };
        assert_eq!(found(links), [PortVlan::one(5).native()]);
        let wanted = [PortVlan::one(100).native(), PortVlan::range(200, 300), PortVlan::one(400)];
        let all = PortVlan::range(1, 4094);
        links.run_all(vec![spec::remove_vlans(&port, &[all]), spec::add_vlans(&port, &wanted)]).unwrap();
        // Versions of iproute2 differ in whether they fold ranges.
        let said = support::json("bridge -j vlan show dev port0")[0]["vlans"].clone();
        let number = |v: &serde_json::Value, key: &str| v[key].as_u64();
        let all = said.as_array().unwrap().iter();
        let ids: Vec<u64> = all
            .flat_map(|v| number(v, "vlan").unwrap()..=number(v, "vlanEnd").or(number(v, "vlan")).unwrap())
            .collect();
        assert_eq!(ids, std::iter::once(100).chain(200..=300).chain([400]).collect::<Vec<_>>());
        assert_eq!((&said[0]["flags"], &said[1]["flags"]), (&json!(["PVID", "Egress Untagged"]), &json!(null)));
        assert_eq!(found(links), wanted);
        links.run(spec::remove_vlans(&port, &[PortVlan::range(200, 300), PortVlan::one(7)])).unwrap();
        assert_eq!(found(links), [wanted[0], wanted[2]]);
        let off = Bridge { vlan_filtering: Some(false), ..Bridge::default() };
        links.run(spec::change_bridge(&bridge.target(), &off)).unwrap();
        assert_eq!(link("br0")["linkinfo"]["info_data"]["vlan_filtering"], json!(0));
    });
}
