//! Real packets: sent from one network namespace, and what becomes of them.

use crate::common_root::on;
use std::fs::File;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// How long an answer is waited for.
const PATIENCE: Duration = Duration::from_millis(900);

/// What became of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It was answered.
    Open,
    /// It was refused.
    Refused,
    /// Nothing came back.
    Silent,
}
pub use Fate::{Open, Refused, Silent};

/// Does something in the network namespace of a process.
pub fn inside<T: Send>(pid: i32, what: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let there = scope.spawn(move || {
            let space = File::open(format!("/proc/{pid}/ns/net")).unwrap();
            nix::sched::setns(space, nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
            what()
        });
        there.join().unwrap()
    })
}

fn at(address: &str, port: u16) -> SocketAddr {
    SocketAddr::new(address.parse::<IpAddr>().unwrap(), port)
}

fn fate(error: &std::io::Error) -> Fate {
    use std::io::ErrorKind::{ConnectionRefused, HostUnreachable, TimedOut, WouldBlock};
    match error.kind() {
        ConnectionRefused | HostUnreachable => Refused,
        TimedOut | WouldBlock => Silent,
        _ => panic!("{error}"),
    }
}

/// A connection from where `pid` is.
pub fn tcp(pid: i32, address: &str, port: u16) -> Fate {
    inside(pid, || TcpStream::connect_timeout(&at(address, port), PATIENCE).map_or_else(|e| fate(&e), |_| Open))
}

/// A datagram from where `pid` is, and its echo. `from`: the source port, 0 for any.
pub fn udp(pid: i32, address: &str, port: u16, from: u16) -> Fate {
    inside(pid, || {
        let to = at(address, port);
        let any = if to.is_ipv4() { "0.0.0.0" } else { "::" };
        let socket = UdpSocket::bind(at(any, from)).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.connect(to).unwrap();
        let done = socket.send(b"hello").and_then(|_| on(|| socket.recv(&mut [0; 16])));
        done.map_or_else(|e| fate(&e), |_| Open)
    })
}

/// Listens where `pid` is: TCP at some ports, and an echo of UDP at others.
pub struct Servers {
    listeners: Vec<TcpListener>,
    ended: Arc<AtomicBool>,
    echoes: Vec<JoinHandle<()>>,
}

impl Servers {
    /// At all addresses of both families.
    pub fn new(pid: i32, tcp: &[u16], udp: &[u16]) -> Self {
        let (listeners, sockets) = inside(pid, || {
            let listeners: Vec<_> = tcp.iter().map(|port| TcpListener::bind(at("::", *port)).unwrap()).collect();
            let sockets: Vec<_> = udp.iter().map(|port| UdpSocket::bind(at("::", *port)).unwrap()).collect();
            (listeners, sockets)
        });
        let ended = Arc::new(AtomicBool::new(false));
        let echo = |socket: UdpSocket| {
            let ended = ended.clone();
            socket.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
            std::thread::spawn(move || {
                let mut buffer = [0; 64];
                while !ended.load(Ordering::SeqCst) {
                    if let Ok((n, from)) = socket.recv_from(&mut buffer) {
                        let _ = socket.send_to(&buffer[..n], from);
                    }
                }
            })
        };
        let echoes = sockets.into_iter().map(echo).collect();
        Self { listeners, ended, echoes }
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        self.listeners.clear();
        self.ended.store(true, Ordering::SeqCst);
        for echo in self.echoes.drain(..) {
            let _ = echo.join();
        }
    }
}
