use super::*;
use crate::base::names::{Fingerprint, InstanceName, ProjectName};
use crate::base::yaml::{GoList, GoMap};
use crate::base::{json, yaml};
use crate::model::expand::tests::{instance, map, profile};
use crate::model::image::{Alias, Image, ImageSource};
use crate::model::instance::{InstanceType, Volatile};
use crate::model::pool::Pool;
use crate::model::project::Project;
use crate::model::status::Status;
use std::collections::BTreeMap;

fn view() -> InstanceView {
    let mut i = instance(&[("limits.cpu", "2"), ("image.os", "Debian")], &[]);
    i.created_at = "2026-08-22T15:32:15.123456789Z".parse().expect("time");
    let root: &[(&str, &str)] = &[("type", "disk"), ("path", "/"), ("pool", "default")];
    let p = profile(&[("user.x", "<1>")], &[("root", root)]);
    let volatile = Volatile { format: 1, last_used_at: None, config: map(&[("volatile.last_state.idmap", "[]")]) };
    InstanceView::new(InstanceParts {
        project: &ProjectName::default(),
        name: &InstanceName::parse("c1").expect("name"),
        instance: &i,
        volatile: &volatile,
        profiles: &[("default", &p)],
        status: Status::Stopped,
    })
}

#[test]
fn config_show() {
    let want = "architecture: x86_64
config:
  image.os: Debian
  limits.cpu: \"2\"
  volatile.last_state.idmap: '[]'
devices: {}
ephemeral: false
profiles:
- default
stateful: false
description: \"\"
";
    assert_eq!(yaml::to_string(&view().put).expect("yaml"), want);
    let back: InstancePut = yaml::from_str(want).expect("read");
    assert_eq!(back, view().put);
    let expanded = yaml::to_string(&view().expanded_put()).expect("yaml");
    assert!(
        expanded.contains("  user.x: <1>\n") && expanded.contains("devices:\n  root:\n    path: /\n"),
        "{expanded}"
    );
}

#[test]
fn list_json() {
    let full = InstanceFull { instance: view(), backups: GoList::default(), state: None, snapshots: GoList::default() };
    let want = concat!(
        r#"{"architecture":"x86_64","config":{"image.os":"Debian","limits.cpu":"2","volatile.last_state.idmap":"[]"},"#,
        r#""devices":{},"ephemeral":false,"profiles":["default"],"stateful":false,"description":"","#,
        r#""created_at":"2026-08-22T15:32:15.123456789Z","#,
        r#""expanded_config":{"image.os":"Debian","limits.cpu":"2","user.x":"\u003c1\u003e","volatile.last_state.idmap":"[]"},"#,
        r#""expanded_devices":{"root":{"path":"/","pool":"default","type":"disk"}},"name":"c1","status":"Stopped","#,
        r#""status_code":102,"last_used_at":"1970-01-01T00:00:00Z","location":"none","type":"container","#,
        r#""project":"default","backups":null,"state":null,"snapshots":null}"#
    );
    assert_eq!(json::to_string(&full).expect("json"), want);
    let text = yaml::to_string(&full).expect("yaml");
    assert!(text.ends_with("project: default\nbackups: []\nstate: null\nsnapshots: []\n"), "{text}");
    assert!(text.contains("\ncreated_at: 2026-08-22T15:32:15.123456789Z\n"), "{text}");
}

#[test]
fn state_shape() {
    let mut state = InstanceState::new(Status::Running);
    state.disk = GoMap(Some(BTreeMap::from([("root".to_string(), DiskState { usage: 5, total: 0 })])));
    let want = concat!(
        r#"{"status":"Running","status_code":103,"disk":{"root":{"usage":5,"total":0}},"#,
        r#""memory":{"usage":0,"usage_peak":0,"total":0,"swap_usage":0,"swap_usage_peak":0},"network":null,"pid":0,"#,
        r#""processes":0,"cpu":{"usage":0,"allocated_time":0},"started_at":"0001-01-01T00:00:00Z","os_info":null}"#
    );
    assert_eq!(json::to_string(&state).expect("json"), want);
    let net = json::to_string(&NetworkState::default()).expect("json");
    assert!(
        net.starts_with(r#"{"addresses":null,"counters":{"bytes_received":0,"bytes_sent":0,"packets_received":0,"#),
        "{net}"
    );
    assert!(net.ends_with(r#""hwaddr":"","host_name":"","mtu":0,"state":"","type":""}"#), "{net}");
}

#[test]
fn snapshot_order() {
    let none = crate::base::time::GoTime(None);
    let s = SnapshotView {
        expires_at: none,
        architecture: "x86_64".into(),
        config: map(&[]),
        created_at: none,
        description: String::new(),
        devices: BTreeMap::new(),
        ephemeral: false,
        expanded_config: map(&[("a", "1")]),
        expanded_devices: BTreeMap::new(),
        last_used_at: none,
        name: "s".into(),
        profiles: vec![],
        stateful: false,
        size: -1,
    };
    let text = yaml::to_string(&s).expect("yaml");
    let keys: Vec<&str> = text.lines().filter(|l| !l.starts_with(' ')).filter_map(|l| l.split(':').next()).collect();
    let want = "expires_at architecture config created_at description devices ephemeral expanded_config last_used_at name profiles stateful size";
    assert_eq!(keys.join(" "), want);
}

#[test]
fn others() {
    let p = profile(&[("limits.cpu", "1")], &[]);
    let used = vec![url::instance("default", "c1"), url::instance("team", "c2")];
    assert_eq!(
        yaml::to_string(&ProfileView::new("default", "default", &p, used)).expect("yaml"),
        "config:\n  limits.cpu: \"1\"\ndescription: \"\"\ndevices: {}\nname: default\nused_by:\n- /1.0/instances/c1\n\
         - /1.0/instances/c2?project=team\nproject: default\n"
    );
    let pool = Pool { format: 1, driver: "dir".into(), description: String::new(), config: map(&[("source", "/x")]) };
    assert_eq!(
        json::to_string(&PoolView::new(
            "p",
            &pool,
            vec![url::profile("default", "x"), url::image("default", "f")],
            true
        ))
        .expect("json"),
        r#"{"config":{"source":"/x"},"description":"","name":"p","driver":"dir","used_by":["/1.0/images/f","/1.0/profiles/x"],"status":"Created","locations":["none"]}"#
    );
    let project = Project { format: 1, description: "d".into(), config: map(&[]) };
    assert_eq!(
        yaml::to_string(&ProjectView::new("t", &project, vec![])).expect("yaml"),
        "config: {}\ndescription: d\nname: t\nused_by: []\n"
    );
    let put: ProfilePut = yaml::from_str("config:\n  limits.cpu: 2\ndevices: null\nname: ignored\n").expect("put");
    assert_eq!(put.config["limits.cpu"], "2");
}

#[test]
fn images() {
    let time = "2026-01-02T03:04:05Z".parse().expect("time");
    let image = Image {
        content: None,
        format: 1,
        kind: InstanceType::Container,
        architecture: "x86_64".into(),
        size: 7,
        filename: "f.tar".into(),
        split: false,
        public: true,
        cached: true,
        auto_update: false,
        created_at: time,
        uploaded_at: time,
        expires_at: None,
        last_used_at: None,
        source: Some(ImageSource {
            server: "https://x".into(),
            protocol: "simplestreams".into(),
            alias: "debian/12".into(),
        }),
        profiles: vec!["default".into()],
        properties: map(&[("os", "Debian")]),
    };
    let alias = Alias { target: "f".into(), kind: InstanceType::Container, description: "d".into() };
    let fingerprint = Fingerprint::parse(&"ab".repeat(32)).expect("fp");
    let v = ImageView::new(ImageParts {
        project: &ProjectName::default(),
        fingerprint: &fingerprint,
        image: &image,
        aliases: &[("deb", &alias)],
    });
    let want = format!(
        concat!(
            r#"{{"auto_update":false,"properties":{{"os":"Debian"}},"public":true,"expires_at":"0001-01-01T00:00:00Z","profiles":["default"],"#,
            r#""aliases":[{{"name":"deb","description":"d"}}],"architecture":"x86_64","cached":true,"filename":"f.tar","fingerprint":"{}","size":7,"#,
            r#""update_source":{{"alias":"debian/12","certificate":"","protocol":"simplestreams","server":"https://x","image_type":"container"}},"#,
            r#""type":"container","created_at":"2026-01-02T03:04:05Z","last_used_at":"0001-01-01T00:00:00Z","uploaded_at":"2026-01-02T03:04:05Z","project":"default","locations":["none"]}}"#
        ),
        fingerprint
    );
    assert_eq!(json::to_string(&v).expect("json"), want);
    let entry = json::to_string(&AliasEntryView::new("deb", &alias)).expect("json");
    assert_eq!(entry, r#"{"description":"d","target":"f","name":"deb","type":"container"}"#);
    let edited: ImagePut = yaml::from_str(&yaml::to_string(&v.put).expect("yaml")).expect("put");
    assert_eq!(edited, v.put);
}

#[test]
fn urls() {
    assert_eq!(url::snapshot("p", "c1", "a b:1"), "/1.0/instances/c1/snapshots/a%20b:1?project=p");
    assert_eq!(url::volume("default", "p", "v"), "/1.0/storage-pools/p/volumes/custom/v");
    assert_eq!((url::project("t"), url::pool("p")), ("/1.0/projects/t".into(), "/1.0/storage-pools/p".into()));
}
