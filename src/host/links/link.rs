//! What the kernel tells of an interface: `RTM_NEWLINK` of rtnetlink(7), linux/if_link.h.

use crate::sys::netlink::attr::{Attrs, i32_of, mac_of, text_of, u8_of, u16_of, u32_of, u64_of};

/// `struct ifinfomsg` in front of the attributes.
const HEADER: usize = 16;

/// Attributes of linux/if_link.h that are read.
mod kinds {
    pub(super) const ADDRESS: u16 = 1;
    pub(super) const IFNAME: u16 = 3;
    pub(super) const MTU: u16 = 4;
    pub(super) const LINK: u16 = 5;
    pub(super) const MASTER: u16 = 10;
    pub(super) const TXQLEN: u16 = 13;
    pub(super) const OPERSTATE: u16 = 16;
    pub(super) const LINKINFO: u16 = 18;
    pub(super) const IFALIAS: u16 = 20;
    pub(super) const STATS64: u16 = 23;
    pub(super) const AF_SPEC: u16 = 26;
    pub(super) const LINK_NETNSID: u16 = 37;
    pub(super) const PERM_ADDRESS: u16 = 54;
    pub(super) const PARENT_DEV_NAME: u16 = 56;
    pub(super) const PARENT_DEV_BUS_NAME: u16 = 57;

    pub(super) const INFO_KIND: u16 = 1;
    pub(super) const INFO_DATA: u16 = 2;
    pub(super) const INFO_SLAVE_KIND: u16 = 4;
    pub(super) const INFO_SLAVE_DATA: u16 = 5;

    pub(super) const BR_FORWARD_DELAY: u16 = 1;
    pub(super) const BR_STP_STATE: u16 = 5;
    pub(super) const BR_VLAN_FILTERING: u16 = 7;
    pub(super) const BR_GROUP_FWD_MASK: u16 = 9;
    pub(super) const BR_BRIDGE_ID: u16 = 11;
    pub(super) const BR_MCAST_SNOOPING: u16 = 23;
    pub(super) const BR_VLAN_DEFAULT_PVID: u16 = 39;

    pub(super) const BRPORT_HAIRPIN: u16 = 4;
    pub(super) const BRPORT_LEARNING: u16 = 8;
    pub(super) const BRPORT_NEIGH_SUPPRESS: u16 = 32;
    pub(super) const BRPORT_ISOLATED: u16 = 33;

    pub(super) const VLAN_ID: u16 = 1;
    pub(super) const VRF_TABLE: u16 = 1;
    pub(super) const BRIDGE_VLAN_INFO: u16 = 2;
}

/// An interface.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Link {
    /// Number in its namespace.
    pub index: u32,
    /// Name.
    pub name: String,
    /// `bridge`, `veth`, …; empty for hardware and the loopback.
    pub kind: String,
    /// `IFF_*` of netdevice(7).
    pub flags: u32,
    /// `ARPHRD_*`: 1 is Ethernet.
    pub hardware: u16,
    /// Operational state, RFC 2863: `up`, `down`, `lowerlayerdown`, …
    pub state: &'static str,
    /// MTU in bytes.
    pub mtu: u32,
    /// MAC address, where it has one.
    pub mac: Option<[u8; 6]>,
    /// The bridge, bond or VRF it is a port of.
    pub master: Option<u32>,
    /// The interface below a VLAN or macvlan, the other end of a veth pair.
    pub lower: Option<u32>,
    /// [`Link::lower`] is in another namespace, which has this number in ours.
    pub lower_namespace: Option<i32>,
    /// Length of the transmission queue in packets.
    pub tx_queue: u32,
    /// Free text.
    pub alias: String,
    /// What it is of the machine: bus and name of its device. Only hardware has that.
    pub device: Device,
    /// Since it was made.
    pub counters: Counters,
    /// What only its kind has.
    pub details: Details,
    /// Its flags as a port, if it is one of a bridge.
    pub port: Option<PortState>,
}

/// A device of the machine that an interface belongs to; wherever that goes and whatever it is called, this stays.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Device {
    /// `pci`, `virtio`, `usb`, …; empty if there is none.
    pub bus: String,
    /// Its name there.
    pub name: String,
    /// The MAC address it came with.
    pub mac: Option<[u8; 6]>,
}

/// Counters of an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// Packets received.
    pub packets_received: u64,
    /// Packets sent.
    pub packets_sent: u64,
    /// Bytes received.
    pub bytes_received: u64,
    /// Bytes sent.
    pub bytes_sent: u64,
    /// Errors while receiving.
    pub errors_received: u64,
    /// Errors while sending.
    pub errors_sent: u64,
    /// Packets dropped that were received.
    pub dropped_received: u64,
    /// Packets dropped that were to be sent.
    pub dropped_sent: u64,
}

/// What only interfaces of one kind have.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Details {
    /// Nothing that is read.
    #[default]
    None,
    /// A bridge.
    Bridge(BridgeState),
    /// A VLAN and its number.
    Vlan(u16),
    /// A VRF and its routing table.
    Vrf(u32),
}

/// A bridge.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BridgeState {
    /// Priority and MAC address, as `8000.10666a000001`.
    pub id: String,
    /// The spanning tree protocol is on.
    pub stp: bool,
    /// Forward delay in hundredths of a second.
    pub forward_delay: u32,
    /// VLANs are kept apart.
    pub vlan_filtering: bool,
    /// VLAN of untagged packets of a new port, 0 for none.
    pub default_pvid: u16,
    /// Multicast goes only where it was asked for.
    pub multicast_snooping: bool,
    /// Which link-local addresses (01:80:c2:00:00:0x) are passed on, a bit each.
    pub group_fwd_mask: u16,
}

/// Flags of a bridge's port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PortState {
    /// Sees no other isolated port.
    pub isolated: bool,
    /// Its MAC addresses are learnt.
    pub learning: bool,
    /// ARP and neighbour discovery are answered by the bridge.
    pub neigh_suppress: bool,
    /// Packets may leave where they came in.
    pub hairpin: bool,
}

/// A VLAN of a bridge's port, or a range of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PortVlan {
    /// The first one, 1 to 4094.
    pub first: u16,
    /// The last one.
    pub last: u16,
    /// Untagged packets that come in belong to it.
    pub pvid: bool,
    /// Packets leave untagged.
    pub untagged: bool,
}

/// Bits of `struct bridge_vlan_info`.
const VLAN_PVID: u16 = 1 << 1;
const VLAN_UNTAGGED: u16 = 1 << 2;
const VLAN_RANGE_BEGIN: u16 = 1 << 3;
const VLAN_RANGE_END: u16 = 1 << 4;

impl Link {
    /// Reads the payload of a message; `None` if it has no name.
    pub fn parse(payload: &[u8]) -> Option<Self> {
        let mut link = Self {
            hardware: u16_of(payload.get(2..)?)?,
            index: u32_of(payload.get(4..)?)?,
            flags: u32_of(payload.get(8..)?)?,
            state: "unknown",
            ..Self::default()
        };
        for (kind, value) in Attrs::behind(payload, HEADER) {
            link.take(kind, value);
        }
        (!link.name.is_empty()).then_some(link)
    }

    fn take(&mut self, kind: u16, value: &[u8]) {
        match kind {
            kinds::ADDRESS => self.mac = mac_of(value),
            kinds::IFNAME => self.name = text_of(value),
            kinds::MTU => self.mtu = u32_of(value).unwrap_or(0),
            // Of an interface without one it is its own number, or 0.
            kinds::LINK => self.lower = u32_of(value).filter(|n| *n != 0),
            kinds::MASTER => self.master = u32_of(value).filter(|n| *n != 0),
            kinds::TXQLEN => self.tx_queue = u32_of(value).unwrap_or(0),
            kinds::OPERSTATE => self.state = state_name(u8_of(value).unwrap_or(0)),
            kinds::IFALIAS => self.alias = text_of(value),
            kinds::PERM_ADDRESS => self.device.mac = mac_of(value),
            kinds::PARENT_DEV_NAME => self.device.name = text_of(value),
            kinds::PARENT_DEV_BUS_NAME => self.device.bus = text_of(value),
            kinds::STATS64 => self.counters = Counters::parse(value).unwrap_or_default(),
            kinds::LINK_NETNSID => self.lower_namespace = i32_of(value),
            kinds::LINKINFO => self.take_info(Attrs::new(value)),
            _ => {}
        }
    }

    fn take_info(&mut self, info: Attrs<'_>) {
        let text = |kind| info.clone().find(kind).map(text_of).unwrap_or_default();
        let nested = |kind| Attrs::new(info.clone().find(kind).unwrap_or_default());
        self.kind = text(kinds::INFO_KIND);
        let data = nested(kinds::INFO_DATA);
        let number = |kind| data.clone().find(kind);
        self.details = match self.kind.as_str() {
            "bridge" => Details::Bridge(BridgeState::parse(&data)),
            "vlan" => number(kinds::VLAN_ID).and_then(u16_of).map_or(Details::None, Details::Vlan),
            "vrf" => number(kinds::VRF_TABLE).and_then(u32_of).map_or(Details::None, Details::Vrf),
            _ => Details::None,
        };
        if text(kinds::INFO_SLAVE_KIND) == "bridge" {
            self.port = Some(PortState::parse(&nested(kinds::INFO_SLAVE_DATA)));
        }
    }

    /// It was set up.
    pub fn is_up(&self) -> bool {
        self.has(libc::IFF_UP)
    }

    /// The loopback.
    pub fn is_loopback(&self) -> bool {
        self.has(libc::IFF_LOOPBACK)
    }

    /// What Incus calls the type of an interface in a state: `broadcast`, `point-to-point`, `loopback` or `unknown`.
    pub fn medium(&self) -> &'static str {
        match self {
            _ if self.has(libc::IFF_BROADCAST) => "broadcast",
            _ if self.has(libc::IFF_POINTOPOINT) => "point-to-point",
            _ if self.is_loopback() => "loopback",
            _ => "unknown",
        }
    }

    fn has(&self, flag: i32) -> bool {
        self.flags & flag.cast_unsigned() != 0
    }
}

/// The names of RFC 2863 as iproute2 prints them.
fn state_name(state: u8) -> &'static str {
    match state {
        1 => "notpresent",
        2 => "down",
        3 => "lowerlayerdown",
        4 => "testing",
        5 => "dormant",
        6 => "up",
        _ => "unknown",
    }
}

impl Counters {
    /// The beginning of `struct rtnl_link_stats64`.
    fn parse(bytes: &[u8]) -> Option<Self> {
        let at = |i: usize| u64_of(bytes.get(i * 8..)?);
        Some(Self {
            packets_received: at(0)?,
            packets_sent: at(1)?,
            bytes_received: at(2)?,
            bytes_sent: at(3)?,
            errors_received: at(4)?,
            errors_sent: at(5)?,
            dropped_received: at(6)?,
            dropped_sent: at(7)?,
        })
    }
}

impl BridgeState {
    fn parse(data: &Attrs<'_>) -> Self {
        let find = |kind| data.clone().find(kind);
        let flag = |kind| find(kind).and_then(u8_of).is_some_and(|n| n != 0);
        let short = |kind| find(kind).and_then(u16_of).unwrap_or(0);
        let long = |kind| find(kind).and_then(u32_of).unwrap_or(0);
        let id = find(kinds::BR_BRIDGE_ID).filter(|id| id.len() == 8).unwrap_or_default();
        let digits = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
        let (priority, mac) = id.split_at(id.len().min(2));
        Self {
            id: if id.is_empty() { String::new() } else { format!("{}.{}", digits(priority), digits(mac)) },
            stp: long(kinds::BR_STP_STATE) != 0,
            forward_delay: long(kinds::BR_FORWARD_DELAY),
            vlan_filtering: flag(kinds::BR_VLAN_FILTERING),
            default_pvid: short(kinds::BR_VLAN_DEFAULT_PVID),
            multicast_snooping: flag(kinds::BR_MCAST_SNOOPING),
            group_fwd_mask: short(kinds::BR_GROUP_FWD_MASK),
        }
    }
}

impl PortState {
    fn parse(data: &Attrs<'_>) -> Self {
        let flag = |kind| data.clone().find(kind).and_then(u8_of).is_some_and(|n| n != 0);
        Self {
            isolated: flag(kinds::BRPORT_ISOLATED),
            learning: flag(kinds::BRPORT_LEARNING),
            neigh_suppress: flag(kinds::BRPORT_NEIGH_SUPPRESS),
            hairpin: flag(kinds::BRPORT_HAIRPIN),
        }
    }
}

impl PortVlan {
    /// One VLAN.
    pub fn one(id: u16) -> Self {
        Self { first: id, last: id, pvid: false, untagged: false }
    }

    /// A range of tagged VLANs.
    pub fn range(first: u16, last: u16) -> Self {
        Self { first, last, pvid: false, untagged: false }
    }

    /// Untagged packets belong to it, in both directions.
    #[must_use]
    pub fn native(self) -> Self {
        Self { pvid: true, untagged: true, ..self }
    }

    /// Reads the payload of a message of the bridge's family: the port's number and its VLANs.
    pub fn parse(payload: &[u8]) -> Option<(u32, Vec<Self>)> {
        let index = u32_of(payload.get(4..)?)?;
        let spec = Attrs::behind(payload, HEADER).find(kinds::AF_SPEC).unwrap_or_default();
        let mut found = Vec::new();
        let mut begin = None;
        for (_, value) in Attrs::new(spec).filter(|(kind, _)| *kind == kinds::BRIDGE_VLAN_INFO) {
            let (flags, id) = (u16_of(value)?, u16_of(value.get(2..)?)?);
            if flags & VLAN_RANGE_BEGIN != 0 {
                begin = Some(id);
                continue;
            }
            let first = begin.take().filter(|_| flags & VLAN_RANGE_END != 0).unwrap_or(id);
            let (pvid, untagged) = (flags & VLAN_PVID != 0, flags & VLAN_UNTAGGED != 0);
            found.push(Self { first, last: id, pvid, untagged });
        }
        Some((index, found))
    }
}
