//! Projects through the binary: their life, what they share with the default one and what not, their limits and restrictions.
#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "a test: its files are no records"
)]

#[path = "root_projects/bounds.rs"]
mod bounds;
mod common_root;
#[path = "root_projects/images.rs"]
mod images;
#[path = "root_projects/life.rs"]
mod life;
#[path = "root_projects/shared.rs"]
mod shared;
#[allow(dead_code, reason = "shared with the tests of instances")]
#[path = "root_lifecycle/support.rs"]
mod support;

use common_root::{Out, State, run};

/// A command in a project.
pub fn at(state: &State, project: &str, words: &[&str]) -> Out {
    state.run(&[&["--project", project], words].concat())
}

/// The same, which must work.
pub fn good(state: &State, project: &str, words: &[&str]) -> String {
    at(state, project, words).good().unwrap()
}

/// A command that must fail cleanly with these words.
pub fn refused(state: &State, words: &[&str], with: &str) {
    let out = state.run(words);
    out.clean_failure().unwrap();
    assert!(out.stderr.contains(with), "{with:?} is not said: {out}");
}

/// A command with a document on its standard input.
pub fn with_input(state: &State, words: &[&str], text: &str) -> Out {
    run(state.command(words), Some(text), common_root::PATIENCE)
}

/// Makes a project whose profile has a root disk, with the images of the default one.
pub fn make(state: &State, name: &str, config: &[&str]) {
    let config = [&["features.images=false"], config].concat();
    let options: Vec<&str> = config.iter().flat_map(|pair| ["-c", pair]).collect();
    state.good(&[&["project", "create", name], &options[..]].concat());
    if !config.contains(&"features.profiles=false") {
        good(state, name, &["profile", "device", "add", "default", "root", "disk", "path=/", "pool=default"]);
    }
}
