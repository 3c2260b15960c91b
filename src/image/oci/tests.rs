use super::*;
use crate::error::Kind;
use std::cell::RefCell;
use std::collections::HashMap;

/// Serves what it was given, whatever that is.
struct Fake {
    top: Vec<u8>,
    blobs: HashMap<String, Vec<u8>>,
    asked: RefCell<usize>,
}

impl Source for Fake {
    fn top(&self) -> Result<(Vec<u8>, String)> {
        Ok((self.top.clone(), String::new()))
    }

    fn get(&self, what: &Descriptor, _: bool) -> Result<Vec<u8>> {
        *self.asked.borrow_mut() += 1;
        self.blobs.get(what.digest.hex()).cloned().ok_or_else(|| Error::not_found("no such blob"))
    }
}

fn config(arch: &str, layers: &[&str]) -> Vec<u8> {
    let ids: Vec<String> = layers.iter().map(|l| format!("\"{}\"", Digest::of(l.as_bytes()))).collect();
    format!(r#"{{"os": "linux", "architecture": "{arch}", "rootfs": {{"diff_ids": [{}]}}}}"#, ids.join(","))
        .into_bytes()
}

fn descriptor(kind: &str, bytes: &[u8]) -> String {
    format!(
        r#"{{"mediaType": "application/vnd.oci.image.{kind}", "digest": "{}", "size": {}}}"#,
        Digest::of(bytes),
        bytes.len()
    )
}

fn manifest(config: &[u8], layers: &[&str]) -> Vec<u8> {
    let layers: Vec<String> = layers.iter().map(|l| descriptor("layer.v1.tar", l.as_bytes())).collect();
    let config = descriptor("config.v1+json", config);
    format!(r#"{{"schemaVersion": 2, "config": {config}, "layers": [{}]}}"#, layers.join(",")).into_bytes()
}

fn fake(top: &[u8], blobs: &[&[u8]]) -> Fake {
    let blobs = blobs.iter().map(|b| (Digest::of(b).hex().to_string(), b.to_vec())).collect();
    Fake { top: top.to_vec(), blobs, asked: RefCell::new(0) }
}

fn own() -> &'static str {
    super::super::metadata::architecture(std::env::consts::ARCH).expect("known")
}

#[test]
fn from_the_name_to_the_layers() {
    let config = config(own(), &["a", "b"]);
    let manifest = manifest(&config, &["a", "b"]);
    let found = resolve(&fake(&manifest, &[&config])).expect("good");
    // As Incus computes it: sha256 of "sha256:…sha256:…".
    let joined = format!("{}{}", Digest::of(b"a"), Digest::of(b"b"));
    assert_eq!(found.fingerprint().as_str(), Digest::of(joined.as_bytes()).hex());
    assert_ne!(found.fingerprint(), found.own_fingerprint());
    assert_eq!((found.size(), found.digest.clone()), (2, Digest::of(&manifest)));
    assert_eq!(found.properties("x")["type"], "oci");
    let index = format!(r#"{{"schemaVersion": 2, "manifests": [{}]}}"#, descriptor("manifest.v1+json", &manifest));
    assert_eq!(resolve(&fake(index.as_bytes(), &[&manifest, &config])).expect("good"), found);
}

#[test]
fn cve_2026_33542_every_document_is_checked() {
    let config = config(own(), &["a"]);
    let good = manifest(&config, &["a"]);
    let kind = |source: &Fake| resolve(source).expect_err("refused").kind();
    let mut wrong = fake(&good, &[]);
    wrong.blobs.insert(Digest::of(&config).hex().to_string(), vec![b' '; config.len()]);
    assert_eq!(kind(&wrong), Kind::Invalid);
    wrong.blobs.insert(Digest::of(&config).hex().to_string(), config[1..].to_vec());
    assert_eq!(kind(&wrong), Kind::Invalid);
    assert_eq!(kind(&fake(&manifest(&config, &["a", "b"]), &[&config])), Kind::Invalid);
    let strange = self::config(if own() == "s390x" { "x86_64" } else { "s390x" }, &["a"]);
    assert_eq!(kind(&fake(&manifest(&strange, &["a"]), &[&strange])), Kind::NotFound);
    // A huge document is not even asked for.
    let huge = good.clone();
    let huge =
        String::from_utf8(huge).expect("text").replace(&format!("\"size\": {}", config.len()), "\"size\": 99999999");
    let source = fake(huge.as_bytes(), &[&config]);
    assert_eq!((kind(&source), *source.asked.borrow()), (Kind::Invalid, 0));
    // Indexes without end.
    let mut text = good;
    let mut blobs = vec![config];
    for _ in 0..4 {
        let index = format!(r#"{{"schemaVersion": 2, "manifests": [{}]}}"#, descriptor("index.v1+json", &text));
        blobs.push(std::mem::replace(&mut text, index.into_bytes()));
    }
    let blobs: Vec<&[u8]> = blobs.iter().map(Vec::as_slice).collect();
    assert_eq!(resolve(&fake(&text, &blobs)).expect_err("refused").to_string(), "Bad image: indexes lead to indexes");
}
