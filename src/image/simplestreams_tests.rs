use super::*;

fn hash(n: u8) -> String {
    format!("{n:02x}").repeat(32)
}

/// A list of one product with the two versions; `meta` and `root` are put over the fields of the items of the newer one.
fn list(arch: &str, meta: &str, root: &str) -> Vec<u8> {
    let version = |n: u8, meta: &str, root: &str| {
        format!(
            r#"{{"items": {{
                "incus.tar.xz": {{"ftype": "incus.tar.xz", "path": "images/{n}/incus.tar.xz", "size": 10, "sha256": "{}",
                    "combined_squashfs_sha256": "{}", "combined_rootxz_sha256": "{}", "combined_disk-kvm-img_sha256": "{}" {meta}}},
                "root.squashfs": {{"ftype": "squashfs", "path": "images/{n}/rootfs.squashfs", "size": 100, "sha256": "{}" {root}}},
                "root.tar.xz": {{"ftype": "root.tar.xz", "path": "images/{n}/rootfs.tar.xz", "size": 90, "sha256": "{}"}},
                "disk.qcow2": {{"ftype": "disk-kvm.img", "path": "images/{n}/disk.qcow2", "size": 900, "sha256": "{}"}}
            }}}}"#,
            hash(n),
            hash(n + 1),
            hash(n + 2),
            hash(n + 3),
            hash(n + 4),
            hash(n + 5),
            hash(n + 6),
        )
    };
    let text = format!(
        r#"{{"content_id": "images", "datatype": "image-downloads", "format": "products:1.0", "products": {{
            "debian:bookworm:{arch}:default": {{"aliases": "debian/bookworm, debian/12,bad alias", "arch": "{arch}", "os": "Debian",
                "release": "bookworm", "release_title": "bookworm", "variant": "default", "support_eol": "2028-06-30",
                "requirements": {{"cgroup": "v2", "bad": "a\u0007"}},
                "versions": {{"20261101_05:24": {}, "20261120_05:24": {}}}}}}}}}"#,
        version(0x10, "", ""),
        version(0x20, meta, root)
    );
    text.into_bytes()
}

fn native() -> &'static str {
    if cfg!(target_arch = "x86_64") { "amd64" } else { "arm64" }
}

#[test]
fn the_index_names_lists_of_images() {
    let text = br#"{"format": "index:1.0", "index": {
        "images": {"datatype": "image-downloads", "path": "streams/v1/images.json", "products": ["a"]},
        "empty": {"datatype": "image-downloads", "path": "x", "products": []},
        "other": {"datatype": "content", "path": "y", "products": ["a"]}}}"#;
    assert_eq!(lists(text).expect("good"), ["streams/v1/images.json"]);
    assert!(lists(b"{}").expect("empty").is_empty());
    for bad in ["", "{\"index\": 3}", "<html>", &"[".repeat(10_000)] {
        assert!(
            lists(bad.as_bytes()).expect_err(bad).to_string().starts_with("The server's list of images is damaged")
        );
    }
}

#[test]
fn names_go_to_the_newest_of_the_preferred_type() {
    let all = offers(&[list(native(), "", "")]).expect("good");
    assert_eq!(all.len(), 6);
    let found = |name: &str, kind| find(&all, name, kind).map(|(o, by_name)| (o.fingerprint.to_string(), by_name));
    let container = InstanceType::Container;
    assert_eq!(found("debian/12", container).expect("short"), (hash(0x21), true));
    assert_eq!(found(&format!("debian/bookworm/{}", native()), container).expect("long"), (hash(0x21), true));
    assert_eq!(found("debian/12", InstanceType::VirtualMachine).expect("disk"), (hash(0x23), true));
    assert_eq!(found(&hash(0x11)[..10], container).expect("old"), (hash(0x11), false));
    assert_eq!(found("1", container).expect_err("several").to_string(), "More than one image matches");
    for name in ["debian/13", "debian", "", "debian/12/riscv64", "bad alias"] {
        assert!(found(name, container).expect_err(name).to_string().contains("not found"), "{name}");
    }
    let newest = &all[0];
    assert_eq!((newest.size(), newest.filename()), (110, "incus.tar.xz"));
    assert_eq!(newest.created_at.map(|t| t.to_string()).as_deref(), Some("2026-11-20T00:00:00Z"));
    assert_eq!(newest.expires_at.map(|t| t.to_string()).as_deref(), Some("2028-06-30T00:00:00Z"));
    assert_eq!(newest.properties["description"], format!("Debian bookworm {} (20261120_05:24)", native()));
    assert_eq!(newest.properties["requirements.cgroup"], "v2");
    assert!(!newest.properties.contains_key("requirements.bad") && newest.properties["type"] == "squashfs");
    // Only the newest root file system has the names; the tarball of the same version is found by fingerprint.
    assert_eq!(all.iter().filter(|o| o.kind == container && !o.aliases.is_empty()).count(), 1);
}

#[test]
fn images_of_other_architectures_have_long_names_only() {
    let all = offers(&[list("riscv64", "", "")]).expect("good");
    assert_eq!(all[0].names().collect::<Vec<_>>(), ["debian/bookworm/riscv64", "debian/12/riscv64"]);
    assert!(find(&all, "debian/12", InstanceType::Container).is_err());
    assert!(find(&all, "debian/12/riscv64", InstanceType::Container).is_ok());
    assert!(offers(&[list("pdp11", "", "")]).expect("good").is_empty());
}

#[test]
fn unsound_items_do_not_exist() {
    let newest = |meta: &str, root: &str| {
        let all = offers(&[list(native(), meta, root)]).expect("good");
        find(&all, "debian/12", InstanceType::Container).map(|(o, _)| o.fingerprint.to_string()).expect("some")
    };
    // Serde takes the last of two equal fields as an error: the lists below have each field once.
    let with = |text: &str, from: &str, to: &str| {
        let json = String::from_utf8(list(native(), "", "")).expect("text").replace(from, to);
        let all = offers(&[json.into_bytes()]).map_err(|e| e.to_string())?;
        Ok::<_, String>(all.iter().any(|o| o.fingerprint.as_str() == text))
    };
    assert_eq!(newest("", ""), hash(0x21));
    let gone = [
        ("images/32/rootfs.squashfs", "../../etc/passwd"),
        ("images/32/rootfs.squashfs", "/etc/passwd"),
        ("images/32/rootfs.squashfs", "https://evil.example/x"),
        ("images/32/rootfs.squashfs", "a\\r\\nHost: x"),
        (&hash(0x24), "../../../etc/shadow"),
        (&hash(0x21), "../../x"),
    ];
    for (from, to) in gone {
        assert_eq!(with(&hash(0x21), from, to), Ok(false), "{to}");
    }
    assert!(with(&hash(0x21), "\"size\": 100", "\"size\": -1").expect_err("negative").contains("damaged"));
    assert_eq!(with(&hash(0x21), "\"size\": 100", "\"size\": 0"), Ok(false));
    assert_eq!(with(&hash(0x21), "\"size\": 100", "\"size\": 9223372036854775807"), Ok(false));
}

#[test]
fn unified_images() {
    let json = format!(
        r#"{{"products": {{"p": {{"aliases": "x", "arch": "{}", "versions": {{"20260101_00:00": {{"items": {{
            "a": {{"ftype": "incus_combined.tar.gz", "path": "x.tar.gz", "size": 5, "sha256": "{}"}}}}}}}}}}}}}}"#,
        native(),
        hash(9)
    );
    let all = offers(&[json.into_bytes()]).expect("good");
    assert_eq!((all.len(), all[0].fingerprint.to_string()), (1, hash(9)));
    assert!(matches!(&all[0].files, Files::Unified(file) if file.size == 5));
}
