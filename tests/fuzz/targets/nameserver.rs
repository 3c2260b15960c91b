//! Packets that come to the DNS server of zones, from a peer and from anybody, over UDP and TCP.
#![no_main]

use libfuzzer_sys::fuzz_target;
use stapes::network::zones::answer::{By, Reply, reply};
use stapes::network::zones::text::parse;
use std::rc::Rc;

const TOLD: &str = "listen 127.0.0.1:53\nzone example.net 7\npeer a 192.0.2.1 -\npeer b - 736563726574\n\
    soa ns.example.net hostmaster.example.net\nexample.net 300 2 026e73076578616d706c65036e657400\n\
    *.example.net 300 16 03616e79\nwww.example.net 60 5 026331076578616d706c65036e657400\n\
    c1.example.net 300 1 0a000009\nsub.example.net 300 2 026e7303737562076578616d706c65036e657400\n\
    ns.sub.example.net 300 1 0a000008\n";

fuzz_target!(|packet: &[u8]| {
    let zones = Rc::new(parse(TOLD).expect("sound").1);
    for (from, by) in [([192, 0, 2, 1], By::Stream), ([192, 0, 2, 2], By::Datagram)] {
        match reply(&zones, packet.to_vec(), from.into(), by, 1_800_000_000) {
            Reply::Message(message) => assert!(message.len() >= 12 && (by == By::Stream || message.len() <= 1232)),
            Reply::Transfer(mut transfer) => while transfer.next(1_800_000_000).is_some() {},
            Reply::Nothing => {}
        }
    }
});
