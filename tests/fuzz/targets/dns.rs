//! Replies of name servers.
#![no_main]

use libfuzzer_sys::fuzz_target;
use stapes::base::dns::{Kind, Reply, reply};

fuzz_target!(|message: &[u8]| {
    let Some(id) = message.first_chunk::<2>() else { return };
    for kind in [Kind::A, Kind::Aaaa] {
        if let Some(Reply::Addresses(found)) = reply(message, u16::from_be_bytes(*id), "images.example", kind) {
            assert!(found.iter().all(|address| address.is_ipv4() == (kind == Kind::A)));
        }
    }
});
