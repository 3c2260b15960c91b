//! Copies and moves: the same inside, another identity outside.

use crate::common_root::{PATIENCE, State, run};
use crate::support::{Ask, state};
use crate::tree::{FACTS, FILL};

/// A second pool `plain` with the driver `dir`.
fn second_pool(state: &State) {
    let text = "storage_pools: [{name: plain, driver: dir}]\n";
    run(state.command(&["admin", "init", "--preseed"]), Some(text), PATIENCE).good().unwrap();
}

fn get(state: &State, name: &str, key: &str) -> String {
    state.good(&["config", "get", name, key]).trim().to_string()
}

#[test]
fn a_copy_is_alike_inside_and_another_outside() {
    let Some(state) = state("a_copy_is_alike_inside_and_another_outside") else { return };
    let nic = ["-d", "eth0,type=nic", "-d", "eth0,nictype=p2p"];
    state.launch("c1", &[&["-c", "user.x=old"], &nic[..]].concat()).good().unwrap();
    state.sh("c1", FILL);
    let before = state.sh("c1", FACTS);
    state.good(&["snapshot", "create", "c1", "s1"]);
    state.sh("c1", "touch /later");
    state.good(&["copy", "c1", "c2", "-c", "user.y=1", "-d", "eth0,name=lan0"]);
    assert_eq!(state.status("c1").as_deref(), Some("RUNNING"));
    assert_eq!((get(&state, "c2", "user.x"), get(&state, "c2", "user.y")), ("old".into(), "1".into()));
    for key in ["volatile.uuid", "volatile.eth0.hwaddr", "volatile.cloud-init.instance-id"] {
        let (one, two) = (get(&state, "c1", key), get(&state, "c2", key));
        assert!(!one.is_empty() && !two.is_empty() && one != two, "{key}: {one:?} {two:?}");
    }
    state.good(&["start", "c2"]);
    assert_eq!(state.sh("c2", FACTS), before);
    assert_eq!(state.sh("c2", "ls /later; ls /sys/class/net | grep lan0"), "/later\nlan0");
    assert_eq!(state.good(&["snapshot", "list", "c2", "-f", "csv", "-c", "n"]), "s1\n");
    let mac = get(&state, "c2", "volatile.eth0.hwaddr");
    state.good(&["snapshot", "restore", "c2", "s1"]);
    assert!(!state.try_sh("c2", "ls /later").ok());
    assert_eq!(get(&state, "c2", "volatile.eth0.hwaddr"), mac, "not the source's");
    // Of a snapshot; without snapshots; one that goes with its end; without a name.
    state.good(&["copy", "c1/s1", "c3", "-e"]);
    state.good(&["start", "c3"]);
    assert!(!state.try_sh("c3", "ls /later").ok());
    state.good(&["stop", "-f", "c3"]);
    state.wait_status("c3", None);
    state.good(&["copy", "c1", "c4", "--instance-only", "--no-profiles", "-s", "default"]);
    assert_eq!(state.good(&["snapshot", "list", "c4", "-f", "csv"]), "");
    let said = state.good(&["copy", "c1"]);
    let name = said.trim().strip_prefix("Instance name is: ").unwrap().to_string();
    assert_eq!(state.status(&name).as_deref(), Some("STOPPED"));
    // They do not need each other.
    state.good(&["delete", "-f", "c1"]);
    state.good(&["start", &name]);
    assert_eq!(state.sh(&name, FACTS), before);
    state.finish();
}

#[test]
fn between_pools_nothing_is_lost() {
    let Some(state) = state("between_pools_nothing_is_lost") else { return };
    second_pool(&state);
    state.launch("c1", &[]).good().unwrap();
    // What a layer hides stays hidden: a folder that was replaced, files that were deleted.
    state.sh("c1", "rm -r /home /var; mkdir /home; touch /home/new; rm /etc/passwd");
    state.sh("c1", FILL);
    let facts = format!("{FACTS}; ls -a /home /var /etc/passwd 2>&1; true");
    let before = state.sh("c1", &facts);
    state.good(&["snapshot", "create", "c1", "s1"]);
    state.good(&["copy", "c1", "c2", "-s", "plain"]);
    state.good(&["start", "c2"]);
    assert_eq!(state.sh("c2", &facts), before);
    state.sh("c2", "rm -r /data");
    state.good(&["snapshot", "restore", "c2", "s1"]);
    assert_eq!(state.sh("c2", &facts), before);
    // And back, where it came from.
    let out = state.run(&["move", "c2", "-s", "default"]);
    out.clean_failure().unwrap();
    assert!(out.stderr.contains("must be stopped"), "{out}");
    state.good(&["stop", "-f", "c2"]);
    let uuid = get(&state, "c2", "volatile.uuid");
    state.good(&["move", "c2", "c3", "-s", "default"]);
    assert_eq!(get(&state, "c3", "volatile.uuid"), uuid, "it is the same one");
    assert!(state.good(&["list", "-f", "csv", "-c", "nbS"]).contains("c3,default,1"));
    let left = std::fs::read_dir(state.dir.join("state/pools/plain/data/containers")).unwrap().count();
    assert_eq!(left, 0, "nothing of it stays behind");
    state.good(&["start", "c3"]);
    assert_eq!(state.sh("c3", &facts), before);
    state.good(&["snapshot", "restore", "c3", "s1"]);
    assert_eq!(state.sh("c3", &facts), before);
    state.finish();
}

#[test]
fn a_copy_is_brought_up_to_date() {
    let Some(state) = state("a_copy_is_brought_up_to_date") else { return };
    second_pool(&state);
    state.launch("c1", &["-c", "user.x=1"]).good().unwrap();
    state.good(&["snapshot", "create", "c1", "s1"]);
    state.good(&["copy", "c1", "c2", "--refresh"]);
    state.good(&["copy", "c1", "c3", "-s", "plain"]);
    let uuid = get(&state, "c2", "volatile.uuid");
    state.good(&["config", "set", "c2", "user.x=2"]);
    state.good(&["snapshot", "create", "c2", "own"]);
    state.sh("c1", FILL);
    state.good(&["snapshot", "create", "c1", "s2"]);
    state.good(&["snapshot", "delete", "c1", "s1"]);
    state.sh("c1", "touch /data/last");
    let facts = state.sh("c1", FACTS);
    for name in ["c2", "c3"] {
        state.good(&["copy", "c1", name, "--refresh"]);
        assert_eq!(state.good(&["snapshot", "list", name, "-f", "csv", "-c", "n"]), "s2\n", "{name}");
        state.good(&["start", name]);
        assert_eq!(state.sh(name, FACTS), facts, "{name}");
        let out = state.run(&["copy", "c1", name, "--refresh"]);
        out.clean_failure().unwrap();
        assert!(out.stderr.contains("Cannot refresh a running instance"), "{out}");
        state.good(&["snapshot", "restore", name, "s2"]);
        assert!(!state.try_sh(name, "ls /data/last").ok());
        state.good(&["stop", "-f", name]);
    }
    assert_eq!((get(&state, "c2", "volatile.uuid"), get(&state, "c2", "user.x")), (uuid, "1".into()));
    // Replaced at the source by another of its name; older ones left out.
    state.good(&["snapshot", "create", "c1", "s0"]);
    state.good(&["snapshot", "create", "c1", "s2", "--reuse"]);
    state.good(&["copy", "c1", "c2", "--refresh"]);
    state.good(&["snapshot", "restore", "c2", "s2"]);
    state.good(&["start", "c2"]);
    assert_eq!(state.sh("c2", "ls /data/last"), "/data/last");
    state.good(&["snapshot", "delete", "c2", "s0"]);
    state.good(&["stop", "-f", "c2"]);
    state.good(&["copy", "c1", "c2", "--refresh", "--refresh-exclude-older"]);
    assert_eq!(state.good(&["snapshot", "list", "c2", "-f", "csv", "-c", "n"]), "s2\n");
    state.finish();
}

#[test]
fn a_move_takes_what_is_asked_for() {
    let Some(state) = state("a_move_takes_what_is_asked_for") else { return };
    second_pool(&state);
    state.good(&["create", "test", "c1"]);
    state.good(&["config", "device", "add", "c1", "t", "disk", "source=tmpfs:", "path=/t"]);
    state.good(&["snapshot", "create", "c1", "s1"]);
    state.good(&["move", "c1", "-s", "plain", "-d", "t,path=/u", "-c", "user.x=1"]);
    let shown = state.good(&["config", "show", "c1"]);
    assert!(["pool: plain", "path: /u\n", "user.x: \"1\""].iter().all(|there| shown.contains(there)), "{shown}");
    assert_eq!(state.good(&["snapshot", "list", "c1", "-f", "csv", "-c", "n"]), "s1\n");
    state.good(&["move", "c1", "c2", "-s", "default", "--instance-only"]);
    assert_eq!(state.good(&["snapshot", "list", "c2", "-f", "csv", "-c", "n"]), "");
    // Of one that never ran the templates for new ones are due, whatever it is called now.
    assert_eq!(get(&state, "c2", "volatile.apply_template"), "create");
    state.good(&["start", "c2"]);
    state.good(&["stop", "-f", "c2"]);
    state.good(&["rename", "c2", "c3"]);
    assert_eq!(get(&state, "c3", "volatile.apply_template"), "rename");
    state.finish();
}

#[test]
fn a_copy_is_configured_anew() {
    let Some(state) = state("a_copy_is_configured_anew") else { return };
    second_pool(&state);
    let nic = ["-d", "eth0,type=nic", "-d", "eth0,nictype=p2p"];
    state.good(&[&["create", "test", "c1", "-c", "user.x=1"], &nic[..]].concat());
    state.good(&["copy", "c1", "c2", "-s", "plain", "-d", "eth0,hwaddr=10:66:6a:00:00:07"]);
    state.good(&["profile", "create", "p1"]);
    state.good(&["profile", "add", "c1", "p1"]);
    state.good(&["config", "set", "c1", "user.y=1"]);
    state.good(&["config", "unset", "c1", "user.x"]);
    state.good(&["config", "device", "set", "c1", "eth0", "mtu=1400"]);
    state.good(&["config", "device", "add", "c1", "t", "disk", "source=tmpfs:", "path=/t"]);
    state.good(&["config", "set", "-p", "c1", "description=Mine"]);
    state.good(&["config", "set", "c2", "user.own=1"]);
    state.good(&["config", "device", "add", "c2", "own", "disk", "source=tmpfs:", "path=/own"]);
    let uuid = get(&state, "c2", "volatile.uuid");
    state.good(&["copy", "c1", "c2", "--refresh", "-c", "user.z=1"]);
    let keys = ["user.x", "user.y", "user.z", "user.own"].map(|key| get(&state, "c2", key));
    assert_eq!(keys, ["", "1", "1", ""]);
    let shown = state.good(&["config", "show", "c2"]);
    for there in ["- default\n- p1\n", "description: Mine", "path: /t\n", "pool: plain", "10:66:6a:00:00:07", &uuid] {
        assert!(shown.contains(there), "{there} in {shown}");
    }
    assert!(!shown.contains("/own") && !shown.contains("mtu"), "{shown}");
    state.good(&["copy", "c1", "c2", "--refresh", "-p", "default", "-d", "t,path=/u"]);
    let shown = state.good(&["config", "show", "c2"]);
    assert!(!shown.contains("p1") && !shown.contains("user.z") && shown.contains("path: /u\n"), "{shown}");
    for (words, said) in [
        (&["--no-profiles"][..], "--no-profiles cannot be used with --refresh"),
        (&["-c", "no.such=1"], "nknown"),
        (&["-p", "nope"], "Requested profile \"nope\" doesn't exist"),
    ] {
        let out = state.run(&[&["copy", "c1", "c2", "--refresh"], words].concat());
        out.clean_failure().unwrap();
        assert!(out.stderr.contains(said), "{out}");
    }
    state.good(&["start", "c2"]);
    state.finish();
}

#[test]
fn an_image_of_a_snapshot() {
    let Some(state) = state("an_image_of_a_snapshot") else { return };
    state.launch("c1", &[]).good().unwrap();
    state.sh("c1", FILL);
    let facts = state.sh("c1", FACTS);
    state.good(&["snapshot", "create", "c1", "s1"]);
    state.sh("c1", "rm -r /data");
    let init = state.init("c1");
    state.good(&["publish", "c1/s1", "--alias", "made", "--compression", "zstd"]);
    assert_eq!(state.init("c1"), init, "what runs is left alone");
    state.good(&["launch", "made", "c2"]);
    assert_eq!(state.sh("c2", FACTS), facts);
    // One that compresses as only a bomb does is none: it is our own, also on another pool.
    second_pool(&state);
    state.sh("c2", "dd if=/dev/zero of=/zeros bs=1M count=200 2>/dev/null");
    state.good(&["publish", "c2", "-f", "--alias", "zeros", "--compression", "zstd"]);
    state.good(&["create", "zeros", "c3", "-s", "plain"]);
    state.finish();
}

#[test]
fn wrong_words_for_copies() {
    let Some(state) = state("wrong_words_for_copies") else { return };
    state.good(&["create", "test", "c1"]);
    state.good(&["create", "test", "c2"]);
    for (words, said) in [
        ("copy c1 c2", "already exists"),
        ("copy c1 c1", "already exists"),
        ("copy c9 c3", "Instance not found"),
        ("copy c1/s9 c3", "Instance snapshot not found"),
        ("copy c1 c_3", "Invalid"),
        ("copy c1 c3 -s nope", "not found"),
        ("copy c1 c3 -p nope", "Requested profile \"nope\" doesn't exist"),
        ("copy c1 c3 -c no.such=1", "nknown"),
        ("copy c1 c3 --target-project nope", "Project not found"),
        ("copy c1 c3 --mode sideways", "Invalid transfer mode"),
        ("copy c1 c3 -d eth9,name=x", "Device not found"),
        ("move c1 c2", "already in use"),
        ("move c1", "You must specify"),
        ("move c9 c3", "Instance not found"),
        ("move c1/s1 c3", "Snapshots can't be moved"),
        ("move c1 -s nope", "not found"),
    ] {
        let out = state.run(&words.split(' ').collect::<Vec<_>>());
        out.clean_failure().unwrap();
        assert!(out.stderr.contains(said), "{out}");
    }
    assert_eq!(state.instances().unwrap().len(), 2);
    state.finish();
}
