//! `nictype=routed`: a pair whose end on the host is the instance's router. Each address is routed on its own, so nothing but
//! the host is on the link; with a parent the host answers there for the addresses.

use crate::base::inet::IpNet;
use crate::error::Result;
use crate::model::instance::Device as Options;
use crate::model::keys::Key;
use crate::model::keys::device::nic as keys;
use crate::model::nic::{Gateway, HostEnd, Inside, Routed, RoutedFamily};
use std::net::IpAddr;

/// Options it has besides those of pairs.
pub(super) const OPTIONS: &[&Key] = &[
    &keys::ROUTED_IPV4_ADDRESS,
    &keys::ROUTED_IPV6_ADDRESS,
    &keys::ROUTED_IPV4_GATEWAY,
    &keys::ROUTED_IPV6_GATEWAY,
    &keys::IPV4_HOST_ADDRESS,
    &keys::IPV6_HOST_ADDRESS,
    &keys::IPV4_HOST_TABLE,
    &keys::IPV6_HOST_TABLE,
    &keys::IPV4_HOST_TABLES,
    &keys::IPV6_HOST_TABLES,
    &keys::IPV4_NEIGHBOR_PROBE,
    &keys::IPV6_NEIGHBOR_PROBE,
    &keys::VRF,
];

/// The keys of a family.
struct FamilyKeys {
    address: &'static Key,
    gateway: &'static Key,
    host: &'static Key,
    routes: &'static Key,
    table: &'static Key,
    tables: &'static Key,
}

const V4: FamilyKeys = FamilyKeys {
    address: &keys::ROUTED_IPV4_ADDRESS,
    gateway: &keys::ROUTED_IPV4_GATEWAY,
    host: &keys::IPV4_HOST_ADDRESS,
    routes: &keys::IPV4_ROUTES,
    table: &keys::IPV4_HOST_TABLE,
    tables: &keys::IPV4_HOST_TABLES,
};

const V6: FamilyKeys = FamilyKeys {
    address: &keys::ROUTED_IPV6_ADDRESS,
    gateway: &keys::ROUTED_IPV6_GATEWAY,
    host: &keys::IPV6_HOST_ADDRESS,
    routes: &keys::IPV6_ROUTES,
    table: &keys::IPV6_HOST_TABLE,
    tables: &keys::IPV6_HOST_TABLES,
};

impl FamilyKeys {
    fn addresses(&self, options: &Options) -> Result<Vec<IpAddr>> {
        self.address.list(options).into_iter().map(address).collect()
    }

    fn family(&self, options: &Options) -> Result<Option<RoutedFamily>> {
        let addresses = self.addresses(options)?;
        if addresses.is_empty() {
            return Ok(None);
        }
        // What stands there by default is no wish: in a VRF it would lead past its table.
        let said = self.tables.get(options).map(|_| self.tables.list(options)).unwrap_or_default();
        let mut tables: Vec<u32> = said.into_iter().filter_map(|text| text.parse().ok()).collect();
        let further = self.table.u32(options)?.filter(|table| !tables.contains(table));
        if let Some(further) = further {
            if tables.is_empty() && keys::VRF.get(options).is_none() {
                tables.push(MAIN);
            }
            tables.push(further);
        }
        tables.dedup();
        let routes = self.routes.list(options).into_iter().map(str::parse).collect::<Result<_>>()?;
        Ok(Some(RoutedFamily { host: address(self.host.text(options))?, addresses, routes, tables }))
    }
}

/// The main routing table.
const MAIN: u32 = 254;

fn address(text: &str) -> Result<IpAddr> {
    text.parse().map_err(|_| crate::error::Error::invalid(format!("Not an IP address {text:?}")))
}

/// What the host has of it.
///
/// # Errors
/// Invalid: an address is none.
pub(super) fn link(options: &Options, end: HostEnd) -> Result<Routed> {
    let families = [V4.family(options)?, V6.family(options)?].into_iter().flatten().collect();
    Ok(Routed { end, families, vrf: keys::VRF.get(options).map(str::to_string) })
}

/// What the instance has of it.
///
/// # Errors
/// Invalid: an address is none.
pub(super) fn inside(options: &Options) -> Result<Inside> {
    let mut inside = Inside::default();
    for family in [V4, V6] {
        let addresses = family.addresses(options)?;
        if !addresses.is_empty() && family.gateway.text(options) == "auto" {
            inside.gateways.push(Gateway::Router(address(family.host.text(options))?));
        }
        inside.addresses.extend(addresses.into_iter().map(IpNet::host));
    }
    Ok(inside)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(list: &[(&str, &str)]) -> Options {
        list.iter().map(|(k, v)| ((*k).to_string(), (*v).to_string())).collect()
    }

    fn end() -> HostEnd {
        let (name, routes) = ("v0".into(), Vec::new());
        HostEnd { name, tx_queue: None, bridge: None, connected: true, routes, ingress: None, egress: None }
    }

    #[test]
    fn what_is_not_said_is_the_usual() {
        let o =
            options(&[("ipv4.address", "10.0.0.2, 10.0.0.3"), ("ipv6.address", "fd42::2"), ("ipv6.gateway", "none")]);
        let routed = link(&o, end()).expect("link");
        let hosts: Vec<String> = routed.families.iter().map(|f| f.host.to_string()).collect();
        assert_eq!(hosts, ["169.254.0.1", "fe80::1"]);
        assert_eq!(routed.families[0].addresses.len(), 2);
        assert!(routed.families[0].tables.is_empty());
        let inside = inside(&o).expect("inside");
        let addresses: Vec<String> = inside.addresses.iter().map(ToString::to_string).collect();
        assert_eq!(addresses, ["10.0.0.2/32", "10.0.0.3/32", "fd42::2/128"]);
        assert_eq!(inside.gateways, [Gateway::Router("169.254.0.1".parse().expect("address"))]);
    }

    #[test]
    fn tables_add_up() {
        let tables = |list: &[(&str, &str)]| {
            let mut all = vec![("ipv4.address", "10.0.0.2")];
            all.extend(list);
            link(&options(&all), end()).expect("link").families[0].tables.clone()
        };
        assert_eq!(tables(&[("ipv4.host_tables", "100,254")]), [100, 254]);
        assert_eq!(tables(&[("ipv4.host_table", "100")]), [254, 100], "in addition to the main one");
        assert_eq!(tables(&[("ipv4.host_table", "100"), ("ipv4.host_tables", "100")]), [100]);
        assert_eq!(tables(&[("vrf", "red")]), [] as [u32; 0], "its own");
        assert!(link(&options(&[]), end()).expect("link").families.is_empty());
    }
}
