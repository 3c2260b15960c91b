//! `nictype=ipvlan`: IP addresses on an interface of the host, whose MAC address it shares. In mode `l3s` the host routes and
//! answers for the addresses; in mode `l2` the instance is on the network itself.

use crate::base::inet::IpNet;
use crate::error::{Error, Result};
use crate::model::instance::Device as Options;
use crate::model::keys::Key;
use crate::model::keys::device::nic as keys;
use crate::model::nic::{Gateway, Inside, IpvlanMode};
use std::net::IpAddr;

/// Options it has besides the parent.
pub(super) const OPTIONS: &[&Key] = &[
    &keys::IPVLAN_MODE,
    &keys::IPVLAN_IPV4_ADDRESS,
    &keys::IPVLAN_IPV6_ADDRESS,
    &keys::IPV4_GATEWAY,
    &keys::IPV6_GATEWAY,
    &keys::IPV4_HOST_TABLE,
    &keys::IPV6_HOST_TABLE,
];

/// Prefixes of addresses in mode `l2` that have none.
const L2_PREFIXES: [u8; 2] = [24, 64];

/// Its mode.
pub(super) fn mode(options: &Options) -> IpvlanMode {
    if keys::IPVLAN_MODE.text(options) == "l2" { IpvlanMode::L2 } else { IpvlanMode::L3s }
}

/// Addresses and gateways.
///
/// # Errors
/// Invalid: an address is none.
pub(super) fn inside(options: &Options) -> Result<Inside> {
    let mut inside = Inside::default();
    let l2 = mode(options) == IpvlanMode::L2;
    let families = [
        (&keys::IPVLAN_IPV4_ADDRESS, &keys::IPV4_GATEWAY, Gateway::InterfaceV4, L2_PREFIXES[0]),
        (&keys::IPVLAN_IPV6_ADDRESS, &keys::IPV6_GATEWAY, Gateway::InterfaceV6, L2_PREFIXES[1]),
    ];
    for (address, gateway, interface, prefix) in families {
        let list = address.list(options);
        for text in &list {
            inside.addresses.push(match (text.contains('/'), l2) {
                (true, _) => text.parse()?,
                (false, l2) => with_prefix(text, l2.then_some(prefix))?,
            });
        }
        // In mode l2 nobody can know a router but whoever wrote the option.
        match gateway.get(options) {
            None | Some("auto") if !l2 && !list.is_empty() => inside.gateways.push(interface),
            None | Some("auto" | "none") => {}
            Some(_) if list.is_empty() => {}
            Some(text) => inside.gateways.push(Gateway::Router(parse(text)?)),
        }
    }
    Ok(inside)
}

fn parse(text: &str) -> Result<IpAddr> {
    text.parse().map_err(|_| Error::invalid(format!("Not an IP address {text:?}")))
}

fn with_prefix(text: &str, prefix: Option<u8>) -> Result<IpNet> {
    let address = parse(text)?;
    let net = prefix.map_or(Some(IpNet::host(address)), |prefix| IpNet::new(address, prefix));
    net.ok_or_else(|| Error::invalid(format!("Not an IP address {text:?}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(list: &[(&str, &str)]) -> (Vec<String>, Vec<Gateway>) {
        let options = list.iter().map(|(k, v)| ((*k).to_string(), (*v).to_string())).collect();
        let inside = inside(&options).expect("inside");
        (inside.addresses.iter().map(ToString::to_string).collect(), inside.gateways)
    }

    #[test]
    fn addresses_and_gateways_by_mode() {
        let both = [("ipv4.address", "10.0.0.2"), ("ipv6.address", "fd42::2")];
        let (addresses, gateways) = read(&both);
        assert_eq!(addresses, ["10.0.0.2/32", "fd42::2/128"]);
        assert_eq!(gateways, [Gateway::InterfaceV4, Gateway::InterfaceV6]);
        let (_, gateways) = read(&[both[0], ("ipv4.gateway", "none")]);
        assert_eq!(gateways, []);
        let l2 = ("mode", "l2");
        let (addresses, gateways) = read(&[l2, both[0], both[1], ("ipv4.gateway", "10.0.0.1")]);
        assert_eq!(addresses, ["10.0.0.2/24", "fd42::2/64"]);
        assert_eq!(gateways, [Gateway::Router("10.0.0.1".parse().expect("address"))]);
        assert_eq!(read(&[l2, ("ipv4.address", "10.0.0.2/16,10.0.0.3")]).0, ["10.0.0.2/16", "10.0.0.3/24"]);
    }
}
