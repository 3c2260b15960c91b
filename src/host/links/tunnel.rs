//! Tunnels of Ethernet frames to other hosts: GRE (linux/if_tunnel.h) and VXLAN (RFC 7348, linux/if_link.h).

use netlink_packet_route::link::{InfoData, InfoGre, InfoGre6, InfoKind, InfoVxlan};
use std::net::IpAddr;

/// A VXLAN (RFC 7348). Its lower interface is that of the multicast group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Vxlan {
    /// Its id, 24 bits.
    pub id: u32,
    /// Our address; the kernel chooses one if there is none.
    pub local: Option<IpAddr>,
    /// The other host, or the multicast group of all.
    pub to: IpAddr,
    /// UDP port; the kernel's own (8472) if there is none.
    pub port: Option<u16>,
    /// Time to live of its packets.
    pub ttl: u8,
}

/// The kind and its attributes.
pub(super) fn gre(local: IpAddr, remote: IpAddr) -> (InfoKind, Option<InfoData>) {
    match (local, remote) {
        (IpAddr::V6(local), IpAddr::V6(remote)) => {
            let info = vec![InfoGre6::Local(local), InfoGre6::Remote(remote)];
            (InfoKind::GreTap6, Some(InfoData::GreTap6(info)))
        }
        (local, remote) => {
            // Addresses of two families are refused by the kernel: one of them is missing then.
            let v4 = |address| if let IpAddr::V4(a) = address { Some(a) } else { None };
            let info = v4(local).map(InfoGre::Local).into_iter().chain(v4(remote).map(InfoGre::Remote));
            (InfoKind::GreTap, Some(InfoData::GreTap(info.collect())))
        }
    }
}

impl Vxlan {
    /// Its attributes; `lower` is the interface of the group.
    pub(super) fn info(self, lower: Option<u32>) -> Vec<InfoVxlan> {
        let mut info = vec![InfoVxlan::Id(self.id), InfoVxlan::Ttl(self.ttl)];
        info.push(match self.to {
            IpAddr::V4(a) => InfoVxlan::Group(a),
            IpAddr::V6(a) => InfoVxlan::Group6(a),
        });
        info.extend(self.local.map(|local| match local {
            IpAddr::V4(a) => InfoVxlan::Local(a),
            IpAddr::V6(a) => InfoVxlan::Local6(a),
        }));
        info.extend(self.port.map(InfoVxlan::Port));
        info.extend(lower.map(InfoVxlan::Link));
        info
    }
}
