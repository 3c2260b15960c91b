//! Zones that are served, after a crash: the server says what the records say.

use super::checks::{created, network, want};
use super::common_root::State;

/// A zone that is served, and a network that names it.
pub const SERVED: &[&str] = &[
    "network zone create lab.example",
    "network create matrixbr0 ipv4.address=10.99.0.1/24 ipv6.address=none dns.zone.forward=lab.example",
    "config set core.dns_address=127.0.0.1:5300",
    "network zone record create lab.example www",
];
/// The same with an instance.
pub const SERVED_INSTANCE: &[&str] = &[SERVED[0], SERVED[1], SERVED[2], SERVED[3], "create img c1 -n matrixbr0"];
/// The same, not served yet.
pub const UNSERVED: &[&str] = &[SERVED[0], SERVED[1], SERVED[3]];

/// What is told to whoever asks is what the records say; `doctor` sees to that, too.
pub fn agrees(state: &State, _: bool) -> Result<(), String> {
    // Settles what the killed command left.
    state.run(&["network", "set", "matrixbr0", "user.settled=1"]).good()?;
    let told = std::fs::read_to_string(state.path("run/zones/told")).unwrap_or_default();
    let address = state.run(&["config", "get", "core.dns_address"]).good()?;
    want(told.is_empty() == address.trim().is_empty(), &format!("address {address:?}, told {told:?}"))?;
    if !told.is_empty() {
        let record = state.run(&["network", "zone", "record", "show", "lab.example", "www"]).good()?;
        let (kept, said) = (record.contains("10.99.0.200"), told.contains("www.lab.example 300 1 0a6300c8\n"));
        want(kept == said, &format!("record: {kept}, told: {said}"))?;
    }
    state.doctor()?;
    state.run(&["config", "unset", "core.dns_address"]).good()?;
    state.run(&["network", "unset", "matrixbr0", "dns.zone.forward"]).good()?;
    state.run(&["network", "zone", "delete", "lab.example"]).good()?;
    network(state, false)
}

/// As [`agrees`]; `c1` is whole, and its name is known as long as it runs.
pub fn started(state: &State, done: bool) -> Result<(), String> {
    created(state, done)?;
    let told = std::fs::read_to_string(state.path("run/zones/told")).unwrap_or_default();
    want(!told.contains("c1.lab.example"), "it is told of although it is gone")?;
    agrees(state, done)
}
