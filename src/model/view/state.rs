//! What is measured of an instance: `info`, `list` and the `state` of `list --format json`.

use crate::base::time::GoTime;
use crate::base::yaml::{GoList, GoMap};
use crate::model::status::Status;
use serde::Serialize;

/// State of an instance. Of a stopped one only the disk is known.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct InstanceState {
    /// `Running`.
    pub status: Status,
    /// Number of the status.
    pub status_code: u32,
    /// Usage by disk device.
    pub disk: GoMap<DiskState>,
    /// Memory.
    pub memory: MemoryState,
    /// Interfaces by name; nil if it does not run.
    pub network: GoMap<NetworkState>,
    /// First process, as the host sees it; 0 if there is none.
    pub pid: i64,
    /// Number of processes.
    pub processes: i64,
    /// CPU.
    pub cpu: CpuState,
    /// Start of the first process.
    pub started_at: GoTime,
    /// What a virtual machine's agent says.
    pub os_info: Option<OsInfo>,
}

impl InstanceState {
    /// A state with nothing measured.
    pub fn new(status: Status) -> Self {
        Self {
            status,
            status_code: status.code(),
            disk: GoMap(None),
            memory: MemoryState::default(),
            network: GoMap(None),
            pid: 0,
            processes: 0,
            cpu: CpuState::default(),
            started_at: GoTime(None),
            os_info: None,
        }
    }
}

/// Usage of a disk, bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct DiskState {
    /// In use.
    pub usage: i64,
    /// Size, 0 if unlimited.
    pub total: i64,
}

/// CPU time, nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct CpuState {
    /// Used since the start.
    pub usage: i64,
    /// To be used a second.
    pub allocated_time: i64,
}

/// Memory, bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct MemoryState {
    /// In use.
    pub usage: i64,
    /// Most ever in use.
    pub usage_peak: i64,
    /// Limit, or the host's memory.
    pub total: i64,
    /// Swap in use.
    pub swap_usage: i64,
    /// Most swap ever in use.
    pub swap_usage_peak: i64,
}

/// A network interface of the instance.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct NetworkState {
    /// Addresses.
    pub addresses: GoList<NetworkAddress>,
    /// Counters.
    pub counters: NetworkCounters,
    /// MAC address.
    pub hwaddr: String,
    /// The other end on the host, empty if there is none.
    pub host_name: String,
    /// MTU.
    pub mtu: u32,
    /// `up` or `down`.
    pub state: String,
    /// `broadcast`, `loopback`, `point-to-point` or `unknown`.
    #[serde(rename = "type")]
    pub kind: String,
}

/// An address of an interface.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NetworkAddress {
    /// `inet` or `inet6`.
    pub family: String,
    /// The address.
    pub address: String,
    /// Length of the prefix.
    pub netmask: String,
    /// `global`, `link` or `local`.
    pub scope: String,
}

/// Counters of an interface, as the instance sees them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct NetworkCounters {
    /// Bytes in.
    pub bytes_received: i64,
    /// Bytes out.
    pub bytes_sent: i64,
    /// Packets in.
    pub packets_received: i64,
    /// Packets out.
    pub packets_sent: i64,
    /// Errors in.
    pub errors_received: i64,
    /// Errors out.
    pub errors_sent: i64,
    /// Packets dropped on the way out.
    pub packets_dropped_outbound: i64,
    /// Packets dropped on the way in.
    pub packets_dropped_inbound: i64,
}

/// What a virtual machine's agent says of the system.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct OsInfo {
    /// Name.
    pub os: String,
    /// Version.
    pub os_version: String,
    /// Kernel's version.
    pub kernel_version: String,
    /// Host name.
    pub hostname: String,
    /// Full host name.
    pub fqdn: String,
}
