//! Arguments and configuration of the dnsmasq of one bridge.

use crate::base::inet::{self, IpNet};
use crate::base::names::NetworkName;
use crate::error::Error;
use crate::model::network::bridge::{Bridge, DEFAULT_MTU, DnsMode, Family, Gateway};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

/// The program.
pub const PROGRAM: &str = "dnsmasq";

/// The files of one bridge's dnsmasq.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Paths {
    /// Its configuration beyond the arguments: the user's lines. Written before each start.
    pub config: PathBuf,
    /// Folder of files of NICs: reservations.
    pub hosts: PathBuf,
    /// Folder of files of NICs: names.
    pub names: PathBuf,
    /// Leases; kept over restarts.
    pub leases: PathBuf,
    /// Its process.
    pub pid: PathBuf,
    /// What it says.
    pub log: PathBuf,
}

impl Paths {
    /// `kept`: folder that outlives the boot, for the leases; `run`: folder of the run.
    pub fn new(kept: &Path, run: &Path) -> Self {
        Self {
            config: run.join("dnsmasq.conf"),
            hosts: run.join("dnsmasq.hosts"),
            names: run.join("dnsmasq.names"),
            leases: kept.join(super::leases::FILE),
            pid: run.join("dnsmasq.pid"),
            log: run.join("dnsmasq.log"),
        }
    }
}

/// Whom dnsmasq becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner<'a> {
    /// User.
    pub user: &'a str,
    /// Group.
    pub group: &'a str,
}

/// The text of the configuration file. The user's lines come last; what they cannot be is checked with the option.
pub fn config(bridge: &Bridge) -> String {
    match bridge.raw_dnsmasq.as_str() {
        "" => String::new(),
        raw => format!("{}\n", raw.trim_end()),
    }
}

/// The arguments. `owner`: none leaves the choice to dnsmasq.
pub fn arguments(name: &NetworkName, bridge: &Bridge, paths: &Paths, owner: Option<Owner<'_>>) -> Vec<String> {
    let mut args: Vec<String> = [
        "--strict-order",
        "--bind-interfaces",
        "--except-interface=lo",
        // Else a lease is written only after the address was pinged for seconds.
        "--no-ping",
        "--dhcp-rapid-commit",
        "--no-negcache",
        "--quiet-dhcp",
        "--quiet-dhcp6",
        "--quiet-ra",
    ]
    .map(String::from)
    .into();
    args.push(format!("--conf-file={}", paths.config.display()));
    args.push(format!("--pid-file={}", paths.pid.display()));
    args.push(format!("--log-facility={}", paths.log.display()));
    args.push(format!("--interface={name}"));
    if let Some(owner) = owner {
        args.push(format!("--user={}", owner.user));
        args.push(format!("--group={}", owner.group));
    }
    if is_isolated(bridge) {
        // The network has no way out, and the host's resolver shall not be one (CVE-2024-29018).
        args.extend(["--no-resolv".to_string(), "--no-hosts".to_string()]);
    }
    if bridge.v4.dhcp_subnet().is_some() || bridge.v6.dhcp_subnet().is_some() {
        args.extend(["--dhcp-no-override".to_string(), "--dhcp-authoritative".to_string()]);
        args.push(format!("--dhcp-leasefile={}", paths.leases.display()));
        args.push(format!("--dhcp-hostsdir={}", paths.hosts.display()));
    }
    args.extend(ipv4(bridge));
    args.extend(ipv6(name, bridge));
    args.extend(dns(name, bridge));
    if bridge.dns_mode == DnsMode::Managed {
        args.push(format!("--hostsdir={}", paths.names.display()));
    }
    args
}

/// Nothing of the network may leave the host.
pub fn is_isolated(bridge: &Bridge) -> bool {
    bridge.families().iter().all(|f| f.address.is_none() || !f.routing)
}

fn join(items: &[impl ToString]) -> String {
    items.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

fn servers(bridge: &Bridge, v4: bool) -> Vec<IpAddr> {
    bridge.nameservers.iter().copied().filter(|a| a.is_ipv4() == v4).collect()
}

fn ipv4(bridge: &Bridge) -> Vec<String> {
    let Some(own) = bridge.v4.address else { return Vec::new() };
    let mut args = vec![format!("--listen-address={}", own.address())];
    let Some(net) = bridge.v4.dhcp_subnet() else { return args };
    match bridge.gateway {
        Gateway::Bridge => {}
        Gateway::None => args.push("--dhcp-option=3".into()),
        Gateway::Address(a) => args.push(format!("--dhcp-option-force=3,{a}")),
    }
    if !bridge.nameservers.is_empty() {
        args.push(option("6", &servers(bridge, true)));
    }
    if bridge.mtu != DEFAULT_MTU {
        args.push(format!("--dhcp-option-force=26,{}", bridge.mtu));
    }
    if !bridge.search.is_empty() {
        args.push(option("119", &bridge.search));
    }
    if !bridge.dhcp_routes.is_empty() {
        let routes: Vec<String> = bridge.dhcp_routes.iter().map(|(net, gateway)| format!("{net},{gateway}")).collect();
        args.push(option("121", &routes));
    }
    let expiry = &bridge.v4.expiry;
    args.extend(ranges(&bridge.v4, net).iter().map(|(a, b)| format!("--dhcp-range={a},{b},{expiry}")));
    args
}

fn option(number: &str, values: &[impl ToString]) -> String {
    match values.is_empty() {
        true => format!("--dhcp-option-force={number}"),
        false => format!("--dhcp-option-force={number},{}", join(values)),
    }
}

/// What may be handed out: the ranges said, else all of the subnet but the first address, which is the bridge's by custom.
fn ranges(family: &Family, net: IpNet) -> Vec<(IpAddr, IpAddr)> {
    if !family.ranges.is_empty() {
        return family.ranges.iter().map(|r| (r.first(), r.last())).collect();
    }
    let first = inet::next(net.first_host()).filter(|a| *a <= net.last_host());
    first.map(|first| (first, net.last_host())).into_iter().collect()
}

fn ipv6(name: &NetworkName, bridge: &Bridge) -> Vec<String> {
    let Some(own) = bridge.v6.address else { return Vec::new() };
    let mut args = vec![format!("--listen-address={}", own.address())];
    if bridge.ra {
        args.push("--enable-ra".into());
    }
    let expiry = &bridge.v6.expiry;
    match bridge.v6.dhcp_subnet() {
        Some(net) if bridge.stateful => {
            let prefix = net.prefix();
            let all = ranges(&bridge.v6, net);
            args.extend(all.iter().map(|(a, b)| format!("--dhcp-range={a},{b},{prefix},{expiry}")));
        }
        Some(_) if bridge.ra => args.push(format!("--dhcp-range=::,constructor:{name},ra-stateless,ra-names")),
        None if bridge.ra => args.push(format!("--dhcp-range=::,constructor:{name},ra-only")),
        _ => {}
    }
    let announced = match bridge.nameservers.is_empty() {
        true => vec![own.address()],
        false => servers(bridge, false),
    };
    match announced.is_empty() {
        true => args.push("--dhcp-option-force=option6:dns-server".into()),
        false => {
            let list: Vec<String> = announced.iter().map(|a| format!("[{a}]")).collect();
            args.push(format!("--dhcp-option-force=option6:dns-server,{}", list.join(",")));
        }
    }
    args
}

fn dns(name: &NetworkName, bridge: &Bridge) -> Vec<String> {
    if bridge.dns_mode == DnsMode::None {
        return Vec::new();
    }
    let domain = &bridge.domain;
    vec![
        format!("--domain={domain}"),
        format!("--interface-name=_gateway.{domain},{name}"),
        // Names of the domain are answered here or nowhere.
        format!("--local=/{domain}/"),
    ]
}

/// The error for a dnsmasq that did not start, from what it said.
pub fn failure(name: &NetworkName, output: &str) -> Error {
    let line = output.lines().map(str::trim).find(|l| !l.is_empty()).unwrap_or("no reason given");
    let text: String = line.chars().filter(|c| !c.is_control()).take(300).collect();
    let text = text.strip_prefix("dnsmasq: ").unwrap_or(&text);
    let e =
        Error::failed(format!("The DNS and DHCP service of network {:?} exited prematurely: {text}", name.as_str()));
    let low = text.to_ascii_lowercase();
    if low.contains("address already in use") || low.contains("address in use") {
        return e.hint(
            "Another program listens at port 53 or 67 of every address; have it listen at its own addresses only",
        );
    }
    if low.contains("unknown user") || low.contains("unknown group") {
        return e.hint("The user dnsmasq is to run as does not exist on this host");
    }
    if low.contains("dnsmasq.conf") {
        return e.hint("The line comes from the option raw.dnsmasq of the network");
    }
    e
}
