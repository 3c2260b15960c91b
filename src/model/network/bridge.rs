//! The configuration of a bridge, read: what the firewall, dnsmasq and the links are made from.

use super::range::IpRange;
use crate::base::inet::IpNet;
use crate::base::mac;
use crate::base::names::NetworkName;
use crate::error::{Context, Error, Result};
use crate::model::instance::Config;
use crate::model::keys::Key;
use crate::model::keys::network::bridge as keys;
use std::net::{IpAddr, Ipv6Addr};

/// MTU of a bridge that says nothing.
pub const DEFAULT_MTU: u32 = 1500;

/// What a bridge does for one family of addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Family {
    /// Our address and the subnet; none switches the family off.
    pub address: Option<IpNet>,
    /// Hide the subnet behind the host's address.
    pub nat: bool,
    /// Behind this address in particular.
    pub nat_address: Option<IpAddr>,
    /// NAT comes after the rules of others.
    pub nat_after: bool,
    /// Make filter rules.
    pub firewall: bool,
    /// Let packets through the host.
    pub routing: bool,
    /// Further networks behind the bridge.
    pub routes: Vec<IpNet>,
    /// Run a DHCP server.
    pub dhcp: bool,
    /// What the DHCP server may hand out; empty is all of the subnet.
    pub ranges: Vec<IpRange>,
    /// How long a lease lasts, as dnsmasq reads it.
    pub expiry: String,
}

impl Family {
    /// The subnet DHCP serves; none if it does not.
    pub fn dhcp_subnet(&self) -> Option<IpNet> {
        self.address.filter(|_| self.dhcp)
    }
}

/// Whose names are served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DnsMode {
    /// The program's.
    Managed,
    /// Those that clients send.
    Dynamic,
    /// None.
    None,
}

/// A bridge's configuration, read. `auto` has become an address before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bridge {
    /// IPv4.
    pub v4: Family,
    /// IPv6.
    pub v6: Family,
    /// Hand out IPv6 addresses by DHCPv6.
    pub stateful: bool,
    /// Send router advertisements.
    pub ra: bool,
    /// MTU.
    pub mtu: u32,
    /// Whose names are served.
    pub dns_mode: DnsMode,
    /// Domain of the instances.
    pub domain: String,
    /// Domains to search; empty is the domain.
    pub search: Vec<String>,
    /// Name servers to announce; empty is the bridge.
    pub nameservers: Vec<IpAddr>,
    /// Gateway to announce: none said, `none`, or an address.
    pub gateway: Gateway,
    /// Routes to announce: network and gateway.
    pub dhcp_routes: Vec<(IpNet, IpAddr)>,
    /// Lines for dnsmasq.
    pub raw_dnsmasq: String,
}

/// The IPv4 gateway DHCP announces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gateway {
    /// The bridge.
    Bridge,
    /// None.
    None,
    /// Another.
    Address(IpAddr),
}

impl Bridge {
    /// Reads a validated configuration. `hwaddr` is the bridge's MAC address, for an IPv6 subnet without an address.
    ///
    /// # Errors
    /// Invalid; an address is still `auto`.
    pub fn read(config: &Config, hwaddr: Option<[u8; 6]>) -> Result<Self> {
        let gateway = match keys::IPV4_DHCP_GATEWAY.get(config) {
            None => Gateway::Bridge,
            Some("none") => Gateway::None,
            Some(text) => Gateway::Address(address(text)?),
        };
        Ok(Self {
            v4: family(config, &V4, None)?,
            v6: family(config, &V6, hwaddr)?,
            stateful: keys::IPV6_DHCP_STATEFUL.bool(config)?,
            ra: keys::IPV6_RA.bool(config)?,
            mtu: keys::MTU.u32(config)?.unwrap_or(DEFAULT_MTU),
            dns_mode: match keys::DNS_MODE.text(config) {
                "none" => DnsMode::None,
                "dynamic" => DnsMode::Dynamic,
                _ => DnsMode::Managed,
            },
            domain: keys::DNS_DOMAIN.text(config).to_string(),
            search: keys::DNS_SEARCH.list(config).into_iter().map(String::from).collect(),
            nameservers: keys::DNS_NAMESERVERS.list(config).into_iter().map(address).collect::<Result<_>>()?,
            gateway,
            dhcp_routes: dhcp_routes(keys::IPV4_DHCP_ROUTES.text(config))?,
            raw_dnsmasq: keys::RAW_DNSMASQ.text(config).to_string(),
        })
    }

    /// IPv4 and IPv6.
    pub fn families(&self) -> [&Family; 2] {
        [&self.v4, &self.v6]
    }

    /// Does anything need dnsmasq?
    pub fn needs_dnsmasq(&self) -> bool {
        self.families().iter().any(|f| f.address.is_some())
    }
}

/// The keys of a family.
struct FamilyKeys {
    address: &'static Key,
    nat: &'static Key,
    nat_address: &'static Key,
    nat_order: &'static Key,
    firewall: &'static Key,
    routing: &'static Key,
    routes: &'static Key,
    dhcp: &'static Key,
    ranges: &'static Key,
    expiry: &'static Key,
    ovn: &'static Key,
}

static V4: FamilyKeys = FamilyKeys {
    address: &keys::IPV4_ADDRESS,
    nat: &keys::IPV4_NAT,
    nat_address: &keys::IPV4_NAT_ADDRESS,
    nat_order: &keys::IPV4_NAT_ORDER,
    firewall: &keys::IPV4_FIREWALL,
    routing: &keys::IPV4_ROUTING,
    routes: &keys::IPV4_ROUTES,
    dhcp: &keys::IPV4_DHCP,
    ranges: &keys::IPV4_DHCP_RANGES,
    expiry: &keys::IPV4_DHCP_EXPIRY,
    ovn: &keys::IPV4_OVN_RANGES,
};

static V6: FamilyKeys = FamilyKeys {
    address: &keys::IPV6_ADDRESS,
    nat: &keys::IPV6_NAT,
    nat_address: &keys::IPV6_NAT_ADDRESS,
    nat_order: &keys::IPV6_NAT_ORDER,
    firewall: &keys::IPV6_FIREWALL,
    routing: &keys::IPV6_ROUTING,
    routes: &keys::IPV6_ROUTES,
    dhcp: &keys::IPV6_DHCP,
    ranges: &keys::IPV6_DHCP_RANGES,
    expiry: &keys::IPV6_DHCP_EXPIRY,
    ovn: &keys::IPV6_OVN_RANGES,
};

fn address(text: &str) -> Result<IpAddr> {
    text.parse().map_err(|_| Error::invalid(format!("Not an IP address {text:?}")))
}

fn family(config: &Config, k: &FamilyKeys, hwaddr: Option<[u8; 6]>) -> Result<Family> {
    let own = match k.address.get(config) {
        None | Some("none") => None,
        Some("auto") => return Err(Error::internal(format!("{:?} has not been chosen yet", k.address.name))),
        Some(text) => Some(own_address(text.parse()?, hwaddr)?),
    };
    let ranges = match own {
        Some(net) => {
            IpRange::parse_list(k.ranges.text(config), &net).context(format!("Failed parsing {}", k.ranges.name))?
        }
        None => Vec::new(),
    };
    Ok(Family {
        address: own,
        nat: k.nat.bool(config)?,
        nat_address: k.nat_address.read(config, address)?,
        nat_after: k.nat_order.text(config) == "after",
        firewall: k.firewall.bool(config)?,
        routing: k.routing.bool(config)?,
        routes: k.routes.list(config).into_iter().map(str::parse).collect::<Result<_>>()?,
        dhcp: k.dhcp.bool(config)?,
        ranges,
        expiry: k.expiry.text(config).to_string(),
    })
}

/// The address in an IPv6 subnet that says none: derived from the MAC address (RFC 4291, appendix A).
fn own_address(net: IpNet, hwaddr: Option<[u8; 6]>) -> Result<IpNet> {
    match (net.address(), hwaddr) {
        (IpAddr::V6(_), Some(mac)) if net.is_network() && !net.is_host() => {
            let wrong = || Error::invalid("Can't generate an EUI64 derived IPv6 address with a mask other than /64");
            eui64(&net, mac).and_then(|a| IpNet::new(a.into(), 64)).ok_or_else(wrong)
        }
        _ => Ok(net),
    }
}

/// The IPv6 address a host with this MAC address gives itself in a `/64` (RFC 4862); `None` for another subnet.
pub fn eui64(net: &IpNet, mac: [u8; 6]) -> Option<Ipv6Addr> {
    let IpAddr::V6(prefix) = net.network().address() else { return None };
    if net.prefix() != 64 {
        return None;
    }
    let [a, b, c, d, e, f] = mac;
    let id = u64::from_be_bytes([a ^ 2, b, c, 0xff, 0xfe, d, e, f]);
    Some(Ipv6Addr::from(u128::from(prefix) | u128::from(id)))
}

fn dhcp_routes(text: &str) -> Result<Vec<(IpNet, IpAddr)>> {
    let parts: Vec<&str> = text.split(',').map(str::trim).filter(|p| !p.is_empty()).collect();
    parts
        .chunks(2)
        .map(|pair| match pair {
            [net, gateway] => Ok((net.parse()?, address(gateway)?)),
            _ => Err(Error::invalid(format!("missing gateway for route {text}"))),
        })
        .collect()
}

/// What the options of a bridge say together, in the words of Incus; besides, its DHCP ranges lie within its subnet.
pub(super) fn check_together(name: &NetworkName, config: &Config) -> Result<()> {
    for tunnel in config.keys().filter_map(|k| k.strip_prefix("tunnel.")?.split('.').next()) {
        if name.len() + tunnel.len() > 14 {
            return Err(Error::invalid(format!("Network name too long for tunnel interface: {name}-{tunnel}")));
        }
    }
    for zone in [&keys::ZONE_REVERSE_IPV4, &keys::ZONE_REVERSE_IPV6] {
        if zone.list(config).len() > 1 {
            return Err(Error::invalid(format!("Invalid {:?} must contain only single DNS zone name", zone.name)));
        }
    }
    let hwaddr = keys::HWADDR.read(config, mac::parse)?;
    let mut known = config.clone();
    for k in [&V4, &V6] {
        check_ranges(config, k)?;
        if k.address.get(config) == Some("auto") {
            // Not chosen yet, so nothing can lie outside of it.
            known.remove(k.address.name);
        }
    }
    Bridge::read(&known, hwaddr.or(Some([0x10, 0x66, 0x6a, 0, 0, 1]))).map(drop)
}

fn check_ranges(config: &Config, k: &FamilyKeys) -> Result<()> {
    let Some(net) = k.address.get(config).and_then(|t| t.parse::<IpNet>().ok()) else { return Ok(()) };
    let served = k.dhcp.bool(config)?;
    let stateful = net.is_ipv4() || keys::IPV6_DHCP_STATEFUL.bool(config)?;
    let read =
        |key: &Key| IpRange::parse_list(key.text(config), &net).with_context(|| format!("Failed parsing {}", key.name));
    let (ranges, kept) = (read(k.ranges)?, read(k.ovn)?);
    if let Some((a, b)) = pairs(&ranges).find(|(a, b)| a.overlaps(b)) {
        return Err(Error::invalid(format!("The ranges {a} and {b} of {:?} overlap", k.ranges.name)));
    }
    if kept.is_empty() || !served || !stateful {
        return Ok(());
    }
    if ranges.is_empty() {
        let what = if net.is_ipv4() { "DHCPv4" } else { "stateful DHCPv6" };
        return Err(Error::invalid(format!(
            "{:?} must be used in conjunction with non-overlapping {:?} when {what} is enabled",
            k.ovn.name, k.ranges.name
        )));
    }
    match kept.iter().find(|r| ranges.iter().any(|d| d.overlaps(r))) {
        Some(range) => Err(Error::invalid(format!(
            "The range specified in {:?} ({:?}) cannot overlap with {:?}",
            k.ovn.name,
            range.to_string(),
            k.ranges.name
        ))),
        None => Ok(()),
    }
}

fn pairs(ranges: &[IpRange]) -> impl Iterator<Item = (&IpRange, &IpRange)> {
    ranges.iter().enumerate().flat_map(|(i, a)| ranges[i + 1..].iter().map(move |b| (a, b)))
}
