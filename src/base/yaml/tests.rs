use super::*;
use proptest::prelude::*;

#[derive(Serialize)]
struct Show {
    architecture: String,
    config: BTreeMap<String, String>,
    devices: BTreeMap<String, BTreeMap<String, String>>,
    ephemeral: bool,
    profiles: Vec<String>,
    created_at: crate::base::time::GoTime,
    nothing: Option<u32>,
    description: String,
}

fn map(entries: &[(&str, &str)]) -> BTreeMap<String, String> {
    entries.iter().map(|(k, v)| ((*k).to_string(), (*v).to_string())).collect()
}

#[test]
fn looks_like_incus() {
    let show = Show {
        architecture: "x86_64".into(),
        config: map(&[
            ("limits.cpu", "2"),
            ("security.nesting", "true"),
            ("user.note", "yes"),
            ("user.when", "12:30:45"),
            ("cloud-init.user-data", "#cloud-config\npackages:\n- vim\n\n  x\n"),
            ("image.description", "Debian bookworm (20240101_05:24)"),
            ("volatile.idmap.next", "[{\"Isuid\":true}]"),
        ]),
        devices: [("root".to_string(), map(&[("path", "/"), ("pool", "default"), ("type", "disk")]))].into(),
        ephemeral: false,
        profiles: vec!["default".into()],
        created_at: Default::default(),
        nothing: None,
        description: String::new(),
    };
    let want = r#"architecture: x86_64
config:
  cloud-init.user-data: |
    #cloud-config
    packages:
    - vim

      x
  image.description: Debian bookworm (20240101_05:24)
  limits.cpu: "2"
  security.nesting: "true"
  user.note: "yes"
  user.when: "12:30:45"
  volatile.idmap.next: '[{"Isuid":true}]'
devices:
  root:
    path: /
    pool: default
    type: disk
ephemeral: false
profiles:
- default
created_at: 0001-01-01T00:00:00Z
nothing: null
description: ""
"#;
    assert_eq!(to_string(&show).expect("yaml"), want);
}

#[test]
fn empties_and_nesting() {
    assert_eq!(to_string(&map(&[])).expect("yaml"), "{}\n");
    assert_eq!(to_string(&Vec::<u8>::new()).expect("yaml"), "[]\n");
    let list = vec![map(&[("name", "a"), ("type", "x")]), map(&[])];
    assert_eq!(to_string(&list).expect("yaml"), "- name: a\n  type: x\n- {}\n");
    let deep = BTreeMap::from([("k", vec![vec![1, 2], vec![]])]);
    assert_eq!(to_string(&deep).expect("yaml"), "k:\n- - 1\n  - 2\n- []\n");
}

#[test]
fn strings() {
    let line = |v: &str| to_string(&BTreeMap::from([("k", v)])).expect("yaml");
    for (value, want) in [
        ("plain text", "k: plain text\n"),
        ("a: b", "k: 'a: b'\n"),
        ("a #b", "k: 'a #b'\n"),
        ("#a", "k: '#a'\n"),
        ("it's", "k: it's\n"),
        ("'x", "k: '''x'\n"),
        (" x", "k: ' x'\n"),
        ("- x", "k: '- x'\n"),
        ("-x", "k: -x\n"),
        ("---", "k: '---'\n"),
        ("tab\there", "k: \"tab\\there\"\n"),
        ("\u{1b}[0m", "k: \"\\e[0m\"\n"),
        ("0x1f", "k: \"0x1f\"\n"),
        ("010", "k: \"010\"\n"),
        ("1e3", "k: \"1e3\"\n"),
        ("1.5GiB", "k: 1.5GiB\n"),
        ("10.0.3.1", "k: 10.0.3.1\n"),
        ("2024-01-01", "k: \"2024-01-01\"\n"),
        ("10:66:6a:00:00:01", "k: 10:66:6a:00:00:01\n"),
        ("10:56:50:00:00:01", "k: \"10:56:50:00:00:01\"\n"),
        ("grüße", "k: grüße\n"),
        ("a\nb", "k: |-\n  a\n  b\n"),
        ("a\n\n", "k: |+\n  a\n\n"),
        ("  a\nb\n", "k: |2\n    a\n  b\n"),
        ("a \nb", "k: \"a \\nb\"\n"),
        ("\n", "k: \"\\n\"\n"),
    ] {
        assert_eq!(line(value), want, "{value:?}");
    }
}

#[test]
fn go_key_order() {
    let keys = ["eth10", "eth2", "eth2a", "a.b", "a-b", "ab", "Z", "limits.cpu", "limits.cpu.allowance", "limits"];
    let mut sorted = keys.to_vec();
    sorted.sort_by(|a, b| emit::key_order(a, b));
    let want = ["Z", "a-b", "a.b", "ab", "eth2", "eth2a", "eth10", "limits", "limits.cpu", "limits.cpu.allowance"];
    assert_eq!(sorted, want);
}

#[derive(Deserialize, Debug, PartialEq)]
struct Edited {
    #[serde(default, deserialize_with = "config")]
    config: BTreeMap<String, String>,
    #[serde(default, deserialize_with = "devices")]
    devices: BTreeMap<String, BTreeMap<String, String>>,
    #[serde(default, deserialize_with = "text")]
    description: String,
    #[serde(default, deserialize_with = "list")]
    profiles: Vec<String>,
    #[serde(default)]
    stateful: bool,
}

#[test]
fn reads_as_go() {
    let text = "config:\n  limits.cpu: 2\n  a: true\n  b: 0755\n  c: null\n  d: ~\n  e: \"\"\n\
                devices:\n  root:\n    readonly: yes\n  x:\ndescription: null\nprofiles:\nstateful: no\nunknown: 1\n";
    let edited: Edited = from_str(text).expect("yaml");
    assert_eq!(
        edited.config,
        map(&[("limits.cpu", "2"), ("a", "true"), ("b", "0755"), ("c", ""), ("d", ""), ("e", "")])
    );
    assert_eq!(edited.devices["root"], map(&[("readonly", "yes")]));
    assert!(
        edited.devices["x"].is_empty()
            && edited.description.is_empty()
            && edited.profiles.is_empty()
            && !edited.stateful
    );
    let json: Edited = from_str(r#"{"config":{"a":2,"b":true,"c":null},"devices":null}"#).expect("json");
    assert_eq!(json.config, map(&[("a", "2"), ("b", "true"), ("c", "")]));
    let wrong = |text: &str| from_str::<Edited>(text).expect_err("wrong").to_string();
    assert!(wrong("config: {a: 1, a: 2}").starts_with("line 1 column 16: duplicate mapping key: a"));
    assert_eq!(wrong("stateful: no\nconfig: {a: [1]}"), "line 2 column 13: expected string scalar");
    assert_eq!(wrong("devices: 3"), "line 1 column 10: expected mapping start");
    assert!(
        is_mapping("a: [1, 2]\n").is_ok()
            && is_mapping("").is_ok()
            && is_mapping("- a").is_err()
            && is_mapping("a: [").is_err()
    );
}

proptest! {
    /// Whatever is written reads back the same.
    #[test]
    fn reads_back(key in "[a-z.]{1,6}", value in "\\PC{0,12}|[ \\t\\n#:'\"a-c0-9,.+_-]{0,10}") {
        let written = BTreeMap::from([(key, value)]);
        let text = to_string(&written).expect("yaml");
        let back: BTreeMap<String, String> = match from_str(&text) {
            Ok(back) => back,
            Err(e) => return Err(TestCaseError::fail(format!("{text:?}: {e}"))),
        };
        prop_assert_eq!(back, written, "{}", text);
    }

    #[test]
    fn nested_reads_back(value in proptest::collection::btree_map("[a-z0-9]{1,4}", proptest::collection::vec("[a\\n :-]{0,5}", 0..3), 0..4)) {
        let text = to_string(&value).expect("yaml");
        let back: BTreeMap<String, Vec<String>> = match from_str(&text) {
            Ok(back) => back,
            Err(e) => return Err(TestCaseError::fail(format!("{text:?}: {e}"))),
        };
        prop_assert_eq!(back, value, "{}", text);
    }
}
