//! What an instance has of its image beside the root file system, and changes for itself alone.

use crate::common_root::{Out, PATIENCE, State, run};
use crate::support::{Ask, Tree, state_with};

fn with_templates(tree: &Tree) {
    let file = tree.dir.join("metadata.yaml");
    let text = std::fs::read_to_string(&file).unwrap();
    let more = "templates:\n  /etc/made:\n    when: [create, copy, start]\n    template: made.tpl\n";
    std::fs::write(file, format!("{text}{more}")).unwrap();
    std::fs::create_dir(tree.dir.join("templates")).unwrap();
    std::fs::write(tree.dir.join("templates/made.tpl"), "name: {{ instance.name }}\n").unwrap();
}

fn input(state: &State, words: &[&str], text: &str) -> Out {
    run(state.command(words), Some(text), PATIENCE)
}

#[test]
fn metadata_and_templates_of_its_own() {
    let Some(state) = state_with("metadata_and_templates_of_its_own", with_templates) else { return };
    let preseed = "storage_pools: [{name: plain, driver: dir}]\n";
    input(&state, &["admin", "init", "--preseed"], preseed).good().unwrap();
    for pool in ["default", "plain"] {
        on(&state, pool);
    }
    state.finish();
}

fn on(state: &State, pool: &str) {
    let other = if pool == "plain" { "default" } else { "plain" };
    for name in ["c1", "c2"] {
        state.good(&["create", "test", name, "-s", pool]);
    }
    let show = |name: &str| state.good(&["config", "metadata", "show", name]);
    let template = |words: &[&str]| state.run(&[&["config", "template"], words].concat());
    let read = |name: &str| template(&["show", name, "made.tpl"]).good().unwrap();
    let of_image = show("c1");
    assert!(of_image.contains("  description: Test\n") && of_image.contains("/etc/made:"), "{of_image}");
    assert_eq!(template(&["list", "c1", "-f", "csv"]).good().unwrap(), "made.tpl\n");
    assert_eq!(read("c1"), "name: {{ instance.name }}\n");
    state.good(&["snapshot", "create", "c1", "before"]);
    // Changed for one of two.
    input(state, &["config", "metadata", "edit", "c1"], &of_image.replace("Test", "Mine")).good().unwrap();
    input(state, &["config", "template", "edit", "c1", "made.tpl"], "mine {{ instance.name }}\n").good().unwrap();
    input(state, &["config", "template", "create", "c1", "my.tpl"], "some content\n").good().unwrap();
    assert_eq!(template(&["list", "c1", "-f", "csv"]).good().unwrap(), "made.tpl\nmy.tpl\n");
    assert_eq!(template(&["show", "c1", "my.tpl"]).good().unwrap(), "some content\n");
    assert_eq!(show("c1"), of_image.replace("Test", "Mine"));
    assert_eq!((show("c2"), read("c2").as_str()), (of_image.clone(), "name: {{ instance.name }}\n"));
    for name in ["c1", "c2"] {
        state.good(&["start", name]);
    }
    assert_eq!(
        (state.sh("c1", "cat /etc/made"), state.sh("c2", "cat /etc/made")),
        ("mine c1".into(), "name: c2".into())
    );
    state.good(&["stop", "-f", "c1", "c2"]);
    // It goes where the instance goes.
    state.good(&["copy", "c1", "c3"]);
    state.good(&["copy", "c1", "c4", "-s", other]);
    state.good(&["export", "c1", "b", "--force", "--compression", "none"]);
    state.good(&["import", "b", "c5"]);
    state.good(&["rename", "c1", "c6"]);
    for name in ["c3", "c4", "c5", "c6"] {
        assert_eq!((show(name), read(name).as_str()), (of_image.replace("Test", "Mine"), "mine {{ instance.name }}\n"));
    }
    state.good(&["start", "c4"]);
    assert_eq!(state.sh("c4", "cat /etc/made"), "mine c4");
    template(&["delete", "c3", "my.tpl"]).good().unwrap();
    assert_eq!(template(&["list", "c3", "-f", "csv"]).good().unwrap(), "made.tpl\n");
    state.good(&["snapshot", "restore", "c6", "before"]);
    assert_eq!(
        (show("c6"), template(&["list", "c6", "-f", "csv"]).good().unwrap()),
        (of_image.clone(), "made.tpl\n".into())
    );
    state.good(&["delete", "-f", "c5"]);
    state.good(&["snapshot", "delete", "c3", "before"]);
    state.good(&["rebuild", "test", "c3"]);
    assert_eq!((show("c3"), read("c3").as_str()), (of_image.clone(), "name: {{ instance.name }}\n"));
    refusals(state, &of_image);
    state.good(&["create", "--empty", "c7", "-s", pool]);
    assert!(show("c7").starts_with("architecture: \"\"\n"));
    input(state, &["config", "template", "create", "c7", "x"], "x").good().unwrap();
    input(state, &["config", "metadata", "edit", "c7"], &of_image).good().unwrap();
    assert_eq!(show("c7"), of_image);
    state.good(&["delete", "-f", "c2", "c3", "c4", "c6", "c7"]);
}

fn refusals(state: &State, good: &str) {
    let refused = |words: &[&str], text: &str, with: &str| {
        let out = input(state, words, text);
        out.clean_failure().unwrap();
        assert!(out.stderr.contains(with), "{words:?}: {with:?} is not said: {out}");
    };
    for name in ["../x", "a/b", "/etc/passwd", "..", "", ".stapes-x"] {
        for verb in ["create", "edit", "show", "delete"] {
            refused(&["config", "template", verb, "c2", name], "x", "Invalid template filename");
        }
    }
    for verb in ["show", "delete"] {
        refused(&["config", "template", verb, "c2", "none"], "", "Template \"none\" not found");
    }
    for (wrong, why) in [
        ("", "the architecture is missing"),
        ("architecture: [", "Bad image metadata"),
        (&good.replace("made.tpl", "../made.tpl"), "the template name \"../made.tpl\" of \"/etc/made\""),
    ] {
        refused(&["config", "metadata", "edit", "c2"], wrong, why);
    }
    refused(&["config", "metadata", "show", "nobody"], "", "Instance not found");
    refused(&["config", "template", "list", "c6/before"], "", "Invalid instance name");
}

/// What a command that was killed was writing goes with the next look at the instance, and never into an image of it.
#[test]
fn half_written_files_go() {
    let Some(state) = state_with("half_written_files_go", with_templates) else { return };
    state.good(&["create", "test", "c1"]);
    input(&state, &["config", "template", "create", "c1", "my.tpl"], "some content\n").good().unwrap();
    let folder = state.path("state/pools/default/data/containers/c1");
    let plant = || {
        let files = [folder.join(".stapes-1"), folder.join("templates/.stapes-2")];
        files.iter().for_each(|file| std::fs::write(file, "half").unwrap());
        files
    };
    let files = plant();
    state.doctor().unwrap();
    assert!(files.iter().all(|file| !file.exists()), "{files:?}");
    let files = plant();
    state.good(&["publish", "c1", "--alias", "of-c1"]);
    assert!(files.iter().all(|file| !file.exists()), "{files:?}");
    assert!(folder.join("templates/my.tpl").exists());
    state.good(&["delete", "c1"]);
    state.finish();
}
