//! Interfaces of a running container: names, counters, addresses, read through a netlink socket in its network namespace.
//!
//! Called by `state` and `wait`. A thread enters the namespace and ends with it; no process is started. What is in there was
//! named by the instance.

use crate::base::{mac, parallel};
use crate::error::{Error, Result};
use crate::host::links::{Address, Counters, Link, Links};
use crate::model::view::{NetworkAddress, NetworkCounters, NetworkState};
use crate::sys::ns;
use std::collections::BTreeMap;
use std::os::fd::OwnedFd;

type Interfaces = BTreeMap<String, NetworkState>;

/// The interfaces of the network namespace of process `pid`, with their addresses alone; empty if it has ended.
pub fn interfaces(pid: i32) -> Interfaces {
    let spaces: Vec<_> = ns::open(pid, "net").into_iter().collect();
    visit(&spaces, false).pop().unwrap_or_default()
}

/// Those of many processes, in order: a thread for each processor goes through their namespaces. `whole`: also their counters
/// and names on the host, which take as long as all the rest.
pub fn all(pids: &[i32], whole: bool) -> Vec<Interfaces> {
    let mut all = vec![Interfaces::new(); pids.len()];
    let spaces = pids.iter().enumerate().filter_map(|(at, pid)| Some((at, ns::open(*pid, "net").ok()?)));
    let (places, spaces): (Vec<usize>, Vec<OwnedFd>) = spaces.unzip();
    let threads = parallel::processors();
    let chunks = spaces.chunks(spaces.len().div_ceil(threads).max(1)).collect();
    let found = parallel::each(chunks, threads, |spaces| visit(spaces, whole));
    for (at, found) in places.into_iter().zip(found.into_iter().flatten()) {
        all[at] = found;
    }
    all
}

/// One for each namespace: empty if it cannot be read.
fn visit(spaces: &[OwnedFd], whole: bool) -> Vec<Interfaces> {
    let mut outside = whole.then_some(None);
    let Ok(all) = ns::inside_each_net(spaces, || read(whole)) else { return vec![Interfaces::new(); spaces.len()] };
    let found = all.into_iter().map(|found| found.map_err(Error::from).flatten());
    found.map(|f| f.map_or_else(|_| Interfaces::new(), |(l, a)| describe(&l, &a, outside.as_mut()))).collect()
}

/// Where the thread is.
fn read(whole: bool) -> Result<(Vec<Link>, Vec<Address>)> {
    let mut links = Links::open_for_lists()?;
    Ok((if whole { links.list()? } else { links.list_uncounted()? }, links.addresses()?))
}

fn describe(links: &[Link], addresses: &[Address], mut outside: Option<&mut Option<Links>>) -> Interfaces {
    let one = |link: &Link| {
        let mine = addresses.iter().filter(|a| a.index == link.index).map(address);
        let mut state = state(link);
        state.addresses.0.extend(mine);
        state.host_name = outside.as_mut().and_then(|outside| other_end(link, outside)).unwrap_or_default();
        (link.name.clone(), state)
    };
    links.iter().map(one).collect()
}

fn state(link: &Link) -> NetworkState {
    NetworkState {
        counters: counters(&link.counters),
        hwaddr: link.mac.filter(|_| !link.is_loopback()).map(mac::format).unwrap_or_default(),
        mtu: link.mtu,
        state: if link.is_up() { "up" } else { "down" }.into(),
        kind: link.medium().into(),
        ..NetworkState::default()
    }
}

fn counters(c: &Counters) -> NetworkCounters {
    let number = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    NetworkCounters {
        bytes_received: number(c.bytes_received),
        bytes_sent: number(c.bytes_sent),
        packets_received: number(c.packets_received),
        packets_sent: number(c.packets_sent),
        errors_received: number(c.errors_received),
        errors_sent: number(c.errors_sent),
        packets_dropped_inbound: number(c.dropped_received),
        packets_dropped_outbound: number(c.dropped_sent),
    }
}

fn address(address: &Address) -> NetworkAddress {
    NetworkAddress {
        family: if address.net.is_ipv4() { "inet" } else { "inet6" }.into(),
        address: address.net.address().to_string(),
        netmask: address.net.prefix().to_string(),
        scope: address.scope_name().into(),
    }
}

/// The name of the other end of a pair, if it is in our namespace. The number alone does not say so: the instance may have
/// pairs of its own. `outside` is our namespace, opened by the first one that asks.
fn other_end(link: &Link, outside: &mut Option<Links>) -> Option<String> {
    let index = link.lower.filter(|_| link.kind == "veth" && link.lower_namespace.is_some())?;
    if outside.is_none() {
        *outside = Some(Links::open().ok()?);
    }
    let other = outside.as_mut()?.at(index).ok()??;
    (other.kind == "veth" && other.lower == Some(link.index)).then_some(other.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_what_incus_tells() {
        let counters = Counters { packets_received: 3, bytes_sent: u64::MAX, ..Counters::default() };
        let flags = (libc::IFF_UP | libc::IFF_BROADCAST).cast_unsigned();
        let mac = Some([0x10, 0x66, 0x6a, 0, 0, 1]);
        let link = Link { flags, mac, mtu: 1500, counters, ..Link::default() };
        let said = state(&link);
        assert_eq!((said.state.as_str(), said.kind.as_str(), said.mtu), ("up", "broadcast", 1500));
        assert_eq!((said.hwaddr.as_str(), said.counters.bytes_sent), ("10:66:6a:00:00:01", i64::MAX));
        let lo = Link { flags: libc::IFF_LOOPBACK.cast_unsigned(), mac: Some([0; 6]), ..Link::default() };
        let said = state(&lo);
        assert_eq!((said.state.as_str(), said.kind.as_str(), said.hwaddr.as_str()), ("down", "loopback", ""));
        let show = |text: &str| {
            let net = text.parse().expect("an address");
            let a = address(&Address { index: 1, net, scope: 0, flags: 0 });
            format!("{} {}/{} {}", a.family, a.address, a.netmask, a.scope)
        };
        assert_eq!(show("10.1.0.7/24"), "inet 10.1.0.7/24 global");
        assert_eq!(
            (show("127.0.0.1/8"), show("169.254.3.1/16")),
            ("inet 127.0.0.1/8 local".into(), "inet 169.254.3.1/16 link".into())
        );
        assert_eq!(
            (show("::1/128"), show("fe80::1/64")),
            ("inet6 ::1/128 local".into(), "inet6 fe80::1/64 link".into())
        );
    }

    #[test]
    fn nobody_has_none() {
        assert!(interfaces(i32::MAX).is_empty());
    }
}
