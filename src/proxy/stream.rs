//! One connection that is carried: what either side says goes to the other, and each direction ends by itself.

use super::relay::receive;
use crate::error::{Error, Result};
use crate::model::proxy::End;
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SendFlags, Shutdown, SocketAddrUnix, SocketFlags, SocketType, sockopt};
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// How often one direction moves before others are looked at.
const TURNS: usize = 16;

/// Whether there is more to come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    Open,
    Over,
}

/// One direction.
#[derive(Debug, Default)]
struct Way {
    /// Was read and could not be written yet.
    left: Vec<u8>,
    /// The sender has said all.
    ended: bool,
    /// The receiver was told so.
    told: bool,
}

/// A connection.
#[derive(Debug)]
pub struct Connection {
    client: OwnedFd,
    server: OwnedFd,
    connecting: bool,
    there: Way,
    back: Way,
    /// What is waited for on either side; none: it is not among what is waited for.
    waits: [Option<EventFlags>; 2],
}

impl Connection {
    /// Begins to connect a client to its target; `header`: tells that who the client is.
    ///
    /// # Errors
    /// There is no such target.
    pub fn new(client: OwnedFd, connect: &End, header: bool) -> Result<Self> {
        let (server, connecting) = begin(connect).map_err(std::io::Error::from)?;
        let mut there = Way::default();
        if header {
            there.left = proxy_header(client.as_fd());
        }
        if matches!(connect, End::Tcp(_)) {
            let _ = sockopt::set_tcp_nodelay(&server, true);
        }
        let _ = sockopt::set_tcp_nodelay(&client, true);
        Ok(Self { client, server, connecting, there, back: Way::default(), waits: [None; 2] })
    }

    /// The target can be written to, or has refused: whichever it is, is seen by the next write.
    pub fn connected(&mut self) {
        self.connecting = false;
    }

    /// Moves what can be moved.
    pub fn turn(&mut self, chunk: &mut [u8]) -> State {
        if self.connecting {
            return State::Open;
        }
        let there = self.there.turn(self.client.as_fd(), self.server.as_fd(), chunk);
        let back = self.back.turn(self.server.as_fd(), self.client.as_fd(), chunk);
        let over = there.is_err() || back.is_err() || (self.there.told && self.back.told);
        if over { State::Over } else { State::Open }
    }

    /// Waits for what comes next; `id` is the client's number, the target's follows.
    ///
    /// # Errors
    /// The kernel has no room.
    pub fn register(&mut self, poll: &OwnedFd, id: u64) -> Result<()> {
        let wanted = [
            self.there.reads(!self.connecting) | self.back.writes(),
            match self.connecting {
                true => EventFlags::OUT,
                false => self.back.reads(true) | self.there.writes(),
            },
        ];
        for (i, socket) in [&self.client, &self.server].into_iter().enumerate() {
            let data = EventData::new_u64(id + i as u64);
            // A side that nothing is wanted of is not waited for at all: else its hanging up would be told for ever.
            let done = match (self.waits[i], wanted[i]) {
                (None, flags) if flags.is_empty() => Ok(()),
                (None, flags) => epoll::add(poll, socket, data, flags),
                (Some(_), flags) if flags.is_empty() => epoll::delete(poll, socket),
                (Some(old), flags) if old == flags => Ok(()),
                (Some(_), flags) => epoll::modify(poll, socket, data, flags),
            };
            done.map_err(|e| Error::from(std::io::Error::from(e)))?;
            self.waits[i] = Some(wanted[i]).filter(|flags| !flags.is_empty());
        }
        Ok(())
    }
}

impl Way {
    fn reads(&self, connected: bool) -> EventFlags {
        if connected && self.left.is_empty() && !self.ended { EventFlags::IN } else { EventFlags::empty() }
    }

    fn writes(&self) -> EventFlags {
        if self.left.is_empty() { EventFlags::empty() } else { EventFlags::OUT }
    }

    fn turn(&mut self, from: BorrowedFd<'_>, to: BorrowedFd<'_>, chunk: &mut [u8]) -> std::io::Result<()> {
        for _ in 0..TURNS {
            if !self.left.is_empty() {
                let sent = send(to, &self.left)?;
                self.left.drain(..sent);
                if !self.left.is_empty() {
                    return Ok(());
                }
                self.left = Vec::new();
            }
            if self.ended {
                break;
            }
            match receive(from, chunk)? {
                None => return Ok(()),
                Some(0) => self.ended = true,
                Some(n) => {
                    let sent = send(to, &chunk[..n])?;
                    self.left.extend_from_slice(&chunk[sent..n]);
                }
            }
        }
        if self.ended && self.left.is_empty() && !self.told {
            self.told = true;
            // It may have hung up itself.
            let _ = rustix::net::shutdown(to, Shutdown::Write);
        }
        Ok(())
    }
}

/// Bytes that were taken.
fn send(to: BorrowedFd<'_>, data: &[u8]) -> std::io::Result<usize> {
    match rustix::net::send(to, data, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
        Ok(n) => Ok(n),
        Err(Errno::AGAIN | Errno::INTR) => Ok(0),
        Err(e) => Err(e.into()),
    }
}

/// A socket on its way to a target; true if it has not arrived yet.
fn begin(connect: &End) -> rustix::io::Result<(OwnedFd, bool)> {
    let socket = |family| {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        rustix::net::socket_with(family, SocketType::STREAM, flags, None)
    };
    let (socket, done) = match connect {
        End::Tcp(to) | End::Udp(to) => {
            let family = if to.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
            let socket = socket(family)?;
            let done = rustix::net::connect(&socket, to);
            (socket, done)
        }
        End::Unix(path) => {
            let socket = socket(AddressFamily::UNIX)?;
            let done = rustix::net::connect(&socket, &SocketAddrUnix::new(path)?);
            (socket, done)
        }
        End::Abstract(name) => {
            let socket = socket(AddressFamily::UNIX)?;
            let done = rustix::net::connect(&socket, &SocketAddrUnix::new_abstract_name(name.as_bytes())?);
            (socket, done)
        }
    };
    match done {
        Ok(()) => Ok((socket, false)),
        Err(Errno::INPROGRESS) => Ok((socket, true)),
        Err(e) => Err(e),
    }
}

/// HAProxy's header, version 1: who the client is, and where it came to.
fn proxy_header(client: BorrowedFd<'_>) -> Vec<u8> {
    let address = |found: rustix::net::SocketAddrAny| {
        let address = SocketAddr::try_from(found).ok()?;
        Some(SocketAddr::new(address.ip().to_canonical(), address.port()))
    };
    let peer = rustix::net::getpeername(client).ok().flatten();
    let (from, to) = (peer.and_then(address), rustix::net::getsockname(client).ok().and_then(address));
    let text = match (from, to) {
        (Some(from), Some(to)) => {
            let family = if from.is_ipv4() { "TCP4" } else { "TCP6" };
            format!("PROXY {family} {} {} {} {}\r\n", from.ip(), to.ip(), from.port(), to.port())
        }
        _ => "PROXY UNKNOWN\r\n".to_string(),
    };
    text.into_bytes()
}
