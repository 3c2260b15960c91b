//! `query`: objects by the addresses of Incus's API; each is what the command for it shows.

use crate::support::{Ask, state};
use serde_json::Value;

#[test]
fn objects_by_their_addresses() {
    let Some(state) = state("objects_by_their_addresses") else { return };
    state.launch("c1", &["-c", "user.x=a"]).good().unwrap();
    state.good(&["snapshot", "create", "c1", "s1"]);
    state.good(&["storage", "volume", "create", "default", "v1"]);
    state.good(&["project", "create", "p1"]);
    let json = |words: &[&str]| -> Value { serde_json::from_str(&state.good(words)).unwrap() };
    let get = |path: &str| json(&["query", path]);
    assert_eq!(get("/1.0/instances"), serde_json::json!(["/1.0/instances/c1"]));
    assert_eq!(get("/1.0/instances?project=p1"), serde_json::json!([]));
    assert_eq!(get("/1.0/instances/c1")["config"]["user.x"], "a");
    let running = get("/1.0/instances/c1/state");
    assert!(running["pid"].as_u64().unwrap() > 1 && running["status"] == "Running", "{running}");
    let listed = json(&["list", "c1", "-f", "json"]);
    assert_eq!(get("/1.0/instances/c1?recursion=1")["snapshots"], listed[0]["snapshots"]);
    assert_eq!(get("/1.0/instances/c1/snapshots"), serde_json::json!(["/1.0/instances/c1/snapshots/s1"]));
    assert_eq!(get("/1.0/instances/c1/snapshots/s1")["name"], "s1");
    for (address, command) in [
        ("/1.0/images?recursion=1", &["image", "list", "-f", "json"][..]),
        ("/1.0/profiles?recursion=1", &["profile", "list", "-f", "json"]),
        ("/1.0/projects?recursion=1", &["project", "list", "-f", "json"]),
        ("/1.0/storage-pools?recursion=1", &["storage", "list", "-f", "json"]),
        ("/1.0/networks?recursion=1", &["network", "list", "-f", "json"]),
        ("/1.0/images/aliases?recursion=1", &["image", "alias", "list", "-f", "json"]),
    ] {
        assert_eq!(get(address), json(command), "{address}");
    }
    assert_eq!(get("/1.0/storage-pools/default/volumes/custom/v1")["name"], "v1");
    assert_eq!(get("/1.0/storage-pools/default/volumes/custom").as_array().unwrap().len(), 1);
    assert_eq!(get("/1.0")["api_version"], "1.0");
    let raw = json(&["query", "--raw", "local:/1.0/profiles/default"]);
    assert_eq!((&raw["type"], &raw["status_code"]), (&"sync".into(), &200.into()));
    assert_eq!(raw["metadata"], get("/1.0/profiles/default"));
    for (words, said) in [
        (&["query", "/1.0/nothing"][..], "Not Found"),
        (&["query", "/1.0/instances/c2"], "Instance not found"),
        (&["query", "/1.0/instances/..%2f"], "is reserved for snapshots"),
        (&["query", "1.0"], "must start with /"),
        (&["query", "-X", "DELETE", "/1.0/instances/c1"], "GET"),
    ] {
        let out = state.run(words);
        out.clean_failure().unwrap();
        assert!(out.stderr.contains(said), "{out}");
    }
    state.finish();
}
