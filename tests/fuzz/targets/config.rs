//! Names and values of configuration keys, and the small languages in them.
#![no_main]

use libfuzzer_sys::fuzz_target;
use stapes::base::{cron, idset, mac, size, time, user};
use stapes::model::instance::InstanceType;
use stapes::model::keys;

fuzz_target!(|input: (&str, &str)| {
    let (name, value) = input;
    for kind in [None, Some(InstanceType::Container), Some(InstanceType::VirtualMachine)] {
        if keys::check(name, value, kind).is_ok() {
            assert!(!name.contains(['\n', '\0', '\u{1b}']), "a control character in {name:?}");
        }
    }
    for key in keys::all() {
        let _ = key.value.check(value);
    }
    let _ = (cron::parse(value), size::parse_bytes(value), size::parse_bits(value), mac::parse(value));
    let _ = (time::parse_rfc3339(value), time::expiry(time::now(), value));
    let _ = keys::parse::allowance(value);
    if let Ok(set) = idset::parse(value) {
        assert!(set.is_empty() || idset::parse(&idset::format(&set)).ok() == Some(set));
    }
    if let Ok(id) = user::parse_id(value) {
        assert_eq!(id.to_string(), value, "one way to write a number");
    }
});
