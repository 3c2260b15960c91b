//! What must hold for the interfaces of a running instance after a crash: the kernel and the networks have what the record
//! says.

use super::checks::{self, kept};
use super::common_root::State;
use super::scenarios::{Scenario, scenario};
use std::process::Command;

/// One on a bridge that is there, whoever made it.
const FILTERED: &[&str] = &[
    "network create matrixbr0 ipv4.address=none ipv6.address=none",
    "create img c1",
    "config device add c1 eth0 nic nictype=bridged parent=matrixbr0 security.mac_filtering=true ipv4.routes=10.199.0.0/24",
];

/// Rows that are about nothing else.
pub const ALL: &[Scenario] =
    &[Scenario { before: FILTERED, ..scenario("start, filtered on a bridge", "start c1", filtered) }];

fn filtered(state: &State, done: bool) -> Result<(), String> {
    checks::runs(state, done)?;
    want(!output(&["nft", "list", "ruleset"])?.contains("c1.eth0"), "its rules are left")?;
    want(!output(&["ip", "route"])?.contains("10.199."), "its route is left")?;
    state.run(&["network", "delete", "matrixbr0"]).good().map(drop)
}

fn output(words: &[&str]) -> Result<String, String> {
    let out = Command::new(words[0]).args(&words[1..]).output().map_err(|e| format!("{words:?}: {e}"))?;
    Ok(String::from_utf8_lossy(&out.stdout).into_owned())
}

fn want(what: bool, words: &str) -> Result<(), String> {
    if what { Ok(()) } else { Err(words.to_string()) }
}

/// The options of a device in the text of `config show`; none if it is not there.
fn options(shown: &str, device: &str) -> Option<String> {
    let head = format!("\n  {device}:\n");
    let rest = &shown[shown.find(&head)? + head.len()..];
    Some(rest.lines().take_while(|l| l.starts_with("    ")).map(|l| format!("{}\n", l.trim())).collect())
}

/// Compares what the record says of the interfaces of `c1` with what is there; the record in words.
fn agreed(state: &State) -> Result<String, String> {
    let shown = state.run(&["config", "show", "c1", "--expanded"]).good()?;
    let Ok(record) = std::fs::read_to_string(state.path("run/instances/default_c1/run.toml")) else { return Ok(shown) };
    let record: toml::Table = record.parse().map_err(|e| format!("run record: {e}"))?;
    let inside = output(&["nsenter", "-t", &record["init_pid"].to_string(), "-n", "ip", "-o", "link"])?;
    let (links, rules) = (output(&["ip", "-o", "link"])?, output(&["nft", "list", "ruleset"])?);
    let mut expected = 1;
    for device in ["eth0", "lan", "phys"] {
        let found = options(&shown, device);
        let there = found.is_some();
        let end = shown.lines().find_map(|l| l.trim().strip_prefix(&format!("volatile.{device}.host_name: ")));
        want(end.is_some() == there, &format!("{device}: there: {there}, on the host: {end:?}"))?;
        let port = state.path(&format!("run/networks/matrixbr0/ports/default_c1.{device}")).exists();
        let says = |text: &str| found.as_ref().is_some_and(|o| o.contains(text));
        want(port == says("network: matrixbr0"), &format!("{device}: record: {there}, port: {port}"))?;
        let filtered = rules.contains(&format!("c1.{device} "));
        want(filtered == says("security.mac_filtering: \"true\""), &format!("{device}: rules: {filtered}"))?;
        if !there {
            continue;
        }
        expected += 1;
        if let Some(parent) = device.eq("phys").then_some("vethlent0") {
            want(!links.contains(parent), "the host has what it lent")?;
            continue;
        }
        let link = links.lines().find(|l| l.contains(&format!(" {}@", end.unwrap_or_default())));
        let link = link.ok_or_else(|| format!("{device}: the host has no {end:?}: {links}"))?;
        let up = link.contains(",UP");
        want(up != says("connected: \"false\""), &format!("{device}: up: {up}"))?;
        let name = says("name: lan0");
        want(!name || inside.contains(" lan0@"), &format!("{device}: another name inside: {inside}"))?;
    }
    want(inside.lines().count() == expected, &format!("{expected} interfaces are on record, inside: {inside}"))?;
    let lent = options(&shown, "phys").is_some();
    want(lent || !lends(state) || links.contains("vethlent0"), "the host did not get its interface back")?;
    Ok(shown)
}

/// `c2` has made an interface of the host.
fn lends(state: &State) -> bool {
    state.instances().is_ok_and(|all| all.iter().any(|(n, s)| n == "c2" && s == "RUNNING"))
}

/// `c1` has a second interface, or has none.
pub fn added(state: &State, done: bool) -> Result<(), String> {
    let shown = agreed(state)?;
    let there = options(&shown, "lan").is_some() || options(&shown, "phys").is_some();
    want(there || !done, "it was reported added and is not there")?;
    kept(state, done)
}

/// The same through its profile.
pub fn added_by_profile(state: &State, done: bool) -> Result<(), String> {
    added(state, done)?;
    let _ = state.run(&["profile", "device", "remove", "default", "lan"]);
    Ok(())
}

/// `c1` has lost its second interface, or has it.
pub fn removed(state: &State, done: bool) -> Result<(), String> {
    let shown = agreed(state)?;
    let there = options(&shown, "lan").is_some() || options(&shown, "phys").is_some();
    want(!there || !done, "it was reported removed and is there")?;
    kept(state, done)
}

/// The interface of `c1` is as it was or as it was set.
pub fn changed(state: &State, done: bool) -> Result<(), String> {
    let eth0 = options(&agreed(state)?, "eth0").unwrap_or_default();
    let set = eth0.contains("connected: ") || eth0.contains("name: lan0");
    want(set || !done, "it was reported set and is not")?;
    kept(state, done)
}
