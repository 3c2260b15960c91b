//! Interfaces as they are wanted, and the requests that make, change and end them.

use super::link::PortVlan;
use super::step::{Step, Target};
use super::tunnel::{Vxlan, gre};
use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::link::{
    AfSpecBridge, BridgeStpState, BridgeVlanInfo, BridgeVlanInfoFlags, InfoBridge, InfoBridgePort, InfoData,
    InfoIpVlan, InfoKind, InfoMacVlan, InfoPortData, InfoPortKind, InfoVeth, InfoVlan, InfoVrf, IpVlanMode,
    LinkAttribute, LinkFlags, LinkInfo, LinkMessage, MacVlanMode, Prop, VlanFlags,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use std::net::IpAddr;
use std::os::fd::{AsRawFd, BorrowedFd};

/// An interface to be made.
#[derive(Debug, Clone, Copy)]
pub struct LinkSpec<'a> {
    /// Name, addresses and place.
    pub end: End<'a>,
    /// What it is.
    pub kind: Kind<'a>,
    /// The bridge, bond or VRF it becomes a port of, by number.
    pub master: Option<u32>,
    /// The interface below a VLAN, macvlan or ipvlan, by number.
    pub lower: Option<u32>,
}

/// One end of what is made: a veth pair has two.
#[derive(Debug, Clone, Copy, Default)]
pub struct End<'a> {
    /// Name.
    pub name: &'a str,
    /// MAC address; the kernel chooses one if there is none.
    pub mac: Option<[u8; 6]>,
    /// MTU in bytes.
    pub mtu: Option<u32>,
    /// Length of the transmission queue in packets.
    pub tx_queue: Option<u32>,
    /// Is set up at once.
    pub up: bool,
    /// The network namespace it is made in, if not ours. Of a pair, only the other end's may be another.
    pub namespace: Option<BorrowedFd<'a>>,
}

/// Kinds of interfaces.
#[derive(Debug, Clone, Copy)]
pub enum Kind<'a> {
    /// A bridge without spanning tree and forward delay.
    Bridge(Bridge),
    /// A pair; the other end.
    Veth(End<'a>),
    /// A further MAC address of the lower interface.
    MacVlan(MacVlan),
    /// A further IP address of the lower interface.
    IpVlan(IpVlan),
    /// A VLAN of the lower interface.
    Vlan {
        /// Number, 1 to 4094.
        id: u16,
        /// Is registered with GVRP.
        gvrp: bool,
    },
    /// A tunnel of Ethernet frames in GRE, between two addresses of one family.
    GreTap {
        /// Our address.
        local: IpAddr,
        /// The other's.
        remote: IpAddr,
    },
    /// A tunnel of Ethernet frames in UDP.
    Vxlan(Vxlan),
    /// An interface that drops what is sent.
    Dummy,
    /// Routing on its own.
    Vrf {
        /// Routing table.
        table: u32,
    },
}

/// What is set of a bridge; the kernel's default where there is nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Bridge {
    /// Multicast goes only where it was asked for.
    pub multicast_snooping: Option<bool>,
    /// VLANs are kept apart.
    pub vlan_filtering: Option<bool>,
    /// VLAN of untagged packets of a new port, 0 for none.
    pub default_pvid: Option<u16>,
    /// Which link-local addresses (01:80:c2:00:00:0x) are passed on, a bit each.
    pub group_fwd_mask: Option<u16>,
}

/// How macvlans of one interface see each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MacVlan {
    /// Through the interface.
    Bridge,
    /// Through the switch outside.
    Vepa,
    /// Not at all.
    Private,
    /// There is but one.
    Passthru,
}

/// What an ipvlan passes through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IpVlan {
    /// Neighbour discovery in the namespace it is in.
    L2,
    /// Routing and firewall of the lower interface's namespace.
    L3s,
}

/// What is changed of an interface.
#[derive(Debug, Clone, Copy, Default)]
pub struct Change<'a> {
    /// Into this network namespace; the other changes are made there. It is down then unless `up` says otherwise.
    pub namespace: Option<BorrowedFd<'a>>,
    /// Its new name. Kernels before 6.2 want it down for that.
    pub name: Option<&'a str>,
    /// Up or down.
    pub up: Option<bool>,
    /// MTU in bytes.
    pub mtu: Option<u32>,
    /// MAC address.
    pub mac: Option<[u8; 6]>,
    /// Length of the transmission queue in packets.
    pub tx_queue: Option<u32>,
    /// Port of this bridge, bond or VRF, by number; 0 of none.
    pub master: Option<u32>,
    /// Free text.
    pub alias: Option<&'a str>,
}

/// Flags of a bridge's port; what is not said stays.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Port {
    /// Sees no other isolated port.
    pub isolated: Option<bool>,
    /// Its MAC addresses are learnt.
    pub learning: Option<bool>,
    /// ARP and neighbour discovery are answered by the bridge.
    pub neigh_suppress: Option<bool>,
    /// Packets may leave where they came in.
    pub hairpin: Option<bool>,
}

impl Kind<'_> {
    /// Its word for messages.
    pub fn word(&self) -> &'static str {
        match self {
            Kind::Bridge(_) => "bridge",
            Kind::Veth(_) => "veth pair",
            Kind::MacVlan(_) => "macvlan",
            Kind::IpVlan(_) => "ipvlan",
            Kind::Vlan { .. } => "VLAN interface",
            Kind::GreTap { .. } => "GRE tunnel",
            Kind::Vxlan(_) => "VXLAN tunnel",
            Kind::Dummy => "dummy interface",
            Kind::Vrf { .. } => "VRF",
        }
    }

    /// The lower interface stands in the attributes of the kind where that is how the kernel reads it.
    fn info(&self, lower: Option<u32>) -> Vec<LinkInfo> {
        let (kind, data) = match self {
            Kind::Bridge(bridge) => (InfoKind::Bridge, Some(InfoData::Bridge(bridge.info(true)))),
            Kind::Veth(peer) => (InfoKind::Veth, Some(InfoData::Veth(InfoVeth::Peer(peer.message())))),
            Kind::MacVlan(mode) => (InfoKind::MacVlan, Some(InfoData::MacVlan(vec![InfoMacVlan::Mode(mode.number())]))),
            Kind::IpVlan(mode) => (InfoKind::IpVlan, Some(InfoData::IpVlan(vec![InfoIpVlan::Mode(mode.number())]))),
            Kind::Vlan { id, gvrp } => (InfoKind::Vlan, Some(InfoData::Vlan(vlan(*id, *gvrp)))),
            Kind::GreTap { local, remote } => gre(*local, *remote),
            Kind::Vxlan(vxlan) => (InfoKind::Vxlan, Some(InfoData::Vxlan(vxlan.info(lower)))),
            Kind::Dummy => (InfoKind::Dummy, None),
            Kind::Vrf { table } => (InfoKind::Vrf, Some(InfoData::Vrf(vec![InfoVrf::TableId(*table)]))),
        };
        std::iter::once(LinkInfo::Kind(kind)).chain(data.map(LinkInfo::Data)).collect()
    }
}

fn vlan(id: u16, gvrp: bool) -> Vec<InfoVlan> {
    let flag = if gvrp { VlanFlags::Gvrp } else { VlanFlags::empty() };
    vec![InfoVlan::Id(id), InfoVlan::Flags((flag, VlanFlags::Gvrp))]
}

impl MacVlan {
    fn number(self) -> MacVlanMode {
        match self {
            MacVlan::Bridge => MacVlanMode::Bridge,
            MacVlan::Vepa => MacVlanMode::Vepa,
            MacVlan::Private => MacVlanMode::Private,
            MacVlan::Passthru => MacVlanMode::Passthrough,
        }
    }
}

impl IpVlan {
    fn number(self) -> IpVlanMode {
        match self {
            IpVlan::L2 => IpVlanMode::L2,
            IpVlan::L3s => IpVlanMode::L3S,
        }
    }
}

impl Bridge {
    fn info(self, new: bool) -> Vec<InfoBridge> {
        let mut info = Vec::new();
        if new {
            info.extend([InfoBridge::ForwardDelay(0), InfoBridge::StpState(BridgeStpState::Disabled)]);
        }
        info.extend(self.multicast_snooping.map(InfoBridge::MulticastSnooping));
        info.extend(self.vlan_filtering.map(InfoBridge::VlanFiltering));
        info.extend(self.default_pvid.map(InfoBridge::VlanDefaultPvid));
        info.extend(self.group_fwd_mask.map(InfoBridge::GroupFwdMask));
        info
    }
}

impl Port {
    fn info(self) -> Vec<InfoBridgePort> {
        let mut info = Vec::new();
        info.extend(self.isolated.map(InfoBridgePort::Isolated));
        info.extend(self.learning.map(InfoBridgePort::Learning));
        info.extend(self.neigh_suppress.map(InfoBridgePort::NeighSupress));
        info.extend(self.hairpin.map(InfoBridgePort::HairpinMode));
        info
    }
}

impl End<'_> {
    fn message(&self) -> LinkMessage {
        let change = Change {
            namespace: self.namespace,
            name: Some(self.name),
            up: self.up.then_some(true),
            mtu: self.mtu,
            mac: self.mac,
            tx_queue: self.tx_queue,
            ..Change::default()
        };
        change.message()
    }
}

impl Change<'_> {
    fn message(&self) -> LinkMessage {
        let mut message = LinkMessage::default();
        if let Some(up) = self.up {
            message.header.change_mask = LinkFlags::Up;
            message.header.flags = if up { LinkFlags::Up } else { LinkFlags::empty() };
        }
        let all = &mut message.attributes;
        all.extend(self.name.map(|name| LinkAttribute::IfName(name.into())));
        all.extend(self.namespace.map(|fd| LinkAttribute::NetNsFd(fd.as_raw_fd())));
        all.extend(self.mac.map(|mac| LinkAttribute::Address(mac.into())));
        all.extend(self.mtu.map(LinkAttribute::Mtu));
        all.extend(self.tx_queue.map(LinkAttribute::TxQueueLen));
        all.extend(self.master.map(LinkAttribute::Controller));
        all.extend(self.alias.map(|text| LinkAttribute::IfAlias(text.into())));
        message
    }
}

/// How an interface is made: where one request does not do, the second one is for what the first has made.
#[derive(Debug)]
pub(super) struct Creation {
    pub(super) first: Step,
    pub(super) second: Option<Step>,
}

/// MTU of a new bridge.
const DEFAULT_MTU: u32 = 1500;

/// Makes an interface; the descriptors of namespaces in `spec` must stay open until it was done.
pub(super) fn create(spec: &LinkSpec<'_>) -> Creation {
    let (mut first, mut later) = (*spec, Change::default());
    match (&spec.kind, spec.end.mtu) {
        // A bridge follows the smallest MTU of its ports unless it was given one once it was there, and a change to what it
        // has already does not count.
        (Kind::Bridge(_), Some(mtu)) => {
            first.end.mtu = Some(if mtu == DEFAULT_MTU { DEFAULT_MTU - 1 } else { DEFAULT_MTU });
            later.mtu = Some(mtu);
        }
        // The second end named to the kernel cannot be set up before the pair is one, so the other one changes places with it.
        (Kind::Veth(other), _) if other.up => {
            first = LinkSpec { end: *other, kind: Kind::Veth(End { up: false, ..spec.end }), ..*spec };
            first.master = None;
            later = Change { up: spec.end.up.then_some(true), master: spec.master, ..later };
        }
        _ => {}
    }
    let what = format!("Failed to create {} \"{}\"", spec.kind.word(), spec.end.name);
    let mut message = first.end.message();
    let below = first.lower.filter(|_| !matches!(first.kind, Kind::Vxlan(_)));
    message.attributes.extend(below.map(LinkAttribute::Link));
    message.attributes.extend(first.master.map(LinkAttribute::Controller));
    message.attributes.push(LinkAttribute::LinkInfo(first.kind.info(first.lower)));
    let first = Step::new(what.clone(), RouteNetlinkMessage::NewLink(message)).flags(NLM_F_CREATE | NLM_F_EXCL);
    let mut message = later.message();
    let second = later.mtu.is_some() || later.up.is_some() || later.master.is_some();
    message.attributes.push(LinkAttribute::IfName(spec.end.name.into()));
    Creation { first, second: second.then(|| Step::new(what, RouteNetlinkMessage::SetLink(message))) }
}

/// Names what was just made as ours, then sets it up; to be run together with what makes it. A VLAN stays down as long as what
/// is below it does.
pub(super) fn mark(name: &str, alias: &str) -> [Step; 2] {
    let step = |change: Change<'_>| {
        Step::new(format!("Failed to change interface \"{name}\""), RouteNetlinkMessage::SetLink(change.message()))
    };
    let named = Change { name: Some(name), ..Change::default() };
    let up = step(Change { up: Some(true), ..named }).passes(&[libc::ENETDOWN]);
    [step(Change { alias: Some(alias), ..named }), up]
}

/// Ends the interface `name`, and with it the other end of a pair. One that is not there is no error.
pub fn delete(name: &str) -> Step {
    let mut message = LinkMessage::default();
    message.attributes.push(LinkAttribute::IfName(name.into()));
    Step::new(format!("Failed to delete interface \"{name}\""), RouteNetlinkMessage::DelLink(message))
        .passes(&[libc::ENODEV])
}

/// Ends the interface with this number. One that is not there is no error.
pub fn delete_at(on: &Target) -> Step {
    let mut message = LinkMessage::default();
    message.header.index = on.index;
    Step::new(format!("Failed to delete interface \"{}\"", on.name), RouteNetlinkMessage::DelLink(message))
        .passes(&[libc::ENODEV])
}

/// Takes a further name (ip-link(8), `property del altname`) from an interface. One that it does not have is no error.
pub fn forget_name(on: &Target, name: &str) -> Step {
    let mut message = LinkMessage::default();
    message.header.index = on.index;
    message.attributes.push(LinkAttribute::PropList(vec![Prop::AltIfName(name.into())]));
    let what = format!("Failed to take the name \"{name}\" from interface \"{}\"", on.name);
    Step::new(what, RouteNetlinkMessage::DelLinkProp(message)).passes(&[libc::ENOENT, libc::EINVAL, libc::ENODEV])
}

/// Changes an interface.
pub fn change(on: &Target, change: &Change<'_>) -> Step {
    let mut message = change.message();
    message.header.index = on.index;
    Step::new(format!("Failed to change interface \"{}\"", on.name), RouteNetlinkMessage::SetLink(message))
}

/// Changes a bridge.
pub fn change_bridge(on: &Target, bridge: &Bridge) -> Step {
    let info = LinkInfo::Data(InfoData::Bridge(bridge.info(false)));
    of_kind(format!("Failed to change bridge \"{}\"", on.name), on, vec![LinkInfo::Kind(InfoKind::Bridge), info])
}

/// Changes the flags of a bridge's port.
pub fn change_port(on: &Target, port: &Port) -> Step {
    let info = LinkInfo::PortData(InfoPortData::BridgePort(port.info()));
    let what = format!("Failed to change bridge port \"{}\"", on.name);
    of_kind(what, on, vec![LinkInfo::PortKind(InfoPortKind::Bridge), info])
}

fn of_kind(what: String, on: &Target, info: Vec<LinkInfo>) -> Step {
    let mut message = LinkMessage::default();
    message.header.index = on.index;
    message.attributes.push(LinkAttribute::LinkInfo(info));
    Step::new(what, RouteNetlinkMessage::NewLink(message))
}

/// Adds VLANs to a bridge's port, or changes their flags.
pub fn add_vlans(on: &Target, vlans: &[PortVlan]) -> Step {
    let what = format!("Failed to add VLANs to bridge port \"{}\"", on.name);
    Step::new(what, RouteNetlinkMessage::SetLink(vlan_message(on, vlans)))
}

/// Takes VLANs from a bridge's port. Those it has not are no error.
pub fn remove_vlans(on: &Target, vlans: &[PortVlan]) -> Step {
    let what = format!("Failed to remove VLANs from bridge port \"{}\"", on.name);
    Step::new(what, RouteNetlinkMessage::DelLink(vlan_message(on, vlans))).passes(&[libc::ENODEV])
}

fn vlan_message(on: &Target, vlans: &[PortVlan]) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.header.interface_family = AddressFamily::Bridge;
    message.header.index = on.index;
    let info = |vid, flags| AfSpecBridge::VlanInfo(BridgeVlanInfo { flags, vid });
    let mut spec = Vec::new();
    for vlan in vlans {
        let mut flags = BridgeVlanInfoFlags::empty();
        flags.set(BridgeVlanInfoFlags::Pvid, vlan.pvid);
        flags.set(BridgeVlanInfoFlags::Untagged, vlan.untagged);
        if vlan.first == vlan.last {
            spec.push(info(vlan.first, flags));
        } else {
            spec.push(info(vlan.first, flags | BridgeVlanInfoFlags::RangeBegin));
            spec.push(info(vlan.last, flags | BridgeVlanInfoFlags::RangeEnd));
        }
    }
    message.attributes.push(LinkAttribute::AfSpecBridge(spec));
    message
}
