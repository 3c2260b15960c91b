//! Proxies between host and instance.

use super::super::checks;
use super::super::key::{Key, Scope};
use super::super::value::Value;
use super::Kind;
use crate::error::{Error, Result};
use crate::model::instance::{Device, InstanceType};
use std::net::IpAddr;

const ADDRESS: Value = Value::Checked("tcp, udp or unix address", check_address);
const ID: Value = Value::Checked("id", checks::unix_id);

key_table! {
    LISTEN: "listen", Both, ADDRESS, "Address to listen at, `tcp:0.0.0.0:80`"
        => long("`tcp` or `udp` with address and ports (`80,90-95`), or `unix:` with a path or an abstract name (`@x`).");
    CONNECT: "connect", Both, ADDRESS, "Address to connect to" => long("As `listen`.");
    BIND: "bind", Both, Value::OneOf(&["host", "instance", "guest", "container"]), "Side that listens" => default("host");
    MODE: "mode", Both, Value::Checked("octal mode", checks::octal_mode), "Mode of the Unix socket" => default("0644");
    UID: "uid", Both, ID, "Owner of the Unix socket" => default("0");
    GID: "gid", Both, ID, "Group of the Unix socket" => default("0");
    NAT: "nat", Both, Value::Bool, "Forward by the firewall instead of by a process" => default("false");
    PROXY_PROTOCOL: "proxy_protocol", Both, Value::Bool, "Tell the target the client's address by HAProxy's PROXY header"
        => default("false");
    SECURITY_UID: "security.uid", Both, ID, "User the process becomes" => default("0");
    SECURITY_GID: "security.gid", Both, ID, "Group the process becomes" => default("0");
}

pub(super) static KINDS: &[&Kind] = &[&Kind {
    device: "proxy",
    sub: "",
    scope: Scope::Both,
    hotplug: Some(Scope::Both),
    options: TABLE,
    required: &[&LISTEN, &CONNECT],
    updatable: &[],
    check,
}];

/// One end of a proxy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// TCP.
    Tcp(Ports),
    /// UDP.
    Udp(Ports),
    /// A Unix socket's path.
    Unix(String),
    /// An abstract Unix socket's name, without the `@`.
    Abstract(String),
}

/// Address and ports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ports {
    /// None is any address.
    pub ip: Option<IpAddr>,
    /// In the order given.
    pub ports: Vec<u16>,
}

impl Address {
    /// Reads one end.
    pub fn parse(value: &str) -> Result<Self> {
        let (protocol, rest) = value.split_once(':').unwrap_or((value, ""));
        if !matches!(protocol, "tcp" | "udp" | "unix") {
            return Err(Error::invalid(format!("Unknown protocol type {protocol:?}")));
        }
        if rest.is_empty() {
            return Err(Error::invalid("Missing address"));
        }
        if protocol == "unix" {
            return Ok(match rest.strip_prefix('@') {
                Some(name) => Self::Abstract(name.to_string()),
                None => Self::Unix(rest.to_string()),
            });
        }
        let wrong = || Error::invalid(format!("Invalid address {rest:?}"));
        let (host, ports) =
            rest.rsplit_once(':').ok_or_else(|| Error::invalid(format!("address {rest}: missing port in address")))?;
        let ip = match host.strip_prefix('[').and_then(|h| h.strip_suffix(']')) {
            Some(v6) => Some(IpAddr::V6(v6.parse().map_err(|_| wrong())?)),
            None if host.is_empty() => None,
            None => Some(IpAddr::V4(host.parse().map_err(|_| Error::invalid(format!("Not an IP address {host:?}")))?)),
        };
        let ends = Ports { ip, ports: parse_ports(ports)? };
        Ok(if protocol == "tcp" { Self::Tcp(ends) } else { Self::Udp(ends) })
    }

    fn protocol(&self) -> &'static str {
        match self {
            Self::Tcp(_) => "tcp",
            Self::Udp(_) => "udp",
            Self::Unix(_) | Self::Abstract(_) => "unix",
        }
    }

    fn ends(&self) -> Option<&Ports> {
        match self {
            Self::Tcp(p) | Self::Udp(p) => Some(p),
            Self::Unix(_) | Self::Abstract(_) => None,
        }
    }
}

fn parse_ports(text: &str) -> Result<Vec<u16>> {
    let wrong = |range: &str| Error::invalid(format!("Invalid port range {range:?}"));
    let mut ports = Vec::new();
    for range in text.split(',') {
        let port = |s: &str| checks::digits(s).then(|| s.parse::<u16>().ok()).flatten().ok_or_else(|| wrong(range));
        match range.split_once('-') {
            None => ports.push(port(range)?),
            Some((first, last)) => {
                let (first, last) = (port(first)?, port(last)?);
                if last <= first {
                    return Err(Error::invalid("End port should be higher than start port"));
                }
                ports.extend(first..=last);
            }
        }
        if ports.len() > usize::from(u16::MAX) {
            return Err(wrong(range));
        }
    }
    Ok(ports)
}

/// Does the instance's side listen?
pub fn listens_inside(device: &Device) -> bool {
    BIND.text(device) != "host"
}

fn check_address(value: &str) -> Result<()> {
    Address::parse(value).map(drop)
}

fn check(device: &Device, kind: Option<InstanceType>) -> Result<()> {
    let nat = NAT.bool(device)?;
    if kind == Some(InstanceType::VirtualMachine) && !nat {
        return Err(Error::invalid("Only NAT mode is supported for proxies on VM instances"));
    }
    let (listen, connect) = (Address::parse(LISTEN.text(device))?, Address::parse(CONNECT.text(device))?);
    let count = |a: &Address| a.ends().map_or(0, |e| e.ports.len());
    let most = if listen.ends().is_some() { count(&listen) } else { 1 };
    if count(&connect) > most {
        return Err(Error::invalid("Mismatch between listen port(s) and connect port(s) count"));
    }
    if PROXY_PROTOCOL.bool(device)? && (!matches!(connect, Address::Tcp(_)) || nat) {
        return Err(Error::invalid("The PROXY header can only be sent to tcp servers in non-nat mode"));
    }
    let owned = [&UID, &GID, &MODE].iter().any(|k| k.get(device).is_some());
    if owned && !matches!(listen, Address::Unix(_)) {
        return Err(Error::invalid(
            "Only proxy devices for non-abstract unix sockets can carry uid, gid, or mode properties",
        ));
    }
    if nat { check_nat(device, &listen, &connect) } else { Ok(()) }
}

fn check_nat(device: &Device, listen: &Address, connect: &Address) -> Result<()> {
    if listens_inside(device) {
        return Err(Error::invalid("Only host-bound proxies can use NAT"));
    }
    let (Some(from), Some(to)) = (listen.ends(), connect.ends()) else { return Err(mixed(listen, connect)) };
    if listen.protocol() != connect.protocol() {
        return Err(mixed(listen, connect));
    }
    let v4 = |e: &Ports| e.ip.map(|ip| ip.is_ipv4());
    if v4(from).zip(v4(to)).is_some_and(|(a, b)| a != b) {
        return Err(Error::invalid("Cannot mix IP versions between listen and connect in nat mode"));
    }
    Ok(())
}

fn mixed(listen: &Address, connect: &Address) -> Error {
    let (from, to) = (listen.protocol(), connect.protocol());
    Error::invalid(format!("Proxying {from} <-> {to} is not supported when using NAT"))
}
