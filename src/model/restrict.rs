//! What the instances of a project may use together, and what a restricted project forbids them.
//!
//! Judged is what an instance amounts to with its profiles, each time it is made or changed. The words are Incus's.

use crate::base::idmap::{Entry, IdMap, Kind};
use crate::base::{boolean, size};
use crate::error::{Error, Result};
use crate::model::instance::{Config, Device, Devices, InstanceType};
use crate::model::keys::device::{
    self, device_type,
    disk::{self, Source},
    nic,
};
use crate::model::keys::{self as instance, Key, project as keys};
use std::path::{Component, Path};

/// An instance that is judged.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    /// Its project.
    pub project: &'a str,
    /// Its name.
    pub name: &'a str,
    /// Container or virtual machine.
    pub kind: InstanceType,
    /// Its configuration with the profiles applied.
    pub config: &'a Config,
    /// Its devices with the profiles applied.
    pub devices: &'a Devices,
}

/// Does a project limit or forbid anything?
pub fn is_any(project: &Config) -> bool {
    is_limited(project) || keys::RESTRICTED.get(project).is_some_and(boolean::is_true)
}

/// Does a project limit what its instances are or use together?
pub fn is_limited(project: &Config) -> bool {
    let limits = [
        &keys::LIMITS_INSTANCES,
        &keys::LIMITS_CONTAINERS,
        &keys::LIMITS_MACHINES,
        &keys::LIMITS_CPU,
        &keys::LIMITS_PROCESSES,
        &keys::LIMITS_MEMORY,
        &keys::LIMITS_DISK,
    ];
    limits.iter().any(|key| key.get(project).is_some()) || project.keys().any(|name| keys::LIMITS_POOL.matches(name))
}

/// A limit that counts a key of all instances together.
pub static SUMS: [(&Key, &Key); 3] = [
    (&keys::LIMITS_CPU, &instance::LIMITS_CPU),
    (&keys::LIMITS_MEMORY, &instance::LIMITS_MEMORY),
    (&keys::LIMITS_PROCESSES, &instance::LIMITS_PROCESSES),
];

/// What an instance takes of a limit of [`SUMS`]: a number, or bytes.
///
/// # Errors
/// Invalid: it does not say, or in a form that cannot be summed.
pub fn taken(subject: Subject<'_>, key: &Key) -> Result<u64> {
    let Subject { project, name, .. } = subject;
    let shown = key.name;
    let Some(value) = key.get(subject.config) else {
        return Err(Error::invalid(format!(
            "Instance {name:?} in project {project:?} has no '{shown}' config, either directly or via a profile"
        )));
    };
    if value.ends_with('%') {
        let said = format!("Value of '{shown}' can't be a percentage for instance {name:?} in project {project:?}");
        return Err(Error::invalid(said));
    }
    if key.name == instance::LIMITS_CPU.name && value.contains(['-', ',']) {
        let said =
            format!("CPU pinning of instance {name:?} in project {project:?} can't be used with a limit of CPUs");
        return Err(Error::invalid(said));
    }
    size::parse_bytes(value)
}

/// Size of the root disk and the pool it lies in.
///
/// # Errors
/// Invalid: it has none.
pub fn root_size(subject: Subject<'_>) -> Result<(u64, &str)> {
    let (_, root) = device::root_disk(subject.devices)?;
    let size = disk::SIZE.get(root).ok_or_else(|| {
        Error::invalid(format!(
            "Instance {:?} in project {:?} has no 'size' config set on the root device, either directly or via a profile",
            subject.name, subject.project
        ))
    })?;
    Ok((size::parse_bytes(size)?, disk::POOL.text(root)))
}

/// Judges an instance by what the project forbids.
///
/// # Errors
/// Denied: a key or a device is forbidden.
pub fn check(project: &Config, subject: Subject<'_>) -> Result<()> {
    if !keys::RESTRICTED.bool(project)? {
        return Ok(());
    }
    check_keys(project, subject, kind(subject))?;
    if keys::PRIVILEGE.text(project) == "isolated"
        && subject.kind == InstanceType::Container
        && !instance::SECURITY_IDMAP_ISOLATED.get(subject.config).is_some_and(boolean::is_true)
    {
        let why = "Non-isolated containers are forbidden";
        return Err(Error::denied(format!("Container {:?} of project {:?}: {why}", subject.name, subject.project)));
    }
    check_devices(project, subject, kind(subject))
}

/// Judges a profile: nobody can be given by it what is forbidden to them. `subject` is an instance of either type that says what
/// the profile does.
///
/// # Errors
/// Denied: a key or a device is forbidden.
pub fn check_profile(project: &Config, subject: Subject<'_>) -> Result<()> {
    if !keys::RESTRICTED.bool(project)? {
        return Ok(());
    }
    for kind in [InstanceType::Container, InstanceType::VirtualMachine] {
        check_keys(project, Subject { kind, ..subject }, "profile")?;
    }
    check_devices(project, subject, "profile")
}

fn check_keys(project: &Config, subject: Subject<'_>, what: &str) -> Result<()> {
    for (key, value) in subject.config {
        let low = if subject.kind == InstanceType::Container { &keys::LOWLEVEL } else { &keys::VM_LOWLEVEL };
        if instance::RAW_IDMAP.matches(key) && is_blocked(project, low) {
            check_idmap(project, subject, value, what)?;
            continue;
        }
        if let Some(why) = forbidden_key(project, subject, key, value) {
            let Subject { name, project, .. } = subject;
            return Err(Error::denied(format!(
                "Invalid value {value:?} for config {key:?} on {what} {name:?} of project {project:?}: {why}"
            )));
        }
    }
    Ok(())
}

/// A map of one's own is no low-level option where it keeps to the ids of the host that the project may use.
fn check_idmap(project: &Config, subject: Subject<'_>, value: &str, what: &str) -> Result<()> {
    let read = |key: &Key| keys::id_ranges(key.get(project).unwrap_or_default());
    let (users, groups) = (read(&keys::IDMAP_UID)?, read(&keys::IDMAP_GID)?);
    let allowed = |entry: &Entry| {
        let (first, last) = (entry.host, entry.host.saturating_add(entry.range - 1));
        let among = if entry.kind == Kind::Uid { &users } else { &groups };
        among.iter().any(|(low, high)| *low <= first && last <= *high)
    };
    for (number, line) in value.lines().filter(|line| !line.is_empty()).enumerate() {
        if !IdMap::parse_raw(line)?.entries.iter().all(allowed) {
            return Err(Error::denied(format!(
                "Use of low-level {:?} element {number} on {what} {:?} of project {:?} is forbidden",
                instance::RAW_IDMAP.name,
                subject.name,
                subject.project
            )));
        }
    }
    Ok(())
}

fn check_devices(project: &Config, subject: Subject<'_>, what: &str) -> Result<()> {
    for (device, options) in subject.devices {
        if let Some(why) = forbidden_device(project, options) {
            let Subject { name, project, .. } = subject;
            return Err(Error::denied(format!(
                "Invalid device {device:?} on {what} {name:?} of project {project:?}: {why}"
            )));
        }
    }
    Ok(())
}

fn kind(subject: Subject<'_>) -> &'static str {
    if subject.kind == InstanceType::Container { "container" } else { "virtual machine" }
}

fn is_blocked(project: &Config, key: &Key) -> bool {
    key.text(project) == "block"
}

/// Options of containers that reach below what a container is.
static LOWLEVEL: [&Key; 8] = [
    &instance::BOOT_HOST_SHUTDOWN_TIMEOUT,
    &instance::LINUX_KERNEL_MODULES,
    &instance::LIMITS_MEMORY_SWAP,
    &instance::RAW_APPARMOR,
    &instance::RAW_LXC,
    &instance::RAW_SECCOMP,
    &instance::SECURITY_IDMAP_BASE,
    &instance::SECURITY_IDMAP_SIZE,
];

/// The same of virtual machines.
static VM_LOWLEVEL: [&Key; 7] = [
    &instance::BOOT_HOST_SHUTDOWN_TIMEOUT,
    &instance::LIMITS_MEMORY_HUGEPAGES,
    &instance::RAW_QEMU,
    &instance::RAW_QEMU_CONF,
    &instance::RAW_QEMU_QMP_EARLY,
    &instance::RAW_QEMU_QMP_PRE_START,
    &instance::RAW_QEMU_QMP_POST_START,
];

fn forbidden_key(project: &Config, subject: Subject<'_>, key: &str, value: &str) -> Option<&'static str> {
    let among = |keys: &[&Key]| keys.iter().any(|k| k.matches(key));
    let is_true = boolean::is_true(value);
    if subject.kind == InstanceType::VirtualMachine {
        let low = is_blocked(project, &keys::VM_LOWLEVEL) && among(&VM_LOWLEVEL);
        return low.then_some("Use of low-level options on virtual machines is forbidden");
    }
    if among(&[&instance::SECURITY_NESTING]) && is_true && is_blocked(project, &keys::NESTING) {
        return Some("Container nesting is forbidden");
    }
    if among(&[&instance::SECURITY_PRIVILEGED]) && is_true && keys::PRIVILEGE.text(project) != "allow" {
        return Some("Privileged containers are forbidden");
    }
    if let Some(call) = key.strip_prefix(instance::SYSCALLS_INTERCEPT_PREFIX) {
        // Those that hand on what is safe in all hands, and those that are not.
        let full = call.starts_with("mount") || call.starts_with("bpf");
        return match keys::INTERCEPTION.text(project) {
            "full" => None,
            "allow" if !full => None,
            _ => is_set(value).then_some("Container syscall interception is forbidden"),
        };
    }
    let syscalls = among(&[&instance::SYSCALLS_ALLOW, &instance::SYSCALLS_WHITELIST])
        || among(&[&instance::SYSCALLS_DENY_DEFAULT, &instance::SYSCALLS_BLACKLIST_DEFAULT]) && !is_true;
    let low = is_blocked(project, &keys::LOWLEVEL) && (syscalls || among(&LOWLEVEL) || instance::is_volatile(key));
    low.then_some("Use of low-level config options on containers is forbidden")
}

fn is_set(value: &str) -> bool {
    !value.is_empty() && !boolean::is_false(value)
}

fn forbidden_device(project: &Config, device: &Device) -> Option<&'static str> {
    let block = |key: &Key, why: &'static str| is_blocked(project, key).then_some(why);
    match device_type(device) {
        "disk" => forbidden_disk(project, device),
        "nic" => forbidden_nic(project, device),
        "gpu" => block(&keys::GPU, "GPU devices are forbidden"),
        "infiniband" => block(&keys::INFINIBAND, "Infiniband devices are forbidden"),
        "pci" => block(&keys::PCI, "PCI devices are forbidden"),
        "proxy" => block(&keys::PROXY, "Proxy devices are forbidden"),
        "unix-block" => block(&keys::UNIX_BLOCK, "Unix block devices are forbidden"),
        "unix-char" => block(&keys::UNIX_CHAR, "Unix character devices are forbidden"),
        "unix-hotplug" => block(&keys::UNIX_HOTPLUG, "Unix hotplug devices are forbidden"),
        "usb" => block(&keys::USB, "USB devices are forbidden"),
        "none" => None,
        _ => Some("Devices of this type are forbidden"),
    }
}

fn forbidden_disk(project: &Config, device: &Device) -> Option<&'static str> {
    let pools = keys::POOLS_ACCESS.list(project);
    let in_pool = |pool: &str| pools.is_empty() || pools.contains(&pool);
    let allowed = keys::DISK.text(project);
    match disk::source(device) {
        Source::Root { pool } if in_pool(pool) => None,
        Source::Volume { pool, .. } if allowed != "block" && in_pool(pool) => None,
        Source::Root { .. } => Some("Storage pool is forbidden"),
        Source::Volume { .. } if allowed != "block" => Some("Storage pool is forbidden"),
        _ if allowed == "block" => Some("Disk devices are forbidden"),
        Source::Tmpfs | Source::TmpfsOverlay | Source::CloudInit | Source::Agent => None,
        Source::HostPath(path) if allowed == "allow" => {
            let below = keys::DISK_PATHS.list(project);
            let path = Path::new(path);
            // Whoever may name a path may not climb out of it, either.
            let plain = path.components().all(|c| !matches!(c, Component::ParentDir));
            let good = below.is_empty() || plain && below.iter().any(|folder| path.starts_with(folder));
            if !below.is_empty() && disk::SHIFT.get(device).is_some_and(boolean::is_true) {
                // Root in there would make programs that run as root out here.
                return Some("The \"shift\" property cannot be used with a restricted source path");
            }
            (!good).then_some("Disk source path not allowed")
        }
        _ if allowed == "allow" => None,
        _ => Some("Attaching disks not backed by a pool is forbidden"),
    }
}

/// Whether those who work in a project see a network: in a restricted one only what its instances may use.
pub fn sees_network(project: &Config, name: &str, managed: bool) -> bool {
    if !keys::RESTRICTED.get(project).is_some_and(boolean::is_true) {
        return true;
    }
    let among = keys::NETWORKS_ACCESS.list(project);
    match keys::NIC.text(project) {
        "block" => false,
        "managed" if !managed => false,
        _ => among.is_empty() || among.contains(&name),
    }
}

/// Whether a project may have a zone of this name: in a restricted one only those it names, and all below them.
pub fn allows_zone(project: &Config, name: &str) -> bool {
    let below = |zone: &str| name.strip_suffix(zone).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
    !keys::RESTRICTED.get(project).is_some_and(boolean::is_true)
        || keys::NETWORKS_ZONES.list(project).iter().any(|zone| below(zone))
}

/// Whether they see a storage pool: not one in which nothing may be had.
pub fn sees_pool(project: &Config, name: &str) -> bool {
    let limit = project.get(&format!("{}{name}", keys::LIMITS_POOL.name));
    !limit.is_some_and(|limit| size::parse_bytes(limit).is_ok_and(|bytes| bytes == 0))
}

fn forbidden_nic(project: &Config, device: &Device) -> Option<&'static str> {
    let network = nic::NETWORK.get(device);
    match keys::NIC.text(project) {
        "block" => return Some("Network devices are forbidden"),
        "managed" if network.is_none() => return Some("Only managed network devices are allowed"),
        _ => {}
    }
    let among = keys::NETWORKS_ACCESS.list(project);
    let name = network.or_else(|| nic::PARENT.get(device)).unwrap_or_default();
    (!among.is_empty() && !among.contains(&name)).then_some("Network not allowed in project")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(pairs: &[(&str, &str)]) -> Config {
        pairs.iter().map(|(k, v)| ((*k).to_string(), (*v).to_string())).collect()
    }

    fn said(project: &[(&str, &str)], own: &[(&str, &str)], device: &[(&str, &str)]) -> String {
        let mut project = config(project);
        project.insert(keys::RESTRICTED.name.into(), "true".into());
        let devices = match device {
            [] => Devices::new(),
            device => Devices::from([("d".to_string(), config(device).into_iter().collect())]),
        };
        let own = config(own);
        let kind = InstanceType::Container;
        let subject = Subject { project: "p", name: "c", kind, config: &own, devices: &devices };
        check(&project, subject).map_or_else(|e| e.to_string(), |()| "ok".into())
    }

    #[test]
    fn networks_and_pools_out_of_reach_are_not_seen() {
        let seen = |pairs: &[(&str, &str)], managed| sees_network(&config(pairs), "br0", managed);
        let (on, nic, access) = (("restricted", "true"), "restricted.devices.nic", "restricted.networks.access");
        assert!(seen(&[(nic, "block")], true) && !seen(&[on, (nic, "block")], true));
        assert!(seen(&[on], true) && !seen(&[on], false) && seen(&[on, (nic, "allow")], false));
        assert!(!seen(&[on, (access, "br1")], true) && seen(&[on, (access, "br1,br0")], true));
        let zone = |name| allows_zone(&config(&[on, ("restricted.networks.zones", "a.example, b")]), name);
        assert!(zone("a.example") && zone("x.y.b") && !zone("ca.example") && !zone("example"));
        assert!(allows_zone(&config(&[]), "any") && !allows_zone(&config(&[on]), "any"));
        assert!(!sees_pool(&config(&[("limits.disk.pool.p", "0")]), "p"));
        assert!(sees_pool(&config(&[("limits.disk.pool.p", "0")]), "q"));
        assert!(sees_pool(&config(&[("limits.disk.pool.p", "1GiB")]), "p"));
    }

    #[test]
    fn what_is_restricted_is_forbidden_until_it_is_allowed() {
        let nested = [("security.nesting", "true")];
        assert_eq!(
            said(&[], &nested, &[]),
            "Invalid value \"true\" for config \"security.nesting\" on container \"c\" of project \"p\": Container nesting is forbidden"
        );
        assert_eq!(said(&[("restricted.containers.nesting", "allow")], &nested, &[]), "ok");
        assert!(said(&[], &[("security.privileged", "true")], &[]).ends_with("Privileged containers are forbidden"));
        let isolated = [("restricted.containers.privilege", "isolated")];
        assert!(said(&isolated, &[], &[]).ends_with("Non-isolated containers are forbidden"));
        assert_eq!(said(&isolated, &[("security.idmap.isolated", "true")], &[]), "ok");
        for low in ["raw.lxc", "raw.apparmor", "security.idmap.base", "security.syscalls.allow"] {
            assert!(said(&[], &[(low, "1")], &[]).contains("low-level"), "{low}");
            assert_eq!(said(&[("restricted.containers.lowlevel", "allow")], &[(low, "1")], &[]), "ok");
        }
        assert!(said(&[], &[("security.syscalls.deny_default", "false")], &[]).contains("low-level"));
        let map = [("raw.idmap", "uid 1000 0\nboth 2000-2009 1000-1009")];
        let ids = |uid, gid| said(&[("restricted.idmap.uid", uid), ("restricted.idmap.gid", gid)], &map, &[]);
        assert_eq!(ids("1000, 2000-3000", "2000-2009"), "ok");
        let second = "Use of low-level \"raw.idmap\" element 1 on container \"c\" of project \"p\" is forbidden";
        assert_eq!(ids("1000,2000-2008", "0-9999"), second);
        assert_eq!(ids("0-9999", "2001-2009"), second);
        assert!(said(&[], &map, &[]).contains("element 0"));
        let mount = [("security.syscalls.intercept.mount", "true")];
        assert!(said(&[("restricted.containers.interception", "allow")], &mount, &[]).contains("interception"));
        assert_eq!(said(&[("restricted.containers.interception", "full")], &mount, &[]), "ok");
    }

    #[test]
    fn devices_are_those_of_pools_and_networks() {
        let host = |path| [("type", "disk"), ("source", path), ("path", "/x")];
        assert!(said(&[], &[], &host("/srv")).contains("not backed by a pool"));
        let some = [("restricted.devices.disk", "allow"), ("restricted.devices.disk.paths", "/srv/a,/data")];
        assert_eq!(said(&some, &[], &host("/srv/a/b")), "ok");
        for bad in ["/srv/ab", "/srv", "/srv/a/../../etc", "/etc"] {
            assert!(said(&some, &[], &host(bad)).contains("path not allowed"), "{bad}");
        }
        let volume = [("type", "disk"), ("pool", "p1"), ("source", "v"), ("path", "/x")];
        assert_eq!(said(&[], &[], &volume), "ok");
        assert!(said(&[("restricted.devices.disk", "block")], &[], &volume).contains("Disk devices are forbidden"));
        assert!(said(&[("restricted.storage-pools.access", "p2")], &[], &volume).contains("pool is forbidden"));
        let root = [("type", "disk"), ("pool", "p1"), ("path", "/")];
        assert_eq!(said(&[("restricted.devices.disk", "block")], &[], &root), "ok");
        assert!(said(&[("restricted.storage-pools.access", "p2")], &[], &root).contains("pool is forbidden"));
        assert!(said(&[], &[], &[("type", "nic"), ("nictype", "p2p")]).contains("Only managed"));
        assert_eq!(said(&[], &[], &[("type", "nic"), ("network", "br0")]), "ok");
        assert!(said(&[("restricted.networks.access", "br1")], &[], &[("type", "nic"), ("network", "br0")]) != "ok");
        assert!(said(&[], &[], &[("type", "proxy")]).contains("Proxy devices are forbidden"));
        assert!(said(&[], &[], &[("type", "tpm")]).contains("this type"));
    }
}
