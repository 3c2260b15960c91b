//! What projects share: profiles and volumes of the default one, or their own; and instances that go from one to the other.

use super::support::{Ask, state};
use super::{at, good, make, refused, with_input};

/// A profile that two projects use reaches the instances of both, also those that run.
#[test]
fn profiles_of_the_default_project_reach_all_that_share_them() {
    let Some(state) = state("profiles_that_are_shared") else { return };
    make(&state, "p1", &["features.profiles=false"]);
    make(&state, "p2", &[]);
    state.good(&["profile", "create", "web"]);
    for project in ["default", "p1"] {
        good(&state, project, &["launch", "test", "c1", "-p", "default", "-p", "web"]);
    }
    at(&state, "p2", &["create", "test", "c1", "-p", "web"]).clean_failure().unwrap();
    assert_eq!(good(&state, "p1", &["profile", "list", "-f", "csv", "-c", "nu"]), "default,2\nweb,2\n");
    assert_eq!(good(&state, "p2", &["profile", "list", "-f", "csv", "-c", "nu"]), "default,0\n");
    let all = state.good(&["profile", "list", "--all-projects", "-f", "csv", "-c", "en"]);
    assert_eq!(all, "default,default\ndefault,web\np2,default\n");
    let shown = state.good(&["profile", "show", "web"]);
    assert!(shown.contains("- /1.0/instances/c1\n- /1.0/instances/c1?project=p1\n"), "{shown}");
    // From either side; a disk comes into both.
    good(&state, "p1", &["profile", "device", "add", "web", "tmp", "disk", "source=tmpfs:", "path=/mnt/tmp"]);
    for project in ["default", "p1"] {
        let mounts = good(&state, project, &["exec", "c1", "--", "cat", "/proc/mounts"]);
        assert!(mounts.contains(" /mnt/tmp tmpfs "), "not in {project}: {mounts}");
    }
    // What one of them refuses is refused for both.
    good(&state, "p1", &["config", "set", "c1", "user.own=1"]);
    refused(&state, &["profile", "set", "web", "security.privileged=maybe"], "Invalid");
    refused(&state, &["profile", "delete", "web"], "Profile is currently in use");
    good(&state, "p1", &["profile", "rename", "web", "site"]);
    for project in ["default", "p1"] {
        let config = good(&state, project, &["config", "show", "c1"]);
        assert!(config.contains("- site\n") && !config.contains("- web\n"), "{project}: {config}");
        assert!(good(&state, project, &["config", "show", "c1", "-e"]).contains("source: 'tmpfs:'"), "{project}");
    }
    state.good(&["delete", "-f", "c1"]);
    state.good(&["project", "delete", "-f", "p1", "p2"]);
    state.good(&["profile", "delete", "site"]);
    state.finish();
}

#[test]
fn volumes_are_a_projects_own_or_shared() {
    let Some(state) = state("volumes_of_projects") else { return };
    make(&state, "p1", &["features.storage.volumes=false"]);
    make(&state, "p2", &[]);
    for project in ["default", "p2"] {
        good(&state, project, &["storage", "volume", "create", "default", "v1", &format!("user.of={project}")]);
    }
    for (project, of) in [("default", "default"), ("p1", "default"), ("p2", "p2")] {
        let got = good(&state, project, &["storage", "volume", "get", "default", "v1", "user.of"]);
        assert_eq!(got, format!("{of}\n"));
        good(&state, project, &["launch", "test", "c1"]);
        good(&state, project, &["storage", "volume", "attach", "default", "v1", "c1", "data", "/data"]);
        good(&state, project, &["exec", "c1", "--", "sh", "-c", &format!("echo {project} >> /data/who")]);
    }
    assert_eq!(state.good(&["exec", "c1", "--", "cat", "/data/who"]), "default\np1\n");
    assert_eq!(good(&state, "p2", &["exec", "c1", "--", "cat", "/data/who"]), "p2\n");
    refused(&state, &["storage", "volume", "delete", "default", "v1"], "still in use");
    state.good(&["delete", "-f", "c1"]);
    refused(&state, &["storage", "volume", "delete", "default", "v1"], "still in use");
    state.good(&["project", "delete", "-f", "p1", "p2"]);
    state.good(&["storage", "volume", "delete", "default", "v1"]);
    state.finish();
}

#[test]
fn instances_and_volumes_go_from_one_to_another() {
    let Some(state) = state("instances_between_projects") else { return };
    make(&state, "p1", &[]);
    state.good(&["launch", "test", "c1", "-c", "user.a=b"]);
    // Of images each is told of its own.
    let volumes = ["storage", "volume", "list", "default", "-f", "csv", "-c", "t"];
    assert_eq!(state.good(&volumes), "container\nimage\n");
    assert_eq!(good(&state, "p1", &volumes), "image\n");
    state.good(&["project", "create", "p0"]);
    assert_eq!(good(&state, "p0", &volumes), "");
    state.good(&["project", "delete", "p0"]);
    state.good(&["exec", "c1", "--", "sh", "-c", "echo one > /root/file"]);
    state.good(&["snapshot", "create", "c1", "s1"]);
    state.good(&["copy", "c1", "c1", "--target-project", "p1"]);
    good(&state, "p1", &["start", "c1"]);
    assert_eq!(good(&state, "p1", &["exec", "c1", "--", "cat", "/root/file"]), "one\n");
    assert_eq!(good(&state, "p1", &["snapshot", "list", "c1", "-f", "csv", "-c", "n"]), "s1\n");
    assert_eq!(
        state.good(&["list", "--all-projects", "-f", "csv", "-c", "ens"]),
        "default,c1,RUNNING\np1,c1,RUNNING\n"
    );
    // Each is one's own: what happens to one is nothing to the other.
    good(&state, "p1", &["exec", "c1", "--", "rm", "/root/file"]);
    assert_eq!(state.good(&["exec", "c1", "--", "cat", "/root/file"]), "one\n");
    state.good(&["stop", "-f", "c1"]);
    refused(&state, &["move", "c1", "c1", "--target-project", "p1"], "already exists");
    state.good(&["move", "c1", "c2", "--target-project", "p1"]);
    assert_eq!(state.good(&["list", "--all-projects", "-f", "csv", "-c", "en"]), "p1,c1\np1,c2\n");
    good(&state, "p1", &["snapshot", "restore", "c2", "s1"]);
    good(&state, "p1", &["start", "c2"]);
    assert_eq!(good(&state, "p1", &["exec", "c2", "--", "cat", "/root/file"]), "one\n");
    state.good(&["storage", "volume", "create", "default", "v1"]);
    state.good(&["storage", "volume", "copy", "default/v1", "default/v1", "--target-project", "p1"]);
    let volumes = ["storage", "volume", "list", "default", "type=custom", "--all-projects", "-f", "csv", "-c", "en"];
    assert_eq!(state.good(&volumes), "default,v1\np1,v1\n");
    state.good(&["storage", "volume", "delete", "default", "v1"]);
    state.good(&["project", "delete", "-f", "p1"]);
    state.finish();
}

/// Where the profiles of a project have no root disk, or another one, an instance keeps the one it had.
#[test]
fn root_disks_go_along() {
    let Some(state) = state("root_disks_go_along") else { return };
    let preseed = "storage_pools: [{name: plain, driver: dir}]\n";
    with_input(&state, &["admin", "init", "--preseed"], preseed).good().unwrap();
    state.good(&["project", "create", "p1", "-c", "features.images=false"]);
    make(&state, "p2", &[]);
    good(&state, "p2", &["profile", "device", "set", "default", "root", "pool=plain"]);
    let pool = |project: &str, name: &str| good(&state, project, &["config", "device", "get", name, "root", "pool"]);
    let own = |project: &str, name: &str| {
        assert_eq!(pool(project, name), "default\n");
        assert_eq!(good(&state, project, &["list", name, "-f", "csv", "-c", "nP"]), format!("{name},default\n"));
        good(&state, project, &["snapshot", "restore", name, "s1"]);
        assert_eq!(pool(project, name), "default\n");
        good(&state, project, &["start", name]);
        good(&state, project, &["delete", "-f", name]);
    };
    for (name, verb, project) in [("c1", "copy", "p1"), ("c2", "move", "p1"), ("c3", "move", "p2")] {
        state.good(&["create", "test", name]);
        state.good(&["snapshot", "create", name, "s1"]);
        state.good(&[verb, name, name, "--target-project", project]);
        own(project, name);
    }
    // What is only copied is as the profiles say, if they do.
    state.good(&["copy", "c1", "c1", "--target-project", "p2"]);
    assert_eq!(good(&state, "p2", &["config", "show", "c1"]).matches("pool:").count(), 0);
    good(&state, "p2", &["delete", "c1"]);
    state.good(&["delete", "c1"]);
    good(&state, "p2", &["profile", "device", "remove", "default", "root"]);
    state.finish();
}
