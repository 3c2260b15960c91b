//! Block devices below files: what the kernel limits the reading and writing of.
//!
//! Called by `ops::disk_limits`. stat(2) names the device of a file system that has one; btrfs and ZFS, which can have several,
//! have a number of their own there, and so has what has none at all (tmpfs, overlay, a network's): those are told apart by what
//! their mount says it comes from. The kernel limits whole disks only (cgroup-v2.rst, "io.max"), so a partition stands for its
//! disk; a device of the device mapper or a loop device is one itself, not what it lies on.

use super::command::{Cmd, Host, Program, Runner};
use crate::error::{Context, Error, Result};
use crate::sys::{mount, path};
use rustix::fs::{Mode, OFlags, major, minor};
use std::collections::BTreeSet;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

const ZPOOL: Program = Program { name: "zpool", package: "zfsutils-linux" };
/// A pool of ZFS in files of a file system that is in a pool of ZFS, and so on.
const MOST_NESTED: usize = 8;

/// A device by its numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Device {
    /// That of its driver.
    pub major: u32,
    /// The driver's own.
    pub minor: u32,
}

impl Device {
    fn of(dev: u64) -> Self {
        Self { major: major(dev), minor: minor(dev) }
    }

    /// From `8:0`, as sysfs and control files have it.
    pub fn parse(text: &str) -> Option<Self> {
        let (major, minor) = text.trim().split_once(':')?;
        Some(Self { major: major.parse().ok()?, minor: minor.parse().ok()? })
    }
}

impl std::fmt::Display for Device {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.major, self.minor)
    }
}

/// The whole disks that an open file or folder lies on; `O_PATH` will do.
///
/// # Errors
/// [`crate::error::Kind::Unsupported`]: there are none, or not known to sysfs. As [`Runner::run`] for `zpool`.
pub fn below(fd: BorrowedFd<'_>) -> Result<BTreeSet<Device>> {
    below_nested(fd, 0)
}

fn below_nested(fd: BorrowedFd<'_>, depth: usize) -> Result<BTreeSet<Device>> {
    let device = Device::of(path::fstat(fd)?.dev);
    let parts = match device.major {
        0 => without_number(fd, depth)?,
        _ => BTreeSet::from([device]),
    };
    parts.into_iter().map(|part| whole(Path::new("/sys/dev/block"), part)).collect()
}

/// Those of a file system whose own number says nothing.
fn without_number(fd: BorrowedFd<'_>, depth: usize) -> Result<BTreeSet<Device>> {
    let table = std::fs::read_to_string("/proc/self/mountinfo").context("Failed reading the mount table")?;
    let (kind, source) = origin(&table, mount::id(fd)?)
        .ok_or_else(|| Error::unsupported("Couldn't find a match /proc/self/mountinfo entry"))?;
    let found = match kind.as_str() {
        "zfs" if depth < MOST_NESTED => of_zpool(&source, depth)?,
        _ => block_device(Path::new(&source)).map(|one| of_btrfs(one, &kind)).unwrap_or_default(),
    };
    if found.is_empty() {
        return Err(Error::unsupported(format!("Invalid block device {source:?}"))
            .hint("only what lies on a disk of this host has limits of reading and writing"));
    }
    Ok(found)
}

/// Type and source of the mount `id`, of the lines of proc_pid_mountinfo(5).
fn origin(table: &str, id: u64) -> Option<(String, String)> {
    let of_it = |line: &&str| line.split(' ').next().is_some_and(|first| first.parse() == Ok(id));
    let (_, right) = table.lines().find(of_it)?.split_once(" - ")?;
    let mut fields = right.split(' ');
    Some((fields.next()?.to_string(), unescaped(fields.next()?)))
}

/// Blanks and the like are three octal digits behind a backslash.
fn unescaped(text: &str) -> String {
    let mut parts = text.split('\\');
    let mut whole = parts.next().unwrap_or_default().to_string();
    for part in parts {
        let code = part.get(..3).and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match code {
            Some(code) => whole.extend([char::from(code)].into_iter().chain(part[3..].chars())),
            None => whole.extend(["\\", part]),
        }
    }
    whole
}

fn block_device(path: &Path) -> Option<Device> {
    let fd = rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).ok()?;
    let stat = path::fstat(fd.as_fd()).ok()?;
    (stat.kind == path::Kind::Block).then(|| Device::of(stat.rdev))
}

/// All devices of the btrfs that is mounted from `one`; of other file systems that one.
fn of_btrfs(one: Device, kind: &str) -> BTreeSet<Device> {
    let alone = BTreeSet::from([one]);
    if kind != "btrfs" {
        return alone;
    }
    let systems = std::fs::read_dir("/sys/fs/btrfs").into_iter().flatten().flatten();
    let mut all = systems.map(|system| devices_in(&system.path().join("devices")));
    all.find(|devices| devices.contains(&one)).unwrap_or(alone)
}

fn devices_in(folder: &Path) -> BTreeSet<Device> {
    let links = std::fs::read_dir(folder).into_iter().flatten().flatten();
    links.filter_map(|link| Device::parse(&std::fs::read_to_string(link.path().join("dev")).ok()?)).collect()
}

/// The devices of the pool of a dataset, and those below the files among them.
fn of_zpool(dataset: &str, depth: usize) -> Result<BTreeSet<Device>> {
    let pool = dataset.split('/').next().unwrap_or_default();
    let said = Host::default()
        .run(Cmd::new(ZPOOL).args(["status", "-P", "-L", pool]))
        .with_context(|| format!("Failed to query zfs filesystem information for {dataset:?}"))?;
    let mut all = BTreeSet::new();
    for part in vdevs(&String::from_utf8_lossy(&said.stdout)) {
        let open = rustix::fs::open(&part, OFlags::PATH | OFlags::CLOEXEC, Mode::empty());
        match (block_device(&part), open) {
            (Some(device), _) => drop(all.insert(device)),
            (None, Ok(file)) => all.extend(below_nested(file.as_fd(), depth + 1)?),
            // One that has gone.
            (None, Err(_)) => {}
        }
    }
    match all.is_empty() {
        true => Err(Error::unsupported(format!("Unable to find backing block for zfs pool {pool:?}"))),
        false => Ok(all),
    }
}

/// The paths in what `zpool status -P` says that are in use.
fn vdevs(text: &str) -> Vec<PathBuf> {
    let one = |line: &str| {
        let mut fields = line.split_whitespace();
        let (path, state) = (fields.next()?, fields.next()?);
        (path.starts_with('/') && ["ONLINE", "DEGRADED"].contains(&state)).then(|| PathBuf::from(path))
    };
    text.lines().filter_map(one).collect()
}

/// The disk of a partition, else the device itself. `known`: /sys/dev/block, whose links lead into the folders of devices; that of
/// a partition is in its disk's.
fn whole(known: &Path, device: Device) -> Result<Device> {
    let own = known.join(device.to_string());
    let found = match (own.exists(), own.join("partition").exists()) {
        (false, _) => None,
        (true, false) => Some(device),
        (true, true) => std::fs::read_to_string(own.join("../dev")).ok().and_then(|text| Device::parse(&text)),
    };
    let text = device.to_string();
    found.ok_or_else(|| Error::unsupported(format!("Block device doesn't support quotas {text:?}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
40 22 0:35 /c1 /data rw shared:9 master:2 - btrfs /dev/mapper/a\\040b rw,subvol=/c1
41 22 0:36 / /tmp rw - tmpfs tmpfs rw
42 22 0:37 / /z rw - zfs tank/c\\134x rw";

    #[test]
    fn mounts_say_where_they_come_from() {
        let shown = |id| origin(TABLE, id).map_or("-".into(), |(kind, source)| format!("{kind} {source}"));
        let cases = [
            (22, "ext4 /dev/sda1"),
            (40, "btrfs /dev/mapper/a b"),
            (41, "tmpfs tmpfs"),
            (42, "zfs tank/c\\x"),
            (4, "-"),
        ];
        for (id, wanted) in cases {
            assert_eq!(shown(id), wanted, "{id}");
        }
        for (text, wanted) in [("a\\", "a\\"), ("\\999", "\\999"), ("\\04", "\\04"), ("ä\\011b", "ä\tb")] {
            assert_eq!(unescaped(text), wanted);
        }
    }

    #[test]
    fn a_pool_of_zfs_says_what_it_lies_on() {
        let text = "  pool: tank
 state: ONLINE
config:

\tNAME                STATE     READ WRITE CKSUM
\ttank                DEGRADED     0     0     0
\t  mirror-0          DEGRADED     0     0     0
\t    /dev/sda1       ONLINE       0     0     0
\t    /dev/sdb1       FAULTED      0     0     0  too many errors
\t  /pool/disk.img    DEGRADED     0     0     0
\tspares
\t  /dev/sdc          AVAIL

errors: No known data errors";
        assert_eq!(vdevs(text), [PathBuf::from("/dev/sda1"), PathBuf::from("/pool/disk.img")]);
    }

    #[test]
    fn a_partition_stands_for_its_disk() {
        let d = tempfile::tempdir().expect("tempdir");
        let (disk, part) = (d.path().join("devices/sda"), d.path().join("devices/sda/sda1"));
        std::fs::create_dir_all(&part).expect("mkdir");
        for (file, text) in [(disk.join("dev"), "8:0\n"), (part.join("dev"), "8:1\n"), (part.join("partition"), "1\n")]
        {
            std::fs::write(file, text).expect("write");
        }
        let known = d.path().join("known");
        std::fs::create_dir(&known).expect("mkdir");
        for (name, to) in [("8:0", &disk), ("8:1", &part)] {
            std::os::unix::fs::symlink(to, known.join(name)).expect("symlink");
        }
        let of = |text| {
            whole(&known, Device::parse(text).expect("numbers")).map_or_else(|e| e.to_string(), |d| d.to_string())
        };
        assert_eq!((of("8:0"), of("8:1")), ("8:0".into(), "8:0".into()));
        assert_eq!(of("9:3"), "Block device doesn't support quotas \"9:3\"");
        assert!(["", "8", "8:x", "-1:0"].iter().all(|text| Device::parse(text).is_none()));
    }

    #[test]
    fn what_lies_on_no_disk_is_refused() {
        let proc = path::open_root(Path::new("/proc")).expect("open");
        let e = below(proc.as_fd()).expect_err("no disk");
        assert!(e.to_string().starts_with("Invalid block device \""), "{e}");
    }
}
