//! The generation of the rules of nftables (`NFT_MSG_GETGEN` of linux/netfilter/nf_tables.h): a number that the kernel counts
//! up with every transaction of a network namespace, whoever made it.

use super::attr::{Attrs, u32_of};
use super::{BUFFER, ERROR, HEADER, Refusal, Socket, io, messages, refusal};

/// `NFNL_SUBSYS_NFTABLES`, in the high byte of a message's type.
const NFTABLES: u16 = 10 << 8;
const GET_GENERATION: u16 = NFTABLES | 16;
const NEW_GENERATION: u16 = NFTABLES | 15;
/// `NFTA_GEN_ID`, in network byte order.
const GENERATION: u16 = 1;
/// `struct nfgenmsg`.
const OF_NETFILTER: usize = 4;
const REQUEST: u16 = 1;

/// The generation of the rules in the network namespace of the calling thread.
///
/// # Errors
/// As socket(2). The kernel has no nftables; the caller may not ask.
pub fn generation() -> Result<u32, Refusal> {
    let inner = io("socket", netlink_sys::Socket::new(netlink_sys::protocols::NETLINK_NETFILTER))?;
    let mut socket = Socket { inner, sequence: 1, buffer: vec![0; BUFFER] };
    let length = (HEADER + OF_NETFILTER) as u32;
    let mut message = Vec::new();
    message.extend(length.to_ne_bytes());
    message.extend(GET_GENERATION.to_ne_bytes());
    message.extend(REQUEST.to_ne_bytes());
    message.extend(socket.sequence.to_ne_bytes());
    message.extend([0; 4 + OF_NETFILTER]);
    socket.send(&message)?;
    loop {
        let length = socket.receive()?;
        for one in messages(&socket.buffer[..length]).filter(|m| m.sequence == socket.sequence) {
            let nonsense = || Refusal::new(libc::EPROTO);
            match one.kind {
                ERROR => return Err(refusal(&one).unwrap_or_else(nonsense)),
                NEW_GENERATION => {
                    let number = Attrs::behind(one.payload, OF_NETFILTER).find(GENERATION).and_then(u32_of);
                    return number.map(u32::from_be).ok_or_else(nonsense);
                }
                _ => {}
            }
        }
    }
}
