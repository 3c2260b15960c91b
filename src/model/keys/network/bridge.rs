//! Options of a managed bridge.

use super::super::checks::{ip, ipv4, ipv6, mac_address, mtu, network_v4, network_v6};
use super::NetLive::{Apply, No, Record};
use super::Part::{Acls, Addresses, Dnsmasq, Firewall, Link, Members, Routes, Sysctl, Tunnels, Zones};
use super::{Key, NetKey, Scope, Suffix, Value, checks};

const ADDRESS4: Value = Value::Checked("IPv4 address", ipv4);
const ADDRESS6: Value = Value::Checked("IPv6 address", ipv6);
const ADDRESS: Value = Value::Checked("IP address", ip);
const ROUTES4: Value = Value::ListOf(&Value::Checked("IPv4 network", network_v4));
const ROUTES6: Value = Value::ListOf(&Value::Checked("IPv6 network", network_v6));
const RANGES4: Value = Value::ListOf(&Value::Checked("IPv4 range", checks::range_v4));
const RANGES6: Value = Value::ListOf(&Value::Checked("IPv6 range", checks::range_v6));
const ORDER: Value = Value::OneOf(&["before", "after"]);
const ACTION: Value = Value::OneOf(&["allow", "allow-stateless", "drop", "reject"]);
const EXPIRY: Value = Value::Checked("lease time", checks::expiry);
const DOMAIN: Value = Value::Checked("domain", checks::domain);
const ZONE: Value = Value::Checked("zone", checks::zone);

net_keys! {
    DRIVER: "bridge.driver", Value::OneOf(&["native", "openvswitch"]), No, "Kind of bridge" => default("native");
    EXTERNAL_INTERFACES: "bridge.external_interfaces",
        Value::ListOf(&Value::Checked("interface, or name/parent/vlan", checks::external_interface)), Apply(&[Members]),
        "Unconfigured interfaces of the host to put into the bridge";
    HWADDR: "bridge.hwaddr", Value::Checked("MAC address", mac_address), Apply(&[Link, Addresses, Dnsmasq]),
        "MAC address of the bridge";
    MTU: "bridge.mtu", Value::Checked("MTU", mtu), Apply(&[Link, Dnsmasq]), "Maximum transmission unit"
        => default("1500");
    MULTICAST_SNOOPING: "bridge.multicast_snooping", Value::Bool, Apply(&[Link]), "Send multicast where it is wanted only"
        => default("true");
    DNS_MODE: "dns.mode", Value::OneOf(&["managed", "dynamic", "none"]), Apply(&[Dnsmasq, Zones]),
        "Whose names are served: the program's, those clients send, or none" => default("managed");
    DNS_DOMAIN: "dns.domain", DOMAIN, Apply(&[Dnsmasq]), "Domain of the instances" => default("incus");
    DNS_SEARCH: "dns.search", Value::ListOf(&DOMAIN), Apply(&[Dnsmasq]), "Domains to search, in place of the domain";
    DNS_NAMESERVERS: "dns.nameservers", Value::ListOf(&ADDRESS), Apply(&[Dnsmasq]),
        "DNS servers to announce in place of our own";
    ZONE_FORWARD: "dns.zone.forward", Value::ListOf(&ZONE), Apply(&[Zones]), "Zones for names of the network";
    ZONE_REVERSE_IPV4: "dns.zone.reverse.ipv4", ZONE, Apply(&[Zones]), "Zone for IPv4 addresses of the network";
    ZONE_REVERSE_IPV6: "dns.zone.reverse.ipv6", ZONE, Apply(&[Zones]), "Zone for IPv6 addresses of the network";
    IPV4_ADDRESS: "ipv4.address", Value::Checked("IPv4 CIDR, auto or none", checks::bridge_v4),
        Apply(&[Addresses, Firewall, Dnsmasq, Zones]), "IPv4 address of the bridge" => default("auto");
    IPV4_NAT: "ipv4.nat", Value::Bool, Apply(&[Firewall, Zones]), "Hide IPv4 addresses behind the host's"
        => default("false"), long("True if `ipv4.address` was chosen automatically.");
    IPV4_NAT_ADDRESS: "ipv4.nat.address", ADDRESS4, Apply(&[Firewall]), "Source address of outgoing IPv4 packets";
    IPV4_NAT_ORDER: "ipv4.nat.order", ORDER, Apply(&[Firewall]), "Whether NAT comes before or after rules of others"
        => default("before");
    IPV4_FIREWALL: "ipv4.firewall", Value::Bool, Apply(&[Firewall]), "Whether to make IPv4 filter rules"
        => default("true");
    IPV4_ROUTING: "ipv4.routing", Value::Bool, Apply(&[Firewall, Sysctl]), "Whether to route IPv4" => default("true");
    IPV4_ROUTES: "ipv4.routes", ROUTES4, Apply(&[Routes]), "Further IPv4 networks to route to the bridge";
    IPV4_DHCP: "ipv4.dhcp", Value::Bool, Apply(&[Firewall, Dnsmasq]), "Whether to hand out IPv4 addresses" => default("true");
    IPV4_DHCP_EXPIRY: "ipv4.dhcp.expiry", EXPIRY, Apply(&[Dnsmasq]), "How long a lease lasts" => default("1h");
    IPV4_DHCP_GATEWAY: "ipv4.dhcp.gateway", Value::Checked("IPv4 address or none", checks::v4_or_none), Apply(&[Dnsmasq]),
        "Gateway to announce in place of the bridge";
    IPV4_DHCP_RANGES: "ipv4.dhcp.ranges", RANGES4, Apply(&[Dnsmasq]), "Addresses to hand out, `first-last`";
    IPV4_DHCP_ROUTES: "ipv4.dhcp.routes", Value::Checked("network,gateway pairs", checks::dhcp_routes), Apply(&[Dnsmasq]),
        "Routes to announce (option 121)";
    IPV4_OVN_RANGES: "ipv4.ovn.ranges", RANGES4, Record, "Addresses kept from DHCP for OVN routers";
    IPV6_ADDRESS: "ipv6.address", Value::Checked("IPv6 CIDR, auto or none", checks::bridge_v6),
        Apply(&[Addresses, Sysctl, Firewall, Dnsmasq, Zones]), "IPv6 address of the bridge" => default("auto");
    IPV6_NAT: "ipv6.nat", Value::Bool, Apply(&[Firewall, Zones]), "Hide IPv6 addresses behind the host's"
        => default("false"), long("True if `ipv6.address` was chosen automatically.");
    IPV6_NAT_ADDRESS: "ipv6.nat.address", ADDRESS6, Apply(&[Firewall]), "Source address of outgoing IPv6 packets";
    IPV6_NAT_ORDER: "ipv6.nat.order", ORDER, Apply(&[Firewall]), "Whether NAT comes before or after rules of others"
        => default("before");
    IPV6_FIREWALL: "ipv6.firewall", Value::Bool, Apply(&[Firewall]), "Whether to make IPv6 filter rules"
        => default("true");
    IPV6_ROUTING: "ipv6.routing", Value::Bool, Apply(&[Firewall, Sysctl]), "Whether to route IPv6" => default("true");
    IPV6_ROUTES: "ipv6.routes", ROUTES6, Apply(&[Routes]), "Further IPv6 networks to route to the bridge";
    IPV6_DHCP: "ipv6.dhcp", Value::Bool, Apply(&[Firewall, Dnsmasq]), "Whether to give more than addresses over DHCPv6"
        => default("true");
    IPV6_DHCP_EXPIRY: "ipv6.dhcp.expiry", EXPIRY, Apply(&[Dnsmasq]), "How long a lease lasts" => default("1h");
    IPV6_DHCP_RANGES: "ipv6.dhcp.ranges", RANGES6, Apply(&[Dnsmasq]), "Addresses to hand out, `first-last`";
    IPV6_DHCP_STATEFUL: "ipv6.dhcp.stateful", Value::Bool, Apply(&[Dnsmasq]), "Whether to hand out addresses by DHCPv6"
        => default("false");
    IPV6_RA: "ipv6.ra", Value::Bool, Apply(&[Dnsmasq]), "Whether to send router advertisements" => default("true");
    IPV6_OVN_RANGES: "ipv6.ovn.ranges", RANGES6, Record, "Addresses kept from DHCP for OVN routers";
    RAW_DNSMASQ: "raw.dnsmasq", Value::CheckedText("dnsmasq configuration", checks::raw_dnsmasq), Apply(&[Dnsmasq]),
        "Lines for dnsmasq's configuration";
    SECURITY_ACLS: "security.acls", Value::ListOf(&Value::Checked("ACL", checks::acl)), Apply(&[Acls]),
        "ACLs of traffic into and out of the network";
    ACLS_DEFAULT_INGRESS_ACTION: "security.acls.default.ingress.action", ACTION, Apply(&[Acls]),
        "What happens to incoming traffic no rule is for" => default("reject");
    ACLS_DEFAULT_EGRESS_ACTION: "security.acls.default.egress.action", ACTION, Apply(&[Acls]),
        "What happens to outgoing traffic no rule is for" => default("reject");
    ACLS_DEFAULT_INGRESS_LOGGED: "security.acls.default.ingress.logged", Value::Bool, Apply(&[Acls]),
        "Log incoming traffic no rule is for" => default("false");
    ACLS_DEFAULT_EGRESS_LOGGED: "security.acls.default.egress.logged", Value::Bool, Apply(&[Acls]),
        "Log outgoing traffic no rule is for" => default("false");
    TUNNEL_PROTOCOL: "protocol", Value::OneOf(&["gre", "vxlan"]), Apply(&[Tunnels]), "Kind of tunnel" => item("tunnel.");
    TUNNEL_LOCAL: "local", ADDRESS, Apply(&[Tunnels]), "Our address" => item("tunnel.");
    TUNNEL_REMOTE: "remote", ADDRESS, Apply(&[Tunnels]), "The other host's address" => item("tunnel.");
    TUNNEL_GROUP: "group", ADDRESS, Apply(&[Tunnels]), "Multicast address of a VXLAN"
        => item("tunnel."), default("239.0.0.1");
    TUNNEL_PORT: "port", Value::Checked("port", checks::port), Apply(&[Tunnels]), "UDP port of a VXLAN"
        => item("tunnel."), default("0");
    TUNNEL_ID: "id", Value::Range(0, 16_777_215), Apply(&[Tunnels]), "Id of a VXLAN" => item("tunnel."), default("0");
    TUNNEL_INTERFACE: "interface", Value::Checked("interface name", super::super::checks::interface_name),
        Apply(&[Tunnels]), "Interface of the host for a VXLAN" => item("tunnel.");
    TUNNEL_TTL: "ttl", Value::Uint8, Apply(&[Tunnels]), "Time to live of a VXLAN's packets"
        => item("tunnel."), default("1");
    BGP_ADDRESS: "address", ADDRESS, Record, "Address of a BGP peer" => item("bgp.peers.");
    BGP_ASN: "asn", Value::Range(1, 4_294_967_294), Record, "AS number of a BGP peer" => item("bgp.peers.");
    BGP_PASSWORD: "password", Value::Line, Record, "Password for a BGP peer" => item("bgp.peers.");
    BGP_HOLDTIME: "holdtime", Value::Range(9, 65_535), Record, "Hold time of a BGP session, seconds" => item("bgp.peers.");
    BGP_INTERFACE: "interface", Value::Checked("interface name", super::super::checks::interface_name), Record,
        "Interface to find a BGP peer at" => item("bgp.peers.");
    BGP_IPV4_NEXTHOP: "bgp.ipv4.nexthop", ADDRESS4, Record, "IPv4 next hop to announce";
    BGP_IPV6_NEXTHOP: "bgp.ipv6.nexthop", ADDRESS6, Record, "IPv6 next hop to announce";
    BGP_IPV4_INSTANCES: "bgp.ipv4.instances", Value::Bool, Record, "Announce each instance's IPv4 address";
    BGP_IPV6_INSTANCES: "bgp.ipv6.instances", Value::Bool, Record, "Announce each instance's IPv6 address";
    VOLATILE: "volatile.", Value::Line, Record, "What the program keeps for itself" => prefix(Suffix::Any);
}

/// Is it something this version could only store without heeding it: BGP, and bridges of Open vSwitch?
pub(super) fn is_unheeded(key: &Key, value: &str) -> bool {
    let bgp: [&Key; 9] = [
        &BGP_ADDRESS,
        &BGP_ASN,
        &BGP_PASSWORD,
        &BGP_HOLDTIME,
        &BGP_INTERFACE,
        &BGP_IPV4_NEXTHOP,
        &BGP_IPV6_NEXTHOP,
        &BGP_IPV4_INSTANCES,
        &BGP_IPV6_INSTANCES,
    ];
    bgp.iter().any(|k| std::ptr::eq(*k, key)) || (std::ptr::eq(key, &DRIVER) && value == "openvswitch")
}
