//! AppArmor: every instance runs in a profile of its own, whichever way a process gets in; the profile comes before the
//! instance and goes after it. Skipped where the kernel has no AppArmor: `tests/guest/root-tier root_confinement`.
#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "a test: its files are no records"
)]

mod common_root;
#[path = "root_confinement/denied.rs"]
mod denied;
#[path = "root_confinement/life.rs"]
mod life;
#[path = "root_confinement/namespace.rs"]
mod namespace;
#[path = "root_confinement/rules.rs"]
mod rules;
#[path = "root_lifecycle/support.rs"]
#[allow(dead_code, reason = "the other test program uses the rest")]
mod support;
#[path = "root_confinement/tools.rs"]
mod tools;
