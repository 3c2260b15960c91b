//! The lease file dnsmasq keeps, and the list of leases users see.
//!
//! What stands in the file comes from clients, so each line is read strictly or not at all, and neither number nor length is
//! without bound.

use crate::base::mac;
use crate::base::names::{InstanceName, NetworkName};
use crate::model::network::bridge::{Bridge, eui64};
use crate::model::view::{LOCATION, LeaseView};
use std::collections::BTreeSet;
use std::net::IpAddr;

/// Name of the file they are in.
pub const FILE: &str = "dnsmasq.leases";

/// Bytes of the file that are read at most.
pub const MAX_BYTES: usize = 16 << 20;
/// Lines that are read at most: all of a `/16` and more.
const MAX_LEASES: usize = 100_000;

/// A lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// Seconds since 1970; 0 never ends.
    pub expires: u64,
    /// MAC address; of IPv6 leases only known if the client's id (DUID) is made from it (RFC 8415, section 11).
    pub hwaddr: Option<[u8; 6]>,
    /// Address.
    pub address: IpAddr,
    /// Name, if there is one.
    pub hostname: Option<String>,
    /// What the client calls itself (RFC 2132, section 9.14; a DUID for IPv6); empty if it does not.
    pub client: Vec<u8>,
    /// What an IPv6 address belongs to.
    pub association: Option<Association>,
}

/// The identity association of an IPv6 address (RFC 8415, section 4.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Association {
    /// Its number, which the client has chosen (IAID).
    pub id: u32,
    /// Its addresses are temporary ones.
    pub temporary: bool,
}

/// Whose leases are meant.
#[derive(Debug, Clone, Copy)]
pub struct Holder<'a> {
    /// MAC addresses of its interfaces.
    pub hwaddrs: &'a [[u8; 6]],
    /// The name it has in the file, if nobody else on the network has it: of IPv6 clients most do not call themselves by a MAC
    /// address.
    pub name: Option<&'a str>,
}

/// Reads a lease file. Lines that are damaged or not about a lease are left out.
pub fn parse(text: &str) -> Vec<Lease> {
    text.lines().filter_map(line).take(MAX_LEASES).collect()
}

fn line(text: &str) -> Option<Lease> {
    if text.len() > 1024 {
        return None;
    }
    let fields: Vec<&str> = text.split(' ').collect();
    let [expires, id, address, hostname, client] = fields[..] else { return None };
    let expires = number(expires)?;
    let address: IpAddr = address.parse().ok()?;
    let (hwaddr, association) = match address {
        IpAddr::V4(_) => (Some(ethernet(id)?), None),
        IpAddr::V6(_) => {
            let digits = id.strip_prefix('T');
            let id = u32::try_from(number(digits.unwrap_or(id))?).ok()?;
            (duid(client), Some(Association { id, temporary: digits.is_some() }))
        }
    };
    let hostname = match hostname {
        "*" => None,
        name => Some(crate::base::names::domain(name).ok().map(|()| name.to_string())?),
    };
    Some(Lease { expires, hwaddr, address, hostname, client: mac::hex_bytes(client).unwrap_or_default(), association })
}

/// What the server calls itself in DHCPv6 (a DUID): it stands in the file before the leases of IPv6 addresses.
pub fn server(text: &str) -> Option<Vec<u8>> {
    let duid = text.lines().find_map(|line| line.strip_prefix("duid "))?;
    mac::hex_bytes(duid).filter(|bytes| DUID_BYTES.contains(&bytes.len()))
}

/// Length of a DUID with its type (RFC 8415, section 11.1).
pub(super) const DUID_BYTES: std::ops::RangeInclusive<usize> = 3..=130;

/// The file without the leases of somebody; none if there are none.
pub fn without(text: &str, holder: Holder<'_>) -> Option<String> {
    let gone = |l: &&str| line(l).is_some_and(|lease| is_of(&lease, holder));
    text.lines().any(|l| gone(&l)).then(|| {
        let kept = text.lines().filter(|l| !gone(l));
        kept.map(|l| format!("{l}\n")).collect()
    })
}

/// Is it a lease of `holder`?
pub fn is_of(lease: &Lease, holder: Holder<'_>) -> bool {
    match lease.hwaddr {
        Some(mac) => holder.hwaddrs.contains(&mac),
        None => holder.name.is_some() && lease.hostname.as_deref() == holder.name,
    }
}

fn number(text: &str) -> Option<u64> {
    (!text.is_empty() && text.bytes().all(|c| c.is_ascii_digit())).then(|| text.parse().ok())?
}

/// A MAC address, before which the number of another type of hardware may stand: `06-…`.
fn ethernet(id: &str) -> Option<[u8; 6]> {
    let address = match id.split_once('-') {
        Some((kind, rest)) if kind.len() == 2 && kind.bytes().all(|c| c.is_ascii_hexdigit()) => rest,
        _ => id,
    };
    mac::parse(address).ok()
}

/// The MAC address in a DUID made from one: types 1 (with time) and 3, hardware type 1.
fn duid(client: &str) -> Option<[u8; 6]> {
    let bytes = mac::hex_bytes(client)?;
    match bytes[..] {
        [0, 1, 0, 1, _, _, _, _, a, b, c, d, e, f] | [0, 3, 0, 1, a, b, c, d, e, f] => Some([a, b, c, d, e, f]),
        _ => None,
    }
}

/// A NIC on the network.
#[derive(Debug, Clone)]
pub struct LeaseNic<'a> {
    /// Its instance.
    pub instance: &'a InstanceName,
    /// MAC address.
    pub hwaddr: Option<[u8; 6]>,
    /// Static addresses.
    pub addresses: Vec<IpAddr>,
}

/// The leases of a network as Incus lists them: gateways (in the network's own project), static addresses of the project's
/// NICs, the addresses those give themselves, and dnsmasq's leases of them. An IPv6 lease cannot be told to belong to another
/// project, so all are listed.
pub fn merge(
    name: &NetworkName,
    bridge: &Bridge,
    own_project: bool,
    nics: &[LeaseNic<'_>],
    leases: &[Lease],
) -> Vec<LeaseView> {
    let mut all = Vec::new();
    if own_project {
        for own in bridge.families().iter().filter_map(|f| f.address) {
            all.push(view(&format!("{name}.gw"), None, own.address(), "gateway", ""));
        }
    }
    for nic in nics {
        let own = |address, kind| view(nic.instance, nic.hwaddr, address, kind, LOCATION);
        for v4 in [true, false] {
            all.extend(nic.addresses.iter().filter(|a| a.is_ipv4() == v4).map(|a| own(*a, "static")));
        }
        if let (Some(net), Some(mac), false) = (bridge.v6.address, nic.hwaddr, bridge.stateful) {
            all.extend(eui64(&net, mac).map(|a| own(a.into(), "dynamic")));
        }
    }
    let listed: BTreeSet<(String, String)> = all.iter().map(|l| (l.hwaddr.clone(), l.address.clone())).collect();
    let known: BTreeSet<[u8; 6]> = nics.iter().filter_map(|n| n.hwaddr).collect();
    for lease in leases {
        let hwaddr = lease.hwaddr.map(mac::format).unwrap_or_default();
        if listed.contains(&(hwaddr, lease.address.to_string())) {
            continue;
        }
        let hwaddr = lease.hwaddr.filter(|_| lease.address.is_ipv4());
        if hwaddr.is_some_and(|m| !known.contains(&m)) {
            continue;
        }
        let hostname = lease.hostname.as_deref().unwrap_or("*");
        all.push(view(hostname, hwaddr, lease.address, "dynamic", LOCATION));
    }
    all
}

fn view(hostname: &str, hwaddr: Option<[u8; 6]>, address: IpAddr, kind: &str, location: &str) -> LeaseView {
    LeaseView {
        hostname: hostname.to_string(),
        hwaddr: hwaddr.map(mac::format).unwrap_or_default(),
        address: address.to_string(),
        kind: kind.to_string(),
        location: location.to_string(),
    }
}
