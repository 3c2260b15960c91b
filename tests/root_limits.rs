//! Limits of running containers through the real program: set when they are made, set and unset while they run, bounding
//! what runs, the division of CPUs among several; and the refusal where the host's cgroup2 has no controller for them.
#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "a test: its files are no records"
)]

#[path = "root_limits/bounds.rs"]
mod bounds;
mod common_root;
#[path = "root_limits/cpus.rs"]
mod cpus;
#[path = "root_limits/disks.rs"]
mod disks;
#[path = "root_limits/live.rs"]
mod live;
#[path = "root_limits/refused.rs"]
mod refused;
#[path = "root_limits/start.rs"]
mod start;
#[allow(dead_code, reason = "shared with root_lifecycle")]
#[path = "root_lifecycle/support.rs"]
mod support;
#[path = "root_limits/tools.rs"]
mod tools;
