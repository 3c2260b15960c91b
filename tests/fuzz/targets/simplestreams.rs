//! The lists of image servers.
#![no_main]

use libfuzzer_sys::fuzz_target;
use stapes::base::url::Url;
use stapes::image::simplestreams::{Files, find, lists, offers};
use stapes::model::instance::InstanceType;

fuzz_target!(|text: &[u8]| {
    let server = Url::parse("https://images.example/folder").expect("good");
    for path in lists(text).unwrap_or_default() {
        let _ = server.below(&path);
    }
    let Ok(all) = offers(&[text.to_vec()]) else { return };
    for offer in &all {
        let files = match &offer.files {
            Files::Unified(file) => vec![file],
            Files::Split(metadata, root) => vec![metadata, root],
        };
        for file in files {
            let url = server.below(&file.path).expect("paths of offers are sound");
            assert!(url.path.starts_with("/folder/") && url.path.split('/').all(|part| part != ".."));
            assert!(file.size > 0 && file.sha256.len() == 64);
        }
        assert!(offer.properties.values().all(|value| !value.contains(char::is_control)));
        for name in offer.names() {
            find(&all, &name, offer.kind).expect("every name finds an image");
        }
        let _ = find(&all, &offer.fingerprint.as_str()[..8], InstanceType::Container);
    }
});
