//! The cells of `list`: what each column shows of an instance, and what has to be read for it.

use super::list::Cell;
use super::output::columns::{Chosen, From, KeyColumn};
use crate::base::{size, time};
use crate::model::instance::Instance;
use crate::model::keys::{self, device};
use crate::model::view::{InstanceState, NetworkAddress};
use crate::ops::list::{Needs, Row};
use jiff::Timestamp;

/// What has to be read to fill the columns.
pub fn needs(chosen: &[Chosen<Cell>]) -> Needs {
    let mut needs = Needs::default();
    for column in chosen {
        match column {
            Chosen::Letter(column) => letter_needs(column.cell, &mut needs),
            Chosen::Key(key) => {
                needs.expanded = true;
                needs.volatile |= key.from == From::Config && keys::is_volatile(&key.key);
            }
        }
    }
    needs
}

fn letter_needs(cell: Cell, needs: &mut Needs) {
    match cell {
        Cell::Ipv4 | Cell::Ipv6 | Cell::Pid | Cell::Started => needs.addresses = true,
        Cell::MemoryUsage | Cell::Processes | Cell::CpuUsage => needs.state = true,
        Cell::MemoryPercent => {
            needs.state = true;
            needs.expanded = true;
        }
        Cell::DiskUsage => {
            needs.state = true;
            needs.expanded = true;
            needs.disk = true;
        }
        Cell::Pool => needs.expanded = true,
        Cell::BaseImage | Cell::BaseImageFull | Cell::LastUsed => needs.volatile = true,
        Cell::Snapshots => needs.snapshots = true,
        Cell::Architecture
        | Cell::Created
        | Cell::Description
        | Cell::Name
        | Cell::Profiles
        | Cell::Project
        | Cell::Remote
        | Cell::State
        | Cell::Type => {}
    }
}

/// The cells of an instance. `raw`: plain numbers of bytes.
pub fn cells(row: &Row, chosen: &[Chosen<Cell>], raw: bool) -> Vec<String> {
    let one = |column: &Chosen<Cell>| match column {
        Chosen::Letter(column) => letter(row, column.cell, raw),
        Chosen::Key(key) => key_cell(row, key),
    };
    chosen.iter().map(one).collect()
}

fn letter(row: &Row, cell: Cell, raw: bool) -> String {
    match cell {
        Cell::Name => row.name.to_string(),
        Cell::Project => row.project.to_string(),
        Cell::Remote => "local".to_string(),
        Cell::State => row.found.status.upper(),
        Cell::Snapshots => row.snapshots.to_string(),
        Cell::BaseImageFull => base_image(row).to_string(),
        Cell::BaseImage => base_image(row).get(..12).unwrap_or(base_image(row)).to_string(),
        Cell::LastUsed => date(row.volatile.last_used_at),
        Cell::Ipv4
        | Cell::Ipv6
        | Cell::DiskUsage
        | Cell::MemoryUsage
        | Cell::MemoryPercent
        | Cell::Processes
        | Cell::Pid
        | Cell::CpuUsage
        | Cell::Started => row.state.as_ref().map(|state| measured(row, state, cell, raw)).unwrap_or_default(),
        Cell::Architecture | Cell::Pool | Cell::Created | Cell::Description | Cell::Profiles | Cell::Type => {
            row.instance.as_ref().map(|instance| recorded(row, instance, cell)).unwrap_or_default()
        }
    }
}

fn base_image(row: &Row) -> &str {
    keys::VOLATILE_BASE_IMAGE.get(&row.volatile.config).unwrap_or_default()
}

fn date(time: Option<Timestamp>) -> String {
    time.map(time::format_table).unwrap_or_default()
}

fn recorded(row: &Row, instance: &Instance, cell: Cell) -> String {
    match cell {
        Cell::Architecture => instance.architecture.clone(),
        Cell::Created => date(Some(instance.created_at)),
        Cell::Description => instance.description.clone(),
        Cell::Profiles => instance.profiles.join("\n"),
        Cell::Pool => {
            let root = device::root_disk(&row.expanded.devices).ok();
            root.and_then(|(_, d)| device::disk::POOL.get(d)).unwrap_or_default().to_string()
        }
        _ => {
            let mut text = instance.kind.as_str().to_uppercase();
            if keys::VOLATILE_CONTAINER_OCI.bool(&row.volatile.config).unwrap_or(false) {
                text.push_str(" (APP)");
            }
            if instance.ephemeral {
                text.push_str(" (EPHEMERAL)");
            }
            text
        }
    }
}

fn measured(row: &Row, state: &InstanceState, cell: Cell, raw: bool) -> String {
    let bytes = |n: i64| match u64::try_from(n) {
        Ok(0) | Err(_) => String::new(),
        Ok(n) if raw => n.to_string(),
        Ok(n) => size::format_iec(n),
    };
    if cell == Cell::DiskUsage {
        let disks = state.disk.0.iter().flatten();
        return disks.map(|(_, disk)| bytes(disk.usage)).next().unwrap_or_default();
    }
    if cell == Cell::Started {
        return date(state.started_at.0);
    }
    if !row.found.status.is_active() {
        return String::new();
    }
    match cell {
        Cell::Ipv4 => addresses(state, "inet"),
        Cell::Ipv6 => addresses(state, "inet6"),
        Cell::MemoryUsage => bytes(state.memory.usage),
        Cell::MemoryPercent => percent(row, state.memory.usage),
        Cell::Processes => state.processes.to_string(),
        Cell::Pid => state.pid.to_string(),
        _ if state.cpu.usage > 0 => format!("{}s", state.cpu.usage / 1_000_000_000),
        _ => String::new(),
    }
}

/// Of the limit in bytes, if there is one.
fn percent(row: &Row, usage: i64) -> String {
    let limit = keys::LIMITS_MEMORY.get(&row.expanded.config).and_then(|v| size::parse_bytes(v).ok());
    match limit {
        Some(limit) if limit > 0 && usage > 0 => format!("{:.1}%", usage as f64 / limit as f64 * 100.0),
        _ => String::new(),
    }
}

/// `address (interface)` a line, loopback and link-local ones left out, in falling order.
fn addresses(state: &InstanceState, family: &str) -> String {
    let interfaces = state.network.0.iter().flatten().filter(|(_, n)| n.kind != "loopback");
    let shown = |a: &&NetworkAddress| a.family == family && a.scope != "link" && a.scope != "local";
    let mut lines: Vec<String> = interfaces
        .flat_map(|(name, n)| n.addresses.0.iter().filter(shown).map(move |a| format!("{} ({name})", a.address)))
        .collect();
    lines.sort_unstable_by(|a, b| b.cmp(a));
    lines.join("\n")
}

/// The local value, else the expanded one.
fn key_cell(row: &Row, column: &KeyColumn) -> String {
    let Some(instance) = &row.instance else { return String::new() };
    let value = match column.from {
        From::Config => {
            let own = instance.config.get(&column.key).or_else(|| row.volatile.config.get(&column.key));
            own.or_else(|| row.expanded.config.get(&column.key))
        }
        From::Devices => column.key.split_once('.').and_then(|(name, key)| {
            let own = instance.devices.get(name).and_then(|d| d.get(key));
            own.or_else(|| row.expanded.devices.get(name).and_then(|d| d.get(key)))
        }),
    };
    column.cut(value.map(String::as_str).unwrap_or_default()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::yaml::{GoList, GoMap};
    use crate::model::status::Status;
    use crate::model::view::NetworkState;
    use std::collections::BTreeMap;

    #[test]
    fn addresses_are_sorted_and_global() {
        let address = |family: &str, address: &str, scope: &str| NetworkAddress {
            family: family.into(),
            address: address.into(),
            netmask: "24".into(),
            scope: scope.into(),
        };
        let network = |kind: &str, list: Vec<NetworkAddress>| NetworkState {
            kind: kind.into(),
            addresses: GoList(list),
            ..NetworkState::default()
        };
        let mut state = InstanceState::new(Status::Running);
        let eth0 = vec![
            address("inet", "10.0.0.2", "global"),
            address("inet", "10.0.0.9", "global"),
            address("inet6", "fe80::1", "link"),
            address("inet6", "fd42::1", "global"),
        ];
        state.network = GoMap(Some(BTreeMap::from([
            ("eth0".to_string(), network("broadcast", eth0)),
            ("lo".to_string(), network("loopback", vec![address("inet", "127.0.0.1", "local")])),
        ])));
        assert_eq!(addresses(&state, "inet"), "10.0.0.9 (eth0)\n10.0.0.2 (eth0)");
        assert_eq!(addresses(&state, "inet6"), "fd42::1 (eth0)");
    }
}
