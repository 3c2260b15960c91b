//! Where a storage pool lies: in the state folder, in a folder of the user's, or in a file system of its own that is mounted
//! for it.
//!
//! `pools/<pool>/data` is the folder itself, a link to the user's, or what the file system is mounted on. There is no daemon
//! that would mount it at boot: the first command that changes something and opens the pool does, and it stays until the pool
//! is deleted or `admin shutdown`. A command that only reads says that it is not mounted.

use super::{pool_free, pool_lvm, pool_zfs};
use crate::base::names::PoolName;
use crate::error::{Context, Error, Result};
use crate::fault;
use crate::model::instance::Config;
use crate::model::keys::pool as keys;
use crate::model::pool::Pool;
use crate::storage::disk::{self, Disk};
use crate::storage::lvm::{DRIVER, Group};
use crate::storage::source::{self, Mark};
use crate::storage::zfs::{self, Root};
use crate::store::layout::Layout;
use crate::store::{Access, Store, trash};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// The driver whose pools may have a file system of their own.
const BTRFS: &str = "btrfs";
const GIB: u64 = 1 << 30;

/// Where a pool lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// In the state folder.
    Own,
    /// In a folder of the user's.
    Folder(PathBuf),
    /// In a file system of its own.
    Disk(Disk),
    /// In a volume group, which lies on a disk of the pool's, or was there.
    Group(Group, Option<Disk>),
    /// In a ZFS pool, which lies on a disk of the pool's, or was there, or in a dataset of one.
    Zfs(Root, Option<Disk>),
}

impl Place {
    /// Of a pool with this driver and configuration.
    pub fn of(layout: &Layout, name: &PoolName, driver: &str, config: &Config) -> Self {
        if let Some(group) = Group::of(driver, config) {
            return Self::Group(group, pool_lvm::disk(layout, name, config));
        }
        if let Some(root) = Root::of(driver, config) {
            return Self::Zfs(root, pool_lvm::disk(layout, name, config));
        }
        match keys::SOURCE.get(config).map(PathBuf::from) {
            None if driver == BTRFS => Self::Disk(Disk::Image(layout.pool_image(name))),
            None => Self::Own,
            Some(path) if driver == BTRFS && disk::is_block_device(&path) => Self::Disk(Disk::Device(path)),
            Some(path) => Self::Folder(path),
        }
    }

    /// Of a recorded pool.
    pub fn of_pool(layout: &Layout, name: &PoolName, pool: &Pool) -> Self {
        Self::of(layout, name, &pool.driver, &pool.config)
    }

    /// The file of ours that it lies in.
    pub fn image(&self) -> Option<&Path> {
        match self {
            Self::Disk(Disk::Image(path))
            | Self::Group(_, Some(Disk::Image(path)))
            | Self::Zfs(_, Some(Disk::Image(path))) => Some(path),
            _ => None,
        }
    }

    /// What is shown as its source.
    pub fn source(&self, layout: &Layout, name: &PoolName) -> PathBuf {
        match self {
            Self::Own => layout.pool_data(name),
            Self::Folder(path) => path.clone(),
            Self::Disk(disk) | Self::Group(_, Some(disk)) | Self::Zfs(_, Some(disk)) => disk.path().to_path_buf(),
            Self::Group(Group { name, .. }, None) | Self::Zfs(Root { name, .. }, None) => PathBuf::from(name),
        }
    }
}

/// Is the file system of the pool `id` mounted?
///
/// # Errors
/// What is mounted there has a damaged mark.
pub fn is_mounted(store: &Store, name: &PoolName, id: &str) -> Result<bool> {
    let data = store.layout().pool_data(name);
    Ok(data.is_dir() && source::is_marked(&data, id)?)
}

/// Is what the pool lies in mounted, or active?
///
/// # Errors
/// As [`is_mounted`].
pub fn is_ready(store: &Store, name: &PoolName, place: &Place, config: &Config) -> Result<bool> {
    match place {
        Place::Group(group, _) => Ok(group.is_ready()),
        _ => is_mounted(store, name, keys::ID.text(config)),
    }
}

/// The folder of a pool, which is there and is the pool's: mounts what is to be mounted. Takes the lock of that for a moment.
///
/// # Errors
/// What it lies in is gone, or is another one's; it cannot be mounted; it is not mounted, and this command only reads.
pub fn ready(store: &Store, name: &PoolName, pool: &Pool) -> Result<PathBuf> {
    let data = store.layout().pool_data(name);
    let id = keys::ID.text(&pool.config);
    match Place::of_pool(store.layout(), name, pool) {
        Place::Own => Ok(data),
        Place::Folder(path) => {
            if !path.is_dir() {
                let message = format!("Source \"{}\" of storage pool \"{name}\" doesn't exist", path.display());
                return Err(Error::not_found(message).hint("is the disk it is on attached and mounted?"));
            }
            match source::is_marked(&path, id)? {
                true => Ok(path),
                false => {
                    Err(Error::failed(format!("\"{}\" is not the source of storage pool \"{name}\"", path.display()))
                        .hint("is the disk that should be there mounted?"))
                }
            }
        }
        Place::Group(group, disk) => pool_lvm::ready(store, name, (&group, disk.as_ref()), &pool.config).map(|()| data),
        Place::Disk(_) | Place::Zfs(..) if is_mounted(store, name, id)? => {
            match store.access() == Access::Write && is_read_only(&data) {
                true => Err(Error::failed("Its filesystem has become read-only: what it lies on is full or damaged")
                    .hint("when there is room again: stapes admin shutdown, which unmounts it")),
                false => Ok(data),
            }
        }
        Place::Zfs(root, disk) => pool_zfs::ready(store, name, (&root, disk.as_ref())).map(|()| data),
        Place::Disk(disk) => {
            if !disk.path().exists() {
                let message = format!("\"{}\" of storage pool \"{name}\" doesn't exist", disk.path().display());
                return Err(Error::not_found(message));
            }
            if store.access() == Access::Read {
                return Err(Error::conflict(format!("Storage pool \"{name}\" is not mounted"))
                    .hint("the first command that changes something on it mounts it"));
            }
            let _lock = store.lock_pool_mount(name)?;
            if !is_mounted(store, name, id)? {
                mount(store, name, &disk, pool)?;
            }
            Ok(data)
        }
    }
    .with_context(|| format!("Storage pool \"{name}\" is unavailable"))
}

/// As btrfs becomes when its disk cannot be written.
fn is_read_only(data: &Path) -> bool {
    rustix::fs::statvfs(data).is_ok_and(|stat| stat.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY))
}

fn mount(store: &Store, name: &PoolName, disk: &Disk, pool: &Pool) -> Result<()> {
    let data = store.layout().pool_data(name);
    disk::mount(disk, keys::ID.text(&pool.config), &data, keys::BTRFS_MOUNT_OPTIONS.text(&pool.config))?;
    if is_mounted(store, name, keys::ID.text(&pool.config))? {
        return Ok(());
    }
    let wrong = Error::failed(format!("\"{}\" does not hold storage pool \"{name}\"", disk.path().display()));
    Err(disk::unmount(&data).err().into_iter().fold(wrong, Error::and))
}

/// Completes the configuration of a new pool, and sees whether it can be made there. Changes nothing on disk.
///
/// # Errors
/// The source is not there, holds something, is in use, or lies in our own folders.
pub fn choose(store: &Store, name: &PoolName, driver: &str, config: &mut Config) -> Result<Place> {
    let layout = store.layout();
    let is_path = |given: &PathBuf| ![DRIVER, zfs::DRIVER].contains(&driver) || given.is_absolute();
    if let Some(given) = keys::SOURCE.get(config).map(PathBuf::from).filter(is_path) {
        if !given.is_absolute() {
            return Err(Error::invalid(format!("Source path {given:?} is not absolute")));
        }
        let real = given.canonicalize().map_err(|e| match e.kind() {
            std::io::ErrorKind::NotFound => {
                Error::not_found(format!("Source path \"{}\" doesn't exist", given.display()))
            }
            _ => Error::from(e).context(format!("Failed opening \"{}\"", given.display())),
        })?;
        let real = real.to_str().ok_or_else(|| Error::invalid("Source path is not UTF-8"))?;
        keys::SOURCE.set(config, real);
    }
    keys::ID.set(config, uuid::Uuid::new_v4().hyphenated().to_string());
    match driver {
        DRIVER => pool_lvm::name_group(name, config)?,
        zfs::DRIVER => pool_zfs::name_root(name, config)?,
        _ => {}
    }
    let place = Place::of(layout, name, driver, config);
    match &place {
        Place::Group(group, disk) => {
            if let Some(disk) = disk {
                pool_free::disk(store, disk, config)?;
            }
            pool_lvm::check(group, disk.as_ref(), config)?;
        }
        Place::Zfs(root, disk) => {
            if let Some(disk) = disk {
                pool_free::disk(store, disk, config)?;
            }
            root.check(disk.as_ref())?;
        }
        Place::Own => drop(keys::ID.remove(config)),
        Place::Folder(path) => {
            pool_free::is_nobodys(store, path)?;
            source::check_free(path)?;
            if driver == BTRFS && rustix::fs::statfs(path).is_ok_and(|s| !pool_free::is_btrfs(&s)) {
                return Err(Error::invalid(format!("Source path \"{}\" is not on a btrfs filesystem", path.display())));
            }
        }
        Place::Disk(disk) => pool_free::disk(store, disk, config)?,
    }
    if place.image().is_none() {
        // Of no meaning there.
        keys::SIZE.remove(config);
    }
    Ok(place)
}

/// Makes what the pool lies in and returns its folder. What is there afterwards, [`release`] takes away. Lock: the pool.
///
/// # Errors
/// It cannot be made; half of it may be there.
pub fn make(store: &Store, name: &PoolName, place: &Place, config: &mut Config) -> Result<PathBuf> {
    let layout = store.layout();
    let data = layout.pool_data(name);
    let id = keys::ID.text(config).to_string();
    let mark = || Mark { id: id.clone(), pool: name.to_string(), record: layout.pool_record(name) };
    let fail = || format!("Failed creating \"{}\"", data.display());
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true).mode(0o711).create(layout.pool_dir(name)).with_context(fail)?;
    match place {
        Place::Own => Ok(data),
        Place::Folder(path) => {
            source::adopt(path, &mark())?;
            // What a power cut left of an earlier one.
            trash::remove(&data)?;
            std::os::unix::fs::symlink(path, &data).with_context(fail)?;
            Ok(path.clone())
        }
        Place::Group(group, disk) => {
            if let Some(disk) = disk {
                make_file(disk, config)?;
            }
            pool_lvm::make(&data, (group, disk.as_ref()), config).map(|()| data)
        }
        Place::Zfs(root, disk) => {
            if let Some(disk) = disk {
                make_file(disk, config)?;
            }
            pool_zfs::make((root, disk.as_ref()), &mark(), &data, config).map(|()| data)
        }
        Place::Disk(disk) => {
            make_file(disk, config)?;
            let options =
                keys::BTRFS_CREATE_OPTIONS.text(config).split_whitespace().map(String::from).collect::<Vec<_>>();
            let wipe = keys::SOURCE_WIPE.bool(config)?;
            disk::format(disk, name.as_str(), &id, wipe, &options)?;
            keys::SOURCE_WIPE.remove(config);
            builder.create(&data).with_context(fail)?;
            disk::mount(disk, &id, &data, keys::BTRFS_MOUNT_OPTIONS.text(config))?;
            source::adopt(&data, &mark())?;
            Ok(data)
        }
    }
}

fn make_file(disk: &Disk, config: &Config) -> Result<()> {
    if let Disk::Image(path) = disk {
        disk::create_image(path, keys::SIZE.size(config)?.unwrap_or(5 * GIB))?;
    }
    fault::point("pool.disk")
}

/// Takes a pool that lost its record into use where it lies: links or mounts it, makes nothing and takes nothing away. Repeated:
/// nothing happens. Lock: the pool.
///
/// # Errors
/// It cannot be linked or mounted.
pub fn attach(store: &Store, name: &PoolName, place: &Place, config: &Config) -> Result<PathBuf> {
    let layout = store.layout();
    let data = layout.pool_data(name);
    let id = keys::ID.text(config);
    let fail = || format!("Failed creating \"{}\"", data.display());
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true).mode(0o711);
    match place {
        Place::Own => Ok(data),
        Place::Group(group, disk) => pool_lvm::attach(&data, (group, disk.as_ref()), config).map(|()| data),
        Place::Zfs(root, disk) => {
            if !is_mounted(store, name, id)? {
                root.activate(disk.as_ref(), &data)?;
            }
            Ok(data)
        }
        Place::Folder(path) => {
            builder.create(layout.pool_dir(name)).with_context(fail)?;
            // A folder there may hold what no record is left of.
            match data.symlink_metadata() {
                Ok(found) if !found.is_symlink() => {
                    let what = Error::conflict(format!("\"{}\" is in the way", data.display()));
                    return Err(what.hint("recover the pool that lies there without a source, or move it away"));
                }
                Ok(_) => trash::remove(&data)?,
                Err(_) => {}
            }
            std::os::unix::fs::symlink(path, &data).with_context(fail)?;
            Ok(path.clone())
        }
        Place::Disk(disk) => {
            if !is_mounted(store, name, id)? {
                builder.create(&data).with_context(fail)?;
                disk::mount(disk, id, &data, keys::BTRFS_MOUNT_OPTIONS.text(config))?;
            }
            Ok(data)
        }
    }
}

/// Takes away what a pool that has no record has: see `Action::ReleasePool`. Repeated: nothing happens.
///
/// # Errors
/// What could not be taken away, joined; the rest was.
pub fn release(store: &Store, name: &PoolName, (source, id): (&Path, &str), group: &Config) -> Result<()> {
    let layout = store.layout();
    let folder = layout.pool_dir(name);
    if let Ok(opened) = std::fs::File::open(&folder) {
        // That the record is gone is on disk before anything else goes.
        opened.sync_all()?;
    }
    let mut errors = Vec::new();
    match group.is_empty() {
        true => errors.extend(release_source(&layout.pool_data(name), source, id)?),
        false if keys::ZFS_POOL_NAME.get(group).is_some() => {
            errors.extend(pool_zfs::release(store, name, group).err());
        }
        false => errors.extend(pool_lvm::release(store, name, group).err()),
    }
    fault::point("pool.source.released")?;
    if errors.is_empty() {
        errors.extend(trash::remove(&layout.pool_image(name)).err());
        fault::point("pool.image.gone")?;
        errors.extend(trash::remove(&folder).err());
    }
    Error::join(errors).map_or(Ok(()), Err)
}

fn release_source(data: &Path, source: &Path, id: &str) -> Result<Vec<Error>> {
    let mut errors = Vec::new();
    errors.extend(disk::unmount(data).err());
    fault::point("pool.unmounted")?;
    if disk::is_block_device(source) {
        errors.extend(disk::wipe(source, id).err());
    } else if !source.as_os_str().is_empty() {
        errors.extend(source::release(source, id).err());
    }
    Ok(errors)
}

/// The file of a pool becomes as long as its record says, and what is mounted of it takes it all. Repeated: nothing happens.
///
/// # Errors
/// The file is gone; the kernel refuses.
pub fn grow(store: &Store, name: &PoolName) -> Result<()> {
    let Some(pool) = store.pool(name)? else { return Ok(()) };
    let Some(size) = keys::SIZE.size(&pool.config)? else { return Ok(()) };
    let image = match Place::of_pool(store.layout(), name, &pool) {
        Place::Disk(Disk::Image(image)) => image,
        Place::Zfs(root, Some(disk @ Disk::Image(_))) => return pool_zfs::grow(store, name, (&root, &disk), size),
        Place::Group(group, Some(Disk::Image(image))) => return pool_lvm::grow(&image, size, &group, &pool.config),
        _ => return Ok(()),
    };
    let data = is_mounted(store, name, keys::ID.text(&pool.config))?.then(|| store.layout().pool_data(name));
    disk::grow(&image, size, data.as_deref())
}

/// Has what a pool is mounted with be what its new record says: an option that cannot be is found now, not after the next boot.
/// Lock: the pool.
///
/// # Errors
/// The kernel refuses an option; what it lies in is gone.
pub fn remount(store: &Store, name: &PoolName, old: &Config, new: &Pool) -> Result<()> {
    let options = keys::BTRFS_MOUNT_OPTIONS.text(&new.config);
    let Place::Disk(disk) = Place::of_pool(store.layout(), name, new) else { return Ok(()) };
    if options == keys::BTRFS_MOUNT_OPTIONS.text(old) {
        return Ok(());
    }
    let _lock = store.lock_pool_mount(name)?;
    match is_mounted(store, name, keys::ID.text(&new.config))? {
        true => disk::remount(&store.layout().pool_data(name), options),
        false => mount(store, name, &disk, new),
    }
    .with_context(|| format!("Failed mounting storage pool \"{name}\" with these options"))
}

/// Unmounts a pool, if it is mounted. Lock: the pool, or nobody runs.
///
/// # Errors
/// Busy: somebody uses it.
pub fn unmount(store: &Store, name: &PoolName, pool: &Pool) -> Result<()> {
    match Place::of_pool(store.layout(), name, pool) {
        Place::Disk(_) if is_mounted(store, name, keys::ID.text(&pool.config))? => {
            let _lock = store.lock_pool_mount(name)?;
            disk::unmount(&store.layout().pool_data(name))
        }
        Place::Zfs(root, _) => pool_zfs::unmount(store, name, &root, &pool.config),
        Place::Group(group, _) => pool_lvm::unmount(store, name, &group, &pool.config),
        _ => Ok(()),
    }
    .with_context(|| format!("Failed unmounting storage pool \"{name}\""))
}

/// Unmounts all pools, for the host goes down; what is in use stays and is said.
///
/// # Errors
/// The state folder cannot be read.
pub fn unmount_all(store: &Store) -> Result<Vec<Error>> {
    let pools = store.pools()?.into_iter().filter_map(|(name, pool)| Some((name, pool.ok()?)));
    Ok(pools.filter_map(|(name, pool)| unmount(store, &name, &pool).err()).collect())
}
