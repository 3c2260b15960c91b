//! One test for each row of the security cases that concerns running containers, named after the row: what has gone wrong in
//! tools of this kind must not go wrong here. Through the real program, against real attacks (`probe.c`).
#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "a test: its files are no records"
)]

#[path = "root_security/binary.rs"]
mod binary;
mod common_root;
#[path = "root_security/entering.rs"]
mod entering;
#[path = "root_security/images.rs"]
mod images;
#[path = "root_security/limits.rs"]
mod limits;
#[path = "root_security/records.rs"]
mod records;
#[path = "root_lifecycle/support.rs"]
#[allow(dead_code, reason = "the other test program uses the rest")]
mod support;
#[path = "root_security/tools.rs"]
mod tools;
