//! `info`: one instance in words, or the host.

use super::complete;
use super::output::{Table, ascii, sort_rows, yaml};
use super::{Context, DONE, Outcome, config, kv, refuse_option, refuse_target};
use crate::base::{boolean, size, time};
use crate::error::{Error, Result};
use crate::model::keys;
use crate::model::view::{InstanceFull, InstanceState, NetworkState};
use crate::ops::info as ops;
use clap::Args;
use clap_complete::engine::ArgValueCompleter;
use jiff::Timestamp;

/// Show instance or server information
#[derive(Debug, Args)]
#[command(after_help = "stapes info [<remote>:]<instance> [--show-log]
    For instance information.

stapes info [<remote>:] [--resources]
    For server information.")]
pub struct Info {
    /// Instance
    #[arg(value_name = "instance", add = ArgValueCompleter::new(complete::instances))]
    pub instance: Option<String>,
    /// Show the resources available to the server
    #[arg(long)]
    pub resources: bool,
    /// Show the instance's access list
    #[arg(long, hide = true)]
    pub show_access: bool,
    /// Show the instance's recent log entries
    #[arg(long, require_equals = true, num_args = 0..=1, default_missing_value = "default", value_name = "default")]
    pub show_log: Option<String>,
    /// Show the server's sensitive information (full certificates, private keys and the API extension list)
    #[arg(long)]
    pub show_sensitive: bool,
    /// Cluster member name
    #[arg(long, value_name = "member", hide = true)]
    pub target: Option<String>,
}

impl Info {
    /// Prints what is known.
    ///
    /// # Errors
    /// See `ops`.
    pub fn run(self, cx: &Context) -> Outcome {
        // Without an instance (`info`, `info local:`) it is the host.
        let object = self.instance.as_deref().map(|word| kv::object(word, "local")).transpose()?;
        let name = object.filter(|o| !o.name.is_empty());
        if name.is_some() && self.target.is_some() {
            return Err(Error::invalid("--target cannot be used with instances").into());
        }
        refuse_target(self.target.as_deref())?;
        refuse_option("--show-access", self.show_access)?;
        let store = cx.reader()?;
        let Some(object) = name else {
            refuse_option("--resources", self.resources)?;
            let uid = nix::unistd::geteuid().as_raw();
            let server = ops::server(&store, ops::Asking { project: &cx.project, uid })?;
            cx.print(yaml::document(&server)?)?;
            return Ok(DONE);
        };
        let (project, name) = config::instance(cx, &store, &kv::local(&format!("{}:{}", object.remote, object.name))?)?;
        let full = ops::instance(&store, &project, &name)?;
        let mut out = text(&full)?;
        if let Some(file) = &self.show_log {
            let file = if file == "default" { ops::DEFAULT_LOG } else { file.as_str() };
            let log = ops::log(&store, &project, &name, file)?;
            out.push_str(&format!("\nLog ({file}):\n\n{}\n", log.trim()));
        }
        cx.print(out)?;
        Ok(DONE)
    }
}

/// What is said of an instance, in Incus's order.
fn text(full: &InstanceFull) -> Result<String> {
    let instance = &full.instance;
    let mut kind = instance.kind.clone();
    let oci = keys::VOLATILE_CONTAINER_OCI.get(&instance.expanded_config);
    for (yes, word) in [(oci.is_some_and(boolean::is_true), "application"), (instance.put.ephemeral, "ephemeral")] {
        if yes {
            kind.push_str(&format!(" ({word})"));
        }
    }
    let mut lines = vec![
        format!("Name: {}", instance.name),
        format!("Description: {}", instance.put.description),
        format!("Status: {}", instance.status.upper()),
        format!("Type: {kind}"),
        format!("Architecture: {}", instance.put.architecture),
    ];
    let running = full.state.as_ref().filter(|s| s.pid != 0);
    lines.extend(running.map(|s| format!("PID: {}", s.pid)));
    lines.extend(instance.created_at.0.map(|t| format!("Created: {}", time::format_table(t))));
    let used = instance.last_used_at.0.filter(|at| *at != Timestamp::UNIX_EPOCH);
    lines.extend(used.map(|t| format!("Last Used: {}", time::format_table(t))));
    if let Some(state) = running {
        lines.extend(state.started_at.0.map(|t| format!("Started: {}", time::format_table(t))));
        lines.push("\nResources:".to_string());
        resources(state, &mut lines);
    }
    let mut out = lines.join("\n") + "\n";
    if !full.snapshots.0.is_empty() {
        out.push_str("\nSnapshots:\n");
        out.push_str(&snapshots(full));
    }
    Ok(out)
}

/// A heading with its lines, if there are any.
fn section(heading: &str, inside: Vec<String>, lines: &mut Vec<String>) {
    if !inside.is_empty() {
        lines.push(format!("  {heading}:"));
        lines.extend(inside);
    }
}

fn resources(state: &InstanceState, lines: &mut Vec<String>) {
    let iec = |n: i64| size::format_iec(u64::try_from(n).unwrap_or(0));
    lines.push(format!("  Processes: {}", state.processes));
    let disks = state.disk.0.iter().flatten().filter(|(_, d)| d.usage > 0);
    section("Disk usage", disks.map(|(name, d)| format!("    {name}: {}", iec(d.usage))).collect(), lines);
    let seconds =
        (state.cpu.usage != 0).then(|| format!("    CPU usage (in seconds): {}", state.cpu.usage / 1_000_000_000));
    section("CPU usage", seconds.into_iter().collect(), lines);
    let memory = [
        ("Memory (current)", state.memory.usage),
        ("Memory (peak)", state.memory.usage_peak),
        ("Swap (current)", state.memory.swap_usage),
        ("Swap (peak)", state.memory.swap_usage_peak),
    ];
    let memory = memory.iter().filter(|(_, n)| *n != 0).map(|(name, n)| format!("    {name}: {}", iec(*n)));
    section("Memory usage", memory.collect(), lines);
    let networks = state.network.0.iter().flatten();
    section("Network usage", networks.flat_map(|(name, n)| network(name, n)).collect(), lines);
}

fn network(name: &str, network: &NetworkState) -> Vec<String> {
    let si = |n: i64| size::format_si(u64::try_from(n).unwrap_or(0));
    let mut lines = vec![
        format!("    {name}:"),
        format!("      Type: {}", network.kind),
        format!("      State: {}", network.state.to_uppercase()),
    ];
    if !network.host_name.is_empty() {
        lines.push(format!("      Host interface: {}", network.host_name));
    }
    if !network.hwaddr.is_empty() {
        lines.push(format!("      MAC address: {}", network.hwaddr));
    }
    if network.mtu != 0 {
        lines.push(format!("      MTU: {}", network.mtu));
    }
    let counters = network.counters;
    lines.push(format!("      Bytes received: {}", si(counters.bytes_received)));
    lines.push(format!("      Bytes sent: {}", si(counters.bytes_sent)));
    lines.push(format!("      Packets received: {}", counters.packets_received));
    lines.push(format!("      Packets sent: {}", counters.packets_sent));
    lines.push("      IP addresses:".to_string());
    lines.extend(network.addresses.0.iter().map(|a| {
        let family = format!("{}:", a.family);
        format!("        {family:6} {}/{} ({})", a.address, a.netmask, a.scope)
    }));
    lines
}

fn snapshots(full: &InstanceFull) -> String {
    let date = |t: crate::base::time::GoTime| t.0.map_or_else(|| " ".to_string(), time::format_table);
    let row = |s: &crate::model::view::SnapshotView| {
        let stateful = if s.stateful { "YES" } else { "NO" };
        vec![s.name.clone(), date(s.created_at), date(s.expires_at), stateful.to_string()]
    };
    let mut rows: Vec<Vec<String>> = full.snapshots.0.iter().map(row).collect();
    sort_rows(&mut rows);
    let table = Table::new(["Name", "Taken at", "Expires at", "Stateful"], rows);
    ascii(&table.header, &table.rows)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::yaml::{GoList, GoMap};
    use crate::model::view::{NetworkAddress, NetworkCounters};
    use std::collections::BTreeMap;

    #[test]
    fn resources_in_the_layout_of_incus() {
        let mut state = InstanceState::new(crate::model::status::Status::Running);
        (state.pid, state.processes) = (7, 3);
        state.cpu.usage = 2_500_000_000;
        state.memory.usage = 1 << 20;
        let address = |family: &str, address: &str, netmask: &str| NetworkAddress {
            family: family.into(),
            address: address.into(),
            netmask: netmask.into(),
            scope: "local".into(),
        };
        let lo = NetworkState {
            addresses: GoList(vec![address("inet", "127.0.0.1", "8"), address("inet6", "::1", "128")]),
            counters: NetworkCounters { bytes_received: 1200, ..NetworkCounters::default() },
            state: "up".into(),
            kind: "loopback".into(),
            ..NetworkState::default()
        };
        state.network = GoMap(Some(BTreeMap::from([("lo".to_string(), lo)])));
        let mut lines = Vec::new();
        resources(&state, &mut lines);
        let want = "  Processes: 3
  CPU usage:
    CPU usage (in seconds): 2
  Memory usage:
    Memory (current): 1.00MiB
  Network usage:
    lo:
      Type: loopback
      State: UP
      Bytes received: 1.20kB
      Bytes sent: 0B
      Packets received: 0
      Packets sent: 0
      IP addresses:
        inet:  127.0.0.1/8 (local)
        inet6: ::1/128 (local)";
        assert_eq!(lines.join("\n"), want);
    }
}
