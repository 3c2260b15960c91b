//! The user's own commands.

use super::support::State;

#[test]
fn aliases_of_commands() {
    if !super::common_root::can_run("aliases_of_commands") {
        return;
    }
    let state = State::new();
    let good = |words: &[&str]| state.good(words);
    let refused = |words: &[&str], why: &str| {
        let said = state.run(words);
        assert!(said.code == 1 && said.err.contains(why), "{words:?}: {said:?}");
    };
    assert_eq!(good(&["alias", "list", "-f", "csv"]), "shell,exec @ARGS@ -- su -l\n");
    for (alias, target) in [
        ("l", "project list"),
        ("i ls", "image list"),
        ("cp", "project list"),
        ("config show", "config show --expanded"),
        ("who", "/bin/echo @ARG2@-@ARG1@ @ARGS@ end"),
        ("again", "/bin/sh -c '\"$0\" l' @ARG1@"),
        ("loop", "loop"),
    ] {
        good(&["alias", "add", alias, target]);
    }
    refused(&["alias", "add", "l", "list"], "Alias l already exists");
    refused(&["alias", "add", "a  b", "list"], "Aliases and their targets cannot be empty");
    // Options before it stay before it, words behind it go to the end.
    let projects = good(&["project", "list", "-f", "csv"]);
    assert_eq!(good(&["l", "-f", "csv"]), projects);
    assert_eq!(good(&["--project", "default", "-q", "cp", "-f", "csv"]), projects);
    assert_eq!(good(&["i", "ls"]), good(&["image", "list"]));
    good(&["create", "--empty", "c1"]);
    assert!(good(&["config", "show", "c1"]).contains("path: /"));
    assert_eq!(good(&["who", "a", "b", "c", "-x"]), "b-a c -x end\n");
    refused(&["who", "a"], "Found alias \"who\" references an argument outside the given number");
    // Nothing is expanded twice, not by way of a program either.
    refused(&["loop"], "unknown command \"loop\"");
    let program = super::common_root::binary();
    refused(&["again", program.to_str().unwrap()], "unknown command \"l\"");
    good(&["alias", "rename", "l", "ll"]);
    refused(&["alias", "rename", "l", "x"], "Alias l doesn't exist");
    refused(&["alias", "rename", "ll", "cp"], "Alias cp already exists");
    assert_eq!(good(&["ll", "-f", "csv"]), good(&["project", "list", "-f", "csv"]));
    good(&["alias", "remove", "ll"]);
    refused(&["alias", "rm", "ll"], "Alias ll doesn't exist");
    refused(&["ll"], "unknown command \"ll\"");
}
