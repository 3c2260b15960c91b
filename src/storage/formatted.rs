//! File systems on block devices, which volumes may be: made, recognised, mounted, grown, made smaller. How the device comes to
//! be is the driver's.
//!
//! Used by lvm, and by zfs for what is in block mode. What is in such a file system is its users', but none of them writes to the
//! device itself.

mod btrfs;

use super::pool::Pool;
use super::shown::Alone;
use super::volume::{Volume, VolumeKind};
use super::{Records, Space, disk};
use crate::error::{Context, Error, Result};
use crate::host::command::{Cmd, Host, Program, Runner};
use crate::model::instance::{Config, Instance};
use crate::model::keys::device::is_root_disk;
use crate::model::keys::{pool, volume as keys};
use crate::model::volume::CustomVolume;
use crate::store::record;
use crate::sys;
use rustix::fd::AsFd;
use rustix::fs::{AtFlags, Mode, OFlags};
use std::os::unix::fs::FileExt;
use std::path::Path;

const MKFS_EXT4: Program = Program { name: "mkfs.ext4", package: "e2fsprogs" };
const E2FSCK: Program = Program { name: "e2fsck", package: "e2fsprogs" };
const RESIZE2FS: Program = Program { name: "resize2fs", package: "e2fsprogs" };
const MKFS_XFS: Program = Program { name: "mkfs.xfs", package: "xfsprogs" };
const XFS_GROWFS: Program = Program { name: "xfs_growfs", package: "xfsprogs" };
/// Exit status of e2fsck that says that what was wrong is not any more.
const CORRECTED: i32 = 1;
/// What mkfs.ext4 puts into the root.
const LOST_FOUND: &str = "lost+found";
/// Size of a volume that nobody gave one, as in Incus.
pub(super) const DEFAULT_SIZE: u64 = 10 << 30;

/// Kinds of file systems that volumes may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Ext4,
    Xfs,
    Btrfs,
}

impl Kind {
    pub const ALL: [Self; 3] = [Self::Ext4, Self::Xfs, Self::Btrfs];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ext4 => "ext4",
            Self::Xfs => "xfs",
            Self::Btrfs => "btrfs",
        }
    }

    /// By name.
    pub fn parse(name: &str) -> Result<Self> {
        let found = Self::ALL.into_iter().find(|kind| kind.name() == name);
        found.ok_or_else(|| Error::invalid(format!("Invalid filesystem {name:?}")))
    }

    /// A copy of a file system of `of` bytes, with little in it, can be given `size` bytes.
    pub fn can_become(self, of: u64, size: u64) -> bool {
        match self {
            // What a large file system keeps for itself has no room in a small one.
            Self::Ext4 => size >= of / 4,
            Self::Xfs => size >= of,
            // It has taken more to write into than it holds.
            Self::Btrfs => size == of || size >= of.max(btrfs::LEAST),
        }
    }
}

/// What new file systems are, and how they are mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Format {
    pub kind: Kind,
    /// Options for making them.
    pub create: String,
    /// Mount options.
    pub options: String,
}

impl Format {
    /// Of a pool.
    ///
    /// # Errors
    /// A value is wrong.
    pub fn of(config: &Config) -> Result<Self> {
        Ok(Self {
            kind: Kind::parse(pool::VOLUME_BLOCK_FILESYSTEM.text(config))?,
            create: pool::VOLUME_BLOCK_CREATE_OPTIONS.text(config).to_string(),
            options: pool::VOLUME_BLOCK_MOUNT_OPTIONS.text(config).to_string(),
        })
    }

    /// The same for volumes with this configuration.
    ///
    /// # Errors
    /// A value is wrong.
    pub fn of_volume(&self, config: &Config) -> Result<Self> {
        let kind = keys::BLOCK_FILESYSTEM.get(config).map_or(Ok(self.kind), Kind::parse)?;
        let create = keys::BLOCK_CREATE_OPTIONS.get(config).unwrap_or(self.usual(kind)).to_string();
        Ok(Self { kind, create, options: self.options_of(config).to_string() })
    }

    /// The same for volumes that hold a disk: a file system for one large file, which nobody but root writes to.
    pub fn of_disk(&self) -> Self {
        Self { kind: Kind::Ext4, create: "-i 4194304 -m 0 -J size=16".to_string(), options: self.options.clone() }
    }

    /// What a file system of that kind is made with where nothing else is said: the options of the pool are for its kind.
    pub fn usual(&self, kind: Kind) -> &str {
        if kind == self.kind { &self.create } else { "" }
    }

    /// Mount options of a volume with this configuration.
    pub fn options_of<'a>(&'a self, config: &'a Config) -> &'a str {
        keys::BLOCK_MOUNT_OPTIONS.get(config).unwrap_or(&self.options)
    }

    /// Makes a file system on a device.
    ///
    /// # Errors
    /// The program is missing or refuses.
    pub fn make(&self, device: &Path) -> Result<()> {
        make(self.kind, &pool::block_create_options(self.kind.name(), &self.create)?, device)
    }
}

/// Makes a file system on a device; `options` were checked when they were set.
///
/// # Errors
/// As [`Format::make`]; Invalid: the device is too small.
pub(super) fn make(kind: Kind, options: &[String], device: &Path) -> Result<()> {
    let (program, usual) = match kind {
        // The attributes of a file have to fit in a block, which is smaller as a rule on what is smaller than 512 MiB.
        Kind::Ext4 => (MKFS_EXT4, &["-q", "-F", "-b", "4096", "-E", "nodiscard"][..]),
        Kind::Xfs => (MKFS_XFS, &["-q", "-f", "-K"][..]),
        Kind::Btrfs => (btrfs::MKFS, &["-q", "-f", "-K"][..]),
    };
    let cmd = Cmd::new(program).args(usual.iter().copied()).args(options.iter().cloned()).arg("--").arg(device);
    let fail = || format!("Failed formatting \"{}\"", device.display());
    let out = Host::default().run_with(cmd, None).with_context(fail)?;
    match least(kind, &out.stderr) {
        Some((least, needs)) => Err(Error::invalid(format!("Filesystem must be larger than {least}"))
            .hint(format!("{needs}: see \"size\" and, of a storage pool, \"volume.size\""))),
        None => out.success(program).map(drop).with_context(fail),
    }
}

/// How large a device must be for a file system of that kind, if what was said of this one is that it is too small: by mkfs.xfs
/// since xfsprogs 5.19, before it explains all of its options, and by mkfs.btrfs, which counts bytes.
fn least(kind: Kind, said: &[u8]) -> Option<(&'static str, &'static str)> {
    let said = String::from_utf8_lossy(said);
    match kind {
        Kind::Xfs if said.contains("Filesystem must be larger than 300MB") => {
            Some(("300MB", "an xfs filesystem needs 300MiB"))
        }
        Kind::Btrfs
            if said.contains("is too small to make a usable filesystem") || said.contains("minimum size for each") =>
        {
            Some(("110MB", "a btrfs filesystem needs 110MiB"))
        }
        _ => None,
    }
}

/// How a volume is mounted: as the copy of its record says, or, before there is one, what was planned, or else the pool (`usual`).
/// Only volumes themselves have options of their own.
pub(super) fn options(
    records: &dyn Records,
    volume: Option<&Volume>,
    usual: &Format,
    planned: impl FnOnce() -> Option<Format>,
) -> String {
    let Some(volume) = volume.filter(|v| matches!(v.kind(), VolumeKind::Custom | VolumeKind::Container)) else {
        return usual.options.clone();
    };
    let kept = || {
        let text = records.kept_record(volume).ok().flatten()?;
        let config = config_of(volume.kind(), &text, Path::new(&volume.path())).ok()?;
        let given = keys::BLOCK_MOUNT_OPTIONS.get(&config);
        given.is_none_or(|given| keys::BLOCK_MOUNT_OPTIONS.value.check(given).is_ok()).then_some(config)
    };
    match kept() {
        Some(config) => usual.options_of(&config).to_string(),
        None => planned().map_or_else(|| usual.options.clone(), |planned| planned.options),
    }
}

/// The options that a volume has by the copy of its record.
fn config_of(kind: VolumeKind, text: &str, path: &Path) -> Result<Config> {
    if kind == VolumeKind::Custom {
        return record::parse::<CustomVolume>(text.as_bytes(), path).map(|record| record.config);
    }
    let record: Instance = record::parse(text.as_bytes(), path)?;
    record.devices.values().find(|device| is_root_disk(device)).map_or(Ok(Config::new()), keys::of_root)
}

fn read(device: &Path, at: u64, bytes: &mut [u8]) -> Result<()> {
    let file = std::fs::File::open(device).with_context(|| format!("Failed opening \"{}\"", device.display()))?;
    file.read_exact_at(bytes, at).with_context(|| format!("Failed reading \"{}\"", device.display()))
}

/// The kind of file system on a device.
///
/// # Errors
/// There is none that we know.
pub(super) fn kind(device: &Path) -> Result<Kind> {
    let mut start = [0u8; 2048];
    read(device, 0, &mut start)?;
    match (&start[..4], &start[1080..1082]) {
        (b"XFSB", _) => Ok(Kind::Xfs),
        (_, [0x53, 0xef]) => Ok(Kind::Ext4),
        // mkfs.btrfs removes those, the others leave this.
        _ if btrfs::Super::of(device)?.is_some() => Ok(Kind::Btrfs),
        _ => Err(Error::failed(format!("\"{}\" holds no filesystem", device.display()))),
    }
}

/// The size of a device, bytes.
///
/// # Errors
/// It is not there.
pub(super) fn size(device: &Path) -> Result<u64> {
    let stat = rustix::fs::stat(device)?;
    let file = format!("/sys/dev/block/{}:{}/size", rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev));
    let sectors = std::fs::read_to_string(&file).with_context(|| format!("Failed reading \"{file}\""))?;
    Ok(sectors.trim().parse::<u64>().unwrap_or(0).saturating_mul(512))
}

/// The size of an ext4 file system, bytes (fields of its superblock).
fn ext4_size(device: &Path) -> Result<u64> {
    let mut block = [0u8; 1024];
    read(device, 1024, &mut block)?;
    let word = |at: usize| u64::from(u32::from_le_bytes(block[at..at + 4].try_into().unwrap_or_default()));
    let high = if word(0x60) & 0x80 != 0 { word(0x150) << 32 } else { 0 };
    Ok((high | word(4)).saturating_mul(1024u64.checked_shl(word(0x18) as u32).unwrap_or(0)))
}

/// The size of the file system on a device, bytes; that of one that takes all of its device is not asked for.
fn used(kind: Kind, device: &Path) -> Result<Option<u64>> {
    Ok(match kind {
        Kind::Ext4 => Some(ext4_size(device)?),
        Kind::Btrfs => btrfs::Super::of(device)?.map(|found| found.size),
        Kind::Xfs => None,
    })
}

/// The identity of a device of the device mapper, which it has whatever it is called.
///
/// # Errors
/// It is none.
pub(super) fn mapped(device: &Path) -> Result<String> {
    let stat = rustix::fs::stat(device)?;
    let (major, minor) = (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev));
    let file = format!("/sys/dev/block/{major}:{minor}/dm/uuid");
    let text = std::fs::read_to_string(&file).with_context(|| format!("Failed reading \"{file}\""))?;
    Ok(text.trim_end().to_string())
}

/// Mounts the file system of a device at the folder `at`. `identity`: what no other device has, and this one always.
///
/// # Errors
/// There is none; the kernel refuses.
pub(super) fn mount(device: &Path, options: &str, at: &Path, identity: impl FnOnce() -> Result<String>) -> Result<()> {
    let (kind, options) = match kind(device)? {
        Kind::Btrfs => {
            btrfs::identify(device, &identity()?)?;
            (c"btrfs", options.to_string())
        }
        Kind::Ext4 => (c"ext4", options.to_string()),
        // Copies have the identity of what they were made from.
        Kind::Xfs => (c"xfs", format!("nouuid,{options}")),
    };
    disk::mount_source(kind, device, &options, at).with_context(|| format!("Failed mounting \"{}\"", device.display()))
}

/// Somebody has the device mounted, or open for himself (open(2), O_EXCL).
///
/// # Errors
/// It is not there.
pub(super) fn is_used(device: &Path) -> Result<bool> {
    match rustix::fs::open(device, OFlags::RDWR | OFlags::EXCL | OFlags::CLOEXEC, Mode::empty()) {
        Err(rustix::io::Errno::BUSY) => Ok(true),
        other => other.map(|_| false).map_err(Error::from),
    }
}

impl Pool {
    /// Has the root of a new file system that is mounted at `rel` be an empty folder of ours.
    pub(super) fn settle_root(&self, rel: &str) -> Result<()> {
        let root = self.open_dir(rel)?;
        let _ = rustix::fs::unlinkat(&root, LOST_FOUND, AtFlags::REMOVEDIR);
        Ok(rustix::fs::fchmod(&root, Mode::RWXU)?)
    }

    /// What is in use of the file system that is mounted at `rel`, on a device of `total` bytes.
    pub(super) fn space_at(&self, rel: &str, total: u64) -> Result<Space> {
        let stat = rustix::fs::fstatvfs(self.open_dir(rel)?)?;
        let used = stat.f_blocks.saturating_sub(stat.f_bfree).saturating_mul(stat.f_frsize);
        Ok(Space { used, total })
    }
}

/// A device with its place in a pool, to be given another size.
pub(super) struct Seat<'a> {
    pub pool: &'a Pool,
    /// Where it is mounted, if it is.
    pub rel: &'a str,
    pub device: &'a Path,
    /// What is less than this is no difference, bytes.
    pub step: &'a dyn Fn() -> Result<u64>,
    /// Gives the device itself a size.
    pub set: &'a dyn Fn(u64) -> Result<()>,
    /// Mounts it, if it is not.
    pub show: &'a dyn Fn(&Alone) -> Result<()>,
}

impl Seat<'_> {
    /// Gives it another size; growing at any time, shrinking ext4 alone and only at rest. What a kill left between two steps is
    /// gone on with.
    ///
    /// # Errors
    /// Unsupported: such a file system cannot be made smaller; Busy: not now; it holds more; no room.
    pub fn resize(&self, size: u64) -> Result<()> {
        let (now, kind) = (self::size(self.device)?, kind(self.device)?);
        if kind == Kind::Btrfs && size != now && size < btrfs::LEAST {
            return Err(Error::invalid("A btrfs filesystem can only be resized to 256MiB or more"));
        }
        if size < now && now - size >= (self.step)()? {
            if kind == Kind::Xfs {
                return Err(Error::unsupported("Filesystem \"xfs\" cannot be shrunk: Cannot be shrunk"));
            }
            if used(kind, self.device)?.is_some_and(|used| used > size) {
                self.shrink(kind, size)?;
            }
            return (self.set)(size);
        }
        if size > now {
            (self.set)(size)?;
        }
        if let Some(used) = used(kind, self.device)? {
            let left = self::size(self.device)?.saturating_sub(used);
            if left == 0 || left < (self.step)()? {
                return Ok(());
            }
        }
        (self.show)(&self.pool.alone()?)?;
        let cmd = match kind {
            Kind::Ext4 => Cmd::new(RESIZE2FS).arg("--").arg(self.device),
            Kind::Xfs => Cmd::new(XFS_GROWFS).arg("-d").arg("--").arg(self.pool.path(self.rel)),
            Kind::Btrfs => return Ok(sys::btrfs::grow(self.pool.open_dir(self.rel)?.as_fd())?),
        };
        Host::default().run(cmd).map(drop)
    }

    fn shrink(&self, kind: Kind, size: u64) -> Result<()> {
        let alone = self.pool.alone()?;
        let busy = || Error::busy("In use").hint("a volume can be made smaller only at rest: stop the instance first");
        disk::unmount(&self.pool.path(self.rel)).map_err(|_| busy())?;
        // An instance has a mount of its own.
        if is_used(self.device)? {
            (self.show)(&alone)?;
            return Err(busy());
        }
        let device = self.device;
        if kind == Kind::Btrfs {
            (self.show)(&alone)?;
            return sys::btrfs::shrink(self.pool.open_dir(self.rel)?.as_fd(), size).map_err(holds_more);
        }
        let checked = Host::default().run_with(Cmd::new(E2FSCK).args(["-f", "-p", "--"]).arg(device), None)?;
        if checked.status.code().is_none_or(|code| code > CORRECTED) {
            checked.success(E2FSCK)?;
        }
        let cmd = Cmd::new(RESIZE2FS).arg("--").arg(device).arg(format!("{}K", size >> 10));
        Host::default().run(cmd).map(drop)
    }
}

/// What the kernel says of a btrfs that cannot become as small.
fn holds_more(e: sys::SysError) -> Error {
    match e.errno {
        libc::ENOSPC => Error::failed("No space left on device: it holds more"),
        _ => e.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_mkfs_says_of_its_least_size() {
        assert!(
            least(
                Kind::Xfs,
                b"Filesystem must be larger than 300MB.
Usage: mkfs.xfs
"
            )
            .is_some()
        );
        assert!(
            least(
                Kind::Xfs,
                b"mkfs.xfs: /dev/x contains a mounted filesystem
"
            )
            .is_none()
        );
        let said = b"ERROR: '/dev/x' is too small to make a usable filesystem
ERROR: minimum size for each btrfs device is 114294784
";
        assert!(least(Kind::Btrfs, said).is_some() && least(Kind::Ext4, said).is_none());
    }
}
