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
    state.good(&["storage", "volume", "snapshot", "create", "default", "v1", "s0"]);
    let all = "/1.0/storage-pools/default/volumes/custom/v1/snapshots";
    assert_eq!(get(all), serde_json::json!([format!("{all}/s0")]));
    assert_eq!(get(&format!("{all}?recursion=1"))[0]["name"], "v1/s0");
    assert_eq!(get(&format!("{all}/s0"))["name"], "s0");
    state.good(&["storage", "volume", "snapshot", "delete", "default", "v1", "s0"]);
    assert_eq!(get("/1.0")["api_version"], "1.0");
    let raw = json(&["query", "--raw", "local:/1.0/profiles/default"]);
    assert_eq!((&raw["type"], &raw["status_code"]), (&"sync".into(), &200.into()));
    assert_eq!(raw["metadata"], get("/1.0/profiles/default"));
    for (words, said) in [
        (&["query", "/1.0/nothing"][..], "Not Found"),
        (&["query", "/1.0/instances/c2"], "Instance not found"),
        (&["query", "/1.0/instances/..%2f"], "is reserved for snapshots"),
        (&["query", "1.0"], "must start with /"),
        (&["query", "-X", "DELETE", "/1.0/instances/c1"], "currently running"),
        (&["query", "-X", "DELETE", "/1.0/warnings/x"], "is not supported by this version"),
        (&["query", "-X", "BREW", "/1.0"], "isn't supported by this tool"),
        (&["query", "-X", "POST", "-d", "{", "/1.0/profiles"], "no JSON"),
    ] {
        let out = state.run(words);
        out.clean_failure().unwrap();
        assert!(out.stderr.contains(said), "{out}");
    }
    state.finish();
}

#[test]
fn objects_changed_by_their_addresses() {
    let Some(state) = state("objects_changed_by_their_addresses") else { return };
    let json = |text: &str| -> Value { serde_json::from_str(text).unwrap() };
    let get = |path: &str| json(&state.good(&["query", path]));
    let send =
        |method: &str, path: &str, data: Value| state.good(&["query", "-X", method, "-d", &data.to_string(), path]);
    let done = send(
        "POST",
        "/1.0/instances",
        serde_json::json!({
            "name": "c1", "source": {"type": "image", "alias": "test"}, "config": {"user.a": "1", "user.b": "é/\"\n"}, "start": true,
        }),
    );
    assert_eq!((&json(&done)["status"], &json(&done)["err"]), (&"Success".into(), &"".into()), "{done}");
    assert_eq!(get("/1.0/instances/c1")["config"]["user.b"], "é/\"\n");
    send("PATCH", "/1.0/instances/c1", serde_json::json!({"config": {"user.a": "2"}}));
    let now = get("/1.0/instances/c1");
    assert_eq!((&now["config"]["user.a"], &now["profiles"][0]), (&"2".into(), &"default".into()));
    send("POST", "/1.0/instances/c1/snapshots", serde_json::json!({"name": "s1"}));
    send("POST", "/1.0/instances/c1/snapshots/s1", serde_json::json!({"name": "s2"}));
    send("PUT", "/1.0/instances/c1/state", serde_json::json!({"action": "stop", "force": true}));
    assert_eq!(get("/1.0/instances/c1/state")["status"], "Stopped");
    send("PUT", "/1.0/instances/c1", serde_json::json!({"restore": "s2"}));
    send("POST", "/1.0/instances/c1", serde_json::json!({"name": "c2"}));
    send("POST", "/1.0/instances", serde_json::json!({"name": "c3", "source": {"type": "copy", "source": "c2"}}));
    assert_eq!(get("/1.0/instances/c3/snapshots").as_array().unwrap().len(), 1);
    state.good(&["query", "--wait", "-X", "DELETE", "/1.0/instances/c3/snapshots/s2"]);

    let put = serde_json::json!({"name": "x", "config": {"user.a": "1"}, "description": "d"});
    for (list, at, extra) in [
        ("/1.0/profiles", "/1.0/profiles/x", Value::Null),
        ("/1.0/projects", "/1.0/projects/x", Value::Null),
        ("/1.0/storage-pools", "/1.0/storage-pools/x", "dir".into()),
        ("/1.0/storage-pools/default/volumes/custom", "/1.0/storage-pools/default/volumes/custom/x", Value::Null),
    ] {
        let mut put = put.clone();
        if !extra.is_null() {
            put["driver"] = extra;
        }
        assert_eq!(send("POST", list, put), "", "{list}");
        send("PATCH", at, serde_json::json!({"config": {"user.b": "2"}}));
        let now = get(at);
        assert_eq!((&now["config"]["user.a"], &now["description"]), (&"1".into(), &"d".into()), "{now}");
        let mut whole = get(at);
        whole["description"] = "new".into();
        send("PUT", at, whole);
        assert_eq!(get(at)["description"], "new");
        state.good(&["query", "-X", "DELETE", at]);
        state.run(&["query", at]).clean_failure().unwrap();
    }
    send(
        "POST",
        "/1.0/images/aliases",
        serde_json::json!({"name": "a/b", "target": json(&state.good(&["image", "list", "-f", "json"]))[0]["fingerprint"]}),
    );
    state.good(&["query", "-X", "DELETE", "/1.0/images/aliases/a%2Fb"]);
    state.good(&["delete", "c2", "c3"]);
    state.finish();
}
