//! Instances and the host's boot and shutdown: `admin boot`, `admin shutdown`, what a monitor does when it is told to end, and
//! `start --foreground`. No systemd is needed; what only a real one shows is in `tests/root_systemd.rs`.
#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "a test: its files are no records"
)]

#[path = "root_boot/admin.rs"]
mod admin;
mod common_root;
#[path = "root_boot/foreground.rs"]
mod foreground;
#[path = "root_lifecycle/support.rs"]
#[allow(dead_code, reason = "the other test programs use the rest")]
mod support;
#[path = "root_boot/told.rs"]
mod told;

use common_root::State;
use support::Ask;

/// Ends on SIGPWR, after a second if `/root/slow` is there, never if `/root/deaf` is.
const INIT: &str = "#!/bin/sh
halt() {
    [ -e /root/deaf ] && return
    [ -e /root/slow ] && sleep 1
    echo bye
    exit 0
}
trap halt PWR
echo booted
while :; do sleep 3600 & wait $!; done
";

/// A state with the image `test`, whose init is [`INIT`].
fn state(test: &str) -> Option<State> {
    support::state_with(test, |tree| tree.file("sbin/init", INIT, 0o755))
}

/// The key that says whether it comes back with the host.
fn power(state: &State, name: &str) -> String {
    state.good(&["config", "get", name, "volatile.last_state.power"]).trim().to_string()
}

fn monitor(state: &State, name: &str) -> i32 {
    state.run_record(name)["monitor_pid"].as_integer().unwrap() as i32
}
