//! The cgroup of an instance as the host sees it.

use crate::common_root::{State, skip};
use crate::support::{Ask, state};
use std::path::PathBuf;

/// A state, if the host's cgroup2 has these controllers.
pub fn controlled(test: &str, controllers: &[&str]) -> Option<State> {
    let there = stapes::host::cgroup::mount_point().ok()?.join("cgroup.controllers");
    let there = std::fs::read_to_string(there).unwrap_or_default();
    if let Some(missing) = controllers.iter().find(|c| !there.split_whitespace().any(|t| t == **c)) {
        skip(test, &format!("the host's cgroup2 has no controller \"{missing}\""));
        return None;
    }
    state(test)
}

/// The folder of an instance's cgroup.
pub fn group(state: &State, name: &str) -> PathBuf {
    state.run_record(name)["cgroup"].as_str().unwrap().into()
}

/// Control files of an instance, `; ` between them; `-`: there is no such file.
pub fn files(state: &State, name: &str, files: &[&str]) -> String {
    let read = |file: &&str| std::fs::read_to_string(group(state, name).join(file));
    files.iter().map(|f| read(f).map_or("-".into(), |t| t.trim().to_string())).collect::<Vec<_>>().join("; ")
}

/// The number behind `field` in a control file.
pub fn count(state: &State, name: &str, file: &str, field: &str) -> u64 {
    let text = std::fs::read_to_string(group(state, name).join(file)).unwrap();
    text.lines().find_map(|l| l.strip_prefix(field)?.trim().parse().ok()).unwrap()
}
