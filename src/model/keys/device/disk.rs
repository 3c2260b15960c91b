//! Disks: the root, volumes, host folders and the special sources.

use super::super::checks;
use super::super::key::{Key, Scope};
use super::super::parse::{self, IoLimit};
use super::super::value::Value;
use super::super::volume;
use super::Kind;
use crate::base::boolean;
use crate::error::{Context, Error, Result};
use crate::model::instance::{Device, Devices, InstanceType};

const IO: Value = Value::Checked("bytes a second and/or iops", parse::check_io_limit);
const SECONDS: Value = Value::Checked("duration of at least 1s", checks::seconds);

key_table! {
    SOURCE: "source", Both, Value::Line, "What to attach"
        => long("A volume with `pool`, a path of the host, `ceph:`, `cephfs:`, `cloud-init:config`, `agent:config`, `tmpfs:` \
                 or `tmpfs-overlay:`; none for the root disk.");
    PATH: "path", Both, Value::Line, "Where it appears in the instance; `/` for the root disk";
    POOL: "pool", Both, Value::Line, "Storage pool of the volume";
    SIZE: "size", Both, Value::Size, "Size of a root disk or tmpfs"
        => long("That of a root disk is kept by ext4 and xfs if they are mounted with prjquota, and by btrfs.");
    SIZE_STATE: "size.state", Both, Value::Size, "Size of the root disk's volume for saved states";
    READONLY: "readonly", Both, Value::Bool, "Make it read-only" => default("false");
    RECURSIVE: "recursive", Both, Value::Bool, "Bring the mounts below the source along" => default("false");
    REQUIRED: "required", Both, Value::Bool, "Refuse to start if the source is missing" => default("true");
    OPTIONAL: "optional", Both, Value::Bool, "Older opposite of `required`";
    SHIFT: "shift", Both, Value::Bool, "Map ids by an id-mapped mount" => default("false");
    PROPAGATION: "propagation", Both,
        Value::OneOf(&["private", "shared", "slave", "unbindable", "rshared", "rslave", "runbindable", "rprivate"]),
        "Mount propagation between host and instance" => default("private");
    RAW_MOUNT_OPTIONS: "raw.mount.options", Both, Value::Line, "Mount options for the file system, comma-separated";
    DEPENDENT: "dependent", Both, Value::Bool, "Snapshot and copy the volume with the instance" => default("false");
    BOOT_PRIORITY: "boot.priority", Both, Value::Uint32, "Boot order of virtual machines, higher first";
    IO_BUS: "io.bus", Both, Value::OneOf(&["nvme", "virtio-blk", "virtio-scsi", "auto", "9p", "virtiofs", "usb"]),
        "Bus in virtual machines" => default("virtio-scsi"), long("Folders take `auto`, `9p` and `virtiofs`.");
    IO_CACHE: "io.cache", Both, Value::OneOf(&["none", "metadata", "writeback", "unsafe"]), "Caching in virtual machines"
        => default("none");
    WWN: "wwn", Both, Value::Checked("0x and hexadecimal digits", checks::wwn), "World Wide Name in virtual machines";
    ATTACHED: "attached", Both, Value::Bool, "Whether the disk is in the drive" => default("true");
    LIMITS_READ: "limits.read", Both, IO, "Limit of reading";
    LIMITS_WRITE: "limits.write", Both, IO, "Limit of writing";
    LIMITS_MAX: "limits.max", Both, IO, "Limit of reading and of writing";
    LIMITS_READ_BURST: "limits.read.burst", Both, IO, "Higher limit of reading for a short time";
    LIMITS_WRITE_BURST: "limits.write.burst", Both, IO, "Higher limit of writing for a short time";
    LIMITS_MAX_BURST: "limits.max.burst", Both, IO, "Higher limit of reading and of writing for a short time";
    LIMITS_READ_BURST_LENGTH: "limits.read.burst.length", Both, SECONDS, "How long the higher limit of reading lasts";
    LIMITS_WRITE_BURST_LENGTH: "limits.write.burst.length", Both, SECONDS, "How long the higher limit of writing lasts";
    LIMITS_MAX_BURST_LENGTH: "limits.max.burst.length", Both, SECONDS, "How long the higher limits last";
    CEPH_CLUSTER_NAME: "ceph.cluster_name", Both, Value::Line, "Ceph cluster" => default("ceph");
    CEPH_USER_NAME: "ceph.user_name", Both, Value::Line, "Ceph user" => default("admin");
    INITIAL_UID: "initial.uid", Both, Value::Checked("user id", checks::unix_id), "Owner of what is created" => default("0");
    INITIAL_GID: "initial.gid", Both, Value::Checked("group id", checks::unix_id), "Group of what is created" => default("0");
    INITIAL_MODE: "initial.mode", Both, Value::Checked("octal mode", checks::octal_mode), "Mode of what is created"
        => default("711");
}

/// Value of [`SOURCE`] for the cloud-init seed.
pub const SOURCE_CLOUD_INIT: &str = "cloud-init:config";
/// Value of [`SOURCE`] for the agent's installation medium.
pub const SOURCE_AGENT: &str = "agent:config";
/// Value of [`SOURCE`] for a fresh tmpfs.
pub const SOURCE_TMPFS: &str = "tmpfs:";
/// Value of [`SOURCE`] for a tmpfs above what is there.
pub const SOURCE_TMPFS_OVERLAY: &str = "tmpfs-overlay:";

const BURSTS: &[&Key] = &[
    &LIMITS_READ_BURST,
    &LIMITS_WRITE_BURST,
    &LIMITS_MAX_BURST,
    &LIMITS_READ_BURST_LENGTH,
    &LIMITS_WRITE_BURST_LENGTH,
    &LIMITS_MAX_BURST_LENGTH,
];

pub(super) static KINDS: &[&Kind] = &[&Kind {
    device: "disk",
    sub: "",
    scope: Scope::Both,
    hotplug: Some(Scope::Both),
    options: TABLE,
    required: &[],
    updatable: &[
        &LIMITS_MAX,
        &LIMITS_READ,
        &LIMITS_WRITE,
        &LIMITS_READ_BURST,
        &LIMITS_WRITE_BURST,
        &LIMITS_MAX_BURST,
        &LIMITS_READ_BURST_LENGTH,
        &LIMITS_WRITE_BURST_LENGTH,
        &LIMITS_MAX_BURST_LENGTH,
        &SIZE,
        &SIZE_STATE,
        &DEPENDENT,
    ],
    check,
}];

/// What a disk's source is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source<'a> {
    /// The root disk.
    Root {
        /// Its pool.
        pool: &'a str,
    },
    /// A volume of a pool.
    Volume {
        /// The pool.
        pool: &'a str,
        /// The volume.
        volume: &'a str,
        /// Folder or file below the volume's root; none is the volume itself.
        path: Option<&'a str>,
    },
    /// A path of the host.
    HostPath(&'a str),
    /// `ceph:<pool>/<image>`.
    Ceph(&'a str),
    /// `cephfs:<file system>/<path>`.
    CephFs(&'a str),
    /// The cloud-init seed.
    CloudInit,
    /// The agent's installation medium.
    Agent,
    /// A fresh tmpfs.
    Tmpfs,
    /// A tmpfs above what is there.
    TmpfsOverlay,
}

/// Reads a disk's `source`, `pool` and `path`. Meant for validated devices; an empty pool is possible in others.
pub fn source(device: &Device) -> Source<'_> {
    let pool = POOL.text(device);
    match SOURCE.text(device) {
        "" => Source::Root { pool },
        SOURCE_CLOUD_INIT => Source::CloudInit,
        SOURCE_AGENT => Source::Agent,
        SOURCE_TMPFS => Source::Tmpfs,
        SOURCE_TMPFS_OVERLAY => Source::TmpfsOverlay,
        source if !pool.is_empty() => match source.split_once('/') {
            Some((volume, path)) => Source::Volume { pool, volume, path: Some(path) },
            None => Source::Volume { pool, volume: source, path: None },
        },
        source => match (source.strip_prefix("ceph:"), source.strip_prefix("cephfs:")) {
            (Some(image), _) => Source::Ceph(image),
            (_, Some(path)) => Source::CephFs(path),
            _ => Source::HostPath(source),
        },
    }
}

/// Must the source exist?
pub fn is_required(device: &Device) -> bool {
    match (REQUIRED.get(device), OPTIONAL.get(device)) {
        (Some(required), _) => !boolean::is_false(required),
        (None, Some(optional)) => !boolean::is_true(optional),
        (None, None) => true,
    }
}

/// The options that limit what runs.
static LIMITS: [&Key; 3] = [&LIMITS_READ, &LIMITS_WRITE, &LIMITS_MAX];

/// Whether an option is one of a disk's limits.
pub fn is_limit(name: &str) -> bool {
    LIMITS.iter().any(|key| key.matches(name))
}

/// Whether a device is a disk that limits reading or writing.
pub fn is_limited(device: &Device) -> bool {
    super::device_type(device) == "disk" && LIMITS.iter().any(|key| key.get(device).is_some())
}

/// A disk's limits of reading and of writing.
pub fn io_limits(device: &Device) -> Result<(IoLimit, IoLimit)> {
    let limit = |key: &Key| {
        LIMITS_MAX.read(device, parse::io_limit).transpose().or_else(|| key.read(device, parse::io_limit).transpose())
    };
    Ok((limit(&LIMITS_READ).transpose()?.unwrap_or_default(), limit(&LIMITS_WRITE).transpose()?.unwrap_or_default()))
}

fn require(good: bool, message: &str) -> Result<()> {
    if good { Ok(()) } else { Err(Error::invalid(message)) }
}

fn check(device: &Device, kind: Option<InstanceType>) -> Result<()> {
    let set = |key: &Key| key.get(device).is_some();
    if kind == Some(InstanceType::Container) {
        require(!set(&IO_BUS), "IO bus configuration cannot be applied to containers")?;
        require(!set(&IO_CACHE), "IO cache configuration cannot be applied to containers")?;
        require(!set(&WWN), "WWN cannot be applied to containers")?;
        require(!BURSTS.iter().any(|k| set(k)), "Burst I/O limits cannot be applied to containers")?;
        require(!set(&ATTACHED), "Attached configuration cannot be applied to containers")?;
    }
    require(
        !set(&WWN) || matches!(IO_BUS.get(device), None | Some("virtio-scsi")),
        "WWN can only be set on virtio-scsi disks",
    )?;
    require(
        !(set(&REQUIRED) && set(&OPTIONAL)),
        "Cannot use both \"required\" and deprecated \"optional\" properties at the same time",
    )?;
    check_source(device)?;
    check_initial(device)?;
    check_bursts(device)
}

/// What is made with the disk: of a root disk its volume, else the folders that its source lacks, or a tmpfs.
fn check_initial(device: &Device) -> Result<()> {
    let root = super::is_root_disk(device);
    for (name, value) in device {
        let Some(option) = name.strip_prefix(super::INITIAL.name) else { continue };
        let own = [&INITIAL_UID, &INITIAL_GID, &INITIAL_MODE].iter().any(|key| key.name == name);
        match root {
            false => require(
                own,
                &format!(
                    "Non-root disk device only supports initial.uid, initial.gid and initial.mode configuration, not {name:?}"
                ),
            )?,
            true => volume::check_default(option, value).context("Invalid initial device configuration")?,
        }
    }
    Ok(())
}

fn check_source(device: &Device) -> Result<()> {
    let set = |key: &Key| key.get(device).is_some();
    let root = PATH.text(device) == "/";
    let source = SOURCE.text(device);
    require(root || !source.is_empty(), "Disk entry is missing the required \"source\" or \"path\" property")?;
    require(!root || source.is_empty(), "Root disk entry may not have a \"source\" property set")?;
    require(!root || set(&POOL), "Root disk entry must have a \"pool\" property set")?;
    if set(&POOL) && matches!(source, SOURCE_CLOUD_INIT | SOURCE_AGENT) {
        return Err(Error::invalid(format!("Disk entry with source {source:?} cannot have a \"pool\" property set")));
    }
    let tmpfs = matches!(source, SOURCE_TMPFS | SOURCE_TMPFS_OVERLAY);
    require(root || tmpfs || !set(&SIZE), "Only root or tmpfs disks can have a size quota")?;
    require(root || !set(&SIZE_STATE), "Only the root disk may have a migration size quota")?;
    require(!root || !set(&RECURSIVE), "The recursive option is only supported for additional bind-mounted paths")?;
    require(
        !(RECURSIVE.bool(device)? && READONLY.bool(device)?),
        "Recursive read-only bind-mounts aren't currently supported by the kernel",
    )?;
    require(!tmpfs || set(&PATH), "Missing mount \"path\" setting")?;
    match self::source(device) {
        Source::HostPath(path) => {
            require(path.starts_with('/'), "Source path must be absolute for local sources")?;
        }
        Source::Volume { volume, path, .. } => {
            require(!volume.is_empty(), "Storage volumes cannot be specified as absolute paths")?;
            let parts = path.iter().flat_map(|p| p.split('/')).chain([volume]);
            let climbs = parts.into_iter().any(|part| matches!(part, "." | ".."));
            require(!climbs, "Storage volume source cannot contain \".\" or \"..\" components")?;
            require(
                !set(&SHIFT),
                "The \"shift\" property cannot be used with custom storage volumes (set \"security.shifted=true\" on the volume instead)",
            )?;
        }
        _ => {}
    }
    let ceph = matches!(self::source(device), Source::Ceph(_) | Source::CephFs(_));
    if !ceph && (set(&CEPH_CLUSTER_NAME) || set(&CEPH_USER_NAME)) {
        return Err(Error::invalid(format!("Invalid options ceph.cluster_name/ceph.user_name for source {source:?}")));
    }
    Ok(())
}

/// A burst needs a limit to rise above, and its length a burst.
fn check_bursts(device: &Device) -> Result<()> {
    let read = |all: &Key, one: &Key| -> Result<IoLimit> {
        Ok(all.read(device, parse::io_limit)?.or(one.read(device, parse::io_limit)?).unwrap_or_default())
    };
    let set = |key: &Key| key.get(device).is_some();
    let (reads, writes) = io_limits(device)?;
    let read_burst = read(&LIMITS_MAX_BURST, &LIMITS_READ_BURST)?;
    let write_burst = read(&LIMITS_MAX_BURST, &LIMITS_WRITE_BURST)?;
    let (has_read, has_write) = (read_burst != IoLimit::default(), write_burst != IoLimit::default());
    require(
        has_read || has_write || !set(&LIMITS_MAX_BURST_LENGTH),
        "limits.max.burst.length requires a burst I/O limit to be set",
    )?;
    if !set(&LIMITS_MAX_BURST_LENGTH) {
        require(
            has_read || !set(&LIMITS_READ_BURST_LENGTH),
            "limits.read.burst.length requires a read burst I/O limit to be set",
        )?;
        require(
            has_write || !set(&LIMITS_WRITE_BURST_LENGTH),
            "limits.write.burst.length requires a write burst I/O limit to be set",
        )?;
    }
    let pairs = [
        ("read byte/s", reads.bytes, read_burst.bytes),
        ("read IOPS", reads.iops, read_burst.iops),
        ("write byte/s", writes.bytes, write_burst.bytes),
        ("write IOPS", writes.iops, write_burst.iops),
    ];
    for (name, sustained, burst) in pairs {
        let Some(burst) = burst.filter(|n| *n > 0) else { continue };
        match sustained.filter(|n| *n > 0) {
            None => return Err(Error::invalid(format!("A {name} burst limit requires a matching sustained limit"))),
            Some(limit) if burst < limit => {
                return Err(Error::invalid(format!("The {name} burst limit must be higher than the sustained limit")));
            }
            Some(_) => {}
        }
    }
    Ok(())
}

/// No two disks at one path.
pub(super) fn check_paths(devices: &Devices) -> Result<()> {
    let mut seen = std::collections::BTreeSet::new();
    for device in devices.values().filter(|d| super::device_type(d) == "disk") {
        if let Some(path) = PATH.get(device).filter(|p| !seen.insert(*p)) {
            return Err(Error::invalid(format!("More than one disk device uses the same path {path:?}")));
        }
    }
    Ok(())
}
