//! Volumes in block mode: zvols, each with a file system that is made and mounted as on any block device (`formatted`).
//!
//! Used by the driver. The device of a zvol is there only while it is needed (`volmode`): so neither the host's udev nor anything else
//! looks into file systems that instances wrote to. A zvol is renamed without a device, or that has its new name before anything
//! else is done: a device is known by its name alone.

use super::tool::{self, Waiting, zfs};
use super::volumes::Place;
use super::{Settings, Zfs, names};
use crate::error::{Error, Result};
use crate::fault;
use crate::storage::formatted::{self, Seat};
use crate::storage::shown::Alone;
use crate::storage::volume::Volume;
use crate::sys::{freeze, zvol};
use rustix::fd::AsFd;
use std::path::{Path, PathBuf};

/// Sizes are multiples of it: of the largest block that a zvol can have.
const STEP: u64 = MOST;
/// That, bytes.
const MOST: u64 = 128 << 10;
/// The device is not there.
const HIDDEN: &str = "volmode=none";

/// The device of a zvol, if it has one.
fn device(full: &str) -> Result<Option<PathBuf>> {
    let is = |path: &PathBuf| zvol::name(path).as_deref() == Some(full);
    // Where udev is, it has made a link.
    let linked = Path::new("/dev/zvol").join(full).canonicalize().ok().filter(is);
    Ok(match linked {
        Some(path) => Some(path),
        None => zvol::devices()?.into_iter().find(is),
    })
}

/// Has the device of a zvol be there.
fn appear(full: &str) -> Result<PathBuf> {
    let (waiting, mut again) = (Waiting::start(6), false);
    let current = tool::get("volmode", full)?.and_then(|values| values.into_iter().next());
    if current.as_deref() != Some("dev") {
        zfs(&["set", "volmode=dev", full])?;
    }
    loop {
        if let Some(found) = device(full)? {
            return Ok(found);
        }
        if waiting.is_late() && !again {
            // One that was taken while it was looked at.
            zfs(&["set", HIDDEN, full])?;
            zfs(&["set", "volmode=dev", full])?;
            again = true;
        }
        if !waiting.goes_on() {
            return Err(Error::failed(format!("The device of ZFS volume \"{full}\" does not appear")));
        }
    }
}

/// Has the device of what is not mounted any more go, if it is a zvol and has one; the one that somebody still uses comes back.
fn vanish(full: &str) -> Result<Option<PathBuf>> {
    let waiting = Waiting::start(1);
    let mut found = device(full)?;
    while found.is_some() {
        zfs(&["set", HIDDEN, full])?;
        found = device(full)?;
        let used = found.as_ref().is_some_and(|path| formatted::is_used(path).unwrap_or(false));
        if found.is_none() || used || !waiting.goes_on() {
            break;
        }
    }
    Ok(found)
}

/// Renames what is not mounted any more, zvol or not.
///
/// # Errors
/// What ZFS says.
pub(super) fn rename(from: &str, to: &str) -> Result<()> {
    let (left, waiting) = (vanish(from)?, Waiting::start(1));
    zfs(&["rename", from, to])?;
    // The kernel renames devices some time later.
    while left.as_ref().is_some_and(|left| zvol::name(left).as_deref() == Some(from)) && waiting.goes_on() {}
    Ok(())
}

/// No zvol below `root` has a device, unless somebody uses it.
///
/// # Errors
/// What ZFS says.
pub(super) fn hide_all(root: &str) -> Result<()> {
    let words = ["get", "-H", "-r", "-t", "volume", "-s", "local", "-o", "name,value", "volmode", root];
    let shown = tool::if_there(zfs(&words))?.unwrap_or_default();
    let mut shown = shown.lines().filter_map(|line| line.strip_suffix("\tdev"));
    shown.try_for_each(|full| vanish(full).map(drop))
}

/// The size of a zvol, bytes.
fn size(full: &str) -> Result<u64> {
    let values = tool::get("volsize", full)?.unwrap_or_default();
    values.first().and_then(|value| value.parse().ok()).ok_or_else(|| Error::not_found(format!("\"{full}\" not found")))
}

/// What no other has, and this one always.
fn guid(full: &str) -> Result<String> {
    let values = tool::get("guid", full)?.unwrap_or_default();
    values.into_iter().next().ok_or_else(|| Error::not_found(format!("\"{full}\" not found")))
}

fn rounded(size: u64) -> u64 {
    size.checked_next_multiple_of(STEP).unwrap_or(size)
}

/// The properties of a new zvol; `reserved`: what is set aside, bytes.
fn of_zvol(mode: &str, reserved: Option<u64>) -> Vec<String> {
    let mut all = vec![mode.to_string()];
    all.extend(reserved.map(|size| format!("refreservation={size}")));
    all
}

impl Zfs {
    /// It is a zvol; None: it is not there.
    pub(super) fn block(&self, set: &str) -> Result<Option<bool>> {
        Ok(tool::get("type", &self.root.at(set))?.map(|values| values.first().is_some_and(|value| value == "volume")))
    }

    /// The size of a zvol, bytes.
    pub(super) fn block_size(&self, set: &str) -> Result<u64> {
        size(&self.root.at(set))
    }

    /// Mounts the zvol at `place`.
    pub(super) fn show_block(&self, _alone: &Alone, place: &Place) -> Result<()> {
        let planned = || Some(self.how().format);
        let options = formatted::options(self, place.volume.as_ref(), &self.how.format, planned);
        let full = self.root.at(&place.set);
        formatted::mount(&appear(&full)?, &options, &self.pool.path(&place.rel), || guid(&full))
    }

    /// The kind of file system on a zvol.
    pub(super) fn block_kind(&self, set: &str) -> Result<formatted::Kind> {
        formatted::kind(&appear(&self.root.at(set))?)
    }

    /// What was written to what is mounted of a zvol is in it.
    pub(super) fn settle_block(&self, volume: &Volume) -> Result<()> {
        let place = Place::of(volume);
        // What was not written after the last boot may be in a log only, which copies do not have. Snapshots have none.
        if volume.snapshot_of().is_some() && device(&self.root.at(&place.set))?.is_none() {
            return Ok(());
        }
        // An instance has a mount of its own.
        self.show(&place)?;
        self.pool.sync_at(&place.rel)
    }

    /// Makes a zvol with an empty file system, and mounts it; `reserve`: its size is set aside.
    pub(super) fn make_block(&self, place: &Place, size: u64, (how, reserve): (&Settings, bool)) -> Result<PathBuf> {
        self.clear(place)?;
        let (set, size) = (self.root.at(&place.set), rounded(size));
        let shown = size.to_string();
        let mut properties = of_zvol("volmode=dev", reserve.then_some(size));
        properties.extend(how.block.map(|block| format!("volblocksize={}", block.min(MOST))));
        let mut words = vec!["create", "-s", "-V", &shown];
        words.extend(properties.iter().flat_map(|property| ["-o", property]));
        words.push(&set);
        zfs(&words)?;
        fault::point("storage.zfs.made")?;
        how.format.make(&appear(&set)?)?;
        fault::point("storage.zfs.formatted")?;
        let path = self.show(place)?;
        self.pool.settle_root(&place.rel).map(|()| path)
    }

    /// The properties of a clone of the zvol `of` that is put together for a volume.
    pub(super) fn block_properties(&self, volume: &Volume, of: &str) -> Result<Vec<String>> {
        let reserved = if self.reserves(volume)? { Some(self.block_size(of)?) } else { None };
        Ok(of_zvol(HIDDEN, reserved))
    }

    /// The size of a volume is set aside: as that of the one that is there, or as is planned.
    pub(super) fn reserves(&self, volume: &Volume) -> Result<bool> {
        if volume.snapshot_of().is_some() {
            return Ok(false);
        }
        let own = self.own(&names::volume(volume))?;
        Ok(own.map_or_else(|| self.how().reserve, |own| own.iter().any(|(name, _)| name.contains("reserv"))))
    }

    /// Gives the zvol at `place` another size, or none, which is the one that it has; `reserve`: set aside.
    pub(super) fn resize_block(&self, place: &Place, size: Option<u64>, reserve: bool) -> Result<()> {
        let full = self.root.at(&place.set);
        let now = self::size(&full)?;
        let size = size.map_or(now, rounded);
        let device = appear(&full)?;
        if self.pool.is_mount(&place.rel)? {
            // As a kill may have left it.
            freeze::thaw(self.pool.open_dir(&place.rel)?.as_fd());
        }
        let set = |size: u64| {
            self.change_size(place, (&full, &device), size)?;
            fault::point("storage.zfs.resized")
        };
        let show = |alone: &Alone| if self.pool.is_mount(&place.rel)? { Ok(()) } else { self.show_at(alone, place) };
        let step = || Ok(STEP);
        let seat = Seat { pool: &self.pool, rel: &place.rel, device: &device, step: &step, set: &set, show: &show };
        seat.resize(size)?;
        // Last: no more can be set aside than the volume has.
        let reserved = if reserve { self::size(&full)?.to_string() } else { "none".to_string() };
        zfs(&["set", &format!("refreservation={reserved}"), &full]).map(drop)
    }

    /// Gives a zvol itself a size. The kernel takes a device that has another one for a changed disk when it is opened next: it
    /// forgets what is not yet written of closed files. So nothing is there to be forgotten until it was opened.
    fn change_size(&self, place: &Place, (full, device): (&str, &Path), size: u64) -> Result<()> {
        let words = ["set", &format!("volsize={size}"), full];
        if !formatted::is_used(device)? {
            return zfs(&words).map(drop);
        }
        self.show(place)?;
        let frozen = freeze::freeze(self.pool.open_dir(&place.rel)?)?;
        let done = zfs(&words);
        zvol::name(device);
        drop(frozen);
        done.map(drop)
    }
}
