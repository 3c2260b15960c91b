//! Network interfaces, by `nictype` or on a managed network.

use super::super::checks;
use super::super::key::{Key, Scope};
use super::super::value::Value;
use super::Kind;
use crate::error::{Error, Result};
use crate::model::instance::{Device, Devices, InstanceType};
use std::collections::BTreeSet;

const BITS: Value = Value::Checked("bits a second", check_bits);
const ACTION: Value = Value::OneOf(&["allow", "allow-stateless", "drop", "reject"]);
const ROUTES4: Value = Value::ListOf(&Value::Checked("IPv4 network", checks::network_v4));
const ROUTES6: Value = Value::ListOf(&Value::Checked("IPv6 network", checks::network_v6));
const ADDRESS4: Value = Value::Checked("IPv4 address", checks::ipv4);
const ADDRESS6: Value = Value::Checked("IPv6 address", checks::ipv6);
const TABLES: Value = Value::ListOf(&Value::Range(0, 255));
const GATEWAY: Value = Value::Checked("auto or none", checks::gateway);
const GATEWAY4: Value = Value::Checked("IPv4 address, auto or none", checks::gateway_v4);
const GATEWAY6: Value = Value::Checked("IPv6 address, auto or none", checks::gateway_v6);

fn check_bits(value: &str) -> Result<()> {
    crate::base::size::parse_bits(value).map(drop)
}

keys! {
    NICTYPE: "nictype", Both, Value::OneOf(&["bridged", "macvlan", "sriov", "physical", "ovn", "ipvlan", "p2p", "routed"]),
        "Type of the interface, where no network says it";
    NETWORK: "network", Both, Value::Line, "Managed network to connect to, in place of `nictype` and `parent`";
    PARENT: "parent", Both, Value::Line, "Interface of the host";
    NAME: "name", Both, Value::Checked("interface name", checks::interface_name), "Name in the instance";
    HWADDR: "hwaddr", Both, Value::Checked("MAC address", checks::mac_address), "MAC address";
    MTU: "mtu", Both, Value::Checked("MTU", checks::mtu), "Maximum transmission unit";
    HOST_NAME: "host_name", Both, Value::Checked("interface name", checks::interface_name), "Name on the host";
    BOOT_PRIORITY: "boot.priority", Both, Value::Uint32, "Boot order of virtual machines, higher first";
    ATTACHED: "attached", Both, Value::Bool, "Whether the interface is plugged in" => default("true");
    CONNECTED: "connected", Both, Value::Bool, "Whether the cable is plugged in" => default("true");
    IO_BUS: "io.bus", Vm, Value::OneOf(&["virtio", "usb"]), "Bus in virtual machines" => default("virtio");
    QUEUE_TX_LENGTH: "queue.tx.length", Both, Value::Uint32, "Length of the transmit queue";
    LIMITS_INGRESS: "limits.ingress", Both, BITS, "Limit of incoming traffic";
    LIMITS_EGRESS: "limits.egress", Both, BITS, "Limit of outgoing traffic";
    LIMITS_MAX: "limits.max", Both, BITS, "Limit of incoming and of outgoing traffic";
    LIMITS_PRIORITY: "limits.priority", Both, Value::Uint32, "Priority of outgoing packets";
    IPV4_ADDRESS: "ipv4.address", Both, Value::Checked("IPv4 address, none or CIDR", checks::nic_ipv4), "IPv4 address";
    IPV6_ADDRESS: "ipv6.address", Both, Value::Checked("IPv6 address, none or CIDR", checks::nic_ipv6), "IPv6 address";
    IPV4_GATEWAY: "ipv4.gateway", Both, GATEWAY4, "IPv4 default gateway";
    IPV6_GATEWAY: "ipv6.gateway", Both, GATEWAY6, "IPv6 default gateway";
    IPV4_ROUTES: "ipv4.routes", Both, ROUTES4, "IPv4 networks to route to the interface";
    IPV6_ROUTES: "ipv6.routes", Both, ROUTES6, "IPv6 networks to route to the interface";
    IPV4_ROUTES_EXTERNAL: "ipv4.routes.external", Both, ROUTES4, "IPv4 networks to route and to announce";
    IPV6_ROUTES_EXTERNAL: "ipv6.routes.external", Both, ROUTES6, "IPv6 networks to route and to announce";
    IPV4_ADDRESS_EXTERNAL: "ipv4.address.external", Both, ADDRESS4, "Network forward to use as source address";
    IPV6_ADDRESS_EXTERNAL: "ipv6.address.external", Both, ADDRESS6, "Network forward to use as source address";
    SECURITY_MAC_FILTERING: "security.mac_filtering", Both, Value::Bool, "Drop packets with another's MAC address" => default("false");
    SECURITY_IPV4_FILTERING: "security.ipv4_filtering", Both, Value::Bool, "Drop packets with another's IPv4 address" => default("false");
    SECURITY_IPV6_FILTERING: "security.ipv6_filtering", Both, Value::Bool, "Drop packets with another's IPv6 address" => default("false");
    SECURITY_PORT_ISOLATION: "security.port_isolation", Both, Value::Bool, "Keep from other isolated ports of the bridge" => default("false");
    SECURITY_ACLS: "security.acls", Both, Value::ListOf(&Value::Line), "Network ACLs to apply";
    SECURITY_ACLS_DEFAULT_INGRESS_ACTION: "security.acls.default.ingress.action", Both, ACTION,
        "What happens to incoming traffic no rule is for";
    SECURITY_ACLS_DEFAULT_EGRESS_ACTION: "security.acls.default.egress.action", Both, ACTION,
        "What happens to outgoing traffic no rule is for";
    SECURITY_ACLS_DEFAULT_INGRESS_LOGGED: "security.acls.default.ingress.logged", Both, Value::Bool,
        "Log incoming traffic no rule is for" => default("false");
    SECURITY_ACLS_DEFAULT_EGRESS_LOGGED: "security.acls.default.egress.logged", Both, Value::Bool,
        "Log outgoing traffic no rule is for" => default("false");
    SECURITY_TRUSTED: "security.trusted", Both, Value::Bool, "Let the virtual function change its own settings" => default("false");
    SECURITY_PROMISCUOUS: "security.promiscuous", Both, Value::Bool, "Send it packets for unknown addresses" => default("false");
    VLAN: "vlan", Both, Value::Checked("VLAN id", checks::vlan), "VLAN to join";
    BRIDGE_VLAN: "vlan", Both, Value::Checked("VLAN id or none", checks::vlan_or_none), "Untagged VLAN, `none` for no such";
    VLAN_TAGGED: "vlan.tagged", Both, Value::Checked("VLAN ids and ranges", checks::vlan_list), "Tagged VLANs to join";
    GVRP: "gvrp", Both, Value::Bool, "Register the VLAN by GVRP" => default("false");
    MODE: "mode", Both, Value::OneOf(&["bridge", "vepa", "passthru", "private"]), "Mode of the macvlan" => default("bridge");
    ACCELERATION: "acceleration", Both, Value::OneOf(&["none", "sriov", "vdpa"]), "Hardware offload" => default("none");
    NESTED: "nested", Both, Value::Line, "Interface of the instance to nest under, with `vlan`";
    VENDORID: "vendorid", Both, Value::Checked("four hexadecimal digits", checks::device_id), "Vendor of the parent card";
    PRODUCTID: "productid", Both, Value::Checked("four hexadecimal digits", checks::device_id), "Product of the parent card";
    PCI: "pci", Both, Value::Checked("PCI address", checks::pci_address), "PCI address of the parent card";
    IPVLAN_MODE: "mode", Both, Value::OneOf(&["l3s", "l2"]), "Mode of the ipvlan" => default("l3s");
    IPVLAN_IPV4_ADDRESS: "ipv4.address", Both, Value::ListOf(&Value::Checked("IPv4 address", checks::ipv4_maybe_cidr)), "IPv4 addresses";
    IPVLAN_IPV6_ADDRESS: "ipv6.address", Both, Value::ListOf(&Value::Checked("IPv6 address", checks::ipv6_maybe_cidr)), "IPv6 addresses";
    ROUTED_IPV4_ADDRESS: "ipv4.address", Both, Value::ListOf(&ADDRESS4), "IPv4 addresses";
    ROUTED_IPV6_ADDRESS: "ipv6.address", Both, Value::ListOf(&ADDRESS6), "IPv6 addresses";
    ROUTED_IPV4_GATEWAY: "ipv4.gateway", Both, GATEWAY, "Whether to set an IPv4 default gateway" => default("auto");
    ROUTED_IPV6_GATEWAY: "ipv6.gateway", Both, GATEWAY, "Whether to set an IPv6 default gateway" => default("auto");
    IPV4_HOST_ADDRESS: "ipv4.host_address", Both, ADDRESS4, "IPv4 address of the host's end" => default("169.254.0.1");
    IPV6_HOST_ADDRESS: "ipv6.host_address", Both, ADDRESS6, "IPv6 address of the host's end" => default("fe80::1");
    IPV4_HOST_TABLE: "ipv4.host_table", Both, Value::Uint32, "Further routing table of the host for IPv4";
    IPV6_HOST_TABLE: "ipv6.host_table", Both, Value::Uint32, "Further routing table of the host for IPv6";
    IPV4_HOST_TABLES: "ipv4.host_tables", Both, TABLES, "Routing tables of the host for IPv4" => default("254");
    IPV6_HOST_TABLES: "ipv6.host_tables", Both, TABLES, "Routing tables of the host for IPv6" => default("254");
    IPV4_NEIGHBOR_PROBE: "ipv4.neighbor_probe", Both, Value::Bool, "See whether the IPv4 address is free" => default("true");
    IPV6_NEIGHBOR_PROBE: "ipv6.neighbor_probe", Both, Value::Bool, "See whether the IPv6 address is free" => default("true");
    VRF: "vrf", Both, Value::Line, "VRF of the host's end";
}

/// Options for containers only.
static PHYSICAL_GVRP: Key = Key::new(GVRP.name, Scope::Container, Value::Bool, "Register the VLAN by GVRP");
static PHYSICAL_HWADDR: Key = Key::new(HWADDR.name, Scope::Container, HWADDR.value, "MAC address");
static PHYSICAL_MTU: Key = Key::new(MTU.name, Scope::Container, MTU.value, "Maximum transmission unit");
static PHYSICAL_VLAN: Key = Key::new(VLAN.name, Scope::Container, VLAN.value, "VLAN to join");
static PHYSICAL_VLAN_TAGGED: Key =
    Key::new(VLAN_TAGGED.name, Scope::Container, VLAN_TAGGED.value, "Tagged VLANs to join");
/// macvlan knows it in virtual machines only.
static MACVLAN_CONNECTED: Key = Key::new(CONNECTED.name, Scope::Vm, Value::Bool, "Whether the cable is plugged in");

macro_rules! kind {
    ($sub:literal, $scope:ident, $check:expr, options $options:expr, required $required:expr, updatable $updatable:expr) => {
        Kind {
            device: "nic",
            sub: $sub,
            scope: Scope::$scope,
            hotplug: Some(Scope::$scope),
            options: $options,
            required: $required,
            updatable: $updatable,
            check: $check,
        }
    };
}

static BRIDGED: Kind = kind!("bridged", Both, check_bridged, options &[
    &NAME, &NETWORK, &PARENT, &MTU, &QUEUE_TX_LENGTH, &HWADDR, &HOST_NAME, &LIMITS_INGRESS, &LIMITS_EGRESS, &LIMITS_MAX,
    &LIMITS_PRIORITY, &IPV4_ADDRESS, &IPV6_ADDRESS, &IPV4_GATEWAY, &IPV6_GATEWAY, &IPV4_ROUTES, &IPV6_ROUTES,
    &IPV4_ROUTES_EXTERNAL, &IPV6_ROUTES_EXTERNAL, &SECURITY_MAC_FILTERING, &SECURITY_IPV4_FILTERING,
    &SECURITY_IPV6_FILTERING, &SECURITY_PORT_ISOLATION, &SECURITY_ACLS, &SECURITY_ACLS_DEFAULT_INGRESS_ACTION,
    &SECURITY_ACLS_DEFAULT_EGRESS_ACTION, &SECURITY_ACLS_DEFAULT_INGRESS_LOGGED, &SECURITY_ACLS_DEFAULT_EGRESS_LOGGED,
    &BOOT_PRIORITY, &BRIDGE_VLAN, &VLAN_TAGGED, &IO_BUS, &ATTACHED, &CONNECTED,
], required &[&PARENT], updatable BRIDGED_LIVE);

const BRIDGED_LIVE: &[&Key] = &[
    &LIMITS_INGRESS,
    &LIMITS_EGRESS,
    &LIMITS_MAX,
    &LIMITS_PRIORITY,
    &IPV4_ROUTES,
    &IPV6_ROUTES,
    &IPV4_ROUTES_EXTERNAL,
    &IPV6_ROUTES_EXTERNAL,
    &IPV4_ADDRESS,
    &IPV6_ADDRESS,
    &SECURITY_MAC_FILTERING,
    &SECURITY_IPV4_FILTERING,
    &SECURITY_IPV6_FILTERING,
    &SECURITY_ACLS,
    &SECURITY_ACLS_DEFAULT_EGRESS_ACTION,
    &SECURITY_ACLS_DEFAULT_EGRESS_LOGGED,
    &SECURITY_ACLS_DEFAULT_INGRESS_ACTION,
    &SECURITY_ACLS_DEFAULT_INGRESS_LOGGED,
    &CONNECTED,
];

static MACVLAN: Kind = kind!(
    "macvlan",
    Both,
    super::no_rules,
    options
        & [
            &NAME,
            &NETWORK,
            &PARENT,
            &MTU,
            &HWADDR,
            &VLAN,
            &BOOT_PRIORITY,
            &GVRP,
            &MODE,
            &IO_BUS,
            &ATTACHED,
            &MACVLAN_CONNECTED,
        ],
    required & [&PARENT],
    updatable & [&CONNECTED]
);

static SRIOV: Kind = kind!(
    "sriov",
    Both,
    check_sriov,
    options
        & [
            &NAME,
            &NETWORK,
            &PARENT,
            &HWADDR,
            &MTU,
            &VLAN,
            &SECURITY_MAC_FILTERING,
            &SECURITY_TRUSTED,
            &BOOT_PRIORITY,
            &VENDORID,
            &PRODUCTID,
            &PCI,
            &ATTACHED,
        ],
    required & [],
    updatable & []
);

static PHYSICAL: Kind = kind!(
    "physical",
    Both,
    super::no_rules,
    options
        & [
            &PARENT,
            &NAME,
            &NETWORK,
            &BOOT_PRIORITY,
            &ATTACHED,
            &PHYSICAL_GVRP,
            &PHYSICAL_HWADDR,
            &PHYSICAL_MTU,
            &PHYSICAL_VLAN,
            &PHYSICAL_VLAN_TAGGED,
        ],
    required & [&PARENT],
    updatable & []
);

static OVN: Kind = kind!(
    "ovn",
    Both,
    super::no_rules,
    options
        & [
            &NAME,
            &NETWORK,
            &HWADDR,
            &HOST_NAME,
            &MTU,
            &IPV4_ADDRESS,
            &IPV6_ADDRESS,
            &IPV4_GATEWAY,
            &IPV6_GATEWAY,
            &IPV4_ADDRESS_EXTERNAL,
            &IPV6_ADDRESS_EXTERNAL,
            &IPV4_ROUTES,
            &IPV6_ROUTES,
            &IPV4_ROUTES_EXTERNAL,
            &IPV6_ROUTES_EXTERNAL,
            &BOOT_PRIORITY,
            &SECURITY_ACLS,
            &SECURITY_ACLS_DEFAULT_INGRESS_ACTION,
            &SECURITY_ACLS_DEFAULT_EGRESS_ACTION,
            &SECURITY_ACLS_DEFAULT_INGRESS_LOGGED,
            &SECURITY_ACLS_DEFAULT_EGRESS_LOGGED,
            &SECURITY_PROMISCUOUS,
            &ACCELERATION,
            &NESTED,
            &VLAN,
            &LIMITS_INGRESS,
            &LIMITS_EGRESS,
            &LIMITS_MAX,
            &LIMITS_PRIORITY,
            &ATTACHED,
            &CONNECTED,
            &IO_BUS,
        ],
    required & [&NETWORK],
    updatable
        & [
            &SECURITY_ACLS,
            &LIMITS_INGRESS,
            &LIMITS_EGRESS,
            &LIMITS_MAX,
            &LIMITS_PRIORITY,
            &CONNECTED,
            &IPV4_ADDRESS_EXTERNAL,
            &IPV6_ADDRESS_EXTERNAL,
        ]
);

static IPVLAN: Kind = kind!(
    "ipvlan",
    Container,
    check_ipvlan,
    options
        & [
            &PARENT,
            &NAME,
            &MTU,
            &HWADDR,
            &VLAN,
            &IPVLAN_MODE,
            &IPVLAN_IPV4_ADDRESS,
            &IPVLAN_IPV6_ADDRESS,
            &IPV4_GATEWAY,
            &IPV6_GATEWAY,
            &IPV4_HOST_TABLE,
            &IPV6_HOST_TABLE,
            &GVRP,
            &ATTACHED,
        ],
    required & [&PARENT],
    updatable & []
);

static P2P: Kind = kind!(
    "p2p",
    Both,
    super::no_rules,
    options
        & [
            &NAME,
            &MTU,
            &QUEUE_TX_LENGTH,
            &HWADDR,
            &HOST_NAME,
            &LIMITS_INGRESS,
            &LIMITS_EGRESS,
            &LIMITS_MAX,
            &LIMITS_PRIORITY,
            &IPV4_ROUTES,
            &IPV6_ROUTES,
            &BOOT_PRIORITY,
            &IO_BUS,
            &ATTACHED,
            &CONNECTED,
        ],
    required & [],
    updatable
        & [&LIMITS_INGRESS, &LIMITS_EGRESS, &LIMITS_MAX, &LIMITS_PRIORITY, &IPV4_ROUTES, &IPV6_ROUTES, &CONNECTED,]
);

static ROUTED: Kind = kind!(
    "routed",
    Both,
    check_routed,
    options
        & [
            &NAME,
            &PARENT,
            &MTU,
            &QUEUE_TX_LENGTH,
            &HWADDR,
            &HOST_NAME,
            &VLAN,
            &LIMITS_INGRESS,
            &LIMITS_EGRESS,
            &LIMITS_MAX,
            &LIMITS_PRIORITY,
            &ROUTED_IPV4_ADDRESS,
            &ROUTED_IPV6_ADDRESS,
            &ROUTED_IPV4_GATEWAY,
            &ROUTED_IPV6_GATEWAY,
            &IPV4_ROUTES,
            &IPV6_ROUTES,
            &IPV4_HOST_ADDRESS,
            &IPV6_HOST_ADDRESS,
            &IPV4_HOST_TABLE,
            &IPV6_HOST_TABLE,
            &IPV4_HOST_TABLES,
            &IPV6_HOST_TABLES,
            &IPV4_NEIGHBOR_PROBE,
            &IPV6_NEIGHBOR_PROBE,
            &GVRP,
            &VRF,
            &IO_BUS,
            &ATTACHED,
            &CONNECTED,
        ],
    required & [],
    updatable & [&LIMITS_INGRESS, &LIMITS_EGRESS, &LIMITS_MAX, &LIMITS_PRIORITY, &CONNECTED]
);

/// A NIC on a managed network whose type is not known yet: what any type that has networks allows.
pub static MANAGED: Kind = kind!("managed", Both, check_managed, options &[
    &NETWORK, &PARENT, &MTU, &NAME, &HWADDR, &HOST_NAME, &QUEUE_TX_LENGTH, &BOOT_PRIORITY, &ATTACHED, &CONNECTED, &IO_BUS,
    &LIMITS_INGRESS, &LIMITS_EGRESS, &LIMITS_MAX, &LIMITS_PRIORITY, &IPV4_ADDRESS, &IPV6_ADDRESS, &IPV4_GATEWAY,
    &IPV6_GATEWAY, &IPV4_ADDRESS_EXTERNAL, &IPV6_ADDRESS_EXTERNAL, &IPV4_ROUTES, &IPV6_ROUTES, &IPV4_ROUTES_EXTERNAL,
    &IPV6_ROUTES_EXTERNAL, &SECURITY_MAC_FILTERING, &SECURITY_IPV4_FILTERING, &SECURITY_IPV6_FILTERING,
    &SECURITY_PORT_ISOLATION, &SECURITY_ACLS, &SECURITY_ACLS_DEFAULT_INGRESS_ACTION,
    &SECURITY_ACLS_DEFAULT_EGRESS_ACTION, &SECURITY_ACLS_DEFAULT_INGRESS_LOGGED, &SECURITY_ACLS_DEFAULT_EGRESS_LOGGED,
    &SECURITY_TRUSTED, &SECURITY_PROMISCUOUS, &BRIDGE_VLAN, &VLAN_TAGGED, &ACCELERATION, &NESTED, &VENDORID, &PRODUCTID,
    &PCI,
], required &[&NETWORK], updatable BRIDGED_LIVE);

pub(super) static KINDS: &[&Kind] = &[&BRIDGED, &MACVLAN, &SRIOV, &PHYSICAL, &OVN, &IPVLAN, &P2P, &ROUTED, &MANAGED];

fn check_managed(device: &Device, _: Option<InstanceType>) -> Result<()> {
    for banned in [&NICTYPE, &PARENT, &MTU] {
        if banned.get(device).is_some() {
            return Err(Error::invalid(format!(
                "Cannot use {:?} property in conjunction with \"network\" property",
                banned.name
            )));
        }
    }
    check_vlans(device)
}

fn check_vlans(device: &Device) -> Result<()> {
    let untagged = BRIDGE_VLAN.get(device);
    if let Some(id) = VLAN_TAGGED.list(device).into_iter().find(|id| Some(*id) == untagged) {
        return Err(Error::invalid(format!("Tagged VLAN ID {id:?} cannot be the same as untagged VLAN ID")));
    }
    let filtering = SECURITY_IPV4_FILTERING.bool(device)? || SECURITY_IPV6_FILTERING.bool(device)?;
    if filtering && (untagged.is_some() || VLAN_TAGGED.get(device).is_some()) {
        return Err(Error::invalid("IP filtering cannot be used with VLAN filtering"));
    }
    Ok(())
}

fn check_bridged(device: &Device, _: Option<InstanceType>) -> Result<()> {
    check_vlans(device)
}

fn check_sriov(device: &Device, _: Option<InstanceType>) -> Result<()> {
    super::at_most_one(device, &[&PARENT, &PCI, &VENDORID])?;
    super::at_most_one(device, &[&PARENT, &PCI, &PRODUCTID])?;
    let named = [&PARENT, &PCI, &VENDORID, &PRODUCTID].iter().any(|k| k.get(device).is_some());
    if named || NETWORK.get(device).is_some() {
        return Ok(());
    }
    Err(super::required(&PARENT))
}

fn check_ipvlan(device: &Device, _: Option<InstanceType>) -> Result<()> {
    if IPVLAN_MODE.text(device) == "l2" {
        return Ok(());
    }
    for (address, gateway) in [(&IPVLAN_IPV4_ADDRESS, &IPV4_GATEWAY), (&IPVLAN_IPV6_ADDRESS, &IPV6_GATEWAY)] {
        if let Some(v) = address.list(device).into_iter().find(|v| v.contains('/')) {
            return Err(Error::invalid(format!(
                "Invalid value for device option {:?}: Not an IP address {v:?}",
                address.name
            )));
        }
        gateway.read(device, checks::gateway)?;
    }
    Ok(())
}

fn check_routed(device: &Device, _: Option<InstanceType>) -> Result<()> {
    for (address, routes) in [(&ROUTED_IPV4_ADDRESS, &IPV4_ROUTES), (&ROUTED_IPV6_ADDRESS, &IPV6_ROUTES)] {
        let mut seen = BTreeSet::new();
        if let Some(twice) = address.list(device).into_iter().find(|a| !seen.insert(*a)) {
            return Err(Error::invalid(format!("Duplicate address {twice:?} in {:?}", address.name)));
        }
        if routes.get(device).is_some() && address.get(device).is_none() {
            return Err(Error::invalid(format!("{} requires {} to be set", routes.name, address.name)));
        }
    }
    if VLAN.get(device).is_some() && PARENT.get(device).is_none() {
        return Err(Error::invalid("The vlan setting can only be used when combined with a parent interface"));
    }
    Ok(())
}

/// Rules among the NICs of one instance.
pub(super) fn check_together(devices: &Devices) -> Result<()> {
    let nics = || devices.iter().filter(|(_, d)| super::device_type(d) == "nic");
    let mut names = BTreeSet::new();
    if let Some(name) = nics().filter_map(|(_, d)| NAME.get(d)).find(|n| !names.insert(*n)) {
        return Err(Error::invalid(format!("Duplicate NIC name detected {name:?}")));
    }
    for key in [&ROUTED_IPV4_GATEWAY, &ROUTED_IPV6_GATEWAY] {
        let mut auto = nics().filter(|(_, d)| NICTYPE.get(d) == Some("routed") && key.text(d) == "auto");
        if let (Some((first, _)), Some(_)) = (auto.next(), auto.next()) {
            return Err(Error::invalid(format!("Existing NIC {first:?} already uses {:?} in auto mode", key.name)));
        }
    }
    Ok(())
}
