//! Logical volumes and their mounts: made, shown in the pool's folder, hidden, resized, renamed.
//!
//! Used by the driver.

use super::{Lvm, group, names, tool};
use crate::base::names::Fingerprint;
use crate::error::Result;
use crate::fault;
use crate::storage::formatted::{self, Kind, Seat};
use crate::storage::kept;
use crate::storage::pool::Pool;
use crate::storage::shown::Alone;
use crate::storage::volume::{Staging, Trash, Volume};
use rustix::fs::Mode;
use std::path::{Path, PathBuf};
use std::sync::PoisonError;

/// Where something is: its mount in the pool's folder and its logical volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub rel: String,
    pub lv: String,
    /// The volume it is, if it is one.
    volume: Option<Volume>,
}

impl Place {
    pub fn of(volume: &Volume) -> Self {
        Self { rel: volume.path(), lv: names::volume(volume), volume: Some(volume.clone()) }
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
        let planned = || Some(self.of_volume.lock().unwrap_or_else(PoisonError::into_inner).as_ref()?.format.clone());
        formatted::options(self, place.volume.as_ref(), &self.how.format, planned)
    }

    fn show_locked(&self, _alone: &Alone, place: &Place, options: &str) -> Result<()> {
        if self.pool.is_mount(&place.rel)? {
            return Ok(());
        }
        self.activate(&place.lv)?;
        self.pool.make_dir(&place.rel)?;
        fault::point("storage.lvm.mount")?;
        let device = self.device(&place.lv);
        formatted::mount(&device, options, &self.pool.path(&place.rel), || formatted::mapped(&device))
    }

    /// Has the copies of records be at their place in the pool's folder. In a pool of an older version they are in the folder itself.
    pub(super) fn records(&self) -> Result<()> {
        let place = Place { rel: kept::FOLDER.to_string(), lv: self.group.mark(), volume: None };
        if self.pool.is_mount(&place.rel)? || formatted::kind(&self.device(&place.lv)).is_err() {
            return Ok(());
        }
        self.show_locked(&self.pool.alone()?, &place, &self.how.format.options)?;
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
        how.format.make(&self.device(&place.lv))?;
        fault::point("storage.lvm.formatted")?;
        let path = self.show_with(place, &how.format.options)?;
        self.pool.settle_root(&place.rel).map(|()| path)
    }

    /// Makes `to` a thin copy of `from`, as that is at this moment. What is mounted of it is written first (LVM has the file
    /// system frozen).
    pub(super) fn snapshot(&self, from: &str, to: &str) -> Result<()> {
        tool::lvm("lvcreate", ["-y", "-s", "-kn", "-n", to, &self.group.at(from)]).map(drop)
    }

    /// The size of a volume, active or not, bytes.
    pub(super) fn size(&self, lv: &str) -> Result<u64> {
        self.activate(lv)?;
        formatted::size(&self.device(lv))
    }

    /// A volume, active or not, has a file system of that kind.
    pub(super) fn is_of_kind(&self, lv: &str, kind: Kind) -> Result<bool> {
        self.activate(lv)?;
        Ok(formatted::kind(&self.device(lv))? == kind)
    }

    /// What LVM gives a volume at a time, bytes: an extent of the group, on each of its stripes (lvcreate(8), --size).
    fn step(&self, lv: &str) -> Result<u64> {
        let all = tool::report("lvs", "vg_extent_size,stripes", &[&self.group.at(lv)])?;
        let stripes = all.iter().map(|line| tool::number(line.get(1))).max().unwrap_or(1);
        let extent = tool::number(all.first().and_then(|line| line.first()));
        Ok(extent.saturating_mul(stripes.max(1)).max(tool::SECTOR))
    }

    /// Gives what is at `place` another size ([`Seat::resize`]), as LVM rounds it.
    pub(super) fn resize(&self, place: &Place, size: u64) -> Result<()> {
        let (now, at, options) = (self.size(&place.lv)?, self.group.at(&place.lv), self.options(place));
        let set = |size: u64| {
            let wanted = tool::bytes(size);
            if size < now {
                fault::point("storage.lvm.shrunk")?;
                return tool::lvm("lvreduce", ["-f", "-y", "-L", &wanted, &at]).map(drop);
            }
            tool::lvm("lvextend", ["-L", &wanted, &at])?;
            fault::point("storage.lvm.extended")
        };
        // What it is already costs no question.
        let size = if size == now { now } else { tool::rounded(size, self.step(&place.lv)?) };
        let show = |alone: &Alone| self.show_locked(alone, place, &options);
        let (device, step) = (self.device(&place.lv), || self.step(&place.lv));
        let seat = Seat { pool: &self.pool, rel: &place.rel, device: &device, step: &step, set: &set, show: &show };
        seat.resize(size)
    }
}

/// The copies of records are mounted in the folder of a pool.
pub(super) fn shows_records(data: &Path) -> bool {
    Pool::open(data).and_then(|pool| pool.is_mount(kept::FOLDER)).unwrap_or(false)
}
