//! Snapshots of one instance: taken, shown, restored, renamed, deleted.

use crate::common_root::{PATIENCE, run};
use crate::support::{Ask, state};
use crate::tree::{FACTS, FILL};

/// What damages it.
const SPOIL: &str =
    "cd /data && echo other >file && rm -r deep fifo link && mkdir link && mv full empty && echo g >/etc/group";

#[test]
fn what_was_comes_back() {
    let Some(state) = state("what_was_comes_back") else { return };
    state.launch("c1", &[]).good().unwrap();
    state.sh("c1", FILL);
    let before = state.sh("c1", FACTS);
    assert_eq!(state.good(&["snapshot", "create", "c1"]), "Instance snapshot name is: snap0\n");
    state.sh("c1", SPOIL);
    let spoilt = state.sh("c1", FACTS);
    assert_ne!(spoilt, before);
    assert_eq!(state.good(&["snapshot", "create", "c1", "later"]), "");
    let first = state.init("c1");
    state.good(&["snapshot", "restore", "c1", "snap0"]);
    assert_eq!(state.status("c1").as_deref(), Some("RUNNING"), "what ran runs again");
    assert_ne!(state.init("c1"), first);
    assert_eq!(state.sh("c1", FACTS), before);
    assert!(!state.try_sh("c1", "ls /etc/group").ok(), "what was deleted stays deleted");
    // To any of them, also the later one, and of a stopped instance, which stays stopped.
    state.good(&["stop", "-f", "c1"]);
    state.good(&["snapshot", "restore", "c1", "later"]);
    assert_eq!(state.status("c1").as_deref(), Some("STOPPED"));
    state.good(&["start", "c1"]);
    assert_eq!(state.sh("c1", FACTS), spoilt);
    // A snapshot does not change with the instance, nor go with another one.
    state.sh("c1", "rm -r /data");
    state.good(&["snapshot", "delete", "c1", "later"]);
    state.good(&["snapshot", "restore", "c1", "snap0"]);
    assert_eq!(state.sh("c1", FACTS), before);
    state.finish();
}

#[test]
fn files_are_of_one_moment() {
    let Some(state) = state("files_are_of_one_moment") else { return };
    state.launch("c1", &[]).good().unwrap();
    // The second file never is ahead of the first, and never more than one behind.
    let writer = "mkdir /a /z; echo 0 >/a/n; echo 0 >/z/n; (n=0; while :; do n=$((n+1)); echo $n >/a/t; mv /a/t /a/n; \
         echo $n >/z/t; mv /z/t /z/n; done) >/dev/null 2>&1 &";
    state.sh("c1", writer);
    for _ in 0..5 {
        state.good(&["snapshot", "create", "c1"]);
    }
    let n = |text: String| text.trim().parse::<i64>().unwrap();
    let last = n(state.sh("c1", "cat /a/n"));
    crate::support::until("the writer to go on", || n(state.sh("c1", "cat /a/n")) > last);
    for number in 0..5 {
        let name = format!("s{number}");
        state.good(&["copy", &format!("c1/snap{number}"), &name]);
        let pull = |file: &str| n(state.good(&["file", "pull", &format!("{name}/{file}"), "-"]));
        let (a, z) = (pull("a/n"), pull("z/n"));
        assert!(a - z == 0 || a - z == 1, "{name}: {a} and {z}");
    }
    state.good(&["pause", "c1"]);
    state.good(&["snapshot", "create", "c1"]);
    assert_eq!(state.status("c1").as_deref(), Some("FROZEN"), "whoever froze it thaws it");
    state.finish();
}

#[test]
fn configuration_comes_back_and_identity_stays() {
    let Some(state) = state("configuration_comes_back_and_identity_stays") else { return };
    let nic = ["-d", "eth0,type=nic", "-d", "eth0,nictype=p2p"];
    state.launch("c1", &[&["-c", "user.x=old"], &nic[..]].concat()).good().unwrap();
    state.good(&["snapshot", "create", "c1", "s1"]);
    let get = |key: &str| state.good(&["config", "get", "c1", key]).trim().to_string();
    let (uuid, mac) = (get("volatile.uuid"), get("volatile.eth0.hwaddr"));
    assert!(!mac.is_empty());
    state.good(&["config", "set", "c1", "user.x=new", "user.y=1"]);
    state.good(&["profile", "create", "p1"]);
    state.good(&["profile", "add", "c1", "p1"]);
    state.good(&["profile", "set", "p1", "user.z=p1"]);
    state.good(&["config", "device", "add", "c1", "lan", "nic", "nictype=p2p"]);
    state.sh("c1", "touch /new");
    state.good(&["snapshot", "create", "c1", "s2"]);
    // With what its profiles say.
    let of = |words: &[&str]| state.good(&[&["config"], words].concat());
    assert_eq!((of(&["get", "c1/s2", "user.z"]), of(&["get", "c1/s2", "user.z", "-e"])), ("\n".into(), "p1\n".into()));
    let (own, all) = (of(&["show", "c1/s2"]), of(&["show", "c1/s2", "-e"]));
    assert_eq!((own.matches("user.z: p1").count(), all.matches("user.z: p1").count()), (1, 2), "{own}{all}");
    assert_eq!(own.matches("pool: default").count(), 1, "{own}");
    assert!(state.good(&["snapshot", "list", "c1", "-f", "json"]).contains(r#""expanded_devices":{"eth0""#));
    // The disk alone.
    state.good(&["snapshot", "restore", "c1", "s1", "--diskonly"]);
    assert_eq!((get("user.x"), get("user.y")), ("new".into(), "1".into()));
    assert!(!state.try_sh("c1", "ls /new").ok());
    state.good(&["snapshot", "restore", "c1", "s1"]);
    assert_eq!((get("user.x"), get("user.y")), ("old".into(), String::new()));
    let shown = state.good(&["config", "show", "c1"]);
    assert!(!shown.contains("p1") && !shown.contains("lan"), "{shown}");
    assert_eq!((get("volatile.uuid"), get("volatile.eth0.hwaddr")), (uuid, mac));
    // A profile that is gone by now: refused, and nothing happened to what runs.
    state.good(&["profile", "delete", "p1"]);
    let init = state.init("c1");
    let out = state.run(&["snapshot", "restore", "c1", "s2"]);
    out.clean_failure().unwrap();
    assert!(out.stderr.contains("Requested profile \"p1\" doesn't exist"), "{out}");
    assert_eq!((state.init("c1"), get("user.x")), (init, "old".into()));
    state.finish();
}

#[test]
fn names_dates_and_lists() {
    let Some(state) = state("names_dates_and_lists") else { return };
    state.good(&["create", "test", "c1", "-c", "snapshots.expiry=1d", "-c", "snapshots.pattern=x%d-y"]);
    for expected in ["x0-y", "x1-y"] {
        assert_eq!(state.good(&["snapshot", "create", "c1"]), format!("Instance snapshot name is: {expected}\n"));
    }
    state.good(&["delete", "c1"]);
    state.good(&["create", "test", "c1", "-c", "snapshots.expiry=1d"]);
    state.good(&["snapshot", "create", "c1", "a"]);
    state.good(&["snapshot", "create", "c1", "b", "--no-expiry"]);
    state.good(&["snapshot", "create", "c1", "c", "--expiry", "2029/01/02 03:04 UTC"]);
    assert!(state.good(&["snapshot", "list", "c1", "-f", "csv", "-c", "E"]).contains("2029/01/02 03:04 UTC"));
    state.good(&["snapshot", "create", "c1", "c", "--reuse", "--expiry", "2030-01-02T03:04:05Z"]);
    let document = "expires_at: 2031-01-02T03:04:05Z\n";
    run(state.command(&["snapshot", "create", "c1", "d"]), Some(document), PATIENCE).good().unwrap();
    let list = state.good(&["snapshot", "list", "c1", "-f", "csv", "-c", "nEs"]);
    let lines: Vec<&str> = list.lines().collect();
    assert!(lines[0].starts_with("a,20") && lines[1] == "b,\" \",NO", "{list}");
    assert_eq!(lines[2..], ["c,2030/01/02 03:04 UTC,NO", "d,2031/01/02 03:04 UTC,NO"], "{list}");
    let shown = state.good(&["snapshot", "show", "c1", "c"]);
    assert!(shown.starts_with("expires_at: 2030-01-02T03:04:05Z\n") && shown.contains("\nname: c\n"), "{shown}");
    assert_eq!(shown, state.good(&["config", "show", "c1/c"]));
    state.good(&["config", "set", "-p", "c1/c", "expires_at=2032-01-02T03:04:05Z"]);
    assert_eq!(state.good(&["config", "get", "-p", "c1/c", "expires_at"]), "2032-01-02T03:04:05Z\n");
    run(state.command(&["config", "edit", "c1/c"]), Some(document), PATIENCE).good().unwrap();
    assert!(state.good(&["snapshot", "show", "c1", "c"]).starts_with("expires_at: 2031"));
    state.good(&["snapshot", "rename", "c1", "c", "e"]);
    assert!(state.good(&["list", "-f", "csv", "-c", "nS"]).contains("c1,4"));
    let info = state.good(&["info", "c1"]);
    assert!(info.contains("Snapshots:") && info.contains("| e "), "{info}");
    // Replaced in place.
    state.good(&["config", "set", "c1", "user.x=1"]);
    state.good(&["snapshot", "create", "c1", "e", "--reuse"]);
    assert!(state.good(&["snapshot", "show", "c1", "e"]).contains("user.x: \"1\""));
    // With the instance they get its new name, and go with it.
    state.good(&["rename", "c1", "c2"]);
    state.good(&["snapshot", "restore", "c2", "a"]);
    state.good(&["snapshot", "delete", "c2", "a", "b"]);
    assert_eq!(state.good(&["snapshot", "list", "c2", "-f", "csv", "-c", "n"]), "d\ne\n");
    state.good(&["delete", "c2"]);
    let pool = state.dir.join("state/pools/default/data/containers-snapshots");
    assert_eq!(std::fs::read_dir(pool).unwrap().count(), 0);
    state.finish();
}

#[test]
fn wrong_words() {
    let Some(state) = state("wrong_words") else { return };
    state.good(&["create", "test", "c1"]);
    state.good(&["snapshot", "create", "c1", "s1"]);
    for (words, said) in [
        ("snapshot create c1 s1", "Snapshot \"c1/s1\" already exists"),
        ("snapshot create c1 ../x", "Invalid"),
        ("snapshot create c1 a/b", "Invalid"),
        ("snapshot create c9", "Instance not found"),
        ("snapshot create c1 s2 --expiry never", "Invalid expiration date"),
        ("snapshot create c1 s2 --expiry 1d --no-expiry", "Can't use both"),
        ("snapshot create c1 s2 --stateful", "isn't supported yet"),
        ("snapshot create c1 --reuse", "--reuse needs the name"),
        ("snapshot delete c1 nope", "Instance snapshot not found"),
        ("snapshot delete c1 ../s1", "Instance snapshot not found"),
        ("snapshot restore c1 nope", "Instance snapshot not found"),
        ("snapshot restore c9 s1", "Instance not found"),
        ("snapshot rename c1 s1 s1", "already in use"),
        ("snapshot rename c1 s1 ..", "Invalid"),
        ("snapshot rename c1 nope s3", "Instance snapshot not found"),
        ("snapshot show c1 nope", "Instance snapshot not found"),
        ("snapshot list c9", "Instance not found"),
        ("config set c1/s1 user.x=1", "There is no config key to set on an instance snapshot"),
        ("config set -p c1/s1 name=x", "does not exist"),
    ] {
        let out = state.run(&words.split(' ').collect::<Vec<_>>());
        out.clean_failure().unwrap();
        assert!(out.stderr.contains(said), "{out}");
    }
    for pattern in ["{{ config }}", "%d%d", "{% include \"/etc/shadow\" %}", "a b"] {
        state.good(&["config", "set", "c1", &format!("snapshots.pattern={pattern}")]);
        let out = state.run(&["snapshot", "create", "c1"]);
        out.clean_failure().unwrap();
        assert!(out.stderr.contains("by the pattern"), "{out}");
    }
    assert_eq!(state.good(&["snapshot", "list", "c1", "-f", "csv", "-c", "n"]), "s1\n");
    state.finish();
}

#[test]
fn a_hundred_leave_the_root_flat() {
    let Some(state) = state("a_hundred_leave_the_root_flat") else { return };
    state.launch("c1", &[]).good().unwrap();
    for n in 0..if crate::common_root::brief() { 10 } else { 100 } {
        if n % 10 == 0 {
            state.sh("c1", &format!("echo {n} >/root/n"));
        }
        state.good(&["snapshot", "create", "c1"]);
    }
    state.good(&["snapshot", "restore", "c1", "snap5"]);
    assert_eq!(state.sh("c1", "cat /root/n"), "0");
    let mount = state.sh("c1", "grep ' / ' /proc/mounts");
    let lower = mount.split(',').find_map(|o| o.strip_prefix("lowerdir=").map(|l| l.split(':').count()));
    assert!(lower.is_none_or(|n| n == 1), "{mount}");
    state.finish();
}

#[test]
fn ephemeral_ones_have_snapshots() {
    let Some(state) = state("ephemeral_ones_have_snapshots") else { return };
    state.launch("c1", &["-e"]).good().unwrap();
    state.sh("c1", "touch /one");
    state.good(&["snapshot", "create", "c1"]);
    state.sh("c1", "touch /two");
    state.good(&["snapshot", "restore", "c1", "snap0"]);
    assert_eq!(state.sh("c1", "ls -d /one /two 2>/dev/null; true"), "/one");
    assert!(state.good(&["config", "show", "c1"]).contains("ephemeral: true"));
    state.good(&["stop", "-f", "c1"]);
    state.wait_status("c1", None);
    state.finish();
}
