//! Logical volumes and their mounts: made, shown in the pool's folder, hidden, resized, renamed.
//!
//! Used by the driver.

use super::tool::Kind;
use super::{Lvm, group, names, tool};
use crate::base::names::Fingerprint;
use crate::error::{Context, Error, Result};
use crate::fault;
use crate::model::instance::{Config, Instance};
use crate::model::keys::device::is_root_disk;
use crate::model::keys::{pool, volume as keys};
use crate::model::volume::CustomVolume;
use crate::storage::pool::Pool;
use crate::storage::shown::Alone;
use crate::storage::volume::{Staging, Trash, Volume, VolumeKind};
use crate::storage::{Records, disk, kept};
use crate::store::record;
use rustix::fs::{AtFlags, Mode, OFlags};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::PoisonError;

/// What mkfs.ext4 puts into the root.
const LOST_FOUND: &str = "lost+found";

/// Where something is: its mount in the pool's folder and its logical volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub rel: String,
    pub lv: String,
    /// The volume it is, if that may have options of its own.
    volume: Option<Volume>,
}

impl Place {
    pub fn of(volume: &Volume) -> Self {
        let may = matches!(volume.kind(), VolumeKind::Custom | VolumeKind::Container);
        Self { rel: volume.path(), lv: names::volume(volume), volume: may.then(|| volume.clone()) }
    }

    pub fn staged(volume: &Volume) -> Self {
        Self { volume: None, rel: volume.staged(), lv: names::staged(volume) }
    }

    pub fn image(image: &Fingerprint) -> Self {
        Self { volume: None, rel: Pool::image(image), lv: names::image(image) }
    }

    pub fn staging(staging: &Staging) -> Self {
        Self { volume: None, rel: staging.path(), lv: names::staging(staging) }
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

impl Lvm {
    pub(super) fn device(&self, lv: &str) -> PathBuf {
        names::device_path(&self.group.name, lv)
    }

    /// It is there. What is active is; for the rest LVM is asked.
    pub(super) fn has(&self, lv: &str) -> Result<bool> {
        Ok(group::is_active(&self.group.name, lv) || self.group.volumes()?.iter().any(|name| name == lv))
    }

    pub(super) fn activate(&self, lv: &str) -> Result<()> {
        match group::is_active(&self.group.name, lv) {
            true => Ok(()),
            false => tool::lvm("lvchange", ["-ay", "-K", &self.group.at(lv)]).map(drop),
        }
    }

    /// Mounts what is at `place`, and returns its folder. Repeated: nothing happens.
    pub(super) fn show(&self, place: &Place) -> Result<PathBuf> {
        match self.pool.is_mount(&place.rel)? {
            true => Ok(self.pool.path(&place.rel)),
            false => self.show_with(place, &self.options(place)),
        }
    }

    fn show_with(&self, place: &Place, options: &str) -> Result<PathBuf> {
        let alone = self.pool.alone()?;
        self.show_locked(&alone, place, options).map(|()| self.pool.path(&place.rel))
    }

    /// How a volume is mounted: as the copy of its record says, or, before there is one, what was planned, or else the pool.
    fn options(&self, place: &Place) -> String {
        let kept = |volume: &Volume| {
            let text = self.kept_record(volume).ok().flatten()?;
            let config = config_of(volume.kind(), &text, Path::new(&place.rel)).ok()?;
            let given = keys::BLOCK_MOUNT_OPTIONS.get(&config);
            given.is_none_or(|given| keys::BLOCK_MOUNT_OPTIONS.value.check(given).is_ok()).then_some(config)
        };
        let planned = || Some(self.of_volume.lock().unwrap_or_else(PoisonError::into_inner).as_ref()?.options.clone());
        match &place.volume {
            None => self.how.options.clone(),
            Some(volume) => match kept(volume) {
                Some(config) => self.how.options_of(&config).to_string(),
                None => planned().unwrap_or_else(|| self.how.options.clone()),
            },
        }
    }

    fn show_locked(&self, _alone: &Alone, place: &Place, options: &str) -> Result<()> {
        if self.pool.is_mount(&place.rel)? {
            return Ok(());
        }
        self.activate(&place.lv)?;
        let device = self.device(&place.lv);
        let (kind, options) = match self.kind(&place.lv)? {
            Kind::Ext4 => (c"ext4", options.to_string()),
            // Copies have the identity of what they were made from.
            Kind::Xfs => (c"xfs", format!("nouuid,{options}")),
        };
        self.pool.make_dir(&place.rel)?;
        fault::point("storage.lvm.mount")?;
        disk::mount_source(kind, &device, &options, &self.pool.path(&place.rel))
            .with_context(|| format!("Failed mounting \"{}\"", device.display()))
    }

    /// Has the copies of records be at their place in the pool's folder. In a pool of an older version they are in the folder itself.
    pub(super) fn records(&self) -> Result<()> {
        let place = Place { rel: kept::FOLDER.to_string(), lv: self.group.mark(), volume: None };
        if self.pool.is_mount(&place.rel)? || self.kind(&place.lv).is_err() {
            return Ok(());
        }
        self.show_locked(&self.pool.alone()?, &place, &self.how.options)?;
        Ok(rustix::fs::fchmod(self.pool.open_dir(&place.rel)?, Mode::RWXU)?)
    }

    /// What is at `from` bears the name of `to` from now on, in one step that is on disk when it is done.
    pub(super) fn relabel(&self, alone: &Alone, from: &Place, to: &str) -> Result<()> {
        self.pool.hide(alone, &from.rel)?;
        let (from, to) = (from.lv.as_str(), to);
        tool::lvm("lvrename", [self.group.name.as_str(), from, to]).map(drop)
    }

    /// Moves what is at `place` into the trash.
    pub(super) fn discard(&self, alone: &Alone, place: &Place) -> Result<Trash> {
        let trash = names::fresh_trash(&place.rel)?;
        self.relabel(alone, place, &names::trash(&trash)).map(|()| trash)
    }

    /// Removes what is at `place`, whole or not; there may be nothing.
    pub(super) fn clear(&self, place: &Place) -> Result<()> {
        self.pool.hide(&self.pool.alone()?, &place.rel)?;
        match self.has(&place.lv)? {
            true => self.remove(&place.lv),
            false => Ok(()),
        }
    }

    pub(super) fn remove(&self, lv: &str) -> Result<()> {
        match tool::lvm("lvremove", ["-f", "-y", &self.group.at(lv)]) {
            Err(e) if e.to_string().contains("Failed to find logical volume") => Ok(()),
            other => other.map(drop),
        }
    }

    /// Makes a logical volume with an empty file system, and mounts it.
    pub(super) fn make(&self, place: &Place, size: u64) -> Result<PathBuf> {
        self.clear(place)?;
        let planned = self.of_volume.lock().unwrap_or_else(PoisonError::into_inner);
        let how = planned.as_ref().unwrap_or(&self.how);
        let options = pool::block_create_options(how.kind.name(), &how.create)?;
        let size = tool::bytes(size);
        let mut words = vec!["-y", "-Wy", "-n", &place.lv];
        match &how.thin {
            Some(pool) => words.extend(["-V", &size, "--thinpool", pool]),
            None => {
                words.extend(["-L", &size]);
                words.extend(how.stripes.iter().map(String::as_str));
            }
        }
        words.push(&self.group.name);
        tool::lvm("lvcreate", words)?;
        fault::point("storage.lvm.made")?;
        tool::format(how.kind, &options, &self.device(&place.lv))?;
        fault::point("storage.lvm.formatted")?;
        let path = self.show_with(place, &how.options)?;
        let root = self.pool.open_dir(&place.rel)?;
        let _ = rustix::fs::unlinkat(&root, LOST_FOUND, AtFlags::REMOVEDIR);
        rustix::fs::fchmod(&root, Mode::RWXU)?;
        Ok(path)
    }

    /// Makes `to` a thin copy of `from`, as that is at this moment. What is mounted of it is written first (LVM has the file
    /// system frozen).
    pub(super) fn snapshot(&self, from: &str, to: &str) -> Result<()> {
        tool::lvm("lvcreate", ["-y", "-s", "-kn", "-n", to, &self.group.at(from)]).map(drop)
    }

    /// The size of a volume, active or not, bytes.
    pub(super) fn size(&self, lv: &str) -> Result<u64> {
        self.activate(lv)?;
        let stat = rustix::fs::stat(self.device(lv))?;
        let file =
            format!("/sys/dev/block/{}:{}/size", rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev));
        let sectors = std::fs::read_to_string(&file).with_context(|| format!("Failed reading \"{file}\""))?;
        Ok(sectors.trim().parse::<u64>().unwrap_or(0).saturating_mul(512))
    }

    fn read(&self, lv: &str, at: u64, bytes: &mut [u8]) -> Result<()> {
        let device = self.device(lv);
        let file = std::fs::File::open(&device).with_context(|| format!("Failed opening \"{}\"", device.display()))?;
        file.read_exact_at(bytes, at).with_context(|| format!("Failed reading \"{}\"", device.display()))
    }

    /// A volume, active or not, has a file system of that kind.
    pub(super) fn is_of_kind(&self, lv: &str, kind: Kind) -> Result<bool> {
        self.activate(lv)?;
        Ok(self.kind(lv)? == kind)
    }

    /// The kind of file system on an active volume.
    fn kind(&self, lv: &str) -> Result<Kind> {
        let mut start = [0u8; 2048];
        self.read(lv, 0, &mut start)?;
        match (&start[..4], &start[1080..1082]) {
            (b"XFSB", _) => Ok(Kind::Xfs),
            (_, [0x53, 0xef]) => Ok(Kind::Ext4),
            _ => Err(Error::failed(format!("Volume \"{lv}\" holds no filesystem"))),
        }
    }

    /// The size of an ext4 file system, bytes (fields of its superblock).
    fn ext4_size(&self, lv: &str) -> Result<u64> {
        let mut block = [0u8; 1024];
        self.read(lv, 1024, &mut block)?;
        let word = |at: usize| u64::from(u32::from_le_bytes(block[at..at + 4].try_into().unwrap_or_default()));
        let high = if word(0x60) & 0x80 != 0 { word(0x150) << 32 } else { 0 };
        Ok((high | word(4)).saturating_mul(1024u64.checked_shl(word(0x18) as u32).unwrap_or(0)))
    }

    /// What LVM gives a volume at a time, bytes: an extent of the group, on each of its stripes (lvcreate(8), --size).
    fn step(&self, lv: &str) -> Result<u64> {
        let all = tool::report("lvs", "vg_extent_size,stripes", &[&self.group.at(lv)])?;
        let stripes = all.iter().map(|line| tool::number(line.get(1))).max().unwrap_or(1);
        let extent = tool::number(all.first().and_then(|line| line.first()));
        Ok(extent.saturating_mul(stripes.max(1)).max(tool::SECTOR))
    }

    /// Gives what is at `place` another size, as LVM rounds it; growing at any time, shrinking ext4 alone and only at rest. What a
    /// kill left between two steps is gone on with.
    pub(super) fn resize(&self, place: &Place, size: u64) -> Result<()> {
        let now = self.size(&place.lv)?;
        let kind = self.kind(&place.lv)?;
        let at = self.group.at(&place.lv);
        // What it is already costs no question.
        let size = if size == now { now } else { tool::rounded(size, self.step(&place.lv)?) };
        if size < now {
            if kind == Kind::Xfs {
                return Err(Error::unsupported("Filesystem \"xfs\" cannot be shrunk: Cannot be shrunk"));
            }
            if self.ext4_size(&place.lv)? > size {
                self.shrink(place, size)?;
                fault::point("storage.lvm.shrunk")?;
            }
            return tool::lvm("lvreduce", ["-f", "-y", "-L", &tool::bytes(size), &at]).map(drop);
        }
        if size > now {
            tool::lvm("lvextend", ["-L", &tool::bytes(size), &at])?;
            fault::point("storage.lvm.extended")?;
        }
        if kind == Kind::Ext4 {
            let left = self.size(&place.lv)?.saturating_sub(self.ext4_size(&place.lv)?);
            if left == 0 || left < self.step(&place.lv)? {
                return Ok(());
            }
        }
        let path = self.show(place)?;
        tool::grow(kind, &self.device(&place.lv), &path)
    }

    fn shrink(&self, place: &Place, size: u64) -> Result<()> {
        let options = self.options(place);
        let alone = self.pool.alone()?;
        let device = self.device(&place.lv);
        let busy = || Error::busy("In use").hint("a volume can be made smaller only at rest: stop the instance first");
        disk::unmount(&self.pool.path(&place.rel)).map_err(|_| busy())?;
        // An instance has a mount of its own.
        match rustix::fs::open(&device, OFlags::RDWR | OFlags::EXCL | OFlags::CLOEXEC, Mode::empty()) {
            Err(rustix::io::Errno::BUSY) => {
                self.show_locked(&alone, place, &options)?;
                return Err(busy());
            }
            other => drop(other?),
        }
        tool::shrink(&device, size)
    }
}

/// The copies of records are mounted in the folder of a pool.
pub(super) fn shows_records(data: &Path) -> bool {
    Pool::open(data).and_then(|pool| pool.is_mount(kept::FOLDER)).unwrap_or(false)
}
