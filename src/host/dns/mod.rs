//! Names of hosts to addresses: `/etc/hosts`, then the servers of `/etc/resolv.conf`, asked by ourselves.
//!
//! Called by `host::http`. Never getaddrinfo(3): that loads the host's NSS modules, which a static program must not. A and AAAA are
//! asked at once; a reply counts if it comes from the server asked and is about our question (`base::dns`). Each question has its own
//! socket, and with it a source port the kernel chose at random, and a random id.

mod conf;

use crate::base::dns::{self, Kind, Reply};
use crate::error::{Context, Error, Result};
use conf::Conf;
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Where names are looked up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolver {
    /// hosts(5).
    pub hosts: PathBuf,
    /// resolv.conf(5).
    pub conf: PathBuf,
    /// Port of the servers; 53 but in tests.
    pub port: u16,
}

impl Default for Resolver {
    fn default() -> Self {
        Self { hosts: "/etc/hosts".into(), conf: "/etc/resolv.conf".into(), port: 53 }
    }
}

/// Largest file of the two that is read, bytes.
const FILE_MAX: u64 = 1 << 20;
/// Addresses of a name that are kept.
const ADDRESSES: usize = 16;

impl Resolver {
    /// The addresses of a host, those that this host has a route to first. Blocks as long as resolv.conf says (10 seconds and more
    /// if no server answers).
    ///
    /// # Errors
    /// NotFound: there is no such name; Failed: no server answered. The messages hold the name and the cause.
    pub fn resolve(&self, host: &str) -> Result<Vec<IpAddr>> {
        if let Ok(address) = host.parse::<IpAddr>() {
            return Ok(vec![address]);
        }
        let name = dns::name(host).ok_or_else(|| Error::invalid(format!("Invalid host name {host:?}")))?;
        let fail = || format!("Failed resolving \"{name}\"");
        let mut found = conf::in_hosts(&text(&self.hosts).with_context(fail)?, &name);
        if found.is_empty() && (name == "localhost" || name.ends_with(".localhost")) {
            found = vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
        }
        if found.is_empty() {
            let conf = Conf::parse(&text(&self.conf).with_context(fail)?);
            found = self.ask_all(&conf, &name, host.ends_with('.')).with_context(fail)?;
        }
        found.dedup();
        found.truncate(ADDRESSES);
        // The order of the servers otherwise; IPv6 first where both can be reached (RFC 6724 prefers it too).
        found.sort_by_key(|a| (!has_route(*a), a.is_ipv4()));
        Ok(found)
    }

    /// Tries the names that `name` may stand for.
    fn ask_all(&self, conf: &Conf, name: &str, absolute: bool) -> Result<Vec<IpAddr>> {
        let mut unanswered = None;
        for candidate in conf.candidates(name, absolute) {
            match self.ask(conf, &candidate) {
                Ok(found) if found.is_empty() => {}
                Ok(found) => return Ok(found),
                Err(e) => unanswered = Some(e),
            }
        }
        Err(unanswered.unwrap_or_else(|| Error::not_found("No such host")))
    }

    /// Asks server after server until one has answered both questions. An empty list: there is no such name.
    fn ask(&self, conf: &Conf, name: &str) -> Result<Vec<IpAddr>> {
        let mut last = Error::failed("No name server answered");
        for _ in 0..conf.attempts {
            for server in &conf.servers {
                match self.ask_server(conf, *server, name) {
                    Ok(found) => return Ok(found),
                    Err(e) => last = e,
                }
            }
        }
        Err(last)
    }

    fn ask_server(&self, conf: &Conf, server: SocketAddr, name: &str) -> Result<Vec<IpAddr>> {
        let server = SocketAddr::new(server.ip(), self.port).with_scope(server);
        let fail = || format!("Name server {}", server.ip());
        let deadline = Instant::now() + conf.timeout;
        let mut asked = Vec::new();
        for kind in [Kind::A, Kind::Aaaa] {
            asked.push(Asked::begin(server, name, kind).with_context(fail)?);
        }
        let mut found = Vec::new();
        for question in asked {
            found.extend(question.finish(deadline, conf.tcp).with_context(fail)?);
        }
        Ok(found)
    }
}

fn text(path: &std::path::Path) -> Result<String> {
    let file = match std::fs::File::open(path) {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(String::new()),
        other => other.with_context(|| format!("Failed reading \"{}\"", path.display()))?,
    };
    let mut bytes = Vec::new();
    file.take(FILE_MAX).read_to_end(&mut bytes).with_context(|| format!("Failed reading \"{}\"", path.display()))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

trait WithScope {
    fn with_scope(self, of: SocketAddr) -> Self;
}

impl WithScope for SocketAddr {
    /// Keeps the interface of a link-local server.
    fn with_scope(mut self, of: SocketAddr) -> Self {
        if let (Self::V6(this), Self::V6(of)) = (&mut self, of) {
            this.set_scope_id(of.scope_id());
        }
        self
    }
}

/// A datagram socket of an ephemeral port, bound to one peer: what comes from elsewhere is not received, and refusals are.
fn connected(to: SocketAddr) -> Result<UdpSocket> {
    let any: IpAddr = if to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).context("bind")?;
    rustix::net::connect(&socket, &to).map_err(std::io::Error::from).context("connect")?;
    Ok(socket)
}

/// Whether the kernel would know where to send packets for `address`; nothing is sent.
fn has_route(address: IpAddr) -> bool {
    connected(SocketAddr::new(address, 9)).is_ok()
}

/// A question that is on its way.
struct Asked<'a> {
    server: SocketAddr,
    name: &'a str,
    kind: Kind,
    id: u16,
    socket: UdpSocket,
}

impl<'a> Asked<'a> {
    fn begin(server: SocketAddr, name: &'a str, kind: Kind) -> Result<Self> {
        let random = uuid::Uuid::new_v4().into_bytes();
        let id = u16::from_be_bytes([random[0], random[1]]);
        let socket = connected(server)?;
        socket.send(&dns::question(id, name, kind, true)).context("send")?;
        Ok(Self { server, name, kind, id, socket })
    }

    fn finish(&self, deadline: Instant, tcp: bool) -> Result<Vec<IpAddr>> {
        let mut reply = if tcp { Reply::Truncated } else { self.receive(deadline)? };
        if reply == Reply::NoEdns {
            self.socket.send(&dns::question(self.id, self.name, self.kind, false)).context("send")?;
            reply = self.receive(deadline)?;
        }
        if reply == Reply::Truncated {
            reply = self.over_tcp(deadline)?;
        }
        match reply {
            Reply::Addresses(found) => Ok(found),
            Reply::NoName => Ok(Vec::new()),
            Reply::Truncated | Reply::NoEdns => Err(Error::failed("The server gives no whole reply")),
            Reply::Failed(2) => Err(Error::failed("The server failed")),
            Reply::Failed(5) => Err(Error::failed("The server refused")),
            Reply::Failed(code) => Err(Error::failed(format!("The server answered with code {code}"))),
        }
    }

    fn receive(&self, deadline: Instant) -> Result<Reply> {
        let mut message = [0; 4096];
        loop {
            self.socket.set_read_timeout(Some(left(deadline)?)).context("setsockopt")?;
            let n = match self.socket.recv(&mut message) {
                Err(e) if e.kind() == ErrorKind::Interrupted => continue,
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Err(timed_out()),
                other => other.context("recv")?,
            };
            if let Some(reply) = dns::reply(&message[..n], self.id, self.name, self.kind) {
                return Ok(reply);
            }
        }
    }

    /// RFC 7766: the same question with its length in front.
    fn over_tcp(&self, deadline: Instant) -> Result<Reply> {
        let mut stream = TcpStream::connect_timeout(&self.server, left(deadline)?).context("connect")?;
        let question = dns::question(self.id, self.name, self.kind, true);
        let length = u16::try_from(question.len()).map_err(|_| Error::internal("A long question"))?;
        stream.set_write_timeout(Some(left(deadline)?)).context("setsockopt")?;
        stream.write_all(&[&length.to_be_bytes()[..], &question].concat()).context("write")?;
        let mut length = [0; 2];
        read_exact(&mut stream, &mut length, deadline)?;
        let mut message = vec![0; usize::from(u16::from_be_bytes(length))];
        read_exact(&mut stream, &mut message, deadline)?;
        let reply = dns::reply(&message, self.id, self.name, self.kind);
        reply.ok_or_else(|| Error::failed("The server's reply is damaged"))
    }
}

fn read_exact(stream: &mut TcpStream, buffer: &mut [u8], deadline: Instant) -> Result<()> {
    let mut done = 0;
    while done < buffer.len() {
        stream.set_read_timeout(Some(left(deadline)?)).context("setsockopt")?;
        match stream.read(&mut buffer[done..]) {
            Ok(0) => return Err(Error::failed("The server closed the connection")),
            Ok(n) => done += n,
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) if e.kind() == ErrorKind::WouldBlock => return Err(timed_out()),
            Err(e) => return Err(e).context("read"),
        }
    }
    Ok(())
}

fn timed_out() -> Error {
    Error::failed("No answer in time")
}

/// Time until `deadline`; never zero, which would mean for ever to the socket options.
fn left(deadline: Instant) -> Result<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(timed_out()) } else { Ok(left) }
}

#[cfg(test)]
mod tests;
