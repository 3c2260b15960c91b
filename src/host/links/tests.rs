use super::*;
use crate::sys::netlink::attr::{Attrs, u32_of};
use netlink_packet_core::{NetlinkMessage, NetlinkPayload};
use proptest::prelude::*;
use spec::Creation;

/// The bytes of a request behind its header.
fn payload(step: Step) -> Vec<u8> {
    let (request, _) = step.split();
    let mut message = NetlinkMessage::from(request.message);
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    assert!(matches!(message.payload, NetlinkPayload::InnerMessage(_)));
    bytes.split_off(16)
}

fn on() -> Target {
    Target { index: 7, name: "eth7".into() }
}

#[test]
fn a_request_read_as_a_reply_says_the_same() {
    let end = End {
        name: "br0",
        mac: Some([2, 0, 0, 0, 0, 1]),
        mtu: Some(1400),
        tx_queue: Some(9),
        up: true,
        namespace: None,
    };
    let bridge = Bridge {
        multicast_snooping: Some(true),
        vlan_filtering: Some(true),
        default_pvid: Some(3),
        group_fwd_mask: Some(8),
    };
    let Creation { first, second } =
        spec::create(&LinkSpec { end, kind: Kind::Bridge(bridge), master: Some(4), lower: None });
    let link = Link::parse(&payload(first)).expect("a link");
    assert_eq!((link.name.as_str(), link.kind.as_str(), link.mac), ("br0", "bridge", end.mac));
    assert_eq!((link.tx_queue, link.master, link.is_up()), (9, Some(4), true));
    let Details::Bridge(state) = link.details else { panic!("{:?}", link.details) };
    assert_eq!((state.vlan_filtering, state.default_pvid, state.multicast_snooping), (true, 3, true));
    assert_eq!((state.stp, state.forward_delay, state.group_fwd_mask), (false, 0, 8));
    // Its MTU counts as chosen only if it changes once the bridge is there.
    assert_eq!(link.mtu, 1500);
    let second = Link::parse(&payload(second.expect("the MTU"))).expect("a link");
    assert_eq!((second.name.as_str(), second.mtu, second.is_up()), ("br0", 1400, false));
}

#[test]
fn an_end_that_is_to_be_up_is_made_first() {
    let other = End { name: "eth0", up: true, ..End::default() };
    let end = End { name: "veth1", up: true, ..End::default() };
    let made = |other| spec::create(&LinkSpec { end, kind: Kind::Veth(other), master: Some(4), lower: None });
    let Creation { first, second } = made(other);
    let first = Link::parse(&payload(first)).expect("a link");
    assert_eq!((first.name.as_str(), first.is_up(), first.master), ("eth0", true, None));
    let second = Link::parse(&payload(second.expect("the rest"))).expect("a link");
    assert_eq!((second.name.as_str(), second.is_up(), second.master), ("veth1", true, Some(4)));
    let Creation { first, second } = made(End { up: false, ..other });
    let first = Link::parse(&payload(first)).expect("a link");
    assert_eq!((first.name.as_str(), first.master, second), ("veth1", Some(4), None));
}

#[test]
fn ports_addresses_and_routes_read_as_replies() {
    let port = Port { isolated: Some(true), hairpin: Some(true), ..Port::default() };
    let step = spec::change_port(&on(), &port);
    // A reply has a name.
    let mut bytes = payload(step);
    bytes.extend([6, 0, 3, 0, b'x', 0, 0, 0]);
    let read = Link::parse(&bytes).expect("a link").port.expect("a port");
    assert_eq!((read.isolated, read.hairpin, read.learning, read.neigh_suppress), (true, true, false, false));
    let vlans = [PortVlan::one(9).native(), PortVlan::range(20, 30)];
    assert_eq!(PortVlan::parse(&payload(spec::add_vlans(&on(), &vlans))), Some((7, vlans.to_vec())));

    let net = "10.1.2.3/24".parse().expect("an address");
    let options = AddressOptions { nodad: true, noprefixroute: true };
    let read = Address::parse(&payload(address::add(&on(), net, options))).expect("an address");
    assert_eq!(read, Address { index: 7, net, scope: 0, flags: libc::IFA_F_NODAD | libc::IFA_F_NOPREFIXROUTE });

    let via = "fe80::1".parse().expect("an address");
    for route in [
        Route::on("10.1.0.0/16".parse().expect("a subnet"), 7),
        Route {
            table: 70_000,
            metric: Some(5),
            onlink: true,
            ..Route::through(crate::base::inet::IpNet::all_v6(), via, 7)
        },
    ] {
        assert_eq!(Route::parse(&payload(route::add(&route))), Some(route));
    }
    assert_eq!(route::parse_proxy(&payload(route::add_proxy(&on(), via))), Some((7, via)));
}

/// The attributes of a request of traffic control, from its options downwards along `path`.
fn options(step: Step, path: &[u16]) -> Vec<(u16, Vec<u8>)> {
    let bytes = payload(step);
    let mut at = Attrs::behind(&bytes, 20);
    for kind in path {
        at = Attrs::new(at.find(*kind).expect("nested"));
    }
    at.map(|(kind, value)| (kind, value.to_vec())).collect()
}

#[test]
fn limits_are_the_structures_of_pkt_sched() {
    // 1 Mbit/s; no step builds on a discipline that is gone.
    let [_, root, class, leaf] = tc::limit_ingress(&on(), 1_000_000).try_into().expect("four steps");
    let init = options(root, &[2]);
    assert_eq!((init[0].0, init[0].1.len(), u32_of(&init[0].1[8..])), (2, 20, Some(0x10)));
    let parms = options(class, &[2]);
    assert_eq!((parms.len(), parms[0].1.len(), u32_of(&parms[0].1[8..])), (1, 44, Some(125_000)));
    // 1600 bytes take 12.8 ms, in units of 64 ns.
    assert_eq!(u32_of(&parms[0].1[24..]), Some(200_000));
    assert_eq!(options(leaf, &[])[0].1, b"fq_codel\0");
    // 100 Gbit/s are more than 32 bits of bytes a second.
    let [_, _, class, _] = tc::limit_ingress(&on(), 100_000_000_000).try_into().expect("four steps");
    let parms = options(class, &[2]);
    assert_eq!((parms.len(), u32_of(&parms[0].1[8..])), (3, Some(u32::MAX)));
    assert_eq!((parms[1].0, parms[1].1.clone()), (6, 12_500_000_000u64.to_ne_bytes().to_vec()));

    let [_, _, filter] = tc::limit_egress(&on(), 1_000_000).try_into().expect("three steps");
    let police = options(filter, &[2, 2, 1, 2]);
    assert_eq!((police[0].0, police[0].1.len(), police[1].0, police[1].1.len()), (1, 56, 2, 1024));
    // 64 KiB at once, in cells of 512 bytes, the first of which takes 4.096 ms.
    let tbf = &police[0].1;
    assert_eq!((u32_of(&tbf[4..]), u32_of(&tbf[12..]), u32_of(&tbf[16..])), (Some(2), Some(8_192_000), Some(65_536)));
    assert_eq!((tbf[20], u32_of(&tbf[28..]), u32_of(&police[1].1)), (9, Some(125_000), Some(64_000)));
    assert_eq!(tc::limit_egress(&on(), 0).len(), 3);
}

#[test]
fn what_was_to_be_done_stands_before_the_reason() {
    let refused = |step: Step, errno| step.split().1(Err(Refusal::new(errno)));
    assert!(refused(spec::delete("x"), libc::ENODEV).is_ok());
    let e = refused(spec::delete("x"), libc::EPERM).expect_err("refused");
    assert_eq!(e.to_string(), "Failed to delete interface \"x\": Operation not permitted");
    assert_eq!((e.kind(), e.errno()), (crate::error::Kind::Denied, Some(libc::EPERM)));
}

#[test]
fn hardware_is_known_by_its_device() {
    let mut bytes = vec![0; 16];
    for (kind, value) in [(3u16, &b"eth7\0"[..]), (54, &[2, 0, 0, 0, 0, 7]), (56, b"0000:00:03.0\0"), (57, b"pci\0")] {
        bytes.extend(u16::try_from(value.len() + 4).expect("short").to_ne_bytes());
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
    }
    let device = Link::parse(&bytes).expect("a link").device;
    assert_eq!((device.bus.as_str(), device.name.as_str()), ("pci", "0000:00:03.0"));
    assert_eq!(device.mac, Some([2, 0, 0, 0, 0, 7]));
    assert!(!Device::default().has_virtual_functions());
}

proptest! {
    #[test]
    fn any_reply_is_survived(bytes: Vec<u8>) {
        let _ = (Link::parse(&bytes), Address::parse(&bytes), Route::parse(&bytes), PortVlan::parse(&bytes));
        let _ = route::parse_proxy(&bytes);
    }

    #[test]
    fn any_attributes_are_survived(kind in 0u16..60, value: Vec<u8>) {
        let length = u16::try_from(value.len() + 4).unwrap_or(u16::MAX);
        let mut bytes = vec![0; 16];
        bytes.extend(length.to_ne_bytes());
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(value);
        let _ = (Link::parse(&bytes), Address::parse(&bytes), Route::parse(&bytes), PortVlan::parse(&bytes));
    }
}
