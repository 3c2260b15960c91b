//! Netlink (netlink(7)): for routes (rtnetlink(7)) a blocking socket, requests with their answers, dumps.
//!
//! Requests are the types of `netlink-packet-route`, whose crates are used here and in `host::links` only: they change their
//! API often. Replies are walked with [`attr`]. Whatever the kernel sends is bounded: a datagram by the buffer, a dump by the
//! caller's number.

pub mod attr;
pub mod nft;
#[cfg(test)]
mod tests;

use super::{SysError, ns};
use crate::error::Error;
use attr::Attrs;
use netlink_packet_core::{NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkBuffer, NetlinkMessage};
use netlink_packet_route::RouteNetlinkMessage;
use std::os::fd::BorrowedFd;

type Result<T, E = SysError> = std::result::Result<T, E>;

/// The kernel fills at most 32 KiB of a dump at a time; a single message is far smaller.
const BUFFER: usize = 64 * 1024;

/// Requests sent at once. Their answers wait in the socket's buffer, which holds several hundred.
const AT_ONCE: usize = 64;

/// How often a dump is asked for again that changed while it was read.
const TRIES: usize = 4;

/// Bits of a message's header (netlink(7)): the answer holds the request's header only; attributes follow it; what was dumped has
/// changed meanwhile.
const CAPPED: u16 = 0x100;
const WITH_ATTRIBUTES: u16 = 0x200;
const INTERRUPTED: u16 = 0x10;

const HEADER: usize = 16;
const ERROR: u16 = libc::NLMSG_ERROR as u16;
const DONE: u16 = libc::NLMSG_DONE as u16;
/// `NLMSGERR_ATTR_MSG` of linux/netlink.h.
const MESSAGE_TEXT: u16 = 1;

/// What the kernel said no to, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Error number.
    pub errno: i32,
    /// The kernel's own words if it gave any, else those of the number.
    pub text: String,
}

impl Refusal {
    /// A refusal without words of the kernel.
    pub fn new(errno: i32) -> Self {
        Self { errno, text: Error::from(std::io::Error::from_raw_os_error(errno)).to_string() }
    }
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Refusal {}

impl From<SysError> for Refusal {
    fn from(e: SysError) -> Self {
        Self { errno: e.errno, text: e.to_string() }
    }
}

impl From<Refusal> for Error {
    fn from(e: Refusal) -> Self {
        Error::failed(e.text).with_errno(e.errno)
    }
}

/// A request and its flags besides those every request has (`NLM_F_CREATE`, `NLM_F_EXCL`, …).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// What is asked for.
    pub message: RouteNetlinkMessage,
    /// Flags.
    pub flags: u16,
}

/// A route netlink socket.
pub struct Socket {
    inner: netlink_sys::Socket,
    sequence: u32,
    buffer: Vec<u8>,
}

impl std::fmt::Debug for Socket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Socket").field("sequence", &self.sequence).finish_non_exhaustive()
    }
}

impl Socket {
    /// Opens one in the namespace of the calling thread. The kernel checks requests strictly and says in words what it does
    /// not like (kernels 4.20 and 4.12).
    ///
    /// # Errors
    /// As socket(2).
    pub fn route() -> Result<Self> {
        let socket = Self::plain()?;
        io("setsockopt", socket.inner.set_netlink_get_strict_chk(true))?;
        io("setsockopt", socket.inner.set_ext_ack(true))?;
        io("setsockopt", socket.inner.set_cap_ack(true))?;
        Ok(socket)
    }

    /// The same for nothing but whole lists: there is nothing to be checked or said, and many such sockets are opened.
    ///
    /// # Errors
    /// As socket(2).
    pub fn plain() -> Result<Self> {
        let inner = io("socket", netlink_sys::Socket::new(netlink_sys::protocols::NETLINK_ROUTE))?;
        Ok(Self { inner, sequence: 0, buffer: vec![0; BUFFER] })
    }

    /// Opens one in the network namespace `net`; the caller stays where it is.
    ///
    /// # Errors
    /// As socket(2) and [`ns::inside_net`].
    pub fn route_in(net: BorrowedFd<'_>) -> Result<Self> {
        ns::inside_net(net, Self::route)?
    }

    /// Has `requests` done in their order, many with one system call; the answers are in the same order. A refused one does
    /// not keep the following from being done.
    ///
    /// # Errors
    /// As sendto(2) and recvfrom(2): nothing is known of the requests then.
    pub fn run(&mut self, requests: Vec<Request>) -> Result<Vec<Result<(), Refusal>>> {
        let mut answers = Vec::with_capacity(requests.len());
        let mut rest = requests.into_iter();
        loop {
            let mut bytes = Vec::new();
            let first = self.sequence.wrapping_add(1);
            let mut sent = 0;
            for request in rest.by_ref().take(AT_ONCE) {
                self.encode(request, NLM_F_ACK, &mut bytes);
                sent += 1;
            }
            if sent == 0 {
                return Ok(answers);
            }
            self.send(&bytes)?;
            answers.extend(self.answers(first, sent)?);
        }
    }

    /// Asks for one object; `parse` reads the payload of the answer.
    ///
    /// # Errors
    /// As the kernel refuses it: ENODEV if it is not there.
    pub fn get<T>(&mut self, message: RouteNetlinkMessage, parse: impl Fn(&[u8]) -> Option<T>) -> Result<T, Refusal> {
        let mut bytes = Vec::new();
        self.encode(Request { message, flags: 0 }, 0, &mut bytes);
        self.send(&bytes)?;
        loop {
            let length = self.receive()?;
            let answer = messages(&self.buffer[..length]).find(|m| m.sequence == self.sequence);
            let Some(one) = answer else { continue };
            let nonsense = || Refusal::new(libc::EPROTO);
            return match one.kind {
                ERROR => Err(refusal(&one).unwrap_or_else(nonsense)),
                _ => parse(one.payload).ok_or_else(nonsense),
            };
        }
    }

    /// Asks for all objects of a kind that the fields of `message` do not leave out; `parse` reads the payload of each and
    /// says `None` to what is to be skipped. Ends behind `most` objects; a socket whose dump was not read to its end cannot
    /// dump again. A list that changed while it was read is asked for again, a few times.
    ///
    /// # Errors
    /// As the kernel refuses it.
    pub fn dump<T>(
        &mut self,
        message: &RouteNetlinkMessage,
        most: usize,
        parse: impl Fn(&[u8]) -> Option<T>,
    ) -> Result<Vec<T>, Refusal> {
        let mut found = Vec::new();
        for _ in 0..TRIES {
            found.clear();
            if self.dump_once(message.clone(), most, &parse, &mut found)? {
                break;
            }
        }
        Ok(found)
    }

    /// False if the list has changed meanwhile.
    fn dump_once<T>(
        &mut self,
        message: RouteNetlinkMessage,
        most: usize,
        parse: &impl Fn(&[u8]) -> Option<T>,
        found: &mut Vec<T>,
    ) -> Result<bool, Refusal> {
        let mut bytes = Vec::new();
        self.encode(Request { message, flags: 0 }, NLM_F_DUMP, &mut bytes);
        self.send(&bytes)?;
        let mut whole = true;
        loop {
            let length = self.receive()?;
            for one in messages(&self.buffer[..length]).filter(|m| m.sequence == self.sequence) {
                whole &= one.flags & INTERRUPTED == 0;
                match one.kind {
                    DONE | ERROR => return refusal(&one).map_or(Ok(whole), Err),
                    _ => found.extend(parse(one.payload)),
                }
                if found.len() >= most {
                    return Ok(true);
                }
            }
        }
    }

    /// The answers to the `count` requests that begin with number `first`.
    fn answers(&mut self, first: u32, count: usize) -> Result<Vec<Result<(), Refusal>>> {
        let mut answers: Vec<Option<Result<(), Refusal>>> = vec![None; count];
        let mut open = count;
        while open > 0 {
            let length = self.receive()?;
            for one in messages(&self.buffer[..length]).filter(|m| m.kind == ERROR) {
                let at = usize::try_from(one.sequence.wrapping_sub(first)).unwrap_or(usize::MAX);
                if let Some(answer @ None) = answers.get_mut(at) {
                    *answer = Some(refusal(&one).map_or(Ok(()), Err));
                    open -= 1;
                }
            }
        }
        Ok(answers.into_iter().flatten().collect())
    }

    fn encode(&mut self, request: Request, flags: u16, into: &mut Vec<u8>) {
        self.sequence = self.sequence.wrapping_add(1);
        let mut message = NetlinkMessage::from(request.message);
        message.header.sequence_number = self.sequence;
        message.header.flags = NLM_F_REQUEST | flags | request.flags;
        message.finalize();
        let at = into.len();
        into.resize(at + attr::align(message.buffer_len()), 0);
        message.serialize(&mut into[at..]);
    }

    fn send(&self, bytes: &[u8]) -> Result<()> {
        let kernel = netlink_sys::SocketAddr::new(0, 0);
        io("sendto", self.inner.send_to(bytes, &kernel, 0)).map(drop)
    }

    /// One datagram of the kernel: other processes may send to us too.
    fn receive(&mut self) -> Result<usize> {
        loop {
            let mut into = &mut self.buffer[..];
            match self.inner.recv_from(&mut into, libc::MSG_TRUNC) {
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Ok((_, from)) if from.port_number() != 0 => {}
                Ok((length, _)) if length > BUFFER => return Err(SysError { call: "recvfrom", errno: libc::EMSGSIZE }),
                other => return io("recvfrom", other).map(|(length, _)| length),
            }
        }
    }
}

fn io<T>(call: &'static str, result: std::io::Result<T>) -> Result<T> {
    result.map_err(|e| SysError { call, errno: e.raw_os_error().unwrap_or(libc::EIO) })
}

struct Message<'a> {
    kind: u16,
    flags: u16,
    sequence: u32,
    payload: &'a [u8],
}

/// The messages of a datagram, up to the first one that does not fit.
fn messages(mut rest: &[u8]) -> impl Iterator<Item = Message<'_>> {
    std::iter::from_fn(move || {
        let header = NetlinkBuffer::new_checked(rest).ok()?;
        let length = usize::try_from(header.length()).ok()?;
        let payload = rest.get(HEADER..length)?;
        let (kind, flags, sequence) = (header.message_type(), header.flags(), header.sequence_number());
        rest = rest.get(attr::align(length)..).unwrap_or_default();
        Some(Message { kind, flags, sequence, payload })
    })
}

/// What `NLMSG_ERROR` or `NLMSG_DONE` says; `None` if all is well.
fn refusal(message: &Message<'_>) -> Option<Refusal> {
    // An end without a number is a good one.
    let number = attr::i32_of(message.payload).unwrap_or(if message.kind == DONE { 0 } else { -libc::EPROTO });
    if number >= 0 {
        return None;
    }
    let mut refusal = Refusal::new(number.saturating_neg());
    let echo = match (message.kind, message.flags & CAPPED) {
        (DONE, _) => 0,
        (_, 0) => attr::u32_of(message.payload.get(4..).unwrap_or_default()).unwrap_or(0) as usize,
        _ => HEADER,
    };
    if message.flags & WITH_ATTRIBUTES != 0 {
        let words = Attrs::behind(message.payload, 4 + attr::align(echo)).find(MESSAGE_TEXT).map(attr::text_of);
        // The kernel ends some of its messages with a full stop.
        let words = words.map(|w| w.trim_end_matches(['.', '\n']).to_string()).filter(|w| !w.is_empty());
        refusal.text = words.unwrap_or(refusal.text);
    }
    Some(refusal)
}
