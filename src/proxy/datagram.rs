//! Datagrams that are carried: each client gets a socket of its own towards the target, so that answers find their way, until
//! nothing came either way for a while.

use super::relay::receive;
use rustix::net::SendFlags;
use std::collections::HashMap;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

/// A client that is silent for so long is forgotten.
const SILENCE: Duration = Duration::from_secs(120);
/// More clients than these: those that were silent longest are forgotten.
const MOST: usize = 1024;
/// Datagrams taken before others are looked at.
const TURNS: usize = 64;

#[derive(Debug)]
struct Peer {
    id: u64,
    socket: UdpSocket,
    last: Instant,
}

/// One address that datagrams come to.
#[derive(Debug)]
pub struct Datagrams {
    socket: UdpSocket,
    to: SocketAddr,
    peers: HashMap<SocketAddr, Peer>,
    /// Numbers of those forgotten to make room.
    gone: Vec<u64>,
}

impl Datagrams {
    /// From a bound socket that does not block to a target.
    pub fn new(socket: OwnedFd, to: SocketAddr) -> Self {
        Self { socket: socket.into(), to, peers: HashMap::new(), gone: Vec::new() }
    }

    /// What datagrams come to.
    pub fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Carries what came; the clients that are new, by number. `next`: the next number.
    pub fn come(&mut self, chunk: &mut [u8], next: &mut u64) -> Vec<(u64, BorrowedFd<'_>)> {
        let mut new = Vec::new();
        for _ in 0..TURNS {
            let Ok((n, from)) = self.socket.recv_from(chunk) else { break };
            if !self.peers.contains_key(&from) {
                let Ok(socket) = self.toward() else { continue };
                self.make_room();
                new.push(*next);
                self.peers.insert(from, Peer { id: *next, socket, last: Instant::now() });
                *next += 2;
            }
            if let Some(peer) = self.peers.get_mut(&from) {
                peer.last = Instant::now();
                // As on any network, one that does not get through is lost.
                let _ = rustix::net::send(&peer.socket, &chunk[..n], SendFlags::DONTWAIT);
            }
        }
        let of = |peer: &&Peer| new.contains(&peer.id);
        self.peers.values().filter(of).map(|peer| (peer.id, peer.socket.as_fd())).collect()
    }

    fn toward(&self) -> std::io::Result<UdpSocket> {
        let any: SocketAddr = match self.to.is_ipv4() {
            true => (Ipv4Addr::UNSPECIFIED, 0).into(),
            false => (Ipv6Addr::UNSPECIFIED, 0).into(),
        };
        let socket = UdpSocket::bind(any)?;
        rustix::net::connect(&socket, &self.to)?;
        socket.set_nonblocking(true)?;
        Ok(socket)
    }

    fn make_room(&mut self) {
        if self.peers.len() < MOST {
            return;
        }
        let oldest = self.peers.iter().min_by_key(|(_, peer)| peer.last).map(|(from, _)| *from);
        self.gone.extend(oldest.and_then(|from| self.peers.remove(&from)).map(|peer| peer.id));
    }

    /// Numbers of clients that were forgotten to make room.
    pub fn too_many(&mut self) -> Vec<u64> {
        std::mem::take(&mut self.gone)
    }

    /// Carries what the target said to a client.
    pub fn answer(&mut self, id: u64, chunk: &mut [u8]) {
        let Some((from, peer)) = self.peers.iter_mut().find(|(_, peer)| peer.id == id) else { return };
        for _ in 0..TURNS {
            match receive(peer.socket.as_fd(), chunk) {
                Ok(Some(n)) => {
                    peer.last = Instant::now();
                    let _ = self.socket.send_to(&chunk[..n], from);
                }
                Ok(None) => break,
                // Nobody is there at the moment: reading it has taken it away.
                Err(_) => {}
            }
        }
    }

    /// When the first client is to be forgotten.
    pub fn expires(&self) -> Option<Instant> {
        self.peers.values().map(|peer| peer.last + SILENCE).min()
    }

    /// Forgets clients that were silent for too long; their numbers.
    pub fn expire(&mut self, now: Instant) -> Vec<u64> {
        let mut gone = Vec::new();
        self.peers.retain(|_, peer| {
            let stays = peer.last + SILENCE > now;
            if !stays {
                gone.push(peer.id);
            }
            stays
        });
        gone
    }
}
