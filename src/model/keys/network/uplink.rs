//! Options of networks that stand for an interface of the host: macvlan, sriov, physical.

use super::super::checks::{interface_name, ip, mac_address, mtu, network_v4, network_v6, vlan, vlan_list};
use super::NetLive::{No, Record};
use super::{Key, NetKey, Scope, Suffix, Value, checks};

keys! {
    PARENT: "parent", Both, Value::Checked("interface name", interface_name), "Interface of the host";
    MTU: "mtu", Both, Value::Checked("MTU", mtu), "Maximum transmission unit";
    VLAN: "vlan", Both, Value::Checked("VLAN id", vlan), "VLAN to join";
    VLAN_TAGGED: "vlan.tagged", Both, Value::Checked("VLAN ids and ranges", vlan_list), "Tagged VLANs to join";
    GVRP: "gvrp", Both, Value::Bool, "Register the VLAN by GVRP" => default("false");
    IPV4_GATEWAY: "ipv4.gateway", Both, Value::Checked("IPv4 CIDR", checks::cidr_v4), "Gateway and subnet";
    IPV6_GATEWAY: "ipv6.gateway", Both, Value::Checked("IPv6 CIDR", checks::cidr_v6), "Gateway and subnet";
    IPV4_GATEWAY_HWADDR: "ipv4.gateway.hwaddr", Both, Value::Checked("MAC address", mac_address), "Gateway's MAC address";
    IPV6_GATEWAY_HWADDR: "ipv6.gateway.hwaddr", Both, Value::Checked("MAC address", mac_address), "Gateway's MAC address";
    IPV4_OVN_RANGES: "ipv4.ovn.ranges", Both, Value::ListOf(&Value::Checked("IPv4 range", checks::range_v4)),
        "Addresses for OVN routers";
    IPV6_OVN_RANGES: "ipv6.ovn.ranges", Both, Value::ListOf(&Value::Checked("IPv6 range", checks::range_v6)),
        "Addresses for OVN routers";
    IPV4_ROUTES: "ipv4.routes", Both, Value::ListOf(&Value::Checked("IPv4 network", network_v4)),
        "Networks that may be used behind it";
    IPV6_ROUTES: "ipv6.routes", Both, Value::ListOf(&Value::Checked("IPv6 network", network_v6)),
        "Networks that may be used behind it";
    IPV4_ROUTES_ANYCAST: "ipv4.routes.anycast", Both, Value::Bool, "Let routes be used more than once" => default("false");
    IPV6_ROUTES_ANYCAST: "ipv6.routes.anycast", Both, Value::Bool, "Let routes be used more than once" => default("false");
    DNS_NAMESERVERS: "dns.nameservers", Both, Value::ListOf(&Value::Checked("IP address", ip)), "DNS servers of the uplink";
    OVN_INGRESS_MODE: "ovn.ingress_mode", Both, Value::OneOf(&["l2proxy", "routed"]), "How OVN routers are reached"
        => default("l2proxy");
    VOLATILE: "volatile.", Both, Value::Line, "What the program keeps for itself" => prefix(Suffix::Any);
}

// An interface goes into an instance as it is when that starts, so a change counts from then on, and the parent stays.
macro_rules! table {
    ($($key:ident $live:ident),* $(,)?) => { &[$(NetKey { key: &$key, live: $live }),*] };
}

pub(super) static MACVLAN: &[NetKey] = table![PARENT No, MTU Record, VLAN No, GVRP No, VOLATILE Record];

pub(super) static SRIOV: &[NetKey] = table![PARENT No, MTU Record, VLAN Record, VOLATILE Record];

pub(super) static PHYSICAL: &[NetKey] = table![
    PARENT No, MTU Record, VLAN No, VLAN_TAGGED Record, GVRP No, IPV4_GATEWAY Record, IPV6_GATEWAY Record,
    IPV4_GATEWAY_HWADDR Record, IPV6_GATEWAY_HWADDR Record, IPV4_OVN_RANGES Record, IPV6_OVN_RANGES Record,
    IPV4_ROUTES Record, IPV6_ROUTES Record, IPV4_ROUTES_ANYCAST Record, IPV6_ROUTES_ANYCAST Record,
    DNS_NAMESERVERS Record, OVN_INGRESS_MODE Record, VOLATILE Record,
];
