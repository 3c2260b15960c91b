//! Networks and what belongs to them.

use super::LOCATION;
use super::property::{Field, Properties};
use super::state::{NetworkAddress, NetworkCounters};
use crate::base::yaml;
use crate::model::instance::Config;
use crate::model::network::Network;
use crate::model::network::acl::{Acl, AclRule};
use crate::model::network::address_set::AddressSet;
use crate::model::network::forward::{Forward, ForwardPort};
use crate::model::network::zone::{Zone, ZoneEntry, ZoneRecord};
use serde::{Deserialize, Serialize};

/// What of a network, and of a zone in another order, can be written.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct NetworkPut {
    /// Configuration.
    #[serde(default, deserialize_with = "yaml::config")]
    pub config: Config,
    /// Free text.
    #[serde(default, deserialize_with = "yaml::text")]
    pub description: String,
}

/// A network, managed or an interface of the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NetworkView {
    /// What can be written.
    #[serde(flatten)]
    pub put: NetworkPut,
    /// Name.
    pub name: String,
    /// `bridge`, `macvlan`, …; of an interface of the host `bridge`, `vlan`, `bond`, `physical`, `loopback` or `unknown`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Addresses of what uses it, sorted.
    pub used_by: Vec<String>,
    /// Is it one of ours?
    pub managed: bool,
    /// `Created`, `Unavailable`, or empty if it is not ours.
    pub status: String,
    /// Cluster members that have it: here [`LOCATION`], none if it is not ours.
    pub locations: Vec<String>,
    /// Project.
    pub project: String,
}

impl NetworkView {
    /// From the record. `available`: its interface is there, or can be made.
    pub fn new(project: &str, name: &str, network: &Network, mut used_by: Vec<String>, available: bool) -> Self {
        used_by.sort();
        Self {
            put: NetworkPut { config: network.config.clone(), description: network.description.clone() },
            name: name.to_string(),
            kind: network.kind.as_str().to_string(),
            used_by,
            managed: true,
            status: if available { "Created" } else { "Unavailable" }.to_string(),
            locations: vec![LOCATION.to_string()],
            project: project.to_string(),
        }
    }

    /// An interface of the host that is not ours.
    pub fn unmanaged(project: &str, name: &str, kind: &str, mut used_by: Vec<String>) -> Self {
        used_by.sort();
        Self {
            put: NetworkPut::default(),
            name: name.to_string(),
            kind: kind.to_string(),
            used_by,
            managed: false,
            status: String::new(),
            locations: Vec::new(),
            project: project.to_string(),
        }
    }
}

/// What is measured of a network: `network info`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct NetworkStateView {
    /// Addresses of its interface.
    pub addresses: Vec<NetworkAddress>,
    /// Counters of its interface.
    pub counters: Option<TrafficCounters>,
    /// MAC address.
    pub hwaddr: String,
    /// MTU.
    pub mtu: i64,
    /// `up` or `down`.
    pub state: String,
    /// `broadcast`, `loopback`, `point-to-point`, `unknown`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Of a bond.
    pub bond: Option<BondState>,
    /// Of a bridge.
    pub bridge: Option<BridgeState>,
    /// Of a VLAN interface.
    pub vlan: Option<VlanState>,
    /// Of an OVN network; there are none here.
    pub ovn: Option<()>,
}

/// What went through an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct TrafficCounters {
    /// Bytes in.
    pub bytes_received: i64,
    /// Bytes out.
    pub bytes_sent: i64,
    /// Packets in.
    pub packets_received: i64,
    /// Packets out.
    pub packets_sent: i64,
}

impl From<&NetworkCounters> for TrafficCounters {
    fn from(c: &NetworkCounters) -> Self {
        Self {
            bytes_received: c.bytes_received,
            bytes_sent: c.bytes_sent,
            packets_received: c.packets_received,
            packets_sent: c.packets_sent,
        }
    }
}

/// State of a bond.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct BondState {
    /// How links share the load.
    pub mode: String,
    /// By what packets are spread.
    pub transmit_policy: String,
    /// Milliseconds until a link that came up is used.
    pub up_delay: u64,
    /// Milliseconds until a link that went down is left.
    pub down_delay: u64,
    /// Milliseconds between looks at the links.
    pub mii_frequency: u64,
    /// `up` or `down`.
    pub mii_state: String,
    /// Its links.
    pub lower_devices: Vec<String>,
}

/// State of a bridge.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct BridgeState {
    /// Id in the spanning tree.
    pub id: String,
    /// Does it take part in a spanning tree?
    pub stp: bool,
    /// Forward delay, hundredths of a second.
    pub forward_delay: u64,
    /// VLAN of untagged frames.
    pub vlan_default: u64,
    /// Are VLANs kept apart?
    pub vlan_filtering: bool,
    /// Its ports.
    pub upper_devices: Vec<String>,
}

/// State of a VLAN interface.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct VlanState {
    /// The interface below.
    pub lower_device: String,
    /// VLAN id.
    pub vid: u64,
}

/// A lease.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct LeaseView {
    /// Name of the instance or client.
    pub hostname: String,
    /// MAC address, empty if not known.
    pub hwaddr: String,
    /// Address.
    pub address: String,
    /// `static`, `dynamic`, `gateway`.
    #[serde(rename = "type")]
    pub kind: String,
    /// [`LOCATION`]; empty for gateways.
    pub location: String,
}

/// An address in use: `network list-allocations`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct AllocationView {
    /// Address with its prefix.
    #[serde(rename = "addresses")]
    pub address: String,
    /// MAC address.
    pub hwaddr: String,
    /// Is it behind NAT?
    pub nat: bool,
    /// `network`, `instance`, `network-forward`.
    #[serde(rename = "type")]
    pub kind: String,
    /// What has it.
    pub used_by: String,
    /// Network.
    pub network: String,
}

/// What of an ACL can be written.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct AclPut {
    /// Free text.
    #[serde(default, deserialize_with = "yaml::text")]
    pub description: String,
    /// Rules for traffic out of instances.
    #[serde(default, deserialize_with = "yaml::list")]
    pub egress: Vec<AclRule>,
    /// Rules for traffic into instances.
    #[serde(default, deserialize_with = "yaml::list")]
    pub ingress: Vec<AclRule>,
    /// Configuration.
    #[serde(default, deserialize_with = "yaml::config")]
    pub config: Config,
}

/// An ACL.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AclView {
    /// Name.
    pub name: String,
    /// What can be written.
    #[serde(flatten)]
    pub put: AclPut,
    /// Addresses of what uses it, sorted.
    pub used_by: Vec<String>,
    /// Project.
    pub project: String,
}

impl AclView {
    /// From the record.
    pub fn new(project: &str, name: &str, acl: &Acl, mut used_by: Vec<String>) -> Self {
        used_by.sort();
        let put = AclPut {
            description: acl.description.clone(),
            egress: acl.egress.clone(),
            ingress: acl.ingress.clone(),
            config: acl.config.clone(),
        };
        Self { name: name.to_string(), put, used_by, project: project.to_string() }
    }
}

/// What of an address set can be written.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct AddressSetPut {
    /// Addresses, subnets and ranges.
    #[serde(default, deserialize_with = "yaml::list")]
    pub addresses: Vec<String>,
    /// Configuration.
    #[serde(default, skip_serializing_if = "Config::is_empty", deserialize_with = "yaml::config")]
    pub config: Config,
    /// Free text.
    #[serde(default, deserialize_with = "yaml::text")]
    pub description: String,
}

/// An address set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AddressSetView {
    /// What can be written.
    #[serde(flatten)]
    pub put: AddressSetPut,
    /// Name.
    pub name: String,
    /// Addresses of what uses it, sorted.
    pub used_by: Vec<String>,
    /// Project.
    pub project: String,
}

impl AddressSetView {
    /// From the record.
    pub fn new(project: &str, name: &str, set: &AddressSet, mut used_by: Vec<String>) -> Self {
        used_by.sort();
        let put = AddressSetPut {
            addresses: set.addresses.clone(),
            config: set.config.clone(),
            description: set.description.clone(),
        };
        Self { put, name: name.to_string(), used_by, project: project.to_string() }
    }
}

/// What of a forward can be written.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ForwardPut {
    /// Free text.
    #[serde(default, deserialize_with = "yaml::text")]
    pub description: String,
    /// Configuration.
    #[serde(default, deserialize_with = "yaml::config")]
    pub config: Config,
    /// Where single ports go.
    #[serde(default)]
    pub ports: Vec<ForwardPort>,
}

/// A forward.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ForwardView {
    /// What can be written.
    #[serde(flatten)]
    pub put: ForwardPut,
    /// Address it listens at.
    pub listen_address: String,
    /// [`LOCATION`].
    pub location: String,
}

impl ForwardView {
    /// From the record.
    pub fn new(listen_address: &str, forward: &Forward) -> Self {
        let put = ForwardPut {
            description: forward.description.clone(),
            config: forward.config.clone(),
            ports: forward.ports.clone(),
        };
        Self { put, listen_address: listen_address.to_string(), location: LOCATION.to_string() }
    }
}

/// What of a zone can be written.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ZonePut {
    /// Free text.
    #[serde(default, deserialize_with = "yaml::text")]
    pub description: String,
    /// Configuration.
    #[serde(default, deserialize_with = "yaml::config")]
    pub config: Config,
}

/// A zone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ZoneView {
    /// What can be written.
    #[serde(flatten)]
    pub put: ZonePut,
    /// Name.
    pub name: String,
    /// Addresses of what uses it, sorted.
    pub used_by: Vec<String>,
    /// Project.
    pub project: String,
}

impl ZoneView {
    /// From the record.
    pub fn new(project: &str, name: &str, zone: &Zone, mut used_by: Vec<String>) -> Self {
        used_by.sort();
        let put = ZonePut { description: zone.description.clone(), config: zone.config.clone() };
        Self { put, name: name.to_string(), used_by, project: project.to_string() }
    }
}

/// What of a zone's record can be written.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ZoneRecordPut {
    /// Free text.
    #[serde(default, deserialize_with = "yaml::text")]
    pub description: String,
    /// What is known under the name.
    #[serde(default)]
    pub entries: Vec<ZoneEntry>,
    /// Configuration.
    #[serde(default, deserialize_with = "yaml::config")]
    pub config: Config,
}

/// A zone's record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ZoneRecordView {
    /// What can be written.
    #[serde(flatten)]
    pub put: ZoneRecordPut,
    /// Name.
    pub name: String,
}

impl ZoneRecordView {
    /// From the record.
    pub fn new(name: &str, record: &ZoneRecord) -> Self {
        let put = ZoneRecordPut {
            description: record.description.clone(),
            entries: record.entries.clone(),
            config: record.config.clone(),
        };
        Self { put, name: name.to_string() }
    }
}

macro_rules! properties {
    ($($put:ty),*) => {$(
        impl Properties for $put {
            fn field(&mut self, name: &str) -> Option<Field<'_>> {
                Some(match name.to_ascii_lowercase().as_str() {
                    "config" => Field::Config(&mut self.config),
                    "description" => Field::Text(&mut self.description),
                    _ => return None,
                })
            }
        }
    )*};
}

properties!(AclPut, AddressSetPut, ForwardPut, ZonePut, ZoneRecordPut);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::json;
    use crate::model::network::NetworkType;
    use crate::model::view::property;

    fn config(key: &str, value: &str) -> Config {
        [(key.to_string(), value.to_string())].into()
    }

    #[test]
    fn fields_stand_in_the_order_of_incus() {
        let kind = NetworkType::Bridge;
        let network = Network { format: 1, kind, description: "d".into(), config: config("ipv4.nat", "true") };
        let used = vec!["/1.0/profiles/default".into(), "/1.0/instances/c1".into()];
        let view = NetworkView::new("default", "net0", &network, used, true);
        assert_eq!(
            json::to_string(&view).expect("json"),
            "{\"config\":{\"ipv4.nat\":\"true\"},\"description\":\"d\",\"name\":\"net0\",\"type\":\"bridge\",\
             \"used_by\":[\"/1.0/instances/c1\",\"/1.0/profiles/default\"],\"managed\":true,\"status\":\"Created\",\
             \"locations\":[\"none\"],\"project\":\"default\"}"
        );
        assert_eq!(
            yaml::to_string(&NetworkView::unmanaged("default", "eth0", "physical", vec![])).expect("yaml"),
            "config: {}\ndescription: \"\"\nname: eth0\ntype: physical\nused_by: []\nmanaged: false\nstatus: \"\"\n\
             locations: []\nproject: default\n"
        );
        let lease = LeaseView { hostname: "c1".into(), kind: "static".into(), ..LeaseView::default() };
        assert_eq!(
            json::to_string(&lease).expect("json"),
            "{\"hostname\":\"c1\",\"hwaddr\":\"\",\"address\":\"\",\"type\":\"static\",\"location\":\"\"}"
        );
        assert!(
            json::to_string(&AllocationView::default()).expect("json").starts_with("{\"addresses\":\"\",\"hwaddr\"")
        );
        let state = json::to_string(&NetworkStateView::default()).expect("json");
        assert!(
            state.starts_with("{\"addresses\":[],\"counters\":null,") && state.ends_with("\"vlan\":null,\"ovn\":null}")
        );
    }

    #[test]
    fn acls_forwards_and_zones() {
        let rule =
            AclRule { action: "allow".into(), protocol: "tcp".into(), state: "enabled".into(), ..AclRule::default() };
        let acl =
            Acl { format: 1, description: String::new(), config: Config::new(), egress: vec![], ingress: vec![rule] };
        assert_eq!(
            yaml::to_string(&AclView::new("default", "web", &acl, vec![])).expect("yaml"),
            "name: web\ndescription: \"\"\negress: []\ningress:\n- action: allow\n  protocol: tcp\n  state: enabled\nconfig: {}\n\
             used_by: []\nproject: default\n"
        );
        let ports = vec![ForwardPort { protocol: "tcp".into(), listen_port: "80".into(), ..ForwardPort::default() }];
        let forward =
            Forward { format: 1, description: String::new(), config: config("target_address", "10.0.0.2"), ports };
        assert_eq!(
            json::to_string(&ForwardView::new("192.0.2.1", &forward)).expect("json"),
            "{\"description\":\"\",\"config\":{\"target_address\":\"10.0.0.2\"},\"ports\":[{\"description\":\"\",\
             \"protocol\":\"tcp\",\"listen_port\":\"80\",\"target_port\":\"\",\"target_address\":\"\",\"snat\":false}],\
             \"listen_address\":\"192.0.2.1\",\"location\":\"none\"}"
        );
        let entries = vec![ZoneEntry { kind: "A".into(), ttl: 0, value: "10.0.0.9".into() }];
        let record = ZoneRecord { format: 1, description: String::new(), config: Config::new(), entries };
        assert_eq!(
            json::to_string(&ZoneRecordView::new("www", &record)).expect("json"),
            "{\"description\":\"\",\"entries\":[{\"type\":\"A\",\"value\":\"10.0.0.9\"}],\"config\":{},\"name\":\"www\"}"
        );
        let mut put = NetworkPut::default();
        property::set(&mut put, "description", "x").expect("text");
        assert_eq!(put.description, "x");
    }
}
