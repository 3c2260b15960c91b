//! Network interfaces of an instance as data: what `ops` makes of a NIC device and the runtime carries out.
//!
//! Everything is decided here: names, addresses, the bridge; the runtime asks nobody. Written into the plan.

use crate::base::inet::IpNet;
use serde::{Deserialize, Serialize};

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
