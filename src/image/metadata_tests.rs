//! Tests of metadata and layout.

use super::*;
use std::os::fd::AsFd;
use std::os::unix::fs::symlink;

const GOOD: &str = "architecture: amd64
creation_date: 1700000000
expiry_date: 1800000000
properties:
  os: Debian
  release: 12
  serial: 0755
  description: |
    Two
    lines
templates:
  /etc/hostname:
    when: [create, copy]
    template: hostname.tpl
    properties: ~
  /etc/hosts: {when: [start], create_only: no, template: hosts.tpl, uid: 5, mode: 0600}
";

#[test]
fn real_metadata() {
    let m = Metadata::parse(GOOD.as_bytes()).expect("good");
    assert_eq!(m.architecture, "x86_64");
    assert_eq!(m.properties["release"], "12");
    assert_eq!(m.properties["serial"], "0755");
    assert_eq!(m.properties["description"], "Two lines ");
    assert_eq!(m.templates["/etc/hosts"].uid, "5");
    assert_eq!(m.templates["/etc/hosts"].mode, "0600");
    assert!(m.expires().expect("date").is_some());
    assert_eq!(Metadata::parse(m.to_yaml().expect("yaml").as_bytes()).expect("again"), m);
    let json = br#"{"architecture":"x86_64","creation_date":1,"properties":{"os":"x"},"other":[1,2]}"#;
    assert_eq!(Metadata::parse(json).expect("json").properties["os"], "x");
}

fn with(line: &str) -> String {
    format!("architecture: x86_64\ncreation_date: 1\n{line}")
}

#[test]
fn bad_metadata_is_an_error_not_a_panic() {
    for bad in [
        "",
        "- a\n- b",
        "architecture: x86_64",
        "creation_date: 1",
        "architecture: z80\ncreation_date: 1",
        "architecture: x86_64\ncreation_date: 99999999999999999",
        "architecture: x86_64\ncreation_date: -5",
        "architecture: [1]\ncreation_date: 1",
        "\u{0}",
        "a: *x",
        &with("properties: {\"a\\nb\": x}"),
        &with("properties: {a: \"x\\u0007\"}"),
        &with("properties: [a]"),
        &with("templates: {\"/x\": {template: a, mode: 99}}"),
        &with("templates: {\"/x\": {template: a, uid: root}}"),
        &with("templates: {\"/x\": {template: a, when: [\"a\\u0001\"]}}"),
        &with("templates: {\"\": {template: a}}"),
    ] {
        assert!(Metadata::parse(bad.as_bytes()).is_err(), "{bad}");
    }
    assert!(Metadata::parse(&vec![b'#'; METADATA_MAX as usize + 1]).is_err());
    assert!(Metadata::parse(&[0xff, 0xfe]).is_err());
}

#[test]
fn cve_2026_48752_template_names_are_bare() {
    for bad in ["", ".", "..", "../x", "a/b", "/etc/passwd", "a\\nb", "a\\0b"] {
        let text = with(&format!("templates: {{\"/x\": {{template: \"{bad}\"}}}}"));
        assert!(Metadata::parse(text.as_bytes()).is_err(), "{bad}");
    }
}

#[test]
fn cve_2024_3056_yaml_bombs_end_early() {
    let mut bomb = String::from("a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n");
    for i in 1..30 {
        let many = vec![format!("*a{}", i - 1); 10].join(",");
        bomb.push_str(&format!("a{i}: &a{i} [{many}]\n"));
    }
    bomb.push_str("properties: *a29\n");
    assert!(Metadata::parse(with(&bomb).as_bytes()).is_err());
    let deep = with(&format!("x: {}{}", "[".repeat(100_000), "]".repeat(100_000)));
    assert!(Metadata::parse(deep.as_bytes()).is_err());
}

/// Each well-known name as each wrong kind.
#[test]
fn cve_2026_48750_layout_names_are_what_they_say() {
    let make = |wrong: Option<(&str, &str)>| {
        let dir = tempfile::tempdir().expect("temporary directory");
        let p = dir.path();
        std::fs::write(p.join("metadata.yaml"), "x").expect("write");
        std::fs::create_dir(p.join("rootfs")).expect("mkdir");
        std::fs::create_dir(p.join("templates")).expect("mkdir");
        std::fs::write(p.join("templates/a"), "x").expect("write");
        if let Some((name, kind)) = wrong {
            let at = p.join(name);
            let _ = std::fs::remove_file(&at);
            let _ = std::fs::remove_dir_all(&at);
            match kind {
                "abs" => symlink("/etc", &at).expect("symlink"),
                "file link" => symlink("/etc/passwd", &at).expect("symlink"),
                "rel" => symlink("rootfs", &at).expect("symlink"),
                "dir" => std::fs::create_dir(&at).expect("mkdir"),
                "file" => std::fs::write(&at, "x").expect("write"),
                "fifo" => nix::unistd::mkfifo(&at, nix::sys::stat::Mode::S_IRWXU).expect("mkfifo"),
                _ => {}
            }
        }
        let fd = path::open_root(p).expect("root");
        check_layout(fd.as_fd())
    };
    make(None).expect("good");
    for name in ["metadata.yaml", "rootfs", "templates", "config.json", "templates/a"] {
        for kind in ["abs", "file link", "rel", "fifo"] {
            assert!(make(Some((name, kind))).is_err(), "{name} as {kind}");
        }
    }
    assert!(make(Some(("templates", "missing"))).is_ok());
    for (name, kind) in [
        ("metadata.yaml", "missing"),
        ("rootfs", "missing"),
        ("metadata.yaml", "dir"),
        ("rootfs", "file"),
        ("templates/a", "dir"),
        ("backup.yaml", "file"),
        ("exec-output", "abs"),
        ("state", "dir"),
    ] {
        assert!(make(Some((name, kind))).is_err(), "{name} as {kind}");
    }
}
