//! The volume group of a pool: made, adopted, taken into use, let go.
//!
//! Called by `ops`, which holds the pool or its mount. A group that is a pool's bears a tag with the pool's identity; one that bears
//! none is never changed. A small logical volume, the mark, is active as long as the pool is in use: the kernel is asked for it
//! in no time, where LVM's program takes tens of milliseconds. It also keeps the loop device of a pool in a file. On it are the
//! copies of the volumes' records, which are lost only with the group then; it is not thin, for a thin pool may be full.

use super::names;
use super::settings::Settings;
use super::tool;
use crate::error::{Context, Error, Kind, Result};
use crate::fault;
use crate::model::instance::Config;
use crate::model::keys::{Key, pool as keys};
use crate::storage::disk::{self, Disk};
use crate::storage::{Space, formatted};
use crate::sys::loopdev::LoopDevice;
use rustix::fs::{Mode, OFlags};
use std::path::{Path, PathBuf};

/// The driver whose pools have one.
pub const DRIVER: &str = "lvm";
/// What stands before the identity in the tag and in the mark's name.
pub(super) const TAG: &str = "stapes.";
const MARK: &str = "stapes_";
/// Its size, for records of some thousand volumes.
const MARK_SIZE: &str = "16m";
/// PV label: its magic is in one of the first four sectors (pvcreate(8)).
const LABEL: &[u8; 8] = b"LABELONE";

/// A volume group that is, or is to be, a pool's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// Its name.
    pub name: String,
    /// The pool's identity.
    pub id: String,
}

/// What LVM says of a group.
pub(super) struct Found {
    pub tags: Vec<String>,
    volumes: u64,
}

/// The disk of a group, as LVM sees it. A loop device is there as long as this is, or a volume on it is active.
pub(super) enum Device {
    Loop(LoopDevice),
    Block(PathBuf),
}

impl Device {
    pub(super) fn of(disk: &Disk) -> Result<Self> {
        match disk {
            Disk::Image(path) => Ok(Self::Loop(disk::loop_of(path)?)),
            Disk::Device(path) => Ok(Self::Block(path.clone())),
        }
    }

    pub(super) fn path(&self) -> PathBuf {
        match self {
            Self::Loop(device) => PathBuf::from(device.path()),
            Self::Block(path) => path.clone(),
        }
    }
}

/// Is that logical volume active? Asks the kernel: a name in /dev may be left of one that is gone.
pub(super) fn is_active(group: &str, name: &str) -> bool {
    let Ok(stat) = rustix::fs::stat(names::device_path(group, name)) else { return false };
    let (major, minor) = (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev));
    let known = std::fs::read_to_string(format!("/sys/dev/block/{major}:{minor}/dm/name"));
    known.is_ok_and(|known| known.trim_end() == names::device(group, name))
}

/// A file holds, or held, what LVM keeps on a disk.
///
/// # Errors
/// It cannot be read.
pub fn is_labelled(path: &Path) -> Result<bool> {
    use std::os::unix::fs::FileExt;
    let file = std::fs::File::open(path).with_context(|| format!("Failed opening \"{}\"", path.display()))?;
    let mut start = [0u8; 2048];
    match file.read_exact_at(&mut start, 0) {
        Err(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => Ok(false),
        other => other.map(|()| start.chunks(512).any(|sector| sector.starts_with(LABEL))).map_err(Error::from),
    }
}

impl Group {
    /// That of a pool with this driver and configuration; None: the driver has none.
    pub fn of(driver: &str, config: &Config) -> Option<Self> {
        let text = |key: &Key| key.text(config).to_string();
        (driver == DRIVER).then(|| Self { name: text(&keys::LVM_VG_NAME), id: text(&keys::ID) })
    }

    pub(super) fn tag(&self) -> String {
        format!("{TAG}{}", self.id)
    }

    pub(super) fn mark(&self) -> String {
        format!("{MARK}{}", self.id.replace('-', ""))
    }

    /// `<group>/<volume>`, as LVM's verbs take it.
    pub(super) fn at(&self, volume: &str) -> String {
        format!("{}/{volume}", self.name)
    }

    /// It is in use as the pool's. No program is run.
    pub fn is_ready(&self) -> bool {
        is_active(&self.name, &self.mark())
    }

    pub(super) fn find(&self) -> Result<Option<Found>> {
        let all = tool::report("vgs", "vg_name,vg_tags,lv_count", &[])?;
        let line = all.into_iter().find(|line| line.first() == Some(&self.name));
        Ok(line.map(|line| Found {
            tags: line.get(1).map(|t| t.split(',').map(String::from).collect()).unwrap_or_default(),
            volumes: tool::number(line.get(2)),
        }))
    }

    /// The names of its logical volumes.
    ///
    /// # Errors
    /// It is not there.
    pub(super) fn volumes(&self) -> Result<Vec<String>> {
        Ok(tool::report("lvs", "lv_name", &[&self.name])?.into_iter().flatten().collect())
    }

    /// May a pool be made in this group, on `disk` or, without one, in a group that is there? Changes nothing.
    ///
    /// # Errors
    /// Exists, NotFound; Conflict: it is another one's, or holds something (`reuse`: what is in no pool's way).
    pub fn check(&self, disk: Option<&Disk>, how: &Settings) -> Result<()> {
        let name = &self.name;
        match (self.find()?, disk) {
            (None, None) => {
                return Err(Error::not_found(format!("The requested volume group \"{name}\" does not exist")));
            }
            (Some(_), Some(_)) => {
                return Err(Error::exists(format!("A volume group already exists called \"{name}\""))
                    .hint("set lvm.vg_name to give the pool's another name"));
            }
            (Some(found), None) => {
                if found.tags.iter().any(|tag| tag.starts_with(TAG)) {
                    return Err(Error::conflict(format!("Volume group \"{name}\" is in use by another storage pool"))
                        .hint("if that pool is no more: vgchange --deltag of what vgs -o vg_tags shows"));
                }
                if found.volumes > 0 && !how.reuse {
                    return Err(Error::conflict(format!("Volume group \"{name}\" is not empty"))
                        .hint("set lvm.vg.force_reuse=true to use it beside what it holds"));
                }
                let pool = |volume: &String| how.thin.as_ref() == Some(volume);
                if let Some(other) = self.volumes()?.iter().find(|v| names::is_ours(v) || pool(v)) {
                    return Err(Error::conflict(format!("Volume group \"{name}\" has a volume \"{other}\" already")));
                }
            }
            (None, Some(_)) => {}
        }
        if let Some(Disk::Device(path)) = disk {
            is_unused(path)?;
        }
        Ok(())
    }

    /// Makes the group on `disk`, or takes the one that is there; then its thin pool and its mark. What is there afterwards,
    /// [`Group::release`] takes away. `wipe`: whatever is on the disk is overwritten.
    ///
    /// # Errors
    /// As [`Group::check`]; the disk holds something.
    pub fn make(&self, disk: Option<&Disk>, how: &Settings, wipe: bool) -> Result<()> {
        let device = disk.map(Device::of).transpose()?;
        fault::point("pool.attached")?;
        match &device {
            Some(device) => {
                let path = device.path();
                if let Device::Block(path) = device {
                    is_unused(path)?;
                    if wipe {
                        tool::wipe(path)?;
                    }
                }
                self.create(&path, how).map_err(|e| held(e, &path))?;
            }
            None => {
                tool::lvm("vgchange", ["--addtag", &self.tag(), &self.name])?;
            }
        }
        fault::point("pool.group")?;
        let small = ["-an", "-Zn", "-Wn", "-L", MARK_SIZE, "-n"];
        tool::lvm("lvcreate", small.into_iter().chain([self.mark().as_str(), &self.name]))?;
        if let Some(pool) = &how.thin {
            let tag = self.tag();
            let mut words: Vec<&str> = vec!["-y", "--type", "thin-pool", "-l", "100%FREE", "--addtag", &tag];
            let size = how.pool_metadata.map(tool::bytes);
            words.extend(size.iter().flat_map(|size| ["--poolmetadatasize", size]));
            tool::lvm("lvcreate", words.into_iter().chain(["-n", pool, &self.name]))?;
            fault::point("pool.thin")?;
        }
        self.activate_mark(how)?;
        formatted::make(formatted::Kind::Ext4, &[], &names::device_path(&self.name, &self.mark()))?;
        fault::point("pool.marked")
    }

    fn create(&self, device: &Path, how: &Settings) -> Result<()> {
        let shown = device.to_str().ok_or_else(|| Error::invalid("Invalid path of a device"))?;
        // Nobody but us takes it into use at boot.
        let tag = self.tag();
        let mut words = vec!["--setautoactivation", "n", "--addtag", &tag];
        let size = how.metadata.map(tool::bytes);
        words.extend(size.iter().flat_map(|size| ["--metadatasize", size]));
        words.extend(["--", &self.name, shown]);
        tool::lvm("vgcreate", words).map(drop)
    }

    /// The thin pool, too: what it holds is told only then.
    fn activate_mark(&self, how: &Settings) -> Result<()> {
        let all = how.thin.iter().map(|pool| self.at(pool)).chain([self.at(&self.mark())]);
        tool::lvm("lvchange", ["-ay".to_string()].into_iter().chain(all))?;
        fault::point("pool.activated")
    }

    /// Takes the group of a pool into use, as after a boot. Repeated: nothing happens. Lock: the pool's mount.
    ///
    /// # Errors
    /// It is not there, or is another one's.
    pub fn activate(&self, disk: Option<&Disk>, how: &Settings) -> Result<()> {
        let _device = disk.map(Device::of).transpose()?;
        fault::point("pool.attached")?;
        match self.find()? {
            Some(found) if found.tags.contains(&self.tag()) => self.activate_mark(how),
            Some(_) => Err(Error::failed(format!("Volume group \"{}\" is not the storage pool's", self.name))),
            None => Err(Error::not_found(format!("Volume group \"{}\" doesn't exist", self.name))),
        }
    }

    /// What of the volumes of a group is the pool's.
    fn ours(&self, how: &Settings) -> Result<Vec<String>> {
        let (mark, mut all) = (self.mark(), self.volumes()?);
        all.retain(|name| names::is_ours(name) || *name == mark || how.thin.as_ref() == Some(name));
        Ok(all)
    }

    /// Has the kernel forget the volumes, none of which is mounted. Repeated: nothing happens.
    ///
    /// # Errors
    /// Busy: one is in use.
    pub fn deactivate(&self, how: &Settings) -> Result<()> {
        let all: Vec<String> = self.ours(how)?.iter().map(|name| self.at(name)).collect();
        let done = tool::lvm("lvchange", ["-an"].into_iter().chain(all.iter().map(String::as_str)));
        done.map(drop).map_err(|e| match e.to_string().contains("in use") {
            true => Error::busy(format!("Volume group \"{}\" is in use by a process", self.name)).caused_by(e),
            false => e,
        })
    }

    /// Takes away what [`Group::make`] made: all of a group on a disk, and of an adopted one what is the pool's. A group that does not
    /// bear the pool's tag stays. Repeated: nothing happens. Nothing of it is mounted.
    ///
    /// # Errors
    /// Busy; what could not be removed.
    pub fn release(&self, disk: Option<&Disk>, how: &Settings) -> Result<()> {
        let device = disk.filter(|disk| disk.path().exists()).map(Device::of).transpose()?;
        let ours = self.find()?.is_some_and(|found| found.tags.contains(&self.tag()));
        if !ours && device.is_none() {
            return Ok(());
        }
        match device {
            Some(_) if ours => drop(tool::lvm("vgremove", ["-ff", "-y", &self.name])?),
            None => self.leave(how)?,
            Some(_) => {}
        }
        fault::point("pool.group.gone")?;
        // One that is in no group holds nothing: it counts as empty again.
        let Some(Device::Block(path)) = device else { return Ok(()) };
        let alone = tool::report("pvs", "pv_name,vg_name", &[])?;
        let shown = path.to_str().unwrap_or_default();
        match alone
            .iter()
            .any(|line| line.first().is_some_and(|p| p == shown) && line.get(1).is_none_or(String::is_empty))
        {
            true => tool::lvm("pvremove", ["-y", "--", shown]).map(drop),
            false => Ok(()),
        }
    }

    /// An adopted group is as before; the tag last, for it says that something is left.
    fn leave(&self, how: &Settings) -> Result<()> {
        let all: Vec<String> = self.ours(how)?.iter().map(|name| self.at(name)).collect();
        if !all.is_empty() {
            tool::lvm("lvremove", ["-f", "-y"].into_iter().chain(all.iter().map(String::as_str)))?;
        }
        fault::point("pool.group.left")?;
        tool::lvm("vgchange", ["--deltag", &self.tag(), &self.name]).map(drop)
    }

    /// The group takes all of a file that has become longer, and its thin pool all of the group. Repeated: nothing happens.
    ///
    /// # Errors
    /// What LVM says.
    pub fn grow(&self, image: &Path, how: &Settings) -> Result<()> {
        let device = disk::loop_of(image)?;
        device.follow_size()?;
        tool::lvm("pvresize", [device.path()])?;
        let free = tool::report("vgs", "vg_free_count", &[&self.name])?;
        match &how.thin {
            Some(pool) if tool::number(free.first().and_then(|line| line.first())) > 0 => {
                tool::lvm("lvextend", ["-l", "+100%FREE", &self.at(pool)]).map(drop)
            }
            _ => Ok(()),
        }
    }

    /// What is taken and what there is: of the thin pool, or of the group.
    ///
    /// # Errors
    /// It is not there.
    pub fn space(&self, how: &Settings) -> Result<Space> {
        let cells = match &how.thin {
            Some(pool) => tool::report("lvs", "lv_size,data_percent", &[&self.at(pool)])?,
            None => tool::report("vgs", "vg_size,vg_free", &[&self.name])?,
        };
        let line = cells.first().map(Vec::as_slice).unwrap_or_default();
        let total = tool::number(line.first());
        let used = match how.thin {
            Some(_) => {
                let percent: f64 = line.get(1).and_then(|cell| cell.parse().ok()).unwrap_or(0.0);
                (total as f64 * percent / 100.0) as u64
            }
            None => total.saturating_sub(tool::number(line.get(1))),
        };
        Ok(Space { used, total })
    }
}

/// Nobody has the device open for himself (open(2), O_EXCL), and it is in no volume group.
fn is_unused(path: &Path) -> Result<()> {
    let flags = OFlags::RDWR | OFlags::EXCL | OFlags::CLOEXEC | OFlags::NOCTTY;
    rustix::fs::open(path, flags, Mode::empty()).map(drop).map_err(|e| match e {
        rustix::io::Errno::BUSY => Error::conflict(format!("Block device \"{}\" is in use", path.display())),
        other => Error::from(other).context(format!("Failed opening \"{}\"", path.display())),
    })?;
    match group_on(path)? {
        Some(group) => {
            Err(Error::conflict(format!("Block device \"{}\" is in the volume group \"{group}\"", path.display())))
        }
        None => Ok(()),
    }
}

/// The volume group that a device is in.
pub(super) fn group_on(path: &Path) -> Result<Option<String>> {
    let all = tool::report("pvs", "pv_name,vg_name", &[])?;
    let real = |name: &String| Path::new(name).canonicalize().is_ok_and(|real| real == path);
    let line = all.into_iter().find(|line| line.first().is_some_and(real));
    Ok(line.and_then(|line| line.into_iter().nth(1)).filter(|group| !group.is_empty()))
}

/// What LVM says of a device that holds something.
fn held(e: Error, path: &Path) -> Error {
    let said = e.to_string();
    match ["signature", "is partitioned", "aborted", "Aborted"].iter().any(|word| said.contains(word))
        && e.kind() == Kind::Failed
    {
        true => Error::conflict(format!("Block device \"{}\" isn't empty", path.display()))
            .hint("set source.wipe=true to overwrite what it holds"),
        false => e.context(format!("Failed creating a volume group on \"{}\"", path.display())),
    }
}
