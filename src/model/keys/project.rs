//! Options of projects: what they have for themselves, what their instances may use together, and what is forbidden to them.
//!
//! A key of Incus that this version could only store without heeding it is refused, so that nobody believes in it.

use super::checks;
use super::key::{Key, Scope, Suffix};
use super::server;
use super::value::Value;
use crate::error::{Error, Result};
use crate::model::instance::Config;

const COMPRESSION: Value = Value::Checked("compression algorithm", server::compression);
const MAC_PATTERN: Value = Value::Checked("MAC pattern", server::mac_pattern);
const ID_RANGES: Value = Value::Checked("list of ranges of ids", |text| id_ranges(text).map(drop));
const BLOCK: Value = Value::OneOf(&["block", "allow"]);

keys! {
    IMAGES: "features.images", Both, Value::Bool, "Images and aliases of its own";
    NETWORKS: "features.networks", Both, Value::Bool, "Networks of its own";
    ZONES: "features.networks.zones", Both, Value::Bool, "Network zones of its own";
    PROFILES: "features.profiles", Both, Value::Bool, "Profiles of its own";
    BUCKETS: "features.storage.buckets", Both, Value::Bool, "Storage buckets of its own";
    VOLUMES: "features.storage.volumes", Both, Value::Bool, "Custom volumes of its own";
    LIMITS_INSTANCES: "limits.instances", Both, Value::Uint32, "Number of instances";
    LIMITS_CONTAINERS: "limits.containers", Both, Value::Uint32, "Number of containers";
    LIMITS_MACHINES: "limits.virtual-machines", Both, Value::Uint32, "Number of virtual machines";
    LIMITS_CPU: "limits.cpu", Both, Value::Uint32, "CPUs of all instances together";
    LIMITS_PROCESSES: "limits.processes", Both, Value::Uint32, "Processes of all instances together";
    LIMITS_MEMORY: "limits.memory", Both, Value::Size, "Memory of all instances together";
    LIMITS_DISK: "limits.disk", Both, Value::Size, "Sizes of all root disks and custom volumes together";
    LIMITS_POOL: "limits.disk.pool.", Both, Value::Size, "Sizes of root disks and custom volumes in one storage pool"
        => prefix(Suffix::Any);
    LIMITS_NETWORKS: "limits.networks", Both, Value::Uint32, "Number of networks of its own";
    RESTRICTED: "restricted", Both, Value::Bool, "Whether what the keys below it name is forbidden" => default("false");
    BACKUPS: "restricted.backups", Both, BLOCK, "Exports of instances and volumes" => default("block");
    SNAPSHOTS: "restricted.snapshots", Both, BLOCK, "Snapshots of instances and volumes" => default("block");
    INTERCEPTION: "restricted.containers.interception", Both, Value::OneOf(&["block", "allow", "full"]),
        "Interception of system calls" => default("block");
    LOWLEVEL: "restricted.containers.lowlevel", Both, BLOCK, "Low-level options of containers" => default("block");
    NESTING: "restricted.containers.nesting", Both, BLOCK, "Containers in containers" => default("block");
    PRIVILEGE: "restricted.containers.privilege", Both, Value::OneOf(&["unprivileged", "isolated", "allow"]),
        "Privileges of containers" => default("unprivileged");
    DISK: "restricted.devices.disk", Both, Value::OneOf(&["block", "managed", "allow"]), "Disk devices besides the root"
        => default("managed");
    DISK_PATHS: "restricted.devices.disk.paths", Both, Value::Line, "Folders of the host that disk devices may name";
    NIC: "restricted.devices.nic", Both, Value::OneOf(&["block", "managed", "allow"]), "Network interfaces"
        => default("managed");
    GPU: "restricted.devices.gpu", Both, BLOCK, "Devices of type gpu" => default("block");
    INFINIBAND: "restricted.devices.infiniband", Both, BLOCK, "Devices of type infiniband" => default("block");
    PCI: "restricted.devices.pci", Both, BLOCK, "Devices of type pci" => default("block");
    PROXY: "restricted.devices.proxy", Both, BLOCK, "Devices of type proxy" => default("block");
    UNIX_BLOCK: "restricted.devices.unix-block", Both, BLOCK, "Devices of type unix-block" => default("block");
    UNIX_CHAR: "restricted.devices.unix-char", Both, BLOCK, "Devices of type unix-char" => default("block");
    UNIX_HOTPLUG: "restricted.devices.unix-hotplug", Both, BLOCK, "Devices of type unix-hotplug" => default("block");
    USB: "restricted.devices.usb", Both, BLOCK, "Devices of type usb" => default("block");
    VM_LOWLEVEL: "restricted.virtual-machines.lowlevel", Both, BLOCK, "Low-level options of virtual machines"
        => default("block");
    IDMAP_UID: "restricted.idmap.uid", Both, ID_RANGES, "Users of the host that raw.idmap may name";
    IDMAP_GID: "restricted.idmap.gid", Both, ID_RANGES, "Groups of the host that raw.idmap may name";
    NETWORKS_ZONES: "restricted.networks.zones", Both, Value::Line, "Network zones it may have, and all below them";
    NETWORKS_ACCESS: "restricted.networks.access", Both, Value::Line, "Networks that may be used";
    POOLS_ACCESS: "restricted.storage-pools.access", Both, Value::Line, "Storage pools that may be used";
    // There are neither uplinks, integrations nor a cluster: what these allow, nothing here could use.
    NETWORKS_INTEGRATIONS: "restricted.networks.integrations", Both, Value::Line, "Network integrations that may be used";
    NETWORKS_SUBNETS: "restricted.networks.subnets", Both, Value::Checked("list of <uplink>:<subnet>", subnets),
        "Networks of uplinks that may be used";
    NETWORKS_UPLINKS: "restricted.networks.uplinks", Both, Value::Line, "Networks that may be uplinks";
    CLUSTER_GROUPS: "restricted.cluster.groups", Both, Value::Line, "Groups of a cluster that may be used";
    CLUSTER_TARGET: "restricted.cluster.target", Both, BLOCK, "Choice of a member of a cluster" => default("block");
    VM_NESTING: "restricted.virtual-machines.nesting", Both, BLOCK, "Virtual machines in virtual machines"
        => default("allow");
    IMAGES_SERVERS: "restricted.images.servers", Both, Value::Line, "Hosts that images may be fetched from";
    HWADDR_PATTERN: "network.hwaddr_pattern", Both, MAC_PATTERN, "Pattern of MAC addresses that are chosen";
    BACKUP_COMPRESSION: "backups.compression_algorithm", Both, COMPRESSION, "How backups are compressed";
    IMAGE_COMPRESSION: "images.compression_algorithm", Both, COMPRESSION, "How published images are compressed";
    AUTO_UPDATE_CACHED: "images.auto_update_cached", Both, Value::Bool, "Whether cached images follow their server";
    AUTO_UPDATE_INTERVAL: "images.auto_update_interval", Both, Value::Int,
        "How often images are compared with their servers, hours" => long("`0`: never.");
    REMOTE_CACHE_EXPIRY: "images.remote_cache_expiry", Both, Value::Int,
        "Days after its last use that a cached image is kept";
    DEFAULT_ARCHITECTURE: "images.default_architecture", Both, server::ARCHITECTURE,
        "Architecture chosen in a cluster of several";
    USER: "user.", Both, Value::Text, "Anything, without effect" => prefix(Suffix::Any);
}

/// Keys of images that count before the server's of the same names.
pub static OF_IMAGES: [&Key; 3] = [&AUTO_UPDATE_CACHED, &AUTO_UPDATE_INTERVAL, &REMOTE_CACHE_EXPIRY];

/// What a project can have for itself; its instances must be none when that changes.
pub static FEATURES: [&Key; 6] = [&IMAGES, &NETWORKS, &ZONES, &PROFILES, &BUCKETS, &VOLUMES];

/// What a new project has for itself where it says nothing.
static USUAL: [&Key; 4] = [&IMAGES, &BUCKETS, &PROFILES, &VOLUMES];

/// All options.
pub static TABLE: &[&Key] = &[
    &IMAGES,
    &NETWORKS,
    &ZONES,
    &PROFILES,
    &BUCKETS,
    &VOLUMES,
    &LIMITS_INSTANCES,
    &LIMITS_CONTAINERS,
    &LIMITS_MACHINES,
    &LIMITS_CPU,
    &LIMITS_PROCESSES,
    &LIMITS_MEMORY,
    &LIMITS_DISK,
    &LIMITS_POOL,
    &LIMITS_NETWORKS,
    &RESTRICTED,
    &BACKUPS,
    &SNAPSHOTS,
    &INTERCEPTION,
    &LOWLEVEL,
    &NESTING,
    &PRIVILEGE,
    &DISK,
    &DISK_PATHS,
    &NIC,
    &GPU,
    &INFINIBAND,
    &PCI,
    &PROXY,
    &UNIX_BLOCK,
    &UNIX_CHAR,
    &UNIX_HOTPLUG,
    &USB,
    &VM_LOWLEVEL,
    &IDMAP_UID,
    &IDMAP_GID,
    &NETWORKS_ZONES,
    &NETWORKS_ACCESS,
    &POOLS_ACCESS,
    &NETWORKS_INTEGRATIONS,
    &NETWORKS_SUBNETS,
    &NETWORKS_UPLINKS,
    &CLUSTER_GROUPS,
    &CLUSTER_TARGET,
    &VM_NESTING,
    &IMAGES_SERVERS,
    &HWADDR_PATTERN,
    &BACKUP_COMPRESSION,
    &IMAGE_COMPRESSION,
    &AUTO_UPDATE_CACHED,
    &AUTO_UPDATE_INTERVAL,
    &REMOTE_CACHE_EXPIRY,
    &DEFAULT_ARCHITECTURE,
    &USER,
];

/// What Incus has besides, by prefix.
const REFUSED: [&str; 4] = ["images.", "network.", "restricted.", "limits."];

/// Checks the options of a project; the messages are Incus's.
///
/// # Errors
/// [`crate::error::Kind::Invalid`], or Unsupported for a key of Incus that this version has not.
pub fn check(config: &Config) -> Result<()> {
    for (name, value) in config {
        let shown: String = name.chars().filter(|c| !c.is_control()).collect();
        let Some(key) = TABLE.iter().find(|k| k.matches(name)) else {
            return match REFUSED.iter().any(|prefix| name.starts_with(prefix)) {
                true => Err(Error::unsupported(format!(
                    "Project configuration key {shown:?} is not supported by this version"
                ))),
                false => Err(Error::invalid(format!("Invalid project configuration key {shown:?}"))),
            };
        };
        let wrong = |e: Error| e.context(format!("Invalid project configuration key {shown:?} value"));
        key.value.check(value).map_err(wrong)?;
    }
    let paths = DISK_PATHS.list(config);
    match paths.iter().find(|path| !path.starts_with('/')) {
        Some(path) => Err(Error::invalid(format!("Invalid path {path:?} in {:?}", DISK_PATHS.name))),
        None => Ok(()),
    }
}

/// Checks a list of networks of uplinks.
fn subnets(text: &str) -> Result<()> {
    let one = |item: &str| {
        let form = || {
            Error::invalid(format!("Subnet {item:?} invalid, must be in the format of \"<uplink network>:<subnet>\""))
        };
        let (_, subnet) = item.split_once(':').filter(|(uplink, _)| !uplink.is_empty()).ok_or_else(form)?;
        checks::network_v4(subnet).or_else(|_| checks::network_v6(subnet))
    };
    text.split(',').map(str::trim).filter(|item| !item.is_empty()).try_for_each(one)
}

/// Reads a list of ids and ranges of ids: first and last of each.
///
/// # Errors
/// Invalid.
pub fn id_ranges(text: &str) -> Result<Vec<(u32, u32)>> {
    let one = |item: &str| {
        let (first, last) = item.split_once('-').unwrap_or((item, item));
        let (first, last) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
        (first <= last).then_some((first, last))
    };
    let read = |item: &str| one(item.trim()).ok_or_else(|| Error::invalid(format!("Invalid uint32 range {item:?}")));
    text.split(',').filter(|item| !item.trim().is_empty()).map(read).collect()
}

/// Refuses what a project besides the default one cannot have for itself.
///
/// # Errors
/// Unsupported.
pub fn check_features(config: &Config) -> Result<()> {
    if !NETWORKS.get(config).is_some_and(crate::base::boolean::is_true) {
        return Ok(());
    }
    Err(Error::unsupported(format!("OVN is required for projects with {:?} enabled", NETWORKS.name))
        .hint("leave it out: the networks of the project \"default\" are used"))
}

/// Gives a project to be made what it has for itself unless it says otherwise.
pub fn apply_defaults(config: &mut Config) {
    for key in FEATURES {
        let usual = USUAL.iter().any(|k| k.name == key.name);
        config.entry(key.name.to_string()).or_insert_with(|| usual.to_string());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(pairs: &[(&str, &str)]) -> String {
        let config = pairs.iter().map(|(k, v)| ((*k).to_string(), (*v).to_string())).collect();
        check(&config).map_or_else(|e| e.to_string(), |()| "ok".into())
    }

    #[test]
    fn declarations_are_whole() {
        let mut seen = std::collections::BTreeSet::new();
        for key in TABLE {
            assert!(seen.insert(key.display_name()), "{} twice", key.display_name());
            assert!(!key.short.is_empty() && !key.short.ends_with('.'), "{}", key.name);
            assert!(key.default.is_empty() || key.value.check(key.default).is_ok(), "default of {}", key.name);
        }
    }

    #[test]
    fn speaks_as_incus() {
        assert_eq!(said(&[("foo", "1")]), "Invalid project configuration key \"foo\"");
        assert_eq!(said(&[("features.profiles", "false"), ("user.a", "b"), ("limits.disk.pool.p", "1GiB")]), "ok");
        assert!(said(&[("limits.cpu", "-1")]).starts_with("Invalid project configuration key \"limits.cpu\" value: "));
        assert!(said(&[("restricted.devices.disk", "some")]) != "ok");
        assert!(said(&[("restricted.devices.disk.paths", "/srv,data")]).contains("Invalid path \"data\""));
        let networks = Config::from([("features.networks".into(), "true".into())]);
        assert!(check_features(&networks).is_err_and(|e| e.to_string().contains("OVN is required")));
        assert!(said(&[("images.default_architecture", "vax")]).contains("vax"));
        assert!(said(&[("network.other", "x")]).contains("is not supported by this version"));
        assert_eq!(said(&[("restricted.networks.subnets", "up:10.0.0.0/24, up:fd00::/64")]), "ok");
        assert!(said(&[("restricted.networks.subnets", "10.0.0.0/24")]).contains("must be in the format of"));
        assert!(said(&[("restricted.networks.subnets", "up:10.0.0.1/24")]) != "ok");
    }

    #[test]
    fn a_new_project_has_its_own() {
        let mut config = Config::from([("features.profiles".into(), "false".into())]);
        apply_defaults(&mut config);
        assert_eq!(config.len(), FEATURES.len());
        assert_eq!(config["features.profiles"], "false");
        assert_eq!(config["features.storage.volumes"], "true");
    }
}
