//! Addresses of interfaces: `RTM_NEWADDR` of rtnetlink(7), linux/if_addr.h.

use super::route::address_family;
use super::step::{Step, Target};
use crate::base::inet::IpNet;
use crate::sys::netlink::attr::{Attrs, ip_of, u8_of, u32_of};
use netlink_packet_core::{NLM_F_CREATE, NLM_F_REPLACE};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressMessage};
use std::net::IpAddr;

/// `struct ifaddrmsg` in front of the attributes.
const HEADER: usize = 8;

const ADDRESS: u16 = 1;
const LOCAL: u16 = 2;
const FLAGS: u16 = 8;

/// An address of an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Address {
    /// Number of the interface.
    pub index: u32,
    /// Address and prefix.
    pub net: IpNet,
    /// `RT_SCOPE_*`: 0 global, 253 link, 254 host.
    pub scope: u8,
    /// `IFA_F_*`: 0x80 permanent, 0x40 tentative, …
    pub flags: u32,
}

/// How an address is added.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AddressOptions {
    /// It is used at once, without looking for another that has it.
    pub nodad: bool,
    /// No route to its subnet is made.
    pub noprefixroute: bool,
}

impl Address {
    pub(super) fn parse(payload: &[u8]) -> Option<Self> {
        let mut flags = u32::from(*payload.get(2)?);
        let (mut address, mut local) = (None, None);
        for (kind, value) in Attrs::behind(payload, HEADER) {
            match kind {
                ADDRESS => address = ip_of(value),
                // With a peer the attribute above is that one's.
                LOCAL => local = ip_of(value),
                FLAGS => flags = u32_of(value).unwrap_or(flags),
                _ => {}
            }
        }
        Some(Self {
            index: u32_of(payload.get(4..)?)?,
            net: IpNet::new(local.or(address)?, u8_of(payload.get(1..)?)?)?,
            scope: u8_of(payload.get(3..)?)?,
            flags,
        })
    }

    /// What Incus calls its scope: `global`, `link` or `local`.
    pub fn scope_name(&self) -> &'static str {
        match self.net.address() {
            a if a.is_loopback() => "local",
            IpAddr::V4(a) if a.is_link_local() => "link",
            IpAddr::V6(a) if a.is_unicast_link_local() => "link",
            _ => "global",
        }
    }

    /// Another on the link may have it; it is not yet used or never will be.
    pub fn is_tentative(&self) -> bool {
        self.flags & (libc::IFA_F_TENTATIVE | libc::IFA_F_DADFAILED) != 0
    }
}

/// All addresses, of one family or one interface if said.
pub(super) fn dump(family: libc::c_int, index: u32) -> RouteNetlinkMessage {
    let mut message = AddressMessage::default();
    message.header.family = address_family(family);
    message.header.index = index;
    RouteNetlinkMessage::GetAddress(message)
}

fn message(on: &Target, net: IpNet) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.family = address_family(if net.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 });
    message.header.prefix_len = net.prefix();
    message.header.index = on.index;
    if net.is_ipv4() && net.address().is_loopback() {
        message.header.scope = netlink_packet_route::address::AddressScope::Host;
    }
    message.attributes = vec![AddressAttribute::Local(net.address()), AddressAttribute::Address(net.address())];
    message
}

/// Adds an address, or gives one that is there these options.
pub fn add(on: &Target, net: IpNet, options: AddressOptions) -> Step {
    let mut message = message(on, net);
    let mut flags = AddressFlags::empty();
    flags.set(AddressFlags::Nodad, options.nodad);
    flags.set(AddressFlags::Noprefixroute, options.noprefixroute);
    message.attributes.push(AddressAttribute::Flags(flags));
    let what = format!("Failed to add address \"{net}\" to \"{}\"", on.name);
    Step::new(what, RouteNetlinkMessage::NewAddress(message)).flags(NLM_F_CREATE | NLM_F_REPLACE)
}

/// Removes an address. One that is not there is no error, nor is an interface that has gone.
pub fn remove(on: &Target, net: IpNet) -> Step {
    let what = format!("Failed to remove address \"{net}\" from \"{}\"", on.name);
    Step::new(what, RouteNetlinkMessage::DelAddress(message(on, net))).passes(&[libc::EADDRNOTAVAIL, libc::ENODEV])
}
