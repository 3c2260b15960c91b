//! Options of storage pools by driver. Kept apart from the keys of instances and of volumes: the same name may mean something
//! else there. A pool's `volume.<key>` is the default of its volumes' key.

use super::checks;
use super::key::{Key, Scope, Suffix};
use super::value::Value;
use crate::error::{Context, Error, Result};
use crate::model::instance::Config;

keys! {
    SOURCE: "source", Both, Value::Line, "Folder or block device the pool lies in";
    SIZE: "size", Both, Value::Checked("size", size), "Size of the loop file"
        => long("20% of the free space, at least 5GiB and at most 30GiB, if it is not given.");
    SOURCE_WIPE: "source.wipe", Both, Value::Bool, "Overwrite what the block device holds" => default("false");
    BTRFS_MOUNT_OPTIONS: "btrfs.mount_options", Both, Value::Checked("mount options", mount_options),
        "Mount options, from the next mount on" => default("user_subvol_rm_allowed");
    BTRFS_CREATE_OPTIONS: "btrfs.create_options", Both, Value::Checked("mkfs.btrfs options", create_options),
        "Options for mkfs.btrfs";
    LVM_VG_NAME: "lvm.vg_name", Both, Value::Checked("volume group", lvm_name), "Volume group"
        => long("The pool's name, if it is not given.");
    LVM_FORCE_REUSE: "lvm.vg.force_reuse", Both, Value::Bool, "Use a volume group that holds something already"
        => default("false");
    LVM_USE_THINPOOL: "lvm.use_thinpool", Both, Value::Bool, "Whether volumes take space only as they are filled"
        => default("true");
    LVM_THINPOOL_NAME: "lvm.thinpool_name", Both, Value::Checked("thin pool", lvm_name), "Thin pool"
        => default("IncusThinPool");
    LVM_THINPOOL_METADATA_SIZE: "lvm.thinpool_metadata_size", Both, Value::Size, "Size of the thin pool's metadata"
        => default("0"), long("0 leaves it to LVM.");
    LVM_METADATA_SIZE: "lvm.metadata_size", Both, Value::Size, "Size of the metadata on the physical volume"
        => default("0"), long("0 leaves it to LVM.");
    VOLUME_BLOCK_FILESYSTEM: "volume.block.filesystem", Both, Value::OneOf(&["ext4", "xfs", "btrfs"]),
        "File system of new volumes" => default("ext4");
    VOLUME_BLOCK_MOUNT_OPTIONS: "volume.block.mount_options", Both, Value::Checked("mount options", mount_options),
        "Mount options, from the next mount on" => default("discard");
    VOLUME_BLOCK_CREATE_OPTIONS: "volume.block.create_options", Both, Value::Checked("mkfs options", mkfs_options),
        "Options for the program that makes the filesystem, for new volumes";
    VOLUME_LVM_STRIPES: "volume.lvm.stripes", Both, Value::Uint32, "Number of stripes of new volumes without a thin pool";
    VOLUME_LVM_STRIPES_SIZE: "volume.lvm.stripes.size", Both, Value::Size, "Size of a stripe";
    ZFS_POOL_NAME: "zfs.pool_name", Both, Value::Checked("ZFS pool", zfs_name), "ZFS pool, or dataset of one"
        => long("The pool's name, if it is not given.");
    ZFS_CLONE_COPY: "zfs.clone_copy", Both, Value::Checked("boolean", clone_copy),
        "Whether copies share what they have in common with what they were made from"
        => default("true"), long("With \"rebase\" they share what they have in common with their image, and no more.");
    ZFS_EXPORT: "zfs.export", Both, Value::Bool, "Export the ZFS pool when the pool is unmounted" => default("true");
    VOLUME_ZFS_BLOCKSIZE: "volume.zfs.blocksize", Both, Value::Checked("block size", zfs_blocksize),
        "Largest block of new volumes";
    VOLUME_ZFS_BLOCK_MODE: "volume.zfs.block_mode", Both, Value::Bool,
        "Whether new volumes are block devices with a file system" => default("false");
    VOLUME_ZFS_DELEGATE: "volume.zfs.delegate", Both, Value::Checked("boolean", zfs_delegate), "Not supported yet"
        => default("false");
    VOLUME_ZFS_REMOVE_SNAPSHOTS: "volume.zfs.remove_snapshots", Both, Value::Bool,
        "Without effect: any snapshot can be restored" => default("false");
    VOLUME_ZFS_USE_REFQUOTA: "volume.zfs.use_refquota", Both, Value::Bool, "Whether sizes leave out snapshots"
        => default("false");
    VOLUME_ZFS_RESERVE_SPACE: "volume.zfs.reserve_space", Both, Value::Bool, "Whether sizes are set aside"
        => default("false");
    RSYNC_BWLIMIT: "rsync.bwlimit", Both, Value::Size, "Upper limit of a copy between hosts, per second" => default("0");
    RSYNC_COMPRESSION: "rsync.compression", Both, Value::Bool, "Compress copies between hosts" => default("true");
    VOLUME_SIZE: "volume.size", Both, Value::Size, "Default size of a volume";
    VOLUME_SNAPSHOTS_EXPIRY: "volume.snapshots.expiry", Both, Value::Checked("expiry", checks::expiry),
        "Default age at which snapshots are deleted";
    VOLUME_SNAPSHOTS_EXPIRY_MANUAL: "volume.snapshots.expiry.manual", Both, Value::Checked("expiry", checks::expiry),
        "Default age at which snapshots made by hand are deleted";
    VOLUME_SNAPSHOTS_PATTERN: "volume.snapshots.pattern", Both, Value::Line, "Default name of snapshots"
        => default("snap%d");
    VOLUME_SNAPSHOTS_SCHEDULE: "volume.snapshots.schedule", Both, Value::Checked("cron expressions", checks::cron),
        "Default schedule of snapshots";
    VOLUME_SECURITY_SHIFTED: "volume.security.shifted", Both, Value::Bool, "Default of mounting with an id map"
        => default("false");
    VOLUME_SECURITY_UNMAPPED: "volume.security.unmapped", Both, Value::Bool, "Default of mounting without id maps"
        => default("false");
    VOLUME_SECURITY_SHARED: "volume.security.shared", Both, Value::Bool, "Default of sharing block volumes"
        => default("false");
    VOLUME_INITIAL_UID: "volume.initial.uid", Both, Value::Uint32, "Default owner of a volume's root" => default("0");
    VOLUME_INITIAL_GID: "volume.initial.gid", Both, Value::Uint32, "Default group of a volume's root" => default("0");
    VOLUME_INITIAL_MODE: "volume.initial.mode", Both, Value::Checked("octal file mode", checks::octal_mode),
        "Default mode of a volume's root" => default("711");
    VOLUME_BTRFS_COMPRESSION: "volume.btrfs.compression", Both, Value::Checked("compression", compression),
        "Default compression of a volume";
    USER: "user.", Both, Value::Text, "Anything, without effect" => prefix(Suffix::Any);
    ID: "volatile.id", Both, Value::Line, "Identity of the pool, in the mark of its folder and of its file system";
    IDMAP: "volatile.idmap", Both, Value::Bool, "Whether the file system can be mounted with an id map";
    DEFAULT_NETWORK: "volatile.default_network", Both, Value::Line, "Whether the default profile waits for its interface";
    RECOVERED: "volatile.recovered", Both, Value::Bool, "Whether volumes that have no record wait in it to be recovered";
    VOLATILE: "volatile.", Both, Value::Line, "What the program keeps for itself" => prefix(Suffix::Any);
}

static VOLUME: &[&Key] = &[
    &VOLUME_SIZE,
    &VOLUME_SNAPSHOTS_EXPIRY,
    &VOLUME_SNAPSHOTS_EXPIRY_MANUAL,
    &VOLUME_SNAPSHOTS_PATTERN,
    &VOLUME_SNAPSHOTS_SCHEDULE,
    &VOLUME_SECURITY_SHIFTED,
    &VOLUME_SECURITY_UNMAPPED,
    &VOLUME_SECURITY_SHARED,
    &VOLUME_INITIAL_UID,
    &VOLUME_INITIAL_GID,
    &VOLUME_INITIAL_MODE,
    &RSYNC_BWLIMIT,
    &RSYNC_COMPRESSION,
    &USER,
    &VOLATILE,
];

static FOLDER: &[&Key] = &[&SOURCE];

static BTRFS: &[&Key] =
    &[&SOURCE, &SIZE, &SOURCE_WIPE, &BTRFS_MOUNT_OPTIONS, &BTRFS_CREATE_OPTIONS, &VOLUME_BTRFS_COMPRESSION];

static LVM: &[&Key] = &[
    &SOURCE,
    &SIZE,
    &SOURCE_WIPE,
    &LVM_VG_NAME,
    &LVM_FORCE_REUSE,
    &LVM_USE_THINPOOL,
    &LVM_THINPOOL_NAME,
    &LVM_THINPOOL_METADATA_SIZE,
    &LVM_METADATA_SIZE,
    &VOLUME_BLOCK_FILESYSTEM,
    &VOLUME_BLOCK_MOUNT_OPTIONS,
    &VOLUME_BLOCK_CREATE_OPTIONS,
    &VOLUME_LVM_STRIPES,
    &VOLUME_LVM_STRIPES_SIZE,
];

static ZFS: &[&Key] = &[
    &SOURCE,
    &SIZE,
    &SOURCE_WIPE,
    &ZFS_POOL_NAME,
    &ZFS_CLONE_COPY,
    &ZFS_EXPORT,
    &VOLUME_BLOCK_FILESYSTEM,
    &VOLUME_BLOCK_MOUNT_OPTIONS,
    &VOLUME_BLOCK_CREATE_OPTIONS,
    &VOLUME_ZFS_BLOCKSIZE,
    &VOLUME_ZFS_BLOCK_MODE,
    &VOLUME_ZFS_DELEGATE,
    &VOLUME_ZFS_REMOVE_SNAPSHOTS,
    &VOLUME_ZFS_USE_REFQUOTA,
    &VOLUME_ZFS_RESERVE_SPACE,
];

/// What counts only when a pool is made.
static INITIAL: &[&Key] = &[&LVM_USE_THINPOOL, &LVM_THINPOOL_METADATA_SIZE, &LVM_METADATA_SIZE, &ZFS_POOL_NAME];

/// What counts only without a thin pool.
static WITHOUT_THIN: [&Key; 2] = [&VOLUME_LVM_STRIPES, &VOLUME_LVM_STRIPES_SIZE];

/// Checks what a change does to the options of a pool that is there.
///
/// # Errors
/// Invalid: one of them counts only when it is made.
pub fn check_change(old: &Config, new: &Config) -> Result<()> {
    let changed = |keys: &[&Key]| keys.iter().find(|key| key.get(old) != key.get(new)).map(|key| key.name);
    match changed(INITIAL) {
        Some(name) if name == ZFS_POOL_NAME.name => return Err(Error::invalid(format!("{name} cannot be modified"))),
        Some(name) => return Err(Error::invalid(format!("{name} cannot be changed"))),
        None => {}
    }
    if LVM_VG_NAME.get(old).is_none() {
        return Ok(());
    }
    if LVM_VG_NAME.get(new).is_none() {
        return Err(Error::invalid(format!("{} cannot be unset", LVM_VG_NAME.name)));
    }
    match changed(&WITHOUT_THIN) {
        Some(name) if LVM_USE_THINPOOL.bool(old)? => {
            Err(Error::invalid(format!("{name} cannot be changed when using thin pool")))
        }
        _ => Ok(()),
    }
}

/// Has the source of a pool in a group of the user's be called as the group; whether the group or its thin pool are to be called
/// otherwise than before.
pub fn renames(old: &Config, new: &mut Config) -> bool {
    let Some(group) = LVM_VG_NAME.get(old) else { return false };
    if SOURCE.get(new) == Some(group) {
        let name = LVM_VG_NAME.text(new).to_string();
        SOURCE.set(new, name);
    }
    [&LVM_VG_NAME, &LVM_THINPOOL_NAME].iter().any(|key| key.text(old) != key.text(new))
}

/// The declared options of a driver's pools; those every driver has for one that is unknown.
pub fn all(driver: &str) -> impl Iterator<Item = &'static Key> {
    let own = match driver {
        "dir" | "overlay" => FOLDER,
        "btrfs" => BTRFS,
        "lvm" => LVM,
        "zfs" => ZFS,
        _ => &[],
    };
    own.iter().chain(VOLUME).copied()
}

/// Checks each option of a pool by itself; the messages are Incus's.
///
/// # Errors
/// [`crate::error::Kind::Invalid`].
pub fn check_each(driver: &str, config: &Config) -> Result<()> {
    for (name, value) in config {
        let shown: String = name.chars().filter(|c| !c.is_control()).collect();
        let key = all(driver).find(|key| key.matches(name));
        let key = key.ok_or_else(|| Error::invalid(format!("Invalid option {shown:?}")))?;
        key.value.check(value).with_context(|| format!("Invalid value for option {shown:?}"))?;
    }
    Ok(())
}

/// Smallest file system that mkfs.btrfs makes with its usual profiles, rounded up.
const SMALLEST: u64 = 128 << 20;

fn size(value: &str) -> Result<()> {
    match crate::base::size::parse_bytes(value)? {
        size if size < SMALLEST => Err(Error::invalid("A storage pool has at least 128MiB")),
        size if size > i64::MAX as u64 => Err(Error::invalid(format!("Invalid value: {value}"))),
        _ => Ok(()),
    }
}

/// What LVM takes as a name and leaves room for those of volumes (lvm(8), "VALID NAMES").
fn lvm_name(value: &str) -> Result<()> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '_' | '.' | '-');
    match value.chars().all(plain) && !value.starts_with('-') && !matches!(value, "" | "." | "..") && value.len() <= 40
    {
        true => Ok(()),
        false => Err(Error::invalid(format!("Invalid name {value:?}"))),
    }
}

/// What ZFS takes as the name of a pool or of a dataset (zpool-create(8)), short enough for those below.
fn zfs_name(value: &str) -> Result<()> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-' | ':');
    let part = |part: &str| part.chars().all(plain) && !matches!(part, "" | "." | "..") && !part.starts_with('-');
    let begins = value.starts_with(|c: char| c.is_ascii_alphabetic());
    match begins && value.len() <= 80 && value.split('/').all(part) {
        true => Ok(()),
        false => Err(Error::invalid(format!("Invalid name {value:?}"))),
    }
}

fn clone_copy(value: &str) -> Result<()> {
    if value == "rebase" { Ok(()) } else { Value::Bool.check(value) }
}

/// A power of two from 512 bytes to 16MiB, as Incus has it; what is above 1MiB the module must be told to take.
pub(super) fn zfs_blocksize(value: &str) -> Result<()> {
    match crate::base::size::parse_bytes(value)? {
        size if size.is_power_of_two() && (512..=16 << 20).contains(&size) => Ok(()),
        _ => Err(Error::invalid("Value should be between 512B and 16MiB, and be power of 2")),
    }
}

/// What Incus says at a start: no dataset is lent to a user namespace here, whatever ZFS (2.2 or newer) could do.
pub(super) fn zfs_delegate(value: &str) -> Result<()> {
    Value::Bool.check(value)?;
    match crate::base::boolean::is_true(value) {
        true => Err(Error::unsupported("Local ZFS version doesn't support delegation")
            .hint("delegation takes ZFS 2.2, and is not supported by this version of stapes with any")),
        false => Ok(()),
    }
}

/// Words that neither name another file system to the kernel nor hold anything but what options are made of.
pub(super) fn mount_options(value: &str) -> Result<()> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '=' | ':' | '.' | '-' | '+');
    for option in value.split(',') {
        let word = option.trim();
        let name = word.split('=').next().unwrap_or_default();
        let elsewhere = matches!(name, "device" | "source" | "subvol" | "subvolid" | "degraded");
        if word.is_empty() || elsewhere || !word.chars().all(plain) {
            return Err(Error::invalid(format!("Invalid mount option {word:?}")));
        }
    }
    Ok(())
}

/// Options of mkfs.btrfs(8) that may be given, and whether a value follows. Its operands and those that read files are not
/// among them (CVE-2026-62867).
const CREATE_OPTIONS: &[(&str, bool)] = &[
    ("-n", true),
    ("--nodesize", true),
    ("-s", true),
    ("--sectorsize", true),
    ("-m", true),
    ("--metadata", true),
    ("-d", true),
    ("--data", true),
    ("-O", true),
    ("--features", true),
    ("--csum", true),
    ("-K", false),
    ("--nodiscard", false),
    ("-M", false),
    ("--mixed", false),
];

/// Options of mkfs.ext4(8), mkfs.xfs(8) and mkfs.btrfs(8) that may be given for a volume's device; each takes a value.
const MKFS_OPTIONS: &[(&str, &[&str])] = &[
    ("ext4", &["-b", "-C", "-E", "-g", "-G", "-i", "-I", "-J", "-m", "-N", "-O", "-T"]),
    ("xfs", &["-b", "-d", "-i", "-l", "-m", "-n", "-s"]),
    (
        "btrfs",
        &["-n", "-s", "-m", "-d", "-O", "--nodesize", "--sectorsize", "--metadata", "--data", "--features", "--csum"],
    ),
];
/// What in such a value names another file or device, or another place on this one.
const ELSEWHERE: [&str; 6] = ["name", "file", "logdev", "rtdev", "device", "offset"];

/// The words of what may be given to the program that makes a file system of that kind.
///
/// # Errors
/// Invalid: an option that may not be given, or no value for one.
pub fn block_create_options(kind: &str, value: &str) -> Result<Vec<String>> {
    let known = MKFS_OPTIONS.iter().find(|(name, _)| *name == kind).map_or(&[][..], |(_, known)| known);
    let mut words = value.split_whitespace();
    let mut all = Vec::new();
    while let Some(word) = words.next() {
        let plain = |c: char| c.is_ascii_alphanumeric() || "^,-_.=:".contains(c);
        let here = |part: &str| !ELSEWHERE.contains(&part.split('=').next().unwrap_or_default());
        let value = words.next().filter(|_| known.contains(&word));
        let value = value.filter(|v| !v.starts_with('-') && v.chars().all(plain) && v.split(',').all(here));
        let value = value.ok_or_else(|| Error::invalid(format!("Invalid mkfs.{kind} option {word:?}")))?;
        all.extend([word.to_string(), value.to_string()]);
    }
    Ok(all)
}

/// They are options for one kind of file system.
pub(super) fn mkfs_options(value: &str) -> Result<()> {
    let first = block_create_options(MKFS_OPTIONS[0].0, value);
    let others = || MKFS_OPTIONS[1..].iter().find_map(|(kind, _)| block_create_options(kind, value).ok());
    first.or_else(|e| others().ok_or(e)).map(drop)
}

fn create_options(value: &str) -> Result<()> {
    let mut words = value.split_whitespace();
    while let Some(word) = words.next() {
        let (name, given) = word.split_once('=').map_or((word, None), |(name, value)| (name, Some(value)));
        let known = CREATE_OPTIONS.iter().find(|(option, _)| *option == name);
        let value = match known {
            Some((_, true)) => given.or_else(|| words.next()),
            Some((_, false)) if given.is_none() => continue,
            _ => None,
        };
        let plain = |v: &str| {
            !v.is_empty() && !v.starts_with('-') && v.chars().all(|c| c.is_ascii_alphanumeric() || "^,-_.".contains(c))
        };
        if !value.is_some_and(plain) {
            return Err(Error::invalid(format!("Invalid mkfs.btrfs option {word:?}")));
        }
    }
    Ok(())
}

fn compression(value: &str) -> Result<()> {
    let (name, level) = value.split_once(':').map_or((value, None), |(name, level)| (name, Some(level)));
    let good = matches!(name, "zlib" | "lzo" | "zstd" | "none" | "no")
        && level.is_none_or(|l| l.parse::<u8>().is_ok_and(|l| (1..=15).contains(&l)));
    if good { Ok(()) } else { Err(Error::invalid(format!("Invalid compression {value:?}"))) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn message(driver: &str, key: &str, value: &str) -> String {
        let config = Config::from([(key.to_string(), value.to_string())]);
        check_each(driver, &config).map_or_else(|e| e.to_string(), |()| "ok".into())
    }

    #[test]
    fn declarations_are_whole() {
        for driver in ["dir", "overlay", "btrfs", "lvm", "zfs", ""] {
            let mut seen = BTreeSet::new();
            for key in all(driver) {
                assert!(seen.insert(key.display_name()), "{} twice", key.display_name());
                assert!(!key.short.is_empty() && !key.short.ends_with('.'), "{}", key.name);
                assert!(key.value.check(key.default).is_ok(), "default of {}", key.name);
                assert!(key.value.is_text() || key.value.check("a\nb").is_err(), "{} takes lines", key.name);
            }
        }
    }

    #[test]
    fn changes_are_told_in_the_words_of_incus() {
        let config = |words: &[(&str, &str)]| words.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect::<Config>();
        let lvm = config(&[("lvm.vg_name", "g"), ("source", "g")]);
        let says = |old: &Config, words| {
            let mut new = old.clone();
            new.extend(config(words));
            new.retain(|_, value| !value.is_empty());
            check_change(old, &new).map_or_else(|e| e.to_string(), |()| "ok".into())
        };
        assert_eq!(says(&lvm, &[("lvm.use_thinpool", "false")]), "lvm.use_thinpool cannot be changed");
        assert_eq!(says(&lvm, &[("lvm.vg_name", "")]), "lvm.vg_name cannot be unset");
        let thin = "volume.lvm.stripes cannot be changed when using thin pool";
        assert_eq!(says(&lvm, &[("volume.lvm.stripes", "2")]), thin);
        assert_eq!(says(&lvm, &[("lvm.vg_name", "h"), ("lvm.vg.force_reuse", "true"), ("volume.size", "1GiB")]), "ok");
        let zfs = config(&[("zfs.pool_name", "t")]);
        assert_eq!(says(&zfs, &[("zfs.pool_name", "u")]), "zfs.pool_name cannot be modified");
        assert_eq!(says(&zfs, &[("zfs.export", "false"), ("volume.zfs.block_mode", "true")]), "ok");
        let mut new = config(&[("lvm.vg_name", "h"), ("source", "g")]);
        assert!(renames(&lvm, &mut new) && new["source"] == "h");
        assert!(!renames(&lvm, &mut lvm.clone()) && !renames(&zfs, &mut zfs.clone()));
    }

    #[test]
    fn speaks_as_incus() {
        assert_eq!(message("dir", "foo", "1"), "Invalid option \"foo\"");
        assert_eq!(message("dir", "size", "10GiB"), "Invalid option \"size\"");
        assert_eq!(message("dir", "btrfs.mount_options", "noatime"), "Invalid option \"btrfs.mount_options\"");
        assert_eq!(message("btrfs", "size", "10GiB"), "ok");
        assert_eq!(message("btrfs", "size", "ten"), "Invalid value for option \"size\": Invalid value: ten");
        assert!(message("btrfs", "size", "1MiB").contains("at least 128MiB"));
        assert!(message("btrfs", "source.wipe", "maybe").starts_with("Invalid value for option \"source.wipe\": "));
        assert_eq!(message("overlay", "user.x", "any"), "ok");
        assert_eq!(message("overlay", "volume.size", "1GiB"), "ok");
        assert_eq!(message("overlay", "volume.foo", "1"), "Invalid option \"volume.foo\"");
        assert!(message("zfs", "volume.zfs.delegate", "true").contains("doesn't support delegation"));
        for (name, good) in
            [("tank", true), ("tank/a.b", true), ("1", false), ("t/", false), ("t@s", false), ("-f", false)]
        {
            assert_eq!(message("zfs", "zfs.pool_name", name) == "ok", good, "{name}");
        }
        assert!(message("zfs", "zfs.clone_copy", "rebase") == "ok" && message("zfs", "zfs.clone_copy", "x") != "ok");
        assert!(message("zfs", "volume.zfs.blocksize", "16KiB") == "ok");
        assert!(message("zfs", "volume.zfs.blocksize", "10KiB").contains("power of 2"));
    }

    /// Row CVE-2026-62867: options of mkfs and of mounts smuggle nothing in.
    #[test]
    fn cve_2026_62867_options_of_programs() {
        let create = |value: &str| message("btrfs", "btrfs.create_options", value) == "ok";
        assert!(create("-n 16k -O no-holes,^extref --csum=xxhash -K") && create("--metadata single"));
        for bad in
            ["--rootdir /etc", "-r/etc", "/dev/sda", "-- /dev/sda", "-n", "-n -f", "-n /x", "$(id)", "-L x", "-f"]
        {
            assert!(!create(bad), "{bad}");
        }
        let make = |value: &str| message("lvm", "volume.block.create_options", value) == "ok";
        assert!(
            make("-b 1024 -E stride=16,stripe_width=64 -J size=8 -O ^has_journal") && make("-d su=64k,sw=2 -m crc=1")
        );
        assert!(
            block_create_options("ext4", "-d su=64k,sw=2").is_err() && block_create_options("xfs", "-E x=1").is_err()
        );
        assert!(make("--csum xxhash -m single -O ^no-holes") && block_create_options("xfs", "--csum xxhash").is_err());
        for bad in [
            "-d /etc",
            "-d name=x",
            "-l logdev=x",
            "-J device=x",
            "-E stride=1,offset=5",
            "-F",
            "-N",
            "-N -b",
            "/dev/sda",
            "-- /dev/sda",
            "-n",
            "-O $(id)",
            "-r etc",
            "--rootdir etc",
        ] {
            assert!(!make(bad), "{bad}");
        }
        let mount = |value: &str| message("btrfs", "btrfs.mount_options", value) == "ok";
        assert!(mount("noatime,compress=zstd:3,space_cache=v2"));
        for bad in ["device=/dev/sda", "subvol=/x", "source=/dev/sda", "a b", "x=/y", ",", "a\\040b"] {
            assert!(!mount(bad), "{bad}");
        }
    }
}
