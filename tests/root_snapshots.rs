//! Snapshots, restores, copies and moves of instances, run as users do: what comes back is what was there, and what is told
//! apart stays apart.
#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "a test: its files are no records"
)]

mod common_root;
#[path = "root_snapshots/copies.rs"]
mod copies;
#[path = "root_snapshots/life.rs"]
mod life;
#[path = "root_snapshots/maintain.rs"]
mod maintain;
#[path = "root_snapshots/rebuild.rs"]
mod rebuild;
#[path = "root_lifecycle/support.rs"]
#[allow(dead_code, reason = "each test program uses a part of it")]
mod support;
#[path = "root_snapshots/tree.rs"]
mod tree;
