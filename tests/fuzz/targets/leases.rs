//! dnsmasq's lease file, whose names and ids clients choose.
#![no_main]

use libfuzzer_sys::fuzz_target;
use stapes::network::dnsmasq::leases::parse;

fuzz_target!(|text: &str| {
    for lease in parse(text) {
        assert!(lease.hwaddr.is_some() || lease.address.is_ipv6(), "an IPv4 lease has a MAC address");
        if let Some(name) = &lease.hostname {
            assert!(!name.is_empty() && name.len() <= 253 && name.bytes().all(|c| c.is_ascii_graphic()));
        }
    }
});
