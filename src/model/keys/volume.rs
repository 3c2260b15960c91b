//! Options of custom volumes, by what they hold. A pool's `volume.<key>` is what a new volume gets where it says nothing itself.

use super::device::{
    self,
    disk::{INITIAL_GID, INITIAL_MODE, INITIAL_UID},
};
use super::{
    Key, SNAPSHOTS_EXPIRY, SNAPSHOTS_EXPIRY_MANUAL, SNAPSHOTS_PATTERN, SNAPSHOTS_SCHEDULE, Scope, Suffix, Value, pool,
};
use crate::error::{Context, Error, Result};
use crate::model::instance::{Config, Device};
use crate::model::volume::ContentType;

keys! {
    SIZE: "size", Both, Value::Size, "Size of the volume"
        => long("Of files kept by ext4 and xfs if they are mounted with prjquota, and by btrfs. A disk has 10GiB if nothing is \
                 said, and only grows.");
    SHIFTED: "security.shifted", Both, Value::Bool, "Let instances with different ID maps have the volume"
        => default("false"), long("Volumes are mounted with the ID map of each instance, so they can always.");
    UNMAPPED: "security.unmapped", Both, Value::Bool, "Mount the volume with the IDs on disk" => default("false");
    SHARED: "security.shared", Both, Value::Bool, "Let several instances have the disk" => default("false");
    BLOCK_FILESYSTEM: "block.filesystem", Both, Value::OneOf(&["ext4", "xfs", "btrfs"]), "File system of the volume"
        => default("ext4"), long("On pools of the driver lvm, and zfs in block mode. It counts when the volume is made.");
    BLOCK_MOUNT_OPTIONS: "block.mount_options", Both, Value::Checked("mount options", pool::mount_options),
        "Mount options, from the next mount on" => long("On pools of the driver lvm, and zfs in block mode.");
    BLOCK_CREATE_OPTIONS: "block.create_options", Both, Value::Checked("mkfs options", pool::mkfs_options),
        "Options for the program that makes the filesystem"
        => long("On pools of the driver lvm, and zfs in block mode. It counts when the volume is made.");
    LVM_STRIPES: "lvm.stripes", Both, Value::Uint32, "Number of stripes, without a thin pool";
    LVM_STRIPES_SIZE: "lvm.stripes.size", Both, Value::Size, "Size of a stripe";
    ZFS_BLOCKSIZE: "zfs.blocksize", Both, Value::Checked("block size", pool::zfs_blocksize), "Largest block of new data"
        => long("On pools of the driver zfs.");
    ZFS_BLOCK_MODE: "zfs.block_mode", Both, Value::Bool, "Whether the volume is a block device with a file system"
        => default("false"), long("On pools of the driver zfs. It counts when the volume is made.");
    ZFS_DELEGATE: "zfs.delegate", Both, Value::Checked("boolean", pool::zfs_delegate), "Not supported yet"
        => default("false");
    ZFS_REMOVE_SNAPSHOTS: "zfs.remove_snapshots", Both, Value::Bool, "Without effect: any snapshot can be restored"
        => default("false"), long("On pools of the driver zfs.");
    ZFS_USE_REFQUOTA: "zfs.use_refquota", Both, Value::Bool, "Whether the size leaves out snapshots"
        => default("false"), long("On pools of the driver zfs.");
    ZFS_RESERVE_SPACE: "zfs.reserve_space", Both, Value::Bool, "Whether the size is set aside"
        => default("false"), long("On pools of the driver zfs.");
    USER: "user.", Both, Value::Text, "Anything, without effect" => prefix(Suffix::Any);
}

/// What stands before a volume's key among those of a pool.
pub const POOL_PREFIX: &str = "volume.";

/// Options of custom volumes.
pub static TABLE: &[&Key] = &[
    &SIZE,
    &SHIFTED,
    &UNMAPPED,
    &SHARED,
    &SNAPSHOTS_EXPIRY,
    &SNAPSHOTS_EXPIRY_MANUAL,
    &SNAPSHOTS_PATTERN,
    &SNAPSHOTS_SCHEDULE,
    &INITIAL_UID,
    &INITIAL_GID,
    &INITIAL_MODE,
    &BLOCK_FILESYSTEM,
    &BLOCK_MOUNT_OPTIONS,
    &BLOCK_CREATE_OPTIONS,
    &LVM_STRIPES,
    &LVM_STRIPES_SIZE,
    &ZFS_BLOCKSIZE,
    &ZFS_BLOCK_MODE,
    &ZFS_DELEGATE,
    &ZFS_REMOVE_SNAPSHOTS,
    &ZFS_USE_REFQUOTA,
    &ZFS_RESERVE_SPACE,
    &USER,
];

/// Options of the volume that the root of an instance is, where its disk says them as `initial.<option>`.
static OF_ROOT: [&Key; 10] = [
    &BLOCK_FILESYSTEM,
    &BLOCK_MOUNT_OPTIONS,
    &BLOCK_CREATE_OPTIONS,
    &LVM_STRIPES,
    &LVM_STRIPES_SIZE,
    &ZFS_BLOCKSIZE,
    &ZFS_BLOCK_MODE,
    &ZFS_REMOVE_SNAPSHOTS,
    &ZFS_USE_REFQUOTA,
    &ZFS_RESERVE_SPACE,
];

/// What of an option is done at once when it changes, besides the size.
static APPLIED: [&Key; 3] = [&ZFS_BLOCKSIZE, &ZFS_USE_REFQUOTA, &ZFS_RESERVE_SPACE];

/// What only counts when the volume is made.
static INITIAL: [&Key; 8] = [
    &INITIAL_UID,
    &INITIAL_GID,
    &INITIAL_MODE,
    &BLOCK_FILESYSTEM,
    &BLOCK_CREATE_OPTIONS,
    &LVM_STRIPES,
    &LVM_STRIPES_SIZE,
    &ZFS_BLOCK_MODE,
];

/// What is of a file system on a block device.
static OF_DEVICE: [&Key; 3] = [&BLOCK_FILESYSTEM, &BLOCK_MOUNT_OPTIONS, &BLOCK_CREATE_OPTIONS];

/// What is of a file system.
static OF_FILES: [&Key; 11] = [
    &SHIFTED,
    &UNMAPPED,
    &BLOCK_FILESYSTEM,
    &BLOCK_MOUNT_OPTIONS,
    &BLOCK_CREATE_OPTIONS,
    &LVM_STRIPES,
    &LVM_STRIPES_SIZE,
    &ZFS_BLOCK_MODE,
    &ZFS_DELEGATE,
    &ZFS_USE_REFQUOTA,
    &ZFS_RESERVE_SPACE,
];

/// Size of a disk for which none is given, bytes.
pub const DISK_SIZE: u64 = 10 << 30;

/// The declared options of what a volume holds.
pub fn all(content: ContentType) -> impl Iterator<Item = &'static Key> {
    let fits = move |key: &Key| match key.name {
        name if name == SHARED.name => content == ContentType::Block,
        name if content == ContentType::Iso => name == SIZE.name || name == USER.name,
        name if OF_FILES.iter().any(|k| k.name == name) => content == ContentType::Filesystem,
        _ => true,
    };
    TABLE.iter().copied().filter(move |key| fits(key))
}

/// Checks the options of a volume; the messages are Incus's.
///
/// # Errors
/// [`crate::error::Kind::Invalid`].
pub fn check(volume: &str, content: ContentType, config: &Config) -> Result<()> {
    for (name, value) in config {
        let shown: String = name.chars().filter(|c| !c.is_control()).collect();
        let key = all(content).find(|k| k.matches(name));
        let key =
            key.ok_or_else(|| Error::invalid(format!("Invalid option for volume {volume:?} option {shown:?}")))?;
        let wrong = || format!("Invalid value for volume {volume:?} option {shown:?}");
        key.value.check(value).with_context(wrong)?;
    }
    if SHIFTED.bool(config)? && UNMAPPED.bool(config)? {
        return Err(Error::invalid("security.shifted and security.unmapped are mutually exclusive"));
    }
    Ok(())
}

/// The driver whose volumes are on block devices only if they say so.
const ZFS: &str = "zfs";

fn is_of_device(name: &str) -> bool {
    OF_DEVICE.iter().any(|key| key.name == name)
}

/// Volumes of a driver's pools have the option: their pools have the default of it.
fn fits(driver: &str, name: &str) -> bool {
    USER.matches(name) || pool::all(driver).any(|key| key.name.strip_prefix(POOL_PREFIX) == Some(name))
}

/// Checks that volumes of a driver's pools have these options, which [`check`] passed.
///
/// # Errors
/// [`crate::error::Kind::Invalid`].
pub fn check_driver(driver: &str, volume: &str, config: &Config) -> Result<()> {
    match config.keys().find(|name| !fits(driver, name)) {
        Some(name) => Err(Error::invalid(format!("Invalid option for volume {volume:?} option {name:?}"))),
        None => Ok(()),
    }
}

/// Checks a volume to be made on a driver's pool: what is of a file system on a block device has a place only there.
///
/// # Errors
/// [`crate::error::Kind::Invalid`].
pub fn check_new(driver: &str, volume: &str, config: &Config) -> Result<()> {
    let files = driver == ZFS && !ZFS_BLOCK_MODE.bool(config)?;
    match config.keys().find(|name| files && is_of_device(name)) {
        Some(name) => Err(Error::invalid(format!("Invalid option for volume {volume:?} option {name:?}"))),
        None => check_driver(driver, volume, config),
    }
}

/// Checks an option that pools of some driver have a default of for their volumes; others count for nothing, as with Incus.
///
/// # Errors
/// [`crate::error::Kind::Invalid`].
pub fn check_default(name: &str, value: &str) -> Result<()> {
    let mut all = ["btrfs", "lvm", "zfs"].into_iter().flat_map(pool::all);
    match all.find(|key| key.name.strip_prefix(POOL_PREFIX) == Some(name)) {
        Some(key) => key.value.check(value).with_context(|| format!("Invalid value for volume option {name:?}")),
        None => Ok(()),
    }
}

/// Leaves the options that volumes of a driver's pools have.
pub fn keep_of(driver: &str, config: &mut Config) {
    config.retain(|name, _| fits(driver, name));
}

/// Leaves the options that a volume can have: what comes from elsewhere has those of another driver, too.
pub fn keep_known(content: ContentType, config: &mut Config) {
    config.retain(|name, value| !value.is_empty() && all(content).any(|k| k.matches(name)));
}

/// Checks what a change does to the options of a volume that is there.
///
/// # Errors
/// Invalid: one of them counts only when it is made.
pub fn check_change(old: &Config, new: &Config) -> Result<()> {
    match INITIAL.iter().find(|key| key.get(old) != key.get(new)) {
        Some(key) if key.name == BLOCK_FILESYSTEM.name => {
            Err(Error::invalid(format!("Custom volume {:?} property cannot be changed", key.name)))
        }
        Some(key) if [LVM_STRIPES.name, LVM_STRIPES_SIZE.name].contains(&key.name) => {
            Err(Error::invalid(format!("{} cannot be changed", key.name)))
        }
        Some(key) => Err(Error::invalid(format!("Volume option {:?} cannot be changed after creation", key.name))),
        None => Ok(()),
    }
}

/// A change has the driver do something to the volume.
pub fn is_applied(old: &Config, new: &Config) -> bool {
    SIZE.size(old).ok() != SIZE.size(new).ok() || APPLIED.iter().any(|key| key.get(old) != key.get(new))
}

/// The options of the root of an instance whose disk this is.
///
/// # Errors
/// [`crate::error::Kind::Invalid`].
pub fn of_root(device: &Device) -> Result<Config> {
    let mut all = Config::new();
    for (name, value) in device.iter().filter(|(_, value)| !value.is_empty()) {
        let Some(own) = name.strip_prefix(device::INITIAL.name) else { continue };
        let Some(key) = OF_ROOT.iter().find(|key| key.name == own) else { continue };
        key.value.check(value).with_context(|| format!("Invalid value for device option {name:?}"))?;
        all.insert(own.to_string(), value.clone());
    }
    Ok(all)
}

/// Checks that roots on a driver's pools have the options that the disk `device` is given for them.
///
/// # Errors
/// Unsupported: they have not.
pub fn check_root(driver: &str, device: &Device) -> Result<()> {
    let own = |name: &String| [&INITIAL_UID, &INITIAL_GID, &INITIAL_MODE].iter().any(|key| key.name == name);
    let options = device.keys().filter(|name| !own(name));
    let mut options = options.filter_map(|name| name.strip_prefix(device::INITIAL.name));
    match options.find(|name| !fits(driver, name) || *name == SIZE.name) {
        Some(name) if name == SIZE.name => {
            Err(Error::invalid("Device initial configuration can't set a size")
                .hint("give the disk the option \"size\""))
        }
        Some(name) => Err(Error::unsupported(format!(
            "Device initial configuration {name:?} is not supported by storage pools of the driver {driver:?}"
        ))),
        None => Ok(()),
    }
}

/// What the data of a new volume are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// It is empty.
    New,
    /// They come from elsewhere: a pool of zfs says nothing of whether the volume is in block mode.
    Elsewhere,
}

/// Gives a volume to be made the defaults of its pool, and what it is made with where nobody says it: what is said later changes
/// neither.
///
/// # Errors
/// A value of the pool is wrong.
pub fn apply_defaults(pool: &Config, content: ContentType, origin: Origin, config: &mut Config) -> Result<()> {
    let (of_lvm, of_zfs) = (pool::LVM_VG_NAME.get(pool).is_some(), pool::ZFS_POOL_NAME.get(pool).is_some());
    let elsewhere = origin == Origin::Elsewhere;
    let mode = ZFS_BLOCK_MODE.get(config).or(pool::VOLUME_ZFS_BLOCK_MODE.get(pool).filter(|_| !elsewhere));
    let on_device = of_lvm || of_zfs && mode.is_some_and(crate::base::boolean::is_true);
    let thin = of_lvm && pool::LVM_USE_THINPOOL.bool(pool)?;
    let counts = |name: &str| {
        !(is_of_device(name) && !on_device
            || name == ZFS_BLOCK_MODE.name && elsewhere
            || (name == LVM_STRIPES.name || name == LVM_STRIPES_SIZE.name) && thin)
    };
    let given = pool.iter().filter_map(|(name, value)| Some((name.strip_prefix(POOL_PREFIX)?, value)));
    for (name, value) in given.filter(|(name, _)| counts(name) && all(content).any(|k| k.matches(name))) {
        config.entry(name.to_string()).or_insert_with(|| value.clone());
    }
    if on_device && content == ContentType::Filesystem {
        for (key, usual) in [
            (&BLOCK_FILESYSTEM, pool::VOLUME_BLOCK_FILESYSTEM.default),
            (&BLOCK_MOUNT_OPTIONS, pool::VOLUME_BLOCK_MOUNT_OPTIONS.default),
        ] {
            config.entry(key.name.to_string()).or_insert_with(|| usual.to_string());
        }
    }
    Ok(())
}

/// Owner, group and mode of the root of a new volume.
///
/// # Errors
/// One of the values is wrong.
pub fn initial(config: &Config) -> Result<(u32, u32, u32)> {
    let mode = INITIAL_MODE.text(config);
    let mode = u32::from_str_radix(mode, 8).map_err(|_| Error::invalid("Invalid value for an octal file mode"))?;
    Ok((INITIAL_UID.u32(config)?.unwrap_or(0), INITIAL_GID.u32(config)?.unwrap_or(0), mode))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(pairs: &[(&str, &str)]) -> Config {
        pairs.iter().map(|(k, v)| ((*k).to_string(), (*v).to_string())).collect()
    }

    #[test]
    fn each_option_is_checked() {
        use ContentType::{Block, Filesystem as Files, Iso};
        assert!(check("v", Files, &config(&[("size", "1GiB"), ("user.a", "b"), ("initial.mode", "0770")])).is_ok());
        let says = |pairs: &[(&str, &str)]| check("v", Files, &config(pairs)).expect_err("wrong").to_string();
        assert_eq!(says(&[("x", "1")]), "Invalid option for volume \"v\" option \"x\"");
        assert!(says(&[("size", "much")]).starts_with("Invalid value for volume \"v\" option \"size\""));
        assert!(says(&[("security.shifted", "true"), ("security.unmapped", "true")]).contains("exclusive"));
        let fits = |content, key| check("v", content, &config(&[(key, "true")])).is_ok();
        assert_eq!([Files, Block, Iso].map(|c| fits(c, "security.shared")), [false, true, false]);
        assert_eq!([Files, Block, Iso].map(|c| fits(c, "security.shifted")), [true, false, false]);
        assert!(check_change(&config(&[]), &config(&[("initial.uid", "1")])).is_err());
        assert!(check_change(&config(&[("size", "1")]), &config(&[])).is_ok());
        let all = config(&[("size", "1"), ("snapshots.pattern", "x"), ("initial.uid", "1"), ("user.a", "b")]);
        let disk = config(&[("security.shared", "true"), ("snapshots.expiry.manual", "1d")]);
        for driver in ["dir", "btrfs", "lvm"] {
            assert!(check_driver(driver, "v", &all).is_ok() && check_driver(driver, "v", &disk).is_ok(), "{driver}");
        }
        let xfs = config(&[("block.filesystem", "xfs")]);
        assert!(check("v", Files, &xfs).is_ok() && check_driver("lvm", "v", &xfs).is_ok());
        let not = check_driver("dir", "v", &xfs).expect_err("wrong").to_string();
        assert_eq!(not, "Invalid option for volume \"v\" option \"block.filesystem\"");
        let zfs = config(&[("zfs.blocksize", "16KiB"), ("zfs.use_refquota", "true"), ("zfs.delegate", "false")]);
        assert!(check("v", Files, &zfs).is_ok() && check_driver("zfs", "v", &zfs).is_ok());
        assert!(check_driver("btrfs", "v", &zfs).is_err() && check("v", Block, &zfs).is_err());
        assert!(says(&[("zfs.blocksize", "10KiB")]).contains("power of 2"));
        let mode = config(&[("zfs.block_mode", "true"), ("block.filesystem", "xfs")]);
        assert!(check_new("zfs", "v", &mode).is_ok() && check_new("zfs", "v", &xfs).is_err());
        assert!(check_new("lvm", "v", &xfs).is_ok() && check_new("lvm", "v", &mode).is_err());
        assert!(check("v", Block, &mode).is_err() && check_change(&mode, &xfs).is_err());
        assert!(says(&[("zfs.delegate", "true")]).contains("Local ZFS version doesn't support delegation"));
        assert!(
            is_applied(&config(&[]), &zfs)
                && !is_applied(&config(&[("size", "1MiB")]), &config(&[("size", "1024KiB")]))
        );
        let root = config(&[("initial.zfs.blocksize", "16KiB"), ("initial.zfs.delegate", "1"), ("pool", "p")]);
        assert_eq!(of_root(&root).expect("good"), config(&[("zfs.blocksize", "16KiB")]));
        assert!(of_root(&config(&[("initial.zfs.blocksize", "much")])).is_err());
        assert!(check_root("zfs", &root).is_ok() && check_root("lvm", &config(&[("path", "/")])).is_ok());
        let refused = |driver, key| check_root(driver, &config(&[(key, "1")])).map_err(|e| e.to_string());
        assert!(refused("lvm", "initial.block.filesystem").is_ok() && refused("dir", "initial.mode").is_ok());
        let words = "\"zfs.blocksize\" is not supported by storage pools of the driver \"dir\"";
        assert!(check_root("dir", &root).is_err_and(|e| e.to_string().contains(words)));
        assert!(refused("lvm", "initial.size").is_err() && refused("lvm", "initial.nonsense").is_err());
        let mut moved = xfs.clone();
        keep_of("dir", &mut moved);
        assert_eq!(moved, config(&[]));
    }

    #[test]
    fn a_pool_says_what_a_volume_does_not() {
        let fill = |pool: &[(&str, &str)], content, origin, own: &[(&str, &str)]| {
            let mut own = config(own);
            apply_defaults(&config(pool), content, origin, &mut own).expect("good");
            own
        };
        let (files, disk) = (ContentType::Filesystem, ContentType::Block);
        let pool = [("volume.initial.mode", "755"), ("volume.initial.uid", "5"), ("volume.zfs.x", "1")];
        let own = fill(&pool, files, Origin::New, &[("initial.mode", "700")]);
        assert_eq!(own, config(&[("initial.mode", "700"), ("initial.uid", "5")]));
        assert_eq!(initial(&own).expect("values"), (5, 0, 0o700));
        assert_eq!(initial(&config(&[])).expect("values"), (0, 0, 0o711));
        // On a pool of lvm each is on a device.
        let lvm = [("lvm.vg_name", "g"), ("volume.lvm.stripes", "2"), ("volume.block.mount_options", "noatime")];
        let made = [("block.filesystem", "ext4"), ("block.mount_options", "noatime")];
        assert_eq!(fill(&lvm, files, Origin::Elsewhere, &[]), config(&made));
        assert_eq!(fill(&lvm, disk, Origin::New, &[]), config(&[]));
        let plain = [&lvm[..2], &[("lvm.use_thinpool", "false")]].concat();
        let striped = [("block.filesystem", "xfs"), ("block.mount_options", "discard"), ("lvm.stripes", "2")];
        assert_eq!(fill(&plain, files, Origin::New, &striped[..1]), config(&striped));
        // On one of zfs it depends on another option.
        let zfs = |mode| [("zfs.pool_name", "p"), ("volume.block.filesystem", "xfs"), ("volume.zfs.block_mode", mode)];
        let made = [("zfs.block_mode", "true"), ("block.filesystem", "xfs"), ("block.mount_options", "discard")];
        assert_eq!(fill(&zfs("true"), files, Origin::New, &[]), config(&made));
        assert_eq!(fill(&zfs("true"), files, Origin::Elsewhere, &[]), config(&[]));
        assert_eq!(fill(&zfs("false"), files, Origin::Elsewhere, &made[..1]), config(&made));
        assert_eq!(fill(&zfs("false"), files, Origin::New, &[]), config(&[("zfs.block_mode", "false")]));
    }
}
