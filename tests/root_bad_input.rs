//! Bad input and bad surroundings: one clear `Error: …` line, exit 1, nothing lost, nothing left behind, others unaffected.
#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "a test: its files are no records"
)]

mod common_root;
#[path = "root_bad_input/surroundings.rs"]
mod surroundings;
#[path = "root_bad_input/words.rs"]
mod words;

use common_root::{State, leftovers};
use std::collections::BTreeMap;
use std::path::Path;

/// A state with the image `img`, the running instance `runs` and the stopped one `stopped`; none if the test cannot run.
fn prepared(test: &str) -> Option<State> {
    if !common_root::can_run(test) {
        return None;
    }
    let state = State::new(&common_root::binary());
    common_root::make_images(&state.dir);
    state.good(&["image", "import", "image.tar", "--alias", "img"]);
    state.good(&["create", "img", "stopped"]);
    state.good(&["launch", "img", "runs"]);
    Some(state)
}

/// Records, volumes and images: everything that a refused command must leave as it is.
fn everything(state: &State) -> BTreeMap<String, Vec<u8>> {
    fn walk(dir: &Path, all: &mut BTreeMap<String, Vec<u8>>) {
        let Ok(entries) = std::fs::read_dir(dir) else { return };
        for entry in entries.flatten() {
            let path = entry.path();
            // Where overlayfs of the running instance puts what it copies up, for a moment.
            if path.ends_with("runs/work") {
                continue;
            }
            let kind = entry.file_type().unwrap();
            let small = kind.is_file() && entry.metadata().unwrap().len() < 1 << 16;
            all.insert(path.display().to_string(), if small { std::fs::read(&path).unwrap() } else { Vec::new() });
            if kind.is_dir() && !path.ends_with("rootfs") && !path.ends_with("upper") {
                walk(&path, all);
            }
        }
    }
    let mut all = BTreeMap::new();
    walk(&state.dir, &mut all);
    // Locks stay, and logs grow.
    all.retain(|path, _| !path.contains("/state/locks") && !path.contains("/log/"));
    all
}

/// Each command is refused, with one of the words in its message, and changes nothing.
fn refused(state: &State, commands: &[(&str, &str)]) {
    let before = everything(state);
    for (line, wanted) in commands {
        let args: Vec<&str> = line.split(' ').collect();
        let out = state.run(&args);
        out.clean_failure().unwrap();
        assert!(out.stderr.contains(wanted), "{out}\nwanted: {wanted}");
        let after = everything(state);
        let changed: Vec<&String> = after
            .iter()
            .filter(|(path, bytes)| before.get(*path) != Some(bytes))
            .map(|(path, _)| path)
            .chain(before.keys().filter(|path| !after.contains_key(*path)))
            .collect();
        assert!(changed.is_empty(), "{out}\nchanged {changed:?}");
    }
    unaffected(state);
}

/// The instances that were not meant are as they were.
fn unaffected(state: &State) {
    state.good(&["exec", "runs", "--", "true"]);
    let states: Vec<_> =
        state.instances().unwrap().into_iter().filter(|(n, _)| n == "runs" || n == "stopped").collect();
    let wanted = [("runs", "RUNNING"), ("stopped", "STOPPED")].map(|(n, s)| (n.to_string(), s.to_string()));
    assert_eq!(states, wanted);
    state.doctor().unwrap();
}

/// After everything was deleted nothing is there.
fn ends_clean(state: &State) {
    state.delete_all().unwrap();
    state.doctor().unwrap();
    assert_eq!(leftovers::find(state), Vec::<String>::new());
}
