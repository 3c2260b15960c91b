//! Making, showing, changing, switching, renaming and deleting.

use super::support::{Ask, state};
use super::{at, good, make, refused, with_input};

#[test]
fn a_project_through_its_life() {
    let Some(state) = state("a_project_through_its_life") else { return };
    let made = state.good(&["project", "create", "p1", "-c", "user.a=b", "--description", "two words"]);
    assert_eq!(made, "Project p1 created\n");
    let all = state.good(&["project", "list", "-f", "csv", "-c", "npvwd"]);
    assert_eq!(all, "default (current),YES,YES,YES,Default Incus project\np1,YES,YES,NO,two words\n");
    let shown = state.good(&["project", "show", "p1"]);
    for part in
        ["  features.profiles: \"true\"\n", "  user.a: b\n", "name: p1\n", "- /1.0/profiles/default?project=p1\n"]
    {
        assert!(shown.contains(part), "{part:?} is not in {shown}");
    }
    state.good(&["project", "set", "p1", "user.a=c", "limits.containers=3"]);
    assert_eq!(state.good(&["project", "get", "p1", "user.a"]), "c\n");
    state.good(&["project", "unset", "p1", "limits.containers"]);
    assert_eq!(state.good(&["project", "get", "p1", "limits.containers"]), "\n");
    state.good(&["project", "set", "-p", "p1", "description=other"]);
    assert_eq!(state.good(&["project", "get", "-p", "p1", "description"]), "other\n");
    with_input(&state, &["project", "edit", "p1"], "config: {features.profiles: true, user.z: 1}\n").good().unwrap();
    assert_eq!(state.good(&["project", "get", "p1", "user.z"]), "1\n");
    assert_eq!(state.good(&["project", "rename", "p1", "p2"]), "Project p1 renamed to p2\n");
    with_input(&state, &["project", "create", "p3"], "description: from a file\nconfig: {user.x: y}\n").good().unwrap();
    assert_eq!(state.good(&["project", "get", "p3", "user.x"]), "y\n");
    assert_eq!(state.good(&["project", "delete", "p2", "p3"]), "Project p2 deleted\nProject p3 deleted\n");
    assert_eq!(state.good(&["project", "list", "-f", "csv", "-c", "n"]), "default (current)\n");
    state.finish();
}

#[test]
fn one_is_switched_to() {
    let Some(state) = state("one_is_switched_to") else { return };
    make(&state, "p1", &[]);
    state.good(&["project", "switch", "p1"]);
    assert_eq!(state.good(&["project", "get-current"]), "p1\n");
    state.good(&["create", "test", "c1"]);
    assert_eq!(good(&state, "default", &["list", "-f", "csv", "-c", "n"]), "");
    assert_eq!(state.good(&["list", "-f", "csv", "-c", "n"]), "c1\n");
    assert_eq!(state.good(&["list", "--all-projects", "-f", "csv", "-c", "en"]), "p1,c1\n");
    state.good(&["delete", "c1"]);
    // It stays the one in use under its new name, and is none any more when it has gone.
    state.good(&["project", "rename", "p1", "p2"]);
    assert_eq!(state.good(&["project", "get-current"]), "p2\n");
    state.good(&["project", "delete", "p2"]);
    assert_eq!(state.good(&["project", "get-current"]), "default\n");
    refused(&state, &["project", "switch", "p2"], "Project not found");
    state.good(&["remote", "list"]);
    state.finish();
}

#[test]
fn what_is_refused() {
    let Some(state) = state("projects_what_is_refused") else { return };
    make(&state, "p1", &[]);
    refused(&state, &["project", "create", "p1"], "Project \"p1\" already exists");
    for bad in ["", ".", "..", "a/b", "a b", "-a", "a\nb", "*", "a_b", &"x".repeat(300)] {
        state.run(&["project", "create", "--", bad]).clean_failure().unwrap();
    }
    refused(&state, &["project", "create", "p2", "-c", "foo=1"], "Invalid project configuration key \"foo\"");
    refused(&state, &["project", "create", "p2", "-c", "limits.instances=-1"], "\"limits.instances\" value");
    refused(&state, &["project", "create", "p2", "-c", "features.networks=true"], "OVN is required");
    refused(&state, &["project", "delete", "default"], "The 'default' project cannot be deleted");
    refused(&state, &["project", "rename", "default", "d"], "The 'default' project cannot be renamed");
    refused(&state, &["project", "set", "default", "features.profiles=false"], "features of the default project");
    refused(&state, &["project", "show", "p9"], "Project not found");
    refused(&state, &["project", "rename", "p1", "default"], "already exists");
    refused(&state, &["--project", "p9", "list"], "Project not found");
    refused(&state, &["--project", "../default", "list"], "");
    good(&state, "p1", &["create", "test", "c1"]);
    refused(&state, &["project", "delete", "p1"], "Only empty projects can be removed");
    refused(&state, &["project", "rename", "p1", "p2"], "Only empty projects can be renamed");
    refused(&state, &["project", "set", "p1", "features.profiles=false"], "Features can only be changed on empty");
    assert_eq!(good(&state, "p1", &["list", "-f", "csv", "-c", "n"]), "c1\n", "nothing is lost");
    state.good(&["project", "delete", "-f", "p1"]);
    state.finish();
}

/// Everything in it goes, what runs as well.
#[test]
fn with_force_all_of_it_goes() {
    let Some(state) = state("with_force_all_of_it_goes") else { return };
    make(&state, "p1", &[]);
    good(&state, "p1", &["launch", "test", "c1"]);
    good(&state, "p1", &["snapshot", "create", "c1", "s1"]);
    good(&state, "p1", &["storage", "volume", "create", "default", "v1"]);
    good(&state, "p1", &["profile", "create", "other"]);
    good(&state, "p1", &["storage", "volume", "attach", "default", "v1", "c1", "data", "/data"]);
    state.good(&["create", "test", "c1"]);
    state.good(&["project", "delete", "-f", "p1"]);
    assert_eq!(state.good(&["list", "--all-projects", "-f", "csv", "-c", "ens"]), "default,c1,STOPPED\n");
    let volumes = state.good(&["storage", "volume", "list", "default", "type=custom", "--all-projects", "-f", "csv"]);
    assert_eq!(volumes, "");
    at(&state, "p1", &["list"]).clean_failure().unwrap();
    state.good(&["delete", "c1"]);
    state.finish();
}

#[test]
fn a_preseed_makes_projects_and_volumes() {
    let Some(state) = state("a_preseed_makes_projects_and_volumes") else { return };
    let preseed = |text: &str| with_input(&state, &["admin", "init", "--preseed"], text);
    let text = "projects:\n- name: p1\n  config: {features.storage.volumes: true, user.n: 5}\n  description: one\n\
                storage_volumes:\n- {name: v1, pool: default, project: p1, config: {user.a: b}, description: two}\n\
                - {name: d1, pool: default, content_type: block, config: {size: 1MiB}}\n";
    preseed(text).good().unwrap();
    assert_eq!(state.good(&["project", "get", "p1", "user.n"]), "5\n");
    assert_eq!(good(&state, "p1", &["storage", "volume", "get", "default", "v1", "user.a"]), "b\n");
    // Once more; and back by what it gives.
    preseed(&text.replace("user.a: b", "user.c: d")).good().unwrap();
    assert_eq!(good(&state, "p1", &["storage", "volume", "get", "default", "v1", "user.a"]), "b\n");
    let dump = state.good(&["admin", "init", "--dump"]);
    state.good(&["project", "delete", "-f", "p1"]);
    state.good(&["storage", "volume", "delete", "default", "d1"]);
    preseed(&dump).good().unwrap();
    assert_eq!(state.good(&["admin", "init", "--dump"]), dump);
    assert_eq!(good(&state, "p1", &["storage", "volume", "get", "default", "v1", "user.c"]), "d\n");
    // The last of them is wrong: nothing is left of the others.
    let wrong = "projects: [{name: p2}]\nstorage_volumes: [{name: v2, pool: default, project: p2},\
                 {name: v3, pool: none}]\n";
    preseed(wrong).clean_failure().unwrap();
    assert_eq!(state.good(&["project", "list", "-f", "csv", "-c", "n"]).lines().count(), 2);
    state.good(&["project", "delete", "-f", "p1"]);
    state.good(&["storage", "volume", "delete", "default", "d1"]);
    state.finish();
}
