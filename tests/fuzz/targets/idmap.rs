//! `raw.idmap`, and the maps of records.
#![no_main]

use libfuzzer_sys::fuzz_target;
use stapes::base::idmap::IdMap;

fn check(map: &IdMap) {
    for id in [0, 1, 1000, 65_535, u32::MAX - 1] {
        if let Some(host) = map.to_host_uid(id) {
            assert_eq!(map.to_ns_uid(host), Some(id), "no host id stands for two");
        }
        if let Some(host) = map.to_host_gid(id) {
            assert_eq!(map.to_ns_gid(host), Some(id));
        }
    }
    let _ = (map.uid_map(), map.gid_map());
    let again = IdMap::from_json(&map.to_json()).expect("what was written can be read");
    assert_eq!(again.to_json(), map.to_json());
}

fuzz_target!(|text: &str| {
    if let Ok(map) = IdMap::parse_raw(text) {
        check(&map);
        let mut whole = IdMap::simple(1_000_000, 65_536).expect("a plain map");
        if whole.insert_all(&map).is_ok() {
            check(&whole);
        }
    }
    if let Ok(map) = IdMap::from_json(text) {
        check(&map);
    }
});
