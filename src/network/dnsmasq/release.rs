//! Giving a lease back for a client that is no more: the DHCPRELEASE it would have sent (RFC 2131, sections 2 and 4.4.4).

use super::leases::Lease;
use std::net::{IpAddr, Ipv4Addr};

/// UDP port of the server.
pub const PORT: u16 = 67;

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_client_would_send() {
        let mut lease = Lease {
            expires: 0,
            hwaddr: Some([2, 0, 0, 0, 0, 9]),
            address: "10.0.0.9".parse().expect("an address"),
            hostname: None,
            client: vec![1, 2, 0, 0, 0, 0, 9],
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
}
