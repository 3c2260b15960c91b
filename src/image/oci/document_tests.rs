use super::*;
use crate::error::Kind;

fn digest(n: u8) -> String {
    Digest::of(&[n]).to_string()
}

fn entry(os: &str, arch: &str, variant: &str, n: u8) -> Entry {
    let what = Descriptor { media_type: String::new(), digest: Digest::of(&[n]), size: 1 };
    Entry { what, platform: Some([os.into(), arch.into(), variant.into()]), name: None }
}

#[test]
fn our_platform_is_chosen() {
    let all = [
        entry("windows", "amd64", "", 0),
        entry("linux", "amd64", "v3", 1),
        entry("linux", "amd64", "", 2),
        entry("linux", "arm", "v5", 3),
        entry("linux", "arm", "v7", 4),
        entry("linux", "arm64", "v8", 5),
        entry("unknown", "unknown", "", 6),
    ];
    let of = |arch| choose(&all, arch).map(|d| d.digest.to_string()).ok();
    assert_eq!((of("x86_64"), of("arm"), of("aarch64")), (Some(digest(2)), Some(digest(4)), Some(digest(5))));
    assert_eq!(choose(&all, "riscv64").expect_err("none").to_string(), "The image has nothing for linux/riscv64");
    // An instruction set that this machine may not have is not taken.
    assert!(choose(&all[..2], "x86_64").is_err());
    let lone = [Entry { platform: None, ..entry("", "", "", 7) }];
    assert_eq!(choose(&lone, "s390x").expect("the only one").digest, Digest::of(&[7]));
}

#[test]
fn manifests_and_indexes() {
    let layer = |kind: &str| {
        format!(
            r#"{{"schemaVersion": 2, "config": {{"mediaType": "{}", "digest": "{}", "size": 3}},
            "layers": [{{"mediaType": "{kind}", "digest": "{}", "size": 5}}]}}"#,
            CONFIGS[1],
            digest(1),
            digest(2)
        )
    };
    for kind in LAYERS {
        let good = parse(layer(kind).as_bytes(), "application/vnd.docker.distribution.manifest.v2+json; charset=x");
        let Document::Manifest(manifest) = good.expect("good") else { panic!("a manifest") };
        assert_eq!((manifest.layers[0].size, manifest.config.digest), (5, Digest::of(&[1])));
    }
    let kind = |text: &str, media: &str| parse(text.as_bytes(), media).expect_err(text).kind();
    assert_eq!(kind(&layer("application/x"), ""), Kind::Unsupported);
    assert_eq!(kind(&layer(LAYERS[0]), INDEXES[0]), Kind::Unsupported);
    let index = format!(
        r#"{{"schemaVersion": 2, "mediaType": "{}", "manifests": [{{"digest": "{}", "size": 9,
        "platform": {{"os": "linux", "architecture": "amd64", "variant": null}}}}]}}"#,
        INDEXES[1],
        digest(3)
    );
    let Document::Index(entries) = parse(index.as_bytes(), "text/html").expect("good") else { panic!("an index") };
    assert_eq!(entries[0].platform, Some(["linux".into(), "amd64".into(), String::new()]));
    // Two readings of one text, an old schema, and what is no manifest at all.
    assert_eq!(kind(r#"{"schemaVersion": 2, "manifests": [], "layers": []}"#, ""), Kind::Invalid);
    assert_eq!(kind(r#"{"schemaVersion": 1, "layers": []}"#, ""), Kind::Unsupported);
    assert_eq!(kind("[]", ""), Kind::Invalid);
    assert_eq!(kind("<html>", MANIFESTS[0]), Kind::Invalid);
    for size in ["-1", "1.5", "\"1\"", "null", "99999999999999999"] {
        assert_eq!(kind(&layer(LAYERS[0]).replace("\"size\": 5", &format!("\"size\": {size}")), ""), Kind::Invalid);
    }
}

#[test]
fn configurations() {
    let text = format!(
        r#"{{"os": "linux", "architecture": "arm64", "created": "0001-01-01T00:00:00Z",
            "rootfs": {{"type": "layers", "diff_ids": ["{}"]}},
            "config": {{"Entrypoint": ["/e", "x"], "Cmd": ["y"], "Env": ["A=b"], "User": "app:grp", "WorkingDir": "w",
                        "Volumes": {{"/v": {{}}}}, "StopSignal": "SIGUSR1"}}}}"#,
        digest(1)
    );
    let read = config(text.as_bytes()).expect("good");
    assert_eq!((read.architecture, read.created.as_second(), read.cwd.as_str()), ("aarch64", 1, "/w"));
    assert_eq!(
        (read.args.join(" "), read.user, read.stop_signal),
        ("/e x y".into(), "app:grp".into(), "SIGUSR1".into())
    );
    let empty = config(br#"{"os": "linux", "architecture": "amd64", "config": null}"#).expect("good");
    assert_eq!((empty.args.len(), empty.cwd.as_str()), (0, "/"));
    for bad in [
        r#"{"os": "windows", "architecture": "amd64"}"#,
        r#"{"os": "linux", "architecture": "z80"}"#,
        r#"{"os": "linux", "architecture": "amd64", "config": {"Env": ["A\u0000"]}}"#,
        r#"{"os": "linux", "architecture": "amd64", "config": {"User": "a\nb"}}"#,
        r#"{"os": "linux", "architecture": "amd64", "config": {"Cmd": "sh"}}"#,
        r#"{"os": "linux", "architecture": "amd64", "rootfs": {"diff_ids": ["../x"]}}"#,
    ] {
        assert!(config(bad.as_bytes()).is_err(), "{bad}");
    }
}
