//! Free addresses in a subnet, for NICs whose address we choose ourselves (`run`, application containers).

use super::range::IpRange;
use crate::base::inet::{self, IpNet};
use std::collections::BTreeSet;
use std::net::IpAddr;

/// The first address of `net` that no one has: not the bridge's own (that of `net`), not that of the network or of the
/// broadcast, and not in `used`. Addresses outside the DHCP `ranges` come first, since dnsmasq never hands those out; where
/// there are none, one within them, which the caller has to reserve. Costs a look-up per used address passed over.
pub fn next_free(net: &IpNet, ranges: &[IpRange], used: &BTreeSet<IpAddr>) -> Option<IpAddr> {
    let mut inside: Vec<IpRange> = ranges.to_vec();
    inside.sort_by_key(IpRange::first);
    outside(net, &inside).iter().chain(&inside).find_map(|range| first_free(net, range, used))
}

/// What of the subnet's host addresses lies in none of the sorted `ranges`.
fn outside(net: &IpNet, ranges: &[IpRange]) -> Vec<IpRange> {
    if ranges.is_empty() {
        // All of it is dnsmasq's.
        return IpRange::new(net.first_host(), net.last_host()).into_iter().collect();
    }
    let mut gaps = Vec::new();
    let mut from = Some(net.first_host());
    for range in ranges {
        let before = range.first();
        if let Some(start) = from.filter(|f| *f < before) {
            gaps.extend(IpRange::new(start, previous(before)));
        }
        from = from.and_then(|f| inet::next(range.last()).map(|behind| behind.max(f)));
    }
    gaps.extend(from.and_then(|start| IpRange::new(start, net.last_host())));
    gaps
}

fn previous(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(a) => std::net::Ipv4Addr::from(u32::from(a).saturating_sub(1)).into(),
        IpAddr::V6(a) => std::net::Ipv6Addr::from(u128::from(a).saturating_sub(1)).into(),
    }
}

fn first_free(net: &IpNet, range: &IpRange, used: &BTreeSet<IpAddr>) -> Option<IpAddr> {
    let mut at = range.first().max(net.first_host());
    let last = range.last().min(net.last_host());
    let mut taken = used.range(at..).peekable();
    while at <= last {
        while taken.peek().is_some_and(|a| **a < at) {
            taken.next();
        }
        if taken.peek() != Some(&&at) && at != net.address() {
            return Some(at);
        }
        at = inet::next(at)?;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    fn net(text: &str) -> IpNet {
        text.parse().expect("a network")
    }

    fn ranges(text: &str, net: &IpNet) -> Vec<IpRange> {
        IpRange::parse_list(text, net).expect("ranges")
    }

    #[test]
    fn outside_the_ranges_first() {
        let n = net("10.0.0.1/24");
        let used = |list: &[&str]| list.iter().map(|t| ip(t)).collect::<BTreeSet<_>>();
        assert_eq!(next_free(&n, &[], &used(&[])), Some(ip("10.0.0.2")));
        assert_eq!(next_free(&n, &[], &used(&["10.0.0.2", "10.0.0.3", "10.0.0.5"])), Some(ip("10.0.0.4")));
        let r = ranges("10.0.0.2-10.0.0.100", &n);
        assert_eq!(next_free(&n, &r, &used(&[])), Some(ip("10.0.0.101")));
        let r = ranges("10.0.0.100-10.0.0.200,10.0.0.2-10.0.0.50", &n);
        assert_eq!(next_free(&n, &r, &used(&[])), Some(ip("10.0.0.51")));
        let r = ranges("10.0.0.2-10.0.0.254", &n);
        assert_eq!(next_free(&n, &r, &used(&["10.0.0.2"])), Some(ip("10.0.0.3")));
        assert_eq!(next_free(&net("10.0.0.1/30"), &[], &used(&["10.0.0.2"])), None);
        assert_eq!(next_free(&net("10.0.0.1/32"), &[], &used(&[])), None);
        assert_eq!(next_free(&net("fd42::1/64"), &[], &used(&["fd42::2"])), Some(ip("fd42::3")));
    }

    proptest! {
        #[test]
        fn free_and_in_the_subnet(used in proptest::collection::btree_set(0u32..40, 0..40), from in 0u32..32, len in 0u32..20) {
            let n = net("10.9.0.1/27");
            let at = |i: u32| n.nth(u128::from(i.min(31))).expect("inside");
            let range = IpRange::new(at(from), at(from + len)).expect("in order");
            let used: BTreeSet<IpAddr> = used.into_iter().map(|i| ip(&format!("10.9.0.{i}"))).collect();
            let free = |a: &IpAddr| !used.contains(a) && *a != n.address();
            let all: Vec<IpAddr> = (1..31).map(at).filter(|a| free(a)).collect();
            match next_free(&n, &[range], &used) {
                Some(a) => {
                    prop_assert!(all.contains(&a));
                    prop_assert!(!range.contains(a) || all.iter().all(|b| range.contains(*b)));
                }
                None => prop_assert!(all.is_empty()),
            }
        }
    }
}
