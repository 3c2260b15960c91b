//! Running containers through the real program (design, sections 7 and 12): their life from launch to delete, commands in
//! them, the console, what configuration and devices do to them, and `run`. Each test has a state folder of its own and ends
//! with a `doctor` that finds nothing and a host on which nothing is left.
#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "a test: its files are no records"
)]

mod common_root;
#[path = "root_lifecycle/config.rs"]
mod config;
#[path = "root_lifecycle/console.rs"]
mod console;
#[path = "root_lifecycle/debian.rs"]
mod debian;
#[path = "root_lifecycle/devices.rs"]
mod devices;
#[path = "root_lifecycle/exec.rs"]
mod exec;
#[path = "root_lifecycle/life.rs"]
mod life;
#[path = "root_lifecycle/metadata.rs"]
mod metadata;
#[path = "root_lifecycle/query.rs"]
mod query;
#[path = "root_lifecycle/run.rs"]
mod run;
#[path = "root_lifecycle/support.rs"]
mod support;
