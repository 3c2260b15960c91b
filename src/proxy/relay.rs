//! The loop of a proxy: one epoll(7) over the sockets it listens at, the connections it carries, and the instance's first
//! process, with which it ends.

use super::datagram::Datagrams;
use super::stream::{Connection, State};
use crate::error::{Context, Error, Result};
use crate::model::proxy::{End, Proxy};
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::net::{RecvFlags, SocketFlags};
use std::collections::HashMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

/// Numbers of events: the first process, then the sockets listened at, then two for each connection or one for a peer.
const INIT: u64 = 0;
/// Descriptors kept for other things than connections.
const RESERVE: usize = 64;
/// Bytes moved at once.
const CHUNK: usize = 64 * 1024;
/// Connections taken before others are looked at.
const TURNS: usize = 64;

/// What is listened at.
enum Listener {
    Streams { socket: OwnedFd, connect: End },
    Datagrams(Datagrams),
}

/// A running proxy.
pub struct Relay {
    epoll: OwnedFd,
    listeners: Vec<Listener>,
    connections: HashMap<u64, Connection>,
    /// Of what listener a peer of datagrams is.
    peers: HashMap<u64, usize>,
    next: u64,
    most: usize,
    /// New connections are not taken, because there are too many.
    full: bool,
    header: bool,
    _init: OwnedFd,
}

fn failed(e: rustix::io::Errno) -> Error {
    Error::from(std::io::Error::from(e)).context("Failed waiting for connections")
}

impl Relay {
    /// Waits for connections at the sockets, which are those of the proxy's routes in their order.
    ///
    /// # Errors
    /// The kernel has no room.
    pub fn new(init: OwnedFd, sockets: Vec<OwnedFd>, proxy: &Proxy) -> Result<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC).map_err(failed)?;
        epoll::add(&epoll, &init, EventData::new_u64(INIT), EventFlags::IN).map_err(failed)?;
        let mut listeners = Vec::new();
        for (socket, route) in sockets.into_iter().zip(&proxy.routes) {
            listeners.push(match &route.connect {
                End::Udp(to) => Listener::Datagrams(Datagrams::new(socket, *to)),
                connect => Listener::Streams { socket, connect: connect.clone() },
            });
        }
        let most = most_connections()?;
        let (connections, peers) = (HashMap::new(), HashMap::new());
        let next = listeners.len() as u64 + 1;
        let header = proxy.header;
        let relay = Self { epoll, listeners, connections, peers, next, most, full: false, header, _init: init };
        for (i, listener) in relay.listeners.iter().enumerate() {
            let data = EventData::new_u64(i as u64 + 1);
            epoll::add(&relay.epoll, listener.socket(), data, EventFlags::IN).map_err(failed)?;
        }
        Ok(relay)
    }

    /// Carries until the instance's first process has ended.
    ///
    /// # Errors
    /// The kernel refuses to wait.
    pub fn run(&mut self) -> Result<()> {
        let mut events = Vec::with_capacity(64);
        let mut chunk = Vec::new();
        loop {
            events.clear();
            let wait = self.patience().map(|d| rustix::event::Timespec {
                tv_sec: d.as_secs().try_into().unwrap_or(i64::MAX),
                tv_nsec: d.subsec_nanos().into(),
            });
            match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut events), wait.as_ref()) {
                Err(rustix::io::Errno::INTR) => continue,
                other => drop(other.map_err(failed)?),
            }
            // Kept only while there is something to carry.
            chunk.resize(CHUNK, 0);
            for event in &events {
                let Event { flags, data } = *event;
                match data.u64() {
                    INIT => return Ok(()),
                    n if n <= self.listeners.len() as u64 => self.come(n as usize - 1, &mut chunk)?,
                    n => self.carry(n, flags, &mut chunk),
                }
            }
            self.expire();
            if self.connections.is_empty() && self.peers.is_empty() {
                chunk = Vec::new();
            }
        }
    }

    /// How long to wait: for ever, or until the first peer of datagrams is forgotten.
    fn patience(&self) -> Option<Duration> {
        let now = Instant::now();
        let datagrams = self.listeners.iter().filter_map(Listener::datagrams);
        datagrams.filter_map(Datagrams::expires).min().map(|at| at.saturating_duration_since(now))
    }

    fn expire(&mut self) {
        let now = Instant::now();
        for listener in &mut self.listeners {
            let Listener::Datagrams(datagrams) = listener else { continue };
            for id in datagrams.expire(now) {
                self.peers.remove(&id);
            }
        }
    }

    fn come(&mut self, i: usize, chunk: &mut [u8]) -> Result<()> {
        match &mut self.listeners[i] {
            Listener::Datagrams(datagrams) => {
                for (id, socket) in datagrams.come(chunk, &mut self.next) {
                    let data = EventData::new_u64(id);
                    if epoll::add(&self.epoll, socket, data, EventFlags::IN).is_ok() {
                        self.peers.insert(id, i);
                    }
                }
                let gone = datagrams.too_many();
                self.peers.retain(|id, _| !gone.contains(id));
                Ok(())
            }
            Listener::Streams { .. } => self.take(i),
        }
    }

    fn take(&mut self, i: usize) -> Result<()> {
        let mut chunk = vec![0; CHUNK];
        for _ in 0..TURNS {
            if self.connections.len() >= self.most {
                return self.set_full(true);
            }
            let Listener::Streams { socket, connect } = &self.listeners[i] else { return Ok(()) };
            let client = match rustix::net::accept_with(socket, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK) {
                Ok(client) => client,
                Err(rustix::io::Errno::MFILE | rustix::io::Errno::NFILE | rustix::io::Errno::NOBUFS) => {
                    return self.set_full(!self.connections.is_empty());
                }
                // None is left, or it has gone already.
                Err(_) => return Ok(()),
            };
            // A target that cannot be reached: the client sees its connection closed.
            let Ok(connection) = Connection::new(client, connect, self.header) else { continue };
            let id = self.next;
            self.next += 2;
            self.connections.insert(id, connection);
            self.step(id, &mut chunk);
        }
        Ok(())
    }

    /// What comes of a connection or a peer.
    fn carry(&mut self, number: u64, flags: EventFlags, chunk: &mut [u8]) {
        if let Some(i) = self.peers.get(&number) {
            if let Listener::Datagrams(datagrams) = &mut self.listeners[*i] {
                datagrams.answer(number, chunk);
            }
            return;
        }
        let id = if self.connections.contains_key(&number) { number } else { number - 1 };
        let Some(connection) = self.connections.get_mut(&id) else { return };
        if number != id && flags.intersects(EventFlags::OUT | EventFlags::ERR | EventFlags::HUP) {
            connection.connected();
        }
        self.step(id, chunk);
    }

    /// Moves what can be moved of a connection, and says what to wait for next.
    fn step(&mut self, id: u64, chunk: &mut [u8]) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        let state = connection.turn(chunk);
        if state == State::Open && connection.register(&self.epoll, id).is_ok() {
            return;
        }
        self.connections.remove(&id);
        if self.full {
            let _ = self.set_full(false);
        }
    }

    /// Stops taking connections, or goes on.
    fn set_full(&mut self, full: bool) -> Result<()> {
        if self.full == full {
            return Ok(());
        }
        self.full = full;
        let flags = if full { EventFlags::empty() } else { EventFlags::IN };
        for (i, listener) in self.listeners.iter().enumerate() {
            if matches!(listener, Listener::Streams { .. }) {
                let data = EventData::new_u64(i as u64 + 1);
                epoll::modify(&self.epoll, listener.socket(), data, flags).map_err(failed)?;
            }
        }
        Ok(())
    }
}

impl Listener {
    fn socket(&self) -> BorrowedFd<'_> {
        match self {
            Self::Streams { socket, .. } => socket.as_fd(),
            Self::Datagrams(datagrams) => datagrams.socket(),
        }
    }

    fn datagrams(&self) -> Option<&Datagrams> {
        match self {
            Self::Streams { .. } => None,
            Self::Datagrams(datagrams) => Some(datagrams),
        }
    }
}

/// As many as descriptors may be opened at all, two each.
fn most_connections() -> Result<usize> {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).context("Failed reading our limits")?;
    // More than the kernel itself would allow is not needed.
    let limit = hard.min(1 << 20);
    setrlimit(Resource::RLIMIT_NOFILE, limit, hard).context("Failed raising our limits")?;
    Ok((usize::try_from(limit).unwrap_or(1024).saturating_sub(RESERVE) / 2).max(1))
}

/// Reads what is there; none if nothing is, zero at the end.
pub(super) fn receive(socket: BorrowedFd<'_>, chunk: &mut [u8]) -> std::io::Result<Option<usize>> {
    match rustix::net::recv(socket, chunk, RecvFlags::DONTWAIT) {
        Ok((n, _)) => Ok(Some(n)),
        Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => Ok(None),
        Err(e) => Err(e.into()),
    }
}
