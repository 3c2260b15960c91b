//! Network interfaces of a running container, read from `/proc/<pid>/net` (proc_pid_net(5)): names, counters, addresses.
//!
//! Called by `state`. No namespace is joined and no socket opened. MAC address and MTU are not in these files and stay empty.

use crate::model::view::{NetworkAddress, NetworkCounters, NetworkState};
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};

type Interfaces = BTreeMap<String, NetworkState>;

/// The interfaces of the network namespace of process `pid`; empty if it has ended.
pub fn interfaces(pid: i32) -> Interfaces {
    let read = |file: &str| std::fs::read_to_string(format!("/proc/{pid}/net/{file}")).unwrap_or_default();
    let mut all = devices(&read("dev"));
    // Most of the cost is in this file; an instance that has the loopback interface only is done without it.
    match all.keys().any(|name| name != LOOPBACK) {
        true => add(&mut all, inet(&read("fib_trie"), &read("route"))),
        false => add(&mut all, vec![(LOOPBACK.to_string(), address_v4(Ipv4Addr::LOCALHOST, 8, "local"))]),
    }
    add(&mut all, inet6(&read("if_inet6")));
    all
}

const LOOPBACK: &str = "lo";

fn add(all: &mut Interfaces, addresses: Vec<(String, NetworkAddress)>) {
    for (name, address) in addresses {
        if let Some(interface) = all.get_mut(&name) {
            interface.addresses.0.push(address);
        }
    }
}

/// `  eth0: <8 numbers received> <8 numbers sent>`.
fn devices(text: &str) -> Interfaces {
    let one = |line: &str| {
        let (name, numbers) = line.split_once(':')?;
        let n: Vec<i64> = numbers.split_whitespace().map_while(|n| n.parse().ok()).collect();
        let at = |i: usize| n.get(i).copied();
        let counters = NetworkCounters {
            bytes_received: at(0)?,
            bytes_sent: at(8)?,
            packets_received: at(1)?,
            packets_sent: at(9)?,
            errors_received: at(2)?,
            errors_sent: at(10)?,
            packets_dropped_inbound: at(3)?,
            packets_dropped_outbound: at(11)?,
        };
        let name = name.trim();
        let kind = if name == LOOPBACK { "loopback" } else { "broadcast" };
        let state = NetworkState { counters, state: "up".into(), kind: kind.into(), ..NetworkState::default() };
        Some((name.to_string(), state))
    };
    text.lines().filter_map(one).collect()
}

/// `<32 digits> <index> <prefix> <scope> <flags> <name>`, hexadecimal.
fn inet6(text: &str) -> Vec<(String, NetworkAddress)> {
    let one = |line: &str| {
        let mut fields = line.split_whitespace();
        let address = Ipv6Addr::from(u128::from_str_radix(fields.next()?, 16).ok()?);
        let prefix = u8::from_str_radix(fields.nth(1)?, 16).ok()?;
        let scope = match fields.next()? {
            "00" => "global",
            "10" => "local",
            _ => "link",
        };
        let name = fields.nth(1)?.to_string();
        let netmask = prefix.to_string();
        let address = address.to_string();
        Some((name, NetworkAddress { family: "inet6".into(), address, netmask, scope: scope.into() }))
    };
    text.lines().filter_map(one).collect()
}

fn address_v4(address: Ipv4Addr, prefix: u32, scope: &str) -> NetworkAddress {
    NetworkAddress {
        family: "inet".into(),
        address: address.to_string(),
        netmask: prefix.to_string(),
        scope: scope.into(),
    }
}

/// Own addresses are `/32 host LOCAL` leaves of the table of local routes; the interface is that of the narrowest connected
/// route around it.
fn inet(trie: &str, routes: &str) -> Vec<(String, NetworkAddress)> {
    let routes: Vec<Route> = routes.lines().filter_map(Route::parse).collect();
    let mut found: Vec<(String, NetworkAddress)> = Vec::new();
    let mut leaf = None;
    for line in trie.lines().map(str::trim) {
        if let Some(address) = line.strip_prefix("|-- ") {
            leaf = address.parse::<Ipv4Addr>().ok();
        } else if let Some(address) = leaf.filter(|_| line == "/32 host LOCAL") {
            let around = routes.iter().filter(|r| r.holds(address)).max_by_key(|r| r.prefix);
            let one = match (address.is_loopback(), around) {
                (true, _) => (LOOPBACK.to_string(), address_v4(address, 8, "local")),
                (false, Some(r)) => {
                    let scope = if address.is_link_local() { "link" } else { "global" };
                    (r.interface.clone(), address_v4(address, r.prefix, scope))
                }
                // An address without a net around it: nothing says whose it is.
                (false, None) => continue,
            };
            // The table is printed once for each of main and local where they are merged.
            if !found.contains(&one) {
                found.push(one);
            }
        }
    }
    found
}

/// A connected route.
struct Route {
    interface: String,
    net: u32,
    mask: u32,
    prefix: u32,
}

impl Route {
    /// `Iface Destination Gateway Flags RefCnt Use Metric Mask …`; numbers hexadecimal, in network byte order.
    fn parse(line: &str) -> Option<Self> {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let number = |i: usize| u32::from_str_radix(fields.get(i)?, 16).ok().map(u32::from_be);
        let (net, gateway, mask) = (number(1)?, number(2)?, number(7)?);
        let connected = gateway == 0 && mask != 0;
        connected.then(|| Self { interface: fields[0].to_string(), net, mask, prefix: mask.count_ones() })
    }

    fn holds(&self, address: Ipv4Addr) -> bool {
        u32::from(address) & self.mask == self.net
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEV: &str = "Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
    lo:     100       1    0    0    0     0          0         0      100       1    0    0    0     0       0          0
  eth0:    5000      40    1    2    0     0          0         0     6000      50    3    4    0     0       0          0
";
    const INET6: &str = "00000000000000000000000000000001 01 80 10 80       lo
fd420000000000000000000000000002 05 40 00 80     eth0
fe800000000000000216fffe00000001 05 40 20 80     eth0
";
    const TRIE: &str = "Main:
  +-- 0.0.0.0/0 3 0 5
     |-- 0.0.0.0
        /0 universe UNICAST
     +-- 10.1.0.0/24 2 0 2
        |-- 10.1.0.0
           /24 link UNICAST
Local:
  +-- 0.0.0.0/0 3 0 5
     +-- 10.1.0.0/24 2 0 2
        |-- 10.1.0.7
           /32 host LOCAL
        |-- 10.1.0.255
           /32 link BROADCAST
     |-- 127.0.0.1
        /32 host LOCAL
";
    const ROUTES: &str = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT
eth0\t00000000\t0100010A\t0003\t0\t0\t0\t00000000\t0\t0\t0
eth0\t0000010A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0
";

    fn show(list: &[(String, NetworkAddress)]) -> Vec<String> {
        list.iter().map(|(n, a)| format!("{n} {} {}/{} {}", a.family, a.address, a.netmask, a.scope)).collect()
    }

    #[test]
    fn reads_what_the_kernel_writes() {
        let all = devices(DEV);
        assert_eq!(all.keys().collect::<Vec<_>>(), ["eth0", "lo"]);
        let c = all["eth0"].counters;
        assert_eq!((c.bytes_received, c.packets_sent, c.errors_sent, c.packets_dropped_outbound), (5000, 50, 3, 4));
        assert_eq!((all["lo"].kind.as_str(), all["eth0"].kind.as_str()), ("loopback", "broadcast"));
        assert_eq!(
            show(&inet6(INET6)),
            ["lo inet6 ::1/128 local", "eth0 inet6 fd42::2/64 global", "eth0 inet6 fe80::216:fffe:0:1/64 link"]
        );
        assert_eq!(show(&inet(TRIE, ROUTES)), ["eth0 inet 10.1.0.7/24 global", "lo inet 127.0.0.1/8 local"]);
        assert!(devices("nonsense\nx: 1 2").is_empty() && inet("", "").is_empty() && inet6("zz").is_empty());
    }

    #[test]
    fn our_own_namespace_has_a_loopback() {
        let all = interfaces(i32::try_from(std::process::id()).expect("pid"));
        assert!(all.contains_key(LOOPBACK), "{all:?}");
    }
}
