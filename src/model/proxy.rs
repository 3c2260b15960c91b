//! Proxies that are processes, as plan data: what `device` makes of the options and `proxy` carries out.

use crate::error::{Error, Result};
use crate::model::keys::device::proxy::{Address, Ports};
use serde::{Deserialize, Serialize};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

/// Longest path of a Unix socket, bytes (unix(7)).
const PATH_MAX: usize = 107;

/// A proxy of an instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proxy {
    /// The device.
    pub device: String,
    /// Where it listens and what for.
    pub routes: Vec<Route>,
    /// The instance's side listens, else the host's.
    pub inside: bool,
    /// The target is told the client's address (HAProxy's PROXY header, version 1).
    pub header: bool,
    /// Owner, group and mode of a socket that is a file, as its side sees them.
    pub owner: (u32, u32, u32),
    /// User and group that connect, as their side sees them.
    pub user: (u32, u32),
}

impl Proxy {
    /// As one line of text, by which what runs is compared with what is to run.
    ///
    /// # Errors
    /// [`crate::error::Kind::Internal`] if it cannot be written.
    pub fn to_line(&self) -> Result<String> {
        serde_json::to_string(self).map_err(|e| Error::internal("Failed writing a proxy").caused_by(e))
    }
}

/// One address to listen at with where its clients go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// Listens.
    pub listen: End,
    /// Is connected to.
    pub connect: End,
}

/// One end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum End {
    /// TCP.
    Tcp(SocketAddr),
    /// UDP.
    Udp(SocketAddr),
    /// A file.
    Unix(PathBuf),
    /// An abstract name, without the `@`.
    Abstract(String),
}

impl End {
    /// As options have it.
    pub fn describe(&self) -> String {
        match self {
            Self::Tcp(a) => format!("tcp:{a}"),
            Self::Udp(a) => format!("udp:{a}"),
            Self::Unix(path) => format!("unix:{}", path.display()),
            Self::Abstract(name) => format!("unix:@{name}"),
        }
    }
}

/// Pairs what is listened at with what is connected to: as many as there are, or one for all. `any`: the address that stands
/// for any.
///
/// # Errors
/// Unsupported: datagrams to streams or the other way round. Invalid: a path that is not absolute, or too long.
pub fn routes(listen: &Address, connect: &Address, any: IpAddr) -> Result<Vec<Route>> {
    let (from, to) = (ends(listen, any)?, ends(connect, loopback(any))?);
    let udp = |end: &End| matches!(end, End::Udp(_));
    let [first, ..] = &from[..] else { return Err(Error::invalid("No port to listen at")) };
    let pair = |(i, listen): (usize, &End)| {
        let connect = to.get(i).or(to.first().filter(|_| to.len() == 1)).cloned();
        let connect =
            connect.ok_or_else(|| Error::invalid("Mismatch between listen port(s) and connect port(s) count"))?;
        Ok(Route { listen: listen.clone(), connect })
    };
    if to.iter().any(|end| udp(end) != udp(first)) {
        let word = |a: &Address| match a {
            Address::Tcp(_) => "tcp",
            Address::Udp(_) => "udp",
            Address::Unix(_) | Address::Abstract(_) => "unix",
        };
        let (from, to) = (word(listen), word(connect));
        return Err(Error::unsupported(format!("Proxying {from} <-> {to} is not supported by this version")));
    }
    from.iter().enumerate().map(pair).collect()
}

fn loopback(any: IpAddr) -> IpAddr {
    if any.is_ipv4() { IpAddr::from([127, 0, 0, 1]) } else { IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1]) }
}

fn ends(address: &Address, any: IpAddr) -> Result<Vec<End>> {
    let each = |p: &Ports, end: fn(SocketAddr) -> End| {
        let ip = p.ip.unwrap_or(any);
        p.ports.iter().map(|port| end(SocketAddr::new(ip, *port))).collect()
    };
    Ok(match address {
        Address::Tcp(p) => each(p, End::Tcp),
        Address::Udp(p) => each(p, End::Udp),
        Address::Abstract(name) if name.len() > PATH_MAX => return Err(Error::invalid("Unix socket name is too long")),
        Address::Abstract(name) => vec![End::Abstract(name.clone())],
        Address::Unix(path) if !path.starts_with('/') => {
            return Err(Error::invalid(format!("Unix socket path {path:?} must be absolute")));
        }
        Address::Unix(path) if path.len() > PATH_MAX => return Err(Error::invalid("Unix socket path is too long")),
        Address::Unix(path) => vec![End::Unix(path.into())],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(listen: &str, connect: &str) -> Result<Vec<String>> {
        let parse = |text| Address::parse(text).expect("address");
        let all = routes(&parse(listen), &parse(connect), IpAddr::from([0; 16]))?;
        Ok(all.iter().map(|r| format!("{} {}", r.listen.describe(), r.connect.describe())).collect())
    }

    #[test]
    fn ports_are_paired() {
        assert_eq!(of("tcp::80", "tcp::8080").expect("routes"), ["tcp:[::]:80 tcp:[::1]:8080"]);
        let both = of("tcp:127.0.0.1:80-81", "unix:@x").expect("routes");
        assert_eq!(both, ["tcp:127.0.0.1:80 unix:@x", "tcp:127.0.0.1:81 unix:@x"]);
        let each = of("udp:1.2.3.4:1,5", "udp:127.0.0.1:2,9").expect("routes");
        assert_eq!(each, ["udp:1.2.3.4:1 udp:127.0.0.1:2", "udp:1.2.3.4:5 udp:127.0.0.1:9"]);
    }

    #[test]
    fn what_cannot_be_is_said() {
        let said = |a: &str, b: &str| of(a, b).expect_err("bad").to_string();
        assert_eq!(said("udp:1.2.3.4:1", "tcp:127.0.0.1:2"), "Proxying udp <-> tcp is not supported by this version");
        assert_eq!(said("unix:/x", "udp:127.0.0.1:2"), "Proxying unix <-> udp is not supported by this version");
        assert_eq!(said("unix:x", "tcp:127.0.0.1:2"), "Unix socket path \"x\" must be absolute");
        assert_eq!(said("tcp::1-3", "tcp::1-2"), "Mismatch between listen port(s) and connect port(s) count");
        assert!(said(&format!("unix:/{}", "x".repeat(200)), "tcp::1").contains("too long"));
    }
}
