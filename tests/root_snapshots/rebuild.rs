//! Another root file system for an instance that is there.

use crate::support::{Ask, Tree, state};

#[test]
fn a_new_root_and_all_else_as_it_was() {
    let Some(state) = state("a_new_root_and_all_else_as_it_was") else { return };
    let tree = Tree::new(&state);
    tree.file("etc/second", "second\n", 0o644);
    tree.import(&state, "second").good().unwrap();
    let nic = ["-d", "eth0,type=nic", "-d", "eth0,nictype=p2p"];
    state.launch("c1", &[&["-c", "user.x=1"], &nic[..]].concat()).good().unwrap();
    state.sh("c1", "touch /mine; rm /etc/group");
    let get = |key: &str| state.good(&["config", "get", "c1", key]).trim().to_string();
    let (uuid, mac, image) = (get("volatile.uuid"), get("volatile.eth0.hwaddr"), get("volatile.base_image"));
    let out = state.run(&["rebuild", "second", "c1"]);
    out.clean_failure().unwrap();
    assert!(out.stderr.contains("must be stopped"), "{out}");
    assert_eq!(state.sh("c1", "ls /mine"), "/mine");
    state.good(&["rebuild", "second", "c1", "-f"]);
    assert_eq!(state.status("c1").as_deref(), Some("RUNNING"), "what ran runs again");
    assert_eq!(state.sh("c1", "cat /etc/second; ls /mine /etc/group 2>/dev/null; true"), "second\n/etc/group");
    assert_eq!((get("volatile.uuid"), get("volatile.eth0.hwaddr"), get("user.x")), (uuid, mac, "1".into()));
    assert_ne!(get("volatile.base_image"), image);
    state.good(&["stop", "-f", "c1"]);
    state.good(&["rebuild", "--empty", "c1"]);
    assert!(!state.run(&["file", "pull", "c1/etc/second", "-"]).ok());
    state.good(&["rebuild", "test", "c1"]);
    state.good(&["start", "c1"]);
    assert_eq!(get("volatile.base_image"), image);
    for (words, said) in [
        ("rebuild test", "not enough arguments"),
        ("rebuild --empty test c1", "cannot be combined"),
        ("rebuild nope c1 -f", "not found"),
        ("rebuild test c9", "Instance not found"),
    ] {
        let out = state.run(&words.split(' ').collect::<Vec<_>>());
        out.clean_failure().unwrap();
        assert!(out.stderr.contains(said), "{out}");
    }
    state.good(&["snapshot", "create", "c1"]);
    let out = state.run(&["rebuild", "test", "c1", "-f"]);
    assert!(out.stderr.contains("that has snapshots"), "{out}");
    state.finish();
}
