//! The loop: one poll(2) over the sockets and a bounded number of connections.

use super::notices::Notices;
use super::stream::{Connection, QUESTION, State};
use crate::error::{Context, Result};
use crate::network::zones::answer::{By, Reply, reply};
use crate::network::zones::data::Zones;
use crate::network::zones::notify::notice;
use crate::sys::{process, socket};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::convert::Infallible;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime};

/// Connections at once; when one more comes, the one that has waited longest goes.
const CONNECTIONS: usize = 64;
/// Packets and connections taken before others are looked at.
const TURNS: usize = 64;
/// Where peers listen, as with Incus.
const PORT: u16 = 53;
/// How long whoever has a change may take to hand it over.
const HANDING_OVER: Duration = Duration::from_secs(2);

/// A running server.
pub struct Server {
    listen: SocketAddr,
    zones: Rc<Zones>,
    datagrams: UdpSocket,
    streams: TcpListener,
    control: OwnedFd,
    connections: Vec<Connection>,
    notices: Notices,
    /// Number of the last message of our own.
    id: u16,
}

/// Seconds since 1970.
pub fn now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |time| time.as_secs())
}

impl Server {
    /// One that has its sockets, which do not block, and is told of changes at `control`.
    pub fn new(listen: SocketAddr, zones: Zones, sockets: (UdpSocket, TcpListener), control: OwnedFd) -> Self {
        let ((datagrams, streams), connections, mut notices) = (sockets, Vec::new(), Notices::default());
        notices.changed(&Zones::default(), &zones, Instant::now());
        Self { listen, zones: Rc::new(zones), datagrams, streams, control, connections, notices, id: 0 }
    }

    /// Answers until it is killed.
    ///
    /// # Errors
    /// The kernel refuses to wait.
    pub fn run(&mut self) -> Result<Infallible> {
        loop {
            let ready = self.wait()?;
            let [control, datagrams, streams] = [0, 1, 2].map(|i| ready.get(i).copied().unwrap_or(false));
            if control {
                let _ = self.change();
            }
            if datagrams {
                self.datagrams();
            }
            let (now, zones) = (Instant::now(), Rc::clone(&self.zones));
            let mut events = ready.into_iter().skip(3);
            self.connections.retain_mut(|connection| {
                let over = events.next().unwrap_or(false) && connection.turn(&zones) == State::Over;
                !over && connection.until > now
            });
            if streams {
                self.streams();
            }
            for apex in self.notices.take(now) {
                self.notify(&apex);
            }
        }
    }

    /// What there is something to do about: the three sockets, then the connections.
    fn wait(&self) -> Result<Vec<bool>> {
        let reading = [self.control.as_fd(), self.datagrams.as_fd(), self.streams.as_fd()];
        let mut all: Vec<PollFd<'_>> = reading.into_iter().map(|fd| PollFd::new(fd, PollFlags::POLLIN)).collect();
        all.extend(self.connections.iter().map(|connection| {
            let flags = if connection.is_writing() { PollFlags::POLLOUT } else { PollFlags::POLLIN };
            PollFd::new(connection.stream().as_fd(), flags)
        }));
        let first = self.connections.iter().map(|connection| connection.until).chain(self.notices.next()).min();
        let left = first.map(|until| until.saturating_duration_since(Instant::now()));
        match poll(&mut all, left.map_or(PollTimeout::NONE, process::poll_timeout)) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(e) => return Err(e).context("Failed waiting for questions"),
        }
        Ok(all.iter().map(|fd| fd.any().unwrap_or(false)).collect())
    }

    /// Takes over what is to be said from now on.
    fn change(&mut self) -> Result<()> {
        let teller = socket::accept_own(self.control.as_fd())?;
        let Some(told) = socket::receive_fd(teller.as_fd(), HANDING_OVER)? else { return Ok(()) };
        let (listen, zones) = super::read(told)?;
        // Elsewhere somebody else has to listen.
        if listen == self.listen {
            self.notices.changed(&self.zones, &zones, Instant::now());
            self.zones = Rc::new(zones);
            socket::tell(teller.as_fd())?;
        }
        Ok(())
    }

    fn datagrams(&mut self) {
        let mut chunk = [0; QUESTION];
        for _ in 0..TURNS {
            // One that is longer is cut off, and is damaged then.
            let Ok((n, from)) = self.datagrams.recv_from(&mut chunk) else { return };
            let address = from.ip().to_canonical();
            if let Reply::Message(message) = reply(&self.zones, chunk[..n].to_vec(), address, By::Datagram, now()) {
                // As on any network, one that does not get through is lost.
                let _ = self.datagrams.send_to(&message, from);
            }
        }
    }

    /// Tells the peers of a zone that it has changed. Where that is lost, they ask by themselves sooner or later.
    fn notify(&mut self, apex: &[u8]) {
        let Some(zone) = self.zones.get(apex) else { return };
        for (peer, address) in zone.peers.iter().filter_map(|peer| Some((peer, peer.address?))) {
            self.id = self.id.wrapping_add(1);
            if let Some(message) = notice(zone, peer, self.id, now()) {
                let _ = self.datagrams.send_to(&message, (address, PORT));
            }
        }
    }

    fn streams(&mut self) {
        for _ in 0..TURNS {
            let Ok((stream, from)) = self.streams.accept() else { return };
            if stream.set_nonblocking(true).is_err() {
                continue;
            }
            let _ = stream.set_nodelay(true);
            if self.connections.len() >= CONNECTIONS {
                let longest = (0..self.connections.len())
                    .min_by_key(|i| (self.connections[*i].is_writing(), self.connections[*i].until));
                longest.map(|i| self.connections.swap_remove(i));
            }
            let mut connection = Connection::new(stream, from.ip().to_canonical());
            if connection.turn(&self.zones) == State::Open {
                self.connections.push(connection);
            }
        }
    }
}
