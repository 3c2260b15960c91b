//! The documents, names and challenges of registries.
#![no_main]

use libfuzzer_sys::fuzz_target;
use stapes::base::url::Url;
use stapes::image::oci::document::{Document, choose, config, parse};
use stapes::image::oci::reference::Reference;
use stapes::image::oci::{auth, registry};

fuzz_target!(|text: &[u8]| {
    match parse(text, "") {
        Ok(Document::Index(entries)) => {
            for arch in ["x86_64", "aarch64", "arm"] {
                if let Ok(chosen) = choose(&entries, arch) {
                    assert!(entries.iter().any(|entry| entry.what == *chosen));
                }
            }
        }
        Ok(Document::Manifest(manifest)) => {
            for what in manifest.layers.iter().chain([&manifest.config]) {
                assert!(what.digest.hex().len() == 64 && what.digest.hex().bytes().all(|b| b.is_ascii_hexdigit()));
            }
        }
        Err(_) => {}
    }
    if let Ok(config) = config(text) {
        assert!(config.cwd.starts_with('/') && config.args.iter().chain(&config.env).all(|t| !t.contains('\0')));
    }
    let _ = auth::token(text).map(|token| assert!(token.bytes().all(|b| b.is_ascii_graphic())));
    let _ = auth::of_helper(text);
    let Ok(text) = std::str::from_utf8(text) else { return };
    let _ = auth::challenge([text].into_iter());
    if let Ok(reference) = Reference::parse(text) {
        let server = Url::parse("https://registry.example/folder").expect("good");
        let (base, repository) = registry::address(&server, &reference);
        let url = base.below(&format!("v2/{repository}/manifests/{}", reference.wanted())).expect("names are sound");
        assert!(url.path.starts_with("/v2/folder/") && url.path.split('/').all(|part| part != ".."));
    }
});
