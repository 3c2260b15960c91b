//! Custom volumes: the verbs through the binary, volumes in real instances, and disks that come and go while these run.
#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "a test: its files are no records"
)]

#[path = "root_volumes/backups.rs"]
mod backups;
mod common_root;
#[path = "root_volumes/dependent.rs"]
mod dependent;
#[path = "root_volumes/disks.rs"]
mod disks;
#[path = "root_volumes/files.rs"]
mod files;
mod image_common;
#[path = "root_volumes/live.rs"]
mod live;
#[path = "root_volumes/mounted.rs"]
mod mounted;
#[path = "root_volumes/snapshots.rs"]
mod snapshots;
#[path = "root_volumes/squashed.rs"]
mod squashed;
#[allow(dead_code, reason = "shared with the tests of instances")]
#[path = "root_lifecycle/support.rs"]
mod support;
#[path = "root_snapshots/tree.rs"]
mod tree;
#[path = "root_volumes/verbs.rs"]
mod verbs;

use common_root::{Out, State};
use std::path::PathBuf;

/// Words of `storage volume …`.
pub fn volume(state: &State, words: &[&str]) -> Out {
    state.run(&[&["storage", "volume"], words].concat())
}

/// The same, which must work.
pub fn good(state: &State, words: &[&str]) -> String {
    volume(state, words).good().unwrap()
}

/// The same, which must fail cleanly with these words.
pub fn refused(state: &State, words: &[&str], with: &str) {
    let out = volume(state, words);
    out.clean_failure().unwrap();
    assert!(out.stderr.contains(with), "{with:?} is not said: {out}");
}

/// Where the data of a volume lie.
pub fn data(state: &State, name: &str) -> PathBuf {
    let pool = stapes::base::names::PoolName::parse("default").unwrap();
    state.layout().pool_custom(&pool).join(format!("default_{name}"))
}
