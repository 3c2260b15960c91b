//! Network interfaces of an instance as data: what `ops` makes of a NIC device and the runtime carries out.
//!
//! Everything is decided here: names, addresses, the bridge; the runtime asks nobody. Written into the plan.

use crate::base::inet::IpNet;
use serde::{Deserialize, Serialize};
use std::net::IpAddr;

/// A network interface inside the instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Nic {
    /// The device it belongs to.
    pub device: String,
    /// Its name inside.
    pub name: String,
    /// Its MAC address; none leaves the one it has.
    pub hwaddr: Option<[u8; 6]>,
    /// MTU in bytes; none leaves the one it has.
    pub mtu: Option<u32>,
    /// What it is.
    pub link: Link,
    /// What it has inside before anything runs there.
    #[serde(default, skip_serializing_if = "Inside::is_empty")]
    pub inside: Inside,
}

/// Addresses and gateways that we give an interface ourselves.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inside {
    /// Addresses with their prefixes.
    pub addresses: Vec<IpNet>,
    /// Where all the rest goes, once for each family.
    pub gateways: Vec<Gateway>,
}

impl Inside {
    /// Nothing is given.
    pub fn is_empty(&self) -> bool {
        self.addresses.is_empty() && self.gateways.is_empty()
    }
}

/// Where an instance sends what is for others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Gateway {
    /// To this router, which need not be in a subnet of the interface.
    Router(IpAddr),
    /// All IPv4 through the interface.
    InterfaceV4,
    /// All IPv6 through the interface.
    InterfaceV6,
}

/// What an interface is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Link {
    /// One end of a veth pair.
    Veth(HostEnd),
    /// A further address of an interface of the host.
    Macvlan {
        /// The interface.
        parent: String,
        /// How the instances on it see each other.
        mode: MacvlanMode,
    },
    /// An interface of the host, which the host does not have meanwhile.
    Physical {
        /// Its name on the host.
        parent: String,
    },
    /// A virtual function of a network card, which the host does not have meanwhile.
    Function(Function),
    /// One end of a veth pair to which the host routes.
    Routed(Routed),
    /// Further IP addresses of an interface of the host.
    Ipvlan {
        /// The interface.
        parent: String,
        /// What packets pass through.
        mode: IpvlanMode,
    },
}

/// A virtual function: which card it is of, and what the card is told of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Function {
    /// Name of its interface on the host; empty before one was chosen.
    pub interface: String,
    /// Its address on the PCI bus, which stays whatever the interface is called; empty before one was chosen.
    pub device: String,
    /// Where it comes from: the interface of the card, or what cards are chosen by.
    pub from: Vec<(String, String)>,
    /// Its VLAN, which the card adds and takes away.
    pub vlan: Option<u32>,
    /// It sends from its own MAC address only; none where nothing is said.
    pub mac_filtering: Option<bool>,
    /// It may change what matters to others; none where nothing is said.
    pub trusted: Option<bool>,
}

/// A pair without a bridge: the host is the router, and the instance's only neighbour.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Routed {
    /// The end on the host.
    pub end: HostEnd,
    /// What is routed, by family.
    pub families: Vec<RoutedFamily>,
    /// The VRF the host's end is a port of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vrf: Option<String>,
}

/// Addresses of a routed interface, all of one family.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoutedFamily {
    /// The host's own address on the pair, which is the instance's gateway.
    pub host: IpAddr,
    /// Addresses of the instance; there is one.
    pub addresses: Vec<IpAddr>,
    /// Networks behind the first of them.
    pub routes: Vec<IpNet>,
    /// Routing tables of the host; none is the main one, or the VRF's.
    pub tables: Vec<u32>,
}

/// What packets of an ipvlan pass through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum IpvlanMode {
    /// Neighbour discovery inside the instance.
    L2,
    /// Routing and firewall of the host.
    L3s,
}

impl Link {
    /// Its end on the host, if it has one; all of it ends with that.
    pub fn host_end(&self) -> Option<&HostEnd> {
        match self {
            Self::Veth(end) => Some(end),
            Self::Routed(routed) => Some(&routed.end),
            _ => None,
        }
    }

    /// `self` with the routes of `other` as well: what there may be while one becomes the other.
    pub fn or(&self, other: &Self) -> Self {
        let mut both = self.clone();
        if let (Self::Veth(end), Some(other)) = (&mut both, other.host_end()) {
            let more = other.routes.iter().filter(|net| !end.routes.contains(net)).copied().collect::<Vec<_>>();
            end.routes.extend(more);
        }
        both
    }

    /// The interface of the host that is passed on, if it is one.
    pub fn lent(&self) -> Option<&str> {
        match self {
            Self::Physical { parent } => Some(parent),
            Self::Function(function) => Some(&function.interface),
            _ => None,
        }
    }
}

impl Nic {
    /// True if `self` can become `other` without being taken out: they differ in nothing but what is set on the host's end.
    pub fn becomes(&self, other: &Self) -> bool {
        self.fixed() == other.fixed()
    }

    /// What stays as long as it is plugged in.
    fn fixed(&self) -> Self {
        let mut fixed = self.clone();
        if let Link::Veth(end) = &mut fixed.link {
            *end = HostEnd { routes: Vec::new(), ingress: None, egress: None, connected: true, ..end.clone() };
            if let Some(port) = &mut end.bridge {
                port.isolated = false;
                port.hairpin = false;
            }
        }
        if let Link::Function(function) = &mut fixed.link {
            function.interface.clear();
            function.device.clear();
        }
        // An end that goes down loses its routes, and they are more than those of a pair.
        if let Link::Routed(routed) = &mut fixed.link {
            routed.end = HostEnd { ingress: None, egress: None, ..routed.end.clone() };
        }
        fixed
    }
}

/// The end of a veth pair that stays on the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostEnd {
    /// Its name.
    pub name: String,
    /// Length of the transmission queue of both ends, packets.
    pub tx_queue: Option<u32>,
    /// It is a port of this bridge.
    pub bridge: Option<Port>,
    /// Its cable is plugged in: it is up.
    pub connected: bool,
    /// What is routed to it.
    pub routes: Vec<IpNet>,
    /// Most that is sent to the instance, bits a second.
    pub ingress: Option<u64>,
    /// Most that the instance sends, bits a second.
    pub egress: Option<u64>,
}

/// A port of a bridge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Port {
    /// Name of the bridge.
    pub bridge: String,
    /// Sees no other isolated port.
    pub isolated: bool,
    /// Packets may leave where they came in.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub hairpin: bool,
    /// VLANs it is in, where that is said.
    #[serde(default, skip_serializing_if = "PortVlans::is_empty")]
    pub vlans: PortVlans,
}

/// VLANs of a bridge's port.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortVlans {
    /// That of untagged packets; none leaves what the bridge gives its ports.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub untagged: Option<Untagged>,
    /// Those whose packets have tags, first and last.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tagged: Vec<(u16, u16)>,
}

impl PortVlans {
    /// Nothing is said.
    pub fn is_empty(&self) -> bool {
        self.untagged.is_none() && self.tagged.is_empty()
    }
}

/// What becomes of untagged packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Untagged {
    /// They are dropped.
    Nothing,
    /// They belong to this VLAN.
    Vlan(u16),
}

/// How macvlans of one interface see each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MacvlanMode {
    /// Through the interface.
    Bridge,
    /// Through the switch outside.
    Vepa,
    /// Not at all.
    Private,
    /// There is but one.
    Passthru,
}

/// What is settled about an interface before its device says what it is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Its name inside.
    pub name: String,
    /// Its MAC address; none for one that keeps its own.
    pub hwaddr: Option<[u8; 6]>,
    /// Name of its end on the host, if it has one.
    pub host_name: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_set_on_the_hosts_end_can_change() {
        let end = HostEnd {
            name: "veth1".into(),
            tx_queue: None,
            bridge: Some(Port { bridge: "br0".into(), isolated: false, hairpin: false, vlans: PortVlans::default() }),
            connected: true,
            routes: Vec::new(),
            ingress: None,
            egress: None,
        };
        let nic = |end: &HostEnd| Nic {
            device: "eth0".into(),
            name: "eth0".into(),
            hwaddr: Some([0x10, 0x66, 0x6a, 0, 0, 1]),
            mtu: None,
            link: Link::Veth(end.clone()),
            inside: Inside::default(),
        };
        let old = nic(&end);
        let limited = HostEnd { ingress: Some(1000), connected: false, ..end.clone() };
        assert!(old.becomes(&nic(&limited)));
        let net: IpNet = "10.0.0.0/24".parse().expect("net");
        let routed = nic(&HostEnd { routes: vec![net], ..end.clone() });
        for both in [old.link.or(&routed.link), routed.link.or(&old.link), routed.link.or(&routed.link)] {
            assert_eq!(both.host_end().map(|end| end.routes.clone()), Some(vec![net]));
        }
        let isolated = HostEnd {
            bridge: Some(Port { bridge: "br0".into(), isolated: true, hairpin: false, vlans: PortVlans::default() }),
            ..end.clone()
        };
        assert!(old.becomes(&nic(&isolated)));
        let elsewhere = HostEnd {
            bridge: Some(Port { bridge: "br1".into(), isolated: false, hairpin: false, vlans: PortVlans::default() }),
            ..end.clone()
        };
        assert!(!old.becomes(&nic(&elsewhere)));
        assert!(!old.becomes(&Nic { name: "eth1".into(), ..old.clone() }));
        assert!(!old.becomes(&Nic { link: Link::Physical { parent: "br0".into() }, ..old.clone() }));
        assert!(old.link.host_end().is_some() && old.link.lent().is_none());
    }
}
