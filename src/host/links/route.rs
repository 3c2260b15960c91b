//! Routes and proxied neighbours: `RTM_NEWROUTE` and `RTM_NEWNEIGH` of rtnetlink(7), linux/rtnetlink.h.

use super::step::{Step, Target};
use crate::base::inet::IpNet;
use crate::sys::netlink::attr::{Attrs, ip_of, u8_of, u32_of};
use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE};
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
};
use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteType};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use std::net::IpAddr;

/// `struct rtmsg` and `struct ndmsg` in front of the attributes.
const HEADER: usize = 12;

/// The main routing table.
pub const MAIN: u32 = 254;

/// `RTPROT_STATIC`: set by the administrator; `ip route` marks what it adds with `RTPROT_BOOT`.
pub const STATIC: u8 = 4;
/// `RTPROT_BOOT`.
pub const BOOT: u8 = 3;

/// Kinds of `rtm_type`: to one, to ourselves, and three ways to none.
const UNICAST: u8 = 1;
const LOCAL: u8 = 2;
const DROPPED: [u8; 3] = [6, 7, 8];

/// A route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    /// Where it leads.
    pub to: IpNet,
    /// Through this router.
    pub via: Option<IpAddr>,
    /// Through this interface, by number.
    pub device: Option<u32>,
    /// Address packets get that we send.
    pub source: Option<IpAddr>,
    /// Routing table.
    pub table: u32,
    /// `RTPROT_*`: who made it.
    pub protocol: u8,
    /// `RT_SCOPE_*`: 0 global, 253 link, 254 host.
    pub scope: u8,
    /// `RTN_*`: 1 unicast, 2 local, 6 blackhole, 7 unreachable.
    pub kind: u8,
    /// Preference among several; the lowest wins. The kernel's default where there is none.
    pub metric: Option<u32>,
    /// The router is reached through the interface though no address says so.
    pub onlink: bool,
}

impl Route {
    /// A route to `to` through the interface `device`, in the main table.
    pub fn on(to: IpNet, device: u32) -> Self {
        Self {
            to,
            via: None,
            device: Some(device),
            source: None,
            table: MAIN,
            protocol: BOOT,
            // To be reached directly; IPv6 has no scopes.
            scope: if to.is_ipv4() { libc::RT_SCOPE_LINK } else { libc::RT_SCOPE_UNIVERSE },
            kind: UNICAST,
            metric: None,
            onlink: false,
        }
    }

    /// A route to `to` through the router `via` behind the interface `device`, in the main table.
    pub fn through(to: IpNet, via: IpAddr, device: u32) -> Self {
        Self { via: Some(via), scope: libc::RT_SCOPE_UNIVERSE, ..Self::on(to, device) }
    }

    /// It leads to ourselves.
    pub fn is_local(&self) -> bool {
        self.kind == LOCAL
    }

    /// Somebody has a use for the subnet, and be it that nothing may go there; not one of the kernel's own routes for
    /// broadcast and multicast.
    pub fn is_routed(&self) -> bool {
        matches!(self.kind, UNICAST | LOCAL) || DROPPED.contains(&self.kind)
    }

    pub(super) fn parse(payload: &[u8]) -> Option<Self> {
        let byte = |at: usize| u8_of(payload.get(at..)?);
        let all = match i32::from(byte(0)?) {
            libc::AF_INET => IpNet::all_v4(),
            libc::AF_INET6 => IpNet::all_v6(),
            _ => return None,
        };
        let mut route = Self {
            to: all,
            via: None,
            device: None,
            source: None,
            table: byte(4)?.into(),
            protocol: byte(5)?,
            scope: byte(6)?,
            kind: byte(7)?,
            metric: None,
            onlink: u32_of(payload.get(8..)?)? & RouteFlags::Onlink.bits() != 0,
        };
        let mut to = all.address();
        for (kind, value) in Attrs::behind(payload, HEADER) {
            match kind {
                libc::RTA_DST => to = ip_of(value)?,
                libc::RTA_GATEWAY => route.via = ip_of(value),
                libc::RTA_OIF => route.device = u32_of(value),
                libc::RTA_PREFSRC => route.source = ip_of(value),
                libc::RTA_TABLE => route.table = u32_of(value)?,
                libc::RTA_PRIORITY => route.metric = u32_of(value),
                _ => {}
            }
        }
        route.to = IpNet::new(to, byte(1)?)?;
        Some(route)
    }

    fn message(&self) -> RouteMessage {
        let mut message = RouteMessage::default();
        message.header = RouteHeader {
            address_family: family(self.to.address()),
            destination_prefix_length: self.to.prefix(),
            // A number that does not fit the old field stands in the attribute only.
            table: u8::try_from(self.table).unwrap_or(RouteHeader::RT_TABLE_UNSPEC),
            protocol: self.protocol.into(),
            scope: self.scope.into(),
            kind: self.kind.into(),
            flags: if self.onlink { RouteFlags::Onlink } else { RouteFlags::empty() },
            ..RouteHeader::default()
        };
        let all = &mut message.attributes;
        all.push(RouteAttribute::Table(self.table));
        if self.to.prefix() > 0 {
            all.push(RouteAttribute::Destination(route_address(self.to.address())));
        }
        all.extend(self.via.map(|a| RouteAttribute::Gateway(route_address(a))));
        all.extend(self.device.map(RouteAttribute::Oif));
        all.extend(self.source.map(|a| RouteAttribute::PrefSource(route_address(a))));
        all.extend(self.metric.map(RouteAttribute::Priority));
        message
    }
}

/// The family by its number of socket(2).
pub(super) fn address_family(number: libc::c_int) -> AddressFamily {
    u8::try_from(number).map_or(AddressFamily::Unspec, AddressFamily::from)
}

fn family(address: IpAddr) -> AddressFamily {
    if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 }
}

fn route_address(address: IpAddr) -> RouteAddress {
    match address {
        IpAddr::V4(a) => RouteAddress::Inet(a),
        IpAddr::V6(a) => RouteAddress::Inet6(a),
    }
}

/// Adds a route. One to the same subnet with the same metric in the same table is an error, through whatever interface it
/// goes: somebody else has the subnet.
pub fn add(route: &Route) -> Step {
    let what = format!("Failed to add route \"{}\"", route.to);
    Step::new(what, RouteNetlinkMessage::NewRoute(route.message())).flags(NLM_F_CREATE | NLM_F_EXCL)
}

/// Adds a route, in the place of the one to the same subnet with the same metric in the same table if there is one.
pub fn replace(route: &Route) -> Step {
    let what = format!("Failed to add route \"{}\"", route.to);
    Step::new(what, RouteNetlinkMessage::NewRoute(route.message())).flags(NLM_F_CREATE | NLM_F_REPLACE)
}

/// Removes a route. One that is not there is no error, nor is an interface that has gone.
pub fn remove(route: &Route) -> Step {
    let what = format!("Failed to remove route \"{}\"", route.to);
    Step::new(what, RouteNetlinkMessage::DelRoute(route.message())).passes(&[libc::ESRCH, libc::ENODEV])
}

/// The routes of a family, of one table or interface if said.
pub(super) fn dump(v4: bool, table: Option<u32>, device: Option<u32>) -> RouteNetlinkMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = if v4 { AddressFamily::Inet } else { AddressFamily::Inet6 };
    message.attributes.extend(table.map(RouteAttribute::Table));
    message.attributes.extend(device.map(RouteAttribute::Oif));
    RouteNetlinkMessage::GetRoute(message)
}

/// The route packets to `address` take.
pub(super) fn get(address: IpAddr) -> RouteNetlinkMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = family(address);
    message.header.destination_prefix_length = IpNet::host(address).prefix();
    message.header.kind = RouteType::Unspec;
    message.attributes.push(RouteAttribute::Destination(route_address(address)));
    RouteNetlinkMessage::GetRoute(message)
}

/// A permanent entry that we answer for.
pub(super) fn neighbour(on: &Target, address: IpAddr) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = family(address);
    message.header.ifindex = on.index;
    message.header.state = NeighbourState::Permanent;
    message.header.flags = NeighbourFlags::Proxy;
    message.attributes.push(NeighbourAttribute::Destination(match address {
        IpAddr::V4(a) => NeighbourAddress::Inet(a),
        IpAddr::V6(a) => NeighbourAddress::Inet6(a),
    }));
    message
}

/// Has us answer for `address` on the interface: ARP, or neighbour discovery where its `proxy_ndp` is on.
pub fn add_proxy(on: &Target, address: IpAddr) -> Step {
    let what = format!("Failed to add neighbour proxy \"{address}\" to \"{}\"", on.name);
    Step::new(what, RouteNetlinkMessage::NewNeighbour(neighbour(on, address))).flags(NLM_F_CREATE | NLM_F_REPLACE)
}

/// No longer answers for `address`. One that is not there is no error, nor is an interface that has gone.
pub fn remove_proxy(on: &Target, address: IpAddr) -> Step {
    let what = format!("Failed to remove neighbour proxy \"{address}\" from \"{}\"", on.name);
    Step::new(what, RouteNetlinkMessage::DelNeighbour(neighbour(on, address))).passes(&[libc::ENOENT, libc::ENODEV])
}

/// The addresses we answer for, of a family.
pub(super) fn dump_proxies(v4: bool) -> RouteNetlinkMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = if v4 { AddressFamily::Inet } else { AddressFamily::Inet6 };
    message.header.flags = NeighbourFlags::Proxy;
    RouteNetlinkMessage::GetNeighbour(message)
}

/// The interface's number and the address we answer for there.
pub(super) fn parse_proxy(payload: &[u8]) -> Option<(u32, IpAddr)> {
    let index = u32_of(payload.get(4..)?)?;
    Some((index, ip_of(Attrs::behind(payload, HEADER).find(libc::NDA_DST)?)?))
}
