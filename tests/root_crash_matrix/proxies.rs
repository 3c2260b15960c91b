//! What must hold for the proxies of a running instance after a crash: what listens, and what the firewall has, is what the
//! record says.

use super::checks::kept;
use super::common_root::State;
use std::process::Command;

fn want(what: bool, words: &str) -> Result<(), String> {
    if what { Ok(()) } else { Err(words.to_string()) }
}

/// Compares them; the record of the device `web` in words, none if it is not there.
fn agreed(state: &State) -> Result<Option<String>, String> {
    let shown = state.run(&["config", "show", "c1", "--expanded"]).good()?;
    let device = shown.split("\n  web:\n").nth(1);
    let device = device.map(|d| d.lines().take_while(|l| l.starts_with("    ")).collect::<Vec<_>>().join("\n"));
    let says = |text: &str| device.as_ref().is_some_and(|d| d.contains(text));
    let running = state.instances()?.iter().any(|(n, s)| n == "c1" && s == "RUNNING");
    for port in [8000, 8001] {
        let answered = std::net::TcpStream::connect(("127.0.0.1", port)).is_ok();
        let wanted = running && says(&format!("listen: tcp:127.0.0.1:{port}"));
        want(answered == wanted, &format!("port {port} is answered: {answered}, on record: {device:?}"))?;
    }
    let rules = Command::new("nft").args(["list", "ruleset"]).output().map_err(|e| format!("nft: {e}"))?;
    let rules = String::from_utf8_lossy(&rules.stdout).into_owned();
    let nat = running && says("nat: \"true\"");
    want(rules.contains("prert.c1.web") == nat, &format!("rules: {rules}, on record: {device:?}"))?;
    for last in ["7", "9"] {
        let wanted = nat && shown.contains(&format!("ipv4.address: 10.99.0.{last}\n"));
        let there = rules.contains(&format!("dnat ip to 10.99.0.{last}"));
        want(there == wanted, &format!("to 10.99.0.{last}: {there}, wanted: {wanted}"))?;
    }
    Ok(device)
}

/// `c1` has a proxy, or has none.
pub fn added(state: &State, done: bool) -> Result<(), String> {
    want(agreed(state)?.is_some() || !done, "it was reported added and is not there")?;
    kept(state, done)
}

/// The same through its profile.
pub fn added_by_profile(state: &State, done: bool) -> Result<(), String> {
    added(state, done)?;
    let _ = state.run(&["profile", "device", "remove", "default", "web"]);
    Ok(())
}

/// `c1` has lost its proxy, or has it.
pub fn removed(state: &State, done: bool) -> Result<(), String> {
    want(agreed(state)?.is_none() || !done, "it was reported removed and is there")?;
    kept(state, done)
}

/// What `c1` has is as it was or as it was set.
pub fn changed(state: &State, done: bool) -> Result<(), String> {
    agreed(state)?;
    kept(state, done)
}
