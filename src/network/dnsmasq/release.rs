//! Giving a lease back for a client that is no more: the message it would have sent itself, DHCPRELEASE (RFC 2131, sections
//! 2 and 4.4.4) or Release (RFC 8415, sections 18.2.7 and 21).

use super::leases::{DUID_BYTES, Lease};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// UDP port of the server.
pub const PORT: u16 = 67;
/// UDP port of the server for IPv6.
pub const PORT_V6: u16 = 547;
/// The address that servers for IPv6 are asked at (RFC 8415, section 7.1).
pub const SERVERS_V6: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 1, 2);

const BOOTREQUEST: u8 = 1;
const ETHERNET: u8 = 1;
/// RFC 2131, section 3: what the options begin with.
const COOKIE: [u8; 4] = [99, 130, 83, 99];
const MESSAGE_TYPE: u8 = 53;
const RELEASE: u8 = 7;
const SERVER_ID: u8 = 54;
const CLIENT_ID: u8 = 61;
const END: u8 = 255;
/// Fixed fields up to the options, in bytes: section 2, figure 1.
const FIXED: usize = 236;

/// The message for an IPv4 lease, to the server with the address `server`; none for a lease of another kind, or with a client
/// id that is too long for an option.
pub fn message(lease: &Lease, server: Ipv4Addr) -> Option<Vec<u8>> {
    let (IpAddr::V4(address), Some(hwaddr)) = (lease.address, lease.hwaddr) else { return None };
    let mut bytes = vec![0; FIXED];
    bytes[..3].copy_from_slice(&[BOOTREQUEST, ETHERNET, 6]);
    // ciaddr and chaddr; nobody answers, so any xid does.
    bytes[12..16].copy_from_slice(&address.octets());
    bytes[28..34].copy_from_slice(&hwaddr);
    bytes.extend(COOKIE);
    bytes.extend([MESSAGE_TYPE, 1, RELEASE, SERVER_ID, 4]);
    bytes.extend(server.octets());
    if !lease.client.is_empty() {
        bytes.extend([CLIENT_ID, u8::try_from(lease.client.len()).ok()?]);
        bytes.extend(&lease.client);
    }
    bytes.push(END);
    Some(bytes)
}

/// RFC 8415, section 7.3.
const RELEASE_V6: u8 = 8;
/// Nobody answers, so any transaction does.
const TRANSACTION: [u8; 3] = [0; 3];
/// Options of RFC 8415, section 21.
mod options {
    pub(super) const CLIENT: u16 = 1;
    pub(super) const SERVER: u16 = 2;
    pub(super) const ADDRESSES: u16 = 3;
    pub(super) const TEMPORARY: u16 = 4;
    pub(super) const ADDRESS: u16 = 5;
    pub(super) const ELAPSED: u16 = 8;
}

/// The message for an IPv6 lease, to the server with the DUID `server`; none for a lease of another kind, or of a client
/// whose DUID is none.
pub fn message_v6(lease: &Lease, server: &[u8]) -> Option<Vec<u8>> {
    let (IpAddr::V6(address), Some(association)) = (lease.address, lease.association) else { return None };
    if !DUID_BYTES.contains(&lease.client.len()) || !DUID_BYTES.contains(&server.len()) {
        return None;
    }
    // Lifetimes and renewal times are 0 in a Release.
    let held = option(options::ADDRESS, &[&address.octets()[..], &[0; 8]].concat())?;
    let id = association.id.to_be_bytes();
    let all = match association.temporary {
        true => option(options::TEMPORARY, &[&id[..], &held].concat())?,
        false => option(options::ADDRESSES, &[&id[..], &[0; 8], &held].concat())?,
    };
    let mut bytes = vec![RELEASE_V6];
    bytes.extend(TRANSACTION);
    bytes.extend(option(options::CLIENT, &lease.client)?);
    bytes.extend(option(options::SERVER, server)?);
    bytes.extend(option(options::ELAPSED, &[0; 2])?);
    bytes.extend(all);
    Some(bytes)
}

/// Kind and length in front of a value.
fn option(kind: u16, value: &[u8]) -> Option<Vec<u8>> {
    let length = u16::try_from(value.len()).ok()?;
    Some([&kind.to_be_bytes()[..], &length.to_be_bytes(), value].concat())
}

#[cfg(test)]
mod tests {
    use super::super::leases::Association;
    use super::*;

    #[test]
    fn what_a_client_would_send() {
        let mut lease = Lease {
            expires: 0,
            hwaddr: Some([2, 0, 0, 0, 0, 9]),
            address: "10.0.0.9".parse().expect("an address"),
            hostname: None,
            client: vec![1, 2, 0, 0, 0, 0, 9],
            association: None,
        };
        let said = message(&lease, Ipv4Addr::new(10, 0, 0, 1)).expect("a message");
        assert_eq!(said[..4], [1, 1, 6, 0]);
        assert_eq!((&said[12..16], &said[28..34]), (&[10, 0, 0, 9][..], &[2, 0, 0, 0, 0, 9][..]));
        assert_eq!(said[236..], [99, 130, 83, 99, 53, 1, 7, 54, 4, 10, 0, 0, 1, 61, 7, 1, 2, 0, 0, 0, 0, 9, 255]);
        lease.client = vec![0; 256];
        assert_eq!(message(&lease, Ipv4Addr::LOCALHOST), None);
        lease.address = "fd42::9".parse().expect("an address");
        lease.client = Vec::new();
        assert_eq!(message(&lease, Ipv4Addr::LOCALHOST), None);
    }
    #[test]
    fn what_a_client_of_ipv6_would_send() {
        let mut lease = Lease {
            expires: 0,
            hwaddr: None,
            address: "fd42::77".parse().expect("an address"),
            hostname: None,
            client: vec![0, 2, 7],
            association: Some(Association { id: 0x0102_0304, temporary: false }),
        };
        let said = message_v6(&lease, &[0, 1, 9, 9]).expect("a message");
        let before = [8, 0, 0, 0, 0, 1, 0, 3, 0, 2, 7, 0, 2, 0, 4, 0, 1, 9, 9, 0, 8, 0, 2, 0, 0];
        assert_eq!(said[..25], before);
        assert_eq!(said[25..41], [0, 3, 0, 40, 1, 2, 3, 4, 0, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(said[41..47], [0, 5, 0, 24, 0xfd, 0x42]);
        assert_eq!(said.len(), 41 + 4 + 24);
        lease.association = Some(Association { id: 5, temporary: true });
        let said = message_v6(&lease, &[0, 1, 9, 9]).expect("a message");
        assert_eq!(said[25..37], [0, 4, 0, 32, 0, 0, 0, 5, 0, 5, 0, 24]);
        assert_eq!(message_v6(&lease, &[1]), None, "no DUID of a server");
        assert_eq!(message(&lease, Ipv4Addr::LOCALHOST), None);
        lease.client = vec![0; 131];
        assert_eq!(message_v6(&lease, &[0, 1, 9, 9]), None);
        lease.client = Vec::new();
        assert_eq!(message_v6(&lease, &[0, 1, 9, 9]), None);
    }
}
