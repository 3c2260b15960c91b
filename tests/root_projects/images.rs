//! Images of projects: their own, or the default project's; one that two have is there once.

use super::support::{Ask, state};
use super::{at, good, make, refused};
use crate::common_root::State;

fn names(state: &State, project: &str) -> String {
    good(state, project, &["image", "list", "-f", "csv", "-c", "l"])
}

/// Files of images that lie in the state folder.
fn files(state: &State) -> usize {
    let all = std::fs::read_dir(state.layout().images_dir()).unwrap().flatten();
    all.filter(|e| e.file_name().len() == 64).count()
}

#[test]
fn images_are_a_projects_own() {
    let Some(state) = state("images_are_a_projects_own") else { return };
    state.good(&["project", "create", "p1"]);
    assert_eq!(state.good(&["project", "list", "-f", "csv", "-c", "ni"]), "default (current),YES\np1,YES\n");
    assert_eq!(names(&state, "p1"), "");
    refused(&state, &["--project", "p1", "create", "test", "c1", "-s", "default"], "Image \"test\" not found");
    refused(&state, &["image", "copy", "local:test", "local:", "--target-project", "p9"], "Project not found");
    // One that the other has is copied by a record.
    state.good(&["image", "copy", "local:test", "local:", "--target-project", "p1", "--alias", "mine"]);
    assert_eq!((names(&state, "default"), names(&state, "p1"), files(&state)), ("test\n".into(), "mine\n".into(), 1));
    refused(&state, &["image", "copy", "local:test", "local:", "--target-project", "p1"], "already exists");
    let all = state.good(&["image", "list", "--all-projects", "-f", "csv", "-c", "el"]);
    assert_eq!(all, "default,test\np1,mine\n");
    // What one says of it is not said of the other's.
    good(&state, "p1", &["image", "set-property", "mine", "os", "Other"]);
    refused(&state, &["image", "get-property", "test", "os"], "Property not found");
    good(&state, "p1", &["image", "alias", "create", "test", "mine"]);
    good(&state, "p1", &["image", "alias", "delete", "mine"]);
    good(&state, "p1", &["launch", "test", "c1", "-s", "default"]);
    assert!(state.good(&["query", "/1.0/images?project=p1"]).contains("?project=p1"));
    // The project is not empty, and its image outlives the other's.
    refused(&state, &["project", "set", "p1", "features.images=false"], "only be changed on empty");
    state.good(&["image", "delete", "test"]);
    assert_eq!((names(&state, "default"), files(&state)), (String::new(), 1));
    refused(&state, &["create", "test", "c1"], "Image \"test\" not found");
    good(&state, "p1", &["create", "test", "c2", "-s", "default"]);
    good(&state, "p1", &["delete", "-f", "c1", "c2"]);
    refused(&state, &["project", "delete", "p1"], "Only empty projects can be removed");
    // Back by its file: it is there already.
    good(&state, "p1", &["image", "export", "test", "out"]);
    state.good(&["image", "import", "out.tar", "--alias", "back"]);
    assert_eq!(files(&state), 1);
    state.doctor().unwrap();
    state.good(&["project", "delete", "-f", "p1"]);
    assert_eq!((names(&state, "default"), files(&state)), ("back\n".into(), 1));
    state.good(&["create", "back", "c1"]);
    state.good(&["delete", "c1"]);
    state.good(&["image", "delete", "back"]);
    assert_eq!(files(&state), 0);
    state.finish();
}

#[test]
fn images_of_the_default_project_are_shared() {
    let Some(state) = state("images_of_the_default_project_are_shared") else { return };
    make(&state, "p1", &[]);
    assert_eq!(names(&state, "p1"), "test\n");
    good(&state, "p1", &["image", "alias", "rename", "test", "other"]);
    assert_eq!(names(&state, "default"), "other\n");
    good(&state, "p1", &["create", "other", "c1"]);
    good(&state, "p1", &["publish", "c1", "--alias", "made"]);
    assert_eq!(names(&state, "default").lines().count(), 2);
    at(&state, "p1", &["image", "delete", "made"]).good().unwrap();
    assert_eq!(names(&state, "default"), "other\n");
    state.good(&["project", "delete", "-f", "p1"]);
    assert_eq!(names(&state, "default"), "other\n", "it is the default project's");
    state.finish();
}
