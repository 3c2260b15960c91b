//! An image's `metadata.yaml`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use stapes::image::metadata::Metadata;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(metadata) = Metadata::parse(bytes) {
        let _ = (metadata.created(), metadata.expires());
        let text = metadata.to_yaml().expect("what was read can be written");
        assert_eq!(Metadata::parse(text.as_bytes()).expect("and read again"), metadata);
    }
});
