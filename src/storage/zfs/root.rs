//! The ZFS pool, or the dataset of one, that a storage pool lies in: made, adopted, imported, exported, let go.
//!
//! Called by `ops`, which holds the pool or its mount. All that is a storage pool's lies in datasets below; one of them bears its
//! identity as a property, and what bears none is never changed. What we made ourselves bears it, too, and goes as a whole.

use super::names::{FOLDERS, HOME};
use super::settings::Settings;
use super::tool::{self, TRIES, get, wait, zfs, zpool};
use super::zvols;
use crate::error::{Context, Error, Result};
use crate::fault;
use crate::model::instance::Config;
use crate::model::keys::pool as keys;
use crate::storage::Space;
use crate::storage::disk::{self, Disk};
use std::path::Path;

/// The driver whose pools have one.
pub const DRIVER: &str = "zfs";
/// The identity of the pool whose home a dataset is.
const MARK: &str = "stapes:pool";
/// The identity of the pool that a ZFS pool or dataset was made for.
const MADE: &str = "stapes:made";
/// Of all that instances see, as in Incus. Nothing but us mounts it.
const PROPERTIES: [&str; 7] =
    ["mountpoint=legacy", "acltype=posixacl", "xattr=sa", "relatime=on", "setuid=on", "exec=on", "devices=on"];
/// Where on a disk the ring of uberblocks is (ZFS on-disk specification, 1.3), and how one begins.
const RING: (u64, usize) = (128 << 10, 128 << 10);
const UBERBLOCK: u64 = 0x00ba_b10c;

/// A ZFS pool or dataset that is, or is to be, a storage pool's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Root {
    /// Its name.
    pub name: String,
    /// The storage pool's identity.
    pub id: String,
}

/// A file is, or was, a disk of a ZFS pool.
///
/// # Errors
/// It cannot be read.
pub fn is_labelled(path: &Path) -> Result<bool> {
    use std::os::unix::fs::FileExt;
    let file = std::fs::File::open(path).with_context(|| format!("Failed opening \"{}\"", path.display()))?;
    let mut ring = vec![0u8; RING.1];
    match file.read_exact_at(&mut ring, RING.0) {
        Err(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => Ok(false),
        other => other
            .map(|()| ring.chunks(1024).any(|block| block.starts_with(&UBERBLOCK.to_le_bytes())))
            .map_err(Error::from),
    }
}

impl Root {
    /// That of a pool with this driver and configuration; None: the driver has none.
    pub fn of(driver: &str, config: &Config) -> Option<Self> {
        let text = |key: &crate::model::keys::Key| key.text(config).to_string();
        (driver == DRIVER).then(|| Self { name: text(&keys::ZFS_POOL_NAME), id: text(&keys::ID) })
    }

    fn zpool(&self) -> &str {
        self.name.split('/').next().unwrap_or_default()
    }

    /// It is a dataset in somebody's ZFS pool.
    fn is_dataset(&self) -> bool {
        self.name.contains('/')
    }

    /// The dataset called `rel` below it.
    pub(super) fn at(&self, rel: &str) -> String {
        format!("{}/{rel}", self.name)
    }

    /// The ZFS pool is known to the kernel, whoever's it is. No program is run.
    fn is_imported(&self) -> bool {
        Path::new("/proc/spl/kstat/zfs").join(self.zpool()).is_dir()
    }

    /// Names of the datasets directly below `rel`; of those in the trash only what can be removed.
    ///
    /// # Errors
    /// It is not there.
    pub(super) fn children(&self, rel: &str) -> Result<Vec<String>> {
        let folder = self.at(rel);
        let said =
            zfs(&["list", "-H", "-r", "-d", "1", "-t", "filesystem,volume", "-o", "name,stapes:waits", &folder])?;
        let name = |line: &str| {
            let (name, waits) = line.split_once('\t')?;
            (waits == "-").then(|| name.strip_prefix(&folder)?.strip_prefix('/').map(String::from))?
        };
        Ok(said.lines().filter_map(name).collect())
    }

    /// May a pool be made in it, on `disk` or, without one, in what is there? Changes nothing.
    ///
    /// # Errors
    /// Exists, NotFound; Conflict: it is another one's, or holds something.
    pub fn check(&self, disk: Option<&Disk>) -> Result<()> {
        let name = &self.name;
        let Some(disk) = disk else { return self.check_adopted() };
        if self.is_dataset() {
            return Err(Error::invalid("zfs.pool_name can't point to a dataset when source isn't set"));
        }
        // Loads the kernel's module.
        if tool::if_there(zpool(&["list", "-H", "-o", "name", name]))?.is_some() {
            return Err(Error::exists(format!("A ZFS pool already exists called \"{name}\""))
                .hint("set zfs.pool_name to give the pool's another name"));
        }
        match disk {
            Disk::Device(path) => disk::is_unused(path),
            Disk::Image(_) => Ok(()),
        }
    }

    fn check_adopted(&self) -> Result<()> {
        let (name, pool) = (&self.name, self.zpool());
        let there = tool::if_there(zpool(&["list", "-H", "-o", "name", pool]))?.is_some();
        if !there && tool::if_there(zpool(&["import", "-N", pool]))?.is_none() {
            return Err(Error::not_found(format!("The requested ZFS pool \"{pool}\" doesn't exist")));
        }
        let marked = zfs(&["get", "-H", "-s", "local", "-t", "filesystem", "-o", "name", MARK])?;
        let mut homes = marked.lines().filter_map(|line| line.strip_suffix(HOME)?.strip_suffix('/'));
        let below = |one: &str, other: &str| one == other || one.starts_with(&format!("{other}/"));
        if homes.any(|home| below(name, home) || below(home, name)) {
            return Err(Error::conflict(format!("ZFS pool or dataset \"{name}\" is in use by another storage pool")));
        }
        let all = tool::if_there(zfs(&["list", "-H", "-r", "-t", "all", "-o", "name", name]))?;
        match all.map_or(0, |all| all.lines().count()) {
            0 | 1 => Ok(()),
            _ => Err(Error::conflict("Provided ZFS pool (or dataset) isn't empty")
                .hint(format!("run \"zfs list -r {name}\" to see existing entries"))),
        }
    }

    /// Makes it on `disk`, or takes what is there, or makes a dataset where the rest of its name is there; then what lies in it,
    /// and mounts its home at `data`. What is there afterwards, [`Root::release`] takes away. `wipe`: whatever is on the disk is
    /// overwritten.
    ///
    /// # Errors
    /// As [`Root::check`]; the disk holds something.
    pub fn make(&self, disk: Option<&Disk>, wipe: bool, data: &Path) -> Result<()> {
        let made = format!("{MADE}={}", self.id);
        match disk {
            Some(disk) => self.create(disk, wipe, &made)?,
            None if get(MARK, &self.name)?.is_none() => {
                zfs(&["create", "-o", "mountpoint=legacy", "-o", &made, &self.name])?;
            }
            None => {}
        }
        fault::point("pool.group")?;
        let mark = format!("{MARK}={}", self.id);
        let create = |rel: &str, more: &[&str]| {
            let at = self.at(rel);
            let mut words = vec!["create"];
            words.extend(PROPERTIES.iter().chain(more).flat_map(|property| ["-o", *property]));
            words.push(&at);
            zfs(&words)
        };
        create(HOME, &[&mark])?;
        fault::point("pool.marked")?;
        FOLDERS.iter().try_for_each(|folder| create(folder, &[]).map(drop))?;
        self.mount(data)
    }

    fn create(&self, disk: &Disk, wipe: bool, made: &str) -> Result<()> {
        let path = disk.path().to_str().ok_or_else(|| Error::invalid("Invalid path of a device"))?;
        if let Disk::Device(device) = disk {
            disk::is_unused(device)?;
            if wipe {
                tool::wipe(device)?;
            }
        }
        let mut words = vec!["create"];
        if wipe {
            words.push("-f");
        }
        words.extend(["-o", "cachefile=none", "-o", "autotrim=on", "-m", "none", "-O", "compression=on", "-O", made]);
        words.extend([self.name.as_str(), path]);
        zpool(&words).map(drop).map_err(|e| match e.to_string() {
            said if said.contains("contains a") || said.contains("is part of") || said.contains("-f") => {
                Error::conflict(format!("Block device \"{path}\" isn't empty"))
                    .hint("set source.wipe=true to overwrite what it holds")
            }
            _ => e.context(format!("Failed creating a ZFS pool on \"{path}\"")),
        })
    }

    fn mount(&self, data: &Path) -> Result<()> {
        let home = self.at(HOME);
        let mut builder = std::fs::DirBuilder::new();
        std::os::unix::fs::DirBuilderExt::mode(builder.recursive(true), 0o711);
        builder.create(data).with_context(|| format!("Failed creating \"{}\"", data.display()))?;
        disk::mount_source(c"zfs", Path::new(&home), "", data)
            .with_context(|| format!("Failed mounting \"{home}\""))?;
        fault::point("pool.mounted")
    }

    fn import(&self, disk: Option<&Disk>) -> Result<()> {
        let mut words = vec!["import", "-N", "-o", "cachefile=none"];
        if let Some(Disk::Image(path)) = disk {
            // Nobody else has it: whatever machine it was on before.
            words.extend(["-f", "-d", path.to_str().ok_or_else(|| Error::invalid("Invalid path"))?]);
        }
        words.push(self.zpool());
        zpool(&words).map(drop)
    }

    /// Takes it into use, as after a boot: imports it and mounts its home at `data`. Lock: the pool's mount.
    ///
    /// # Errors
    /// It is not there, or is another one's.
    pub fn activate(&self, disk: Option<&Disk>, data: &Path) -> Result<()> {
        if !self.is_imported() {
            self.import(disk)?;
        }
        fault::point("pool.attached")?;
        match get(MARK, &self.at(HOME))? {
            Some(found) if found.first() == Some(&self.id) => self.mount(data),
            _ => Err(Error::failed(format!("ZFS pool or dataset \"{}\" is not the storage pool's", self.name))),
        }
    }

    /// The identity of the storage pool that lies in it, whose record is lost. It is imported for that, and stays so if there is one.
    ///
    /// # Errors
    /// Invalid: there is none; what ZFS says.
    pub fn recall(&self, disk: Option<&Disk>) -> Result<String> {
        let none = || {
            Error::invalid(format!("ZFS pool or dataset \"{}\" holds no storage pool", self.name))
                .hint("if it is called otherwise: zfs.pool_name says how")
        };
        let ours = !self.is_imported();
        if ours && tool::if_there(self.import(disk).map(|()| String::new()))?.is_none() {
            return Err(none());
        }
        match get(MARK, &self.at(HOME))?.and_then(|values| values.into_iter().next()) {
            Some(id) if uuid::Uuid::parse_str(&id).is_ok() => Ok(id),
            _ if ours => Err(zpool(&["export", self.zpool()]).err().into_iter().fold(none(), Error::and)),
            _ => Err(none()),
        }
    }

    /// Its home is mounted, wherever that is.
    ///
    /// # Errors
    /// What ZFS says.
    pub fn is_mounted(&self) -> Result<bool> {
        Ok(get("mounted", &self.at(HOME))?.is_some_and(|values| values.first().is_some_and(|value| value == "yes")))
    }

    /// Exports a whole ZFS pool of which nothing is mounted, unless that is not wanted; in no case is a device left of it. Repeated:
    /// nothing happens.
    ///
    /// # Errors
    /// Busy: something is in use.
    pub fn deactivate(&self, how: &Settings) -> Result<()> {
        if !self.is_imported() {
            return Ok(());
        }
        zvols::hide_all(&self.name)?;
        if self.is_dataset() || !how.export {
            return Ok(());
        }
        for _ in 1..TRIES {
            match zpool(&["export", self.zpool()]) {
                Err(e) if e.to_string().contains("busy") => wait(),
                other => return other.map(drop),
            }
        }
        zpool(&["export", self.zpool()])
            .map(drop)
            .map_err(|e| Error::busy(format!("ZFS pool \"{}\" is in use by a process", self.name)).caused_by(e))
    }

    /// Takes away what [`Root::make`] made: a ZFS pool or dataset of ours, and of an adopted one what is the storage pool's. What
    /// does not bear its identity stays. Repeated: nothing happens. Nothing of it is mounted.
    ///
    /// # Errors
    /// Busy; what could not be removed.
    pub fn release(&self, disk: Option<&Disk>) -> Result<()> {
        if disk.is_some_and(|disk| !disk.path().exists()) {
            return Ok(());
        }
        if !self.is_imported() && tool::if_there(self.import(disk).map(|()| String::new()))?.is_none() {
            // It never came to be, or is gone.
            return Ok(());
        }
        let is = |property: &str, dataset: &str| get(property, dataset).map(|v| v.and_then(|v| v.into_iter().next()));
        if is(MADE, &self.name)?.as_ref() == Some(&self.id) {
            match self.is_dataset() {
                true => drop(tool::patiently(&["destroy", "-r", &self.name])?),
                false => drop(zpool(&["destroy", &self.name])?),
            }
            fault::point("pool.group.gone")?;
            return match disk {
                Some(Disk::Device(path)) => tool::wipe(path),
                _ => Ok(()),
            };
        }
        if is(MARK, &self.at(HOME))?.as_ref() != Some(&self.id) {
            return Ok(());
        }
        // The mark last, for it says that something is left.
        for folder in FOLDERS.iter().chain([&HOME]) {
            tool::if_there(tool::patiently(&["destroy", "-r", &self.at(folder)]))?;
            fault::point("pool.group.left")?;
        }
        Ok(())
    }

    /// Takes all of a file that has become longer. Repeated: nothing happens.
    ///
    /// # Errors
    /// What ZFS says.
    pub fn grow(&self, image: &Path) -> Result<()> {
        let path = image.to_str().ok_or_else(|| Error::invalid("Invalid path"))?;
        zpool(&["online", "-e", &self.name, path]).map(drop)
    }

    /// What is taken and what there is.
    ///
    /// # Errors
    /// It is not there.
    pub fn space(&self) -> Result<Space> {
        let values = get("used,available", &self.name)?.unwrap_or_default();
        let number = |at: usize| values.get(at).and_then(|v| v.parse().ok()).unwrap_or(0u64);
        Ok(Space { used: number(0), total: number(0).saturating_add(number(1)) })
    }
}
